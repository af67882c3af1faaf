//! What lives only while the home is ready: the model manager, the companion, the log's file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aico_access::{Home, JournalAnew, PartsError, Stage};
use aico_bus::{Bus, Identity, Journal, Retention, link};
use aico_companion::Companion;
use aico_config::Config;
use aico_logging::Logging;
use aico_models::backend::Engines;
use aico_models::gpu::GpuConfig;
use aico_models::prompt_cache::{Limits, PromptCache};
use aico_models::pull::url::Url;
use aico_models::pull::{Proxy, PullConfig};
use aico_models::router::{Activity, Backends};
use aico_models::starter::Embedded;
use aico_models::supervisor::{ManagerConfig, ModelManager, StartWhen, SystemRegistry};
use aico_vault::Vault;
use tokio::sync::mpsc;

use super::rekey::{self, Ask};
use super::{door, engines};

/// What the modules are made of.
pub(super) struct Parts {
    pub(super) home: Home,
    pub(super) bus: Bus,
    pub(super) door: Arc<door::View>,
    pub(super) logging: Logging,
    pub(super) config: Config,
    pub(super) data: PathBuf,
    pub(super) run: PathBuf,
    /// Sums of what models did, which outlive a lock.
    pub(super) activity: Activity,
}

/// So that a fresh machine answers before anything is downloaded.
const STARTER: Embedded = Embedded {
    bytes: include_bytes!("../../../../models/starter/aico-starter.gguf"),
    sha256: include_str!("../../../../models/starter/aico-starter.gguf.sha256"),
};

/// Models that can be downloaded.
const CATALOGUE: &str = include_str!("../../../../models/catalogue.json");

/// For an answer to be stored as interrupted.
const COMPANION_LIMIT: Duration = Duration::from_secs(3);

/// What could not be started (a full disk) is tried again this often.
const START_AGAIN: Duration = Duration::from_secs(2);

/// Starts the modules when the home becomes ready and stops them when it no longer is; ends with
/// the home.
pub(super) async fn watch(parts: Parts, mut asked: mpsc::Receiver<Ask>) {
    let mut stage = parts.home.watch_stage();
    let mut modules: Option<Modules> = None;
    loop {
        let now = *stage.borrow_and_update();
        match (now, modules.take()) {
            (Stage::Ready, None) => {
                modules = Modules::start(&parts).await;
                parts.door.settled(&parts.home).await;
                parts.home.set_serving(true);
            }
            (Stage::Ready, Some(mut running)) => {
                running.complete(&parts).await;
                modules = Some(running);
            }
            (_, running) => {
                parts.home.set_serving(false);
                if let Some(running) = running {
                    running.stop(&parts).await;
                }
            }
        }
        if now == Stage::Stopping {
            return;
        }
        let lacking = now == Stage::Ready && modules.as_ref().is_none_or(|it| it.lacks(&parts));
        tokio::select! {
            changed = stage.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(START_AGAIN), if lacking => {}
            Some(ask) = asked.recv() => {
                let done = match &mut modules {
                    Some(running) => running.rekey_journal(&parts, ask.what).await,
                    None => {
                        let hold = parts.home.hold();
                        match parts.home.vault() {
                            Ok(vault) => {
                                let go_on = rekey::while_open(&parts.home);
                                rekey::journal(hold, vault, ask.what, go_on).await
                            }
                            Err(error) => Err(error.into()),
                        }
                    }
                };
                // Whoever asked may have ended: it is asked for again.
                let _ = ask.done.send(done);
            }
        }
    }
}

struct Modules {
    /// Without them conversations can be read and nothing is answered.
    models: Option<ModelManager>,
    /// Other programs that run models.
    engines: Option<Engines>,
    companion: Companion,
    /// Without it durable messages reach those in the daemon only.
    journal: Option<Journal>,
    /// The stores stay open until these have ended.
    _hold: tokio_util::task::task_tracker::TaskTrackerToken,
}

