//! What the cache holds of conversations, handed out and taken back: a prompt that was read once
//! need not be read again after the process was replaced.
//!
//! Only what stands under a key of a person's leaves the loop, and what comes back goes under the
//! same key of the same person.

use std::time::Duration;

use aico_contracts::ids::PersonId;
use tokio::sync::oneshot;

use super::slots::Owner;
use super::{Batcher, Command};
use crate::engine::Token;

/// A prompt in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Whose.
    pub person: PersonId,
    /// Its key.
    pub key: Vec<u8>,
    /// How many tokens; 0 while it is [busy](Self::busy).
    pub tokens: usize,
    /// Bytes of its state; 0 while it is busy.
    pub bytes: usize,
    /// Another one than before: it has changed.
    pub revision: u64,
    /// What reading it again would take, where that was measured.
    pub prefill: Option<Duration>,
    /// An answer is being written.
    pub busy: bool,
}

/// The state of a prompt: opaque, and of use to an equal engine only.
pub struct Saved {
    /// What it stands for.
    pub tokens: Vec<Token>,
    /// The engine's.
    pub state: Vec<u8>,
    /// As in [`Held`].
    pub revision: u64,
}

/// What becomes of a state that is larger than wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Larger {
    /// It is not handed out, and stays as it is.
    Refuse,
    /// It is cut to its beginning that fits, and the cache holds no more of it from then on.
    Cut,
}

/// Asks the loop.
pub(super) enum Ask {
    Held(oneshot::Sender<Vec<Held>>),
    Save(Owner, usize, Larger, oneshot::Sender<Option<Saved>>),
    Restore(Owner, Saved, oneshot::Sender<Option<u64>>),
}

impl Batcher {
    /// The prompts of persons that the cache holds. Nothing when the loop has ended.
    pub async fn held(&self) -> Vec<Held> {
        self.ask(Ask::Held).await.unwrap_or_default()
    }

    /// The state of a person's prompt, at most so many bytes, unless it is busy or not there.
    pub async fn save(
        &self,
        person: PersonId,
        key: Vec<u8>,
        most: usize,
        larger: Larger,
    ) -> Option<Saved> {
        let owner = Owner {
            person: Some(person),
            key,
        };
        self.ask(|answer| Ask::Save(owner, most, larger, answer))
            .await
            .flatten()
    }

    /// Takes a person's prompt back. `None`: there is no slot for it, it does not fit this engine,
    /// or the cache has more of it already. Otherwise its revision.
    pub async fn restore(&self, person: PersonId, key: Vec<u8>, saved: Saved) -> Option<u64> {
        let owner = Owner {
            person: Some(person),
            key,
        };
        self.ask(|answer| Ask::Restore(owner, saved, answer))
            .await
            .flatten()
    }

    async fn ask<T>(&self, what: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Ask(what(answer))).ok()?;
        answered.await.ok()
    }
}
