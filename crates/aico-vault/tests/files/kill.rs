//! A real process, killed while it replaces one file and appends to another.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aico_vault::append::HighWater;
use aico_vault::{EncryptedFile, EncryptedFileError, FileKey};

use super::support::*;

/// Long enough that a kill meets it in the middle.
const LEN: usize = 3_000_000;

fn log_key() -> FileKey {
    key_of(aico_vault::Purpose::Log, person(0xaf), id(1))
}

/// The version of a file in which each byte is its number.
fn version(path: &Path) -> u64 {
    let mut file = EncryptedFile::open(&key(), path).unwrap();
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 8 + LEN);
    let number = u64::from_be_bytes(all[..8].try_into().unwrap());
    assert!(
        all[8..].iter().all(|byte| *byte == number as u8),
        "a mixture"
    );
    number
}

fn replace(path: &Path, number: u64) {
    let mut file = EncryptedFile::create(&key(), path).unwrap();
    file.write_all(&number.to_be_bytes()).unwrap();
    file.write_all(&vec![number as u8; LEN]).unwrap();
    file.finish().unwrap();
}

fn append(path: &Path) -> Result<EncryptedFile, EncryptedFileError> {
    let mut options = EncryptedFile::options();
    options.append(true).create(true).open(&log_key(), path)
}

/// What the child of the test below does, for as long as it lives.
#[test]
#[ignore = "run by another test, in a process that is killed"]
fn child_that_writes_for_ever() {
    let Some(folder) = std::env::var_os("AICO_VAULT_TEST_FILES").map(PathBuf::from) else {
        return;
    };
    let whole = folder.join("whole");
    let mut log = append(&folder.join("log")).unwrap();
    let mut number = version(&whole);
    loop {
        number += 1;
        replace(&whole, number);
        let mut synced = 0;
        for _ in 0..20 {
            log.write_all(&[b'x'; 99]).unwrap();
            log.write_all(b"\n").unwrap();
            synced = log.sync().unwrap();
        }
        // Past the test harness, which keeps what is printed to itself.
        let line = format!("\ndone {number} {synced}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

#[test]
fn killed_while_it_writes_it_leaves_what_was_acknowledged_and_whole_files() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, log) = (folder.path().join("whole"), folder.path().join("log"));
    replace(&whole, 0);
    let rounds = std::env::var("AICO_TEST_KILLS").ok();
    let rounds = rounds
        .and_then(|text| text.parse().ok())
        .unwrap_or(6_u64)
        .min(40);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "kill::child_that_writes_for_ever"])
            .env("AICO_VAULT_TEST_FILES", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Until it got somewhere; then at another moment each time.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut done = None;
        for line in lines.by_ref() {
            if let Some(rest) = line.unwrap().strip_prefix("done ") {
                let (number, synced) = rest.split_once(' ').unwrap();
                done = Some((number.parse().unwrap(), synced.parse().unwrap()));
                break;
            }
        }
        let (_alive, never) = std::sync::mpsc::sync_channel::<()>(1);
        let _ = never.recv_timeout(Duration::from_millis(round * 7));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some((number, synced)) = line
                .strip_prefix("done ")
                .and_then(|rest| rest.split_once(' '))
            {
                done = Some((number.parse().unwrap(), synced.parse().unwrap()));
            }
        }
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        let Some((number, synced)) = done else {
            panic!("the child ended by itself: {said}");
        };

        assert!(version(&whole) >= number);
        let mark = HighWater {
            sequence: synced,
            closed: 0,
        };
        let mut options = EncryptedFile::options();
        let mut file = options
            .read(true)
            .mark(mark)
            .open(&log_key(), &log)
            .unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        // Whole records only, and at least those that were acknowledged.
        assert_eq!(text.len() % 100, 0);
        assert!(text.len() as u64 / 100 >= synced);
        // The next writer tidies up.
        replace(&whole, number + 1000);
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 2);
        append(&log).unwrap().finish().unwrap();
    }
}
