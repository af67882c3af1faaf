//! Working memory under the daemon: gone on with after a clean stop, begun anew after any other,
//! and in nobody's way.

use std::path::PathBuf;

use serde_json::Value;

use crate::backups::{add_ben, backup, ben_says, names_in, restore, string};
use crate::support::{PASSWORD, World, text};

/// The folders of all persons' working memories that are there.
fn folders(world: &World) -> Vec<PathBuf> {
    let persons = world.home().join("persons");
    let mut all: Vec<PathBuf> = names_in(&persons)
        .into_iter()
        .map(|name| persons.join(name).join("working"))
        .filter(|path| path.exists())
        .collect();
    all.sort();
    all
}

fn folder(world: &World) -> PathBuf {
    let mut all = folders(world);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// The daemon, telling everything.
fn serve(world: &mut World) {
    let password = world.path("password");
    let password = password.to_str().unwrap().to_owned();
    world.serve_with(&["--password-file", &password, "--set", "logging.level=debug"]);
}

/// The records with this message.
fn logged(world: &World, message: &str) -> Vec<Value> {
    let lines = world.said(&["logs", "--json"]);
    let records = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    records
        .filter(|record: &Value| record["message"] == message)
        .collect()
}

/// Of each question since the log began, whether what was said before was remembered.
fn remembered(world: &World) -> Vec<bool> {
    logged(world, "what was said before")
        .iter()
        .map(|record| {
            let told = record.to_string();
            told.contains("\"remembered\":true") || told.contains("\"remembered\":\"true\"")
        })
        .collect()
}

fn begun(world: &World) -> usize {
    logged(world, "a working memory begins anew").len()
}

fn world() -> World {
    let mut world = World::new();
    assert!(world.setup().status.success());
    serve(&mut world);
    world
}

#[test]
fn a_clean_stop_is_gone_on_with_and_a_kill_begins_anew_without_a_word() {
    let mut world = world();
    let first = world.chat(None, "Hello");
    let conversation = first["conversation"].as_str().unwrap().to_owned();
    world.chat(Some(&conversation), "And?");
    assert_eq!(remembered(&world), [false, true]);
    assert!(!folder(&world).join("closed").exists(), "it is open");
    world.stop();
    assert_eq!(names_in(&folder(&world)), ["cells", "closed"]);

    serve(&mut world);
    world.chat(Some(&conversation), "Still there?");
    assert_eq!(remembered(&world), [false, true, true]);
    assert_eq!(begun(&world), 0);
    world.kill();
    assert_eq!(names_in(&folder(&world)), ["cells"]);

    serve(&mut world);
    let done = world.chat(Some(&conversation), "And now?");
    assert_eq!(done["status"], "complete");
    assert_eq!(remembered(&world).last(), Some(&false));
    assert_eq!(begun(&world), 1);
    world.chat(Some(&conversation), "And now?");
    assert_eq!(remembered(&world).last(), Some(&true));
    let found = world.said(&["conversation", "show", &conversation, "--json"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["messages"].as_array().unwrap().len(), 10);
}

/// Does something to the files of a working memory.
type Tamper = fn(&std::path::Path);

#[test]
fn whatever_became_of_its_files_the_daemon_starts_and_answers() {
    let mut world = world();
    let first = world.chat(None, "Hello");
    let conversation = first["conversation"].as_str().unwrap().to_owned();
    let tamper: [(&str, Tamper); 6] = [
        ("a flipped byte", |folder| {
            let path = folder.join("cells");
            let mut cells = std::fs::read(&path).unwrap();
            let at = cells.len() / 2;
            cells[at] ^= 1;
            std::fs::write(path, cells).unwrap();
        }),
        ("cut", |folder| {
            let file = std::fs::File::options()
                .write(true)
                .open(folder.join("cells"))
                .unwrap();
            file.set_len(4096).unwrap();
        }),
        ("empty", |folder| {
            std::fs::write(folder.join("cells"), "").unwrap()
        }),
        ("a note of nobody's", |folder| {
            std::fs::write(folder.join("closed"), [7; 200]).unwrap();
        }),
        ("a file in its place", |folder| {
            std::fs::remove_dir_all(folder).unwrap();
            std::fs::write(folder, "not a folder").unwrap();
        }),
        ("open to others", |folder| {
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                let mode = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(folder, mode).unwrap();
            }
        }),
    ];
    for (count, (what, tamper)) in tamper.into_iter().enumerate() {
        world.stop();
        tamper(&folder(&world));
        serve(&mut world);
        let done = world.chat(Some(&conversation), "And?");
        assert_eq!(done["status"], "complete", "{what}");
        assert_eq!(remembered(&world).last(), Some(&false), "{what}");
        assert_eq!(begun(&world), count + 1, "{what}");
    }
    // Gone altogether: nothing to begin anew.
    world.stop();
    std::fs::remove_dir_all(folder(&world)).unwrap();
    serve(&mut world);
    assert_eq!(
        world.chat(Some(&conversation), "And?")["status"],
        "complete"
    );
}

#[test]
fn it_is_in_no_backup_and_a_restore_and_a_new_key_have_none() {
    let mut world = World::ready();
    let ben = add_ben(&world);
    ben_says(&world, &ben, "I keep bees");
    let said = world.chat(None, "Hello");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    let both = folders(&world);
    assert_eq!(both.len(), 2);
    let archive = backup(&world, &["--to", string(&world.path("backups"))]);
    world.stop();
    let before = std::fs::read(both[0].join("cells")).unwrap();
    restore(&world, &archive);
    assert_eq!(folders(&world), [] as [PathBuf; 0], "the restored home");
    let kept = names_in(&world.data())
        .into_iter()
        .find(|name| name.starts_with("before-restore-"))
        .unwrap();
    let kept = world.data().join(kept).join("home/persons");
    for person in names_in(&kept) {
        assert!(!kept.join(person).join("working").exists(), "what was kept");
    }
    world.serve();
    world.chat(Some(&conversation), "And?");
    world.stop();
    let after = std::fs::read(folder(&world).join("cells")).unwrap();
    assert_ne!(before, after);

    // Another key of the person: the file of before is not there any more.
    world.serve();
    let (password, phrase) = (world.path("password"), world.path("next-phrase"));
    world.said(&[
        "vault",
        "rotate",
        "--compromised",
        "--password-file",
        string(&password),
        "--recovery-file",
        string(&phrase),
    ]);
    assert_eq!(folders(&world), [] as [PathBuf; 0], "after other keys");
    world.chat(Some(&conversation), "And?");
    assert_eq!(folders(&world).len(), 1);
    // And alone.
    let purpose = ["vault", "rotate", "--purpose", "working-memory"];
    world.said(&[&purpose[..], &["--password-file", string(&password)]].concat());
    assert_eq!(folders(&world), [] as [PathBuf; 0]);
}

#[test]
fn locking_closes_it_and_an_erased_person_has_none() {
    let world = World::ready();
    let ben = add_ben(&world);
    ben_says(&world, &ben, "I keep bees");
    world.chat(None, "Hello");
    let both = folders(&world);
    assert_eq!(both.len(), 2);
    world.said(&["lock"]);
    for folder in &both {
        assert_eq!(names_in(folder), ["cells", "closed"]);
    }
    let password = world.path("password");
    world.said(&["unlock", "--password-file", string(&password)]);
    ben_says(&world, &ben, "still bees");
    let erase = ["person", "erase", "Ben", "--password-file"];
    let done = world.aico(&[&erase[..], &[string(&password)]].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(folders(&world).len(), 1);
    assert_eq!(names_in(&world.home().join("persons")).len(), 1);
}

#[test]
fn a_full_disk_keeps_nobody_from_reading_and_nothing_is_lost() {
    let test = "working::a_full_disk_keeps_nobody_from_reading_and_nothing_is_lost";
    let Some(mut world) = World::on_disk(test, "8m") else {
        return;
    };
    assert!(world.setup().status.success());
    world.serve();
    let first = world.chat(None, "Hello");
    let conversation = first["conversation"].as_str().unwrap().to_owned();
    let api = world.api().sign_in("Mia", PASSWORD);
    world.disk().fill();
    let (status, _) = api.get(&format!("/api/v1/conversations/{conversation}"));
    assert_eq!(status, 200);
    let (status, sessions) = api.get("/api/v1/sessions");
    assert_eq!(status, 200, "{sessions}");
    world.disk().free();
    let done = world.chat(Some(&conversation), "And?");
    assert_eq!(done["status"], "complete");
    world.stop();
}
