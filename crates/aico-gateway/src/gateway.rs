//! The gateway as the composition sees it.

use std::sync::Arc;

use aico_access::{Home, Stage};
use aico_bus::Client;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use crate::app::App;
use crate::config::{GatewayConfig, LogSource, StatusSource};
use crate::server::{self, local::LocalListener};
use crate::{layers, routes, ui};

/// REST, WebSocket and UI over one home and one bus. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    app: Arc<App>,
    router: Router,
}

impl Gateway {
    /// Makes it; nothing listens yet. Must be called inside a Tokio runtime.
    ///
    /// `bus` is a client joined as `gateway`.
    #[must_use]
    pub fn new(
        config: GatewayConfig,
        home: Home,
        bus: Client,
        logs: Arc<dyn LogSource>,
        status: Arc<dyn StatusSource>,
    ) -> Self {
        let app = Arc::new(App::new(config, home, bus, logs, status));
        tokio::spawn(forget_when_locked(Arc::clone(&app)));
        let (routes, _) = routes::all().split_for_parts();
        let inner = routes
            .method_not_allowed_fallback(layers::method_not_allowed)
            .layer(from_fn(layers::decided))
            .fallback(ui::serve)
            .with_state(Arc::clone(&app));
        // As a service of its own, so that the outer layer comes before any routing.
        let router = Router::new()
            .fallback_service(inner)
            .layer(from_fn_with_state(Arc::clone(&app), layers::outer));
        Self { app, router }
    }

    /// Everything as one service. Requests must come through one of the `serve_…` functions,
    /// which tell who is at the other end; others are refused.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Serves a TCP listener until the configured `stop` is cancelled, and then until its
    /// connections have ended or the time for that is over.
    ///
    /// # Errors
    /// When the listener does not know its own address.
    pub async fn serve_tcp(&self, listener: TcpListener) -> std::io::Result<()> {
        server::tcp(Arc::clone(&self.app), self.router(), listener).await
    }

    /// The same for the local socket.
    ///
    /// # Errors
    /// None at present; the shape is that of [`Gateway::serve_tcp`].
    pub async fn serve_local(&self, listener: LocalListener) -> std::io::Result<()> {
        server::local(Arc::clone(&self.app), self.router(), listener).await
    }

    /// The first step of stopping: not ready, no new work; connections stay, so that answers
    /// under way can be told to their end. Cancelling `stop` is the second.
    pub fn drain(&self) {
        self.app.drain();
    }
}

/// What is kept of persons' events goes with the keys. While the daemon stops it stays: the last
/// words of answers are still to be told.
async fn forget_when_locked(app: Arc<App>) {
    let mut stage = app.home.watch_stage();
    let mut locked = app.home.locked_persons();
    loop {
        tokio::select! {
            () = app.stop.cancelled() => return,
            person = locked.recv() => {
                match person {
                    Ok(person) => app.hubs.forget(person),
                    Err(broadcast::error::RecvError::Lagged(_)) => app.hubs.forget_all(),
                    Err(broadcast::error::RecvError::Closed) => return,
                }
                continue;
            }
            changed = stage.changed() => if changed.is_err() { return },
        }
        if !matches!(*stage.borrow_and_update(), Stage::Ready | Stage::Stopping) {
            app.hubs.forget_all();
        }
    }
}
