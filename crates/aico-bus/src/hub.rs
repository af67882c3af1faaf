//! The daemon's bus: routes, policy, order. No socket, no cipher; links join it like modules do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aico_contracts::ByteString;
use aico_contracts::ids::PersonId;
use aico_contracts::topics::{self, Class};
use aico_contracts::v1::{Envelope, Fault};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::client::Client;
use crate::error::{BusError, RequestError};
use crate::exchange::Requests;
use crate::follow::{Follower, Following, Pending};
use crate::identity::{Direction, Identity, Policy};
use crate::ids::{IdSource, now_ns};
use crate::journal::{
    Cursor, Handle, Journal, JournalFault, Message, Place, Receipt, Start, Wanted,
};
use crate::parcel::{Parcel, Stamp, append_person};
use crate::pattern::{Pattern, PatternIndex, TopicError, check_topic};
use crate::port::{Boxed, Port, Speaker};
use crate::prefix::Prefixes;
use crate::queue::{Guard, Mailbox, Queue, Subscription};
use crate::reply::{self, ReplyReceiver};
use crate::server::{Incoming, NotTaken, Server};
use crate::stats::{BusStats, Counters, FollowerStats, ServerStats, SubscriptionStats};
use crate::traffic::{Ledger, Traffic};

/// Most topics whose subscribers are remembered.
const ROUTE_CACHE: usize = 4096;

/// The bus of the daemon. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    hub: Arc<Hub>,
}

impl Bus {
    /// A bus on which `policy` decides. Its epoch is new.
    #[must_use]
    pub fn new(policy: Arc<dyn Policy>) -> Self {
        let epoch = Uuid::now_v7();
        Self {
            hub: Arc::new(Hub {
                epoch,
                epoch_bytes: Bytes::copy_from_slice(epoch.as_bytes()),
                policy,
                ids: Arc::new(IdSource::new()),
                next: AtomicU64::new(1),
                routes: RwLock::default(),
                servers: RwLock::default(),
                order: Mutex::default(),
                counters: Counters::default(),
                ledger: Ledger::default(),
                journal: RwLock::default(),
                followings: Mutex::default(),
                has_closed: AtomicBool::new(false),
                closed: CancellationToken::new(),
            }),
        }
    }

    /// Which run of the bus this is; sequences count within it.
    #[must_use]
    pub fn epoch(&self) -> Uuid {
        self.hub.epoch
    }

    /// Joins under a name that the composing code chose.
    #[must_use]
    pub fn join(&self, identity: Identity) -> Client {
        Client::new(Arc::new(self.hub.member(identity)))
    }

    /// Puts every standing subscription and service before the policy again and ends those it no
    /// longer allows: called when a grant or a consent ended.
    pub fn reauthorize(&self) {
        self.hub.reauthorize();
    }

    /// Ends every subscription and service; nothing can be published any more.
    pub fn close(&self) {
        self.hub.close();
    }

    /// From now on durable messages are kept in this journal, and can be followed.
    pub fn attach_journal(&self, journal: &Journal) {
        *self.hub.journal.write() = Some(journal.handle());
    }

    /// From now on there is no journal: [`Journal::close`] comes next.
    pub fn detach_journal(&self) {
        *self.hub.journal.write() = None;
    }

    /// A person was erased: the journal keeps, takes and gives out nothing of theirs any more.
    pub fn forget_person(&self, person: PersonId) {
        if let Some(journal) = self.hub.journal() {
            journal.forget_person(person);
        }
    }

    /// A sealed person is locked: the journal keeps no key of theirs, and takes nothing of theirs
    /// until they sign in.
    pub fn lock_person(&self, person: PersonId) {
        if let Some(journal) = self.hub.journal() {
            journal.lock_person(person);
        }
    }

    /// An identity was revoked: its cursors are forgotten. Waits for the disk.
    ///
    /// # Errors
    /// When the registry can't be written.
    pub fn forget_cursors(&self, identity: &Identity) -> Result<usize, JournalFault> {
        match self.hub.journal() {
            Some(journal) => journal.forget_cursors(identity.as_str()),
            None => Err(JournalFault::Locked),
        }
    }

