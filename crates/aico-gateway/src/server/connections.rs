//! The cap on connections, and who makes room when it is reached.
//!
//! A peer can hold many connections open without asking anything: slow heads, slow bodies, idle
//! ones. When all places are taken, the one that has been waiting for its peer the longest is
//! cut in favour of the new one. A connection that works (a request that has arrived whole, an
//! answer under way, an authenticated WebSocket) is never cut for another.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// All connections of one listener.
pub(crate) struct Connections {
    most: usize,
    open: Mutex<HashMap<u64, Entry>>,
    /// Numbers connections, and times of waiting: smaller is earlier.
    clock: AtomicU64,
}

struct Entry {
    /// Since when it waits for its peer; `None` while it works.
    waiting: Option<u64>,
    cut: CancellationToken,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            open: Mutex::default(),
            clock: AtomicU64::new(0),
        })
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// A place for a new connection, or `None` when every other one works.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut open = self.open.lock();
        if open.len() >= self.most {
            let (&idlest, _) = open
                .iter()
                .filter_map(|(id, entry)| entry.waiting.map(|since| (id, since)))
                .min_by_key(|(_, since)| *since)?;
            if let Some(entry) = open.remove(&idlest) {
                entry.cut.cancel();
            }
        }
        let id = self.tick();
        let cut = CancellationToken::new();
        open.insert(
            id,
            Entry {
                waiting: Some(id),
                cut: cut.clone(),
            },
        );
        Some(Place {
            activity: Activity {
                connections: Arc::clone(self),
                id,
                cut,
            },
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Ends all.
    pub(crate) fn cut_all(&self) {
        for entry in self.open.lock().values() {
            entry.cut.cancel();
        }
    }
}

/// A connection's place; given back when dropped.
pub(crate) struct Place {
    activity: Activity,
}

impl Place {
    pub(crate) fn activity(&self) -> Activity {
        self.activity.clone()
    }

    /// Cancelled when the connection has to end at once.
    pub(crate) fn cut(&self) -> &CancellationToken {
        &self.activity.cut
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Activity {
            connections, id, ..
        } = &self.activity;
        connections.open.lock().remove(id);
    }
}

/// Tells whether a connection works or waits.
#[derive(Clone)]
pub(crate) struct Activity {
    connections: Arc<Connections>,
    id: u64,
    cut: CancellationToken,
}

impl Activity {
    /// Cancelled when the connection has to end at once.
    pub(crate) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// The peer has done its part.
    pub(crate) fn work(&self) {
        self.set(None);
    }

    fn rest(&self) {
        let now = self.connections.tick();
        self.set(Some(now));
    }

    fn set(&self, waiting: Option<u64>) {
        if let Some(entry) = self.connections.open.lock().get_mut(&self.id) {
            entry.waiting = waiting;
        }
    }

    /// Waits again once the returned value is dropped.
    pub(crate) fn until_dropped(self) -> Rest {
        Rest(self)
    }
}

/// See [`Activity::until_dropped`].
pub(crate) struct Rest(Activity);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_waiting_makes_room_and_working_ones_never_do() {
        let connections = Connections::new(3);
        let places: Vec<_> = (0..3).map(|_| connections.enter().unwrap()).collect();
        places[0].activity().work();
        let fourth = connections.enter().unwrap();
        assert!(!places[0].cut().is_cancelled(), "it works");
        assert!(places[1].cut().is_cancelled(), "it waited the longest");
        assert!(!places[2].cut().is_cancelled());
        places[2].activity().work();
        fourth.activity().work();
        assert!(connections.enter().is_none(), "everybody works");
        drop(places[2].activity().until_dropped());
        assert!(connections.enter().is_some(), "one waits again");
    }

    #[test]
    fn places_come_back() {
        let connections = Connections::new(1);
        for _ in 0..10 {
            let place = connections.enter().unwrap();
            place.activity().work();
            assert!(connections.enter().is_none());
        }
        assert_eq!(connections.count(), 0);
    }
}
