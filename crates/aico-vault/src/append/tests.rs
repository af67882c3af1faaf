//! Damage, crashes and forks of sealed append files, each test named after the fault.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::format::{CLOSE_LEN, HEADER, RECORD_OVERHEAD};
use super::*;
use crate::derive::{Owner, Purpose};
use crate::fs::Filesystem;
use crate::fs::faulty::{Dice, Faulty};
use crate::key::Key;

const PATH: &str = "/log";

fn key() -> LogKey {
    LogKey::new(
        Key::from_bytes(&[9; 32]),
        1,
        Purpose::Log,
        Owner::System,
        [5; 16],
    )
}

fn path() -> &'static Path {
    Path::new(PATH)
}

fn write(fs: &Faulty, mark: HighWater) -> Result<(SealedLogWriter, Found), AppendError> {
    SealedLogWriter::open_on(Arc::new(fs.clone()), &key(), path(), mark, 1)
}

fn read(fs: &Faulty, mark: HighWater) -> Result<(Vec<Vec<u8>>, Tail), AppendError> {
    let mut reader = SealedLogReader::open_on(Arc::new(fs.clone()), &key(), path(), mark)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        assert_eq!(record.sequence, records.len() as u64 + 1);
        records.push(record.data.to_vec());
    }
    Ok((records, reader.tail()))
}

fn read_all(fs: &Faulty) -> Result<(Vec<Vec<u8>>, Tail), AppendError> {
    read(fs, HighWater::default())
}

fn mark(sequence: u64) -> HighWater {
    HighWater {
        sequence,
        closed: 0,
    }
}

/// Segments of these many records of some bytes; the last one closed or not.
fn file(segments: &[usize], closed: bool) -> Faulty {
    let fs = Faulty::new();
    let mut number = 0;
    for (index, records) in segments.iter().enumerate() {
        let (mut log, _) = write(&fs, HighWater::default()).unwrap();
        for _ in 0..*records {
            number += 1;
            log.append(format!("record {number}").as_bytes()).unwrap();
            log.sync().unwrap();
        }
        if closed || index + 1 < segments.len() {
            log.close().unwrap();
        }
    }
    fs
}

fn with(bytes: &[u8]) -> Faulty {
    let fs = Faulty::new();
    fs.plant(path(), bytes);
    fs
}

#[test]
fn what_was_appended_is_read_in_order_over_several_openings() {
    let (records, tail) = read_all(&file(&[3, 1, 2], true)).unwrap();
    assert_eq!(tail, Tail::Closed);
    let texts: Vec<_> = (1..=6)
        .map(|n| format!("record {n}").into_bytes())
        .collect();
    assert_eq!(records, texts);
}

#[test]
fn lengths_in_the_file_are_as_documented() {
    let fs = Faulty::new();
    let (mut log, found) = write(&fs, HighWater::default()).unwrap();
    assert_eq!(
        found,
        Found {
            records: 0,
            torn_bytes: 0,
            clean: true
        }
    );
    log.append(&[1; 100]).unwrap();
    assert_eq!(log.len(), (HEADER + RECORD_OVERHEAD + 100) as u64);
    log.close().unwrap();
    assert_eq!(HEADER, 187);
    assert_eq!(fs.read(path()).unwrap().len(), 187 + 21 + 100 + CLOSE_LEN);
}

#[test]
fn every_flipped_bit_of_a_closed_file_is_an_error() {
    let bytes = file(&[2, 3], true).read(path()).unwrap();
    // The closing mark itself is all that stands between closed and open: the registry's.
    let marked = HighWater {
        sequence: 5,
        closed: 5,
    };
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(
                read(&with(&damaged), marked).is_err(),
                "byte {at}, bit {bit}"
            );
            if at < bytes.len() - CLOSE_LEN {
                assert!(
                    read_all(&with(&damaged)).is_err(),
                    "without mark: byte {at}, bit {bit}"
                );
                assert!(
                    write(&with(&damaged), HighWater::default()).is_err(),
                    "byte {at}"
                );
            }
        }
    }
}

#[test]
fn every_cut_of_a_closed_file_is_an_error() {
    let bytes = file(&[2, 3], true).read(path()).unwrap();
    let marked = HighWater {
        sequence: 5,
        closed: 5,
    };
    for len in 0..bytes.len() {
        assert!(read(&with(&bytes[..len]), marked).is_err(), "cut at {len}");
    }
}

