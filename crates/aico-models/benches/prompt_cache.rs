//! A conversation of 400 tokens goes on after the model process was killed: what was kept of it
//! brought back, beside reading it anew, on 134 million random parameters at Q4_0 and with the
//! real process and bus:
//!
//! `cargo bench … --bench prompt_cache` (docs/benchmarks.md)
//!
//! Printed are medians over the rounds: the time to the first token when everything is read; when
//! it was brought back, with the time for that; and the bytes on the disk.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

#[path = "../tests/support/daemon.rs"]
mod daemon;
#[path = "../tests/support/gguf_writer.rs"]
mod gguf_writer;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use aico_bus::Meta;
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Empty};
use aico_models::prompt_cache::{Limits, PromptCache};
use aico_vault::{KdfCost, Password, Vault};
use daemon::{Daemon, SOON, daemon_with, kill, until};
use gguf_writer::{Shape, Weights};

/// One byte of these is one token.
const HISTORY: usize = 400;

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(run());
}

async fn run() {
    let rounds: usize = std::env::var("AICO_BENCH_ROUNDS").map_or(5, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let password = Password::new("velvet harbour moss lantern").unwrap();
    let home = folder.path().join("home");
    let (vault, _) = Vault::create_with(&home, &password, KdfCost::minimum()).unwrap();
    let person = PersonId::new();
    vault.create_person(*person.as_bytes(), &password).unwrap();
    let files = vault.prompt_cache_folder(*person.as_bytes());
    let cache = PromptCache::new(
        vault,
        Limits {
            free: 0,
            ..Limits::new(256 << 20, 1 << 30)
        },
    );
    let daemon = daemon_with("modelservice", |config| {
        config.prompts = Some(cache);
        config.quiet = Duration::from_millis(100);
        config.context = 1024;
    })
    .await;
    let model = daemon.add(&model_file()).await.unwrap();
    until("the model's hash", || {
        let models = daemon.registry.snapshot();
        models.iter().all(|model| model.sha256.is_some())
    })
    .await;
    daemon.choose(&model).await.unwrap();
    daemon.state(Status::Ready).await;

    let (mut cold, mut back, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bytes, mut tokens) = (0, 0);
    for round in 0..=rounds {
        // Other words, so that nothing of the round before serves.
        let letter = char::from(b'a' + (round % 26) as u8);
        let text: String = std::iter::repeat_n(letter, HISTORY).collect();
        let begun = SystemTime::now();
        let first = daemon.generate_for(person, &text, 2).await.end.unwrap();
        assert_eq!(first.cached_tokens, 0);
        until("it is kept", || kept(&files, begun).is_some()).await;
        bytes = kept(&files, begun).unwrap();
        restart(&daemon).await;
        let asked = Instant::now();
        prepare(&daemon, person).await;
        let brought = asked.elapsed();
        let again = daemon.generate_for(person, &text, 2).await.end.unwrap();
        assert!(again.cached_tokens + 1 >= again.prompt_tokens, "{again:?}");
        tokens = again.prompt_tokens;
        // The first round warms up.
        if round > 0 {
            cold.push(first.first_token_us as f64 / 1000.0);
            back.push(brought.as_secs_f64() * 1000.0);
            warm.push(brought.as_secs_f64() * 1000.0 + again.first_token_us as f64 / 1000.0);
        }
        // The next round begins with a process that holds nothing.
        let discard = v1::DiscardPrompt {
            cache_key: b"c".to_vec(),
        };
        let meta = Meta::for_person(person).deadline_in(SOON);
        let asked = daemon.asker.request(topics::MODELS_DISCARD, &discard, meta);
        let _: Empty = asked.await.unwrap();
    }
    let (cold, back, warm) = (median(cold), median(back), median(warm));
    println!("a prompt of {tokens} tokens after a restart, median of {rounds} rounds:");
    println!("  read anew       first token after {cold:8.1} ms");
    println!(
        "  brought back    first token after {warm:8.1} ms, of these {back:.1} ms to bring it"
    );
    println!("  ratio           {:.3}", warm / cold);
    println!(
        "  on the disk     {:.1} MiB",
        bytes as f64 / f64::from(1 << 20)
    );
}

/// Bytes of the file that was written since then.
fn kept(folder: &Path, since: SystemTime) -> Option<u64> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| {
        let about = entry.metadata().ok()?;
        let whole = entry.file_name().len() == 32 && about.modified().ok()? > since;
        whole.then_some(about.len())
    })
}

async fn restart(daemon: &Daemon) {
    let before = daemon.state(Status::Ready).await;
    kill(before.process_id);
    daemon
        .state_that(|state| {
            state.status() == Status::Ready && state.process_id != before.process_id
        })
        .await;
}

async fn prepare(daemon: &Daemon, person: PersonId) {
    let question = v1::RecallPrompt {
        cache_key: b"c".to_vec(),
        ..v1::RecallPrompt::default()
    };
    let meta = Meta::for_person(person).deadline_in(SOON);
    let asked = daemon.asker.request(topics::MODELS_RECALL, &question, meta);
    let _: Empty = asked.await.unwrap();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Written once into the temporary folder: it takes seconds.
fn model_file() -> PathBuf {
    let path = std::env::temp_dir().join("aico-bench-134m-q4_0.gguf");
    if !path.exists() {
        let partial = path.with_extension(format!("{}", std::process::id()));
        gguf_writer::write(&partial, &Shape::large(Weights::Q4_0));
        std::fs::rename(partial, &path).unwrap();
    }
    path
}
