//! [`Vault`]: the root key, unlocked, and what is done with it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::append::LogKey;
use crate::container::{self, Container, Form};
use crate::derive::{self, Label, Owner, Purpose};
use crate::error::{FromContainer, FromHash, UnlockError, VaultError};
use crate::fs::{self, Context, Filesystem, Kind, OsFilesystem};
use crate::kdf::{KdfCost, OutOfMemory};
use crate::key::{Key, random_array};
use crate::keychain::Kept;
use crate::password::Password;
use crate::person::PersonKeys;
use crate::phrase::RecoveryPhrase;
use crate::registry::Registry;
use crate::rotate;
use crate::wrap::{HashError, KdfParams, Params, WrapKind};

/// The header's file name in the data folder.
pub(crate) const HEADER: &str = "vault.hdr";
/// The registry's file name in the data folder.
pub(crate) const REGISTRY: &str = "registry";
/// The folder of the persons in the data folder.
pub(crate) const PERSONS: &str = "persons";

/// An unlocked vault. Clones share one root key, which is wiped when the last of them is dropped.
///
/// One process at a time: the caller holds the data folder's lock while there is a `Vault`.
#[derive(Clone)]
pub struct Vault(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) fs: Arc<dyn Filesystem>,
    pub(crate) data: PathBuf,
    /// Replaced by a rotation; every handle sees the new one.
    pub(crate) roots: RwLock<Roots>,
    pub(crate) id: [u8; 16],
    /// The cost of wraps that are made from now on.
    pub(crate) cost: KdfCost,
    pub(crate) registry: Registry,
    /// Held while header or a keyring is read, changed and written.
    pub(crate) writing: Mutex<()>,
    /// Keys of sealed persons who are signed in.
    pub(crate) unsealed: Mutex<HashMap<[u8; 16], PersonKeys>>,
}

/// The root key, and the one before it as long as something is under that.
pub(crate) struct Roots {
    pub(crate) root: Key,
    pub(crate) epoch: u32,
    pub(crate) earlier: Option<(u32, Key)>,
}

impl Roots {
    /// The root key of an epoch, if it is here.
    pub(crate) fn of(&self, epoch: u32) -> Option<&Key> {
        if epoch == self.epoch {
            return Some(&self.root);
        }
        let (earlier, key) = self.earlier.as_ref()?;
        (*earlier == epoch).then_some(key)
    }

    /// The present one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.root).chain(self.earlier.iter().map(|(_, key)| key))
    }

    /// Key of a sealed append file of the system's, which reads what is under the earlier root.
    pub(crate) fn log_key(&self, purpose: Purpose, owner: Owner, file: [u8; 16]) -> LogKey {
        let key = LogKey::under_root(&self.root, self.epoch, purpose, owner, file);
        match &self.earlier {
            Some((epoch, root)) => {
                key.after(LogKey::under_root(root, *epoch, purpose, owner, file))
            }
            None => key,
        }
    }
}

impl Inner {
    pub(crate) fn roots(&self) -> std::sync::RwLockReadGuard<'_, Roots> {
        self.roots.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn roots_mut(&self) -> std::sync::RwLockWriteGuard<'_, Roots> {
        self.roots.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What can be said of a vault without unlocking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultStatus {
    /// Version of the header's format.
    pub version: u16,
    /// Rises by one with each rotation of the root key.
    pub key_epoch: u32,
    /// What opens it, in the order of the header.
    pub wraps: Vec<WrapInfo>,
}

/// A wrap, without anything secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapInfo {
    /// Its kind.
    pub kind: WrapKind,
    /// Where its key is kept, when no person has it.
    pub kept: Option<Kept>,
}

impl Vault {
    /// Whether there is anything here that a new vault would make unreadable: a header in
    /// whatever state, a registry, databases, persons, logs. Set-up is for a folder where
    /// there is not.
    ///
    /// # Errors
    /// When the folder can't be looked at. That is not a "no".
    pub fn exists(data: &Path) -> Result<bool, VaultError> {
        Self::exists_on(&OsFilesystem, data)
    }

    pub(crate) fn exists_on(fs: &dyn Filesystem, data: &Path) -> Result<bool, VaultError> {
        if fs::probe_private(fs, data, Kind::Folder)?.is_none() {
            return Ok(false);
        }
        let header = data.join(HEADER);
        let registry = data.join(REGISTRY);
        Ok(fs.probe(&header).on("read", &header)?.is_some()
            || fs.probe(&registry).on("read", &registry)?.is_some()
            || encrypted_data(fs, data)?)
    }

