//! The child's end: what its client calls becomes frames, and frames become deliveries.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use aico_contracts::v1::{Envelope, control};
use bytes::Bytes;
use control::Say;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::follow;
use super::outbox::Outbox;
use super::session::{Session, kind_of};
use super::wire::{self, Read};
use crate::error::{BusError, RequestError};
use crate::exchange::Requests;
use crate::follow::{Follower, Pending, Remote};
use crate::journal::Start;
use crate::parcel::{Kind, Parcel};
use crate::pattern::Pattern;
use crate::port::{Boxed, Port, Speaker};
use crate::queue::{Consumed, Guard, Mailbox, Queue, Subscription};
use crate::reply::{self, ReplyReceiver};
use crate::server::{Incoming, NotTaken, Server};

type Confirmation = watch::Sender<Option<Result<(), BusError>>>;

/// A subscription or a service that the daemon knows by its number.
struct Registration {
    pattern: Pattern,
    confirmation: Confirmation,
    target: Target,
}

enum Target {
    Subscriber(Arc<Mailbox>),
    Follower(Arc<follow::Target>),
    Server(Arc<Server>),
}

impl Registration {
    fn end(&self, error: BusError) {
        self.confirmation.send_replace(Some(Err(error)));
        match &self.target {
            Target::Subscriber(mailbox) => mailbox.close(),
            // Its queue ends with the registration.
            Target::Follower(_) => {}
            Target::Server(server) => server.close(),
        }
    }
}

pub(super) struct Uplink {
    speaker: Speaker,
    session: Arc<Session>,
    next: AtomicU64,
    registrations: Mutex<HashMap<u64, Registration>>,
    unanswered: follow::Unanswered,
}

impl Uplink {
    pub(super) fn new(speaker: Speaker, session: Arc<Session>) -> Arc<Self> {
        Arc::new(Self {
            speaker,
            session,
            next: AtomicU64::new(1),
            registrations: Mutex::default(),
            unanswered: follow::Unanswered::default(),
        })
    }

    fn outbox(&self) -> &Outbox {
        &self.session.outbox
    }

    /// Adds a registration and gives what ends it.
    fn register(self: &Arc<Self>, id: u64, registration: Registration, alive: Arc<Alive>) -> Guard {
        self.registrations.lock().insert(id, registration);
        let uplink: Weak<Self> = Arc::downgrade(self);
        Guard::new(move || {
            if let Some(uplink) = uplink.upgrade()
                && uplink.registrations.lock().remove(&id).is_some()
            {
                uplink
                    .session
                    .say(Say::Unregister(control::Unregister { id }));
            }
            drop(alive);
        })
    }

    /// Takes a frame from the daemon. `Err` when it can't be read or fits nothing.
    pub(super) fn take(&self, bytes: Bytes) -> Result<(), String> {
        match wire::read(bytes).map_err(|error| error.to_string())? {
            Read::Control(said) => {
                for say in said {
                    if let Some(say) = self.session.take_control(say) {
                        self.take_control(say);
                    }
                }
            }
            Read::Parcels { receiver, parcels } => {
                for (envelope, bytes) in parcels {
                    match kind_of(&envelope) {
                        Kind::Unspecified => self.deliver(receiver, envelope),
                        Kind::Request => self.begin(receiver, envelope),
                        _ if self.session.take_part(envelope, bytes) => {}
                        _ => return Err("a part of an exchange fits none".to_owned()),
                    }
                }
            }
        }
        Ok(())
    }

    fn take_control(&self, say: Say) {
        match say {
            Say::Registered(answer) => {
                let mut registrations = self.registrations.lock();
                match answer.refusal {
                    None => {
                        if let Some(registration) = registrations.get(&answer.id) {
                            registration.confirmation.send_replace(Some(Ok(())));
                        }
                    }
                    Some(refusal) => {
                        if let Some(registration) = registrations.remove(&answer.id) {
                            let topic = registration.pattern.to_string();
                            tracing::warn!(topic, refusal = %refusal.title, "The daemon refused.");
                            registration.end(match registration.target {
                                Target::Follower(_) => follow::read_refusal(topic, refusal),
                                _ => BusError::RefusedByPeer {
                                    topic,
                                    reason: refusal.title,
                                },
                            });
                        }
                    }
                }
            }
            Say::Gap(gap) => {
                if let Some(Registration {
                    target: Target::Subscriber(mailbox),
                    ..
                }) = self.registrations.lock().get(&gap.subscription)
                {
                    mailbox.push_gap(gap.missed);
                }
            }
            Say::Published(published) => self.unanswered.take(published),
            Say::Skipped(told) => {
                self.with_follower(told.subscription, |target| target.skipped(&told));
            }
            Say::Head(head) => self.with_follower(head.subscription, |target| target.head(&head)),
            // From a newer daemon, or nothing that a daemon says: a member has no use for it.
            _ => {}
        }
    }

