//! Models that programs beside us download or make because the owner wished it: begun, followed,
//! tried again, cancelled.
//!
//! One at a time for each program: they would share one connection to the internet. A download
//! that was wished for is noted in a file and goes on after the daemon ended; what is made of a
//! Modelfile is not, for its words are a person's and that file is not sealed.

mod note;
mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aico_bus::{Bus, BusError, Client, Identity, Request, Requests};
use aico_characters::Recipe;
use aico_contracts::ids::ModelId;
use aico_contracts::v1::{self, Empty, Fault};
use aico_contracts::{Payload, topics};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::note::Wanted;
use self::run::Job;
use super::shelf::{Making, Shelf};
use super::{Backend, Guarded};
use crate::router::id_of;
use crate::supervisor::MANAGER;

/// Most that run or wait.
const MOST: usize = 16;
/// Most that are told of; of those that ended the oldest go first.
const TOLD: usize = 48;

/// The topics of models on the shelves of others.
pub(super) struct Jobs {
    all: Arc<[Arc<Guarded>]>,
    client: Arc<Client>,
    /// Where it is noted what was wished for.
    folder: PathBuf,
    topics: Topics,
    running: BTreeMap<ModelId, Job>,
    /// Begun so far: tells which is older.
    begun: u64,
    /// One at a time for each program.
    turns: BTreeMap<String, Arc<Semaphore>>,
    stop: CancellationToken,
}

struct Topics {
    offer: Requests,
    make: Requests,
    jobs: Requests,
    cancel: Requests,
    show: Requests,
    delete: Requests,
}

impl Jobs {
    pub(super) fn new(
        bus: &Bus,
        all: Arc<[Arc<Guarded>]>,
        folder: PathBuf,
    ) -> Result<Self, BusError> {
        let client = bus.join(Identity::new(MANAGER));
        let topics = Topics {
            offer: client.serve(topics::MODELS_MAKE_OFFER, 4)?,
            make: client.serve(topics::MODELS_MAKE, 4)?,
            jobs: client.serve(topics::MODELS_JOBS, 16)?,
            cancel: client.serve(topics::MODELS_CANCEL_JOB, 4)?,
            show: client.serve(topics::MODELS_SHOW, 4)?,
            delete: client.serve(topics::MODELS_DELETE, 4)?,
        };
        let turns = all
            .iter()
            .map(|one| (one.name().to_owned(), Arc::new(Semaphore::new(1))))
            .collect();
        Ok(Self {
            all,
            client: Arc::new(client),
            folder,
            topics,
            running: BTreeMap::new(),
            begun: 0,
            turns,
            stop: CancellationToken::new(),
        })
    }

    /// Serves until it is dropped, which ends what runs; notes stay.
    pub(super) async fn run(mut self) {
        let _ends_with_us = self.stop.clone().drop_guard();
        self.resume().await;
        loop {
            tokio::select! {
                Some(request) = self.topics.offer.recv() => self.offer(request),
                Some(request) = self.topics.make.recv() => {
                    let made = self.make(&request).await;
                    answer(request, made);
                }
                Some(request) = self.topics.jobs.recv() => {
                    let items = self.running.values().map(Job::told).collect();
                    request.reply(v1::EngineJobList { items });
                }
                Some(request) = self.topics.cancel.recv() => {
                    let cancelled = self.cancel(&request).await;
                    answer(request, cancelled);
                }
                Some(request) = self.topics.show.recv() => self.show(request),
                Some(request) = self.topics.delete.recv() => self.delete(request),
                else => return,
            }
        }
    }

    /// Takes up what was wished for before the daemon ended.
    async fn resume(&mut self) {
        for wanted in note::read(self.folder.clone()).await {
            let Ok(engine) = find(&self.all, &wanted.engine) else {
                tracing::warn!("A download can't go on: its program is used no longer.");
                continue;
            };
            let Some(name) = engine.shelf().and_then(|it| it.whole(&wanted.name).ok()) else {
                continue;
            };
            let making = Making {
                name,
                recipe: None,
                folder: PathBuf::new(),
            };
            tracing::info!(engine = engine.name(), "A download goes on.");
            self.begin(engine, making, wanted.use_then, false);
        }
    }

