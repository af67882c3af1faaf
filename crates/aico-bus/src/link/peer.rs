//! The daemon's end of one link: a peer with a verified key, as a member of the bus.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use aico_contracts::topics::{self, Class};
use aico_contracts::v1::{Envelope, Fault, control};
use bytes::Bytes;
use control::Say;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::MAX_FRAME;
use super::feed::feed;
use super::outbox::{FRAME_BYTES, FRAME_ENVELOPES};
use super::receipts::{Receipts, place, read_place};
use super::session::{Session, kind_of};
use super::wire::{self, Read};
use crate::error::BusError;
use crate::exchange::Requests;
use crate::hub::{Hub, Member};
use crate::journal::{Cursor, Start};
use crate::parcel::Kind;
use crate::pattern::Pattern;
use crate::port::Port;
use crate::queue::{Queue, Subscription, Taken};

/// Most subscriptions and services of one peer.
const MAX_REGISTRATIONS: usize = 256;
/// Largest queue that a peer may ask for.
const MAX_QUEUE: Queue = Queue {
    messages: 65_536,
    bytes: 16 * 1024 * 1024,
};

pub(super) struct Peer {
    hub: Arc<Hub>,
    member: Member,
    pub(super) session: Arc<Session>,
    registrations: Mutex<HashMap<u64, Registration>>,
    receipts: Arc<Receipts>,
    has_lied: AtomicBool,
}

#[derive(Clone)]
struct Registration {
    ended: CancellationToken,
    credit: Arc<Credit>,
    /// Of one who follows the journal, once it stands.
    cursor: Arc<OnceLock<Cursor>>,
}

/// What of a subscription is on the way.
#[derive(Default)]
pub(super) struct Credit {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    returned: Notify,
}

impl Credit {
    pub(super) async fn wait(&self, limit: Queue) {
        loop {
            let returned = self.returned.notified();
            if self.has_room(limit) {
                return;
            }
            returned.await;
        }
    }

    /// One message may go beyond the bytes: it would never go otherwise.
    pub(super) fn has_room(&self, limit: Queue) -> bool {
        self.messages.load(Ordering::Acquire) < limit.messages
            && (self.bytes.load(Ordering::Acquire) < limit.bytes
                || self.messages.load(Ordering::Acquire) == 0)
    }

    pub(super) fn spend(&self, size: usize) {
        self.messages.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(size, Ordering::AcqRel);
    }

    /// More than is on the way can't come back, whatever the peer says.
    fn give_back(&self, messages: u64, bytes: u64) {
        let less = |value: &AtomicUsize, by: u64| {
            let by = usize::try_from(by).unwrap_or(usize::MAX);
            let _ = value.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                Some(now.saturating_sub(by))
            });
        };
        less(&self.messages, messages);
        less(&self.bytes, bytes);
        self.returned.notify_one();
    }
}

