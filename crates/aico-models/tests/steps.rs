//! The batching loop step by step, over an engine that waits for leave before each: what is heeded
//! within one step, whatever the machine is doing.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use aico_contracts::v1::Priority;
use aico_models::batch::{Batcher, Event, Generation, Request};
use aico_models::engine::{
    Engine, EngineConfig, EngineError, Entry, Model, ModelInfo, SamplingPlan, Token, Vocabulary,
};
use support::request;

/// Longest wait for a step: for a busy machine.
const SOON: Duration = Duration::from_secs(60);
const BATCH: usize = 64;

struct Stepwise {
    info: ModelInfo,
    sequences: usize,
    copies: bool,
    steps: mpsc::Sender<Vec<Entry>>,
    leave: Mutex<Option<mpsc::Receiver<()>>>,
}

struct Steps {
    sequences: usize,
    /// It keeps beginnings, and gives and takes states; otherwise nothing of it.
    copies: bool,
    steps: mpsc::Sender<Vec<Entry>>,
    leave: mpsc::Receiver<()>,
}

impl Vocabulary for Stepwise {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    fn tokenize(&self, text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(byte.into())).collect()
    }
    fn piece(&self, _token: Token, out: &mut Vec<u8>) {
        out.push(b'x');
    }
    fn ends(&self, _token: Token) -> bool {
        false
    }
    fn begin(&self) -> Option<Token> {
        None
    }
    fn marks(&self) -> &[String] {
        &[]
    }
    fn size(&self) -> usize {
        256
    }
    fn is_control(&self, _token: Token) -> bool {
        false
    }
    fn opens_thinking(&self) -> Option<Token> {
        None
    }
    fn call_mark(&self, _token: Token) -> Option<&'static str> {
        None
    }
}

impl Model for Stepwise {
    type Engine<'m> = Steps;

    fn open(&self, _config: &EngineConfig) -> Result<Steps, EngineError> {
        Ok(Steps {
            sequences: self.sequences,
            copies: self.copies,
            steps: self.steps.clone(),
            leave: self.leave.lock().unwrap().take().unwrap(),
        })
    }
}

impl Engine for Steps {
    type Sampler = ();

    fn sequences(&self) -> usize {
        self.sequences
    }
    fn context_length(&self) -> usize {
        100_000
    }
    fn batch_limit(&self) -> usize {
        BATCH
    }
    fn sampler(&self, _plan: &SamplingPlan) {}
    fn decode(&mut self, batch: &[Entry]) -> Result<(), EngineError> {
        let _test_ended = self.steps.send(batch.to_vec());
        let _test_ended = self.leave.recv();
        Ok(())
    }
    fn sample(&mut self, _sampler: &mut (), _index: usize) -> Token {
        Token(200)
    }
    fn sample_among(
        &mut self,
        _sampler: &mut (),
        _index: usize,
        _allowed: &dyn Fn(Token) -> bool,
    ) -> Option<Token> {
        Some(Token(200))
    }
    fn keep(&mut self, _sequence: usize, length: usize) -> usize {
        if self.copies { length } else { 0 }
    }
    fn copies(&self, _sequence: usize, _length: usize) -> bool {
        self.copies
    }
    fn state_size(&self, _sequence: usize) -> usize {
        1
    }
    fn save(&self, _sequence: usize) -> Option<Vec<u8>> {
        self.copies.then(|| vec![0])
    }
    fn restore(&mut self, _sequence: usize, _state: &[u8], _tokens: usize) -> bool {
        self.copies
    }
}

struct Watched {
    batcher: Batcher,
    steps: mpsc::Receiver<Vec<Entry>>,
    leave: mpsc::Sender<()>,
}

impl Watched {
    fn new(sequences: usize) -> Self {
        Self::over(sequences, false)
    }

    fn over(sequences: usize, copies: bool) -> Self {
        let (told, steps) = mpsc::channel();
        let (leave, given) = mpsc::channel();
        let model = Stepwise {
            info: ModelInfo {
                template: None,
                begin_text: String::new(),
                end_text: String::new(),
                trained_context: 100_000,
                longest_piece: 1,
            },
            sequences,
            copies,
            steps: told,
            leave: Mutex::new(Some(given)),
        };
        let batcher = Batcher::start(Arc::new(model), EngineConfig::default()).unwrap();
        Self {
            batcher,
            steps,
            leave,
        }
    }

    /// Of how many tokens of each of these prompts a step consists, once it has begun.
    fn step(&self, of: [u8; 2]) -> [usize; 2] {
        let step = self.steps.recv_timeout(SOON).unwrap();
        // An answer's own tokens are told by what stood before them: here by the sequence alone.
        of.map(|letter| {
            let ours = |entry: &&Entry| entry.token.0 == i32::from(letter);
            step.iter().filter(ours).count()
        })
    }

    fn go(&self) {
        self.leave.send(()).unwrap();
    }

    fn ask(&self, letter: u8, tokens: usize, priority: Priority) -> Generation {
        let prompt = vec![Token(letter.into()); tokens];
        self.batcher.submit(Request {
            priority,
            ..request(prompt, 1000)
        })
    }
}

