//! Another key for a database, by copy.
//!
//! The pages are copied into a file beside, which has a salt and a generation of its own. When it
//! is whole and synced, the registry notes it under `<store>/rekeyed`: from then on it is the next
//! file, and whatever interrupts the rest, the next opening puts it in place. Before that note it
//! is a leftover.

use std::{
    ffi::c_int,
    fs::OpenOptions,
    path::Path,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use aico_vault::Key;
use parking_lot::{Condvar, Mutex, RwLockReadGuard};
use rusqlite::{Connection, ffi};
use tokio::sync::oneshot;

use crate::{
    connection::{self, Mode},
    error::{OpenError, StoreError},
    fault::{FaultPoint, Faults},
    open::{Opening, raise_generation},
    place::{self, PAGE, Place, beside, io_error},
    platform,
    reader::ReadWork,
    registry::{StoreRecord, StoreRegistry},
    shared::Shared,
    store::Store,
    threads::to_store_error,
};

/// Pages that are copied at once: a fraction of a millisecond that a write waits.
const STRETCH: c_int = 128;

/// A key of a database, and which one it is. In locked memory: what moves leaves copies behind.
pub struct NumberedKey {
    key: Arc<Key>,
    number: u64,
}

impl NumberedKey {
    /// A key, and the number by which whoever gives it knows it again ([`StoreRecord::key`]).
    #[must_use]
    pub fn new(bytes: &[u8; 32], number: u64) -> Self {
        Self {
            key: Arc::new(Key::from_bytes(bytes)),
            number,
        }
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        self.key.expose()
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

/// How far a copy is; clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Bytes that are copied.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A change of the key on its way to the writing thread.
pub(crate) struct Rekey {
    pub(crate) key: Arc<Key>,
    number: u64,
    pub(crate) progress: Progress,
    /// Keeps the readers there until it is done.
    pub(crate) reads: mpsc::SyncSender<ReadWork>,
    pub(crate) readers: usize,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

impl Rekey {
    pub(crate) fn new(
        key: NumberedKey,
        progress: Progress,
        reads: mpsc::SyncSender<ReadWork>,
        readers: usize,
    ) -> (Self, oneshot::Receiver<Result<(), StoreError>>) {
        let (answer, receiver) = oneshot::channel();
        let rekey = Self {
            key: key.key,
            number: key.number,
            progress,
            reads,
            readers,
            answer,
        };
        (rekey, receiver)
    }

    pub(crate) fn settle(self, result: Result<(), StoreError>) {
        // Whoever asked may be gone; the key is another all the same.
        drop(self.answer.send(result));
    }
}

/// Readers that let go of the file until it is replaced.
pub(crate) struct Pause {
    state: Mutex<Waiting>,
    changed: Condvar,
    readers: usize,
}

#[derive(Default)]
struct Waiting {
    arrived: usize,
    /// Once it is over; without a key there is nothing to go on with.
    over: Option<Option<Arc<Key>>>,
}

impl Pause {
    pub(crate) fn new(readers: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            readers,
        })
    }

    /// Returns when each reader has let go of the file.
    pub(crate) fn ask(self: &Arc<Self>, reads: &mpsc::SyncSender<ReadWork>) {
        for _ in 0..self.readers {
            // A reader that is gone has let go.
            if reads.send(ReadWork::Pause(Arc::clone(self))).is_err() {
                return;
            }
        }
        let mut state = self.state.lock();
        while state.arrived < self.readers {
            self.changed.wait(&mut state);
        }
    }

    /// Lets them go on with this key, or end.
    pub(crate) fn end(&self, key: Option<Arc<Key>>) {
        self.state.lock().over = Some(key);
        self.changed.notify_all();
    }

    /// A reader's part, without a connection.
    pub(crate) fn wait_it_out(&self) -> Option<Arc<Key>> {
        let mut state = self.state.lock();
        state.arrived += 1;
        self.changed.notify_all();
        loop {
            if let Some(key) = &state.over {
                return key.clone();
            }
            self.changed.wait(&mut state);
        }
    }
}

/// Keeps the file of an open store in its place, and with that under its key, while the key is
/// looked up and the file is opened once more, beside the store's own connections, which a change
/// of the key pauses. Hold it for a moment only: such a change waits for it, and everybody for that.
pub struct Steady<'a> {
    pub(crate) store: &'a Store,
    _held: RwLockReadGuard<'a, ()>,
    /// It was just being replaced, and the key was looked up before or during that.
    key_may_be_old: bool,
}

impl<'a> Steady<'a> {
    /// For a key that has been looked up already. Waits for a change that is under way.
    pub(crate) fn of(
        store: &'a Store,
        shared: &'a Shared,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        let (held, key_may_be_old) = match shared.in_place.try_read() {
            Some(held) => (held, false),
            None => {
                let held = shared.in_place.try_read_for(patience);
                (held.ok_or(StoreError::Busy)?, true)
            }
        };
        // Where a change could not be gone on with, which file it is shows at the next opening.
        if shared.ending.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(Self {
            store,
            _held: held,
            key_may_be_old,
        })
    }

    /// For a key that is looked up from now on.
    pub(crate) fn before_the_key(self) -> Self {
        Self {
            key_may_be_old: false,
            ..self
        }
    }

    /// A connection that reads, and from then on keeps to the file that is there now.
    pub(crate) fn open(&self, path: &Path, key: &[u8; 32]) -> Result<Connection, StoreError> {
        let connection = connection::open(path, key, Mode::Read)?;
        // The log is opened with the first read.
        let read = connection.query_row("PRAGMA schema_version", [], |_| Ok(()));
        match read.map_err(StoreError::from) {
            Ok(()) => Ok(connection),
            // The key may have been looked up for a change that then was none.
            Err(StoreError::Damaged { .. }) if self.key_may_be_old => Err(StoreError::Busy),
            // Whoever asks meets it anew; this connection would go on about the first page.
            Err(_) => connection::open(path, key, Mode::Read),
        }
    }
}

