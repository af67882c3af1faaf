//! A home made of an archive: built beside what is there, checked, and swapped with it.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_contracts::ids::PersonId;
use aico_store::{Identity, Store, StoreError, StoreRecord, StoreRegistry};
use aico_vault::archive::{Archive, ArchiveError, ArchiveKey, PartKind, PartReader, Scope};
use aico_vault::fs::OsFilesystem;
use aico_vault::{KdfCost, Owner, Password, Purpose, RecoveryPhrase, Vault};
use jiff::Timestamp;
use uuid::Uuid;

use super::BackupStep;
use super::erase::leave_to_the_other;
use super::error::BackupError;
use super::files::{archive_error, at, sha256_of, unpack};
use super::keys;
use super::manifest::{ConfigurationPlace, Database, Manifest, PersonEntry, PersonRow};
use super::noted::note_archive;
use super::owner::{self, is_owner};
use super::present::{erased_at, erased_in_usual};
use super::set::{self, Erasures};
use super::verify;
use crate::home::{HomeConfig, PERSON_DB, SIGNING_KEY, SYSTEM_DB, blocking, person_folder};
use crate::keys::note;
use crate::swap::Next;
use crate::{Home, HomeError, Role, folder, secrets, stores, token, working};

/// What opens an archive.
pub enum RestoreSecret {
    /// The master password of when it was made.
    Password(Password),
    /// The recovery phrase of when it was made.
    Phrase(RecoveryPhrase),
}

/// What is asked for.
pub struct RestoreRequest {
    /// The archive.
    pub archive: PathBuf,
    /// What opens it.
    pub secret: RestoreSecret,
    /// There must be no home yet: a folder was named to restore to.
    pub only_where_none_is: bool,
    /// The data folder that is used otherwise, when this is another one. Who was erased there, or
    /// stands in the list in its usual folder of backups, does not come back. It may be in use. The
    /// archives that there are stay with it: an erasure in what is restored does not touch them.
    pub usual: Option<PathBuf>,
}

/// A home that was restored.
#[derive(Clone)]
pub struct Restored {
    /// When the archive was made.
    pub created_at: Option<Timestamp>,
    /// Where what was there before is kept.
    pub kept: Option<PathBuf>,
    /// How many persons there are.
    pub persons: usize,
    /// Rows of all their tables, counted before and after.
    pub rows: u64,
    /// How many were erased since, and stayed so.
    pub erased: usize,
    /// Persons who were not in the archive, and why. Personal, so without Debug.
    pub left_out: Vec<(String, String)>,
    /// Modules of other makers that have to be admitted again.
    pub modules: Vec<String>,
    /// Where the configuration was put.
    pub configuration: Option<PathBuf>,
    /// There was a home, here or in the usual data folder, whose list of the erased could not be
    /// read.
    pub unread_erasures: bool,
    /// The home that the archives are of is still there, and they were left to it.
    pub drill: bool,
}

/// What a restore makes of the parts.
struct Building<'a> {
    archive: &'a Archive,
    manifest: &'a Manifest,
    vault: Vault,
    home: &'a Home,
    /// Beside the home that the archives are of, and not in its place.
    elsewhere: bool,
    /// Files on their way.
    scratch: PathBuf,
    done: u64,
    total: u64,
    go_on: Box<dyn FnMut(BackupStep) -> bool + Send + 'a>,
}

