//! What every request passes on its way in, and every answer on its way out.
//!
//! From the outside: one line in the access log and the security headers (so that refusals have
//! them too); a panic becomes a problem document; the guard; refusal while stopping; the time
//! limit; and the check that a success was authorised.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use aico_bus::Trace;
use axum::body::HttpBody as _;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::app::App;
use crate::caller::Decision;
use crate::guard;
use crate::peer::Peer;
use crate::problem::{Code, Problem};
use crate::programs;

/// The pages may load what this port serves, and nothing else from anywhere.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; worker-src 'self'; \
    manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";

const PERMISSIONS: &str = "accelerometer=(), camera=(), display-capture=(), geolocation=(), \
    gyroscope=(), hid=(), magnetometer=(), microphone=(), midi=(), payment=(), \
    publickey-credentials-get=(), screen-wake-lock=(), serial=(), usb=(), xr-spatial-tracking=()";

static HEADERS: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, CSP),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-embedder-policy"),
        "require-corp",
    ),
    (HeaderName::from_static("permissions-policy"), PERMISSIONS),
];

/// W3C Trace Context, level 2: which trace an answer belongs to, for `aico logs --trace`.
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The template of the route that answered, for the log: never the address itself.
#[derive(Clone)]
struct Template(Arc<str>);

/// Outermost: each request is a trace, its own or the one that it came with. The answer says which.
pub(crate) async fn outer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let trace = incoming(request.headers()).unwrap_or_else(Trace::new);
    let mut response = trace.scope(answered(app, request, next)).await;
    // The second number would be the id of our part of it; nothing here has one.
    let told = HeaderValue::try_from(format!("00-{trace}-{:016x}-00", 1));
    if let Ok(told) = told {
        response.headers_mut().insert(TRACE_RESPONSE, told);
    }
    response
}

/// The trace of a request; one that is not well-formed, or there twice, is none.
fn incoming(headers: &HeaderMap) -> Option<Trace> {
    let mut all = headers.get_all("traceparent").iter();
    let (Some(one), None) = (all.next(), all.next()) else {
        return None;
    };
    Trace::from_traceparent(one.to_str().ok()?)
}

/// Log, headers, panics, guard.
async fn answered(app: Arc<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let dialect = programs::dialect(request.uri().path());
    let api = guard::is_api(request.uri().path()) || is_health(request.uri().path());
    let answer = AssertUnwindSafe(admit(&app, request, next))
        .catch_unwind()
        .await;
    let mut response = answer.unwrap_or_else(|_| {
        // The payload is not told: it could quote anything.
        tracing::error!("a handler panicked; its request was answered with an error");
        Problem::from(Code::Internal).into_response()
    });
    let template = response.extensions_mut().remove::<Template>();
    if let Some(dialect) = dialect {
        response = programs::retell(dialect, response);
    }
    let status = response.status();
    macro_rules! note {
        ($level:ident) => {
            tracing::$level!(
                target: "aico_gateway::access",
                method = %method,
                route = template.as_ref().map_or("-", |template| &template.0),
                status = status.as_u16(),
                took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
                "request"
            )
        };
    }
    // An owner wants to know who was refused; what went well is for developers.
    match status {
        _ if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE => note!(warn),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            note!(info);
        }
        _ => note!(debug),
    }
    let headers = response.headers_mut();
    for (name, value) in &HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if api {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

async fn admit(app: &Arc<App>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        tracing::error!("a request came in by no listener; refused");
        return Problem::from(Code::Internal).into_response();
    };
    let has_body = !request.body().is_end_stream();
    let (parts, body) = request.into_parts();
    if let Err(problem) = guard::check(&peer, &parts, has_body) {
        return problem.into_response();
    }
    request = Request::from_parts(parts, body);
    if app.stopping() && !tells_while_stopping(request.uri().path()) {
        return Problem::from(Code::Stopping).into_response();
    }
    request.extensions_mut().insert(Decision::default());
    let time = match programs::dialect(request.uri().path()) {
        Some(_) => app.limits.program_time,
        None => app.limits.request_time,
    };
    match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::from(Code::TookTooLong).into_response(),
    }
}

fn is_health(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz")
}

fn tells_while_stopping(path: &str) -> bool {
    is_health(path) || path == "/api/v1/state"
}

/// Around each route: notes the template, and holds back a success nobody authorised.
pub(crate) async fn decided(request: Request, next: Next) -> Response {
    let decision = request
        .extensions()
        .get::<Decision>()
        .cloned()
        .unwrap_or_default();
    let template = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| Template(Arc::from(path.as_str())));
    let mut response = next.run(request).await;
    let status = response.status();
    let success = status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS;
    if success && decision.action().is_none() {
        tracing::error!(
            route = template.as_ref().map_or("-", |template| &template.0),
            "a route answered without asking whether it may; the answer was held back"
        );
        response = Problem::from(Code::Internal).into_response();
    }
    response.extensions_mut().insert(decision);
    if let Some(template) = template {
        response.extensions_mut().insert(template);
    }
    response
}

/// Around what changes keys, persons and rights: it goes on to its end, also where nobody waits for
/// it any more, because a tab was closed or the time was up. Left in the middle it would be half done.
pub(crate) async fn to_the_end(request: Request, next: Next) -> Response {
    let trace = Trace::current().unwrap_or_else(Trace::new);
    match tokio::spawn(trace.scope(next.run(request))).await {
        Ok(response) => response,
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => Problem::from(Code::Stopping).into_response(),
    }
}

/// For addresses that exist, with a method that does not.
pub(crate) async fn method_not_allowed() -> Problem {
    Code::MethodNotAllowed.into()
}
