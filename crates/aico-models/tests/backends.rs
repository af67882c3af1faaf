//! Routing to programs beside us, with one that the test writes, beside a real model process.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/gguf_writer.rs"]
mod gguf_writer;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aico_bus::{Meta, ReplyStream, RequestError};
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::generated::Item as Piece;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Empty, Priority};
use aico_models::backend::{
    Asker, Backend, BackendError, Capability, Embedded, InMemory, Item, Offered, Reach, Wait,
};
use aico_models::router::{Backends, id_of};
use aico_models::supervisor::ModelRegistryStore;
use async_trait::async_trait;
use daemon::{Daemon, daemon_with, question, until};
use gguf_writer::Shape;
use tokio::sync::{Notify, mpsc};

/// A program that does what the question says: `words`, `wait`, `half`, `error`.
struct Program {
    name: &'static str,
    /// What `error` gives, and listing once there is one.
    error: Mutex<Option<BackendError>>,
    /// Questions that were begun, by their texts.
    begun: Mutex<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
    unloaded: Mutex<Vec<String>>,
    /// Nobody may ask it.
    forbidden: AtomicBool,
    /// Lets one that waits go on.
    go: Notify,
}

impl Program {
    fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            error: Mutex::default(),
            begun: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            unloaded: Mutex::default(),
            forbidden: AtomicBool::new(false),
            go: Notify::new(),
        })
    }

    fn fail_with(&self, error: Option<BackendError>) {
        *self.error.lock().unwrap() = error;
    }

    fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap().clone()
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

struct Inside<'a>(&'a Program);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Backend for Program {
    fn name(&self) -> &str {
        self.name
    }
    fn reach(&self) -> Reach {
        Reach::Machine
    }
    async fn permits(&self, _: &Asker) -> Result<(), BackendError> {
        match self.forbidden.load(Ordering::SeqCst) {
            true => Err(BackendError::NotAllowed),
            false => Ok(()),
        }
    }
    async fn models(&self) -> Result<Vec<Offered>, BackendError> {
        let of = |name: &str, what| Offered {
            name: name.into(),
            size: 5_000_000_000,
            capabilities: vec![what],
            ..Offered::default()
        };
        Ok(vec![
            of("qwen3:8b", Capability::Chat),
            of("minilm", Capability::Embeddings),
        ])
    }
    async fn generate(
        &self,
        _: &Asker,
        model: &str,
        question: &v1::Generate,
        items: mpsc::Sender<Item>,
    ) -> Result<v1::GeneratedEnd, BackendError> {
        let text = question.turns.last().unwrap().text.clone();
        self.begun.lock().unwrap().push(text.clone());
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let _inside = Inside(self);
        assert_eq!(model, "qwen3:8b");
        if let Some(error) = self.error.lock().unwrap().clone() {
            return Err(error);
        }
        items.send(Item::Thinking("hm".into())).await.unwrap();
        items.send(Item::Text("one ".into())).await.unwrap();
        if text.starts_with("wait") {
            self.go.notified().await;
        }
        if text == "half" {
            return Err(BackendError::CutOff);
        }
        items.send(Item::Text("two".into())).await.unwrap();
        Ok(v1::GeneratedEnd {
            reason: v1::generated_end::Reason::Stop.into(),
            prompt_tokens: 7,
            answer_tokens: 2,
            ..v1::GeneratedEnd::default()
        })
    }
    async fn embed(&self, _: &Asker, _: &str, texts: &[String]) -> Result<Embedded, BackendError> {
        if texts == ["wait"] {
            let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let _inside = Inside(self);
            return std::future::pending().await;
        }
        if texts == ["short", "long"] {
            return Ok(Embedded {
                vectors: vec![vec![1.0], vec![1.0]],
                tokens: 9,
                truncated: vec![1],
            });
        }
        Err(BackendError::NotCapable { what: "embeddings" })
    }
    async fn in_memory(&self) -> Vec<InMemory> {
        vec![InMemory {
            name: "minilm".into(),
            bytes: 4096,
            until_unix_ms: 4_000_000_000_000,
        }]
    }
    async fn unload(&self, model: &str) -> Result<(), BackendError> {
        self.unloaded.lock().unwrap().push(model.to_owned());
        Ok(())
    }
}

