//! Answers bound to a form, by the real engine. The model has random weights: what it writes has
//! the form because nothing else can come.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_models::batch::{End, Event, Request};
use aico_models::engine::SamplingPlan;
use aico_models::prompt::Language;
use aico_models::structured::{FormatError, SCHEMA_LIMIT};
use aico_models::text::Thinking;
use serde_json::{Value, json};
use support::gguf_writer::Shape;
use support::{Loaded, load, request};

fn language(loaded: &Loaded) -> Language {
    Language::new(Arc::clone(&loaded.model) as _).unwrap()
}

fn hot(seed: u32) -> SamplingPlan {
    SamplingPlan {
        temperature: 2.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repeat_penalty: 1.1,
        seed,
    }
}

/// What came: thinking, answer and end.
fn read(loaded: &Loaded, request: Request) -> Result<(String, String, End), &'static str> {
    let mut generation = loaded.batcher.submit(request);
    let (mut thought, mut text) = (String::new(), String::new());
    loop {
        match generation.next_blocking() {
            Some(Event::Text(part)) => text.push_str(&part),
            Some(Event::Thinking(part)) => thought.push_str(&part),
            Some(Event::End(end)) => return Ok((thought, text, end)),
            Some(Event::TooComplex) => return Err("too complex"),
            Some(Event::Queued(_)) => {}
            _ => return Err("failed"),
        }
    }
}

fn bound(
    loaded: &Loaded,
    language: &Language,
    format: &str,
    sampling: SamplingPlan,
) -> (String, End) {
    let structure = language.structure(format);
    let structure = structure.unwrap_or_else(|error| panic!("{format}: {error}"));
    let request = Request {
        sampling,
        structure: Some(structure),
        ..request(loaded.tokens("Tell me."), 900)
    };
    let (_, text, end) = read(loaded, request).unwrap();
    (text, end)
}

/// Whether it is the beginning of JSON. JSON's numbers are not bounded, this reader's are.
fn begun(error: &serde_json::Error, end: &End) -> bool {
    (end.cut && error.is_eof()) || error.to_string().contains("out of range")
}

fn string(value: &Value, most: usize) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.chars().count() <= most)
}

#[test]
fn any_model_writes_what_the_schema_describes() {
    let loaded = load(&Shape::tiny(), 4);
    let language = language(&loaded);
    type Check = fn(&Value) -> bool;
    let cases: &[(Value, Check)] = &[
        (
            json!({
                "type": "object",
                "properties": {
                    "name": { "type": "string", "maxLength": 12 },
                    "age": { "type": "integer", "minimum": 0, "maximum": 150 },
                    "kind": { "enum": ["cat", "dog", null, 7] },
                },
                "required": ["name", "age", "kind"],
                "additionalProperties": false,
            }),
            |value| {
                let keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
                // In the schema's order: a program may show what has come so far.
                keys == ["name", "age", "kind"]
                    && string(&value["name"], 12)
                    && value["age"].as_u64().is_some_and(|age| age <= 150)
                    && [json!("cat"), json!("dog"), Value::Null, json!(7)].contains(&value["kind"])
            },
        ),
        (
            json!({ "type": "array", "items": { "type": "boolean" }, "minItems": 2, "maxItems": 5 }),
            |value| {
                let items = value.as_array().unwrap();
                (2..=5).contains(&items.len()) && items.iter().all(Value::is_boolean)
            },
        ),
        (json!({ "const": { "a": [1, "ü"] } }), |value| {
            *value == json!({ "a": [1, "ü"] })
        }),
        (
            json!({ "type": "string", "pattern": "^[a-f0-9]{8}-[a-z]{2}$" }),
            |value| value.as_str().unwrap().len() == 11,
        ),
        (
            json!({
                "$ref": "#/$defs/tree",
                "$defs": { "tree": {
                    "type": "object",
                    "properties": {
                        "leaf": { "type": "string", "maxLength": 4 },
                        "left": { "anyOf": [{ "$ref": "#/$defs/leaf" }, { "type": "null" }] },
                    },
                    "required": ["leaf", "left"],
                    "additionalProperties": false,
                }, "leaf": { "enum": [1, 2] } },
            }),
            |value| string(&value["leaf"], 4) && value.get("left").is_some(),
        ),
        (json!({ "type": "string", "format": "date" }), |value| {
            value.as_str().unwrap().len() == 10
        }),
    ];
    for (schema, check) in cases {
        for seed in 1..=8 {
            let mut plan = hot(seed);
            if seed == 1 {
                plan.temperature = 0.0;
            }
            let (text, end) = bound(&loaded, &language, &schema.to_string(), plan);
            assert!(!end.cut, "{schema}: {text}");
            let value: Value = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{schema} gave {text}: {error}"));
            assert!(check(&value), "{schema} gave {text}");
        }
    }
}

