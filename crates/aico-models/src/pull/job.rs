//! One download from its beginning to a model that can be used.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::catalogue::{Entry, Hash};
use super::error::PullError;
use super::fetch::Source;
use super::meter::{Meter, Phase};
use super::net::{Limits, Net, Proxy, Resolve, Tls};
use super::partial::{self, Partial};
use super::space;
use super::url::Url;
use crate::supervisor::heads::Heads;

/// Longest wait that a server may ask for.
const ASKED_WAIT: Duration = Duration::from_secs(300);
/// Times that a file may change on its server while it comes.
const CHANGES: u32 = 3;
/// Bytes that stay free on the disk, for everything else that AICO writes.
const SPARE: u64 = 64 << 20;

/// What a download is made of.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) entry: Entry,
    /// It has to be a model that can be run: what looks whether it is one.
    pub(super) heads: Option<Heads>,
    /// Where unfinished downloads are.
    pub(super) folder: PathBuf,
    /// Where the file is in the end.
    pub(super) target: PathBuf,
    /// A person agreed to the download; otherwise it is only looked whether the file is whole.
    pub(super) fetch: bool,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) tls: Arc<Tls>,
    pub(super) mirror: Option<Url>,
    pub(super) proxy: Proxy,
    pub(super) limits: Limits,
    pub(super) workers: usize,
    /// A person waits for it: what can't even begin is told at once.
    pub(super) fresh: bool,
    pub(super) meter: Arc<Meter>,
    pub(super) stop: CancellationToken,
}

impl Job {
    /// Downloads, proves and puts the file in place.
    pub(super) async fn run(self) -> Result<(), PullError> {
        let stop = self.stop.clone();
        tokio::select! {
            // First, for a hash that was stopped says nothing of the file.
            biased;
            // What is stopped in the middle leaves whole parts behind.
            () = stop.cancelled() => Err(PullError::Stopped),
            done = self.go() => done,
        }
    }

    async fn go(self) -> Result<(), PullError> {
        self.meter.enter(Phase::Checking);
        if self.is_here().await? {
            return Ok(());
        }
        if !self.fetch {
            return Err(self.damaged());
        }
        let partial = self.open().await?;
        let have = partial.bytes();
        self.meter.kept(have);
        self.room(have)?;
        let sources = self.sources()?;
        let mut dead = vec![false; sources.len()];
        let mut changed = 0;
        loop {
            let from = self.fetch(&partial, &sources, &mut dead).await?;
            self.meter.enter(Phase::Verifying);
            if self.hash(&partial).await? == self.entry.sha256 {
                break;
            }
            if partial.unproven_tags().len() > 1 && changed < CHANGES {
                // It came from several versions of the file: now from the newest alone.
                changed += 1;
                tracing::warn!(
                    name = self.entry.name,
                    "The file changed while it was downloaded; older parts are fetched again."
                );
                self.forget(&partial, partial.newest_tag()).await?;
                continue;
            }
            self.forget(&partial, None).await?;
            dead[from] = true;
            tracing::warn!(
                name = self.entry.name,
                host = sources[from].host(),
                "What was downloaded is not the file of the catalogue."
            );
            if dead.iter().all(|dead| *dead) {
                self.remove().await?;
                return Err(PullError::WrongHash(sources[from].host().to_owned()));
            }
        }
        self.finish(partial).await
    }

    /// What was taken for the file is another one.
    pub(super) fn damaged(&self) -> PullError {
        PullError::Damaged {
            path: self.target.clone(),
            name: self.entry.name.clone(),
        }
    }

    /// Where the file is asked for: a mirror in place of every source.
    fn sources(&self) -> Result<Vec<Url>, PullError> {
        let Some(mirror) = &self.mirror else {
            return Ok(self.entry.sources.clone());
        };
        let mut all: Vec<Url> = Vec::new();
        for source in &self.entry.sources {
            let url = source.below(mirror).map_err(|_| PullError::Answer {
                host: mirror.host().to_owned(),
                why: "the mirror's address and the file's do not fit together",
            })?;
            if !all.contains(&url) {
                all.push(url);
            }
        }
        Ok(all)
    }

    /// Fetches everything that is missing; tells from which source the last of it came.
    async fn fetch(
        &self,
        partial: &Arc<Partial>,
        sources: &[Url],
        dead: &mut [bool],
    ) -> Result<usize, PullError> {
        let mut at = dead.iter().position(|dead| !dead).unwrap_or(0);
        let mut dry = 0;
        loop {
            let (before, whole) = (self.meter.fetched(), partial.bytes());
            let host = sources[at].host();
            self.meter.from(host);
            self.meter.enter(Phase::Running);
            self.meter.have(partial.bytes());
            tracing::info!(
                name = self.entry.name,
                host,
                missing = self.entry.size - partial.bytes(),
                "Downloading a file."
            );
            // Names are resolved anew with each try, and stay as they are during it.
            let net = Net::new(
                Arc::clone(&self.resolver),
                self.mirror.clone(),
                self.proxy.clone(),
                self.limits.clone(),
                Arc::clone(&self.tls),
            );
            let source = Source::new(
                net,
                sources[at].clone(),
                Arc::clone(partial),
                Arc::clone(&self.meter),
            );
            let error = match source.fetch(self.workers).await {
                Ok(()) => return Ok(at),
                Err(error) => error,
            };
            tracing::warn!(%error, name = self.entry.name, "A download does not go on.");
            let slow = matches!(error, PullError::TooSlow(_));
            if partial.bytes() > whole || (self.meter.fetched() > before && !slow) {
                dry = 0;
            } else {
                dry += 1;
            }
            if error.is_the_servers() {
                dead[at] = true;
            } else if !error.passes() {
                return Err(error);
            }
            let next = (1..=sources.len())
                .map(|step| (at + step) % sources.len())
                .find(|one| !dead[*one]);
            let Some(next) = next else {
                return Err(error);
            };
            let around = next <= at;
            at = next;
            if error.is_the_servers() {
                continue;
            }
            let nothing_came = self.fresh && self.meter.fetched() == 0;
            if around && (nothing_came || dry >= self.limits.tries) {
                return Err(error);
            }
            if around {
                self.wait(&error, dry).await;
            }
        }
    }

