//! The one thread that writes. Jobs that wait while a commit is on its way to the disk share the
//! next one, each in a savepoint of its own.
//!
//! A job is answered when its commit is on the disk and the commit's sequence is in the registry.
//! When the sequence can't be noted, nothing further is written until it is: at most one commit
//! is ever ahead of the registry.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    connection::{self, Mode},
    error::{OpenError, StoreError},
    fault::FaultPoint,
    guard::Guard,
    inspect::engine,
    open::close_folded,
    place::Place,
    registry::{RegistryError, StoreRecord},
    rekey::{self, Copying, Pause, Rekey},
    schema,
    shared::Shared,
    threads::to_store_error,
    turn::Turn,
};

/// Jobs in one commit, at most.
const BATCH: usize = 256;

/// How long jobs are gathered into one commit, counted from the first.
const GATHER: Duration = Duration::from_millis(20);

/// How often to look whether space has returned while a store is without.
const PROBE: Duration = Duration::from_secs(2);

/// What the writing thread is sent.
pub(crate) enum Work {
    /// Something to run in a transaction.
    Job(Box<dyn Job>),
    /// Another key.
    Rekey(Rekey),
}

/// Something to run in a transaction.
pub(crate) trait Job: Send {
    /// Runs it; keeps its result. Answers whether it succeeded.
    fn run(&mut self, tx: &Transaction<'_>) -> bool;
    /// The error that it kept.
    fn error(&self) -> Option<&StoreError>;
    /// Hands the kept result to the caller, or the failure when there is one.
    fn settle(self: Box<Self>, failure: Option<StoreError>);
}

/// A caller's closure.
pub(crate) struct WriteJob<T, F> {
    work: Option<F>,
    turn: Turn,
    kept: Result<T, StoreError>,
    answer: oneshot::Sender<Result<T, StoreError>>,
    _slot: OwnedSemaphorePermit,
}

impl<T, F> WriteJob<T, F> {
    pub(crate) fn new(
        work: F,
        turn: Turn,
        slot: OwnedSemaphorePermit,
    ) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (answer, receiver) = oneshot::channel();
        let job = Self {
            work: Some(work),
            turn,
            kept: Err(StoreError::Aborted),
            answer,
            _slot: slot,
        };
        (job, receiver)
    }
}

impl<T, F> Job for WriteJob<T, F>
where
    T: Send,
    F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, tx: &Transaction<'_>) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        if !self.turn.begin() {
            self.kept = Err(StoreError::Busy);
            return false;
        }
        self.kept = undo_panic(|| work(tx)).map_err(|error| connection::refine(tx, error));
        self.kept.is_ok()
    }

    fn error(&self) -> Option<&StoreError> {
        self.kept.as_ref().err()
    }

    fn settle(self: Box<Self>, failure: Option<StoreError>) {
        let result = match failure {
            None => self.kept,
            Some(failure) => Err(failure),
        };
        // The caller may be gone; the change stands all the same.
        drop(self.answer.send(result));
    }
}

/// Runs callers' code; a panic becomes an error. Its payload may quote what people wrote, so it is
/// dropped unread.
pub(crate) fn undo_panic<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload: Box<dyn Any + Send>| {
        drop(catch_unwind(AssertUnwindSafe(|| drop(payload))));
        tracing::error!("an operation on a store panicked; it was undone");
        Err(StoreError::Panicked)
    })
}

/// The writing thread.
pub(crate) struct Writer {
    place: Arc<Place>,
    connection: Connection,
    guard: Guard,
    jobs: mpsc::Receiver<Work>,
    /// A change of the key that was met among jobs.
    next_key: Option<Rekey>,
    shared: Arc<Shared>,
    /// A commit whose sequence is not in the registry.
    unnoted: bool,
}

impl Writer {
    pub(crate) fn new(
        place: Arc<Place>,
        mut connection: Connection,
        jobs: mpsc::Receiver<Work>,
        shared: Arc<Shared>,
    ) -> Result<Self, StoreError> {
        let guard = Guard::install(&mut connection)?;
        Ok(Self {
            place,
            connection,
            guard,
            jobs,
            next_key: None,
            shared,
            unnoted: false,
        })
    }

