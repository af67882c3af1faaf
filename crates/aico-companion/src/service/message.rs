//! What a person says, and the answer that it gets.

use std::sync::Arc;

use aico_bus::Trace;
use aico_contracts::ids::{ConversationId, MessageId, PersonId};
use aico_contracts::v1::{self, Fault, Role};
use aico_store::Store;

use super::exchange::{Begun, Exchange, Parent, Said};
use super::{Asked, Inner, Reply, conversation_id, message_id};
use crate::answer::Answer;
use crate::character::Persona;
use crate::characters::Kept;
use crate::fault::{caller, from_store, unknown};
use crate::live::LiveAnswer;
use crate::{LONGEST_MESSAGE, character, greeting, messages, recent, thread};

impl Inner {
    pub(super) async fn send(
        self: Arc<Self>,
        asked: Asked<v1::SendMessage>,
    ) -> Reply<v1::Accepted> {
        let v1::SendMessage {
            conversation,
            text,
            id,
            parent,
        } = &asked.message;
        let conversation = conversation_id(conversation)?;
        let text = checked_text(text)?;
        let id = if id.is_empty() {
            MessageId::new()
        } else {
            message_id(id)?
        };
        if let Some(accepted) = repeated(&asked.store, conversation, id).await? {
            return Ok(accepted);
        }
        let parent = if parent.is_empty() {
            Parent::ActiveLeaf
        } else {
            Parent::Is(Some(message_id(parent)?))
        };
        let said = Said { id, text, parent };
        self.answer(asked, conversation, id, Some(said), How::default())
            .await
    }

    pub(super) async fn edit(
        self: Arc<Self>,
        asked: Asked<v1::EditMessage>,
    ) -> Reply<v1::Accepted> {
        let v1::EditMessage {
            conversation,
            message,
            text,
            id,
        } = &asked.message;
        let conversation = conversation_id(conversation)?;
        let (message, text) = (message_id(message)?, checked_text(text)?);
        let id = if id.is_empty() {
            MessageId::new()
        } else {
            message_id(id)?
        };
        if let Some(accepted) = repeated(&asked.store, conversation, id).await? {
            return Ok(accepted);
        }
        let old = asked
            .store
            .read(move |db| messages::get(db, conversation, message))
            .await;
        let old = old.map_err(from_store)?;
        if old.role() != Role::User {
            return Err(Fault::invalid("Only one's own message can be worded anew"));
        }
        let parent = Parent::Is(MessageId::from_slice(&old.parent).ok());
        let said = Said { id, text, parent };
        self.answer(asked, conversation, id, Some(said), How::default())
            .await
    }

    pub(super) async fn regenerate(
        self: Arc<Self>,
        asked: Asked<v1::RegenerateAnswer>,
    ) -> Reply<v1::Accepted> {
        let v1::RegenerateAnswer {
            conversation,
            answer,
        } = &asked.message;
        let conversation = conversation_id(conversation)?;
        let answer = message_id(answer)?;
        let old = asked
            .store
            .read(move |db| messages::get(db, conversation, answer))
            .await;
        let old = old.map_err(from_store)?;
        let question = MessageId::from_slice(&old.parent).ok();
        match question {
            Some(question) if old.role() == Role::Assistant => {
                self.answer(asked, conversation, question, None, How::default())
                    .await
            }
            _ => Err(Fault::invalid("Only an answer can be given anew")),
        }
    }

