//! Cancelling and giving way on the real llama.cpp, counted in steps: what is computed after it is
//! no more than the step that was running, in prefill and in decode, whatever the machine is doing.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/gated.rs"]
mod gated;
mod support;

use std::sync::Arc;

use aico_contracts::v1::Priority;
use aico_models::batch::{Event, Freed, Generation};
use aico_models::engine::llama::Gguf;
use aico_models::engine::{Entry, Token};
use gated::Watched;
use support::gguf_writer::{self, Shape};
use support::request;

/// Tokens of prompts; those of answers are others only by chance, so they are told by their places.
const LONG: i32 = 'a' as i32;
const SHORT: i32 = 'b' as i32;

fn model() -> Arc<Gguf> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    gguf_writer::write(&path, &Shape::endless());
    Arc::new(support::load_file(&path))
}

/// How many of these a step computes that is the first of their sequences.
fn of(step: &[Entry], token: i32) -> usize {
    step.iter()
        .filter(|entry| entry.token == Token(token))
        .count()
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

/// Cancels while a step runs that is let go then; tells how far it was and what comes next.
fn cancelled(watched: &Watched, answer: Generation) -> (Freed, Vec<Entry>) {
    let freeing = answer.cancel();
    let next = watched.ask(SHORT, 3, Priority::Interactive);
    watched.go();
    let step = watched.step();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let freed = runtime.block_on(freeing);
    drop(next);
    watched.go();
    (freed, step)
}

/// What one says who has the loop alone.
fn alone(model: &Arc<Gguf>) -> (String, usize) {
    let watched = Watched::new(Arc::clone(model), 1);
    let answer = watched.batcher.submit(request(vec![Token(SHORT); 3], 6));
    for _ in 0..6 {
        watched.step();
        watched.go();
    }
    let (text, end) = support::finish(answer);
    (text, end.answer_tokens as usize)
}

#[test]
fn a_cancel_in_prefill_lets_the_running_chunk_end_and_no_other_begin() {
    let model = model();
    let watched = Watched::new(Arc::clone(&model), 1);
    let long = watched.ask(LONG, 3000, Priority::Interactive);
    // In the middle of it, not only at its beginning.
    for _ in 0..3 {
        assert!(of(&watched.step(), LONG) > 0);
        watched.go();
    }
    let running = watched.step();
    assert_eq!(of(&running, LONG), running.len());
    let (freed, next) = cancelled(&watched, long);
    assert_eq!((of(&next, LONG), of(&next, SHORT)), (0, 3));
    assert_eq!(next[0].position, 0, "the sequence was emptied");
    assert_eq!((freed.steps_after, freed.answer_tokens), (0, 0));
    assert_eq!(freed.prompt_tokens, 3000);
}

#[test]
fn a_cancel_in_decode_lets_the_running_token_end_and_no_other_begin() {
    let model = model();
    let watched = Watched::new(Arc::clone(&model), 1);
    let mut answer = watched.ask(LONG, 3, Priority::Interactive);
    watched.step();
    watched.go();
    begun(&mut answer);
    watched.step();
    watched.go();
    let running = watched.step();
    assert_eq!((running.len(), running[0].position), (1, 4));
    let (freed, next) = cancelled(&watched, answer);
    assert_eq!((next.len(), of(&next, SHORT)), (3, 3));
    assert_eq!(freed.steps_after, 0);
    // The running token was computed, and nothing after it.
    assert_eq!((freed.prompt_tokens, freed.answer_tokens), (3, 3));
}

#[test]
fn each_sequence_is_freed_by_itself_and_the_others_go_on() {
    let model = model();
    let watched = Watched::new(Arc::clone(&model), 2);
    let mut other = watched.ask(LONG, 3, Priority::Interactive);
    let first = watched.step();
    watched.go();
    begun(&mut other);
    watched.step();
    let long = watched.ask(SHORT, 2000, Priority::Interactive);
    watched.go();
    let both = watched.step();
    assert!(of(&both, SHORT) > 1, "its prompt is being read");
    let theirs = both
        .iter()
        .filter(|entry| entry.sequence == first[0].sequence);
    assert_eq!(theirs.count(), 1, "and the other goes on by a token");
    drop(long);
    watched.go();
    let after = watched.step();
    assert_eq!(after.len(), 1, "only the other one is left");
    assert_eq!(after[0].sequence, first[0].sequence);
    watched.go();
    begun(&mut other);
}

#[test]
fn background_work_yields_within_a_token_and_within_a_chunk() {
    let model = model();
    let said = alone(&model);
    assert_eq!(said.1, 6);
    // In decode.
    let watched = Watched::new(Arc::clone(&model), 1);
    let mut work = watched.ask(LONG, 3, Priority::Background);
    watched.step();
    watched.go();
    begun(&mut work);
    assert_eq!(watched.step().len(), 1);
    let chat = watched.batcher.submit(request(vec![Token(SHORT); 3], 6));
    watched.go();
    // The very next step is the person's, and so are all until they are answered.
    assert_eq!(of(&watched.step(), SHORT), 3);
    watched.go();
    for _ in 1..6 {
        assert_eq!(watched.step().len(), 1);
        watched.go();
    }
    assert_eq!(
        support::finish(chat).0,
        said.0,
        "nothing of the work is in it"
    );
    // Then the work, with what it had said.
    assert_eq!(watched.step().len(), 5);
    watched.go();
    drop(work);

    // In prefill.
    let watched = Watched::new(Arc::clone(&model), 1);
    let _work = watched.ask(LONG, 3000, Priority::Background);
    watched.step();
    let mut chat = watched.ask(SHORT, 3, Priority::Interactive);
    watched.go();
    let next = watched.step();
    assert_eq!((of(&next, LONG), of(&next, SHORT)), (0, 3));
    watched.go();
    begun(&mut chat);
}