/// A daemon with a model of its own that is chosen, and this program beside it.
async fn beside(program: &Arc<Program>) -> (Daemon, v1::Model) {
    let all: [Arc<dyn Backend>; 1] = [Arc::clone(program) as _];
    let backends = Backends::new(all);
    let daemon = daemon_with("modelservice", |config| config.backends = backends).await;
    let path = daemon.folder.path().join("own.gguf");
    gguf_writer::write(&path, &Shape::tiny());
    let own = daemon.add(&path).await.unwrap();
    daemon.choose(&own).await.unwrap();
    daemon.state(Status::Ready).await;
    (daemon, own)
}

async fn prepare(daemon: &Daemon, wanted: &[&str]) -> v1::PreparedModel {
    let wanted = wanted.iter().map(ToString::to_string).collect();
    let question = v1::PrepareModel {
        wanted,
        only: false,
    };
    daemon.ask(topics::MODELS_PREPARE, &question).await.unwrap()
}

/// The one model of this name or id, or why there is none.
async fn only(daemon: &Daemon, wanted: &str) -> Result<v1::PreparedModel, String> {
    let question = v1::PrepareModel {
        wanted: vec![wanted.to_owned()],
        only: true,
    };
    let asked = daemon.ask(topics::MODELS_PREPARE, &question).await;
    asked.map_err(|error| code(&error).to_owned())
}

async fn unload(daemon: &Daemon, id: &[u8]) -> Result<Empty, String> {
    let question = v1::UnloadModel { id: id.to_vec() };
    let asked = daemon.ask(topics::MODELS_UNLOAD, &question).await;
    asked.map_err(|error| code(&error).to_owned())
}

async fn ask(
    daemon: &Daemon,
    person: PersonId,
    text: &str,
    priority: Priority,
) -> ReplyStream<v1::Generated> {
    let question = v1::Generate {
        model: id_of("lab", "qwen3:8b").to_vec(),
        ..question(text, 10)
    };
    let meta = Meta::for_person(person).priority(priority);
    let asked = daemon
        .asker
        .open_stream(topics::MODELS_GENERATE, &question, meta);
    asked.await.unwrap()
}

/// All text, and how it ended.
async fn all(
    mut stream: ReplyStream<v1::Generated>,
) -> (String, Result<v1::GeneratedEnd, RequestError>) {
    let mut text = String::new();
    loop {
        match stream.next().await.unwrap() {
            Ok(item) => match item.item {
                Some(Piece::Text(piece)) => text.push_str(&piece),
                Some(Piece::End(end)) => return (text, Ok(end)),
                _ => {}
            },
            Err(error) => return (text, Err(error)),
        }
    }
}

