//! The catalogue: which model files can be had, from where, and what they are.
//!
//! One comes with the program (`models/catalogue.json`); a household may name its own. Either
//! way every address, size and hash in it is checked before anything is done with it.

use std::path::{Path, PathBuf};

use aico_contracts::v1::Fault;
use serde::Deserialize;

use super::url::Url;
use crate::transformers::package::{FileFacts, GRAPH, Package, TOKENIZER, Task, is_name};

/// Most bytes of a catalogue.
const FILE_LIMIT: u64 = 4 << 20;
/// Most models in it.
const ITEMS_LIMIT: usize = 512;
/// Largest file.
const SIZE_LIMIT: u64 = 1 << 41;
/// Least and most bytes of a part whose hash is known beforehand.
const PART_SIZES: std::ops::RangeInclusive<u64> = 1 << 12..=1 << 24;
/// The only version of the format.
const VERSION: u32 = 1;

/// A SHA-256.
pub type Hash = [u8; 32];

/// Why a catalogue can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file can't be read.
    #[error("the catalogue {path} can't be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not of the format.
    #[error("the catalogue {path} is not as it has to be: {why}")]
    Format {
        /// Which; empty: the program's own.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl CatalogueError {
    /// As it is told.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        let detail = match self {
            Self::Read { source, .. } => format!("{self}: {source}."),
            Self::Format { .. } => format!("{self}."),
        };
        Fault::new(
            "catalogue-unusable",
            "The catalogue of models can't be used",
        )
        .with_detail(detail)
        .with_what_to_do(
            "Mend the file that models.catalogue names (docs/models.md has its format), or \
                 take the key out of the configuration.",
        )
    }
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// It converses.
    Chat,
    /// It turns text into vectors, for finding by meaning.
    Embedding,
    /// It finds what texts name.
    Entities,
    /// It tells how texts judge.
    Sentiment,
    /// It tells what texts feel.
    Emotion,
}

impl Purpose {
    /// As it is told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embedding => "embedding",
            Self::Entities => "entities",
            Self::Sentiment => "sentiment",
            Self::Emotion => "emotion",
        }
    }

    fn of(task: Task) -> Self {
        match task {
            Task::Embedding => Self::Embedding,
            Task::Entities => Self::Entities,
            Task::Sentiment => Self::Sentiment,
            Task::Emotion => Self::Emotion,
        }
    }
}

/// All that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// Day on which its facts were last looked at.
    pub date: String,
    /// The file it is from; `None`: it came with the program.
    pub path: Option<PathBuf>,
    /// Models, the preferred of equals first.
    pub items: Vec<Entry>,
    /// Names of models whose hashes nobody has vouched for: they are named, and never downloaded.
    pub unverified: Vec<String>,
}

/// One model file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is called here: small letters, digits, `.` and `-`.
    pub name: String,
    /// For people.
    pub title: String,
    /// One sentence for people.
    pub summary: String,
    /// What it is for.
    pub purpose: Purpose,
    /// `qwen3`, ….
    pub architecture: String,
    /// Number of them.
    pub parameters: u64,
    /// `Q4_K_M`, ….
    pub quantization: String,
    /// Tokens it was trained to attend to.
    pub context_length: u32,
    /// What one token of context takes in memory.
    pub bytes_per_token: u64,
    /// SPDX identifier, or `LicenseRef-…`.
    pub license: String,
    /// Where the licence can be read.
    pub license_url: String,
    /// Where the file is; the first that works serves.
    pub sources: Vec<Url>,
    /// Bytes of the file.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Hash,
    /// Of its parts, where known.
    pub parts: Option<Parts>,
    /// Whether it may be recommended.
    pub recommend: bool,
    /// Of a model for texts: what it is besides its graph, which the rest of this describes.
    pub package: Option<Box<PackageEntry>>,
}

