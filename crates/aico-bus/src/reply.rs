//! The channel of one exchange: from whoever answers to whoever asked.
//!
//! Bounded by [`WINDOW`] items; the end, good or bad, never waits for room. Dropping the sending
//! side without an end tells the asker that the server is gone; dropping the receiving side
//! cancels at the server.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{BusError, RequestError};
use crate::parcel::Parcel;

/// Most items of one exchange that wait for the asker; over a link also the credit it starts with.
pub(crate) const WINDOW: usize = 64;

/// How an exchange ended.
pub(crate) enum End {
    /// With a last item, or none.
    Done(Option<Parcel>),
    /// Without success.
    Failed(RequestError),
}

/// A link that stands between server and asker and wants to know what the asker does.
pub(crate) trait Tap: Send + Sync {
    /// The asker has taken this many items since the beginning: as many more may be sent.
    fn consumed(&self, in_all: u64);
    /// The asker wants no more; it may still read what comes.
    fn cancelled(&self);
    /// The asker is gone; what comes is thrown away.
    fn dropped(&self);
}

struct Shared {
    end: Mutex<Option<End>>,
    cancel: CancellationToken,
    dropped: AtomicBool,
    consumed: AtomicU64,
    tap: OnceLock<Box<dyn Tap>>,
}

impl Shared {
    fn cancel(&self) {
        if !self.cancel.is_cancelled() {
            self.cancel.cancel();
            if let Some(tap) = self.tap.get() {
                tap.cancelled();
            }
        }
    }
}

pub(crate) fn channel() -> (ReplySender, ReplyReceiver) {
    let (tx, rx) = mpsc::channel(WINDOW);
    let shared = Arc::new(Shared {
        end: Mutex::new(None),
        cancel: CancellationToken::new(),
        dropped: AtomicBool::new(false),
        consumed: AtomicU64::new(0),
        tap: OnceLock::new(),
    });
    (
        ReplySender {
            tx,
            shared: shared.clone(),
        },
        ReplyReceiver {
            rx,
            shared,
            done: false,
            keep: None,
        },
    )
}

/// The answering side.
pub(crate) struct ReplySender {
    tx: mpsc::Sender<Parcel>,
    shared: Arc<Shared>,
}

impl ReplySender {
    /// Sends an item, waiting for room. Once the asker has cancelled it does not wait.
    pub(crate) async fn send(&self, parcel: Parcel) -> Result<(), BusError> {
        if self.shared.cancel.is_cancelled() {
            return self.try_send(parcel);
        }
        tokio::select! {
            biased;
            sent = self.tx.reserve() => {
                sent.map_err(|_| BusError::Cancelled)?.send(parcel);
                Ok(())
            }
            () = self.shared.cancel.cancelled() => self.try_send(parcel),
        }
    }

    /// Sends an item if there is room.
    pub(crate) fn try_send(&self, parcel: Parcel) -> Result<(), BusError> {
        self.tx.try_send(parcel).map_err(|_| BusError::Cancelled)
    }

    /// Ends the exchange. Never waits.
    pub(crate) fn end(self, end: End) {
        *self.shared.end.lock() = Some(end);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.shared.cancel.is_cancelled() || self.tx.is_closed()
    }

    /// Resolves when the asker wants no more.
    pub(crate) async fn cancelled(&self) {
        self.shared.cancel.cancelled().await;
    }

    /// What the asker cancels by.
    pub(crate) fn token(&self) -> CancellationToken {
        self.shared.cancel.clone()
    }

    /// Whether the asker is gone and what is sent thrown away.
    pub(crate) fn is_closed(&self) -> bool {
        self.tx.is_closed()
    }

    /// For a link to put itself between, once the request is on its way.
    pub(crate) fn tapper(&self) -> Tapper {
        Tapper(self.shared.clone())
    }
}

/// Where a [`Tap`] is put.
pub(crate) struct Tapper(Arc<Shared>);

impl Tapper {
    /// Puts a link between; what happened before is told at once.
    pub(crate) fn tap(self, tap: Box<dyn Tap>) {
        let _ = self.0.tap.set(tap);
        if let Some(tap) = self.0.tap.get() {
            tap.consumed(self.0.consumed.load(Ordering::SeqCst));
            if self.0.cancel.is_cancelled() {
                tap.cancelled();
            }
            if self.0.dropped.load(Ordering::SeqCst) {
                tap.dropped();
            }
        }
    }
}

/// The asking side.
pub(crate) struct ReplyReceiver {
    rx: mpsc::Receiver<Parcel>,
    shared: Arc<Shared>,
    done: bool,
    /// Something that must live as long as the answer is wanted: a link.
    keep: Option<Arc<dyn Any + Send + Sync>>,
}

impl ReplyReceiver {
    /// The next item, the failure, or `None` after the end. Safe to drop half-way.
    pub(crate) async fn recv(&mut self) -> Option<Result<Parcel, RequestError>> {
        if self.done {
            return None;
        }
        if let Some(parcel) = self.rx.recv().await {
            let in_all = self.shared.consumed.fetch_add(1, Ordering::SeqCst) + 1;
            if let Some(tap) = self.shared.tap.get() {
                tap.consumed(in_all);
            }
            return Some(Ok(parcel));
        }
        self.done = true;
        match self.shared.end.lock().take() {
            Some(End::Done(last)) => last.map(Ok),
            Some(End::Failed(error)) => Some(Err(error)),
            None => Some(Err(RequestError::ServerGone)),
        }
    }

    /// Tells the server that no more is wanted; what it still sends can be read.
    pub(crate) fn cancel(&self) {
        if !self.done {
            self.shared.cancel();
        }
    }

    pub(crate) fn keep(&mut self, what: Arc<dyn Any + Send + Sync>) {
        self.keep = Some(what);
    }

    /// Whether it was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.shared.cancel.is_cancelled()
    }
}

impl Drop for ReplyReceiver {
    fn drop(&mut self) {
        self.rx.close();
        // An exchange that has ended by itself has nobody left to tell.
        if !self.done && self.shared.end.lock().is_none() {
            self.shared.cancel();
            self.shared.dropped.store(true, Ordering::SeqCst);
            if let Some(tap) = self.shared.tap.get() {
                tap.dropped();
            }
        }
    }
}
