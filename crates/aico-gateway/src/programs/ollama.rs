//! Ollama's shapes: `/api/chat`, `/api/generate`, `/api/tags`, `/api/show`, `/api/ps`,
//! `/api/version`, `/api/embed`, as its version 0.12 has them.

mod request;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

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
use sha2::{Digest as _, Sha256};

use super::Dialect;
use super::answer::{Answer, Figures, Item};
use super::models::{self, Askable};
use super::pass::Pass;
use super::refusal::Refusal;
use crate::app::App;
use crate::caller::Caller;
use crate::input::Input;
use request::{Asked, Chat, Embed, Generate, Show};

const HERE: Dialect = Dialect::Ollama;
/// The version whose shapes these are: programs look at it to know what they may expect.
const VERSION: &str = "0.12.0";

/// What Ollama 0.12 chooses where nothing is said.
const DEFAULT: v1::Sampling = v1::Sampling {
    temperature: 0.8,
    top_p: 0.9,
    top_k: 40,
    min_p: 0.0,
    repeat_penalty: 1.1,
    seed: 0,
    stop: Vec::new(),
};

fn answered(problem: crate::problem::Problem) -> Refusal {
    Refusal::of_answer(HERE, &problem)
}

fn refused(problem: crate::problem::Problem) -> Refusal {
    Refusal::of(HERE, &problem)
}

/// The version of Ollama whose shapes these are.
#[utoipa::path(get, path = "/api/version", tag = "programs", operation_id = "ollama_version",
    responses((status = 200, description = "As Ollama's.", body = Value)))]
pub(crate) async fn version(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Value>, Refusal> {
    Pass::new(&app, &caller, Action::ProgramLook).map_err(refused)?;
    Ok(Json(json!({ "version": VERSION })))
}

/// Lists what can be asked, in Ollama's shape.
#[utoipa::path(get, path = "/api/tags", tag = "programs", operation_id = "ollama_tags",
    responses((status = 200, description = "As Ollama's list of models.", body = Value)))]
pub(crate) async fn tags(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Value>, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramLook).map_err(refused)?;
    let all = models::all(&app, pass.person).await.map_err(refused)?;
    let all: Vec<_> = all.iter().map(listed).collect();
    Ok(Json(json!({ "models": all })))
}

/// What is in memory.
#[utoipa::path(get, path = "/api/ps", tag = "programs", operation_id = "ollama_ps",
    responses((status = 200, description = "As Ollama's list of loaded models.", body = Value)))]
pub(crate) async fn ps(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Value>, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramLook).map_err(refused)?;
    let mut loaded = Vec::new();
    if models::is_ready(&app).await {
        let all = models::all(&app, pass.person).await.map_err(refused)?;
        for askable in &all {
            if let Askable::Model(model) = askable {
                let mut row = listed(askable);
                row["size_vram"] = 0.into();
                row["context_length"] = model.context_length.into();
                if let Value::Object(row) = &mut row {
                    row.remove("modified_at");
                }
                loaded.push(row);
            }
        }
    }
    Ok(Json(json!({ "models": loaded })))
}

/// What a model is.
#[utoipa::path(post, path = "/api/show", tag = "programs", operation_id = "ollama_show",
    request_body = Value,
    responses((status = 200, description = "As Ollama's description of a model.",
        body = Value)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<Value>, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramLook).map_err(refused)?;
    let form: Show = input.json().await.map_err(refused)?;
    let name = form.model()?;
    let askable = whom(&app, &pass, &name).await?;
    let mut body = json!({
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(&askable),
        "modified_at": at(askable.modified()),
        "capabilities": ["completion"],
        "model_info": {},
    });
    if let Askable::Model(model) = &askable {
        let family = &model.architecture;
        body["license"] = model.license.as_str().into();
        body["model_info"] = json!({
            "general.architecture": family,
            "general.parameter_count": model.parameters,
            format!("{family}.context_length"): model.context_length,
        });
    }
    Ok(Json(body))
}

