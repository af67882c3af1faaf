//! The broker is killed again and again under load, with SIGKILL. No message that it acknowledged
//! is lost, and none has two places.
//!
//! `AICO_TEST_KILLS` says how often; 25 without it.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use aico_bus::link::{Credentials, Listener, connect, endpoint_in};
use aico_bus::{BusError, Client, Followed, Journal, JournalFault, Meta, Queue, Retention, Start};
use aico_contracts::v1::SessionEnded;
use aico_vault::{KdfCost, Vault};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use uuid::Uuid;

use crate::common::{PATIENCE, bus, id, soon};
use crate::durable::{Home, TOPIC, number_of, password};

/// Set in the broker's process: its data folder.
const FOLDER: &str = "AICO_BUS_TEST_BROKER";
const IN_FLIGHT: usize = 256;

pub(crate) fn kills() -> usize {
    let kills = std::env::var("AICO_TEST_KILLS").ok();
    kills.and_then(|kills| kills.parse().ok()).unwrap_or(25)
}

/// Not a test by itself: the broker that the tests start from this same program. It tells
/// credentials for each name that it is given, one line each, and lives until it is killed.
#[test]
fn broker() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let vault = Vault::unlock_with(&folder.join("home"), &password(), KdfCost::minimum()).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let bus = bus();
        let journal = folder.join("home/journal");
        // Small files, so that kills meet the change from one to the next.
        let retention = Retention {
            bytes: 256 * 1024 * 1024,
            ..Retention::default()
        };
        let journal = Journal::open(Arc::new(vault), &journal, retention).unwrap();
        bus.attach_journal(&journal);
        let endpoint = endpoint_in(&folder.join("run")).unwrap();
        let listener = Listener::bind(&bus, &endpoint).await.unwrap();
        let mut names = BufReader::new(tokio::io::stdin()).lines();
        while let Some(name) = names.next_line().await.unwrap() {
            let credentials = serde_json::to_string(&listener.issue(id(&name))).unwrap();
            // Its own line, whatever the test harness wrote before.
            let mut out = std::io::stdout();
            writeln!(out, "\ncredentials {credentials}").unwrap();
            out.flush().unwrap();
        }
        std::future::pending::<()>().await;
    });
}

