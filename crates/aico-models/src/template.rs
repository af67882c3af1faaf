//! Chat templates: from turns to the text that a model was trained on.
//!
//! The template is the model file's own Jinja, as the Hugging Face libraries define it ([`python`]).
//! It is hostile input like the rest of the file, so its steps and its output are bounded. A file
//! without one is spoken to in ChatML.

mod python;

use minijinja::value::Value;
use minijinja::{Environment, Error, context};

use crate::calls::Style;
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
    /// What a tool gave back.
    Tool,
}

/// One turn of a conversation, as the Hugging Face libraries hand it to a template.
#[derive(Clone, serde::Serialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    #[serde(rename = "content")]
    pub text: String,
    /// What the model called in this turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Called>,
    /// With a tool's turn: which call it answers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tool_call_id: String,
    /// With a tool's turn: which tool it was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A call of an earlier turn.
#[derive(Clone, serde::Serialize)]
pub struct Called {
    /// Told apart within the conversation.
    pub id: String,
    /// What was called.
    #[serde(flatten)]
    pub function: CalledFunction,
}

/// The tool and its arguments.
#[derive(Clone, serde::Serialize)]
#[serde(tag = "type", content = "function", rename = "function")]
pub enum CalledFunction {
    /// The only kind of tool there is.
    #[serde(rename = "function")]
    Function {
        /// The tool's.
        name: String,
        /// An object; what is none stays a text.
        arguments: serde_json::Value,
    },
}

impl Turn {
    /// A turn.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            text: text.into(),
            tool_calls: Vec::new(),
            tool_call_id: String::new(),
            name: String::new(),
        }
    }
}

/// What a template is asked for beside the turns.
#[derive(Clone, Default)]
pub struct Wishes {
    /// What may be called, as the Hugging Face libraries hand it to a template.
    pub tools: Vec<serde_json::Value>,
    /// Whether the model shall think; `None`: as it does by itself.
    pub think: Option<bool>,
    /// How long it thinks: `low`, `medium`, `high`; empty: as it does by itself.
    pub effort: String,
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
    /// It has a word for whether the model shall think.
    asks_to_think: bool,
    own: bool,
    calls: Option<Style>,
    /// Answers come in channels, thinking in one of its own.
    channels: Option<Style>,
    /// What a tool gave back belongs to the turn that called it.
    takes_responses: bool,
}

/// A filled-in template.
pub struct Rendered {
    /// The prompt.
    pub text: String,
    /// Whether the answer may hold thinking.
    pub thinking: Thinking,
}

