//! A disk that fails under the running daemon: it can only be read, does not sync, or is slow
//! (rows 3 and 9). A full one is a real one: `full_disk.rs`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backups::{add_ben, backup, names_in, verify};
use crate::http::Api;
use crate::interpose::{Fault, FaultyDisk};
use crate::support::{PASSWORD, World, fails, send, text, until};

const BEN: &str = "copper ben meadow trumpet glass";
const CONVERSATIONS: &str = "/api/v1/conversations";

/// Mia and Ben, nobody of whom has been there since the start; the folder of each.
struct Family {
    world: World,
    disk: FaultyDisk,
    mia: PathBuf,
    mia_api: Api,
    ben_api: Api,
}

impl Family {
    fn at_home() -> Self {
        let mut world = World::new();
        let disk = FaultyDisk::under(&mut world);
        let done = world.setup();
        assert!(done.status.success(), "{}", text(&done.stderr));
        world.serve();
        let persons = world.home().join("persons");
        let mia = persons.join(&names_in(&persons)[0]);
        add_ben(&world);
        world.stop();
        world.serve();
        let mia_api = world.api().sign_in("Mia", PASSWORD);
        let ben_api = world.api().sign_in("Ben", BEN);
        Self {
            world,
            disk,
            mia,
            mia_api,
            ben_api,
        }
    }

    fn degraded(&self) -> Value {
        let (status, ready) = self.mia_api.get("/readyz");
        assert_eq!(status, 200, "{ready}");
        ready.get("degraded").cloned().unwrap_or_default()
    }

    fn well_again(&self) {
        until("nothing is degraded", || {
            self.degraded().is_null().then_some(())
        });
    }
}

fn messages(world: &World, conversation: &str) -> Value {
    let shown = world.said(&["conversation", "show", conversation, "--json"]);
    serde_json::from_str::<Value>(&shown).unwrap()["messages"].clone()
}

/// An error of the disk, told as one.
fn failing(status: u16, problem: &Value) -> bool {
    (status, &problem["code"]) == (500, &"storage-failing".into())
}

#[test]
fn while_it_can_only_be_read_reading_goes_on_and_it_recovers_without_a_restart() {
    let mut family = Family::at_home();
    let said = family.world.chat(None, "Hello");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    until("what follows an answer is stored", || {
        let all = messages(&family.world, &conversation);
        (all[1]["status"] == "complete").then_some(())
    });
    let before = messages(&family.world, &conversation);
    backup(&family.world, &[]);
    family.world.stop();
    family.world.serve();
    family.mia_api = family.world.api().sign_in("Mia", PASSWORD);
    family.ben_api = family.world.api().sign_in("Ben", BEN);
    assert_eq!(messages(&family.world, &conversation), before);

    let (_, token) = family
        .mia_api
        .post("/api/v1/tokens", &json!({"name": "Editor"}));
    let program = Api {
        address: family.mia_api.address.clone(),
        token: token["secret"].as_str().unwrap().to_owned(),
    };
    assert_eq!(program.get("/v1/models").0, 200);
    family.disk.fails(Fault::ReadOnly, &family.world.data());
    let path = format!("{CONVERSATIONS}/{conversation}/messages");
    let (status, problem) = family.mia_api.post(&path, &json!({"text": "Hello"}));
    assert_eq!(
        (status, &problem["code"]),
        (507, &"storage-read-only".into()),
        "{problem}"
    );
    assert!(problem["what_to_do"].is_string(), "{problem}");
    // It is revoked here at once, and there once the disk hears of it.
    let revoked = format!("/api/v1/tokens/{}", token["token"]["id"].as_str().unwrap());
    assert_eq!(family.mia_api.call("DELETE", &revoked, None).0, 507);
    assert_eq!(program.get("/v1/models").0, 401);
    let ben = json!({"name": "Lin", "password": "pepper saddle comet drizzle"});
    let (status, problem) = family.mia_api.post("/api/v1/persons", &ben);
    assert_eq!(
        (status, &problem["code"]),
        (507, &"storage-read-only".into()),
        "{problem}"
    );
    // Not open yet, and not damaged for that.
    let (status, problem) = family.ben_api.get(CONVERSATIONS);
    assert_eq!(
        (status, &problem["code"]),
        (507, &"storage-read-only".into()),
        "{problem}"
    );
    assert_eq!(family.degraded(), json!(["storage-read-only"]));
    let chat = ["chat", "--once", "Hello", "--conversation", &conversation];
    fails(&family.world, &chat, 25, "can only be read");
    let told = family.world.aico(&["status"]);
    assert!(
        text(&told.stderr).contains("can only be read"),
        "{}",
        text(&told.stderr)
    );
    assert_eq!(messages(&family.world, &conversation), before);
    let found = family.world.said(&["conversation", "search", "hello"]);
    assert!(found.contains(&conversation), "{found}");
    // A backup to another disk can be made, of all that can be read: Ben's would have to be opened.
    let stick = family.world.path("stick");
    let to = ["backup", "create", "--to", stick.to_str().unwrap()];
    let made = family.world.aico(&to);
    let told = text(&made.stderr);
    assert_eq!(made.status.code(), Some(10), "{told}");
    assert!(told.contains("Ben"), "{told}");
    let checked = verify(&family.world, Path::new(text(&made.stdout).trim()));
    assert!(checked.contains("Mia"), "{checked}");
    assert!(names_in(&stick).iter().all(|name| !name.starts_with('.')));

    family.disk.mend();
    family.well_again();
    let more = family.world.chat(Some(&conversation), "Hello again");
    assert_eq!(more["status"], "complete");
    let (status, theirs) = family.ben_api.post(CONVERSATIONS, &json!({}));
    assert_eq!(status, 201, "{theirs}");
    let (status, added) = family.mia_api.post("/api/v1/persons", &ben);
    assert_eq!(status, 201, "{added}");
    assert_eq!(family.mia_api.call("DELETE", &revoked, None).0, 204);
    let now = messages(&family.world, &conversation);
    family.world.stop();
    family.world.serve();
    assert_eq!(messages(&family.world, &conversation), now);
    assert_eq!(family.world.said(&["token", "list", "--json"]).trim(), "[]");
    family.world.said(&["store", "check", "--full"]);
}