    /// Makes a vault, and the phrase that recovers it, which is told only now.
    ///
    /// # Errors
    /// [`VaultError::Exists`] when there is anything encrypted in the folder.
    pub fn create(data: &Path, master: &Password) -> Result<(Self, RecoveryPhrase), VaultError> {
        Self::create_with(data, master, KdfCost::default())
    }

    /// As [`Vault::create`], with another cost of password hashing; for tests.
    ///
    /// # Errors
    /// As [`Vault::create`].
    pub fn create_with(
        data: &Path,
        master: &Password,
        cost: KdfCost,
    ) -> Result<(Self, RecoveryPhrase), VaultError> {
        Self::create_on(Arc::new(OsFilesystem), data, master, cost)
    }

    /// As [`Vault::create_with`], on another file system.
    ///
    /// # Errors
    /// As [`Vault::create`].
    pub fn create_on(
        fs: Arc<dyn Filesystem>,
        data: &Path,
        master: &Password,
        cost: KdfCost,
    ) -> Result<(Self, RecoveryPhrase), VaultError> {
        fs::ensure_folder(&*fs, data)?;
        if Self::exists_on(&*fs, data)? {
            return Err(VaultError::Exists {
                path: data.to_path_buf(),
            });
        }
        let root = Key::random();
        let phrase = RecoveryPhrase::random();
        let mut header = Container::new(Form::Header, 1, random_array(), [0; 16]);
        set_password(&mut header, Params::MasterPassword, master, cost, &root)
            .map_err(|OutOfMemory| VaultError::OutOfMemory)?;
        header.set(Params::RecoveryPhrase, phrase.expose(), &root);
        let path = data.join(HEADER);
        fs::write_atomically(&*fs, &path, &header.encode(&header_mac_key(&root)))?;
        // A crash from here on leaves a header without a registry and without any data; that
        // unlocks, and the registry is made then. An error is undone: nothing is under this
        // root key yet, and the phrase has not been told.
        let roots = Roots {
            root,
            epoch: header.epoch,
            earlier: None,
        };
        match Registry::create(Arc::clone(&fs), &data.join(REGISTRY), &roots, header.vault) {
            Ok(registry) => {
                let vault = Self::unlocked(fs, data, roots, &header, cost, registry);
                tracing::info!("a new vault was made");
                Ok((vault, phrase))
            }
            Err(error) => {
                for made in [data.join(REGISTRY), path] {
                    let _ = fs.remove_file(&made);
                }
                Err(error.into())
            }
        }
    }

    /// Unlocks with the master password.
    ///
    /// # Errors
    /// Told apart: a wrong password, a damaged header, none, one of a newer program.
    pub fn unlock(data: &Path, master: &Password) -> Result<Self, UnlockError> {
        Self::unlock_with(data, master, KdfCost::default())
    }

    /// As [`Vault::unlock`], with another cost for wraps made from now on; for tests.
    ///
    /// # Errors
    /// As [`Vault::unlock`].
    pub fn unlock_with(data: &Path, master: &Password, cost: KdfCost) -> Result<Self, UnlockError> {
        Self::unlock_on(
            Arc::new(OsFilesystem),
            data,
            &Secret::Password(master),
            cost,
        )
    }

    /// Unlocks with the recovery phrase, so that a new master password can be set.
    ///
    /// # Errors
    /// As [`Vault::unlock`].
    pub fn unlock_with_phrase(data: &Path, phrase: &RecoveryPhrase) -> Result<Self, UnlockError> {
        Self::recover_with(data, phrase, KdfCost::default())
    }

    /// As [`Vault::unlock_with_phrase`], with another cost for wraps made from now on; for tests.
    ///
    /// # Errors
    /// As [`Vault::unlock`].
    pub fn recover_with(
        data: &Path,
        phrase: &RecoveryPhrase,
        cost: KdfCost,
    ) -> Result<Self, UnlockError> {
        Self::unlock_on(Arc::new(OsFilesystem), data, &Secret::Phrase(phrase), cost)
    }

    /// As [`Vault::unlock_with`], on another file system.
    ///
    /// # Errors
    /// As [`Vault::unlock`].
    pub fn unlock_password_on(
        fs: Arc<dyn Filesystem>,
        data: &Path,
        master: &Password,
        cost: KdfCost,
    ) -> Result<Self, UnlockError> {
        Self::unlock_on(fs, data, &Secret::Password(master), cost)
    }

