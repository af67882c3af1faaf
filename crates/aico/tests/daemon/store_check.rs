//! `aico store check`, and one person's damaged data beside everybody else's.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::backups::{add_ben, backup, ben_says, names_in, opened, string};
use crate::support::{PASSWORD, World, fails, text};

const BEN: &str = "copper ben meadow trumpet glass";
const PAGE: u64 = 4096;

/// What a check says of each thing, and how it counts them.
fn checked(world: &World, more: &[&str], code: i32) -> (Vec<Value>, Value) {
    let done = world.aico(&[&["store", "check", "--json"], more].concat());
    assert_eq!(done.status.code(), Some(code), "{}", text(&done.stderr));
    let mut lines: Vec<Value> = text(&done.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let done = lines.pop().unwrap();
    (lines, done)
}

/// Ben's folder, the only one beside those that were there.
fn folder_of_ben(world: &World, before: &[String]) -> PathBuf {
    let persons = world.home().join("persons");
    let mut all = names_in(&persons);
    all.retain(|name| !before.contains(name));
    persons.join(&all[0])
}

/// Mia and Ben, each of whom has said something; Ben's folder, password file and conversation.
fn family(world: &World) -> (PathBuf, String, String) {
    let before = names_in(&world.home().join("persons"));
    let file = add_ben(world);
    let ben = folder_of_ben(world, &before);
    world.chat(None, "a word of Mia's: medlar");
    let conversation = ben_says(world, &file, "a word of Ben's: quince");
    (ben, file, conversation)
}

/// Some bytes on each page from this one on, counted from 1.
fn damage_from(path: &Path, page: u64) {
    let pages = fs::metadata(path).unwrap().len() / PAGE;
    assert!(pages > page, "too small to be damaged there");
    for page in page..=pages {
        damage(path, (page - 1) * PAGE + 1000);
    }
}

fn damage(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"damage", offset).unwrap();
}

