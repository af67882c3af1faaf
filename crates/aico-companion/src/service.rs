//! What the companion answers on the bus.

mod roles;
mod talk;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_access::Home;
use aico_bus::{BusError, Client, Meta, Request, Trace};
use aico_contracts::Payload;
use aico_contracts::ids::{ConversationId, MessageId, PersonId};
use aico_contracts::topics::{self, CONVERSATION_REQUESTS, event, verb};
use aico_contracts::v1::{self, Fault, MessageStatus, Role};
use aico_store::{Store, StoreError};
use rusqlite::Transaction;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Answer;
use crate::character::Persona;
use crate::fault::{caller, from_home, from_store, invalid_id, may_pass, unknown};
use crate::live::{Live, LiveAnswer};
use crate::messages::NewMessage;
use crate::outbox::{Outbox, put};
use crate::{
    LONGEST_MESSAGE, character, characters, conversations, greeting, messages, model, recent,
    search, thread,
};

/// Requests of all persons that are worked on at once.
const CONCURRENCY: usize = 64;
/// How often the store is read anew for an answer that has just ended. Each time another one would
/// have to begin and end in between.
const STREAMING_TRIES: u32 = 3;

/// The running companion. Lives from unlocking to locking.
pub struct Companion {
    inner: Arc<Inner>,
}

struct Inner {
    home: Home,
    bus: Client,
    history: u32,
    live: Arc<Live>,
    outboxes: parking_lot::Mutex<HashMap<PersonId, Arc<Outbox>>>,
    /// Persons whose unfinished answers of an earlier run were marked.
    recovered: tokio::sync::Mutex<HashSet<PersonId>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

type Reply<T> = Result<T, Fault>;

impl Companion {
    /// Begins to serve. The newest `history` messages of a conversation are what a model is told
    /// of it, at most.
    ///
    /// # Errors
    /// When the bus does not let it.
    pub fn start(home: Home, bus: Client, history: u32) -> Result<Self, BusError> {
        let inner = Arc::new(Inner {
            home,
            bus,
            history: history.max(1),
            live: Arc::default(),
            outboxes: parking_lot::Mutex::default(),
            recovered: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let mut requests = inner.bus.serve(CONVERSATION_REQUESTS, CONCURRENCY)?;
        let mut removed = inner
            .bus
            .subscribe(topics::SYSTEM_PERSON_REMOVED, aico_bus::Queue::default())?;
        let serving = Arc::clone(&inner);
        inner.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = serving.stop.cancelled() => break,
                    request = requests.recv() => {
                        let Some(request) = request else { break };
                        let inner = Arc::clone(&serving);
                        // Who asked over a link may have named none.
                        let trace = Trace::of(&request.envelope).unwrap_or_else(Trace::new);
                        let work = async move { inner.dispatch(request).await };
                        serving.tasks.spawn(trace.scope(work));
                    }
                    Some(delivery) = removed.recv() => serving.person_removed(&delivery),
                }
            }
        });
        Ok(Self { inner })
    }

    /// Takes no more requests, ends the answers that stream (kept as interrupted), and waits for
    /// them to be stored, at most this long.
    pub async fn stop(self, limit: Duration) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        if tokio::time::timeout(limit, self.inner.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("answers were still being stored when the time for stopping was over");
        }
    }
}

impl Inner {
    async fn dispatch(self: Arc<Self>, request: Request) {
        let Some(person) = topics::person_of(&request.envelope.topic) else {
            request.fault(Fault::invalid("The topic names no person"));
            return;
        };
        let verb = request
            .envelope
            .topic
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_owned();
        match verb.as_str() {
            verb::LIST => self.reply(request, person, Self::list).await,
            verb::CREATE => self.reply(request, person, Self::create).await,
            verb::GET => self.reply(request, person, Self::get).await,
            verb::UPDATE => self.reply(request, person, Self::update).await,
            verb::DELETE => self.reply(request, person, Self::delete).await,
            verb::SEND => self.reply(request, person, Self::send).await,
            verb::TALK => self.reply(request, person, Self::talk).await,
            verb::REGENERATE => self.reply(request, person, Self::regenerate).await,
            verb::EDIT => self.reply(request, person, Self::edit).await,
            verb::CANCEL => self.reply(request, person, Self::cancel).await,
            verb::SEARCH => self.reply(request, person, Self::search).await,
            verb::CHARACTERS => self.reply(request, person, Self::characters).await,
            verb::CHARACTER => self.reply(request, person, Self::character).await,
            verb::SAVE_CHARACTER => self.reply(request, person, Self::save_character).await,
            verb::IMPORT_CHARACTER => self.reply(request, person, Self::import_character).await,
            verb::EXPORT_CHARACTER => self.reply(request, person, Self::export_character).await,
            verb::REMOVE_CHARACTER => self.reply(request, person, Self::remove_character).await,
            verb::USE_CHARACTER => self.reply(request, person, Self::use_character).await,
            verb::PRESENCE => self.reply(request, person, Self::presence).await,
            _ => request.fault(Fault::invalid("The companion knows no such request")),
        }
    }

