//! A person of the household, and the rules for their name.

use std::fmt;

use aico_contracts::ids::PersonId;
use jiff::Timestamp;
use unicode_normalization::UnicodeNormalization;

/// What a person may do beside using what is their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Set AICO up; manages persons, models and the daemon. Not entitled to others' data.
    Owner,
    /// Uses AICO.
    Member,
}

impl Role {
    /// The stable name, as stored and as told by the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "owner" => Some(Self::Owner),
            "member" => Some(Self::Member),
            _ => None,
        }
    }
}

/// A person, as the household knows them.
#[derive(Clone)]
pub struct Person {
    /// Opaque and random: the only thing that leaves the system's store.
    pub id: PersonId,
    /// What they are called. Personal, so without Debug.
    pub name: PersonName,
    /// What they may do.
    pub role: Role,
    /// When they were added.
    pub created_at: Timestamp,
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Person")
            .field("id", &self.id)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// A name that a person chose: 1 to 64 characters after trimming, no control characters,
/// Unicode NFC. Two names that differ only in case or compatibility forms count as one.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonName(String);

/// Why a name can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing but white space.
    #[error("a name needs at least one character")]
    Empty,
    /// Over 64 characters.
    #[error("a name has at most 64 characters")]
    TooLong,
    /// Line breaks, direction marks and the like.
    #[error("a name can't contain control characters or invisible direction marks")]
    Control,
}

impl PersonName {
    /// Checks and normalises a name.
    ///
    /// # Errors
    /// [`NameError`] names the rule that is broken.
    pub fn new(name: &str) -> Result<Self, NameError> {
        // Bounded before normalising: NFC of a megabyte is work that nobody asked for.
        if name.len() > 1024 {
            return Err(NameError::TooLong);
        }
        let name: String = name.trim().nfc().collect();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.chars().count() > 64 {
            return Err(NameError::TooLong);
        }
        if name.chars().any(|c| c.is_control() || is_direction_mark(c)) {
            return Err(NameError::Control);
        }
        Ok(Self(name))
    }

    /// The name as it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two equal names have in common.
    pub(crate) fn key(&self) -> String {
        self.0.nfkc().collect::<String>().to_lowercase()
    }
}

/// Characters that change the order in which the rest is shown, or are not shown at all.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_composed() {
        let composed = PersonName::new(" Zo\u{eb} ").unwrap();
        let decomposed = PersonName::new("Zoe\u{308}").unwrap();
        assert_eq!(composed.as_str(), "Zo\u{eb}");
        assert_eq!(composed.key(), decomposed.key());
        assert_eq!(
            PersonName::new("ANNA").unwrap().key(),
            PersonName::new("anna").unwrap().key()
        );
    }

    #[test]
    fn names_that_are_refused() {
        assert_eq!(PersonName::new(" \t ").err(), Some(NameError::Empty));
        assert_eq!(
            PersonName::new(&"x".repeat(65)).err(),
            Some(NameError::TooLong)
        );
        assert_eq!(
            PersonName::new(&"x".repeat(1 << 20)).err(),
            Some(NameError::TooLong)
        );
        assert_eq!(
            PersonName::new("a\u{202e}b").err(),
            Some(NameError::Control)
        );
        assert_eq!(PersonName::new("a\nb").err(), Some(NameError::Control));
    }
}
