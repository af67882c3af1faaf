//! Models, and what the owner sees of the daemon.

use aico_contracts::ids::ModelId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::access::Stage;
use crate::config::{LogLevel, LogQuery, ProcessStatus};
use crate::problem::{Code, ProblemDocument};

/// A model that can answer.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0193a1b2-0000-7000-8000-000000000005", "name": "starter",
    "file": "/home/ada/.local/share/aico/models/starter.gguf", "size_bytes": 4000000,
    "architecture": "llama", "parameters": 1000000, "quantization": "Q8_0",
    "context_length": 1024, "license": "MIT", "starter": true, "active": true, "present": true,
    "engine": null, "capabilities": ["chat"], "pinned": false, "loaded": true
}))]
pub(crate) struct Model {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) id: ModelId,
    pub(crate) name: String,
    /// Where its file is on this machine.
    pub(crate) file: String,
    pub(crate) size_bytes: u64,
    pub(crate) architecture: String,
    pub(crate) parameters: u64,
    pub(crate) quantization: String,
    /// Tokens.
    pub(crate) context_length: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) license: Option<String>,
    /// The small one that AICO brings along.
    pub(crate) starter: bool,
    /// The one that answers.
    pub(crate) active: bool,
    /// The file is where it was.
    pub(crate) present: bool,
    /// What runs it, when it is not AICO's own engine.
    #[schema(required = true)]
    pub(crate) engine: Option<String>,
    /// `chat`, `embeddings`, `tools`, `thinking`, `images`, as far as it is known.
    pub(crate) capabilities: Vec<String>,
    /// It stays in memory once it is there.
    pub(crate) pinned: bool,
    /// It is in memory, or about to be.
    pub(crate) loaded: bool,
    /// Where the file of the adapter is that changes the model in `file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter: Option<String>,
}

/// How far the model process is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModelStatus {
    /// Not wanted now.
    Stopped,
    /// Loading.
    Starting,
    /// Answers.
    Ready,
    /// `why` says what happened.
    Failed,
}

/// The state of the model process.
#[derive(Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "status": "starting", "model": "0193a1b2-0000-7000-8000-000000000005", "name": "starter",
    "loading_percent": 40, "why": null, "what_to_do": null
}))]
pub(crate) struct ModelState {
    pub(crate) status: ModelStatus,
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    pub(crate) model: Option<ModelId>,
    #[schema(required = true)]
    pub(crate) name: Option<String>,
    /// How much of it is loaded, while it starts and that is known.
    #[schema(required = true)]
    pub(crate) loading_percent: Option<u32>,
    /// Why it failed.
    #[schema(required = true)]
    pub(crate) why: Option<String>,
    /// What the person can do about it.
    #[schema(required = true)]
    pub(crate) what_to_do: Option<String>,
}

/// All models and the state of the one that answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    pub(crate) items: Vec<Model>,
    pub(crate) state: ModelState,
}

/// A file to bring in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"path": "/home/ada/Downloads/model.gguf"}))]
pub(crate) struct AddModel {
    /// A path on the machine that AICO runs on.
    pub(crate) path: String,
    /// That of an adapter (LoRA, a GGUF file) for it: both together are a model of their own.
    pub(crate) adapter: Option<String>,
    /// What it is to be called instead of what its file says.
    pub(crate) name: Option<String>,
}

/// The model that shall answer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"id": "0193a1b2-0000-7000-8000-000000000005"}))]
pub(crate) struct UseModel {
    /// An unknown one is told as `not-found`, like anything else that is not there.
    #[schema(value_type = uuid::Uuid)]
    pub(crate) id: String,
}

/// Whether a model can be loaded on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fit {
    /// The machine does not tell.
    Unknown,
    /// Now.
    Fits,
    /// When other programs give memory back.
    Tight,
    /// Never.
    TooLarge,
}

/// A model that can be downloaded.
#[derive(Serialize, ToSchema)]
pub(crate) struct CatalogueEntry {
    /// What it is called here.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) summary: String,
    /// `chat` or `embedding`.
    pub(crate) purpose: String,
    pub(crate) architecture: String,
    pub(crate) parameters: u64,
    pub(crate) quantization: String,
    /// Tokens.
    pub(crate) context_length: u32,
    /// SPDX identifier, or `LicenseRef-…`.
    pub(crate) license: String,
    pub(crate) license_url: String,
    /// Where the file is.
    pub(crate) sources: Vec<String>,
    pub(crate) size_bytes: u64,
    /// In hexadecimal.
    pub(crate) sha256: String,
    /// What running it takes, as AICO is configured.
    pub(crate) memory_bytes: u64,
    pub(crate) fit: Fit,
    /// It suits this machine best.
    pub(crate) recommended: bool,
    /// Its id among the models, once it is there.
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    pub(crate) model: Option<ModelId>,
    /// The file is on this machine.
    pub(crate) present: bool,
    /// What there is of an unfinished download.
    pub(crate) partial_bytes: u64,
}

