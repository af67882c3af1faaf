//! Migrations of big databases: told all along, in memory that does not grow with them (row 11).
//! `./test --long` takes one of more than a gigabyte.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use aico_store::{
    FaultHook, FaultPoint, Migration, MigrationWatch, ModuleMigrations, OpenError, OpenOptions,
    Store, StoreError,
};
use sha2::{Digest, Sha256};

use crate::{
    children,
    support::{KEY, PERSON, SmallDisk, names},
};

const MADE: Migration = Migration {
    version: 1,
    name: "pages",
    sql: "CREATE TABLE page (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;",
};
const FIRST: ModuleMigrations = ModuleMigrations {
    module: "pages",
    migrations: &[MADE],
};
/// Writes every row anew, range by range.
const REWRITTEN: ModuleMigrations = ModuleMigrations {
    module: "pages",
    migrations: &[
        MADE,
        Migration {
            version: 2,
            name: "a length for each page",
            sql: "ALTER TABLE page ADD COLUMN length INTEGER;
                  UPDATE page SET length = length(body) WHERE id BETWEEN :first_page AND :last_page;",
        },
        Migration {
            version: 3,
            name: "an index",
            sql: "CREATE INDEX page_length ON page (length);",
        },
    ],
};
/// Bytes of a row.
const ROW: usize = 3000;
/// Rows that are written at once.
const BATCH: u64 = 2000;

/// A closed database of about so many bytes, of the first version; how many rows it has.
async fn made(folder: &Path, bytes: u64) -> u64 {
    for name in ["data", "registry"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    let (path, registry) = (children::path(folder), children::registry(folder));
    let store = Store::create(&path, &KEY, &PERSON, &[FIRST], registry).unwrap();
    let rows = (bytes / ROW as u64).next_multiple_of(BATCH);
    for first in (0..rows).step_by(usize::try_from(BATCH).unwrap()) {
        let written = store.write(move |tx| {
            let mut insert = tx.prepare_cached("INSERT INTO page VALUES (?1, ?2)")?;
            for row in first..first + BATCH {
                insert.execute((i64::try_from(row).unwrap(), vec![row as u8; ROW]))?;
            }
            Ok(())
        });
        written.await.unwrap();
    }
    store.close().await.unwrap();
    rows
}

/// What the child does: opens with the newer program, and tells what it heard and what it took.
pub(crate) fn migrate(folder: &Path) {
    let watch = MigrationWatch::new(|progress| match progress {
        Some(progress) => {
            let left = progress.left.map_or(-1, |left| left.as_secs() as i64);
            println!("\nat {} {left}", progress.percent);
        }
        None => println!("\nover"),
    });
    let stop_at = fs::read_to_string(folder.join("stop-at")).ok();
    let stop_at: Option<u64> = stop_at.map(|text| text.parse().unwrap());
    let ranges = AtomicU64::new(0);
    let fault = FaultHook::new(move |reached| {
        let passed = u64::from(reached == FaultPoint::RangeRan);
        if Some(ranges.fetch_add(passed, Ordering::SeqCst) + passed) == stop_at {
            std::process::abort();
        }
        true
    });
    let options = OpenOptions {
        watch: Some(watch),
        fault: Some(fault),
        ..OpenOptions::default()
    };
    let (path, registry) = (children::path(folder), children::registry(folder));
    let store = Store::open_with(&path, &KEY, &PERSON, &[REWRITTEN], registry, options).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.unwrap().trim().trim_end_matches(" kB");
    println!("\npeak {kib}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(store.close()).unwrap();
}

/// What a child heard: hundredths as they rose, whether it said how long it takes, its peak in KiB.
struct Heard {
    percents: Vec<u64>,
    tells_time: bool,
    over: bool,
    peak: u64,
    success: bool,
}

fn migrated(folder: &Path) -> Heard {
    let mut child = children::start("big", folder, None);
    let mut heard = Heard {
        percents: Vec::new(),
        tells_time: false,
        over: false,
        peak: 0,
        success: false,
    };
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["at", percent, left] => {
                heard.percents.push(percent.parse().unwrap());
                heard.tells_time |= left != "-1";
            }
            ["over"] => heard.over = true,
            ["peak", kib] => heard.peak = kib.parse().unwrap(),
            _ => {}
        }
    }
    heard.success = child.wait().unwrap().success();
    heard
}

/// Bytes of a database that counts as big.
fn big() -> u64 {
    match std::env::var_os("AICO_TEST_EVERY_BYTE") {
        Some(_) => 1100 << 20,
        None => 96 << 20,
    }
}

async fn rows_with_length(store: &Store) -> u64 {
    let read = store.read(|db| {
        let sql = "SELECT count(*) FROM page WHERE length = 3000";
        Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))?)
    });
    u64::try_from(read.await.unwrap()).unwrap()
}

