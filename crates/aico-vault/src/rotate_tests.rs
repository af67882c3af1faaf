//! Changes of keys, cut off everywhere, and what the old keys open afterwards.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::append::{HighWater, SealedLogReader, SealedLogWriter, rewrite_as_is};
use crate::fs::faulty::{Dice, Faulty};
use crate::keychain::Wish;
use crate::vault::Secret;
use crate::{
    KdfCost, KeptError, Key, KeyId, Keychain, KeychainError, KeychainState, Keychains, Owner,
    Password, PersonKeyError, Purpose, RecoveryPhrase, StoreRecord, UnlockError, Vault,
};

const BEN: [u8; 16] = [7; 16];
const LOG: [u8; 16] = [8; 16];
const MARK: &str = "log:x";

fn data() -> &'static Path {
    Path::new("/data")
}

fn log_path() -> PathBuf {
    data().join("logs/x.log")
}

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

fn master() -> Password {
    password("velvet harbour moss lantern")
}

fn own() -> Password {
    password("copper meadow trumpet glass")
}

fn unlock(fs: &Faulty, secret: &Secret<'_>) -> Result<Vault, UnlockError> {
    Vault::unlock_on(Arc::new(fs.clone()), data(), secret, KdfCost::minimum())
}

/// A vault with a person, a store in the registry, and a log.
fn made() -> (Faulty, RecoveryPhrase, Vec<u8>) {
    let fs = Faulty::new();
    let shared = Arc::new(fs.clone());
    let (vault, phrase) = Vault::create_on(shared, data(), &master(), KdfCost::minimum()).unwrap();
    vault.create_person(BEN, &own()).unwrap();
    let record = StoreRecord {
        salt: [1; 16],
        generation: 3,
        last_sequence: 4,
        closed_hash: None,
        key: 0,
    };
    vault.registry().put("system", record).unwrap();
    crate::fs::ensure_folder(&fs, &data().join("logs")).unwrap();
    let key = vault.log_key(Purpose::Log, Owner::System, LOG);
    let shared: Arc<dyn crate::fs::Filesystem> = Arc::new(fs.clone());
    let opened = SealedLogWriter::open_on(shared, &key, &log_path(), HighWater::default(), 1);
    let (mut log, _) = opened.unwrap();
    for n in 0..10_u8 {
        log.append(&[n; 300]).unwrap();
    }
    vault
        .registry()
        .note_sequence(MARK, log.sync().unwrap())
        .unwrap();
    drop(log);
    let sealed = vault.seal(Purpose::SigningKey, Owner::System, b"key", b"signs");
    (fs.after_kill(), phrase, sealed)
}

/// All steps; those that are done already do nothing. `false`: something refused.
fn rotate(vault: &Vault, persons: bool) -> bool {
    let begun = vault.earlier_epoch().is_some()
        || vault
            .begin_rotation(&master(), &Keychains::default())
            .is_ok();
    begun
        && vault.settle_header().is_ok()
        && vault.rekey_registry().is_ok()
        && vault.rewrap_person(BEN).is_ok()
        && rewrite_log(vault)
        && (!persons || vault.rotate_person(BEN, None).is_ok())
        && vault.finish_rotation().is_ok()
}

fn rewrite_log(vault: &Vault) -> bool {
    let key = vault.log_key(Purpose::Log, Owner::System, LOG);
    let mark = vault.registry().mark(MARK);
    match rewrite_as_is(&vault.filesystem(), &key, &log_path(), mark) {
        Ok(None) => true,
        Ok(Some(last)) => vault.registry().note_closed(MARK, last).is_ok(),
        Err(_) => false,
    }
}

