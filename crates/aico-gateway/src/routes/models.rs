//! Which model answers.

use std::sync::Arc;
use std::time::Duration;

use aico_access::Action;
use aico_contracts::ids::ModelId;
use aico_contracts::topics;
use aico_contracts::v1;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::model::{AddModel, Model, ModelList, ModelState, UseModel};
use crate::app::App;
use crate::caller::Caller;
use crate::convert;
use crate::input::{Ids, Input, too_long};
use crate::problem::{Code, Problem};

/// Reading and hashing a file of many gigabytes takes its time.
const ADDING: Duration = Duration::from_secs(140);
const PATH: usize = 4096;

/// All models, and the state of the one that answers.
#[utoipa::path(get, path = "/api/v1/models", tag = "models", operation_id = "list_models",
    responses((status = 200, description = "All models.", body = ModelList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<ModelList>, Problem> {
    caller.may(Action::ListModels)?;
    let time = app.limits.module_time;
    let found = app
        .ask_models(topics::MODELS_LIST, &v1::ListModels {}, time)
        .await?;
    Ok(Json(convert::model_list(found)?))
}

/// Brings in a model file of this machine. The file stays where it is.
#[utoipa::path(post, path = "/api/v1/models", tag = "models", operation_id = "add_model",
    request_body = AddModel,
    responses((status = 201, description = "It can be chosen now.", body = Model)))]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<(StatusCode, Json<Model>), Problem> {
    caller.may(Action::AddModel)?;
    let form: AddModel = input.json().await?;
    if form.path.len() > PATH {
        return Err(too_long(PATH));
    }
    let question = v1::AddModel { path: form.path };
    let made = app
        .ask_models(topics::MODELS_ADD, &question, ADDING)
        .await?;
    Ok((StatusCode::CREATED, Json(convert::model(made)?)))
}

/// Chooses the model that answers from now on.
#[utoipa::path(put, path = "/api/v1/models/active", tag = "models",
    operation_id = "use_model", request_body = UseModel,
    responses((status = 200, description = "It is being loaded, or is ready.",
        body = ModelState)))]
pub(crate) async fn activate(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<ModelState>, Problem> {
    caller.may(Action::UseModel)?;
    let form: UseModel = input.json().await?;
    let id: ModelId = form.id.parse().map_err(|_| Code::NotFound)?;
    let question = v1::UseModel { id: id.to_vec() };
    let time = app.limits.module_time;
    let _: v1::Empty = app.ask_models(topics::MODELS_USE, &question, time).await?;
    Ok(Json(convert::model_state(app.model_state().await)?))
}

/// Forgets a model. The file stays where it is.
#[utoipa::path(delete, path = "/api/v1/models/{id}", tag = "models",
    operation_id = "remove_model",
    params(("id" = uuid::Uuid, Path, description = "The model.")),
    responses((status = 204, description = "Forgotten.")))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    caller.may(Action::RemoveModel)?;
    let id: ModelId = ids.get("id")?;
    let question = v1::RemoveModel { id: id.to_vec() };
    let time = app.limits.module_time;
    let _: v1::Empty = app
        .ask_models(topics::MODELS_REMOVE, &question, time)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
