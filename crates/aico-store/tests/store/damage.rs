//! Files that were cut, flipped, exchanged or put back.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
};

use aico_store::{Identity, OpenError, Store, StoreError};

use crate::support::{Bench, KEY, NOTES, PERSON, add_note, add_notes, count};

const PAGE: usize = 4096;

/// How far apart the places are that are tried: `usual`, or each one in the long tests.
fn apart(usual: usize) -> usize {
    let every = std::env::var_os("AICO_TEST_EVERY_BYTE").is_some();
    if every { 1 } else { usual }
}

/// Cuts the file at every page boundary and around it, and at many odd lengths.
fn lengths(whole: usize) -> Vec<usize> {
    let mut lengths: Vec<usize> = (0..=17).chain((0..whole).step_by(apart(509))).collect();
    for boundary in (PAGE..=whole).step_by(PAGE) {
        lengths.extend([boundary - 1, boundary, boundary + 1]);
    }
    lengths.retain(|length| *length < whole);
    lengths
}

/// Row 6.
#[tokio::test]
async fn a_closed_database_cut_at_any_length_is_refused_and_left_alone() {
    let bench = Bench::new();
    bench.filled(150).await;
    let whole = fs::read(bench.path()).unwrap();
    assert!(whole.len() > 10 * PAGE);
    let record = bench.registry.record(&bench.id()).unwrap();
    for length in lengths(whole.len()) {
        fs::write(bench.path(), &whole[..length]).unwrap();
        match (length, bench.open()) {
            (0, Err(OpenError::Empty { .. })) => {}
            (_, Err(OpenError::Shortened { expected, .. })) => {
                assert_eq!(expected, record.last_sequence);
            }
            (_, other) => panic!("cut to {length}: {other:?}"),
        }
        assert!(
            fs::read(bench.path()).unwrap() == whole[..length],
            "cut to {length}: touched"
        );
    }
    assert_eq!(bench.names(), ["person.db"]);
    fs::write(bench.path(), &whole).unwrap();
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, 150);
    store.close().await.unwrap();
}

/// Where the power went while the log was folded in, the later pages may be of different moments,
/// and the log has what mends them.
#[tokio::test]
async fn which_key_a_file_is_under_is_told_by_its_first_page_alone() {
    let bench = Bench::new();
    bench.filled(150).await;
    let whole = fs::read(bench.path()).unwrap();
    let mut mixed = whole.clone();
    mixed[PAGE..].fill(7);
    for bytes in [&whole[..], &mixed[..], &whole[..3 * PAGE]] {
        fs::write(bench.path(), bytes).unwrap();
        assert!(Store::opens_with(&bench.path(), &KEY));
        assert!(!Store::opens_with(&bench.path(), &[9; 32]));
    }
    mixed[PAGE / 2] ^= 1;
    fs::write(bench.path(), &mixed).unwrap();
    assert!(!Store::opens_with(&bench.path(), &KEY));
}

