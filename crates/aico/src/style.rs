//! Words for people on standard error and standard output: colours only on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::exit::{Exit, Failure};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

pub(crate) fn error(text: &str) {
    say(format_args!("{ERROR}error:{ERROR:#} {text}"));
}

pub(crate) fn warning(text: &str) {
    const WARNING: Style = AnsiColor::Yellow.on_default().bold();
    say(format_args!("{WARNING}warning:{WARNING:#} {text}"));
}

pub(crate) fn detail(text: &str) {
    say(format_args!("{FAINT}       {text}{FAINT:#}"));
}

pub(crate) fn hint(text: &str) {
    say(format_args!("{HINT}   try:{HINT:#} {text}"));
}

/// A line on standard error. Where it can't be written nobody is left to be told of it.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// A line of a result. That nobody reads any more (`aico … | head`) is no failure; any other is told
/// by [`all_written`].
pub(crate) fn line(text: &str) {
    is_written(writeln!(anstream::stdout().lock(), "{text}"));
}

/// Why something that was to be printed was not.
static UNWRITTEN: Mutex<Option<io::Error>> = Mutex::new(None);

fn is_written(done: io::Result<()>) -> bool {
    match done {
        Ok(()) => return true,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => *UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
    }
    false
}

/// Whether all that was printed has arrived: a secret that is shown once may be among it.
pub(crate) fn all_written() -> Result<(), Failure> {
    is_written(io::stdout().lock().flush());
    let mut unwritten = UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(error) = unwritten.take() else {
        return Ok(());
    };
    let exit = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::StorageFull,
        _ => Exit::Unexpected,
    };
    let what = "It was done, but what is printed of it could not be written.";
    Err(Failure::new(exit, what).because(&error))
}

pub(crate) fn strong(text: &str) -> String {
    format!("{STRONG}{text}{STRONG:#}")
}

pub(crate) fn faint(text: &str) -> String {
    format!("{FAINT}{text}{FAINT:#}")
}

/// A note beside a result, for people only.
pub(crate) fn note(text: &str) {
    say(format_args!("{text}"));
}

/// A piece of a stream, shown at once. False when nobody reads any more.
pub(crate) fn piece(text: &str) -> bool {
    bytes(text.as_bytes())
}

/// Bytes as they are, to standard output.
pub(crate) fn bytes(bytes: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    is_written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// A line of JSON for another program: nothing in it is lost, and nothing steers a terminal. False
/// when nobody reads any more.
pub(crate) fn json(value: &Value) -> bool {
    json_line(&value.to_string())
}

/// The same of what is JSON already.
pub(crate) fn json_line(text: &str) -> bool {
    bytes(format!("{}\n", escaped(text)).as_bytes())
}

/// JSON in which the characters that steer a terminal are escapes. They can stand in its texts only,
/// where an escape means the same; all below a space are escapes already.
fn escaped(json: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Somebody reads this as it comes.
pub(crate) fn on_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Text of others without what would steer a terminal: control characters, and those that turn
/// the direction of what follows.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .filter(|c| !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(
            super::harmless("a\u{1b}[2Jb\u{9b}c\r\nd\te"),
            "a[2Jbc\nd\te"
        );
        assert_eq!(super::harmless("exe.\u{202e}gpj\u{2066}.x"), "exe.gpj.x");
    }

    #[test]
    fn json_means_the_same_and_steers_no_terminal() {
        let text = "a\u{1b}[2Jb\u{7f}\u{9b}31mc\u{85}d\u{200e}\u{200f}e\u{202e}f\u{2066}g\u{2069}ä\u{1f600}";
        let written = super::escaped(&serde_json::json!({ text: text }).to_string());
        let told: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(told[text], text);
        assert_eq!(super::harmless(&written), written);
        assert!(!written.contains(['\u{200e}', '\u{200f}']), "{written}");
        assert!(
            written.contains("\\u009b31m") && written.contains('ä'),
            "{written}"
        );
    }
}
