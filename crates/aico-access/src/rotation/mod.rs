//! Changing keys while everything runs: what is to be done, one step after another, and how far
//! it is.
//!
//! The steps stand in `system.db`. Each can be done twice without harm, and is taken off the list
//! once it is done; a start finds the list and goes on. The one step that needs the master
//! password, the new header, is done before anybody is answered. What was listed and not begun
//! when the process ended is forgotten: everything is as before.
//!
//! A job that runs by itself calls [`Home::rotate`] with purposes and without a password.

mod pending;
mod plan;
mod steps;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aico_contracts::ids::PersonId;
use aico_store::{Migration, ModuleMigrations, Progress};
use aico_vault::{Kept, KeychainError, Password, Purpose, RecoveryPhrase};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::plan::{Plan, Step};
use crate::home::Open;
use crate::{ErrorKind, Home, HomeError, Source, Stage, keys};

/// The table of what is still to be done.
pub(crate) const MIGRATIONS: ModuleMigrations = ModuleMigrations {
    module: "rotation",
    migrations: &[
        Migration {
            version: 1,
            name: "a rotation in progress",
            sql: "
            -- At most one row: the steps that are left, as JSON, in their order.
            CREATE TABLE rotation_plan (
                one         INTEGER PRIMARY KEY CHECK (one = 1),
                plan        TEXT NOT NULL
            ) STRICT;
        ",
        },
        Migration {
            version: 2,
            name: "what waits for sealed persons",
            sql: "
            -- What only they can change, when they sign in. A restore keeps it: the keyring that it
            -- puts back is the one that this was about.
            CREATE TABLE rotation_pending (
                person      BLOB PRIMARY KEY CHECK (length(person) = 16),
                -- 1: they are to have a new key. 0 here and below: their data is to follow theirs.
                key         INTEGER NOT NULL,
                -- 1: their database is to have its own next key.
                database    INTEGER NOT NULL
            ) STRICT;
        ",
        },
    ],
};

/// What is noted in the audit's table.
const ROTATED: &str = "vault.rotate";

/// Which keys are to be changed.
#[derive(Clone, Debug, Default)]
pub struct Rotate {
    /// The root key. Needs the master password.
    pub root: bool,
    /// With the root key: each person's key, each database's, and the keys that sign.
    pub compromised: bool,
    /// These keys alone, under the keys above them as they are. Not each of them changes alone.
    pub purposes: Vec<Purpose>,
    /// With purposes: of those that each person has, theirs alone. Without: this person's own key and
    /// what is under it.
    pub person: Option<PersonId>,
}

/// A change of keys has begun.
pub struct Begun {
    /// A new root key has a new recovery phrase; the one before opens nothing here any more.
    pub phrase: Option<RecoveryPhrase>,
    /// Keychains that could not be given a new key: starting needs the password from now on.
    pub dropped: Vec<(Kept, KeychainError)>,
    /// Items in keychains that could not be removed.
    pub left: Vec<(Kept, KeychainError)>,
    /// Archives within reach that open with what is changed.
    pub archives: Vec<PathBuf>,
}

/// How far a change of keys is.
#[derive(Clone, Debug, Default)]
pub struct RotationState {
    /// Whether one runs.
    pub running: bool,
    /// The step that runs, or that failed.
    pub step: &'static str,
    /// Bytes that are rewritten.
    pub done_bytes: u64,
    /// Bytes that there are to rewrite.
    pub all_bytes: u64,
    /// Why it stopped; it goes on at the next start, or when it is asked for again.
    pub failed: Option<Failed>,
    /// When the last one was done, since the daemon runs.
    pub finished_at: Option<Timestamp>,
}

/// Why a change of keys stopped.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Which sort of error it was.
    pub kind: ErrorKind,
    /// The error and its causes in one line.
    pub why: String,
}

/// What [`SealedParts`] could not do.
pub type PartsError = Box<dyn std::error::Error + Send + Sync>;

/// One of these files, checked.
#[derive(Clone, Debug)]
pub struct PartChecked {
    /// Where it is.
    pub path: PathBuf,
    /// Records in it that are authentic.
    pub records: u64,
    /// What is wrong with it, if anything.
    pub wrong: Option<String>,
}

/// What of the journal is to be written anew. Bodies of a person whose key nobody has now are
/// carried over as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalAnew {
    /// Files that are not under the present root key.
    Behind,
    /// All of them, for what persons' messages say: under their present keys, and under keys that no
    /// file had before.
    Bodies,
    /// All of them, each under another id, which is another key.
    Files,
}

