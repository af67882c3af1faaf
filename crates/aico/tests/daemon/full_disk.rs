//! A disk that is full under the whole daemon: told, nothing lost, and over when there is room.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{PASSWORD, World, done, send, text, until};

/// Room for a home, the starter and some talk.
const SIZE: &str = "8m";

/// Everything that was acknowledged: the ids of messages.
fn accepted(output: &[u8]) -> Option<String> {
    let first: Value = serde_json::from_str(text(output).lines().next()?).ok()?;
    (first["type"] == "accepted").then(|| first["message"].as_str().unwrap().to_owned())
}

fn messages(world: &World, conversation: &str) -> Vec<Value> {
    let shown = world.said(&["conversation", "show", conversation, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown["messages"].as_array().unwrap().clone()
}

#[test]
fn while_it_is_full_reading_goes_on_and_nothing_acknowledged_is_lost() {
    let test = "full_disk::while_it_is_full_reading_goes_on_and_nothing_acknowledged_is_lost";
    let Some(mut world) = World::on_disk(test, SIZE) else {
        return;
    };
    assert!(world.setup().status.success());
    world.serve();
    let said = world.chat(None, "Hello");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    let arguments = [
        "chat",
        "--json",
        "--once",
        "Tell me a story",
        "--conversation",
    ];
    let story = [&arguments[..], &[&conversation]].concat();
    let mut kept = vec![accepted(&world.aico(&story).stdout).unwrap()];
    let api = world.api().sign_in("Mia", PASSWORD);
    let (status, ready) = api.get("/readyz");
    assert_eq!((status, ready.get("degraded")), (200, None), "{ready}");

    world.disk().fill();
    // What is left in files that have grown before is used up first.
    loop {
        let done = world.aico(&story);
        let words = text(&done.stderr);
        let id = accepted(&done.stdout);
        kept.extend(id.clone());
        match done.status.code() {
            Some(0) => assert!(kept.len() < 10_000, "the disk is never full"),
            Some(12) => {
                assert!(words.contains("disk is full"), "{words}");
                assert!(words.contains("space"), "nothing to do is said: {words}");
                if id.is_none() {
                    break;
                }
            }
            other => panic!("{other:?}: {words}"),
        }
    }

    // By the API.
    let path = format!("/api/v1/conversations/{conversation}/messages");
    let (status, problem) = api.post(&path, &json!({"text": "Hello"}));
    assert_eq!((status, &problem["code"]), (507, &"storage-full".into()));
    assert!(problem["what_to_do"].is_string(), "{problem}");
    let (status, problem) = api.post("/api/v1/conversations", &json!({}));
    assert_eq!(status, 507, "{problem}");
    let (status, problem) = api.post(
        "/api/v1/persons",
        &json!({"name": "Ben", "password": "copper meadow trumpet glass"}),
    );
    assert_eq!(status, 507, "{problem}");
    let (status, ready) = api.get("/readyz");
    assert_eq!(
        (status, &ready["degraded"]),
        (200, &json!(["storage-full"])),
        "{ready}"
    );
    let told = world.aico(&["status"]);
    assert!(
        text(&told.stderr).contains("The disk is full"),
        "{}",
        text(&told.stderr)
    );

    // Reading goes on.
    assert!(
        world
            .said(&["conversation", "list"])
            .contains(&conversation)
    );
    let shown = messages(&world, &conversation);
    assert!(
        kept.iter()
            .all(|id| shown.iter().any(|m| m["id"] == id.as_str()))
    );
    assert!(
        world
            .said(&["conversation", "search", "story"])
            .contains(&conversation)
    );

    // There is room again, and nobody has to do anything.
    world.disk().free();
    until("it is whole again", || {
        (api.get("/readyz").1.get("degraded").is_none()).then_some(())
    });
    until("what was said meanwhile is stored", || {
        let all = messages(&world, &conversation);
        all.iter()
            .all(|m| m["status"] == "complete" || m["status"] == "interrupted")
            .then_some(())
    });
    assert_eq!(
        world.chat(Some(&conversation), "Hello")["status"],
        "complete"
    );
    let before = messages(&world, &conversation);
    for id in &kept {
        assert!(
            before.iter().any(|m| m["id"] == id.as_str()),
            "{id} is lost"
        );
    }
    let file = world.write("ben", "copper meadow trumpet glass violin");
    world.said(&[
        "person",
        "add",
        "Ben",
        "--password-file",
        file.to_str().unwrap(),
    ]);

    world.stop();
    world.serve();
    assert_eq!(messages(&world, &conversation), before);
    world.said(&["logs", "--level", "error"]);
}

#[test]
fn an_answer_that_ends_on_a_full_disk_is_kept_in_memory_and_stored_later() {
    let test = "full_disk::an_answer_that_ends_on_a_full_disk_is_kept_in_memory_and_stored_later";
    let Some(mut world) = World::on_disk(test, SIZE) else {
        return;
    };
    assert!(world.setup().status.success());
    world.serve();
    let said = world.chat(None, "Hello");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    let owner = world.api().sign_in("Mia", PASSWORD);
    // The model waits, so that the disk is full between question and answer.
    let model = world.children()[0];
    send(model, "STOP");
    let arguments = [
        "chat",
        "--json",
        "--once",
        "Tell me a story",
        "--conversation",
    ];
    let talk = world
        .command(&[&arguments[..], &[&conversation]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the question is stored", || {
        (messages(&world, &conversation).len() == 4).then_some(())
    });
    world.disk().fill();
    // Conversations take what room there is inside the person's files.
    until("nothing can be written", || {
        let (status, _) = owner.post("/api/v1/conversations", &json!({}));
        (status == 507).then_some(())
    });
    send(model, "CONT");
    let ended = talk.wait_with_output().unwrap();
    let said = done(&text(&ended.stdout));
    let shown = messages(&world, &conversation);
    let last = shown.last().unwrap();
    assert_eq!(ended.status.code(), Some(12), "{}", text(&ended.stderr));
    assert_eq!(
        (&last["status"], &last["error"]["code"]),
        (&"failed".into(), &"storage-full".into())
    );
    assert_eq!(
        last["parts"][0]["text"], said["text"],
        "what was said is shown"
    );

    world.disk().free();
    let last = until("the answer is stored", || {
        let last = messages(&world, &conversation).pop().unwrap();
        (last["status"] == "complete").then_some(last)
    });
    assert_eq!(last["parts"][0]["text"], said["text"]);
    world.stop();
    world.serve();
    assert_eq!(messages(&world, &conversation).pop().unwrap(), last);
}

#[test]
fn set_up_start_unlocking_and_stopping_tell_it_and_leave_everything_whole() {
    let test = "full_disk::set_up_start_unlocking_and_stopping_tell_it_and_leave_everything_whole";
    let Some(mut world) = World::on_disk(test, SIZE) else {
        return;
    };
    let full = |done: &std::process::Output| {
        let words = text(&done.stderr);
        assert_eq!(done.status.code(), Some(12), "{words}");
        assert!(words.contains("try:"), "{words}");
    };
    world.disk().fill();
    full(&world.setup());
    assert!(!world.home().exists(), "half a home is left");
    assert!(
        !world.path("phrase").exists(),
        "a phrase that opens nothing"
    );
    world.disk().free();
    let done = world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));

    world.disk().fill();
    let password = world.path("password").to_str().unwrap().to_owned();
    let start = [
        "serve",
        "--bind",
        "127.0.0.1:0",
        "--password-file",
        &password,
    ];
    full(&world.aico(&start));
    world.disk().free();
    world.serve_with(&[]);
    world.disk().fill();
    full(&world.aico(&["unlock", "--password-file", &password]));
    world.disk().free();
    world.said(&["unlock", "--password-file", &password]);
    let said = world.chat(None, "Hello");
    let conversation = said["conversation"].as_str().unwrap().to_owned();

    world.disk().fill();
    let status = world.stop_however();
    assert!(
        matches!(status.code(), Some(0 | 12)),
        "{status}: {}",
        world.log()
    );
    world.disk().free();
    world.serve();
    let shown = messages(&world, &conversation);
    assert_eq!(shown[1]["parts"][0]["text"], said["text"]);
}

#[test]
fn a_folder_that_can_only_be_read_is_refused_with_words() {
    let test = "full_disk::a_folder_that_can_only_be_read_is_refused_with_words";
    let Some(mut world) = World::on_disk(test, SIZE) else {
        return;
    };
    let refused = |done: &std::process::Output| {
        let words = text(&done.stderr);
        assert_eq!(done.status.code(), Some(25), "{words}");
        assert!(words.to_lowercase().contains("read-only"), "{words}");
        assert!(words.contains("try:"), "{words}");
    };
    world.disk().remount("ro");
    refused(&world.setup());
    world.disk().remount("rw");
    assert!(world.setup().status.success());
    world.serve();
    let said = world.chat(None, "Hello");
    world.stop();
    world.disk().remount("ro");
    let password = world.path("password").to_str().unwrap().to_owned();
    refused(&world.aico(&[
        "serve",
        "--bind",
        "127.0.0.1:0",
        "--password-file",
        &password,
    ]));
    let doctor = world.aico(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(19), "{}", text(&doctor.stdout));
    world.disk().remount("rw");
    world.serve();
    let shown = messages(&world, said["conversation"].as_str().unwrap());
    assert_eq!(shown[1]["parts"][0]["text"], said["text"]);
}
