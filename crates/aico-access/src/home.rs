//! [`Home`]: everything that belongs to one data folder, from nothing through locked to ready.
//!
//! ```text
//! <data>/lock            the operating system's lock (folder.rs)
//! <data>/home/           vault.hdr, registry, system.db,
//!                        persons/<id>/{keyring, person.db, working/}
//! ```
//!
//! Either there is a home with an owner who knows the password, or there is none (`set_up.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aico_contracts::ids::{PersonId, SessionId, TokenId};
use aico_store::{ModuleMigrations, Store};
use aico_vault::{KdfCost, Keychains, Owner, Password, Purpose, Vault};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use crate::delay::Delays;
use crate::keys::Waits;
use crate::named::NamedTokens;
use crate::open_stores::PersonStores;
use crate::rotation::Rotation;
use crate::sessions::Sessions;
use crate::set_up::STAGING;
use crate::token::Tokens;
use crate::updating::Updating;
use crate::working::{self, Working};
use crate::{
    Grants, HomeError, PersonExport, Principal, Role, Session, SetupCode, Source, backup, swap,
};

/// Where a home stands. Changes are told by [`Home::watch_stage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// No vault: only set-up answers.
    New,
    /// No key in memory.
    Locked,
    /// Unlocked, stores open.
    Ready,
    /// The daemon ends.
    Stopping,
}

impl Stage {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Locked => "locked",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
        }
    }
}

/// What a home is made with.
pub struct HomeConfig {
    /// The data folder; claimed by the caller ([`crate::DataFolder`]).
    pub data: PathBuf,
    /// Cost of turning passwords into keys, for what is made from now on.
    pub kdf: KdfCost,
    /// Where keys may be kept for starting without a password.
    pub keychains: Arc<Keychains>,
    /// Where backups go when nobody says where.
    pub backups: PathBuf,
    /// The configuration file in force, for backups.
    pub configuration: Option<PathBuf>,
    /// How long a session lasts, at most 24.
    pub token_hours: u32,
    /// Tables of the modules in the system's store, beside this crate's own.
    pub system_migrations: Vec<ModuleMigrations>,
    /// Tables of the modules in each person's store.
    pub person_migrations: Vec<ModuleMigrations>,
    /// What the modules make of a person's store for an export.
    pub person_exports: Vec<PersonExport>,
}

/// See the module's head. Cheap to clone.
#[derive(Clone)]
pub struct Home {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: HomeConfig,
    root: PathBuf,
    pub(crate) stage: watch::Sender<Stage>,
    /// Set-up, unlocking and locking happen one at a time.
    pub(crate) change: tokio::sync::Mutex<()>,
    /// One backup is made at a time, and nobody is erased meanwhile.
    pub(crate) backup: Arc<tokio::sync::Mutex<()>>,
    /// One check of the stores runs at a time, and no keys are changed meanwhile.
    pub(crate) checking: Arc<tokio::sync::Mutex<()>>,
    /// One password is turned into a key at a time: each takes 64 MiB.
    pub(crate) kdf: Arc<tokio::sync::Semaphore>,
    open: RwLock<Option<Arc<Open>>>,
    pub(crate) setup_code: Mutex<Option<SetupCode>>,
    /// Why the last start waits for the password although a keychain holds a key.
    pub(crate) waits: Mutex<Option<Waits>>,
    pub(crate) delays: Delays<String>,
    pub(crate) ended: broadcast::Sender<SessionId>,
    /// Named tokens that were revoked.
    pub(crate) revoked: broadcast::Sender<TokenId>,
    pub(crate) erased: broadcast::Sender<PersonId>,
    /// Sealed persons who were locked.
    pub(crate) locked: broadcast::Sender<PersonId>,
    /// What modules of other makers may do; empty while locked.
    pub(crate) grants: Grants,
    /// Counts the changes of these.
    pub(crate) modules: watch::Sender<u64>,
    /// Who still works with the stores: closing waits for them.
    holds: TaskTracker,
    /// Whether the parts that need keys serve; `None` where nobody said that there are any.
    pub(crate) serving: watch::Sender<Option<bool>>,
    pub(crate) rotation: Rotation,
    /// Stores that migrate.
    pub(crate) updating: Updating,
    made: Instant,
    /// Milliseconds since `made`.
    last_used: AtomicU64,
}

/// How long closing waits for those who hold the home open.
const PATIENCE: Duration = Duration::from_secs(8);

