//! What a character opens a conversation with: its first message, and others to choose from as
//! branches beside it.

use aico_characters::{Character, Names, expand};
use aico_contracts::ids::{ConversationId, MessageId};
use aico_contracts::topics::event;
use aico_contracts::v1::{self, MessageStatus, Role, part::Content};
use aico_store::StoreError;
use rusqlite::Transaction;

use crate::answer::By;
use crate::characters::Kept;
use crate::fault::{caller, unknown};
use crate::messages::{self, NewMessage};
use crate::outbox::put;
use crate::{character, conversations};

/// Most greetings that one can choose from.
const MOST: usize = 10;

/// Puts the greetings into a new conversation, and tells of both.
pub(crate) fn begin(
    tx: &Transaction<'_>,
    created: v1::Conversation,
    kept: &Kept,
    user: &str,
) -> Result<v1::Conversation, StoreError> {
    let conversation = ConversationId::from_slice(&created.id).map_err(|_| caller(unknown()))?;
    let names = Names {
        char: kept.character.called(),
        user,
        original: character::original(),
        seed: seed(conversation),
    };
    let mut said = Vec::new();
    for greeting in kept.character.greetings.iter().take(MOST) {
        let text = expand(greeting, &names);
        if text.trim().is_empty() {
            continue;
        }
        let id = MessageId::new();
        messages::insert(
            tx,
            &NewMessage {
                id,
                conversation,
                parent: None,
                role: Role::Assistant,
                status: MessageStatus::Complete,
                text: "",
                origin_device: "",
            },
        )?;
        let (status, parts) = (MessageStatus::Complete, [Content::Text(text)]);
        messages::finish(tx, conversation, id, status, &parts, &By::default(), None)?;
        said.push(id);
    }
    if let Some(first) = said.first() {
        conversations::set_leaf(tx, conversation, *first)?;
    }
    let created = conversations::get(tx, conversation)?;
    let changed = v1::ConversationChanged {
        conversation: Some(created.clone()),
    };
    put(tx, event::CONVERSATION_CREATED, &changed)?;
    for id in said {
        let message = Some(messages::get(tx, conversation, id)?);
        put(tx, event::MESSAGE_CREATED, &v1::MessageCreated { message })?;
    }
    Ok(created)
}

/// What it opened this branch with, when the whole branch is here.
pub(crate) fn of(path: &[v1::Message], history: u32) -> Option<String> {
    let first = path
        .first()
        .filter(|first| first.role() == Role::Assistant)?;
    // The oldest of a cut branch is an answer like any other.
    if path.len() >= usize::try_from(history).unwrap_or(usize::MAX) {
        return None;
    }
    let said = first
        .parts
        .iter()
        .filter_map(|part| part.content.as_ref().and_then(messages::spoken));
    Some(said.collect())
}

/// What is drawn for a character's texts stays the same in one conversation.
pub(crate) fn seed(conversation: ConversationId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *conversation.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Whether a text of its own says what the person is called.
pub(crate) fn names_the_person(character: &Character) -> bool {
    let names = |text: &str| {
        let text = text.to_ascii_lowercase();
        (text.contains("{{") && text.contains("user")) || text.contains("<user>")
    };
    [
        &character.system_prompt,
        &character.description,
        &character.personality,
        &character.scenario,
        &character.examples_text,
        &character.reminder,
    ]
    .into_iter()
    .chain(character.examples.iter().map(|turn| &turn.text))
    .any(|text| names(text))
}
