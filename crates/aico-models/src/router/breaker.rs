//! Leaves a program alone that fails, for a while that doubles, and then lets one question try it.

use std::time::Duration;

use tokio::time::Instant;

use crate::backend::BackendError;

/// Failures one after another, after which it rests.
const FAILURES: u32 = 3;
/// First rest.
const FIRST: Duration = Duration::from_secs(5);
/// Longest.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// How a program is taken to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// It is asked.
    Closed {
        /// Failures since it last answered.
        failures: u32,
    },
    /// It is left alone.
    Open {
        /// Until then.
        until: Instant,
    },
    /// One question tries it; others are told to wait.
    HalfOpen,
}

/// The state of one program, and how often it was left alone in a row.
#[derive(Debug)]
pub struct Breaker {
    circuit: Circuit,
    rests: u32,
    /// What the last failure was.
    last: Option<BackendError>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            circuit: Circuit::Closed { failures: 0 },
            rests: 0,
            last: None,
        }
    }
}

impl Breaker {
    /// How it is now.
    #[must_use]
    pub fn circuit(&self) -> Circuit {
        self.circuit
    }

    /// Why it failed last, while it is not well.
    #[must_use]
    pub fn last(&self) -> Option<&BackendError> {
        self.last.as_ref()
    }

    /// Whether a question may be asked; nothing changes by looking.
    #[must_use]
    pub fn lets_through(&self, now: Instant) -> bool {
        match self.circuit {
            Circuit::Closed { .. } => true,
            Circuit::Open { until } => until <= now,
            Circuit::HalfOpen => false,
        }
    }

    /// Admits a question. True: it is the one that tries.
    ///
    /// # Errors
    /// [`BackendError::Resting`] while it is left alone.
    pub fn admit(&mut self, now: Instant) -> Result<bool, BackendError> {
        match self.circuit {
            Circuit::Closed { .. } => Ok(false),
            Circuit::Open { until } if until <= now => {
                self.circuit = Circuit::HalfOpen;
                Ok(true)
            }
            Circuit::Open { until } => Err(BackendError::Resting { left: until - now }),
            Circuit::HalfOpen => Err(BackendError::Resting {
                left: Duration::from_secs(1),
            }),
        }
    }

    /// It answered, or may be another one by now.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It could be reached, and tells what it offers. Whether it answers, a question shows.
    pub fn reached(&mut self) {
        let opened = matches!(self.circuit, Circuit::Open { .. });
        if opened && self.last.as_ref().is_some_and(stays) {
            self.succeeded();
        }
    }

    /// It did not answer, for a reason that is this model's alone: it is there, for the others.
    pub fn spared(&mut self) {
        if self.circuit == Circuit::HalfOpen {
            self.succeeded();
        }
    }

    /// It failed. What one question alone can be blamed for does not count, and shows that it
    /// is there.
    pub fn failed(&mut self, error: &BackendError, now: Instant) {
        if !error.is_of_the_program() {
            self.spared();
            return;
        }
        self.last = Some(error.clone());
        let failures = match self.circuit {
            Circuit::Closed { failures } => failures + 1,
            // Of a question that was asked before.
            Circuit::Open { .. } => return,
            Circuit::HalfOpen => FAILURES,
        };
        if failures < FAILURES && !stays(error) {
            self.circuit = Circuit::Closed { failures };
            return;
        }
        let rest = FIRST.saturating_mul(1 << self.rests.min(16)).min(LONGEST);
        self.rests = self.rests.saturating_add(1);
        self.circuit = Circuit::Open { until: now + rest };
    }

    /// The question that tried was given up before it said anything: the next one tries.
    pub fn gave_up(&mut self, now: Instant) {
        if self.circuit == Circuit::HalfOpen {
            self.circuit = Circuit::Open { until: now };
        }
    }
}

/// What is the same a moment later.
fn stays(error: &BackendError) -> bool {
    matches!(
        error,
        BackendError::Absent { .. }
            | BackendError::NotInstalled { .. }
            | BackendError::Unreachable { .. }
            | BackendError::Certificate { .. }
            | BackendError::OtherProgram { .. }
            | BackendError::TooOld { .. }
            | BackendError::Key
            | BackendError::KeyMissing { .. }
            | BackendError::Unencrypted { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: BackendError = BackendError::Failed { status: 500 };

    #[test]
    fn it_rests_after_three_failures_tries_once_and_rests_twice_as_long() {
        let begun = Instant::now();
        let mut breaker = Breaker::default();
        for failures in 1..3 {
            breaker.failed(&FAILED, begun);
            assert_eq!(breaker.circuit(), Circuit::Closed { failures });
            assert_eq!(breaker.admit(begun), Ok(false));
        }
        breaker.failed(&FAILED, begun);
        let until = begun + FIRST;
        assert_eq!(breaker.circuit(), Circuit::Open { until });
        assert_eq!(
            breaker.admit(begun),
            Err(BackendError::Resting { left: FIRST })
        );
        assert!(!breaker.lets_through(begun) && breaker.lets_through(until));
        assert_eq!(breaker.admit(until), Ok(true), "one tries");
        assert!(breaker.admit(until).is_err(), "and only one");
        breaker.failed(&FAILED, until);
        let again = until + 2 * FIRST;
        assert_eq!(breaker.circuit(), Circuit::Open { until: again });
        assert_eq!(breaker.admit(again), Ok(true));
        breaker.succeeded();
        assert_eq!(breaker.circuit(), Circuit::Closed { failures: 0 });
        // All is forgotten: it rests as at first.
        for _ in 0..3 {
            breaker.failed(&FAILED, again);
        }
        assert_eq!(
            breaker.circuit(),
            Circuit::Open {
                until: again + FIRST
            }
        );
    }

    #[test]
    fn a_list_ends_the_rest_of_what_was_away_and_of_nothing_else() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            breaker.failed(&FAILED, now);
        }
        breaker.reached();
        assert!(breaker.admit(now).is_err(), "its answers fail all the same");
        assert_eq!(breaker.admit(now + FIRST), Ok(true));
        // The one that tries is about a model that is too large.
        breaker.spared();
        assert_eq!(breaker.admit(now + FIRST), Ok(false));
        let address = "127.0.0.1:1".into();
        breaker.failed(&BackendError::Absent { address }, now);
        assert!(breaker.admit(now).is_err());
        breaker.reached();
        assert_eq!(breaker.admit(now), Ok(false));
    }

    #[test]
    fn what_stays_opens_at_once_and_one_questions_fault_never() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..9 {
            breaker.failed(&BackendError::TooLong, now);
            breaker.failed(&BackendError::ModelMissing, now);
        }
        assert_eq!(breaker.circuit(), Circuit::Closed { failures: 0 });
        let absent = BackendError::Absent {
            address: "127.0.0.1:1".into(),
        };
        breaker.failed(&absent, now);
        assert!(matches!(breaker.circuit(), Circuit::Open { .. }));
        assert_eq!(breaker.last(), Some(&absent));
        // The one that tried was given up: the next one tries.
        let later = now + LONGEST;
        assert_eq!(breaker.admit(later), Ok(true));
        breaker.gave_up(later);
        assert_eq!(breaker.admit(later), Ok(true));
        breaker.failed(&BackendError::TooLong, later);
        assert_eq!(breaker.circuit(), Circuit::Closed { failures: 0 });
    }
}
