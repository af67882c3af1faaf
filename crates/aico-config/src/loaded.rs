//! A configuration together with where each of its values came from.

use std::path::{Path, PathBuf};

use crate::error::{ConfigError, Problem, Problems, Source};
use crate::layers::Layers;
use crate::model::Config;
use crate::schema::{self, KEYS, Lookup};

/// What [`Config::load`] gives.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// What a person should know though it stops nothing.
    pub warnings: Vec<String>,
    file: Option<PathBuf>,
    layers: Layers,
}

/// One key with its value and where that came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Dotted name.
    pub key: String,
    /// The value, written as in a variable or flag.
    pub value: String,
    /// The layer that set it.
    pub source: Source,
    /// The default, in the same form.
    pub default: String,
    /// What the key accepts.
    pub expects: String,
    /// What the key is for.
    pub description: &'static str,
}

impl Loaded {
    pub(crate) fn new(
        config: Config,
        file: Option<PathBuf>,
        warnings: Vec<String>,
        layers: Layers,
    ) -> Self {
        Self {
            config,
            warnings,
            file,
            layers,
        }
    }

    /// The file that was read, if any.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Every key in the order of the documentation; one entry for each module with its own level.
    #[must_use]
    pub fn explain(&self) -> Vec<Entry> {
        (0..KEYS.len())
            .flat_map(|index| self.entries(index))
            .collect()
    }

    /// One key. A module's level (`logging.modules.aico_bus`) may be asked for though none is set, and
    /// a key of servers without a server (`models.servers.NAME.url`).
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when there is no such key; it names the nearest.
    pub fn explain_key(&self, name: &str) -> Result<Entry, ConfigError> {
        // As documents and lists have it: `models.servers.NAME.url`.
        if let Some(index) = KEYS.iter().position(|key| key.is_pattern(name)) {
            return Ok(self.bare(index, name));
        }
        let (index, given) = match schema::find(name) {
            Lookup::Key(index, given) => (index, given),
            Lookup::Secret | Lookup::Unknown(None) => return Err(unknown(name, None)),
            Lookup::Unknown(near) => return Err(unknown(name, near.as_deref())),
        };
        let found = match &given {
            None => self
                .entries(index)
                .into_iter()
                .find(|entry| entry.key == name),
            Some(given) => self.given_entry(index, given),
        };
        Ok(found.unwrap_or_else(|| self.bare(index, name)))
    }

    fn entries(&self, index: usize) -> Vec<Entry> {
        let key = &KEYS[index];
        if key.has_entries() {
            let names = self.layers.entries.keys().filter(|(at, _)| *at == index);
            let entries: Vec<_> = names
                .filter_map(|(_, given)| self.given_entry(index, given))
                .collect();
            return if entries.is_empty() {
                vec![self.bare(index, &key.shown())]
            } else {
                entries
            };
        }
        let entry = match self.layers.values.get(&index) {
            None => self.bare(index, key.name),
            Some((value, source)) => Entry {
                value: value.to_text(),
                source: source.clone(),
                ..self.bare(index, key.name)
            },
        };
        vec![entry]
    }

    fn given_entry(&self, index: usize, given: &str) -> Option<Entry> {
        let (value, source) = self.layers.entries.get(&(index, given.to_owned()))?;
        let name = KEYS[index].entry(given);
        Some(Entry {
            value: value.to_text(),
            source: source.clone(),
            ..self.bare(index, &name)
        })
    }

    /// The key as if nobody had set it.
    fn bare(&self, index: usize, name: &str) -> Entry {
        let key = &KEYS[index];
        Entry {
            key: name.to_owned(),
            value: key.default.to_owned(),
            source: Source::Default,
            default: key.default.to_owned(),
            expects: key.kind.expects(),
            description: key.description,
        }
    }
}

fn unknown(name: &str, near: Option<&str>) -> ConfigError {
    let what = match near {
        Some(near) => format!("there is no such key; did you mean {near}?"),
        None => "there is no such key; `aico config show` lists them all".to_owned(),
    };
    Problems(vec![Problem {
        source: Source::Flag,
        key: name.to_owned(),
        what,
    }])
    .into()
}