/// Sealed files that belong to other parts: the log's and the bus's.
#[async_trait::async_trait]
pub trait SealedParts: Send + Sync {
    /// Puts the log's files under the present root key.
    async fn logs(&self) -> Result<(), PartsError>;
    /// Writes each of the log's files anew under another id, which is another key.
    async fn logs_anew(&self) -> Result<(), PartsError>;
    /// Writes the journal's files anew.
    async fn journal(&self, what: JournalAnew) -> Result<(), PartsError>;
    /// Reads the journal's files again, every record of them; tells of each, and stops when that
    /// answers `false`.
    async fn check_journal(
        &self,
        told: &mut (dyn FnMut(PartChecked) -> bool + Send),
    ) -> Result<(), PartsError>;
    /// The same with the log's files.
    async fn check_logs(
        &self,
        told: &mut (dyn FnMut(PartChecked) -> bool + Send),
    ) -> Result<(), PartsError>;
    /// Their bytes.
    fn bytes(&self) -> (u64, u64);
}

/// The state of it, in memory.
#[derive(Default)]
pub(crate) struct Rotation {
    running: AtomicBool,
    state: Mutex<RotationState>,
    /// Bytes of the step that runs.
    progress: Mutex<Option<Progress>>,
    parts: Mutex<Option<Arc<dyn SealedParts>>>,
    /// Rises when the key is changed by which modules know the daemon.
    bus_key: std::sync::atomic::AtomicU64,
}

impl Rotation {
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }
}

/// Ends the running state, whatever becomes of the task.
struct Running(Home);

impl Drop for Running {
    fn drop(&mut self) {
        let rotation = &self.0.inner.rotation;
        *rotation.progress.lock() = None;
        // Together, so that this never tells of the next one that it is over.
        let mut state = rotation.state.lock();
        rotation.running.store(false, Ordering::Release);
        state.running = false;
    }
}

impl Home {
    /// Says who has the log's and the journal's files.
    pub fn set_sealed_parts(&self, parts: Arc<dyn SealedParts>) {
        *self.inner.rotation.parts.lock() = Some(parts);
    }

    /// How far a change of keys is.
    #[must_use]
    pub fn rotation(&self) -> RotationState {
        let rotation = &self.inner.rotation;
        let mut state = rotation.state.lock().clone();
        if let Some(progress) = &*rotation.progress.lock() {
            state.done_bytes += progress.bytes();
        }
        state.done_bytes = state.done_bytes.min(state.all_bytes);
        state
    }

    /// Rises when the key is changed by which modules know the daemon.
    #[must_use]
    pub fn bus_key_changes(&self) -> u64 {
        self.inner.rotation.bus_key.load(Ordering::Acquire)
    }

    /// Begins to change keys; the rest is done while everything goes on, and by the next start
    /// when this process ends. One that was not finished is gone on with instead, if it is this one.
    ///
    /// # Errors
    /// [`HomeError::WrongPassword`]; [`HomeError::NoRoom`]; [`HomeError::KeysChange`] while one
    /// runs; [`HomeError::Rotation`] for keys that don't change alone; [`HomeError::Secrets`] when
    /// the key of those is to change alone and they can't be read. Then nothing has changed.
    /// [`HomeError::EarlierChange`] when one that was not finished goes on and is not this one,
    /// which can be asked for again afterwards.
    pub async fn rotate(
        &self,
        what: Rotate,
        master: Option<&Password>,
        source: impl Into<Source>,
    ) -> Result<Begun, HomeError> {
        let open = self.opened()?;
        let _one = self.inner.change.lock().await;
        if let Some(master) = master {
            self.prove_master(&open, master, &source.into()).await?;
        }
        if self.inner.rotation.is_running() {
            return Err(HomeError::KeysChange);
        }
        // A backup that is being made has what is under the old keys.
        let Ok(alone) = self.inner.backup.clone().try_lock_owned() else {
            return Err(HomeError::Rotation(
                "a backup is being made; try again when it is finished",
            ));
        };
        // A check has the files open that change places.
        let Ok(unchecked) = self.inner.checking.clone().try_lock_owned() else {
            return Err(HomeError::Rotation(
                "the stored data is being checked; try again when that is finished",
            ));
        };
        let alone = [alone, unchecked];
        let mut begun = Begun {
            phrase: None,
            dropped: Vec::new(),
            left: Vec::new(),
            archives: self.known_archives(&open).await?,
        };
        if let Some(unfinished) = self.unfinished(&open).await? {
            let wanted = match what.root {
                true => unfinished.is_of_root(what.compromised),
                false => unfinished.has(&self.planned(&open, &what, master.is_some()).await?),
            };
            let master = master.map(Password::duplicate);
            self.run_in_background(open, unfinished, master, alone);
            return match wanted {
                true => Ok(begun),
                false => Err(HomeError::EarlierChange),
            };
        }
        let plan = self.planned(&open, &what, master.is_some()).await?;
        self.check_room(&open, &plan).await?;
        if plan.steps.contains(&Step::Secrets) {
            self.check_secrets(&open).await?;
        }
        self.save_plan(&open, &plan).await?;
        fault("planned");
        if let (true, Some(master)) = (what.root, master) {
            let (vault, master) = (open.vault.clone(), master.duplicate());
            let keychains = Arc::clone(&self.inner.config.keychains);
            let done = self
                .with_kdf(move || Ok(vault.begin_rotation(&master, &keychains)?))
                .await;
            let done = match done {
                Ok(done) => done,
                Err(error) => {
                    self.forget_plan(&open).await?;
                    return Err(error);
                }
            };
            fault("header");
            self.noted(&open, keys::PHRASE).await;
            begun.phrase = Some(done.phrase);
            begun.dropped = done.dropped;
            begun.left = done.left;
        }
        let master = master.map(Password::duplicate);
        self.run_in_background(open, plan, master, alone);
        Ok(begun)
    }

