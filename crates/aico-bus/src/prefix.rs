//! What a SUB socket wants: topics that begin with certain characters, as ZeroMQ has it.
//!
//! A prefix is a filter and no right. `a.b` fits `a.bc` too: which topics there are for whom is
//! decided by the policy, topic by topic.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::RwLock;

use crate::pattern::{MAX_SEGMENTS, MAX_TOPIC, Pattern};

/// Most different prefixes of one SUB socket.
const MAX_PREFIXES: usize = 256;

/// Why a prefix is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrefixError {
    #[error("no topic begins so")]
    NoTopic,
    #[error("it has too many")]
    TooMany,
}

/// The prefixes that one SUB socket asked for. The same prefix may be asked for several times, and
/// is given up when it was taken back as often.
#[derive(Debug, Default)]
pub(crate) struct Prefixes(RwLock<BTreeMap<Box<str>, u32>>);

impl Prefixes {
    /// Adds one; answers with its text.
    pub(crate) fn add(&self, prefix: &[u8]) -> Result<String, PrefixError> {
        let text = read(prefix).ok_or(PrefixError::NoTopic)?;
        let mut known = self.0.write();
        if known.len() >= MAX_PREFIXES && !known.contains_key(text) {
            return Err(PrefixError::TooMany);
        }
        let times = known.entry(text.into()).or_default();
        *times = times.saturating_add(1);
        Ok(text.to_owned())
    }

    /// Takes one back, if it is there.
    pub(crate) fn remove(&self, prefix: &[u8]) {
        let Some(text) = read(prefix) else { return };
        let mut known = self.0.write();
        if let Some(times) = known.get_mut(text) {
            *times -= 1;
            if *times == 0 {
                known.remove(text);
            }
        }
    }

    /// Whether a topic begins with one of them.
    pub(crate) fn fit(&self, topic: &str) -> bool {
        let known = self.0.read();
        known.keys().any(|prefix| topic.starts_with(&**prefix))
    }
}

/// As `aico bus stats` shows them.
impl fmt::Display for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SUB")?;
        for prefix in self.0.read().keys() {
            write!(f, " \"{prefix}\"")?;
        }
        Ok(())
    }
}

/// A prefix as text; `None` when no topic begins so.
fn read(prefix: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(prefix).ok()?;
    let fits = text.len() <= MAX_TOPIC
        && text.split('.').count() <= MAX_SEGMENTS
        && !text.starts_with('.')
        && !text.contains("..")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    fits.then_some(text)
}

impl Pattern {
    /// Whether some topic begins with these characters and matches.
    #[must_use]
    pub fn reaches(&self, prefix: &str) -> bool {
        let mut wanted = self.as_str().split('.');
        let mut given = prefix.split('.').peekable();
        while let Some(segment) = given.next() {
            // The last one may go on.
            let whole = given.peek().is_some();
            match wanted.next() {
                Some("#") => return true,
                Some("*") => {}
                Some(name) if whole && name == segment => {}
                Some(name) if !whole && name.starts_with(segment) => {}
                _ => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_no_topic_begins_with_is_no_prefix() {
        for good in ["", "a", "a.", "a.b-c_D", "a.b."] {
            assert_eq!(
                Prefixes::default().add(good.as_bytes()),
                Ok(good.to_owned())
            );
        }
        let long = "a".repeat(256);
        let deep = "a.".repeat(16);
        for bad in [
            ".", ".a", "a..", "a b", "$link", "a.*", "#", "\0", &long, &deep,
        ] {
            let error = Prefixes::default().add(bad.as_bytes());
            assert_eq!(error, Err(PrefixError::NoTopic), "{bad:?}");
        }
        assert!(Prefixes::default().add(&[0xff]).is_err());
    }

    #[test]
    fn a_prefix_stands_until_it_was_taken_back_as_often_as_it_was_given() {
        let prefixes = Prefixes::default();
        assert!(!prefixes.fit("a.b"));
        for _ in 0..2 {
            prefixes.add(b"a.").unwrap();
        }
        prefixes.remove(b"a.");
        prefixes.remove(b"a");
        assert!(prefixes.fit("a.b") && !prefixes.fit("ab"));
        assert_eq!(prefixes.to_string(), "SUB \"a.\"");
        prefixes.remove(b"a.");
        prefixes.remove(b"a.");
        assert!(!prefixes.fit("a.b"));
        for number in 0..MAX_PREFIXES {
            prefixes.add(number.to_string().as_bytes()).unwrap();
        }
        assert_eq!(prefixes.add(b"more"), Err(PrefixError::TooMany));
        assert!(prefixes.add(b"7").is_ok());
    }

    fn segment() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just("ab")]
    }

    /// All topics of up to four of these segments, and of longer ones that go on where a prefix ends.
    fn topics() -> Vec<String> {
        let names = ["a", "b", "ab", "aab", "aba", "bx", "abx", "ax"];
        let mut all: Vec<String> = names.map(str::to_owned).to_vec();
        let mut last = all.clone();
        for _ in 0..3 {
            last = last
                .iter()
                .flat_map(|topic| names.map(|name| format!("{topic}.{name}")))
                .collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_pattern_reaches_a_prefix_when_a_topic_has_both(
            parts in prop::collection::vec(prop_oneof![3 => segment(), 1 => Just("*")], 1..4),
            rest in any::<bool>(),
            prefix in prop::collection::vec(segment(), 0..4),
            ends_in_a_dot in any::<bool>(),
        ) {
            let mut parts = parts;
            if rest {
                parts.push("#");
            }
            let pattern: Pattern = parts.join(".").parse().unwrap();
            let mut prefix = prefix.join(".");
            if ends_in_a_dot && !prefix.is_empty() {
                prefix.push('.');
            }
            let found = topics()
                .iter()
                .any(|topic| topic.starts_with(&prefix) && pattern.matches(topic));
            prop_assert_eq!(pattern.reaches(&prefix), found, "{} on {}", pattern, prefix);
        }
    }
}
