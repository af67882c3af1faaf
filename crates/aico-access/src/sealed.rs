//! Sealed persons: nobody but they can open their key.
//!
//! They unlock by signing in, with their own password or their own phrase, and are locked again
//! when their last session has ended, by `aico lock`, and by a restart. While they are locked
//! everything that asks for their data is told so, and nothing else changes for anybody.

use aico_contracts::ids::PersonId;
use aico_store::Progress;
use aico_vault::{Password, PersonKeyError, RecoveryPhrase};
use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::home::Open;
use crate::rotation::JournalAnew;
use crate::{Home, HomeError, PersonName, Role, Session, Source};

/// What is noted of it in the audit's table.
const SEALED: &str = "person.seal";
const UNSEALED: &str = "person.unseal";
const RECOVERED: &str = "person.recover";

/// Who can open a person's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// AICO, while it is unlocked; and whoever has the master password and the disk.
    Open,
    /// They alone, and they are not signed in.
    Locked,
    /// They alone, and they are signed in.
    SignedIn,
}

impl Home {
    /// Seals a person, who proves with their own password that it is they. Their phrase is told
    /// this once; without it and the password nobody recovers them.
    ///
    /// # Errors
    /// [`HomeError::WrongPassword`]; [`HomeError::OwnerIsOpen`].
    pub async fn seal_person(
        &self,
        person: PersonId,
        own: &Password,
        source: impl Into<Source>,
    ) -> Result<RecoveryPhrase, HomeError> {
        let open = self.opened()?;
        let about = self.known(&open, person).await?;
        if about.role == Role::Owner {
            return Err(HomeError::OwnerIsOpen);
        }
        if self.rotation().running {
            return Err(HomeError::KeysChange);
        }
        let (vault, own) = (open.vault.clone(), own.duplicate());
        let work = self.with_kdf(move || {
            let id = *person.as_bytes();
            if vault.is_sealed(id).map_err(HomeError::Keyring)? {
                return Err(HomeError::Rotation("this person is sealed already"));
            }
            vault.seal_person(id, &own).map_err(proof)
        });
        let (_, phrase) = self
            .guarded(&about.name.key(), &source.into(), work)
            .await?;
        self.noted(&open, SEALED).await;
        self.under_new_key(person).await;
        Ok(phrase)
    }

    /// Lets AICO open a person's data unattended again. They prove that it is they.
    ///
    /// # Errors
    /// [`HomeError::WrongPassword`].
    pub async fn unseal_person(
        &self,
        person: PersonId,
        own: &Password,
        source: impl Into<Source>,
    ) -> Result<(), HomeError> {
        let open = self.opened()?;
        let about = self.known(&open, person).await?;
        let (vault, proven) = (open.vault.clone(), own.duplicate());
        let work = self.with_kdf(move || {
            let id = *person.as_bytes();
            if !vault.is_sealed(id).map_err(HomeError::Keyring)? {
                return Err(HomeError::Rotation("this person is not sealed"));
            }
            vault.open_person_with_password(id, &proven).map_err(proof)
        });
        let keys = self
            .guarded(&about.name.key(), &source.into(), work)
            .await?;
        // A key that is still to be changed is not put under the root key.
        drop(self.change_what_waits(&open, person, keys, own).await);
        let (vault, own) = (open.vault.clone(), own.duplicate());
        self.with_kdf(move || vault.unseal_person(*person.as_bytes(), &own).map_err(proof))
            .await?;
        self.finish_what_waited(person);
        self.noted(&open, UNSEALED).await;
        Ok(())
    }

