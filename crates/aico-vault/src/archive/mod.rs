//! Archives: one file that holds everything a home was at one moment, each part sealed for itself.
//!
//! The bytes are in `docs/formats/backup-archive.md`. What they have to withstand:
//!
//! * **Nothing but the file.** The archive carries a vault header with the wraps of the master
//!   password and of the recovery phrase, and no other: it opens on a machine that has nothing
//!   but the archive and one of the two.
//! * **A key of its own.** Each archive has a random key, sealed under the root key. Each part has
//!   a key from that one and a fresh salt.
//! * **Whole and in parts.** The index, which is sealed as well, holds place, length and SHA-256 of
//!   every part. Between the preface, the parts, the index and the end there is no byte that
//!   belongs to nothing.
//! * **A part can be dropped alone.** What is left is copied as it is, without its keys.
//!
//! A new archive appears under its name when it is whole; until then there is none of it. Bytes
//! that did not pass authentication are never handed out.

mod format;
mod keyring;
mod open;
mod reader;
mod writer;

use std::io;
use std::path::PathBuf;

pub use format::{Part, PartKind, Scope};
pub use keyring::KeyringOf;
pub use open::{Archive, ArchiveKey, Preface};
pub use reader::PartReader;
pub use writer::{ArchiveWriter, PartWriter};

use crate::file::EncryptedFileError;
use crate::fs::FileError;
use crate::kdf::KdfOutOfBounds;

/// What the name of an archive ends with.
pub const ENDING: &str = ".aicobackup";

/// An archive could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It is not there.
    #[error("{} is missing", path.display())]
    Absent {
        /// Which file.
        path: PathBuf,
    },
    /// There is something already where a new one was to be.
    #[error("{} is there already", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// It is no archive.
    #[error("{} is no backup of AICO's", path.display())]
    NotAnArchive {
        /// Which file.
        path: PathBuf,
    },
    /// It was written by a newer program.
    #[error("{} has format {found}; this program knows up to {known}", path.display())]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest version that this program reads.
        known: u16,
    },
    /// It is cut off, altered, or put together from others.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It is intact and the password is not the one.
    #[error("the password is wrong")]
    WrongPassword,
    /// It is intact and the phrase is not the one.
    #[error("the recovery phrase is wrong")]
    WrongPhrase,
    /// It was made by another vault, or before the root key was changed.
    #[error("{} was made under another key than the one in use", path.display())]
    OtherKey {
        /// Which file.
        path: PathBuf,
    },
    /// The root key is being changed: what is under the one before could not be read with what
    /// the archive has.
    #[error("keys are being changed")]
    KeysChange,
    /// It does not open the way that was asked for.
    #[error("{} can't be opened this way: it has no such wrap", path.display())]
    NoSuchWrap {
        /// Which file.
        path: PathBuf,
    },
    /// The header in it asks for a password hash that is too dear or too cheap.
    #[error("{} was altered", path.display())]
    KdfOutOfBounds {
        /// Which file.
        path: PathBuf,
        /// What it asks for.
        #[source]
        source: KdfOutOfBounds,
    },
    /// There is not enough memory to hash the password.
    #[error("there is not enough free memory to check the password")]
    OutOfMemory,
    /// It has no such part.
    #[error("{} has no such part", path.display())]
    NoSuchPart {
        /// Which file.
        path: PathBuf,
    },
    /// A write failed, or a part was not finished, and the rest would lack it.
    #[error("{} can't be finished: a part of it is missing", path.display())]
    Incomplete {
        /// Which file.
        path: PathBuf,
    },
    /// Whoever asked for it wants it no longer.
    #[error("it was cancelled")]
    Cancelled,
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<EncryptedFileError> for ArchiveError {
    fn from(error: EncryptedFileError) -> Self {
        match error {
            EncryptedFileError::File(error) => Self::File(error),
            EncryptedFileError::Absent { path } => Self::Absent { path },
            EncryptedFileError::Exists { path } => Self::Exists { path },
            EncryptedFileError::Unsupported { path, found, known } => {
                Self::Unsupported { path, found, known }
            }
            EncryptedFileError::NotEncrypted { path } => Self::NotAnArchive { path },
            EncryptedFileError::Cut { path, .. } => Self::Damaged {
                path,
                reason: "it is cut off",
            },
            EncryptedFileError::Foreign { path, .. }
            | EncryptedFileError::WrongKey { path }
            | EncryptedFileError::Damaged { path, .. }
            | EncryptedFileError::DamagedHeader { path, .. } => Self::Damaged {
                path,
                reason: "it was altered, or belongs elsewhere",
            },
            EncryptedFileError::Incomplete { path }
            | EncryptedFileError::TooLong { path }
            | EncryptedFileError::Finished { path }
            | EncryptedFileError::WrongMode { path, .. }
            | EncryptedFileError::Options { path, .. } => Self::Incomplete { path },
            EncryptedFileError::Append(_) => Self::Damaged {
                path: PathBuf::new(),
                reason: "it has another form",
            },
        }
    }
}

impl From<ArchiveError> for io::Error {
    fn from(error: ArchiveError) -> Self {
        let kind = match &error {
            ArchiveError::Absent { .. } | ArchiveError::NoSuchPart { .. } => {
                io::ErrorKind::NotFound
            }
            ArchiveError::Exists { .. } => io::ErrorKind::AlreadyExists,
            ArchiveError::File(FileError::StorageFull { .. }) => io::ErrorKind::StorageFull,
            ArchiveError::File(FileError::ReadOnly { .. }) => io::ErrorKind::ReadOnlyFilesystem,
            ArchiveError::File(FileError::Io { source, .. }) => source.kind(),
            ArchiveError::File(_) => io::ErrorKind::PermissionDenied,
            ArchiveError::Cancelled => io::ErrorKind::Interrupted,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
