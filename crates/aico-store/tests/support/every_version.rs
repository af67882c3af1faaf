//! Each schema version that there was of a database, brought up to the present one: whole, and cut off
//! at every point. Taken in by the crates that have modules, and by the program, which puts them
//! together.
//!
//! In a crate's `tests/fixtures/schema`, `<module>-<step>.sql` are rows in what a step made, as
//! programs of then wrote them. A database of a version is made by the steps of then, which never
//! change, and has the rows of each. `from-<version>.txt` is what it has to be in the end: every
//! column of every row, and in the ledger the hash of each step's text. A new step needs rows, and
//! changes what all become: `UPDATE=1` writes that anew, and whoever made the step reads what came.
//!
//! A database made so is made by the engine and the store of today. Beside what each of the program's
//! own databases becomes lies therefore a file of its first version, `version-1.db`: written once, by
//! `UPDATE=1` where there is none, and read ever after as it is. In it are the pages as the engine of
//! then encrypted them, the store's own tables of then, and a ledger with the hashes of the texts of
//! then, which no `UPDATE=1` changes.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aico_store::rusqlite::{Batch, Connection, fallible_iterator::FallibleIterator};
use aico_store::{
    FaultHook, FaultPoint, Identity, ModuleMigrations, OpenError, OpenOptions, Store, StoreError,
    StoreRecord, StoreRegistry,
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

/// Zeros in a row that are counted instead of shown: vectors' codes are a page of little else.
const ZEROS: usize = 64;

/// A database.
pub(crate) struct Case {
    pub(crate) identity: Identity,
    /// The modules of the program of today: its own list of them where it has one, so that a module
    /// that is new there and forgotten here is noticed.
    pub(crate) present: Vec<ModuleMigrations>,
    /// Of each program that there was, from the first on, how many steps it had of these modules.
    pub(crate) versions: &'static [&'static [usize]],
    /// The crates that have the rows of the steps.
    pub(crate) rows: &'static [&'static str],
    /// The folder for what they become, in this crate's `tests/fixtures/schema`.
    pub(crate) expected: &'static str,
    /// Whether these are all modules of one of the program's databases. Then a file of the first
    /// version is kept, and only that version is cut off at every point: it is the one in which all
    /// later steps are pending, so that going on has to find its way from each into the next, also
    /// where that is another module's. The other versions stop among fewer of the same steps, which
    /// the modules' crates try for each of theirs.
    pub(crate) whole: bool,
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
                let name = format!("{}-{step}.sql", module.module);
                let mut places = self.rows.iter().map(|owner| schema_of(owner).join(&name));
                match places.find(|place| place.exists()) {
                    Some(place) => rows.push_str(&fs::read_to_string(place).unwrap()),
                    None => panic!("{name} is with none of {:?}", self.rows),
                }
            }
        }
        rows
    }

    /// A file beside what the versions become.
    fn expected(&self, name: &str) -> PathBuf {
        schema_of(env!("CARGO_PKG_NAME"))
            .join(self.expected)
            .join(name)
    }

    fn text_of(&self, number: usize) -> PathBuf {
        self.expected(&format!("from-{number}.txt"))
    }

    /// The file of the first version that is kept.
    fn kept(&self) -> PathBuf {
        self.expected("version-1.db")
    }

    /// No module was forgotten, and no step: each was the newest of its module in some program.
    fn has_every_version(&self) {
        let modules: Vec<&str> = self.present.iter().map(|module| module.module).collect();
        for version in self.versions {
            let (told, all) = (version.len(), modules.len());
            assert_eq!(
                told, all,
                "{version:?} does not tell of each of {modules:?}"
            );
        }
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

/// The fixtures of a crate.
fn schema_of(owner: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name(owner)
        .join("tests/fixtures/schema")
}

/// Whether what is expected is to be written, and not compared.
fn updating() -> bool {
    std::env::var_os("UPDATE").is_some_and(|value| value == "1")
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

    /// Leaves a database as a program of a version did.
    async fn leave(&self, version: &[usize]) {
        let store = self.create(&self.case.of_then(version));
        let rows = self.case.rows(version);
        let written = store.write(move |tx| Ok(tx.execute_batch(&rows)?));
        written.await.unwrap();
        store.close().await.unwrap();
    }

    /// Puts the kept file here. Of the registry of then that is noted which can be read off it: what
    /// it was when it was closed is not, so that it is opened as one that was not, page by page.
    fn put_kept(&self) {
        let kept = self.case.kept();
        let bytes = match fs::read(&kept) {
            Ok(bytes) => bytes,
            Err(error) => panic!("{}: {error}; UPDATE=1 makes it", kept.display()),
        };
        // Made by whoever checked it out; a store's is for its owner alone.
        let folder = self.path.parent().unwrap();
        let mut file = tempfile::NamedTempFile::new_in(folder).unwrap();
        file.write_all(&bytes).unwrap();
        file.persist(&self.path).unwrap();
        let record = StoreRecord {
            salt: *bytes.first_chunk().unwrap(),
            generation: 1,
            last_sequence: 1,
            closed_hash: None,
            key: 0,
        };
        let store = self.case.identity.store_id();
        self.registry.put(&store, &record).unwrap();
    }

    /// Opens, and compares everything with what it has to be.
    async fn becomes(&self, number: usize, present: &[(String, Option<String>)], what: &str) {
        let store = self.open(None).unwrap();
        assert_eq!(shape(&store).await, present, "{what}");
        let found = contents(&store).await;
        has_become(&self.case.text_of(number), &found, what);
        assert!(is_sound(&store).await, "{what}");
        store.close().await.unwrap();
        let left = self.path.with_extension("db.before-migration");
        assert!(!left.exists(), "{what}");
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
                text.push_str(&format!("    {}\n", with_zeros_counted(&row)));
            }
        }
        Ok(text)
    });
    read.await.unwrap()
}

