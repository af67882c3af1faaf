//! Modules of other makers: who is admitted to the bus, with which key, and for whom.
//!
//! The owner admits a module and says what it may do; for another person's data that person
//! agrees themselves, and may withdraw it. We know a module's public key only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aico_contracts::ids::{ModuleId, PersonId};
use aico_store::StoreError;
use aico_vault::{Owner, Purpose};
use jiff::Timestamp;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::home::Open;
use crate::{Action, Grant, Grants, Home, HomeError, TopicGrant, module_identity};

/// Names the sealed key of the broker.
pub(crate) const BROKER_KEY: &[u8] = b"broker";

/// A module as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its id.
    pub id: ModuleId,
    /// Its name, chosen when it was admitted.
    pub name: String,
    /// Its public CURVE key.
    pub key: [u8; 32],
    /// What it may do.
    pub topics: Vec<TopicGrant>,
    /// Whose data it was admitted for, and whether they agreed.
    pub persons: Vec<(PersonId, bool)>,
    /// When it was admitted.
    pub created_at: Timestamp,
    /// Since when it has its present key.
    pub key_since: Timestamp,
}

/// What is asked for a module.
pub struct NewModule {
    /// 1 to 32 of a to z, 0 to 9 and `-`, a letter first.
    pub name: String,
    /// The public key that it made.
    pub key: [u8; 32],
    /// What it shall be able to do.
    pub topics: Vec<TopicGrant>,
    /// Whose data it asks for; nobody named: the owner's.
    pub persons: Vec<PersonId>,
}

/// Why a name can't be a module's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use 1 to 32 of a to z, 0 to 9 and -, a letter first")]
pub struct ModuleNameError;