#[test]
fn a_flipped_bit_in_an_open_file_never_gives_other_records() {
    let bytes = file(&[2, 3], false).read(path()).unwrap();
    let (whole, tail) = read_all(&with(&bytes)).unwrap();
    assert_eq!(tail, Tail::Open);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(read(&with(&damaged), mark(5)).is_err(), "byte {at}");
        if let Ok((records, tail)) = read_all(&with(&damaged)) {
            assert!(matches!(tail, Tail::Torn { .. }), "byte {at}");
            assert!(
                records.len() < 5 && whole.starts_with(&records),
                "byte {at}"
            );
        }
    }
}

#[test]
fn a_synced_record_that_is_damaged_is_not_taken_for_torn() {
    let bytes = file(&[5], false).read(path()).unwrap();
    let record = RECORD_OVERHEAD + b"record 1".len();
    for number in 0..4 {
        let mut damaged = bytes.clone();
        damaged[HEADER + number * record + 10] ^= 1;
        let error = read_all(&with(&damaged)).unwrap_err();
        assert!(
            matches!(error, AppendError::Damaged { sequence, .. } if sequence == number as u64 + 1),
            "{error}"
        );
    }
}

#[test]
fn records_that_came_while_the_disk_was_waited_for_do_not_pass_for_synced() {
    let fs = Faulty::new();
    let (mut log, _) = write(&fs, HighWater::default()).unwrap();
    log.append(b"record 1").unwrap();
    let sync = log.begin_sync().unwrap();
    log.append(b"record 2").unwrap();
    log.flush().unwrap();
    // Both are with the system, and are read, before the disk has answered.
    assert_eq!(read_all(&fs).unwrap().0.len(), 2);
    assert_eq!(log.end_sync(sync.wait()).unwrap(), 1);
    log.append(b"record 3").unwrap();
    log.flush().unwrap();
    let damaged = |fs: &Faulty, number: usize| {
        let mut bytes = fs.read(path()).unwrap();
        bytes[HEADER + (number - 1) * (RECORD_OVERHEAD + b"record 1".len()) + 10] ^= 1;
        read_all(&with(&bytes))
    };
    // Nothing says that the second was synced: it may be torn.
    assert!(matches!(damaged(&fs, 2), Ok((_, Tail::Torn { .. }))));
    let sync = log.begin_sync().unwrap();
    assert_eq!(log.end_sync(sync.wait()).unwrap(), 3);
    log.append(b"record 4").unwrap();
    log.flush().unwrap();
    assert!(matches!(damaged(&fs, 2), Err(AppendError::Damaged { .. })));
}

#[test]
fn a_wait_for_the_disk_that_failed_ends_the_writer() {
    let fs = Faulty::new();
    let (mut log, _) = write(&fs, HighWater::default()).unwrap();
    log.append(b"record 1").unwrap();
    let sync = log.begin_sync().unwrap();
    fs.set_no_sync(true);
    let synced = sync.wait();
    assert!(matches!(log.end_sync(synced), Err(AppendError::File(_))));
    assert!(log.is_broken());
    assert!(matches!(
        log.append(b"record 2"),
        Err(AppendError::Broken { .. })
    ));
}

#[test]
fn a_torn_end_is_cut_off_counted_and_appended_to() {
    let whole = file(&[3], false).read(path()).unwrap();
    let record = RECORD_OVERHEAD + b"record 3".len();
    for missing in 1..record {
        let fs = with(&whole[..whole.len() - missing]);
        let (records, tail) = read_all(&fs).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(
            tail,
            Tail::Torn {
                bytes: (record - missing) as u64
            }
        );
        let (mut log, found) = write(&fs, mark(2)).unwrap();
        let torn_bytes = (record - missing) as u64;
        assert_eq!(
            found,
            Found {
                records: 2,
                torn_bytes,
                clean: false
            }
        );
        assert_eq!(log.append(b"after").unwrap(), 3);
        log.close().unwrap();
        assert_eq!(read_all(&fs).unwrap().0.last().unwrap(), b"after");
    }
}

