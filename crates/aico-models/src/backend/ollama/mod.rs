//! Ollama (0.12 or newer) as a program that runs models.
//!
//! One that runs at the configured address is taken as it is. Where none does and one is
//! installed, it is started by us, watched, and ended with us (`supervise`). Both dialects are
//! spoken by saying everything that they take differently when it is left out.
//!
//! Only this machine: an Ollama elsewhere is a server and is configured as one, where what leaves
//! the machine is asked about and logged. For the same reason models that an Ollama hands on to a
//! server of its makers are neither listed nor asked.

mod about;
mod chat;
mod create;
mod embed;
mod find;
mod http;
pub mod install;
#[cfg(windows)]
mod job;
mod launch;
mod name;
mod parts;
mod pull;
mod refusal;
mod registry;
mod room;
mod shelf;
mod supervise;
mod version;
mod wire;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::http::Method;
use aico_contracts::v1;
use async_trait::async_trait;
use serde_json::json;
use tokio::sync::mpsc;

pub use self::create::Creation;
pub use self::find::{Found, Place, find};
pub use self::http::Limits;
pub use self::supervise::{Running, Whose};
pub use self::version::{OLDEST, is_new_enough};

use self::about::Abouts;
use self::http::Http;
use self::parts::Parts;
use self::room::Room;
use self::supervise::Supervisor;
use super::budget::Budget;
use super::shelf::Shelf;
use super::{About, Asker, Backend, BackendError, Embedded, InMemory, Item, Offered, Reach};
use crate::pull::small::Way;

/// The name that its models are listed under.
pub const NAME: &str = "ollama";

/// Whether Ollama is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// When none runs at the address and one is installed.
    Auto,
    /// Never: only one that runs already is used.
    Never,
}

/// How Ollama is used.
#[derive(Debug, Clone)]
pub struct OllamaConfig {
    /// Where one may run already; an address of this machine.
    pub address: SocketAddr,
    /// Whether one is started.
    pub start: Start,
    /// The folder for one that was installed by us, and its models.
    pub folder: PathBuf,
    /// The program to start in place of any that is found.
    pub program: Option<PathBuf>,
    /// `PATH`, where programs are looked for.
    pub path: Option<OsString>,
    /// Answers at the same time.
    pub parallel: u32,
    /// Models in memory at the same time.
    pub loaded: u32,
    /// Tokens that a conversation may have. The same for every question: another one would make
    /// Ollama load the model anew.
    pub context: u32,
    /// How long an unused model stays in memory; `None`: for ever.
    pub keep_alive: Option<Duration>,
    /// The proxy for its downloads, if any.
    pub proxy: Option<String>,
    /// The way to registries of models, and the registry that the owner named.
    pub way: Way,
    /// Limits of time.
    pub limits: Limits,
    /// The first wait before one that ended is started again; doubled each time.
    pub backoff: Duration,
}

impl OllamaConfig {
    /// With everything as usual. `folder`: see [`OllamaConfig::folder`].
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 11434)),
            start: Start::Auto,
            folder,
            program: None,
            path: std::env::var_os("PATH"),
            parallel: 4,
            loaded: 2,
            context: 4096,
            keep_alive: Some(Duration::from_secs(30 * 60)),
            proxy: None,
            way: Way::default(),
            limits: Limits::default(),
            backoff: Duration::from_secs(1),
        }
    }

    /// As the protocol has it: seconds, or a negative number for ever.
    fn keep_alive_seconds(&self) -> i64 {
        let time = self.keep_alive.map(|time| i64::try_from(time.as_secs()));
        time.map_or(-1, |seconds| seconds.unwrap_or(i64::MAX))
    }
}

/// An Ollama of this machine. Dropping it ends the one that was started by us.
pub struct Ollama {
    config: OllamaConfig,
    supervisor: Supervisor,
    abouts: Abouts,
    budget: Budget,
    room: Room,
    parts: Parts,
    changes: AtomicU64,
}

impl Ollama {
    /// Makes one; nothing is asked or started before it is needed. Has to be called within a
    /// runtime.
    ///
    /// # Errors
    /// [`BackendError::Elsewhere`] when the address is not of this machine.
    pub fn new(config: OllamaConfig) -> Result<Arc<Self>, BackendError> {
        if !config.address.ip().is_loopback() {
            return Err(BackendError::Elsewhere);
        }
        Ok(Arc::new(Self {
            supervisor: Supervisor::new(config.clone()),
            abouts: Abouts::default(),
            budget: Budget::default(),
            room: Room::new(config.parallel, config.loaded),
            parts: Parts::default(),
            changes: AtomicU64::new(0),
            config,
        }))
    }

    /// As [`Ollama::new`], for who routes questions.
    ///
    /// # Errors
    /// As there.
    pub fn start(config: OllamaConfig) -> Result<Arc<dyn Backend>, BackendError> {
        Ok(Self::new(config)?)
    }

    /// Whose Ollama is used, after looking or starting.
    ///
    /// # Errors
    /// When there is none.
    pub async fn running(&self) -> Result<Running, BackendError> {
        self.supervisor.running().await
    }

