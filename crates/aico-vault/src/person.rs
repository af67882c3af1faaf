//! A person's key: made, opened, re-wrapped, erased.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use crate::container::{self, Container, Form};
use crate::derive::{self, Label, Owner, Purpose};
use crate::error::{FromContainer, FromHash, PersonKeyError, VaultError};
use crate::fs::{self, Context, FileError, Kind};
use crate::kdf::OutOfMemory;
use crate::key::{Key, random_bytes};
use crate::password::Password;
use crate::vault::{PERSONS, Vault, set_password};
use crate::wrap::{Params, WrapKind};

/// The keyring's file name in a person's folder.
const KEYRING: &str = "keyring";
/// The folder of kept prompts in a person's folder.
const PROMPT_CACHE: &str = "prompt-cache";

/// Where the registry counts how often a person's kept prompts were given other names.
fn prompt_cache_mark(id: [u8; 16]) -> String {
    format!("prompt-cache/{}", hex::encode(id))
}

/// A person's key, open. Clones share it; it is wiped when the last of them is dropped.
#[derive(Clone)]
pub struct PersonKeys(pub(crate) Arc<PersonInner>);

pub(crate) struct PersonInner {
    pub(crate) id: [u8; 16],
    pub(crate) epoch: u32,
    pub(crate) key: Key,
    /// The keys before it, newest first: what lies outside of the home may be under them.
    pub(crate) earlier: Vec<(u32, Key)>,
}

impl PersonKeys {
    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.0.id
    }

    /// Epoch of their key: rises by one with each rotation of it.
    #[must_use]
    pub fn key_epoch(&self) -> u32 {
        self.0.epoch
    }

    /// The person's key of an epoch, if it is known.
    pub(crate) fn of(&self, epoch: u32) -> Option<&Key> {
        if epoch == self.0.epoch {
            return Some(&self.0.key);
        }
        let earlier = self.0.earlier.iter().find(|(known, _)| *known == epoch);
        earlier.map(|(_, key)| key)
    }

    pub(crate) fn earlier(&self) -> impl Iterator<Item = &Key> {
        self.0.earlier.iter().map(|(_, key)| key)
    }

    /// As [`Self::derive_with`], from the person's key of an earlier epoch: for what was encrypted
    /// before a rotation and lies where nobody could rewrite it.
    #[must_use]
    pub fn derive_of(&self, epoch: u32, purpose: Purpose, context: &[u8]) -> Option<Key> {
        let label = Label::new(purpose, Owner::Person(self.0.id)).with_context(context);
        Some(derive::derive(self.of(epoch)?, derive::PERSON_SALT, &label))
    }

    /// The key for a purpose of this person's.
    #[must_use]
    pub fn derive(&self, purpose: Purpose) -> Key {
        self.derive_label(Label::new(purpose, Owner::Person(self.0.id)))
    }

    /// The key for a purpose, bound to something more: a file id, the salt of an environment.
    #[must_use]
    pub fn derive_with(&self, purpose: Purpose, context: &[u8]) -> Key {
        self.derive_label(Label::new(purpose, Owner::Person(self.0.id)).with_context(context))
    }

    pub(crate) fn derive_label(&self, label: Label) -> Key {
        derive::derive(&self.0.key, derive::PERSON_SALT, &label)
    }
}

impl Vault {
    /// Makes a key for a person, wrapped under the root key and under their own password.
    ///
    /// # Errors
    /// [`PersonKeyError::Exists`] when there is a keyring of this id.
    pub fn create_person(
        &self,
        id: [u8; 16],
        own: &Password,
    ) -> Result<PersonKeys, PersonKeyError> {
        let inner = &*self.0;
        let _writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.keyring_path(id);
        if inner.fs.probe(&path).on("read", &path)?.is_some() {
            return Err(PersonKeyError::Exists {
                id: hex::encode(id),
            });
        }
        fs::ensure_folder(&*inner.fs, &inner.data.join(PERSONS))?;
        fs::ensure_folder(&*inner.fs, &self.person_folder(id))?;
        let keys = PersonKeys(Arc::new(PersonInner {
            id,
            epoch: 1,
            key: Key::random(),
            earlier: Vec::new(),
        }));
        let key = &keys.0.key;
        let mut keyring = Container::new(Form::Keyring, keys.0.epoch, inner.id, id);
        keyring.set(Params::Root, self.person_kek(id).expose(), key);
        set_password(&mut keyring, Params::OwnPassword, own, inner.cost, key)
            .map_err(|OutOfMemory| PersonKeyError::OutOfMemory)?;
        fs::write_atomically(&*inner.fs, &path, &keyring.encode(&keyring_mac_key(&keys)))?;
        Ok(keys)
    }

