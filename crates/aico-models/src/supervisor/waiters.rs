//! Who waits for a model that is being loaded.

use std::collections::HashMap;
use std::time::Duration;

use aico_contracts::v1::Envelope;
use bytes::Bytes;
use tokio::time::Instant;

use crate::clock;

/// What whoever hears news gets to look again.
const MOMENT: Duration = Duration::from_secs(1);

/// A question: its person, and its trace, as each look has an id of its own. Those of one trace are
/// one.
pub(super) type Key = (Bytes, Bytes);

pub(super) fn key(question: &Envelope) -> Key {
    let of = match question.trace.is_empty() {
        true => &question.id,
        false => &question.trace,
    };
    (question.person.clone(), of.clone())
}

/// The questions that were told that their model is being loaded. Whoever asks looks again at each
/// news of the load, so that one that was given up is one that does not.
pub(super) struct Waiters {
    looked: HashMap<Key, Instant>,
    news: Instant,
}

impl Waiters {
    pub(super) fn new() -> Self {
        Self {
            looked: HashMap::new(),
            news: clock::now(),
        }
    }

    /// This question was told so.
    pub(super) fn note(&mut self, question: &Envelope) {
        self.looked.insert(key(question), clock::now());
    }

    /// Whether this one was.
    pub(super) fn has(&self, question: &Key) -> bool {
        self.looked.contains_key(question)
    }

    /// There are news: those that did not look at the ones before are gone.
    pub(super) fn tell(&mut self) {
        let now = clock::now();
        if now - self.news < MOMENT {
            return;
        }
        let before = std::mem::replace(&mut self.news, now);
        self.looked.retain(|_, at| *at >= before);
    }

    /// It is loaded, or can't be.
    pub(super) fn clear(&mut self) {
        self.looked.clear();
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.looked.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(trace: u8, id: u8) -> Envelope {
        Envelope {
            trace: vec![trace; 16].into(),
            id: vec![id; 16].into(),
            ..Envelope::default()
        }
    }

    #[test]
    fn one_counts_once_however_often_it_looks_and_not_once_it_looks_no_more() {
        let mut waiters = Waiters::new();
        waiters.note(&asked(1, 1));
        waiters.note(&asked(1, 2));
        waiters.note(&asked(2, 3));
        assert_eq!(waiters.count(), 2);
        assert!(waiters.has(&key(&asked(2, 9))) && !waiters.has(&key(&asked(3, 3))));
        clock::advance(MOMENT);
        waiters.tell();
        assert_eq!(waiters.count(), 2, "they had no time to look again");
        waiters.note(&asked(1, 4));
        clock::advance(MOMENT);
        waiters.tell();
        assert_eq!(waiters.count(), 1);
        // News that follow at once are no new ones.
        waiters.tell();
        assert_eq!(waiters.count(), 1);
        waiters.clear();
        assert_eq!(waiters.count(), 0);
    }
}
