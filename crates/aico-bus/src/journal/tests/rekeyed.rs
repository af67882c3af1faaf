//! A journal whose keys were changed: everything is there, for whom it was there before.

use aico_vault::fs::faulty::Dice;
use aico_vault::{Keychains, RotateError};

use super::*;
use crate::journal::disk::Why;
use crate::journal::rekey::rekey;

fn folder() -> std::path::PathBuf {
    data().join("journal")
}

fn keys(vault: &Vault) -> Arc<dyn JournalKeys> {
    Arc::new(vault.clone())
}

/// Begins a new root key, and brings everything but the journal under it.
fn rotate(vault: &Vault, persons: &[PersonId]) {
    match vault.begin_rotation(&password(), &Keychains::default()) {
        Ok(_) | Err(RotateError::Unfinished) => {}
        Err(error) => panic!("{error}"),
    }
    vault.rekey_registry().unwrap();
    for person in persons {
        vault.rewrap_person(*person.as_bytes()).unwrap();
    }
}

#[test]
fn a_journal_is_read_and_written_on_while_and_after_the_keys_change() {
    let fs = Faulty::new();
    let vault = make_vault(&fs);
    let (one, other) = (add_person(&vault), add_person(&vault));
    let mut store = open(&vault);
    for (number, person) in [(1, Some(one)), (2, None), (3, Some(other))] {
        keep(&mut store, message(number, person, 50)).unwrap();
    }
    store.close().unwrap();
    rotate(&vault, &[one, other]);
    vault.rotate_person(*one.as_bytes(), None).unwrap();
    // Before the files were written anew: the old ones are read, and gone on with.
    let mut store = open(&vault);
    for (number, person) in [(4, Some(one)), (5, Some(other))] {
        keep(&mut store, message(number, person, 50)).unwrap();
    }
    let all = read(&store).kept;
    assert_eq!(all.len(), 5);
    store.close().unwrap();
    assert_eq!(rekey(keys(&vault), &folder(), true).unwrap().files, 1);
    vault.finish_rotation().unwrap();
    drop(vault);
    // With the new keys alone, and written on.
    let vault = open_vault(&fs.after_kill());
    let mut store = open(&vault);
    assert_eq!(read(&store).kept, all);
    keep(&mut store, message(6, Some(one), 50)).unwrap();
    assert_eq!(read(&store).kept.len(), 6);
    // A repetition is known by its id still.
    assert_eq!(keep(&mut store, message(4, Some(one), 50)), Ok(4));
    store.close().unwrap();
}

#[test]
fn what_a_sealed_person_was_told_is_carried_over_and_opens_when_they_sign_in() {
    let fs = Faulty::new();
    let vault = make_vault(&fs);
    let person = add_person(&vault);
    let own = Password::new("their own long password").unwrap();
    vault.seal_person(*person.as_bytes(), &own).unwrap();
    let mut store = open(&vault);
    for (number, whose) in [(1, Some(person)), (2, None), (3, Some(person))] {
        keep(&mut store, message(number, whose, 50)).unwrap();
    }
    let all = read(&store).kept;
    assert_eq!(all.len(), 3);
    store.close().unwrap();
    vault.lock_person(*person.as_bytes());
    rotate(&vault, &[person]);
    // Twice: what was carried over is carried on.
    for _ in 0..2 {
        assert_eq!(rekey(keys(&vault), &folder(), true).unwrap().files, 1);
        let mut store = open(&vault);
        let seen = read(&store);
        assert_eq!(seen.kept, [(2, 2, 50)]);
        assert!(seen.skipped.iter().all(|it| it.why == Why::Locked));
        let refused = keep(&mut store, message(9, Some(person), 50));
        assert_eq!(refused, Err(JournalFault::PersonLocked));
        store.close().unwrap();
    }
    let theirs = vault
        .open_person_with_password(*person.as_bytes(), &own)
        .unwrap();
    vault.unlock_person(&theirs).unwrap();
    let store = open(&vault);
    assert_eq!(read(&store).kept, all);
    store.close().unwrap();
    // Signed in, their bodies are sealed anew like everybody's.
    assert_eq!(rekey(keys(&vault), &folder(), true).unwrap().files, 1);
    vault.finish_rotation().unwrap();
    let store = open(&vault);
    assert_eq!(read(&store).kept, all);
    // Locked again, no key of theirs is left to write with.
    let mut store = store;
    keep(&mut store, message(10, Some(person), 50)).unwrap();
    vault.lock_person(*person.as_bytes());
    store.lock(person);
    let refused = keep(&mut store, message(11, Some(person), 50));
    assert_eq!(refused, Err(JournalFault::PersonLocked));
}

#[test]
fn cut_off_anywhere_while_the_files_are_written_anew_nothing_is_lost() {
    let start = Faulty::new();
    let vault = make_vault(&start);
    let person = add_person(&vault);
    let mut store = open(&vault);
    for number in 1..=20 {
        keep(&mut store, message(number, Some(person), 200)).unwrap();
    }
    let all = read(&store).kept;
    store.close().unwrap();
    rotate(&vault, &[person]);
    drop(vault);
    let count = {
        let fs = start.after_kill();
        let vault = open_vault(&fs);
        let before = fs.operations();
        rekey(keys(&vault), &folder(), false).unwrap();
        fs.operations() - before
    };
    for stop in 0..=count {
        let fs = start.after_kill();
        let vault = open_vault(&fs);
        fs.stop_after(stop);
        let _ = rekey(keys(&vault), &folder(), false);
        for seed in 0..4 {
            let after = match seed {
                0 => fs.after_kill(),
                _ => fs.after_power_cut(&mut Dice(stop as u64 * 100 + seed)),
            };
            let vault = open_vault(&after);
            rekey(keys(&vault), &folder(), false).unwrap();
            vault.finish_rotation().unwrap();
            let store = open(&vault);
            assert_eq!(read(&store).kept, all, "stopped at {stop}, seed {seed}");
            store.close().unwrap();
        }
    }
}
