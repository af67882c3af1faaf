//! Another key for a database that is used, and what an interruption leaves.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use aico_store::{
    FaultHook, FaultPoint, NumberedKey, OpenError, OpenOptions, Progress, Store, StoreError,
    StoreRegistry,
};

use crate::{
    children::{self, MIXED},
    support::{Bench, KEY, NOTES, PERSON, SmallDisk, add_note, add_notes, count, names},
};

/// The key after [`KEY`].
pub(crate) const NEXT: [u8; 32] = [9; 32];

fn next() -> NumberedKey {
    NumberedKey::new(&NEXT, 2)
}

/// Stands still at this point: tells that it got there, and goes on when it is told to.
fn stands_still_at(point: FaultPoint) -> (FaultHook, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (swapping, reached) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    let ends = Mutex::new((swapping, wait));
    let hook = FaultHook::new(move |here| {
        if here == point {
            let ends = ends.lock().unwrap();
            ends.0.send(()).unwrap();
            ends.1.recv().unwrap();
        }
        true
    });
    (hook, reached, go_on)
}

/// A store whose change of the key stands still at this point, what waits for the change, and what
/// has it go on.
async fn standing_still(
    bench: &Bench,
    point: FaultPoint,
) -> (
    Store,
    tokio::task::JoinHandle<Result<(), StoreError>>,
    mpsc::Sender<()>,
) {
    bench.filled(50).await;
    let (hook, reached, go_on) = stands_still_at(point);
    let options = OpenOptions {
        fault: Some(hook),
        ..OpenOptions::default()
    };
    let store = bench.open_with(&[NOTES], options).unwrap();
    let changing = tokio::spawn({
        let store = store.clone();
        async move { store.rekey(next(), Progress::default()).await }
    });
    tokio::task::spawn_blocking(move || reached.recv().unwrap())
        .await
        .unwrap();
    (store, changing, go_on)
}

