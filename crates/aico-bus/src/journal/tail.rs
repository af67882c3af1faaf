//! Following the journal: first what is on the disk, then what comes, with no gap and nothing
//! twice, because there is one position and whatever comes next is pulled from there.
//!
//! Nothing is queued for a follower. One that stops costs its position and nothing else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aico_contracts::ids::PersonId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::disk::{DiskReader, Item, Skipped, Stretch, Why};
use super::error::JournalFault;
use super::message::{Kept, Place};
use super::shared::Shared;
use crate::pattern::Pattern;

/// Where a follower begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    Now,
    /// With the oldest message that is kept.
    First,
    /// With the message after this one.
    After(Place),
    /// After what was last acknowledged under this name; a new name begins now. The place is kept
    /// by the daemon, for this identity, over restarts.
    Cursor(String),
}

/// Most messages and bytes that are pulled at once.
const MESSAGES: usize = 64;
const BYTES: usize = 256 * 1024;

/// What a follower is to get.
pub(crate) struct Wanted {
    pub(crate) pattern: Pattern,
    /// Whether it may see what belongs to a person.
    pub(crate) sees: Box<dyn Fn(PersonId) -> bool + Send + Sync>,
}

impl Wanted {
    pub(crate) fn matches(&self, topic: &str, person: Option<PersonId>) -> bool {
        self.pattern.matches(topic) && person.is_none_or(|person| (self.sees)(person))
    }
}

pub(crate) struct Tail {
    shared: Arc<Shared>,
    wanted: Arc<Wanted>,
    next: u64,
    ready: VecDeque<Item>,
    last: watch::Receiver<u64>,
    /// The disk, as long as this is behind what is in memory.
    disk: Option<DiskReader>,
    /// A stretch that is being read.
    reading: Option<JoinHandle<(DiskReader, Result<Stretch, JournalFault>)>>,
    cursor: Option<String>,
    /// It begins after this place.
    from: Place,
    /// Everything up to here was given out, or is of no concern.
    given: Arc<AtomicU64>,
}

/// Moves a follower's cursor, from wherever its acknowledgements come. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cursor {
    shared: Arc<Shared>,
    name: Option<String>,
    given: Arc<AtomicU64>,
}

impl Cursor {
    /// The follower is done with everything up to here. More than it was given does not count.
    pub(crate) fn acknowledge(&self, sequence: u64) {
        if let Some(name) = &self.name {
            let given = self.given.load(Ordering::Acquire);
            self.shared.move_cursor(name, sequence.min(given));
        }
    }

    /// Where the follower is.
    pub(crate) fn position(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }
}

impl Tail {
    /// Finds the place to begin: with a cursor after `resume`, when that is of this journal. Waits
    /// for the disk.
    pub(crate) fn begin(
        shared: Arc<Shared>,
        identity: &str,
        wanted: Wanted,
        start: Start,
        resume: Option<Place>,
    ) -> Result<Self, JournalFault> {
        shared.followers.fetch_add(1, Ordering::AcqRel);
        let mut tail = Self {
            last: shared.last.subscribe(),
            wanted: Arc::new(wanted),
            next: 0,
            ready: VecDeque::new(),
            disk: None,
            reading: None,
            cursor: None,
            from: Place {
                epoch: [0; 16],
                sequence: 0,
            },
            given: Arc::default(),
            shared,
        };
        let last = *tail.shared.last.borrow();
        let first = tail.shared.view().first();
        // Where it begins, and the place that it says it has been at.
        let (next, been) = match start {
            Start::Now => (last + 1, None),
            Start::First => (first, None),
            Start::After(place) => (first, Some(place)),
            Start::Cursor(name) => {
                let (name, at) = super::cursors::find(&tail.shared, identity, &name, last)?;
                tail.cursor = Some(name);
                // An older registry than the journal was put back: nothing after the end.
                (at.min(last) + 1, resume)
            }
        };
        tail.next = match been {
            Some(place) if tail.is_ours(place, last) => {
                tail.from = place;
                place.sequence + 1
            }
            Some(_) => {
                tail.ready.push_back(Item::Skipped(Skipped {
                    why: Why::OtherEpoch,
                    missed: 0,
                    next: tail.shared.place(next),
                }));
                next
            }
            None => next,
        };
        if tail.from.sequence + 1 != tail.next {
            tail.from = tail.shared.place(tail.next - 1);
        }
        tail.given.store(tail.next - 1, Ordering::Release);
        Ok(tail)
    }

