//! A daemon in miniature: bus, listener, registry in memory, manager.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aico_bus::link::{Listener, endpoint_in};
use aico_bus::{AllowAll, Bus, Client, Identity, Meta, RequestError};
use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Empty, Priority, generated::Item};
use aico_contracts::{Payload, topics};
use aico_models::supervisor::{
    Choice, ManagerConfig, ModelManager, ModelRecord, ModelRegistryStore, Program,
};
use aico_store::StoreError;
use async_trait::async_trait;

/// A registry that forgets with the test.
#[derive(Default)]
pub struct InMemory(Mutex<Vec<ModelRecord>>, Mutex<Option<Choice>>);

impl InMemory {
    pub fn snapshot(&self) -> Vec<ModelRecord> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl ModelRegistryStore for InMemory {
    async fn list(&self) -> Result<Vec<ModelRecord>, StoreError> {
        Ok(self.0.lock().unwrap().clone())
    }
    async fn put(&self, record: ModelRecord) -> Result<(), StoreError> {
        let mut models = self.0.lock().unwrap();
        match models.iter_mut().find(|model| model.id == record.id) {
            Some(model) => *model = record,
            None => models.push(record),
        }
        Ok(())
    }
    async fn activate(&self, id: ModelId) -> Result<bool, StoreError> {
        let mut models = self.0.lock().unwrap();
        *self.1.lock().unwrap() = None;
        models
            .iter_mut()
            .for_each(|model| model.active = model.id == id);
        Ok(models.iter().any(|model| model.active))
    }
    async fn remove(&self, id: ModelId) -> Result<bool, StoreError> {
        let mut models = self.0.lock().unwrap();
        let before = models.len();
        models.retain(|model| model.id != id);
        Ok(models.len() < before)
    }
    async fn set_hash(&self, id: ModelId, sha256: [u8; 32]) -> Result<(), StoreError> {
        let mut models = self.0.lock().unwrap();
        models
            .iter_mut()
            .filter(|model| model.id == id)
            .for_each(|m| m.sha256 = Some(sha256));
        Ok(())
    }
    async fn pin(&self, id: ModelId, pinned: bool) -> Result<bool, StoreError> {
        let mut models = self.0.lock().unwrap();
        let found = models.iter_mut().find(|model| model.id == id);
        Ok(found.map(|model| model.pinned = pinned).is_some())
    }
    async fn choice(&self) -> Result<Option<Choice>, StoreError> {
        Ok(self.1.lock().unwrap().clone())
    }
    async fn choose(&self, choice: Choice) -> Result<(), StoreError> {
        *self.1.lock().unwrap() = Some(choice);
        Ok(())
    }
}

/// The parts, and a client that asks as the companion would.
pub struct Daemon {
    pub manager: ModelManager,
    pub asker: Client,
    pub registry: Arc<InMemory>,
    pub bus: Bus,
    pub folder: tempfile::TempDir,
}

/// Longest wait for anything: generous, for a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// Without a starter, its process played by the tests' child in this part.
pub async fn daemon(part: &str) -> Daemon {
    daemon_with(part, |_| {}).await
}

pub async fn daemon_with(part: &str, change: impl FnOnce(&mut ManagerConfig)) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::new(Arc::new(AllowAll));
    let endpoint = endpoint_in(&folder.path().join("run")).unwrap();
    let listener = Arc::new(Listener::bind(&bus, &endpoint).await.unwrap());
    let registry = Arc::new(InMemory::default());
    let program = PathBuf::from(env!("CARGO_BIN_EXE_aico-models-child"));
    let mut config = ManagerConfig::new(
        program.clone(),
        folder.path().join("models"),
        folder.path().join("scratch"),
    );
    // It reads files whatever part it plays otherwise.
    config.reader = Program::new(program.clone(), "modelservice");
    config.program = Program::new(program, part);
    config.starter = None;
    config.context = 512;
    change(&mut config);
    let manager = ModelManager::start(&bus, listener, Arc::clone(&registry) as _, config)
        .await
        .unwrap();
    let asker = bus.join(Identity::new("companion"));
    Daemon {
        manager,
        asker,
        registry,
        bus,
        folder,
    }
}

impl Daemon {
    pub async fn ask<Q: Payload, R: Payload>(&self, topic: &str, q: &Q) -> Result<R, RequestError> {
        let meta = Meta::default().deadline_in(SOON);
        self.asker.request(topic, q, meta).await
    }

