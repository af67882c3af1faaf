//! Our side: the same roles as `peer.c`, played by this program as a process of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aico_bus::link::{Credentials, Listener, connect};
use aico_bus::{
    AllowAll, Bus, BusError, Client, Delivery, Identity, Meta, Queue, Subscription, decode,
};
use aico_contracts::v1::SessionEnded;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use super::frames::{self, PATTERN, TOPICS};
use super::theirs::Ended;
use super::{Found, Settings};

/// The first word when this program is called as a role.
pub(crate) const ROLE: &str = "role";

/// Plays a role.
pub(crate) fn run(words: &[String]) {
    let numbers: Vec<u64> = words[1..]
        .iter()
        .map(|word| word.parse().unwrap())
        .collect();
    match (words[0].as_str(), numbers.as_slice()) {
        ("broker", [peers]) => broker(*peers),
        (role, &[size, subscribers, many, rate, warm_ms, span_ms]) => {
            let settings = Settings {
                size: size as usize,
                subscribers: subscribers as usize,
                many: many != 0,
                rate,
                warm_ms,
                span_ms,
            };
            match role {
                "ends" => ends(settings),
                _ => inside(settings),
            }
        }
        _ => unreachable!("a role with its numbers"),
    }
}

fn call(role: &str, numbers: &[u64]) -> Ended {
    Command::new(std::env::current_exe().unwrap())
        .args([ROLE, role])
        .args(numbers.iter().map(u64::to_string))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(Ended)
        .unwrap()
}

fn numbers(settings: Settings) -> [u64; 6] {
    [
        settings.size as u64,
        settings.subscribers as u64,
        u64::from(settings.many),
        settings.rate,
        settings.warm_ms,
        settings.span_ms,
    ]
}

