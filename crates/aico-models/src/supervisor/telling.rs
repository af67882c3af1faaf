//! What the others are told: the state that is shown, the router's table, and who waits.

use std::collections::HashSet;

use aico_bus::Meta;
use aico_contracts::ids::ModelId;
use aico_contracts::topics;
use aico_contracts::v1;
use aico_contracts::v1::model_state::Status;

use super::manager::Manager;
use super::waiters;

impl Manager {
    /// The state that is shown: of the model that was asked last.
    fn headline(&self) -> v1::ModelState {
        if let Some(awaited) = &self.awaited {
            // It has no process yet: another one ends first.
            return v1::ModelState {
                status: Status::Starting.into(),
                model: awaited.id.to_vec(),
                name: awaited.name.clone(),
                ..v1::ModelState::default()
            };
        }
        let last = self.slots.iter().max_by_key(|slot| slot.used());
        match (last, &self.beside) {
            (Some(slot), Some((at, state))) if *at > slot.used() => state.clone(),
            (Some(slot), _) => slot.state(),
            (None, Some((_, state))) => state.clone(),
            (None, None) => match &self.nothing {
                Some(fault) => v1::ModelState {
                    status: Status::Failed.into(),
                    fault: Some(fault.clone()),
                    ..v1::ModelState::default()
                },
                None => v1::ModelState {
                    status: Status::Stopped.into(),
                    model: self.active.as_ref().map_or(Vec::new(), |it| it.id.to_vec()),
                    name: self
                        .active
                        .as_ref()
                        .map_or(String::new(), |it| it.name.clone()),
                    ..v1::ModelState::default()
                },
            },
        }
    }

    /// The state that was told last.
    pub(super) fn state_now(&self) -> v1::ModelState {
        self.state.borrow().clone()
    }

    /// Publishes what has changed, and lets the router know.
    pub(super) fn tell(&mut self) {
        for slot in &self.slots {
            self.router.table.put(slot.view(&self.parts.config));
        }
        self.tell_waiting();
        let mut now: Vec<_> = self
            .slots
            .iter()
            .map(|slot| (slot.number, slot.status))
            .collect();
        now.sort_by_key(|(number, _)| *number);
        let state = self.headline();
        // Whoever waits for another one than is shown looks again.
        if now == self.told && *self.state.borrow() == state {
            return;
        }
        self.told = now;
        for slot in &mut self.slots {
            slot.waiters.tell();
        }
        self.state.send_replace(state.clone());
        let published = self
            .parts
            .client
            .publish(topics::MODELS_STATE, &state, Meta::default());
        if let Err(error) = published {
            tracing::warn!(%error, "The state of the model was not published.");
        }
    }

    /// Lets the figures know who waits before there is a model to put the question to.
    fn tell_waiting(&mut self) {
        for slot in &mut self.slots {
            if slot.status != Status::Starting {
                slot.waiters.clear();
            }
        }
        let mut all: Vec<(ModelId, &str, u32)> = Vec::new();
        let loading = self.slots.iter().map(|slot| {
            let model = &slot.model;
            (model.id, model.name.as_str(), slot.waiters.count())
        });
        // Who looks again while their model is being loaded is counted with it already.
        let mut counted = HashSet::new();
        let wishes = self.wishes.iter().filter_map(|wish| {
            let (id, name) = wish.waits_for(self.active.as_ref())?;
            let question = waiters::key(wish.question()?);
            let mut slots = self.slots.iter().filter(|slot| slot.model.id == id);
            let is_new = !slots.any(|slot| slot.waiters.has(&question));
            (is_new && counted.insert((id, question))).then_some((id, name, 1))
        });
        for (id, name, count) in loading.chain(wishes).filter(|(.., count)| *count > 0) {
            match all.iter_mut().find(|(model, ..)| *model == id) {
                Some((.., sum)) => *sum = sum.saturating_add(count),
                None => all.push((id, name, count)),
            }
        }
        self.router.wait_outside(&all);
    }
}
