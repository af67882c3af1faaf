//! Killed at random moments: what was acknowledged is there, and nothing needs a hand.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::{World, alive, nothing_unfinished, send, text, until};

fn kills() -> usize {
    std::env::var("AICO_TEST_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(5)
}

/// A different moment each time, the same in each run.
fn moment(round: usize) -> Duration {
    Duration::from_millis((round as u64).wrapping_mul(2_654_435_761) % 160)
}

/// Puts there what a kill in the midst of replacing something leaves. Those moments are too short to
/// be met by chance.
fn leave_unfinished(world: &World) {
    for name in [".next-0123456789abcdef", ".backup-0123456789abcdef"] {
        let folder = world.data().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("half"), "of it").unwrap();
    }
    for name in ["vault.hdr.tmp", "registry.tmp"] {
        std::fs::write(world.home().join(name), "half of it").unwrap();
    }
}

#[test]
fn no_acknowledged_message_is_lost_when_the_daemon_is_killed() {
    let mut world = World::ready();
    let made = world.chat(None, "Hello");
    let conversation = made["conversation"].as_str().unwrap().to_owned();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..kills() {
        let words = format!("Round number {round}");
        let mut talk = world
            .command(&[
                "chat",
                "--json",
                "--once",
                &words,
                "--conversation",
                &conversation,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(talk.stdout.take().unwrap()).lines();
        let first = lines.next().transpose().unwrap().unwrap_or_default();
        let event: Value = serde_json::from_str(&first).unwrap_or_default();
        if event["type"] == "accepted" {
            acknowledged.push(event["message"].as_str().unwrap().to_owned());
        }
        std::thread::sleep(moment(round));
        let children = world.children();
        world.kill();
        talk.wait().unwrap();
        for child in children {
            until("the model process ends with its daemon", || {
                (!alive(child)).then_some(())
            });
        }
        leave_unfinished(&world);
        world.serve();
        let shown = world.said(&["conversation", "show", &conversation, "--json"]);
        nothing_unfinished(&world, &format!("after kill {round}"));
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let there: Vec<_> = shown["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["id"].clone())
            .collect();
        for id in &acknowledged {
            assert!(
                there.iter().any(|found| found == id.as_str()),
                "round {round}: {id} is lost"
            );
        }
        for message in shown["messages"].as_array().unwrap() {
            assert_ne!(
                message["status"], "streaming",
                "nothing streams after a restart"
            );
        }
    }
    assert!(!acknowledged.is_empty());
    assert_eq!(
        world.chat(Some(&conversation), "Hello")["status"],
        "complete"
    );
    world.stop();
}

#[test]
fn a_killed_model_process_is_replaced_and_the_next_question_is_answered() {
    let world = World::ready();
    let made = world.chat(None, "Hello");
    let conversation = made["conversation"].as_str().unwrap().to_owned();
    for round in 0..kills() {
        let mut talk = world
            .command(&[
                "chat",
                "--json",
                "--once",
                "Tell me a story",
                "--conversation",
                &conversation,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(talk.stdout.take().unwrap()).lines();
        let first = lines.next().transpose().unwrap().unwrap_or_default();
        assert!(first.contains("accepted"), "{first}");
        std::thread::sleep(moment(round) / 4);
        for child in world.children() {
            send(child, "KILL");
        }
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        let ended = talk.wait_with_output().unwrap();
        let last: Value = serde_json::from_str(rest.last().unwrap_or(&first)).unwrap();
        // Either it was answered before the kill, or its end is typed.
        match last["status"].as_str() {
            Some("complete") => assert!(ended.status.success()),
            Some("failed") => {
                assert_eq!(last["error"]["code"], "model-failed");
                assert_eq!(ended.status.code(), Some(14), "{}", text(&ended.stderr));
            }
            other => panic!("it ended as {other:?}: {last}"),
        }
        // The next one needs no hand; it waits for the process that starts.
        let next = world.chat(Some(&conversation), "Hello");
        assert_eq!(next["status"], "complete", "round {round}: {next}");
        // Waits grow with crashes; choosing the model once more forgets them.
        if round % 4 == 3 {
            world.said(&["model", "use", "AICO Starter"]);
        }
    }
}

/// The end of an answer is an event like its beginning: whoever follows hears of it, also when
/// nobody was left to tell it.
#[test]
fn the_end_of_an_answer_that_was_cut_off_is_told_by_the_next_run() {
    let mut world = World::ready();
    let made = world.chat(None, "Hello");
    let conversation = made["conversation"].as_str().unwrap().to_owned();
    // The model says nothing, so the answer has no end when the daemon is killed.
    send(world.children()[0], "STOP");
    let mut talk = world
        .command(&["chat", "--json", "--once", "And then?"])
        .args(["--conversation", &conversation])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(talk.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["type"], "accepted", "{first}");
    world.kill();
    talk.wait().unwrap();
    world.serve();
    let mut tail = world
        .command(&["bus", "tail", "conversation.*.event.answer-done", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until("it listens", || {
        let stats = world.said(&["bus", "stats", "--over", "0"]);
        stats.contains("answer-done").then_some(())
    });
    let shown = world.said(&["conversation", "show", &conversation, "--json"]);
    assert!(shown.contains("interrupted"), "{shown}");
    let mut told = BufReader::new(tail.stdout.take().unwrap()).lines();
    let told: Value = serde_json::from_str(&told.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        (&told["sender"], &told["payload_type"]),
        (&"companion".into(), &"aico.v1.AnswerDone".into()),
        "{told}"
    );
    tail.kill().unwrap();
    tail.wait().unwrap();
}
