//! Chat templates: from turns to the text that a model was trained on.
//!
//! The template is the model file's own Jinja, as the Hugging Face libraries define it: blocks
//! trimmed, Python's methods on strings, `raise_exception`, `strftime_now`, `tojson`. It is
//! hostile input like the rest of the file, so its steps and its output are bounded. A file
//! without one is spoken to in ChatML.

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, context};

use crate::text::{THINK_CLOSE, THINK_OPEN, Thinking};

/// Largest template.
const SOURCE_LIMIT: usize = 1 << 20;
/// Largest rendered prompt.
const OUTPUT_LIMIT: usize = 64 << 20;
/// Steps that one rendering may take.
const FUEL: u64 = 20_000_000;

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + \
    message.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\n' }}{% endif %}";

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The character.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, serde::Serialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    #[serde(rename = "content")]
    pub text: String,
}

impl Turn {
    /// A turn.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            text: text.into(),
        }
    }
}

/// Why a template gave no prompt. Tells where, and nothing of what was said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is larger than any real one.
    #[error("the chat template has {0} bytes")]
    Size(usize),
    /// It is not Jinja.
    #[error("the chat template can't be read (line {line})")]
    Syntax {
        /// Where, from 1; 0: unknown.
        line: usize,
    },
    /// It failed on this conversation, in every form it was offered.
    #[error("the chat template can't be filled in (line {line})")]
    Render {
        /// Where, from 1; 0: unknown.
        line: usize,
    },
}

/// A model's template, ready to be filled in.
pub struct ChatTemplate {
    environment: Environment<'static>,
    thinks: bool,
    own: bool,
}

/// A filled-in template.
pub struct Rendered {
    /// The prompt.
    pub text: String,
    /// Whether the answer may hold thinking.
    pub thinking: Thinking,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// From the source in the model file; ChatML when there is none.
    ///
    /// # Errors
    /// When it is too large or is not Jinja.
    pub fn new(source: Option<&str>, begin: &str, end: &str) -> Result<Self, TemplateError> {
        let source = source.filter(|source| !source.trim().is_empty());
        let own = source.is_some();
        let source = source.unwrap_or(CHATML);
        if source.len() > SOURCE_LIMIT {
            return Err(TemplateError::Size(source.len()));
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        environment.add_global("bos_token", begin);
        environment.add_global("eos_token", end);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| TemplateError::Syntax {
                line: error.line().unwrap_or(0),
            })?;
        Ok(Self {
            environment,
            thinks: source.contains(THINK_OPEN),
            own,
        })
    }

    /// Whether the model file brought its own template.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// Strings that end an answer although the model may not know them as tokens.
    #[must_use]
    pub fn stops(&self) -> &'static [&'static str] {
        if self.own {
            &[]
        } else {
            &["<|im_end|>", "<|im_start|>"]
        }
    }

    /// The prompt for an answer to `turns`.
    ///
    /// A template that refuses the turns as they are (Gemma's has no system role, several
    /// want user and assistant to alternate) is offered the same words in other turns: the
    /// system's text at the head of the first user turn, then neighbours of one role merged.
    ///
    /// # Errors
    /// When it refuses them all, or fails.
    pub fn render(&self, turns: &[Turn]) -> Result<Rendered, TemplateError> {
        let first = match self.fill(turns) {
            Ok(text) => return Ok(self.rendered(text)),
            Err(error) => error,
        };
        let folded = fold_system(turns);
        let merged = merge_neighbours(&folded);
        for other in [folded, merged] {
            if let Ok(text) = self.fill(&other) {
                return Ok(self.rendered(text));
            }
        }
        Err(first)
    }

    fn rendered(&self, text: String) -> Rendered {
        let thinking = if text.trim_end().ends_with(THINK_OPEN) {
            Thinking::Begun
        } else if self.thinks && !text.trim_end().ends_with(THINK_CLOSE) {
            Thinking::MayBegin
        } else {
            Thinking::None
        };
        Rendered { text, thinking }
    }

    fn fill(&self, turns: &[Turn]) -> Result<String, TemplateError> {
        let failed = |error: &Error| TemplateError::Render {
            line: error.line().unwrap_or(0),
        };
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| failed(&error))?;
        let values = context! {
            messages => Value::from_serialize(turns),
            add_generation_prompt => true,
            tools => Value::from(()),
            documents => Value::from(()),
        };
        let mut out = Bounded(Vec::new());
        template
            .render_captured_to(values, &mut out)
            .map_err(|error| failed(&error))?;
        String::from_utf8(out.0).map_err(|_| TemplateError::Render { line: 0 })
    }
}

