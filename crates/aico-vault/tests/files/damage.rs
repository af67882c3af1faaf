//! Everything that can be done to the bytes of a file: nothing goes unseen, nothing that was not
//! authenticated is handed out, nothing panics.

use std::io::{BufRead, Read, Seek, SeekFrom};

use aico_vault::append::HighWater;
use aico_vault::{EncryptedFileError, FileKey, Key, Owner, Purpose};

use super::support::*;

const HEADER: usize = 147;
const SEALED: usize = CHUNK + 16;

/// What is handed out of a damaged file is the beginning of the text, and an error follows.
fn refused(bytes: &[u8], text: &[u8], what: &str) -> EncryptedFileError {
    let disk = Disk::with(bytes);
    let (out, done) = disk.read();
    assert!(
        text.starts_with(&out),
        "{what}: something else was handed out"
    );
    let error = done.expect_err(what);
    if let Ok(mut file) = disk.open() {
        file.verify().expect_err(what);
        // Nor from any other place, whatever was read before.
        for _ in 0..2 {
            for at in [0, CHUNK / 2, CHUNK, 2 * CHUNK + 5] {
                file.seek(SeekFrom::Start(at as u64)).unwrap();
                if let Ok(there) = file.fill_buf() {
                    let there = there.to_vec();
                    assert!(text[at..].starts_with(&there), "{what}: at {at}");
                }
            }
        }
    }
    error
}

#[test]
fn every_flipped_byte_of_a_finished_file_is_an_error() {
    let text = text(2 * CHUNK + 100);
    let good = finished(&text);
    assert_eq!(good.len(), HEADER + 2 * SEALED + 116);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let error = refused(&bad, &text, &format!("byte {at}"));
        if at >= HEADER {
            let expected = ((at - HEADER) / SEALED) as u64;
            assert!(
                matches!(error, EncryptedFileError::Damaged { chunk, .. } if chunk == expected),
                "byte {at}: {error}"
            );
        }
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_an_error() {
    let good = finished(b"short");
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            refused(&bad, b"short", &format!("byte {at}, bit {bit}"));
        }
    }
}

#[test]
fn every_truncation_of_a_finished_file_is_an_error_when_it_is_opened() {
    let text = text(2 * CHUNK + 100);
    let good = finished(&text);
    for len in 0..good.len() {
        let disk = Disk::with(&good[..len]);
        assert!(disk.open().is_err(), "cut to {len}");
        assert!(disk.read().0.is_empty(), "cut to {len}");
    }
    // At a chunk's boundary the error says so.
    for chunks in [0, 1, 2] {
        let error = Disk::with(&good[..HEADER + chunks * SEALED])
            .open()
            .map(drop);
        assert!(
            matches!(error, Err(EncryptedFileError::Cut { chunks: found, .. }) if found == chunks as u64),
            "{error:?}"
        );
    }
    for more in [1, 15, 16, 17, SEALED, 3 * SEALED] {
        let mut long = good.clone();
        long.resize(good.len() + more, 0);
        assert!(Disk::with(&long).open().is_err(), "{more} bytes more");
        let mut repeated = good.clone();
        repeated.extend_from_within(good.len() - more.min(good.len())..);
        assert!(
            Disk::with(&repeated).open().is_err(),
            "{more} bytes repeated"
        );
    }
}

#[test]
fn an_empty_last_chunk_is_taken_in_an_empty_file_only() {
    let empty = finished(b"");
    assert_eq!(empty.len(), HEADER + 16);
    let (out, done) = Disk::with(&empty).read();
    done.unwrap();
    assert!(out.is_empty());
    // The tag of an empty last chunk behind a full one; nobody can make the right one without the
    // key, and its length alone is refused.
    let mut longer = finished(&text(CHUNK));
    longer.extend_from_slice(&empty[HEADER..]);
    refused(&longer, &text(3 * CHUNK), "an empty chunk more");
}

fn chunks(file: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let all = file[HEADER..].chunks(SEALED).map(<[u8]>::to_vec);
    (file[..HEADER].to_vec(), all.collect())
}

#[test]
fn chunks_swapped_repeated_dropped_and_of_another_file_are_errors() {
    let text = text(4 * CHUNK);
    let (header, good) = chunks(&finished(&text));
    // Same key, same identity, same text: another salt, and so another key for the chunks.
    let (other_header, other) = chunks(&finished(&text));
    assert_ne!(header, other_header);
    for one in 0..4 {
        for two in 0..4 {
            let mut swapped = good.clone();
            swapped.swap(one, two);
            let mut repeated = good.clone();
            repeated[one] = good[two].clone();
            let mut inserted = good.clone();
            inserted.insert(one, good[two].clone());
            let mut moved = good.clone();
            let taken = moved.remove(one);
            moved.insert(two, taken);
            let mut foreign = good.clone();
            foreign[one] = other[two].clone();
            let changed = [
                ("swapped", swapped, one != two),
                ("repeated", repeated, one != two),
                ("inserted", inserted, true),
                ("moved", moved, one != two),
                ("foreign", foreign, true),
            ];
            for (what, chunks, changes) in changed {
                if changes {
                    let bytes = [header.clone(), chunks.concat()].concat();
                    refused(&bytes, &text, &format!("{what} {one} {two}"));
                }
            }
        }
        let mut dropped = good.clone();
        dropped.remove(one);
        refused(
            &[header.clone(), dropped.concat()].concat(),
            &text,
            &format!("dropped {one}"),
        );
    }
    refused(
        &[other_header, good.concat()].concat(),
        &text,
        "another header",
    );
}

