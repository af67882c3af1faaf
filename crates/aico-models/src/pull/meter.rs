//! How far a download is, told by its workers and read by whoever asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aico_contracts::v1::Fault;

/// Over which the rate is told.
const WINDOW: Duration = Duration::from_secs(10);
/// How often it is noted.
const EVERY: Duration = Duration::from_millis(250);

/// What a download does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// Another one goes first.
    Queued,
    /// Reads what is on the disk already.
    Checking,
    /// Fetches.
    Running,
    /// Tries again at this moment, because of this.
    Waiting(Instant, Fault),
    /// Everything is here; its hash is computed.
    Verifying,
    /// The model is there.
    Done,
    /// It ended without.
    Failed(Fault),
}

/// Shared between a download and the puller.
pub(super) struct Meter {
    total: u64,
    /// Bytes that are on the disk or in a worker's hands.
    done: AtomicU64,
    /// Bytes that came over the network.
    fetched: AtomicU64,
    /// Bytes read while checking or verifying.
    checked: AtomicU64,
    /// Bytes of files of the same model that were finished before.
    before: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    phase: Phase,
    source: String,
    kept: u64,
    samples: VecDeque<(Instant, u64)>,
}

/// How far it is, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    pub(super) phase: Phase,
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) kept: u64,
    pub(super) rate: u64,
    pub(super) source: String,
}

impl Meter {
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            done: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            before: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                phase: Phase::Queued,
                source: String::new(),
                kept: 0,
                samples: VecDeque::new(),
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, phase: Phase) {
        let mut inner = self.inner();
        self.checked.store(0, Ordering::Relaxed);
        inner.samples.clear();
        inner.phase = phase;
    }

    /// The next file of the same model: so many bytes of others are there.
    pub(super) fn next_file(&self, before: u64) {
        self.before.store(before, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    /// Fetching from this server.
    pub(super) fn from(&self, source: &str) {
        source.clone_into(&mut self.inner().source);
    }

    /// Bytes of good parts on the disk when fetching begins.
    pub(super) fn have(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that were there before this run.
    pub(super) fn kept(&self, bytes: u64) {
        self.inner().kept = bytes;
        self.have(bytes);
    }

    pub(super) fn check(&self, bytes: u64) {
        self.checked.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that came; `counted` of them bring the file further.
    pub(super) fn came(&self, bytes: u64, counted: u64) {
        self.done.fetch_add(counted, Ordering::Relaxed);
        let fetched = self.fetched.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let now = Instant::now();
        let mut inner = self.inner();
        let due = inner
            .samples
            .back()
            .is_none_or(|(last, _)| now.duration_since(*last) >= EVERY);
        if due {
            inner.samples.push_back((now, fetched));
            while inner
                .samples
                .front()
                .is_some_and(|(first, _)| now.duration_since(*first) > WINDOW)
            {
                inner.samples.pop_front();
            }
        }
    }

    /// Bytes in a worker's hands that were lost.
    pub(super) fn lost(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self) -> Reading {
        let inner = self.inner();
        let now = Instant::now();
        let rate = match inner.samples.front() {
            Some((first, bytes)) if inner.phase == Phase::Running => {
                let seconds = now.duration_since(*first).as_secs_f64();
                let came = self.fetched().saturating_sub(*bytes);
                if seconds < 0.2 {
                    0
                } else {
                    (came as f64 / seconds) as u64
                }
            }
            _ => 0,
        };
        let done = match inner.phase {
            Phase::Checking | Phase::Verifying => self.checked.load(Ordering::Relaxed),
            Phase::Done => self.total,
            _ => self.done.load(Ordering::Relaxed),
        };
        Reading {
            phase: inner.phase.clone(),
            done: done
                .saturating_add(self.before.load(Ordering::Relaxed))
                .min(self.total),
            total: self.total,
            kept: inner.kept,
            rate,
            source: inner.source.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_what_brings_the_file_further() {
        let meter = Meter::new(100);
        meter.kept(40);
        meter.enter(Phase::Running);
        meter.came(30, 20);
        meter.lost(10);
        let read = meter.read();
        assert_eq!((read.done, read.total, read.kept), (50, 100, 40));
        assert_eq!(meter.fetched(), 30);
        meter.enter(Phase::Verifying);
        meter.check(70);
        assert_eq!(meter.read().done, 70);
        meter.enter(Phase::Done);
        assert_eq!(meter.read().done, 100);
    }
}