    /// Counters and what stands now.
    #[must_use]
    pub fn stats(&self) -> BusStats {
        self.hub.stats()
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }
}

/// One standing subscription.
struct Route {
    identity: Identity,
    pattern: Pattern,
    /// Of a SUB socket, whose pattern is everything: what it wants of that. What it may have of it
    /// is decided for each topic.
    prefixes: Option<Arc<Prefixes>>,
    mailbox: Arc<Mailbox>,
    traffic: Arc<Traffic>,
}

/// What is remembered of a topic that something was published on.
struct Lane {
    /// One copy for all envelopes.
    topic: ByteString,
    class: Class,
    routes: Vec<Arc<Route>>,
}

#[derive(Default)]
struct Routes {
    index: PatternIndex<Arc<Route>>,
    /// What topics have; emptied whenever a subscription comes or goes.
    cache: HashMap<ByteString, Arc<Lane>>,
}

/// One who follows the journal.
struct Standing {
    identity: Identity,
    pattern: Pattern,
    cursor: Cursor,
    ended: CancellationToken,
}

/// Sequences, one for each class. Held while a message is put into the queues, so that every
/// subscriber sees one order.
#[derive(Default)]
struct Order {
    live: u64,
    durable: u64,
}

pub(crate) struct Hub {
    epoch: Uuid,
    epoch_bytes: Bytes,
    policy: Arc<dyn Policy>,
    ids: Arc<IdSource>,
    next: AtomicU64,
    routes: RwLock<Routes>,
    servers: RwLock<PatternIndex<Arc<Server>>>,
    order: Mutex<Order>,
    pub(crate) counters: Counters,
    ledger: Ledger,
    journal: RwLock<Option<Handle>>,
    followings: Mutex<HashMap<u64, Standing>>,
    has_closed: AtomicBool,
    closed: CancellationToken,
}

impl Hub {
    pub(crate) fn member(self: &Arc<Self>, identity: Identity) -> Member {
        let speaker = Speaker {
            identity,
            epoch: self.epoch_bytes.clone(),
            ids: self.ids.clone(),
        };
        Member {
            hub: self.clone(),
            traffic: self.ledger.of(&speaker.identity),
            speaker,
        }
    }

    fn authorize(
        &self,
        who: &Identity,
        direction: Direction,
        topic: &str,
        person: Option<PersonId>,
    ) -> Result<(), BusError> {
        if self.has_closed.load(Ordering::Relaxed) {
            return Err(BusError::Closed);
        }
        self.policy
            .allow(who, direction, topic, person)
            .map_err(|refusal| {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                self.ledger.of(who).refused();
                tracing::warn!(%who, %direction, topic, %refusal, "The bus refused a member.");
                BusError::Refused {
                    who: who.clone(),
                    direction,
                    topic: topic.to_owned(),
                    refusal,
                }
            })
    }

    /// Makes envelope and topic agree about the person. A personal topic names its person; the
    /// envelope may leave it out but not say otherwise.
    fn settle_person(
        envelope: &mut Envelope,
        wire: &mut Option<Bytes>,
    ) -> Result<Option<PersonId>, BusError> {
        let wrong = || BusError::WrongPerson {
            topic: envelope.topic.to_string(),
        };
        let said = match envelope.person.len() {
            0 => None,
            _ => Some(PersonId::from_slice(&envelope.person).map_err(|_| wrong())?),
        };
        if !topics::is_personal(&envelope.topic) {
            return Ok(said);
        }
        let person = topics::person_of(&envelope.topic).ok_or_else(wrong)?;
        match said {
            None => {
                envelope.person = Bytes::copy_from_slice(person.as_bytes());
                *wire = wire
                    .take()
                    .map(|wire| append_person(&wire, person.as_bytes()));
            }
            Some(said) if said == person => {}
            Some(_) => return Err(wrong()),
        }
        Ok(Some(person))
    }

