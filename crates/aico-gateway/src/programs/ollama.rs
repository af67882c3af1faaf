//! Ollama's addresses: `/api/chat`, `/api/generate`, `/api/tags`, `/api/show`, `/api/ps`,
//! `/api/version`, `/api/embed`, as its version 0.12 has them.

mod about;
mod request;
mod telling;

use std::sync::Arc;
use std::time::Instant;

use aico_access::Action;
use aico_contracts::v1;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::Dialect;
use super::course;
use super::embeddings;
use super::images;
use super::memory;
use super::models::{self, Askable};
use super::pass::Pass;
use super::refusal::Refusal;
use crate::app::App;
use crate::caller::Caller;
use crate::input::Input;
use request::{Chat, Embed, Generate, Show, Wanted};
use telling::{Kind, Lines};

const HERE: Dialect = Dialect::Ollama;
/// The version whose shapes these are: programs look at it to know what they may expect.
const VERSION: &str = "0.12.0";

/// The version of Ollama whose shapes these are.
#[utoipa::path(get, path = "/api/version", tag = "programs", operation_id = "ollama_version",
    responses((status = 200, description = "As Ollama's.", body = Value)))]
pub(crate) async fn version(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Value>, Refusal> {
    Pass::new(&app, &caller, Action::ProgramLook)?;
    Ok(Json(json!({ "version": VERSION })))
}

/// Lists what can be asked, in Ollama's shape.
#[utoipa::path(get, path = "/api/tags", tag = "programs", operation_id = "ollama_tags",
    responses((status = 200, description = "As Ollama's list of models.", body = Value)))]
pub(crate) async fn tags(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Value>, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramLook)?;
    let all = models::all(&app, pass.person).await?;
    let mut all: Vec<_> = all.iter().map(about::listed).collect();
    let packages = embeddings::packages(&app, pass.person).await?;
    all.extend(packages.iter().map(about::listed_package));
    Ok(Json(json!({ "models": all })))
}

/// What is in memory.
#[utoipa::path(get, path = "/api/ps", tag = "programs", operation_id = "ollama_ps",
    responses((status = 200, description = "As Ollama's list of loaded models.", body = Value)))]
pub(crate) async fn ps(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Value>, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramLook)?;
    let all = models::all(&app, pass.person).await?;
    let inside = memory::loaded(&app, pass.person).await?;
    let rows = all.iter().filter_map(|askable| {
        let Askable::Model(known) = askable else {
            return None;
        };
        let loaded = inside.iter().find(|one| one.model == known.model.id);
        let beside = !known.model.engine.is_empty() && known.model.loaded;
        (loaded.is_some() || beside).then(|| about::running(askable, known, loaded))
    });
    let rows: Vec<_> = rows.collect();
    Ok(Json(json!({ "models": rows })))
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
    let pass = Pass::new(&app, &caller, Action::ProgramLook)?;
    let form: Show = input.json().await?;
    let name = form.model()?;
    if let Some(package) = embeddings::package(&app, pass.person, &name).await? {
        return Ok(Json(about::shown_package(&package)));
    }
    let found = models::look(&app, pass.person, HERE, &name).await?;
    Ok(Json(about::shown(&found)))
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
    let pass = Pass::new(&app, &caller, Action::ProgramAsk)?;
    let (form, length): (Chat, _) = input.json_with_images(images::BODY).await?;
    let wanted = form.check()?;
    images::are_what_is_large(length, wanted.asked.question.as_ref(), app.limits.body)?;
    answer(&app, pass, wanted, Kind::Chat).await
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
    let pass = Pass::new(&app, &caller, Action::ProgramAsk)?;
    let (form, length): (Generate, _) = input.json_with_images(images::BODY).await?;
    let wanted = form.check()?;
    images::are_what_is_large(length, wanted.asked.question.as_ref(), app.limits.body)?;
    answer(&app, pass, wanted, Kind::Generate).await
}

async fn answer(
    app: &Arc<App>,
    pass: Pass,
    wanted: Wanted,
    kind: Kind,
) -> Result<Response, Refusal> {
    let Wanted { asked, thinking } = wanted;
    let model = asked.model.clone();
    let lines = |_: &Askable| Lines {
        kind,
        model,
        thinking,
    };
    course::answer(app, pass, asked, lines).await
}

/// Turns texts into vectors.
#[utoipa::path(post, path = "/api/embed", tag = "programs", operation_id = "ollama_embed",
    request_body = Value,
    responses((status = 200, description = "As Ollama's embeddings.", body = Value)))]
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Refusal> {
    let begun = Instant::now();
    let made = vectors(&app, &caller, input, false).await?;
    let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let (tokens, truncated) = (embeddings::tokens(&made), embeddings::truncated(&made));
    let vectors: Vec<_> = made.items.into_iter().map(|item| item.vector).collect();
    let mut body = json!({
        "model": made.model,
        "embeddings": vectors,
        "total_duration": took,
        // Loading is not told apart.
        "load_duration": 0,
        "prompt_eval_count": tokens,
    });
    if !truncated.is_empty() {
        // Not Ollama's, which leaves the ends out in silence.
        body["truncated"] = json!(truncated);
    }
    Ok(Json(body).into_response())
}

/// The older address of the same.
#[utoipa::path(post, path = "/api/embeddings", tag = "programs",
    operation_id = "ollama_embeddings", request_body = Value,
    responses((status = 200, description = "As Ollama's embedding.", body = Value)))]
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Refusal> {
    let made = vectors(&app, &caller, input, true).await?;
    let vector = made.items.into_iter().next().unwrap_or_default().vector;
    Ok(Json(json!({ "embedding": vector })).into_response())
}

async fn vectors(
    app: &Arc<App>,
    caller: &Caller,
    input: Input,
    older: bool,
) -> Result<v1::Embedded, Refusal> {
    let pass = Pass::new(app, caller, Action::ProgramAsk)?;
    let form: Embed = input.json_up_to(embeddings::TEXTS).await?;
    let (wanted, truncate) = form.check(older)?;
    pass.opened(app).await?;
    let person = pass.person;
    let made = pass.while_here(embeddings::embed(app, person, HERE, wanted));
    let made = made.await?;
    if !truncate && !embeddings::truncated(&made).is_empty() {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "context_length_exceeded",
            "the input length exceeds what the model reads",
        ));
    }
    Ok(made)
}
