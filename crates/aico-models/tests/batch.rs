//! The batching loop on the real llama.cpp, with a tiny model of random weights.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use aico_contracts::ids::PersonId;
use aico_models::batch::{Event, Generation, QUEUE_LIMIT, Request};
use aico_models::engine::Vocabulary;
use support::gguf_writer::Shape;
use support::{finish, load, request};

const LONG: &str = "It was a dark and stormy night, and the rain fell in torrents, except at \
    occasional intervals, when it was checked by a violent gust of wind which swept up the streets.";

fn of(person: PersonId, key: &[u8], request: Request) -> Request {
    Request {
        person: Some(person),
        cache_key: key.to_vec(),
        ..request
    }
}

/// Waits for the first piece of text.
fn begun(generation: &mut Generation) -> String {
    loop {
        match generation.next_blocking() {
            Some(Event::Text(text)) => return text,
            Some(Event::Queued(_)) => {}
            _ => panic!("it ended before it began"),
        }
    }
}

#[test]
fn cancelled_answer_frees_its_sequence() {
    let loaded = load(&Shape::tiny(), 1);
    let mut endless = loaded.batcher.submit(request(loaded.tokens(LONG), 100_000));
    begun(&mut endless);
    let mut second = loaded.batcher.submit(request(loaded.tokens("Hi"), 5));
    assert!(matches!(second.next_blocking(), Some(Event::Queued(0))));
    drop(endless);
    assert_eq!(finish(second).1.answer_tokens, 5);
}

#[test]
fn cancel_in_the_middle_of_a_prompt_is_heeded() {
    let loaded = load(
        &Shape {
            context: 8192,
            ..Shape::tiny()
        },
        1,
    );
    let prompt = loaded.tokens(&LONG.repeat(20));
    let dropped = loaded.batcher.submit(request(prompt.clone(), 100));
    drop(dropped);
    let began = Instant::now();
    let (_, end) = loaded.answer(request(loaded.tokens("Hi"), 1));
    assert_eq!(end.answer_tokens, 1);
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "a deadline, no measurement"
    );
}

#[test]
fn the_same_prompt_again_computes_one_token_only() {
    let loaded = load(&Shape::tiny(), 1);
    let ask = || {
        of(
            PersonId::from(uuid::Uuid::nil()),
            b"c",
            request(loaded.tokens(LONG), 10),
        )
    };
    let first = loaded.answer(ask());
    let again = loaded.answer(ask());
    assert_eq!(first.0, again.0);
    assert_eq!(again.1.cached_tokens, again.1.prompt_tokens - 1);
}

#[test]
fn the_slot_that_was_used_longest_ago_is_given_away() {
    let loaded = load(&Shape::tiny(), 2);
    let ann = PersonId::new();
    let cached = |key: &[u8]| {
        loaded
            .answer(of(ann, key, request(loaded.tokens(LONG), 3)))
            .1
            .cached_tokens
    };
    cached(b"1");
    cached(b"2");
    assert!(cached(b"1") > 0);
    assert_eq!(cached(b"3"), 0, "takes the slot of 2");
    assert!(cached(b"1") > 0);
    assert_eq!(cached(b"2"), 0);
}

#[test]
fn stop_string_ends_the_answer_and_is_not_shown() {
    let loaded = load(&Shape::tiny(), 1);
    let (whole, _) = loaded.answer(request(loaded.tokens(LONG), 60));
    let characters: Vec<char> = whole.chars().collect();
    let stop: String = characters[characters.len() / 2..][..3].iter().collect();
    let at = whole.find(&stop).unwrap();
    let stops = vec!["never said".to_owned(), stop];
    let (cut, end) = loaded.answer(Request {
        stops,
        ..request(loaded.tokens(LONG), 60)
    });
    assert_eq!(cut, whole[..at]);
    assert!(!end.cut);
}

#[test]
fn one_more_than_may_wait_is_refused() {
    let loaded = load(&Shape::tiny(), 1);
    let mut endless = loaded.batcher.submit(request(loaded.tokens(LONG), 100_000));
    begun(&mut endless);
    let waiting: Vec<_> = (0..QUEUE_LIMIT)
        .map(|_| loaded.batcher.submit(request(loaded.tokens("Hi"), 2)))
        .collect();
    let mut refused = loaded.batcher.submit(request(loaded.tokens("Hi"), 2));
    assert!(matches!(refused.next_blocking(), Some(Event::Busy)));
    drop(endless);
    for generation in waiting {
        assert_eq!(finish(generation).1.answer_tokens, 2);
    }
}

#[test]
fn waiting_ones_are_told_when_they_move_up() {
    let loaded = load(&Shape::tiny(), 1);
    let mut endless = loaded.batcher.submit(request(loaded.tokens(LONG), 100_000));
    begun(&mut endless);
    let first = loaded.batcher.submit(request(loaded.tokens("Hi"), 2));
    let mut second = loaded.batcher.submit(request(loaded.tokens("Hi"), 2));
    assert!(matches!(second.next_blocking(), Some(Event::Queued(1))));
    drop(first);
    assert!(matches!(second.next_blocking(), Some(Event::Queued(0))));
    drop(endless);
    assert_eq!(finish(second).1.answer_tokens, 2);
}

#[test]
fn full_context_ends_the_answer() {
    let loaded = load(
        &Shape {
            context: 256,
            ..Shape::tiny()
        },
        1,
    );
    let prompt = loaded.tokens(LONG);
    let (_, end) = loaded.answer(request(prompt.clone(), 100_000));
    assert!(end.cut);
    assert_eq!(end.answer_tokens as usize, 256 - prompt.len());
}

#[test]
fn control_tokens_are_read_as_such_and_stand_for_no_text() {
    let loaded = load(&Shape::tiny(), 1);
    let tokens = loaded.tokens("<|im_start|>a<|im_end|>");
    assert_eq!(tokens.len(), 3);
    assert_eq!(tokens[0].0, support::gguf_writer::IM_START);
    assert!(loaded.model.ends(tokens[2]) && !loaded.model.ends(tokens[1]));
    let mut bytes = Vec::new();
    tokens
        .iter()
        .for_each(|token| loaded.model.piece(*token, &mut bytes));
    assert_eq!(bytes, b"a");
    assert_eq!(loaded.model.marks().len(), 2);
}
