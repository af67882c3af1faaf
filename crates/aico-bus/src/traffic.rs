//! What each identity sends and receives.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::identity::Identity;
use crate::stats::IdentityStats;

/// Counters of one identity since the bus was made.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    published: AtomicU64,
    published_bytes: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    dropped: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

impl Traffic {
    pub(crate) fn published(&self, bytes: usize) {
        add(&self.published, 1);
        add(&self.published_bytes, bytes);
    }

    /// Put into one of its queues, out of which so many fell for it.
    pub(crate) fn received(&self, bytes: usize, dropped: u64) {
        add(&self.received, 1);
        add(&self.received_bytes, bytes);
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
    }

    pub(crate) fn requested(&self) {
        add(&self.requests, 1);
    }

    pub(crate) fn refused(&self) {
        add(&self.refused, 1);
    }
}

/// The counters of all. There are as many as names that ever joined: the daemon's own parts and the
/// modules that were admitted.
#[derive(Debug, Default)]
pub(crate) struct Ledger(RwLock<HashMap<Identity, Arc<Traffic>>>);

impl Ledger {
    pub(crate) fn of(&self, who: &Identity) -> Arc<Traffic> {
        if let Some(known) = self.0.read().get(who) {
            return known.clone();
        }
        self.0.write().entry(who.clone()).or_default().clone()
    }

    /// By name.
    pub(crate) fn stats(&self) -> Vec<IdentityStats> {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let all = self.0.read();
        let mut stats: Vec<_> = all
            .iter()
            .map(|(who, traffic)| IdentityStats {
                identity: who.to_string(),
                published: of(&traffic.published),
                published_bytes: of(&traffic.published_bytes),
                received: of(&traffic.received),
                received_bytes: of(&traffic.received_bytes),
                dropped: of(&traffic.dropped),
                requests: of(&traffic.requests),
                refused: of(&traffic.refused),
            })
            .collect();
        stats.sort_unstable_by(|one, other| one.identity.cmp(&other.identity));
        stats
    }
}
