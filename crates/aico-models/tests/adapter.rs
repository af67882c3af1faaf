//! Adapters (LoRA): put on a model by the real llama.cpp, looked at before that, and as models of the
//! list.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_bus::RequestError;
use aico_contracts::v1::ModelState;
use aico_contracts::v1::model_state::Status;
use aico_models::batch::Batcher;
use aico_models::engine::{Engine, EngineConfig, Entry, Model, Vocabulary};
use aico_models::gguf::GgufError;
use aico_models::gguf::lora::{self, LoraError};
use aico_models::supervisor::{Adapter, ModelRegistryStore};
use daemon::{daemon_with, record_of};
use sha2::{Digest, Sha256};
use support::gguf_writer::{self, Head, Lora, Shape, Weights};
use support::{GREEDY, finish, load_file, request};

/// A model in a folder of its own.
fn model() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    gguf_writer::write(&path, &Shape::tiny());
    (folder, path)
}

fn write(path: &Path, lora: &Lora) -> PathBuf {
    gguf_writer::write_lora(path, &Shape::tiny(), lora);
    path.to_owned()
}

fn config(sequences: u32) -> EngineConfig {
    EngineConfig {
        threads: 1,
        context: 256,
        sequences,
    }
}

/// So short that it is one step however fast the machine is.
const ASKED: &str = "Hi";

/// The likeliest answer.
fn said(model: &Path, adapter: Option<&Path>) -> String {
    let mut gguf = load_file(model);
    if let Some(adapter) = adapter {
        lora::check(adapter, model).unwrap();
        gguf.adapt(adapter).unwrap();
    }
    let prompt = gguf.tokenize(ASKED);
    let batcher = Batcher::start(Arc::new(gguf), config(1)).unwrap();
    finish(batcher.submit(request(prompt, 24))).0
}

#[test]
fn an_adapter_changes_what_is_said_and_one_of_zeros_does_not() {
    let (folder, model) = model();
    let adapter = |name: &str, lora: &Lora| write(&folder.path().join(name), lora);
    let strong = adapter("strong", &Lora::strong());
    let half = Lora {
        weights: Weights::F16,
        ..Lora::strong()
    };
    let half = adapter("half", &half);
    let zeros = Lora {
        scale: 0.0,
        ..Lora::strong()
    };
    let zeros = adapter("zeros", &zeros);

    let plain = said(&model, None);
    assert!(!plain.is_empty());
    assert_eq!(said(&model, Some(&zeros)), plain);
    let changed = said(&model, Some(&strong));
    assert_ne!(changed, plain);
    assert_eq!(said(&model, Some(&strong)), changed);
    assert_ne!(said(&model, Some(&half)), plain);
}

/// What each of two sequences says when both are computed together.
fn both(model: &Path, adapter: Option<&Path>) -> [Vec<i32>; 2] {
    let mut gguf = load_file(model);
    if let Some(adapter) = adapter {
        gguf.adapt(adapter).unwrap();
    }
    let prompt = gguf.tokenize(ASKED);
    let mut engine = gguf.open(&config(2)).unwrap();
    let mut samplers = [engine.sampler(&GREEDY), engine.sampler(&GREEDY)];
    let mut said = [Vec::new(), Vec::new()];
    let mut next = [prompt.clone(), prompt];
    let mut position = 0;
    for _ in 0..16 {
        let mut batch = Vec::new();
        for (sequence, tokens) in next.iter().enumerate() {
            let last = tokens.len() - 1;
            batch.extend(tokens.iter().enumerate().map(|(at, token)| Entry {
                token: *token,
                position: position + at,
                sequence,
                output: at == last,
            }));
        }
        engine.decode(&batch).unwrap();
        let each = next[0].len();
        position += each;
        for (sequence, sampler) in samplers.iter_mut().enumerate() {
            let token = engine.sample(sampler, sequence * each + each - 1);
            said[sequence].push(token.0);
            next[sequence] = vec![token];
        }
    }
    said
}

#[test]
fn an_adapter_is_on_every_sequence_of_a_context() {
    let (folder, model) = model();
    let adapter = write(&folder.path().join("a"), &Lora::strong());
    let each = both(&model, None)
        .into_iter()
        .zip(both(&model, Some(&adapter)));
    for (plain, changed) in each {
        assert_ne!(plain, changed);
    }
}

/// A file that may be an adapter, with this head and its data.
fn forged(path: &Path, change: impl FnOnce(&mut Head)) {
    let mut head = gguf_writer::lora_entries();
    change(&mut head);
    let mut bytes = head.bytes();
    let data = usize::try_from(head.offset).unwrap();
    bytes.resize(bytes.len() + data, 0);
    std::fs::write(path, bytes).unwrap();
}

/// A pair for the query of the first layer: of 64 columns and 64 rows.
fn pair(head: &mut Head, a: &[u64], b: &[u64], kind: u32) {
    let name = "blk.0.attn_q.weight";
    let bytes = |shape: &[u64]| match kind {
        2 => shape.iter().product::<u64>() / 32 * 18,
        1 => shape.iter().product::<u64>() * 2,
        _ => shape.iter().product::<u64>() * 4,
    };
    head.tensor(&format!("{name}.lora_a"), a, kind, bytes(a));
    head.tensor(&format!("{name}.lora_b"), b, kind, bytes(b));
}

