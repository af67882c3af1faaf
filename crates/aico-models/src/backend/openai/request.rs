//! A question in the words of `/v1`.

use aico_contracts::v1;
use aico_contracts::v1::turn::Role;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::backend::BackendError;
use crate::backend::budget::answer_limit;

/// How much is said beside what every server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Words {
    /// With the extensions that servers for one's own models take.
    All,
    /// Without them, for one that refuses what it does not know.
    Standard,
    /// Without what came to the standard later too: no figures at the end.
    Old,
}

impl Words {
    /// What is tried next when these were refused.
    pub(super) fn fewer(self) -> Option<Self> {
        match self {
            Self::All => Some(Self::Standard),
            Self::Standard => Some(Self::Old),
            Self::Old => None,
        }
    }
}

/// Bytes that go along with the turns and that the model reads.
pub(super) fn fixed(question: &v1::Generate) -> usize {
    let tools = question
        .tools
        .iter()
        .map(|tool| tool.name.len() + tool.description.len() + tool.parameters.len());
    tools.sum::<usize>() + question.format.len()
}

/// The body for `/v1/chat/completions`, with these of the question's turns.
pub(super) fn chat(
    model: &str,
    question: &v1::Generate,
    turns: &[&v1::Turn],
    words: Words,
) -> Result<Value, BackendError> {
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    let turns: Result<Vec<Value>, _> = turns.iter().copied().map(turn).collect();
    body.insert("messages".into(), turns?.into());
    body.insert("stream".into(), true.into());
    // Without a limit some servers refuse a number that is larger than their context.
    if let Some(most) = answer_limit(question) {
        body.insert("max_tokens".into(), most.into());
    }
    if let Some(sampling) = &question.sampling {
        body.insert("temperature".into(), number(sampling.temperature));
        if sampling.top_p > 0.0 && sampling.top_p < 1.0 {
            body.insert("top_p".into(), number(sampling.top_p));
        }
        if sampling.seed > 0 {
            body.insert("seed".into(), sampling.seed.into());
        }
        if !sampling.stop.is_empty() {
            body.insert("stop".into(), sampling.stop.clone().into());
        }
    }
    if let Some(format) = format(&question.format)? {
        body.insert("response_format".into(), format);
    }
    if !question.tools.is_empty() {
        let tools: Result<Vec<Value>, _> = question.tools.iter().map(tool).collect();
        body.insert("tools".into(), tools?.into());
    }
    if words <= Words::Standard {
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
    if words == Words::All {
        extend(&mut body, question);
    }
    Ok(Value::Object(body))
}

/// What the standard does not know.
fn extend(body: &mut Map<String, Value>, question: &v1::Generate) {
    if let Some(sampling) = &question.sampling {
        if sampling.top_k > 0 {
            body.insert("top_k".into(), sampling.top_k.into());
        }
        if sampling.min_p > 0.0 {
            body.insert("min_p".into(), number(sampling.min_p));
        }
        if sampling.repeat_penalty > 0.0 && sampling.repeat_penalty != 1.0 {
            // Two families of servers, two names.
            let penalty = number(sampling.repeat_penalty);
            body.insert("repeat_penalty".into(), penalty.clone());
            body.insert("repetition_penalty".into(), penalty);
        }
    }
    if let Some(think) = question.think {
        let told = json!({ "enable_thinking": think });
        body.insert("chat_template_kwargs".into(), told);
    }
    if !question.effort.is_empty() {
        body.insert("reasoning_effort".into(), question.effort.clone().into());
    }
}

/// As it was written, not as its bits read in twice the precision: 0.7, not 0.699999988.
fn number(value: f32) -> Value {
    let written: Option<f64> = value.to_string().parse().ok();
    written.map_or(Value::Null, Value::from)
}

fn turn(turn: &v1::Turn) -> Result<Value, BackendError> {
    let role = match turn.role() {
        Role::System => "system",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        Role::User | Role::Unspecified => "user",
    };
    let mut out = Map::new();
    out.insert("role".into(), role.into());
    let content = if turn.images.is_empty() {
        turn.text.as_str().into()
    } else {
        let mut parts = Vec::with_capacity(turn.images.len() + 1);
        if !turn.text.is_empty() {
            parts.push(json!({ "type": "text", "text": turn.text }));
        }
        for image in &turn.images {
            let url = data_url(image)?;
            parts.push(json!({ "type": "image_url", "image_url": { "url": url } }));
        }
        Value::Array(parts)
    };
    out.insert("content".into(), content);
    if !turn.tool_calls.is_empty() {
        let calls = turn.tool_calls.iter().map(|call| {
            let function = json!({ "name": call.name, "arguments": call.arguments });
            json!({ "id": call.id, "type": "function", "function": function })
        });
        out.insert("tool_calls".into(), calls.collect());
        if turn.text.is_empty() {
            out.insert("content".into(), Value::Null);
        }
    }
    if turn.role() == Role::Tool {
        out.insert("tool_call_id".into(), turn.tool_call.as_str().into());
    }
    Ok(Value::Object(out))
}

fn data_url(image: &[u8]) -> Result<String, BackendError> {
    let kind = match image {
        [0x89, b'P', b'N', b'G', ..] => "png",
        [0xff, 0xd8, 0xff, ..] => "jpeg",
        _ => {
            return Err(BackendError::NotCapable {
                what: "images that are neither PNG nor JPEG",
            });
        }
    };
    Ok(format!(
        "data:image/{kind};base64,{}",
        STANDARD.encode(image)
    ))
}

fn format(format: &str) -> Result<Option<Value>, BackendError> {
    match format {
        "" => Ok(None),
        "json" => Ok(Some(json!({ "type": "json_object" }))),
        schema => {
            let schema = object(schema, "an answer by this schema")?;
            let named = json!({ "name": "answer", "strict": true, "schema": schema });
            Ok(Some(json!({ "type": "json_schema", "json_schema": named })))
        }
    }
}

fn tool(tool: &v1::Tool) -> Result<Value, BackendError> {
    let mut function = Map::new();
    function.insert("name".into(), tool.name.as_str().into());
    if !tool.description.is_empty() {
        function.insert("description".into(), tool.description.as_str().into());
    }
    if !tool.parameters.is_empty() {
        let parameters = object(&tool.parameters, "tools with such arguments")?;
        function.insert("parameters".into(), parameters);
    }
    Ok(json!({ "type": "function", "function": function }))
}

fn object(text: &str, what: &'static str) -> Result<Value, BackendError> {
    serde_json::from_str::<Value>(text)
        .ok()
        .filter(Value::is_object)
        .ok_or(BackendError::NotCapable { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> v1::Generate {
        v1::Generate {
            turns: vec![
                v1::Turn {
                    role: Role::System.into(),
                    text: "Be kind.".into(),
                    ..Default::default()
                },
                v1::Turn {
                    role: Role::User.into(),
                    text: "What is this?".into(),
                    images: vec![b"\x89PNG".to_vec(), b"\xff\xd8\xff".to_vec()],
                    ..Default::default()
                },
                v1::Turn {
                    role: Role::Assistant.into(),
                    tool_calls: vec![v1::ToolCall {
                        id: "c1".into(),
                        name: "look".into(),
                        arguments: r#"{"at":1}"#.into(),
                    }],
                    ..Default::default()
                },
                v1::Turn {
                    role: Role::Tool.into(),
                    text: "a cat".into(),
                    tool_call: "c1".into(),
                    tool_name: "look".into(),
                    ..Default::default()
                },
            ],
            sampling: Some(v1::Sampling {
                temperature: 0.7,
                top_p: 0.9,
                top_k: 40,
                min_p: 0.05,
                repeat_penalty: 1.1,
                seed: 7,
                stop: vec!["\n".into()],
            }),
            max_tokens: 99,
            format: r#"{"type":"object"}"#.into(),
            tools: vec![v1::Tool {
                name: "look".into(),
                description: "Looks.".into(),
                parameters: r#"{"type":"object"}"#.into(),
            }],
            think: Some(false),
            ..Default::default()
        }
    }

    fn chat(model: &str, question: &v1::Generate, words: Words) -> Result<Value, BackendError> {
        let turns: Vec<_> = question.turns.iter().collect();
        super::chat(model, question, &turns, words)
    }

    #[test]
    fn everything_that_can_be_asked_for_is_said() {
        let body = chat("m", &question(), Words::All).unwrap();
        let expected = json!({
            "model": "m", "stream": true, "max_tokens": 99,
            "stream_options": { "include_usage": true },
            "temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "seed": 7,
            "repeat_penalty": 1.1, "repetition_penalty": 1.1, "stop": ["\n"],
            "chat_template_kwargs": { "enable_thinking": false },
            "response_format": { "type": "json_schema", "json_schema":
                { "name": "answer", "strict": true, "schema": { "type": "object" } } },
            "tools": [{ "type": "function", "function": { "name": "look",
                "description": "Looks.", "parameters": { "type": "object" } } }],
            "messages": [
                { "role": "system", "content": "Be kind." },
                { "role": "user", "content": [
                    { "type": "text", "text": "What is this?" },
                    { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw==" } },
                    { "type": "image_url", "image_url": { "url": "data:image/jpeg;base64,/9j/" } },
                ] },
                { "role": "assistant", "content": null, "tool_calls": [{ "id": "c1",
                    "type": "function",
                    "function": { "name": "look", "arguments": "{\"at\":1}" } }] },
                { "role": "tool", "content": "a cat", "tool_call_id": "c1" },
            ],
        });
        assert_eq!(body, expected);
        let standard = chat("m", &question(), Words::Standard).unwrap();
        let left_out = [
            "top_k",
            "min_p",
            "repeat_penalty",
            "repetition_penalty",
            "chat_template_kwargs",
        ];
        for field in left_out {
            assert!(standard.get(field).is_none(), "{field}");
        }
        assert_eq!(
            standard.as_object().unwrap().len() + left_out.len(),
            body.as_object().unwrap().len()
        );
        assert!(standard.get("stream_options").is_some());
        let old = chat("m", &question(), Words::Old).unwrap();
        assert!(old.get("stream_options").is_none());
        let fields = |body: &Value| body.as_object().unwrap().len();
        assert_eq!(fields(&old) + 1, fields(&standard));
    }

    #[test]
    fn what_is_not_said_is_the_servers_to_choose() {
        let mut bare = v1::Generate {
            sampling: Some(v1::Sampling {
                top_p: 1.0,
                ..Default::default()
            }),
            ..Default::default()
        };
        let body = chat("m", &bare, Words::All).unwrap();
        let expected = json!({
            "model": "m", "stream": true, "messages": [], "temperature": 0.0,
            "stream_options": { "include_usage": true },
        });
        assert_eq!(body, expected);
        // As long as there is room for is no number either.
        bare.max_tokens = u32::MAX;
        assert_eq!(chat("m", &bare, Words::All).unwrap(), expected);
    }

    #[test]
    fn what_is_no_schema_and_no_picture_is_not_sent() {
        for (change, what) in [
            (
                (|q| q.format = "[".into()) as fn(&mut v1::Generate),
                "an answer by this schema",
            ),
            (
                |q| q.tools[0].parameters = "7".into(),
                "tools with such arguments",
            ),
            (
                |q| q.turns[1].images[0] = b"GIF89a".to_vec(),
                "images that are neither PNG nor JPEG",
            ),
        ] {
            let mut asked = question();
            change(&mut asked);
            let refused = chat("m", &asked, Words::All);
            assert_eq!(refused, Err(BackendError::NotCapable { what }));
        }
    }
}
