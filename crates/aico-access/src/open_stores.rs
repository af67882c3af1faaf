//! The stores of persons that are open. Each is opened once, and nobody waits for the opening of
//! another's: a disk that is slow with one file is slow for one person.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aico_contracts::ids::PersonId;
use aico_store::{Store, StoreError};
use aico_vault::PersonKeyError;
use parking_lot::{Mutex, RwLock};
use tokio::sync::OwnedMutexGuard;

use crate::home::{Open, blocking};
use crate::{ErrorKind, Home, HomeError, older_copy};

/// How long a request waits for a store that is being opened.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module's head.
#[derive(Default)]
pub(crate) struct PersonStores {
    known: RwLock<Known>,
    /// Who opens, closes or removes a store holds its person's.
    gates: Mutex<HashMap<PersonId, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Default)]
struct Known {
    open: HashMap<PersonId, Store>,
    /// Persons whose data was damaged when it was last looked at.
    ill: HashSet<PersonId>,
    ended: bool,
}

impl PersonStores {
    /// Keeps others from opening, closing or removing this person's store.
    pub(crate) async fn gate(&self, person: PersonId) -> OwnedMutexGuard<()> {
        let gate = Arc::clone(self.gates.lock().entry(person).or_default());
        gate.lock_owned().await
    }

    /// Whether somebody waits for a gate that another holds.
    #[cfg(test)]
    pub(crate) fn is_waited_for(&self, person: PersonId) -> bool {
        let gates = self.gates.lock();
        // The map's own, the holder's, and one more.
        gates
            .get(&person)
            .is_some_and(|gate| Arc::strong_count(gate) > 2)
    }

    pub(crate) fn get(&self, person: PersonId) -> Option<Store> {
        self.known.read().open.get(&person).cloned()
    }

    /// `false` when all of them were closed meanwhile: then it is not kept.
    pub(crate) fn insert(&self, person: PersonId, store: Store) -> bool {
        let mut known = self.known.write();
        if known.ended {
            return false;
        }
        known.ill.remove(&person);
        known.open.insert(person, store);
        true
    }

    pub(crate) fn remove(&self, person: PersonId) -> Option<Store> {
        let mut known = self.known.write();
        known.ill.remove(&person);
        known.open.remove(&person)
    }

    pub(crate) fn all(&self) -> Vec<Store> {
        self.known.read().open.values().cloned().collect()
    }

    fn len(&self) -> usize {
        self.known.read().open.len()
    }

    pub(crate) fn set_ill(&self, person: PersonId) {
        self.known.write().ill.insert(person);
    }

    /// How many persons' data was damaged when it was last looked at.
    pub(crate) fn ill(&self) -> usize {
        self.known.read().ill.len()
    }

    /// Takes all of them, and no more; returns when none is being opened.
    pub(crate) async fn end(&self) -> Vec<Store> {
        let stores: Vec<_> = {
            let mut known = self.known.write();
            known.ended = true;
            known.open.drain().map(|(_, store)| store).collect()
        };
        let gates: Vec<_> = self.gates.lock().values().cloned().collect();
        for gate in gates {
            drop(gate.lock_owned().await);
        }
        stores
    }
}

impl Home {
    /// This person's own store, opened when it is first asked for. Waits for that only so long;
    /// it goes on all the same.
    ///
    /// # Errors
    /// Unknown person, a sealed one who has not signed in; damage; [`ErrorKind::Busy`], which is
    /// [`HomeError::Updating`] while it is brought up to this program's version.
    pub async fn store_of(&self, person: PersonId) -> Result<Store, HomeError> {
        self.store_within(person, PATIENCE).await
    }

    pub(crate) async fn store_within(
        &self,
        person: PersonId,
        patience: Duration,
    ) -> Result<Store, HomeError> {
        match tokio::time::timeout(patience, self.store_in_time(person)).await {
            Ok(opened) => opened,
            Err(_) => Err(match self.inner.updating.of(person) {
                Some(progress) => HomeError::Updating(progress),
                None => HomeError::Store(StoreError::Busy),
            }),
        }
    }

    /// The same, however long it takes: for work that nobody waits for.
    pub(crate) async fn store_in_time(&self, person: PersonId) -> Result<Store, HomeError> {
        self.used();
        self.store_unasked(person).await
    }

    /// The same where nobody has asked for it: it keeps nothing from being locked.
    pub(crate) async fn store_unasked(&self, person: PersonId) -> Result<Store, HomeError> {
        let open = self.opened()?;
        if let Some(store) = open.persons.get(person) {
            return Ok(store);
        }
        let home = self.clone();
        // A task of its own: whoever asked may go, and half an opening would lie there.
        let opening = tokio::spawn(async move { home.open_once(&open, person).await });
        opening.await.map_err(|_| HomeError::Task)?
    }

    async fn open_once(&self, open: &Open, person: PersonId) -> Result<Store, HomeError> {
        let _one = open.persons.gate(person).await;
        if let Some(store) = open.persons.get(person) {
            return Ok(store);
        }
        self.known(open, person).await?;
        let vault = open.vault.clone();
        let keys = blocking(move || Ok(vault.open_person(*person.as_bytes()))).await?;
        let opened = match keys {
            Ok(keys) => {
                let epoch = keys.key_epoch();
                let again = keys.clone();
                let mut opened = self.open_person_store(&open.vault, person, keys).await;
                if let Err(error) = &opened
                    && older_copy::is_older(error)
                {
                    tracing::warn!(%error, "an older copy was put back: it is read only");
                    opened = self.open_older_copy(&open.vault, person, again).await;
                }
                opened.map(|store| (store, epoch))
            }
            Err(PersonKeyError::Sealed { .. }) => Err(HomeError::PersonLocked),
            Err(error) => Err(HomeError::Keyring(error)),
        };
        let (store, epoch) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::Damaged => {
                open.persons.set_ill(person);
                let rescue = self.rescue(open, person).await;
                let source = Box::new(error);
                return Err(HomeError::PersonDamaged { source, rescue });
            }
            Err(error) => return Err(error),
        };
        if !open.persons.insert(person, store.clone()) {
            let _ = store.close().await;
            return Err(HomeError::Locked);
        }
        match store.health().read_only {
            true => open.persons.set_ill(person),
            false => self.catch_up_with_key(person, &store, epoch),
        }
        Ok(store)
    }

    /// How many persons' stores are open.
    pub async fn open_persons(&self) -> usize {
        self.opened().map_or(0, |open| open.persons.len())
    }
}
