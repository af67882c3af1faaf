//! What waits to be written to one peer.
//!
//! Sending never waits: when the socket has room the frame goes straight in, otherwise it queues
//! here and a task of this outbox writes it when there is room. Envelopes of one topic that are
//! published meanwhile share a frame, so nobody waits for others to come and whoever is faster
//! than the link pays less for each. How much can wait is bounded by the credit that the peer has
//! and, past that, by [`LIMIT`]: a peer that is over it is cut off.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use omq_tokio::{IdentitySocket, Message, Socket, TrySendError};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::wire;
use crate::parcel::Parcel;

/// Envelopes of one topic that wait together travel in one frame up to these bounds.
pub(super) const FRAME_ENVELOPES: usize = 64;
pub(super) const FRAME_BYTES: usize = 256 * 1024;

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

/// What becomes one frame.
enum Item {
    Frame(Message),
    /// Published by this end on one topic, to no receiver.
    Parcels {
        parcels: Vec<Parcel>,
        bytes: usize,
    },
}

impl Item {
    /// Adds a parcel if it may travel in the same frame.
    fn join(&mut self, parcel: &Parcel, size: usize) -> bool {
        match self {
            Self::Parcels { parcels, bytes }
                if parcels
                    .first()
                    .is_some_and(|first| first.envelope.topic == parcel.envelope.topic)
                    && parcels.len() < FRAME_ENVELOPES
                    && *bytes + size <= FRAME_BYTES =>
            {
                *bytes += size;
                parcels.push(parcel.clone());
                true
            }
            _ => false,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Frame(message) => message.byte_len(),
            Self::Parcels { bytes, .. } => *bytes,
        }
    }

