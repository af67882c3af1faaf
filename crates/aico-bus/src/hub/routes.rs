//! Who gets what: standing subscriptions, and what is remembered of each topic.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aico_contracts::ByteString;
use aico_contracts::ids::PersonId;
use aico_contracts::topics::{self, Class};
use aico_contracts::v1::Envelope;

use super::Hub;
use crate::error::BusError;
use crate::identity::{Direction, Identity};
use crate::pattern::{Pattern, PatternIndex, TopicError, check_topic};
use crate::prefix::Prefixes;
use crate::queue::{Guard, Mailbox, Queue, Subscription};
use crate::traffic::Traffic;

/// Most topics whose subscribers are remembered.
const ROUTE_CACHE: usize = 4096;

/// One standing subscription.
pub(super) struct Route {
    pub(super) identity: Identity,
    pub(super) pattern: Pattern,
    /// Of a SUB socket, whose pattern is everything: what it wants of that. What it may have of it
    /// is decided for each topic.
    pub(super) prefixes: Option<Arc<Prefixes>>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) traffic: Arc<Traffic>,
}

/// What is remembered of a topic that something was published on.
pub(super) struct Lane {
    /// One copy for all envelopes.
    pub(super) topic: ByteString,
    pub(super) class: Class,
    pub(super) routes: Vec<Arc<Route>>,
}

#[derive(Default)]
pub(super) struct Routes {
    pub(super) index: PatternIndex<Arc<Route>>,
    /// What topics have; emptied whenever a subscription comes or goes.
    pub(super) cache: HashMap<ByteString, Arc<Lane>>,
}

impl Hub {
    /// A topic as it is remembered, or a copy.
    pub(super) fn topic(&self, topic: &str) -> Result<ByteString, TopicError> {
        if let Some(lane) = self.routes.read().cache.get(topic) {
            return Ok(lane.topic.clone());
        }
        check_topic(topic).map(|()| topic.into())
    }

    pub(super) fn lane(&self, topic: &str) -> Arc<Lane> {
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

    pub(super) fn subscribe(
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
}
