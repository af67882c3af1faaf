//! What the model has read, kept across restarts: sealed, per person, and gone with what it is of.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::backups::{add_ben, backup, ben_says, names_in, restore, string};
use crate::support::{World, done, text};

/// A daemon that keeps whatever was read, however fast.
fn serve(world: &mut World) {
    serve_with(world, &["--set", "models.prompt_cache_least_ms=0"]);
}

fn serve_with(world: &mut World, more: &[&str]) {
    let password = world.path("password");
    let arguments = [&["--password-file", string(&password)], more].concat();
    world.serve_with(&arguments);
}

fn set_up() -> World {
    let world = World::new();
    let done = world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    world
}

/// Files of kept prompts, of everybody.
fn kept(home: &Path) -> Vec<PathBuf> {
    let persons = home.join("persons");
    let folders = names_in(&persons);
    let folders = folders
        .iter()
        .map(|id| persons.join(id).join("prompt-cache"));
    folders
        .flat_map(|folder| {
            let names = names_in(&folder);
            names.into_iter().map(move |name| folder.join(name))
        })
        .collect()
}

fn cached(said: &Value) -> u64 {
    said["stats"]["cached_tokens"].as_u64().unwrap()
}

#[test]
fn a_conversation_goes_on_after_a_restart_without_reading_it_again() {
    let mut world = set_up();
    serve(&mut world);
    let first = world.chat(None, "My dog is called Rex");
    assert_eq!(cached(&first), 0);
    let conversation = first["conversation"].as_str().unwrap().to_owned();
    let read = first["stats"]["prompt_tokens"].as_u64().unwrap();
    world.stop();
    let [file] = &kept(&world.home())[..] else {
        panic!("one conversation, one file")
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);
    }
    let bytes = std::fs::read(file).unwrap();
    assert!(!bytes.windows(10).any(|window| window == b"called Rex"));
    // Its name is not the conversation's.
    let name = file.file_name().unwrap().to_str().unwrap();
    assert_ne!(name, conversation.replace('-', ""));

    serve(&mut world);
    let second = world.chat(Some(&conversation), "What is it called?");
    assert!(cached(&second) >= read, "{second}");
    // Locking ends the model process as well, and what it knows is kept the same way.
    world.said(&["lock"]);
    let password = world.path("password");
    world.said(&["unlock", "--password-file", string(&password)]);
    let third = world.chat(Some(&conversation), "And my name?");
    assert!(cached(&third) > cached(&second), "{third}");

    // Damaged, it is read anew, and nobody hears of it.
    world.stop();
    let file = kept(&world.home()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    serve(&mut world);
    let fourth = world.chat(Some(&conversation), "Still there?");
    assert_eq!(
        (cached(&fourth), &fourth["status"]),
        (0, &"complete".into())
    );

    // Gone with its conversation, from the disk and from the process.
    world.said(&["conversation", "delete", &conversation]);
    assert!(kept(&world.home()).is_empty());
    world.stop();
    assert!(kept(&world.home()).is_empty());
}

#[test]
fn what_is_read_in_no_time_is_not_kept_and_none_when_it_is_switched_off() {
    let mut world = set_up();
    // The starter reads a page in a blink.
    serve_with(&mut world, &[]);
    world.chat(None, "Hello");
    world.stop();
    assert!(kept(&world.home()).is_empty());
    serve_with(
        &mut world,
        &[
            "--set",
            "models.prompt_cache_least_ms=0",
            "--set",
            "models.prompt_cache_megabytes=0",
        ],
    );
    world.chat(None, "Hello");
    world.stop();
    assert!(kept(&world.home()).is_empty());
}

#[test]
fn one_persons_is_not_anothers_and_goes_with_them_and_is_in_no_backup() {
    let mut world = set_up();
    serve(&mut world);
    let ben = add_ben(&world);
    ben_says(&world, &ben, "My dog is called Rex");
    let said = world.chat(None, "My dog is called Rex");
    // What the character is told first was read for Ben; the same words are read for each of them.
    let read = said["stats"]["prompt_tokens"].as_u64().unwrap() - cached(&said);
    assert!(cached(&said) > 0 && read > 8, "{said}");
    world.stop();
    assert_eq!(kept(&world.home()).len(), 2);
    serve(&mut world);
    let archive = backup(&world, &[]);
    // New keys: nothing stays under the ones before.
    let password = world.path("password");
    let rotate = ["vault", "rotate", "--compromised", "--password-file"];
    let phrase = world.path("phrase-new");
    let more = [string(&password), "--recovery-file", string(&phrase)];
    world.said(&[&rotate[..], &more].concat());
    assert!(kept(&world.home()).is_empty());
    let chat = [
        "--person",
        "Ben",
        "chat",
        "--json",
        "--once",
        "And my cat Mo",
    ];
    done(&world.said(&[&chat[..], &["--password-file", &ben]].concat()));
    world.chat(None, "And my cat Mo");
    world.stop();
    let before = kept(&world.home());
    assert_eq!(before.len(), 2);
    serve(&mut world);
    ben_says(&world, &ben, "And another dog");
    world.said(&[
        "person",
        "erase",
        "Ben",
        "--password-file",
        string(&password),
    ]);
    assert_eq!(kept(&world.home()).len(), 1);
    world.stop();
    assert_eq!(
        kept(&world.home()).len(),
        1,
        "the process had forgotten him"
    );
    restore(&world, &archive);
    assert!(kept(&world.home()).is_empty());
}

/// Whoever is killed leaves what was there the moment before.
#[test]
#[cfg(target_os = "linux")]
fn nothing_of_the_model_process_is_left_in_its_folder() {
    let mut world = set_up();
    serve(&mut world);
    world.chat(None, "Hello");
    let all = world.data().join("run/scratch");
    assert!(files_below(&all).is_empty(), "it writes nothing there");
    // What a process that was taken over might leave, in the folder of its slot.
    let leave = |name: &str| {
        let own = std::fs::read_dir(&all).unwrap().next().unwrap().unwrap();
        let folder = own.path().join("folder");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), "of a conversation").unwrap();
        std::fs::write(own.path().join(name), "of a conversation").unwrap();
    };
    leave("one");
    let [child] = world.children()[..] else {
        panic!("one child")
    };
    crate::support::send(child, "KILL");
    crate::support::until("its folder is emptied", || {
        files_below(&all).is_empty().then_some(())
    });
    world.chat(None, "Hello again");
    leave("two");
    world.kill();
    assert_eq!(files_below(&all).len(), 2);
    serve(&mut world);
    assert!(files_below(&all).is_empty());
    world.chat(None, "And again");
    leave("three");
    world.stop();
    assert!(files_below(&all).is_empty());
}

/// What there is but folders; nothing where there is no folder.
#[cfg(target_os = "linux")]
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let below = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files_below(&entry.path()),
        _ => vec![entry.path()],
    });
    below.flatten().collect()
}
