//! Each schema version that there was of a database, brought up to the present one: whole, and cut off
//! at every point. Taken in by the crates that have modules.
//!
//! In the crate's `tests/fixtures/schema`, `<module>-<step>.sql` are rows in what a step made, as
//! programs of then wrote them. A database of a version is made by the steps of then, which never
//! change, and has the rows of each. `from-<version>.txt` is what it has to be in the end: every
//! column of every row, and in the ledger the hash of each step's text. A new step needs rows, and
//! changes what all become: `UPDATE=1` writes that anew, and whoever made the step reads what came.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aico_store::rusqlite::{Batch, Connection, fallible_iterator::FallibleIterator};
use aico_store::{
    FaultHook, FaultPoint, Identity, ModuleMigrations, OpenError, OpenOptions, Store, StoreError,
    StoreRegistry,
};
use aico_vault::{KdfCost, Password, Vault};

const KEY: [u8; 32] = [5; 32];

/// What has not been handed on yet: in a table of the store's own, which each database has.
const EVENT: &str = "
INSERT INTO outbox (position, id, topic, payload_type, payload, created_at) VALUES
    (7, x'aa112233445566778899aabbccddeeff', 'conversation/changed', 'aico.v1.Event', x'0801', 4);
";

/// Said by the clock of whoever made it.
const MADE: [(&str, &str); 2] = [
    ("store_identity", "created_at"),
    ("store_ledger", "applied_at"),
];

/// A database.
pub(crate) struct Case {
    pub(crate) identity: Identity,
    /// The modules of the program of today.
    pub(crate) present: &'static [ModuleMigrations],
    /// Of each program that there was, from the first on, how many steps it had of these modules.
    pub(crate) versions: &'static [&'static [usize]],
}

impl Case {
    /// The modules, as a program of then had them.
    fn of_then(&self, version: &[usize]) -> Vec<ModuleMigrations> {
        let modules = self.present.iter().zip(version);
        modules
            .map(|(module, steps)| ModuleMigrations {
                module: module.module,
                migrations: &module.migrations[..*steps],
            })
            .collect()
    }

    /// What such a program may have written.
    fn rows(&self, version: &[usize]) -> String {
        let mut rows = EVENT.to_owned();
        for (module, steps) in self.present.iter().zip(version) {
            for step in 1..=*steps {
                let path = fixture(&format!("{}-{step}.sql", module.module));
                match fs::read_to_string(&path) {
                    Ok(text) => rows.push_str(&text),
                    Err(error) => panic!("{}: {error}", path.display()),
                }
            }
        }
        rows
    }

    /// No step was forgotten: each was the newest of its module in some program.
    fn has_every_version(&self) {
        for (place, module) in self.present.iter().enumerate() {
            for step in 1..=module.migrations.len() {
                let tried = self.versions.iter().any(|version| version[place] == step);
                assert!(
                    tried,
                    "no version ends with step {step} of {}",
                    module.module
                );
            }
        }
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/schema")
        .join(name)
}

/// Points that a migration passes once.
const POINTS: [FaultPoint; 5] = [
    FaultPoint::SnapshotCopied,
    FaultPoint::SnapshotNamed,
    FaultPoint::SnapshotRegistered,
    FaultPoint::StepsDone,
    FaultPoint::SnapshotForgotten,
];

/// All points of a migration of so many steps: those of each step too.
fn points(steps: usize) -> Vec<(FaultPoint, usize)> {
    let once = POINTS.map(|point| (point, 1));
    let each = (1..=steps).flat_map(|step| {
        [FaultPoint::StepRan, FaultPoint::StepCommitted].map(|point| (point, step))
    });
    once.into_iter().chain(each).collect()
}

struct Bench<'a> {
    case: &'a Case,
    path: PathBuf,
    registry: Arc<dyn StoreRegistry>,
    _folder: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    fn new(case: &'a Case) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let master = Password::new("velvet harbour moss lantern").unwrap();
        let home = folder.path().join("home");
        let (vault, _) = Vault::create_with(&home, &master, KdfCost::minimum()).unwrap();
        Self {
            case,
            path: folder.path().join("a.db"),
            registry: Arc::new(vault),
            _folder: folder,
        }
    }

    fn create(&self, modules: &[ModuleMigrations]) -> Store {
        let registry = Arc::clone(&self.registry);
        Store::create(&self.path, &KEY, &self.case.identity, modules, registry).unwrap()
    }

    /// Stops at a point when it is passed for the so-manieth time.
    fn open(&self, stop: Option<(FaultPoint, usize)>) -> Result<Store, OpenError> {
        let registry = Arc::clone(&self.registry);
        let options = OpenOptions {
            fault: stop.map(|(stop, nth)| {
                let passed = AtomicUsize::new(0);
                FaultHook::new(move |reached| {
                    reached != stop || passed.fetch_add(1, Ordering::SeqCst) + 1 != nth
                })
            }),
            ..OpenOptions::default()
        };
        let Case {
            identity, present, ..
        } = self.case;
        Store::open_with(&self.path, &KEY, identity, present, registry, options)
    }
}

/// Tables, indexes and triggers, as they stand.
async fn shape(store: &Store) -> Vec<(String, Option<String>)> {
    let read = store.read(|db| {
        let mut query = db.prepare(
            "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name",
        )?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    });
    read.await.unwrap()
}

