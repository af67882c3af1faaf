//! The thread that writes the file.
//!
//! Whoever logs only puts a record into a bounded queue and goes on. The thread appends them and
//! hands each to the system, from where the end of this process can't take it. It waits for the
//! disk at once after a warning or an error and within [`SYNC_AFTER`] otherwise, and closes the
//! file when it is stopped. A record that finds the queue full is dropped and counted, and the next
//! one that is written is preceded by one that tells the count.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;

use aico_config::Level;
use aico_vault::Vault;

use crate::capture;
use crate::error::LogError;
use crate::files::{FileToRead, Files, Limits};
use crate::record::Record;

/// Records that may wait for the thread.
const QUEUE: usize = 4096;

/// Records that a reader who follows may lag behind.
const LIVE: usize = 1024;

/// The longest that a record waits for the disk.
const SYNC_AFTER: Duration = Duration::from_secs(1);

/// A failure to write is told on the console once in so long.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The running thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// What the thread, the layer and the readers share.
pub(crate) struct Shared {
    queue: SyncSender<Command>,
    dropped: AtomicU64,
    vault: Vault,
}

enum Command {
    Record(Box<Record>),
    Flush(SyncSender<()>),
    Snapshot(SyncSender<Snapshot>),
    Stop,
}

/// Everything logged up to a moment, and what follows it: no record in both, none in neither.
pub(crate) struct Snapshot {
    /// The files in order.
    pub(crate) files: Vec<FileToRead>,
    pub(crate) live: broadcast::Receiver<Arc<Record>>,
}

