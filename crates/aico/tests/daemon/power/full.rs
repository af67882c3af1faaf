//! The disk fills up at each write of an operation: it is told as that, everything is as before or
//! as after, and when there is room it is done without a hand.

use std::fs;
use std::path::Path;
use std::process::Output;

use aico_vault::fs::faulty::Dice;
use serde_json::{Value, json};

use super::cuts;
use super::operations::{BEN, NEW, Recorded, of_then, put_ben_back};
use crate::backups::{backup, names_in, string};
use crate::support::{PASSWORD, World, nothing_unfinished, text, until};

/// Exit codes for a full disk, and while it is locked.
const FULL: i32 = 12;
const LOCKED: i32 = 4;

/// Some of the writes of an operation that has so many, or all of them; the first always.
fn some(writes: u64, about: u64) -> Vec<u64> {
    let mut dice = Dice(cuts::seed());
    let wanted = |number: &u64| {
        let chosen = (dice.roll(usize::try_from(writes).unwrap()) as u64) < about;
        *number == 1 || chosen || cuts::every()
    };
    (1..=writes).filter(wanted).collect()
}

/// What an operation comes to when the disk is full from its `write`th write on. When it is over
/// there is room again.
fn at(recorded: &Recorded, write: u64, operate: impl FnOnce(&World) -> Output) -> bool {
    recorded
        .recorder
        .full_from(Some(recorded.recorder.takes() + write));
    let done = operate(&recorded.world);
    recorded.recorder.full_from(None);
    let (code, words) = (done.status.code(), text(&done.stderr));
    assert!(
        matches!(code, Some(0 | FULL)),
        "at write {write}: {code:?}: {words}"
    );
    assert!(
        code == Some(0) || words.contains("try:"),
        "at write {write}: {words}"
    );
    code == Some(0)
}

/// Writes of an operation that has all the room that it wants.
fn writes_of(recorded: &Recorded, operate: impl FnOnce(&World) -> Output) -> u64 {
    let before = recorded.recorder.takes();
    let done = operate(&recorded.world);
    assert!(done.status.success(), "{}", text(&done.stderr));
    recorded.recorder.takes() - before
}

/// The daemon finds out that there is room, and it works.
fn works(recorded: &Recorded, mut operate: impl FnMut(&World) -> Output) {
    until("it works when there is room", || {
        let done = operate(&recorded.world);
        let (code, words) = (done.status.code(), text(&done.stderr));
        assert!(matches!(code, Some(0 | FULL)), "{code:?}: {words}");
        (code == Some(0)).then_some(())
    });
}

