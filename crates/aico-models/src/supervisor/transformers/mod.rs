//! Transformers in the daemon: the packages that are there, and a process for each that is asked.
//!
//! One task serves `models.embed`, `models.entities`, `models.classify` and the packages' own
//! topics. A question goes to the worker of its package (`worker`), which starts the process on
//! the first one, hands it a few texts at a time, and ends it when nobody asks any more. Whether
//! there is room for it says the manager ([`places`](super::places)). Which
//! packages there are is what lies in their folder (`shelf`).

mod ask;
mod run;
mod shelf;
mod worker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aico_bus::{Bus, BusError, Client, Identity, Request, Requests};
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Empty, Fault};
use aico_contracts::{Payload, topics};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::MANAGER;
use super::child::{Program, Starter};
use super::heads::Heads;
use super::places::Places;
use super::registry::ModelRegistryStore;
use super::vectors::Vectors;
use crate::router::{Router, packages};
use crate::transformers::model::ModelError;
use crate::transformers::package::{Package, Task};
use ask::{Ask, Question};
pub(crate) use shelf::{ShelfError, place_package};
use worker::{Job, QUEUE, Worker};

/// The folder of packages below that of models.
pub(crate) const FOLDER: &str = "packages";
/// Questions of one kind that are in progress: all that may wait for one model, and some to be
/// told "busy". What waits before them has no order of urgency.
pub(super) const AT_ONCE: usize = 2 * QUEUE;

/// How transformers are run.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) program: Program,
    pub(crate) folder: PathBuf,
    pub(crate) idle_limit: Option<Duration>,
    pub(crate) load_limit: Duration,
    /// Threads that compute; 0: the physical cores.
    pub(crate) threads: u32,
}

/// The task.
pub(crate) struct Transformers {
    config: Config,
    client: Client,
    /// Models that are no packages and embed.
    others: Vectors,
    topics: Topics,
    starter: Starter,
    places: Arc<Places>,
    packages: Vec<Package>,
    workers: HashMap<String, Worker>,
    /// Packages changed without this task.
    changed: Arc<Notify>,
    /// Packages that were copied.
    added: (mpsc::Sender<Added>, mpsc::Receiver<Added>),
    stop: CancellationToken,
}

type Added = (Request, Result<Package, ShelfError>);

struct Topics {
    embed: Requests,
    entities: Requests,
    classify: Requests,
    packages: Requests,
    add: Requests,
    remove: Requests,
}

impl Transformers {
    pub(crate) fn new(
        bus: &Bus,
        config: Config,
        (router, registry, heads): (Router, Arc<dyn ModelRegistryStore>, Heads),
        places: Arc<Places>,
        changed: Arc<Notify>,
        stop: CancellationToken,
    ) -> Result<Self, BusError> {
        let client = bus.join(Identity::new(MANAGER));
        Ok(Self {
            topics: Topics {
                embed: client.serve(topics::MODELS_EMBED, AT_ONCE)?,
                entities: client.serve(topics::MODELS_ENTITIES, AT_ONCE)?,
                classify: client.serve(topics::MODELS_CLASSIFY, AT_ONCE)?,
                packages: client.serve(topics::MODELS_PACKAGES, 16)?,
                add: client.serve(topics::MODELS_ADD_PACKAGE, 1)?,
                remove: client.serve(topics::MODELS_REMOVE_PACKAGE, 1)?,
            },
            others: Vectors {
                client: client.clone(),
                router,
                registry,
                heads,
            },
            client,
            starter: Starter::new().map_err(|_| BusError::Closed)?,
            config,
            places,
            packages: Vec::new(),
            workers: HashMap::new(),
            changed,
            added: mpsc::channel(4),
            stop,
        })
    }

