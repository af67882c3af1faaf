//! The keychain of macOS and the Credential Manager of Windows, through `keyring-core`.

use std::sync::Arc;

use keyring_core::Error;
use keyring_core::api::CredentialStoreApi as _;
use zeroize::Zeroizing;

use super::{Keychain, KeychainError, Wish, bounded, read, written};
use crate::key::Key;

#[cfg(target_os = "macos")]
use apple_native_keyring_store::keychain::Store;
#[cfg(windows)]
use windows_native_keyring_store::Store;

/// The login keychain, or the user's Credential Manager.
pub struct NativeKeychain;

const SERVICE: &str = "aico";

fn store() -> Result<Arc<Store>, KeychainError> {
    Store::new().map_err(told)
}

fn entry(item: &str) -> Result<keyring_core::Entry, KeychainError> {
    store()?.build(SERVICE, item, None).map_err(told)
}

fn told(error: Error) -> KeychainError {
    match error {
        Error::NoEntry => KeychainError::changed("the item is not there"),
        // macOS: interaction is not allowed, the dialogue was closed, or its password was wrong.
        Error::PlatformFailure(why)
            if cfg!(target_os = "macos")
                && ["-25308", "-25293", "-128"]
                    .iter()
                    .any(|code| format!("{why:?}").contains(code)) =>
        {
            KeychainError::Locked
        }
        other => KeychainError::absent(other),
    }
}

impl Keychain for NativeKeychain {
    fn backend(&self) -> &'static str {
        if cfg!(windows) {
            "windows-credential-manager"
        } else {
            "macos-keychain"
        }
    }

    fn name(&self) -> &'static str {
        if cfg!(windows) {
            "Windows Credential Manager"
        } else {
            "macOS Keychain"
        }
    }

    fn probe(&self) -> Result<(), KeychainError> {
        bounded(|| store().map(drop))
    }

    fn keep(&self, wish: &Wish) -> Result<(String, Key), KeychainError> {
        let item = wish.item();
        bounded(move || {
            let key = Key::random();
            let kept = entry(&item)?.set_secret(written(&key).as_bytes());
            kept.map_err(told)?;
            Ok((item, key))
        })
    }

    fn load(&self, item: &str) -> Result<Key, KeychainError> {
        let item = item.to_owned();
        bounded(move || {
            let secret = entry(&item)?.get_secret().map_err(told)?;
            read(&Zeroizing::new(secret))
        })
    }

    fn remove(&self, item: &str) -> Result<(), KeychainError> {
        let item = item.to_owned();
        bounded(move || match entry(&item)?.delete_credential() {
            Ok(()) | Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(told(error)),
        })
    }
}
