//! The seam between what a module calls and how it travels.
//!
//! [`Client`](crate::Client) is written against this alone. Inside the daemon the port is the bus
//! itself; in another process it is a link.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use aico_contracts::ByteString;
use aico_contracts::v1::Envelope;
use bytes::Bytes;

use crate::error::{BusError, RequestError};
use crate::exchange::Requests;
use crate::follow::{Follower, Pending};
use crate::identity::Identity;
use crate::ids::IdSource;
use crate::journal::Start;
use crate::pattern::{Pattern, TopicError, check_topic};
use crate::queue::{Queue, Subscription};
use crate::reply::ReplyReceiver;

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who speaks here, for the envelopes that are made on this side.
#[derive(Clone)]
pub(crate) struct Speaker {
    pub(crate) identity: Identity,
    pub(crate) epoch: Bytes,
    pub(crate) ids: Arc<IdSource>,
}

/// One member's way to the bus.
pub(crate) trait Port: Send + Sync {
    fn speaker(&self) -> &Speaker;

    /// A topic as envelopes carry it, when it is one.
    fn topic(&self, topic: &str) -> Result<ByteString, TopicError> {
        check_topic(topic).map(|()| topic.into())
    }

    /// Never waits, least of all for a subscriber.
    fn publish(&self, envelope: Envelope) -> Result<(), BusError>;

    /// Hands over to the journal, on a durable topic. Never waits.
    fn publish_durably(&self, envelope: Envelope) -> Result<Pending, BusError>;

    /// Resolves once it stands, or with the reason why it does not.
    fn follow(
        &self,
        pattern: Pattern,
        start: Start,
        queue: Queue,
    ) -> Boxed<'_, Result<Follower, BusError>>;

    fn subscribe(&self, pattern: Pattern, queue: Queue) -> Result<Subscription, BusError>;

    fn serve(&self, pattern: Pattern, concurrency: usize) -> Result<Requests, BusError>;

    /// Resolves once a server has the request, or with the reason why none has.
    fn ask(&self, envelope: Envelope) -> Boxed<'_, Result<ReplyReceiver, RequestError>>;

    /// Resolves when this way to the bus is closed for good.
    fn closed(&self) -> Boxed<'_, ()>;
}