/// What can be downloaded, and what this machine can carry.
#[derive(Serialize, ToSchema)]
pub(crate) struct Catalogue {
    /// Day on which its facts were last looked at.
    pub(crate) date: String,
    /// The owner's own file, if it is not the one that comes with AICO.
    #[schema(required = true)]
    pub(crate) file: Option<String>,
    /// The server that is asked in place of the sources.
    #[schema(required = true)]
    pub(crate) mirror: Option<String>,
    /// Bytes of memory, where the machine tells.
    #[schema(required = true)]
    pub(crate) memory_bytes: Option<u64>,
    /// Bytes that can be had now.
    #[schema(required = true)]
    pub(crate) available_bytes: Option<u64>,
    pub(crate) cores: u32,
    pub(crate) items: Vec<CatalogueEntry>,
}

/// A model to download.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "qwen3-4b", "use_then": true}))]
pub(crate) struct PullModel {
    /// By the catalogue.
    pub(crate) name: String,
    /// It answers as soon as it is here.
    #[serde(default)]
    pub(crate) use_then: bool,
}

/// What a download does.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PullStatus {
    /// Another one goes first.
    Queued,
    /// What is on the disk already is looked at.
    Checking,
    Running,
    /// It will be tried again; `problem` says why.
    Waiting,
    /// All of it is here, and its hash is computed.
    Verifying,
    Done,
    /// `problem` says why.
    Failed,
}

/// A download.
#[derive(Serialize, ToSchema)]
pub(crate) struct Pull {
    pub(crate) name: String,
    pub(crate) status: PullStatus,
    /// Downloaded, or while checking and verifying: read.
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: u64,
    /// Of an earlier time.
    pub(crate) kept_bytes: u64,
    pub(crate) bytes_per_second: u64,
    /// While it is known.
    #[schema(required = true)]
    pub(crate) seconds_left: Option<u64>,
    /// Name of the server.
    #[schema(required = true)]
    pub(crate) source: Option<String>,
    pub(crate) use_then: bool,
    /// Its id among the models, when it is done.
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    pub(crate) model: Option<ModelId>,
    #[schema(required = true)]
    pub(crate) problem: Option<ProblemDocument>,
    /// Until it is tried again.
    #[schema(required = true)]
    pub(crate) retry_in_seconds: Option<u64>,
}

/// All downloads since AICO was unlocked.
#[derive(Serialize, ToSchema)]
pub(crate) struct PullList {
    pub(crate) items: Vec<Pull>,
}

/// It runs.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"status": "live"}))]
pub(crate) struct Live {
    pub(crate) status: &'static str,
}

/// Whether it can be used.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    pub(crate) status: Stage,
    /// What does not work at present, by the codes of the problems that tell it: with
    /// `storage-full` and `storage-read-only` reading goes on and nothing can be added; with
    /// `storage-slow` it takes long; `damaged` is what `POST /api/v1/stores/check` tells more of.
    /// Left out while all is well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) degraded: Vec<Code>,
    /// Told, but it does not count: a question waits for a starting model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<ModelState>,
}

/// How the daemon is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Status {
    pub(crate) version: &'static str,
    #[serde(flatten)]
    pub(crate) process: ProcessStatus,
    /// Connections that are open now, over TCP and the local socket.
    pub(crate) connections: usize,
    /// WebSockets among them.
    pub(crate) sockets: usize,
    pub(crate) model: ModelState,
}

/// Which lines of the log.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// This level and the more severe ones.
    #[param(inline)]
    pub(crate) level: Option<LogLevel>,
    /// Modules whose name begins so.
    pub(crate) module: Option<String>,
    /// From then on, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime)]
    pub(crate) since: Option<Timestamp>,
    /// What belongs to one request: its trace id, 32 hexadecimal digits.
    #[serde(default, deserialize_with = "trace")]
    #[param(value_type = Option<String>)]
    pub(crate) trace: Option<aico_bus::Trace>,
    /// Go on with what is logged from now on.
    #[serde(default)]
    #[param(required = false)]
    pub(crate) follow: bool,
}

fn trace<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<aico_bus::Trace>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

impl From<LogParams> for LogQuery {
    fn from(params: LogParams) -> Self {
        let LogParams {
            level,
            module,
            since,
            trace,
            follow,
        } = params;
        Self {
            level,
            module,
            since,
            trace,
            follow,
        }
    }
}
