//! The batching loop on the real llama.cpp, with a tiny model of random weights.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::future::Future;
use std::time::{Duration, Instant};

use aico_contracts::ids::PersonId;
use aico_contracts::v1::Priority;
use aico_models::batch::{Event, Generation, Larger, QUEUE_LIMIT, Request, Saved};
use aico_models::engine::{SamplingPlan, Token, Vocabulary};
use support::gguf_writer::Shape;
use support::{finish, load, load_starter, request};

const LONG: &str = "It was a dark and stormy night, and the rain fell in torrents, except at \
    occasional intervals, when it was checked by a violent gust of wind which swept up the streets.";

fn of(person: PersonId, key: &[u8], request: Request) -> Request {
    Request {
        person: Some(person),
        cache_key: key.to_vec(),
        shares: true,
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

/// What the starter reads when a person says this first.
fn said(text: &str) -> String {
    format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")
}

/// What both texts begin with, in characters.
fn shared(one: &str, other: &str) -> usize {
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b);
    same.count()
}

#[test]
fn four_at_once_say_what_each_says_alone() {
    let loaded = load_starter(4);
    let texts = [
        "Hello there!",
        "My name is Mira and I live in Lisbon.",
        "Tell me a joke.",
        "Where is what I say kept?",
    ];
    let ask = |text: &&str| request(loaded.tokens(&said(text)), 60);
    let alone: Vec<String> = texts
        .iter()
        .map(|text| loaded.answer(ask(text)).0)
        .collect();
    let together: Vec<_> = texts
        .iter()
        .map(|text| loaded.batcher.submit(ask(text)))
        .collect();
    let together: Vec<String> = together
        .into_iter()
        .map(|generation| finish(generation).0)
        .collect();
    assert_eq!(alone, together);
    for (at, one) in alone.iter().enumerate() {
        assert!(!one.is_empty());
        assert!(
            !alone[at + 1..].contains(one),
            "one answer for all proves nothing"
        );
    }
}

#[test]
fn seeded_sampling_repeats_and_other_seeds_differ() {
    let loaded = load(&Shape::tiny(), 1);
    // So short that it is one step however fast the machine is.
    let prompt = loaded.tokens("Hi");
    assert!(prompt.len() <= 8);
    let with = |temperature, seed| {
        let sampling = SamplingPlan {
            temperature,
            top_k: 50,
            top_p: 0.95,
            min_p: 0.01,
            repeat_penalty: 1.1,
            seed,
        };
        let request = Request {
            sampling,
            ..request(prompt.clone(), 40)
        };
        loaded.answer(request).0
    };
    assert_eq!(with(1.5, 3), with(1.5, 3));
    assert_ne!(with(1.5, 3), with(1.5, 4));
    assert_eq!(with(0.0, 3), with(0.0, 4), "greedy has no seed");
}

#[test]
fn second_turn_finds_the_first_in_the_cache_and_says_the_same() {
    let loaded = load_starter(2);
    let ann = PersonId::new();
    let first = said("My name is Mira and I live in Lisbon.");
    let (answer, _) = loaded.answer(request(loaded.tokens(&first), 60));
    let second = format!("{first}{answer}<|im_end|>\n{}", said("What is my name?"));
    let (first, second) = (loaded.tokens(&first), loaded.tokens(&second));
    let cold = loaded.answer(request(second.clone(), 60));
    assert_eq!(cold.1.cached_tokens, 0);
    let turn = loaded.answer(of(ann, b"c1", request(first.clone(), 60)));
    assert_eq!(turn.0, answer);
    let warm = loaded.answer(of(ann, b"c1", request(second.clone(), 60)));
    assert_eq!(cold.0, warm.0);
    assert!(warm.1.cached_tokens as usize >= first.len());
    assert_eq!(warm.1.prompt_tokens as usize, second.len());
}

#[test]
fn background_work_gives_way_to_a_person_and_loses_nothing() {
    let loaded = load(&Shape::tiny(), 1);
    let background = || Request {
        priority: Priority::Background,
        ..request(loaded.tokens(LONG), 400)
    };
    let (alone, _) = loaded.answer(background());
    let mut work = loaded.batcher.submit(background());
    let mut text = begun(&mut work);
    let (_, chat) = loaded.answer(request(loaded.tokens("Hi"), 5));
    assert_eq!(chat.answer_tokens, 5);
    // What had come by now was said before the person's turn, or right after it.
    let before = text.chars().count();
    let (rest, end) = finish(work);
    text.push_str(&rest);
    assert_eq!((end.answer_tokens, end.cached_tokens), (400, 0));
    // It was computed again, in other steps: what had been said stands and goes on from there.
    assert!(shared(&text, &alone) > before, "{}", shared(&text, &alone));
}

#[test]
fn paused_answer_waits_and_goes_on_where_it_was() {
    let loaded = load(&Shape::tiny(), 1);
    let ask = || request(loaded.tokens(LONG), 300);
    let (alone, _) = loaded.answer(ask());
    let paused = ask();
    let id = paused.id;
    let mut generation = loaded.batcher.submit(paused);
    let mut text = begun(&mut generation);
    loaded.batcher.pause(id);
    // While it is paused its slot serves others.
    loaded.answer(request(loaded.tokens("Hi"), 5));
    let before = text.chars().count();
    loaded.batcher.resume(id);
    let (rest, end) = finish(generation);
    text.push_str(&rest);
    assert_eq!(end.answer_tokens, 300);
    assert!(shared(&text, &alone) > before, "{}", shared(&text, &alone));
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
fn nothing_is_shared_between_persons_or_after_forgetting() {
    let loaded = load(&Shape::tiny(), 4);
    let (ann, ben) = (PersonId::new(), PersonId::new());
    let cached = |person, key: &[u8]| {
        loaded
            .answer(of(person, key, request(loaded.tokens(LONG), 3)))
            .1
            .cached_tokens
    };
    assert_eq!(cached(ann, b"c"), 0);
    assert_eq!(cached(ben, b"c"), 0, "another person with the same key");
    assert!(cached(ann, b"d") > 0, "another conversation of hers");
    assert_eq!(cached(ann, b""), 0, "no key");
    assert_eq!(cached(ann, b""), 0, "no key again");
    assert!(cached(ann, b"c") > 0);
    loaded.batcher.forget(Some(ann));
    assert_eq!(cached(ann, b"c"), 0, "forgotten");
    assert!(cached(ben, b"c") > 0);
}

#[test]
fn what_waits_is_paused_or_gives_way_is_forgotten_too() {
    let loaded = load(&Shape::tiny(), 1);
    let (ann, ben) = (PersonId::new(), PersonId::new());
    let ask = |key: &[u8], limit| of(ann, key, request(loaded.tokens(LONG), limit));
    let held = || {
        let held = wait(loaded.batcher.held()).into_iter();
        held.filter(|prompt| prompt.person == ann).count()
    };
    let queued = |generation: &mut Generation| {
        assert!(matches!(generation.next_blocking(), Some(Event::Queued(_))));
    };
    let mut endless = loaded.batcher.submit(request(loaded.tokens(LONG), 100_000));
    begun(&mut endless);
    let mut waiting = loaded.batcher.submit(ask(b"1", 3));
    queued(&mut waiting);
    let later = ask(b"2", 3);
    let id = later.id;
    let mut paused = loaded.batcher.submit(later);
    queued(&mut paused);
    loaded.batcher.pause(id);
    loaded.batcher.forget(Some(ann));
    drop(endless);
    finish(waiting);
    assert_eq!(held(), 0, "it waited");
    loaded.batcher.resume(id);
    finish(paused);
    assert_eq!(held(), 0, "it was paused");

    let mut work = loaded.batcher.submit(Request {
        priority: Priority::Background,
        ..ask(b"3", 300)
    });
    begun(&mut work);
    loaded.batcher.discard(ann, b"3".to_vec());
    loaded.answer(Request {
        priority: Priority::Interactive,
        ..of(ben, b"4", request(loaded.tokens(LONG), 3))
    });
    finish(work);
    assert_eq!(held(), 0, "it gave way");
    loaded.answer(ask(b"3", 3));
    assert_eq!(held(), 1, "a later one is held again");
}

#[test]
fn the_slot_that_was_used_longest_ago_is_given_away() {
    let loaded = load(&Shape::tiny(), 2);
    let ann = PersonId::new();
    // With nothing in common.
    let cached = |key: &[u8]| {
        let prompt = format!("{}{LONG}", String::from_utf8_lossy(key));
        let asked = of(ann, key, request(loaded.tokens(&prompt), 3));
        loaded.answer(asked).1.cached_tokens
    };
    cached(b"1");
    cached(b"2");
    assert!(cached(b"1") > 0);
    assert_eq!(cached(b"3"), 0, "takes the slot of 2");
    assert!(cached(b"1") > 0);
    assert_eq!(cached(b"2"), 0);
}

/// What the starter is told first: a character's own.
const TOLD: &str = "<|im_start|>system\nYou are Aico, a warm and honest companion who lives on this \
    computer. Everything said here stays here, encrypted. You listen first, answer briefly and \
    kindly, remember what you are told, and say plainly when you do not know or cannot do \
    something.<|im_end|>\n";

/// Two prompts that differ only in what a person says, and how many tokens they have in common.
fn told(loaded: &support::Loaded, texts: [&str; 2]) -> ([Vec<Token>; 2], usize) {
    let prompts = texts.map(|text| loaded.tokens(&format!("{TOLD}{}", said(text))));
    let same = prompts[0].iter().zip(&prompts[1]);
    let same = same.take_while(|(a, b)| a == b).count();
    assert!(same > 40);
    (prompts, same)
}

#[test]
fn another_conversation_of_the_same_person_reads_what_is_new_in_it() {
    let loaded = load_starter(3);
    let (ann, ben) = (PersonId::new(), PersonId::new());
    let words = ["My name is Mira and I live in Lisbon.", "Hello there!"];
    let ([first, second], same) = told(&loaded, words);
    let (cold, _) = loaded.answer(request(second.clone(), 60));
    loaded.answer(of(ann, b"1", request(first.clone(), 60)));
    let (text, end) = loaded.answer(of(ann, b"2", request(second.clone(), 60)));
    assert_eq!((&text, end.cached_tokens as usize), (&cold, same));
    assert_eq!(end.prompt_tokens as usize, second.len());
    // The one that it was copied of is there as before.
    let (_, end) = loaded.answer(of(ann, b"1", request(first, 60)));
    assert_eq!(end.cached_tokens, end.prompt_tokens - 1);
    let (text, end) = loaded.answer(of(ben, b"2", request(second.clone(), 60)));
    assert_eq!((&text, end.cached_tokens), (&cold, 0), "another person");

    // It is saved as any other.
    let save = loaded
        .batcher
        .save(ann, b"2".to_vec(), MOST, Larger::Refuse);
    let saved = wait(save).unwrap();
    assert!(saved.tokens.starts_with(&second));
    let after = load_starter(3);
    wait(after.batcher.restore(ann, b"2".to_vec(), saved)).unwrap();
    let (text, end) = after.answer(of(ann, b"2", request(second, 60)));
    assert_eq!((text, end.cached_tokens), (cold, end.prompt_tokens - 1));
}

#[test]
fn who_may_not_know_how_others_of_the_same_person_begin_is_not_told_by_what_is_read() {
    let loaded = load(&Shape::tiny(), 4);
    let ann = PersonId::new();
    let cached = |key: &[u8], shares| {
        let asked = Request {
            shares,
            ..of(ann, key, request(loaded.tokens(LONG), 3))
        };
        loaded.answer(asked).1.cached_tokens
    };
    assert_eq!(cached(b"hers", true), 0);
    assert_eq!(cached(b"a program's", false), 0);
    assert!(cached(b"a program's", false) > 0, "its own");
    assert_eq!(cached(b"another one's", false), 0);
    assert!(cached(b"hers too", true) > 0);
}

#[test]
fn of_a_characters_prompt_everybody_has_what_was_read_and_of_nobodys_words() {
    let loaded = load_starter(4);
    let words = ["My name is Mira and I live in Lisbon.", "Hello there!"];
    let ([prompt, _], own) = told(&loaded, words);
    let (cold, _) = loaded.answer(request(prompt.clone(), 60));
    let answer = |person, own| {
        let asked = Request {
            own,
            ..request(prompt.clone(), 60)
        };
        let (text, end) = loaded.answer(of(person, b"c", asked));
        assert_eq!(text, cold);
        end.cached_tokens as usize
    };
    let ann = PersonId::new();
    assert_eq!(answer(ann, own), 0);
    // The words are the same: they are read for each of them all the same.
    assert_eq!(answer(PersonId::new(), own), own);
    // Nobody finds out what others were told without being told it themselves.
    assert_eq!(answer(PersonId::new(), 0), 0);
    assert_eq!(answer(PersonId::new(), own - 1), 0);
    for who in [Some(ann), None] {
        loaded.batcher.forget(who);
        assert_eq!(answer(PersonId::new(), own), 0);
        assert_eq!(answer(PersonId::new(), own), own);
    }
}

#[test]
fn a_conversation_that_gives_its_slot_up_leaves_what_both_begin_with() {
    let loaded = load(&Shape::tiny(), 1);
    let (ann, ben) = (PersonId::new(), PersonId::new());
    let cached = |person, key: &[u8], end: &str| {
        let prompt = loaded.tokens(&format!("{LONG}{end}"));
        let answer = loaded.answer(of(person, key, request(prompt, 3)));
        answer.1.cached_tokens as usize
    };
    assert_eq!(cached(ann, b"1", "a"), 0);
    assert_eq!(cached(ann, b"2", "b"), loaded.tokens(LONG).len());
    assert_eq!(cached(ben, b"3", "c"), 0);
}

#[test]
fn of_a_conversation_that_is_much_longer_nothing_is_copied() {
    let loaded = load(&Shape::tiny(), 3);
    let ann = PersonId::new();
    let same = loaded.tokens(LONG).len();
    let cached = |key: &[u8], end: &str| {
        let prompt = loaded.tokens(&format!("{LONG}{end}"));
        let answer = loaded.answer(of(ann, key, request(prompt, 3)));
        answer.1.cached_tokens as usize
    };
    assert_eq!(cached(b"1", &"x".repeat(3 * same + 1)), 0);
    assert_eq!(cached(b"2", "y"), 0);
    assert_eq!(cached(b"3", "z"), same, "of the shorter one");
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
    let ask = |priority| {
        loaded.batcher.submit(Request {
            priority,
            ..request(loaded.tokens("Hi"), 2)
        })
    };
    let mut waiting: Vec<_> = (0..QUEUE_LIMIT).map(|_| ask(Priority::Normal)).collect();
    let mut refused = ask(Priority::Normal);
    assert!(matches!(refused.next_blocking(), Some(Event::Busy)));
    // The urgent is not: whoever came last gives way.
    let urgent = ask(Priority::Interactive);
    let mut given_way = waiting.pop().unwrap();
    let told = loop {
        match given_way.next_blocking() {
            Some(Event::Queued(_)) => {}
            told => break told,
        }
    };
    assert!(matches!(told, Some(Event::Busy)));
    drop(endless);
    assert_eq!(finish(urgent).1.answer_tokens, 2);
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
fn stopped_loop_ends_all_answers() {
    let loaded = load(&Shape::tiny(), 1);
    let mut endless = loaded.batcher.submit(request(loaded.tokens(LONG), 100_000));
    begun(&mut endless);
    let mut waiting = loaded.batcher.submit(request(loaded.tokens("Hi"), 2));
    loaded.batcher.stop();
    for generation in [&mut endless, &mut waiting] {
        let mut last = None;
        while let Some(event) = generation.next_blocking() {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::Stopped)));
    }
    let mut late = loaded.batcher.submit(request(loaded.tokens("Hi"), 2));
    assert!(matches!(late.next_blocking(), Some(Event::Stopped)));
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

fn wait<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(what)
}

const MOST: usize = 64 << 20;

fn copy(saved: &Saved) -> Saved {
    Saved {
        tokens: saved.tokens.clone(),
        state: saved.state.clone(),
        revision: saved.revision,
    }
}

#[test]
fn a_prompt_that_was_saved_goes_on_in_another_process_as_if_it_had_been_read() {
    let ann = PersonId::new();
    let before = load_starter(2);
    let first = said("My name is Mira and I live in Lisbon.");
    let (answer, _) = before.answer(of(ann, b"c", request(before.tokens(&first), 60)));
    let saved = wait(
        before
            .batcher
            .save(ann, b"c".to_vec(), MOST, Larger::Refuse),
    )
    .unwrap();
    assert!(saved.tokens.starts_with(&before.tokens(&first)));
    let second = format!("{first}{answer}<|im_end|>\n{}", said("What is my name?"));
    let second = before.tokens(&second);
    let (cold, _) = before.answer(request(second.clone(), 60));
    drop(before);

    let after = load_starter(2);
    let held = saved.tokens.len();
    wait(after.batcher.restore(ann, b"c".to_vec(), saved)).unwrap();
    let listed = wait(after.batcher.held());
    assert_eq!((listed.len(), listed[0].tokens), (1, held));
    let (warm, end) = after.answer(of(ann, b"c", request(second, 60)));
    assert_eq!(warm, cold);
    assert!(end.cached_tokens as usize >= held - 1, "{end:?}");
}

#[test]
fn what_was_saved_of_one_person_serves_nobody_else() {
    let (ann, ben) = (PersonId::new(), PersonId::new());
    let loaded = load(&Shape::tiny(), 4);
    let tokens = loaded.tokens(LONG);
    loaded.answer(of(ann, b"c", request(tokens.clone(), 3)));
    let save = |person, key: &[u8]| {
        wait(
            loaded
                .batcher
                .save(person, key.to_vec(), MOST, Larger::Refuse),
        )
    };
    assert!(save(ben, b"c").is_none() && save(ann, b"d").is_none());
    assert!(save(ann, b"").is_none());
    let saved = save(ann, b"c").unwrap();
    let with = |most| {
        wait(
            loaded
                .batcher
                .save(ann, b"c".to_vec(), most, Larger::Refuse),
        )
    };
    assert!(with(1).is_none(), "nothing of it fits");
    assert!(
        with(MOST).unwrap().tokens == saved.tokens,
        "it is still there"
    );

    let other = load(&Shape::tiny(), 4);
    wait(other.batcher.restore(ann, b"c".to_vec(), copy(&saved))).unwrap();
    let cached = |person, key: &[u8]| {
        let answer = other.answer(of(person, key, request(tokens.clone(), 3)));
        answer.1.cached_tokens
    };
    assert_eq!(cached(ben, b"c"), 0, "another person with the same key");
    assert!(cached(ann, b"c") > 0);
    // It has more of it than what was saved.
    assert!(wait(other.batcher.restore(ann, b"c".to_vec(), copy(&saved))).is_none());
    other.batcher.discard(ann, b"c".to_vec());
    assert_eq!(cached(ann, b"c"), 0, "discarded");
    assert!(cached(ben, b"c") > 0);
}

#[test]
fn of_a_prompt_that_is_too_large_its_beginning_is_saved_and_serves() {
    let ann = PersonId::new();
    let loaded = load(&Shape::tiny(), 2);
    let ask = |loaded: &support::Loaded| of(ann, b"c", request(loaded.tokens(LONG), 8));
    loaded.answer(ask(&loaded));
    let save = |most| wait(loaded.batcher.save(ann, b"c".to_vec(), most, Larger::Cut)).unwrap();
    let whole = save(MOST);
    let most = whole.state.len() / 2;
    let cut = save(most);
    let each = whole.state.len() / whole.tokens.len();
    assert!(cut.state.len() <= most && cut.state.len() + 2 * each > most);
    assert!(whole.tokens.starts_with(&cut.tokens));
    // What is saved next is this, and so is what is held.
    assert!(save(MOST).tokens == cut.tokens);
    assert_eq!(wait(loaded.batcher.held())[0].tokens, cut.tokens.len());

    let other = load(&Shape::tiny(), 2);
    let tokens = cut.tokens.len();
    wait(other.batcher.restore(ann, b"c".to_vec(), cut)).unwrap();
    let (_, end) = other.answer(ask(&other));
    assert_eq!(end.cached_tokens as usize, tokens);
}

#[test]
fn a_state_that_is_none_is_refused_and_nothing_is_harmed() {
    let ann = PersonId::new();
    let loaded = load(&Shape::tiny(), 2);
    let tokens = loaded.tokens(LONG);
    let (text, _) = loaded.answer(of(ann, b"c", request(tokens.clone(), 8)));
    let saved = wait(
        loaded
            .batcher
            .save(ann, b"c".to_vec(), MOST, Larger::Refuse),
    )
    .unwrap();
    loaded.batcher.forget(None);
    let refused = |what: &str, saved: Saved| {
        let taken = wait(loaded.batcher.restore(ann, b"c".to_vec(), saved));
        assert!(taken.is_none(), "{what}");
        assert!(wait(loaded.batcher.held()).is_empty(), "{what}");
    };
    for cut in [0, 1, 8, 40, saved.state.len() / 2, saved.state.len() - 1] {
        let mut short = copy(&saved);
        short.state.truncate(cut);
        refused("cut", short);
    }
    let mut fewer = copy(&saved);
    fewer.tokens.pop();
    refused("other tokens than it stands for", fewer);
    let mut none = copy(&saved);
    none.tokens.clear();
    refused("no tokens", none);
    let wider = load(
        &Shape {
            width: 128,
            ..Shape::tiny()
        },
        2,
    );
    wider.answer(of(ann, b"c", request(wider.tokens(LONG), 8)));
    let foreign = wait(wider.batcher.save(ann, b"c".to_vec(), MOST, Larger::Refuse)).unwrap();
    refused("of another model", foreign);

    let again = loaded.answer(of(ann, b"c", request(tokens, 8)));
    assert_eq!((again.0, again.1.cached_tokens), (text, 0));
}
