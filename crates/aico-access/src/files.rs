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
    /// The key of the file with this id.
    ///
    /// # Errors
    /// While locked; [`HomeError::PersonLocked`] for a sealed person who has not signed in.
    pub async fn file_key(
        &self,
        person: PersonId,
        file: [u8; 16],
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
            Ok(OwnFileKey {
                key: keys.derive_with(Purpose::EncryptedFile, &file),
                epoch: keys.key_epoch(),
            })
        })
        .await
    }
}
