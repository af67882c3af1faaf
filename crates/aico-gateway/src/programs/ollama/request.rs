//! What Ollama's clients send, and what of it is taken.
//!
//! As with Ollama itself a member that it does not know is ignored; one that it knows and that
//! would change the answer is done or refused by name. How a model is loaded is the owner's to
//! say, in AICO's configuration: what a program says of it is read and has no effect. So is how
//! long it wants the model kept, but for 0: then nobody needs it after this answer.

use aico_contracts::v1::{self, turn::Role};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::programs::course::Asked;
use crate::programs::embeddings;
use crate::programs::images;
use crate::programs::question::{self, Extras, Question, Sampling, within};
use crate::programs::refusal::{Refusal, short};

/// The body of `/api/chat`.
#[derive(Deserialize)]
pub(super) struct Chat {
    model: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    messages: Vec<Message>,
    #[serde(flatten)]
    common: Common,
    tools: Option<Vec<Value>>,
}

/// The body of `/api/generate`.
#[derive(Deserialize)]
pub(super) struct Generate {
    model: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    prompt: String,
    #[serde(default, deserialize_with = "or_default")]
    system: String,
    #[serde(default, deserialize_with = "or_default")]
    suffix: String,
    #[serde(default, deserialize_with = "or_default")]
    template: String,
    #[serde(default, deserialize_with = "or_default")]
    raw: bool,
    context: Option<Vec<i64>>,
    images: Option<Vec<Value>>,
    #[serde(flatten)]
    common: Common,
}

/// What both have.
#[derive(Deserialize)]
struct Common {
    stream: Option<bool>,
    format: Option<Value>,
    keep_alive: Option<Value>,
    think: Option<Value>,
    options: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default, deserialize_with = "or_default")]
    content: String,
    images: Option<Vec<Value>>,
    tool_calls: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "or_default")]
    tool_call_id: String,
    #[serde(default, deserialize_with = "or_default")]
    tool_name: String,
    /// The older name of the same.
    #[serde(default, deserialize_with = "or_default")]
    name: String,
}

/// Go takes `null` for a member that is not there, and so do its clients.
fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// What was asked, checked, and how it shall be told.
pub(super) struct Wanted {
    pub(super) asked: Asked,
    /// What the model thinks is told too.
    pub(super) thinking: bool,
}

/// Of the hardware and of loading: the owner's.
const OWNERS: &[&str] = &[
    "low_vram",
    "main_gpu",
    "num_batch",
    "num_ctx",
    "num_gpu",
    "num_keep",
    "num_thread",
    "use_mlock",
    "use_mmap",
    "vocab_only",
    "f16_kv",
    "numa",
];

/// Options that would change the answer and that the engine does not have, each with the value
/// that means "off" or is the engine's.
const OTHERS: &[(&str, f64)] = &[
    ("presence_penalty", 0.0),
    ("frequency_penalty", 0.0),
    ("typical_p", 1.0),
    ("tfs_z", 1.0),
    ("mirostat", 0.0),
    ("repeat_last_n", 64.0),
];

fn named(model: Option<String>) -> Result<String, Refusal> {
    model
        .filter(|model| !model.is_empty())
        .ok_or_else(|| Refusal::invalid("model", "model is required"))
}

impl Chat {
    pub(super) fn check(self) -> Result<Wanted, Refusal> {
        let model = named(self.model)?;
        let tools = question::tools(self.tools.unwrap_or_default())?;
        let mut turns: Vec<_> = self
            .messages
            .into_iter()
            .enumerate()
            .map(|(at, message)| message.turn(at))
            .collect::<Result<_, _>>()?;
        if !turns.is_empty() && !turns.iter().any(|turn| turn.role() == Role::User) {
            let message = "messages need one with the role user";
            return Err(Refusal::invalid("messages", message));
        }
        question::name_tools(&mut turns);
        self.common.check(model, turns, tools)
    }
}

