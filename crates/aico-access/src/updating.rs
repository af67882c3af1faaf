//! Stores that are brought up to the present schema: how far that is, for whoever waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_store::{MigrationProgress, MigrationWatch, OpenOptions};
use parking_lot::Mutex;

use crate::Home;
use crate::home::{PERSON_DB, person_folder};

/// Time between two lines in the log.
const PAUSE: Duration = Duration::from_secs(5);

/// The migration that was heard of last; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Updating(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Option<MigrationProgress>,
    logged: Option<Instant>,
}

impl Updating {
    /// For opening a store.
    pub(crate) fn options(&self) -> OpenOptions {
        let this = self.clone();
        OpenOptions {
            watch: Some(MigrationWatch::new(move |progress| this.hear(progress))),
            ..OpenOptions::default()
        }
    }

    fn hear(&self, progress: Option<MigrationProgress>) {
        let mut state = self.0.lock();
        state.now = progress;
        // Of what is done at once nobody needs to hear.
        let Some((percent, left)) = progress.and_then(|now| Some((now.percent, now.left?))) else {
            return;
        };
        let now = Instant::now();
        if state.logged.is_none_or(|logged| now - logged >= PAUSE) {
            state.logged = Some(now);
            tracing::info!(percent, seconds_left = left.as_secs(), "updating a store");
        }
    }
}

/// Bytes of a database from which on an update takes long enough to be waited for.
const BIG: u64 = 64 << 20;

impl Home {
    /// Opens the owner's store where that may take long, so that whoever unlocks waits for it and
    /// is told how far it is, and not the first request. What is wrong with it that request tells.
    pub(crate) async fn open_what_is_big(&self) {
        let Ok(open) = self.opened() else { return };
        let path = person_folder(self.root(), open.owner).join(PERSON_DB);
        let is_big = std::fs::metadata(path).is_ok_and(|about| about.len() > BIG);
        if is_big && let Err(error) = self.store_of(open.owner).await {
            tracing::warn!(%error, "the owner's store does not open");
        }
    }

    /// How far the migration of a store is, while one runs.
    #[must_use]
    pub fn updating(&self) -> Option<MigrationProgress> {
        self.inner.updating.0.lock().now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_while_it_runs_and_no_longer() {
        let updating = Updating::default();
        let progress = MigrationProgress {
            percent: 40,
            left: Some(Duration::from_secs(20)),
        };
        updating.hear(Some(progress));
        assert_eq!(updating.0.lock().now, Some(progress));
        assert!(updating.0.lock().logged.is_some());
        updating.hear(None);
        assert_eq!(updating.0.lock().now, None);
        // What is over at once is not logged.
        let updating = Updating::default();
        updating.hear(Some(MigrationProgress {
            left: None,
            ..progress
        }));
        assert!(updating.0.lock().logged.is_none());
    }
}
