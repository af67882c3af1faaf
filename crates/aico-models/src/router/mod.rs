//! Hands each question to what runs the model that it names: the slot of a model process, or a
//! program beside us.
//!
//! It serves `models.generate` and `models.count`, `models.pause` and `models.resume`, and tells
//! what goes on (`models.activity`). Payloads of questions are passed on as they are; of the
//! answers each piece is looked at, for the figures.
//!
//! - `table`: which slot answers for which model.
//! - `backends`: programs beside us; `gate` lets so many questions in at once, `breaker` leaves
//!   one alone that fails.
//! - `passing`: one question, from its coming to its end.
//! - `activity`: the figures; those of questions that others answer too: for vectors, and to the
//!   packages for texts (`packages`). `histogram` counts those that metrics tell.

mod activity;
mod backends;
mod breaker;
pub(crate) mod gate;
mod histogram;
pub(crate) mod packages;
mod passing;
pub mod table;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aico_bus::{BusError, Client, Request, Requests};
use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::topics::{self, slot_verb as verb};
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Empty, Fault};
use tokio::time::Instant;
use uuid::Uuid;

pub use activity::Activity;
pub use backends::{Backends, id_of};
pub use breaker::{Breaker, Circuit};

use crate::backend::InMemory;
use crate::supervisor::MemoryProbe;
pub(crate) use activity::Ticket;
use activity::{EVERY, Loaded, now_ms};
pub(crate) use backends::Model as BackendModel;
use table::Table;

/// Questions on their way at once; as many more wait before them.
const AT_ONCE: usize = 512;

/// What answers where no model is named.
#[derive(Clone, Default)]
pub(crate) struct Chosen(Arc<Mutex<Option<BackendModel>>>);

impl Chosen {
    /// The model of a program beside us that is chosen for everybody.
    pub(crate) fn get(&self) -> Option<BackendModel> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes it.
    pub(crate) fn set(&self, model: Option<BackendModel>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = model;
    }
}

/// The parts of the router. Clones are the same.
#[derive(Clone)]
pub struct Router {
    client: Client,
    /// Which slot answers for which model.
    pub table: Table,
    pub(crate) backends: Backends,
    pub(crate) chosen: Chosen,
    /// The packages for texts that are in memory.
    pub(crate) packages: packages::Packages,
    activity: Activity,
    memory: Arc<dyn MemoryProbe>,
    /// Models that may be in memory at once.
    most_loaded: u32,
    guard: Guard,
    /// In which slot a question is, for pause and resume.
    running: Arc<Mutex<HashMap<Uuid, u32>>>,
}

/// What it serves.
pub struct Topics {
    generate: Requests,
    count: Requests,
    pause: Requests,
    resume: Requests,
    activity: Requests,
}

impl Router {
    /// For these programs beside us, with so many models of our own in memory at most. The figures
    /// go on where they were.
    #[must_use]
    pub fn new(
        client: Client,
        backends: Backends,
        memory: Arc<dyn MemoryProbe>,
        most_loaded: u32,
        guard: Guard,
        activity: Activity,
    ) -> Self {
        Self {
            client,
            table: Table::default(),
            backends,
            chosen: Chosen::default(),
            packages: packages::Packages::new(activity.clone()),
            activity,
            memory,
            most_loaded,
            guard,
            running: Arc::default(),
        }
    }

    /// Serves its topics from now on.
    ///
    /// # Errors
    /// When they can't be served.
    pub fn serve(&self) -> Result<Topics, BusError> {
        Ok(Topics {
            generate: self.client.serve(topics::MODELS_GENERATE, AT_ONCE)?,
            count: self.client.serve(topics::MODELS_COUNT, 16)?,
            pause: self.client.serve(topics::MODELS_PAUSE, 16)?,
            resume: self.client.serve(topics::MODELS_RESUME, 16)?,
            activity: self.client.serve(topics::MODELS_ACTIVITY, 16)?,
        })
    }

