//! Making and opening the databases; which key one is under, and putting it under another.
//!
//! The registry numbers the keys ([`KeyId`]): epoch of the key above, and version. A change of a
//! key is one record in the registry, so that after whatever interruption the number says which
//! key it is, and nothing has to be tried. Only a database from before any change has no number.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_contracts::ids::PersonId;
use aico_store::{
    Identity, ModuleMigrations, NumberedKey, OpenError, Progress, Steady, Store, StoreError,
};
use aico_vault::{Key, KeyId, Label, Owner, PersonKeys, Purpose, Vault};

use crate::home::{HomeConfig, Open, PERSON_DB, SYSTEM_DB, blocking, person_folder};
use crate::{Home, HomeError, Stage, backup, engines, rotation, schema};

/// The number in the registry: of the file that is there, or of the one that is to take its place.
fn numbered(vault: &Vault, store_id: &str) -> Option<KeyId> {
    let registry = vault.registry();
    let record = registry
        .get(&format!("{store_id}/restore"))
        .or_else(|| registry.get(&format!("{store_id}/rekeyed")))
        .or_else(|| registry.get(store_id))?;
    KeyId::from_number(record.key)
}

/// Which key `system.db` is under.
pub(crate) fn system_key_id(vault: &Vault) -> KeyId {
    // Without a number it was made under the root key before the one that is being brought in.
    let first = || KeyId::first_of(vault.earlier_epoch().unwrap_or(vault.key_epoch()));
    numbered(vault, &Identity::system().store_id()).unwrap_or_else(first)
}

pub(crate) fn system_key(vault: &Vault) -> Result<(KeyId, Key), HomeError> {
    let id = system_key_id(vault);
    let key = vault.store_key(id).ok_or(HomeError::Crypto)?;
    Ok((id, key))
}

/// Which key a person's database is under.
pub(crate) fn person_key(
    vault: &Vault,
    keys: &PersonKeys,
    path: &Path,
) -> Result<(KeyId, Key), HomeError> {
    let with = |id: KeyId| Some((id, keys.store_key(id)?));
    if let Some(id) = numbered(vault, &Identity::person(keys.id()).store_id()) {
        return with(id).ok_or(HomeError::Crypto);
    }
    // From before any change of the key of this file: their key of then is one of few.
    let epochs = (1..=keys.key_epoch()).rev();
    let mut all = epochs.filter_map(|epoch| with(KeyId::first_of(epoch)));
    let present = all.next().ok_or(HomeError::Crypto)?;
    if keys.key_epoch() == 1 || Store::opens_with(path, present.1.expose()) {
        return Ok(present);
    }
    Ok(all
        .find(|(_, key)| Store::opens_with(path, key.expose()))
        // A first page that was cut off while it was written says nothing, and the log has it
        // whole: nobody changed the key since the file was made, which was with the person. What
        // else is wrong with it is told by opening it.
        .or_else(|| with(KeyId::first_of(1)))
        .unwrap_or(present))
}

/// A person's open database, which stays under this key as long as it is held.
pub(crate) fn steady_with_key<'a>(
    vault: &Vault,
    store: &'a Store,
    person: PersonId,
    path: &Path,
) -> Result<(Steady<'a>, KeyId, Key), HomeError> {
    // Before the key is looked up: a sign-in may bring a change of it to its end beside this, and
    // a sound file that is opened with the key from before looks damaged.
    let steady = store.steady();
    let keys = backup::person_keys(vault, *person.as_bytes())?;
    let (id, key) = person_key(vault, &keys, path)?;
    // One who was locked meanwhile is told as that: their store is closed because of it.
    Ok((steady?, id, key))
}

/// A person's database, and what it takes to open it.
pub(crate) struct PersonFile {
    pub(crate) path: PathBuf,
    pub(crate) key: Key,
    pub(crate) identity: Identity,
    pub(crate) modules: Vec<ModuleMigrations>,
    /// Its registry.
    pub(crate) vault: Arc<Vault>,
}

/// Which modules have tables in the system's store, in the order of their steps: this crate's own,
/// then those of the configuration.
#[must_use]
pub fn modules_of_system(config: &HomeConfig) -> Vec<ModuleMigrations> {
    let mut modules = vec![
        schema::MIGRATIONS,
        rotation::MIGRATIONS,
        backup::MIGRATIONS,
        engines::MIGRATIONS,
    ];
    modules.extend(config.system_migrations.iter().cloned());
    modules
}

impl Home {
    pub(crate) async fn create_system(
        &self,
        vault: &Vault,
        root: &Path,
    ) -> Result<Store, HomeError> {
        let (vault, path, modules) = (
            vault.clone(),
            root.join(SYSTEM_DB),
            modules_of_system(&self.inner.config),
        );
        blocking(move || {
            let key = vault.derive(Label::new(Purpose::SystemDatabase, Owner::System));
            let registry = Arc::new(vault);
            Ok(Store::create(
                &path,
                key.expose(),
                &Identity::system(),
                &modules,
                registry,
            )?)
        })
        .await
    }

    pub(crate) async fn open_system(&self, vault: &Vault) -> Result<Store, HomeError> {
        let (vault, path) = (vault.clone(), self.root().join(SYSTEM_DB));
        let modules = modules_of_system(&self.inner.config);
        let options = self.inner.updating.options(None);
        blocking(move || {
            let (_, key) = system_key(&vault)?;
            let registry = Arc::new(vault);
            Ok(Store::open_with(
                &path,
                key.expose(),
                &Identity::system(),
                &modules,
                registry,
                options,
            )?)
        })
        .await
    }

