//! The link against libzmq: a peer in Python with pyzmq, as a member and as several kinds of stranger.
//!
//! `AICO_TEST_PYTHON` names a Python that has pyzmq; `./test` prepares one. Without it these tests
//! say that they were skipped.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;

use crate::common::{bus, id, message, soon, until};
use crate::durable::Home;
use crate::kills::{Broker, kills};
use aico_bus::link::{Listener, endpoint_in};
use aico_bus::{Bus, Meta, Queue};
use aico_contracts::v1::{AnswerDelta, Empty, TokenCount};
use parking_lot::Mutex;
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

/// A Python that plays a part over many links: each line that it reads is another set of
/// credentials, each line that it writes says an id and a place.
struct Player {
    stdin: ChildStdin,
    child: Child,
}

/// By id: the sequence of its place.
type Places = Arc<Mutex<HashMap<String, String>>>;

impl Player {
    fn start(part: &str, places: &Places) -> Option<Self> {
        let program = std::env::var_os("AICO_TEST_PYTHON")?;
        let mut child = Command::new(program)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/bus/pyzmq_peer.py"
            ))
            .arg(part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let places = places.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if line == "following" {
                    places.lock().insert(line, String::new());
                    continue;
                }
                let mut words = line.split(' ').skip(1).map(str::to_owned);
                if let (Some(id), Some(place)) = (words.next(), words.next()) {
                    let before = places.lock().insert(id, place.clone());
                    assert!(
                        before.as_ref().is_none_or(|before| *before == place),
                        "it has two places: {before:?}, then {line:?}"
                    );
                }
            }
        });
        Some(Self { stdin, child })
    }

    async fn join(&mut self, broker: &mut Broker, name: &str) {
        let credentials = broker.admit(name).await;
        self.stdin
            .write_all(format!("{credentials}\n").as_bytes())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libzmq_loses_nothing_durable_when_the_broker_or_the_follower_is_killed() {
    let (acked, seen) = (Places::default(), Places::default());
    let home = Home::new();
    let folder = home.folder.path().to_owned();
    drop(home.vault);
    let mut broker = Broker::start(&folder);
    let Some(mut follower) = Player::start("follower", &seen) else {
        eprintln!("skipped: AICO_TEST_PYTHON names no Python with pyzmq");
        return;
    };
    follower.join(&mut broker, "lights").await;
    // Its cursor is made before the first message.
    until(|| seen.lock().contains_key("following")).await;
    let mut publisher = Player::start("publisher", &acked).unwrap();
    publisher.join(&mut broker, "weather").await;
    for round in 1..=kills().div_ceil(3) {
        let enough = acked.lock().len() + 100;
        until(|| acked.lock().len() >= enough).await;
        if round % 2 == 0 {
            follower.child.kill().await.unwrap();
            follower = Player::start("follower", &seen).unwrap();
        } else {
            broker.kill().await;
            broker = Broker::start(&folder);
            publisher.join(&mut broker, "weather").await;
        }
        follower.join(&mut broker, "lights").await;
    }
    publisher.child.kill().await.unwrap();
    until(|| {
        let (acked, seen) = (acked.lock(), seen.lock());
        acked.keys().all(|id| seen.contains_key(id))
    })
    .await;
    let (acked, seen) = (acked.lock(), seen.lock());
    for (id, place) in acked.iter() {
        assert_eq!(seen.get(id), Some(place));
    }
    let places: std::collections::HashSet<_> = seen.values().collect();
    assert_eq!(places.len(), seen.len());
}