    /// A new password of a sealed person on the strength of their own phrase; they are signed in,
    /// their other sessions end.
    ///
    /// # Errors
    /// [`HomeError::WrongPhrase`] for an unknown name, a person who has no phrase of their own,
    /// and another phrase alike; [`HomeError::WeakPassword`].
    pub async fn recover_person(
        &self,
        name: &str,
        phrase: &RecoveryPhrase,
        new: &Password,
        source: impl Into<Source>,
    ) -> Result<Session, HomeError> {
        let source = source.into();
        let open = self.opened()?;
        let name = PersonName::new(name).map_err(|_| HomeError::WrongPhrase)?;
        let key = name.key();
        let about = self.find_by_name(&open, &key).await?;
        new.check_new(&[name.as_str()])
            .map_err(HomeError::WeakPassword)?;
        let work = async {
            let about = about.ok_or(HomeError::WrongPhrase)?;
            let (vault, phrase, new) = (open.vault.clone(), phrase.duplicate(), new.duplicate());
            let id = *about.id.as_bytes();
            let (own, theirs) = (new.duplicate(), phrase.duplicate());
            let keys = self
                .with_kdf(move || {
                    vault
                        .recover_person(id, &phrase, &new)
                        .map_err(|error| match error {
                            PersonKeyError::WrongPassword => HomeError::WrongPhrase,
                            other => HomeError::Keyring(other),
                        })
                })
                .await?;
            open.sessions.password_changed(about.id);
            let keys = self
                .change_recovered(&open, about.id, keys, &own, &theirs)
                .await;
            Ok((about, keys))
        };
        let (about, keys) = self.guarded(&key, &source, work).await?;
        let proven = open.sessions.password_changes(about.id);
        self.noted(&open, RECOVERED).await;
        let session = self
            .enter(&open, about, keys, None, &source, proven)
            .await?;
        self.end_others(&open, session.person.id, Some(session.id))
            .await?;
        Ok(session)
    }

    /// Who can open a person's data.
    ///
    /// # Errors
    /// While locked; what is wrong with their keyring.
    pub async fn seal_of(&self, person: PersonId) -> Result<Seal, HomeError> {
        let open = self.opened()?;
        self.on_vault(&open, move |vault| {
            let id = *person.as_bytes();
            match vault.is_sealed(id) {
                Ok(false) => Ok(Seal::Open),
                Ok(true) if vault.unsealed_persons().contains(&id) => Ok(Seal::SignedIn),
                Ok(true) => Ok(Seal::Locked),
                Err(error) => Err(HomeError::Keyring(error)),
            }
        })
        .await
    }

    /// Tells each sealed person who is locked.
    #[must_use]
    pub fn locked_persons(&self) -> broadcast::Receiver<PersonId> {
        self.inner.locked.subscribe()
    }

    /// Locks sealed persons of whom no session is left: they signed out, or the time is up.
    /// Called after sessions end, and now and then.
    pub async fn lock_who_left(&self) {
        let Ok(open) = self.opened() else { return };
        let now = Timestamp::now();
        for id in open.vault.unsealed_persons() {
            let Ok(person) = PersonId::from_slice(&id) else {
                continue;
            };
            let sessions = open.sessions.of(person);
            if sessions.iter().any(|session| session.expires_at > now) {
                continue;
            }
            self.lock_one(&open, person).await;
        }
    }

    async fn lock_one(&self, open: &Open, person: PersonId) {
        // Under the lock of the stores: none is opened with the key between these.
        let gate = open.persons.gate(person).await;
        open.vault.lock_person(*person.as_bytes());
        if let Some(store) = open.persons.remove(person)
            && let Err(error) = store.close().await
        {
            tracing::warn!(%error, "a sealed person's store was not closed well");
        }
        drop(gate);
        self.close_working(open, person).await;
        // Nobody listening is fine.
        let _ = self.inner.locked.send(person);
        tracing::info!("a sealed person is locked");
    }

    /// Their key is another: so are the keys under it, of the database and of what waits for
    /// modules. What fails now is done when they sign in next.
    async fn under_new_key(&self, person: PersonId) {
        if let Ok(open) = self.opened() {
            self.forget_working(&open, person).await;
        }
        if let Err(error) = self.rekey_person(person, false, Progress::default()).await {
            tracing::warn!(%error, "a store is still under a key from before");
        }
        if let Some(parts) = self.parts()
            && let Err(error) = parts.journal(JournalAnew::Bodies).await
        {
            tracing::warn!(%error, "the journal is still under a key from before");
        }
    }
}

fn proof(error: PersonKeyError) -> HomeError {
    match error {
        PersonKeyError::WrongPassword => HomeError::WrongPassword,
        other => HomeError::Keyring(other),
    }
}
