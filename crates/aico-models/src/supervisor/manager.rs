//! The task that owns the truth about models.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_bus::link::Listener;
use aico_bus::{Bus, Client, Identity, Meta, Request, Requests};
use aico_contracts::ids::ModelId;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Empty, Fault};
use aico_contracts::{Payload, topics};
use aico_store::{RegistryError, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::child::{News, Run, Starter};
use super::files::{self, Presence};
use super::keeper::Keeper;
use super::prepare::Wish;
use super::registry::{ModelRecord, ModelRegistryStore};
use super::{
    MANAGER, ManagerConfig, ManagerError, Order, PROCESS, StartWhen, backoff, memory, scratch,
};
use crate::process::launch::{self, Control, Failure, Launch, Report};
use crate::prompt_cache::PromptCache;

/// Crashes while loading after which a model is given up until the person acts.
const LOAD_CRASHES: u32 = 3;
/// What the process gets to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// What keeping its prompts may take before that.
const KEEP: Duration = Duration::from_secs(2);

pub(super) struct Manager {
    pub(super) bus: Bus,
    pub(super) client: Client,
    listener: Arc<Listener>,
    pub(super) registry: Arc<dyn ModelRegistryStore>,
    pub(super) config: ManagerConfig,
    starter: Starter,
    topics: Topics,
    inbox: mpsc::Receiver<Order>,
    pub(super) state: watch::Sender<v1::ModelState>,
    /// The model that answers, as it was when its process started.
    pub(super) model: Option<ModelRecord>,
    pub(super) run: Option<Run>,
    /// The public key of its link.
    key: Option<String>,
    pub(super) ready_since: Option<Instant>,
    /// When somebody was about to ask a question, or an answer was being written.
    pub(super) asked: Instant,
    /// Keeps the prompts of the process that runs, once it is ready and its model's hash known.
    pub(super) keeper: Option<Keeper>,
    /// Tokens of a sequence of the process that is ready.
    pub(super) context: u32,
    /// Transfers of prompts.
    pub(super) transfers: JoinSet<()>,
    /// When it is started again, or given up while loading.
    timer: Option<tokio::time::Instant>,
    pub(super) crashes: u32,
    pub(super) load_crashes: u32,
    restarts: u32,
    /// Questions that wait for a model, in their order.
    pub(super) wishes: VecDeque<Wish>,
    /// When the first of them is looked at again.
    pub(super) look_again: Option<tokio::time::Instant>,
    /// When somebody was last told that the loaded model is theirs to ask.
    pub(super) granted: Option<Instant>,
    /// Models that could not be loaded, and when.
    pub(super) failed: HashMap<ModelId, Instant>,
    /// Hashes computed in the background.
    hashes: (mpsc::Sender<Hashed>, mpsc::Receiver<Hashed>),
}

type Hashed = (ModelId, [u8; 32]);

struct Topics {
    list: Requests,
    add: Requests,
    choose: Requests,
    remove: Requests,
    state: Requests,
    recall: Requests,
    discard: Requests,
    prepare: Requests,
}

impl Manager {
    pub(super) async fn new(
        bus: &Bus,
        listener: Arc<Listener>,
        registry: Arc<dyn ModelRegistryStore>,
        config: ManagerConfig,
        inbox: mpsc::Receiver<Order>,
    ) -> Result<(Self, watch::Receiver<v1::ModelState>), ManagerError> {
        let folder = config.scratch.clone();
        scratch::emptied(&folder).map_err(|source| ManagerError::Folder {
            path: folder,
            source,
        })?;
        let client = bus.join(Identity::new(MANAGER));
        let topics = Topics {
            list: client.serve(topics::MODELS_LIST, 4)?,
            add: client.serve(topics::MODELS_ADD, 1)?,
            choose: client.serve(topics::MODELS_USE, 1)?,
            remove: client.serve(topics::MODELS_REMOVE, 1)?,
            state: client.serve(topics::MODELS_GET_STATE, 16)?,
            recall: client.serve(topics::MODELS_RECALL, 16)?,
            discard: client.serve(topics::MODELS_DISCARD, 16)?,
            prepare: client.serve(topics::MODELS_PREPARE, 64)?,
        };
        let (state, watched) = watch::channel(v1::ModelState {
            status: Status::Stopped.into(),
            ..v1::ModelState::default()
        });
        let mut manager = Self {
            bus: bus.clone(),
            client,
            listener,
            registry,
            starter: Starter::new().map_err(ManagerError::Thread)?,
            config,
            topics,
            inbox,
            state,
            model: None,
            run: None,
            key: None,
            ready_since: None,
            asked: Instant::now(),
            keeper: None,
            context: 0,
            transfers: JoinSet::new(),
            timer: None,
            crashes: 0,
            load_crashes: 0,
            restarts: 0,
            wishes: VecDeque::new(),
            look_again: None,
            granted: None,
            failed: HashMap::new(),
            hashes: mpsc::channel(4),
        };
        manager.install_starter().await?;
        Ok((manager, watched))
    }

    /// Puts the starter in place and into the registry; it answers until another is chosen.
    async fn install_starter(&mut self) -> Result<(), ManagerError> {
        let Some(embedded) = self.config.starter else {
            return Ok(());
        };
        let folder = self.config.models.clone();
        let installed = tokio::task::spawn_blocking(move || {
            embedded
                .install(&folder)
                .map(|(path, hash)| (files::look(&path), hash))
        });
        let (looked, hash) = match installed.await {
            Ok(installed) => installed?,
            Err(_panicked) => return Err(crate::starter::StarterError::Damaged.into()),
        };
        let mut record = looked.map_err(|_| crate::starter::StarterError::Damaged)?;
        let known = self.registry.list().await?;
        let any_active = known.iter().any(|model| model.active);
        record.starter = true;
        record.sha256 = Some(hash);
        match known.into_iter().find(|model| model.starter) {
            Some(old) => {
                record.id = old.id;
                record.active = old.active || !any_active;
                // Nothing to write: it was there and is the one that answers or not, as before.
                if record == old {
                    return Ok(());
                }
            }
            None => record.active = !any_active,
        }
        self.registry.put(record).await?;
        Ok(())
    }

    pub(super) async fn run(mut self) {
        if self.config.start == StartWhen::Now {
            self.start_active().await;
        } else {
            self.tell(Status::Stopped, None);
        }
        let mut quiet = tokio::time::interval(self.config.quiet);
        quiet.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (timer, idle, look_again) = (self.timer, self.idle_at(), self.look_again);
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
                () = until(look_again) => self.grant_wishes().await,
                Some(request) = self.topics.list.recv() => self.list(request).await,
                Some(request) = self.topics.add.recv() => self.add(request).await,
                Some(request) = self.topics.choose.recv() => self.choose(request).await,
                Some(request) = self.topics.remove.recv() => self.remove(request).await,
                Some(request) = self.topics.recall.recv() => self.recall(request),
                Some(request) = self.topics.discard.recv() => self.discard(request).await,
                _ = quiet.tick() => {
                    while self.transfers.try_join_next().is_some() {}
                    if let Some(keeper) = self.keeper.clone() {
                        self.transfers.spawn(async move { keeper.keep_quiet().await });
                    }
                }
                Some((id, hash)) = self.hashes.1.recv() => {
                    if let Some(model) = self.model.as_mut().filter(|model| model.id == id) {
                        model.sha256 = Some(hash);
                        self.keep_prompts();
                    }
                    if let Err(error) = self.registry.set_hash(id, hash).await {
                        tracing::warn!(%error, "The hash of a model file was not noted.");
                    }
                }
                news = news(&mut self.run) => self.hear(news).await,
                () = until(timer) => self.timer_ended().await,
                () = until(idle) => self.unload_if_idle().await,
                order = self.inbox.recv() => match order {
                    Some(Order::Wake) => {
                        if self.run.is_none() && self.timer.is_none() {
                            self.start_active().await;
                        }
                    }
                    Some(Order::Forget(person)) => {
                        if let Some(run) = &mut self.run {
                            run.say(&Control::Forget(person)).await;
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
        }
    }

    async fn stop(mut self, done: Option<oneshot::Sender<()>>) {
        self.end_run().await;
        // They hold keys.
        self.transfers.shutdown().await;
        self.tell(Status::Stopped, None);
        if let Some(done) = done {
            let _nobody_waits = done.send(());
        }
    }

    /// When the process may have been idle for long enough; never while none is ready.
    fn idle_at(&self) -> Option<tokio::time::Instant> {
        let since = self.ready_since?.max(self.asked);
        Some(tokio::time::Instant::from_std(since) + self.config.idle_limit?)
    }

    /// Ends the process, unless it is answering: then it is looked at again later.
    async fn unload_if_idle(&mut self) {
        if self.is_answering() || !self.wishes.is_empty() {
            self.asked = Instant::now();
            return;
        }
        tracing::info!("Nobody asked for a while; the model is unloaded.");
        self.end_run().await;
        self.tell(Status::Stopped, None);
    }

    pub(super) async fn end_run(&mut self) {
        self.timer = None;
        self.ready_since = None;
        if let Some(keeper) = self.keeper.take() {
            // As many as can be: who locks or stops does not wait for long.
            let _some_are_lost = tokio::time::timeout(KEEP, keeper.keep_all()).await;
        }
        if let Some(run) = self.run.take() {
            run.end(GRACE).await;
        }
        self.revoke().await;
        self.empty_scratch().await;
    }

    /// Nothing that a process wrote outlives it.
    async fn empty_scratch(&self) {
        let folder = self.config.scratch.clone();
        let emptied = tokio::task::spawn_blocking(move || scratch::emptied(&folder)).await;
        if let Ok(Err(error)) = emptied {
            tracing::warn!(%error, "What the model process wrote could not be removed.");
        }
    }

    /// The key of a process that is gone opens nothing any more.
    async fn revoke(&mut self) {
        if let Some(key) = self.key.take() {
            self.listener.revoke_key(&key).await;
        }
    }

    /// Publishes a change of the state.
    fn tell(&self, status: Status, fault: Option<Fault>) {
        let state = v1::ModelState {
            status: status.into(),
            model: self
                .model
                .as_ref()
                .map(|model| model.id.to_vec())
                .unwrap_or_default(),
            name: self
                .model
                .as_ref()
                .map(|model| model.name.clone())
                .unwrap_or_default(),
            fault,
            process_id: self.run.as_ref().map_or(0, |run| run.process_id),
            restarts: self.restarts,
        };
        self.state.send_replace(state.clone());
        if let Err(error) = self
            .client
            .publish(topics::MODELS_STATE, &state, Meta::default())
        {
            tracing::warn!(%error, "The state of the model was not published.");
        }
    }

    fn fail(&mut self, fault: Fault) {
        tracing::warn!(code = fault.code, "The model can't be run.");
        self.leave_out();
        self.tell(Status::Failed, Some(fault));
    }

    /// Starts the process for the active model of the registry, counting from nothing.
    pub(super) async fn start_active(&mut self) {
        self.crashes = 0;
        self.load_crashes = 0;
        match self.registry.list().await {
            Ok(models) => self.model = models.into_iter().find(|model| model.active),
            Err(error) => return self.fail(registry_fault(&error)),
        }
        self.start().await;
    }

    pub(super) async fn start(&mut self) {
        let Some(model) = self.model.clone() else {
            return self.fail(
                Fault::new("no-model", "No model is chosen")
                    .with_what_to_do("Choose one: `aico model list`, `aico model use`."),
            );
        };
        let need = memory::need(&model, self.config.context, self.config.sequences);
        let (mut presence, available) = look(&model).await;
        if model.starter && presence != Presence::Same {
            // It is part of the program: what happened to its file is mended.
            match self.install_starter().await {
                Ok(()) => (presence, _) = look(&model).await,
                Err(error) => {
                    tracing::warn!(%error, "The starter model could not be put in place again.");
                }
            }
        }
        match presence {
            Presence::Missing => return self.fail(files::missing(&model)),
            Presence::Changed => return self.fail(files::damaged(&model)),
            Presence::Same | Presence::Touched => {}
        }
        if let Err(fault) = memory::check(need, available) {
            return self.fail(fault);
        }
        // The starter is small enough to be hashed each time; others when they were written to.
        let check = model.starter || presence == Presence::Touched;
        let credentials = self.listener.issue(Identity::new(PROCESS));
        self.key = Some(credentials.client_public.clone());
        let launch = Launch {
            version: launch::VERSION,
            link: credentials,
            model: model.path.clone(),
            id: model.id,
            size: model.size,
            sha256: if check {
                model.sha256.map(hex::encode)
            } else {
                None
            },
            scratch: self.config.scratch.clone(),
            threads: self.config.threads,
            context: self.config.context,
            sequences: self.config.sequences,
            most_kept: self.config.prompts.as_ref().map_or(0, PromptCache::most),
        };
        self.empty_scratch().await;
        match self.starter.run(self.config.program.clone(), &launch).await {
            Ok(run) => {
                self.run = Some(run);
                self.timer = Some(tokio::time::Instant::now() + self.config.load_limit);
                self.tell(Status::Starting, None);
            }
            Err(error) => {
                tracing::error!(%error, "The model process can't be started.");
                self.fail(
                    Fault::model_failed("The model process can't be started")
                        .with_detail(format!("{error}."))
                        .with_what_to_do("`aico doctor` tells more."),
                );
            }
        }
    }

    async fn hear(&mut self, news: News) {
        match news {
            News::Report(Report::Hello(confinement)) => {
                tracing::info!(
                    files = confinement.files,
                    calls = confinement.calls,
                    "The model process is confined as far as this system can."
                );
            }
            News::Report(Report::Ready { context }) => {
                self.timer = None;
                self.load_crashes = 0;
                self.ready_since = Some(Instant::now());
                self.context = context;
                self.keep_prompts();
                tracing::info!(context, "The model answers.");
                self.tell(Status::Ready, None);
            }
            // Written into the log where it was heard.
            News::Report(Report::Answered { .. }) => {}
            News::Report(Report::Failed(failure)) => {
                let fault = self.fault_of(&failure);
                self.end_run().await;
                self.fail(fault);
            }
            News::Ended(status) => {
                self.keeper = None;
                self.revoke().await;
                self.empty_scratch().await;
                self.ended(status);
            }
        }
    }

    fn fault_of(&self, failure: &Failure) -> Fault {
        let other = "Choose another model, or another file of this one.";
        match (failure, &self.model) {
            (Failure::Missing, Some(model)) => files::missing(model),
            (Failure::Damaged, Some(model)) => files::damaged(model),
            (Failure::Refused(reason), _) => {
                let known = crate::engine::known_reason(reason);
                Fault::new("model-refused", "The model can't be loaded")
                    .with_detail(known.map_or(String::new(), |reason| format!("Because {reason}.")))
                    .with_what_to_do(other)
            }
            (Failure::Template, _) => {
                Fault::new("model-template", "The model's chat template does not work")
                    .with_what_to_do(other)
            }
            (Failure::Memory, _) => {
                Fault::new("model-too-large", "The model does not fit into memory")
                    .with_what_to_do("Choose a smaller model, or set a smaller context.")
            }
            (Failure::Launch, _) => Fault::model_failed("The model process did not understand us")
                .with_what_to_do("AICO was replaced while it ran: start it again."),
            (Failure::Confinement | Failure::Link | Failure::Missing | Failure::Damaged, _) => {
                Fault::model_failed("The model process could not be set up")
                    .with_what_to_do("`aico doctor` tells more.")
            }
        }
    }

    /// The process ended by itself: again after a while, unless it can't even load.
    fn ended(&mut self, status: Option<std::process::ExitStatus>) {
        self.run = None;
        self.timer = None;
        let well = self
            .ready_since
            .is_some_and(|since| since.elapsed() >= backoff::WELL_AFTER);
        let was_ready = self.ready_since.take().is_some();
        if well {
            self.crashes = 0;
        }
        self.crashes += 1;
        if !was_ready {
            self.load_crashes += 1;
        }
        let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        tracing::warn!(
            status,
            was_ready,
            crashes = self.crashes,
            "The model process ended."
        );
        if self.load_crashes >= LOAD_CRASHES {
            return self.fail(
                Fault::model_failed("The model crashes whenever it is loaded")
                    .with_detail(format!(
                        "The process ended {LOAD_CRASHES} times ({status})."
                    ))
                    .with_what_to_do("Choose another model, or choose this one again to retry."),
            );
        }
        self.restarts += 1;
        let wait = backoff::wait(self.crashes, backoff::chance());
        self.timer = Some(tokio::time::Instant::now() + wait);
        self.tell(Status::Starting, None);
    }

    async fn timer_ended(&mut self) {
        self.timer = None;
        if let Some(run) = self.run.take() {
            tracing::warn!("The model took too long to load.");
            run.end(Duration::ZERO).await;
            self.revoke().await;
            self.fail(
                Fault::model_failed("The model took too long to load")
                    .with_what_to_do("Choose a smaller model, or choose this one again to retry."),
            );
        } else {
            self.start().await;
        }
    }

    async fn list(&mut self, request: Request) {
        match self.registry.list().await {
            Ok(models) => {
                let items = models.iter().map(ModelRecord::to_message).collect();
                let state = Some(self.state.borrow().clone());
                request.reply(v1::ModelList { items, state });
            }
            Err(error) => request.fault(registry_fault(&error)),
        }
    }

    async fn add(&mut self, request: Request) {
        match self.try_add(&request).await {
            Ok(model) => request.reply(model),
            Err(fault) => request.fault(fault),
        }
    }

    async fn try_add(&mut self, request: &Request) -> Result<v1::Model, Fault> {
        let question: v1::AddModel = request.decode()?;
        let path = std::path::PathBuf::from(question.path);
        if !path.is_absolute() {
            return Err(Fault::invalid("The path of a model must be absolute"));
        }
        let looked = tokio::task::spawn_blocking(move || files::look(&path)).await;
        let mut record = match looked {
            Ok(looked) => looked.map_err(|error| error.to_fault())?,
            Err(_panicked) => return Err(Fault::internal("Reading the model file failed")),
        };
        let known = self
            .registry
            .list()
            .await
            .map_err(|error| registry_fault(&error))?;
        if let Some(old) = known.into_iter().find(|model| model.path == record.path) {
            if old.starter {
                return Ok(old.to_message());
            }
            record.id = old.id;
            record.active = old.active;
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
        Ok(record.to_message())
    }

    async fn choose(&mut self, request: Request) {
        let chosen = match model_id::<v1::UseModel>(&request, |message| &message.id) {
            Ok(id) => self.try_choose(id).await,
            Err(fault) => Err(fault),
        };
        match chosen {
            Ok(()) => request.reply(Empty {}),
            Err(fault) => request.fault(fault),
        }
    }

    async fn try_choose(&mut self, id: ModelId) -> Result<(), Fault> {
        let known = self
            .registry
            .list()
            .await
            .map_err(|error| registry_fault(&error))?;
        let Some(model) = known.into_iter().find(|model| model.id == id) else {
            return Err(Fault::not_found("There is no such model"));
        };
        let looked = model.clone();
        match tokio::task::spawn_blocking(move || files::presence(&looked)).await {
            Ok(Presence::Same | Presence::Touched) => {}
            // Its start mends it.
            _ if model.starter => {}
            Ok(Presence::Changed) => return Err(files::damaged(&model)),
            _ => return Err(files::missing(&model)),
        }
        self.try_again(id);
        self.registry
            .activate(id)
            .await
            .map_err(|error| registry_fault(&error))?;
        self.end_run().await;
        self.start_active().await;
        Ok(())
    }

    async fn remove(&mut self, request: Request) {
        let removed = match model_id::<v1::RemoveModel>(&request, |message| &message.id) {
            Ok(id) => self.try_remove(id).await,
            Err(fault) => Err(fault),
        };
        match removed {
            Ok(()) => request.reply(Empty {}),
            Err(fault) => request.fault(fault),
        }
    }

    async fn try_remove(&mut self, id: ModelId) -> Result<(), Fault> {
        let known = self
            .registry
            .list()
            .await
            .map_err(|error| registry_fault(&error))?;
        let Some(model) = known.iter().find(|model| model.id == id) else {
            return Err(Fault::not_found("There is no such model"));
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
        let loaded = self.model.as_ref().is_some_and(|loaded| loaded.id == id);
        if model.active || loaded {
            // The starter takes over, so that there is always somebody who answers.
            if model.active
                && let Some(starter) = known.iter().find(|model| model.starter)
            {
                let activated = self.registry.activate(starter.id).await;
                activated.map_err(|error| registry_fault(&error))?;
            }
            self.end_run().await;
            self.start_active().await;
        }
        Ok(())
    }
}

fn model_id<M: Payload>(
    request: &Request,
    id: impl FnOnce(&M) -> &Vec<u8>,
) -> Result<ModelId, Fault> {
    let message: M = request.decode()?;
    ModelId::from_slice(id(&message)).map_err(|_| Fault::not_found("There is no such model"))
}

/// How the file of a model is, and the memory that is free.
pub(super) async fn look(model: &ModelRecord) -> (Presence, Option<u64>) {
    let model = model.clone();
    let found = tokio::task::spawn_blocking(move || (files::presence(&model), memory::available()));
    found.await.unwrap_or((Presence::Missing, None))
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
        _ => Fault::internal("The registry of models can't be used"),
    }
}

/// The next news of a run; never without one.
async fn news(run: &mut Option<Run>) -> News {
    match run {
        Some(run) => run.news().await,
        None => std::future::pending().await,
    }
}

async fn until(timer: Option<tokio::time::Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