#[test]
fn cut_off_anywhere_in_the_recovery_of_a_torn_end_it_is_recovered_again() {
    // Different places of the new header against the sectors of the disk.
    for first in (0..1100).step_by(60) {
        let fs = Faulty::new();
        let (mut log, _) = write(&fs, HighWater::default()).unwrap();
        log.append(&vec![1; first]).unwrap();
        log.sync().unwrap();
        log.append(&[2; 3000]).unwrap();
        log.sync().unwrap();
        let whole = fs.read(path()).unwrap();
        let torn = with(&whole[..whole.len() - 1]);
        for stop in 0..5 {
            let killed = torn.fork();
            killed.stop_after(stop);
            let _ = write(&killed, mark(1));
            for seed in 0..20 {
                let after = match seed {
                    0 => killed.after_kill(),
                    _ => killed.after_power_cut(&mut Dice(stop as u64 * 100 + seed)),
                };
                let (mut log, found) = write(&after, mark(1)).unwrap();
                assert_eq!(
                    found.records, 1,
                    "first {first}, stopped at {stop}, seed {seed}"
                );
                log.append(b"after").unwrap();
                log.close().unwrap();
                assert_eq!(read_all(&after).unwrap().0.len(), 2);
            }
        }
    }
}

#[test]
fn a_cut_below_the_mark_is_an_error_and_nothing_is_changed() {
    let whole = file(&[3], false).read(path()).unwrap();
    for len in 0..whole.len() {
        let fs = with(&whole[..len]);
        assert!(
            matches!(read(&fs, mark(3)), Err(AppendError::Cut { mark: 3, .. })),
            "{len}"
        );
        assert!(
            matches!(write(&fs, mark(3)), Err(AppendError::Cut { mark: 3, .. })),
            "{len}"
        );
        assert_eq!(fs.read(path()).unwrap().len(), len);
    }
    let gone = Faulty::new();
    assert!(matches!(
        write(&gone, mark(3)),
        Err(AppendError::Cut { found: 0, .. })
    ));
    assert!(gone.files().is_empty());
}

#[test]
fn segments_that_are_dropped_swapped_or_repeated_are_an_error() {
    let first = file(&[2], true).read(path()).unwrap().len();
    let second = file(&[2, 2], true);
    let second_len = second.read(path()).unwrap().len();
    let (mut log, _) = write(&second, HighWater::default()).unwrap();
    log.append(b"last").unwrap();
    log.close().unwrap();
    let bytes = second.read(path()).unwrap();
    let (a, b, c) = (
        &bytes[..first],
        &bytes[first..second_len],
        &bytes[second_len..],
    );
    for parts in [
        [a, c, b],
        [b, a, c],
        [a, a, c],
        [a, b, b],
        [b, b, c],
        [c, b, a],
    ] {
        assert!(read_all(&with(&parts.concat())).is_err());
    }
    for parts in [[a, c], [b, c], [b, a]] {
        assert!(read_all(&with(&parts.concat())).is_err());
    }
    assert!(read_all(&with(&[a, b, c].concat())).is_ok());
}

#[test]
fn records_that_are_swapped_repeated_or_left_out_are_an_error() {
    let bytes = file(&[3], true).read(path()).unwrap();
    let len = RECORD_OVERHEAD + b"record 1".len();
    let (head, rest) = bytes.split_at(HEADER);
    let (records, end) = rest.split_at(3 * len);
    let parts: Vec<_> = records.chunks(len).collect();
    for order in [
        vec![1, 0, 2],
        vec![0, 0, 2],
        vec![0, 2],
        vec![0, 1, 2, 2],
        vec![0, 2, 1],
    ] {
        let chosen: Vec<u8> = order
            .iter()
            .flat_map(|index| parts[*index].to_vec())
            .collect();
        let changed = [head, &chosen, end].concat();
        assert!(read_all(&with(&changed)).is_err(), "{order:?}");
    }
}

#[test]
fn a_file_of_another_purpose_owner_id_epoch_or_vault_is_refused() {
    let fs = file(&[2], true);
    let base = || Key::from_bytes(&[9; 32]);
    let others = [
        LogKey::new(base(), 1, Purpose::BusJournal, Owner::System, [5; 16]),
        LogKey::new(base(), 1, Purpose::Log, Owner::Person([0; 16]), [5; 16]),
        LogKey::new(base(), 1, Purpose::Log, Owner::System, [6; 16]),
        LogKey::new(base(), 2, Purpose::Log, Owner::System, [5; 16]),
    ];
    for other in others {
        let fs = Arc::new(fs.clone());
        let mut reader =
            SealedLogReader::open_on(fs, &other, path(), HighWater::default()).unwrap();
        assert!(matches!(
            reader.next_record(),
            Err(AppendError::Foreign { .. })
        ));
    }
    let vault = LogKey::new(
        Key::from_bytes(&[8; 32]),
        1,
        Purpose::Log,
        Owner::System,
        [5; 16],
    );
    let fs: Arc<Faulty> = Arc::new(fs.clone());
    let mut reader = SealedLogReader::open_on(fs, &vault, path(), HighWater::default()).unwrap();
    assert!(matches!(
        reader.next_record(),
        Err(AppendError::Damaged { .. })
    ));
}

