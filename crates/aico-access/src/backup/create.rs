//! Making a backup while the home is in use.

use std::borrow::Cow;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use aico_contracts::ids::PersonId;
use aico_store::{Identity, OpenError, Store, StoreError, StoreView};
use aico_vault::archive::{ArchiveError, ArchiveWriter, PartKind};
use aico_vault::{Key, KeyId, Owner, Vault};
use jiff::Timestamp;
use rusqlite::Transaction;

pub use aico_vault::archive::Scope;

use super::error::BackupError;
use super::keys;
use super::manifest::{
    ConfigurationPlace, Database, LeftOutEntry, Manifest, PersonEntry, PersonRow,
};
use super::restore::{at, new_private};
use super::set::{self, Erasures, Keep, ListKey, Retained};
use crate::home::{Open, PERSON_DB, blocking, person_folder};
use crate::{Home, HomeError, Person, Role, Stage, folder, secrets, stores};

/// Begins the name of the folder that copies lie in while an archive is made.
pub(crate) const STAGING: &str = ".backup-";
/// In the audit's table.
const MADE: &str = "backup.create";
/// Largest configuration file that is taken along, in bytes.
const MOST_CONFIGURATION: u64 = 1 << 20;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct BackupRequest {
    /// Where to; the folder beside the data folder by default.
    pub folder: Option<PathBuf>,
    /// This person's data only.
    pub person: Option<PersonId>,
    /// Which archives stay: of those of everybody, or of those of this person only.
    pub keep: Keep,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupStep {
    /// Bytes that are done.
    pub done: u64,
    /// Of how many, as far as it is known.
    pub total: u64,
}

/// A person who is not in it, though they belong to the home.
#[derive(Clone)]
pub struct LeftOut {
    /// Whose name goes from the archive when they are erased.
    pub(crate) id: PersonId,
    /// What they are called. Personal, so without Debug.
    pub name: String,
    /// Why, as a sentence without its end.
    pub why: String,
}

/// A backup that was made.
#[derive(Clone)]
pub struct BackupMade {
    /// The archive.
    pub path: PathBuf,
    /// Bytes of it.
    pub length: u64,
    /// When.
    pub created_at: Timestamp,
    /// How many persons are in it.
    pub persons: usize,
    /// Who is not.
    pub left_out: Vec<LeftOut>,
    /// Older archives that were removed.
    pub removed: Vec<PathBuf>,
    /// Older archives that were to go and could not be removed.
    pub not_removed: Vec<PathBuf>,
    /// Removing older ones was asked for and not done, because somebody was left out or is in it
    /// with an older copy of their data.
    pub nothing_removed: bool,
}

/// One store, held as it was at one moment.
struct Held {
    view: StoreView,
    key: Key,
    which: KeyId,
}

struct HeldPerson {
    person: Person,
    keyring: Vec<u8>,
    /// `None`: a sealed one, whose database lies at rest and is taken as it lies.
    store: Option<Held>,
}

/// Everything that goes into an archive.
struct Plan {
    vault: Vault,
    list: ListKey,
    system: Held,
    persons: Vec<HeldPerson>,
    left_out: Vec<LeftOut>,
    scope: Scope,
    data: PathBuf,
    root: PathBuf,
    configuration: Option<PathBuf>,
    folder: PathBuf,
    now: Timestamp,
}

/// Copies in the making; removed when dropped, and after a kill by the next start or, beside the
/// archives, by the next backup.
struct Staging {
    path: PathBuf,
    /// Held as long as it is in use.
    lock: Option<fs::File>,
}

impl Staging {
    fn begin(path: PathBuf) -> Result<Self, HomeError> {
        folder::create_private(&path).map_err(at(&path))?;
        // From here on it is removed.
        let mut staging = Self { path, lock: None };
        let lock = staging.path.join(set::STAGING_LOCK);
        let file = new_private(&lock).map_err(at(&lock))?;
        // Where there are no locks, what a kill leaves stays.
        let _ = file.try_lock();
        staging.lock = Some(file);
        Ok(staging)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Some systems remove no file that is open.
        self.lock = None;
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Home {
    /// Makes a backup. Others go on as if nothing was; `go_on` hears how far it is, and stops it
    /// with `false`. Until it is whole there is nothing of it in the folder; older archives are
    /// removed after that.
    ///
    /// # Errors
    /// [`BackupError`]; a full disk; while locked. Then the folder is as it was.
    pub async fn create_backup(
        &self,
        request: BackupRequest,
        mut go_on: impl FnMut(BackupStep) -> bool + Send + 'static,
    ) -> Result<BackupMade, HomeError> {
        let open = self.opened()?;
        let Ok(_one) = self.inner.backup.try_lock() else {
            return Err(match self.rotation().running {
                true => BackupError::KeysChange.into(),
                false => BackupError::Running.into(),
            });
        };
        // The stores stay open until this is dropped, which happens soon after a lock.
        let _hold = self.hold();
        let (of, keep) = (request.person, request.keep);
        let list = keys::list_key(&open.system).await?;
        let plan = self.plan(&open, request, list.clone()).await?;
        let (home, folder, now) = (self.clone(), plan.folder.clone(), plan.now);
        let made =
            blocking(move || plan.write(&mut |step| home.stage() == Stage::Ready && go_on(step)))
                .await?;
        self.note_archive(&open, &made, now).await;
        let left_out = made.left_out;
        // An older copy of somebody's data is in it as it is; what it replaced may be in others only.
        let older = |store: &Store| store.health().read_only;
        let complete = left_out.is_empty() && !open.persons.all().iter().any(older);
        // What was left out may be in nothing but the archives that would go.
        let retain = if complete { keep } else { Keep::default() };
        // It is made, whatever becomes of the others: the next one tries that again.
        let others = self.look_after(&open, folder, list, of, retain, now).await;
        let Retained {
            removed,
            not_removed,
        } = others.unwrap_or_else(|error| {
            tracing::warn!(%error, "older backups could not be looked after");
            Retained::default()
        });
        self.forget_archives(&open, &removed).await;
        // A disk with older archives may be there again.
        if let Err(error) = self.drop_pending().await {
            tracing::warn!(%error, "an erasure could not be finished in the backups");
        }
        tracing::info!(
            bytes = made.length,
            persons = made.persons.len(),
            left_out = left_out.len(),
            removed = removed.len(),
            not_removed = not_removed.len(),
            "a backup was made"
        );
        Ok(BackupMade {
            path: made.path,
            length: made.length,
            created_at: now,
            persons: made.persons.len(),
            nothing_removed: !complete && !keep.is_everything(),
            left_out,
            removed,
            not_removed,
        })
    }

    /// Notes who was erased beside the archives of a folder, and removes those that are not to
    /// stay.
    async fn look_after(
        &self,
        open: &Open,
        folder: PathBuf,
        list: ListKey,
        of: Option<PersonId>,
        keep: Keep,
        now: Timestamp,
    ) -> Result<Retained, HomeError> {
        let erased = erased_in(open).await?;
        let (vault, keys) = (open.vault.clone(), self.archive_keys(open).await?);
        blocking(move || {
            if let Err(error) = set::note_erasures(&folder, &vault, &list, &erased) {
                tracing::warn!(%error, "who was erased could not be noted beside the backups");
            }
            set::retain(&folder, &vault, &keys, of, keep, now, &erased)
        })
        .await
    }

    /// Takes hold of everything at one moment.
    async fn plan(
        &self,
        open: &Open,
        request: BackupRequest,
        list: ListKey,
    ) -> Result<Plan, HomeError> {
        let config = &self.inner.config;
        let data = config.data.clone();
        let folder = request.folder.unwrap_or_else(|| config.backups.clone());
        let (prepared, data_too) = (folder.clone(), data.clone());
        let folder = blocking(move || {
            let folder = set::prepare(&prepared, &data_too)?;
            set::tidy(&folder);
            Ok(folder)
        })
        .await?;
        let everybody = self.persons().await?;
        let wanted: Vec<_> = match request.person {
            None => everybody,
            Some(one) => everybody.into_iter().filter(|p| p.id == one).collect(),
        };
        if wanted.is_empty() {
            return Err(HomeError::NotFound);
        }
        // Opened before anything is held: opening takes time, holding does not.
        let mut stores = Vec::new();
        for person in &wanted {
            stores.push(self.store_in_time(person.id).await);
        }
        let (vault, root, system) = (
            open.vault.clone(),
            self.root().to_owned(),
            open.system.clone(),
        );
        let configuration = config.configuration.clone();
        let scope = match request.person {
            None => Scope::Whole,
            Some(_) => Scope::OnePerson,
        };
        blocking(move || {
            let (which, key) = stores::system_key(&vault)?;
            let view = system.view(key.expose())?;
            let system = Held { view, key, which };
            let (mut persons, mut left_out) = (Vec::new(), Vec::new());
            let mut first = None;
            for (person, store) in wanted.into_iter().zip(stores) {
                let held = match store {
                    Ok(store) => hold_person(&vault, &root, &person, Some(&store)),
                    Err(HomeError::PersonLocked) => hold_person(&vault, &root, &person, None),
                    Err(error) => Err(error),
                };
                match held {
                    Ok(held) => persons.push(held),
                    Err(error) => {
                        left_out.push(LeftOut {
                            id: person.id,
                            name: person.name.as_str().to_owned(),
                            why: told(&error),
                        });
                        first.get_or_insert(error);
                    }
                }
            }
            if persons.is_empty() {
                return Err(first.unwrap_or(HomeError::PersonLocked));
            }
            Ok(Plan {
                vault,
                list,
                system,
                persons,
                left_out,
                scope,
                data,
                root,
                configuration,
                folder,
                now: Timestamp::now(),
            })
        })
        .await
    }

    async fn note_archive(&self, open: &Open, made: &Written, now: Timestamp) {
        let (id, path) = (made.id, made.path.to_string_lossy().into_owned());
        let (key, persons) = (made.key.clone(), made.persons.clone());
        let noted = open.system.write(move |tx| {
            crate::keys::note(tx, MADE)?;
            note_archive(tx, id, &path, now.as_millisecond(), &key, &persons)
        });
        if let Err(error) = noted.await {
            // It is found again by looking into the folder, as long as that is known.
            tracing::warn!(%error, "a backup that was made could not be noted");
        }
    }

    async fn forget_archives(&self, open: &Open, removed: &[PathBuf]) {
        let paths: Vec<_> = removed
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        let forgotten = open.system.write(move |tx| {
            for path in &paths {
                tx.execute("DELETE FROM backup_archive WHERE path = ?1", [path])?;
            }
            Ok(())
        });
        if let Err(error) = forgotten.await {
            tracing::warn!(%error, "archives that were removed are still noted");
        }
    }
}

/// Notes an archive in the system's store.
pub(crate) fn note_archive(
    tx: &Transaction<'_>,
    id: [u8; 16],
    path: &str,
    created_ms: i64,
    key: &[u8],
    persons: &[PersonId],
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT OR REPLACE INTO backup_archive (id, path, created_ms, key)
         VALUES (?1, ?2, ?3, ?4)",
        rusqlite::params![id, path, created_ms, key],
    )?;
    for person in persons {
        tx.execute(
            "INSERT OR REPLACE INTO backup_archive_person (archive, person) VALUES (?1, ?2)",
            rusqlite::params![id, person.as_bytes()],
        )?;
    }
    Ok(())
}

/// Everybody who was ever erased.
pub(crate) async fn erased_in(open: &Open) -> Result<Erasures, HomeError> {
    Ok(open.system.read(read_tombstones).await?)
}

pub(crate) fn read_tombstones(db: &rusqlite::Connection) -> Result<Erasures, StoreError> {
    let mut query = db.prepare("SELECT person, erased_ms FROM access_tombstone")?;
    let rows = query.query_map([], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))
    })?;
    let mut erased = Erasures::new();
    for row in rows {
        let (id, when) = row?;
        let id = PersonId::from_slice(&id).map_err(|_| StoreError::Conversion)?;
        erased.insert(id, when);
    }
    Ok(erased)
}

