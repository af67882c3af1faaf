//! The table of keys: name, kind, default and description of each.
//!
//! It is the one place to add a key, next to its field in the typed configuration; the
//! documentation, `aico config` and every check read it.

use std::net::SocketAddr;

use crate::model::Level;
use crate::secret::SecretRef;

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted name, `section.key`. A `*` in it stands for a name that the owner gives, so that
    /// there can be several of what the key belongs to.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The default, written as in a variable or flag.
    pub default: &'static str,
    /// One sentence for the person who sets it.
    pub description: &'static str,
}

/// What values a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number from the first to the second, both included.
    Integer(u32, u32),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An IP address with a port.
    Address,
    /// An IP address of this machine alone, with a port.
    Loopback,
    /// A list of host names; in variables and flags separated by commas.
    Names,
    /// A level for each of any number of modules: `key.<module>`.
    Levels,
    /// The name of a secret, as `secret:NAME`; a secret itself is refused.
    Secret,
    /// The absolute path of a file, or nothing.
    File,
    /// The address of a server, one of these words, or nothing.
    Web(&'static [&'static str]),
}

/// Words for a level.
const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// Every key there is, by section.
pub const KEYS: &[Key] = &[
    Key {
        name: "gateway.bind",
        kind: Kind::Address,
        default: "127.0.0.1:8771",
        description: "Address and port on which the web page and the API are served. Port 0 lets \
                      the system choose one.",
    },
    Key {
        name: "gateway.names",
        kind: Kind::Names,
        default: "",
        description: "Host names, besides the address itself and localhost, under which a \
                      browser may reach the gateway; a request that names another is refused.",
    },
    Key {
        name: "bus.bind",
        kind: Kind::Address,
        default: "127.0.0.1:8772",
        description: "Address and port on which modules of other makers reach the bus, beside a \
                      local socket. Opened only while one is admitted. Port 0 lets the system \
                      choose one.",
    },
    Key {
        name: "bus.live_bind",
        kind: Kind::Address,
        default: "127.0.0.1:8773",
        description: "Address and port for plain SUB sockets of modules of other makers, beside a \
                      local socket. Open when bus.bind is. Port 0 lets the system choose one.",
    },
    Key {
        name: "bus.journal_days",
        kind: Kind::Integer(1, 3650),
        default: "7",
        description: "Days for which a module that was away can still get the durable messages \
                      that it missed.",
    },
    Key {
        name: "bus.journal_megabytes",
        kind: Kind::Integer(1, 65536),
        default: "256",
        description: "MiB that the journal of durable messages may take; the oldest are deleted \
                      first.",
    },
    Key {
        name: "logging.level",
        kind: Kind::Choice(LEVELS),
        default: "info",
        description: "How much is logged by every module that logging.modules does not name.",
    },
    Key {
        name: "logging.modules",
        kind: Kind::Levels,
        default: "",
        description: "Levels of single modules, each by the name of its crate, for example \
                      aico_gateway.",
    },
    Key {
        name: "logging.retention_days",
        kind: Kind::Integer(1, 3650),
        default: "14",
        description: "Days after which a closed log file is deleted.",
    },
    Key {
        name: "logging.max_file_mib",
        kind: Kind::Integer(1, 1024),
        default: "16",
        description: "MiB after which a new log file begins; a new day begins one too.",
    },
    Key {
        name: "logging.max_total_mib",
        kind: Kind::Integer(1, 65536),
        default: "256",
        description: "MiB that all log files together may take; the oldest are deleted first.",
    },
    Key {
        name: "vault.auto_lock_minutes",
        kind: Kind::Integer(0, 10080),
        default: "0",
        description: "Minutes without any use after which the vault locks itself. 0: never.",
    },
    Key {
        name: "models.threads",
        kind: Kind::Integer(0, 1024),
        default: "0",
        description: "Threads that compute an answer. 0: as many as the machine has cores.",
    },
    Key {
        name: "models.context",
        kind: Kind::Integer(256, 1_048_576),
        default: "4096",
        description: "Tokens of one conversation that the model sees at most; a model made for \
                      fewer gets fewer.",
    },
    Key {
        name: "models.parallel",
        kind: Kind::Integer(1, 64),
        default: "4",
        description: "Answers that are computed at the same time; further ones wait.",
    },
    Key {
        name: "models.loaded",
        kind: Kind::Integer(1, 16),
        default: "2",
        description: "Models that may be in memory at once, where they fit; the one that was used \
                      longest ago makes room for another.",
    },
    Key {
        name: "models.gpu",
        kind: Kind::Choice(&["auto", "off", "vulkan", "cuda", "metal"]),
        default: "auto",
        description: "auto: models are computed on a graphics device where an engine for it lies \
                      beside the program (./run --gpu builds one), and on the processor \
                      otherwise; off: always on the processor; vulkan, cuda, metal: with this \
                      engine alone.",
    },
    Key {
        name: "models.gpu_device",
        kind: Kind::Integer(0, 64),
        default: "0",
        description: "Which of several graphics devices, from 1 on, as the driver numbers them. 0: \
                      the first that is no processor playing one.",
    },
    Key {
        name: "models.gpu_layers",
        kind: Kind::Integer(0, 10000),
        default: "0",
        description: "Layers of a model that the graphics device computes; the processor computes \
                      the others. 0: all, and none where the device's memory has no room for all.",
    },
    Key {
        name: "models.start",
        kind: Kind::Choice(&["eager", "lazy"]),
        default: "eager",
        description: "When the model is loaded: eager, as soon as the vault is open; lazy, with \
                      the first question.",
    },
    Key {
        name: "models.idle_unload_minutes",
        kind: Kind::Integer(0, 10080),
        default: "30",
        description: "Minutes without a question after which a model is unloaded, unless it is \
                      pinned. 0: never.",
    },
    Key {
        name: "models.prompt_cache_megabytes",
        kind: Kind::Integer(0, 1_048_576),
        default: "1024",
        description: "MiB that all persons' prompts may take on the disk, kept sealed so that a \
                      conversation goes on at once after a restart; the least recently used go \
                      first. 0: none are kept.",
    },
    Key {
        name: "models.prompt_cache_person_megabytes",
        kind: Kind::Integer(1, 1_048_576),
        default: "256",
        description: "MiB of these that one person's prompts may take; no more than \
                      models.prompt_cache_megabytes. Qwen3-4B takes 144 KiB a token; of a longer \
                      conversation the beginning is kept.",
    },
    Key {
        name: "models.prompt_cache_least_ms",
        kind: Kind::Integer(0, 60_000),
        default: "250",
        description: "Milliseconds of reading that keeping a prompt has to save at least; others \
                      are not kept. 0: all are.",
    },
    Key {
        name: "models.catalogue",
        kind: Kind::File,
        default: "",
        description: "A catalogue of models of one's own, in place of the one that comes with \
                      AICO; docs/models.md has its format.",
    },
    Key {
        name: "models.mirror",
        kind: Kind::Web(&[]),
        default: "",
        description: "A server that models are downloaded from in place of those that the \
                      catalogue names. It may be at home and without TLS, since hashes prove \
                      what comes.",
    },
    Key {
        name: "models.proxy",
        kind: Kind::Web(&["environment"]),
        default: "",
        description: "A proxy for downloads, as http://host:port; environment takes it from \
                      HTTPS_PROXY and NO_PROXY. Without it downloads go directly.",
    },
    Key {
        name: "models.download_connections",
        kind: Kind::Integer(1, 16),
        default: "4",
        description: "Connections that one download uses at the same time.",
    },
    Key {
        name: "models.servers.*.url",
        kind: Kind::Web(&[]),
        default: "",
        description: "The address of a server that runs models and speaks /v1, as \
                      https://host:port; without a path /v1 is meant. NAME is what you call it. \
                      docs/engines.md has more.",
    },
    Key {
        name: "models.servers.*.key",
        kind: Kind::Secret,
        default: "",
        description: "The secret that lets AICO in there.",
    },
    Key {
        name: "models.servers.*.unencrypted",
        kind: Kind::Choice(&["refused", "allowed"]),
        default: "refused",
        description: "allowed: the address may begin with http:// though it is another machine's, \
                      within the home network only.",
    },
    Key {
        name: "ollama.start",
        kind: Kind::Choice(&["auto", "adopt", "never"]),
        default: "auto",
        description: "auto: an Ollama that runs at ollama.address is used, and where none does an \
                      installed one is started and ended with AICO; adopt: only one that runs \
                      already is used; never: none is.",
    },
    Key {
        name: "ollama.address",
        kind: Kind::Loopback,
        default: "127.0.0.1:11434",
        description: "Where an Ollama may run already. One on another machine is a server: \
                      docs/engines.md.",
    },
    Key {
        name: "ollama.registry",
        kind: Kind::Web(&[]),
        default: "",
        description: "A registry of one's own that names of models for Ollama may begin with, \
                      such as http://nas.lan:5000. It may be at home and without TLS.",
    },
    Key {
        name: "ollama.releases",
        kind: Kind::File,
        default: "",
        description: "A list of releases of one's own that aico engine install ollama takes, in \
                      place of the one that comes with AICO; docs/engines.md has its format.",
    },
    Key {
        name: "companion.history_messages",
        kind: Kind::Integer(2, 10_000),
        default: "400",
        description: "Newest messages of a conversation that are considered for the model's \
                      context; those that do not fit are left out, oldest first.",
    },
    Key {
        name: "session.hours",
        kind: Kind::Integer(1, 24),
        default: "24",
        description: "Hours after which a browser has to sign in again.",
    },
];

