//! The part in the daemon: the registry of models, and the processes that run them.
//!
//! Prompts outlive the process where a [`PromptCache`] is given (`keeper`): whoever goes on with a
//! conversation asks `models.recall` before the question, and `models.discard` when it is gone.
//!
//! One task owns the truth (`manager`): it serves `models.list`, `add`, `use`, `remove`, `pin`,
//! `prepare`, `unload` and `get-state`, starts processes, hears of their ends, and publishes `models.state`
//! on every change. Each model in memory is a `slot` with a process, timers and kept prompts of its
//! own; what one of them does is nothing to the others. Who goes to make room for another, `room`
//! decides, for the packages of `transformers` too. Questions go through the [`router`](crate::router).
//! What a model file says of itself, processes of their own read (`heads`).
//!
//! A model is computed on a graphics device where one is wanted and can be had (`graphics`), and on
//! the processor otherwise.
//!
//! Whoever asks `models.generate` asks `models.prepare` first (or `models.get-state`, for the model
//! that is chosen for everybody): while it is `STARTING` the question would be told that the model
//! is not there. Subscribe to `models.state`, prepare, and prepare again at every change until it
//! says `READY`; `FAILED` carries the fault to show.

mod backoff;
mod child;
mod ending;
mod ends;
pub(crate) mod files;
mod graphics;
#[cfg(target_os = "linux")]
mod group;
pub(crate) mod heads;
mod installed;
mod keeper;
mod leave;
mod manager;
pub(crate) mod memory;
mod only;
mod places;
mod prepare;
mod pressure;
mod prompts;
mod pulse;
mod registry;
mod requests;
mod room;
mod scratch;
mod slot;
mod slots;
mod telling;
#[cfg(test)]
mod tests;
mod transformers;
mod vectors;
mod waiters;

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
pub use memory::{MemoryProbe, SystemMemory, Usage};
pub use registry::{Adapter, Choice, MIGRATIONS, ModelRecord, ModelRegistryStore, SystemRegistry};

use crate::gpu::GpuConfig;
use crate::prompt_cache::PromptCache;
use crate::pull::{Packages, PullConfig, Puller};
use crate::router::{Activity, Backends, Guard};
use crate::starter::{Embedded, StarterError};
use child::Starter;
use heads::{Heads, Processes};
use manager::Manager;
use transformers::Transformers;
pub(crate) use transformers::{FOLDER as PACKAGES, ShelfError, place_package};

/// The name under which the manager joins the bus.
pub const MANAGER: &str = "models";
/// What the names of model processes on the bus begin with; the number of their slot follows.
pub const PROCESS: &str = "model-process-";

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
    /// What reads what a model file says of itself: the same, unless a test wants another.
    pub reader: Program,
    /// How long that may take.
    pub read_limit: Duration,
    /// Whether and how models are computed on a graphics device.
    pub gpu: GpuConfig,
    /// Folder for the starter's file: `<data>/models`.
    pub models: PathBuf,
    /// Folder in which each process has one that it may write to; emptied before each start and after each end.
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
    /// How long a load may stand still.
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
    /// Models that may be in memory at once; at least 1.
    pub loaded: u32,
    /// Programs beside us that run models, those whose models are preferred first.
    pub backends: Backends,
    /// Where figures of memory come from.
    pub memory: Arc<dyn MemoryProbe>,
    /// How often it is looked whether a process still answers.
    pub pulse: Duration,
    /// What it may take for that before it is killed and started again. It does not answer while
    /// nothing came of the vectors that it computes for as long.
    pub hang_limit: Duration,
    /// How long a program beside us may say nothing.
    pub guard: Guard,
    /// The figures of what models do. Sums go on where the manager before left them, so that who
    /// keeps metrics does not see them fall because AICO was locked.
    pub activity: Activity,
}

