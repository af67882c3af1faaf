//! Who belongs to the household: added, found, erased.

use aico_contracts::ids::PersonId;
use aico_store::{Identity, Store, StoreError};
use aico_vault::Password;
use jiff::Timestamp;
use rusqlite::OptionalExtension as _;

use crate::backup::{self, Erased};
use crate::home::{Open, PERSON_DB, blocking, person_folder};
use crate::keys;
use crate::{Home, HomeError, Person, PersonName, Role, Source};

impl Home {
    /// A person by id.
    ///
    /// # Errors
    /// [`HomeError::NotFound`].
    pub async fn person(&self, id: PersonId) -> Result<Person, HomeError> {
        let open = self.opened()?;
        self.known(&open, id).await
    }

    /// Everybody, in the order in which they were added.
    ///
    /// # Errors
    /// While locked.
    pub async fn persons(&self) -> Result<Vec<Person>, HomeError> {
        let rows = self
            .opened()?
            .system
            .read(|db| {
                let mut query = db.prepare(
                    "SELECT id, name, role, created_ms FROM access_person ORDER BY created_ms, id",
                )?;
                let rows = query.query_map([], person_row)?;
                Ok(rows.collect::<Result<Vec<_>, _>>()?)
            })
            .await?;
        rows.into_iter().map(PersonRow::into_person).collect()
    }

