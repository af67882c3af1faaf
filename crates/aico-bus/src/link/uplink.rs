//! The member's end: what stands there, and what becomes of it when the link is lost and made
//! again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use aico_contracts::v1::{Envelope, control};
use bytes::Bytes;
use control::Say;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::follow;
use super::port::Alive;
use super::session::{Session, kind_of};
use super::unanswered::Unanswered;
use super::wire::{self, Read};
use crate::error::{BusError, RequestError};
use crate::journal::JournalFault;
use crate::parcel::{Kind, Parcel};
use crate::pattern::Pattern;
use crate::queue::{Guard, Mailbox, Queue};
use crate::reply;
use crate::server::{Incoming, NotTaken, Server};

/// When the daemon is asked again for what it could not give yet: it had just been started, or
/// was locked for a moment.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) type Confirmation = watch::Sender<Option<Result<(), BusError>>>;

/// A subscription or a service that the daemon knows by its number.
pub(super) struct Registration {
    pub(super) pattern: Pattern,
    pub(super) confirmation: Confirmation,
    pub(super) target: Target,
}

pub(super) enum Target {
    Subscriber(Arc<Mailbox>, Queue),
    Follower(Arc<follow::Target>, Queue),
    Server(Arc<Server>),
}

impl Registration {
    fn end(&self, error: BusError) {
        self.confirmation.send_replace(Some(Err(error)));
        match &self.target {
            Target::Subscriber(mailbox, _) => mailbox.close(),
            Target::Follower(target, _) => target.end(),
            Target::Server(server) => server.close(),
        }
    }

    /// Whether the daemon ever took it.
    fn has_stood(&self) -> bool {
        matches!(*self.confirmation.borrow(), Some(Ok(())))
    }

    /// How it is said to the daemon.
    fn said(&self, id: u64) -> Say {
        let pattern = self.pattern.to_string();
        match &self.target {
            Target::Subscriber(_, queue) => Say::Subscribe(control::SubscribeTo {
                id,
                pattern,
                messages: queue.messages as u64,
                bytes: queue.bytes as u64,
            }),
            Target::Follower(target, queue) => {
                let (start, resume) = target.begin();
                Say::Follow(control::Follow {
                    id,
                    pattern,
                    messages: queue.messages as u64,
                    bytes: queue.bytes as u64,
                    start,
                    resume,
                })
            }
            Target::Server(server) => Say::Serve(control::ServeOn {
                id,
                pattern,
                concurrency: u32::try_from(server.concurrency).unwrap_or(u32::MAX),
            }),
        }
    }
}

/// The link as it is now.
#[derive(Default)]
struct Current {
    session: Option<Arc<Session>>,
    epoch: Bytes,
}

pub(super) struct Uplink {
    /// Whether a lost link is made again.
    pub(super) keeps: bool,
    current: RwLock<Current>,
    /// Which link it is, counted from 1.
    generation: AtomicU64,
    next: AtomicU64,
    registrations: Mutex<BTreeMap<u64, Registration>>,
    pub(super) unanswered: Unanswered,
    has_again: AtomicBool,
    /// For good.
    pub(super) ended: CancellationToken,
}

