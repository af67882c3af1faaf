//! The daemon as it is started and left alone: time to ready, memory and work while idle.
//!
//! `cargo bench --locked --workspace --profile dev --bench daemon`
//!
//! The real program on a fresh data folder. Turning the password into the key (Argon2id, 64 MiB) is
//! slow on purpose; what it takes alone is measured in the same round and taken off where "without
//! the key" stands. `AICO_BENCH_ROUNDS` starts, `AICO_BENCH_IDLE_SECONDS` of doing nothing.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

#[path = "../../aico-store/tests/support/disk.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod disk;
#[path = "../tests/daemon/http.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod http;
#[path = "daemon/idle.rs"]
mod idle;
#[path = "../tests/daemon/support.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod support;

use std::time::{Duration, Instant};

use aico_vault::KdfCost;
use argon2::{Algorithm, Argon2, Params, Version};
use serde_json::json;

use http::Api;
use support::{PASSWORD, World};

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |n| n.parse().unwrap())
}

/// The password's own work, with the cost that new vaults get.
fn key() -> Duration {
    let cost = KdfCost::default();
    let params = Params::new(cost.memory_kib(), cost.passes(), cost.lanes(), Some(32)).unwrap();
    let begun = Instant::now();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(PASSWORD.as_bytes(), &[7; 32], &mut [0; 32])
        .unwrap();
    begun.elapsed()
}

/// Starts locked, unlocks over the API, stops. Times: to the line that says "locked", from the
/// password to an answer of `/readyz`.
fn locked_start(world: &mut World) -> [Duration; 2] {
    let begun = Instant::now();
    let line = world.serve_with(&[]);
    let listening = begun.elapsed();
    let api = Api::at(line.rsplit(' ').next().unwrap());
    let begun = Instant::now();
    let (status, answer) = api.post("/api/v1/unlock", &json!({"password": PASSWORD}));
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = api.get("/readyz");
    assert_eq!(status, 200, "{answer}");
    let ready = begun.elapsed();
    world.stop();
    [listening, ready]
}

fn row(name: &str, mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!(
        "  {name:<52} {:>7.1} {:>7.1} {:>7.1}",
        at(0.5),
        at(0.99),
        times[0]
    );
    at(0.99)
}

fn start(world: &mut World, rounds: u64) {
    let mut columns: [Vec<f64>; 6] = Default::default();
    for round in 0..=rounds {
        let alone = key();
        let [listening, unlocked] = locked_start(world);
        let begun = Instant::now();
        world.serve();
        let whole = begun.elapsed();
        world.stop();
        // The first round warms up.
        if round == 0 {
            continue;
        }
        let without = |time: Duration| time.saturating_sub(alone);
        let times = [
            alone,
            listening,
            unlocked,
            without(unlocked),
            whole,
            without(whole),
        ];
        for (column, time) in columns.iter_mut().zip(times) {
            column.push(time.as_secs_f64() * 1e3);
        }
    }
    println!(
        "milliseconds, {rounds} rounds{:>37} {:>7} {:>7}",
        "p50", "p99", "least"
    );
    let names = [
        "the password's own work, alone (Argon2id)",
        "start to listening, locked",
        "password to ready, daemon up",
        "  the same without the key",
        "start to ready with --password-file",
        "  the same without the key",
    ];
    let worst: Vec<f64> = names
        .iter()
        .zip(columns)
        .map(|(name, column)| row(name, column))
        .collect();
    let cold = worst[5];
    let is = if cold < 500.0 { "met" } else { "MISSED" };
    println!(
        "  from start to ready without the key, p99: {:.3} of 500 ms: {is}",
        cold / 500.0
    );
}

fn main() {
    // `cargo test --benches` runs this too, without this word; there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut world = World::new();
    let done = world.setup();
    assert!(done.status.success(), "{}", support::text(&done.stderr));
    start(&mut world, number("AICO_BENCH_ROUNDS", 15));
    idle::measure(
        &mut world,
        Duration::from_secs(number("AICO_BENCH_IDLE_SECONDS", 60)),
    );
}
