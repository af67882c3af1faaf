//! One subscriber that is stopped, and one that does not read, while a publisher runs at full
//! rate: the broker's memory stays flat, nobody else waits, and both are told what they missed.
//!
//! `AICO_TEST_SOAK_SECONDS` says how long; 5 without it.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aico_bus::link::{Connection, ServerKeys, keep};
use aico_bus::{BusError, Client, Delivery, Meta, Queue, Subscription};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::common::{PATIENCE, delta, index_of, soon};
use crate::durable::Home;
use crate::keep::QUICK;
use crate::restarts::{Site, admit, linked, start};

/// Set in the stopped subscriber's process: its connection, as JSON.
const PEER: &str = "AICO_BUS_TEST_STOPPED_PEER";
const TOPIC: &str = "ui.words";

/// What the broker may grow by after the beginning, whatever is published: what a few queues of
/// 4 MiB and the allocator's slack come to, on a machine so busy that they fill late.
const SLACK: u64 = 64 * 1024 * 1024;
/// Payload of a message.
const SIZE: usize = 4096;
/// So much is published at least, however slow the machine: kept for one, it would be seen.
const LEAST: u64 = 8 * SLACK / SIZE as u64;

fn soak() -> Duration {
    let seconds = std::env::var("AICO_TEST_SOAK_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(5))
}

/// Follows the numbers of what comes: each follows the one before, or what is missing was told.
#[derive(Default)]
struct Watch {
    last: Option<u64>,
    /// How many are known to be missing; `None`: nobody knows.
    missing: Option<u64>,
    told: u64,
    received: u64,
}

impl Watch {
    fn take(&mut self, delivery: &Delivery) {
        match delivery {
            Delivery::Gap { missed } => {
                self.told += 1;
                self.missing = self.missing.map(|missing| missing + missed);
            }
            Delivery::Interrupted { .. } => {
                self.told += 1;
                self.missing = None;
            }
            Delivery::Message(envelope) => {
                let index = index_of(envelope);
                if let (Some(last), Some(missing)) = (self.last, self.missing) {
                    assert_eq!(index, last + 1 + missing, "a gap was not told as it is");
                }
                (self.last, self.missing) = (Some(index), Some(0));
                self.received += 1;
            }
        }
    }
}

/// Not a test by itself: the subscriber that the test starts from this same program and stops. It
/// says how often it was told that something is missing.
#[test]
fn peer() {
    let Ok(connection) = std::env::var(PEER) else {
        return;
    };
    let connection: Connection = serde_json::from_str(&connection).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let link = keep(connection, QUICK).unwrap();
        let client = link.client().await.unwrap();
        let mut words = client.subscribe("ui.#", Queue::default()).unwrap();
        words.ready().await.unwrap();
        let mut watch = Watch::default();
        let mut said = 0;
        while let Some(delivery) = words.recv().await {
            watch.take(&delivery);
            // Whenever more was told, once messages have come after it.
            let news = said != watch.told && matches!(delivery, Delivery::Message(_));
            if news || watch.received == 1 {
                said = watch.told;
                let mut out = std::io::stdout();
                writeln!(out, "\ntold {}", watch.told).unwrap();
                out.flush().unwrap();
            }
        }
    });
}

