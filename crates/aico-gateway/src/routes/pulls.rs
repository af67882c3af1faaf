//! Models that can be downloaded, and their downloads.

use std::sync::Arc;

use aico_access::Action;
use aico_contracts::topics;
use aico_contracts::v1;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::model::{Catalogue, Pull, PullList, PullModel};
use crate::app::App;
use crate::caller::Caller;
use crate::convert::pulls as convert;
use crate::input::{Ids, Input, too_long};
use crate::problem::Problem;

/// Longest name.
const NAME: usize = 64;

/// What can be downloaded, what of it is here, and what suits this machine.
#[utoipa::path(get, path = "/api/v1/models/catalogue", tag = "models",
    operation_id = "read_catalogue",
    responses((status = 200, description = "The catalogue.", body = Catalogue)))]
pub(crate) async fn catalogue(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Catalogue>, Problem> {
    caller.may(Action::ReadCatalogue)?;
    let time = app.limits.module_time;
    let found = app
        .ask_models(topics::MODELS_CATALOGUE, &v1::Empty {}, time)
        .await?;
    Ok(Json(convert::catalogue(found)?))
}

/// Downloads a model of the catalogue. It goes on by itself, after a restart of AICO too; one
/// that is on its way already is told as it is.
#[utoipa::path(post, path = "/api/v1/models/pulls", tag = "models", operation_id = "pull_model",
    request_body = PullModel,
    responses((status = 202, description = "It is on its way.", body = Pull)))]
pub(crate) async fn pull(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<(StatusCode, Json<Pull>), Problem> {
    caller.may(Action::PullModel)?;
    let form: PullModel = input.json().await?;
    if form.name.len() > NAME {
        return Err(too_long(NAME));
    }
    let question = v1::PullModel {
        name: form.name,
        use_then: form.use_then,
    };
    let time = app.limits.module_time;
    let begun: v1::Pull = app.ask_models(topics::MODELS_PULL, &question, time).await?;
    app.home.note_done(Action::PullModel).await?;
    Ok((StatusCode::ACCEPTED, Json(convert::pull(begun)?)))
}

/// How far downloads are.
#[utoipa::path(get, path = "/api/v1/models/pulls", tag = "models", operation_id = "list_pulls",
    responses((status = 200, description = "All of them.", body = PullList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<PullList>, Problem> {
    caller.may(Action::ListPulls)?;
    let time = app.limits.module_time;
    let found: v1::PullList = app
        .ask_models(topics::MODELS_PULLS, &v1::Empty {}, time)
        .await?;
    let items: Result<_, _> = found.items.into_iter().map(convert::pull).collect();
    Ok(Json(PullList { items: items? }))
}

/// Ends a download, and removes what was downloaded of it.
#[utoipa::path(delete, path = "/api/v1/models/pulls/{name}", tag = "models",
    operation_id = "cancel_pull",
    params(("name" = String, Path, description = "The model's name in the catalogue.")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    caller.may(Action::CancelPull)?;
    let question = v1::CancelPull {
        name: ids.get("name")?,
    };
    let time = app.limits.module_time;
    let _: v1::Empty = app
        .ask_models(topics::MODELS_CANCEL_PULL, &question, time)
        .await?;
    app.home.note_done(Action::CancelPull).await?;
    Ok(StatusCode::NO_CONTENT)
}
