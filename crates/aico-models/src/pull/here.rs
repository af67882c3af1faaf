//! What of the catalogue is on this machine, as far as can be told without reading files.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::catalogue::Entry;
use super::package;
use crate::supervisor::files::{self, Presence};
use crate::supervisor::{ModelRecord, PACKAGES};

/// What it is told by.
pub(super) struct Here {
    /// The models of the list.
    pub(super) known: Vec<ModelRecord>,
    /// The folder into which downloads come.
    pub(super) models: PathBuf,
    /// Names of those whose file only looks like the catalogue's.
    pub(super) wrong: BTreeSet<String>,
}

impl Here {
    /// The model of the list that is this one. Blocks.
    pub(super) fn model(&self, entry: &Entry) -> Option<&ModelRecord> {
        let mut known = self.known.iter();
        known.find(|model| {
            model.sha256 == Some(entry.sha256)
                && model.adapter.is_none()
                && !self.wrong.contains(&entry.name)
                && matches!(files::presence(model), Presence::Same | Presence::Touched)
        })
    }

    /// Its file, or the folder of its package: where a download puts it, or else where the model
    /// of the list has it. Blocks.
    pub(super) fn file(&self, entry: &Entry) -> Option<PathBuf> {
        if self.wrong.contains(&entry.name) {
            return None;
        }
        if entry.package.is_some() {
            let folder = self.models.join(PACKAGES).join(&entry.name);
            return package::is_here(&self.models, entry).then_some(folder);
        }
        let file = self.models.join(format!("{}.gguf", entry.name));
        let found = std::fs::symlink_metadata(&file);
        if found.is_ok_and(|found| found.is_file() && found.len() == entry.size) {
            return Some(file);
        }
        self.model(entry).map(|model| model.path.clone())
    }
}