    pub(crate) async fn run(mut self) {
        self.look().await;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(request) = self.topics.embed.recv() => self.ask(request, Question::embed),
                Some(request) = self.topics.entities.recv() => self.ask(request, Question::entities),
                Some(request) = self.topics.classify.recv() => self.ask(request, Question::classify),
                Some(request) = self.topics.packages.recv() => {
                    let items = self.packages.iter().map(|package| self.told(package));
                    let items = items.collect();
                    request.reply(v1::PackageList { items });
                }
                Some(request) = self.topics.add.recv() => self.add(request),
                Some((request, added)) = self.added.1.recv() => self.note_added(request, added).await,
                Some(request) = self.topics.remove.recv() => {
                    let removed = self.remove(&request).await;
                    answer(request, removed);
                }
                () = self.changed.notified() => self.look().await,
            }
        }
        for (_, worker) in self.workers.drain() {
            worker.stop().await;
        }
        drop(self.client);
    }

    /// Reads which packages there are.
    async fn look(&mut self) {
        let folder = self.config.folder.clone();
        let found = tokio::task::spawn_blocking(move || shelf::look(&folder)).await;
        let found = found.unwrap_or_default();
        let mut gone = Vec::new();
        for name in self.workers.keys() {
            let of = |all: &[Package]| all.iter().find(|package| package.name == *name).cloned();
            if of(&found) != of(&self.packages) {
                gone.push(name.clone());
            }
        }
        for name in gone {
            if let Some(worker) = self.workers.remove(&name) {
                worker.stop().await;
            }
        }
        self.packages = found;
    }

    /// Hands a question to the worker of its package.
    fn ask(&mut self, request: Request, read: impl FnOnce(&Request) -> Result<Question, Fault>) {
        let question = match read(&request) {
            Ok(question) => question,
            Err(fault) => return request.fault(fault),
        };
        let (ask, package) = match (self.choose(&question), question.ask) {
            (Ok(package), ask) => (ask, package),
            (Err(nothing), Ask::Embed(asked)) if !self.is_package(&asked.model) => {
                tokio::spawn(self.others.clone().answer(request, asked, nothing));
                return;
            }
            (Err(fault), _) => return request.fault(fault),
        };
        // Here and not in the process alone, whose words are not told on.
        if let (Ask::Embed(asked), Some(whole)) = (&ask, package.dimensions)
            && asked.dimensions > whole
        {
            return request.fault(ModelError::Dimensions(whole).to_fault());
        }
        if ask.is_empty() {
            return request.reply_empty(&ask, &package.name);
        }
        let router = &self.others.router;
        let id = packages::id_of(&package.name);
        let ticket = router.asked(id, &package.name, packages::ENGINE, &request.envelope);
        let worker = self.workers.entry(package.name.clone()).or_insert_with(|| {
            Worker::start(
                package,
                self.config.clone(),
                self.starter.clone(),
                Arc::clone(&self.places),
                router.packages.clone(),
            )
        });
        worker.submit(Job::new(request, ask, ticket));
    }

    fn is_package(&self, name: &str) -> bool {
        self.packages.iter().any(|package| package.name == name)
    }

    fn choose(&self, question: &Question) -> Result<Package, Fault> {
        let fits = |package: &&Package| question.tasks.contains(&package.task);
        if question.model.is_empty() {
            let first = self.packages.iter().find(fits);
            return first.cloned().ok_or_else(|| none(&question.tasks));
        }
        let named = self
            .packages
            .iter()
            .find(|package| package.name == question.model);
        match named {
            Some(package) if fits(&package) => Ok(package.clone()),
            Some(package) => Err(Fault::invalid("This model is for something else")
                .with_detail(format!("It is for: {}.", package.task.as_str()))
                .with_what_to_do("`aico model list` shows what each is for.")),
            None => Err(Fault::not_found("There is no such model")
                .with_what_to_do("See which there are: `aico model list`.")),
        }
    }

    fn told(&self, package: &Package) -> v1::ModelPackage {
        let first = self.packages.iter().find(|one| one.task == package.task);
        let state = self.workers.get(&package.name).map(Worker::state);
        let state = state.unwrap_or(State {
            status: Status::Stopped,
            ..State::default()
        });
        v1::ModelPackage {
            name: package.name.clone(),
            title: package.title.clone(),
            task: package.task.as_str().to_owned(),
            architecture: package.architecture.clone(),
            license: package.license.clone(),
            size_bytes: package.size(),
            max_tokens: package.max_tokens,
            dimensions: package.dimensions.unwrap_or_default(),
            labels: package.labels.clone(),
            chosen: first.is_some_and(|first| first.name == package.name),
            status: state.status.into(),
            fault: state.fault,
            process_id: state.process_id,
            memory_bytes: package.memory(),
            added_unix_ms: package.added_unix_ms,
            folder: self.config.folder.join(&package.name).display().to_string(),
        }
    }

    /// Copies a package; that takes a while, and nobody else waits for it.
    fn add(&self, request: Request) {
        let from = match request.decode::<v1::AddPackage>() {
            Ok(asked) => PathBuf::from(asked.path),
            Err(fault) => return request.fault(fault),
        };
        if !from.is_absolute() {
            return request.fault(Fault::invalid("The path of a package must be absolute"));
        }
        let (folder, told) = (self.config.folder.clone(), self.added.0.clone());
        tokio::task::spawn_blocking(move || {
            let added = shelf::add(&from, &folder);
            let _stopped = told.blocking_send((request, added));
        });
    }

    async fn note_added(&mut self, request: Request, added: Result<Package, ShelfError>) {
        match added {
            Ok(package) => {
                tracing::info!(name = package.name, "A package was added.");
                if let Some(worker) = self.workers.remove(&package.name) {
                    worker.stop().await;
                }
                self.look().await;
                request.reply(self.told(&package));
            }
            Err(error) => {
                tracing::warn!(%error, "A package was not added.");
                request.fault(error.to_fault());
            }
        }
    }

    async fn remove(&mut self, request: &Request) -> Result<Empty, Fault> {
        let asked: v1::RemovePackage = request.decode()?;
        let known = self.packages.iter().any(|one| one.name == asked.name);
        if !known {
            return Err(Fault::not_found("There is no such model"));
        }
        if let Some(worker) = self.workers.remove(&asked.name) {
            worker.stop().await;
        }
        let (folder, name) = (self.config.folder.clone(), asked.name);
        let removed = tokio::task::spawn_blocking(move || shelf::remove(&folder, &name)).await;
        self.look().await;
        match removed {
            Ok(Ok(())) => Ok(Empty {}),
            Ok(Err(error)) => Err(error.to_fault()),
            Err(_panicked) => Err(Fault::internal("Removing the model failed")),
        }
    }
}

