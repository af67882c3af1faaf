//! One answer: from the turns of its branch to the stored end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_bus::{BusError, Client, Meta, Pending, RequestError};
use aico_contracts::ids::PersonId;
use aico_contracts::topics::{self, MODELS_GENERATE, event};
use aico_contracts::v1::{
    self, Fault, MessageStatus, Priority, generated::Item, generated_end::Reason, part::Content,
};
use aico_store::{Store, StoreError, WorkingMemory};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::character::Persona;
use crate::live::{Live, LiveAnswer};
use crate::outbox::{Outbox, put};
use crate::recent::{self, Recent};
use crate::{conversations, fault, messages, model, thread};

/// What an answer needs; made when its message is durable.
pub(crate) struct Answer {
    pub(crate) bus: Client,
    pub(crate) store: Store,
    pub(crate) live: Arc<LiveAnswer>,
    /// Where it is listed while it streams.
    pub(crate) all: Arc<Live>,
    /// Who answers.
    pub(crate) persona: Persona,
    /// What a program has changed of how its tokens are chosen.
    pub(crate) how: Option<v1::TalkSampling>,
    /// The key of all that was said up to the question, when a program will go on by it.
    pub(crate) thread: Option<thread::Key>,
    /// What was said, oldest first.
    pub(crate) turns: Vec<v1::Turn>,
    /// Where what was said is kept for the next question.
    pub(crate) memory: Option<WorkingMemory>,
    /// Messages that the next question needs, at most.
    pub(crate) history: u32,
    pub(crate) meta: Meta,
    /// The companion stops: what was said is kept as interrupted.
    pub(crate) stop: CancellationToken,
    /// The person's, by which the end is told.
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) tasks: TaskTracker,
}

/// Who wrote it.
#[derive(Clone, Default)]
pub(crate) struct By {
    /// The model.
    pub(crate) model: String,
    /// The one that the character is made for, when it is another.
    pub(crate) instead_of: String,
}

/// How it ended.
struct End {
    status: MessageStatus,
    fault: Option<Fault>,
    stats: v1::AnswerStats,
}

impl End {
    fn of(status: MessageStatus) -> Self {
        Self {
            status,
            fault: None,
            stats: v1::AnswerStats::default(),
        }
    }

    fn failed(fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::of(MessageStatus::Failed)
        }
    }
}

/// What became of an end that was to be stored.
enum Stored {
    Done,
    /// There is no such message any more.
    Gone,
}

/// While an answer streams it is stored this often, for the case that the process ends.
const CHECKPOINT: Duration = Duration::from_millis(500);
/// How often an end that could not be stored (a full disk) is tried again.
const STORE_AGAIN: Duration = Duration::from_secs(1);
/// Tokens of an answer, where neither character nor program says how many.
const LONGEST_ANSWER: u32 = 2048;
/// A model process that was just replaced serves a moment later than its state says.
const TRIES: u32 = 5;

impl Answer {
    /// Generates, publishes, stores. Runs to its end whatever happens.
    pub(crate) async fn run(self) {
        let begun = Instant::now();
        let mut by = By::default();
        let mut checkpoint = Checkpoint::new(&self.store, &self.live);
        let mut end = tokio::select! {
            biased;
            () = self.stop.cancelled() => End::of(MessageStatus::Interrupted),
            () = self.live.cancel.cancelled() => End::of(MessageStatus::Cancelled),
            end = self.generate(&mut by, &mut checkpoint) => end,
        };
        end.stats.total_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        checkpoint.wait().await;
        if let Some(fault) = &end.fault {
            tracing::warn!(code = fault.code, "an answer failed");
        }
        tracing::debug!(
            status = end.status.as_str_name(),
            first_ms = end.stats.first_token_ms,
            took_ms = end.stats.total_ms,
            "an answer has ended"
        );
        self.finish(end, by).await;
    }

