//! Copies taken from a store in use, and databases made of copies.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use aico_store::{
    AtRest, Copied, NumberedKey, OpenError, Store, StoreError, StoreRecord, StoreRegistry as _,
};

use crate::support::*;

fn nothing_edited(_: &rusqlite::Transaction<'_>) -> Result<(), StoreError> {
    Ok(())
}

fn copy(store: &Store, to: &Path) -> Copied {
    let view = store.view(&KEY).unwrap();
    view.copy_to(to, &KEY, &nothing_edited, &mut |_, _| true)
        .unwrap()
}

fn notes(said: &AtRest) -> u64 {
    said.rows["note"]
}

fn adopt(bench: &Bench, from: &Path) -> Result<(), OpenError> {
    Store::adopt(
        from,
        &bench.path(),
        &NumberedKey::new(&KEY, 7),
        &PERSON,
        &[NOTES],
        bench.registry.clone(),
        &|_| true,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_of_one_moment_though_the_store_goes_on_being_written() {
    let bench = Bench::new();
    let store = bench.create();
    add_notes(&store, 0, 3000).await;
    let view = store.view(&KEY).unwrap();
    let before = store.sequence();
    assert_eq!(view.sequence(), before);
    // Somebody writes all the time, and is never made to wait for the copy.
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let writer = tokio::spawn({
        let (store, stop, written) = (store.clone(), stop.clone(), written.clone());
        async move {
            let mut n = 3000;
            while !stop.load(Ordering::SeqCst) {
                add_note(&store, n).await.unwrap();
                written.fetch_add(1, Ordering::SeqCst);
                n += 1;
            }
        }
    });
    wait_until("something was written", || {
        written.load(Ordering::SeqCst) > 0
    });
    let to = bench.folder.path().join("copy.db");
    let mut seen = 0;
    let during = written.clone();
    let copied = view
        .copy_to(&to, &KEY, &nothing_edited, &mut |done, total| {
            assert!(done >= seen && done <= total);
            seen = done;
            // Some of the writes fall between two steps.
            let now = during.load(Ordering::SeqCst);
            wait_until("more was written", || during.load(Ordering::SeqCst) > now);
            true
        })
        .unwrap();
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    drop(view);
    assert!(written.load(Ordering::SeqCst) >= 2);
    assert_eq!(copied.rows["note"], 3000);
    assert_eq!(copied.sequence, before);
    assert_eq!(copied.schema["notes"], 1);
    assert_eq!(copied.length, fs::metadata(&to).unwrap().len());
    assert_eq!(notes(&Store::at_rest(&to, &KEY).unwrap()), 3000);
    assert!(count(&store).await > 3000);
    // It is a database of another salt, with nothing readable in it.
    let bytes = fs::read(&to).unwrap();
    assert_ne!(bytes[..16], fs::read(bench.path()).unwrap()[..16]);
    assert!(!bytes.windows(6).any(|window| window == b"note 1"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_must_not_be_in_a_copy_is_not() {
    let bench = Bench::new();
    let store = bench.create();
    add_notes(&store, 0, 20).await;
    let to = bench.folder.path().join("copy.db");
    let view = store.view(&KEY).unwrap();
    let without = |tx: &rusqlite::Transaction<'_>| {
        tx.execute("DELETE FROM note WHERE id >= 5", [])?;
        Ok(())
    };
    let copied = view.copy_to(&to, &KEY, &without, &mut |_, _| true).unwrap();
    drop(view);
    assert_eq!(copied.rows["note"], 5);
    assert_eq!(count(&store).await, 20);
    assert_eq!(
        bench.names(),
        ["copy.db", "person.db", "person.db-shm", "person.db-wal"]
    );
    store.close().await.unwrap();
}

#[tokio::test]
async fn one_that_is_wanted_no_longer_leaves_nothing() {
    let bench = Bench::new();
    let store = bench.create();
    add_notes(&store, 0, 20).await;
    let to = bench.folder.path().join("copy.db");
    let view = store.view(&KEY).unwrap();
    let made = view.copy_to(&to, &KEY, &nothing_edited, &mut |_, _| false);
    assert!(matches!(
        made,
        Err(OpenError::Engine {
            source: StoreError::Cancelled,
            ..
        })
    ));
    drop(view);
    assert!(!to.exists());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_database_made_of_a_copy_is_younger_and_has_a_salt_of_its_own() {
    let bench = Bench::new();
    let store = bench.create();
    add_notes(&store, 0, 20).await;
    let to = bench.folder.path().join("copy.db");
    let copied = copy(&store, &to);
    store.close().await.unwrap();
    let first = bench.registry.record(&bench.id()).unwrap();

    let (one, two) = (Bench::new(), Bench::new());
    for other in [&one, &two] {
        adopt(other, &to).unwrap();
        let store = other.open().unwrap();
        assert_eq!(count(&store).await, 20);
        add_notes(&store, 20, 21).await;
        store.close().await.unwrap();
        let record = other.registry.record(&other.id()).unwrap();
        assert_eq!(record.generation, copied.generation + 1);
        assert_ne!(record.salt, copied.salt);
        assert_ne!(record.salt, first.salt);
    }
    assert_ne!(
        one.registry.record(&one.id()).unwrap().salt,
        two.registry.record(&two.id()).unwrap().salt
    );
    // The copy itself, put in its place, is refused: the generation tells.
    fs::copy(&to, one.path()).unwrap();
    assert!(matches!(one.open(), Err(OpenError::Older { .. })));
    // And nothing is made where something is.
    assert!(matches!(
        adopt(&two, &to),
        Err(OpenError::AlreadyThere { .. })
    ));
}

#[tokio::test]
async fn a_damaged_foreign_or_unexpected_copy_becomes_no_database() {
    let bench = Bench::new();
    let store = bench.create();
    add_notes(&store, 0, 200).await;
    let to = bench.folder.path().join("copy.db");
    copy(&store, &to);
    store.close().await.unwrap();
    let whole = fs::read(&to).unwrap();
    for at in [3, 20, 4000, 5000, whole.len() / 2, whole.len() - 20] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&to, &changed).unwrap();
        let other = Bench::new();
        assert!(adopt(&other, &to).is_err(), "byte {at}");
        assert!(other.names().is_empty(), "{:?}", other.names());
        assert!(other.registry.record(&other.id()).is_none());
    }
    fs::write(&to, &whole[..whole.len() - 4096]).unwrap();
    assert!(adopt(&Bench::new(), &to).is_err());
    fs::write(&to, &whole).unwrap();

    let refused = |key: &[u8; 32], identity, modules: &[_], check: &dyn Fn(&AtRest) -> bool| {
        let other = Bench::new();
        let registry = other.registry.clone();
        let key = NumberedKey::new(key, 7);
        Store::adopt(&to, &other.path(), &key, identity, modules, registry, check).unwrap_err()
    };
    let another = aico_store::Identity::person([9; 16]);
    assert!(matches!(
        refused(&KEY, &another, &[NOTES], &|_| true),
        OpenError::OfAnother { .. }
    ));
    refused(&[8; 32], &PERSON, &[NOTES], &|_| true);
    assert!(matches!(
        refused(&KEY, &PERSON, &[], &|_| true),
        OpenError::SchemaNewer { .. }
    ));
    assert!(matches!(
        refused(&KEY, &PERSON, &[NOTES], &|said| notes(said) == 7),
        OpenError::ChangedSinceStop { .. }
    ));
}

#[tokio::test]
async fn a_copy_takes_the_place_of_a_damaged_database_and_what_was_there_is_kept() {
    let bench = Bench::new();
    let store = bench.create();
    add_notes(&store, 0, 20).await;
    let to = bench.folder.path().join("copy.db");
    copy(&store, &to);
    add_notes(&store, 20, 30).await;
    store.close().await.unwrap();
    let mut broken = fs::read(bench.path()).unwrap();
    broken[5000] ^= 1;
    fs::write(bench.path(), &broken).unwrap();
    assert!(bench.open().is_err());
    let put_back = || {
        Store::put_back(
            &to,
            &bench.path(),
            &NumberedKey::new(&KEY, 7),
            &PERSON,
            &[NOTES],
            bench.registry.clone(),
            &|_| true,
        )
    };
    // A registry that can't be written: everything is as it was.
    bench.registry.failing.store(true, Ordering::SeqCst);
    assert!(put_back().is_err());
    bench.registry.failing.store(false, Ordering::SeqCst);
    assert_eq!(fs::read(bench.path()).unwrap(), broken);

    let kept = put_back().unwrap();
    assert_eq!(fs::read(&kept[0]).unwrap(), broken);
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, 20);
    assert_eq!(store.key(), 7, "it is known which key it is under");
    store.close().await.unwrap();
    // A restore that was cut off before has left a note that can't be followed any more, and a
    // copy that was begun.
    let gone = bench.registry.record(&bench.id()).unwrap();
    let noted = format!("{}/restore", bench.id());
    bench.registry.put(&noted, &gone).unwrap();
    fs::write(bench.path(), &broken).unwrap();
    fs::write(bench.folder.path().join("person.db.new"), &broken).unwrap();
    assert!(bench.open().is_err());
    assert!(!bench.names().contains(&"person.db.new".to_owned()));
    let again = put_back().unwrap();
    assert!(!again.is_empty() && !again.contains(&kept[0]));
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, 20);
    store.close().await.unwrap();
    // Once more, where there is none at all.
    fs::remove_file(bench.path()).unwrap();
    assert!(put_back().unwrap().is_empty());
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, 20);
    store.close().await.unwrap();
    // What the first one kept has outlived the others. An erasure takes all of it.
    assert_eq!(fs::read(&kept[0]).unwrap(), broken);
    Store::erase(&bench.path(), &PERSON, &*bench.registry).unwrap();
    assert_eq!(bench.names(), ["copy.db"]);
}

