//! The starter model, which is part of the program: put in place, and mended.

use super::files::{AddError, Presence};
use super::manager::{Manager, presence};
use super::{ManagerError, heads};
use crate::starter::StarterError;

impl Manager {
    /// Puts the starter in place and into the registry; it answers until another is chosen.
    pub(super) async fn install_starter(&mut self) -> Result<(), ManagerError> {
        let Some(embedded) = self.parts.config.starter else {
            return Ok(());
        };
        let folder = self.parts.config.models.clone();
        let installed = tokio::task::spawn_blocking(move || embedded.install(&folder));
        let (path, hash) = match installed.await {
            Ok(installed) => installed?,
            Err(_panicked) => return Err(StarterError::Damaged.into()),
        };
        let known = self.registry.list().await?;
        let any_active = known.iter().any(|model| model.active);
        let old = known.into_iter().find(|model| model.starter);
        if let Some(old) = &old
            && (&old.path, old.sha256) == (&path, Some(hash))
            && (old.active || any_active)
            && presence(old).await == Presence::Same
        {
            // Nothing to read or to write: it was there and is the one that answers or not, as
            // before.
            return Ok(());
        }
        let mut record = match heads::of_program(&path, embedded.bytes).await {
            Ok(record) => record,
            // It was there a moment ago: the next start tries again, and all else goes on.
            Err(AddError::Missing { source, .. }) => {
                tracing::warn!(error = %source, "The starter model can't be opened.");
                return Ok(());
            }
            Err(_) => return Err(StarterError::Damaged.into()),
        };
        record.starter = true;
        record.sha256 = Some(hash);
        record.active = !any_active;
        if let Some(old) = old {
            record.id = old.id;
            record.active |= old.active;
            record.pinned = old.pinned;
        }
        self.registry.put(record).await?;
        Ok(())
    }
}
