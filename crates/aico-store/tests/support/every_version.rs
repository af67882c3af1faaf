//! Each schema version that there was of a module, brought up to the present one: whole, and cut off
//! at every point. Taken in by the crates that have modules.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aico_store::rusqlite::{Batch, Connection, fallible_iterator::FallibleIterator};
use aico_store::{
    FaultHook, FaultPoint, Identity, Migration, ModuleMigrations, OpenError, OpenOptions, Store,
    StoreRegistry,
};
use aico_vault::{KdfCost, Password, Vault};

const KEY: [u8; 32] = [5; 32];

/// A module, and rows that its first version can hold.
pub(crate) struct Case {
    pub(crate) identity: Identity,
    /// The module first, then those that live in the same store.
    pub(crate) present: &'static [ModuleMigrations],
    pub(crate) rows: &'static str,
    /// Counts those rows, in the first version and in the present one.
    pub(crate) count: &'static str,
    pub(crate) kept: i64,
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

/// The first `steps` of a module, as a program of then had them.
fn of_then(module: &ModuleMigrations, steps: usize) -> ModuleMigrations {
    let steps: Vec<Migration> = module.migrations[..steps].to_vec();
    ModuleMigrations {
        module: module.module,
        migrations: Box::leak(steps.into_boxed_slice()),
    }
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
    let present = {
        let bench = Bench::new(case);
        let store = bench.create(case.present);
        let shape = shape(&store).await;
        store.close().await.unwrap();
        shape
    };
    assert!(present.len() > 5);
    for steps in 1..=case.present[0].migrations.len() {
        let all: usize = case
            .present
            .iter()
            .map(|module| module.migrations.len())
            .sum();
        let pending = all - steps;
        // Without an interruption, then with one at each point of each step.
        let stops = points(pending).into_iter().map(Some);
        for stop in std::iter::once(None).chain(stops) {
            let bench = Bench::new(case);
            let store = bench.create(&[of_then(&case.present[0], steps)]);
            store
                .write(|tx| Ok(tx.execute_batch(case.rows)?))
                .await
                .unwrap();
            store.close().await.unwrap();
            if let Some(stop) = stop {
                match bench.open(Some(stop)) {
                    Err(OpenError::Interrupted) => {}
                    // Nothing was pending: only what is left beside it is looked for.
                    Ok(store) if pending == 0 => store.close().await.unwrap(),
                    Ok(_) => panic!("version {steps}: {stop:?} was not passed"),
                    Err(error) => panic!("version {steps}, {stop:?}: {error}"),
                }
            }
            let store = bench.open(None).unwrap();
            assert_eq!(shape(&store).await, present, "version {steps}, {stop:?}");
            let kept: i64 = store
                .read(|db| Ok(db.query_row(case.count, [], |row| row.get(0))?))
                .await
                .unwrap();
            assert_eq!(kept, case.kept, "version {steps}, {stop:?}");
            store.close().await.unwrap();
            let left = bench.path.with_extension("db.before-migration");
            assert!(!left.exists(), "version {steps}, {stop:?}");
        }
    }
}
