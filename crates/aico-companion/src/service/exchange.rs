//! What a person said and the answer to it, on their way into the store.

use aico_contracts::ids::{ConversationId, MessageId};
use aico_contracts::topics::event;
use aico_contracts::v1::{self, Fault, MessageStatus, Role};
use aico_store::StoreError;
use rusqlite::Transaction;

use crate::characters::Kept;
use crate::fault::caller;
use crate::messages::NewMessage;
use crate::outbox::put;
use crate::recent::{self, Recent, Stamp};
use crate::{character, characters, conversations, messages};

/// A question and the answer that begins.
pub(super) struct Exchange {
    pub(super) conversation: ConversationId,
    pub(super) question: MessageId,
    /// The question, when it is a new one.
    pub(super) said: Option<Said>,
    pub(super) answer: MessageId,
    /// From which the person asks.
    pub(super) device: String,
    /// Messages that the model is told of, at most; one or more.
    pub(super) history: u32,
}

/// What the answer goes by.
pub(super) struct Begun {
    /// Who answers.
    pub(super) kept: Kept,
    /// What was said up to the question, oldest first.
    pub(super) path: Vec<v1::Message>,
    /// It was remembered, and not read.
    pub(super) from_memory: bool,
}

impl Exchange {
    /// In one transaction: the person's message, the beginning answer, and the events of both.
    /// `recent` is what is remembered of the conversation.
    pub(super) fn store(
        &self,
        tx: &Transaction<'_>,
        recent: Option<&Recent>,
    ) -> Result<Begun, StoreError> {
        let about = conversations::get(tx, self.conversation)?;
        // Before anything is changed here.
        let now = recent::stamp(tx, self.conversation)?;
        let before = self.said.as_ref().and_then(|said| said.parent(&about));
        if let Some(said) = &self.said {
            said.store(tx, self.conversation, before, &self.device)?;
            conversations::title_from(tx, self.conversation, &said.text)?;
        }
        let remembered = recent.and_then(|recent| self.remembered(recent, now, before));
        let from_memory = remembered.is_some();
        let path = match remembered {
            Some(path) => path,
            None => messages::history(tx, self.question, self.history)?,
        };
        let about = self.begin_answer(tx)?;
        // One that is gone (its row was restored from elsewhere, say) is the default one.
        let kept = match characters::find(tx, &about.character)? {
            Some(kept) => kept,
            None => characters::get(tx, character::DEFAULT)?,
        };
        Ok(Begun {
            kept,
            path,
            from_memory,
        })
    }

    /// What was said up to the question, when all of that is remembered.
    fn remembered(
        &self,
        recent: &Recent,
        now: Option<Stamp>,
        before: Option<MessageId>,
    ) -> Option<Vec<v1::Message>> {
        match &self.said {
            Some(said) => {
                let before = recent.up_to(now, before, self.history - 1)?;
                Some(said.after(before))
            }
            None => {
                let path = recent.up_to(now, Some(self.question), self.history)?;
                Some(path.to_vec())
            }
        }
    }

    /// The conversation as it is with the answer.
    fn begin_answer(&self, tx: &Transaction<'_>) -> Result<v1::Conversation, StoreError> {
        let (conversation, answer) = (self.conversation, self.answer);
        messages::insert(
            tx,
            &NewMessage {
                id: answer,
                conversation,
                parent: Some(self.question),
                role: Role::Assistant,
                status: MessageStatus::Streaming,
                text: "",
                origin_device: "",
            },
        )?;
        conversations::set_leaf(tx, conversation, answer)?;
        conversations::touch(tx, conversation)?;
        for message in self.said.iter().map(|said| said.id).chain([answer]) {
            let message = Some(messages::get(tx, conversation, message)?);
            put(tx, event::MESSAGE_CREATED, &v1::MessageCreated { message })?;
        }
        let about = conversations::get(tx, conversation)?;
        let changed = v1::ConversationChanged {
            conversation: Some(about.clone()),
        };
        put(tx, event::CONVERSATION_UPDATED, &changed)?;
        Ok(about)
    }
}

/// What a person said, on its way into the store.
pub(super) struct Said {
    pub(super) id: MessageId,
    pub(super) text: String,
    pub(super) parent: Parent,
}

pub(super) enum Parent {
    ActiveLeaf,
    Is(Option<MessageId>),
}

impl Said {
    /// After which message it is said.
    fn parent(&self, about: &v1::Conversation) -> Option<MessageId> {
        match self.parent {
            Parent::ActiveLeaf => MessageId::from_slice(&about.active_leaf).ok(),
            Parent::Is(parent) => parent,
        }
    }

    /// What was said before, and this.
    fn after(&self, before: &[v1::Message]) -> Vec<v1::Message> {
        let mut path = before.to_vec();
        path.push(v1::Message {
            id: self.id.to_vec(),
            role: Role::User.into(),
            parts: vec![v1::Part {
                content: Some(v1::part::Content::Text(self.text.clone())),
            }],
            ..v1::Message::default()
        });
        path
    }

    fn store(
        &self,
        tx: &Transaction<'_>,
        conversation: ConversationId,
        parent: Option<MessageId>,
        device: &str,
    ) -> Result<(), StoreError> {
        if let Some(parent) = parent {
            messages::get(tx, conversation, parent)?;
        }
        if messages::find(tx, self.id)?.is_some() {
            return Err(caller(Fault::conflict(
                "There is a message with this id already",
            )));
        }
        messages::insert(
            tx,
            &NewMessage {
                id: self.id,
                conversation,
                parent,
                role: Role::User,
                status: MessageStatus::Complete,
                text: &self.text,
                origin_device: device,
            },
        )
    }
}