    /// Opens a person's key with the root key.
    ///
    /// # Errors
    /// [`PersonKeyError::Sealed`] when only the person can open it.
    pub fn open_person(&self, id: [u8; 16]) -> Result<PersonKeys, PersonKeyError> {
        let keyring = self.read_keyring(id)?;
        if keyring.find(WrapKind::Root).is_none() {
            return self.unsealed(id).ok_or_else(|| PersonKeyError::Sealed {
                id: hex::encode(id),
            });
        }
        self.open_under_root(id, &keyring)
    }

    /// Reads a person's keyring again and authenticates it, with all its wraps. `false`: it is
    /// whole, and only the person can authenticate it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_keyring(&self, id: [u8; 16]) -> Result<bool, PersonKeyError> {
        let keyring = self.read_keyring(id)?;
        if keyring.find(WrapKind::Root).is_some() {
            return self.open_under_root(id, &keyring).map(|_| true);
        }
        match self.unsealed(id) {
            None => Ok(false),
            Some(keys) if keyring.authentic(&keyring_mac_key(&keys)) => Ok(true),
            Some(_) => Err(PersonKeyError::damaged(
                &self.keyring_path(id),
                "it was altered by something other than AICO",
            )),
        }
    }

    fn open_under_root(
        &self,
        id: [u8; 16],
        keyring: &Container,
    ) -> Result<PersonKeys, PersonKeyError> {
        let roots = self.0.roots();
        let key = keyring.find(WrapKind::Root).and_then(|wrap| {
            roots
                .all()
                .find_map(|root| wrap.open(&keyring.fixed(), person_kek(root, id).expose()))
        });
        let key = key.ok_or_else(|| {
            PersonKeyError::damaged(&self.keyring_path(id), "it belongs to another root key")
        })?;
        self.checked(id, keyring, key)
    }

    /// Opens a person's key with their own password, and thereby proves the password.
    ///
    /// # Errors
    /// [`PersonKeyError::WrongPassword`] when it is not theirs.
    pub fn open_person_with_password(
        &self,
        id: [u8; 16],
        own: &Password,
    ) -> Result<PersonKeys, PersonKeyError> {
        let path = self.keyring_path(id);
        let keyring = self.read_keyring(id)?;
        let found = keyring
            .find(WrapKind::OwnPassword)
            .and_then(|wrap| Some((wrap, wrap.kdf()?)));
        let Some((wrap, kdf)) = found else {
            return self.prove_earlier_password(id, &keyring, own);
        };
        let kek = kdf
            .hash(own)
            .map_err(|error| PersonKeyError::hash(&path, error))?;
        let key = wrap
            .open(&keyring.fixed(), kek.expose())
            .ok_or(PersonKeyError::WrongPassword)?;
        self.checked(id, &keyring, key)
    }

    /// Their key was changed while nobody had their password: it opens the key from before, which
    /// proves it, and wraps the present one from now on.
    fn prove_earlier_password(
        &self,
        id: [u8; 16],
        keyring: &Container,
        own: &Password,
    ) -> Result<PersonKeys, PersonKeyError> {
        let path = self.keyring_path(id);
        let found = keyring
            .find(WrapKind::EarlierPassword)
            .and_then(|wrap| Some((wrap, wrap.kdf()?, wrap.earlier()?)));
        let Some((wrap, kdf, epoch)) = found else {
            return Err(PersonKeyError::NoPassword {
                id: hex::encode(id),
            });
        };
        let kek = kdf
            .hash(own)
            .map_err(|error| PersonKeyError::hash(&path, error))?;
        let before = wrap
            .open(&keyring.fixed(), kek.expose())
            .ok_or(PersonKeyError::WrongPassword)?;
        let keys = self.open_under_root(id, keyring)?;
        if keys.of(epoch) != Some(&before) {
            return Err(PersonKeyError::WrongPassword);
        }
        if let Err(error) = self.change_person_password(id, &keys, own) {
            tracing::warn!(%error, "a password that is proven does not wrap the new key yet");
        }
        Ok(keys)
    }

    /// Sets another password of a person whose key is open. Who may ask for this is the
    /// caller's decision. Wraps of other kinds stay.
    ///
    /// # Errors
    /// [`PersonKeyError::Damaged`] when `keys` are not those of this keyring. After an error of
    /// the file system either password may be the one.
    pub fn change_person_password(
        &self,
        id: [u8; 16],
        keys: &PersonKeys,
        new: &Password,
    ) -> Result<(), PersonKeyError> {
        let inner = &*self.0;
        let _writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.keyring_path(id);
        let mut keyring = self.read_keyring(id)?;
        if keys.0.id != id || !keyring.authentic(&keyring_mac_key(keys)) {
            return Err(PersonKeyError::damaged(
                &path,
                "it does not belong to the open key",
            ));
        }
        set_password(
            &mut keyring,
            Params::OwnPassword,
            new,
            inner.cost,
            &keys.0.key,
        )
        .map_err(|OutOfMemory| PersonKeyError::OutOfMemory)?;
        keyring.remove(WrapKind::EarlierPassword);
        Ok(fs::write_atomically(
            &*inner.fs,
            &path,
            &keyring.encode(&keyring_mac_key(keys)),
        )?)
    }

    /// Destroys a person's key: overwritten, removed, the folder synced. What was encrypted
    /// under it can't be read any more. It is no error when it is gone already, and a damaged
    /// keyring is destroyed as well, so that an interrupted erasure can be repeated.
    ///
    /// # Errors
    /// When the file system refuses; then call again.
    pub fn erase_person(&self, id: [u8; 16]) -> Result<(), PersonKeyError> {
        let inner = &*self.0;
        let _writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock_person(id);
        let folder = self.person_folder(id);
        if fs::probe_private(&*inner.fs, &folder, Kind::Folder)?.is_none() {
            return Ok(());
        }
        let path = self.keyring_path(id);
        for path in [fs::temporary(&path), path] {
            let Some(entry) = fs::probe_private(&*inner.fs, &path, Kind::File)? else {
                continue;
            };
            let mut file = inner.fs.open(&path, true).on("open", &path)?;
            let mut noise = vec![0; (entry.len as usize).min(container::MAX_BYTES)];
            random_bytes(&mut noise);
            file.write_at(&noise, 0)
                .and_then(|()| file.sync())
                .on("overwrite", &path)?;
            drop(file);
            inner.fs.remove_file(&path).on("remove", &path)?;
        }
        inner.fs.sync_folder(&folder).on("sync", &folder)?;
        // The rest of the folder is its owner's to remove; an empty one goes now.
        if inner.fs.list(&folder).on("read", &folder)?.is_empty() {
            inner.fs.remove_folder(&folder).on("remove", &folder)?;
            fs::sync_parent(&*inner.fs, &folder)?;
        }
        Ok(())
    }

    /// The folder of a person: `persons/<id in hex>`.
    #[must_use]
    pub fn person_folder(&self, id: [u8; 16]) -> PathBuf {
        self.0.data.join(PERSONS).join(hex::encode(id))
    }

    /// The folder of what the model has read of a person's conversations. It saves time and
    /// nothing else: it can be removed whenever.
    #[must_use]
    pub fn prompt_cache_folder(&self, id: [u8; 16]) -> PathBuf {
        self.person_folder(id).join(PROMPT_CACHE)
    }

    /// Under which name what the model has read of a conversation is kept, which is the file's id as
    /// well. It comes from the conversation and the person's key.
    #[must_use]
    pub fn prompt_cache_name(&self, keys: &PersonKeys, conversation: &[u8]) -> [u8; 16] {
        let renewed = self.registry().mark(&prompt_cache_mark(keys.id())).sequence;
        let version = u16::try_from(renewed.saturating_add(1)).unwrap_or(u16::MAX);
        let label = Label::new(Purpose::PromptCacheName, Owner::Person(keys.id()));
        let name = keys.derive_label(label.with_version(version).with_context(conversation));
        let mut file = [0; 16];
        file.copy_from_slice(&name.expose()[..16]);
        file
    }

    /// Other names from now on, hence other keys, under the person's key as it is; what was kept
    /// before is removed. Needs no key of theirs.
    ///
    /// # Errors
    /// When the registry or the file system refuses; then call again.
    pub fn renew_prompt_cache(&self, id: [u8; 16]) -> Result<(), VaultError> {
        let mark = prompt_cache_mark(id);
        let renewed = self.registry().mark(&mark).sequence;
        self.registry()
            .note_sequence(&mark, renewed.saturating_add(1))?;
        Ok(self.remove_prompt_cache(id)?)
    }

    /// The same for somebody whose key comes from a backup, while nobody knows how often it was done
    /// with that: it begins somewhere, so that names from before are most likely not used again.
    ///
    /// # Errors
    /// When the registry can't be written.
    pub fn begin_prompt_cache(&self, id: [u8; 16]) -> Result<(), VaultError> {
        let mut somewhere = [0; 2];
        random_bytes(&mut somewhere);
        // Past the few that it was ever done, and with as many again to come.
        let somewhere = (u16::from_be_bytes(somewhere) >> 1) | 0x0100;
        self.registry()
            .note_sequence(&prompt_cache_mark(id), somewhere.into())?;
        Ok(())
    }

    /// Forgets how often that was done, with the person.
    ///
    /// # Errors
    /// When the registry can't be written.
    pub fn forget_prompt_cache(&self, id: [u8; 16]) -> Result<(), VaultError> {
        let mark = prompt_cache_mark(id);
        if self.registry().marks().contains_key(&mark) {
            self.registry().remove(&mark)?;
        }
        Ok(())
    }

    /// Removes it: with a new key of the person's nothing stays under the one before.
    pub fn drop_prompt_cache(&self, id: [u8; 16]) {
        if let Err(error) = self.remove_prompt_cache(id) {
            tracing::warn!(%error, "kept prompts under an earlier key could not be removed");
        }
    }

    fn remove_prompt_cache(&self, id: [u8; 16]) -> Result<(), FileError> {
        let folder = self.prompt_cache_folder(id);
        let remove = || match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        // Something may have been put into it meanwhile.
        remove().or_else(|_| remove()).on("remove", &folder)
    }

    pub(crate) fn keyring_path(&self, id: [u8; 16]) -> PathBuf {
        self.person_folder(id).join(KEYRING)
    }

    pub(crate) fn person_kek(&self, id: [u8; 16]) -> Key {
        person_kek(&self.0.roots().root, id)
    }

    pub(crate) fn read_keyring(&self, id: [u8; 16]) -> Result<Container, PersonKeyError> {
        let inner = &*self.0;
        for folder in [inner.data.join(PERSONS), self.person_folder(id)] {
            if fs::probe_private(&*inner.fs, &folder, Kind::Folder)?.is_none() {
                return Err(PersonKeyError::Absent {
                    id: hex::encode(id),
                });
            }
        }
        let path = self.keyring_path(id);
        let bytes =
            fs::read_private(&*inner.fs, &path, container::MAX_BYTES)?.ok_or_else(|| {
                PersonKeyError::Absent {
                    id: hex::encode(id),
                }
            })?;
        let keyring = Container::decode(Form::Keyring, &bytes)
            .map_err(|why| PersonKeyError::unreadable(&path, &why))?;
        if keyring.vault != inner.id || keyring.person != id {
            let reason = "it is the keyring of another person or vault";
            return Err(PersonKeyError::damaged(&path, reason));
        }
        Ok(keyring)
    }

    pub(crate) fn checked(
        &self,
        id: [u8; 16],
        keyring: &Container,
        key: Key,
    ) -> Result<PersonKeys, PersonKeyError> {
        let earlier = earlier_keys(id, keyring, &key);
        let keys = PersonKeys(Arc::new(PersonInner {
            id,
            epoch: keyring.epoch,
            key,
            earlier,
        }));
        if !keyring.authentic(&keyring_mac_key(&keys)) {
            let reason = "it was altered by something other than AICO";
            return Err(PersonKeyError::damaged(&self.keyring_path(id), reason));
        }
        Ok(keys)
    }
}