/// As somebody's data is put back whose key nobody here has.
#[tokio::test]
async fn a_copy_that_can_not_be_opened_here_takes_the_place_as_it_lies() {
    let bench = Bench::new();
    let store = bench.create();
    add_notes(&store, 0, 20).await;
    let to = bench.folder.path().join("copy.db");
    let copied = copy(&store, &to);
    add_notes(&store, 20, 30).await;
    store.close().await.unwrap();
    let put_back = |hash| {
        let record = StoreRecord {
            salt: copied.salt,
            generation: copied.generation,
            last_sequence: copied.sequence,
            closed_hash: Some(hash),
            key: 7,
        };
        let registry = bench.registry.clone();
        Store::put_back_unopened(&to, &bench.path(), &PERSON, registry, &record)
    };
    assert!(matches!(
        put_back([1; 32]),
        Err(OpenError::ChangedSinceStop { path }) if path == to
    ));
    assert_eq!(bench.names(), ["copy.db", "person.db"]);
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, 30);
    store.close().await.unwrap();

    let before = fs::read(bench.path()).unwrap();
    let kept = put_back(copied.hash).unwrap();
    assert_eq!(fs::read(&kept[0]).unwrap(), before);
    let store = bench.open().unwrap();
    assert_eq!((count(&store).await, store.key()), (20, 7));
    store.close().await.unwrap();
}
