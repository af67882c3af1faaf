//! What can be asked of a model beyond text, through the real process: formats, tools, thinking,
//! vectors.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
mod support;

use std::path::Path;
use std::time::Duration;

use aico_bus::{Client, Identity, Meta, RequestError};
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Priority, generated::Item};
use daemon::{Daemon, SOON, daemon, daemon_with, question};
use support::bert_writer::{Bert, WIDTH};
use support::gguf_writer::{self, Shape};

async fn with(shape: &Shape) -> Daemon {
    let daemon = daemon("modelservice").await;
    let path = daemon.folder.path().join("model.gguf");
    gguf_writer::write(&path, shape);
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    daemon.state(Status::Ready).await;
    daemon
}

async fn ask(daemon: &Daemon, question: &v1::Generate) -> Result<Vec<Item>, v1::Fault> {
    let meta = Meta::default().priority(Priority::Interactive);
    let opened = daemon
        .asker
        .open_stream::<_, v1::Generated>(topics::MODELS_GENERATE, question, meta)
        .await;
    let fault = |error| match error {
        RequestError::Fault(fault) => fault,
        other => panic!("{other}"),
    };
    let mut stream = opened.map_err(fault)?;
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        items.extend(item.map_err(fault)?.item);
    }
    Ok(items)
}