    /// Ends a follower when the daemon breaks the rules of the link.
    fn with_follower(&self, id: u64, tell: impl FnOnce(&follow::Target) -> Result<(), ()>) {
        let mut registrations = self.registrations.lock();
        if let Some(Registration {
            target: Target::Follower(target),
            ..
        }) = registrations.get(&id)
            && tell(target).is_err()
            && let Some(registration) = registrations.remove(&id)
        {
            tracing::warn!("The daemon sent more than was asked for.");
            registration.end(BusError::Busy);
        }
    }

    fn deliver(&self, receiver: u64, envelope: Envelope) {
        let is_follower = matches!(
            self.registrations.lock().get(&receiver),
            Some(Registration {
                target: Target::Follower(_),
                ..
            })
        );
        if is_follower {
            return self.with_follower(receiver, |target| target.deliver(envelope));
        }
        let pushed = match self.registrations.lock().get(&receiver) {
            Some(Registration {
                target: Target::Subscriber(mailbox),
                ..
            }) => mailbox.push(Parcel::new(envelope)),
            // It has just been dropped here.
            _ => return,
        };
        if let Some(waker) = pushed.waker {
            waker.wake();
        }
    }

    fn begin(&self, receiver: u64, envelope: Envelope) {
        let server = match self.registrations.lock().get(&receiver) {
            Some(Registration {
                target: Target::Server(server),
                ..
            }) => Some(server.clone()),
            _ => None,
        };
        let parcel = Parcel::new(envelope);
        let request = parcel.envelope.clone();
        let Some(server) = server else {
            let error = RequestError::NobodyServes {
                topic: request.topic.clone(),
            };
            return self.session.fail(request.id.clone(), &error);
        };
        let (reply, replies) = reply::channel();
        match server.take(Incoming { parcel, reply }) {
            Ok(()) => self.session.answer(request, replies),
            Err(NotTaken::Gone(_) | NotTaken::Full) => {
                self.session
                    .fail(request.id.clone(), &RequestError::ServerGone);
            }
        }
    }

    /// The daemon is gone.
    pub(super) fn close(&self) {
        self.session.close();
        for (_, registration) in self.registrations.lock().drain() {
            registration.end(BusError::Closed);
        }
        self.unanswered.clear();
    }

    pub(super) fn closed(&self) -> tokio_util::sync::CancellationToken {
        self.session.closed.clone()
    }

    fn check_open(&self) -> Result<(), BusError> {
        if self.session.closed.is_cancelled() {
            Err(BusError::Closed)
        } else {
            Ok(())
        }
    }
}

/// Gives credit back in halves of what a queue holds.
fn give_back(session: Arc<Session>, id: u64, queue: Queue) -> Consumed {
    let (mut messages, mut bytes) = (0, 0);
    Box::new(move |size: usize| {
        messages += 1;
        bytes += size;
        if messages * 2 >= queue.messages || bytes >= queue.bytes / 2 {
            session.say(Say::Credit(control::Credit {
                subscription: id,
                messages: std::mem::take(&mut messages) as u64,
                bytes: std::mem::take(&mut bytes) as u64,
                ..control::Credit::default()
            }));
        }
    })
}

/// The client's handle.
pub(super) struct UplinkPort {
    uplink: Arc<Uplink>,
    alive: Arc<Alive>,
}

impl UplinkPort {
    pub(super) fn new(uplink: Arc<Uplink>) -> Self {
        let alive = Arc::new(Alive(uplink.clone()));
        Self { uplink, alive }
    }
}