    async fn generate(&self, by: &mut By, checkpoint: &mut Checkpoint) -> End {
        // A person waits, unless whoever asks says otherwise.
        let priority = self.meta.priority.unwrap_or(Priority::Interactive);
        let mut wanted = self.persona.character.models.as_slice();
        let mut ended_first = String::new();
        for attempt in 1.. {
            let waits = |position| self.tell_place(position);
            let ready = model::ready(&self.bus, self.live.person, priority, wanted, waits);
            let model = match ready.await {
                Ok(model) => model,
                Err(fault) => return End::failed(fault),
            };
            let request = self.question(&model);
            let passed_over = model.passed_over;
            *by = By {
                model: model.name,
                instead_of: match ended_first.is_empty() {
                    true => model.instead_of,
                    false => ended_first.clone(),
                },
            };
            let (key, id) = (&request.cache_key, &request.model);
            model::recall(&self.bus, self.live.person, key, id).await;
            let meta = self.meta.clone().priority(priority);
            let stream = self.bus.open_stream(MODELS_GENERATE, &request, meta).await;
            match stream {
                Ok(stream) => match self.follow(stream, checkpoint).await {
                    Err(error) if attempt < TRIES && is_too_early(&error) => {}
                    // What was said already stays, and another one would say it again.
                    Err(error)
                        if attempt < TRIES && may_go_elsewhere(&error) && !self.has_said() => {}
                    // It may be this question that its memory is too small for: the next one is
                    // asked, not the same one again.
                    Err(RequestError::ServerGone)
                        if attempt < TRIES
                            && !self.has_said()
                            && passed_over + 1 < wanted.len() =>
                    {
                        if ended_first.is_empty() {
                            ended_first = match by.instead_of.is_empty() {
                                true => wanted[passed_over].clone(),
                                false => by.instead_of.clone(),
                            };
                        }
                        wanted = &wanted[passed_over + 1..];
                    }
                    Err(error) => return End::failed(self.told(error)),
                    Ok(end) => return end,
                },
                Err(RequestError::NobodyServes { .. }) if attempt < TRIES => {}
                Err(error) => return End::failed(self.told(error)),
            }
            tokio::time::sleep(Duration::from_millis(50) * attempt).await;
        }
        End::failed(Fault::model_failed("The model can't be reached"))
    }

    /// What this model is asked: the character's own words for it, then what was said.
    fn question(&self, model: &model::Ready) -> v1::Generate {
        let mut turns = self.persona.told(model.starter);
        turns.extend(self.turns.iter().cloned());
        let mut sampling = self.persona.sampling(model.starter);
        let own = &self.persona.character.sampling;
        let mut longest = own.num_predict.unwrap_or(LONGEST_ANSWER);
        if let Some(how) = &self.how {
            sampling.temperature = how.temperature.unwrap_or(sampling.temperature);
            sampling.top_p = how.top_p.unwrap_or(sampling.top_p);
            sampling.top_k = how.top_k.unwrap_or(sampling.top_k);
            sampling.min_p = how.min_p.unwrap_or(sampling.min_p);
            sampling.repeat_penalty = how.repeat_penalty.unwrap_or(sampling.repeat_penalty);
            sampling.seed = how.seed.unwrap_or(sampling.seed);
            sampling.stop.extend(how.stop.iter().cloned());
            if how.max_tokens > 0 {
                longest = how.max_tokens;
            }
        }
        v1::Generate {
            turns,
            sampling: Some(sampling),
            max_tokens: longest,
            cache_key: self.live.conversation.to_vec(),
            context: own.num_ctx.unwrap_or(0),
            think: self.persona.think(),
            model: model.id.clone(),
            character_turns: self.persona.anybodys_turns(model.starter),
            ..v1::Generate::default()
        }
    }

    async fn follow(
        &self,
        mut stream: aico_bus::ReplyStream<v1::Generated>,
        checkpoint: &mut Checkpoint,
    ) -> Result<End, RequestError> {
        while let Some(item) = stream.next().await {
            match item?.item {
                Some(Item::Text(text)) => self.say(Content::Text(text)),
                Some(Item::Thinking(text)) => self.say(Content::Thinking(text)),
                Some(Item::Queued(position)) => self.tell_place(position),
                Some(Item::End(end)) => return Ok(ended(&end)),
                // The companion offers no tools.
                Some(Item::ToolCall(_)) | None => {}
            }
            checkpoint.tick();
        }
        // A stream that ends without its last item was cut off.
        Err(RequestError::ServerGone)
    }

    /// Tells how many are before this one: of those that the model answers, or that wait for room for
    /// theirs.
    fn tell_place(&self, position: u32) {
        let queued = v1::AnswerQueued {
            conversation: self.live.conversation.to_vec(),
            message: self.live.id.to_vec(),
            position,
        };
        self.publish(event::QUEUE, &queued);
    }

    fn told(&self, error: RequestError) -> Fault {
        match error {
            RequestError::Fault(fault) => fault,
            RequestError::ServerGone if self.has_said() => {
                Fault::model_failed("The model ended in the middle")
                    .with_what_to_do("What it said is kept. It is being restarted: ask again.")
            }
            RequestError::ServerGone => {
                Fault::model_failed("The model ended before it said a word").with_what_to_do(
                    "It is being restarted: ask again. Where that happens each time, the machine's \
                     memory is too small for it: choose a smaller model, or a smaller \
                     `models.context`.",
                )
            }
            RequestError::NobodyServes { .. } => Fault::model_failed("The model can't be reached")
                .with_what_to_do("See `aico status`, then ask again."),
            other => other.into_fault(),
        }
    }

