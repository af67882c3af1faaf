//! Model files: what is told of one that is added, and looking at one that is about to run. What a
//! file says of itself is read elsewhere ([`heads`](super::heads)).

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use aico_contracts::v1::Fault;

use super::heads::Unread;
use super::registry::{Adapter, ModelRecord};
use crate::disk;
use crate::process::describe::Refusal;
use crate::process::launch::Failure;

/// Why a file can't be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// No file there, or none that may be read.
    #[error("{path} can't be opened")]
    Missing {
        /// As it was given.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A folder or device.
    #[error("{0} is no file")]
    NoFile(PathBuf),
    /// A path that can't be written down.
    #[error("the path {0:?} is not valid Unicode")]
    Path(PathBuf),
    /// Not a model that can be run.
    #[error("{path} is no model that AICO can run")]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// A model for other work.
    #[error("{path} holds a model ({architecture}) that neither converses nor makes vectors")]
    Speechless {
        /// The file.
        path: PathBuf,
        /// Its architecture.
        architecture: String,
    },
    /// No adapter for this model.
    #[error("{path} is no adapter for this model")]
    NoAdapter {
        /// The adapter's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// Nothing came of reading it.
    #[error("{path} could not be read as a model")]
    Unread {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Unread,
    },
}

impl AddError {
    /// As a failure told to the asker.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        let not = |detail: String| {
            Fault::new("not-a-model", "This file is no model that AICO can run").with_detail(detail)
        };
        let choose = "Choose a GGUF file of a chat model, such as those with Q4_K_M in their name.";
        match self {
            Self::Missing { path, source } if disk::is_failure(source) => unreadable(path),
            Self::Missing { source, .. } => Fault::new("model-missing", "The file can't be opened")
                .with_detail(format!("{self}: {source}."))
                .with_what_to_do("Check the path and that your user may read the file."),
            Self::NoFile(_) => not(format!("{self}.")).with_what_to_do(choose),
            Self::Path(_) => not(format!("{self}."))
                .with_what_to_do("Rename the file or its folder to plain letters."),
            Self::NotAModel {
                source: Refusal::Split(files),
                ..
            } => not(format!("The model is split into {files} files.")).with_what_to_do(
                "Merge them with `llama-gguf-split --merge`, then add the result.",
            ),
            Self::NotAModel {
                source: source @ Refusal::Cut(_),
                ..
            } => Fault::new("model-damaged", "The model file is not whole")
                .with_detail(format!("{source}."))
                .with_what_to_do("Download it again."),
            Self::NotAModel { source, .. } => not(format!("{source}.")).with_what_to_do(choose),
            Self::Speechless { .. } => not(format!("{self}.")).with_what_to_do(choose),
            Self::NoAdapter {
                path,
                source: source @ Refusal::Cut(_),
            } => Fault::new("model-damaged", "The file of the adapter is not whole")
                .with_detail(format!("{}: {source}.", path.display()))
                .with_what_to_do("Download it again."),
            Self::NoAdapter { source, .. } => {
                Fault::new("not-a-model", "This file is no adapter for this model")
                    .with_detail(format!("{self}: {source}."))
                    .with_what_to_do(
                        "An adapter is a GGUF file of the kind LoRA, made for this very model; \
                         convert_lora_to_gguf.py of llama.cpp makes one of other files.",
                    )
            }
            Self::Unread { source, .. } => {
                let fault = |code| {
                    Fault::new(code, "The file could not be read as a model")
                        .with_detail(format!("{self}: {source}."))
                };
                match source {
                    Unread::Start | Unread::NotSetUp => fault("model-failed").with_what_to_do(
                        "If AICO was replaced while it ran, start it again; `aico doctor` tells \
                         more.",
                    ),
                    Unread::Killed => fault("model-failed").with_what_to_do(
                        "Close other programs if memory is short, then try again.",
                    ),
                    Unread::Ended | Unread::TooSlow(_) | Unread::Strange => fault("not-a-model")
                        .with_what_to_do(
                            "It may be damaged, or made to do harm: choose another file of this \
                             model, or download it again from a source that you trust.",
                        ),
                }
            }
        }
    }
}

/// Where a file really is. Blocks, shortly.
pub(super) fn found(path: &Path) -> Result<(PathBuf, std::fs::Metadata), AddError> {
    let missing = |source| AddError::Missing {
        path: path.to_owned(),
        source,
    };
    let path = path.canonicalize().map_err(missing)?;
    if path.to_str().is_none() {
        return Err(AddError::Path(path));
    }
    let metadata = path.metadata().map_err(missing)?;
    match metadata.is_file() {
        true => Ok((path, metadata)),
        false => Err(AddError::NoFile(path)),
    }
}

pub(super) fn modified_ns(metadata: &std::fs::Metadata) -> i64 {
    let since = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

/// Whether the file of a record is still there and whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// As it was.
    Same,
    /// Of the same size, but written since: its hash decides.
    Touched,
    /// Of another size.
    Changed,
    /// Gone, or not readable.
    Missing,
}

/// Looks at the file of a record, and at that of its adapter. Blocks, shortly.
#[must_use]
pub fn presence(record: &ModelRecord) -> Presence {
    let own = own_presence(record);
    match (own, adapter_presence(record)) {
        // What an adapter holds is compared with its hash each time.
        (Presence::Same | Presence::Touched, gone @ (Presence::Changed | Presence::Missing)) => {
            gone
        }
        _ => own,
    }
}