    pub async fn add(&self, path: &Path) -> Result<v1::Model, RequestError> {
        self.add_with(path, None).await
    }

    /// With an adapter on.
    pub async fn add_with(
        &self,
        path: &Path,
        adapter: Option<&Path>,
    ) -> Result<v1::Model, RequestError> {
        let question = v1::AddModel {
            path: path.display().to_string(),
            adapter: adapter.map(|path| path.display().to_string()),
            name: None,
        };
        self.ask(topics::MODELS_ADD, &question).await
    }

    pub async fn choose(&self, model: &v1::Model) -> Result<Empty, RequestError> {
        self.ask(
            topics::MODELS_USE,
            &v1::UseModel {
                id: model.id.clone(),
            },
        )
        .await
    }

    pub async fn models(&self) -> Vec<v1::Model> {
        let list: v1::ModelList = self
            .ask(topics::MODELS_LIST, &v1::ListModels {})
            .await
            .unwrap();
        list.items
    }

    /// The state, once it is one of these.
    pub async fn state(&self, wanted: Status) -> v1::ModelState {
        self.state_that(|state| state.status() == wanted).await
    }

    pub async fn state_that(&self, wanted: impl FnMut(&v1::ModelState) -> bool) -> v1::ModelState {
        let mut watched = self.manager.state();
        let found = tokio::time::timeout(SOON, watched.wait_for(wanted)).await;
        found
            .unwrap_or_else(|_| panic!("the state did not come"))
            .unwrap()
            .clone()
    }

    /// Asks for an answer; what came, and how it ended.
    pub async fn generate(&self, text: &str, max_tokens: u32) -> Answer {
        self.generate_for(PersonId::new(), text, max_tokens).await
    }

    pub async fn generate_for(&self, person: PersonId, text: &str, max_tokens: u32) -> Answer {
        let question = question(text, max_tokens);
        let meta = Meta::default()
            .person(person)
            .priority(Priority::Interactive);
        let mut answer = Answer::default();
        let opened = self
            .asker
            .open_stream(topics::MODELS_GENERATE, &question, meta)
            .await;
        let mut stream: aico_bus::ReplyStream<v1::Generated> = match opened {
            Ok(stream) => stream,
            Err(error) => {
                return Answer {
                    error: Some(error),
                    ..answer
                };
            }
        };
        while let Some(item) = stream.next().await {
            match item.map(|generated| generated.item) {
                Ok(Some(Item::Text(part))) => answer.text.push_str(&part),
                Ok(Some(Item::End(end))) => answer.end = Some(end),
                Ok(_) => {}
                Err(error) => answer.error = Some(error),
            }
        }
        answer
    }
}

pub fn question(text: &str, max_tokens: u32) -> v1::Generate {
    v1::Generate {
        turns: vec![v1::Turn {
            role: v1::turn::Role::User.into(),
            text: text.into(),
            ..v1::Turn::default()
        }],
        sampling: None,
        max_tokens,
        cache_key: b"c".to_vec(),
        ..v1::Generate::default()
    }
}

#[derive(Default)]
pub struct Answer {
    pub text: String,
    pub end: Option<v1::GeneratedEnd>,
    pub error: Option<RequestError>,
}

/// A record of a file that the manager itself would not add.
pub fn record_of(path: &Path) -> ModelRecord {
    let metadata = path.metadata().unwrap();
    let modified = metadata.modified().unwrap();
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    ModelRecord {
        id: ModelId::new(),
        name: "Odd".into(),
        path: path.canonicalize().unwrap(),
        size: metadata.len(),
        modified_ns: i64::try_from(since.as_nanos()).unwrap(),
        sha256: None,
        architecture: "llama".into(),
        parameters: 1,
        quantization: String::new(),
        context_length: 64,
        bytes_per_token: 0,
        license: String::new(),
        starter: false,
        active: false,
        pinned: false,
        adapter: None,
    }
}

/// Whether a process is there.
#[cfg(unix)]
pub fn alive(process_id: u32) -> bool {
    // SAFETY: signal 0 asks only.
    unsafe { libc::kill(i32::try_from(process_id).unwrap(), 0) == 0 }
}

#[cfg(unix)]
pub fn kill(process_id: u32) {
    // SAFETY: a process that this test started.
    unsafe { libc::kill(i32::try_from(process_id).unwrap(), libc::SIGKILL) };
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + SOON;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