impl Key {
    /// What stands before and after the name that the owner gives; `None`: there is none.
    #[must_use]
    pub fn around(&self) -> Option<(&'static str, &'static str)> {
        self.name.split_once('*')
    }

    /// Whether it is set once for each of several things, by their names.
    #[must_use]
    pub fn has_entries(&self) -> bool {
        self.kind == Kind::Levels || self.around().is_some()
    }

    /// The dotted name of one of its entries.
    #[must_use]
    pub fn entry(&self, given: &str) -> String {
        match self.around() {
            Some((before, after)) => format!("{before}{given}{after}"),
            None => format!("{}.{given}", self.name),
        }
    }

    /// Its name for people: `NAME` in the place of the star.
    #[must_use]
    pub fn shown(&self) -> String {
        self.name.replace('*', "NAME")
    }

    /// Whether this names it with its placeholder, and none of its entries.
    #[must_use]
    pub fn is_pattern(&self, name: &str) -> bool {
        self.around().is_some() && (name == self.name || name == self.shown())
    }
}

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// For [`Kind::Integer`].
    Integer(u32),
    /// For all other kinds.
    Text(String),
    /// For [`Kind::Names`].
    List(Vec<String>),
}

impl Value {
    /// As it would be written in a variable or flag.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Integer(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(items) => items.join(","),
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Integer(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::List(items) => items.as_slice().into(),
        }
    }
}

