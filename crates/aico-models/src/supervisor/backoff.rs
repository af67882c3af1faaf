//! How long to wait before a crashed process is started again.

use std::time::Duration;

/// First wait.
const FIRST: Duration = Duration::from_millis(250);
/// Longest.
const LONGEST: Duration = Duration::from_secs(30);
/// After running this long a process counts as well again.
pub(super) const WELL_AFTER: Duration = Duration::from_secs(60);

/// The wait after the `crashes`-th crash in a row (from 1): doubled each time, capped, and
/// between a half and the whole of that by `chance` (0 to 1), so that nothing beats in step.
pub(super) fn wait(crashes: u32, chance: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1_u32 << crashes.saturating_sub(1).min(16));
    doubled
        .min(LONGEST)
        .mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

/// A number from 0 to 1 that nobody can foretell.
pub(super) fn chance() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_cap() {
        let waits: Vec<u128> = (1..12).map(|n| wait(n, 1.0).as_millis()).collect();
        assert_eq!(waits[..4], [250, 500, 1000, 2000]);
        assert_eq!(waits[10], 30_000);
        assert_eq!(wait(1, 0.0), Duration::from_millis(125));
        assert_eq!(wait(u32::MAX, 1.0), LONGEST);
    }
}
