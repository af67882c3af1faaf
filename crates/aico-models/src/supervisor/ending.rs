//! The end of a model process. It takes seconds where the process does not obey: meanwhile the
//! manager goes on with the others.
//!
//! What is on its way out counts as being in memory, and its number is not given to another.

use std::sync::Arc;
use std::time::Duration;

use super::child::Run;
use super::keeper::Keeper;
use super::manager::Manager;
use super::scratch;
use super::slot::{Parts, Slot};

/// What the process gets to end by itself.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// What keeping its prompts may take before that.
const KEEP: Duration = Duration::from_secs(2);

/// A process that shall end, and what ends with it.
pub(super) struct Ending {
    pub(super) number: u32,
    pub(super) keeper: Option<Keeper>,
    pub(super) run: Option<Run>,
    /// The public key of its link.
    pub(super) key: Option<String>,
    pub(super) grace: Duration,
}

impl Ending {
    /// Whether there is anything to end.
    fn is_nothing(&self) -> bool {
        self.run.is_none() && self.key.is_none()
    }

    /// Ends it; returns when it is gone.
    pub(super) async fn finish(self, parts: &Parts) {
        if let Some(keeper) = self.keeper {
            // As many as can be: who locks or stops does not wait for long.
            let _some_are_lost = tokio::time::timeout(KEEP, keeper.keep_all()).await;
        }
        if let Some(run) = self.run {
            run.end(self.grace).await;
        }
        clear(parts, self.number, self.key).await;
    }
}

/// The key of a process that is gone opens nothing any more, and nothing that it wrote outlives it.
pub(super) async fn clear(parts: &Parts, number: u32, key: Option<String>) {
    if let Some(key) = key {
        parts.listener.revoke_key(&key).await;
    }
    let folder = parts.config.scratch.join(number.to_string());
    let gone = tokio::task::spawn_blocking(move || scratch::removed(&folder)).await;
    if let Ok(Err(error)) = gone {
        tracing::warn!(%error, "What the model process wrote could not be removed.");
    }
}

/// A process on its way out.
pub(super) struct Leaving {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) need: u64,
    pub(super) process_id: u32,
    /// What it remembers may still be on its way to the disk.
    pub(super) keeper: Option<Keeper>,
}

impl Manager {
    /// Has the process of a slot ended, while everything else goes on.
    pub(super) fn let_go(&mut self, slot: &mut Slot, grace: Duration) {
        let (name, need) = (slot.model.name.clone(), slot.need);
        let process_id = slot.process_id();
        let ending = slot.ending(grace);
        if ending.is_nothing() {
            return;
        }
        let leaving = Leaving {
            number: ending.number,
            name,
            need,
            process_id,
            keeper: ending.keeper.clone(),
        };
        let parts = Arc::clone(&self.parts);
        let task = self
            .endings
            .spawn(async move { ending.finish(&parts).await });
        self.leaving.insert(task.id(), leaving);
    }

    /// One that was let go is gone, and there is room.
    pub(super) async fn gone(&mut self, task: tokio::task::Id) {
        self.leaving.remove(&task);
        self.grant_wishes().await;
    }

    /// Returns when all that were let go are gone.
    pub(super) async fn all_gone(&mut self) {
        while self.endings.join_next().await.is_some() {}
        self.leaving.clear();
    }

    /// Whether this number is with a slot, or with a process that still ends.
    pub(super) fn is_taken(&self, number: u32) -> bool {
        self.slots.iter().any(|slot| slot.number == number)
            || self.leaving.values().any(|one| one.number == number)
    }
}