/// Everything is there, whichever key it is under.
fn whole(vault: &Vault, sealed: &[u8]) {
    let record = vault.registry().get("system").unwrap();
    assert_eq!((record.generation, record.last_sequence), (3, 4));
    let keys = vault.open_person(BEN).unwrap();
    assert!(keys.store_key(KeyId::first_of(1)).is_some());
    let opened = vault.open_sealed(Purpose::SigningKey, Owner::System, b"key", sealed);
    if vault.key_epoch() == 1 || vault.earlier_epoch().is_some() {
        assert_eq!(opened.unwrap().as_slice(), b"signs");
    }
    let key = vault.log_key(Purpose::Log, Owner::System, LOG);
    let mark = vault.registry().mark(MARK);
    let reader = SealedLogReader::open_on(vault.filesystem(), &key, &log_path(), mark).unwrap();
    let lines: Vec<_> = reader.map(|record| record.unwrap().data.to_vec()).collect();
    assert_eq!(lines.len(), 10);
    assert!(lines.iter().zip(0..).all(|(line, n)| *line == [n; 300]));
}

/// Row 19 and row 2: at every write, killed and without power.
#[test]
fn a_rotation_that_is_cut_off_anywhere_opens_with_the_password_and_goes_on() {
    let (start, phrase, sealed) = made();
    let count = {
        let fs = start.fork();
        let vault = unlock(&fs, &Secret::Phrase(&phrase)).unwrap();
        let before = fs.operations();
        assert!(rotate(&vault, true));
        fs.operations() - before
    };
    assert!(count > 30, "{count}");
    for stop in 0..=count {
        let fs = start.fork();
        let vault = unlock(&fs, &Secret::Phrase(&phrase)).unwrap();
        fs.stop_after(stop);
        let done = rotate(&vault, true);
        assert_eq!(done, stop == count, "{stop}");
        for seed in 0..4 {
            let after = match seed {
                0 => fs.after_kill(),
                _ => fs.after_power_cut(&mut Dice(stop as u64 * 1000 + seed)),
            };
            let vault = unlock(&after, &Secret::Password(&master()))
                .unwrap_or_else(|error| panic!("stopped at {stop}, seed {seed}: {error}"));
            whole(&vault, &sealed);
            // What is not finished can be gone on with, and is finished then.
            let unfinished = vault.earlier_epoch().is_some();
            if unfinished {
                assert!(rotate(&vault, false), "stopped at {stop}, seed {seed}");
            }
            assert_eq!(vault.earlier_epoch(), None);
            drop(vault);
            if seed == 0 {
                let vault = unlock(&after, &Secret::Password(&master())).unwrap();
                whole(&vault, &sealed);
                let keys = vault.open_person_with_password(BEN, &own()).unwrap();
                assert!(keys.of(1).is_some(), "what is elsewhere opens");
            }
        }
    }
}

#[test]
fn a_new_root_key_ends_the_old_phrase_and_what_is_under_the_old_key() {
    let (fs, phrase, sealed) = made();
    let copy = fs.fork();
    let vault = unlock(&fs, &Secret::Password(&master())).unwrap();
    let old = crate::Key::from_bytes(vault.0.roots().root.expose());
    let rotated = vault
        .begin_rotation(&master(), &Keychains::default())
        .unwrap();
    let new = rotated.phrase;
    // Neither the old key nor anything under it opens the new header.
    assert!(matches!(
        unlock(&fs, &Secret::Phrase(&phrase)),
        Err(UnlockError::WrongPhrase)
    ));
    assert!(matches!(
        vault.begin_rotation(&master(), &Keychains::default()),
        Err(crate::RotateError::Unfinished)
    ));
    assert!(matches!(
        vault.begin_rotation(&own(), &Keychains::default()),
        Err(crate::RotateError::Vault(UnlockError::WrongPassword))
    ));
    assert!(rotate(&vault, true));
    assert_eq!((vault.key_epoch(), vault.earlier_epoch()), (2, None));
    assert!(vault.0.roots().root != old);
    assert!(
        vault
            .open_sealed(Purpose::SigningKey, Owner::System, b"key", &sealed)
            .is_err()
    );
    drop(vault);
    unlock(&fs, &Secret::Phrase(&new)).unwrap();
    // With the old root key nothing of the new folder opens: neither registry nor keyring.
    let before = unlock(&copy, &Secret::Phrase(&phrase)).unwrap();
    assert!(before.0.roots().root == old);
    for name in [
        "registry",
        "persons/07070707070707070707070707070707/keyring",
    ] {
        let path = data().join(name);
        copy.plant(&path, &fs.read(&path).unwrap());
    }
    assert!(before.open_person(BEN).is_err());
    drop(before);
    assert!(unlock(&copy, &Secret::Phrase(&phrase)).is_err());
}

