//! Lists of models and vectors, in the shapes in which servers tell them.

use serde::Deserialize;

use crate::backend::{BackendError, Capability, Offered};

#[derive(Deserialize)]
pub(super) struct Vectors {
    pub(super) data: Vec<Vector>,
    #[serde(default)]
    pub(super) usage: Option<VectorUsage>,
}

#[derive(Deserialize)]
pub(super) struct Vector {
    #[serde(default)]
    pub(super) index: Option<usize>,
    pub(super) embedding: Vec<f32>,
}

#[derive(Deserialize)]
pub(super) struct VectorUsage {
    #[serde(default)]
    pub(super) prompt_tokens: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct Listed {
    pub(super) data: Vec<ListedModel>,
}

#[derive(Deserialize)]
pub(super) struct ListedModel {
    pub(super) id: String,
    #[serde(default)]
    pub(super) owned_by: Option<String>,
    /// Seconds.
    #[serde(default)]
    created: Option<u64>,
    /// vLLM's, SGLang's.
    #[serde(default)]
    max_model_len: Option<u32>,
    /// llama.cpp's.
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize, Default)]
struct Meta {
    #[serde(default)]
    n_ctx: Option<u32>,
    #[serde(default)]
    n_ctx_train: Option<u32>,
    #[serde(default)]
    n_params: Option<u64>,
    #[serde(default)]
    size: Option<u64>,
}

impl ListedModel {
    /// Of what it tells, what is known here.
    pub(super) fn offered(self) -> Offered {
        let meta = self.meta.unwrap_or_default();
        // Nothing else tells it: those that make vectors say so in their names.
        let embeds = self.id.to_ascii_lowercase().contains("embed");
        let context = self.max_model_len.or(meta.n_ctx).or(meta.n_ctx_train);
        Offered {
            size: meta.size.unwrap_or_default(),
            parameters: meta.n_params.unwrap_or_default(),
            context_length: context.unwrap_or_default(),
            capabilities: vec![match embeds {
                true => Capability::Embeddings,
                false => Capability::Chat,
            }],
            modified_unix_ms: self.created.unwrap_or_default().saturating_mul(1000),
            name: self.id,
            ..Offered::default()
        }
    }
}

/// The same direction, of length 1.
pub(super) fn of_length_one(mut vector: Vec<f32>) -> Result<Vec<f32>, BackendError> {
    let square = |value: &f32| f64::from(*value) * f64::from(*value);
    let length = vector.iter().map(square).sum::<f64>().sqrt();
    if !length.is_finite() || length <= 0.0 {
        return Err(BackendError::Unreadable);
    }
    for value in &mut vector {
        *value = (f64::from(*value) / length) as f32;
    }
    Ok(vector)
}
