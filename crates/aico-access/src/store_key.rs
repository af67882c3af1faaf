//! The key of a person's database, given to that person for other programs that read SQLCipher.

use std::path::PathBuf;

use aico_contracts::ids::PersonId;
use aico_vault::{Key, Password};
use jiff::Timestamp;

use crate::home::{PERSON_DB, blocking, person_folder};
use crate::{Home, HomeError, Role, Source, backup, stores};

/// In the audit's table.
const EXPORTED: &str = "self.export-key";

/// What opens a person's database in any program that knows SQLCipher 4. It is no key of anything
/// else, and stays valid until that database is put under another.
pub struct OwnStoreKey {
    /// Where the database lies.
    pub path: PathBuf,
    /// 32 bytes, raw.
    pub key: Key,
}

impl Home {
    /// Hands the key of a person's database to that person, who proves with their own password that
    /// it is they. That it was handed out is noted before it is, where they find it: among the
    /// lines about them in an export.
    ///
    /// # Errors
    /// [`HomeError::WrongPassword`]; [`HomeError::KeysChange`] while it may be changing; whatever
    /// keeps it from being noted.
    pub async fn export_store_key(
        &self,
        person: PersonId,
        own: &Password,
        source: impl Into<Source>,
    ) -> Result<OwnStoreKey, HomeError> {
        let open = self.opened()?;
        let about = self.known(&open, person).await?;
        let source = source.into();
        if about.role == Role::Owner {
            self.prove_master(&open, own, &source).await?;
        } else {
            let check = self.check_member(&open, person, own);
            self.guarded(&about.name.key(), &source, check).await?;
        }
        if self.rotation().running {
            return Err(HomeError::KeysChange);
        }
        let path = person_folder(self.root(), person).join(PERSON_DB);
        let vault = open.vault.clone();
        let file = path.clone();
        let key = blocking(move || {
            let keys = backup::person_keys(&vault, *person.as_bytes())?;
            let (_, key) = stores::person_key(&vault, &keys, &file)?;
            Ok(key)
        })
        .await?;
        open.system
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO access_audit (at_ms, action, person, outcome)
                     VALUES (?1, ?2, ?3, 'done')",
                    rusqlite::params![
                        Timestamp::now().as_millisecond(),
                        EXPORTED,
                        person.as_bytes()
                    ],
                )?;
                Ok(())
            })
            .await?;
        tracing::warn!("the key of a person's database was given out");
        Ok(OwnStoreKey { path, key })
    }
}
