//! Kills and power cuts at every operation, a full disk, a disk that does not sync: no archive or
//! a whole one, the old one or the new one.

use std::path::Path;
use std::sync::Arc;

use aico_vault::Owner;
use aico_vault::archive::{ArchiveError, Part};
use aico_vault::fs::FileError;
use aico_vault::fs::faulty::{Dice, Faulty};

use super::support::*;

fn aftermaths(disk: &Faulty, seed: usize) -> Vec<Faulty> {
    let mut all = vec![disk.after_kill()];
    for roll in 0..6 {
        all.push(disk.after_power_cut(&mut Dice((seed * 100 + roll) as u64)));
    }
    all
}

fn is_mia(part: &Part) -> bool {
    part.owner == Owner::Person(MIA)
}

#[test]
fn a_backup_that_is_cut_off_anywhere_is_there_as_a_whole_or_not_at_all() {
    let world = World::new();
    for stop in 0.. {
        let disk = world.disk.fork();
        disk.stop_after(stop);
        let done = world.write_to(&disk, Path::new(PLACE), true).is_ok();
        for after in aftermaths(&disk, stop) {
            match world.open_on(&after) {
                Ok(archive) => {
                    let found = read_all(&archive);
                    assert!(
                        found.error.is_none() && found.texts == texts(true),
                        "{stop}"
                    );
                }
                Err(ArchiveError::Absent { .. }) => assert!(!done, "{stop}"),
                Err(error) => panic!("stopped after {stop}: {error}"),
            }
            // Nothing is in the way of the next one, which tidies up.
            if !done {
                let second = world.write_to(&after, Path::new(PLACE), false);
                assert!(
                    matches!(second, Ok(_) | Err(ArchiveError::Exists { .. })),
                    "{stop}"
                );
            }
        }
        if done {
            assert!(stop >= 5, "{stop}");
            return;
        }
    }
}

#[test]
fn dropping_a_part_that_is_cut_off_anywhere_leaves_the_old_archive_or_the_new_one() {
    let world = World::new();
    world.write(true).unwrap();
    for stop in 0.. {
        let disk = world.disk.fork();
        let archive = world.open_on(&disk).unwrap();
        disk.stop_after(stop);
        let fs = Arc::new(disk.clone());
        let done = archive
            .rewrite_without(fs, is_mia, b"{}", &mut |_| true)
            .is_ok();
        for after in aftermaths(&disk, stop) {
            let archive = world.open_on(&after).unwrap();
            let found = read_all(&archive);
            assert!(found.error.is_none(), "{stop}");
            let mut new = texts(true);
            new.remove(1);
            assert!(
                found.texts == new || !done && found.texts == texts(true),
                "{stop}"
            );
        }
        if done {
            assert!(stop >= 4, "{stop}");
            return;
        }
    }
}

#[test]
fn a_full_disk_leaves_no_half_archive_and_what_was_there_stays() {
    let world = World::new();
    world.disk.set_full(true);
    let error = world.write(true).unwrap_err();
    assert!(
        matches!(error, ArchiveError::File(FileError::StorageFull { .. })),
        "{error}"
    );
    assert!(archives(&world.disk).is_empty());
    world.disk.set_full(false);
    world.write(true).unwrap();

    let archive = world.open().unwrap();
    world.disk.set_full(true);
    let fs = Arc::new(world.disk.clone());
    let error = archive
        .rewrite_without(fs, is_mia, b"{}", &mut |_| true)
        .unwrap_err();
    assert!(matches!(
        error,
        ArchiveError::File(FileError::StorageFull { .. })
    ));
    world.disk.set_full(false);
    assert_eq!(archives(&world.disk), [Path::new(PLACE)]);
    assert_eq!(read_all(&world.open().unwrap()).texts, texts(true));
}

#[test]
fn a_disk_that_does_not_sync_is_told_and_leaves_nothing() {
    let world = World::new();
    world.disk.set_no_sync(true);
    assert!(matches!(world.write(false), Err(ArchiveError::File(_))));
    world.disk.set_no_sync(false);
    assert!(archives(&world.disk).is_empty());
}

#[test]
fn one_that_is_given_up_leaves_nothing() {
    let world = World::new();
    world.write(true).unwrap();
    let archive = world.open().unwrap();
    let error = archive.verify(&mut |_| false).unwrap_err();
    assert!(matches!(error, ArchiveError::Cancelled));
    let fs = Arc::new(world.disk.clone());
    let error = archive
        .rewrite_without(fs, is_mia, b"{}", &mut |_| false)
        .unwrap_err();
    assert!(matches!(error, ArchiveError::Cancelled));
    assert_eq!(archives(&world.disk), [Path::new(PLACE)]);
}

#[test]
fn a_damaged_archive_is_not_written_anew() {
    let world = World::new();
    world.write(true).unwrap();
    let mut bytes = world.bytes();
    // In the part of somebody who stays.
    let at = bytes.len() - 620;
    bytes[at] ^= 1;
    let disk = world.disk.fork();
    disk.plant(Path::new(PLACE), &bytes);
    let archive = world.open_on(&disk).unwrap();
    let fs = Arc::new(disk.clone());
    let error = archive
        .rewrite_without(fs, is_mia, b"{}", &mut |_| true)
        .unwrap_err();
    assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
    assert_eq!(disk.read(Path::new(PLACE)).unwrap(), bytes);
}
