//! Requests, their answers, and streams of answers.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aico_contracts::v1::{Envelope, Fault};
use aico_contracts::{ByteString, Payload};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::client::decode;
use crate::error::{BusError, RequestError};
use crate::ids::now_ns;
use crate::meta::time_left;
use crate::parcel::{Kind, Parcel, exchange};
use crate::port::Speaker;
use crate::queue::{Guard, wait_confirmed};
use crate::reply::{End, ReplyReceiver, ReplySender};
use crate::server::{Incoming, Place, Places};

/// What is asked of a server, one at a time. Dropping it ends the service; requests that still
/// wait are told that the server went away.
pub struct Requests {
    rx: mpsc::Receiver<Incoming>,
    places: Places,
    speaker: Speaker,
    confirmation: Option<watch::Receiver<Option<Result<(), BusError>>>>,
    _guard: Guard,
}

impl Requests {
    pub(crate) fn new(
        rx: mpsc::Receiver<Incoming>,
        places: Places,
        speaker: Speaker,
        guard: Guard,
    ) -> Self {
        Self {
            rx,
            places,
            speaker,
            confirmation: None,
            _guard: guard,
        }
    }

    pub(crate) fn over_link(
        mut self,
        confirmation: watch::Receiver<Option<Result<(), BusError>>>,
    ) -> Self {
        self.confirmation = Some(confirmation);
        self
    }

    /// The next request, once fewer than `concurrency` of them are in progress; `None` when the
    /// bus is closed. Requests past their deadline, or cancelled while they waited, are not given.
    pub async fn recv(&mut self) -> Option<Request> {
        let free = self.places.free().await?;
        loop {
            let incoming = self.rx.recv().await?;
            if incoming.reply.is_cancelled() {
                continue;
            }
            if time_left(&incoming.parcel.envelope) == Some(Duration::ZERO) {
                incoming.fail(RequestError::DeadlinePassed);
                continue;
            }
            return Some(Request {
                envelope: incoming.parcel.envelope,
                wire: incoming.parcel.wire,
                reply: incoming.reply,
                speaker: self.speaker.clone(),
                place: self.places.take(free),
            });
        }
    }

    /// Waits until the service stands at the daemon; inside the daemon it stands at once.
    ///
    /// # Errors
    /// When the policy refused it or the link ended.
    pub async fn ready(&mut self) -> Result<(), BusError> {
        wait_confirmed(self.confirmation.as_mut()).await
    }
}

/// One request. It counts as in progress until it, or the [`Responder`] made of it, is dropped;
/// dropped without an answer it tells the asker that the server went away.
pub struct Request {
    /// What was asked, with the verified sender, the person and the deadline.
    pub envelope: Arc<Envelope>,
    wire: Option<Bytes>,
    reply: ReplySender,
    speaker: Speaker,
    place: Place,
}

impl Request {
    /// The request as a message.
    ///
    /// # Errors
    /// A fault to answer with, when it is not of this type or can't be read.
    pub fn decode<M: Payload>(&self) -> Result<M, Fault> {
        decode(&self.envelope)
    }

    /// When the answer is no longer wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<SystemTime> {
        let at = self.envelope.deadline_unix_ns;
        (at != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_nanos(at))
    }

    /// Whether the asker has stopped waiting.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reply.is_cancelled()
    }

    /// Answers with one message.
    pub fn reply<M: Payload>(self, message: M) {
        self.stream().end(message);
    }

    /// Answers with a failure.
    pub fn fault(self, fault: Fault) {
        self.stream().fault(fault);
    }

    /// Answers with a stream of messages.
    #[must_use]
    pub fn stream(self) -> Responder {
        Responder {
            envelope: self.envelope,
            reply: Some(self.reply),
            speaker: self.speaker,
            index: 0,
            _place: self.place,
        }
    }

    /// Takes it apart, for a link that passes it on.
    pub(crate) fn into_parts(self) -> (Parcel, ReplySender, Place) {
        (
            Parcel {
                envelope: self.envelope,
                wire: self.wire,
            },
            self.reply,
            self.place,
        )
    }
}

/// Answers one request with a stream. Dropped without an end it tells the asker that the server
/// went away.
pub struct Responder {
    envelope: Arc<Envelope>,
    reply: Option<ReplySender>,
    speaker: Speaker,
    index: u64,
    _place: Place,
}

