//! Sealed persons: their data opens while they are signed in, and with nothing else.

use aico_vault::{Password, PersonKeyError, Vault};
use serde_json::{Value, json};

use crate::support::{PASSWORD, World, fails, text, until};

const BEN: &str = "copper Ben meadow trumpet glass";
const NEW: &str = "orbit candle walnut harp";

fn path(world: &World, name: &str) -> String {
    world.path(name).to_str().unwrap().to_owned()
}

/// Mia and Ben, who has said something and is sealed; his phrase is in a file.
fn sealed() -> World {
    let world = World::ready();
    world.write("ben", BEN);
    let ben = path(&world, "ben");
    world.said(&["person", "add", "Ben", "--password-file", &ben]);
    world.said(&[
        "--person",
        "Ben",
        "chat",
        "--once",
        "a word of mine: quince",
        "--password-file",
        &ben,
    ]);
    let phrase = path(&world, "ben-phrase");
    let arguments = ["person", "seal", "Ben", "--password-file", &ben];
    fails(&world, &arguments, 2, "--yes");
    let done = world.aico(&[&arguments[..], &["--yes", "--recovery-file", &phrase]].concat());
    let said = text(&done.stderr);
    assert!(done.status.success(), "{said}");
    // What it means is said before it is done.
    let (meaning, outcome) = (
        said.find("loses everything").unwrap(),
        said.find("Sealed.").unwrap(),
    );
    assert!(meaning < outcome);
    world
}

fn list(world: &World) -> String {
    world.said(&["person", "list"])
}

fn finds(api: &crate::http::Api) -> (u16, Value) {
    api.get("/api/v1/search?q=quince")
}

#[test]
fn a_sealed_person_is_open_while_signed_in_and_locked_afterwards() {
    let mut world = sealed();
    assert!(
        list(&world).contains("Ben  member, sealed\n"),
        "{}",
        list(&world)
    );
    // What is asked for in their name meanwhile hears why not, as a type.
    let ben = world.api().sign_in("Ben", BEN);
    assert!(
        list(&world).contains("sealed, signed in"),
        "{}",
        list(&world)
    );
    let (status, found) = finds(&ben);
    assert_eq!(status, 200, "{found}");
    assert!(!found["items"].as_array().unwrap().is_empty(), "{found}");
    let other = world.api().sign_in("Ben", BEN);
    assert_eq!(
        other.call("DELETE", "/api/v1/sessions/current", None).0,
        204
    );
    assert_eq!(finds(&ben).0, 200, "one session is left");

    // After a restart the session counts and opens nothing.
    world.stop();
    world.serve();
    let ben = crate::http::Api {
        address: world.api().address,
        token: ben.token,
    };
    assert_eq!(ben.get("/api/v1/me").0, 200);
    let (status, problem) = finds(&ben);
    assert_eq!(
        (status, &problem["code"]),
        (423, &"person-locked".into()),
        "{problem}"
    );
    let again = world.api().sign_in("Ben", BEN);
    assert_eq!(
        finds(&ben).0,
        200,
        "they are signed in: all their sessions work"
    );
    for api in [&again, &ben] {
        assert_eq!(api.call("DELETE", "/api/v1/sessions/current", None).0, 204);
    }
    until("locked when the last session has ended", || {
        list(&world).contains("Ben  member, sealed\n").then_some(())
    });
    // The owner goes on as ever.
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
    world.stop();
}

#[test]
fn with_the_master_password_and_the_disk_a_sealed_persons_data_does_not_open() {
    let mut world = sealed();
    world.stop();
    let password = Password::new(PASSWORD).unwrap();
    let vault = Vault::unlock(&world.home(), &password).unwrap();
    let mut sealed = 0;
    for name in std::fs::read_dir(world.home().join("persons")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        let id: Vec<u8> = (0..16)
            .map(|at| u8::from_str_radix(&name[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        let id: [u8; 16] = id.try_into().unwrap();
        match vault.open_person(id) {
            Ok(_) => {}
            Err(PersonKeyError::Sealed { .. }) => {
                sealed += 1;
                assert!(vault.open_person_with_password(id, &password).is_err());
                let own = Password::new(BEN).unwrap();
                vault.open_person_with_password(id, &own).unwrap();
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(sealed, 1);
}

#[test]
fn their_own_phrase_recovers_them_and_unsealing_ends_it() {
    let mut world = sealed();
    world.write("new", NEW);
    let recover = |phrase: &str| {
        world.aico(&[
            "person",
            "recover",
            "Ben",
            "--phrase-file",
            &path(&world, phrase),
            "--new-password-file",
            &path(&world, "new"),
        ])
    };
    // The vault's own phrase is not theirs.
    let other = recover("phrase");
    assert_eq!(other.status.code(), Some(5), "{}", text(&other.stderr));
    let done = recover("ben-phrase");
    assert!(done.status.success(), "{}", text(&done.stderr));
    let ben = world.api().sign_in("Ben", NEW);
    assert_eq!(finds(&ben).0, 200);
    let (status, _) = world
        .api()
        .post("/api/v1/sessions", &json!({"name": "Ben", "password": BEN}));
    assert_eq!(status, 401, "the old password");
    let new = path(&world, "new");
    world.said(&["person", "unseal", "Ben", "--password-file", &new]);
    assert!(list(&world).contains("Ben  member\n"), "{}", list(&world));
    let after = recover("ben-phrase");
    assert_eq!(after.status.code(), Some(5), "{}", text(&after.stderr));
    // Works unattended again: nobody has to sign in after a restart.
    let token = ben.token;
    world.stop();
    world.serve();
    let ben = crate::http::Api {
        address: world.api().address,
        token,
    };
    assert_eq!(finds(&ben).0, 200);
}

#[test]
fn the_owner_can_not_be_sealed_and_rotation_passes_over_who_is_locked() {
    let world = sealed();
    fails(&world, &["person", "seal"], 15, "master password");
    let mia = world.api().sign_in("Mia", PASSWORD);
    let (status, problem) = mia.post("/api/v1/me/seal", &json!({"password": PASSWORD}));
    assert_eq!(
        (status, &problem["code"]),
        (409, &"conflict".into()),
        "{problem}"
    );
    let phrase = path(&world, "next-phrase");
    let password = path(&world, "password");
    let done = world.aico(&[
        "vault",
        "rotate",
        "--compromised",
        "--password-file",
        &password,
        "--recovery-file",
        &phrase,
    ]);
    let said = text(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains("1 sealed: only they can change their key"),
        "{said}"
    );
    let ben = world.api().sign_in("Ben", BEN);
    let (status, found) = finds(&ben);
    assert_eq!(status, 200, "{found}");
    assert!(!found["items"].as_array().unwrap().is_empty(), "{found}");
}
