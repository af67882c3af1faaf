//! Records for whoever started the program: on standard error, one line each.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use serde_json::Value;

use aico_config::Level;

use crate::record::Record;

/// How records are shown on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// For a person; with colours on a terminal, unless `NO_COLOR` is set.
    Human,
    /// One JSON object per line, as in the files; for another program.
    Json,
    /// Not at all.
    Off,
}

impl Console {
    pub(crate) fn write(self, record: &Record) {
        let mut line = match self {
            Self::Off => return,
            Self::Human => human(record, colours()).into_bytes(),
            Self::Json => record.to_line(),
        };
        line.push(b'\n');
        // Nobody may be listening any more, and there is nowhere else to say so.
        drop(std::io::stderr().lock().write_all(&line));
    }
}

fn colours() -> bool {
    use std::sync::OnceLock;
    static COLOURS: OnceLock<bool> = OnceLock::new();
    *COLOURS.get_or_init(|| {
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
    })
}

/// `2026-11-21T10:00:00.000Z  INFO aico_gateway: The gateway is open port=8771`
fn human(record: &Record, colours: bool) -> String {
    let (paint, dim, plain) = match (colours, record.level) {
        (false, _) => ("", "", ""),
        (_, Level::Error) => ("\x1b[1;31m", "\x1b[2m", "\x1b[0m"),
        (_, Level::Warn) => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
        (_, Level::Info) => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
        (_, _) => ("\x1b[34m", "\x1b[2m", "\x1b[0m"),
    };
    let level = record.level.as_str().to_ascii_uppercase();
    let mut line = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        line,
        "{dim}{:.3}{plain} {paint}{level:>5}{plain} {dim}{}:{plain} {}",
        record.time,
        printable(&record.module),
        printable(&record.message)
    );
    let trace = record
        .trace
        .as_ref()
        .map(|t| ("trace", Value::from(t.as_str())));
    let fields = record.fields.iter().map(|(k, v)| (k.as_str(), v.clone()));
    for (name, value) in fields.chain(trace) {
        let text = match value {
            Value::String(text) if text.contains(char::is_whitespace) || text.is_empty() => {
                format!("{text:?}")
            }
            Value::String(text) => text,
            other => other.to_string(),
        };
        let _ = write!(line, " {dim}{name}={plain}{}", printable(&text));
    }
    line
}

/// Control characters made visible: a record can neither forge a second line nor steer the
/// terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str) -> Record {
        Record {
            time: "2026-11-21T10:00:00.0004Z".parse().unwrap(),
            level: Level::Info,
            module: "aico_gateway".to_owned(),
            message: message.to_owned(),
            fields: [
                ("port".to_owned(), 8771.into()),
                ("why".to_owned(), "a b".into()),
            ]
            .into(),
            trace: Some("t1".to_owned()),
        }
    }

    #[test]
    fn line_for_a_person() {
        assert_eq!(
            human(&record("The gateway is open"), false),
            "2026-11-21T10:00:00.000Z  INFO aico_gateway: The gateway is open port=8771 \
             why=\"a b\" trace=t1"
        );
    }

    #[test]
    fn record_can_neither_forge_a_line_nor_steer_the_terminal() {
        let line = human(&record("one\nERROR two \x1b[2J \u{202e}"), false);
        assert!(!line.contains(['\n', '\x1b', '\u{202e}']), "{line:?}");
    }
}
