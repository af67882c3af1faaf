//! The manager with real model processes on a real bus.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/gguf_writer.rs"]
mod gguf_writer;

use std::path::PathBuf;
use std::time::Duration;

use aico_bus::{Meta, RequestError};
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::generated::Item;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Empty};
use daemon::{Daemon, SOON, alive, daemon, daemon_with, kill, question, until};
use gguf_writer::Shape;

fn write(daemon: &Daemon, name: &str, shape: &Shape) -> PathBuf {
    let path = daemon.folder.path().join(name);
    gguf_writer::write(&path, shape);
    path
}

/// A daemon whose model answers.
async fn ready() -> (Daemon, v1::Model) {
    let daemon = daemon("modelservice").await;
    let path = write(&daemon, "a.gguf", &Shape::tiny());
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    daemon.state(Status::Ready).await;
    (daemon, model)
}

fn code(error: &RequestError) -> &str {
    error.fault().map_or("", |fault| fault.code.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn model_is_added_chosen_and_answers() {
    let daemon = daemon("modelservice").await;
    let none = daemon.state(Status::Failed).await;
    assert_eq!(none.fault.unwrap().code, "no-model");

    let path = write(&daemon, "a.gguf", &Shape::tiny());
    let model = daemon.add(&path).await.unwrap();
    assert_eq!(
        (model.name.as_str(), model.quantization.as_str()),
        ("Random", "F32")
    );
    assert!(model.present && !model.active && !model.starter);
    assert_eq!(
        daemon.add(&path).await.unwrap().id,
        model.id,
        "the same file is the same model"
    );

    daemon.choose(&model).await.unwrap();
    let state = daemon.state(Status::Ready).await;
    assert_eq!(
        (state.model.as_slice(), state.name.as_str()),
        (model.id.as_slice(), "Random")
    );
    assert!(alive(state.process_id));
    let asked: v1::ModelState = daemon
        .ask(topics::MODELS_GET_STATE, &Empty {})
        .await
        .unwrap();
    assert_eq!(asked.process_id, state.process_id);

    let ann = PersonId::new();
    let first = daemon.generate_for(ann, "Hello there.", 20).await;
    let end = first.end.unwrap();
    assert_eq!((end.answer_tokens, end.cached_tokens), (20, 0));
    assert!(!first.text.is_empty());
    let again = daemon.generate_for(ann, "Hello there.", 20).await;
    assert_eq!(again.text, first.text);
    assert!(again.end.unwrap().cached_tokens > 0);

    let turns = question("Hello there.", 0).turns;
    let count = v1::CountTokens {
        turns,
        ..v1::CountTokens::default()
    };
    let counted: v1::TokenCount = daemon.ask(topics::MODELS_COUNT, &count).await.unwrap();
    assert_eq!(
        (counted.tokens, counted.context_length),
        (end.prompt_tokens, 512)
    );
    daemon.manager.stop().await;
    assert!(!alive(state.process_id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_process_ends_the_stream_with_an_error_and_is_restarted() {
    let (daemon, _) = ready().await;
    let before = daemon.state(Status::Ready).await;
    let meta = Meta::default().person(PersonId::new());
    let mut stream = daemon
        .asker
        .open_stream::<_, v1::Generated>(topics::MODELS_GENERATE, &question("Hi", 400), meta)
        .await
        .unwrap();
    let begun = |item: &v1::Generated| matches!(item.item, Some(Item::Text(_)));
    while !begun(&stream.next().await.unwrap().unwrap()) {}
    kill(before.process_id);
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, RequestError::ServerGone), "{error}");

    let after = daemon
        .state_that(|state| {
            state.status() == Status::Ready && state.process_id != before.process_id
        })
        .await;
    assert_eq!(after.restarts, 1);
    let answer = daemon.generate("Hi", 5).await;
    assert_eq!(answer.end.unwrap().answer_tokens, 5);
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn model_nobody_asks_is_unloaded_and_the_next_question_loads_it() {
    let limit = Duration::from_millis(300);
    let daemon = daemon_with("modelservice", |config| config.idle_limit = Some(limit)).await;
    let path = write(&daemon, "a.gguf", &Shape::tiny());
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    let process = daemon.state(Status::Ready).await.process_id;
    daemon.state(Status::Stopped).await;
    until("the process is gone", || !alive(process)).await;

    let look = Meta::default().purpose(topics::LOOK).deadline_in(SOON);
    let looked: v1::ModelState = daemon
        .asker
        .request(topics::MODELS_GET_STATE, &Empty {}, look)
        .await
        .unwrap();
    assert_eq!(looked.status(), Status::Stopped, "a look started it");

    // As the companion does it: asks for the state, waits, asks again when it was too late.
    let mut stream = loop {
        let state: v1::ModelState = daemon
            .ask(topics::MODELS_GET_STATE, &Empty {})
            .await
            .unwrap();
        if state.status() != Status::Ready {
            daemon.state(Status::Ready).await;
            continue;
        }
        let meta = Meta::default().person(PersonId::new());
        let stream = daemon
            .asker
            .open_stream::<_, v1::Generated>(topics::MODELS_GENERATE, &question("Hi", 400), meta)
            .await;
        if let Ok(mut stream) = stream
            && stream.next().await.is_some_and(|item| item.is_ok())
        {
            break stream;
        }
    };
    // An answer that takes longer than the limit, for nobody reads it, is not cut off.
    tokio::time::sleep(3 * limit).await;
    let mut end = None;
    while let Some(item) = stream.next().await {
        if let Some(Item::End(said)) = item.unwrap().item {
            end = Some(said);
        }
    }
    assert_eq!(end.unwrap().answer_tokens, 400);
    drop(stream);
    daemon.state(Status::Stopped).await;
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_manager_leaves_no_process() {
    let (daemon, _) = ready().await;
    let process = daemon.state(Status::Ready).await.process_id;
    drop(daemon);
    until("the process is gone", || !alive(process)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn model_that_crashes_while_loading_is_given_up_until_chosen_again() {
    let daemon = daemon("crash").await;
    let path = write(&daemon, "a.gguf", &Shape::tiny());
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    let gone = |state: &v1::ModelState| {
        state
            .fault
            .as_ref()
            .is_some_and(|fault| fault.code == "model-failed")
    };
    let state = daemon.state_that(gone).await;
    assert_eq!(
        (state.status(), state.restarts, state.process_id),
        (Status::Failed, 2, 0)
    );
    daemon.choose(&model).await.unwrap();
    daemon.state(Status::Starting).await;
    daemon.state_that(gone).await;
    daemon.manager.stop().await;
}

/// Kills the process of the model in the middle of an answer, and tells which it was.
async fn killed_while_it_answers(daemon: &Daemon, before: u32) -> u32 {
    let ready = daemon
        .state_that(|state| state.status() == Status::Ready && state.process_id != before)
        .await;
    let meta = Meta::default().person(PersonId::new());
    let mut stream = daemon
        .asker
        .open_stream::<_, v1::Generated>(topics::MODELS_GENERATE, &question("Hi", 3000), meta)
        .await
        .unwrap();
    let begun = |item: &v1::Generated| matches!(item.item, Some(Item::Text(_)));
    while !begun(&stream.next().await.unwrap().unwrap()) {}
    kill(ready.process_id);
    while stream.next().await.is_some_and(|item| item.is_ok()) {}
    ready.process_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_whenever_it_is_asked_is_left_alone_until_chosen_again() {
    let daemon = daemon_with("modelservice", |config| config.context = 4096).await;
    let path = write(&daemon, "a.gguf", &Shape::endless());
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    let mut last = 0;
    for _ in 0..2 {
        last = killed_while_it_answers(&daemon, last).await;
    }
    // One answer that comes to its end, and it counts anew.
    daemon
        .state_that(|state| state.status() == Status::Ready && state.process_id != last)
        .await;
    let whole = daemon.generate("Hi", 5).await;
    assert_eq!(whole.end.unwrap().answer_tokens, 5);
    for _ in 0..3 {
        let state = daemon.manager.state().borrow().clone();
        assert!(state.fault.is_none(), "{:?}", state.fault);
        last = killed_while_it_answers(&daemon, last).await;
    }
    let state = daemon.state_that(|state| state.fault.is_some()).await;
    assert_eq!((state.status(), state.process_id), (Status::Failed, 0));
    let fault = state.fault.unwrap();
    assert!(fault.detail.contains("3 times"), "{}", fault.detail);
    assert!(fault.detail.contains("SIGKILL"), "{}", fault.detail);
    assert!(
        fault.what_to_do.contains("aico model use"),
        "{}",
        fault.what_to_do
    );
    // The next question does not start it.
    let asked: v1::ModelState = daemon
        .ask(topics::MODELS_GET_STATE, &Empty {})
        .await
        .unwrap();
    assert_eq!(asked.fault.unwrap().title, fault.title);
    daemon.choose(&model).await.unwrap();
    daemon.state(Status::Ready).await;
    let whole = daemon.generate("Hi", 5).await;
    assert_eq!(whole.end.unwrap().answer_tokens, 5);
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_that_never_gets_ready_is_ended() {
    let limit = |config: &mut aico_models::supervisor::ManagerConfig| {
        config.load_limit = Duration::from_millis(300);
    };
    let daemon = daemon_with("hang", limit).await;
    let path = write(&daemon, "a.gguf", &Shape::tiny());
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    let process = daemon.state(Status::Starting).await.process_id;
    let state = daemon.state_that(|state| state.fault.is_some()).await;
    assert_eq!(state.status(), Status::Failed);
    until("the process is gone", || !alive(process)).await;
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_models_are_refused_with_their_codes() {
    let daemon = daemon("modelservice").await;
    let at = |name: &str| daemon.folder.path().join(name);
    std::fs::write(at("text.gguf"), "Dear diary").unwrap();
    let whole = write(&daemon, "whole.gguf", &Shape::tiny());
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(at("cut.gguf"), &bytes[..bytes.len() - 5000]).unwrap();
    for (name, expected) in [
        ("text.gguf", "not-a-model"),
        ("cut.gguf", "model-damaged"),
        ("absent.gguf", "model-missing"),
        ("scratch", "not-a-model"),
    ] {
        let error = daemon.add(&at(name)).await.unwrap_err();
        assert_eq!(code(&error), expected, "{name}");
        assert!(!error.fault().unwrap().what_to_do.is_empty());
    }
    let relative: Result<v1::Model, _> = daemon
        .ask(
            topics::MODELS_ADD,
            &v1::AddModel {
                path: "whole.gguf".into(),
                ..v1::AddModel::default()
            },
        )
        .await;
    assert_eq!(code(&relative.unwrap_err()), "invalid");
    let link = at("link.gguf");
    std::os::unix::fs::symlink(&whole, &link).unwrap();
    let added = daemon.add(&link).await.unwrap();
    assert_eq!(PathBuf::from(added.file), whole.canonicalize().unwrap());
    assert_eq!(daemon.models().await.len(), 1);
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_and_changed_files_are_told_apart() {
    let (daemon, model) = ready().await;
    let path = PathBuf::from(&model.file);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 64]).unwrap();
    assert_eq!(
        code(&daemon.choose(&model).await.unwrap_err()),
        "model-damaged"
    );
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        code(&daemon.choose(&model).await.unwrap_err()),
        "model-missing"
    );
    assert!(!daemon.models().await[0].present);
    let unknown = v1::Model {
        id: PersonId::new().to_vec(),
        ..model
    };
    assert_eq!(
        code(&daemon.choose(&unknown).await.unwrap_err()),
        "not-found"
    );
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_byte_in_a_file_of_the_same_size_is_noticed() {
    let daemon = daemon("modelservice").await;
    let path = write(&daemon, "a.gguf", &Shape::tiny());
    let model = daemon.add(&path).await.unwrap();
    let registry = std::sync::Arc::clone(&daemon.registry);
    let hashed = || {
        use aico_models::supervisor::ModelRegistryStore;
        let list = futures_util::FutureExt::now_or_never(registry.list());
        list.unwrap().unwrap()[0].sha256.is_some()
    };
    until("the file is hashed", hashed).await;
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    daemon.choose(&model).await.unwrap();
    let state = daemon.state_that(|state| state.fault.is_some()).await;
    assert_eq!(state.fault.unwrap().code, "model-damaged");
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_model_is_forgotten_and_its_file_stays() {
    let (daemon, model) = ready().await;
    let _gone: Empty = daemon
        .ask(
            topics::MODELS_REMOVE,
            &v1::RemoveModel {
                id: model.id.clone(),
            },
        )
        .await
        .unwrap();
    assert!(daemon.models().await.is_empty());
    assert!(PathBuf::from(&model.file).exists());
    assert_eq!(
        daemon.state(Status::Failed).await.fault.unwrap().code,
        "no-model"
    );
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_the_library_refuses_is_told_why() {
    let daemon = daemon("modelservice").await;
    let mut head = gguf_writer::Head::default();
    head.text("general.architecture", "perceptron-9000");
    let path = daemon.folder.path().join("odd.gguf");
    std::fs::write(&path, head.bytes()).unwrap();
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    let fault = daemon
        .state_that(|state| state.fault.is_some())
        .await
        .fault
        .unwrap();
    assert_eq!(fault.code, "model-refused");
    assert_eq!(
        fault.detail,
        "Because its architecture is not known to this version."
    );
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_template_and_too_long_a_message_are_told() {
    let (daemon, _) = ready().await;
    let answer = daemon.generate(&"x".repeat(3000), 20).await;
    let error = answer.error.unwrap();
    assert_eq!(code(&error), "too-long");
    assert!(error.fault().unwrap().detail.contains("tokens"));

    let shape = Shape {
        template: Some("{% for %}".into()),
        ..Shape::tiny()
    };
    let path = write(&daemon, "broken.gguf", &shape);
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    let fault = daemon
        .state_that(|state| state.fault.is_some())
        .await
        .fault
        .unwrap();
    assert_eq!(fault.code, "model-template");
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_and_paused_over_the_bus() {
    let (daemon, _) = ready().await;
    // More streams than sequences, all dropped: the next one is answered.
    for _ in 0..6 {
        let meta = Meta::default().person(PersonId::new());
        let mut stream = daemon
            .asker
            .open_stream::<_, v1::Generated>(topics::MODELS_GENERATE, &question("Hi", 400), meta)
            .await
            .unwrap();
        stream.next().await.unwrap().unwrap();
    }
    assert_eq!(daemon.generate("Hi", 5).await.end.unwrap().answer_tokens, 5);
    let pause = v1::PauseGeneration {
        request: vec![1, 2, 3],
    };
    let refused: Result<Empty, _> = daemon.ask(topics::MODELS_PAUSE, &pause).await;
    assert_eq!(code(&refused.unwrap_err()), "invalid");
    let pause = v1::PauseGeneration {
        request: PersonId::new().to_vec(),
    };
    let _unknown: Empty = daemon.ask(topics::MODELS_PAUSE, &pause).await.unwrap();
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_published_on_every_change() {
    let daemon = daemon("modelservice").await;
    let mut states = daemon
        .asker
        .subscribe(topics::MODELS_STATE, aico_bus::Queue::default())
        .unwrap();
    let path = write(&daemon, "a.gguf", &Shape::tiny());
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&Status::Ready) {
        match tokio::time::timeout(daemon::SOON, states.recv())
            .await
            .unwrap()
            .unwrap()
        {
            aico_bus::Delivery::Message(envelope) => {
                seen.push(
                    aico_bus::decode::<v1::ModelState>(&envelope)
                        .unwrap()
                        .status(),
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.contains(&Status::Starting), "{seen:?}");
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_tells_how_far_it_is_until_the_model_answers() {
    let daemon = daemon("modelservice").await;
    let mut states = daemon
        .asker
        .subscribe(topics::MODELS_STATE, aico_bus::Queue::default())
        .unwrap();
    let path = write(&daemon, "a.gguf", &Shape::endless());
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    let mut far = Vec::new();
    loop {
        let told = tokio::time::timeout(SOON, states.recv()).await;
        let aico_bus::Delivery::Message(envelope) = told.unwrap().unwrap() else {
            panic!()
        };
        let state = aico_bus::decode::<v1::ModelState>(&envelope).unwrap();
        match state.status() {
            Status::Ready => {
                assert_eq!(state.loading_percent, None);
                break;
            }
            Status::Starting => far.extend(state.loading_percent),
            _ => assert_eq!(state.loading_percent, None),
        }
    }
    assert_eq!((far.first(), far.last()), (Some(&0), Some(&100)), "{far:?}");
    assert!(far.is_sorted(), "{far:?}");
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn choosing_another_model_ends_a_load_that_nobody_else_waits_for() {
    // Its processes load for ever, and don't obey.
    let daemon = daemon_with("hang", |config| config.loaded = 3).await;
    let mut models = Vec::new();
    for name in ["a.gguf", "b.gguf", "c.gguf"] {
        let path = write(&daemon, name, &Shape::tiny());
        models.push(daemon.add(&path).await.unwrap());
    }
    let loading = |of: &v1::Model| {
        let id = of.id.clone();
        move |state: &v1::ModelState| state.model == id && state.process_id != 0
    };
    daemon.choose(&models[0]).await.unwrap();
    let first = daemon.state_that(loading(&models[0])).await.process_id;
    daemon.choose(&models[1]).await.unwrap();
    let second = daemon.state_that(loading(&models[1])).await.process_id;
    until("its load was ended", || !alive(first)).await;
    assert!(alive(second));

    // A question that names it waits for it: it is loaded, whatever is chosen.
    let uuid = uuid::Uuid::from_slice(&models[1].id).unwrap();
    let wanted = v1::PrepareModel {
        wanted: vec![uuid.to_string()],
        only: false,
    };
    let _: v1::PreparedModel = daemon.ask(topics::MODELS_PREPARE, &wanted).await.unwrap();
    daemon.choose(&models[2]).await.unwrap();
    let third = daemon.state_that(loading(&models[2])).await.process_id;
    // Removed, it is not waited for any longer either.
    let removed = v1::RemoveModel {
        id: models[2].id.clone(),
    };
    let _: Empty = daemon.ask(topics::MODELS_REMOVE, &removed).await.unwrap();
    until("its load was ended", || !alive(third)).await;
    assert!(alive(second));
    daemon.manager.stop().await;
    assert!(!alive(second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_takes_its_place_only_while_nobody_is_answered() {
    let daemon = daemon_with("modelservice", |config| config.loaded = 1).await;
    let first = daemon
        .add(&write(&daemon, "a.gguf", &Shape::tiny()))
        .await
        .unwrap();
    daemon.choose(&first).await.unwrap();
    daemon.state(Status::Ready).await;
    let owl = daemon
        .add(&write(&daemon, "owl-1b.gguf", &Shape::tiny()))
        .await
        .unwrap();
    let meta = Meta::default().person(PersonId::new());
    let mut stream = daemon
        .asker
        .open_stream::<_, v1::Generated>(topics::MODELS_GENERATE, &question("Hi", 400), meta)
        .await
        .unwrap();
    let begun = |item: &v1::Generated| matches!(item.item, Some(Item::Text(_)));
    while !begun(&stream.next().await.unwrap().unwrap()) {}
    let wanted = v1::PrepareModel {
        wanted: vec!["nowhere".into(), "Owl:1B".into()],
        only: false,
    };
    // The answer goes to its end, whatever is asked meanwhile.
    let answered = async {
        let mut end = None;
        while let Some(item) = stream.next().await {
            if let Some(Item::End(last)) = item.unwrap().item {
                end = Some(last);
            }
        }
        end
    };
    let asked = daemon.ask::<_, v1::PreparedModel>(topics::MODELS_PREPARE, &wanted);
    let (prepared, end) = tokio::join!(asked, answered);
    let prepared = prepared.unwrap();
    assert_eq!(prepared.missing, ["nowhere"]);
    assert!(end.is_some(), "it was cut off");
    assert_eq!(prepared.state.unwrap().model, owl.id);
    let is_owl = |state: &v1::ModelState| state.model == owl.id && state.status() == Status::Ready;
    daemon.state_that(is_owl).await;
    let chosen = daemon.models().await;
    assert!(
        chosen
            .iter()
            .any(|model| model.active && model.id == first.id)
    );

    // A question that is for the other one is not answered by it.
    let mut late = question("Hi", 5);
    late.model = first.id.clone();
    let meta = Meta::default().person(PersonId::new());
    let mut stream = daemon
        .asker
        .open_stream::<_, v1::Generated>(topics::MODELS_GENERATE, &late, meta)
        .await
        .unwrap();
    assert_eq!(
        code(&stream.next().await.unwrap().unwrap_err()),
        "model-changed"
    );

    // Whoever names none gets the one for everybody again.
    let back: v1::ModelState = daemon
        .ask(topics::MODELS_GET_STATE, &Empty {})
        .await
        .unwrap();
    assert_eq!(back.model, first.id);
    daemon
        .state_that(|state| state.model == first.id && state.status() == Status::Ready)
        .await;

    // One whose file is gone is passed over, and so is one that could not be run.
    std::fs::remove_file(&owl.file).unwrap();
    let broken = write(&daemon, "crow.gguf", &Shape::tiny());
    let crow = daemon.add(&broken).await.unwrap();
    std::fs::write(&broken, vec![0; usize::try_from(crow.size_bytes).unwrap()]).unwrap();
    let wanted = v1::PrepareModel {
        wanted: vec!["owl".into(), "crow".into()],
        only: false,
    };
    let tried: v1::PreparedModel = daemon.ask(topics::MODELS_PREPARE, &wanted).await.unwrap();
    assert_eq!(tried.state.unwrap().model, crow.id);
    daemon
        .state_that(|state| state.model == crow.id && state.status() == Status::Failed)
        .await;
    let then: v1::PreparedModel = daemon.ask(topics::MODELS_PREPARE, &wanted).await.unwrap();
    assert_eq!(then.missing, ["owl", "crow"]);
    assert_eq!(then.state.unwrap().model, first.id);
}
