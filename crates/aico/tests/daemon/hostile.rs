//! Messages of unusual size and content.

use std::io::Write as _;
use std::process::{Output, Stdio};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::http::Api;
use crate::support::{PASSWORD, World, done, text};

const MUCH: usize = 10 * 1024 * 1024;

fn piped(world: &World, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = world
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It need not read all of it.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn conversation(world: &World) -> String {
    let said = world.chat(None, "Hello");
    said["conversation"].as_str().unwrap().to_owned()
}

/// Sends one frame after authenticating; the close code that follows, if one does.
fn websocket(api: &Api, frame: Value) -> Option<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let url = format!("ws://{}/ws", api.address);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let first = json!({"type": "authenticate", "token": api.token});
        socket.send(Message::text(first.to_string())).await.unwrap();
        // The other end may close before all of it was taken.
        let _ = socket.send(Message::text(frame.to_string())).await;
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(close)))) => return Some(close.code.into()),
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed)) | None => return None,
                Some(Err(error)) => panic!("it broke without a word: {error}"),
            }
        }
    })
}

#[test]
fn ten_megabytes_are_refused_at_every_door_and_the_conversation_goes_on() {
    let world = World::ready();
    let conversation = conversation(&world);
    let api = world.api().sign_in("Mia", PASSWORD);
    let long = "word ".repeat(MUCH / 5);
    let path = format!("/api/v1/conversations/{conversation}/messages");
    let (status, problem) = api.post(&path, &json!({"text": long}));
    assert_eq!((status, &problem["code"]), (413, &"too-long".into()));
    let (status, problem) = api.post("/api/v1/conversations", &json!({"title": long}));
    assert_eq!((status, &problem["code"]), (413, &"too-long".into()));
    let frame = json!({"type": "send", "ref": "a", "conversation": conversation, "text": long});
    assert_eq!(websocket(&api, frame), Some(1009));
    let arguments = ["chat", "--once", "-", "--conversation", &conversation];
    let refused = piped(&world, &arguments, long.as_bytes());
    assert_eq!(refused.status.code(), Some(15), "{}", text(&refused.stderr));
    assert!(
        text(&refused.stderr).contains("too long"),
        "{}",
        text(&refused.stderr)
    );

    let (_, shown) = api.get(&format!("/api/v1/conversations/{conversation}"));
    assert_eq!(
        shown["messages"].as_array().unwrap().len(),
        2,
        "something of it was stored"
    );
    assert_eq!(
        world.chat(Some(&conversation), "Hello")["status"],
        "complete"
    );
}

#[test]
fn the_longest_message_arrives_whole_whatever_it_is_made_of() {
    let world = World::ready();
    let conversation = conversation(&world);
    // In JSON each of these takes six bytes: longer than a frame of the WebSocket.
    for letter in ["\u{1}", "x"] {
        let long = letter.repeat(128 * 1024);
        let arguments = [
            "chat",
            "--json",
            "--once",
            "-",
            "--conversation",
            &conversation,
        ];
        let told = piped(&world, &arguments, long.as_bytes());
        // No model takes so much; that is said, and the message is kept.
        let end = done(&text(&told.stdout));
        assert_eq!(end["error"]["code"], "too-long", "{end}");
        assert_eq!(told.status.code(), Some(15), "{}", text(&told.stderr));
        let shown = world.said(&["conversation", "show", &conversation, "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let messages = shown["messages"].as_array().unwrap();
        let stored = &messages[messages.len() - 2]["parts"][0]["text"];
        assert!(stored == long.as_str(), "{letter:?}: it was changed");
        assert_eq!(
            world.chat(Some(&conversation), "Hello")["status"],
            "complete"
        );
    }
}

#[test]
fn nothing_that_steers_a_terminal_reaches_it() {
    let world = World::ready();
    let api = world.api().sign_in("Mia", PASSWORD);
    let odd = "Red\u{1b}[31m \u{9b}2J\u{7}\u{8}\u{202e}txt\u{2066}\r hello\u{0}there";
    let (status, made) = api.post("/api/v1/conversations", &json!({"title": odd}));
    assert_eq!(status, 201, "{made}");
    let id = made["id"].as_str().unwrap();
    let path = format!("/api/v1/conversations/{id}/messages");
    let (status, answer) = api.post(&path, &json!({"text": odd}));
    assert_eq!(status, 202, "{answer}");
    let file = world.write("ben", "copper meadow trumpet glass violin");
    let named = world.aico(&[
        "person",
        "add",
        "B\u{1b}[7men",
        "--password-file",
        file.to_str().unwrap(),
    ]);
    let outputs = [
        world.aico(&["conversation", "list"]),
        world.aico(&["conversation", "show", id]),
        world.aico(&["conversation", "search", "hello"]),
        world.aico(&["conversation", "show", "\u{1b}[2Jno-id"]),
        // An argument ends at its NUL.
        world.aico(&["chat", "--once", &odd.replace('\0', "")]),
        world.aico(&["model", "add", "/tmp/\u{1b}[2J\u{202e}.gguf"]),
        world.aico(&["logs", "--since", "\u{1b}[2J"]),
        world.aico(&["person", "list"]),
        named,
    ];
    for (index, output) in outputs.iter().enumerate() {
        for shown in [&output.stdout, &output.stderr] {
            let shown = String::from_utf8(shown.clone()).unwrap();
            let steering = |c: char| {
                (c.is_control() && c != '\n' && c != '\t')
                    || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            assert!(!shown.contains(steering), "output {index}: {shown:?}");
        }
    }
    assert!(
        text(&outputs[0].stdout).contains("Red"),
        "{}",
        text(&outputs[0].stdout)
    );
    assert!(
        text(&outputs[1].stdout).contains("hello"),
        "{}",
        text(&outputs[1].stdout)
    );
    // What is stored is what was said, but for the one character that ends texts elsewhere.
    let (_, shown) = api.get(&format!("/api/v1/conversations/{id}"));
    assert_eq!(
        shown["messages"][0]["parts"][0]["text"],
        odd.replace('\0', "")
    );
}
