//! Backups of a home: made while it is in use, restored while it is not.
//!
//! What is in an archive, and how it is sealed, is `docs/formats/backup-archive.md`. Where it is
//! made from and what becomes of it is here:
//!
//! - [`Home::create_backup`](crate::Home::create_backup) takes hold of all stores at one moment,
//!   copies them one after the other under their own keys, and writes one archive. Nobody waits for
//!   it.
//! - The archives of one home in one folder are a *set*. Beside them lies the list of the persons
//!   who were erased, which a restore obeys (`set`).
//! - [`restore`] builds a new home beside the present one, checks it, and swaps the two.
//! - An erasure drops the person's pieces out of the archives that it can reach (`erase`).

mod create;
mod erase;
mod error;
mod files;
mod keys;
mod manifest;
mod noted;
mod owner;
mod person;
mod present;
mod restore;
mod schema;
mod set;
mod verify;

pub use create::{BackupMade, BackupRequest, BackupStep, LeftOut, Scope};
pub use erase::{Dropped, Erased, OutOfReach};
pub use error::BackupError;
pub use person::{PutBack, restore_person};
pub use restore::{RestoreRequest, RestoreSecret, Restored, restore};
pub use set::{Keep, Listed, list};
pub use verify::{Verified, verify};

pub(crate) use create::STAGING;
pub(crate) use erase::destroy;
pub(crate) use error::{archive_kind, backup_kind};
pub(crate) use keys::{person_keys, seal_archive_keys_anew};
pub(crate) use noted::erased_in;
pub(crate) use schema::MIGRATIONS;

use std::path::{Path, PathBuf};

/// Where backups of a data folder go when nobody says where: beside it.
#[must_use]
pub fn default_folder(data: &Path) -> PathBuf {
    let mut name = data.as_os_str().to_owned();
    name.push("-backups");
    name.into()
}
