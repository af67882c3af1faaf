//! A journal whose keys were changed: everything is there, for whom it was there before.

use aico_vault::fs::faulty::Dice;
use aico_vault::{Keychains, RotateError};

use super::*;
use crate::journal::disk::Why;
use crate::journal::rekey::{Anew, rekey};

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
    assert_eq!(
        rekey(keys(&vault), &folder(), Anew::Bodies, &|| true)
            .unwrap()
            .files,
        1
    );
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
        assert_eq!(
            rekey(keys(&vault), &folder(), Anew::Bodies, &|| true)
                .unwrap()
                .files,
            1
        );
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
    assert_eq!(
        rekey(keys(&vault), &folder(), Anew::Bodies, &|| true)
            .unwrap()
            .files,
        1
    );
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

/// The disk as the files were being written anew when everything stopped: after so many operations of it.
fn cut_off_anywhere(start: &Faulty, what: Anew) -> impl Iterator<Item = (usize, Faulty)> {
    let written = move |stop: usize| {
        let fs = start.after_kill();
        let vault = open_vault(&fs);
        let before = fs.operations();
        fs.stop_after(stop);
        let done = rekey(keys(&vault), &folder(), what, &|| true);
        (fs.operations() - before, done.is_ok(), fs)
    };
    let (count, whole, _) = written(usize::MAX / 2);
    assert!(whole && count > 0);
    (0..=count).map(move |stop| (stop, written(stop).2))
}

/// What is found of it after a kill, and after cuts of the power.
fn afterwards(fs: &Faulty, stop: usize) -> impl Iterator<Item = (u64, Faulty)> {
    (0..4).map(move |seed| match seed {
        0 => (seed, fs.after_kill()),
        _ => (
            seed,
            fs.after_power_cut(&mut Dice(stop as u64 * 100 + seed)),
        ),
    })
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
    for (stop, fs) in cut_off_anywhere(&start, Anew::Behind) {
        for (seed, after) in afterwards(&fs, stop) {
            let vault = open_vault(&after);
            rekey(keys(&vault), &folder(), Anew::Behind, &|| true).unwrap();
            vault.finish_rotation().unwrap();
            let store = open(&vault);
            assert_eq!(read(&store).kept, all, "stopped at {stop}, seed {seed}");
            store.close().unwrap();
        }
    }
}

fn names(vault: &Vault) -> Vec<String> {
    let folder = Folder::open(keys(vault), &folder()).unwrap();
    let files = folder.list().unwrap();
    files.iter().map(ToString::to_string).collect()
}

#[test]
fn under_other_ids_everything_is_there_and_nothing_of_the_files_before() {
    let fs = Faulty::new();
    let vault = make_vault(&fs);
    let person = add_person(&vault);
    let mut store = open(&vault);
    for number in 1..=3 {
        keep(&mut store, message(number, Some(person), 50)).unwrap();
    }
    store.close().unwrap();
    let fs = fs.after_kill();
    let vault = open_vault(&fs);
    let (before, marks) = (names(&vault), vault.registry().marks());
    let stopped = rekey(keys(&vault), &folder(), Anew::Files, &|| false).unwrap();
    assert!(stopped.stopped && stopped.files == 0);
    let done = rekey(keys(&vault), &folder(), Anew::Files, &|| true).unwrap();
    assert_eq!((done.files, done.damaged), (before.len(), 0));
    let after = names(&vault);
    assert_eq!(after.len(), before.len());
    assert!(after.iter().all(|name| !before.contains(name)), "{after:?}");
    // What the registry knew of the files before is forgotten with them.
    let known = vault.registry().marks();
    assert_eq!(known.len(), marks.len());
    assert!(known.keys().all(|name| !marks.contains_key(name)));
    drop(vault);

    let vault = open_vault(&fs.after_kill());
    let mut store = open(&vault);
    assert_eq!(read(&store).kept, [(1, 1, 50), (2, 2, 50), (3, 3, 50)]);
    assert_eq!(keep(&mut store, message(2, Some(person), 50)), Ok(2));
    assert_eq!(keep(&mut store, message(4, Some(person), 50)), Ok(4));
    store.close().unwrap();
    // Another time they are other ones again.
    rekey(keys(&vault), &folder(), Anew::Files, &|| true).unwrap();
    let third = names(&vault);
    let earlier = [before, after].concat();
    assert!(third.iter().all(|name| !earlier.contains(name)));
    assert_eq!(read(&open(&vault)).kept.len(), 4);
}

