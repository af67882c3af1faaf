//! Other programs that run models, and what of one's words went to them.

use aico_access as access;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How such a program is, as far as it was heard of.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineStatus {
    /// It was not asked yet.
    Unknown,
    /// It answered.
    Ready,
    /// `why` says what happened.
    Failed,
}

/// Another program that runs models.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "name": "lab", "kind": "openai", "address": "gpu.lab.example:8000", "network": true,
    "version": "vllm", "status": "ready", "seen_at": "2026-01-31T12:00:00Z", "code": null,
    "why": null, "detail": null, "what_to_do": null, "allowed": false, "allowed_elsewhere": false
}))]
pub(crate) struct Engine {
    /// As the configuration names it.
    pub(crate) name: String,
    /// What it speaks: `openai`, `ollama`.
    pub(crate) kind: String,
    /// Host and port.
    pub(crate) address: String,
    /// What is asked leaves this machine.
    pub(crate) network: bool,
    /// What it said that it is.
    #[schema(required = true)]
    pub(crate) version: Option<String>,
    pub(crate) status: EngineStatus,
    /// When it was last heard of.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub(crate) seen_at: Option<Timestamp>,
    /// Why it failed, to decide by: `engine-absent`, `engine-key`, ….
    #[schema(required = true)]
    pub(crate) code: Option<String>,
    /// The same for people.
    #[schema(required = true)]
    pub(crate) why: Option<String>,
    #[schema(required = true)]
    pub(crate) detail: Option<String>,
    /// What the person can do about it.
    #[schema(required = true)]
    pub(crate) what_to_do: Option<String>,
    /// One's own words may go there. What stays on this machine always may.
    pub(crate) allowed: bool,
    /// One agreed when it had another address, which does not count any more.
    pub(crate) allowed_elsewhere: bool,
}

/// What came of asking one.
#[derive(Serialize, ToSchema)]
pub(crate) struct CheckedEngine {
    pub(crate) engine: Engine,
    /// What it has; empty unless it answered.
    pub(crate) models: Vec<String>,
}

/// That one's words may go to a server.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"address": "gpu.lab.example:8000"}))]
pub(crate) struct EngineConsent {
    /// Host and port, as they were shown.
    pub(crate) address: String,
}

/// Which part of what left.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EgressParams {
    /// Only what left before this one.
    pub(crate) before: Option<i64>,
    /// At most so many, up to 200.
    #[serde(default)]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub(crate) limit: Option<u32>,
}

/// What left this machine: how much and whereto, and no word of it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": 7, "at": "2026-01-31T12:00:00Z", "engine": "lab", "address": "gpu.lab.example:8000",
    "model": "qwen3-32b", "what": "chat", "bytes": 2130, "tokens": 540
}))]
pub(crate) struct Egress {
    /// Rises with time.
    pub(crate) id: i64,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    pub(crate) engine: String,
    /// Host and port.
    pub(crate) address: String,
    pub(crate) model: String,
    /// `chat` or `embeddings`.
    pub(crate) what: String,
    /// Of text and pictures.
    pub(crate) bytes: u64,
    /// As the server counted them; null when it did not tell.
    #[schema(required = true)]
    pub(crate) tokens: Option<u32>,
}

impl From<access::Egress> for Egress {
    fn from(from: access::Egress) -> Self {
        Self {
            id: from.id,
            at: from.at,
            engine: from.engine,
            address: from.address,
            model: from.model,
            what: from.what,
            bytes: from.bytes,
            tokens: from.tokens,
        }
    }
}