    /// Stores the person's message (when there is a new one) and the answer that begins. Then the
    /// answer streams on its own.
    pub(super) async fn answer<Q>(
        self: Arc<Self>,
        asked: Asked<Q>,
        conversation: ConversationId,
        question: MessageId,
        said: Option<Said>,
        how: How,
    ) -> Reply<v1::Accepted> {
        let Asked {
            person,
            store,
            meta,
            ..
        } = asked;
        let id = MessageId::new();
        let live = self
            .live
            .begin(LiveAnswer::new(person, conversation, id))
            .ok_or_else(|| {
                Fault::new(
                    "answer-in-progress",
                    "An answer is being written in this conversation",
                )
                .with_what_to_do("Stop it first, or wait for its end.")
            })?;
        let memory = self.home.working_of(person).await.ok();
        let recent = match &memory {
            Some(memory) => recent::load(memory, conversation).await,
            None => None,
        };
        let exchange = Exchange {
            conversation,
            question,
            said,
            answer: id,
            device: meta.origin_device.clone(),
            history: self.history,
        };
        let stored = store.write(move |tx| exchange.store(tx, recent.as_ref()));
        let Begun {
            kept,
            path,
            from_memory,
        } = stored.await.map_err(|error| {
            self.live.end(id);
            from_store(error)
        })?;
        tracing::debug!(
            remembered = from_memory,
            messages = path.len(),
            "what was said before"
        );
        self.publish_outbox(&store, person).await;
        let answer = Answer {
            bus: self.bus.clone(),
            store,
            live,
            all: Arc::clone(&self.live),
            persona: self
                .persona(person, conversation, kept, &path, how.instructions)
                .await,
            how: how.sampling,
            thread: how.thread,
            turns: messages::turns(&path),
            memory,
            history: self.history,
            meta,
            stop: self.stop.clone(),
            outbox: self.outbox(person),
            tasks: self.tasks.clone(),
        };
        let inner = Arc::clone(&self);
        let trace = Trace::current().unwrap_or_else(Trace::new);
        self.tasks.spawn(trace.scope(async move {
            answer.run().await;
            inner.live.end(id);
        }));
        Ok(v1::Accepted {
            message: question.to_vec(),
            answer: id.to_vec(),
        })
    }

    /// Who answers, after what was said on this path.
    async fn persona(
        &self,
        person: PersonId,
        conversation: ConversationId,
        kept: Kept,
        path: &[v1::Message],
        instructions: String,
    ) -> Persona {
        let user = match greeting::names_the_person(&kept.character) {
            true => self.name_of(person).await,
            false => String::new(),
        };
        Persona {
            is_default: kept.id == character::DEFAULT,
            user,
            seed: greeting::seed(conversation),
            greeting: greeting::of(path, self.history),
            instructions,
            character: kept.character,
        }
    }

    pub(super) async fn cancel(
        self: Arc<Self>,
        asked: Asked<v1::CancelAnswer>,
    ) -> Reply<v1::Empty> {
        let id = message_id(&asked.message.answer)?;
        if let Some(live) = self.live.get(asked.person, id) {
            live.cancel.cancel();
            return Ok(v1::Empty {});
        }
        // An answer that has ended already is as stopped as it can be.
        let found = asked
            .store
            .read(move |db| messages::find(db, id))
            .await
            .map_err(from_store)?;
        found.map(|_| v1::Empty {}).ok_or_else(unknown)
    }
}

/// What an answer is given differently for one program.
#[derive(Default)]
pub(super) struct How {
    /// Added to the character's prompt.
    pub(super) instructions: String,
    pub(super) sampling: Option<v1::TalkSampling>,
    /// The key of all that was said up to the question.
    pub(super) thread: Option<thread::Key>,
}

/// A client that repeats a message (its connection broke before the answer came) gets the same
/// answer as the first time.
async fn repeated(
    store: &Store,
    conversation: ConversationId,
    id: MessageId,
) -> Reply<Option<v1::Accepted>> {
    let found = store
        .read(move |db| {
            let Some(message) = messages::find(db, id)? else {
                return Ok(None);
            };
            if message.conversation != conversation.as_bytes() || message.role() != Role::User {
                return Err(caller(Fault::conflict(
                    "There is a message with this id already",
                )));
            }
            let answer = messages::first_answer(db, id)?;
            Ok(Some(v1::Accepted {
                message: message.id,
                answer: answer.unwrap_or_default(),
            }))
        })
        .await;
    found.map_err(from_store)
}

/// Text as it will be stored: not blank, bounded, without NUL (which ends a text for many
/// programs that will read an export).
pub(super) fn checked_text(text: &str) -> Reply<String> {
    if text.len() > LONGEST_MESSAGE {
        return Err(
            Fault::too_long("This message is too long").with_detail(format!(
                "It has {} KiB; the longest that can be sent has {} KiB.",
                text.len().div_ceil(1024),
                LONGEST_MESSAGE / 1024
            )),
        );
    }
    let text: String = text.chars().filter(|c| *c != '\0').collect();
    if text.trim().is_empty() {
        return Err(Fault::invalid("A message needs at least one character"));
    }
    Ok(text)
}
