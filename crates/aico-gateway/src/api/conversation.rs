//! Conversations and messages.

use aico_contracts::ids::{ConversationId, MessageId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Code;

/// A conversation.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0193a1b2-0000-7000-8000-000000000002", "title": "Tea", "character": "aico",
    "created_at": "2026-01-31T12:00:00Z", "updated_at": "2026-01-31T12:05:00Z",
    "active_leaf": "0193a1b2-0000-7000-8000-000000000004"
}))]
pub(crate) struct Conversation {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) id: ConversationId,
    pub(crate) title: String,
    /// The id of a character.
    pub(crate) character: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) updated_at: Timestamp,
    /// The message that ends the branch shown; null in an empty conversation.
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    pub(crate) active_leaf: Option<MessageId>,
}

/// A page of conversations, the newest activity first.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationPage {
    pub(crate) items: Vec<Conversation>,
    /// For `before`; null on the last page.
    #[schema(required = true)]
    pub(crate) next: Option<String>,
}

/// Which conversations.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConversationQuery {
    /// How many, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub(crate) limit: Option<u32>,
    /// `next` of an earlier page.
    pub(crate) before: Option<String>,
}

/// A new conversation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub(crate) struct NewConversation {
    /// Left out, it is made from the first message.
    #[serde(default)]
    pub(crate) title: Option<String>,
    /// The id of a character; left out, the default one.
    #[serde(default)]
    pub(crate) character: Option<String>,
}

/// What changes; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"title": "Tea and biscuits"}))]
pub(crate) struct ChangeConversation {
    #[serde(default)]
    pub(crate) title: Option<String>,
    /// Shows the branch that ends there.
    #[serde(default)]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub(crate) active_leaf: Option<MessageId>,
    /// The id of a character, for what is said from now on.
    #[serde(default)]
    pub(crate) character: Option<String>,
}

/// A conversation with the branch that is shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationDetail {
    pub(crate) conversation: Conversation,
    /// From the first message to the active leaf.
    pub(crate) messages: Vec<Message>,
}

/// Who said it.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = MessageRole)]
pub(crate) enum Role {
    /// The person.
    User,
    /// The companion.
    Assistant,
}

/// How far a message is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MessageStatus {
    /// Whole.
    Complete,
    /// Being generated now.
    Streaming,
    /// Ended by the person; what came before is kept.
    Cancelled,
    /// The daemon ended in the middle; what was stored is kept.
    Interrupted,
    /// The model failed; what came before is kept, `error` says why.
    Failed,
}

/// One typed part of a message.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Part {
    /// Words to show.
    Text { text: String },
    /// What the model thought before it answered.
    Thinking { text: String },
}

/// Why an answer failed.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessageError {
    /// Stable; `model-failed`, for example.
    pub(crate) code: String,
    pub(crate) title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) what_to_do: Option<String>,
}

/// A node of a conversation's tree.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0193a1b2-0000-7000-8000-000000000003",
    "conversation": "0193a1b2-0000-7000-8000-000000000002",
    "parent": null, "role": "user", "parts": [{"type": "text", "text": "Hello"}],
    "status": "complete", "created_at": "2026-01-31T12:00:00Z", "model": null,
    "siblings": ["0193a1b2-0000-7000-8000-000000000003"]
}))]
pub(crate) struct Message {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) id: MessageId,
    #[schema(value_type = uuid::Uuid)]
    pub(crate) conversation: ConversationId,
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    pub(crate) parent: Option<MessageId>,
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part>,
    pub(crate) status: MessageStatus,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// The model that wrote it; null for a person's message.
    #[schema(required = true)]
    pub(crate) model: Option<String>,
    /// The model that its character is made for, when another one wrote it because that one could
    /// not be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instead_of: Option<String>,
    /// All children of this message's parent in order, itself included.
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub(crate) siblings: Vec<MessageId>,
    /// While streaming: the index of the first delta that `parts` does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_index: Option<u64>,
    /// When it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<MessageError>,
}

