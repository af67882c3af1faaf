//! `aico config secret`: kept sealed under a name, and told by nothing.

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::backups::{backup, names_in, restore, string};
use crate::support::{World, fails, text};

const VALUE: &str = "sk-zebra-crossing-nine";

fn set(world: &World, name: &str, value: &str) -> Output {
    let mut child = world
        .command(&["config", "secret", "set", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended before it read.
    let _ = stdin.write_all(value.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn kept(world: &World, name: &str, value: &str) {
    let done = set(world, name, value);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(!text(&done.stderr).contains("zebra") && done.stdout.is_empty());
}

fn refused(world: &World, name: &str, value: &str, code: i32, words: &str) {
    let done = set(world, name, value);
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{said}");
}

fn list(world: &World) -> Vec<Value> {
    let said = world.said(&["config", "secret", "list", "--json"]);
    assert!(!said.contains("zebra"), "{said}");
    serde_json::from_str::<Value>(&said)
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

/// Whether a text is in clear in any file below.
fn anywhere(folder: &Path, wanted: &[u8]) -> bool {
    names_in(folder).iter().any(|name| {
        let path = folder.join(name);
        let about = std::fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            return anywhere(&path, wanted);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

#[test]
fn a_secret_is_kept_sealed_listed_by_name_and_removed() {
    let mut world = World::ready();
    assert!(list(&world).is_empty());
    kept(&world, "openai", &format!("{VALUE}\n"));
    kept(&world, "gpu-server.key_2", "another");
    let names = |world: &World| -> Vec<String> {
        let all = list(world);
        let names = all
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned());
        names.collect()
    };
    assert_eq!(names(&world), ["gpu-server.key_2", "openai"]);
    let [first, ..] = &list(&world)[..] else {
        panic!("two")
    };
    let fields: Vec<&String> = first.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["name", "set_at"], "and nothing else");
    assert!(!anywhere(&world.data(), VALUE.as_bytes()));
    assert!(
        !anywhere(&world.data(), b"gpu-server"),
        "not the name either"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let about = std::fs::metadata(world.home().join("secrets")).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
    }
    // Nothing tells it: not the configuration, not the log.
    for arguments in [&["config", "show"][..], &["logs", "--level", "debug"]] {
        assert!(!world.said(arguments).contains("zebra"));
    }

    world.kill();
    world.serve();
    assert_eq!(names(&world).len(), 2);
    world.said(&["config", "secret", "remove", "gpu-server.key_2"]);
    assert_eq!(names(&world), ["openai"]);
    let remove = ["config", "secret", "remove", "gpu-server.key_2"];
    fails(&world, &remove, 13, "no such thing");

    refused(&world, "Not a name", "x", 15, "small letters");
    refused(&world, "empty", "", 15, "1 to 4096 bytes");
    refused(&world, "lines", "a\nb", 15, "one line");
    world.said(&["lock"]);
    refused(&world, "openai", "x", 4, "locked");
    fails(&world, &["config", "secret", "list"], 4, "locked");
}

#[test]
fn a_damaged_file_of_secrets_is_refused_whole_and_everything_else_goes_on() {
    let world = World::ready();
    kept(&world, "openai", VALUE);
    let path = world.home().join("secrets");
    let whole = std::fs::read(&path).unwrap();
    for at in [0, 20, 130, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        fails(&world, &["config", "secret", "list"], 10, "damaged");
        // What can't be read is not written over.
        refused(&world, "other", "x", 10, "damaged");
    }
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    fails(&world, &["config", "secret", "list"], 10, "damaged");
    fails(&world, &["store", "check"], 26, "aico config secret set");
    fails(
        &world,
        &["backup", "create"],
        10,
        "the secrets of the configuration are not in it",
    );
    world.chat(None, "Hello");
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(list(&world).len(), 1);
}

#[test]
fn secrets_go_along_with_new_keys_and_with_a_backup() {
    let mut world = World::ready();
    kept(&world, "openai", VALUE);
    let before = std::fs::read(world.home().join("secrets")).unwrap();
    let password = world.path("password");
    let phrase = world.path("phrase-new");
    world.said(&[
        "vault",
        "rotate",
        "--password-file",
        string(&password),
        "--recovery-file",
        string(&phrase),
    ]);
    let after = std::fs::read(world.home().join("secrets")).unwrap();
    assert_ne!(before[10..14], after[10..14], "under the new root key");
    assert_eq!(list(&world).len(), 1);

    let archive = backup(&world, &[]);
    assert!(!anywhere(archive.parent().unwrap(), VALUE.as_bytes()));
    world.said(&["config", "secret", "remove", "openai"]);
    world.stop();
    restore(&world, &archive);
    world.serve();
    assert_eq!(list(&world)[0]["name"], "openai");
}
