//! What AICO is told to do: one typed [`Config`] from defaults, a file, the environment and flags.
//!
//! A later layer wins over an earlier one:
//!
//! 1. the default of each key, in [`schema`];
//! 2. one YAML file: the one named by `--config`, else `<data>/config.yaml`, else
//!    `<config folder>/aico/config.yaml`;
//! 3. the environment: `AICO__SECTION__KEY=value`;
//! 4. flags: `--set section.key=value` and the flags that stand for one key.
//!
//! Everything is strict. A key that does not exist is an error that names the nearest one that
//! does, a value outside its bounds is an error that states them, and all errors are reported in
//! one go. Secrets have no place here: a key that looks like one is refused and its value is
//! never repeated.
//!
//! ```
//! use aico_config::{Config, Sources};
//!
//! let data = std::env::temp_dir().join("aico-config-example");
//! let loaded = Config::load(Sources {
//!     env: vec![("AICO__GATEWAY__BIND".into(), "127.0.0.1:9000".into())],
//!     flags: vec![("logging.level".into(), "debug".into())],
//!     ..Sources::new(data)
//! })?;
//! assert_eq!(loaded.config.gateway.bind.port(), 9000);
//! let bind = loaded.explain_key("gateway.bind")?;
//! assert_eq!(bind.source.to_string(), "environment variable AICO__GATEWAY__BIND");
//! # Ok::<(), aico_config::ConfigError>(())
//! ```
#![forbid(unsafe_code)]

pub mod docs;
mod error;
mod file;
mod layers;
mod loaded;
mod model;
pub mod paths;
pub mod schema;
mod secret;

pub use error::{ConfigError, Problem, Problems, Source};
pub use loaded::{Entry, Loaded};
pub use model::{
    Companion, Config, Gateway, Level, Logging, ModelStart, Models, Ollama, OllamaStart, Session,
    UnknownLevel, Vault,
};
pub use secret::{NoSecretRef, SecretRef};

use std::path::PathBuf;

/// Prefix of the environment variables that set a key.
pub const ENV_PREFIX: &str = "AICO__";

/// Where the layers come from. Nothing else is read: no variable and no file that is not here.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file named by `--config`; it has to exist. `None`: look in the two usual places.
    pub file: Option<PathBuf>,
    /// Environment variables; those without [`ENV_PREFIX`] are ignored.
    pub env: Vec<(String, String)>,
    /// Keys set by flags, in the order given; the last one of a key wins.
    pub flags: Vec<(String, String)>,
    /// The data folder, whose `config.yaml` is read when `file` is `None`.
    pub data_dir: PathBuf,
    /// The person's configuration folder (`<config_dir>/aico/config.yaml`), if any.
    pub config_dir: Option<PathBuf>,
}

impl Sources {
    /// No file named, no environment, no flags: defaults and `<data_dir>/config.yaml`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            ..Self::default()
        }
    }

    /// The sources of this process: its environment and the platform's configuration folder.
    pub fn from_process(data_dir: impl Into<PathBuf>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.into_string().ok()?;
                name.starts_with(ENV_PREFIX)
                    .then(|| (name, value.to_string_lossy().into_owned()))
            })
            .collect();
        Self {
            env,
            config_dir: paths::config_dir(),
            ..Self::new(data_dir)
        }
    }

    /// The file that will be read, if there is one.
    #[must_use]
    pub fn chosen_file(&self) -> Option<PathBuf> {
        if let Some(named) = &self.file {
            return Some(named.clone());
        }
        let in_data = self.data_dir.join("config.yaml");
        if in_data.exists() {
            return Some(in_data);
        }
        let for_person = self.config_dir.as_ref()?.join("aico").join("config.yaml");
        for_person.exists().then_some(for_person)
    }
}
