//! Sizes, times and counts that nobody honest needs.

use std::sync::Arc;
use std::time::Duration;

use aico_gateway::{Limits, LogError, LogQuery, LogSource};
use futures_util::stream::BoxStream;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{World, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_ten_megabytes_is_refused_in_words() {
    let (world, owner) = World::ready().await;
    let conversation = world.companion.create(owner.id, "Tea");
    let path = format!("/api/v1/conversations/{conversation}/messages");
    for size in [300 * 1024, 10 * 1024 * 1024] {
        let form = json!({"text": "x".repeat(size)});
        let reply = world.post(&path, &owner.token, form).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (413, "too-long"),
            "{size}"
        );
    }
    world
        .post(&path, &owner.token, json!({"text": "x".repeat(200 * 1024)}))
        .await
        .expect(202);
    // Control characters are characters.
    world
        .post(
            &path,
            &owner.token,
            json!({"text": "\u{1}\u{7f}\u{200b}\r\n"}),
        )
        .await
        .expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_of_the_right_shape_is_malformed_and_never_quoted() {
    let (world, owner) = World::ready().await;
    let host = ("host", world.address.to_string());
    let token = ("authorization", format!("Bearer {}", owner.token));
    let json = ("content-type", "application/json".to_owned());
    let headers = [host, token, json];
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let deep_member = format!("{{\"title\":{deep}}}");
    for body in [
        "",
        "{",
        "nonsense-secret",
        "[]",
        "{\"title\":7,\"x\":\"nonsense-secret\"}",
        "{\"nonsense-secret\":1}",
        "{\"title\":\"a\",\"title\":\"b\"}",
        "{\"title\":\"\\ud800\"}",
        deep.as_str(),
        deep_member.as_str(),
    ] {
        let path = "/api/v1/conversations";
        let reply = world
            .send("POST", path, &headers, body.to_owned().into())
            .await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "malformed"),
            "{body:.40}"
        );
        assert!(!String::from_utf8_lossy(&reply.body).contains("nonsense-secret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded_in_size_and_number() {
    let world = World::new().await;
    let host = world.address;
    let many: String = (0..100_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(1024 * 1024));
    for extra in [many, long] {
        let mut stream = world.connect().await;
        let request = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n");
        // The server may answer and close before it has all.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = soon("an end", stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer:.60}"
        );
    }
    world.call("GET", "/livez", None, None).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_bodies_end_and_keep_nobody_out() {
    let limits = Limits {
        head_time: Duration::from_millis(300),
        body_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let (world, _) = World::ready_with(limits).await;
    let mut head = world.connect().await;
    head.write_all(b"GET /livez HTTP/1.1\r\nHost: ")
        .await
        .unwrap();
    let mut body = world.connect().await;
    let begin = format!(
        "POST /api/v1/unlock HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{",
        world.address
    );
    body.write_all(begin.as_bytes()).await.unwrap();
    world.call("GET", "/livez", None, None).await.expect(200);

    let mut answer = Vec::new();
    let _ = soon("the slow head's end", head.read_to_end(&mut answer)).await;
    let head = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        head.is_empty() || head.starts_with("HTTP/1.1 408"),
        "{head}"
    );
    let mut answer = Vec::new();
    let _ = soon("the slow body's end", body.read_to_end(&mut answer)).await;
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 408"));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_ask_nothing_make_room_for_those_that_do() {
    let limits = Limits {
        connections: 8,
        ..Limits::default()
    };
    let (world, owner) = World::ready_with(limits).await;
    // One that works: it is never cut for others.
    let (mut socket, _) = world.follow(&owner.token, None).await;
    let mut held = Vec::new();
    for _ in 0..50 {
        let mut stream = world.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        held.push(stream);
    }
    for _ in 0..20 {
        world.call("GET", "/livez", None, None).await.expect(200);
    }
    world.companion.delta(owner.id, 0, "still here");
    assert_eq!(socket.frame().await["event"]["text"], "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_not_unpacked() {
    let (world, owner) = World::ready().await;
    let headers = [
        ("host", world.address.to_string()),
        ("authorization", format!("Bearer {}", owner.token)),
        ("content-type", "application/json".to_owned()),
        ("content-encoding", "gzip".to_owned()),
    ];
    // A bomb need not even be one: nothing here unpacks.
    let body = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
    let reply = world
        .send("POST", "/api/v1/conversations", &headers, body.into())
        .await;
    assert_eq!((reply.status, reply.code().as_str()), (415, "json-needed"));
}

/// Panics unless it is followed, and then never says anything.
#[derive(Default)]
struct Panics {
    followed: tokio::sync::Notify,
}

impl LogSource for Panics {
    fn read(&self, query: LogQuery) -> BoxStream<'static, Result<String, LogError>> {
        assert!(query.follow, "a secret of the panic");
        self.followed.notify_one();
        Box::pin(futures_util::stream::pending())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_answered_without_its_words() {
    let world = World::with(Limits::default(), Arc::new(Panics::default())).await;
    let owner = world.set_up().await;
    let reply = world.get("/api/v1/logs", &owner.token).await;
    assert_eq!((reply.status, reply.code().as_str()), (500, "internal"));
    assert!(!String::from_utf8_lossy(&reply.body).contains("secret"));
    world.get("/api/v1/me", &owner.token).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_ends_with_the_session() {
    let logs = Arc::new(Panics::default());
    let world = World::with(Limits::default(), Arc::clone(&logs) as Arc<dyn LogSource>).await;
    let owner = world.set_up().await;
    let path = "/api/v1/logs?follow=true&level=warn&module=aico";
    let following = world.get(path, &owner.token);
    let ending = async {
        logs.followed.notified().await;
        world
            .home
            .end_session(owner.id, owner.session)
            .await
            .unwrap();
    };
    let (reply, ()) = soon("the end of the log", async {
        tokio::join!(following, ending)
    })
    .await;
    let reply = reply.expect(200);
    assert_eq!(reply.headers["content-type"], "application/x-ndjson");
    assert!(reply.body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_not_there_is_said_so() {
    let (world, owner) = World::ready().await;
    world.bus.close();
    let reply = world.get("/api/v1/conversations", &owner.token).await;
    assert!(reply.status >= 500);
    assert!(["unavailable", "internal"].contains(&reply.code().as_str()));
    let ready = world.call("GET", "/readyz", None, None).await;
    assert_eq!(
        ready.status, 200,
        "the model's state is told and does not count"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_takes_no_new_work_but_tells_how_it_is() {
    let (world, owner) = World::ready().await;
    world.gateway.drain();
    let reply = world.get("/api/v1/me", &owner.token).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "stopping"));
    let ready = world
        .call("GET", "/readyz", None, None)
        .await
        .expect(503)
        .json();
    assert_eq!(ready, json!({"status": "stopping"}));
    world.call("GET", "/livez", None, None).await.expect(200);
    world.stop.cancel();
    let World { served, .. } = world;
    soon("the end of serving", served).await.unwrap().unwrap();
}