    /// Goes on with what the last run did not finish.
    pub(crate) async fn resume_rotation(&self) {
        let Ok(open) = self.opened() else { return };
        match self.unfinished(&open).await {
            Ok(Some(plan)) => {
                tracing::info!(steps = plan.steps.len(), "a change of keys is gone on with");
                let alone = [
                    self.inner.backup.clone().lock_owned().await,
                    self.inner.checking.clone().lock_owned().await,
                ];
                self.run_in_background(open, plan, None, alone);
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "what is left of a change of keys is not known"),
        }
    }

    /// The system's store has ended in the midst of taking another file: it is opened anew with the
    /// next unlocking, which finishes that. Until then nothing can be done but to be locked.
    fn lock_without_system(&self) {
        let home = self.clone();
        tokio::spawn(async move {
            if let Err(error) = home.lock().await {
                tracing::warn!(%error, "locked after a change of keys that stopped");
            }
        });
    }

    pub(crate) fn parts(&self) -> Option<Arc<dyn SealedParts>> {
        self.inner.rotation.parts.lock().clone()
    }

    /// With the lock that keeps backups away.
    fn run_in_background(
        &self,
        open: Arc<Open>,
        plan: Plan,
        master: Option<Password>,
        alone: [OwnedMutexGuard<()>; 2],
    ) {
        let rotation = &self.inner.rotation;
        if rotation.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let all_bytes = plan
            .steps
            .iter()
            .map(|step| self.bytes_of(&open, step))
            .sum();
        *rotation.state.lock() = RotationState {
            running: true,
            all_bytes,
            ..RotationState::default()
        };
        let running = Running(self.clone());
        let hold = self.hold();
        let home = self.clone();
        tokio::spawn(async move {
            home.run(&open, plan, master, hold).await;
            // Told last: who sees that it is over may begin the next one at once.
            drop(alone);
            drop(running);
        });
    }

    async fn run(
        &self,
        open: &Arc<Open>,
        mut plan: Plan,
        master: Option<Password>,
        hold: TaskTrackerToken,
    ) {
        let mut stage = self.watch_stage();
        let work = async {
            while let Some(step) = plan.steps.first().cloned() {
                self.inner.rotation.state.lock().step = step.name();
                let bytes = self.bytes_of(open, &step);
                self.step(open, &step, master.as_ref()).await?;
                fault(step.name());
                plan.steps.remove(0);
                self.save_plan(open, &plan).await?;
                let rotation = &self.inner.rotation;
                *rotation.progress.lock() = None;
                rotation.state.lock().done_bytes += bytes;
            }
            self.forget_plan(open).await?;
            self.noted(open, ROTATED).await;
            Ok::<_, HomeError>(())
        };
        let over = async {
            let _ = stage.wait_for(|stage| *stage != Stage::Ready).await;
        };
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = over => Err(HomeError::Stopping),
        };
        drop(hold);
        let mut state = self.inner.rotation.state.lock();
        match outcome {
            Ok(()) => {
                state.done_bytes = state.all_bytes;
                state.finished_at = Some(Timestamp::now());
                tracing::info!("keys were changed");
            }
            Err(HomeError::Stopping) => {
                tracing::info!("a change of keys is gone on with when it is unlocked again");
            }
            Err(error) => {
                let mut why = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(inner) = cause {
                    why.push_str(": ");
                    why.push_str(&inner.to_string());
                    cause = inner.source();
                }
                tracing::error!(step = state.step, error = why, "a change of keys stopped");
                if matches!(error, HomeError::Locked) {
                    self.lock_without_system();
                }
                let kind = error.kind();
                state.failed = Some(Failed { kind, why });
            }
        }
    }
}

/// A place where a test ends the process as a power cut would. Not in a release.
#[cfg(debug_assertions)]
fn fault(point: &str) {
    if std::env::var_os("AICO_TEST_ROTATION_FAULT").is_some_and(|wanted| wanted == point) {
        let _ = std::process::Command::new("kill")
            .args(["-KILL", &std::process::id().to_string()])
            .status();
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
fn fault(_point: &str) {}
