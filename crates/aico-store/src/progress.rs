//! How far an opening is that takes long: migrations of a big database.
//!
//! Its work is the copy beside the database and then its steps. The copy is counted in bytes. A
//! step is one transaction of which nobody knows the length; it is taken to write about as much as
//! the database has, and to be nearly done when it has written that.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How far a migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationProgress {
    /// Hundredths that are done, as far as that can be told; it never falls.
    pub percent: u8,
    /// How long the rest takes if it goes on like this, once that can be told.
    pub left: Option<Duration>,
}

/// Hears how far a migration is, at most some times a second; `None` when it is over, however.
#[derive(Clone)]
pub struct MigrationWatch(Arc<dyn Fn(Option<MigrationProgress>) + Send + Sync>);

impl MigrationWatch {
    /// A watch from a closure.
    pub fn new(hear: impl Fn(Option<MigrationProgress>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }
}

impl fmt::Debug for MigrationWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MigrationWatch")
    }
}

/// Time between two words.
const PAUSE: Duration = Duration::from_millis(250);
/// Nothing is said of how long it takes before this.
const SOON: Duration = Duration::from_secs(1);
/// What a step has done when it has written as much as it was expected to.
const NEARLY: u64 = 95;

/// The work of one migration.
#[derive(Clone)]
pub(crate) struct Meter(Arc<Inner>);

struct Inner {
    watch: Option<MigrationWatch>,
    /// Bytes of the database: of the copy, and what each step counts for.
    size: u64,
    parts: u64,
    state: Mutex<State>,
}

struct State {
    begun: Instant,
    said: Option<Instant>,
    /// Parts that are done.
    done: u64,
    percent: u8,
}

impl Meter {
    /// Of a database of so many bytes and its pending steps.
    pub(crate) fn new(watch: Option<MigrationWatch>, size: u64, steps: usize) -> Self {
        Self(Arc::new(Inner {
            watch,
            size: size.max(1),
            parts: steps as u64 + 1,
            state: Mutex::new(State {
                begun: Instant::now(),
                said: None,
                done: 0,
                percent: 0,
            }),
        }))
    }

    /// The copy or a step is so far, in bytes.
    pub(crate) fn at(&self, bytes: u64) {
        self.say(bytes.min(self.0.size) * NEARLY / 100, false);
    }

    /// The copy or a step is done.
    pub(crate) fn part_done(&self) {
        self.0.state.lock().done += 1;
        self.say(0, true);
    }

    fn say(&self, bytes: u64, at_once: bool) {
        let Some(watch) = &self.0.watch else { return };
        let mut state = self.0.state.lock();
        let now = Instant::now();
        if !at_once && state.said.is_some_and(|said| now - said < PAUSE) {
            return;
        }
        state.said = Some(now);
        let all = u128::from(self.0.size) * u128::from(self.0.parts);
        let done = u128::from(self.0.size) * u128::from(state.done) + u128::from(bytes);
        let percent = u8::try_from(done * 100 / all).unwrap_or(100).min(100);
        state.percent = state.percent.max(percent);
        let taken = now - state.begun;
        let left = (taken >= SOON && done > 0).then(|| {
            let rest = taken.as_secs_f64() * (all - done.min(all)) as f64 / done as f64;
            Duration::try_from_secs_f64(rest).unwrap_or(Duration::MAX)
        });
        let progress = MigrationProgress {
            percent: state.percent,
            left,
        };
        drop(state);
        (watch.0)(Some(progress));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            (watch.0)(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_to_the_end_and_says_when_it_is_over() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        let watch = MigrationWatch::new(move |progress| into.lock().push(progress));
        let meter = Meter::new(Some(watch), 1000, 3);
        meter.at(500);
        meter.at(600);
        for _ in 0..4 {
            meter.part_done();
        }
        drop(meter);
        let heard: Vec<_> = heard.lock().iter().map(|p| p.map(|p| p.percent)).collect();
        // The second word would have come too soon.
        assert_eq!(
            heard,
            [Some(11), Some(25), Some(50), Some(75), Some(100), None]
        );
    }
}
