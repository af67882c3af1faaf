//! What a model is and can do: from the list where it tells, otherwise asked for one by one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::http::Method;
use futures_util::{StreamExt as _, stream};

use super::http::{self, Http};
use super::{Ollama, wire};
use crate::backend::{BackendError, Capability, Offered};

/// How long an answer is believed.
const FRESH: Duration = Duration::from_secs(60);
/// Most models that are listed.
const MOST: usize = 512;
/// Models that are asked about at once.
const AT_ONCE: usize = 4;

/// What is known of a model.
#[derive(Debug, Clone, Default)]
pub(super) struct About {
    pub(super) capabilities: Vec<Capability>,
    /// 0: not told.
    pub(super) context_length: u32,
    pub(super) architecture: String,
    pub(super) parameters: u64,
    license: String,
    /// It runs here, and not on a server of somebody else's.
    pub(super) local: bool,
}

impl About {
    pub(super) fn can(&self, what: Capability) -> bool {
        self.capabilities.contains(&what)
    }
}

/// What was told lately.
#[derive(Default)]
pub(super) struct Abouts(Mutex<HashMap<String, (Instant, String, About)>>);

impl Abouts {
    fn all(&self) -> MutexGuard<'_, HashMap<String, (Instant, String, About)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of this digest when one is given: the same files, the same answer, however old.
    fn get(&self, name: &str, digest: Option<&str>) -> Option<About> {
        let all = self.all();
        let (at, known, about) = all.get(&full(name))?;
        let holds = match digest {
            Some(digest) => known == digest && !digest.is_empty(),
            None => at.elapsed() < FRESH,
        };
        holds.then(|| about.clone())
    }

    fn put(&self, name: &str, digest: &str, about: &About) {
        let mut all = self.all();
        if all.len() >= MOST {
            all.clear();
        }
        let entry = (Instant::now(), digest.to_owned(), about.clone());
        all.insert(full(name), entry);
    }

    pub(super) fn forget(&self, name: &str) {
        self.all().remove(&full(name));
    }
}

/// With the tag that a name without one means.
pub(super) fn full(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = if last.contains(':') { "" } else { ":latest" };
    format!("{name}{tag}").to_ascii_lowercase()
}

fn capability(word: &str) -> Option<Capability> {
    Some(match word {
        "completion" => Capability::Chat,
        "embedding" => Capability::Embeddings,
        "tools" => Capability::Tools,
        "thinking" => Capability::Thinking,
        "vision" => Capability::Images,
        _ => return None,
    })
}

pub(super) fn capabilities(words: &[String]) -> Vec<Capability> {
    let mut found: Vec<_> = words.iter().filter_map(|word| capability(word)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// `8.2B`, `135.00M` as a number.
fn parameters(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let times = match unit {
        "K" => 1e3,
        "M" => 1e6,
        "B" => 1e9,
        "T" => 1e12,
        _ => return None,
    };
    let product = number * times;
    (product.is_finite() && (0.0..1e15).contains(&product)).then_some(product.round() as u64)
}

pub(super) fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// The name of a licence is its first line; the whole text is long.
pub(super) fn license(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    cut(line.unwrap_or_default(), 80)
}

impl About {
    fn of(shown: &wire::Shown) -> Self {
        let info = |key: &str| shown.model_info.get(key);
        let architecture = info("general.architecture").and_then(|value| value.as_str());
        let architecture = architecture.unwrap_or(&shown.details.family);
        let number = |key: &str| info(key).and_then(serde_json::Value::as_u64);
        let length = number(&format!("{architecture}.context_length"));
        let length = length.unwrap_or(shown.details.context_length);
        let words = shown.capabilities.as_deref().unwrap_or_default();
        Self {
            capabilities: capabilities(words),
            context_length: u32::try_from(length).unwrap_or(u32::MAX),
            architecture: cut(architecture, 64),
            parameters: number("general.parameter_count")
                .or_else(|| parameters(&shown.details.parameter_size))
                .unwrap_or(0),
            license: license(&shown.license),
            local: shown.remote_host.is_empty(),
        }
    }
}

impl Ollama {
    /// What a model is and can do.
    pub(super) async fn about_model(
        &self,
        http: &Http,
        model: &str,
    ) -> Result<About, BackendError> {
        match self.abouts.get(model, None) {
            Some(about) => Ok(about),
            None => self.show(http, model, "").await,
        }
    }

    async fn show(&self, http: &Http, model: &str, digest: &str) -> Result<About, BackendError> {
        let question = http::json(&wire::ShowRequest { model })?;
        let patience = self.config.limits.answer;
        let shown: wire::Shown = http
            .value(Method::POST, "/api/show", question, patience)
            .await?;
        let about = About::of(&shown);
        self.abouts.put(model, digest, &about);
        Ok(about)
    }

    /// All models that run here.
    pub(super) async fn offered(&self, http: &Http) -> Result<Vec<Offered>, BackendError> {
        let patience = self.config.limits.answer;
        let tags: wire::Tags = http
            .value(Method::GET, "/api/tags", http::nothing(), patience)
            .await?;
        let loaded = self.loaded_of(http).await?;
        let listed = tags.models.unwrap_or_default().into_iter();
        let listed: Vec<_> = listed
            .filter(|model| model.remote_host.is_empty() && !model.name.is_empty())
            .take(MOST)
            .collect();
        // `buffered`: in the order in which they were listed.
        let asked: Vec<_> = listed
            .iter()
            .map(|model| self.offer(http, model, &loaded))
            .collect();
        let offered: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        let mut models = Vec::with_capacity(offered.len());
        for one in offered {
            match one {
                Ok(one) => models.extend(one),
                // Removed meanwhile.
                Err(BackendError::ModelMissing) => {}
                Err(error) if error.is_of_the_program() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(models)
    }

    async fn offer(
        &self,
        http: &Http,
        model: &wire::Listed,
        loaded: &[(String, u64)],
    ) -> Result<Option<Offered>, BackendError> {
        let known = self.abouts.get(&model.name, Some(&model.digest));
        let about = match known {
            Some(about) => about,
            None => self.show(http, &model.name, &model.digest).await?,
        };
        if !about.local {
            return Ok(None);
        }
        let told = model.capabilities.as_deref().map(capabilities);
        let here = loaded
            .iter()
            .find(|(name, _)| full(name) == full(&model.name));
        let changed = model.modified_at.parse::<jiff::Timestamp>().ok();
        let changed = changed.and_then(|time| u64::try_from(time.as_millisecond()).ok());
        Ok(Some(Offered {
            name: cut(&model.name, 200),
            size: model.size,
            architecture: about.architecture,
            parameters: about.parameters,
            quantization: cut(&model.details.quantization_level, 32),
            context_length: about.context_length,
            license: about.license,
            capabilities: told
                .filter(|told| !told.is_empty())
                .unwrap_or(about.capabilities),
            modified_unix_ms: changed.unwrap_or(0),
            loaded: here.map(|(_, bytes)| *bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read() {
        assert_eq!(full("Qwen3"), "qwen3:latest");
        assert_eq!(full("host:5000/a/b"), "host:5000/a/b:latest");
        assert_eq!(full("qwen3:8b"), "qwen3:8b");
        assert_eq!(parameters("8.2B"), Some(8_200_000_000));
        assert_eq!(parameters("135.00M"), Some(135_000_000));
        assert_eq!(parameters("many"), None);
        assert_eq!(parameters(""), None);
        assert_eq!(
            license("\n  Apache License\n Version 2.0"),
            "Apache License"
        );
    }
}