fn text(items: &[Item]) -> String {
    let texts = items.iter().filter_map(|item| match item {
        Item::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// Tokens that another person's question, with so many turns of a character's, finds read.
async fn cached(daemon: &Daemon, told: &str, character_turns: u32) -> u32 {
    let mut asked = v1::Generate {
        character_turns,
        ..question("Hello there.", 4)
    };
    let system = v1::Turn {
        role: v1::turn::Role::System.into(),
        text: told.to_owned(),
        ..v1::Turn::default()
    };
    asked.turns.insert(0, system);
    let meta = Meta::for_person(PersonId::new());
    found(&daemon.asker, &asked, meta).await.unwrap()
}

/// Tokens of a question that were read before.
async fn found(asker: &Client, asked: &v1::Generate, meta: Meta) -> Result<u32, RequestError> {
    let meta = meta.priority(Priority::Interactive);
    let mut stream = asker
        .open_stream::<_, v1::Generated>(topics::MODELS_GENERATE, asked, meta)
        .await?;
    let mut cached = None;
    while let Some(item) = stream.next().await {
        if let Some(Item::End(end)) = item?.item {
            cached = Some(end.cached_tokens);
        }
    }
    Ok(cached.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_persons_own_questions_tell_how_others_of_theirs_begin() {
    let daemon = with(&Shape::tiny()).await;
    let module = daemon.bus.join(Identity::new("module:weather"));
    let person = PersonId::new();
    let cached = async |asker: &Client, key: &[u8], purpose: &str| {
        let asked = v1::Generate {
            cache_key: key.to_vec(),
            ..question("It was a dark and stormy night, and the rain fell.", 4)
        };
        let meta = Meta::for_person(person).purpose(purpose);
        found(asker, &asked, meta).await.unwrap()
    };
    assert_eq!(cached(&daemon.asker, b"1", "conversation").await, 0);
    assert_eq!(cached(&daemon.asker, b"2", "program").await, 0);
    // Whatever it says that it is for.
    assert_eq!(cached(&module, b"3", "conversation").await, 0);
    assert!(cached(&daemon.asker, b"4", "conversation").await > 32);
    assert!(cached(&module, b"3", "conversation").await > 32, "its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_says_of_nothing_that_it_is_a_characters() {
    let daemon = with(&Shape::tiny()).await;
    let module = daemon.bus.join(Identity::new("module:weather"));
    let asked = v1::Generate {
        character_turns: 1,
        ..question("Hello there.", 4)
    };
    let refused = found(&module, &asked, Meta::for_person(PersonId::new())).await;
    let Err(RequestError::Fault(fault)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(fault.code, "invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_character_is_told_is_read_once_for_everybody() {
    let daemon = with(&Shape::tiny()).await;
    let told = "You are a patient companion who answers briefly and kindly.";
    assert_eq!(cached(&daemon, told, 1).await, 0);
    // One token a byte, and one for each mark: up to where the person's words begin.
    let own = "system\n\nuser\n".len() + told.len() + 3;
    assert_eq!(cached(&daemon, told, 1).await as usize, own);
    assert_eq!(cached(&daemon, told, 0).await, 0);
}

fn clock() -> v1::Tool {
    v1::Tool {
        name: "clock".into(),
        description: "Tells the time.".into(),
        parameters: r#"{"type":"object","properties":{"zone":{"type":"string"}}}"#.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_format_binds_the_answer_and_a_bad_one_is_a_typed_fault() {
    let daemon = with(&Shape::tiny()).await;
    let bound = |format: &str| v1::Generate {
        format: format.to_owned(),
        ..question("Tell me.", 200)
    };
    let schema = r#"{"type":"object","properties":{"a":{"enum":[1,2]},"b":{"type":"boolean"}},
        "required":["a","b"],"additionalProperties":false}"#;
    let items = ask(&daemon, &bound(schema)).await.unwrap();
    let value: serde_json::Value = serde_json::from_str(&text(&items)).unwrap();
    assert!(value["a"].is_u64() && value["b"].is_boolean(), "{value}");
    let large = format!("{{\"title\":\"{}\"}}", "x".repeat(300_000));
    for (format, code) in [
        ("yaml", "format-unusable"),
        (r#"{"not":{"type":"string"}}"#, "format-unusable"),
        (large.as_str(), "format-too-complex"),
    ] {
        let fault = ask(&daemon, &bound(format)).await.unwrap_err();
        assert_eq!(fault.code, code, "{fault}");
        assert!(!fault.what_to_do.is_empty());
    }
    let both = v1::Generate {
        tools: vec![clock()],
        ..bound("json")
    };
    assert_eq!(ask(&daemon, &both).await.unwrap_err().code, "invalid");
}

/// Its template begins the thought, and random weights never end one.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_thinks_for_ever_comes_to_the_form_it_is_bound_to() {
    let shape = Shape {
        template: Some(
            "{% for message in messages %}{{ message.content }}{% endfor %}<think>".to_owned(),
        ),
        ..Shape::tiny()
    };
    let daemon = with(&shape).await;
    let asked = v1::Generate {
        format: r#"{"type":"object","properties":{"a":{"enum":[1,2]}},"required":["a"],
            "additionalProperties":false}"#
            .to_owned(),
        ..question("Tell me.", 600)
    };
    for effort in ["", "low"] {
        let asked = v1::Generate {
            effort: effort.to_owned(),
            ..asked.clone()
        };
        let items = ask(&daemon, &asked).await.unwrap();
        let thought: String = items
            .iter()
            .filter_map(|item| match item {
                Item::Thinking(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert!(!thought.is_empty() && !thought.contains("</think>"));
        let value: serde_json::Value = serde_json::from_str(&text(&items)).unwrap();
        assert!(value["a"].is_u64(), "{value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_has_nothing_for_is_refused() {
    let daemon = with(&Shape::tiny()).await;
    let plain = || question("Hello.", 4);
    let tools = v1::Generate {
        tools: vec![clock()],
        ..plain()
    };
    let thinks = v1::Generate {
        think: Some(true),
        ..plain()
    };
    let mut sees = plain();
    sees.turns[0].images.push(vec![1]);
    for (question, what) in [(tools, "tools"), (thinks, "thinking"), (sees, "images")] {
        let fault = ask(&daemon, &question).await.unwrap_err();
        assert_eq!(fault.code, "model-not-capable");
        assert!(fault.title.contains(what), "{}", fault.title);
    }
    let quietly = v1::Generate {
        think: Some(false),
        ..plain()
    };
    assert!(!text(&ask(&daemon, &quietly).await.unwrap()).is_empty());
    assert_eq!(daemon.models().await[0].capabilities, ["chat"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_tool_comes_as_one_and_its_answer_goes_back() {
    let daemon = with(&Shape::caller()).await;
    let model = &daemon.models().await[0];
    assert_eq!(model.capabilities, ["chat", "tools", "thinking"]);
    let mut asked = v1::Generate {
        tools: vec![clock()],
        sampling: Some(v1::Sampling {
            stop: vec!["STOP".into()],
            ..v1::Sampling::default()
        }),
        ..question("What time is it?", 20)
    };
    let items = ask(&daemon, &asked).await.unwrap();
    let [Item::ToolCall(call), Item::End(end)] = &items[..] else {
        panic!("{items:?}");
    };
    assert_eq!(
        (call.name.as_str(), call.arguments.as_str()),
        ("clock", r#"{"zone":"UTC"}"#)
    );
    assert_eq!(
        (call.id.len(), end.reason()),
        (9, v1::generated_end::Reason::Stop)
    );

    let before = end.prompt_tokens;
    asked.turns.push(v1::Turn {
        role: v1::turn::Role::Assistant.into(),
        tool_calls: vec![call.clone()],
        ..v1::Turn::default()
    });
    asked.turns.push(v1::Turn {
        role: v1::turn::Role::Tool.into(),
        text: "12:00".into(),
        tool_call: call.id.clone(),
        tool_name: "clock".into(),
        ..v1::Turn::default()
    });
    let items = ask(&daemon, &asked).await.unwrap();
    let [Item::ToolCall(_), Item::End(end)] = &items[..] else {
        panic!("{items:?}");
    };
    assert!(end.prompt_tokens > before + 20);

    // Without tools it is text like any other.
    asked.tools.clear();
    let items = ask(&daemon, &asked).await.unwrap();
    assert!(text(&items).contains("</tool_call>"), "{items:?}");
    // A tool that was not offered is none.
    asked.tools = vec![v1::Tool {
        name: "weather".into(),
        ..v1::Tool::default()
    }];
    let items = ask(&daemon, &asked).await.unwrap();
    assert!(text(&items).contains("clock"), "{items:?}");
    asked.tools[0].parameters = "{".into();
    assert_eq!(ask(&daemon, &asked).await.unwrap_err().code, "invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_model_embeds_makes_vectors_and_answers_nobody() {
    let daemon = daemon("modelservice").await;
    let path = daemon.folder.path().join("bert.gguf");
    let bert = Bert::new(Some(1));
    bert.write(&path);
    let model = daemon.add(&path).await.unwrap();
    assert_eq!(model.capabilities, ["embeddings"]);
    let refused = daemon.choose(&model).await.unwrap_err();
    assert!(matches!(refused, RequestError::Fault(fault) if fault.code == "model-not-capable"));
    let ask = |texts: Vec<String>, model: &str, dimensions| {
        let question = v1::Embed {
            model: model.to_owned(),
            texts,
            dimensions,
        };
        let daemon = &daemon;
        async move {
            let done: Result<v1::Embedded, _> = daemon.ask(topics::MODELS_EMBED, &question).await;
            done.map_err(|error| match error {
                RequestError::Fault(fault) => fault.code,
                other => panic!("{other}"),
            })
        }
    };
    let texts = vec!["the cat sat".to_owned(), "abc ".repeat(40)];
    let done = ask(texts.clone(), &model.name, 0).await.unwrap().items;
    assert_eq!(done.len(), 2);
    for (text, item) in texts.iter().zip(&done) {
        let wanted = bert.reference(text);
        let same: f32 = item.vector.iter().zip(&wanted).map(|(a, b)| a * b).sum();
        assert!(item.vector.len() == WIDTH && same > 0.9999, "{same}");
    }
    assert_eq!((done[0].truncated, done[1].truncated), (false, true));
    assert_eq!(done[1].tokens, 64);
    // By nobody's name it is the first that embeds; a shorter vector is of length 1 again.
    let short = ask(texts[..1].to_vec(), "", 2).await.unwrap().items;
    let length: f32 = short[0].vector.iter().map(|value| value * value).sum();
    assert!(short[0].vector.len() == 2 && (length - 1.0).abs() < 1e-4);
    let many = ask(vec!["abc".to_owned(); 150], &model.name, 0)
        .await
        .unwrap();
    assert_eq!(many.items.len(), 150);
    assert!(ask(vec![], &model.name, 0).await.unwrap().items.is_empty());
    for (name, dimensions, code) in [("none", 0, "not-found"), (&model.name, 4096, "invalid")] {
        assert_eq!(
            ask(texts.clone(), name, dimensions).await.unwrap_err(),
            code
        );
    }
}

/// A model file that embeds, and a package.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_in_the_figures_like_what_is_written() {
    use v1::asked_of_model::Outcome;

    let half_an_hour = Some(Duration::from_secs(30 * 60));
    let daemon = daemon_with("modelservice", |config| config.idle_limit = half_an_hour).await;
    let path = daemon.folder.path().join("bert.gguf");
    Bert::new(Some(1)).write(&path);
    let model = daemon.add(&path).await.unwrap();
    let package =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transformers/tiny-bert");
    let package = v1::AddPackage {
        path: package.display().to_string(),
    };
    let added = daemon.ask(topics::MODELS_ADD_PACKAGE, &package);
    let _: v1::ModelPackage = added.await.unwrap();

    let person = PersonId::new();
    let meta = || Meta::for_person(person).deadline_in(SOON);
    let mut read = Vec::new();
    for name in [model.name.as_str(), "tiny-bert"] {
        let question = v1::Embed {
            model: name.to_owned(),
            texts: vec!["the cat sat".to_owned(); 100],
            dimensions: 0,
        };
        let asked = daemon
            .asker
            .request(topics::MODELS_EMBED, &question, meta());
        let done: v1::Embedded = asked.await.unwrap();
        assert_eq!(done.items.len(), 100);
        read.push(done.items.iter().map(|item| item.tokens).sum::<u32>());
    }

    let look = v1::ReadActivity::default();
    let end = tokio::time::Instant::now() + SOON;
    let told = loop {
        let asked = daemon.asker.request(topics::MODELS_ACTIVITY, &look, meta());
        let told: v1::ModelsActivity = asked.await.unwrap();
        // Its worker says so a moment after it has answered.
        let rests = |row: &v1::ModelActivity| row.idle_until_unix_ms > told.at_unix_ms;
        let package = told.models.iter().find(|row| row.name == "tiny-bert");
        if package.is_some_and(rests) {
            break told;
        }
        assert!(tokio::time::Instant::now() < end, "{:?}", told.models);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let [of_package, of_file] = &told.requests[..] else {
        panic!("{:?}", told.requests);
    };
    for (one, name, engine, read) in [
        (of_file, model.name.as_str(), "", read[0]),
        (of_package, "tiny-bert", "transformers", read[1]),
    ] {
        assert_eq!((one.name.as_str(), one.engine.as_str()), (name, engine));
        assert_eq!(one.outcome(), Outcome::Completed);
        assert_eq!((one.prompt_tokens, one.answer_tokens), (read, 0));
        assert!(one.waited_us > 0 && one.waited_us < one.total_us);
        assert!(one.tokens_per_second > 0.0 && one.first_token_us == 0);
        let of_model = told.models.iter().find(|row| row.model == one.model);
        let row = of_model.unwrap();
        assert_eq!((row.name.as_str(), row.engine.as_str()), (name, engine));
        assert_eq!((row.running, row.waiting), (0, 0));
        assert_eq!(row.status(), Status::Ready);
        assert!(row.process_id > 0 && row.places > 0);
        let totals = row.totals.unwrap();
        assert_eq!(
            (totals.completed, totals.prompt_tokens),
            (1, u64::from(read))
        );
        assert!(totals.tokens_per_second > 0.0);
    }
    // Nobody else hears of them.
    let asked = daemon.asker.request(
        topics::MODELS_ACTIVITY,
        &look,
        Meta::for_person(PersonId::new()).deadline_in(SOON),
    );
    let told: v1::ModelsActivity = asked.await.unwrap();
    assert!(told.requests.is_empty());
}
