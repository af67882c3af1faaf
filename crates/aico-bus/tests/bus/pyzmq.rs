//! The link against libzmq: a peer in Python with pyzmq, as a member and as several kinds of stranger.
//!
//! `AICO_TEST_PYTHON` names a Python that has pyzmq; `./test` prepares one. Without it these tests
//! say that they were skipped.

use std::process::Stdio;

use crate::common::{bus, id, message, soon, until};
use aico_bus::link::{Listener, endpoint_in};
use aico_bus::{Bus, Meta, Queue};
use aico_contracts::v1::{AnswerDelta, Empty, TokenCount};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

struct Python {
    /// Open as long as the peer shall live.
    _stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

async fn python(part: &str, listener: &Listener) -> Option<Python> {
    let Some(program) = std::env::var_os("AICO_TEST_PYTHON") else {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: AICO_TEST_PYTHON names no Python with pyzmq");
        }
        return None;
    };
    let mut given = serde_json::to_value(listener.issue(id("weather"))).unwrap();
    given["part"] = part.into();
    let mut child = Command::new(program)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/bus/pyzmq_peer.py"
        ))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(format!("{given}\n").as_bytes())
        .await
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    Some(Python {
        _stdin: stdin,
        lines,
        _child: child,
    })
}

impl Python {
    async fn says(&mut self) -> String {
        soon(self.lines.next_line())
            .await
            .unwrap()
            .expect("Python ended early")
    }
}

async fn listening() -> (Bus, Listener, tempfile::TempDir) {
    let bus = bus();
    let folder = tempfile::tempdir().unwrap();
    let endpoint = endpoint_in(&folder.path().join("run")).unwrap();
    let listener = Listener::bind(&bus, &endpoint).await.unwrap();
    (bus, listener, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libzmq_publishes_subscribes_asks_and_serves() {
    let (bus, listener, _folder) = listening().await;
    let daemon = bus.join(id("companion"));
    let mut weather = daemon.subscribe("weather.#", Queue::default()).unwrap();
    let mut near = daemon.serve("near.work", 1).unwrap();
    let Some(mut python) = python("member", &listener).await else {
        return;
    };
    let envelope = message(&mut weather).await;
    assert_eq!(envelope.sender, "weather");
    let request = soon(near.recv()).await.unwrap();
    assert_eq!(request.envelope.sender, "weather");
    request.reply(TokenCount {
        tokens: 1,
        context_length: 2,
    });
    for _ in 0..3 {
        daemon
            .publish("near.event", &Empty {}, Meta::new())
            .unwrap();
    }
    let mut words = soon(daemon.open_stream::<_, AnswerDelta>("far.work", &Empty {}, Meta::new()))
        .await
        .unwrap();
    for index in 0..3 {
        assert_eq!(soon(words.next()).await.unwrap().unwrap().index, index);
    }
    assert!(soon(words.next()).await.is_none());
    assert_eq!(python.says().await, "done");
    assert_eq!(bus.stats().malformed, 0);
    drop(python);
    until(|| bus.stats().peers == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libzmq_without_the_right_keys_hears_nothing() {
    for part in ["no-curve", "unlisted", "wrong-server-key", "routing-id"] {
        let (bus, listener, _folder) = listening().await;
        let Some(mut python) = python(part, &listener).await else {
            return;
        };
        assert_eq!(python.says().await, "trying");
        assert_eq!(python.says().await, "silence", "{part}");
        let stats = bus.stats();
        assert_eq!((stats.peers, stats.published), (0, 0), "{part}");
        // Without CURVE libzmq goes away by itself when it reads our greeting.
        assert!(stats.turned_away > 0 || part == "no-curve", "{part}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libzmq_with_a_revoked_key_does_not_come_back() {
    let (bus, listener, _folder) = listening().await;
    let Some(mut python) = python("revoked", &listener).await else {
        return;
    };
    assert_eq!(python.says().await, "trying");
    until(|| bus.stats().peers == 1).await;
    listener.revoke(&id("weather")).await;
    // It tries again by itself, as libzmq does, and is turned away.
    until(|| bus.stats().peers == 0 && bus.stats().turned_away > 0).await;
}
