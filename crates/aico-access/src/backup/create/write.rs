//! How an archive is written of what is held.

use std::borrow::Cow;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use aico_contracts::ids::PersonId;
use aico_store::{Identity, OpenError, StoreError};
use aico_vault::Owner;
use aico_vault::archive::{ArchiveWriter, PartKind};
use rusqlite::Transaction;

use super::plan::{Held, HeldPerson, Plan, told};
use super::staging::Staging;
use super::{BackupStep, LeftOut, STAGING, Scope};
use crate::backup::error::BackupError;
use crate::backup::files::{archive_error, at, copy_file, pour, sha256_of};
use crate::backup::manifest::{
    ConfigurationPlace, Database, LeftOutEntry, Manifest, PersonEntry, PersonRow,
};
use crate::backup::set;
use crate::home::{PERSON_DB, person_folder};
use crate::{HomeError, Person, secrets};

/// Largest configuration file that is taken along, in bytes.
const MOST_CONFIGURATION: u64 = 1 << 20;

/// An archive that lacks its end, and with that its name. Dropped, nothing of it is left.
pub(super) struct Unnamed {
    archive: ArchiveWriter,
    manifest: Vec<u8>,
    pub(super) written: Written,
}

impl Unnamed {
    /// Puts it in its place. Answers its length in bytes as well.
    pub(super) fn finish(self) -> Result<(Written, u64), HomeError> {
        let length = self.archive.finish(&self.manifest)?;
        Ok((self.written, length))
    }
}

/// What is known of an archive that was made.
pub(super) struct Written {
    pub(super) id: [u8; 16],
    pub(super) path: PathBuf,
    /// Its key, sealed.
    pub(super) key: Vec<u8>,
    pub(super) persons: Vec<PersonId>,
    pub(super) left_out: Vec<LeftOut>,
    /// Why the configuration's secrets are not in it, as a sentence without its end.
    pub(super) secrets_left_out: Option<String>,
}

/// Hears how far it is and says whether it goes on.
type Go<'a> = &'a mut dyn FnMut(BackupStep) -> bool;

/// Counts the bytes of copying and of writing.
struct Meter<'a> {
    done: u64,
    total: u64,
    go_on: Go<'a>,
}

impl Meter<'_> {
    fn add(&mut self, bytes: u64) -> bool {
        self.done += bytes;
        self.total = self.total.max(self.done);
        (self.go_on)(BackupStep {
            done: self.done,
            total: self.total,
        })
    }
}

impl Plan {
    pub(super) fn write(mut self, go_on: Go<'_>) -> Result<Unnamed, HomeError> {
        let staging = self.staging()?;
        let sizes = std::iter::once(&self.system)
            .chain(
                self.persons
                    .iter()
                    .filter_map(|person| person.store.as_ref()),
            )
            .map(|held| held.view.size());
        let bytes = sizes.sum::<Result<u64, StoreError>>()?;
        let mut meter = Meter {
            done: 0,
            total: 2 * bytes,
            go_on,
        };
        let path = set::new_path(&self.folder, self.now);
        let created = u64::try_from(self.now.as_millisecond()).unwrap_or(0);
        let fs = self.vault.filesystem();
        let mut archive = self.vault.begin_archive(fs, &path, self.scope, created)?;
        let copy = staging.path.join("copy.db");

        let system = copy_store(&self.system, &copy, &strip_system, &mut meter)?;
        let mut part = archive.part(PartKind::System, Owner::System);
        pour(&copy, &mut part, &mut |bytes| meter.add(bytes))?;
        part.finish()?;
        remove(&copy)?;
        let (secrets, secrets_left_out) = match self.secrets() {
            Ok(secrets) => (secrets, None),
            // A backup without them is better than none.
            Err(error) => {
                tracing::warn!(%error, "the configuration's secrets could not be taken into a backup");
                (None, Some(told(&error)))
            }
        };
        let mut manifest = Manifest {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            created: self.now,
            system,
            persons: Vec::new(),
            left_out: Vec::new(),
            list_key: *self.list.bytes(),
            configuration: None,
            secrets,
        };
        let mut first = None;
        for held in &self.persons {
            match self.write_person(held, &mut archive, &copy, &mut meter) {
                Ok(entry) => manifest.persons.push(entry),
                Err(error) if self.is_theirs(held, &error) => {
                    self.left_out.push(LeftOut {
                        id: held.person.id,
                        name: held.person.name.as_str().to_owned(),
                        why: told(&error),
                    });
                    first.get_or_insert(error);
                    // The next one's is to have its name.
                    let _ = fs::remove_file(&copy);
                }
                Err(error) => return Err(error),
            }
        }
        if manifest.persons.is_empty() {
            return Err(first.unwrap_or(HomeError::PersonLocked));
        }
        manifest.configuration = self.write_configuration(&mut archive)?;
        manifest.left_out = self
            .left_out
            .iter()
            .map(|one| LeftOutEntry {
                id: Some(one.id),
                name: one.name.clone(),
                why: one.why.clone(),
            })
            .collect();
        let (id, key) = (archive.id(), archive.key().seal(&self.vault, archive.id()));
        Ok(Unnamed {
            archive,
            manifest: manifest.encode(),
            written: Written {
                id,
                path,
                key,
                persons: manifest.persons.iter().map(|person| person.id).collect(),
                left_out: self.left_out,
                secrets_left_out,
            },
        })
    }

