//! The places on Linux.
//!
//! The Secret Service is asked through `secret-service` itself: the store of `keyring-core` above
//! it unlocks whatever it finds locked, which opens a dialogue that a daemon must not wait for,
//! and can't tell a locked collection from one without the item.

use std::collections::HashMap;
use std::path::PathBuf;

use linux_keyutils::{KeyError, KeyRing, KeyRingIdentifier};
use secret_service::blocking::{Collection, Item, SecretService as Service};
use secret_service::{EncryptionType, Error as ServiceError};
use zeroize::Zeroizing;

use super::{Keychain, KeychainError, Wish, bounded, read, written};
use crate::key::Key;

/// GNOME Keyring, KWallet, KeePassXC: whoever serves `org.freedesktop.secrets` in this session.
pub struct SecretService;

/// A secret goes over the bus encrypted: it does not lie about in the buffers of the connection.
fn connect() -> Result<Service<'static>, KeychainError> {
    Service::connect(EncryptionType::Dh).map_err(|error| told(&error))
}

fn told(error: &ServiceError) -> KeychainError {
    match error {
        ServiceError::Locked | ServiceError::Prompt => KeychainError::Locked,
        ServiceError::Unavailable => {
            KeychainError::absent("no Secret Service is running in this session")
        }
        // The bus is there, and nobody on it serves secrets.
        other if other.to_string().contains("ServiceUnknown") => {
            KeychainError::absent("no Secret Service is running in this session")
        }
        other => KeychainError::absent(other),
    }
}

/// The collection that new items go into, when it is open.
fn open_collection<'a>(service: &'a Service<'_>) -> Result<Collection<'a>, KeychainError> {
    let collection = match service.get_default_collection() {
        Err(ServiceError::NoResult) => {
            return Err(KeychainError::absent("it has no default collection"));
        }
        other => other.map_err(|error| told(&error))?,
    };
    if collection.is_locked().map_err(|error| told(&error))? {
        return Err(KeychainError::Locked);
    }
    Ok(collection)
}

fn attributes(item: &str) -> HashMap<&str, &str> {
    HashMap::from([("application", "aico"), ("item", item)])
}

/// Does something with the item. No item while something is locked says nothing: the answer may
/// be in there.
fn with_item<T>(
    item: &str,
    act: impl FnOnce(&Item<'_>) -> Result<T, ServiceError>,
) -> Result<Option<T>, KeychainError> {
    let service = connect()?;
    let found = service
        .search_items(attributes(item))
        .map_err(|error| told(&error))?;
    if let Some(item) = found.unlocked.first() {
        return act(item).map(Some).map_err(|error| told(&error));
    }
    if !found.locked.is_empty() {
        return Err(KeychainError::Locked);
    }
    for collection in service
        .get_all_collections()
        .map_err(|error| told(&error))?
    {
        if collection.is_locked().map_err(|error| told(&error))? {
            return Err(KeychainError::Locked);
        }
    }
    Ok(None)
}

impl Keychain for SecretService {
    fn backend(&self) -> &'static str {
        "secret-service"
    }

    fn name(&self) -> &'static str {
        "Secret Service (the desktop's keychain)"
    }

    fn probe(&self) -> Result<(), KeychainError> {
        bounded(|| open_collection(&connect()?).map(drop))
    }

    fn keep(&self, wish: &Wish) -> Result<(String, Key), KeychainError> {
        let (item, label) = (wish.item(), wish.label());
        bounded(move || {
            let service = connect()?;
            let collection = open_collection(&service)?;
            let key = Key::random();
            let text = written(&key);
            collection
                .create_item(
                    &label,
                    attributes(&item),
                    text.as_bytes(),
                    true,
                    "text/plain",
                )
                .map_err(|error| told(&error))?;
            Ok((item, key))
        })
    }

    fn load(&self, item: &str) -> Result<Key, KeychainError> {
        let item = item.to_owned();
        bounded(move || {
            let secret = with_item(&item, |item| item.get_secret())?.map(Zeroizing::new);
            let secret = secret.ok_or_else(|| KeychainError::changed("the item is not there"))?;
            read(&secret)
        })
    }

    fn remove(&self, item: &str) -> Result<(), KeychainError> {
        let item = item.to_owned();
        bounded(move || with_item(&item, |item| item.delete()).map(drop))
    }
}