#[test]
fn json_is_an_object_or_the_beginning_of_one_that_the_limit_cut() {
    let loaded = load(&Shape::tiny(), 4);
    let language = language(&loaded);
    let mut whole = 0;
    for seed in 1..=12 {
        let (text, end) = bound(&loaded, &language, "json", hot(seed));
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => {
                assert!(value.is_object(), "{text}");
                whole += 1;
            }
            Err(error) => assert!(begun(&error, &end), "{error}: {text}"),
        }
    }
    assert!(whole > 0);
}

#[test]
fn the_form_begins_after_the_thinking() {
    let shape = Shape {
        words: &["<think>", "</think>"],
        context: 8192,
        ..Shape::tiny()
    };
    let loaded = load(&shape, 1);
    let language = language(&loaded);
    let schema = r#"{"type": "array", "items": {"enum": [1, 2]}, "minItems": 3, "maxItems": 3}"#;
    let mut thoughts = 0;
    for (seed, thinking) in [
        (1, Thinking::Begun),
        (2, Thinking::Begun),
        (3, Thinking::MayBegin),
        (4, Thinking::None),
    ] {
        let request = Request {
            // As good as chance: the mark that ends the thinking comes after some hundred tokens.
            sampling: SamplingPlan {
                temperature: 9.0,
                repeat_penalty: 1.0,
                ..hot(seed)
            },
            structure: Some(language.structure(schema).unwrap()),
            thinking,
            ..request(loaded.tokens("Think."), 8000)
        };
        let (thought, text, end) = read(&loaded, request).unwrap();
        if thinking == Thinking::Begun {
            assert!(!thought.is_empty());
            thoughts += 1;
        }
        assert!(!end.cut);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!(value.as_array().unwrap().len(), 3);
    }
    assert_eq!(thoughts, 2);
}

