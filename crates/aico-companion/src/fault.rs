//! How the companion's failures are told to those who asked.

use aico_access::{ErrorKind, HomeError};
use aico_contracts::v1::Fault;
use aico_store::StoreError;

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
        StoreError::StorageFull => Fault::storage_full(),
        StoreError::Closed => Fault::locked(),
        error => {
            tracing::error!(error = %error, "a person's store failed");
            Fault::internal("The conversation could not be stored")
                .with_what_to_do("Try again; if it stays, run `aico doctor`.")
        }
    }
}

pub(crate) fn from_home(error: HomeError) -> Fault {
    match error.kind() {
        ErrorKind::Locked | ErrorKind::Stopping => Fault::locked(),
        ErrorKind::PersonLocked => Fault::new("person-locked", "This person has to sign in first"),
        ErrorKind::NotFound => unknown(),
        ErrorKind::StorageFull => Fault::storage_full(),
        _ => {
            tracing::error!(error = %error, "a person's store can't be opened");
            Fault::new("store-damaged", "Your conversations can't be opened")
                .with_detail(error.to_string())
                .with_what_to_do(
                    "Nothing was changed. Run `aico doctor`, and restore a backup if it says so.",
                )
        }
    }
}

/// The same for what does not exist and for what is somebody else's.
pub(crate) fn unknown() -> Fault {
    Fault::not_found("There is no such conversation or message")
}

pub(crate) fn invalid_id() -> Fault {
    Fault::invalid("An id is malformed")
}
