//! How answers, models and vectors are told as OpenAI tells them.

use std::time::UNIX_EPOCH;

use aico_contracts::v1;
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::programs::Dialect;
use crate::programs::answer::{Figures, Piece, Whole};
use crate::programs::course::{Moved, Shape};
use crate::programs::models::Askable;

/// What every piece of one answer repeats.
pub(super) struct Completion {
    id: String,
    model: String,
    created: i64,
    /// The figures are asked for in a stream.
    usage: bool,
    /// Calls so far.
    called: usize,
}

impl Completion {
    pub(super) fn new(whom: &Askable, usage: bool) -> Self {
        Self {
            id: format!("chatcmpl-{}", Uuid::new_v4().simple()),
            model: whom.name().to_owned(),
            created: jiff::Timestamp::now().as_second(),
            usage,
            called: 0,
        }
    }

    fn head(&self, object: &str) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": null,
        })
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>) -> Value {
        let mut chunk = self.head("chat.completion.chunk");
        chunk["choices"] = json!([{
            "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish,
        }]);
        if self.usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

impl Shape for Completion {
    const DIALECT: Dialect = Dialect::OpenAi;
    const STREAM: &'static str = "text/event-stream; charset=utf-8";
    /// As OpenAI documents it.
    const DEFAULT: v1::Sampling = v1::Sampling {
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        seed: 0,
        stop: Vec::new(),
    };

    fn opening(&mut self) -> Option<Bytes> {
        let start = json!({ "role": "assistant", "content": "" });
        Some(event(&self.chunk(&start, None)))
    }

    fn piece(&mut self, piece: Piece) -> Option<Bytes> {
        let delta = match piece {
            Piece::Text(text) => json!({ "content": text }),
            Piece::Thinking(text) => json!({ "reasoning_content": text }),
            Piece::Call(one) => {
                let mut one = call(&one);
                one["index"] = self.called.into();
                self.called += 1;
                json!({ "tool_calls": [one] })
            }
        };
        Some(event(&self.chunk(&delta, None)))
    }

    fn end(&mut self, figures: &Figures) -> Bytes {
        let mut chunk = self.chunk(&json!({}), Some(finish(figures, self.called > 0)));
        figures.add_ours(&mut chunk);
        let mut last = event(&chunk).to_vec();
        if self.usage {
            let mut chunk = self.head("chat.completion.chunk");
            chunk["choices"] = json!([]);
            chunk["usage"] = usage(figures);
            last.extend_from_slice(&event(&chunk));
        }
        last.extend_from_slice(b"data: [DONE]\n\n");
        last.into()
    }

    /// No `[DONE]`: it was not.
    fn broken(&mut self, error: &str) -> Bytes {
        data(error)
    }

    fn whole(self, whole: Whole) -> Value {
        let mut message = json!({ "role": "assistant", "content": whole.text, "refusal": null });
        if !whole.thinking.is_empty() {
            message["reasoning_content"] = whole.thinking.into();
        }
        if !whole.calls.is_empty() {
            if whole.text.is_empty() {
                message["content"] = Value::Null;
            }
            message["tool_calls"] = whole.calls.iter().map(call).collect();
        }
        let mut body = self.head("chat.completion");
        body["choices"] = json!([{
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": finish(&whole.figures, !whole.calls.is_empty()),
        }]);
        body["usage"] = usage(&whole.figures);
        whole.figures.add_ours(&mut body);
        body
    }

    /// This shape always asks something.
    fn moved(self, _: Moved) -> Value {
        self.head("chat.completion")
    }
}

fn finish(figures: &Figures, called: bool) -> &'static str {
    match (figures.cut, called) {
        (true, _) => "length",
        (false, true) => "tool_calls",
        (false, false) => "stop",
    }
}

fn call(call: &v1::ToolCall) -> Value {
    json!({
        "id": format!("call_{}", call.id),
        "type": "function",
        "function": { "name": call.name, "arguments": call.arguments },
    })
}

fn usage(figures: &Figures) -> Value {
    json!({
        "prompt_tokens": figures.prompt_tokens,
        "completion_tokens": figures.answer_tokens,
        "total_tokens": figures.prompt_tokens.saturating_add(figures.answer_tokens),
        "prompt_tokens_details": { "cached_tokens": figures.cached_tokens },
    })
}

fn data(text: &str) -> Bytes {
    Bytes::from(format!("data: {text}\n\n"))
}

fn event(chunk: &Value) -> Bytes {
    data(&chunk.to_string())
}

/// One of those that can be asked, as a list has it.
pub(super) fn model(askable: &Askable) -> Value {
    let created = askable.modified().duration_since(UNIX_EPOCH);
    json!({
        "id": askable.name(),
        "object": "model",
        "created": created.unwrap_or_default().as_secs(),
        "owned_by": askable.owner(),
    })
}

/// A package that makes embeddings.
pub(super) fn package(package: &v1::ModelPackage) -> Value {
    json!({
        "id": package.name,
        "object": "model",
        "created": package.added_unix_ms / 1000,
        "owned_by": "aico",
    })
}

/// As OpenAI packs them: four bytes each, the lowest first.
pub(super) fn packed(vector: &[f32]) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