#[test]
fn a_newer_format_is_named_and_left_alone() {
    let mut bytes = file(&[2], true).read(path()).unwrap();
    bytes[9] = 2;
    let fs = with(&bytes);
    let error = write(&fs, HighWater::default()).map(drop).unwrap_err();
    assert!(matches!(
        error,
        AppendError::Unsupported {
            found: 2,
            known: 1,
            ..
        }
    ));
    assert_eq!(fs.read(path()).unwrap(), bytes);
}

#[test]
fn a_huge_length_takes_no_memory_and_is_no_record() {
    let mut bytes = file(&[1], false).read(path()).unwrap();
    bytes[HEADER + 1..HEADER + 5].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(
        matches!(read_all(&with(&bytes)), Ok((records, Tail::Torn { .. })) if records.is_empty())
    );
    assert!(read(&with(&bytes), mark(1)).is_err());
}

#[test]
fn a_reader_follows_a_growing_file() {
    let fs = file(&[1], true);
    let shared: Arc<Faulty> = Arc::new(fs.clone());
    let mut reader =
        SealedLogReader::open_on(shared, &key(), path(), HighWater::default()).unwrap();
    let next = |reader: &mut SealedLogReader| {
        reader
            .next_record()
            .unwrap()
            .map(|record| record.data.to_vec())
    };
    assert_eq!(next(&mut reader).unwrap(), b"record 1");
    assert_eq!(next(&mut reader), None);
    let (mut log, _) = write(&fs, HighWater::default()).unwrap();
    assert_eq!(next(&mut reader), None);
    for number in 0..50_u8 {
        log.append(&[number; 3000]).unwrap();
        log.flush().unwrap();
        assert_eq!(next(&mut reader).unwrap(), [number; 3000]);
        assert_eq!(next(&mut reader), None);
        assert_eq!(reader.tail(), Tail::Open);
    }
    log.close().unwrap();
    assert_eq!(next(&mut reader), None);
    assert_eq!(reader.tail(), Tail::Closed);
}

#[test]
fn a_reader_of_a_growing_file_waits_for_the_rest_of_a_record() {
    let bytes = file(&[2, 2], true).read(path()).unwrap();
    let fs = with(&bytes[..1]);
    let shared: Arc<Faulty> = Arc::new(fs.clone());
    let mut file = fs.open(path(), true).unwrap();
    let mut reader =
        SealedLogReader::open_on(shared, &key(), path(), HighWater::default()).unwrap();
    let mut seen = 0;
    for len in 1..bytes.len() {
        file.write_at(&bytes[len..=len], len as u64).unwrap();
        while reader.next_record().unwrap().is_some() {
            seen += 1;
        }
    }
    assert_eq!((seen, reader.tail()), (4, Tail::Closed));
}

#[test]
fn a_full_disk_loses_nothing_and_uses_no_nonce_twice() {
    let fs = Faulty::new();
    let (mut log, _) = write(&fs, HighWater::default()).unwrap();
    log.append(b"before").unwrap();
    log.sync().unwrap();
    fs.set_full(true);
    log.append(b"while full").unwrap();
    let error = log.flush().unwrap_err();
    assert!(
        matches!(
            error,
            AppendError::File(crate::FileError::StorageFull { .. })
        ),
        "{error}"
    );
    let half = fs.read(path()).unwrap();
    log.append(b"still full").unwrap();
    assert!(log.sync().is_err());
    fs.set_full(false);
    log.append(b"after").unwrap();
    assert_eq!(log.sync().unwrap(), 4);
    assert!(
        fs.read(path()).unwrap().starts_with(&half),
        "the same bytes went to the same place"
    );
    let records = read_all(&fs).unwrap().0;
    assert_eq!(
        records,
        [&b"before"[..], b"while full", b"still full", b"after"]
    );
}

#[test]
fn a_full_disk_does_not_fill_the_memory() {
    let fs = Faulty::new();
    let (mut log, _) = write(&fs, HighWater::default()).unwrap();
    fs.set_full(true);
    let taken = (0..1000)
        .take_while(|_| log.append(&[0; 100_000]).is_ok())
        .count();
    assert!((10..100).contains(&taken), "{taken}");
}