/// What a package has beside its graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageEntry {
    /// Its description, with what its files have to be.
    pub about: Package,
    /// Where the tokeniser is.
    pub sources: Vec<Url>,
    /// Bytes of the tokeniser.
    pub size: u64,
    /// Of the tokeniser.
    pub sha256: Hash,
}

impl Entry {
    /// Bytes of all its files.
    #[must_use]
    pub fn total(&self) -> u64 {
        let rest = self.package.as_ref().map_or(0, |package| package.size);
        self.size.saturating_add(rest)
    }

    /// The tokeniser of a package, as a file to download.
    #[must_use]
    pub fn tokenizer(&self) -> Option<Self> {
        let package = self.package.as_ref()?;
        Some(Self {
            name: format!("{}.tokenizer", self.name),
            sources: package.sources.clone(),
            size: package.size,
            sha256: package.sha256,
            parts: None,
            ..self.clone()
        })
    }
}

/// Hashes of parts of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Bytes of each but the last.
    pub size: u64,
    /// Of each.
    pub sha256: Vec<Hash>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCatalogue {
    version: u32,
    date: String,
    models: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    name: String,
    title: String,
    summary: String,
    #[serde(rename = "for")]
    purpose: Purpose,
    architecture: String,
    parameters: u64,
    quantization: String,
    context_length: u32,
    context_bytes_per_token: u64,
    license: String,
    license_url: String,
    sources: Vec<String>,
    #[serde(default)]
    size: u64,
    /// `null`: nobody has vouched for it.
    sha256: Option<String>,
    #[serde(default)]
    parts: Option<RawParts>,
    #[serde(default)]
    recommend: bool,
    #[serde(default)]
    package: Option<Package>,
    #[serde(default)]
    tokenizer: Option<RawFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    sources: Vec<String>,
    size: u64,
    sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawParts {
    size: u64,
    sha256: Vec<String>,
}

impl Catalogue {
    /// Reads a catalogue that a person wrote. Blocks.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn read(path: &Path) -> Result<Self, CatalogueError> {
        let failed = |source| CatalogueError::Read {
            path: path.to_owned(),
            source,
        };
        let length = std::fs::metadata(path).map_err(failed)?.len();
        if length > FILE_LIMIT {
            return Err(CatalogueError::Format {
                path: path.to_owned(),
                why: format!("it has more than {FILE_LIMIT} bytes"),
            });
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Self::parse(&text, Some(path))
    }

    /// Reads the text of a catalogue.
    ///
    /// # Errors
    /// [`CatalogueError::Format`] names the model and what is wrong with it.
    pub fn parse(text: &str, path: Option<&Path>) -> Result<Self, CatalogueError> {
        let wrong = |why: String| CatalogueError::Format {
            path: path.map(Path::to_owned).unwrap_or_default(),
            why,
        };
        let raw: RawCatalogue =
            serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if raw.version != VERSION {
            return Err(wrong(format!("its version is not {VERSION}")));
        }
        if raw.date.parse::<jiff::civil::Date>().is_err() {
            return Err(wrong("its date is none, such as 2026-11-26".to_owned()));
        }
        if raw.models.len() > ITEMS_LIMIT {
            return Err(wrong(format!("it has more than {ITEMS_LIMIT} models")));
        }
        let mut items: Vec<Entry> = Vec::with_capacity(raw.models.len());
        let mut unverified = Vec::new();
        for one in raw.models {
            let name: String = one.name.chars().take(64).collect();
            let lacks = |file: &RawFile| file.sha256.is_none();
            if one.sha256.is_none() || one.tokenizer.as_ref().is_some_and(lacks) {
                unverified.push(name);
                continue;
            }
            let entry = one
                .check()
                .map_err(|why| wrong(format!("{name:?}: {why}")))?;
            if items.iter().any(|known| known.name == entry.name) {
                return Err(wrong(format!("{name:?} is there twice")));
            }
            items.push(entry);
        }
        Ok(Self {
            date: raw.date,
            path: path.map(Path::to_owned),
            items,
            unverified,
        })
    }

    /// The model of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.items.iter().find(|entry| entry.name == name)
    }
}

