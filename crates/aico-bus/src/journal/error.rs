//! What can go wrong with the journal.

use std::io;

use aico_contracts::v1::Fault;
use aico_vault::append::AppendError;
use aico_vault::fs::FileError;
use aico_vault::{Refusal, RegistryError};

use super::format::MAX_BODY;

/// A journal that could not be opened or closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Its folder can't be used.
    #[error("the bus's journal has no folder")]
    Folder(#[source] FileError),
    /// A file of it can't be used; one that is damaged is set aside instead.
    #[error("a file of the bus's journal can't be used")]
    File(#[source] AppendError),
    /// How far it got can't be noted.
    #[error("the bus's journal can't be noted in the registry")]
    Registry(#[source] RegistryError),
    /// There is no thread for it.
    #[error("the bus's journal gets no thread")]
    Thread(#[source] io::Error),
}

/// Why a message was not kept, or can't be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalFault {
    /// There is no journal now: AICO is locked.
    #[error("there is no journal while AICO is locked")]
    Locked,
    /// The message belongs to a person whose key only they can open.
    #[error("the person is locked until they sign in")]
    PersonLocked,
    /// The message belongs to a person who is not there (any more).
    #[error("there is no such person")]
    PersonGone,
    /// The disk is full.
    #[error("there is no room left on the disk")]
    StorageFull,
    /// The disk can only be read.
    #[error("the disk can only be read")]
    StorageReadOnly,
    /// The disk failed at writing or reading.
    #[error("the disk failed")]
    StorageFailing,
    /// More waits to be written than is taken. Try again.
    #[error("too much waits to be written")]
    Busy,
    /// The topic is live: nothing on it is kept.
    #[error("the topic is not a durable one")]
    NotDurable,
    /// Encoded, it is longer than the journal takes, or one of its names is.
    #[error("an envelope of {bytes} bytes is too large; the journal takes {MAX_BODY}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// A cursor's name is 1 to 64 letters, digits, `-`, `_` and `.`.
    #[error("this is no name of a cursor")]
    CursorName,
    /// This identity has as many cursors as it may.
    #[error("there are as many cursors as there may be")]
    TooManyCursors,
    /// Anything else; nothing was acknowledged.
    #[error("the journal failed: {reason}")]
    Failed {
        /// What happened.
        reason: String,
    },
}

impl JournalFault {
    /// What a failed write means to a publisher.
    pub(crate) fn of_write(error: &AppendError) -> Self {
        match error {
            AppendError::File(FileError::StorageFull { .. }) => Self::StorageFull,
            AppendError::File(FileError::ReadOnly { .. }) => Self::StorageReadOnly,
            other if aico_vault::fs::disk_failed(other) => Self::StorageFailing,
            other => Self::Failed {
                reason: other.to_string(),
            },
        }
    }

    pub(crate) fn of_registry(error: &RegistryError) -> Self {
        match error {
            RegistryError::Append(error) => Self::of_write(error),
            RegistryError::Refused(Refusal::StorageFull) => Self::StorageFull,
            RegistryError::Refused(Refusal::ReadOnly) => Self::StorageReadOnly,
            RegistryError::Refused(Refusal::DiskFailed) => Self::StorageFailing,
            other => Self::Failed {
                reason: other.to_string(),
            },
        }
    }

    /// As it is told over a link.
    pub(crate) fn to_fault(&self) -> Fault {
        match self {
            Self::Locked => Fault::locked(),
            Self::PersonLocked => Fault::new("locked", "The person is locked")
                .with_detail(PERSON)
                .with_what_to_do("It can be sent again when they have signed in."),
            Self::PersonGone => Fault::not_found("There is no such person"),
            Self::StorageFull => Fault::storage_full(),
            Self::StorageReadOnly => Fault::storage_read_only(),
            Self::StorageFailing => Fault::storage_failing(),
            Self::Busy => Fault::busy("Too much waits to be written"),
            Self::NotDurable => Fault::invalid("The topic is not a durable one"),
            Self::TooLarge { bytes } => {
                Fault::too_long("The message is too large").with_detail(bytes.to_string())
            }
            Self::CursorName => Fault::new("cursor-name", "A cursor's name is not one")
                .with_what_to_do(
                    "Choose 1 to 64 letters, digits, hyphens, underscores and full stops.",
                ),
            Self::TooManyCursors => Fault::new("cursors", "There are too many cursors")
                .with_what_to_do("Use one of those that there are."),
            Self::Failed { reason } => {
                Fault::internal("The journal failed").with_detail(reason.clone())
            }
        }
    }

    /// What a fault over a link said. `None` for one that is not the journal's.
    pub(crate) fn from_fault(fault: &Fault) -> Option<Self> {
        Some(match fault.code.as_str() {
            "locked" if fault.detail == PERSON => Self::PersonLocked,
            "locked" => Self::Locked,
            "not-found" => Self::PersonGone,
            "storage-full" => Self::StorageFull,
            "storage-read-only" => Self::StorageReadOnly,
            "storage-failing" => Self::StorageFailing,
            "busy" => Self::Busy,
            "invalid" => Self::NotDurable,
            "too-long" => Self::TooLarge {
                bytes: fault.detail.parse().unwrap_or(0),
            },
            "cursor-name" => Self::CursorName,
            "cursors" => Self::TooManyCursors,
            "internal" => Self::Failed {
                reason: fault.detail.clone(),
            },
            _ => return None,
        })
    }
}

const PERSON: &str = "person";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_comes_back_over_the_link() {
        for fault in [
            JournalFault::Locked,
            JournalFault::PersonLocked,
            JournalFault::PersonGone,
            JournalFault::StorageFull,
            JournalFault::StorageReadOnly,
            JournalFault::StorageFailing,
            JournalFault::Busy,
            JournalFault::NotDurable,
            JournalFault::TooLarge { bytes: 7 },
            JournalFault::CursorName,
            JournalFault::TooManyCursors,
            JournalFault::Failed { reason: "x".into() },
        ] {
            let told = fault.to_fault();
            assert_eq!(JournalFault::from_fault(&told), Some(fault));
        }
        assert_eq!(JournalFault::from_fault(&Fault::refused("x")), None);
    }
}