#[test]
fn a_whole_file_in_the_place_of_another_is_refused_and_says_what_differs() {
    let all = [
        (
            "purpose",
            key_of(Purpose::Configuration, person(0xaf), id(0x5f)),
        ),
        (
            "owner",
            key_of(Purpose::EncryptedFile, person(0xae), id(0x5f)),
        ),
        (
            "owner",
            key_of(Purpose::EncryptedFile, Owner::System, id(0x5f)),
        ),
        ("id", key_of(Purpose::EncryptedFile, person(0xaf), id(0x5e))),
        (
            "key epoch",
            FileKey::from_derived(
                Key::from_bytes(&key_bytes()),
                2,
                Purpose::EncryptedFile,
                person(0xaf),
                id(0x5f),
            ),
        ),
    ];
    for (what, other) in &all {
        let disk = Disk::new();
        disk.replace_with(other, b"theirs").unwrap();
        let (out, done) = disk.read();
        assert!(out.is_empty());
        match done {
            Err(EncryptedFileError::Foreign { what: found, .. }) => assert_eq!(found, *what),
            other => panic!("{what}: {other:?}"),
        }
        // A file of segments is held to the same.
        let disk = Disk::new();
        let mut options = disk.options();
        options.append(true).create(true);
        options.open(other, place()).unwrap().finish().unwrap();
        let (out, done) = disk.read();
        assert!(out.is_empty() && done.is_err(), "{what}");
        assert!(disk.append(HighWater::default()).is_err(), "{what}");
    }
    let stranger = FileKey::from_derived(
        Key::from_bytes(&[9; 32]),
        1,
        Purpose::EncryptedFile,
        person(0xaf),
        id(0x5f),
    );
    let disk = Disk::new();
    disk.replace_with(&stranger, b"another vault's").unwrap();
    assert!(matches!(
        disk.read().1,
        Err(EncryptedFileError::WrongKey { .. })
    ));
}

#[test]
fn lengths_that_a_hostile_file_claims_take_no_memory() {
    let good = finished(&text(100));
    for size in [0, 1, 4095, 5000, 2 << 20, u32::MAX] {
        let mut bad = good.clone();
        bad[79..83].copy_from_slice(&size.to_be_bytes());
        // Refused by the commitment before the size counts for anything.
        assert!(matches!(
            Disk::with(&bad).open().map(drop),
            Err(EncryptedFileError::WrongKey { .. })
        ));
    }
    let mut options = Disk::new().options();
    for size in [0, 1, 4095, 5000, 2 << 20, u32::MAX] {
        let options = options.write(true).create_new(true).chunk_size(size);
        assert!(matches!(
            options.open(&key(), place()).map(drop),
            Err(EncryptedFileError::Options { .. })
        ));
    }
}

/// The closing mark of the last segment is all that stands between closed and open.
fn marked(records: u64) -> HighWater {
    HighWater {
        sequence: records,
        closed: records,
    }
}

#[test]
fn every_flipped_byte_and_every_cut_of_a_closed_appended_file_is_an_error() {
    let good = appended(&[&[b"one", b"two"], &[b"three"]]);
    let (out, done) = Disk::with(&good).read_with(&key(), marked(3));
    done.unwrap();
    assert_eq!(out, b"onetwothree");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let (out, done) = Disk::with(&bad).read_with(&key(), marked(3));
        assert!(b"onetwothree".starts_with(&out[..]), "byte {at}");
        assert!(done.is_err(), "byte {at}");
        let (out, done) = Disk::with(&good[..at]).read_with(&key(), marked(3));
        assert!(b"onetwothree".starts_with(&out[..]), "cut to {at}");
        assert!(done.is_err(), "cut to {at}");
    }
}

#[test]
fn what_is_no_file_of_ours_is_told_and_left_as_it_is() {
    for foreign in [
        &b"a text that somebody wrote"[..],
        b"a",
        b"AICOVLT\0",
        &[0xff; 4000],
    ] {
        let disk = Disk::with(foreign);
        for error in [
            disk.open().map(drop),
            disk.append(HighWater::default()).map(drop),
        ] {
            assert!(
                matches!(error, Err(EncryptedFileError::NotEncrypted { .. })),
                "{error:?}"
            );
        }
        assert_eq!(disk.bytes().unwrap(), foreign);
    }
    let disk = Disk::new();
    disk.replace(b"finished").unwrap();
    let before = disk.bytes();
    assert!(matches!(
        disk.append(HighWater::default()).map(drop),
        Err(EncryptedFileError::Finished { .. })
    ));
    assert_eq!(disk.bytes(), before);
    let mut newer = before.unwrap();
    newer[9] = 2;
    assert!(matches!(
        Disk::with(&newer).open().map(drop),
        Err(EncryptedFileError::Unsupported {
            found: 2,
            known: 1,
            ..
        })
    ));
    let error = std::io::Error::from(Disk::with(&newer).open().map(drop).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn a_chunk_after_a_damaged_one_is_still_read() {
    let text = text(3 * CHUNK);
    let mut bytes = finished(&text);
    bytes[HEADER + SEALED] ^= 1;
    let disk = Disk::with(&bytes);
    let mut file = disk.open().unwrap();
    let mut first = vec![0; CHUNK];
    file.read_exact(&mut first).unwrap();
    assert_eq!(first, text[..CHUNK]);
    for _ in 0..2 {
        let error = typed(file.fill_buf().map(drop).unwrap_err());
        assert!(matches!(
            error,
            EncryptedFileError::Damaged { chunk: 1, .. }
        ));
        assert!(error.to_string().contains(PLACE), "{error}");
    }
    file.seek(SeekFrom::Start(2 * CHUNK as u64)).unwrap();
    let mut last = Vec::new();
    file.read_to_end(&mut last).unwrap();
    assert_eq!(last, text[2 * CHUNK..]);
}