/// A broker's process.
pub(crate) struct Broker {
    child: Child,
    input: tokio::process::ChildStdin,
    output: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Broker {
    pub(crate) fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "kills::broker",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            input,
            output,
        }
    }

    /// Credentials as JSON.
    pub(crate) async fn admit(&mut self, name: &str) -> String {
        self.input
            .write_all(format!("{name}\n").as_bytes())
            .await
            .unwrap();
        loop {
            let line = soon(self.output.next_line()).await.unwrap();
            let line = line.expect("the broker ended");
            if let Some(credentials) = line.strip_prefix("credentials ") {
                return credentials.to_owned();
            }
        }
    }

    async fn join(&mut self, name: &str) -> Client {
        let credentials: Credentials = serde_json::from_str(&self.admit(name).await).unwrap();
        soon(connect(credentials)).await.unwrap()
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// What the publisher knows: by number, the sequence that was acknowledged.
type Acknowledged = BTreeMap<u64, u64>;

fn message(number: u64) -> (SessionEnded, Meta) {
    let message = SessionEnded {
        sessions: vec![number.to_be_bytes().to_vec(), vec![7; 200]],
    };
    let uuid = Uuid::from_u128(u128::from(number) + (1 << 100));
    (message, Meta::new().id(uuid))
}

/// Publishes, first what nobody answered for, until the link ends. Gives back what nobody
/// answered for now.
async fn publish(
    client: Client,
    unanswered: Vec<u64>,
    next: &mut u64,
    acknowledged: &mut Acknowledged,
    told: &watch::Sender<usize>,
    most: usize,
) -> Vec<u64> {
    let mut repeats = unanswered.into_iter();
    let mut in_flight = std::collections::VecDeque::new();
    let mut sent = 0;
    loop {
        while in_flight.len() < IN_FLIGHT {
            let number = match repeats.next() {
                Some(number) => number,
                None if sent >= most => break,
                None => {
                    *next += 1;
                    *next
                }
            };
            sent += 1;
            let (message, meta) = message(number);
            match client.publish_durably(TOPIC, &message, meta) {
                Ok(pending) => in_flight.push_back((number, Some(pending))),
                Err(_) => {
                    in_flight.push_back((number, None));
                    break;
                }
            }
        }
        let Some((number, pending)) = in_flight.pop_front() else {
            return Vec::new();
        };
        let outcome = match pending {
            Some(pending) => soon(pending).await,
            None => Err(BusError::Closed),
        };
        match outcome {
            Ok(receipt) => {
                let sequence = receipt.place.sequence;
                let before = acknowledged.insert(number, sequence);
                assert!(
                    before.is_none_or(|before| before == sequence),
                    "{number} has two places"
                );
                told.send_modify(|told| *told += 1);
            }
            Err(_) => {
                let rest = in_flight.into_iter().map(|(number, _)| number);
                return [number].into_iter().chain(rest).chain(repeats).collect();
            }
        }
    }
}

/// Follows at a cursor until the link ends; what was seen goes into `seen`, by number.
async fn follow(client: Client, seen: &mut HashMap<u64, u64>, enough: Option<&Acknowledged>) {
    let cursor = Start::Cursor("main".to_owned());
    let mut follower = match soon(client.follow(TOPIC, cursor, Queue::new(64, 1 << 20))).await {
        Ok(follower) => follower,
        Err(_) => return,
    };
    let mut since = 0;
    loop {
        // Everything that was published was acknowledged in the end.
        if enough.is_some_and(|all| all.len() == seen.len()) {
            return;
        }
        match soon(follower.recv()).await {
            Ok(Some(Followed::Message(envelope))) => {
                let (number, sequence) = (number_of(&envelope), envelope.sequence);
                let before = seen.insert(number, sequence);
                assert!(
                    before.is_none_or(|before| before == sequence),
                    "{number} has two places"
                );
                since += 1;
                // Not each one: what was not acknowledged comes again.
                if since % 50 == 0 {
                    follower.acknowledge(sequence);
                }
            }
            Ok(Some(Followed::Skipped(skipped))) => panic!("{skipped:?}"),
            Ok(None) | Err(BusError::Journal(JournalFault::Locked)) => return,
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_message_is_lost_and_none_has_two_places() {
    let home = Home::new();
    let folder = home.folder.path().to_owned();
    let (mut next, mut unanswered) = (0, Vec::new());
    let (mut acknowledged, mut seen) = (Acknowledged::new(), HashMap::new());
    drop(home.vault);
    // The cursor is made before the first message.
    let mut broker = Broker::start(&folder);
    let first = broker.join("lights").await;
    let cursor = Start::Cursor("main".to_owned());
    drop(
        soon(first.follow(TOPIC, cursor, Queue::default()))
            .await
            .unwrap(),
    );
    drop(first);
    for kill in 0..kills() {
        let (weather, lights) = (broker.join("weather").await, broker.join("lights").await);
        let (told, mut counted) = watch::channel(0);
        let enough = 1 + (kill * 7919) % 1500;
        let killer = tokio::spawn(async move {
            let until = counted.wait_for(|count| *count >= enough);
            tokio::time::timeout(PATIENCE, until)
                .await
                .expect("no progress")
                .unwrap();
            broker.kill().await;
        });
        let publishing = publish(
            weather,
            std::mem::take(&mut unanswered),
            &mut next,
            &mut acknowledged,
            &told,
            usize::MAX,
        );
        (unanswered, ()) = tokio::join!(publishing, follow(lights, &mut seen, None));
        killer.await.unwrap();
        broker = Broker::start(&folder);
    }
    let (weather, lights) = (broker.join("weather").await, broker.join("lights").await);
    let told = watch::Sender::new(0);
    let left = publish(weather, unanswered, &mut next, &mut acknowledged, &told, 0).await;
    assert_eq!(left, Vec::<u64>::new());
    assert_eq!(acknowledged.len() as u64, next);
    let done = tokio::time::timeout(
        Duration::from_secs(60),
        follow(lights, &mut seen, Some(&acknowledged)),
    );
    done.await.expect("something is lost");
    // One place for each number, and each place one number.
    for (number, sequence) in &acknowledged {
        assert_eq!(seen.get(number), Some(sequence));
    }
    let mut places: Vec<_> = seen.values().copied().collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), seen.len());
}
