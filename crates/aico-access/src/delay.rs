//! Growing delays on guessing passwords.
//!
//! Accounts are kept here, by `Home`; whoever serves a network keeps its sources in the same way.
//! Some tries are free, then each failure doubles the wait, up to a longest one. Whoever sits at the
//! machine (the local socket) is never kept out: they could read the data folder anyway, and an
//! attacker on the network must not be able to lock the owner out.
//!
//! Tries that are under way may all fail, and are counted as if they did: many at once get no more
//! guesses than one after the other, and there is no queue of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What is said to one too many at once.
const A_MOMENT: Duration = Duration::from_secs(1);
/// So many that tried are remembered; unknown ones count too.
const MOST: usize = 1024;

/// Failed tries of each of those that try.
pub struct Delays<K> {
    free: u32,
    longest: Duration,
    forgotten: Duration,
    all: Mutex<HashMap<K, Tried>>,
}

#[derive(Clone, Copy)]
struct Tried {
    failures: u32,
    /// Tries under way.
    running: u32,
    last: Instant,
}

/// A try that is under way, until this is dropped.
pub struct Try<'a, K: Eq + Hash> {
    delays: &'a Delays<K>,
    key: K,
}

impl<K: Eq + Hash> Drop for Try<'_, K> {
    fn drop(&mut self) {
        let mut all = self.delays.all.lock();
        if let Some(tried) = all.get_mut(&self.key) {
            tried.running = tried.running.saturating_sub(1);
            if tried.running == 0 && tried.failures == 0 {
                all.remove(&self.key);
            }
        }
    }
}

impl Delays<String> {
    /// Those of accounts: five tries, waits of up to five minutes, and nothing is forgotten.
    pub(crate) fn of_accounts() -> Self {
        Self::new(4, Duration::from_secs(300), Duration::MAX)
    }
}

impl<K: Clone + Eq + Hash> Delays<K> {
    /// After `free` failures without a wait they double from a second to `longest`; who was quiet
    /// for as long as `forgotten` starts anew.
    #[must_use]
    pub fn new(free: u32, longest: Duration, forgotten: Duration) -> Self {
        Self {
            free,
            longest,
            forgotten,
            all: Mutex::new(HashMap::new()),
        }
    }

    fn wait(&self, tried: Tried, now: Instant) -> Option<Duration> {
        let over = tried.failures.checked_sub(self.free)?.checked_sub(1)?;
        let wait = self.longest.min(Duration::from_secs(1 << over.min(20)));
        let until = tried.last + wait;
        (until > now).then(|| until - now)
    }

    /// How long this one still has to wait, if at all.
    pub fn remaining(&self, key: impl Into<K>, now: Instant) -> Option<Duration> {
        let tried = *self.all.lock().get(&key.into())?;
        self.wait(tried, now)
    }

    /// Lets a try begin.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn begin(&self, key: impl Into<K>, now: Instant) -> Result<Try<'_, K>, Duration> {
        let key = key.into();
        let mut all = self.all.lock();
        let tried = entry_of(&mut all, &key, now);
        if let Some(wait) = self.wait(*tried, now) {
            return Err(wait);
        }
        let may_fail = tried.failures.saturating_add(tried.running);
        if tried.running > 0 && may_fail > self.free {
            return Err(A_MOMENT);
        }
        tried.running += 1;
        Ok(Try { delays: self, key })
    }

    /// A try has failed.
    pub fn failed(&self, key: impl Into<K>, now: Instant) {
        let mut all = self.all.lock();
        let tried = entry_of(&mut all, &key.into(), now);
        if now.duration_since(tried.last) >= self.forgotten {
            tried.failures = 0;
        }
        tried.failures = tried.failures.saturating_add(1);
        tried.last = now;
    }

    /// A try has succeeded.
    pub fn succeeded(&self, key: impl Into<K>) {
        let key = key.into();
        let mut all = self.all.lock();
        if let Some(tried) = all.get_mut(&key) {
            tried.failures = 0;
            if tried.running == 0 {
                all.remove(&key);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn under_way(&self, key: impl Into<K>) -> u32 {
        self.all.lock().get(&key.into()).map_or(0, |it| it.running)
    }
}

fn entry_of<'a, K: Clone + Eq + Hash>(
    all: &'a mut HashMap<K, Tried>,
    key: &K,
    now: Instant,
) -> &'a mut Tried {
    if all.len() >= MOST && !all.contains_key(key) {
        // The one that was quiet for longest makes room.
        let oldest = all
            .iter()
            .filter(|(_, tried)| tried.running == 0)
            .min_by_key(|(_, tried)| tried.last)
            .map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            all.remove(&oldest);
        }
    }
    all.entry(key.clone()).or_insert(Tried {
        failures: 0,
        running: 0,
        last: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_after_the_free_tries_and_end_with_success() {
        let delays = Delays::of_accounts();
        let now = Instant::now();
        for _ in 0..4 {
            delays.failed("a", now);
            assert_eq!(delays.remaining("a", now), None);
        }
        let mut waits = Vec::new();
        for _ in 0..12 {
            delays.failed("a", now);
            waits.push(delays.remaining("a", now).unwrap().as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(delays.remaining("b", now), None);
        delays.succeeded("a");
        assert_eq!(delays.remaining("a", now), None);
    }

    #[test]
    fn tries_at_once_get_no_more_guesses_than_one_after_the_other() {
        let delays = Delays::of_accounts();
        let now = Instant::now();
        delays.failed("a", now);
        let mut running = Vec::new();
        for _ in 0..4 {
            running.push(delays.begin("a", now).ok().unwrap());
        }
        assert_eq!(delays.begin("a", now).err(), Some(A_MOMENT));
        assert!(delays.begin("b", now).is_ok(), "another account");
        // One is given up: another may begin.
        running.pop();
        running.push(delays.begin("a", now).ok().unwrap());
        for _ in 0..4 {
            delays.failed("a", now);
        }
        running.clear();
        assert_eq!(delays.begin("a", now).err(), Some(Duration::from_secs(1)));
        // However many have failed, one may try once the wait is over.
        let later = now + Duration::from_secs(1);
        let one = delays.begin("a", later).ok().unwrap();
        assert!(delays.begin("a", later).is_err());
        delays.succeeded("a");
        drop(one);
        assert!(delays.all.lock().is_empty());
    }

    #[test]
    fn memory_is_bounded_whatever_names_are_tried() {
        let delays = Delays::of_accounts();
        for i in 0..MOST + 50 {
            delays.failed(i.to_string(), Instant::now());
        }
        assert_eq!(delays.all.lock().len(), MOST);
    }

    #[test]
    fn who_was_quiet_for_long_starts_anew() {
        let delays = Delays::<u8>::new(1, Duration::from_secs(60), Duration::from_secs(900));
        let now = Instant::now();
        delays.failed(1, now);
        delays.failed(1, now);
        assert!(delays.remaining(1, now).is_some());
        let later = now + Duration::from_secs(900);
        delays.failed(1, later);
        assert_eq!(delays.remaining(1, later), None);
    }
}