/// A copy in the making. Belongs to the thread that writes the source.
pub(crate) struct Copying {
    /// Gone when it is finished. Dropped before the connections that it is between.
    backup: Option<Backup>,
    target: Option<Connection>,
    generation: u64,
    number: u64,
}

/// The engine's own copy between two connections.
struct Backup(NonNull<ffi::sqlite3_backup>);

impl Drop for Backup {
    fn drop(&mut self) {
        // SAFETY: made by `sqlite3_backup_init` and finished once, here; both connections live.
        unsafe { ffi::sqlite3_backup_finish(self.0.as_ptr()) };
    }
}

impl Copying {
    /// Makes the file beside. `source` stays open until this is finished or dropped: the writer
    /// closes it only afterwards.
    pub(crate) fn begin(
        place: &Place,
        source: &Connection,
        rekey: &Rekey,
        generation: u64,
    ) -> Result<Self, StoreError> {
        remove(place).map_err(to_store_error)?;
        let path = place.rekeyed();
        platform::create_private(&path)
            .map_err(io_error("create", &path))
            .map_err(to_store_error)?;
        let target = connection::open(&path, rekey.key.expose(), Mode::Write)?;
        // SAFETY: both handles belong to connections that this thread alone uses, and the names
        // are NUL-terminated.
        let backup = unsafe {
            ffi::sqlite3_backup_init(
                target.handle(),
                c"main".as_ptr(),
                source.handle(),
                c"main".as_ptr(),
            )
        };
        let Some(backup) = NonNull::new(backup) else {
            // SAFETY: the handle belongs to `target`.
            let code = unsafe { ffi::sqlite3_extended_errcode(target.handle()) };
            return Err(failure(code));
        };
        Ok(Self {
            backup: Some(Backup(backup)),
            target: Some(target),
            generation: generation + 1,
            number: rekey.number,
        })
    }

    /// Copies a stretch. `true` when all pages are there.
    pub(crate) fn step(&mut self, progress: &Progress) -> Result<bool, StoreError> {
        let Some(backup) = &self.backup else {
            return Ok(true);
        };
        // SAFETY: a live backup between two connections of this thread.
        let (code, left, all) = unsafe {
            let code = ffi::sqlite3_backup_step(backup.0.as_ptr(), STRETCH);
            (
                code,
                ffi::sqlite3_backup_remaining(backup.0.as_ptr()),
                ffi::sqlite3_backup_pagecount(backup.0.as_ptr()),
            )
        };
        let pages = u64::try_from(all - left).unwrap_or(0);
        progress.0.store(pages * PAGE, Ordering::Relaxed);
        match code {
            ffi::SQLITE_DONE => Ok(true),
            // Somebody reads or folds the log right now.
            ffi::SQLITE_OK | ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => Ok(false),
            code => Err(failure(code)),
        }
    }

