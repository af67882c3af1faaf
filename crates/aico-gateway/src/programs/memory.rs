//! The model that is asked next: loaded for it, its prompt brought back, and let go again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aico_bus::{Meta, Queue, RequestError};
use aico_contracts::v1::{self, Fault, Priority, model_state::Status};
use aico_contracts::{Payload, ids::PersonId, topics};
use parking_lot::Mutex;

use super::models::PURPOSE;
use crate::app::App;
use crate::problem::{Code, Problem};

/// Loading tens of gigabytes from a slow disk takes minutes.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a question waits for a kept prompt. What takes longer is read anew meanwhile.
const RECALL_LIMIT: Duration = Duration::from_secs(3);
/// An answer that has just ended is counted for a moment longer.
const LET_GO: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_secs(1),
];
/// One that was given up may go on for some seconds, until its model looks.
const GIVEN_UP: Duration = Duration::from_secs(3);

/// The questions of programs to each model, by its id. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<String, Turn>>>);

#[derive(Default)]
struct Turn {
    /// Those that are under way.
    now: u32,
    /// All that there were.
    begun: u64,
}

impl Turns {
    /// One begins; it is under way until the guard is dropped.
    pub(crate) fn begin(&self, model: &str) -> Asking {
        let mut all = self.0.lock();
        let turn = all.entry(model.to_owned()).or_default();
        turn.now += 1;
        turn.begun += 1;
        Asking {
            turns: self.clone(),
            model: model.to_owned(),
        }
    }

    /// How many there were.
    pub(crate) fn begun(&self, model: &str) -> u64 {
        self.0.lock().get(model).map_or(0, |turn| turn.begun)
    }

    /// Whether one is under way, or has come since there were so many.
    fn is_needed(&self, model: &str, since: u64) -> bool {
        let all = self.0.lock();
        let turn = all.get(model);
        turn.is_some_and(|turn| turn.now > 0 || turn.begun != since)
    }
}

/// A question that is under way.
pub(crate) struct Asking {
    turns: Turns,
    model: String,
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(turn) = self.turns.0.lock().get_mut(&self.model) {
            turn.now = turn.now.saturating_sub(1);
        }
    }
}

async fn request<Q: Payload, R: Payload>(
    app: &App,
    person: PersonId,
    topic: &str,
    question: &Q,
) -> Result<R, RequestError> {
    let meta = Meta::for_person(person)
        .purpose(PURPOSE)
        .priority(Priority::Normal);
    app.bus.request(topic, question, meta).await
}

/// Waits until this model can answer, and no other in its place; asking loads it. What is chosen
/// for everybody stays what it is.
pub(crate) async fn ready(app: &App, person: PersonId, model: &str) -> Result<(), Problem> {
    let _asking = app.turns.begin(model);
    let question = v1::PrepareModel {
        wanted: vec![model.to_owned()],
        only: true,
    };
    prepare(app, person, &question).await
}

/// Waits until a model can answer: the first of these that can be had, or else the one that is
/// chosen for everybody.
pub(crate) async fn any_ready(
    app: &App,
    person: PersonId,
    wanted: Vec<String>,
) -> Result<(), Problem> {
    let question = v1::PrepareModel {
        wanted,
        only: false,
    };
    prepare(app, person, &question).await
}

async fn prepare(app: &App, person: PersonId, question: &v1::PrepareModel) -> Result<(), Problem> {
    match tokio::time::timeout(PATIENCE, wait(app, person, question)).await {
        Ok(ready) => ready,
        Err(_) => Err(Problem::from(Code::TookTooLong).with_detail(
            "No room came for the model beside those that answer, or it takes too long to start.",
        )),
    }
}

async fn wait(app: &App, person: PersonId, question: &v1::PrepareModel) -> Result<(), Problem> {
    // Subscribed before asking: a change between the two is not missed.
    let changes = app.bus.subscribe(topics::MODELS_STATE, Queue::default());
    let mut changes = changes.map_err(|_| Code::Internal)?;
    let mut failed: Option<Vec<u8>> = None;
    loop {
        let prepared: v1::PreparedModel =
            request(app, person, topics::MODELS_PREPARE, question).await?;
        let state = prepared.state.unwrap_or_default();
        match state.status() {
            Status::Ready => return Ok(()),
            // Where another will do, the next one is asked for.
            Status::Failed if !question.only && failed.as_ref() != Some(&state.model) => {
                failed = Some(state.model);
                continue;
            }
            Status::Failed => {
                let fault = state.fault;
                return Err(fault
                    .unwrap_or_else(|| Fault::model_failed("The model can't be used"))
                    .into());
            }
            Status::Starting | Status::Stopped | Status::Unspecified => {}
        }
        if changes.recv().await.is_none() {
            return Err(Code::Stopping.into());
        }
    }
}