    /// Works until the last sender is gone and the queue is empty, then folds the log.
    pub(crate) fn run(mut self) -> Result<(), OpenError> {
        loop {
            if let Some(rekey) = self.next_key.take() {
                if !self.rekey(rekey) {
                    return Err(OpenError::Interrupted);
                }
                continue;
            }
            let work = if self.shared.is_degraded() {
                match self.jobs.recv_timeout(PROBE) {
                    Ok(work) => work,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        self.probe();
                        continue;
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
            } else {
                match self.jobs.recv() {
                    Ok(work) => work,
                    Err(mpsc::RecvError) => break,
                }
            };
            match work {
                Work::Job(job) => self.commit_together(job),
                Work::Rekey(rekey) => self.next_key = Some(rekey),
            }
        }
        close_folded(&self.place, self.connection)
    }

    fn commit_together(&mut self, first: Box<dyn Job>) {
        if let Err(error) = self.catch_up() {
            first.settle(Some(not_written(error)));
            return;
        }
        let mut done = Vec::new();
        let mut next_key = self.next_key.take();
        let outcome = self
            .run_jobs(first, &mut done, &mut next_key)
            .and_then(|tx| {
                if done.is_empty() {
                    // All failed, each has its answer; nothing to keep.
                    return Ok(None);
                }
                let sequence = schema::bump_sequence(&tx)?;
                self.shared.on_disk(|| tx.commit())?;
                Ok(Some(sequence))
            })
            .map_err(|error| connection::refine(&self.connection, error));
        self.next_key = next_key;
        match outcome {
            Ok(None) => {}
            Ok(Some(sequence)) => {
                let noted = self.note(sequence);
                for job in done {
                    let failure = noted
                        .as_ref()
                        .err()
                        .cloned()
                        .map(StoreError::Unacknowledged);
                    job.settle(failure);
                }
            }
            Err(error) => {
                self.shared.failed(&error);
                for job in done {
                    job.settle(Some(repeat(&error)));
                }
            }
        }
    }

    /// Begins a transaction and runs the first job and those that wait. Jobs that fail are answered
    /// here; those that succeed go to `done` and are answered by the caller.
    fn run_jobs(
        &self,
        first: Box<dyn Job>,
        done: &mut Vec<Box<dyn Job>>,
        next_key: &mut Option<Rekey>,
    ) -> Result<Transaction<'_>, StoreError> {
        let started = Instant::now();
        let tx = match Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
        {
            Ok(tx) => tx,
            Err(error) => {
                done.push(first);
                return Err(error.into());
            }
        };
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            if let Err(error) = execute(&tx, "SAVEPOINT aico_write") {
                done.push(job);
                return Err(error);
            }
            let succeeded = self.guard.during(|| job.run(&tx));
            if let Some(error) = job.error() {
                self.shared.failed(error);
            }
            if tx.is_autocommit() {
                // Ended by the engine (a full disk, an `OR ROLLBACK`), with everything in it.
                let why = match job.error() {
                    Some(StoreError::StorageFull) => StoreError::StorageFull,
                    Some(StoreError::StorageReadOnly) => StoreError::StorageReadOnly,
                    Some(error @ StoreError::Io { .. }) => repeat(error),
                    _ => StoreError::Aborted,
                };
                job.settle(succeeded.then_some(StoreError::Aborted));
                return Err(why);
            }
            if succeeded {
                done.push(job);
                execute(&tx, "RELEASE aico_write")?;
            } else {
                job.settle(None);
                execute(&tx, "ROLLBACK TO aico_write")?;
                execute(&tx, "RELEASE aico_write")?;
            }
            if done.len() < BATCH && started.elapsed() < GATHER {
                next = self.next_job(next_key);
            }
        }
        Ok(tx)
    }

    /// The next job that waits. A change of the key is put aside, and ends the batch.
    fn next_job(&self, next_key: &mut Option<Rekey>) -> Option<Box<dyn Job>> {
        if next_key.is_some() {
            return None;
        }
        match self.jobs.try_recv().ok()? {
            Work::Job(job) => Some(job),
            Work::Rekey(rekey) => {
                *next_key = Some(rekey);
                None
            }
        }
    }

    /// Changes the key; answers who asked. `false`: the file can't be gone on with.
    fn rekey(&mut self, rekey: Rekey) -> bool {
        let mut copying = match self.begin_copy(&rekey) {
            Ok(copying) => copying,
            Err(error) => {
                let error = connection::refine(&self.connection, error);
                self.shared.failed(&error);
                rekey.settle(Err(error));
                return true;
            }
        };
        // Jobs are done between stretches of the copy, on the same connection: what they change
        // in pages that are copied already goes into the copy too.
        let copied = loop {
            if self.shared.ending.load(Ordering::Acquire) {
                break Err(StoreError::Closed);
            }
            match copying.step(&rekey.progress) {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(error) => break Err(connection::refine(&self.connection, error)),
            }
            match self.jobs.try_recv() {
                Ok(Work::Job(job)) => self.commit_together(job),
                Ok(Work::Rekey(other)) => other.settle(Err(StoreError::Busy)),
                Err(_) => {}
            }
            if let Some(other) = self.next_key.take() {
                other.settle(Err(StoreError::Busy));
            }
        };
        let built = copied
            .and_then(|()| self.catch_up().map_err(not_written))
            .and_then(|()| copying.finish(&self.place))
            // The rest of the log, while there is a way back: somebody may hold a view of it.
            .and_then(|built| connection::fold_log(&self.connection).map(|()| built));
        let built = match built {
            Ok(built) => built,
            Err(error) => {
                // The copy lies beside: what keeps it from being made is the same disk's.
                let error = connection::refine(&self.connection, error);
                copying.discard(&self.place);
                self.shared.failed(&error);
                rekey.settle(Err(error));
                return true;
            }
        };
        self.put_in_place(rekey, built)
    }

    fn begin_copy(&self, rekey: &Rekey) -> Result<Copying, StoreError> {
        let record = self.shared.registry.get(&self.shared.id);
        let generation = match record {
            Ok(Some(record)) => record.generation,
            Ok(None) => return Err(StoreError::Closed),
            Err(error) => return Err(not_written(error)),
        };
        Copying::begin(&self.place, &self.connection, rekey, generation)
    }

    /// From the note in the registry on there is no way back: the copy is the next file.
    fn put_in_place(&mut self, rekey: Rekey, built: StoreRecord) -> bool {
        let pause = Pause::new(rekey.readers);
        let (shared, place) = (Arc::clone(&self.shared), Arc::clone(&self.place));
        // Which key it is under is the next one's from the note on, and the file still this one.
        let _changing = shared.in_place.write();
        let open = StoreRecord {
            closed_hash: None,
            ..built.clone()
        };
        let noted = rekey::pass(&shared.faults, FaultPoint::RekeyBuilt)
            .and_then(|()| rekey::note(&*shared.registry, &shared.id, &built));
        if let Err(error) = noted {
            let error = to_store_error(error);
            // A disk that takes nothing has taken no note. Any other failure may have come after it
            // was written: then it has to be undone, or the copy counts.
            let takes_nothing =
                matches!(error, StoreError::StorageFull | StoreError::StorageReadOnly);
            if !takes_nothing && let Err(still) = rekey::forget(&*shared.registry, &shared.id) {
                tracing::error!(
                    store = shared.id,
                    error = ?still,
                    "whether a store is under another key can't be known; it is opened anew"
                );
                shared.ending.store(true, Ordering::Release);
                rekey.settle(Err(StoreError::Closed));
                return false;
            }
            rekey::discard(&place);
            shared.failed(&error);
            rekey.settle(Err(error));
            return true;
        }
        pause.ask(&rekey.reads);
        let swapped = (|| {
            rekey::pass(&shared.faults, FaultPoint::RekeyNoted)?;
            let present = Connection::open_in_memory()
                .map_err(|error| to_open_error(&place, error.into()))?;
            close_folded(&place, std::mem::replace(&mut self.connection, present))?;
            // Open from now on: no hash may stand there once the file can change.
            rekey::swap(&place, &*shared.registry, &shared.id, &open, &shared.faults)?;
            let failed = |error| to_open_error(&place, error);
            let mut connection =
                connection::open(place.path(), rekey.key.expose(), Mode::Write).map_err(failed)?;
            connection::use_log(&connection).map_err(failed)?;
            let guard = Guard::install(&mut connection).map_err(failed)?;
            Ok::<_, OpenError>((connection, guard))
        })();
        match swapped {
            Ok((connection, guard)) => {
                (self.connection, self.guard) = (connection, guard);
                self.shared.committed(built.last_sequence);
                *self.shared.record.lock() = open;
                pause.end(Some(Arc::clone(&rekey.key)));
                tracing::info!(store = self.shared.id, "a store is under another key");
                rekey.settle(Ok(()));
                true
            }
            Err(error) => {
                tracing::error!(
                    store = self.shared.id,
                    ?error,
                    "a store under another key could not be gone on with; it is opened anew"
                );
                shared.ending.store(true, Ordering::Release);
                pause.end(None);
                rekey.settle(Err(StoreError::Closed));
                false
            }
        }
    }

    /// Notes the sequence of a commit.
    fn note(&mut self, sequence: u64) -> Result<(), RegistryError> {
        self.unnoted = true;
        self.shared.committed(sequence);
        let noted = if self.shared.faults.pass(FaultPoint::WriteCommitted) {
            self.shared.on_disk(|| {
                self.shared
                    .registry
                    .note_sequence(&self.shared.id, sequence)
            })
        } else {
            Err(RegistryError::failed(OpenError::Interrupted))
        };
        match &noted {
            Ok(()) => {
                self.unnoted = false;
                self.shared.recovered();
            }
            Err(error) => self.shared.registry_failed(error),
        }
        noted
    }

    /// Notes what an earlier attempt could not.
    fn catch_up(&mut self) -> Result<(), RegistryError> {
        if self.unnoted {
            self.note(self.shared.sequence.load(Ordering::Acquire))
        } else {
            Ok(())
        }
    }

    /// An empty commit, to see whether there is space again.
    fn probe(&mut self) {
        if self.catch_up().is_err() {
            return;
        }
        let commit = || -> Result<u64, StoreError> {
            let tx = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            let sequence = schema::bump_sequence(&tx)?;
            tx.commit()?;
            Ok(sequence)
        };
        if let Ok(sequence) = commit()
            && self.note(sequence).is_ok()
        {
            tracing::info!(store = self.shared.id, "a store can be written again");
        }
    }
}

fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

fn to_open_error(place: &Place, error: StoreError) -> OpenError {
    engine(place.path())(error)
}

pub(crate) fn not_written(error: RegistryError) -> StoreError {
    match error {
        RegistryError::StorageFull => StoreError::StorageFull,
        RegistryError::StorageReadOnly => StoreError::StorageReadOnly,
        error => StoreError::Registry(error),
    }
}

/// The same failure for each job of a commit. Only plain variants come from the engine.
fn repeat(error: &StoreError) -> StoreError {
    match error {
        StoreError::StorageFull => StoreError::StorageFull,
        StoreError::StorageReadOnly => StoreError::StorageReadOnly,
        StoreError::ReadOnly => StoreError::ReadOnly,
        StoreError::Busy => StoreError::Busy,
        StoreError::Damaged { code } => StoreError::Damaged { code: *code },
        StoreError::Io { code } => StoreError::Io { code: *code },
        StoreError::Constraint(kind) => StoreError::Constraint(*kind),
        _ => StoreError::Aborted,
    }
}
