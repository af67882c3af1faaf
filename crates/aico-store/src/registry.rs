//! What is known of a database outside of it: the sealed registry, seen from here.

use std::{error::Error, sync::Arc};

/// What the registry keeps of one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRecord {
    /// The first 16 bytes of the file, SQLCipher's salt. A copy has another one.
    pub salt: [u8; 16],
    /// Grows when another copy is accepted as the present one, so that the copy it replaced is
    /// refused from then on.
    pub generation: u64,
    /// The sequence of the last commit that was acknowledged to a caller.
    pub last_sequence: u64,
    /// SHA-256 of the whole file after a clean stop; `None` while it is open or after a crash.
    pub closed_hash: Option<[u8; 32]>,
    /// Which key it is under, as whoever gives the keys numbers them; 0 where that never changed.
    pub key: u64,
}

/// A sealed place outside the databases. Each call is durable when it returns.
///
/// Called from blocking threads only, never from an async task.
pub trait StoreRegistry: Send + Sync {
    /// The record of one database, `None` when there is none.
    fn get(&self, store_id: &str) -> Result<Option<StoreRecord>, RegistryError>;
    /// Writes or replaces a record.
    fn put(&self, store_id: &str, record: &StoreRecord) -> Result<(), RegistryError>;
    /// Raises `last_sequence`; follows each commit and precedes its acknowledgement.
    fn note_sequence(&self, store_id: &str, sequence: u64) -> Result<(), RegistryError>;
    /// Forgets a record. One that is not there is no error.
    fn remove(&self, store_id: &str) -> Result<(), RegistryError>;
}

/// Why the registry could not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The disk has no room for it.
    #[error("no space is left for the registry")]
    StorageFull,
    /// The disk can only be read.
    #[error("the disk of the registry can only be read")]
    StorageReadOnly,
    /// The disk failed at reading or writing it.
    #[error("the disk failed at the registry")]
    StorageFailing,
    /// Reading, unsealing, sealing or writing failed.
    #[error("the registry cannot be used")]
    Failed(#[source] Arc<dyn Error + Send + Sync>),
}

impl RegistryError {
    /// Wraps the error of an implementation.
    pub fn failed(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed(Arc::new(error))
    }
}

impl From<std::io::Error> for RegistryError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::StorageFull,
            ErrorKind::ReadOnlyFilesystem => Self::StorageReadOnly,
            _ => Self::failed(error),
        }
    }
}
