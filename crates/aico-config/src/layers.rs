//! Lays the sources over one another and checks each value as it arrives.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{ConfigError, Problem, Problems, Source};
use crate::file::{self, Leaf, Setting};
use crate::loaded::Loaded;
use crate::model::Config;
use crate::schema::{self, KEYS, Kind, Lookup, Value};
use crate::{ENV_PREFIX, Sources};

/// What each key came to, with its source; of keys with entries by key and name.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub(crate) values: BTreeMap<usize, (Value, Source)>,
    pub(crate) entries: BTreeMap<(usize, String), (Value, Source)>,
    problems: Vec<Problem>,
}

impl Layers {
    fn problem(&mut self, source: &Source, key: &str, what: String) {
        self.problems.push(Problem {
            source: source.clone(),
            key: key.to_owned(),
            what,
        });
    }

    /// Sets `name` to what `parse` makes of it for its kind.
    fn set(&mut self, name: &str, source: Source, parse: impl Fn(Kind) -> Option<Value>) {
        if KEYS.iter().any(|key| key.is_pattern(name)) {
            let what =
                "put a name of your own in the place of NAME: small letters, digits, _ and -";
            return self.problem(&source, name, what.to_owned());
        }
        let (index, entry) = match schema::find(name) {
            Lookup::Key(index, entry) => (index, entry),
            Lookup::Secret => {
                let what = "AICO keeps no secrets in its configuration; give a password with \
                            --password-file or when you are asked";
                return self.problem(&source, name, what.to_owned());
            }
            Lookup::Unknown(near) => {
                let what = match near {
                    Some(near) => format!("there is no such key; did you mean {near}?"),
                    None => "there is no such key; `aico config show` lists them all".to_owned(),
                };
                return self.problem(&source, name, what);
            }
        };
        let kind = KEYS[index].kind;
        if kind == Kind::Levels && entry.is_none() {
            let what = "set one module at a time, as logging.modules.<module>".to_owned();
            return self.problem(&source, name, what);
        }
        match (parse(kind), entry) {
            (None, _) => self.problem(&source, name, format!("has to be {}", kind.expects())),
            (Some(value), Some(entry)) => {
                self.entries.insert((index, entry), (value, source));
            }
            (Some(value), None) => {
                self.values.insert(index, (value, source));
            }
        }
    }

    fn set_from_file(&mut self, path: &Path, setting: Setting) {
        let source = Source::File {
            path: path.to_owned(),
            line: setting.line,
        };
        if setting.leaf == Leaf::Null {
            // `gateway:` with everything under it commented out is no mistake.
            let section = KEYS
                .iter()
                .any(|k| k.name.split('.').next() == Some(&setting.key));
            let empty_map = KEYS.iter().any(|k| {
                let map = k.around().map_or(k.name, |(before, _)| before);
                k.has_entries() && map.trim_end_matches('.') == setting.key
            });
            if section || empty_map {
                return;
            }
        }
        let is_section = !setting.key.contains('.')
            && KEYS
                .iter()
                .any(|k| k.name.split('.').next() == Some(&setting.key));
        if is_section {
            let what = "is a section: its keys go below it, indented".to_owned();
            return self.problem(&source, &setting.key, what);
        }
        self.set(&setting.key, source, |kind| from_leaf(kind, &setting.leaf));
    }

    /// Rules between keys.
    fn check_together(&mut self, config: &Config) {
        self.check_servers(config);
        let logging = &config.logging;
        if logging.max_total_mib < logging.max_file_mib {
            let source = self.source("logging.max_total_mib");
            let what = format!(
                "has to be at least logging.max_file_mib, which is {}",
                logging.max_file_mib
            );
            self.problem(&source, "logging.max_total_mib", what);
        }
    }

    fn check_servers(&mut self, config: &Config) {
        for (name, server) in &config.models.servers {
            let key = format!("models.servers.{name}.url");
            let what = if name == "ollama" {
                "this name is Ollama's; give the server another one"
            } else if server.url.is_empty() {
                "is missing: a server needs its address"
            } else if server.url.starts_with("http://")
                && !server.unencrypted()
                && !server.is_here()
            {
                "has to begin with https://, for what you write goes there; \
                 models.servers.NAME.unencrypted can allow http:// within the home network"
            } else {
                continue;
            };
            let source = self.entry_source(name);
            self.problem(&source, &key, what.to_owned());
        }
    }

    /// Where something of this name was set first.
    fn entry_source(&self, name: &str) -> Source {
        let mut entries = self.entries.iter();
        entries
            .find(|((at, given), _)| KEYS[*at].around().is_some() && given == name)
            .map_or(Source::Default, |(_, (_, source))| source.clone())
    }

    fn source(&self, name: &str) -> Source {
        KEYS.iter()
            .position(|key| key.name == name)
            .and_then(|index| self.values.get(&index))
            .map_or(Source::Default, |(_, source)| source.clone())
    }