    pub(crate) fn unlock_on(
        fs: Arc<dyn Filesystem>,
        data: &Path,
        secret: &Secret<'_>,
        cost: KdfCost,
    ) -> Result<Self, UnlockError> {
        let header = read_header(&*fs, data)?;
        let root = open_header(data, &header, secret)?;
        let earlier = rotate::earlier_root(data, &header, &root)?;
        let roots = Roots {
            root,
            epoch: header.epoch,
            earlier,
        };
        let path = data.join(REGISTRY);
        fs::remove_leftover(&*fs, &data.join(HEADER))?;
        fs::remove_leftover(&*fs, &path)?;
        let there = fs.probe(&path).on("read", &path)?.is_some();
        let registry = if there || encrypted_data(&*fs, data)? {
            Registry::open(Arc::clone(&fs), &path, &roots, header.vault)?
        } else {
            Registry::create(Arc::clone(&fs), &path, &roots, header.vault)?
        };
        Ok(Self::unlocked(fs, data, roots, &header, cost, registry))
    }

    pub(crate) fn unlocked(
        fs: Arc<dyn Filesystem>,
        data: &Path,
        roots: Roots,
        header: &Container,
        cost: KdfCost,
        registry: Registry,
    ) -> Self {
        Self(Arc::new(Inner {
            fs,
            data: data.to_path_buf(),
            roots: RwLock::new(roots),
            id: header.vault,
            cost,
            registry,
            writing: Mutex::new(()),
            unsealed: Mutex::default(),
        }))
    }

