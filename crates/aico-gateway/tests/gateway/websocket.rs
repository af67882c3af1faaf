//! The protocol of `docs/websocket.md`: authentication, sending, close codes, limits.

use std::time::Duration;

use aico_contracts::ids::{ConversationId, MessageId};
use aico_gateway::Limits;
use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{MEMBER, OWNER, World, soon};

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_authenticate_in_time_is_closed() {
    let limits = Limits {
        authentication_time: Duration::from_millis(100),
        ..Limits::default()
    };
    let (world, _) = World::ready_with(limits).await;
    let mut socket = world.open().await;
    assert_eq!(socket.close_code().await, 4001);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_frame_decides() {
    let (world, owner) = World::ready().await;
    let ended = world.sign_in("Ada", OWNER).await;
    world
        .home
        .end_session(ended.id, ended.session)
        .await
        .unwrap();
    for (frame, code) in [
        (json!({"type": "authenticate", "token": "x"}), 4001),
        (json!({"type": "authenticate"}), 4001),
        (json!({"type": "authenticate", "token": ended.token}), 4001),
        (
            json!({"type": "authenticate", "token": owner.token, "colour": 1}),
            4000,
        ),
        (json!({"type": "ping", "ref": "a"}), 4000),
        (json!({"type": "nonsense"}), 4000),
        (json!([]), 4000),
    ] {
        let mut socket = world.open().await;
        socket.say(frame.clone()).await;
        assert_eq!(socket.close_code().await, code, "{frame}");
    }
    let mut socket = world.open().await;
    socket.socket.send(Message::text("no json")).await.unwrap();
    assert_eq!(socket.close_code().await, 4000);
    let mut socket = world.open().await;
    socket
        .socket
        .send(Message::binary(vec![1, 2, 3]))
        .await
        .unwrap();
    assert_eq!(socket.close_code().await, 1003);

    let (_socket, first) = world.follow(&owner.token, None).await;
    assert_eq!(first["person"]["name"], "Ada");
    assert_eq!(first["person"]["role"], "owner");
    assert_eq!(
        (&first["seq"], &first["resumed"]),
        (&json!(0), &json!(false))
    );
    assert_eq!(first["heartbeat_seconds"], 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn later_frames_follow_the_protocol_or_end_it() {
    let (world, owner) = World::ready().await;
    let again = json!({"type": "authenticate", "token": owner.token}).to_string();
    for (message, code) in [
        (Message::text("{"), 4000),
        (Message::text(again), 4000),
        (
            Message::text(json!({"type": "ping", "ref": "x".repeat(1000)}).to_string()),
            4000,
        ),
        (Message::text(json!({"type": "ping"}).to_string()), 4000),
        (Message::binary(vec![0]), 1003),
        (Message::text("x".repeat(300 * 1024)), 1009),
        (Message::Close(None), 1000),
    ] {
        let (mut socket, _) = world.follow(&owner.token, None).await;
        let goodbye = message.is_close();
        socket.socket.send(message).await.unwrap();
        if goodbye {
            // The peer's own close is answered with a close.
            assert!(matches!(
                socket.message().await,
                Some(Message::Close(_)) | None
            ));
        } else {
            assert_eq!(socket.close_code().await, code);
        }
    }
}

async fn ask(socket: &mut crate::support::Socket, frame: Value) -> Value {
    let name = frame["ref"].clone();
    socket.say(frame).await;
    loop {
        let frame = socket.frame().await;
        if frame["type"] != "event" {
            assert_eq!(frame["ref"], name);
            return frame;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sends_cancels_and_answers_pings() {
    let (world, owner) = World::ready().await;
    let conversation = world.companion.create(owner.id, "Tea");
    let (mut socket, _) = world.follow(&owner.token, None).await;

    let pong = ask(&mut socket, json!({"type": "ping", "ref": "p"})).await;
    assert_eq!(pong, json!({"type": "pong", "ref": "p"}));

    let send = json!({"type": "send", "ref": "a", "conversation": conversation, "text": "Hello"});
    socket.say(send).await;
    // The events may come before the answer; each exactly once.
    let mut events = Vec::new();
    let mut accepted = None;
    while events.len() < 2 || accepted.is_none() {
        let frame = socket.frame().await;
        if frame["type"] == "event" {
            events.push(frame);
        } else {
            assert!(accepted.replace(frame).is_none());
        }
    }
    let accepted = accepted.unwrap();
    assert_eq!(accepted["type"], "accepted");
    assert_eq!(events[0]["event"]["kind"], "message.created");
    assert_eq!(events[0]["event"]["message"]["id"], accepted["message"]);
    assert_eq!(
        events[0]["event"]["message"]["parts"],
        json!([{"type": "text", "text": "Hello"}])
    );
    assert_eq!(events[1]["event"]["message"]["status"], "streaming");
    assert_eq!(events[1]["event"]["message"]["next_index"], 0);

    let cancel = json!({"type": "cancel", "ref": "c", "message": accepted["answer"]});
    assert_eq!(
        ask(&mut socket, cancel).await,
        json!({"type": "cancelled", "ref": "c"})
    );

    let unknown = json!({"type": "cancel", "ref": "d", "message": MessageId::new()});
    let error = ask(&mut socket, unknown).await;
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("not-found"))
    );
    assert_eq!(error["status"], 404);

    let elsewhere = ConversationId::new();
    let unknown = json!({"type": "send", "ref": "e", "conversation": elsewhere, "text": "x"});
    assert_eq!(ask(&mut socket, unknown).await["code"], "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_never_hears_of_another() {
    let (world, owner) = World::ready().await;
    let grace = world.add("Grace", MEMBER).await;
    let (mut hers, _) = world.follow(&grace.token, None).await;
    let theirs = world.companion.create(owner.id, "Tea");
    world
        .companion
        .accept(owner.id, theirs, "a secret of Ada's")
        .unwrap();
    let send = json!({"type": "send", "ref": "a", "conversation": theirs, "text": "x"});
    // The owner's events were published before: had they come here, they would come first.
    hers.say(send).await;
    let answer = hers.frame().await;
    assert_eq!(
        (&answer["type"], &answer["code"]),
        (&json!("error"), &json!("not-found"))
    );
    world.companion.delta(grace.id, 0, "hers");
    let event = hers.frame().await;
    assert_eq!(
        (&event["seq"], &event["event"]["text"]),
        (&json!(1), &json!("hers"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_frames_is_closed_and_others_do_not_notice() {
    let (world, owner) = World::ready().await;
    let grace = world.add("Grace", MEMBER).await;
    let (mut calm, _) = world.follow(&grace.token, None).await;
    for message in [
        Message::text(json!({"type": "ping", "ref": "x"}).to_string()),
        Message::Ping(vec![1; 100].into()),
        Message::Pong(vec![].into()),
    ] {
        let (mut socket, _) = world.follow(&owner.token, None).await;
        for _ in 0..2000 {
            // It may be closed in the middle of this.
            if socket.socket.feed(message.clone()).await.is_err() {
                break;
            }
        }
        let _ = socket.socket.flush().await;
        assert_eq!(socket.close_code().await, 1008, "{message:?}");
    }
    world.companion.delta(grace.id, 0, "calm");
    assert_eq!(calm.frame().await["event"]["text"], "calm");
}

/// A client's frame with this first byte and an empty, masked payload.
fn empty_frame(first: u8) -> [u8; 6] {
    [first, 0x80, 1, 2, 3, 4]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_endless_pieces_is_closed() {
    let limits = Limits {
        bytes_per_second: 20_000,
        ..Limits::default()
    };
    let (world, owner) = World::ready_with(limits).await;
    let (socket, _) = world.follow(&owner.token, None).await;
    let mut stream = socket.socket.into_inner();
    stream.write_all(&empty_frame(0x01)).await.unwrap();
    let pieces = empty_frame(0x00).repeat(1000);
    let (mut reading, mut writing) = tokio::io::split(stream);
    let flood = async {
        let mut answer = [0; 1024];
        loop {
            tokio::select! {
                written = writing.write_all(&pieces) => if written.is_err() { break },
                read = reading.read(&mut answer) => match read {
                    // A close frame: 0x88, a length, and the code.
                    Ok(n) if n >= 4 => {
                        assert_eq!(answer[0], 0x88);
                        assert_eq!(u16::from_be_bytes([answer[2], answer[3]]), 1008);
                        break;
                    }
                    _ => break,
                },
            }
        }
    };
    soon("the end of the flood", flood).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_giant_length_is_refused_without_waiting_for_it() {
    let (world, owner) = World::ready().await;
    let (socket, _) = world.follow(&owner.token, None).await;
    let mut stream = socket.socket.into_inner();
    // A text frame of 2^62 bytes.
    let mut head = vec![0x81, 0xff];
    head.extend((1u64 << 62).to_be_bytes());
    head.extend([1, 2, 3, 4]);
    stream.write_all(&head).await.unwrap();
    let mut answer = [0; 4];
    soon("the close", stream.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(answer[0], 0x88);
    assert_eq!(u16::from_be_bytes([answer[2], answer[3]]), 1009);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_has_so_many_connections_and_no_more() {
    let limits = Limits {
        sockets_per_session: 3,
        ..Limits::default()
    };
    let (world, owner) = World::ready_with(limits).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(world.follow(&owner.token, None).await);
    }
    let mut fourth = world.open().await;
    fourth
        .say(json!({"type": "authenticate", "token": owner.token}))
        .await;
    assert_eq!(fourth.close_code().await, 1008);
    let other = world.sign_in("Ada", OWNER).await;
    world.follow(&other.token, None).await;
    let status = world
        .get("/api/v1/status", &owner.token)
        .await
        .expect(200)
        .json();
    assert!(status["sockets"].as_u64().unwrap() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_session_closes_its_connections_at_once_and_no_others() {
    let (world, owner) = World::ready().await;
    let other = world.sign_in("Ada", OWNER).await;
    let (mut first, _) = world.follow(&other.token, None).await;
    let (mut second, _) = world.follow(&other.token, None).await;
    let (mut stays, _) = world.follow(&owner.token, None).await;
    world
        .home
        .end_session(other.id, other.session)
        .await
        .unwrap();
    assert_eq!(first.close_code().await, 4001);
    assert_eq!(second.close_code().await, 4001);
    world.companion.delta(owner.id, 0, "here");
    assert_eq!(stays.frame().await["event"]["text"], "here");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_gone_at_once() {
    let (world, owner) = World::ready().await;
    let grace = world.add("Grace", MEMBER).await;
    let (mut socket, _) = world.follow(&grace.token, None).await;
    let path = format!("/api/v1/persons/{}/erase", grace.id);
    world
        .post(&path, &owner.token, json!({"password": OWNER}))
        .await
        .expect(200);
    assert_eq!(socket.close_code().await, 4001);
}

#[tokio::test(flavor = "multi_thread")]
async fn locking_closes_everybody_and_keeps_nothing() {
    let (world, owner) = World::ready().await;
    let (mut socket, first) = world.follow(&owner.token, None).await;
    world.companion.delta(owner.id, 0, "before");
    socket.frame().await;
    world
        .call("POST", "/api/v1/lock", Some(&owner.token), None)
        .await
        .expect(204);
    assert_eq!(socket.close_code().await, 4023);
    let mut locked = world.open().await;
    assert_eq!(locked.close_code().await, 4023);

    let form = Some(json!({"password": OWNER}));
    let unlocked = world
        .call("POST", "/api/v1/unlock", None, form)
        .await
        .expect(200)
        .json();
    let token = unlocked["session"]["token"].as_str().unwrap();
    let resume = json!({"epoch": first["epoch"], "seq": 0});
    let (_socket, again) = world.follow(token, Some(resume)).await;
    assert_eq!(again["resumed"], false);
    assert_ne!(again["epoch"], first["epoch"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_sends_the_last_word_and_says_goodbye() {
    let (world, owner) = World::ready().await;
    let (mut socket, _) = world.follow(&owner.token, None).await;
    world.gateway.drain();
    for index in 0..100 {
        world.companion.delta(owner.id, index, "word");
    }
    world.companion.done(owner.id, "the last word");
    // The bus delivers on its own time; the gateway has it once a client has.
    let mut last = Value::Null;
    while last["event"]["kind"] != "answer.done" {
        last = socket.frame().await;
    }
    assert_eq!(last["event"]["message"]["status"], "interrupted");
    world.stop.cancel();
    assert_eq!(socket.close_code().await, 1001);
    soon("the end of serving", world.served)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_silent_is_closed_and_one_that_answers_pings_is_not() {
    let limits = Limits {
        heartbeat: Duration::from_millis(100),
        ..Limits::default()
    };
    let (world, owner) = World::ready_with(limits).await;
    // Reading answers pings; a raw stream does not.
    let (silent, _) = world.follow(&owner.token, None).await;
    let (mut alive, _) = world.follow(&owner.token, None).await;
    let mut raw = silent.socket.into_inner();
    let mut gone = Vec::new();
    let gone = soon("the end of the silent one", async {
        let mut ended = std::pin::pin!(raw.read_to_end(&mut gone));
        loop {
            tokio::select! {
                ended = &mut ended => break ended,
                // Keeps the other one reading.
                _ = alive.socket.flush() => {}
            }
            let pong = ask(&mut alive, json!({"type": "ping", "ref": "x"})).await;
            assert_eq!(pong["type"], "pong");
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    })
    .await;
    drop(gone);
    let pong = ask(&mut alive, json!({"type": "ping", "ref": "y"})).await;
    assert_eq!(pong["ref"], "y");
}
