//! Where the journal's keys and marks come from, so that the bus knows no home.

use std::sync::Arc;

use aico_contracts::ids::PersonId;
use aico_vault::append::{BodyKey, LogKey};
use aico_vault::fs::Filesystem;
use aico_vault::{Owner, PersonKeyError, Purpose, Registry, Vault};

/// Why there is no key for a person's bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoBodyKey {
    /// Only the person can open it, and they have not signed in.
    Locked,
    /// There is none: the person was erased, or never was.
    Gone,
    /// Their keyring can't be read.
    Unreadable(String),
}

/// What the journal needs of an unlocked vault.
pub trait JournalKeys: Send + Sync {
    /// The system's key for the file with this random id.
    fn file_key(&self, file: [u8; 16]) -> LogKey;

    /// The key of a person's bodies in one segment. Asked for again and again: a key that is
    /// gone must not be kept.
    ///
    /// # Errors
    /// Why there is none.
    fn body_key(&self, person: PersonId, segment: &[u8; 32]) -> Result<BodyKey, NoBodyKey>;

    /// Where it is noted how far each file got, and each cursor.
    fn registry(&self) -> &Registry;

    /// Where the files lie.
    fn filesystem(&self) -> Arc<dyn Filesystem>;
}

impl JournalKeys for Vault {
    fn file_key(&self, file: [u8; 16]) -> LogKey {
        self.log_key(Purpose::BusJournal, Owner::System, file)
    }

    fn body_key(&self, person: PersonId, segment: &[u8; 32]) -> Result<BodyKey, NoBodyKey> {
        match self.open_person(*person.as_bytes()) {
            Ok(keys) => Ok(keys.body_key(segment)),
            Err(PersonKeyError::Sealed { .. }) => Err(NoBodyKey::Locked),
            Err(PersonKeyError::Absent { .. }) => Err(NoBodyKey::Gone),
            Err(error) => Err(NoBodyKey::Unreadable(error.to_string())),
        }
    }

    fn registry(&self) -> &Registry {
        Vault::registry(self)
    }

    fn filesystem(&self) -> Arc<dyn Filesystem> {
        Vault::filesystem(self)
    }
}
