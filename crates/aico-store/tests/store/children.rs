//! Child processes: this test program runs itself again, to be killed.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use aico_store::{
    FaultHook, FaultPoint, Migration, ModuleMigrations, OpenOptions, Store, StoreError, enqueue,
};

use crate::{
    migrations::{NOTES_3, NOTES_TWICE},
    support::{FileRegistry, KEY, NOTES, PERSON},
};

const TASK: &str = "AICO_STORE_TEST_TASK";
const FOLDER: &str = "AICO_STORE_TEST_FOLDER";
const POINT: &str = "AICO_STORE_TEST_POINT";

/// Tasks that write at once, each with a counter of its own.
pub(crate) const WRITERS: i64 = 8;

/// What the killed writers fill.
pub(crate) const MIXED: ModuleMigrations = ModuleMigrations {
    module: "mixed",
    migrations: &[Migration {
        version: 1,
        name: "counters and entries",
        sql: "
CREATE TABLE counter (task INTEGER PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE entry (task INTEGER, n INTEGER, body BLOB NOT NULL, PRIMARY KEY (task, n)) STRICT;",
    }],
};

pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("data/person.db")
}

pub(crate) fn registry(folder: &Path) -> Arc<FileRegistry> {
    Arc::new(FileRegistry(folder.join("registry")))
}

/// A folder with an empty store that was closed, for children to open; where it is, and its registry.
pub(crate) async fn made(
    modules: &[ModuleMigrations],
) -> (tempfile::TempDir, PathBuf, Arc<FileRegistry>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::create_dir(folder.path().join("registry")).unwrap();
    let (path, registry) = (path(folder.path()), registry(folder.path()));
    let store = Store::create(&path, &KEY, &PERSON, modules, registry.clone()).unwrap();
    store.close().await.unwrap();
    (folder, path, registry)
}

/// Starts a child that does `task` with the store in `folder`.
pub(crate) fn start(task: &str, folder: &Path, point: Option<FaultPoint>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "children::child", "--nocapture"])
        .env(TASK, task)
        .env(FOLDER, folder)
        .env(
            POINT,
            point.map(|point| format!("{point:?}")).unwrap_or_default(),
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The child's acknowledgements up to its end: the highest `n` of each task. Calls `at_first` when
/// the first one comes.
pub(crate) fn acknowledged(child: &mut Child, at_first: impl FnOnce()) -> Vec<i64> {
    let mut highest = vec![0; WRITERS as usize];
    let mut at_first = Some(at_first);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Ok(line) = line else { break };
        // The test harness may have begun the line.
        let Some((_, (task, n))) = line
            .split_once("ack ")
            .and_then(|(before, rest)| Some((before, rest.split_once(' ')?)))
        else {
            continue;
        };
        // The last line may be torn.
        let (Ok(task), Ok(n)) = (task.parse::<usize>(), n.parse::<i64>()) else {
            continue;
        };
        highest[task] = highest[task].max(n);
        if let Some(at_first) = at_first.take() {
            at_first();
        }
    }
    highest
}

/// Not a test: what the child does. Without the environment that [`start`] sets, nothing.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let point = std::env::var(POINT).unwrap();
    let hook = FaultHook::new(move |reached| {
        if format!("{reached:?}") == point {
            std::process::abort();
        }
        true
    });
    let options = OpenOptions {
        fault: Some(hook),
        ..OpenOptions::default()
    };
    let path = path(&folder);
    let open = |modules: &[ModuleMigrations]| {
        Store::open_with(
            &path,
            &KEY,
            &PERSON,
            modules,
            registry(&folder),
            options.clone(),
        )
    };
    match task.as_str() {
        "write" => {
            let store = open(&[MIXED]).unwrap();
            tokio::runtime::Runtime::new()
                .unwrap()
                .block_on(write_until_killed(store));
        }
        "end" => {
            let store = open(&[MIXED]).unwrap();
            tokio::runtime::Runtime::new()
                .unwrap()
                .block_on(end_while_writing(store));
        }
        "create" => {
            drop(Store::create_with(
                &path,
                &KEY,
                &PERSON,
                &[NOTES],
                registry(&folder),
                options.clone(),
            ));
        }
        "rekey" => {
            let store = open(&[MIXED]).unwrap();
            tokio::runtime::Runtime::new()
                .unwrap()
                .block_on(rekey_while_writing(store));
        }
        "vectors" => {
            let store = open(&[NOTES, aico_store::vectors::MIGRATIONS]).unwrap();
            tokio::runtime::Runtime::new()
                .unwrap()
                .block_on(repeat_until_killed(store, crate::vectors::step));
        }
        "working" => {
            tokio::runtime::Runtime::new()
                .unwrap()
                .block_on(crate::working::work_until_killed(&folder));
        }
        "big" => crate::big::migrate(&folder),
        "migrate" => drop(open(&[NOTES_TWICE])),
        "fail" => drop(open(&[NOTES_3])),
        other => panic!("no such task: {other}"),
    }
}

/// Writes, and is put under another key meanwhile.
async fn rekey_while_writing(store: Store) {
    let writing = tokio::spawn(write_until_killed(store.clone()));
    let key = aico_store::NumberedKey::new(&crate::rekey::NEXT, 2);
    store
        .rekey(key, aico_store::Progress::default())
        .await
        .unwrap();
    println!("rekeyed");
    // Some more under the new key, then the end without a warning.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    writing.abort();
    std::process::abort();
}

/// Lets go of everything while the engine is at work, and returns.
async fn end_while_writing(store: Store) {
    let (begun, begins) = tokio::sync::oneshot::channel();
    let writing = tokio::spawn(async move {
        store
            .write(move |tx| {
                begun.send(()).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(300));
                step(tx, 0)
            })
            .await
    });
    begins.await.unwrap();
    writing.abort();
}

async fn write_until_killed(store: Store) {
    repeat_until_killed(store, step).await;
}

/// A write of each task, as it is told how many it did.
type Step = fn(&aico_store::rusqlite::Transaction<'_>, i64) -> Result<i64, StoreError>;

async fn repeat_until_killed(store: Store, step: Step) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move {
            loop {
                let n = store.write(move |tx| step(tx, task)).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "ack {task} {n}").unwrap();
                out.flush().unwrap();
            }
        });
    }
    tasks.join_all().await;
}

/// One mixed write: an insert, an update, a delete, an event; sizes from one page to many.
fn step(tx: &aico_store::rusqlite::Transaction<'_>, task: i64) -> Result<i64, StoreError> {
    let n: i64 = tx.query_row(
        "INSERT INTO counter VALUES (?1, 1) ON CONFLICT DO UPDATE SET value = value + 1
         RETURNING value",
        [task],
        |row| row.get(0),
    )?;
    let length = if n % 17 == 0 { 60_000 } else { 40 + n % 700 };
    let body = vec![n as u8; length as usize];
    tx.execute("INSERT INTO entry VALUES (?1, ?2, ?3)", (task, n, body))?;
    tx.execute(
        "DELETE FROM entry WHERE task = ?1 AND n <= ?2",
        (task, n - 20),
    )?;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&task.to_be_bytes());
    id[8..].copy_from_slice(&n.to_be_bytes());
    tx.execute("DELETE FROM outbox WHERE topic = ?1", [format!("t{task}")])?;
    enqueue(tx, &format!("t{task}"), "test", b"", id)?;
    Ok(n)
}