impl RawEntry {
    fn check(self) -> Result<Entry, &'static str> {
        if !is_name(&self.name) {
            return Err("a name is made of small letters, digits, '.' and '-'");
        }
        let texts = [
            (&self.title, 100),
            (&self.summary, 300),
            (&self.architecture, 64),
            (&self.quantization, 32),
            (&self.license, 64),
            (&self.license_url, 1000),
        ];
        if texts
            .iter()
            .any(|(text, most)| text.trim().is_empty() || text.chars().count() > *most)
        {
            return Err("a text is empty or too long");
        }
        if !Url::parse(&self.license_url).is_ok_and(|url| url.secure()) {
            return Err("license_url is no https address");
        }
        let sources = urls(&self.sources)?;
        if self.size == 0 || self.size > SIZE_LIMIT {
            return Err("its size can't be");
        }
        let parts = match self.parts {
            None => None,
            Some(raw) => {
                if !PART_SIZES.contains(&raw.size)
                    || u64::try_from(raw.sha256.len()) != Ok(self.size.div_ceil(raw.size))
                {
                    return Err("its parts do not make the file");
                }
                let hashes: Option<Vec<Hash>> = raw.sha256.iter().map(|text| hash(text)).collect();
                Some(Parts {
                    size: raw.size,
                    sha256: hashes.ok_or("the hash of a part is none")?,
                })
            }
        };
        let sha256 = self.sha256.as_deref().and_then(hash);
        let sha256 = sha256.ok_or("its sha256 is none")?;
        let package = match (self.package, self.tokenizer) {
            (None, None) if matches!(self.purpose, Purpose::Chat | Purpose::Embedding) => None,
            (Some(about), Some(tokenizer)) => {
                if about.name != self.name || Purpose::of(about.task) != self.purpose {
                    return Err("its package is of another name, or for something else");
                }
                Some(Box::new(package(about, (self.size, sha256), &tokenizer)?))
            }
            _ => return Err("a model for texts has a package and a tokenizer"),
        };
        Ok(Entry {
            package,
            sha256,
            name: self.name,
            title: self.title,
            summary: self.summary,
            purpose: self.purpose,
            architecture: self.architecture,
            parameters: self.parameters,
            quantization: self.quantization,
            context_length: self.context_length,
            bytes_per_token: self.context_bytes_per_token,
            license: self.license,
            license_url: self.license_url,
            sources,
            size: self.size,
            parts,
            recommend: self.recommend,
        })
    }
}

fn urls(sources: &[String]) -> Result<Vec<Url>, &'static str> {
    if sources.is_empty() || sources.len() > 8 {
        return Err("it has no sources, or more than eight");
    }
    let sources: Result<Vec<Url>, _> = sources.iter().map(|source| Url::parse(source)).collect();
    let sources = sources.map_err(|_| "a source is no web address")?;
    match sources.iter().all(Url::secure) {
        true => Ok(sources),
        false => Err("a source is not https"),
    }
}

/// A package's description, completed by what its files have to be.
fn package(
    mut about: Package,
    (size, sha256): (u64, Hash),
    tokenizer: &RawFile,
) -> Result<PackageEntry, &'static str> {
    let other = tokenizer.sha256.as_deref().and_then(hash);
    let other = other.ok_or("the sha256 of its tokenizer is none")?;
    let files = [(GRAPH, size, sha256), (TOKENIZER, tokenizer.size, other)];
    about.files = files
        .into_iter()
        .map(|(name, size, sha256)| {
            let sha256 = hex::encode(sha256);
            (name.to_owned(), FileFacts { size, sha256 })
        })
        .collect();
    about.check().map_err(|_| "its package can't be")?;
    Ok(PackageEntry {
        sources: urls(&tokenizer.sources)?,
        size: tokenizer.size,
        sha256: other,
        about,
    })
}