#[test]
fn after_a_failed_sync_nothing_more_is_acknowledged() {
    let fs = Faulty::new();
    let (mut log, _) = write(&fs, HighWater::default()).unwrap();
    log.append(b"one").unwrap();
    fs.set_no_sync(true);
    assert!(log.sync().is_err());
    fs.set_no_sync(false);
    assert!(matches!(
        log.append(b"two"),
        Err(AppendError::Broken { .. })
    ));
    assert!(matches!(log.sync(), Err(AppendError::Broken { .. })));
}

#[test]
fn what_is_read_after_a_failed_sync_and_a_kill_is_durable_once_it_is_opened() {
    let fs = Faulty::new();
    let (mut log, _) = write(&fs, HighWater::default()).unwrap();
    log.append(b"one").unwrap();
    log.sync().unwrap();
    log.append(b"two").unwrap();
    log.append(&[3; 3000]).unwrap();
    fs.set_no_sync(true);
    assert!(log.sync().is_err());
    let next = fs.after_kill();
    assert_eq!(read_all(&next).unwrap().0.len(), 3);
    let (_, found) = write(&next, mark(1)).unwrap();
    assert_eq!(found.records, 3);
    for seed in 0..50 {
        let after = next.after_power_cut(&mut Dice(seed));
        assert_eq!(read_all(&after).unwrap().0.len(), 3, "seed {seed}");
    }
}

/// The random bytes of every segment in a file, found by its magic.
fn segment_randoms(bytes: &[u8]) -> Vec<[u8; 32]> {
    let starts = bytes
        .windows(8)
        .enumerate()
        .filter(|(_, w)| w == b"AICOSEG\0");
    starts
        .filter_map(|(at, _)| bytes.get(at + 91..at + 123)?.try_into().ok())
        .collect()
}

#[test]
fn no_key_is_used_again_after_a_crash_a_recovery_and_a_restored_copy() {
    let mut dice = Dice(7);
    let mut seen = BTreeSet::new();
    let mut openings = 0;
    let mut copies = vec![Faulty::new()];
    for _ in 0..60 {
        // An older copy, taken at any time, is appended to again beside the others.
        let fs = copies[dice.roll(copies.len())].fork();
        let (mut log, _) = write(&fs, HighWater::default()).unwrap();
        openings += 1;
        if let Some(random) = segment_randoms(&fs.read(path()).unwrap()).last() {
            assert!(seen.insert(*random), "a segment's random bytes came twice");
        }
        for _ in 0..dice.roll(4) {
            log.append(&vec![1; dice.roll(2000)]).unwrap();
            if dice.roll(2) == 0 {
                log.sync().unwrap();
            } else {
                log.flush().unwrap();
            }
        }
        drop(log);
        copies.push(fs.after_power_cut(&mut dice));
    }
    assert_eq!(seen.len(), openings);
}

#[derive(Clone, Debug)]
enum Step {
    Append(u16),
    Flush,
    Sync,
    Close,
    CutInClose(u64),
    NoSync,
    Reopen,
    Kill,
    PowerCut(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u16..1500).prop_map(Step::Append),
        2 => Just(Step::Flush),
        3 => Just(Step::Sync),
        1 => Just(Step::Close),
        1 => any::<u64>().prop_map(Step::CutInClose),
        1 => Just(Step::NoSync),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::PowerCut),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// A list of records beside the file: after any crash the file holds a prefix of the list
    /// that is no shorter than what was synced, and what was read is what was written.
    #[test]
    fn after_any_crash_the_file_is_a_prefix_that_holds_all_that_was_synced(steps in steps()) {
        let mut fs = Faulty::new();
        let mut log = Some(write(&fs, HighWater::default()).unwrap().0);
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut synced = HighWater::default();
        for (number, step) in steps.into_iter().enumerate() {
            let crashed = match (step, &mut log) {
                (Step::Append(len), Some(log)) => {
                    let record = vec![number as u8; usize::from(len)];
                    prop_assert_eq!(log.append(&record).unwrap(), model.len() as u64 + 1);
                    model.push(record);
                    None
                }
                (Step::Flush, Some(log)) => { log.flush().unwrap(); None }
                (Step::Sync, Some(log)) => {
                    synced.sequence = log.sync().unwrap();
                    prop_assert_eq!(synced.sequence, model.len() as u64);
                    None
                }
                (Step::Close, log) => {
                    if let Some(log) = log.take() {
                        let last = log.close().unwrap();
                        synced = HighWater { sequence: last, closed: last };
                    }
                    Some(fs.after_kill())
                }
                (Step::CutInClose(seed), log) => {
                    // Only now and then is it the closing itself that is cut.
                    fs.stop_after(seed as usize % 5);
                    if let Some(log) = log.take() {
                        let _ = log.close();
                    }
                    Some(fs.after_power_cut(&mut Dice(seed)))
                }
                (Step::NoSync, Some(log)) => {
                    fs.set_no_sync(true);
                    prop_assert!(log.sync().is_err());
                    Some(fs.after_kill())
                }
                (Step::Reopen | Step::Kill, _) => Some(fs.after_kill()),
                (Step::PowerCut(seed), _) => Some(fs.after_power_cut(&mut Dice(seed))),
                (_, None) => None,
            };
            if let Some(after) = crashed {
                fs = after;
                let (records, _) = read(&fs, synced).unwrap();
                prop_assert!(records.len() as u64 >= synced.sequence);
                prop_assert!(model.starts_with(&records));
                let (writer, found) = write(&fs, synced).unwrap();
                prop_assert_eq!(found.records, records.len() as u64);
                // What an opening has found is durable, whatever became of the syncs before it.
                synced.sequence = found.records;
                model = records;
                log = Some(writer);
            }
        }
    }
}

