//! What models are, as Ollama tells it.

use std::time::{Duration, SystemTime};

use aico_contracts::v1;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::programs::memory::Loaded;
use crate::programs::models::{self, Askable, Known};

/// A name with a tag, as Ollama's all have one.
fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.contains(':') {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    }
}

/// One of those that can be asked, as a list has it.
pub(super) fn listed(askable: &Askable) -> Value {
    let size = match askable {
        Askable::Companion => 0,
        Askable::Model(known) => known.model.size_bytes,
    };
    let name = tagged(askable.name());
    json!({
        "name": name,
        "model": name,
        "modified_at": at(askable.modified()),
        "size": size,
        "digest": digest(askable),
        "details": details(askable),
    })
}

/// One that is in memory; where a program beside us has it for others, no more is known than that.
pub(super) fn running(askable: &Askable, known: &Known, loaded: Option<&Loaded>) -> Value {
    let mut row = listed(askable);
    row["size_vram"] = 0.into();
    row["context_length"] = known.model.context_length.into();
    if let Some(loaded) = loaded {
        if loaded.memory > 0 {
            row["size"] = loaded.memory.into();
        }
        // A pinned one has none: it does not go by itself.
        if loaded.until_unix_ms > 0 {
            let until = SystemTime::UNIX_EPOCH + Duration::from_millis(loaded.until_unix_ms);
            row["expires_at"] = at(until).into();
        }
    }
    if let Value::Object(row) = &mut row {
        row.remove("modified_at");
    }
    row
}

/// All that is told of one.
pub(super) fn shown(askable: &Askable) -> Value {
    let mut body = json!({
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(askable),
        "modified_at": at(askable.modified()),
        "capabilities": capabilities(askable),
        "model_info": {},
    });
    if let Askable::Model(known) = askable {
        let model = &known.model;
        body["license"] = model.license.as_str().into();
        let family = match model.architecture.as_str() {
            // A server does not always tell.
            "" => "model",
            family => family,
        };
        body["model_info"] = json!({
            "general.architecture": family,
            "general.parameter_count": model.parameters,
            format!("{family}.context_length"): model.context_length,
        });
    }
    body
}

/// Stands for the model in lists. Ollama's is of a manifest, which there is none of here.
fn digest(askable: &Askable) -> String {
    let id: &[u8] = match askable {
        Askable::Companion => models::COMPANION.as_bytes(),
        Askable::Model(known) => &known.model.id,
    };
    hex::encode(Sha256::digest(id))
}

fn details(askable: &Askable) -> Value {
    let (format, family, parameters, quantization) = match askable {
        Askable::Companion => ("aico", models::COMPANION, String::new(), ""),
        Askable::Model(known) => (
            "gguf",
            known.model.architecture.as_str(),
            parameters(known.model.parameters),
            known.model.quantization.as_str(),
        ),
    };
    json!({
        "parent_model": "",
        "format": format,
        "family": family,
        "families": [family],
        "parameter_size": parameters,
        "quantization_level": quantization,
    })
}

/// `8.2B`, as Ollama writes it; nothing where it is not told.
fn parameters(count: u64) -> String {
    let count = count as f64;
    match count {
        c if c >= 1e9 => format!("{:.1}B", c / 1e9),
        c if c >= 1e6 => format!("{:.1}M", c / 1e6),
        c if c > 0.0 => format!("{:.1}K", c / 1e3),
        _ => String::new(),
    }
}

fn at(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

/// As Ollama calls them.
fn capabilities(askable: &Askable) -> Vec<&str> {
    let known = match askable {
        Askable::Model(known) if !known.model.capabilities.is_empty() => &known.model.capabilities,
        _ => return vec!["completion"],
    };
    let named = |capability: &String| match capability.as_str() {
        "chat" => Some("completion"),
        "embeddings" => Some("embedding"),
        "tools" => Some("tools"),
        "thinking" => Some("thinking"),
        "images" => Some("vision"),
        _ => None,
    };
    known.iter().filter_map(named).collect()
}

/// A package that makes embeddings, as a list has it.
pub(super) fn listed_package(package: &v1::ModelPackage) -> Value {
    let name = tagged(&package.name);
    json!({
        "name": name,
        "model": name,
        "modified_at": added(package),
        "size": package.size_bytes,
        "digest": hex::encode(Sha256::digest(package.name.as_bytes())),
        "details": package_details(package),
    })
}

/// All that is told of one.
pub(super) fn shown_package(package: &v1::ModelPackage) -> Value {
    let family = &package.architecture;
    json!({
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": package_details(package),
        "modified_at": added(package),
        "capabilities": ["embedding"],
        "license": package.license,
        "model_info": {
            "general.architecture": family,
            format!("{family}.context_length"): package.max_tokens,
            format!("{family}.embedding_length"): package.dimensions,
        },
    })
}

fn added(package: &v1::ModelPackage) -> String {
    at(SystemTime::UNIX_EPOCH + Duration::from_millis(package.added_unix_ms))
}

fn package_details(package: &v1::ModelPackage) -> Value {
    json!({
        "parent_model": "",
        "format": "onnx",
        "family": package.architecture,
        "families": [package.architecture],
        "parameter_size": "",
        "quantization_level": "F32",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_tag_and_no_second_one() {
        assert_eq!(tagged("sage"), "sage:latest");
        assert_eq!(tagged("qwen3:8b"), "qwen3:8b");
        assert_eq!(tagged("hf.co:443/a/sage"), "hf.co:443/a/sage:latest");
        assert_eq!(tagged("lab/qwen3:8b"), "lab/qwen3:8b");
    }

    #[test]
    fn numbers_of_parameters_are_short() {
        assert_eq!(parameters(8_190_000_000), "8.2B");
        assert_eq!(parameters(1_500_000), "1.5M");
        assert_eq!(parameters(900), "0.9K");
        assert_eq!(parameters(0), "");
    }
}