fn hash(text: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one that comes with the program.
    const OURS: &str = include_str!("../../../../models/catalogue.json");

    fn with(change: impl FnOnce(&mut serde_json::Value)) -> Result<Catalogue, CatalogueError> {
        let mut value: serde_json::Value = serde_json::from_str(OURS).unwrap();
        change(&mut value);
        Catalogue::parse(&value.to_string(), None)
    }

    #[test]
    fn ours_is_whole() {
        let ours = Catalogue::parse(OURS, None).unwrap();
        assert!(ours.items.len() >= 8);
        for name in ["qwen3-8b", "qwen3-4b", "qwen3-1.7b", "qwen3-0.6b"] {
            let entry = ours.find(name).unwrap();
            assert_eq!(entry.license, "Apache-2.0");
            assert!(entry.recommend);
        }
        let hashes: std::collections::BTreeSet<_> =
            ours.items.iter().map(|entry| entry.sha256).collect();
        assert_eq!(hashes.len(), ours.items.len(), "a hash twice");
        for entry in &ours.items {
            // A branch may move: the commit is named.
            let pinned = |url: &Url| {
                let mut segments = url.path().split('/').skip_while(|one| *one != "resolve");
                segments.nth(1).is_some_and(|commit| commit.len() == 40)
            };
            assert!(entry.sources.iter().all(pinned), "{}", entry.name);
            // Between two and nine bits and a half for each parameter; those for texts are whole.
            let bits = entry.size as f64 * 8.0 / entry.parameters as f64;
            let expected = match entry.package {
                None => 2.0..9.6,
                Some(_) => 31.0..34.0,
            };
            assert!(expected.contains(&bits), "{}: {bits}", entry.name);
        }
    }

    #[test]
    fn the_page_names_every_model_with_its_figures() {
        let page = include_str!("../../../../docs/models.md");
        for entry in Catalogue::parse(OURS, None).unwrap().items {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", entry.name)));
            let row = row.unwrap_or_else(|| panic!("docs/models.md lacks {}", entry.name));
            let size = super::super::error::gigabytes(entry.total());
            assert!(row.contains(&size), "{row} lacks {size}");
            let memory = super::super::fit::memory(&entry, 4096, 1);
            let memory = format!("{:.1} GB", memory as f64 / 1e9);
            assert!(row.contains(&memory), "{row} lacks {memory}");
        }
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let model = |key: &'static str, value: serde_json::Value| {
            with(move |all| all["models"][0][key] = value)
                .unwrap_err()
                .to_string()
        };
        for (key, value, words) in [
            ("name", "../x".into(), "a name"),
            ("name", "Qwen".into(), "a name"),
            ("name", ".x".into(), "a name"),
            ("name", "starter-1".into(), "a name"),
            ("name", "qwen3-8b".into(), "twice"),
            ("title", " ".into(), "empty"),
            ("size", 0.into(), "size"),
            ("size", (SIZE_LIMIT + 1).into(), "size"),
            ("sha256", "00".into(), "sha256"),
            (
                "tokenizer",
                serde_json::json!({"sources": [], "size": 1, "sha256": "00"}),
                "texts",
            ),
            ("sources", serde_json::json!([]), "sources"),
            (
                "sources",
                serde_json::json!(["http://example.org/a"]),
                "https",
            ),
            (
                "sources",
                serde_json::json!(["https://a:b@example.org/a"]),
                "web address",
            ),
            ("license_url", "http://example.org".into(), "license_url"),
            (
                "parts",
                serde_json::json!({"size": 4096, "sha256": []}),
                "parts",
            ),
            ("for", "dancing".into(), "unknown variant"),
            ("surprise", 1.into(), "unknown field"),
        ] {
            let said = model(key, value);
            assert!(said.contains(words), "{key}: {said}");
        }
        assert!(with(|all| all["version"] = 2.into()).is_err());
        assert!(with(|all| all["date"] = "today".into()).is_err());
        assert!(Catalogue::parse("", None).is_err());
        assert!(Catalogue::read(Path::new("/nowhere")).is_err());
    }
}
