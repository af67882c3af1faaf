//! Waiting for the model: a question that comes while it starts is not refused.

use std::time::Duration;

use aico_bus::{Client, Meta, Queue, ReplyStream, RequestError};
use aico_contracts::ids::PersonId;
use aico_contracts::topics::{MODELS_DISCARD, MODELS_PREPARE, MODELS_RECALL, MODELS_STATE, PLACES};
use aico_contracts::v1::{self, Fault, Priority, model_state::Status};
use tokio::time::{Instant, timeout_at};

/// How long a start may stand still, or room for the model not come, before the person is told.
/// Loading tens of gigabytes from a slow disk takes minutes, and one sees how far it is.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long an answer waits for a kept prompt. What takes longer is read anew meanwhile.
const RECALL_LIMIT: Duration = Duration::from_secs(3);

/// The model that will answer.
pub(crate) struct Ready {
    pub(crate) id: Vec<u8>,
    pub(crate) name: String,
    /// It is the small one that AICO brings along.
    pub(crate) starter: bool,
    /// The one that was wanted most, when it is another.
    pub(crate) instead_of: String,
    /// How many of those that were wanted could not be had.
    pub(crate) passed_over: usize,
}

/// Waits until a model can answer: the first of these that can be had, else the one that is chosen
/// for everybody. Where others have to make room first, the urgent are waited for least, and
/// `waits` hears how many are before this one.
pub(crate) async fn ready(
    bus: &Client,
    person: PersonId,
    priority: Priority,
    wanted: &[String],
    waits: impl FnMut(u32),
) -> Result<Ready, Fault> {
    // Theirs: what another machine may be asked is each person's to allow.
    let meta = Meta::for_person(person).purpose(PLACES).priority(priority);
    ready_within(PATIENCE, bus, &meta, wanted, waits).await
}

async fn ready_within(
    most: Duration,
    bus: &Client,
    meta: &Meta,
    wanted: &[String],
    mut waits: impl FnMut(u32),
) -> Result<Ready, Fault> {
    // Subscribed before asking: a change between the two is not missed.
    let mut changes = bus
        .subscribe(MODELS_STATE, Queue::default())
        .map_err(|_| Fault::internal("The model's state can't be followed"))?;
    let question = v1::PrepareModel {
        wanted: wanted.to_vec(),
        only: false,
    };
    let mut failed: Option<Vec<u8>> = None;
    let mut patience = Instant::now() + most;
    let mut far = None;
    loop {
        // It is answered as soon as there is room for the model, loaded or not.
        let asked = prepared(bus, &question, meta, &mut waits);
        let prepared = timeout_at(patience, asked).await.map_err(|_| no_room())?;
        let prepared = prepared.map_err(RequestError::into_fault)?;
        let state = prepared.state.unwrap_or_default();
        match state.status() {
            Status::Ready => {
                return Ok(Ready {
                    id: state.model,
                    name: state.name,
                    starter: prepared.starter,
                    passed_over: prepared.missing.len(),
                    instead_of: prepared.missing.into_iter().next().unwrap_or_default(),
                });
            }
            // One that a character wants, and that can't be run: the next one is asked for.
            Status::Failed if !wanted.is_empty() && failed.as_ref() != Some(&state.model) => {
                failed = Some(state.model);
                continue;
            }
            Status::Failed => {
                return Err(state.fault.unwrap_or_else(|| {
                    Fault::model_failed("The model can't be used")
                        .with_what_to_do("Choose another one: `aico model list`.")
                }));
            }
            Status::Starting | Status::Stopped | Status::Unspecified => {}
        }
        let now = (state.model, state.loading_percent);
        if far.as_ref() != Some(&now) {
            far = Some(now);
            patience = Instant::now() + most;
        }
        let changed = timeout_at(patience, changes.recv()).await;
        if changed.map_err(|_| too_long())?.is_none() {
            return Err(Fault::locked());
        }
    }
}

/// The answer, once there is room for the model.
async fn prepared(
    bus: &Client,
    question: &v1::PrepareModel,
    meta: &Meta,
    waits: &mut impl FnMut(u32),
) -> Result<v1::PreparedModel, RequestError> {
    let asked = bus.open_stream(MODELS_PREPARE, question, meta.clone());
    let mut answers: ReplyStream<v1::PreparedModel> = asked.await?;
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        match answer.waiting {
            Some(before) => waits(before),
            None => return Ok(answer),
        }
    }
    Err(RequestError::ServerGone)
}

