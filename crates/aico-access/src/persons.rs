//! Signing in and out, and who belongs to the household.

use std::future::Future;
use std::time::Instant;

use aico_contracts::ids::{PersonId, SessionId};
use aico_store::{Identity, Store, StoreError};
use aico_vault::{Password, PersonKeyError, PersonKeys};
use jiff::{SignedDuration, Timestamp};
use rusqlite::OptionalExtension as _;

use crate::backup::{self, Erased};
use crate::home::{MASTER_ACCOUNT, Open, PERSON_DB, blocking, person_folder};
use crate::keys;
use crate::{Home, HomeError, Person, PersonName, Principal, Role, Session, SessionInfo, Source};

impl Home {
    /// Signs a person in by name and password.
    ///
    /// # Errors
    /// [`HomeError::SignInFailed`] for an unknown name and a wrong password alike, at equal cost;
    /// [`HomeError::SlowDown`] after several.
    pub async fn sign_in(
        &self,
        name: &str,
        password: &Password,
        source: impl Into<Source>,
    ) -> Result<Session, HomeError> {
        self.sign_in_with(name, password, source.into(), false)
            .await
    }

    /// The same by somebody who shows a new phrase of their own, should there be one: a change of
    /// keys that waits for a sealed person is done with it ([`Session::phrase`]).
    ///
    /// # Errors
    /// As [`Self::sign_in`].
    pub async fn sign_in_taking_phrase(
        &self,
        name: &str,
        password: &Password,
        source: impl Into<Source>,
    ) -> Result<Session, HomeError> {
        self.sign_in_with(name, password, source.into(), true).await
    }

    async fn sign_in_with(
        &self,
        name: &str,
        password: &Password,
        source: Source,
        takes_phrase: bool,
    ) -> Result<Session, HomeError> {
        let open = self.opened()?;
        let Ok(name) = PersonName::new(name) else {
            return Err(HomeError::SignInFailed);
        };
        let key = name.key();
        let person = self.find_by_name(&open, &key).await?;
        let proof = async {
            match &person {
                Some(person) if person.role == Role::Owner => {
                    self.check_master(&open, password).await.map(|()| None)
                }
                Some(person) => self
                    .check_member(&open, person.id, password)
                    .await
                    .map(Some),
                // The same work as for somebody who exists.
                None => {
                    self.check_master(&open, password).await?;
                    Err(HomeError::WrongPassword)
                }
            }
        };
        let account = if person.as_ref().is_some_and(|p| p.role == Role::Owner) {
            MASTER_ACCOUNT
        } else {
            &key
        };
        let keys = self
            .guarded(account, &source, proof)
            .await
            .map_err(|error| match error {
                HomeError::WrongPassword => HomeError::SignInFailed,
                other => other,
            })?;
        let person = person.ok_or(HomeError::SignInFailed)?;
        match keys {
            None => self.new_session(&open, person, &source).await,
            Some(keys) => {
                let own = takes_phrase.then_some(password);
                self.enter(&open, person, keys, own, &source).await
            }
        }
    }

