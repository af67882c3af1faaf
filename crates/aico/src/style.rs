//! Words for people on standard error and standard output: colours only on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use anstream::eprintln;
use anstyle::{AnsiColor, Style};

use crate::exit::{Exit, Failure};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

pub(crate) fn error(text: &str) {
    eprintln!("{ERROR}error:{ERROR:#} {text}");
}

pub(crate) fn warning(text: &str) {
    const WARNING: Style = AnsiColor::Yellow.on_default().bold();
    eprintln!("{WARNING}warning:{WARNING:#} {text}");
}

pub(crate) fn detail(text: &str) {
    eprintln!("{FAINT}       {text}{FAINT:#}");
}

pub(crate) fn hint(text: &str) {
    eprintln!("{HINT}   try:{HINT:#} {text}");
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
    eprintln!("{text}");
}

/// A piece of a stream, shown at once. False when nobody reads any more.
pub(crate) fn piece(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    is_written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
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
}