struct Peer {
    child: Child,
    output: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(connection: &Connection) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "stopped::peer",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(PEER, serde_json::to_string(connection).unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, output }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill")
            .args([signal, &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    /// How often it was told of something missing, the next time that it says so.
    async fn told(&mut self) -> u64 {
        loop {
            let line = soon(self.output.next_line()).await.unwrap();
            let line = line.expect("the peer ended");
            if let Some(count) = line.strip_prefix("told ") {
                return count.parse().unwrap();
            }
        }
    }

    /// What it said last, before it was stopped.
    async fn last_told(&mut self) -> u64 {
        let (mut last, at_once) = (0, Duration::from_millis(200));
        while let Ok(line) = tokio::time::timeout(at_once, self.output.next_line()).await {
            let line = line.unwrap().expect("the peer ended");
            if let Some(count) = line.strip_prefix("told ") {
                last = count.parse().unwrap();
            }
        }
        last
    }
}

fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Publishes as fast as the link takes it.
async fn publish(client: Client, sent: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut message = delta(0);
    message.text = "x".repeat(SIZE);
    while !stop.load(Ordering::Relaxed) {
        match client.publish(TOPIC, &message, Meta::new()) {
            Ok(()) => {
                message.index += 1;
                sent.store(message.index, Ordering::Relaxed);
                if message.index.is_multiple_of(64) {
                    tokio::task::yield_now().await;
                }
            }
            Err(BusError::Busy) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Until a counter has grown, which it does as long as nobody waits for the stopped one.
async fn grows(counter: &AtomicU64, what: &str) {
    let before = counter.load(Ordering::Relaxed);
    let grown = async {
        while counter.load(Ordering::Relaxed) == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, grown)
        .await
        .unwrap_or_else(|_| panic!("{what} stands still"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_subscriber_costs_bounded_memory_and_nothing_else() {
    let Home { folder, vault } = Home::new();
    drop(vault);
    let mut site = Site {
        folder: folder.path().to_owned(),
        secret: *ServerKeys::generate().secret(),
        admitted: Vec::new(),
    };
    let names = ["publisher", "reader", "idler", "stopped"];
    let [publisher, reader, idler, stopped] = names.map(|name| admit(&mut site, name));
    let broker = start(&site);
    let pid = broker.id().unwrap();
    let (_publisher, publisher) = linked(publisher).await;
    let (_reader, reader) = linked(reader).await;
    let (_idler, idler) = linked(idler).await;
    let mut read = reader.subscribe("ui.#", Queue::default()).unwrap();
    let mut unread = idler.subscribe("ui.#", Queue::default()).unwrap();
    soon(read.ready()).await.unwrap();
    soon(unread.ready()).await.unwrap();
    let mut peer = Peer::start(&stopped);

    let (sent, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let publishing = tokio::spawn(publish(publisher, sent.clone(), stop.clone()));
    let received = Arc::new(AtomicU64::new(0));
    let counted = received.clone();
    let reading = tokio::spawn(async move {
        let mut watch = Watch::default();
        while let Some(delivery) = read.recv().await {
            watch.take(&delivery);
            counted.store(watch.received, Ordering::Relaxed);
        }
    });
    // It stands, and is stopped in the middle of it.
    assert_eq!(peer.told().await, 0);
    peer.signal("-STOP");
    let before = peer.last_told().await;

    let (soak, begun) = (soak(), Instant::now());
    let (mut warm, mut most) = (0, 0);
    while begun.elapsed() < soak || sent.load(Ordering::Relaxed) < LEAST {
        // The publisher goes on, and so does who reads.
        grows(&sent, "the publisher").await;
        grows(&received, "who reads").await;
        let now = resident(pid);
        if begun.elapsed() < soak / 5 || sent.load(Ordering::Relaxed) < LEAST / 5 {
            warm = now.max(warm);
        } else {
            most = now.max(most);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let published = sent.load(Ordering::Relaxed);
    assert!(
        most <= warm + SLACK,
        "it grew from {warm} to {most} bytes over {published} messages"
    );
    peer.signal("-CONT");
    // That it missed something comes before what it gets next.
    while peer.told().await <= before {}
    told_exactly(&mut unread).await;
    stop.store(true, Ordering::Relaxed);
    publishing.await.unwrap();
    reading.abort();
    println!("{published} messages; {warm} bytes, then at most {most}");
    drop((idler, reader, peer, broker));
}

/// Who did not read hears how many it missed, to the last one.
async fn told_exactly(unread: &mut Subscription) {
    let mut watch = Watch::default();
    while watch.told == 0 || watch.missing != Some(0) {
        watch.take(&soon(unread.recv()).await.unwrap());
    }
    assert!(watch.received > 0);
}
