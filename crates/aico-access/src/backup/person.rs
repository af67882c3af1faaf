//! One person's data put back into the home that it came from. Everybody else's stays as it is.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use aico_store::{Identity, OpenError, Store};
use aico_vault::archive::{Archive, ArchiveError};
use aico_vault::fs::OsFilesystem;
use aico_vault::{PersonKeyError, PersonKeys, Vault};
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rusqlite::OptionalExtension as _;

use super::BackupStep;
use super::create::STAGING;
use super::error::BackupError;
use super::files::{at, new_private, sha256_of, unpack};
use super::keys;
use super::manifest::{PersonEntry, PersonRow};
use super::noted::read_tombstones;
use super::restore::{RestoreSecret, open_piece, record_of};
use super::{set, verify};
use crate::home::{HomeConfig, PERSON_DB, blocking, person_folder};
use crate::keys::note;
use crate::{Home, HomeError, PersonName, folder, working};

/// A person's data was put back.
#[derive(Clone)]
pub struct PutBack {
    /// When the archive was made.
    pub created_at: Option<Timestamp>,
    /// Rows in their tables; 0 of one who was sealed when the archive was made.
    pub rows: u64,
    /// The files that what was there before is kept in, if there was anything.
    pub kept: Vec<PathBuf>,
    /// Their keyring was damaged or gone and is the archive's: their password is the one of then. Of
    /// a call that was cut off in between the next one says it.
    pub password_of_then: bool,
}

/// In the audit's table.
const PUT_BACK: &str = "backup.restore-person";

/// Puts the data of the person of this name from an archive in the place of what there is of it in
/// the data folder, which the caller has claimed and on which nothing is open. The archive is read
/// in full before. Their password stays the one of now, where their keyring is whole. What an
/// earlier call has kept stays.
///
/// # Errors
/// [`BackupError`]; whatever is wrong with archive, password or disk. Then their data is as it was;
/// it is put back where only the note of it in the system's store fails, and the same call again
/// finishes that.
pub async fn restore_person(
    config: HomeConfig,
    archive: PathBuf,
    secret: RestoreSecret,
    name: &str,
    mut go_on: impl FnMut(BackupStep) -> bool + Send + 'static,
) -> Result<PutBack, HomeError> {
    let name = PersonName::new(name)?.key();
    let (data, cost) = (config.data.clone(), config.kdf);
    let home = Home::open(config)?;
    let root = home.root().to_owned();
    let (archive, manifest, vault) = blocking(move || {
        let archive = verify::open(&archive, &secret)?;
        let manifest = verify::check(&archive, &mut go_on)?;
        let vault = archive.open_vault(Arc::new(OsFilesystem), &root, cost);
        let vault = vault.map_err(|error| match error {
            aico_vault::archive::ArchiveError::OtherKey { path } => {
                BackupError::OtherHome { path }.into()
            }
            other => HomeError::from(other),
        })?;
        Ok((archive, manifest, vault))
    })
    .await?;
    let erased = set::read_erasures(&archive, &manifest)?;
    let entry = manifest
        .persons
        .into_iter()
        .find(|person| PersonName::new(&person.name).is_ok_and(|known| known.key() == name));
    let entry = entry.ok_or_else(|| BackupError::NoPiece {
        path: archive.path().to_owned(),
    })?;
    let listed = erased.contains_key(&entry.id);
    let system = home.open_system(&vault).await?;
    let done = put_back(&home, &system, &vault, archive, entry, listed, data).await;
    let closed = system.close().await;
    let done = done?;
    closed?;
    Ok(done)
}

