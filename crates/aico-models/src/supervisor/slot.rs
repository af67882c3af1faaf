//! One model in memory: its process, from the start over crashes to the end.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use aico_bus::link::Listener;
use aico_bus::{Client, Identity};
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Fault};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::child::{Launcher, News, Run};
use super::ending::{Ending, GRACE, clear};
use super::ends::{Cause, Ends, MOST, Signs};
use super::files::{self, Presence};
use super::graphics::{self, Graphics, Pick, Place, Why};
use super::keeper::Keeper;
use super::pulse::Pulse;
use super::registry::ModelRecord;
use super::waiters::Waiters;
use super::{ManagerConfig, PROCESS, backoff, scratch};
use crate::clock;
use crate::engine::llama;
use crate::gpu::Kind;
use crate::process::launch::{self, Launch, Outcome, Report};
use crate::prompt_cache::{Fingerprint, PromptCache};
use crate::router::table::{Flight, View};

/// Crashes while loading after which a model is given up until the person acts.
const LOAD_CRASHES: u32 = 3;
/// What whoever was told that a model is ready gets to ask their question.
const LEASE: Duration = Duration::from_secs(1);
/// How long before the end of a process its last question may have gone: that is often heard first.
const MOMENT: Duration = Duration::from_secs(5);

/// What all slots share.
pub(super) struct Parts {
    pub(super) client: Client,
    pub(super) listener: Arc<Listener>,
    pub(super) launcher: Arc<dyn Launcher>,
    pub(super) config: ManagerConfig,
    pub(super) graphics: Graphics,
    pub(super) ends: Ends,
    /// Where a process is named that does not answer any more: slot and process id.
    pub(super) hung: mpsc::Sender<(u32, u32)>,
}

/// One model in memory, or on its way there, or that could not be brought there.
pub(super) struct Slot {
    pub(super) number: u32,
    /// As it was when its process started.
    pub(super) model: ModelRecord,
    /// Bytes that it takes, as estimated.
    pub(super) need: u64,
    pub(super) status: Status,
    pub(super) fault: Option<Fault>,
    run: Option<Run>,
    /// The public key of its link.
    key: Option<String>,
    ready_since: Option<Instant>,
    /// When somebody was about to ask a question.
    asked: Instant,
    /// When somebody was last told that it is theirs to ask.
    granted: Option<Instant>,
    /// Keeps the prompts of the process, once it is ready and its model's hash known.
    pub(super) keeper: Option<Keeper>,
    /// Tokens of a sequence of the process that is ready.
    context: u32,
    /// How much of it is loaded, in percent, while it is being loaded and that is known.
    loading: Option<u8>,
    /// A question waits for this very model, not for whichever is chosen for everybody.
    named: bool,
    /// The questions that wait for its load.
    pub(super) waiters: Waiters,
    /// When it is started again, or given up because loading it stands still.
    timer: Option<Instant>,
    crashes: u32,
    load_crashes: u32,
    restarts: u32,
    pub(super) flight: Flight,
    pulse: Option<Pulse>,
    place: Place,
    /// What was seen of this run of its process.
    signs: Signs,
    /// It ended too often while it was asked something, and may do better later.
    rests: bool,
}

/// What became of a timer.
pub(super) enum Due {
    /// It has to be started again.
    Restart,
    /// It took too long, and its process has to go.
    HasToEnd,
    /// It is tried in another way.
    Other,
}

/// What is left to do after news.
pub(super) enum Heard {
    Nothing,
    /// Its process has to go, and gets so long to do it by itself.
    HasToEnd(Duration),
}

impl Slot {
    pub(super) fn new(number: u32, model: ModelRecord, need: u64) -> Self {
        Self {
            number,
            model,
            need,
            status: Status::Starting,
            fault: None,
            run: None,
            key: None,
            ready_since: None,
            asked: clock::now(),
            granted: None,
            keeper: None,
            context: 0,
            loading: None,
            named: false,
            waiters: Waiters::new(),
            timer: None,
            crashes: 0,
            load_crashes: 0,
            restarts: 0,
            flight: Flight::default(),
            pulse: None,
            place: Place::default(),
            signs: Signs::default(),
            rests: false,
        }
    }

