//! `cargo bench … --bench inprocess` (docs/benchmarks.md): one publisher, one subscriber, 256-byte payloads,
//! beside a bare bounded channel that carries the same shared envelopes.
//!
//! The bus does more: it makes the envelope, encodes the payload, asks the policy, stamps and
//! routes. The figure to reach is a million messages each second.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

/// The program's own allocator.
#[path = "../../aico/src/wiping.rs"]
mod wiping;

use std::sync::Arc;
use std::time::Instant;

use aico_bus::{AllowAll, Bus, Delivery, Identity, Meta, Queue};
use aico_contracts::v1::{AnswerDelta, Envelope};

#[global_allocator]
static ALLOCATOR: wiping::Wiping = wiping::Wiping;

const MESSAGES: u64 = 1_000_000;

fn payload(index: u64) -> AnswerDelta {
    AnswerDelta {
        index,
        text: "x".repeat(240),
        ..AnswerDelta::default()
    }
}

async fn bus_round() -> (f64, u64) {
    let bus = Bus::new(Arc::new(AllowAll));
    let client = bus.join(Identity::new("bench"));
    let mut subscription = client
        .subscribe("ui.words", Queue::new(65_536, 256 << 20))
        .unwrap();
    let delta = payload(0);
    let start = Instant::now();
    let publisher = tokio::task::spawn_blocking(move || {
        for _ in 0..MESSAGES {
            client.publish("ui.words", &delta, Meta::new()).unwrap();
        }
    });
    let (mut got, mut missed) = (0, 0);
    while got + missed < MESSAGES {
        match subscription.recv().await.unwrap() {
            Delivery::Message(_) => got += 1,
            Delivery::Gap { missed: gap } => missed += gap,
            Delivery::Interrupted { .. } => panic!("there is no link here"),
        }
    }
    publisher.await.unwrap();
    (MESSAGES as f64 / start.elapsed().as_secs_f64(), missed)
}

async fn channel_round() -> f64 {
    let (tx, mut rx) = tokio::sync::mpsc::channel::<Arc<Envelope>>(65_536);
    let envelope = Arc::new(Envelope::default());
    let start = Instant::now();
    let publisher = tokio::task::spawn_blocking(move || {
        for _ in 0..MESSAGES {
            tx.blocking_send(envelope.clone()).unwrap();
        }
    });
    for _ in 0..MESSAGES {
        rx.recv().await.unwrap();
    }
    publisher.await.unwrap();
    MESSAGES as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        if std::env::args().any(|argument| argument == "bus-only") {
            for _ in 0..3 {
                bus_round().await;
            }
            return;
        }
        for round in 1..=3 {
            let bare = channel_round().await;
            let (bus, missed) = bus_round().await;
            println!(
                "round {round}: bus {:.2} M messages/s ({missed} dropped), bare channel {:.2} M/s, \
                 ratio {:.2}",
                bus / 1e6,
                bare / 1e6,
                bus / bare,
            );
        }
    });
}
