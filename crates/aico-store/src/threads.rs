//! What is behind a handle: the queues, the threads that work them off, and how they end.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;

use crate::{
    error::{OpenError, StoreError},
    identity::Identity,
    place::{self, Place},
    reader::ReadWork,
    registry::{RegistryError, StoreRecord},
    shared::Shared,
    writer::Work,
};

/// A store, once: shared by its handles.
pub(crate) struct Inner {
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) shared: Arc<Shared>,
    pub(crate) read_only: bool,
    /// How long a job waits for its beginning.
    pub(crate) patience: Duration,
    pub(crate) closed: AtomicBool,
    pub(crate) writes: Mutex<Option<mpsc::SyncSender<Work>>>,
    pub(crate) reads: Mutex<Option<mpsc::SyncSender<ReadWork>>>,
    pub(crate) write_slots: Arc<Semaphore>,
    pub(crate) read_slots: Arc<Semaphore>,
    pub(crate) threads: Mutex<Option<Threads>>,
}

/// The threads of a store.
pub(crate) struct Threads {
    pub(crate) place: Arc<Place>,
    pub(crate) writer: Option<JoinHandle<Result<(), OpenError>>>,
    pub(crate) readers: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Ends them: readers first, so that the writer is the last to close the database. Answers
    /// whether there was a writer.
    fn end(self, ends: Ends) -> Result<bool, StoreError> {
        drop(ends.reads);
        for reader in self.readers {
            reader.join().map_err(|_| StoreError::Panicked)?;
        }
        drop(ends.writes);
        let Some(writer) = self.writer else {
            return Ok(false);
        };
        writer
            .join()
            .map_err(|_| StoreError::Panicked)?
            .map_err(to_store_error)?;
        Ok(true)
    }
}

/// The sending ends of the queues: while one lives, its threads do.
struct Ends {
    reads: Option<mpsc::SyncSender<ReadWork>>,
    writes: Option<mpsc::SyncSender<Work>>,
}

impl Inner {
    fn take_ends(&self) -> Ends {
        Ends {
            reads: self.reads.lock().take(),
            writes: self.writes.lock().take(),
        }
    }

    /// Ends the threads and notes what they leave.
    pub(crate) fn finish(&self, threads: Threads) -> Result<(), StoreError> {
        let place = threads.place.clone();
        if !threads.end(self.take_ends())? {
            return Ok(());
        }
        let hash = place::hash(&self.path).map_err(to_store_error)?;
        let record = StoreRecord {
            last_sequence: self.shared.sequence.load(Ordering::Acquire),
            closed_hash: Some(hash),
            ..self.shared.record.lock().clone()
        };
        self.shared
            .registry
            .put(&self.shared.id, &record)
            .map_err(StoreError::Registry)?;
        tracing::debug!(store = self.shared.id, "a store was closed");
        drop(place);
        Ok(())
    }
}

impl Drop for Inner {
    /// Without a `close`, the threads are ended in the same order, by nobody who waits for it.
    /// Nothing is noted: the next opening checks the whole file.
    fn drop(&mut self) {
        let Some(threads) = self.threads.lock().take() else {
            return;
        };
        tracing::debug!(
            store = self.shared.id,
            "a store was dropped without being closed"
        );
        let ends = self.take_ends();
        let id = self.shared.id.clone();
        let spawned = spawn("store-end", &self.path, move || {
            if let Err(error) = threads.end(ends) {
                tracing::warn!(store = id, ?error, "a dropped store was not folded");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(?error, "a dropped store ends in its own time");
        }
    }
}

pub(crate) fn send<J>(
    queue: &Mutex<Option<mpsc::SyncSender<J>>>,
    job: J,
) -> Result<(), StoreError> {
    let queue = queue.lock();
    let sender = queue.as_ref().ok_or(StoreError::Closed)?;
    sender.send(job).map_err(|_| StoreError::Closed)
}

pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, OpenError> {
    let alive = Alive::new();
    let working = move || {
        // To the end, when it has closed what it had open.
        let _alive = alive;
        work()
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(working)
        .map_err(place::io_error("start a thread for", path))
}

/// How many threads of stores there are.
static ALIVE: Mutex<usize> = Mutex::new(0);
static NONE_LEFT: Condvar = Condvar::new();

/// One of them.
struct Alive(());

impl Alive {
    fn new() -> Self {
        *ALIVE.lock() += 1;
        Self(())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let mut alive = ALIVE.lock();
        *alive -= 1;
        if *alive == 0 {
            NONE_LEFT.notify_all();
        }
    }
}

/// Waits until no thread of any store is left, for so long at most; whether none is. A process that
/// returns from `main` waits by itself, a while; who calls this before can end it in another way
/// when that was not enough.
pub fn wait_for_threads(most: Duration) -> bool {
    let end = Instant::now() + most;
    let mut alive = ALIVE.lock();
    while *alive > 0 {
        if NONE_LEFT.wait_until(&mut alive, end).timed_out() {
            return *alive == 0;
        }
    }
    true
}

/// How long a process that ends waits for what still closes. Folding a log takes less.
const AT_EXIT: Duration = Duration::from_secs(10);

/// Makes every end of the process wait for the threads first, once the engine has begun: `SQLCipher`
/// takes its memory away at an end, under whoever still closes a database that was dropped or
/// failed to open, and the process would die of it.
pub(crate) fn wait_at_exit() {
    extern "C" fn wait() {
        wait_for_threads(AT_EXIT);
    }
    // SAFETY: the function has no arguments and does not unwind. Those given later are called
    // first: SQLCipher gave its own when the engine began.
    if unsafe { libc::atexit(wait) } != 0 {
        tracing::warn!("a process that ends will not wait for its databases");
    }
}

pub(crate) fn to_store_error(error: OpenError) -> StoreError {
    match error {
        OpenError::StorageFull { .. } => StoreError::StorageFull,
        OpenError::StorageReadOnly { .. } => StoreError::StorageReadOnly,
        OpenError::Registry(RegistryError::StorageFull) => StoreError::StorageFull,
        OpenError::Registry(RegistryError::StorageReadOnly) => StoreError::StorageReadOnly,
        OpenError::Engine { source, .. } => source,
        _ => StoreError::Io {
            code: rusqlite::ffi::SQLITE_IOERR,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_the_process_waits_for_what_still_closes() {
        let (go, wait) = mpsc::channel::<()>();
        let thread = spawn("test", Path::new("x"), move || wait.recv()).unwrap();
        assert!(!wait_for_threads(Duration::from_millis(20)));
        drop(go);
        assert!(thread.join().unwrap().is_err());
        assert!(wait_for_threads(Duration::from_secs(60)));
    }
}