#[test]
fn a_registry_that_could_not_be_synced_is_written_anew_when_it_can() {
    let mut family = Family::at_home();
    family
        .disk
        .fails(Fault::NoSync, &family.world.home().join("registry"));
    let (status, problem) = family.mia_api.post(CONVERSATIONS, &json!({}));
    assert!(failing(status, &problem), "{status} {problem}");
    let (status, problem) = family.mia_api.post(CONVERSATIONS, &json!({}));
    assert!(failing(status, &problem), "{status} {problem}");
    family.disk.mend();
    until("it is written again", || {
        (family.mia_api.post(CONVERSATIONS, &json!({})).0 == 201).then_some(())
    });
    let (status, theirs) = family.ben_api.post(CONVERSATIONS, &json!({}));
    assert_eq!(status, 201, "{theirs}");
    family.world.said(&["store", "check", "--full"]);
    family.world.kill();
    family.world.serve();
    family.world.said(&["store", "check", "--full"]);
}

#[test]
fn without_room_for_the_journal_or_the_log_conversations_go_on() {
    let mut family = Family::at_home();
    let folders = [
        family.world.home().join("journal"),
        family.world.data().join("logs"),
    ];
    for folder in folders {
        family.disk.fails(Fault::Full, &folder);
        let said = family.world.chat(None, "Hello");
        assert_eq!(said["status"], "complete", "{}", folder.display());
        assert!(family.degraded().is_null(), "{}", family.degraded());
    }
    family.disk.mend();
    assert_eq!(family.world.chat(None, "Hello")["status"], "complete");
    family.world.said(&["store", "check", "--full"]);
    family.world.stop();
    family.world.serve();
    family.world.said(&["store", "check", "--full"]);
}