    fn to_json(&self) -> serde_json::Value {
        let mut root = serde_json::Map::new();
        for (index, key) in KEYS.iter().enumerate() {
            if let Some((before, after)) = key.around() {
                self.add_entries(&mut root, index, before, after);
                continue;
            }
            let (section, name) = key.name.split_once('.').unwrap_or(("", key.name));
            let value = if key.kind == Kind::Levels {
                let of_key = self.entries.iter().filter(|((at, _), _)| *at == index);
                of_key
                    .map(|((_, module), (value, _))| (module.clone(), value.to_json()))
                    .collect()
            } else {
                match self.values.get(&index) {
                    Some((value, _)) => value.to_json(),
                    None => serde_json::Value::Null,
                }
            };
            let section = root
                .entry(section)
                .or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
            if let Some(section) = section.as_object_mut() {
                section.insert(name.to_owned(), value);
            }
        }
        serde_json::Value::Object(root)
    }

    /// Puts the entries of a key with a star where they belong; without any there is an empty map.
    fn add_entries(
        &self,
        root: &mut serde_json::Map<String, serde_json::Value>,
        index: usize,
        before: &str,
        after: &str,
    ) {
        let Some(map) = before
            .trim_end_matches('.')
            .split('.')
            .try_fold(root, inner)
        else {
            return;
        };
        let of_key = self.entries.iter().filter(|((at, _), _)| *at == index);
        for ((_, given), (value, _)) in of_key {
            if let Some(one) = inner(map, given) {
                one.insert(after.trim_start_matches('.').to_owned(), value.to_json());
            }
        }
    }
}

/// The map of this name inside another, made if it is not there.
fn inner<'a>(
    map: &'a mut serde_json::Map<String, serde_json::Value>,
    name: &str,
) -> Option<&'a mut serde_json::Map<String, serde_json::Value>> {
    map.entry(name)
        .or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()))
        .as_object_mut()
}

fn from_leaf(kind: Kind, leaf: &Leaf) -> Option<Value> {
    match (kind, leaf) {
        (Kind::Integer(low, high), Leaf::Integer(number)) => {
            let number = u32::try_from(*number).ok()?;
            (low..=high)
                .contains(&number)
                .then_some(Value::Integer(number))
        }
        (Kind::Names, Leaf::List(items)) => {
            let texts: Option<Vec<&str>> = items
                .iter()
                .map(|item| match item {
                    Leaf::Text(text) => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            schema::host_names(texts?.into_iter())
        }
        // YAML reads a bare `off` as text or as false, by its version: both mean the level.
        (Kind::Choice(words), Leaf::Bool) if words.contains(&"off") => kind.parse("off"),
        (Kind::Levels, Leaf::Bool) => kind.parse("off"),
        (
            Kind::Choice(_)
            | Kind::Address
            | Kind::Loopback
            | Kind::Levels
            | Kind::Secret
            | Kind::File
            | Kind::Web(_),
            Leaf::Text(text),
        ) => kind.parse(text),
        _ => None,
    }
}

impl Config {
    /// Reads all sources and checks them.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names every key that is unknown or out of bounds, in all sources;
    /// the others say why the file could not be read at all.
    pub fn load(sources: Sources) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::default();
        for (index, key) in KEYS.iter().enumerate() {
            if key.has_entries() {
                continue;
            }
            if let Some(value) = key.kind.parse(key.default) {
                layers.values.insert(index, (value, Source::Default));
            }
        }
        let mut warnings = Vec::new();
        let file = sources.chosen_file();
        if let Some(path) = &file {
            for setting in file::read(path)? {
                layers.set_from_file(path, setting);
            }
            warnings.extend(crate::paths::others_may_write(path).then(|| {
                format!(
                    "{} can be changed by other users of this machine",
                    path.display()
                )
            }));
        }
        for (name, value) in &sources.env {
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else {
                continue;
            };
            let key = rest.to_ascii_lowercase().replace("__", ".");
            layers.set(&key, Source::Environment(name.clone()), |kind| {
                kind.parse(value)
            });
        }
        for (key, value) in &sources.flags {
            layers.set(key, Source::Flag, |kind| kind.parse(value));
        }
        if !layers.problems.is_empty() {
            return Err(Problems(layers.problems).into());
        }
        let config: Config = serde_json::from_value(layers.to_json()).map_err(|error| {
            Problems(vec![Problem {
                source: Source::Default,
                key: "(all)".to_owned(),
                what: format!("the table of keys and the program disagree: {error}"),
            }])
        })?;
        layers.check_together(&config);
        if !layers.problems.is_empty() {
            return Err(Problems(layers.problems).into());
        }
        Ok(Loaded::new(config, file, warnings, layers))
    }
}

impl Default for Config {
    /// Every key at its default.
    fn default() -> Self {
        match Self::load(Sources::default().without_files()) {
            Ok(loaded) => loaded.config,
            // The table is a constant, and `defaults_make_a_configuration` holds it to this.
            Err(error) => unreachable!("the defaults of the table of keys are valid: {error}"),
        }
    }
}

impl Sources {
    /// Looks for no file anywhere.
    fn without_files(mut self) -> Self {
        self.file = None;
        self.config_dir = None;
        self.data_dir = std::path::PathBuf::from("\0");
        self
    }
}
