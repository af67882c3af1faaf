//! `aico vault rotate`: other keys while everything runs, and killed at every step.

use std::path::PathBuf;
use std::time::Duration;

use aico_vault::{Password, Vault};
use serde_json::Value;

use crate::backups::{backup, opened, restore, verify};
use crate::support::{PASSWORD, World, fails, nothing_unfinished, text, until};

const BEN: &str = "copper Ben meadow trumpet glass";

fn path(world: &World, name: &str) -> String {
    world.path(name).to_str().unwrap().to_owned()
}

/// Mia and Ben, each of whom has said something. Answers Mia's conversation.
fn family(world: &World) -> String {
    world.write("ben", BEN);
    let ben = path(world, "ben");
    world.said(&["person", "add", "Ben", "--password-file", &ben]);
    say(world, "a word of Ben's: quince");
    let made = world.chat(None, "a word of Mia's: medlar");
    made["conversation"].as_str().unwrap().to_owned()
}

/// Says something as Ben.
fn say(world: &World, words: &str) {
    let ben = path(world, "ben");
    world.said(&[
        "--person",
        "Ben",
        "chat",
        "--once",
        words,
        "--password-file",
        &ben,
    ]);
}

/// What was said is there, for both, and goes on.
fn whole(world: &World, conversation: &str) {
    let shown = world.said(&["conversation", "show", conversation]);
    assert!(shown.contains("medlar"), "{shown}");
    let ben = world.api().sign_in("Ben", BEN);
    let (status, found) = ben.get("/api/v1/search?q=quince");
    assert_eq!(status, 200, "{found}");
    assert!(!found["items"].as_array().unwrap().is_empty(), "{found}");
    let (status, _) = ben.call("DELETE", "/api/v1/sessions/current", None);
    assert_eq!(status, 204);
    let more = world.chat(Some(conversation), "and once more");
    assert_eq!(more["status"], "complete");
}

fn rotate(world: &World, more: &[&str]) -> std::process::Output {
    let phrase = path(world, "next-phrase");
    let _ = std::fs::remove_file(&phrase);
    let password = path(world, "password");
    let mut arguments = vec!["vault", "rotate", "--password-file", &password];
    if more
        .iter()
        .all(|it| *it != "--purpose" && *it != "--person")
    {
        arguments.extend(["--recovery-file", &phrase]);
    }
    arguments.extend(more);
    world.aico(&arguments)
}

fn rotated(world: &World, more: &[&str]) -> String {
    let done = rotate(world, more);
    assert!(done.status.success(), "{}", text(&done.stderr));
    text(&done.stderr)
}

fn status(world: &World) -> Value {
    let done = world.said(&["vault", "status", "--json"]);
    serde_json::from_str(&done).unwrap()
}

/// Kinds of the wraps in the header, as they stand in the file.
fn wraps(world: &World) -> Vec<u16> {
    let header = std::fs::read(world.home().join("vault.hdr")).unwrap();
    let count = u16::from_be_bytes(header[46..48].try_into().unwrap());
    let mut at = 48;
    (0..count)
        .map(|_| {
            let kind = u16::from_be_bytes(header[at..at + 2].try_into().unwrap());
            let len = u32::from_be_bytes(header[at + 2..at + 6].try_into().unwrap());
            at += 6 + len as usize;
            kind
        })
        .collect()
}

fn finished(world: &World) {
    until("the change of keys is done", || {
        let said = world.said(&["vault", "rotate", "--status"]);
        assert!(!said.contains("stopped"), "{said}");
        (!said.contains("being changed")).then_some(())
    });
    assert_eq!(wraps(world), [1, 2], "no key from before");
}

/// A copy of the home, to look into with nothing but the password.
fn copy(world: &World, name: &str) -> PathBuf {
    let to = world.path(name);
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([world.home(), to.clone()])
        .status()
        .unwrap();
    assert!(copied.success());
    to
}