type Forgery = (&'static str, fn(&mut Head));

const FORGERIES: &[Forgery] = &[
    ("no tensors", |_| {}),
    ("alpha is a text", |head| {
        head.text("adapter.lora.alpha", "8");
        pair(head, &[64, 4], &[4, 64], 0);
    }),
    ("alpha is no number", |head| {
        head.float("adapter.lora.alpha", f32::NAN);
        pair(head, &[64, 4], &[4, 64], 0);
    }),
    ("switched on by words", |head| {
        head.numbers("adapter.alora.invocation_tokens", &[1, 2]);
        pair(head, &[64, 4], &[4, 64], 0);
    }),
    ("one half", |head| {
        head.tensor("blk.0.attn_q.weight.lora_a", &[64, 4], 0, 64 * 4 * 4);
    }),
    ("no part of an adapter", |head| {
        pair(head, &[64, 4], &[4, 64], 0);
        head.tensor("blk.0.attn_q.weight", &[64], 0, 64 * 4);
    }),
    ("not in the model", |head| {
        head.tensor("blk.9.attn_q.weight.lora_a", &[64, 4], 0, 64 * 4 * 4);
        head.tensor("blk.9.attn_q.weight.lora_b", &[4, 64], 0, 64 * 4 * 4);
    }),
    ("other columns", |head| {
        pair(head, &[32, 4], &[4, 64], 0);
    }),
    ("other rows", |head| {
        pair(head, &[64, 4], &[4, 65], 0);
    }),
    ("two ranks", |head| {
        pair(head, &[64, 4], &[5, 64], 0);
    }),
    ("no rank", |head| pair(head, &[64, 0], &[0, 64], 0)),
    ("many planes", |head| {
        pair(head, &[64, 4, 3], &[4, 64, 3], 0);
    }),
    ("another type", |head| pair(head, &[64, 32], &[32, 64], 2)),
    ("a rank that wraps", |head| {
        head.tensor_at("blk.0.attn_q.weight.lora_a", &[64, 1 << 62], 0, 0);
    }),
    ("embeddings the other way round", |head| {
        let name = "token_embd.weight";
        head.tensor(&format!("{name}.lora_a"), &[64, 4], 0, 64 * 4 * 4);
        head.tensor(&format!("{name}.lora_b"), &[4, 300], 0, 300 * 4 * 4);
    }),
];

#[test]
fn what_is_no_adapter_for_a_model_is_told_before_the_library_sees_it() {
    let (folder, model) = model();
    let path = folder.path().join("a.gguf");
    for (name, change) in FORGERIES {
        forged(&path, change);
        assert!(lora::check(&path, &model).is_err(), "{name}");
    }
    for (a, b, kind) in [
        ([64, 4], [4, 64], 0),
        ([64, 1], [1, 64], 1),
        ([64, 300], [300, 64], 0),
    ] {
        forged(&path, |head| pair(head, &a, &b, kind));
        lora::check(&path, &model).unwrap_or_else(|error| panic!("{a:?}: {error}"));
    }

    let refused = |path: &Path| lora::check(path, &model).unwrap_err();
    assert!(matches!(refused(&model), LoraError::NoLora));
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 3, 20, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(refused(&path), LoraError::File(_)), "{length}");
    }
    assert!(matches!(
        refused(&folder.path().join("nowhere")),
        LoraError::File(GgufError::Io(_))
    ));
    let mut head = Head::default();
    head.text("general.type", "adapter");
    head.text("adapter.type", "lora");
    head.text("general.architecture", "qwen3");
    std::fs::write(&path, head.bytes()).unwrap();
    let told = refused(&path).to_string();
    assert!(told.contains("qwen3") && told.contains("llama"), "{told}");
}

#[test]
fn any_byte_of_the_head_of_an_adapter_may_be_flipped_without_a_panic() {
    let (folder, model) = model();
    let path = folder.path().join("a.gguf");
    forged(&path, |head| {
        head.float("adapter.lora.alpha", 8.0);
        pair(head, &[64, 4], &[4, 64], 0);
    });
    let whole = std::fs::read(&path).unwrap();
    let head = whole.len() - 2 * 64 * 4 * 4;
    for at in 0..head {
        for flip in [1, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            std::fs::write(&path, bytes).unwrap();
            let _either = lora::check(&path, &model);
        }
    }
}

/// The same file without an output of its own: its embeddings are that as well.
#[test]
fn an_adapter_for_embeddings_that_are_the_output_too_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, adapter) = (folder.path().join("m"), folder.path().join("a"));
    let name = "token_embd.weight";
    let embeddings = |head: &mut Head| {
        head.tensor(&format!("{name}.lora_a"), &[4, 300], 0, 300 * 4 * 4);
        head.tensor(&format!("{name}.lora_b"), &[4, 64], 0, 64 * 4 * 4);
    };
    forged(&adapter, embeddings);
    gguf_writer::write(&model, &Shape::tiny());
    lora::check(&adapter, &model).unwrap();
    let mut tied = Head::default();
    tied.text("general.architecture", "llama");
    tied.tensor(name, &[64, 300], 0, 64 * 300 * 4);
    let mut bytes = tied.bytes();
    bytes.resize(bytes.len() + 64 * 300 * 4, 0);
    std::fs::write(&model, bytes).unwrap();
    let told = lora::check(&adapter, &model).unwrap_err().to_string();
    assert!(told.contains("output"), "{told}");
}

