//! Each test is named after the fault.

use aico_vault::fs::faulty::Faulty;

use super::*;
use crate::journal::disk::Why;
use crate::journal::upkeep::Retention;

/// Files of five messages each, the last one with two, open.
fn three_files(fs: &Faulty, vault: &Vault) -> Store {
    let mut store = open(vault);
    for number in 1..=12 {
        keep(&mut store, message(number, None, 100)).unwrap();
        if number % 5 == 0 {
            let old = Retention::new(1, 1);
            assert!(store.rotate(old, NOW + number * 100_000).unwrap());
        }
    }
    assert_eq!(fs.files().iter().filter(|path| is_journal(path)).count(), 3);
    store
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "journal")
}

fn path_of(store: &Store, index: usize) -> std::path::PathBuf {
    let file = store.closed.get(index).map(|closed| closed.0);
    store.folder.path_of(&file.unwrap_or(store.current.name))
}

fn numbers(seen: &Seen) -> Vec<u64> {
    seen.kept.iter().map(|kept| kept.1).collect()
}

fn made() -> (Faulty, Vault) {
    let fs = Faulty::new();
    let vault = make_vault(&fs);
    (fs, vault)
}

/// How far apart the places are that are tried: `usual`, or each one in the long tests.
fn apart(usual: usize) -> usize {
    let every = std::env::var_os("AICO_TEST_EVERY_BYTE").is_some();
    if every { 1 } else { usual }
}

