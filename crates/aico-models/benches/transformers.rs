//! Embeddings beside sentence-transformers, batch 1 and 32, the same weights, one run and in turn:
//!
//! `eval "$(tools/transformers-peer)"`, then `cargo bench … --bench transformers`
//! (docs/benchmarks.md)
//!
//! Ours is the whole way: over the bus to the manager, through the pipe to the confined process and
//! back. Theirs is the call inside of Python, with nothing around it. Both compute with as many
//! threads, `AICO_BENCH_THREADS` or all cores. Printed are sentences a second of each side and the
//! ratio (the medians over the rounds), and the largest difference of two numbers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

#[path = "../tests/support/daemon.rs"]
mod daemon;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use aico_contracts::topics;
use aico_contracts::v1::{AddPackage, Embed, Embedded, ModelPackage};
use aico_models::threads::physical;
use daemon::Daemon;

/// Sentences of people, of the lengths that they have.
const PAGES: [&str; 3] = [
    include_str!("../../../docs/keys.md"),
    include_str!("../../../docs/models.md"),
    include_str!("../../../docs/backup.md"),
];
/// Sentences of each batch size in a round.
const SENTENCES: usize = 96;

struct Peer {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn ask(&mut self, texts: &[String]) -> (f64, Vec<Vec<f32>>) {
        writeln!(self.input, "{}", serde_json::to_string(texts).unwrap()).unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        let vectors = serde_json::from_value(told["vectors"].clone()).unwrap();
        (told["seconds"].as_f64().unwrap(), vectors)
    }
}

fn main() {
    let place = |name: &str| std::env::var(name).ok();
    let (Some(python), Some(model), Some(package)) = (
        place("AICO_BENCH_PYTHON"),
        place("AICO_BENCH_MODEL"),
        place("AICO_BENCH_PACKAGE"),
    ) else {
        println!("set beforehand: eval \"$(tools/transformers-peer)\"");
        return;
    };
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tools/transformers_peer.py"
    );
    let threads = place("AICO_BENCH_THREADS").map_or_else(physical, |n| n.parse().unwrap());
    let mut child = Command::new(python)
        .args([script, "serve", &model, &threads.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut peer = Peer {
        input: child.stdin.take().unwrap(),
        output: BufReader::new(child.stdout.take().unwrap()),
        _child: child,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let made = daemon::daemon_with("modelservice", |config| config.threads = threads);
    let daemon = runtime.block_on(made);
    let added = AddPackage { path: package };
    let added: ModelPackage = runtime
        .block_on(daemon.ask(topics::MODELS_ADD_PACKAGE, &added))
        .unwrap();
    println!(
        "{}: {} MB, {threads} threads",
        added.name,
        added.size_bytes / 1_000_000
    );

    let rounds = std::env::var("AICO_BENCH_ROUNDS").map_or(7, |n| n.parse().unwrap());
    let texts = sentences();
    for batch in [1, 32] {
        let (mut own, mut theirs, mut apart) = (Vec::new(), Vec::new(), 0.0_f32);
        for round in 0..=rounds {
            let (mut seconds, mut peers) = (0.0, 0.0);
            for (index, piece) in texts.chunks(batch).enumerate() {
                // In turn, and each side first in every other piece.
                let mut vectors: [Vec<Vec<f32>>; 2] = Default::default();
                for side in [index % 2, 1 - index % 2] {
                    if side == 0 {
                        let (took, made) = ours(&runtime, &daemon, piece);
                        seconds += took;
                        vectors[0] = made;
                    } else {
                        let (took, made) = peer.ask(piece);
                        peers += took;
                        vectors[1] = made;
                    }
                }
                assert_eq!(vectors[0].len(), vectors[1].len());
                let pairs = vectors[0].iter().flatten().zip(vectors[1].iter().flatten());
                apart = pairs.fold(apart, |most, (one, other)| most.max((one - other).abs()));
            }
            // The first round warms both.
            if round > 0 {
                own.push(texts.len() as f64 / seconds);
                theirs.push(texts.len() as f64 / peers);
            }
        }
        let ratios = own.iter().zip(&theirs).map(|(own, theirs)| own / theirs);
        let ratio = median(ratios.collect());
        let (own, theirs) = (median(own), median(theirs));
        println!(
            "batch {batch:2}: ours {own:7.1}/s, sentence-transformers {theirs:7.1}/s, {ratio:.2} times; \
             largest difference {apart:.1e}"
        );
        assert!(apart < 1e-4, "these are not the same vectors");
    }
}

fn sentences() -> Vec<String> {
    let plain = |text: &&str| (20..250).contains(&text.len()) && !text.contains(['|', '`', '#']);
    let joined: Vec<String> = PAGES.map(|page| page.replace('\n', " ")).to_vec();
    let pieces = joined.iter().flat_map(|page| page.split(". "));
    let all: Vec<String> = pieces
        .map(str::trim)
        .filter(plain)
        .take(SENTENCES)
        .map(str::to_owned)
        .collect();
    assert_eq!(all.len(), SENTENCES);
    all
}

fn ours(
    runtime: &tokio::runtime::Runtime,
    daemon: &Daemon,
    texts: &[String],
) -> (f64, Vec<Vec<f32>>) {
    let asked = Embed {
        texts: texts.to_vec(),
        ..Embed::default()
    };
    let begun = Instant::now();
    let made: Embedded = runtime
        .block_on(daemon.ask(topics::MODELS_EMBED, &asked))
        .unwrap();
    let took = begun.elapsed().as_secs_f64();
    (
        took,
        made.items.into_iter().map(|item| item.vector).collect(),
    )
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
