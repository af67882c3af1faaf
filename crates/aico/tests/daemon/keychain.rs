//! Starting without a password, against a real GNOME Keyring: stored, restarted, locked, gone,
//! replaced by another, a wrong key in it. Whatever it does, the vault stays as it is.

use std::path::PathBuf;

use serde_json::Value;

use crate::desktop::Desktop;
use crate::support::{World, fails, text};

/// Set up, with the key in the keyring.
fn remembered(test: &str) -> Option<(World, Desktop)> {
    let mut world = World::new();
    let desktop = Desktop::start(test, &mut world)?;
    let done = world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(desktop.items(), 0, "nothing is left in a keychain unasked");
    let said = world.aico(&["vault", "remember", "--password-file", &password(&world)]);
    assert!(said.status.success(), "{}", text(&said.stderr));
    assert!(text(&said.stderr).contains("Secret Service"));
    assert_eq!(desktop.items(), 1);
    Some((world, desktop))
}

fn password(world: &World) -> String {
    world.path("password").to_str().unwrap().to_owned()
}

fn status(world: &World) -> Value {
    let done = world.aico(&["vault", "status", "--json"]);
    serde_json::from_str(&text(&done.stdout)).unwrap()
}

fn header(world: &World) -> Vec<u8> {
    std::fs::read(world.home().join("vault.hdr")).unwrap()
}

/// Everything in the home, by name; what a new root key would change.
fn home(world: &World) -> Vec<PathBuf> {
    let mut all = Vec::new();
    crate::privacy::files(&world.home(), &mut all);
    all.sort();
    all
}

/// A start that waits for the password and says why; and the password opens what was there.
fn waits(world: &mut World, conversation: &str, state: &str, words: &str, code: i32) {
    let (before, files) = (header(world), home(world));
    let line = world.serve_with(&[]);
    assert!(line.contains("locked"), "{line}");
    let log = world.log();
    assert!(log.contains(words), "{state}: {log}");
    let (_, told) = world.api().get("/api/v1/state");
    assert_eq!(told["stage"], "locked");
    assert_eq!(told["keychain"]["state"], state, "{told}");
    fails(world, &["vault", "status"], code, "can't open the vault");
    assert!(header(world) == before, "the header was changed");
    assert_eq!(home(world), files);
    world.said(&["unlock", "--password-file", &password(world)]);
    assert!(
        world
            .said(&["conversation", "show", conversation])
            .contains("walnut")
    );
    let (_, told) = world.api().get("/api/v1/state");
    assert!(told["keychain"].is_null(), "{told}");
    world.stop();
}

#[test]
fn a_real_keyring_opens_the_vault_at_a_restart_and_in_every_other_state_the_password_does() {
    let test =
        "a_real_keyring_opens_the_vault_at_a_restart_and_in_every_other_state_the_password_does";
    let Some((mut world, mut desktop)) = remembered(test) else {
        return;
    };
    // Stored, and restarted: no password anywhere.
    let line = world.serve_with(&[]);
    assert!(line.contains("ready"), "{line}");
    let said = world.chat(None, "Remember the walnut.");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    let all = status(&world);
    let wraps: Vec<_> = all["wraps"].as_array().unwrap().iter().collect();
    let kinds: Vec<_> = wraps.iter().map(|wrap| wrap["kind"].as_str()).collect();
    assert_eq!(
        kinds,
        ["master-password", "recovery-phrase", "keychain"].map(Some)
    );
    assert!(
        wraps.iter().all(|wrap| wrap["made_at"].is_string()),
        "{all}"
    );
    assert_eq!(wraps[2]["backend"], "secret-service");
    assert!(wraps[2]["state"].is_null(), "{all}");
    // As after a crash.
    world.kill();
    let line = world.serve_with(&[]);
    assert!(line.contains("ready"), "{line}");
    // Locking means locked: the keychain opens at a start only.
    world.said(&["lock"]);
    fails(&world, &["conversation", "list"], 4, "locked");
    world.stop();

    desktop.lock();
    waits(&mut world, &conversation, "locked", "it is locked", 20);
    desktop.stop_keyring();
    waits(&mut world, &conversation, "absent", "does not answer", 21);
    // Signed in to the desktop with another password, or before it was asked for one.
    desktop.start_locked();
    waits(&mut world, &conversation, "locked", "it is locked", 20);
    desktop.replace_keyring();
    waits(&mut world, &conversation, "changed", "no longer holds", 22);
    desktop.restore_keyring();
    let line = world.serve_with(&[]);
    assert!(line.contains("ready"), "{line}");
    world.stop();
    // A new key in the keyring in use now.
    desktop.replace_keyring();
    world.said(&["vault", "remember", "--password-file", &password(&world)]);
    let line = world.serve_with(&[]);
    assert!(line.contains("ready"), "{line}");
}

#[test]
fn another_key_in_the_item_is_told_and_forgetting_removes_the_item() {
    let test = "another_key_in_the_item_is_told_and_forgetting_removes_the_item";
    let Some((mut world, desktop)) = remembered(test) else {
        return;
    };
    let item = status(&world)["wraps"][2]["item"]
        .as_str()
        .unwrap()
        .to_owned();
    world.serve_with(&[]);
    let said = world.chat(None, "Remember the walnut.");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    world.stop();
    desktop.set(&item, &"ab".repeat(32));
    waits(&mut world, &conversation, "wrong", "another one", 23);
    desktop.set(&item, "a password");
    waits(&mut world, &conversation, "wrong", "is no key", 23);

    // The daemon's own way; a wrong password changes nothing.
    world.serve();
    let wrong = world.write("wrong", "not the master password at all");
    let forget = [
        "vault",
        "forget",
        "--password-file",
        wrong.to_str().unwrap(),
    ];
    fails(&world, &forget, 5, "password is wrong");
    assert_eq!(desktop.items(), 1);
    world.said(&["vault", "forget", "--password-file", &password(&world)]);
    assert_eq!(desktop.items(), 0);
    assert_eq!(status(&world)["wraps"].as_array().unwrap().len(), 2);
    world.stop();
    let line = world.serve_with(&[]);
    assert!(line.contains("locked"), "{line}");
    let (_, told) = world.api().get("/api/v1/state");
    assert!(told["keychain"].is_null(), "nothing is kept: {told}");
}

#[test]
fn a_locked_keyring_takes_no_key_and_nothing_changes() {
    let test = "a_locked_keyring_takes_no_key_and_nothing_changes";
    let mut world = World::new();
    let Some(mut desktop) = Desktop::start(test, &mut world) else {
        return;
    };
    assert!(world.setup().status.success());
    let before = header(&world);
    let remember = ["vault", "remember", "--password-file", &password(&world)];
    desktop.lock();
    fails(&world, &remember, 20, "locked");
    // Offline above, through the daemon here.
    world.serve();
    fails(&world, &remember, 20, "locked");
    desktop.stop_keyring();
    let named = [&remember[..], &["--in", "secret-service"]].concat();
    fails(&world, &named, 21, "does not answer");
    let unknown = [&remember[..], &["--in", "pocket"]].concat();
    fails(&world, &unknown, 13, "no");
    assert!(header(&world) == before);
}