fn no_room() -> Fault {
    Fault::busy("Other models are still answering, and there is no room for this one beside them")
        .with_what_to_do(
            "Try again later, or use a model that is loaded: `aico model ps`. `models.loaded` says \
             how many may be at once.",
        )
}

fn too_long() -> Fault {
    Fault::model_failed("The model takes too long to start")
        .with_what_to_do("See `aico status`; a smaller model starts faster.")
}

/// Has what was kept of a conversation's prompt handed to the model. It saves reading it again;
/// without it the answer is the same.
pub(crate) async fn recall(bus: &Client, person: PersonId, conversation: &[u8], model: &[u8]) {
    let question = v1::RecallPrompt {
        cache_key: conversation.to_vec(),
        model: model.to_vec(),
    };
    let asked = bus.request::<_, v1::Empty>(MODELS_RECALL, &question, Meta::for_person(person));
    let _not_kept = tokio::time::timeout(RECALL_LIMIT, asked).await;
}

/// Has nothing of a conversation's prompt kept any longer.
pub(crate) async fn discard(bus: &Client, person: PersonId, conversation: &[u8]) {
    let question = v1::DiscardPrompt {
        cache_key: conversation.to_vec(),
    };
    let asked = bus.request::<_, v1::Empty>(MODELS_DISCARD, &question, Meta::for_person(person));
    if !matches!(
        tokio::time::timeout(RECALL_LIMIT, asked).await,
        Ok(Ok(v1::Empty {}))
    ) {
        tracing::debug!("what was kept of a conversation's prompt could not be removed now");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aico_bus::{AllowAll, Bus, Identity, Request};

    use super::*;

    /// What whoever waits for a model is told, where its questions are dealt with like that.
    async fn told(deal: impl Fn(Request) -> Option<Request>) -> (Fault, Priority) {
        let bus = Bus::new(Arc::new(AllowAll));
        let manager = bus.join(Identity::new("models"));
        let mut requests = manager.serve(MODELS_PREPARE, 4).unwrap();
        let client = bus.join(Identity::new("companion"));
        let meta = Meta::for_person(PersonId::new()).priority(Priority::Interactive);
        let most = Duration::from_millis(200);
        let waiting = ready_within(most, &client, &meta, &[], |_| {});
        tokio::pin!(waiting);
        let mut kept = Vec::new();
        let mut priority = Priority::Unspecified;
        loop {
            tokio::select! {
                ready = &mut waiting => return (ready.err().unwrap(), priority),
                Some(request) = requests.recv() => {
                    priority = request.envelope.priority();
                    kept.extend(deal(request));
                }
            }
        }
    }

    #[tokio::test]
    async fn waiting_for_others_and_a_load_that_stands_still_are_told_apart() {
        let (fault, priority) = told(Some).await;
        assert_eq!(
            (fault.code.as_str(), priority),
            ("busy", Priority::Interactive)
        );
        assert!(fault.title.starts_with("Other models are still answering"));
        let starting = |request: Request| {
            let state = v1::ModelState {
                status: Status::Starting.into(),
                ..v1::ModelState::default()
            };
            request.reply(v1::PreparedModel {
                state: Some(state),
                ..v1::PreparedModel::default()
            });
            None
        };
        let (fault, _) = told(starting).await;
        assert_eq!(fault.title, "The model takes too long to start");
    }

    #[tokio::test]
    async fn who_waits_for_room_hears_how_many_are_before() {
        let bus = Bus::new(Arc::new(AllowAll));
        let manager = bus.join(Identity::new("models"));
        let mut requests = manager.serve(MODELS_PREPARE, 4).unwrap();
        let client = bus.join(Identity::new("companion"));
        let dealt = tokio::spawn(async move {
            let request = requests.recv().await.unwrap();
            assert_eq!(request.envelope.purpose, PLACES);
            let mut back = request.stream();
            for before in [2, 0] {
                let place = v1::PreparedModel {
                    waiting: Some(before),
                    ..v1::PreparedModel::default()
                };
                back.send(place).await.unwrap();
            }
            let state = v1::ModelState {
                status: Status::Ready.into(),
                name: "m".into(),
                ..v1::ModelState::default()
            };
            back.end(v1::PreparedModel {
                state: Some(state),
                ..v1::PreparedModel::default()
            });
        });
        let mut places = Vec::new();
        let hears = |before| places.push(before);
        let ready = ready(&client, PersonId::new(), Priority::Interactive, &[], hears).await;
        assert_eq!(ready.ok().unwrap().name, "m");
        assert_eq!(places, [2, 0]);
        dealt.await.unwrap();
    }
}
