//! What the handles of a store and its threads share: how far it is, and how it does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::{
    error::StoreError,
    fault::Faults,
    registry::{RegistryError, StoreRecord, StoreRegistry},
};

/// The state of an open store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether the last attempt to write succeeded and nothing stands against the next.
    pub writable: bool,
    /// Whether the disk was full at the last attempt. Looked at again every two seconds.
    pub storage_full: bool,
    /// Whether the disk could only be read at the last attempt. Looked at again as often.
    pub storage_read_only: bool,
    /// Whether the disk failed at the last attempt to read or write. Looked at again as often.
    pub storage_failing: bool,
    /// How long the disk took, or takes by now, for the last commit. Nothing a minute after it.
    pub commit: Duration,
    /// Whether the registry could not note the last commit.
    pub registry_failing: bool,
    /// Whether an operation met damage: the daemon should stop and restore.
    pub damaged: bool,
    /// Whether it was opened read-only.
    pub read_only: bool,
}

impl Health {
    /// Whether commits take so long that people notice.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.commit >= SLOW
    }
}

/// A commit that takes longer is told: an answer waits for two of them.
const SLOW: Duration = Duration::from_secs(1);
/// How long one that was slow is told of.
const TOLD: Duration = Duration::from_secs(60);

/// What threads and handles share.
pub(crate) struct Shared {
    pub(crate) id: String,
    pub(crate) registry: Arc<dyn StoreRegistry>,
    /// What the registry knows of the file that is open, without its sequence. The writer says
    /// when the file is another one: whoever asked for that may be gone by then.
    pub(crate) record: Mutex<StoreRecord>,
    pub(crate) sequence: AtomicU64,
    pub(crate) faults: Faults,
    /// Closing has begun, or the file can't be gone on with: what takes long ends early.
    pub(crate) ending: AtomicBool,
    /// Held for writing while the file changes places with one under another key.
    pub(crate) in_place: RwLock<()>,
    commits: watch::Sender<u64>,
    storage_full: AtomicBool,
    storage_read_only: AtomicBool,
    storage_failing: AtomicBool,
    registry_failing: AtomicBool,
    damaged: AtomicBool,
    made: Instant,
    /// When the commit that is under way began, in milliseconds since `made`; [`IDLE`] without one.
    begun: AtomicU64,
    /// When the last one ended, and how long it took.
    ended: AtomicU64,
    took: AtomicU64,
}

/// No commit is under way.
const IDLE: u64 = u64::MAX;

impl Shared {
    pub(crate) fn new(
        id: String,
        registry: Arc<dyn StoreRegistry>,
        record: StoreRecord,
        sequence: u64,
        faults: Faults,
    ) -> Self {
        Self {
            id,
            registry,
            record: Mutex::new(record),
            sequence: AtomicU64::new(sequence),
            faults,
            ending: AtomicBool::new(false),
            in_place: RwLock::new(()),
            commits: watch::Sender::new(sequence),
            storage_full: AtomicBool::new(false),
            storage_read_only: AtomicBool::new(false),
            storage_failing: AtomicBool::new(false),
            registry_failing: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            made: Instant::now(),
            begun: AtomicU64::new(IDLE),
            ended: AtomicU64::new(0),
            took: AtomicU64::new(0),
        }
    }

    /// The acknowledged commits, to be waited on.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// The state, as far as the threads know it.
    pub(crate) fn health(&self, read_only: bool, closed: bool) -> Health {
        let storage_full = self.storage_full.load(Ordering::Relaxed);
        let storage_read_only = self.storage_read_only.load(Ordering::Relaxed);
        let storage_failing = self.storage_failing.load(Ordering::Relaxed);
        let registry_failing = self.registry_failing.load(Ordering::Relaxed);
        let damaged = self.damaged.load(Ordering::Relaxed);
        Health {
            writable: !(storage_full
                || storage_read_only
                || storage_failing
                || registry_failing
                || damaged
                || read_only
                || closed),
            storage_full,
            storage_read_only,
            storage_failing,
            commit: self.commit(),
            registry_failing,
            damaged,
            read_only,
        }
    }

