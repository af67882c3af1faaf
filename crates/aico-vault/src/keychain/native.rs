//! The keychain of macOS and the Credential Manager of Windows, through `keyring-core`.

use std::collections::HashMap;
use std::sync::Arc;
#[cfg(target_os = "macos")]
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyring_core::Error;
use keyring_core::api::CredentialStoreApi as _;
use zeroize::Zeroizing;

use super::{Keychain, KeychainError, Wish, bounded, read, written};
use crate::key::Key;

#[cfg(target_os = "macos")]
use apple_native_keyring_store::keychain::Store;
#[cfg(target_os = "macos")]
use security_framework::os::macos::keychain::{KeychainUserInteractionLock, SecKeychain};
#[cfg(windows)]
use windows_native_keyring_store::Store;

/// The login keychain, or the user's Credential Manager.
pub struct NativeKeychain;

const SERVICE: &str = "aico";
/// What a vault's item is never called.
const NO_ITEM: &str = "aico-probe";

fn store() -> Result<Arc<Store>, KeychainError> {
    Store::new().map_err(told)
}

fn entry(item: &str) -> Result<keyring_core::Entry, KeychainError> {
    let how = if cfg!(windows) {
        // Otherwise it goes along to every machine that this user signs in to.
        HashMap::from([("persistence", "Local")])
    } else {
        HashMap::new()
    };
    store()?.build(SERVICE, item, Some(&how)).map_err(told)
}

/// Asks the system, which opens no dialogue meanwhile and ends by itself.
fn ask<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, KeychainError> + Send + 'static,
) -> Result<T, KeychainError> {
    bounded(move || {
        #[cfg(target_os = "macos")]
        let _quiet = quiet()?;
        call()
    })
}

/// As long as this lives a locked keychain says so, instead of asking whoever sits there for its
/// password. The switch is the process's, and the first that lets go of it turns it back: one call
/// at a time.
#[cfg(target_os = "macos")]
fn quiet() -> Result<(KeychainUserInteractionLock, MutexGuard<'static, ()>), KeychainError> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let quiet = SecKeychain::disable_user_interaction().map_err(KeychainError::absent)?;
    // Dropped in this order.
    Ok((quiet, alone))
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
        ask(|| match entry(NO_ITEM)?.get_secret().map(Zeroizing::new) {
            Ok(_) | Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(told(error)),
        })
    }

    fn keep(&self, wish: &Wish) -> Result<(String, Key), KeychainError> {
        let item = wish.item();
        ask(move || {
            let key = Key::random();
            let kept = entry(&item)?.set_secret(written(&key).as_bytes());
            kept.map_err(told)?;
            Ok((item, key))
        })
    }

    fn load(&self, item: &str) -> Result<Key, KeychainError> {
        let item = item.to_owned();
        ask(move || {
            let secret = entry(&item)?.get_secret().map_err(told)?;
            read(&Zeroizing::new(secret))
        })
    }

    fn remove(&self, item: &str) -> Result<(), KeychainError> {
        let item = item.to_owned();
        ask(move || match entry(&item)?.delete_credential() {
            Ok(()) | Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(told(error)),
        })
    }
}
