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