fn begun(generation: &mut Generation) {
    loop {
        match generation.next_blocking() {
            Some(Event::Text(_)) => return,
            Some(Event::Queued(_)) => {}
            _ => panic!("it ended"),
        }
    }
}

#[test]
fn cancel_in_the_middle_of_a_prompt_frees_the_sequence_with_that_step() {
    let watched = Watched::new(1);
    let long = watched.ask(b'a', 5000, Priority::Interactive);
    let [first, _] = watched.step(*b"ab");
    assert!((1..=BATCH).contains(&first), "{first} of 5000 tokens");
    // Given up while a step runs; somebody else waits.
    drop(long);
    let _next = watched.ask(b'b', 3, Priority::Interactive);
    watched.go();
    assert_eq!(watched.step(*b"ab"), [0, 3]);
    watched.go();
}

#[test]
fn cancel_in_the_middle_of_an_answer_frees_the_sequence_with_that_step() {
    let watched = Watched::new(1);
    let mut answer = watched.ask(b'a', 3, Priority::Interactive);
    assert_eq!(watched.step(*b"ab"), [3, 0]);
    watched.go();
    begun(&mut answer);
    // Its second token is being computed.
    let step = watched.steps.recv_timeout(SOON).unwrap();
    assert_eq!((step.len(), step[0].token), (1, Token(200)));
    drop(answer);
    let _next = watched.ask(b'b', 3, Priority::Interactive);
    watched.go();
    assert_eq!(watched.step(*b"ab"), [0, 3]);
    watched.go();
}

#[test]
fn background_work_yields_to_a_person_within_one_token() {
    let watched = Watched::new(1);
    let mut work = watched.ask(b'a', 3, Priority::Background);
    assert_eq!(watched.step(*b"ab"), [3, 0]);
    watched.go();
    begun(&mut work);
    let step = watched.steps.recv_timeout(SOON).unwrap();
    assert_eq!((step.len(), step[0].token), (1, Token(200)));
    // A person asks while that token is computed.
    let mut chat = watched.ask(b'b', 2, Priority::Interactive);
    watched.go();
    assert_eq!(watched.step(*b"ab"), [0, 2]);
    watched.go();
    begun(&mut chat);
    // The person's answer goes on, and the work does not.
    assert_eq!(watched.step([200, b'a']), [1, 0]);
    drop(chat);
    watched.go();
    // Then the work again, with its prompt and the two tokens that it had said.
    assert_eq!(watched.step([b'a', 200]), [3, 2]);
    watched.go();
}

#[test]
fn a_long_prompt_does_not_keep_an_answer_waiting() {
    let watched = Watched::new(2);
    let mut answer = watched.ask(b'a', 3, Priority::Interactive);
    watched.step(*b"ab");
    watched.go();
    begun(&mut answer);
    watched.step(*b"ab");
    let _long = watched.ask(b'b', 1000, Priority::Interactive);
    watched.go();
    for _ in 0..5 {
        let [answers, prompt] = watched.step([200, b'b']);
        assert_eq!(answers, 1, "its next token is in every step");
        assert!((1..BATCH).contains(&prompt), "{prompt}");
        watched.go();
    }
}

#[test]
fn sequences_stand_in_their_order_whoever_came_first() {
    let watched = Watched::new(4);
    let ask = || (b'a'..=b'd').map(|letter| watched.ask(letter, 2, Priority::Normal));
    let step = || {
        let step = watched.steps.recv_timeout(SOON).unwrap();
        let order: Vec<usize> = step.iter().map(|entry| entry.sequence).collect();
        assert!(order.is_sorted(), "{order:?}");
        order.len()
    };
    let mut four: Vec<Generation> = ask().collect();
    while step() < 4 {
        watched.go();
    }
    // The last ends first, so that what comes next begins with the last sequence.
    for _ in 0..4 {
        four.pop();
        if four.is_empty() {
            four.extend(ask());
            watched.go();
            break;
        }
        watched.go();
        step();
    }
    assert_eq!(step(), 8, "all four in one step");
    watched.go();
    assert_eq!(step(), 4);
    watched.go();
}

#[test]
fn between_two_steps_one_state_is_copied_while_others_wait_for_theirs() {
    let watched = Watched::over(3, true);
    let ask = |letter: u8| {
        let mut prompt = vec![Token(b'o'.into()); 40];
        prompt.extend([Token(letter.into()); 3]);
        watched.batcher.submit(Request {
            cache_key: vec![letter],
            own: 40,
            ..request(prompt, 1000)
        })
    };
    let mut first = ask(b'a');
    let mut read = 0;
    while read < 3 {
        read += watched.step(*b"ab")[0];
        watched.go();
    }
    begun(&mut first);
    // While it goes on with its answer two more come to the same character.
    assert_eq!(watched.step(*b"ao"), [0, 0]);
    let _both = [ask(b'b'), ask(b'c')];
    watched.go();
    assert_eq!(watched.step(*b"bc"), [3, 0]);
    watched.go();
    assert_eq!(watched.step(*b"co"), [3, 0], "nothing was read again");
    watched.go();
}
