//! Installing another program that runs models, when the owner agrees.

use std::sync::Arc;
use std::time::Duration;

use aico_access::Action;
use aico_contracts::topics;
use aico_contracts::v1;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::installation::{EngineInstallation, InstallEngine};
use crate::app::App;
use crate::caller::Caller;
use crate::convert::installations as convert;
use crate::input::{Ids, Input};
use crate::problem::Problem;

/// For ending what is unpacked.
const END: Duration = Duration::from_secs(40);

/// What is installed, what would be (which version, how large, from where, under which licence),
/// and how far an installation is. No server is asked for it.
#[utoipa::path(get, path = "/api/v1/engines/{name}/installation", tag = "engines",
    operation_id = "read_engine_installation",
    params(("name" = String, Path, description = "The program: `ollama`.")),
    responses((status = 200, description = "How everything is.", body = EngineInstallation)))]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<Json<EngineInstallation>, Problem> {
    caller.may(Action::ReadInstallation)?;
    let question = named(&ids)?;
    let time = app.limits.module_time;
    let found = app
        .ask_models(topics::MODELS_INSTALLATION, &question, time)
        .await?;
    Ok(Json(convert::installation(found)))
}

/// Installs the release that was shown, for the user that AICO runs as. Its hash is compared
/// before anything is unpacked. How far it is, reading it tells; one that ended early goes on
/// with what was downloaded when it is asked for again.
#[utoipa::path(post, path = "/api/v1/engines/{name}/installation", tag = "engines",
    operation_id = "install_engine", request_body = InstallEngine,
    params(("name" = String, Path, description = "The program: `ollama`.")),
    responses((status = 202, description = "It is on its way.", body = EngineInstallation)))]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    input: Input,
) -> Result<(StatusCode, Json<EngineInstallation>), Problem> {
    caller.may(Action::InstallEngine)?;
    let engine = ids.get("name")?;
    let form: InstallEngine = input.json().await?;
    let question = v1::InstallEngine {
        engine,
        version: form.version,
        sha256: form.sha256,
    };
    let time = app.limits.module_time;
    let begun = app
        .ask_models(topics::MODELS_INSTALL_ENGINE, &question, time)
        .await?;
    app.home.note_done(Action::InstallEngine).await?;
    Ok((StatusCode::ACCEPTED, Json(convert::installation(begun))))
}

/// Ends the installation that runs. What was downloaded is kept for another time.
#[utoipa::path(delete, path = "/api/v1/engines/{name}/installation", tag = "engines",
    operation_id = "cancel_engine_installation",
    params(("name" = String, Path, description = "The program: `ollama`.")),
    responses((status = 204, description = "It runs no longer.")))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    caller.may(Action::CancelInstallation)?;
    let question = named(&ids)?;
    let _: v1::Empty = app
        .ask_models(topics::MODELS_CANCEL_INSTALLATION, &question, END)
        .await?;
    app.home.note_done(Action::CancelInstallation).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn named(ids: &Ids) -> Result<v1::EngineName, Problem> {
    Ok(v1::EngineName {
        name: ids.get("name")?,
    })
}
