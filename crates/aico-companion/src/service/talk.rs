//! `request.talk`: a program that keeps the conversation itself.

use std::sync::Arc;

use aico_contracts::ids::{ConversationId, MessageId};
use aico_contracts::topics::event;
use aico_contracts::v1::{self, Fault, MessageStatus, Role};
use aico_store::StoreError;
use rusqlite::Transaction;

use super::exchange::{Parent, Said};
use super::message::{How, checked_text};
use super::{Asked, Inner, Reply};
use crate::answer::By;
use crate::fault::from_store;
use crate::messages::NewMessage;
use crate::outbox::put;
use crate::{conversations, messages, thread};

/// Turns that a program may tell; more than a model is ever told of.
const MOST_TURNS: usize = 2000;
/// Bytes of what a program adds to the character's prompt.
const LONGEST_INSTRUCTIONS: usize = 64 * 1024;

impl Inner {
    pub(super) async fn talk(self: Arc<Self>, mut asked: Asked<v1::Talk>) -> Reply<v1::Talking> {
        let v1::Talk {
            earlier,
            text,
            instructions,
            sampling,
        } = std::mem::take(&mut asked.message);
        // What it says is told how much of it is in memory: of itself alone.
        asked.meta.purpose = "program".into();
        let text = checked_text(&text)?;
        let earlier = checked_turns(earlier)?;
        if instructions.len() > LONGEST_INSTRUCTIONS {
            return Err(Fault::too_long("These instructions are too long"));
        }
        let keys = thread::keys(&earlier);
        let before = *keys.last().unwrap_or(&thread::BEGINNING);
        let device = asked.meta.origin_device.clone();
        let (conversation, parent) = asked
            .store
            .write(move |tx| place(tx, &earlier, &keys, &device))
            .await
            .map_err(from_store)?;
        let id = MessageId::new();
        let how = How {
            instructions,
            sampling,
            thread: Some(thread::after(&before, Role::User, &text)),
        };
        let said = Said {
            id,
            text,
            parent: Parent::Is(parent),
        };
        let accepted = self
            .answer(asked, conversation, id, Some(said), how)
            .await?;
        Ok(v1::Talking {
            conversation: conversation.to_vec(),
            message: accepted.message,
            answer: accepted.answer,
        })
    }
}

/// What was said before: not blank, bounded, alternating or not as the program tells it.
fn checked_turns(earlier: Vec<v1::Said>) -> Reply<Vec<v1::Said>> {
    if earlier.len() > MOST_TURNS {
        return Err(
            Fault::too_long("This conversation is too long").with_detail(format!(
                "It has {} messages; at most {MOST_TURNS} are taken.",
                earlier.len()
            )),
        );
    }
    let mut checked = Vec::with_capacity(earlier.len());
    for turn in earlier {
        // An answer that was stopped before its first word.
        if turn.text.trim().is_empty() {
            continue;
        }
        checked.push(v1::Said {
            role: turn.role,
            text: checked_text(&turn.text)?,
        });
    }
    Ok(checked)
}

/// Finds the conversation and the message after which it goes on; stores what is new before it.
fn place(
    tx: &Transaction<'_>,
    earlier: &[v1::Said],
    keys: &[thread::Key],
    device: &str,
) -> Result<(ConversationId, Option<MessageId>), StoreError> {
    let mut known = None;
    for index in (0..earlier.len()).rev() {
        if earlier[index].role() == Role::Assistant
            && let Some((conversation, message)) = thread::find(tx, &keys[index])?
        {
            known = Some((index + 1, conversation, Some(message)));
            break;
        }
    }
    let (from, conversation, mut parent) = match known {
        Some(known) => known,
        None => (0, begin(tx)?, None),
    };
    for (turn, key) in earlier[from..].iter().zip(&keys[from..]) {
        let id = MessageId::new();
        let new = NewMessage {
            id,
            conversation,
            parent,
            role: turn.role(),
            status: MessageStatus::Complete,
            text: &turn.text,
            origin_device: device,
        };
        messages::insert(tx, &new)?;
        match turn.role() {
            Role::Assistant => {
                let said = v1::part::Content::Text(turn.text.clone());
                let status = MessageStatus::Complete;
                messages::finish(tx, conversation, id, status, &[said], &By::default(), None)?;
                thread::note(tx, key, id)?;
            }
            Role::User | Role::Unspecified => {
                conversations::title_from(tx, conversation, &turn.text)?;
            }
        }
        conversations::set_leaf(tx, conversation, id)?;
        let message = Some(messages::get(tx, conversation, id)?);
        put(tx, event::MESSAGE_CREATED, &v1::MessageCreated { message })?;
        parent = Some(id);
    }
    Ok((conversation, parent))
}

fn begin(tx: &Transaction<'_>) -> Result<ConversationId, StoreError> {
    let (created, _) = conversations::create(tx, "", "")?;
    let id = ConversationId::from_slice(&created.id)
        .map_err(|_| crate::fault::caller(crate::fault::unknown()))?;
    let changed = v1::ConversationChanged {
        conversation: Some(created),
    };
    put(tx, event::CONVERSATION_CREATED, &changed)?;
    Ok(id)
}
