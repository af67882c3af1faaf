//! What OpenAI's clients send, and what of it is taken.
//!
//! A member that would change the answer and can't be done is refused by name; one that is not
//! known at all too. Members that only tell OpenAI something about the caller are let pass.

use aico_contracts::v1::{self, turn::Role};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::programs::question::{self, Question, Sampling, within};
use crate::programs::refusal::Refusal;

/// Members that change nothing of an answer.
const HARMLESS: &[&str] = &[
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
];

/// The body of `/v1/chat/completions`.
#[derive(Deserialize)]
pub(super) struct Chat {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
    stop: Option<Stop>,
    n: Option<i64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    response_format: Option<Value>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    store: Option<bool>,
    logprobs: Option<bool>,
    modalities: Option<Vec<String>>,
    // Not OpenAI's: the engine has them, and other servers of this shape do too.
    top_k: Option<u32>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
    tool_calls: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

/// What was asked, checked.
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) question: Question,
    pub(super) stream: bool,
    pub(super) usage: bool,
}

impl Chat {
    pub(super) fn check(self) -> Result<Asked, Refusal> {
        self.unsupported()?;
        let missing = |name, message: &str| Refusal::invalid(name, message);
        let model = self
            .model
            .ok_or_else(|| missing("model", "`model` is missing."))?;
        let messages = self
            .messages
            .filter(|messages| !messages.is_empty())
            .ok_or_else(|| missing("messages", "`messages` needs at least one message."))?;
        let turns: Vec<_> = messages
            .into_iter()
            .map(Message::turn)
            .collect::<Result<_, _>>()?;
        if !turns.iter().any(|turn| turn.role() == Role::User) {
            let message = "`messages` needs one with the role `user`.";
            return Err(Refusal::invalid("messages", message));
        }
        let sampling = Sampling {
            temperature: within("temperature", self.temperature, 0.0, 2.0)?,
            top_p: question::top_p(self.top_p)?,
            top_k: self.top_k,
            min_p: within("min_p", self.min_p, 0.0, 1.0)?,
            repeat_penalty: within("repeat_penalty", self.repeat_penalty, 0.1, 10.0)?,
            seed: question::seed(self.seed),
            stop: question::stops(match self.stop {
                None => Vec::new(),
                Some(Stop::One(stop)) => vec![stop],
                Some(Stop::Many(stops)) => stops,
            })?,
            max_tokens: limit(self.max_completion_tokens.or(self.max_tokens))?,
        };
        let stream = self.stream.unwrap_or(false);
        if self.stream_options.is_some() && !stream {
            let message = "`stream_options` is for streams: set `stream` to true.";
            return Err(Refusal::invalid("stream_options", message));
        }
        Ok(Asked {
            model,
            question: Question { turns, sampling },
            stream,
            usage: self
                .stream_options
                .is_some_and(|options| options.include_usage),
        })
    }

    /// What would change the answer, and can't be done here.
    fn unsupported(&self) -> Result<(), Refusal> {
        if self.n.is_some_and(|n| n != 1) {
            return Err(Refusal::unsupported("n", "One answer at a time: `n` is 1."));
        }
        for (name, value) in [
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ] {
            if value.is_some_and(|value| value != 0.0) {
                let message = format!("`{name}` is not supported; `repeat_penalty` is.");
                return Err(Refusal::unsupported(name, message));
            }
        }
        let format = self.response_format.as_ref().map(|format| &format["type"]);
        if format.is_some_and(|kind| kind != "text") {
            let message = "The engine can't hold an answer to a JSON schema: `response_format` is \
                           `text`. Ask for JSON in the prompt, and check what comes.";
            return Err(Refusal::unsupported("response_format", message));
        }
        if self.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
            let message = "The engine does not call tools: leave `tools` out.";
            return Err(Refusal::unsupported("tools", message));
        }
        let choice = self.tool_choice.as_ref();
        if choice.is_some_and(|choice| choice != "none" && choice != "auto") {
            let message = "The engine does not call tools: `tool_choice` is `none`.";
            return Err(Refusal::unsupported("tool_choice", message));
        }
        if self.store == Some(true) {
            let message = "There is nobody to store it for: a conversation with `aico` is stored \
                           by itself, one with a model is not.";
            return Err(Refusal::unsupported("store", message));
        }
        if self.logprobs == Some(true) {
            let message = "The engine does not tell probabilities.";
            return Err(Refusal::unsupported("logprobs", message));
        }
        let spoken = |kind: &String| kind != "text";
        if self.modalities.iter().flatten().any(spoken) {
            let message = "Answers are text: `modalities` is [\"text\"].";
            return Err(Refusal::unsupported("modalities", message));
        }
        let mut others = self.others.iter();
        let empty = |value: &Value| match value {
            Value::Null => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        match others.find(|(name, value)| !HARMLESS.contains(&name.as_str()) && !empty(value)) {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::unsupported("body", unknown(name))),
        }
    }
}

/// A member's name is told when it can be one; anything else is not quoted.
fn unknown(name: &str) -> String {
    let plain = name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    match plain {
        true => format!("`{name}` is not supported: leave it out. docs/programs.md lists what is."),
        false => {
            "There is a member that AICO does not know. docs/programs.md lists those it knows."
                .to_owned()
        }
    }
}

