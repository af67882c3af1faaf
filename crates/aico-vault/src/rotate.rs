//! Changing keys themselves: a new root key, a new key of a person.
//!
//! **One write decides.** The header is replaced as a whole by one that has the new root key under
//! all that may open it, and the root key before it under the new one. From then on everything is
//! written under the new key, and what is still under the old one can be read, as long as the
//! header says so: the header is the plan, and survives whatever ends the process. When nothing is
//! under the old key any more, [`Vault::finish_rotation`] takes it out. There is no moment without
//! a valid wrap, and the new root key is never under the old one.
//!
//! A person's keyring changes in the same way. The keys before stay in it, under the present one:
//! an encrypted file that lies elsewhere can be opened and never be rewritten from here.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use crate::container::{Container, Form};
use crate::derive::{self, Label, Owner, Purpose};
use crate::error::{FromContainer, UnlockError};
use crate::fs;
use crate::kdf::OutOfMemory;
use crate::kept::{clear, place, wrong};
use crate::key::Key;
use crate::keychain::{Kept, KeychainError, Keychains, Wish};
use crate::password::Password;
use crate::person::{PersonInner, earlier_kek, keyring_mac_key};
use crate::phrase::RecoveryPhrase;
use crate::vault::{
    HEADER, Roots, Secret, Vault, header_mac_key, open_header, read_header, set_password,
};
use crate::wrap::{Params, Wrap, WrapKind};
use crate::{PersonKeyError, PersonKeys, RegistryError};

/// Keys of a person before the present one that are kept, at most. A keyring has room for 64 wraps.
const EARLIER_MOST: usize = 48;

/// Which key a store is under: the epoch of the key above it, and the version of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId {
    /// Epoch of the root key, or of the person's.
    pub epoch: u32,
    /// Version in the label; rises when this key alone is changed.
    pub version: u16,
}

impl KeyId {
    /// The first version under a key.
    #[must_use]
    pub fn first_of(epoch: u32) -> Self {
        Self { epoch, version: 1 }
    }

    /// The next key under the same parent.
    #[must_use]
    pub fn next(self) -> Self {
        Self {
            version: self.version.saturating_add(1),
            ..self
        }
    }

    /// As the registry keeps it. Never 0.
    #[must_use]
    pub fn number(self) -> u64 {
        u64::from(self.epoch) << 16 | u64::from(self.version)
    }

    /// From the registry. `None`: no key was ever changed when it was written.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        let (epoch, version) = (u32::try_from(number >> 16).ok()?, (number & 0xffff) as u16);
        (number != 0).then_some(Self { epoch, version })
    }
}

/// A root key could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// The change before this one is not finished.
    #[error("the root key is being changed already")]
    Unfinished,
    /// The proof was wrong, or the header can't be used.
    #[error(transparent)]
    Vault(#[from] UnlockError),
}

/// The root key is another one from now on.
pub struct Rotated {
    /// The new recovery phrase. The one before can't be wrapped again: nobody has it.
    pub phrase: RecoveryPhrase,
    /// Keychains that hold a key for the new root key.
    pub kept: Vec<Kept>,
    /// Keychains that could not be given one, or gave the one from before, and why: it starts with
    /// the password.
    pub dropped: Vec<(Kept, KeychainError)>,
    /// Items in keychains that could not be removed.
    pub left: Vec<(Kept, KeychainError)>,
}

