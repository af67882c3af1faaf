//! One person's data put back into the home that it came from. Everybody else's stays as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_store::{Identity, OpenError, Store};
use aico_vault::archive::{Archive, ArchiveError};
use aico_vault::fs::OsFilesystem;
use aico_vault::{PersonKeyError, PersonKeys, Vault};
use jiff::Timestamp;
use rusqlite::OptionalExtension as _;

use super::BackupStep;
use super::create::STAGING;
use super::error::BackupError;
use super::files::{at, unpack};
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
    /// Their keyring was damaged or gone and is the archive's: their password is the one of then.
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
/// [`BackupError`]; whatever is wrong with archive, password or disk. Then their data is as it was.
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
    let (row, kept, password_of_then) = blocking(move || {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let staging = Scratch(data.join(format!("{STAGING}{}", &random[..16])));
        folder::create_private(&staging.0).map_err(at(&staging.0))?;
        let from = staging.0.join("unpacked.db");
        let (row, keyring, mut reader) = open_piece(&archive, entry.id)?;
        unpack(&mut reader, &from, &mut |_| true)?;
        let Keys {
            keys,
            from_archive,
            aside,
        } = keys_of(&vault, &entry, &keyring)?;
        let Some(keys) = keys else {
            let mut kept = put_sealed(&vault, &from, &to, &entry, &archive)?;
            kept.extend(aside);
            return Ok((row, kept, from_archive));
        };
        let key = keys::person_key(&keys, entry.database.key)?;
        let expected = entry.database.rows;
        let mut kept = Store::put_back(
            &from,
            &to,
            &key,
            &Identity::person(*entry.id.as_bytes()),
            &modules,
            Arc::new(vault),
            // Of one who was sealed then nothing was counted.
            &|said| entry.sealed || said.rows == expected,
        )?;
        kept.extend(aside);
        Ok((row, kept, from_archive))
    })
    .await?;
    working::remove_from(home.root(), id)?;
    know_again(system, row).await?;
    Ok(PutBack {
        created_at,
        rows,
        kept,
        password_of_then,
    })
}

/// What opens a person's data.
struct Keys {
    /// `None` when only they can open it.
    keys: Option<PersonKeys>,
    /// It is the archive's keyring.
    from_archive: bool,
    /// Where the one that was damaged is.
    aside: Option<PathBuf>,
}

/// The person's key: from their keyring as it is; where that is damaged or gone from the archive's,
/// which then takes its place.
fn keys_of(vault: &Vault, entry: &PersonEntry, keyring: &[u8]) -> Result<Keys, HomeError> {
    let id = *entry.id.as_bytes();
    let opened = || match keys::person_keys(vault, id) {
        Ok(keys) => Ok(Some(keys)),
        Err(HomeError::PersonLocked) => Ok(None),
        Err(error) => Err(error),
    };
    let path = vault.person_folder(id).join("keyring");
    match opened() {
        Ok(keys) => {
            return Ok(Keys {
                keys,
                from_archive: false,
                aside: None,
            });
        }
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
        Err(_) => None,
    };
    if let Err(error) = vault.put_keyring(id, keyring) {
        if let Some(aside) = &aside {
            fs::rename(aside, &path).map_err(at(&path))?;
        }
        return Err(HomeError::Keyring(error));
    }
    Ok(Keys {
        keys: opened()?,
        from_archive: true,
        aside,
    })
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
