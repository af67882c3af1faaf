//! Texts to vectors, entities and labels, and the packages that do it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::ModelStatus;

/// Texts to turn into vectors.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"texts": ["The cat sat on the mat."]}))]
pub(crate) struct EmbedTexts {
    /// A package's name; without it the one that was added first.
    #[serde(default)]
    pub(crate) model: Option<String>,
    /// At most 2048 of them, 256 KiB each, 4 MiB together.
    pub(crate) texts: Vec<String>,
    /// Only so many numbers of each vector, the first ones.
    #[serde(default)]
    pub(crate) dimensions: Option<u32>,
}

/// Vectors of texts.
#[derive(Serialize, ToSchema)]
pub(crate) struct EmbeddedTexts {
    /// The model that made them: those of another one can't be compared with them.
    pub(crate) model: String,
    /// One for each text, in their order.
    pub(crate) items: Vec<EmbeddedText>,
}

/// A text's vector.
#[derive(Serialize, ToSchema)]
pub(crate) struct EmbeddedText {
    pub(crate) vector: Vec<f32>,
    /// That were read of the text.
    pub(crate) tokens: u32,
    /// The text is longer than the model reads; the rest was left out.
    pub(crate) truncated: bool,
}

/// Texts to look for entities in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "texts": ["Ada Lovelace was born in London."], "labels": ["person", "city"]
}))]
pub(crate) struct FindEntities {
    /// A package's name; without it the one that was added first.
    #[serde(default)]
    pub(crate) model: Option<String>,
    /// At most 2048 of them, 256 KiB each, 4 MiB together.
    pub(crate) texts: Vec<String>,
    /// What is looked for, in words of one's own; 1 to 64.
    pub(crate) labels: Vec<String>,
    /// Least score, between 0 and 1; without it 0.5.
    #[serde(default)]
    pub(crate) threshold: Option<f32>,
}

/// What texts name.
#[derive(Serialize, ToSchema)]
pub(crate) struct FoundEntities {
    pub(crate) model: String,
    /// One for each text, in their order.
    pub(crate) items: Vec<EntitiesOfText>,
}

/// What a text names.
#[derive(Serialize, ToSchema)]
pub(crate) struct EntitiesOfText {
    /// In the order of the text; they do not overlap.
    pub(crate) entities: Vec<Entity>,
    /// That were read of the text and the labels.
    pub(crate) tokens: u32,
    /// The text is longer than the model reads; the rest was left out.
    pub(crate) truncated: bool,
}

/// Something that is named.
#[derive(Serialize, ToSchema)]
pub(crate) struct Entity {
    /// First character, counted in Unicode code points from 0.
    pub(crate) start: u32,
    /// The character after the last.
    pub(crate) end: u32,
    /// As it stands in the text.
    pub(crate) text: String,
    pub(crate) label: String,
    pub(crate) score: f32,
}

/// What is asked of texts.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClassifyTask {
    /// How they judge.
    Sentiment,
    /// What they feel.
    Emotion,
}

/// Texts to classify.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"task": "emotion", "texts": ["I am so happy today!"]}))]
pub(crate) struct ClassifyTexts {
    pub(crate) task: ClassifyTask,
    /// A package's name; without it the one for the task that was added first.
    #[serde(default)]
    pub(crate) model: Option<String>,
    /// At most 2048 of them, 256 KiB each, 4 MiB together.
    pub(crate) texts: Vec<String>,
}

/// Labels of texts.
#[derive(Serialize, ToSchema)]
pub(crate) struct ClassifiedTexts {
    pub(crate) model: String,
    /// One for each text, in their order.
    pub(crate) items: Vec<ClassifiedText>,
}

/// A text's labels.
#[derive(Serialize, ToSchema)]
pub(crate) struct ClassifiedText {
    /// All of the model's, the likeliest first.
    pub(crate) labels: Vec<LabelScore>,
    /// That were read of the text.
    pub(crate) tokens: u32,
    /// The text is longer than the model reads; the rest was left out.
    pub(crate) truncated: bool,
}

/// A label and how likely it is, from 0 to 1.
#[derive(Serialize, ToSchema)]
pub(crate) struct LabelScore {
    pub(crate) label: String,
    pub(crate) score: f32,
}

/// A model for texts.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelPackage {
    pub(crate) name: String,
    pub(crate) title: String,
    /// `embedding`, `entities`, `sentiment` or `emotion`.
    pub(crate) task: String,
    pub(crate) architecture: String,
    pub(crate) license: String,
    pub(crate) size_bytes: u64,
    /// What running it takes.
    pub(crate) memory_bytes: u64,
    /// That it reads of a text.
    pub(crate) max_tokens: u32,
    /// Of a vector.
    #[schema(required = true)]
    pub(crate) dimensions: Option<u32>,
    /// Of a classifier.
    pub(crate) labels: Vec<String>,
    /// It answers where no model is named.
    pub(crate) chosen: bool,
    pub(crate) status: ModelStatus,
    /// Why it failed.
    #[schema(required = true)]
    pub(crate) why: Option<String>,
    /// What the person can do about it.
    #[schema(required = true)]
    pub(crate) what_to_do: Option<String>,
    /// Where it is on this machine.
    pub(crate) folder: String,
}

/// All models for texts.
#[derive(Serialize, ToSchema)]
pub(crate) struct PackageList {
    /// In the order in which they were added.
    pub(crate) items: Vec<ModelPackage>,
}

/// A package to bring in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"path": "/home/ada/Downloads/all-minilm-l6-v2"}))]
pub(crate) struct AddPackage {
    /// A folder on the machine that AICO runs on.
    pub(crate) path: String,
}