    fn has_said(&self) -> bool {
        !self.live.so_far().0.is_empty()
    }

    fn say(&self, piece: Content) {
        self.live
            .add(piece, |delta| self.publish(event::ANSWER_DELTA, &delta));
    }

    /// Stores the end, and with it the events that tell of it. When there is no room for it those
    /// who watch are told, what was said stays in memory, and it is stored as soon as there is.
    async fn finish(self, end: End, by: By) {
        let mut told = false;
        loop {
            let error = match self.store_end(&end, &by).await {
                Ok(Stored::Gone) => return self.tell_gone(end),
                Ok(Stored::Done) => {
                    // Before it is told: whoever hears of the end may ask for the next at once.
                    self.all.end(self.live.id);
                    let (store, person) = (&self.store, self.live.person);
                    let outbox = Arc::clone(&self.outbox);
                    return outbox.publish(&self.bus, &self.tasks, store, person).await;
                }
                Err(error) => error,
            };
            let again = fault::may_pass(&error);
            if !told {
                self.tell_unstored(fault::from_store(error), end.stats, again)
                    .await;
                told = true;
            }
            if !again {
                return;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(STORE_AGAIN) => {}
            }
        }
    }

    async fn store_end(&self, end: &End, by: &By) -> Result<Stored, StoreError> {
        let (parts, _) = self.live.so_far();
        let (conversation, id) = (self.live.conversation, self.live.id);
        let (status, fault, by) = (end.status, end.fault.clone(), by.clone());
        let stats = end.stats;
        let history = self.memory.is_some().then_some(self.history);
        let key = self.thread.map(|key| {
            let said: String = parts.iter().filter_map(messages::spoken).collect();
            (!said.trim().is_empty()).then(|| thread::after(&key, v1::Role::Assistant, &said))
        });
        let stored = self.store.write(move |tx| {
            match messages::is_unfinished(tx, id)? {
                None => return Ok((Stored::Gone, None)),
                // Stored the time before, only not acknowledged then.
                Some(false) => return Ok((Stored::Done, None)),
                Some(true) => {}
            }
            messages::finish(tx, conversation, id, status, &parts, &by, fault.as_ref())?;
            conversations::touch(tx, conversation)?;
            if let Some(key) = key.flatten() {
                thread::note(tx, &key, id)?;
            }
            let done = v1::AnswerDone {
                message: Some(messages::get(tx, conversation, id)?),
                stats: Some(stats),
            };
            put(tx, event::ANSWER_DONE, &done)?;
            let changed = v1::ConversationChanged {
                conversation: Some(conversations::get(tx, conversation)?),
            };
            put(tx, event::CONVERSATION_UPDATED, &changed)?;
            // Off the way from a question to its answer, and in one view with the end.
            let recent = history.map(|most| Recent::read(tx, conversation, id, most));
            Ok((Stored::Done, recent.transpose()?.flatten()))
        });
        let (stored, recent) = stored.await?;
        if let (Some(recent), Some(memory)) = (recent, &self.memory) {
            recent::keep(memory, conversation, &recent).await;
        }
        Ok(stored)
    }

    /// Its conversation was deleted while it was written. Programs that wait for its end, and know
    /// nothing of conversations, are told of it.
    fn tell_gone(&self, end: End) {
        self.all.end(self.live.id);
        tracing::debug!("the conversation of an answer was deleted before its end");
        let message = v1::Message {
            status: end.status.into(),
            fault: end.fault,
            ..self.as_said()
        };
        self.tell_done(message, end.stats);
    }

    /// The end could not be stored (a full disk, an erased person): those who watch are told. When
    /// it stays so until AICO ends, the next start marks what is there as interrupted.
    async fn tell_unstored(&self, fault: Fault, stats: v1::AnswerStats, again: bool) {
        let fault = match again {
            true => fault.with_detail(
                "The answer is not stored yet. It is kept in memory, and stored when there is room.",
            ),
            false => fault,
        };
        let (conversation, id) = (self.live.conversation, self.live.id);
        let begun = self
            .store
            .read(move |db| messages::get(db, conversation, id))
            .await;
        let said = self.as_said();
        let message = match begun {
            Ok(begun) => v1::Message {
                parts: said.parts,
                ..begun
            },
            Err(_) => said,
        };
        let message = v1::Message {
            status: MessageStatus::Failed.into(),
            fault: Some(fault),
            ..message
        };
        self.live.end_unstored(message.clone());
        self.tell_done(message, stats);
    }

    /// The answer as far as it is known without the store.
    fn as_said(&self) -> v1::Message {
        let (parts, _) = self.live.so_far();
        let parts = parts.into_iter().map(|content| v1::Part {
            content: Some(content),
        });
        v1::Message {
            id: self.live.id.to_vec(),
            conversation: self.live.conversation.to_vec(),
            role: v1::Role::Assistant.into(),
            parts: parts.collect(),
            ..v1::Message::default()
        }
    }

