//! Crashes of and damage to header and keyrings, each test named after the fault.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use crate::container::{Container, Form, Unreadable};
use crate::derive::{self, Label, Owner, Purpose};
use crate::error::{PersonKeyError, UnlockError, VaultError};
use crate::fs::FileError;
use crate::fs::faulty::{Dice, Faulty};
use crate::kdf::KdfCost;
use crate::key::Key;
use crate::password::Password;
use crate::phrase::RecoveryPhrase;
use crate::vault::{Secret, Vault};
use crate::wrap::{KdfParams, Params, Wrap, WrapKind};

const PERSON: [u8; 16] = [0x11; 16];

fn data() -> &'static Path {
    Path::new("/data")
}

fn header_path() -> std::path::PathBuf {
    data().join("vault.hdr")
}

fn keyring_path() -> std::path::PathBuf {
    data()
        .join("persons")
        .join(hex::encode(PERSON))
        .join("keyring")
}

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

fn unlock(fs: &Faulty, secret: &Secret<'_>) -> Result<Vault, UnlockError> {
    Vault::unlock_on(Arc::new(fs.clone()), data(), secret, KdfCost::minimum())
}

/// A vault with one person, made once: hashing passwords is meant to be slow.
struct Made {
    fs: Faulty,
    phrase: RecoveryPhrase,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let fs = Faulty::new();
    let (master, own) = (
        password("the master password"),
        password("their own password"),
    );
    let shared = Arc::new(fs.clone());
    let (vault, phrase) = Vault::create_on(shared, data(), &master, KdfCost::minimum()).unwrap();
    vault.create_person(PERSON, &own).unwrap();
    Made { fs, phrase }
});

fn by_phrase(fs: &Faulty) -> Result<Vault, UnlockError> {
    unlock(fs, &Secret::Phrase(&MADE.phrase))
}

#[test]
fn wrong_secrets_are_told_from_damage() {
    let fs = MADE.fs.fork();
    let wrong = password("not the password");
    assert!(matches!(
        unlock(&fs, &Secret::Password(&wrong)),
        Err(UnlockError::WrongPassword)
    ));
    let other = RecoveryPhrase::random();
    assert!(matches!(
        unlock(&fs, &Secret::Phrase(&other)),
        Err(UnlockError::WrongPhrase)
    ));
    let vault = by_phrase(&fs).unwrap();
    let opened = vault.open_person_with_password(PERSON, &wrong);
    assert!(matches!(opened, Err(PersonKeyError::WrongPassword)));
    assert!(matches!(
        vault.open_person([9; 16]),
        Err(PersonKeyError::Absent { .. })
    ));
    assert!(!vault.verify_master(&wrong).unwrap());
    assert!(
        vault
            .verify_master(&password("the master password"))
            .unwrap()
    );
}

#[test]
fn password_and_phrase_open_the_same_vault() {
    let fs = MADE.fs.fork();
    let label = || Label::new(Purpose::SystemDatabase, Owner::System);
    let a = by_phrase(&fs).unwrap();
    let b = unlock(&fs, &Secret::Password(&password("the master password"))).unwrap();
    assert!(a.derive(label()) == b.derive(label()));
    assert!(a.derive(label()) != a.derive(label().with_version(2)));
    assert!(a.derive(label()) != a.derive(label().with_context(b"x")));
    let own = password("their own password");
    let (one, two) = (
        a.open_person(PERSON).unwrap(),
        a.open_person_with_password(PERSON, &own).unwrap(),
    );
    assert!(one.derive(Purpose::PersonDatabase) == two.derive(Purpose::PersonDatabase));
}

