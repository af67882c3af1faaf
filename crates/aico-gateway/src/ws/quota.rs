//! How many WebSockets one session may have, and how many requests one named token.

use std::collections::HashMap;
use std::sync::Arc;

use aico_contracts::ids::{PersonId, SessionId, TokenId};
use parking_lot::Mutex;

/// What is counted for: a session, the owner over the local socket, or another program.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    Session(SessionId),
    Local(PersonId),
    Token(TokenId),
}

/// Counts.
pub(crate) struct Quota {
    most: usize,
    held: Arc<Mutex<HashMap<Holder, usize>>>,
}

impl Quota {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            held: Arc::default(),
        }
    }

    /// One more, or `None` when there are too many.
    pub(crate) fn take(&self, holder: Holder) -> Option<Held> {
        let mut held = self.held.lock();
        let count = held.entry(holder).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Held {
            holder,
            held: Arc::clone(&self.held),
        })
    }

    /// How many one holder has.
    pub(crate) fn held_by(&self, holder: Holder) -> usize {
        self.held.lock().get(&holder).copied().unwrap_or(0)
    }

    /// All together.
    pub(crate) fn count(&self) -> usize {
        self.held.lock().values().sum()
    }
}

/// Given back when dropped.
pub(crate) struct Held {
    holder: Holder,
    held: Arc<Mutex<HashMap<Holder, usize>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        if let Some(count) = held.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_its_own_count_and_gets_it_back() {
        let quota = Quota::new(2);
        let one = Holder::Session(SessionId::new());
        let first = quota.take(one).unwrap();
        let _second = quota.take(one).unwrap();
        assert!(quota.take(one).is_none());
        assert!(quota.take(Holder::Local(PersonId::new())).is_some());
        drop(first);
        assert!(quota.take(one).is_some());
        assert_eq!(quota.count(), 1, "what was not kept was given back");
    }
}
