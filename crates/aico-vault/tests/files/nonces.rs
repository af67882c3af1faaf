//! No key and nonce together twice: read off the bytes that writers left, over crashes,
//! recoveries, repeated writes and older copies put back.

use std::collections::BTreeMap;
use std::io::Write;

use aico_vault::EncryptedFile;
use aico_vault::append::HighWater;
use aico_vault::fs::faulty::{Dice, Faulty};
use proptest::prelude::*;

use super::support::*;

/// What was sealed under which fresh bytes of a header (they make the key) and which nonce.
#[derive(Default)]
struct Seen(BTreeMap<(Vec<u8>, u64, bool), Vec<u8>>);

impl Seen {
    fn one(&mut self, random: &[u8], number: u64, other: bool, sealed: &[u8]) {
        let before = self
            .0
            .entry((random.to_vec(), number, other))
            .or_insert_with(|| sealed.to_vec());
        // The same ciphertext again is the same encryption seen twice.
        assert_eq!(before, sealed, "a key and nonce were used twice");
    }

    fn look(&mut self, fs: &Faulty) {
        for path in fs.files() {
            let bytes = fs.read(&path).unwrap();
            if bytes.starts_with(b"AICOFIL\0") && bytes.len() > 147 {
                let chunks: Vec<_> = bytes[147..].chunks(CHUNK + 16).collect();
                // Of a file in the making it is not known which chunk is the last.
                let (last, inner) = chunks.split_last().unwrap();
                for (index, chunk) in inner.iter().enumerate() {
                    self.one(&bytes[83..115], index as u64, false, chunk);
                }
                if path == place() {
                    self.one(&bytes[83..115], inner.len() as u64, true, last);
                }
            } else if bytes.starts_with(b"AICOSEG\0") {
                self.segments(&bytes);
            }
        }
    }

    fn segments(&mut self, bytes: &[u8]) {
        let (mut at, mut random, mut number) = (0, Vec::new(), 0);
        while at < bytes.len() {
            match bytes[at] {
                b'A' => {
                    random = bytes[at + 91..at + 123].to_vec();
                    number = 0;
                    at += 187;
                }
                1 | 3 => {
                    let len = u32::from_be_bytes(bytes[at + 1..at + 5].try_into().unwrap());
                    let end = at + 21 + len as usize;
                    self.one(&random, number, false, &bytes[at..end]);
                    number += 1;
                    at = end;
                }
                16 => {
                    self.one(&random, number, true, &bytes[at..at + 25]);
                    at += 25;
                }
                other => panic!("a record of kind {other}"),
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    Flush,
    Sync,
    Close,
    /// A flush that the disk refuses half-way, and again when there is room.
    Refused,
    Kill,
    PowerCut(u64),
    /// Keeps a copy, to be put back later.
    Copy,
    /// Puts an older copy back and goes on from there, in the same process or a later one.
    Restore(usize),
    /// Goes on in two copies, as a restored backup beside the original would.
    Fork(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let data = proptest::collection::vec(any::<u8>(), 0..40);
    let step = prop_oneof![
        4 => data.clone().prop_map(Step::Append),
        2 => Just(Step::Flush),
        2 => Just(Step::Sync),
        1 => Just(Step::Close),
        1 => Just(Step::Refused),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::PowerCut),
        1 => Just(Step::Copy),
        2 => (0..8_usize).prop_map(Step::Restore),
        1 => data.prop_map(Step::Fork),
    ];
    proptest::collection::vec(step, 1..40)
}

fn open(fs: &Faulty) -> EncryptedFile {
    Disk(fs.clone()).append(HighWater::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn of_a_file_that_is_appended_to(steps in steps()) {
        let mut seen = Seen::default();
        let mut fs = Faulty::new();
        let mut file = Some(open(&fs));
        let mut copies = Vec::new();
        for step in steps {
            let log = file.get_or_insert_with(|| open(&fs));
            match step {
                Step::Append(data) => log.write_all(&data).unwrap(),
                Step::Flush => log.flush().unwrap(),
                Step::Sync => drop(log.sync().unwrap()),
                Step::Close => drop(file.take().unwrap().finish().unwrap()),
                Step::Refused => {
                    log.write_all(b"refused at first").unwrap();
                    fs.set_full(true);
                    prop_assert!(log.flush().is_err());
                    fs.set_full(false);
                    log.write_all(b"then more").unwrap();
                    log.flush().unwrap();
                }
                Step::Kill => {
                    file = None;
                    fs = fs.after_kill();
                }
                Step::PowerCut(seed) => {
                    drop(file.take());
                    // What the writers left, before the cut tore it.
                    seen.look(&fs);
                    fs = fs.after_power_cut(&mut Dice(seed));
                    file = Some(open(&fs));
                }
                Step::Copy => copies.extend(fs.read(place())),
                Step::Restore(number) => {
                    if let Some(copy) = copies.get(number % copies.len().max(1)) {
                        seen.look(&fs);
                        drop(file.take());
                        fs = Faulty::new();
                        fs.plant(place(), copy);
                    }
                }
                Step::Fork(data) => {
                    log.flush().unwrap();
                    let other = fs.fork();
                    let mut there = open(&other);
                    there.write_all(&data).unwrap();
                    there.sync().unwrap();
                    seen.look(&other);
                }
            }
            // After a kill or a restore the next opening comes first: it cuts a torn end off.
            if file.is_some() {
                seen.look(&fs);
            }
        }
    }

    #[test]
    fn of_files_that_are_written_as_a_whole(
        texts in proptest::collection::vec((0..3 * CHUNK, any::<u8>(), 0..12_usize), 1..8),
    ) {
        let mut seen = Seen::default();
        let disk = Disk::new();
        for (len, byte, stop) in texts {
            disk.0.stop_after(stop);
            let _ = disk.replace(&vec![byte; len]);
            seen.look(&disk.0);
            let kept = disk.0.after_kill();
            let disk = Disk(kept);
            disk.replace(&vec![byte ^ 1; len]).unwrap();
            seen.look(&disk.0);
        }
    }
}

#[test]
fn of_a_write_that_was_refused_and_repeated() {
    let mut seen = Seen::default();
    let disk = Disk::new();
    let mut options = disk.options();
    let mut file = options
        .write(true)
        .create_new(true)
        .open(&key(), place())
        .unwrap();
    let text = text(1_000_000);
    let mut rest = &text[..];
    let mut refusals = 0;
    while !rest.is_empty() {
        // Refused half-way the first time, each time that something is handed over.
        disk.0.set_full(true);
        let first = file.write(rest);
        refusals += usize::from(first.is_err());
        disk.0.set_full(false);
        let count = first.or_else(|_| file.write(rest)).unwrap();
        rest = &rest[count..];
        seen.look(&disk.0);
    }
    assert!(refusals > 2, "{refusals}");
    file.finish().unwrap();
    seen.look(&disk.0);
    assert!(disk.read().0 == text);
}
