//! `models.prepare`: the model that a question wants, loaded before the question is asked.
//!
//! One model is loaded at a time. Another one takes its place only while nobody is being answered,
//! and not before whoever was told that it is ready had time to ask; questions for it wait in the
//! order in which they came, and questions for the loaded one that come later wait behind them, so
//! that nobody waits for ever. The choice for everybody stays what it is: whoever names no model
//! gets that one.

use std::time::{Duration, Instant};

use aico_bus::Request;
use aico_characters::is_wanted;
use aico_contracts::ids::ModelId;
use aico_contracts::topics;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Fault};

use super::files::Presence;
use super::manager::{Manager, look, registry_fault};
use super::memory;
use super::registry::ModelRecord;

/// What whoever was told that a model is ready gets to ask their question.
const LEASE: Duration = Duration::from_secs(1);
/// How often it is looked whether the loaded model is still answering.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a model that could not be loaded is left out.
const LEFT_OUT: Duration = Duration::from_secs(10 * 60);
/// Names of models in one question.
const MOST: usize = 256;

/// A question for a model that waits to be answered.
pub(super) enum Wish {
    /// For the first of these that can be had.
    Prepare(Request, Vec<String>),
    /// For the one that is chosen for everybody.
    State(Request),
}

impl Wish {
    fn wanted(&self) -> &[String] {
        match self {
            Self::Prepare(_, wanted) => wanted,
            Self::State(_) => &[],
        }
    }

    fn reply(self, state: v1::ModelState, starter: bool, missing: Vec<String>) {
        match self {
            Self::State(request) => request.reply(state),
            Self::Prepare(request, _) => request.reply(v1::PreparedModel {
                state: Some(state),
                starter,
                missing,
            }),
        }
    }

    fn fault(self, fault: Fault) {
        match self {
            Self::State(request) | Self::Prepare(request, _) => request.fault(fault),
        }
    }
}

impl Manager {
    pub(super) async fn prepare(&mut self, request: Request) {
        match request.decode::<v1::PrepareModel>() {
            Ok(asked) if asked.wanted.len() > MOST => {
                request.fault(Fault::too_long("Too many models are named"));
            }
            Ok(asked) => self.wish(Wish::Prepare(request, asked.wanted)).await,
            Err(fault) => request.fault(fault),
        }
    }

    pub(super) async fn wish(&mut self, wish: Wish) {
        // The usual case, between a question and its answer: nothing is read for it.
        let chosen = self.model.as_ref().filter(|model| model.active);
        if let Some(chosen) = chosen
            && wish.wanted().is_empty()
            && self.wishes.is_empty()
            && self.state.borrow().status() != Status::Stopped
        {
            self.asked = Instant::now();
            self.granted = Some(self.asked);
            let starter = chosen.starter;
            return wish.reply(self.state.borrow().clone(), starter, Vec::new());
        }
        self.wishes.push_back(wish);
        self.grant_wishes().await;
    }

    /// Answers those that wait, as far as they can be answered now.
    pub(super) async fn grant_wishes(&mut self) {
        self.look_again = None;
        while let Some(wish) = self.wishes.front() {
            let models = match self.registry.list().await {
                Ok(models) => models,
                Err(error) => {
                    let fault = registry_fault(&error);
                    if let Some(wish) = self.wishes.pop_front() {
                        wish.fault(fault);
                    }
                    continue;
                }
            };
            let (target, missing) = self.target(&models, wish.wanted()).await;
            let loaded = self.model.as_ref().map(|model| model.id);
            let is_it = target.as_ref().map(|model| model.id) == loaded;
            let stopped = self.state.borrow().status() == Status::Stopped;
            if !is_it && !stopped && self.in_use() {
                self.look_again = Some(tokio::time::Instant::now() + LOOK_AGAIN);
                return;
            }
            self.asked = Instant::now();
            let starter = target.as_ref().is_some_and(|model| model.starter);
            match target {
                // Nothing is chosen: that is told as it is at the start.
                None => self.start_active().await,
                Some(_) if is_it && !stopped => {}
                Some(target) => self.load(target).await,
            }
            self.granted = Some(Instant::now());
            if let Some(wish) = self.wishes.pop_front() {
                wish.reply(self.state.borrow().clone(), starter, missing);
            }
        }
    }

    async fn load(&mut self, target: ModelRecord) {
        self.end_run().await;
        self.crashes = 0;
        self.load_crashes = 0;
        self.model = Some(target);
        self.start().await;
    }

    /// The first of these that can be had, else the one that is chosen for everybody; and those
    /// that were passed over.
    async fn target(
        &self,
        models: &[ModelRecord],
        wanted: &[String],
    ) -> (Option<ModelRecord>, Vec<String>) {
        let loaded = self.model.as_ref().map(|model| model.id);
        let mut missing = Vec::new();
        for name in wanted {
            let mut found: Vec<_> = models
                .iter()
                .filter(|model| {
                    model.id.to_string() == *name
                        || is_wanted(name, &model.name, &model.path.to_string_lossy())
                })
                .collect();
            // Of several builds of one model the one that is in memory already.
            found.sort_by_key(|model| (Some(model.id) != loaded, !model.active));
            for model in found {
                if self.can_be_had(model).await {
                    return (Some(model.clone()), missing);
                }
            }
            missing.push(name.clone());
        }
        (models.iter().find(|model| model.active).cloned(), missing)
    }

    async fn can_be_had(&self, model: &ModelRecord) -> bool {
        let failed = self.failed.get(&model.id);
        if failed.is_some_and(|at| at.elapsed() < LEFT_OUT) {
            return false;
        }
        if self.run.is_some()
            && self
                .model
                .as_ref()
                .is_some_and(|loaded| loaded.id == model.id)
        {
            return true;
        }
        let need = |model| memory::need(model, self.config.context, self.config.sequences);
        // What the loaded one takes will be free.
        let loaded = match (&self.run, &self.model) {
            (Some(_), Some(loaded)) => need(loaded),
            _ => 0,
        };
        let (presence, available) = look(model).await;
        let there = model.starter || matches!(presence, Presence::Same | Presence::Touched);
        let available = available.map(|bytes| bytes.saturating_add(loaded));
        there && memory::check(need(model), available).is_ok()
    }

    /// Whether the loaded model may not be taken away now.
    fn in_use(&self) -> bool {
        if self.run.is_none() {
            return false;
        }
        let asking = self.granted.is_some_and(|at| at.elapsed() < LEASE);
        let loading = self.ready_since.is_none();
        let fresh = self.ready_since.is_some_and(|at| at.elapsed() < LEASE);
        loading || fresh || asking || self.is_answering()
    }

    /// Whether somebody is being answered, or waits to be.
    pub(super) fn is_answering(&self) -> bool {
        let servers = self.bus.stats().servers;
        servers
            .iter()
            .filter(|server| server.pattern == topics::MODELS_GENERATE)
            .any(|server| server.waiting + server.in_progress > 0)
    }

    /// Notes that the model could not be run: for a while it is not tried again on a wish.
    pub(super) fn leave_out(&mut self) {
        if let Some(model) = &self.model {
            self.failed.insert(model.id, Instant::now());
        }
    }

    /// A person has done something about it: it is tried again.
    pub(super) fn try_again(&mut self, id: ModelId) {
        self.failed.remove(&id);
    }
}
