//! Files that stay in the repository and keep opening, and a second reader and writer of the
//! format: `tests/encrypted_files.py`, made from the document alone.
//!
//! `AICO_TEST_PYTHON` names a Python with `cryptography`; `./test` prepares one. Without it these
//! tests say that they did not run.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use aico_vault::append::{HighWater, Tail};
use aico_vault::file::{Claim, Form};
use aico_vault::{EncryptedFile, Owner, Purpose};

use super::support::*;

/// Names and texts.
fn committed() -> Vec<(&'static str, Vec<u8>)> {
    let long = (0..10_000).map(|n| (n % 251) as u8).collect();
    vec![
        ("empty", Vec::new()),
        ("short", b"hello".to_vec()),
        ("chunks", long),
        ("appended", b"onetwothree".to_vec()),
    ]
}

#[test]
fn files_of_version_1_still_open() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in committed() {
        let path = fixture(name, folder.path());
        let claim = Claim::read(&path).unwrap();
        let form = if name == "appended" {
            Form::Appended
        } else {
            Form::Finished
        };
        assert_eq!(
            claim,
            Claim {
                form,
                epoch: 1,
                purpose: Purpose::EncryptedFile.as_str().to_owned(),
                owner: person(0xaf),
                id: id(0x5f),
            }
        );
        let mark = HighWater {
            sequence: 3,
            closed: 3,
        };
        let mut options = EncryptedFile::options();
        let mut file = options.read(true).mark(mark).open(&key(), &path).unwrap();
        let mut found = Vec::new();
        file.read_to_end(&mut found).unwrap();
        assert!(found == text, "{name}");
        assert_eq!(file.tail(), Tail::Closed);
    }
}

#[test]
fn the_documented_vectors_are_those_of_the_files() {
    let document = include_str!("../../../../docs/formats/encrypted-file.md");
    for name in ["empty", "short"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/files")
            .join(name);
        let bytes = std::fs::read(path).unwrap();
        for part in [&bytes[115..147], &bytes[147..]] {
            let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(document.contains(&hex), "{name}: {hex}");
        }
    }
}

fn python(arguments: &[&str], input: &[u8]) -> Option<(bool, Vec<u8>, String)> {
    let Some(program) = std::env::var_os("AICO_TEST_PYTHON") else {
        eprintln!("skipped: AICO_TEST_PYTHON names no Python with cryptography");
        return None;
    };
    let mut child = Command::new(program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encrypted_files.py"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeding = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = feeding.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Some((output.status.success(), output.stdout, said))
}

fn expected() -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let Owner::Person(owner) = person(0xaf) else {
        unreachable!()
    };
    vec![
        hex(&key_bytes()),
        "1".to_owned(),
        "encrypted-file".to_owned(),
        hex(&owner),
        hex(&id(0x5f)),
    ]
}

#[test]
fn python_reads_what_is_written_here_and_refuses_it_when_it_was_altered() {
    let expected = expected();
    let read = |bytes: &[u8]| {
        let arguments: Vec<&str> = std::iter::once("read")
            .chain(expected.iter().map(String::as_str))
            .collect();
        python(&arguments, bytes)
    };
    for (name, text) in committed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/files")
            .join(name);
        let Some((fine, found, said)) = read(&std::fs::read(path).unwrap()) else {
            return;
        };
        assert!(fine && found == text, "{name}: {said}");
    }
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
        let text = text(len);
        let mut bytes = finished(&text);
        let (fine, found, said) = read(&bytes).unwrap();
        assert!(fine && found == text, "{len}: {said}");
        let at = bytes.len() - 1;
        bytes[at] ^= 1;
        assert!(!read(&bytes).unwrap().0);
    }
    let segments = appended(&[&[b"one"], &[], &[&[8; 100_000], b"three"]]);
    let (fine, found, said) = read(&segments).unwrap();
    assert!(fine, "{said}");
    assert_eq!(found.len(), 100_008);
}

#[test]
fn what_python_writes_is_read_here() {
    let expected = expected();
    for (len, chunk) in [
        (0, "4096"),
        (5, "65536"),
        (200_000, "65536"),
        (1 << 20, "1048576"),
    ] {
        let text = text(len);
        let mut arguments: Vec<&str> = std::iter::once("write")
            .chain(expected.iter().map(String::as_str))
            .collect();
        arguments.push(chunk);
        let Some((fine, bytes, said)) = python(&arguments, &text) else {
            return;
        };
        assert!(fine, "{said}");
        let (found, read) = Disk::with(&bytes).read();
        read.unwrap();
        assert!(found == text, "{len}");
    }
}

#[test]
#[ignore = "writes the fixture `appended` into AICO_VAULT_FIXTURES when a version is added"]
fn write_fixtures() {
    let Some(folder) = std::env::var_os("AICO_VAULT_FIXTURES") else {
        return;
    };
    let bytes = appended(&[&[b"one", b"two"], &[b"three"]]);
    std::fs::write(Path::new(&folder).join("appended"), bytes).unwrap();
}
