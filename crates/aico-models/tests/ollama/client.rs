//! Conversations, vectors, lists.

use aico_contracts::v1;
use aico_contracts::v1::generated_end::Reason;
use aico_contracts::v1::turn::Role;
use aico_models::backend::{Asker, Backend, BackendError, Capability, Item, Reach};
use serde_json::json;
use tokio::sync::mpsc;

use std::sync::Arc;
use std::time::Duration;

use crate::double::{Dialect, Double, Fault, Model};
use crate::{BOTH, ask, of, question, text, turn, until, with};

#[tokio::test]
async fn an_answer_comes_piece_by_piece() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let ollama = of(&double);
        let (items, end) = ask(&ollama, "chat", &question("Hi")).await;
        let end = end.unwrap();
        assert_eq!(items.len(), 3, "{items:?}");
        assert_eq!(text(&items), "Hello there.");
        assert_eq!(end.reason(), Reason::Stop);
        assert_eq!((end.prompt_tokens, end.answer_tokens), (20, 3));
        assert!(end.first_token_us > 0 && end.total_us >= end.first_token_us);
        assert_eq!((ollama.name(), ollama.reach()), ("ollama", Reach::Machine));
    }
}

#[tokio::test]
async fn what_the_dialects_take_differently_is_said_each_time() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let ollama = of(&double);
        let mut asked = question("Hi");
        asked.sampling = Some(v1::Sampling {
            temperature: 0.7,
            top_p: 0.9,
            top_k: 20,
            min_p: 0.05,
            repeat_penalty: 0.0,
            seed: 7,
            stop: vec!["END".into()],
        });
        ask(&ollama, "chat", &asked).await.1.unwrap();
        let sent = double.last("/api/chat");
        assert_eq!(sent["think"], false);
        assert_eq!(sent["stream"], true);
        assert_eq!(sent["keep_alive"], 1800);
        assert_eq!(
            (&sent["truncate"], &sent["shift"]),
            (&json!(false), &json!(false))
        );
        assert_eq!(
            sent["options"],
            json!({"num_ctx": 4096, "num_predict": 32, "temperature": 0.7, "top_p": 0.9,
                "top_k": 20, "min_p": 0.05, "repeat_penalty": 1.0, "seed": 7, "stop": ["END"]})
        );
        // Another context for one question would make it load the model anew.
        asked.context = 512;
        asked.sampling = None;
        ask(&ollama, "chat", &asked).await.1.unwrap();
        let sent = double.last("/api/chat");
        assert_eq!(sent["options"]["num_ctx"], 4096);
        assert_eq!(sent["options"].get("seed"), None, "another one each time");
    }
}

#[tokio::test]
async fn thinking_comes_before_the_answer_and_only_where_it_is_wanted() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let ollama = of(&double);
        for (think, thinks) in [(None, true), (Some(true), true), (Some(false), false)] {
            let mut asked = question("Hi");
            asked.think = think;
            let (items, end) = ask(&ollama, "clever:8b", &asked).await;
            end.unwrap();
            let thought = items[0] == Item::Thinking("Let me see.".into());
            assert_eq!(thought, thinks, "{dialect:?} {think:?}");
            assert_eq!(text(&items), "Hello there.");
        }
        // How much it thinks reaches the family that knows degrees; others would refuse the word.
        let mut degrees = Model::new(&["completion", "thinking"]);
        degrees.family = "gptoss";
        double.state().models.insert("gpt-oss:20b".into(), degrees);
        for (model, think, sent) in [
            ("gpt-oss:20b", None, json!("high")),
            ("gpt-oss:20b", Some(false), json!(false)),
            ("clever:8b", None, json!(true)),
        ] {
            let mut asked = question("Hi");
            (asked.think, asked.effort) = (think, "high".into());
            ask(&ollama, model, &asked).await.1.unwrap();
            assert_eq!(double.last("/api/chat")["think"], sent, "{model}");
        }
        // One that does not think does not fail for it, unless that is what was asked.
        ask(&ollama, "chat", &question("Hi")).await.1.unwrap();
        let mut asked = question("Hi");
        asked.think = Some(true);
        let end = ask(&ollama, "chat", &asked).await.1;
        assert_eq!(end, Err(BackendError::NotCapable { what: "thinking" }));
    }
}

