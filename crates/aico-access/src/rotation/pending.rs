//! What a change of keys leaves to sealed persons: their key is under nothing that anybody else
//! has. It waits in `system.db` for their next sign-in, which has their password in hand, and keeps
//! nothing else from ending: nothing of theirs is under the root key before.
//!
//! A new key makes a new recovery phrase of theirs, since nobody has the one before. So it is made
//! only where it is shown, and a line stays in the table until there is somebody to be told: what
//! is cut off in between makes another key and another phrase the next time.
//!
//! What is left to a person whose data is damaged waits there too. They need not be sealed: then it
//! is done without them, when their data opens again.

use aico_contracts::ids::PersonId;
use aico_store::Progress;
use aico_vault::{Password, PersonKeys, RecoveryPhrase};
use rusqlite::OptionalExtension as _;

use super::{JournalAnew, fault};
use crate::home::Open;
use crate::{Home, HomeError, Stage};

/// What waits for one person.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// A new key of theirs, and what is under it.
    Key,
    /// Their database's own next key.
    Database,
    /// Their data, as it is written anew when their key was changed.
    Data,
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// A new key is due. Neither this nor the next: their data is to follow the key that they have.
    key: bool,
    /// Their database's own next key is due.
    database: bool,
}

impl Home {
    /// Whose keys are yet to be changed: those of sealed persons with them, when they sign in next;
    /// those of damaged ones when their data is put back.
    ///
    /// # Errors
    /// While locked.
    pub async fn pending_key_changes(&self) -> Result<Vec<PersonId>, HomeError> {
        let open = self.opened()?;
        let waiting = open.system.read(|db| {
            let sql = "SELECT person FROM rotation_pending
                WHERE (key = 1 OR database = 1) AND person IN (SELECT id FROM access_person)
                ORDER BY person";
            let mut query = db.prepare(sql)?;
            let rows = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        let waiting = waiting.await?.into_iter();
        waiting
            .map(|id| PersonId::from_slice(&id).map_err(|_| HomeError::NotFound))
            .collect()
    }

    /// A sealed person's waits for them.
    pub(super) async fn leave_to_them(
        &self,
        open: &Open,
        person: PersonId,
        due: Due,
    ) -> Result<(), HomeError> {
        self.put_off(open, person, due).await?;
        tracing::info!("a sealed person's keys change when they sign in next");
        Ok(())
    }

    /// Notes what is to be done later, of somebody who belongs to the home.
    pub(super) async fn put_off(
        &self,
        open: &Open,
        person: PersonId,
        due: Due,
    ) -> Result<(), HomeError> {
        let (key, database) = match due {
            Due::Key => (true, false),
            Due::Database => (false, true),
            Due::Data => (false, false),
        };
        open.system
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO rotation_pending (person, key, database)
                     SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM access_person WHERE id = ?1)
                     ON CONFLICT (person) DO UPDATE SET key = max(key, excluded.key),
                         database = max(database, excluded.database)",
                    rusqlite::params![person.as_bytes(), key, database],
                )?;
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// Their key is another, and the database's next one comes with it.
    pub(super) async fn is_changed(&self, open: &Open, person: PersonId) -> Result<(), HomeError> {
        open.system
            .write(move |tx| {
                let sql = "UPDATE rotation_pending SET key = 0, database = 0 WHERE person = ?1";
                Ok(tx.execute(sql, [person.as_bytes()]).map(drop)?)
            })
            .await?;
        Ok(())
    }

    async fn line_of(&self, open: &Open, person: PersonId) -> Result<Option<Line>, HomeError> {
        let line = open.system.read(move |db| {
            let sql = "SELECT key, database FROM rotation_pending WHERE person = ?1";
            let line = db.query_row(sql, [person.as_bytes()], |row| {
                Ok(Line {
                    key: row.get(0)?,
                    database: row.get(1)?,
                })
            });
            Ok(line.optional()?)
        });
        Ok(line.await?)
    }

    /// Whether their key is still to be changed. What can't be known now, the next sign-in tells.
    pub(crate) async fn waits_for(&self, open: &Open, person: PersonId) -> bool {
        let line = self.line_of(open, person).await;
        line.is_ok_and(|line| line.is_some_and(|line| line.key))
    }

    /// They proved who they are with their own password, and somebody sees what is answered: what
    /// waited for it is done. Answers their keys, and the phrase that goes with a new one.
    ///
    /// What can't be done now goes on waiting, and keeps nobody from signing in.
    pub(crate) async fn change_what_waits(
        &self,
        open: &Open,
        person: PersonId,
        keys: PersonKeys,
        own: &Password,
    ) -> (PersonKeys, Option<RecoveryPhrase>) {
        // A second sign-in at the same time would make the phrase of the first one void.
        let _one = self.inner.change.lock().await;
        match self.change_now(open, person, own).await {
            Ok(Some((keys, phrase))) => (keys, phrase),
            Ok(None) => (keys, None),
            Err(error) => {
                tracing::warn!(%error, "a sealed person's keys are still to be changed");
                (keys, None)
            }
        }
    }

    /// They proved who they are with their own phrase, which is in hand: what waited for it is done,
    /// and the phrase stays theirs.
    pub(crate) async fn change_recovered(
        &self,
        open: &Open,
        person: PersonId,
        keys: PersonKeys,
        own: &Password,
        phrase: &RecoveryPhrase,
    ) -> PersonKeys {
        let _one = self.inner.change.lock().await;
        let changed = async {
            let line = self.line_of(open, person).await?;
            if line.is_none_or(|line| !line.key) {
                return Ok(None);
            }
            let (vault, own, phrase) = (open.vault.clone(), own.duplicate(), phrase.duplicate());
            let keys = self.with_kdf(move || {
                let keys = vault.rotate_recovered(*person.as_bytes(), &own, &phrase);
                keys.map_err(HomeError::Keyring)
            });
            let keys = keys.await?;
            self.changed(open, person).await;
            Ok::<_, HomeError>(Some(keys))
        };
        match changed.await {
            Ok(Some(new)) => new,
            Ok(None) => keys,
            Err(error) => {
                tracing::warn!(%error, "a sealed person's keys are still to be changed");
                keys
            }
        }
    }

    async fn change_now(
        &self,
        open: &Open,
        person: PersonId,
        own: &Password,
    ) -> Result<Option<(PersonKeys, Option<RecoveryPhrase>)>, HomeError> {
        let line = self.line_of(open, person).await?;
        if line.is_none_or(|line| !line.key) {
            return Ok(None);
        }
        let (vault, own) = (open.vault.clone(), own.duplicate());
        let changed = self
            .with_kdf(move || {
                let changed = vault.rotate_person(*person.as_bytes(), Some(&own));
                let changed = changed.map_err(HomeError::Keyring)?;
                vault.drop_prompt_cache(*person.as_bytes());
                Ok(changed)
            })
            .await?;
        self.changed(open, person).await;
        Ok(Some(changed))
    }

    /// Their key is another.
    async fn changed(&self, open: &Open, person: PersonId) {
        self.forget_working(open, person).await;
        fault("sealed-key");
        if let Err(error) = self.is_changed(open, person).await {
            tracing::warn!(%error, "a person's keys will be changed once more");
        }
        tracing::info!("a person's key is another");
    }

    /// Their data opens: what was put off because of damage is done. A sealed person's waits for
    /// their sign-in all the same.
    pub(crate) async fn finish_put_off(&self, person: PersonId) -> Result<(), HomeError> {
        let Ok(open) = self.opened() else {
            return Ok(());
        };
        if self.line_of(&open, person).await?.is_none() {
            return Ok(());
        }
        // Before the stores are held: whoever locks has this, and waits for those.
        let change = self.inner.change.lock().await;
        let Ok(open) = self.opened() else {
            return Ok(());
        };
        let Some(line) = self.line_of(&open, person).await? else {
            return Ok(());
        };
        if self.inner.rotation.is_running() {
            return Ok(());
        }
        let theirs = self.on_vault(&open, move |vault| {
            let id = *person.as_bytes();
            let sealed = vault.is_sealed(id).map_err(HomeError::Keyring)?;
            if line.key && !sealed {
                vault.rotate_person(id, None).map_err(HomeError::Keyring)?;
            }
            Ok(sealed)
        });
        if theirs.await? {
            return Ok(());
        }
        if line.key {
            self.changed(&open, person).await;
        }
        let hold = self.hold();
        drop(change);
        let done = match self.stage() {
            Stage::Ready => self.finish_waiting(person).await,
            _ => Ok(()),
        };
        drop(hold);
        done
    }

    /// They are signed in: their data follows the key that they have, while they use it.
    pub(crate) fn finish_what_waited(&self, person: PersonId) {
        let home = self.clone();
        tokio::spawn(async move {
            let hold = home.hold();
            if home.stage() == Stage::Ready
                && let Err(error) = home.finish_waiting(person).await
            {
                tracing::warn!(%error, "a sealed person's data is still under a key from before");
            }
            if home.stage() == Stage::Ready
                && let Err(error) = home.check_what_is_due(person).await
            {
                tracing::warn!(%error, "a sealed person's data is still to be checked");
            }
            drop(hold);
        });
    }

    async fn finish_waiting(&self, person: PersonId) -> Result<(), HomeError> {
        let open = self.opened()?;
        let Some(line) = self.line_of(&open, person).await? else {
            return Ok(());
        };
        if line.key {
            return Ok(());
        }
        self.rekey_person(person, line.database, Progress::default())
            .await?;
        self.journal_anew(JournalAnew::Bodies).await?;
        open.system
            .write(move |tx| {
                let sql = "DELETE FROM rotation_pending WHERE person = ?1 AND key = 0";
                Ok(tx.execute(sql, [person.as_bytes()]).map(drop)?)
            })
            .await?;
        tracing::info!("a person's data is under their present key");
        Ok(())
    }
}
