//! A model's package: a folder with `model.onnx`, `tokenizer.json` and `aico-model.json`, which
//! says what the two are and what they must be (docs/formats/model-package.md).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The name of the description.
pub const DESCRIPTION: &str = "aico-model.json";
/// The graph and its weights.
pub const GRAPH: &str = "model.onnx";
/// How text becomes tokens.
pub const TOKENIZER: &str = "tokenizer.json";
/// The files of a package beside its description.
pub const FILES: [&str; 2] = [GRAPH, TOKENIZER];

/// Most bytes of the description.
pub const DESCRIPTION_LIMIT: u64 = 64 << 10;
/// Most bytes of the graph: its format has no more.
pub const GRAPH_LIMIT: u64 = (1 << 31) - 1;
/// Most bytes of the tokeniser; the largest in use have 35 million.
pub const TOKENIZER_LIMIT: u64 = 64 << 20;
/// The only version of the format.
const VERSION: u32 = 1;
/// Most tokens that a model may read at once.
const MOST_TOKENS: u32 = 8192;
/// Most labels of a classifier.
const MOST_LABELS: usize = 1024;
/// Most numbers of a vector.
const MOST_DIMENSIONS: u32 = 8192;

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Text becomes a vector.
    Embedding,
    /// Things that are named in a text, by labels that the asker chooses.
    Entities,
    /// How a text judges.
    Sentiment,
    /// What a text feels.
    Emotion,
}

impl Task {
    /// As in the description and in the contracts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Entities => "entities",
            Self::Sentiment => "sentiment",
            Self::Emotion => "emotion",
        }
    }
}

/// How the vectors of tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    Cls,
    /// The largest of each number.
    Max,
}

/// What a file has to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Bytes.
    pub size: u64,
    /// In hexadecimal.
    pub sha256: String,
}

/// The description of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Of this description: 1.
    pub format: u32,
    /// What it is called here: small letters, digits, `.` and `-`.
    pub name: String,
    /// For people.
    pub title: String,
    /// What it is for.
    pub task: Task,
    /// `bert`, `roberta`, `xlm-roberta`, `mpnet`, `gliner`, …; for people.
    pub architecture: String,
    /// SPDX expression, or `LicenseRef-…`.
    pub license: String,
    /// Tokens that it reads of a text, those that mark its ends included.
    pub max_tokens: u32,
    /// Of an embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Of an embedding: vectors of length 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// Of an embedding: numbers of a vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
    /// Of a classifier, in the order of its outputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Of a classifier: several labels may be true of one text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_label: Option<bool>,
    /// Of entities: words that it reads of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_words: Option<u32>,
    /// Of entities: most words of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_width: Option<u32>,
    /// Of entities: the token before each label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity_token: Option<String>,
    /// Of entities: the token between labels and text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator_token: Option<String>,
    /// What the files have to be; may be left out by who writes a package by hand, and is filled
    /// in when it is added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, FileFacts>,
    /// When it was added; 0: it was not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub added_unix_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Why a package can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file of it can't be read.
    #[error("{name} can't be read")]
    Read {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The description is not of the format.
    #[error("{DESCRIPTION} is not as it has to be: {0}")]
    Description(String),
    /// A file is not what the description says.
    #[error("{name} is not the file that {DESCRIPTION} describes")]
    Damaged {
        /// Which.
        name: String,
    },
    /// A file is larger than it may be.
    #[error("{name} is larger than a model's may be")]
    TooLarge {
        /// Which.
        name: String,
    },
}

