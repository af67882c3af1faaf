//! The batching loop: several answers at once from one context, on a thread of its own.
//!
//! [`Batcher`] is the handle. A [`Request`] waits in a bounded queue (the urgent first, then
//! whoever has least running), gets a slot, is computed in steps together with the others, and
//! its pieces arrive in its [`Generation`]. Dropping that cancels it: the slot is free after
//! the step that is running, and the length of a step follows the measured speed.
//!
//! - `queue`: who is next.
//! - `slots`: whose prompt is still in the cache.
//! - `shared`: what persons who talk to the same character have in common.
//! - `pace`: how many tokens a step may take.
//! - `answer`: one answer in the making.
//! - `run`: the loop.
//! - `kept`: handing out what is in the cache, and taking it back.

mod answer;
#[cfg(test)]
mod fixed;
mod kept;
mod pace;
pub(crate) mod queue;
mod run;
mod shared;
mod slots;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use aico_contracts::ids::PersonId;
use aico_contracts::v1::Priority;
use tokio::sync::{mpsc as channel, oneshot};
use uuid::Uuid;

use crate::calls::{Call, Calls};
use crate::engine::{Engine, EngineConfig, EngineError, Model, SamplingPlan, Token};
use crate::structured::Structure;
use crate::text::Thinking;

pub use kept::{Held, Larger, Saved};
pub(crate) use shared::MOST_BYTES as SHARED_BYTES;

/// Requests that may wait for a slot; one more is refused.
pub const QUEUE_LIMIT: usize = 64;
/// What one step may take, as far as it can be foretold: the most that a cancel waits.
pub const STEP_TIME: Duration = Duration::from_millis(50);

/// One answer to be generated.
pub struct Request {
    /// Names it for pause and resume: the id of the exchange on the bus.
    pub id: Uuid,
    /// Whose it is; prompts are cached for one person only, beyond their [`own`](Self::own) part.
    pub person: Option<PersonId>,
    /// Who goes first.
    pub priority: Priority,
    /// Names what may keep its prompt in the cache; empty: nothing.
    pub cache_key: Vec<u8>,
    /// The prompt.
    pub prompt: Vec<Token>,
    /// How many of its first tokens are a character's own, and nobody's words: what is read of them
    /// serves other persons too. 0: none.
    pub own: usize,
    /// Whether it may take over what others of the person's that may so too begin with alike. How
    /// much that is, it is told: only for one who may know what is said in all of them.
    pub shares: bool,
    /// Most tokens of the answer.
    pub answer_limit: usize,
    /// How tokens are chosen.
    pub sampling: SamplingPlan,
    /// Strings that end the answer.
    pub stops: Vec<String>,
    /// Whether the answer may hold thinking.
    pub thinking: Thinking,
    /// How calls of tools are read out of the answer.
    pub calls: Option<Calls>,
    /// What the answer is bound to; it begins after the thinking.
    pub structure: Option<Structure>,
}

/// What happens to a request.
#[derive(PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Event {
    /// It waits; so many are before it.
    Queued(u32),
    /// Part of the answer.
    Text(String),
    /// Part of the thinking.
    Thinking(String),
    /// A tool is to be called.
    Call(Call),
    /// The end.
    End(End),
    /// The end: the engine failed on it.
    Failed,
    /// The end: following the form that it is bound to costs too much.
    TooComplex,
    /// The end: too many wait already.
    Busy,
    /// The end: the loop stops.
    Stopped,
}

/// Why an answer ended, and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its limit or the context was reached; otherwise the model ended its turn.
    pub cut: bool,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// How many of them were still in the cache.
    pub cached_tokens: u32,
    /// Tokens of the answer.
    pub answer_tokens: u32,
    /// From asking to the first token.
    pub first_token: Duration,
    /// From asking to the end.
    pub total: Duration,
}

/// How far a cancelled answer was when its sequence was free again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Steps that the loop had begun by then.
    step: u64,
    /// Steps that were begun since it was cancelled: none or one, unless whoever cancelled was
    /// itself kept from it.
    pub steps_after: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// How many of them were still in the cache.
    pub cached_tokens: u32,
    /// Tokens of the answer.
    pub answer_tokens: u32,
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

enum Command {
    Submit(Box<Request>, channel::UnboundedSender<Event>),
    Cancel(Uuid, Option<oneshot::Sender<Freed>>),
    Pause(Uuid, bool),
    Forget(Option<PersonId>),
    Discard(PersonId, Vec<u8>),
    Ask(kept::Ask),
    Stop,
}

/// The handle of a loop. The loop ends when all handles are gone.
#[derive(Clone)]
pub struct Batcher {
    commands: mpsc::Sender<Command>,
    context: usize,
    steps: Arc<AtomicU64>,
}

