//! Downloading a package: its tokeniser, then its graph, then both into their place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::catalogue::Entry;
use super::error::PullError;
use super::job::{Job, hash_file};
use super::meter::Phase;
use super::partial;
use crate::supervisor::{PACKAGES, ShelfError, place_package};
use crate::transformers::package::{FileFacts, GRAPH, Package};

/// The finished files of a download, before they are a package.
pub(super) fn files(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (
        folder.join(format!("{name}.onnx")),
        folder.join(format!("{name}.tokenizer.json")),
    )
}

/// Whether the package of this entry is there.
pub(super) fn is_here(models: &Path, entry: &Entry) -> bool {
    let Some(package) = &entry.package else {
        return false;
    };
    let folder = models.join(PACKAGES).join(&entry.name);
    let whole = |(name, facts): (&String, &FileFacts)| {
        let file = std::fs::metadata(folder.join(name));
        file.is_ok_and(|file| file.is_file() && file.len() == facts.size)
    };
    let found = Package::read(&folder);
    found.is_ok_and(|found| found.files == package.about.files && found.files.iter().all(whole))
}

/// Whether it is there and its files are what they should be, which reads them. Blocks.
///
/// # Errors
/// Where a file can't be read: that is not to say that it is another one.
fn is_whole(models: &Path, job: &Job) -> Result<bool, PullError> {
    let Some(package) = job
        .entry
        .package
        .as_ref()
        .filter(|_| is_here(models, &job.entry))
    else {
        return Ok(false);
    };
    let folder = models.join(PACKAGES).join(&job.entry.name);
    for (name, facts) in &package.about.files {
        let hash = hash_file(&folder.join(name), &job.meter, &job.stop)?;
        if !hex::encode(hash).eq_ignore_ascii_case(&facts.sha256) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs the download; `job` is that of the graph.
pub(super) async fn run(job: Job, models: PathBuf) -> Result<(), PullError> {
    let entry = job.entry.clone();
    let (Some(package), Some(tokenizer)) = (entry.package.clone(), entry.tokenizer()) else {
        return job.run().await;
    };
    job.meter.enter(Phase::Checking);
    let (looked, wanted) = (models.clone(), job.clone());
    let whole = tokio::task::spawn_blocking(move || is_whole(&looked, &wanted)).await;
    // A hash that was stopped says nothing of the file.
    if job.stop.is_cancelled() {
        return Err(PullError::Stopped);
    }
    if whole.map_err(|_| PullError::Broken)?? {
        return Ok(());
    }
    if !job.fetch {
        return Err(job.damaged());
    }
    let (graph_file, tokenizer_file) = files(&job.folder, &entry.name);
    let mut first = job.clone();
    first.entry = tokenizer;
    first.target.clone_from(&tokenizer_file);
    first.run().await?;
    job.meter.next_file(package.size);
    let mut second = job.clone();
    second.target.clone_from(&graph_file);
    second.run().await?;
    if job.stop.is_cancelled() {
        return Err(PullError::Stopped);
    }
    let folder = job.folder.clone();
    let placed = tokio::task::spawn_blocking(move || {
        let target = models.join(PACKAGES);
        let from = |name: &str| match name {
            GRAPH => graph_file.clone(),
            _ => tokenizer_file.clone(),
        };
        let placed = place_package(package.about, &target, &from).map_err(|error| match error {
            ShelfError::Disk { path, source } => PullError::disk(path, source),
            ShelfError::Package { .. } => PullError::NotAModel {
                fault: error.to_fault(),
                kept: None,
            },
        });
        if matches!(placed, Ok(()) | Err(PullError::NotAModel { .. })) {
            remove(&folder, &entry.name)?;
        }
        placed
    });
    placed.await.map_err(|_| PullError::Broken)?
}

/// Removes everything of the download of a package. Blocks.
pub(super) fn remove(folder: &Path, name: &str) -> Result<(), PullError> {
    partial::remove(folder, &format!("{name}.tokenizer"))?;
    let (graph, tokenizer) = files(folder, name);
    for path in [graph, tokenizer] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(PullError::disk(path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What the puller has for packages.
#[derive(Clone, Default)]
pub(crate) struct Packages {
    /// Told when there is another one.
    pub(crate) changed: Arc<tokio::sync::Notify>,
}
