//! Packages of every architecture give what the Python reference gives.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../../../fuzz/src/package.rs"]
mod fuzzing;

use std::path::{Path, PathBuf};

use aico_contracts::v1::{Classify, Embed, FindEntities};
use aico_models::transformers::model::{Loaded, ModelError};
use aico_models::transformers::package::{Package, TOKENIZER};
use aico_models::transformers::tokens::Tokeniser;
use aico_models::transformers::words::words;
use serde_json::Value;

/// How far numbers may be apart.
const NEAR: f32 = 1e-4;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/transformers")
        .join(name)
}

fn load(name: &str) -> Loaded {
    Loaded::load(&folder(name), Package::read(&folder(name)).unwrap(), 2).unwrap()
}

fn expected(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder(name).join("expected.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all["texts"].as_array().unwrap().clone()
}

fn text(row: &Value) -> String {
    match &row["text"] {
        Value::String(text) => text.clone(),
        made => {
            let times = usize::try_from(made["times"].as_u64().unwrap()).unwrap();
            made["repeat"].as_str().unwrap().repeat(times)
        }
    }
}

fn texts(rows: &[Value]) -> Vec<String> {
    rows.iter().map(text).collect()
}

fn numbers(row: &Value) -> Vec<f32> {
    row.as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap() as f32)
        .collect()
}

fn near(found: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(
            (found - wanted).abs() < NEAR,
            "{what}: {found} is not {wanted}"
        );
    }
}

#[test]
fn tokens_are_those_of_the_reference() {
    for name in [
        "tiny-bert",
        "tiny-mpnet",
        "tiny-xlm-roberta",
        "tiny-distilbert",
        "tiny-sentiment",
        "tiny-emotion",
    ] {
        let about = Package::read(&folder(name)).unwrap();
        let tokeniser = Tokeniser::load(&folder(name).join(TOKENIZER), about.max_tokens).unwrap();
        let rows = expected(name);
        assert!(rows.len() > 20);
        assert!(rows.iter().any(|row| row["truncated"] == true));
        for row in rows {
            let tokens = tokeniser.text(&text(&row)).unwrap();
            let wanted: Vec<i32> = serde_json::from_value(row["ids"].clone()).unwrap();
            assert_eq!(tokens.ids, wanted, "{name}: {}", row["text"]);
            assert_eq!(
                tokens.truncated,
                row["truncated"] == true,
                "{name}: {}",
                row["text"]
            );
        }
    }
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    for name in ["tiny-bert", "tiny-mpnet", "tiny-xlm-roberta"] {
        let (model, rows) = (load(name), expected(name));
        let asked = Embed {
            texts: texts(&rows),
            ..Embed::default()
        };
        let found = model.embed(&asked).unwrap();
        assert_eq!(found.model, name);
        for ((item, row), one) in found.items.iter().zip(&rows).zip(&asked.texts) {
            let what = format!("{name}: {}", row["text"]);
            near(&item.vector, &numbers(&row["vector"]), &what);
            assert_eq!(item.truncated, row["truncated"] == true, "{what}");
            assert_eq!(item.tokens as usize, row["ids"].as_array().unwrap().len());
            // Alone it is what it is among others.
            let alone = Embed {
                texts: vec![one.clone()],
                ..Embed::default()
            };
            near(
                &model.embed(&alone).unwrap().items[0].vector,
                &item.vector,
                &what,
            );
        }
    }
}

#[test]
fn shorter_vectors_are_the_beginning_brought_to_length_one() {
    let model = load("tiny-bert");
    let asked = |dimensions| Embed {
        texts: vec!["The cat".into()],
        dimensions,
        ..Embed::default()
    };
    let whole = model.embed(&asked(0)).unwrap().items.remove(0).vector;
    let part = model.embed(&asked(5)).unwrap().items.remove(0).vector;
    let length = whole[..5]
        .iter()
        .map(|value| value * value)
        .sum::<f32>()
        .sqrt();
    let wanted: Vec<f32> = whole[..5].iter().map(|value| value / length).collect();
    near(&part, &wanted, "five");
    assert_eq!(model.embed(&asked(25)), Err(ModelError::Dimensions(24)));
    let none = Embed::default();
    assert!(model.embed(&none).unwrap().items.is_empty());
}

#[test]
fn labels_are_those_of_the_reference() {
    for name in ["tiny-distilbert", "tiny-sentiment", "tiny-emotion"] {
        let (model, rows) = (load(name), expected(name));
        let labels = Package::read(&folder(name)).unwrap().labels;
        let asked = Classify {
            texts: texts(&rows),
            ..Classify::default()
        };
        let found = model.classify(&asked).unwrap();
        for (item, row) in found.items.iter().zip(&rows) {
            let what = format!("{name}: {}", row["text"]);
            let score = |label: &String| {
                item.labels
                    .iter()
                    .find(|found| found.label == *label)
                    .unwrap()
                    .score
            };
            let scores: Vec<f32> = labels.iter().map(score).collect();
            near(&scores, &numbers(&row["scores"]), &what);
            assert!(
                item.labels
                    .is_sorted_by(|one, other| one.score >= other.score)
            );
            assert_eq!(item.truncated, row["truncated"] == true, "{what}");
        }
    }
}

