//! Packages in the daemon: real processes, real files, a real bus.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/gguf_writer.rs"]
mod gguf_writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aico_bus::RequestError;
use aico_contracts::topics;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{
    AddPackage, Classified, Classify, Embed, Embedded, Empty, FindEntities, FoundEntities,
    ModelPackage, PackageList, RemovePackage,
};
use aico_models::supervisor::{MemoryProbe, Usage};
use daemon::{Daemon, SOON, alive, daemon, daemon_with, kill};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/transformers")
        .join(name)
}

impl Daemon {
    async fn add_package(&self, folder: &Path) -> Result<ModelPackage, RequestError> {
        let path = folder.display().to_string();
        self.ask(topics::MODELS_ADD_PACKAGE, &AddPackage { path })
            .await
    }

    async fn packages(&self) -> Vec<ModelPackage> {
        let list: PackageList = self.ask(topics::MODELS_PACKAGES, &Empty {}).await.unwrap();
        list.items
    }

    async fn package(&self, name: &str) -> ModelPackage {
        let all = self.packages().await;
        all.into_iter()
            .find(|package| package.name == name)
            .unwrap()
    }

    async fn embed(&self, texts: &[&str]) -> Result<Embedded, RequestError> {
        let texts = texts.iter().map(ToString::to_string).collect();
        self.ask(
            topics::MODELS_EMBED,
            &Embed {
                texts,
                ..Embed::default()
            },
        )
        .await
    }

