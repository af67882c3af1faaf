//! An answer as it comes, from a model or from the companion. Dropping it stops the one who
//! answers: a request that its program gives up frees the model's place.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aico_bus::{Meta, ReplyStream, RequestError};
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::{self, Generated, Priority, generated, generated_end::Reason};
use serde_json::Value;

use super::companion::Talk;
use super::memory::{self, Asking, Past};
use super::models::{Askable, Known, PURPOSE};
use super::pass::Pass;
use super::question::Question;
use crate::app::App;
use crate::problem::{Code, Problem};
use crate::watch::Over;
use crate::ws::quota::Held;

/// A model process that was just replaced serves a moment later than its state says.
const TRIES: u32 = 5;

/// What comes.
pub(crate) enum Item {
    Piece(Piece),
    End(Figures),
}

/// Of an answer.
pub(crate) enum Piece {
    Text(String),
    /// What the model thinks before it answers.
    Thinking(String),
    /// A tool that the program offered is to be called.
    Call(v1::ToolCall),
}

/// Another model answered than the one that was wanted.
#[derive(Clone)]
pub(crate) struct Instead {
    pub(crate) by: String,
    pub(crate) of: String,
}

/// What an answer took, and how it ended.
#[derive(Clone, Default)]
pub(crate) struct Figures {
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_tokens: u32,
    pub(crate) answer_tokens: u32,
    /// Oldest turns that did not fit into the context.
    pub(crate) dropped_turns: u32,
    pub(crate) first_token: Duration,
    pub(crate) total: Duration,
    /// A limit ended it, not the model.
    pub(crate) cut: bool,
    /// Of the companion: a model that its character is made for could not be had.
    pub(crate) instead: Option<Instead>,
}

impl Figures {
    /// Adds what the imitated servers have no word for: they refuse where turns do not fit, or
    /// leave them out in silence, and know no second choice.
    pub(crate) fn add_ours(&self, body: &mut Value) {
        if self.dropped_turns > 0 {
            body["dropped_turns"] = self.dropped_turns.into();
        }
        if let Some(instead) = &self.instead {
            body["answered_by"] = instead.by.as_str().into();
            body["instead_of"] = instead.of.as_str().into();
        }
    }
}

enum Source {
    Model(ReplyStream<Generated>),
    Companion(Box<Talk>),
}

/// See the module's head.
pub(crate) struct Answer {
    source: Source,
    /// What came before the answer was told to have begun.
    first: Option<Item>,
    over: Pin<Box<dyn Future<Output = Over> + Send>>,
    ended: bool,
    asking: Option<Asking>,
    /// Behind these: the question is given up before its model is let go.
    leave: Option<Leave>,
    _held: Held,
}

/// What has begun, to be dropped in this order.
struct Begun {
    source: Source,
    first: Item,
    asking: Option<Asking>,
    leave: Option<Leave>,
}

/// Lets the model go when it is dropped: at the end of the answer, or when that is given up.
struct Leave {
    app: Arc<App>,
    person: PersonId,
    model: Vec<u8>,
    /// The same, as text.
    id: String,
    given_up: bool,
}

impl Leave {
    fn new(app: &Arc<App>, person: PersonId, known: &Known) -> Self {
        Self {
            app: Arc::clone(app),
            person,
            model: known.model.id.clone(),
            id: known.id(),
            given_up: true,
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let (app, person) = (Arc::clone(&self.app), self.person);
        let past = Past {
            since: app.turns.begun(&self.id),
            model: std::mem::take(&mut self.model),
            id: std::mem::take(&mut self.id),
            given_up: self.given_up,
        };
        tokio::spawn(async move { memory::let_go(&app, person, past).await });
    }
}

impl Answer {
    /// Asks, and waits for the first item: what fails before it has a status of its own.
    pub(crate) async fn begin(
        app: &Arc<App>,
        pass: Pass,
        whom: &Askable,
        question: &Question,
        default: &v1::Sampling,
        leave: bool,
    ) -> Result<Self, Problem> {
        pass.opened(app).await?;
        let (person, name) = (pass.person, pass.name.clone());
        let (watch, held) = pass.into_parts();
        let mut over: Pin<Box<dyn Future<Output = Over> + Send>> = Box::pin(watch.over());
        let begun = async {
            match whom {
                Askable::Companion => {
                    let mut talk = Box::new(Talk::begin(app, person, name, question).await?);
                    let first = talk.next().await?;
                    Ok(Begun {
                        source: Source::Companion(talk),
                        first,
                        asking: None,
                        leave: None,
                    })
                }
                Askable::Model(known) => {
                    let generate = generate(known, question, default);
                    ask(app, person, name, known, &generate, leave).await
                }
            }
        };
        let begun = tokio::select! {
            begun = begun => begun?,
            over = &mut over => return Err(over.problem()),
        };
        Ok(Self {
            source: begun.source,
            first: Some(begun.first),
            over,
            ended: false,
            asking: begun.asking,
            leave: begun.leave,
            _held: held,
        })
    }

