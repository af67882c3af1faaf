//! OpenAI's shapes: `/v1/chat/completions`, `/v1/models`, `/v1/embeddings`.

mod request;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use aico_access::Action;
use aico_contracts::v1;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Dialect;
use super::answer::{Answer, Figures, Item};
use super::models::{self, Askable};
use super::pass::Pass;
use super::refusal::Refusal;
use crate::app::App;
use crate::caller::Caller;
use crate::input::{Ids, Input};
use request::{Chat, Embeddings};

const HERE: Dialect = Dialect::OpenAi;

/// What is chosen where nothing is said, as OpenAI documents it.
const DEFAULT: v1::Sampling = v1::Sampling {
    temperature: 1.0,
    top_p: 1.0,
    top_k: 0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    seed: 0,
    stop: Vec::new(),
};

fn answered(problem: crate::problem::Problem) -> Refusal {
    Refusal::of_answer(HERE, &problem)
}

fn refused(problem: crate::problem::Problem) -> Refusal {
    Refusal::of(HERE, &problem)
}

/// Lists what can be asked, in OpenAI's shape.
#[utoipa::path(get, path = "/v1/models", tag = "programs", operation_id = "openai_models",
    responses((status = 200, description = "As OpenAI's list of models.", body = Value)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Value>, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramLook).map_err(refused)?;
    let all = models::all(&app, pass.person).await.map_err(refused)?;
    let data: Vec<_> = all.iter().map(model).collect();
    Ok(Json(json!({ "object": "list", "data": data })))
}

/// One of them.
#[utoipa::path(get, path = "/v1/models/{model}", tag = "programs",
    operation_id = "openai_model",
    params(("model" = String, Path, description = "Its name.")),
    responses((status = 200, description = "As OpenAI's model.", body = Value)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<Json<Value>, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramLook).map_err(refused)?;
    let name: String = ids.get("model").map_err(refused)?;
    Ok(Json(model(&whom(&app, &pass, &name).await?)))
}

fn model(askable: &Askable) -> Value {
    let created = askable.modified().duration_since(UNIX_EPOCH);
    json!({
        "id": askable.name(),
        "object": "model",
        "created": created.unwrap_or_default().as_secs(),
        "owned_by": "aico",
    })
}

async fn whom(app: &App, pass: &Pass, name: &str) -> Result<Askable, Refusal> {
    let found = models::find(app, pass.person, name)
        .await
        .map_err(refused)?;
    found.map_err(|known| {
        let message = match known {
            true => {
                "This model is not the one that answers now. The owner chooses it in Settings or \
                 with `aico model use`."
            }
            false => "There is no such model. `/v1/models` lists what can be asked.",
        };
        Refusal::new(StatusCode::NOT_FOUND, "model_not_found", message)
    })
}

/// Answers a chat: a model, or the companion as the model `aico`.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "programs",
    operation_id = "openai_chat", request_body = Value,
    responses((status = 200, description = "As OpenAI's chat completion, or its chunks as \
        server-sent events.", body = Value)))]
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramAsk).map_err(refused)?;
    let chat: Chat = input.json().await.map_err(refused)?;
    let asked = chat.check()?;
    let whom = whom(&app, &pass, &asked.model).await?;
    let told = Told {
        id: format!("chatcmpl-{}", Uuid::new_v4().simple()),
        model: whom.name(),
        created: jiff::Timestamp::now().as_second(),
        usage: asked.usage,
    };
    let answer = Answer::begin(&app, pass, &whom, &asked.question, &DEFAULT)
        .await
        .map_err(answered)?;
    if asked.stream {
        return Ok(events(answer, told));
    }
    let whole = answer.whole().await.map_err(answered)?;
    let mut message = json!({ "role": "assistant", "content": whole.text, "refusal": null });
    if !whole.thinking.is_empty() {
        message["reasoning_content"] = whole.thinking.into();
    }
    let mut body = told.head("chat.completion");
    body["choices"] = json!([{
        "index": 0,
        "message": message,
        "logprobs": null,
        "finish_reason": finish(&whole.figures),
    }]);
    body["usage"] = usage(&whole.figures);
    dropped(&mut body, &whole.figures);
    Ok(Json(body).into_response())
}

/// Embeddings: no engine here makes them yet, and that is said.
#[utoipa::path(post, path = "/v1/embeddings", tag = "programs",
    operation_id = "openai_embeddings", request_body = Value,
    responses((status = 200, description = "Not yet: every model answers that it has none.",
        body = Value)))]
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramAsk).map_err(refused)?;
    let form: Embeddings = input.json().await.map_err(refused)?;
    whom(&app, &pass, &form.checked()?).await?;
    Err(Refusal::unsupported(
        "model",
        "This model makes no embeddings, and AICO has no other that does.",
    ))
}

/// What every piece of one answer repeats.
struct Told {
    id: String,
    model: String,
    created: i64,
    /// Asked for in a stream.
    usage: bool,
}

impl Told {
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

fn finish(figures: &Figures) -> &'static str {
    match figures.cut {
        true => "length",
        false => "stop",
    }
}

fn usage(figures: &Figures) -> Value {
    json!({
        "prompt_tokens": figures.prompt_tokens,
        "completion_tokens": figures.answer_tokens,
        "total_tokens": figures.prompt_tokens.saturating_add(figures.answer_tokens),
        "prompt_tokens_details": { "cached_tokens": figures.cached_tokens },
    })
}

/// Not OpenAI's, which would refuse: the oldest turns did not fit and were left out.
fn dropped(body: &mut Value, figures: &Figures) {
    if figures.dropped_turns > 0 {
        body["dropped_turns"] = figures.dropped_turns.into();
    }
}

fn event(data: &str) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

fn events(answer: Answer, told: Told) -> Response {
    let start = json!({ "role": "assistant", "content": "" });
    let start = event(&told.chunk(&start, None).to_string());
    let rest = stream::unfold(Some((answer, told)), |state| async move {
        let (mut answer, told) = state?;
        let delta = |name: &str, text: String| json!({ name: text });
        match answer.next().await? {
            Ok(Item::Text(text)) => {
                let chunk = told.chunk(&delta("content", text), None).to_string();
                Some((event(&chunk), Some((answer, told))))
            }
            Ok(Item::Thinking(text)) => {
                let chunk = told.chunk(&delta("reasoning_content", text), None);
                Some((event(&chunk.to_string()), Some((answer, told))))
            }
            Ok(Item::End(figures)) => {
                let mut chunk = told.chunk(&json!({}), Some(finish(&figures)));
                dropped(&mut chunk, &figures);
                let mut last = event(&chunk.to_string()).to_vec();
                if told.usage {
                    let mut chunk = told.head("chat.completion.chunk");
                    chunk["choices"] = json!([]);
                    chunk["usage"] = usage(&figures);
                    last.extend_from_slice(&event(&chunk.to_string()));
                }
                last.extend_from_slice(b"data: [DONE]\n\n");
                Some((last.into(), None))
            }
            // No `[DONE]`: it was not.
            Err(problem) => {
                let refusal = Refusal::of_answer(HERE, &problem);
                Some((event(&refusal.json(HERE)), None))
            }
        }
    });
    let all = stream::StreamExt::chain(stream::iter([start]), rest);
    let all = stream::StreamExt::map(all, Ok::<_, Infallible>);
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(all)).into_response()
}
