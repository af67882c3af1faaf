//! The task that installs Ollama when the owner agrees: it tells what would be installed, installs
//! what was agreed to, says how far it is, and ends it.
//!
//! One at a time. Nothing of it is noted: after AICO was locked or ended it is asked for anew, and
//! goes on with what was downloaded until then.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use aico_bus::{Bus, BusError, Client, Identity, Request, Requests};
use aico_contracts::topics;
use aico_contracts::v1::engine_installing::State;
use aico_contracts::v1::{self, Empty, Fault};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::ollama::install::{self, InstallError, Release};
use super::ollama::{self, find};
use super::{Backend as _, Guarded};
use crate::pull::PullConfig;
use crate::pull::single::Fetched;
use crate::supervisor::MANAGER;

/// How Ollama is installed.
#[derive(Clone)]
pub struct InstallConfig {
    /// The folder for it.
    pub folder: PathBuf,
    /// A list of releases in place of the one that comes with the program.
    pub releases: Option<PathBuf>,
    /// How its archive is downloaded.
    pub pull: PullConfig,
    /// An installed one is started when it is needed.
    pub starts: bool,
    /// `PATH`, where one may be already.
    pub path: Option<OsString>,
}

impl InstallConfig {
    /// What would be installed. Blocks shortly.
    ///
    /// # Errors
    /// As [`Release::read`].
    pub fn release(&self) -> Result<Release, InstallError> {
        Release::read(self.releases.as_deref())
    }
}

/// The topics of installations.
pub(super) struct Installing {
    config: Arc<InstallConfig>,
    /// The one that is installed, if it is used.
    engine: Option<Arc<Guarded>>,
    /// Keeps the identity on the bus.
    _client: Client,
    look: Requests,
    install: Requests,
    cancel: Requests,
    /// The last one.
    current: Option<Run>,
    stop: CancellationToken,
}

impl Installing {
    pub(super) fn new(
        bus: &Bus,
        all: &[Arc<Guarded>],
        config: InstallConfig,
    ) -> Result<Self, BusError> {
        let client = bus.join(Identity::new(MANAGER));
        let engine = all.iter().find(|one| one.name() == ollama::NAME);
        Ok(Self {
            config: Arc::new(config),
            engine: engine.map(Arc::clone),
            look: client.serve(topics::MODELS_INSTALLATION, 16)?,
            install: client.serve(topics::MODELS_INSTALL_ENGINE, 4)?,
            cancel: client.serve(topics::MODELS_CANCEL_INSTALLATION, 4)?,
            _client: client,
            current: None,
            stop: CancellationToken::new(),
        })
    }

    /// Serves until it is dropped, which ends what runs.
    pub(super) async fn run(mut self) {
        let _ends_with_us = self.stop.clone().drop_guard();
        loop {
            tokio::select! {
                Some(request) = self.look.recv() => match asked(&request) {
                    Ok(()) => self.tell(request),
                    Err(fault) => request.fault(fault),
                },
                Some(request) = self.install.recv() => match self.begin(&request).await {
                    Ok(()) => self.tell(request),
                    Err(fault) => request.fault(fault),
                },
                Some(request) = self.cancel.recv() => self.end(request),
                else => return,
            }
        }
    }

    /// Answers with how everything is.
    fn tell(&self, request: Request) {
        let config = Arc::clone(&self.config);
        let run = self.current.as_ref().and_then(Run::told);
        tokio::spawn(async move {
            match tokio::task::spawn_blocking(move || look(&config)).await {
                Ok(found) => {
                    let run = run.filter(|run| run.state() != State::Failed || !is_done(&found));
                    request.reply(v1::EngineInstallation { run, ..found });
                }
                Err(_) => request.fault(Fault::internal("Looking for Ollama failed")),
            }
        });
    }

    async fn begin(&mut self, request: &Request) -> Result<(), Fault> {
        let agreed: v1::InstallEngine = request.decode()?;
        is_known(&agreed.engine)?;
        if self.current.as_ref().is_some_and(Run::is_active) {
            return Err(InstallError::Busy.to_fault());
        }
        let config = Arc::clone(&self.config);
        let read = move || (config.release(), install::installed(&config.folder));
        let (release, there) = tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| Fault::internal("Reading the list of releases failed"))?;
        let release = release.map_err(|error| error.to_fault())?;
        let sha256 = hex::encode(release.sha256);
        if there.is_some_and(|there| there.sha256 == sha256) {
            let title = format!("Ollama {} is installed already", release.version);
            return Err(Fault::conflict(title));
        }
        if (&agreed.version, &agreed.sha256) != (&release.version, &sha256) {
            let fault = Fault::conflict("This is not what would be installed now");
            return Err(fault
                .with_detail(format!("It would be Ollama {}.", release.version))
                .with_what_to_do("Look at it again, then agree to that."));
        }
        tracing::info!(version = release.version, "Ollama is being installed.");
        let stop = self.stop.child_token();
        let engine = self.engine.as_ref().map(Arc::downgrade);
        self.current = Some(Run::begin(Arc::clone(&self.config), release, engine, stop));
        Ok(())
    }

    /// Answers when it has ended.
    fn end(&self, request: Request) {
        if let Err(fault) = asked(&request) {
            return request.fault(fault);
        }
        let Some(run) = self.current.as_ref().filter(|run| run.is_active()) else {
            return request.fault(Fault::not_found("Nothing is being installed"));
        };
        run.stop.cancel();
        let (now, ended) = (Arc::clone(&run.now), run.ended.clone());
        tokio::spawn(async move {
            ended.cancelled().await;
            // It may have been as good as complete.
            let late = matches!(*now.lock(), Now::Done);
            match late {
                false => request.reply(Empty {}),
                true => request.fault(
                    Fault::conflict("It was installed before it could be cancelled")
                        .with_what_to_do("To remove it: aico engine remove ollama."),
                ),
            }
        });
    }
}

