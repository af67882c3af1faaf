//! The daemon's bus: routes, policy, order. No socket, no cipher; links join it like modules do.

mod member;
mod publish;
mod requests;
mod routes;
mod stats;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::Envelope;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::client::Client;
use crate::error::BusError;
use crate::follow::Following;
use crate::identity::{Direction, Identity, Policy};
use crate::ids::IdSource;
use crate::journal::{Cursor, Handle, Journal, JournalFault, Place, Start, Wanted};
use crate::pattern::{Pattern, PatternIndex};
use crate::port::Speaker;
use crate::queue::Guard;
use crate::server::Server;
use crate::stats::{BusStats, Counters};
use crate::traffic::Ledger;

pub(crate) use member::Member;
use publish::Order;
use routes::Routes;

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

/// One who follows the journal.
struct Standing {
    identity: Identity,
    pattern: Pattern,
    cursor: Cursor,
    ended: CancellationToken,
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

    fn journal(&self) -> Option<Handle> {
        self.journal.read().clone()
    }

    /// Whether what belongs to a person may be shown to `who`.
    pub(crate) fn sees(&self, who: &Identity, person: PersonId) -> bool {
        self.policy.sees(who, person)
    }

    /// Whether a message that waited may still be delivered: a consent may have ended meanwhile.
    pub(crate) fn still_sees(&self, who: &Identity, envelope: &Envelope) -> bool {
        envelope.person.is_empty()
            || PersonId::from_slice(&envelope.person)
                .is_ok_and(|person| self.policy.sees(who, person))
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
}
