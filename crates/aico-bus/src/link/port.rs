//! What a member's client calls, as frames on the link.

use std::sync::Arc;

use aico_contracts::v1::{Envelope, control};
use control::Say;
use tokio::sync::{oneshot, watch};

use super::follow;
use super::uplink::{Registration, Target, Uplink};
use crate::error::{BusError, RequestError};
use crate::exchange::Requests;
use crate::follow::{Follower, Pending, Remote};
use crate::journal::Start;
use crate::parcel::Parcel;
use crate::pattern::Pattern;
use crate::port::{Boxed, Port, Speaker};
use crate::queue::{Consumed, Mailbox, Queue, Subscription};
use crate::reply::{self, ReplyReceiver};
use crate::server::Server;

/// The client's handle.
pub(super) struct UplinkPort {
    speaker: Speaker,
    uplink: Arc<Uplink>,
    alive: Arc<Alive>,
}

/// Held by clients, subscriptions, services and answers: the link ends with the last of them.
pub(super) struct Alive(pub(super) Arc<Uplink>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl UplinkPort {
    pub(super) fn new(speaker: Speaker, alive: Arc<Alive>) -> Self {
        let uplink = alive.0.clone();
        Self {
            speaker,
            uplink,
            alive,
        }
    }
}

/// Gives credit back in halves of what a queue holds.
fn give_back(uplink: Arc<Uplink>, id: u64, queue: Queue) -> Consumed {
    let (mut messages, mut bytes) = (0, 0);
    let mut generation = uplink.generation();
    Box::new(move |size: usize| {
        let now = uplink.generation();
        if std::mem::replace(&mut generation, now) != now {
            // A new link began with all of its credit.
            (messages, bytes) = (0, 0);
        }
        messages += 1;
        bytes += size;
        if messages * 2 >= queue.messages || bytes >= queue.bytes / 2 {
            uplink.say(Say::Credit(control::Credit {
                subscription: id,
                messages: std::mem::take(&mut messages) as u64,
                bytes: std::mem::take(&mut bytes) as u64,
                ..control::Credit::default()
            }));
        }
    })
}

impl Port for UplinkPort {
    fn speaker(&self) -> &Speaker {
        &self.speaker
    }

    fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        let session = self.uplink.open()?;
        if session.outbox.is_saturated() {
            return Err(BusError::Busy);
        }
        session.outbox.publish(&Parcel::new(envelope));
        Ok(())
    }

    fn publish_durably(&self, envelope: Envelope) -> Result<Pending, BusError> {
        let uplink = &self.uplink;
        uplink.check()?;
        if uplink
            .session()
            .is_some_and(|session| session.outbox.is_saturated())
        {
            return Err(BusError::Busy);
        }
        let (done, pending) = Pending::new();
        let id = envelope.id.clone();
        let parcel = Parcel::new(envelope);
        uplink
            .unanswered
            .send(id, parcel, done, || uplink.session())?;
        // The link may have ended between: then nobody would answer.
        if uplink.ended.is_cancelled() {
            uplink.unanswered.clear();
        }
        Ok(pending)
    }

    fn follow(
        &self,
        pattern: Pattern,
        start: Start,
        queue: Queue,
    ) -> Boxed<'_, Result<Follower, BusError>> {
        Box::pin(async move {
            let uplink = &self.uplink;
            uplink.check()?;
            let queue = Queue::new(queue.messages, queue.bytes);
            let target = follow::Target::new(start, queue);
            let (confirmation, mut confirmed) = watch::channel(None);
            let registration = Registration {
                pattern,
                confirmation,
                target: Target::Follower(target.clone(), queue),
            };
            let (id, guard) = uplink.register(registration, self.alive.clone());
            crate::queue::wait_confirmed(Some(&mut confirmed)).await?;
            let (speaking, acknowledged) = (uplink.clone(), target.clone());
            Ok(Follower::over_link(Remote {
                target,
                consumed: give_back(uplink.clone(), id, queue),
                acknowledge: Box::new(move |sequence| {
                    if let Some(sequence) = acknowledged.acknowledge(sequence) {
                        speaking.say(Say::Acknowledge(control::Acknowledge {
                            subscription: id,
                            sequence,
                        }));
                    }
                }),
                ended: confirmed,
                _guard: guard,
            }))
        })
    }

    fn subscribe(&self, pattern: Pattern, queue: Queue) -> Result<Subscription, BusError> {
        let uplink = &self.uplink;
        uplink.check()?;
        let queue = Queue::new(queue.messages, queue.bytes);
        // What waits here is bounded by the credit; dropping is done at the daemon. A new link
        // begins with all of its credit, while what came over the old one may still wait.
        let most = if uplink.keeps {
            Queue::new(
                queue.messages.saturating_mul(2),
                queue.bytes.saturating_mul(2),
            )
        } else {
            Queue::new(usize::MAX, usize::MAX)
        };
        let mailbox = Mailbox::new(most);
        let (confirmation, confirmed) = watch::channel(None);
        let registration = Registration {
            pattern,
            confirmation,
            target: Target::Subscriber(mailbox.clone(), queue),
        };
        let (id, guard) = uplink.register(registration, self.alive.clone());
        let consumed = give_back(uplink.clone(), id, queue);
        Ok(Subscription::over_link(mailbox, guard, consumed, confirmed))
    }

    fn serve(&self, pattern: Pattern, concurrency: usize) -> Result<Requests, BusError> {
        let uplink = &self.uplink;
        uplink.check()?;
        let identity = self.speaker.identity.clone();
        let (server, rx) = Server::new(identity, pattern.clone(), concurrency);
        let places = server.places.clone();
        let (confirmation, confirmed) = watch::channel(None);
        let registration = Registration {
            pattern,
            confirmation,
            target: Target::Server(server),
        };
        let (_, guard) = uplink.register(registration, self.alive.clone());
        Ok(Requests::new(rx, places, self.speaker.clone(), guard).over_link(confirmed))
    }

    fn ask(&self, envelope: Envelope) -> Boxed<'_, Result<ReplyReceiver, RequestError>> {
        Box::pin(async move {
            let session = self.uplink.session().ok_or(RequestError::LinkLost)?;
            let (reply, mut receiver) = reply::channel();
            receiver.keep(self.alive.clone());
            let (accepted, answer) = oneshot::channel();
            session.ask(Parcel::new(envelope), 0, reply, Some(accepted), None);
            answer.await.unwrap_or(Err(RequestError::LinkLost))?;
            Ok(receiver)
        })
    }

    fn closed(&self) -> Boxed<'_, ()> {
        Box::pin(self.uplink.ended.cancelled())
    }
}