    /// Answers until it is dropped.
    pub async fn run(self, mut topics: Topics) {
        let mut sample = tokio::time::interval(EVERY);
        sample.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sampling: Option<tokio::task::JoinHandle<()>> = None;
        loop {
            tokio::select! {
                Some(request) = topics.generate.recv() => {
                    tokio::spawn(self.clone().generate(request));
                }
                Some(request) = topics.count.recv() => {
                    tokio::spawn(self.clone().count(request));
                }
                Some(request) = topics.pause.recv() => {
                    tokio::spawn(self.clone().pause(request, verb::PAUSE));
                }
                Some(request) = topics.resume.recv() => {
                    tokio::spawn(self.clone().pause(request, verb::RESUME));
                }
                Some(request) = topics.activity.recv() => {
                    tokio::spawn(self.clone().tell_activity(request));
                }
                // One after the other: what is read late would be noted over what was read since.
                _ = sample.tick() => {
                    if sampling.as_ref().is_none_or(|before| before.is_finished()) {
                        let router = self.clone();
                        // It reads files of the system.
                        sampling = Some(tokio::task::spawn_blocking(move || router.sample()));
                    }
                }
                else => return,
            }
        }
    }

    async fn count(self, request: Request) {
        let question: v1::CountTokens = match request.decode() {
            Ok(question) => question,
            Err(fault) => return request.fault(fault),
        };
        let named = match asked_model(&question.model) {
            Ok(named) => named,
            Err(fault) => return request.fault(fault),
        };
        let backend = match named {
            Some(id) => self.backends.find(id),
            None => self.chosen.get(),
        };
        if let Some(model) = backend {
            let error = crate::backend::BackendError::NotCapable {
                what: "counting tokens",
            };
            let fault = error.to_fault(model.engine.backend.name());
            return request.fault(fault.with_detail(
                "Only AICO's own engine counts beforehand; another program tells with an answer \
                 how many tokens the question had.",
            ));
        }
        let entered = named
            .or_else(|| self.table.active())
            .and_then(|id| self.table.enter(id));
        let Some((slot, _flying)) = entered else {
            return request.fault(changed());
        };
        self.hand_on::<v1::TokenCount>(request, slot.number, verb::COUNT)
            .await;
    }

    async fn pause(self, request: Request, verb: &'static str) {
        // Both are the same on the wire; each is read as what it is.
        let named = match verb {
            verb::PAUSE => request.decode().map(|it: v1::PauseGeneration| it.request),
            _ => request.decode().map(|it: v1::ResumeGeneration| it.request),
        };
        let id = named.and_then(|bytes| {
            Uuid::from_slice(&bytes)
                .map_err(|_| Fault::invalid("The id of the request has not 16 bytes"))
        });
        match id {
            Err(fault) => request.fault(fault),
            Ok(id) => match self.slot_of(id) {
                Some(slot) => self.hand_on::<Empty>(request, slot, verb).await,
                None => request.reply(Empty {}),
            },
        }
    }

    /// A question that somebody else answers has come for this model; `engine` is what runs it,
    /// empty: our own engine.
    pub(crate) fn asked(
        &self,
        model: ModelId,
        name: &str,
        engine: &str,
        question: &v1::Envelope,
    ) -> Ticket {
        self.activity.begin(model, name, engine, question)
    }

    /// It ends: nobody waits any more, and who asked what is forgotten. The sums stay.
    pub(crate) fn ends(&self) {
        self.activity.wait_outside(&[]);
        self.activity.forget_requests();
    }

    /// Forgets who this person was.
    pub(crate) fn forget(&self, person: PersonId) {
        self.activity.forget(person);
    }

    /// A process of ours has this model in memory, and is ready.
    pub(crate) fn loaded(&self, model: ModelId, name: &str) {
        self.activity.loaded(model, name, "");
    }

    /// Who waits for models of our own engine before their questions come here.
    pub(crate) fn wait_outside(&self, all: &[(ModelId, &str, u32)]) {
        self.activity.wait_outside(all);
    }