/// A place where others make the key, as systemd's credentials are one: asked to keep a new key, it
/// gives the one that there is.
#[derive(Clone)]
struct Given(Arc<Mutex<[u8; 32]>>);

impl Keychain for Given {
    fn backend(&self) -> &'static str {
        "given"
    }

    fn name(&self) -> &'static str {
        "given"
    }

    fn probe(&self) -> Result<(), KeychainError> {
        Ok(())
    }

    fn keep(&self, _: &Wish) -> Result<(String, Key), KeychainError> {
        Ok(("item".to_owned(), self.load("item")?))
    }

    fn load(&self, _: &str) -> Result<Key, KeychainError> {
        Ok(Key::from_bytes(&self.0.lock().unwrap()))
    }

    fn remove(&self, _: &str) -> Result<(), KeychainError> {
        Err(KeychainError::changed("it belongs to others"))
    }
}

#[test]
fn a_key_that_others_gave_and_did_not_change_opens_nothing_after_a_rotation() {
    let (start, phrase, _) = made();
    for changed in [false, true] {
        let fs = start.fork();
        let given = Given(Arc::new(Mutex::new([9; 32])));
        let keychains = Keychains::new(vec![Box::new(given.clone())]);
        let by_given = || {
            let fs = Arc::new(fs.clone());
            Vault::unlock_kept_on(fs, data(), &keychains, KdfCost::minimum()).map(drop)
        };
        let vault = unlock(&fs, &Secret::Phrase(&phrase)).unwrap();
        vault.remember(&master(), &given, &keychains).unwrap();
        by_given().unwrap();
        if changed {
            *given.0.lock().unwrap() = [8; 32];
        }
        let rotated = vault.begin_rotation(&master(), &keychains).unwrap();
        if changed {
            assert_eq!((rotated.kept.len(), rotated.dropped.len()), (1, 0));
            by_given().unwrap();
            *given.0.lock().unwrap() = [9; 32];
            assert!(matches!(by_given(), Err(KeptError::Keychain { .. })));
        } else {
            assert!(rotated.kept.is_empty());
            let [(_, why)] = &rotated.dropped[..] else {
                panic!("{:?}", rotated.dropped)
            };
            assert_eq!(why.state(), KeychainState::Wrong);
            assert!(why.to_string().contains("aico vault remember"), "{why}");
            assert!(matches!(by_given(), Err(KeptError::Nothing)));
        }
    }
}

#[test]
fn a_password_that_nobody_had_proves_itself_by_the_key_before_and_then_wraps_the_new_one() {
    let (fs, phrase, _) = made();
    let vault = unlock(&fs, &Secret::Phrase(&phrase)).unwrap();
    let path = data().join("persons/07070707070707070707070707070707/keyring");
    let before = vault.open_person(BEN).unwrap();
    for epoch in 2..5 {
        let (keys, none) = vault.rotate_person(BEN, None).unwrap();
        assert!(none.is_none());
        assert_eq!(keys.key_epoch(), epoch);
        assert!(matches!(
            vault.open_person_with_password(BEN, &master()),
            Err(PersonKeyError::WrongPassword)
        ));
    }
    let rotated = fs.read(&path).unwrap();
    let keys = vault.open_person_with_password(BEN, &own()).unwrap();
    assert_eq!(keys.key_epoch(), 4);
    for epoch in 1..5 {
        assert!(
            keys.derive_of(epoch, Purpose::EncryptedFile, b"x")
                .is_some()
        );
    }
    let derived = before.derive_with(Purpose::EncryptedFile, b"x");
    assert!(keys.derive_of(1, Purpose::EncryptedFile, b"x") == Some(derived));
    assert_ne!(fs.read(&path).unwrap(), rotated, "it wraps the new key now");
    let again = vault.open_person_with_password(BEN, &own()).unwrap();
    assert!(again.0.key == keys.0.key);
}

