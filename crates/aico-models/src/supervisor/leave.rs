//! `models.unload`: somebody needs a model no longer.
//!
//! It makes nobody else wait for theirs: a model that answers, is being loaded, or is pinned stays.
//! Another program's models are held to the same by its [`Backend`](crate::backend::Backend).

use aico_bus::Request;
use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::v1::{self, Empty, Fault};

use super::manager::Manager;
use crate::backend::Asker;

impl Manager {
    pub(super) async fn unload_asked(&mut self, request: Request) {
        let id = match request.decode::<v1::UnloadModel>() {
            Ok(asked) => ModelId::from_slice(&asked.id)
                .map_err(|_| Fault::not_found("There is no such model")),
            Err(fault) => Err(fault),
        };
        let id = match id {
            Ok(id) => id,
            Err(fault) => return request.fault(fault),
        };
        if let Some(model) = self.router.backends.find(id) {
            let asker = Asker {
                person: PersonId::from_slice(&request.envelope.person).ok(),
            };
            // The program may take a moment, and nobody else waits for it.
            self.transfers.spawn(async move {
                let backend = &model.engine.backend;
                let unloaded = async {
                    backend.permits(&asker).await?;
                    backend.unload(&model.name).await
                };
                match unloaded.await {
                    Ok(()) => request.reply(Empty {}),
                    Err(error) => request.fault(error.to_fault(backend.name())),
                }
            });
            return;
        }
        match self.leave(id) {
            Ok(()) => request.reply(Empty {}),
            Err(fault) => request.fault(fault),
        }
        self.tell();
    }

    fn leave(&mut self, id: ModelId) -> Result<(), Fault> {
        let Some(slot) = self.slot_of(id) else {
            return Ok(());
        };
        if slot.model.pinned {
            return Err(Fault::conflict("The model is pinned: it stays in memory")
                .with_what_to_do("Let it go first: `aico model unpin NAME`."));
        }
        if !slot.is_inside() {
            // It takes nothing, and stays to say why it failed.
            return Ok(());
        }
        let in_use = || Fault::conflict("Somebody is being answered by this model");
        let loads = slot.process_id() != 0 && slot.status != v1::model_state::Status::Ready;
        let number = slot.number;
        if loads || !self.unload(number) {
            return Err(in_use().with_what_to_do("It is unloaded by itself when nobody asks it."));
        }
        tracing::info!(
            slot = number,
            "It was unloaded because somebody asked for it."
        );
        Ok(())
    }
}