/// What there is only while unlocked.
pub(crate) struct Open {
    pub(crate) epoch: Uuid,
    pub(crate) vault: Vault,
    pub(crate) system: Store,
    pub(crate) owner: PersonId,
    /// Replaced with the signing key.
    pub(crate) tokens: RwLock<Tokens>,
    pub(crate) sessions: Sessions,
    pub(crate) named: NamedTokens,
    pub(crate) persons: PersonStores,
    pub(crate) working: Working,
}

impl Open {
    /// What a person of the household is.
    pub(crate) fn role(&self, person: PersonId) -> Role {
        match person == self.owner {
            true => Role::Owner,
            false => Role::Member,
        }
    }
}

impl Home {
    /// Looks at the data folder; creates nothing. What was decided and cut off is finished.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn open(config: HomeConfig) -> Result<Self, HomeError> {
        let root = config.data.join("home");
        swap::finish(&config.data)?;
        remove_unfinished(&config.data)?;
        let stage = if Vault::exists(&root)? {
            Stage::Locked
        } else {
            Stage::New
        };
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                root,
                stage: watch::Sender::new(stage),
                change: tokio::sync::Mutex::new(()),
                backup: Arc::default(),
                checking: Arc::default(),
                kdf: Arc::new(tokio::sync::Semaphore::new(1)),
                open: RwLock::new(None),
                setup_code: Mutex::new(None),
                waits: Mutex::new(None),
                delays: Delays::of_accounts(),
                ended: broadcast::Sender::new(256),
                revoked: broadcast::Sender::new(64),
                erased: broadcast::Sender::new(64),
                locked: broadcast::Sender::new(64),
                grants: Grants::default(),
                modules: watch::Sender::new(0),
                holds: TaskTracker::new(),
                serving: watch::Sender::new(None),
                rotation: Rotation::default(),
                updating: Updating::default(),
                made: Instant::now(),
                last_used: AtomicU64::new(0),
            }),
        })
    }

    /// Where it stands now.
    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.inner.stage.borrow()
    }

    /// Tells each change.
    #[must_use]
    pub fn watch_stage(&self) -> watch::Receiver<Stage> {
        self.inner.stage.subscribe()
    }

    /// Stopping stays stopping.
    pub(crate) fn set_stage(&self, next: Stage) {
        self.inner.stage.send_if_modified(|stage| {
            let change = *stage != Stage::Stopping;
            if change {
                *stage = next;
            }
            change
        });
    }

    /// New at each unlocking; nil while locked.
    #[must_use]
    pub fn epoch(&self) -> Uuid {
        self.inner
            .open
            .read()
            .as_ref()
            .map_or(Uuid::nil(), |open| open.epoch)
    }

    /// Opens everything with the master password.
    ///
    /// # Errors
    /// Wrong password, damage, or a stage in which there is nothing to unlock.
    pub async fn unlock(
        &self,
        password: &Password,
        source: impl Into<Source>,
    ) -> Result<PersonId, HomeError> {
        self.prove_and_unlock(password, &source.into()).await?;
        Ok(self.opened()?.owner)
    }

    /// Answers how often the password was changed when it was proven.
    async fn prove_and_unlock(
        &self,
        password: &Password,
        source: &Source,
    ) -> Result<u64, HomeError> {
        let _one = self.inner.change.lock().await;
        match self.stage() {
            Stage::Locked => {
                self.guarded(MASTER_ACCOUNT, source, self.open_with(password))
                    .await?;
                self.open_what_is_big().await;
                self.used();
                // They are counted from the unlocking on.
                Ok(0)
            }
            Stage::Ready => {
                let open = self.opened()?;
                let changes = open.sessions.password_changes(open.owner);
                self.prove_master(&open, password, source).await?;
                Ok(changes)
            }
            stage => Err(HomeError::wrong_stage(stage)),
        }
    }

    /// The master password is the owner's own: unlocking signs them in.
    ///
    /// # Errors
    /// As [`Self::unlock`].
    pub async fn unlock_and_sign_in(
        &self,
        password: &Password,
        source: impl Into<Source>,
    ) -> Result<Session, HomeError> {
        let source = source.into();
        let proven = self.prove_and_unlock(password, &source).await?;
        self.new_owner_session(source, proven).await
    }

    /// Ends all sessions, closes all stores, forgets all keys.
    ///
    /// # Errors
    /// When a store can't be closed cleanly; it is locked all the same.
    pub async fn lock(&self) -> Result<(), HomeError> {
        let _one = self.inner.change.lock().await;
        if self.stage() != Stage::Ready {
            return Err(HomeError::wrong_stage(self.stage()));
        }
        let open = self.opened()?;
        let everyone = open.sessions.end_for_good();
        if let Err(error) = open.sessions.delete_all(&open.system).await {
            tracing::warn!(%error, "sessions are ended once more before the stores are closed");
        }
        for id in everyone {
            let _ = self.inner.ended.send(id);
        }
        drop(open);
        self.set_stage(Stage::Locked);
        self.close_stores().await
    }

    /// Takes no more work, then closes the stores. Sessions stay: the daemon comes back.
    ///
    /// # Errors
    /// When a store can't be closed cleanly.
    pub async fn stop(&self) -> Result<(), HomeError> {
        self.inner.stage.send_replace(Stage::Stopping);
        let _one = self.inner.change.lock().await;
        self.close_stores().await
    }

    /// Keeps the stores open until the token is dropped. Whoever works with them beyond one
    /// request takes one when the stage becomes ready and gives it back when it no longer is.
    pub fn hold(&self) -> TaskTrackerToken {
        self.inner.holds.token()
    }

    /// Says whether the parts that need keys serve now. Once somebody says so, unlocking answers
    /// only when they do: what comes right after it finds everything in place.
    pub fn set_serving(&self, serving: bool) {
        self.inner.serving.send_replace(Some(serving));
    }

    async fn until_served(&self) {
        let mut serving = self.inner.serving.subscribe();
        let served = serving.wait_for(|serving| *serving != Some(false));
        if tokio::time::timeout(PATIENCE, served).await.is_err() {
            tracing::warn!("unlocked, but its parts still start");
        }
    }

    /// How long nobody has used it.
    #[must_use]
    pub fn idle(&self) -> Duration {
        let used = Duration::from_millis(self.inner.last_used.load(Ordering::Relaxed));
        self.inner.made.elapsed().saturating_sub(used)
    }

    pub(crate) fn used(&self) {
        let now = u64::try_from(self.inner.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.inner.last_used.store(now, Ordering::Relaxed);
    }

    pub(crate) async fn close_stores(&self) -> Result<(), HomeError> {
        self.inner.holds.close();
        if tokio::time::timeout(PATIENCE, self.inner.holds.wait())
            .await
            .is_err()
        {
            tracing::warn!("stores are closed while something still works with them");
        }
        self.inner.holds.reopen();
        self.forget_grants();
        let Some(open) = self.inner.open.write().take() else {
            return Ok(());
        };
        self.close_all_working(&open).await;
        let mut result = Ok(());
        for store in open.persons.end().await {
            if let Err(error) = store.close().await {
                result = Err(error.into());
            }
        }
        if open.sessions.are_over()
            && let Err(error) = open.sessions.delete_all(&open.system).await
        {
            result = Err(error);
        }
        if let Err(error) = open.system.close().await {
            result = Err(error.into());
        }
        result
    }

    /// Turns the password into the root key and opens the system's store.
    pub(crate) async fn open_with(&self, password: &Password) -> Result<(), HomeError> {
        let root = self.inner.root.clone();
        let (password, cost) = (password.duplicate(), self.inner.config.kdf);
        let vault = self
            .with_kdf(move || Ok(Vault::unlock_with(&root, &password, cost)?))
            .await?;
        self.open_stores(vault).await
    }

    pub(crate) async fn open_stores(&self, vault: Vault) -> Result<(), HomeError> {
        let system = self.open_system(&vault).await?;
        let opened = self.read_instance(&vault, &system).await;
        let (owner, tokens, sessions, named) = match opened {
            Ok(parts) => parts,
            Err(error) => {
                let _ = system.close().await;
                return Err(error);
            }
        };
        let open = Arc::new(Open {
            epoch: Uuid::now_v7(),
            vault,
            system,
            owner,
            tokens: RwLock::new(tokens),
            sessions,
            named,
            persons: PersonStores::default(),
            working: working::none_open(),
        });
        if let Err(error) = self.apply_grants(&open).await {
            let _ = open.system.close().await;
            return Err(error);
        }
        *self.inner.open.write() = Some(open);
        *self.inner.waits.lock() = None;
        self.set_stage(Stage::Ready);
        // Somebody serves: a daemon, which has the time. It goes on with what was cut off.
        if self.inner.serving.borrow().is_some() {
            self.resume_rotation().await;
        }
        self.until_served().await;
        Ok(())
    }

    pub(crate) async fn read_instance(
        &self,
        vault: &Vault,
        system: &Store,
    ) -> Result<(PersonId, Tokens, Sessions, NamedTokens), HomeError> {
        let (instance, sealed, owner) = system
            .read(|db| {
                let (id, key) = db.query_row(
                    "SELECT id, signing_key FROM access_instance WHERE one = 1",
                    [],
                    |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)),
                )?;
                let owner = db.query_row(
                    "SELECT id FROM access_person WHERE role = 'owner'",
                    [],
                    |row| row.get::<_, Vec<u8>>(0),
                )?;
                Ok((id, key, owner))
            })
            .await?;
        let instance = Uuid::from_slice(&instance).map_err(|_| HomeError::Crypto)?;
        let owner = PersonId::from_slice(&owner).map_err(|_| HomeError::NotFound)?;
        let key = vault.open_sealed(Purpose::SigningKey, Owner::System, SIGNING_KEY, &sealed)?;
        let tokens = Tokens::new(instance, &key).map_err(|_| HomeError::Crypto)?;
        let sessions = Sessions::load(system).await?;
        Ok((owner, tokens, sessions, NamedTokens::load(system).await?))
    }

    // ---- what others use while unlocked -------------------------------------------------

    pub(crate) fn opened(&self) -> Result<Arc<Open>, HomeError> {
        match self.stage() {
            Stage::Ready | Stage::Locked => {}
            stage => return Err(HomeError::wrong_stage(stage)),
        }
        self.inner.open.read().clone().ok_or(HomeError::Locked)
    }

    /// The system's store.
    ///
    /// # Errors
    /// While locked.
    pub fn system(&self) -> Result<Store, HomeError> {
        Ok(self.opened()?.system.clone())
    }

    /// A vault handle, for what is sealed beside the stores (the log).
    ///
    /// # Errors
    /// While locked.
    pub fn vault(&self) -> Result<Vault, HomeError> {
        Ok(self.opened()?.vault.clone())
    }

    /// Who is on the other side of the local socket.
    #[must_use]
    pub fn local_principal(&self) -> Principal {
        match self.opened() {
            Ok(open) => Principal::LocalOwner { person: open.owner },
            Err(_) => Principal::Local,
        }
    }

    /// Tells each session that ends before its time.
    #[must_use]
    pub fn ended_sessions(&self) -> broadcast::Receiver<SessionId> {
        self.inner.ended.subscribe()
    }

    /// Tells each person who was erased.
    #[must_use]
    pub fn erased_persons(&self) -> broadcast::Receiver<PersonId> {
        self.inner.erased.subscribe()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Runs what turns a password into a key: off the async threads, one at a time.
    pub(crate) async fn with_kdf<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HomeError> + Send + 'static,
    ) -> Result<T, HomeError> {
        let one = Arc::clone(&self.inner.kdf)
            .acquire_owned()
            .await
            .map_err(|_| HomeError::Task)?;
        self.held(move || {
            let done = work();
            drop(one);
            done
        })
        .await
    }

    /// Runs what goes on although whoever asked may be gone: the stores, and with them the vault,
    /// are closed after it, so that nothing writes beside the next unlocking.
    pub(crate) async fn held<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HomeError> + Send + 'static,
    ) -> Result<T, HomeError> {
        let hold = self.hold();
        blocking(move || {
            let done = work();
            drop(hold);
            done
        })
        .await
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HomeError> + Send + 'static,
) -> Result<T, HomeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| HomeError::Task)?
}

pub(crate) const MASTER_ACCOUNT: &str = "\0master";
pub(crate) const SIGNING_KEY: &[u8] = b"token-signing-key";
pub(crate) const SYSTEM_DB: &str = "system.db";
pub(crate) const PERSON_DB: &str = "person.db";
pub(crate) fn person_folder(root: &Path, person: PersonId) -> PathBuf {
    root.join("persons")
        .join(person.uuid().simple().to_string())
}

/// A set-up or a backup that was cut off acknowledged nothing: what it left is removed.
fn remove_unfinished(data: &Path) -> Result<(), HomeError> {
    let failed = |source| HomeError::Folder {
        path: data.to_owned(),
        source,
    };
    let entries = match fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_folder && (name.starts_with(STAGING) || name.starts_with(backup::STAGING)) {
            fs::remove_dir_all(entry.path()).map_err(failed)?;
            tracing::warn!("removed what was cut off before it was finished");
        }
    }
    Ok(())
}
