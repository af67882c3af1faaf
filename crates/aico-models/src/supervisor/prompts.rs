//! What others ask of kept prompts: `models.recall` and `models.discard`.

use aico_bus::Request;
use aico_contracts::Payload;
use aico_contracts::ids::PersonId;
use aico_contracts::v1::{self, Empty, Fault};

use super::keeper::Keeper;
use super::manager::Manager;
use crate::engine::llama;
use crate::process::launch::Control;
use crate::prompt_cache::Fingerprint;

impl Manager {
    /// Once there is a process that is ready, and the hash of its model.
    pub(super) fn keep_prompts(&mut self) {
        let model = self.model.as_ref().and_then(|model| model.sha256);
        let (Some(cache), Some(model), Some(_ready), None) =
            (&self.config.prompts, model, self.ready_since, &self.keeper)
        else {
            return;
        };
        let fingerprint =
            Fingerprint::new(&model, self.context, self.config.sequences, llama::LIBRARY);
        self.keeper = Some(Keeper::new(cache.clone(), self.client.clone(), fingerprint));
    }

    pub(super) fn recall(&mut self, request: Request) {
        let asked = of::<v1::RecallPrompt>(&request, |message| message.cache_key);
        match (asked, self.keeper.clone()) {
            (Err(fault), _) => request.fault(fault),
            (Ok(_), None) => request.reply(Empty {}),
            (Ok((person, key)), Some(keeper)) => {
                self.transfers.spawn(async move {
                    keeper.recall(person, key).await;
                    request.reply(Empty {});
                });
            }
        }
    }

    pub(super) async fn discard(&mut self, request: Request) {
        let (person, key) = match of::<v1::DiscardPrompt>(&request, |message| message.cache_key) {
            Ok(asked) => asked,
            Err(fault) => return request.fault(fault),
        };
        if let Some(run) = &mut self.run {
            run.say(&Control::Discard(person, key.clone())).await;
        }
        let (keeper, cache) = (self.keeper.clone(), self.config.prompts.clone());
        self.transfers.spawn(async move {
            match (keeper, cache) {
                (Some(keeper), _) => keeper.discard(person, key).await,
                (None, Some(cache)) => {
                    let removed = move || cache.discard(person, &key);
                    let _removed = tokio::task::spawn_blocking(removed).await;
                }
                (None, None) => {}
            }
            request.reply(Empty {});
        });
    }
}

/// Whose conversation is meant, and which.
fn of<M: Payload>(
    request: &Request,
    key: impl FnOnce(M) -> Vec<u8>,
) -> Result<(PersonId, Vec<u8>), Fault> {
    let person = PersonId::from_slice(&request.envelope.person)
        .map_err(|_| Fault::invalid("The person's id has not 16 bytes"))?;
    Ok((person, key(request.decode()?)))
}