#[test]
fn everything_is_looked_at_while_it_runs_and_is_sound() {
    let world = World::ready();
    family(&world);
    for more in [&[][..], &["--full"]] {
        let (all, done) = checked(&world, more, 0);
        assert_eq!(done["damaged"], 0, "{all:?}");
        assert_eq!(done["sound"], all.len(), "{all:?}");
        let of = |part: &str| all.iter().filter(|one| one["part"] == part).count();
        assert_eq!(
            [of("header"), of("registry"), of("system")],
            [1, 1, 1],
            "{all:?}"
        );
        assert_eq!([of("keyring"), of("database")], [2, 2], "{all:?}");
        assert_eq!(of("journal") > 0, more.contains(&"--full"), "{all:?}");
        let databases = all.iter().filter(|one| one["part"] == "database");
        assert!(
            databases
                .clone()
                .all(|one| one["looked_at"].as_u64() > Some(5))
        );
    }
    let table = world.said(&["store", "check"]);
    for words in ["vault header", "Mia", "Ben", "sound"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let audited = world.said(&["logs", "--level", "info"]);
    assert!(audited.contains("the stores were checked"), "{audited}");
}

#[test]
fn a_damaged_person_keeps_nobody_else_and_is_put_back_as_it_says() {
    let mut world = World::ready();
    let (ben, file, conversation) = family(&world);
    let archive = backup(&world, &[]);
    ben_says(&world, &file, "a word that no backup has");
    world.stop();
    damage(&ben.join("person.db"), 3 * PAGE + 100);
    world.serve();

    // Everybody else.
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
    let mia = world.api().sign_in("Mia", PASSWORD);
    assert!(mia.get("/readyz").1.get("degraded").is_none());
    // Ben, who is told what it is and where it can be put back from.
    let api = world.api().sign_in("Ben", BEN);
    let (status, problem) = api.get("/api/v1/conversations");
    assert_eq!(
        (status, &problem["code"]),
        (500, &"damaged".into()),
        "{problem}"
    );
    let advice = problem["what_to_do"].as_str().unwrap();
    assert!(advice.contains(string(&archive)), "{advice}");
    assert!(advice.contains("aico restore"), "{advice}");
    // The owner.
    let (status, ready) = mia.get("/readyz");
    assert_eq!(
        (status, &ready["degraded"]),
        (200, &json!(["damaged"])),
        "{ready}"
    );
    let told = text(&world.aico(&["status"]).stderr);
    assert!(
        told.contains("one person") && told.contains("store check"),
        "{told}"
    );
    let doctor = world.aico(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(19), "{}", text(&doctor.stdout));
    let doctor = text(&doctor.stdout);
    assert!(doctor.contains("the database of Ben"), "{doctor}");
    assert!(doctor.contains(string(&archive)), "{doctor}");
    for more in [&[][..], &["--full"]] {
        let (all, done) = checked(&world, more, 26);
        assert_eq!(done["damaged"], 1, "{all:?}");
        let damaged: Vec<_> = all.iter().filter(|one| one["state"] == "damaged").collect();
        assert_eq!(damaged[0]["name"], "Ben", "{damaged:?}");
        assert_eq!(damaged[0]["part"], "database", "{damaged:?}");
        assert_eq!(
            damaged[0]["backup"]["path"],
            string(&archive),
            "{damaged:?}"
        );
        assert_eq!(damaged[0]["backup"]["within_reach"], true, "{damaged:?}");
        if more.contains(&"--full") {
            let problems = damaged[0]["problems"].to_string();
            assert!(problems.contains("page 4"), "{problems}");
        }
    }
    let command = format!("aico restore '{}' --person Ben", string(&archive));
    fails(&world, &["store", "check"], 26, &command);

    // The archive is elsewhere just now.
    let away = world.path("away.aicobackup");
    fs::rename(&archive, &away).unwrap();
    let (all, _) = checked(&world, &[], 26);
    let damaged = all.iter().find(|one| one["state"] == "damaged").unwrap();
    assert_eq!(damaged["backup"]["within_reach"], false, "{damaged}");
    fs::rename(&away, &archive).unwrap();

    // As it was told.
    world.stop();
    opened(&world, &["restore", string(&archive), "--person", "Ben"]);
    world.serve();
    checked(&world, &["--full"], 0);
    let api = world.api().sign_in("Ben", BEN);
    let (status, shown) = api.get(&format!("/api/v1/conversations/{conversation}"));
    assert_eq!(status, 200, "{shown}");
    assert!(shown.to_string().contains("quince"), "{shown}");
}

#[test]
fn damage_that_is_met_while_it_runs_is_told_by_its_name() {
    let mut world = World::ready();
    let (ben, file, conversation) = family(&world);
    for n in 0..6 {
        ben_says(&world, &file, &format!("number {n}"));
    }
    // Folded into the file, and nothing of it in memory.
    world.stop();
    world.serve();
    let api = world.api().sign_in("Ben", BEN);
    assert_eq!(api.get("/api/v1/characters").0, 200);
    // Opened by another question than the one that meets it.
    let (status, _) = api.get("/api/v1/search?q=nothing-like-it");
    assert_eq!(status, 200);
    damage_from(&ben.join("person.db"), 3);
    let (status, problem) = api.get(&format!("/api/v1/conversations/{conversation}"));
    assert_eq!(
        (status, &problem["code"]),
        (500, &"damaged".into()),
        "{problem}"
    );
    let advice = problem["what_to_do"].as_str().unwrap();
    assert!(advice.contains("store check"), "{advice}");
    let mia = world.api().sign_in("Mia", PASSWORD);
    let (status, ready) = mia.get("/readyz");
    assert_eq!(
        (status, &ready["degraded"]),
        (200, &json!(["damaged"])),
        "{ready}"
    );
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
    let (all, _) = checked(&world, &["--full"], 26);
    let damaged: Vec<_> = all.iter().filter(|one| one["state"] == "damaged").collect();
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    assert_eq!(damaged[0]["name"], "Ben", "{damaged:?}");
    assert!(damaged[0]["backup"].is_null(), "{damaged:?}");
    let advice = damaged[0]["what_to_do"].as_str().unwrap();
    assert!(advice.contains("No backup"), "{advice}");
}

#[test]
fn damage_of_header_keyring_journal_and_registry_is_found_while_they_are_in_use() {
    let world = World::ready();
    let (ben, ..) = family(&world);
    let journal = world.home().join("journal");
    let file = journal.join(&names_in(&journal)[0]);
    for (path, offset, part, full) in [
        (world.home().join("vault.hdr"), 60, "header", false),
        (world.home().join("registry"), 100, "registry", false),
        (ben.join("keyring"), 60, "keyring", false),
        (file, 150, "journal", true),
    ] {
        let whole = fs::read(&path).unwrap();
        damage(&path, offset);
        let more: &[&str] = if full { &["--full"] } else { &[] };
        let (all, _) = checked(&world, more, 26);
        let damaged: Vec<_> = all
            .iter()
            .filter(|one| one["state"] == "damaged")
            .map(|one| one["part"].as_str().unwrap())
            .collect();
        assert_eq!(damaged, [part], "{all:?}");
        damage_undone(&path, &whole, offset);
    }
    checked(&world, &["--full"], 0);
}

/// In the same file: who has it open goes on with it.
fn damage_undone(path: &Path, whole: &[u8], offset: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let at = offset as usize;
    file.write_all_at(&whole[at..at + 6], offset).unwrap();
}

#[test]
fn a_damaged_system_database_names_the_backup_of_everything() {
    let mut world = World::ready();
    world.chat(None, "Hello");
    let archive = backup(&world, &[]);
    world.stop();
    damage(&world.home().join("system.db"), 2 * PAGE + 100);
    let file = world.path("password");
    let start = [
        "serve",
        "--bind",
        "127.0.0.1:0",
        "--password-file",
        string(&file),
    ];
    fails(&world, &start, 10, string(&archive));
    opened(&world, &["restore", string(&archive)]);
    world.serve();
    checked(&world, &["--full"], 0);
}

#[test]
fn log_files_are_authenticated_by_a_full_check_and_a_missing_one_is_told() {
    let mut world = World::ready();
    world.stop();
    let logs = world.data().join("logs");
    let file = logs.join(&names_in(&logs)[0]);
    world.serve();
    let of_log = |all: Vec<Value>| -> Vec<Value> {
        all.into_iter().filter(|one| one["part"] == "log").collect()
    };
    let sound = of_log(checked(&world, &["--full"], 0).0);
    assert_eq!(
        sound.len(),
        2,
        "a closed one, and one that is written: {sound:?}"
    );
    assert!(
        sound.iter().all(|one| one["looked_at"].as_u64() > Some(0)),
        "{sound:?}"
    );
    assert!(of_log(checked(&world, &[], 0).0).is_empty());

    let whole = fs::read(&file).unwrap();
    for offset in [60, whole.len() as u64 / 2, whole.len() as u64 - 6] {
        damage(&file, offset);
        let damaged = of_log(checked(&world, &["--full"], 26).0);
        let damaged: Vec<_> = damaged
            .iter()
            .filter(|one| one["state"] == "damaged")
            .collect();
        assert_eq!(damaged.len(), 1, "{offset}: {damaged:?}");
        assert_eq!(damaged[0]["path"], string(&file), "{offset}");
        damage_undone(&file, &whole, offset);
    }
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    checked(&world, &["--full"], 26);
    fs::remove_file(&file).unwrap();
    let missing = of_log(checked(&world, &["--full"], 26).0);
    assert!(
        missing
            .iter()
            .any(|one| one["problems"].to_string().contains("is missing")),
        "{missing:?}"
    );
    fs::write(&file, &whole).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    checked(&world, &["--full"], 0);
}

/// Row 8: the file of before, put back while AICO was stopped.
#[test]
fn an_older_copy_is_read_until_the_owner_decides() {
    let mut world = World::ready();
    let (ben, file, conversation) = family(&world);
    let database = ben.join("person.db");
    world.stop();
    let older = fs::read(&database).unwrap();
    world.serve();
    ben_says(&world, &file, "a word that came after it");
    world.stop();
    let newer = fs::read(&database).unwrap();
    fs::write(&database, &older).unwrap();
    world.serve();

    // He can read, and is told why he can't write.
    let api = world.api().sign_in("Ben", BEN);
    let (status, shown) = api.get(&format!("/api/v1/conversations/{conversation}"));
    assert_eq!(status, 200, "{shown}");
    assert!(shown.to_string().contains("quince"), "{shown}");
    let (status, problem) = api.post("/api/v1/conversations", &json!({}));
    assert_eq!(
        (status, &problem["code"]),
        (500, &"damaged".into()),
        "{problem}"
    );
    assert!(problem.to_string().contains("older copy"), "{problem}");
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
    assert!(
        fs::read(&database).unwrap() == older,
        "reading has changed it"
    );
    // The owner is told, and decides.
    let (all, _) = checked(&world, &[], 26);
    let told = all.iter().find(|one| one["state"] == "damaged").unwrap();
    assert_eq!(
        (&told["part"], &told["name"]),
        (&"database".into(), &"Ben".into()),
        "{told}"
    );
    let what = told["what_to_do"].as_str().unwrap();
    assert!(what.contains("aico store accept Ben"), "{what}");
    for (name, words) in [("Mia", "nothing to decide"), ("Ben", "counts from now on")] {
        let done = world.aico(&["store", "accept", name]);
        let told = text(&done.stderr);
        assert!(done.status.success() && told.contains(words), "{told}");
    }
    checked(&world, &["--full"], 0);
    ben_says(&world, &file, "and it goes on");
    // Now it is the other one that is refused.
    world.stop();
    let accepted = fs::read(&database).unwrap();
    fs::write(&database, &newer).unwrap();
    world.serve();
    checked(&world, &[], 26);
    world.stop();
    fs::write(&database, &accepted).unwrap();
    world.serve();
    checked(&world, &["--full"], 0);
}