async fn put_back(
    home: &Home,
    system: &Store,
    vault: &Vault,
    archive: Archive,
    entry: PersonEntry,
    listed: bool,
    data: PathBuf,
) -> Result<PutBack, HomeError> {
    if listed || system.read(read_tombstones).await?.contains_key(&entry.id) {
        return Err(BackupError::Erased.into());
    }
    // Before anything of theirs is replaced.
    if is_anothers_name(system, &entry).await? {
        return Err(BackupError::NameTaken.into());
    }
    let created_at = set::time(archive.created_ms());
    let rows = entry.database.rows.values().sum();
    let vault = vault.clone();
    let modules = home.inner.config.person_migrations.clone();
    let id = entry.id;
    let to = person_folder(home.root(), id).join(PERSON_DB);
    let root = home.root().to_owned();
    let (row, mut kept, put) = blocking(move || {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let staging = Scratch(data.join(format!("{STAGING}{}", &random[..16])));
        folder::create_private(&staging.0).map_err(at(&staging.0))?;
        let from = staging.0.join("unpacked.db");
        let (row, keyring, mut reader) = open_piece(&archive, entry.id)?;
        unpack(&mut reader, &from, &mut |_| true)?;
        let (keys, mut put) = keys_of(&vault, &entry, &keyring)?;
        let key = match &keys {
            Some(keys) => Some(keys::person_key(keys, entry.database.key)?),
            None => None,
        };
        // Before their data is exchanged: it can be lost at any moment, and after that it would be
        // of other data.
        working::remove_from(&root, entry.id)?;
        let (identity, registry) = (Identity::person(*entry.id.as_bytes()), vault.clone());
        let done = match key {
            Some(key) => Store::put_back(
                &from,
                &to,
                &key,
                &identity,
                &modules,
                Arc::new(vault),
                // Of one who was sealed then nothing was counted.
                &|said| entry.sealed || said.rows == entry.database.rows,
            )
            .map_err(HomeError::from),
            None => put_sealed(&vault, &from, &to, &entry, &archive),
        };
        if let Some(put) = &mut put {
            // Where it failed once it was decided, the next opening finishes it.
            put.stays |= done.is_ok() || Store::will_be_put_back(&identity, &registry);
        }
        Ok((row, done?, put))
    })
    .await?;
    // An owner signs in with the master password, which opens whatever keyring they have.
    let has_own_password = row.role != "owner";
    know_again(system, row).await?;
    let password_of_then = put.is_some() && has_own_password;
    kept.extend(put.and_then(PutKeyring::end));
    Ok(PutBack {
        created_at,
        rows,
        kept,
        password_of_then,
    })
}

/// The archive's keyring in the place of a person's. Until their data is the archive's as well it
/// goes again when it is dropped: of a restore that failed nobody is told that the password of then
/// counts. A note beside it says that this has yet to be told, to the call after one that was cut
/// off, too.
struct PutKeyring {
    path: PathBuf,
    /// Where the one that was damaged is.
    aside: Option<PathBuf>,
    /// Nothing takes it back any more.
    stays: bool,
}

impl PutKeyring {
    /// The one that an earlier call has put there and not told of.
    fn left_by_an_earlier(path: &Path) -> Option<Self> {
        let noted = fs::read(note_beside(path)).ok()?;
        // Another file since: whoever signed in and changed it knows the password.
        (noted == sha256_of(path).ok()?).then(|| Self {
            path: path.to_owned(),
            aside: None,
            stays: true,
        })
    }

    /// Notes that this keyring is about to be put there.
    fn note(&self, keyring: &[u8]) -> io::Result<()> {
        let (note, hash) = (note_beside(&self.path), digest(&SHA256, keyring));
        // The folder may be gone with everything in it.
        note.parent().map_or(Ok(()), folder::create_durable)?;
        remove_if_there(&note)?;
        let mut file = new_private(&note)?;
        file.write_all(hash.as_ref())?;
        file.sync_all()?;
        note.parent().map_or(Ok(()), folder::sync_folder)
    }

    /// All is done and it is told. Answers where the one that was damaged is.
    fn end(mut self) -> Option<PathBuf> {
        if let Err(error) = remove_if_there(&note_beside(&self.path)) {
            tracing::warn!(%error, "the next restore tells once more of a password of then");
        }
        self.aside.take()
    }

    fn take_back(&self) -> io::Result<()> {
        match &self.aside {
            Some(aside) => fs::rename(aside, &self.path)?,
            None => remove_if_there(&self.path)?,
        }
        remove_if_there(&note_beside(&self.path))?;
        self.path.parent().map_or(Ok(()), folder::sync_folder)
    }
}

impl Drop for PutKeyring {
    fn drop(&mut self) {
        if !self.stays
            && let Err(error) = self.take_back()
        {
            tracing::error!(
                %error,
                path = %self.path.display(),
                "a keyring from a backup could not be taken back; it has the password of then"
            );
        }
    }
}