fn hash(path: &Path) -> Vec<u8> {
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hasher.finalize().to_vec(),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_big_one_is_migrated_in_bounded_memory_and_told_all_along() {
    let big = big();
    let long = big > 1 << 30;
    let mut peaks = Vec::new();
    for bytes in [4 << 20, big] {
        let folder = tempfile::tempdir().unwrap();
        let rows = made(folder.path(), bytes).await;
        let size = fs::metadata(children::path(folder.path())).unwrap().len();
        assert!(size > bytes, "{size}");
        let heard = migrated(folder.path());
        assert!(heard.success);
        let rises = heard.percents.windows(2).all(|two| two[0] <= two[1]);
        assert!(rises && heard.over, "{:?}", heard.percents);
        assert_eq!(heard.percents.last(), Some(&100));
        if bytes == big {
            // More than the ends of its parts.
            assert!(heard.percents.len() > 4, "{:?}", heard.percents);
        }
        assert!(
            !long || bytes < big || heard.tells_time,
            "{:?}",
            heard.percents
        );
        peaks.push(heard.peak);

        let (path, registry) = (
            children::path(folder.path()),
            children::registry(folder.path()),
        );
        let store = Store::open(&path, &KEY, &PERSON, &[REWRITTEN], registry).unwrap();
        assert_eq!(rows_with_length(&store).await, rows);
        store.close().await.unwrap();
        assert_eq!(names(path.parent().unwrap()), ["person.db"]);
    }
    eprintln!("peaks in KiB: {peaks:?}");
    // The engine's page cache has a bound, and of what a statement changes no more than a range is
    // kept for its undoing. What grows: an index over rows that are there is sorted in memory, some
    // tens of bytes for each; the log's index has two bytes for each KiB that is written.
    let room = 24 * 1024 + big / 1024 / 32;
    assert!(peaks[1] < peaks[0] + room, "peaks in KiB: {peaks:?}");
}

/// In the middle of a table that is rewritten.
#[tokio::test]
async fn a_big_one_that_is_killed_in_the_middle_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let rows = made(folder.path(), big()).await;
    fs::write(folder.path().join("stop-at"), (rows / 512).to_string()).unwrap();
    let heard = migrated(folder.path());
    assert!(!heard.success && !heard.over);
    // It was in the step behind the copy.
    let reached = *heard.percents.last().unwrap();
    assert!(reached >= 33, "{:?}", heard.percents);
    fs::remove_file(folder.path().join("stop-at")).unwrap();
    let heard = migrated(folder.path());
    assert!(heard.success && heard.over);
    let (path, registry) = (
        children::path(folder.path()),
        children::registry(folder.path()),
    );
    let store = Store::open(&path, &KEY, &PERSON, &[REWRITTEN], registry).unwrap();
    assert_eq!(rows_with_length(&store).await, rows);
    store.close().await.unwrap();
    assert_eq!(names(path.parent().unwrap()), ["person.db"]);
}

/// Room for the copy, and for half of what the step writes.
#[tokio::test]
async fn a_big_one_that_finds_no_room_in_the_middle_is_as_it_was() {
    let test = "big::a_big_one_that_finds_no_room_in_the_middle_is_as_it_was";
    // A row of this size has a page to itself.
    let disk = big() / ROW as u64 * 4096 * 5 / 2;
    let Some(disk) = SmallDisk::mount(test, &disk.to_string()) else {
        return;
    };
    let folder = disk.0.path();
    let rows = made(folder, big()).await;
    let (path, registry) = (children::path(folder), children::registry(folder));
    let before = hash(&path);
    let ranges = Arc::new(AtomicU64::new(0));
    let passed = Arc::clone(&ranges);
    let fault = FaultHook::new(move |reached| {
        passed.fetch_add(u64::from(reached == FaultPoint::RangeRan), Ordering::SeqCst);
        true
    });
    let options = OpenOptions {
        fault: Some(fault),
        ..OpenOptions::default()
    };
    let open = Store::open_with(
        &path,
        &KEY,
        &PERSON,
        &[REWRITTEN],
        registry.clone(),
        options,
    );
    assert!(
        matches!(
            open,
            Err(OpenError::MigrationFailed {
                version: 2,
                restored: true,
                source: StoreError::StorageFull,
                ..
            })
        ),
        "{open:?}"
    );
    let ranges = ranges.load(Ordering::SeqCst);
    assert!(ranges > 0 && ranges < rows / 256, "{ranges} of {rows}");
    assert!(hash(&path) == before);
    let store = Store::open(&path, &KEY, &PERSON, &[FIRST], registry).unwrap();
    let kept: i64 = store
        .read(|db| Ok(db.query_row("SELECT count(*) FROM page", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(u64::try_from(kept).unwrap(), rows);
    store.close().await.unwrap();
}

#[tokio::test]
async fn who_watches_hears_nothing_where_nothing_is_pending() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), 1).await;
    let heard = Arc::new(Mutex::new(0));
    let into = Arc::clone(&heard);
    let watch = MigrationWatch::new(move |_| *into.lock().unwrap() += 1);
    let options = OpenOptions {
        watch: Some(watch),
        ..OpenOptions::default()
    };
    let (path, registry) = (
        children::path(folder.path()),
        children::registry(folder.path()),
    );
    let store = Store::open_with(&path, &KEY, &PERSON, &[FIRST], registry, options).unwrap();
    store.close().await.unwrap();
    assert_eq!(*heard.lock().unwrap(), 0);
}
