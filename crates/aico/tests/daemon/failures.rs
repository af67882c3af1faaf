//! What goes wrong has its words, its exit code, and loses nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{World, text};

fn fails(world: &World, arguments: &[&str], code: i32, words: &str) {
    let done = world.aico(arguments);
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {said}");
}

fn serve_fails(world: &World, code: i32, words: &str) {
    let password = world.path("password");
    let arguments = [
        "serve",
        "--bind",
        "127.0.0.1:0",
        "--password-file",
        password.to_str().unwrap(),
    ];
    fails(world, &arguments, code, words);
}

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    let world = World::new();
    fails(&world, &["status"], 3, "aico serve");
    fails(&world, &["chat", "--once", "Hello"], 3, "aico serve");
}

#[test]
fn a_wrong_password_opens_nothing() {
    let mut world = World::new();
    world.setup();
    world.serve_with(&[]);
    let wrong = world.write("wrong", "not the right one at all");
    fails(
        &world,
        &["unlock", "--password-file", wrong.to_str().unwrap()],
        5,
        "password is wrong",
    );
    let password = world.path("password");
    world.said(&["unlock", "--password-file", password.to_str().unwrap()]);
}

#[test]
fn a_second_daemon_and_a_taken_port_are_told_apart() {
    let world = World::ready();
    serve_fails(&world, 7, &world.pid().to_string());
    let address = world.said(&["status", "--address"]);
    let port = address
        .trim()
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let other = World::new();
    fails(
        &other,
        &["serve", "--bind", &format!("127.0.0.1:{port}")],
        8,
        "--bind",
    );
}

#[test]
fn a_set_up_folder_is_not_set_up_again() {
    let world = World::new();
    assert!(world.setup().status.success());
    let phrase = fs::read_to_string(world.path("phrase")).unwrap();
    assert_eq!(phrase.split_whitespace().count(), 12);
    let mode = fs::metadata(world.path("phrase"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = world.setup();
    assert_eq!(again.status.code(), Some(18), "{}", text(&again.stderr));
}

#[test]
fn a_folder_open_to_others_is_refused_with_the_command_that_mends_it() {
    let world = World::new();
    world.setup();
    fs::set_permissions(world.data(), fs::Permissions::from_mode(0o755)).unwrap();
    serve_fails(&world, 9, "chmod 700");
    fs::set_permissions(world.data(), fs::Permissions::from_mode(0o700)).unwrap();
    let link = world.path("link");
    std::os::unix::fs::symlink(world.data(), &link).unwrap();
    let linked = std::process::Command::new(env!("CARGO_BIN_EXE_aico"))
        .args(["serve", "--data"])
        .arg(&link)
        .output()
        .unwrap();
    assert_eq!(linked.status.code(), Some(9));
    assert!(
        text(&linked.stderr).contains("symbolic link"),
        "{}",
        text(&linked.stderr)
    );
}

#[test]
fn a_damaged_header_is_told_and_left_alone() {
    let world = World::new();
    world.setup();
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
    }
    fs::remove_file(&path).unwrap();
    serve_fails(&world, 10, "vault.hdr");
    fs::write(&path, whole).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut world = world;
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
            text(&done.stderr).contains("doctor"),
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

#[test]
fn a_message_that_is_too_long_is_refused_and_the_conversation_goes_on() {
    let world = World::ready();
    let conversation = world.chat(None, "Hello")["conversation"]
        .as_str()
        .unwrap()
        .to_owned();
    let long = world.write("long", &"word ".repeat(40_000));
    let long = fs::read_to_string(long).unwrap();
    // Beyond what a command line holds this goes over the same door as the page's.
    let done = world.aico(&[
        "chat",
        "--once",
        &long[..120_000],
        "--conversation",
        &conversation,
    ]);
    assert!(
        matches!(done.status.code(), Some(0 | 14 | 15)),
        "{}",
        text(&done.stderr)
    );
    assert_eq!(
        world.chat(Some(&conversation), "Hello")["status"],
        "complete"
    );
}

#[test]
fn model_files_that_are_none_or_gone_are_told_and_the_starter_stays() {
    let world = World::ready();
    let text_file = world.write("story.gguf", "once upon a time");
    fails(
        &world,
        &["model", "add", text_file.to_str().unwrap()],
        15,
        "",
    );
    let missing = world.path("missing.gguf");
    let gone = world.aico(&["model", "add", missing.to_str().unwrap()]);
    assert!(
        matches!(gone.status.code(), Some(13..=15)),
        "{}",
        text(&gone.stderr)
    );

    let starter = fs::read_dir(world.data().join("models"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let copy = world.path("copy.gguf");
    fs::copy(&starter, &copy).unwrap();
    world.said(&["model", "add", copy.to_str().unwrap()]);
    let listed: serde_json::Value =
        serde_json::from_str(&world.said(&["model", "list", "--json"])).unwrap();
    let added = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["starter"] == false)
        .unwrap();
    let id = added["id"].as_str().unwrap();
    world.said(&["model", "use", id]);
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
    // Cut while it is in use elsewhere: the next start of the process says so.
    let whole = fs::read(&copy).unwrap();
    fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
    let _ = world.aico(&["model", "use", id]);
    let failed = world.aico(&["chat", "--once", "Hello"]);
    assert_eq!(failed.status.code(), Some(14), "{}", text(&failed.stderr));
    let starter_id = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["starter"] == true)
        .unwrap();
    world.said(&["model", "use", starter_id["id"].as_str().unwrap()]);
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
}

#[test]
fn a_wrong_configuration_names_the_key() {
    let world = World::new();
    fails(
        &world,
        &["--set", "gateway.bnd=1", "serve"],
        17,
        "gateway.bind",
    );
    fails(
        &world,
        &["--set", "logging.level=loud", "config", "check"],
        17,
        "logging.level",
    );
    assert!(
        world
            .said(&["config", "explain", "gateway.bind"])
            .contains("127.0.0.1:8771")
    );
}