fn hold_person(
    vault: &Vault,
    root: &Path,
    person: &Person,
    store: Option<&aico_store::Store>,
) -> Result<HeldPerson, HomeError> {
    let id = *person.id.as_bytes();
    let store = match store {
        None => None,
        Some(store) => {
            let keys = keys::person_keys(vault, id)?;
            let path = person_folder(root, person.id).join(PERSON_DB);
            let (which, key) = stores::person_key(vault, &keys, &path)?;
            let view = store.view(key.expose())?;
            Some(Held { view, key, which })
        }
    };
    // After the database: a keyring has the keys from before as well.
    let keyring = vault.keyring_of(id).map_err(HomeError::Keyring)?;
    Ok(HeldPerson {
        person: person.clone(),
        keyring: keyring.bytes,
        store,
    })
}

/// The error and its causes in one line.
fn told(error: &HomeError) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    line
}

/// An archive that is in its place.
struct Written {
    id: [u8; 16],
    path: PathBuf,
    length: u64,
    /// Its key, sealed.
    key: Vec<u8>,
    persons: Vec<PersonId>,
    left_out: Vec<LeftOut>,
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
    fn write(mut self, go_on: Go<'_>) -> Result<Written, HomeError> {
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
        pour(&copy, &mut part, &mut meter)?;
        part.finish()?;
        remove(&copy)?;
        let mut manifest = Manifest {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            created: self.now,
            system,
            persons: Vec::new(),
            left_out: Vec::new(),
            list_key: *self.list.bytes(),
            configuration: None,
            secrets: self.secrets(),
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
        let length = archive.finish(&manifest.encode())?;
        Ok(Written {
            id,
            path,
            length,
            key,
            persons: manifest.persons.iter().map(|person| person.id).collect(),
            left_out: self.left_out,
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
        pour(copy, &mut part, meter)?;
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

    fn secrets(&self) -> Option<String> {
        if self.scope == Scope::OnePerson {
            return None;
        }
        // A backup without them is better than none.
        let text = secrets::to_archive(&self.vault).unwrap_or_else(|error| {
            tracing::warn!(%error, "the configuration's secrets could not be taken into a backup");
            None
        });
        text.map(|text| text.as_str().to_owned())
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

/// Takes out of the system's copy what no archive holds: sessions, tokens, consents to servers, the keys that a restore
/// makes anew, and the persons, each of whom is in their own piece.
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

/// Copies a file as it lies, to a private one. An error names the one of the two that it is about.
fn copy_file(from: &Path, to: &Path) -> Result<u64, HomeError> {
    let mut source = fs::File::open(from).map_err(at(from))?;
    let mut target = new_private(to).map_err(at(to))?;
    let mut piece = vec![0; 256 * 1024];
    let mut length = 0;
    loop {
        let count = match source.read(&mut piece) {
            Ok(0) => return Ok(length),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(at(from)(error)),
        };
        target.write_all(&piece[..count]).map_err(at(to))?;
        length += count as u64;
    }
}

/// Moves a copy into a part.
fn pour(from: &Path, to: &mut impl std::io::Write, meter: &mut Meter<'_>) -> Result<(), HomeError> {
    let failed = at(from);
    let mut file = fs::File::open(from).map_err(&failed)?;
    let mut piece = vec![0; 256 * 1024];
    loop {
        let count = match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        to.write_all(&piece[..count]).map_err(archive_error)?;
        if !meter.add(count as u64) {
            return Err(BackupError::Stopped.into());
        }
    }
}

fn remove(path: &Path) -> Result<(), HomeError> {
    fs::remove_file(path).map_err(|source| HomeError::Folder {
        path: path.to_owned(),
        source,
    })
}

/// The archive's own error in one of the standard library's.
pub(crate) fn archive_error(error: std::io::Error) -> HomeError {
    let kind = error.kind();
    match error.downcast::<ArchiveError>() {
        Ok(ours) => ours.into(),
        Err(_) => HomeError::Archive(ArchiveError::File(aico_vault::FileError::new(
            "write",
            Path::new("the archive"),
            kind.into(),
        ))),
    }
}

pub(crate) fn sha256_of(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut file = fs::File::open(path)?;
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => context.update(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    Ok(out)
}

/// Whether somebody is the owner, by the name of their role.
pub(crate) fn is_owner(role: &str) -> bool {
    role == Role::Owner.as_str()
}