    /// Closes and syncs the copy, and says what the registry is to know of it.
    pub(crate) fn finish(&mut self, place: &Place) -> Result<StoreRecord, StoreError> {
        self.backup = None;
        let mut target = self.target.take().ok_or(StoreError::Closed)?;
        let sequence = raise_generation(&mut target, self.generation)?;
        connection::fold_log(&target)?;
        target.close().map_err(|(_, error)| error)?;
        let path = place.rekeyed();
        let sealed = || -> Result<StoreRecord, OpenError> {
            OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| file.sync_all())
                .map_err(io_error("sync", &path))?;
            platform::sync_folder(place.folder()).map_err(io_error("sync", &path))?;
            match place::salt(&path)? {
                Some(salt) if &salt != b"SQLite format 3\0" => Ok(StoreRecord {
                    salt,
                    generation: self.generation,
                    last_sequence: sequence,
                    closed_hash: Some(place::hash(&path)?),
                    key: self.number,
                }),
                _ => Err(OpenError::NotEncrypting),
            }
        };
        if place::length(&beside(&path, "-wal")) != 0 {
            return Err(StoreError::Busy);
        }
        sealed().map_err(to_store_error)
    }

    /// Removes what was copied.
    pub(crate) fn discard(&mut self, place: &Place) {
        self.backup = None;
        self.target = None;
        discard(place);
    }
}

/// Removes a copy that is not the next file.
pub(crate) fn discard(place: &Place) {
    if let Err(error) = remove(place) {
        tracing::warn!(?error, "a copy of a store was left behind");
    }
}

fn failure(code: c_int) -> StoreError {
    StoreError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
}

/// The registry's name of the next file of a store.
pub(crate) fn record_id(id: &str) -> String {
    format!("{id}/rekeyed")
}

/// The copy is the next file from now on.
pub(crate) fn note(
    registry: &dyn StoreRegistry,
    id: &str,
    next: &StoreRecord,
) -> Result<(), OpenError> {
    Ok(registry.put(&record_id(id), next)?)
}

/// It is not, though an attempt to note it may have reached the disk unknown to the registry.
pub(crate) fn forget(registry: &dyn StoreRegistry, id: &str) -> Result<(), OpenError> {
    Ok(registry.remove(&record_id(id))?)
}

/// Goes on, unless a test stops it here.
pub(crate) fn pass(faults: &Faults, point: FaultPoint) -> Result<(), OpenError> {
    if faults.pass(point) {
        Ok(())
    } else {
        Err(OpenError::Interrupted)
    }
}

/// Puts the next file in place, which is as `next` says; no connection has either open. `record`
/// is what the registry is to know of it.
pub(crate) fn swap(
    place: &Place,
    registry: &dyn StoreRegistry,
    id: &str,
    record: &StoreRecord,
    faults: &Faults,
) -> Result<(), OpenError> {
    let copy = place.rekeyed();
    if place::exists(&copy) {
        place.remove_companions()?;
        place.take_place(&copy)?;
    }
    pass(faults, FaultPoint::RekeySwapped)?;
    registry.put(id, record)?;
    pass(faults, FaultPoint::RekeyRecorded)?;
    // The note goes last: up to then an interruption is finished like this one.
    registry.remove(&record_id(id))?;
    Ok(())
}

/// Finishes a change of the key that was interrupted after it was decided, or removes what it left.
pub(crate) fn finish(opening: &Opening<'_>) -> Result<(), OpenError> {
    let (place, registry) = (&opening.place, &*opening.registry);
    if let Some(next) = registry.get(&record_id(&opening.id))? {
        let copy = place.rekeyed();
        let next_file = match place::exists(&copy) {
            true => copy.as_path(),
            false => place.path(),
        };
        if next.closed_hash != Some(place::hash(next_file)?) {
            return Err(OpenError::ChangedSinceStop {
                path: next_file.to_path_buf(),
            });
        }
        swap(place, registry, &opening.id, &next, &opening.faults)?;
        tracing::info!(
            store = opening.id,
            "an interrupted change of the key was finished"
        );
    }
    remove(place)
}

fn remove(place: &Place) -> Result<(), OpenError> {
    place::remove_with_companions(&place.rekeyed())
}
