//! `cargo bench --bench libzmq`: the bus beside libzmq, in one run on one machine.
//!
//! ```sh
//! cargo bench --locked --workspace --profile dev --bench libzmq -- [--short] [PART …]
//! ```
//!
//! Parts are `throughput`, `latency`, `inprocess` and `durable`; without one it is all four, about
//! 25 minutes. `--short` takes two: 256 bytes only. libzmq's side (`peer.c`) is compiled when it
//! runs, against the system's header and library; what is missing is said in a line.
//!
//! **Who is compared.** Ours: a broker process (`Bus` and `Listener` with CURVE on TCP loopback)
//! and a process with a publisher and the subscribers, each a `connect`ed client with keys of its
//! own. libzmq: a process with `zmq_proxy` between XSUB and XPUB with CURVE on TCP loopback, and a
//! process with a PUB and the SUBs. Three pairs of threads on both sides: in the broker two, for
//! the publisher its own and one that talks to the network, for the subscribers two.
//! In the process: one publisher's and one subscribers' thread; PUB and SUBs over `inproc` there.
//!
//! **The same framing.** A message is one part, and libzmq's publisher sends the very bytes that
//! ours sends: an encoded `Frame` (version, topic, envelopes), of which the topic's beginning is
//! what its SUBs subscribe to. Ours makes each envelope anew, and its broker reads it, asks the
//! policy, appends the stamp (about 60 bytes that libzmq does not carry) and frames it again;
//! ours decodes it at the end. libzmq's publisher only writes time and number into ready bytes, and
//! nobody there reads an envelope. Sizes are those of the payload; the rest is about 110 bytes.
//!
//! **One envelope a frame**: messages go to two topics in turn, so that no two fit one frame on
//! either hop. **Frames of many**: they go to one topic, and what waits together travels together,
//! at most 64 and 256 KiB, as always. That is set against libzmq's one message each, which has
//! nothing like it; beside it stands what libzmq does as a pipe for ready frames of as many
//! envelopes, into which it does not look.
//!
//! **Throughput** is what each subscriber receives while the publisher keeps a window (4,096
//! messages, at most 4 MiB) on its way, counted to the slowest subscriber; nobody drops. **Latency**
//! is one way, from before the publishing call until the subscriber has the message, at a steady
//! pace. Both sides take turns, round by round; figures and ratios are medians over the rounds.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark"
)]

mod frames;
mod ours;
mod theirs;

#[path = "../durable/measure.rs"]
mod durable;

use std::process::ExitCode;

use serde::Deserialize;

/// What a pair of ends is told to do.
#[derive(Clone, Copy)]
struct Settings {
    /// Bytes of the payload.
    size: usize,
    subscribers: usize,
    /// Envelopes of one topic may travel together.
    many: bool,
    /// Messages each second; 0: as many as get through.
    rate: u64,
    warm_ms: u64,
    span_ms: u64,
}

impl Settings {
    /// How many messages are on their way at most.
    fn window(&self) -> usize {
        (4 * 1024 * 1024 / (self.size + 512)).clamp(16, 4096)
    }

    /// How many envelopes a full frame holds.
    fn envelopes(&self) -> usize {
        if self.many {
            (256 * 1024 / (self.size + 300)).clamp(1, 64)
        } else {
            1
        }
    }
}

/// What they found.
#[derive(Clone, Copy, Default, Deserialize)]
struct Found {
    /// Messages each second and subscriber.
    rate: f64,
    missed: u64,
    p50: f64,
    p99: f64,
    p999: f64,
}

struct Plan {
    sizes: &'static [usize],
    subscribers: &'static [usize],
    latency_subscribers: &'static [usize],
    rounds: usize,
    span_ms: u64,
    latency_ms: u64,
}

const FULL: Plan = Plan {
    sizes: &[64, 256, 1024, 16 * 1024],
    subscribers: &[1, 4, 16],
    latency_subscribers: &[1, 4, 16],
    rounds: 3,
    span_ms: 2000,
    latency_ms: 3000,
};

const SHORT: Plan = Plan {
    sizes: &[256],
    subscribers: &[1, 4, 16],
    latency_subscribers: &[1],
    rounds: 2,
    span_ms: 1000,
    latency_ms: 2000,
};