fn limit(tokens: Option<i64>) -> Result<u32, Refusal> {
    match tokens {
        None => Ok(0),
        Some(tokens) if tokens < 1 => Err(Refusal::invalid(
            "max_tokens",
            "`max_tokens` and `max_completion_tokens` are at least 1.",
        )),
        Some(tokens) => Ok(u32::try_from(tokens).unwrap_or(u32::MAX)),
    }
}

impl Message {
    fn turn(self) -> Result<v1::Turn, Refusal> {
        let refuse = |message: &str| Err(Refusal::unsupported("messages", message));
        let role = match self.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" | "function" => {
                return refuse("The engine does not call tools: no message has the role `tool`.");
            }
            _ => {
                let message = "A message's role is `system`, `developer`, `user` or `assistant`.";
                return Err(Refusal::invalid("messages", message));
            }
        };
        if self.tool_calls.is_some_and(|calls| !calls.is_empty()) {
            return refuse("The engine does not call tools: no message has `tool_calls`.");
        }
        let text = match self.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                let mut text = String::new();
                for part in parts {
                    match (part.kind.as_str(), part.text) {
                        ("text", Some(piece)) => text.push_str(&piece),
                        _ => return refuse("Messages are text: the model takes no other parts."),
                    }
                }
                text
            }
        };
        if text.is_empty() && role == Role::User {
            let message = "A message of the user needs at least one character.";
            return Err(Refusal::invalid("messages", message));
        }
        Ok(v1::Turn {
            role: role.into(),
            text,
        })
    }
}

/// The body of `/v1/embeddings`, as far as it matters yet.
#[derive(Deserialize)]
pub(super) struct Embeddings {
    model: Option<String>,
    input: Option<Value>,
}

impl Embeddings {
    pub(super) fn checked(self) -> Result<String, Refusal> {
        let missing = |name, message: &str| Refusal::invalid(name, message);
        if !matches!(self.input, Some(Value::String(_) | Value::Array(_))) {
            return Err(missing("input", "`input` is a text or a list of texts."));
        }
        self.model
            .ok_or_else(|| missing("model", "`model` is missing."))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(more: Value) -> Result<Asked, String> {
        let mut body = json!({ "model": "m", "messages": [{"role": "user", "content": "Hello"}] });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let chat: Chat = serde_json::from_value(body).map_err(|_| "shape".to_owned())?;
        chat.check().map_err(|refusal| {
            let told = refusal.json(crate::programs::Dialect::OpenAi);
            let told: Value = serde_json::from_str(&told).unwrap();
            told["error"]["param"].as_str().unwrap().to_owned()
        })
    }

    #[test]
    fn what_can_be_done_is_taken() {
        let asked = check(json!({
            "stream": true, "stream_options": {"include_usage": true}, "temperature": 0,
            "top_p": 1, "seed": 1, "stop": "x", "max_completion_tokens": 7, "n": 1,
            "presence_penalty": 0, "response_format": {"type": "text"}, "tools": [],
            "tool_choice": "auto", "user": "u", "logit_bias": {}, "functions": null,
            "messages": [
                {"role": "developer", "content": "a"},
                {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
                {"role": "assistant", "content": null},
                {"role": "user", "content": "d", "name": "n"},
            ],
        }))
        .ok()
        .unwrap();
        assert!(asked.stream && asked.usage);
        let sampling = &asked.question.sampling;
        assert_eq!(sampling.max_tokens, 7);
        assert_eq!(sampling.temperature, Some(0.0));
        assert_eq!(sampling.stop, ["x"]);
        let texts: Vec<_> = asked
            .question
            .turns
            .iter()
            .map(|t| t.text.as_str())
            .collect();
        assert_eq!(texts, ["a", "bc", "", "d"]);
    }

    #[test]
    fn what_can_not_be_done_is_refused_by_name() {
        for (more, param) in [
            (json!({"n": 2}), "n"),
            (json!({"presence_penalty": 0.5}), "presence_penalty"),
            (
                json!({"response_format": {"type": "json_schema"}}),
                "response_format",
            ),
            (json!({"tools": [{"type": "function"}]}), "tools"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"store": true}), "store"),
            (json!({"modalities": ["audio"]}), "modalities"),
            (json!({"logit_bias": {"1": 2}}), "body"),
            (json!({"reasoning_effort": "high"}), "body"),
            (json!({"temperature": 3}), "temperature"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"stream_options": {}}), "stream_options"),
            (json!({"messages": []}), "messages"),
            (
                json!({"messages": [{"role": "system", "content": "x"}]}),
                "messages",
            ),
            (
                json!({"messages": [{"role": "tool", "content": "x"}]}),
                "messages",
            ),
            (
                json!({"messages": [{"role": "user", "content": ""}]}),
                "messages",
            ),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
                "messages",
            ),
        ] {
            assert_eq!(check(more.clone()).err().as_deref(), Some(param), "{more}");
        }
        assert!(unknown("secret words of a person").contains("does not know"));
    }
}