#[test]
fn a_slow_commit_holds_up_nobody_elses_and_what_waits_too_long_is_told() {
    let family = Family::at_home();
    let model = family.world.children();
    for api in [&family.mia_api, &family.ben_api] {
        assert_eq!(api.post(CONVERSATIONS, &json!({})).0, 201);
    }
    let count = |api: &Api| {
        let (status, all) = api.get(CONVERSATIONS);
        assert_eq!(status, 200, "{all}");
        all["items"].as_array().unwrap().len()
    };
    let slow = Duration::from_secs(13);
    family.disk.fails(Fault::Slow(slow), &family.mia);
    std::thread::scope(|scope| {
        let begun = Instant::now();
        let first = scope.spawn(|| family.mia_api.post(CONVERSATIONS, &json!({})));
        std::thread::sleep(Duration::from_secs(1));
        let second = scope.spawn(|| {
            family
                .mia_api
                .call_with("POST", CONVERSATIONS, Some(&json!({})), "")
        });
        // Meanwhile: her own reads, and everything of others.
        let mut told = false;
        while begun.elapsed() < Duration::from_secs(6) {
            let one = Instant::now();
            assert_eq!(count(&family.mia_api), 1);
            let (status, theirs) = family.ben_api.post(CONVERSATIONS, &json!({}));
            assert_eq!(status, 201, "{theirs}");
            assert!(one.elapsed() < Duration::from_secs(5), "held up");
            told |= family.degraded() == json!(["storage-slow"]);
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(told, "nobody says that it is slow: {}", family.degraded());
        let status = family.world.aico(&["status"]);
        assert!(
            text(&status.stderr).contains("The disk is slow"),
            "{}",
            text(&status.stderr)
        );
        let (head, status, problem) = second.join().unwrap();
        assert_eq!((status, &problem["code"]), (503, &"busy".into()), "{head}");
        assert!(head.to_lowercase().contains("retry-after:"), "{head}");
        assert!(begun.elapsed() < slow, "it waited for the first");
        family.disk.mend();
        let (status, made) = first.join().unwrap();
        assert_eq!(status, 201, "{made}");
        assert!(begun.elapsed() >= slow, "nothing was slow");
    });
    // What was told to be busy was not done.
    assert_eq!(count(&family.mia_api), 2);
    assert_eq!(family.mia_api.post(CONVERSATIONS, &json!({})).0, 201);
    family.well_again();
    assert_eq!(family.world.children(), model, "something was restarted");
}

#[test]
fn locking_comes_to_its_end_also_when_nobody_waits_for_it() {
    let family = Family::at_home();
    assert_eq!(family.mia_api.post(CONVERSATIONS, &json!({})).0, 201);
    (family.disk).fails(Fault::Slow(Duration::from_secs(2)), &family.mia);
    let asked = family.mia_api.send("POST", "/api/v1/lock", None, "");
    let stage = || family.mia_api.get("/api/v1/state").1["stage"].clone();
    until("it locks", || (stage() == "locked").then_some(()));
    drop(asked);
    let password = family.world.path("password");
    let unlock = ["unlock", "--password-file", password.to_str().unwrap()];
    family.world.said(&unlock);
    family.disk.mend();
    let mia = family.world.api().sign_in("Mia", PASSWORD);
    assert_eq!(mia.get(CONVERSATIONS).0, 200);
}

/// Its code is the signal's, also while a thread of a store hangs in a sync.
#[test]
fn who_asks_twice_to_stop_is_obeyed_at_once() {
    let mut family = Family::at_home();
    family.mia_api.post(CONVERSATIONS, &json!({}));
    let hangs = Duration::from_secs(60);
    family.disk.fails(Fault::Slow(hangs), &family.mia);
    let _asked = (family.mia_api).send("POST", CONVERSATIONS, Some(&json!({})), "");
    until("the sync hangs", || {
        (family.degraded() == json!(["storage-slow"])).then_some(())
    });
    let (pid, begun) = (family.world.pid(), Instant::now());
    send(pid, "TERM");
    send(pid, "INT");
    let status = family.world.ended();
    assert!(begun.elapsed() < hangs / 4, "it waited for the disk");
    assert!(matches!(status.code(), Some(130 | 143)), "{status}");
    let log = family.world.log();
    assert!(log.contains("stopped at once"), "{log}");
    family.disk.mend();
    family.world.serve();
    family.world.said(&["store", "check", "--full"]);
}

#[test]
fn the_opening_of_one_persons_store_holds_up_nobody_else() {
    let family = Family::at_home();
    assert_eq!(family.ben_api.get(CONVERSATIONS).0, 200);
    let slow = Duration::from_secs(7);
    // The registry notes each opening, and nothing else happens meanwhile.
    family.disk.fails(Fault::Slow(slow), &family.world.home());
    std::thread::scope(|scope| {
        let begun = Instant::now();
        let opening = scope.spawn(|| family.mia_api.get(CONVERSATIONS));
        while begun.elapsed() < slow / 3 {
            let one = Instant::now();
            assert_eq!(family.ben_api.get(CONVERSATIONS).0, 200);
            family.degraded();
            assert!(one.elapsed() < slow / 2, "held up");
            std::thread::sleep(Duration::from_millis(100));
        }
        family.disk.mend();
        let (status, opened) = opening.join().unwrap();
        assert!(status == 200 || opened["code"] == "busy", "{opened}");
        assert!(begun.elapsed() >= slow, "nothing was slow");
    });
    until("it is open", || {
        (family.mia_api.get(CONVERSATIONS).0 == 200).then_some(())
    });
}

#[test]
fn who_meets_a_database_that_changes_places_is_told_when_to_come_again() {
    let family = Family::at_home();
    let world = &family.world;
    assert_eq!(family.mia_api.post(CONVERSATIONS, &json!({})).0, 201);
    family.disk.fails(
        Fault::SlowSwap(Duration::from_secs(13)),
        &family.mia.join("person.db"),
    );
    let rotate = ["vault", "rotate", "--person", "Mia"];
    let file = world.path("password");
    let mut rotating = world
        .command(&[&rotate[..], &["--password-file", file.to_str().unwrap()]].concat())
        .spawn()
        .unwrap();
    let (head, problem) = until("the database changes places", || {
        let one = Instant::now();
        let (head, status, body) = family.mia_api.call_with("GET", CONVERSATIONS, None, "");
        assert!(one.elapsed() < Duration::from_secs(12), "it waits for ever");
        (status != 200).then_some((head, body))
    });
    assert!(head.starts_with("HTTP/1.1 503"), "{head} {problem}");
    assert_eq!(problem["code"], "busy", "{problem}");
    assert!(head.to_lowercase().contains("retry-after:"), "{head}");
    // Others don't meet it.
    assert_eq!(family.ben_api.get(CONVERSATIONS).0, 200);
    family.disk.mend();
    assert!(rotating.wait().unwrap().success());
    until("it is there again", || {
        (family.mia_api.get(CONVERSATIONS).0 == 200).then_some(())
    });
    assert_eq!(family.mia_api.post(CONVERSATIONS, &json!({})).0, 201);
}

#[test]
fn a_disk_that_fails_at_writing_is_told_and_recovered_from() {
    let mut family = Family::at_home();
    let said = family.world.chat(None, "Hello");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    until("what follows an answer is stored", || {
        let all = messages(&family.world, &conversation);
        (all[1]["status"] == "complete").then_some(())
    });
    let before = messages(&family.world, &conversation);

    // Her database; the system's; the registry's notes of each.
    family.disk.fails(Fault::NoWrite, &family.mia);
    let path = format!("{CONVERSATIONS}/{conversation}/messages");
    let (status, problem) = family.mia_api.post(&path, &json!({"text": "Hello"}));
    assert!(failing(status, &problem), "{status} {problem}");
    assert!(problem["what_to_do"].is_string(), "{problem}");
    assert_eq!(family.degraded(), json!(["storage-failing"]));
    let chat = ["chat", "--once", "Hello", "--conversation", &conversation];
    fails(&family.world, &chat, 31, "The disk failed");
    let told = text(&family.world.aico(&["status"]).stderr);
    assert!(told.contains("The disk fails"), "{told}");
    assert_eq!(messages(&family.world, &conversation), before);
    // Nobody else's meets it.
    let (status, theirs) = family.ben_api.post(CONVERSATIONS, &json!({}));
    assert_eq!(status, 201, "{theirs}");
    family.disk.mend();
    family.well_again();
    let home = family.world.home();
    for (name, part) in [("Lin", "system.db-wal"), ("Kim", "registry")] {
        let person = json!({"name": name, "password": "pepper saddle comet drizzle"});
        family.disk.fails(Fault::NoWrite, &home.join(part));
        let (status, problem) = family.mia_api.post("/api/v1/persons", &person);
        assert!(failing(status, &problem), "{part}: {status} {problem}");
        family.disk.mend();
        family.well_again();
        // Added all the same, where only the note of it failed; never by halves.
        let (status, added) = family.mia_api.post("/api/v1/persons", &person);
        assert_eq!(status, if name == "Kim" { 409 } else { 201 }, "{added}");
        let (status, session) = family.mia_api.post("/api/v1/sessions", &person);
        assert_eq!(status, 201, "{session}");
    }
    // What can be done without.
    let without = [
        home.join("journal"),
        family.world.data().join("logs"),
        family.mia.join("working"),
    ];
    for folder in without {
        family.disk.fails(Fault::NoWrite, &folder);
        let said = family.world.chat(Some(&conversation), "Hello again");
        assert_eq!(said["status"], "complete", "{}", folder.display());
        assert!(family.degraded().is_null(), "{}", family.degraded());
    }
    // Another disk, of backups.
    let there = family.world.path("there");
    std::fs::create_dir(&there).unwrap();
    family.disk.fails(Fault::NoWrite, &there);
    let to = ["backup", "create", "--to", there.to_str().unwrap()];
    fails(&family.world, &to, 31, "could not");
    // Files of one's own, there and back.
    let letter = family.world.path("letter");
    std::fs::write(&letter, "dear").unwrap();
    let (letter, out) = (letter.to_str().unwrap(), there.join("out"));
    let out = out.to_str().unwrap();
    let seal = ["file", "encrypt", letter, "--out", out];
    fails(&family.world, &seal, 31, "Could not");
    family.world.said(&["file", "encrypt", letter]);
    let sealed = format!("{letter}.aico");
    let open = ["file", "decrypt", &sealed, "--out", out];
    fails(&family.world, &open, 31, "can't be read or written");
    assert!(names_in(&there).is_empty(), "{:?}", names_in(&there));
    family.disk.mend();
    family.world.said(&seal);
    family.world.said(&to);
    let now = messages(&family.world, &conversation);
    family.world.kill();
    family.world.serve();
    assert_eq!(messages(&family.world, &conversation), now);
    family.world.said(&["store", "check", "--full"]);
}

#[test]
fn a_disk_that_fails_at_reading_is_told_and_is_no_damage() {
    let mut family = Family::at_home();
    let said = family.world.chat(None, "Hello");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    family.world.stop();
    // The program starts without anything of hers, and the system's own can be read.
    family
        .disk
        .fails(Fault::NoRead, &family.mia.join("person.db"));
    family.world.serve();
    let mia_api = family.world.api().sign_in("Mia", PASSWORD);
    let (status, problem) = mia_api.get(CONVERSATIONS);
    assert!(failing(status, &problem), "{status} {problem}");
    let found = family.world.aico(&["store", "check", "--full", "--json"]);
    let found = text(&found.stdout);
    let hers = found
        .lines()
        .find(|line| line.contains("unchecked"))
        .unwrap();
    assert!(hers.contains("Input/output error"), "{hers}");
    assert!(
        !found.contains("\"damaged\",") && !found.contains("\"damaged\":1"),
        "{found}"
    );
    let ben_api = family.world.api().sign_in("Ben", BEN);
    assert_eq!(ben_api.get(CONVERSATIONS).0, 200);
    family.disk.mend();
    until("it is read again", || {
        (mia_api.get(CONVERSATIONS).0 == 200).then_some(())
    });
    assert_eq!(
        messages(&family.world, &conversation)
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // While it is open: what can be done without, and files.
    let letter = family.world.path("letter");
    std::fs::write(&letter, "dear").unwrap();
    let letter = letter.to_str().unwrap();
    family.world.said(&["file", "encrypt", letter]);
    for folder in ["working", "prompt-cache"] {
        family.disk.fails(Fault::NoRead, &family.mia.join(folder));
        let said = family.world.chat(Some(&conversation), "Hello again");
        assert_eq!(said["status"], "complete", "{folder}");
    }
    let sealed = format!("{letter}.aico");
    family
        .disk
        .fails(Fault::NoRead, &family.world.path("letter.aico"));
    fails(
        &family.world,
        &["file", "cat", &sealed],
        31,
        "Could not read",
    );
    family.disk.mend();
    assert_eq!(family.world.said(&["file", "cat", &sealed]), "dear");
    family.world.stop();

    // Nothing of the system's can be read: no start, and the words for it.
    for part in ["system.db", "registry", "vault.hdr"] {
        let part = family.world.home().join(part);
        family.disk.fails(Fault::NoRead, &part);
        serve_or_unlock_fails(&mut family.world, &part);
        family.disk.mend();
    }
    family.world.serve();
    family.world.said(&["store", "check", "--full"]);
}

/// With 31, wherever it is met.
fn serve_or_unlock_fails(world: &mut World, part: &std::path::Path) {
    match world.try_serve(&[]) {
        Err(code) => assert_eq!(code, Some(31), "{}", part.display()),
        Ok(_) => {
            let file = world.path("password");
            let unlock = ["unlock", "--password-file", file.to_str().unwrap()];
            let unlocked = world.aico(&unlock);
            let said = text(&unlocked.stderr);
            assert_eq!(
                unlocked.status.code(),
                Some(31),
                "{}: {said}",
                part.display()
            );
            world.kill();
        }
    }
}
