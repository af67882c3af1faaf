//! What is asked of the registry: `models.list`, `add`, `use`, `remove` and `pin`.

use std::sync::Arc;
use std::time::Duration;

use aico_bus::Request;
use aico_contracts::Payload;
use aico_contracts::ids::ModelId;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Empty, Fault};
use futures_util::future::join_all;

use super::files::{self, Presence};
use super::heads::Heads;
use super::manager::{Manager, presence, registry_fault};
use super::prepare::Wish;
use super::registry::{Choice, ModelRecord};
use crate::backend::Capability;
use crate::capable;
use crate::gguf::SPEECHLESS;
use crate::router::BackendModel;

/// How old the lists of the programs beside us may be when models are listed.
const LISTED: Duration = Duration::from_secs(5);

impl Manager {
    pub(super) fn list(&mut self, request: Request) {
        let registry = Arc::clone(&self.registry);
        let (router, heads) = (self.router.clone(), self.heads.clone());
        let state = self.state_now();
        // Programs beside us may take a moment, and nobody else waits for them.
        self.transfers.spawn(async move {
            router.backends.refresh(LISTED).await;
            let models = match registry.list().await {
                Ok(models) => models,
                Err(error) => return request.fault(registry_fault(&error)),
            };
            let good_for = models.iter().map(|model| heads.capabilities(model));
            let good_for = join_all(good_for).await;
            let chosen = router.chosen.get();
            let slots = router.table.slots();
            let loaded = |id: ModelId| {
                let inside = |status| matches!(status, Status::Ready | Status::Starting);
                slots
                    .iter()
                    .any(|slot| slot.model == id && inside(slot.status))
            };
            let own = models
                .iter()
                .zip(good_for)
                .map(|(model, good_for)| v1::Model {
                    active: model.active && chosen.is_none(),
                    loaded: loaded(model.id),
                    capabilities: capable::names(&good_for),
                    ..model.to_message()
                });
            let mut items: Vec<_> = own.collect();
            items.extend(router.backends.messages(chosen.as_ref()));
            request.reply(v1::ModelList {
                items,
                state: Some(state),
            });
        });
    }

    async fn known(&mut self) -> Result<Vec<ModelRecord>, Fault> {
        let models = self.registry.list().await;
        let models = models.map_err(|error| registry_fault(&error))?;
        self.note_active(&models);
        Ok(models)
    }

    pub(super) fn add(&mut self, request: Request) {
        let heads = self.heads.clone();
        self.looking.spawn(async move {
            let looked = look(&heads, &request).await;
            (request, looked)
        });
    }

    pub(super) async fn added(
        &mut self,
        request: Request,
        looked: Result<(ModelRecord, Vec<Capability>), Fault>,
    ) {
        let added = match looked {
            Ok((record, capabilities)) => self.try_add(record).await.map(|record| v1::Model {
                capabilities: capable::names(&capabilities),
                ..record.to_message()
            }),
            Err(fault) => Err(fault),
        };
        match added {
            Ok(model) => request.reply(model),
            Err(fault) => request.fault(fault),
        }
    }

    async fn try_add(&mut self, mut record: ModelRecord) -> Result<ModelRecord, Fault> {
        let known = self.known().await?;
        let adapter = record.adapter.as_ref().map(|adapter| &*adapter.path);
        let old = known
            .into_iter()
            .find(|model| model.is_of(&record.path, adapter));
        if let Some(old) = old {
            if old.starter {
                return Ok(old);
            }
            record.id = old.id;
            record.active = old.active;
            record.pinned = old.pinned;
            self.try_again(old.id);
        }
        self.registry
            .put(record.clone())
            .await
            .map_err(|error| registry_fault(&error))?;
        // Large files take minutes to hash: the answer does not wait for it.
        let (noted, hashed) = (self.hashes.0.clone(), record.clone());
        tokio::task::spawn_blocking(move || {
            if let Some(hash) = files::hash(&hashed) {
                let _stopped = noted.blocking_send((hashed.id, hash));
            }
        });
        Ok(record)
    }

    pub(super) async fn note_hash(&mut self, id: ModelId, hash: [u8; 32]) {
        let parts = Arc::clone(&self.parts);
        for slot in self.slots.iter_mut().filter(|slot| slot.model.id == id) {
            slot.model.sha256 = Some(hash);
            slot.keep_prompts(&parts);
        }
        if let Err(error) = self.registry.set_hash(id, hash).await {
            tracing::warn!(%error, "The hash of a model file was not noted.");
        }
    }

    pub(super) async fn choose(&mut self, request: Request) {
        let chosen = match model_id::<v1::UseModel>(&request, |message| &message.id) {
            Ok(id) => self.try_choose(id).await,
            Err(fault) => Err(fault),
        };
        self.tell();
        match chosen {
            Ok(()) => request.reply(Empty {}),
            Err(fault) => request.fault(fault),
        }
    }

    pub(super) async fn try_choose(&mut self, id: ModelId) -> Result<(), Fault> {
        let known = self.known().await?;
        let Some(model) = known.into_iter().find(|model| model.id == id) else {
            return self.choose_beside(id).await;
        };
        if !chats(&model) {
            return Err(Fault::new(
                "model-not-capable",
                "This model makes vectors of texts and holds no conversation",
            )
            .with_what_to_do(
                "It is asked by its name where vectors are; choose another to talk.",
            ));
        }
        let presence = presence(&model).await;
        match presence {
            Presence::Same | Presence::Touched => {}
            // Its start mends it.
            _ if model.starter => {}
            Presence::Changed => return Err(files::damaged(&model)),
            Presence::Missing => return Err(files::missing(&model)),
        }
        self.try_again(id);
        self.registry
            .activate(id)
            .await
            .map_err(|error| registry_fault(&error))?;
        self.router.chosen.set(None);
        self.beside = None;
        self.known().await?;
        // One that runs goes on; one that failed, or whose file was written to, begins anew.
        let runs = |status| matches!(status, Status::Ready | Status::Starting);
        let stale = self
            .slot_of(id)
            .filter(|slot| presence != Presence::Same || !runs(slot.status))
            .map(|slot| slot.number);
        if let Some(number) = stale {
            self.end_slot(number);
        }
        self.end_needless_loads(Some(id));
        self.wish(Wish::Load).await;
        Ok(())
    }

