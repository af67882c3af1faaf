//! Ollama by the configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aico_config::{Config, OllamaStart};
use aico_models::backend::InstallConfig;
use aico_models::backend::ollama::{OllamaConfig, Start};
use aico_models::pull::Proxy;
use aico_models::pull::small::Way;
use aico_models::pull::url::{Url, UrlError};

use super::modules::pull_config;

/// Where one lies that AICO installed.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("engines").join("ollama")
}

/// How it is used; `None`: not at all.
pub(crate) fn config(config: &Config, data: &Path) -> Option<OllamaConfig> {
    let start = match config.ollama.start {
        OllamaStart::Auto => Start::Auto,
        OllamaStart::Adopt => Start::Never,
        OllamaStart::Never => return None,
    };
    let models = &config.models;
    Some(OllamaConfig {
        address: config.ollama.address,
        start,
        parallel: models.parallel,
        loaded: models.loaded,
        context: models.context,
        keep_alive: match models.idle_unload_minutes {
            0 => None,
            minutes => Some(Duration::from_secs(60 * u64::from(minutes))),
        },
        proxy: match models.proxy.as_str() {
            "" => None,
            "environment" => Proxy::of_environment(&|name| std::env::var(name).ok()),
            named => Some(named.to_owned()),
        },
        way: way(config),
        ..OllamaConfig::new(folder(data))
    })
}

/// How one is installed, by the command line and by the daemon alike.
///
/// # Errors
/// When a mirror or proxy is no address, which the configuration's own check lets nobody come to.
pub(crate) fn installation(config: &Config, data: &Path) -> Result<InstallConfig, UrlError> {
    let folder = folder(data);
    let own = &config.ollama.releases;
    Ok(InstallConfig {
        releases: (!own.as_os_str().is_empty()).then(|| own.clone()),
        pull: pull_config(&config.models, folder.clone())?,
        starts: config.ollama.start == OllamaStart::Auto,
        path: std::env::var_os("PATH"),
        folder,
    })
}

/// The way to registries; the configuration's own check lets no address through that is none.
fn way(config: &Config) -> Way {
    let named = |text: &str| Url::parse(text).ok();
    let proxy = match config.models.proxy.as_str() {
        "environment" => Proxy::Environment,
        other => named(other).map_or(Proxy::None, Proxy::At),
    };
    Way::new(named(&config.ollama.registry), proxy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_decides() {
        let mut told = Config::default();
        let made = config(&told, Path::new("/data")).unwrap();
        assert_eq!(made.start, Start::Auto);
        assert_eq!(made.address.port(), 11434);
        assert_eq!(made.folder, Path::new("/data/engines/ollama"));
        assert_eq!(made.parallel, told.models.parallel);
        told.models.loaded = 3;
        told.models.idle_unload_minutes = 30;
        told.ollama.start = OllamaStart::Adopt;
        let made = config(&told, Path::new("/data")).unwrap();
        assert_eq!(made.start, Start::Never);
        assert_eq!(made.loaded, 3);
        assert_eq!(made.keep_alive, Some(Duration::from_secs(1800)));
        told.ollama.start = OllamaStart::Never;
        assert!(config(&told, Path::new("/data")).is_none());
    }

    #[test]
    fn it_is_installed_where_it_is_looked_for() {
        let mut told = Config::default();
        let made = installation(&told, Path::new("/data")).unwrap();
        assert_eq!(
            made.folder,
            config(&told, Path::new("/data")).unwrap().folder
        );
        assert_eq!((made.releases, made.starts), (None, true));
        told.ollama.start = OllamaStart::Adopt;
        told.ollama.releases = "/own.json".into();
        told.models.mirror = "http://10.0.0.2:8000/files".to_owned();
        let made = installation(&told, Path::new("/data")).unwrap();
        assert_eq!(made.releases.as_deref(), Some(Path::new("/own.json")));
        assert_eq!(made.pull.mirror.unwrap().host(), "10.0.0.2");
        assert!(!made.starts, "what is installed is left alone");
    }
}
