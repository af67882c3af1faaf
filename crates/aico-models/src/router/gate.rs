//! So many questions at once to another program, the others in the order of the engine's own
//! queue: the urgent first, then whoever has fewest running, then who came first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aico_contracts::ids::PersonId;
use aico_contracts::v1::Priority;
use tokio::sync::{oneshot, watch};

use crate::batch::QUEUE_LIMIT;
use crate::batch::queue::{Queue, Waiting};

/// The gate before one program. Clones are the same.
#[derive(Clone)]
pub struct Gate {
    at_once: usize,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    queue: Queue<Waiter>,
    running: HashMap<Option<PersonId>, usize>,
    arrivals: u64,
}

struct Waiter {
    priority: Priority,
    person: Option<PersonId>,
    arrival: u64,
    place: watch::Sender<u32>,
    admit: oneshot::Sender<Pass>,
}

impl Waiting for Waiter {
    fn priority(&self) -> Priority {
        self.priority
    }
    fn person(&self) -> Option<PersonId> {
        self.person
    }
    fn arrival(&self) -> u64 {
        self.arrival
    }
    fn position(&mut self, before: u32) {
        self.place.send_if_modified(|place| {
            let changed = *place != before;
            *place = before;
            changed
        });
    }
}

/// What was asked of the gate.
pub enum Entry {
    /// There is a place.
    Now(Pass),
    /// It has to wait. Dropping it leaves the queue.
    Wait(Queued),
    /// Too many wait already.
    Full,
}

/// A place in the queue.
pub struct Queued {
    /// How many are before it.
    pub place: watch::Receiver<u32>,
    /// The pass, when it has come. An error: somebody more urgent came into the full queue, and
    /// there is no place any more.
    pub pass: oneshot::Receiver<Pass>,
    /// Dropped after these.
    _leaves: Leaves,
}

/// Leaves the queue when dropped: those behind move up.
struct Leaves(Gate);

impl Drop for Leaves {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        let before = inner.queue.len();
        inner.queue.remove(|waiter| waiter.admit.is_closed());
        if inner.queue.len() < before {
            inner.tell();
        }
    }
}

/// One of the places. Given back when dropped.
pub struct Pass {
    gate: Gate,
    person: Option<PersonId>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.leave(self.person);
    }
}

impl Gate {
    /// Lets in so many at once, and one at the least.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self {
            at_once: at_once.max(1),
            inner: Arc::default(),
        }
    }

    /// How many it lets in at once.
    #[must_use]
    pub fn at_once(&self) -> usize {
        self.at_once
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a place.
    #[must_use]
    pub fn enter(&self, person: Option<PersonId>, priority: Priority) -> Entry {
        let mut inner = self.inner();
        inner.queue.remove(|waiter| waiter.admit.is_closed());
        if inner.count() < self.at_once && inner.queue.len() == 0 {
            *inner.running.entry(person).or_default() += 1;
            return Entry::Now(Pass {
                gate: self.clone(),
                person,
            });
        }
        let (admit, pass) = oneshot::channel();
        let (place, places) = watch::channel(u32::MAX);
        inner.arrivals += 1;
        let arrival = inner.arrivals;
        let waiter = Waiter {
            priority,
            person,
            arrival,
            place,
            admit,
        };
        let Inner { queue, running, .. } = &mut *inner;
        let refused = queue.admit(waiter, QUEUE_LIMIT, running);
        if refused.is_some_and(|refused| refused.arrival == arrival) {
            return Entry::Full;
        }
        inner.tell();
        Entry::Wait(Queued {
            place: places,
            pass,
            _leaves: Leaves(self.clone()),
        })
    }

    fn leave(&self, person: Option<PersonId>) {
        let mut admitted = Vec::new();
        let mut inner = self.inner();
        if let Some(running) = inner.running.get_mut(&person) {
            *running -= 1;
            if *running == 0 {
                inner.running.remove(&person);
            }
        }
        inner.queue.remove(|waiter| waiter.admit.is_closed());
        while inner.count() < self.at_once {
            let Inner { queue, running, .. } = &mut *inner;
            let Some(next) = queue.pop(running) else {
                break;
            };
            *inner.running.entry(next.person).or_default() += 1;
            let pass = Pass {
                gate: self.clone(),
                person: next.person,
            };
            admitted.push((next.admit, pass));
        }
        inner.tell();
        // One that has left meanwhile gives its place back at once, which needs the lock.
        drop(inner);
        for (admit, pass) in admitted {
            let _left = admit.send(pass);
        }
    }
}

