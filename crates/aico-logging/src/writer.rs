//! Writing the file.
//!
//! Whoever logs puts the record into a queue and empties the queue into the file, which hands each
//! record to the system: when logging returns, the end of this process takes nothing away any more.
//! A thread does what takes time. It waits for the disk, at once after a warning or an error and
//! within [`SYNC_AFTER`] otherwise, and begins and closes files; neither keeps a record from being
//! written meanwhile.
//!
//! Where the system does not take a write, as from a disk that hangs, whoever writes waits as long as
//! it does. Who logs meanwhile waits for [`PATIENCE`], and once that was in vain not at all: their
//! records wait in the queue. One that finds it full is dropped and counted, and the next one that is
//! written is preceded by one that tells the count.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::broadcast;

use aico_config::Level;
use aico_vault::Vault;
use aico_vault::append::{Synced, Syncing};

use crate::capture;
use crate::error::LogError;
use crate::files::{Current, FileToRead, Files, Limits, Refused};
use crate::record::Record;

/// Records that may wait.
const QUEUE: usize = 4096;

/// Records that a reader who follows may lag behind.
const LIVE: usize = 1024;

/// How long somebody who logs waits for one that is being written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest that a record waits for the disk, and the least between two attempts at what failed.
const SYNC_AFTER: Duration = Duration::from_secs(1);

/// A failure to write is told on the console once in so long.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The file, and the running thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// What the thread, the layer and the readers share.
pub(crate) struct Shared {
    /// Taken from by whoever has `file`.
    waiting: Mutex<Queue>,
    file: Mutex<Open>,
    /// Somebody has had `file` for longer than one waits.
    hangs: AtomicBool,
    dropped: AtomicU64,
    thread: SyncSender<Command>,
    vault: Vault,
}

#[derive(Default)]
struct Queue {
    records: VecDeque<Record>,
    /// The file is closed for good.
    ended: bool,
}

enum Command {
    /// Something of [`Open`] is the thread's to do.
    Look,
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

/// The file that is written.
struct Open {
    /// Nothing after a failure, until the thread has made another.
    current: Option<Current>,
    /// What failed, to be closed.
    broken: Option<Current>,
    limits: Limits,
    live: broadcast::Sender<Arc<Record>>,
    /// Since when something has not been on disk.
    unsynced: Option<Instant>,
    /// What has not been is a warning or an error.
    urgent: bool,
    /// Another file is to begin.
    due: bool,
    /// Dropped records that the file tells of already.
    told: u64,
    failed: Option<LogError>,
    /// Something changed that the thread has to see.
    news: bool,
}

impl Writer {
    pub(crate) fn start(
        folder: &Path,
        vault: Vault,
        settings: &aico_config::Logging,
    ) -> Result<Self, LogError> {
        let (worker, commands) = Worker::open(folder, vault, Limits::from(settings))?;
        let shared = Arc::clone(&worker.shared);
        let thread = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || worker.run(&commands))
            .map_err(LogError::Thread)?;
        Ok(Self { shared, thread })
    }