    /// The package, once it is in this state.
    async fn package_is(&self, name: &str, status: Status) -> ModelPackage {
        let end = tokio::time::Instant::now() + SOON;
        loop {
            let package = self.package(name).await;
            if package.status() == status {
                return package;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{name} is not {status:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn code(error: &RequestError) -> &str {
    error.fault().map_or("", |fault| fault.code.as_str())
}

/// A copy of a package, changed. What the description says of its files is taken out.
fn changed(daemon: &Daemon, name: &str, change: impl FnOnce(&Path)) -> PathBuf {
    let folder = daemon.folder.path().join(format!("changed-{name}"));
    let _none = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    for file in ["model.onnx", "tokenizer.json", "aico-model.json"] {
        std::fs::copy(fixture(name).join(file), folder.join(file)).unwrap();
    }
    describe(&folder, |about| {
        about.as_object_mut().unwrap().remove("files");
    });
    change(&folder);
    folder
}

fn describe(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("aico-model.json");
    let mut about: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut about);
    std::fs::write(path, about.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_are_added_asked_and_removed() {
    let daemon = daemon("modelservice").await;
    assert_eq!(code(&daemon.embed(&["a"]).await.unwrap_err()), "no-model");
    for name in [
        "tiny-bert",
        "tiny-xlm-roberta",
        "tiny-sentiment",
        "tiny-emotion",
        "tiny-gliner",
    ] {
        let added = daemon.add_package(&fixture(name)).await.unwrap();
        assert_eq!(
            (added.name.as_str(), added.status()),
            (name, Status::Stopped)
        );
    }
    let all = daemon.packages().await;
    assert_eq!(all.iter().filter(|package| package.chosen).count(), 4);
    assert!(
        !daemon.package("tiny-xlm-roberta").await.chosen,
        "the first one stays"
    );

    let many: Vec<String> = (0..100)
        .map(|n| format!("text {}", "x ".repeat(n % 60)))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let found = daemon.embed(&many).await.unwrap();
    assert_eq!(
        (found.model.as_str(), found.items.len()),
        ("tiny-bert", 100)
    );
    let again = daemon.embed(&many[7..8]).await.unwrap();
    for (one, other) in found.items[7].vector.iter().zip(&again.items[0].vector) {
        assert!(
            (one - other).abs() < 1e-5,
            "its place among others changes nothing"
        );
    }
    assert!(found.items.iter().any(|item| item.truncated));
    assert!(daemon.embed(&[]).await.unwrap().items.is_empty());

    let other = Embed {
        model: "tiny-xlm-roberta".into(),
        texts: vec!["a".into()],
        dimensions: 3,
    };
    let other: Embedded = daemon.ask(topics::MODELS_EMBED, &other).await.unwrap();
    assert_eq!(other.items[0].vector.len(), 3);
    for task in ["sentiment", "emotion"] {
        let asked = Classify {
            task: task.into(),
            texts: vec!["so happy".into()],
            model: String::new(),
        };
        let found: Classified = daemon.ask(topics::MODELS_CLASSIFY, &asked).await.unwrap();
        assert_eq!(found.model, format!("tiny-{task}"));
        assert!(found.items[0].labels.len() >= 3);
    }
    let asked = FindEntities {
        texts: vec!["Ada Lovelace was born in London.".into()],
        labels: vec!["person".into(), "place".into()],
        ..FindEntities::default()
    };
    let found: FoundEntities = daemon.ask(topics::MODELS_ENTITIES, &asked).await.unwrap();
    assert!(!found.items[0].entities.is_empty());

    for (asked, wanted) in [
        (
            Embed {
                model: "none".into(),
                texts: vec!["a".into()],
                dimensions: 0,
            },
            "not-found",
        ),
        (
            Embed {
                model: "tiny-gliner".into(),
                texts: vec!["a".into()],
                dimensions: 0,
            },
            "invalid",
        ),
        (
            Embed {
                dimensions: 9999,
                texts: vec!["a".into()],
                ..Embed::default()
            },
            "invalid",
        ),
        (
            Embed {
                texts: vec![String::new(); 3000],
                ..Embed::default()
            },
            "too-long",
        ),
        (
            Embed {
                texts: vec!["x".repeat(300 << 10)],
                ..Embed::default()
            },
            "too-long",
        ),
    ] {
        let refused: Result<Embedded, _> = daemon.ask(topics::MODELS_EMBED, &asked).await;
        assert_eq!(code(&refused.unwrap_err()), wanted);
    }
    let long = Embed {
        model: "tiny-xlm-roberta".into(),
        texts: vec!["a".into()],
        dimensions: 9999,
    };
    let refused: Result<Embedded, _> = daemon.ask(topics::MODELS_EMBED, &long).await;
    let RequestError::Fault(refused) = refused.unwrap_err() else {
        panic!("a fault");
    };
    assert!(refused.title.contains("dimensions"), "{refused:?}");
    assert!(
        refused.what_to_do.starts_with("Ask for 1 to "),
        "{refused:?}"
    );
    let same = FindEntities {
        labels: vec!["a".into(), " a".into()],
        ..asked.clone()
    };
    let none = FindEntities {
        labels: Vec::new(),
        ..asked.clone()
    };
    let odd = FindEntities {
        threshold: f32::NAN,
        ..asked
    };
    for asked in [same, none, odd] {
        let refused: Result<FoundEntities, _> = daemon.ask(topics::MODELS_ENTITIES, &asked).await;
        assert_eq!(code(&refused.unwrap_err()), "invalid");
    }

    // The others have taken its room.
    daemon.embed(&["a"]).await.unwrap();
    let running = daemon.package_is("tiny-bert", Status::Ready).await;
    assert!(alive(running.process_id));
    let name = "tiny-bert".to_owned();
    let _: Empty = daemon
        .ask(topics::MODELS_REMOVE_PACKAGE, &RemovePackage { name })
        .await
        .unwrap();
    assert!(!alive(running.process_id));
    assert!(!Path::new(&running.folder).exists());
    assert_eq!(
        daemon.embed(&["a"]).await.unwrap().model,
        "tiny-xlm-roberta"
    );
    daemon.manager.stop().await;
}

/// `AICO_TEST_MINILM` names the package that `tools/minilm_package.py` makes of the real weights;
/// `./test` prepares it. Without it this test says that it was skipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_weights_give_the_vectors_of_sentence_transformers() {
    let Some(folder) = std::env::var_os("AICO_TEST_MINILM").map(PathBuf::from) else {
        eprintln!("skipped: AICO_TEST_MINILM names no package of all-MiniLM-L6-v2");
        return;
    };
    // What is run here is what the catalogue describes, with the tokeniser that it names.
    let catalogue: Value =
        serde_json::from_str(include_str!("../../../models/catalogue.json")).unwrap();
    let mut models = catalogue["models"].as_array().unwrap().iter();
    let entry = models
        .find(|entry| entry["name"] == "all-minilm-l6-v2")
        .unwrap();
    let about = std::fs::read(folder.join("aico-model.json")).unwrap();
    let mut about: Value = serde_json::from_slice(&about).unwrap();
    let files = about.as_object_mut().unwrap().remove("files").unwrap();
    assert_eq!(about, entry["package"]);
    for fact in ["size", "sha256"] {
        assert_eq!(files["tokenizer.json"][fact], entry["tokenizer"][fact]);
    }

    let expected = std::fs::read(fixture("all-minilm-l6-v2").join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let rows = expected["texts"].as_array().unwrap();
    let text = |row: &Value| match &row["text"] {
        Value::String(text) => text.clone(),
        made => {
            let times = usize::try_from(made["times"].as_u64().unwrap()).unwrap();
            made["repeat"].as_str().unwrap().repeat(times)
        }
    };
    let texts: Vec<String> = rows.iter().map(text).collect();

    let daemon = daemon("modelservice").await;
    daemon.add_package(&folder).await.unwrap();
    let check = |found: &Embedded, rows: &[Value]| {
        assert_eq!(found.items.len(), rows.len());
        for (item, row) in found.items.iter().zip(rows) {
            let what = row["text"].to_string();
            assert_eq!(u64::from(item.tokens), row["tokens"], "{what}");
            assert_eq!(item.truncated, row["truncated"] == true, "{what}");
            let wanted: Vec<f32> = serde_json::from_value(row["vector"].clone()).unwrap();
            assert_eq!(item.vector.len(), wanted.len(), "{what}");
            let pairs = || item.vector.iter().zip(&wanted);
            let apart = pairs().fold(0.0_f32, |most, (one, other)| most.max((one - other).abs()));
            assert!(apart < 1e-4, "{what}: {apart}");
            // Both are of length 1.
            let cosine: f64 = pairs()
                .map(|(one, other)| f64::from(*one) * f64::from(*other))
                .sum();
            assert!((cosine - 1.0).abs() < 1e-5, "{what}: {cosine}");
        }
    };
    // More than are handed over at once, then each alone.
    let many = [texts.as_slice(), &texts, &texts].concat();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let found = daemon.embed(&many).await.unwrap();
    assert_eq!(found.model, "all-minilm-l6-v2");
    check(&found, &[rows.as_slice(), rows, rows].concat());
    for (text, row) in texts.iter().zip(rows) {
        let found = daemon.embed(&[text.as_str()]).await.unwrap();
        check(&found, std::slice::from_ref(row));
    }
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_is_replaced_and_one_that_nobody_asks_ends() {
    let daemon = daemon_with("modelservice", |config| {
        config.idle_limit = Some(Duration::from_secs(3));
    })
    .await;
    daemon.add_package(&fixture("tiny-bert")).await.unwrap();
    daemon.embed(&["a"]).await.unwrap();
    let first = daemon.package_is("tiny-bert", Status::Ready).await;
    kill(first.process_id);
    daemon.package_is("tiny-bert", Status::Stopped).await;
    daemon.embed(&["a"]).await.unwrap();
    let second = daemon.package_is("tiny-bert", Status::Ready).await;
    assert_ne!(first.process_id, second.process_id);
    daemon.package_is("tiny-bert", Status::Stopped).await;
    assert!(!alive(second.process_id));
    daemon.embed(&["a"]).await.unwrap();
    daemon.manager.stop().await;
}

/// So many bytes are free, whatever processes take.
struct Free(u64);

impl MemoryProbe for Free {
    fn available(&self) -> Option<u64> {
        Some(self.0)
    }
    fn total(&self) -> Option<u64> {
        None
    }
    fn process(&self, _process_id: u32) -> Option<Usage> {
        None
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_room_for_one_they_take_turns() {
    let daemon = daemon_with("modelservice", |config| {
        config.memory = Arc::new(Free(300 << 20));
    })
    .await;
    let (bert, roberta) = ("tiny-bert", "tiny-xlm-roberta");
    for name in [bert, roberta] {
        let package = daemon.add_package(&fixture(name)).await.unwrap();
        assert!((150 << 20..300 << 20).contains(&package.memory_bytes));
    }
    let asked = |model: &str| Embed {
        model: model.into(),
        texts: vec!["a".into()],
        dimensions: 0,
    };
    let (one, other) = (asked(bert), asked(roberta));
    let (one, other): (Result<Embedded, _>, Result<Embedded, _>) = tokio::join!(
        daemon.ask(topics::MODELS_EMBED, &one),
        daemon.ask(topics::MODELS_EMBED, &other),
    );
    assert_eq!(
        (one.unwrap().items.len(), other.unwrap().items.len()),
        (1, 1)
    );
    let ready = |package: &ModelPackage| package.status() == Status::Ready;
    let loaded = daemon
        .packages()
        .await
        .iter()
        .filter(|one| ready(one))
        .count();
    assert_eq!(loaded, 1, "there was room for both");

    let path = daemon.folder.path().join("a.gguf");
    gguf_writer::write(&path, &gguf_writer::Shape::tiny());
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    daemon.state(Status::Ready).await;
    assert!(!daemon.packages().await.iter().any(ready));
    daemon.embed(&["a"]).await.unwrap();
    daemon.package_is(bert, Status::Ready).await;
    daemon.state(Status::Stopped).await;
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_package_is_refused_and_leaves_nothing() {
    let daemon = daemon("modelservice").await;
    let folder = changed(&daemon, "tiny-bert", |_| {});
    let missing = daemon.folder.path().join("nowhere");
    assert_eq!(
        code(&daemon.add_package(&missing).await.unwrap_err()),
        "model-missing"
    );
    assert_eq!(
        code(&daemon.add_package(Path::new("relative")).await.unwrap_err()),
        "invalid"
    );
    std::fs::remove_file(folder.join("model.onnx")).unwrap();
    assert_eq!(
        code(&daemon.add_package(&folder).await.unwrap_err()),
        "model-missing"
    );
    std::fs::write(folder.join("model.onnx"), "").unwrap();
    assert_eq!(
        code(&daemon.add_package(&folder).await.unwrap_err()),
        "model-damaged"
    );
    std::fs::remove_file(folder.join("model.onnx")).unwrap();
    // A folder in place of the file, and one that is not the one that is described.
    std::fs::create_dir(folder.join("model.onnx")).unwrap();
    assert_eq!(
        code(&daemon.add_package(&folder).await.unwrap_err()),
        "model-missing"
    );
    let other = changed(&daemon, "tiny-bert", |folder| {
        describe(folder, |about| {
            let facts = serde_json::json!({"size": 1, "sha256": "0".repeat(64)});
            about["files"] = serde_json::json!({"model.onnx": facts});
        });
    });
    assert_eq!(
        code(&daemon.add_package(&other).await.unwrap_err()),
        "model-damaged"
    );
    std::fs::write(other.join("aico-model.json"), "{}").unwrap();
    assert_eq!(
        code(&daemon.add_package(&other).await.unwrap_err()),
        "not-a-model"
    );
    let packages = daemon.folder.path().join("models/packages");
    let left: Vec<_> = std::fs::read_dir(packages).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");

    // By hand, without what its files have to be: that is noted.
    let folder = changed(&daemon, "tiny-bert", |_| {});
    let added = daemon.add_package(&folder).await.unwrap();
    assert!(added.size_bytes > 90_000);
    // What is written to it afterwards is noticed.
    let graph = Path::new(&added.folder).join("model.onnx");
    let mut bytes = std::fs::read(&graph).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&graph, bytes).unwrap();
    assert_eq!(
        code(&daemon.embed(&["a"]).await.unwrap_err()),
        "model-damaged"
    );
    let told = daemon.package("tiny-bert").await;
    assert_eq!(
        (told.status(), told.fault.unwrap().code.as_str()),
        (Status::Failed, "model-damaged")
    );
    // The same name again takes its place, and is tried at once.
    daemon.add_package(&folder).await.unwrap();
    daemon.embed(&["a"]).await.unwrap();
    daemon.manager.stop().await;
}

/// Row 38: whatever a graph holds, the daemon answers with a fault and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_graphs_end_in_an_error() {
    let daemon = daemon("modelservice").await;
    let graph = std::fs::read(fixture("tiny-bert").join("model.onnx")).unwrap();
    let mut hostile: Vec<(String, Vec<u8>)> = vec![
        (
            "noise".into(),
            (0..50_000_u32)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
                .collect(),
        ),
        ("nested".into(), nested(2_000)),
        ("huge".into(), huge_dimensions()),
    ];
    for part in [1, 2, 3] {
        hostile.push((
            format!("cut-{part}"),
            graph[..graph.len() * part / 4].to_vec(),
        ));
    }
    for seed in 0..12_usize {
        let mut bytes = graph.clone();
        for step in 0..20 {
            let at = (seed * 7919 + step * 104_729) % bytes.len();
            bytes[at] = bytes[at].wrapping_add(1 + (seed + step) as u8 % 200);
        }
        hostile.push((format!("flipped-{seed}"), bytes));
    }
    for (what, bytes) in hostile {
        let folder = changed(&daemon, "tiny-bert", |folder| {
            std::fs::write(folder.join("model.onnx"), &bytes).unwrap();
        });
        daemon.add_package(&folder).await.unwrap();
        let told = daemon.embed(&["a", "b c"]).await;
        if let Err(error) = told {
            let known = ["model-refused", "model-failed"];
            assert!(known.contains(&code(&error)), "{what}: {error:?}");
        } else {
            // A weight that is another number is no damage that could be seen.
            assert!(what.starts_with("flipped"), "{what} was computed");
        }
    }
    for (what, text) in [
        ("nested", "[".repeat(100_000)),
        (
            "other",
            "{\"model\":{\"type\":\"Unigram\",\"vocab\":[],\"unk_id\":7}}".into(),
        ),
    ] {
        let folder = changed(&daemon, "tiny-bert", |folder| {
            std::fs::write(folder.join("tokenizer.json"), &text).unwrap();
        });
        if let Err(error) = daemon.add_package(&folder).await {
            panic!("{what}: {error:?}");
        }
        let error = daemon.embed(&["a"]).await.unwrap_err();
        assert!(
            ["model-refused", "model-failed"].contains(&code(&error)),
            "{what}: {error:?}"
        );
    }
    // And a good one is good again.
    daemon.add_package(&fixture("tiny-bert")).await.unwrap();
    daemon.embed(&["a"]).await.unwrap();
    daemon.manager.stop().await;
}

fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut all = varint(u64::from(number << 3 | 2));
    all.extend(varint(bytes.len() as u64));
    all.extend(bytes);
    all
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let low = (number & 127) as u8;
        number >>= 7;
        if number == 0 {
            all.push(low);
            return all;
        }
        all.push(low | 128);
    }
}

/// A graph in a graph in a graph: the branches of `If`.
fn nested(depth: u32) -> Vec<u8> {
    let mut graph = Vec::new();
    for _ in 0..depth {
        // AttributeProto: name, g, type = GRAPH.
        let mut attribute = field(1, b"then_branch");
        attribute.extend(field(6, &graph));
        attribute.extend([0xa0, 1, 5]);
        let mut node = field(4, b"If");
        node.extend(field(5, &attribute));
        graph = field(1, &node);
    }
    let mut model = vec![8, 8];
    model.extend(field(7, &graph));
    model
}

/// A tensor of a hundred billion numbers, made of nothing.
fn huge_dimensions() -> Vec<u8> {
    let mut shape = vec![8, 1, 16, 7];
    shape.extend(field(9, &100_000_000_000_u64.to_le_bytes()));
    shape.extend(field(8, b"shape"));
    let mut node = field(1, b"shape");
    node.extend(field(2, b"last_hidden_state"));
    node.extend(field(4, b"ConstantOfShape"));
    let mut graph = field(1, &node);
    graph.extend(field(5, &shape));
    for name in ["input_ids", "attention_mask", "token_type_ids"] {
        graph.extend(field(11, &field(1, name.as_bytes())));
    }
    graph.extend(field(12, &field(1, b"last_hidden_state")));
    let mut model = vec![8, 8];
    model.extend(field(7, &graph));
    // The version of the operators.
    model.extend(field(8, &[16, 17]));
    model
}

/// The process of a package opens nothing but its package and makes no connection: the same
/// confinement as that of the chat models, which tests/confinement.rs looks at from inside. Here:
/// that this process has it, and that a good package works under it.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_is_confined() {
    let daemon = daemon("modelservice").await;
    daemon.add_package(&fixture("tiny-gliner")).await.unwrap();
    let asked = FindEntities {
        texts: vec!["Ada".into()],
        labels: vec!["person".into()],
        ..FindEntities::default()
    };
    let _: FoundEntities = daemon.ask(topics::MODELS_ENTITIES, &asked).await.unwrap();
    let process = daemon.package("tiny-gliner").await.process_id;
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].trim().to_owned()
    };
    assert_eq!(
        (value("Seccomp:"), value("NoNewPrivs:")),
        ("2".into(), "1".into())
    );
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let data = limits
        .lines()
        .find(|line| line.starts_with("Max data size"))
        .unwrap();
    assert!(!data.contains("unlimited"), "{data}");
    // No link to the bus, no file that stays open: three pipes.
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).map(|all| all.count());
    assert!(open.is_err() || open.unwrap() <= 5);
    kill(process);
    daemon.manager.stop().await;
}

/// `models.threads` compute, and no others: those of the library are told by their names.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_threads_compute_as_are_configured() {
    for threads in [1, 3] {
        let daemon = daemon_with("modelservice", |config| config.threads = threads).await;
        daemon.add_package(&fixture("tiny-bert")).await.unwrap();
        let texts: Vec<String> = (1..40).map(|n| "word ".repeat(n)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        daemon.embed(&texts).await.unwrap();
        let process = daemon.package("tiny-bert").await.process_id;
        let mut names = std::collections::BTreeSet::new();
        for task in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
            let name = std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap();
            if name.starts_with("rten-") {
                names.insert(name.trim().to_owned());
            }
        }
        let wanted: Vec<String> = (0..threads).map(|n| format!("rten-{n}")).collect();
        assert!(names.iter().eq(&wanted), "{names:?} for {threads}");
        daemon.manager.stop().await;
    }
}