#[tokio::test]
async fn tools_are_called_and_their_answers_told() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let ollama = of(&double);
        let mut asked = question("How is the weather in Bonn?");
        asked.tools = vec![v1::Tool {
            name: "weather".into(),
            description: "Of a place.".into(),
            parameters: json!({"type": "object", "properties": {"place": {"type": "string"}}})
                .to_string(),
        }];
        let (items, end) = ask(&ollama, "clever:8b", &asked).await;
        end.unwrap();
        let Some(Item::ToolCall(call)) = items.last().cloned() else {
            panic!("{items:?}");
        };
        assert_eq!(call.name, "weather");
        assert_eq!(call.arguments, r#"{"place":"Bonn"}"#);
        let id = call.id.clone();
        match dialect {
            // Another one each time: a later answer's call is not this one.
            Dialect::Old => {
                let (again, _) = ask(&ollama, "clever:8b", &asked).await;
                let Some(Item::ToolCall(again)) = again.last() else {
                    panic!("{again:?}");
                };
                assert!(!id.is_empty() && again.id != id);
            }
            Dialect::New => assert_eq!(id, "call_abc"),
        }
        // And back.
        asked.turns.push(v1::Turn {
            tool_calls: vec![call],
            ..turn(Role::Assistant, "")
        });
        asked.turns.push(v1::Turn {
            tool_call: id.clone(),
            tool_name: "weather".into(),
            ..turn(Role::Tool, "Sunny.")
        });
        ask(&ollama, "clever:8b", &asked).await.1.unwrap();
        let sent = double.last("/api/chat");
        let call = &sent["messages"][1]["tool_calls"][0];
        assert_eq!(
            call["function"]["arguments"],
            json!({"place": "Bonn"}),
            "no text"
        );
        let told = &sent["messages"][2];
        assert_eq!(
            (&told["role"], &told["content"]),
            (&json!("tool"), &json!("Sunny."))
        );
        assert_eq!(
            (&told["tool_name"], &told["tool_call_id"]),
            (&json!("weather"), &json!(id))
        );

        let end = ask(&ollama, "chat", &asked).await.1;
        assert_eq!(end, Err(BackendError::NotCapable { what: "tools" }));
    }
}

#[tokio::test]
async fn images_and_formats_go_along() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let ollama = of(&double);
        let mut asked = question("What is this?");
        asked.turns[0].images = vec![vec![0x89, b'P', b'N', b'G']];
        asked.think = Some(false);
        ask(&ollama, "clever:8b", &asked).await.1.unwrap();
        let sent = double.last("/api/chat");
        assert_eq!(sent["messages"][0]["images"], json!(["iVBORw=="]));
        let end = ask(&ollama, "chat", &asked).await.1;
        assert_eq!(end, Err(BackendError::NotCapable { what: "images" }));

        let mut asked = question("As JSON.");
        for (format, sent) in [
            ("json", json!("json")),
            (r#"{"type":"object"}"#, json!({"type": "object"})),
        ] {
            asked.format = format.to_owned();
            let (items, end) = ask(&ollama, "chat", &asked).await;
            end.unwrap();
            assert_eq!(text(&items), "{\"a\": 1}");
            assert_eq!(double.last("/api/chat")["format"], sent);
        }
        asked.format = "no schema".to_owned();
        let end = ask(&ollama, "chat", &asked).await.1;
        assert_eq!(end, Err(BackendError::Refused { status: 400 }));
    }
}

#[tokio::test]
async fn the_oldest_turns_that_do_not_fit_are_left_out_and_counted() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let ollama = with(&double, |config| config.context = 512);
        let mut asked = question("");
        asked.turns = vec![turn(Role::System, "Be kind.")];
        for number in 0..20 {
            asked.turns.push(turn(
                Role::User,
                &format!("{number}: {}", "word ".repeat(30)),
            ));
        }
        let (_, end) = ask(&ollama, "chat", &asked).await;
        let end = end.unwrap();
        let sent = double.last("/api/chat");
        let messages = sent["messages"].as_array().unwrap();
        assert!(end.dropped_turns > 0);
        assert_eq!(messages.len() + end.dropped_turns as usize, 21);
        assert_eq!(messages[0]["content"], "Be kind.");
        let last = messages.last().unwrap()["content"].as_str().unwrap();
        assert!(last.starts_with("19: "));

        // Of what is loaded for a question a character may want less read, and gets no more.
        let all = end.dropped_turns;
        for (context, fewer) in [(128, true), (8192, false)] {
            asked.context = context;
            let end = ask(&ollama, "chat", &asked).await.1.unwrap();
            assert_eq!(end.dropped_turns > all, fewer, "{context}");
            let sent = double.last("/api/chat");
            assert_eq!(sent["options"]["num_ctx"], 512);
            let messages = sent["messages"].as_array().unwrap();
            assert_eq!(messages.len() + end.dropped_turns as usize, 21);
        }

        let before = double.asked("/api/chat").len();
        let long = question(&"word ".repeat(2000));
        assert_eq!(
            ask(&ollama, "chat", &long).await.1,
            Err(BackendError::TooLong)
        );
        let after = double.asked("/api/chat").len();
        assert_eq!(after, before, "what can't fit is not even sent");
    }
}