const RATES: [u64; 2] = [1_000, 10_000];
const WARM_MS: u64 = 300;

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Both sides in turn, and what was missed, which should be nothing.
fn rounds<const N: usize>(
    rounds: usize,
    sides: [&dyn Fn() -> Found; N],
) -> ([Vec<Found>; N], String) {
    let mut found: [Vec<Found>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..rounds {
        for (side, found) in sides.iter().zip(&mut found) {
            found.push(side());
        }
    }
    let missed: u64 = found.iter().flatten().map(|found| found.missed).sum();
    let note = match missed {
        0 => String::new(),
        missed => format!("  ({missed} missed)"),
    };
    (found, note)
}

fn of(found: &[Found], what: fn(&Found) -> f64) -> f64 {
    median(found.iter().map(what))
}

fn ratio(ours: &[Found], theirs: &[Found], what: fn(&Found) -> f64) -> f64 {
    median(
        ours.iter()
            .zip(theirs)
            .map(|(ours, theirs)| what(ours) / what(theirs)),
    )
}

fn throughput(plan: &Plan, libzmq: &theirs::Peer) {
    println!("\nThroughput, CURVE, TCP loopback: thousands of messages each second and subscriber");
    println!(
        "{:>7} {:>5} | {:>8} {:>8} {:>6} | {:>8} {:>6} {:>9}",
        "payload", "subs", "ours", "libzmq", "ratio", "of many", "ratio", "as a pipe"
    );
    for &size in plan.sizes {
        for &subscribers in plan.subscribers {
            let settings = |many| Settings {
                size,
                subscribers,
                many,
                rate: 0,
                warm_ms: WARM_MS,
                span_ms: plan.span_ms,
            };
            let ([one, theirs, many, pipe], note) = rounds(
                plan.rounds,
                [
                    &|| ours::over_link(settings(false)),
                    &|| libzmq.over_link(settings(false)),
                    &|| ours::over_link(settings(true)),
                    &|| libzmq.over_link(settings(true)),
                ],
            );
            let rate = |found: &Found| found.rate;
            let thousands = |found| of(found, rate) / 1e3;
            println!(
                "{size:>7} {subscribers:>5} | {:>8.1} {:>8.1} {:>6.2} | {:>8.1} {:>6.2} {:>9.1}{note}",
                thousands(&one),
                thousands(&theirs),
                ratio(&one, &theirs, rate),
                thousands(&many),
                ratio(&many, &theirs, rate),
                thousands(&pipe),
            );
        }
    }
}

fn latency(plan: &Plan, libzmq: &theirs::Peer) {
    println!(
        "\nOne way at a steady pace, CURVE, TCP loopback: microseconds, ours / libzmq (ratio)"
    );
    println!(
        "{:>7} {:>5} {:>7} | {:^24} | {:^24} | {:^24}",
        "payload", "subs", "rate", "p50", "p99", "p99.9"
    );
    for &size in plan.sizes {
        for &subscribers in plan.latency_subscribers {
            for rate in RATES {
                let settings = Settings {
                    size,
                    subscribers,
                    many: false,
                    rate,
                    warm_ms: WARM_MS,
                    span_ms: plan.latency_ms,
                };
                let ([ours, theirs], note) = rounds(
                    plan.rounds,
                    [&|| ours::over_link(settings), &|| {
                        libzmq.over_link(settings)
                    }],
                );
                let cell = |what: fn(&Found) -> f64| {
                    format!(
                        "{:>7.0} / {:>7.0} ({:>4.2})",
                        of(&ours, what),
                        of(&theirs, what),
                        ratio(&ours, &theirs, what)
                    )
                };
                println!(
                    "{size:>7} {subscribers:>5} {rate:>7} | {:>24} | {:>24} | {:>24}{note}",
                    cell(|found| found.p50),
                    cell(|found| found.p99),
                    cell(|found| found.p999),
                );
            }
        }
    }
}

fn in_process(plan: &Plan, libzmq: &theirs::Peer) {
    println!("\nInside the process, no cipher: thousands of messages each second and subscriber");
    println!(
        "{:>7} {:>5} | {:>8} {:>8} {:>6}",
        "payload", "subs", "ours", "inproc", "ratio"
    );
    for &size in plan.sizes {
        for &subscribers in plan.subscribers {
            let settings = Settings {
                size,
                subscribers,
                many: false,
                rate: 0,
                warm_ms: WARM_MS,
                span_ms: plan.span_ms,
            };
            let ([ours, theirs], note) = rounds(
                plan.rounds,
                [&|| ours::in_process(settings), &|| {
                    libzmq.in_process(settings)
                }],
            );
            let rate = |found: &Found| found.rate;
            println!(
                "{size:>7} {subscribers:>5} | {:>8.1} {:>8.1} {:>6.2}{note}",
                of(&ours, rate) / 1e3,
                of(&theirs, rate) / 1e3,
                ratio(&ours, &theirs, rate),
            );
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = words.strip_prefix(&[ours::ROLE.to_owned()]) {
        ours::run(role);
        return ExitCode::SUCCESS;
    }
    let short = words.iter().any(|word| word == "--short");
    let plan = if short { &SHORT } else { &FULL };
    // Cargo adds `--bench`.
    let parts: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    let libzmq = match theirs::Peer::build() {
        Ok(libzmq) => libzmq,
        Err(missing) => {
            println!("{missing}");
            return ExitCode::from(69);
        }
    };
    println!("{}", libzmq.version());
    if wanted("throughput") {
        throughput(plan, &libzmq);
    }
    if wanted("latency") {
        latency(plan, &libzmq);
    }
    if wanted("inprocess") {
        in_process(plan, &libzmq);
    }
    if wanted("durable") {
        println!("\nDurable, 256 bytes, each acknowledged after its sync");
        durable::measure();
    }
    ExitCode::SUCCESS
}
