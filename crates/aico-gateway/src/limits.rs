//! Growing delays on guessing passwords, for each source.
//!
//! The delay for each account is kept by `aico-access`; this one stops a single machine that
//! tries many accounts. Nothing is counted for the local socket: whoever sits there could read
//! the data folder anyway, and must never be kept out.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use aico_access::{Delays, Try};

use crate::problem::{Code, Problem};

/// A source that was quiet for so long starts anew.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);

/// Failed tries of each source.
pub(crate) struct Tries(Delays<IpAddr>);

impl Tries {
    pub(crate) fn new(free: u32, longest: Duration) -> Self {
        Self(Delays::new(free, longest, FORGOTTEN))
    }

    /// Lets a source try, when it may try now.
    pub(crate) fn begin(
        &self,
        source: Option<IpAddr>,
        now: Instant,
    ) -> Result<Option<Try<'_, IpAddr>>, Problem> {
        let begun = source.map(|source| self.0.begin(source, now)).transpose();
        begun.map_err(|wait| Problem::from(Code::SlowDown).retry_after(wait))
    }

    /// Counts what came of a try.
    pub(crate) fn note(&self, source: Option<IpAddr>, outcome: Option<Code>, now: Instant) {
        let Some(source) = source else { return };
        match outcome {
            None => self.0.succeeded(source),
            Some(
                Code::WrongPassword | Code::WrongPhrase | Code::SignInFailed | Code::SetupCodeWrong,
            ) => self.0.failed(source, now),
            Some(_) => {}
        }
    }
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
    fn the_local_socket_is_never_kept_out() {
        let tries = Tries::new(0, Duration::from_secs(60));
        let now = Instant::now();
        for _ in 0..100 {
            tries.note(None, Some(Code::WrongPassword), now);
        }
        assert!(tries.begin(None, now).is_ok());
    }

    #[test]
    fn only_guesses_count() {
        let tries = Tries::new(0, Duration::from_secs(60));
        let now = Instant::now();
        tries.note(source(1), Some(Code::PasswordTooWeak), now);
        assert!(tries.begin(source(1), now).is_ok());
        tries.note(source(1), Some(Code::WrongPassword), now);
        assert!(tries.begin(source(1), now).is_err());
    }
}