    /// As it is told.
    pub(super) fn state(&self) -> v1::ModelState {
        v1::ModelState {
            status: self.status.into(),
            model: self.model.id.to_vec(),
            name: self.model.name.clone(),
            fault: self.fault.clone(),
            process_id: self.process_id(),
            restarts: self.restarts,
            loading_percent: self.loading_percent(),
        }
    }

    fn loading_percent(&self) -> Option<u32> {
        self.loading.map(u32::from)
    }

    /// As the router sees it.
    pub(super) fn view(&self, config: &ManagerConfig) -> View {
        View {
            number: self.number,
            model: self.model.id,
            name: self.model.name.clone(),
            status: self.status,
            process_id: self.process_id(),
            pinned: self.model.pinned,
            idle_until: self.idle_at(config.idle_limit),
            places: config.sequences,
            restarts: self.restarts,
            loading_percent: self.loading_percent(),
            flight: self.flight.clone(),
            device: self.place.device.clone(),
            fallback: self.place.fault.clone(),
        }
    }

    pub(super) fn process_id(&self) -> u32 {
        self.run.as_ref().map_or(0, |run| run.process_id)
    }

    /// Whether it takes memory, or is about to.
    pub(super) fn is_inside(&self) -> bool {
        self.status != Status::Failed
    }

    /// Whether the memory, or a place, did not suffice for it: that may be otherwise a moment later.
    pub(super) fn is_short(&self) -> bool {
        let fault = self.fault.as_ref();
        self.status == Status::Failed && fault.is_some_and(|fault| fault.code == "model-too-large")
    }

    /// Whether what keeps it from answering may be otherwise later, without a person's doing.
    pub(super) fn may_pass(&self) -> bool {
        self.is_short() || (self.status == Status::Failed && self.rests)
    }

    /// Somebody is about to ask a question.
    pub(super) fn grant(&mut self) {
        self.asked = clock::now();
        self.granted = Some(self.asked);
    }

    /// A question waits for this very model.
    pub(super) fn name(&mut self) {
        self.named = true;
    }

    /// Whether it is being loaded only because it was chosen for everybody.
    pub(super) fn loads_unnamed(&self) -> bool {
        self.status == Status::Starting && !self.named
    }

    /// When somebody last asked, or was answered.
    pub(super) fn used(&self) -> Instant {
        self.flight
            .last()
            .map_or(self.asked, |at| at.max(self.asked))
    }

    /// Whether it may not be taken away now.
    pub(super) fn is_busy(&self) -> bool {
        let asking = self.granted.is_some_and(|at| since(at) < LEASE);
        let fresh = self.ready_since.is_some_and(|at| since(at) < LEASE);
        // Between a crash and the restart nothing is lost by going.
        self.is_loading() || fresh || asking || self.flight.count() > 0
    }

    fn is_loading(&self) -> bool {
        self.run.is_some() && self.ready_since.is_none()
    }

    /// When it may have been idle for long enough; never while it is not ready, or pinned.
    pub(super) fn idle_at(&self, limit: Option<Duration>) -> Option<Instant> {
        let since = self.ready_since?.max(self.used());
        (!self.model.pinned).then_some(since + limit?)
    }

    pub(super) fn timer(&self) -> Option<Instant> {
        self.timer
    }

