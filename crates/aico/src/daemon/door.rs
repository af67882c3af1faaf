//! The door for modules of other makers: a listener with keys that outlive a start, open only
//! while somebody is admitted.
//!
//! It follows the table of modules: who is taken off the list is cut off, and what a grant no
//! longer allows ends, both at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aico_access::{Home, HomeError, Stage, TAIL, module_identity};
use aico_bus::link::{Listener, ServerKeys, endpoint_named};
use aico_bus::{Bus, BusError, BusStats, Client, Identity, Queue, Subscription};
use aico_gateway::BrokerSource;
use tokio::sync::watch;

/// Where the door stands; `Err` while it can't be opened.
type Opened = Option<Result<aico_gateway::Door, ()>>;

/// How long somebody who admits a module waits for the door.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) struct Door {
    home: Home,
    bus: Bus,
    bind: SocketAddr,
    live_bind: SocketAddr,
    run: PathBuf,
    opened: watch::Sender<Opened>,
}

/// The bus as the gateway shows it.
pub(super) struct View {
    bus: Bus,
    tail: Client,
    opened: watch::Receiver<Opened>,
}

impl Door {
    pub(super) fn new(
        home: &Home,
        bus: &Bus,
        config: &aico_config::Config,
        run: &Path,
    ) -> (Self, View) {
        let (opened, watching) = watch::channel(None);
        let door = Self {
            home: home.clone(),
            bus: bus.clone(),
            bind: config.bus.bind,
            live_bind: config.bus.live_bind,
            run: run.to_owned(),
            opened,
        };
        let view = View {
            bus: bus.clone(),
            tail: bus.join(Identity::new(TAIL)),
            opened: watching,
        };
        (door, view)
    }

    /// Opens and closes the door until it is dropped.
    pub(super) async fn watch(self) {
        let mut changes = self.home.watch_modules();
        let mut stage = self.home.watch_stage();
        let mut listener: Option<Listener> = None;
        let mut known: Vec<Identity> = Vec::new();
        let mut key = self.home.bus_key_changes();
        loop {
            changes.borrow_and_update();
            if std::mem::replace(&mut key, self.home.bus_key_changes()) != key
                && let Some(listener) = listener.take()
            {
                // Under another key from now on.
                self.opened.send_replace(None);
                listener.close().await;
            }
            let ready = *stage.borrow_and_update() == Stage::Ready;
            let admitted = match ready {
                true => self.home.modules().await.unwrap_or_default(),
                false => Vec::new(),
            };
            if ready {
                let names = admitted.iter().map(|module| module_identity(&module.name));
                let before = std::mem::replace(&mut known, names.collect());
                let gone = before.into_iter().filter(|who| !known.contains(who));
                self.forget_cursors(gone.collect()).await;
            }
            if admitted.is_empty() {
                if let Some(listener) = listener.take() {
                    self.opened.send_replace(None);
                    listener.close().await;
                }
            } else {
                if listener.is_none() {
                    listener = self.open().await;
                }
                if let Some(listener) = &listener {
                    let listed = admitted.iter();
                    listener
                        .admit_only(
                            listed.map(|module| (module.key, module_identity(&module.name))),
                        )
                        .await;
                }
            }
            // Grants and agreements may have ended for those who are still listed.
            self.bus.reauthorize();
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                changed = stage.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Who was taken off the list does not find its place again under the same name.
    async fn forget_cursors(&self, gone: Vec<Identity>) {
        let bus = self.bus.clone();
        let forget = move || {
            gone.iter()
                .try_for_each(|who| bus.forget_cursors(who).map(drop))
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(forget).await {
            tracing::debug!(%error, "the cursors of a module that left are still there");
        }
    }

    async fn open(&self) -> Option<Listener> {
        let opened = self.try_open().await;
        let told = match &opened {
            Ok(listener) => Ok(aico_gateway::Door {
                endpoints: listener.endpoints(),
                live_endpoints: listener.live_endpoints(),
                server_public: listener.public_key(),
            }),
            Err(error) => {
                tracing::error!(
                    error = crate::exit::chain(&**error),
                    "modules can't reach the bus"
                );
                Err(())
            }
        };
        self.opened.send_replace(Some(told));
        opened.ok()
    }

    async fn try_open(&self) -> Result<Listener, Box<dyn std::error::Error + Send + Sync>> {
        let made = || ServerKeys::generate().secret();
        let key = self.home.broker_key(made).await?;
        let listener = Listener::open(&self.bus, ServerKeys::from_secret(*key))?;
        let socket = endpoint_named(&self.run, "modules.sock")?;
        let mut bound = false;
        for endpoint in [socket, format!("tcp://{}", self.bind)] {
            match listener.bind_to(&endpoint).await {
                Ok(_) => bound = true,
                // The other one may do: a port that is taken keeps nobody from the socket.
                Err(error) => tracing::warn!(
                    error = crate::exit::chain(&error),
                    "a door for modules stays closed"
                ),
            }
        }
        // For plain SUB sockets; who has none of these still has the other door.
        let socket = endpoint_named(&self.run, "live.sock")?;
        for endpoint in [socket, format!("tcp://{}", self.live_bind)] {
            if let Err(error) = listener.bind_live_to(&endpoint).await {
                tracing::warn!(
                    error = crate::exit::chain(&error),
                    "a door for SUB sockets stays closed"
                );
            }
        }
        if bound {
            Ok(listener)
        } else {
            Err(Box::new(HomeError::Task))
        }
    }
}

impl View {
    /// Returns when those who are admitted can come in, or it is clear that they can't.
    pub(super) async fn settled(&self, home: &Home) {
        if home.modules().await.is_ok_and(|all| !all.is_empty()) {
            // What goes wrong is in the log; AICO serves all the same.
            let _ = self.door().await;
        }
    }
}

#[async_trait::async_trait]
impl BrokerSource for View {
    async fn door(&self) -> Option<aico_gateway::Door> {
        let mut opened = self.opened.clone();
        let found = tokio::time::timeout(PATIENCE, opened.wait_for(Option::is_some)).await;
        match found {
            Ok(Ok(opened)) => opened.clone()?.ok(),
            _ => None,
        }
    }

    fn stats(&self) -> BusStats {
        self.bus.stats()
    }

    fn tail(&self, pattern: &str) -> Result<Subscription, BusError> {
        self.tail.subscribe(pattern, Queue::default())
    }
}