    /// Signs in who has just opened these keys; with their password, what waited for that is done.
    pub(crate) async fn enter(
        &self,
        open: &Open,
        person: Person,
        keys: PersonKeys,
        own: Option<&Password>,
        source: &Source,
    ) -> Result<Session, HomeError> {
        let id = person.id;
        let mut session = self.new_session(open, person, source).await?;
        let keys = match own {
            Some(own) => {
                let changed = self.change_what_waits(open, id, keys, own).await;
                session.phrase = changed.1;
                changed.0
            }
            None => keys,
        };
        session.keys_wait = self.waits_for(open, id).await;
        // Once there is a session: without one a sealed person is locked.
        open.vault
            .unlock_person(&keys)
            .map_err(HomeError::Keyring)?;
        self.finish_what_waited(id);
        Ok(session)
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// [`HomeError::TokenInvalid`] unless it is ours, in its time, and its session exists.
    pub async fn authenticate(&self, token: &str) -> Result<Principal, HomeError> {
        let open = self.opened()?;
        let (person, id) = open
            .tokens
            .read()
            .verify(token)
            .map_err(|_| HomeError::TokenInvalid)?;
        let session = open
            .sessions
            .get(id, Timestamp::now())
            .filter(|session| session.person == person)
            .ok_or(HomeError::TokenInvalid)?;
        self.used();
        let role = if person == open.owner {
            Role::Owner
        } else {
            Role::Member
        };
        Ok(Principal::Person {
            person,
            role,
            session: session.id,
        })
    }

    /// A person's sessions, oldest first.
    ///
    /// # Errors
    /// While locked.
    pub async fn sessions(&self, person: PersonId) -> Result<Vec<SessionInfo>, HomeError> {
        let now = Timestamp::now();
        let mut all = self.opened()?.sessions.of(person);
        all.retain(|session| session.expires_at > now);
        Ok(all)
    }

    /// Ends one of a person's sessions everywhere.
    ///
    /// # Errors
    /// [`HomeError::NotFound`] when it is not theirs.
    pub async fn end_session(&self, person: PersonId, id: SessionId) -> Result<(), HomeError> {
        let open = self.opened()?;
        let theirs = open
            .sessions
            .get(id, Timestamp::MIN)
            .is_some_and(|s| s.person == person);
        if !theirs {
            return Err(HomeError::NotFound);
        }
        self.end(&open, &[id]).await
    }

    /// Ends all of a person's sessions everywhere.
    ///
    /// # Errors
    /// While locked.
    pub async fn end_all_sessions(&self, person: PersonId) -> Result<(), HomeError> {
        let open = self.opened()?;
        let ids: Vec<_> = open.sessions.of(person).iter().map(|s| s.id).collect();
        self.end(&open, &ids).await
    }

    pub(crate) async fn end(&self, open: &Open, ids: &[SessionId]) -> Result<(), HomeError> {
        let result = open.sessions.end(&open.system, ids).await;
        for id in ids {
            // Nobody listening is fine: no connection is open.
            let _ = self.inner.ended.send(*id);
        }
        self.lock_who_left().await;
        result
    }

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
        self.known(&open, id).await?;
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
        // One that was being made meanwhile.
        self.forget_tokens(&open, id);
        self.load_grants().await?;
        let _ = self.inner.erased.send(id);
        let gate = open.persons.gate(id).await;
        if let Some(store) = open.persons.remove(id) {
            let _ = store.close().await;
        }
        self.forget_working(&open, id).await;
        self.remove_files(&open, id).await?;
        drop(gate);
        self.erase_kept(id).await?;
        self.drop_erased(&open).await
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
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(HomeError::Folder {
                        path: folder,
                        source: error,
                    })
                }
                _ => Ok(()),
            }
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
        let folder = self.root().join("persons");
        let found = blocking(move || {
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
        .await?;
        let strays: Vec<_> = found.into_iter().filter(|id| !known.contains(id)).collect();
        for id in &strays {
            self.remove_files(&open, *id).await?;
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
        Ok(strays.len())
    }

    /// Changes a person's own password; the owner's is the master password. Other sessions end.
    ///
    /// # Errors
    /// [`HomeError::WrongPassword`], [`HomeError::WeakPassword`].
    pub async fn change_password(
        &self,
        person: PersonId,
        current: &Password,
        new: &Password,
        source: impl Into<Source>,
        keep: Option<SessionId>,
    ) -> Result<(), HomeError> {
        let open = self.opened()?;
        let about = self.known(&open, person).await?;
        new.check_new(&[about.name.as_str()])
            .map_err(HomeError::WeakPassword)?;
        let source = source.into();
        let vault = open.vault.clone();
        let (now, then) = (current.duplicate(), new.duplicate());
        if about.role == Role::Owner {
            let change = self.with_kdf(move || {
                Ok(vault.change_owner_password(*person.as_bytes(), &now, &then)?)
            });
            self.guarded(MASTER_ACCOUNT, &source, change).await?;
            self.noted(&open, keys::PASSWORD).await;
        } else {
            let key = about.name.key();
            let check = self.check_member(&open, person, current);
            self.guarded(&key, &source, check).await?;
            self.with_kdf(move || {
                let keys = vault
                    .open_person_with_password(*person.as_bytes(), &now)
                    .map_err(HomeError::Keyring)?;
                vault
                    .change_person_password(*person.as_bytes(), &keys, &then)
                    .map_err(HomeError::Keyring)
            })
            .await?;
        }
        self.end_others(&open, person, keep).await
    }

    pub(crate) async fn end_others(
        &self,
        open: &Open,
        person: PersonId,
        keep: Option<SessionId>,
    ) -> Result<(), HomeError> {
        let all = open.sessions.of(person);
        let ids = all.iter().map(|session| session.id);
        let others: Vec<_> = ids.filter(|id| Some(*id) != keep).collect();
        self.end(open, &others).await
    }

    // ---- proofs ---------------------------------------------------------------------------

    /// Runs a proof under the account's delay.
    pub(crate) async fn guarded<T>(
        &self,
        account: &str,
        source: &Source,
        proof: impl Future<Output = Result<T, HomeError>>,
    ) -> Result<T, HomeError> {
        if !source.local
            && let Some(retry_after) = self.inner.delays.remaining(account, Instant::now())
        {
            return Err(HomeError::SlowDown { retry_after });
        }
        let result = proof.await;
        match &result {
            Ok(_) => self.inner.delays.succeeded(account),
            Err(HomeError::WrongPassword | HomeError::WrongPhrase) => {
                self.inner.delays.failed(account, Instant::now());
            }
            Err(_) => {}
        }
        result
    }

    pub(crate) async fn prove_master(
        &self,
        open: &Open,
        password: &Password,
        source: &Source,
    ) -> Result<(), HomeError> {
        self.guarded(MASTER_ACCOUNT, source, self.check_master(open, password))
            .await
    }

    async fn check_master(&self, open: &Open, password: &Password) -> Result<(), HomeError> {
        let (vault, password) = (open.vault.clone(), password.duplicate());
        let right = self
            .with_kdf(move || Ok(vault.verify_master(&password)?))
            .await?;
        if right {
            Ok(())
        } else {
            Err(HomeError::WrongPassword)
        }
    }

    pub(crate) async fn check_member(
        &self,
        open: &Open,
        person: PersonId,
        password: &Password,
    ) -> Result<PersonKeys, HomeError> {
        let (vault, password) = (open.vault.clone(), password.duplicate());
        self.with_kdf(move || {
            match vault.open_person_with_password(*person.as_bytes(), &password) {
                Ok(keys) => Ok(keys),
                Err(PersonKeyError::WrongPassword) => Err(HomeError::WrongPassword),
                Err(other) => Err(HomeError::Keyring(other)),
            }
        })
        .await
    }

    // ---- rows -----------------------------------------------------------------------------

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

    pub(crate) async fn new_owner_session(&self, source: Source) -> Result<Session, HomeError> {
        let open = self.opened()?;
        let owner = self.known(&open, open.owner).await?;
        self.new_session(&open, owner, &source).await
    }

    pub(crate) async fn new_session(
        &self,
        open: &Open,
        person: Person,
        source: &Source,
    ) -> Result<Session, HomeError> {
        let now = Timestamp::now();
        let hours = i64::from(self.inner.config.token_hours.clamp(1, 24));
        let info = SessionInfo {
            id: SessionId::new(),
            person: person.id,
            client: source.shown(),
            created_at: now,
            expires_at: now + SignedDuration::from_hours(hours),
        };
        let (id, expires_at) = (info.id, info.expires_at);
        let token = open
            .tokens
            .read()
            .issue(person.id, id, now, expires_at)
            .map_err(|_| HomeError::Crypto)?;
        for ended in open.sessions.add(&open.system, info).await? {
            let _ = self.inner.ended.send(ended);
        }
        Ok(Session {
            token,
            id,
            expires_at,
            person,
            phrase: None,
            keys_wait: false,
        })
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
