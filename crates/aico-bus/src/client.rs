//! What a module holds to talk on the bus.

use std::sync::Arc;

use aico_contracts::topics::{self, Class};
use aico_contracts::v1::{Envelope, Fault};
use aico_contracts::{ByteString, Payload};
use bytes::Bytes;
use tokio::time::Instant;

use crate::MAX_PAYLOAD;
use crate::error::{BusError, RequestError};
use crate::exchange::{ReplyStream, Requests};
use crate::follow::{Follower, Pending};
use crate::identity::Identity;
use crate::ids::now_ns;
use crate::journal::{JournalFault, Start};
use crate::meta::{Meta, time_left};
use crate::parcel::{Kind, exchange};
use crate::pattern::Pattern;
use crate::port::Port;
use crate::queue::{Queue, Subscription};
use crate::trace::Trace;

/// A member of the bus. Cheap to clone; the same calls inside the daemon and over a link.
#[derive(Clone)]
pub struct Client {
    port: Arc<dyn Port>,
}

impl Client {
    pub(crate) fn new(port: Arc<dyn Port>) -> Self {
        Self { port }
    }

    /// The name under which it joined.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.port.speaker().identity
    }

    /// Publishes to everyone who subscribed to a pattern of this topic. Never waits for them.
    ///
    /// # Errors
    /// When the policy refuses, the topic is none, the payload too large or the bus closed.
    pub fn publish(&self, topic: &str, message: &impl Payload, meta: Meta) -> Result<(), BusError> {
        let envelope = self.envelope(topic, message, meta)?;
        self.port.publish(envelope)
    }

    /// Publishes on a durable topic, and tells when the message is in the journal: it survives
    /// whatever comes, and every process that follows gets it. Inside the daemon it is delivered
    /// at once, as by [`publish`](Self::publish). Several may be on their way; they keep their
    /// order. A repetition with the same [`Meta::id`] is kept once.
    ///
    /// # Errors
    /// Now, as for `publish`, or when the topic is not durable or there is no journal: then it
    /// was delivered to nobody. Later, out of [`Pending`], when the journal could not keep it.
    pub fn publish_durably(
        &self,
        topic: &str,
        message: &impl Payload,
        meta: Meta,
    ) -> Result<Pending, BusError> {
        let envelope = self.envelope(topic, message, meta)?;
        if topics::class(topic) != Class::Durable {
            return Err(BusError::Journal(JournalFault::NotDurable));
        }
        self.port.publish_durably(envelope)
    }

    /// Follows the durable messages on a pattern: first those that are kept, from `start` on,
    /// then those that come, at least once and in the order of the journal. Waits until it
    /// stands. Over a link `queue` bounds what is on its way; nothing is dropped.
    ///
    /// # Errors
    /// When the policy refuses, the pattern or the cursor's name is none, there is no journal, or
    /// the bus is closed.
    pub async fn follow(
        &self,
        pattern: &str,
        start: Start,
        queue: Queue,
    ) -> Result<Follower, BusError> {
        self.port.follow(parse(pattern)?, start, queue).await
    }

    /// Receives what is published on a pattern from now on: `*` is one whole segment, `#` the
    /// rest.
    ///
    /// # Errors
    /// When the policy refuses, the pattern is none or the bus closed. Over a link the refusal
    /// comes later: [`Subscription::ready`].
    pub fn subscribe(&self, pattern: &str, queue: Queue) -> Result<Subscription, BusError> {
        self.port.subscribe(parse(pattern)?, queue)
    }

    /// Answers what is asked on a pattern, at most `concurrency` requests at a time. When several
    /// serve one topic, the one that came last is asked.
    ///
    /// # Errors
    /// When the policy refuses, the pattern is none or the bus closed. Over a link the refusal
    /// comes later: [`Requests::ready`].
    pub fn serve(&self, pattern: &str, concurrency: usize) -> Result<Requests, BusError> {
        self.port.serve(parse(pattern)?, concurrency)
    }

    /// Asks for one answer. Dropping the future cancels at the server.
    ///
    /// # Errors
    /// At once when nobody serves the topic, the server died or the deadline passed; the server's
    /// own failure as [`RequestError::Fault`].
    pub async fn request<Q: Payload, R: Payload>(
        &self,
        topic: &str,
        question: &Q,
        meta: Meta,
    ) -> Result<R, RequestError> {
        let mut answers = self.open_stream::<Q, R>(topic, question, meta).await?;
        match answers.next().await {
            Some(answer) => answer,
            None => Err(RequestError::Malformed("it ended without an answer".into())),
        }
    }

    /// Asks for a stream of answers. Dropping the stream cancels at the server. A deadline holds
    /// for the whole of it.
    ///
    /// # Errors
    /// As for [`request`](Self::request); later ones come out of the stream.
    pub async fn open_stream<Q: Payload, R: Payload>(
        &self,
        topic: &str,
        question: &Q,
        meta: Meta,
    ) -> Result<ReplyStream<R>, RequestError> {
        let envelope = self
            .envelope(topic, question, meta)
            .map_err(RequestError::Refused)?;
        self.ask(envelope).await
    }

    /// Asks on another topic what this request asks: with its id, its person, its deadline and its
    /// payload, which is not copied. As [`open_stream`](Self::open_stream) otherwise; who asks
    /// is the one who passes it on.
    ///
    /// # Errors
    /// As for [`request`](Self::request); later ones come out of the stream.
    pub async fn pass_on<R: Payload>(
        &self,
        request: &Envelope,
        topic: &str,
    ) -> Result<ReplyStream<R>, RequestError> {
        let mut envelope = request.clone();
        envelope.topic = self.port.topic(topic).map_err(|source| {
            RequestError::Refused(BusError::Topic {
                topic: topic.to_owned(),
                source,
            })
        })?;
        self.ask(envelope).await
    }

    async fn ask<R: Payload>(
        &self,
        mut envelope: Envelope,
    ) -> Result<ReplyStream<R>, RequestError> {
        envelope.exchange = exchange(Kind::Request, 0);
        let left = time_left(&envelope);
        // A deadline too far away to be told on the clock is none.
        let deadline = left.and_then(|left| Instant::now().checked_add(left));
        let asked = self.port.ask(envelope);
        let receiver = match deadline {
            None => asked.await?,
            Some(_) if left == Some(std::time::Duration::ZERO) => {
                return Err(RequestError::DeadlinePassed);
            }
            Some(at) => tokio::time::timeout_at(at, asked)
                .await
                .map_err(|_| RequestError::DeadlinePassed)??,
        };
        Ok(ReplyStream::new(receiver, deadline))
    }

    /// Resolves when the bus, or the link to it, is closed for good: a child process ends then.
    pub async fn closed(&self) {
        self.port.closed().await;
    }

    fn envelope(
        &self,
        topic: &str,
        message: &impl Payload,
        meta: Meta,
    ) -> Result<Envelope, BusError> {
        let topic = self.port.topic(topic).map_err(|source| BusError::Topic {
            topic: topic.to_owned(),
            source,
        })?;
        let mut envelope = meta.envelope();
        if let (true, Some(trace)) = (envelope.trace.is_empty(), Trace::current()) {
            envelope.trace = Bytes::copy_from_slice(&trace.to_bytes());
        }
        let now = now_ns();
        if envelope.id.is_empty() {
            envelope.id = self.port.speaker().ids.next(now);
        }
        envelope.topic = topic;
        envelope.time_unix_ns = now;
        fill(&mut envelope, message)?;
        Ok(envelope)
    }
}

fn fill<M: Payload>(envelope: &mut Envelope, message: &M) -> Result<(), BusError> {
    let bytes = message.encoded_len();
    if bytes > MAX_PAYLOAD {
        return Err(BusError::TooLarge { bytes });
    }
    envelope.payload_type = ByteString::from_static(M::TYPE);
    envelope.payload = Bytes::from(message.encode_to_vec());
    Ok(())
}

fn parse(pattern: &str) -> Result<Pattern, BusError> {
    pattern.parse().map_err(|source| BusError::Topic {
        topic: pattern.to_owned(),
        source,
    })
}

/// The payload of an envelope as a message.
///
/// # Errors
/// A `malformed` fault when it is of another type or can't be read.
pub fn decode<M: Payload>(envelope: &Envelope) -> Result<M, Fault> {
    let malformed =
        |detail: String| Fault::new("malformed", "A message can't be read").with_detail(detail);
    if envelope.payload_type != M::TYPE {
        return Err(malformed(format!("{} was expected", M::TYPE)));
    }
    M::decode(envelope.payload.clone()).map_err(|error| malformed(error.to_string()))
}
