//! One conversation's next answer.

use std::time::{Duration, Instant};

use ::http::Method;
use aico_contracts::v1;
use aico_contracts::v1::generated_end::Reason;
use aico_contracts::v1::turn::Role;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::about::About;
use super::http::{self, Http};
use super::{Ollama, wire};
use crate::backend::budget::{answer_limit, context_limit};
use crate::backend::{BackendError, Capability, Item};
use crate::calls;

/// Times that a question which is too long after all is shortened.
const SHORTENED: u32 = 3;
/// After some thirty equal pieces in a row Ollama ends the answer, and does not say so: a clean
/// end without `done`, after at least so many.
const CIRCLES: u32 = 20;
/// Most bytes of one answer; a model that does not end is ended.
const ANSWER_LIMIT: usize = 8 << 20;

impl Ollama {
    pub(super) async fn chat(
        &self,
        model: &str,
        question: &v1::Generate,
        items: &mpsc::Sender<Item>,
    ) -> Result<v1::GeneratedEnd, BackendError> {
        let http = self.http().await?;
        let about = self.about_model(&http, model).await?;
        let request = Request::new(question, &about)?;
        // Whoever asked may go while it waits for a place.
        let _place = tokio::select! {
            place = self.room.enter(self, &http, model) => place?,
            () = items.closed() => return Ok(cancelled(Instant::now())),
        };
        let began = Instant::now();
        let context = match about.context_length {
            0 => self.config.context,
            most => self.config.context.min(most),
        };
        // What is loaded stays the same for every question; what is read of one need not.
        let reads = context_limit(question, context);
        let mut leave_out = 0;
        for again in 0..=SHORTENED {
            let chosen = self
                .budget
                .choose(model, question, request.fixed, reads, leave_out)
                .ok_or(BackendError::TooLong)?;
            let body = request.body(self, model, question, &chosen.turns, context)?;
            let told = self.tell(&http, &body, items, began).await;
            let mut end = match told {
                // Newer ones say so; nothing was handed over yet.
                Err(BackendError::TooLong) if again < SHORTENED => match chosen.fewer {
                    Some(fewer) => {
                        leave_out = fewer;
                        continue;
                    }
                    None => return Err(BackendError::TooLong),
                },
                other => other?,
            };
            self.budget.learn(model, chosen.bytes, end.prompt_tokens);
            end.dropped_turns = chosen.dropped;
            return Ok(end);
        }
        Err(BackendError::TooLong)
    }