/// A credential that systemd hands to the service, made and encrypted by the administrator.
pub struct SystemdCredential(Option<PathBuf>);

/// Its name in `LoadCredentialEncrypted=`.
const CREDENTIAL: &str = "aico-wrapping-key";

impl SystemdCredential {
    /// Those that this process was given.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self(std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from))
    }

    /// Those in a folder.
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self(Some(folder))
    }
}

impl Keychain for SystemdCredential {
    fn backend(&self) -> &'static str {
        "systemd-credential"
    }

    fn name(&self) -> &'static str {
        "credential of systemd"
    }

    fn probe(&self) -> Result<(), KeychainError> {
        self.load(CREDENTIAL).map(drop)
    }

    fn keep(&self, _: &Wish) -> Result<(String, Key), KeychainError> {
        Ok((CREDENTIAL.to_owned(), self.load(CREDENTIAL)?))
    }

    fn load(&self, item: &str) -> Result<Key, KeychainError> {
        let folder = self.0.as_ref();
        let folder = folder.ok_or_else(|| KeychainError::absent("systemd gave no credentials"))?;
        if item.contains('/') {
            return Err(KeychainError::changed("its name is none"));
        }
        match std::fs::read(folder.join(item)).map(Zeroizing::new) {
            Ok(bytes) => read(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(
                KeychainError::changed(format!("systemd gave no credential {item}")),
            ),
            Err(error) => Err(KeychainError::absent(error)),
        }
    }

    /// It belongs to the administrator, who made it.
    fn remove(&self, item: &str) -> Result<(), KeychainError> {
        match self.load(item) {
            Err(KeychainError::Absent { .. } | KeychainError::Changed { .. }) => Ok(()),
            _ => Err(KeychainError::changed(format!(
                "the credential {item} is the administrator's to remove"
            ))),
        }
    }
}

/// The kernel's keyring of this user: in memory only, gone with a restart of the machine and
/// with the user's last process.
pub struct KernelKeyring;

/// The user's keyring, reached from this session: only what is linked there can be read.
fn keyring() -> Result<KeyRing, KeychainError> {
    let open = || {
        let user = KeyRing::from_special_id(KeyRingIdentifier::User, true)?;
        let session = KeyRing::from_special_id(KeyRingIdentifier::Session, true)?;
        session.link_keyring(user)?;
        Ok(user)
    };
    open().map_err(|error: KeyError| {
        KeychainError::absent(format!("the kernel gives no keyring: {error:?}"))
    })
}

fn found(
    result: Result<linux_keyutils::Key, KeyError>,
) -> Result<linux_keyutils::Key, KeychainError> {
    result.map_err(|error| match error {
        KeyError::KeyDoesNotExist | KeyError::KeyExpired | KeyError::KeyRevoked => {
            KeychainError::changed("the key is not there; the kernel forgets it at a restart")
        }
        other => KeychainError::absent(format!("{other:?}")),
    })
}

impl Keychain for KernelKeyring {
    fn backend(&self) -> &'static str {
        "kernel-keyring"
    }

    fn name(&self) -> &'static str {
        "kernel's keyring"
    }

    fn probe(&self) -> Result<(), KeychainError> {
        keyring().map(drop)
    }

    fn keep(&self, wish: &Wish) -> Result<(String, Key), KeychainError> {
        let (item, key) = (wish.item(), Key::random());
        let added = keyring()?.add_key(&item, written(&key).as_bytes());
        found(added)?;
        Ok((item, key))
    }

    fn load(&self, item: &str) -> Result<Key, KeychainError> {
        let key = found(keyring()?.search(item))?;
        let mut bytes = Zeroizing::new([0_u8; 256]);
        let len = key
            .read(&mut *bytes)
            .map_err(|error| KeychainError::absent(format!("{error:?}")))?;
        read(bytes.get(..len).unwrap_or_default())
    }

    fn remove(&self, item: &str) -> Result<(), KeychainError> {
        let removed = found(keyring()?.search(item)).and_then(|key| {
            key.invalidate()
                .map_err(|error| KeychainError::absent(format!("{error:?}")))
        });
        match removed {
            Err(KeychainError::Changed { .. }) => Ok(()),
            other => other,
        }
    }
}