#[test]
fn what_was_kept_is_there_after_a_restart_and_sequences_go_on() {
    let (fs, vault) = made();
    let store = three_files(&fs, &vault);
    assert_eq!(numbers(&read(&store)), (1..=12).collect::<Vec<_>>());
    let epoch = store.epoch();
    store.close().unwrap();
    let mut store = open(&vault);
    assert_ne!(store.epoch(), epoch);
    assert_eq!((store.place(12).epoch, store.last), (epoch, 12));
    // A repetition of the last run is known.
    assert_eq!(keep(&mut store, message(3, None, 100)), Ok(3));
    assert_eq!(keep(&mut store, message(13, None, 100)), Ok(13));
    assert_eq!(numbers(&read(&store)), (1..=13).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_refuses_with_its_own_word_and_goes_on_when_there_is_room() {
    let (fs, vault) = made();
    let mut store = three_files(&fs, &vault);
    fs.set_full(true);
    let refused = keep(&mut store, message(20, None, 9000));
    assert_eq!(refused, Err(JournalFault::StorageFull));
    // Reading goes on, and what had been kept is still known.
    assert_eq!(keep(&mut store, message(3, None, 100)), Ok(3));
    assert_eq!(read(&store).kept.len(), 12);
    fs.set_full(false);
    assert_eq!(keep(&mut store, message(20, None, 9000)), Ok(13));
    assert_eq!(read(&store).kept.len(), 13);
}

#[test]
fn what_was_refused_after_a_failed_sync_is_not_there() {
    let (fs, vault) = made();
    let mut store = three_files(&fs, &vault);
    fs.set_no_sync(true);
    let refused = keep(&mut store, message(20, None, 100));
    assert!(matches!(refused, Err(JournalFault::Failed { .. })));
    fs.set_no_sync(false);
    assert_eq!(keep(&mut store, message(21, None, 100)), Ok(13));
    assert_eq!(numbers(&read(&store))[12..], [21]);
    drop(store);
    assert_eq!(numbers(&read(&open(&vault)))[12..], [21]);
}

#[test]
fn any_flipped_bit_of_a_closed_file_is_told_and_the_rest_is_followed() {
    let (fs, vault) = made();
    let store = three_files(&fs, &vault);
    let path = path_of(&store, 1);
    let bytes = fs.read(&path).unwrap();
    for at in (0..bytes.len()).step_by(apart(13)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        fs.plant(&path, &damaged);
        let seen = read(&store);
        let missed: u64 = seen.skipped.iter().map(|skipped| skipped.missed).sum();
        assert!(
            seen.skipped
                .iter()
                .all(|skipped| skipped.why == Why::Damaged)
        );
        assert_eq!(seen.kept.len() as u64 + missed, 12, "byte {at}");
        // At the closing mark nothing is lost; the cut is told in the log.
        assert!(missed > 0 || at >= bytes.len() - 25, "byte {at}");
        assert_eq!(numbers(&seen)[..5], [1, 2, 3, 4, 5]);
        assert!(numbers(&seen).ends_with(&[11, 12]));
    }
}

#[test]
fn a_closed_file_cut_at_any_length_is_told() {
    let (fs, vault) = made();
    let store = three_files(&fs, &vault);
    let path = path_of(&store, 1);
    let bytes = fs.read(&path).unwrap();
    for len in (0..bytes.len() - 25).step_by(apart(17)) {
        fs.plant(&path, &bytes[..len]);
        let seen = read(&store);
        let missed: u64 = seen.skipped.iter().map(|skipped| skipped.missed).sum();
        assert!(missed > 0, "cut at {len}");
        assert_eq!(seen.kept.len() as u64 + missed, 12, "cut at {len}");
    }
}

#[test]
fn a_closed_file_in_anothers_place_is_told() {
    let (fs, vault) = made();
    let store = three_files(&fs, &vault);
    let first = fs.read(&path_of(&store, 0)).unwrap();
    fs.plant(&path_of(&store, 1), &first);
    let seen = read(&store);
    assert_eq!(numbers(&seen), [1, 2, 3, 4, 5, 11, 12]);
    assert_eq!((seen.skipped.len(), seen.skipped[0].missed), (1, 5));
    assert_eq!(seen.skipped[0].next.sequence, 11);
}

#[test]
fn a_closed_file_that_is_missing_is_told() {
    let (fs, vault) = made();
    let store = three_files(&fs, &vault);
    fs.remove_file(&path_of(&store, 1)).unwrap();
    for store in [store, open(&vault)] {
        let seen = read(&store);
        assert_eq!(numbers(&seen), [1, 2, 3, 4, 5, 11, 12]);
        assert_eq!((seen.skipped.len(), seen.skipped[0].missed), (1, 5));
    }
}

#[test]
fn a_last_file_with_damage_is_set_aside_and_sequences_do_not_go_back() {
    let (fs, vault) = made();
    let store = three_files(&fs, &vault);
    let path = path_of(&store, 2);
    store.close().unwrap();
    let mut bytes = fs.read(&path).unwrap();
    bytes[300] ^= 1;
    fs.plant(&path, &bytes);
    let mut store = open(&vault);
    assert_eq!(store.last, 12);
    assert_eq!(keep(&mut store, message(20, None, 1)), Ok(13));
    assert!(
        fs.files()
            .iter()
            .any(|file| file.extension().is_some_and(|e| e == "damaged"))
    );
    let seen = read(&store);
    assert_eq!(numbers(&seen), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20]);
    assert_eq!((seen.skipped.len(), seen.skipped[0].missed), (1, 2));
}

#[test]
fn a_last_file_that_is_missing_does_not_make_sequences_go_back() {
    let (fs, vault) = made();
    let store = three_files(&fs, &vault);
    let path = path_of(&store, 2);
    store.close().unwrap();
    fs.remove_file(&path).unwrap();
    let mut store = open(&vault);
    assert_eq!(keep(&mut store, message(20, None, 1)), Ok(13));
    store.close().unwrap();
    let mut store = open(&vault);
    assert_eq!(keep(&mut store, message(21, None, 1)), Ok(14));
}

#[test]
fn a_torn_end_is_cut_off_and_the_rest_is_there() {
    let (fs, vault) = made();
    let store = three_files(&fs, &vault);
    let path = path_of(&store, 2);
    drop(store);
    let bytes = fs.read(&path).unwrap();
    // No mark was noted for the last two: a tail that is torn can't be told from a crash.
    for cut in 1..150 {
        fs.plant(&path, &bytes[..bytes.len() - cut]);
        let fork = fs.fork();
        let mut store = open(&open_vault(&fork));
        assert_eq!(store.last, 11, "cut {cut}");
        assert_eq!(keep(&mut store, message(12, None, 100)), Ok(12));
        assert_eq!(read(&store).kept.len(), 12);
    }
}

#[test]
fn a_tail_below_the_mark_that_is_cut_is_damage() {
    let (fs, vault) = made();
    let store = three_files(&fs, &vault);
    let path = path_of(&store, 2);
    store.note(&[]).unwrap();
    drop(store);
    let bytes = fs.read(&path).unwrap();
    fs.plant(&path, &bytes[..bytes.len() - 150]);
    let mut store = open(&vault);
    assert_eq!(keep(&mut store, message(20, None, 1)), Ok(13));
    assert_eq!(read(&store).skipped[0].missed, 2);
}

#[test]
fn files_past_their_time_or_size_go_as_a_whole_and_never_the_one_that_is_written() {
    let (fs, vault) = made();
    let mut store = three_files(&fs, &vault);
    let all = store.bytes();
    let days = |days| Retention::new(days, 100);
    // What is in a file is older than the file after it: 5 and 10 hundred thousand seconds.
    assert_eq!(store.retain(days(30), NOW + 1_000_000).unwrap(), 0);
    assert_eq!(store.retain(days(1), NOW + 1_000_000).unwrap(), 1);
    assert_eq!(store.retain(days(1), NOW + 1_086_401).unwrap(), 1);
    let seen = read(&store);
    assert_eq!(numbers(&seen), [11, 12]);
    assert_eq!(
        (seen.skipped[0].why, seen.skipped[0].missed),
        (Why::Expired, 10)
    );
    let small = Retention {
        bytes: 1,
        ..days(30)
    };
    assert_eq!(store.retain(small, NOW).unwrap(), 0);
    assert!(store.bytes() < all);
    store.close().unwrap();
    // Nothing of what is gone is left in the registry.
    let marks = vault.registry().marks();
    assert_eq!(
        marks
            .keys()
            .filter(|name| name.starts_with("bus-journal/"))
            .count(),
        1
    );
    assert_eq!(open(&vault).last, 12);
}

#[test]
fn a_batch_knows_its_own_repetitions() {
    let (_, vault) = made();
    let mut store = open(&vault);
    let batch = [1, 2, 1, 1].map(|number| message(number, None, 10));
    let outcomes = store.commit(&batch, true);
    let told: Vec<_> = outcomes
        .outcomes
        .iter()
        .map(|outcome| {
            let receipt = outcome.as_ref().unwrap();
            (receipt.place.sequence, receipt.repeated)
        })
        .collect();
    assert_eq!(told, [(1, false), (2, false), (1, true), (1, true)]);
    assert_eq!(outcomes.kept.len(), 2);
}

#[test]
fn a_file_for_which_there_was_no_room_does_not_stand_in_the_way() {
    let (fs, vault) = made();
    let mut store = three_files(&fs, &vault);
    let old = Retention::new(1, 1);
    fs.set_full(true);
    assert!(store.rotate(old, NOW + 2_000_000).is_err());
    assert_eq!(fs.files().iter().filter(|path| is_journal(path)).count(), 3);
    fs.set_full(false);
    assert_eq!(keep(&mut store, message(13, None, 100)), Ok(13));
    // As if it could not be removed either: an empty file that begins where the last one went on.
    let vain = crate::journal::format::FileName {
        first: 13,
        made_s: NOW + 2_000_000,
        id: [7; 16],
    };
    fs.plant(&store.folder.path_of(&vain), b"AICOSEG");
    drop(store);
    let mut store = open(&vault);
    assert_eq!(store.last, 13);
    assert_eq!(keep(&mut store, message(14, None, 100)), Ok(14));
    assert_eq!(numbers(&read(&store)), (1..=14).collect::<Vec<_>>());
}