impl Generate {
    pub(super) fn check(self) -> Result<Wanted, Refusal> {
        let model = named(self.model)?;
        for (name, given) in [
            ("suffix", !self.suffix.is_empty()),
            ("template", !self.template.is_empty()),
            ("raw", self.raw),
            (
                "context",
                self.context.is_some_and(|context| !context.is_empty()),
            ),
        ] {
            if given {
                let message = format!("{} does not support {name}", quoted(&model));
                return Err(Refusal::unsupported(name, message));
            }
        }
        let images = seen("images", "images", self.images)?;
        let mut turns = Vec::new();
        if !self.prompt.is_empty() || !images.is_empty() {
            if !self.system.is_empty() {
                turns.push(v1::Turn {
                    role: Role::System.into(),
                    text: self.system,
                    ..v1::Turn::default()
                });
            }
            turns.push(v1::Turn {
                role: Role::User.into(),
                text: self.prompt,
                images,
                ..v1::Turn::default()
            });
        }
        self.common.check(model, turns, Vec::new())
    }
}

impl Common {
    fn check(
        self,
        model: String,
        turns: Vec<v1::Turn>,
        tools: Vec<v1::Tool>,
    ) -> Result<Wanted, Refusal> {
        let format = match self.format {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(format)) if format.is_empty() || format == "json" => format,
            Some(Value::Object(schema)) => Value::Object(schema).to_string(),
            Some(_) => {
                let message = "invalid format: it is \"json\" or a JSON schema";
                return Err(Refusal::invalid("format", message));
            }
        };
        let (think, effort) = match &self.think {
            None | Some(Value::Null) => (None, None),
            Some(Value::Bool(think)) => (Some(*think), None),
            Some(Value::String(word)) => (Some(true), question::effort(word)),
            Some(_) => (Some(true), None),
        };
        if matches!(&self.think, Some(value) if !value.is_boolean() && !value.is_null())
            && effort.is_none()
        {
            let message = format!(
                "think value is not supported for {}: it is true, false, \"low\", \"medium\" or \
                 \"high\"",
                quoted(&model)
            );
            return Err(Refusal::unsupported("think", message));
        }
        let extras = Extras {
            format,
            tools,
            think,
            effort: effort.unwrap_or_default(),
        };
        let leave = keep_alive(self.keep_alive.as_ref())?;
        let sampling = sampling(&self.options.unwrap_or_default())?;
        Ok(Wanted {
            asked: Asked {
                model,
                question: (!turns.is_empty()).then_some(Question {
                    turns,
                    sampling,
                    extras,
                }),
                stream: self.stream.unwrap_or(true),
                leave,
            },
            thinking: think != Some(false),
        })
    }
}

/// Whether the model is asked to be unloaded; what it says must be a duration.
fn keep_alive(value: Option<&Value>) -> Result<bool, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Number(seconds)) => Ok(seconds.as_f64() == Some(0.0)),
        Some(Value::String(text)) => {
            let digits = text.trim_start_matches(['-', '+']);
            let plain = digits.starts_with(|c: char| c.is_ascii_digit())
                && digits
                    .chars()
                    .all(|c| c.is_ascii_digit() || ".nuµmsh".contains(c));
            let unit = digits.ends_with(['s', 'm', 'h']);
            match plain && (unit || digits == "0") {
                true => Ok(digits == "0" || digits == "0s" || digits == "0m"),
                false => Err(Refusal::invalid("keep_alive", "keep_alive is no duration")),
            }
        }
        Some(_) => Err(Refusal::invalid("keep_alive", "keep_alive is no duration")),
    }
}

