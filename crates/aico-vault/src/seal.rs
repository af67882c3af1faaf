//! Sealed persons: without a wrap under the root key, so that nobody but they can open their key.
//!
//! Sealing makes a new key. The one before was under the root key, and a copy of the keyring from
//! then would still give it to whoever has the master password.

use std::sync::PoisonError;

use crate::error::FromContainer;
use crate::fs;
use crate::password::Password;
use crate::person::keyring_mac_key;
use crate::phrase::RecoveryPhrase;
use crate::vault::{Vault, set_password};
use crate::wrap::{Params, WrapKind};
use crate::{PersonKeyError, PersonKeys};

impl Vault {
    /// Whether only the person can open their key. Needs no secret.
    ///
    /// # Errors
    /// When their keyring can't be read.
    pub fn is_sealed(&self, id: [u8; 16]) -> Result<bool, PersonKeyError> {
        Ok(self.read_keyring(id)?.find(WrapKind::Root).is_none())
    }

    /// Epoch of a person's key. Needs no secret; what the file says is authentic once it is opened.
    ///
    /// # Errors
    /// When their keyring can't be read.
    pub fn key_epoch_of(&self, id: [u8; 16]) -> Result<u32, PersonKeyError> {
        Ok(self.read_keyring(id)?.epoch)
    }

    /// Seals a person: a new key, under their own password and a phrase of their own, and under
    /// nothing else. They stay signed in.
    ///
    /// # Errors
    /// [`PersonKeyError::WrongPassword`].
    pub fn seal_person(
        &self,
        id: [u8; 16],
        own: &Password,
    ) -> Result<(PersonKeys, RecoveryPhrase), PersonKeyError> {
        let keys = self.open_person_with_password(id, own)?;
        let (keys, phrase) = self.replace_person_key(id, &keys, Some(own), false, None)?;
        tracing::info!("a person is sealed");
        // Without a wrap under the root key there is a phrase.
        let phrase = phrase.ok_or(PersonKeyError::OutOfMemory)?;
        Ok((keys, phrase))
    }

    /// Puts a person's key under the root key again. Their phrase opens nothing any more.
    ///
    /// # Errors
    /// [`PersonKeyError::WrongPassword`].
    pub fn unseal_person(
        &self,
        id: [u8; 16],
        own: &Password,
    ) -> Result<PersonKeys, PersonKeyError> {
        let keys = self.open_person_with_password(id, own)?;
        self.change_keyring(id, &keys, |keyring| {
            keyring.set(Params::Root, self.person_kek(id).expose(), &keys.0.key);
            keyring.remove(WrapKind::OwnPhrase);
            Ok(())
        })?;
        self.lock_person(id);
        tracing::info!("a person is no longer sealed");
        Ok(keys)
    }

    /// Opens a sealed person's key with their own phrase and sets another password.
    ///
    /// # Errors
    /// [`PersonKeyError::WrongPassword`] when it is not their phrase, or they have none.
    pub fn recover_person(
        &self,
        id: [u8; 16],
        phrase: &RecoveryPhrase,
        new: &Password,
    ) -> Result<PersonKeys, PersonKeyError> {
        let keyring = self.read_keyring(id)?;
        let key = keyring
            .find(WrapKind::OwnPhrase)
            .and_then(|wrap| wrap.open(&keyring.fixed(), phrase.expose()))
            .ok_or(PersonKeyError::WrongPassword)?;
        let keys = self.checked(id, &keyring, key)?;
        self.change_keyring(id, &keys, |keyring| {
            let (cost, key) = (self.0.cost, &keys.0.key);
            set_password(keyring, Params::OwnPassword, new, cost, key)
                .map_err(|_| PersonKeyError::OutOfMemory)
        })?;
        Ok(keys)
    }

    fn change_keyring(
        &self,
        id: [u8; 16],
        keys: &PersonKeys,
        change: impl FnOnce(&mut crate::container::Container) -> Result<(), PersonKeyError>,
    ) -> Result<(), PersonKeyError> {
        let inner = &*self.0;
        let _writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.keyring_path(id);
        let mut keyring = self.read_keyring(id)?;
        let mac_key = keyring_mac_key(keys);
        if !keyring.authentic(&mac_key) {
            let reason = "it does not belong to the open key";
            return Err(PersonKeyError::damaged(&path, reason));
        }
        change(&mut keyring)?;
        let bytes = keyring.encode(&mac_key);
        Ok(fs::write_atomically(&*inner.fs, &path, &bytes)?)
    }

    /// A sealed person signed in: [`Self::open_person`] opens their key until
    /// [`Self::lock_person`]. For a person who is not sealed it does nothing.
    ///
    /// # Errors
    /// When their keyring can't be read.
    pub fn unlock_person(&self, keys: &PersonKeys) -> Result<(), PersonKeyError> {
        if self.is_sealed(keys.id())? {
            self.keep_unsealed(keys);
        }
        Ok(())
    }

    /// Forgets a sealed person's key. Tells whether there was one.
    pub fn lock_person(&self, id: [u8; 16]) -> bool {
        let mut all = self
            .0
            .unsealed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.remove(&id).is_some()
    }

    pub(crate) fn keep_unsealed(&self, keys: &PersonKeys) {
        let mut all = self
            .0
            .unsealed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.insert(keys.id(), keys.clone());
    }

    pub(crate) fn unsealed(&self, id: [u8; 16]) -> Option<PersonKeys> {
        let all = self
            .0
            .unsealed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.get(&id).cloned()
    }

    /// Sealed persons who are signed in.
    #[must_use]
    pub fn unsealed_persons(&self) -> Vec<[u8; 16]> {
        let all = self
            .0
            .unsealed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.keys().copied().collect()
    }
}