impl Peer {
    pub(super) fn new(hub: Arc<Hub>, member: Member, session: Arc<Session>) -> Arc<Self> {
        hub.counters.peers.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            hub,
            member,
            receipts: Receipts::start(&session),
            session,
            registrations: Mutex::default(),
            has_lied: AtomicBool::new(false),
        })
    }

    /// Takes a message from the peer. Never waits.
    pub(super) fn take(self: &Arc<Self>, message: omq_tokio::Message) {
        if self.session.closed.is_cancelled() {
            return;
        }
        let read = message
            .into_bytes()
            .map_err(|_| wire::FrameError::Parts)
            .and_then(wire::read);
        match read {
            Err(error) => self.malformed(&error.to_string()),
            Ok(Read::Control(said)) => {
                for say in said {
                    if let Some(say) = self.session.take_control(say) {
                        self.take_control(say);
                    }
                }
            }
            Ok(Read::Parcels { parcels, .. }) => {
                for (envelope, bytes) in parcels {
                    self.take_envelope(envelope, bytes);
                }
            }
        }
    }

    fn take_envelope(self: &Arc<Self>, envelope: Envelope, bytes: Bytes) {
        let who = &self.member.speaker().identity;
        // What a later version means by it is not known: as a plain message it would be misread.
        let exchange = envelope.exchange.as_ref();
        if exchange.is_some_and(|exchange| Kind::try_from(exchange.kind).is_err()) {
            return self.malformed("its role in an exchange is unknown");
        }
        match kind_of(&envelope) {
            Kind::Unspecified if topics::class(&envelope.topic) == Class::Durable => {
                self.take_durable(envelope, bytes);
            }
            Kind::Unspecified => {
                if let Err(error) = self.hub.publish(&self.member, envelope, Some(bytes)) {
                    tracing::debug!(%who, %error, "A peer's message was dropped.");
                }
            }
            Kind::Request => {
                let (id, topic) = (envelope.id.clone(), envelope.topic.clone());
                match self.hub.ask(&self.member, envelope, Some(bytes)) {
                    Ok((request, receiver)) => self.session.answer(request, receiver),
                    Err(error) => self.session.refuse(&topic, id, &error),
                }
            }
            _ => {
                if !self.session.take_part(envelope, bytes) {
                    self.malformed("a part of an exchange fits none");
                }
            }
        }
    }

    /// A message on a durable topic is always answered: with its place, or why it has none.
    fn take_durable(&self, envelope: Envelope, bytes: Bytes) {
        let who = &self.member.speaker().identity;
        let (id, receipts) = (envelope.id.clone(), self.receipts.clone());
        let answer = {
            let id = id.clone();
            move |outcome| receipts.add(id, outcome)
        };
        let taken = self
            .hub
            .publish_from_peer(&self.member, envelope, bytes, answer);
        if let Err(error) = taken {
            tracing::debug!(%who, %error, "A peer's message was refused.");
            self.receipts.add_told(id, Err(fault_of(&error)));
        }
    }

    /// Follows the journal for the peer. It stands when the disk was asked; until then the number
    /// is taken, and the peer can take it back.
    fn follow(self: &Arc<Self>, wanted: control::Follow) {
        let id = wanted.id;
        let pattern = wanted.pattern.parse::<Pattern>();
        let (start, queue) = (
            read_start(wanted.start),
            queue_of(wanted.messages, wanted.bytes),
        );
        let resume = wanted.resume.as_ref().and_then(read_place);
        let refuse = |refusal: Fault| {
            let refusal = Some(refusal);
            self.session.say(registered(id, refusal));
        };
        let (Ok(pattern), Some(start)) = (pattern, start) else {
            return refuse(Fault::refused("The pattern or the place to begin is none"));
        };
        let Some(registration) = self.take_number(id) else {
            return refuse(Fault::refused(TOO_MANY));
        };
        let peer = self.clone();
        tokio::spawn(async move {
            let work = async {
                let who = &peer.member.speaker().identity;
                let following = match peer.hub.follow(who, pattern, start, resume).await {
                    Ok(following) => following,
                    Err(error) => return error,
                };
                let _ = registration.cursor.set(following.cursor());
                peer.session.say(Say::Registered(control::Registered {
                    id,
                    refusal: None,
                    from: Some(place(following.from())),
                }));
                feed(&peer.session, id, following, queue, &registration.credit).await
            };
            tokio::select! {
                error = work => peer.ended_with(id, fault_of(&error)),
                () = registration.ended.cancelled() => {}
                () = peer.session.closed.cancelled() => {}
            }
        });
    }

    /// Notes a number of the peer's, unless it is in use or there are too many.
    fn take_number(&self, id: u64) -> Option<Registration> {
        let mut registrations = self.registrations.lock();
        if registrations.len() >= MAX_REGISTRATIONS || registrations.contains_key(&id) {
            return None;
        }
        let registration = Registration {
            ended: CancellationToken::new(),
            credit: Arc::default(),
            cursor: Arc::default(),
        };
        registrations.insert(id, registration.clone());
        Some(registration)
    }

    fn malformed(&self, reason: &str) {
        self.hub.counters.malformed.fetch_add(1, Ordering::Relaxed);
        let who = &self.member.speaker().identity;
        // Once for each link: a flood of them must not become a flood of lines.
        if !self.has_lied.swap(true, Ordering::Relaxed) {
            tracing::warn!(%who, reason, "A peer sent what can't be read; it is dropped.");
        }
    }

    fn take_control(self: &Arc<Self>, say: Say) {
        match say {
            Say::Hello(hello) => {
                let speaker = self.member.speaker();
                tracing::info!(who = %speaker.identity, version = hello.version, "A peer joined.");
                self.session.say(Say::Welcome(control::Welcome {
                    version: aico_contracts::SCHEMA_VERSION,
                    identity: speaker.identity.to_string(),
                    epoch: speaker.epoch.clone(),
                    max_frame: MAX_FRAME as u64,
                }));
            }
            Say::Subscribe(wanted) => {
                let queue = queue_of(wanted.messages, wanted.bytes);
                self.register(wanted.id, &wanted.pattern, |peer, pattern, registration| {
                    let subscription = peer.member.subscribe(pattern, queue)?;
                    let peer = peer.clone();
                    Ok(tokio::spawn(async move {
                        tokio::select! {
                            () = peer.deliver(wanted.id, subscription, queue, &registration) => {
                                peer.ended(wanted.id);
                            }
                            () = registration.ended.cancelled() => {}
                            () = peer.session.closed.cancelled() => {}
                        }
                    }))
                });
            }
            Say::Serve(wanted) => {
                let concurrency = wanted.concurrency as usize;
                self.register(wanted.id, &wanted.pattern, |peer, pattern, registration| {
                    let requests = peer.member.serve(pattern, concurrency)?;
                    let peer = peer.clone();
                    Ok(tokio::spawn(async move {
                        tokio::select! {
                            () = peer.pass_on(wanted.id, requests) => peer.ended(wanted.id),
                            () = registration.ended.cancelled() => {}
                            () = peer.session.closed.cancelled() => {}
                        }
                    }))
                });
            }
            Say::Follow(wanted) => self.follow(wanted),
            Say::Acknowledge(done) => {
                let registrations = self.registrations.lock();
                let standing = registrations.get(&done.subscription);
                if let Some(cursor) = standing.and_then(|standing| standing.cursor.get()) {
                    cursor.acknowledge(done.sequence);
                }
            }
            Say::Unregister(control::Unregister { id }) => {
                if let Some(registration) = self.registrations.lock().remove(&id) {
                    registration.ended.cancel();
                }
            }
            Say::Credit(credit) => {
                let registrations = self.registrations.lock();
                if let Some(registration) = registrations.get(&credit.subscription) {
                    registration.credit.give_back(credit.messages, credit.bytes);
                }
            }
            // Nothing that a member says.
            _ => self.malformed("a control message that only the daemon sends"),
        }
    }

    fn register(
        self: &Arc<Self>,
        id: u64,
        pattern: &str,
        start: impl FnOnce(
            &Arc<Self>,
            Pattern,
            Registration,
        ) -> Result<tokio::task::JoinHandle<()>, BusError>,
    ) {
        let refusal = {
            let mut registrations = self.registrations.lock();
            if registrations.len() >= MAX_REGISTRATIONS || registrations.contains_key(&id) {
                Some(Fault::refused(TOO_MANY))
            } else {
                let registration = Registration {
                    ended: CancellationToken::new(),
                    credit: Arc::default(),
                    cursor: Arc::default(),
                };
                let started = pattern
                    .parse::<Pattern>()
                    .map_err(|source| BusError::Topic {
                        topic: String::new(),
                        source,
                    })
                    .and_then(|pattern| start(self, pattern, registration.clone()));
                match started {
                    Ok(_task) => {
                        registrations.insert(id, registration);
                        None
                    }
                    Err(error) => Some(Fault::refused(error.to_string())),
                }
            }
        };
        self.session.say(registered(id, refusal));
    }

    /// The bus ended it: the grant is gone, or the bus is closed.
    fn ended(&self, id: u64) {
        self.ended_with(id, Fault::refused("It was ended by the daemon"));
    }

    fn ended_with(&self, id: u64, refusal: Fault) {
        if self.registrations.lock().remove(&id).is_some() {
            let refusal = Some(refusal);
            self.session.say(registered(id, refusal));
        }
    }

    /// Passes a subscription on, as far as there is credit; what comes meanwhile waits, and is
    /// dropped, in the subscription's queue.
    async fn deliver(
        &self,
        id: u64,
        mut subscription: Subscription,
        limit: Queue,
        registration: &Registration,
    ) {
        let credit = &registration.credit;
        let mut next = None;
        loop {
            credit.wait(limit).await;
            let taken = match next.take() {
                Some(taken) => taken,
                None => match subscription.take().await {
                    Some(taken) => taken,
                    None => return,
                },
            };
            let first = match taken {
                Taken::Gap(missed) => {
                    self.session.say(Say::Gap(control::Gap {
                        subscription: id,
                        missed,
                    }));
                    continue;
                }
                Taken::Parcel(parcel) => parcel,
                // Only over a link.
                Taken::Break(_) => continue,
            };
            let who = &self.member.speaker().identity;
            if !self.hub.still_sees(who, &first.envelope) {
                continue;
            }
            credit.spend(first.size());
            let mut bytes = first.size();
            let mut parcels = vec![first.clone()];
            while parcels.len() < FRAME_ENVELOPES && bytes < FRAME_BYTES && credit.has_room(limit) {
                match subscription.try_take() {
                    Some(Taken::Parcel(parcel))
                        if parcel.envelope.topic == first.envelope.topic
                            && same(&parcel.envelope.person, &first.envelope.person)
                            && bytes + parcel.size() <= FRAME_BYTES =>
                    {
                        credit.spend(parcel.size());
                        bytes += parcel.size();
                        parcels.push(parcel);
                    }
                    other => {
                        next = other;
                        break;
                    }
                }
            }
            self.session.outbox.send(wire::frame(&parcels, id));
        }
    }

    /// Passes requests on to the peer, which serves them.
    async fn pass_on(&self, id: u64, mut requests: Requests) {
        while let Some(request) = requests.recv().await {
            let (parcel, reply, place) = request.into_parts();
            let who = &self.member.speaker().identity;
            if !self.hub.still_sees(who, &parcel.envelope) {
                // The asker hears that nobody answers.
                continue;
            }
            self.session.ask(parcel, id, reply, None, Some(place));
        }
    }

    /// The peer is gone, or was told to go.
    pub(super) fn close(&self) {
        self.session.close();
        self.registrations.lock().clear();
    }
}

