//! How answers are told as Ollama tells them.

use std::time::Duration;

use aico_contracts::v1;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::programs::Dialect;
use crate::programs::answer::{Figures, Piece, Whole};
use crate::programs::course::{Moved, Shape};

/// Where the words of an answer stand.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Chat,
    Generate,
}

/// One answer. Each line of it is an object of its own.
pub(super) struct Lines {
    pub(super) kind: Kind,
    /// As it was asked for.
    pub(super) model: String,
    /// What the model thinks is told too.
    pub(super) thinking: bool,
}

impl Lines {
    fn object(&self, text: &str, thinking: &str) -> Value {
        let mut object = json!({
            "model": self.model,
            "created_at": jiff::Timestamp::now().to_string(),
            "done": false,
        });
        match self.kind {
            Kind::Chat => {
                object["message"] = json!({ "role": "assistant", "content": text });
                if !thinking.is_empty() {
                    object["message"]["thinking"] = thinking.into();
                }
            }
            Kind::Generate => {
                object["response"] = text.into();
                if !thinking.is_empty() {
                    object["thinking"] = thinking.into();
                }
            }
        }
        object
    }
}

impl Shape for Lines {
    const DIALECT: Dialect = Dialect::Ollama;
    const STREAM: &'static str = "application/x-ndjson";
    /// As its version 0.12.
    const DEFAULT: v1::Sampling = v1::Sampling {
        temperature: 0.8,
        top_p: 0.9,
        top_k: 40,
        min_p: 0.0,
        repeat_penalty: 1.1,
        seed: 0,
        stop: Vec::new(),
    };

    fn piece(&mut self, piece: Piece) -> Option<Bytes> {
        let object = match piece {
            Piece::Text(text) => self.object(&text, ""),
            Piece::Thinking(_) if !self.thinking => return None,
            Piece::Thinking(text) => self.object("", &text),
            Piece::Call(one) => {
                let mut object = self.object("", "");
                object["message"]["tool_calls"] = json!([call(&one)]);
                object
            }
        };
        Some(line(&object.to_string()))
    }

    fn end(&mut self, figures: &Figures) -> Bytes {
        let mut object = self.object("", "");
        finish(&mut object, figures);
        line(&object.to_string())
    }

    fn broken(&mut self, error: &str) -> Bytes {
        line(error)
    }

    fn whole(self, whole: Whole) -> Value {
        let thinking = match self.thinking {
            true => whole.thinking.as_str(),
            false => "",
        };
        let mut object = self.object(&whole.text, thinking);
        if !whole.calls.is_empty() {
            object["message"]["tool_calls"] = whole.calls.iter().map(call).collect();
        }
        finish(&mut object, &whole.figures);
        object
    }

    fn moved(self, moved: Moved) -> Value {
        let mut object = self.object("", "");
        object["done"] = true.into();
        object["done_reason"] = match moved {
            Moved::Loaded => "load",
            Moved::Unloaded => "unload",
        }
        .into();
        object
    }
}

/// Ollama hands the arguments over as an object, and names no call.
fn call(call: &v1::ToolCall) -> Value {
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
    json!({ "function": { "name": call.name, "arguments": arguments } })
}

fn finish(object: &mut Value, figures: &Figures) {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let after = figures.total.saturating_sub(figures.first_token);
    object["done"] = true.into();
    object["done_reason"] = match figures.cut {
        true => "length",
        false => "stop",
    }
    .into();
    object["total_duration"] = nanos(figures.total).into();
    // The wait for the first word is the prompt's: loading is not told apart.
    object["load_duration"] = 0.into();
    object["prompt_eval_count"] = figures.prompt_tokens.into();
    object["prompt_eval_duration"] = nanos(figures.first_token).into();
    object["eval_count"] = figures.answer_tokens.into();
    object["eval_duration"] = nanos(after).into();
    figures.add_ours(object);
}

fn line(text: &str) -> Bytes {
    Bytes::from(format!("{text}\n"))
}
