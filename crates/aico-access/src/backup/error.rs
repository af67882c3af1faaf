//! What can go wrong with backups, told so that a person can act on it.

use std::path::PathBuf;

use aico_vault::archive::ArchiveError;
use aico_vault::{FileError, PersonKeyError};

use crate::ErrorKind;

/// A backup, a restore or an export could not be made, for a reason that is not the data's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The folder for archives or exports can't be used.
    #[error("{} {why}", path.display())]
    Target {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
        /// What mends it.
        mend: String,
    },
    /// The system refused something in that folder.
    #[error("{} can't be used", path.display())]
    TargetRefused {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// One at a time.
    #[error("a backup is being made already")]
    Running,
    /// What is copied would be under one key and the archive's header under another.
    #[error("keys are being changed")]
    KeysChange,
    /// It was stopped by whoever asked for it, or because AICO is being locked.
    #[error("the backup was stopped before it was finished")]
    Stopped,
    /// The archive holds one person's data and no home.
    #[error("{} holds the data of one person, not a whole AICO", path.display())]
    NotWhole {
        /// The archive.
        path: PathBuf,
    },
    /// The archive holds others and not the owner, without whom there is no home.
    #[error("{} was made while the owner's data could not be read, and has none of it", path.display())]
    NoOwner {
        /// The archive.
        path: PathBuf,
        /// The newest one in reach that has it.
        other: Option<PathBuf>,
        /// Both are under one root key, so that persons of the one have a place in a home of the
        /// other.
        same_key: bool,
    },
    /// There is something already where nothing may be.
    #[error("there is an AICO in {} already", path.display())]
    Occupied {
        /// The data folder.
        path: PathBuf,
    },
    /// The archive has no piece of this person.
    #[error("there is nothing of this person in {}", path.display())]
    NoPiece {
        /// The archive.
        path: PathBuf,
    },
    /// The person was erased.
    #[error("this person was erased, and what was erased is not brought back")]
    Erased,
    /// Somebody who was added since has the name of a person whom the home no longer knows.
    #[error("somebody who was added since the backup has that name now")]
    NameTaken,
    /// Their keyring can't be read, and may be whole.
    #[error("{} can't be used, though it may be whole; nothing was put back", path.display())]
    KeyringUnreadable {
        /// The keyring.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: PersonKeyError,
    },
    /// The archive belongs to another AICO, or to another key of this one.
    #[error("{} was made by another AICO, or under another key of this one", path.display())]
    OtherHome {
        /// The archive.
        path: PathBuf,
    },
    /// The list of the erased beside the archives is damaged.
    #[error("{} can't be read, so nobody can tell who was erased", path.display())]
    Erasures {
        /// The file.
        path: PathBuf,
    },
    /// A home of the archive's vault is there that the archive's secret does not open, and no list
    /// of the erased is in reach.
    #[error("the data in {} can't be opened to see who was erased in it", home.display())]
    ErasedUnknown {
        /// The home.
        home: PathBuf,
    },
}

