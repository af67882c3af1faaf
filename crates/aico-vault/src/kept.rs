//! Starting without a password: a wrap of the root key under a random key that a keychain keeps.

use std::path::Path;
use std::sync::Arc;

use crate::error::UnlockError;
use crate::fs::{Filesystem, OsFilesystem};
use crate::kdf::KdfCost;
use crate::key::Key;
use crate::keychain::{KEY_FILE, Kept, Keychain, KeychainError, Keychains, Wish};
use crate::password::Password;
use crate::vault::{Secret, Vault, open_header, read_header};
use crate::wrap::{Params, Wrap};

/// A vault did not open with what is kept for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeptError {
    /// Nothing is kept for it: it opens with the password.
    #[error("no keychain holds a key for this vault")]
    Nothing,
    /// The place did not give the key.
    #[error("{} can't be used", kept.backend())]
    Keychain {
        /// Where the key is kept.
        kept: Kept,
        /// In which state that is.
        #[source]
        source: KeychainError,
    },
    /// The header, or something behind it.
    #[error(transparent)]
    Vault(#[from] UnlockError),
}

/// A key could not be left in a keychain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RememberError {
    /// The keychain does not take it.
    #[error("the keychain can't be used")]
    Keychain(#[from] KeychainError),
    /// The proof was wrong, or the header can't be written.
    #[error(transparent)]
    Vault(#[from] UnlockError),
}

/// What became of the items of wraps that are gone.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// Places whose wrap was taken out of the header.
    pub taken: Vec<Kept>,
    /// Those of them whose item could not be removed. It opens nothing here any more; with a
    /// copy of the header made before, it does.
    pub left: Vec<(Kept, KeychainError)>,
}

/// A key that the header says is kept, and whether it opens the vault.
pub type Checked = (Kept, Result<(), KeychainError>);

impl Vault {
    /// Unlocks with what a keychain keeps. Whatever state the keychain is in, nothing is made
    /// anew: the vault stays as it is, and opens with the password.
    ///
    /// # Errors
    /// [`KeptError::Keychain`] with the state; [`KeptError::Nothing`] when nobody asked for this.
    pub fn unlock_kept(
        data: &Path,
        keychains: &Keychains,
        cost: KdfCost,
    ) -> Result<Self, KeptError> {
        Self::unlock_kept_on(Arc::new(OsFilesystem), data, keychains, cost)
    }

    pub(crate) fn unlock_kept_on(
        fs: Arc<dyn Filesystem>,
        data: &Path,
        keychains: &Keychains,
        cost: KdfCost,
    ) -> Result<Self, KeptError> {
        let header = read_header(&*fs, data)?;
        let mut first = None;
        for kept in header.wraps.iter().filter_map(Wrap::kept) {
            let opened = load(keychains, &kept).and_then(|key| {
                let secret = Secret::Kept(&kept, &key);
                match Self::unlock_on(Arc::clone(&fs), data, &secret, cost) {
                    Err(UnlockError::WrongKey) => Err(wrong()),
                    other => Ok(other),
                }
            });
            match opened {
                Ok(vault) => return Ok(vault?),
                Err(source) => _ = first.get_or_insert(KeptError::Keychain { kept, source }),
            }
        }
        Err(first.unwrap_or(KeptError::Nothing))
    }

    /// Tries each keychain that the header names, without unlocking anything.
    ///
    /// # Errors
    /// When the header can't be read.
    pub fn check_kept(data: &Path, keychains: &Keychains) -> Result<Vec<Checked>, UnlockError> {
        let header = read_header(&OsFilesystem, data)?;
        let kept = header.wraps.iter().filter_map(Wrap::kept);
        kept.map(|kept| {
            let state = match load(keychains, &kept) {
                Ok(key) => match open_header(data, &header, &Secret::Kept(&kept, &key)) {
                    Ok(_) => Ok(()),
                    Err(UnlockError::WrongKey) => Err(wrong()),
                    Err(error) => return Err(error),
                },
                Err(state) => Err(state),
            };
            Ok((kept, state))
        })
        .collect()
    }

