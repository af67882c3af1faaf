//! Waiting for the model: a question that comes while it starts is not refused.

use std::time::Duration;

use aico_bus::{Client, Meta, Queue};
use aico_contracts::ids::PersonId;
use aico_contracts::topics::{MODELS_DISCARD, MODELS_GET_STATE, MODELS_RECALL, MODELS_STATE};
use aico_contracts::v1::{self, Fault, model_state::Status};

/// How long a start may take before the person is told. Loading tens of gigabytes from a slow
/// disk takes minutes.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long an answer waits for a kept prompt. What takes longer is read anew meanwhile.
const RECALL_LIMIT: Duration = Duration::from_secs(3);

/// Waits until a model can answer; gives its name.
pub(crate) async fn ready(bus: &Client) -> Result<String, Fault> {
    let waited = tokio::time::timeout(PATIENCE, wait(bus)).await;
    waited.unwrap_or_else(|_| {
        Err(Fault::model_failed("The model takes too long to start")
            .with_what_to_do("See `aico status`; a smaller model starts faster."))
    })
}

/// Has what was kept of a conversation's prompt handed to the model. It saves reading it again;
/// without it the answer is the same.
pub(crate) async fn recall(bus: &Client, person: PersonId, conversation: &[u8]) {
    let question = v1::RecallPrompt {
        cache_key: conversation.to_vec(),
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

async fn wait(bus: &Client) -> Result<String, Fault> {
    // Subscribed before asking: a change between the two is not missed.
    let mut changes = bus
        .subscribe(MODELS_STATE, Queue::default())
        .map_err(|_| Fault::internal("The model's state can't be followed"))?;
    loop {
        let state: Result<v1::ModelState, _> = bus
            .request(MODELS_GET_STATE, &v1::Empty {}, Meta::new())
            .await;
        let state = state.map_err(aico_bus::RequestError::into_fault)?;
        match state.status() {
            Status::Ready => return Ok(state.name),
            Status::Failed => {
                return Err(state.fault.unwrap_or_else(|| {
                    Fault::model_failed("The model can't be used")
                        .with_what_to_do("Choose another one: `aico model list`.")
                }));
            }
            Status::Starting | Status::Stopped | Status::Unspecified => {}
        }
        if changes.recv().await.is_none() {
            return Err(Fault::locked());
        }
    }
}