/// The same when the registry knows of no clean stop and so has no hash.
#[tokio::test]
async fn a_database_cut_at_any_length_after_a_crash_is_refused() {
    let bench = Bench::new();
    bench.filled(150).await;
    bench.forget_stop();
    let whole = fs::read(bench.path()).unwrap();
    for length in lengths(whole.len()) {
        fs::write(bench.path(), &whole[..length]).unwrap();
        let opened = bench.open();
        assert!(
            matches!(
                opened,
                Err(OpenError::Empty { .. }
                    | OpenError::Shortened { .. }
                    | OpenError::WrongKeyOrDamaged { .. })
            ),
            "cut to {length}: {opened:?}"
        );
    }
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_refused_after_a_clean_stop_and_after_a_crash() {
    let bench = Bench::new();
    bench.filled(120).await;
    // Half of the pages are free: nothing but their authentication would notice.
    let store = bench.open().unwrap();
    store
        .write(|tx| Ok(tx.execute("DELETE FROM note WHERE id >= 40", [])?))
        .await
        .unwrap();
    store.close().await.unwrap();
    let whole = fs::read(bench.path()).unwrap();
    let stopped = bench.registry.record(&bench.id()).unwrap();
    for clean in [true, false] {
        for at in (0..whole.len()).step_by(apart(97)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(bench.path(), &bytes).unwrap();
            bench.registry.change(&bench.id(), |record| {
                record.closed_hash = if clean { stopped.closed_hash } else { None };
            });
            let opened = bench.open();
            match &opened {
                Err(OpenError::OtherFile { .. }) => assert!(at < 16),
                Err(OpenError::WrongKeyOrDamaged { .. }) => {}
                Err(OpenError::ChangedSinceStop { .. }) => assert!(clean),
                _ => panic!("flipped at {at}, clean {clean}: {opened:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_key_opens_nothing() {
    let bench = Bench::new();
    bench.filled(1).await;
    let before = fs::read(bench.path()).unwrap();
    for forget in [false, true] {
        if forget {
            bench.forget_stop();
        }
        let opened = bench.open_as(&[8; 32], &PERSON, &[NOTES]);
        assert!(
            matches!(opened, Err(OpenError::WrongKeyOrDamaged { .. })),
            "{opened:?}"
        );
    }
    assert!(fs::read(bench.path()).unwrap() == before);
}

#[tokio::test]
async fn another_persons_database_in_the_place_is_told_by_what_it_is() {
    let bench = Bench::new();
    bench.filled(1).await;
    let own = bench.registry.record(&bench.id()).unwrap();
    let other = Identity::person([2; 16]);
    let elsewhere = bench.folder.path().join("other.db");
    let make = |key: &[u8; 32]| {
        Store::create(&elsewhere, key, &other, &[NOTES], bench.registry.clone()).unwrap()
    };
    // Under the same key: its identity is read and named.
    make(&KEY).close().await.unwrap();
    fs::rename(&elsewhere, bench.path()).unwrap();
    match bench.open() {
        Err(OpenError::OfAnother {
            expected, found, ..
        }) => {
            assert_eq!((expected, found), (PERSON, other));
        }
        opened => panic!("{opened:?}"),
    }
    // Even where somebody made the registry fit.
    let others = bench.registry.record(&other.store_id()).unwrap();
    bench
        .registry
        .change(&bench.id(), |record| *record = others);
    assert!(matches!(bench.open(), Err(OpenError::OfAnother { .. })));
    let read_only = bench.open_read_only();
    assert!(matches!(read_only, Err(OpenError::OfAnother { .. })));
    // Under its own key, as it is in life: the salt tells.
    bench.registry.change(&bench.id(), |record| *record = own);
    bench
        .registry
        .records
        .lock()
        .unwrap()
        .remove(&other.store_id());
    make(&[9; 32]).close().await.unwrap();
    fs::rename(&elsewhere, bench.path()).unwrap();
    let opened = bench.open();
    assert!(
        matches!(opened, Err(OpenError::OtherFile { .. })),
        "{opened:?}"
    );
}

/// Row 8.
#[tokio::test]
async fn an_older_copy_put_back_is_noticed_and_readable_until_the_owner_decides() {
    let bench = Bench::new();
    bench.filled(10).await;
    let older = fs::read(bench.path()).unwrap();
    let older_sequence = bench.registry.record(&bench.id()).unwrap().last_sequence;
    let store = bench.open().unwrap();
    add_notes(&store, 10, 20).await;
    store.close().await.unwrap();
    let newer = fs::read(bench.path()).unwrap();
    let last = bench.registry.record(&bench.id()).unwrap().last_sequence;

    fs::write(bench.path(), &older).unwrap();
    match bench.open() {
        Err(OpenError::Older {
            found, expected, ..
        }) => {
            assert_eq!((found, expected), (older_sequence, last));
        }
        opened => panic!("{opened:?}"),
    }
    let store = bench.open_read_only().unwrap();
    assert_eq!(count(&store).await, 10);
    assert!(matches!(
        add_note(&store, 99).await,
        Err(StoreError::ReadOnly)
    ));
    assert!(store.health().read_only && !store.health().writable);
    store.close().await.unwrap();
    assert!(
        fs::read(bench.path()).unwrap() == older,
        "reading changed the file"
    );
    assert_eq!(bench.names(), ["person.db"]);
    assert!(matches!(bench.open(), Err(OpenError::Older { .. })));

    // The owner keeps the older copy; from then on the newer one is the wrong one.
    let accept = || {
        Store::accept_present(
            &bench.path(),
            &KEY,
            &PERSON,
            &[NOTES],
            bench.registry.clone(),
        )
    };
    accept().unwrap();
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, 10);
    add_notes(&store, 50, 90).await;
    store.close().await.unwrap();
    fs::write(bench.path(), &newer).unwrap();
    let opened = bench.open();
    assert!(
        matches!(
            opened,
            Err(OpenError::Older {
                found_generation: 1,
                expected_generation: 2,
                ..
            })
        ),
        "{opened:?}"
    );
    bench.forget_stop();
    assert!(matches!(bench.open(), Err(OpenError::Older { .. })));
    // And back again: the owner may change their mind.
    accept().unwrap();
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, 20);
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_older_page_put_back_after_a_clean_stop_is_noticed() {
    let bench = Bench::new();
    bench.filled(200).await;
    let older = fs::read(bench.path()).unwrap();
    let store = bench.open().unwrap();
    store
        .write(|tx| {
            Ok(tx.execute(
                "UPDATE note SET body = 'new' || id WHERE id BETWEEN 80 AND 120",
                [],
            )?)
        })
        .await
        .unwrap();
    store.close().await.unwrap();
    let mut bytes = fs::read(bench.path()).unwrap();
    let changed = (PAGE..bytes.len().min(older.len()))
        .step_by(PAGE)
        .find(|at| {
            // Not a page of the sequence, which would give itself away.
            bytes[*at..at + PAGE] != older[*at..at + PAGE] && *at > 20 * PAGE
        })
        .unwrap();
    bytes[changed..changed + PAGE].copy_from_slice(&older[changed..changed + PAGE]);
    fs::write(bench.path(), &bytes).unwrap();
    let opened = bench.open();
    assert!(
        matches!(opened, Err(OpenError::ChangedSinceStop { .. })),
        "{opened:?}"
    );
}

/// Leaves the files of a process that went away without a stop: database and log.
async fn crashed(bench: &Bench) -> (Vec<u8>, Vec<u8>) {
    let store = bench.create();
    add_notes(&store, 0, 40).await;
    store.close().await.unwrap();
    let store = bench.open().unwrap();
    for n in 40..60 {
        add_note(&store, n).await.unwrap();
    }
    let log = bench.folder.path().join("person.db-wal");
    let (database, log_bytes) = (fs::read(bench.path()).unwrap(), fs::read(&log).unwrap());
    assert!(log_bytes.len() > 20 * PAGE);
    let record = bench.registry.record(&bench.id()).unwrap();
    assert_eq!(record.closed_hash, None);
    store.close().await.unwrap();
    // What the store did while it closed is undone: it never happened.
    bench
        .registry
        .change(&bench.id(), |present| *present = record);
    fs::write(bench.path(), &database).unwrap();
    fs::write(&log, &log_bytes).unwrap();
    (database, log_bytes)
}

#[tokio::test]
async fn a_log_left_by_a_crash_is_taken_in() {
    let bench = Bench::new();
    crashed(&bench).await;
    // As the registry may be one commit behind.
    bench
        .registry
        .change(&bench.id(), |record| record.last_sequence -= 1);
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, 60);
    store.close().await.unwrap();
    assert_eq!(bench.names(), ["person.db"]);
}

#[tokio::test]
async fn a_log_that_was_cut_flipped_or_lost_is_noticed() {
    let bench = Bench::new();
    let (database, log_bytes) = crashed(&bench).await;
    let log = bench.folder.path().join("person.db-wal");
    let expected = bench.registry.record(&bench.id()).unwrap().last_sequence;
    let refused = |what: String| {
        let opened = bench.open();
        match opened {
            Err(OpenError::Shortened {
                found: Some(found),
                expected: named,
                ..
            }) => {
                assert!(found < expected && named == expected, "{what}");
            }
            opened => panic!("{what}: {opened:?}"),
        }
    };
    for length in (0..log_bytes.len()).step_by(apart(4093)) {
        fs::write(bench.path(), &database).unwrap();
        fs::write(&log, &log_bytes[..length]).unwrap();
        refused(format!("cut to {length}"));
    }
    for at in (0..log_bytes.len()).step_by(apart(1021)) {
        fs::write(bench.path(), &database).unwrap();
        let mut flipped = log_bytes.clone();
        flipped[at] ^= 0x10;
        fs::write(&log, &flipped).unwrap();
        // 16..24 are the log's salts, repeated in each frame; 4 bytes of each frame's head are
        // of no account to its validity only in that they are covered by the checksum too.
        refused(format!("flipped at {at}"));
    }
    fs::remove_file(&log).unwrap();
    fs::write(bench.path(), &database).unwrap();
    refused("lost".to_owned());
    // Still there to be read, and to be accepted.
    let store = bench.open_read_only().unwrap();
    assert_eq!(count(&store).await, 40);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_log_or_journal_put_beside_a_closed_database_is_not_taken_in() {
    let bench = Bench::new();
    let (_, old_log) = crashed(&bench).await;
    let store = bench.open().unwrap();
    store
        .write(|tx| Ok(tx.execute("DELETE FROM note WHERE id >= 5", [])?))
        .await
        .unwrap();
    store.close().await.unwrap();
    fs::write(bench.folder.path().join("person.db-wal"), &old_log).unwrap();
    fs::write(bench.folder.path().join("person.db-journal"), &old_log).unwrap();
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, 5);
    store.close().await.unwrap();
    assert_eq!(bench.names(), ["person.db"]);
}

#[tokio::test]
async fn damage_met_while_running_is_an_error_and_never_wrong_data() {
    let bench = Bench::new();
    bench.filled(400).await;
    let store = bench.open().unwrap();
    // Overwritten in place, under the open store; a page in the middle of the notes.
    let middle = (fs::metadata(bench.path()).unwrap().len() as usize / PAGE / 2 * PAGE) as u64;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(bench.path())
        .unwrap();
    file.seek(SeekFrom::Start(middle + 100)).unwrap();
    file.write_all(b"damage").unwrap();
    let read = store
        .read(|db| {
            Ok(
                db.query_row("SELECT sum(length(body)) FROM note", [], |row| {
                    row.get::<_, i64>(0)
                })?,
            )
        })
        .await;
    assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
    assert!(store.health().damaged);
    // Not closed before: that would drop the locks that this process holds on the file.
    drop(file);
}

#[cfg(unix)]
#[tokio::test]
async fn links_folders_and_files_open_to_others_are_refused_with_what_mends_them() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let bench = Bench::new();
    bench.filled(1).await;
    let real = bench.folder.path().join("real.db");
    fs::rename(bench.path(), &real).unwrap();
    symlink(&real, bench.path()).unwrap();
    assert!(matches!(bench.open(), Err(OpenError::NotAPlainFile { .. })));
    fs::remove_file(bench.path()).unwrap();
    fs::create_dir(bench.path()).unwrap();
    assert!(matches!(bench.open(), Err(OpenError::NotAPlainFile { .. })));
    fs::remove_dir(bench.path()).unwrap();
    fs::rename(&real, bench.path()).unwrap();
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o644)).unwrap();
    match bench.open() {
        Err(OpenError::NotPrivate { mend, .. }) => {
            let status = std::process::Command::new("sh")
                .args(["-c", &mend])
                .status()
                .unwrap();
            assert!(status.success());
        }
        opened => panic!("{opened:?}"),
    }
    let store = bench.open().unwrap();
    store.close().await.unwrap();
}

