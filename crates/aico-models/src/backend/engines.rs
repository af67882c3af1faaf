//! The task that tells which other programs run models for us, and tries one when asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aico_bus::{Bus, BusError, Identity, Requests};
use aico_contracts::topics;
use aico_contracts::v1::engine::State;
use aico_contracts::v1::{self, Fault};
use tokio::task::JoinHandle;

use super::installing::{InstallConfig, Installing};
use super::jobs::Jobs;
use super::{Backend, Guarded, Reach};
use crate::supervisor::MANAGER;

/// Most models that are named of one engine.
const MODELS: usize = 200;

/// Why it could not start.
#[derive(Debug, thiserror::Error)]
#[error("the topics of engines can't be served")]
pub struct EnginesError(#[from] BusError);

/// Serves `models.engines`, `models.check-engine`, what is done with their models, and their
/// installation until it is dropped.
pub struct Engines {
    all: Arc<[Arc<Guarded>]>,
    tasks: [JoinHandle<()>; 3],
}

impl Engines {
    /// Joins the bus and begins to serve; talks to none of them, unless a download goes on that
    /// `folder` holds the note of.
    ///
    /// # Errors
    /// When the topics are served already.
    pub fn start(
        bus: &Bus,
        all: Vec<Arc<Guarded>>,
        folder: PathBuf,
        installation: InstallConfig,
    ) -> Result<Self, EnginesError> {
        let client = bus.join(Identity::new(MANAGER));
        let list = client.serve(topics::MODELS_ENGINES, 16)?;
        let check = client.serve(topics::MODELS_CHECK_ENGINE, 4)?;
        let all: Arc<[Arc<Guarded>]> = all.into();
        let engines = Arc::clone(&all);
        let jobs = Jobs::new(bus, Arc::clone(&all), folder)?;
        let installing = Installing::new(bus, &all, installation)?;
        let telling = tokio::spawn(async move {
            // Keeps the identity on the bus.
            let _client = client;
            serve(engines, list, check).await;
        });
        Ok(Self {
            all,
            tasks: [
                telling,
                tokio::spawn(jobs.run()),
                tokio::spawn(installing.run()),
            ],
        })
    }

    /// All of them, for who asks models.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<dyn Backend>> {
        let all = self.all.iter().map(Arc::clone);
        all.map(|one| one as Arc<dyn Backend>).collect()
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn serve(all: Arc<[Arc<Guarded>]>, mut list: Requests, mut check: Requests) {
    loop {
        tokio::select! {
            Some(request) = list.recv() => {
                let items = all.iter().map(|one| told(one)).collect();
                request.reply(v1::EngineList { items });
            }
            Some(request) = check.recv() => {
                let name = match request.decode::<v1::CheckEngine>() {
                    Ok(asked) => asked.name,
                    Err(fault) => {
                        request.fault(fault);
                        continue;
                    }
                };
                match all.iter().find(|one| one.name() == name) {
                    None => request.fault(
                        Fault::not_found("There is no engine of this name")
                            .with_what_to_do("See which there are: aico engine list."),
                    ),
                    Some(one) => {
                        let one = Arc::clone(one);
                        // Beside the others: it may take its time.
                        tokio::spawn(async move {
                            let offered = one.models().await.unwrap_or_default();
                            let names = offered.into_iter().map(|model| model.name);
                            let models = names.take(MODELS).collect();
                            request.reply(v1::Engine { models, ..told(&one) });
                        });
                    }
                }
            }
            else => return,
        }
    }
}

fn told(one: &Guarded) -> v1::Engine {
    let about = one.about();
    let seen = one.seen();
    let (state, fault) = match seen.as_ref().map(|seen| &seen.outcome) {
        None => (State::Unspecified, None),
        Some(Ok(())) => (State::Ready, None),
        Some(Err(error)) if !error.is_of_the_program() => (State::Ready, None),
        Some(Err(error)) => (State::Failed, Some(error.to_fault(one.name()))),
    };
    v1::Engine {
        name: one.name().to_owned(),
        kind: about.kind.to_owned(),
        address: about.address,
        network: one.reach() == Reach::Network,
        version: about.version,
        state: state.into(),
        fault,
        seen_unix_ms: seen.map(|seen| unix_ms(seen.at)).unwrap_or_default(),
        models: Vec::new(),
    }
}

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