#[tokio::test]
async fn a_store_in_use_gets_another_key_and_nobody_notices() {
    let bench = Bench::new();
    bench.filled(3000).await;
    let before = fs::read(bench.path()).unwrap();
    let store = bench.open().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move {
            let mut n = 3000;
            while !stop.load(Ordering::Relaxed) {
                add_note(&store, n).await.unwrap();
                n += 1;
                // What was acknowledged is read back, whichever file it is in.
                assert_eq!(count(&store).await, n);
            }
            n
        }
    });
    let progress = Progress::default();
    store.rekey(next(), progress.clone()).await.unwrap();
    assert!(progress.bytes() > 500_000, "{}", progress.bytes());
    assert_eq!(store.key(), 2);
    stop.store(true, Ordering::Relaxed);
    let notes = writing.await.unwrap();
    add_note(&store, notes).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(bench.names(), ["person.db"]);
    let record = bench.registry.record(&bench.id()).unwrap();
    assert_eq!((record.key, record.generation), (2, 2));
    assert_eq!(bench.registry.records.lock().unwrap().len(), 1);

    let after = fs::read(bench.path()).unwrap();
    assert_ne!(before[..16], after[..16], "a salt of its own");
    match bench.open() {
        Err(OpenError::WrongKeyOrDamaged { .. }) => {}
        other => panic!("the old key: {other:?}"),
    }
    let store = bench.open_as(&NEXT, &PERSON, &[NOTES]).unwrap();
    assert_eq!(count(&store).await, notes + 1);
    let sound: String = store
        .read(|db| Ok(db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(sound, "ok");
    store.close().await.unwrap();
    // The file from before, put back: under either key it is refused.
    fs::write(bench.path(), &before).unwrap();
    for key in [KEY, NEXT] {
        assert!(bench.open_as(&key, &PERSON, &[NOTES]).is_err());
    }
}

#[tokio::test]
async fn a_change_of_the_key_that_fails_leaves_the_old_one() {
    for point in [FaultPoint::RekeyBuilt] {
        let bench = Bench::new();
        bench.filled(50).await;
        let options = OpenOptions {
            fault: Some(FaultHook::new(move |reached| reached != point)),
            ..OpenOptions::default()
        };
        let store = bench.open_with(&[NOTES], options).unwrap();
        store.rekey(next(), Progress::default()).await.unwrap_err();
        assert!(!bench.names().contains(&"person.db.rekeyed".to_owned()));
        add_note(&store, 50).await.unwrap();
        assert_eq!(count(&store).await, 51);
        store.close().await.unwrap();
        let store = bench.open().unwrap();
        assert_eq!(count(&store).await, 51);
        assert_eq!(bench.names()[0], "person.db");
        store.close().await.unwrap();
        assert_eq!(bench.names(), ["person.db"]);
    }
}

/// The copy fits, what the registry has to write of it does not.
#[tokio::test]
async fn a_registry_that_can_not_note_a_change_of_the_key_leaves_no_copy_on_the_full_disk() {
    let bench = Bench::new();
    bench.filled(50).await;
    let registry = bench.registry.clone();
    let options = OpenOptions {
        fault: Some(FaultHook::new(move |reached| {
            if reached == FaultPoint::RekeyBuilt {
                registry.failing.store(true, Ordering::SeqCst);
            }
            true
        })),
        ..OpenOptions::default()
    };
    let store = bench.open_with(&[NOTES], options).unwrap();
    match store.rekey(next(), Progress::default()).await {
        Err(StoreError::StorageFull) => {}
        other => panic!("{other:?}"),
    }
    assert!(!bench.names().contains(&"person.db.rekeyed".to_owned()));
    bench.registry.failing.store(false, Ordering::SeqCst);
    add_note(&store, 50).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(count(&bench.open().unwrap()).await, 51);
}

/// Locking ends whoever waits for the change; the change itself goes on to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_key_that_nobody_waits_for_is_known_when_the_store_is_closed() {
    let bench = Bench::new();
    let (store, changing, go_on) = standing_still(&bench, FaultPoint::RekeyBuilt).await;
    changing.abort();
    assert!(changing.await.unwrap_err().is_cancelled());
    go_on.send(()).unwrap();
    add_note(&store, 50).await.unwrap();
    assert_eq!(store.key(), 2);
    store.close().await.unwrap();
    let record = bench.registry.record(&bench.id()).unwrap();
    assert_eq!((record.key, record.generation), (2, 2));
    let store = bench.open_as(&NEXT, &PERSON, &[NOTES]).unwrap();
    assert_eq!(count(&store).await, 51);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_change_that_can_not_be_gone_on_with_is_finished_by_the_next_opening() {
    for point in [
        FaultPoint::RekeyNoted,
        FaultPoint::RekeySwapped,
        FaultPoint::RekeyRecorded,
    ] {
        let bench = Bench::new();
        bench.filled(50).await;
        let options = OpenOptions {
            fault: Some(FaultHook::new(move |reached| reached != point)),
            ..OpenOptions::default()
        };
        let store = bench.open_with(&[NOTES], options).unwrap();
        match store.rekey(next(), Progress::default()).await {
            Err(StoreError::Closed) => {}
            other => panic!("{point:?}: {other:?}"),
        }
        assert!(add_note(&store, 50).await.is_err(), "{point:?}");
        let _ = store.close().await;
        let store = bench.open_as(&NEXT, &PERSON, &[NOTES]).unwrap();
        assert_eq!(count(&store).await, 50, "{point:?}");
        assert_eq!(store.key(), 2);
        add_notes(&store, 50, 60).await;
        store.close().await.unwrap();
        assert_eq!(bench.names(), ["person.db"], "{point:?}");
    }
}

/// Rows 1 and 2 for a change of the key: the process dies at each point, while it writes.
#[tokio::test]
async fn a_process_that_dies_in_a_change_of_the_key_loses_nothing_it_acknowledged() {
    for point in [
        Some(FaultPoint::RekeyBuilt),
        Some(FaultPoint::RekeyNoted),
        Some(FaultPoint::RekeySwapped),
        Some(FaultPoint::RekeyRecorded),
        None,
    ] {
        let (folder, path, registry) = children::made(&[MIXED]).await;
        let mut child = children::start("rekey", folder.path(), point);
        let acknowledged = children::acknowledged(&mut child, || ());
        assert!(!child.wait().unwrap().success(), "{point:?}");
        // Which key it is under is what the registry says, and nothing has to be tried.
        let id = PERSON.store_id();
        let next = registry.get(&format!("{id}/rekeyed")).unwrap();
        let decided =
            next.is_some_and(|next| next.key == 2) || registry.get(&id).unwrap().unwrap().key == 2;
        assert_eq!(decided, point != Some(FaultPoint::RekeyBuilt), "{point:?}");
        let (right, wrong) = if decided { (NEXT, KEY) } else { (KEY, NEXT) };
        assert!(
            Store::open(&path, &wrong, &PERSON, &[MIXED], registry.clone()).is_err(),
            "{point:?}"
        );
        let store = Store::open(&path, &right, &PERSON, &[MIXED], registry.clone()).unwrap();
        for (task, acknowledged) in acknowledged.into_iter().enumerate() {
            let value: i64 = store
                .read(move |db| {
                    let sql = "SELECT coalesce(max(value), 0) FROM counter WHERE task = ?1";
                    Ok(db.query_row(sql, [task as i64], |row| row.get(0))?)
                })
                .await
                .unwrap();
            assert!(
                value == acknowledged || value == acknowledged + 1,
                "{point:?}: task {task} at {value}, acknowledged {acknowledged}"
            );
        }
        store.close().await.unwrap();
        assert_eq!(names(path.parent().unwrap()), ["person.db"], "{point:?}");
    }
}

/// While the copy takes the file's place nobody can read or write. That is told after a while, and
/// what was told so is not done later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_meets_a_swap_that_takes_long_is_told_and_nothing_of_it_is_done() {
    let bench = Bench::new();
    bench.filled(50).await;
    let (hook, reached, go_on) = stands_still_at(FaultPoint::RekeyNoted);
    let options = OpenOptions {
        patience: Duration::from_millis(300),
        fault: Some(hook),
        ..OpenOptions::default()
    };
    let store = bench.open_with(&[NOTES], options).unwrap();
    let changing = tokio::spawn({
        let store = store.clone();
        async move { store.rekey(next(), Progress::default()).await }
    });
    tokio::task::spawn_blocking(move || reached.recv().unwrap())
        .await
        .unwrap();
    let begun = Instant::now();
    let written = add_note(&store, 50).await;
    assert!(matches!(written, Err(StoreError::Busy)), "{written:?}");
    let read = store.read(|_| Ok(())).await;
    assert!(matches!(read, Err(StoreError::Busy)), "{read:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{begun:?}");
    go_on.send(()).unwrap();
    changing.await.unwrap().unwrap();
    assert_eq!(count(&store).await, 50, "what was given up was done");
    add_note(&store, 50).await.unwrap();
    store.close().await.unwrap();
}