fn answer(mut role: Ended) -> Found {
    let mut line = String::new();
    let told = role.0.stdout.take().unwrap();
    BufReader::new(told).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// A broker and its ends.
pub(crate) fn over_link(settings: Settings) -> Found {
    let peers = settings.subscribers + 1;
    let mut broker = call("broker", &[peers as u64]);
    let told = BufReader::new(broker.0.stdout.take().unwrap());
    let credentials: Vec<String> = told.lines().take(peers).map(Result::unwrap).collect();
    let mut ends = call("ends", &numbers(settings));
    let mut stdin = ends.0.stdin.take().unwrap();
    for line in credentials {
        writeln!(stdin, "{line}").unwrap();
    }
    drop(stdin);
    answer(ends)
}

pub(crate) fn in_process(settings: Settings) -> Found {
    answer(call("inside", &numbers(settings)))
}

fn runtime(threads: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap()
}

/// Prints credentials for so many peers and goes on until it is killed.
fn broker(peers: u64) {
    let runtime = runtime(2);
    let bus = Bus::new(Arc::new(AllowAll));
    // Bound on a worker, where its tasks are to run.
    let listener = runtime
        .block_on(runtime.spawn({
            let bus = bus.clone();
            async move { Listener::bind(&bus, "tcp://127.0.0.1:0").await }
        }))
        .unwrap()
        .unwrap();
    for peer in 0..peers {
        let credentials = listener.issue(Identity::new(format!("peer-{peer}")));
        println!("{}", serde_json::to_string(&credentials).unwrap());
    }
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// In a cache line of its own.
#[repr(align(64))]
#[derive(Default)]
struct Count(AtomicU64);

struct Shared {
    settings: Settings,
    start: Instant,
    counts: Vec<Count>,
    latencies: Vec<Mutex<Vec<u64>>>,
    missed: AtomicU64,
    measuring: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    fn new(settings: Settings) -> Arc<Self> {
        let room = (settings.rate * (settings.span_ms + 1000) / 1000) as usize;
        let all = 0..settings.subscribers;
        Arc::new(Self {
            settings,
            start: Instant::now(),
            counts: all.clone().map(|_| Count::default()).collect(),
            latencies: all.map(|_| Mutex::new(Vec::with_capacity(room))).collect(),
            missed: AtomicU64::new(0),
            measuring: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn slowest(&self) -> u64 {
        let counts = self
            .counts
            .iter()
            .map(|count| count.0.load(Ordering::Relaxed));
        counts.min().unwrap_or_default()
    }

    fn taken_in_all(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.0.load(Ordering::Relaxed))
            .sum()
    }

    fn publish(&self, client: &Client) {
        let settings = self.settings;
        let mut message = frames::payload(settings.size);
        let topics = &TOPICS[..if settings.many { 1 } else { 2 }];
        let window = settings.window() as u64;
        let (begun, mut number, mut least) = (self.now(), 0_u64, 0);
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(after) = (number * 1_000_000_000).checked_div(settings.rate) {
                let due = begun + after;
                loop {
                    let now = self.now();
                    if now >= due {
                        break;
                    }
                    thread::sleep(Duration::from_nanos(due - now));
                }
            } else if number - least >= window {
                least = self.slowest();
                if number - least >= window {
                    thread::sleep(Duration::from_micros(50));
                    continue;
                }
            }
            number += 1;
            frames::write_stamp(&mut message, self.now(), number);
            let topic = topics[number as usize % topics.len()];
            while let Err(error) = client.publish(topic, &message, Meta::new()) {
                assert!(matches!(error, BusError::Busy), "{error}");
                thread::sleep(Duration::from_micros(50));
            }
        }
    }

    async fn take(&self, which: usize, mut subscription: Subscription) {
        while let Some(delivery) = subscription.recv().await {
            let envelope = match delivery {
                Delivery::Message(envelope) => envelope,
                Delivery::Gap { missed } => {
                    self.missed.fetch_add(missed, Ordering::Relaxed);
                    continue;
                }
                Delivery::Interrupted { .. } => panic!("the link is gone"),
            };
            let message: SessionEnded = decode(&envelope).unwrap();
            let (sent, number) = frames::read_stamp(&message);
            let now = self.now();
            self.counts[which].0.store(number, Ordering::Relaxed);
            if self.settings.rate > 0 && self.measuring.load(Ordering::Relaxed) {
                self.latencies[which].lock().push(now - sent);
            }
        }
    }

    /// Measures what the others do meanwhile, and prints it.
    fn measure(&self) {
        let settings = self.settings;
        thread::sleep(Duration::from_millis(settings.warm_ms));
        self.measuring.store(true, Ordering::Relaxed);
        let (begun, before) = (self.now(), self.taken_in_all());
        thread::sleep(Duration::from_millis(settings.span_ms));
        let (took, count) = (self.now() - begun, self.taken_in_all() - before);
        self.measuring.store(false, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        let all = self
            .latencies
            .iter()
            .map(|one| std::mem::take(&mut *one.lock()));
        let mut latencies: Vec<u64> = all.flatten().collect();
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len().saturating_sub(1) as f64 * share) as usize;
            latencies.get(place).map_or(0.0, |ns| *ns as f64 / 1e3)
        };
        println!(
            "{}",
            serde_json::json!({
                "rate": count as f64 / settings.subscribers as f64 / (took as f64 / 1e9),
                "missed": self.missed.load(Ordering::Relaxed),
                "p50": at(0.5),
                "p99": at(0.99),
                "p999": at(0.999),
            })
        );
    }
}

/// Room for a whole window, so that nobody drops.
fn queue() -> Queue {
    Queue::new(65_536, 16 << 20)
}

fn ends(settings: Settings) {
    let lines = std::io::stdin().lines().map(Result::unwrap);
    let mut credentials = lines.map(|line| serde_json::from_str::<Credentials>(&line).unwrap());
    let (publishing, subscribing) = (runtime(1), runtime(2));
    let own = credentials.next().unwrap();
    let publisher = publishing
        .block_on(publishing.spawn(connect(own)))
        .unwrap()
        .unwrap();
    let shared = Shared::new(settings);
    for (which, own) in credentials.enumerate() {
        let shared = shared.clone();
        let (ready, stands) = tokio::sync::oneshot::channel();
        subscribing.spawn(async move {
            let client = connect(own).await.unwrap();
            let mut subscription = client.subscribe(PATTERN, queue()).unwrap();
            subscription.ready().await.unwrap();
            let _ = ready.send(());
            shared.take(which, subscription).await;
        });
        subscribing.block_on(stands).unwrap();
    }
    measure_with(&shared, publisher);
}

/// Without a link: a thread that publishes, one with all subscribers.
fn inside(settings: Settings) {
    let bus = Bus::new(Arc::new(AllowAll));
    let shared = Shared::new(settings);
    let subscribing = runtime(1);
    let reader = bus.join(Identity::new("reader"));
    for which in 0..settings.subscribers {
        let subscription = reader.subscribe(PATTERN, queue()).unwrap();
        let shared = shared.clone();
        subscribing.spawn(async move { shared.take(which, subscription).await });
    }
    measure_with(&shared, bus.join(Identity::new("publisher")));
}

fn measure_with(shared: &Arc<Shared>, publisher: Client) {
    let publishing = {
        let shared = shared.clone();
        thread::spawn(move || shared.publish(&publisher))
    };
    shared.measure();
    publishing.join().unwrap();
    // The tasks end with the process.
    let _ = std::io::stdout().flush();
}