    /// Hands over what comes.
    async fn tell(
        &self,
        http: &Http,
        body: &wire::ChatRequest<'_>,
        items: &mpsc::Sender<Item>,
        began: Instant,
    ) -> Result<v1::GeneratedEnd, BackendError> {
        let limits = self.config.limits;
        let offers_tools = !body.tools.is_empty();
        let body = http::json(body)?;
        let asked = http.ask(Method::POST, "/api/chat", body, limits.first_token);
        // Whoever asked may go while the model is still being loaded.
        let answer = tokio::select! {
            answer = asked => answer?,
            () = items.closed() => return Ok(cancelled(began)),
        };
        let left = limits.first_token.saturating_sub(began.elapsed());
        // It keeps a call to itself until it is whole.
        let next = match offers_tools {
            true => limits.next_token.max(limits.first_token),
            false => limits.next_token,
        };
        let mut lines = answer.lines(left.max(Duration::from_secs(1)), next);
        let (mut first, mut bytes) = (None, 0);
        let (mut pieces, mut equal, mut piece) = (0_u32, 0_u32, String::new());
        loop {
            let line = tokio::select! {
                line = lines.next::<wire::ChatLine>() => line?,
                () = items.closed() => return Ok(cancelled(began)),
            };
            let Some(line) = line else {
                if equal < CIRCLES {
                    return Err(BackendError::CutOff);
                }
                return Ok(v1::GeneratedEnd {
                    reason: Reason::Length.into(),
                    answer_tokens: pieces,
                    first_token_us: micros(first.unwrap_or_default()),
                    total_us: micros(began.elapsed()),
                    ..v1::GeneratedEnd::default()
                });
            };
            let spoken = line.message.unwrap_or_default();
            let mut told = Vec::new();
            if let Some(thinking) = spoken.thinking.filter(|text| !text.is_empty()) {
                bytes += thinking.len();
                told.push(Item::Thinking(thinking));
            }
            if !spoken.content.is_empty() {
                bytes += spoken.content.len();
                pieces += 1;
                let now = spoken.content.trim();
                if now == piece {
                    equal += 1;
                } else {
                    (equal, piece) = (0, now.to_owned());
                }
                told.push(Item::Text(spoken.content));
            }
            for call in spoken.tool_calls.unwrap_or_default() {
                told.push(Item::ToolCall(tool_call(call)?));
            }
            for item in told {
                first.get_or_insert_with(|| began.elapsed());
                if items.send(item).await.is_err() {
                    return Ok(cancelled(began));
                }
            }
            if line.done {
                return Ok(v1::GeneratedEnd {
                    reason: match line.done_reason.as_str() {
                        "length" => Reason::Length,
                        _ => Reason::Stop,
                    }
                    .into(),
                    prompt_tokens: line.prompt_eval_count,
                    answer_tokens: line.eval_count,
                    first_token_us: micros(first.unwrap_or_else(|| began.elapsed())),
                    total_us: micros(began.elapsed()),
                    ..v1::GeneratedEnd::default()
                });
            }
            if bytes > ANSWER_LIMIT {
                return Err(BackendError::Unreadable);
            }
        }
    }
}

fn cancelled(began: Instant) -> v1::GeneratedEnd {
    v1::GeneratedEnd {
        reason: Reason::Cancelled.into(),
        total_us: micros(began.elapsed()),
        ..v1::GeneratedEnd::default()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A call with an id, which older ones do not give it.
fn tool_call(call: wire::Called) -> Result<v1::ToolCall, BackendError> {
    let arguments = match call.function.arguments {
        Value::Object(arguments) => Value::Object(arguments),
        Value::Null => json!({}),
        // Some templates make a text of them.
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(arguments)) => Value::Object(arguments),
            _ => return Err(BackendError::Unreadable),
        },
        _ => return Err(BackendError::Unreadable),
    };
    Ok(v1::ToolCall {
        id: match call.id.as_str() {
            "" => calls::id(),
            _ => call.id,
        },
        name: call.function.name,
        arguments: arguments.to_string(),
    })
}

/// What of a question is the same however many turns go along.
struct Request {
    think: Value,
    format: Option<Value>,
    tools: Vec<Value>,
    /// Bytes of it that the model reads.
    fixed: usize,
}

impl Request {
    fn new(question: &v1::Generate, about: &About) -> Result<Self, BackendError> {
        let lacks = |what| BackendError::NotCapable { what };
        if !about.local {
            return Err(BackendError::Elsewhere);
        }
        // A list without any word is of one that does not tell: then it is its word that counts.
        let can = |what| about.can(what) || about.capabilities.is_empty();
        if !can(Capability::Chat) {
            return Err(lacks("chat"));
        }
        if !question.tools.is_empty() && !can(Capability::Tools) {
            return Err(lacks("tools"));
        }
        let images = question.turns.iter().any(|turn| !turn.images.is_empty());
        if images && !can(Capability::Images) {
            return Err(lacks("images"));
        }
        let thinks = about.can(Capability::Thinking);
        if question.think == Some(true) && !thinks {
            return Err(lacks("thinking"));
        }
        let format = format(&question.format)?;
        let tools: Result<Vec<_>, _> = question.tools.iter().map(tool).collect();
        let tools = tools?;
        let fixed = tools.iter().map(|tool| tool.to_string().len()).sum();
        Ok(Self {
            think: think(question.think.unwrap_or(thinks) && thinks, question, about),
            format,
            tools,
            fixed,
        })
    }

