//! Packages of models for texts, from any bytes: the description, which the daemon reads, and the two
//! files, which the process of the package reads.

#[path = "../../crates/aico-models/src/transformers/framing.rs"]
mod framing;
#[expect(
    dead_code,
    reason = "the reader as it stands, of which this uses a part"
)]
#[path = "../../crates/aico-models/src/transformers/graph.rs"]
mod graph;
#[expect(dead_code, reason = "as above")]
#[path = "../../crates/aico-models/src/transformers/model/mod.rs"]
mod model;
#[expect(dead_code, reason = "as above")]
#[path = "../../crates/aico-models/src/transformers/package.rs"]
mod package;
#[path = "../../crates/aico-models/src/transformers/tokens.rs"]
mod tokens;
#[path = "../../crates/aico-models/src/transformers/words.rs"]
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use aico_contracts::v1::{Classify, Embed, FindEntities};
use model::Loaded;
use package::{GRAPH, Package, TOKENIZER};

/// A description. What is read can name nothing outside of its folder, and reads the same when it is
/// written again.
///
/// # Panics
/// When something else comes of it.
pub fn description(data: &[u8]) {
    let Ok(about) = Package::parse(data) else {
        return;
    };
    assert!(!about.name.is_empty() && about.name.len() <= 64);
    assert!(!about.name.contains(['/', '\\', '\0']) && !about.name.starts_with('.'));
    let again = serde_json::to_vec(&about).expect("a description can be written");
    assert_eq!(Package::parse(&again).ok().as_ref(), Some(&about));
    let _none_overflows = (about.size(), about.memory());
}

/// Descriptions that files are read with.
const ABOUT: [&str; 3] = [
    r#"{"format":1,"name":"x","title":"x","task":"embedding","architecture":"bert","license":"MIT",
        "max_tokens":32,"pooling":"mean","normalize":true,"dimensions":16}"#,
    r#"{"format":1,"name":"x","title":"x","task":"emotion","architecture":"roberta","license":"MIT",
        "max_tokens":32,"labels":["a","b","c"],"multi_label":true}"#,
    r#"{"format":1,"name":"x","title":"x","task":"entities","architecture":"gliner","license":"MIT",
        "max_tokens":64,"max_words":16,"max_width":3,"entity_token":"<<ENT>>",
        "separator_token":"<<SEP>>"}"#,
];
/// Texts that a model is asked about: words, none, marks of other languages, and a long one.
const TEXTS: [&str; 4] = ["Ada Lovelace, 1815.", "", "e\u{301} 東京 \u{1f600}\0", "a "];

/// The two files of a package, in `folder`, which is written to. The first byte says which of three
/// descriptions they are read with, the next three how long the tokeniser is; the graph is the rest.
///
/// A model that can be loaded answers each question with a place for each text, or says why not. That
/// the libraries below give up a file with a panic is allowed: it ends a process that the package has
/// to itself. What must not happen is told by the sanitiser.
///
/// True: it could be loaded and answered.
///
/// # Panics
/// When an answer has another number of places.
pub fn files(folder: &Path, data: &[u8]) -> bool {
    let Some((&[which, a, b, c], rest)) = data.split_first_chunk() else {
        return false;
    };
    let length = usize::try_from(u32::from_le_bytes([a, b, c, 0])).unwrap_or(usize::MAX);
    let Some((tokeniser, onnx)) = rest.split_at_checked(length) else {
        return false;
    };
    std::fs::write(folder.join(TOKENIZER), tokeniser).expect("the folder can be written to");
    std::fs::write(folder.join(GRAPH), onnx).expect("the folder can be written to");
    let about = ABOUT[usize::from(which) % ABOUT.len()];
    let about = Package::parse(about.as_bytes()).expect("a description of ours");
    let made = catch_unwind(AssertUnwindSafe(|| places(folder, about)));
    let made = made.unwrap_or_default();
    assert!(made.iter().all(|places| *places == TEXTS.len()));
    !made.is_empty()
}

/// How many places each answer has.
fn places(folder: &Path, about: Package) -> Vec<usize> {
    let Ok(loaded) = Loaded::load(folder, about, 1) else {
        return Vec::new();
    };
    let texts: Vec<String> = TEXTS
        .iter()
        .map(|text| match *text {
            "a " => "a ".repeat(100),
            text => text.to_owned(),
        })
        .collect();
    let mut all = Vec::new();
    let embed = Embed {
        texts: texts.clone(),
        ..Embed::default()
    };
    all.extend(loaded.embed(&embed).map(|made| made.items.len()));
    let classify = Classify {
        texts: texts.clone(),
        ..Classify::default()
    };
    all.extend(loaded.classify(&classify).map(|made| made.items.len()));
    let entities = FindEntities {
        texts,
        labels: vec!["person".into(), "place".into()],
        ..FindEntities::default()
    };
    all.extend(loaded.entities(&entities).map(|made| made.items.len()));
    all
}