    pub(crate) async fn create_person_store(
        &self,
        vault: &Vault,
        root: &Path,
        person: PersonId,
        keys: &PersonKeys,
    ) -> Result<Store, HomeError> {
        let path = person_folder(root, person).join(PERSON_DB);
        let (key, vault) = (keys.derive(Purpose::PersonDatabase), vault.clone());
        let modules = self.inner.config.person_migrations.clone();
        blocking(move || {
            let identity = Identity::person(*person.as_bytes());
            let registry = Arc::new(vault);
            Ok(Store::create(
                &path,
                key.expose(),
                &identity,
                &modules,
                registry,
            )?)
        })
        .await
    }

    pub(crate) async fn open_person_store(
        &self,
        vault: &Vault,
        person: PersonId,
        keys: PersonKeys,
    ) -> Result<Store, HomeError> {
        let options = self.inner.updating.options(Some(person));
        self.on_person_file(vault, person, keys, |it| {
            let key = it.key.expose();
            Store::open_with(&it.path, key, &it.identity, &it.modules, it.vault, options)
        })
        .await
    }

    /// Works on a person's database, which nobody else has open.
    pub(crate) async fn on_person_file<T: Send + 'static>(
        &self,
        vault: &Vault,
        person: PersonId,
        keys: PersonKeys,
        work: impl FnOnce(PersonFile) -> Result<T, OpenError> + Send + 'static,
    ) -> Result<T, HomeError> {
        let path = person_folder(self.root(), person).join(PERSON_DB);
        let vault = Arc::new(vault.clone());
        let modules = self.inner.config.person_migrations.clone();
        blocking(move || {
            let (_, key) = person_key(&vault, &keys, &path)?;
            let identity = Identity::person(*person.as_bytes());
            Ok(work(PersonFile {
                path,
                key,
                identity,
                modules,
                vault,
            })?)
        })
        .await
    }

    /// Puts `system.db` under another key: the next of its own, or the first under the present
    /// root key, if it is not there yet.
    pub(crate) async fn rekey_system(
        &self,
        open: &Open,
        next: bool,
        progress: Progress,
    ) -> Result<(), HomeError> {
        let (now, epoch) = (system_key_id(&open.vault), open.vault.key_epoch());
        let to = match next {
            true if now.epoch == epoch => now.next(),
            _ if now.epoch == epoch => return Ok(()),
            _ => KeyId::first_of(epoch),
        };
        let key = open.vault.store_key(to).ok_or(HomeError::Crypto)?;
        let key = NumberedKey::new(key.expose(), to.number());
        Ok(open.system.rekey(key, progress).await?)
    }

    /// The same for a person's database, under their key.
    pub(crate) async fn rekey_person(
        &self,
        person: PersonId,
        next: bool,
        progress: Progress,
    ) -> Result<(), HomeError> {
        let open = self.opened()?;
        let store = self.store_in_time(person).await?;
        let keys = open
            .vault
            .open_person(*person.as_bytes())
            .map_err(HomeError::Keyring)?;
        let epoch = keys.key_epoch();
        // A number of 0 is one of the first keys; which, only matters when it is the present one.
        let now = KeyId::from_number(store.key());
        let to = match now {
            Some(now) if now.epoch == epoch && !next => return Ok(()),
            Some(now) if now.epoch == epoch => now.next(),
            None if epoch == 1 && !next => return Ok(()),
            None if next => KeyId::first_of(epoch).next(),
            _ => KeyId::first_of(epoch),
        };
        let key = keys.store_key(to).ok_or(HomeError::Crypto)?;
        let key = NumberedKey::new(key.expose(), to.number());
        match store.rekey(key, progress).await {
            Err(StoreError::Closed) => {
                // It is decided and could not be gone on with: opening it anew finishes it.
                let gate = open.persons.gate(person).await;
                if let Some(store) = open.persons.remove(person) {
                    let _ = store.close().await;
                }
                drop(gate);
                let again = self.store_in_time(person).await?;
                match again.key() == to.number() {
                    true => Ok(()),
                    false => Err(HomeError::Store(StoreError::Closed)),
                }
            }
            other => Ok(other?),
        }
    }

    /// A store that was opened under a key from before its person's present one was left behind by
    /// a change that was cut off. It is put under the present one while it is used, and what was
    /// put off because of damage is done.
    pub(crate) fn catch_up_with_key(&self, person: PersonId, store: &Store, epoch: u32) {
        let behind = match KeyId::from_number(store.key()) {
            Some(id) => id.epoch < epoch,
            None => epoch > 1,
        };
        let served = self.inner.serving.borrow().is_some();
        if !served || self.inner.rotation.is_running() {
            return;
        }
        let home = self.clone();
        tokio::spawn(async move {
            if let Err(error) = home.finish_put_off(person).await {
                tracing::warn!(%error, "a person's keys are still to be changed");
            }
            if !behind {
                return;
            }
            let hold = home.hold();
            if home.stage() == Stage::Ready
                && let Err(error) = home.rekey_person(person, false, Progress::default()).await
            {
                tracing::warn!(%error, "a store is still under a key from before");
            }
            drop(hold);
        });
    }

    /// Work on keys and files, off the async threads.
    pub(crate) async fn on_vault<T: Send + 'static>(
        &self,
        open: &Open,
        work: impl FnOnce(&Vault) -> Result<T, HomeError> + Send + 'static,
    ) -> Result<T, HomeError> {
        let vault = open.vault.clone();
        self.held(move || work(&vault)).await
    }
}