/// Has what was kept of this conversation's prompt handed to the model. It saves reading it again;
/// without it the answer is the same.
pub(crate) async fn recall(app: &App, person: PersonId, model: &[u8], cache_key: &[u8]) {
    let question = v1::RecallPrompt {
        cache_key: cache_key.to_vec(),
        model: model.to_vec(),
    };
    let asked = request::<_, v1::Empty>(app, person, topics::MODELS_RECALL, &question);
    let _not_kept = tokio::time::timeout(RECALL_LIMIT, asked).await;
}

/// A model that a program needs no longer behind its answer.
pub(crate) struct Past {
    pub(crate) model: Vec<u8>,
    /// The same, as text.
    pub(crate) id: String,
    /// How many questions to it there had been.
    pub(crate) since: u64,
    /// The program has not waited for the end.
    pub(crate) given_up: bool,
}

/// Takes it out of memory. Where somebody else needs it it stays, and nobody is told: the model of
/// another question is that one's to let go, also when it ends before the last try.
pub(crate) async fn let_go(app: &App, person: PersonId, past: Past) {
    let needed = || app.turns.is_needed(&past.id, past.since);
    let told = unload_unless(app, person, &past.model, &needed).await;
    let stays = told.is_err_and(|problem| problem.code() == Code::Conflict);
    if past.given_up && stays {
        tokio::time::sleep(GIVEN_UP).await;
        let _stays = unload_unless(app, person, &past.model, &needed).await;
    }
}

/// Takes a model out of memory, unless somebody needs it there.
pub(crate) async fn unload(app: &App, person: PersonId, model: &[u8]) -> Result<(), Problem> {
    unload_unless(app, person, model, || false).await
}

async fn unload_unless(
    app: &App,
    person: PersonId,
    model: &[u8],
    needed: impl Fn() -> bool,
) -> Result<(), Problem> {
    let question = v1::UnloadModel { id: model.to_vec() };
    let mut told = Ok(());
    for pause in LET_GO {
        tokio::time::sleep(pause).await;
        if needed() {
            break;
        }
        let done = request::<_, v1::Empty>(app, person, topics::MODELS_UNLOAD, &question).await;
        told = done.map(drop).map_err(Problem::from);
        match &told {
            Err(problem) if problem.code() == Code::Conflict => {}
            _ => break,
        }
    }
    told
}

/// A model that is in memory.
pub(crate) struct Loaded {
    pub(crate) model: Vec<u8>,
    pub(crate) memory: u64,
    /// When it goes unless somebody asks it; 0: not by itself, or that is not known.
    pub(crate) until_unix_ms: u64,
}

/// What is in memory: our own models, and those that a program beside us has there because of us.
pub(crate) async fn loaded(app: &App, person: PersonId) -> Result<Vec<Loaded>, Problem> {
    let question = v1::ReadActivity {
        // The figures alone: no samples.
        after_unix_ms: u64::MAX,
    };
    let told: v1::ModelsActivity = request(app, person, topics::MODELS_ACTIVITY, &question).await?;
    let models = told.models.into_iter();
    let inside = models.filter(|one| match one.engine.as_str() {
        "" => one.status() == Status::Ready,
        _ => one.memory_bytes > 0,
    });
    let inside = inside.map(|one| Loaded {
        model: one.model,
        memory: one.memory_bytes,
        until_unix_ms: one.idle_until_unix_ms,
    });
    Ok(inside.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_needed_while_another_question_is_under_way_and_where_one_came_since() {
        let turns = Turns::default();
        let (first, second) = (turns.begin("one"), turns.begin("one"));
        drop(first);
        let since = turns.begun("one");
        assert!(turns.is_needed("one", since), "the second is under way");
        drop(second);
        assert!(!turns.is_needed("one", since));
        drop(turns.begin("other"));
        assert!(!turns.is_needed("one", since));
        drop(turns.begin("one"));
        assert!(turns.is_needed("one", since), "a third had it");
        assert!(!turns.is_needed("one", turns.begun("one")));
    }
}