    /// To be written to by somebody who keeps nobody from stopping this one meanwhile.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
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
        drop(self.shared.thread.send(Command::Stop));
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
            .map(|shared| shared.thread.send(Command::Flush(done)));
        if sent.is_some_and(|sent| sent.is_ok()) {
            // Whether it came or the thread ended: there is nothing left to wait for.
            let _ = wait.recv();
        }
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot, LogError> {
        let (done, wait) = sync_channel(1);
        let shared = self.0.upgrade().ok_or(LogError::Locked)?;
        shared
            .thread
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

impl Shared {
    /// Writes a record, or has it wait where the system does not take it. Answers it when this one
    /// was stopped.
    pub(crate) fn write(&self, record: Record) -> Option<Record> {
        {
            let mut waiting = self.waiting.lock();
            if waiting.ended {
                return Some(record);
            }
            match waiting.records.len() < QUEUE {
                true => waiting.records.push_back(record),
                false => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
            }
        }
        // Looked at again after each time: who came last may have found the file taken and gone on.
        while !self.waiting.lock().records.is_empty() {
            let file = match self.hangs.load(Ordering::Acquire) {
                true => self.file.try_lock(),
                false => self.file.try_lock_for(PATIENCE),
            };
            let Some(mut file) = file else {
                // Once more where it is new: whoever had the file may just have let it go.
                match self.hangs.swap(true, Ordering::AcqRel) {
                    true => break,
                    false => continue,
                }
            };
            let all = self.write_waiting(&mut file);
            self.hangs.store(false, Ordering::Release);
            let news = std::mem::take(&mut file.news);
            drop(file);
            if news {
                // Full, the thread has something to do and looks after that.
                let _ = self.thread.try_send(Command::Look);
            }
            if !all {
                break;
            }
        }
        None
    }

    /// Writes what waits; `false` when something has to go on waiting for another file or for room.
    fn write_waiting(&self, file: &mut Open) -> bool {
        loop {
            let Some(record) = self.waiting.lock().records.pop_front() else {
                return true;
            };
            let dropped = self.dropped.load(Ordering::Relaxed);
            if dropped > file.told {
                let count = (dropped - file.told).into();
                let message = "Records were dropped since the log could not keep up";
                let gap = Record::own(Level::Warn, message, &[("count", count)]);
                if file.append(gap).is_none() {
                    file.told = dropped;
                }
            }
            if let Some(record) = file.append(record) {
                self.waiting.lock().records.push_front(record);
                return false;
            }
        }
    }

    /// The file, once everything that waited is in it that can be.
    fn written(&self) -> MutexGuard<'_, Open> {
        let mut file = self.file.lock();
        self.write_waiting(&mut file);
        file
    }
}

impl Open {
    /// Answers the record when it could not be taken.
    fn append(&mut self, record: Record) -> Option<Record> {
        let Some(current) = &mut self.current else {
            return Some(record);
        };
        // Where no other can be begun, this one does not go on for ever.
        if current.is_overlong(&self.limits) {
            return Some(record);
        }
        let done = current.append(&record);
        let due = current.is_due(&self.limits, record.time);
        match done {
            Ok(()) => {}
            Err(Refused::Later(error)) => self.fail(error),
            Err(Refused::Never(error)) => {
                self.fail(error);
                return None;
            }
            Err(Refused::NotTaken(error)) => {
                self.fail(error);
                self.let_go_if_broken();
                return Some(record);
            }
        }
        let urgent = record.level <= Level::Warn;
        self.news |= self.unsynced.is_none() || (urgent && !self.urgent) || (due && !self.due);
        self.unsynced.get_or_insert_with(Instant::now);
        self.urgent |= urgent;
        self.due |= due;
        // Nobody may be following.
        drop(self.live.send(Arc::new(record)));
        None
    }

    fn fail(&mut self, error: LogError) {
        self.failed = Some(error);
        self.news = true;
    }

    /// One that can't be used any more is let go, so that another begins.
    fn let_go_if_broken(&mut self) {
        if self.current.as_ref().is_some_and(Current::is_broken) {
            self.broken = self.current.take();
            self.due = true;
            self.news = true;
        }
    }
}

/// The thread.
struct Worker {
    shared: Arc<Shared>,
    files: Files,
    /// When a file could not be begun.
    tried: Option<Instant>,
    complained: Option<Instant>,
}

impl Worker {
    fn open(
        folder: &Path,
        vault: Vault,
        limits: Limits,
    ) -> Result<(Self, Receiver<Command>), LogError> {
        let (files, current) = Files::open(folder, vault.clone(), limits)?;
        let (thread, commands) = sync_channel(64);
        let (live, _) = broadcast::channel(LIVE);
        let open = Open {
            current: Some(current),
            broken: None,
            limits,
            live,
            unsynced: None,
            urgent: false,
            due: false,
            told: 0,
            failed: None,
            news: false,
        };
        let worker = Self {
            shared: Arc::new(Shared {
                waiting: Mutex::default(),
                file: Mutex::new(open),
                hangs: AtomicBool::new(false),
                dropped: AtomicU64::new(0),
                thread,
                vault,
            }),
            files,
            tried: None,
            complained: None,
        };
        Ok((worker, commands))
    }

    fn run(mut self, commands: &Receiver<Command>) {
        capture::mark_writer_thread();
        loop {
            match self.next(commands) {
                Ok(Command::Look) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Command::Flush(done)) => {
                    self.write_all();
                    self.sync(Syncing::wait);
                    let _ = done.try_send(());
                }
                Ok(Command::Snapshot(done)) => self.snapshot(&done),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look();
        }
        self.end();
    }