/// Output that ends in an error instead of filling the memory.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_LIMIT {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn raise_exception(_message: &str) -> Result<Value, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        "raised by the template",
    ))
}

/// The date in a template's own format, in UTC: the confined process knows no time zone.
fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(format, &now)
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "unknown date format"))
}

/// JSON without HTML's escapes, as Hugging Face's `tojson` writes it.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let failed = |_| Error::new(ErrorKind::BadSerialization, "not JSON");
    let text = match indent {
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let mut out = Vec::new();
            let style = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            let mut writer = serde_json::Serializer::with_formatter(&mut out, style);
            serde::Serialize::serialize(value, &mut writer).map_err(failed)?;
            String::from_utf8_lossy(&out).into_owned()
        }
        None => {
            let mut out = Vec::new();
            let mut writer = serde_json::Serializer::with_formatter(&mut out, PythonStyle);
            serde::Serialize::serialize(value, &mut writer).map_err(failed)?;
            String::from_utf8_lossy(&out).into_owned()
        }
    };
    Ok(Value::from_safe_string(text))
}

/// `{"a": 1, "b": 2}`: Python's spacing, which models were trained on.
struct PythonStyle;

impl serde_json::ser::Formatter for PythonStyle {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// The system's words at the head of the first user turn.
fn fold_system(turns: &[Turn]) -> Vec<Turn> {
    let mut system = String::new();
    let mut rest: Vec<Turn> = Vec::with_capacity(turns.len());
    for turn in turns {
        if turn.role == Role::System {
            if !system.is_empty() {
                system.push_str("\n\n");
            }
            system.push_str(&turn.text);
        } else {
            rest.push(turn.clone());
        }
    }
    if !system.is_empty() {
        match rest.iter_mut().find(|turn| turn.role == Role::User) {
            Some(user) => user.text = format!("{system}\n\n{}", user.text),
            None => rest.insert(0, Turn::new(Role::User, system)),
        }
    }
    rest
}

/// Neighbouring turns of one role as one.
fn merge_neighbours(turns: &[Turn]) -> Vec<Turn> {
    let mut merged: Vec<Turn> = Vec::with_capacity(turns.len());
    for turn in turns {
        match merged.last_mut() {
            Some(last) if last.role == turn.role => {
                last.text.push_str("\n\n");
                last.text.push_str(&turn.text);
            }
            _ => merged.push(turn.clone()),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML_OF_A_FILE: &str = "{%- for message in messages %}\n    {{- '<|im_start|>' + \
        message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}\n\
        {%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n\
        {%- endif %}";

    const LLAMA3: &str = "{{- bos_token }}\n{%- if not date_string is defined %}\n    \
        {%- if strftime_now is defined %}\n        {%- set date_string = strftime_now('%Y') %}\n    \
        {%- endif %}\n{%- endif %}\n{%- if messages[0]['role'] == 'system' %}\n    \
        {%- set system_message = messages[0]['content'].strip() %}\n    \
        {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = '' %}\n\
        {%- endif %}\n{%- if tools is not none %}\n    {{- raise_exception('no tools here') }}\n\
        {%- endif %}\n{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}\n\
        {{- system_message }}\n{{- '<|eot_id|>' }}\n{%- for message in messages %}\n    \
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + \
        message['content'].strip() + '<|eot_id|>' }}\n{%- endfor %}\n\
        {%- if add_generation_prompt %}\n    \
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}";

    const GEMMA: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
        {{ raise_exception('System role not supported') }}{% endif %}\
        {% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}\
        {% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}\
        {% set role = message['role'] %}{% endif %}\
        {{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}\
        {% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}";

    fn turns() -> Vec<Turn> {
        vec![
            Turn::new(Role::System, "Be kind."),
            Turn::new(Role::User, " Hi <there> "),
            Turn::new(Role::Assistant, "Hello."),
            Turn::new(Role::User, "How are you?"),
        ]
    }

    fn filled(source: Option<&str>, turns: &[Turn]) -> String {
        let template = ChatTemplate::new(source, "<bos>", "<eos>").unwrap();
        template
            .render(turns)
            .unwrap_or_else(|error| panic!("{error}"))
            .text
    }

    #[test]
    fn chatml_of_the_file_and_of_our_own() {
        let wanted = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi <there>\
            <|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nHow are you?\
            <|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(filled(Some(CHATML_OF_A_FILE), &turns()), wanted);
        let own = filled(None, &turns());
        assert_eq!(own, wanted.replace("Hi <there>", " Hi <there> "));
    }

    #[test]
    fn llama_3_with_pythons_methods() {
        assert_eq!(
            filled(Some(LLAMA3), &turns()),
            "<bos><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nHi <there><|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nHow are you?<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n"
        );
    }

    #[test]
    fn gemma_without_a_system_role_gets_its_words_in_the_first_user_turn() {
        assert_eq!(
            filled(Some(GEMMA), &turns()),
            "<bos><start_of_turn>user\nBe kind.\n\n Hi <there><end_of_turn>\n\
             <start_of_turn>model\nHello.<end_of_turn>\n<start_of_turn>user\nHow are you?\
             <end_of_turn>\n<start_of_turn>model\n"
        );
    }

    #[test]
    fn two_user_turns_in_a_row_are_merged_for_a_template_that_wants_them_to_alternate() {
        let mut turns = turns();
        turns.remove(2);
        let text = filled(Some(GEMMA), &turns);
        assert!(
            text.contains("Hi <there> \n\nHow are you?<end_of_turn>"),
            "{text}"
        );
    }

    #[test]
    fn broken_templates_are_errors_with_their_line() {
        let syntax = ChatTemplate::new(Some("a\n{% for %}"), "", "").err();
        assert_eq!(syntax, Some(TemplateError::Syntax { line: 2 }));
        let never = ChatTemplate::new(Some("\n\n{{ raise_exception('no') }}"), "", "").unwrap();
        assert_eq!(
            never.render(&turns()).err(),
            Some(TemplateError::Render { line: 3 })
        );
    }

    #[test]
    fn endless_and_swelling_templates_end() {
        for source in [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{% set ns = namespace(t='aaaaaaaaaaaaaaaa') %}{% for i in range(9999) %}\
             {{ ns.t * 1000000 }}{% endfor %}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        ] {
            let template = ChatTemplate::new(Some(source), "", "").unwrap();
            assert!(template.render(&turns()).is_err(), "{source}");
        }
    }

    #[test]
    fn to_json_writes_as_python_does() {
        let text = filled(
            Some("{{ messages[1].content | tojson }} {{ [1, 2] | tojson }}"),
            &turns(),
        );
        assert_eq!(text, r#"" Hi <there> " [1, 2]"#);
    }

    #[test]
    fn thinking_follows_from_template_and_prompt() {
        let of = |source: &str| {
            ChatTemplate::new(Some(source), "", "")
                .unwrap()
                .render(&turns())
                .unwrap()
                .thinking
        };
        assert_eq!(of("x"), Thinking::None);
        assert_eq!(of("x{% if false %}<think>{% endif %}"), Thinking::MayBegin);
        assert_eq!(of("x<think>\n"), Thinking::Begun);
        assert_eq!(of("x<think>\n\n</think>\n\n"), Thinking::None);
    }
}
