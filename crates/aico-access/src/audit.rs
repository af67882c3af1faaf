//! What is noted of what the owner does beside persons and keys.

use crate::{Action, Home, HomeError};

impl Home {
    /// Notes in the audit's table that this was done. It stands without the note too.
    ///
    /// # Errors
    /// When no store is open.
    pub async fn note_done(&self, action: Action) -> Result<(), HomeError> {
        let open = self.opened()?;
        self.noted(&open, action.name()).await;
        Ok(())
    }
}
