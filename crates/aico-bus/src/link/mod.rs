//! The bus across a process boundary: CurveZMQ between the daemon and its children.
//!
//! The daemon [binds](Listener::bind) a listener and [issues](Listener::issue) credentials for an
//! identity: keys that are made anew at each start and handed over through an inherited pipe. The
//! child [connects](connect) with them and gets a [`Client`](crate::Client) with the calls that
//! modules inside the daemon have.
//!
//! - **Who speaks** is the CURVE key that the handshake verified, looked up in the table of issued
//!   credentials. A key that is not there, or was revoked, is refused in the handshake; so is a
//!   peer without CURVE, and a peer that declares a routing identity of its own (it could take
//!   another's place in the routing table).
//! - **One message part is one [`Frame`](aico_contracts::v1::Frame)**: one or more envelopes of
//!   one topic. What the two ends tell each other is a [`Control`](aico_contracts::v1::Control)
//!   in an envelope on the topic `$link`.
//! - **Everything has credit.** A subscription may have as many messages and bytes on the way as
//!   its queue holds, an exchange 64 items; whoever takes them out gives the credit back. A peer
//!   that stops reading costs its own queues and nothing else.
//! - **Loss is noticed** by the end of the connection, or by heartbeats within 5 seconds; requests
//!   in flight fail at once. What then happens the member chooses: with [`connect`](connect()) the link is
//!   never made again, [`Client::closed`](crate::Client::closed) resolves, and a child that lost
//!   its daemon ends; with [`keep`](keep()) it is made again, with all that stood.

mod connect;
mod credentials;
mod feed;
pub(crate) mod follow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod keep;
mod listener;
mod live;
mod outbox;
mod peer;
mod port;
mod receipts;
mod session;
mod subscriber;
mod unanswered;
mod uplink;
mod wire;

use std::time::Duration;

use omq_tokio::options::WorkloadProfile;
use omq_tokio::{Options, ReconnectPolicy};

pub use connect::connect;
pub use credentials::{
    CONNECTION_VERSION, Connection, Credentials, ServerKeys, read_public_key, write_public_key,
};
pub use keep::{Link, LinkState, Retry, keep};
pub use listener::{Listener, endpoint_in, endpoint_named};

use crate::MAX_PAYLOAD;

/// Largest frame that is read: one payload of the largest size and its envelope.
pub const MAX_FRAME: usize = MAX_PAYLOAD + 64 * 1024;

/// How often each side asks whether the other still lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Without any word for so long, the other side is taken for dead.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A link that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address can't be bound.
    #[error("the bus can't be bound to {endpoint}")]
    Bind {
        /// The address.
        endpoint: String,
        /// Why.
        #[source]
        source: omq_tokio::Error,
    },
    /// The folder of the socket can't be made or is open to other users.
    #[error("the folder {folder} for the socket is not private")]
    Folder {
        /// The folder.
        folder: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The socket's path is longer than the system allows.
    #[error("the socket's path {path} is longer than {limit} bytes")]
    PathTooLong {
        /// The path.
        path: std::path::PathBuf,
        /// The limit.
        limit: usize,
    },
    /// The connection file can't be read, or is none.
    #[error("{path} is no connection file that can be used: {reason}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        reason: String,
    },
    /// The credentials hold something that is no key.
    #[error("the credentials are damaged")]
    Credentials,
    /// The daemon refuses the key: it was revoked or rotated, or never admitted.
    #[error("the daemon at {endpoint} refuses this key: {reason}")]
    Refused {
        /// The address.
        endpoint: String,
        /// What it said.
        reason: String,
    },
    /// Nobody was there in time, or the link was closed here.
    #[error("the link was closed before it stood")]
    Closed,
    /// The daemon does not answer at the address, or is another one than the credentials name.
    #[error("no link to {endpoint}: {reason}")]
    Connect {
        /// The address.
        endpoint: String,
        /// What was seen.
        reason: String,
    },
    /// The daemon answered something else than a welcome.
    #[error("the daemon at {endpoint} speaks another version of the link")]
    Version {
        /// The address.
        endpoint: String,
    },
}

/// What both ends set; the crate's defaults know no limit of size and drop what can't be routed.
///
/// `Throughput` does not wait for more to come: it takes what is there at once, up to 256
/// messages, where `Latency` makes a system call for each.
fn options() -> Options {
    let mut options = Options::default()
        .workload_profile(WorkloadProfile::Throughput)
        .max_message_size(MAX_FRAME + 1024)
        .router_mandatory(true)
        .send_hwm(1024)
        .recv_hwm(1024)
        .linger(Duration::ZERO)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_timeout(SILENCE)
        .handshake_timeout(HANDSHAKE)
        .max_pending_handshakes(32)
        .reconnect(ReconnectPolicy::Disabled);
    options.heartbeat_ttl = Some(SILENCE);
    options
}
