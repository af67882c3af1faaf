//! What was logged by the whole program, for tests that ask whether something was told.

use std::fmt::Write as _;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::common::until;

static LINES: OnceLock<Mutex<Vec<String>>> = OnceLock::new();

struct Keep;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, "{}={value} ", field.name());
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Keep {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > tracing::Level::INFO {
            return;
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        if let Some(lines) = LINES.get() {
            lines.lock().push(line.0);
        }
    }
}

/// From here on lines are kept.
pub(crate) fn keep_log() {
    LINES.get_or_init(|| {
        let keep = tracing_subscriber::registry().with(Keep);
        tracing::subscriber::set_global_default(keep).unwrap();
        Mutex::default()
    });
}

/// Waits for a line that holds all of these.
pub(crate) async fn logged(words: &[&str]) {
    until(|| {
        let lines = LINES.get().expect("keep_log() comes first").lock();
        lines
            .iter()
            .any(|line| words.iter().all(|word| line.contains(word)))
    })
    .await;
}
