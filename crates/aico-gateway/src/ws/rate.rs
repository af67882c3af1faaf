//! What a client may send in a time: frames, and bytes below the frames.

use std::time::{Duration, Instant};

/// A message may be under way for so long.
const WHOLE: Duration = Duration::from_secs(10);

/// A bucket of frames that refills.
pub(crate) struct Frames {
    most: f64,
    each_second: f64,
    left: f64,
    at: Instant,
}

impl Frames {
    pub(crate) fn new(burst: u32, each_second: u32, now: Instant) -> Self {
        Self {
            most: burst.into(),
            each_second: each_second.into(),
            left: burst.into(),
            at: now,
        }
    }

    /// One more; false when it is one too many.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.each_second).min(self.most);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

/// Looks at the bytes of a connection now and then: a message that never becomes whole shows
/// nowhere else.
pub(crate) struct Bytes {
    each_second: u64,
    seen: u64,
    at: Instant,
    /// Bytes when the last whole frame came, and since when there are more.
    whole: u64,
    partial_since: Option<Instant>,
}

impl Bytes {
    pub(crate) fn new(each_second: u64, received: u64, now: Instant) -> Self {
        Self {
            each_second,
            seen: received,
            at: now,
            whole: received,
            partial_since: None,
        }
    }

    /// A whole frame came.
    pub(crate) fn whole(&mut self, received: u64) {
        self.whole = received;
        self.partial_since = None;
    }

    /// False when there are too many bytes, or a message takes too long to become whole.
    pub(crate) fn look(&mut self, received: u64, now: Instant) -> bool {
        let passed = now.duration_since(self.at).as_secs_f64().max(0.001);
        let fast = (received - self.seen) as f64 / passed > self.each_second as f64;
        (self.seen, self.at) = (received, now);
        if received > self.whole {
            let since = *self.partial_since.get_or_insert(now);
            return !fast && now.duration_since(since) < WHOLE;
        }
        !fast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let start = Instant::now();
        let mut frames = Frames::new(10, 5, start);
        assert!((0..10).all(|_| frames.take(start)));
        assert!(!frames.take(start));
        let later = start + Duration::from_secs(1);
        assert!((0..5).all(|_| frames.take(later)));
        assert!(!frames.take(later));
    }

    #[test]
    fn a_message_without_end_is_noticed() {
        let start = Instant::now();
        let mut bytes = Bytes::new(1_000_000, 0, start);
        let second = Duration::from_secs(1);
        assert!((1..=10).all(|n| bytes.look(u64::from(n) * 6, start + second * n)));
        assert!(!bytes.look(100, start + second * 11));
        bytes.whole(100);
        assert!(bytes.look(100, start + second * 12));
    }

    #[test]
    fn too_many_bytes_are_noticed() {
        let start = Instant::now();
        let mut bytes = Bytes::new(1000, 0, start);
        assert!(bytes.look(1000, start + Duration::from_secs(1)));
        assert!(!bytes.look(3000, start + Duration::from_secs(2)));
    }
}
