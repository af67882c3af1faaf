//! The worker of one package: its queue, and its process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_bus::{Request, Responder};
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{Fault, Priority};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ask::{Ask, Pieces};
use super::room::Room;
use super::run::{Run, RunError};
use super::{Config, State};
use crate::supervisor::backoff;
use crate::supervisor::child::Starter;
use crate::transformers::package::Package;
use crate::transformers::wire::{Failure, Launch, VERSION};

/// Questions that wait for one package.
const QUEUE: usize = 128;
/// Longest time for one piece of a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Longest time for loading, whatever the largest chat models get: a second for each 100 MB.
const LOAD_LIMIT: Duration = Duration::from_secs(3 * 60);
/// Failures to load in a row after which it is left alone for a while.
const LOAD_CRASHES: u32 = 3;
/// How long that is.
const LEFT_ALONE: Duration = Duration::from_secs(10 * 60);

/// A question that waits.
pub(super) struct Job {
    to: Responder,
    ask: Ask,
    priority: i32,
}

impl Job {
    pub(super) fn new(request: Request, ask: Ask) -> Self {
        let priority = match Priority::try_from(request.envelope.priority) {
            Ok(Priority::Unspecified) | Err(_) => Priority::Normal,
            Ok(priority) => priority,
        };
        Self {
            to: request.stream(),
            ask,
            priority: priority.into(),
        }
    }
}

/// The daemon's hold on a worker.
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(
        package: Package,
        config: Config,
        starter: Starter,
        room: Arc<Room>,
    ) -> Self {
        let (jobs, inbox) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let state = Arc::new(Mutex::new(State {
            status: Status::Stopped,
            ..State::default()
        }));
        let inner = Inner {
            package,
            config,
            starter,
            room,
            inbox,
            queue: VecDeque::new(),
            run: None,
            leave: Arc::default(),
            state: Arc::clone(&state),
            stop: stop.clone(),
            used: Instant::now(),
            crashes: 0,
            load_crashes: 0,
            failed: None,
        };
        Self {
            jobs,
            state,
            stop,
            task: tokio::spawn(inner.run()),
        }
    }

    pub(super) fn submit(&self, job: Job) {
        if let Err(error) = self.jobs.try_send(job) {
            let job = match error {
                mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job) => {
                    job
                }
            };
            job.to
                .fault(Fault::busy("Too many questions wait for this model"));
        }
    }

    pub(super) fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// Ends its process; those that wait are told that the server went away.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        let _ended = self.task.await;
    }
}

/// A question that is being answered.
struct Doing {
    to: Responder,
    pieces: Pieces,
    priority: i32,
}

struct Inner {
    package: Package,
    config: Config,
    starter: Starter,
    room: Arc<Room>,
    inbox: mpsc::Receiver<Job>,
    queue: VecDeque<Doing>,
    run: Option<Run>,
    /// Somebody else needs the room.
    leave: Arc<Notify>,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
    used: Instant,
    crashes: u32,
    load_crashes: u32,
    /// Why it can't be loaded, and since when.
    failed: Option<(Fault, Instant)>,
}

