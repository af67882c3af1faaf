//! Why a model that was asked for by its name, and no other in its place, can't be had.

use aico_contracts::v1::{Fault, Priority};

use super::files::{self, Presence};
use super::manager::{Manager, presence};
use super::prepare::called;
use super::registry::ModelRecord;
use super::room::Room;
use crate::backend::{Asker, Capability};

impl Manager {
    /// Of the model of this name that comes nearest to being had.
    pub(super) async fn why_not(&self, models: &[ModelRecord], name: &str, asker: &Asker) -> Fault {
        if let Some(model) = called(models, name).first() {
            return self.why_not_own(model).await;
        }
        let beside = self.router.backends.wanted(name, Capability::Chat);
        let chosen = self.router.chosen.get();
        let chosen = chosen.filter(|model| model.id.to_string() == name);
        match beside.first().or(chosen.as_ref()) {
            Some(model) => model.why_not(asker).await,
            None => Fault::not_found("There is no such model"),
        }
    }

    async fn why_not_own(&self, model: &ModelRecord) -> Fault {
        match presence(model).await {
            Presence::Missing if !model.starter => return files::missing(model),
            Presence::Changed if !model.starter => return files::damaged(model),
            _ => {}
        }
        if self.is_left_out(model) {
            let slot = self.slot_of(model.id);
            let told = slot.and_then(|slot| slot.state().fault);
            return told.unwrap_or_else(|| {
                Fault::model_failed("The model could not be loaded a moment ago").with_what_to_do(
                    "It is tried again in some minutes, or when it is chosen: `aico model use`.",
                )
            });
        }
        match self.room_for(model, Priority::Background).await {
            Room::Never(fault) => fault,
            // It could be had since.
            Room::After(_) | Room::Later => Fault::busy("The model could not be had just now"),
        }
    }
}