/// The person's key: from their keyring as it is; where that is damaged or gone from the archive's,
/// which then takes its place. `None` for a key that only they can open.
fn keys_of(
    vault: &Vault,
    entry: &PersonEntry,
    keyring: &[u8],
) -> Result<(Option<PersonKeys>, Option<PutKeyring>), HomeError> {
    let id = *entry.id.as_bytes();
    let opened = || match keys::person_keys(vault, id) {
        Ok(keys) => Ok(Some(keys)),
        Err(HomeError::PersonLocked) => Ok(None),
        Err(error) => Err(error),
    };
    let path = vault.person_folder(id).join("keyring");
    match opened() {
        Ok(keys) => return Ok((keys, PutKeyring::left_by_an_earlier(&path))),
        Err(HomeError::Keyring(
            error @ (PersonKeyError::Absent { .. }
            | PersonKeyError::Damaged { .. }
            | PersonKeyError::KdfOutOfBounds { .. }),
        )) => tracing::warn!(%error, "a keyring is put back from a backup"),
        // It may be whole: with the archive's another password would count, without a word.
        Err(HomeError::Keyring(source @ PersonKeyError::File(_))) => {
            return Err(BackupError::KeyringUnreadable { path, source }.into());
        }
        Err(error) => return Err(error),
    }
    let aside = match fs::symlink_metadata(&path) {
        Ok(_) => {
            let aside = free_name(&path);
            fs::rename(&path, &aside).map_err(at(&path))?;
            Some(aside)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(at(&path)(error)),
    };
    let put = PutKeyring {
        path,
        aside,
        stays: false,
    };
    put.note(keyring).map_err(at(&put.path))?;
    vault.put_keyring(id, keyring).map_err(HomeError::Keyring)?;
    Ok((opened()?, Some(put)))
}

/// The hash of a keyring that is out of an archive, which has yet to be told.
fn note_beside(keyring: &Path) -> PathBuf {
    keyring.with_file_name("keyring.from-backup")
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A name for a keyring that is replaced, which nothing has yet: what an earlier restore kept stays.
fn free_name(keyring: &Path) -> PathBuf {
    let mut name = keyring.with_file_name("keyring.before-restore");
    let mut count = 1;
    while fs::symlink_metadata(&name).is_ok() {
        count += 1;
        name = keyring.with_file_name(format!("keyring.before-restore-{count}"));
    }
    name
}

/// For somebody who alone can open it: the file takes its place as it lies. Their keyring, which has
/// the keys from before as well, stays.
fn put_sealed(
    vault: &Vault,
    from: &Path,
    to: &Path,
    entry: &PersonEntry,
    archive: &Archive,
) -> Result<Vec<PathBuf>, HomeError> {
    let identity = Identity::person(*entry.id.as_bytes());
    let record = record_of(&entry.database);
    let put = Store::put_back_unopened(from, to, &identity, Arc::new(vault.clone()), &record);
    put.map_err(|error| match error {
        OpenError::ChangedSinceStop { path } if path == from => {
            HomeError::Archive(ArchiveError::Damaged {
                path: archive.path().to_owned(),
                reason: "a database in it is not the one that it tells of",
            })
        }
        other => other.into(),
    })
}

/// Whether somebody else has the name now of one whom the home no longer knows.
async fn is_anothers_name(system: &Store, entry: &PersonEntry) -> Result<bool, HomeError> {
    let (id, name) = (entry.id, PersonName::new(&entry.name)?.key());
    let taken = system.read(move |db| {
        let sql = "SELECT 1 FROM access_person WHERE name_key = ?2
                   AND NOT EXISTS (SELECT 1 FROM access_person WHERE id = ?1)";
        let row = db.query_row(sql, rusqlite::params![id.as_bytes(), name], |_| Ok(()));
        Ok(row.optional()?.is_some())
    });
    Ok(taken.await?)
}

/// The row of somebody whose data was left out once, and whom the home no longer knows.
async fn know_again(system: &Store, row: PersonRow) -> Result<(), HomeError> {
    let name = PersonName::new(&row.name)?;
    let noted = system.write(move |tx| {
        note(tx, PUT_BACK)?;
        tx.execute(
            "INSERT INTO access_person (id, name, name_key, role, created_ms)
             SELECT ?1, ?2, ?3, 'member', ?4
             WHERE NOT EXISTS (SELECT 1 FROM access_person WHERE id = ?1)",
            rusqlite::params![row.id.as_bytes(), name.as_str(), name.key(), row.created_ms],
        )?;
        Ok(())
    });
    Ok(noted.await?)
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
