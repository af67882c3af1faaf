//! The programs beside us that run models: what they offer, and how each is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aico_characters::is_wanted;
use aico_contracts::ids::ModelId;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Fault};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::breaker::{Breaker, Circuit};
use super::gate::Gate;
use crate::backend::{Asker, Backend, BackendError, Capability, InMemory, Offered};

/// What the ids of their models are made from, with the names of program and model.
const IDS: &[u8] = b"aico model of a program beside us\0";
/// How long a list may take.
const LISTING: Duration = Duration::from_secs(3);
/// How long it may take to tell what is in memory.
const GLANCE: Duration = Duration::from_secs(1);
/// How long a model is left out that its program does not have or has no memory for.
const LEFT_OUT: Duration = Duration::from_secs(10 * 60);

/// All of them. Clones are the same.
#[derive(Clone, Default)]
pub struct Backends(Arc<Vec<Arc<Engine>>>);

/// One of them.
pub struct Engine {
    /// The program.
    pub backend: Arc<dyn Backend>,
    /// Who is next.
    pub gate: Gate,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    breaker: Breaker,
    offered: Vec<Offered>,
    listed: Option<Instant>,
    /// Of its models, as they were when they were listed.
    changes: u64,
    left_out: HashMap<String, Instant>,
}

/// A model of one of them.
#[derive(Clone)]
pub struct Model {
    /// The program.
    pub engine: Arc<Engine>,
    /// Always the same for the same names.
    pub id: ModelId,
    /// As the program calls it.
    pub name: String,
}

impl Model {
    /// As the state of a model.
    #[must_use]
    pub fn state(&self, fault: Option<Fault>) -> v1::ModelState {
        let status = match fault {
            None => Status::Ready,
            Some(_) => Status::Failed,
        };
        v1::ModelState {
            status: status.into(),
            model: self.id.to_vec(),
            name: self.name.clone(),
            fault,
            ..v1::ModelState::default()
        }
    }

    /// Whether it can be asked now, as far as is known.
    #[must_use]
    pub fn can_be_had(&self) -> bool {
        let now = Instant::now();
        let inner = self.engine.inner();
        let left_out = inner.left_out.get(&self.name);
        inner.breaker.lets_through(now) && left_out.is_none_or(|at| now - *at >= LEFT_OUT)
    }

    /// Whether it can be asked now on somebody's behalf: they may not have allowed its program.
    pub async fn can_be_had_by(&self, asker: &Asker) -> bool {
        self.can_be_had() && self.engine.backend.permits(asker).await.is_ok()
    }

    /// Why it can't be, for this asker.
    pub async fn why_not(&self, asker: &Asker) -> Fault {
        let backend = &self.engine.backend;
        if let Err(error) = backend.permits(asker).await {
            return error.to_fault(backend.name());
        }
        let inner = self.engine.inner();
        let now = Instant::now();
        if inner.breaker.lets_through(now) {
            return BackendError::ModelMissing.to_fault(backend.name());
        }
        let left = match inner.breaker.circuit() {
            Circuit::Open { until } => until.saturating_duration_since(now),
            Circuit::Closed { .. } | Circuit::HalfOpen => Duration::from_secs(1),
        };
        let resting = BackendError::Resting { left }.to_fault(backend.name());
        // What is wrong with it says more than that it is left alone.
        match inner.breaker.last() {
            Some(error) => {
                let why = error.to_fault(backend.name());
                let detail = format!("{} {}", why.detail, resting.detail);
                why.with_detail(detail.trim())
            }
            None => resting,
        }
    }
}

