//! Disks that are full or read-only (rows 3, 9 and 11).

use std::{fs, io::Write, path::Path, sync::Arc, time::Duration};

use aico_store::{OpenError, Store, StoreError};

use crate::{
    migrations::NOTES_TWICE,
    support::{KEY, MemoryRegistry, NOTES, PERSON, SmallDisk, add_note, add_notes, count, names},
};

/// Fills the disk to the last byte.
fn fill(folder: &Path) {
    let mut file = fs::File::create(folder.join("ballast")).unwrap();
    for size in [1 << 16, 4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

#[tokio::test]
async fn a_full_disk_is_told_reads_go_on_and_it_recovers_by_itself() {
    let test = "disks::a_full_disk_is_told_reads_go_on_and_it_recovers_by_itself";
    let Some(disk) = SmallDisk::mount(test, "3m") else {
        return;
    };
    let path = disk.0.path().join("person.db");
    let registry = Arc::new(MemoryRegistry::default());
    let store = Store::create(&path, &KEY, &PERSON, &[NOTES], registry.clone()).unwrap();
    add_notes(&store, 0, 100).await;
    fill(disk.0.path());
    let mut acknowledged = 100;
    loop {
        match add_note(&store, acknowledged).await {
            Ok(()) => acknowledged += 1,
            Err(StoreError::StorageFull) => break,
            Err(error) => panic!("{error:?}"),
        }
        assert!(acknowledged < 10_000, "the disk is never full");
    }
    for _ in 0..5 {
        assert_eq!(count(&store).await, acknowledged);
        assert!(matches!(
            add_note(&store, acknowledged).await,
            Err(StoreError::StorageFull)
        ));
    }
    let health = store.health();
    assert!(
        health.storage_full && !health.writable && !health.damaged,
        "{health:?}"
    );
    fs::remove_file(disk.0.path().join("ballast")).unwrap();
    let healed = async {
        while !store.health().writable {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), healed)
        .await
        .unwrap();
    add_note(&store, acknowledged).await.unwrap();
    store.close().await.unwrap();
    let store = Store::open(&path, &KEY, &PERSON, &[NOTES], registry).unwrap();
    assert_eq!(count(&store).await, acknowledged + 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_closed_on_a_full_disk_loses_nothing() {
    let test = "disks::a_store_closed_on_a_full_disk_loses_nothing";
    let Some(disk) = SmallDisk::mount(test, "3m") else {
        return;
    };
    let path = disk.0.path().join("person.db");
    let registry = Arc::new(MemoryRegistry::default());
    let store = Store::create(&path, &KEY, &PERSON, &[NOTES], registry.clone()).unwrap();
    add_notes(&store, 0, 200).await;
    fill(disk.0.path());
    // Folding the log needs room that is not there.
    let closed = store.close().await;
    assert!(matches!(closed, Err(StoreError::StorageFull)), "{closed:?}");
    fs::remove_file(disk.0.path().join("ballast")).unwrap();
    let store = Store::open(&path, &KEY, &PERSON, &[NOTES], registry).unwrap();
    assert_eq!(count(&store).await, 200);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_disk_too_small_for_creating_or_migrating_is_told_and_nothing_is_lost() {
    let test = "disks::a_disk_too_small_for_creating_or_migrating_is_told_and_nothing_is_lost";
    let Some(disk) = SmallDisk::mount(test, "3m") else {
        return;
    };
    let path = disk.0.path().join("person.db");
    let registry = Arc::new(MemoryRegistry::default());
    let create = || Store::create(&path, &KEY, &PERSON, &[NOTES], registry.clone());
    fill(disk.0.path());
    let created = create();
    assert!(
        matches!(created, Err(OpenError::StorageFull { .. })),
        "{created:?}"
    );
    assert_eq!(names(disk.0.path()), ["ballast"]);
    let ballast = disk.0.path().join("ballast");
    fs::remove_file(&ballast).unwrap();
    let store = create().unwrap();
    add_notes(&store, 0, 2000).await;
    store.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    let migrate = || Store::open(&path, &KEY, &PERSON, &[NOTES_TWICE], registry.clone());

    // Room for nothing: not even the snapshot.
    fill(disk.0.path());
    let opened = migrate();
    assert!(
        matches!(opened, Err(OpenError::StorageFull { .. })),
        "{opened:?}"
    );
    assert!(fs::read(&path).unwrap() == before);
    fs::remove_file(&ballast).unwrap();
    // Room for the snapshot, not for the step, which rewrites every row.
    let mut file = fs::File::create(&ballast).unwrap();
    let room = 3 * 1024 * 1024 - 2 * before.len() as u64 - 200_000;
    file.write_all(&vec![1; room as usize]).unwrap();
    drop(file);
    let opened = migrate();
    assert!(
        matches!(
            opened,
            Err(OpenError::MigrationFailed {
                restored: true,
                source: StoreError::StorageFull,
                ..
            })
        ),
        "{opened:?}"
    );
    assert!(fs::read(&path).unwrap() == before);
    fs::remove_file(&ballast).unwrap();
    let store = Store::open(&path, &KEY, &PERSON, &[NOTES], registry.clone()).unwrap();
    assert_eq!(count(&store).await, 2000);
    store.close().await.unwrap();
    assert_eq!(names(disk.0.path()), ["person.db"]);
}

/// Row 9. Modes don't hold back root, a mount does.
#[tokio::test]
async fn a_read_only_folder_is_told_and_can_be_read_from() {
    let test = "disks::a_read_only_folder_is_told_and_can_be_read_from";
    let Some(disk) = SmallDisk::mount(test, "3m") else {
        return;
    };
    let path = disk.0.path().join("person.db");
    let registry = Arc::new(MemoryRegistry::default());
    let store = Store::create(&path, &KEY, &PERSON, &[NOTES], registry.clone()).unwrap();
    add_notes(&store, 0, 10).await;
    store.close().await.unwrap();
    let record = registry.record(&PERSON.store_id());
    disk.remount("ro");
    let opened = Store::open(&path, &KEY, &PERSON, &[NOTES], registry.clone());
    assert!(
        matches!(opened, Err(OpenError::StorageReadOnly { .. })),
        "{opened:?}"
    );
    assert_eq!(registry.record(&PERSON.store_id()), record);
    let store = Store::open_read_only(&path, &KEY, &PERSON, &[NOTES], registry.clone()).unwrap();
    assert_eq!(count(&store).await, 10);
    store.close().await.unwrap();
    let other = disk.0.path().join("other.db");
    let created = Store::create(
        &other,
        &KEY,
        &PERSON,
        &[NOTES],
        Arc::new(MemoryRegistry::default()),
    );
    assert!(
        matches!(created, Err(OpenError::StorageReadOnly { .. })),
        "{created:?}"
    );
    disk.remount("rw");
    let store = Store::open(&path, &KEY, &PERSON, &[NOTES], registry).unwrap();
    store.close().await.unwrap();
}
