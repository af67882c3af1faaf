//! What goes into an archive: everything, taken hold of at one moment.

use std::path::{Path, PathBuf};

use aico_store::{Store, StoreView};
use aico_vault::{Key, KeyId, Vault};
use jiff::Timestamp;

use super::{BackupRequest, LeftOut, Scope};
use crate::backup::set::{self, ListKey};
use crate::home::{Open, PERSON_DB, blocking, person_folder};
use crate::{Home, HomeError, Person, stores};

/// One store, held as it was at one moment.
pub(super) struct Held {
    pub(super) view: StoreView,
    pub(super) key: Key,
    pub(super) which: KeyId,
}

pub(super) struct HeldPerson {
    pub(super) person: Person,
    pub(super) keyring: Vec<u8>,
    /// `None`: a sealed one, whose database lies at rest and is taken as it lies.
    pub(super) store: Option<Held>,
}

/// Everything that goes into an archive.
pub(super) struct Plan {
    pub(super) vault: Vault,
    pub(super) list: ListKey,
    pub(super) system: Held,
    pub(super) persons: Vec<HeldPerson>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) scope: Scope,
    pub(super) data: PathBuf,
    pub(super) root: PathBuf,
    pub(super) configuration: Option<PathBuf>,
    pub(super) folder: PathBuf,
    pub(super) now: Timestamp,
}

impl Home {
    /// Takes hold of everything at one moment.
    pub(super) async fn plan(
        &self,
        open: &Open,
        request: BackupRequest,
        list: ListKey,
    ) -> Result<Plan, HomeError> {
        let config = &self.inner.config;
        let data = config.data.clone();
        let folder = request.folder.unwrap_or_else(|| config.backups.clone());
        let (prepared, data_too) = (folder.clone(), data.clone());
        let folder = blocking(move || {
            let folder = set::prepare(&prepared, &data_too)?;
            set::tidy(&folder);
            Ok(folder)
        })
        .await?;
        let everybody = self.persons().await?;
        let wanted: Vec<_> = match request.person {
            None => everybody,
            Some(one) => everybody.into_iter().filter(|p| p.id == one).collect(),
        };
        if wanted.is_empty() {
            return Err(HomeError::NotFound);
        }
        // Opened before anything is held: opening takes time, holding does not.
        let mut stores = Vec::new();
        for person in &wanted {
            stores.push(self.store_in_time(person.id).await);
        }
        let (vault, root, system) = (
            open.vault.clone(),
            self.root().to_owned(),
            open.system.clone(),
        );
        let configuration = config.configuration.clone();
        let scope = match request.person {
            None => Scope::Whole,
            Some(_) => Scope::OnePerson,
        };
        blocking(move || {
            let (which, key) = stores::system_key(&vault)?;
            let view = system.view(key.expose())?;
            let system = Held { view, key, which };
            let (mut persons, mut left_out) = (Vec::new(), Vec::new());
            let mut first = None;
            for (person, store) in wanted.into_iter().zip(stores) {
                let held = match store {
                    Ok(store) => hold_person(&vault, &root, &person, Some(&store)),
                    Err(HomeError::PersonLocked) => hold_person(&vault, &root, &person, None),
                    Err(error) => Err(error),
                };
                match held {
                    Ok(held) => persons.push(held),
                    Err(error) => {
                        left_out.push(LeftOut {
                            id: person.id,
                            name: person.name.as_str().to_owned(),
                            why: told(&error),
                        });
                        first.get_or_insert(error);
                    }
                }
            }
            if persons.is_empty() {
                return Err(first.unwrap_or(HomeError::PersonLocked));
            }
            Ok(Plan {
                vault,
                list,
                system,
                persons,
                left_out,
                scope,
                data,
                root,
                configuration,
                folder,
                now: Timestamp::now(),
            })
        })
        .await
    }
}

fn hold_person(
    vault: &Vault,
    root: &Path,
    person: &Person,
    store: Option<&Store>,
) -> Result<HeldPerson, HomeError> {
    let id = *person.id.as_bytes();
    let store = match store {
        None => None,
        Some(store) => {
            let path = person_folder(root, person.id).join(PERSON_DB);
            let (steady, which, key) = stores::steady_with_key(vault, store, person.id, &path)?;
            let view = steady.view(key.expose())?;
            Some(Held { view, key, which })
        }
    };
    // After the database: a keyring has the keys from before as well.
    let keyring = vault.keyring_of(id).map_err(HomeError::Keyring)?;
    Ok(HeldPerson {
        person: person.clone(),
        keyring: keyring.bytes,
        store,
    })
}

/// The error and its causes in one line.
pub(super) fn told(error: &HomeError) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    line
}