impl Inner {
    fn count(&self) -> usize {
        self.running.values().sum()
    }

    /// Tells each its place.
    fn tell(&mut self) {
        let Self { queue, running, .. } = self;
        queue.tell(running);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    const AT_ONCE: usize = 4;

    fn pass(entry: Entry) -> Pass {
        match entry {
            Entry::Now(pass) => pass,
            Entry::Wait(_) | Entry::Full => panic!("there was no place"),
        }
    }

    fn wait(entry: Entry) -> Queued {
        match entry {
            Entry::Wait(queued) => queued,
            Entry::Now(_) | Entry::Full => panic!("it did not have to wait"),
        }
    }

    #[test]
    fn four_at_once_then_the_urgent_then_whoever_has_least() {
        let gate = Gate::new(AT_ONCE);
        let (ann, ben) = (Some(PersonId::new()), Some(PersonId::new()));
        let normal = Priority::Normal;
        let mut inside: Vec<_> = (0..AT_ONCE)
            .map(|_| pass(gate.enter(ann, normal)))
            .collect();
        let mut anns = wait(gate.enter(ann, normal));
        let mut bens = wait(gate.enter(ben, normal));
        let mut urgent = wait(gate.enter(ann, Priority::Interactive));
        let places = |all: [&Queued; 3]| all.map(|queued| *queued.place.borrow());
        assert_eq!(places([&urgent, &bens, &anns]), [0, 1, 2]);
        inside.pop();
        let first = urgent.pass.try_recv().unwrap();
        assert_eq!(*bens.place.borrow(), 0);
        // One that gives up is passed over, and those behind it hear of it at once.
        let gone = wait(gate.enter(None, Priority::Interactive));
        assert_eq!(*bens.place.borrow(), 1);
        drop(gone);
        assert_eq!(*bens.place.borrow(), 0);
        inside.pop();
        let second = bens.pass.try_recv().unwrap();
        assert!(anns.pass.try_recv().is_err());
        drop(first);
        let third = anns.pass.try_recv().unwrap();
        drop((inside, second, third));
        assert_eq!(gate.inner().count(), 0);
        assert!(gate.inner().running.is_empty());
    }

    #[test]
    fn too_many_are_refused() {
        let gate = Gate::new(AT_ONCE);
        let _inside: Vec<_> = (0..AT_ONCE)
            .map(|_| pass(gate.enter(None, Priority::Normal)))
            .collect();
        let mut waiting: Vec<_> = (0..QUEUE_LIMIT)
            .map(|_| wait(gate.enter(None, Priority::Normal)))
            .collect();
        assert!(matches!(gate.enter(None, Priority::Normal), Entry::Full));
        // The urgent is not: whoever came last gives way, and is told.
        let mut urgent = wait(gate.enter(None, Priority::Interactive));
        assert_eq!(*urgent.place.borrow(), 0);
        let mut given_way = waiting.pop().unwrap();
        let (empty, closed) = (TryRecvError::Empty, TryRecvError::Closed);
        assert_eq!(given_way.pass.try_recv().err(), Some(closed));
        assert_eq!(urgent.pass.try_recv().err(), Some(empty));
        drop(waiting);
        wait(gate.enter(None, Priority::Normal));
    }
}
