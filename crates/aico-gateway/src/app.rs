//! What every handler shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aico_access::{Home, Stage};
use aico_bus::Client;
use tokio_util::sync::CancellationToken;

use crate::config::{BrokerSource, GatewayConfig, Limits, LogSource, Setting, StatusSource};
use crate::limits::Tries;
use crate::programs::Paces;
use crate::programs::memory::Turns;
use crate::server::connections::Connections;
use crate::ws::hubs::Hubs;
use crate::ws::quota::Quota;

/// One for each gateway, shared by everything that runs in it.
pub(crate) struct App {
    pub(crate) home: Home,
    pub(crate) bus: Client,
    pub(crate) limits: Limits,
    pub(crate) hosts: Vec<String>,
    pub(crate) settings: Vec<Setting>,
    pub(crate) logs: Arc<dyn LogSource>,
    pub(crate) status: Arc<dyn StatusSource>,
    pub(crate) broker: Arc<dyn BrokerSource>,
    /// Connections end.
    pub(crate) stop: CancellationToken,
    /// No new work is taken, but connections stay.
    draining: AtomicBool,
    pub(crate) tries: Tries,
    pub(crate) hubs: Arc<Hubs>,
    pub(crate) sockets: Quota,
    /// Requests of other programs that are under way.
    pub(crate) asking: Quota,
    /// And how often each of them asks.
    pub(crate) paces: Paces,
    /// And which models they ask.
    pub(crate) turns: Turns,
    pub(crate) tcp: Arc<Connections>,
    pub(crate) local: Arc<Connections>,
    /// The OpenAPI document, as it is sent.
    pub(crate) contract: bytes::Bytes,
    /// The last state of the model that was heard, for when nobody answers.
    pub(crate) model: parking_lot::Mutex<Option<aico_contracts::v1::ModelState>>,
}

impl App {
    pub(crate) fn new(
        config: GatewayConfig,
        home: Home,
        bus: Client,
        logs: Arc<dyn LogSource>,
        status: Arc<dyn StatusSource>,
    ) -> Self {
        let GatewayConfig {
            hosts,
            limits,
            stop,
            settings,
            broker,
        } = config;
        let contract = serde_json::to_vec(&crate::openapi()).unwrap_or_default();
        Self {
            tries: Tries::new(limits.free_tries, limits.longest_wait),
            hubs: Hubs::new(bus.clone(), limits.clone()),
            sockets: Quota::new(limits.sockets_per_session),
            asking: Quota::new(limits.requests_per_token),
            paces: Paces::new(limits.program_burst, limits.programs_per_second),
            turns: Turns::default(),
            tcp: Connections::new(limits.connections),
            local: Connections::new(limits.local_connections),
            draining: AtomicBool::new(false),
            contract: contract.into(),
            model: parking_lot::Mutex::new(None),
            home,
            bus,
            limits,
            hosts,
            settings,
            logs,
            status,
            broker,
            stop,
        }
    }

    /// Refuse new work from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stopping(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
            || self.stop.is_cancelled()
            || self.home.stage() == Stage::Stopping
    }

    /// As the API tells it.
    pub(crate) fn stage(&self) -> Stage {
        if self.stopping() {
            Stage::Stopping
        } else {
            self.home.stage()
        }
    }
}