    /// Beside the data; where that takes no writes beside the archives, which have to be somewhere
    /// else then.
    fn staging(&self) -> Result<Staging, HomeError> {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{STAGING}{}", &random[..16]);
        Staging::begin(self.data.join(&name)).or_else(|error| {
            tracing::warn!(%error, "copies for a backup are made beside the backups");
            Staging::begin(self.folder.join(&name))
        })
    }

    /// Whether an error is about what one person has, and nobody else goes without a backup for
    /// it: they are away and were not closed well, or have come meanwhile, or what is theirs can't
    /// be read.
    fn is_theirs(&self, held: &HeldPerson, error: &HomeError) -> bool {
        match error {
            HomeError::PersonLocked
            | HomeError::Keyring(_)
            | HomeError::Open(OpenError::ChangedSinceStop { .. }) => true,
            HomeError::Open(error) => match &held.store {
                Some(store) => store.view.can_not_be_read(error),
                None => false,
            },
            HomeError::Folder { path, .. } => *path == self.database_of(&held.person),
            _ => false,
        }
    }

    fn database_of(&self, person: &Person) -> PathBuf {
        person_folder(&self.root, person.id).join(PERSON_DB)
    }

    fn write_person(
        &self,
        held: &HeldPerson,
        archive: &mut ArchiveWriter,
        copy: &Path,
        meter: &mut Meter<'_>,
    ) -> Result<PersonEntry, HomeError> {
        let person = &held.person;
        let (database, keyring) = match &held.store {
            Some(store) => {
                let nothing = |_: &Transaction<'_>| Ok(());
                let database = copy_store(store, copy, &nothing, meter)?;
                (database, Cow::Borrowed(&held.keyring))
            }
            None => {
                let database = self.copy_sealed(person, copy)?;
                // After the database: they may have come, changed their keys, and gone.
                let id = *person.id.as_bytes();
                let keyring = self.vault.keyring_of(id).map_err(HomeError::Keyring)?;
                (database, Cow::Owned(keyring.bytes))
            }
        };
        let row = PersonRow {
            id: person.id,
            name: person.name.as_str().to_owned(),
            role: person.role.as_str().to_owned(),
            created_ms: person.created_at.as_millisecond(),
        };
        let row = serde_json::to_vec(&row).map_err(|_| HomeError::Task)?;
        let owner = Owner::Person(*person.id.as_bytes());
        let mut part = archive.part(PartKind::Person, owner);
        for piece in [&row, &*keyring] {
            let length = u32::try_from(piece.len()).map_err(|_| HomeError::Task)?;
            part.write_all(&length.to_be_bytes())
                .and_then(|()| part.write_all(piece))
                .map_err(archive_error)?;
        }
        pour(copy, &mut part, &mut |bytes| meter.add(bytes))?;
        part.finish()?;
        remove(copy)?;
        Ok(PersonEntry {
            id: person.id,
            name: person.name.as_str().to_owned(),
            sealed: held.store.is_none(),
            database,
        })
    }

