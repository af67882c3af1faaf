//! The frames of `docs/websocket.md`.

use aico_contracts::ids::{ConversationId, MessageId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::access::Person;
use crate::api::conversation::Event;
use crate::input::Secret;
use crate::problem::{Code, ProblemDocument};

/// What a client sends.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum ClientFrame {
    /// The first frame.
    Authenticate {
        /// From `POST /api/v1/sessions`; left out over the local socket.
        #[serde(default)]
        token: Option<Secret>,
        /// Where the client was, when it was here before.
        #[serde(default)]
        resume: Option<Resume>,
    },
    /// Says something in a conversation.
    Send {
        /// Names this frame in the answer.
        r#ref: String,
        #[schema(value_type = Uuid)]
        conversation: ConversationId,
        text: String,
        /// Makes a repeat harmless (UUIDv7).
        #[serde(default)]
        #[schema(value_type = Option<Uuid>)]
        id: Option<MessageId>,
        /// Left out: the active leaf.
        #[serde(default)]
        #[schema(value_type = Option<Uuid>)]
        parent: Option<MessageId>,
    },
    /// Stops an answer.
    Cancel {
        r#ref: String,
        /// The answer.
        #[schema(value_type = Uuid)]
        message: MessageId,
    },
    /// Asks for a `pong`.
    Ping { r#ref: String },
}

/// The last event a client has seen.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resume {
    pub(crate) epoch: Uuid,
    pub(crate) seq: u64,
}

/// What the server sends.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(
    clippy::large_enum_variant,
    reason = "written out at once and never kept"
)]
pub(crate) enum ServerFrame {
    /// The first frame.
    Authenticated {
        person: Person,
        epoch: Uuid,
        /// Number of the last event before what follows.
        seq: u64,
        /// What follows continues what the client had; otherwise it reads anew.
        resumed: bool,
        heartbeat_seconds: u64,
    },
    /// Something happened.
    #[expect(dead_code, reason = "written by the ring; here for the schema")]
    Event {
        seq: u64,
        event: Event,
    },
    /// The message is durable.
    Accepted {
        r#ref: String,
        #[schema(value_type = Uuid)]
        message: MessageId,
        #[schema(value_type = Uuid)]
        answer: MessageId,
    },
    /// The answer stops, or had ended.
    Cancelled {
        r#ref: String,
    },
    Pong {
        r#ref: String,
    },
    /// What `ref` asked for failed.
    Error {
        r#ref: String,
        #[serde(flatten)]
        problem: FrameProblem,
    },
}

/// The problem document of REST, without its `type`: a frame has one of its own.
#[derive(Serialize, ToSchema)]
pub(crate) struct FrameProblem {
    /// What to decide by.
    code: Code,
    /// As the status of a REST answer.
    status: u16,
    /// One line for people.
    title: String,
    /// A sentence about this case.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// What the person can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    what_to_do: Option<String>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
}

impl From<ProblemDocument> for FrameProblem {
    fn from(document: ProblemDocument) -> Self {
        Self {
            code: document.code,
            status: document.status,
            title: document.title,
            detail: document.detail,
            what_to_do: document.what_to_do,
            retry_after_seconds: document.retry_after_seconds,
        }
    }
}
