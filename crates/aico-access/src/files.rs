//! Keys of the encrypted files that a person keeps anywhere (`aico file`).

use aico_contracts::ids::PersonId;
use aico_vault::{Key, PersonKeyError, Purpose};

use crate::home::blocking;
use crate::{Home, HomeError};

/// What opens one encrypted file of one person's, and no other.
pub struct OwnFileKey {
    /// Derived from the person's key for the file's id.
    pub key: Key,
    /// Epoch of the person's key.
    pub epoch: u32,
}

impl Home {
    /// The key of the file with this id: the present one, or that of the epoch in its header.
    ///
    /// # Errors
    /// [`HomeError::NotFound`] for an epoch that never was; [`HomeError::PersonLocked`] for a sealed person who has not signed in.
    pub async fn file_key(
        &self,
        person: PersonId,
        file: [u8; 16],
        epoch: Option<u32>,
    ) -> Result<OwnFileKey, HomeError> {
        let open = self.opened()?;
        self.used();
        self.known(&open, person).await?;
        blocking(move || {
            let keys = open
                .vault
                .open_person(*person.as_bytes())
                .map_err(|error| match error {
                    PersonKeyError::Sealed { .. } => HomeError::PersonLocked,
                    other => HomeError::Keyring(other),
                })?;
            let epoch = epoch.unwrap_or(keys.key_epoch());
            let key = keys
                .derive_of(epoch, Purpose::EncryptedFile, &file)
                .ok_or(HomeError::NotFound)?;
            Ok(OwnFileKey { key, epoch })
        })
        .await
    }
}