    async fn wait(&self, error: &PullError, dry: u32) {
        let doubled = self
            .limits
            .wait
            .saturating_mul(1 << dry.saturating_sub(1).min(16))
            .min(self.limits.longest_wait);
        let asked = match error {
            PullError::Server {
                wait: Some(wait), ..
            } => (*wait).min(ASKED_WAIT),
            _ => Duration::ZERO,
        };
        let wait = doubled.max(asked);
        self.meter
            .enter(Phase::Waiting(Instant::now() + wait, error.to_fault()));
        tokio::time::sleep(wait).await;
    }

    /// Whether the whole file is in its place already, from another time.
    async fn is_here(&self) -> Result<bool, PullError> {
        let (target, size, sha256) = (self.target.clone(), self.entry.size, self.entry.sha256);
        let (meter, stop) = (Arc::clone(&self.meter), self.stop.clone());
        let found = tokio::task::spawn_blocking(move || {
            let there = std::fs::symlink_metadata(&target)
                .is_ok_and(|found| found.is_file() && found.len() == size);
            Ok(there && hash_file(&target, &meter, &stop)? == sha256)
        });
        found.await.map_err(|_| PullError::Broken)?
    }

    /// Opens what there is and keeps what is whole of it.
    async fn open(&self) -> Result<Arc<Partial>, PullError> {
        let (folder, entry) = (self.folder.clone(), self.entry.clone());
        let (meter, stop) = (Arc::clone(&self.meter), self.stop.clone());
        let opened = tokio::task::spawn_blocking(move || {
            crate::starter::private_folder(&folder)
                .map_err(|error| PullError::disk(&folder, error))?;
            let partial = Partial::open(&folder, &entry)?;
            partial.verify(|bytes| {
                meter.check(bytes);
                !stop.is_cancelled()
            })?;
            Ok(partial)
        });
        opened.await.map_err(|_| PullError::Broken)?
    }

    fn room(&self, have: u64) -> Result<(), PullError> {
        let needed = self.entry.size.saturating_sub(have);
        match space::free(&self.folder) {
            Some(free) if free < needed.saturating_add(SPARE.min(needed)) => Err(PullError::Full {
                needed,
                free: Some(free),
            }),
            _ => Ok(()),
        }
    }

    async fn hash(&self, partial: &Arc<Partial>) -> Result<Hash, PullError> {
        let (partial, meter) = (Arc::clone(partial), Arc::clone(&self.meter));
        let stop = self.stop.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            partial.hash(|bytes| {
                meter.check(bytes);
                !stop.is_cancelled()
            })
        });
        hashed.await.map_err(|_| PullError::Broken)?
    }

    /// Keeps only what the catalogue vouches for, and what came of this version.
    async fn forget(&self, partial: &Arc<Partial>, but: Option<u64>) -> Result<(), PullError> {
        let partial = Arc::clone(partial);
        let done =
            tokio::task::spawn_blocking(move || partial.keep_if(|record| Some(record.tag) == but));
        done.await.map_err(|_| PullError::Broken)?
    }

    async fn remove(&self) -> Result<(), PullError> {
        let (folder, name) = (self.folder.clone(), self.entry.name.clone());
        let done = tokio::task::spawn_blocking(move || partial::remove(&folder, &name));
        done.await.map_err(|_| PullError::Broken)?
    }

    /// The bytes are those of the catalogue. Whether they are a model is another question.
    async fn finish(&self, partial: Arc<Partial>) -> Result<(), PullError> {
        // A program is none, and a file of a package is looked at by the process that will run it,
        // and by no other.
        if let (Some(heads), None) = (&self.heads, &self.entry.package)
            && let Err(error) = heads.look(partial.path()).await
        {
            let error = PullError::look(error, None);
            if matches!(error, PullError::NotAModel { .. }) {
                drop(partial);
                self.remove().await?;
            }
            return Err(error);
        }
        let target = self.target.clone();
        let done = tokio::task::spawn_blocking(move || partial.finish(&target));
        done.await.map_err(|_| PullError::Broken)?
    }
}

/// Blocks, as long as reading takes. Where that failed or was stopped, nothing is known of what the
/// file holds.
pub(super) fn hash_file(
    path: &Path,
    meter: &Meter,
    stop: &CancellationToken,
) -> Result<Hash, PullError> {
    use std::io::Read as _;

    use sha2::Digest as _;

    let failed = |error| PullError::disk(path, error);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut sum = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok(sum.finalize().into());
        }
        if stop.is_cancelled() {
            return Err(PullError::Stopped);
        }
        sum.update(&buffer[..read]);
        meter.check(read as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_not_be_read_to_its_end_has_no_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let (meter, stop) = (Meter::new(3), CancellationToken::new());
        // The one can't be opened, the other not be read.
        for path in [path.as_path(), folder.path()] {
            let none = hash_file(path, &meter, &stop);
            assert!(matches!(none, Err(PullError::Disk { .. })), "{none:?}");
        }
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(
            hex::encode(hash_file(&path, &meter, &stop).unwrap()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        stop.cancel();
        let none = hash_file(&path, &meter, &stop);
        assert!(matches!(none, Err(PullError::Stopped)), "{none:?}");
    }
}
