//! Every byte flipped, every cut, parts exchanged within an archive and between two.

use std::path::Path;

use aico_vault::archive::{ArchiveError, Preface};
use aico_vault::fs::faulty::Faulty;

use super::support::*;

/// Nothing but true bytes was handed out, and something was said.
fn noticed(world: &World, bytes: &[u8], what: &str) {
    let outcome = world.read_bytes(bytes);
    let Some(error) = outcome.error else {
        panic!("not noticed: {what}");
    };
    assert!(!error.to_string().is_empty());
    for (kind, owner, text) in outcome.texts {
        let all = texts(false);
        let (_, _, whole) = all
            .iter()
            .find(|part| (part.0, part.1) == (kind, owner))
            .expect("a part that is none of ours");
        assert!(whole.starts_with(&text), "altered bytes went out: {what}");
    }
}

#[test]
fn every_flipped_byte_is_noticed() {
    let world = World::new();
    world.write(false).unwrap();
    let bytes = world.bytes();
    assert!(world.read_bytes(&bytes).error.is_none());
    assert!(bytes.len() < 3000, "{}", bytes.len());
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            noticed(&world, &changed, &format!("byte {at} ^ {flip}"));
        }
    }
}

#[test]
fn every_flipped_byte_is_noticed_with_nothing_but_the_password() {
    let world = World::new();
    world.write(false).unwrap();
    let bytes = world.bytes();
    // Hashing the password takes a while, so not each of them in each run.
    let every = std::env::var_os("AICO_TEST_EVERY_BYTE").is_some();
    let step = |at: usize| every || at.is_multiple_of(7);
    for at in (0..bytes.len()).filter(|at| step(*at)) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let disk = Faulty::new();
        disk.plant(Path::new(PLACE), &changed);
        let opened = Preface::read(&disk, Path::new(PLACE))
            .and_then(|preface| preface.open_with_password(&password()))
            .and_then(|archive| archive.verify(&mut |_| true));
        match opened {
            Ok(()) => panic!("byte {at} was flipped and nobody noticed"),
            // The header carries its own checksum: damage is never told as a wrong password.
            Err(ArchiveError::WrongPassword) => panic!("byte {at}: told as a wrong password"),
            Err(_) => {}
        }
    }
}

#[test]
fn every_cut_and_what_is_put_behind_is_noticed() {
    let world = World::new();
    world.write(false).unwrap();
    let bytes = world.bytes();
    for length in 0..bytes.len() {
        noticed(&world, &bytes[..length], &format!("cut to {length}"));
    }
    let mut longer = bytes.clone();
    longer.push(0);
    noticed(&world, &longer, "one byte more");
    longer.extend_from_slice(&bytes);
    noticed(&world, &longer, "itself behind it");
    for from in (1..bytes.len()).step_by(11) {
        noticed(&world, &bytes[from..], &format!("begun at {from}"));
    }
}

#[test]
fn pieces_exchanged_within_and_between_archives_are_noticed() {
    let world = World::new();
    world.write(false).unwrap();
    let one = world.bytes();
    let disk = Faulty::new();
    let place = Path::new(PLACE);
    disk.make_set();
    world.write_to(&disk, place, false).unwrap();
    let two = disk.read(place).unwrap();
    assert_eq!(one.len(), two.len());
    // Any stretch of the one in the place of the same stretch of the other.
    for length in [1, 16, 86, 106, 400] {
        for at in (0..one.len() - length).step_by(5) {
            if one[at..at + length] == two[at..at + length] {
                continue;
            }
            let mut mixed = one.clone();
            mixed[at..at + length].copy_from_slice(&two[at..at + length]);
            noticed(
                &world,
                &mixed,
                &format!("{length} bytes of another at {at}"),
            );
        }
    }
    // Any stretch moved to another place of the same archive.
    for (from, to) in [
        (0, 900),
        (700, 1000),
        (1000, 800),
        (1200, 1300),
        (1500, 900),
    ] {
        let length = 90.min(one.len() - from.max(to));
        let mut mixed = one.clone();
        let piece = one[from..from + length].to_vec();
        mixed[to..to + length].copy_from_slice(&piece);
        if mixed != one {
            noticed(&world, &mixed, &format!("{from} moved to {to}"));
        }
    }
}

#[test]
fn a_newer_archive_is_refused_with_both_versions_and_others_by_what_they_are() {
    let world = World::new();
    world.write(false).unwrap();
    let mut newer = world.bytes();
    newer[8..10].copy_from_slice(&2_u16.to_be_bytes());
    let error = world.read_bytes(&newer).error.unwrap();
    let text = error.to_string();
    assert!(
        matches!(
            error,
            ArchiveError::Unsupported {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{text}"
    );
    assert!(
        text.contains("format 2") && text.contains("up to 1"),
        "{text}"
    );
    let error = world.read_bytes(b"something else altogether").error;
    assert!(matches!(error, Some(ArchiveError::NotAnArchive { .. })));
    let error = Preface::read(&Faulty::new(), Path::new(PLACE)).err();
    assert!(matches!(error, Some(ArchiveError::Absent { .. })));
}

trait MakeSet {
    fn make_set(&self);
}

impl MakeSet for Faulty {
    fn make_set(&self) {
        use aico_vault::fs::Filesystem as _;
        self.make_folder(Path::new("/set")).unwrap();
    }
}
