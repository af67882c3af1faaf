//! Conversations: listed, begun, read, changed, deleted, searched.

use std::sync::Arc;

use aico_contracts::ids::{MessageId, PersonId};
use aico_contracts::topics::event;
use aico_contracts::v1::{self, MessageStatus};

use super::{Asked, Inner, Reply, conversation_id, message_id};
use crate::fault::{from_home, from_store};
use crate::outbox::put;
use crate::{conversations, greeting, messages, model, recent, search};

/// How often the store is read anew for an answer that has just ended. Each time another one would
/// have to begin and end in between.
const STREAMING_TRIES: u32 = 3;

impl Inner {
    pub(super) async fn list(
        self: Arc<Self>,
        asked: Asked<v1::ListConversations>,
    ) -> Reply<v1::ConversationList> {
        let v1::ListConversations { limit, before } = asked.message;
        let list = asked
            .store
            .read(move |db| conversations::list(db, limit, &before))
            .await;
        list.map_err(from_store)
    }

    pub(super) async fn create(
        self: Arc<Self>,
        asked: Asked<v1::CreateConversation>,
    ) -> Reply<v1::Conversation> {
        let v1::CreateConversation { title, character } = asked.message;
        let user = self.name_of(asked.person).await;
        let created = asked
            .store
            .write(move |tx| {
                let (created, kept) = conversations::create(tx, &title, &character)?;
                let created = greeting::begin(tx, created, &kept, &user)?;
                Ok(created)
            })
            .await
            .map_err(from_store)?;
        self.publish_outbox(&asked.store, asked.person).await;
        Ok(created)
    }

    pub(super) async fn get(
        self: Arc<Self>,
        asked: Asked<v1::GetConversation>,
    ) -> Reply<v1::ConversationDetail> {
        let id = conversation_id(&asked.message.id)?;
        let mut tries = 0;
        loop {
            let mut detail = asked
                .store
                .read(move |db| {
                    let conversation = conversations::get(db, id)?;
                    let messages = match MessageId::from_slice(&conversation.active_leaf) {
                        Ok(leaf) => messages::path(db, leaf)?,
                        Err(_) => Vec::new(),
                    };
                    Ok(v1::ConversationDetail {
                        conversation: Some(conversation),
                        messages,
                    })
                })
                .await
                .map_err(from_store)?;
            let ended = self.fill_live(asked.person, &mut detail.messages);
            // It ended between the read and now: what the store says next is the end. When it
            // still says nothing, nobody will finish it: its end could not be stored.
            if !ended || tries == STREAMING_TRIES {
                return Ok(detail);
            }
            tries += 1;
        }
    }

    /// Puts what streams now, and ends that wait to be stored, over what the store says. Tells
    /// whether an answer has no end there though it no longer streams; it is told as interrupted.
    fn fill_live(&self, person: PersonId, messages: &mut [v1::Message]) -> bool {
        let mut ended = false;
        for message in messages {
            if message.status() != MessageStatus::Streaming {
                continue;
            }
            let live = message_id(&message.id)
                .ok()
                .and_then(|id| self.live.get(person, id));
            let Some(live) = live else {
                message.set_status(MessageStatus::Interrupted);
                ended = true;
                continue;
            };
            if let Some(end) = live.unstored() {
                message.status = end.status;
                message.parts.clone_from(&end.parts);
                message.fault.clone_from(&end.fault);
                continue;
            }
            let (parts, next_index) = live.so_far();
            let parts = parts.into_iter().map(|p| v1::Part { content: Some(p) });
            message.parts = parts.collect();
            message.next_index = next_index;
        }
        ended
    }

    pub(super) async fn update(
        self: Arc<Self>,
        asked: Asked<v1::UpdateConversation>,
    ) -> Reply<v1::Conversation> {
        let v1::UpdateConversation {
            id,
            title,
            active_leaf,
            character,
        } = asked.message;
        let id = conversation_id(&id)?;
        let leaf = active_leaf.as_deref().map(message_id).transpose()?;
        let changed = asked
            .store
            .write(move |tx| {
                let changed =
                    conversations::update(tx, id, title.as_deref(), leaf, character.as_deref())?;
                let event = v1::ConversationChanged {
                    conversation: Some(changed.clone()),
                };
                put(tx, event::CONVERSATION_UPDATED, &event)?;
                Ok(changed)
            })
            .await
            .map_err(from_store)?;
        self.publish_outbox(&asked.store, asked.person).await;
        Ok(changed)
    }

    pub(super) async fn delete(
        self: Arc<Self>,
        asked: Asked<v1::DeleteConversation>,
    ) -> Reply<v1::Empty> {
        let id = conversation_id(&asked.message.id)?;
        asked
            .store
            .write(move |tx| {
                conversations::delete(tx, id)?;
                put(
                    tx,
                    event::CONVERSATION_DELETED,
                    &v1::ConversationDeleted { id: id.to_vec() },
                )
            })
            .await
            .map_err(from_store)?;
        if let Some(answer) = self.live.in_conversation(asked.person, id) {
            answer.cancel.cancel();
        }
        model::discard(&self.bus, asked.person, id.as_bytes()).await;
        if let Ok(memory) = self.home.working_of(asked.person).await {
            recent::forget(&memory, id).await;
        }
        self.publish_outbox(&asked.store, asked.person).await;
        Ok(v1::Empty {})
    }

    pub(super) async fn search(
        self: Arc<Self>,
        asked: Asked<v1::Search>,
    ) -> Reply<v1::SearchResult> {
        let v1::Search { query, limit } = asked.message;
        let found = asked
            .store
            .read(move |db| search::find(db, &query, limit))
            .await;
        found.map_err(from_store)
    }

    /// Who of the person's sessions is there.
    pub(super) async fn presence(
        self: Arc<Self>,
        asked: Asked<v1::GetPresence>,
    ) -> Reply<v1::PresenceList> {
        let all = self.home.presence_of(asked.person).await;
        let ms = |time: jiff::Timestamp| u64::try_from(time.as_millisecond()).unwrap_or(0);
        let items = all.map_err(from_home)?.into_iter().map(|one| v1::Presence {
            session: one.session.map(|id| id.to_vec()).unwrap_or_default(),
            connected_since_unix_ms: one.since.map_or(0, ms),
            seen_unix_ms: ms(one.seen),
        });
        Ok(v1::PresenceList {
            items: items.collect(),
        })
    }
}