/// From the note on the next key is the one that counts, and for a moment the file is still the one
/// from before: whoever opens it meanwhile waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_checks_or_copies_while_the_key_changes_meets_no_damage() {
    for point in [FaultPoint::RekeyNoted, FaultPoint::RekeySwapped] {
        let bench = Bench::new();
        let (store, changing, go_on) = standing_still(&bench, point).await;
        let (tell, told) = mpsc::channel();
        let looking = tokio::task::spawn_blocking({
            let store = store.clone();
            move || {
                let found = store.check(&NEXT, true, || true);
                let viewed = store.view(&NEXT).map(|view| view.sequence());
                tell.send(()).unwrap();
                (found, viewed)
            }
        });
        // It is done at once, or waits.
        let early = told.recv_timeout(Duration::from_millis(300));
        go_on.send(()).unwrap();
        changing.await.unwrap().unwrap();
        let (found, viewed) = looking.await.unwrap();
        assert!(early.is_err(), "{point:?}: {found:?}, {viewed:?}");
        let found = found.unwrap();
        assert!(found.findings.is_empty(), "{point:?}: {found:?}");
        viewed.unwrap();
        assert!(!store.health().damaged, "{point:?}");
        store.close().await.unwrap();
    }
}

/// Nor when the change would come to its end between the look-up of the key and the opening.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_looked_up_while_the_file_is_steady_stays_the_one_it_is_under() {
    let bench = Bench::new();
    bench.filled(50).await;
    let store = bench.open().unwrap();
    let runtime = tokio::runtime::Handle::current();
    let looking = tokio::task::spawn_blocking({
        let store = store.clone();
        move || {
            let steady = store.steady().unwrap();
            let (tell, told) = mpsc::channel();
            let changing = runtime.spawn({
                let store = store.clone();
                async move {
                    let changed = store.rekey(next(), Progress::default()).await;
                    tell.send(()).ok();
                    changed
                }
            });
            // It is done at once, or waits.
            let early = told.recv_timeout(Duration::from_millis(300));
            let viewed = steady.view(&KEY).map(|view| view.sequence());
            let found = steady.check(&KEY, true, || true);
            (changing, early, viewed, found)
        }
    });
    let (changing, early, viewed, found) = looking.await.unwrap();
    changing.await.unwrap().unwrap();
    assert!(early.is_err(), "{found:?}, {viewed:?}");
    viewed.unwrap();
    let found = found.unwrap();
    assert!(found.findings.is_empty(), "{found:?}");
    assert!(!store.health().damaged);
    assert_eq!(store.key(), 2);
    let found = store.steady().unwrap().check(&NEXT, true, || true);
    assert_eq!(found.unwrap().findings, []);
    store.close().await.unwrap();
}

