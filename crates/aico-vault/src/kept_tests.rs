//! Crashes and foul play around what opens a vault without a password, and around the owner's
//! password. The keychain here is a map in memory: the real ones are met in `tests/keychains.rs`
//! and, through the daemon, in the program's own tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use crate::derive::{Label, Owner, Purpose};
use crate::error::UnlockError;
use crate::fs::faulty::{Dice, Faulty};
use crate::kdf::KdfCost;
use crate::kept::{KeptError, RememberError};
use crate::key::Key;
use crate::keychain::{Keychain, KeychainError, KeychainState, Keychains, Wish};
use crate::password::Password;
use crate::phrase::RecoveryPhrase;
use crate::vault::{Secret, Vault};

const OWNER: [u8; 16] = [0x22; 16];
const MASTER: &str = "the master password";

fn data() -> &'static Path {
    Path::new("/data")
}

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

/// A keychain whose state the test chooses.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    items: BTreeMap<String, [u8; 32]>,
    fails: Option<KeychainError>,
}

impl Shelf {
    fn keychains(&self) -> Keychains {
        Keychains::new(vec![Box::new(self.clone())])
    }

    fn fail(&self, error: Option<KeychainError>) {
        self.0.lock().unwrap().fails = error;
    }

    fn items(&self) -> Vec<String> {
        self.0.lock().unwrap().items.keys().cloned().collect()
    }

    fn fork(&self) -> Self {
        let inside = self.0.lock().unwrap();
        Self(Arc::new(Mutex::new(Inside {
            items: inside.items.clone(),
            fails: inside.fails.clone(),
        })))
    }
}

impl Keychain for Shelf {
    fn backend(&self) -> &'static str {
        "shelf"
    }

    fn name(&self) -> &'static str {
        "shelf"
    }

    fn probe(&self) -> Result<(), KeychainError> {
        self.0.lock().unwrap().fails.clone().map_or(Ok(()), Err)
    }

    fn keep(&self, wish: &Wish) -> Result<(String, Key), KeychainError> {
        self.probe()?;
        let key = Key::random();
        let mut inside = self.0.lock().unwrap();
        inside.items.insert(wish.item(), *key.expose());
        Ok((wish.item(), key))
    }

    fn load(&self, item: &str) -> Result<Key, KeychainError> {
        self.probe()?;
        let inside = self.0.lock().unwrap();
        let bytes = inside.items.get(item);
        bytes
            .map(Key::from_bytes)
            .ok_or_else(|| KeychainError::changed("no such item"))
    }

    fn remove(&self, item: &str) -> Result<(), KeychainError> {
        self.probe()?;
        self.0.lock().unwrap().items.remove(item);
        Ok(())
    }
}

/// A vault with its owner, made once: hashing passwords is meant to be slow.
struct Made {
    fs: Faulty,
    phrase: RecoveryPhrase,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let fs = Faulty::new();
    let shared = Arc::new(fs.clone());
    let master = password(MASTER);
    let (vault, phrase) = Vault::create_on(shared, data(), &master, KdfCost::minimum()).unwrap();
    vault.create_person(OWNER, &master).unwrap();
    Made { fs, phrase }
});

fn unlock(fs: &Faulty, secret: &Secret<'_>) -> Result<Vault, UnlockError> {
    Vault::unlock_on(Arc::new(fs.clone()), data(), secret, KdfCost::minimum())
}

fn by_phrase(fs: &Faulty) -> Vault {
    unlock(fs, &Secret::Phrase(&MADE.phrase)).unwrap()
}

fn by_keychain(fs: &Faulty, shelf: &Shelf) -> Result<Vault, KeptError> {
    let fs = Arc::new(fs.clone());
    Vault::unlock_kept_on(fs, data(), &shelf.keychains(), KdfCost::minimum())
}

fn remember(vault: &Vault, shelf: &Shelf) -> Result<(), RememberError> {
    let done = vault.remember(&password(MASTER), shelf, &shelf.keychains());
    done.map(|(_, old)| assert!(old.left.is_empty()))
}

