//! The steps of a change of keys, one by one. Each can be done twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aico_contracts::ids::PersonId;
use aico_store::Progress;
use aico_vault::{Owner, Password, PersonKeyError, Purpose};
use rusqlite::OptionalExtension as _;

use super::pending::Due;
use super::{Step, fault};
use crate::backup;
use crate::home::{Open, SIGNING_KEY};
use crate::modules::BROKER_KEY;
use crate::token::{self, Tokens};
use crate::{Home, HomeError, Role};

impl Home {
    pub(super) async fn step(
        &self,
        open: &Arc<Open>,
        step: &Step,
        master: Option<&Password>,
    ) -> Result<(), HomeError> {
        let progress = Progress::default();
        *self.inner.rotation.progress.lock() = Some(progress.clone());
        match step {
            // Done before anybody was answered.
            Step::Header(_) => Ok(()),
            Step::Registry => {
                self.on_vault(open, |vault| {
                    vault.settle_header()?;
                    fault("settled");
                    vault
                        .rekey_registry()
                        .map_err(aico_vault::VaultError::from)?;
                    Ok(())
                })
                .await
            }
            Step::Keyrings => {
                let persons = self.persons().await?;
                self.on_vault(open, move |vault| {
                    for person in persons {
                        match vault.rewrap_person(*person.id.as_bytes()) {
                            Ok(_) | Err(PersonKeyError::Absent { .. }) => fault("keyring"),
                            Err(error) => return Err(HomeError::Keyring(error)),
                        }
                    }
                    Ok(())
                })
                .await
            }
            Step::System(next) => self.rekey_system(open, *next, progress).await,
            Step::SealedKeys => self.seal_anew(open).await,
            Step::SigningKey => self.new_signing_key(open).await,
            Step::BusKey => self.new_bus_key(open).await,
            Step::PersonKey(person, epoch) => {
                self.person_key_step(open, *person, *epoch, master).await
            }
            Step::PersonStore(person, next) => {
                match self.rekey_person(*person, *next, progress).await {
                    // Sealed and not signed in: where their key is put off, so is this.
                    Err(HomeError::PersonLocked) if *next => {
                        self.put_off(open, *person, Due::Database).await
                    }
                    // Or gone meanwhile.
                    Err(HomeError::PersonLocked | HomeError::NotFound) => Ok(()),
                    other => other,
                }
            }
            Step::Working(person) => {
                self.forget_working(open, *person).await;
                Ok(())
            }
            Step::Logs => match self.parts() {
                Some(parts) => parts.logs().await.map_err(HomeError::Parts),
                None => Ok(()),
            },
            Step::Journal(all) => match self.parts() {
                Some(parts) => parts.journal(*all).await.map_err(HomeError::Parts),
                None => Ok(()),
            },
            Step::Finish => {
                self.on_vault(open, |vault| {
                    // Persons who were added or unsealed meanwhile are under the present root key.
                    Ok(vault.finish_rotation()?)
                })
                .await
            }
        }
    }

    async fn person_key_step(
        &self,
        open: &Arc<Open>,
        person: PersonId,
        epoch: u32,
        master: Option<&Password>,
    ) -> Result<(), HomeError> {
        let about = match self.known(open, person).await {
            Ok(about) => about,
            Err(HomeError::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        // The owner's own password is the master password; of others nobody has theirs.
        let own = match about.role {
            Role::Owner => master.map(Password::duplicate),
            Role::Member => None,
        };
        let vault = open.vault.clone();
        let done = self
            .with_kdf(move || {
                let id = *person.as_bytes();
                if vault.key_epoch_of(id).map_err(HomeError::Keyring)? < epoch {
                    if vault.is_sealed(id).map_err(HomeError::Keyring)? {
                        return Ok(false);
                    }
                    vault
                        .rotate_person(id, own.as_ref())
                        .map_err(HomeError::Keyring)?;
                }
                // Cut off after the change of the key, it is left to do.
                vault.drop_prompt_cache(id);
                Ok(true)
            })
            .await?;
        if !done {
            return self.put_off(open, person, Due::Key).await;
        }
        // Also when it was done before: what was opened in between is under either key.
        self.forget_working(open, person).await;
        Ok(())
    }

    /// What is sealed in `system.db`, under the present root key.
    async fn seal_anew(&self, open: &Open) -> Result<(), HomeError> {
        let vault = open.vault.clone();
        open.system
            .write(move |tx| {
                for (table, column, purpose, name) in SEALED {
                    let sql = format!("SELECT {column} FROM {table} WHERE one = 1");
                    let sealed: Option<Vec<u8>> =
                        tx.query_row(&sql, [], |row| row.get(0)).optional()?;
                    let Some(sealed) = sealed else { continue };
                    let opened = vault
                        .open_sealed(*purpose, Owner::System, name, &sealed)
                        .map_err(|error| {
                            aico_store::StoreError::Caller(Box::new(HomeError::from(error)))
                        })?;
                    let fresh = vault.seal(*purpose, Owner::System, name, &opened);
                    let sql = format!("UPDATE {table} SET {column} = ?1 WHERE one = 1");
                    tx.execute(&sql, [fresh])?;
                }
                backup::seal_archive_keys_anew(tx, &vault)
            })
            .await?;
        self.seal_secrets_anew(open).await
    }

    /// Another signing key: no token from before counts, and the sessions go with them.
    async fn new_signing_key(&self, open: &Open) -> Result<(), HomeError> {
        let key = token::new_signing_key().map_err(|_| HomeError::Crypto)?;
        let sealed = open
            .vault
            .seal(Purpose::SigningKey, Owner::System, SIGNING_KEY, &key);
        let instance = open
            .system
            .write(move |tx| {
                tx.execute(
                    "UPDATE access_instance SET signing_key = ?1 WHERE one = 1",
                    [sealed],
                )?;
                let sql = "SELECT id FROM access_instance WHERE one = 1";
                Ok(tx.query_row(sql, [], |row| row.get::<_, Vec<u8>>(0))?)
            })
            .await?;
        let instance = uuid::Uuid::from_slice(&instance).map_err(|_| HomeError::Crypto)?;
        *open.tokens.write() = Tokens::new(instance, &key).map_err(|_| HomeError::Crypto)?;
        let everyone = open.sessions.everyone();
        self.end(open, &everyone).await
    }

    /// Another key by which modules know the daemon; they need a new connection file.
    async fn new_bus_key(&self, open: &Open) -> Result<(), HomeError> {
        open.system
            .write(|tx| Ok(tx.execute("DELETE FROM access_broker", []).map(drop)?))
            .await?;
        self.inner.rotation.bus_key.fetch_add(1, Ordering::AcqRel);
        self.inner.modules.send_modify(|changes| *changes += 1);
        Ok(())
    }
}

/// Table, column, purpose and name of what is sealed under the root key in `system.db`.
const SEALED: &[(&str, &str, Purpose, &[u8])] = &[
    (
        "access_instance",
        "signing_key",
        Purpose::SigningKey,
        SIGNING_KEY,
    ),
    ("access_broker", "key", Purpose::BusKey, BROKER_KEY),
];
