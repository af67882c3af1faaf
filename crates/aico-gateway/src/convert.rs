//! From the messages of the bus to the JSON of the API, in one place.
//!
//! A module that sends something that can't be told (an id of the wrong length, an unknown
//! status) has a defect: the caller gets an error, never a guess.

pub(crate) mod activity;
pub(crate) mod engines;
pub(crate) mod installations;
pub(crate) mod pulls;
pub(crate) mod shelves;
pub(crate) mod transformers;

use aico_bus::decode;
use aico_contracts::ids::{ConversationId, IdError, MessageId, ModelId};
use aico_contracts::topics::event as kind;
use aico_contracts::v1::{self, Envelope, Fault};
use jiff::Timestamp;

use crate::api::conversation::{
    Accepted, AnswerStats, Conversation, ConversationDetail, ConversationPage, Event, Message,
    MessageError, MessageStatus, Part, Role, SearchHit, Snippet,
};
use crate::api::model::{Model, ModelList, ModelState, ModelStatus};
use crate::problem::{Code, Problem};

/// What a module sent can't be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untold {
    #[error("an id is malformed")]
    Id(#[from] IdError),
    #[error("a time is out of range")]
    Time,
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} has an unknown value")]
    Unknown(&'static str),
    #[error("an event can't be read")]
    Payload(#[source] Fault),
    #[error("an event of an unknown kind")]
    Kind,
}

impl From<Untold> for Problem {
    fn from(error: Untold) -> Self {
        tracing::error!(%error, "a module answered with something that can't be told");
        Code::Internal.into()
    }
}

pub(crate) type Told<T> = Result<T, Untold>;

pub(crate) fn time(unix_ms: u64) -> Told<Timestamp> {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .ok_or(Untold::Time)
}

pub(crate) fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// An id that may be absent: no bytes.
fn maybe<T>(bytes: &[u8], parse: impl Fn(&[u8]) -> Result<T, IdError>) -> Told<Option<T>> {
    if bytes.is_empty() {
        Ok(None)
    } else {
        Ok(Some(parse(bytes)?))
    }
}

fn ids(all: &[Vec<u8>]) -> Told<Vec<MessageId>> {
    all.iter()
        .map(|id| Ok(MessageId::from_slice(id)?))
        .collect()
}

pub(crate) fn conversation(from: v1::Conversation) -> Told<Conversation> {
    Ok(Conversation {
        id: ConversationId::from_slice(&from.id)?,
        title: from.title,
        character: from.character,
        created_at: time(from.created_unix_ms)?,
        updated_at: time(from.updated_unix_ms)?,
        active_leaf: maybe(&from.active_leaf, MessageId::from_slice)?,
    })
}

pub(crate) fn conversation_page(from: v1::ConversationList) -> Told<ConversationPage> {
    Ok(ConversationPage {
        items: from
            .items
            .into_iter()
            .map(conversation)
            .collect::<Told<_>>()?,
        next: text(from.next),
    })
}

pub(crate) fn conversation_detail(from: v1::ConversationDetail) -> Told<ConversationDetail> {
    Ok(ConversationDetail {
        conversation: conversation(from.conversation.ok_or(Untold::Missing("conversation"))?)?,
        messages: from
            .messages
            .into_iter()
            .map(message)
            .collect::<Told<_>>()?,
    })
}

pub(crate) fn message(from: v1::Message) -> Told<Message> {
    let status = match from.status() {
        v1::MessageStatus::Complete => MessageStatus::Complete,
        v1::MessageStatus::Streaming => MessageStatus::Streaming,
        v1::MessageStatus::Cancelled => MessageStatus::Cancelled,
        v1::MessageStatus::Interrupted => MessageStatus::Interrupted,
        v1::MessageStatus::Failed => MessageStatus::Failed,
        v1::MessageStatus::Unspecified => return Err(Untold::Unknown("a message's status")),
    };
    let role = match from.role() {
        v1::Role::User => Role::User,
        v1::Role::Assistant => Role::Assistant,
        v1::Role::Unspecified => return Err(Untold::Unknown("a message's role")),
    };
    let error = match from.fault {
        Some(fault) => Some(message_error(fault)),
        None if status == MessageStatus::Failed => Some(MessageError::internal()),
        None => None,
    };
    Ok(Message {
        id: MessageId::from_slice(&from.id)?,
        conversation: ConversationId::from_slice(&from.conversation)?,
        parent: maybe(&from.parent, MessageId::from_slice)?,
        role,
        parts: from.parts.into_iter().filter_map(part).collect(),
        status,
        created_at: time(from.created_unix_ms)?,
        model: text(from.model),
        instead_of: text(from.instead_of),
        siblings: ids(&from.siblings)?,
        next_index: (status == MessageStatus::Streaming).then_some(from.next_index),
        error,
    })
}

/// Parts of kinds that this version does not know are left out, as the contract allows.
fn part(from: v1::Part) -> Option<Part> {
    match from.content? {
        v1::part::Content::Text(text) => Some(Part::Text { text }),
        v1::part::Content::Thinking(text) => Some(Part::Thinking { text }),
    }
}

fn message_error(from: Fault) -> MessageError {
    MessageError {
        code: from.code,
        title: from.title,
        detail: text(from.detail),
        what_to_do: text(from.what_to_do),
    }
}

pub(crate) fn accepted(from: v1::Accepted) -> Told<Accepted> {
    Ok(Accepted {
        message: MessageId::from_slice(&from.message)?,
        answer: MessageId::from_slice(&from.answer)?,
    })
}

pub(crate) fn search(from: v1::SearchResult) -> Told<Vec<SearchHit>> {
    from.items.into_iter().map(hit).collect()
}

fn hit(from: v1::SearchHit) -> Told<SearchHit> {
    Ok(SearchHit {
        conversation: ConversationId::from_slice(&from.conversation)?,
        title: from.title,
        message: maybe(&from.message, MessageId::from_slice)?,
        snippet: from
            .snippet
            .into_iter()
            .map(|piece| Snippet {
                text: piece.text,
                hit: piece.hit,
            })
            .collect(),
        at: time(from.at_unix_ms)?,
    })
}

pub(crate) fn model(from: v1::Model) -> Told<Model> {
    Ok(Model {
        id: ModelId::from_slice(&from.id)?,
        name: from.name,
        file: from.file,
        size_bytes: from.size_bytes,
        architecture: from.architecture,
        parameters: from.parameters,
        quantization: from.quantization,
        context_length: from.context_length,
        license: text(from.license),
        starter: from.starter,
        active: from.active,
        present: from.present,
        engine: text(from.engine),
        capabilities: from.capabilities,
        pinned: from.pinned,
        loaded: from.loaded,
        adapter: from.adapter,
    })
}

pub(crate) fn model_list(from: v1::ModelList) -> Told<ModelList> {
    Ok(ModelList {
        items: from.items.into_iter().map(model).collect::<Told<_>>()?,
        state: model_state(from.state.unwrap_or_default())?,
    })
}

fn status(from: v1::model_state::Status) -> ModelStatus {
    use v1::model_state::Status;
    match from {
        // Nothing was said yet.
        Status::Unspecified | Status::Stopped => ModelStatus::Stopped,
        Status::Starting => ModelStatus::Starting,
        Status::Ready => ModelStatus::Ready,
        Status::Failed => ModelStatus::Failed,
    }
}

pub(crate) fn model_state(from: v1::ModelState) -> Told<ModelState> {
    let status = status(from.status());
    let (why, what_to_do) = match from.fault {
        None => (None, None),
        Some(fault) if fault.detail.is_empty() => (text(fault.title), text(fault.what_to_do)),
        Some(fault) => (
            Some(format!("{}: {}", fault.title, fault.detail)),
            text(fault.what_to_do),
        ),
    };
    Ok(ModelState {
        status,
        model: maybe(&from.model, ModelId::from_slice)?,
        name: text(from.name),
        loading_percent: from.loading_percent,
        why,
        what_to_do,
    })
}

fn stats(from: Option<v1::AnswerStats>) -> AnswerStats {
    let from = from.unwrap_or_default();
    AnswerStats {
        prompt_tokens: from.prompt_tokens,
        cached_tokens: from.cached_tokens,
        answer_tokens: from.answer_tokens,
        dropped_turns: from.dropped_turns,
        first_token_ms: from.first_token_ms,
        total_ms: from.total_ms,
    }
}

/// An event of a person's stream, from its envelope.
pub(crate) fn event(envelope: &Envelope) -> Told<Event> {
    let whole = |message: Option<v1::Message>| {
        self::message(message.ok_or(Untold::Missing("an event's message"))?)
    };
    let changed = |envelope: &Envelope| {
        let changed: v1::ConversationChanged = decode(envelope).map_err(Untold::Payload)?;
        conversation(
            changed
                .conversation
                .ok_or(Untold::Missing("an event's conversation"))?,
        )
    };
    match envelope.topic.rsplit('.').next().unwrap_or_default() {
        kind::MESSAGE_CREATED => {
            let from: v1::MessageCreated = decode(envelope).map_err(Untold::Payload)?;
            let message = whole(from.message)?;
            Ok(Event::MessageCreated {
                conversation: message.conversation,
                message,
            })
        }
        kind::ANSWER_DELTA => {
            let from: v1::AnswerDelta = decode(envelope).map_err(Untold::Payload)?;
            Ok(Event::AnswerDelta {
                conversation: ConversationId::from_slice(&from.conversation)?,
                message: MessageId::from_slice(&from.message)?,
                part: from.part,
                index: from.index,
                text: from.text,
                thinking: from.thinking,
            })
        }
        kind::ANSWER_DONE => {
            let from: v1::AnswerDone = decode(envelope).map_err(Untold::Payload)?;
            let message = whole(from.message)?;
            let stats = stats(from.stats);
            Ok(Event::AnswerDone {
                conversation: message.conversation,
                message,
                stats,
            })
        }
        kind::CONVERSATION_CREATED => Ok(Event::ConversationCreated {
            conversation: changed(envelope)?,
        }),
        kind::CONVERSATION_UPDATED => Ok(Event::ConversationUpdated {
            conversation: changed(envelope)?,
        }),
        kind::CONVERSATION_DELETED => {
            let from: v1::ConversationDeleted = decode(envelope).map_err(Untold::Payload)?;
            Ok(Event::ConversationDeleted {
                conversation: ConversationId::from_slice(&from.id)?,
            })
        }
        kind::QUEUE => {
            let from: v1::AnswerQueued = decode(envelope).map_err(Untold::Payload)?;
            Ok(Event::Queue {
                conversation: ConversationId::from_slice(&from.conversation)?,
                message: MessageId::from_slice(&from.message)?,
                position: from.position,
            })
        }
        "state" if envelope.topic == aico_contracts::topics::MODELS_STATE => {
            let from: v1::ModelState = decode(envelope).map_err(Untold::Payload)?;
            Ok(Event::ModelState {
                state: model_state(from)?,
            })
        }
        _ => Err(Untold::Kind),
    }
}
