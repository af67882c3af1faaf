//! Listening: the TCP port and the local socket, with limits on time, size and number.

pub(crate) mod connections;
pub(crate) mod counted;
#[cfg(unix)]
#[path = "server/unix.rs"]
pub(crate) mod local;
#[cfg(windows)]
#[path = "server/windows.rs"]
pub(crate) mod local;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::app::App;
use crate::peer::{Hosts, Peer};
use connections::{Activity, Place};
use counted::{Counted, Received};

/// After an accept that failed for lack of a resource.
const BREATH: Duration = Duration::from_millis(50);

/// Serves TCP until the gateway is stopped.
pub(crate) async fn tcp(
    app: Arc<App>,
    router: Router,
    listener: TcpListener,
) -> std::io::Result<()> {
    let hosts = Arc::new(Hosts::new(listener.local_addr()?, &app.hosts));
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = app.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(place) = app.tcp.enter() else {
                    tracing::warn!("every connection is busy; a new one was closed");
                    continue;
                };
                // Words of an answer are small and must not wait for each other.
                drop(stream.set_nodelay(true));
                let peer = Peer::Tcp {
                    address,
                    hosts: Arc::clone(&hosts),
                };
                tracker.spawn(connection(
                    Arc::clone(&app),
                    router.clone(),
                    stream,
                    peer,
                    place,
                ));
            }
            Err(error) => accept_failed(&error).await,
        }
    }
    drop(listener);
    finish(&app, &tracker).await;
    Ok(())
}

/// Serves the local socket until the gateway is stopped.
pub(crate) async fn local(
    app: Arc<App>,
    router: Router,
    mut listener: local::LocalListener,
) -> std::io::Result<()> {
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = app.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(Some(stream)) => {
                let Some(place) = app.local.enter() else {
                    tracing::warn!("every local connection is busy; a new one was closed");
                    continue;
                };
                let app = Arc::clone(&app);
                tracker.spawn(connection(app, router.clone(), stream, Peer::Local, place));
            }
            Ok(None) => tracing::warn!("another user tried the local socket; refused"),
            Err(error) => accept_failed(&error).await,
        }
    }
    drop(listener);
    finish(&app, &tracker).await;
    Ok(())
}

async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(BREATH).await;
}

/// Waits for connections to end by themselves, then ends them.
async fn finish(app: &App, tracker: &TaskTracker) {
    tracker.close();
    if tokio::time::timeout(app.limits.shutdown, tracker.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            left = tracker.len(),
            "connections that did not end in time were cut"
        );
        app.tcp.cut_all();
        app.local.cut_all();
        drop(tokio::time::timeout(app.limits.shutdown, tracker.wait()).await);
    }
}

/// One connection from accept to end; a WebSocket goes on inside of it.
async fn connection<IO>(app: Arc<App>, router: Router, stream: IO, peer: Peer, place: Place)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let received = Received::default();
    let io = TokioIo::new(Counted::new(stream, received.clone()));
    let activity = place.activity();
    // Everything of this connection ends with it, an upgraded one included.
    let sockets = TaskTracker::new();
    let service = {
        let (activity, sockets) = (activity.clone(), sockets.clone());
        service_fn(move |request: Request<Incoming>| {
            let router = router.clone();
            let peer = peer.clone();
            let activity = activity.clone();
            let received = received.clone();
            let sockets = sockets.clone();
            async move { answer(router, request, peer, activity, received, sockets).await }
        })
    };
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(app.limits.head_time)
        .max_buf_size(app.limits.head.max(8192))
        .max_headers(app.limits.headers)
        .half_close(false);
    let served = http.serve_connection(io, service).with_upgrades();
    let mut served = std::pin::pin!(served);
    let cut: &CancellationToken = place.cut();
    tokio::select! {
        _ = served.as_mut() => {}
        () = cut.cancelled() => return,
        () = app.stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                _ = served.as_mut() => {}
                () = cut.cancelled() => return,
            }
        }
    }
    sockets.close();
    tokio::select! {
        () = sockets.wait() => {}
        () = cut.cancelled() => {}
    }
}

/// One request: tells the router who is there, and keeps the connection's place until the last
/// byte of the answer has gone.
async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: Peer,
    activity: Activity,
    received: Received,
    sockets: TaskTracker,
) -> Result<Response<Body>, Infallible> {
    use hyper::body::Body as _;
    // A body that has not arrived yet does not count as work: it may never arrive.
    let waiting = !request.body().is_end_stream();
    if !waiting {
        activity.work();
    }
    let mut request = request.map(Body::new);
    let extensions = request.extensions_mut();
    extensions.insert(peer);
    extensions.insert(activity.clone());
    extensions.insert(received);
    extensions.insert(sockets);
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    activity.work();
    let rest = activity.until_dropped();
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _rest = &rest;
            frame
        }))
    }))
}