/// Schemas that are no use or that cost more than they should, each with what may come of them.
fn hostile() -> Vec<(&'static str, String)> {
    let nested =
        |depth: usize| format!("{}true{}", r#"{"items":"#.repeat(depth), "}".repeat(depth));
    let doubling = {
        let mut defs = serde_json::Map::new();
        for level in 0..40 {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            let both = json!({ "type": "object", "properties": { "a": next, "b": next },
                "required": ["a", "b"] });
            defs.insert(format!("d{level}"), json!({ "allOf": [both, both] }));
        }
        defs.insert("d40".to_owned(), json!({ "type": "null" }));
        json!({ "$ref": "#/$defs/d0", "$defs": defs }).to_string()
    };
    let alternatives = {
        let some = |from: usize| {
            let of = |n| json!({ "type": "object", "properties": { format!("p{n}"): {} } });
            json!({ "anyOf": (from..from + 60).map(of).collect::<Vec<_>>() })
        };
        json!({ "allOf": (0..12).map(some).collect::<Vec<_>>() }).to_string()
    };
    let names: Vec<_> = (0..8000).map(|n| format!("name number {n}")).collect();
    vec![
        (
            "larger than is read",
            format!("{{\"title\":\"{}\"}}", "x".repeat(SCHEMA_LIMIT)),
        ),
        ("nested 100 deep", nested(100)),
        ("nested 100000 deep", nested(30_000)),
        ("not JSON", "{".to_owned()),
        ("not a schema", "[1]".to_owned()),
        ("a word", "\"yaml\"".to_owned()),
        ("nothing fulfils it", "false".to_owned()),
        (
            "nothing fulfils it",
            r#"{"type":"integer","minimum":3,"maximum":2}"#.to_owned(),
        ),
        (
            "nothing fulfils it",
            r#"{"allOf":[{"type":"string"},{"type":"null"}]}"#.to_owned(),
        ),
        ("a reference to itself", r##"{"$ref":"#"}"##.to_owned()),
        (
            "references in a ring",
            r##"{"$ref":"#/a","a":{"$ref":"#/b"},"b":{"$ref":"#/a"}}"##.to_owned(),
        ),
        (
            "all of itself",
            r##"{"allOf":[{"$ref":"#"},{"$ref":"#"}]}"##.to_owned(),
        ),
        (
            "any of itself",
            r##"{"anyOf":[{"$ref":"#"},{"$ref":"#"},{"type":"null"}]}"##.to_owned(),
        ),
        (
            "an endless object",
            r##"{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}"##.to_owned(),
        ),
        (
            "another document",
            r#"{"$ref":"http://127.0.0.1:9/schema"}"#.to_owned(),
        ),
        ("a file", r#"{"$ref":"file:///etc/passwd"}"#.to_owned()),
        ("nowhere", r##"{"$ref":"#/$defs/missing"}"##.to_owned()),
        (
            "a pattern that explodes",
            r#"{"type":"string","pattern":"((a{1,1000}){1,1000}){1,1000}"}"#.to_owned(),
        ),
        (
            "a pattern that explodes",
            r#"{"type":"string","pattern":"^(a|b)*a(a|b){500}$"}"#.to_owned(),
        ),
        (
            "a pattern that backtracks",
            r#"{"type":"string","pattern":"^(a+)+$"}"#.to_owned(),
        ),
        (
            "a pattern that looks around",
            r#"{"type":"string","pattern":"(?=a)b(?!c)"}"#.to_owned(),
        ),
        (
            "a broken pattern",
            r#"{"type":"string","pattern":"(("}"#.to_owned(),
        ),
        (
            "a long text",
            r#"{"type":"string","minLength":1000000000}"#.to_owned(),
        ),
        (
            "a long list",
            r#"{"type":"array","minItems":1000000000}"#.to_owned(),
        ),
        (
            "impossible bounds",
            r#"{"type":"array","minItems":-1,"maxItems":1e300}"#.to_owned(),
        ),
        ("not this", r#"{"not":{"type":"string"}}"#.to_owned()),
        ("doubling", doubling),
        ("alternatives of alternatives", alternatives),
        ("many names", json!({ "enum": names }).to_string()),
        (
            "our own words",
            r#"{"x-guidance":{"whitespace_pattern":"((a{1,1000}){1,1000}){1,1000}"}}"#.to_owned(),
        ),
        ("no keyword of it", r#"{"type":"text"}"#.to_owned()),
    ]
}

#[test]
fn hostile_schemas_end_within_bounds_and_harm_nobody() {
    let loaded = load(&Shape::tiny(), 2);
    let language = language(&loaded);
    language.structure("json").unwrap();
    let mut refused = 0;
    for (what, schema) in hostile() {
        let began = Instant::now();
        match language.structure(&schema) {
            Err(error) => {
                refused += 1;
                let fault = error.to_fault();
                let known = ["format-too-complex", "format-unusable"];
                assert!(known.contains(&fault.code.as_str()), "{what}: {fault}");
                assert!(fault.detail.len() < 300, "{what}: {}", fault.detail);
            }
            Ok(structure) => {
                let request = Request {
                    sampling: hot(3),
                    structure: Some(structure),
                    ..request(loaded.tokens("Now."), 60)
                };
                match read(&loaded, request) {
                    Ok((_, text, end)) => {
                        if let Err(error) = serde_json::from_str::<Value>(&text) {
                            assert!(begun(&error, &end), "{what}: {error} in {text}");
                        }
                    }
                    Err(why) => assert_eq!(why, "too complex", "{what}"),
                }
            }
        }
        let took = began.elapsed();
        assert!(
            took < Duration::from_secs(30),
            "a deadline, no measurement: {what} {took:?}"
        );
    }
    assert!(refused > 10);
    // Who asks next is answered.
    let (text, _) = bound(&loaded, &language, r#"{"enum":[true]}"#, hot(1));
    assert_eq!(text, "true");
}

#[test]
fn what_can_not_be_held_to_is_named() {
    let loaded = load(&Shape::tiny(), 1);
    let language = language(&loaded);
    let of = |schema: &str| language.structure(schema).map(|_| ()).unwrap_err();
    let not = of(r#"{"not":{"type":"string"}}"#);
    assert!(not.to_string().contains("`not`"), "{not}");
    assert_eq!(of("{"), FormatError::NotJson);
    let private =
        of(r#"{"type":"object","properties":{"diary":{"uniqueItems":true,"contains":{}}}}"#);
    assert!(!private.to_string().contains("diary"), "{private}");
}
