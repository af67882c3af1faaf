//! Which Ollama is used: one that runs already, or one that is started, watched and ended by us.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::http::Method;
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use super::find::{Found, Place, find};
use super::http::{self, Http};
use super::{OLDEST, OllamaConfig, Start, is_new_enough, launch, wire};
use crate::backend::{BackendError, Wait};

/// How long an answer of one that is not ours is believed.
const FRESH: Duration = Duration::from_secs(10);
/// How long one that was started may take until it answers.
const START: Duration = Duration::from_secs(60);
/// How often it is asked meanwhile.
const LOOK: Duration = Duration::from_millis(100);
/// The longest that one which may hang is looked at.
const GLANCE: Duration = Duration::from_secs(5);
/// The longest wait before it is started again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Whoever asks waits so long for one that is about to be started again.
const PATIENCE: Duration = Duration::from_secs(5);
/// One that ran so long is well, and its next end the first again.
const WELL: Duration = Duration::from_secs(120);

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// It ran already and goes on running without us.
    Theirs,
    /// Started by us.
    Ours {
        /// Its process.
        process: u32,
    },
}

/// An Ollama that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Where.
    pub address: SocketAddr,
    /// As it told.
    pub version: String,
    /// Whose it is.
    pub whose: Whose,
}

/// How the one that we started is.
#[derive(Debug, Clone)]
enum Phase {
    Starting,
    Ready(Running),
    /// It ended or did not start, for this reason, and is started again then.
    Resting(Instant, BackendError),
}

/// Finds, starts and watches. Dropping it ends what it started.
pub(super) struct Supervisor {
    parts: Arc<Parts>,
    state: Mutex<State>,
    /// Something went wrong since it was last looked.
    doubted: AtomicBool,
    /// Another one was installed since it was last looked.
    renewed: AtomicBool,
    stop: CancellationToken,
}

struct Parts {
    config: OllamaConfig,
    restart: Notify,
}

#[derive(Default)]
struct State {
    theirs: Option<(Running, Instant)>,
    ours: Option<Ours>,
}

struct Ours {
    phase: watch::Receiver<Phase>,
    task: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Ours {
    /// It gave up: another one runs, or none is installed any more.
    fn gave_up(&self) -> bool {
        self.phase.has_changed().is_err()
    }

    fn rests(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Resting(..))
    }

