//! What can go wrong with an encrypted file.

use std::io;
use std::path::PathBuf;

use crate::append::AppendError;
use crate::fs::FileError;

/// An encrypted file could not be read or written.
///
/// Inside an [`io::Error`] that [`std::io::Read`] and its kin return, it is what
/// [`io::Error::get_ref`] gives.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptedFileError {
    /// It is not there.
    #[error("{} is missing", path.display())]
    Absent {
        /// Which file.
        path: PathBuf,
    },
    /// There is something already where a new file was to be.
    #[error("{} is there already", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// It is no encrypted file.
    #[error("{} is no encrypted file of AICO's", path.display())]
    NotEncrypted {
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
    /// It is another file than the expected one: copied over it, or of somebody else.
    #[error("{} is of another {what} than expected", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// In what they differ: purpose, owner, id, key epoch.
        what: &'static str,
    },
    /// The key does not fit its header.
    #[error("{} does not open with this key: its header was altered, or it belongs to another vault", path.display())]
    WrongKey {
        /// Which file.
        path: PathBuf,
    },
    /// Its header is damaged.
    #[error("the header of {} is damaged: {reason}", path.display())]
    DamagedHeader {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A chunk fails authentication.
    #[error("{} is damaged in chunk {chunk}: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which chunk, from 0.
        chunk: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// It ends before its last chunk: cut off, or never finished.
    #[error("{} ends after {chunks} chunks, before its last one", path.display())]
    Cut {
        /// Which file.
        path: PathBuf,
        /// How many chunks there are.
        chunks: u64,
    },
    /// It was written as a whole, and such a file is not appended to.
    #[error("{} was finished as a whole and can't be appended to; replace it instead", path.display())]
    Finished {
        /// Which file.
        path: PathBuf,
    },
    /// A write failed and was not repeated, so that the rest of it is missing.
    #[error("a write to {} failed before, and it can't be finished without", path.display())]
    Incomplete {
        /// Which file.
        path: PathBuf,
    },
    /// It has become longer than the format allows.
    #[error("{} would become too long", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// It was not opened for this.
    #[error("{} is not open for {what}", path.display())]
    WrongMode {
        /// Which file.
        path: PathBuf,
        /// For what.
        what: &'static str,
    },
    /// These options don't go together.
    #[error("{} can't be opened so: {reason}", path.display())]
    Options {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A segment or record of a file that is appended to.
    #[error(transparent)]
    Append(AppendError),
    /// The file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<AppendError> for EncryptedFileError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::File(error) => Self::File(error),
            AppendError::Absent { path } => Self::Absent { path },
            AppendError::Unsupported { path, found, known } => {
                Self::Unsupported { path, found, known }
            }
            other => Self::Append(other),
        }
    }
}

impl From<EncryptedFileError> for io::Error {
    fn from(error: EncryptedFileError) -> Self {
        let kind = match &error {
            EncryptedFileError::Absent { .. } => io::ErrorKind::NotFound,
            EncryptedFileError::Exists { .. } => io::ErrorKind::AlreadyExists,
            EncryptedFileError::TooLong { .. } => io::ErrorKind::FileTooLarge,
            EncryptedFileError::WrongMode { .. } => io::ErrorKind::Unsupported,
            EncryptedFileError::Options { .. } => io::ErrorKind::InvalidInput,
            EncryptedFileError::File(FileError::StorageFull { .. }) => io::ErrorKind::StorageFull,
            EncryptedFileError::File(FileError::ReadOnly { .. }) => {
                io::ErrorKind::ReadOnlyFilesystem
            }
            EncryptedFileError::File(FileError::Io { source, .. }) => source.kind(),
            EncryptedFileError::File(_) => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
