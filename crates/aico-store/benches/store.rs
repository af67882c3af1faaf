//! Durable commits of one row a second: the store with 1 and 32 writers beside plain, unencrypted
//! SQLite (WAL, `synchronous=FULL`, a commit for each row) on the same disk in the same run.
//!
//! `cargo bench --locked --workspace --profile dev --bench store`. The rounds alternate, so that a
//! disk that gets slower does so for all of them; the median of the rounds is printed.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aico_store::{
    Identity, Migration, ModuleMigrations, RegistryError, Store, StoreRecord, StoreRegistry,
    rusqlite,
};

const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
const SQL: &str = "INSERT INTO row (body) VALUES (?1)";
const ROWS: ModuleMigrations = ModuleMigrations {
    module: "rows",
    migrations: &[Migration {
        version: 1,
        name: "rows",
        sql: "CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;",
    }],
};

/// Notes in memory: the cost of the database alone.
#[derive(Default)]
struct Memory(Mutex<HashMap<String, StoreRecord>>);

impl StoreRegistry for Memory {
    fn get(&self, id: &str) -> Result<Option<StoreRecord>, RegistryError> {
        Ok(self.0.lock().unwrap().get(id).cloned())
    }
    fn put(&self, id: &str, record: &StoreRecord) -> Result<(), RegistryError> {
        self.0.lock().unwrap().insert(id.to_owned(), record.clone());
        Ok(())
    }
    fn note_sequence(&self, id: &str, sequence: u64) -> Result<(), RegistryError> {
        if let Some(record) = self.0.lock().unwrap().get_mut(id) {
            record.last_sequence = sequence;
        }
        Ok(())
    }
    fn remove(&self, id: &str) -> Result<(), RegistryError> {
        self.0.lock().unwrap().remove(id);
        Ok(())
    }
}

/// A note is 40 bytes appended and synced, which is what a sealed registry costs at the least.
struct Synced(Memory, Mutex<std::fs::File>);

impl StoreRegistry for Synced {
    fn get(&self, id: &str) -> Result<Option<StoreRecord>, RegistryError> {
        self.0.get(id)
    }
    fn put(&self, id: &str, record: &StoreRecord) -> Result<(), RegistryError> {
        self.0.put(id, record)
    }
    fn note_sequence(&self, id: &str, sequence: u64) -> Result<(), RegistryError> {
        use std::io::Write;
        let mut file = self.1.lock().unwrap();
        file.write_all(&[1; 40])?;
        file.sync_data()?;
        self.0.note_sequence(id, sequence)
    }
    fn remove(&self, id: &str) -> Result<(), RegistryError> {
        self.0.remove(id)
    }
}

fn plain(folder: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(folder.join("plain.db")).unwrap();
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    connection
        .execute_batch("PRAGMA synchronous = FULL;")
        .unwrap();
    connection.execute_batch(ROWS.migrations[0].sql).unwrap();
    connection
}

fn measure_plain(connection: &rusqlite::Connection) -> f64 {
    let started = Instant::now();
    let mut rows = 0;
    while started.elapsed() < ROUND {
        connection
            .prepare_cached(SQL)
            .unwrap()
            .execute([[7_u8; 200]])
            .unwrap();
        rows += 1;
    }
    f64::from(rows) / started.elapsed().as_secs_f64()
}

fn measure(runtime: &tokio::runtime::Runtime, store: &Store, writers: usize) -> f64 {
    let rows = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..writers {
            let (store, rows) = (store.clone(), rows.clone());
            tasks.spawn(async move {
                while started.elapsed() < ROUND {
                    let write = store.write(|tx| {
                        tx.prepare_cached(SQL)?.execute([[7_u8; 200]])?;
                        Ok(())
                    });
                    write.await.unwrap();
                    rows.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        tasks.join_all().await;
    });
    rows.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // `cargo test --benches` runs this too, without this word; there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = tempfile::tempdir_in(".").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let plain = plain(folder.path());
    let notes = std::fs::File::create(folder.path().join("notes")).unwrap();
    let create = |name: &str, registry: Arc<dyn StoreRegistry>| {
        let path = folder.path().join(name);
        Store::create(&path, &[7; 32], &Identity::system(), &[ROWS], registry).unwrap()
    };
    let memory = create("memory.db", Arc::new(Memory::default()));
    let synced = create(
        "synced.db",
        Arc::new(Synced(Memory::default(), Mutex::new(notes))),
    );
    let mut results = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        results[0].push(measure_plain(&plain));
        results[1].push(measure(&runtime, &memory, 1));
        results[2].push(measure(&runtime, &memory, 32));
        results[3].push(measure(&runtime, &synced, 1));
        results[4].push(measure(&runtime, &synced, 32));
    }
    let names = [
        "plain SQLite, WAL FULL, 1 writer",
        "store, notes in memory, 1 writer",
        "store, notes in memory, 32 writers",
        "store, notes synced, 1 writer",
        "store, notes synced, 32 writers",
    ];
    let medians = results.map(median);
    for (name, median) in names.iter().zip(medians) {
        println!(
            "{name:<36} {median:>8.0} rows/s  {:>6.2} of plain",
            median / medians[0]
        );
    }
    for store in [memory, synced] {
        runtime.block_on(store.close()).unwrap();
    }
}
