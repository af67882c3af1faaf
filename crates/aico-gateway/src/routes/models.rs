//! Which model answers.

use std::sync::Arc;
use std::time::Duration;

use aico_access::Action;
use aico_bus::Meta;
use aico_contracts::ids::ModelId;
use aico_contracts::topics;
use aico_contracts::v1;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::activity::{ActivityParams, ModelsActivity};
use crate::api::model::{AddModel, Model, ModelList, ModelState, UseModel};
use crate::app::App;
use crate::caller::Caller;
use crate::convert;
use crate::input::{Asked, Ids, Input, too_long};
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
    let others = form.adapter.iter().chain(&form.name);
    if others.chain([&form.path]).any(|text| text.len() > PATH) {
        return Err(too_long(PATH));
    }
    let question = v1::AddModel {
        path: form.path,
        adapter: form.adapter,
        name: form.name,
    };
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

/// Keeps a model in memory once it is there: it is neither unloaded when nobody asks it nor to make
/// room for another.
#[utoipa::path(put, path = "/api/v1/models/{id}/pin", tag = "models",
    operation_id = "pin_model",
    params(("id" = uuid::Uuid, Path, description = "The model.")),
    responses((status = 204, description = "It stays.")))]
pub(crate) async fn pin(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    caller.may(Action::PinModel)?;
    set_pinned(&app, ids.get("id")?, true).await
}

/// Lets a model go when it is not needed, as any other.
#[utoipa::path(delete, path = "/api/v1/models/{id}/pin", tag = "models",
    operation_id = "unpin_model",
    params(("id" = uuid::Uuid, Path, description = "The model.")),
    responses((status = 204, description = "It may go.")))]
pub(crate) async fn unpin(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    caller.may(Action::PinModel)?;
    set_pinned(&app, ids.get("id")?, false).await
}

async fn set_pinned(app: &App, id: ModelId, pinned: bool) -> Result<StatusCode, Problem> {
    let question = v1::PinModel {
        id: id.to_vec(),
        pinned,
    };
    let time = app.limits.module_time;
    let _: v1::Empty = app.ask_models(topics::MODELS_PIN, &question, time).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What models do: which are in memory, who waits, how fast it goes, now and in the last hour. Of
/// questions one by one there are one's own, without a word of them.
#[utoipa::path(get, path = "/api/v1/models/activity", tag = "models",
    operation_id = "read_activity", params(ActivityParams),
    responses((status = 200, description = "What they do.", body = ModelsActivity)))]
pub(crate) async fn activity(
    State(app): State<Arc<App>>,
    caller: Caller,
    asked: Asked,
) -> Result<Json<ModelsActivity>, Problem> {
    let person = caller.may_own(Action::ReadActivity)?;
    let params: ActivityParams = asked.get()?;
    let after = params.after.map_or(0, |at| at.as_millisecond());
    let question = v1::ReadActivity {
        after_unix_ms: u64::try_from(after).unwrap_or_default(),
    };
    let meta = Meta::for_person(person)
        .priority(v1::Priority::Interactive)
        .deadline_in(app.limits.module_time);
    let found = app.bus.request(topics::MODELS_ACTIVITY, &question, meta);
    Ok(Json(convert::activity::activity(found.await?)?))
}
