//! What the bus tells about itself.

use std::sync::atomic::AtomicU64;

use crate::journal::JournalStats;

/// Counters since the bus was made, and what stands now.
#[derive(Debug, Clone, Default)]
pub struct BusStats {
    /// Messages that were published.
    pub published: u64,
    /// Messages put into subscribers' queues.
    pub delivered: u64,
    /// Messages dropped out of subscribers' queues because they were full.
    pub dropped: u64,
    /// Requests that were put before a server.
    pub requests: u64,
    /// Requests that nobody served.
    pub unserved: u64,
    /// Publishes, subscriptions, requests and services that the policy refused.
    pub refused: u64,
    /// Frames and envelopes from peers that could not be read.
    pub malformed: u64,
    /// Connections that were turned away: unlisted or revoked key, no CURVE.
    pub turned_away: u64,
    /// Peers that are connected over a link.
    pub peers: u64,
    /// What each identity did.
    pub identities: Vec<IdentityStats>,
    /// Every subscription that stands.
    pub subscriptions: Vec<SubscriptionStats>,
    /// Every service that stands.
    pub servers: Vec<ServerStats>,
    /// Who follows the journal.
    pub followers: Vec<FollowerStats>,
    /// The journal, while there is one.
    pub journal: Option<JournalStats>,
}

/// What one identity did since the bus was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityStats {
    /// Who.
    pub identity: String,
    /// Messages that it published.
    pub published: u64,
    /// Bytes of their payloads.
    pub published_bytes: u64,
    /// Messages put into its queues.
    pub received: u64,
    /// Bytes of their payloads.
    pub received_bytes: u64,
    /// Messages dropped out of its queues because they were full.
    pub dropped: u64,
    /// Requests that it made.
    pub requests: u64,
    /// Its publishes, subscriptions, requests and services that the policy refused.
    pub refused: u64,
}

/// One who follows the journal.
#[derive(Debug, Clone)]
pub struct FollowerStats {
    /// Who.
    pub identity: String,
    /// What.
    pub pattern: String,
    /// The last sequence that it was given or that is of no concern to it.
    pub position: u64,
}

/// One subscription.
#[derive(Debug, Clone)]
pub struct SubscriptionStats {
    /// Whose.
    pub identity: String,
    /// On what.
    pub pattern: String,
    /// Messages that wait.
    pub waiting: usize,
    /// Bytes that wait.
    pub waiting_bytes: usize,
    /// Messages dropped since it began.
    pub dropped: u64,
}

/// One service.
#[derive(Debug, Clone)]
pub struct ServerStats {
    /// Whose.
    pub identity: String,
    /// On what.
    pub pattern: String,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests being answered.
    pub in_progress: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) published: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) unserved: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) peers: AtomicU64,
}
