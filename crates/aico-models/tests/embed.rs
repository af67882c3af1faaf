//! Embeddings by the real llama.cpp, compared with a computation of our own.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use aico_contracts::v1::Priority;
use aico_models::engine::embed::{Embedder, Embedding, Pooling};
use aico_models::engine::llama::Gguf;
use support::bert_writer::{Bert, CONTEXT, WIDTH};
use support::gguf_writer::{self, Shape};

fn load(bert: &Bert) -> (Arc<Gguf>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bert.gguf");
    bert.write(&path);
    (Arc::new(support::load_file(&path)), folder)
}

fn embed(embedder: &Embedder, texts: &[&str]) -> Vec<Embedding> {
    let texts = texts.iter().map(ToString::to_string).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (begun, _) = tokio::sync::oneshot::channel();
    let done = embedder.embed(texts, None, Priority::Normal, begun);
    runtime.block_on(done).unwrap()
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

const TEXTS: [&str; 5] = [
    "a cat sat on the mat",
    "the dog ran",
    "x",
    "where do i keep what you told me of the sea",
    "the dog ran",
];

#[test]
fn vectors_are_those_of_the_reference_however_they_are_pooled() {
    for pooling in [None, Some(1), Some(2), Some(3)] {
        let bert = Bert::new(pooling);
        let (model, _folder) = load(&bert);
        let embedder = Embedder::start(model, 1).unwrap();
        for (text, found) in TEXTS.iter().zip(embed(&embedder, &TEXTS)) {
            let wanted = bert.reference(text);
            assert_eq!(found.vector.len(), WIDTH);
            let length = cosine(&found.vector, &found.vector);
            assert!((length - 1.0).abs() < 1e-5, "{length}");
            let same = cosine(&found.vector, &wanted);
            assert!(same > 0.9999, "{pooling:?} {text}: {same}");
            let letters = text.chars().filter(|c| *c != ' ').count();
            assert_eq!(
                (found.tokens as usize, found.truncated),
                (letters + 2, false)
            );
        }
        let other = cosine(&bert.reference(TEXTS[0]), &bert.reference(TEXTS[1]));
        assert!(other < 0.999, "texts that are alike prove nothing: {other}");
    }
}

#[test]
fn many_texts_at_once_have_the_vectors_that_each_has_alone() {
    let (model, _folder) = load(&Bert::new(Some(1)));
    let embedder = Embedder::start(model, 1).unwrap();
    // More than a batch has places for, of lengths that fill it unevenly.
    let many: Vec<String> = (0..100).map(|n| "word ".repeat(1 + n % 11)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let together = embed(&embedder, &many);
    for (text, found) in many.iter().zip(&together) {
        let alone = embed(&embedder, &[text]);
        assert!(cosine(&alone[0].vector, &found.vector) > 0.9999);
        assert_eq!(alone[0].tokens, found.tokens);
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_and_that_is_told() {
    let bert = Bert::new(Some(1));
    let (model, _folder) = load(&bert);
    let embedder = Embedder::start(model, 1).unwrap();
    let long = "abc ".repeat(50);
    let endless = "abc ".repeat(500_000);
    for text in [&long, &endless] {
        let found = &embed(&embedder, &[text])[0];
        assert_eq!((found.tokens as usize, found.truncated), (CONTEXT, true));
        assert!(cosine(&found.vector, &bert.reference(&long)) > 0.9999);
    }
    let just = "abcdef ".repeat(10) + "ab";
    let found = &embed(&embedder, &[&just])[0];
    assert_eq!((found.tokens as usize, found.truncated), (CONTEXT, false));
}

#[test]
fn nothing_and_signs_and_what_looks_like_a_control_token_are_texts() {
    let (model, _folder) = load(&Bert::new(Some(1)));
    let embedder = Embedder::start(model, 1).unwrap();
    for text in ["", " \n", "\u{0}", "😀 naïve", "[SEP][CLS]", "\u{fdd0}"] {
        let found = &embed(&embedder, &[text])[0];
        assert!(
            (cosine(&found.vector, &found.vector) - 1.0).abs() < 1e-5,
            "{text:?}"
        );
    }
    assert!(embed(&embedder, &[]).is_empty());
}

#[test]
fn a_model_that_speaks_makes_none_unless_its_file_says_how() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    gguf_writer::write(&path, &Shape::tiny());
    let model = support::load_file(&path);
    assert!(model.speaks() && model.pooling().is_none());
    assert!(Embedder::start(Arc::new(model), 1).is_err());
    assert_eq!(Pooling::of_metadata(Some(3), "qwen3"), Some(Pooling::Last));
    assert_eq!(Pooling::of_metadata(None, "qwen3"), None);
    // A judge of pairs of texts is no maker of vectors.
    assert_eq!(Pooling::of_metadata(Some(4), "bert"), None);
}

/// A model whose vector of a text is that of its last token.
fn causal() -> Embedder {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let shape = Shape {
        pooling: Some(3),
        ..Shape::tiny()
    };
    gguf_writer::write(&path, &shape);
    let model = Arc::new(support::load_file(&path));
    assert_eq!(model.pooling(), Some(Pooling::Last));
    Embedder::start(model, 1).unwrap()
}

/// Each batch begins with an empty cache.
#[test]
fn a_causal_model_with_last_pooling_gives_the_same_each_time() {
    let embedder = causal();
    let first = embed(&embedder, &TEXTS);
    let again = embed(&embedder, &TEXTS[..1]);
    assert!(cosine(&first[0].vector, &again[0].vector) > 0.9999);
    assert!(cosine(&first[1].vector, &first[4].vector) > 0.9999);
    assert!(cosine(&first[0].vector, &first[1].vector) < 0.999);
}

/// What its first tokens were is in the vector of its last, wherever a text is cut into steps.
#[test]
fn a_causal_model_reads_a_long_text_in_steps() {
    let embedder = causal();
    let rest = "and the rain fell in torrents ".repeat(11);
    let one = "a cat sat on the mat ".repeat(15) + &rest;
    let other = "the dogs ran all day ".repeat(15) + &rest;
    let alone = embed(&embedder, &[&one]);
    assert!(alone[0].tokens > 512 && !alone[0].truncated);
    // Behind others its steps begin elsewhere.
    let around = ["where do i keep it", "x"];
    let together = embed(&embedder, &[around[0], &one, around[1]]);
    let distance = |one: &Embedding, other: &Embedding| -> f32 {
        let both = one.vector.iter().zip(&other.vector);
        both.map(|(a, b)| (a - b) * (a - b)).sum()
    };
    let near = distance(&alone[0], &together[1]);
    let far = distance(&alone[0], &embed(&embedder, &[&other])[0]);
    assert!(near < 1e-6 && far > 100.0 * near, "{near} {far}");
    for (text, found) in around.iter().zip([&together[0], &together[2]]) {
        let wanted = &embed(&embedder, &[*text])[0];
        assert!(distance(wanted, found) < 1e-6, "{text}");
    }
}