impl Kind {
    /// What this kind accepts, for error texts and the documentation.
    #[must_use]
    pub fn expects(self) -> String {
        match self {
            Self::Integer(low, high) => format!("a whole number from {low} to {high}"),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Address => "an IP address with a port, such as 127.0.0.1:8771".to_owned(),
            Self::Loopback => {
                "an IP address of this machine with a port, such as 127.0.0.1:11434".to_owned()
            }
            Self::Names => "a list of host names".to_owned(),
            Self::Levels => format!("for each module one of {}", LEVELS.join(", ")),
            Self::Secret => "the name of a secret, as secret:NAME; `aico config secret set NAME` \
                             keeps the secret itself"
                .to_owned(),
            Self::File => "the absolute path of a file, or nothing".to_owned(),
            Self::Web(words) => {
                let words: String = words.iter().map(|word| format!("{word}, ")).collect();
                format!(
                    "{words}an address such as http://nas.local:8080 without a password, or nothing"
                )
            }
        }
    }

    /// Checks a value written as text (variable, flag, default). `None`: it does not fit.
    #[must_use]
    pub fn parse(self, text: &str) -> Option<Value> {
        let text = text.trim();
        match self {
            Self::Integer(low, high) => {
                let number = text.parse().ok().filter(|n| (low..=high).contains(n))?;
                Some(Value::Integer(number))
            }
            Self::Choice(words) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(text))
                .map(|word| Value::Text((*word).to_owned())),
            Self::Address => text
                .parse::<SocketAddr>()
                .ok()
                .map(|a| Value::Text(a.to_string())),
            Self::Loopback => text
                .parse::<SocketAddr>()
                .ok()
                .filter(|a| a.ip().is_loopback() && a.port() > 0)
                .map(|a| Value::Text(a.to_string())),
            Self::Names => {
                let items = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                host_names(items)
            }
            Self::Secret => text
                .parse::<SecretRef>()
                .ok()
                .map(|reference| Value::Text(reference.to_string())),
            Self::Levels => text
                .parse::<Level>()
                .ok()
                .map(|l| Value::Text(l.as_str().to_owned())),
            Self::File => (text.is_empty() || std::path::Path::new(text).is_absolute())
                .then(|| Value::Text(text.to_owned())),
            Self::Web(words) => {
                let word = words.iter().find(|word| word.eq_ignore_ascii_case(text));
                match word {
                    Some(word) => Some(Value::Text((*word).to_owned())),
                    None => (text.is_empty() || is_server(text))
                        .then(|| Value::Text(text.trim_end_matches('/').to_owned())),
                }
            }
        }
    }
}

