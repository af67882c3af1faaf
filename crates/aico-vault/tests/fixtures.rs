//! Files of every version of the formats stay here and open. `tests/read_fixtures.py` is another
//! reader of them, written from the documents in `docs/formats` alone.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use aico_vault::append::{SealedLogReader, SealedLogWriter};
use aico_vault::{KdfCost, Owner, Password, Purpose, RecoveryPhrase, StoreRecord, Vault};

const PERSON: [u8; 16] = [1; 16];
const LOG: [u8; 16] = [2; 16];
const PHRASE: &str = include_str!("fixtures/v1/phrase");

fn store() -> StoreRecord {
    StoreRecord {
        salt: [4; 16],
        generation: 5,
        last_sequence: 6,
        closed_hash: Some([7; 32]),
        key: 0,
    }
}

/// A private copy of a fixture: what is checked out is readable by others.
fn copy(from: &Path, to: &Path) {
    let private = |path: &Path, mode| {
        #[cfg(unix)]
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        #[cfg(not(unix))]
        let _ = (path, mode);
    };
    fs::create_dir(to).unwrap();
    private(to, 0o700);
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            private(&target, 0o600);
        }
    }
}

#[test]
fn a_vault_of_version_1_still_opens() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1"),
        &data,
    );
    let master = Password::new("the master password").unwrap();
    let phrase = RecoveryPhrase::parse(PHRASE).unwrap();
    drop(Vault::unlock_with_phrase(&data, &phrase).unwrap());
    let vault = Vault::unlock(&data, &master).unwrap();
    let own = Password::new("their own password").unwrap();
    vault.open_person(PERSON).unwrap();
    vault.open_person_with_password(PERSON, &own).unwrap();
    assert_eq!(vault.registry().get("system"), Some(store()));

    let mark = vault.registry().mark("example");
    assert_eq!((mark.sequence, mark.closed), (3, 3));
    let key = vault.log_key(Purpose::Log, Owner::System, LOG);
    let records = SealedLogReader::open(&key, &data.join("example.sealed"), mark).unwrap();
    let texts: Vec<_> = records
        .map(|record| record.unwrap().data.to_vec())
        .collect();
    assert_eq!(texts, [&b"one"[..], b"two", b"three"]);

    let blob = fs::read(data.join("blob")).unwrap();
    let secret = vault
        .open_sealed(Purpose::SigningKey, Owner::System, b"example", &blob)
        .unwrap();
    assert_eq!(&secret[..], b"a secret");
}

#[test]
#[ignore = "writes new fixtures into AICO_VAULT_FIXTURES when a version is added"]
fn write_fixtures() {
    let Some(data) = std::env::var_os("AICO_VAULT_FIXTURES") else {
        return;
    };
    let data = Path::new(&data);
    let master = Password::new("the master password").unwrap();
    let (vault, phrase) = Vault::create_with(data, &master, KdfCost::minimum()).unwrap();
    let own = Password::new("their own password").unwrap();
    vault.create_person(PERSON, &own).unwrap();
    let key = vault.log_key(Purpose::Log, Owner::System, LOG);
    let path = data.join("example.sealed");
    let (mut log, _) = SealedLogWriter::open(&key, &path, Default::default()).unwrap();
    log.append(b"one").unwrap();
    log.append(b"two").unwrap();
    log.close().unwrap();
    let (mut log, _) = SealedLogWriter::open(&key, &path, Default::default()).unwrap();
    log.append(b"three").unwrap();
    let last = log.close().unwrap();
    vault.registry().put("system", store()).unwrap();
    vault.registry().note_closed("example", last).unwrap();
    let blob = vault.seal(Purpose::SigningKey, Owner::System, b"example", b"a secret");
    fs::write(data.join("blob"), blob).unwrap();
    fs::write(data.join("phrase"), phrase.words().join(" ")).unwrap();
}
