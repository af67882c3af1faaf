//! An archive of version 1 stays and opens, and another reader of the format agrees.

use std::path::{Path, PathBuf};
use std::process::Command;

use aico_vault::archive::{ArchiveError, PartKind, Preface, Scope};
use aico_vault::fs::OsFilesystem;
use aico_vault::{KdfCost, Owner, Password, RecoveryPhrase, Vault};

use super::support::*;

const PHRASE: &str = include_str!("../fixtures/v1/phrase");
const PASSWORD: &str = "the master password";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/archives/v1.aicobackup")
}

#[test]
fn an_archive_of_version_1_still_opens() {
    let preface = || Preface::read(&OsFilesystem, &fixture()).unwrap();
    assert_eq!(preface().scope, Scope::Whole);
    let phrase = RecoveryPhrase::parse(PHRASE).unwrap();
    let by_phrase = preface().open_with_phrase(&phrase).unwrap();
    let password = Password::new(PASSWORD).unwrap();
    let by_password = preface().open_with_password(&password).unwrap();
    for archive in [by_phrase, by_password] {
        let found = read_all(&archive);
        assert!(found.error.is_none());
        assert_eq!(found.texts, texts(false));
        assert_eq!(archive.manifest(), MANIFEST);
    }
}

/// What the Python reader says of a file; `None` where there is no Python for it.
fn python(file: &Path, password: &str) -> Option<(bool, String)> {
    let Some(program) = std::env::var_os("AICO_TEST_PYTHON") else {
        eprintln!("skipped: AICO_TEST_PYTHON names no Python with cryptography");
        return None;
    };
    let output = Command::new(program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/archives.py"))
        .arg(file)
        .arg(password)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    Some((output.status.success(), said + &complained))
}

fn expected(long: bool) -> Vec<String> {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let line = |(number, (kind, owner, _)): (usize, &(PartKind, Owner, Vec<u8>))| {
        let kind = match kind {
            PartKind::System => 1,
            PartKind::Person => 2,
            _ => 3,
        };
        let owner = match owner {
            Owner::System => hex(&[0; 17]),
            Owner::Person(id) => format!("01{}", hex(id)),
        };
        format!("{kind} {owner} {number} ")
    };
    texts(long).iter().enumerate().map(line).collect()
}

#[test]
fn python_reads_what_is_written_here_and_refuses_it_when_it_was_altered() {
    let Some((fine, said)) = python(&fixture(), PASSWORD) else {
        return;
    };
    assert!(fine, "{said}");
    let check = |said: &str, long| {
        for (line, begins) in said.lines().zip(expected(long)) {
            assert!(line.starts_with(&begins), "{said}");
        }
        assert_eq!(said.lines().last().unwrap().as_bytes(), MANIFEST);
        assert_eq!(said.lines().count(), texts(long).len() + 1);
    };
    check(&said, false);
    let world = World::new();
    world.write(true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.aicobackup");
    let mut bytes = world.bytes();
    std::fs::write(&file, &bytes).unwrap();
    let (fine, said) = python(&file, "velvet harbour moss lantern").unwrap();
    assert!(fine, "{said}");
    check(&said, true);
    for at in [
        12,
        30,
        100,
        bytes.len() / 2,
        bytes.len() - 600,
        bytes.len() - 2,
    ] {
        bytes[at] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        assert!(
            !python(&file, "velvet harbour moss lantern").unwrap().0,
            "{at}"
        );
        bytes[at] ^= 1;
    }
}

#[test]
fn the_archive_of_another_format_is_refused_by_its_version_alone() {
    let mut bytes = std::fs::read(fixture()).unwrap();
    bytes.truncate(60);
    bytes[9] = 2;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("newer.aicobackup");
    std::fs::write(&file, bytes).unwrap();
    let error = Preface::read(&OsFilesystem, &file).err();
    assert!(matches!(
        error,
        Some(ArchiveError::Unsupported { found: 2, .. })
    ));
}

#[test]
#[ignore = "writes the fixture into AICO_VAULT_FIXTURES when a version is added"]
fn write_fixtures() {
    let Some(folder) = std::env::var_os("AICO_VAULT_FIXTURES") else {
        return;
    };
    // Of the vault of the fixtures: a private copy of it, as what is checked out is not.
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    for name in ["vault.hdr", "registry"] {
        std::fs::copy(from.join(name), data.join(name)).unwrap();
    }
    #[cfg(unix)]
    for (path, mode) in [("", 0o700), ("vault.hdr", 0o600), ("registry", 0o600)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(data.join(path), mode).unwrap();
    }
    let password = Password::new(PASSWORD).unwrap();
    let vault = Vault::unlock_with(&data, &password, KdfCost::minimum()).unwrap();
    let path = Path::new(&folder).join("v1.aicobackup");
    let fs = std::sync::Arc::new(OsFilesystem);
    let mut writer = vault
        .begin_archive(fs, &path, Scope::Whole, 1_700_000)
        .unwrap();
    for (kind, owner, text) in texts(false) {
        let mut part = writer.part(kind, owner);
        std::io::Write::write_all(&mut part, &text).unwrap();
        part.finish().unwrap();
    }
    writer.finish(MANIFEST).unwrap();
}