fn own_presence(record: &ModelRecord) -> Presence {
    presence_of(&record.path, record.size, record.modified_ns)
}

fn adapter_presence(record: &ModelRecord) -> Presence {
    match &record.adapter {
        None => Presence::Same,
        Some(adapter) => presence_of(&adapter.path, adapter.size, adapter.modified_ns),
    }
}

fn presence_of(path: &Path, size: u64, modified: i64) -> Presence {
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Err(_) => Presence::Missing,
        Ok(now) if now.len() != size || !now.is_file() => Presence::Changed,
        Ok(now) if modified_ns(&now) != modified => Presence::Touched,
        Ok(_) => Presence::Same,
    }
}

/// The adapter, where it is what is wrong with a model and its own file is not. Blocks, shortly.
fn adapter_at_fault(record: &ModelRecord) -> Option<&Adapter> {
    let wrong = |presence| matches!(presence, Presence::Missing | Presence::Changed);
    let adapter = record.adapter.as_ref()?;
    (wrong(adapter_presence(record)) && !wrong(own_presence(record))).then_some(adapter)
}

/// SHA-256 of a file that is still as it was when it was added. Blocks as long as reading takes.
#[must_use]
pub fn hash(record: &ModelRecord) -> Option<[u8; 32]> {
    let mut file = std::fs::File::open(&record.path).ok()?;
    let hash = crate::process::hash(&mut file).ok()?;
    (own_presence(record) == Presence::Same).then_some(hash)
}

/// The fault of a model whose file is gone, or its adapter.
#[must_use]
pub fn missing(record: &ModelRecord) -> Fault {
    if let Some(adapter) = adapter_at_fault(record) {
        return adapter_missing(adapter);
    }
    Fault::new("model-missing", "The model's file is not there")
        .with_detail(format!("{} can't be opened.", record.path.display()))
        .with_what_to_do(
            "Put it back, or choose another model: `aico model list`, `aico model use`.",
        )
}

fn adapter_missing(adapter: &Adapter) -> Fault {
    Fault::new("model-missing", "The adapter of the model is not there")
        .with_detail(format!("{} can't be opened.", adapter.path.display()))
        .with_what_to_do(
            "Put it back, or choose another model: `aico model list`, `aico model use`.",
        )
}

/// The fault of a model whose file changed, or its adapter.
#[must_use]
pub fn damaged(record: &ModelRecord) -> Fault {
    if let Some(adapter) = adapter_at_fault(record) {
        return adapter_damaged(adapter);
    }
    Fault::new("model-damaged", "The model's file has changed")
        .with_detail(format!(
            "{} is not the file that was added.",
            record.path.display()
        ))
        .with_what_to_do(
            "If you replaced it yourself, add it again: `aico model add FILE`. One of the \
             catalogue can be downloaded again: `aico model pull NAME`.",
        )
}

fn adapter_damaged(adapter: &Adapter) -> Fault {
    Fault::new("model-damaged", "The adapter of the model has changed")
        .with_detail(format!(
            "{} is not the file that was added.",
            adapter.path.display()
        ))
        .with_what_to_do(
            "If you replaced it yourself, add it again: `aico model add MODEL --adapter FILE`.",
        )
}

/// The fault of a file of a model that the disk does not give out.
pub(super) fn unreadable(path: &Path) -> Fault {
    Fault::storage_failing().with_detail(format!("{} can't be read.", path.display()))
}

/// Why its process could not run it.
pub(super) fn refused(model: &ModelRecord, failure: &Failure) -> Fault {
    let other = "Choose another model, or another file of this one.";
    match failure {
        Failure::Missing => missing(model),
        Failure::Damaged => damaged(model),
        Failure::Unreadable => unreadable(&model.path),
        Failure::Refused(reason) => {
            let known = crate::engine::known_reason(reason);
            Fault::new("model-refused", "The model can't be loaded")
                .with_detail(known.map_or(String::new(), |reason| format!("Because {reason}.")))
                .with_what_to_do(other)
        }
        Failure::Template => {
            Fault::new("model-template", "The model's chat template does not work")
                .with_what_to_do(other)
        }
        Failure::Memory => Fault::new("model-too-large", "The model does not fit into memory")
            .with_what_to_do("Choose a smaller model, or set a smaller context."),
        Failure::Adapter(failure) => match (&model.adapter, &**failure) {
            (Some(adapter), Failure::Missing) => adapter_missing(adapter),
            (Some(adapter), Failure::Damaged) => adapter_damaged(adapter),
            (Some(adapter), Failure::Unreadable) => unreadable(&adapter.path),
            (adapter, _) => {
                let path = adapter.as_ref().map(|adapter| adapter.path.display());
                Fault::new("model-refused", "The adapter of the model can't be loaded")
                    .with_detail(path.map_or(String::new(), |path| {
                        format!("{path} does not work with this model.")
                    }))
                    .with_what_to_do("Choose another model, or add this one with another adapter.")
            }
        },
        Failure::Launch => Fault::model_failed("The model process did not understand us")
            .with_what_to_do("AICO was replaced while it ran: start it again."),
        Failure::Confinement | Failure::Link | Failure::Device(_) => {
            Fault::model_failed("The model process could not be set up")
                .with_what_to_do("`aico doctor` tells more.")
        }
    }
}
