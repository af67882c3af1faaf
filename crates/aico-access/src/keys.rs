//! What opens the home beside the master password: keychains and the recovery phrase.
//!
//! Whatever asks for the master password here asks for it although the home is open: an open
//! home is no proof of who is asking.

use std::sync::Arc;

use aico_contracts::ids::PersonId;
use aico_vault::keychain::Kept;
use aico_vault::{
    KeptError, KeychainError, KeychainState, Keychains, Password, RecoveryPhrase, RememberError,
    Vault, WrapKind,
};
use jiff::Timestamp;
use rusqlite::Transaction;

use crate::home::{MASTER_ACCOUNT, Open, blocking};
use crate::{Home, HomeError, Session, Source, Stage};

/// What is noted of changes to the keys, in the audit's table.
pub(crate) const SET_UP: &str = "vault.set-up";
pub(crate) const PASSWORD: &str = "vault.password";
pub(crate) const PHRASE: &str = "vault.phrase";
const REMEMBER: &str = "vault.remember";
const FORGET: &str = "vault.forget";
const RECOVER: &str = "vault.recover";

const PHRASE_ACCOUNT: &str = "\0phrase";

/// How a start without a password went.
#[derive(Debug)]
pub enum Start {
    /// A keychain opened it.
    Unlocked,
    /// No keychain holds a key, or there is nothing to open.
    NothingKept,
    /// A keychain should have opened it and did not: it waits for the password.
    Waits(Waits),
}

/// Why it waits for the password although a keychain holds a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// How people call the keychain.
    pub name: String,
    /// In which state it is.
    pub error: KeychainError,
}

impl Waits {
    /// What the person can do about it.
    #[must_use]
    pub fn what_to_do(&self) -> &'static str {
        advice(self.error.state())
    }
}

/// What opens the vault.
#[derive(Clone, Debug)]
pub struct VaultInfo {
    /// Rises by one with each rotation of the root key.
    pub key_epoch: u32,
    /// In the order of the header.
    pub wraps: Vec<WrapState>,
}

/// One of the things that open it, without anything secret.
#[derive(Clone, Debug)]
pub struct WrapState {
    /// Its kind.
    pub kind: WrapKind,
    /// Where its key is kept, when no person has it.
    pub kept: Option<Kept>,
    /// How people call that place.
    pub place: Option<String>,
    /// When it was made, where that is known.
    pub made_at: Option<Timestamp>,
    /// What keeps it from opening the vault right now; `None` for what a person has.
    pub broken: Option<KeychainError>,
}

/// A keychain opens the vault from now on.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// How people call it.
    pub place: String,
    /// The stable name.
    pub backend: String,
    /// Older items that could not be removed.
    pub left: Vec<String>,
}

/// No keychain opens the vault any more.
#[derive(Clone, Debug, Default)]
pub struct Forgot {
    /// How many could.
    pub taken: usize,
    /// Items that could not be removed: they open nothing here any more, a copy of the header
    /// made before still does with them.
    pub left: Vec<String>,
}

/// What the person can do about a keychain in this state.
pub(crate) fn advice(state: KeychainState) -> &'static str {
    match state {
        KeychainState::Locked => {
            "Unlock the keychain (signing in to the desktop does it) and start AICO again, or \
             use the master password: in the browser or with `aico unlock`."
        }
        KeychainState::Absent => {
            "Start AICO where the keychain is, in the desktop's session, or use the master \
             password. To keep the key elsewhere: `aico vault remember`."
        }
        KeychainState::Changed => {
            "Nothing is lost. Use the master password, then let the keychain in use now hold a \
             new key: `aico vault remember`."
        }
        KeychainState::Wrong => {
            "Nothing is lost. Use the master password; if you did not put this key there \
             yourself, find out who did, then run `aico vault remember`."
        }
    }
}

/// Notes a change of the keys in the audit's table.
pub(crate) fn note(tx: &Transaction<'_>, what: &'static str) -> rusqlite::Result<()> {
    let now = Timestamp::now().as_millisecond();
    tx.execute(
        "INSERT INTO access_audit (at_ms, action, outcome) VALUES (?1, ?2, 'done')",
        rusqlite::params![now, what],
    )
    .map(drop)
}

impl Home {
    /// Opens everything with a key that a keychain holds, at the start of a daemon. In whatever
    /// state the keychain is, nothing is made anew: it waits for the password, and says why.
    ///
    /// # Errors
    /// Damage, a folder that can't be used: what the password would meet too.
    pub async fn start_unattended(&self) -> Result<Start, HomeError> {
        let _one = self.inner.change.lock().await;
        if self.stage() != Stage::Locked {
            return Ok(Start::NothingKept);
        }
        let (root, keychains) = (
            self.root().to_owned(),
            Arc::clone(&self.inner.config.keychains),
        );
        let cost = self.inner.config.kdf;
        let opened = blocking(move || Ok(Vault::unlock_kept(&root, &keychains, cost))).await?;
        match opened {
            Ok(vault) => {
                self.open_stores(vault).await?;
                self.open_what_is_big().await;
                self.used();
                Ok(Start::Unlocked)
            }
            Err(KeptError::Nothing) => Ok(Start::NothingKept),
            Err(KeptError::Keychain { kept, source }) => {
                let waits = Waits {
                    name: self.inner.config.keychains.name_of(kept.backend()),
                    error: source,
                };
                *self.inner.waits.lock() = Some(waits.clone());
                Ok(Start::Waits(waits))
            }
            Err(KeptError::Vault(error)) => Err(error.into()),
            Err(_) => Err(HomeError::Crypto),
        }
    }