    /// Whether the writer should look by itself whether things got better.
    pub(crate) fn is_degraded(&self) -> bool {
        self.storage_full.load(Ordering::Relaxed)
            || self.storage_read_only.load(Ordering::Relaxed)
            || self.storage_failing.load(Ordering::Relaxed)
            || self.registry_failing.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(IDLE - 1)
    }

    fn commit(&self) -> Duration {
        let now = self.now();
        let last = match now.saturating_sub(self.ended.load(Ordering::Relaxed)) {
            past if past < TOLD.as_millis() as u64 => self.took.load(Ordering::Relaxed),
            _ => 0,
        };
        let running = match self.begun.load(Ordering::Relaxed) {
            IDLE => 0,
            begun => now.saturating_sub(begun),
        };
        Duration::from_millis(last.max(running))
    }

    /// Runs what waits for the disk, and minds how long that takes.
    pub(crate) fn on_disk<T>(&self, commit: impl FnOnce() -> T) -> T {
        let begun = self.now();
        self.begun.store(begun, Ordering::Relaxed);
        let done = commit();
        let ended = self.now();
        let took = ended.saturating_sub(begun);
        let before = self.took.swap(took, Ordering::Relaxed);
        self.ended.store(ended, Ordering::Relaxed);
        self.begun.store(IDLE, Ordering::Relaxed);
        let slow = SLOW.as_millis() as u64;
        if took >= slow && before < slow {
            tracing::warn!(store = self.id, took_ms = took, "the disk is slow");
        }
        done
    }

    pub(crate) fn committed(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::Release);
    }

    pub(crate) fn recovered(&self) {
        self.storage_full.store(false, Ordering::Relaxed);
        self.storage_read_only.store(false, Ordering::Relaxed);
        self.storage_failing.store(false, Ordering::Relaxed);
        self.registry_failing.store(false, Ordering::Relaxed);
        self.commits
            .send_replace(self.sequence.load(Ordering::Acquire));
    }

    pub(crate) fn failed(&self, error: &StoreError) {
        match error {
            StoreError::StorageFull => self.is_full(),
            StoreError::StorageReadOnly => self.is_read_only(),
            error if error.is_disk_failure() => self.is_failing(),
            StoreError::Damaged { code } if !self.damaged.swap(true, Ordering::Relaxed) => {
                tracing::error!(store = self.id, code, "a store is damaged");
            }
            _ => {}
        }
    }

    fn is_full(&self) {
        self.storage_read_only.store(false, Ordering::Relaxed);
        if !self.storage_full.swap(true, Ordering::Relaxed) {
            tracing::error!(
                store = self.id,
                "no space is left; a store cannot be written"
            );
        }
    }

    fn is_read_only(&self) {
        self.storage_full.store(false, Ordering::Relaxed);
        if !self.storage_read_only.swap(true, Ordering::Relaxed) {
            tracing::error!(
                store = self.id,
                "the disk can only be read; a store cannot be written"
            );
        }
    }

    fn is_failing(&self) {
        if !self.storage_failing.swap(true, Ordering::Relaxed) {
            tracing::error!(store = self.id, "the disk failed under a store");
        }
    }

    pub(crate) fn registry_failed(&self, error: &RegistryError) {
        match error {
            RegistryError::StorageFull => self.is_full(),
            RegistryError::StorageReadOnly => self.is_read_only(),
            RegistryError::StorageFailing => self.is_failing(),
            RegistryError::Failed(_) => {}
        }
        if !self.registry_failing.swap(true, Ordering::Relaxed) {
            tracing::error!(
                store = self.id,
                "the registry cannot note what a store has written"
            );
        }
    }
}
