//! Migrations of big databases: told all along, in memory that does not grow with them (row 11).
//! `./test --long` takes one of more than a gigabyte.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    sync::{Arc, Mutex},
};

use aico_store::{Migration, MigrationWatch, ModuleMigrations, OpenOptions, Store};

use crate::{
    children,
    support::{KEY, PERSON, names},
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
/// Writes every row anew.
const REWRITTEN: ModuleMigrations = ModuleMigrations {
    module: "pages",
    migrations: &[
        MADE,
        Migration {
            version: 2,
            name: "a length for each page",
            sql: "ALTER TABLE page ADD COLUMN length INTEGER;
                  UPDATE page SET length = length(body);",
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
    let options = OpenOptions {
        watch: Some(watch),
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
}

fn migrated(folder: &Path) -> Heard {
    let mut child = children::start("big", folder, None);
    let mut heard = Heard {
        percents: Vec::new(),
        tells_time: false,
        over: false,
        peak: 0,
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
    assert!(child.wait().unwrap().success());
    heard
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_big_one_is_migrated_in_bounded_memory_and_told_all_along() {
    let long = std::env::var_os("AICO_TEST_EVERY_BYTE").is_some();
    let big = if long { 1100_u64 << 20 } else { 96 << 20 };
    let mut peaks = Vec::new();
    for bytes in [4 << 20, big] {
        let folder = tempfile::tempdir().unwrap();
        let rows = made(folder.path(), bytes).await;
        let size = fs::metadata(children::path(folder.path())).unwrap().len();
        assert!(size > bytes, "{size}");
        let heard = migrated(folder.path());
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
        let kept: i64 = store
            .read(|db| {
                let sql = "SELECT count(*) FROM page WHERE length = 3000";
                Ok(db.query_row(sql, [], |row| row.get(0))?)
            })
            .await
            .unwrap();
        assert_eq!(u64::try_from(kept).unwrap(), rows);
        store.close().await.unwrap();
        assert_eq!(names(path.parent().unwrap()), ["person.db"]);
    }
    eprintln!("peaks in KiB: {peaks:?}");
    // The engine's page cache has a bound, but what one statement changes is kept for its undoing,
    // in memory, since nothing of it may lie on the disk in clear (`temp_store`): a step that
    // rewrites a table takes what the table has, and this one makes it larger.
    let room = 24 * 1024 + big / 1024 * 2;
    assert!(peaks[1] < peaks[0] + room, "peaks in KiB: {peaks:?}");
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