    /// Decodes, opens the person's store, works, answers.
    async fn reply<Q, R, F>(
        self: Arc<Self>,
        request: Request,
        person: PersonId,
        work: impl FnOnce(Arc<Self>, Asked<Q>) -> F,
    ) where
        Q: Payload,
        R: Payload,
        F: Future<Output = Reply<R>>,
    {
        let message = match request.decode::<Q>() {
            Ok(message) => message,
            Err(_) => return request.fault(Fault::invalid("The request can't be read")),
        };
        let store = match self.store(person).await {
            Ok(store) => store,
            Err(fault) => return request.fault(fault),
        };
        let envelope = &request.envelope;
        let mut meta = Meta::for_person(person)
            .purpose("conversation")
            .origin_device(envelope.origin_device.clone());
        meta.trace = Trace::current().map(Trace::to_bytes);
        meta.priority = v1::Priority::try_from(envelope.priority)
            .ok()
            .filter(|priority| *priority != v1::Priority::Unspecified);
        let begun = Instant::now();
        let outcome = work(
            self,
            Asked {
                person,
                store,
                message,
                meta,
            },
        )
        .await;
        tracing::debug!(
            kind = envelope.topic.rsplit('.').next().unwrap_or_default(),
            done = outcome.is_ok(),
            took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            "a request was dealt with"
        );
        match outcome {
            Ok(reply) => request.reply(reply),
            Err(fault) => request.fault(fault),
        }
    }

    async fn store(&self, person: PersonId) -> Reply<Store> {
        let store = self.home.store_of(person).await.map_err(from_home)?;
        let mut recovered = self.recovered.lock().await;
        if recovered.contains(&person) {
            return Ok(store);
        }
        match self.recover(&store, person).await {
            Ok(()) => recovered.insert(person),
            // Reading goes on while the disk is full; the next request tries again.
            Err(error) if may_pass(&error) => return Ok(store),
            Err(error) => return Err(from_store(error)),
        };
        drop(recovered);
        // What the last run stored but did not publish.
        self.publish_outbox(&store, person).await;
        Ok(store)
    }

    /// Marks the answers that the last run did not finish.
    async fn recover(&self, store: &Store, person: PersonId) -> Result<(), StoreError> {
        let mut orphans = store.read(messages::unfinished).await?;
        orphans.retain(|(_, id)| self.live.get(person, *id).is_none());
        let answers = orphans.len();
        if answers > 0 {
            store
                .write(move |tx| messages::mark_interrupted(tx, &orphans))
                .await?;
            tracing::info!(answers, "answers of the last run were cut off");
        }
        Ok(())
    }

    fn person_removed(&self, delivery: &aico_bus::Delivery) {
        let aico_bus::Delivery::Message(envelope) = delivery else {
            return;
        };
        let Ok(removed) = aico_bus::decode::<v1::PersonRemoved>(envelope) else {
            return;
        };
        let Ok(person) = PersonId::from_slice(&removed.person) else {
            return;
        };
        for answer in self.live.of_person(person) {
            answer.cancel.cancel();
        }
    }

    // ---- conversations ----------------------------------------------------------------------