impl Vault {
    /// Makes a new root key and replaces the header. What is under the old key stays readable
    /// until [`Self::finish_rotation`].
    ///
    /// # Errors
    /// [`UnlockError::WrongPassword`]; [`RotateError::Unfinished`]. After an error of the file
    /// system the old header may be in place or the new one: whichever it is, it opens everything.
    pub fn begin_rotation(
        &self,
        master: &Password,
        keychains: &Keychains,
    ) -> Result<Rotated, RotateError> {
        let inner = &*self.0;
        let writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = read_header(&*inner.fs, &inner.data)?;
        let root = open_header(&inner.data, &old, &Secret::Password(master))?;
        // `writing` keeps everything else from changing the root key; asking keychains takes time
        // in which others derive keys.
        let before_epoch = {
            let roots = inner.roots();
            if root != roots.root {
                let reason = "it was exchanged for another vault's";
                return Err(UnlockError::damaged(&inner.data.join(HEADER), reason).into());
            }
            if roots.earlier.is_some() {
                return Err(RotateError::Unfinished);
            }
            roots.epoch
        };
        let epoch = before_epoch + 1;
        let new = Key::random();
        let phrase = RecoveryPhrase::random();
        let mut header = Container::new(Form::Header, epoch, inner.id, [0; 16]);
        set_password(
            &mut header,
            Params::MasterPassword,
            master,
            inner.cost,
            &new,
        )
        .map_err(|OutOfMemory| UnlockError::OutOfMemory)?;
        header.set(Params::RecoveryPhrase, phrase.expose(), &new);
        let (mut kept, mut dropped, mut before) = (Vec::new(), Vec::new(), Vec::new());
        for known in old.wraps.iter().filter_map(Wrap::kept) {
            let again = self.keep_again(&known, keychains).and_then(|(place, key)| {
                let opens = |wrap: &Wrap| wrap.open(&old.fixed(), key.expose()).is_some();
                match old.wraps.iter().any(opens) {
                    true => Err(the_same()),
                    false => Ok((place, key)),
                }
            });
            match again {
                Ok((place, key)) => {
                    header.push(Params::from(place.clone()), key.expose(), &new);
                    kept.push(place);
                }
                Err(state) => dropped.push((known.clone(), state)),
            }
            before.push(known);
        }
        header.set(
            Params::EarlierRoot {
                epoch: before_epoch,
            },
            earlier_root_kek(&new).expose(),
            &root,
        );
        let path = inner.data.join(HEADER);
        let bytes = header.encode(&header_mac_key(&new));
        let written = fs::write_atomically(&*inner.fs, &path, &bytes);
        if let Err(error) = written {
            // Which of the two is there decides which key is the present one.
            let there = read_header(&*inner.fs, &inner.data);
            if !there.is_ok_and(|there| there.epoch == epoch) {
                for place_ in &kept {
                    let _ = place(keychains, place_).and_then(|at| at.remove(&place_.item()));
                }
                return Err(UnlockError::from(error).into());
            }
            tracing::warn!(%error, "the new header is in place and may not be durable yet");
        }
        *inner.roots_mut() = Roots {
            root: new,
            epoch,
            earlier: Some((before_epoch, root)),
        };
        drop(writing);
        tracing::info!(epoch, "there is a new root key");
        before.retain(|known| !kept.contains(known));
        let left = clear(keychains, before).left;
        Ok(Rotated {
            phrase,
            kept,
            dropped,
            left,
        })
    }

    /// A new key in the place that holds one now, read back before anything relies on it.
    fn keep_again(
        &self,
        known: &Kept,
        keychains: &Keychains,
    ) -> Result<(Kept, Key), KeychainError> {
        let keychain = place(keychains, known)?;
        let (item, key) = keychain.keep(&Wish::new(self.id()))?;
        let again = keychain.load(&item);
        if !again.is_ok_and(|again| again == key) {
            let _ = keychain.remove(&item);
            return Err(wrong());
        }
        Ok((Self::left_in(keychain, item)?, key))
    }

    /// The epoch of the root key that is being replaced, as long as something may be under it.
    #[must_use]
    pub fn earlier_epoch(&self) -> Option<u32> {
        self.0.roots().earlier.as_ref().map(|(epoch, _)| *epoch)
    }