    fn begin(
        &mut self,
        engine: Arc<Guarded>,
        making: Making,
        use_then: bool,
        fresh: bool,
    ) -> v1::EngineJob {
        self.begun += 1;
        let turn = self.turns.get(engine.name()).map(Arc::clone);
        let job = Job::begin(run::Parts {
            id: id_of(engine.name(), &making.name),
            number: self.begun,
            engine,
            making,
            use_then,
            fresh,
            turn: turn.unwrap_or_else(|| Arc::new(Semaphore::new(1))),
            client: Arc::clone(&self.client),
            folder: self.folder.clone(),
            stop: self.stop.child_token(),
        });
        let told = job.told();
        self.running.insert(job.id(), job);
        self.trim();
        told
    }

    /// Of those that ended the oldest are told of no longer.
    fn trim(&mut self) {
        while self.running.len() > TOLD {
            let ended = self.running.values().filter(|job| !job.is_active());
            let Some(oldest) = ended.min_by_key(|job| job.number()).map(Job::id) else {
                return;
            };
            self.running.remove(&oldest);
        }
    }

    fn offer(&self, request: Request) {
        let all = Arc::clone(&self.all);
        // Beside the others: servers are asked.
        tokio::spawn(async move {
            let offered = async {
                let (engine, making, _) = asked(&all, &request)?;
                let offer = shelf(&engine)?.offer(&making).await?;
                Ok(v1::EngineOffer {
                    engine: engine.name().to_owned(),
                    name: making.name,
                    present: offer.present,
                    download: offer.download,
                    source: offer.source,
                    size_bytes: offer.size,
                    license: offer.license,
                    copied_bytes: offer.copied,
                    unknown: offer.unknown,
                })
            };
            let offered = offered.await;
            answer(request, offered);
        });
    }

    async fn make(&mut self, request: &Request) -> Result<v1::EngineJob, Fault> {
        let (engine, making, use_then) = asked(&self.all, request)?;
        let id = id_of(engine.name(), &making.name);
        if let Some(job) = self.running.get(&id).filter(|job| job.is_active()) {
            // It is on its way: asking again changes what becomes of it at most.
            if making.recipe.is_some() || job.is_creation() {
                return Err(
                    Fault::conflict("A model of this name is being made already")
                        .with_what_to_do("Wait for it, or cancel it."),
                );
            }
            if use_then {
                note::add(&self.folder, &wanted(&engine, &making, true)).await?;
                job.use_then();
            }
            return Ok(job.told());
        }
        let going = self.running.values().filter(|job| job.is_active());
        if going.count() >= MOST {
            return Err(Fault::busy("Too many downloads wait already"));
        }
        if making.recipe.is_none() {
            note::add(&self.folder, &wanted(&engine, &making, use_then)).await?;
        }
        Ok(self.begin(engine, making, use_then, true))
    }

    async fn cancel(&mut self, request: &Request) -> Result<Empty, Fault> {
        let asked: v1::EngineModel = request.decode()?;
        let id = ModelId::from_slice(&asked.model);
        let job = id.ok().and_then(|id| self.running.remove(&id));
        let Some(job) = job.filter(|job| job.engine().name() == asked.engine) else {
            return Err(Fault::not_found("There is no such download")
                .with_what_to_do("See which there are: `aico model pulls`."));
        };
        let (engine, name) = (Arc::clone(job.engine()), job.name().to_owned());
        let was_on_its_way = job.is_active() || job.has_failed();
        job.end().await;
        note::remove(&self.folder, engine.name(), &name).await?;
        if was_on_its_way && let Some(shelf) = engine.shelf() {
            shelf.give_up(&name).await;
        }
        tracing::info!(engine = engine.name(), "A download was cancelled.");
        Ok(Empty {})
    }

    fn show(&self, request: Request) {
        let all = Arc::clone(&self.all);
        tokio::spawn(async move {
            let shown = async {
                let (engine, name) = existing(&all, &request).await?;
                let details = shelf(&engine)?.details(&name).await?;
                Ok(v1::EngineModelDetails {
                    engine: engine.name().to_owned(),
                    name,
                    license: details.license,
                    template: details.template,
                    system: details.system,
                    parameters: details.parameters,
                    architecture: details.architecture,
                    parameter_count: details.parameter_count,
                    quantization: details.quantization,
                    context_length: details.context_length,
                    capabilities: details.capabilities,
                })
            };
            let shown = shown.await;
            answer(request, shown);
        });
    }