fn registered(id: u64, refusal: Option<Fault>) -> Say {
    Say::Registered(control::Registered {
        id,
        refusal,
        from: None,
    })
}

/// Whether two ids are the same. Mostly there is none: comparing empty `Bytes` reads, for nothing,
/// where nothing is mapped, and processors with AVX-512 take a tenth of a microsecond for that.
fn same(one: &Bytes, other: &Bytes) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

const TOO_MANY: &str = "Too many subscriptions and services, or a number twice";

fn queue_of(messages: u64, bytes: u64) -> Queue {
    let within = |wanted: u64, most: usize| usize::try_from(wanted).unwrap_or(most).min(most);
    Queue::new(
        within(messages, MAX_QUEUE.messages),
        within(bytes, MAX_QUEUE.bytes),
    )
}

/// `None`: it says no place, or one that is none.
fn read_start(start: Option<control::follow::Start>) -> Option<Start> {
    use control::follow::Start as Said;
    Some(match start? {
        Said::Now(_) => Start::Now,
        Said::First(_) => Start::First,
        Said::After(place) => Start::After(read_place(&place)?),
        Said::Cursor(name) => Start::Cursor(name),
    })
}

/// An error of the bus as it is told to a peer.
fn fault_of(error: &BusError) -> Fault {
    match error {
        BusError::Journal(fault) => fault.to_fault(),
        BusError::Closed => Fault::refused("It was ended by the daemon"),
        other => Fault::refused(other.to_string()),
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.hub.counters.peers.fetch_sub(1, Ordering::Relaxed);
    }
}
