//! A package of two files, from a real server, into its place.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/file_server.rs"]
mod file_server;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aico_contracts::topics;
use aico_contracts::v1::pull::State;
use aico_contracts::v1::{self, Embed, Embedded, Empty};
use aico_models::pull::PullConfig;
use aico_models::pull::url::Url;
use daemon::{Daemon, daemon_with};
use file_server::{FileServer, Reply};
use serde_json::{Value, json};

fn fixture(file: &str) -> Vec<u8> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transformers/tiny-bert");
    std::fs::read(folder.join(file)).unwrap()
}

/// What the fixture's description says, as a catalogue has it.
fn catalogue() -> Value {
    let mut about: Value = serde_json::from_slice(&fixture("aico-model.json")).unwrap();
    let files = about.as_object_mut().unwrap().remove("files").unwrap();
    let file = |name: &str, key: &str| files[name][key].clone();
    json!({"version": 1, "date": "2026-11-27", "models": [{
        "name": "tiny-bert", "title": "Tiny", "summary": "For tests.", "for": "embedding",
        "architecture": "bert", "parameters": 1, "quantization": "F32",
        "context_length": 48, "context_bytes_per_token": 0, "license": "MIT",
        "license_url": "https://example.org", "package": about,
        "sources": ["https://hub.test/a/model.onnx"],
        "size": file("model.onnx", "size"), "sha256": file("model.onnx", "sha256"),
        "tokenizer": {"sources": ["https://hub.test/a/tokenizer.json"],
            "size": file("tokenizer.json", "size"), "sha256": file("tokenizer.json", "sha256")},
    }]})
}

struct World {
    daemon: Daemon,
    server: FileServer,
}

async fn world(catalogue: Value, tokenizer: Vec<u8>) -> World {
    let graph = fixture("model.onnx");
    let server = FileServer::start(move |asked| match asked.path.rsplit('/').next() {
        Some("model.onnx") => Reply::file(&graph, asked),
        Some("tokenizer.json") => Reply::file(&tokenizer, asked),
        _ => Reply::status(404),
    });
    let mirror = Url::parse(&server.url()).unwrap();
    let daemon = daemon_with("modelservice", |config| {
        let file = config.models.parent().unwrap().join("catalogue.json");
        std::fs::write(&file, catalogue.to_string()).unwrap();
        let mut pull = PullConfig::new("", config.models.clone());
        pull.catalogue = Some(file);
        pull.mirror = Some(mirror);
        pull.limits.wait = Duration::from_millis(20);
        pull.limits.tries = 2;
        config.pull = Some(pull);
    })
    .await;
    World { daemon, server }
}

impl World {
    /// The graph of the package, in its place.
    fn graph(&self) -> PathBuf {
        let folder = self.daemon.folder.path();
        folder.join("models/packages/tiny-bert/model.onnx")
    }

    /// Whether the catalogue has the package as here.
    async fn is_here(&self) -> bool {
        let told: v1::Catalogue = self
            .daemon
            .ask(topics::MODELS_CATALOGUE, &Empty {})
            .await
            .unwrap();
        told.items[0].present
    }

