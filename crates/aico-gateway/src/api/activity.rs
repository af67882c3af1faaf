//! What models do, for a page that draws it.

use aico_contracts::ids::ModelId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::model::ModelStatus;

/// Which samples.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ActivityParams {
    /// Those that were taken later than this, RFC 3339; left out, all of the last hour. Who draws
    /// on gives the time of the last sample that it has.
    #[param(value_type = Option<String>, format = DateTime)]
    pub(crate) after: Option<Timestamp>,
}

/// What models do now and did in the last hour.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelsActivity {
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// From one sample to the next.
    pub(crate) sample_every_ms: u64,
    /// Bytes of memory of the machine, where it tells.
    #[schema(required = true)]
    pub(crate) memory_bytes: Option<u64>,
    /// Bytes that can be had now.
    #[schema(required = true)]
    pub(crate) available_bytes: Option<u64>,
    /// Models of AICO's own engine that may be in memory at once.
    pub(crate) most_loaded: u32,
    /// Those that are in memory or were asked since the daemon began, the loaded ones first.
    pub(crate) models: Vec<ModelActivity>,
    /// The oldest first.
    pub(crate) samples: Vec<ActivitySample>,
    /// One's own questions, the latest first, at most 200 of everybody's last. Of others'
    /// questions there are the sums only.
    pub(crate) requests: Vec<AskedOfModel>,
}

/// What one model does.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelActivity {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) model: ModelId,
    pub(crate) name: String,
    /// What runs it, when it is not AICO's own engine.
    #[schema(required = true)]
    pub(crate) engine: Option<String>,
    pub(crate) status: ModelStatus,
    /// How much of it is loaded, while it starts and that is known.
    #[schema(required = true)]
    pub(crate) loading_percent: Option<u32>,
    /// It answers where none is named.
    pub(crate) active: bool,
    /// It stays in memory.
    pub(crate) pinned: bool,
    /// What it takes now, when it is loaded and that is known.
    #[schema(required = true)]
    pub(crate) memory_bytes: Option<u64>,
    /// When it is taken out of memory unless somebody asks it.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub(crate) idle_until: Option<Timestamp>,
    /// Questions that are being answered.
    pub(crate) running: u32,
    /// How many can be at once.
    pub(crate) places: u32,
    /// Questions that wait: for a place, for room in memory, or for it to be loaded.
    pub(crate) waiting: u32,
    /// Of all its answers that go on now, taken together.
    pub(crate) tokens_per_second: f32,
    /// Since the daemon began, everybody's.
    pub(crate) totals: AskedTotals,
    /// Its engine fails and is left alone until then.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub(crate) resting_until: Option<Timestamp>,
    /// Times that its process was started again after a crash.
    pub(crate) restarts: u32,
    /// While it has one.
    #[schema(required = true)]
    pub(crate) process_id: Option<u32>,
    /// The graphics device that computes it. Without one, the processor does.
    #[schema(required = true)]
    pub(crate) device: Option<GraphicsDevice>,
    /// Why the processor computes it although a graphics device was wanted.
    #[schema(required = true)]
    pub(crate) fallback: Option<Fallback>,
}

/// A graphics device.
#[derive(Serialize, ToSchema)]
pub(crate) struct GraphicsDevice {
    /// How it is reached: `vulkan`, `cuda` or `metal`.
    pub(crate) kind: String,
    /// As its driver tells.
    pub(crate) name: String,
    /// Bytes of its memory.
    pub(crate) memory_bytes: u64,
    /// How many of them were free before the model was loaded.
    pub(crate) free_bytes: u64,
    /// It shares the machine's memory.
    pub(crate) shared: bool,
}

/// Why something is done in another way than was wanted.
#[derive(Serialize, ToSchema)]
pub(crate) struct Fallback {
    /// For programs: `gpu-no-device`, `gpu-too-small` and the like.
    pub(crate) code: String,
    pub(crate) why: String,
    #[schema(required = true)]
    pub(crate) detail: Option<String>,
    #[schema(required = true)]
    pub(crate) what_to_do: Option<String>,
}

/// How questions ended, and what they took.
#[derive(Serialize, ToSchema)]
pub(crate) struct AskedTotals {
    pub(crate) completed: u64,
    pub(crate) cancelled: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) prompt_tokens: u64,
    /// How many of them needed not be read again.
    pub(crate) cached_tokens: u64,
    pub(crate) answer_tokens: u64,
    /// Until the first token, on average.
    #[schema(required = true)]
    pub(crate) first_token_ms: Option<f64>,
    /// Of one answer while it is written, on average.
    #[schema(required = true)]
    pub(crate) tokens_per_second: Option<f32>,
}

/// What went on at one time.
#[derive(Serialize, ToSchema)]
pub(crate) struct ActivitySample {
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Bytes of memory that could be had.
    #[schema(required = true)]
    pub(crate) available_bytes: Option<u64>,
    /// Those that were in memory or were asked since the sample before; others did nothing.
    pub(crate) models: Vec<ModelSample>,
}

/// What one model did since the sample before.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelSample {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) model: ModelId,
    /// Questions in progress, on average.
    pub(crate) running: f32,
    /// The most that waited.
    pub(crate) waiting: u32,
    pub(crate) tokens_per_second: f32,
    #[schema(required = true)]
    pub(crate) memory_bytes: Option<u64>,
    /// Processors that its process kept busy: 1.5 is one and a half.
    pub(crate) processors: f32,
    pub(crate) completed: u32,
    pub(crate) failed: u32,
    /// The longest until a first token, if there was one.
    #[schema(required = true)]
    pub(crate) first_token_ms: Option<f64>,
}

/// How a question is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AskedOutcome {
    /// For a place.
    Waiting,
    /// Is being answered.
    Running,
    Completed,
    /// The answer was as long as it may be.
    Cut,
    Cancelled,
    /// Too many waited, or it can't be answered as it was asked.
    Refused,
    Failed,
}

/// One of one's own questions to a model, without a word of it.
#[derive(Serialize, ToSchema)]
pub(crate) struct AskedOfModel {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) request: uuid::Uuid,
    #[schema(value_type = uuid::Uuid)]
    pub(crate) model: ModelId,
    pub(crate) name: String,
    #[schema(required = true)]
    pub(crate) engine: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Who asked for the person: `companion`, `gateway` for other programs, or a module.
    pub(crate) asker: String,
    pub(crate) outcome: AskedOutcome,
    /// The code of the problem, when it failed or was refused.
    #[schema(required = true)]
    pub(crate) problem: Option<String>,
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_tokens: u32,
    /// While it runs, as many pieces as came.
    pub(crate) answer_tokens: u32,
    /// Until it had a place.
    pub(crate) waited_ms: f64,
    #[schema(required = true)]
    pub(crate) first_token_ms: Option<f64>,
    /// In all, once it has ended.
    #[schema(required = true)]
    pub(crate) total_ms: Option<f64>,
    /// While it was written.
    pub(crate) tokens_per_second: f32,
}