    /// Publishes for a member. `wire` is the encoded form it came in over a link.
    pub(crate) fn publish(
        &self,
        from: &Member,
        mut envelope: Envelope,
        mut wire: Option<Bytes>,
    ) -> Result<(), BusError> {
        let who = &from.speaker.identity;
        let person = Self::settle_person(&mut envelope, &mut wire)?;
        self.authorize(who, Direction::Publish, &envelope.topic, person)?;
        self.count_published(from, &envelope);
        if topics::class(&envelope.topic) == Class::Durable
            && let Some(journal) = self.journal()
        {
            // The store is the truth: what the journal can't keep now, others read again there.
            let done = |outcome: Result<Receipt, JournalFault>| {
                if let Err(error) = outcome {
                    tracing::warn!(%error, "A message is not in the journal.");
                }
            };
            match Message::new(from.name(), person, &envelope, wire.as_ref()) {
                Ok(message) => journal.keep(message, Some(Box::new(done))),
                Err(error) => done(Err(error)),
            }
        }
        self.fan_out(from.name(), person, envelope, wire);
        Ok(())
    }

    fn count_published(&self, from: &Member, envelope: &Envelope) {
        self.counters.published.fetch_add(1, Ordering::Relaxed);
        from.traffic.published(envelope.payload.len());
    }

