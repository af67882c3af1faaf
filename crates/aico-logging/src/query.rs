//! Which records a reader asks for.

use jiff::Timestamp;

use aico_config::Level;

use crate::record::Record;

/// Which records a reader asks for. The default asks for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// This level and graver ones.
    pub level: Option<Level>,
    /// This module and those inside it: `aico_gateway` includes `aico_gateway::ws`.
    pub module: Option<String>,
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// Of this trace alone.
    pub trace: Option<String>,
    /// No more than the newest so many, of what is there already.
    pub last: Option<usize>,
}

impl Query {
    /// Whether `record` is asked for.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        let inside = |module: &String| {
            record
                .module
                .strip_prefix(module.as_str())
                .is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with("::") || module.ends_with("::")
                })
        };
        self.level.is_none_or(|level| record.level <= level)
            && self.since.is_none_or(|since| record.time >= since)
            && self.module.as_ref().is_none_or(inside)
            && (self.trace.is_none() || self.trace == record.trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_means_itself_and_what_is_inside() {
        let query = Query {
            module: Some("aico_bus".to_owned()),
            ..Query::default()
        };
        let from = |module: &str| {
            let mut record = Record::own(Level::Info, "x", &[]);
            record.module = module.to_owned();
            query.matches(&record)
        };
        assert!(from("aico_bus") && from("aico_bus::local"));
        assert!(!from("aico_business") && !from("aico"));
    }

    #[test]
    fn level_means_itself_and_graver() {
        let query = Query {
            level: Some(Level::Warn),
            ..Query::default()
        };
        let at = |level| query.matches(&Record::own(level, "x", &[]));
        assert!(at(Level::Error) && at(Level::Warn));
        assert!(!at(Level::Info) && !at(Level::Trace));
    }

    #[test]
    fn trace_means_this_one_alone() {
        let query = Query {
            trace: Some("a1".to_owned()),
            ..Query::default()
        };
        let of = |trace: Option<&str>| {
            let mut record = Record::own(Level::Info, "x", &[]);
            record.trace = trace.map(str::to_owned);
            query.matches(&record)
        };
        assert!(of(Some("a1")));
        assert!(!of(Some("a2")) && !of(None));
    }

    #[test]
    fn since_includes_its_own_moment() {
        let record = Record::own(Level::Info, "x", &[]);
        let since = |time| {
            Query {
                since: Some(time),
                ..Query::default()
            }
            .matches(&record)
        };
        assert!(since(record.time));
        assert!(!since(record.time + jiff::SignedDuration::from_millis(1)));
    }
}
