//! Backups as people make and need them: while they talk, on another machine, over what is there.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::disk::Disk;
use crate::support::{PASSWORD, World, done, fails, text};

/// The archive that this makes.
pub(crate) fn backup(world: &World, more: &[&str]) -> PathBuf {
    let arguments = [&["backup", "create"], more].concat();
    world.said(&arguments).trim().into()
}

/// What lies in a folder.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().into_string().unwrap()
    };
    let mut all: Vec<_> = entries.map(name).collect();
    all.sort();
    all
}

pub(crate) fn add_ben(world: &World) -> String {
    let file = world.write("password-ben", "copper ben meadow trumpet glass");
    let file = file.to_str().unwrap().to_owned();
    world.said(&["person", "add", "Ben", "--password-file", &file]);
    file
}

/// Ben says something; the conversation that it is in.
pub(crate) fn ben_says(world: &World, file: &str, words: &str) -> String {
    let chat = ["--person", "Ben", "chat", "--json", "--once", words];
    let said = world.said(&[&chat[..], &["--password-file", file]].concat());
    done(&said)["conversation"].as_str().unwrap().to_owned()
}

pub(crate) fn shown(world: &World, conversation: &str) -> String {
    world.said(&["conversation", "show", conversation])
}

pub(crate) fn string(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A command that opens an archive with the world's password file.
pub(crate) fn opening(world: &World, arguments: &[&str]) -> Output {
    let file = world.path("password");
    world.aico(&[arguments, &["--password-file", string(&file)]].concat())
}

/// The same, which succeeds; what it says on standard error.
pub(crate) fn opened(world: &World, arguments: &[&str]) -> String {
    let output = opening(world, arguments);
    let notes = text(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {notes}");
    notes
}

pub(crate) fn verify(world: &World, archive: &Path) -> String {
    let output = opening(world, &["backup", "verify", string(archive)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn restore(world: &World, archive: &Path) -> String {
    opened(world, &["restore", string(archive)])
}

/// A new root key; the password stays.
pub(crate) fn rotate(world: &World) {
    let (password, phrase) = (world.path("password"), world.path("next-phrase"));
    let files = ["--password-file", string(&password), "--recovery-file"];
    world.said(&[&["vault", "rotate"], &files[..], &[string(&phrase)]].concat());
}

fn messages(world: &World, conversation: &str) -> Vec<Value> {
    let shown = world.said(&["conversation", "show", conversation, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown["messages"].as_array().unwrap().clone()
}

#[test]
fn a_conversation_comes_back_where_there_is_nothing_but_the_archive_and_password_or_phrase() {
    let world = World::ready();
    let said = world.chat(None, "My dog is called Rex");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    let before = shown(&world, &conversation);
    assert!(before.contains("Rex"));
    world.said(&["token", "create", "--name", "Editor"]);
    let connection = world.path("weather.json");
    let module = ["module", "add", "weather", "--publish", "weather.#"];
    world.said(&[&module[..], &["--out", string(&connection)]].concat());
    let archive = backup(&world, &[]);
    assert_eq!(archive.parent(), Some(world.path("data-backups").as_path()));
    let bytes = std::fs::read(&archive).unwrap();
    // Long ones: in random bytes of this length three letters come up by chance.
    for word in ["dog is called", "Editor", "weather", "companion"] {
        let found = bytes.windows(word.len()).any(|w| w == word.as_bytes());
        assert!(!found, "{word} stands in the archive in clear");
    }
    let phrase = std::fs::read_to_string(world.path("phrase")).unwrap();

    for secret in [PASSWORD, phrase.trim()] {
        let mut other = World::new();
        other.write("password", secret);
        let copy = other.path("from-elsewhere.aicobackup");
        std::fs::copy(&archive, &copy).unwrap();
        let checked = verify(&other, &copy);
        assert!(
            checked.contains("Whole") && checked.contains("Mia"),
            "{checked}"
        );
        let notes = restore(&other, &copy);
        assert!(
            notes.contains("weather") && notes.contains("sessions"),
            "{notes}"
        );
        other.write("password", PASSWORD);
        other.serve();
        assert_eq!(shown(&other, &conversation), before);
        // It goes on there, and neither tokens nor modules came along.
        other.chat(Some(&conversation), "What is my dog called?");
        assert_eq!(other.said(&["token", "list", "--json"]).trim(), "[]");
        assert_eq!(other.said(&["module", "list", "--json"]).trim(), "[]");
        let found = other.said(&["conversation", "search", "rex"]);
        assert!(found.contains(&conversation), "{found}");
        // It can be backed up again, stopped, and started.
        let again = backup(&other, &[]);
        verify(&other, &again);
        other.stop();
        other.serve();
        assert!(shown(&other, &conversation).starts_with(&before));
    }
}

#[test]
fn nobody_waits_for_a_backup_and_each_is_of_one_moment() {
    let mut world = World::ready();
    let said = world.chat(None, "Begin");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    let stop = AtomicBool::new(false);
    let made: Vec<PathBuf> = std::thread::scope(|scope| {
        let talking = scope.spawn(|| {
            let mut said = 0;
            while !stop.load(Ordering::SeqCst) {
                world.chat(Some(&conversation), &format!("Sentence number {said}"));
                said += 1;
            }
            said
        });
        let made = (0..4).map(|_| backup(&world, &[])).collect();
        stop.store(true, Ordering::SeqCst);
        assert!(talking.join().unwrap() > 0);
        made
    });
    let all = messages(&world, &conversation);
    world.stop();
    let mut last = 0;
    for archive in made {
        verify(&world, &archive);
        let mut other = World::new();
        restore(&other, &archive);
        other.serve();
        let there = messages(&other, &conversation);
        // What was there then, each message that it follows on included.
        assert!(there.len() >= last && there.len() <= all.len());
        for (before, after) in there.iter().zip(&all) {
            assert_eq!(before["id"], after["id"]);
        }
        last = there.len();
    }
}

#[test]
fn restoring_over_what_is_there_keeps_it_and_is_refused_while_it_runs() {
    let mut world = World::ready();
    std::fs::write(world.data().join("config.yaml"), "session:\n  hours: 5\n").unwrap();
    world.stop();
    world.serve();
    let said = world.chat(None, "Before");
    let before = said["conversation"].as_str().unwrap().to_owned();
    let archive = backup(&world, &[]);
    let said = world.chat(None, "Afterwards");
    let after = said["conversation"].as_str().unwrap().to_owned();
    let api = world.api().sign_in("Mia", PASSWORD);
    std::fs::write(world.data().join("config.yaml"), "session:\n  hours: 7\n").unwrap();

    let refused = opening(&world, &["restore", string(&archive)]);
    assert_eq!(refused.status.code(), Some(7), "{}", text(&refused.stderr));
    assert!(
        text(&refused.stderr).contains("--to"),
        "{}",
        text(&refused.stderr)
    );
    assert!(shown(&world, &after).contains("Afterwards"));
    world.stop();

    let notes = restore(&world, &archive);
    let kept = names_in(&world.data())
        .into_iter()
        .find(|name| name.starts_with("before-restore-"))
        .unwrap();
    let kept = world.data().join(kept);
    assert!(
        notes.contains(&format!("rm -r '{}'", kept.display())),
        "{notes}"
    );
    let config = |folder: &Path| std::fs::read_to_string(folder.join("config.yaml")).unwrap();
    assert!(config(&world.data()).contains("hours: 5"));
    assert!(config(&kept).contains("hours: 7"));
    world.serve();
    assert!(shown(&world, &before).contains("Before"));
    fails(&world, &["conversation", "show", &after], 13, "no such");
    // Sessions from before have ended: another instance, another signing key.
    let mut now = world.api();
    now.token = api.token;
    assert_eq!(now.get("/api/v1/me").0, 401);
    world.stop();

    // What was kept is a home as it was.
    std::fs::rename(world.home(), world.path("aside")).unwrap();
    std::fs::rename(kept.join("home"), world.home()).unwrap();
    world.serve();
    assert!(shown(&world, &after).contains("Afterwards"));
}

#[test]
fn an_old_password_opens_old_archives_and_a_restore_says_what_counts_now() {
    let mut world = World::ready();
    let old = backup(&world, &[]);
    let first = world.path("password");
    let second = world.write("second", "amber window pencil harvest cloud");
    world.said(&[
        "vault",
        "password",
        "--password-file",
        string(&first),
        "--new-password-file",
        string(&second),
    ]);
    let new = backup(&world, &[]);
    verify(&world, &old);
    let wrong = opening(&world, &["backup", "verify", string(&new)]);
    assert_eq!(wrong.status.code(), Some(5), "{}", text(&wrong.stderr));
    world.stop();
    let kept = std::fs::read(world.home().join("vault.hdr")).unwrap();
    let wrong = opening(&world, &["restore", string(&new)]);
    assert_eq!(wrong.status.code(), Some(5));
    assert_eq!(std::fs::read(world.home().join("vault.hdr")).unwrap(), kept);
    // Back to the old one: the old password counts again.
    restore(&world, &old);
    world.serve();
}

#[test]
fn a_damaged_foreign_or_newer_archive_changes_nothing() {
    let world = World::ready();
    world.chat(None, "Hello");
    let archive = backup(&world, &[]);
    let whole = std::fs::read(&archive).unwrap();
    let other = World::new();
    let copy = other.path("copy.aicobackup");
    let refused = |bytes: &[u8], code: i32, words: &str| {
        std::fs::write(&copy, bytes).unwrap();
        for command in [&["backup", "verify"][..], &["restore"]] {
            let done = opening(&other, &[command, &[string(&copy)]].concat());
            let said = text(&done.stderr);
            assert_eq!(done.status.code(), Some(code), "{command:?}: {said}");
            assert!(said.contains(words) && said.contains("try:"), "{said}");
            assert!(!said.contains("panicked"), "{said}");
        }
        assert!(!other.data().exists(), "{:?}", names_in(&other.data()));
    };
    for at in [
        20,
        60,
        400,
        3000,
        whole.len() / 2,
        whole.len() - 300,
        whole.len() - 5,
    ] {
        let mut changed = whole.clone();
        changed[at] ^= 4;
        refused(&changed, 10, "damaged");
    }
    refused(&whole[..whole.len() - 1], 10, "damaged");
    refused(b"no archive at all", 10, "no backup of AICO");
    let mut newer = whole.clone();
    newer[8..10].copy_from_slice(&7_u16.to_be_bytes());
    refused(&newer, 11, "format 7; this program knows up to 1");
    fails(&other, &["restore", "/nowhere.aicobackup"], 13, "not there");
}

#[test]
fn one_persons_data_is_put_back_alone() {
    let mut world = World::ready();
    let ben = add_ben(&world);
    let conversation = ben_says(&world, &ben, "I keep bees");
    let archive = backup(&world, &["--person", "Ben"]);
    let told = verify(&world, &archive);
    assert!(told.contains("Ben") && !told.contains("Mia"), "{told}");
    let said = world.chat(None, "Later");
    let mine = said["conversation"].as_str().unwrap().to_owned();
    world.stop();

    // It is no home.
    let other = World::new();
    let done = opening(&other, &["restore", string(&archive)]);
    assert_eq!(done.status.code(), Some(15), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("--person"));

    // A disk damages what is Ben's: everybody else goes on, and his comes back.
    let persons = world.home().join("persons");
    let broken = |name: &str| {
        let path = persons.join(name).join("person.db");
        let mut bytes = std::fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        bytes[half..half + 4096].fill(7);
        std::fs::write(&path, bytes).unwrap();
    };
    let id = {
        let all = names_in(&persons);
        let owner = |name: &&String| persons.join(name).join("person.db").exists();
        assert_eq!(all.iter().filter(owner).count(), 2);
        // Ids sort by the time they were made: the owner came first.
        all[1].clone()
    };
    broken(&id);
    world.serve();
    assert!(shown(&world, &mine).contains("Later"));
    // A backup of everybody says who is not in it, and removes nothing.
    let done = world.aico(&["backup", "create", "--keep-daily", "1"]);
    assert_eq!(done.status.code(), Some(10), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("Ben"), "{}", text(&done.stderr));
    world.stop();
    let put_back = ["--person", "ben", "restore", string(&archive)];
    let folder = persons.join(&id);
    let keyring = folder.join("keyring");
    // A keyring that only can't be read is not replaced.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&keyring, mode).unwrap();
        };
        let before = names_in(&folder);
        mode(0o644);
        let done = opening(&world, &put_back);
        let told = text(&done.stderr);
        assert!(!done.status.success() && told.contains("chmod"), "{told}");
        assert_eq!(names_in(&folder), before);
        mode(0o600);
    }
    let notes = opened(&world, &put_back);
    assert!(notes.contains("person.db.before-restore'"), "{notes}");
    assert!(!notes.contains("the one of then"), "{notes}");
    // Once more, of which nothing that was kept goes; and the keyring is damaged as well.
    let kept = std::fs::read(folder.join("person.db.before-restore")).unwrap();
    std::fs::write(&keyring, "no keyring").unwrap();
    let notes = opened(&world, &put_back);
    assert!(notes.contains("password is the one of then"), "{notes}");
    for name in ["person.db.before-restore-2'", "keyring.before-restore'"] {
        assert!(notes.contains(name), "{notes}");
    }
    assert_eq!(
        std::fs::read(folder.join("person.db.before-restore")).unwrap(),
        kept
    );
    world.serve();
    assert!(shown(&world, &mine).contains("Later"));
    let show = ["--person", "Ben", "chat", "--json", "--once", "Hello again"];
    let go_on = ["--conversation", &conversation, "--password-file", &ben];
    world.said(&[&show[..], &go_on[..]].concat());
    world.stop();
    // Of somebody who is not in it there is nothing to put back.
    let done = opening(&world, &["--person", "Mia", "restore", string(&archive)]);
    assert_eq!(done.status.code(), Some(13), "{}", text(&done.stderr));
}

#[test]
fn damage_that_a_backup_meets_keeps_nobody_else_without_one() {
    let mut world = World::ready();
    let ben = add_ben(&world);
    ben_says(&world, &ben, "I keep bees");
    let whole = backup(&world, &[]);
    world.stop();
    let persons = world.home().join("persons");
    // Ids sort by the time they were made: the owner came first.
    let database = persons.join(&names_in(&persons)[1]).join("person.db");
    world.serve();
    // His store is open. What it needs to go on is in the first pages, and the last are damaged.
    ben_says(&world, &ben, "They are well");
    let file = std::fs::OpenOptions::new().write(true).open(&database);
    let mut file = file.unwrap();
    let length = file.metadata().unwrap().len();
    let from = length / 4096 * 3 / 4 * 4096;
    file.seek(SeekFrom::Start(from)).unwrap();
    let noise = vec![7; usize::try_from(length - from).unwrap()];
    file.write_all(&noise).unwrap();
    drop(file);

    let made = world.aico(&["backup", "create", "--keep-daily", "1"]);
    let told = text(&made.stderr);
    assert_eq!(made.status.code(), Some(10), "{told}");
    assert!(told.contains("Ben"), "{told}");
    let archive = text(&made.stdout);
    let checked = verify(&world, Path::new(archive.trim()));
    assert!(
        checked.contains("Mia") && !checked.contains("Ben"),
        "{checked}"
    );
    let (_, ready) = world.api().get("/readyz");
    assert_eq!(ready["degraded"], serde_json::json!(["damaged"]), "{ready}");
    let only_his = ["backup", "create", "--person", "Ben"];
    let done = world.aico(&only_his);
    let told = text(&done.stderr);
    assert!(
        !done.status.success() && !told.contains("sign in"),
        "{told}"
    );

    // A home of that backup does not know him. One who has his name by then keeps it.
    world.kill();
    restore(&world, Path::new(archive.trim()));
    world.serve();
    add_ben(&world);
    world.stop();
    let before = names_in(&persons);
    let put_back = ["--person", "Ben", "restore", string(&whole)];
    let done = opening(&world, &put_back);
    let told = text(&done.stderr);
    assert_eq!(done.status.code(), Some(15), "{told}");
    assert!(told.contains("has that name now"), "{told}");
    assert_eq!(names_in(&persons), before);
}

#[test]
fn an_archive_without_the_owner_says_which_one_has_them_and_gives_the_others_back() {
    let mut world = World::ready();
    let ben = add_ben(&world);
    let said = world.chat(None, "My dog is called Rex");
    let mine = said["conversation"].as_str().unwrap().to_owned();
    ben_says(&world, &ben, "I keep bees");
    let whole = backup(&world, &[]);
    let later = ben_says(&world, &ben, "They are well");
    let persons = world.home().join("persons");
    // Ids sort by the time they were made: the owner came first.
    let database = persons.join(&names_in(&persons)[0]).join("person.db");
    // All of it in the file itself, open, and damaged at its end.
    world.stop();
    world.serve();
    world.chat(None, "He is old");
    let file = std::fs::OpenOptions::new().write(true).open(&database);
    let mut file = file.unwrap();
    let length = file.metadata().unwrap().len();
    let from = length / 4096 * 3 / 4 * 4096;
    file.seek(SeekFrom::Start(from)).unwrap();
    let noise = vec![7; usize::try_from(length - from).unwrap()];
    file.write_all(&noise).unwrap();
    drop(file);
    let made = world.aico(&["backup", "create"]);
    assert_eq!(made.status.code(), Some(10), "{}", text(&made.stderr));
    let archive = text(&made.stdout).trim().to_owned();
    let checked = opening(&world, &["backup", "verify", &archive]);
    let told = text(&checked.stderr);
    assert!(checked.status.success(), "{told}");
    assert!(told.contains("owner is not in it"), "{told}");
    world.kill();

    let done = opening(&world, &["restore", &archive]);
    let told = text(&done.stderr);
    assert_eq!(done.status.code(), Some(15), "{told}");
    let first = format!("aico restore '{}'", whole.display());
    let then = format!("aico restore '{archive}' --person NAME");
    assert!(told.contains(&first) && told.contains(&then), "{told}");
    assert!(
        !names_in(&world.data())
            .iter()
            .any(|name| name.contains("restore"))
    );
    // As it says.
    restore(&world, &whole);
    opened(&world, &["--person", "Ben", "restore", &archive]);
    world.serve();
    let say = ["--person", "Ben", "chat", "--json", "--once", "Hello again"];
    let go_on = ["--conversation", &later, "--password-file", &ben];
    world.said(&[&say[..], &go_on[..]].concat());
    assert!(shown(&world, &mine).contains("Rex"));
    world.stop();
    // Where there is no other one, that is said.
    std::fs::remove_file(&whole).unwrap();
    let done = opening(&world, &["restore", &archive]);
    let told = text(&done.stderr);
    assert_eq!(done.status.code(), Some(15), "{told}");
    assert!(told.contains("None beside it"), "{told}");
}

#[test]
fn an_archive_from_before_a_change_of_keys_is_advised_as_a_whole() {
    let mut world = World::ready();
    let ben = add_ben(&world);
    ben_says(&world, &ben, "I keep bees");
    let before = backup(&world, &[]);
    rotate(&world);
    world.stop();
    let persons = world.home().join("persons");
    // Ids sort by the time they were made: the owner came first.
    let database = persons.join(&names_in(&persons)[1]).join("person.db");
    let whole = std::fs::read(&database).unwrap();
    let half = whole.len() / 2;
    let broken = [&whole[..half], &[7; 4096], &whole[half + 4096..]].concat();
    std::fs::write(&database, &broken).unwrap();
    world.serve();
    let command = format!("aico restore '{}' --to NEW_FOLDER", before.display());
    fails(&world, &["store", "check"], 26, &command);
    world.stop();

    // One of the present key can be put back alone.
    std::fs::write(&database, &whole).unwrap();
    world.serve();
    let after = backup(&world, &[]);
    world.stop();
    std::fs::write(&database, &broken).unwrap();
    world.serve();
    let command = format!("aico restore '{}' --person Ben", after.display());
    fails(&world, &["store", "check"], 26, &command);
}

#[test]
fn folders_that_can_not_take_a_backup_are_told_and_stay_as_they_are() {
    let world = World::ready();
    let inside = world.data().join("backups");
    fails(
        &world,
        &["backup", "create", "--to", string(&inside)],
        24,
        "inside",
    );
    assert!(!inside.exists());
    let missing = world.path("no/such");
    fails(
        &world,
        &["backup", "create", "--to", string(&missing)],
        24,
        "missing",
    );
    let file = world.write("a-file", "x");
    fails(
        &world,
        &["backup", "create", "--to", string(&file)],
        24,
        "not a folder",
    );
    #[cfg(unix)]
    {
        let link = world.path("link");
        std::os::unix::fs::symlink(world.data(), &link).unwrap();
        let through = link.join("x");
        fails(
            &world,
            &["backup", "create", "--to", string(&through)],
            24,
            "inside",
        );
    }
    fails(&world, &["backup", "list"], 13, "no backups");
    // A page names no folders.
    let api = world.api().sign_in("Mia", PASSWORD);
    let body = serde_json::json!({"to": string(&world.path("x"))});
    assert_eq!(api.post("/api/v1/backups", &body).0, 403);
    world.said(&["lock"]);
    fails(&world, &["backup", "create"], 4, "locked");
}

#[test]
fn a_full_disk_leaves_the_backups_that_there_were() {
    let test = "backups::a_full_disk_leaves_the_backups_that_there_were";
    let mut world = World::ready();
    world.chat(None, "Hello");
    let Some(disk) = Disk::mount(test, &world.path("small"), "2m") else {
        return;
    };
    let to = world.path("small");
    let first = backup(&world, &["--to", string(&to)]);
    disk.fill();
    let create = ["backup", "create", "--to", string(&to), "--keep-daily", "1"];
    fails(&world, &create, 12, "full");
    disk.free();
    let name = first.file_name().unwrap().to_str().unwrap();
    assert_eq!(names_in(&to), [name]);
    verify(&world, &first);
    disk.fill();
    disk.remount("ro");
    fails(&world, &create, 24, "can't be used");
    disk.remount("rw");
    disk.free();
    backup(&world, &["--to", string(&to)]);
    world.stop();
    drop(disk);
    drop(world);
}

#[test]
fn older_ones_go_when_that_is_asked_for_and_others_are_not_touched() {
    let world = World::ready();
    let to = world.path("set");
    let options = ["--to", string(&to)];
    let first = backup(&world, &options);
    let foreign = to.join("aico-19990101-000000-00000000.aicobackup");
    std::fs::write(&foreign, "somebody else's").unwrap();
    let one_person = backup(&world, &[&options[..], &["--person", "Mia"]].concat());
    let second = backup(&world, &options);
    assert!(first.exists());
    let keep = [&options[..], &["--keep-daily", "7", "--keep-weekly", "4"]].concat();
    let third = backup(&world, &keep);
    // All were made today: of a day the newest stays.
    assert!(!first.exists() && !second.exists());
    assert!(third.exists() && foreign.exists() && one_person.exists());
    let listed = world.said(&["backup", "list", string(&to)]);
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    assert!(lines[0].contains(string(&third)), "{listed}");
    assert!(lines[1].contains("one person"), "{listed}");
    assert!(lines[2].contains("can't be used"), "{listed}");
    // Of one person's those of this person go, and nobody else's.
    add_ben(&world);
    let bens = backup(&world, &[&options[..], &["--person", "Ben"]].concat());
    let again = backup(&world, &[&keep[..], &["--person", "Mia"]].concat());
    assert!(!one_person.exists() && again.exists());
    assert!(third.exists() && foreign.exists() && bens.exists());
}

#[test]
fn anothers_backup_takes_the_place_of_everything_or_of_nothing() {
    let theirs = World::ready();
    let ben = add_ben(&theirs);
    ben_says(&theirs, &ben, "Elsewhere");
    let said = theirs.chat(None, "From the other one");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    let archive = backup(&theirs, &[]);

    let mut world = World::ready();
    world.chat(None, "From this one");
    world.stop();
    assert!(world.data().join("logs").exists());
    // One person of it has no place here, even under the same password.
    let restore_ben = ["--person", "Ben", "restore", string(&archive)];
    let done = opening(&world, &restore_ben);
    assert_eq!(done.status.code(), Some(15), "{}", text(&done.stderr));
    assert!(
        text(&done.stderr).contains("another AICO"),
        "{}",
        text(&done.stderr)
    );
    // The whole of it does. The logs of before open with the key of before: they go with it.
    restore(&world, &archive);
    let kept = names_in(&world.data())
        .into_iter()
        .find(|name| name.starts_with("before-restore-"))
        .unwrap();
    let kept = names_in(&world.data().join(kept));
    assert!(
        kept.contains(&"logs".to_owned()) && kept.contains(&"home".to_owned()),
        "{kept:?}"
    );
    world.serve();
    assert!(shown(&world, &conversation).contains("From the other one"));
    world.said(&["logs"]);
    // Named with --to, a place has to be free.
    world.stop();
    let data = world.data();
    let done = opening(
        &world,
        &["restore", string(&archive), "--to", string(&data)],
    );
    assert_eq!(done.status.code(), Some(15), "{}", text(&done.stderr));
}