    /// A model of a program beside us.
    async fn choose_beside(&mut self, id: ModelId) -> Result<(), Fault> {
        let mut found = self.router.backends.find(id);
        if found.is_none() {
            // It may just have come there.
            self.router.backends.refresh(LISTED).await;
            found = self.router.backends.find(id);
        }
        let Some(model) = found else {
            return Err(Fault::not_found("There is no such model"));
        };
        self.registry
            .choose(choice(&model))
            .await
            .map_err(|error| registry_fault(&error))?;
        self.note_beside(&model);
        self.router.chosen.set(Some(model));
        self.end_needless_loads(None);
        Ok(())
    }

    pub(super) async fn remove(&mut self, request: Request) {
        let removed = match model_id::<v1::RemoveModel>(&request, |message| &message.id) {
            Ok(id) => self.try_remove(id).await,
            Err(fault) => Err(fault),
        };
        self.tell();
        match removed {
            Ok(()) => request.reply(Empty {}),
            Err(fault) => request.fault(fault),
        }
    }

    async fn try_remove(&mut self, id: ModelId) -> Result<(), Fault> {
        let known = self.known().await?;
        let Some(model) = known.iter().find(|model| model.id == id) else {
            return Err(match self.router.backends.find(id) {
                Some(model) => not_ours(&model.engine.backend, "remove it there"),
                None => Fault::not_found("There is no such model"),
            });
        };
        if model.starter {
            return Err(Fault::conflict(
                "The starter model is part of AICO and stays",
            ));
        }
        self.registry
            .remove(id)
            .await
            .map_err(|error| registry_fault(&error))?;
        // The starter takes over, so that there is always somebody who answers.
        if model.active
            && let Some(starter) = known.iter().find(|model| model.starter)
        {
            let activated = self.registry.activate(starter.id).await;
            activated.map_err(|error| registry_fault(&error))?;
            // What is chosen of a program beside us stays chosen.
            if let Some(chosen) = self.router.chosen.get() {
                let again = self.registry.choose(choice(&chosen)).await;
                again.map_err(|error| registry_fault(&error))?;
            }
        }
        let slot = self.slot_of(id).map(|slot| slot.number);
        if let Some(number) = slot {
            self.end_slot(number);
        }
        self.known().await?;
        if model.active || slot.is_some() {
            self.wish(Wish::Load).await;
        }
        Ok(())
    }

    pub(super) async fn pin(&mut self, request: Request) {
        let pinned = self.try_pin(&request).await;
        self.tell();
        match pinned {
            Ok(()) => request.reply(Empty {}),
            Err(fault) => request.fault(fault),
        }
    }

    async fn try_pin(&mut self, request: &Request) -> Result<(), Fault> {
        let pin: v1::PinModel = request.decode()?;
        let unknown = || Fault::not_found("There is no such model");
        let id = ModelId::from_slice(&pin.id).map_err(|_| unknown())?;
        if let Some(model) = self.router.backends.find(id) {
            return Err(not_ours(
                &model.engine.backend,
                "tell it there what to keep",
            ));
        }
        let known = self.registry.pin(id, pin.pinned).await;
        if !known.map_err(|error| registry_fault(&error))? {
            return Err(unknown());
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.model.id == id) {
            slot.model.pinned = pin.pinned;
        }
        Ok(())
    }
}

fn choice(model: &BackendModel) -> Choice {
    Choice {
        backend: model.engine.backend.name().to_owned(),
        name: model.name.clone(),
    }
}

/// What is wanted of `models.add`: its file is looked at, and its adapter's.
async fn look(heads: &Heads, request: &Request) -> Result<(ModelRecord, Vec<Capability>), Fault> {
    let question: v1::AddModel = request.decode()?;
    let path = std::path::PathBuf::from(question.path);
    let adapter = question.adapter.map(std::path::PathBuf::from);
    if !path.is_absolute() || adapter.as_ref().is_some_and(|path| !path.is_absolute()) {
        return Err(Fault::invalid("The path of a model must be absolute"));
    }
    let looked = match adapter {
        None => heads.look(&path).await,
        Some(adapter) => heads.look_adapted(&path, &adapter).await,
    };
    let mut record = looked.map_err(|error| error.to_fault())?;
    let name = question.name.unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    if !name.trim().is_empty() {
        name.trim().clone_into(&mut record.name);
    }
    let good_for = heads.capabilities(&record).await;
    Ok((record, good_for))
}

/// Whether it goes on with a conversation, as far as its file told when it was added.
pub(super) fn chats(model: &ModelRecord) -> bool {
    !SPEECHLESS.contains(&model.architecture.as_str())
}

fn not_ours(backend: &Arc<dyn crate::backend::Backend>, what: &str) -> Fault {
    let name = backend.name();
    Fault::conflict(format!("The model is in the hands of {name}"))
        .with_what_to_do(format!("Use {name} itself: {what}."))
}

fn model_id<M: Payload>(
    request: &Request,
    id: impl FnOnce(&M) -> &Vec<u8>,
) -> Result<ModelId, Fault> {
    let message: M = request.decode()?;
    ModelId::from_slice(id(&message)).map_err(|_| Fault::not_found("There is no such model"))
}
