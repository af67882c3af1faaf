//! What OpenAI's clients send, and what of it is taken.
//!
//! A member that would change the answer and can't be done is refused by name; one that is not
//! known at all too. Members that only tell OpenAI something about the caller are let pass.

use aico_contracts::v1::{self, turn::Role};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::programs::course::Asked;
use crate::programs::embeddings::{self, Wanted};
use crate::programs::images;
use crate::programs::question::{self, Extras, Question, Sampling, within};
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
    reasoning_effort: Option<String>,
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
    tool_call_id: Option<String>,
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
    /// Its `detail` is read over: how closely to look is the model's affair.
    image_url: Option<Value>,
}

impl Chat {
    /// What was asked, and whether the figures shall be told in a stream.
    pub(super) fn check(self) -> Result<(Asked, bool), Refusal> {
        self.unsupported()?;
        let missing = |name, message: &str| Refusal::invalid(name, message);
        let model = self
            .model
            .ok_or_else(|| missing("model", "`model` is missing."))?;
        let messages = self
            .messages
            .filter(|messages| !messages.is_empty())
            .ok_or_else(|| missing("messages", "`messages` needs at least one message."))?;
        let mut turns: Vec<_> = messages
            .into_iter()
            .enumerate()
            .map(|(at, message)| message.turn(at))
            .collect::<Result<_, _>>()?;
        question::name_tools(&mut turns);
        if !turns.iter().any(|turn| turn.role() == Role::User) {
            let message = "`messages` needs one with the role `user`.";
            return Err(Refusal::invalid("messages", message));
        }
        let (think, effort) = thinking(self.reasoning_effort.as_deref())?;
        let extras = Extras {
            format: format(self.response_format)?,
            tools: match self
                .tool_choice
                .as_ref()
                .is_some_and(|choice| choice == "none")
            {
                true => Vec::new(),
                false => question::tools(self.tools.unwrap_or_default())?,
            },
            think,
            effort,
        };
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
        let usage = self.stream_options;
        let usage = usage.is_some_and(|options| options.include_usage);
        let question = Question {
            turns,
            sampling,
            extras,
        };
        let asked = Asked {
            model,
            question: Some(question),
            stream,
            leave: false,
        };
        Ok((asked, usage))
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
        let choice = self.tool_choice.as_ref();
        if choice.is_some_and(|choice| choice != "none" && choice != "auto") {
            let message = "Whether to call a tool is the model's choice: `tool_choice` is `auto` \
                           or `none`.";
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

/// What the answer is bound to, as the model process takes it.
fn format(asked: Option<Value>) -> Result<String, Refusal> {
    let Some(asked) = asked.filter(|asked| !asked.is_null()) else {
        return Ok(String::new());
    };
    match asked["type"].as_str() {
        Some("text") => Ok(String::new()),
        Some("json_object") => Ok("json".to_owned()),
        Some("json_schema") => match &asked["json_schema"]["schema"] {
            Value::Object(schema) => Ok(Value::Object(schema.clone()).to_string()),
            _ => {
                let message = "`response_format.json_schema` has a `schema`: a JSON schema.";
                Err(Refusal::invalid("response_format", message))
            }
        },
        _ => {
            let message = "`response_format` has the type `text`, `json_object` or `json_schema`.";
            Err(Refusal::unsupported("response_format", message))
        }
    }
}

/// Whether the model thinks, and how long.
fn thinking(effort: Option<&str>) -> Result<(Option<bool>, &'static str), Refusal> {
    match effort {
        None => Ok((None, "")),
        Some("none") => Ok((Some(false), "")),
        Some(word) => match question::effort(word) {
            Some(effort) => Ok((Some(true), effort)),
            None => Err(Refusal::invalid(
                "reasoning_effort",
                "`reasoning_effort` is `none`, `minimal`, `low`, `medium`, `high` or `xhigh`.",
            )),
        },
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
    /// `at`: which message it is.
    fn turn(self, at: usize) -> Result<v1::Turn, Refusal> {
        let refuse = |message: &str| Err(Refusal::unsupported("messages", message));
        let role = match self.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            _ => {
                let message =
                    "A message's role is `system`, `developer`, `user`, `assistant` or `tool`.";
                return Err(Refusal::invalid("messages", message));
            }
        };
        let tool_calls = question::calls(self.tool_calls.unwrap_or_default())?;
        let (mut text, mut seen) = (String::new(), Vec::new());
        match self.content {
            None => {}
            Some(Content::Text(whole)) => text = whole,
            Some(Content::Parts(parts)) => {
                for (number, part) in parts.into_iter().enumerate() {
                    match (part.kind.as_str(), part.text, part.image_url) {
                        ("text", Some(piece), _) => text.push_str(&piece),
                        ("image_url", _, Some(image)) => {
                            // Some clients send the URL itself.
                            let url = image.as_str().or_else(|| image["url"].as_str());
                            let url = url.unwrap_or_default();
                            let read =
                                images::may_come_with(role).and_then(|()| images::of_url(url));
                            let image = read.map_err(|wrong| {
                                let place = format!("`messages[{at}].content[{number}]`");
                                images::refused("messages", &place, wrong)
                            })?;
                            seen.push(image);
                        }
                        _ => {
                            return refuse(
                                "Messages are text and images: the model takes no other parts.",
                            );
                        }
                    }
                }
            }
        }
        if text.is_empty() && seen.is_empty() && role == Role::User {
            let message = "A message of the user needs at least one character or an image.";
            return Err(Refusal::invalid("messages", message));
        }
        Ok(v1::Turn {
            role: role.into(),
            text,
            tool_calls,
            tool_call: self.tool_call_id.unwrap_or_default(),
            images: seen,
            ..v1::Turn::default()
        })
    }
}

/// The body of `/v1/embeddings`.
#[derive(Deserialize)]
pub(super) struct Embeddings {
    model: Option<String>,
    input: Option<Value>,
    dimensions: Option<i64>,
    encoding_format: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Embeddings {
    /// What is wanted, and whether its numbers shall be packed into text.
    pub(super) fn checked(self) -> Result<(Wanted, bool), Refusal> {
        let texts = embeddings::texts(self.input)?;
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            return Err(Refusal::invalid("input", "`input` is empty."));
        }
        let packed = match self.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => {
                let message = "`encoding_format` is `float` or `base64`.";
                return Err(Refusal::invalid("encoding_format", message));
            }
        };
        let harmless = |name: &String| HARMLESS.contains(&name.as_str());
        if !self.others.keys().all(harmless) {
            let message = "The body has a member that is not known here.";
            return Err(Refusal::unsupported("body", message));
        }
        let model = self
            .model
            .ok_or_else(|| Refusal::invalid("model", "`model` is missing."))?;
        let dimensions = embeddings::dimensions(self.dimensions)?;
        let wanted = Wanted {
            model,
            texts,
            dimensions,
        };
        Ok((wanted, packed))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(more: Value) -> Result<(Asked, bool), String> {
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
        let (asked, usage) = check(json!({
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
        assert!(asked.stream && usage);
        let question = asked.question.unwrap();
        let sampling = &question.sampling;
        assert_eq!(sampling.max_tokens, 7);
        assert_eq!(sampling.temperature, Some(0.0));
        assert_eq!(sampling.stop, ["x"]);
        let texts: Vec<_> = question.turns.iter().map(|t| t.text.as_str()).collect();
        assert_eq!(texts, ["a", "bc", "", "d"]);
    }

    #[test]
    fn tools_their_calls_and_formats_are_taken() {
        let clock = json!({"type": "function", "function": {"name": "clock", "strict": true,
            "description": "Tells the time.", "parameters": {"type": "object", "b": 1, "a": 2}}});
        let asked = check(json!({
            "tools": [clock],
            "messages": [
                {"role": "user", "content": "What time is it?"},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "c1",
                    "type": "function", "function": {"name": "clock", "arguments": "{\"z\":1}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
            ],
        }))
        .ok()
        .unwrap()
        .0
        .question
        .unwrap();
        let tool = &asked.extras.tools[0];
        assert_eq!(tool.parameters, r#"{"type":"object","b":1,"a":2}"#);
        let turns = asked.merged();
        assert_eq!(turns[1].tool_calls[0].arguments, r#"{"z":1}"#);
        assert_eq!(
            (turns[2].role(), turns[2].tool_name.as_str()),
            (Role::Tool, "clock")
        );
        assert!(asked.for_companion().is_err());
        let none = check(json!({ "tools": [clock], "tool_choice": "none" }))
            .ok()
            .unwrap();
        assert!(none.0.question.unwrap().extras.tools.is_empty());
        for (word, think, effort) in [
            (json!(null), None, ""),
            (json!("none"), Some(false), ""),
            (json!("minimal"), Some(true), "low"),
            (json!("high"), Some(true), "high"),
        ] {
            let asked = check(json!({ "reasoning_effort": word })).ok().unwrap();
            let question = asked.0.question.unwrap();
            let extras = &question.extras;
            assert_eq!((extras.think, extras.effort), (think, effort), "{word}");
            let refused = question.for_companion().is_err();
            assert_eq!(refused, think == Some(true), "{word}");
        }
        let format = |format: Value| {
            let asked = check(json!({ "response_format": format })).ok().unwrap();
            asked.0.question.unwrap().extras.format
        };
        assert_eq!(format(json!({ "type": "json_object" })), "json");
        let schema = json!({ "type": "json_schema", "json_schema": { "name": "x", "strict": true,
            "schema": { "type": "object", "properties": {} } } });
        assert_eq!(format(schema), r#"{"type":"object","properties":{}}"#);
    }

    #[test]
    fn images_come_along_and_one_that_can_not_be_taken_is_named() {
        let content = json!([
            {"type": "text", "text": "What "},
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/", "detail": "low"}},
            {"type": "text", "text": "is it?"},
        ]);
        let alone = json!([{"type": "image_url",
            "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]);
        let messages = json!([
            {"role": "user", "content": alone}, {"role": "user", "content": content}
        ]);
        let question = |messages: Value| {
            let asked = check(json!({ "messages": messages })).ok().unwrap().0;
            asked.question.unwrap()
        };
        let asked = question(messages.clone());
        let merged = asked.merged();
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].text, "What is it?");
        let images: Vec<_> = merged[0].images.iter().map(Vec::len).collect();
        assert_eq!(images, [8, 3]);
        assert!(asked.has_images() && asked.for_companion().is_err());
        let mut bare = messages.clone();
        bare[0]["content"][0]["image_url"] = "data:image/png;base64,iVBORw0KGgo=".into();
        assert!(question(bare).turns == asked.turns);
        // Another image is the beginning of another conversation.
        let mut others = messages;
        others[0]["content"] = json!([{"type": "image_url",
            "image_url": {"url": "data:image/jpeg;base64,/9j/"}}]);
        assert_ne!(question(others).cache_key(), asked.cache_key());

        for (role, url, words) in [
            (
                "user",
                json!("https://example.org/a.png"),
                "fetches no images",
            ),
            ("user", json!(null), "fetches no images"),
            ("user", json!("data:image/png;base64,?"), "not base64"),
            ("user", json!("data:image/png;base64,"), "empty"),
            (
                "user",
                json!("data:image/gif;base64,R0lGODlh"),
                "neither PNG nor JPEG",
            ),
            (
                "assistant",
                json!("data:image/jpeg;base64,/9j/"),
                "out of place",
            ),
        ] {
            let body = json!({"model": "m", "messages": [
                {"role": "user", "content": "Look."},
                {"role": role, "content": [{"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": url}}]},
            ]});
            let chat: Chat = serde_json::from_value(body).unwrap();
            let told = chat.check().err().unwrap();
            let told = told.json(crate::programs::Dialect::OpenAi);
            assert!(told.contains("messages[1].content[1]"), "{told}");
            assert!(
                told.contains(words) && told.contains("invalid_value"),
                "{told}"
            );
        }
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
            (
                json!({"response_format": {"type": "grammar"}}),
                "response_format",
            ),
            (json!({"tools": [{"type": "function"}]}), "tools"),
            (json!({"tools": [{"type": "custom"}]}), "tools"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"store": true}), "store"),
            (json!({"modalities": ["audio"]}), "modalities"),
            (json!({"logit_bias": {"1": 2}}), "body"),
            (json!({"reasoning_effort": "endless"}), "reasoning_effort"),
            (json!({"temperature": 3}), "temperature"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"stream_options": {}}), "stream_options"),
            (json!({"messages": []}), "messages"),
            (
                json!({"messages": [{"role": "system", "content": "x"}]}),
                "messages",
            ),
            (
                json!({"messages": [{"role": "function", "content": "x"}]}),
                "messages",
            ),
            (
                json!({"messages": [{"role": "user", "content": "x"},
                    {"role": "assistant", "tool_calls": [{"id": "1"}]}]}),
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