/// Makes the archive's home the one of the data folder, which the caller has claimed and on which
/// nothing is open. The archive is read in full before anything is made; what is made is whole and
/// checked before it takes its place; what was there is kept.
///
/// # Errors
/// Whatever is wrong with archive, password or disk. Then the data folder is as it was.
pub async fn restore(
    config: HomeConfig,
    request: RestoreRequest,
    mut go_on: impl FnMut(BackupStep) -> bool + Send + 'static,
) -> Result<Restored, HomeError> {
    let data = config.data.clone();
    crate::swap::finish(&data)?;
    let there = data.join("home");
    let is_there = fs::symlink_metadata(&there).is_ok();
    if request.only_where_none_is && is_there {
        return Err(BackupError::Occupied { path: data }.into());
    }
    let usual = request.usual;
    let backups = config.backups.clone();
    let (archive, manifest, secret, go_on) = blocking(move || {
        let archive = verify::open(&request.archive, &request.secret)?;
        if archive.scope() == Scope::OnePerson {
            return Err(BackupError::NotWhole {
                path: request.archive,
            }
            .into());
        }
        let manifest = verify::check(&archive, &mut go_on)?;
        if !owner::is_in(&archive, &manifest)? {
            return Err(owner::missing(&archive, &request.secret, &backups).into());
        }
        Ok((archive, manifest, request.secret, go_on))
    })
    .await?;
    let mut erased = set::read_erasures(&archive, &manifest)?;
    // The archive may come from elsewhere: a disk that was away when somebody was erased.
    erased.extend(set::read_erasures_in(&config.backups, &archive, &manifest)?);
    let vault_there = Vault::id_of(&there).ok();
    // One that is lost needs its archives no more.
    let elsewhere = usual
        .as_deref()
        .is_some_and(|usual| !is_same(usual, &data) && may_have(usual, &archive));
    // Another vault's persons are others.
    let other = vault_there.is_some_and(|id| id != archive.vault());
    let mut unread_erasures = false;
    if is_there && !other {
        match erased_at(&there, &archive, Some(secret), &config).await {
            Ok(known) => erased.extend(known),
            Err(error) => {
                tracing::warn!(%error, "who was erased in the present data can't be read");
                let listed = set::is_kept_up_to_date(&config.backups, archive.vault());
                if vault_there.is_some() && !listed {
                    return Err(BackupError::ErasedUnknown { home: there }.into());
                }
                unread_erasures = true;
            }
        }
    } else if let Some(usual) = usual {
        let (known, unread) = erased_in_usual(&usual, &archive, &manifest, secret, &config).await?;
        erased.extend(known);
        unread_erasures = unread;
    }
    let unread_logs = is_there && is_of_another_key(&archive, &there, config.kdf);

    let next = Next::begin(&data)?;
    let root = next.folder().join("home");
    folder::create_private(&root).map_err(at(&root))?;
    let kdf = config.kdf;
    let home = Home::open(HomeConfig {
        data: next.folder().to_owned(),
        ..config
    })?;
    let vault = archive.restore_vault(Arc::new(OsFilesystem), &root, kdf)?;
    let mut building = Building {
        archive: &archive,
        manifest: &manifest,
        vault,
        home: &home,
        elsewhere,
        scratch: next.folder().join("scratch"),
        done: 0,
        total: archive.parts().iter().map(|part| part.plain).sum(),
        go_on: Box::new(go_on),
    };
    let (mut restored, configuration) = building.everything(&erased).await?;
    drop(building);
    drop(home);

    let mut names = vec!["home"];
    if let Some(name) = configuration {
        names.push(name);
        restored.configuration = Some(data.join(name));
    }
    // They could not be read here any more.
    if unread_logs {
        names.push("logs");
    }
    restored.kept = blocking(move || next.take_place(&names, "restore")).await?;
    if let Some(kept) = &restored.kept {
        working::remove_all_from(&kept.join("home"));
    }
    restored.created_at = set::time(archive.created_ms());
    restored.unread_erasures = unread_erasures;
    restored.drill = elsewhere;
    tracing::info!(persons = restored.persons, "a backup was restored");
    Ok(restored)
}

/// Whether both paths are of one folder.
fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// Whether the home of an archive is in this data folder, or one that nobody can tell from it.
fn may_have(data: &Path, archive: &Archive) -> bool {
    let home = data.join("home");
    match Vault::id_of(&home) {
        Ok(vault) => vault == archive.vault(),
        Err(_) => fs::symlink_metadata(&home).is_ok(),
    }
}

