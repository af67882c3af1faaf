//! How many tokens something is for a model.

use aico_contracts::ids::ModelId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is to be counted: a `text`, or `turns`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "The cat sat on the mat."}))]
pub(crate) struct CountTokens {
    /// A model's name or id; without it the one that is chosen for everybody.
    #[serde(default)]
    pub(crate) model: Option<String>,
    /// Counted as the one thing that a person says.
    #[serde(default)]
    pub(crate) text: Option<String>,
    /// All that was said, the oldest first.
    #[serde(default)]
    pub(crate) turns: Option<Vec<CountedTurn>>,
}

/// Something that was said.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountedTurn {
    pub(crate) role: CountedRole,
    pub(crate) text: String,
}

/// Who said it.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CountedRole {
    /// What the model is told beforehand.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// How many tokens that is.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "model": "0193a1b2-0000-7000-8000-000000000005", "tokens": 18, "context_length": 4096
}))]
pub(crate) struct TokenCount {
    /// The model that counted: each has tokens of its own.
    #[schema(value_type = uuid::Uuid)]
    pub(crate) model: ModelId,
    /// With what the model's chat template adds.
    pub(crate) tokens: u32,
    /// Tokens that the model has room for as it is loaded, the answer included.
    pub(crate) context_length: u32,
}
