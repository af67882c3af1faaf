//! Each schema version that there was, brought up to the present one: whole, and cut off at every
//! point.

use std::path::PathBuf;
use std::sync::Arc;

use aico_store::{
    FaultHook, FaultPoint, Identity, Migration, ModuleMigrations, OpenError, OpenOptions, Store,
    StoreRegistry,
};
use aico_vault::{KdfCost, Password, Vault};

use crate::MIGRATIONS;

const KEY: [u8; 32] = [5; 32];
const IDENTITY: fn() -> Identity = || Identity::person([1; 16]);
const PRESENT: &[ModuleMigrations] = &[MIGRATIONS];
/// Rows of the first version.
const ROWS: &str = "
    INSERT INTO companion_conversation VALUES
        (x'00112233445566778899aabbccddeeff', 'Tea', 0, 'aico', 1, 2, NULL);
    INSERT INTO companion_message (id, conversation, role, status, created_ms) VALUES
        (x'ff112233445566778899aabbccddeeff', x'00112233445566778899aabbccddeeff', 1, 1, 1);
    INSERT INTO companion_part VALUES (x'ff112233445566778899aabbccddeeff', 0, 'text', 'quince');
    INSERT INTO companion_text (text, conversation, message) VALUES
        ('quince', x'00112233445566778899aabbccddeeff', x'ff112233445566778899aabbccddeeff');";
const COUNT: &str = "SELECT (SELECT count(*) FROM companion_conversation)
    + (SELECT count(*) FROM companion_message) + (SELECT count(*) FROM companion_part)
    + (SELECT count(*) FROM companion_text WHERE companion_text MATCH 'quince')";
const KEPT: i64 = 4;

/// Points that a migration passes.
const POINTS: [FaultPoint; 6] = [
    FaultPoint::SnapshotCopied,
    FaultPoint::SnapshotNamed,
    FaultPoint::SnapshotRegistered,
    FaultPoint::StepRan,
    FaultPoint::StepCommitted,
    FaultPoint::StepsDone,
];

struct Bench {
    _folder: tempfile::TempDir,
    path: PathBuf,
    registry: Arc<dyn StoreRegistry>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let master = Password::new("velvet harbour moss lantern").unwrap();
        let home = folder.path().join("home");
        let (vault, _) = Vault::create_with(&home, &master, KdfCost::minimum()).unwrap();
        Self {
            path: folder.path().join("a.db"),
            registry: Arc::new(vault),
            _folder: folder,
        }
    }

    fn create(&self, modules: &[ModuleMigrations]) -> Store {
        let registry = Arc::clone(&self.registry);
        Store::create(&self.path, &KEY, &IDENTITY(), modules, registry).unwrap()
    }

    fn open(&self, stop: Option<FaultPoint>) -> Result<Store, OpenError> {
        let registry = Arc::clone(&self.registry);
        let options = OpenOptions {
            fault: stop.map(|stop| FaultHook::new(move |reached| reached != stop)),
            ..OpenOptions::default()
        };
        Store::open_with(&self.path, &KEY, &IDENTITY(), PRESENT, registry, options)
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

#[tokio::test]
async fn every_schema_version_becomes_the_present_one_and_keeps_its_rows() {
    let present = {
        let bench = Bench::new();
        let store = bench.create(PRESENT);
        let shape = shape(&store).await;
        store.close().await.unwrap();
        shape
    };
    assert!(present.len() > 5);
    for steps in 1..=PRESENT[0].migrations.len() {
        let pending = steps < PRESENT[0].migrations.len() || PRESENT.len() > 1;
        // Without an interruption, then with one at each point.
        for stop in std::iter::once(None).chain(POINTS.map(Some)) {
            let bench = Bench::new();
            let store = bench.create(&[of_then(&PRESENT[0], steps)]);
            store.write(|tx| Ok(tx.execute_batch(ROWS)?)).await.unwrap();
            store.close().await.unwrap();
            if let Some(stop) = stop {
                match bench.open(Some(stop)) {
                    Err(OpenError::Interrupted) => assert!(pending, "{stop:?}"),
                    Ok(store) => {
                        assert!(!pending, "version {steps}: {stop:?} was not passed");
                        store.close().await.unwrap();
                    }
                    Err(error) => panic!("version {steps}, {stop:?}: {error}"),
                }
            }
            let store = bench.open(None).unwrap();
            assert_eq!(shape(&store).await, present, "version {steps}, {stop:?}");
            let kept: i64 = store
                .read(|db| Ok(db.query_row(COUNT, [], |row| row.get(0))?))
                .await
                .unwrap();
            assert_eq!(kept, KEPT, "version {steps}, {stop:?}");
            store.close().await.unwrap();
            let left = bench.path.with_extension("db.before-migration");
            assert!(!left.exists(), "version {steps}, {stop:?}");
        }
    }
}
