//! Opens what a cut has left, as the next start does, and tells what is there.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_access::{DataFolder, Home, HomeConfig, Source, Stage, Start};
use aico_bus::{Journal, Retention};
use aico_logging::{Console, Logging, Query};
use aico_store::{Store, StoreError, rusqlite::types::Value};
use aico_vault::{KdfCost, Keychains, Password};

use super::medium::Tree;
use crate::backups::names_in;
use crate::support::until;

/// What a home holds. Rows are told by a hash; they are compared and never shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Of the root key.
    pub(super) epoch: u32,
    /// By person and table.
    pub(super) rows: BTreeMap<String, BTreeSet<u64>>,
    /// Which of the passwords opened it.
    pub(super) opened_by: Option<usize>,
}

/// What may open it.
#[derive(Clone, Copy)]
pub(super) enum With<'a> {
    /// The key file.
    Key,
    /// Exactly one of these, and no key file.
    Passwords(&'a [&'a str]),
    /// Exactly one of these, and the key file.
    PasswordsAndKey(&'a [&'a str]),
}

impl Seen {
    /// Whether everything of a table of `other` is here too, unchanged.
    pub(super) fn holds(&self, other: &Self, table: &str) -> bool {
        let rows = |seen: &Self| seen.rows.get(table).cloned().unwrap_or_default();
        rows(other).is_subset(&rows(self))
    }

    pub(super) fn same_rows(&self, other: &Self) -> bool {
        self.rows == other.rows
    }
}

/// A folder for one disk, in memory where the system has such a place.
pub(super) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match tempfile::tempdir_in(memory) {
        Ok(folder) => folder,
        Err(_) => tempfile::tempdir().unwrap(),
    }
}

/// A home as the program would open it.
pub(super) fn home(folder: &Path) -> Home {
    home_with(folder, |config| config)
}

pub(super) fn home_with(folder: &Path, change: impl FnOnce(HomeConfig) -> HomeConfig) -> Home {
    Home::open(change(HomeConfig {
        data: folder.join("data"),
        kdf: KdfCost::minimum(),
        keychains: keychains(folder),
        backups: folder.join("data-backups"),
        configuration: None,
        token_hours: 24,
        system_migrations: vec![aico_models::supervisor::MIGRATIONS],
        person_migrations: vec![
            aico_companion::MIGRATIONS,
            aico_store::vectors::MIGRATIONS,
            aico_access::EGRESS_MIGRATIONS,
        ],
        person_exports: Vec::new(),
    }))
    .unwrap()
}

fn keychains(folder: &Path) -> Arc<Keychains> {
    let keys = folder.join("config/aico/keys");
    Arc::new(Keychains::of_this_machine(Some(keys)))
}

/// Runs what needs a runtime.
pub(super) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// What is there after a cut; `None`: nothing was set up. Whatever needs a hand, or says that
/// something is missing, panics.
pub(super) fn look(tree: &Tree, with: With<'_>) -> Option<Seen> {
    let folder = scratch();
    tree.write_to(folder.path());
    run(async {
        let seen = look_once(folder.path(), with).await?;
        if matches!(with, With::Passwords(_)) {
            return Some(seen);
        }
        // What the first start mended the second finds mended.
        let again = look_once(folder.path(), With::Key).await.unwrap();
        assert!(again.same_rows(&seen), "two starts see two things");
        Some(seen)
    })
}

async fn look_once(folder: &Path, with: With<'_>) -> Option<Seen> {
    let data = folder.join("data");
    // A process that another test starts has the lock too until it runs its own program.
    let _claimed = until("the data folder is free", || DataFolder::claim(&data).ok());
    let home = home(folder);
    if home.stage() == Stage::New {
        return None;
    }
    let opened_by = match with {
        With::Key => match home.start_unattended().await.unwrap() {
            Start::Unlocked => None,
            other => panic!("the key file did not open it: {other:?}"),
        },
        With::Passwords(all) | With::PasswordsAndKey(all) => Some(unlock(&home, all).await),
    };
    let mut seen = Seen {
        epoch: home.vault_info().await.unwrap().key_epoch,
        rows: BTreeMap::new(),
        opened_by,
    };
    rows(&home.system().unwrap(), "", &mut seen.rows).await;
    for person in home.persons().await.unwrap() {
        let store = home.store_of(person.id).await.unwrap();
        rows(&store, person.name.as_str(), &mut seen.rows).await;
    }
    journal(&home).await;
    logs(&home, &data).await;
    home.stop().await.unwrap();
    Some(seen)
}

