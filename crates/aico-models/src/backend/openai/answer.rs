//! What a server answers: pieces of text, of thinking and of calls, put together.

use std::collections::BTreeMap;

use aico_contracts::v1;
use aico_contracts::v1::generated_end::Reason;
use serde::Deserialize;
use serde_json::Value;

use super::refusal;
use crate::backend::{BackendError, Item};
use crate::calls;

/// Most calls of one answer.
const CALLS: usize = 128;
/// Most bytes of an answer.
const LONGEST: usize = 16 << 20;

/// One piece of a stream, or a whole answer. Fields that nobody needs are not named.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default, alias = "message")]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: Option<u32>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<Value>,
}

#[derive(Deserialize, Default, Clone, Copy)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u32>,
    #[serde(default)]
    completion_tokens: Option<u32>,
    #[serde(default)]
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize, Default, Clone, Copy)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u32>,
}

#[derive(Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

/// An answer as far as it has come.
#[derive(Default)]
pub(super) struct Answer {
    calls: BTreeMap<u32, Call>,
    usage: Usage,
    reason: Option<Reason>,
    bytes: usize,
}

impl Answer {
    /// Reads one piece; `out` gets what can be handed on.
    pub(super) fn take(&mut self, data: &[u8], out: &mut Vec<Item>) -> Result<(), BackendError> {
        self.bytes += data.len();
        if self.bytes > LONGEST {
            return Err(BackendError::Unreadable);
        }
        let value: Value = serde_json::from_slice(data).map_err(|_| BackendError::Unreadable)?;
        if let Some(error) = refusal::error_of(&value) {
            return Err(refusal::amid(error));
        }
        // A list would be read as the fields in their order.
        if !value.is_object() {
            return Err(BackendError::Unreadable);
        }
        let chunk: Chunk = serde_json::from_value(value).map_err(|_| BackendError::Unreadable)?;
        if let Some(usage) = chunk.usage {
            self.usage = usage;
        }
        // One answer was asked for.
        for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
            if let Some(delta) = choice.delta {
                self.add(delta, out)?;
            }
            if let Some(reason) = choice.finish_reason {
                self.reason = Some(match reason.as_str() {
                    "length" => Reason::Length,
                    // The server gave it up.
                    "abort" | "error" => return Err(BackendError::CutOff),
                    _ => Reason::Stop,
                });
            }
        }
        Ok(())
    }

    fn add(&mut self, delta: Delta, out: &mut Vec<Item>) -> Result<(), BackendError> {
        let thinking = delta.reasoning_content.or(delta.reasoning);
        if let Some(text) = thinking.filter(|text| !text.is_empty()) {
            out.push(Item::Thinking(text));
        }
        if let Some(text) = delta.content.filter(|text| !text.is_empty()) {
            out.push(Item::Text(text));
        }
        for call in delta.tool_calls.unwrap_or_default() {
            let at = self.place(&call);
            if self.calls.len() >= CALLS && !self.calls.contains_key(&at) {
                return Err(BackendError::Unreadable);
            }
            let known = self.calls.entry(at).or_default();
            if let Some(id) = call.id.filter(|_| known.id.is_empty()) {
                known.id = id;
            }
            let Some(function) = call.function else {
                continue;
            };
            if let Some(name) = function.name.filter(|_| known.name.is_empty()) {
                known.name = name;
            }
            match function.arguments {
                None | Some(Value::Null) => {}
                Some(Value::String(part)) => known.arguments.push_str(&part),
                // Some servers give the object itself.
                Some(whole) => known.arguments = whole.to_string(),
            }
        }
        Ok(())
    }

    /// Which call a piece belongs to, where it does not say so: the last one, or the next when it
    /// brings another id.
    fn place(&self, call: &CallDelta) -> u32 {
        if let Some(index) = call.index {
            return index;
        }
        match self.calls.last_key_value() {
            None => 0,
            Some((last, known)) => match &call.id {
                Some(id) if !id.is_empty() && *id != known.id => last.saturating_add(1),
                _ => *last,
            },
        }
    }

    /// Whether the server told why it ended.
    pub(super) fn has_ended(&self) -> bool {
        self.reason.is_some()
    }

    /// Whether it writes a call, which nothing is handed on of yet.
    pub(super) fn is_calling(&self) -> bool {
        !self.calls.is_empty()
    }

    /// The calls, which are whole only at the end. What only looks like one is the text that it is,
    /// and where the answer was cut off in it, nothing.
    pub(super) fn calls(&mut self) -> Vec<Item> {
        let cut = self.reason == Some(Reason::Length);
        let calls = std::mem::take(&mut self.calls);
        let last = calls.last_key_value().map(|(index, _)| *index);
        calls
            .into_iter()
            .filter_map(|(index, call)| {
                let arguments = match call.arguments.trim() {
                    // Cut off before the first of them.
                    "" if cut && Some(index) == last => return None,
                    "" => "{}",
                    text => text,
                };
                let object = serde_json::from_str::<Value>(arguments);
                if call.name.is_empty() || !object.is_ok_and(|value| value.is_object()) {
                    let text = format!("{} {}", call.name, call.arguments);
                    return (!cut).then(|| Item::Text(text.trim().to_owned()));
                }
                Some(Item::ToolCall(v1::ToolCall {
                    arguments: arguments.to_owned(),
                    id: match call.id.as_str() {
                        "" => calls::id(),
                        _ => call.id,
                    },
                    name: call.name,
                }))
            })
            .collect()
    }

    /// The figures; the times are the asker's.
    pub(super) fn end(&self) -> v1::GeneratedEnd {
        let usage = self.usage;
        let cached = usage.prompt_tokens_details.and_then(|it| it.cached_tokens);
        v1::GeneratedEnd {
            reason: self.reason.unwrap_or(Reason::Stop).into(),
            prompt_tokens: usage.prompt_tokens.unwrap_or_default(),
            cached_tokens: cached.unwrap_or_default(),
            answer_tokens: usage.completion_tokens.unwrap_or_default(),
            ..v1::GeneratedEnd::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> Result<(Vec<Item>, v1::GeneratedEnd), BackendError> {
        let (mut answer, mut out) = (Answer::default(), Vec::new());
        for piece in pieces {
            answer.take(piece.as_bytes(), &mut out)?;
        }
        out.extend(answer.calls());
        Ok((out, answer.end()))
    }

    fn call(id: &str, name: &str, arguments: &str) -> Item {
        Item::ToolCall(v1::ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
        })
    }

    #[test]
    fn text_thinking_calls_and_figures_are_put_together() {
        let (items, end) = read(&[
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"reasoning":"m","content":""}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"Hi"}},{"index":1,"delta":{"content":"no"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":""}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}},{"index":0,"function":{"arguments":":1}"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":3}}}"#,
        ])
        .unwrap();
        assert_eq!(
            items,
            [
                Item::Thinking("hm".into()),
                Item::Thinking("m".into()),
                Item::Text("Hi".into()),
                call("a", "f", r#"{"x":1}"#),
                call("b", "g", "{}"),
            ]
        );
        let figures = (end.prompt_tokens, end.cached_tokens, end.answer_tokens);
        assert_eq!((end.reason(), figures), (Reason::Stop, (9, 3, 4)));
    }

    #[test]
    fn calls_without_index_or_id_and_an_answer_in_one_piece_are_read_too() {
        let (items, end) = read(&[
            r#"{"choices":[{"message":{"content":"x","tool_calls":[
                {"id":"a","function":{"name":"f","arguments":{"y":2}}},
                {"id":"b","function":{"name":"g","arguments":"{}"}}]},"finish_reason":"length"}]}"#,
        ])
        .unwrap();
        assert_eq!(end.reason(), Reason::Length);
        assert_eq!(
            items[1..],
            [call("a", "f", r#"{"y":2}"#), call("b", "g", "{}")]
        );
        let (items, _) = read(&[
            r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}"#,
        ])
        .unwrap();
        let [Item::ToolCall(made_up)] = &items[..] else {
            panic!("{items:?}");
        };
        assert_eq!(items, [call(&made_up.id, "f", "{}")]);
        assert!(!made_up.id.is_empty());
    }

    #[test]
    fn a_call_that_is_none_is_left_out_where_it_was_cut_off_and_else_told_as_text() {
        let whole = r#"{"choices":[{"delta":{"content":"x","tool_calls":[
            {"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}}]}"#;
        let broken = |index: u32, name: &str, arguments: &str| {
            serde_json::json!({ "choices": [{ "delta": { "tool_calls": [{ "index": index,
                "id": "b", "function": { "name": name, "arguments": arguments } }] } }] })
            .to_string()
        };
        let ends = |reason: &str| format!(r#"{{"choices":[{{"finish_reason":"{reason}"}}]}}"#);
        let before = [Item::Text("x".into()), call("a", "f", "{}")];
        for (name, arguments, text) in [
            ("g", r#"{"y": "zeb"#, r#"g {"y": "zeb"#),
            ("", "{}", "{}"),
            ("g", "[1]", "g [1]"),
        ] {
            let one = broken(1, name, arguments);
            let (items, end) = read(&[whole, &one, &ends("length")]).unwrap();
            assert_eq!((&items[..], end.reason()), (&before[..], Reason::Length));
            let (items, end) = read(&[whole, &one, &ends("tool_calls")]).unwrap();
            let expected = [&before[..], &[Item::Text(text.into())]].concat();
            assert_eq!((items, end.reason()), (expected, Reason::Stop));
        }
        let begun = broken(1, "g", "");
        let (items, _) = read(&[whole, &begun, &ends("length")]).unwrap();
        assert_eq!(items, before);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        for pieces in [
            &[r#"{"choices":[{"delta":{"content":"#][..],
            &["[]"],
            &[r#"{"choices":7}"#],
            &[r#"{"choices":[{"delta":{"content":7}}]}"#],
        ] {
            assert_eq!(
                read(pieces).err(),
                Some(BackendError::Unreadable),
                "{pieces:?}"
            );
        }
        let many: String = (0..200)
            .map(|index| format!(r#"{{"index":{index},"function":{{"name":"f"}}}},"#))
            .collect();
        let many = format!(
            r#"{{"choices":[{{"delta":{{"tool_calls":[{}]}}}}]}}"#,
            many.trim_end_matches(',')
        );
        assert_eq!(read(&[&many]).err(), Some(BackendError::Unreadable));
        let long = format!(r#"{{"choices":[],"x":"{}"}}"#, "y".repeat(LONGEST));
        assert_eq!(read(&[&long]).err(), Some(BackendError::Unreadable));
        let given_up = read(&[r#"{"choices":[{"finish_reason":"abort"}]}"#]);
        assert_eq!(given_up.err(), Some(BackendError::CutOff));
    }
}