/// What every table holds, a row a line.
async fn contents(store: &Store) -> String {
    // A full-text index is looked at as a table; the tables that it is kept in are bytes of the
    // engine's, except for what was set for it.
    const TABLES: &str = r"SELECT name FROM pragma_table_list
        WHERE schema = 'main' AND name <> 'sqlite_schema'
            AND (type IN ('table', 'virtual') OR name LIKE '%\_config' ESCAPE '\')
        ORDER BY name";
    let read = store.read(|db| {
        let list = |sql: &str| -> Result<Vec<String>, StoreError> {
            let mut query = db.prepare(sql)?;
            let rows = query.query_map([], |row| row.get::<_, String>(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let mut text = String::new();
        for table in list(TABLES)? {
            let columns = db.prepare(&format!("SELECT * FROM \"{table}\""))?;
            let columns: Vec<String> = columns
                .column_names()
                .map(|column| match MADE.contains(&(table.as_str(), column)) {
                    true => format!("'{column}=…'"),
                    false => format!("'{column}=' || quote(\"{column}\")"),
                })
                .collect();
            let columns = columns.join(" || ', ' || ");
            let mut rows = list(&format!("SELECT {columns} FROM \"{table}\""))?;
            rows.sort();
            if rows.is_empty() {
                rows.push("(none)".to_owned());
            }
            text.push_str(&format!("{table}\n"));
            for row in rows {
                let row = row.replace('\\', "\\\\").replace('\n', "\\n");
                text.push_str(&format!("    {row}\n"));
            }
        }
        Ok(text)
    });
    read.await.unwrap()
}

/// References lead somewhere, and indexes fit what they are of, full-text ones too.
async fn is_sound(store: &Store) -> bool {
    let read = store.read(|db| {
        let sql = "SELECT count(*) FROM pragma_foreign_key_check";
        let lost: i64 = db.query_row(sql, [], |row| row.get(0))?;
        let said: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        Ok(lost == 0 && said == "ok")
    });
    read.await.unwrap()
}

/// Compares with what it has to be.
fn has_become(number: usize, found: &str, what: &str) {
    let path = fixture(&format!("from-{number}.txt"));
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if found == expected {
        return;
    }
    let (mut is, mut ought) = (found.lines(), expected.lines());
    let (is, ought) = loop {
        match (is.next(), ought.next()) {
            (None, None) => break (None, None),
            (is, ought) if is != ought => break (is, ought),
            _ => {}
        }
    };
    panic!(
        "{what}: it is not as in {}\nit has:      {is:?}\nit ought to: {ought:?}",
        path.display()
    );
}

/// Steps run on whatever a person has collected: a statement that changes or copies the rows of a
/// table names a range of keys, so that its memory does not grow with the table.
fn no_statement_takes_a_table_at_once(modules: &[ModuleMigrations]) {
    let db = Connection::open_in_memory().unwrap();
    for step in modules.iter().flat_map(|module| module.migrations) {
        let mut statements = Batch::new(&db, step.sql);
        while let Some(mut statement) = statements.next().unwrap() {
            let text = statement.expanded_sql().unwrap().to_uppercase();
            let text = text.trim_start();
            let copies = text.starts_with("INSERT") && text.contains("SELECT");
            if copies || text.starts_with("UPDATE") || text.starts_with("DELETE") {
                let ranges = statement.parameter_count() == 2;
                assert!(ranges, "step {}, {}: {text}", step.version, step.name);
            }
            let mut rows = statement.raw_query();
            while rows.next().unwrap().is_some() {}
        }
    }
}

pub(crate) async fn becomes_the_present_one_and_keeps_its_rows(case: &Case) {
    no_statement_takes_a_table_at_once(case.present);
    case.has_every_version();
    let present = {
        let bench = Bench::new(case);
        let store = bench.create(case.present);
        let shape = shape(&store).await;
        store.close().await.unwrap();
        shape
    };
    assert!(present.len() > 5);
    let all: usize = case
        .present
        .iter()
        .map(|module| module.migrations.len())
        .sum();
    for (number, version) in (1..).zip(case.versions) {
        let pending = all - version.iter().sum::<usize>();
        // Without an interruption, then with one at each point of each step.
        let stops = points(pending).into_iter().map(Some);
        for stop in std::iter::once(None).chain(stops) {
            let what = format!("version {number}, {stop:?}");
            let bench = Bench::new(case);
            let store = bench.create(&case.of_then(version));
            let rows = case.rows(version);
            store
                .write(move |tx| Ok(tx.execute_batch(&rows)?))
                .await
                .unwrap();
            store.close().await.unwrap();
            if let Some(stop) = stop {
                match bench.open(Some(stop)) {
                    Err(OpenError::Interrupted) => {}
                    // Nothing was pending: only what is left beside it is looked for.
                    Ok(store) if pending == 0 => store.close().await.unwrap(),
                    Ok(_) => panic!("{what}: it was not passed"),
                    Err(error) => panic!("{what}: {error}"),
                }
            }
            let store = bench.open(None).unwrap();
            assert_eq!(shape(&store).await, present, "{what}");
            let found = contents(&store).await;
            if stop.is_none() && std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
                fs::write(fixture(&format!("from-{number}.txt")), &found).unwrap();
            }
            has_become(number, &found, &what);
            assert!(is_sound(&store).await, "{what}");
            store.close().await.unwrap();
            let left = bench.path.with_extension("db.before-migration");
            assert!(!left.exists(), "{what}");
        }
    }
}