#[test]
fn the_disk_fills_up_in_a_set_up() {
    let writes = writes_of(&Recorded::new(), World::setup);
    let mut failed = 0;
    for write in some(writes, 12) {
        let recorded = Recorded::new();
        if at(&recorded, write, World::setup) {
            continue;
        }
        failed += 1;
        assert!(
            !recorded.world.home().exists(),
            "half a home at write {write}"
        );
        let left = names_in(&recorded.world.data());
        assert!(!left.iter().any(|name| name.starts_with('.')), "{left:?}");
        assert!(
            !recorded.world.path("phrase").exists(),
            "a phrase that opens nothing"
        );
        let done = recorded.world.setup();
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    assert!(failed > 0);
}

#[test]
fn the_disk_fills_up_in_a_change_of_the_password() {
    let recorded = Recorded::ready();
    let files = [recorded.path("password"), recorded.path("new")];
    let change = |from: usize| {
        let (from, to) = (files[from].clone(), files[1 - from].clone());
        move |world: &World| {
            let change = ["vault", "password", "--password-file", &from];
            world.aico(&[&change[..], &["--new-password-file", &to]].concat())
        }
    };
    let api = recorded.world.api();
    let proves = |number: usize| {
        let password = [PASSWORD, NEW][number];
        let form = json!({"name": "Mia", "password": password});
        until("it is told whether it opens", || {
            match api.post("/api/v1/sessions", &form).0 {
                201 => Some(true),
                401 => Some(false),
                507 => None,
                other => panic!("{other}"),
            }
        })
    };
    let writes = writes_of(&recorded, change(0));
    let (mut now, mut failed) = (1, 0);
    for write in some(writes, 8) {
        let done = at(&recorded, write, change(now));
        let opens = [proves(0), proves(1)];
        assert_ne!(opens[0], opens[1], "exactly one opens it, at write {write}");
        let then = usize::from(opens[1]);
        assert!(
            then != now || !done,
            "it was said to be changed, at write {write}"
        );
        failed += usize::from(!done);
        if then == now {
            works(&recorded, change(now));
        }
        now = 1 - now;
    }
    assert!(failed > 0);
}

fn rotation(more: &[&str]) {
    let mut recorded = Recorded::ready();
    let phrase = recorded.path("next-phrase");
    let rotate = |world: &World| {
        let _ = fs::remove_file(&phrase);
        let password = world.path("password");
        let arguments = ["vault", "rotate", "--password-file", string(&password)];
        world.aico(&[&arguments[..], &["--recovery-file", &phrase], more].concat())
    };
    let writes = writes_of(&recorded, rotate);
    let mut failed = 0;
    for write in some(writes, 8) {
        let begun = recorded.recorder.takes();
        recorded.recorder.full_from(Some(begun + write));
        let done = rotate(&recorded.world);
        recorded.recorder.full_from(None);
        let (code, words) = (done.status.code(), text(&done.stderr));
        match code {
            Some(0) => {}
            Some(FULL) => {
                failed += 1;
                match more.is_empty() {
                    true => works(&recorded, rotate),
                    // With one step to go it passes for the lesser change, and is refused once more.
                    false => {
                        recorded.world.stop();
                        recorded.world.serve();
                    }
                }
            }
            // It was in the midst of putting the system's store in its place.
            Some(LOCKED) => {
                failed += 1;
                let password = recorded.path("password");
                works(&recorded, |world| {
                    world.aico(&["unlock", "--password-file", &password])
                });
            }
            code => panic!("at write {write}: {code:?}: {words}"),
        }
        until("the change of keys is done", || {
            let said = recorded.world.said(&["vault", "rotate", "--status"]);
            assert!(!said.contains("stopped"), "{said}");
            (!said.contains("being changed")).then_some(())
        });
        assert!(
            recorded
                .world
                .said(&["conversation", "search", "medlar"])
                .contains("medlar")
        );
    }
    assert!(failed > 0);
    whole(recorded);
}

#[test]
fn the_disk_fills_up_in_a_change_of_the_root_key() {
    rotation(&[]);
}

#[test]
fn the_disk_fills_up_in_a_change_of_all_keys() {
    rotation(&["--compromised"]);
}

#[test]
fn the_disk_fills_up_while_somebody_talks() {
    let recorded = Recorded::ready();
    let list = recorded.world.said(&["conversation", "list", "--json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let id = list[0]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{list}"))
        .to_owned();
    // An answer that could not be stored is shown as failed until there is room.
    let shown = |world: &World| {
        let said = world.said(&["conversation", "show", &id]);
        said.replace("(failed) ", "")
    };
    let talk = |world: &World| world.aico(&["chat", "--once", "Hello", "--conversation", &id]);
    let writes = writes_of(&recorded, talk);
    let (mut failed, mut before) = (0, shown(&recorded.world));
    for write in some(writes, 8) {
        let done = at(&recorded, write, talk);
        failed += usize::from(!done);
        works(&recorded, talk);
        let after = shown(&recorded.world);
        assert!(
            after.starts_with(before.trim_end()),
            "{before}\nbecame\n{after}"
        );
        before = after;
    }
    assert!(failed > 0);
    whole(recorded);
}

#[test]
fn the_disk_fills_up_while_a_file_is_replaced() {
    let recorded = Recorded::ready();
    let (letter, other, sealed) = (
        recorded.path("letter"),
        recorded.path("other"),
        recorded.path("letter.aico"),
    );
    recorded.world.said(&["file", "encrypt", &letter]);
    let replace =
        |world: &World| world.aico(&["file", "encrypt", &other, "--out", &sealed, "--force"]);
    let writes = writes_of(&recorded, replace);
    let mut failed = 0;
    for write in some(writes, 20) {
        let before = fs::read(&sealed).unwrap();
        let done = at(&recorded, write, replace);
        assert_eq!(
            fs::read(&sealed).unwrap() != before,
            done,
            "at write {write}"
        );
        let beside = names_in(&recorded.world.path(""));
        assert!(
            !beside.iter().any(|name| name.ends_with(".tmp")),
            "{beside:?}"
        );
        if !done {
            failed += 1;
            works(&recorded, replace);
        }
        assert!(
            recorded
                .world
                .said(&["file", "cat", &sealed])
                .contains("somebody else")
        );
    }
    assert!(failed > 0);
}

#[test]
fn the_disk_fills_up_while_a_backup_is_made() {
    let recorded = Recorded::ready();
    let create = |world: &World| world.aico(&["backup", "create"]);
    let writes = writes_of(&recorded, create);
    let folder = recorded.world.path("data-backups");
    let mut failed = 0;
    for write in some(writes, 8) {
        let before = names_in(&folder);
        let done = at(&recorded, write, create);
        let after = names_in(&folder);
        if done {
            continue;
        }
        failed += 1;
        assert_eq!(before, after, "at write {write}");
        let left = names_in(&recorded.world.data());
        assert!(
            !left.iter().any(|name| name.starts_with(".backup-")),
            "{left:?}"
        );
        works(&recorded, create);
    }
    assert!(failed > 0);
    let password = recorded.path("password");
    for name in names_in(&folder)
        .iter()
        .filter(|name| name.ends_with(".aicobackup"))
    {
        let archive = folder.join(name);
        let verify = [
            "backup",
            "verify",
            string(&archive),
            "--password-file",
            &password,
        ];
        recorded.world.said(&verify);
    }
    whole(recorded);
}

#[test]
fn the_disk_fills_up_in_a_restore() {
    let mut recorded = Recorded::ready();
    let archive = backup(&recorded.world, &[]);
    recorded.world.chat(None, "My dog is called Rex");
    recorded.world.stop();
    let password = recorded.path("password");
    let restore =
        |world: &World| world.aico(&["restore", string(&archive), "--password-file", &password]);
    let header = |world: &World| fs::read(world.home().join("vault.hdr")).unwrap();
    let writes = writes_of(&recorded, restore);
    let mut failed = 0;
    for write in some(writes, 10) {
        let before = header(&recorded.world);
        if at(&recorded, write, restore) {
            continue;
        }
        failed += 1;
        // Decided or not: what is left of it is done or gone with the next start.
        if header(&recorded.world) == before {
            let left = names_in(&recorded.world.data());
            assert!(
                !left.iter().any(|name| name.starts_with(".next-")),
                "{left:?}"
            );
        }
        let done = restore(&recorded.world);
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    assert!(failed > 0);
    recorded.world.serve();
    whole(recorded);
}

#[test]
fn the_disk_fills_up_while_one_person_is_put_back() {
    let mut recorded = Recorded::ready();
    recorded.ben_says("a word of Ben's: quince");
    let archive = backup(&recorded.world, &[]);
    recorded.ben_says("a later word of Ben's: damson");
    recorded.world.chat(None, "My dog is called Rex");
    recorded.world.stop();
    let put_back = |world: &World| put_ben_back(world, &archive);
    let writes = writes_of(&recorded, put_back);
    let mut failed = 0;
    for write in some(writes, 10) {
        if at(&recorded, write, put_back) {
            continue;
        }
        failed += 1;
        let left = names_in(&recorded.world.data());
        assert!(
            !left.iter().any(|name| name.starts_with(".backup-")),
            "{left:?}"
        );
        let done = put_back(&recorded.world);
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    assert!(failed > 0);
    recorded.world.serve();
    let ben = recorded.world.api().sign_in("Ben", BEN);
    let found = |word: &str| {
        let (status, found) = ben.get(&format!("/api/v1/search?q={word}"));
        assert_eq!(status, 200, "{found}");
        !found["items"].as_array().unwrap().is_empty()
    };
    assert!(found("quince") && !found("damson"));
    nothing_unfinished(&recorded.world, "when there is room");
    whole(recorded);
}

#[test]
fn the_disk_fills_up_in_a_migration() {
    let start = |recorded: &mut Recorded| {
        recorded.world.serve_with(&[]);
        recorded.world.aico(&["conversation", "list"])
    };
    let mut recorded = Recorded::of(of_then());
    let done = start(&mut recorded);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let writes = recorded.recorder.takes();
    let mut failed = 0;
    for write in some(writes, 8) {
        let mut recorded = Recorded::of(of_then());
        recorded.recorder.full_from(Some(write));
        let password = recorded.path("password");
        if let Err(code) = recorded.world.try_serve(&["--password-file", &password]) {
            assert_eq!(
                code,
                Some(FULL),
                "at write {write}: {}",
                recorded.world.log()
            );
            failed += 1;
        } else {
            let listed = recorded.world.aico(&["conversation", "list"]);
            let (code, words) = (listed.status.code(), text(&listed.stderr));
            assert!(
                matches!(code, Some(0 | FULL)),
                "at write {write}: {code:?}: {words}"
            );
            failed += usize::from(code == Some(FULL));
        }
        recorded.recorder.full_from(None);
        if !recorded.world.runs() {
            recorded.world.serve_with(&[]);
        }
        until("it works when there is room", || {
            let listed = recorded.world.aico(&["conversation", "list"]);
            text(&listed.stdout).contains("Tea").then_some(())
        });
        recorded.world.stop();
        let left = recorded.world.home().join("persons");
        for person in names_in(&left) {
            let names = names_in(&left.join(person));
            assert!(
                !names.iter().any(|name| name.contains(".before-")),
                "{names:?}"
            );
        }
    }
    assert!(failed > 0);
}

/// Stops, starts, and everything is there.
fn whole(mut recorded: Recorded) {
    recorded.world.stop();
    assert!(Path::new(&recorded.path("data")).is_dir());
    recorded.world.serve();
    assert!(
        recorded
            .world
            .said(&["conversation", "search", "medlar"])
            .contains("medlar")
    );
    assert_eq!(recorded.world.chat(None, "Hello")["status"], "complete");
    recorded.world.stop();
}