fn check_name(name: &str) -> Result<(), ModuleNameError> {
    let fits = (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    fits.then_some(()).ok_or(ModuleNameError)
}

impl Home {
    /// What modules of other makers may do, as the bus's policy reads it.
    #[must_use]
    pub fn grants(&self) -> Grants {
        self.inner.grants.clone()
    }

    /// Tells each change of who is admitted and for what; locking and unlocking are two.
    #[must_use]
    pub fn watch_modules(&self) -> watch::Receiver<u64> {
        self.inner.modules.subscribe()
    }

    /// All modules, by name.
    ///
    /// # Errors
    /// While locked.
    pub async fn modules(&self) -> Result<Vec<Module>, HomeError> {
        let open = self.opened()?;
        read_modules(&open).await
    }

    /// Admits a module. Whom it was admitted for besides the owner is asked first: their
    /// agreement is [`consent_to_module`](Self::consent_to_module).
    ///
    /// # Errors
    /// Unfit name, topics that can't be granted, an unknown person, or one of that name or key.
    pub async fn add_module(&self, new: NewModule) -> Result<Module, HomeError> {
        let open = self.opened()?;
        check_name(&new.name)?;
        Grant::check_size(new.topics.len(), new.persons.len())?;
        let mut persons = new.persons;
        if persons.is_empty() {
            persons.push(open.owner);
        }
        persons.sort_unstable();
        persons.dedup();
        for person in &persons {
            self.known(&open, *person).await?;
        }
        let mut topics = new.topics;
        topics.sort_unstable();
        topics.dedup();
        let now = Timestamp::now().as_millisecond();
        let id = ModuleId::new();
        let (name, key, owner) = (new.name, new.key, open.owner);
        let added = open
            .system
            .write(move |tx| {
                let added = tx.execute(
                    "INSERT INTO access_module (id, name, key, created_ms, key_ms)
                     VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT DO NOTHING",
                    rusqlite::params![id.as_bytes(), name, key, now],
                )?;
                if added == 0 {
                    return Ok(false);
                }
                for topic in &topics {
                    tx.execute(
                        "INSERT INTO access_module_topic (module, action, pattern)
                         VALUES (?1, ?2, ?3)",
                        rusqlite::params![id.as_bytes(), topic.action.name(), topic.pattern],
                    )?;
                }
                for person in &persons {
                    // The owner admits it: that is their agreement.
                    let agreed = (*person == owner).then_some(now);
                    tx.execute(
                        "INSERT INTO access_module_person (module, person, agreed_ms)
                         VALUES (?1, ?2, ?3)",
                        rusqlite::params![id.as_bytes(), person.as_bytes(), agreed],
                    )?;
                }
                Ok(true)
            })
            .await?;
        if !added {
            return Err(HomeError::ModuleExists);
        }
        self.load_grants().await?;
        self.module(id).await
    }

    /// A module by id.
    ///
    /// # Errors
    /// [`HomeError::NotFound`].
    pub async fn module(&self, id: ModuleId) -> Result<Module, HomeError> {
        let all = self.modules().await?;
        all.into_iter()
            .find(|module| module.id == id)
            .ok_or(HomeError::NotFound)
    }

    /// Gives a module another key; with the one before nobody is let in any more.
    ///
    /// # Errors
    /// [`HomeError::NotFound`], or a key that another module has.
    pub async fn rotate_module(&self, id: ModuleId, key: [u8; 32]) -> Result<Module, HomeError> {
        let open = self.opened()?;
        let now = Timestamp::now().as_millisecond();
        let changed = open
            .system
            .write(move |tx| {
                tx.execute(
                    "UPDATE OR IGNORE access_module SET key = ?2, key_ms = ?3 WHERE id = ?1",
                    rusqlite::params![id.as_bytes(), key, now],
                )
                .map_err(StoreError::from)
            })
            .await?;
        let module = self.module(id).await?;
        if changed == 0 {
            return Err(HomeError::ModuleExists);
        }
        self.load_grants().await?;
        Ok(module)
    }

    /// Admits a module no longer and forgets all that it was granted.
    ///
    /// # Errors
    /// [`HomeError::NotFound`].
    pub async fn revoke_module(&self, id: ModuleId) -> Result<(), HomeError> {
        let open = self.opened()?;
        let removed = open
            .system
            .write(move |tx| {
                tx.execute("DELETE FROM access_module WHERE id = ?1", [id.as_bytes()])
                    .map_err(StoreError::from)
            })
            .await?;
        self.load_grants().await?;
        match removed {
            0 => Err(HomeError::NotFound),
            _ => Ok(()),
        }
    }

    /// Lets a module have a person's data, or no longer. Only for modules that were admitted for
    /// that person; the agreement ends at once for what is under way too.
    ///
    /// # Errors
    /// [`HomeError::NotFound`] when the module does not ask for this person.
    pub async fn consent_to_module(
        &self,
        id: ModuleId,
        person: PersonId,
        agrees: bool,
    ) -> Result<(), HomeError> {
        let open = self.opened()?;
        let agreed = agrees.then(|| Timestamp::now().as_millisecond());
        let changed = open
            .system
            .write(move |tx| {
                tx.execute(
                    "UPDATE access_module_person SET agreed_ms = ?3
                     WHERE module = ?1 AND person = ?2",
                    rusqlite::params![id.as_bytes(), person.as_bytes(), agreed],
                )
                .map_err(StoreError::from)
            })
            .await?;
        self.load_grants().await?;
        match changed {
            0 => Err(HomeError::NotFound),
            _ => Ok(()),
        }
    }

    /// The secret key by which modules know this daemon. `make` gives one when there is none yet;
    /// it is sealed under the vault's root and not derived, so that a restored copy has another.
    ///
    /// # Errors
    /// While locked, or when the sealed key is damaged.
    pub async fn broker_key(
        &self,
        make: impl FnOnce() -> Zeroizing<[u8; 32]>,
    ) -> Result<Zeroizing<[u8; 32]>, HomeError> {
        let open = self.opened()?;
        let fresh = open.vault.seal(
            Purpose::BusKey,
            Owner::System,
            BROKER_KEY,
            make().as_slice(),
        );
        let sealed = open
            .system
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO access_broker (one, key) VALUES (1, ?1) ON CONFLICT DO NOTHING",
                    [fresh],
                )?;
                let sql = "SELECT key FROM access_broker WHERE one = 1";
                Ok(tx.query_row(sql, [], |row| row.get::<_, Vec<u8>>(0))?)
            })
            .await?;
        let key = open
            .vault
            .open_sealed(Purpose::BusKey, Owner::System, BROKER_KEY, &sealed)?;
        let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| HomeError::Crypto)?;
        Ok(Zeroizing::new(key))
    }

    /// Takes over what stands in the store; told to those who watch.
    pub(crate) async fn load_grants(&self) -> Result<(), HomeError> {
        let open = self.opened()?;
        self.apply_grants(&open).await
    }

    /// The same, for a home that is being opened.
    pub(crate) async fn apply_grants(&self, open: &Open) -> Result<(), HomeError> {
        let mut grants = HashMap::new();
        for module in read_modules(open).await? {
            let agreed = module.persons.iter().filter(|(_, agreed)| *agreed);
            let grant = Grant {
                persons: agreed.map(|(person, _)| *person).collect(),
                topics: module.topics,
            };
            grants.insert(module_identity(&module.name), Arc::new(grant));
        }
        self.inner.grants.replace(open.owner, grants);
        self.inner.modules.send_modify(|changes| *changes += 1);
        Ok(())
    }

    pub(crate) fn forget_grants(&self) {
        self.inner.grants.clear();
        self.inner.modules.send_modify(|changes| *changes += 1);
    }
}

