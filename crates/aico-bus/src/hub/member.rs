//! The port of a module inside the daemon.

use std::sync::Arc;

use aico_contracts::ByteString;
use aico_contracts::v1::Envelope;

use super::Hub;
use crate::error::{BusError, RequestError};
use crate::exchange::Requests;
use crate::follow::{Follower, Pending};
use crate::journal::Start;
use crate::pattern::{Pattern, TopicError};
use crate::port::{Boxed, Port, Speaker};
use crate::queue::{Queue, Subscription};
use crate::reply::ReplyReceiver;
use crate::traffic::Traffic;

/// The port of a module inside the daemon.
pub(crate) struct Member {
    pub(super) hub: Arc<Hub>,
    pub(super) speaker: Speaker,
    pub(super) traffic: Arc<Traffic>,
}

impl Member {
    pub(super) fn name(&self) -> &ByteString {
        self.speaker.identity.name()
    }
}

impl Port for Member {
    fn speaker(&self) -> &Speaker {
        &self.speaker
    }

    fn topic(&self, topic: &str) -> Result<ByteString, TopicError> {
        self.hub.topic(topic)
    }

    fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        self.hub.publish(self, envelope, None)
    }

    fn publish_durably(&self, envelope: Envelope) -> Result<Pending, BusError> {
        self.hub.publish_durably(self, envelope)
    }

    fn follow(
        &self,
        pattern: Pattern,
        start: Start,
        _queue: Queue,
    ) -> Boxed<'_, Result<Follower, BusError>> {
        Box::pin(async move {
            let followed = self
                .hub
                .follow(&self.speaker.identity, pattern, start, None);
            Ok(Follower::inside(followed.await?))
        })
    }

    fn subscribe(&self, pattern: Pattern, queue: Queue) -> Result<Subscription, BusError> {
        self.hub.subscribe(&self.speaker.identity, pattern, queue)
    }

    fn serve(&self, pattern: Pattern, concurrency: usize) -> Result<Requests, BusError> {
        self.hub.serve(&self.speaker, pattern, concurrency)
    }

    fn ask(&self, envelope: Envelope) -> Boxed<'_, Result<ReplyReceiver, RequestError>> {
        let asked = self.hub.ask(self, envelope, None);
        Box::pin(std::future::ready(asked.map(|(_, receiver)| receiver)))
    }

    fn closed(&self) -> Boxed<'_, ()> {
        Box::pin(self.hub.closed.cancelled())
    }
}