fn sampling(options: &Map<String, Value>) -> Result<Sampling, Refusal> {
    let number = |name: &'static str| match options.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_f64()
            .map(Some)
            .ok_or_else(|| Refusal::invalid(name, format!("option {name} is a number"))),
    };
    let whole = |name: &'static str| match options.get(name) {
        None | Some(Value::Null) => Ok(None),
        // Clients whose numbers are all alike write 40.0.
        Some(value) => value
            .as_i64()
            .or_else(|| {
                value
                    .as_f64()
                    .filter(|it| it.fract() == 0.0)
                    .map(|it| it as i64)
            })
            .map(Some)
            .ok_or_else(|| Refusal::invalid(name, format!("option {name} is a whole number"))),
    };
    for (name, off) in OTHERS {
        if number(name)?.is_some_and(|value| value != *off) {
            let message = format!("option {name} is not supported");
            return Err(Refusal::unsupported(name, message));
        }
    }
    for name in OWNERS {
        // Read, so that a wrong type is told; see the module's head.
        if let Some(value) = options.get(*name)
            && !matches!(value, Value::Number(_) | Value::Bool(_) | Value::Null)
        {
            let message = format!("option {name} is a number or a boolean");
            return Err(Refusal::invalid(name, message));
        }
    }
    let stop = match options.get("stop") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(stops)) => stops
            .iter()
            .map(|stop| stop.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Refusal::invalid("stop", "option stop is a list of texts"))?,
        Some(_) => return Err(Refusal::invalid("stop", "option stop is a list of texts")),
    };
    // Both are "as much as there is room for"; so is what is left out.
    let most = whole("num_predict")?.filter(|most| *most >= 0);
    Ok(Sampling {
        temperature: within("temperature", number("temperature")?, 0.0, 10.0)?,
        top_p: question::top_p(number("top_p")?)?,
        top_k: whole("top_k")?.map(|k| u32::try_from(k).unwrap_or(0)),
        min_p: within("min_p", number("min_p")?, 0.0, 1.0)?,
        repeat_penalty: within("repeat_penalty", number("repeat_penalty")?, 0.1, 10.0)?,
        seed: question::seed(whole("seed")?.filter(|seed| *seed >= 0)),
        stop: question::stops(stop)?,
        max_tokens: most.map_or(0, |most| u32::try_from(most).unwrap_or(u32::MAX).max(1)),
    })
}

fn quoted(model: &str) -> String {
    format!("\"{}\"", short(model))
}

/// Images, each in base64; `place` is where their list stands.
fn seen(
    param: &'static str,
    place: &str,
    all: Option<Vec<Value>>,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let all = all.unwrap_or_default().into_iter().enumerate();
    let image = |(at, image): (usize, Value)| {
        let read = match image.as_str() {
            Some(text) => images::of_base64(text),
            None => Err("is not base64"),
        };
        read.map_err(|wrong| images::refused(param, &format!("{place}[{at}]"), wrong))
    };
    all.map(image).collect()
}

impl Message {
    /// `at`: which message it is.
    fn turn(self, at: usize) -> Result<v1::Turn, Refusal> {
        let role = match self.role.to_ascii_lowercase().as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            _ => {
                let message = "invalid role: it is system, user, assistant or tool";
                return Err(Refusal::invalid("messages", message));
            }
        };
        let tool_calls = question::calls(self.tool_calls.unwrap_or_default())?;
        let place = format!("messages[{at}].images");
        let images = seen("messages", &place, self.images)?;
        if !images.is_empty() {
            images::may_come_with(role)
                .map_err(|wrong| images::refused("messages", &format!("{place}[0]"), wrong))?;
        }
        Ok(v1::Turn {
            role: role.into(),
            text: self.content,
            tool_calls,
            tool_call: self.tool_call_id,
            tool_name: match self.tool_name.is_empty() {
                true => self.name,
                false => self.tool_name,
            },
            images,
        })
    }
}

/// The body of `/api/show`.
#[derive(Deserialize)]
pub(super) struct Show {
    model: Option<String>,
    /// The older name of the same.
    name: Option<String>,
}

impl Show {
    pub(super) fn model(self) -> Result<String, Refusal> {
        named(self.model.or(self.name))
    }
}