/// The newer say that it is too long: then it is shortened. The double finds tokens twice as
/// dear as was reckoned.
#[tokio::test]
async fn what_is_too_long_after_all_is_shortened() {
    let double = Double::start(Dialect::New).await;
    let ollama = with(&double, |config| config.context = 512);
    let mut asked = question("");
    asked.turns = vec![turn(Role::System, "Be kind.")];
    for _ in 0..8 {
        asked.turns.push(turn(Role::User, &"x".repeat(140)));
    }
    let end = ask(&ollama, "chat", &asked).await.1.unwrap();
    assert!(end.dropped_turns >= 1);
    let tries = double.asked("/api/chat");
    assert!(tries.len() > 1, "{}", tries.len());
    let count = |one: &serde_json::Value| one["messages"].as_array().unwrap().len();
    assert!(count(&tries[0]) > count(tries.last().unwrap()));
}

/// It keeps a call to itself until it is whole, however long that takes to write.
#[tokio::test]
async fn a_call_that_takes_its_time_is_no_silence() {
    let double = Double::start(Dialect::Old).await;
    double.state().between = Duration::from_millis(300);
    let ollama = with(&double, |config| {
        config.limits.next_token = Duration::from_millis(100);
    });
    let mut asked = question("How is the weather in Bonn?");
    asked.tools = vec![v1::Tool {
        name: "weather".into(),
        ..v1::Tool::default()
    }];
    let (items, end) = ask(&ollama, "clever:8b", &asked).await;
    end.unwrap();
    let called = |item: &Item| matches!(item, Item::ToolCall(_));
    assert!(items.iter().any(called), "{items:?}");
    let silent = ask(&ollama, "clever:8b", &question("Hi")).await.1;
    assert!(
        matches!(silent, Err(BackendError::TimedOut { .. })),
        "{silent:?}"
    );
}

#[tokio::test]
async fn an_answer_as_long_as_there_is_room_for_has_no_limit() {
    let double = Double::start(Dialect::New).await;
    let ollama = of(&double);
    let mut asked = question("Hi");
    for max_tokens in [0, u32::MAX] {
        asked.max_tokens = max_tokens;
        ask(&ollama, "chat", &asked).await.1.unwrap();
        assert_eq!(double.last("/api/chat")["options"]["num_predict"], -1);
    }
}

/// As seen with a real one, which ends such an answer without saying so.
#[tokio::test]
async fn an_answer_that_went_in_circles_ends_as_one_that_became_too_long() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        double.state().says = vec![" ".to_owned(); 31];
        double.fail("/api/chat", Fault::NoDone);
        let ollama = of(&double);
        let (items, end) = ask(&ollama, "chat", &question("Hi")).await;
        assert_eq!(items.len(), 31);
        assert_eq!(end.unwrap().reason(), Reason::Length);
    }
}

#[tokio::test]
async fn dropping_the_question_ends_the_work() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        {
            let mut state = double.state();
            state.says = vec!["word ".to_owned(); 1000];
            state.between = Duration::from_millis(20);
        }
        let ollama = of(&double);
        let (sender, mut items) = mpsc::channel(4);
        let asking = {
            let ollama = Arc::clone(&ollama);
            tokio::spawn(async move {
                ollama
                    .generate(&Asker::default(), "chat", &question("Hi"), sender)
                    .await
            })
        };
        assert_eq!(items.recv().await, Some(Item::Text("word ".into())));
        asking.abort();
        until("the other side has noticed", || {
            double.state().cancelled == 1
        })
        .await;
        assert_eq!(double.state().busy, 0);

        // So does going away as the one who listens.
        let (sender, mut items) = mpsc::channel(4);
        let asking = {
            let ollama = Arc::clone(&ollama);
            tokio::spawn(async move {
                ollama
                    .generate(&Asker::default(), "chat", &question("Hi"), sender)
                    .await
            })
        };
        assert!(items.recv().await.is_some());
        drop(items);
        let end = asking.await.unwrap().unwrap();
        assert_eq!(end.reason(), Reason::Cancelled);
        until("the other side has noticed", || {
            double.state().cancelled == 2
        })
        .await;
    }
}

