//! How many tokens of prompts a step may take, so that no step lasts long: nothing can
//! interrupt one, and everybody else's next token waits for it. And how many bytes of a state may be
//! copied between two steps, for which they wait as well.

use std::time::Duration;

use super::STEP_TIME;

/// Fewest tokens of prompts in a step.
const LEAST: usize = 8;
/// Where a new loop begins, before anything was measured.
const FIRST: usize = 32;
/// What a copy may take while others wait for it. It is told once and saves many steps.
const COPY_TIME: Duration = Duration::from_millis(100);
/// Bytes that are copied in any case, and all that are while others wait and nothing was measured.
const COPY_LEAST: usize = 32 << 20;

/// Follows the measured speed.
pub(super) struct Pace {
    /// Seconds for each token, smoothed.
    cost: Option<f64>,
    limit: usize,
}

impl Pace {
    pub(super) fn new(limit: usize) -> Self {
        Self { cost: None, limit }
    }

    /// Tokens of prompts for the next step.
    pub(super) fn chunk(&self) -> usize {
        let wanted = match self.cost {
            // The cast saturates; the clamp follows.
            Some(cost) => (STEP_TIME.as_secs_f64() / cost) as usize,
            None => FIRST,
        };
        wanted.clamp(LEAST.min(self.limit), self.limit)
    }

    /// What reading a prompt of so many tokens takes, once anything was measured.
    pub(super) fn foretold(&self, tokens: usize) -> Option<Duration> {
        Duration::try_from_secs_f64(self.cost? * tokens as f64).ok()
    }

    /// Takes note of a step with `tokens` of prompts.
    pub(super) fn measured(&mut self, tokens: usize, took: Duration) {
        if tokens < LEAST {
            return;
        }
        let took = took.max(Duration::from_nanos(tokens as u64));
        self.cost = Some(smoothed(self.cost, took, tokens));
    }
}

/// Follows the measured speed of copies.
#[derive(Default)]
pub(super) struct Copies {
    /// Seconds for each byte, smoothed.
    cost: Option<f64>,
}

impl Copies {
    /// Whether so many bytes may be copied now.
    pub(super) fn may(&self, bytes: usize, others: bool) -> bool {
        // Without others nobody waits but who has it from it.
        if !others || bytes <= COPY_LEAST {
            return true;
        }
        self.cost
            .is_some_and(|cost| cost * bytes as f64 <= COPY_TIME.as_secs_f64())
    }

    /// Takes note of a copy of so many bytes.
    pub(super) fn measured(&mut self, bytes: usize, took: Duration) {
        // Of a small one the time says little about the bytes.
        if bytes >= 1 << 20 {
            self.cost = Some(smoothed(self.cost, took, bytes));
        }
    }
}

/// One that took longer than foretold counts at once, a faster one bit by bit.
fn smoothed(before: Option<f64>, took: Duration, count: usize) -> f64 {
    let cost = took.as_secs_f64() / count as f64;
    match before {
        Some(before) if cost < before => before + (cost - before) * 0.5,
        _ => cost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_others_wait_as_much_is_copied_as_takes_a_tenth_of_a_second() {
        let mut copies = Copies::default();
        let may = |copies: &Copies, mebibytes: usize| copies.may(mebibytes << 20, true);
        assert!(copies.may(256 << 20, false));
        assert!(may(&copies, 32) && !may(&copies, 33), "nothing is known");
        copies.measured(1000, Duration::from_secs(9));
        copies.measured(200 << 20, Duration::from_millis(100));
        assert!(may(&copies, 199) && !may(&copies, 201));
        copies.measured(200 << 20, Duration::from_secs(2));
        assert!(may(&copies, 32) && !may(&copies, 33));
        // It is not slow for ever.
        for _ in 0..9 {
            copies.measured(32 << 20, Duration::from_millis(16));
        }
        assert!(may(&copies, 150));
    }

    #[test]
    fn steps_shrink_at_once_and_grow_bit_by_bit() {
        let mut pace = Pace::new(512);
        assert_eq!(pace.chunk(), FIRST);
        pace.measured(32, Duration::from_millis(320));
        assert_eq!(pace.chunk(), LEAST, "10 ms a token: 5 would fit");
        for _ in 0..20 {
            pace.measured(
                pace.chunk(),
                Duration::from_micros(200) * pace.chunk() as u32,
            );
        }
        assert_eq!(pace.chunk(), 250 - 1 + usize::from(pace.chunk() == 250));
        for _ in 0..40 {
            pace.measured(100, Duration::ZERO);
        }
        assert_eq!(pace.chunk(), 512);
    }

    #[test]
    fn single_tokens_say_nothing_about_prompts() {
        let mut pace = Pace::new(512);
        pace.measured(1, Duration::from_secs(1));
        assert_eq!(pace.chunk(), FIRST);
    }
}
