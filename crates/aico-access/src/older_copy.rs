//! An older copy of a person's database in the place of the present one: it is read, and not
//! written, until the owner decides which one counts. Whoever puts a file back means something by
//! it, and whatever was said since would be lost by a start that took it silently.

use aico_contracts::ids::PersonId;
use aico_store::{OpenError, Store};
use aico_vault::{PersonKeys, Vault};

use crate::keys::note;
use crate::{Home, HomeError};

/// In the audit's table.
const ACCEPT: &str = "store.accept";

/// Of a store that can only be read.
pub(crate) const DECIDE: &str = "It is an older copy that was put back, so it is read and not \
    written. The owner decides which one counts: see aico store check";

/// What the owner can do about the older copy in the place of this person's data.
pub(crate) fn advice(name: &str, rescue: &str) -> String {
    format!(
        "Keep the older copy, and lose what came after it: aico store accept {name}. Or: {rescue}"
    )
}

/// Whether it did not open because it is older than what was acknowledged.
pub(crate) fn is_older(error: &HomeError) -> bool {
    matches!(error, HomeError::Open(OpenError::Older { .. }))
}

impl Home {
    /// Opens the older copy for reading. It stays as it is, byte for byte.
    pub(crate) async fn open_older_copy(
        &self,
        vault: &Vault,
        person: PersonId,
        keys: PersonKeys,
    ) -> Result<Store, HomeError> {
        self.on_person_file(vault, person, keys, |it| {
            Store::open_read_only(
                &it.path,
                it.key.expose(),
                &it.identity,
                &it.modules,
                it.vault,
            )
        })
        .await
    }

    /// Takes the older copy in the place of this person's data as the present one: from then on it
    /// is written, and the one that it replaced is refused. `false`: theirs is the present one.
    ///
    /// # Errors
    /// An unknown person, a sealed one who has not signed in; damage; whatever is wrong with the
    /// disk. Then it is as it was.
    pub async fn accept_older_copy(&self, person: PersonId) -> Result<bool, HomeError> {
        if !self.store_in_time(person).await?.health().read_only {
            return Ok(false);
        }
        let open = self.opened()?;
        let gate = open.persons.gate(person).await;
        if let Some(store) = open.persons.remove(person) {
            store.close().await?;
        }
        let keys = self
            .on_vault(&open, move |vault| {
                let keys = vault.open_person(*person.as_bytes());
                keys.map_err(HomeError::Keyring)
            })
            .await?;
        self.on_person_file(&open.vault, person, keys, |it| {
            Store::accept_present(
                &it.path,
                it.key.expose(),
                &it.identity,
                &it.modules,
                it.vault,
            )
        })
        .await?;
        open.system.write(|tx| Ok(note(tx, ACCEPT)?)).await?;
        drop(gate);
        self.store_in_time(person).await?;
        Ok(true)
    }
}
