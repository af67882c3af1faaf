//! Takes back a set-up that was done and could not be opened, for want of space say.

use std::fs;
use std::path::Path;

use crate::{Home, Stage, folder};

impl Home {
    /// Puts a home away again that nobody has been told the phrase of. Where that fails too, the
    /// home stays, and opens with its password.
    pub(crate) async fn undo_set_up(&self, staging: &Path) {
        if let Err(error) = self.close_stores().await {
            tracing::warn!(%error, "a store of a set-up that is taken back was not closed well");
        }
        let data = &self.inner.config.data;
        // Under its name of before the next start removes it, whatever comes between.
        let away = fs::rename(self.root(), staging).and_then(|()| folder::sync_folder(data));
        if let Err(error) = away {
            tracing::error!(%error, "a set-up could not be taken back");
            return;
        }
        if let Err(error) = fs::remove_dir_all(staging) {
            tracing::warn!(%error, "what a set-up left is removed at the next start");
        }
        self.set_stage(Stage::New);
    }
}
