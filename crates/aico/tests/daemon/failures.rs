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
