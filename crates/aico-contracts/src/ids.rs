//! Typed ids: UUIDv7, so that they sort by the time they were made.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An id that is not one: not 16 bytes, or not a hyphenated UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Binary ids are 16 bytes long.
    #[error("an id has 16 bytes, not {0}")]
    Length(usize),
    /// Written ids are hyphenated UUIDs.
    #[error("an id is written as a hyphenated UUID")]
    Text,
}

macro_rules! id {
    ($(#[$doc:meta] $name:ident),* $(,)?) => {$(
        #[$doc]
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh id (version 7: time, then randomness).
            #[expect(clippy::new_without_default, reason = "each one is different")]
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The 16 bytes that messages and tables hold.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The 16 bytes, owned, as the fields of messages take them.
            #[must_use]
            pub fn to_vec(&self) -> Vec<u8> {
                self.0.as_bytes().to_vec()
            }

            /// From the 16 bytes of a message or a table.
            ///
            /// # Errors
            /// When there are not exactly 16.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| IdError::Length(bytes.len()))
            }

            /// The id as a plain UUID.
            #[must_use]
            pub fn uuid(&self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            /// Hyphenated lower- or upper-case hexadecimal, and no other of the UUID notations:
            /// one id has one written form in addresses and topics.
            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.len() != 36 {
                    return Err(IdError::Text);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| IdError::Text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    )*};
}

id! {
    /// A person who uses AICO.
    PersonId,
    /// A conversation of one person.
    ConversationId,
    /// A node of a conversation's tree.
    MessageId,
    /// A model in the registry.
    ModelId,
    /// A signed-in session.
    SessionId,
    /// A module of another maker that was admitted to the bus.
    ModuleId,
    /// A named token, by which another program acts for a person.
    TokenId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_binary_forms_come_back() {
        let id = PersonId::new();
        assert_eq!(id.to_string().parse::<PersonId>(), Ok(id));
        assert_eq!(PersonId::from_slice(id.as_bytes()), Ok(id));
        assert_eq!(id.to_string().len(), 36);
    }

    #[test]
    fn other_notations_and_lengths_are_refused() {
        let id = PersonId::new();
        for text in [
            id.uuid().as_simple().to_string(),
            id.uuid().as_braced().to_string(),
            id.uuid().as_urn().to_string(),
            String::new(),
            "*".repeat(36),
        ] {
            assert_eq!(text.parse::<PersonId>(), Err(IdError::Text), "{text}");
        }
        assert_eq!(PersonId::from_slice(&[0; 15]), Err(IdError::Length(15)));
        assert_eq!(PersonId::from_slice(&[]), Err(IdError::Length(0)));
    }

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let ids: Vec<_> = (0..100).map(|_| MessageId::new()).collect();
        assert!(ids.is_sorted());
    }
}