fn same_root(a: &Vault, b: &Vault) -> bool {
    let label = || Label::new(Purpose::SystemDatabase, Owner::System);
    a.derive(label()) == b.derive(label())
}

fn state(result: Result<Vault, KeptError>) -> KeychainState {
    match result {
        Err(KeptError::Keychain { kept, source }) => {
            assert_eq!(kept.backend(), "shelf");
            source.state()
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    }
}

#[test]
fn what_a_keychain_holds_opens_the_same_vault_and_is_not_the_root_key() {
    let (fs, shelf) = (MADE.fs.fork(), Shelf::default());
    let vault = by_phrase(&fs);
    assert!(matches!(by_keychain(&fs, &shelf), Err(KeptError::Nothing)));
    remember(&vault, &shelf).unwrap();
    assert!(same_root(&by_keychain(&fs, &shelf).unwrap(), &vault));
    let inside = shelf.0.lock().unwrap();
    let held: Vec<_> = inside.items.values().collect();
    assert_eq!(held.len(), 1);
    assert_ne!(held[0], vault.0.roots().root.expose());
    drop(inside);
    // Again: one item, another key.
    let before = shelf.items();
    remember(&vault, &shelf).unwrap();
    assert_eq!(shelf.items().len(), 1);
    assert_ne!(shelf.items(), before);
    by_keychain(&fs, &shelf).unwrap();
    // A wrong password leaves neither a wrap nor an item.
    let wrong = vault.remember(&password("not it"), &shelf, &shelf.keychains());
    assert!(matches!(
        wrong,
        Err(RememberError::Vault(UnlockError::WrongPassword))
    ));
    assert_eq!(shelf.items().len(), 1);
}

#[test]
fn a_keychain_in_any_state_leaves_the_vault_as_it_is_and_the_password_opens_it() {
    let (fs, shelf) = (MADE.fs.fork(), Shelf::default());
    let vault = by_phrase(&fs);
    remember(&vault, &shelf).unwrap();
    let all = |fs: &Faulty| -> Vec<_> {
        let paths = fs.files().into_iter();
        paths.map(|path| (fs.read(&path), path)).collect()
    };
    let before = all(&fs);
    let item = shelf.items().remove(0);
    let key = shelf.0.lock().unwrap().items[&item];
    let expect = |expected: KeychainState| {
        assert_eq!(state(by_keychain(&fs, &shelf)), expected);
        assert!(all(&fs) == before, "something was written");
        let opened = unlock(&fs, &Secret::Password(&password(MASTER))).unwrap();
        assert!(same_root(&opened, &vault), "another root key");
    };
    shelf.fail(Some(KeychainError::Locked));
    expect(KeychainState::Locked);
    shelf.fail(Some(KeychainError::absent("gone")));
    expect(KeychainState::Absent);
    shelf.fail(None);
    shelf.0.lock().unwrap().items.clear();
    expect(KeychainState::Changed);
    let mut other = key;
    other[0] ^= 1;
    shelf.0.lock().unwrap().items.insert(item.clone(), other);
    expect(KeychainState::Wrong);
    shelf.0.lock().unwrap().items.insert(item, key);
    by_keychain(&fs, &shelf).unwrap();
}

#[test]
fn a_keychain_that_does_not_take_the_key_changes_nothing() {
    let (fs, shelf) = (MADE.fs.fork(), Shelf::default());
    let vault = by_phrase(&fs);
    let header = data().join("vault.hdr");
    let before = fs.read(&header);
    shelf.fail(Some(KeychainError::Locked));
    let refused = remember(&vault, &shelf);
    assert!(matches!(
        refused,
        Err(RememberError::Keychain(KeychainError::Locked))
    ));
    assert_eq!(fs.read(&header), before);
    // The header can't be written: the item goes again.
    shelf.fail(None);
    fs.set_full(true);
    assert!(remember(&vault, &shelf).is_err());
    fs.set_full(false);
    assert!(shelf.items().is_empty());
    assert_eq!(fs.read(&header), before);
}

#[test]
fn forgetting_takes_the_wrap_even_when_the_item_stays() {
    let (fs, shelf) = (MADE.fs.fork(), Shelf::default());
    let vault = by_phrase(&fs);
    remember(&vault, &shelf).unwrap();
    let old = fs.after_kill();
    let wrong = vault.forget(&password("not it"), &shelf.keychains());
    assert!(matches!(wrong, Err(UnlockError::WrongPassword)));
    by_keychain(&fs, &shelf).unwrap();
    shelf.fail(Some(KeychainError::Locked));
    let gone = vault.forget(&password(MASTER), &shelf.keychains()).unwrap();
    assert_eq!(gone.taken.len(), 1);
    assert_eq!(gone.left[0].1, KeychainError::Locked);
    shelf.fail(None);
    assert!(matches!(by_keychain(&fs, &shelf), Err(KeptError::Nothing)));
    // What re-wrapping does not do: a copy of the header made before opens with the item.
    by_keychain(&old, &shelf).unwrap();
}

/// Does `change` with the process or the power gone at every operation of the disk, and looks at
/// each state that may be left.
fn at_every_operation(
    start: &Faulty,
    shelf: &Shelf,
    change: impl Fn(&Vault, &Shelf) -> bool,
    look: impl Fn(&Faulty, &Shelf, bool),
) {
    let count = {
        let (fs, shelf) = (start.fork(), shelf.fork());
        let vault = by_phrase(&fs);
        let before = fs.operations();
        assert!(change(&vault, &shelf));
        fs.operations() - before
    };
    assert!(count > 3);
    for stop in 0..=count {
        let (fs, shelf) = (start.fork(), shelf.fork());
        let vault = by_phrase(&fs);
        fs.stop_after(stop);
        let done = change(&vault, &shelf);
        let mut seen = BTreeSet::new();
        for seed in 0..40 {
            let after = match seed {
                0 => fs.after_kill(),
                _ => fs.after_power_cut(&mut Dice(stop as u64 * 1000 + seed)),
            };
            let files: Vec<_> = after.files().iter().map(|path| after.read(path)).collect();
            // Hashing passwords is slow; each state is looked at once.
            if seen.insert(files) {
                look(&after, &shelf, done);
            }
        }
    }
}

#[test]
fn cut_off_anywhere_in_remembering_what_worked_before_works() {
    // For the first time: it opens, or nothing is remembered.
    let shelf = Shelf::default();
    let start = MADE.fs.after_kill();
    at_every_operation(
        &start,
        &shelf,
        |vault, shelf| remember(vault, shelf).is_ok(),
        |after, shelf, done| {
            match by_keychain(after, shelf) {
                Ok(_) => {}
                Err(KeptError::Nothing) => assert!(!done, "an acknowledged change is gone"),
                Err(other) => panic!("{other}"),
            }
            unlock(after, &Secret::Password(&password(MASTER))).unwrap();
        },
    );
    // In the place of another: one of the two always opens.
    let fs = MADE.fs.fork();
    remember(&by_phrase(&fs), &shelf).unwrap();
    at_every_operation(
        &fs.after_kill(),
        &shelf,
        |vault, shelf| remember(vault, shelf).is_ok(),
        |after, shelf, _| drop(by_keychain(after, shelf).unwrap()),
    );
}

#[test]
fn cut_off_anywhere_in_forgetting_it_opens_or_is_forgotten() {
    let shelf = Shelf::default();
    let fs = MADE.fs.fork();
    remember(&by_phrase(&fs), &shelf).unwrap();
    at_every_operation(
        &fs.after_kill(),
        &shelf,
        |vault, shelf| {
            let gone = vault.forget(&password(MASTER), &shelf.keychains());
            gone.is_ok()
        },
        |after, shelf, done| {
            match by_keychain(after, shelf) {
                Ok(_) => assert!(!done, "an acknowledged change is gone"),
                Err(KeptError::Nothing) => {}
                Err(other) => panic!("{other}"),
            }
            unlock(after, &Secret::Password(&password(MASTER))).unwrap();
        },
    );
}

#[test]
fn cut_off_anywhere_in_a_change_of_the_owners_password_one_of_them_works_and_the_dead_one_opens_nothing()
 {
    let (old, new) = (password(MASTER), password("the new master password"));
    at_every_operation(
        &MADE.fs.after_kill(),
        &Shelf::default(),
        |vault, _| vault.change_owner_password(OWNER, &old, &new).is_ok(),
        |after, _, done| {
            let with_old = unlock(after, &Secret::Password(&old));
            let with_new = unlock(after, &Secret::Password(&new));
            match (with_old, with_new) {
                (Ok(vault), Err(UnlockError::WrongPassword)) => {
                    assert!(!done, "an acknowledged change is gone");
                    vault.open_person(OWNER).unwrap();
                }
                (Err(UnlockError::WrongPassword), Ok(vault)) => {
                    vault.open_person(OWNER).unwrap();
                    vault.open_person_with_password(OWNER, &new).unwrap();
                    let dead = vault.open_person_with_password(OWNER, &old);
                    assert!(dead.is_err(), "the old password opens the owner's keyring");
                }
                _ => panic!("neither works, or both do"),
            }
            // The phrase and everything under the root key are as they were.
            by_phrase(after).open_person(OWNER).unwrap();
        },
    );
}

#[test]
fn a_damaged_or_missing_keyring_of_the_owner_keeps_no_password_from_being_changed() {
    let [second, third, fourth] = ["second", "third", "fourth"].map(password);
    for missing in [false, true] {
        let fs = MADE.fs.fork();
        let vault = by_phrase(&fs);
        let path = vault.keyring_path(OWNER);
        let whole = fs.read(&path).unwrap();
        if missing {
            vault.erase_person(OWNER).unwrap();
        } else {
            let mut damaged = whole.clone();
            *damaged.last_mut().unwrap() ^= 1;
            fs.plant(&path, &damaged);
        }
        let changed = vault.change_owner_password(OWNER, &password(MASTER), &second);
        changed.unwrap();
        let reset = vault.reset_owner_password(OWNER, &MADE.phrase, &third);
        reset.unwrap();
        for dead in [&password(MASTER), &second] {
            let opened = unlock(&fs, &Secret::Password(dead)).map(drop);
            assert!(matches!(opened, Err(UnlockError::WrongPassword)));
        }
        let vault = unlock(&fs, &Secret::Password(&third)).unwrap();
        assert!(vault.open_person(OWNER).is_err());
        // Put back, it follows the next change.
        if !missing {
            fs.plant(&path, &whole);
            let changed = vault.change_owner_password(OWNER, &third, &fourth);
            changed.unwrap();
            vault.open_person_with_password(OWNER, &fourth).unwrap();
        }
    }
}

#[test]
fn a_wrong_phrase_or_password_changes_neither_header_nor_keyring() {
    let fs = MADE.fs.fork();
    let vault = by_phrase(&fs);
    let all = |fs: &Faulty| -> Vec<_> { fs.files().iter().map(|path| fs.read(path)).collect() };
    let before = all(&fs);
    let new = password("the new master password");
    assert!(
        vault
            .change_owner_password(OWNER, &password("not it"), &new)
            .is_err()
    );
    assert!(
        vault
            .reset_owner_password(OWNER, &RecoveryPhrase::random(), &new)
            .is_err()
    );
    assert!(all(&fs) == before);
    vault
        .reset_owner_password(OWNER, &MADE.phrase, &new)
        .unwrap();
    unlock(&fs, &Secret::Password(&new)).unwrap();
    vault.open_person_with_password(OWNER, &new).unwrap();
}
