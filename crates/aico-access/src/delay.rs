//! Growing delays on guessing a password.
//!
//! Counted for each account. The first few mistakes cost nothing, then each one doubles the wait,
//! up to five minutes. Whoever sits at the machine (the local socket) is never kept out: they
//! could read the data folder anyway, and an attacker on the network must not be able to lock
//! the owner out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const FREE_TRIES: u32 = 5;
const LONGEST: Duration = Duration::from_secs(300);
/// Names that were tried are kept in bounded number: unknown ones count too.
const MOST_ACCOUNTS: usize = 1024;

#[derive(Default)]
pub(crate) struct Delays {
    accounts: Mutex<HashMap<String, Account>>,
}

#[derive(Clone, Copy)]
struct Account {
    failures: u32,
    last: Instant,
}

impl Account {
    fn wait(self) -> Duration {
        match self.failures.checked_sub(FREE_TRIES) {
            None => Duration::ZERO,
            Some(over) => LONGEST.min(Duration::from_secs(1 << over.min(20))),
        }
    }
}

impl Delays {
    /// How long this account still has to wait, if at all.
    pub(crate) fn remaining(&self, account: &str, now: Instant) -> Option<Duration> {
        let accounts = self.accounts.lock();
        let account = accounts.get(account)?;
        let until = account.last + account.wait();
        (until > now).then(|| until - now)
    }

    pub(crate) fn failed(&self, account: &str, now: Instant) {
        let mut accounts = self.accounts.lock();
        if accounts.len() >= MOST_ACCOUNTS && !accounts.contains_key(account) {
            // The one that was quiet for longest makes room.
            let oldest = accounts
                .iter()
                .min_by_key(|(_, a)| a.last)
                .map(|(k, _)| k.clone());
            if let Some(oldest) = oldest {
                accounts.remove(&oldest);
            }
        }
        let entry = accounts.entry(account.to_owned()).or_insert(Account {
            failures: 0,
            last: now,
        });
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
    }

    pub(crate) fn succeeded(&self, account: &str) {
        self.accounts.lock().remove(account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_after_the_free_tries_and_end_with_success() {
        let delays = Delays::default();
        let now = Instant::now();
        for _ in 0..FREE_TRIES - 1 {
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
    fn memory_is_bounded_whatever_names_are_tried() {
        let delays = Delays::default();
        for i in 0..MOST_ACCOUNTS + 50 {
            delays.failed(&i.to_string(), Instant::now());
        }
        assert_eq!(delays.accounts.lock().len(), MOST_ACCOUNTS);
    }
}