/// As in `docs/formats/bus-journal.md`, computed with Python.
const BODY: &str = "2db3203654d57ce54deb96a616982748b67eb91780";

fn person_keys(id: u8, key: u8) -> crate::PersonKeys {
    crate::PersonKeys(Arc::new(crate::person::PersonInner {
        id: std::array::from_fn(|i| id + i as u8),
        epoch: 1,
        key: Key::from_bytes(&std::array::from_fn(|i| key + i as u8)),
        earlier: Vec::new(),
    }))
}

fn sealed_body() -> Vec<u8> {
    let mut record = b"headhello".to_vec();
    let segment = std::array::from_fn(|i| 0x40 + i as u8);
    person_keys(0xa0, 0)
        .body_key(&segment)
        .seal(7, &mut record, 4);
    record
}

#[test]
fn a_body_gives_the_published_vector_and_opens() {
    let mut record = sealed_body();
    assert_eq!(hex::encode(&record[4..]), BODY);
    let segment = std::array::from_fn(|i| 0x40 + i as u8);
    let key = person_keys(0xa0, 0).body_key(&segment);
    assert_eq!(key.open(7, &mut record, 4), Ok(&b"hello"[..]));
}

#[test]
fn a_body_of_another_record_segment_or_person_or_with_a_flipped_bit_does_not_open() {
    let segment: [u8; 32] = std::array::from_fn(|i| 0x40 + i as u8);
    let other: [u8; 32] = std::array::from_fn(|i| 0x41 + i as u8);
    for (keys, segment, sequence) in [
        (person_keys(0xa0, 0), segment, 8),
        (person_keys(0xa0, 0), other, 7),
        (person_keys(0xa1, 0), segment, 7),
        (person_keys(0xa0, 1), segment, 7),
    ] {
        let mut record = sealed_body();
        let key = keys.body_key(&segment);
        assert_eq!(key.open(sequence, &mut record, 4), Err(BodyForged));
    }
    let key = person_keys(0xa0, 0).body_key(&segment);
    for at in 0..sealed_body().len() {
        let mut record = sealed_body();
        record[at] ^= 1;
        assert_eq!(key.open(7, &mut record, 4), Err(BodyForged), "byte {at}");
    }
    assert_eq!(key.open(7, &mut [], 4), Err(BodyForged));
}

#[test]
fn each_opening_names_other_random_bytes_and_the_reader_tells_them() {
    let fs = Faulty::new();
    let mut drawn = Vec::new();
    for n in 1..=3_u8 {
        let (mut log, _) = write(&fs, HighWater::default()).unwrap();
        drawn.push(log.segment());
        log.append(&[n]).unwrap();
        log.close().unwrap();
    }
    let mut reader =
        SealedLogReader::open_on(Arc::new(fs), &key(), path(), HighWater::default()).unwrap();
    assert_eq!(reader.segment(), [0; 32]);
    let mut read = Vec::new();
    while reader.next_record().unwrap().is_some() {
        read.push(reader.segment());
    }
    assert_eq!(read, drawn);
    assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 3);
}