    /// A sealed person's database, which nobody has open and nobody here can: as it lies, if the
    /// registry vouches for it.
    fn copy_sealed(&self, person: &Person, copy: &Path) -> Result<Database, HomeError> {
        let id = Identity::person(*person.id.as_bytes()).store_id();
        let record = self.vault.registry().get(&id);
        let path = self.database_of(person);
        let (record, hash) = record
            .and_then(|record| Some((record, record.closed_hash?)))
            .ok_or(HomeError::PersonLocked)?;
        let bytes = copy_file(&path, copy)?;
        if sha256_of(copy).map_err(at(copy))? != hash {
            return Err(HomeError::Open(OpenError::ChangedSinceStop { path }));
        }
        Ok(Database {
            rows: Default::default(),
            schema: Default::default(),
            length: bytes,
            sha256: hash,
            salt: record.salt,
            generation: record.generation,
            sequence: record.last_sequence,
            key: record.key,
        })
    }

    fn secrets(&self) -> Result<Option<String>, HomeError> {
        if self.scope == Scope::OnePerson {
            return Ok(None);
        }
        let text = secrets::to_archive(&self.vault)?;
        Ok(text.map(|text| text.as_str().to_owned()))
    }

    fn write_configuration(
        &self,
        archive: &mut ArchiveWriter,
    ) -> Result<Option<ConfigurationPlace>, HomeError> {
        if self.scope == Scope::OnePerson {
            return Ok(None);
        }
        let Some(path) = &self.configuration else {
            return Ok(None);
        };
        let mut text = Vec::new();
        let read = fs::File::open(path)
            .and_then(|file| file.take(MOST_CONFIGURATION).read_to_end(&mut text));
        if let Err(error) = read {
            // It was there when the daemon started. A backup without it is better than none.
            tracing::warn!(%error, "the configuration file could not be taken into a backup");
            return Ok(None);
        }
        let mut part = archive.part(PartKind::Configuration, Owner::System);
        part.write_all(&text).map_err(archive_error)?;
        part.finish()?;
        let in_data = path.parent() == Some(self.data.as_path());
        Ok(Some(if in_data {
            ConfigurationPlace::Data
        } else {
            ConfigurationPlace::Elsewhere
        }))
    }
}

/// Takes out of the system's copy what no archive holds: sessions, tokens, consents to servers, the
/// keys that a restore makes anew, and the persons, each of whom is in their own piece.
fn strip_system(tx: &Transaction<'_>) -> Result<(), StoreError> {
    tx.execute_batch(
        "DELETE FROM access_session;
         DELETE FROM access_token;
         DELETE FROM access_broker;
         DELETE FROM engine_consent;
         DELETE FROM access_person;
         UPDATE access_instance SET signing_key = x'';",
    )?;
    Ok(())
}

fn copy_store(
    held: &Held,
    to: &Path,
    edit: &dyn Fn(&Transaction<'_>) -> Result<(), StoreError>,
    meter: &mut Meter<'_>,
) -> Result<Database, HomeError> {
    let mut before = 0;
    let key = held.key.expose();
    let copied = held.view.copy_to(to, key, edit, &mut |done, _| {
        let more = done.saturating_sub(before);
        before = done;
        meter.add(more)
    });
    match copied {
        Ok(copied) => Ok(Database {
            key: held.which.number(),
            ..copied.into()
        }),
        Err(OpenError::Engine {
            source: StoreError::Cancelled,
            ..
        }) => Err(BackupError::Stopped.into()),
        Err(other) => Err(other.into()),
    }
}

fn remove(path: &Path) -> Result<(), HomeError> {
    fs::remove_file(path).map_err(|source| HomeError::Folder {
        path: path.to_owned(),
        source,
    })
}
