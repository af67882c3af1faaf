//! What others ask of kept prompts: `models.recall` and `models.discard`.

use aico_bus::Request;
use aico_contracts::Payload;
use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::v1::{self, Empty, Fault};

use super::manager::Manager;
use crate::process::launch::Control;

impl Manager {
    /// Keeps the prompts of conversations that have gone quiet.
    pub(super) fn keep_quiet(&mut self) {
        while self.transfers.try_join_next().is_some() {}
        for slot in &self.slots {
            if let Some(keeper) = slot.keeper.clone() {
                self.transfers
                    .spawn(async move { keeper.keep_quiet().await });
            }
        }
    }

    pub(super) fn recall(&mut self, request: Request) {
        let asked =
            of::<v1::RecallPrompt, _>(&request, |message| (message.cache_key, message.model));
        let (person, (key, model)) = match asked {
            Ok(asked) => asked,
            Err(fault) => return request.fault(fault),
        };
        let model = match &model[..] {
            [] => self.active.as_ref().map(|model| model.id),
            bytes => ModelId::from_slice(bytes).ok(),
        };
        let slot = model.and_then(|model| self.slot_of(model));
        match slot.and_then(|slot| slot.keeper.clone()) {
            None => request.reply(Empty {}),
            Some(keeper) => {
                self.transfers.spawn(async move {
                    keeper.recall(person, key).await;
                    request.reply(Empty {});
                });
            }
        }
    }

    pub(super) async fn discard(&mut self, request: Request) {
        let asked = of::<v1::DiscardPrompt, _>(&request, |message| message.cache_key);
        let (person, key) = match asked {
            Ok(asked) => asked,
            Err(fault) => return request.fault(fault),
        };
        // A conversation may have gone on with several models.
        for slot in &mut self.slots {
            slot.say(&Control::Discard(person, key.clone())).await;
        }
        let inside = self.slots.iter().filter_map(|slot| slot.keeper.clone());
        // Those of processes that end may be writing just now.
        let leaving = self.leaving.values().filter_map(|one| one.keeper.clone());
        let keepers: Vec<_> = inside.chain(leaving).collect();
        let cache = self.parts.config.prompts.clone();
        self.transfers.spawn(async move {
            if let (true, Some(cache)) = (keepers.is_empty(), cache) {
                let key = key.clone();
                let removed = move || cache.discard(person, &key);
                let _removed = tokio::task::spawn_blocking(removed).await;
            }
            for keeper in keepers {
                keeper.discard(person, key.clone()).await;
            }
            request.reply(Empty {});
        });
    }
}

/// Whose conversation is meant, and which.
fn of<M: Payload, K>(request: &Request, key: impl FnOnce(M) -> K) -> Result<(PersonId, K), Fault> {
    let person = PersonId::from_slice(&request.envelope.person)
        .map_err(|_| Fault::invalid("The person's id has not 16 bytes"))?;
    Ok((person, key(request.decode()?)))
}