#[test]
fn entities_are_those_of_gliner() {
    let (model, rows) = (load("tiny-gliner"), expected("tiny-gliner"));
    let mut seen = 0;
    for part in rows.chunk_by(|one, other| one["labels"] == other["labels"]) {
        let labels: Vec<String> = serde_json::from_value(part[0]["labels"].clone()).unwrap();
        let threshold = part[0]["threshold"].as_f64().unwrap() as f32;
        let asked = FindEntities {
            texts: texts(part),
            labels,
            threshold,
            ..FindEntities::default()
        };
        let found = model.entities(&asked).unwrap();
        for (item, row) in found.items.iter().zip(part) {
            let what = row["text"].to_string();
            // The reference counts words that have tokens: after one that has none, a mark without
            // width, it names the word beside the one that it means.
            if what.contains('\u{200b}') {
                continue;
            }
            let wanted = row["entities"].as_array().unwrap();
            assert_eq!(item.entities.len(), wanted.len(), "{what}");
            for (found, wanted) in item.entities.iter().zip(wanted) {
                assert_eq!(
                    u64::from(found.start),
                    wanted[0].as_u64().unwrap(),
                    "{what}"
                );
                assert_eq!(u64::from(found.end), wanted[1].as_u64().unwrap(), "{what}");
                assert_eq!(found.label, wanted[2].as_str().unwrap(), "{what}");
                near(&[found.score], &[wanted[3].as_f64().unwrap() as f32], &what);
                seen += 1;
            }
        }
    }
    assert!(seen > 100);
}

#[test]
fn words_are_those_of_gliner() {
    for row in expected("tiny-gliner") {
        let text = text(&row);
        let found = words(&text);
        let places: Vec<Value> = found
            .iter()
            .take(60)
            .map(|word| serde_json::json!([word.start, word.end]))
            .collect();
        assert_eq!(Value::Array(places), row["words"], "{}", row["text"]);
    }
}

#[test]
fn labels_that_leave_no_room_are_refused() {
    let model = load("tiny-gliner");
    let labels = vec!["a long label of many words".to_owned(); 60];
    let asked = FindEntities {
        texts: vec!["Ada".into()],
        labels,
        ..FindEntities::default()
    };
    assert_eq!(model.entities(&asked), Err(ModelError::Labels));
}

#[test]
fn a_model_answers_only_what_it_is_for() {
    let model = load("tiny-bert");
    assert_eq!(model.classify(&Classify::default()), Err(ModelError::Task));
    assert_eq!(
        model.entities(&FindEntities::default()),
        Err(ModelError::Task)
    );
    let other = load("tiny-emotion");
    assert_eq!(other.embed(&Embed::default()), Err(ModelError::Task));
}

/// The description is the part of a package that the daemon reads: any bytes are one or an error,
/// and what is one is written and read as the same.
#[test]
fn any_bytes_are_a_description_or_an_error() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chance = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let seeds: Vec<Vec<u8>> = ["tiny-bert", "tiny-emotion", "tiny-gliner"]
        .map(|name| std::fs::read(folder(name).join("aico-model.json")).unwrap())
        .into();
    let pieces: [&[u8]; 8] = [
        b"\"",
        b"null",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"[[[[",
        b"\xff",
        b"\"name\":\"../x\",",
    ];
    let mut read = 0;
    for round in 0..30_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=chance(3) {
            let at = chance(bytes.len());
            match chance(4) {
                0 => bytes[at] ^= 1 << chance(8),
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.remove(at)),
                _ => {
                    let piece = pieces[chance(pieces.len())].iter().copied();
                    bytes.splice(at..at, piece);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(package) = Package::parse(&bytes) {
            read += 1;
            assert!(!package.name.contains(['/', '\\']) && !package.name.contains(".."));
            let again = serde_json::to_vec(&package).unwrap();
            assert_eq!(Package::parse(&again).unwrap(), package);
            let _none_overflows = (package.size(), package.memory());
        }
    }
    assert!(read > 100, "{read}");
}

#[test]
fn what_fuzzing_kept_goes_through_its_checks() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let kept = |target: &str| -> Vec<(PathBuf, Vec<u8>)> {
        let all = std::fs::read_dir(corpus.join(target)).unwrap();
        all.map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    };
    let descriptions = kept("description");
    assert!(descriptions.len() >= 10);
    for (_, bytes) in descriptions {
        fuzzing::description(&bytes);
    }
    let folder = tempfile::tempdir().unwrap();
    let files = kept("package");
    assert!(files.len() >= 11);
    let mut answered = Vec::new();
    for (path, bytes) in files {
        if fuzzing::files(folder.path(), &bytes) {
            answered.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    // Otherwise the others would prove nothing.
    for name in [
        "bpe",
        "embedding",
        "emotion",
        "entities",
        "unigram",
        "word-piece",
    ] {
        assert!(
            answered.iter().any(|one| one == name),
            "{name}: {answered:?}"
        );
    }
}