/// Whether what a home has under its root key does not open with the archive's: it is another
/// vault's, or from before or after a change of that key.
fn is_of_another_key(archive: &Archive, there: &Path, cost: KdfCost) -> bool {
    let opened = archive.open_vault(Arc::new(OsFilesystem), there, cost);
    matches!(opened, Err(ArchiveError::OtherKey { .. }))
}

impl Building<'_> {
    async fn everything(
        &mut self,
        erased: &Erasures,
    ) -> Result<(Restored, Option<&'static str>), HomeError> {
        folder::create_private(&self.scratch).map_err(at(&self.scratch))?;
        let mut rows = Vec::new();
        let mut counted = 0;
        let mut gone = 0;
        for entry in &self.manifest.persons {
            if erased.contains_key(&entry.id) {
                gone += 1;
                continue;
            }
            rows.push(self.person(entry).await?);
            counted += entry.database.rows.values().sum::<u64>();
        }
        if rows.iter().filter(|row| is_owner(&row.role)).count() != 1 {
            return Err(self.damaged("its owner is not in it"));
        }
        let modules = self.system(&rows, erased).await?;
        let configuration = self.configuration()?;
        if let Some(secrets) = &self.manifest.secrets {
            let no_sense = || self.damaged("what it has of secrets makes no sense");
            secrets::put_back(&self.vault, secrets, no_sense)?;
        }
        fs::remove_dir_all(&self.scratch).map_err(at(&self.scratch))?;
        let restored = Restored {
            created_at: None,
            kept: None,
            persons: rows.len(),
            rows: counted,
            erased: gone,
            left_out: self
                .manifest
                .left_out
                .iter()
                .map(|one| (one.name.clone(), one.why.clone()))
                .collect(),
            modules,
            configuration: None,
            unread_erasures: false,
            drill: false,
        };
        Ok((restored, configuration))
    }

    fn damaged(&self, reason: &'static str) -> HomeError {
        HomeError::Archive(ArchiveError::Damaged {
            path: self.archive.path().to_owned(),
            reason,
        })
    }

    /// Keyring and database of one person, which is opened once, so that it is known to open and
    /// an older one has migrated.
    async fn person(&mut self, entry: &PersonEntry) -> Result<PersonRow, HomeError> {
        let from = self.scratch.join("unpacked.db");
        let (row, keyring) = self.unpack_person(entry, &from)?;
        let id = *entry.id.as_bytes();
        let put = self
            .vault
            .put_keyring(id, &keyring)
            .map_err(HomeError::Keyring)?;
        self.vault.begin_prompt_cache(id)?;
        let to = person_folder(self.home.root(), entry.id).join(PERSON_DB);
        if entry.sealed || !put.opens_unattended {
            // Nobody but they can open it, so it is put there as it is.
            fs::rename(&from, &to).map_err(at(&to))?;
            let id = Identity::person(*entry.id.as_bytes()).store_id();
            StoreRegistry::put(&self.vault, &id, &record_of(&entry.database))
                .map_err(|error| HomeError::Store(StoreError::Registry(error)))?;
            return Ok(row);
        }
        let keys = keys::person_keys(&self.vault, id)?;
        let key = keys::person_key(&keys, entry.database.key)?;
        let (vault, expected) = (self.vault.clone(), entry.database.rows.clone());
        let modules = self.home.inner.config.person_migrations.clone();
        blocking(move || {
            Store::adopt(
                &from,
                &to,
                &key,
                &Identity::person(id),
                &modules,
                Arc::new(vault),
                &|said| said.rows == expected,
            )?;
            fs::remove_file(&from).map_err(at(&from))
        })
        .await?;
        let store = self
            .home
            .open_person_store(&self.vault, entry.id, keys)
            .await?;
        store.close().await?;
        Ok(row)
    }

    fn unpack_person(
        &mut self,
        entry: &PersonEntry,
        to: &Path,
    ) -> Result<(PersonRow, Vec<u8>), HomeError> {
        let archive = self.archive;
        let (row, keyring, mut reader) = open_piece(archive, entry.id)?;
        self.unpack(&mut reader, to, &entry.database)?;
        Ok((row, keyring))
    }

    /// Writes the rest of a part to a new private file, which has to be the one that was packed.
    fn unpack(
        &mut self,
        reader: &mut PartReader<'_>,
        to: &Path,
        packed: &Database,
    ) -> Result<(), HomeError> {
        let (done, total) = (&mut self.done, self.total);
        let go_on = &mut self.go_on;
        unpack(reader, to, &mut |count| {
            *done += count;
            go_on(BackupStep { done: *done, total })
        })?;
        if sha256_of(to).map_err(at(to))? != packed.sha256 {
            return Err(self.damaged("a database in it is not the one that it tells of"));
        }
        Ok(())
    }

    /// The system's store, with what a restore makes anew. Answers the modules that were admitted.
    async fn system(
        &mut self,
        persons: &[PersonRow],
        erased: &Erasures,
    ) -> Result<Vec<String>, HomeError> {
        let from = self.scratch.join("unpacked.db");
        let archive = self.archive;
        let part = archive
            .find(PartKind::System, Owner::System)
            .ok_or_else(|| self.damaged("it has no system's store"))?;
        let mut reader = archive.read(part)?;
        let packed = self.manifest.system.clone();
        self.unpack(&mut reader, &from, &packed)?;
        let to = self.home.root().join(SYSTEM_DB);
        let vault = self.vault.clone();
        let modules = stores::modules_of_system(&self.home.inner.config);
        blocking(move || {
            let key = keys::system_key(&vault, packed.key)?;
            Store::adopt(
                &from,
                &to,
                &key,
                &Identity::system(),
                &modules,
                Arc::new(vault),
                &|said| said.rows == packed.rows,
            )?;
            fs::remove_file(&from).map_err(at(&from))
        })
        .await?;
        let system = self.home.open_system(&self.vault).await?;
        let anew = self.make_anew(&system, persons, erased).await;
        system.close().await?;
        anew
    }

    async fn make_anew(
        &self,
        system: &Store,
        persons: &[PersonRow],
        erased: &Erasures,
    ) -> Result<Vec<String>, HomeError> {
        let signing_key = token::new_signing_key().map_err(|_| HomeError::Crypto)?;
        let sealed = self.vault.seal(
            Purpose::SigningKey,
            Owner::System,
            SIGNING_KEY,
            &signing_key,
        );
        let (persons, erased) = (persons.to_vec(), erased.clone());
        let elsewhere = self.elsewhere;
        let archive = self.archive;
        let id = archive.id();
        let key: ArchiveKey = archive.own_key();
        let key = key.seal(&self.vault, id);
        let path = fs::canonicalize(archive.path()).unwrap_or_else(|_| archive.path().to_owned());
        let path = path.to_string_lossy().into_owned();
        let created = i64::try_from(archive.created_ms()).unwrap_or(0);
        let inside: Vec<PersonId> = self.manifest.persons.iter().map(|p| p.id).collect();
        let modules = system
            .write(move |tx| {
                let modules = {
                    let mut query = tx.prepare("SELECT name FROM access_module ORDER BY name")?;
                    let names = query.query_map([], |row| row.get(0))?;
                    names.collect::<Result<Vec<String>, _>>()?
                };
                tx.execute_batch(
                    "DELETE FROM access_session; DELETE FROM access_token;
                     DELETE FROM access_broker; DELETE FROM access_module;
                     DELETE FROM access_person;",
                )?;
                tx.execute(
                    "UPDATE access_instance SET id = ?1, signing_key = ?2",
                    rusqlite::params![Uuid::new_v4().as_bytes(), sealed],
                )?;
                for person in &persons {
                    let name =
                        crate::PersonName::new(&person.name).map_err(|_| StoreError::Conversion)?;
                    tx.execute(
                        "INSERT INTO access_person (id, name, name_key, role, created_ms)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                        rusqlite::params![
                            person.id.as_bytes(),
                            name.as_str(),
                            name.key(),
                            Role::parse(&person.role)
                                .ok_or(StoreError::Conversion)?
                                .as_str(),
                            person.created_ms,
                        ],
                    )?;
                }
                for (person, when) in &erased {
                    tx.execute(
                        "INSERT OR IGNORE INTO access_tombstone (person, erased_ms)
                         VALUES (?1, ?2)",
                        rusqlite::params![person.as_bytes(), when],
                    )?;
                    // As the erasure itself did, after this archive was made.
                    for sql in [
                        "DELETE FROM access_person WHERE id = ?1",
                        "DELETE FROM access_audit WHERE person = ?1",
                        "DELETE FROM rotation_pending WHERE person = ?1",
                    ] {
                        tx.execute(sql, [person.as_bytes()])?;
                    }
                }
                note_archive(tx, id, &path, created, &key, &inside)?;
                if elsewhere {
                    leave_to_the_other(tx)?;
                }
                note(tx, RESTORED)?;
                Ok(modules)
            })
            .await?;
        Ok(modules)
    }

    /// The configuration, where it lay; one that lay elsewhere under another name.
    fn configuration(&self) -> Result<Option<&'static str>, HomeError> {
        let part = self.archive.find(PartKind::Configuration, Owner::System);
        let (Some(part), Some(place)) = (part, self.manifest.configuration) else {
            return Ok(None);
        };
        let name = match place {
            ConfigurationPlace::Data => "config.yaml",
            ConfigurationPlace::Elsewhere => "config.restored.yaml",
        };
        let mut reader = self.archive.read(part)?;
        let to = self.scratch.with_file_name(name);
        unpack(&mut reader, &to, &mut |_| true)?;
        Ok(Some(name))
    }
}

