//! `GET /ws`: from HTTP to WebSocket.

use std::sync::Arc;

use aico_access::Action;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, State, WebSocketUpgrade};
use axum::response::Response;
use http::request::Parts;
use tokio_util::task::TaskTracker;

use super::connection;
use crate::app::App;
use crate::caller::Caller;
use crate::peer::Peer;
use crate::problem::{Code, Problem};
use crate::server::connections::Activity;
use crate::server::counted::Received;

/// What the server knows about the connection below a WebSocket.
pub(super) struct Below {
    pub(super) peer: Peer,
    pub(super) activity: Activity,
    pub(super) received: Received,
}

/// The WebSocket; see `docs/websocket.md`. It authenticates in its first frame, so opening it
/// needs nothing; `ClientFrame` and `ServerFrame` are its frames.
#[utoipa::path(get, path = "/ws", tag = "events", operation_id = "open_events",
    responses((status = 101, description = "From here on it speaks WebSocket.")))]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    Extension(activity): Extension<Activity>,
    Extension(received): Extension<Received>,
    Extension(sockets): Extension<TaskTracker>,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    // Whether events may be seen is decided when the first frame has told whose.
    caller.may(Action::ReadState)?;
    let Upgrade(upgrade) = upgrade;
    let frame = app.limits.frame;
    // Counted from now on, so that the connection's end waits for the WebSocket's.
    let counted = sockets.token();
    let below = Below {
        peer,
        activity,
        received,
    };
    Ok(upgrade
        .max_frame_size(frame)
        .max_message_size(frame)
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(usize::MAX)
        .on_upgrade(move |socket| async move {
            connection::run(app, socket, below).await;
            drop(counted);
        }))
}

/// The upgrade, with a problem document when the request is none.
pub(crate) struct Upgrade(WebSocketUpgrade);

impl axum::extract::FromRequestParts<Arc<App>> for Upgrade {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        WebSocketUpgrade::from_request_parts(parts, app)
            .await
            .map(Self)
            .map_err(|_: WebSocketUpgradeRejection| Code::UpgradeNeeded.into())
    }
}
