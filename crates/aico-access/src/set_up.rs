//! The first set-up: a home is built under another name and renamed when it is whole.

use std::fs;
use std::path::Path;
use std::time::Instant;

use aico_contracts::ids::PersonId;
use aico_vault::{Owner, Password, Purpose, RecoveryPhrase, Vault};
use jiff::Timestamp;
use uuid::Uuid;

use crate::home::{SIGNING_KEY, Stage};
use crate::{Home, HomeError, Session, SetupCode, Source, folder, keys, token};

/// Begins the name of a home that is being made.
pub(crate) const STAGING: &str = ".new-home-";
const SETUP_ACCOUNT: &str = "\0setup";

/// What proves that a first visitor may become the owner.
pub enum SetupProof<'a> {
    /// The one-time code of the printed address.
    Code(&'a str),
    /// The local socket: the operating system told who is there.
    LocalSocket,
}

/// The result of a set-up. The phrase is shown once and kept nowhere.
pub struct SetUp {
    /// Opens the vault when the password is forgotten.
    pub phrase: RecoveryPhrase,
    /// The owner is signed in.
    pub session: Session,
}

impl Home {
    /// Makes a new one-time code; the one before is void.
    ///
    /// # Errors
    /// When the system has no randomness, or there is a vault already.
    pub fn setup_code(&self) -> Result<SetupCode, HomeError> {
        if self.stage() != Stage::New {
            return Err(HomeError::AlreadySetUp);
        }
        let code = SetupCode::new().map_err(|_| HomeError::Crypto)?;
        *self.inner.setup_code.lock() = Some(code.clone());
        Ok(code)
    }

    /// The first set-up: vault, system store, the owner with their own store, one session.
    ///
    /// # Errors
    /// Wrong or expired code, unfit name or password, or a vault that exists. Whatever fails,
    /// there is no half-made home afterwards.
    pub async fn set_up(
        &self,
        proof: SetupProof<'_>,
        name: &str,
        password: &Password,
        source: impl Into<Source>,
    ) -> Result<SetUp, HomeError> {
        let _one = self.inner.change.lock().await;
        if self.stage() != Stage::New {
            return Err(HomeError::wrong_stage(self.stage()).into_already_set_up());
        }
        self.check_proof(&proof)?;
        let name = crate::PersonName::new(name)?;
        password
            .check_new(&[name.as_str()])
            .map_err(HomeError::WeakPassword)?;

        let staging = self
            .inner
            .config
            .data
            .join(format!("{STAGING}{}", Uuid::new_v4().simple()));
        let built = self.build(&staging, &name, password).await;
        let phrase = match built {
            Ok(phrase) => phrase,
            Err(error) => {
                let _ = fs::remove_dir_all(&staging);
                return Err(error);
            }
        };
        let data = &self.inner.config.data;
        let failed = |source| HomeError::Folder {
            path: data.clone(),
            source,
        };
        if let Err(error) = fs::rename(&staging, self.root()) {
            let _ = fs::remove_dir_all(&staging);
            return Err(failed(error));
        }
        if let Err(error) = folder::sync_folder(data) {
            self.undo_set_up(&staging).await;
            return Err(failed(error));
        }
        let opened = async {
            self.open_with(password).await?;
            self.used();
            self.new_owner_session(source.into(), 0).await
        };
        match opened.await {
            Ok(session) => {
                *self.inner.setup_code.lock() = None;
                Ok(SetUp { phrase, session })
            }
            Err(error) => {
                // Nobody was told the phrase: there is no home yet.
                self.undo_set_up(&staging).await;
                Err(error)
            }
        }
    }

    fn check_proof(&self, proof: &SetupProof<'_>) -> Result<(), HomeError> {
        let SetupProof::Code(given) = proof else {
            return Ok(());
        };
        let now = Instant::now();
        if self.inner.delays.remaining(SETUP_ACCOUNT, now).is_some() {
            return Err(HomeError::SetupCodeWrong);
        }
        match &*self.inner.setup_code.lock() {
            Some(code) if code.matches(given) && code.expired(now) => {
                Err(HomeError::SetupCodeExpired)
            }
            Some(code) if code.matches(given) => Ok(()),
            _ => {
                self.inner.delays.failed(SETUP_ACCOUNT, now);
                Err(HomeError::SetupCodeWrong)
            }
        }
    }

    /// Everything of a new home, in a folder of another name, closed again.
    async fn build(
        &self,
        staging: &Path,
        name: &crate::PersonName,
        password: &Password,
    ) -> Result<RecoveryPhrase, HomeError> {
        let owner = PersonId::new();
        let (vault, phrase) = {
            let (staging, password, cost) = (
                staging.to_owned(),
                password.duplicate(),
                self.inner.config.kdf,
            );
            self.with_kdf(move || {
                folder::create_private(&staging).map_err(|source| HomeError::Folder {
                    path: staging.clone(),
                    source,
                })?;
                let (vault, phrase) = Vault::create_with(&staging, &password, cost)?;
                vault
                    .create_person(*owner.as_bytes(), &password)
                    .map_err(HomeError::Keyring)?;
                Ok((vault, phrase))
            })
            .await?
        };
        let signing_key = token::new_signing_key().map_err(|_| HomeError::Crypto)?;
        let sealed = vault.seal(
            Purpose::SigningKey,
            Owner::System,
            SIGNING_KEY,
            &signing_key,
        );
        let system = self.create_system(&vault, staging).await?;
        let (name_text, name_key) = (name.as_str().to_owned(), name.key());
        system
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO access_instance (one, id, signing_key) VALUES (1, ?1, ?2)",
                    rusqlite::params![Uuid::new_v4().as_bytes(), sealed],
                )?;
                tx.execute(
                    "INSERT INTO access_person (id, name, name_key, role, created_ms)
                     VALUES (?1, ?2, ?3, 'owner', ?4)",
                    rusqlite::params![
                        owner.as_bytes(),
                        name_text,
                        name_key,
                        Timestamp::now().as_millisecond()
                    ],
                )?;
                keys::note(tx, keys::SET_UP)?;
                Ok(())
            })
            .await?;
        let keys = vault
            .open_person(*owner.as_bytes())
            .map_err(HomeError::Keyring)?;
        let store = self
            .create_person_store(&vault, staging, owner, &keys)
            .await?;
        store.close().await?;
        system.close().await?;
        folder::sync_folder(staging).map_err(|source| HomeError::Folder {
            path: staging.to_owned(),
            source,
        })?;
        Ok(phrase)
    }
}

impl HomeError {
    /// For set-up every stage but new means the same.
    fn into_already_set_up(self) -> Self {
        match self {
            Self::Stopping => Self::Stopping,
            _ => Self::AlreadySetUp,
        }
    }
}
