//! The handle that modules hold.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::{Connection, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    connection::{self, Mode},
    error::{OpenError, StoreError},
    fault::{FaultHook, Faults},
    guard::Guard,
    identity::Identity,
    inspect::engine,
    open::{Opened, Opening},
    place::{self, Place},
    progress::MigrationWatch,
    reader::{self, ReadWork},
    registry::StoreRegistry,
    rekey::{NumberedKey, Progress, Rekey, Steady},
    schema::ModuleMigrations,
    shared::{Health, Shared},
    snapshot,
    threads::{Inner, Threads, send, spawn},
    turn::Turn,
    writer::{Work, WriteJob, Writer},
};

/// Jobs that are queued, at most, for writing and for reading each; other callers wait for a slot.
/// A job holds its slot until it is answered, so sending never blocks.
const QUEUE: usize = 1024;

/// How a store is opened, beyond the usual.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Reading threads, each with a connection and a cache of up to 4 MiB.
    pub readers: usize,
    /// How long a read or a write waits for its beginning, before [`StoreError::Busy`].
    pub patience: Duration,
    /// For tests: called at each named fault point.
    pub fault: Option<FaultHook>,
    /// Hears how far migrations are.
    pub watch: Option<MigrationWatch>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            readers: 2,
            patience: Duration::from_secs(10),
            fault: None,
            watch: None,
        }
    }
}