impl Responder {
    /// Sends one item; waits while the asker has many that it did not take.
    ///
    /// # Errors
    /// [`BusError::Cancelled`] when the asker wants no more: time to stop.
    pub async fn send<M: Payload>(&mut self, message: M) -> Result<(), BusError> {
        let parcel = self.parcel(&message, Kind::Item);
        self.index += 1;
        match &self.reply {
            Some(reply) => reply.send(parcel).await,
            None => Err(BusError::Cancelled),
        }
    }

    /// Sends the last item and ends. Never waits.
    pub fn end<M: Payload>(mut self, message: M) {
        let parcel = self.parcel(&message, Kind::End);
        self.close(End::Done(Some(parcel)));
    }

    /// Ends without a further item.
    pub fn finish(mut self) {
        self.close(End::Done(None));
    }

    /// Ends with a failure. Never waits.
    pub fn fault(mut self, fault: Fault) {
        self.close(End::Failed(RequestError::Fault(fault)));
    }

    /// Resolves when the asker cancelled or went away.
    pub async fn cancelled(&self) {
        match &self.reply {
            Some(reply) => reply.cancelled().await,
            None => std::future::ready(()).await,
        }
    }

    /// Whether the asker cancelled or went away.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reply.as_ref().is_none_or(ReplySender::is_cancelled)
    }

    /// A future of its own that resolves when the asker cancelled, for another task.
    pub fn cancellation(&self) -> impl Future<Output = ()> + Send + 'static {
        let token = self.reply.as_ref().map(ReplySender::token);
        async move {
            if let Some(token) = token {
                token.cancelled().await;
            }
        }
    }

    /// What was asked.
    #[must_use]
    pub fn request(&self) -> &Envelope {
        &self.envelope
    }

    fn close(&mut self, end: End) {
        if let Some(reply) = self.reply.take() {
            reply.end(end);
        }
    }

    fn parcel<M: Payload>(&self, message: &M, kind: Kind) -> Parcel {
        let request = &*self.envelope;
        let now = now_ns();
        Parcel::new(Envelope {
            id: self.speaker.ids.next(now),
            topic: request.topic.clone(),
            time_unix_ns: now,
            person: request.person.clone(),
            purpose: request.purpose.clone(),
            priority: request.priority,
            correlation: request.id.clone(),
            trace: request.trace.clone(),
            schema_version: aico_contracts::SCHEMA_VERSION,
            payload_type: ByteString::from_static(M::TYPE),
            payload: Bytes::from(message.encode_to_vec()),
            exchange: exchange(kind, self.index),
            epoch: self.speaker.epoch.clone(),
            sender: self.speaker.identity.name().clone(),
            stamped_unix_ns: now,
            ..Envelope::default()
        })
    }
}

/// The answers to one request as they come. Dropping it cancels at the server.
pub struct ReplyStream<R> {
    receiver: ReplyReceiver,
    deadline: Option<Instant>,
    failed: bool,
    answers: PhantomData<fn() -> R>,
}

impl<R: Payload> ReplyStream<R> {
    pub(crate) fn new(receiver: ReplyReceiver, deadline: Option<Instant>) -> Self {
        Self {
            receiver,
            deadline,
            failed: false,
            answers: PhantomData,
        }
    }

    /// The next answer; a failure is the last thing it gives; `None` after the end.
    ///
    /// Safe to drop half-way (in a `select!`): no answer is lost.
    pub async fn next(&mut self) -> Option<Result<R, RequestError>> {
        if self.failed {
            return None;
        }
        let received = match self.deadline {
            None => self.receiver.recv().await,
            Some(at) => match tokio::time::timeout_at(at, self.receiver.recv()).await {
                Ok(received) => received,
                Err(_) => {
                    self.receiver.cancel();
                    Some(Err(RequestError::DeadlinePassed))
                }
            },
        };
        let answer = received?.and_then(|parcel| {
            decode(&parcel.envelope).map_err(|fault| {
                self.receiver.cancel();
                RequestError::Malformed(fault.detail)
            })
        });
        self.failed = answer.is_err();
        Some(answer)
    }

    /// Tells the server that no more is wanted. What it sends until it ends can still be read:
    /// drop the stream when that is not wanted either.
    pub fn cancel(&self) {
        self.receiver.cancel();
    }
}