impl Modules {
    async fn start(parts: &Parts) -> Option<Self> {
        let hold = parts.home.hold();
        attach_log(parts, true);
        tracing::info!("unlocked");
        match parts.home.sweep().await {
            Ok(0) => {}
            Ok(folders) => tracing::warn!(folders, "removed what a cut-off change had left"),
            Err(error) => tracing::warn!(error = crate::exit::chain(&error), "the sweep failed"),
        }
        // Before the companion, which publishes what the last run did not.
        let journal = open_journal(parts, true).await;
        let companion = Companion::start(
            parts.home.clone(),
            parts.bus.join(Identity::new("companion")),
            parts.config.companion.history_messages,
        );
        let mut modules = match companion {
            Ok(companion) => Self {
                models: None,
                engines: None,
                companion,
                journal,
                _hold: hold,
            },
            Err(error) => {
                tracing::error!(
                    error = crate::exit::chain(&error),
                    "the companion can't serve"
                );
                close_journal(parts, journal).await;
                return None;
            }
        };
        modules.start_models(parts, true).await;
        Some(modules)
    }

    /// Whether something has to be tried again.
    fn lacks(&self, parts: &Parts) -> bool {
        self.models.is_none()
            || self.engines.is_none()
            || self.journal.is_none()
            || !parts.logging.is_attached()
    }

    /// Starts what is not there.
    async fn complete(&mut self, parts: &Parts) {
        if !parts.logging.is_attached() {
            attach_log(parts, false);
        }
        if self.journal.is_none() {
            self.journal = open_journal(parts, false).await;
        }
        if self.models.is_none() || self.engines.is_none() {
            self.start_models(parts, false).await;
        }
    }

    async fn start_models(&mut self, parts: &Parts, first: bool) {
        if self.engines.is_none() {
            match Self::engines(parts) {
                Ok(engines) => self.engines = Some(engines),
                Err(error) => told_once(first, &*error, "other engines can't be used yet"),
            }
        }
        let Some(engines) = self.engines.as_ref().filter(|_| self.models.is_none()) else {
            return;
        };
        match Self::models(parts, engines).await {
            Ok(models) => self.models = Some(models),
            Err(error) => told_once(first, &*error, "models can't be served yet"),
        }
    }

    fn engines(parts: &Parts) -> Result<Engines, Box<dyn std::error::Error + Send + Sync>> {
        let mut all = engines::servers(&parts.home, &parts.config.models)?;
        all.extend(engines::ollama(&parts.home, &parts.config, &parts.data)?);
        let folder = parts.data.join("engines");
        let installation = super::ollama::installation(&parts.config, &parts.data)?;
        Ok(Engines::start(&parts.bus, all, folder, installation)?)
    }