    /// Why the last start waits for the password although a keychain holds a key.
    #[must_use]
    pub fn waits(&self) -> Option<Waits> {
        self.inner.waits.lock().clone()
    }

    /// What opens the vault, each keychain tried. Needs no unlocked home; only the times of
    /// password and phrase do.
    ///
    /// # Errors
    /// When the header can't be read.
    pub async fn vault_info(&self) -> Result<VaultInfo, HomeError> {
        let (root, keychains) = (
            self.root().to_owned(),
            Arc::clone(&self.inner.config.keychains),
        );
        let (status, states) = blocking(move || {
            let states = Vault::check_kept(&root, &keychains)?;
            Ok((Vault::status(&root)?, states))
        })
        .await?;
        let password = self.last_of(&[SET_UP, PASSWORD, RECOVER]).await;
        let phrase = self.last_of(&[SET_UP, PHRASE]).await;
        let wraps = status.wraps.into_iter().map(|wrap| {
            let state = states
                .iter()
                .find(|(kept, _)| Some(kept) == wrap.kept.as_ref());
            let kept_at = wrap.kept.as_ref().and_then(Kept::made_ms);
            WrapState {
                kind: wrap.kind,
                place: wrap
                    .kept
                    .as_ref()
                    .map(|kept| self.inner.config.keychains.name_of(kept.backend())),
                made_at: match wrap.kind {
                    WrapKind::MasterPassword => password,
                    WrapKind::RecoveryPhrase => phrase,
                    _ => kept_at
                        .and_then(|ms| i64::try_from(ms).ok())
                        .and_then(|ms| Timestamp::from_millisecond(ms).ok()),
                },
                broken: state.and_then(|(_, state)| state.clone().err()),
                kept: wrap.kept,
            }
        });
        Ok(VaultInfo {
            key_epoch: status.key_epoch,
            wraps: wraps.collect(),
        })
    }

    /// Lets a keychain open the vault at a start, in the place of all that could before.
    ///
    /// # Errors
    /// [`HomeError::WrongPassword`]; the state of the keychain. Then nothing has changed.
    pub async fn remember(
        &self,
        master: &Password,
        backend: Option<&str>,
        source: impl Into<Source>,
    ) -> Result<Remembered, HomeError> {
        let open = self.opened()?;
        let keychains = Arc::clone(&self.inner.config.keychains);
        let (vault, master) = (open.vault.clone(), master.duplicate());
        let backend = backend.map(str::to_owned);
        let work = self.with_kdf(move || {
            let chosen = match &backend {
                Some(named) => keychains
                    .named(named)
                    .ok_or_else(|| HomeError::NoSuchKeychain {
                        known: keychains.backends(),
                    })?,
                None => keychains.choose().map_err(|source| HomeError::Keychain {
                    name: "The keychain".to_owned(),
                    source,
                })?,
            };
            let done = vault.remember(&master, chosen, &keychains);
            let (kept, old) = done.map_err(|error| match error {
                RememberError::Vault(error) => error.into(),
                RememberError::Keychain(source) => HomeError::Keychain {
                    name: format!("The {}", chosen.name()),
                    source,
                },
                _ => HomeError::Crypto,
            })?;
            Ok(Remembered {
                place: chosen.name().to_owned(),
                backend: kept.backend().to_owned(),
                left: told(&keychains, &old.left),
            })
        });
        let done = self.guarded(MASTER_ACCOUNT, &source.into(), work).await?;
        self.noted(&open, REMEMBER).await;
        Ok(done)
    }

    /// Lets no keychain open the vault any more.
    ///
    /// # Errors
    /// [`HomeError::WrongPassword`]; what is wrong with the header.
    pub async fn forget(
        &self,
        master: &Password,
        source: impl Into<Source>,
    ) -> Result<Forgot, HomeError> {
        let open = self.opened()?;
        let keychains = Arc::clone(&self.inner.config.keychains);
        let (vault, master) = (open.vault.clone(), master.duplicate());
        let work = self.with_kdf(move || {
            let gone = vault.forget(&master, &keychains)?;
            Ok(Forgot {
                taken: gone.taken.len(),
                left: told(&keychains, &gone.left),
            })
        });
        let done = self.guarded(MASTER_ACCOUNT, &source.into(), work).await?;
        self.noted(&open, FORGET).await;
        Ok(done)
    }