#[test]
fn every_flipped_bit_and_every_cut_of_the_header_is_damage_not_a_wrong_password() {
    let fs = MADE.fs.fork();
    let bytes = fs.read(&header_path()).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            fs.plant(&header_path(), &damaged);
            assert!(
                matches!(by_phrase(&fs), Err(UnlockError::Damaged { .. })),
                "byte {at}"
            );
        }
        fs.plant(&header_path(), &bytes[..at]);
        assert!(
            matches!(by_phrase(&fs), Err(UnlockError::Damaged { .. })),
            "cut at {at}"
        );
        assert!(Vault::exists_on(&fs, data()).unwrap());
    }
    fs.plant(&header_path(), &[&bytes[..], b"x"].concat());
    assert!(matches!(by_phrase(&fs), Err(UnlockError::Damaged { .. })));
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_keyring_is_damage() {
    let fs = MADE.fs.fork();
    let vault = by_phrase(&fs).unwrap();
    let bytes = fs.read(&keyring_path()).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        for planted in [&damaged[..], &bytes[..at]] {
            fs.plant(&keyring_path(), planted);
            let opened = vault.open_person(PERSON);
            assert!(
                matches!(opened, Err(PersonKeyError::Damaged { .. })),
                "byte {at}"
            );
        }
    }
}