/// Held by clients, subscriptions, services and answers: the link ends with the last of them.
struct Alive(Arc<Uplink>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Port for UplinkPort {
    fn speaker(&self) -> &Speaker {
        &self.uplink.speaker
    }

    fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        self.uplink.check_open()?;
        if self.uplink.outbox().is_saturated() {
            return Err(BusError::Busy);
        }
        self.uplink
            .outbox()
            .send(wire::frame_of(&Parcel::new(envelope), 0));
        Ok(())
    }

    fn publish_durably(&self, envelope: Envelope) -> Result<Pending, BusError> {
        let uplink = &self.uplink;
        uplink.check_open()?;
        if uplink.outbox().is_saturated() {
            return Err(BusError::Busy);
        }
        let (done, pending) = Pending::new();
        uplink.unanswered.add(envelope.id.clone(), done);
        uplink
            .outbox()
            .send(wire::frame_of(&Parcel::new(envelope), 0));
        // The link may have ended between: then nobody would answer.
        if uplink.session.closed.is_cancelled() {
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
            uplink.check_open()?;
            let id = uplink.next.fetch_add(1, Ordering::Relaxed);
            let queue = Queue::new(queue.messages, queue.bytes);
            let (target, (items, head)) = follow::Target::new(queue);
            let (confirmation, mut confirmed) = watch::channel(None);
            let registration = Registration {
                pattern: pattern.clone(),
                confirmation,
                target: Target::Follower(target),
            };
            let guard = uplink.register(id, registration, self.alive.clone());
            uplink.session.say(Say::Follow(control::Follow {
                id,
                pattern: pattern.to_string(),
                messages: queue.messages as u64,
                bytes: queue.bytes as u64,
                start: Some(follow::said_start(start)),
            }));
            if uplink.session.closed.is_cancelled() {
                uplink.close();
            }
            crate::queue::wait_confirmed(Some(&mut confirmed)).await?;
            let session = uplink.session.clone();
            Ok(Follower::over_link(Remote {
                items,
                head,
                consumed: give_back(session.clone(), id, queue),
                acknowledge: Box::new(move |sequence| {
                    let subscription = id;
                    session.say(Say::Acknowledge(control::Acknowledge {
                        subscription,
                        sequence,
                    }));
                }),
                ended: confirmed,
                _guard: guard,
            }))
        })
    }

    fn subscribe(&self, pattern: Pattern, queue: Queue) -> Result<Subscription, BusError> {
        let uplink = &self.uplink;
        uplink.check_open()?;
        let id = uplink.next.fetch_add(1, Ordering::Relaxed);
        let queue = Queue::new(queue.messages, queue.bytes);
        // What waits here is bounded by the credit; dropping is done at the daemon.
        let mailbox = Mailbox::new(Queue::new(usize::MAX, usize::MAX));
        let (confirmation, confirmed) = watch::channel(None);
        let guard = uplink.register(
            id,
            Registration {
                pattern: pattern.clone(),
                confirmation,
                target: Target::Subscriber(mailbox.clone()),
            },
            self.alive.clone(),
        );
        uplink.session.say(Say::Subscribe(control::SubscribeTo {
            id,
            pattern: pattern.to_string(),
            messages: queue.messages as u64,
            bytes: queue.bytes as u64,
        }));
        let consumed = give_back(uplink.session.clone(), id, queue);
        // The link may have ended between: then nobody would end this one.
        if uplink.session.closed.is_cancelled() {
            uplink.close();
        }
        Ok(Subscription::over_link(mailbox, guard, consumed, confirmed))
    }

    fn serve(&self, pattern: Pattern, concurrency: usize) -> Result<Requests, BusError> {
        let uplink = &self.uplink;
        uplink.check_open()?;
        let id = uplink.next.fetch_add(1, Ordering::Relaxed);
        let (server, rx) = Server::new(
            uplink.speaker.identity.clone(),
            pattern.clone(),
            concurrency,
        );
        let places = server.places.clone();
        let concurrency = u32::try_from(server.concurrency).unwrap_or(u32::MAX);
        let (confirmation, confirmed) = watch::channel(None);
        let guard = uplink.register(
            id,
            Registration {
                pattern: pattern.clone(),
                confirmation,
                target: Target::Server(server),
            },
            self.alive.clone(),
        );
        let pattern = pattern.to_string();
        uplink.session.say(Say::Serve(control::ServeOn {
            id,
            pattern,
            concurrency,
        }));
        if uplink.session.closed.is_cancelled() {
            uplink.close();
        }
        Ok(Requests::new(rx, places, uplink.speaker.clone(), guard).over_link(confirmed))
    }

    fn ask(&self, envelope: Envelope) -> Boxed<'_, Result<ReplyReceiver, RequestError>> {
        Box::pin(async move {
            if self.uplink.session.closed.is_cancelled() {
                return Err(RequestError::ServerGone);
            }
            let (reply, mut receiver) = reply::channel();
            receiver.keep(self.alive.clone());
            let (accepted, answer) = oneshot::channel();
            self.uplink
                .session
                .ask(Parcel::new(envelope), 0, reply, Some(accepted), None);
            answer.await.unwrap_or(Err(RequestError::ServerGone))?;
            Ok(receiver)
        })
    }

    fn closed(&self) -> Boxed<'_, ()> {
        Box::pin(self.uplink.session.closed.cancelled())
    }
}
