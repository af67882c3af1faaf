//! The task that owns the truth about models.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aico_bus::link::Listener;
use aico_bus::{Bus, Client, Identity, Request, Requests};
use aico_contracts::ids::ModelId;
use aico_contracts::topics;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Fault};
use aico_store::{RegistryError, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

use super::child::{Launcher, News};
use super::ending::{GRACE, Leaving};
use super::ends::Ends;
use super::files::{self, Presence};
use super::graphics::Graphics;
use super::heads::Heads;
use super::places::Entrance;
use super::prepare::Wish;
use super::registry::{ModelRecord, ModelRegistryStore};
use super::room::Awaited;
use super::slot::{Due, Heard, Parts, Slot};
use super::{MANAGER, ManagerConfig, ManagerError, Order, StartWhen, scratch, transformers};
use crate::backend::Capability;
use crate::clock;
use crate::process::launch::Control;
use crate::router::{BackendModel, Router, Topics as Routed};

/// Questions for a model that may wait at once: more than all askers together have, of which those
/// for vectors are the most. What waits before these has no order of urgency, and even who wants a
/// model that is loaded would be kept out by others.
const PREPARED_AT_ONCE: usize = 4 * transformers::AT_ONCE;

pub(super) struct Manager {
    pub(super) parts: Arc<Parts>,
    pub(super) registry: Arc<dyn ModelRegistryStore>,
    pub(super) heads: Heads,
    pub(super) router: Router,
    topics: Topics,
    inbox: mpsc::Receiver<Order>,
    pub(super) state: watch::Sender<v1::ModelState>,
    /// The models in memory, and those that failed last.
    pub(super) slots: Vec<Slot>,
    /// How each was when it was last told.
    pub(super) told: Vec<(u32, Status)>,
    /// The model of our own engine that is chosen for everybody.
    pub(super) active: Option<ModelRecord>,
    /// Why there is nothing to load.
    pub(super) nothing: Option<Fault>,
    /// When the chosen model of a program beside us was last asked for.
    pub(super) beside: Option<(Instant, v1::ModelState)>,
    /// Transfers of prompts.
    pub(super) transfers: JoinSet<()>,
    /// The model that is being added: its file is looked at.
    pub(super) looking: JoinSet<Looked>,
    /// Processes that are being ended, and what they are.
    pub(super) endings: JoinSet<()>,
    pub(super) leaving: HashMap<task::Id, Leaving>,
    /// The model that the first wish waits to have room for.
    pub(super) awaited: Option<Awaited>,
    /// Packages that come in.
    pub(super) entrance: Entrance,
    /// Questions that wait for a model, in their order.
    pub(super) wishes: VecDeque<Wish>,
    /// When the first of them is looked at again.
    pub(super) look_again: Option<Instant>,
    /// When it was last looked how much memory is free.
    pub(super) memory_looked: Instant,
    /// Wishes that come back when it is known what the programs beside us offer.
    pub(super) later: (mpsc::Sender<Wish>, mpsc::Receiver<Wish>),
    /// Models that could not be loaded, and when.
    pub(super) failed: HashMap<ModelId, Instant>,
    /// Hashes computed in the background.
    pub(super) hashes: (mpsc::Sender<Hashed>, mpsc::Receiver<Hashed>),
    hung: mpsc::Receiver<(u32, u32)>,
}

pub(super) type Hashed = (ModelId, [u8; 32]);
/// Who adds a file, what it was found to be, and what that is good for.
pub(super) type Looked = (Request, Result<(ModelRecord, Vec<Capability>), Fault>);

struct Topics {
    list: Requests,
    add: Requests,
    choose: Requests,
    remove: Requests,
    pin: Requests,
    unload: Requests,
    state: Requests,
    recall: Requests,
    discard: Requests,
    prepare: Requests,
}

impl Topics {
    fn serve(client: &Client) -> Result<Self, aico_bus::BusError> {
        Ok(Self {
            list: client.serve(topics::MODELS_LIST, 16)?,
            add: client.serve(topics::MODELS_ADD, 1)?,
            choose: client.serve(topics::MODELS_USE, 1)?,
            remove: client.serve(topics::MODELS_REMOVE, 1)?,
            pin: client.serve(topics::MODELS_PIN, 1)?,
            unload: client.serve(topics::MODELS_UNLOAD, 16)?,
            state: client.serve(topics::MODELS_GET_STATE, 16)?,
            recall: client.serve(topics::MODELS_RECALL, 16)?,
            discard: client.serve(topics::MODELS_DISCARD, 16)?,
            prepare: client.serve(topics::MODELS_PREPARE, PREPARED_AT_ONCE)?,
        })
    }
}

impl Manager {
    pub(super) async fn new(
        bus: &Bus,
        listener: Arc<Listener>,
        registry: Arc<dyn ModelRegistryStore>,
        heads: Heads,
        config: ManagerConfig,
        launcher: Arc<dyn Launcher>,
        inbox: mpsc::Receiver<Order>,
    ) -> Result<(Self, watch::Receiver<v1::ModelState>, Routed), ManagerError> {
        let folder = config.scratch.clone();
        scratch::emptied(&folder).map_err(|source| ManagerError::Folder {
            path: folder,
            source,
        })?;
        let client = bus.join(Identity::new(MANAGER));
        let topics = Topics::serve(&client)?;
        let (state, watched) = watch::channel(v1::ModelState {
            status: Status::Stopped.into(),
            ..v1::ModelState::default()
        });
        let router = Router::new(
            client.clone(),
            config.backends.clone(),
            Arc::clone(&config.memory),
            config.loaded.max(1),
            config.guard,
            config.activity.clone(),
        );
        let routed = router.serve()?;
        let (hangs, hung) = mpsc::channel(4);
        let mut manager = Self {
            parts: Arc::new(Parts {
                client,
                listener,
                launcher,
                graphics: Graphics::new(config.gpu.clone()),
                ends: Ends::default(),
                config,
                hung: hangs,
            }),
            registry,
            heads,
            router,
            topics,
            inbox,
            state,
            slots: Vec::new(),
            told: Vec::new(),
            active: None,
            nothing: None,
            beside: None,
            transfers: JoinSet::new(),
            looking: JoinSet::new(),
            endings: JoinSet::new(),
            leaving: HashMap::new(),
            awaited: None,
            entrance: Entrance::new(),
            wishes: VecDeque::new(),
            look_again: None,
            memory_looked: clock::now(),
            later: mpsc::channel(64),
            failed: HashMap::new(),
            hashes: mpsc::channel(4),
            hung,
        };
        manager.install_starter().await?;
        if let Some(choice) = manager.registry.choice().await? {
            let model = manager.router.backends.named(&choice.backend, &choice.name);
            if model.is_none() {
                tracing::warn!("The chosen model's program is not configured any more.");
            }
            manager.router.chosen.set(model);
        }
        let models = manager.registry.list().await?;
        manager.note_active(&models);
        Ok((manager, watched, routed))
    }

    pub(super) async fn run(mut self) {
        if self.parts.config.start == StartWhen::Now {
            self.wish(Wish::Load).await;
        }
        self.tell();
        let mut quiet = tokio::time::interval(self.parts.config.quiet);
        quiet.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (due, look_again) = (self.due_at(), self.look_again);
            let memory = self.memory_at();
            tokio::select! {
                Some(request) = self.topics.state.recv() => {
                    // Who asks wants an answer soon, unless it is only a look.
                    let look = request.envelope.purpose == topics::LOOK;
                    if look {
                        let state = self.state.borrow().clone();
                        request.reply(state);
                    } else {
                        self.wish(Wish::State(request)).await;
                    }
                }
                Some(request) = self.topics.prepare.recv() => self.prepare(request).await,
                Some(request) = self.topics.unload.recv() => self.unload_asked(request).await,
                Some(wish) = self.later.1.recv() => self.wish(wish).await,
                Some(entry) = self.entrance.inbox.recv() => {
                    self.entrance.take(entry);
                    self.admit().await;
                }
                () = until(look_again) => self.grant_wishes().await,
                Some(ended) = self.endings.join_next_with_id() => {
                    let id = ended.map_or_else(|panicked| panicked.id(), |(id, ())| id);
                    self.gone(id).await;
                }
                Some(request) = self.topics.list.recv() => self.list(request),
                // One after the other. Reading a hostile file takes as long as it may, and
                // everything else goes on.
                Some(request) = self.topics.add.recv(), if self.looking.is_empty() => {
                    self.add(request);
                }
                Some(looked) = self.looking.join_next() => {
                    if let Ok((request, looked)) = looked {
                        self.added(request, looked).await;
                    }
                }
                Some(request) = self.topics.choose.recv() => self.choose(request).await,
                Some(request) = self.topics.remove.recv() => self.remove(request).await,
                Some(request) = self.topics.pin.recv() => self.pin(request).await,
                Some(request) = self.topics.recall.recv() => self.recall(request),
                Some(request) = self.topics.discard.recv() => self.discard(request).await,
                _ = quiet.tick() => self.keep_quiet(),
                Some((id, hash)) = self.hashes.1.recv() => self.note_hash(id, hash).await,
                (number, news) = news(&mut self.slots) => self.hear(number, news).await,
                Some((number, process)) = self.hung.recv() => {
                    if let Some(slot) = self.slot_mut(number) {
                        slot.hangs(process).await;
                    }
                }
                () = until(due) => self.handle_due().await,
                () = until(memory) => self.relieve().await,
                order = self.inbox.recv() => match order {
                    Some(Order::Wake) => {
                        if !self.slots.iter().any(Slot::is_inside) {
                            // What failed is tried again.
                            self.slots.clear();
                            self.wish(Wish::Load).await;
                        }
                    }
                    Some(Order::Forget(person)) => {
                        self.router.forget(person);
                        for slot in &mut self.slots {
                            slot.say(&Control::Forget(person)).await;
                        }
                    }
                    Some(Order::Choose(model)) => {
                        if let Err(fault) = self.try_choose(model).await {
                            tracing::warn!(code = fault.code, "A new model can't be used.");
                        }
                    }
                    Some(Order::Stop(done)) => return self.stop(Some(done)).await,
                    None => return self.stop(None).await,
                },
            }
            self.tell();
        }
    }

    async fn stop(mut self, done: Option<oneshot::Sender<()>>) {
        for mut slot in std::mem::take(&mut self.slots) {
            self.router.table.remove(slot.number);
            self.let_go(&mut slot, GRACE);
        }
        self.all_gone().await;
        // They hold keys.
        self.transfers.shutdown().await;
        self.looking.shutdown().await;
        self.beside = None;
        self.tell();
        self.router.ends();
        if let Some(done) = done {
            let _nobody_waits = done.send(());
        }
    }

    /// When the next thing is due: a restart, the end of a start, the end of an idle model.
    fn due_at(&self) -> Option<Instant> {
        let limit = self.parts.config.idle_limit;
        let of = |slot: &Slot| [slot.timer(), slot.idle_at(limit)];
        self.slots.iter().flat_map(of).flatten().min()
    }

    async fn handle_due(&mut self) {
        let now = clock::now();
        let limit = self.parts.config.idle_limit;
        let numbers: Vec<_> = self.slots.iter().map(|slot| slot.number).collect();
        for number in numbers {
            let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) else {
                continue;
            };
            if slot.timer().is_some_and(|at| at <= now) {
                match slot.timer_ended(&self.parts).await {
                    Due::Restart => self.start_slot(number).await,
                    // It does not even load: it is not waited for.
                    Due::HasToEnd => self.end_failed(number, Duration::ZERO),
                    Due::Other => {}
                }
            } else if slot.idle_at(limit).is_some_and(|at| at <= now) {
                if slot.flight.count() > 0 || !self.wishes.is_empty() {
                    // It is looked at again later.
                    slot.grant();
                } else if self.unload(number) {
                    tracing::info!(slot = number, "Nobody asked for a while; it was unloaded.");
                }
            }
        }
    }

    pub(super) fn slot_mut(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.number == number)
    }

    /// The slot of a model, loaded or failed.
    pub(super) fn slot_of(&self, model: ModelId) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.model.id == model)
    }

    async fn hear(&mut self, number: u32, news: News) {
        let parts = Arc::clone(&self.parts);
        let Some(slot) = self.slot_mut(number) else {
            return;
        };
        let before = slot.status;
        let heard = slot.hear(&parts, news).await;
        let (status, id, name) = (slot.status, slot.model.id, slot.model.name.clone());
        if status == Status::Ready && before != Status::Ready {
            self.router.loaded(id, &name);
        }
        match heard {
            Heard::HasToEnd(grace) => self.end_failed(number, grace),
            Heard::Nothing if status == Status::Failed => self.leave_out(number),
            Heard::Nothing => {}
        }
    }

    /// Notes which model of the registry answers where none is named.
    pub(super) fn note_active(&mut self, models: &[ModelRecord]) {
        self.active = models.iter().find(|model| model.active).cloned();
        let id = self.active.as_ref().map(|model| model.id);
        self.router.table.set_active(id);
    }

    /// Notes that a model could not be run: for a while it is not tried again on a wish.
    pub(super) fn leave_out(&mut self, number: u32) {
        let model = self.slot_mut(number).map(|slot| slot.model.id);
        if let Some(model) = model {
            self.failed.insert(model, clock::now());
        }
    }

    /// A person has done something about it: it is tried again.
    pub(super) fn try_again(&mut self, id: ModelId) {
        self.failed.remove(&id);
        self.parts.ends.forget(id);
        self.parts.graphics.try_again();
    }

    /// The chosen model of a program beside us was asked for.
    pub(super) fn note_beside(&mut self, model: &BackendModel) {
        self.beside = Some((clock::now(), model.state(None)));
    }
}