/// Changes a file and mends its checksum, as somebody without the key would.
fn forged(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = bytes[..bytes.len() - 32].to_vec();
    change(&mut bytes);
    let digest = crate::aead::sha256(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

#[test]
fn an_altered_header_with_a_mended_checksum_never_opens() {
    let fs = MADE.fs.fork();
    let bytes = fs.read(&header_path()).unwrap();
    for at in 0..bytes.len() - 32 {
        let altered = forged(&bytes, |bytes| bytes[at] ^= 1);
        fs.plant(&header_path(), &altered);
        assert!(by_phrase(&fs).is_err(), "byte {at}");
    }
}

#[test]
fn a_header_of_a_newer_program_is_named_and_left_alone() {
    let fs = MADE.fs.fork();
    let newer = forged(&fs.read(&header_path()).unwrap(), |bytes| bytes[9] = 2);
    fs.plant(&header_path(), &newer);
    assert!(matches!(
        by_phrase(&fs),
        Err(UnlockError::Unsupported {
            found: 2,
            known: 1,
            ..
        })
    ));
    assert_eq!(fs.read(&header_path()).unwrap(), newer);
}

#[test]
fn a_header_that_asks_for_absurd_hashing_is_refused_without_hashing() {
    let fs = MADE.fs.fork();
    let bytes = fs.read(&header_path()).unwrap();
    // Fixed fields 46, count 2, kind and length 6, then the id of Argon2id.
    let cost_at = 46 + 2 + 6 + 1;
    assert_eq!(bytes[cost_at..cost_at + 4], (19 * 1024_u32).to_be_bytes());
    let costs: [(usize, u32); 5] = [
        (0, 4 << 20),
        (0, u32::MAX),
        (0, 8),
        (4, 1_000_000_000),
        (8, 1_000_000),
    ];
    for (field, value) in costs {
        let altered = forged(&bytes, |bytes| {
            bytes[cost_at + field..cost_at + field + 4].copy_from_slice(&value.to_be_bytes());
        });
        fs.plant(&header_path(), &altered);
        let master = password("the master password");
        let error = unlock(&fs, &Secret::Password(&master))
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(error, UnlockError::KdfOutOfBounds { .. }),
            "{error}"
        );
    }
}

#[test]
fn keyrings_that_change_places_are_refused() {
    let fs = MADE.fs.fork();
    let vault = by_phrase(&fs).unwrap();
    let own = password("another's own password");
    vault.create_person([0x22; 16], &own).unwrap();
    let other = data()
        .join("persons")
        .join(hex::encode([0x22; 16]))
        .join("keyring");
    fs.plant(&keyring_path(), &fs.read(&other).unwrap());
    assert!(matches!(
        vault.open_person(PERSON),
        Err(PersonKeyError::Damaged { .. })
    ));
    let opened = vault.open_person_with_password(PERSON, &own);
    assert!(matches!(opened, Err(PersonKeyError::Damaged { .. })));
}

#[test]
fn a_sealed_person_opens_with_their_password_only() {
    let fs = MADE.fs.fork();
    let vault = by_phrase(&fs).unwrap();
    let keys = vault.open_person(PERSON).unwrap();
    let mut keyring = Container::decode(Form::Keyring, &fs.read(&keyring_path()).unwrap()).unwrap();
    keyring.wraps.retain(|wrap| wrap.kind() != WrapKind::Root);
    fs.plant(
        &keyring_path(),
        &keyring.encode(&keys.derive(Purpose::KeyringMac)),
    );
    assert!(matches!(
        vault.open_person(PERSON),
        Err(PersonKeyError::Sealed { .. })
    ));
    let own = password("their own password");
    vault.open_person_with_password(PERSON, &own).unwrap();
}

#[test]
fn wraps_of_unknown_and_reserved_kinds_survive_a_change_of_password() {
    let fs = MADE.fs.fork();
    let vault = by_phrase(&fs).unwrap();
    let mac_key = vault.derive(Label::new(Purpose::HeaderMac, Owner::System));
    let mut header = Container::decode(Form::Header, &fs.read(&header_path()).unwrap()).unwrap();
    let kek = [6; 32];
    let keychain = Params::Keychain {
        backend: "secret-service".into(),
        item: "aico/root".into(),
    };
    header.set(keychain, &kek, &vault.0.roots().root);
    header.set(Params::KeyFile { id: [5; 16] }, &kek, &vault.0.roots().root);
    header.wraps.push(Wrap::Unknown {
        number: 900,
        body: b"from the future".to_vec(),
    });
    fs.plant(&header_path(), &header.encode(&mac_key));
    let new = password("the new master password");
    vault.reset_master_password(&MADE.phrase, &new).unwrap();
    let header = Container::decode(Form::Header, &fs.read(&header_path()).unwrap()).unwrap();
    let kinds: Vec<u16> = header
        .wraps
        .iter()
        .map(|wrap| wrap.kind().number())
        .collect();
    assert_eq!(kinds, [1, 2, 3, 4, 900]);
    let Some(Wrap::Unknown { body, .. }) = header.find(WrapKind::Unknown(900)) else {
        panic!("the unknown wrap is gone");
    };
    assert_eq!(body, b"from the future");
    for kind in [WrapKind::Keychain, WrapKind::KeyFile] {
        let root = header
            .find(kind)
            .unwrap()
            .open(&header.fixed(), &kek)
            .unwrap();
        assert!(root == vault.0.roots().root);
    }
}

#[test]
fn two_passwords_in_one_header_are_refused() {
    let root = Key::random();
    let mut header = Container::new(Form::Header, 1, [1; 16], [0; 16]);
    header.set(
        Params::MasterPassword(KdfParams::fresh(KdfCost::minimum())),
        &[1; 32],
        &root,
    );
    header.wraps.push(header.wraps[0].clone());
    let bytes = header.encode(&root);
    assert!(matches!(
        Container::decode(Form::Header, &bytes),
        Err(Unreadable::Damaged(_))
    ));
}

#[test]
fn a_missing_header_beside_encrypted_data_is_never_a_first_run() {
    let master = password("the master password");
    for left in [
        "system.db",
        "system.db-wal",
        "registry",
        "logs/a.log",
        "journal/a.log",
        "persons/aa",
    ] {
        let fs = Faulty::new();
        crate::fs::ensure_folder(&fs, data()).unwrap();
        assert!(!Vault::exists_on(&fs, data()).unwrap());
        if let Some((folder, _)) = left.split_once('/') {
            crate::fs::ensure_folder(&fs, &data().join(folder)).unwrap();
        }
        fs.plant(&data().join(left), b"x");
        assert!(Vault::exists_on(&fs, data()).unwrap(), "{left}");
        let shared = Arc::new(fs.clone());
        let made = Vault::create_on(shared, data(), &master, KdfCost::minimum());
        assert!(matches!(made, Err(VaultError::Exists { .. })), "{left}");
        assert!(
            matches!(by_phrase(&fs), Err(UnlockError::Damaged { .. })),
            "{left}"
        );
    }
    assert!(matches!(
        by_phrase(&Faulty::new()),
        Err(UnlockError::Absent { .. })
    ));
}

#[test]
fn a_missing_registry_beside_encrypted_data_is_an_error() {
    let fs = MADE.fs.after_kill();
    crate::fs::Filesystem::remove_file(&fs, &data().join("registry")).unwrap();
    assert!(matches!(
        by_phrase(&fs),
        Err(UnlockError::Registry(crate::RegistryError::Missing { .. }))
    ));
}

#[test]
fn what_belongs_to_another_user_is_refused_with_what_mends_it() {
    let fs = MADE.fs.fork();
    let insecure = |error: FileError| match error {
        FileError::Insecure { path, mend, .. } => (path, mend),
        other => panic!("{other}"),
    };
    for path in [data(), &header_path(), &data().join("registry")] {
        fs.set_foreign(path, true);
        let refused = match by_phrase(&fs).map(drop) {
            Err(UnlockError::File(error)) => insecure(error),
            other => panic!("{}: {other:?}", path.display()),
        };
        assert_eq!(refused.0, path);
        #[cfg(unix)]
        assert!(refused.1.contains("chown"), "{}", refused.1);
        fs.set_foreign(path, false);
    }
    let vault = by_phrase(&fs).unwrap();
    fs.set_foreign(&keyring_path(), true);
    let refused = match vault.open_person(PERSON).map(drop) {
        Err(PersonKeyError::File(error)) => insecure(error),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused.0, keyring_path());
}

#[test]
fn a_set_up_that_was_cut_off_anywhere_can_be_repeated_or_unlocked() {
    let master = password("the master password");
    let whole = Faulty::new();
    let shared = Arc::new(whole.clone());
    drop(Vault::create_on(shared, data(), &master, KdfCost::minimum()).unwrap());
    for stop in 0..=whole.operations() {
        let fs = Faulty::new();
        fs.stop_after(stop);
        let shared = Arc::new(fs.clone());
        let done = Vault::create_on(shared, data(), &master, KdfCost::minimum()).is_ok();
        for seed in 0..4 {
            let after = match seed {
                0 => fs.after_kill(),
                _ => fs.after_power_cut(&mut Dice(stop as u64 * 100 + seed)),
            };
            if Vault::exists_on(&after, data()).unwrap() {
                unlock(&after, &Secret::Password(&master)).unwrap();
            } else {
                assert!(!done, "a finished set-up is gone");
                let shared = Arc::new(after.clone());
                Vault::create_on(shared, data(), &master, KdfCost::minimum()).unwrap();
            }
        }
    }
}

#[test]
fn a_set_up_on_a_full_disk_leaves_nothing_behind() {
    let fs = Faulty::new();
    fs.set_full(true);
    let master = password("the master password");
    let made = Vault::create_on(Arc::new(fs.clone()), data(), &master, KdfCost::minimum());
    assert!(made.is_err());
    fs.set_full(false);
    assert!(!Vault::exists_on(&fs, data()).unwrap());
    Vault::create_on(Arc::new(fs), data(), &master, KdfCost::minimum()).unwrap();
}

/// Does `change` with the process or the power gone at every operation, and holds that the file
/// is the old one or the new one, byte for byte, and that no temporary file is left after the
/// next unlock.
fn atomic_at_every_operation(
    path: &Path,
    change: impl Fn(&Vault) -> bool,
    opens: impl Fn(&Vault) -> bool,
) {
    let start = MADE.fs.after_kill();
    let old = start.read(path).unwrap();
    let count = {
        let fs = start.fork();
        let vault = by_phrase(&fs).unwrap();
        let before = fs.operations();
        assert!(change(&vault));
        assert_ne!(fs.read(path).unwrap(), old);
        fs.operations() - before
    };
    for stop in 0..=count {
        let fs = start.fork();
        let vault = by_phrase(&fs).unwrap();
        fs.stop_after(stop);
        let done = change(&vault);
        let written = fs.read(path).unwrap();
        for seed in 0..60 {
            let after = match seed {
                0 => fs.after_kill(),
                _ => fs.after_power_cut(&mut Dice(stop as u64 * 1000 + seed)),
            };
            let found = after.read(path).expect("there is always a file");
            assert!(
                found == old || found == written,
                "stopped at {stop}, seed {seed}"
            );
            assert!(!done || found == written, "an acknowledged change is gone");
            let vault = by_phrase(&after).unwrap();
            assert!(opens(&vault));
        }
    }
}

#[test]
fn cut_off_anywhere_in_a_change_of_the_master_password_the_old_or_the_new_header_stands() {
    let new = password("the new master password");
    atomic_at_every_operation(
        &header_path(),
        |vault| vault.reset_master_password(&MADE.phrase, &new).is_ok(),
        |vault| {
            vault
                .0
                .fs
                .probe(&data().join("vault.hdr.tmp"))
                .unwrap()
                .is_none()
        },
    );
}

#[test]
fn cut_off_anywhere_in_a_change_of_a_persons_password_the_old_or_the_new_keyring_stands() {
    let new = password("their new password");
    atomic_at_every_operation(
        &keyring_path(),
        |vault| {
            let keys = vault.open_person(PERSON).unwrap();
            vault.change_person_password(PERSON, &keys, &new).is_ok()
        },
        |vault| vault.open_person(PERSON).is_ok(),
    );
}

#[test]
fn after_a_change_the_old_password_is_dead_for_this_folder() {
    let fs = MADE.fs.after_kill();
    let (old, new) = (
        password("the master password"),
        password("the new master password"),
    );
    let vault = by_phrase(&fs).unwrap();
    assert!(matches!(
        vault.change_master_password(&new, &old),
        Err(UnlockError::WrongPassword)
    ));
    vault.change_master_password(&old, &new).unwrap();
    assert!(matches!(
        unlock(&fs, &Secret::Password(&old)),
        Err(UnlockError::WrongPassword)
    ));
    unlock(&fs, &Secret::Password(&new)).unwrap();
    let phrase = vault.new_recovery_phrase(&new).unwrap();
    assert!(matches!(by_phrase(&fs), Err(UnlockError::WrongPhrase)));
    unlock(&fs, &Secret::Phrase(&phrase)).unwrap();

    let (own, own_new) = (
        password("their own password"),
        password("their new password"),
    );
    let keys = vault.open_person_with_password(PERSON, &own).unwrap();
    vault
        .change_person_password(PERSON, &keys, &own_new)
        .unwrap();
    let opened = vault.open_person_with_password(PERSON, &own);
    assert!(matches!(opened, Err(PersonKeyError::WrongPassword)));
    vault.open_person_with_password(PERSON, &own_new).unwrap();
}

#[test]
fn an_erased_person_is_gone_and_erasing_can_be_repeated() {
    let start = MADE.fs.after_kill();
    let count = {
        let fs = start.fork();
        let vault = by_phrase(&fs).unwrap();
        let before = fs.operations();
        vault.erase_person(PERSON).unwrap();
        assert!(matches!(
            vault.open_person(PERSON),
            Err(PersonKeyError::Absent { .. })
        ));
        vault.erase_person(PERSON).unwrap();
        vault
            .create_person(PERSON, &password("somebody new again"))
            .unwrap();
        fs.operations() - before
    };
    for stop in 0..count.min(8) {
        let fs = start.fork();
        let vault = by_phrase(&fs).unwrap();
        fs.stop_after(stop);
        let done = vault.erase_person(PERSON).is_ok();
        for seed in 1..20 {
            let after = fs.after_power_cut(&mut Dice(stop as u64 * 100 + seed));
            let vault = by_phrase(&after).unwrap();
            assert!(
                !done || vault.open_person(PERSON).is_err(),
                "stopped at {stop}"
            );
            vault.erase_person(PERSON).unwrap();
            assert!(matches!(
                vault.open_person(PERSON),
                Err(PersonKeyError::Absent { .. })
            ));
        }
    }
}

#[test]
fn a_sealed_blob_opens_only_where_it_belongs() {
    let fs = MADE.fs.fork();
    let vault = by_phrase(&fs).unwrap();
    let seal = |text: &[u8]| vault.seal(Purpose::SigningKey, Owner::System, b"jwt", text);
    let sealed = seal(b"a secret");
    let open = |purpose, owner, name: &[u8], sealed: &[u8]| {
        vault
            .open_sealed(purpose, owner, name, sealed)
            .map(|text| text.to_vec())
    };
    let signing = Purpose::SigningKey;
    assert_eq!(
        open(signing, Owner::System, b"jwt", &sealed).unwrap(),
        b"a secret"
    );
    assert_ne!(sealed, seal(b"a secret"));
    assert!(open(Purpose::BusKey, Owner::System, b"jwt", &sealed).is_err());
    assert!(open(signing, Owner::Person([0; 16]), b"jwt", &sealed).is_err());
    assert!(open(signing, Owner::System, b"jws", &sealed).is_err());
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(
            open(signing, Owner::System, b"jwt", &damaged).is_err(),
            "byte {at}"
        );
        assert!(
            open(signing, Owner::System, b"jwt", &sealed[..at]).is_err(),
            "cut at {at}"
        );
    }
    assert_eq!(
        open(signing, Owner::System, b"jwt", &seal(b"")).unwrap(),
        b""
    );
    let keys = vault.open_person(PERSON).unwrap();
    let own = keys.seal(signing, b"jwt", b"theirs");
    assert_eq!(*keys.open_sealed(signing, b"jwt", &own).unwrap(), b"theirs");
    assert!(open(signing, Owner::Person(PERSON), b"jwt", &own).is_err());
}