    /// Puts a message into the queues of all who subscribed.
    fn fan_out(
        &self,
        sender: &ByteString,
        person: Option<PersonId>,
        mut envelope: Envelope,
        wire: Option<Bytes>,
    ) {
        let lane = self.lane(&envelope.topic);
        let mut wakers = Vec::new();
        let (mut delivered, mut dropped) = (0, 0);
        // What was made in this process a moment ago has the time already.
        let now_ns = if wire.is_some() {
            now_ns()
        } else {
            envelope.time_unix_ns
        };
        {
            let mut order = self.order.lock();
            let sequence = match lane.class {
                Class::Live => &mut order.live,
                Class::Durable => &mut order.durable,
            };
            *sequence += 1;
            if lane.routes.is_empty() {
                return;
            }
            let stamp = Stamp {
                sequence: *sequence,
                epoch: &self.epoch_bytes,
                sender,
                now_ns,
            };
            stamp.set(&mut envelope);
            let bytes = envelope.payload.len();
            let parcel = Parcel {
                envelope: Arc::new(envelope),
                wire,
            };
            for route in &lane.routes {
                if person.is_some_and(|person| !self.policy.sees(&route.identity, person)) {
                    continue;
                }
                delivered += 1;
                let pushed = route.mailbox.push(parcel.clone());
                route.traffic.received(bytes, pushed.dropped);
                dropped += pushed.dropped;
                wakers.extend(pushed.waker);
            }
        }
        self.counters
            .delivered
            .fetch_add(delivered, Ordering::Relaxed);
        if dropped > 0 {
            self.counters.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    fn journal(&self) -> Option<Handle> {
        self.journal.read().clone()
    }

    /// Publishes on a durable topic for a module of the daemon: delivered here at once.
    fn publish_durably(&self, from: &Member, mut envelope: Envelope) -> Result<Pending, BusError> {
        let who = &from.speaker.identity;
        let person = Self::settle_person(&mut envelope, &mut None)?;
        self.authorize(who, Direction::Publish, &envelope.topic, person)?;
        let journal = self.journal();
        let journal = journal.ok_or(BusError::Journal(JournalFault::Locked))?;
        let message = Message::new(from.name(), person, &envelope, None);
        let message = message.map_err(BusError::Journal)?;
        self.count_published(from, &envelope);
        let (done, pending) = Pending::new();
        journal.keep(message, Some(done));
        self.fan_out(from.name(), person, envelope, None);
        Ok(pending)
    }

    /// Publishes on a durable topic for a peer: delivered here once it is in the journal, so that
    /// a peer that repeats what nobody answered for is not heard twice.
    pub(crate) fn publish_from_peer(
        self: &Arc<Self>,
        from: &Member,
        mut envelope: Envelope,
        wire: Bytes,
        answer: impl FnOnce(Result<Receipt, JournalFault>) + Send + 'static,
    ) -> Result<(), BusError> {
        let mut wire = Some(wire);
        let who = &from.speaker.identity;
        let person = Self::settle_person(&mut envelope, &mut wire)?;
        self.authorize(who, Direction::Publish, &envelope.topic, person)?;
        let journal = self.journal();
        let journal = journal.ok_or(BusError::Journal(JournalFault::Locked))?;
        let message = Message::new(from.name(), person, &envelope, wire.as_ref());
        let message = message.map_err(BusError::Journal)?;
        self.count_published(from, &envelope);
        let (hub, sender) = (Arc::downgrade(self), from.name().clone());
        let done = move |outcome: Result<Receipt, JournalFault>| {
            if outcome.as_ref().is_ok_and(|receipt| !receipt.repeated)
                && let Some(hub) = hub.upgrade()
            {
                hub.fan_out(&sender, person, envelope, wire);
            }
            answer(outcome);
        };
        journal.keep(message, Some(Box::new(done)));
        Ok(())
    }

    /// Whether what belongs to a person may be shown to `who`.
    pub(crate) fn sees(&self, who: &Identity, person: PersonId) -> bool {
        self.policy.sees(who, person)
    }

    pub(crate) async fn follow(
        self: &Arc<Self>,
        who: &Identity,
        pattern: Pattern,
        start: Start,
        resume: Option<Place>,
    ) -> Result<Following, BusError> {
        let person = topics::person_of(pattern.as_str());
        self.authorize(who, Direction::Subscribe, pattern.as_str(), person)?;
        let journal = self.journal();
        let journal = journal.ok_or(BusError::Journal(JournalFault::Locked))?;
        let wanted = {
            let (hub, who) = (Arc::downgrade(self), who.clone());
            Wanted {
                pattern: pattern.clone(),
                sees: Box::new(move |person| {
                    hub.upgrade().is_some_and(|hub| hub.sees(&who, person))
                }),
            }
        };
        let identity = who.clone();
        let begun = tokio::task::spawn_blocking(move || {
            journal.follow(identity.as_str(), wanted, start, resume)
        });
        let tail = begun
            .await
            .map_err(|_| BusError::Closed)?
            .map_err(BusError::Journal)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let ended = self.closed.child_token();
        let standing = Standing {
            identity: who.clone(),
            pattern,
            cursor: tail.cursor(),
            ended: ended.clone(),
        };
        self.followings.lock().insert(id, standing);
        let hub = Arc::downgrade(self);
        let guard = Guard::new(move || {
            if let Some(hub) = hub.upgrade() {
                hub.followings.lock().remove(&id);
            }
        });
        Ok(Following {
            hub: self.clone(),
            who: who.clone(),
            tail,
            ended,
            _guard: guard,
        })
    }

    /// A topic as it is remembered, or a copy.
    fn topic(&self, topic: &str) -> Result<ByteString, TopicError> {
        if let Some(lane) = self.routes.read().cache.get(topic) {
            return Ok(lane.topic.clone());
        }
        check_topic(topic).map(|()| topic.into())
    }

    fn lane(&self, topic: &str) -> Arc<Lane> {
        if let Some(found) = self.routes.read().cache.get(topic) {
            return found.clone();
        }
        let mut routes = self.routes.write();
        let leading = routes.index.matching(topic).into_iter();
        let found = Arc::new(Lane {
            // A copy: what came over a link lies in its whole frame.
            topic: ByteString::from(topic),
            class: topics::class(topic),
            routes: leading
                .map(|(_, route)| route)
                .filter(|route| self.leads(route, topic))
                .collect(),
        });
        if routes.cache.len() >= ROUTE_CACHE {
            routes.cache.clear();
        }
        routes.cache.insert(found.topic.clone(), found.clone());
        found
    }

    /// Whether a route on whose pattern the topic fits is a route of this topic.
    fn leads(&self, route: &Route, topic: &str) -> bool {
        let Some(prefixes) = &route.prefixes else {
            return true;
        };
        prefixes.fit(topic) && self.may_subscribe(&route.identity, topic, topics::person_of(topic))
    }

    fn may_subscribe(&self, who: &Identity, topic: &str, person: Option<PersonId>) -> bool {
        let direction = Direction::Subscribe;
        self.policy.allow(who, direction, topic, person).is_ok()
    }

    /// Whether a message that waited may be given to a SUB socket: grant and consent may have
    /// ended meanwhile.
    pub(crate) fn may_hear(&self, who: &Identity, envelope: &Envelope) -> bool {
        let person = topics::person_of(&envelope.topic);
        self.may_subscribe(who, &envelope.topic, person) && self.still_sees(who, envelope)
    }

    /// The subscription of a SUB socket: of all topics that begin with one of its prefixes, which
    /// it changes as it likes, those that it was granted.
    pub(crate) fn subscribe_by_prefix(
        self: &Arc<Self>,
        who: &Identity,
        prefixes: Arc<Prefixes>,
        queue: Queue,
    ) -> Subscription {
        self.stand(who, Pattern::everything(), Some(prefixes), queue)
    }

    /// After prefixes changed. `false`: the one that was added leads nowhere.
    pub(crate) fn prefixes_changed(&self, who: &Identity, added: Option<&str>) -> bool {
        self.routes.write().cache.clear();
        added.is_none_or(|prefix| self.policy.reaches(who, prefix))
    }

    fn subscribe(
        self: &Arc<Self>,
        who: &Identity,
        pattern: Pattern,
        queue: Queue,
    ) -> Result<Subscription, BusError> {
        let person = topics::person_of(pattern.as_str());
        self.authorize(who, Direction::Subscribe, pattern.as_str(), person)?;
        Ok(self.stand(who, pattern, None, queue))
    }

    fn stand(
        self: &Arc<Self>,
        who: &Identity,
        pattern: Pattern,
        prefixes: Option<Arc<Prefixes>>,
        queue: Queue,
    ) -> Subscription {
        let mailbox = Mailbox::new(Queue::new(queue.messages, queue.bytes));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let route = Route {
            identity: who.clone(),
            pattern: pattern.clone(),
            prefixes,
            mailbox: mailbox.clone(),
            traffic: self.ledger.of(who),
        };
        {
            let mut routes = self.routes.write();
            routes.index.insert(&pattern, id, Arc::new(route));
            routes.cache.clear();
        }
        let hub = Arc::downgrade(self);
        let guard = Guard::new(move || {
            if let Some(hub) = hub.upgrade() {
                let mut routes = hub.routes.write();
                routes.index.remove(&pattern, id);
                routes.cache.clear();
            }
        });
        self.end_if_closed();
        Subscription::new(mailbox, guard)
    }

    fn serve(
        self: &Arc<Self>,
        speaker: &Speaker,
        pattern: Pattern,
        concurrency: usize,
    ) -> Result<Requests, BusError> {
        let who = &speaker.identity;
        let person = topics::person_of(pattern.as_str());
        self.authorize(who, Direction::Serve, pattern.as_str(), person)?;
        let (server, rx) = Server::new(who.clone(), pattern.clone(), concurrency);
        let places = server.places.clone();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.servers.write().insert(&pattern, id, server);
        let hub = Arc::downgrade(self);
        let guard = Guard::new(move || {
            if let Some(hub) = hub.upgrade() {
                hub.servers.write().remove(&pattern, id);
            }
        });
        self.end_if_closed();
        Ok(Requests::new(rx, places, speaker.clone(), guard))
    }

    /// Puts a request before the server that came last.
    pub(crate) fn ask(
        &self,
        from: &Member,
        mut envelope: Envelope,
        mut wire: Option<Bytes>,
    ) -> Result<(Arc<Envelope>, ReplyReceiver), RequestError> {
        let who = &from.speaker.identity;
        let person =
            Self::settle_person(&mut envelope, &mut wire).map_err(RequestError::Refused)?;
        self.authorize(who, Direction::Request, &envelope.topic, person)
            .map_err(RequestError::Refused)?;
        let mut servers = self.servers.read().matching(&envelope.topic);
        if let Some(person) = person {
            servers.retain(|(_, server)| self.policy.sees(&server.identity, person));
        }
        servers.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        let stamp = Stamp {
            sequence: 0,
            epoch: &self.epoch_bytes,
            sender: from.name(),
            now_ns: now_ns(),
        };
        stamp.set(&mut envelope);
        let topic = envelope.topic.clone();
        let parcel = Parcel {
            envelope: Arc::new(envelope),
            wire,
        };
        let (reply, receiver) = reply::channel();
        let request = parcel.envelope.clone();
        let mut incoming = Incoming { parcel, reply };
        for (_, server) in servers {
            match server.take(incoming) {
                Ok(()) => {
                    self.counters.requests.fetch_add(1, Ordering::Relaxed);
                    from.traffic.requested();
                    return Ok((request, receiver));
                }
                Err(NotTaken::Gone(back)) => incoming = back,
                Err(NotTaken::Full) => {
                    return Err(RequestError::Fault(Fault::busy("Too many requests wait")));
                }
            }
        }
        self.counters.unserved.fetch_add(1, Ordering::Relaxed);
        Err(RequestError::NobodyServes {
            topic: topic.to_string(),
        })
    }

    /// Whether a message that waited may still be delivered: a consent may have ended meanwhile.
    pub(crate) fn still_sees(&self, who: &Identity, envelope: &Envelope) -> bool {
        envelope.person.is_empty()
            || PersonId::from_slice(&envelope.person)
                .is_ok_and(|person| self.policy.sees(who, person))
    }

    fn reauthorize(&self) {
        let refused = |who: &Identity, direction, pattern: &Pattern| {
            let person = topics::person_of(pattern.as_str());
            self.authorize(who, direction, pattern.as_str(), person)
                .is_err()
        };
        // For SUB sockets it was decided by topic.
        self.routes.write().cache.clear();
        for route in self.routes.read().index.all() {
            if route.prefixes.is_none()
                && refused(&route.identity, Direction::Subscribe, &route.pattern)
            {
                route.mailbox.close();
            }
        }
        for standing in self.followings.lock().values() {
            if refused(&standing.identity, Direction::Subscribe, &standing.pattern) {
                standing.ended.cancel();
            }
        }
        let servers = self.servers.read().all();
        for server in servers {
            if refused(&server.identity, Direction::Serve, &server.pattern) {
                server.close();
            }
        }
    }

    fn close(&self) {
        self.has_closed.store(true, Ordering::SeqCst);
        self.end_all();
        self.closed.cancel();
    }

    /// A subscription that raced with the closing would otherwise wait for ever.
    fn end_if_closed(&self) {
        if self.has_closed.load(Ordering::SeqCst) {
            self.end_all();
        }
    }

    fn end_all(&self) {
        let routes = self.routes.read().index.all();
        routes.iter().for_each(|route| route.mailbox.close());
        let servers = self.servers.read().all();
        servers.iter().for_each(|server| server.close());
    }

    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    fn stats(&self) -> BusStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let routes = self.routes.read().index.all();
        let servers = self.servers.read().all();
        BusStats {
            published: of(&self.counters.published),
            delivered: of(&self.counters.delivered),
            dropped: of(&self.counters.dropped),
            requests: of(&self.counters.requests),
            unserved: of(&self.counters.unserved),
            refused: of(&self.counters.refused),
            malformed: of(&self.counters.malformed),
            turned_away: of(&self.counters.turned_away),
            peers: of(&self.counters.peers),
            identities: self.ledger.stats(),
            subscriptions: routes
                .iter()
                .map(|route| {
                    let (waiting, waiting_bytes, dropped) = route.mailbox.load();
                    SubscriptionStats {
                        identity: route.identity.to_string(),
                        pattern: match &route.prefixes {
                            Some(prefixes) => prefixes.to_string(),
                            None => route.pattern.to_string(),
                        },
                        waiting,
                        waiting_bytes,
                        dropped,
                    }
                })
                .collect(),
            servers: servers
                .iter()
                .map(|server| ServerStats {
                    identity: server.identity.to_string(),
                    pattern: server.pattern.to_string(),
                    waiting: server.waiting(),
                    in_progress: server.places.taken(),
                })
                .collect(),
            followers: self
                .followings
                .lock()
                .values()
                .map(|standing| FollowerStats {
                    identity: standing.identity.to_string(),
                    pattern: standing.pattern.to_string(),
                    position: standing.cursor.position(),
                })
                .collect(),
            journal: self.journal().map(|journal| journal.stats()),
        }
    }
}

/// The port of a module inside the daemon.
pub(crate) struct Member {
    hub: Arc<Hub>,
    speaker: Speaker,
    traffic: Arc<Traffic>,
}

impl Member {
    fn name(&self) -> &ByteString {
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