    fn body<'a>(
        &self,
        ollama: &Ollama,
        model: &'a str,
        question: &v1::Generate,
        turns: &[&v1::Turn],
        context: u32,
    ) -> Result<wire::ChatRequest<'a>, BackendError> {
        let messages: Result<Vec<_>, _> = turns.iter().map(|turn| message(turn)).collect();
        Ok(wire::ChatRequest {
            model,
            messages: messages?,
            stream: true,
            keep_alive: ollama.config.keep_alive_seconds(),
            think: Some(self.think.clone()),
            format: self.format.clone(),
            tools: self.tools.clone(),
            options: Some(options(question, context)),
            truncate: Some(false),
            shift: Some(false),
        })
    }
}

/// Whether it thinks, and how much where it knows degrees: one family does, and all others refuse
/// the word.
fn think(wanted: bool, question: &v1::Generate, about: &About) -> Value {
    let degrees = matches!(about.architecture.as_str(), "gptoss" | "gpt-oss");
    match question.effort.as_str() {
        effort @ ("low" | "medium" | "high") if wanted && degrees => effort.into(),
        _ => wanted.into(),
    }
}

/// What is sampled, as the engine within AICO would.
fn options(question: &v1::Generate, context: u32) -> wire::Options {
    let sampling = question.sampling.clone().unwrap_or_default();
    let or = |value: f32, default: f32| if value > 0.0 { value } else { default };
    wire::Options {
        num_ctx: context,
        num_predict: answer_limit(question).map_or(-1, i64::from),
        temperature: Some(sampling.temperature.clamp(0.0, 10.0)),
        top_p: Some(or(sampling.top_p, 1.0).min(1.0)),
        top_k: Some(sampling.top_k),
        min_p: Some(sampling.min_p.clamp(0.0, 1.0)),
        repeat_penalty: Some(or(sampling.repeat_penalty, 1.0).min(10.0)),
        // 0 is random here; there it is a seed like any other.
        seed: (sampling.seed != 0).then_some(sampling.seed & 0x7fff_ffff),
        stop: sampling.stop,
    }
}

fn format(format: &str) -> Result<Option<Value>, BackendError> {
    match format {
        "" => Ok(None),
        "json" => Ok(Some(json!("json"))),
        schema => match serde_json::from_str(schema) {
            Ok(schema @ Value::Object(_)) => Ok(Some(schema)),
            _ => Err(BackendError::Refused { status: 400 }),
        },
    }
}

fn tool(tool: &v1::Tool) -> Result<Value, BackendError> {
    let parameters = match tool.parameters.as_str() {
        "" => json!({"type": "object", "properties": {}}),
        text => match serde_json::from_str(text) {
            Ok(Value::Object(mut schema)) => {
                // Without these, older ones can't read it.
                schema.entry("type").or_insert_with(|| json!("object"));
                schema.entry("properties").or_insert_with(|| json!({}));
                Value::Object(schema)
            }
            _ => return Err(BackendError::Refused { status: 400 }),
        },
    };
    Ok(json!({
        "type": "function",
        "function": {
            "name": tool.name, "description": tool.description, "parameters": parameters,
        },
    }))
}

fn message(turn: &v1::Turn) -> Result<wire::Message, BackendError> {
    let calls: Result<Vec<_>, _> = turn.tool_calls.iter().map(called).collect();
    Ok(wire::Message {
        role: match turn.role() {
            Role::System => "system",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::User | Role::Unspecified => "user",
        },
        content: turn.text.clone(),
        images: turn
            .images
            .iter()
            .map(|bytes| STANDARD.encode(bytes))
            .collect(),
        tool_calls: calls?,
        tool_name: turn.tool_name.clone(),
        tool_call_id: turn.tool_call.clone(),
    })
}

fn called(call: &v1::ToolCall) -> Result<Value, BackendError> {
    let arguments: Value = match call.arguments.as_str() {
        "" => json!({}),
        text => serde_json::from_str(text).map_err(|_| BackendError::Refused { status: 400 })?,
    };
    Ok(json!({
        "id": call.id,
        "function": { "name": call.name, "arguments": arguments },
    }))
}
