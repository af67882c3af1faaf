//! Decoding through our loop against llama.cpp's own, on 134 million random parameters at Q4_0,
//! for one stream and for four, both sides in one run and in turn:
//!
//! `cargo bench … --bench decode` (docs/benchmarks.md)
//!
//! "Own" is the plainest loop there is: `llama_decode` and a greedy sampler, one batch a step,
//! the same context parameters, by the same calls (`engine/llama.rs`). Printed are tokens a second of
//! each side (the median over the rounds) and the ratios: ours to own, four streams to one, what is
//! left of reading a character's prompt of 400 tokens for another person, and what
//! the prefix cache leaves of reading a conversation of 400 tokens when its second turn comes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

#[path = "../tests/support/gguf_writer.rs"]
mod gguf_writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use aico_contracts::ids::PersonId;
use aico_contracts::v1::Priority;
use aico_models::batch::{Batcher, Event, Generation, Request};
use aico_models::engine::llama::Gguf;
use aico_models::engine::{Engine, EngineConfig, Entry, Model, SamplingPlan, Token};
use aico_models::text::Thinking;
use gguf_writer::{Shape, Weights};
use uuid::Uuid;

/// What is asked at once: how many streams, how many tokens each has read before, and writes.
#[derive(Clone, Copy)]
struct Load {
    streams: usize,
    prompt: usize,
    answer: usize,
}

const ONE: Load = Load {
    streams: 1,
    prompt: 32,
    answer: 128,
};
const FOUR: Load = Load { streams: 4, ..ONE };
/// As much text in one stream as in four together: what the goal of twice was taken from.
const ONE_LONG: Load = Load {
    streams: 1,
    prompt: 128,
    answer: 48,
};
const FOUR_SHORT: Load = Load {
    streams: 4,
    prompt: 32,
    ..ONE_LONG
};

/// Tokens of a conversation when its second turn comes, and of what is said then.
const HISTORY: usize = 400;
const QUESTION: usize = 8;

const GREEDY: SamplingPlan = SamplingPlan {
    temperature: 0.0,
    top_p: 1.0,
    top_k: 0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    seed: 1,
};

fn main() {
    let rounds = std::env::var("AICO_BENCH_ROUNDS").map_or(7, |n| n.parse().unwrap());
    let model = Arc::new(Gguf::load(&model_file()).unwrap());
    let config = EngineConfig {
        threads: 0,
        context: 512,
        sequences: 4,
    };
    let batcher = Batcher::start(Arc::clone(&model), config).unwrap();
    let mut own = Own {
        engine: model.open(&config).unwrap(),
    };

    let mut speeds: [[Vec<f64>; 2]; 4] = Default::default();
    for round in 0..=rounds {
        for (index, load) in [ONE, FOUR, ONE_LONG, FOUR_SHORT].into_iter().enumerate() {
            let mut measured = [0.0; 2];
            // In turn, and each side first in every other round.
            for turn in 0..2 {
                let side = (turn + round) % 2;
                measured[side] = if side == 0 {
                    ours(&batcher, load)
                } else {
                    own.decode(load)
                };
            }
            // The first round warms up.
            if round > 0 {
                speeds[index][0].push(measured[0]);
                speeds[index][1].push(measured[1]);
            }
        }
    }
    let [one, four, one_long, four_short] = speeds.map(|sides| sides.map(median));
    println!("decode, tokens/s over all streams, median of {rounds} rounds:");
    for (name, [ours, own]) in [("1 stream ", one), ("4 streams", four)] {
        println!(
            "  {name}  ours {ours:8.1}   own {own:8.1}   ratio {:.3}",
            ours / own
        );
    }
    println!(
        "  4 to 1     ours {:8.2}   own {:8.2}",
        four[0] / one[0],
        four[1] / one[1]
    );
    println!(
        "  4 to 1     ours {:8.2}   own {:8.2}   with {} tokens before each of the four, {} before the one",
        four_short[0] / one_long[0],
        four_short[1] / one_long[1],
        FOUR_SHORT.prompt,
        ONE_LONG.prompt
    );
    let [first, second] = medians(rounds, |round| turns(&batcher, round));
    println!(
        "  prefix     first turn {:.1} ms   second {:.1} ms   ratio {:.3}",
        first * 1e3,
        second * 1e3,
        second / first
    );
    let [first, second] = medians(rounds, |round| persons(&batcher, round));
    println!(
        "  character  first person {:.1} ms   second {:.1} ms   ratio {:.3}",
        first * 1e3,
        second * 1e3,
        second / first
    );
}

/// Of both figures of a round; the first one warms up.
fn medians(rounds: usize, mut measure: impl FnMut(usize) -> [f64; 2]) -> [f64; 2] {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let measured = measure(round);
        if round > 0 {
            first.push(measured[0]);
            second.push(measured[1]);
        }
    }
    [median(first), median(second)]
}

