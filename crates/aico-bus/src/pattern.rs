//! Topics, patterns of topics, and the index from a topic to everything that matches it.
//!
//! A topic is dotted segments of ASCII letters, digits, `-` and `_`. A pattern may hold `*` (one
//! whole segment) and end in `#` (the rest, also when there is none). Segments match whole:
//! `a.b` matches neither `a.bc` nor `a.b.c`.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// Longest topic or pattern in bytes.
pub(crate) const MAX_TOPIC: usize = 255;
/// Most segments of a topic or pattern.
pub(crate) const MAX_SEGMENTS: usize = 16;

/// What is wrong with a topic or a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing at all, or two dots in a row, or a dot at an end.
    #[error("a segment is empty")]
    EmptySegment,
    /// Longer than 255 bytes or of more than 16 segments.
    #[error("it is too long")]
    TooLong,
    /// Segments hold ASCII letters, digits, `-` and `_`.
    #[error("a character is not allowed")]
    Character,
    /// `*` and `#` stand for whole segments of a pattern, `#` for its last only.
    #[error("a wildcard is misplaced")]
    Wildcard,
}

/// Checks that `topic` is a topic without wildcards.
pub(crate) fn check_topic(topic: &str) -> Result<(), TopicError> {
    if topic.len() > MAX_TOPIC {
        return Err(TopicError::TooLong);
    }
    let mut segments = 1;
    let mut at_start = true;
    for byte in topic.bytes() {
        match byte {
            b'.' if at_start => return Err(TopicError::EmptySegment),
            b'.' => {
                segments += 1;
                at_start = true;
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => at_start = false,
            b'*' | b'#' => return Err(TopicError::Wildcard),
            _ => return Err(TopicError::Character),
        }
    }
    if at_start {
        return Err(TopicError::EmptySegment);
    }
    if segments > MAX_SEGMENTS {
        Err(TopicError::TooLong)
    } else {
        Ok(())
    }
}

/// A checked pattern of topics.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// `#`.
    pub(crate) fn everything() -> Self {
        Self("#".to_owned())
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `topic` matches, segment by whole segment.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let mut topic = topic.split('.');
        for segment in self.0.split('.') {
            if segment == "#" {
                return true;
            }
            match topic.next() {
                Some(found) if segment == "*" || segment == found => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}

impl FromStr for Pattern {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        if text.len() > MAX_TOPIC || text.split('.').count() > MAX_SEGMENTS {
            return Err(TopicError::TooLong);
        }
        let mut segments = text.split('.').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "*" => {}
                "#" if segments.peek().is_none() => {}
                "#" => return Err(TopicError::Wildcard),
                _ => check_topic(segment)?,
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A trie from patterns to values: finding all that match a topic does not look at the others.
#[derive(Debug)]
pub(crate) struct PatternIndex<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    named: HashMap<Box<str>, Node<T>>,
    any: Option<Box<Node<T>>>,
    /// Values whose pattern ends here.
    here: Vec<(u64, T)>,
    /// Values whose pattern ends in `#` here.
    rest: Vec<(u64, T)>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            named: HashMap::new(),
            any: None,
            here: Vec::new(),
            rest: Vec::new(),
        }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }
}

impl<T> Default for PatternIndex<T> {
    fn default() -> Self {
        Self {
            root: Node::default(),
        }
    }
}

impl<T: Clone> PatternIndex<T> {
    /// Adds a value under an id of its own.
    pub(crate) fn insert(&mut self, pattern: &Pattern, id: u64, value: T) {
        let mut node = &mut self.root;
        for segment in pattern.as_str().split('.') {
            node = match segment {
                "#" => {
                    node.rest.push((id, value));
                    return;
                }
                "*" => node.any.get_or_insert_default(),
                _ => node.named.entry(segment.into()).or_default(),
            };
        }
        node.here.push((id, value));
    }

    /// Removes the value that was added under this pattern and id.
    pub(crate) fn remove(&mut self, pattern: &Pattern, id: u64) -> Option<T> {
        let segments: Vec<&str> = pattern.as_str().split('.').collect();
        Self::remove_at(&mut self.root, &segments, id)
    }

    fn remove_at(node: &mut Node<T>, segments: &[&str], id: u64) -> Option<T> {
        let take = |list: &mut Vec<(u64, T)>| {
            let at = list.iter().position(|(other, _)| *other == id)?;
            Some(list.remove(at).1)
        };
        match segments {
            [] => take(&mut node.here),
            ["#"] => take(&mut node.rest),
            ["*", tail @ ..] => {
                let child = node.any.as_mut()?;
                let found = Self::remove_at(child, tail, id);
                if child.is_empty() {
                    node.any = None;
                }
                found
            }
            [name, tail @ ..] => {
                let child = node.named.get_mut(*name)?;
                let found = Self::remove_at(child, tail, id);
                if child.is_empty() {
                    node.named.remove(*name);
                }
                found
            }
        }
    }

    /// Every value whose pattern matches, in no particular order, with its id.
    pub(crate) fn matching(&self, topic: &str) -> Vec<(u64, T)> {
        let segments: Vec<&str> = topic.split('.').collect();
        let mut found = Vec::new();
        Self::collect(&self.root, &segments, &mut found);
        found
    }

    fn collect(node: &Node<T>, segments: &[&str], found: &mut Vec<(u64, T)>) {
        found.extend(node.rest.iter().cloned());
        match segments {
            [] => found.extend(node.here.iter().cloned()),
            [name, tail @ ..] => {
                if let Some(child) = node.named.get(*name) {
                    Self::collect(child, tail, found);
                }
                if let Some(child) = &node.any {
                    Self::collect(child, tail, found);
                }
            }
        }
    }

    /// Everything in the index.
    pub(crate) fn all(&self) -> Vec<T> {
        fn walk<T: Clone>(node: &Node<T>, found: &mut Vec<T>) {
            found.extend(
                node.here
                    .iter()
                    .chain(&node.rest)
                    .map(|(_, value)| value.clone()),
            );
            for child in node.named.values().chain(node.any.as_deref()) {
                walk(child, found);
            }
        }
        let mut found = Vec::new();
        walk(&self.root, &mut found);
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn segments_match_whole() {
        for (text, topic, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("a.b", "a.b.c", false),
            ("a.b", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*", "a", false),
            ("*.b", "a.b", true),
            ("a.#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.b.#", "a.bc", false),
            ("a.b.#", "a.bc.d", false),
            ("#", "a.b.c", true),
            ("a.*.c.#", "a.b.c.d", true),
            ("a.*.c.#", "a.b.x.d", false),
        ] {
            assert_eq!(pattern(text).matches(topic), expected, "{text} on {topic}");
        }
    }

    #[test]
    fn what_is_no_topic_is_refused() {
        for (text, error) in [
            ("", TopicError::EmptySegment),
            (".", TopicError::EmptySegment),
            ("a.", TopicError::EmptySegment),
            (".a", TopicError::EmptySegment),
            ("a..b", TopicError::EmptySegment),
            ("a b", TopicError::Character),
            ("a.ä", TopicError::Character),
            ("a\0b", TopicError::Character),
            ("$link", TopicError::Character),
            ("a.*", TopicError::Wildcard),
            ("a.#", TopicError::Wildcard),
        ] {
            assert_eq!(check_topic(text), Err(error), "{text:?}");
        }
        assert_eq!(check_topic(&"a".repeat(256)), Err(TopicError::TooLong));
        assert_eq!(check_topic(&["a"; 17].join(".")), Err(TopicError::TooLong));
        for (text, error) in [
            ("#.a", TopicError::Wildcard),
            ("a*", TopicError::Wildcard),
            ("a.#b", TopicError::Wildcard),
            ("", TopicError::EmptySegment),
            ("a..#", TopicError::EmptySegment),
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(error), "{text:?}");
        }
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("ab".to_owned())
        ]
    }

    fn any_pattern() -> impl Strategy<Value = String> {
        let part = prop_oneof![3 => segment(), 2 => Just("*".to_owned())];
        (prop::collection::vec(part, 0..5), any::<bool>()).prop_filter_map("empty", |(mut p, h)| {
            if h {
                p.push("#".to_owned());
            }
            (!p.is_empty()).then(|| p.join("."))
        })
    }

    /// The rule written a second time, by recursion.
    fn model(pattern: &[&str], topic: &[&str]) -> bool {
        match (pattern, topic) {
            ([], []) | (["#"], _) => true,
            ([p, ps @ ..], [t, ts @ ..]) => (*p == "*" || p == t) && model(ps, ts),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_index_finds_what_each_pattern_matches_alone(
            patterns in prop::collection::vec(any_pattern(), 1..20),
            topic in prop::collection::vec(segment(), 1..6),
            removed in prop::collection::vec(any::<bool>(), 20),
        ) {
            let topic = topic.join(".");
            let mut index = PatternIndex::default();
            for (id, text) in patterns.iter().enumerate() {
                index.insert(&pattern(text), id as u64, id);
            }
            for (id, text) in patterns.iter().enumerate() {
                if removed[id] {
                    prop_assert_eq!(index.remove(&pattern(text), id as u64), Some(id));
                }
            }
            let mut found: Vec<_> = index.matching(&topic).into_iter().map(|(_, v)| v).collect();
            found.sort_unstable();
            let split = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
            let expected: Vec<_> = (0..patterns.len())
                .filter(|id| !removed[*id])
                .filter(|id| {
                    let (p, t) = (split(&patterns[*id]), split(&topic));
                    let by_model = model(
                        &p.iter().map(String::as_str).collect::<Vec<_>>(),
                        &t.iter().map(String::as_str).collect::<Vec<_>>(),
                    );
                    assert_eq!(by_model, pattern(&patterns[*id]).matches(&topic));
                    by_model
                })
                .collect();
            prop_assert_eq!(found, expected);
            let kept = (0..patterns.len()).filter(|id| !removed[*id]).count();
            prop_assert_eq!(index.all().len(), kept);
        }

        #[test]
        fn no_text_makes_the_parsers_fail_otherwise_than_by_an_error(text in ".{0,300}") {
            let _ = check_topic(&text);
            if let Ok(pattern) = text.parse::<Pattern>() {
                let _ = pattern.matches(&text);
            }
        }
    }
}
