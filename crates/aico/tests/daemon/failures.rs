//! What goes wrong has its words, its exit code, and loses nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{World, fails, serve_fails, text};

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

#[test]
fn a_person_is_not_named_to_a_command_that_acts_for_the_owner() {
    let world = World::new();
    world.setup();
    let password = world.path("password");
    let (old, new) = (
        password.to_str().unwrap(),
        world.write("new", "amber window pencil harvest cloud"),
    );
    let change = ["--person", "Nobody", "vault", "password", "--password-file"];
    let change = [
        &change[..],
        &[old, "--new-password-file", new.to_str().unwrap()],
    ]
    .concat();
    fails(&world, &change, 2, "does not go with this command");
    for what in [
        &["store", "check"][..],
        &["vault", "kit", "page.html"],
        &["config", "secret", "list"],
        &["engine", "status", "ollama"],
        &["person", "rekey", "Ben"],
    ] {
        let named = [&["--person", "Nobody"], what].concat();
        fails(&world, &named, 2, "does not go with this command");
    }
}

#[test]
fn what_can_be_told_without_a_password_is_told_before_one_is_asked() {
    let world = World::new();
    let to = world.path("to");
    for what in [
        &["chat", "--once", "Hello"][..],
        &["password"],
        &["export", "--to", to.to_str().unwrap()],
        &["person", "seal"],
        &["person", "unseal"],
        &["person", "export-key"],
    ] {
        let named = [&["--person", "Ben"], what].concat();
        fails(&world, &named, 3, "aico serve --data");
    }
    let nothere = world.path("nothere");
    let nothere = nothere.to_str().unwrap();
    fails(&world, &["backup", "verify", nothere], 13, "not there");
}

#[test]
fn a_new_password_is_one_line() {
    let world = World::new();
    world.write("password", "velvet harbour moss lantern quill\n");
    let done = world.setup();
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(15), "{said}");
    assert!(said.contains("line break"), "{said}");
}

#[test]
fn a_number_of_days_that_would_keep_no_backup_is_refused() {
    let world = World::new();
    for option in ["--keep-daily", "--keep-weekly"] {
        fails(&world, &["backup", "create", option, "0"], 2, option);
    }
}

#[test]
fn json_says_what_there_is_in_characters_that_steer_no_terminal() {
    let world = World::ready();
    let words = "a\u{7f}b\u{9b}31mc\u{202e}d";
    let said = world.chat(None, words);
    let conversation = said["conversation"].as_str().unwrap();
    let shown = world.said(&["conversation", "show", conversation, "--json"]);
    assert!(!shown.contains(['\u{7f}', '\u{9b}', '\u{202e}']), "{shown}");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["messages"][0]["parts"][0]["text"], words);
}

#[test]
fn how_ollama_is_can_be_asked_where_it_is_not_used() {
    let world = World::new();
    let never = ["--set", "ollama.start=never"];
    let said = world.said(&[&never[..], &["engine", "status", "ollama", "--json"]].concat());
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(told["start"], "never");
    assert!(told["running"].is_null() && told["problem"].is_null());
}
