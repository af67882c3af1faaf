//! Files that the reader of heads refuses, handed to the process of a model all the same: it ends in a
//! fault or by itself, within its limits, and the next model answers. And files that the reader itself
//! comes to grief with.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/gguf_writer.rs"]
mod gguf_writer;

use std::path::Path;
use std::time::Duration;

use aico_bus::Meta;
use aico_contracts::topics;
use aico_contracts::v1;
use aico_contracts::v1::model_state::Status;
use aico_models::gguf::Description;
use aico_models::supervisor::{ModelRegistryStore as _, Program};
use daemon::{Daemon, daemon_with, record_of};
use gguf_writer::{Head, Shape};

/// The title of a file that its reader came to no answer about.
const UNREAD: &str = "The file could not be read as a model";

fn small() -> Shape {
    Shape {
        layers: 1,
        ..Shape::tiny()
    }
}

/// A whole file, with the head that `change` makes of a good one's parts.
fn forged(path: &Path, change: impl FnOnce(&mut Head)) {
    let whole = path.with_extension("whole");
    gguf_writer::write(&whole, &small());
    let bytes = std::fs::read(&whole).unwrap();
    let mut head = gguf_writer::head(&small());
    let data = bytes[head.bytes().len()..].to_vec();
    change(&mut head);
    let mut bytes = head.bytes();
    bytes.extend(data);
    std::fs::write(path, bytes).unwrap();
}

