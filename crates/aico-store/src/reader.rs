//! The threads that read: each has a connection that can't write, and gives every job a
//! consistent view. They never wait for the writer, nor it for them.

use std::sync::{Arc, mpsc};

use aico_vault::Key;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    connection::{self, Mode},
    error::StoreError,
    guard::Guard,
    place::Place,
    rekey::Pause,
    shared::Shared,
    turn::Turn,
    writer::undo_panic,
};

/// Something to run on a reading connection.
pub(crate) type ReadJob = Box<dyn FnOnce(Result<&Open, StoreError>, &Shared) + Send>;

/// A connection to read with.
pub(crate) type Open = (Connection, Guard);

/// What a reading thread is sent.
pub(crate) enum ReadWork {
    /// A caller's closure.
    Job(ReadJob),
    /// The file is being replaced: let go of it until that is done.
    Pause(Arc<Pause>),
}

/// The readers' queue, shared by all of them.
pub(crate) type Queue = Arc<Mutex<mpsc::Receiver<ReadWork>>>;

/// Wraps a caller's closure. One whose caller is gone is not run.
pub(crate) fn job<T, F>(
    work: F,
    turn: Turn,
    slot: OwnedSemaphorePermit,
) -> (ReadJob, oneshot::Receiver<Result<T, StoreError>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
{
    let (answer, receiver) = oneshot::channel();
    let job = Box::new(move |open: Result<&Open, StoreError>, shared: &Shared| {
        let _slot = slot;
        if !answer.is_closed() && turn.begin() {
            let result = open.and_then(|(connection, guard)| read(connection, guard, work));
            if let Err(error) = &result {
                shared.failed(error);
            }
            drop(answer.send(result));
        }
    });
    (job, receiver)
}

fn read<T>(
    connection: &Connection,
    guard: &Guard,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    execute(connection, "BEGIN DEFERRED")?;
    let result = guard.during(|| undo_panic(|| work(connection)));
    // A reading transaction has nothing to lose; what could fail here has failed before.
    if !connection.is_autocommit()
        && let Err(error) = execute(connection, "ROLLBACK")
    {
        tracing::warn!(?error, "a reading transaction could not be ended");
    }
    result
}

fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// What a reading thread reads with. It lets go of the file when that is replaced, and opens the new
/// one when it is asked the next time: a failure is one question's, not the thread's end.
struct Reading {
    open: Option<Open>,
    next_key: Option<Arc<Key>>,
}

impl Reading {
    fn get(&mut self, place: &Place) -> Result<&Open, StoreError> {
        if self.open.is_none()
            && let Some(key) = &self.next_key
        {
            let mut connection = connection::open(place.path(), key.expose(), Mode::Read)?;
            let guard = Guard::install(&mut connection)?;
            self.open = Some((connection, guard));
        }
        self.open.as_ref().ok_or(StoreError::Closed)
    }
}

/// A reading thread's work, until the last sender is gone.
pub(crate) fn run(place: Arc<Place>, open: Open, shared: Arc<Shared>, jobs: Queue) {
    let mut reading = Reading {
        open: Some(open),
        next_key: None,
    };
    loop {
        // The lock is held while waiting: the next reader waits for the lock instead of the queue.
        let job = jobs.lock().recv();
        match job {
            Ok(ReadWork::Job(job)) => job(reading.get(&place), &shared),
            Ok(ReadWork::Pause(pause)) => {
                reading.open = None;
                reading.next_key = pause.wait_it_out();
                if reading.next_key.is_none() {
                    return;
                }
            }
            Err(mpsc::RecvError) => return,
        }
    }
}
