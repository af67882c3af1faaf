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
use crate::batch::queue::rank;
use crate::router::Ticket;
use crate::router::packages::Packages;
use crate::supervisor::backoff;
use crate::supervisor::child::Starter;
use crate::supervisor::places::{Places, Seat};
use crate::supervisor::prepare::LOOK_AGAIN;
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
            gave_way: None,
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

fn urgency_of(priority: i32) -> Priority {
    Priority::try_from(priority).unwrap_or(Priority::Normal)
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
    /// How urgent the one was that it gave its place up for, with work undone; until it has one
    /// again.
    gave_way: Option<Priority>,
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
            if !self.anyone_waits() {
                if !self.rest().await {
                    return;
                }
                continue;
            }
            if let Err(fault) = self.ready().await {
                self.anyone_waits();
                for doing in self.queue.drain(..) {
                    doing.to.fault(fault.clone());
                }
                continue;
            }
            if self.has_to_leave() {
                tracing::info!(
                    name = self.package.name,
                    "A package stops its work for what is more urgent; it goes on when there is room."
                );
                self.unload().await;
                continue;
            }
            self.step().await;
        }
    }

    /// Notes how urgent its work is; whether it has to leave for what is more urgent, and its work
    /// waits.
    fn has_to_leave(&mut self) -> bool {
        let Some(seat) = &self.seat else {
            return false;
        };
        let Some(urgency) = seat.works(self.urgency()) else {
            return false;
        };
        self.gave_way = Some(urgency);
        true
    }

    /// How urgent its most urgent question is.
    fn urgency(&self) -> Priority {
        let most = self.queue.iter().map(|doing| doing.priority).max();
        most.map_or(Priority::Background, urgency_of)
    }

    /// Takes those that have come; whether anybody waits for an answer.
    fn anyone_waits(&mut self) -> bool {
        while let Ok(job) = self.inbox.try_recv() {
            self.take(job);
        }
        self.queue.retain(|doing| !doing.to.is_cancelled());
        !self.queue.is_empty()
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
        self.gave_way = None;
        if let Some(seat) = &self.seat {
            seat.rests();
        }
        let idle = match (&self.run, self.config.idle_limit) {
            (Some(_), Some(limit)) => Some(tokio::time::Instant::from_std(self.used) + limit),
            _ => None,
        };
        self.known.rests(&self.package.name, idle);
        tokio::select! {
            job = self.inbox.recv() => match job {
                Some(job) => self.take(job),
                None => return false,
            },
            status = ended(&mut self.run) => {
                tracing::warn!(name = self.package.name, ?status, "The process of a package ended.");
                self.lost().await;
            }
            () = until(idle) => {
                tracing::info!(name = self.package.name, "Nobody asked for a while; the package is unloaded.");
                self.unload().await;
            }
            () = sent_away(self.seat.as_ref()) => self.unload().await,
        }
        true
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

    /// The process is gone, or of no use any more.
    async fn lost(&mut self) {
        // Its memory is back before its seat is: nobody is refused for what a dying one has.
        if let Some(run) = &mut self.run {
            run.kill().await;
        }
        self.run = None;
        self.seat = None;
        if self.used.elapsed() > backoff::WELL_AFTER {
            self.crashes = 0;
        }
        self.crashes += 1;
        self.tell(Status::Stopped, None);
    }

    /// Waits for a seat. False: nobody waits for an answer any more, and nobody goes for that.
    async fn enter(&mut self, need: u64) -> Result<bool, Fault> {
        let (places, name) = (Arc::clone(&self.places), self.package.name.clone());
        let mut urgency = self.urgency();
        let entered = places.enter(&name, need, urgency);
        tokio::pin!(entered);
        while self.anyone_waits() {
            if rank(self.urgency()) != rank(urgency) {
                // Others come before it now, or it before them.
                urgency = self.urgency();
                entered.set(places.enter(&name, need, urgency));
            }
            match tokio::time::timeout(LOOK_AGAIN, &mut entered).await {
                Ok(Ok(seat)) => {
                    self.seat = Some(seat);
                    return Ok(self.anyone_waits());
                }
                Ok(Err(fault)) if self.goes_on_waiting(&fault) => {
                    urgency = self.urgency();
                    entered.set(places.enter(&name, need, urgency));
                }
                Ok(Err(fault)) => return Err(fault),
                Err(_not_yet) => {}
            }
        }
        Ok(false)
    }

    /// Whether it waits for a seat for as long as it takes: what gave way is not refused for that.
    /// What is as urgent as the one it gave way to is told that there is no room.
    fn goes_on_waiting(&mut self, fault: &Fault) -> bool {
        self.anyone_waits();
        let Some(urgency) = self.gave_way else {
            return false;
        };
        if fault.code != "busy" || !self.places.is_served() {
            return false;
        }
        let stays = |doing: &Doing| rank(urgency_of(doing.priority)) < rank(urgency);
        let (stay, refused): (VecDeque<_>, VecDeque<_>) = self.queue.drain(..).partition(stays);
        self.queue = stay;
        for doing in refused {
            doing.to.fault(fault.clone());
        }
        true
    }

    /// Sees to it that a process can be asked, as long as anybody waits for it.
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
        loop {
            // Without a seat: for one that has no process nobody has to go, or to wait.
            if self.crashes > 0 {
                tokio::time::sleep(backoff::wait(self.crashes, backoff::chance())).await;
            }
            match self.enter(need).await {
                Ok(true) => {}
                Ok(false) => {
                    self.unload().await;
                    return Ok(());
                }
                Err(fault) => {
                    self.tell(Status::Failed, Some(fault.clone()));
                    return Err(fault);
                }
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
                match run.ready(limit).await {
                    Ok(()) => Ok::<_, RunError>(run),
                    Err(error) => {
                        run.kill().await;
                        Err(error)
                    }
                }
            };
            let error = match loaded.await {
                Ok(run) => {
                    tracing::info!(name = self.package.name, "A package is loaded.");
                    self.run = Some(run);
                    self.gave_way = None;
                    self.load_crashes = 0;
                    self.used = Instant::now();
                    self.tell(Status::Ready, None);
                    return Ok(());
                }
                Err(error) => error,
            };
            self.seat = None;
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
                self.lost().await;
                let title = "The model answered something strange";
                doing
                    .to
                    .fault(Fault::model_failed(title).with_what_to_do(what_to_do));
            }
            Err(RunError::TooSlow) => {
                tracing::warn!(name = self.package.name, "The process of a package hangs.");
                self.lost().await;
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
                self.lost().await;
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

    /// Processes that are scripts; the manager's side is the test's.
    #[cfg(unix)]
    mod played {
        use std::io::Write as _;
        use std::path::{Path, PathBuf};
        use std::pin::Pin;

        use aico_bus::{AllowAll, Bus, Client, Identity, Meta, RequestError, Requests};
        use aico_contracts::topics;
        use aico_contracts::v1::{Embed, Embedded, EmbeddedText};
        use prost::Message as _;

        use super::*;
        use crate::router::{Activity, Backends, Guard, Router, packages};
        use crate::supervisor::SystemMemory;
        use crate::supervisor::child::Program;
        use crate::supervisor::places::{Entrance, Entry};
        use crate::transformers::wire::{Kind, head};

        /// Longest wait for anything: generous, for a busy machine.
        const SOON: Duration = Duration::from_secs(60);

        struct Stage {
            worker: Worker,
            entrance: Entrance,
            router: Router,
            asker: Client,
            inbox: Requests,
            folder: tempfile::TempDir,
            _bus: Bus,
        }

        type Asked = Pin<Box<dyn Future<Output = Result<Embedded, RequestError>>>>;

        /// A worker whose process is this script, which finds the folder of packages in `$FOLDER`.
        fn stage(script: &str) -> Stage {
            let folder = tempfile::tempdir().unwrap();
            let bus = Bus::new(Arc::new(AllowAll));
            let client = bus.join(Identity::new("manager"));
            let inbox = client.serve(topics::MODELS_EMBED, 8).unwrap();
            let memory = Arc::new(SystemMemory);
            let router = Router::new(
                client,
                Backends::default(),
                memory,
                1,
                Guard::default(),
                Activity::default(),
            );
            let package = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/fixtures/transformers")
                .join("tiny-bert");
            let config = Config {
                program: Program {
                    path: PathBuf::from("/bin/sh"),
                    arguments: vec!["-c".into(), script.into()],
                    environment: vec![("FOLDER".into(), folder.path().into())],
                },
                folder: folder.path().to_owned(),
                idle_limit: None,
                load_limit: LOAD_LIMIT,
                threads: 1,
            };
            let entrance = Entrance::new();
            let worker = Worker::start(
                Package::read(&package).unwrap(),
                config,
                Starter::new().unwrap(),
                Arc::clone(&entrance.places),
                router.packages.clone(),
            );
            Stage {
                worker,
                entrance,
                router,
                asker: bus.join(Identity::new("companion")),
                inbox,
                folder,
                _bus: bus,
            }
        }

        impl Stage {
            /// Asks it something; who drops this waits no more.
            async fn ask(&mut self) -> Asked {
                self.ask_as(Priority::Normal, 1).await
            }

            /// So many texts, by somebody to whom it is so urgent.
            async fn ask_as(&mut self, priority: Priority, texts: usize) -> Asked {
                let asker = self.asker.clone();
                let mut asked: Asked = Box::pin(async move {
                    let question = Embed {
                        texts: vec!["a".into(); texts],
                        ..Embed::default()
                    };
                    let meta = Meta::default().priority(priority);
                    asker.request(topics::MODELS_EMBED, &question, meta).await
                });
                let request = tokio::select! {
                    _ = &mut asked => panic!("nobody was asked"),
                    request = self.inbox.recv() => request.unwrap(),
                };
                let ask = Ask::Embed(request.decode().unwrap());
                let (id, name) = (packages::id_of("tiny-bert"), "tiny-bert");
                let engine = packages::ENGINE;
                let ticket = self.router.asked(id, name, engine, &request.envelope);
                self.worker.submit(Job::new(request, ask, ticket));
                asked
            }

            /// It wants to be let in.
            async fn entry(&mut self) -> Entry {
                let entry = tokio::time::timeout(SOON, self.entrance.inbox.recv());
                entry.await.unwrap().unwrap()
            }

            fn is_outside(&self) -> bool {
                self.entrance.places.is_empty()
            }
        }

        async fn refused(asked: Asked) -> Fault {
            let told = tokio::time::timeout(SOON, asked).await;
            told.unwrap().unwrap_err().into_fault()
        }

        async fn until(holds: impl Fn() -> bool) {
            let waits = async {
                while !holds() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(SOON, waits).await.unwrap();
        }

        #[tokio::test]
        async fn its_seat_is_given_back_when_the_process_is_gone() {
            // It is ready, and what it says then is no frame.
            let script = r#"
                echo $$ > "$FOLDER/process"
                read -r line
                printf '\005\000\000\000\007"ready"\011\000\000\000\000'
                exec /bin/sleep 1000
            "#;
            let mut stage = stage(script);
            let asked = stage.ask().await;
            let entry = stage.entry().await;
            stage.entrance.let_in(entry);
            let told = refused(asked).await;
            assert_eq!(told.title, "The model answered something strange");
            assert!(stage.is_outside());
            let process = std::fs::read_to_string(stage.folder.path().join("process")).unwrap();
            let asks = format!("kill -0 {} 2>/dev/null", process.trim());
            let there = std::process::Command::new("/bin/sh")
                .args(["-c", &asks])
                .status();
            assert!(!there.unwrap().success(), "it is still there");
            stage.worker.stop().await;
        }

        #[tokio::test]
        async fn one_that_crashes_has_no_seat_until_it_is_started_again() {
            let mut stage = stage("exit 1");
            let asked = stage.ask().await;
            for _ in 0..LOAD_CRASHES {
                let entry = stage.entry().await;
                assert!(stage.is_outside());
                stage.entrance.let_in(entry);
            }
            let told = refused(asked).await;
            assert_eq!(told.title, "The model crashes whenever it is loaded");
            assert!(stage.is_outside());
            stage.worker.stop().await;
        }

        #[tokio::test]
        async fn none_is_loaded_for_who_waits_no_more() {
            // It would load for ever.
            let mut stage = stage("exec /bin/sleep 1000");
            let asked = stage.ask().await;
            let entry = stage.entry().await;
            drop(asked);
            until(|| entry.is_given_up()).await;
            // The same when it is let in just then.
            let asked = stage.ask().await;
            let entry = stage.entry().await;
            drop(asked);
            stage.entrance.let_in(entry);
            assert!(!stage.is_outside());
            until(|| stage.is_outside()).await;
            assert_eq!(stage.worker.state().status, Status::Stopped);
            stage.worker.stop().await;
        }

        /// A frame as `printf` takes it.
        fn frame(kind: Kind, bytes: &[u8]) -> String {
            let all = [&head(kind, bytes.len())[..], bytes].concat();
            let octal: Vec<_> = all.iter().map(|byte| format!("\\{byte:03o}")).collect();
            octal.concat()
        }

        #[tokio::test]
        async fn its_background_work_gives_way_between_two_pieces_and_waits() {
            // Texts that it is handed at once.
            let piece = 32;
            let question = Embed {
                texts: vec!["a".into(); piece],
                ..Embed::default()
            };
            let answer = Embedded {
                items: vec![EmbeddedText::default(); piece],
                ..Embedded::default()
            };
            // It answers a piece for each line that it is told.
            let script = format!(
                r#"
                read -r line
                printf '{}'
                while /usr/bin/head -c {} >"$FOLDER/asked" && [ -s "$FOLDER/asked" ]; do
                    read -r line <"$FOLDER/go"
                    printf '{}'
                done
                "#,
                frame(Kind::Report, b"\"ready\""),
                5 + question.encoded_len(),
                frame(Kind::Embed, &answer.encode_to_vec()),
            );
            let mut stage = stage(&script);
            let go = stage.folder.path().join("go");
            let made = std::process::Command::new("mkfifo").arg(&go).status();
            assert!(made.unwrap().success());
            // Open both ways: neither side waits for the other.
            let mut go = std::fs::File::options()
                .read(true)
                .write(true)
                .open(go)
                .unwrap();
            let asked_for = stage.folder.path().join("asked");

            let work = stage.ask_as(Priority::Background, 2 * piece).await;
            let entry = stage.entry().await;
            stage.entrance.let_in(entry);
            until(|| std::fs::metadata(&asked_for).is_ok_and(|file| file.len() > 0)).await;
            let places = Arc::clone(&stage.entrance.places);
            let sent = |urgency| places.send_away("tiny-bert", urgency);
            assert!(!sent(Priority::Background));
            assert!(sent(Priority::Interactive));
            assert!(!stage.is_outside(), "it is at a piece");
            go.write_all(b"\n").unwrap();

            // It asks for a place anew, with one piece left.
            let entry = stage.entry().await;
            assert!(stage.is_outside());
            assert_eq!(entry.urgency, Priority::Background);
            let person = stage.ask_as(Priority::Interactive, 1).await;
            let urgent = stage.entry().await;
            assert_eq!(urgent.urgency, Priority::Interactive);
            assert!(entry.is_given_up());
            urgent.refuse_busy();
            assert_eq!(refused(person).await.code, "busy");
            let entry = stage.entry().await;
            assert_eq!(entry.urgency, Priority::Background);
            stage.entrance.let_in(entry);
            go.write_all(b"\n").unwrap();
            let done = tokio::time::timeout(SOON, work).await;
            assert_eq!(done.unwrap().unwrap().items.len(), 2 * piece);
            stage.worker.stop().await;
        }
    }
}
