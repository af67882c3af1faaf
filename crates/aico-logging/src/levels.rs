//! Which events are taken at all: a level for each module, changeable while running.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::reload;

use aico_config::Level;

use crate::redact;

/// Changes the filter of the running program.
#[derive(Clone)]
pub(crate) struct Levels(reload::Handle<Targets, Registry>);

impl Levels {
    pub(crate) fn new(settings: &aico_config::Logging) -> (reload::Layer<Targets, Registry>, Self) {
        let (layer, handle) = reload::Layer::new(targets(settings));
        (layer, Self(handle))
    }

    pub(crate) fn set(&self, settings: &aico_config::Logging) {
        // It fails only when the subscriber is gone, and then there is nothing to change.
        drop(self.0.reload(targets(settings)));
    }
}

/// Our modules at the level asked for, others never above warnings: what they write is not
/// under our rules.
fn targets(settings: &aico_config::Logging) -> Targets {
    let capped = |level: Level| filter(level.min(Level::Warn));
    let mut targets = Targets::new()
        .with_default(capped(settings.level))
        .with_target("aico", filter(settings.level));
    for (module, level) in &settings.modules {
        let level = if redact::is_ours(module) {
            filter(*level)
        } else {
            capped(*level)
        };
        targets = targets.with_target(module.clone(), level);
    }
    targets
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

pub(crate) fn level_of(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level as L;

    fn settings(level: Level, modules: &[(&str, Level)]) -> aico_config::Logging {
        aico_config::Logging {
            level,
            modules: modules.iter().map(|(m, l)| ((*m).to_owned(), *l)).collect(),
            ..aico_config::Config::default().logging
        }
    }

    #[test]
    fn modules_have_levels_of_their_own() {
        let targets = targets(&settings(Level::Info, &[("aico_bus", Level::Trace)]));
        assert!(targets.would_enable("aico_bus::local", &L::TRACE));
        assert!(!targets.would_enable("aico_store", &L::DEBUG));
        assert!(targets.would_enable("aico_store", &L::INFO));
    }

    #[test]
    fn other_peoples_crates_are_held_to_warnings() {
        let targets = targets(&settings(Level::Trace, &[("tungstenite", Level::Trace)]));
        assert!(!targets.would_enable("tungstenite::protocol", &L::INFO));
        assert!(targets.would_enable("hyper", &L::WARN));
        assert!(!targets.would_enable("hyper", &L::INFO));
    }

    #[test]
    fn off_is_off() {
        let targets = targets(&settings(Level::Off, &[]));
        assert!(!targets.would_enable("aico", &L::ERROR));
        assert!(!targets.would_enable("hyper", &L::ERROR));
    }
}
