//! Each person's working memory: opened when it is first asked for, closed with the key.
//!
//! It can be lost at any moment, so nothing here keeps anybody from anything: what can't be closed
//! well or removed is begun anew at the next opening.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aico_contracts::ids::PersonId;
use aico_store::WorkingMemory;

use crate::home::{Open, blocking, person_folder};
use crate::{Home, HomeError};

/// The folder beside a person's database.
const FOLDER: &str = "working";

/// Those that are open; `None` once the home is closed, so that none is opened after that.
pub(crate) type Working = tokio::sync::Mutex<Option<HashMap<PersonId, WorkingMemory>>>;

pub(crate) fn none_open() -> Working {
    tokio::sync::Mutex::new(Some(HashMap::new()))
}

pub(crate) fn working_folder(root: &Path, person: PersonId) -> PathBuf {
    person_folder(root, person).join(FOLDER)
}

/// Removes a person's working memory out of a home that nobody has open.
pub(crate) fn remove_from(root: &Path, person: PersonId) -> Result<(), HomeError> {
    let path = working_folder(root, person);
    WorkingMemory::remove(&path).map_err(|source| HomeError::Folder { path, source })
}

/// The same of everybody: in a home that a restore has put aside they are of no use.
pub(crate) fn remove_all_from(root: &Path) {
    let Ok(persons) = std::fs::read_dir(root.join("persons")) else {
        return;
    };
    for person in persons.flatten() {
        if let Err(error) = WorkingMemory::remove(&person.path().join(FOLDER)) {
            tracing::warn!(%error, "a working memory from before could not be removed");
        }
    }
}

impl Home {
    /// This person's working memory. It does not count as use: what is noted in it by itself keeps
    /// nothing from being locked.
    ///
    /// # Errors
    /// Unknown person, a sealed one who has not signed in.
    pub async fn working_of(&self, person: PersonId) -> Result<WorkingMemory, HomeError> {
        let open = self.opened()?;
        let mut working = open.working.lock().await;
        let all = working.as_mut().ok_or(HomeError::Locked)?;
        if let Some(memory) = all.get(&person) {
            return Ok(memory.clone());
        }
        self.known(&open, person).await?;
        let (vault, folder) = (open.vault.clone(), working_folder(self.root(), person));
        let memory = blocking(move || {
            let keys = vault
                .open_person(*person.as_bytes())
                .map_err(|error| match error {
                    aico_vault::PersonKeyError::Sealed { .. } => HomeError::PersonLocked,
                    other => HomeError::Keyring(other),
                })?;
            Ok(WorkingMemory::open(&folder, keys))
        })
        .await?;
        all.insert(person, memory.clone());
        Ok(memory)
    }

    /// Cleans what is over in those that are open; called now and then.
    pub async fn clean_working(&self) {
        let Ok(open) = self.opened() else { return };
        let all: Vec<WorkingMemory> = match &*open.working.lock().await {
            Some(all) => all.values().cloned().collect(),
            None => return,
        };
        for memory in all {
            memory.clean().await;
        }
    }

    /// Closes a person's, whose key is about to be forgotten.
    pub(crate) async fn close_working(&self, open: &Open, person: PersonId) {
        let mut working = open.working.lock().await;
        if let Some(memory) = working.as_mut().and_then(|all| all.remove(&person)) {
            memory.close().await;
        }
    }

    /// Removes a person's: their key is another, or they are erased. The next one is under a key of
    /// its own.
    pub(crate) async fn forget_working(&self, open: &Open, person: PersonId) {
        let mut working = open.working.lock().await;
        if let Some(memory) = working.as_mut().and_then(|all| all.remove(&person)) {
            memory.discard().await;
            return;
        }
        let root = self.root().to_owned();
        if let Err(error) = blocking(move || remove_from(&root, person)).await {
            tracing::warn!(%error, "a working memory could not be removed");
        }
    }

    /// Closes all of them; none is opened afterwards.
    pub(crate) async fn close_all_working(&self, open: &Open) {
        let all = open.working.lock().await.take();
        for memory in all.into_iter().flat_map(HashMap::into_values) {
            memory.close().await;
        }
    }
}
