//! Is it alive, can it be used, and what does it offer.

use std::sync::Arc;

use aico_access::{Action, Stage};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};

use crate::api::model::{Live, Readiness};
use crate::app::App;
use crate::caller::Caller;
use crate::convert;
use crate::problem::{Code, Problem};

/// The process runs and answers.
#[utoipa::path(get, path = "/livez", tag = "health",
    responses((status = 200, description = "It runs.", body = Live)))]
pub(crate) async fn livez(caller: Caller) -> Result<Json<Live>, Problem> {
    caller.may(Action::ReadHealth)?;
    Ok(Json(Live { status: "live" }))
}

/// It is unlocked, and stores, bus and gateway stand. The model's state does not count, and what is
/// degraded is told and still counts as ready.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "It can be used.", body = Readiness),
    (status = 503, description = "Not set up, locked, or stopping.", body = Readiness),
))]
pub(crate) async fn readyz(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.may(Action::ReadHealth)?;
    let stage = app.stage();
    if stage != Stage::Ready {
        let body = Json(Readiness {
            status: stage.into(),
            degraded: Vec::new(),
            model: None,
        });
        return Ok((StatusCode::SERVICE_UNAVAILABLE, body).into_response());
    }
    let model = convert::model_state(app.model_state().await)?;
    let health = app.home.health().await;
    let degraded = [
        (health.storage_full, Code::StorageFull),
        (health.storage_read_only, Code::StorageReadOnly),
        (health.storage_failing, Code::StorageFailing),
        (health.slow_commit.is_some(), Code::StorageSlow),
        (health.damaged, Code::Damaged),
    ];
    Ok(Json(Readiness {
        status: stage.into(),
        degraded: degraded
            .into_iter()
            .filter_map(|(is, code)| is.then_some(code))
            .collect(),
        model: Some(model),
    })
    .into_response())
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "health",
    responses((status = 200, description = "The OpenAPI document.", body = Object)))]
pub(crate) async fn contract(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.may(Action::ReadContract)?;
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind)], app.contract.clone()).into_response())
}