/// A module and the rows that belong to it, as they stand in the store.
type Row = (Vec<u8>, String, Vec<u8>, i64, i64);

async fn read_modules(open: &Open) -> Result<Vec<Module>, HomeError> {
    let (modules, topics, persons) = open
        .system
        .read(|db| {
            let mut query = db.prepare(
                "SELECT id, name, key, created_ms, key_ms FROM access_module ORDER BY name",
            )?;
            let modules = query
                .query_map([], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })?
                .collect::<Result<Vec<Row>, _>>()?;
            let mut query =
                db.prepare("SELECT module, action, pattern FROM access_module_topic ORDER BY 1, 2, 3")?;
            let topics = query
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<Vec<(Vec<u8>, String, String)>, _>>()?;
            let mut query = db.prepare(
                "SELECT module, person, agreed_ms IS NOT NULL FROM access_module_person ORDER BY 1, 2",
            )?;
            let persons = query
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<Vec<(Vec<u8>, Vec<u8>, bool)>, _>>()?;
            Ok((modules, topics, persons))
        })
        .await?;
    let mut topics_of: BTreeMap<Vec<u8>, Vec<TopicGrant>> = BTreeMap::new();
    for (module, action, pattern) in topics {
        let action = Action::ALL.iter().find(|known| known.name() == action);
        // Checked once more: what may be granted can have become less since.
        if let Some(Ok(topic)) = action.map(|action| TopicGrant::new(*action, &pattern)) {
            topics_of.entry(module).or_default().push(topic);
        }
    }
    let mut persons_of: BTreeMap<Vec<u8>, Vec<(PersonId, bool)>> = BTreeMap::new();
    for (module, person, agreed) in persons {
        if let Ok(person) = PersonId::from_slice(&person) {
            persons_of.entry(module).or_default().push((person, agreed));
        }
    }
    let time = |ms| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut module = |(id, name, key, created, since): Row| {
        Some(Module {
            topics: topics_of.remove(&id).unwrap_or_default(),
            persons: persons_of.remove(&id).unwrap_or_default(),
            id: ModuleId::from_slice(&id).ok()?,
            name,
            key: key.try_into().ok()?,
            created_at: time(created),
            key_since: time(since),
        })
    };
    Ok(modules.into_iter().filter_map(&mut module).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for name in ["weather", "a", "home-2", &"x".repeat(32)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "Weather",
            "2go",
            "-a",
            "a b",
            "a.b",
            "ä",
            "a:b",
            &"x".repeat(33),
        ] {
            assert_eq!(check_name(name), Err(ModuleNameError), "{name}");
        }
    }
}
