//! The models on the disk of a program beside us: looked for, downloaded, made, shown, removed.

use std::path::PathBuf;

use aico_characters::Recipe;
use aico_contracts::v1::Fault;
use async_trait::async_trait;
use tokio::sync::watch;

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// A word for what is done: `pulling`, `verifying`, `sending`, `writing`, ….
    pub step: &'static str,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all, as far as it is known: it grows while parts are found.
    pub total: u64,
}

/// A model that is wished for.
#[derive(Debug, Clone, PartialEq)]
pub struct Making {
    /// Its whole name, as [`Shelf::whole`] has it.
    pub name: String,
    /// What it is made of; `None`: it is downloaded.
    pub recipe: Option<Recipe>,
    /// What paths in the recipe are below that are not absolute.
    pub folder: PathBuf,
}

/// What it would take.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offer {
    /// There is one of this name.
    pub present: bool,
    /// What is downloaded for it; empty: nothing.
    pub download: String,
    /// From which server.
    pub source: String,
    /// Bytes; 0: not told.
    pub size: u64,
    /// First line of its licence; empty: not told.
    pub license: String,
    /// Bytes of files of this machine that are copied.
    pub copied: u64,
    /// Why nothing was told.
    pub unknown: Option<Fault>,
}

/// What is known of a model that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Its whole text, cut where it is very long.
    pub license: String,
    /// Its template for chats.
    pub template: String,
    /// What it is told before everything.
    pub system: String,
    /// A line for each.
    pub parameters: String,
    /// `qwen3`, …
    pub architecture: String,
    /// Number of them.
    pub parameter_count: u64,
    /// `Q4_K_M`, …
    pub quantization: String,
    /// Tokens.
    pub context_length: u32,
    /// As [`super::Capability`] calls them.
    pub capabilities: Vec<String>,
}

/// Why a model was not made.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// For the person.
    pub fault: Fault,
    /// It may be over by itself: what was there is gone on with.
    pub passes: bool,
}

/// What keeps its models where it lets us keep them.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// The whole name that a name stands for.
    ///
    /// # Errors
    /// `invalid`: it is none; `address-refused`, `engine-elsewhere`: it leads where nothing is
    /// fetched from.
    fn whole(&self, name: &str) -> Result<String, Fault>;

    /// What a model would take. The server is asked that it would come from, and for nothing
    /// that is large.
    ///
    /// # Errors
    /// When there is none, or what it is made of can't be had.
    async fn offer(&self, making: &Making) -> Result<Offer, Fault>;

    /// Downloads or makes it. Dropping the future stops it; what came is kept where the program
    /// keeps it.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn make(
        &self,
        making: &Making,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), Trouble>;

    /// Removes what [`make`](Self::make) left unfinished of it, as far as that is ours to do.
    async fn give_up(&self, name: &str);

    /// What is known of a model.
    ///
    /// # Errors
    /// When it is not there or nobody can be asked.
    async fn details(&self, name: &str) -> Result<Details, Fault>;

    /// Removes a model from the disk.
    ///
    /// # Errors
    /// As [`details`](Self::details).
    async fn delete(&self, name: &str) -> Result<(), Fault>;
}
