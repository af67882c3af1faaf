//! Changing what opens the vault: passwords, phrase, and the owner's keyring with them.
//!
//! Re-wrapping rewrites the header or a keyring as a whole and no data. The old secret is dead
//! for this folder from then on; copies of the file made before still open with it, which only
//! a rotation of the root key ends.

use std::sync::PoisonError;

use crate::PersonKeyError;
use crate::container::Container;
use crate::error::{FromContainer, UnlockError};
use crate::fs;
use crate::kdf::OutOfMemory;
use crate::password::Password;
use crate::phrase::RecoveryPhrase;
use crate::vault::{
    HEADER, Inner, Secret, Vault, header_mac_key, open_header, read_header, set_password,
};
use crate::wrap::Params;

impl Vault {
    /// Sets another master password. The current one is asked for again, because an open vault
    /// is no proof of who is asking. Afterwards the current one no longer opens this folder;
    /// copies made before still open with it.
    ///
    /// # Errors
    /// [`UnlockError::WrongPassword`] when `current` is not the master password. After an error
    /// of the file system either password may be the one; there is always one of them.
    pub fn change_master_password(
        &self,
        current: &Password,
        new: &Password,
    ) -> Result<(), UnlockError> {
        self.rewrap(Some(&Secret::Password(current)), new)
    }

    /// Sets another master password on the strength of the recovery phrase.
    ///
    /// # Errors
    /// As [`Vault::change_master_password`], with [`UnlockError::WrongPhrase`].
    pub fn reset_master_password(
        &self,
        phrase: &RecoveryPhrase,
        new: &Password,
    ) -> Result<(), UnlockError> {
        self.rewrap(Some(&Secret::Phrase(phrase)), new)
    }

    /// As [`Vault::change_master_password`], for the person whose own password it is too.
    ///
    /// The keyring goes first: cut off in between, the current password is the master password
    /// still, and opens nothing that it should not. A keyring that is damaged or missing is passed
    /// over: the vault opens without it. One that is put back has the password of then, until the
    /// next change.
    ///
    /// # Errors
    /// As [`Vault::change_master_password`]; why the keyring can't be written.
    pub fn change_owner_password(
        &self,
        owner: [u8; 16],
        current: &Password,
        new: &Password,
    ) -> Result<(), OwnerPasswordError> {
        self.rewrap_owner(owner, &Secret::Password(current), new)
    }

    /// As [`Vault::reset_master_password`], for the person whose own password it is too.
    ///
    /// # Errors
    /// As [`Vault::change_owner_password`], with [`UnlockError::WrongPhrase`].
    pub fn reset_owner_password(
        &self,
        owner: [u8; 16],
        phrase: &RecoveryPhrase,
        new: &Password,
    ) -> Result<(), OwnerPasswordError> {
        self.rewrap_owner(owner, &Secret::Phrase(phrase), new)
    }

    pub(crate) fn rewrap_owner(
        &self,
        owner: [u8; 16],
        proof: &Secret<'_>,
        new: &Password,
    ) -> Result<(), OwnerPasswordError> {
        self.prove(proof)?;
        let keyring = self
            .open_person(owner)
            .and_then(|keys| self.change_person_password(owner, &keys, new));
        match keyring {
            Err(error @ (PersonKeyError::Damaged { .. } | PersonKeyError::Absent { .. })) => {
                tracing::warn!(%error, "the owner's keyring does not get the new master password");
            }
            done => done?,
        }
        // Proven above; nothing is hashed twice.
        Ok(self.rewrap(None, new)?)
    }

    fn rewrap(&self, proof: Option<&Secret<'_>>, new: &Password) -> Result<(), UnlockError> {
        self.rewrite_header(proof, |header, inner| {
            let roots = inner.roots();
            set_password(header, Params::MasterPassword, new, inner.cost, &roots.root)
                .map_err(|OutOfMemory| UnlockError::OutOfMemory)
        })?;
        tracing::info!("the master password was changed");
        Ok(())
    }

    /// Makes a new recovery phrase. The old one no longer opens this folder.
    ///
    /// # Errors
    /// As [`Vault::change_master_password`].
    pub fn new_recovery_phrase(&self, current: &Password) -> Result<RecoveryPhrase, UnlockError> {
        let phrase = RecoveryPhrase::random();
        self.rewrite_header(Some(&Secret::Password(current)), |header, inner| {
            header.set(Params::RecoveryPhrase, phrase.expose(), &inner.roots().root);
            Ok(())
        })?;
        tracing::info!("a new recovery phrase was made");
        Ok(phrase)
    }

    /// Whether this opens the header as it is now, and gives this vault's root key.
    pub(crate) fn prove(&self, proof: &Secret<'_>) -> Result<(), UnlockError> {
        let inner = &*self.0;
        let header = read_header(&*inner.fs, &inner.data)?;
        self.same_vault(open_header(&inner.data, &header, proof)? == inner.roots().root)
    }

    fn same_vault(&self, same: bool) -> Result<(), UnlockError> {
        let reason = "it was exchanged for another vault's";
        let path = self.0.data.join(HEADER);
        same.then_some(())
            .ok_or_else(|| UnlockError::damaged(&path, reason))
    }

    /// Reads the header, changes it and writes it as a whole. Without a proof the caller has
    /// asked for one before.
    pub(crate) fn rewrite_header<T>(
        &self,
        proof: Option<&Secret<'_>>,
        change: impl FnOnce(&mut Container, &Inner) -> Result<T, UnlockError>,
    ) -> Result<T, UnlockError> {
        let inner = &*self.0;
        let _writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut header = read_header(&*inner.fs, &inner.data)?;
        let mac_key = header_mac_key(&inner.roots().root);
        self.same_vault(match proof {
            Some(proof) => open_header(&inner.data, &header, proof)? == inner.roots().root,
            None => header.authentic(&mac_key),
        })?;
        let changed = change(&mut header, inner)?;
        let bytes = header.encode(&mac_key);
        fs::write_atomically(&*inner.fs, &inner.data.join(HEADER), &bytes)?;
        Ok(changed)
    }
}

/// The owner's password could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum OwnerPasswordError {
    /// The proof was wrong, or the header can't be used.
    #[error(transparent)]
    Vault(#[from] UnlockError),
    /// Their keyring can't be used.
    #[error(transparent)]
    Keyring(#[from] PersonKeyError),
}
