//! Signing in and out: proofs of who somebody is, and the sessions that follow.

use std::future::Future;
use std::time::Instant;

use aico_contracts::ids::{PersonId, SessionId};
use aico_vault::{Password, PersonKeyError, PersonKeys};
use jiff::{SignedDuration, Timestamp};

use crate::home::{MASTER_ACCOUNT, Open};
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
        let proven = person
            .as_ref()
            .map_or(0, |person| open.sessions.password_changes(person.id));
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
            None => self.new_session(&open, person, &source, proven).await,
            Some(keys) => {
                let own = takes_phrase.then_some(password);
                self.enter(&open, person, keys, own, &source, proven).await
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
        proven: u64,
    ) -> Result<Session, HomeError> {
        let id = person.id;
        let mut session = self.new_session(open, person, source, proven).await?;
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
        Ok(Principal::Person {
            person,
            role: open.role(person),
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
        if !theirs && !open.sessions.is_unended(id) {
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
        open.sessions.password_changed(person);
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

    /// Runs a proof under the account's delay.
    pub(crate) async fn guarded<T>(
        &self,
        account: &str,
        source: &Source,
        proof: impl Future<Output = Result<T, HomeError>>,
    ) -> Result<T, HomeError> {
        let delays = &self.inner.delays;
        let _under_way = match source.local {
            true => None,
            false => Some(
                delays
                    .begin(account, Instant::now())
                    .map_err(|retry_after| HomeError::SlowDown { retry_after })?,
            ),
        };
        let result = proof.await;
        match &result {
            Ok(_) => delays.succeeded(account),
            Err(HomeError::WrongPassword | HomeError::WrongPhrase) => {
                delays.failed(account, Instant::now());
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

    /// As [`Self::new_session`].
    pub(crate) async fn new_owner_session(
        &self,
        source: Source,
        proven: u64,
    ) -> Result<Session, HomeError> {
        let open = self.opened()?;
        let owner = self.known(&open, open.owner).await?;
        self.new_session(&open, owner, &source, proven).await
    }

    /// A session of who proved themselves when their password had been changed this often.
    pub(crate) async fn new_session(
        &self,
        open: &Open,
        person: Person,
        source: &Source,
        proven: u64,
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
        // Looked at once it is listed: an erasure or another password ends those that are.
        let known = self.known(open, person.id).await;
        if known.is_err() || open.sessions.password_changes(person.id) != proven {
            self.end(open, &[id]).await?;
            return Err(match known {
                Ok(_) | Err(HomeError::NotFound) => HomeError::SignInFailed,
                Err(error) => error,
            });
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