    fn tell_done(&self, message: v1::Message, stats: v1::AnswerStats) {
        let done = v1::AnswerDone {
            message: Some(message),
            stats: Some(stats),
        };
        self.publish(event::ANSWER_DONE, &done);
    }

    fn publish(&self, kind: &str, message: &impl aico_contracts::Payload) {
        publish(
            &self.bus,
            self.live.person,
            kind,
            message,
            self.meta.clone(),
        );
    }
}

/// Publishes an event of a person's conversations.
pub(crate) fn publish(
    bus: &Client,
    person: PersonId,
    kind: &str,
    message: &impl aico_contracts::Payload,
    meta: Meta,
) {
    let topic = topics::conversation_event(person, kind);
    let meta = meta.person(person).purpose("conversation");
    if let Err(error) = bus.publish(&topic, message, meta) {
        tracing::warn!(error = %error, kind, "an event could not be published");
    }
}

/// Publishes an event that is kept for other processes, under the id that it has in the outbox.
/// `Some`: wait for it. Without a journal those in the daemon hear it, and nobody else is there.
pub(crate) fn publish_durably(
    bus: &Client,
    person: PersonId,
    kind: &str,
    message: &impl aico_contracts::Payload,
    id: Uuid,
) -> Option<Pending> {
    let topic = topics::conversation_event(person, kind);
    let meta = Meta::for_person(person).purpose("conversation").id(id);
    match bus.publish_durably(&topic, message, meta.clone()) {
        Ok(pending) => Some(pending),
        Err(BusError::Journal(_)) => {
            publish(bus, person, kind, message, meta);
            None
        }
        Err(error) => {
            tracing::warn!(error = %error, kind, "an event could not be published");
            None
        }
    }
}

fn ended(end: &v1::GeneratedEnd) -> End {
    let status = match end.reason() {
        Reason::Cancelled => MessageStatus::Cancelled,
        Reason::Stop | Reason::Length | Reason::Unspecified => MessageStatus::Complete,
    };
    End {
        stats: v1::AnswerStats {
            prompt_tokens: end.prompt_tokens,
            cached_tokens: end.cached_tokens,
            answer_tokens: end.answer_tokens,
            dropped_turns: end.dropped_turns,
            first_token_ms: end.first_token_us / 1000,
            total_ms: 0,
            cut: end.reason() == Reason::Length,
        },
        ..End::of(status)
    }
}

/// The model process was just replaced, by a new one or by one for another model.
fn is_too_early(error: &RequestError) -> bool {
    match error {
        RequestError::NobodyServes { .. } => true,
        RequestError::Fault(fault) => fault.code == "model-changed",
        _ => false,
    }
}

/// Another program runs the model and can't now: asked for again, the next model is given in its
/// place, or the same one where that may help.
fn may_go_elsewhere(error: &RequestError) -> bool {
    match error {
        RequestError::Fault(fault) => {
            let told = ["engine-not-allowed", "engine-refused"].contains(&fault.code.as_str());
            (fault.code.starts_with("engine-") && !told)
                || matches!(fault.code.as_str(), "model-missing" | "model-too-large")
        }
        _ => false,
    }
}

/// Stores what was said so far now and then, beside the stream and one at a time.
struct Checkpoint {
    store: Store,
    live: Arc<LiveAnswer>,
    last: Instant,
    running: Option<JoinHandle<()>>,
}

impl Checkpoint {
    fn new(store: &Store, live: &Arc<LiveAnswer>) -> Self {
        Self {
            store: store.clone(),
            live: Arc::clone(live),
            last: Instant::now(),
            running: None,
        }
    }

    fn tick(&mut self) {
        let busy = self
            .running
            .as_ref()
            .is_some_and(|task| !task.is_finished());
        if busy || self.last.elapsed() < CHECKPOINT {
            return;
        }
        self.last = Instant::now();
        let (store, live) = (self.store.clone(), Arc::clone(&self.live));
        self.running = Some(tokio::spawn(async move {
            let (parts, _) = live.so_far();
            let id = live.id;
            if let Err(error) = store
                .write(move |tx| match messages::is_unfinished(tx, id)? {
                    Some(true) => messages::set_text(tx, id, &parts),
                    // Deleted meanwhile.
                    _ => Ok(()),
                })
                .await
            {
                tracing::warn!(error = %error, "what an answer said so far could not be stored");
            }
        }));
    }

    /// Before the end is stored: a late checkpoint must not overwrite it.
    async fn wait(&mut self) {
        if let Some(task) = self.running.take() {
            let _ = task.await;
        }
    }
}