/// Other words in each round.
fn history(round: usize) -> Vec<Token> {
    (0..HISTORY)
        .map(|i| Token(((i * 11 + round * 977 + 300) % 32_000) as i32))
        .collect()
}

/// What is said after it.
fn question() -> impl Iterator<Item = Token> {
    (0..QUESTION).map(|i| Token(((i * 13 + 5000) % 32_000) as i32))
}

/// Seconds until the first token of an answer to a person.
fn first_token(batcher: &Batcher, person: PersonId, prompt: &[Token], own: usize) -> f64 {
    let mut generation = batcher.submit(Request {
        person: Some(person),
        cache_key: b"conversation".to_vec(),
        prompt: prompt.to_vec(),
        own,
        ..request(Vec::new(), 1)
    });
    loop {
        match generation.next_blocking() {
            Some(Event::End(end)) => break end.first_token.as_secs_f64(),
            Some(_) => {}
            None => panic!("no end"),
        }
    }
}

/// Of a conversation's first turn, and of its second.
fn turns(batcher: &Batcher, round: usize) -> [f64; 2] {
    let mut said = history(round);
    let person = PersonId::new();
    let first = first_token(batcher, person, &said, 0);
    said.extend(question());
    [first, first_token(batcher, person, &said, 0)]
}

/// Of the first question to a character, and of another person's to the same.
fn persons(batcher: &Batcher, round: usize) -> [f64; 2] {
    // Not what the conversations began with.
    let mut told = history(round + 1000);
    told.extend(question());
    [(); 2].map(|()| first_token(batcher, PersonId::new(), &told, HISTORY))
}

fn request(prompt: Vec<Token>, answer_limit: usize) -> Request {
    Request {
        id: Uuid::now_v7(),
        person: None,
        priority: Priority::Interactive,
        cache_key: Vec::new(),
        prompt,
        own: 0,
        shares: false,
        answer_limit,
        sampling: GREEDY,
        stops: Vec::new(),
        thinking: Thinking::None,
        calls: None,
        structure: None,
    }
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

fn prompt(stream: usize, length: usize) -> Vec<Token> {
    (0..length)
        .map(|i| Token(((i * 7 + stream * 1013 + 300) % 32_000) as i32))
        .collect()
}

/// Tokens a second from the first token of the last stream to begin until the first to end.
fn ours(batcher: &Batcher, load: Load) -> f64 {
    let mut generations: Vec<Generation> = (0..load.streams)
        .map(|stream| batcher.submit(request(prompt(stream, load.prompt), load.answer)))
        .collect();
    // All prompts are computed in the same steps, so all begin together.
    let first = Instant::now();
    let ends: Vec<_> = generations
        .iter_mut()
        .map(|generation| {
            loop {
                match generation.next_blocking() {
                    Some(Event::End(end)) => break end,
                    Some(_) => {}
                    None => panic!("no end"),
                }
            }
        })
        .collect();
    let whole = first.elapsed();
    let begun = ends.iter().map(|end| end.first_token).max().unwrap();
    ((load.answer - 1) * load.streams) as f64 / (whole - begun).as_secs_f64()
}

/// llama.cpp's own loop.
struct Own<E: Engine> {
    engine: E,
}

impl<E: Engine> Own<E> {
    fn decode(&mut self, load: Load) -> f64 {
        let Load {
            streams,
            prompt: before,
            answer,
        } = load;
        let mut batch = Vec::new();
        for stream in 0..streams {
            self.engine.keep(stream, 0);
            for (position, token) in prompt(stream, before).into_iter().enumerate() {
                let output = position + 1 == before;
                batch.push(Entry {
                    token,
                    position,
                    sequence: stream,
                    output,
                });
            }
        }
        self.engine.decode(&batch).unwrap();
        let mut samplers: Vec<_> = (0..streams).map(|_| self.engine.sampler(&GREEDY)).collect();
        let mut last: Vec<Token> = samplers
            .iter_mut()
            .enumerate()
            .map(|(stream, sampler)| self.engine.sample(sampler, (stream + 1) * before - 1))
            .collect();
        let began = Instant::now();
        for step in 1..answer {
            batch.clear();
            for (stream, token) in last.iter().enumerate() {
                let position = before + step - 1;
                batch.push(Entry {
                    token: *token,
                    position,
                    sequence: stream,
                    output: true,
                });
            }
            self.engine.decode(&batch).unwrap();
            for (stream, sampler) in samplers.iter_mut().enumerate() {
                last[stream] = self.engine.sample(sampler, stream);
            }
        }
        ((answer - 1) * streams) as f64 / began.elapsed().as_secs_f64()
    }
}