/// Something to say.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "Hello"}))]
pub(crate) struct NewMessage {
    /// At most 256 KiB.
    pub(crate) text: String,
    /// Chosen by the client (UUIDv7): the same id again is the same message.
    #[serde(default)]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub(crate) id: Option<MessageId>,
    /// The message it follows; left out, the active leaf.
    #[serde(default)]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub(crate) parent: Option<MessageId>,
}

/// Another wording.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "Hello again"}))]
pub(crate) struct Edit {
    /// At most 256 KiB.
    pub(crate) text: String,
    /// Chosen by the client (UUIDv7): the same id again is the same message.
    #[serde(default)]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub(crate) id: Option<MessageId>,
}

/// The message is durable, and its answer streams on `/ws`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Accepted {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) message: MessageId,
    #[schema(value_type = uuid::Uuid)]
    pub(crate) answer: MessageId,
}

/// What to look for.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchQuery {
    /// Words, at most 1,000 bytes.
    #[param(min_length = 1, max_length = 1000)]
    pub(crate) q: String,
    /// How many, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub(crate) limit: Option<u32>,
}

/// A piece of a snippet.
#[derive(Serialize, ToSchema)]
pub(crate) struct Snippet {
    pub(crate) text: String,
    /// It is what was looked for.
    pub(crate) hit: bool,
}

/// Where it was found.
#[derive(Serialize, ToSchema)]
pub(crate) struct SearchHit {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) conversation: ConversationId,
    pub(crate) title: String,
    /// Null when the title was hit.
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    pub(crate) message: Option<MessageId>,
    pub(crate) snippet: Vec<Snippet>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
}

/// How an answer came about.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnswerStats {
    pub(crate) prompt_tokens: u32,
    /// How many of them were still in the model's cache.
    pub(crate) cached_tokens: u32,
    pub(crate) answer_tokens: u32,
    /// Oldest turns that did not fit into the context.
    pub(crate) dropped_turns: u32,
    pub(crate) first_token_ms: u64,
    pub(crate) total_ms: u64,
}

/// What happened to a person's conversations, or to the model.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind")]
pub(crate) enum Event {
    /// A person's message, or the empty answer that begins to stream.
    #[serde(rename = "message.created")]
    MessageCreated {
        #[schema(value_type = uuid::Uuid)]
        conversation: ConversationId,
        message: Message,
    },
    /// The next piece of an answer.
    #[serde(rename = "answer.delta")]
    AnswerDelta {
        #[schema(value_type = uuid::Uuid)]
        conversation: ConversationId,
        #[schema(value_type = uuid::Uuid)]
        message: MessageId,
        /// Which part it belongs to.
        part: u32,
        /// Counts the deltas of this message from 0.
        index: u64,
        text: String,
        /// Whether the part is what the model thinks, not what it says.
        thinking: bool,
    },
    /// The answer ended; its text replaces what was gathered.
    #[serde(rename = "answer.done")]
    AnswerDone {
        #[schema(value_type = uuid::Uuid)]
        conversation: ConversationId,
        message: Message,
        stats: AnswerStats,
    },
    /// A new conversation.
    #[serde(rename = "conversation.created")]
    ConversationCreated { conversation: Conversation },
    /// A title, the active leaf or the time changed.
    #[serde(rename = "conversation.updated")]
    ConversationUpdated { conversation: Conversation },
    /// Gone.
    #[serde(rename = "conversation.deleted")]
    ConversationDeleted {
        #[schema(value_type = uuid::Uuid)]
        conversation: ConversationId,
    },
    /// The model process starts, is ready, or failed and why.
    #[serde(rename = "model.state")]
    ModelState { state: super::model::ModelState },
    /// The answer waits for the model; 0 means it is next.
    #[serde(rename = "queue")]
    Queue {
        #[schema(value_type = uuid::Uuid)]
        conversation: ConversationId,
        #[schema(value_type = uuid::Uuid)]
        message: MessageId,
        position: u32,
    },
}

impl MessageError {
    pub(crate) fn internal() -> Self {
        Self {
            code: Code::Internal.as_str().to_owned(),
            title: Code::Internal.title().to_owned(),
            detail: None,
            what_to_do: None,
        }
    }
}
