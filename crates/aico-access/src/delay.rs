//! Growing delays on guessing a password.
//!
//! Counted for each account. The first few mistakes cost nothing, then each one doubles the wait,
//! up to five minutes. Whoever sits at the machine (the local socket) is never kept out: they
//! could read the data folder anyway, and an attacker on the network must not be able to lock
//! the owner out.
//!
//! Tries that are under way may all fail, and are counted as if they did: many at once get no more
//! guesses than one after the other, and there is no queue of them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const FREE_TRIES: u32 = 5;
const LONGEST: Duration = Duration::from_secs(300);
/// What is said to one too many at once.
const A_MOMENT: Duration = Duration::from_secs(1);
/// Names that were tried are kept in bounded number: unknown ones count too.
const MOST_ACCOUNTS: usize = 1024;

#[derive(Default)]
pub(crate) struct Delays {
    accounts: Mutex<HashMap<String, Account>>,
}

#[derive(Clone, Copy)]
struct Account {
    failures: u32,
    /// Tries under way.
    running: u32,
    last: Instant,
}

/// A try that is under way, until this is dropped.
pub(crate) struct Try<'a> {
    delays: &'a Delays,
    account: &'a str,
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let mut accounts = self.delays.accounts.lock();
        if let Some(account) = accounts.get_mut(self.account) {
            account.running = account.running.saturating_sub(1);
            if account.running == 0 && account.failures == 0 {
                accounts.remove(self.account);
            }
        }
    }
}

impl Account {
    fn wait(self) -> Duration {
        match self.failures.checked_sub(FREE_TRIES) {
            None => Duration::ZERO,
            Some(over) => LONGEST.min(Duration::from_secs(1 << over.min(20))),
        }
    }

    fn remaining(self, now: Instant) -> Option<Duration> {
        let until = self.last + self.wait();
        (until > now).then(|| until - now)
    }
}

impl Delays {
    /// How long this account still has to wait, if at all.
    pub(crate) fn remaining(&self, account: &str, now: Instant) -> Option<Duration> {
        self.accounts.lock().get(account)?.remaining(now)
    }

    /// Lets a try begin, or says how long the account has to wait.
    pub(crate) fn begin<'a>(&'a self, account: &'a str, now: Instant) -> Result<Try<'a>, Duration> {
        let mut accounts = self.accounts.lock();
        let entry = entry_of(&mut accounts, account, now);
        if let Some(wait) = entry.remaining(now) {
            return Err(wait);
        }
        let may_fail = entry.failures.saturating_add(entry.running);
        if entry.running > 0 && may_fail >= FREE_TRIES {
            return Err(A_MOMENT);
        }
        entry.running += 1;
        Ok(Try {
            delays: self,
            account,
        })
    }

    #[cfg(test)]
    pub(crate) fn under_way(&self, account: &str) -> u32 {
        self.accounts.lock().get(account).map_or(0, |a| a.running)
    }

    pub(crate) fn failed(&self, account: &str, now: Instant) {
        let mut accounts = self.accounts.lock();
        let entry = entry_of(&mut accounts, account, now);
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
    }

    pub(crate) fn succeeded(&self, account: &str) {
        let mut accounts = self.accounts.lock();
        if let Some(entry) = accounts.get_mut(account) {
            entry.failures = 0;
            if entry.running == 0 {
                accounts.remove(account);
            }
        }
    }
}

fn entry_of<'a>(
    accounts: &'a mut HashMap<String, Account>,
    account: &str,
    now: Instant,
) -> &'a mut Account {
    if accounts.len() >= MOST_ACCOUNTS && !accounts.contains_key(account) {
        // The one that was quiet for longest makes room.
        let oldest = accounts
            .iter()
            .filter(|(_, a)| a.running == 0)
            .min_by_key(|(_, a)| a.last)
            .map(|(k, _)| k.clone());
        if let Some(oldest) = oldest {
            accounts.remove(&oldest);
        }
    }
    accounts.entry(account.to_owned()).or_insert(Account {
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
    fn tries_at_once_get_no_more_guesses_than_one_after_the_other() {
        let delays = Delays::default();
        let now = Instant::now();
        delays.failed("a", now);
        let mut running = Vec::new();
        for _ in 1..FREE_TRIES {
            running.push(delays.begin("a", now).ok().unwrap());
        }
        assert_eq!(delays.begin("a", now).err(), Some(A_MOMENT));
        assert!(delays.begin("b", now).is_ok(), "another account");
        // One is given up: another may begin.
        running.pop();
        running.push(delays.begin("a", now).ok().unwrap());
        for _ in 1..FREE_TRIES {
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
        assert!(delays.accounts.lock().is_empty());
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
