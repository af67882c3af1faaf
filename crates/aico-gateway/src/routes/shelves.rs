//! Models on the disk of another program: downloaded, made, shown, removed.

use std::sync::Arc;
use std::time::Duration;

use aico_access::Action;
use aico_contracts::ids::ModelId;
use aico_contracts::topics;
use aico_contracts::v1;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::Items;
use crate::api::shelf::{EngineJob, EngineModelDetails, EngineOffer, MakeEngineModel};
use crate::app::App;
use crate::caller::Caller;
use crate::convert::shelves as convert;
use crate::input::{Ids, Input, too_long};
use crate::problem::Problem;

/// For asking the program and a registry.
const LOOK: Duration = Duration::from_secs(60);
/// For ending what runs, and for removing what is large.
const REMOVE: Duration = Duration::from_secs(40);
/// Longest name, and longest path.
const NAME: usize = 400;
const PATH: usize = 4096;

/// Says what a model would take: how large it is, from where it comes, under which licence. The
/// server is asked that it would come from, and nothing is downloaded.
#[utoipa::path(post, path = "/api/v1/engines/{name}/offers", tag = "engines",
    operation_id = "offer_engine_model", request_body = MakeEngineModel,
    params(("name" = String, Path, description = "The program.")),
    responses((status = 200, description = "What it would take.", body = EngineOffer)))]
pub(crate) async fn offer(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    input: Input,
) -> Result<Json<EngineOffer>, Problem> {
    caller.may(Action::OfferEngineModel)?;
    let question = wished(&ids, input).await?;
    let offer: v1::EngineOffer = app
        .ask_models(topics::MODELS_MAKE_OFFER, &question, LOOK)
        .await?;
    Ok(Json(convert::offer(offer)))
}

/// Lets a program download a model, or makes one there by a Modelfile. A download goes on by
/// itself, after a restart of AICO too; one that is on its way already is told as it is.
#[utoipa::path(post, path = "/api/v1/engines/{name}/jobs", tag = "engines",
    operation_id = "make_engine_model", request_body = MakeEngineModel,
    params(("name" = String, Path, description = "The program.")),
    responses((status = 202, description = "It is on its way.", body = EngineJob)))]
pub(crate) async fn make(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    input: Input,
) -> Result<(StatusCode, Json<EngineJob>), Problem> {
    caller.may(Action::MakeEngineModel)?;
    let question = wished(&ids, input).await?;
    let time = app.limits.module_time;
    let begun: v1::EngineJob = app.ask_models(topics::MODELS_MAKE, &question, time).await?;
    app.home.note_done(Action::MakeEngineModel).await?;
    Ok((StatusCode::ACCEPTED, Json(convert::job(begun)?)))
}

/// How far models on their way are, and those that came or failed since AICO was unlocked.
#[utoipa::path(get, path = "/api/v1/engines/{name}/jobs", tag = "engines",
    operation_id = "list_engine_jobs",
    params(("name" = String, Path, description = "The program.")),
    responses((status = 200, description = "All of them.", body = Items<EngineJob>)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<Json<Items<EngineJob>>, Problem> {
    caller.may(Action::ListEngineJobs)?;
    let name: String = ids.get("name")?;
    let time = app.limits.module_time;
    let found: v1::EngineJobList = app
        .ask_models(topics::MODELS_JOBS, &v1::Empty {}, time)
        .await?;
    let own = found.items.into_iter().filter(|job| job.engine == name);
    let items: Result<_, _> = own.map(convert::job).collect();
    Ok(Json(Items { items: items? }))
}

/// Ends one, and removes what came of it as far as that is AICO's to do.
#[utoipa::path(delete, path = "/api/v1/engines/{name}/jobs/{id}", tag = "engines",
    operation_id = "cancel_engine_job",
    params(("name" = String, Path, description = "The program."),
        ("id" = uuid::Uuid, Path, description = "The model.")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    caller.may(Action::CancelEngineJob)?;
    let question = model(&ids)?;
    let _: v1::Empty = app
        .ask_models(topics::MODELS_CANCEL_JOB, &question, REMOVE)
        .await?;
    app.home.note_done(Action::CancelEngineJob).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a program tells of a model.
#[utoipa::path(get, path = "/api/v1/engines/{name}/models/{id}", tag = "engines",
    operation_id = "show_engine_model",
    params(("name" = String, Path, description = "The program."),
        ("id" = uuid::Uuid, Path, description = "The model.")),
    responses((status = 200, description = "What is known of it.", body = EngineModelDetails)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<Json<EngineModelDetails>, Problem> {
    caller.may(Action::ShowEngineModel)?;
    let question = model(&ids)?;
    let found: v1::EngineModelDetails =
        app.ask_models(topics::MODELS_SHOW, &question, LOOK).await?;
    Ok(Json(convert::details(found)))
}

/// Removes a model from a program's disk, for everything else that uses it there too.
#[utoipa::path(delete, path = "/api/v1/engines/{name}/models/{id}", tag = "engines",
    operation_id = "delete_engine_model",
    params(("name" = String, Path, description = "The program."),
        ("id" = uuid::Uuid, Path, description = "The model.")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    caller.may(Action::DeleteEngineModel)?;
    let question = model(&ids)?;
    let _: v1::Empty = app
        .ask_models(topics::MODELS_DELETE, &question, REMOVE)
        .await?;
    app.home.note_done(Action::DeleteEngineModel).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn model(ids: &Ids) -> Result<v1::EngineModel, Problem> {
    let id: ModelId = ids.get("id")?;
    Ok(v1::EngineModel {
        engine: ids.get("name")?,
        model: id.to_vec(),
    })
}

async fn wished(ids: &Ids, input: Input) -> Result<v1::MakeEngineModel, Problem> {
    let engine = ids.get("name")?;
    let form: MakeEngineModel = input.json().await?;
    if form.model.len() > NAME {
        return Err(too_long(NAME));
    }
    let folder = form.folder.unwrap_or_default();
    if folder.len() > PATH {
        return Err(too_long(PATH));
    }
    Ok(v1::MakeEngineModel {
        engine,
        name: form.model,
        use_then: form.use_then,
        modelfile: form.modelfile.unwrap_or_default(),
        folder,
    })
}
