//! What goes over the wire, in both dialects: what one of them lacks is optional here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What goes later than in so long, a century, does not go by itself.
const FOR_EVER_MS: i64 = 100 * 365 * 24 * 3600 * 1000;

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tags {
    #[serde(default)]
    pub(super) models: Option<Vec<Listed>>,
}

/// A model that is there.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Listed {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) modified_at: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) digest: String,
    #[serde(default)]
    pub(super) details: Details,
    /// It runs on a server of somebody else's.
    #[serde(default)]
    pub(super) remote_host: String,
    /// Newer ones only.
    #[serde(default)]
    pub(super) capabilities: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Details {
    #[serde(default)]
    pub(super) family: String,
    #[serde(default)]
    pub(super) parameter_size: String,
    #[serde(default)]
    pub(super) quantization_level: String,
    /// Newer ones only.
    #[serde(default)]
    pub(super) context_length: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Running {
    #[serde(default)]
    pub(super) models: Option<Vec<Loaded>>,
}

/// A model in memory.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Loaded {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) expires_at: String,
}

impl Loaded {
    /// When it goes by itself; 0: not, or that is not told. One that stays for ever goes in some
    /// centuries, and one that answers has its time from before.
    pub(super) fn until_unix_ms(&self) -> u64 {
        let at: Option<jiff::Timestamp> = self.expires_at.parse().ok();
        let at = at.map_or(0, jiff::Timestamp::as_millisecond);
        let now = jiff::Timestamp::now().as_millisecond();
        match at > now && at - now < FOR_EVER_MS {
            true => u64::try_from(at).unwrap_or(0),
            false => 0,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ShowRequest<'a> {
    pub(super) model: &'a str,
}

#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    #[serde(default)]
    pub(super) license: String,
    #[serde(default)]
    pub(super) template: String,
    #[serde(default)]
    pub(super) system: String,
    #[serde(default)]
    pub(super) parameters: String,
    #[serde(default)]
    pub(super) details: Details,
    #[serde(default)]
    pub(super) model_info: serde_json::Map<String, Value>,
    #[serde(default)]
    pub(super) capabilities: Option<Vec<String>>,
    #[serde(default)]
    pub(super) remote_host: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ChatRequest<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<Message>,
    pub(super) stream: bool,
    pub(super) keep_alive: i64,
    /// Always said: left out it means one thing to the older and another to the newer. A truth value,
    /// or how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) think: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<Options>,
    /// Newer ones: say that it is too long instead of leaving something out in silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) truncate: Option<bool>,
    /// Newer ones: end when the context is full instead of forgetting its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shift: Option<bool>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Message {
    pub(super) role: &'static str,
    pub(super) content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) images: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) tool_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) tool_call_id: String,
}

/// All of them are said each time: their defaults differ between the dialects.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Options {
    pub(super) num_ctx: u32,
    pub(super) num_predict: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repeat_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stop: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChatLine {
    #[serde(default)]
    pub(super) message: Option<Spoken>,
    pub(super) done: bool,
    #[serde(default)]
    pub(super) done_reason: String,
    #[serde(default)]
    pub(super) prompt_eval_count: u32,
    #[serde(default)]
    pub(super) eval_count: u32,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Spoken {
    #[serde(default)]
    pub(super) content: String,
    #[serde(default)]
    pub(super) thinking: Option<String>,
    #[serde(default)]
    pub(super) tool_calls: Option<Vec<Called>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Called {
    /// Newer ones only.
    #[serde(default)]
    pub(super) id: String,
    pub(super) function: Function,
}

#[derive(Debug, Deserialize)]
pub(super) struct Function {
    pub(super) name: String,
    #[serde(default)]
    pub(super) arguments: Value,
}

#[derive(Debug, Serialize)]
pub(super) struct EmbedRequest<'a> {
    pub(super) model: &'a str,
    pub(super) input: &'a [String],
    pub(super) truncate: bool,
    pub(super) keep_alive: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct EmbedAnswer {
    pub(super) embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    pub(super) prompt_eval_count: u32,
}

/// A line of what takes long: a download, a model that is made.
#[derive(Debug, Deserialize)]
pub(super) struct Step {
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) digest: String,
    #[serde(default)]
    pub(super) total: u64,
    #[serde(default)]
    pub(super) completed: u64,
}
