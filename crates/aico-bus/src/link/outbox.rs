//! What waits to be written to one peer.
//!
//! Sending never waits: when the socket has room the frame goes straight in, otherwise it queues
//! here and a task of this outbox writes it when there is room. How much can wait is bounded by
//! the credit that the peer has and, past that, by [`LIMIT`]: a peer that is over it is cut off.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use omq_tokio::{IdentitySocket, Message, Socket, TrySendError};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Most bytes that wait for one peer.
const LIMIT: usize = 64 * 1024 * 1024;
/// Past this many waiting bytes a publish over the link is not taken.
const SATURATED: usize = 8 * 1024 * 1024;

/// One end of the wire.
pub(super) enum Wire {
    /// The daemon's: the socket is shared, the peer is named by its generated routing id.
    Router {
        socket: IdentitySocket,
        route: Bytes,
    },
    /// The child's: it has one peer.
    Dealer(Socket),
}

impl Wire {
    fn try_send(&self, message: Message) -> Result<(), TrySendError> {
        match self {
            Self::Router { socket, route } => socket.try_send_to(route, message),
            Self::Dealer(socket) => socket.try_send(message),
        }
    }

    async fn send(&self, message: Message) -> Result<(), omq_tokio::Error> {
        match self {
            Self::Router { socket, route } => socket.send_to(route, message).await,
            Self::Dealer(socket) => socket.send(message).await,
        }
    }
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Message>,
    bytes: usize,
    /// The task holds a frame that came before those that wait.
    writing: bool,
}

pub(super) struct Outbox {
    wire: Wire,
    waiting: Mutex<Waiting>,
    more: Notify,
    closed: CancellationToken,
}

impl Outbox {
    /// An outbox whose task runs until `closed`; it cancels `closed` when the peer is gone.
    pub(super) fn start(wire: Wire, closed: CancellationToken) -> Arc<Self> {
        let outbox = Arc::new(Self {
            wire,
            waiting: Mutex::default(),
            more: Notify::new(),
            closed,
        });
        tokio::spawn(outbox.clone().run());
        outbox
    }

    /// Sends a frame or queues it. A frame for a peer that is gone is dropped.
    pub(super) fn send(&self, frame: Bytes) {
        let size = frame.len();
        let mut message = Message::single(frame);
        let mut waiting = self.waiting.lock();
        if self.closed.is_cancelled() {
            return;
        }
        if !waiting.writing && waiting.frames.is_empty() {
            match self.wire.try_send(message) {
                Ok(()) => return,
                Err(TrySendError::Full(back)) => message = back,
                Err(_) => return self.closed.cancel(),
            }
        }
        waiting.bytes += size;
        if waiting.bytes > LIMIT {
            tracing::warn!(
                bytes = waiting.bytes,
                "A peer does not read; the link is closed."
            );
            return self.closed.cancel();
        }
        waiting.frames.push_back(message);
        drop(waiting);
        self.more.notify_one();
    }

    /// Whether so much waits that more should not be made.
    pub(super) fn is_saturated(&self) -> bool {
        self.waiting.lock().bytes > SATURATED
    }

    fn pop(&self) -> Option<Message> {
        let mut waiting = self.waiting.lock();
        let frame = waiting.frames.pop_front();
        waiting.writing = frame.is_some();
        waiting.bytes -= frame.as_ref().map_or(0, Message::byte_len);
        frame
    }

    async fn run(self: Arc<Self>) {
        let work = async {
            loop {
                while let Some(frame) = self.pop() {
                    if self.wire.send(frame).await.is_err() {
                        return;
                    }
                }
                self.more.notified().await;
            }
        };
        tokio::select! {
            () = work => {}
            () = self.closed.cancelled() => {}
        }
        self.closed.cancel();
    }
}