pub(crate) fn keyring_mac_key(keys: &PersonKeys) -> Key {
    keys.derive(Purpose::KeyringMac)
}

/// Under what a root key wraps a person's.
pub(crate) fn person_kek(root: &Key, id: [u8; 16]) -> Key {
    let label = Label::new(Purpose::PersonKeyWrap, Owner::Person(id));
    derive::derive(root, derive::ROOT_SALT, &label)
}

/// Under what a person's key wraps those before it.
pub(crate) fn earlier_kek(key: &Key, id: [u8; 16]) -> Key {
    let label = Label::new(Purpose::EarlierKey, Owner::Person(id));
    derive::derive(key, derive::PERSON_SALT, &label)
}

/// The keys before this one, newest first.
fn earlier_keys(id: [u8; 16], keyring: &Container, key: &Key) -> Vec<(u32, Key)> {
    let kek = earlier_kek(key, id);
    let wraps = keyring.wraps.iter();
    let mut all: Vec<_> = wraps
        .filter(|wrap| wrap.kind() == WrapKind::EarlierKey)
        .filter_map(|wrap| Some((wrap.earlier()?, wrap.open(&keyring.fixed(), kek.expose())?)))
        .collect();
    all.sort_by_key(|(epoch, _)| std::cmp::Reverse(*epoch));
    all
}
