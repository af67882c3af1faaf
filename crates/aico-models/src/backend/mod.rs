//! Models that another program runs: the seam between our routing and such a program.
//!
//! A [`Backend`] is one of them: an Ollama on this machine, a server of the household. It knows its
//! models by their names and answers one question at a time for each call. Who may ask, in which
//! order, how long it may take and what happens when it fails is decided on our side of the seam,
//! alike for all of them.
//!
//! What stands behind it on another machine is [`Guarded`]: nothing goes there without the consent
//! of the person whose words it is, and nothing without a note of it.

mod budget;
mod driver;
mod egress;
mod engines;
mod error;
mod installing;
mod jobs;
pub mod ollama;
pub mod openai;
pub mod shelf;

use aico_contracts::ids::PersonId;
use aico_contracts::v1;
use async_trait::async_trait;
use tokio::sync::mpsc;

pub use egress::{Guarded, Ledger, Outgoing, Seen, What};
pub use engines::{Engines, EnginesError};
pub use error::{BackendError, Wait};
pub use installing::InstallConfig;

/// Where what is asked goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It stays on this machine.
    Machine,
    /// It leaves it.
    Network,
}

/// What is known of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// What it speaks: `openai`, `ollama`.
    pub kind: &'static str,
    /// Host and port.
    pub address: String,
    /// What it last said of itself, a version or a name; empty: nothing yet.
    pub version: String,
}

/// On whose behalf a backend is asked. What leaves this machine is decided and noted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asker {
    /// Whose words they are; `None`: nobody's, as when a part of AICO tries whether a model works.
    pub person: Option<PersonId>,
}

impl Asker {
    /// For this person.
    #[must_use]
    pub fn of(person: PersonId) -> Self {
        Self {
            person: Some(person),
        }
    }
}

/// A model of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offered {
    /// As the backend calls it: `qwen3:8b`.
    pub name: String,
    /// Bytes of its files; 0: not told.
    pub size: u64,
    /// `qwen3`, …; may be empty.
    pub architecture: String,
    /// Number of them; 0: not told.
    pub parameters: u64,
    /// `Q4_K_M`, …; may be empty.
    pub quantization: String,
    /// Tokens it can attend to; 0: not told.
    pub context_length: u32,
    /// May be empty.
    pub license: String,
    /// What it is good for.
    pub capabilities: Vec<Capability>,
    /// When it was last changed; 0: not told.
    pub modified_unix_ms: u64,
    /// Bytes of memory it has now; `None`: it is not loaded, or that is not told.
    pub loaded: Option<u64>,
}

/// What a model is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Goes on with a conversation.
    Chat,
    /// Turns text into vectors.
    Embeddings,
    /// Calls tools.
    Tools,
    /// Thinks before it answers.
    Thinking,
    /// Sees images.
    Images,
}

impl Capability {
    /// As in `Model.capabilities` of the contracts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
            Self::Tools => "tools",
            Self::Thinking => "thinking",
            Self::Images => "images",
        }
    }
}

/// Vectors of several texts, in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embedded {
    /// One for each text, of length 1.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts; 0: not told.
    pub tokens: u32,
    /// The places of the texts of which the end was left out, in their order.
    pub truncated: Vec<usize>,
}

/// A model in the memory of a program beside us, which is there because of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InMemory {
    /// As the backend calls it: `qwen3:8b`.
    pub name: String,
    /// Bytes it takes.
    pub bytes: u64,
    /// When it goes unless somebody asks it, in milliseconds since the Unix epoch; 0: not by
    /// itself, or that is not told.
    pub until_unix_ms: u64,
}

/// What has come of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A piece of it.
    Text(String),
    /// A piece of what the model thinks before it.
    Thinking(String),
    /// It wants a tool to be called.
    ToolCall(v1::ToolCall),
}

/// A program that runs models.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The name that its models are listed under: `ollama`, or that of a configured server.
    fn name(&self) -> &str;

    /// Where what is asked goes.
    fn reach(&self) -> Reach;

    /// What keeps its models, where it lets us keep them.
    fn shelf(&self) -> Option<&dyn shelf::Shelf> {
        None
    }

    /// How many questions it is asked at once; the others wait before it, in a fair order.
    fn at_once(&self) -> usize {
        4
    }

    /// Counts how often its models changed by our doing.
    fn changes(&self) -> u64 {
        0
    }

    /// It was installed by us just now: what was known of it counts no longer.
    fn was_installed(&self) {}

    /// What is known of it, without asking it.
    fn about(&self) -> About {
        About::default()
    }

    /// Whether it may be asked on somebody's behalf; [`generate`](Self::generate) and
    /// [`embed`](Self::embed) hold to it by themselves. For choosing between models beforehand.
    ///
    /// # Errors
    /// [`BackendError::NotAllowed`].
    async fn permits(&self, _asker: &Asker) -> Result<(), BackendError> {
        Ok(())
    }

    /// What it offers now.
    ///
    /// # Errors
    /// When it can't be reached or is not what it should be.
    async fn models(&self) -> Result<Vec<Offered>, BackendError>;

    /// The models that are in its memory because of us, answering or idle; none where it does not
    /// tell. Nothing is started for it.
    async fn in_memory(&self) -> Vec<InMemory> {
        Vec::new()
    }

    /// Asks a model. Items are handed over as they come, the figures at the end. Dropping the
    /// future ends the work on the other side too.
    ///
    /// # Errors
    /// As [`BackendError`] tells; what was handed over until then stays valid.
    async fn generate(
        &self,
        asker: &Asker,
        model: &str,
        question: &v1::Generate,
        items: mpsc::Sender<Item>,
    ) -> Result<v1::GeneratedEnd, BackendError>;

    /// Turns texts into vectors. Of one that is too long for the model the end is left out, and
    /// that is told, or it is refused.
    ///
    /// # Errors
    /// As [`BackendError`] tells.
    async fn embed(
        &self,
        asker: &Asker,
        model: &str,
        texts: &[String],
    ) -> Result<Embedded, BackendError>;

    /// Takes a model out of memory, where the program can be told to.
    ///
    /// # Errors
    /// [`BackendError::InUse`], [`BackendError::LoadedByOthers`] where it has to stay; otherwise
    /// as [`BackendError`] tells.
    async fn unload(&self, model: &str) -> Result<(), BackendError>;
}