#[tokio::test]
async fn models_are_listed_alike() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        double.state().models.get_mut("chat:latest").unwrap().remote = true;
        double.state().loaded.push_back("clever:8b".into());
        let ollama = of(&double);
        let models = ollama.models().await.unwrap();
        let names: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
        // The one that runs on a server of its makers is none of this machine.
        assert_eq!(names, ["clever:8b", "vectors:latest"]);
        let clever = &models[0];
        assert_eq!(clever.parameters, 8_190_735_360);
        assert_eq!(clever.context_length, 32_768);
        assert_eq!(clever.architecture, "qwen3");
        assert_eq!(clever.quantization, "Q4_K_M");
        assert_eq!(clever.license, "Apache License");
        assert_eq!(clever.loaded, Some(4096));
        assert_eq!(clever.modified_unix_ms, 1_795_683_600_500);
        assert_eq!(
            clever.capabilities,
            [
                Capability::Chat,
                Capability::Tools,
                Capability::Thinking,
                Capability::Images
            ]
        );
        assert_eq!(models[1].capabilities, [Capability::Embeddings]);
        let end = ask(&ollama, "chat", &question("Hi")).await.1;
        assert_eq!(end, Err(BackendError::Elsewhere), "{dialect:?}");
        assert!(double.asked("/api/chat").is_empty(), "nothing was said");
        // What is known of a file is not asked for again.
        let shown = double.asked("/api/show").len();
        ollama.models().await.unwrap();
        assert_eq!(double.asked("/api/show").len(), shown);
    }
}

#[tokio::test]
async fn texts_become_vectors() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let ollama = of(&double);
        let texts: Vec<String> = (0..150).map(|n| "x".repeat(n % 7)).collect();
        let embedded = ollama
            .embed(&Asker::default(), "vectors", &texts)
            .await
            .unwrap();
        assert_eq!(embedded.vectors.len(), 150);
        assert_eq!(embedded.tokens, 150);
        assert_eq!(embedded.vectors[7], embedded.vectors[0]);
        assert_eq!(embedded.vectors[0], [0.0, 1.0]);
        let sizes: Vec<_> = double
            .asked("/api/embed")
            .iter()
            .map(|one| one["input"].as_array().unwrap().len())
            .collect();
        assert_eq!(sizes, [64, 64, 22]);
        let wrong = ollama.embed(&Asker::default(), "chat", &texts).await;
        assert_eq!(wrong, Err(BackendError::NotCapable { what: "embeddings" }));
        let none = ollama.embed(&Asker::default(), "none", &texts).await;
        assert_eq!(none, Err(BackendError::ModelMissing));
    }
}

/// Ollama shortens in silence, or refuses a whole question without a word of which text it was.
#[tokio::test]
async fn texts_that_are_too_long_are_shortened_and_told() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let small = Model {
            context: 8,
            ..Model::new(&["embedding"])
        };
        double.state().models.insert("small:latest".into(), small);
        let ollama = of(&double);
        let lengths = [3, 17, 16, 400, 0];
        let mut texts: Vec<String> = lengths.map(|length| "x".repeat(length)).to_vec();
        texts.extend(vec!["x".to_owned(); 60]);
        let asker = Asker::default();
        let embedded = ollama.embed(&asker, "small", &texts).await.unwrap();
        assert_eq!(embedded.truncated, [1, 3]);
        assert_eq!(embedded.vectors.len(), 65);
        assert_eq!(embedded.vectors[1], embedded.vectors[2]);
        assert_eq!(embedded.vectors[3], embedded.vectors[2]);
        assert_eq!(embedded.vectors[64], embedded.vectors[63]);
        assert_eq!(embedded.tokens, 65);
        let asked = double.asked("/api/embed");
        // The first piece, each of its texts, the two that may be shortened, the second piece.
        assert_eq!(asked.len(), 1 + 64 + 2 + 1);
        let shortened = asked.iter().filter(|one| one["truncate"] == true);
        let shortened: Vec<_> = shortened.map(|one| one["input"].clone()).collect();
        assert_eq!(shortened, [json!([texts[1]]), json!([texts[3]])]);
    }
}

#[tokio::test]
async fn what_is_in_memory_because_of_us_is_told_and_nothing_is_looked_for() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        double.state().loaded.push_back("clever:8b".into());
        let ollama = of(&double);
        assert!(ollama.in_memory().await.is_empty());
        assert!(double.state().asked.is_empty());
        ask(&ollama, "chat", &question("Hi")).await.1.unwrap();
        let inside = ollama.in_memory().await;
        assert_eq!(inside.len(), 1, "the other one is not ours");
        assert_eq!((inside[0].name.as_str(), inside[0].bytes), ("chat", 4096));
        let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
        let left = inside[0].until_unix_ms - now;
        assert!((29 * 60_000..=30 * 60_000).contains(&left), "{left}");
        ollama.unload("chat").await.unwrap();
        assert!(ollama.in_memory().await.is_empty());

        let for_ever = with(&double, |config| config.keep_alive = None);
        ask(&for_ever, "chat", &question("Hi")).await.1.unwrap();
        assert_eq!(for_ever.in_memory().await[0].until_unix_ms, 0);
    }
}

