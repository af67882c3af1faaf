//! What happens to an answer that is being written when something ends.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use crate::support::{World, alive, send, text, until};

/// Asks, and holds the model still in the middle of its answer: what was said so far. The model is
/// quick: now and then it is done before it can be held, and is asked again.
fn held_in_the_middle(
    world: &World,
    conversation: &str,
) -> (Child, Lines<BufReader<ChildStdout>>, String) {
    let model = world.children()[0];
    for _ in 0..200 {
        let arguments = [
            "chat",
            "--json",
            "--once",
            "Tell me a story",
            "--conversation",
        ];
        let mut talk = world
            .command(&[&arguments[..], &[conversation]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(talk.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next().unwrap().unwrap();
            assert!(
                !line.contains(r#""type":"done""#),
                "it said nothing: {line}"
            );
            if line.contains(r#""type":"delta""#) {
                break;
            }
        }
        send(model, "STOP");
        let api = world.said(&["conversation", "show", conversation, "--json"]);
        let shown: Value = serde_json::from_str(&api).unwrap();
        let last = shown["messages"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone();
        if last["status"] == "streaming" {
            // What was on its way when it was held arrives; nothing can be added after that.
            return (
                talk,
                lines,
                last["parts"][0]["text"].as_str().unwrap().to_owned(),
            );
        }
        send(model, "CONT");
        drop(lines);
        talk.wait().unwrap();
    }
    panic!("the model was never held in the middle of an answer");
}

/// The rest of a talk: its last event, and how it ended.
fn rest(talk: Child, lines: Lines<BufReader<ChildStdout>>) -> (Value, std::process::Output) {
    let last = lines.map(Result::unwrap).last().expect("no final event");
    let ended = talk.wait_with_output().unwrap();
    (serde_json::from_str(&last).unwrap(), ended)
}

fn last_message(world: &World, conversation: &str) -> Value {
    let shown = world.said(&["conversation", "show", conversation, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown["messages"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone()
}

fn begun() -> (World, String) {
    let world = World::ready();
    let said = world.chat(None, "Hello");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    (world, conversation)
}

#[test]
fn a_model_killed_in_the_middle_leaves_what_it_said_and_a_typed_end() {
    let (world, conversation) = begun();
    let (talk, lines, said) = held_in_the_middle(&world, &conversation);
    send(world.children()[0], "KILL");
    let (end, ended) = rest(talk, lines);
    assert_eq!(
        (&end["type"], &end["status"]),
        (&"done".into(), &"failed".into()),
        "{end}"
    );
    assert_eq!(end["error"]["code"], "model-failed");
    assert_eq!(ended.status.code(), Some(14), "{}", text(&ended.stderr));
    assert!(
        text(&ended.stderr).contains("try:"),
        "{}",
        text(&ended.stderr)
    );
    let kept = last_message(&world, &conversation);
    assert_eq!(
        (&kept["status"], &kept["error"]["code"]),
        (&"failed".into(), &"model-failed".into())
    );
    assert!(
        kept["parts"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with(&said),
        "{kept}"
    );
    assert_eq!(
        world.chat(Some(&conversation), "Hello")["status"],
        "complete"
    );
}

#[test]
fn a_stop_in_the_middle_ends_the_stream_with_a_word_and_keeps_what_was_said() {
    let (mut world, conversation) = begun();
    let (talk, lines, said) = held_in_the_middle(&world, &conversation);
    let model = world.children()[0];
    world.stop();
    assert!(
        !alive(model),
        "a model process that can't end by itself is left behind"
    );
    let (end, ended) = rest(talk, lines);
    assert_eq!(
        (&end["type"], &end["status"]),
        (&"done".into(), &"interrupted".into()),
        "{end}"
    );
    assert_eq!(ended.status.code(), Some(3), "{}", text(&ended.stderr));
    world.serve();
    let kept = last_message(&world, &conversation);
    assert_eq!(kept["status"], "interrupted");
    assert!(
        kept["parts"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with(&said),
        "{kept}"
    );
    assert_eq!(
        world.chat(Some(&conversation), "Hello")["status"],
        "complete"
    );
}

#[test]
fn a_second_signal_does_not_wait_and_leaves_no_process() {
    let (mut world, conversation) = begun();
    let (mut talk, lines, _) = held_in_the_middle(&world, &conversation);
    let model = world.children()[0];
    // A held model takes its time to be given up: the stop is not over when the second one comes.
    send(world.pid(), "TERM");
    until("it has begun to stop", || {
        world.log().contains("stopping").then_some(())
    });
    send(world.pid(), "INT");
    let status = world.ended();
    assert_eq!(status.code(), Some(130), "{status}: {}", world.log());
    until("the model process is gone", || {
        (!alive(model)).then_some(())
    });
    // Whether it heard how the answer ended depends on the moment; that it ends does not.
    drop(lines);
    assert!(!talk.wait().unwrap().success());
    world.serve();
    assert_eq!(
        world.chat(Some(&conversation), "Hello")["status"],
        "complete"
    );
}

#[test]
fn a_killed_daemon_leaves_no_process_even_when_the_model_is_busy() {
    let (mut world, conversation) = begun();
    let (mut talk, lines, _) = held_in_the_middle(&world, &conversation);
    let model = world.children()[0];
    world.kill();
    until("the model process is gone", || {
        (!alive(model)).then_some(())
    });
    drop(lines);
    let status = talk.wait().unwrap();
    assert!(!status.success(), "nobody said how it ended");
    world.serve();
    let kept = last_message(&world, &conversation);
    assert_eq!(kept["status"], "interrupted", "{kept}");
}