    /// The next command; a timeout when it is time to look.
    fn next(&self, commands: &Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        let (since, waits) = {
            let file = self.shared.file.lock();
            (file.unsynced, file.due)
        };
        match (
            since,
            waits || !self.shared.waiting.lock().records.is_empty(),
        ) {
            (None, false) => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            (None, true) => commands.recv_timeout(SYNC_AFTER),
            (Some(since), _) => commands.recv_timeout(SYNC_AFTER.saturating_sub(since.elapsed())),
        }
    }

    fn look(&mut self) {
        self.write_all();
        let sync = {
            let file = self.shared.file.lock();
            let late = |since: Instant| since.elapsed() >= SYNC_AFTER;
            file.urgent || file.unsynced.is_some_and(late)
        };
        if sync {
            self.sync(Syncing::wait);
        }
        let failed = self.shared.file.lock().failed.take();
        if let Some(error) = failed {
            self.complain(&error);
        }
    }

    /// Writes what waits, in as many files as that needs.
    fn write_all(&mut self) {
        while self.shared.written().due && self.begin_another() {}
    }

    /// Makes another file before the one that is written is let go.
    fn begin_another(&mut self) -> bool {
        if self.tried.is_some_and(|at| at.elapsed() < SYNC_AFTER) {
            return false;
        }
        let beside = {
            let file = self.shared.file.lock();
            file.current.as_ref().map_or(0, Current::len)
        };
        let next = match self.files.begin(Timestamp::now(), beside) {
            Ok(next) => next,
            Err(error) => {
                self.tried = Some(Instant::now());
                self.shared.file.lock().failed = Some(error);
                return false;
            }
        };
        self.tried = None;
        let before = {
            let mut file = self.shared.file.lock();
            // Closing the one before waits for the disk.
            (file.unsynced, file.urgent, file.due) = (None, false, false);
            [file.broken.take(), file.current.replace(next)]
        };
        for file in before.into_iter().flatten() {
            self.files.close(file);
        }
        true
    }

    /// Has everything that is written on disk; `wait` is done while others write on.
    fn sync(&mut self, wait: impl FnOnce(Syncing) -> Synced) {
        let (id, begun) = {
            let mut file = self.shared.file.lock();
            if file.unsynced.take().is_none() {
                return;
            }
            file.urgent = false;
            let Some(current) = &mut file.current else {
                return;
            };
            match current.begin_sync() {
                Ok(begun) => (current.id(), begun),
                Err(error) => {
                    // Tried again after a while, also when nothing more is logged.
                    file.unsynced = Some(Instant::now());
                    file.failed = Some(error);
                    return;
                }
            }
        };
        let synced = wait(begun);
        let mark = {
            let mut file = self.shared.file.lock();
            let Some(current) = &mut file.current else {
                return;
            };
            match current.end_sync(synced) {
                Ok(mark) => mark,
                Err(error) => {
                    file.failed = Some(error);
                    file.let_go_if_broken();
                    None
                }
            }
        };
        if let Some(sequence) = mark {
            self.files.note(id, sequence);
        }
    }

    fn snapshot(&mut self, done: &SyncSender<Snapshot>) {
        self.write_all();
        let file = self.shared.written();
        let written = file.broken.iter().chain(&file.current);
        drop(
            done.try_send(Snapshot {
                files: self
                    .files
                    .closed()
                    .chain(written.map(Current::to_read))
                    .collect(),
                live: file.live.subscribe(),
            }),
        );
    }