/// Answers a chat: a model, or the companion as the model `aico`.
#[utoipa::path(post, path = "/api/chat", tag = "programs", operation_id = "ollama_chat",
    request_body = Value,
    responses((status = 200, description = "As Ollama's chat: JSON lines, or one object.",
        body = Value)))]
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramAsk).map_err(refused)?;
    let form: Chat = input.json().await.map_err(refused)?;
    answer(app, pass, form.check()?, Shape::Chat).await
}

/// Answers a prompt.
#[utoipa::path(post, path = "/api/generate", tag = "programs", operation_id = "ollama_generate",
    request_body = Value,
    responses((status = 200, description = "As Ollama's generation: JSON lines, or one object.",
        body = Value)))]
pub(crate) async fn generate(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramAsk).map_err(refused)?;
    let form: Generate = input.json().await.map_err(refused)?;
    answer(app, pass, form.check()?, Shape::Generate).await
}

/// Embeddings: no engine here makes them yet, and that is said.
#[utoipa::path(post, path = "/api/embed", tag = "programs", operation_id = "ollama_embed",
    request_body = Value,
    responses((status = 200, description = "Not yet: every model answers that it has none.",
        body = Value)))]
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Refusal> {
    no_embeddings(app, caller, input).await
}

/// The older address of the same.
#[utoipa::path(post, path = "/api/embeddings", tag = "programs",
    operation_id = "ollama_embeddings", request_body = Value,
    responses((status = 200, description = "Not yet: every model answers that it has none.",
        body = Value)))]
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Refusal> {
    no_embeddings(app, caller, input).await
}

async fn no_embeddings(app: Arc<App>, caller: Caller, input: Input) -> Result<Response, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramAsk).map_err(refused)?;
    let form: Embed = input.json().await.map_err(refused)?;
    whom(&app, &pass, &form.model()?).await?;
    Err(Refusal::unsupported(
        "model",
        "this model does not support embeddings, and AICO has no other that does",
    ))
}

async fn whom(app: &App, pass: &Pass, name: &str) -> Result<Askable, Refusal> {
    let found = models::find(app, pass.person, name)
        .await
        .map_err(refused)?;
    found.map_err(|known| {
        let message = match known {
            // Only what was asked for is named again, and only where it names something.
            true => format!(
                "model '{name}' is not the one that answers now: the owner chooses it in Settings \
                 or with `aico model use`"
            ),
            false => format!("model '{}' not found", short(name)),
        };
        Refusal::new(StatusCode::NOT_FOUND, "model_not_found", message)
    })
}

/// A name that is told again, bounded.
fn short(name: &str) -> String {
    name.chars()
        .filter(|letter| !letter.is_control())
        .take(120)
        .collect()
}

fn tagged(askable: &Askable) -> String {
    format!("{}:latest", askable.name())
}

fn listed(askable: &Askable) -> Value {
    let size = match askable {
        Askable::Companion => 0,
        Askable::Model(model) => model.size_bytes,
    };
    json!({
        "name": tagged(askable),
        "model": tagged(askable),
        "modified_at": at(askable.modified()),
        "size": size,
        "digest": digest(askable),
        "details": details(askable),
    })
}

/// Stands for the model in lists. Ollama's is of a manifest, which there is none of here.
fn digest(askable: &Askable) -> String {
    let id: &[u8] = match askable {
        Askable::Companion => models::COMPANION.as_bytes(),
        Askable::Model(model) => &model.id,
    };
    hex::encode(Sha256::digest(id))
}

fn details(askable: &Askable) -> Value {
    let (format, family, parameters, quantization) = match askable {
        Askable::Companion => ("aico", models::COMPANION, String::new(), ""),
        Askable::Model(model) => (
            "gguf",
            model.architecture.as_str(),
            parameters(model.parameters),
            model.quantization.as_str(),
        ),
    };
    json!({
        "parent_model": "",
        "format": format,
        "family": family,
        "families": [family],
        "parameter_size": parameters,
        "quantization_level": quantization,
    })
}

