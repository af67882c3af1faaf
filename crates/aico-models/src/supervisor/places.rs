//! The packages for texts that are in memory. They share it with the chat models, so that it is
//! the manager who lets them in and sends them away ([`room`](super::room)).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aico_contracts::v1::{Fault, Priority};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::memory::gib;
use super::room::{Holder, Resident};
use crate::batch::queue::rank;
use crate::clock;

/// Packages that are loaded at once, as long as others are idle.
const MOST_LOADED: usize = 4;
/// How long a package waits for those that answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One for all workers and the manager.
pub(super) struct Places {
    inside: Mutex<HashMap<String, Place>>,
    entries: mpsc::Sender<Entry>,
}

struct Place {
    need: u64,
    /// 0: none yet.
    process_id: u32,
    used: Instant,
    /// How urgent what it does is; `None`: it has nothing to do.
    work: Option<Priority>,
    /// How urgent the one is that it leaves for.
    leaving: Option<Priority>,
    leave: Arc<Notify>,
}

impl Places {
    /// Waits until the manager lets a package of this need in, whose work is so urgent.
    ///
    /// # Errors
    /// `model-too-large`, with the figures, when it does not fit; `busy` when others are asked for
    /// too long, or the manager has ended.
    pub(super) async fn enter(
        &self,
        name: &str,
        need: u64,
        urgency: Priority,
    ) -> Result<Seat, Fault> {
        let (answer, answered) = oneshot::channel();
        let entry = Entry {
            name: name.to_owned(),
            need,
            urgency,
            until: clock::now() + PATIENCE,
            answer,
        };
        let _heard_below = self.entries.send(entry).await;
        let ended = |_| Err(Fault::busy("Models are not run any more"));
        answered.await.unwrap_or_else(ended)
    }

    /// All that have a place, and their processes.
    pub(super) fn inside(&self) -> Vec<(u32, Resident)> {
        let places = self.inside.lock();
        let resident = |(name, place): (&String, &Place)| {
            let resident = Resident {
                who: Holder::Package(name.clone()),
                name: name.clone(),
                need: place.need,
                taken: 0,
                used: place.used,
                pinned: false,
                busy: place.work.is_some() || place.leaving.is_some(),
                work: place.work.filter(|_| place.leaving.is_none()),
                going: place.leaving.is_some(),
            };
            (place.process_id, resident)
        };
        places.iter().map(resident).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inside.lock().is_empty()
    }

    /// How many may be in memory with one more. Where all work, one more does too.
    pub(super) fn most(&self) -> usize {
        let places = self.inside.lock();
        let works = |place: &&Place| place.work.is_some();
        let working = places.values().filter(works).count();
        MOST_LOADED.max(working + 1)
    }

    /// Has a package leave for one that is so urgent, unless it works at what is no less. One that
    /// works leaves after the piece it is at. False: it stays, or is not there.
    pub(super) fn send_away(&self, name: &str, urgency: Priority) -> bool {
        match self.inside.lock().get_mut(name) {
            Some(place) if place.work.is_none_or(|work| rank(work) < rank(urgency)) => {
                place.leaving = Some(urgency);
                place.leave.notify_one();
                true
            }
            _ => false,
        }
    }

    /// Whether there is still somebody who lets packages in.
    pub(super) fn is_served(&self) -> bool {
        !self.entries.is_closed()
    }
}

/// A package that wants to be let in.
pub(super) struct Entry {
    name: String,
    pub(super) need: u64,
    pub(super) urgency: Priority,
    until: Instant,
    answer: oneshot::Sender<Result<Seat, Fault>>,
}

impl Entry {
    /// Whether nobody waits for it any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.answer.is_closed()
    }

    /// Whether it has waited for as long as it may.
    pub(super) fn is_over(&self) -> bool {
        clock::now() >= self.until
    }

    pub(super) fn refuse(self, fault: Fault) {
        let _given_up = self.answer.send(Err(fault));
    }

    /// Others answer for too long.
    pub(super) fn refuse_busy(self) {
        let fault = Fault::busy("Other models are being asked, and there is no room beside them")
            .with_detail(format!("It needs about {}.", gib(self.need)));
        self.refuse(fault);
    }
}

/// Where packages come in: the manager's side.
pub(super) struct Entrance {
    pub(super) places: Arc<Places>,
    pub(super) inbox: mpsc::Receiver<Entry>,
    /// The urgent first, then in their order.
    pub(super) waiting: VecDeque<Entry>,
}

impl Entrance {
    pub(super) fn new() -> Self {
        let (entries, inbox) = mpsc::channel(64);
        let inside = Mutex::default();
        Self {
            places: Arc::new(Places { inside, entries }),
            inbox,
            waiting: VecDeque::new(),
        }
    }

    /// Takes in one that waits.
    pub(super) fn take(&mut self, entry: Entry) {
        let urgency = rank(entry.urgency);
        let at = self
            .waiting
            .partition_point(|other| rank(other.urgency) >= urgency);
        self.waiting.insert(at, entry);
    }

    /// Gives it its place, which counts from now on.
    pub(super) fn let_in(&self, entry: Entry) {
        let leave = Arc::new(Notify::new());
        let place = Place {
            need: entry.need,
            process_id: 0,
            used: clock::now(),
            // What is being loaded stops for nobody.
            work: Some(Priority::Interactive),
            leaving: None,
            leave: Arc::clone(&leave),
        };
        self.places.inside.lock().insert(entry.name.clone(), place);
        let seat = Seat {
            places: Arc::clone(&self.places),
            name: entry.name,
            leave,
        };
        let _given_up = entry.answer.send(Ok(seat));
    }
}

/// The place of a package. It is dropped when the process is gone.
pub(super) struct Seat {
    places: Arc<Places>,
    name: String,
    leave: Arc<Notify>,
}

impl Seat {
    fn note(&self, change: impl FnOnce(&mut Place)) {
        if let Some(place) = self.places.inside.lock().get_mut(&self.name) {
            change(place);
        }
    }

    /// Notes its process: what that has taken is not counted twice.
    pub(super) fn runs(&self, process_id: u32) {
        self.note(|place| place.process_id = process_id);
    }

    /// Notes that it works no longer.
    pub(super) fn rests(&self) {
        self.note(|place| {
            place.work = None;
            place.used = clock::now();
        });
    }

    /// Notes that it works at something so urgent, unless it has to leave for what is more urgent:
    /// how urgent that is.
    pub(super) fn works(&self, urgency: Priority) -> Option<Priority> {
        let mut leaves = None;
        self.note(|place| {
            leaves = place
                .leaving
                .filter(|leaving| rank(*leaving) > rank(urgency));
            if leaves.is_none() {
                place.work = Some(urgency);
                place.used = clock::now();
                // Who was asked just then stays.
                place.leaving = None;
            }
        });
        leaves
    }

    /// Returns when it has to leave.
    pub(super) async fn sent_away(&self) {
        loop {
            self.leave.notified().await;
            let places = self.places.inside.lock();
            if places
                .get(&self.name)
                .is_some_and(|place| place.leaving.is_some())
            {
                return;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.inside.lock().remove(&self.name);
    }
}