/// Each row of the document, and no purpose without one.
#[test]
fn derivation_gives_the_published_vectors() {
    let document = include_str!("../../../docs/formats/key-derivation.md");
    let parent = Key::from_bytes(&std::array::from_fn(|i| i as u8));
    let person = Owner::Person(std::array::from_fn(|i| 0xa0 + i as u8));
    let (_, table) = document.split_once("## Test vectors").unwrap();
    let (_, rows) = table.split_once("|---|---|---|---|---|---|\n").unwrap();
    let mut covered = std::collections::BTreeSet::new();
    for row in rows.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<_> = row
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        let [_, above, purpose, version, owner, context, expected, _] = cells[..] else {
            panic!("{row}");
        };
        let purpose = *Purpose::ALL
            .iter()
            .find(|known| known.as_str() == purpose)
            .unwrap();
        let owner = if owner == "system" {
            Owner::System
        } else {
            person
        };
        let context = hex::decode(context.replace('\u{2013}', "")).unwrap();
        let label = Label::new(purpose, owner)
            .with_version(version.parse().unwrap())
            .with_context(&context);
        let salt = match above {
            "root" => derive::ROOT_SALT,
            "person" => derive::PERSON_SALT,
            other => panic!("{other}"),
        };
        let derived = hex::encode(derive::derive(&parent, salt, &label).expose());
        assert_eq!(derived, expected, "{row}");
        covered.insert(purpose);
        let described = format!("| `{}` |", purpose.as_str());
        assert!(document.contains(&described), "{described}");
    }
    assert_eq!(covered.len(), Purpose::ALL.len(), "{covered:?}");
}