/// What does not open under a key that is looked up after the change is damaged, though it was
/// waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_is_met_right_after_a_change_of_the_key_is_told() {
    let bench = Bench::new();
    let (store, changing, go_on) = standing_still(&bench, FaultPoint::RekeyNoted).await;
    let (tell, told) = mpsc::channel();
    let looking = tokio::task::spawn_blocking({
        let store = store.clone();
        move || {
            tell.send(()).unwrap();
            let steady = store.steady().unwrap();
            // As a first page that no key opens.
            steady.check(&KEY, false, || true)
        }
    });
    told.recv().unwrap();
    // Until it waits: one that comes later meets the damage in any case.
    tokio::time::sleep(Duration::from_millis(100)).await;
    go_on.send(()).unwrap();
    changing.await.unwrap().unwrap();
    let found = looking.await.unwrap();
    assert!(
        matches!(found, Err(StoreError::Damaged { .. })),
        "{found:?}"
    );
    let _ = store.close().await;
}

/// Neither when the change comes to nothing after the key was looked up for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_checks_while_a_change_of_the_key_can_not_be_gone_on_with_is_told_so() {
    let bench = Bench::new();
    bench.filled(50).await;
    let options = OpenOptions {
        fault: Some(FaultHook::new(|reached| reached != FaultPoint::RekeyNoted)),
        ..OpenOptions::default()
    };
    let store = bench.open_with(&[NOTES], options).unwrap();
    store.rekey(next(), Progress::default()).await.unwrap_err();
    let found = store.check(&NEXT, false, || true);
    assert!(matches!(found, Err(StoreError::Closed)), "{found:?}");
    let viewed = store.view(&NEXT).map(|view| view.sequence());
    assert!(matches!(viewed, Err(StoreError::Closed)), "{viewed:?}");
    assert!(!store.health().damaged);
    let _ = store.close().await;
}

#[tokio::test]
async fn a_full_disk_ends_a_change_of_the_key_and_leaves_the_old_one() {
    let Some(disk) = SmallDisk::mount(
        "rekey::a_full_disk_ends_a_change_of_the_key_and_leaves_the_old_one",
        "6m",
    ) else {
        return;
    };
    let path = disk.0.path().join("person.db");
    let registry = Arc::new(crate::support::MemoryRegistry::default());
    let open = || Store::open(&path, &KEY, &PERSON, &[NOTES], registry.clone());
    let store = Store::create(&path, &KEY, &PERSON, &[NOTES], registry.clone()).unwrap();
    add_notes(&store, 0, 3000).await;
    store.close().await.unwrap();
    let store = open().unwrap();
    fill(&disk.0.path().join("filler"), 600 << 10);
    match store.rekey(next(), Progress::default()).await {
        Err(StoreError::StorageFull) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(count(&store).await, 3000);
    add_note(&store, 3000).await.unwrap();
    store.close().await.unwrap();
    let store = open().unwrap();
    assert_eq!(count(&store).await, 3001);
    store.close().await.unwrap();
    assert_eq!(names(disk.0.path()), ["filler", "person.db"]);
}

/// Fills a disk up, and leaves this many bytes.
fn fill(path: &std::path::Path, leave: u64) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[0; 64 << 10]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length - leave).unwrap();
}
