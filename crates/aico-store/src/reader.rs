//! The threads that read: each has a connection that can't write, and gives every job a
//! consistent view. They never wait for the writer, nor it for them.

use std::sync::{Arc, mpsc};

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
pub(crate) type ReadJob = Box<dyn FnOnce(&Connection, &Guard, &Shared) + Send>;

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
    let job = Box::new(
        move |connection: &Connection, guard: &Guard, shared: &Shared| {
            let _slot = slot;
            if !answer.is_closed() && turn.begin() {
                let result = read(connection, guard, work);
                if let Err(error) = &result {
                    shared.failed(error);
                }
                drop(answer.send(result));
            }
        },
    );
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

/// A reading thread's work, until the last sender is gone.
pub(crate) fn run(
    place: Arc<Place>,
    mut open: (Connection, Guard),
    shared: Arc<Shared>,
    jobs: Queue,
) {
    loop {
        // The lock is held while waiting: the next reader waits for the lock instead of the queue.
        let job = jobs.lock().recv();
        match job {
            Ok(ReadWork::Job(job)) => job(&open.0, &open.1, &shared),
            Ok(ReadWork::Pause(pause)) => {
                drop(open);
                let Some(key) = pause.wait_it_out() else {
                    return;
                };
                let again = connection::open(place.path(), key.expose(), Mode::Read).and_then(
                    |mut connection| {
                        Guard::install(&mut connection).map(|guard| (connection, guard))
                    },
                );
                match again {
                    Ok(again) => open = again,
                    Err(error) => {
                        tracing::error!(store = shared.id, ?error, "a reader can't go on");
                        return;
                    }
                }
            }
            Err(mpsc::RecvError) => return,
        }
    }
}