/// Also when the journal is gone on with before the change of ids is.
#[test]
fn cut_off_anywhere_in_a_change_of_ids_nothing_is_lost_or_there_twice() {
    let start = Faulty::new();
    let vault = make_vault(&start);
    let person = add_person(&vault);
    let mut store = open(&vault);
    for number in 1..=20 {
        keep(&mut store, message(number, Some(person), 200)).unwrap();
    }
    let mut all = read(&store).kept;
    store.close().unwrap();
    all.push((21, 21, 200));
    drop(vault);
    for (stop, fs) in cut_off_anywhere(&start, Anew::Files) {
        for (seed, after) in afterwards(&fs, stop) {
            let vault = open_vault(&after);
            let mut store = open(&vault);
            let kept = keep(&mut store, message(21, Some(person), 200));
            assert_eq!(kept, Ok(21), "stopped at {stop}, seed {seed}");
            assert_eq!(read(&store).kept, all, "stopped at {stop}, seed {seed}");
            store.close().unwrap();
            rekey(keys(&vault), &folder(), Anew::Files, &|| true).unwrap();
            assert_eq!(names(&vault).len(), 1);
            let store = open(&vault);
            assert_eq!(read(&store).kept, all, "stopped at {stop}, seed {seed}");
            store.close().unwrap();
        }
    }
}

#[test]
fn a_file_that_is_put_back_after_a_change_of_ids_does_not_take_the_place_of_what_came_of_it() {
    let fs = Faulty::new();
    let vault = make_vault(&fs);
    let person = add_person(&vault);
    let mut store = open(&vault);
    for number in 1..=3 {
        keep(&mut store, message(number, Some(person), 50)).unwrap();
    }
    let (name, path) = (
        store.current.name.to_string(),
        store.folder.path_of(&store.current.name),
    );
    store.close().unwrap();
    let bytes = fs.read(&path).unwrap();
    let mut last = 3;
    // What it became was written anew once, and twice.
    for _ in 0..2 {
        rekey(keys(&vault), &folder(), Anew::Files, &|| true).unwrap();
        for put_back in [&bytes[..], &[]] {
            fs.plant(&path, put_back);
            let mut store = open(&vault);
            assert!(!names(&vault).contains(&name));
            let aside = fs.read(&path.with_extension("damaged"));
            assert_eq!(aside.unwrap(), put_back);
            last += 1;
            let kept = keep(&mut store, message(last, Some(person), 50));
            assert_eq!(kept, Ok(last));
            let all: Vec<_> = (1..=last).map(|number| (number, number, 50)).collect();
            assert_eq!(read(&store).kept, all);
            store.close().unwrap();
        }
    }
    // Nor while the keys change.
    fs.plant(&path, &bytes);
    let done = rekey(keys(&vault), &folder(), Anew::Files, &|| true).unwrap();
    assert_eq!((done.files, names(&vault).len()), (1, 1));
    assert_eq!(read(&open(&vault)).kept.len() as u64, last);
}

/// It was begun, and the registry not told of it before everything stopped.
#[test]
fn cut_off_in_a_change_of_ids_a_file_that_was_just_begun_is_no_older_one() {
    let start = Faulty::new();
    let vault = make_vault(&start);
    let person = add_person(&vault);
    let mut store = open(&vault);
    for number in 1..=3 {
        keep(&mut store, message(number, Some(person), 50)).unwrap();
    }
    store.folder.forget(&store.current.name).unwrap();
    drop((store, vault));
    for (stop, fs) in cut_off_anywhere(&start, Anew::Files) {
        let fs = fs.after_kill();
        let store = open(&open_vault(&fs));
        assert_eq!(read(&store).kept.len(), 3, "stopped at {stop}");
        let aside = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "damaged");
        assert!(!fs.files().iter().any(aside), "stopped at {stop}");
    }
}