    async fn models(
        parts: &Parts,
        engines: &Engines,
    ) -> Result<ModelManager, Box<dyn std::error::Error + Send + Sync>> {
        let settings = &parts.config.models;
        let program = std::env::current_exe()?;
        let gpu = gpu_config(settings, &program)?;
        let config = ManagerConfig {
            starter: Some(STARTER),
            threads: settings.threads,
            context: settings.context,
            sequences: settings.parallel,
            loaded: settings.loaded,
            backends: Backends::new(engines.all()),
            gpu,
            start: match settings.start {
                aico_config::ModelStart::Eager => StartWhen::Now,
                aico_config::ModelStart::Lazy => StartWhen::Asked,
            },
            prompts: prompt_cache(settings, parts.home.vault()?),
            idle_limit: match settings.idle_unload_minutes {
                0 => None,
                minutes => Some(Duration::from_secs(60 * u64::from(minutes))),
            },
            pull: Some(pull_config(settings, parts.data.join("models"))?),
            activity: parts.activity.clone(),
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
        let models = ModelManager::start(&parts.bus, listener, registry, config).await?;
        // Nothing of who is erased or locked stays with the model process.
        models.forget_all(parts.home.erased_persons());
        models.forget_all(parts.home.locked_persons());
        Ok(models)
    }

    /// Closes the journal while its files are written anew. What is published meanwhile is told
    /// that there is no journal, and stays in its outbox.
    async fn rekey_journal(&mut self, parts: &Parts, what: JournalAnew) -> Result<(), PartsError> {
        let hold = parts.home.hold();
        let (vault, go_on) = (parts.home.vault()?, rekey::while_open(&parts.home));
        close_journal(parts, self.journal.take()).await;
        let done = rekey::journal(hold, vault, what, go_on).await;
        self.journal = open_journal(parts, true).await;
        done
    }

    /// The companion first: its answers end while the model still can.
    async fn stop(self, parts: &Parts) {
        self.companion.stop(COMPANION_LIMIT).await;
        if let Some(models) = self.models {
            models.stop().await;
        }
        drop(self.engines);
        close_journal(parts, self.journal).await;
        tracing::info!("locked");
        parts.logging.detach();
    }
}

/// Where prompts are kept, if they are.
fn prompt_cache(settings: &aico_config::Models, vault: Vault) -> Option<PromptCache> {
    let bytes = |mebibytes: u32| u64::from(mebibytes) << 20;
    let all = bytes(settings.prompt_cache_megabytes);
    (all > 0).then(|| {
        let limits = Limits {
            least: Duration::from_millis(u64::from(settings.prompt_cache_least_ms)),
            ..Limits::new(bytes(settings.prompt_cache_person_megabytes), all)
        };
        PromptCache::new(vault, limits)
    })
}

/// How graphics devices are used, by the configuration; engines for them lie beside the program.
pub(crate) fn gpu_config(
    settings: &aico_config::Models,
    program: &Path,
) -> Result<GpuConfig, aico_models::gpu::UnknownKind> {
    Ok(GpuConfig {
        wanted: settings.gpu.parse()?,
        device: settings.gpu_device,
        layers: settings.gpu_layers,
        folder: program.parent().unwrap_or(Path::new("")).to_owned(),
    })
}

/// How models are downloaded, by the configuration.
pub(crate) fn pull_config(
    settings: &aico_config::Models,
    models: PathBuf,
) -> Result<PullConfig, aico_models::pull::url::UrlError> {
    let named = |text: &str| match text {
        "" => Ok(None),
        text => Url::parse(text).map(Some),
    };
    Ok(PullConfig {
        catalogue: (!settings.catalogue.as_os_str().is_empty()).then(|| settings.catalogue.clone()),
        mirror: named(&settings.mirror)?,
        proxy: match settings.proxy.as_str() {
            "environment" => Proxy::Environment,
            other => named(other)?.map_or(Proxy::None, Proxy::At),
        },
        connections: usize::try_from(settings.download_connections).unwrap_or(1),
        ..PullConfig::new(CATALOGUE, models)
    })
}

/// From here on durable messages are kept, if they can be.
async fn open_journal(parts: &Parts, first: bool) -> Option<Journal> {
    let vault = parts.home.vault().ok()?;
    let settings = &parts.config.bus;
    let retention = Retention::new(settings.journal_days, settings.journal_megabytes);
    // In the home, so that it is put away, put back and removed with the keys that open it.
    let folder = vault.data().join("journal");
    let open = move || Journal::open(Arc::new(vault), &folder, retention);
    match tokio::task::spawn_blocking(open).await.ok()? {
        Ok(journal) => {
            parts.bus.attach_journal(&journal);
            Some(journal)
        }
        Err(error) => {
            told_once(first, &error, "durable messages are not kept yet");
            None
        }
    }
}

/// Writes what waits and closes the files; nobody follows any more.
async fn close_journal(parts: &Parts, journal: Option<Journal>) {
    parts.bus.detach_journal();
    let Some(journal) = journal else { return };
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || journal.close()).await {
        let error = crate::exit::chain(&error);
        tracing::warn!(error, "the bus's journal was not closed well");
    }
}

/// From here on the log has a file, if it can.
fn attach_log(parts: &Parts, first: bool) {
    // Without a vault it was locked again meanwhile, which the next change of the stage tells.
    let Ok(vault) = parts.home.vault() else {
        return;
    };
    let folder = parts.data.join("logs");
    if let Err(error) = parts.logging.attach(&folder, vault, &parts.config.logging) {
        told_once(first, &error, "the log has no file yet");
    }
}

/// What is tried again every two seconds is told the first time.
fn told_once(first: bool, error: &dyn std::error::Error, what: &str) {
    let error = crate::exit::chain(error);
    if first {
        tracing::error!(error, what, "a part of AICO can't start; trying again");
    } else {
        tracing::debug!(error, what, "a part of AICO still can't start");
    }
}
