//! Modules of other makers, and the bus as the owner sees it.

use aico_access::{self as access, Action};
use aico_bus::link::write_public_key;
use aico_contracts::ids::{ModuleId, PersonId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::config::Door;

/// A module that is admitted to the bus.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0193a1b2-0000-7000-8000-000000000006", "name": "weather",
    "public_key": "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
    "publish": ["weather.#"], "subscribe": ["conversation.*.#"], "request": [], "serve": [],
    "persons": [{"person": "0193a1b2-0000-7000-8000-000000000001", "agreed": true}],
    "created_at": "2026-01-31T12:00:00Z", "key_since": "2026-01-31T12:00:00Z"
}))]
pub(crate) struct Module {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) id: ModuleId,
    pub(crate) name: String,
    /// CURVE, in Z85. Its secret key is nowhere but in its connection file.
    pub(crate) public_key: String,
    /// Topics that it may publish to.
    pub(crate) publish: Vec<String>,
    /// Patterns that it may subscribe to.
    pub(crate) subscribe: Vec<String>,
    /// Topics that it may ask on.
    pub(crate) request: Vec<String>,
    /// Patterns that it may answer on.
    pub(crate) serve: Vec<String>,
    /// Whose data it asks for. A member sees themselves only.
    pub(crate) persons: Vec<Consent>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// Since when it has this key.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) key_since: Timestamp,
}

/// Whether a person lets a module have their data.
#[derive(Serialize, ToSchema)]
pub(crate) struct Consent {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) person: PersonId,
    pub(crate) agreed: bool,
}

impl Module {
    /// As `viewer` sees it; everybody's agreement with `None`.
    pub(crate) fn new(module: access::Module, viewer: Option<PersonId>) -> Self {
        let of = |action: Action| -> Vec<String> {
            let topics = module.topics.iter().filter(|topic| topic.action == action);
            topics.map(|topic| topic.pattern.clone()).collect()
        };
        Self {
            publish: of(Action::BusPublish),
            subscribe: of(Action::BusSubscribe),
            request: of(Action::BusRequest),
            serve: of(Action::BusServe),
            persons: module
                .persons
                .iter()
                .filter(|(person, _)| viewer.is_none_or(|viewer| viewer == *person))
                .map(|(person, agreed)| Consent {
                    person: *person,
                    agreed: *agreed,
                })
                .collect(),
            id: module.id,
            public_key: write_public_key(module.key),
            name: module.name,
            created_at: module.created_at,
            key_since: module.key_since,
        }
    }
}

/// A module to be admitted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "weather", "public_key": "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
    "publish": ["weather.#"], "subscribe": ["conversation.*.#"]
}))]
pub(crate) struct AddModule {
    /// 1 to 32 of a to z, 0 to 9 and -, a letter first.
    pub(crate) name: String,
    /// The public half of a CURVE pair that was made for it, in Z85.
    pub(crate) public_key: String,
    #[serde(default)]
    pub(crate) publish: Vec<String>,
    #[serde(default)]
    pub(crate) subscribe: Vec<String>,
    #[serde(default)]
    pub(crate) request: Vec<String>,
    #[serde(default)]
    pub(crate) serve: Vec<String>,
    /// Whose data it asks for; nobody named: the owner's.
    #[serde(default)]
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub(crate) persons: Vec<String>,
}

/// A module that was admitted, and where it finds the bus.
#[derive(Serialize, ToSchema)]
pub(crate) struct Admitted {
    pub(crate) module: Module,
    pub(crate) door: Door,
}

/// A new key for a module.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// The public half of a new CURVE pair, in Z85.
    pub(crate) public_key: String,
}

/// Traffic on the bus since the daemon started, and what stands now.
#[derive(Serialize, ToSchema)]
pub(crate) struct Bus {
    /// Messages that were published.
    pub(crate) published: u64,
    /// Messages put into subscribers' queues.
    pub(crate) delivered: u64,
    /// Messages dropped because a subscriber's queue was full.
    pub(crate) dropped: u64,
    /// Requests that were put before a server.
    pub(crate) requests: u64,
    /// Requests that nobody served.
    pub(crate) unserved: u64,
    /// What the policy refused.
    pub(crate) refused: u64,
    /// Frames and messages of peers that could not be read.
    pub(crate) malformed: u64,
    /// Connections that were turned away: no CURVE, or a key that is not listed.
    pub(crate) turned_away: u64,
    /// Processes that are connected.
    pub(crate) peers: u64,
    pub(crate) identities: Vec<BusIdentity>,
    pub(crate) subscriptions: Vec<BusQueue>,
    pub(crate) services: Vec<BusQueue>,
    pub(crate) followers: Vec<BusFollower>,
    /// Durable messages, kept for other processes; only while there is a journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) journal: Option<BusJournal>,
}

