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
fn the_owner_can_not_be_sealed() {
    let world = sealed();
    fails(&world, &["person", "seal"], 15, "master password");
    let mia = world.api().sign_in("Mia", PASSWORD);
    let (status, problem) = mia.post("/api/v1/me/seal", &json!({"password": PASSWORD}));
    assert_eq!(
        (status, &problem["code"]),
        (409, &"conflict".into()),
        "{problem}"
    );
}

/// Changes all keys that can be changed without Ben.
fn rotated(world: &World) {
    let (phrase, password) = (path(world, "next-phrase"), path(world, "password"));
    let _ = std::fs::remove_file(&phrase);
    let files = ["--password-file", &password, "--recovery-file", &phrase];
    let done = world.aico(&[&["vault", "rotate", "--compromised"], &files[..]].concat());
    let said = text(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains("1 to come: the keys of who is sealed change"),
        "{said}"
    );
    // It is over: nothing keeps the root key from before.
    let status = world.said(&["vault", "status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    let kinds = status["wraps"].as_array().unwrap();
    assert_eq!(kinds.len(), 2, "{status}");
}

fn waits(world: &World) -> bool {
    let said = world.said(&["vault", "rotate", "--status"]);
    said.contains("1 to come: the keys of who is sealed change")
}

/// Ben's folder.
fn folder(world: &World) -> std::path::PathBuf {
    let all = world.said(&["person", "list", "--json"]);
    let all: Value = serde_json::from_str(&all).unwrap();
    let mut all = all.as_array().unwrap().iter();
    let id = all.find(|one| one["name"] == "Ben").unwrap()["id"]
        .as_str()
        .unwrap();
    world.home().join("persons").join(id.replace('-', ""))
}

/// Epoch of Ben's key and the salt of his database.
fn keyed(world: &World) -> (u32, Vec<u8>) {
    let folder = folder(world);
    let keyring = std::fs::read(folder.join("keyring")).unwrap();
    let epoch = u32::from_be_bytes(keyring[10..14].try_into().unwrap());
    (
        epoch,
        std::fs::read(folder.join("person.db")).unwrap()[..16].to_vec(),
    )
}

fn rekey(world: &World, to: &str) -> std::process::Output {
    let (ben, phrase) = (path(world, "ben"), path(world, to));
    let files = ["--password-file", &ben, "--recovery-file", &phrase];
    world.aico(&[&["person", "rekey", "Ben"], &files[..]].concat())
}

#[test]
fn what_a_change_of_keys_leaves_to_a_sealed_person_waits_for_their_next_sign_in() {
    let mut world = sealed();
    let before = keyed(&world);
    rotated(&world);
    assert!(waits(&world));
    world.stop();
    world.serve();
    assert!(waits(&world), "a start does not forget it");
    assert_eq!(keyed(&world), before, "nobody else can");

    // Who shows no phrase signs in as ever and is told.
    let form = json!({"name": "Ben", "password": BEN});
    let (status, session) = world.api().post("/api/v1/sessions", &form);
    assert_eq!((status, &session["keys_wait"]), (201, &json!(true)));
    assert!(session.get("recovery_phrase").is_none());
    let ben = path(&world, "ben");
    let shown = [
        "--person",
        "Ben",
        "chat",
        "--once",
        "Hello",
        "--password-file",
        &ben,
    ];
    let told = text(&world.aico(&shown).stderr);
    assert!(told.contains("aico person rekey Ben"), "{told}");
    assert!(waits(&world));

    let done = rekey(&world, "new-phrase");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(!waits(&world));
    let after = until("the data follows", || {
        let now = keyed(&world);
        (now.1 != before.1).then_some(now)
    });
    assert_eq!(after.0, before.0 + 1);
    let api = world.api().sign_in("Ben", BEN);
    let (status, found) = finds(&api);
    assert_eq!(status, 200, "{found}");
    assert!(!found["items"].as_array().unwrap().is_empty(), "{found}");
    // Once is enough.
    let again = rekey(&world, "no-phrase");
    assert!(
        text(&again.stderr).contains("No change of keys waits"),
        "{again:?}"
    );
    assert!(!world.path("no-phrase").exists());
    assert_eq!(keyed(&world).0, after.0);

    // The phrase from before opens nothing here any more, the new one does.
    world.write("new", NEW);
    let recover = |phrase: &str| {
        let (phrase, new) = (path(&world, phrase), path(&world, "new"));
        let files = ["--phrase-file", &phrase, "--new-password-file", &new];
        world.aico(&[&["person", "recover", "Ben"], &files[..]].concat())
    };
    let old = recover("ben-phrase");
    assert_eq!(old.status.code(), Some(5), "{}", text(&old.stderr));
    let new = recover("new-phrase");
    assert!(new.status.success(), "{}", text(&new.stderr));
    world.stop();
    world.serve();
    let api = world.api().sign_in("Ben", NEW);
    assert_eq!(finds(&api).0, 200);
}

#[test]
fn killed_before_the_phrase_was_told_it_is_done_once_more() {
    let mut world = sealed();
    rotated(&world);
    let before = keyed(&world);
    world.stop();
    world.set("AICO_TEST_ROTATION_FAULT", "sealed-key");
    world.serve();
    let cut = rekey(&world, "lost-phrase");
    assert!(!cut.status.success());
    world.ended();
    world.set("AICO_TEST_ROTATION_FAULT", "");
    world.serve();
    assert_eq!(keyed(&world).0, before.0 + 1, "it died behind the new key");
    assert!(waits(&world), "nobody was told the phrase");
    let done = rekey(&world, "new-phrase");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(!waits(&world));
    assert_eq!(keyed(&world).0, before.0 + 2);
    until("the data follows", || {
        (keyed(&world).1 != before.1).then_some(())
    });
    let api = world.api().sign_in("Ben", BEN);
    let (status, found) = finds(&api);
    assert_eq!(status, 200, "{found}");
    assert!(!found["items"].as_array().unwrap().is_empty(), "{found}");
}

#[test]
fn recovering_changes_the_keys_that_wait_and_keeps_the_phrase() {
    let world = sealed();
    world.write("new", NEW);
    let before = keyed(&world);
    rotated(&world);
    assert!(waits(&world));
    let recover = || {
        let (phrase, new) = (path(&world, "ben-phrase"), path(&world, "new"));
        let files = ["--phrase-file", &phrase, "--new-password-file", &new];
        world.aico(&[&["person", "recover", "Ben"], &files[..]].concat())
    };
    let done = recover();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(!waits(&world), "it is done, and nobody is told to do it");
    // It follows while they are there, and recovering alone does not keep them.
    let api = world.api().sign_in("Ben", NEW);
    until("the data follows", || {
        let now = keyed(&world);
        (now.1 != before.1).then_some(())
    });
    assert_eq!(keyed(&world).0, before.0 + 1);
    let (status, me) = api.get("/api/v1/me");
    assert_eq!((status, me.get("keys_wait")), (200, None), "{me}");
    let (status, found) = finds(&api);
    assert_eq!(status, 200, "{found}");
    assert!(!found["items"].as_array().unwrap().is_empty(), "{found}");
    // The paper stays good.
    let again = recover();
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!(keyed(&world).0, before.0 + 1, "once");
}

fn check(world: &World, code: i32) -> Vec<Value> {
    let done = world.aico(&["store", "check", "--full", "--json"]);
    assert_eq!(done.status.code(), Some(code), "{}", text(&done.stderr));
    let lines = text(&done.stdout);
    let all = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    all.filter(|one: &Value| one["name"] == "Ben").collect()
}

/// A full check of a person who is away is told to wait for them, and is made when they are there.
fn checked_at_sign_in(world: &World) {
    let log = || world.said(&["logs", "--json"]);
    let made = "what waited of a check for a sealed person is checked";
    let before = log().matches(made).count();
    world.api().sign_in("Ben", BEN);
    until("the rest is checked", || {
        (log().matches(made).count() > before).then_some(())
    });
}

#[test]
fn a_full_check_of_who_is_away_is_made_when_they_sign_in() {
    let mut world = sealed();
    let database = folder(&world).join("person.db");
    world.stop();
    world.serve();
    let found = check(&world, 0);
    let away: Vec<_> = found
        .iter()
        .filter(|one| one["state"] == "locked")
        .collect();
    assert_eq!(away.len(), 2, "keyring and database: {found:?}");
    let told = &away[1]["what_to_do"];
    assert!(told.as_str().unwrap().contains("sign in"), "{found:?}");
    assert!(text(&world.aico(&["store", "check", "--full"]).stdout).contains("when they sign in"));
    checked_at_sign_in(&world);
    let (_, ready) = world.api().get("/readyz");
    assert!(ready.get("degraded").is_none(), "{ready}");

    // Without a key it is seen that a closed file is not the one that was closed.
    world.stop();
    let whole = std::fs::read(&database).unwrap();
    let mut bad = whole.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&database, &bad).unwrap();
    world.serve();
    let found = check(&world, 26);
    assert!(
        found.iter().any(|one| one["state"] == "damaged"),
        "{found:?}"
    );
    std::fs::write(&database, &whole).unwrap();

    // Damaged while they are there, behind what their store has read: found at the next sign-in.
    world.api().sign_in("Ben", BEN);
    world.kill();
    world.serve();
    assert!(check(&world, 0).iter().any(|one| one["state"] == "locked"));
    std::fs::write(&database, &bad).unwrap();
    let form = json!({"name": "Ben", "password": BEN});
    assert_eq!(world.api().post("/api/v1/sessions", &form).0, 201);
    until("it is told", || {
        let (_, ready) = world.api().get("/readyz");
        (ready["degraded"] == json!(["damaged"])).then_some(())
    });
}

#[test]
fn who_is_away_and_was_not_closed_well_keeps_nobody_without_a_backup() {
    let mut world = sealed();
    let ben = world.api().sign_in("Ben", BEN);
    assert_eq!(finds(&ben).0, 200);
    world.kill();
    world.serve();
    // Everybody else's is made, and it is told who is not in it.
    let done = world.aico(&["backup", "create"]);
    let (said, code) = (text(&done.stderr), done.status.code());
    assert!(said.contains("not everybody is in it"), "{said}");
    assert!(said.contains("Ben: this person's data opens"), "{said}");
    assert_eq!(code, Some(10), "{said}");
    let made = text(&done.stdout);
    let checked = crate::backups::verify(&world, std::path::Path::new(made.trim()));
    assert!(checked.contains("Mia"), "{checked}");
    let only_ben = ["backup", "create", "--person", "Ben"];
    fails(&world, &only_ben, 4, "sign in");
    // Once he was there and left, he is in it again.
    let ben = world.api().sign_in("Ben", BEN);
    assert_eq!(finds(&ben).0, 200);
    assert_eq!(ben.call("DELETE", "/api/v1/sessions", None).0, 204);
    until("he is away", || {
        list(&world).contains("Ben  member, sealed\n").then_some(())
    });
    let done = world.aico(&["backup", "create"]);
    assert!(
        !text(&done.stderr).contains("Ben"),
        "{}",
        text(&done.stderr)
    );
    // The one without him has his name, until he is erased.
    let verify = ["backup", "verify", made.trim()];
    let told = crate::backups::opened(&world, &verify);
    assert!(told.contains("Ben is not in this backup"), "{told}");
    let password = path(&world, "password");
    world.said(&["person", "erase", "Ben", "--password-file", &password]);
    let told = crate::backups::opened(&world, &verify);
    assert!(!told.contains("Ben"), "{told}");
}

#[test]
fn what_a_sealed_person_has_is_put_back_alone_and_opens_when_they_sign_in() {
    let mut world = sealed();
    let archive = crate::backups::backup(&world, &[]);
    let database = folder(&world).join("person.db");
    world.stop();
    let mut bytes = std::fs::read(&database).unwrap();
    let half = bytes.len() / 2;
    bytes[half..half + 4096].fill(7);
    std::fs::write(&database, bytes).unwrap();
    let restore = ["--person", "Ben", "restore", archive.to_str().unwrap()];
    let notes = crate::backups::opened(&world, &restore);
    assert!(notes.contains("person.db.before-restore"), "{notes}");
    // Once more, as after an interruption.
    crate::backups::opened(&world, &restore);
    world.serve();
    assert!(
        list(&world).contains("Ben  member, sealed\n"),
        "{}",
        list(&world)
    );
    let ben = world.api().sign_in("Ben", BEN);
    let (status, found) = finds(&ben);
    assert_eq!(status, 200, "{found}");
    assert!(!found["items"].as_array().unwrap().is_empty(), "{found}");
}

#[test]
fn nothing_runs_for_the_programs_of_a_sealed_person_who_is_away() {
    let mut world = sealed();
    let ben = world.api().sign_in("Ben", BEN);
    let form = json!({"name": "Editor"});
    let (status, made) = ben.post("/api/v1/tokens", &form);
    assert_eq!(status, 201, "{made}");
    world.stop();
    world.serve();
    let program = crate::http::Api {
        address: world.api().address,
        token: made["secret"].as_str().unwrap().to_owned(),
    };
    for (path, form) in [
        (
            "/v1/chat/completions",
            json!({"model": "aico", "messages": [{"role": "user", "content": "Hi"}]}),
        ),
        ("/v1/embeddings", json!({"model": "x", "input": "Hi"})),
        ("/api/embed", json!({"model": "x", "input": "Hi"})),
        ("/api/generate", json!({"model": "aico"})),
    ] {
        let (status, told) = program.post(path, &form);
        assert_eq!(status, 423, "{path}: {told}");
    }
}
