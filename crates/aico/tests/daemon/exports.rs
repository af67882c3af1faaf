//! Everything about a person in open formats, counted.

use std::path::Path;

use serde_json::Value;

use crate::backups::{add_ben, ben_says, names_in, string};
use crate::support::{World, fails, text};

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_person_gets_all_that_is_theirs_and_nothing_that_is_anothers() {
    let world = World::ready();
    let ben = add_ben(&world);
    let his = ben_says(&world, &ben, "I keep bees in Lund");
    let said = world.chat(None, "My dog is called Rex");
    let mine = said["conversation"].as_str().unwrap().to_owned();
    // Another branch, which is not the one that is shown.
    world.chat(Some(&mine), "And a cat");
    world.said(&["token", "create", "--name", "Editor"]);

    let (to, password) = (world.path("my-data"), world.path("password"));
    let export = [
        "export",
        "--to",
        string(&to),
        "--password-file",
        string(&password),
    ];
    let done = world.aico(&export);
    let notes = text(&done.stderr);
    assert!(done.status.success(), "{notes}");
    assert!(notes.contains("not encrypted"), "{notes}");
    let messages = lines(&to.join("companion_message.jsonl"));
    assert_eq!(messages.len(), 4);
    assert!(
        messages
            .iter()
            .all(|message| message["conversation"] == mine.as_str())
    );
    let parts = lines(&to.join("companion_part.jsonl"));
    assert!(
        parts
            .iter()
            .any(|part| part["text"] == "My dog is called Rex")
    );
    let account = lines(&to.join("account.jsonl"));
    assert!(
        account
            .iter()
            .any(|line| line["kind"] == "person" && line["name"] == "Mia")
    );
    assert!(
        account
            .iter()
            .any(|line| line["kind"] == "token" && line["name"] == "Editor")
    );
    let [page] = &names_in(&to.join("conversations"))[..] else {
        panic!("one conversation, one page")
    };
    let page = std::fs::read_to_string(to.join("conversations").join(page)).unwrap();
    assert!(
        page.contains("**You**") && page.contains("My dog is called Rex"),
        "{page}"
    );
    assert!(
        page.contains("**AICO**") && page.contains("And a cat"),
        "{page}"
    );
    let manifest = std::fs::read_to_string(to.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    for (name, count) in manifest["lines"].as_object().unwrap() {
        assert_eq!(
            lines(&to.join(name)).len() as u64,
            count.as_u64().unwrap(),
            "{name}"
        );
    }
    let readme = std::fs::read_to_string(to.join("README.md")).unwrap();
    assert!(readme.contains("Nothing here is encrypted"), "{readme}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&to), 0o700);
        assert_eq!(mode(&to.join("account.jsonl")), 0o600);
    }
    // Nothing of how it was made.
    let hidden: Vec<_> = names_in(&to)
        .into_iter()
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?}");
    // Never over something that is there.
    fails(&world, &export, 24, "is there already");

    // Ben's is Ben's, and his password is asked for it.
    let to = world.path("bens-data");
    let export = [
        "--person",
        "Ben",
        "export",
        "--to",
        string(&to),
        "--password-file",
    ];
    fails(
        &world,
        &[&export[..], &[string(&password)]].concat(),
        5,
        "wrong",
    );
    assert!(!to.exists());
    world.said(&[&export[..], &[&ben]].concat());
    let everything: String = names_in(&to)
        .iter()
        .filter_map(|name| std::fs::read_to_string(to.join(name)).ok())
        .collect();
    assert!(everything.contains("bees in Lund") && everything.contains(&his));
    assert!(!everything.contains("Rex") && !everything.contains("Editor"));
}

#[test]
fn a_wrong_password_or_place_writes_nothing() {
    let world = World::ready();
    let wrong = world.write("wrong", "not the password at all");
    let to = world.path("out");
    let export = [
        "export",
        "--to",
        string(&to),
        "--password-file",
        string(&wrong),
    ];
    fails(&world, &export, 5, "wrong");
    let nowhere = world.path("no/such/out");
    let password = world.path("password");
    let export = [
        "export",
        "--to",
        string(&nowhere),
        "--password-file",
        string(&password),
    ];
    fails(&world, &export, 24, "missing");
    let left: Vec<_> = names_in(world.path("x").parent().unwrap());
    assert!(!left.iter().any(|name| name.contains("out")), "{left:?}");
    // Not over TCP, whoever is signed in.
    let api = world.api().sign_in("Mia", crate::support::PASSWORD);
    let body = serde_json::json!({"password": crate::support::PASSWORD});
    assert_eq!(api.post("/api/v1/me/export", &body).0, 404);
}

