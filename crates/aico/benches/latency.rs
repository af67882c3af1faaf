//! What bus, companion and gateway add to an answer, against the moment at which the model said
//! each token:
//!
//! `cargo bench --locked --workspace --profile dev --bench latency`
//!
//! Everything on the path is the real thing: a WebSocket client, gateway, companion with a
//! person's encrypted store, bus, and the link (CURVE over a socket) to where the model would be.
//! There a model that computes nothing says tokens at a steady pace, each carrying the time at
//! which it was said, on the same clock. Client, daemon and model have threads of their own.
//!
//! "first" is the time that a question needs to the model and its first token back. The message is
//! durable before it is asked, so that holds two writes to the disk; the second row has the data
//! folder in memory, which leaves bus, companion, gateway and encryption.
//! `AICO_BENCH_ROUNDS` questions, `AICO_BENCH_TOKENS` tokens for each pace.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

#[path = "latency/model.rs"]
mod model;
#[path = "latency/talk.rs"]
mod talk;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_access::{BusPolicy, Home, HomeConfig, SetupProof, Source};
use aico_bus::{Bus, Identity, link};
use aico_companion::Companion;
use aico_gateway::{Gateway, GatewayConfig, Limits, Nothing};
use aico_vault::{KdfCost, Password};

use talk::{Said, Talk};

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |n| n.parse().unwrap())
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap()
}

/// What a client needs.
struct Door {
    address: std::net::SocketAddr,
    token: String,
    /// Keeps serving.
    _companion: Companion,
    _listener: link::Listener,
}

/// Puts the parts together as the daemon does.
async fn open(data: &Path, model: &tokio::runtime::Runtime, clock: Instant) -> Door {
    let home = Home::open(HomeConfig {
        data: data.to_owned(),
        kdf: KdfCost::minimum(),
        keychains: Arc::default(),
        backups: data.with_extension("backups"),
        configuration: None,
        token_hours: 1,
        system_migrations: Vec::new(),
        person_migrations: vec![aico_companion::MIGRATIONS],
        person_exports: Vec::new(),
    })
    .unwrap();
    let password = Password::new("velvet harbour moss lantern quill").unwrap();
    let done = home
        .set_up(SetupProof::LocalSocket, "Ada", &password, Source::local())
        .await
        .unwrap();
    let token = done.session.token.to_string();
    let bus = Bus::new(Arc::new(BusPolicy::new(home.grants())));
    let client = bus.join(Identity::new("companion"));
    let companion = Companion::start(home.clone(), client, 400).unwrap();
    tokio::spawn(model::ready(bus.join(Identity::new("models"))));
    let endpoint = link::endpoint_in(&data.join("run")).unwrap();
    let listener = link::Listener::bind(&bus, &endpoint).await.unwrap();
    let credentials = listener.issue(Identity::new("model-process-0"));
    model
        .spawn(async move { model::serve(link::connect(credentials).await.unwrap(), clock).await });
    let config = GatewayConfig {
        limits: Limits {
            frames_per_second: 100_000,
            ..Limits::default()
        },
        ..GatewayConfig::default()
    };
    let client = bus.join(Identity::new("gateway"));
    let gateway = Gateway::new(config, home, client, Arc::new(Nothing), Arc::new(Nothing));
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    tokio::spawn(async move { gateway.serve_tcp(tcp).await });
    Door {
        address,
        token,
        _companion: companion,
        _listener: listener,
    }
}

fn percentiles(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort_unstable();
    [0.5, 0.99, 0.999]
        .map(|share| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3)
}

fn row(name: &str, times: Vec<Duration>) -> [f64; 3] {
    let [half, most, nearly_all] = percentiles(times);
    println!("  {name:<44} {half:>8.3} {most:>8.3} {nearly_all:>8.3}");
    [half, most, nearly_all]
}

fn met(what: &str, measured: f64, target: f64) {
    let is = if measured <= target { "met" } else { "MISSED" };
    println!(
        "  {what}: {measured:.3} ms of at most {target} ms, {:.2} of it: {is}",
        measured / target
    );
}

fn main() {
    // `cargo test --benches` runs this too, without this word; there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let clock = Instant::now();
    let (rounds, tokens) = (
        number("AICO_BENCH_ROUNDS", 300),
        number("AICO_BENCH_TOKENS", 3000),
    );
    let (daemon, there, client) = (runtime(2), runtime(1), runtime(1));
    let on_disk = tempfile::tempdir_in(".").unwrap();
    let memory = Path::new("/dev/shm");
    let in_memory = tempfile::tempdir_in(if memory.is_dir() {
        memory
    } else {
        Path::new(".")
    })
    .unwrap();
    let open = |data: &Path| daemon.block_on(open(data, &there, clock));
    let doors = [open(on_disk.path()), open(in_memory.path())];
    let talk = |door: &Door| client.block_on(Talk::open(door.address, &door.token, clock));
    let [mut disk, mut ram] = [talk(&doors[0]), talk(&doors[1])];

    println!("milliseconds{:>46} {:>8} {:>8}", "p50", "p99", "p99.9");
    let mut first: [Vec<Said>; 2] = Default::default();
    for round in 0..rounds {
        for (index, talk) in [&mut disk, &mut ram].into_iter().enumerate() {
            let said = client.block_on(talk.ask("0 1"));
            // The first ones warm up.
            if round >= rounds / 10 {
                first[index].push(said);
            }
        }
    }
    let mut added = [0.0; 2];
    for (index, place) in ["disk", "memory"].into_iter().enumerate() {
        let of = |part: fn(&Said) -> Duration| first[index].iter().map(part).collect();
        println!("first token, data folder on {place}:");
        row("question to the model (durable before)", of(Said::to_model));
        row("token to the client", of(|said| said.tokens[0]));
        added[index] = row("both", of(|said| said.to_model() + said.tokens[0]))[1];
    }
    let mut worst = 0.0_f64;
    for pace in [50, 1000] {
        // At 50 a second ten times fewer: it takes long enough.
        let count = if pace < 1000 { tokens / 5 } else { tokens };
        let question = format!("{} {count}", 1_000_000 / pace);
        let said = client.block_on(disk.ask(&question));
        assert_eq!(said.tokens.len(), count, "a token was lost");
        println!("each of {count} tokens at {pace} a second:");
        worst = worst.max(row("token to the client", said.tokens)[1]);
    }
    println!("added by bus, companion and gateway, p99:");
    met("to a streamed token", worst, 1.0);
    met("to the first token, without the disk", added[1], 5.0);
    println!("  to the first token, with the disk: {:.3} ms", added[0]);
    drop(client);
}