    async fn list(
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

    async fn create(
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

    async fn get(
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

    async fn update(
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

    async fn delete(self: Arc<Self>, asked: Asked<v1::DeleteConversation>) -> Reply<v1::Empty> {
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

    async fn search(self: Arc<Self>, asked: Asked<v1::Search>) -> Reply<v1::SearchResult> {
        let v1::Search { query, limit } = asked.message;
        let found = asked
            .store
            .read(move |db| search::find(db, &query, limit))
            .await;
        found.map_err(from_store)
    }

    /// Who of the person's sessions is there.
    async fn presence(self: Arc<Self>, asked: Asked<v1::GetPresence>) -> Reply<v1::PresenceList> {
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

    // ---- messages ---------------------------------------------------------------------------

    async fn send(self: Arc<Self>, asked: Asked<v1::SendMessage>) -> Reply<v1::Accepted> {
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

    async fn edit(self: Arc<Self>, asked: Asked<v1::EditMessage>) -> Reply<v1::Accepted> {
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

    async fn regenerate(
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

    /// One transaction: the person's message (when there is a new one), the beginning answer, and
    /// the events of both. Then the answer streams on its own.
    async fn answer<Q>(
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
        let device = meta.origin_device.clone();
        let history = self.history;
        let memory = self.home.working_of(person).await.ok();
        let recent = match &memory {
            Some(memory) => recent::load(memory, conversation).await,
            None => None,
        };
        let stored = store
            .write(move |tx| {
                let about = conversations::get(tx, conversation)?;
                // Before anything is changed here.
                let now = recent::stamp(tx, conversation)?;
                let mut path = None;
                if let Some(said) = &said {
                    let before = said.parent(&about);
                    path = recent
                        .as_ref()
                        .and_then(|recent| recent.up_to(now, before, history - 1))
                        .map(|before| said.after(before));
                    said.store(tx, conversation, before, &device)?;
                    conversations::title_from(tx, conversation, &said.text)?;
                } else if let Some(recent) = &recent {
                    path = recent
                        .up_to(now, Some(question), history)
                        .map(<[v1::Message]>::to_vec);
                }
                let remembered = path.is_some();
                let path = match path {
                    Some(path) => path,
                    None => messages::history(tx, question, history)?,
                };
                messages::insert(
                    tx,
                    &NewMessage {
                        id,
                        conversation,
                        parent: Some(question),
                        role: Role::Assistant,
                        status: MessageStatus::Streaming,
                        text: "",
                        origin_device: "",
                    },
                )?;
                conversations::set_leaf(tx, conversation, id)?;
                conversations::touch(tx, conversation)?;
                for message in said.iter().map(|said| said.id).chain([id]) {
                    let message = Some(messages::get(tx, conversation, message)?);
                    put(tx, event::MESSAGE_CREATED, &v1::MessageCreated { message })?;
                }
                let about = conversations::get(tx, conversation)?;
                let changed = v1::ConversationChanged {
                    conversation: Some(about.clone()),
                };
                put(tx, event::CONVERSATION_UPDATED, &changed)?;
                // One that is gone (its row was restored from elsewhere, say) is the default one.
                let kept = match characters::find(tx, &about.character)? {
                    Some(kept) => kept,
                    None => characters::get(tx, character::DEFAULT)?,
                };
                Ok((kept, path, remembered))
            })
            .await;
        let (kept, path) = match stored {
            Ok((kept, path, remembered)) => {
                tracing::debug!(remembered, messages = path.len(), "what was said before");
                (kept, path)
            }
            Err(error) => {
                self.live.end(id);
                return Err(from_store(error));
            }
        };
        self.publish_outbox(&store, person).await;
        let mut persona = Persona {
            is_default: kept.id == character::DEFAULT,
            user: String::new(),
            seed: greeting::seed(conversation),
            greeting: greeting::of(&path, self.history),
            instructions: how.instructions,
            character: kept.character,
        };
        if greeting::names_the_person(&persona.character) {
            persona.user = self.name_of(person).await;
        }
        let turns = messages::turns(&path);
        let answer = Answer {
            bus: self.bus.clone(),
            store,
            live,
            all: Arc::clone(&self.live),
            persona,
            how: how.sampling,
            thread: how.thread,
            turns,
            memory,
            history,
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

    async fn cancel(self: Arc<Self>, asked: Asked<v1::CancelAnswer>) -> Reply<v1::Empty> {
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

    /// Publishes what lies in this person's outbox, in order.
    async fn publish_outbox(&self, store: &Store, person: PersonId) {
        let outbox = self.outbox(person);
        outbox.publish(&self.bus, &self.tasks, store, person).await;
    }

    /// What a person is called. Without it an answer still can be given.
    async fn name_of(&self, person: PersonId) -> String {
        match self.home.person(person).await {
            Ok(person) => person.name.as_str().to_owned(),
            Err(_) => "you".to_owned(),
        }
    }

    fn outbox(&self, person: PersonId) -> Arc<Outbox> {
        Arc::clone(self.outboxes.lock().entry(person).or_default())
    }
}

/// A request with what is needed to work on it.
struct Asked<Q> {
    person: PersonId,
    store: Store,
    message: Q,
    meta: Meta,
}

/// What an answer is given differently for one program.
#[derive(Default)]
struct How {
    /// Added to the character's prompt.
    instructions: String,
    sampling: Option<v1::TalkSampling>,
    /// The key of all that was said up to the question.
    thread: Option<thread::Key>,
}

/// What a person said, on its way into the store.
struct Said {
    id: MessageId,
    text: String,
    parent: Parent,
}

enum Parent {
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

fn conversation_id(bytes: &[u8]) -> Reply<ConversationId> {
    ConversationId::from_slice(bytes).map_err(|_| invalid_id())
}

fn message_id(bytes: &[u8]) -> Reply<MessageId> {
    MessageId::from_slice(bytes).map_err(|_| invalid_id())
}

/// Text as it will be stored: not blank, bounded, without NUL (which ends a text for many
/// programs that will read an export).
fn checked_text(text: &str) -> Reply<String> {
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
