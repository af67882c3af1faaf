//! A real process, killed while it writes.

use std::time::Duration;

use aico_store::{FaultPoint, OpenError, Store, StoreRegistry};

use crate::{
    children::{self, MIXED, WRITERS},
    support::{KEY, PERSON, names, wait_until},
};

/// Row 1: every acknowledged write is there, every other wholly or not at all.
#[tokio::test]
async fn a_process_killed_in_the_middle_of_mixed_writes_loses_nothing_it_acknowledged() {
    let rounds: u64 = std::env::var("AICO_TEST_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5);
    let mut random = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos() as u64 | 1;
    println!("seed {random}");
    let (folder, path, registry) = children::made(&[MIXED]).await;
    let mut floor = vec![0; WRITERS as usize];
    for round in 0..rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let delay = Duration::from_millis(20 + (random >> 33) % 900);
        let mut child = children::start("write", folder.path(), None);
        let id = child.id().to_string();
        let kill_soon = move || {
            std::thread::spawn(move || {
                // The moment of the kill is the point of the test.
                std::thread::sleep(delay);
                let status = std::process::Command::new("kill")
                    .args(["-9", &id])
                    .status()
                    .unwrap();
                assert!(status.success());
            })
        };
        // Counted from the first acknowledgement, so that there is something to lose; every third
        // time from the start, so that opening is hit too.
        let mut killer = None;
        let acknowledged = if round % 3 == 2 {
            killer = Some(kill_soon());
            children::acknowledged(&mut child, || ())
        } else {
            children::acknowledged(&mut child, || killer = Some(kill_soon()))
        };
        let status = child.wait().unwrap();
        killer
            .unwrap_or_else(|| panic!("round {round}: the child ended by itself: {status}"))
            .join()
            .unwrap();
        assert!(!status.success());

        let mut opened = None;
        wait_until(
            "the store that was dropped has let go of its file",
            || match Store::open(&path, &KEY, &PERSON, &[MIXED], registry.clone()) {
                Err(OpenError::AlreadyOpen { .. }) => false,
                result => {
                    opened = Some(result);
                    true
                }
            },
        );
        let store = opened.unwrap().unwrap();
        for task in 0..WRITERS {
            let (value, low, high, entries, events) = store
                .read(move |db| {
                    let count = |sql: &str| db.query_row(sql, [task], |row| row.get::<_, i64>(0));
                    Ok((
                        count("SELECT coalesce(max(value), 0) FROM counter WHERE task = ?1")?,
                        count("SELECT coalesce(min(n), 0) FROM entry WHERE task = ?1")?,
                        count("SELECT coalesce(max(n), 0) FROM entry WHERE task = ?1")?,
                        count("SELECT count(*) FROM entry WHERE task = ?1")?,
                        count("SELECT count(*) FROM outbox WHERE topic = 't' || ?1")?,
                    ))
                })
                .await
                .unwrap();
            let index = task as usize;
            let acknowledged = acknowledged[index].max(floor[index]);
            // One more may have been committed without its acknowledgement reaching us.
            assert!(
                value == acknowledged || value == acknowledged + 1,
                "round {round}, {delay:?}: task {task} at {value}, acknowledged {acknowledged}"
            );
            assert_eq!((high, entries), (value, value.min(20)), "round {round}");
            assert_eq!(low, if value == 0 { 0 } else { (value - 19).max(1) });
            assert_eq!(events, value.min(1));
            floor[index] = value;
        }
        if round.is_multiple_of(2) {
            store.close().await.unwrap();
            assert_eq!(names(path.parent().unwrap()), ["person.db"]);
        } else {
            drop(store);
            wait_until("the dropped store has folded its log", || {
                names(path.parent().unwrap()) == ["person.db"]
            });
        }
    }
    assert!(floor.iter().sum::<i64>() > 0, "nothing was ever written");
}

/// The registry lags behind by the commit that was made and not noted: that is no loss.
#[tokio::test]
async fn a_process_that_dies_between_commit_and_note_leaves_a_database_that_opens() {
    let (folder, path, registry) = children::made(&[MIXED]).await;
    let mut child = children::start("write", folder.path(), Some(FaultPoint::WriteCommitted));
    let acknowledged = children::acknowledged(&mut child, || ());
    assert!(!child.wait().unwrap().success());
    assert_eq!(
        acknowledged.iter().sum::<i64>(),
        0,
        "acknowledged before it was noted"
    );
    let noted = registry
        .get(&PERSON.store_id())
        .unwrap()
        .unwrap()
        .last_sequence;
    let store = Store::open(&path, &KEY, &PERSON, &[MIXED], registry.clone()).unwrap();
    assert_eq!(store.sequence(), noted + 1);
    let counters: i64 = store
        .read(|db| Ok(db.query_row("SELECT count(*) FROM counter", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert!(counters > 0);
    store.close().await.unwrap();
}

/// What was dropped is not cut off, and does not meet an engine that is taken down already.
#[tokio::test]
async fn a_process_that_ends_waits_for_the_databases_that_it_let_go() {
    let (folder, path, registry) = children::made(&[MIXED]).await;

    let status = children::start("end", folder.path(), None).wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(!path.with_extension("db-wal").exists());
    let store = Store::open(&path, &KEY, &PERSON, &[MIXED], registry).unwrap();
    let written: i64 = store
        .read(|db| Ok(db.query_row("SELECT count(*) FROM entry", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(written, 1);
}