    /// Makes sure that the header with the new key is durable; the first step after a start.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn settle_header(&self) -> Result<(), UnlockError> {
        self.rewrite_header(None, |_, _| Ok(()))
    }

    /// Writes the registry anew under the present root key.
    ///
    /// # Errors
    /// When it can't be written; then unlock again.
    pub fn rekey_registry(&self) -> Result<(), RegistryError> {
        let inner = &*self.0;
        inner.registry.rekey(&inner.roots(), inner.id)
    }

    /// Wraps a person's key under the present root key. Tells whether there was anything to do.
    ///
    /// # Errors
    /// When their keyring can't be used.
    pub fn rewrap_person(&self, id: [u8; 16]) -> Result<bool, PersonKeyError> {
        let inner = &*self.0;
        let _writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keyring = self.read_keyring(id)?;
        let kek = self.person_kek(id);
        match keyring.find(WrapKind::Root) {
            None => return Ok(false),
            Some(wrap) if wrap.open(&keyring.fixed(), kek.expose()).is_some() => return Ok(false),
            Some(_) => {}
        }
        let keys = self.open_person(id)?;
        keyring.set(Params::Root, kek.expose(), &keys.0.key);
        let bytes = keyring.encode(&keyring_mac_key(&keys));
        fs::write_atomically(&*inner.fs, &self.keyring_path(id), &bytes)?;
        Ok(true)
    }

    /// Forgets the root key before this one: nothing is under it any more.
    ///
    /// # Errors
    /// When the header can't be written; then nothing was forgotten.
    pub fn finish_rotation(&self) -> Result<(), UnlockError> {
        self.rewrite_header(None, |header, _| {
            header.remove(WrapKind::EarlierRoot);
            Ok(())
        })?;
        let inner = &*self.0;
        let mut roots = inner.roots_mut();
        roots.earlier = None;
        inner.registry.forget_earlier(&roots, inner.id);
        tracing::info!("nothing is under the root key before this one any more");
        Ok(())
    }

    /// A new key for a person. The keys before stay in the keyring, under the new one.
    ///
    /// Their own password can't be wrapped around it by anybody but them: without it (`own`), it
    /// goes on proving itself by the key before, and wraps the new one when they sign in. An own
    /// phrase is replaced by a new one.
    ///
    /// # Errors
    /// [`PersonKeyError::Sealed`] for a sealed person without their password;
    /// [`PersonKeyError::WrongPassword`].
    pub fn rotate_person(
        &self,
        id: [u8; 16],
        own: Option<&Password>,
    ) -> Result<(PersonKeys, Option<RecoveryPhrase>), PersonKeyError> {
        let keys = match own {
            Some(own) => self.open_person_with_password(id, own)?,
            None => self.open_person(id)?,
        };
        let root = self.read_keyring(id)?.find(WrapKind::Root).is_some();
        self.replace_person_key(id, &keys, own, root, None)
    }

    /// A new key for a sealed person who has just given their own phrase, which stays theirs.
    ///
    /// # Errors
    /// [`PersonKeyError::WrongPassword`], also when it is not their phrase.
    pub fn rotate_recovered(
        &self,
        id: [u8; 16],
        own: &Password,
        phrase: &RecoveryPhrase,
    ) -> Result<PersonKeys, PersonKeyError> {
        let keys = self.open_person_with_password(id, own)?;
        let keyring = self.read_keyring(id)?;
        let theirs = keyring
            .find(WrapKind::OwnPhrase)
            .and_then(|wrap| wrap.open(&keyring.fixed(), phrase.expose()));
        if theirs.is_none() {
            return Err(PersonKeyError::WrongPassword);
        }
        let changed = self.replace_person_key(id, &keys, Some(own), false, Some(phrase))?;
        Ok(changed.0)
    }

    /// Writes a keyring with a new key, under the root key or not; then under a new phrase, unless
    /// the present one is in hand and kept.
    pub(crate) fn replace_person_key(
        &self,
        id: [u8; 16],
        keys: &PersonKeys,
        own: Option<&Password>,
        root: bool,
        kept: Option<&RecoveryPhrase>,
    ) -> Result<(PersonKeys, Option<RecoveryPhrase>), PersonKeyError> {
        if !root && own.is_none() {
            return Err(PersonKeyError::Sealed {
                id: hex::encode(id),
            });
        }
        let inner = &*self.0;
        let _writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.keyring_path(id);
        let old = self.read_keyring(id)?;
        if keys.id() != id || !old.authentic(&keyring_mac_key(keys)) {
            let reason = "it does not belong to the open key";
            return Err(PersonKeyError::damaged(&path, reason));
        }
        let epoch = old.epoch + 1;
        let key = Key::random();
        let mut keyring = Container::new(Form::Keyring, epoch, inner.id, id);
        if root {
            keyring.set(Params::Root, self.person_kek(id).expose(), &key);
        }
        match own {
            Some(own) => set_password(&mut keyring, Params::OwnPassword, own, inner.cost, &key)
                .map_err(|OutOfMemory| PersonKeyError::OutOfMemory)?,
            None => {
                let wraps = old.wraps.iter();
                keyring
                    .wraps
                    .extend(wraps.filter_map(|wrap| wrap.retired(old.epoch)));
            }
        }
        let phrase = (!root && kept.is_none()).then(RecoveryPhrase::random);
        if let Some(phrase) = kept.filter(|_| !root).or(phrase.as_ref()) {
            keyring.set(Params::OwnPhrase, phrase.expose(), &key);
        }
        let kek = earlier_kek(&key, id);
        let mut earlier = Vec::new();
        let before = std::iter::once((keys.0.epoch, &keys.0.key))
            .chain(keys.0.earlier.iter().map(|(epoch, key)| (*epoch, key)));
        for (epoch, before) in before.take(EARLIER_MOST) {
            keyring.push(Params::EarlierKey { epoch }, kek.expose(), before);
            earlier.push((epoch, Key::from_bytes(before.expose())));
        }
        let new = PersonKeys(Arc::new(PersonInner {
            id,
            epoch,
            key,
            earlier,
        }));
        let bytes = keyring.encode(&keyring_mac_key(&new));
        fs::write_atomically(&*inner.fs, &path, &bytes)?;
        self.drop_prompt_cache(id);
        if !root {
            self.keep_unsealed(&new);
        }
        Ok((new, phrase))
    }

    /// The key of `system.db` that has this number; `None` when its root key is gone.
    #[must_use]
    pub fn store_key(&self, which: KeyId) -> Option<Key> {
        let label = Label::new(Purpose::SystemDatabase, Owner::System).with_version(which.version);
        let roots = self.0.roots();
        Some(derive::derive(
            roots.of(which.epoch)?,
            derive::ROOT_SALT,
            &label,
        ))
    }
}