/// Changes eight bytes of a good file.
fn patched(path: &Path, at: usize, value: u64) {
    gguf_writer::write(path, &small());
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

/// Replaces the number that an entry of 32 bits has.
fn number(head: &mut Head, key: &str, value: u32) {
    let at = head
        .entries
        .windows(key.len())
        .position(|part| part == key.as_bytes());
    let at = at.unwrap() + key.len() + 4;
    head.entries[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// By the reader, also in its process, which came to that answer.
async fn is_refused(daemon: &Daemon, file: &Path) {
    let name = file.display();
    assert!(Description::of_file(file).is_err(), "{name}");
    let refused = daemon.add(file).await.unwrap_err();
    let fault = refused.fault().unwrap();
    let known = ["not-a-model", "model-damaged"].contains(&fault.code.as_str());
    assert!(known && fault.title != UNREAD, "{name}: {fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_files_end_the_process_within_bounds_and_the_next_model_answers() {
    let daemon = daemon_with("modelservice", |_| {}).await;
    let path = |name: &str| daemon.folder.path().join(format!("{name}.gguf"));
    // (name, whether the reader of heads sees it)
    let mut files = Vec::new();
    for (name, at, value) in [
        ("a billion tensors", 8, 1_000_000_000_u64),
        ("tensors without end", 8, u64::MAX),
        ("a billion entries", 16, 1_000_000_000),
        ("entries without end", 16, u64::MAX),
    ] {
        patched(&path(name), at, value);
        files.push((name, true));
    }
    for (name, offset) in [
        ("an offset beyond the end", 1_u64 << 40),
        ("an offset that wraps", u64::MAX - 31),
        ("an offset between", 33),
    ] {
        forged(&path(name), |head| {
            let at = head.tensors.len() - 8;
            head.tensors[at..].copy_from_slice(&offset.to_le_bytes());
        });
        files.push((name, true));
    }
    forged(&path("an array without end"), |head| {
        head.key("x.array", 9);
        head.entries.extend(4_u32.to_le_bytes());
        head.entries.extend(u64::MAX.to_le_bytes());
    });
    files.push(("an array without end", true));
    forged(&path("a tensor as large as the world"), |head| {
        head.tensor_at("x", &[1 << 31, 1 << 31], 0, 0);
    });
    files.push(("a tensor as large as the world", true));
    // What only the library can know.
    for (name, key, value) in [
        ("no heads", "llama.attention.head_count", 0_u32),
        (
            "more heads than width",
            "llama.attention.head_count",
            u32::MAX,
        ),
        ("layers without end", "llama.block_count", u32::MAX),
        ("a context without end", "llama.context_length", u32::MAX),
        ("a width of none", "llama.embedding_length", 0),
        (
            "a token that there is not",
            "tokenizer.ggml.eos_token_id",
            u32::MAX - 1,
        ),
    ] {
        forged(&path(name), |head| number(head, key, value));
        files.push((name, false));
    }

    for (name, seen) in files {
        let file = path(name);
        if seen {
            is_refused(&daemon, &file).await;
        }
        let record = record_of(&file);
        daemon.registry.put(record.clone()).await.unwrap();
        let model = record.to_message();
        if daemon.choose(&model).await.is_err() {
            continue;
        }
        let ended = |state: &aico_contracts::v1::ModelState| {
            state.fault.is_some() || state.status() == Status::Ready
        };
        let state = daemon.state_that(ended).await;
        match state.fault {
            Some(fault) => {
                let known = [
                    "model-refused",
                    "model-failed",
                    "model-damaged",
                    "model-too-large",
                ];
                assert!(known.contains(&fault.code.as_str()), "{name}: {fault}");
            }
            // The library made sense of it: it answers, or says that it can't.
            None => {
                assert!(!seen, "{name}");
                let answer = daemon.generate("Hi", 3).await;
                assert!(answer.end.is_some() || answer.error.is_some(), "{name}");
            }
        }
        daemon.registry.remove(record.id).await.unwrap();
    }

    let good = path("good");
    gguf_writer::write(&good, &Shape::tiny());
    let model = daemon.add(&good).await.unwrap();
    daemon.choose(&model).await.unwrap();
    daemon
        .state_that(|state| state.status() == Status::Ready)
        .await;
    assert!(daemon.generate("Hi", 3).await.end.is_some());
    daemon.manager.stop().await;
}

/// A program whose process does not come to an answer, as one does that a file has taken over.
fn reader(part: &str) -> Program {
    Program::new(env!("CARGO_BIN_EXE_aico-models-child"), part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_ends_or_holds_up_the_process_that_reads_it_ends_in_a_fault_and_all_else_goes_on()
 {
    for (part, limit) in [
        ("crash", daemon::SOON),
        ("flood", daemon::SOON),
        ("hang", Duration::from_millis(300)),
    ] {
        let daemon = daemon_with("modelservice", |config| {
            config.reader = reader(part);
            config.read_limit = limit;
        })
        .await;
        let path = daemon.folder.path().join("m.gguf");
        gguf_writer::write(&path, &small());
        for adapter in [None, Some(path.as_path())] {
            let refused = daemon.add_with(&path, adapter).await.unwrap_err();
            let fault = refused.fault().unwrap();
            assert_eq!(fault.code, "not-a-model", "{part}: {fault}");
            assert_eq!(fault.title, UNREAD);
            assert!(fault.detail.contains("m.gguf"), "{part}: {fault}");
            assert!(!fault.what_to_do.is_empty());
        }
        assert!(daemon.models().await.is_empty());
        // One that was added before is listed and runs: what it is good for is not known.
        daemon.registry.put(record_of(&path)).await.unwrap();
        let models = daemon.models().await;
        assert!(models[0].present && models[0].capabilities.is_empty());
        daemon.choose(&models[0]).await.unwrap();
        daemon
            .state_that(|state| state.status() == Status::Ready)
            .await;
        assert!(daemon.generate("Hi", 3).await.end.is_some(), "{part}");
        daemon.manager.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_or_gets_no_memory_or_knows_no_files_says_nothing_of_the_file() {
    for script in [
        "kill -9 $$",
        "echo 'memory allocation of 9 bytes failed' >&2; exit 134",
        "echo '{\"failed\":\"launch\"}'; exit 1",
    ] {
        let daemon = daemon_with("modelservice", |config| {
            config.reader = Program {
                path: "/bin/sh".into(),
                arguments: vec!["-c".into(), script.into()],
                environment: Vec::new(),
            };
        })
        .await;
        let path = daemon.folder.path().join("m.gguf");
        gguf_writer::write(&path, &small());
        let refused = daemon.add(&path).await.unwrap_err();
        let fault = refused.fault().unwrap();
        assert_eq!(fault.code, "model-failed", "{script}: {fault}");
        assert_eq!(fault.title, UNREAD);
        assert!(!fault.what_to_do.contains("harm"), "{script}: {fault}");
        daemon.manager.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_file_is_read_models_are_run() {
    let daemon = daemon_with("modelservice", |config| {
        config.reader = reader("hang");
        config.read_limit = Duration::from_secs(3600);
    })
    .await;
    let path = daemon.folder.path().join("m.gguf");
    gguf_writer::write(&path, &small());
    let record = record_of(&path);
    daemon.registry.put(record.clone()).await.unwrap();
    let answered = async {
        daemon.choose(&record.to_message()).await.unwrap();
        daemon
            .state_that(|state| state.status() == Status::Ready)
            .await;
        daemon.generate("Hi", 3).await
    };
    let question = v1::AddModel {
        path: path.display().to_string(),
        adapter: None,
        name: None,
    };
    // It waits longer than all that goes on meanwhile.
    let meta = Meta::default().deadline_in(daemon::SOON * 10);
    let adding = daemon
        .asker
        .request::<_, v1::Model>(topics::MODELS_ADD, &question, meta);
    let answer = tokio::select! {
        biased;
        _read = adding => None,
        answer = answered => Some(answer),
    };
    assert!(answer.is_some_and(|answer| answer.end.is_some()));
    daemon.manager.stop().await;
}