/// `8.2B`, as Ollama writes it.
fn parameters(count: u64) -> String {
    let count = count as f64;
    match count {
        c if c >= 1e9 => format!("{:.1}B", c / 1e9),
        c if c >= 1e6 => format!("{:.1}M", c / 1e6),
        c => format!("{:.1}K", c / 1e3),
    }
}

fn at(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

/// Where the words of an answer stand.
#[derive(Clone, Copy)]
enum Shape {
    Chat,
    Generate,
}

impl Shape {
    fn object(self, model: &str, text: &str, thinking: &str) -> Value {
        let mut object = json!({
            "model": model,
            "created_at": jiff::Timestamp::now().to_string(),
            "done": false,
        });
        match self {
            Self::Chat => {
                object["message"] = json!({ "role": "assistant", "content": text });
                if !thinking.is_empty() {
                    object["message"]["thinking"] = thinking.into();
                }
            }
            Self::Generate => {
                object["response"] = text.into();
                if !thinking.is_empty() {
                    object["thinking"] = thinking.into();
                }
            }
        }
        object
    }
}

async fn answer(
    app: Arc<App>,
    pass: Pass,
    asked: Asked,
    shape: Shape,
) -> Result<Response, Refusal> {
    let whom = whom(&app, &pass, &asked.model).await?;
    let model = asked.model;
    let Some(question) = asked.question else {
        // Nothing is asked: the model is loaded for what comes.
        if let Askable::Model(_) = whom {
            models::ready(&app, pass.person).await.map_err(answered)?;
        }
        let mut object = shape.object(&model, "", "");
        object["done"] = true.into();
        object["done_reason"] = "load".into();
        return Ok(Json(object).into_response());
    };
    let answer = Answer::begin(&app, pass, &whom, &question, &DEFAULT)
        .await
        .map_err(answered)?;
    if asked.stream {
        return Ok(lines(answer, model, shape, asked.thinking));
    }
    let whole = answer.whole().await.map_err(answered)?;
    let thinking = match asked.thinking {
        true => whole.thinking.as_str(),
        false => "",
    };
    let mut object = shape.object(&model, &whole.text, thinking);
    finish(&mut object, &whole.figures);
    Ok(Json(object).into_response())
}

fn finish(object: &mut Value, figures: &Figures) {
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
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
    if figures.dropped_turns > 0 {
        // Not Ollama's, which leaves them out in silence.
        object["dropped_turns"] = figures.dropped_turns.into();
    }
}

fn line(text: &str) -> Bytes {
    Bytes::from(format!("{text}\n"))
}

fn lines(answer: Answer, model: String, shape: Shape, thinking: bool) -> Response {
    let all = stream::unfold(Some((answer, model)), move |state| async move {
        let (mut answer, model) = state?;
        loop {
            let object = match answer.next().await? {
                Ok(Item::Text(text)) => shape.object(&model, &text, ""),
                Ok(Item::Thinking(_)) if !thinking => continue,
                Ok(Item::Thinking(text)) => shape.object(&model, "", &text),
                Ok(Item::End(figures)) => {
                    let mut object = shape.object(&model, "", "");
                    finish(&mut object, &figures);
                    return Some((line(&object.to_string()), None));
                }
                Err(problem) => {
                    let refusal = Refusal::of_answer(HERE, &problem);
                    return Some((line(&refusal.json(HERE)), None));
                }
            };
            return Some((line(&object.to_string()), Some((answer, model))));
        }
    });
    let all = stream::StreamExt::map(all, Ok::<_, Infallible>);
    let kind = HeaderValue::from_static("application/x-ndjson");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(all)).into_response()
}
