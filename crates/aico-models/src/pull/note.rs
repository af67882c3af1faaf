//! What a person asked for, noted in a file beside the download, so that it goes on after the daemon
//! was ended.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::catalogue::Entry;
use crate::disk;
use crate::transformers::package::is_name;

/// What a person asked for, as it is noted.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    version: u32,
    pub(super) sha256: String,
    /// It answers from then on.
    pub(super) use_then: bool,
}

impl Wanted {
    pub(super) fn new(entry: &Entry, use_then: bool) -> Self {
        Self {
            version: 1,
            sha256: hex::encode(entry.sha256),
            use_then,
        }
    }

    /// Blocks.
    pub(super) fn write(&self, path: &Path) -> std::io::Result<()> {
        disk::write_whole(path, &serde_json::to_vec(self)?)
    }
}

/// Where the note of the download of this name is.
pub(super) fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.wanted"))
}

/// The notes in the folder, oldest first, at most so many. Blocks.
pub(super) fn all(folder: &Path, most: usize) -> Vec<(String, Wanted)> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".wanted")) else {
            continue;
        };
        let about = entry.metadata().ok().filter(|about| about.len() < 4096);
        let Some(time) = about.and_then(|about| about.modified().ok()) else {
            continue;
        };
        let read = std::fs::read(entry.path()).unwrap_or_default();
        match serde_json::from_slice::<Wanted>(&read) {
            Ok(wanted) if wanted.version == 1 && is_name(name) => {
                found.push((time, name.to_owned(), wanted));
            }
            _ => tracing::warn!("A note of a download makes no sense and is passed over."),
        }
    }
    found.sort_by_key(|(time, ..)| *time);
    found.truncate(most);
    let found = found.into_iter();
    found.map(|(_, name, wanted)| (name, wanted)).collect()
}
