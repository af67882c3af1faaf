//! The typed configuration that the rest of the program reads.
//!
//! Names, bounds, defaults and descriptions stand in [`crate::schema`]; a test holds the two
//! together, so that no field is without a key and no key without a field.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;

/// All of it. Built by [`Config::load`]; [`Config::default`] is what an empty file means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The door for browsers and programs.
    pub gateway: Gateway,
    /// The door for modules of other makers.
    pub bus: Bus,
    /// What is written about what happens.
    pub logging: Logging,
    /// Keys and locking.
    pub vault: Vault,
    /// The model process.
    pub models: Models,
    /// Ollama, another program that runs models.
    pub ollama: Ollama,
    /// Conversations.
    pub companion: Companion,
    /// Signed-in browsers and programs.
    pub session: Session,
}

/// `gateway.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Address and port to listen on.
    pub bind: SocketAddr,
    /// Host names, besides the address itself and `localhost`, that a request may name.
    pub names: Vec<String>,
}

/// `bus.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// Address and port for admitted modules, beside the local socket.
    pub bind: SocketAddr,
    /// Address and port for plain SUB sockets of admitted modules, beside a local socket.
    pub live_bind: SocketAddr,
    /// Days for which durable messages can be followed.
    pub journal_days: u32,
    /// MiB that the journal of durable messages may take.
    pub journal_megabytes: u32,
}

/// `logging.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logging {
    /// Level of every module that `modules` does not name.
    pub level: Level,
    /// Levels of single modules, by the name of their crate (`aico_gateway`).
    pub modules: BTreeMap<String, Level>,
    /// Days after which a closed log file is deleted.
    pub retention_days: u32,
    /// MiB after which a new log file begins.
    pub max_file_mib: u32,
    /// MiB that all log files together may take.
    pub max_total_mib: u32,
}

/// `vault.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// Minutes without any use after which the vault locks itself; 0: never.
    pub auto_lock_minutes: u32,
}

/// `models.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Threads that compute; 0: as many as the machine has cores.
    pub threads: u32,
    /// Tokens that one conversation may hold in front of the model.
    pub context: u32,
    /// Answers computed at the same time.
    pub parallel: u32,
    /// Models that may be in memory at once.
    pub loaded: u32,
    /// Whether, and how, models are computed on a graphics device: `auto`, `off` or its kind.
    pub gpu: String,
    /// Which of several devices, from 1 on; 0: the first.
    pub gpu_device: u32,
    /// Layers that it computes; 0: all, if they fit.
    pub gpu_layers: u32,
    /// When the model is loaded.
    pub start: ModelStart,
    /// Minutes without a question after which the model is unloaded; 0: never.
    pub idle_unload_minutes: u32,
    /// MiB that kept prompts of all persons may take; 0: none are kept.
    pub prompt_cache_megabytes: u32,
    /// MiB of these that one person's may take.
    pub prompt_cache_person_megabytes: u32,
    /// Milliseconds: a prompt that is read faster is not kept.
    pub prompt_cache_least_ms: u32,
    /// A catalogue in place of the program's own; empty: none.
    pub catalogue: PathBuf,
    /// A server that models are downloaded from in place of the catalogue's; empty: none.
    pub mirror: String,
    /// The way to all other servers; empty: a direct one, `environment`: as its variables say.
    pub proxy: String,
    /// Connections of one download.
    pub download_connections: u32,
    /// Servers that run models, by the names that the owner gave them.
    pub servers: BTreeMap<String, Server>,
}

/// `models.servers.NAME.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its address.
    #[serde(default)]
    pub url: String,
    /// The secret that is its key, as `secret:NAME`; empty: it needs none.
    #[serde(default)]
    pub key: String,
    /// Whether the way to it may be unencrypted; `allowed` or not.
    #[serde(default)]
    pub unencrypted: String,
}

impl Server {
    /// The secret that is its key.
    #[must_use]
    pub fn secret(&self) -> Option<SecretRef> {
        self.key.parse().ok()
    }

    /// Whether the way to it may be unencrypted within the home network.
    #[must_use]
    pub fn unencrypted(&self) -> bool {
        self.unencrypted == "allowed"
    }

    /// Whether its address can be none but this machine's.
    #[must_use]
    pub fn is_here(&self) -> bool {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        if let Ok(address) = authority.parse::<SocketAddr>() {
            return address.ip().to_canonical().is_loopback();
        }
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
            _ => authority,
        };
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || literal
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

/// When the model process loads its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelStart {
    /// As soon as the vault is open.
    Eager,
    /// With the first question.
    Lazy,
}

/// `ollama.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ollama {
    /// Whether it is used, and started.
    pub start: OllamaStart,
    /// Where one may run already.
    pub address: SocketAddr,
    /// A registry of models of one's own; empty: none.
    pub registry: String,
    /// A list of releases in place of the program's own; empty: none.
    pub releases: PathBuf,
}

/// Whether Ollama is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OllamaStart {
    /// One that runs, else one that is installed and is started.
    Auto,
    /// One that runs.
    Adopt,
    /// None.
    Never,
}

/// `companion.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Companion {
    /// Newest messages of a conversation that are considered for the model's context.
    pub history_messages: u32,
}

/// `session.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Hours for which a sign-in is valid.
    pub hours: u32,
}

/// How much is logged; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing.
    Off,
    /// Data is at risk, or a person is needed.
    Error,
    /// Something did not go as it should and was dealt with.
    Warn,
    /// What an owner would want to know afterwards.
    Info,
    /// What a developer would want to know.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// All levels, from the quietest.
    pub const ALL: [Self; 6] = [
        Self::Off,
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// The name used in files, variables and flags.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no [`Level`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the level is one of off, error, warn, info, debug, trace")]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|l| l.as_str().eq_ignore_ascii_case(text))
            .ok_or(UnknownLevel)
    }
}