const NAME: &str = "chat";
/// What templates call the wish to think.
const THINK_WISHES: &[&str] = &["enable_thinking", "thinking"];

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
        python::prepare(&mut environment);
        environment.set_fuel(Some(FUEL));
        environment.add_global("bos_token", begin);
        environment.add_global("eos_token", end);
        environment
            .add_template_owned(NAME, python::without_generation(source).into_owned())
            .map_err(|error| TemplateError::Syntax {
                line: error.line().unwrap_or(0),
            })?;
        let channels = Style::of_channels(source);
        let mut template = Self {
            environment,
            thinks: source.contains(THINK_OPEN) || channels.is_some(),
            channels,
            takes_responses: source.contains("tool_responses"),
            asks_to_think: THINK_WISHES.iter().any(|wish| source.contains(wish)),
            own,
            calls: None,
        };
        if source.contains("tools") && template.shows_tools() {
            template.calls = Some(Style::of_template(source));
        }
        Ok(template)
    }

    /// Whether a tool that is offered comes to stand in the prompt.
    fn shows_tools(&self) -> bool {
        const PROBE: &str = "tool_to_find";
        let wishes = Wishes {
            tools: vec![serde_json::json!({
                "type": "function",
                "function": {
                    "name": PROBE,
                    "description": "None.",
                    "parameters": { "type": "object", "properties": {}, "required": [] },
                },
            })],
            ..Wishes::default()
        };
        let turns = [Turn::new(Role::User, "Hello.")];
        self.fill(&turns, &wishes)
            .is_ok_and(|text| text.contains(PROBE))
    }

    /// How the model writes calls of tools. `None`: its template has no place for them.
    #[must_use]
    pub fn calls(&self) -> Option<Style> {
        self.calls
    }

    /// How answers are read where no tool is offered: those in channels, to know what is thinking.
    #[must_use]
    pub fn channels(&self) -> Option<Style> {
        self.channels
    }

    /// Whether the model can think before it answers.
    #[must_use]
    pub fn thinks(&self) -> bool {
        self.thinks
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
    /// system's text at the head of the first user turn, then neighbours of one role merged. So is one
    /// that writes the arguments of a call as the text that they are (Functionary's).
    ///
    /// # Errors
    /// When it refuses them all, or fails.
    pub fn render(&self, turns: &[Turn]) -> Result<Rendered, TemplateError> {
        self.render_with(turns, &Wishes::default())
    }

    /// As [`ChatTemplate::render`], with tools and whether to think. A template without a place
    /// for tools gets what was called and what came back as words.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_with(&self, turns: &[Turn], wishes: &Wishes) -> Result<Rendered, TemplateError> {
        let spoken;
        let turns = match self.calls {
            Some(_) => turns,
            None => {
                spoken = without_tools(turns);
                &spoken[..]
            }
        };
        let first = match self.fill(turns, wishes) {
            Ok(text) => return Ok(self.rendered(text, wishes)),
            Err(error) => error,
        };
        let folded = fold_system(turns);
        let merged = merge_neighbours(&folded);
        let mut others = vec![folded, merged];
        if turns.iter().any(|turn| !turn.tool_calls.is_empty()) {
            let written = [turns, &others[0], &others[1]].map(with_written_arguments);
            others.extend(written);
        }
        for other in others {
            if let Ok(text) = self.fill(&other, wishes) {
                return Ok(self.rendered(text, wishes));
            }
        }
        Err(first)
    }

    fn rendered(&self, mut text: String, wishes: &Wishes) -> Rendered {
        if self.channels.is_some() {
            // gpt-oss can't leave thinking out: its answer is all that is told then.
            return Rendered {
                text,
                thinking: Thinking::None,
            };
        }
        let begun = text.trim_end().ends_with(THINK_OPEN);
        let done = text.trim_end().ends_with(THINK_CLOSE);
        // A template that has no word for it: the thought is over before it begins.
        if wishes.think == Some(false) && self.thinks && !done && (begun || !self.asks_to_think) {
            if !begun {
                text.push_str(THINK_OPEN);
            }
            text.push_str("\n\n");
            text.push_str(THINK_CLOSE);
            text.push_str("\n\n");
        }
        let thinking = if text.trim_end().ends_with(THINK_OPEN) {
            Thinking::Begun
        } else if self.thinks && !text.trim_end().ends_with(THINK_CLOSE) {
            Thinking::MayBegin
        } else {
            Thinking::None
        };
        Rendered { text, thinking }
    }

    fn fill(&self, turns: &[Turn], wishes: &Wishes) -> Result<String, TemplateError> {
        let failed = |error: &Error| TemplateError::Render {
            line: error.line().unwrap_or(0),
        };
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| failed(&error))?;
        let tools = match wishes.tools.is_empty() {
            true => Value::from(()),
            false => Value::from_serialize(&wishes.tools),
        };
        // Undefined where nobody says: the template's own choice.
        let think = wishes.think.map_or(Value::UNDEFINED, Value::from);
        let values = context! {
            messages => match self.takes_responses {
                true => Value::from_serialize(with_responses(turns)),
                false => Value::from_serialize(turns),
            },
            add_generation_prompt => true,
            tools => tools,
            documents => Value::from(()),
            enable_thinking => think.clone(),
            thinking => think,
            reasoning_effort => match wishes.effort.as_str() {
                "" => Value::UNDEFINED,
                effort => Value::from(effort),
            },
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

/// Calls and what they gave back, as words of those who speak.
fn without_tools(turns: &[Turn]) -> Vec<Turn> {
    let plain = |turn: &Turn| {
        let mut text = turn.text.clone();
        for call in &turn.tool_calls {
            let CalledFunction::Function { name, arguments } = &call.function;
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("{name}({arguments})"));
        }
        let role = match turn.role {
            Role::Tool => Role::User,
            role => role,
        };
        Turn::new(role, text)
    };
    turns.iter().map(plain).collect()
}

/// What tools gave back, in the turn that called them (Gemma's way).
fn with_responses(turns: &[Turn]) -> Vec<serde_json::Value> {
    let mut messages: Vec<serde_json::Value> = Vec::with_capacity(turns.len());
    for turn in turns {
        let caller = messages
            .last_mut()
            .filter(|last| turn.role == Role::Tool && last["tool_calls"].is_array());
        match caller {
            Some(caller) => {
                let earlier = caller["tool_responses"].as_array().map_or(0, Vec::len);
                let called = &caller["tool_calls"][earlier]["function"]["name"];
                let name = match turn.name.as_str() {
                    "" => called.clone(),
                    name => name.into(),
                };
                let response = serde_json::json!({ "name": name, "response": turn.text });
                match caller["tool_responses"].as_array_mut() {
                    Some(responses) => responses.push(response),
                    None => caller["tool_responses"] = vec![response].into(),
                }
            }
            None => messages.push(serde_json::to_value(turn).unwrap_or_default()),
        }
    }
    messages
}

/// The arguments of each call as the text of their JSON.
fn with_written_arguments(turns: &[Turn]) -> Vec<Turn> {
    let mut turns = turns.to_vec();
    for call in turns.iter_mut().flat_map(|turn| &mut turn.tool_calls) {
        let CalledFunction::Function { arguments, .. } = &mut call.function;
        if !arguments.is_string() {
            *arguments = python::spaced_json(arguments).into();
        }
    }
    turns
}

/// Neighbouring turns of one role as one.
fn merge_neighbours(turns: &[Turn]) -> Vec<Turn> {
    let mut merged: Vec<Turn> = Vec::with_capacity(turns.len());
    for turn in turns {
        match merged.last_mut() {
            Some(last) if last.role == turn.role && turn.role != Role::Tool => {
                last.text.push_str("\n\n");
                last.text.push_str(&turn.text);
                last.tool_calls.extend(turn.tool_calls.iter().cloned());
            }
            _ => merged.push(turn.clone()),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
