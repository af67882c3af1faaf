//! What daemon and model process say to each other beside the bus: JSON, one object a line.
//!
//! - Daemon to process, on its standard input: first a [`Launch`], then [`Control`]s. The pipe
//!   stays open as long as the daemon lives; its end is the process's end.
//! - Process to daemon, on its standard output: [`Report`]s. The daemon reads them as coming
//!   from a stranger: bounded, and nothing but these shapes.

use std::path::PathBuf;

use aico_bus::link::Credentials;
use aico_contracts::ids::{ModelId, PersonId};
use serde::{Deserialize, Serialize};

use super::confine::Confinement;
use crate::gpu::device::{Device, Lack, Offload};

/// Of this protocol; a difference means that the program file was replaced while the daemon ran, or
/// that the executable for a graphics device was built with another version.
pub const VERSION: u32 = 7;
/// Longest line in either direction.
pub const LINE_LIMIT: usize = 64 * 1024;

/// All that the process needs. Holds a secret key: no Debug.
#[derive(Serialize, Deserialize)]
pub struct Launch {
    /// [`VERSION`].
    pub version: u32,
    /// The key and address of its link to the bus.
    pub link: Credentials,
    /// Number of its slot: it serves `models.slot.<n>.*`.
    pub slot: u32,
    /// The model file.
    pub model: PathBuf,
    /// Its id in the registry: a question that is for another one is not answered.
    pub id: ModelId,
    /// Its size when it was registered.
    pub size: u64,
    /// Its SHA-256 in hexadecimal, when it has to be checked.
    pub sha256: Option<String>,
    /// What changes the model.
    pub adapter: Option<Adapter>,
    /// The one folder it may write to.
    pub scratch: PathBuf,
    /// Threads that compute; 0: as the machine suggests.
    pub threads: u32,
    /// Tokens of context for each sequence; 0: default.
    pub context: u32,
    /// Sequences at once.
    pub sequences: u32,
    /// Most bytes of a prompt's state that is handed out or taken back; 0: none is.
    pub most_kept: u64,
    /// Milliseconds for which nothing may come of the vectors that it computes: then it does not
    /// tell any more that it is well.
    pub still_ms: u64,
    /// The graphics device that is to compute; `None`: the processor does.
    pub gpu: Option<Offload>,
}

/// The file of an adapter. It is small, and compared each time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Adapter {
    /// Where it is.
    pub path: PathBuf,
    /// Its size when it was registered.
    pub size: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What the daemon says later.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// Empties the cache of this person's prompts.
    Forget(PersonId),
    /// Empties the cache of one of their conversations' prompts.
    Discard(PersonId, Vec<u8>),
    /// Ends the process.
    Stop,
}

/// What the process says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// This graphics device is open, and computes.
    Device(Device),
    /// It is confined and on the bus.
    Hello(Confinement),
    /// It reads the model: so many hundredths of it are done.
    Loading(u8),
    /// It answers.
    Ready {
        /// Tokens that fit into a sequence.
        context: u32,
    },
    /// It has dealt with a question.
    Answered {
        /// Of which trace it was part: 32 hexadecimal digits; empty: of none.
        trace: String,
        /// `stop`, `length`, `cancelled`, `busy` or `failed`.
        outcome: Outcome,
        /// Tokens that were read.
        read: u32,
        /// Tokens that were written.
        written: u32,
        /// Milliseconds, from the question to the end.
        took_ms: u64,
    },
    /// It can't, and ends.
    Failed(Failure),
}

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The model came to an end.
    Stop,
    /// The answer was as long as it may be.
    Length,
    /// The asker wanted no more.
    Cancelled,
    /// Too many waited.
    Busy,
    /// It went wrong, or the question could not be read.
    Failed,
}

/// Why a model can't be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The launch line could not be read, or is of another version.
    Launch,
    /// The confinement could not be set up.
    Confinement,
    /// The bus could not be reached.
    Link,
    /// The file can't be opened.
    Missing,
    /// Size or hash are not those of the registered file.
    Damaged,
    /// The disk failed at reading it.
    Unreadable,
    /// The library refused it; one of its known reasons.
    Refused(String),
    /// Its chat template does not work.
    Template,
    /// No memory for the context.
    Memory,
    /// The graphics device can't be used.
    Device(Lack),
    /// The same of its adapter.
    Adapter(Box<Failure>),
}