    fn slot_of(&self, id: Uuid) -> Option<u32> {
        let running = self.running.lock();
        running
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .copied()
    }

    /// One question and one answer.
    async fn hand_on<R: aico_contracts::Payload>(self, request: Request, slot: u32, verb: &str) {
        let topic = topics::slot(slot, verb);
        let asked = self.client.pass_on::<R>(&request.envelope, &topic).await;
        let answer = match asked {
            Ok(mut answers) => answers.next().await,
            Err(error) => Some(Err(error)),
        };
        match answer {
            Some(Ok(answer)) => request.reply(answer),
            Some(Err(aico_bus::RequestError::Fault(fault))) => request.fault(fault),
            // The process is gone, and whoever asks is told so.
            Some(Err(_)) | None => drop(request),
        }
    }

    fn sample(&self) {
        let slots = self.table.slots().into_iter();
        let slots = slots.map(|slot| (slot.model, slot.name, "", slot.process_id));
        let packages = self.packages.all().into_iter();
        let packages = packages.map(|(id, one)| (id, one.name, packages::ENGINE, one.process_id));
        let loaded: Vec<_> = slots
            .chain(packages)
            .filter(|(.., process_id)| *process_id != 0)
            .map(|(model, name, engine, process_id)| {
                let usage = self.memory.process(process_id);
                Loaded {
                    model,
                    name,
                    engine,
                    process_id,
                    memory: usage.as_ref().map(|usage| usage.resident),
                    cpu: usage.map(|usage| usage.cpu),
                }
            })
            .collect();
        self.activity.sample(self.memory.available(), &loaded);
    }

    async fn tell_activity(self, request: Request) {
        let question: v1::ReadActivity = match request.decode() {
            Ok(question) => question,
            Err(fault) => return request.fault(fault),
        };
        let Ok(person) = PersonId::from_slice(&request.envelope.person) else {
            return request.fault(Fault::invalid("The person's id has not 16 bytes"));
        };
        let beside = self.backends.in_memory().await;
        let told = tokio::task::spawn_blocking(move || self.activity(person, &question, &beside));
        let told = told.await;
        match told {
            Ok(told) => request.reply(told),
            Err(_panicked) => request.fault(Fault::internal("The figures can't be told")),
        }
    }