impl ManagerConfig {
    /// With `program modelservice`, no starter, and everything else as the machine suggests.
    #[must_use]
    pub fn new(program: PathBuf, models: PathBuf, scratch: PathBuf) -> Self {
        let program = Program::new(program, "modelservice");
        Self {
            reader: program.clone(),
            read_limit: Duration::from_secs(20),
            program,
            gpu: GpuConfig::default(),
            models,
            scratch,
            starter: None,
            threads: 0,
            context: 0,
            sequences: crate::engine::DEFAULT_SEQUENCES,
            start: StartWhen::Now,
            load_limit: Duration::from_secs(5 * 60),
            idle_limit: None,
            prompts: None,
            quiet: Duration::from_secs(20),
            pull: None,
            loaded: 2,
            backends: Backends::default(),
            memory: Arc::new(SystemMemory),
            pulse: Duration::from_secs(10),
            hang_limit: Duration::from_secs(60),
            guard: Guard::default(),
            activity: Activity::default(),
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

/// The manager of models. Dropping it kills the model processes.
pub struct ModelManager {
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<v1::ModelState>,
    task: JoinHandle<()>,
    router: JoinHandle<()>,
    activity: Activity,
    /// Ends the downloads, which go on with the next start, and the transformers.
    pulling: CancellationToken,
    puller: Option<JoinHandle<()>>,
    transformers: JoinHandle<()>,
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
        let activity = config.activity.clone();
        let pulling = CancellationToken::new();
        let pull = config.pull.clone();
        let engine = (config.context, config.sequences);
        let packages = Packages::default();
        let (program, models) = (config.program.clone(), config.models.clone());
        let (idle_limit, load_limit) = (config.idle_limit, config.load_limit);
        let threads = config.threads;
        let starter = Starter::new().map_err(ManagerError::Thread)?;
        let heads = Heads::new(Processes {
            starter: starter.clone(),
            program: config.reader.clone(),
            limit: config.read_limit,
        });
        let (known, told) = (Arc::clone(&registry), heads.clone());
        let launcher = Arc::new(starter);
        let made = Manager::new(bus, listener, known, told, config, launcher, inbox).await?;
        let (manager, state, routed) = made;
        let transformers = Transformers::new(
            bus,
            transformers::Config {
                program,
                folder: models.join(transformers::FOLDER),
                idle_limit,
                load_limit,
                threads,
            },
            (manager.router.clone(), Arc::clone(&registry), heads.clone()),
            Arc::clone(&manager.entrance.places),
            Arc::clone(&packages.changed),
            pulling.clone(),
        )?;
        let router = tokio::spawn(manager.router.clone().run(routed));
        let puller = match pull {
            None => None,
            Some(pull) => {
                let (orders, stop) = (orders.clone(), pulling.clone());
                Some(Puller::new(
                    bus,
                    (registry, heads),
                    pull,
                    engine,
                    orders,
                    packages,
                    stop,
                )?)
            }
        };
        let task = tokio::spawn(manager.run());
        Ok(Self {
            orders,
            state,
            task,
            router,
            activity,
            pulling,
            puller: puller.map(|puller| tokio::spawn(puller.run())),
            transformers: tokio::spawn(transformers.run()),
        })
    }

    /// The state, as published on `models.state`.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<v1::ModelState> {
        self.state.clone()
    }

    /// Loads the chosen model unless one is in memory already.
    pub async fn wake(&self) {
        let _stopped = self.orders.send(Order::Wake).await;
    }

    /// Empties what the processes' caches hold of an erased or locked person, and forgets what they
    /// asked.
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

    /// Ends the processes and the manager; returns when all are gone.
    pub async fn stop(mut self) {
        self.pulling.cancel();
        if let Some(puller) = self.puller.take() {
            let _ended = puller.await;
        }
        let _ended = (&mut self.transformers).await;
        let (done, gone) = oneshot::channel();
        let _stopped = self.orders.send(Order::Stop(done)).await;
        let _stopped = gone.await;
        let _ended = (&mut self.task).await;
        self.router.abort();
        // Questions may have come until now.
        let _ended = (&mut self.router).await;
        self.activity.forget_requests();
    }
}

impl Drop for ModelManager {
    fn drop(&mut self) {
        self.pulling.cancel();
        self.transformers.abort();
        self.task.abort();
        self.router.abort();
    }
}
