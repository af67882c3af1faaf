//! Archives that were made while the owner's data could not be read. They make no home: which one
//! does is looked for, so that it can be told.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::Path;

use aico_vault::archive::{Archive, Preface};
use aico_vault::fs::OsFilesystem;

use super::error::BackupError;
use super::manifest::Manifest;
use super::restore::{RestoreSecret, open_piece};
use super::{set, verify};
use crate::{HomeError, Role};

/// How many others are opened, the newest first: with a password each takes a moment.
const MOST_OPENED: usize = 32;

/// Whether the owner's piece is in an archive of everybody.
pub(super) fn is_in(archive: &Archive, manifest: &Manifest) -> Result<bool, HomeError> {
    for person in &manifest.persons {
        let (row, _, _) = open_piece(archive, person.id)?;
        if is_owner(&row.role) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What to say of an archive without the owner: with the newest that holds them, of those beside it
/// and in the usual folder that open with the same secret.
pub(super) fn missing(archive: &Archive, secret: &RestoreSecret, usual: &Path) -> BackupError {
    let path = archive.path().to_owned();
    let beside = path.parent().unwrap_or(Path::new("."));
    let folders = BTreeSet::from([beside, usual]).into_iter();
    let mut all: Vec<_> = folders
        .filter_map(|folder| set::list(folder).ok())
        .flatten()
        .filter(|one| one.vault == Some(archive.vault()) && !one.one_person && one.path != path)
        .collect();
    all.sort_by_key(|one| Reverse(one.created_at));
    let other = all
        .into_iter()
        .take(MOST_OPENED)
        .find_map(|one| Some((holds_owner(&one.path, secret)?, one.path)));
    let key = Preface::read(&OsFilesystem, &path).ok();
    let key = key.map(|preface| preface.key_epoch());
    BackupError::NoOwner {
        path,
        same_key: other.as_ref().is_some_and(|(epoch, _)| Some(*epoch) == key),
        other: other.map(|(_, path)| path),
    }
}

/// The epoch of the key of an archive that holds the owner.
fn holds_owner(path: &Path, secret: &RestoreSecret) -> Option<u32> {
    let epoch = Preface::read(&OsFilesystem, path).ok()?.key_epoch();
    let archive = verify::open(path, secret).ok()?;
    let manifest = Manifest::of(&archive).ok()?;
    is_in(&archive, &manifest).ok()?.then_some(epoch)
}

/// Whether somebody is the owner, by the name of their role.
pub(super) fn is_owner(role: &str) -> bool {
    role == Role::Owner.as_str()
}
