//! A real model whose loop asks for leave before each step, so that a test knows what is computed
//! when, whatever the machine is doing.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use aico_contracts::v1::Priority;
use aico_models::batch::{Batcher, Generation, Request};
use aico_models::engine::{
    Engine, EngineConfig, EngineError, Entry, Model, ModelInfo, SamplingPlan, Token, Vocabulary,
};

use crate::support::request;

/// Longest wait for a step: for a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// The model, with the gate before its engine.
struct Gated<M> {
    inner: Arc<M>,
    steps: mpsc::Sender<Vec<Entry>>,
    leave: Mutex<Option<mpsc::Receiver<()>>>,
}

/// The engine behind the gate.
pub struct Gate<E> {
    inner: E,
    steps: mpsc::Sender<Vec<Entry>>,
    leave: mpsc::Receiver<()>,
}

impl<M: Vocabulary> Vocabulary for Gated<M> {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }
    fn tokenize(&self, text: &str) -> Vec<Token> {
        self.inner.tokenize(text)
    }
    fn piece(&self, token: Token, out: &mut Vec<u8>) {
        self.inner.piece(token, out);
    }
    fn ends(&self, token: Token) -> bool {
        self.inner.ends(token)
    }
    fn begin(&self) -> Option<Token> {
        self.inner.begin()
    }
    fn marks(&self) -> &[String] {
        self.inner.marks()
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
    fn is_control(&self, token: Token) -> bool {
        self.inner.is_control(token)
    }
    fn opens_thinking(&self) -> Option<Token> {
        self.inner.opens_thinking()
    }
    fn call_mark(&self, token: Token) -> Option<&'static str> {
        self.inner.call_mark(token)
    }
}

impl<M: Model> Model for Gated<M> {
    type Engine<'m>
        = Gate<M::Engine<'m>>
    where
        Self: 'm;

    fn open(&self, config: &EngineConfig) -> Result<Self::Engine<'_>, EngineError> {
        Ok(Gate {
            inner: self.inner.open(config)?,
            steps: self.steps.clone(),
            leave: self.leave.lock().unwrap().take().unwrap(),
        })
    }
}

impl<E: Engine> Engine for Gate<E> {
    type Sampler = E::Sampler;

    fn sequences(&self) -> usize {
        self.inner.sequences()
    }
    fn context_length(&self) -> usize {
        self.inner.context_length()
    }
    fn batch_limit(&self) -> usize {
        self.inner.batch_limit()
    }
    fn sampler(&self, plan: &SamplingPlan) -> E::Sampler {
        self.inner.sampler(plan)
    }
    fn decode(&mut self, batch: &[Entry]) -> Result<(), EngineError> {
        let _test_ended = self.steps.send(batch.to_vec());
        let _test_ended = self.leave.recv();
        self.inner.decode(batch)
    }
    fn sample(&mut self, sampler: &mut E::Sampler, index: usize) -> Token {
        self.inner.sample(sampler, index)
    }
    fn sample_among(
        &mut self,
        sampler: &mut E::Sampler,
        index: usize,
        allowed: &dyn Fn(Token) -> bool,
    ) -> Option<Token> {
        self.inner.sample_among(sampler, index, allowed)
    }
    fn keep(&mut self, sequence: usize, length: usize) -> usize {
        self.inner.keep(sequence, length)
    }
    fn copies(&self, sequence: usize, length: usize) -> bool {
        self.inner.copies(sequence, length)
    }
    fn state_size(&self, sequence: usize) -> usize {
        self.inner.state_size(sequence)
    }
    fn save(&self, sequence: usize) -> Option<Vec<u8>> {
        self.inner.save(sequence)
    }
    fn restore(&mut self, sequence: usize, state: &[u8], tokens: usize) -> bool {
        self.inner.restore(sequence, state, tokens)
    }
}

/// A loop, watched step by step.
pub struct Watched {
    pub batcher: Batcher,
    steps: mpsc::Receiver<Vec<Entry>>,
    leave: mpsc::Sender<()>,
}

impl Watched {
    pub fn new<M: Model>(model: Arc<M>, sequences: u32) -> Self {
        let (told, steps) = mpsc::channel();
        let (leave, given) = mpsc::channel();
        let gated = Gated {
            inner: model,
            steps: told,
            leave: Mutex::new(Some(given)),
        };
        let config = EngineConfig {
            threads: 1,
            context: 0,
            sequences,
        };
        let batcher = Batcher::start(Arc::new(gated), config).unwrap();
        Self {
            batcher,
            steps,
            leave,
        }
    }

    /// What the next step computes, once it has begun. It stands still until [`Self::go`].
    pub fn step(&self) -> Vec<Entry> {
        self.steps.recv_timeout(SOON).unwrap()
    }

    /// Lets the step that has begun be computed.
    pub fn go(&self) {
        self.leave.send(()).unwrap();
    }

    pub fn ask(&self, token: i32, tokens: usize, priority: Priority) -> Generation {
        let prompt = vec![Token(token); tokens];
        self.batcher.submit(Request {
            priority,
            ..request(prompt, 1000)
        })
    }
}
