//! Who is loaded, so that one who is idle makes room for one who is asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_contracts::v1::Fault;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::supervisor::memory::{self, gib};

/// Packages that are loaded at once, as long as others are idle.
const MOST_LOADED: usize = 4;
/// What ending a process may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Refuses a package that needs more than there is, with the figures.
fn check(need: u64, available: Option<u64>) -> Result<(), Fault> {
    match available {
        Some(available) if need > available => Err(Fault::new(
            "model-too-large",
            "The model does not fit into memory",
        )
        .with_detail(format!(
            "It needs about {}, {} are free.",
            gib(need),
            gib(available)
        ))
        .with_what_to_do("Close other programs, or choose a smaller model.")),
        _ => Ok(()),
    }
}

/// One for all workers.
#[derive(Default)]
pub(super) struct Room {
    places: Mutex<HashMap<String, Place>>,
    left: Notify,
}

struct Place {
    used: Instant,
    busy: bool,
    leave: Arc<Notify>,
}

impl Room {
    /// Waits for room for a package of this need; others that are idle leave for it, the one that
    /// was not asked for longest first.
    ///
    /// # Errors
    /// When there is not enough memory; the fault has the figures.
    pub(super) async fn enter(
        &self,
        name: &str,
        need: u64,
        leave: &Arc<Notify>,
    ) -> Result<(), Fault> {
        loop {
            let available = tokio::task::spawn_blocking(memory::available).await;
            let fits = check(need, available.unwrap_or_default());
            let crowded = self.places.lock().len() >= MOST_LOADED;
            if fits.is_ok() && !crowded {
                break;
            }
            let left = self.left.notified();
            if !self.send_away() {
                fits?;
                break;
            }
            if tokio::time::timeout(PATIENCE, left).await.is_err() {
                fits?;
                break;
            }
        }
        let place = Place {
            used: Instant::now(),
            busy: true,
            leave: Arc::clone(leave),
        };
        self.places.lock().insert(name.to_owned(), place);
        Ok(())
    }

    fn send_away(&self) -> bool {
        let places = self.places.lock();
        let idle = places.values().filter(|place| !place.busy);
        let Some(longest) = idle.min_by_key(|place| place.used) else {
            return false;
        };
        longest.leave.notify_one();
        true
    }

    /// Notes that a package works, or no longer does.
    pub(super) fn busy(&self, name: &str, busy: bool) {
        if let Some(place) = self.places.lock().get_mut(name) {
            place.busy = busy;
            place.used = Instant::now();
        }
    }

    /// Its process has ended.
    pub(super) fn leave(&self, name: &str) {
        self.places.lock().remove(name);
        self.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_idle_longest_leaves_and_who_works_stays() {
        let room = Arc::new(Room::default());
        let mut doors = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let door = Arc::new(Notify::new());
            room.enter(name, 0, &door).await.unwrap();
            doors.push(door);
        }
        room.busy("b", false);
        room.busy("c", false);
        let waiting = {
            let (room, door) = (Arc::clone(&room), Arc::new(Notify::new()));
            tokio::spawn(async move { room.enter("e", 0, &door).await })
        };
        doors[1].notified().await;
        room.leave("b");
        waiting.await.unwrap().unwrap();
        assert_eq!(room.places.lock().len(), 4);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_with_the_figures() {
        let room = Room::default();
        let fault = room.enter("a", u64::MAX, &Arc::default()).await;
        if memory::available().is_some() {
            assert_eq!(fault.unwrap_err().code, "model-too-large");
            assert!(room.places.lock().is_empty());
        }
    }
}