impl Batcher {
    /// Opens a context over `model` on a new thread and starts the loop there.
    ///
    /// # Errors
    /// When the context can't be made or the thread not started.
    pub fn start<M: Model>(model: Arc<M>, config: EngineConfig) -> Result<Self, EngineError> {
        let (commands, inbox) = mpsc::channel();
        let (opened, opening) = mpsc::channel();
        let steps = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&steps);
        std::thread::Builder::new()
            .name("aico-engine".into())
            .spawn(move || match model.open(&config) {
                Ok(engine) => {
                    let _starter_gone = opened.send(Ok(engine.context_length()));
                    run::Loop::new(engine, &*model, inbox, counted).run();
                }
                Err(error) => {
                    let _starter_gone = opened.send(Err(error));
                }
            })
            .map_err(EngineError::Thread)?;
        let context = opening.recv().map_err(|_| EngineError::Backend)??;
        Ok(Self {
            commands,
            context,
            steps,
        })
    }

    /// Tokens that fit into one sequence.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.context
    }

    /// Hands a request over. When the loop has ended, the generation says `Stopped` at once.
    #[must_use]
    pub fn submit(&self, request: Request) -> Generation {
        let id = request.id;
        // Unbounded, yet bounded by the answer's limit; the loop must never wait for a reader.
        #[expect(clippy::disallowed_methods, reason = "bounded by the answer's limit")]
        let (sender, events) = channel::unbounded_channel();
        if let Err(mpsc::SendError(Command::Submit(_, sender))) = self
            .commands
            .send(Command::Submit(Box::new(request), sender))
        {
            let _reader_waits = sender.send(Event::Stopped);
        }
        Generation {
            id,
            events,
            commands: self.commands.clone(),
            steps: Arc::clone(&self.steps),
            ended: false,
        }
    }

    /// Stops computing a request until it is resumed; unknown ids are ignored. Its slot may
    /// go to one that waits; then its prompt is computed again later.
    pub fn pause(&self, id: Uuid) {
        let _loop_ended = self.commands.send(Command::Pause(id, true));
    }

    /// Goes on with a request that was paused.
    pub fn resume(&self, id: Uuid) {
        let _loop_ended = self.commands.send(Command::Pause(id, false));
    }

    /// Empties what the cache holds of a person; of everybody with `None`. Of characters' own prompts
    /// it keeps none either way: they are soon read again. Answers that are being generated for them
    /// go on.
    pub fn forget(&self, person: Option<PersonId>) {
        let _loop_ended = self.commands.send(Command::Forget(person));
    }

    /// Empties what the cache holds under one key of a person's, as [`forget`](Self::forget).
    pub fn discard(&self, person: PersonId, key: Vec<u8>) {
        let _loop_ended = self.commands.send(Command::Discard(person, key));
    }

    /// Ends the loop after the step that is running.
    pub fn stop(&self) {
        let _loop_ended = self.commands.send(Command::Stop);
    }
}

/// An answer as it comes. Dropping it cancels.
pub struct Generation {
    id: Uuid,
    events: channel::UnboundedReceiver<Event>,
    commands: mpsc::Sender<Command>,
    steps: Arc<AtomicU64>,
    ended: bool,
}

impl Generation {
    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        self.seen(event)
    }

    /// The next event, waiting on this thread; not for asynchronous code.
    pub fn next_blocking(&mut self) -> Option<Event> {
        let event = self.events.blocking_recv();
        self.seen(event)
    }

    /// Cancels it, at once; the future is done when its sequence is free. The step that is running
    /// goes to its end; nothing of this answer is computed after it.
    pub fn cancel(self) -> impl Future<Output = Freed> + Send {
        let before = self.steps.load(Ordering::SeqCst);
        let (told, freed) = oneshot::channel();
        let _loop_ended = self.commands.send(Command::Cancel(self.id, Some(told)));
        async move {
            let freed = freed.await.unwrap_or_default();
            Freed {
                steps_after: u32::try_from(freed.step.saturating_sub(before)).unwrap_or(u32::MAX),
                ..freed
            }
        }
    }

    /// A loop that ends while a request is on its way to it says nothing any more: every
    /// generation has an end all the same.
    fn seen(&mut self, event: Option<Event>) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = event.unwrap_or(Event::Stopped);
        self.ended = matches!(
            event,
            Event::End(_) | Event::Failed | Event::TooComplex | Event::Busy | Event::Stopped
        );
        Some(event)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let _loop_ended = self.commands.send(Command::Cancel(self.id, None));
    }
}
