//! What can go wrong, one variant for each thing that the caller can do something about.

use std::path::{Path, PathBuf};

use crate::append::AppendError;
use crate::container::Unreadable;
use crate::fs::FileError;
use crate::kdf::KdfOutOfBounds;
use crate::registry::RegistryError;
use crate::wrap::HashError;

/// A vault could not be made, looked at, or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// There is a vault, or encrypted data, already.
    #[error("there is encrypted data in {} already; a new vault would make it unreadable", path.display())]
    Exists {
        /// The data folder.
        path: PathBuf,
    },
    /// There is no vault.
    #[error("there is no vault in {}", path.display())]
    Absent {
        /// The data folder.
        path: PathBuf,
    },
    /// A file is damaged.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file was written by a newer program.
    #[error("{} has format {found}; this program knows up to {known}", path.display())]
    Unsupported {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest version that this program reads.
        known: u16,
    },
    /// Something sealed does not open: altered, or sealed for another purpose, owner or name.
    #[error("the sealed data was altered, or belongs elsewhere")]
    Forged,
    /// There is not enough memory to hash the password.
    #[error("there is not enough free memory to check the password")]
    OutOfMemory,
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The registry could not be used.
    #[error(transparent)]
    Registry(RegistryError),
}

/// A vault could not be unlocked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// There is no vault, and nothing encrypted either.
    #[error("there is no vault in {}", path.display())]
    Absent {
        /// The data folder.
        path: PathBuf,
    },
    /// The header is intact and the password is not the one.
    #[error("the password is wrong")]
    WrongPassword,
    /// The header is intact and the phrase is not the one.
    #[error("the recovery phrase is wrong")]
    WrongPhrase,
    /// The header is intact and the key that was kept for it is not the one.
    #[error("the kept key is wrong")]
    WrongKey,
    /// The header has no wrap that a password or phrase, whichever was given, could open.
    #[error("{} can't be unlocked this way: it has no such wrap", path.display())]
    NoSuchWrap {
        /// The header.
        path: PathBuf,
    },
    /// The header is damaged or missing, or was altered by something that has not the root key.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The header.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The header was written by a newer program.
    #[error("{} has format {found}; this program knows up to {known}", path.display())]
    Unsupported {
        /// The header.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest version that this program reads.
        known: u16,
    },
    /// The header asks for a password hash that is too dear or too cheap.
    #[error("{} was altered", path.display())]
    KdfOutOfBounds {
        /// The header.
        path: PathBuf,
        /// What it asks for.
        #[source]
        source: KdfOutOfBounds,
    },
    /// There is not enough memory to hash the password.
    #[error("there is not enough free memory to check the password")]
    OutOfMemory,
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The registry could not be used.
    #[error(transparent)]
    Registry(RegistryError),
}

/// A person's keyring could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersonKeyError {
    /// There is no keyring for this id.
    #[error("there is no keyring for person {id}")]
    Absent {
        /// The person's id in hex.
        id: String,
    },
    /// There is a keyring for this id already.
    #[error("there is a keyring for person {id} already")]
    Exists {
        /// The person's id in hex.
        id: String,
    },
    /// The keyring has no wrap under the root key: only the person can open it.
    #[error("person {id} is locked until they sign in")]
    Sealed {
        /// The person's id in hex.
        id: String,
    },
    /// The keyring is intact and the password is not the one.
    #[error("the password is wrong")]
    WrongPassword,
    /// The keyring has no password.
    #[error("person {id} has no password of their own")]
    NoPassword {
        /// The person's id in hex.
        id: String,
    },
    /// The keyring is damaged, or was altered by something that has not its key, or is another's.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The keyring.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The keyring was written by a newer program.
    #[error("{} has format {found}; this program knows up to {known}", path.display())]
    Unsupported {
        /// The keyring.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest version that this program reads.
        known: u16,
    },
    /// The keyring asks for a password hash that is too dear or too cheap.
    #[error("{} was altered", path.display())]
    KdfOutOfBounds {
        /// The keyring.
        path: PathBuf,
        /// What it asks for.
        #[source]
        source: KdfOutOfBounds,
    },
    /// There is not enough memory to hash the password.
    #[error("there is not enough free memory to check the password")]
    OutOfMemory,
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
}

macro_rules! from_registry {
    ($error:ident) => {
        impl From<RegistryError> for $error {
            /// A file that could not be used is that, whichever it is.
            fn from(error: RegistryError) -> Self {
                match error {
                    RegistryError::Append(AppendError::File(error)) => Self::File(error),
                    other => Self::Registry(other),
                }
            }
        }
    };
}
from_registry!(VaultError);
from_registry!(UnlockError);

/// The errors that reading a header and reading a keyring have in common.
pub(crate) trait FromContainer: From<FileError> {
    fn damaged(path: &Path, reason: &'static str) -> Self;
    fn unsupported(path: &Path, found: u16, known: u16) -> Self;

    fn unreadable(path: &Path, why: &Unreadable) -> Self {
        match *why {
            Unreadable::Damaged(reason) => Self::damaged(path, reason),
            Unreadable::Unsupported { found, known } => Self::unsupported(path, found, known),
        }
    }
}

macro_rules! from_container {
    ($error:ident) => {
        impl FromContainer for $error {
            fn damaged(path: &Path, reason: &'static str) -> Self {
                Self::Damaged {
                    path: path.to_path_buf(),
                    reason,
                }
            }
            fn unsupported(path: &Path, found: u16, known: u16) -> Self {
                Self::Unsupported {
                    path: path.to_path_buf(),
                    found,
                    known,
                }
            }
        }
    };
}
from_container!(VaultError);
from_container!(UnlockError);
from_container!(PersonKeyError);

/// The errors of hashing a password that unlocking and signing in have in common.
pub(crate) trait FromHash {
    fn hash(path: &Path, error: HashError) -> Self;
}

macro_rules! from_hash {
    ($error:ident) => {
        impl FromHash for $error {
            fn hash(path: &Path, error: HashError) -> Self {
                match error {
                    HashError::OutOfMemory => Self::OutOfMemory,
                    HashError::OutOfBounds(source) => Self::KdfOutOfBounds {
                        path: path.to_path_buf(),
                        source,
                    },
                }
            }
        }
    };
}
from_hash!(UnlockError);
from_hash!(PersonKeyError);