impl Uplink {
    /// An uplink without a link yet. When it keeps none, `ended` is the end of the one it gets.
    pub(super) fn new(keeps: bool, ended: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            keeps,
            current: RwLock::default(),
            generation: AtomicU64::new(0),
            next: AtomicU64::new(1),
            registrations: Mutex::default(),
            unanswered: Unanswered::new(keeps),
            has_again: AtomicBool::new(false),
            ended,
        })
    }

    /// A link stands. What stood before is said again, and what was not answered is sent again.
    pub(super) fn begin(&self, session: Arc<Session>, epoch: Bytes) {
        // Whoever registers or publishes meanwhile waits, and then does so over the new link.
        let registrations = self.registrations.lock();
        self.unanswered.send_all(|| {
            let restarted = {
                let mut current = self.current.write();
                let restarted = current.epoch != epoch;
                *current = Current {
                    session: Some(session.clone()),
                    epoch,
                };
                self.generation.fetch_add(1, Ordering::AcqRel);
                restarted
            };
            for (id, registration) in registrations.iter() {
                if let Target::Subscriber(mailbox, _) = &registration.target
                    && registration.has_stood()
                {
                    mailbox.push_break(restarted);
                }
                session.say(registration.said(*id));
            }
            session
        });
    }

    /// The link, if there is one.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        let current = self.current.read();
        let open = |session: &&Arc<Session>| !session.closed.is_cancelled();
        current.session.as_ref().filter(open).cloned()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn say(&self, say: Say) {
        if let Some(session) = self.session() {
            session.say(say);
        }
    }

    /// The link, or why there is none.
    pub(super) fn open(&self) -> Result<Arc<Session>, BusError> {
        self.check()?;
        self.session().ok_or(if self.keeps {
            BusError::LinkLost
        } else {
            BusError::Closed
        })
    }

    /// Whether there can be a link, now or later.
    pub(super) fn check(&self) -> Result<(), BusError> {
        if self.ended.is_cancelled() {
            Err(BusError::Closed)
        } else {
            Ok(())
        }
    }

    /// Adds a registration, says it, and gives its number and what ends it.
    pub(super) fn register(
        self: &Arc<Self>,
        registration: Registration,
        alive: Arc<Alive>,
    ) -> (u64, Guard) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut registrations = self.registrations.lock();
            if let Some(session) = self.session() {
                session.say(registration.said(id));
            }
            registrations.insert(id, registration);
        }
        // The link may have ended between: then nobody would end this one.
        if self.ended.is_cancelled() {
            self.close();
        }
        let uplink: Weak<Self> = Arc::downgrade(self);
        let guard = Guard::new(move || {
            if let Some(uplink) = uplink.upgrade() {
                let mut registrations = uplink.registrations.lock();
                if registrations.remove(&id).is_some() {
                    uplink.say(Say::Unregister(control::Unregister { id }));
                }
            }
            drop(alive);
        });
        (id, guard)
    }

    /// Takes a frame from the daemon. `Err` when it can't be read or fits nothing.
    pub(super) fn take(
        self: &Arc<Self>,
        session: &Arc<Session>,
        bytes: Bytes,
    ) -> Result<(), String> {
        match wire::read(bytes).map_err(|error| error.to_string())? {
            Read::Control(said) => {
                for say in said {
                    if let Some(say) = session.take_control(say) {
                        self.take_control(say);
                    }
                }
            }
            Read::Parcels { receiver, parcels } => {
                for (envelope, bytes) in parcels {
                    match kind_of(&envelope) {
                        Kind::Unspecified => self.deliver(receiver, envelope),
                        Kind::Request => self.serve(session, receiver, envelope),
                        _ if session.take_part(envelope, bytes) => {}
                        _ => return Err("a part of an exchange fits none".to_owned()),
                    }
                }
            }
        }
        Ok(())
    }

    fn take_control(self: &Arc<Self>, say: Say) {
        match say {
            Say::Registered(answer) => self.registered(answer),
            Say::Gap(gap) => {
                if let Some(Registration {
                    target: Target::Subscriber(mailbox, _),
                    ..
                }) = self.registrations.lock().get(&gap.subscription)
                {
                    mailbox.push_gap(gap.missed);
                }
            }
            Say::Published(published) => {
                let some_again = self.unanswered.take(&published);
                if some_again && !self.has_again.swap(true, Ordering::AcqRel) {
                    self.later(|uplink, session| {
                        uplink.has_again.store(false, Ordering::Release);
                        if let Some(session) = session {
                            uplink.unanswered.send_again(&session);
                        }
                    });
                }
            }
            Say::Skipped(told) => {
                self.with_follower(told.subscription, |target| target.skipped(&told));
            }
            Say::Head(head) => self.with_follower(head.subscription, |target| target.head(&head)),
            // From a newer daemon, or nothing that a daemon says: a member has no use for it.
            _ => {}
        }
    }

    fn registered(self: &Arc<Self>, answer: control::Registered) {
        let id = answer.id;
        let mut registrations = self.registrations.lock();
        let Some(refusal) = answer.refusal else {
            if let Some(registration) = registrations.get(&id) {
                if let Target::Follower(target, _) = &registration.target
                    && let Some(sequence) = target.stands(answer.from.as_ref())
                {
                    self.say(Say::Acknowledge(control::Acknowledge {
                        subscription: id,
                        sequence,
                    }));
                }
                registration.confirmation.send_replace(Some(Ok(())));
            }
            return;
        };
        let Some(registration) = registrations.get(&id) else {
            return;
        };
        let topic = registration.pattern.to_string();
        let error = match registration.target {
            Target::Follower(..) => follow::read_refusal(topic.clone(), refusal.clone()),
            _ => BusError::RefusedByPeer {
                topic: topic.clone(),
                reason: refusal.title.clone(),
            },
        };
        // The daemon is being locked or unlocked, or ends: the journal comes back, or the link
        // goes.
        let passing = error == BusError::Journal(JournalFault::Locked);
        if self.keeps && passing && registration.has_stood() {
            return self.later(move |uplink, session| {
                let registrations = uplink.registrations.lock();
                if let (Some(session), Some(registration)) = (session, registrations.get(&id)) {
                    session.say(registration.said(id));
                }
            });
        }
        tracing::warn!(topic, refusal = %refusal.title, "The daemon refused.");
        if let Some(registration) = registrations.remove(&id) {
            registration.end(error);
        }
    }

    /// Does something in a moment, over the link that stands now: `None` when it is gone by then,
    /// and the next one has begun with everything.
    fn later(
        self: &Arc<Self>,
        run: impl FnOnce(&Arc<Self>, Option<Arc<Session>>) + Send + 'static,
    ) {
        let (uplink, generation) = (Arc::downgrade(self), self.generation());
        let ended = self.ended.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = ended.cancelled() => return,
            }
            if let Some(uplink) = uplink.upgrade() {
                let session = uplink.session();
                let same = uplink.generation() == generation;
                run(&uplink, session.filter(|_| same));
            }
        });
    }

    /// Ends a follower when the daemon breaks the rules of the link.
    fn with_follower(&self, id: u64, tell: impl FnOnce(&follow::Target) -> Result<(), ()>) {
        let mut registrations = self.registrations.lock();
        if let Some(Registration {
            target: Target::Follower(target, _),
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
        let waker = {
            let registrations = self.registrations.lock();
            match registrations.get(&receiver).map(|one| &one.target) {
                Some(Target::Subscriber(mailbox, _)) => mailbox.push(Parcel::new(envelope)).waker,
                Some(Target::Follower(..)) => {
                    drop(registrations);
                    return self.with_follower(receiver, |target| target.deliver(envelope));
                }
                // It has just been dropped here.
                _ => None,
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn serve(&self, session: &Arc<Session>, receiver: u64, envelope: Envelope) {
        let server = match self
            .registrations
            .lock()
            .get(&receiver)
            .map(|one| &one.target)
        {
            Some(Target::Server(server)) => Some(server.clone()),
            _ => None,
        };
        let parcel = Parcel::new(envelope);
        let request = parcel.envelope.clone();
        let Some(server) = server else {
            let error = RequestError::NobodyServes {
                topic: request.topic.to_string(),
            };
            return session.fail(request.id.clone(), &error);
        };
        let (reply, replies) = reply::channel();
        match server.take(Incoming { parcel, reply }) {
            Ok(()) => session.answer(request, replies),
            Err(NotTaken::Gone(_) | NotTaken::Full) => {
                session.fail(request.id.clone(), &RequestError::ServerGone);
            }
        }
    }

    /// The link is lost: what was asked over it is told so at once.
    pub(super) fn lost(&self) {
        let session = self.current.read().session.clone();
        if let Some(session) = session {
            session.close();
        }
    }

    /// The daemon is gone for good, or nobody here needs it any more.
    pub(super) fn close(&self) {
        self.ended.cancel();
        self.lost();
        let gone = std::mem::take(&mut *self.registrations.lock());
        for registration in gone.into_values() {
            registration.end(BusError::Closed);
        }
        self.unanswered.clear();
    }
}
