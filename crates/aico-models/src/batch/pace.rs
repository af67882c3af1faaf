//! How many tokens of prompts a step may take, so that no step lasts long: nothing can
//! interrupt one, and everybody else's next token waits for it.

use std::time::Duration;

use super::STEP_TIME;

/// Fewest tokens of prompts in a step.
const LEAST: usize = 8;
/// Where a new loop begins, before anything was measured.
const FIRST: usize = 32;

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
        let cost = (took.as_secs_f64() / tokens as f64).max(1e-9);
        // A step that took longer than foretold counts at once, a faster one bit by bit.
        self.cost = Some(match self.cost {
            Some(before) if cost < before => before + (cost - before) * 0.5,
            _ => cost,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