/// What the registry is to know of a database that is taken from an archive as it lies.
pub(crate) fn record_of(database: &Database) -> StoreRecord {
    StoreRecord {
        salt: database.salt,
        generation: database.generation,
        last_sequence: database.sequence,
        closed_hash: Some(database.sha256),
        key: database.key,
    }
}

/// In the audit's table.
const RESTORED: &str = "backup.restore";
/// Longest row and keyring in a piece, in bytes.
const MOST_FIELD: u32 = 256 * 1024;

/// What stands before the database in a person's piece, and the reader of the rest.
pub(crate) fn open_piece(
    archive: &Archive,
    person: PersonId,
) -> Result<(PersonRow, Vec<u8>, PartReader<'_>), HomeError> {
    let damaged = |reason| {
        HomeError::Archive(ArchiveError::Damaged {
            path: archive.path().to_owned(),
            reason,
        })
    };
    let owner = Owner::Person(*person.as_bytes());
    let part = archive.find(PartKind::Person, owner).ok_or_else(|| {
        HomeError::from(BackupError::NoPiece {
            path: archive.path().to_owned(),
        })
    })?;
    let mut reader = archive.read(part)?;
    let cut = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("a person's piece is cut off"),
        _ => archive_error(error),
    };
    let mut field = || {
        let mut length = [0; 4];
        reader.read_exact(&mut length).map_err(cut)?;
        let length = u32::from_be_bytes(length);
        if length > MOST_FIELD {
            return Err(damaged("a field in it is far too long"));
        }
        let mut field = vec![0; length as usize];
        reader.read_exact(&mut field).map_err(cut)?;
        Ok(field)
    };
    let (row, keyring) = (field()?, field()?);
    let row: PersonRow = serde_json::from_slice(&row)
        .map_err(|_| damaged("what it says of a person makes no sense"))?;
    if row.id != person {
        return Err(damaged("a person's piece is another's"));
    }
    Ok((row, keyring, reader))
}