fn code(error: &RequestError) -> &str {
    error.fault().map_or("", |fault| fault.code.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_models_are_listed_chosen_kept_and_answer() {
    let program = Program::new("lab");
    let (daemon, own) = beside(&program).await;
    let listed = daemon.models().await;
    let found = listed.iter().find(|one| one.name == "qwen3:8b").unwrap();
    assert_eq!(found.engine, "lab");
    assert_eq!(found.id, id_of("lab", "qwen3:8b").to_vec());
    assert_eq!(found.capabilities, ["chat"]);
    assert!(found.present && !found.active);

    // By its names, and not what does something else.
    for name in ["qwen3", "lab/qwen3:8b", "Qwen3-8B"] {
        let prepared = prepare(&daemon, &[name]).await;
        assert_eq!(prepared.state.unwrap().model, found.id, "{name}");
    }
    let prepared = prepare(&daemon, &["minilm"]).await;
    assert_eq!(prepared.missing, ["minilm"]);
    assert_eq!(prepared.state.unwrap().model, own.id);

    let ann = PersonId::new();
    let (text, end) = all(ask(&daemon, ann, "words", Priority::Interactive).await).await;
    assert_eq!((text.as_str(), end.unwrap().prompt_tokens), ("one two", 7));

    daemon.choose(found).await.unwrap();
    let choice = daemon.registry.choice().await.unwrap().unwrap();
    assert_eq!(
        (choice.backend.as_str(), choice.name.as_str()),
        ("lab", "qwen3:8b")
    );
    let state: v1::ModelState = daemon
        .ask(topics::MODELS_GET_STATE, &Empty {})
        .await
        .unwrap();
    assert_eq!(
        (state.status(), state.model.as_slice()),
        (Status::Ready, found.id.as_slice())
    );
    let active = daemon.models().await.into_iter().filter(|one| one.active);
    assert_eq!(
        active.map(|one| one.id).collect::<Vec<_>>(),
        std::slice::from_ref(&found.id)
    );
    // Where none is named, it answers.
    assert_eq!(daemon.generate("words", 5).await.text, "one two");
    let count = v1::CountTokens::default();
    let counted: Result<v1::TokenCount, _> = daemon.ask(topics::MODELS_COUNT, &count).await;
    assert_eq!(code(&counted.unwrap_err()), "model-not-capable");
    let pin = v1::PinModel {
        id: found.id.clone(),
        pinned: true,
    };
    let pinned: Result<Empty, _> = daemon.ask(topics::MODELS_PIN, &pin).await;
    assert_eq!(code(&pinned.unwrap_err()), "conflict");

    // One of our own again.
    daemon.choose(&own).await.unwrap();
    assert_eq!(daemon.registry.choice().await.unwrap(), None);
    assert!(daemon.generate("words", 5).await.text != "one two");
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_named_comes_alone_or_it_is_said_why_not() {
    let program = Program::new("lab");
    let (daemon, own) = beside(&program).await;
    let beside = id_of("lab", "qwen3:8b");
    daemon.models().await;
    let prepared = only(&daemon, &beside.to_string()).await.unwrap();
    assert_eq!(prepared.state.unwrap().model, beside.to_vec());
    assert_eq!(only(&daemon, "nobody").await.unwrap_err(), "not-found");
    program.forbidden.store(true, Ordering::SeqCst);
    let refused = only(&daemon, &beside.to_string()).await.unwrap_err();
    assert_eq!(refused, "engine-not-allowed");
    assert_eq!(
        unload(&daemon, &beside.to_vec()).await.unwrap_err(),
        "engine-not-allowed"
    );
    program.forbidden.store(false, Ordering::SeqCst);
    // It goes away: what is wrong is said, and nothing answers in its place.
    program.fail_with(Some(BackendError::Absent {
        address: "127.0.0.1:9".into(),
    }));
    let (_, end) = all(ask(&daemon, PersonId::new(), "error", Priority::Interactive).await).await;
    assert_eq!(code(&end.unwrap_err()), "engine-absent");
    let refused = only(&daemon, &beside.to_string()).await.unwrap_err();
    assert_eq!(refused, "engine-absent");
    program.fail_with(None);

    // One of our own: loaded beside the chosen one, which stays what it is.
    let path = daemon.folder.path().join("other.gguf");
    gguf_writer::write(&path, &Shape::tiny());
    let other = daemon.add(&path).await.unwrap();
    let id = uuid::Uuid::from_slice(&other.id).unwrap().to_string();
    let ready = async {
        loop {
            let state = only(&daemon, &id).await.unwrap().state.unwrap();
            if state.status() == Status::Ready {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let state = tokio::time::timeout(daemon::SOON, ready).await.unwrap();
    assert_eq!(state.model, other.id);
    let listed = daemon.models().await;
    let of = |id: &[u8]| listed.iter().find(|one| one.id == id).unwrap();
    assert!(of(&own.id).active && of(&own.id).loaded && of(&other.id).loaded);

    // It is let go: not while it is pinned, and then without harm.
    let pin = |pinned| v1::PinModel {
        id: other.id.clone(),
        pinned,
    };
    let _: Empty = daemon.ask(topics::MODELS_PIN, &pin(true)).await.unwrap();
    assert_eq!(unload(&daemon, &other.id).await.unwrap_err(), "conflict");
    let _: Empty = daemon.ask(topics::MODELS_PIN, &pin(false)).await.unwrap();
    for _ in 0..2 {
        unload(&daemon, &other.id).await.unwrap();
        let listed = daemon.models().await;
        let left = listed.iter().find(|one| one.id == other.id).unwrap();
        assert!(!left.loaded);
    }
    unload(&daemon, &beside.to_vec()).await.unwrap();
    assert_eq!(*program.unloaded.lock().unwrap(), ["qwen3:8b"]);
    assert_eq!(unload(&daemon, &[3; 16]).await, Ok(Empty {}));

    // Its file goes.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(only(&daemon, &id).await.unwrap_err(), "model-missing");
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_are_asked_at_once_and_the_others_hear_their_place() {
    let program = Program::new("lab");
    let (daemon, _) = beside(&program).await;
    prepare(&daemon, &["qwen3"]).await;
    let (ann, ben) = (PersonId::new(), PersonId::new());
    let mut streams = Vec::new();
    for number in 0..4 {
        streams.push(
            ask(
                &daemon,
                ann,
                &format!("wait {number}"),
                Priority::Interactive,
            )
            .await,
        );
    }
    until("four run", || program.running() == 4).await;
    let mut queued = Vec::new();
    for (who, text, priority) in [
        (ann, "wait ann", Priority::Interactive),
        (ben, "wait later", Priority::Background),
        (ben, "wait ben", Priority::Interactive),
    ] {
        let mut stream = ask(&daemon, who, text, priority).await;
        let first = stream.next().await.unwrap().unwrap();
        assert!(matches!(first.item, Some(Piece::Queued(_))));
        queued.push(stream);
    }
    // Ben has nothing running: of two who wait the same, he is first. Background is last.
    let moved = queued[0].next().await.unwrap().unwrap();
    assert!(
        matches!(moved.item, Some(Piece::Queued(1))),
        "ann is behind ben"
    );
    for turn in ["wait ben", "wait ann", "wait later"] {
        program.go.notify_one();
        until("the next one begins", || {
            program.begun().last().unwrap() == turn
        })
        .await;
    }
    assert_eq!(program.most.load(Ordering::SeqCst), 4);
    // Those who give up make room at once.
    drop(streams);
    drop(queued);
    until("nothing runs", || program.running() == 0).await;
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_is_kept_and_a_cancel_ends_the_work() {
    let program = Program::new("lab");
    let (daemon, _) = beside(&program).await;
    prepare(&daemon, &["qwen3"]).await;
    let ann = PersonId::new();
    let (text, end) = all(ask(&daemon, ann, "half", Priority::Interactive).await).await;
    assert_eq!(text, "one ");
    let fault = end.unwrap_err();
    assert_eq!(code(&fault), "engine-cut-off");
    assert_eq!(fault.fault().unwrap().title, "lab ended in the middle");

    let mut stream = ask(&daemon, ann, "wait", Priority::Interactive).await;
    stream.next().await.unwrap().unwrap();
    assert_eq!(program.running(), 1);
    let begun = std::time::Instant::now();
    stream.cancel();
    until("the work is dropped", || program.running() == 0).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    let (_, end) = all(stream).await;
    assert_eq!(end.unwrap().reason(), v1::generated_end::Reason::Cancelled);
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_is_left_alone_and_the_next_model_takes_its_place() {
    let program = Program::new("lab");
    let (daemon, own) = beside(&program).await;
    let listed = daemon.models().await;
    let chosen = listed.iter().find(|one| one.name == "qwen3:8b").unwrap();
    daemon.choose(chosen).await.unwrap();
    program.fail_with(Some(BackendError::TimedOut {
        waited_for: Wait::FirstToken,
        limit: Duration::from_secs(1),
    }));
    for _ in 0..3 {
        let answer = daemon.generate("words", 5).await;
        assert_eq!(code(&answer.error.unwrap()), "engine-timeout");
    }
    // It is not asked any more, and the person is told what is in its place.
    let prepared = prepare(&daemon, &[]).await;
    assert_eq!(prepared.missing, ["qwen3:8b"]);
    assert_eq!(prepared.state.unwrap().model, own.id);
    let begun = program.begun().len();
    let resting = daemon.generate("words", 5).await;
    assert_eq!(code(&resting.error.unwrap()), "engine-resting");
    assert_eq!(program.begun().len(), begun);

    // After a while one question tries it.
    program.fail_with(None);
    let end = tokio::time::Instant::now() + daemon::SOON;
    loop {
        let prepared = prepare(&daemon, &[]).await;
        if prepared.missing.is_empty() {
            assert_eq!(prepared.state.unwrap().model, chosen.id);
            break;
        }
        assert!(tokio::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(daemon.generate("words", 5).await.text, "one two");

    // One that is not there any more is left out alone: the program is well.
    program.fail_with(Some(BackendError::ModelMissing));
    let answer = daemon.generate("words", 5).await;
    assert_eq!(code(&answer.error.unwrap()), "model-missing");
    let prepared = prepare(&daemon, &[]).await;
    assert_eq!(prepared.missing, ["qwen3:8b"]);
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_that_nobody_waits_for_are_given_up_and_take_their_places_like_questions() {
    let program = Program::new("lab");
    let (daemon, _own) = beside(&program).await;
    let question = v1::Embed {
        model: "minilm".into(),
        texts: vec!["wait".into()],
        dimensions: 0,
    };
    let asked: Vec<_> = (0..6)
        .map(|_| {
            let (asker, question) = (daemon.asker.clone(), question.clone());
            tokio::spawn(async move {
                let meta = Meta::for_person(PersonId::new());
                let asked = asker.request(topics::MODELS_EMBED, &question, meta).await;
                let _: v1::Embedded = asked.unwrap();
            })
        })
        .collect();
    until("four are asked", || program.running() == 4).await;
    for one in asked {
        one.abort();
    }
    until("all are given up", || program.running() == 0).await;
    assert_eq!(program.most.load(Ordering::SeqCst), 4);
    // And a question finds a place.
    let (text, end) = all(ask(&daemon, PersonId::new(), "words", Priority::Normal).await).await;
    assert_eq!((text.as_str(), end.is_ok()), ("one two", true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_has_in_memory_is_told_and_which_texts_it_did_not_read_to_their_end() {
    let program = Program::new("lab");
    let (daemon, own) = beside(&program).await;
    let id = id_of("lab", "minilm");
    let question = v1::Embed {
        model: id.to_string(),
        texts: ["short", "long"].map(str::to_owned).to_vec(),
        dimensions: 0,
    };
    let made: v1::Embedded = daemon.ask(topics::MODELS_EMBED, &question).await.unwrap();
    let told = made.items.iter().map(|item| item.truncated);
    assert_eq!(told.collect::<Vec<_>>(), [false, true]);

    let meta = Meta::for_person(PersonId::new());
    let look = v1::ReadActivity::default();
    let asked = daemon.asker.request(topics::MODELS_ACTIVITY, &look, meta);
    let told: v1::ModelsActivity = asked.await.unwrap();
    let of = |id: &[u8]| told.models.iter().find(|one| one.model == id).unwrap();
    let inside = of(&id.to_vec());
    assert_eq!(
        (inside.name.as_str(), inside.engine.as_str()),
        ("minilm", "lab")
    );
    assert_eq!(inside.status(), Status::Ready);
    assert_eq!(
        (inside.memory_bytes, inside.idle_until_unix_ms),
        (4096, 4_000_000_000_000)
    );
    let totals = inside.totals.unwrap();
    assert_eq!((totals.completed, totals.prompt_tokens), (1, 9));
    assert_eq!(of(&own.id).engine, "");
    daemon.manager.stop().await;
}