    /// Starts the process. Whether there is room was looked at before.
    pub(super) async fn start(&mut self, parts: &Parts, presence: Presence) {
        match presence {
            Presence::Missing => return self.fail(files::missing(&self.model)),
            Presence::Changed => return self.fail(files::damaged(&self.model)),
            Presence::Same | Presence::Touched => {}
        }
        let (config, model) = (&parts.config, &self.model);
        // The starter is small enough to be hashed each time; others when they were written to.
        let check = model.starter || presence == Presence::Touched;
        let mut pick = match self.place.processor {
            true => Pick::processor(&config.program, self.place.fault.take()),
            false => parts.graphics.pick(&config.program, self.need),
        };
        let name = Identity::new(format!("{PROCESS}{}", self.number));
        let credentials = parts.listener.issue(name);
        self.key = Some(credentials.client_public.clone());
        let folder = config.scratch.join(self.number.to_string());
        let launch = Launch {
            version: launch::VERSION,
            link: credentials,
            slot: self.number,
            model: model.path.clone(),
            id: model.id,
            size: model.size,
            sha256: if check {
                model.sha256.map(hex::encode)
            } else {
                None
            },
            adapter: model.adapter.as_ref().map(|adapter| launch::Adapter {
                path: adapter.path.clone(),
                size: adapter.size,
                sha256: hex::encode(adapter.sha256),
            }),
            scratch: folder.clone(),
            threads: config.threads,
            context: config.context,
            sequences: config.sequences,
            most_kept: config.prompts.as_ref().map_or(0, PromptCache::most),
            still_ms: u64::try_from(config.hang_limit.as_millis()).unwrap_or(u64::MAX),
            gpu: pick.offload,
        };
        let begun =
            tokio::task::spawn_blocking(move || (Signs::begin(), scratch::emptied(&folder))).await;
        let (signs, emptied) = begun.unwrap_or_else(|_panicked| (Signs::default(), Ok(())));
        self.signs = signs;
        if let Err(error) = emptied {
            tracing::warn!(%error, "The folder of the model process could not be made ready.");
        }
        self.place.device = None;
        self.place.kind = pick.offload.map(|offload| offload.kind);
        self.place.fault = pick.fault.take();
        let started = parts.launcher.run(pick.program, launch).await;
        match started {
            Ok(run) => {
                self.run = Some(run);
                self.loading = None;
                self.timer = Some(clock::now() + config.load_limit);
                self.status = Status::Starting;
                self.fault = None;
            }
            Err(error) if self.place.kind.is_some() => {
                self.fall_back(parts, Why::Start(error.to_string())).await;
            }
            Err(error) => {
                tracing::error!(%error, "The model process can't be started.");
                self.fail(
                    Fault::model_failed("The model process can't be started")
                        .with_detail(format!("{error}."))
                        .with_what_to_do("`aico doctor` tells more."),
                );
            }
        }
    }

    pub(super) fn fail(&mut self, fault: Fault) {
        tracing::warn!(code = fault.code, "The model can't be run.");
        self.timer = None;
        self.loading = None;
        self.status = Status::Failed;
        self.fault = Some(fault);
    }

    /// Takes its process out, to be ended.
    pub(super) fn ending(&mut self, grace: Duration) -> Ending {
        self.timer = None;
        self.loading = None;
        self.ready_since = None;
        self.pulse = None;
        Ending {
            number: self.number,
            keeper: self.keeper.take(),
            run: self.run.take(),
            key: self.key.take(),
            grace,
        }
    }

