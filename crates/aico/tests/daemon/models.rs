//! Model files that are gone, damaged or none; and what one counts.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::http::Api;
use crate::support::{PASSWORD, World, fails, send, text, until};

#[test]
fn model_files_that_are_none_or_gone_are_told_and_the_starter_stays() {
    let world = World::ready();
    let text_file = world.write("story.gguf", "once upon a time");
    fails(
        &world,
        &["model", "add", text_file.to_str().unwrap()],
        15,
        "",
    );
    let missing = world.path("missing.gguf");
    let gone = world.aico(&["model", "add", missing.to_str().unwrap()]);
    assert!(
        matches!(gone.status.code(), Some(13..=15)),
        "{}",
        text(&gone.stderr)
    );

    let starter = fs::read_dir(world.data().join("models"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let copy = world.path("copy.gguf");
    fs::copy(&starter, &copy).unwrap();
    world.said(&["model", "add", copy.to_str().unwrap()]);
    let listed: serde_json::Value =
        serde_json::from_str(&world.said(&["model", "list", "--json"])).unwrap();
    let added = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["starter"] == false)
        .unwrap();
    let id = added["id"].as_str().unwrap();
    world.said(&["model", "use", id]);
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
    // Cut while it is in use elsewhere: the next start of the process says so.
    let whole = fs::read(&copy).unwrap();
    fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
    let _ = world.aico(&["model", "use", id]);
    let failed = world.aico(&["chat", "--once", "Hello"]);
    assert_eq!(failed.status.code(), Some(14), "{}", text(&failed.stderr));
    let starter_id = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["starter"] == true)
        .unwrap();
    world.said(&["model", "use", starter_id["id"].as_str().unwrap()]);
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
}

#[test]
fn tokens_are_counted_as_an_answer_counts_them() {
    let world = World::ready();
    let count = |more: &[&str], words: &str| -> u64 {
        let counted = world.said(&[&["model", "count"], more, &[words]].concat());
        counted.trim().parse().unwrap()
    };
    let short = count(&[], "Hello");
    let named = count(&["--model", "AICO Starter"], "Hello Hello Hello");
    assert!(0 < short && short < named, "{short} {named}");
    fails(
        &world,
        &["model", "count", "Hello", "--model", "nobody"],
        13,
        "aico model list",
    );

    let api = world.api().sign_in("Mia", PASSWORD);
    let turns = json!({"turns": [{"role": "user", "text": "Hello"}]});
    let (status, counted) = api.post("/api/v1/models/count", &turns);
    assert_eq!((status, &counted["tokens"]), (200, &json!(short)));
    // The program that asks has the same count in its answer.
    let door = Api {
        token: world.token(&[]),
        ..api
    };
    let asked = json!({
        "model": counted["model"], "max_tokens": 8,
        "messages": [{"role": "user", "content": "Hello"}]
    });
    let (status, answer) = door.post("/v1/chat/completions", &asked);
    assert_eq!(
        (status, &answer["usage"]["prompt_tokens"]),
        (200, &json!(short))
    );
}

/// The file that the starter was put into.
fn starter(world: &World) -> PathBuf {
    let mut files = fs::read_dir(world.data().join("models")).unwrap();
    files.next().unwrap().unwrap().path()
}

#[test]
fn the_starters_file_is_mended_whatever_happened_to_it() {
    let mut world = World::ready();
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
    let path = starter(&world);
    let whole = fs::read(&path).unwrap();
    let flipped: Vec<u8> = whole
        .iter()
        .enumerate()
        .map(|(i, b)| if i == whole.len() / 2 { b ^ 1 } else { *b })
        .collect();
    for (name, damaged) in [
        ("flipped", Some(flipped)),
        ("cut", Some(whole[..whole.len() / 2].to_vec())),
        ("emptied", Some(Vec::new())),
        ("gone", None),
    ] {
        let harm = || match &damaged {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        };
        // While it runs: the next process is given a whole one.
        harm();
        let before = world.children()[0];
        send(before, "KILL");
        until("another process runs", || {
            world
                .children()
                .iter()
                .any(|pid| *pid != before)
                .then_some(())
        });
        assert_eq!(world.chat(None, "Hello")["status"], "complete", "{name}");
        assert!(
            fs::read(&path).unwrap() == whole,
            "{name}: it is not mended"
        );
        // While it does not.
        world.stop();
        harm();
        world.serve();
        assert_eq!(world.chat(None, "Hello")["status"], "complete", "{name}");
        assert!(
            fs::read(&path).unwrap() == whole,
            "{name}: it is not mended"
        );
    }
}

#[test]
fn a_model_whose_file_is_gone_is_told_at_the_start_and_the_question_is_kept() {
    let mut world = World::ready();
    let copy = world.path("copy.gguf");
    fs::copy(starter(&world), &copy).unwrap();
    world.said(&["model", "add", copy.to_str().unwrap()]);
    let listed: serde_json::Value =
        serde_json::from_str(&world.said(&["model", "list", "--json"])).unwrap();
    let items = listed["items"].as_array().unwrap();
    let id = |is: bool| {
        items.iter().find(|m| m["starter"] == is).unwrap()["id"]
            .as_str()
            .unwrap()
    };
    world.said(&["model", "use", id(false)]);
    let said = world.chat(None, "Hello");
    let conversation = said["conversation"].as_str().unwrap();
    world.stop();
    fs::remove_file(&copy).unwrap();
    world.serve();
    let ask = [
        "chat",
        "--once",
        "Are you there?",
        "--conversation",
        conversation,
    ];
    fails(&world, &ask, 14, "aico model use");
    assert!(world.said(&["model", "list"]).contains("missing"));
    assert!(
        world
            .said(&["conversation", "show", conversation])
            .contains("Are you there?")
    );
    world.said(&["model", "use", id(true)]);
    assert_eq!(
        world.chat(Some(conversation), "Hello")["status"],
        "complete"
    );
}