    fn is_ready(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ready(_))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Supervisor {
    pub(super) fn new(config: OllamaConfig) -> Self {
        Self {
            parts: Arc::new(Parts {
                config,
                restart: Notify::new(),
            }),
            state: Mutex::default(),
            doubted: AtomicBool::new(false),
            renewed: AtomicBool::new(false),
            stop: CancellationToken::new(),
        }
    }

    /// It is looked anew with the next question.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// What does not run is started with the next question, however often it did not start.
    pub(super) fn was_installed(&self) {
        self.renewed.store(true, Ordering::Relaxed);
    }

    pub(super) async fn stop(&self) {
        self.stop.cancel();
        let ours = self.state.lock().await.ours.take();
        if let Some(ours) = ours {
            let _ended = ours.task.await;
        }
    }

    /// The one that was last seen, without looking; nothing while it is being looked for.
    pub(super) fn known(&self) -> Option<Running> {
        let state = self.state.try_lock().ok()?;
        let ours = state.ours.as_ref().map(|ours| ours.phase.borrow().clone());
        match ours {
            Some(Phase::Ready(running)) => Some(running),
            Some(_) => None,
            None => state.theirs.as_ref().map(|(running, _)| running.clone()),
        }
    }

    /// One that answers, after looking or starting.
    pub(super) async fn running(&self) -> Result<Running, BackendError> {
        // What was waited for may give up for one that runs already: that one is found then.
        for _ in 0..2 {
            if let Some(running) = self.look_or_start().await? {
                return Ok(running);
            }
        }
        Err(absent(&self.parts.config))
    }

    /// Nothing: the one that we started was given up meanwhile.
    async fn look_or_start(&self) -> Result<Option<Running>, BackendError> {
        let config = &self.parts.config;
        let mut state = self.state.lock().await;
        let doubted = self.doubted.load(Ordering::Relaxed);
        if self.stop.is_cancelled() {
            return Err(absent(config));
        }
        if state.ours.as_ref().is_some_and(Ours::gave_up) {
            state.ours = None;
        }
        // What was tried until now is not what is installed, and says nothing of it.
        if self.renewed.swap(false, Ordering::Relaxed)
            && let Some(ours) = state.ours.take_if(|ours| !ours.is_ready())
        {
            ours.stop.cancel();
        }
        if state.ours.is_none()
            && let Some((running, at)) = &state.theirs
            && at.elapsed() < FRESH
            && !doubted
        {
            return Ok(Some(running.clone()));
        }
        // While ours rests, somebody may have started one by hand.
        if state.ours.as_ref().is_none_or(Ours::rests) {
            let asked = match state.ours {
                Some(_) => probe(config.address, glance(config)).await,
                None => probe(config.address, config.limits).await,
            };
            match asked {
                Ok(version) if state.ours.as_ref().is_none_or(Ours::rests) => {
                    if let Some(ours) = state.ours.take() {
                        ours.stop.cancel();
                    }
                    self.doubted.store(false, Ordering::Relaxed);
                    let running = Running {
                        address: config.address,
                        version,
                        whose: Whose::Theirs,
                    };
                    if state.theirs.as_ref().map(|(known, _)| known) != Some(&running) {
                        tracing::info!(version = running.version, "Ollama runs already.");
                    }
                    state.theirs = Some((running.clone(), Instant::now()));
                    return Ok(Some(running));
                }
                Err(error) if state.ours.is_none() => {
                    state.theirs = None;
                    state.ours = Some(self.begin(error).await?);
                }
                _ => {}
            }
        }
        let Some(ours) = &state.ours else {
            return Err(absent(config));
        };
        let mut phase = ours.phase.clone();
        drop(state);
        if doubted {
            // Who asks may have less patience than that takes: then it stays in doubt.
            self.look(&phase).await;
            self.doubted.store(false, Ordering::Relaxed);
        }
        ready(&mut phase).await
    }

    /// Starts one, if that is wanted and one is installed. `why`: none at the address.
    async fn begin(&self, why: BackendError) -> Result<Ours, BackendError> {
        let config = self.parts.config.clone();
        if config.start == Start::Never {
            return Err(why);
        }
        if installed(&config).await.is_none() {
            return Err(match why {
                BackendError::Absent { address } => BackendError::NotInstalled { address },
                other => other,
            });
        }
        if !matches!(why, BackendError::Absent { .. }) {
            tracing::warn!(error = %why, "What is at Ollama's address can't be used; one of its own is started.");
        }
        let (sender, phase) = watch::channel(Phase::Starting);
        let (parts, stop) = (Arc::clone(&self.parts), self.stop.child_token());
        let task = tokio::spawn(watch_over(parts, sender, stop.clone()));
        Ok(Ours { phase, task, stop })
    }

    /// Whether the one that we started still answers; one that hangs is started anew.
    async fn look(&self, phase: &watch::Receiver<Phase>) {
        let mut phase = phase.clone();
        let now = phase.borrow_and_update().clone();
        let Phase::Ready(running) = now else { return };
        let answered = probe(running.address, glance(&self.parts.config)).await;
        if matches!(answered, Err(BackendError::TimedOut { .. })) {
            tracing::warn!("Ollama no longer answers and is started anew.");
            self.parts.restart.notify_one();
            let _ended = tokio::time::timeout(PATIENCE, phase.changed()).await;
        }
    }
}

fn absent(config: &OllamaConfig) -> BackendError {
    BackendError::Absent {
        address: config.address.to_string(),
    }
}

/// Limits of time for such a look.
fn glance(config: &OllamaConfig) -> super::Limits {
    let mut limits = config.limits;
    limits.answer = limits.answer.min(GLANCE);
    limits
}

/// The one that would be started now.
async fn installed(config: &OllamaConfig) -> Option<Found> {
    if let Some(program) = &config.program {
        return Some(Found {
            program: program.clone(),
            place: Place::Ours,
        });
    }
    let (folder, path) = (config.folder.clone(), config.path.clone());
    tokio::task::spawn_blocking(move || find(&folder, path.as_deref()))
        .await
        .ok()
        .flatten()
}

/// The one that we started, as soon as it answers. Nothing: it was given up.
async fn ready(phase: &mut watch::Receiver<Phase>) -> Result<Option<Running>, BackendError> {
    let until = Instant::now() + START;
    loop {
        let now = phase.borrow_and_update().clone();
        match now {
            Phase::Ready(running) => return Ok(Some(running)),
            Phase::Resting(then, error) => {
                let left = then.saturating_duration_since(Instant::now());
                if left > PATIENCE {
                    return Err(match error {
                        BackendError::CutOff => BackendError::Resting { left },
                        other => other,
                    });
                }
            }
            Phase::Starting => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, phase.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_ended)) => return Ok(None),
            Err(_) => {
                return Err(BackendError::TimedOut {
                    waited_for: Wait::Connect,
                    limit: START,
                });
            }
        }
    }
}

