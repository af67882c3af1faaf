//! The part in the daemon: the registry of models, and the process that runs one of them.
//!
//! Prompts outlive the process where a [`PromptCache`] is given (`keeper`): whoever goes on with a
//! conversation asks `models.recall` before the question, and `models.discard` when it is gone.
//!
//! One task owns the truth (`manager`): it serves `models.list`, `add`, `use`, `remove`, `prepare`
//! and `get-state`, starts the process, hears of its end, and publishes `models.state` on every
//! change. `models.generate` and `models.count` are served by the process itself, straight on
//! the bus: nothing stands between an answer and its reader.
//!
//! Whoever asks `models.generate` waits for the state first: while it is `STARTING` the
//! request would find nobody serving. Subscribe to `models.state`, ask `models.get-state`, and
//! ask the question when either says `READY`; `FAILED` and `STOPPED` carry the fault to show.
//! Who wants a certain model asks `models.prepare` in its place (`prepare`).

mod backoff;
mod child;
pub(crate) mod files;
mod keeper;
mod manager;
pub(crate) mod memory;
mod prepare;
mod prompts;
mod registry;
mod scratch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aico_bus::link::Listener;
use aico_bus::{Bus, BusError};
use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::v1;
use aico_store::StoreError;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use child::Program;
pub use registry::{MIGRATIONS, ModelRecord, ModelRegistryStore, SystemRegistry};

use crate::prompt_cache::PromptCache;
use crate::pull::{PullConfig, Puller};
use crate::starter::{Embedded, StarterError};

/// The name under which the manager joins the bus.
pub const MANAGER: &str = "models";
/// The name of the model process on the bus.
pub const PROCESS: &str = "model-process";

/// When the process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartWhen {
    /// With the manager.
    Now,
    /// When somebody asks `models.get-state` (for more than a look: `topics::LOOK`), a model is
    /// chosen, or [`ModelManager::wake`] is called.
    Asked,
}

/// How the manager is set up.
#[derive(Clone)]
pub struct ManagerConfig {
    /// What runs as the model process: this program with `modelservice`.
    pub program: Program,
    /// Folder for the starter's file: `<data>/models`.
    pub models: PathBuf,
    /// Folder that the process may write to; emptied before each start and after each end.
    pub scratch: PathBuf,
    /// The model that the program brings along; embedded by the composition.
    pub starter: Option<Embedded>,
    /// Threads that compute; 0: the physical cores.
    pub threads: u32,
    /// Tokens of context for each sequence; 0: as the model suggests, at most 4096.
    pub context: u32,
    /// Sequences at once.
    pub sequences: u32,
    /// When the process starts.
    pub start: StartWhen,
    /// Longest time for loading.
    pub load_limit: Duration,
    /// Time without a question after which the process ends; the next question starts it.
    pub idle_limit: Option<Duration>,
    /// Where prompts are kept across restarts of the process; otherwise they are not.
    pub prompts: Option<PromptCache>,
    /// How often it is looked for prompts whose conversation has gone quiet. One that has not
    /// changed from one look to the next is kept.
    pub quiet: Duration,
    /// How models are downloaded; `None`: not at all.
    pub pull: Option<PullConfig>,
}

impl ManagerConfig {
    /// With `program modelservice`, no starter, and everything else as the machine suggests.
    #[must_use]
    pub fn new(program: PathBuf, models: PathBuf, scratch: PathBuf) -> Self {
        Self {
            program: Program {
                path: program,
                arguments: vec!["modelservice".into()],
            },
            models,
            scratch,
            starter: None,
            threads: 0,
            context: 0,
            sequences: crate::engine::DEFAULT_SEQUENCES,
            start: StartWhen::Now,
            load_limit: Duration::from_secs(15 * 60),
            idle_limit: None,
            prompts: None,
            quiet: Duration::from_secs(20),
            pull: None,
        }
    }
}

/// Why the manager could not start.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The registry can't be read or written.
    #[error("the registry of models can't be used")]
    Registry(#[from] StoreError),
    /// Its topics can't be served.
    #[error("the topics of models can't be served")]
    Bus(#[from] BusError),
    /// The starter model can't be put in place.
    #[error("the starter model can't be put in place")]
    Starter(#[from] StarterError),
    /// A folder can't be made.
    #[error("{path} can't be made")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The starting thread can't be started.
    #[error("the thread that starts processes can't be started")]
    Thread(#[source] std::io::Error),
}

/// Orders of the daemon to the manager.
pub(crate) enum Order {
    Wake,
    Forget(PersonId),
    /// A model that was downloaded shall answer.
    Choose(ModelId),
    Stop(oneshot::Sender<()>),
}

/// The manager of models. Dropping it kills the model process.
pub struct ModelManager {
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<v1::ModelState>,
    task: JoinHandle<()>,
    /// Ends the downloads; they go on with the next start.
    pulling: CancellationToken,
    puller: Option<JoinHandle<()>>,
}

impl ModelManager {
    /// Joins the bus as [`MANAGER`], puts the starter in place and starts serving.
    ///
    /// # Errors
    /// When registry, bus or folders can't be used. A model that can't run is no error here:
    /// it is told by the state.
    pub async fn start(
        bus: &Bus,
        listener: Arc<Listener>,
        registry: Arc<dyn ModelRegistryStore>,
        config: ManagerConfig,
    ) -> Result<Self, ManagerError> {
        let (orders, inbox) = mpsc::channel(16);
        let pulling = CancellationToken::new();
        let pull = config.pull.clone();
        let engine = (config.context, config.sequences);
        let (manager, state) =
            manager::Manager::new(bus, listener, Arc::clone(&registry), config, inbox).await?;
        let puller = match pull {
            None => None,
            Some(pull) => {
                let (orders, stop) = (orders.clone(), pulling.clone());
                Some(Puller::new(bus, registry, pull, engine, orders, stop)?)
            }
        };
        let task = tokio::spawn(manager.run());
        Ok(Self {
            orders,
            state,
            task,
            pulling,
            puller: puller.map(|puller| tokio::spawn(puller.run())),
        })
    }

    /// The state, as published on `models.state`.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<v1::ModelState> {
        self.state.clone()
    }

    /// Starts the process unless it runs already.
    pub async fn wake(&self) {
        let _stopped = self.orders.send(Order::Wake).await;
    }

    /// Empties what the process's cache holds of an erased or locked person.
    pub async fn forget(&self, person: PersonId) {
        let _stopped = self.orders.send(Order::Forget(person)).await;
    }

    /// Does so for each person that is told, as long as the manager is there.
    pub fn forget_all(&self, mut persons: broadcast::Receiver<PersonId>) {
        use broadcast::error::RecvError;
        let orders = self.orders.clone();
        tokio::spawn(async move {
            loop {
                let person = tokio::select! {
                    () = orders.closed() => return,
                    person = persons.recv() => person,
                };
                match person {
                    Ok(person) => {
                        let _stopped = orders.send(Order::Forget(person)).await;
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
    }

    /// Ends the process and the manager; returns when both are gone.
    pub async fn stop(mut self) {
        self.pulling.cancel();
        if let Some(puller) = self.puller.take() {
            let _ended = puller.await;
        }
        let (done, gone) = oneshot::channel();
        let _stopped = self.orders.send(Order::Stop(done)).await;
        let _stopped = gone.await;
        let _ended = (&mut self.task).await;
    }
}

impl Drop for ModelManager {
    fn drop(&mut self) {
        self.pulling.cancel();
        self.task.abort();
    }
}