    /// Whether this is the master password.
    ///
    /// # Errors
    /// When the header can't be read. A wrong password is not an error here.
    pub fn verify_master(&self, master: &Password) -> Result<bool, UnlockError> {
        let inner = &*self.0;
        let header = read_header(&*inner.fs, &inner.data)?;
        match open_header(&inner.data, &header, &Secret::Password(master)) {
            Ok(root) => Ok(root == inner.roots().root),
            Err(UnlockError::WrongPassword) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads the header again and authenticates it, with all its wraps, under the root key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_header(&self) -> Result<(), UnlockError> {
        let inner = &*self.0;
        // Whoever writes it changes the root key in memory as well.
        let _alone = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let header = read_header(&*inner.fs, &inner.data)?;
        match header.authentic(&header_mac_key(&inner.roots().root)) {
            true => Ok(()),
            false => Err(UnlockError::damaged(
                &inner.data.join(HEADER),
                "it was altered by something other than AICO",
            )),
        }
    }

    /// What can be said without a password.
    ///
    /// # Errors
    /// [`VaultError::Absent`] without a vault; otherwise what is wrong with the header.
    pub fn status(data: &Path) -> Result<VaultStatus, VaultError> {
        let header = read_header(&OsFilesystem, data).map_err(|error| match error {
            UnlockError::Absent { path } => VaultError::Absent { path },
            UnlockError::Damaged { path, reason } => VaultError::Damaged { path, reason },
            UnlockError::Unsupported { path, found, known } => {
                VaultError::Unsupported { path, found, known }
            }
            UnlockError::File(error) => error.into(),
            // Reading checks no secret and opens no registry.
            _ => VaultError::Forged,
        })?;
        Ok(VaultStatus {
            version: container::VERSION,
            key_epoch: header.epoch,
            wraps: header
                .wraps
                .iter()
                // No person and no keychain opens with it: it is what a rotation left to do.
                .filter(|wrap| wrap.kind() != WrapKind::EarlierRoot)
                .map(|wrap| WrapInfo {
                    kind: wrap.kind(),
                    kept: wrap.kept(),
                })
                .collect(),
        })
    }

    /// The random id of the vault in a folder; not a secret, and no password is needed.
    ///
    /// # Errors
    /// As reading the header for [`Vault::unlock`].
    pub fn id_of(data: &Path) -> Result<[u8; 16], UnlockError> {
        Ok(read_header(&OsFilesystem, data)?.vault)
    }

    /// The key that a label names. The same label gives the same key, in this vault only.
    #[must_use]
    pub fn derive(&self, label: Label) -> Key {
        derive::derive(&self.0.roots().root, derive::ROOT_SALT, &label)
    }

    /// The registry of stores, opened with the vault.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// The vault's random id. Not a secret.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.0.id
    }

    /// Rises by one with each rotation of the root key.
    #[must_use]
    pub fn key_epoch(&self) -> u32 {
        self.0.roots().epoch
    }

    /// The file system that it lies on, for what is kept beside it.
    #[must_use]
    pub fn filesystem(&self) -> Arc<dyn Filesystem> {
        Arc::clone(&self.0.fs)
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.0.data
    }
}

/// What opens a header.
pub(crate) enum Secret<'a> {
    Password(&'a Password),
    Phrase(&'a RecoveryPhrase),
    /// The key that is kept there.
    Kept(&'a Kept, &'a Key),
}

/// Puts a wrap under a password into a header or keyring, with a fresh salt.
pub(crate) fn set_password(
    container: &mut Container,
    kind: fn(KdfParams) -> Params,
    password: &Password,
    cost: KdfCost,
    key: &Key,
) -> Result<(), OutOfMemory> {
    let kdf = KdfParams::fresh(cost);
    let kek = kdf.hash(password).map_err(|error| match error {
        // A `KdfCost` is inside the bounds by its type.
        HashError::OutOfBounds(_) | HashError::OutOfMemory => OutOfMemory,
    })?;
    container.set(kind(kdf), kek.expose(), key);
    Ok(())
}

pub(crate) fn header_mac_key(root: &Key) -> Key {
    derive::derive(
        root,
        derive::ROOT_SALT,
        &Label::new(Purpose::HeaderMac, Owner::System),
    )
}

pub(crate) fn read_header(fs: &dyn Filesystem, data: &Path) -> Result<Container, UnlockError> {
    let absent = || UnlockError::Absent {
        path: data.to_path_buf(),
    };
    if fs::probe_private(fs, data, Kind::Folder)?.is_none() {
        return Err(absent());
    }
    let path = data.join(HEADER);
    let Some(bytes) = fs::read_private(fs, &path, container::MAX_BYTES)? else {
        let registry = data.join(REGISTRY);
        let data_here =
            fs.probe(&registry).on("read", &registry)?.is_some() || encrypted_data(fs, data)?;
        let reason = "it is missing, and there is encrypted data beside it";
        return Err(if data_here {
            UnlockError::damaged(&path, reason)
        } else {
            absent()
        });
    };
    Container::decode(Form::Header, &bytes).map_err(|why| UnlockError::unreadable(&path, &why))
}

/// Unwraps the root key and checks the header with it.
pub(crate) fn open_header(
    data: &Path,
    header: &Container,
    secret: &Secret<'_>,
) -> Result<Key, UnlockError> {
    let path = data.join(HEADER);
    let wrap = match secret {
        Secret::Password(_) => header.find(WrapKind::MasterPassword),
        Secret::Phrase(_) => header.find(WrapKind::RecoveryPhrase),
        Secret::Kept(kept, _) => header
            .wraps
            .iter()
            .find(|wrap| wrap.kept().as_ref() == Some(kept)),
    };
    let Some(wrap) = wrap else {
        return Err(UnlockError::NoSuchWrap { path });
    };
    let root = match (secret, wrap.kdf()) {
        (Secret::Password(password), Some(kdf)) => {
            let kek = kdf
                .hash(password)
                .map_err(|error| UnlockError::hash(&path, error))?;
            wrap.open(&header.fixed(), kek.expose())
                .ok_or(UnlockError::WrongPassword)?
        }
        (Secret::Password(_), None) => return Err(UnlockError::NoSuchWrap { path }),
        (Secret::Phrase(phrase), _) => wrap
            .open(&header.fixed(), phrase.expose())
            .ok_or(UnlockError::WrongPhrase)?,
        (Secret::Kept(_, key), _) => wrap
            .open(&header.fixed(), key.expose())
            .ok_or(UnlockError::WrongKey)?,
    };
    if !header.authentic(&header_mac_key(&root)) {
        return Err(UnlockError::damaged(
            &path,
            "it was altered by something other than AICO",
        ));
    }
    Ok(root)
}

/// Whether there is anything beside header and registry that is encrypted under a root key.
fn encrypted_data(fs: &dyn Filesystem, data: &Path) -> Result<bool, fs::FileError> {
    for name in ["system.db", "system.db-wal", "secrets"] {
        let path = data.join(name);
        if fs.probe(&path).on("read", &path)?.is_some() {
            return Ok(true);
        }
    }
    for name in [PERSONS, "logs", "journal"] {
        let path = data.join(name);
        let Some(entry) = fs.probe(&path).on("read", &path)? else {
            continue;
        };
        // A link, or something else in its place: whatever it is, it is not ours to ignore.
        if entry.kind != Kind::Folder || !fs.list(&path).on("read", &path)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