    /// The next news of its process, if there are any now.
    pub(super) fn poll_news(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<News> {
        match &mut self.run {
            Some(run) => run.poll_news(cx),
            None => std::task::Poll::Pending,
        }
    }

    /// Says something to its process.
    pub(super) async fn say(&mut self, control: &launch::Control) {
        if let Some(run) = &mut self.run {
            run.say(control).await;
        }
    }

    /// Hears its process. What that leaves to do with it is told.
    pub(super) async fn hear(&mut self, parts: &Parts, news: News) -> Heard {
        match news {
            News::Report(Report::Hello(confinement)) => {
                tracing::info!(
                    slot = self.number,
                    files = confinement.files,
                    calls = confinement.calls,
                    "The model process is confined as far as this system can."
                );
            }
            News::Report(Report::Loading(percent)) => {
                let percent = percent.min(100);
                if self.is_loading() && self.loading.is_none_or(|before| before < percent) {
                    self.loading = Some(percent);
                    // As long as it comes on, it may take its time.
                    self.timer = Some(clock::now() + parts.config.load_limit);
                }
            }
            News::Report(Report::Device(device)) => {
                let device = device.cleaned();
                let (slot, kind) = (self.number, device.kind.name());
                tracing::info!(
                    slot,
                    kind,
                    "A graphics device is open to the model process."
                );
                self.place.device = self.place.kind.map(|_| device);
            }
            // Once: it would never be idle if it could say so again and again.
            News::Report(Report::Ready { .. }) if !self.is_loading() => {}
            News::Report(Report::Ready { context }) => {
                self.timer = None;
                self.loading = None;
                self.named = false;
                self.load_crashes = 0;
                self.ready_since = Some(clock::now());
                self.context = context;
                self.status = Status::Ready;
                self.keep_prompts(parts);
                self.pulse = Some(Pulse::new(parts, self.number, self.process_id()));
                tracing::info!(slot = self.number, context, "The model answers.");
            }
            // Written into the log where it was heard.
            News::Report(Report::Answered {
                outcome, written, ..
            }) => {
                // Some are never waited for to the end, and yet it answers.
                let answers = match outcome {
                    Outcome::Stop | Outcome::Length => true,
                    Outcome::Cancelled => written > 0,
                    Outcome::Busy | Outcome::Failed => false,
                };
                if answers {
                    parts.ends.forget(self.model.id);
                }
            }
            News::Report(Report::Failed(failure)) => {
                if self.place.kind.is_some()
                    && let Some(why) = Why::of(&failure)
                {
                    self.fall_back(parts, why).await;
                    return Heard::Nothing;
                }
                let fault = files::refused(&self.model, &failure);
                self.fail(fault);
                return Heard::HasToEnd(GRACE);
            }
            News::NoMemory => self.signs.no_memory = true,
            News::Ended(status) => {
                self.run = None;
                self.loading = None;
                self.keeper = None;
                self.pulse = None;
                clear(parts, self.number, self.key.take()).await;
                self.ended(parts, status).await;
            }
        }
        Heard::Nothing
    }

    /// Keeps prompts, once there is a process that is ready, and the hash of its model.
    pub(super) fn keep_prompts(&mut self, parts: &Parts) {
        let (Some(cache), Some(model), Some(_ready), None) = (
            &parts.config.prompts,
            self.model.sha256,
            self.ready_since,
            &self.keeper,
        ) else {
            return;
        };
        let sequences = parts.config.sequences;
        let library = computed_by(self.place.kind, &self.model);
        let fingerprint = Fingerprint::new(&model, self.context, sequences, &library);
        let (cache, client) = (cache.clone(), parts.client.clone());
        self.keeper = Some(Keeper::new(cache, client, self.number, fingerprint));
    }

    /// Its process does not answer any more: it is killed, which is heard like any other end.
    pub(super) async fn hangs(&mut self, process_id: u32) {
        if let Some(run) = &mut self.run
            && run.process_id == process_id
        {
            tracing::warn!(
                slot = self.number,
                "The model process does not answer any more."
            );
            self.signs.hung = true;
            run.kill();
        }
    }

    /// The process ended by itself: again after a while, unless it can't even load, or ends whenever
    /// it is asked.
    async fn ended(&mut self, parts: &Parts, status: Option<ExitStatus>) {
        self.timer = None;
        let well = self
            .ready_since
            .is_some_and(|at| since(at) >= backoff::WELL_AFTER);
        let asked = self.was_being_asked(&parts.config);
        let was_ready = self.ready_since.take().is_some();
        if well {
            self.crashes = 0;
        }
        self.crashes += 1;
        if !was_ready {
            self.load_crashes += 1;
        }
        let signs = std::mem::take(&mut self.signs);
        let cause = tokio::task::spawn_blocking(move || signs.cause(status)).await;
        let cause = cause.unwrap_or(Cause::Crash);
        let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        tracing::warn!(
            slot = self.number,
            status,
            ?cause,
            was_ready,
            crashes = self.crashes,
            "The model process ended."
        );
        if self.place.kind.is_some() && (!was_ready || self.crashes >= graphics::CRASHES) {
            return self.fall_back(parts, Why::Crashed(status)).await;
        }
        if self.load_crashes >= LOAD_CRASHES {
            return self.fail(cause.at_loading(LOAD_CRASHES, &status));
        }
        if asked {
            let times = parts.ends.one_more(self.model.id);
            if times >= MOST {
                self.rests = true;
                return self.fail(cause.at_answering(times, &status));
            }
        }
        self.restarts += 1;
        let wait = backoff::wait(self.crashes, backoff::chance());
        self.timer = Some(clock::now() + wait);
        self.status = Status::Starting;
    }

    /// Whether a question was with it when it ended. By the end of one that was idle nothing is known
    /// of how it answers.
    fn was_being_asked(&self, config: &ManagerConfig) -> bool {
        // Whoever asked one that hangs may have gone long before it was killed.
        let moment = match self.signs.hung {
            // A thread that makes vectors may have stood still for as long before that shows.
            true => MOMENT + config.pulse + 2 * config.hang_limit,
            false => MOMENT,
        };
        self.ready_since.is_some_and(|ready| {
            let last = self.flight.last();
            let just = last.is_some_and(|at| at >= ready && since(at) <= moment);
            just || self.flight.count() > 0
        })
    }

    /// Its timer has come to an end.
    pub(super) async fn timer_ended(&mut self, parts: &Parts) -> Due {
        self.timer = None;
        if self.run.is_none() {
            return Due::Restart;
        }
        tracing::warn!(slot = self.number, "The model took too long to load.");
        if self.place.kind.is_some() {
            self.fall_back(parts, Why::Slow).await;
            return Due::Other;
        }
        self.fail(
            Fault::model_failed("The model took too long to load")
                .with_what_to_do("Choose a smaller model, or choose this one again to retry."),
        );
        Due::HasToEnd
    }

    /// The graphics device can't do it: the processor takes over at once, until the model is loaded
    /// anew.
    async fn fall_back(&mut self, parts: &Parts, why: Why) {
        let Some(kind) = self.place.kind.take() else {
            return;
        };
        let fault = why.fault(kind);
        let (slot, code, kind_name) = (self.number, fault.code.clone(), kind.name());
        tracing::warn!(
            slot,
            code,
            kind = kind_name,
            "The processor computes the model instead."
        );
        self.ending(Duration::ZERO).finish(parts).await;
        parts.graphics.failed(kind, &why);
        self.place = Place {
            fault: Some(fault),
            processor: true,
            ..Place::default()
        };
        (self.crashes, self.load_crashes) = (0, 0);
        parts.ends.forget(self.model.id);
        self.status = Status::Starting;
        self.restart_later(Duration::ZERO);
    }

    /// There was no room to start it again; somebody is answered meanwhile.
    pub(super) fn restart_later(&mut self, wait: Duration) {
        self.timer = Some(clock::now() + wait);
    }
}

/// What computes the prompts of a model that are kept. What one device computed means something else
/// to another, and what was computed with an adapter something else without it.
pub(super) fn computed_by(kind: Option<Kind>, model: &ModelRecord) -> String {
    let mut library = match kind {
        None => llama::LIBRARY.to_owned(),
        Some(kind) => format!("{} {kind}", llama::LIBRARY),
    };
    if let Some(adapter) = &model.adapter {
        library.push_str(" adapter ");
        library.push_str(&hex::encode(adapter.sha256));
    }
    library
}

/// How long ago that was.
fn since(at: Instant) -> Duration {
    clock::now().saturating_duration_since(at)
}
