//! A family: four persons at once, each with what is theirs.

use serde_json::Value;

use crate::support::{World, done, text};

const NAMES: [&str; 3] = ["Ben", "Clara", "Dan"];

fn add(world: &World, name: &str) -> String {
    let file = world.write(
        &format!("password-{name}"),
        &format!("copper {name} meadow trumpet glass"),
    );
    let file = file.to_str().unwrap().to_owned();
    world.said(&["person", "add", name, "--password-file", &file]);
    file
}

#[test]
fn four_persons_talk_at_once_and_none_sees_anothers() {
    let world = World::ready();
    let files: Vec<_> = NAMES.iter().map(|name| add(&world, name)).collect();
    let secrets = ["quartzmia", "quartzben", "quartzclara", "quartzdan"];
    // All at once.
    let mut talks = vec![world.command(&[
        "chat",
        "--json",
        "--once",
        &format!("I like {}", secrets[0]),
    ])];
    for (index, name) in NAMES.iter().enumerate() {
        talks.push(world.command(&[
            "--person",
            name,
            "chat",
            "--json",
            "--once",
            &format!("I like {}", secrets[index + 1]),
            "--password-file",
            &files[index],
        ]));
    }
    let running: Vec<_> = talks
        .iter_mut()
        .map(|talk| talk.stdout(std::process::Stdio::piped()).spawn().unwrap())
        .collect();
    let ended: Vec<_> = running
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .collect();
    let ids: Vec<String> = ended
        .iter()
        .map(|output| {
            let event = done(&text(&output.stdout));
            event["conversation"].as_str().unwrap().to_owned()
        })
        .collect();
    for (me, output) in ended.iter().enumerate() {
        for (other, secret) in secrets.iter().enumerate() {
            let seen = text(&output.stdout).contains(secret);
            assert!(me == other || !seen, "{me} was told what {other} said");
        }
    }

    // The owner's own list has the owner's conversation and no other; the others' ids do not
    // exist for the owner.
    let mine = world.said(&["conversation", "list", "--json"]);
    let mine: Value = serde_json::from_str(&mine).unwrap();
    assert_eq!(mine.as_array().unwrap().len(), 1);
    for id in &ids[1..] {
        let theirs = world.aico(&["conversation", "show", id]);
        let nobodys = world.aico(&[
            "conversation",
            "show",
            "00000000-0000-7000-8000-000000000000",
        ]);
        assert_eq!(theirs.status.code(), Some(13));
        assert_eq!(
            text(&theirs.stderr),
            text(&nobodys.stderr),
            "the answers differ"
        );
        assert_eq!(
            world.aico(&["conversation", "delete", id]).status.code(),
            Some(13)
        );
        let go_on = world.aico(&["chat", "--once", "Hello", "--conversation", id]);
        assert_eq!(go_on.status.code(), Some(13));
    }
    let found = world.said(&["conversation", "search", "quartz"]);
    assert!(found.lines().count() >= 2, "title and text: {found}");
    assert!(
        found.lines().all(|line| line.starts_with(&ids[0])),
        "{found}"
    );
}

#[test]
fn a_removed_person_is_gone_with_all_that_was_theirs() {
    let world = World::ready();
    let file = add(&world, "Ben");
    world.said(&[
        "--person",
        "Ben",
        "chat",
        "--once",
        "Hello",
        "--password-file",
        &file,
    ]);
    let persons = world.home().join("persons");
    assert_eq!(std::fs::read_dir(&persons).unwrap().count(), 2);

    let wrong = world.aico(&["person", "remove", "Ben", "--password-file", &file]);
    assert_eq!(
        wrong.status.code(),
        Some(5),
        "the master password is asked for"
    );
    let master = world.path("password");
    world.said(&[
        "person",
        "remove",
        "Ben",
        "--password-file",
        master.to_str().unwrap(),
    ]);
    assert_eq!(std::fs::read_dir(&persons).unwrap().count(), 1);
    let listed = world.said(&["person", "list"]);
    assert!(!listed.contains("Ben"), "{listed}");
    let back = world.aico(&[
        "--person",
        "Ben",
        "chat",
        "--once",
        "Hello",
        "--password-file",
        &file,
    ]);
    assert_eq!(back.status.code(), Some(5));
    // The owner is untouched.
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
}

#[test]
fn names_are_one_for_all_and_passwords_have_a_floor() {
    let world = World::ready();
    add(&world, "Ben");
    let file = world.write("again", "another copper meadow trumpet");
    let again = world.aico(&[
        "person",
        "add",
        "BEN",
        "--password-file",
        file.to_str().unwrap(),
    ]);
    assert_eq!(again.status.code(), Some(15), "{}", text(&again.stderr));
    for weak in ["short", "password1234", "aaaaaaaaaaaaaaaa"] {
        let file = world.write("weak", weak);
        let refused = world.aico(&[
            "person",
            "add",
            "Eve",
            "--password-file",
            file.to_str().unwrap(),
        ]);
        assert_eq!(
            refused.status.code(),
            Some(15),
            "{weak}: {}",
            text(&refused.stderr)
        );
    }
}
