//! Reading an archive from its first byte to its last, and telling what is in it.

use std::path::Path;

use aico_vault::Owner;
use aico_vault::archive::{Archive, PartKind, Preface, Scope};
use aico_vault::fs::OsFilesystem;
use jiff::Timestamp;

use super::BackupStep;
use super::error::BackupError;
use super::manifest::Manifest;
use super::restore::RestoreSecret;
use super::{owner, set};
use crate::HomeError;

/// What is in an archive, every byte of which is authentic.
#[derive(Clone)]
pub struct Verified {
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// The program that made it.
    pub program: String,
    /// Whether it is of one person.
    pub one_person: bool,
    /// Bytes of the parts.
    pub bytes: u64,
    /// Names, and rows in all tables of theirs; no rows of a sealed person. Personal, so without
    /// Debug.
    pub persons: Vec<(String, Option<u64>)>,
    /// Who is not in it though they belonged to the home, and why.
    pub left_out: Vec<(String, String)>,
    /// It is of everybody, and the owner is not in it: there is no home in it.
    pub without_owner: bool,
    /// How many of the persons in it were erased since, and are not brought back.
    pub erased: usize,
}

/// Checks an archive in full. Changes nothing, and needs no data folder.
///
/// # Errors
/// The first thing that is wrong with it; a wrong password or phrase.
pub fn verify(
    path: &Path,
    secret: &RestoreSecret,
    go_on: &mut dyn FnMut(BackupStep) -> bool,
) -> Result<Verified, HomeError> {
    let archive = open(path, secret)?;
    let manifest = check(&archive, go_on)?;
    let erased = set::read_erasures(&archive, &manifest)?;
    let without_owner = archive.scope() == Scope::Whole && !owner::is_in(&archive, &manifest)?;
    Ok(Verified {
        created_at: set::time(archive.created_ms()),
        program: manifest.program,
        without_owner,
        one_person: archive.scope() == Scope::OnePerson,
        bytes: archive.parts().iter().map(|part| part.plain).sum(),
        erased: manifest
            .persons
            .iter()
            .filter(|person| erased.contains_key(&person.id))
            .count(),
        persons: manifest
            .persons
            .into_iter()
            .map(|person| {
                let rows = person.database.rows.values().sum();
                (person.name, (!person.sealed).then_some(rows))
            })
            .collect(),
        left_out: manifest
            .left_out
            .into_iter()
            .map(|one| (one.name, one.why))
            .collect(),
    })
}

/// Opens an archive with what a person has.
pub(crate) fn open(path: &Path, secret: &RestoreSecret) -> Result<Archive, HomeError> {
    let preface = Preface::read(&OsFilesystem, path)?;
    Ok(match secret {
        RestoreSecret::Password(password) => preface.open_with_password(password)?,
        RestoreSecret::Phrase(phrase) => preface.open_with_phrase(phrase)?,
    })
}

/// Authenticates everything, and sees that the parts are those that its maker tells of.
pub(crate) fn check(
    archive: &Archive,
    go_on: &mut dyn FnMut(BackupStep) -> bool,
) -> Result<Manifest, HomeError> {
    let manifest = Manifest::of(archive)?;
    let total = archive.parts().iter().map(|part| part.plain).sum();
    let mut done = 0;
    let checked = archive.verify(&mut |count| {
        done += count;
        go_on(BackupStep { done, total })
    });
    checked.map_err(|error| match error {
        aico_vault::archive::ArchiveError::Cancelled => BackupError::Stopped.into(),
        other => HomeError::from(other),
    })?;
    let persons = |part: &&aico_vault::archive::Part| part.kind == PartKind::Person;
    let told_of = manifest.persons.iter().all(|person| {
        let owner = Owner::Person(*person.id.as_bytes());
        archive.find(PartKind::Person, owner).is_some()
    });
    let as_many = archive.parts().iter().filter(persons).count() == manifest.persons.len();
    if !told_of || !as_many || archive.find(PartKind::System, Owner::System).is_none() {
        return Err(HomeError::Archive(
            aico_vault::archive::ArchiveError::Damaged {
                path: archive.path().to_owned(),
                reason: "its parts are not those that it tells of",
            },
        ));
    }
    Ok(manifest)
}
