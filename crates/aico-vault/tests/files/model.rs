//! Reading, seeking and writing in any order, against a plain `Vec`.

use std::io::{BufRead, Cursor, Read, Seek, SeekFrom, Write};

use aico_vault::append::{HighWater, Tail};
use proptest::prelude::*;

use super::support::*;

#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    Line,
    Start(u64),
    Current(i64),
    End(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reach = 3 * CHUNK as i64;
    let step = prop_oneof![
        (0..2 * CHUNK).prop_map(Step::Read),
        Just(Step::Line),
        (0..reach as u64).prop_map(Step::Start),
        (-reach..reach).prop_map(Step::Current),
        (-reach..reach).prop_map(Step::End),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Pieces of some length, many of them at the edges of chunks.
fn pieces() -> impl Strategy<Value = Vec<usize>> {
    let piece = prop_oneof![
        0..50_usize,
        CHUNK - 2..CHUNK + 3,
        2 * CHUNK - 1..2 * CHUNK + 2,
        0..3 * CHUNK,
    ];
    proptest::collection::vec(piece, 0..8)
}

/// Does the same to both, and compares.
fn same(file: &mut (impl BufRead + Seek), model: &mut Cursor<Vec<u8>>, steps: &[Step]) {
    for step in steps {
        let to = match *step {
            Step::Read(len) => {
                let (mut a, mut b) = (vec![0; len], vec![0; len]);
                // As much as there is: one read may give less than the other.
                let (a_len, b_len) = (full(file, &mut a), full(model, &mut b));
                assert_eq!((a_len, a), (b_len, b), "{step:?}");
                continue;
            }
            Step::Line => {
                let (mut a, mut b) = (Vec::new(), Vec::new());
                file.read_until(b'\n', &mut a).unwrap();
                model.read_until(b'\n', &mut b).unwrap();
                assert_eq!(a, b);
                continue;
            }
            Step::Start(to) => SeekFrom::Start(to),
            Step::Current(by) => SeekFrom::Current(by),
            Step::End(by) => SeekFrom::End(by),
        };
        let (a, b) = (file.seek(to), model.seek(to));
        assert_eq!(a.is_ok(), b.is_ok(), "{step:?}");
        assert_eq!(
            file.stream_position().unwrap(),
            model.stream_position().unwrap(),
            "{step:?}"
        );
    }
}

fn full(from: &mut impl Read, into: &mut [u8]) -> usize {
    let mut done = 0;
    while done < into.len() {
        match from.read(&mut into[done..]).unwrap() {
            0 => break,
            count => done += count,
        }
    }
    done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_finished_file_reads_like_a_vec(pieces in pieces(), steps in steps()) {
        let disk = Disk::new();
        let all = text(pieces.iter().sum());
        let mut options = disk.options();
        let mut file = options.write(true).create_new(true).open(&key(), place()).unwrap();
        let mut rest = &all[..];
        for piece in pieces {
            let (now, later) = rest.split_at(piece);
            file.write_all(now).unwrap();
            file.flush().unwrap();
            rest = later;
            prop_assert_eq!(file.stream_position().unwrap() as usize, all.len() - rest.len());
        }
        file.finish().unwrap();
        let mut file = disk.open().unwrap();
        prop_assert_eq!(file.plain_len().unwrap(), all.len() as u64);
        same(&mut file, &mut Cursor::new(all), &steps);
        file.verify().unwrap();
    }

    #[test]
    fn an_appended_file_reads_like_a_vec(
        segments in proptest::collection::vec(pieces(), 1..4),
        steps in steps(),
    ) {
        let disk = Disk::new();
        let all = text(segments.iter().flatten().sum());
        let mut rest = &all[..];
        for pieces in segments {
            let mut file = disk.append(HighWater::default()).unwrap();
            for piece in pieces {
                let (now, later) = rest.split_at(piece);
                file.write_all(now).unwrap();
                file.flush().unwrap();
                rest = later;
            }
            file.finish().unwrap();
        }
        let mut file = disk.open().unwrap();
        same(&mut file, &mut Cursor::new(all.clone()), &steps);
        prop_assert_eq!(file.plain_len().unwrap(), all.len() as u64);
        // Once more, now that places are remembered.
        file.rewind().unwrap();
        same(&mut file, &mut Cursor::new(all), &steps);
        file.verify().unwrap();
        prop_assert_eq!(file.tail(), Tail::Closed);
    }
}

#[test]
fn many_records_are_found_again_with_a_bounded_number_of_remembered_places() {
    let disk = Disk::new();
    let mut file = disk.append(HighWater::default()).unwrap();
    let mut all = Vec::new();
    for number in 0..5000_u32 {
        let line = format!("{number}\n");
        file.write_all(line.as_bytes()).unwrap();
        file.flush().unwrap();
        all.extend_from_slice(line.as_bytes());
    }
    file.finish().unwrap();
    let mut file = disk.open().unwrap();
    assert_eq!(file.plain_len().unwrap(), all.len() as u64);
    for at in (0..all.len()).rev().step_by(997) {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        let mut here = [0; 4];
        let count = full(&mut file, &mut here);
        assert_eq!(here[..count], all[at..at + count]);
    }
}

#[test]
fn a_reader_sees_what_is_appended_after_it_came_to_the_end() {
    let disk = Disk::new();
    let mut log = disk.append(HighWater::default()).unwrap();
    log.write_all(b"one").unwrap();
    log.flush().unwrap();
    let mut reader = disk.open().unwrap();
    let mut seen = Vec::new();
    reader.read_to_end(&mut seen).unwrap();
    assert_eq!((&seen[..], reader.tail()), (&b"one"[..], Tail::Open));
    log.write_all(b"two").unwrap();
    // Collected, and not yet anybody else's to see.
    assert_eq!(reader.read_to_end(&mut seen).unwrap(), 0);
    log.finish().unwrap();
    reader.read_to_end(&mut seen).unwrap();
    assert_eq!((&seen[..], reader.tail()), (&b"onetwo"[..], Tail::Closed));
}