    /// The next item; `None` after the end. The right to be here may end before the answer does.
    pub(crate) async fn next(&mut self) -> Option<Result<Item, Problem>> {
        if self.ended {
            return None;
        }
        let next = match self.first.take() {
            Some(first) => Ok(first),
            None => {
                let next = async {
                    match &mut self.source {
                        Source::Model(stream) => item(stream).await.map_err(told),
                        Source::Companion(talk) => talk.next().await,
                    }
                };
                tokio::select! {
                    next = next => next,
                    over = &mut self.over => Err(over.problem()),
                }
            }
        };
        self.ended = !matches!(next, Ok(Item::Piece(_)));
        if self.ended {
            drop(self.asking.take());
            if let Some(mut leave) = self.leave.take() {
                leave.given_up = !matches!(next, Ok(Item::End(_)));
            }
        }
        Some(next)
    }

    /// All of it.
    pub(crate) async fn whole(mut self) -> Result<Whole, Problem> {
        let mut whole = Whole::default();
        while let Some(item) = self.next().await {
            match item? {
                Item::Piece(Piece::Text(text)) => whole.text.push_str(&text),
                Item::Piece(Piece::Thinking(text)) => whole.thinking.push_str(&text),
                Item::Piece(Piece::Call(call)) => whole.calls.push(call),
                Item::End(figures) => whole.figures = figures,
            }
        }
        Ok(whole)
    }
}

/// An answer that is not streamed.
#[derive(Default)]
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) thinking: String,
    pub(crate) calls: Vec<v1::ToolCall>,
    pub(crate) figures: Figures,
}

fn generate(known: &Known, question: &Question, default: &v1::Sampling) -> v1::Generate {
    v1::Generate {
        turns: question.merged(),
        sampling: Some(question.sampling.of_model(default)),
        max_tokens: match question.sampling.max_tokens {
            0 => u32::MAX,
            tokens => tokens,
        },
        cache_key: question.cache_key(),
        format: question.extras.format.clone(),
        tools: question.extras.tools.clone(),
        think: question.extras.think,
        effort: question.extras.effort.to_owned(),
        model: known.model.id.clone(),
        ..v1::Generate::default()
    }
}

async fn ask(
    app: &Arc<App>,
    person: PersonId,
    name: String,
    known: &Known,
    generate: &v1::Generate,
    leave: bool,
) -> Result<Begun, Problem> {
    let (id, mut armed) = (known.id(), None);
    // Behind it, to be dropped before it.
    let asking = app.turns.begin(&id);
    for attempt in 1.. {
        memory::ready(app, person, &id).await?;
        memory::recall(app, person, &generate.model, &generate.cache_key).await;
        // Behind the persons who wait before their own pages, before what nobody waits for.
        let meta = Meta::for_person(person)
            .purpose(PURPOSE)
            .priority(Priority::Normal)
            .origin_device(name.clone());
        // Not before: a question that never came to the model has nothing to let go, and one that is
        // given up while the model loads leaves it to the limit for idle ones.
        if leave && armed.is_none() {
            armed = Some(Leave::new(app, person, known));
        }
        let opened = app
            .bus
            .open_stream::<_, Generated>(topics::MODELS_GENERATE, generate, meta);
        let first = match opened.await {
            Ok(mut stream) => item(&mut stream).await.map(|first| (stream, first)),
            Err(error) => Err(error),
        };
        match first {
            Ok((stream, first)) => {
                return Ok(Begun {
                    source: Source::Model(stream),
                    first,
                    asking: Some(asking),
                    leave: armed,
                });
            }
            Err(RequestError::NobodyServes { .. }) if attempt < TRIES => {}
            // It was unloaded between the two questions.
            Err(RequestError::Fault(fault)) if attempt < TRIES && fault.code == "model-changed" => {
            }
            Err(error) => return Err(told(error)),
        }
        tokio::time::sleep(Duration::from_millis(50) * attempt).await;
    }
    Err(Code::Unavailable.into())
}

/// The next item of a model's stream.
async fn item(stream: &mut ReplyStream<Generated>) -> Result<Item, RequestError> {
    use generated::Item as From;
    loop {
        return Ok(match stream.next().await {
            Some(generated) => match generated?.item {
                Some(From::Text(text)) => Item::Piece(Piece::Text(text)),
                Some(From::Thinking(text)) => Item::Piece(Piece::Thinking(text)),
                Some(From::ToolCall(call)) => Item::Piece(Piece::Call(call)),
                Some(From::End(end)) => Item::End(figures(&end)),
                // It waits for a place: these shapes have no word for it.
                Some(From::Queued(_)) | None => continue,
            },
            // A stream that ends without its last item was cut off.
            None => return Err(RequestError::ServerGone),
        });
    }
}

fn figures(end: &v1::GeneratedEnd) -> Figures {
    Figures {
        prompt_tokens: end.prompt_tokens,
        cached_tokens: end.cached_tokens,
        answer_tokens: end.answer_tokens,
        dropped_turns: end.dropped_turns,
        first_token: Duration::from_micros(end.first_token_us),
        total: Duration::from_micros(end.total_us),
        cut: end.reason() == Reason::Length,
        instead: None,
    }
}

fn told(error: RequestError) -> Problem {
    match error {
        RequestError::ServerGone => Problem::from(Code::ModelFailed)
            .with_detail("The model ended in the middle. It is being restarted: ask again."),
        other => other.into(),
    }
}