fn asked(request: &Request) -> Result<(), Fault> {
    let asked: v1::EngineName = request.decode()?;
    is_known(&asked.name)
}

fn is_known(engine: &str) -> Result<(), Fault> {
    match engine == ollama::NAME {
        true => Ok(()),
        false => Err(Fault::not_found("AICO installs no engine of this name")
            .with_what_to_do("The one that it installs is called ollama.")),
    }
}

/// What there is, beside what runs. Blocks.
fn look(config: &InstallConfig) -> v1::EngineInstallation {
    let there = install::installed(&config.folder);
    let (release, fault) = match config.release() {
        Ok(release) => {
            let sha256 = hex::encode(release.sha256);
            let new = there.as_ref().is_none_or(|there| there.sha256 != sha256);
            (new.then(|| offered(config, release)), None)
        }
        Err(error) => (None, Some(error.to_fault())),
    };
    let found = find(&config.folder, config.path.as_deref());
    v1::EngineInstallation {
        engine: ollama::NAME.to_owned(),
        installed: there.map(|there| there.version).unwrap_or_default(),
        program: found.map_or_else(String::new, |found| found.program.display().to_string()),
        starts: config.starts,
        release,
        fault,
        run: None,
    }
}

/// What would be installed is here: nobody needs an installation that failed, by whomever it was
/// done since.
fn is_done(found: &v1::EngineInstallation) -> bool {
    !found.installed.is_empty() && found.release.is_none() && found.fault.is_none()
}

fn offered(config: &InstallConfig, release: Release) -> v1::EngineRelease {
    let source = match &config.pull.mirror {
        // What does not fit together is told when it is fetched.
        Some(mirror) => release
            .source
            .below(mirror)
            .unwrap_or_else(|_| mirror.clone()),
        None => release.source.clone(),
    };
    v1::EngineRelease {
        kept_bytes: install::kept(&config.folder, &release),
        source: source.to_string(),
        size_bytes: release.size,
        sha256: hex::encode(release.sha256),
        folder: config.folder.display().to_string(),
        version: release.version,
        date: release.date,
        license: release.license,
        license_url: release.license_url,
        notice: release.notice,
    }
}

#[derive(Clone)]
enum Now {
    Going(Fetched),
    Done,
    Failed(Fault),
    /// The person ended it.
    Stopped,
}

/// An installation. It goes on until it is done, fails, or is stopped.
struct Run {
    version: String,
    size: u64,
    now: Arc<Mutex<Now>>,
    stop: CancellationToken,
    /// Cancelled when it no longer touches its folder.
    ended: CancellationToken,
}

impl Run {
    fn begin(
        config: Arc<InstallConfig>,
        release: Release,
        engine: Option<Weak<Guarded>>,
        stop: CancellationToken,
    ) -> Self {
        let now = Now::Going(Fetched {
            step: "checking",
            done: 0,
            total: release.size,
            rate: 0,
            problem: None,
        });
        let run = Self {
            version: release.version.clone(),
            size: release.size,
            now: Arc::new(Mutex::new(now)),
            stop: stop.clone(),
            ended: CancellationToken::new(),
        };
        let (now, ended) = (Arc::clone(&run.now), run.ended.clone().drop_guard());
        // Stopped, never aborted: what unpacks has to have ended before another one begins.
        tokio::spawn(async move {
            let tell = |fetched| *now.lock() = Now::Going(fetched);
            let done = install::install(&config.folder, &release, &config.pull, stop.clone(), tell);
            let done = done.await;
            let outcome = match &done {
                Ok(_) => Now::Done,
                Err(_) if stop.is_cancelled() => Now::Stopped,
                Err(error) => {
                    let fault = error.to_fault();
                    tracing::warn!(code = fault.code, "Ollama was not installed.");
                    Now::Failed(fault)
                }
            };
            {
                // Nobody sees one of both without the other.
                let mut now = now.lock();
                *now = outcome;
                drop(ended);
            }
            let Ok(there) = done else { return };
            tracing::info!(version = there.version, "Ollama is installed.");
            // Not held before: what only unpacks would keep an Ollama running after AICO was locked.
            if let Some(engine) = engine.and_then(|engine| engine.upgrade()) {
                engine.was_installed();
                // It is started by this, if that is wished.
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    _told_by_its_state = engine.models() => {}
                }
            }
        });
        run
    }

    fn is_active(&self) -> bool {
        !self.ended.is_cancelled()
    }

    /// `None`: it was stopped.
    fn told(&self) -> Option<v1::EngineInstalling> {
        let mut told = v1::EngineInstalling {
            version: self.version.clone(),
            ..v1::EngineInstalling::default()
        };
        let state = match self.now.lock().clone() {
            Now::Stopped => return None,
            Now::Done => {
                (told.done_bytes, told.total_bytes) = (self.size, self.size);
                State::Done
            }
            Now::Failed(fault) => {
                told.fault = Some(fault);
                State::Failed
            }
            Now::Going(fetched) => {
                told.done_bytes = fetched.done;
                told.total_bytes = fetched.total;
                told.bytes_per_second = fetched.rate;
                told.fault = fetched.problem.map(|title| {
                    Fault::new("download-failed", title)
                        .with_what_to_do("It is tried again by itself.")
                });
                match fetched.step {
                    "downloading" => State::Running,
                    "waiting" => State::Waiting,
                    "verifying" => State::Verifying,
                    "unpacking" => State::Unpacking,
                    _ => State::Checking,
                }
            }
        };
        told.state = state.into();
        Some(told)
    }
}
