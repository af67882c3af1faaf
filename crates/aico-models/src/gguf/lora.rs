//! Adapters (LoRA) as GGUF files: whether one is sound and made for a model.
//!
//! An adapter is hostile input as a model is. llama.cpp compares little of it, and ends the process
//! over some of the rest; what passes here has the frame, the entries and the shapes that it reckons
//! with.
//!
//! Layout: `general.type` is `adapter`, `adapter.type` is `lora`, `general.architecture` is the
//! model's, `adapter.lora.alpha` is a number of 32 bits. A tensor `NAME` of the model has two here:
//! `NAME.lora_a` of (its columns, rank) and `NAME.lora_b` of (rank, its rows). Of `token_embd.weight`
//! they are (rank, its rows) and (rank, its columns).

use std::collections::BTreeMap;
use std::path::Path;

use super::{Entry, GgufError, Head, Tensor, opened, presentable};

const A: &str = ".lora_a";
const B: &str = ".lora_b";
/// Vectors that some writers add, and that llama.cpp passes over.
const NORM: &str = "_norm.weight";
const EMBEDDINGS: &str = "token_embd.weight";
/// Types that an adapter is written in: F32, F16, Q8_0, BF16.
const KINDS: [u32; 4] = [0, 1, 8, 30];
/// A type of a model's tensors that llama.cpp takes no adapter for.
const NVFP4: u32 = 40;

/// Why a file is no adapter of a model.
#[derive(Debug, thiserror::Error)]
pub enum LoraError {
    /// It is no sound GGUF file.
    #[error(transparent)]
    File(#[from] GgufError),
    /// The model's file can't be read.
    #[error("the model's file can't be used: {0}")]
    Model(#[source] GgufError),
    /// It holds something else.
    #[error("it is no adapter of the kind LoRA")]
    NoLora,
    /// One that counts from a word on, not for all of a conversation.
    #[error("it is an adapter that certain words switch on (aLoRA), which AICO does not do")]
    Activated,
    /// It was made for another kind of model.
    #[error("it is made for models of the architecture {adapter}, and this one is {model}")]
    Architecture {
        /// The adapter's.
        adapter: String,
        /// The model's.
        model: String,
    },
    /// A tensor that does not fit.
    #[error("it does not fit this model: {tensor} {why}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is the matter.
        why: &'static str,
    },
    /// It changes nothing.
    #[error("there is nothing in it")]
    Empty,
}

/// Looks whether `adapter` is a sound adapter for the model in `model`. Blocks.
///
/// # Errors
/// When it is not, or one of them can't be read.
pub fn check(adapter: &Path, model: &Path) -> Result<(), LoraError> {
    let (file, size) = opened(adapter)?;
    let adapter = Head::read(file, size)?;
    let model = opened(model).and_then(|(file, size)| Head::read(file, size));
    fits(&adapter, &model.map_err(LoraError::Model)?)
}

fn fits(adapter: &Head, model: &Head) -> Result<(), LoraError> {
    let text = |head: &Head, key: &str| match head.entries.get(key) {
        Some(Entry::Text(text)) => text.clone(),
        _ => String::new(),
    };
    let kind = ["general.type", "adapter.type"].map(|key| text(adapter, key));
    if kind != ["adapter", "lora"] {
        return Err(LoraError::NoLora);
    }
    match adapter.entries.get("adapter.lora.alpha") {
        None => {}
        Some(Entry::Real(alpha)) if alpha.is_finite() => {}
        Some(_) => return Err(GgufError::Invalid("adapter.lora.alpha").into()),
    }
    if adapter
        .entries
        .contains_key("adapter.alora.invocation_tokens")
    {
        return Err(LoraError::Activated);
    }
    let [of, wanted] = [adapter, model].map(|head| text(head, "general.architecture"));
    if of != wanted {
        return Err(LoraError::Architecture {
            adapter: presentable(&of),
            model: presentable(&wanted),
        });
    }

    let wrong = |name: &str, why| LoraError::Tensor {
        tensor: presentable(name),
        why,
    };
    let mut pairs: BTreeMap<&str, [Option<&Tensor>; 2]> = BTreeMap::new();
    for (name, tensor) in &adapter.tensors {
        let (of, half) = match (name.strip_suffix(A), name.strip_suffix(B)) {
            (Some(of), _) => (of, 0),
            (None, Some(of)) => (of, 1),
            (None, None) if name.ends_with(NORM) => continue,
            (None, None) => return Err(wrong(name, "is no part of an adapter")),
        };
        pairs.entry(of).or_default()[half] = Some(tensor);
    }
    if pairs.is_empty() {
        return Err(LoraError::Empty);
    }
    for (name, pair) in pairs {
        let [Some(a), Some(b)] = pair else {
            return Err(wrong(name, "has one half of a pair"));
        };
        let Some(base) = model.tensors.get(name) else {
            return Err(wrong(name, "is not in the model"));
        };
        if base.kind == NVFP4 {
            return Err(wrong(name, "is stored in a way that takes no adapter"));
        }
        // Without output weights of its own, the model uses these for both, and only one way round
        // would fit.
        if name == EMBEDDINGS && !model.tensors.contains_key("output.weight") {
            return Err(wrong(name, "is the model's output as well"));
        }
        if ![a, b].iter().all(|half| KINDS.contains(&half.kind)) {
            return Err(wrong(
                name,
                "is of another type than F32, F16, BF16 and Q8_0",
            ));
        }
        if !shapes_fit(a, b, base, name.ends_with(EMBEDDINGS)) {
            return Err(wrong(name, "has another shape"));
        }
    }
    Ok(())
}

fn shapes_fit(a: &Tensor, b: &Tensor, base: &Tensor, embeddings: bool) -> bool {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.sizes, b.sizes);
    let [columns, rows, deep, deeper] = base.sizes;
    let (rank, plane) = match embeddings {
        true => (a0, a1 == rows && b0 == a0 && b1 == columns),
        false => (a1, a0 == columns && b0 == a1 && b1 == rows),
    };
    // Of experts there is a pair for each.
    rank > 0 && plane && [a2, a3] == [deep, deeper] && [b2, b3] == [deep, deeper]
}
