//! The worker of one package: its queue, and its process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_bus::Request;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{Fault, Priority};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ask::{Ask, Asker, Pieces};
use super::run::{Run, RunError};
use super::{Config, State};
use crate::router::Ticket;
use crate::router::packages::Packages;
use crate::supervisor::backoff;
use crate::supervisor::child::Starter;
use crate::supervisor::places::{Places, Seat};
use crate::transformers::package::Package;
use crate::transformers::wire::{Failure, Launch, VERSION};

/// Questions that wait for one package.
pub(super) const QUEUE: usize = 128;
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
    to: Asker,
    ask: Ask,
    priority: i32,
}

impl Job {
    pub(super) fn new(request: Request, ask: Ask, ticket: Ticket) -> Self {
        let priority = match Priority::try_from(request.envelope.priority) {
            Ok(Priority::Unspecified) | Err(_) => Priority::Normal,
            Ok(priority) => priority,
        };
        Self {
            to: Asker::new(request, ticket),
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
        places: Arc<Places>,
        known: Packages,
    ) -> Self {
        let (jobs, inbox) = mpsc::channel(2 * QUEUE);
        let stop = CancellationToken::new();
        let state = Arc::new(Mutex::new(State {
            status: Status::Stopped,
            ..State::default()
        }));
        let inner = Inner {
            package,
            config,
            starter,
            places,
            known,
            inbox,
            queue: VecDeque::new(),
            run: None,
            seat: None,
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
            job.to.fault(busy());
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

fn busy() -> Fault {
    Fault::busy("Too many questions wait for this model")
}

/// Which one gives way: of the least urgent the one that came last.
fn last_of_least(priorities: &[i32]) -> Option<usize> {
    let least = priorities.iter().min()?;
    priorities.iter().rposition(|priority| priority == least)
}

/// A question that is being answered.
struct Doing {
    to: Asker,
    pieces: Pieces,
    priority: i32,
}

struct Inner {
    package: Package,
    config: Config,
    starter: Starter,
    places: Arc<Places>,
    /// Told how it is, for the figures.
    known: Packages,
    inbox: mpsc::Receiver<Job>,
    queue: VecDeque<Doing>,
    run: Option<Run>,
    /// Its place in memory: from before there is a process until that is gone.
    seat: Option<Seat>,
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

    /// Takes a question into the queue. Where that is full, whoever is least urgent and came last
    /// is refused.
    fn take(&mut self, job: Job) {
        self.queue.push_back(Doing {
            pieces: Pieces::new(job.ask, &self.package.name),
            to: job.to,
            priority: job.priority,
        });
        if self.queue.len() <= QUEUE {
            return;
        }
        self.queue.retain(|doing| !doing.to.is_cancelled());
        let priorities: Vec<_> = self.queue.iter().map(|doing| doing.priority).collect();
        if priorities.len() > QUEUE
            && let Some(refused) = last_of_least(&priorities).and_then(|at| self.queue.remove(at))
        {
            refused.to.fault(busy());
        }
    }

    /// Waits for a question. False: the daemon ends.
    async fn rest(&mut self) -> bool {
        self.note_busy(false);
        let idle = match (&self.run, self.config.idle_limit) {
            (Some(_), Some(limit)) => Some(tokio::time::Instant::from_std(self.used) + limit),
            _ => None,
        };
        self.known.rests(&self.package.name, idle);
        tokio::select! {
            job = self.inbox.recv() => match job {
                Some(job) => {
                    self.note_busy(true);
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
            () = sent_away(self.seat.as_ref()) => self.unload().await,
        }
        true
    }

    fn note_busy(&self, busy: bool) {
        if let Some(seat) = &self.seat {
            seat.busy(busy);
        }
    }

    fn tell(&self, status: Status, fault: Option<Fault>) {
        let process_id = self.run.as_ref().map_or(0, Run::process_id);
        *self.state.lock() = State {
            status,
            fault,
            process_id,
        };
        self.known.put(&self.package.name, status, process_id);
    }

    async fn unload(&mut self) {
        if let Some(run) = self.run.take() {
            run.end().await;
        }
        self.seat = None;
        self.tell(Status::Stopped, None);
    }

    /// The process is gone.
    fn lost(&mut self) {
        self.run = None;
        self.seat = None;
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
        match self.places.enter(&self.package.name, need).await {
            Ok(seat) => self.seat = Some(seat),
            Err(fault) => {
                self.tell(Status::Failed, Some(fault.clone()));
                return Err(fault);
            }
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
            let loaded = async {
                let mut run = Run::start(&self.starter, program, &launch).await?;
                if let Some(seat) = &self.seat {
                    seat.runs(run.process_id());
                }
                run.ready(limit).await?;
                Ok::<_, RunError>(run)
            };
            let error = match loaded.await {
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
            self.seat = None;
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
        doing.to.has_turn();
        let asked = run.ask(doing.pieces.kind(), &piece, ANSWER_LIMIT).await;
        self.used = Instant::now();
        let what_to_do = "Ask again. If it stays so, use another model.";
        match asked {
            Ok(Ok(bytes)) if doing.pieces.take(&bytes) => {
                self.crashes = 0;
                match doing.pieces.is_done() {
                    true => doing.pieces.reply(doing.to),
                    // Behind the others.
                    false => {
                        doing.to.yielded(doing.pieces.tokens());
                        self.queue.push_back(doing);
                    }
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

/// Somebody else needs its place; never without one.
async fn sent_away(seat: Option<&Seat>) {
    match seat {
        Some(seat) => seat.sent_away().await,
        None => std::future::pending().await,
    }
}

async fn until(timer: Option<tokio::time::Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_least_urgent_the_one_that_came_last_gives_way() {
        let [background, normal, interactive] = [
            Priority::Background,
            Priority::Normal,
            Priority::Interactive,
        ]
        .map(i32::from);
        let queue = [interactive, background, background, normal];
        assert_eq!(last_of_least(&queue), Some(2));
        // A newcomer that is no more urgent than the others goes itself.
        assert_eq!(last_of_least(&[normal, interactive, normal]), Some(2));
        assert_eq!(last_of_least(&[]), None);
    }
}
