//! Keyrings on their way into an archive and out of it, as the bytes they are.

use std::sync::PoisonError;

use crate::container::{self, Container, Form};
use crate::error::{FromContainer, PersonKeyError};
use crate::fs::{self, Kind};
use crate::vault::{PERSONS, Vault};
use crate::wrap::WrapKind;

/// A person's keyring as it lies on the disk. Everything in it is sealed.
pub struct KeyringOf {
    /// Whose it is.
    pub person: [u8; 16],
    /// Whether the root key opens it; without, only the person does.
    pub opens_unattended: bool,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Vault {
    /// A person's keyring, for an archive.
    ///
    /// # Errors
    /// [`PersonKeyError::Absent`], damage, and what the system says.
    pub fn keyring_of(&self, person: [u8; 16]) -> Result<KeyringOf, PersonKeyError> {
        let inner = &*self.0;
        let _writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let keyring = self.read_keyring(person)?;
        let path = self.keyring_path(person);
        let bytes = fs::read_private(&*inner.fs, &path, container::MAX_BYTES)?;
        let bytes = bytes.ok_or_else(|| PersonKeyError::Absent {
            id: hex::encode(person),
        })?;
        Ok(KeyringOf {
            person,
            opens_unattended: keyring.find(WrapKind::Root).is_some(),
            bytes,
        })
    }

    /// Puts a keyring from an archive of this vault's where there is none, and makes the person's
    /// folder. Where the root key opens it, it is opened to see that it is whole.
    ///
    /// # Errors
    /// [`PersonKeyError::Exists`], damage, and what the system says.
    pub fn put_keyring(&self, person: [u8; 16], bytes: &[u8]) -> Result<KeyringOf, PersonKeyError> {
        let inner = &*self.0;
        let path = self.keyring_path(person);
        let keyring = Container::decode(Form::Keyring, bytes)
            .map_err(|why| PersonKeyError::unreadable(&path, &why))?;
        if keyring.vault != inner.id || keyring.person != person {
            let reason = "it is the keyring of another person or vault";
            return Err(PersonKeyError::damaged(&path, reason));
        }
        {
            let _writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
            fs::ensure_folder(&*inner.fs, &inner.data.join(PERSONS))?;
            fs::ensure_folder(&*inner.fs, &self.person_folder(person))?;
            if fs::probe_private(&*inner.fs, &path, Kind::File)?.is_some() {
                return Err(PersonKeyError::Exists {
                    id: hex::encode(person),
                });
            }
            fs::write_atomically(&*inner.fs, &path, bytes)?;
        }
        let opens_unattended = keyring.find(WrapKind::Root).is_some();
        if opens_unattended {
            self.open_person(person)?;
        }
        Ok(KeyringOf {
            person,
            opens_unattended,
            bytes: bytes.to_vec(),
        })
    }
}