    fn end(mut self) {
        self.write_all();
        let files = {
            let mut file = self.shared.file.lock();
            loop {
                let all = self.shared.write_waiting(&mut file);
                let mut waiting = self.shared.waiting.lock();
                if waiting.records.is_empty() || !all {
                    waiting.ended = true;
                    break;
                }
            }
            [file.broken.take(), file.current.take()]
        };
        for file in files.into_iter().flatten() {
            self.files.close(file);
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

    fn open(data: &Data, limits: Limits) -> (Worker, Receiver<Command>) {
        Worker::open(&data.logs(), data.vault.clone(), limits).unwrap()
    }

    fn large(data: &Data) -> Limits {
        Limits {
            file_bytes: 64 << 20,
            total_bytes: 128 << 20,
            ..data.limits()
        }
    }

    /// As another process would find the files if this one ended now.
    fn found(data: &Data, worker: &Worker) -> Vec<Record> {
        let file = worker.shared.file.lock();
        records(&data.vault, &worker.files, file.current.as_ref().unwrap())
    }

    fn write(shared: &Shared, record: Record) {
        assert!(shared.write(record).is_none());
    }

    fn numbered(number: u64) -> Record {
        Record::own(Level::Info, "numbered", &[("number", number.into())])
    }

    fn number(record: &Record) -> Option<u64> {
        record.fields.get("number")?.as_u64()
    }

    #[test]
    fn dropped_records_are_told_in_the_file() {
        let data = Data::new();
        let (worker, _commands) = open(&data, large(&data));
        let shared = Arc::clone(&worker.shared);
        shared.dropped.store(3, Ordering::Relaxed);
        write(&shared, Record::own(Level::Info, "first", &[]));
        write(&shared, Record::own(Level::Info, "second", &[]));
        shared.dropped.fetch_add(2, Ordering::Relaxed);
        write(&shared, Record::own(Level::Info, "third", &[]));
        let seen: Vec<String> = found(&data, &worker)
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
    fn each_record_is_with_the_system_when_logging_returns_also_while_the_disk_is_waited_for() {
        let data = Data::new();
        let (mut worker, _commands) = open(&data, large(&data));
        let shared = Arc::clone(&worker.shared);
        let path = {
            let file = shared.file.lock();
            file.current.as_ref().unwrap().to_read().0
        };
        let id = crate::sealed::id_of(&path).unwrap();
        let written = |count: usize| {
            let mut found = 0;
            crate::sealed::read(&data.vault, &path, id, &mut |_| {
                found += 1;
                true
            })
            .unwrap();
            assert_eq!(found, 1 + count);
        };
        for count in 1..=3 {
            write(&shared, Record::own(Level::Warn, "one of a burst", &[]));
            written(count);
        }
        worker.sync(|begun| {
            for count in 4..=6 {
                write(&shared, Record::own(Level::Warn, "one of a burst", &[]));
                written(count);
            }
            begun.wait()
        });
        let file = shared.file.lock();
        assert!(file.unsynced.is_some() && file.urgent);
    }

    #[test]
    fn a_write_that_hangs_stops_nobody_and_what_finds_no_place_is_counted() {
        let data = Data::new();
        let (worker, commands) = open(&data, large(&data));
        let shared = Arc::clone(&worker.shared);
        let hanging = shared.file.lock();
        let all = QUEUE as u64 + 2;
        for number in 0..all {
            write(&shared, numbered(number));
        }
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 2);
        drop(hanging);
        // Whoever comes next writes what waited.
        write(&shared, numbered(all));
        let seen = found(&data, &worker);
        let numbers: Vec<_> = seen.iter().filter_map(number).collect();
        assert!(numbers.into_iter().eq(0..all - 2));
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 3);
        drop(commands);
    }

    #[test]
    fn many_threads_lose_nothing_where_files_follow_each_other() {
        let data = Data::new();
        let limits = Limits {
            total_bytes: 10 << 20,
            ..data.limits()
        };
        let (worker, commands) = open(&data, limits);
        let shared = Arc::clone(&worker.shared);
        let thread = thread::spawn(move || worker.run(&commands));
        let writers: Vec<_> = (0..4_u64)
            .map(|writer| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for count in 0..100 {
                        write(&shared, numbered(writer * 1000 + count));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        let snapshot = Handle(Arc::downgrade(&shared)).snapshot().unwrap();
        assert!(snapshot.files.len() > 3, "{}", snapshot.files.len());
        shared.thread.send(Command::Stop).unwrap();
        thread.join().unwrap();
        // Who comes too late has the record back, for the next one.
        assert!(shared.write(numbered(1)).is_some());
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 0);
        let (worker, _commands) = open(&data, limits);
        let numbers: Vec<_> = found(&data, &worker).iter().filter_map(number).collect();
        for writer in 0..4 {
            let of_one: Vec<_> = numbers
                .iter()
                .filter(|number| *number / 1000 == writer)
                .map(|number| number % 1000)
                .collect();
            assert_eq!(of_one, (0..100).collect::<Vec<_>>());
        }
    }
}