/// What one identity did since the daemon started.
#[derive(Serialize, ToSchema)]
pub(crate) struct BusIdentity {
    /// A part of AICO, or `module:` and a name.
    pub(crate) identity: String,
    pub(crate) published: u64,
    /// Bytes of the payloads that it published.
    pub(crate) published_bytes: u64,
    /// Messages put into its queues.
    pub(crate) received: u64,
    /// Bytes of their payloads.
    pub(crate) received_bytes: u64,
    /// Messages dropped because a queue of its was full.
    pub(crate) dropped: u64,
    /// Requests that it made.
    pub(crate) requests: u64,
    /// What the policy refused it.
    pub(crate) refused: u64,
}

/// One who follows the journal.
#[derive(Serialize, ToSchema)]
pub(crate) struct BusFollower {
    /// Who it is.
    pub(crate) identity: String,
    pub(crate) pattern: String,
    /// The last sequence that it was given, or that is of no concern to it.
    pub(crate) position: u64,
}

/// The journal.
#[derive(Serialize, ToSchema)]
pub(crate) struct BusJournal {
    /// The last sequence that is durable.
    pub(crate) last: u64,
    /// The first sequence that is still there.
    pub(crate) first: u64,
    pub(crate) files: usize,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Messages that wait to be written.
    pub(crate) waiting: usize,
    /// Syncs that made messages durable since AICO was unlocked; so are the next three.
    pub(crate) commits: u64,
    /// Messages that were made durable.
    pub(crate) kept: u64,
    /// Repetitions that were dropped.
    pub(crate) repeated: u64,
    /// Messages that were refused.
    pub(crate) refused: u64,
}

/// A subscription or a service, and what waits in it.
#[derive(Serialize, ToSchema)]
pub(crate) struct BusQueue {
    /// Whose it is.
    pub(crate) identity: String,
    pub(crate) pattern: String,
    /// Messages or requests that wait.
    pub(crate) waiting: usize,
    /// Bytes that wait, of a subscription.
    pub(crate) waiting_bytes: usize,
    /// Messages dropped since it began, of a subscription.
    pub(crate) dropped: u64,
    /// Requests being answered, of a service.
    pub(crate) in_progress: usize,
}

impl From<aico_bus::BusStats> for Bus {
    fn from(stats: aico_bus::BusStats) -> Self {
        Self {
            published: stats.published,
            delivered: stats.delivered,
            dropped: stats.dropped,
            requests: stats.requests,
            unserved: stats.unserved,
            refused: stats.refused,
            malformed: stats.malformed,
            turned_away: stats.turned_away,
            peers: stats.peers,
            identities: stats
                .identities
                .into_iter()
                .map(|one| BusIdentity {
                    identity: one.identity,
                    published: one.published,
                    published_bytes: one.published_bytes,
                    received: one.received,
                    received_bytes: one.received_bytes,
                    dropped: one.dropped,
                    requests: one.requests,
                    refused: one.refused,
                })
                .collect(),
            subscriptions: stats
                .subscriptions
                .into_iter()
                .map(|one| BusQueue {
                    identity: one.identity,
                    pattern: one.pattern,
                    waiting: one.waiting,
                    waiting_bytes: one.waiting_bytes,
                    dropped: one.dropped,
                    in_progress: 0,
                })
                .collect(),
            services: stats
                .servers
                .into_iter()
                .map(|one| BusQueue {
                    identity: one.identity,
                    pattern: one.pattern,
                    waiting: one.waiting,
                    waiting_bytes: 0,
                    dropped: 0,
                    in_progress: one.in_progress,
                })
                .collect(),
            followers: stats
                .followers
                .into_iter()
                .map(|one| BusFollower {
                    identity: one.identity,
                    pattern: one.pattern,
                    position: one.position,
                })
                .collect(),
            journal: stats.journal.map(|journal| BusJournal {
                last: journal.last.sequence,
                first: journal.first,
                files: journal.files,
                bytes: journal.bytes,
                waiting: journal.waiting,
                commits: journal.commits,
                kept: journal.kept,
                repeated: journal.repeated,
                refused: journal.refused,
            }),
        }
    }
}

/// What to read along.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TailParams {
    /// A pattern of topics: `*` one segment, `#` the rest.
    pub(crate) pattern: String,
}
