//! Whose database a file is: the row inside it that a file put in its place cannot match.

use std::fmt;

/// What a database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// `system.db`: what belongs to nobody in particular.
    System,
    /// One person's `person.db`.
    Person,
}

impl StoreKind {
    /// The number in the identity row. Never reused.
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::System => 1,
            Self::Person => 2,
        }
    }

    pub(crate) fn from_code(code: i64) -> Option<Self> {
        match code {
            1 => Some(Self::System),
            2 => Some(Self::Person),
            _ => None,
        }
    }
}

/// Which database this is, and whose. The generation, the third part, lives in the identity row
/// and in the registry: it grows when the owner accepts another copy as the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What the database is for.
    pub store: StoreKind,
    /// The person's id; `None` exactly for [`StoreKind::System`].
    pub person: Option<[u8; 16]>,
}

impl Identity {
    /// The system's database.
    pub fn system() -> Self {
        Self {
            store: StoreKind::System,
            person: None,
        }
    }

    /// The database of the person with this id.
    pub fn person(id: [u8; 16]) -> Self {
        Self {
            store: StoreKind::Person,
            person: Some(id),
        }
    }

    /// Whether kind and person fit together.
    pub(crate) fn is_coherent(&self) -> bool {
        match self.store {
            StoreKind::System => self.person.is_none(),
            StoreKind::Person => self.person.is_some(),
        }
    }

    /// The name of the database's record in the registry: `system` or `person-<32 hex digits>`.
    pub fn store_id(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.person {
            None => f.write_str("system"),
            Some(id) => {
                f.write_str("person-")?;
                id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}