/// The body of `/api/embed` and `/api/embeddings`, as far as it matters yet.
#[derive(Deserialize)]
pub(super) struct Embed {
    model: Option<String>,
    input: Option<Value>,
    /// Of the older address.
    prompt: Option<String>,
    dimensions: Option<i64>,
    truncate: Option<bool>,
}

impl Embed {
    /// What is wanted, and whether the ends of long texts may be left out. Of `/api/embeddings`
    /// the text is in another member.
    pub(super) fn check(self, older: bool) -> Result<(embeddings::Wanted, bool), Refusal> {
        let texts = match older {
            true => vec![self.prompt.unwrap_or_default()],
            // As Ollama: nothing, or one of nothing, is no text.
            false => match self.input {
                None | Some(Value::Null) => Vec::new(),
                input => embeddings::texts(input)?,
            },
        };
        let wanted = embeddings::Wanted {
            model: named(self.model)?,
            texts: texts
                .into_iter()
                .filter(|text| !older || !text.is_empty())
                .collect(),
            dimensions: embeddings::dimensions(self.dimensions)?,
        };
        Ok((wanted, self.truncate.unwrap_or(true)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chat(more: Value) -> Result<Wanted, String> {
        let mut body = json!({ "model": "m", "messages": [{"role": "user", "content": "Hello"}] });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let chat: Chat = serde_json::from_value(body).map_err(|_| "shape".to_owned())?;
        chat.check().map_err(told)
    }

    fn told(refusal: Refusal) -> String {
        let told = refusal.json(crate::programs::Dialect::Ollama);
        let told: Value = serde_json::from_str(&told).unwrap();
        told["error"].as_str().unwrap().to_owned()
    }

    #[test]
    fn streams_unless_told_otherwise_and_loads_when_nothing_is_asked() {
        let wanted = chat(json!({})).unwrap();
        assert!(wanted.asked.stream && wanted.thinking);
        let asked = |more| chat(more).unwrap().asked;
        assert!(!asked(json!({"stream": false})).stream);
        assert!(!chat(json!({"think": false})).unwrap().thinking);
        assert!(asked(json!({"messages": []})).question.is_none());
        // Not needed any longer; anything else it says is the owner's.
        for (keep, leave) in [(json!(0), true), (json!("0s"), true), (json!(-1), false)] {
            assert_eq!(asked(json!({"keep_alive": keep})).leave, leave, "{keep}");
        }
        assert!(asked(json!({"keep_alive": 0, "messages": []})).leave);
        let wanted = json!({"options": {
            "temperature": 0, "num_predict": 5, "stop": ["x"], "seed": 3, "top_k": 1,
            "num_ctx": 2048, "presence_penalty": 0, "unknown": "x"
        }, "keep_alive": "5m", "format": "", "surprise": 1});
        let sampling = asked(wanted).question.unwrap().sampling;
        assert_eq!((sampling.max_tokens, sampling.seed), (5, Some(3)));
        assert_eq!(sampling.temperature, Some(0.0));
        let endless = asked(json!({"options": {"num_predict": -1}}));
        assert_eq!(endless.question.unwrap().sampling.max_tokens, 0);
    }

    #[test]
    fn tools_their_calls_formats_and_thinking_are_taken() {
        let asked = chat(json!({
            "think": true,
            "tools": [{"type": "function", "function": {"name": "clock"}}],
            "messages": [
                {"role": "user", "content": "What time is it?"},
                {"role": "assistant", "tool_calls": [{"function": {"name": "clock", "arguments": {"z": 1}}}]},
                {"role": "tool", "tool_name": "clock", "content": "12:00"},
            ],
        }))
        .unwrap()
        .asked
        .question
        .unwrap();
        assert_eq!(
            (asked.extras.think, asked.extras.tools.len()),
            (Some(true), 1)
        );
        assert_eq!(asked.turns[1].tool_calls[0].arguments, r#"{"z":1}"#);
        assert_eq!(asked.turns[2].tool_name, "clock");
        let format = |format: Value| {
            let wanted = chat(json!({ "format": format })).unwrap();
            wanted.asked.question.unwrap().extras.format
        };
        assert_eq!(format(json!("json")), "json");
        let deep = chat(json!({"think": "high"})).unwrap();
        let extras = deep.asked.question.unwrap().extras;
        assert_eq!((extras.think, extras.effort), (Some(true), "high"));
        assert_eq!(format(json!({ "type": "object" })), r#"{"type":"object"}"#);
        assert_eq!(
            chat(json!({}))
                .unwrap()
                .asked
                .question
                .unwrap()
                .extras
                .think,
            None
        );
    }

    #[test]
    fn what_can_not_be_done_is_refused_in_words() {
        for (more, words) in [
            (json!({"format": "yaml"}), "format"),
            (json!({"format": 1}), "format"),
            (json!({"tools": [{}]}), "tool's type"),
            (json!({"think": "hard"}), "think"),
            (json!({"think": 1}), "think"),
            (json!({"keep_alive": "soon"}), "keep_alive"),
            (json!({"options": {"mirostat": 1}}), "mirostat"),
            (json!({"options": {"temperature": "hot"}}), "temperature"),
            (json!({"options": {"num_ctx": "big"}}), "num_ctx"),
            (json!({"options": {"stop": [1]}}), "stop"),
            (json!({"model": ""}), "model is required"),
            (
                json!({"messages": [{"role": "assistant", "tool_calls": [{}]}]}),
                "names its function",
            ),
            (
                json!({"messages": [{"role": "user", "content": "a"},
                    {"role": "user", "images": ["iVBORw0KGgo=", "x"]}]}),
                "messages[1].images[1] is not base64",
            ),
            (
                json!({"messages": [{"role": "user", "images": [""]}]}),
                "messages[0].images[0] is empty",
            ),
            (
                json!({"messages": [{"role": "user", "images": [7]}]}),
                "messages[0].images[0] is not base64",
            ),
            (
                json!({"messages": [{"role": "user", "images": ["R0lGODlh"]}]}),
                "messages[0].images[0] is neither PNG nor JPEG",
            ),
            (
                json!({"messages": [{"role": "system", "images": ["/9j/"]}]}),
                "messages[0].images[0] is out of place",
            ),
            (
                json!({"messages": [{"role": "system", "content": "x"}]}),
                "role user",
            ),
            (json!({"messages": [{"role": "x"}]}), "invalid role"),
        ] {
            let told = chat(more.clone()).err().unwrap();
            assert!(told.contains(words), "{more}: {told}");
        }
        let generate = |more: Value| {
            let mut body = json!({ "model": "m", "prompt": "Hello" });
            for (name, value) in more.as_object().unwrap() {
                body[name] = value.clone();
            }
            let generate: Generate = serde_json::from_value(body).unwrap();
            generate.check().map_err(told)
        };
        let asked = generate(json!({"system": "s", "stream": false})).unwrap();
        assert_eq!(asked.asked.question.unwrap().turns.len(), 2);
        let pictured = generate(json!({"images": ["/9j/"]})).unwrap();
        let question = pictured.asked.question.unwrap();
        assert_eq!(question.turns[0].images, [b"\xff\xd8\xff"]);
        assert_eq!(question.turns[0].text, "Hello");
        let alone = generate(json!({"prompt": "", "images": ["/9j/"]})).unwrap();
        assert!(alone.asked.question.unwrap().has_images());
        let refused = generate(json!({"images": ["/9j/", "?"]})).err().unwrap();
        assert!(refused.contains("images[1] is not base64"), "{refused}");
        for name in ["suffix", "template"] {
            assert!(generate(json!({name: "x"})).err().unwrap().contains(name));
        }
        assert!(
            generate(json!({"raw": true}))
                .err()
                .unwrap()
                .contains("raw")
        );
    }
}
