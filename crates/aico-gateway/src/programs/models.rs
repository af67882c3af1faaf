//! What can be asked: the companion, as `aico`, and the model that answers now.
//!
//! One model runs at a time, and which one is the owner's choice: a program that could change it
//! would change it for everybody. So the list holds what can be asked, not every file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aico_bus::{Meta, Queue};
use aico_contracts::v1::{self, Fault, Priority, model_state::Status};
use aico_contracts::{ids::PersonId, topics};

use crate::app::App;
use crate::problem::{Code, Problem};

/// The companion's name among the models.
pub(crate) const COMPANION: &str = "aico";
/// What a request of another program is for, on the bus.
pub(crate) const PURPOSE: &str = "program";
/// Loading tens of gigabytes from a slow disk takes minutes.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a question waits for a kept prompt. What takes longer is read anew meanwhile.
const RECALL_LIMIT: Duration = Duration::from_secs(3);

/// One that can be asked.
pub(crate) enum Askable {
    /// The companion itself, with its memory.
    Companion,
    /// The model that answers now.
    Model(v1::Model),
}

impl Askable {
    /// The name by which programs know it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Companion => COMPANION.to_owned(),
            Self::Model(model) => name_of(model),
        }
    }

    /// When its file was last changed. The companion has none: the epoch.
    pub(crate) fn modified(&self) -> SystemTime {
        match self {
            Self::Companion => UNIX_EPOCH,
            Self::Model(model) => UNIX_EPOCH + Duration::from_millis(model.modified_unix_ms),
        }
    }
}

/// A name of the letters that every program takes for a model's.
fn name_of(model: &v1::Model) -> String {
    let mut name = String::new();
    for letter in model.name.chars() {
        let letter = letter.to_ascii_lowercase();
        if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_') {
            name.push(letter);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches('-');
    match name {
        "" => "model".to_owned(),
        COMPANION => format!("{COMPANION}-model"),
        name => name.to_owned(),
    }
}

/// As it was asked for: case, and the tag that Ollama adds by itself, do not count.
fn plain(asked: &str) -> String {
    let asked = asked.trim().to_ascii_lowercase();
    match asked.strip_suffix(":latest") {
        Some(name) => name.to_owned(),
        None => asked,
    }
}

/// All that can be asked, the companion first.
pub(crate) async fn all(app: &App, person: PersonId) -> Result<Vec<Askable>, Problem> {
    let mut all = vec![Askable::Companion];
    let models = listed(app, person).await?.items;
    let active = models.into_iter().filter(|model| model.active);
    all.extend(active.map(Askable::Model));
    Ok(all)
}

/// The one that is called so: by its name here, by the one that the person sees, or by its id.
/// `Err(true)`: it is there, and another answers now.
pub(crate) async fn find(
    app: &App,
    person: PersonId,
    asked: &str,
) -> Result<Result<Askable, bool>, Problem> {
    let asked = plain(asked);
    if asked == COMPANION {
        return Ok(Ok(Askable::Companion));
    }
    let is_it = |model: &v1::Model| {
        let id = uuid::Uuid::from_slice(&model.id).map(|id| id.to_string());
        asked == name_of(model) || asked == plain(&model.name) || id.is_ok_and(|id| id == asked)
    };
    let found: Vec<_> = listed(app, person)
        .await?
        .items
        .into_iter()
        .filter(is_it)
        .collect();
    let known = !found.is_empty();
    let active = found.into_iter().find(|model| model.active);
    Ok(active.map(Askable::Model).ok_or(known))
}

async fn listed(app: &App, person: PersonId) -> Result<v1::ModelList, Problem> {
    let meta = Meta::for_person(person)
        .purpose(PURPOSE)
        .priority(Priority::Normal)
        .deadline_in(app.limits.module_time);
    let asked = app
        .bus
        .request(topics::MODELS_LIST, &v1::ListModels {}, meta);
    Ok(asked.await?)
}

/// Whether the model is loaded.
pub(crate) async fn is_ready(app: &App) -> bool {
    app.model_state().await.status() == Status::Ready
}

/// Waits until the model can answer; asking starts it.
pub(crate) async fn ready(app: &App, person: PersonId) -> Result<(), Problem> {
    match tokio::time::timeout(PATIENCE, wait(app, person)).await {
        Ok(ready) => ready,
        Err(_) => {
            Err(Problem::from(Code::TookTooLong).with_detail("The model takes too long to start."))
        }
    }
}

/// Has what was kept of this conversation's prompt handed to the model. It saves reading it again;
/// without it the answer is the same.
pub(crate) async fn recall(app: &App, person: PersonId, cache_key: &[u8]) {
    let question = v1::RecallPrompt {
        cache_key: cache_key.to_vec(),
    };
    let meta = Meta::for_person(person)
        .purpose(PURPOSE)
        .priority(Priority::Normal);
    let asked = app
        .bus
        .request::<_, v1::Empty>(topics::MODELS_RECALL, &question, meta);
    let _not_kept = tokio::time::timeout(RECALL_LIMIT, asked).await;
}

async fn wait(app: &App, person: PersonId) -> Result<(), Problem> {
    // Subscribed before asking: a change between the two is not missed.
    let changes = app.bus.subscribe(topics::MODELS_STATE, Queue::default());
    let mut changes = changes.map_err(|_| Code::Internal)?;
    loop {
        let meta = Meta::for_person(person)
            .purpose(PURPOSE)
            .priority(Priority::Normal);
        let asked = app
            .bus
            .request(topics::MODELS_GET_STATE, &v1::Empty {}, meta);
        let state: v1::ModelState = asked.await?;
        match state.status() {
            Status::Ready => return Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_every_program_takes() {
        let name = |name: &str| {
            name_of(&v1::Model {
                name: name.into(),
                ..v1::Model::default()
            })
        };
        assert_eq!(name("Qwen3 8B (Q4_K_M)"), "qwen3-8b-q4_k_m");
        assert_eq!(name("größe/x"), "gr-e-x");
        assert_eq!(name(""), "model");
        assert_eq!(name("AICO"), "aico-model");
        assert_eq!(plain(" Aico:latest "), "aico");
        assert_eq!(plain("qwen3:8b"), "qwen3:8b");
    }
}
