//! Files that were damaged, cut, exchanged, put back or lost behind AICO's back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backups::backup;
use crate::support::{World, fails, serve_fails, text};

#[test]
fn a_damaged_header_is_told_and_left_alone() {
    let mut world = World::ready();
    let archive = backup(&world, &[]);
    world.stop();
    let restore = format!("aico restore '{}'", archive.display());
    let path = world.home().join("vault.hdr");
    let whole = fs::read(&path).unwrap();
    for (name, damaged) in [
        (
            "flipped",
            whole
                .iter()
                .enumerate()
                .map(|(i, b)| if i == 100 { b ^ 1 } else { *b })
                .collect(),
        ),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("empty", Vec::new()),
    ] {
        fs::write(&path, &damaged).unwrap();
        serve_fails(&world, 10, "vault.hdr");
        assert_eq!(fs::read(&path).unwrap(), damaged, "{name}: it was changed");
        let again = world.setup();
        assert_eq!(
            again.status.code(),
            Some(18),
            "{name}: no new vault over data"
        );
        let doctor = world.aico(&["doctor"]);
        assert_eq!(
            doctor.status.code(),
            Some(19),
            "{name}: {}",
            text(&doctor.stdout)
        );
        assert!(text(&doctor.stdout).contains(&restore), "{name}");
    }
    fs::remove_file(&path).unwrap();
    serve_fails(&world, 10, "vault.hdr");
    assert!(text(&world.aico(&["doctor"]).stdout).contains(&restore));
    // Where no backup is at hand.
    fs::rename(&archive, world.path("away")).unwrap();
    assert!(text(&world.aico(&["doctor"]).stdout).contains("aico restore FILE"));
    fs::write(&path, whole).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    world.serve();
}

#[test]
fn a_database_that_is_cut_emptied_gone_or_exchanged_is_noticed() {
    let mut world = World::ready();
    let conversation = world.chat(None, "Hello")["conversation"]
        .as_str()
        .unwrap()
        .to_owned();
    world.stop();
    let system = world.home().join("system.db");
    let person = fs::read_dir(world.home().join("persons"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let person = person.path().join("person.db");
    let (whole_system, whole_person) = (fs::read(&system).unwrap(), fs::read(&person).unwrap());
    for (name, content) in [
        ("cut", whole_system[..whole_system.len() - 4096].to_vec()),
        ("emptied", Vec::new()),
        ("exchanged", whole_person.clone()),
        (
            "flipped",
            whole_system
                .iter()
                .enumerate()
                .map(|(i, b)| if i == 5000 { b ^ 1 } else { *b })
                .collect(),
        ),
    ] {
        fs::write(&system, &content).unwrap();
        let done = world.aico(&[
            "serve",
            "--bind",
            "127.0.0.1:0",
            "--password-file",
            world.path("password").to_str().unwrap(),
        ]);
        assert_eq!(
            done.status.code(),
            Some(10),
            "{name}: {}",
            text(&done.stderr)
        );
        assert!(
            text(&done.stderr).contains("system.db"),
            "{name}: {}",
            text(&done.stderr)
        );
    }
    fs::write(&system, &whole_system).unwrap();

    // A person's: the daemon runs, and that person is told.
    for (name, content) in [
        ("cut", whole_person[..whole_person.len() - 4096].to_vec()),
        ("emptied", Vec::new()),
        ("exchanged", whole_system.clone()),
    ] {
        fs::write(&person, &content).unwrap();
        world.serve();
        let done = world.aico(&["conversation", "list"]);
        assert!(!done.status.success(), "{name}");
        assert!(
            text(&done.stderr).contains("No backup holds"),
            "{name}: {}",
            text(&done.stderr)
        );
        world.stop();
    }
    fs::write(&person, &whole_person).unwrap();
    world.serve();
    assert!(
        world
            .said(&["conversation", "show", &conversation])
            .contains("Hello")
    );
}

#[test]
fn an_older_copy_and_a_lost_log_of_writes_are_noticed() {
    let mut world = World::ready();
    world.chat(None, "Hello");
    world.stop();
    let system = world.home().join("system.db");
    let old = fs::read(&system).unwrap();
    let file = world.write("ben", "copper meadow trumpet glass violin");
    world.serve();
    world.said(&[
        "person",
        "add",
        "Ben",
        "--password-file",
        file.to_str().unwrap(),
    ]);
    world.stop();
    let new = fs::read(&system).unwrap();
    fs::write(&system, &old).unwrap();
    serve_fails(&world, 10, "system.db");
    fs::write(&system, &new).unwrap();

    world.serve();
    world.said(&[
        "person",
        "remove",
        "Ben",
        "--password-file",
        world.path("password").to_str().unwrap(),
    ]);
    world.kill();
    for ending in ["-wal", "-shm"] {
        let _ = fs::remove_file(world.home().join(format!("system.db{ending}")));
    }
    serve_fails(&world, 10, "system.db");
}

/// The store of the one person of this home.
fn person_db(world: &World) -> PathBuf {
    let person = fs::read_dir(world.home().join("persons"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    person.path().join("person.db")
}

fn log_of(database: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", database.display()))
}

/// Waits until the files have not changed for a second.
fn settled(files: &[&Path]) {
    let state = || -> Vec<_> {
        let of = |file: &&Path| {
            let metadata = fs::metadata(file).unwrap();
            (metadata.len(), metadata.modified().unwrap())
        };
        files.iter().map(of).collect()
    };
    let (mut seen, mut since) = (state(), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(20));
        let now = state();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

#[test]
fn a_log_of_writes_that_was_cut_is_noticed_and_whole_it_opens() {
    let mut world = World::ready();
    let said = world.chat(None, "Hello");
    let conversation = said["conversation"].as_str().unwrap();
    let person = person_db(&world);
    let system = world.home().join("system.db");
    // What is on its way (an event marked as published) ends first: a commit that a kill
    // separates from its note in the registry was not acknowledged, and may be cut unnoticed.
    settled(&[&log_of(&system), &log_of(&person)]);
    world.kill();
    for (database, is_system) in [(&system, true), (&person, false)] {
        let log = log_of(database);
        let (whole, base) = (fs::read(&log).unwrap(), fs::read(database).unwrap());
        assert!(
            whole.len() > 4096,
            "{} is empty: nothing to cut",
            log.display()
        );
        // To nothing, in the middle of a page, and by one page.
        for length in [0, whole.len() / 2, whole.len() - 4096 - 24] {
            fs::write(&log, &whole[..length]).unwrap();
            let _ = fs::remove_file(format!("{}-shm", database.display()));
            if is_system {
                serve_fails(&world, 10, "system.db");
            } else {
                world.serve();
                fails(
                    &world,
                    &["conversation", "show", conversation],
                    10,
                    "person.db",
                );
                world.kill();
            }
            // Nothing was folded in before it was refused.
            assert!(
                fs::read(database).unwrap() == base,
                "cut to {length}: it was changed"
            );
            fs::write(&log, &whole).unwrap();
        }
    }
    world.serve();
    let shown = world.said(&["conversation", "show", conversation, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["messages"][1]["parts"][0]["text"], said["text"]);
}
