//! Figures for a program that keeps them.

use std::sync::Arc;

use aico_access::Action;
use aico_bus::Meta;
use aico_contracts::{topics, v1};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, header};

use crate::app::App;
use crate::caller::Caller;
use crate::metrics;
use crate::problem::{Code, Problem};
use crate::programs::pass;

/// Where programs that read the format look for it unless they are told otherwise.
pub(crate) const METRICS: &str = "/metrics";

/// Figures of the daemon and of each model in the text format of Prometheus, 0.0.4: who asks and
/// waits, tokens, times, memory. Of persons and conversations there is nothing in them.
#[utoipa::path(get, path = "/metrics", tag = "system", operation_id = "read_metrics",
    responses((status = 200, description = "Now.", body = String,
        content_type = "text/plain; version=0.0.4; charset=utf-8")))]
pub(crate) async fn read(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    caller.may(Action::ReadMetrics)?;
    if let Some(token) = caller.program() {
        pass::in_pace(&app, token)?;
    }
    let person = caller.principal().person().ok_or(Code::SignInNeeded)?;
    let question = v1::ReadActivity {
        // The figures of now: whoever reads them keeps those of before.
        after_unix_ms: u64::MAX,
    };
    let meta = Meta::for_person(person).deadline_in(app.limits.module_time);
    let asked = app.bus.request(topics::MODELS_ACTIVITY, &question, meta);
    let activity: v1::ModelsActivity = asked.await?;
    let text = metrics::text(&app.status.status().await, &activity);
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