/// Whether this is the address of a server, perhaps with a path, and nothing that holds a
/// password.
fn is_server(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    let fine = |letter: char| letter.is_ascii_graphic() && !"@?#\\\"<>".contains(letter);
    text.len() <= 1000
        && rest.chars().all(fine)
        && rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[')
}

/// Host names, lower-cased; `None` when one of them is none, or there are too many.
pub(crate) fn host_names<'a>(items: impl Iterator<Item = &'a str>) -> Option<Value> {
    let mut names = Vec::new();
    for item in items {
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if item.len() > 253 || !item.split('.').all(label) || names.len() == 32 {
            return None;
        }
        names.push(item.to_ascii_lowercase());
    }
    Some(Value::List(names))
}

/// What a dotted name refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// A key; for [`Kind::Levels`] the entry inside it, and for a name with `*` what stands there.
    Key(usize, Option<String>),
    /// No key; the nearest one if any is near.
    Unknown(Option<String>),
    /// Looks like a secret.
    Secret,
}

/// Finds the key that a dotted name refers to.
#[must_use]
pub fn find(name: &str) -> Lookup {
    for (index, key) in KEYS.iter().enumerate() {
        if key.name == name {
            return Lookup::Key(index, None);
        }
        if let Some((before, after)) = key.around() {
            let given = name
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(after));
            if let Some(given) = given.filter(|given| is_given_name(given)) {
                return Lookup::Key(index, Some(given.to_owned()));
            }
        }
        let entry = name
            .strip_prefix(key.name)
            .and_then(|rest| rest.strip_prefix('.'));
        if let (Kind::Levels, Some(entry)) = (key.kind, entry)
            && is_module_name(entry)
        {
            return Lookup::Key(index, Some(entry.to_owned()));
        }
    }
    const SECRETS: [&str; 6] = [
        "password",
        "passphrase",
        "phrase",
        "secret",
        "token",
        "api_key",
    ];
    let lower = name.to_ascii_lowercase();
    if SECRETS.iter().any(|word| lower.contains(word)) {
        return Lookup::Secret;
    }
    Lookup::Unknown(nearest(name))
}

/// The key whose name is most like `name`; by its last part alone when that is closer, so that
/// a key in the wrong section is found too.
fn nearest(name: &str) -> Option<String> {
    let last = |dotted: &'_ str| dotted.rsplit('.').next().unwrap_or_default().to_owned();
    KEYS.iter()
        .map(|key| {
            let whole = strsim::jaro_winkler(name, key.name);
            let part = strsim::jaro_winkler(&last(name), &last(key.name)) - 0.02;
            (whole.max(part), key)
        })
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key.shown())
}

/// What the owner can call something: a word, so that it stands in a key, a path and a model's name.
fn is_given_name(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

fn is_module_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_:".contains(&b))
}
