//! The steps of a change of keys, one by one. Each can be done twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aico_contracts::ids::PersonId;
use aico_store::Progress;
use aico_vault::{Owner, Password, PersonKeyError, Purpose, Vault};
use rusqlite::OptionalExtension as _;

use super::pending::Due;
use super::plan::Step;
use super::{JournalAnew, fault};
use crate::backup;
use crate::home::{Open, SIGNING_KEY};
use crate::modules::BROKER_KEY;
use crate::token::{self, Tokens};
use crate::{ErrorKind, Home, HomeError, Role};

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
            Step::Keyrings => self.rewrap_everybody(open).await,
            Step::System(next) => self.rekey_system(open, *next, progress).await,
            Step::SealedKeys => self.seal_anew(open).await,
            Step::SigningKey => self.new_signing_key(open).await,
            Step::BusKey => self.new_bus_key(open).await,
            Step::PersonKey(person, epoch) => {
                self.person_key_step(open, *person, *epoch, master).await
            }
            Step::PersonStore(person, next) => {
                let done = self.rekey_person(*person, *next, progress).await;
                match done.as_ref().err().map(HomeError::kind) {
                    // Sealed and not signed in: where their key is put off, so is this.
                    Some(ErrorKind::PersonLocked) if *next => {
                        self.leave_to_them(open, *person, Due::Database).await
                    }
                    // Or gone meanwhile.
                    Some(ErrorKind::PersonLocked | ErrorKind::NotFound) => Ok(()),
                    _ => {
                        self.unless_damaged(open, *person, Due::Database, done)
                            .await
                    }
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
            Step::LogsAnew => match self.parts() {
                Some(parts) => parts.logs_anew().await.map_err(HomeError::Parts),
                None => Ok(()),
            },
            Step::Journal(false) => self.journal_anew(JournalAnew::Behind).await,
            Step::Journal(true) => self.journal_anew(JournalAnew::Bodies).await,
            Step::JournalAnew => self.journal_anew(JournalAnew::Files).await,
            Step::Bodies => {
                self.leave_bodies(open).await?;
                self.journal_anew(JournalAnew::Bodies).await
            }
            Step::Secrets => self.secrets_under_next_id(open).await,
            Step::Prompts(person) => {
                let person = *person;
                // Of somebody who is gone nothing is begun anew.
                match self.known(open, person).await {
                    Err(HomeError::NotFound) => return Ok(()),
                    known => drop(known?),
                }
                self.on_vault(open, move |vault| {
                    Ok(vault.renew_prompt_cache(*person.as_bytes())?)
                })
                .await
            }
            Step::Finish => {
                // Somebody who was being added as it began has the wrap of before, and no row had
                // told of them.
                self.rewrap_everybody(open).await?;
                self.on_vault(open, |vault| Ok(vault.finish_rotation()?))
                    .await
            }
        }
    }

    pub(super) async fn journal_anew(&self, what: JournalAnew) -> Result<(), HomeError> {
        match self.parts() {
            Some(parts) => parts.journal(what).await.map_err(HomeError::Parts),
            None => Ok(()),
        }
    }

    /// What those persons' messages say whose keys nobody has now is carried over, and changes when
    /// they are signed in.
    async fn leave_bodies(&self, open: &Open) -> Result<(), HomeError> {
        for person in self.persons().await? {
            let can_be_had = move |vault: &Vault| match vault.open_person(*person.id.as_bytes()) {
                Ok(_) | Err(PersonKeyError::Absent { .. }) => Ok(true),
                Err(PersonKeyError::File(error)) => Err(HomeError::Keyring(error.into())),
                Err(_) => Ok(false),
            };
            if !self.on_vault(open, can_be_had).await? {
                self.put_off(open, person.id, Due::Data).await?;
            }
        }
        Ok(())
    }

    /// The wraps under the root key of all persons that there are folders of.
    async fn rewrap_everybody(&self, open: &Open) -> Result<(), HomeError> {
        for person in self.person_folders().await? {
            let work = move |vault: &Vault| match vault.rewrap_person(*person.as_bytes()) {
                Ok(_) | Err(PersonKeyError::Absent { .. }) => {
                    fault("keyring");
                    Ok(())
                }
                Err(error) => Err(HomeError::Keyring(error)),
            };
            let done = self.on_vault(open, work).await;
            self.unless_damaged(open, person, Due::Key, done).await?;
        }
        Ok(())
    }

    /// One damaged person keeps nobody else's keys from being changed, nor the root key from before
    /// from being forgotten: nothing of theirs needs it. A database that is put back opens with
    /// their key of then, which stays in their keyring; a keyring that is put back opens with their
    /// own password, at which it is wrapped anew.
    async fn unless_damaged(
        &self,
        open: &Open,
        person: PersonId,
        due: Due,
        done: Result<(), HomeError>,
    ) -> Result<(), HomeError> {
        match done {
            // An older copy that was put back, and is only read, is among them.
            Err(error) if error.kind() == ErrorKind::Damaged => {
                let why = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(
                    %error,
                    why,
                    "a damaged person's keys are changed when their data is put back"
                );
                self.put_off(open, person, due).await
            }
            other => other,
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
        let changed = self
            .with_kdf(move || {
                let id = *person.as_bytes();
                if vault.key_epoch_of(id).map_err(HomeError::Keyring)? < epoch {
                    if vault.is_sealed(id).map_err(HomeError::Keyring)? {
                        return Ok(false);
                    }
                    let done = match vault.rotate_person(id, own.as_ref()) {
                        // A keyring that was put back is from before the master password was
                        // changed, or lags behind it: the root key opens it all the same.
                        Err(PersonKeyError::WrongPassword) => vault.rotate_person(id, None),
                        done => done,
                    };
                    done.map_err(HomeError::Keyring)?;
                }
                // Cut off after the change of the key, it is left to do.
                vault.drop_prompt_cache(id);
                Ok(true)
            })
            .await;
        match changed {
            Ok(true) => {}
            Ok(false) => return self.leave_to_them(open, person, Due::Key).await,
            Err(error) => {
                return self
                    .unless_damaged(open, person, Due::Key, Err(error))
                    .await;
            }
        }
        self.is_changed(open, person).await?;
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