impl PersonKeys {
    /// The key of `person.db` that has this number; `None` when their key of then is gone.
    #[must_use]
    pub fn store_key(&self, which: KeyId) -> Option<Key> {
        let label = Label::new(Purpose::PersonDatabase, Owner::Person(self.id()))
            .with_version(which.version);
        Some(derive::derive(
            self.of(which.epoch)?,
            derive::PERSON_SALT,
            &label,
        ))
    }
}

/// A place where others make the key: whoever has it from before would open the new header too.
fn the_same() -> KeychainError {
    KeychainError::wrong(
        "it is the key from before, which must not open what is new; the administrator has to make \
         a new credential first and start AICO with it, then: aico vault remember",
    )
}

/// Under what a root key wraps the one before it.
fn earlier_root_kek(root: &Key) -> Key {
    let label = Label::new(Purpose::EarlierKey, Owner::System);
    derive::derive(root, derive::ROOT_SALT, &label)
}

/// The root key before this one, when the header says that something is still under it.
pub(crate) fn earlier_root(
    data: &Path,
    header: &Container,
    root: &Key,
) -> Result<Option<(u32, Key)>, UnlockError> {
    let Some(wrap) = header.find(WrapKind::EarlierRoot) else {
        return Ok(None);
    };
    let opened = wrap
        .earlier()
        .zip(wrap.open(&header.fixed(), earlier_root_kek(root).expose()));
    opened.map(Some).ok_or_else(|| {
        let reason = "the wrap of the root key before this one does not open";
        UnlockError::damaged(&data.join(HEADER), reason)
    })
}