    /// Whether a place is one of this journal, after which it can go on.
    fn is_ours(&self, place: Place, last: u64) -> bool {
        let view = self.shared.view();
        let first = view.first();
        let Place { epoch, sequence } = place;
        if sequence == u64::MAX {
            return false;
        }
        if sequence < first || sequence == 0 {
            // Told as expired when it is read. Before the first message there is no epoch; the
            // record before the first that is kept is not there to be asked: it is believed.
            return true;
        }
        let known = view.epochs.of(sequence).filter(|_| sequence <= last);
        known == Some(epoch)
            || (sequence <= last
                && DiskReader::new(self.shared.clone()).epoch(sequence) == Some(epoch))
    }

    /// It begins after this place; the one that was asked for when that is of this journal.
    pub(crate) fn from(&self) -> Place {
        self.from
    }

    /// Everything up to here was given out, or is of no concern; `None` when nobody knows the
    /// place's epoch without looking into files.
    pub(crate) fn upto(&self) -> Option<Place> {
        let sequence = self.given.load(Ordering::Acquire);
        let epoch = self.shared.view().epochs.of(sequence)?;
        Some(Place { epoch, sequence })
    }

    /// The next message, or what is missing; `None` when the journal was closed. Can be dropped
    /// and called again.
    ///
    /// # Errors
    /// When the disk can't be read; it can be tried again.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, JournalFault> {
        loop {
            if let Some(item) = self.give() {
                return Ok(Some(item));
            }
            let closed = self.shared.closed.clone();
            tokio::select! {
                biased;
                () = closed.cancelled() => return Ok(None),
                pulled = self.pull() => pulled?,
            }
        }
    }

    /// The next one if it is in memory already.
    pub(crate) fn try_next(&mut self) -> Option<Item> {
        if self.ready.is_empty() && self.reading.is_none() && !self.shared.closed.is_cancelled() {
            self.pull_recent();
        }
        self.give()
    }

    fn give(&mut self) -> Option<Item> {
        let item = self.ready.pop_front();
        let given = match &item {
            Some(Item::Kept(kept)) => kept.place.sequence,
            Some(Item::Skipped(skipped)) => skipped.next.sequence - 1,
            None => self.next - 1,
        };
        self.given.store(given, Ordering::Release);
        item
    }

    /// Takes what is in memory. `false`: it is not there.
    fn pull_recent(&mut self) -> bool {
        let wanted = |kept: &Kept| self.wanted.matches(kept.topic(), kept.person);
        match self.shared.recent(self.next, MESSAGES, BYTES, wanted) {
            Some((found, next)) => {
                self.disk = None;
                self.next = next;
                self.ready.extend(found.into_iter().map(Item::Kept));
                true
            }
            None => false,
        }
    }

    async fn pull(&mut self) -> Result<(), JournalFault> {
        if self.reading.is_none() {
            let last = *self.last.borrow_and_update();
            if self.next > last {
                // The sender lives as long as `shared`.
                let _ = self.last.changed().await;
                return Ok(());
            }
            if self.pull_recent() {
                return Ok(());
            }
            let mut disk = match self.disk.take() {
                Some(disk) => disk,
                None => DiskReader::new(self.shared.clone()),
            };
            let (next, wanted) = (self.next, self.wanted.clone());
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let read = disk.read(next, last, &wanted);
                (disk, read)
            }));
        }
        let Some(reading) = &mut self.reading else {
            return Ok(());
        };
        let read = reading.await;
        self.reading = None;
        let (disk, read) = read.map_err(|error| JournalFault::Failed {
            reason: error.to_string(),
        })?;
        let stretch = read?;
        self.disk = Some(disk);
        self.next = stretch.next;
        self.ready.extend(stretch.items);
        Ok(())
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            shared: self.shared.clone(),
            name: self.cursor.clone(),
            given: self.given.clone(),
        }
    }

    /// The last place that is durable.
    pub(crate) fn head(&self) -> Place {
        let last = *self.shared.last.borrow();
        self.shared.place(last)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.shared.followers.fetch_sub(1, Ordering::AcqRel);
    }
}
