//! Who serves which topics, and the queue of requests before each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::error::RequestError;
use crate::identity::Identity;
use crate::parcel::Parcel;
use crate::pattern::Pattern;
use crate::reply::{End, ReplySender};

/// Most requests that wait before one server.
pub(crate) const BACKLOG: usize = 1024;

/// A request on its way to a server.
pub(crate) struct Incoming {
    pub(crate) parcel: Parcel,
    pub(crate) reply: ReplySender,
}

impl Incoming {
    pub(crate) fn fail(self, error: RequestError) {
        self.reply.end(End::Failed(error));
    }
}

/// One registration of `serve`.
pub(crate) struct Server {
    pub(crate) identity: Identity,
    pub(crate) pattern: Pattern,
    pub(crate) concurrency: usize,
    pub(crate) places: Places,
    tx: Mutex<Option<mpsc::Sender<Incoming>>>,
}

/// How many requests of one server may be in progress, and how many are.
#[derive(Clone)]
pub(crate) struct Places {
    permits: Arc<Semaphore>,
    taken: Arc<AtomicUsize>,
}

impl Places {
    /// Waits for a place. It is not taken yet: a server waits in it for the next request.
    pub(crate) async fn free(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().acquire_owned().await.ok()
    }

    /// Takes a place for a request.
    pub(crate) fn take(&self, permit: OwnedSemaphorePermit) -> Place {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Place {
            taken: self.taken.clone(),
            _permit: permit,
        }
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// The place of one request in progress; given back when dropped.
pub(crate) struct Place {
    taken: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a server did not take a request.
pub(crate) enum NotTaken {
    /// It is gone; another may serve.
    Gone(Incoming),
    /// Too many wait already.
    Full,
}

impl Server {
    pub(crate) fn new(
        identity: Identity,
        pattern: Pattern,
        concurrency: usize,
    ) -> (Arc<Self>, mpsc::Receiver<Incoming>) {
        let (tx, rx) = mpsc::channel(BACKLOG);
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let places = Places {
            permits: Arc::new(Semaphore::new(concurrency)),
            taken: Arc::default(),
        };
        let tx = Mutex::new(Some(tx));
        (
            Arc::new(Self {
                identity,
                pattern,
                concurrency,
                places,
                tx,
            }),
            rx,
        )
    }

    pub(crate) fn take(&self, incoming: Incoming) -> Result<(), NotTaken> {
        let tx = self.tx.lock();
        let Some(tx) = tx.as_ref() else {
            return Err(NotTaken::Gone(incoming));
        };
        tx.try_send(incoming).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotTaken::Full,
            mpsc::error::TrySendError::Closed(incoming) => NotTaken::Gone(incoming),
        })
    }

    /// No more requests; those that wait are still given out.
    pub(crate) fn close(&self) {
        self.tx.lock().take();
    }

    pub(crate) fn waiting(&self) -> usize {
        self.tx
            .lock()
            .as_ref()
            .map_or(0, |tx| BACKLOG - tx.capacity())
    }
}
