//! How the companion's failures are told to those who asked.

use aico_access::{ErrorKind, HomeError};
use aico_contracts::v1::Fault;
use aico_store::{RegistryError, StoreError};

/// A fault that travels through a transaction and comes out as it went in.
pub(crate) fn caller(fault: Fault) -> StoreError {
    StoreError::Caller(Box::new(fault))
}

pub(crate) fn from_store(error: StoreError) -> Fault {
    match error {
        StoreError::Caller(inner) => match inner.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(_) => Fault::internal("The conversation could not be stored"),
        },
        // Not acknowledged is not stored, for the one who asked; a repeat of the same id finds it.
        StoreError::StorageFull
        | StoreError::Registry(RegistryError::StorageFull)
        | StoreError::Unacknowledged(RegistryError::StorageFull) => Fault::storage_full(),
        StoreError::StorageReadOnly
        | StoreError::Registry(RegistryError::StorageReadOnly)
        | StoreError::Unacknowledged(RegistryError::StorageReadOnly) => Fault::storage_read_only(),
        error if error.is_disk_failure() => Fault::storage_failing(),
        StoreError::Busy => Fault::busy("Your conversations can't be reached just now"),
        StoreError::Closed => Fault::locked(),
        StoreError::Damaged { .. } => Fault::new("store-damaged", "Your conversations are damaged")
            .with_detail("A part of them can't be read any more.")
            .with_what_to_do(
                "`aico store check` says what is damaged and what can be put back from where.",
            ),
        StoreError::ReadOnly => Fault::new("store-damaged", "Your conversations can only be read")
            .with_detail("They are an older copy that was put back.")
            .with_what_to_do(
                "Whoever runs AICO decides whether it counts: see `aico store check`.",
            ),
        error => {
            tracing::error!(error = %error, "a person's store failed");
            Fault::internal("The conversation could not be stored")
                .with_what_to_do("Try again; if it stays, run `aico doctor`.")
        }
    }
}

/// Whether the same write may succeed later, without anything but time or space.
pub(crate) fn may_pass(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::StorageFull
            | StoreError::StorageReadOnly
            | StoreError::Registry(_)
            | StoreError::Unacknowledged(_)
            | StoreError::Busy
            | StoreError::Aborted
    ) || error.is_disk_failure()
}

pub(crate) fn from_home(error: HomeError) -> Fault {
    match error.kind() {
        ErrorKind::Locked | ErrorKind::Stopping => Fault::locked(),
        ErrorKind::PersonLocked => Fault::new("person-locked", "This person has to sign in first"),
        ErrorKind::NotFound => unknown(),
        ErrorKind::StorageFull => Fault::storage_full(),
        ErrorKind::StorageReadOnly => Fault::storage_read_only(),
        ErrorKind::StorageFailing => Fault::storage_failing(),
        ErrorKind::Busy => match error.detail() {
            Some(how_far) => Fault::busy("Your data is being updated for this version of AICO")
                .with_detail(how_far)
                .with_what_to_do(error.what_to_do().unwrap_or_default()),
            None => Fault::busy("Your conversations can't be reached just now"),
        },
        ErrorKind::NewerData => Fault::new(
            "newer-data",
            "Your conversations were written by a newer AICO",
        )
        .with_detail(sentence(&error))
        .with_what_to_do(error.what_to_do().unwrap_or_default()),
        ErrorKind::FolderUnusable => {
            Fault::new("folder-unusable", "Your conversations can't be opened")
                .with_detail(sentence(&error))
                .with_what_to_do(error.what_to_do().unwrap_or_default())
        }
        _ => {
            tracing::error!(error = %error, "a person's store can't be opened");
            Fault::new("store-damaged", "Your conversations can't be opened")
                .with_detail(sentence(&error))
                .with_what_to_do(error.what_to_do().unwrap_or_default())
        }
    }
}

/// What happened and why: paths and versions, nothing that people wrote.
fn sentence(error: &HomeError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text.push('.');
    text
}

/// The same for what does not exist and for what is somebody else's.
pub(crate) fn unknown() -> Fault {
    Fault::not_found("There is no such conversation or message")
}

pub(crate) fn invalid_id() -> Fault {
    Fault::invalid("An id is malformed")
}

#[cfg(test)]
mod tests {
    use aico_access::MigrationProgress;

    use super::*;

    #[test]
    fn an_update_of_the_data_is_told_with_how_far_it_is() {
        let now = MigrationProgress {
            percent: 40,
            left: None,
        };
        let fault = from_home(HomeError::Updating(now));
        assert_eq!(fault.code, "busy");
        assert!(fault.title.contains("updated"), "{}", fault.title);
        assert_eq!(fault.detail, "40 % is done.");
        assert!(fault.what_to_do.contains("by itself"));
        let otherwise = from_home(HomeError::Store(StoreError::Busy));
        assert_eq!((&*otherwise.code, &*otherwise.detail), ("busy", ""));
    }
}
