//! Why a file is not taken.

/// What is wrong with a file or a character, as it can be told to a person. No text of the file is
/// in it but names of instructions, parameters and formats, cut short.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct CharacterError {
    /// One sentence.
    pub what: String,
    /// What to do about it; may be empty.
    pub advice: String,
}

impl CharacterError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            advice: String::new(),
        }
    }

    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

/// A word of a stranger's file as it may be repeated: one line, short, without control characters.
pub(crate) fn quoted(word: &str) -> String {
    let clean: String = word
        .chars()
        .filter(|c| !c.is_control() && !matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .take(40)
        .collect();
    format!("\"{clean}\"")
}
