//! Kills and power cuts at every single operation, a full disk, a disk that does not sync: the
//! state before or the state after.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use aico_vault::append::{HighWater, Tail};
use aico_vault::fs::faulty::Dice;
use aico_vault::{EncryptedFile, EncryptedFileError};

use super::support::*;

/// Long enough to be handed to the disk in several writes.
const LONG: usize = 600_000;

/// The disk after the process was killed, and after the power was cut in several ways.
fn aftermaths(disk: &Disk, seed: usize) -> Vec<Disk> {
    let mut all = vec![Disk(disk.0.after_kill())];
    for roll in 0..6 {
        let mut dice = Dice((seed * 100 + roll) as u64);
        all.push(Disk(disk.0.after_power_cut(&mut dice)));
    }
    all
}

/// Nothing is left but the file itself, once another one was put in its place.
fn tidy(disk: &Disk) {
    disk.replace(b"the next").unwrap();
    assert_eq!(disk.0.files(), [PathBuf::from(PLACE)]);
    assert_eq!(disk.read().0, b"the next");
}

#[test]
fn a_replace_that_is_cut_off_anywhere_leaves_the_old_file_or_the_new_one() {
    let (old, new) = (text(5000), text(LONG));
    let mut completed = false;
    for stop in 0.. {
        let disk = Disk::new();
        disk.replace(&old).unwrap();
        disk.0.stop_after(stop);
        let done = disk.replace(&new).is_ok();
        for after in aftermaths(&disk, stop) {
            let (found, read) = after.read();
            read.unwrap();
            assert!(
                found == new || !done && found == old,
                "stopped after {stop}"
            );
            tidy(&after);
        }
        if done {
            // Made, written in three parts, synced, renamed, the folder synced.
            assert!(stop >= 7, "{stop}");
            completed = true;
            break;
        }
    }
    assert!(completed);
}

#[test]
fn a_new_file_that_is_cut_off_anywhere_is_there_as_a_whole_or_not_at_all() {
    let new = text(LONG);
    for stop in 0.. {
        let disk = Disk::new();
        disk.0.stop_after(stop);
        let mut options = disk.options();
        let done = options
            .write(true)
            .create_new(true)
            .open(&key(), place())
            .and_then(|mut file| {
                file.write_all(&new).map_err(typed)?;
                file.finish().map(drop)
            })
            .is_ok();
        for after in aftermaths(&disk, stop) {
            match after.read() {
                (found, Ok(())) => assert!(found == new),
                (_, Err(EncryptedFileError::Absent { .. })) => assert!(!done, "{stop}"),
                (_, Err(error)) => panic!("stopped after {stop}: {error}"),
            }
            tidy(&after);
        }
        if done {
            assert!(stop >= 7, "{stop}");
            return;
        }
    }
}

#[test]
fn an_append_that_is_cut_off_anywhere_keeps_what_was_synced_and_goes_on() {
    let records: [&[u8]; 3] = [b"one", &[7; 3000], b"three"];
    let all = records.concat();
    let ends = [0, 3, 3003, 3008];
    for stop in 0.. {
        let disk = Disk::new();
        disk.0.stop_after(stop);
        let mut synced = 0;
        let done = append(&disk, &records, &mut synced).is_ok();
        for after in aftermaths(&disk, stop) {
            let mark = HighWater {
                sequence: synced,
                closed: if done { synced } else { 0 },
            };
            let kept = match after.read_with(&key(), mark) {
                (found, Ok(())) => found,
                // Not one record was synced, and the file was not made yet, or has no bytes.
                (found, Err(error)) => {
                    let none = matches!(
                        error,
                        EncryptedFileError::Absent { .. } | EncryptedFileError::NotEncrypted { .. }
                    );
                    assert!(none && synced == 0, "stopped after {stop}: {error}");
                    found
                }
            };
            assert!(
                all.starts_with(&kept) && ends.contains(&kept.len()),
                "{stop}"
            );
            assert!(kept.len() >= ends[synced as usize], "{stop}");
            let mut file = after.append(mark).unwrap();
            file.write_all(b"and on").unwrap();
            file.finish().unwrap();
            let (found, read) = after.read();
            read.unwrap();
            assert_eq!(found, [&kept[..], b"and on"].concat(), "{stop}");
        }
        if done {
            assert_eq!(synced, 3);
            return;
        }
    }
}

fn append(disk: &Disk, records: &[&[u8]], synced: &mut u64) -> Result<(), EncryptedFileError> {
    let mut file = disk.append(HighWater::default())?;
    for record in records {
        file.write_all(record).map_err(typed)?;
        *synced = file.sync()?;
    }
    file.finish().map(drop)
}

/// Writes until nothing more is taken; how much was.
fn write_until_refused(file: &mut EncryptedFile, text: &[u8]) -> (usize, std::io::Error) {
    let mut taken = 0;
    loop {
        match file.write(&text[taken..]) {
            Ok(0) => panic!("everything was taken"),
            Ok(count) => taken += count,
            Err(error) => return (taken, error),
        }
    }
}

#[test]
fn a_full_disk_is_told_and_writing_goes_on_when_there_is_room() {
    let text = text(LONG);
    let disk = Disk::new();
    disk.replace(b"old").unwrap();
    let mut options = disk.options();
    let begin = |disk: &Disk| {
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .open(&key(), place())
            .unwrap();
        disk.0.set_full(true);
        let (taken, error) = write_until_refused(&mut file, &text);
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let error = typed(error).to_string();
        assert!(error.contains("room") && error.contains(PLACE), "{error}");
        (file, taken)
    };
    let mut begin = begin;
    let (mut file, taken) = begin(&disk);
    disk.0.set_full(false);
    file.write_all(&text[taken..]).unwrap();
    file.finish().unwrap();
    assert!(disk.read().0 == text);

    // Given up instead: not a part of it, and what was there stays.
    let (file, _) = begin(&disk);
    disk.0.set_full(false);
    assert!(matches!(
        file.finish(),
        Err(EncryptedFileError::Incomplete { .. })
    ));
    assert!(disk.read().0 == text);
    assert_eq!(disk.0.files(), [PathBuf::from(PLACE)]);
}

#[test]
fn a_disk_that_does_not_sync_leaves_the_old_file() {
    let disk = Disk::new();
    disk.replace(b"old").unwrap();
    disk.0.set_no_sync(true);
    assert!(matches!(
        disk.replace(b"new"),
        Err(EncryptedFileError::File(_))
    ));
    assert_eq!(disk.read().0, b"old");
    assert_eq!(disk.0.files(), [PathBuf::from(PLACE)]);
    disk.0.set_no_sync(false);
    tidy(&disk);
}

#[test]
fn a_torn_end_is_counted_and_the_cut_below_the_mark_is_an_error() {
    let whole = appended(&[&[b"one", b"two"]]);
    let torn = &whole[..whole.len() - 25 - 3];
    let disk = Disk::with(torn);
    let mut file = disk.open().unwrap();
    file.verify().unwrap();
    assert!(matches!(file.tail(), Tail::Torn { bytes } if bytes == 21));
    assert_eq!(disk.read().0, b"one");
    let mark = HighWater {
        sequence: 2,
        closed: 0,
    };
    assert!(matches!(
        disk.read_with(&key(), mark).1,
        Err(EncryptedFileError::Append(_))
    ));
    assert!(disk.append(mark).is_err());
    assert_eq!(disk.bytes().unwrap(), torn);
}