/// Asks the daemon over its local socket, as the program does.
#[cfg(unix)]
fn local(world: &World, path: &str) -> Value {
    use std::io::{Read as _, Write as _};
    let socket = world.data().join("run/aico.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

/// What Python's own `tarfile` finds in it: names and texts.
fn unpacked(world: &World, tar: &[u8]) -> Option<std::collections::BTreeMap<String, String>> {
    const UNPACK: &str = "import json, sys, tarfile\n\
        with tarfile.open(sys.argv[1]) as tar:\n    \
        print(json.dumps({m.name: tar.extractfile(m).read().decode() for m in tar}))\n";
    let python = std::env::var_os("AICO_TEST_PYTHON")?;
    let path = world.path("unpacked.tar");
    std::fs::write(&path, tar).unwrap();
    let done = std::process::Command::new(python)
        .args(["-c", UNPACK])
        .arg(&path)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    Some(serde_json::from_slice(&done.stdout).unwrap())
}

#[test]
#[cfg(unix)]
fn an_encrypted_export_is_one_file_that_another_reader_of_the_format_opens() {
    let world = World::ready();
    let title = "A long title that goes on, ".repeat(8);
    let said = world.chat(None, "My dog is called Rex");
    let mine = said["conversation"].as_str().unwrap().to_owned();
    let api = world.api().sign_in("Mia", crate::support::PASSWORD);
    let rename = serde_json::json!({"title": format!("{title}grün")});
    let path = format!("/api/v1/conversations/{mine}");
    assert_eq!(api.call("PATCH", &path, Some(&rename)).0, 200);

    let (to, password) = (world.path("my-data.tar.aico"), world.path("password"));
    let export = [
        "export",
        "--encrypt",
        "--to",
        string(&to),
        "--password-file",
        string(&password),
    ];
    let done = world.aico(&export);
    let notes = text(&done.stderr);
    assert!(done.status.success(), "{notes}");
    assert!(!notes.contains("not encrypted"), "{notes}");
    let sealed = std::fs::read(&to).unwrap();
    assert!(!sealed.windows(10).any(|window| window == b"called Rex"));
    // Nothing else is left beside it.
    let left = names_in(to.parent().unwrap());
    let ours = left.iter().filter(|name| name.contains("my-data"));
    assert_eq!(ours.count(), 1, "{left:?}");
    fails(&world, &export, 24, "is there already");

    let tar = world.aico(&["file", "cat", string(&to)]).stdout;
    let plain = world.path("plain");
    world.said(&[
        "export",
        "--to",
        string(&plain),
        "--password-file",
        string(&password),
    ]);
    if let Some(files) = unpacked(&world, &tar) {
        assert!(files["companion_part.jsonl"].contains("Rex"));
        assert!(files.contains_key("README.md") && files.contains_key("manifest.json"));
        let page = names_in(&plain.join("conversations")).remove(0);
        assert!(files[&format!("conversations/{page}")].contains("Rex"));
        for name in ["companion_message.jsonl", "companion_part.jsonl"] {
            assert_eq!(
                files[name],
                std::fs::read_to_string(plain.join(name)).unwrap()
            );
        }
    }

    // The reader that was written from the document alone, with the key that the daemon tells.
    let Some(python) = std::env::var_os("AICO_TEST_PYTHON") else {
        eprintln!("skipped: AICO_TEST_PYTHON names no Python with cryptography");
        return;
    };
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let id = uuid::Uuid::from_slice(&sealed[63..79]).unwrap();
    let key = local(&world, &format!("/api/v1/me/files/{id}/key"));
    let owner = key["owner"].as_str().unwrap().replace('-', "");
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../aico-vault/tests/encrypted_files.py");
    let done = std::process::Command::new(python)
        .arg(script)
        .args(["read", key["key"].as_str().unwrap()])
        .args([&key["epoch"].to_string(), "encrypted-file", &owner])
        .arg(hex(&sealed[63..79]))
        .stdin(std::fs::File::open(&to).unwrap())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(done.stdout, tar);
}

#[test]
fn an_encrypted_export_that_fails_leaves_nothing() {
    let world = World::ready();
    let wrong = world.write("wrong", "not the password at all");
    let to = world.path("out.aico");
    let export = [
        "export",
        "--encrypt",
        "--to",
        string(&to),
        "--password-file",
        string(&wrong),
    ];
    fails(&world, &export, 5, "wrong");
    let left: Vec<_> = names_in(world.path("x").parent().unwrap());
    assert!(!left.iter().any(|name| name.contains("out")), "{left:?}");
}