impl Package {
    /// Reads the description of the package in `folder`. Blocks.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn read(folder: &Path) -> Result<Self, PackageError> {
        let failed = |source| PackageError::Read {
            name: DESCRIPTION.to_owned(),
            source,
        };
        let file = std::fs::File::open(folder.join(DESCRIPTION)).map_err(failed)?;
        let mut text = Vec::new();
        let mut limited = file.take(DESCRIPTION_LIMIT + 1);
        limited.read_to_end(&mut text).map_err(failed)?;
        Self::parse(&text)
    }

    /// Reads a description.
    ///
    /// # Errors
    /// [`PackageError::Description`] says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, PackageError> {
        let wrong = |why: &str| PackageError::Description(why.to_owned());
        if text.len() as u64 > DESCRIPTION_LIMIT {
            return Err(wrong("it is too long"));
        }
        let package: Self = serde_json::from_slice(text)
            .map_err(|error| PackageError::Description(error.to_string()))?;
        package.check().map_err(wrong)?;
        Ok(package)
    }

    /// Whether it can be; otherwise why not.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.format != VERSION {
            return Err("its format is not 1");
        }
        if !is_name(&self.name) {
            return Err("a name is made of small letters, digits, '.' and '-'");
        }
        let texts = [
            (&self.title, 100),
            (&self.architecture, 64),
            (&self.license, 100),
        ];
        let unfit = |(text, most): &(&String, usize)| {
            text.trim().is_empty() || text.chars().count() > *most
        };
        if texts.iter().any(unfit) {
            return Err("a text is empty or too long");
        }
        if !(4..=MOST_TOKENS).contains(&self.max_tokens) {
            return Err("max_tokens is 4 to 8192");
        }
        for (name, facts) in &self.files {
            if !FILES.contains(&name.as_str()) {
                return Err("it names a file that is none of a package");
            }
            let hash = facts.sha256.len() == 64 && hex::decode(&facts.sha256).is_ok();
            if !hash || facts.size == 0 || facts.size > limit(name) {
                return Err("the size or hash of a file can't be");
            }
        }
        match self.task {
            Task::Embedding => self.check_embedding(),
            Task::Sentiment | Task::Emotion => self.check_classifier(),
            Task::Entities => self.check_entities(),
        }
    }

    fn check_embedding(&self) -> Result<(), &'static str> {
        if self.pooling.is_none() || self.normalize.is_none() {
            return Err("an embedding has pooling and normalize");
        }
        match self.dimensions {
            Some(1..=MOST_DIMENSIONS) => {}
            _ => return Err("an embedding has 1 to 8192 dimensions"),
        }
        if !self.labels.is_empty() || self.entity_token.is_some() {
            return Err("it has members of another task");
        }
        Ok(())
    }

    fn check_classifier(&self) -> Result<(), &'static str> {
        if self.multi_label.is_none() {
            return Err("a classifier says multi_label");
        }
        let fine = |label: &String| (1..=64).contains(&label.trim().chars().count());
        let mut sorted: Vec<_> = self.labels.iter().collect();
        sorted.sort();
        sorted.dedup();
        if !(1..=MOST_LABELS).contains(&self.labels.len())
            || sorted.len() != self.labels.len()
            || !self.labels.iter().all(fine)
        {
            return Err("a classifier has 1 to 1024 different labels");
        }
        if self.pooling.is_some() || self.entity_token.is_some() {
            return Err("it has members of another task");
        }
        Ok(())
    }

    fn check_entities(&self) -> Result<(), &'static str> {
        match (self.max_words, self.max_width) {
            (Some(1..=MOST_TOKENS), Some(1..=64)) => {}
            _ => return Err("entities have max_words and max_width (1 to 64)"),
        }
        let marks = [&self.entity_token, &self.separator_token];
        if !marks.iter().all(|mark| {
            mark.as_ref()
                .is_some_and(|mark| (1..=32).contains(&mark.chars().count()))
        }) {
            return Err("entities have an entity_token and a separator_token");
        }
        if self.pooling.is_some() || !self.labels.is_empty() {
            return Err("it has members of another task");
        }
        Ok(())
    }

    /// Bytes of all files.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.values().map(|facts| facts.size).sum()
    }

    /// Bytes of memory that running it takes: the weights as they are read and as they are laid
    /// out for computing, the tokeniser's tables, and what one batch needs.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let size = |name: &str| self.files.get(name).map_or(0, |facts| facts.size);
        (2 * size(GRAPH))
            .saturating_add(12 * size(TOKENIZER))
            .saturating_add(192 << 20)
    }
}