    async fn pull(&self) -> v1::Pull {
        let question = v1::PullModel {
            name: "tiny-bert".into(),
            use_then: false,
        };
        let _: v1::Pull = self
            .daemon
            .ask(topics::MODELS_PULL, &question)
            .await
            .unwrap();
        for _ in 0..6000 {
            let list: v1::PullList = self
                .daemon
                .ask(topics::MODELS_PULLS, &Empty {})
                .await
                .unwrap();
            let pull = list.items.into_iter().next().unwrap();
            if matches!(pull.state(), State::Done | State::Failed) {
                return pull;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not end");
    }

    fn downloads(&self) -> Vec<PathBuf> {
        let folder = self.daemon.folder.path().join("models/downloads");
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_is_pulled_asked_and_not_pulled_again() {
    let world = world(catalogue(), fixture("tokenizer.json")).await;
    let pull = world.pull().await;
    assert_eq!(pull.state(), State::Done, "{:?}", pull.fault);
    let whole = fixture("model.onnx").len() + fixture("tokenizer.json").len();
    assert_eq!(
        (pull.total_bytes, pull.done_bytes),
        (whole as u64, whole as u64)
    );
    let asked = Embed {
        texts: vec!["a".into()],
        ..Embed::default()
    };
    let mut found = Err(());
    // It is on the shelf a moment after the download has ended.
    for _ in 0..500 {
        let made: Result<Embedded, _> = world.daemon.ask(topics::MODELS_EMBED, &asked).await;
        found = made.map_err(drop);
        if found.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(found.unwrap().model, "tiny-bert");
    assert_eq!(world.downloads(), [] as [PathBuf; 0]);
    let told: v1::Catalogue = world
        .daemon
        .ask(topics::MODELS_CATALOGUE, &Empty {})
        .await
        .unwrap();
    assert!(told.items[0].present && told.items[0].size_bytes == whole as u64);
    let before = world.server.asked().len();
    assert_eq!(world.pull().await.state(), State::Done);
    assert_eq!(
        world.server.asked().len(),
        before,
        "nothing is fetched twice"
    );
    // One of its files was cut: then it is not here.
    let graph = world.graph();
    let file = std::fs::File::options().write(true).open(&graph);
    file.unwrap().set_len(100).unwrap();
    assert!(!world.is_here().await);
    assert_eq!(world.pull().await.state(), State::Done);
    assert_eq!(std::fs::read(graph).unwrap(), fixture("model.onnx"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_that_only_looks_whole_is_fetched_again_when_somebody_agrees() {
    let world = world(catalogue(), fixture("tokenizer.json")).await;
    assert_eq!(world.pull().await.state(), State::Done);
    let graph = world.graph();
    let mut other = fixture("model.onnx");
    let middle = other.len() / 2;
    other[middle] ^= 1;
    std::fs::write(&graph, &other).unwrap();
    let before = world.server.asked().len();
    let pull = world.pull().await;
    assert_eq!(pull.state(), State::Failed);
    assert_eq!(pull.fault.unwrap().code, "model-damaged");
    assert_eq!(world.server.asked().len(), before, "nobody agreed to that");
    assert_eq!(std::fs::read(&graph).unwrap(), other);
    assert!(!world.is_here().await);
    assert_eq!(world.pull().await.state(), State::Done);
    assert_eq!(std::fs::read(graph).unwrap(), fixture("model.onnx"));
    assert_eq!(world.downloads(), [] as [PathBuf; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_that_can_not_be_read_is_not_taken_for_a_damaged_one() {
    let world = world(catalogue(), fixture("tokenizer.json")).await;
    assert_eq!(world.pull().await.state(), State::Done);
    let graph = world.graph();
    let allow = |mode| std::fs::set_permissions(&graph, Permissions::from_mode(mode)).unwrap();
    allow(0o000);
    if std::fs::read(&graph).is_ok() {
        // Nothing is kept from root.
        return;
    }
    let before = world.server.asked().len();
    let pull = world.pull().await;
    assert_eq!(pull.state(), State::Failed);
    assert_eq!(pull.fault.unwrap().code, "download-failed");
    let told: v1::Catalogue = world
        .daemon
        .ask(topics::MODELS_CATALOGUE, &Empty {})
        .await
        .unwrap();
    assert!(told.items[0].present, "nothing says that it is wrong");
    allow(0o600);
    assert_eq!(world.pull().await.state(), State::Done);
    assert_eq!(world.server.asked().len(), before, "it was whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tokeniser_than_the_catalogues_is_no_package() {
    let mut other = fixture("tokenizer.json");
    let middle = other.len() / 2;
    other[middle] ^= 1;
    let world = world(catalogue(), other).await;
    let pull = world.pull().await;
    assert_eq!(pull.state(), State::Failed);
    assert!(
        !world
            .daemon
            .folder
            .path()
            .join("models/packages/tiny-bert")
            .exists()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_vouches_for_is_refused_before_anything_is_asked() {
    for at in ["/models/0/sha256", "/models/0/tokenizer/sha256"] {
        let mut catalogue = catalogue();
        *catalogue.pointer_mut(at).unwrap() = Value::Null;
        let world = world(catalogue, fixture("tokenizer.json")).await;
        let question = v1::PullModel {
            name: "tiny-bert".into(),
            use_then: false,
        };
        let refused: Result<v1::Pull, _> = world.daemon.ask(topics::MODELS_PULL, &question).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.fault().unwrap().code, "catalogue-unusable");
        assert!(world.server.asked().is_empty());
    }
}
