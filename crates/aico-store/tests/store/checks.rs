//! Checks of databases that are open, and of those that lie (rows 5, 6 and 8).

use std::{
    fs,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use aico_store::{CheckedFile, Finding, OpenError, Store, StoreError};

use crate::support::{Bench, KEY, PERSON, add_note, add_notes, count};

const PAGE: u64 = 4096;

/// Changes some bytes in the middle of a page, counted from 1.
fn damage(path: &Path, page: u64) {
    // Another process, as on Unix closing a file here would drop the engine's locks on it.
    let offset = (page - 1) * PAGE + 2000;
    let script = format!(
        "printf 'damage' | dd of='{}' bs=1 seek={offset} conv=notrunc status=none",
        path.display()
    );
    let done = std::process::Command::new("sh")
        .args(["-c", &script])
        .status()
        .unwrap();
    assert!(done.success());
}

fn check(store: &Store, full: bool) -> CheckedFile {
    store.check(&KEY, full, || true).unwrap()
}

#[tokio::test]
async fn a_sound_database_is_sound_while_it_is_written() {
    let bench = Bench::new();
    bench.filled(500).await;
    let store = bench.open().unwrap();
    add_notes(&store, 500, 600).await;
    for full in [false, true] {
        let found = check(&store, full);
        assert_eq!(found.findings, [], "full: {full}");
        assert!(found.pages > 30, "{found:?}");
    }
    assert!(store.health().writable);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_page_is_found_and_told_by_the_store() {
    let bench = Bench::new();
    bench.filled(500).await;
    let store = bench.open().unwrap();
    let pages = fs::metadata(bench.path()).unwrap().len() / PAGE;
    damage(&bench.path(), pages / 2);
    damage(&bench.path(), pages);
    let found = check(&store, true);
    assert_eq!(
        found.findings[0],
        Finding::Pages {
            count: 2,
            first: pages / 2
        }
    );
    assert!(store.health().damaged);
    // Quick as well: the structure leads there.
    let found = check(&store, false);
    assert!(!found.findings.is_empty());
    let _ = store.close().await;
}

#[tokio::test]
async fn another_record_and_another_identity_are_found() {
    let bench = Bench::new();
    bench.filled(5).await;
    let store = bench.open().unwrap();
    let id = bench.id();
    for change in [
        |record: &mut aico_store::StoreRecord| record.generation += 1,
        |record: &mut aico_store::StoreRecord| record.last_sequence += 100,
        |record: &mut aico_store::StoreRecord| record.salt[3] ^= 1,
    ] {
        let before = bench.registry.record(&id).unwrap();
        bench.registry.change(&id, change);
        assert_eq!(check(&store, false).findings, [Finding::Registry]);
        bench.registry.change(&id, |record| *record = before);
        assert_eq!(check(&store, false).findings, []);
    }
    let forged = store.write(|tx| {
        tx.execute("UPDATE store_identity SET person = ?1", [[9_u8; 16]])?;
        Ok(())
    });
    forged.await.unwrap();
    assert_eq!(check(&store, false).findings, [Finding::Identity]);
    let _ = store.close().await;
}

/// The check stands still in the middle, and writers and readers go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_check_and_it_can_be_stopped() {
    let bench = Bench::new();
    bench.filled(20_000).await;
    let store = bench.open().unwrap();
    let (reached, at_it) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<bool>();
    let wait = std::sync::Mutex::new(Some(wait));
    let checking = {
        let store = store.clone();
        std::thread::spawn(move || {
            let first = AtomicBool::new(true);
            let reached = std::sync::Mutex::new(reached);
            store.check(&KEY, true, move || {
                if first.swap(false, Ordering::SeqCst) {
                    reached.lock().unwrap().send(()).unwrap();
                    return wait.lock().unwrap().take().unwrap().recv().unwrap();
                }
                true
            })
        })
    };
    at_it.recv().unwrap();
    for n in 20_000..20_050 {
        add_note(&store, n).await.unwrap();
    }
    assert_eq!(count(&store).await, 20_050);
    go_on.send(true).unwrap();
    let found = checking.join().unwrap().unwrap();
    assert_eq!(found.findings, []);
    let stopped = store.check(&KEY, true, || false);
    assert!(matches!(stopped, Err(StoreError::Cancelled)), "{stopped:?}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_lies_is_compared_with_what_was_closed() {
    let bench = Bench::new();
    bench.filled(100).await;
    let (path, registry) = (bench.path(), Arc::clone(&bench.registry));
    let lying =
        |key: Option<&[u8; 32]>, full| Store::check_at_rest(&path, key, &PERSON, &*registry, full);
    for key in [None, Some(&KEY)] {
        for full in [false, true] {
            assert_eq!(lying(key, full).unwrap().findings, []);
        }
    }
    let whole = fs::read(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"damage", 2 * PAGE + 100).unwrap();
    drop(file);
    assert_eq!(lying(None, true).unwrap().findings, [Finding::Changed]);
    assert_eq!(
        lying(Some(&KEY), true).unwrap().findings,
        [Finding::Pages { count: 1, first: 3 }, Finding::Changed]
    );
    let mut other = whole.clone();
    other[0] ^= 1;
    fs::write(&path, &other).unwrap();
    assert!(matches!(
        lying(None, false),
        Err(OpenError::OtherFile { .. })
    ));
    fs::write(&path, []).unwrap();
    assert!(matches!(lying(None, false), Err(OpenError::Empty { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(lying(None, false), Err(OpenError::Missing { .. })));
}