    fn activity(
        &self,
        person: PersonId,
        question: &v1::ReadActivity,
        beside: &[(BackendModel, InMemory)],
    ) -> v1::ModelsActivity {
        let (at, now) = (now_ms(), crate::clock::now());
        let unix = |then: Instant| {
            let left = then.saturating_duration_since(now);
            at.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
        };
        let mut known: HashMap<ModelId, v1::ModelActivity> =
            self.activity.models().into_iter().collect();
        for (model, held) in beside {
            let engine = model.engine.backend.name();
            self.activity
                .held_beside(model.id, &model.name, engine, held.bytes);
            // Its figures may be gone from the log; it is there all the same.
            known.entry(model.id).or_insert_with(|| v1::ModelActivity {
                model: model.id.to_vec(),
                name: model.name.clone(),
                engine: engine.to_owned(),
                ..v1::ModelActivity::default()
            });
        }
        let chosen = self.chosen.get().map(|model| model.id);
        let active = chosen.or_else(|| self.table.active());
        let mut models = Vec::new();
        for slot in self.table.slots() {
            let usage = match slot.process_id {
                0 => None,
                process => self.memory.process(process),
            };
            let of = known.remove(&slot.model).unwrap_or_default();
            models.push(v1::ModelActivity {
                model: slot.model.to_vec(),
                name: slot.name,
                status: slot.status.into(),
                active: active == Some(slot.model),
                pinned: slot.pinned,
                memory_bytes: usage.map_or(0, |usage| usage.resident),
                idle_until_unix_ms: slot.idle_until.map_or(0, unix),
                places: slot.places,
                restarts: slot.restarts,
                process_id: slot.process_id,
                loading_percent: slot.loading_percent,
                device: slot.device.map(|device| v1::GraphicsDevice {
                    kind: device.kind.name().to_owned(),
                    name: device.name,
                    memory_bytes: device.total,
                    free_bytes: device.free,
                    shared: device.shared,
                }),
                fallback: slot.fallback,
                ..of
            });
        }
        for (id, package) in self.packages.all() {
            let usage = match package.process_id {
                0 => None,
                process => self.memory.process(process),
            };
            let of = known.remove(&id).unwrap_or_default();
            let is_idle = of.running == 0 && of.waiting == 0;
            models.push(v1::ModelActivity {
                model: id.to_vec(),
                name: package.name,
                engine: packages::ENGINE.to_owned(),
                status: package.status.into(),
                memory_bytes: usage.map_or(0, |usage| usage.resident),
                idle_until_unix_ms: package.idle_until.filter(|_| is_idle).map_or(0, unix),
                places: 1,
                process_id: package.process_id,
                ..of
            });
        }
        models.sort_by_key(|model| std::cmp::Reverse(model.process_id != 0));
        let mut others: Vec<_> = known.into_iter().collect();
        others.sort_by(|a, b| (&a.1.name, a.0).cmp(&(&b.1.name, b.0)));
        for (id, told) in others {
            let inside = beside.iter().find(|(model, _)| model.id == id);
            let of_backend = self.backends.find(id);
            let of_backend = of_backend.or_else(|| inside.map(|(model, _)| model.clone()));
            let resting = self.backends.resting(id);
            let status = match (&of_backend, resting) {
                (Some(_), None) => Status::Ready,
                (Some(_), Some(_)) => Status::Failed,
                (None, _) => Status::Stopped,
            };
            models.push(v1::ModelActivity {
                status: status.into(),
                active: active == Some(id),
                places: match &of_backend {
                    Some(model) => u32::try_from(model.engine.gate.at_once()).unwrap_or(u32::MAX),
                    None => u32::from(told.engine == packages::ENGINE),
                },
                memory_bytes: inside.map_or(0, |(_, one)| one.bytes),
                idle_until_unix_ms: match inside {
                    Some((_, one)) if told.running == 0 => one.until_unix_ms,
                    _ => 0,
                },
                resting_until_unix_ms: resting.map_or(0, unix),
                ..told
            });
        }
        v1::ModelsActivity {
            at_unix_ms: at,
            sample_every_ms: u64::try_from(EVERY.as_millis()).unwrap_or(0),
            memory_bytes: self.memory.total().unwrap_or(0),
            available_bytes: self.memory.available().unwrap_or(0),
            most_loaded: self.most_loaded,
            models,
            samples: self.activity.samples(question.after_unix_ms),
            requests: self.activity.requests(person),
        }
    }
}

/// The id of a model that a message names; `None`: it names none.
fn asked_model(bytes: &[u8]) -> Result<Option<ModelId>, Fault> {
    match bytes {
        [] => Ok(None),
        bytes => ModelId::from_slice(bytes)
            .map(Some)
            .map_err(|_| Fault::not_found("There is no such model")),
    }
}

/// What was prepared is not there any more: whoever asks prepares it again.
fn changed() -> Fault {
    Fault::new("model-changed", "Another model answers now")
}

/// What a program beside us may take in all, beyond the limits of its own.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    /// Until the first piece: a model may have to be loaded for it.
    pub first: Duration,
    /// Until the next.
    pub next: Duration,
}

impl Guard {
    /// Until the next piece of this answer: a call of a tool comes in one piece, and may be long.
    fn next_of(&self, question: &v1::Generate) -> Duration {
        match question.tools.is_empty() {
            true => self.next,
            false => self.next.max(self.first),
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(15 * 60),
            next: Duration::from_secs(5 * 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_a_tool_may_take_as_long_as_a_first_piece() {
        let guard = Guard::default();
        let mut question = v1::Generate::default();
        assert_eq!(guard.next_of(&question), guard.next);
        question.tools.push(v1::Tool::default());
        assert_eq!(guard.next_of(&question), guard.first);
    }
}
