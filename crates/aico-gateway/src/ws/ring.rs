//! The last events of one person, numbered: a bounded ring that readers follow by number.

use std::collections::VecDeque;

use axum::extract::ws::Utf8Bytes;
use uuid::Uuid;

/// Bounded by number and by bytes; the newest event is always kept.
pub(crate) struct Ring {
    epoch: Uuid,
    most_events: usize,
    most_bytes: u64,
    events: VecDeque<Kept>,
    /// Number of the last event.
    last: u64,
    /// Bytes of all events that were ever pushed.
    pushed: u64,
}

struct Kept {
    frame: Utf8Bytes,
    /// `pushed` before this event.
    start: u64,
}

/// What a reader finds after the number it has seen.
pub(crate) enum Next {
    /// The next event.
    Event(u64, Utf8Bytes),
    /// It has seen all.
    Nothing,
    /// The next event is no longer kept.
    Lost,
}

impl Ring {
    pub(crate) fn new(most_events: usize, most_bytes: usize) -> Self {
        Self {
            epoch: Uuid::now_v7(),
            most_events: most_events.max(1),
            most_bytes: most_bytes as u64,
            events: VecDeque::new(),
            last: 0,
            pushed: 0,
        }
    }

    pub(crate) fn epoch(&self) -> Uuid {
        self.epoch
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Gives the event (its JSON) the next number and keeps it as the frame that is sent.
    pub(crate) fn push(&mut self, event: &str) {
        self.last += 1;
        let frame = format!(r#"{{"type":"event","seq":{},"event":{event}}}"#, self.last);
        let start = self.pushed;
        self.pushed += frame.len() as u64;
        self.events.push_back(Kept {
            frame: frame.into(),
            start,
        });
        while self.events.len() > self.most_events
            || (self.events.len() > 1 && self.bytes_since(self.oldest()) > self.most_bytes)
        {
            self.events.pop_front();
        }
    }

    /// Number of the last event before those that are kept.
    fn oldest(&self) -> u64 {
        self.last - self.events.len() as u64
    }

    /// Whether everything after `seq` of this epoch is still kept.
    pub(crate) fn knows(&self, epoch: Uuid, seq: u64) -> bool {
        epoch == self.epoch && (self.oldest()..=self.last).contains(&seq)
    }

    pub(crate) fn next(&self, seen: u64) -> Next {
        if seen >= self.last {
            return Next::Nothing;
        }
        match seen
            .checked_sub(self.oldest())
            .and_then(|index| self.events.get(index as usize))
        {
            Some(kept) => Next::Event(seen + 1, kept.frame.clone()),
            None => Next::Lost,
        }
    }

    /// Bytes of the events after `seen`; of all that are kept when that is older.
    pub(crate) fn bytes_since(&self, seen: u64) -> u64 {
        let index = seen.saturating_sub(self.oldest()) as usize;
        self.events
            .get(index)
            .map_or(0, |kept| self.pushed - kept.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(ring: &Ring, mut seen: u64) -> Vec<u64> {
        let mut found = Vec::new();
        while let Next::Event(seq, frame) = ring.next(seen) {
            assert!(frame.contains(&format!("\"seq\":{seq},")));
            assert!(frame.contains(&format!("\"n\":{seq}}}")));
            found.push(seq);
            seen = seq;
        }
        found
    }

    fn push(ring: &mut Ring, count: u64) {
        for _ in 0..count {
            let event = format!("{{\"n\":{}}}", ring.last() + 1);
            ring.push(&event);
        }
    }

    #[test]
    fn readers_follow_by_number() {
        let mut ring = Ring::new(10, 1 << 20);
        assert!(matches!(ring.next(0), Next::Nothing));
        push(&mut ring, 4);
        assert_eq!(numbers(&ring, 0), [1, 2, 3, 4]);
        assert_eq!(numbers(&ring, 3), [4]);
        assert!(matches!(ring.next(4), Next::Nothing));
    }

    #[test]
    fn what_fell_out_is_lost_and_said_so() {
        let mut ring = Ring::new(3, 1 << 20);
        push(&mut ring, 5);
        assert!(matches!(ring.next(0), Next::Lost) && matches!(ring.next(1), Next::Lost));
        assert_eq!(numbers(&ring, 2), [3, 4, 5]);
        let epoch = ring.epoch();
        assert!(!ring.knows(epoch, 1) && ring.knows(epoch, 2) && ring.knows(epoch, 5));
        assert!(
            !ring.knows(epoch, 6),
            "a number from the future is another stream's"
        );
        assert!(!ring.knows(Uuid::now_v7(), 3));
    }

    #[test]
    fn bytes_are_bounded_and_the_newest_event_always_stays() {
        let mut ring = Ring::new(1000, 400);
        push(&mut ring, 100);
        assert!(ring.bytes_since(0) <= 400);
        assert!(ring.events.len() > 1);
        ring.push(&format!("{{\"n\":101,\"x\":\"{}\"}}", "y".repeat(1000)));
        assert_eq!(ring.events.len(), 1);
        assert!(matches!(ring.next(100), Next::Event(101, _)));
    }

    #[test]
    fn waiting_bytes_are_those_after_the_number() {
        let mut ring = Ring::new(1000, 1 << 20);
        push(&mut ring, 2);
        let Next::Event(_, frame) = ring.next(1) else {
            panic!("kept")
        };
        assert_eq!(ring.bytes_since(1), frame.len() as u64);
        assert_eq!(ring.bytes_since(2), 0);
    }
}