#[tokio::test]
async fn no_more_answers_at_once_than_may_be() {
    let double = Double::start(Dialect::Old).await;
    double.state().between = Duration::from_millis(20);
    let ollama = with(&double, |config| config.parallel = 4);
    let asked = (0..12).map(|_| {
        let ollama = Arc::clone(&ollama);
        tokio::spawn(async move { ask(&ollama, "chat", &question("Hi")).await.1 })
    });
    for one in asked.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    assert_eq!(double.state().most, 4);
}

/// What others have loaded is theirs; of ours the one goes that was used longest ago.
#[tokio::test]
async fn no_more_models_in_memory_than_may_be() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        for name in ["a:latest", "b:latest", "c:latest"] {
            let model = Model::new(&["completion"]);
            double.state().models.insert(name.into(), model);
        }
        let ollama = of(&double);
        for model in ["a", "b", "a", "c"] {
            ask(&ollama, model, &question("Hi")).await.1.unwrap();
        }
        assert_eq!(double.state().loaded, ["c:latest", "a:latest"]);
        let unloaded = double.last("/api/generate");
        assert_eq!(
            (&unloaded["model"], &unloaded["keep_alive"]),
            (&json!("b:latest"), &json!(0))
        );
        // Somebody else's two.
        let theirs = ["clever:8b".to_owned(), "vectors:latest".to_owned()];
        double.state().loaded = theirs.clone().into();
        ask(&ollama, "b", &question("Hi")).await.1.unwrap();
        let loaded = double.state().loaded.clone();
        assert!(theirs.iter().all(|one| loaded.contains(one)), "{loaded:?}");

        assert_eq!(ollama.loaded().await.unwrap().len(), 3);
        ollama.unload("b").await.unwrap();
        let theirs = ollama.unload("vectors").await;
        assert_eq!(theirs, Err(BackendError::LoadedByOthers));
        let texts = ["Hi".to_owned()];
        let embedded = ollama.embed(&Asker::default(), "vectors", &texts).await;
        embedded.unwrap();
        ollama.unload("vectors").await.unwrap();
        assert_eq!(double.state().loaded, ["clever:8b"]);
        let missing = ollama.unload("nothing").await;
        assert_eq!(missing, Err(BackendError::ModelMissing));
    }
}

/// While all models that may be loaded answer, a question for one more waits; what answers is not
/// unloaded.
#[tokio::test]
async fn one_model_more_waits_until_another_is_idle() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        for name in ["a:latest", "b:latest", "c:latest"] {
            let model = Model::new(&["completion"]);
            double.state().models.insert(name.into(), model);
        }
        {
            let mut state = double.state();
            state.says = vec!["word ".to_owned(); 1000];
            state.between = Duration::from_millis(20);
        }
        let ollama = of(&double);
        let begin = |model: &'static str| {
            let ollama = Arc::clone(&ollama);
            let (sender, items) = mpsc::channel(4);
            let asking = tokio::spawn(async move {
                let asker = Asker::default();
                ollama
                    .generate(&asker, model, &question("Hi"), sender)
                    .await
            });
            (asking, items)
        };
        let (first, mut items) = begin("a");
        assert!(items.recv().await.is_some());
        let (_second, mut others) = begin("b");
        assert!(others.recv().await.is_some());
        let kept = ollama.unload("a").await;
        assert_eq!(kept, Err(BackendError::InUse));

        let looks = double.asked("/api/ps").len();
        let (third, mut waits) = begin("c");
        until("it has looked what is loaded", || {
            double.asked("/api/ps").len() > looks
        })
        .await;
        // Its own goes on, and nothing of the third is heard meanwhile.
        assert!(items.recv().await.is_some());
        assert_eq!(double.asked("/api/chat").len(), 2);
        // Whoever no longer wants to wait need not.
        waits.close();
        let end = third.await.unwrap().unwrap();
        assert_eq!(end.reason(), Reason::Cancelled);
        assert_eq!(double.asked("/api/chat").len(), 2);

        let (_third, mut waits) = begin("c");
        drop(items);
        first.await.unwrap().unwrap();
        assert!(waits.recv().await.is_some());
        assert_eq!(double.state().loaded, ["c:latest", "b:latest"]);
    }
}
