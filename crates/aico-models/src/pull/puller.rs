//! The task that answers for the catalogue and its downloads.
//!
//! One download runs at a time, the others wait their turn: they would share one connection to
//! the internet anyway. What a person asked for is noted in a file, so that it goes on after
//! the daemon was ended, however that was; nothing is begun that nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use aico_bus::{Bus, Identity, Request, Requests};
use aico_contracts::ids::ModelId;
use aico_contracts::v1::{self, Empty, Fault};
use aico_contracts::{Payload, topics};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::PullConfig;
use super::catalogue::{Catalogue, CatalogueError, Entry, Purpose};
use super::error::PullError;
use super::here::Here;
use super::job::Job;
use super::meter::{Meter, Phase};
use super::net::Tls;
use super::note::{self, Wanted};
use super::package::{self, Packages};
use super::{partial, tell};
use crate::supervisor::heads::Heads;
use crate::supervisor::{MANAGER, ModelRegistryStore, Order};
use crate::transformers::package::is_name;

/// Most downloads that run or wait.
const MOST: usize = 16;

/// A download that was asked for.
pub(super) struct Pull {
    entry: Entry,
    /// Only of one that converses.
    pub(super) use_then: bool,
    fresh: bool,
    /// The file was here when it was asked for: nobody agreed to a download.
    here: Option<PathBuf>,
    pub(super) meter: Arc<Meter>,
    pub(super) model: Option<ModelId>,
}

struct Running {
    name: String,
    stop: CancellationToken,
    task: JoinHandle<Result<(), PullError>>,
}

pub(crate) struct Puller {
    config: PullConfig,
    registry: Arc<dyn ModelRegistryStore>,
    heads: Heads,
    /// Context and sequences that the model process is started with.
    engine: (u32, u32),
    /// To the manager.
    orders: mpsc::Sender<Order>,
    topics: Topics,
    pulls: BTreeMap<String, Pull>,
    /// Names, in the order in which they were asked for.
    queue: Vec<String>,
    running: Option<Running>,
    /// Names of those whose file is here and was found to be another one by its hash.
    wrong: BTreeSet<String>,
    tls: Arc<Tls>,
    packages: Packages,
    stop: CancellationToken,
}

struct Topics {
    catalogue: Requests,
    pull: Requests,
    pulls: Requests,
    cancel: Requests,
    // Keeps the identity on the bus.
    _client: aico_bus::Client,
}

impl Puller {
    pub(crate) fn new(
        bus: &Bus,
        (registry, heads): (Arc<dyn ModelRegistryStore>, Heads),
        config: PullConfig,
        engine: (u32, u32),
        orders: mpsc::Sender<Order>,
        packages: Packages,
        stop: CancellationToken,
    ) -> Result<Self, aico_bus::BusError> {
        let client = bus.join(Identity::new(MANAGER));
        let topics = Topics {
            catalogue: client.serve(topics::MODELS_CATALOGUE, 4)?,
            pull: client.serve(topics::MODELS_PULL, 1)?,
            pulls: client.serve(topics::MODELS_PULLS, 16)?,
            cancel: client.serve(topics::MODELS_CANCEL_PULL, 1)?,
            _client: client,
        };
        Ok(Self {
            config,
            registry,
            heads,
            engine,
            orders,
            topics,
            pulls: BTreeMap::new(),
            queue: Vec::new(),
            running: None,
            wrong: BTreeSet::new(),
            tls: Arc::default(),
            packages,
            stop,
        })
    }