/// How the process of a package is.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) status: Status,
    pub(super) fault: Option<Fault>,
    pub(super) process_id: u32,
}

fn none(tasks: &[Task]) -> Fault {
    let what = match tasks {
        [Task::Embedding] => "makes vectors of texts",
        [Task::Entities] => "finds what texts name",
        [Task::Sentiment] => "tells how texts judge",
        [Task::Emotion] => "tells what texts feel",
        _ => "does this",
    };
    Fault::new("no-model", format!("There is no model that {what}")).with_what_to_do(
        "See which can be had: `aico model catalogue`; then `aico model pull NAME`.",
    )
}

fn answer<M: Payload>(request: Request, what: Result<M, Fault>) {
    match what {
        Ok(message) => request.reply(message),
        Err(fault) => request.fault(fault),
    }
}

/// Answering where there is nothing to ask a model.
trait ReplyEmpty {
    fn reply_empty(self, ask: &Ask, model: &str);
}

impl ReplyEmpty for Request {
    fn reply_empty(self, ask: &Ask, model: &str) {
        let model = model.to_owned();
        match ask {
            Ask::Embed(_) => self.reply(v1::Embedded {
                model,
                items: Vec::new(),
            }),
            Ask::Entities(_) => self.reply(v1::FoundEntities {
                model,
                items: Vec::new(),
            }),
            Ask::Classify(_) => self.reply(v1::Classified {
                model,
                items: Vec::new(),
            }),
        }
    }
}
