//! Taking slots for models, starting their processes, and having them ended.

use std::sync::Arc;
use std::time::Duration;

use aico_contracts::ids::ModelId;
use aico_contracts::v1::Priority;
use aico_contracts::v1::model_state::Status;

use super::ending::GRACE;
use super::files::Presence;
use super::manager::{Manager, presence};
use super::memory;
use super::registry::ModelRecord;
use super::slot::Slot;

/// How long a restart waits for room while others are answered.
const ROOM_AGAIN: Duration = Duration::from_millis(250);

impl Manager {
    /// Ends a slot unless somebody is answered by it. False: somebody is.
    pub(super) fn unload(&mut self, number: u32) -> bool {
        if !self.router.table.retire(number) {
            return false;
        }
        self.end_slot(number);
        true
    }

    /// Ends a slot, whoever is answered by it.
    pub(super) fn end_slot(&mut self, number: u32) {
        self.router.table.remove(number);
        let index = self.slots.iter().position(|slot| slot.number == number);
        if let Some(index) = index {
            let mut slot = self.slots.swap_remove(index);
            self.let_go(&mut slot, GRACE);
        }
    }

    /// Ends the process of a slot that has failed; the slot stays, to say why.
    pub(super) fn end_failed(&mut self, number: u32, grace: Duration) {
        let index = self.slots.iter().position(|slot| slot.number == number);
        if let Some(index) = index {
            let mut slot = self.slots.swap_remove(index);
            self.let_go(&mut slot, grace);
            self.slots.push(slot);
            self.leave_out(number);
        }
    }

    /// Ends what is being loaded for nobody but those who name no model, and who get another.
    pub(super) fn end_needless_loads(&mut self, chosen: Option<ModelId>) {
        let needless = |slot: &&Slot| slot.loads_unnamed() && Some(slot.model.id) != chosen;
        let slots = self.slots.iter().filter(needless);
        let numbers: Vec<_> = slots.map(|slot| slot.number).collect();
        for number in numbers {
            if self.unload(number) {
                tracing::info!(slot = number, "Another model was chosen; this load ends.");
            }
        }
    }

    /// Starts the process of a slot, where there is room for it.
    pub(super) async fn start_slot(&mut self, number: u32) {
        let Some(slot) = self.slots.iter().find(|slot| slot.number == number) else {
            return;
        };
        let model = slot.model.clone();
        let mut presence = presence(&model).await;
        if model.starter && presence != Presence::Same {
            // It is part of the program: what happened to its file is mended.
            match self.install_starter().await {
                Ok(()) => presence = self::presence(&model).await,
                Err(error) => {
                    tracing::warn!(%error, "The starter model could not be put in place again.");
                }
            }
        }
        let there = matches!(presence, Presence::Same | Presence::Touched);
        let room = match there {
            // Who waits for it is not known here; it is nobody's background work.
            true => self.make_room(&model, Priority::Normal).await,
            // Nobody has to go for one that can't be loaded.
            false => Ok(true),
        };
        let parts = Arc::clone(&self.parts);
        let Some(slot) = self.slot_mut(number) else {
            return;
        };
        match room {
            Ok(true) => slot.start(&parts, presence).await,
            Ok(false) => slot.restart_later(ROOM_AGAIN),
            // Not left out: what is short now may be there at the next question.
            Err(fault) => return slot.fail(fault),
        }
        if slot.status == Status::Failed {
            self.leave_out(number);
        }
    }

    /// Takes a slot for a model and starts its process.
    pub(super) async fn load(&mut self, model: ModelRecord) {
        let config = &self.parts.config;
        let need = memory::need(&model, config.context, config.sequences);
        // What failed before is told no longer. But whoever names no model goes on hearing why the
        // chosen one is left alone, and does not start it.
        let chosen = self.active.as_ref().map(|model| model.id);
        let rests = |slot: &Slot| Some(slot.model.id) == chosen && self.is_left_out(&slot.model);
        let stays = |slot: &Slot| slot.is_inside() || rests(slot);
        let old: Vec<_> = self
            .slots
            .iter()
            .filter(|&slot| slot.model.id == model.id || !stays(slot))
            .map(|slot| slot.number)
            .collect();
        for number in old {
            self.end_slot(number);
        }
        let free = (0..).find(|number| !self.is_taken(*number));
        let number = free.unwrap_or(u32::MAX);
        self.nothing = None;
        self.slots.push(Slot::new(number, model, need));
        self.start_slot(number).await;
    }
}