fn code(error: &RequestError) -> String {
    error.fault().unwrap().code.clone()
}

fn ended(state: &ModelState) -> bool {
    state.fault.is_some() || state.status() == Status::Ready
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_with_an_adapter_is_a_model_of_its_own() {
    let daemon = daemon_with("modelservice", |_| {}).await;
    let folder = daemon.folder.path().to_owned();
    let (base, style) = (folder.join("base.gguf"), folder.join("style.gguf"));
    gguf_writer::write(&base, &Shape::tiny());
    write(&style, &Lora::strong());

    let plain = daemon.add(&base).await.unwrap();
    let changed = daemon.add_with(&base, Some(&style)).await.unwrap();
    assert_ne!(plain.id, changed.id);
    assert_eq!(changed.name, "Random + style");
    assert_eq!(changed.file, plain.file);
    assert!(plain.adapter.is_none() && changed.adapter.is_some());
    // Added again they are the same two.
    let again = daemon.add_with(&base, Some(&style)).await.unwrap();
    assert_eq!(again.id, changed.id);
    assert_eq!(daemon.add(&base).await.unwrap().id, plain.id);
    assert_eq!(daemon.models().await.len(), 2);

    for model in [&plain, &changed] {
        daemon.choose(model).await.unwrap();
        let ready = |state: &ModelState| ended(state) && state.model == model.id;
        let state = daemon.state_that(ready).await;
        assert_eq!(state.fault, None);
        assert!(daemon.generate("Hi", 3).await.end.is_some());
    }

    // What is no adapter is not added.
    let refused = daemon.add_with(&base, Some(&base)).await.unwrap_err();
    assert_eq!(code(&refused), "not-a-model");
    let nowhere = folder.join("nowhere.gguf");
    let refused = daemon.add_with(&base, Some(&nowhere)).await.unwrap_err();
    assert_eq!(code(&refused), "model-missing");
    std::fs::write(&nowhere, &std::fs::read(&style).unwrap()[..2000]).unwrap();
    let refused = daemon.add_with(&base, Some(&nowhere)).await.unwrap_err();
    assert_eq!(code(&refused), "model-damaged");
    assert_eq!(daemon.models().await.len(), 2);
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_that_is_gone_changed_or_hostile_ends_in_a_fault_that_names_it() {
    let daemon = daemon_with("modelservice", |_| {}).await;
    let folder = daemon.folder.path().to_owned();
    let (base, style) = (folder.join("base.gguf"), folder.join("style.gguf"));
    gguf_writer::write(&base, &Shape::tiny());
    write(&style, &Lora::strong());
    let model = daemon.add_with(&base, Some(&style)).await.unwrap();

    let gone = folder.join("gone");
    std::fs::rename(&style, &gone).unwrap();
    let error = daemon.choose(&model).await.unwrap_err();
    assert_eq!(code(&error), "model-missing");
    let fault = error.fault().unwrap();
    assert!(fault.detail.contains("style.gguf"), "{fault}");

    // As long as before, and another: the process notices.
    let other = Lora {
        seed: 6,
        ..Lora::strong()
    };
    write(&style, &other);
    daemon.choose(&model).await.unwrap();
    let state = daemon.state_that(ended).await;
    let fault = state.fault.unwrap();
    assert_eq!(fault.code, "model-damaged");
    assert!(fault.detail.contains("style.gguf"), "{fault}");

    // Whatever the daemon was told of them: they never come to the library.
    for (name, change) in FORGERIES {
        let path = folder.join("hostile.gguf");
        forged(&path, change);
        let path = path.canonicalize().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut record = record_of(&base);
        record.adapter = Some(Adapter {
            size: bytes.len() as u64,
            modified_ns: record_of(&path).modified_ns,
            sha256: Sha256::digest(&bytes).into(),
            path,
        });
        let id = record.id;
        daemon.registry.put(record.clone()).await.unwrap();
        daemon.choose(&record.to_message()).await.unwrap();
        let of_it = |state: &ModelState| state.model == id.to_vec() && ended(state);
        let state = daemon.state_that(of_it).await;
        let fault = state.fault.unwrap();
        assert_eq!(fault.code, "model-refused", "{name}: {fault}");
        assert!(fault.detail.contains("hostile.gguf"), "{name}: {fault}");
        daemon.registry.remove(id).await.unwrap();
    }

    std::fs::rename(&gone, &style).unwrap();
    daemon.choose(&model).await.unwrap();
    let good = |state: &ModelState| state.model == model.id && state.status() == Status::Ready;
    daemon.state_that(good).await;
    assert!(daemon.generate("Hi", 3).await.end.is_some());
    daemon.manager.stop().await;
}