/// The version of what answers at an address, if it is an Ollama that will do.
pub(super) async fn probe(
    address: SocketAddr,
    limits: super::Limits,
) -> Result<String, BackendError> {
    let http = Http::new(address, limits);
    let asked = http
        .value::<wire::Version>(Method::GET, "/api/version", http::nothing(), limits.answer)
        .await;
    let version = match asked {
        Ok(told) => told.version,
        // Whatever else speaks HTTP there.
        Err(
            BackendError::Unreadable
            | BackendError::Refused { .. }
            | BackendError::ModelMissing
            | BackendError::Key,
        ) => return Err(http.other_program()),
        Err(error) => return Err(error),
    };
    let version: String = version.chars().take(40).collect();
    if !version.starts_with(|c: char| c.is_ascii_digit() || c == 'v') {
        return Err(http.other_program());
    }
    if is_new_enough(&version) {
        return Ok(version);
    }
    Err(BackendError::TooOld {
        found: version,
        needed: OLDEST,
    })
}

/// Starts the one that is installed, and again whenever it ends, until it is stopped, another one
/// runs at the address, or none is installed any more.
async fn watch_over(parts: Arc<Parts>, phase: watch::Sender<Phase>, stop: CancellationToken) {
    let config = &parts.config;
    let starter = match launch::Starter::new() {
        Ok(starter) => starter,
        Err(error) => {
            tracing::error!(%error, "Ollama can't be started.");
            return;
        }
    };
    let mut wait = config.backoff;
    loop {
        // Each time anew: what did not start may have been installed anew, or replaced, since.
        let Some(found) = installed(config).await else {
            return;
        };
        phase.send_replace(Phase::Starting);
        let begun = tokio::select! {
            begun = start(config, &found, &starter) => begun,
            () = stop.cancelled() => return,
        };
        let error = match begun {
            Ok((mut process, running)) => {
                tracing::info!(
                    version = running.version,
                    process = process.id(),
                    "Ollama was started."
                );
                phase.send_replace(Phase::Ready(running));
                let since = Instant::now();
                tokio::select! {
                    () = process.ended() => {
                        tracing::warn!("Ollama has ended by itself and is started again.");
                    }
                    () = parts.restart.notified() => {
                        phase.send_replace(Phase::Starting);
                        process.kill().await;
                    }
                    () = stop.cancelled() => {
                        process.end().await;
                        return;
                    }
                }
                // What runs the models would otherwise stay.
                process.clear();
                if since.elapsed() >= WELL {
                    wait = config.backoff;
                }
                BackendError::CutOff
            }
            Err(error) => {
                tracing::warn!(%error, "Ollama did not start.");
                error
            }
        };
        phase.send_replace(Phase::Resting(Instant::now() + wait, error));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
        wait = (wait * 2).min(LONGEST_WAIT);
        let theirs = tokio::select! {
            theirs = probe(config.address, glance(config)) => theirs,
            () = stop.cancelled() => return,
        };
        if theirs.is_ok() {
            return;
        }
    }
}

/// Starts it once, and waits until it answers.
async fn start(
    config: &OllamaConfig,
    found: &Found,
    starter: &launch::Starter,
) -> Result<(launch::Process, Running), BackendError> {
    let address = free_address().map_err(|_| BackendError::NotStarted)?;
    let environment = launch::environment(config, found, address);
    let mut process = starter
        .run(found.program.clone(), environment)
        .await
        .map_err(|error| {
            tracing::warn!(%error, "The program of Ollama can't be run.");
            BackendError::NotStarted
        })?;
    let until = Instant::now() + START;
    loop {
        if process.has_ended() {
            process.clear();
            return Err(BackendError::NotStarted);
        }
        match probe(address, config.limits).await {
            Ok(_) if process.listens_at(address) == Some(false) => {
                tracing::warn!("Another program took the port that was meant for Ollama.");
                process.end().await;
                return Err(BackendError::NotStarted);
            }
            Ok(version) => {
                let whose = Whose::Ours {
                    process: process.id(),
                };
                let running = Running {
                    address,
                    version,
                    whose,
                };
                return Ok((process, running));
            }
            Err(error @ (BackendError::TooOld { .. } | BackendError::OtherProgram { .. })) => {
                process.end().await;
                return Err(error);
            }
            Err(_) if Instant::now() < until => tokio::time::sleep(LOOK).await,
            Err(_) => {
                process.end().await;
                return Err(BackendError::NotStarted);
            }
        }
    }
}

/// A port that nobody has at the moment.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