    fn delete(&self, request: Request) {
        let all = Arc::clone(&self.all);
        tokio::spawn(async move {
            let deleted = async {
                let (engine, name) = existing(&all, &request).await?;
                shelf(&engine)?.delete(&name).await?;
                tracing::info!(engine = engine.name(), "A model was removed.");
                Ok(Empty {})
            };
            let deleted = deleted.await;
            answer(request, deleted);
        });
    }
}

fn wanted(engine: &Guarded, making: &Making, use_then: bool) -> Wanted {
    Wanted {
        engine: engine.name().to_owned(),
        name: making.name.clone(),
        use_then,
    }
}

fn find(all: &[Arc<Guarded>], name: &str) -> Result<Arc<Guarded>, Fault> {
    let found = all.iter().find(|one| one.name() == name);
    found.map(Arc::clone).ok_or_else(|| {
        Fault::not_found("There is no engine of this name")
            .with_what_to_do("See which there are: aico engine list.")
    })
}

fn shelf(engine: &Guarded) -> Result<&dyn Shelf, Fault> {
    engine.shelf().ok_or_else(|| {
        Fault::conflict(format!("{} keeps its models itself", engine.name()))
            .with_what_to_do("Bring models to it in its own way; AICO lists what it has.")
    })
}

/// What is wished for.
fn asked(all: &[Arc<Guarded>], request: &Request) -> Result<(Arc<Guarded>, Making, bool), Fault> {
    let asked: v1::MakeEngineModel = request.decode()?;
    let engine = find(all, &asked.engine)?;
    let name = shelf(&engine)?.whole(&asked.name)?;
    let folder = PathBuf::from(asked.folder);
    let recipe = match asked.modelfile.as_str() {
        "" => None,
        text => Some(recipe(text)?),
    };
    if recipe.is_some() && !folder.is_absolute() {
        return Err(Fault::invalid("The folder of a Modelfile must be absolute"));
    }
    let making = Making {
        name,
        recipe,
        folder,
    };
    Ok((engine, making, asked.use_then))
}

fn recipe(text: &str) -> Result<Recipe, Fault> {
    let refused = |what: String, advice: String| {
        Fault::new(
            "not-a-character",
            "This is no Modelfile that a model can be made of",
        )
        .with_detail(what)
        .with_what_to_do(advice)
    };
    let recipe = Recipe::parse(text).map_err(|error| refused(error.what, error.advice))?;
    // Who wrote it need not be who this process runs as.
    let of_home = |path: &String| path.starts_with('~');
    if recipe.from.iter().chain(&recipe.adapters).any(of_home) {
        return Err(refused(
            "A path in it begins with ~, and AICO does not know whose home that is.".to_owned(),
            "Write the whole path, or one that begins at the folder of the Modelfile.".to_owned(),
        ));
    }
    Ok(recipe)
}

/// A model that is there.
async fn existing(
    all: &[Arc<Guarded>],
    request: &Request,
) -> Result<(Arc<Guarded>, String), Fault> {
    let asked: v1::EngineModel = request.decode()?;
    let engine = find(all, &asked.engine)?;
    let unknown = || {
        Fault::not_found("There is no such model")
            .with_what_to_do("See which there are: aico model list.")
    };
    let id = ModelId::from_slice(&asked.model).map_err(|_| unknown())?;
    let models = engine.models().await;
    let models = models.map_err(|error| error.to_fault(engine.name()))?;
    let found = models
        .into_iter()
        .find(|model| id_of(engine.name(), &model.name) == id);
    Ok((engine, found.ok_or_else(unknown)?.name))
}

fn answer<M: Payload>(request: Request, what: Result<M, Fault>) {
    match what {
        Ok(message) => request.reply(message),
        Err(fault) => request.fault(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_a_home_is_refused_in_words_of_its_own() {
        for text in [
            "FROM ~/models/x.gguf\n",
            "FROM ~ann/x.gguf\n",
            "FROM qwen3:8b\nADAPTER ~/style.gguf\n",
        ] {
            let fault = recipe(text).unwrap_err();
            assert!(fault.detail.contains("begins with ~"), "{text}: {fault:?}");
        }
        assert!(recipe("FROM ./x~1.gguf\nSYSTEM ~ is a letter.\n").is_ok());
    }
}