/// Whether this can be the name of a model: it becomes the name of a file.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let fine =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    (1..=64).contains(&text.len())
        && text.bytes().all(fine)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric())
        && !text.starts_with("starter-")
}

/// Most bytes of a file of a package.
#[must_use]
pub fn limit(name: &str) -> u64 {
    match name {
        GRAPH => GRAPH_LIMIT,
        TOKENIZER => TOKENIZER_LIMIT,
        _ => DESCRIPTION_LIMIT,
    }
}

/// Size and hash of an open file. Blocks.
///
/// # Errors
/// When it can't be read, or is too large.
pub fn facts(name: &str, file: &mut impl Read) -> Result<FileFacts, PackageError> {
    use sha2::Digest as _;

    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = file
            .read(&mut buffer)
            .map_err(|source| PackageError::Read {
                name: name.to_owned(),
                source,
            })?;
        if count == 0 {
            break;
        }
        size += count as u64;
        if size > limit(name) {
            return Err(PackageError::TooLarge {
                name: name.to_owned(),
            });
        }
        hasher.update(&buffer[..count]);
    }
    Ok(FileFacts {
        size,
        sha256: hex::encode(hasher.finalize()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut serde_json::Value)) -> Result<Package, String> {
        let mut value = serde_json::json!({
            "format": 1, "name": "x-1", "title": "X", "task": "embedding",
            "architecture": "bert", "license": "MIT", "max_tokens": 128,
            "pooling": "mean", "normalize": true, "dimensions": 8
        });
        change(&mut value);
        Package::parse(value.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_can_not_be_is_refused_with_the_reason() {
        assert!(with(|_| {}).is_ok());
        for (key, value, words) in [
            ("format", 2.into(), "format"),
            ("name", "../x".into(), "a name"),
            ("name", "starter-x".into(), "a name"),
            ("title", " ".into(), "empty"),
            ("task", "dancing".into(), "unknown variant"),
            ("surprise", 1.into(), "unknown field"),
            ("max_tokens", 0.into(), "max_tokens"),
            ("max_tokens", 100_000.into(), "max_tokens"),
            ("dimensions", 0.into(), "dimensions"),
            ("pooling", serde_json::Value::Null, "pooling"),
            ("labels", serde_json::json!(["a"]), "another task"),
            (
                "files",
                serde_json::json!({"../../x": {"size": 1, "sha256": "0".repeat(64)}}),
                "names a file",
            ),
            (
                "files",
                serde_json::json!({"model.onnx": {"size": 1, "sha256": "00"}}),
                "hash",
            ),
        ] {
            let said = with(|all| all[key] = value).unwrap_err();
            assert!(said.contains(words), "{key}: {said}");
        }
        let classifier = |labels: serde_json::Value| {
            with(|all| {
                all["task"] = "emotion".into();
                all["labels"] = labels;
                all["multi_label"] = true.into();
                for name in ["pooling", "normalize", "dimensions"] {
                    all.as_object_mut().unwrap().remove(name);
                }
            })
        };
        assert!(classifier(serde_json::json!(["a", "b"])).is_ok());
        assert!(classifier(serde_json::json!(["a", "a"])).is_err());
        assert!(classifier(serde_json::json!([])).is_err());
        assert!(Package::parse(b"").is_err());
        assert!(Package::parse(&vec![b' '; 1 << 20]).is_err());
        assert!(Package::parse("[".repeat(60_000).as_bytes()).is_err());
    }

    #[test]
    fn a_file_is_told_by_size_and_hash_and_not_read_without_end() {
        let told = facts(DESCRIPTION, &mut &b"abc"[..]).unwrap();
        assert_eq!(told.size, 3);
        assert!(told.sha256.starts_with("ba7816bf"));
        let endless = &mut std::io::repeat(0);
        assert!(matches!(
            facts(DESCRIPTION, endless),
            Err(PackageError::TooLarge { .. })
        ));
    }
}
