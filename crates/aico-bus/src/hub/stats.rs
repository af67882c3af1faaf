//! What stands now, in figures.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Hub;
use crate::stats::{BusStats, FollowerStats, ServerStats, SubscriptionStats};

impl Hub {
    pub(super) fn stats(&self) -> BusStats {
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