    /// Ends the one that was started by us, and waits for its end.
    pub async fn stop(&self) {
        self.supervisor.stop().await;
    }

    /// Models in memory and the bytes that each takes.
    ///
    /// # Errors
    /// As [`BackendError`] tells.
    pub async fn loaded(&self) -> Result<Vec<(String, u64)>, BackendError> {
        let http = self.http().await?;
        self.loaded_of(&http).await
    }

    async fn loaded_of(&self, http: &Http) -> Result<Vec<(String, u64)>, BackendError> {
        let models = self.processes(http).await?.into_iter();
        Ok(models.map(|model| (model.name, model.size)).collect())
    }

    async fn processes(&self, http: &Http) -> Result<Vec<wire::Loaded>, BackendError> {
        let patience = self.config.limits.answer;
        let running: wire::Running = http
            .value(Method::GET, "/api/ps", http::nothing(), patience)
            .await?;
        Ok(running.models.unwrap_or_default())
    }

    /// Removes a model from its disk.
    ///
    /// # Errors
    /// As [`BackendError`] tells.
    pub async fn delete(&self, model: &str) -> Result<(), BackendError> {
        let http = self.http().await?;
        let question = http::json(&json!({ "model": model }))?;
        let patience = self.config.limits.answer;
        let answer = http
            .ask(Method::DELETE, "/api/delete", question, patience)
            .await?;
        answer.all(1 << 16, patience).await?;
        self.changed(model);
        Ok(())
    }

    /// A model came, changed or went.
    fn changed(&self, model: &str) {
        self.abouts.forget(model);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// The way to the one that runs.
    async fn http(&self) -> Result<Http, BackendError> {
        let running = self.supervisor.running().await?;
        Ok(Http::new(running.address, self.config.limits))
    }

    /// What came of a question: where nobody answered any more, it is looked anew next time.
    fn heard<T>(&self, what: Result<T, BackendError>) -> Result<T, BackendError> {
        if let Err(error) = &what
            && error.is_of_the_program()
        {
            self.supervisor.doubt();
        }
        what
    }

    async fn unload_of(&self, http: &Http, model: &str) -> Result<(), BackendError> {
        let patience = self.config.limits.answer;
        let question = json!({ "model": model, "keep_alive": 0, "stream": false });
        let asked = |path: &'static str, body| http.ask(Method::POST, path, body, patience);
        let answer = match asked("/api/generate", http::json(&question)?).await {
            // Models for vectors alone do not generate, and are unloaded by an empty question.
            Err(BackendError::NotCapable { .. }) => {
                let question = json!({ "model": model, "keep_alive": 0, "input": [] });
                asked("/api/embed", http::json(&question)?).await?
            }
            other => other?,
        };
        answer.all(1 << 20, patience).await?;
        Ok(())
    }
}

#[async_trait]
impl Backend for Ollama {
    fn name(&self) -> &str {
        NAME
    }

    fn reach(&self) -> Reach {
        Reach::Machine
    }

    fn at_once(&self) -> usize {
        usize::try_from(self.config.parallel).unwrap_or(usize::MAX)
    }

    fn about(&self) -> About {
        let known = self.supervisor.known();
        About {
            kind: NAME,
            address: known
                .as_ref()
                .map_or(self.config.address, |running| running.address)
                .to_string(),
            version: known.map(|running| running.version).unwrap_or_default(),
        }
    }

    fn shelf(&self) -> Option<&dyn Shelf> {
        Some(self)
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn was_installed(&self) {
        self.supervisor.was_installed();
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    async fn models(&self) -> Result<Vec<Offered>, BackendError> {
        let listed = async {
            let http = self.http().await?;
            self.offered(&http).await
        };
        self.heard(listed.await)
    }

    async fn in_memory(&self) -> Vec<InMemory> {
        let Some(running) = self.supervisor.known() else {
            return Vec::new();
        };
        let http = Http::new(running.address, self.config.limits);
        let loaded = self.processes(&http).await.unwrap_or_default();
        let ours = loaded.into_iter().filter_map(|model| {
            Some(InMemory {
                name: self.room.asked_as(&model.name)?,
                bytes: model.size,
                until_unix_ms: model.until_unix_ms(),
            })
        });
        ours.collect()
    }

    async fn generate(
        &self,
        _asker: &Asker,
        model: &str,
        question: &v1::Generate,
        items: mpsc::Sender<Item>,
    ) -> Result<v1::GeneratedEnd, BackendError> {
        self.heard(self.chat(model, question, &items).await)
    }

    async fn embed(
        &self,
        _asker: &Asker,
        model: &str,
        texts: &[String],
    ) -> Result<Embedded, BackendError> {
        self.heard(self.vectors(model, texts).await)
    }

    async fn unload(&self, model: &str) -> Result<(), BackendError> {
        let unloaded = async {
            let http = self.http().await?;
            self.room.may_leave(self, &http, model).await?;
            self.unload_of(&http, model).await
        };
        self.heard(unloaded.await)
    }
}