impl BackupError {
    pub(crate) fn what_to_do(&self) -> Option<String> {
        Some(match self {
            Self::Target { mend, .. } => mend.clone(),
            Self::TargetRefused { .. } => {
                "Choose a folder that is there and that you may write to: --to FOLDER".to_owned()
            }
            Self::Running => "Wait until it is finished.".to_owned(),
            Self::KeysChange => {
                "Wait until that is finished: aico vault rotate --status".to_owned()
            }
            Self::Stopped => {
                "The backups that there were are untouched. Start it again.".to_owned()
            }
            Self::NotWhole { .. } => "Put it back into the AICO that it came from: \
                aico restore ARCHIVE --person NAME"
                .to_owned(),
            Self::NoOwner {
                path,
                other: Some(other),
                same_key,
            } => {
                let (path, other) = (path.display(), other.display());
                let rest = match same_key {
                    true => format!(
                        "What this one has of each other person is put back afterwards: aico \
                         restore '{path}' --person NAME"
                    ),
                    false => "The keys were changed between the two, so nobody from this one can \
                        be put back then."
                        .to_owned(),
                };
                format!(
                    "Nothing was changed. Restore the newest that has the owner: aico restore \
                     '{other}'. {rest}"
                )
            }
            Self::NoOwner { path, .. } => format!(
                "Nothing was changed. None beside it has the owner: look where others are, aico \
                 backup list FOLDER, and restore that first. What this one has of each other \
                 person is put back afterwards: aico restore '{}' --person NAME",
                path.display()
            ),
            Self::Occupied { .. } => "Name a folder that is not there yet with --to. To replace \
                what is there, leave --to out and name it with --data."
                .to_owned(),
            Self::NoPiece { .. } => "Look into another one: aico backup list".to_owned(),
            Self::OtherHome { .. } => {
                "Restore the whole of it to another folder: aico restore ARCHIVE --to NEW_FOLDER"
                    .to_owned()
            }
            Self::NameTaken => "Nothing was put back. Restore the whole of it to another folder, \
                start that, and export there: aico restore ARCHIVE --to NEW_FOLDER"
                .to_owned(),
            Self::KeyringUnreadable { path, source } => {
                let mend = match source {
                    PersonKeyError::File(
                        FileError::Insecure { mend, .. } | FileError::NotWritable { mend, .. },
                    ) => format!("Mend it: {mend}"),
                    _ => "Mend the disk, or copy the data folder to another one.".to_owned(),
                };
                format!(
                    "{mend} Then start it again. To take the keyring of the backup, with the \
                     password of then, move this one away: mv '{0}' '{0}.aside'",
                    path.display()
                )
            }
            Self::Erasures { path } => format!(
                "Put back a good copy of it. To restore without it, at the price that somebody \
                 who was erased may come back, move it away: mv '{0}' '{0}.aside'",
                path.display()
            ),
            Self::ErasedUnknown { home } => format!(
                "Without it somebody who was erased may come back. At that price it can be \
                 restored to another folder, aico restore ARCHIVE --to NEW_FOLDER, or in its place \
                 after moving it away: mv '{0}' '{0}.aside'",
                home.display()
            ),
            Self::Erased => return None,
        })
    }
}

pub(crate) fn backup_kind(error: &BackupError) -> ErrorKind {
    match error {
        BackupError::TargetRefused { source, .. }
            if matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ) =>
        {
            ErrorKind::StorageFull
        }
        BackupError::Target { .. } | BackupError::TargetRefused { .. } => ErrorKind::TargetUnusable,
        BackupError::NoPiece { .. } => ErrorKind::NotFound,
        BackupError::NameTaken => ErrorKind::NameTaken,
        BackupError::KeyringUnreadable { .. } => ErrorKind::FolderUnusable,
        BackupError::Erasures { .. } | BackupError::ErasedUnknown { .. } => {
            ErrorKind::ArchiveDamaged
        }
        _ => ErrorKind::BackupConflict,
    }
}

pub(crate) fn archive_kind(error: &ArchiveError) -> ErrorKind {
    match error {
        ArchiveError::Absent { .. } | ArchiveError::NoSuchPart { .. } => ErrorKind::NotFound,
        ArchiveError::Unsupported { .. } => ErrorKind::NewerData,
        ArchiveError::WrongPassword => ErrorKind::WrongPassword,
        ArchiveError::WrongPhrase => ErrorKind::WrongPhrase,
        ArchiveError::File(FileError::StorageFull { .. }) => ErrorKind::StorageFull,
        ArchiveError::File(_) | ArchiveError::Exists { .. } => ErrorKind::TargetUnusable,
        ArchiveError::NotAnArchive { .. }
        | ArchiveError::Damaged { .. }
        | ArchiveError::NoSuchWrap { .. }
        | ArchiveError::KdfOutOfBounds { .. } => ErrorKind::ArchiveDamaged,
        ArchiveError::OtherKey { .. } | ArchiveError::Cancelled | ArchiveError::KeysChange => {
            ErrorKind::BackupConflict
        }
        _ => ErrorKind::Other,
    }
}