/// Exactly one of these opens it; which.
async fn unlock(home: &Home, passwords: &[&str]) -> usize {
    let mut opened = Vec::new();
    for (number, password) in passwords.iter().enumerate() {
        let password = Password::new(password).unwrap();
        if home.unlock(&password, Source::local()).await.is_ok() {
            opened.push(number);
        }
    }
    assert_eq!(opened.len(), 1, "passwords that open it: {opened:?}");
    opened[0]
}

/// What of the system's store is told: the rest changes with every start.
const TOLD: [&str; 2] = ["access_person", "access_tombstone"];

async fn rows(store: &Store, person: &str, into: &mut BTreeMap<String, BTreeSet<u64>>) {
    let is_system = person.is_empty();
    let all = store.read(move |db| {
        let mut all = BTreeMap::new();
        for table in aico_store::tables(db)? {
            // Kept by the store for itself, and emptied while it runs.
            let own = table.starts_with("store_") || table == "outbox";
            if own || is_system && !TOLD.contains(&table.as_str()) {
                continue;
            }
            let mut query = db.prepare(&format!("SELECT * FROM \"{table}\""))?;
            let columns = query.column_count();
            let rows = query.query_map([], |row| {
                let mut hasher = DefaultHasher::new();
                for column in 0..columns {
                    format!("{:?}", row.get::<_, Value>(column)?).hash(&mut hasher);
                }
                Ok(hasher.finish())
            })?;
            let rows = rows.collect::<Result<BTreeSet<u64>, _>>()?;
            all.insert(table, rows);
        }
        Ok::<_, StoreError>(all)
    });
    for (table, rows) in all.await.unwrap() {
        into.insert(format!("{person}/{table}"), rows);
    }
}

/// The journal opens, is damaged nowhere, and goes on with the file that it ended with.
async fn journal(home: &Home) {
    let vault = home.vault().unwrap();
    let folder = vault.data().join("journal");
    let before = names_in(&folder);
    let opening = folder.clone();
    let journal = tokio::task::spawn_blocking(move || {
        Journal::open(Arc::new(vault), &opening, Retention::new(7, 64))
    });
    let journal = journal.await.unwrap().unwrap();
    tokio::task::spawn_blocking(move || journal.close())
        .await
        .unwrap()
        .unwrap();
    let after = names_in(&folder);
    let aside = after.iter().find(|name| name.ends_with(".damaged"));
    assert_eq!(aside, None, "a file of the journal is damaged");
    let more = after.iter().find(|name| !before.contains(name));
    assert!(
        before.is_empty() || more.is_none(),
        "the journal lost {before:?}: {after:?}"
    );
}

/// Every file of the log can be read to its end, but for the one that was being written: of several
/// writes to it that were not synced a later one may be there without an earlier one. What is
/// before that is read, and it is told.
async fn logs(home: &Home, data: &Path) {
    let settings = aico_config::Config::default().logging;
    let (logging, _dispatch) = Logging::prepare(&settings, Console::Off);
    let (vault, folder): (_, PathBuf) = (home.vault().unwrap(), data.join("logs"));
    tokio::task::spawn_blocking(move || {
        logging.attach(&folder, vault, &settings).unwrap();
        let records = logging
            .reader()
            .unwrap()
            .collect(&Query::default())
            .unwrap();
        let told = records
            .iter()
            .map(|record| serde_json::to_string(record).unwrap())
            .filter(|text| text.contains("could not be read to its end"));
        let told: Vec<String> = told.collect();
        assert!(told.len() <= 1, "{told:?}");
        logging.detach();
    })
    .await
    .unwrap();
}
