//! Several models in memory, each in a real process of its own.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/gguf_writer.rs"]
mod gguf_writer;

use std::time::{Duration, Instant};

use aico_bus::{Meta, ReplyStream, RequestError};
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::generated::Item;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Empty};
use daemon::{Daemon, alive, daemon_with, kill, question, until};
use gguf_writer::Shape;

async fn added(daemon: &Daemon, name: &str, shape: &Shape) -> v1::Model {
    let path = daemon.folder.path().join(name);
    gguf_writer::write(&path, shape);
    daemon.add(&path).await.unwrap()
}

/// The process of a model, once it answers.
async fn process(daemon: &Daemon, model: &v1::Model) -> u32 {
    let uuid = uuid::Uuid::from_slice(&model.id).unwrap();
    let wanted = v1::PrepareModel {
        wanted: vec![uuid.to_string()],
        only: false,
    };
    let end = Instant::now() + daemon::SOON;
    loop {
        let prepared: v1::PreparedModel =
            daemon.ask(topics::MODELS_PREPARE, &wanted).await.unwrap();
        assert!(prepared.missing.is_empty(), "{:?}", prepared.missing);
        let state = prepared.state.unwrap();
        assert!(state.fault.is_none(), "{:?}", state.fault);
        if state.status() == Status::Ready {
            assert_eq!(state.model, model.id);
            return state.process_id;
        }
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn stream(daemon: &Daemon, model: &v1::Model, tokens: u32) -> ReplyStream<v1::Generated> {
    let question = v1::Generate {
        model: model.id.clone(),
        ..question("Hi", tokens)
    };
    let meta = Meta::default().person(PersonId::new());
    let asked = daemon
        .asker
        .open_stream(topics::MODELS_GENERATE, &question, meta);
    asked.await.unwrap()
}

/// Waits for so many pieces of text.
async fn pieces(stream: &mut ReplyStream<v1::Generated>, mut count: u32) {
    while count > 0 {
        match stream.next().await.unwrap().unwrap().item {
            Some(Item::Text(_)) => count -= 1,
            Some(Item::End(_)) => panic!("it has ended"),
            _ => {}
        }
    }
}

/// The end, or the failure.
async fn end(stream: &mut ReplyStream<v1::Generated>) -> Result<v1::GeneratedEnd, RequestError> {
    loop {
        match stream.next().await.unwrap()?.item {
            Some(Item::End(end)) => return Ok(end),
            _ => continue,
        }
    }
}

/// Two models that answer for long, both in memory.
async fn two(change: impl FnOnce(&mut aico_models::supervisor::ManagerConfig)) -> Two {
    let daemon = daemon_with("modelservice", change).await;
    let ant = added(&daemon, "ant.gguf", &Shape::endless()).await;
    let bee = added(&daemon, "bee.gguf", &Shape::endless()).await;
    daemon.choose(&ant).await.unwrap();
    let first = process(&daemon, &ant).await;
    let second = process(&daemon, &bee).await;
    assert_eq!(process(&daemon, &ant).await, first, "it was kept");
    assert_ne!(first, second);
    Two {
        daemon,
        ant,
        bee,
        first,
        second,
    }
}

struct Two {
    daemon: Daemon,
    ant: v1::Model,
    bee: v1::Model,
    first: u32,
    second: u32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_models_answer_at_once_and_nobody_waits_for_the_other() {
    let two = two(|config| config.context = 1024).await;
    let mut first = stream(&two.daemon, &two.ant, 300).await;
    pieces(&mut first, 2).await;
    let mut second = stream(&two.daemon, &two.bee, 300).await;
    pieces(&mut second, 2).await;
    // Neither has ended, neither was stopped.
    pieces(&mut first, 2).await;
    pieces(&mut second, 2).await;
    let listed = two.daemon.models().await;
    assert!(listed.iter().all(|model| model.loaded));

    // Each is asked by its own name, and a pause finds the one that it is for.
    drop((first, second));
    let count = v1::CountTokens {
        turns: question("Hi", 1).turns,
        model: two.bee.id.clone(),
    };
    let counted: v1::TokenCount = two.daemon.ask(topics::MODELS_COUNT, &count).await.unwrap();
    assert!(counted.tokens > 0);
    let id = uuid::Uuid::new_v4();
    let meta = Meta::default().person(PersonId::new()).id(id);
    let asked = v1::Generate {
        model: two.bee.id.clone(),
        ..question("Hi", 600)
    };
    let mut paused: ReplyStream<v1::Generated> = two
        .daemon
        .asker
        .open_stream(topics::MODELS_GENERATE, &asked, meta)
        .await
        .unwrap();
    pieces(&mut paused, 2).await;
    let request = id.as_bytes().to_vec();
    let pause = v1::PauseGeneration {
        request: request.clone(),
    };
    let _: Empty = two.daemon.ask(topics::MODELS_PAUSE, &pause).await.unwrap();
    // What was on its way comes; then nothing does.
    let quiet = Duration::from_millis(1500);
    while let Ok(item) = tokio::time::timeout(quiet, paused.next()).await {
        assert!(!matches!(item.unwrap().unwrap().item, Some(Item::End(_))));
    }
    let resume = v1::ResumeGeneration { request };
    let _: Empty = two
        .daemon
        .ask(topics::MODELS_RESUME, &resume)
        .await
        .unwrap();
    pieces(&mut paused, 1).await;
    two.daemon.manager.stop().await;
    assert!(!alive(two.first) && !alive(two.second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_leaves_the_other_answering() {
    let two = two(|config| config.context = 1024).await;
    let mut first = stream(&two.daemon, &two.ant, 600).await;
    let mut second = stream(&two.daemon, &two.bee, 200).await;
    pieces(&mut first, 1).await;
    pieces(&mut second, 1).await;
    kill(two.first);
    let lost = end(&mut first).await.unwrap_err();
    assert!(matches!(lost, RequestError::ServerGone), "{lost}");
    let whole = end(&mut second).await.unwrap();
    assert_eq!(whole.answer_tokens, 200);
    assert_ne!(process(&two.daemon, &two.ant).await, two.first);
    assert_eq!(process(&two.daemon, &two.bee).await, two.second);
    let mut again = stream(&two.daemon, &two.ant, 5).await;
    assert_eq!(end(&mut again).await.unwrap().answer_tokens, 5);
    two.daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hangs_is_replaced_and_the_other_answers_meanwhile() {
    let two = two(|config| {
        config.context = 1024;
        config.pulse = Duration::from_millis(100);
        config.hang_limit = Duration::from_secs(5);
    })
    .await;
    let mut first = stream(&two.daemon, &two.ant, 900).await;
    pieces(&mut first, 1).await;
    // SAFETY: a process that this test started.
    unsafe { libc::kill(i32::try_from(two.first).unwrap(), libc::SIGSTOP) };
    let mut second = stream(&two.daemon, &two.bee, 50).await;
    assert_eq!(end(&mut second).await.unwrap().answer_tokens, 50);
    let lost = end(&mut first).await.unwrap_err();
    assert!(matches!(lost, RequestError::ServerGone), "{lost}");
    until("it was killed", || !alive(two.first)).await;
    let after = process(&two.daemon, &two.ant).await;
    assert_ne!(after, two.first);
    assert_eq!(process(&two.daemon, &two.bee).await, two.second);
    two.daemon.manager.stop().await;
}

/// Cancels, and hears how far it came.
async fn cancelled(stream: &mut ReplyStream<v1::Generated>) -> v1::GeneratedEnd {
    stream.cancel();
    let end = end(stream).await.unwrap();
    assert_eq!(end.reason(), v1::generated_end::Reason::Cancelled);
    end
}

/// Half of these or more are at most that. A process that the machine keeps from running for a
/// moment may begin more steps before it reads the cancel; `tests/steps_llama.rs` has no such case.
fn mostly(steps: &mut [u32], most: u32) -> bool {
    steps.sort_unstable();
    steps[steps.len() / 2] <= most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_heard_while_a_step_runs_and_frees_its_place_with_that_step() {
    let two = two(|config| {
        config.context = 4096;
        config.sequences = 1;
    })
    .await;
    // Another slot works all the time.
    let mut bee = stream(&two.daemon, &two.bee, 4000).await;
    pieces(&mut bee, 1).await;
    let (mut reading, mut writing) = (Vec::new(), Vec::new());
    for round in 0..7 {
        // In prefill, once its place is taken for it.
        let long = v1::Generate {
            model: two.ant.id.clone(),
            // Another beginning each time, so that nothing of it is in the cache.
            ..question(&format!("{round}{}", "x".repeat(3000)), 900)
        };
        let meta = Meta::default().person(PersonId::new());
        let asked = two
            .daemon
            .asker
            .open_stream(topics::MODELS_GENERATE, &long, meta);
        let mut first: ReplyStream<v1::Generated> = asked.await.unwrap();
        let topic = topics::slot(0, topics::slot_verb::LIST_PROMPTS);
        loop {
            let held: v1::PromptList = two.daemon.ask(&topic, &v1::ListPrompts {}).await.unwrap();
            if held.items.iter().any(|prompt| prompt.busy) {
                break;
            }
        }
        let end = cancelled(&mut first).await;
        assert!(end.prompt_tokens > 2900, "{end:?}");
        if end.answer_tokens == 0 {
            reading.push(end.steps_after_cancel);
        }
        // In decode.
        let mut next = stream(&two.daemon, &two.ant, 900).await;
        pieces(&mut next, 2).await;
        let end = cancelled(&mut next).await;
        assert!(end.answer_tokens >= 2, "{end:?}");
        writing.push(end.steps_after_cancel);
    }
    println!("steps after a cancel: {reading:?} in prefill, {writing:?} in decode");
    assert!(!reading.is_empty(), "no cancel came in time");
    assert!(mostly(&mut reading, 1), "{reading:?}");
    assert!(mostly(&mut writing, 1), "{writing:?}");
    pieces(&mut bee, 1).await;
    two.daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_model_takes_the_place_of_the_one_that_is_not_pinned() {
    let daemon = daemon_with("modelservice", |_| {}).await;
    let mut models = Vec::new();
    for name in ["ant.gguf", "bee.gguf", "cat.gguf"] {
        models.push(added(&daemon, name, &Shape::tiny()).await);
    }
    let [ant, bee, cat] = &models[..] else {
        panic!()
    };
    daemon.choose(ant).await.unwrap();
    let first = process(&daemon, ant).await;
    let second = process(&daemon, bee).await;
    let pin = v1::PinModel {
        id: ant.id.clone(),
        pinned: true,
    };
    let _: Empty = daemon.ask(topics::MODELS_PIN, &pin).await.unwrap();
    // Of the two it was used longest ago, and stays.
    let third = process(&daemon, cat).await;
    until("bee is gone", || !alive(second)).await;
    assert!(alive(first) && alive(third));
    let listed = daemon.models().await;
    let told: Vec<_> = listed.iter().map(|one| (one.loaded, one.pinned)).collect();
    assert_eq!(told, [(true, true), (false, false), (true, false)]);
    let unknown = v1::PinModel {
        id: PersonId::new().to_vec(),
        pinned: true,
    };
    let refused: Result<Empty, _> = daemon.ask(topics::MODELS_PIN, &unknown).await;
    assert_eq!(refused.unwrap_err().fault().unwrap().code, "not-found");
    daemon.manager.stop().await;
}

async fn activity(daemon: &Daemon, person: PersonId) -> v1::ModelsActivity {
    let meta = Meta::for_person(person).deadline_in(daemon::SOON);
    let asked = v1::ReadActivity::default();
    let told = daemon.asker.request(topics::MODELS_ACTIVITY, &asked, meta);
    told.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activity_tells_ones_own_questions_and_everybodys_sums() {
    use v1::asked_of_model::Outcome;

    let two = two(|config| config.context = 1024).await;
    let (ann, ben) = (PersonId::new(), PersonId::new());
    assert_eq!(
        two.daemon
            .generate_for(ann, "Hello", 20)
            .await
            .end
            .unwrap()
            .answer_tokens,
        20
    );
    assert!(
        two.daemon
            .generate_for(ben, "Hello", 10)
            .await
            .end
            .is_some()
    );
    assert!(
        two.daemon
            .generate_for(ann, &"x".repeat(9000), 10)
            .await
            .error
            .is_some()
    );
    let mut running = stream(&two.daemon, &two.bee, 900).await;
    pieces(&mut running, 3).await;

    let told = activity(&two.daemon, ann).await;
    let outcomes: Vec<_> = told
        .requests
        .iter()
        .map(|one| (one.outcome(), one.fault.as_str()))
        .collect();
    assert_eq!(
        outcomes,
        [(Outcome::Refused, "too-long"), (Outcome::Cut, "")]
    );
    let first = &told.requests[1];
    assert_eq!(
        (first.answer_tokens, first.asker.as_str()),
        (20, "companion")
    );
    assert!(first.first_token_us > 0 && first.total_us >= first.first_token_us);
    assert!(first.tokens_per_second > 0.0);
    let of = |model: &v1::Model| {
        let found = told.models.iter().find(|one| one.model == model.id);
        found.unwrap().clone()
    };
    let (ant, bee) = (of(&two.ant), of(&two.bee));
    let totals = ant.totals.unwrap();
    assert_eq!(
        (totals.completed, totals.refused, totals.answer_tokens),
        (2, 1, 30)
    );
    assert!(totals.tokens_per_second > 0.0 && totals.first_token_us > 0);
    assert_eq!((bee.running, bee.places, bee.waiting), (1, 4, 0));
    assert!(ant.active && !bee.active);
    if cfg!(target_os = "linux") {
        assert!(ant.memory_bytes > 1 << 20 && bee.memory_bytes > 1 << 20);
        assert!(told.memory_bytes > told.available_bytes);
    }
    assert_eq!(activity(&two.daemon, ben).await.requests.len(), 1);
    assert!(
        activity(&two.daemon, PersonId::new())
            .await
            .requests
            .is_empty()
    );

    // A sample is taken every five seconds, and those that are known are not sent again.
    let sampled = loop {
        let told = activity(&two.daemon, ann).await;
        let busy = |model: &v1::ModelSample| model.model == two.bee.id && model.running > 0.1;
        if told
            .samples
            .iter()
            .any(|sample| sample.models.iter().any(busy))
        {
            break told;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let last = sampled.samples.last().unwrap().at_unix_ms;
    let meta = Meta::for_person(ann).deadline_in(daemon::SOON);
    let asked = v1::ReadActivity {
        after_unix_ms: last,
    };
    let later: v1::ModelsActivity = two
        .daemon
        .asker
        .request(topics::MODELS_ACTIVITY, &asked, meta)
        .await
        .unwrap();
    assert!(later.samples.iter().all(|sample| sample.at_unix_ms > last));
    drop(running);
    two.daemon.manager.stop().await;
}
