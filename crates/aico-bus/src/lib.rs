//! The bus: how the parts of AICO talk to each other, inside the daemon and across processes.
//!
//! A module [joins](Bus::join) under its name and gets a [`Client`]: it publishes and subscribes,
//! serves topics, asks for one answer or for a stream of them. Inside the daemon a publish is a
//! bounded fan-out of one shared envelope; in another process the same calls travel over
//! CurveZMQ ([`link`]). Code above can't tell.
//!
//! Three rules hold everywhere:
//! - **Nobody waits for a subscriber.** Each has its own bounded queue; when it is full the oldest
//!   message is dropped and the gap is counted and told ([`Delivery::Gap`]).
//! - **The bus says who speaks.** The sender in an envelope is the identity that joined, or the
//!   verified key of the peer; what a message claims is overwritten.
//! - **One place decides.** Every publish, subscription, request and service is put before the
//!   [`Policy`].
//!
//! `docs/bus.md` tells the whole story, with the formats.

#![forbid(unsafe_code)]

mod client;
mod error;
mod exchange;
mod follow;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hub;
mod identity;
mod ids;
mod journal;
pub mod link;
mod meta;
mod parcel;
mod pattern;
mod port;
mod prefix;
mod queue;
mod reply;
mod server;
mod stats;
mod trace;
mod traffic;

pub use client::{Client, decode};
pub use error::{BusError, RequestError};
pub use exchange::{ReplyStream, Request, Requests, Responder};
pub use follow::{Followed, Follower, Pending};
pub use hub::Bus;
#[cfg(any(test, feature = "test-util"))]
pub use identity::AllowAll;
pub use identity::{Direction, Identity, Policy, Refusal};
pub use journal::{
    Anew, CheckedJournal, DEDUPLICATION_WINDOW, Journal, JournalError, JournalFault, JournalKeys,
    JournalStats, NoBodyKey, Place, Receipt, Rekeyed, Retention, Skipped, Start, Why,
    check as check_journal, rekey as rekey_journal,
};
pub use meta::Meta;
pub use pattern::{Pattern, TopicError};
pub use queue::{Delivery, Queue, Subscription};
pub use stats::{BusStats, FollowerStats, IdentityStats, ServerStats, SubscriptionStats};
pub use trace::{NoTrace, Trace};

/// Largest payload of one envelope: 16 MiB.
pub const MAX_PAYLOAD: usize = 16 * 1024 * 1024;
