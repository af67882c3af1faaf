//! What the tests of the engine share: tiny models with random weights.
#![allow(dead_code, reason = "each test uses a part of it")]

#[path = "bert_writer.rs"]
pub mod bert_writer;
#[path = "gguf_writer.rs"]
pub mod gguf_writer;

use std::path::Path;
use std::sync::Arc;

use aico_contracts::v1::Priority;
use aico_models::batch::{Batcher, End, Event, Generation, Request};
use aico_models::engine::llama::Gguf;
use aico_models::engine::{EngineConfig, SamplingPlan, Token, Vocabulary};
use aico_models::text::Thinking;
use gguf_writer::Shape;
use uuid::Uuid;

/// A loaded model with its loop.
pub struct Loaded {
    pub model: Arc<Gguf>,
    pub batcher: Batcher,
    _folder: Option<tempfile::TempDir>,
}

/// A model of random weights. What it says tips over at the least rounding, which depends on how
/// a prompt is cut into steps and what runs beside it.
pub fn load(shape: &Shape, sequences: u32) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    gguf_writer::write(&path, shape);
    open(&path, sequences, Some(folder))
}

/// The starter model. It is sure of what it says: rounding does not change it.
pub fn load_starter(sequences: u32) -> Loaded {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/starter/aico-starter.gguf"
    );
    open(Path::new(path), sequences, None)
}

fn open(path: &Path, sequences: u32, folder: Option<tempfile::TempDir>) -> Loaded {
    let model = Arc::new(load_file(path));
    let config = EngineConfig {
        // Several threads wait for each other at every step, on a busy machine for long.
        threads: 1,
        context: 0,
        sequences,
    };
    let batcher = Batcher::start(Arc::clone(&model), config).unwrap();
    Loaded {
        model,
        batcher,
        _folder: folder,
    }
}

pub fn load_file(path: &Path) -> Gguf {
    Gguf::load(path).unwrap_or_else(|error| panic!("{error}"))
}

pub const GREEDY: SamplingPlan = SamplingPlan {
    temperature: 0.0,
    top_p: 1.0,
    top_k: 0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    seed: 1,
};

pub fn request(prompt: Vec<Token>, answer_limit: usize) -> Request {
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

impl Loaded {
    pub fn tokens(&self, text: &str) -> Vec<Token> {
        self.model.tokenize(text)
    }

    /// The answer to a request, when it is done.
    pub fn answer(&self, request: Request) -> (String, End) {
        finish(self.batcher.submit(request))
    }
}

/// Reads an answer to its end.
pub fn finish(mut generation: Generation) -> (String, End) {
    let mut text = String::new();
    while let Some(event) = generation.next_blocking() {
        match event {
            Event::Text(part) => text.push_str(&part),
            Event::End(end) => return (text, end),
            Event::Queued(_) => {}
            Event::Thinking(_) => panic!("it does not think"),
            Event::Call(_) => panic!("no tools were offered"),
            Event::Failed | Event::TooComplex | Event::Busy | Event::Stopped => {
                panic!("no answer")
            }
        }
    }
    panic!("no end")
}
