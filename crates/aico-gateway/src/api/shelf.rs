//! Models on the disk of another program: what one would take, on its way, and there.

use aico_contracts::ids::ModelId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::ProblemDocument;

/// A model that such a program is to have.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"model": "qwen3:8b"}))]
pub(crate) struct MakeEngineModel {
    /// As the program calls it.
    pub(crate) model: String,
    /// The text of a Modelfile that it is made by; left out, it is downloaded.
    #[serde(default)]
    pub(crate) modelfile: Option<String>,
    /// Absolute: what paths in the Modelfile are below that are not.
    #[serde(default)]
    pub(crate) folder: Option<String>,
    /// It answers everybody as soon as it is there.
    #[serde(default)]
    pub(crate) use_then: bool,
}

/// What a model would take. Its registry was asked, and nothing was downloaded.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "engine": "ollama", "model": "qwen3:8b", "present": false, "download": "qwen3:8b",
    "source": "registry.ollama.ai", "size_bytes": 5225376047_u64,
    "license": "Apache License", "copied_bytes": 0, "unknown": null
}))]
pub(crate) struct EngineOffer {
    pub(crate) engine: String,
    /// Its whole name.
    pub(crate) model: String,
    /// The program has one of this name.
    pub(crate) present: bool,
    /// Which model is downloaded for it; null: nothing is.
    #[schema(required = true)]
    pub(crate) download: Option<String>,
    /// The server that it comes from.
    #[schema(required = true)]
    pub(crate) source: Option<String>,
    /// Null: that server does not tell.
    #[schema(required = true)]
    pub(crate) size_bytes: Option<u64>,
    /// First line of its licence; null: it is not known.
    #[schema(required = true)]
    pub(crate) license: Option<String>,
    /// Of files of this machine that are copied.
    pub(crate) copied_bytes: u64,
    /// Why the server told nothing.
    #[schema(required = true)]
    pub(crate) unknown: Option<ProblemDocument>,
}

/// How a model on its way is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineJobStatus {
    /// Another one goes first.
    Queued,
    Running,
    /// It will be tried again; `problem` says why.
    Waiting,
    Done,
    /// `problem` says why.
    Failed,
}

/// A model on its way.
#[derive(Serialize, ToSchema)]
pub(crate) struct EngineJob {
    pub(crate) engine: String,
    /// Its whole name.
    pub(crate) model: String,
    /// Its id among the models, there or not.
    #[schema(value_type = uuid::Uuid)]
    pub(crate) id: ModelId,
    /// It is made by a Modelfile.
    pub(crate) created: bool,
    pub(crate) status: EngineJobStatus,
    /// A word for what is done: `pulling`, `verifying`, `sending`, `writing`, ….
    #[schema(required = true)]
    pub(crate) step: Option<String>,
    pub(crate) done_bytes: u64,
    /// As far as it is known: it may grow.
    pub(crate) total_bytes: u64,
    pub(crate) bytes_per_second: u64,
    /// While it is known.
    #[schema(required = true)]
    pub(crate) seconds_left: Option<u64>,
    pub(crate) use_then: bool,
    #[schema(required = true)]
    pub(crate) problem: Option<ProblemDocument>,
    /// Until it is tried again.
    #[schema(required = true)]
    pub(crate) retry_in_seconds: Option<u64>,
}

/// What a program tells of a model.
#[derive(Serialize, ToSchema)]
pub(crate) struct EngineModelDetails {
    pub(crate) engine: String,
    pub(crate) model: String,
    /// Its whole text.
    #[schema(required = true)]
    pub(crate) license: Option<String>,
    #[schema(required = true)]
    pub(crate) template: Option<String>,
    /// What it is told before everything.
    #[schema(required = true)]
    pub(crate) system: Option<String>,
    /// A line for each: its name, spaces, its value.
    #[schema(required = true)]
    pub(crate) parameters: Option<String>,
    #[schema(required = true)]
    pub(crate) architecture: Option<String>,
    pub(crate) parameter_count: u64,
    #[schema(required = true)]
    pub(crate) quantization: Option<String>,
    pub(crate) context_length: u32,
    pub(crate) capabilities: Vec<String>,
}
