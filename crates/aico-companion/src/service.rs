//! What the companion answers on the bus.

mod conversation;
mod exchange;
mod message;
mod roles;
mod talk;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_access::Home;
use aico_bus::{BusError, Client, Meta, Request, Trace};
use aico_contracts::Payload;
use aico_contracts::ids::{ConversationId, MessageId, PersonId};
use aico_contracts::topics::{self, CONVERSATION_REQUESTS, verb};
use aico_contracts::v1::{self, Fault};
use aico_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fault::{from_home, from_store, invalid_id, may_pass};
use crate::live::Live;
use crate::messages;
use crate::outbox::Outbox;

/// Requests of all persons that are worked on at once.
const CONCURRENCY: usize = 64;

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
        // The model tells only the person's own questions how they begin like others of theirs.
        if envelope.sender.starts_with("module:") {
            meta.purpose = "module".into();
        }
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

fn conversation_id(bytes: &[u8]) -> Reply<ConversationId> {
    ConversationId::from_slice(bytes).map_err(|_| invalid_id())
}

fn message_id(bytes: &[u8]) -> Reply<MessageId> {
    MessageId::from_slice(bytes).map_err(|_| invalid_id())
}