    pub(crate) async fn run(mut self) {
        self.resume().await;
        loop {
            self.start_next();
            tokio::select! {
                () = self.stop.cancelled() => break,
                ended = ended(&mut self.running) => self.ended(ended).await,
                Some(request) = self.topics.catalogue.recv() => {
                    answer(request, self.catalogue().await);
                }
                Some(request) = self.topics.pull.recv() => {
                    let asked = request.decode::<v1::PullModel>();
                    let done = match asked {
                        Ok(asked) => self.pull(&asked.name, asked.use_then).await,
                        Err(fault) => Err(fault),
                    };
                    answer(request, done);
                }
                Some(request) = self.topics.pulls.recv() => {
                    answer(request, Ok(self.list()));
                }
                Some(request) = self.topics.cancel.recv() => {
                    let asked = request.decode::<v1::CancelPull>();
                    let done = match asked {
                        Ok(asked) => self.cancel(&asked.name).await,
                        Err(fault) => Err(fault),
                    };
                    answer(request, done);
                }
            }
        }
        // The note stays: it goes on with the next start.
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            let _stopped = running.task.await;
        }
    }

    async fn read_catalogue(&self) -> Result<Catalogue, CatalogueError> {
        let Some(path) = self.config.catalogue.clone() else {
            return Catalogue::parse(self.config.embedded, None);
        };
        let named = path.clone();
        let read = tokio::task::spawn_blocking(move || Catalogue::read(&path)).await;
        read.unwrap_or_else(|_| {
            Err(CatalogueError::Format {
                path: named,
                why: "reading it failed".to_owned(),
            })
        })
    }

    fn folder(&self) -> PathBuf {
        self.config.models.join("downloads")
    }

    fn note(&self, name: &str) -> PathBuf {
        note::path(&self.folder(), name)
    }

    fn target(&self, name: &str) -> PathBuf {
        self.config.models.join(format!("{name}.gguf"))
    }

    /// Takes up what was asked for before the daemon ended.
    async fn resume(&mut self) {
        let folder = self.folder();
        let noted = tokio::task::spawn_blocking(move || note::all(&folder, MOST)).await;
        let noted = noted.unwrap_or_default();
        if noted.is_empty() {
            return;
        }
        let catalogue = self.read_catalogue().await;
        for (name, wanted) in noted {
            let found = match &catalogue {
                Ok(catalogue) => catalogue.find(&name).cloned(),
                Err(error) => {
                    tracing::warn!(%error, name, "A download can't go on.");
                    continue;
                }
            };
            match found {
                Some(entry) if hex::encode(entry.sha256) == wanted.sha256 => {
                    tracing::info!(name, "A download goes on.");
                    self.enqueue(entry, wanted.use_then, false, None);
                }
                other => {
                    tracing::warn!(name, "{}", PullError::Changed);
                    self.unnote(&name).await;
                    let folder = self.folder();
                    let old = name.clone();
                    let gone = tokio::task::spawn_blocking(move || partial::remove(&folder, &old));
                    let _tried_again_with_the_next_pull = gone.await;
                    if let Some(entry) = other {
                        self.enqueue(entry, false, false, None);
                        self.queue.retain(|queued| *queued != name);
                        self.fail(&name, PullError::Changed.to_fault());
                    }
                }
            }
        }
    }

    fn enqueue(&mut self, entry: Entry, use_then: bool, fresh: bool, here: Option<PathBuf>) {
        let name = entry.name.clone();
        let meter = Arc::new(Meter::new(entry.total()));
        meter.kept(partial::listed_bytes(&self.folder(), &entry));
        self.pulls.insert(
            name.clone(),
            Pull {
                use_then: use_then && entry.purpose == Purpose::Chat,
                entry,
                fresh,
                here,
                meter,
                model: None,
            },
        );
        self.queue.push(name);
    }

    fn start_next(&mut self) {
        if self.running.is_some() || self.queue.is_empty() {
            return;
        }
        let name = self.queue.remove(0);
        let Some(pull) = self.pulls.get(&name) else {
            return;
        };
        let stop = self.stop.child_token();
        let job = Job {
            entry: pull.entry.clone(),
            heads: Some(self.heads.clone()),
            folder: self.folder(),
            target: pull.here.clone().unwrap_or_else(|| self.target(&name)),
            fetch: pull.here.is_none(),
            resolver: Arc::clone(&self.config.resolver),
            tls: Arc::clone(&self.tls),
            mirror: self.config.mirror.clone(),
            proxy: self.config.proxy.clone(),
            limits: self.config.limits.clone(),
            workers: self.config.connections,
            fresh: pull.fresh,
            meter: Arc::clone(&pull.meter),
            stop: stop.clone(),
        };
        self.running = Some(Running {
            name,
            stop,
            task: tokio::spawn(package::run(job, self.config.models.clone())),
        });
    }

    fn fail(&self, name: &str, fault: Fault) {
        if let Some(pull) = self.pulls.get(name) {
            pull.meter.enter(Phase::Failed(fault));
        }
    }

    async fn ended(&mut self, ended: (String, Result<(), PullError>)) {
        let (name, result) = ended;
        let done = match result {
            Ok(()) => self.bring_in(&name).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {
                tracing::info!(name, "A model is here and whole.");
                self.wrong.remove(&name);
                if let Some(pull) = self.pulls.get(&name) {
                    pull.meter.enter(Phase::Done);
                }
            }
            // The daemon ends, or the person said so: then it is gone from the list already.
            Err(PullError::Stopped) => return,
            Err(error) => {
                tracing::warn!(%error, name, "A download failed.");
                if matches!(error, PullError::Damaged { .. }) {
                    self.wrong.insert(name.clone());
                }
                self.fail(&name, error.to_fault());
                self.tidy(&name).await;
            }
        }
        self.unnote(&name).await;
    }

    /// Nothing is left of a download of which nothing is good.
    async fn tidy(&self, name: &str) {
        let Some(entry) = self.pulls.get(name).map(|pull| pull.entry.clone()) else {
            return;
        };
        let folder = self.folder();
        let tidied = tokio::task::spawn_blocking(move || {
            if partial::listed_bytes(&folder, &entry) == 0 {
                let _tried_again_with_the_next_pull = partial::remove(&folder, &entry.name);
            }
        });
        let _done = tidied.await;
    }

    /// Puts a file that is whole into the registry.
    async fn bring_in(&mut self, name: &str) -> Result<(), PullError> {
        let target = self.target(name);
        let Some(pull) = self.pulls.get_mut(name) else {
            return Ok(());
        };
        if pull.entry.package.is_some() {
            self.packages.changed.notify_one();
            return Ok(());
        }
        let target = pull.here.clone().unwrap_or(target);
        // What is downloaded is looked at before it is put here.
        let looked = tokio::select! {
            biased;
            // The note stays, as of one that is not done.
            () = self.stop.cancelled() => return Err(PullError::Stopped),
            looked = self.heads.look(&target) => looked,
        };
        let mut record = looked.map_err(|error| PullError::look(error, Some(target)))?;
        record.sha256 = Some(pull.entry.sha256);
        name.clone_into(&mut record.name);
        let known = self.registry.list().await?;
        if let Some(old) = known
            .into_iter()
            .find(|model| model.is_of(&record.path, None))
        {
            record.id = old.id;
            record.starter = old.starter;
            record.active = old.active;
            record.pinned = old.pinned;
        }
        let id = record.id;
        self.registry.put(record).await?;
        pull.model = Some(id);
        if pull.use_then {
            let _stopping = self.orders.send(Order::Choose(id)).await;
        }
        Ok(())
    }

    async fn unnote(&self, name: &str) {
        let note = self.note(name);
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_file(note)).await;
        if let Ok(Err(error)) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, name, "The note of a download could not be removed.");
        }
    }

    async fn pull(&mut self, name: &str, use_then: bool) -> Result<v1::Pull, Fault> {
        let catalogue = self.read_catalogue().await;
        let catalogue = catalogue.map_err(|error| error.to_fault())?;
        if catalogue.unverified.iter().any(|one| one == name) {
            return Err(Fault::new(
                "catalogue-unusable",
                "The catalogue can't vouch for this model",
            )
            .with_detail(
                "Nobody has noted the hashes of its files, so whatever a server sends could not be \
                 told from something else.",
            )
            .with_what_to_do(
                "Get its files by hand and bring them in: docs/transformers.md says how.",
            ));
        }
        let Some(entry) = catalogue.find(name).cloned() else {
            return Err(Fault::not_found("The catalogue has no such model")
                .with_what_to_do("See what it has: `aico model catalogue`."));
        };
        let active = |phase: &Phase| !matches!(phase, Phase::Done | Phase::Failed(_));
        let reading = |pull: &Pull| pull.meter.read();
        if let Some(pull) = self.pulls.get_mut(name)
            && active(&pull.meter.read().phase)
        {
            // It is on its way: asking again changes what becomes of it at most.
            pull.use_then |= use_then && pull.entry.purpose == Purpose::Chat;
            let (wanted, told) = (
                Wanted::new(&pull.entry, pull.use_then),
                tell::pull(name, pull),
            );
            if pull.here.is_none() {
                self.write_note(name, wanted).await?;
            }
            return Ok(told);
        }
        let going = self
            .pulls
            .values()
            .filter(|pull| active(&reading(pull).phase));
        if going.count() >= MOST {
            return Err(Fault::busy("Too many downloads wait already"));
        }
        let (all, looked_for) = (self.here().await?, entry.clone());
        let looked = tokio::task::spawn_blocking(move || all.file(&looked_for)).await;
        let here = looked.map_err(|_| PullError::Broken.to_fault())?;
        // Without a note: after a restart nobody would know that no download was agreed to.
        if here.is_none() {
            self.write_note(name, Wanted::new(&entry, use_then)).await?;
        }
        self.enqueue(entry, use_then, true, here);
        match self.pulls.get(name) {
            Some(pull) => Ok(tell::pull(name, pull)),
            None => Err(Fault::internal("The download was not begun")),
        }
    }

    /// What is here already.
    async fn here(&self) -> Result<Here, Fault> {
        let known = self.registry.list().await;
        Ok(Here {
            known: known.map_err(|error| PullError::Registry(error).to_fault())?,
            models: self.config.models.clone(),
            wrong: self.wrong.clone(),
        })
    }

    async fn write_note(&self, name: &str, wanted: Wanted) -> Result<(), Fault> {
        let path = self.note(name);
        let written = tokio::task::spawn_blocking(move || wanted.write(&path));
        let written = written.await.map_err(|_| PullError::Broken.to_fault())?;
        written.map_err(|error| PullError::disk(self.note(name), error).to_fault())
    }

    async fn cancel(&mut self, name: &str) -> Result<Empty, Fault> {
        if !is_name(name) {
            return Err(Fault::not_found("There is no such download"));
        }
        let known = self.pulls.remove(name).is_some();
        self.queue.retain(|queued| queued != name);
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.name == name)
            && let Some(running) = self.running.take()
        {
            running.stop.cancel();
            if let Ok(Ok(())) = running.task.await {
                // It was done before it heard of that.
                self.packages.changed.notify_one();
            }
        }
        let (folder, note, owned) = (self.folder(), self.note(name), name.to_owned());
        let removed = tokio::task::spawn_blocking(move || {
            let left = [
                "wanted",
                "partial",
                "parts",
                "onnx",
                "tokenizer.json",
                "tokenizer.partial",
                "tokenizer.parts",
            ];
            let there = left
                .iter()
                .any(|extension| folder.join(format!("{owned}.{extension}")).exists());
            match std::fs::remove_file(&note) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(PullError::disk(note, error));
                }
                _ => {}
            }
            partial::remove(&folder, &owned)?;
            package::remove(&folder, &owned)?;
            Ok(there)
        });
        let removed = removed.await.map_err(|_| PullError::Broken.to_fault())?;
        match removed {
            Ok(there) if there || known => {
                tracing::info!(name, "A download was cancelled.");
                Ok(Empty {})
            }
            Ok(_) => Err(Fault::not_found("There is no such download")
                .with_what_to_do("See which there are: `aico model pulls`.")),
            Err(error) => Err(error.to_fault()),
        }
    }

    fn list(&self) -> v1::PullList {
        let items = self.pulls.iter().map(|(name, pull)| tell::pull(name, pull));
        v1::PullList {
            items: items.collect(),
        }
    }

    async fn catalogue(&self) -> Result<v1::Catalogue, Fault> {
        let catalogue = self.read_catalogue().await;
        let catalogue = catalogue.map_err(|error| error.to_fault())?;
        let here = self.here().await?;
        let (folder, engine) = (self.folder(), self.engine);
        let mirror = self.config.mirror.as_ref().map(ToString::to_string);
        let made = tokio::task::spawn_blocking(move || {
            tell::catalogue(&catalogue, &here, &folder, engine, mirror)
        });
        made.await
            .map_err(|_| Fault::internal("The catalogue could not be read"))
    }
}

fn answer<M: Payload>(request: Request, what: Result<M, Fault>) {
    match what {
        Ok(message) => request.reply(message),
        Err(fault) => request.fault(fault),
    }
}

/// The end of the download that runs; never without one.
async fn ended(running: &mut Option<Running>) -> (String, Result<(), PullError>) {
    let Some(now) = running else {
        return std::future::pending().await;
    };
    let result = (&mut now.task).await.unwrap_or(Err(PullError::Broken));
    let name = std::mem::take(&mut now.name);
    *running = None;
    (name, result)
}