    /// Leaves a key in a keychain from which this vault opens without a person, in the place of
    /// all that were left before.
    ///
    /// The key is read back before the header relies on it, and the old one is removed only when
    /// the header no longer does: cut off anywhere, what worked before works.
    ///
    /// # Errors
    /// [`UnlockError::WrongPassword`]; the state of the keychain. Then nothing has changed.
    pub fn remember(
        &self,
        master: &Password,
        keychain: &dyn Keychain,
        keychains: &Keychains,
    ) -> Result<(Kept, Forgotten), RememberError> {
        self.prove(&Secret::Password(master))?;
        let (item, key) = keychain.keep(&Wish::new(self.id()))?;
        let kept = Self::left_in(keychain, item.clone())?;
        let written = keychain
            .load(&item)
            .and_then(|again| if again == key { Ok(()) } else { Err(wrong()) })
            .map_err(RememberError::from)
            .and_then(|()| {
                Ok(self.rewrite_header(None, |header, inner| {
                    let old = header.take_kept();
                    let params = Params::from(kept.clone());
                    header.push(params, key.expose(), &inner.roots().root);
                    Ok(old)
                })?)
            });
        match written {
            Ok(mut old) => {
                old.retain(|old| *old != kept);
                tracing::info!(
                    backend = kept.backend(),
                    "a keychain opens this vault from now on"
                );
                Ok((kept, clear(keychains, old)))
            }
            Err(error) => {
                // Only when the header is known not to have it: otherwise it stays, and is of use.
                let header = read_header(&*self.0.fs, self.data());
                let is_kept = |wrap: &Wrap| wrap.kept().as_ref() == Some(&kept);
                if header.is_ok_and(|header| !header.wraps.iter().any(is_kept)) {
                    let _ = keychain.remove(&item);
                }
                Err(error)
            }
        }
    }

    pub(crate) fn left_in(keychain: &dyn Keychain, item: String) -> Result<Kept, KeychainError> {
        if keychain.backend() != KEY_FILE {
            return Ok(Kept::Keychain {
                backend: keychain.backend().to_owned(),
                item,
            });
        }
        let id = hex::decode(&item).ok().and_then(|id| id.try_into().ok());
        id.map(|id| Kept::KeyFile { id })
            .ok_or_else(|| KeychainError::wrong("the file has no id"))
    }

    /// Opens with the password alone from now on: the wraps first, then the keychain's items.
    ///
    /// # Errors
    /// [`UnlockError::WrongPassword`]; what is wrong with the header.
    pub fn forget(
        &self,
        master: &Password,
        keychains: &Keychains,
    ) -> Result<Forgotten, UnlockError> {
        let proof = Secret::Password(master);
        let taken = self.rewrite_header(Some(&proof), |header, _| Ok(header.take_kept()))?;
        tracing::info!("this vault opens with the password alone from now on");
        Ok(clear(keychains, taken))
    }
}

pub(crate) fn wrong() -> KeychainError {
    KeychainError::wrong("it is another one")
}

fn load(keychains: &Keychains, kept: &Kept) -> Result<Key, KeychainError> {
    place(keychains, kept)?.load(&kept.item())
}

pub(crate) fn place<'a>(
    keychains: &'a Keychains,
    kept: &Kept,
) -> Result<&'a dyn Keychain, KeychainError> {
    keychains
        .named(kept.backend())
        .ok_or_else(|| KeychainError::absent("this system has no such keychain"))
}

pub(crate) fn clear(keychains: &Keychains, taken: Vec<Kept>) -> Forgotten {
    let left = taken.iter().filter_map(|kept| {
        let removed = place(keychains, kept).and_then(|place| place.remove(&kept.item()));
        removed.err().map(|state| (kept.clone(), state))
    });
    Forgotten {
        left: left.collect(),
        taken,
    }
}
