//! Scores the starter model on its held-out cases, through the same code that answers people:
//! template, prompt, loop, greedy.
#![allow(dead_code, reason = "the test and the example use parts of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_contracts::v1::Priority;
use aico_models::batch::{Batcher, Event, Request};
use aico_models::engine::llama::Gguf;
use aico_models::engine::{EngineConfig, SamplingPlan};
use aico_models::prompt::Language;
use aico_models::template::{Role, Turn};
use serde::Deserialize;
use uuid::Uuid;

/// The default character's system prompt, with which the starter was trained.
pub const SYSTEM: &str = "You are Aico, a warm and honest companion who lives on this computer. \
    Everything said here stays here, encrypted. You listen first, answer briefly and kindly, \
    remember what you are told, and say plainly when you do not know or cannot do something.";

#[derive(Deserialize)]
pub struct Case {
    pub id: String,
    pub category: String,
    messages: Vec<Message>,
    #[serde(default)]
    expect_any: Vec<String>,
    #[serde(default)]
    expect_all: Vec<String>,
    #[serde(default)]
    forbid: Vec<String>,
}

#[derive(Deserialize)]
struct Message {
    role: Role,
    content: String,
}

impl Case {
    /// Case does not matter; an answer without a word never passes.
    fn passes(&self, answer: &str) -> bool {
        let answer = answer.to_lowercase();
        let holds = |part: &String| answer.contains(&part.to_lowercase());
        !answer.trim().is_empty()
            && (self.expect_any.is_empty() || self.expect_any.iter().any(holds))
            && self.expect_all.iter().all(holds)
            && !self.forbid.iter().any(holds)
    }
}

/// Passed and all, by category.
#[derive(Default)]
pub struct Score {
    pub categories: BTreeMap<String, (usize, usize)>,
    pub failed: Vec<(String, String)>,
}

impl Score {
    pub fn total(&self) -> (usize, usize) {
        self.categories
            .values()
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    pub fn share(&self) -> f64 {
        let (passed, all) = self.total();
        passed as f64 / all as f64
    }
}

/// Where the starter and its cases lie in the repository.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/starter")
}

pub fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join("heldout.jsonl")).unwrap();
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Answers all cases and compares.
pub fn score(model: &Path, cases: &[Case]) -> Score {
    let model = Arc::new(Gguf::load(model).unwrap_or_else(|error| panic!("{error}")));
    let language = Language::new(Arc::clone(&model) as _).unwrap();
    let batcher = Batcher::start(model, EngineConfig::default()).unwrap();
    let mut score = Score::default();
    for group in cases.chunks(4) {
        let generations: Vec<_> = group
            .iter()
            .map(|case| batcher.submit(request(&language, batcher.context_length(), case)))
            .collect();
        for (case, mut generation) in group.iter().zip(generations) {
            let mut answer = String::new();
            while let Some(event) = generation.next_blocking() {
                if let Event::Text(text) = event {
                    answer.push_str(&text);
                }
            }
            let entry = score.categories.entry(case.category.clone()).or_default();
            entry.1 += 1;
            if case.passes(&answer) {
                entry.0 += 1;
            } else {
                score.failed.push((case.id.clone(), answer));
            }
        }
    }
    score
}

fn request(language: &Language, context: usize, case: &Case) -> Request {
    let mut turns = vec![Turn::new(Role::System, SYSTEM)];
    turns.extend(
        case.messages
            .iter()
            .map(|m| Turn::new(m.role, m.content.clone())),
    );
    let prompt = language
        .prompt(&turns, 128, context)
        .unwrap_or_else(|error| panic!("{error}"));
    Request {
        id: Uuid::now_v7(),
        person: None,
        priority: Priority::Interactive,
        cache_key: Vec::new(),
        prompt: prompt.tokens,
        own: 0,
        shares: false,
        answer_limit: prompt.answer_limit,
        sampling: SamplingPlan {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            seed: 1,
        },
        stops: Vec::new(),
        thinking: prompt.thinking,
        calls: None,
        structure: None,
    }
}
