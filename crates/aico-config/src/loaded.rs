//! A configuration together with where each of its values came from.

use std::path::{Path, PathBuf};

use crate::error::{ConfigError, Problem, Problems, Source};
use crate::layers::Layers;
use crate::model::Config;
use crate::schema::{self, KEYS, Kind, Lookup};

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

    /// One key. A module's level (`logging.modules.aico_bus`) may be asked for though none is set.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when there is no such key; it names the nearest.
    pub fn explain_key(&self, name: &str) -> Result<Entry, ConfigError> {
        let (index, module) = match schema::find(name) {
            Lookup::Key(index, module) => (index, module),
            Lookup::Secret | Lookup::Unknown(None) => return Err(unknown(name, None)),
            Lookup::Unknown(near) => return Err(unknown(name, near)),
        };
        let found = match &module {
            None => self
                .entries(index)
                .into_iter()
                .find(|entry| entry.key == name),
            Some(module) => self.level_entry(index, module),
        };
        Ok(found.unwrap_or_else(|| self.bare(index, name)))
    }

    fn entries(&self, index: usize) -> Vec<Entry> {
        let key = &KEYS[index];
        if key.kind == Kind::Levels {
            let modules = self.layers.levels.keys().filter(|(at, _)| *at == index);
            let entries: Vec<_> = modules
                .filter_map(|(_, module)| self.level_entry(index, module))
                .collect();
            return if entries.is_empty() {
                vec![self.bare(index, key.name)]
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

    fn level_entry(&self, index: usize, module: &str) -> Option<Entry> {
        let (value, source) = self.layers.levels.get(&(index, module.to_owned()))?;
        let name = format!("{}.{module}", KEYS[index].name);
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
