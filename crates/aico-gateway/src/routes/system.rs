//! What the owner sees of the daemon: status, configuration, log.

use std::sync::Arc;

use aico_access::Action;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, header};

use crate::api::Items;
use crate::api::model::{LogParams, Status};
use crate::app::App;
use crate::caller::Caller;
use crate::config::Setting;
use crate::convert;
use crate::input::Asked;
use crate::problem::Problem;
use crate::watch::Watch;

/// How the daemon is.
#[utoipa::path(get, path = "/api/v1/status", tag = "system",
    responses((status = 200, description = "Now.", body = Status)))]
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Status>, Problem> {
    caller.may(Action::ReadStatus)?;
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        process: app.status.status().await,
        connections: app.tcp.count() + app.local.count(),
        sockets: app.sockets.count(),
        model: convert::model_state(app.model_state().await)?,
    }))
}

/// The configuration in force, and where each value comes from.
#[utoipa::path(get, path = "/api/v1/config", tag = "system",
    responses((status = 200, description = "Every key.", body = Items<Setting>)))]
pub(crate) async fn config(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Items<Setting>>, Problem> {
    caller.may(Action::ReadConfig)?;
    Ok(Json(Items {
        items: app.settings.clone(),
    }))
}

/// The daemon's log, one JSON object on each line.
#[utoipa::path(get, path = "/api/v1/logs", tag = "system", params(LogParams),
    responses((status = 200, description = "The lines, oldest first.",
        body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    caller: Caller,
    asked: Asked,
) -> Result<Response, Problem> {
    caller.may(Action::ReadLogs)?;
    let query: LogParams = asked.get()?;
    let watch = Watch::new(&app, caller.principal());
    let lines = app
        .logs
        .read(query.into())
        .map(|line| {
            line.map(|line| Bytes::from(line + "\n"))
                .inspect_err(|error| tracing::warn!(%error, "a log stream broke off"))
        })
        // It goes on no longer than the right to see it.
        .take_until(watch.over());
    let kind = HeaderValue::from_static("application/x-ndjson");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response())
}