    /// A new recovery phrase; the old one opens nothing here any more.
    ///
    /// # Errors
    /// [`HomeError::WrongPassword`].
    pub async fn new_phrase(
        &self,
        master: &Password,
        source: impl Into<Source>,
    ) -> Result<RecoveryPhrase, HomeError> {
        let open = self.opened()?;
        let (vault, master) = (open.vault.clone(), master.duplicate());
        let work = self.with_kdf(move || Ok(vault.new_recovery_phrase(&master)?));
        let phrase = self.guarded(MASTER_ACCOUNT, &source.into(), work).await?;
        self.noted(&open, PHRASE).await;
        Ok(phrase)
    }

    /// A new master password on the strength of the recovery phrase, locked or not. The owner is
    /// signed in, their other sessions end.
    ///
    /// # Errors
    /// [`HomeError::WrongPhrase`], [`HomeError::WeakPassword`]. Then nothing has changed.
    pub async fn recover(
        &self,
        phrase: &RecoveryPhrase,
        new: &Password,
        source: impl Into<Source>,
    ) -> Result<Session, HomeError> {
        let source = source.into();
        let _one = self.inner.change.lock().await;
        match self.stage() {
            Stage::Locked => {
                let recover = self.recover_locked(phrase, new);
                self.guarded(PHRASE_ACCOUNT, &source, recover).await?;
                self.open_with(new).await?;
                self.used();
            }
            Stage::Ready => {
                let open = self.opened()?;
                let owner = self.known(&open, open.owner).await?;
                check_new(new, owner.name.as_str())?;
                let reset = self.reset(open.vault.clone(), open.owner, phrase, new);
                self.guarded(PHRASE_ACCOUNT, &source, reset).await?;
            }
            stage => return Err(HomeError::wrong_stage(stage)),
        }
        let open = self.opened()?;
        open.sessions.password_changed(open.owner);
        let proven = open.sessions.password_changes(open.owner);
        self.noted(&open, RECOVER).await;
        self.end_others(&open, open.owner, None).await?;
        self.new_owner_session(source, proven).await
    }

    /// Opens the system's store for as long as it takes to learn who the owner is.
    async fn recover_locked(
        &self,
        phrase: &RecoveryPhrase,
        new: &Password,
    ) -> Result<(), HomeError> {
        let (root, phrase_again) = (self.root().to_owned(), phrase.duplicate());
        let cost = self.inner.config.kdf;
        let vault = self
            .with_kdf(move || Ok(Vault::recover_with(&root, &phrase_again, cost)?))
            .await?;
        let system = self.open_system(&vault).await?;
        let owner = system
            .read(|db| {
                let sql = "SELECT id, name FROM access_person WHERE role = 'owner'";
                let row = |row: &rusqlite::Row<'_>| {
                    Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?))
                };
                Ok(db.query_row(sql, [], row)?)
            })
            .await;
        system.close().await?;
        let (id, name) = owner?;
        let owner = PersonId::from_slice(&id).map_err(|_| HomeError::NotFound)?;
        check_new(new, &name)?;
        self.reset(vault, owner, phrase, new).await
    }

    async fn reset(
        &self,
        vault: Vault,
        owner: PersonId,
        phrase: &RecoveryPhrase,
        new: &Password,
    ) -> Result<(), HomeError> {
        let (phrase, new) = (phrase.duplicate(), new.duplicate());
        self.with_kdf(move || Ok(vault.reset_owner_password(*owner.as_bytes(), &phrase, &new)?))
            .await
    }

    /// Notes a change that is done. It stands without the note too.
    pub(crate) async fn noted(&self, open: &Open, what: &'static str) {
        let noted = open.system.write(move |tx| Ok(note(tx, what)?)).await;
        if let Err(error) = noted {
            tracing::warn!(%error, what, "a change of the keys could not be noted");
        }
    }

    /// When one of these was noted last.
    async fn last_of(&self, what: &'static [&'static str]) -> Option<Timestamp> {
        let system = self.system().ok()?;
        let last = system.read(move |db| {
            let mut last = None;
            for action in what {
                let sql = "SELECT max(at_ms) FROM access_audit WHERE action = ?1";
                let at: Option<i64> = db.query_row(sql, [action], |row| row.get(0))?;
                last = last.max(at);
            }
            Ok(last)
        });
        Timestamp::from_millisecond(last.await.ok()??).ok()
    }
}

fn check_new(new: &Password, name: &str) -> Result<(), HomeError> {
    new.check_new(&[name]).map_err(HomeError::WeakPassword)
}

/// Items that are still there, as a person reads it.
fn told(keychains: &Keychains, left: &[(Kept, KeychainError)]) -> Vec<String> {
    let line = |(kept, error): &(Kept, KeychainError)| {
        let name = keychains.name_of(kept.backend());
        format!("{name}, item {}: {error}", kept.item())
    };
    left.iter().map(line).collect()
}
