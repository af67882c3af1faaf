//! OpenAI's addresses: `/v1/chat/completions`, `/v1/models`, `/v1/embeddings`.

mod request;
mod telling;

use std::sync::Arc;

use aico_access::Action;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Dialect;
use super::course;
use super::embeddings;
use super::images;
use super::models;
use super::pass::Pass;
use super::refusal::Refusal;
use crate::app::App;
use crate::caller::Caller;
use crate::input::{Ids, Input};
use request::{Chat, Embeddings};
use telling::Completion;

const HERE: Dialect = Dialect::OpenAi;

/// Lists what can be asked, in OpenAI's shape.
#[utoipa::path(get, path = "/v1/models", tag = "programs", operation_id = "openai_models",
    responses((status = 200, description = "As OpenAI's list of models.", body = Value)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Value>, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramLook)?;
    let all = models::all(&app, pass.person).await?;
    let mut data: Vec<_> = all.iter().map(telling::model).collect();
    let packages = embeddings::packages(&app, pass.person).await?;
    data.extend(packages.iter().map(telling::package));
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
    let name: String = ids.get("model")?;
    // Names of servers' models have strokes in them, which not every client encodes.
    let name = match ids.get::<String>("rest") {
        Ok(rest) => format!("{name}/{rest}"),
        Err(_) => name,
    };
    let pass = Pass::new(&app, &caller, Action::ProgramLook)?;
    if let Some(package) = embeddings::package(&app, pass.person, &name).await? {
        return Ok(Json(telling::package(&package)));
    }
    let found = models::look(&app, pass.person, HERE, &name).await?;
    Ok(Json(telling::model(&found)))
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
    let pass = Pass::new(&app, &caller, Action::ProgramAsk)?;
    let (chat, length): (Chat, _) = input.json_with_images(images::BODY).await?;
    let (asked, usage) = chat.check()?;
    images::are_what_is_large(length, asked.question.as_ref(), app.limits.body)?;
    course::answer(&app, pass, asked, |whom| Completion::new(whom, usage)).await
}

/// Turns texts into vectors.
#[utoipa::path(post, path = "/v1/embeddings", tag = "programs",
    operation_id = "openai_embeddings", request_body = Value,
    responses((status = 200, description = "As OpenAI's list of embeddings.", body = Value)))]
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Refusal> {
    let pass = Pass::new(&app, &caller, Action::ProgramAsk)?;
    let form: Embeddings = input.json_up_to(embeddings::TEXTS).await?;
    let (wanted, packed) = form.checked()?;
    pass.opened(&app).await?;
    let person = pass.person;
    let made = pass.while_here(embeddings::embed(&app, person, HERE, wanted));
    let made = made.await?;
    let (tokens, truncated) = (embeddings::tokens(&made), embeddings::truncated(&made));
    let data: Vec<_> = made
        .items
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            let embedding = match packed {
                true => telling::packed(&item.vector).into(),
                false => json!(item.vector),
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let mut body = json!({
        "object": "list",
        "data": data,
        "model": made.model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    });
    if !truncated.is_empty() {
        // Not OpenAI's, which would refuse: the model does not read as much as these have.
        body["truncated"] = json!(truncated);
    }
    Ok(Json(body).into_response())
}