fn files(folder: &std::path::Path, ending: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    crate::privacy::files(folder, &mut all);
    all.retain(|path| path.to_str().unwrap().ends_with(ending));
    assert!(!all.is_empty(), "{ending}");
    all.iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Epoch of each segment header's key at the beginning of files.
fn epochs(files: &[Vec<u8>]) -> Vec<u32> {
    let epoch = |file: &Vec<u8>| u32::from_be_bytes(file[10..14].try_into().unwrap());
    files.iter().map(epoch).collect()
}

#[test]
fn a_new_root_key_comes_in_while_everything_runs_and_all_is_under_it() {
    let mut world = World::ready();
    let conversation = family(&world);
    let before = copy(&world, "before");
    let said = rotated(&world, &[]);
    // What it does and what it does not is said where it is done.
    assert!(said.contains("opens nothing here any more"), "{said}");
    assert!(said.contains("made before still open"), "{said}");
    assert_eq!(status(&world)["key_epoch"], 2);
    assert_eq!(wraps(&world), [1, 2]);
    whole(&world, &conversation);
    world.stop();
    // The page that was signed in stays so: nothing that signs was changed.
    let (old, new) = (
        files(&before, "system.db"),
        files(&world.home(), "system.db"),
    );
    assert_ne!(old[0][..16], new[0][..16]);
    for (folder, ending) in [
        (world.home(), "registry"),
        (world.data().join("logs"), ".log"),
        (world.home().join("journal"), ".journal"),
    ] {
        let all = epochs(&files(&folder, ending));
        assert!(all.iter().all(|epoch| *epoch == 2), "{ending}: {all:?}");
    }
    // The phrase from before opens nothing any more; the new one does.
    let recover = |phrase: &str| {
        world.aico(&[
            "vault",
            "recover",
            "--phrase-file",
            &path(&world, phrase),
            "--new-password-file",
            &path(&world, "password"),
        ])
    };
    let old = recover("phrase");
    assert_eq!(old.status.code(), Some(5), "{}", text(&old.stderr));
    assert!(recover("next-phrase").status.success());
    world.serve();
    whole(&world, &conversation);
    let logs = world.said(&["logs"]);
    assert!(
        logs.lines()
            .any(|line| line.contains("there is a new root key"))
    );
    assert!(
        logs.contains("unlocked"),
        "what was logged before it: {logs}"
    );
    world.stop();
}

#[test]
fn after_compromise_every_key_is_new_and_the_old_ones_open_nothing() {
    let mut world = World::ready();
    let conversation = family(&world);
    let letter = path(&world, "letter");
    std::fs::write(&letter, "to whom it concerns").unwrap();
    world.said(&["file", "encrypt", &letter]);
    let mia = world.api().sign_in("Mia", PASSWORD);
    let before = copy(&world, "before");
    let said = rotated(&world, &["--compromised"]);
    assert!(said.contains("destroy every backup"), "{said}");
    assert!(said.contains("signs in again"), "{said}");
    assert_eq!(mia.get("/api/v1/me").0, 401, "signed out");
    whole(&world, &conversation);
    assert_eq!(
        world.said(&["file", "cat", &format!("{letter}.aico")]),
        "to whom it concerns"
    );
    world.stop();
    world.serve();
    whole(&world, &conversation);
    world.stop();
    // With everything that could be had before: the header, and each person's key.
    let password = Password::new(PASSWORD).unwrap();
    let old = Vault::unlock(&before, &password).unwrap();
    let now = copy(&world, "now");
    for name in std::fs::read_dir(before.join("persons")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        let id: Vec<u8> = (0..16)
            .map(|at| u8::from_str_radix(&name[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        let keys = old.open_person(id.clone().try_into().unwrap()).unwrap();
        let key = keys.derive(aico_vault::Purpose::PersonDatabase);
        let db = |home: &std::path::Path| home.join("persons").join(&name).join("person.db");
        let opens = |home: &std::path::Path| aico_store::Store::opens_with(&db(home), key.expose());
        // The one that was copied while it was open may have no first page yet.
        assert!(!opens(&now), "an old key opens a new database");
    }
    let (was, is) = (files(&before, "keyring"), files(&now, "keyring"));
    assert_eq!((epochs(&was), epochs(&is)), (vec![1, 1], vec![2, 2]));
}

#[test]
fn one_key_or_one_persons_changes_alone() {
    let mut world = World::ready();
    let conversation = family(&world);
    let salts = |world: &World| -> Vec<Vec<u8>> {
        let all = files(&world.home(), "person.db");
        all.iter().map(|file| file[..16].to_vec()).collect()
    };
    let before = salts(&world);
    rotated(&world, &["--person", "Ben", "--purpose", "person-database"]);
    let one = salts(&world);
    let changed = before.iter().zip(&one).filter(|(a, b)| a != b).count();
    assert_eq!(changed, 1);
    rotated(&world, &["--person", "Ben"]);
    whole(&world, &conversation);
    rotated(
        &world,
        &[
            "--purpose",
            "system-database",
            "--purpose",
            "person-database",
        ],
    );
    assert!(salts(&world).iter().all(|salt| !one.contains(salt)));
    assert_eq!(status(&world)["key_epoch"], 1, "the root key stays");
    let password = path(&world, "password");
    let refused = |purpose: &str, words: &str| {
        let arguments = [
            "vault",
            "rotate",
            "--purpose",
            purpose,
            "--password-file",
            &password,
        ];
        fails(&world, &arguments, 15, words);
    };
    for (purpose, words) in [
        ("registry", "aico vault rotate"),
        ("header-mac", "aico vault rotate"),
        ("keyring-mac", "aico vault rotate --person NAME"),
        ("encrypted-file", "aico file encrypt"),
        ("archive", "aico backup create"),
    ] {
        refused(purpose, words);
    }
    refused("nonsense", "no key for that purpose");
    world.write("wrong", "not the master password");
    let wrong = path(&world, "wrong");
    let arguments = [
        "vault",
        "rotate",
        "--purpose",
        "bus-key",
        "--password-file",
        &wrong,
    ];
    fails(&world, &arguments, 5, "password");
    world.stop();
    world.serve();
    whole(&world, &conversation);
}

fn names(folder: &std::path::Path, ending: &str) -> Vec<String> {
    let mut all = Vec::new();
    crate::privacy::files(folder, &mut all);
    all.sort();
    let names = all.iter().map(|path| path.to_str().unwrap().to_owned());
    names.filter(|name| name.ends_with(ending)).collect()
}

#[test]
fn the_keys_of_log_journal_secrets_and_kept_prompts_change_alone() {
    let mut world = World::ready();
    let conversation = family(&world);
    keep_secret(&world);
    let (logs, journal) = (world.data().join("logs"), world.home().join("journal"));
    let persons = world.home().join("persons");
    let folders = std::fs::read_dir(&persons).unwrap();
    let folders: Vec<_> = folders.map(|it| it.unwrap().path()).collect();
    for person in &folders {
        let folder = person.join("prompt-cache");
        let _ = std::fs::create_dir(&folder);
        std::fs::write(folder.join("0".repeat(32)), "kept").unwrap();
    }
    let prompts = || names(&persons, &"0".repeat(32)).len();
    // Of a file of segments: the first one's random bytes. Of a finished one: its id.
    let randoms = || -> Vec<_> {
        let all = files(&journal, ".journal");
        all.iter().map(|file| file[91..123].to_vec()).collect()
    };
    let id = || std::fs::read(world.home().join("secrets")).unwrap()[63..79].to_vec();

    // The same files, with other keys for what persons said.
    let (before, random) = (names(&journal, ".journal"), randoms());
    rotated(&world, &["--purpose", "bus-body"]);
    assert_eq!(names(&journal, ".journal"), before);
    assert!(randoms().iter().all(|it| !random.contains(it)));
    whole(&world, &conversation);

    let (old_logs, old_journal) = (names(&logs, ".log"), names(&journal, ".journal"));
    let old_id = id();
    rotated(&world, &["--person", "Ben", "--purpose", "prompt-cache"]);
    assert_eq!(prompts(), folders.len() - 1);
    rotated(
        &world,
        &[
            "--purpose",
            "log",
            "--purpose",
            "bus-journal",
            "--purpose",
            "configuration",
            "--purpose",
            "prompt-cache",
        ],
    );
    assert_eq!(prompts(), 0);
    let (new_logs, new_journal) = (names(&logs, ".log"), names(&journal, ".journal"));
    assert!(!new_journal.is_empty());
    assert!(new_logs.iter().all(|name| !old_logs.contains(name)));
    assert!(new_journal.iter().all(|name| !old_journal.contains(name)));
    assert_ne!(id(), old_id);
    assert_eq!(status(&world)["key_epoch"], 1, "the root key stays");

    for again in [false, true] {
        if again {
            world.stop();
            world.serve();
        }
        whole(&world, &conversation);
        let secrets = world.said(&["config", "secret", "list"]);
        assert!(secrets.contains("openai"), "{secrets}");
        let told = world.said(&["logs"]);
        assert!(told.contains("unlocked"), "what was logged before: {told}");
        assert!(!told.contains("gone missing"), "{told}");
        assert!(!told.contains("could not be read"), "{told}");
    }
    // Without a daemon, too.
    world.stop();
    let (old_logs, old_journal) = (names(&logs, ".log"), names(&journal, ".journal"));
    rotated(&world, &["--purpose", "log", "--purpose", "bus-journal"]);
    let (new_logs, new_journal) = (names(&logs, ".log"), names(&journal, ".journal"));
    assert_eq!(
        (new_logs.len(), new_journal.len()),
        (old_logs.len(), old_journal.len())
    );
    assert!(new_logs.iter().all(|name| !old_logs.contains(name)));
    assert!(new_journal.iter().all(|name| !old_journal.contains(name)));
    world.serve();
    whole(&world, &conversation);
}

/// The only key file.
fn key_file(world: &World) -> (PathBuf, Vec<u8>) {
    let folder = world.path("config").join("aico/keys");
    let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
    assert_eq!(all.len(), 1, "one key file");
    let path = all.remove(0).unwrap().path();
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn a_start_without_a_password_goes_on_and_the_key_that_was_kept_before_opens_nothing() {
    let mut world = World::ready();
    let conversation = family(&world);
    let password = path(&world, "password");
    world.said(&[
        "vault",
        "remember",
        "--key-file",
        "--password-file",
        &password,
    ]);
    let old = key_file(&world);
    rotated(&world, &[]);
    let new = key_file(&world);
    assert_ne!(old, new);
    assert_eq!(wraps(&world), [1, 2, 4]);
    world.stop();
    let line = world.serve_with(&[]);
    assert!(line.contains("ready"), "{line}");
    whole(&world, &conversation);
    world.stop();
    // The old key in the place of the new one.
    std::fs::write(&new.0, &old.1).unwrap();
    let line = world.serve_with(&[]);
    assert!(line.contains("locked"), "{line}");
}

/// Who talks meanwhile waits a moment at most, and nothing that was acknowledged is lost.
#[test]
fn a_conversation_goes_on_while_the_keys_change() {
    let world = World::ready();
    let conversation = family(&world);
    let done = std::sync::atomic::AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        let talking = scope.spawn(|| {
            let mut said = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let answer = world.chat(Some(&conversation), &format!("number {said}"));
                assert_eq!(answer["status"], "complete");
                said += 1;
            }
            said
        });
        for more in [
            &["--compromised"][..],
            &[
                "--purpose",
                "person-database",
                "--purpose",
                "system-database",
            ],
            &[],
        ] {
            rotated(&world, more);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        talking.join().unwrap()
    });
    assert!(said > 3, "{said}");
    let shown = world.said(&["conversation", "show", &conversation]);
    for n in 0..said {
        assert!(shown.contains(&format!("number {n}")), "{n}: {shown}");
    }
}

#[test]
fn it_needs_no_daemon() {
    let mut world = World::ready();
    let conversation = family(&world);
    world.stop();
    rotated(&world, &[]);
    rotated(&world, &["--compromised"]);
    world.serve();
    assert_eq!(status(&world)["key_epoch"], 3);
    assert_eq!(wraps(&world), [1, 2]);
    whole(&world, &conversation);
}

#[test]
fn one_that_was_cut_off_is_finished_before_another_that_is_asked_for() {
    let mut world = World::ready();
    let conversation = family(&world);
    world.stop();
    world.set("AICO_TEST_ROTATION_FAULT", "registry");
    let cut = rotate(&world, &[]);
    assert!(!cut.status.success(), "{}", text(&cut.stderr));
    world.set("AICO_TEST_ROTATION_FAULT", "");
    let said = rotated(&world, &["--compromised"]);
    assert!(said.contains("is finished first"), "{said}");
    world.serve();
    assert_eq!(status(&world)["key_epoch"], 3);
    assert_eq!(wraps(&world), [1, 2]);
    assert_eq!(epochs(&files(&world.home(), "keyring")), [2, 2]);
    whole(&world, &conversation);
}

/// Keeps a secret of the configuration.
fn keep_secret(world: &World) {
    let value = std::fs::File::open(world.write("secret", "sk-medlar-nine")).unwrap();
    let mut set = world.command(&["config", "secret", "set", "openai"]);
    let done = set.stdin(value).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
}

/// Row 19: killed with SIGKILL at each step. The next start goes on, and nothing is lost.
#[test]
fn killed_at_any_step_the_next_start_goes_on_and_nothing_is_lost() {
    let points = [
        ("planned", false),
        ("header", true),
        ("settled", true),
        ("registry", true),
        ("keyring", true),
        ("keyrings", true),
        ("system", true),
        ("sealed-keys", true),
        ("person-key", true),
        ("person-store", true),
        // Steps of changes of single keys, which leave the root key.
        ("working-memory", false),
        ("logs-anew", false),
        ("journal-anew", false),
        ("bodies", false),
        ("secrets", false),
        ("prompts", false),
        ("logs", true),
        ("journal", true),
        ("bus-key", true),
        ("signing-key", true),
        ("finish", true),
    ];
    let mut world = World::ready();
    let conversation = family(&world);
    keep_secret(&world);
    let archive = backup(&world, &[]);
    let mut epoch = 1;
    for (point, begun) in points {
        world.stop();
        world.set("AICO_TEST_ROTATION_FAULT", point);
        world.serve();
        world.set("AICO_TEST_ROTATION_FAULT", "");
        let what: &[&str] = match point {
            "working-memory" => &["--purpose", point],
            "logs-anew" => &["--purpose", "log"],
            "journal-anew" => &["--purpose", "bus-journal"],
            "bodies" => &["--purpose", "bus-body"],
            "secrets" => &["--purpose", "configuration"],
            "prompts" => &["--purpose", "prompt-cache"],
            _ => &["--compromised"],
        };
        let cut = rotate(&world, what);
        assert!(!cut.status.success(), "{point}: {}", text(&cut.stderr));
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(world.ended().signal(), Some(9), "{point}");
        world.serve();
        finished(&world);
        epoch += u32::from(begun);
        assert_eq!(status(&world)["key_epoch"], epoch, "{point}");
        whole(&world, &conversation);
        // All of them are read for that, and authenticated.
        let secrets = world.said(&["config", "secret", "list"]);
        assert!(secrets.contains("openai"), "{point}: {secrets}");
    }
    // The archive from before is whole, and its key, which is sealed here, is still known.
    assert!(verify(&world, &archive).contains("Ben"));
    let password = path(&world, "password");
    world.said(&["person", "erase", "Ben", "--password-file", &password]);
    let left = verify(&world, &archive);
    assert!(left.contains("Mia") && !left.contains("Ben"), "{left}");
    // A phrase that was shown counts, whatever happened afterwards.
    world.stop();
    let recovered = world.aico(&[
        "vault",
        "recover",
        "--phrase-file",
        &path(&world, "next-phrase"),
        "--new-password-file",
        &path(&world, "password"),
    ]);
    assert!(recovered.status.success(), "{}", text(&recovered.stderr));
}

/// The same at moments that nobody chose, also again while it is gone on with.
#[test]
fn killed_at_random_moments_it_goes_on() {
    let mut world = World::ready();
    let conversation = family(&world);
    let rounds: u64 = std::env::var("AICO_TEST_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(5);
    for round in 0..rounds {
        let password = path(&world, "password");
        let phrase = path(&world, "next-phrase");
        let _ = std::fs::remove_file(&phrase);
        let kind: &[&str] = if round % 2 == 0 {
            &["--compromised"]
        } else {
            &[]
        };
        let mut command = world.command(&[
            "vault",
            "rotate",
            "--password-file",
            &password,
            "--recovery-file",
            &phrase,
        ]);
        let mut running = command
            .args(kind)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(
            300 + round.wrapping_mul(2_654_435_761) % 900,
        ));
        world.kill();
        running.wait().unwrap();
        world.serve();
        std::thread::sleep(Duration::from_millis(round * 37 % 120));
        world.kill();
        world.serve();
        finished(&world);
        whole(&world, &conversation);
        nothing_unfinished(&world, &format!("after the kills of round {round}"));
    }
}

#[test]
fn without_room_nothing_is_begun_and_it_is_said_how_much_is_needed() {
    let test = "without_room_nothing_is_begun_and_it_is_said_how_much_is_needed";
    let Some(mut world) = World::on_disk(&format!("rotation::{test}"), "40m") else {
        return;
    };
    let done = world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    world.serve();
    let conversation = family(&world);
    let filler = world.data().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    use std::io::Write as _;
    while file.write_all(&[0; 1 << 16]).is_ok() {}
    file.set_len(file.metadata().unwrap().len() - (6 << 20))
        .unwrap();
    let refused = rotate(&world, &[]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(12), "{said}");
    assert!(said.contains("17 MiB free"), "{said}");
    assert_eq!(status(&world)["key_epoch"], 1);
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    rotated(&world, &[]);
    whole(&world, &conversation);
    world.stop();
}

#[test]
fn backups_from_before_and_after_a_change_of_keys_bring_everything_back() {
    let world = World::ready();
    let conversation = family(&world);
    let ben = path(&world, "ben");
    let mut archives = vec![backup(&world, &[])];
    rotated(&world, &["--compromised"]);
    rotated(&world, &["--purpose", "system-database"]);
    rotated(&world, &["--purpose", "person-database"]);
    archives.push(backup(&world, &[]));
    let own = path(&world, "own-phrase");
    let seal = ["person", "seal", "Ben", "--yes", "--password-file", &ben];
    world.said(&[&seal[..], &["--recovery-file", &own]].concat());
    archives.push(backup(&world, &[]));

    for archive in archives {
        let mut other = World::new();
        let copy = other.path("copy.aicobackup");
        std::fs::copy(&archive, &copy).unwrap();
        restore(&other, &copy);
        other.serve();
        other.write("ben", BEN);
        whole(&other, &conversation);
        rotated(&other, &["--compromised"]);
        whole(&other, &conversation);
        // With the new keys after a start, too.
        other.stop();
        other.serve();
        whole(&other, &conversation);
    }
}

#[test]
fn archives_from_before_are_named_and_an_erasure_still_reaches_them() {
    let world = World::ready();
    family(&world);
    let archive = backup(&world, &[]);
    let notes = rotated(&world, &["--compromised"]);
    assert!(notes.contains(archive.to_str().unwrap()), "{notes}");
    assert!(verify(&world, &archive).contains("Ben"));
    let password = path(&world, "password");
    world.said(&["person", "erase", "Ben", "--password-file", &password]);
    let left = verify(&world, &archive);
    assert!(left.contains("Mia") && !left.contains("Ben"), "{left}");
    // The list of the erased was begun after the change, and the archive made before it.
    let to = path(&world, "drill");
    opened(&world, &["restore", archive.to_str().unwrap(), "--to", &to]);
}
