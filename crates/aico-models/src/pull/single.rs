//! Getting one file that is no model: an archive of a program, by the same rules.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::catalogue::{Entry, Hash, Purpose};
use super::error::PullError;
use super::job::Job;
use super::meter::{Meter, Phase};
use super::url::Url;
use super::{PullConfig, partial};

/// How often it is told how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// A file and what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What its parts are called while it comes: small letters, digits, `.` and `-`.
    pub name: String,
    /// Where it is.
    pub source: Url,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Hash,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What is done: `checking`, `downloading`, `waiting`, `verifying`.
    pub step: &'static str,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// Bytes that came in a second; 0: not known.
    pub rate: u64,
    /// While waiting: why.
    pub problem: Option<String>,
}

impl Wanted {
    /// Bytes of it that lie in `folder` from another time, unproven.
    #[must_use]
    pub fn kept(&self, folder: &Path) -> u64 {
        partial::listed_bytes(folder, &self.entry())
    }

    /// Removes what lies in `folder` of it. Blocks.
    ///
    /// # Errors
    /// [`PullError::Disk`].
    pub fn forget(&self, folder: &Path) -> Result<(), PullError> {
        partial::remove(folder, &self.name)
    }

    fn entry(&self) -> Entry {
        Entry {
            name: self.name.clone(),
            title: String::new(),
            summary: String::new(),
            purpose: Purpose::Chat,
            architecture: String::new(),
            parameters: 0,
            quantization: String::new(),
            context_length: 0,
            bytes_per_token: 0,
            license: String::new(),
            license_url: String::new(),
            sources: vec![self.source.clone()],
            size: self.size,
            sha256: self.sha256,
            parts: None,
            recommend: false,
            package: None,
        }
    }

    /// Downloads it into `target`; parts lie in `folder` until it is whole, and are gone on with
    /// the next time. Its hash is right when this says so.
    ///
    /// # Errors
    /// [`PullError`].
    pub async fn fetch(
        &self,
        config: &PullConfig,
        folder: PathBuf,
        target: PathBuf,
        stop: CancellationToken,
        mut tell: impl FnMut(Fetched),
    ) -> Result<(), PullError> {
        let meter = Arc::new(Meter::new(self.size));
        let job = Job {
            entry: self.entry(),
            heads: None,
            fetch: true,
            folder,
            target,
            resolver: Arc::clone(&config.resolver),
            tls: Arc::default(),
            mirror: config.mirror.clone(),
            proxy: config.proxy.clone(),
            limits: config.limits.clone(),
            workers: config.connections,
            fresh: true,
            meter: Arc::clone(&meter),
            stop,
        };
        let running = job.run();
        tokio::pin!(running);
        loop {
            tokio::select! {
                done = &mut running => return done,
                () = tokio::time::sleep(LOOK) => tell(read(&meter)),
            }
        }
    }
}

fn read(meter: &Meter) -> Fetched {
    let reading = meter.read();
    let (step, problem) = match reading.phase {
        Phase::Queued | Phase::Checking => ("checking", None),
        Phase::Running => ("downloading", None),
        Phase::Waiting(_, fault) => ("waiting", Some(fault.title)),
        Phase::Verifying | Phase::Done => ("verifying", None),
        Phase::Failed(fault) => ("failed", Some(fault.title)),
    };
    Fetched {
        step,
        done: reading.done,
        total: reading.total,
        rate: reading.rate,
        problem,
    }
}