/// The id of a model of this program: version 8, from SHA-256 of the names.
#[must_use]
pub fn id_of(backend: &str, model: &str) -> ModelId {
    let mut hasher = Sha256::new();
    hasher.update(IDS);
    hasher.update(backend.as_bytes());
    hasher.update([0]);
    hasher.update(model.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().into()
}

impl Engine {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is taken to be.
    #[must_use]
    pub fn circuit(&self) -> Circuit {
        self.inner().breaker.circuit()
    }

    /// Admits a question.
    ///
    /// # Errors
    /// While it is left alone.
    pub fn admit(self: &Arc<Self>) -> Result<Admission, BackendError> {
        self.inner().breaker.admit(Instant::now())?;
        Ok(Admission {
            engine: Arc::clone(self),
            told: false,
        })
    }

    async fn refresh(&self, older: Duration) {
        let fresh = |at: Instant| at.elapsed() < older;
        let changes = self.backend.changes();
        {
            let mut inner = self.inner();
            if inner.changes != changes {
                // What it did not have it may have now.
                inner.changes = changes;
                inner.left_out.clear();
                // It may have been installed: how the one before it failed says nothing any more.
                inner.breaker.succeeded();
            } else if inner.listed.is_some_and(fresh) {
                return;
            }
        }
        if !self.inner().breaker.lets_through(Instant::now()) {
            return;
        }
        let asked = tokio::time::timeout(LISTING, self.backend.models()).await;
        let mut inner = self.inner();
        inner.listed = Some(Instant::now());
        match asked {
            Ok(Ok(offered)) => {
                inner.breaker.reached();
                inner.offered = offered;
            }
            Ok(Err(error)) => {
                tracing::debug!(engine = self.backend.name(), %error, "It did not list its models.");
                inner.breaker.failed(&error, Instant::now());
            }
            Err(_) => tracing::debug!(
                engine = self.backend.name(),
                "It takes too long to list its models."
            ),
        }
    }
}

/// A question that was admitted. Dropped without a word, it was given up.
pub struct Admission {
    engine: Arc<Engine>,
    told: bool,
}

impl Admission {
    /// It answers.
    pub fn succeeded(&mut self) {
        if !self.told {
            self.told = true;
            self.engine.inner().breaker.succeeded();
        }
    }

    /// It failed on this model.
    pub fn failed(&mut self, model: &str, error: &BackendError) {
        self.told = true;
        let mut inner = self.engine.inner();
        let now = Instant::now();
        if matches!(error, BackendError::ModelMissing | BackendError::Memory) {
            inner.left_out.insert(model.to_owned(), now);
            inner.breaker.spared();
            return;
        }
        inner.breaker.failed(error, now);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.told {
            self.engine.inner().breaker.gave_up(Instant::now());
        }
    }
}

impl Backends {
    /// Of these programs, in the order in which their models are preferred.
    #[must_use]
    pub fn new(all: impl IntoIterator<Item = Arc<dyn Backend>>) -> Self {
        let engines = all.into_iter().map(|backend| {
            let gate = Gate::new(backend.at_once());
            Arc::new(Engine {
                backend,
                gate,
                inner: Mutex::default(),
            })
        });
        Self(Arc::new(engines.collect()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks those what they offer that were not asked for so long; at most some seconds.
    pub async fn refresh(&self, older: Duration) {
        let all = self.0.iter().map(|engine| engine.refresh(older));
        futures_util::future::join_all(all).await;
    }

    /// What is in their memory because of us; what does not tell it at once is left out.
    pub async fn in_memory(&self) -> Vec<(Model, InMemory)> {
        // One that hangs would keep waiting whoever looks.
        let well = |engine: &&Arc<Engine>| engine.inner().breaker.lets_through(Instant::now());
        let all = self.0.iter().filter(well).map(|engine| async move {
            let told = tokio::time::timeout(GLANCE, engine.backend.in_memory()).await;
            let inside = told.unwrap_or_default().into_iter();
            let inside = inside.map(|one| {
                let model = Model {
                    engine: Arc::clone(engine),
                    id: id_of(engine.backend.name(), &one.name),
                    name: one.name.clone(),
                };
                (model, one)
            });
            inside.collect::<Vec<_>>()
        });
        let all = futures_util::future::join_all(all).await;
        all.into_iter().flatten().collect()
    }

    /// Whether all were asked what they offer within this time.
    #[must_use]
    pub fn are_fresh(&self, within: Duration) -> bool {
        self.0.iter().all(|engine| {
            let inner = engine.inner();
            inner.listed.is_some_and(|at| at.elapsed() < within)
                || !inner.breaker.lets_through(Instant::now())
        })
    }

    /// The model of this id, if it was offered or is known by its names.
    #[must_use]
    pub fn find(&self, id: ModelId) -> Option<Model> {
        self.all()
            .into_iter()
            .find(|(model, _)| model.id == id)
            .map(|(model, _)| model)
    }

    /// A model by the names of program and model, offered or not.
    #[must_use]
    pub fn named(&self, backend: &str, name: &str) -> Option<Model> {
        let engine = self
            .0
            .iter()
            .find(|engine| engine.backend.name() == backend)?;
        Some(Model {
            engine: Arc::clone(engine),
            id: id_of(backend, name),
            name: name.to_owned(),
        })
    }

    /// Those that somebody may mean by this name, id, or `program/name`, and that are good for
    /// this.
    #[must_use]
    pub fn wanted(&self, wanted: &str, what: Capability) -> Vec<Model> {
        let all = self.all().into_iter().filter(|(model, offered)| {
            let engine = model.engine.backend.name();
            let own = wanted
                .strip_prefix(engine)
                .and_then(|rest| rest.strip_prefix('/'));
            can(offered, what)
                && (model.id.to_string() == wanted
                    || is_wanted(own.unwrap_or(wanted), &model.name, ""))
        });
        all.map(|(model, _)| model).collect()
    }

    /// All that is offered.
    fn all(&self) -> Vec<(Model, Offered)> {
        let mut all = Vec::new();
        for engine in self.0.iter() {
            for offered in &engine.inner().offered {
                let model = Model {
                    engine: Arc::clone(engine),
                    id: id_of(engine.backend.name(), &offered.name),
                    name: offered.name.clone(),
                };
                all.push((model, offered.clone()));
            }
        }
        all
    }

    /// All that is offered, as messages. The chosen one is told even while its program is away.
    #[must_use]
    pub fn messages(&self, chosen: Option<&Model>) -> Vec<v1::Model> {
        let mut items: Vec<_> = self
            .all()
            .iter()
            .map(|(model, offered)| message(model, offered, chosen))
            .collect();
        if let Some(model) = chosen
            && !items.iter().any(|item| item.active)
        {
            let unknown = Offered {
                name: model.name.clone(),
                ..Offered::default()
            };
            items.push(v1::Model {
                present: false,
                ..message(model, &unknown, chosen)
            });
        }
        items
    }

    /// Until when the program of a model is left alone.
    #[must_use]
    pub fn resting(&self, id: ModelId) -> Option<Instant> {
        match self.find(id)?.engine.circuit() {
            Circuit::Open { until } => Some(until),
            Circuit::Closed { .. } | Circuit::HalfOpen => None,
        }
    }
}

/// A program that does not tell is believed to be asked for the right thing.
fn can(offered: &Offered, what: Capability) -> bool {
    offered.capabilities.is_empty() || offered.capabilities.contains(&what)
}

fn message(model: &Model, offered: &Offered, chosen: Option<&Model>) -> v1::Model {
    let capabilities = offered.capabilities.iter();
    v1::Model {
        id: model.id.to_vec(),
        name: model.name.clone(),
        size_bytes: offered.size,
        architecture: offered.architecture.clone(),
        parameters: offered.parameters,
        quantization: offered.quantization.clone(),
        context_length: offered.context_length,
        license: offered.license.clone(),
        active: chosen.is_some_and(|chosen| chosen.id == model.id),
        present: model.can_be_had(),
        modified_unix_ms: offered.modified_unix_ms,
        engine: model.engine.backend.name().to_owned(),
        capabilities: capabilities.map(|one| one.as_str().to_owned()).collect(),
        loaded: offered.loaded.is_some(),
        ..v1::Model::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use tokio::sync::mpsc;

    use super::*;
    use crate::backend::{Embedded, Item, Reach};

    /// Fails like this until it is installed.
    struct Late {
        error: BackendError,
        changes: AtomicU64,
    }

    #[async_trait]
    impl Backend for Late {
        fn name(&self) -> &str {
            "ollama"
        }
        fn reach(&self) -> Reach {
            Reach::Machine
        }
        fn changes(&self) -> u64 {
            self.changes.load(Ordering::Relaxed)
        }
        fn was_installed(&self) {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        async fn models(&self) -> Result<Vec<Offered>, BackendError> {
            if self.changes() == 0 {
                return Err(self.error.clone());
            }
            Ok(vec![Offered {
                name: "qwen3:8b".to_owned(),
                ..Offered::default()
            }])
        }
        async fn generate(
            &self,
            _: &Asker,
            _: &str,
            _: &v1::Generate,
            _: mpsc::Sender<Item>,
        ) -> Result<v1::GeneratedEnd, BackendError> {
            Err(BackendError::ModelMissing)
        }
        async fn embed(&self, _: &Asker, _: &str, _: &[String]) -> Result<Embedded, BackendError> {
            Err(BackendError::ModelMissing)
        }
        async fn unload(&self, _: &str) -> Result<(), BackendError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn one_that_was_installed_is_listed_though_it_was_left_alone() {
        let address = "127.0.0.1:9".to_owned();
        let absent = BackendError::NotInstalled { address };
        // The one before it may have been here, and broken.
        for error in [absent, BackendError::NotStarted] {
            let late = Arc::new(Late {
                error,
                changes: AtomicU64::new(0),
            });
            let backends = Backends::new([Arc::clone(&late) as Arc<dyn Backend>]);
            let listed = || backends.wanted("qwen3:8b", Capability::Chat).len();
            for _ in 0..3 {
                backends.refresh(Duration::ZERO).await;
            }
            let circuit = backends.0[0].circuit();
            assert!(matches!(circuit, Circuit::Open { .. }), "{circuit:?}");
            assert_eq!(listed(), 0);
            late.was_installed();
            backends.refresh(Duration::from_secs(3600)).await;
            assert_eq!(listed(), 1);
        }
    }

    #[test]
    fn ids_are_the_same_for_the_same_names_and_differ_otherwise() {
        assert_eq!(id_of("ollama", "qwen3:8b"), id_of("ollama", "qwen3:8b"));
        assert_eq!(
            id_of("ollama", "qwen3:8b").to_string(),
            // Programs and scripts know it: it stays.
            "147d0b25-21a1-87a2-8d5b-eaa92aa08583"
        );
        assert_ne!(id_of("ollama", "qwen3:8b"), id_of("lab", "qwen3:8b"));
        assert_ne!(id_of("a", "b/c"), id_of("a/b", "c"));
    }
}
