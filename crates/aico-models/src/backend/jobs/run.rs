//! One model on its way.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aico_bus::{Client, Meta};
use aico_contracts::ids::ModelId;
use aico_contracts::topics;
use aico_contracts::v1::engine_job::State;
use aico_contracts::v1::{self, Fault};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::note;
use crate::backend::shelf::{Making, Progress, Trouble};
use crate::backend::{Backend as _, Guarded};

/// The first wait after a failure that passes; doubled each time.
const WAIT: Duration = Duration::from_secs(2);
/// Failures in a row, without anything coming in between, after which it is given up.
const TRIES: u32 = 6;
/// Over which the rate is told.
const WINDOW: Duration = Duration::from_secs(10);
/// For choosing it afterwards.
const CHOOSING: Duration = Duration::from_secs(20);

/// What one is made of.
pub(super) struct Parts {
    pub(super) id: ModelId,
    pub(super) number: u64,
    pub(super) engine: Arc<Guarded>,
    pub(super) making: Making,
    pub(super) use_then: bool,
    /// A person waits for it: what can't even begin is told at once.
    pub(super) fresh: bool,
    pub(super) turn: Arc<Semaphore>,
    pub(super) client: Arc<Client>,
    pub(super) folder: PathBuf,
    pub(super) stop: CancellationToken,
}

#[derive(Clone)]
enum Phase {
    Queued,
    Running,
    Waiting(Instant, Fault),
    Done,
    Failed(Fault),
}

struct Shared {
    phase: Mutex<Phase>,
    use_then: AtomicBool,
    samples: Mutex<VecDeque<(Instant, u64)>>,
}