/// How the file of a model is.
pub(super) async fn presence(model: &ModelRecord) -> Presence {
    let model = model.clone();
    let found = tokio::task::spawn_blocking(move || files::presence(&model));
    found.await.unwrap_or(Presence::Missing)
}

pub(super) fn registry_fault(error: &StoreError) -> Fault {
    match error {
        StoreError::StorageFull
        | StoreError::Registry(RegistryError::StorageFull)
        | StoreError::Unacknowledged(RegistryError::StorageFull) => Fault::storage_full(),
        StoreError::StorageReadOnly
        | StoreError::Registry(RegistryError::StorageReadOnly)
        | StoreError::Unacknowledged(RegistryError::StorageReadOnly) => Fault::storage_read_only(),
        StoreError::Busy => Fault::busy("The registry of models can't be reached just now"),
        StoreError::Closed => Fault::locked(),
        error if error.is_disk_failure() => Fault::storage_failing(),
        _ => Fault::internal("The registry of models can't be used"),
    }
}

/// The next news of any process.
async fn news(slots: &mut [Slot]) -> (u32, News) {
    std::future::poll_fn(|cx| {
        for slot in slots.iter_mut() {
            if let std::task::Poll::Ready(news) = slot.poll_news(cx) {
                return std::task::Poll::Ready((slot.number, news));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn until(timer: Option<Instant>) {
    match timer {
        Some(at) => clock::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