fn with_zeros_counted(row: &str) -> String {
    let many = "0".repeat(ZEROS);
    let (mut text, mut rest) = (String::new(), row);
    while let Some((before, from)) = rest.split_once(&many) {
        let after = from.trim_start_matches('0');
        let zeros = ZEROS + from.len() - after.len();
        text.push_str(&format!("{before}({zeros} zeros)"));
        rest = after;
    }
    text + rest
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
fn has_become(path: &Path, found: &str, what: &str) {
    let expected = fs::read_to_string(path).unwrap_or_default();
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
    no_statement_takes_a_table_at_once(&case.present);
    case.has_every_version();
    let present = {
        let bench = Bench::new(case);
        let store = bench.create(&case.present);
        let shape = shape(&store).await;
        store.close().await.unwrap();
        shape
    };
    assert!(present.len() > 4);
    if updating() {
        write_what_is_expected(case).await;
    }
    let all: usize = case
        .present
        .iter()
        .map(|module| module.migrations.len())
        .sum();
    for (number, version) in (1..).zip(case.versions) {
        let pending = all - version.iter().sum::<usize>();
        let stops = match case.whole && number > 1 {
            true => Vec::new(),
            false => points(pending),
        };
        // Without an interruption, then with one at each point of each step.
        for stop in std::iter::once(None).chain(stops.into_iter().map(Some)) {
            let what = format!("version {number}, {stop:?}");
            let bench = Bench::new(case);
            bench.leave(version).await;
            if let Some(stop) = stop {
                match bench.open(Some(stop)) {
                    Err(OpenError::Interrupted) => {}
                    // Nothing was pending: only what is left beside it is looked for.
                    Ok(store) if pending == 0 => store.close().await.unwrap(),
                    Ok(_) => panic!("{what}: it was not passed"),
                    Err(error) => panic!("{what}: {error}"),
                }
            }
            bench.becomes(number, &present, &what).await;
        }
    }
    if case.whole {
        let bench = Bench::new(case);
        bench.put_kept();
        bench.becomes(1, &present, "the kept file").await;
    }
}

/// Writes anew what the versions become, and a file of the first one where none is kept.
async fn write_what_is_expected(case: &Case) {
    fs::create_dir_all(case.expected("")).unwrap();
    for (number, version) in (1..).zip(case.versions) {
        let bench = Bench::new(case);
        bench.leave(version).await;
        if case.whole && number == 1 && !case.kept().exists() {
            fs::copy(&bench.path, case.kept()).unwrap();
        }
        let store = bench.open(None).unwrap();
        fs::write(case.text_of(number), contents(&store).await).unwrap();
        store.close().await.unwrap();
    }
}