#[test]
fn a_sealed_person_opens_with_their_own_password_or_phrase_and_with_nothing_else() {
    let (fs, phrase, _) = made();
    let vault = unlock(&fs, &Secret::Phrase(&phrase)).unwrap();
    let before = fs.fork();
    assert!(matches!(
        vault.seal_person(BEN, &master()),
        Err(PersonKeyError::WrongPassword)
    ));
    let (keys, theirs) = vault.seal_person(BEN, &own()).unwrap();
    // Signed in: as if nothing had happened, until they leave.
    assert!(vault.open_person(BEN).unwrap().0.key == keys.0.key);
    assert!(vault.lock_person(BEN));
    for vault in [vault, unlock(&fs, &Secret::Password(&master())).unwrap()] {
        assert!(vault.is_sealed(BEN).unwrap());
        assert!(matches!(
            vault.open_person(BEN),
            Err(PersonKeyError::Sealed { .. })
        ));
        let again = vault.open_person_with_password(BEN, &own()).unwrap();
        assert!(again.0.key == keys.0.key);
    }
    // A copy of the keyring from before, under the root key, gives a key that is another now.
    let copy = unlock(&before, &Secret::Password(&master())).unwrap();
    let old = copy.open_person(BEN).unwrap();
    assert!(old.0.key != keys.0.key);
    let id = KeyId::first_of(2);
    assert!(old.store_key(id).is_none());

    let vault = unlock(&fs, &Secret::Password(&master())).unwrap();
    let new = password("orbit candle walnut harp");
    assert!(matches!(
        vault.recover_person(BEN, &phrase, &new),
        Err(PersonKeyError::WrongPassword)
    ));
    vault.recover_person(BEN, &theirs, &new).unwrap();
    assert!(vault.open_person_with_password(BEN, &own()).is_err());
    vault.unseal_person(BEN, &new).unwrap();
    assert!(vault.open_person(BEN).unwrap().0.key == keys.0.key);
    assert!(vault.recover_person(BEN, &theirs, &new).is_err());
}

#[test]
fn cut_off_anywhere_in_sealing_the_person_is_sealed_or_not_and_their_password_opens() {
    let (start, phrase, _) = made();
    let count = {
        let fs = start.fork();
        let vault = unlock(&fs, &Secret::Phrase(&phrase)).unwrap();
        let before = fs.operations();
        vault.seal_person(BEN, &own()).unwrap();
        fs.operations() - before
    };
    for stop in 0..=count {
        let fs = start.fork();
        let vault = unlock(&fs, &Secret::Phrase(&phrase)).unwrap();
        fs.stop_after(stop);
        let done = vault.seal_person(BEN, &own()).is_ok();
        for seed in 0..4 {
            let after = match seed {
                0 => fs.after_kill(),
                _ => fs.after_power_cut(&mut Dice(stop as u64 * 100 + seed)),
            };
            let vault = unlock(&after, &Secret::Phrase(&phrase)).unwrap();
            let sealed = vault.is_sealed(BEN).unwrap();
            assert!(sealed || !done, "an acknowledged seal is gone");
            assert_eq!(vault.open_person(BEN).is_ok(), !sealed);
            let keys = vault.open_person_with_password(BEN, &own()).unwrap();
            assert!(keys.of(1).is_some(), "the store may still be under it");
        }
    }
}

#[test]
fn numbers_of_keys_come_back_and_only_rise() {
    let first = KeyId::first_of(1);
    assert_eq!(KeyId::from_number(0), None);
    for id in [first, first.next(), KeyId::first_of(u32::MAX).next()] {
        assert_eq!(KeyId::from_number(id.number()), Some(id));
    }
    assert!(first.number() < first.next().number());
    assert!(first.next().number() < KeyId::first_of(2).number());
}
