//! The starter model, which is part of the program: put in place, and mended.

use super::ManagerError;
use super::files;
use super::manager::Manager;

impl Manager {
    /// Puts the starter in place and into the registry; it answers until another is chosen.
    pub(super) async fn install_starter(&mut self) -> Result<(), ManagerError> {
        let Some(embedded) = self.parts.config.starter else {
            return Ok(());
        };
        let folder = self.parts.config.models.clone();
        let installed = tokio::task::spawn_blocking(move || {
            embedded
                .install(&folder)
                .map(|(path, hash)| (files::look(&path), hash))
        });
        let (looked, hash) = match installed.await {
            Ok(installed) => installed?,
            Err(_panicked) => return Err(crate::starter::StarterError::Damaged.into()),
        };
        let mut record = looked.map_err(|_| crate::starter::StarterError::Damaged)?;
        let known = self.registry.list().await?;
        let any_active = known.iter().any(|model| model.active);
        record.starter = true;
        record.sha256 = Some(hash);
        match known.into_iter().find(|model| model.starter) {
            Some(old) => {
                record.id = old.id;
                record.active = old.active || !any_active;
                record.pinned = old.pinned;
                // Nothing to write: it was there and is the one that answers or not, as before.
                if record == old {
                    return Ok(());
                }
            }
            None => record.active = !any_active,
        }
        self.registry.put(record).await?;
        Ok(())
    }
}