    /// A new member with a password, a key and a store of their own.
    ///
    /// # Errors
    /// Unfit or taken name, unfit password.
    pub async fn add_person(&self, name: &str, password: &Password) -> Result<Person, HomeError> {
        let open = self.opened()?;
        let name = PersonName::new(name)?;
        password
            .check_new(&[name.as_str()])
            .map_err(HomeError::WeakPassword)?;
        if self.find_by_name(&open, &name.key()).await?.is_some() {
            return Err(HomeError::NameTaken);
        }
        let person = Person {
            id: PersonId::new(),
            name,
            role: Role::Member,
            created_at: Timestamp::now(),
        };
        // Until there is a row the folder looks like a stray one.
        let _gate = open.persons.gate(person.id).await;
        // Files first: a row is the acknowledgement. Cut off before it, the folder belongs to
        // nobody and is removed by the next start's sweep.
        let (vault, password) = (open.vault.clone(), password.duplicate());
        let id = *person.id.as_bytes();
        let keys = self
            .with_kdf(move || {
                vault
                    .create_person(id, &password)
                    .map_err(HomeError::Keyring)
            })
            .await?;
        let store = self
            .create_person_store(&open.vault, self.root(), person.id, &keys)
            .await?;
        let row = person.clone();
        let added = open
            .system
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO access_person (id, name, name_key, role, created_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (name_key) DO NOTHING",
                    rusqlite::params![
                        row.id.as_bytes(),
                        row.name.as_str(),
                        row.name.key(),
                        row.role.as_str(),
                        row.created_at.as_millisecond(),
                    ],
                )
                .map_err(StoreError::from)
            })
            .await;
        if let Err(error @ StoreError::Unacknowledged(_)) = added {
            // The row is there and stays, though nobody could note it: so do they. Whoever asks
            // again hears that the name is taken.
            if !open.persons.insert(person.id, store.clone()) {
                let _ = store.close().await;
            }
            return Err(error.into());
        }
        if !matches!(added, Ok(1)) {
            let _ = store.close().await;
            self.remove_files(&open, person.id).await?;
            added?;
            return Err(HomeError::NameTaken);
        }
        if !open.persons.insert(person.id, store.clone()) {
            let _ = store.close().await;
        }
        Ok(person)
    }

    /// Removes a person and all their data, out of the backups within reach as well; answers which
    /// those are, and which are not. The owner proves with their password that it is they.
    ///
    /// # Errors
    /// [`HomeError::WrongPassword`], [`HomeError::OwnerStays`], [`HomeError::NotFound`].
    pub async fn erase_person(
        &self,
        id: PersonId,
        owner_password: &Password,
        source: impl Into<Source>,
    ) -> Result<Erased, HomeError> {
        let open = self.opened()?;
        self.prove_master(&open, owner_password, &source.into())
            .await?;
        if id == open.owner {
            return Err(HomeError::OwnerStays);
        }
        // It may take minutes, and nobody is kept waiting that long without a word.
        if self.rotation().running {
            return Err(HomeError::KeysChange);
        }
        // A backup that is being made would hold them.
        let _no_backup = self.inner.backup.lock().await;
        match self.known(&open, id).await {
            // What a failure left of them is to go: that is asked for once more.
            Err(HomeError::NotFound) if self.is_half_erased(&open, id).await? => {}
            known => drop(known?),
        }
        let ids: Vec<_> = open.sessions.of(id).iter().map(|s| s.id).collect();
        self.end(&open, &ids).await?;
        // Their rows go with the person's.
        self.forget_tokens(&open, id);
        // The tombstone is the point of no return; a crash after it is finished by the sweep.
        open.system
            .write(move |tx| {
                tx.execute("DELETE FROM access_person WHERE id = ?1", [id.as_bytes()])?;
                tx.execute(
                    "INSERT OR REPLACE INTO access_tombstone (person, erased_ms) VALUES (?1, ?2)",
                    rusqlite::params![id.as_bytes(), Timestamp::now().as_millisecond()],
                )?;
                for sql in [
                    "DELETE FROM access_audit WHERE person = ?1",
                    "DELETE FROM rotation_pending WHERE person = ?1",
                ] {
                    tx.execute(sql, [id.as_bytes()])?;
                }
                keys::note(tx, ERASED)?;
                Ok(())
            })
            .await?;
        // Those that were being made meanwhile; their rows are gone.
        self.forget_tokens(&open, id);
        let ids: Vec<_> = open.sessions.of(id).iter().map(|s| s.id).collect();
        if let Err(error) = self.end(&open, &ids).await {
            tracing::warn!(%error, "sessions of somebody erased ended in memory only");
        }
        self.load_grants().await?;
        let _ = self.inner.erased.send(id);
        let gate = open.persons.gate(id).await;
        if let Some(store) = open.persons.remove(id) {
            let _ = store.close().await;
        }
        self.forget_working(&open, id).await;
        self.erase_kept(id).await?;
        // Last: as long as the folder is there the erasure can be asked for again.
        self.remove_files(&open, id).await?;
        drop(gate);
        self.drop_erased(&open).await
    }

    async fn is_half_erased(&self, open: &Open, id: PersonId) -> Result<bool, HomeError> {
        let left = person_folder(self.root(), id).exists();
        Ok(left && backup::erased_in(open).await?.contains_key(&id))
    }

    async fn remove_files(&self, open: &Open, id: PersonId) -> Result<(), HomeError> {
        let (vault, folder) = (open.vault.clone(), person_folder(self.root(), id));
        blocking(move || {
            // The key first: without it the rest is noise, whatever the disk keeps.
            vault
                .erase_person(*id.as_bytes())
                .map_err(HomeError::Keyring)?;
            let identity = Identity::person(*id.as_bytes());
            Store::erase(&folder.join(PERSON_DB), &identity, vault.registry())?;
            vault.forget_prompt_cache(*id.as_bytes())?;
            backup::destroy(&folder).map_err(|source| HomeError::Folder {
                path: folder,
                source,
            })
        })
        .await
    }

    /// Removes folders in `persons/` that belong to nobody: an addition or a removal that was
    /// cut off. Called once after unlocking.
    ///
    /// # Errors
    /// When the folder can't be read or cleaned.
    pub async fn sweep(&self) -> Result<usize, HomeError> {
        let open = self.opened()?;
        let known: Vec<_> = self.persons().await?.iter().map(|p| p.id).collect();
        let found = self.person_folders().await?.into_iter();
        let mut removed = 0;
        for id in found.filter(|id| !known.contains(id)) {
            // It may be of somebody who is being added.
            let _gate = open.persons.gate(id).await;
            match self.known(&open, id).await {
                Err(HomeError::NotFound) => {}
                known => {
                    drop(known?);
                    continue;
                }
            }
            self.remove_files(&open, id).await?;
            removed += 1;
        }
        // An erasure can have been cut off after the last of their files here.
        for id in backup::erased_in(&open).await?.keys() {
            self.erase_kept(*id).await?;
        }
        if let Ok(_no_backup) = self.inner.backup.try_lock()
            && let Err(error) = self.drop_pending().await
        {
            tracing::warn!(%error, "an erasure could not be finished in the backups");
        }
        Ok(removed)
    }

    /// Whose folders there are in `persons/`, whether anybody belongs to them or not.
    pub(crate) async fn person_folders(&self) -> Result<Vec<PersonId>, HomeError> {
        let folder = self.root().join("persons");
        blocking(move || {
            let failed = |source| HomeError::Folder {
                path: folder.clone(),
                source,
            };
            let mut found = Vec::new();
            for entry in std::fs::read_dir(&folder).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                let id = name.to_str().and_then(|n| hex::decode(n).ok());
                if let Some(id) = id.and_then(|id| PersonId::from_slice(&id).ok()) {
                    found.push(id);
                }
            }
            Ok(found)
        })
        .await
    }

    pub(crate) async fn known(&self, open: &Open, id: PersonId) -> Result<Person, HomeError> {
        let row = open
            .system
            .read(move |db| {
                let sql = "SELECT id, name, role, created_ms FROM access_person WHERE id = ?1";
                Ok(db.query_row(sql, [id.as_bytes()], person_row).optional()?)
            })
            .await?;
        row.ok_or(HomeError::NotFound)?.into_person()
    }

    pub(crate) async fn find_by_name(
        &self,
        open: &Open,
        key: &str,
    ) -> Result<Option<Person>, HomeError> {
        let key = key.to_owned();
        let row = open
            .system
            .read(move |db| {
                let sql =
                    "SELECT id, name, role, created_ms FROM access_person WHERE name_key = ?1";
                Ok(db.query_row(sql, [key], person_row).optional()?)
            })
            .await?;
        row.map(PersonRow::into_person).transpose()
    }
}

/// In the audit's table.
const ERASED: &str = "person.erase";

struct PersonRow {
    id: Vec<u8>,
    name: String,
    role: String,
    created_ms: i64,
}

fn person_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<PersonRow> {
    Ok(PersonRow {
        id: row.get(0)?,
        name: row.get(1)?,
        role: row.get(2)?,
        created_ms: row.get(3)?,
    })
}

impl PersonRow {
    fn into_person(self) -> Result<Person, HomeError> {
        Ok(Person {
            id: PersonId::from_slice(&self.id).map_err(|_| HomeError::NotFound)?,
            name: PersonName::new(&self.name)?,
            role: Role::parse(&self.role).ok_or(HomeError::NotFound)?,
            created_at: Timestamp::from_millisecond(self.created_ms)
                .map_err(|_| HomeError::NotFound)?,
        })
    }
}
