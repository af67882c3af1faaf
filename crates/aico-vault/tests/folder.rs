//! The vault on a real file system: rights, links, kills of a real process.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aico_vault::append::{HighWater, SealedLogReader, SealedLogWriter};
use aico_vault::{
    FileError, KdfCost, Owner, Password, PersonKeyError, Purpose, RecoveryPhrase, UnlockError,
    Vault, VaultError, WrapKind,
};

const PERSON: [u8; 16] = [1; 16];

struct Made {
    _folder: tempfile::TempDir,
    data: PathBuf,
    phrase: RecoveryPhrase,
}

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

fn made() -> Made {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let master = password("the master password");
    let (vault, phrase) = Vault::create_with(&data, &master, KdfCost::minimum()).unwrap();
    vault
        .create_person(PERSON, &password("their own password"))
        .unwrap();
    Made {
        _folder: folder,
        data,
        phrase,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mend(error: UnlockError) -> String {
    match error {
        UnlockError::File(FileError::Insecure { mend, .. }) => mend,
        other => panic!("{other}"),
    }
}

#[test]
fn everything_is_private_and_the_status_needs_no_password() {
    let made = made();
    let person = made.data.join("persons").join("01".repeat(16));
    for folder in [&made.data, &made.data.join("persons"), &person] {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    for file in [
        made.data.join("vault.hdr"),
        made.data.join("registry"),
        person.join("keyring"),
    ] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let length = |path: PathBuf| fs::metadata(path).unwrap().len();
    assert_eq!(length(made.data.join("vault.hdr")), 353);
    assert_eq!(length(person.join("keyring")), 353);
    let status = Vault::status(&made.data).unwrap();
    assert_eq!((status.version, status.key_epoch), (1, 1));
    assert_eq!(
        status.wraps.iter().map(|w| w.kind).collect::<Vec<_>>(),
        [WrapKind::MasterPassword, WrapKind::RecoveryPhrase]
    );
    assert!(Vault::exists(&made.data).unwrap());
    let again = Vault::create_with(&made.data, &password("x"), KdfCost::minimum());
    assert!(matches!(again, Err(VaultError::Exists { .. })));
}

#[test]
fn what_others_can_read_is_refused_with_the_command_that_mends_it() {
    let made = made();
    let unlock = || Vault::unlock_with_phrase(&made.data, &made.phrase).map(drop);
    for (name, bad) in [
        ("", 0o755),
        ("", 0o710),
        ("vault.hdr", 0o644),
        ("registry", 0o660),
    ] {
        let path = if name.is_empty() {
            made.data.clone()
        } else {
            made.data.join(name)
        };
        let good = mode(&path);
        set_mode(&path, bad);
        let command = mend(unlock().unwrap_err());
        assert!(command.contains(&path.display().to_string()), "{command}");
        assert!(
            Command::new("sh")
                .arg("-c")
                .arg(&command)
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(mode(&path), good, "{command}");
        unlock().unwrap();
    }
}

#[test]
fn links_are_not_followed() {
    let made = made();
    let elsewhere = made.data.with_extension("elsewhere");
    for name in ["vault.hdr", "registry"] {
        let path = made.data.join(name);
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(Vault::exists(&made.data).unwrap());
        mend(
            Vault::unlock_with_phrase(&made.data, &made.phrase)
                .map(drop)
                .unwrap_err(),
        );
        fs::remove_file(&path).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
    }
    let vault = Vault::unlock_with_phrase(&made.data, &made.phrase).unwrap();
    let persons = made.data.join("persons");
    fs::rename(&persons, &elsewhere).unwrap();
    symlink(&elsewhere, &persons).unwrap();
    let opened = vault.open_person(PERSON).map(drop);
    assert!(matches!(
        opened,
        Err(PersonKeyError::File(FileError::Insecure { .. }))
    ));
    let link = made.data.with_extension("link");
    symlink(&made.data, &link).unwrap();
    assert!(Vault::exists(&link).is_err());
}

/// What the child of the test below does, for as long as it lives.
#[test]
#[ignore = "run by another test, in a process that is killed"]
fn child_that_changes_the_password_for_ever() {
    let Some(data) = std::env::var_os("AICO_VAULT_TEST_DATA").map(PathBuf::from) else {
        return;
    };
    let (one, two) = (
        password("the master password"),
        password("the other password"),
    );
    let vault = Vault::unlock_with(&data, &one, KdfCost::minimum()).unwrap();
    let key = vault.log_key(Purpose::Log, Owner::System, [2; 16]);
    let mark = vault.registry().mark("log");
    let (mut log, _) = SealedLogWriter::open(&key, &data.join("log"), mark).unwrap();
    loop {
        for (current, new) in [(&one, &two), (&two, &one)] {
            vault.change_master_password(current, new).unwrap();
            // Past the test harness, which keeps what is printed to itself.
            std::io::stdout().write_all(b"\nchanged\n").unwrap();
            log.append(b"changed").unwrap();
            let durable = log.sync().unwrap();
            vault.registry().note_sequence("log", durable).unwrap();
            vault.create_person(rand_id(durable), new).unwrap();
        }
    }
}

/// Ids that don't repeat between runs of the child.
fn rand_id(number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id[8..].copy_from_slice(&u64::from(std::process::id()).to_be_bytes());
    id
}

#[test]
fn killed_while_it_changes_the_password_it_unlocks_with_the_old_or_the_new_one() {
    let made = made();
    let passwords = [
        password("the master password"),
        password("the other password"),
    ];
    let mut reached = 0;
    for round in 0..4_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "child_that_changes_the_password_for_ever",
            ])
            .env("AICO_VAULT_TEST_DATA", &made.data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Until it got somewhere; then at another moment of a change each time.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let changed = |line: std::io::Result<String>| line.unwrap().contains("changed");
        let changes = lines
            .by_ref()
            .filter_map(|line| changed(line).then_some(()))
            .take(2)
            .count();
        let (_alive, never) = std::sync::mpsc::sync_channel::<()>(1);
        let _ = never.recv_timeout(std::time::Duration::from_millis(round * 13));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(changes, 2, "the child ended by itself: {said}");

        let opened: Vec<_> = passwords
            .iter()
            .map(|password| Vault::unlock_with(&made.data, password, KdfCost::minimum()))
            .collect();
        assert_eq!(opened.iter().filter(|vault| vault.is_ok()).count(), 1);
        let vault = Vault::unlock_with_phrase(&made.data, &made.phrase).unwrap();
        assert!(!made.data.join("vault.hdr.tmp").exists());
        let mark = vault.registry().mark("log");
        assert!(mark.sequence > reached);
        reached = mark.sequence;
        let key = vault.log_key(Purpose::Log, Owner::System, [2; 16]);
        let records = SealedLogReader::open(&key, &made.data.join("log"), mark).unwrap();
        let records: Vec<_> = records.map(|record| record.unwrap().sequence).collect();
        assert!(records.len() as u64 >= mark.sequence);
        // The next child begins with the first password.
        if opened[1].is_ok() {
            vault
                .reset_master_password(&made.phrase, &passwords[0])
                .unwrap();
        }
    }
}

#[test]
fn a_reader_opens_what_a_writer_in_another_vault_handle_wrote() {
    let made = made();
    let path = made.data.join("some.log");
    let file = [3; 16];
    let key = |vault: &Vault| vault.log_key(Purpose::Log, Owner::System, file);
    let vault = Vault::unlock_with_phrase(&made.data, &made.phrase).unwrap();
    let (mut log, _) = SealedLogWriter::open(&key(&vault), &path, HighWater::default()).unwrap();
    log.append(b"one").unwrap();
    let last = log.close().unwrap();
    vault.registry().note_closed("log:3", last).unwrap();
    assert_eq!(mode(&path), 0o600);
    drop(vault);
    let vault = Vault::unlock_with_phrase(&made.data, &made.phrase).unwrap();
    let mark = vault.registry().mark("log:3");
    assert_eq!(
        mark,
        HighWater {
            sequence: 1,
            closed: 1
        }
    );
    let records: Vec<_> = SealedLogReader::open(&key(&vault), &path, mark)
        .unwrap()
        .collect();
    assert_eq!(&*records[0].as_ref().unwrap().data, b"one");
}
