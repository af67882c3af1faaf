//! What the handles of a store and its threads share: how far it is, and how it does.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::watch;

use crate::{
    error::StoreError,
    fault::Faults,
    registry::{RegistryError, StoreRegistry},
};

/// The state of an open store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether the last attempt to write succeeded and nothing stands against the next.
    pub writable: bool,
    /// Whether the disk was full at the last attempt. Looked at again every two seconds.
    pub storage_full: bool,
    /// Whether the registry could not note the last commit.
    pub registry_failing: bool,
    /// Whether an operation met damage: the daemon should stop and restore.
    pub damaged: bool,
    /// Whether it was opened read-only.
    pub read_only: bool,
}

/// What threads and handles share.
pub(crate) struct Shared {
    pub(crate) id: String,
    pub(crate) registry: Arc<dyn StoreRegistry>,
    pub(crate) sequence: AtomicU64,
    pub(crate) faults: Faults,
    /// Closing has begun: what takes long ends early.
    pub(crate) ending: AtomicBool,
    commits: watch::Sender<u64>,
    storage_full: AtomicBool,
    registry_failing: AtomicBool,
    damaged: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        id: String,
        registry: Arc<dyn StoreRegistry>,
        sequence: u64,
        faults: Faults,
    ) -> Self {
        Self {
            id,
            registry,
            sequence: AtomicU64::new(sequence),
            faults,
            ending: AtomicBool::new(false),
            commits: watch::Sender::new(sequence),
            storage_full: AtomicBool::new(false),
            registry_failing: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
        }
    }

    /// The acknowledged commits, to be waited on.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// The state, as far as the threads know it.
    pub(crate) fn health(&self, read_only: bool, closed: bool) -> Health {
        let storage_full = self.storage_full.load(Ordering::Relaxed);
        let registry_failing = self.registry_failing.load(Ordering::Relaxed);
        let damaged = self.damaged.load(Ordering::Relaxed);
        Health {
            writable: !(storage_full || registry_failing || damaged || read_only || closed),
            storage_full,
            registry_failing,
            damaged,
            read_only,
        }
    }

    /// Whether the writer should look by itself whether things got better.
    pub(crate) fn is_degraded(&self) -> bool {
        self.storage_full.load(Ordering::Relaxed) || self.registry_failing.load(Ordering::Relaxed)
    }

    pub(crate) fn committed(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::Release);
    }

    pub(crate) fn recovered(&self) {
        self.storage_full.store(false, Ordering::Relaxed);
        self.registry_failing.store(false, Ordering::Relaxed);
        self.commits
            .send_replace(self.sequence.load(Ordering::Acquire));
    }

    pub(crate) fn failed(&self, error: &StoreError) {
        match error {
            StoreError::StorageFull if !self.storage_full.swap(true, Ordering::Relaxed) => {
                tracing::error!(
                    store = self.id,
                    "no space is left; a store cannot be written"
                );
            }
            StoreError::Damaged { code } if !self.damaged.swap(true, Ordering::Relaxed) => {
                tracing::error!(store = self.id, code, "a store is damaged");
            }
            _ => {}
        }
    }

    pub(crate) fn registry_failed(&self, error: &RegistryError) {
        if matches!(error, RegistryError::StorageFull) {
            self.storage_full.store(true, Ordering::Relaxed);
        }
        if !self.registry_failing.swap(true, Ordering::Relaxed) {
            tracing::error!(
                store = self.id,
                "the registry cannot note what a store has written"
            );
        }
    }
}