impl Writer {
    pub(crate) fn start(
        folder: &Path,
        vault: Vault,
        settings: &aico_config::Logging,
    ) -> Result<Self, LogError> {
        let files = Files::open(folder, vault.clone(), Limits::from(settings))?;
        let (queue, commands) = sync_channel(QUEUE);
        let shared = Arc::new(Shared {
            queue,
            dropped: AtomicU64::new(0),
            vault,
        });
        let for_thread = shared.clone();
        let thread = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || Worker::new(for_thread, files).run(&commands))
            .map_err(LogError::Thread)?;
        Ok(Self { shared, thread })
    }

    /// Puts a record into the queue, or counts it as dropped.
    pub(crate) fn write(&self, record: Record) {
        if self
            .shared
            .queue
            .try_send(Command::Record(Box::new(record)))
            .is_err()
        {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// A handle that does not keep the key alive.
    pub(crate) fn handle(&self) -> Handle {
        Handle(Arc::downgrade(&self.shared))
    }

    /// Writes what waits, closes the file, drops the key.
    pub(crate) fn stop(self) {
        drop(self.shared.queue.send(Command::Stop));
        drop(self.thread.join());
    }
}

/// Speaks to the thread while there is one.
#[derive(Clone)]
pub(crate) struct Handle(Weak<Shared>);

impl Handle {
    /// Returns when everything before is on disk, or when there is nothing to wait for.
    pub(crate) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        let sent = self
            .0
            .upgrade()
            .map(|shared| shared.queue.send(Command::Flush(done)));
        if sent.is_some_and(|sent| sent.is_ok()) {
            // Whether it came or the thread ended: there is nothing left to wait for.
            let _ = wait.recv();
        }
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot, LogError> {
        let (done, wait) = sync_channel(1);
        let shared = self.0.upgrade().ok_or(LogError::Locked)?;
        shared
            .queue
            .send(Command::Snapshot(done))
            .map_err(|_| LogError::Locked)?;
        drop(shared);
        wait.recv().map_err(|_| LogError::Locked)
    }

    /// Lends the vault for the reading of one file.
    pub(crate) fn with_vault<T>(&self, read: impl FnOnce(&Vault) -> T) -> Result<T, LogError> {
        let shared = self.0.upgrade().ok_or(LogError::Locked)?;
        Ok(read(&shared.vault))
    }
}

struct Worker {
    shared: Arc<Shared>,
    files: Files,
    live: broadcast::Sender<Arc<Record>>,
    /// When the oldest record that is not known to be on disk was appended.
    unsynced: Option<Instant>,
    /// Dropped records that the file tells of already.
    told: u64,
    complained: Option<Instant>,
}

impl Worker {
    fn new(shared: Arc<Shared>, files: Files) -> Self {
        let (live, _) = broadcast::channel(LIVE);
        Self {
            shared,
            files,
            live,
            unsynced: None,
            told: 0,
            complained: None,
        }
    }

    fn run(mut self, commands: &Receiver<Command>) {
        capture::mark_writer_thread();
        loop {
            match self.next(commands) {
                Ok(Command::Record(record)) => self.record(*record),
                Ok(Command::Flush(done)) => {
                    self.sync();
                    let _ = done.try_send(());
                }
                Ok(Command::Snapshot(done)) => self.snapshot(&done),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.sync(),
            }
            if self
                .unsynced
                .is_some_and(|since| since.elapsed() >= SYNC_AFTER)
            {
                self.sync();
            }
        }
        self.files.close();
    }

    /// The next command; a timeout when it is time to wait for the disk.
    fn next(&self, commands: &Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        match self.unsynced {
            Some(since) => commands.recv_timeout(SYNC_AFTER.saturating_sub(since.elapsed())),
            None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn snapshot(&mut self, done: &SyncSender<Snapshot>) {
        match self.files.snapshot() {
            Ok(files) => drop(done.try_send(Snapshot {
                files,
                live: self.live.subscribe(),
            })),
            Err(error) => self.complain(&error),
        }
    }

    fn record(&mut self, record: Record) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        if dropped > self.told {
            let count = (dropped - self.told).into();
            let message = "Records were dropped since the log could not keep up";
            let gap = Record::own(Level::Warn, message, &[("count", count)]);
            if self.append(gap) {
                self.told = dropped;
            }
        }
        let urgent = record.level <= Level::Warn;
        if self.append(record) && urgent {
            self.sync();
        }
    }

    fn append(&mut self, record: Record) -> bool {
        match self.files.append(&record) {
            Ok(()) => {
                self.unsynced.get_or_insert_with(Instant::now);
                // What the system refuses waits, and is tried again with the next.
                if let Err(error) = self.files.flush() {
                    self.complain(&error);
                }
                // Nobody may be following.
                drop(self.live.send(Arc::new(record)));
                true
            }
            Err(error) => {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                self.complain(&error);
                false
            }
        }
    }

    fn sync(&mut self) {
        if self.unsynced.take().is_some()
            && let Err(error) = self.files.sync()
        {
            self.complain(&error);
        }
    }

    /// Goes to the console, since this thread's own events never go to the file.
    fn complain(&mut self, error: &LogError) {
        if self
            .complained
            .is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY)
        {
            self.complained = Some(Instant::now());
            let error: &(dyn std::error::Error + 'static) = error;
            tracing::error!(
                error,
                "The log can't be written; look at the disk of the data folder"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::{Data, records};

    #[test]
    fn dropped_records_are_told_in_the_file() {
        let data = Data::new();
        let files = Files::open(&data.logs(), data.vault.clone(), data.limits()).unwrap();
        let (queue, _commands) = sync_channel(1);
        let shared = Arc::new(Shared {
            queue,
            dropped: AtomicU64::new(3),
            vault: data.vault.clone(),
        });
        let mut worker = Worker::new(shared.clone(), files);
        worker.record(Record::own(Level::Info, "first", &[]));
        worker.record(Record::own(Level::Info, "second", &[]));
        shared.dropped.fetch_add(2, Ordering::Relaxed);
        worker.record(Record::own(Level::Info, "third", &[]));
        let seen: Vec<String> = records(&data.vault, &mut worker.files)
            .into_iter()
            .map(|record| match record.fields.get("count") {
                Some(count) => count.to_string(),
                None => record.message,
            })
            .collect();
        assert_eq!(
            seen,
            ["A log file begins", "3", "first", "second", "2", "third"]
        );
    }

    #[test]
    fn each_record_is_with_the_system_before_the_next_is_taken() {
        let data = Data::new();
        let files = Files::open(&data.logs(), data.vault.clone(), data.limits()).unwrap();
        let (queue, _commands) = sync_channel(1);
        let shared = Arc::new(Shared {
            queue,
            dropped: AtomicU64::new(0),
            vault: data.vault.clone(),
        });
        let mut worker = Worker::new(shared, files);
        let entry = std::fs::read_dir(data.logs()).unwrap().next().unwrap();
        let path = entry.unwrap().path();
        let id = crate::sealed::id_of(&path).unwrap();
        for written in 1..=3 {
            worker.record(Record::own(Level::Info, "one of a burst", &[]));
            // As another process would find the file if this one ended now.
            let mut found = 0;
            crate::sealed::read(&data.vault, &path, id, &mut |_| {
                found += 1;
                true
            })
            .unwrap();
            assert_eq!(found, 1 + written);
        }
    }

    #[test]
    fn queue_that_is_full_drops_and_counts() {
        let data = Data::new();
        let (queue, commands) = sync_channel(1);
        let shared = Arc::new(Shared {
            queue,
            dropped: AtomicU64::new(0),
            vault: data.vault.clone(),
        });
        let writer = Writer {
            shared,
            thread: thread::spawn(|| ()),
        };
        for _ in 0..3 {
            writer.write(Record::own(Level::Info, "x", &[]));
        }
        assert_eq!(writer.dropped(), 2);
        drop(commands);
    }
}
