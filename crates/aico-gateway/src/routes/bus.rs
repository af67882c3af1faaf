//! The bus as the owner sees it from outside: figures, and reading along.

use std::sync::Arc;

use aico_access::Action;
use aico_bus::Delivery;
use aico_contracts::v1::Envelope;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, header};
use serde_json::{Value, json};

use crate::api::module::{Bus, TailParams};
use crate::app::App;
use crate::caller::Caller;
use crate::input::Asked;
use crate::problem::{Code, Problem};
use crate::watch::Watch;

/// Traffic, queues and drops.
#[utoipa::path(get, path = "/api/v1/bus", tag = "system", operation_id = "bus",
    responses((status = 200, description = "Now.", body = Bus)))]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Bus>, Problem> {
    caller.may(Action::ReadBus)?;
    Ok(Json(app.broker.stats().into()))
}

/// Reads along from now on, one JSON object on each line: messages of the system and of oneself,
/// payloads in base64, and `{"gap": N}` where N were missed.
#[utoipa::path(get, path = "/api/v1/bus/tail", tag = "system", operation_id = "tail_bus",
    params(TailParams),
    responses((status = 200, description = "Messages as they are published.",
        body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn tail(
    State(app): State<Arc<App>>,
    caller: Caller,
    asked: Asked,
) -> Result<Response, Problem> {
    caller.may(Action::TailBus)?;
    let query: TailParams = asked.get()?;
    let messages = app.broker.tail(&query.pattern).map_err(|error| {
        Problem::from(Code::Invalid).with_detail(crate::problem::sentence(&error.to_string()))
    })?;
    let watch = Watch::new(&app, caller.principal());
    let lines = messages
        .map(|delivery| {
            let line = match delivery {
                Delivery::Message(envelope) => shown(&envelope),
                Delivery::Gap { missed } => json!({ "gap": missed }),
                Delivery::Interrupted { restarted } => json!({ "interrupted": restarted }),
            };
            Ok::<_, std::convert::Infallible>(Bytes::from(format!("{line}\n")))
        })
        // It goes on no longer than the right to see it.
        .take_until(watch.over());
    let kind = HeaderValue::from_static("application/x-ndjson");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response())
}

fn shown(envelope: &Envelope) -> Value {
    let id = |bytes: &[u8]| uuid::Uuid::from_slice(bytes).ok().map(|id| id.to_string());
    json!({
        "topic": envelope.topic,
        "sequence": envelope.sequence,
        "sender": envelope.sender,
        "id": id(&envelope.id),
        "person": id(&envelope.person),
        "correlation": id(&envelope.correlation),
        "trace": hex::encode(&envelope.trace),
        "time_unix_ns": envelope.time_unix_ns,
        "payload_type": envelope.payload_type,
        "payload": STANDARD.encode(&envelope.payload),
    })
}
