//! How far something is, on a terminal; nothing anywhere else.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(100);

/// One line on standard error that is written over and over, and gone when it is dropped.
pub(crate) struct Progress {
    what: &'static str,
    last: Option<Instant>,
    shown: bool,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            last: None,
            shown: std::io::stderr().is_terminal(),
        }
    }

    pub(crate) fn show(&mut self, done: u64, total: u64) {
        self.write(|what| {
            let percent = (done * 100).checked_div(total).unwrap_or(0).min(100);
            format!("{what} {percent:>3} %  {} of {}", size(done), size(total))
        });
    }

    /// With a bar, and words after the figures.
    pub(crate) fn show_with(&mut self, done: u64, total: u64, more: &str) {
        self.write(|_| {
            let percent = (done * 100).checked_div(total).unwrap_or(0).min(100);
            let full = usize::try_from(percent / 5).unwrap_or(0);
            let bar = format!("{}{}", "#".repeat(full), ".".repeat(20 - full));
            let (done, total) = (size(done), size(total));
            format!("[{bar}] {percent:>3} %  {done} of {total}{more}")
        });
    }

    /// So many hundredths of something that has no size to tell.
    pub(crate) fn part(&mut self, percent: u64, of: &str) {
        self.write(|what| format!("{what} {of} {}", bar(percent)));
    }

    /// Words in place of figures.
    pub(crate) fn say(&mut self, words: &str) {
        self.write(|_| words.to_owned());
    }

    fn write(&mut self, text: impl FnOnce(&str) -> String) {
        if !self.shown || self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let text = format!("\r{}\x1b[K", text(self.what));
        let _nobody_looks = std::io::stderr().write_all(text.as_bytes());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.last.is_some() {
            let _nobody_looks = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

/// A short bar with its figure.
pub(crate) fn bar(percent: u64) -> String {
    let percent = percent.min(100);
    let full = usize::try_from(percent / 10).unwrap_or(0);
    format!(
        "[{}{}] {percent:>3} %",
        "#".repeat(full),
        ".".repeat(10 - full)
    )
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let (mut value, mut unit) = (bytes as f64 / 1000.0, 0);
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bar_is_as_long_as_its_figure_says_and_no_longer() {
        assert_eq!(super::bar(0), "[..........]   0 %");
        assert_eq!(super::bar(49), "[####......]  49 %");
        assert_eq!(super::bar(1000), "[##########] 100 %");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.0 kB"),
            (999_960, "1.0 MB"),
            (12_345_678, "12.3 MB"),
            (5_000_000_000_000_000, "5000.0 TB"),
        ] {
            assert_eq!(super::size(bytes), text);
        }
    }
}
