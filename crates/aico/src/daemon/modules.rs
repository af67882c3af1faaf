//! What lives only while the home is ready: the model manager, the companion, the log's file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aico_access::{Home, Stage};
use aico_bus::{Bus, Identity, link};
use aico_companion::Companion;
use aico_config::Config;
use aico_logging::Logging;
use aico_models::starter::Embedded;
use aico_models::supervisor::{ManagerConfig, ModelManager, StartWhen, SystemRegistry};

/// What the modules are made of.
pub(super) struct Parts {
    pub(super) home: Home,
    pub(super) bus: Bus,
    pub(super) logging: Logging,
    pub(super) config: Config,
    pub(super) data: PathBuf,
    pub(super) run: PathBuf,
}

/// So that a fresh machine answers before anything is downloaded.
const STARTER: Embedded = Embedded {
    bytes: include_bytes!("../../../../models/starter/aico-starter.gguf"),
    sha256: include_str!("../../../../models/starter/aico-starter.gguf.sha256"),
};

/// For an answer to be stored as interrupted.
const COMPANION_LIMIT: Duration = Duration::from_secs(3);

/// Starts the modules when the home becomes ready and stops them when it no longer is; ends with
/// the home.
pub(super) async fn watch(parts: Parts) {
    let mut stage = parts.home.watch_stage();
    let mut modules = None;
    loop {
        let now = *stage.borrow_and_update();
        match (now, modules.take()) {
            (Stage::Ready, None) => {
                modules = Modules::start(&parts).await;
                parts.home.set_serving(true);
            }
            (Stage::Ready, running) => modules = running,
            (_, running) => {
                parts.home.set_serving(false);
                if let Some(running) = running {
                    running.stop(&parts).await;
                }
            }
        }
        if now == Stage::Stopping || stage.changed().await.is_err() {
            return;
        }
    }
}

struct Modules {
    models: ModelManager,
    companion: Companion,
    /// The stores stay open until these have ended.
    _hold: tokio_util::task::task_tracker::TaskTrackerToken,
}

impl Modules {
    async fn start(parts: &Parts) -> Option<Self> {
        let hold = parts.home.hold();
        match parts.home.vault() {
            Ok(vault) => {
                let folder = parts.data.join("logs");
                if let Err(error) = parts.logging.attach(&folder, vault, &parts.config.logging) {
                    tracing::error!(error = crate::exit::chain(&error), "the log has no file");
                }
            }
            Err(_) => return None,
        }
        tracing::info!("unlocked");
        match parts.home.sweep().await {
            Ok(0) => {}
            Ok(folders) => tracing::warn!(folders, "removed what a cut-off change had left"),
            Err(error) => tracing::warn!(error = crate::exit::chain(&error), "the sweep failed"),
        }
        let models = match Self::models(parts).await {
            Ok(models) => models,
            Err(error) => {
                tracing::error!(
                    error = crate::exit::chain(&*error),
                    "models can't be served"
                );
                return None;
            }
        };
        let companion = Companion::start(
            parts.home.clone(),
            parts.bus.join(Identity::new("companion")),
        );
        match companion {
            Ok(companion) => Some(Self {
                models,
                companion,
                _hold: hold,
            }),
            Err(error) => {
                tracing::error!(
                    error = crate::exit::chain(&error),
                    "the companion can't serve"
                );
                models.stop().await;
                None
            }
        }
    }

    async fn models(
        parts: &Parts,
    ) -> Result<ModelManager, Box<dyn std::error::Error + Send + Sync>> {
        let settings = &parts.config.models;
        let program = std::env::current_exe()?;
        let config = ManagerConfig {
            starter: Some(STARTER),
            threads: settings.threads,
            context: settings.context,
            sequences: settings.parallel,
            start: match settings.start {
                aico_config::ModelStart::Eager => StartWhen::Now,
                aico_config::ModelStart::Lazy => StartWhen::Asked,
            },
            ..ManagerConfig::new(
                program,
                parts.data.join("models"),
                parts.run.join("scratch"),
            )
        };
        // Keys of the link are new at each start.
        let endpoint = link::endpoint_in(&parts.run)?;
        let listener = Arc::new(link::Listener::bind(&parts.bus, &endpoint).await?);
        let registry = Arc::new(SystemRegistry::new(parts.home.system()?));
        Ok(ModelManager::start(&parts.bus, listener, registry, config).await?)
    }

    /// The companion first: its answers end while the model still can.
    async fn stop(self, parts: &Parts) {
        self.companion.stop(COMPANION_LIMIT).await;
        self.models.stop().await;
        tracing::info!("locked");
        parts.logging.detach();
    }
}
