//! Growing delays on guessing passwords, for each source.
//!
//! The delay for each account is kept by `aico-access`; this one stops a single machine that
//! tries many accounts. Nothing is counted for the local socket: whoever sits there could read
//! the data folder anyway, and must never be kept out.
//!
//! Tries that are under way may all fail, and are counted as if they did.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::problem::{Code, Problem};

/// Sources that are remembered.
const MOST: usize = 1024;
/// A source that was quiet for so long starts anew.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
/// What is said to one too many at once.
const A_MOMENT: Duration = Duration::from_secs(1);

/// Failed tries of each source.
pub(crate) struct Tries {
    free: u32,
    longest: Duration,
    sources: Mutex<HashMap<IpAddr, Tried>>,
}

#[derive(Clone, Copy)]
struct Tried {
    failures: u32,
    /// Tries under way.
    running: u32,
    last: Instant,
}

/// A try that is under way, until this is dropped.
pub(crate) struct Try<'a> {
    tries: &'a Tries,
    source: Option<IpAddr>,
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let Some(source) = self.source else { return };
        let mut sources = self.tries.sources.lock();
        if let Some(tried) = sources.get_mut(&source) {
            tried.running = tried.running.saturating_sub(1);
            if tried.running == 0 && tried.failures == 0 {
                sources.remove(&source);
            }
        }
    }
}

impl Tries {
    pub(crate) fn new(free: u32, longest: Duration) -> Self {
        Self {
            free,
            longest,
            sources: Mutex::new(HashMap::new()),
        }
    }

    /// Lets a source try, when it may try now.
    pub(crate) fn begin(&self, source: Option<IpAddr>, now: Instant) -> Result<Try<'_>, Problem> {
        let tries = self;
        let Some(address) = source else {
            return Ok(Try { tries, source });
        };
        let mut sources = self.sources.lock();
        let tried = entry_of(&mut sources, address, now);
        let until = tried.last + self.wait(tried.failures);
        if until > now {
            return Err(Problem::from(Code::SlowDown).retry_after(until - now));
        }
        let may_fail = tried.failures.saturating_add(tried.running);
        if tried.running > 0 && may_fail > self.free {
            return Err(Problem::from(Code::SlowDown).retry_after(A_MOMENT));
        }
        tried.running += 1;
        Ok(Try { tries, source })
    }

    fn wait(&self, failures: u32) -> Duration {
        match failures.checked_sub(self.free) {
            None | Some(0) => Duration::ZERO,
            Some(over) => self
                .longest
                .min(Duration::from_secs(1 << (over - 1).min(20))),
        }
    }

    /// Counts what came of a try.
    pub(crate) fn note(&self, source: Option<IpAddr>, outcome: Option<Code>, now: Instant) {
        let Some(source) = source else { return };
        let guessed = matches!(
            outcome,
            Some(
                Code::WrongPassword | Code::WrongPhrase | Code::SignInFailed | Code::SetupCodeWrong
            )
        );
        let mut sources = self.sources.lock();
        if outcome.is_none() {
            if let Some(tried) = sources.get_mut(&source) {
                tried.failures = 0;
                if tried.running == 0 {
                    sources.remove(&source);
                }
            }
        } else if guessed {
            let tried = entry_of(&mut sources, source, now);
            if now.duration_since(tried.last) >= FORGOTTEN {
                tried.failures = 0;
            }
            tried.failures = tried.failures.saturating_add(1);
            tried.last = now;
        }
    }
}

fn entry_of(sources: &mut HashMap<IpAddr, Tried>, source: IpAddr, now: Instant) -> &mut Tried {
    if sources.len() >= MOST && !sources.contains_key(&source) {
        let kept = |tried: &Tried| tried.running > 0 || now.duration_since(tried.last) < FORGOTTEN;
        sources.retain(|_, tried| kept(tried));
        let oldest = sources
            .iter()
            .filter(|(_, tried)| tried.running == 0)
            .min_by_key(|(_, tried)| tried.last)
            .map(|(ip, _)| *ip);
        if let Some(oldest) = oldest.filter(|_| sources.len() >= MOST) {
            sources.remove(&oldest);
        }
    }
    sources.entry(source).or_insert(Tried {
        failures: 0,
        running: 0,
        last: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn waits_grow_with_guesses_and_end_with_success() {
        let tries = Tries::new(3, Duration::from_secs(60));
        let now = Instant::now();
        for _ in 0..3 {
            tries.note(source(1), Some(Code::WrongPassword), now);
            assert!(tries.begin(source(1), now).is_ok());
        }
        let mut waits = Vec::new();
        for _ in 0..8 {
            tries.note(source(1), Some(Code::SignInFailed), now);
            let problem = tries.begin(source(1), now).err().unwrap();
            waits.push(problem.document().retry_after_seconds.unwrap());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(
            tries
                .begin(source(1), now + Duration::from_secs(60))
                .is_ok()
        );
        assert!(tries.begin(source(2), now).is_ok(), "another source");
        tries.note(source(1), None, now);
        assert!(tries.begin(source(1), now).is_ok());
    }

    #[test]
    fn tries_at_once_get_no_more_guesses_than_one_after_the_other() {
        let tries = Tries::new(3, Duration::from_secs(60));
        let now = Instant::now();
        tries.note(source(1), Some(Code::WrongPassword), now);
        let mut running = Vec::new();
        for _ in 0..3 {
            running.push(tries.begin(source(1), now).ok().unwrap());
        }
        let problem = tries.begin(source(1), now).err().unwrap();
        assert_eq!(problem.document().retry_after_seconds, Some(1));
        assert!(tries.begin(source(2), now).is_ok(), "another source");
        assert!(tries.begin(None, now).is_ok(), "the local socket");
        // One is given up: another may begin.
        running.pop();
        running.push(tries.begin(source(1), now).ok().unwrap());
        tries.note(source(1), None, now);
        drop(running);
        assert!(tries.sources.lock().is_empty());
    }

    #[test]
    fn the_local_socket_is_never_kept_out() {
        let tries = Tries::new(0, Duration::from_secs(60));
        let now = Instant::now();
        for _ in 0..100 {
            tries.note(None, Some(Code::WrongPassword), now);
        }
        assert!(tries.begin(None, now).is_ok());
    }

    #[test]
    fn only_guesses_count_and_memory_is_bounded() {
        let tries = Tries::new(0, Duration::from_secs(60));
        let now = Instant::now();
        tries.note(source(1), Some(Code::PasswordTooWeak), now);
        assert!(tries.begin(source(1), now).is_ok());
        for i in 0..5000u32 {
            let address = Some(IpAddr::from(i.to_be_bytes()));
            tries.note(address, Some(Code::WrongPassword), now);
        }
        assert!(tries.sources.lock().len() <= MOST);
    }
}
