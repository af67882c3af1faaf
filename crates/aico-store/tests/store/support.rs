//! A folder with one store in it, registries to open it with, and small disks.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use aico_store::{
    Identity, Migration, ModuleMigrations, OpenError, OpenOptions, RegistryError, Store,
    StoreError, StoreRecord, StoreRegistry,
};
use tempfile::TempDir;

pub(crate) use crate::disk::SmallDisk;

pub(crate) const KEY: [u8; 32] = [7; 32];
pub(crate) const PERSON: Identity = Identity {
    store: aico_store::StoreKind::Person,
    person: Some([1; 16]),
};

pub(crate) const NOTES_1: Migration = Migration {
    version: 1,
    name: "notes",
    sql: "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE) STRICT;",
};
pub(crate) const NOTES: ModuleMigrations = ModuleMigrations {
    module: "notes",
    migrations: &[NOTES_1],
};

/// A registry in memory that can be made to fail.
#[derive(Default)]
pub(crate) struct MemoryRegistry {
    pub(crate) records: Mutex<HashMap<String, StoreRecord>>,
    pub(crate) failing: std::sync::atomic::AtomicBool,
}

impl MemoryRegistry {
    fn check(&self) -> Result<(), RegistryError> {
        if self.failing.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(RegistryError::StorageFull);
        }
        Ok(())
    }

    pub(crate) fn record(&self, id: &str) -> Option<StoreRecord> {
        self.records.lock().unwrap().get(id).cloned()
    }

    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut StoreRecord)) {
        change(self.records.lock().unwrap().get_mut(id).unwrap());
    }
}

impl StoreRegistry for MemoryRegistry {
    fn get(&self, id: &str) -> Result<Option<StoreRecord>, RegistryError> {
        Ok(self.record(id))
    }

    fn put(&self, id: &str, record: &StoreRecord) -> Result<(), RegistryError> {
        self.check()?;
        self.records
            .lock()
            .unwrap()
            .insert(id.to_owned(), record.clone());
        Ok(())
    }

    fn note_sequence(&self, id: &str, sequence: u64) -> Result<(), RegistryError> {
        self.check()?;
        self.change(id, |record| {
            assert!(record.last_sequence <= sequence, "the sequence went back");
            record.last_sequence = sequence;
        });
        Ok(())
    }

    fn remove(&self, id: &str) -> Result<(), RegistryError> {
        self.check()?;
        self.records.lock().unwrap().remove(id);
        Ok(())
    }
}

/// A registry in a folder, one file for each record, for processes that are killed.
pub(crate) struct FileRegistry(pub(crate) PathBuf);

impl FileRegistry {
    fn file(&self, id: &str) -> PathBuf {
        self.0.join(id.replace('/', "+"))
    }
}

impl StoreRegistry for FileRegistry {
    fn get(&self, id: &str) -> Result<Option<StoreRecord>, RegistryError> {
        let bytes = match fs::read(self.file(id)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        Ok(Some(StoreRecord {
            salt: bytes[..16].try_into().unwrap(),
            generation: number(16),
            last_sequence: number(24),
            key: number(32),
            closed_hash: (bytes.len() > 40).then(|| bytes[40..72].try_into().unwrap()),
        }))
    }

    fn put(&self, id: &str, record: &StoreRecord) -> Result<(), RegistryError> {
        let mut bytes = record.salt.to_vec();
        bytes.extend(record.generation.to_le_bytes());
        bytes.extend(record.last_sequence.to_le_bytes());
        bytes.extend(record.key.to_le_bytes());
        bytes.extend(record.closed_hash.iter().flatten());
        let temporary = self.0.join("temporary");
        fs::write(&temporary, bytes)?;
        fs::rename(&temporary, self.file(id))?;
        Ok(())
    }

    fn note_sequence(&self, id: &str, sequence: u64) -> Result<(), RegistryError> {
        let mut record = self.get(id)?.expect("a record to note the sequence in");
        record.last_sequence = sequence;
        self.put(id, &record)
    }

    fn remove(&self, id: &str) -> Result<(), RegistryError> {
        match fs::remove_file(self.file(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// A folder with a store.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) registry: Arc<MemoryRegistry>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            registry: Arc::default(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("person.db")
    }

    pub(crate) fn id(&self) -> String {
        PERSON.store_id()
    }

    pub(crate) fn create(&self) -> Store {
        Store::create(&self.path(), &KEY, &PERSON, &[NOTES], self.registry.clone()).unwrap()
    }

    pub(crate) fn open(&self) -> Result<Store, OpenError> {
        self.open_as(&KEY, &PERSON, &[NOTES])
    }

    pub(crate) fn open_as(
        &self,
        key: &[u8; 32],
        identity: &Identity,
        modules: &[ModuleMigrations],
    ) -> Result<Store, OpenError> {
        Store::open(&self.path(), key, identity, modules, self.registry.clone())
    }

    pub(crate) fn open_with(
        &self,
        modules: &[ModuleMigrations],
        options: OpenOptions,
    ) -> Result<Store, OpenError> {
        Store::open_with(
            &self.path(),
            &KEY,
            &PERSON,
            modules,
            self.registry.clone(),
            options,
        )
    }

    pub(crate) fn open_read_only(&self) -> Result<Store, OpenError> {
        Store::open_read_only(&self.path(), &KEY, &PERSON, &[NOTES], self.registry.clone())
    }

    /// A store with some notes, closed. Answers the notes.
    pub(crate) async fn filled(&self, notes: usize) {
        let store = self.create();
        add_notes(&store, 0, notes).await;
        store.close().await.unwrap();
    }

    /// The registry after a crash: it knows of no clean stop.
    pub(crate) fn forget_stop(&self) {
        self.registry
            .change(&self.id(), |record| record.closed_hash = None);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entry =
        |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(entry).collect();
    names.sort();
    names
}

pub(crate) fn body(n: usize) -> String {
    format!("note {n} {}", "x".repeat(200))
}

pub(crate) async fn add_note(store: &Store, n: usize) -> Result<(), StoreError> {
    store
        .write(move |tx| {
            tx.execute(
                "INSERT INTO note (id, body) VALUES (?1, ?2)",
                (n as i64, body(n)),
            )?;
            Ok(())
        })
        .await
}

/// Adds notes `from..to` in one commit.
pub(crate) async fn add_notes(store: &Store, from: usize, to: usize) {
    store
        .write(move |tx| {
            let mut statement = tx.prepare("INSERT INTO note (id, body) VALUES (?1, ?2)")?;
            for n in from..to {
                statement.execute((n as i64, body(n)))?;
            }
            Ok(())
        })
        .await
        .unwrap();
}

pub(crate) async fn count(store: &Store) -> usize {
    store
        .read(|db| Ok(db.query_row("SELECT count(*) FROM note", [], |row| row.get::<_, i64>(0))?))
        .await
        .unwrap() as usize
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !condition() {
        assert!(
            std::time::Instant::now() < deadline,
            "waited in vain until {what}"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