/// It runs until it is ended or done.
pub(super) struct Job {
    id: ModelId,
    number: u64,
    engine: Arc<Guarded>,
    name: String,
    created: bool,
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Job {
    pub(super) fn begin(parts: Parts) -> Self {
        let shared = Arc::new(Shared {
            phase: Mutex::new(Phase::Queued),
            use_then: AtomicBool::new(parts.use_then),
            samples: Mutex::default(),
        });
        let (sender, progress) = watch::channel(Progress::default());
        Self {
            id: parts.id,
            number: parts.number,
            engine: Arc::clone(&parts.engine),
            name: parts.making.name.clone(),
            created: parts.making.recipe.is_some(),
            stop: parts.stop.clone(),
            progress,
            shared: Arc::clone(&shared),
            task: tokio::spawn(run(parts, shared, sender)),
        }
    }

    pub(super) fn id(&self) -> ModelId {
        self.id
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn engine(&self) -> &Arc<Guarded> {
        &self.engine
    }

    pub(super) fn is_creation(&self) -> bool {
        self.created
    }

    pub(super) fn is_active(&self) -> bool {
        !matches!(*self.shared.phase.lock(), Phase::Done | Phase::Failed(_))
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(*self.shared.phase.lock(), Phase::Failed(_))
    }

    pub(super) fn use_then(&self) {
        self.shared.use_then.store(true, Ordering::Relaxed);
    }

    /// Ends it, and waits for its end.
    pub(super) async fn end(self) {
        self.stop.cancel();
        let _ended = self.task.await;
    }

    pub(super) fn told(&self) -> v1::EngineJob {
        let Progress { step, done, total } = self.progress.borrow().clone();
        let phase = self.shared.phase.lock().clone();
        let rate = match phase {
            Phase::Running => self.shared.rate(done),
            _ => 0,
        };
        let (state, fault, retry_in_ms) = match phase {
            Phase::Queued => (State::Queued, None, 0),
            Phase::Running => (State::Running, None, 0),
            Phase::Waiting(at, fault) => {
                let left = at.saturating_duration_since(Instant::now()).as_millis();
                let left = u64::try_from(left).unwrap_or(u64::MAX);
                (State::Waiting, Some(fault), left)
            }
            Phase::Done => (State::Done, None, 0),
            Phase::Failed(fault) => (State::Failed, Some(fault), 0),
        };
        v1::EngineJob {
            engine: self.engine.name().to_owned(),
            name: self.name.clone(),
            model: self.id.to_vec(),
            created: self.created,
            state: state.into(),
            step: step.to_owned(),
            done_bytes: done,
            total_bytes: total,
            bytes_per_second: rate,
            use_then: self.shared.use_then.load(Ordering::Relaxed),
            fault,
            retry_in_ms,
        }
    }
}

impl Shared {
    fn enter(&self, phase: Phase) {
        self.samples.lock().clear();
        *self.phase.lock() = phase;
    }

    /// Bytes in a second, from when it was asked before: whoever follows asks often.
    fn rate(&self, done: u64) -> u64 {
        let now = Instant::now();
        let mut samples = self.samples.lock();
        // It went back: another part began anew.
        if samples.back().is_some_and(|(_, last)| *last > done) {
            samples.clear();
        }
        samples.push_back((now, done));
        while samples
            .front()
            .is_some_and(|(first, _)| now.duration_since(*first) > WINDOW)
        {
            samples.pop_front();
        }
        let Some((first, bytes)) = samples.front() else {
            return 0;
        };
        let seconds = now.duration_since(*first).as_secs_f64();
        match seconds < 0.2 {
            true => 0,
            false => (done.saturating_sub(*bytes) as f64 / seconds) as u64,
        }
    }
}

async fn run(parts: Parts, shared: Arc<Shared>, progress: watch::Sender<Progress>) {
    let stop = parts.stop.clone();
    let done = tokio::select! {
        // What is stopped in the middle leaves what came with the program.
        () = stop.cancelled() => return,
        done = make(&parts, &shared, &progress) => done,
    };
    // The daemon may end or the person cancel while it is noted: both know what to do.
    let noted = note::remove(&parts.folder, parts.engine.name(), &parts.making.name).await;
    if let Err(fault) = noted {
        tracing::warn!(
            code = fault.code,
            "The note of a download could not be removed."
        );
    }
    let engine = parts.engine.name();
    match done {
        Err(fault) => {
            tracing::warn!(engine, code = fault.code, "A model was not made.");
            shared.enter(Phase::Failed(fault));
        }
        Ok(()) => {
            tracing::info!(engine, "A model is there.");
            if shared.use_then.load(Ordering::Relaxed) {
                choose(&parts).await;
            }
            shared.enter(Phase::Done);
        }
    }
}

async fn make(
    parts: &Parts,
    shared: &Shared,
    progress: &watch::Sender<Progress>,
) -> Result<(), Fault> {
    let Ok(_turn) = parts.turn.acquire().await else {
        return Err(Fault::internal("The turns of downloads ended"));
    };
    let Some(shelf) = parts.engine.shelf() else {
        return Err(Fault::internal("The program keeps its models itself"));
    };
    let mut dry = 0;
    let mut most = 0;
    loop {
        shared.enter(Phase::Running);
        let Trouble { fault, passes } = match shelf.make(&parts.making, progress).await {
            Ok(()) => return Ok(()),
            Err(trouble) => trouble,
        };
        let came = progress.borrow().done;
        dry = if came > most { 0 } else { dry + 1 };
        most = most.max(came);
        let nothing_came = parts.fresh && most == 0;
        if !passes || nothing_came || dry >= TRIES {
            return Err(fault);
        }
        tracing::warn!(code = fault.code, "A download does not go on.");
        let wait = WAIT * 2_u32.saturating_pow(dry.min(5));
        shared.enter(Phase::Waiting(Instant::now() + wait, fault));
        tokio::time::sleep(wait).await;
    }
}

/// It answers everybody from now on.
async fn choose(parts: &Parts) {
    let question = v1::UseModel {
        id: parts.id.to_vec(),
    };
    let meta = Meta {
        deadline: Some(SystemTime::now() + CHOOSING),
        ..Meta::default()
    };
    let asked: Result<v1::Empty, _> = parts
        .client
        .request(topics::MODELS_USE, &question, meta)
        .await;
    if let Err(error) = asked {
        tracing::warn!(%error, "A model that was downloaded could not be chosen.");
    }
}