/// An open database. Clones are handles of the same one.
///
/// Closures run on threads of the store: they may take their time, but must not wait for another
/// operation on the same store. A future that is dropped after its job was queued leaves a write
/// to be done all the same, and a read undone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Makes a new database and opens it; for set-up only. The folder must exist. Blocks.
    ///
    /// When it was interrupted, either nothing counts and it can be called again, or it answers
    /// [`OpenError::AlreadyRegistered`] and [`Self::open`] finishes it.
    ///
    /// # Errors
    /// [`OpenError::AlreadyThere`], [`OpenError::AlreadyRegistered`], and those of [`Self::open`].
    pub fn create(
        path: &Path,
        key: &[u8; 32],
        identity: &Identity,
        modules: &[ModuleMigrations],
        registry: Arc<dyn StoreRegistry>,
    ) -> Result<Self, OpenError> {
        Self::create_with(
            path,
            key,
            identity,
            modules,
            registry,
            OpenOptions::default(),
        )
    }

    /// [`Self::create`] with options.
    pub fn create_with(
        path: &Path,
        key: &[u8; 32],
        identity: &Identity,
        modules: &[ModuleMigrations],
        registry: Arc<dyn StoreRegistry>,
        options: OpenOptions,
    ) -> Result<Self, OpenError> {
        let faults = Faults(options.fault.clone());
        let opening = Opening::new(
            path,
            key,
            identity,
            modules,
            registry.clone(),
            faults.clone(),
        )?;
        let opened = opening.create()?;
        Self::start(opened, key, identity, registry, faults, &options, false)
    }

    /// Opens a database that is there, migrating it where steps are pending. Never makes one.
    /// Blocks: for the hashing of the file after a clean stop, for the authentication of every
    /// page after an unclean one.
    ///
    /// # Errors
    /// One variant of [`OpenError`] for each thing that can be wrong. Unless it is a failed
    /// migration, the database was not changed.
    pub fn open(
        path: &Path,
        key: &[u8; 32],
        identity: &Identity,
        modules: &[ModuleMigrations],
        registry: Arc<dyn StoreRegistry>,
    ) -> Result<Self, OpenError> {
        Self::open_with(
            path,
            key,
            identity,
            modules,
            registry,
            OpenOptions::default(),
        )
    }

    /// [`Self::open`] with options.
    pub fn open_with(
        path: &Path,
        key: &[u8; 32],
        identity: &Identity,
        modules: &[ModuleMigrations],
        registry: Arc<dyn StoreRegistry>,
        mut options: OpenOptions,
    ) -> Result<Self, OpenError> {
        let faults = Faults(options.fault.clone());
        let mut opening = Opening::new(
            path,
            key,
            identity,
            modules,
            registry.clone(),
            faults.clone(),
        )?;
        opening.watch = options.watch.take();
        let opened = opening.open()?;
        Self::start(opened, key, identity, registry, faults, &options, false)
    }

    /// Opens a database for reading only, whatever the registry says of its age: for one that
    /// [`Self::open`] refused, until the owner decides. Changes nothing, migrates nothing.
    ///
    /// # Errors
    /// As [`Self::open`], without those that come from the registry.
    pub fn open_read_only(
        path: &Path,
        key: &[u8; 32],
        identity: &Identity,
        modules: &[ModuleMigrations],
        registry: Arc<dyn StoreRegistry>,
    ) -> Result<Self, OpenError> {
        let faults = Faults::default();
        let opening = Opening::new(
            path,
            key,
            identity,
            modules,
            registry.clone(),
            faults.clone(),
        )?;
        let opened = opening.open_read_only()?;
        Self::start(
            opened,
            key,
            identity,
            registry,
            faults,
            &OpenOptions::default(),
            true,
        )
    }

    /// Makes the file that is there the present one, by the owner's decision, though it is older
    /// than the registry says or was changed. The copy that it replaces is refused from then on.
    /// Every page is authenticated first. [`Self::open`] follows.
    ///
    /// # Errors
    /// When the file is damaged, another's or of a newer program, or can't be written.
    pub fn accept_present(
        path: &Path,
        key: &[u8; 32],
        identity: &Identity,
        modules: &[ModuleMigrations],
        registry: Arc<dyn StoreRegistry>,
    ) -> Result<(), OpenError> {
        Opening::new(path, key, identity, modules, registry, Faults::default())?.accept()
    }

    /// Whether the file is under this key: its first page is authentic with it. No more is read: a
    /// power cut may have left the rest half folded in, which the log mends when it is opened. For a
    /// file that nobody has open; changes nothing.
    pub fn opens_with(path: &Path, key: &[u8; 32]) -> bool {
        let read = || {
            let connection = connection::open(path, key, Mode::AtRest)?;
            Ok(connection.query_row("PRAGMA schema_version", [], |_| Ok(()))?)
        };
        if connection::prepare_engine().is_err() {
            return false;
        }
        match read() {
            Ok(()) => true,
            // Authentic, and it names more pages than there are.
            Err(StoreError::Damaged { code }) => code & 0xff == rusqlite::ffi::SQLITE_CORRUPT,
            Err(_) => false,
        }
    }

    /// Erases a database: its file, whatever lies beside it, and its records. A file that is not
    /// there is no error. It must not be open.
    ///
    /// # Errors
    /// [`OpenError::AlreadyOpen`], [`OpenError::Io`] and [`OpenError::Registry`].
    pub fn erase(
        path: &Path,
        identity: &Identity,
        registry: &dyn StoreRegistry,
    ) -> Result<(), OpenError> {
        let place = match Place::claim(path) {
            Ok(place) => place,
            Err(OpenError::Missing { .. }) => return forget(identity, registry),
            Err(error) => return Err(error),
        };
        for file in place::all_files(place.path())
            .into_iter()
            .chain(place.kept()?)
        {
            place::remove_if_there(&file)?;
        }
        crate::platform::sync_folder(place.folder())
            .map_err(place::io_error("sync", place.path()))?;
        forget(identity, registry)
    }

    fn start(
        opened: Opened,
        key: &[u8; 32],
        identity: &Identity,
        registry: Arc<dyn StoreRegistry>,
        faults: Faults,
        options: &OpenOptions,
        read_only: bool,
    ) -> Result<Self, OpenError> {
        let Opened {
            place,
            connection,
            record,
            sequence,
        } = opened;
        let failed = engine(place.path());
        let path = place.to_path();
        let shared = Arc::new(Shared::new(
            identity.store_id(),
            registry,
            record,
            sequence,
            faults,
        ));
        let place = Arc::new(place);
        let mode = match read_only {
            true if place::length(&place.log()) == 0 => Mode::AtRest,
            _ => Mode::Read,
        };
        let (reads, jobs) = mpsc::sync_channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut threads = Threads {
            place: place.clone(),
            writer: None,
            readers: Vec::new(),
        };
        for _ in 0..options.readers.max(1) {
            let mut connection = connection::open(&path, key, mode).map_err(&failed)?;
            let guard = Guard::install(&mut connection).map_err(&failed)?;
            let (place, shared, jobs) = (place.clone(), shared.clone(), jobs.clone());
            let thread = spawn("store-reader", &path, move || {
                reader::run(place, (connection, guard), shared, jobs);
            })?;
            threads.readers.push(thread);
        }
        let mut writes = None;
        if !read_only {
            let (sender, jobs) = mpsc::sync_channel(QUEUE);
            let writer = Writer::new(place, connection, jobs, shared.clone()).map_err(&failed)?;
            threads.writer = Some(spawn("store-writer", &path, move || writer.run())?);
            writes = Some(sender);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                shared,
                read_only,
                patience: options.patience,
                identity: *identity,
                closed: AtomicBool::new(false),
                writes: Mutex::new(writes),
                reads: Mutex::new(Some(reads)),
                write_slots: Arc::new(Semaphore::new(QUEUE)),
                read_slots: Arc::new(Semaphore::new(QUEUE)),
                threads: Mutex::new(Some(threads)),
            }),
        })
    }

    /// Runs the closure in a transaction and answers when what it did is durable. Its error undoes
    /// what it did. Several closures may share a commit; none sees another's failure.
    ///
    /// What has not begun within [`OpenOptions::patience`] is given up: [`StoreError::Busy`]. What
    /// has begun is waited for.
    ///
    /// # Errors
    /// The closure's own, and those of [`StoreError`].
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        if self.inner.read_only && !self.is_closed() {
            return Err(StoreError::ReadOnly);
        }
        let slot = self.slot(&self.inner.write_slots).await?;
        let turn = Turn::default();
        let (job, answer) = WriteJob::new(work, turn.clone(), slot);
        send(&self.inner.writes, Work::Job(Box::new(job)))?;
        turn.wait(self.inner.patience, answer).await
    }

    /// Runs the closure on a connection that can't write, in a consistent view of everything that
    /// was acknowledged before.
    ///
    /// # Errors
    /// The closure's own, and those of [`StoreError`].
    pub async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let slot = self.slot(&self.inner.read_slots).await?;
        let turn = Turn::default();
        let (job, answer) = reader::job(work, turn.clone(), slot);
        send(&self.inner.reads, ReadWork::Job(job))?;
        turn.wait(self.inner.patience, answer).await
    }

    /// Puts the database under another key, by copy, while it is used: reads and writes go on
    /// while the pages are copied and wait only while the copy takes the file's place, and then no
    /// longer than [`OpenOptions::patience`]. The copy
    /// has a salt and a generation of its own; the file that it replaces is refused from then on.
    ///
    /// Interrupted anywhere, the file is under the old key as before, or the next opening finds in
    /// the registry that it is under the new one, and finishes. It goes on when nobody waits for it
    /// any more; [`Self::close`] ends it while pages are copied.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another such change runs; those of the disk, after which it is
    /// under the old key as before, or [`StoreError::Closed`], after which it is to be opened anew.
    pub async fn rekey(&self, key: NumberedKey, progress: Progress) -> Result<(), StoreError> {
        if self.inner.read_only && !self.is_closed() {
            return Err(StoreError::ReadOnly);
        }
        let reads = self.inner.reads.lock().clone().ok_or(StoreError::Closed)?;
        let readers = self
            .inner
            .threads
            .lock()
            .as_ref()
            .map(|it| it.readers.len());
        let readers = readers.ok_or(StoreError::Closed)?;
        let (rekey, answer) = Rekey::new(key, progress, reads, readers);
        // Beyond the slots: nobody else sends more than there are.
        send(&self.inner.writes, Work::Rekey(rekey))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Which key it is under, as it was numbered when it was put under it.
    pub fn key(&self) -> u64 {
        self.inner.shared.record.lock().key
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        place::length(&self.inner.path)
    }

    /// Does what is queued, folds the log into the file and notes the file's hash. Every handle
    /// answers [`StoreError::Closed`] from then on. A store that is dropped without it is checked
    /// page by page when it is opened next.
    ///
    /// # Errors
    /// [`StoreError::Closed`] the second time; others leave the database whole, as after a crash.
    pub async fn close(&self) -> Result<(), StoreError> {
        let inner = self.inner.clone();
        inner.closed.store(true, Ordering::Release);
        inner.shared.ending.store(true, Ordering::Release);
        let threads = inner.threads.lock().take().ok_or(StoreError::Closed)?;
        tokio::task::spawn_blocking(move || inner.finish(threads))
            .await
            .unwrap_or(Err(StoreError::Panicked))
    }

    /// The sequence of the last commit. It grows with every commit.
    pub fn sequence(&self) -> u64 {
        self.inner.shared.sequence.load(Ordering::Acquire)
    }

    /// The sequence of the last acknowledged commit, to be waited on: whoever drains the outbox
    /// wakes by it.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.inner.shared.commits()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(crate) fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// What the store knows of how it is.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.inner.shared.clone()
    }

    /// Keeps it under the key that it is under, for whoever looks up which one that is: a key that
    /// was looked up before may be the one from before a change. Blocks while it is being changed.
    ///
    /// # Errors
    /// [`StoreError::Closed`]; [`StoreError::Busy`] while its file is being replaced.
    pub fn steady(&self) -> Result<Steady<'_>, StoreError> {
        Ok(self.steady_under_a_key()?.before_the_key())
    }

    /// The same, for a key that has been looked up already.
    pub(crate) fn steady_under_a_key(&self) -> Result<Steady<'_>, StoreError> {
        Steady::of(self, &self.inner.shared, self.inner.patience)
    }

    /// The name of its record, and where that is.
    pub(crate) fn registered(&self) -> (&str, &dyn StoreRegistry) {
        (&self.inner.shared.id, &*self.inner.shared.registry)
    }

    /// A check met damage.
    pub(crate) fn met_damage(&self) {
        let code = rusqlite::ffi::SQLITE_CORRUPT;
        self.inner.shared.failed(&StoreError::Damaged { code });
    }

    /// The state of the store.
    pub fn health(&self) -> Health {
        self.inner
            .shared
            .health(self.inner.read_only, self.is_closed())
    }

    fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }

    async fn slot(&self, slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
        if self.is_closed() {
            return Err(StoreError::Closed);
        }
        let slot = slots.clone().acquire_owned();
        match tokio::time::timeout(self.inner.patience, slot).await {
            Ok(slot) => slot.map_err(|_| StoreError::Closed),
            Err(_) => Err(StoreError::Busy),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("id", &self.inner.shared.id)
            .finish_non_exhaustive()
    }
}

fn forget(identity: &Identity, registry: &dyn StoreRegistry) -> Result<(), OpenError> {
    for id in snapshot::record_ids(&identity.store_id()) {
        if registry.get(&id)?.is_some() {
            registry.remove(&id)?;
        }
    }
    Ok(())
}