impl Inner {
    async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
        self.unload().await;
        // One that was stopped while it loaded had its place already.
        self.room.leave(&self.package.name);
    }

    async fn work(&mut self) {
        loop {
            while let Ok(job) = self.inbox.try_recv() {
                self.take(job);
            }
            if self.queue.is_empty() {
                if !self.rest().await {
                    return;
                }
                continue;
            }
            if let Err(fault) = self.ready().await {
                while let Ok(job) = self.inbox.try_recv() {
                    self.take(job);
                }
                for doing in self.queue.drain(..) {
                    doing.to.fault(fault.clone());
                }
                continue;
            }
            self.step().await;
        }
    }

    fn take(&mut self, job: Job) {
        self.queue.push_back(Doing {
            pieces: Pieces::new(job.ask, &self.package.name),
            to: job.to,
            priority: job.priority,
        });
    }

    /// Waits for a question. False: the daemon ends.
    async fn rest(&mut self) -> bool {
        self.room.busy(&self.package.name, false);
        let idle = match (&self.run, self.config.idle_limit) {
            (Some(_), Some(limit)) => Some(tokio::time::Instant::from_std(self.used) + limit),
            _ => None,
        };
        let leave = Arc::clone(&self.leave);
        tokio::select! {
            job = self.inbox.recv() => match job {
                Some(job) => {
                    self.room.busy(&self.package.name, true);
                    self.take(job);
                }
                None => return false,
            },
            status = ended(&mut self.run) => {
                tracing::warn!(name = self.package.name, ?status, "The process of a package ended.");
                self.lost();
            }
            () = until(idle) => {
                tracing::info!(name = self.package.name, "Nobody asked for a while; the package is unloaded.");
                self.unload().await;
            }
            () = leave.notified() => self.unload().await,
        }
        true
    }

    fn tell(&self, status: Status, fault: Option<Fault>) {
        *self.state.lock() = State {
            status,
            fault,
            process_id: self.run.as_ref().map_or(0, Run::process_id),
        };
    }

    async fn unload(&mut self) {
        if let Some(run) = self.run.take() {
            run.end().await;
            self.room.leave(&self.package.name);
        }
        self.tell(Status::Stopped, None);
    }

    /// The process is gone.
    fn lost(&mut self) {
        self.run = None;
        self.room.leave(&self.package.name);
        if self.used.elapsed() > backoff::WELL_AFTER {
            self.crashes = 0;
        }
        self.crashes += 1;
        self.tell(Status::Stopped, None);
    }

    /// Sees to it that a process can be asked.
    async fn ready(&mut self) -> Result<(), Fault> {
        if self.run.is_some() {
            return Ok(());
        }
        if let Some((fault, since)) = &self.failed
            && since.elapsed() < LEFT_ALONE
        {
            return Err(fault.clone());
        }
        self.failed = None;
        let need = self.package.memory();
        let entered = self.room.enter(&self.package.name, need, &self.leave).await;
        if let Err(fault) = entered {
            self.tell(Status::Failed, Some(fault.clone()));
            return Err(fault);
        }
        loop {
            if self.crashes > 0 {
                tokio::time::sleep(backoff::wait(self.crashes, backoff::chance())).await;
            }
            self.tell(Status::Starting, None);
            let launch = Launch {
                transformers: VERSION,
                folder: self.config.folder.join(&self.package.name),
                description: serde_json::to_string(&self.package).unwrap_or_default(),
                // Room for what is unusual, and an end for what is hostile.
                memory: need.saturating_mul(2).saturating_add(1 << 30),
                threads: match self.config.threads {
                    0 => crate::threads::physical(),
                    some => some,
                },
            };
            let program = self.config.program.clone();
            let limit = self.config.load_limit.min(LOAD_LIMIT);
            let error = match Run::start(&self.starter, program, &launch, limit).await {
                Ok(run) => {
                    tracing::info!(name = self.package.name, "A package is loaded.");
                    self.run = Some(run);
                    self.load_crashes = 0;
                    self.used = Instant::now();
                    self.tell(Status::Ready, None);
                    return Ok(());
                }
                Err(error) => error,
            };
            self.crashes += 1;
            self.load_crashes += 1;
            if matches!(error, RunError::Ended) && self.load_crashes < LOAD_CRASHES {
                continue;
            }
            self.load_crashes = 0;
            let fault = self.fault(&error);
            tracing::warn!(
                name = self.package.name,
                code = fault.code,
                "A package can't be loaded."
            );
            self.room.leave(&self.package.name);
            self.failed = Some((fault.clone(), Instant::now()));
            self.tell(Status::Failed, Some(fault.clone()));
            return Err(fault);
        }
    }

    fn fault(&self, error: &RunError) -> Fault {
        let name = &self.package.name;
        let again = format!("Get it again: `aico model remove {name}`, then add or pull it.");
        match error {
            RunError::Start(error) => Fault::model_failed("The model's process can't be started")
                .with_detail(format!("{error}."))
                .with_what_to_do("`aico doctor` tells more."),
            RunError::Ended => Fault::model_failed("The model crashes whenever it is loaded")
                .with_detail(format!("Its process ended {LOAD_CRASHES} times."))
                .with_what_to_do("Use another model, or get this one again."),
            RunError::TooSlow => Fault::model_failed("The model took too long to load")
                .with_what_to_do("Try again, or use a smaller model."),
            RunError::Strange => Fault::model_failed("The model's process said something strange")
                .with_what_to_do("Use another model, or get this one again."),
            RunError::Told(Failure::Missing) => {
                Fault::new("model-missing", "A file of the model is not there")
                    .with_what_to_do(again)
            }
            RunError::Told(Failure::Damaged) => {
                Fault::new("model-damaged", "A file of the model has changed")
                    .with_what_to_do(again)
            }
            RunError::Told(Failure::Unreadable) => Fault::storage_failing()
                .with_detail(format!("A file of the model {name} can't be read.")),
            RunError::Told(
                failure @ (Failure::Graph | Failure::Tokeniser | Failure::Unfit | Failure::Crashed),
            ) => {
                let why = match failure {
                    Failure::Crashed => "what reads its files failed at them",
                    Failure::Graph => "its graph can't be read or computed",
                    Failure::Tokeniser => "its tokeniser can't be read",
                    _ => "graph, tokeniser and description do not fit together",
                };
                Fault::new("model-refused", "The model can't be loaded")
                    .with_detail(format!("Because {why}."))
                    .with_what_to_do("Use another model, or another export of this one.")
            }
            RunError::Told(Failure::Launch) => {
                Fault::model_failed("The model's process did not understand us")
                    .with_what_to_do("AICO was replaced while it ran: start it again.")
            }
            RunError::Told(Failure::Confinement) => {
                Fault::model_failed("The model's process could not be set up")
                    .with_what_to_do("`aico doctor` tells more.")
            }
        }
    }

    /// Has one piece answered: of the most urgent questions the one that waits longest.
    async fn step(&mut self) {
        self.queue.retain(|doing| !doing.to.is_cancelled());
        let most = self.queue.iter().map(|doing| doing.priority).max();
        let next = self
            .queue
            .iter()
            .position(|doing| Some(doing.priority) == most);
        let Some(mut doing) = next.and_then(|at| self.queue.remove(at)) else {
            return;
        };
        let (Some(piece), Some(run)) = (doing.pieces.next(), self.run.as_mut()) else {
            return;
        };
        let asked = run.ask(doing.pieces.kind(), &piece, ANSWER_LIMIT).await;
        self.used = Instant::now();
        let what_to_do = "Ask again. If it stays so, use another model.";
        match asked {
            Ok(Ok(bytes)) if doing.pieces.take(&bytes) => {
                self.crashes = 0;
                match doing.pieces.is_done() {
                    true => doing.pieces.reply(doing.to),
                    // Behind the others.
                    false => self.queue.push_back(doing),
                }
            }
            Ok(Err(fault)) => doing.to.fault(fault),
            Ok(Ok(_)) | Err(RunError::Strange) => {
                tracing::warn!(
                    name = self.package.name,
                    "The process of a package said something strange."
                );
                self.lost();
                let title = "The model answered something strange";
                doing
                    .to
                    .fault(Fault::model_failed(title).with_what_to_do(what_to_do));
            }
            Err(RunError::TooSlow) => {
                tracing::warn!(name = self.package.name, "The process of a package hangs.");
                self.lost();
                let title = "The model took too long to answer";
                doing
                    .to
                    .fault(Fault::model_failed(title).with_what_to_do(what_to_do));
            }
            Err(_) => {
                tracing::warn!(
                    name = self.package.name,
                    "The process of a package ended while it worked."
                );
                self.lost();
                let title = "The model's process ended while it worked";
                doing
                    .to
                    .fault(Fault::model_failed(title).with_what_to_do(what_to_do));
            }
        }
    }
}

/// The end of the process; never without one.
async fn ended(run: &mut Option<Run>) -> Option<std::process::ExitStatus> {
    match run {
        Some(run) => run.ended().await,
        None => std::future::pending().await,
    }
}

async fn until(timer: Option<tokio::time::Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