/// Each page is authentic somewhere: at another position, or in another person's database.
#[tokio::test]
async fn pages_that_change_places_within_and_between_databases_are_refused() {
    let bench = Bench::new();
    bench.filled(200).await;
    let stopped = bench.registry.record(&bench.id()).unwrap();
    let whole = fs::read(bench.path()).unwrap();
    let pages = whole.len() / PAGE;
    assert!(pages > 15, "{pages}");
    let page = |at: usize| at * PAGE..(at + 1) * PAGE;

    let mut tampered = Vec::new();
    for at in 0..pages - 1 {
        for to in [at + 1, pages - 1] {
            let mut bytes = whole.clone();
            bytes[page(at)].copy_from_slice(&whole[page(to)]);
            if to != at {
                tampered.push((format!("{to} at {at}"), bytes.clone()));
            }
            bytes[page(to)].copy_from_slice(&whole[page(at)]);
            tampered.push((format!("{at} and {to}"), bytes));
        }
    }
    // Under a key of its own, as it is in life, and even under the same.
    for key in [[9; 32], KEY] {
        let other = Bench::new();
        let identity = Identity::person([2; 16]);
        let (path, registry) = (other.path(), other.registry.clone());
        let store = Store::create(&path, &key, &identity, &[NOTES], registry).unwrap();
        add_notes(&store, 0, 200).await;
        store.close().await.unwrap();
        let theirs = fs::read(other.path()).unwrap();
        for at in 0..pages.min(theirs.len() / PAGE) {
            let mut bytes = whole.clone();
            bytes[page(at)].copy_from_slice(&theirs[page(at)]);
            tampered.push((format!("theirs at {at}"), bytes));
        }
    }
    for (what, bytes) in &tampered {
        fs::write(bench.path(), bytes).unwrap();
        for clean in [true, false] {
            bench.registry.change(&bench.id(), |record| {
                record.closed_hash = if clean { stopped.closed_hash } else { None };
            });
            match bench.open() {
                Err(OpenError::OtherFile { .. } | OpenError::WrongKeyOrDamaged { .. }) => {}
                Err(OpenError::ChangedSinceStop { .. }) => assert!(clean, "{what}"),
                opened => panic!("{what}, clean {clean}: {opened:?}"),
            }
        }
    }
}