    fn into_message(self) -> Message {
        match self {
            Self::Frame(message) => message,
            Self::Parcels { parcels, .. } => Message::single(wire::frame(&parcels, 0)),
        }
    }
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
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
        let mut waiting = self.waiting.lock();
        if let Some(message) = self.try_send(&waiting, || frame) {
            self.queue(&mut waiting, Item::Frame(message));
        }
    }

    /// Sends what this end publishes, alone or with what waits already.
    pub(super) fn publish(&self, parcel: &Parcel) {
        let mut waiting = self.waiting.lock();
        if self.is_free(&waiting) {
            let frame = || wire::frame_of(parcel, 0);
            if let Some(message) = self.try_send(&waiting, frame) {
                self.queue(&mut waiting, Item::Frame(message));
            }
            return;
        }
        let size = parcel.size();
        let mut last = waiting.items.back_mut();
        if last.as_mut().is_some_and(|last| last.join(parcel, size)) {
            return self.count(&mut waiting, size);
        }
        let item = Item::Parcels {
            parcels: vec![parcel.clone()],
            bytes: size,
        };
        self.queue(&mut waiting, item);
    }

    /// Nothing waits before what comes now.
    fn is_free(&self, waiting: &Waiting) -> bool {
        !waiting.writing && waiting.items.is_empty()
    }

    /// Gives a frame back that has to wait.
    fn try_send(&self, waiting: &Waiting, frame: impl FnOnce() -> Bytes) -> Option<Message> {
        if self.closed.is_cancelled() {
            return None;
        }
        let message = Message::single(frame());
        if !self.is_free(waiting) {
            return Some(message);
        }
        match self.wire.try_send(message) {
            Ok(()) => None,
            Err(TrySendError::Full(back)) => Some(back),
            Err(_) => {
                self.closed.cancel();
                None
            }
        }
    }

    fn queue(&self, waiting: &mut Waiting, item: Item) {
        let size = item.len();
        waiting.items.push_back(item);
        self.count(waiting, size);
        self.more.notify_one();
    }

    fn count(&self, waiting: &mut Waiting, size: usize) {
        waiting.bytes += size;
        if waiting.bytes > LIMIT && !self.closed.is_cancelled() {
            let bytes = waiting.bytes;
            tracing::warn!(bytes, "A peer does not read; the link is closed.");
            self.closed.cancel();
        }
    }

    /// Whether so much waits that more should not be made.
    pub(super) fn is_saturated(&self) -> bool {
        self.waiting.lock().bytes > SATURATED
    }

    fn pop(&self) -> Option<Message> {
        let mut waiting = self.waiting.lock();
        let item = waiting.items.pop_front();
        waiting.writing = item.is_some();
        waiting.bytes -= item.as_ref().map_or(0, Item::len);
        drop(waiting);
        item.map(Item::into_message)
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

#[cfg(test)]
mod tests {
    use aico_contracts::v1::Envelope;
    use omq_tokio::SocketType;

    use super::*;
    use crate::link::options;
    use crate::link::wire::Read;

    /// An outbox before which something is being written.
    fn outbox() -> Outbox {
        Outbox {
            wire: Wire::Dealer(Socket::try_new(SocketType::Dealer, options()).unwrap()),
            waiting: Mutex::new(Waiting {
                writing: true,
                ..Waiting::default()
            }),
            more: Notify::new(),
            closed: CancellationToken::new(),
        }
    }

    fn parcel(topic: &str, payload: &[u8]) -> Parcel {
        Parcel::new(Envelope {
            id: Bytes::from_static(&[1; 16]),
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload),
            ..Envelope::default()
        })
    }

    /// The payloads in each frame that waits.
    fn frames(outbox: &Outbox) -> Vec<Vec<Bytes>> {
        let messages = std::iter::from_fn(|| outbox.pop());
        messages
            .map(|message| match wire::read(message.into_bytes().unwrap()) {
                Ok(Read::Parcels { parcels, .. }) => {
                    parcels.into_iter().map(|(one, _)| one.payload).collect()
                }
                _ => panic!("a frame of envelopes was expected"),
            })
            .collect()
    }

    #[tokio::test]
    async fn what_waits_on_one_topic_shares_a_frame_and_nothing_is_overtaken() {
        let outbox = outbox();
        outbox.publish(&parcel("a.a", b"0"));
        outbox.publish(&parcel("a.a", b"1"));
        outbox.publish(&parcel("a.b", b"2"));
        outbox.publish(&parcel("a.a", b"3"));
        outbox.send(wire::frame_of(&parcel("a.a", b"4"), 7));
        outbox.publish(&parcel("a.a", b"5"));
        outbox.publish(&parcel("a.a", b"6"));
        let expected: [&[&[u8]]; 5] = [&[b"0", b"1"], &[b"2"], &[b"3"], &[b"4"], &[b"5", b"6"]];
        assert_eq!(frames(&outbox), expected);
        assert_eq!(outbox.waiting.lock().bytes, 0);
        assert!(!outbox.waiting.lock().writing);
    }

    #[tokio::test]
    async fn a_frame_holds_no_more_than_it_may() {
        let outbox = outbox();
        for _ in 0..=FRAME_ENVELOPES {
            outbox.publish(&parcel("a.a", b"x"));
        }
        let held: Vec<usize> = frames(&outbox).iter().map(Vec::len).collect();
        assert_eq!(held, [FRAME_ENVELOPES, 1]);
        outbox.waiting.lock().writing = true;
        for _ in 0..3 {
            outbox.publish(&parcel("a.a", &[0; FRAME_BYTES / 2 - 300]));
        }
        let held: Vec<usize> = frames(&outbox).iter().map(Vec::len).collect();
        assert_eq!(held, [2, 1]);
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_cut_off() {
        let outbox = outbox();
        let large = parcel("a.a", &vec![0; LIMIT / 4]);
        for _ in 0..3 {
            outbox.publish(&large);
            assert!(!outbox.closed.is_cancelled());
        }
        outbox.publish(&large);
        assert!(outbox.closed.is_cancelled());
    }
}
