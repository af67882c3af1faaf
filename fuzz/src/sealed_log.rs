//! The journal's files: the sealed append format, damaged in any way.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use aico_vault::append::{HighWater, LogKey, SealedLogReader, SealedLogWriter};
use aico_vault::fs::faulty::Faulty;
use aico_vault::{KdfCost, Owner, Password, Purpose, Vault};

const PATH: &str = "/journal";

/// A whole file of three segments, and what stands in it.
struct Original {
    key: LogKey,
    bytes: Vec<u8>,
    records: Vec<Vec<u8>>,
}

fn original() -> &'static Original {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let password = Password::new("velvet harbour moss lantern").expect("a good password");
        let home = folder.path().join("home");
        let cost = KdfCost::minimum();
        let (vault, _) = Vault::create_with(&home, &password, cost).expect("a vault");
        let key = vault.log_key(Purpose::BusJournal, Owner::System, [5; 16]);
        let disk = Faulty::new();
        let mut records = Vec::new();
        for segment in 0..3_usize {
            let opened = SealedLogWriter::open_on(
                Arc::new(disk.clone()),
                &key,
                Path::new(PATH),
                HighWater::default(),
                1,
            );
            let (mut log, _) = opened.expect("a log");
            for record in 0..4 {
                let data = vec![record as u8; segment * 20 + record * 7];
                log.append(&data).expect("room");
                records.push(data);
                if record == 1 {
                    log.sync().expect("a sync");
                }
            }
            if segment < 2 {
                log.close().expect("closed");
            } else {
                log.sync().expect("a sync");
            }
        }
        let bytes = disk.read(Path::new(PATH)).expect("the file");
        Original {
            key,
            bytes,
            records,
        }
    })
}

/// The file after the edits that the bytes tell: one of what to do, two of where, one of with
/// what. Or, after a first byte of 255, the bytes themselves as the file.
fn damaged(data: &[u8], mut file: Vec<u8>) -> Vec<u8> {
    if let Some((255, rest)) = data.split_first() {
        return rest.to_vec();
    }
    for edit in data.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % (file.len() + 1);
        let value = edit[3];
        match edit[0] % 6 {
            0 if at < file.len() => file[at] ^= value,
            1 => file.truncate(at),
            2 => file.insert(at, value),
            3 if at < file.len() => drop(file.remove(at)),
            // A stretch once more, and a stretch that is missing.
            4 => {
                let end = (at + usize::from(value)).min(file.len());
                file.extend_from_within(at..end);
            }
            5 => {
                let end = (at + usize::from(value)).min(file.len());
                file.drain(at..end);
            }
            _ => {}
        }
    }
    file
}

/// Whatever happened to the file: what is read stood there, in its order and at its place.
pub fn sealed_log(data: &[u8]) {
    let original = original();
    let file = damaged(data, original.bytes.clone());
    let disk = Faulty::new();
    disk.plant(Path::new(PATH), &file);
    let mark = HighWater::default();
    let opened = SealedLogReader::open_on(Arc::new(disk), &original.key, Path::new(PATH), mark);
    let mut reader = opened.expect("the file is there");
    let mut last = 0;
    while let Ok(Some(record)) = reader.next_record() {
        assert!(record.sequence > last, "not in order");
        last = record.sequence;
        let stood = usize::try_from(record.sequence)
            .ok()
            .and_then(|sequence| original.records.get(sequence - 1));
        assert!(stood == Some(&record.data), "what never stood there");
        assert!(reader.position() <= file.len() as u64);
    }
    if file == original.bytes {
        assert_eq!(last, original.records.len() as u64, "not read to its end");
    }
}
