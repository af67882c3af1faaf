//! Processes that say nothing any more, at each stage: while they are set up, before the first
//! piece of an answer, and in the middle of it. Real ones, stopped by a signal.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
mod support;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aico_bus::{Meta, ReplyStream, RequestError};
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::generated::Item as Piece;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, ListModels};
use aico_models::backend::{
    Asker, Backend, BackendError, Capability, Embedded, Item, Offered, Reach,
};
use aico_models::router::{Backends, Guard, id_of};
use aico_models::supervisor::ManagerConfig;
use async_trait::async_trait;
use daemon::{Daemon, alive, daemon_with, question, until};
use support::bert_writer::Bert;
use support::gguf_writer::{self, Shape, Weights};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

/// What a process may say nothing for in these tests: long, on a busy machine, for one that is well.
const LIMIT: Duration = Duration::from_secs(5);

fn stop(process_id: u32) {
    // SAFETY: a process that this test started.
    unsafe { libc::kill(i32::try_from(process_id).unwrap(), libc::SIGSTOP) };
}

/// A daemon with this model chosen.
async fn chosen(shape: &Shape, change: impl FnOnce(&mut ManagerConfig)) -> (Daemon, v1::Model) {
    let daemon = daemon_with("modelservice", |config| {
        config.context = 1024;
        config.pulse = Duration::from_millis(100);
        config.hang_limit = LIMIT;
        change(config);
    })
    .await;
    let path = daemon.folder.path().join("m.gguf");
    gguf_writer::write(&path, shape);
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    (daemon, model)
}

async fn ask(daemon: &Daemon, question: v1::Generate) -> ReplyStream<v1::Generated> {
    let meta = Meta::for_person(PersonId::new());
    let asked = daemon
        .asker
        .open_stream(topics::MODELS_GENERATE, &question, meta);
    asked.await.unwrap()
}

/// All text that comes, and why no more does.
async fn lost(stream: &mut ReplyStream<v1::Generated>) -> (String, RequestError) {
    let mut text = String::new();
    loop {
        match stream.next().await.unwrap() {
            Ok(item) => match item.item {
                Some(Piece::Text(piece)) => text.push_str(&piece),
                Some(Piece::End(_)) => panic!("it has ended well"),
                _ => {}
            },
            Err(error) => return (text, error),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stands_still_while_it_loads_is_ended_and_told() {
    let large = Shape::large(Weights::Q4_0);
    let (daemon, _) = chosen(&large, |config| config.load_limit = LIMIT).await;
    let starting = daemon.state_that(|state| state.process_id != 0).await;
    stop(starting.process_id);
    assert_eq!(starting.status(), Status::Starting, "too late to stop it");
    // Meanwhile everything else is answered.
    let meta = Meta::default().deadline_in(Duration::from_secs(2));
    let listed: v1::ModelList = daemon
        .asker
        .request(topics::MODELS_LIST, &ListModels {}, meta)
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 1);
    let failed = daemon.state_that(|state| state.fault.is_some()).await;
    let fault = failed.fault.unwrap();
    assert_eq!(
        (fault.code.as_str(), fault.title.as_str()),
        ("model-failed", "The model took too long to load")
    );
    assert!(!fault.what_to_do.is_empty());
    until("it was killed", || !alive(starting.process_id)).await;
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_begins_an_answer_is_replaced_and_the_asker_told() {
    let (daemon, _) = chosen(&Shape::endless(), |_| {}).await;
    let ready = daemon.state(Status::Ready).await;
    stop(ready.process_id);
    let mut stream = ask(&daemon, question("Hi", 5)).await;
    let (text, error) = lost(&mut stream).await;
    assert!(text.is_empty());
    assert!(matches!(error, RequestError::ServerGone), "{error}");
    until("it was killed", || !alive(ready.process_id)).await;
    let again = |state: &v1::ModelState| state.status() == Status::Ready && state.restarts == 1;
    assert_ne!(daemon.state_that(again).await.process_id, ready.process_id);
    assert_eq!(daemon.generate("Hi", 5).await.end.unwrap().answer_tokens, 5);
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_makes_vectors_alone_is_replaced_as_well() {
    let (daemon, _) = chosen(&Shape::tiny(), |_| {}).await;
    let path = daemon.folder.path().join("bert.gguf");
    Bert::new(Some(1)).write(&path);
    let model = daemon.add(&path).await.unwrap();
    embed(&daemon, &model).await.unwrap();
    let process_id = process(&daemon, &model).await;
    stop(process_id);
    assert!(embed(&daemon, &model).await.is_err());
    until("it was killed", || !alive(process_id)).await;
    embed(&daemon, &model).await.unwrap();
    daemon.manager.stop().await;
}

async fn embed(daemon: &Daemon, model: &v1::Model) -> Result<v1::Embedded, RequestError> {
    let question = v1::Embed {
        model: model.name.clone(),
        texts: vec!["the dog ran".into()],
        dimensions: 0,
    };
    let meta = Meta::for_person(PersonId::new()).deadline_in(4 * LIMIT);
    let asked = daemon.asker.request(topics::MODELS_EMBED, &question, meta);
    asked.await
}

async fn process(daemon: &Daemon, model: &v1::Model) -> u32 {
    let look = v1::ReadActivity::default();
    let meta = Meta::for_person(PersonId::new());
    let asked = daemon.asker.request(topics::MODELS_ACTIVITY, &look, meta);
    let seen: v1::ModelsActivity = asked.await.unwrap();
    let mut seen = seen.models.into_iter();
    seen.find(|one| one.model == model.id).unwrap().process_id
}

/// Its other threads go on: they answer whatever they are asked.
#[cfg(target_os = "linux")]
fn halt(process_id: u32, thread: &str) {
    let mut halted = 0;
    for task in std::fs::read_dir(format!("/proc/{process_id}/task")).unwrap() {
        let task = task.unwrap().path();
        // Others may end meanwhile.
        let Ok(name) = std::fs::read_to_string(task.join("comm")) else {
            continue;
        };
        if name.trim() == thread {
            let id: i32 = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let process_id = i32::try_from(process_id).unwrap();
            // SAFETY: a process that this test started, and which handles this signal.
            let sent = unsafe { libc::syscall(libc::SYS_tgkill, process_id, id, libc::SIGUSR1) };
            assert_eq!(sent, 0);
            halted += 1;
        }
    }
    assert!(halted > 0, "there is no thread {thread}");
}

/// One that makes vectors alone, and one that converses too.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_which_only_the_thread_for_vectors_hangs_is_replaced() {
    let both = Shape {
        pooling: Some(3),
        ..Shape::tiny()
    };
    let (daemon, talker) = chosen(&both, |config| {
        config.program.arguments = vec!["modelservice-halting".into()];
    })
    .await;
    let path = daemon.folder.path().join("bert.gguf");
    Bert::new(Some(1)).write(&path);
    let reader = daemon.add(&path).await.unwrap();
    let replaced = async |model: v1::Model| {
        embed(&daemon, &model).await.unwrap();
        let process_id = process(&daemon, &model).await;
        halt(process_id, "aico-embed");
        assert!(embed(&daemon, &model).await.is_err());
        until("it was killed", || !alive(process_id)).await;
        embed(&daemon, &model).await.unwrap();
    };
    tokio::join!(replaced(reader), replaced(talker));
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_that_stops_in_the_middle_everything_said_before_is_there() {
    let (daemon, _) = chosen(&Shape::endless(), |_| {}).await;
    let ready = daemon.state(Status::Ready).await;
    let mut stream = ask(&daemon, question("Hi", 900)).await;
    let mut said = 0;
    while said < 3 {
        if let Some(Piece::Text(_)) = stream.next().await.unwrap().unwrap().item {
            said += 1;
        }
    }
    stop(ready.process_id);
    // What was on its way comes, and then that there is no more.
    let (_rest, error) = lost(&mut stream).await;
    assert!(matches!(error, RequestError::ServerGone), "{error}");
    until("it was killed", || !alive(ready.process_id)).await;
    daemon.manager.stop().await;
}

/// A program beside us, which never gives up on its process by itself.
struct Patient {
    /// Words after which its process is stopped.
    words: usize,
    process: AtomicU32,
}

#[async_trait]
impl Backend for Patient {
    fn name(&self) -> &str {
        "lab"
    }
    fn reach(&self) -> Reach {
        Reach::Machine
    }
    async fn models(&self) -> Result<Vec<Offered>, BackendError> {
        Ok(vec![Offered {
            name: "talker".into(),
            capabilities: vec![Capability::Chat],
            ..Offered::default()
        }])
    }
    async fn generate(
        &self,
        _: &Asker,
        _: &str,
        _: &v1::Generate,
        items: mpsc::Sender<Item>,
    ) -> Result<v1::GeneratedEnd, BackendError> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_aico-models-child"))
            .arg("talk")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let process = child.id().unwrap();
        self.process.store(process, Ordering::SeqCst);
        let mut input = child.stdin.take().unwrap();
        if self.words == 0 {
            stop(process);
        }
        input.write_all(b"begin\n").await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = 0;
        while let Some(line) = lines.next_line().await.unwrap() {
            items.send(Item::Text(line)).await.unwrap();
            said += 1;
            if said == self.words {
                stop(process);
            }
        }
        panic!("it ended by itself")
    }
    async fn embed(&self, _: &Asker, _: &str, _: &[String]) -> Result<Embedded, BackendError> {
        Err(BackendError::NotCapable { what: "embeddings" })
    }
    async fn unload(&self, _: &str) -> Result<(), BackendError> {
        Ok(())
    }
}

/// What comes of an answer whose process is stopped after so many words.
async fn stopped_after(words: usize) -> (String, v1::Fault) {
    let program = Arc::new(Patient {
        words,
        process: AtomicU32::new(0),
    });
    let all: [Arc<dyn Backend>; 1] = [Arc::clone(&program) as _];
    let guard = Guard {
        first: LIMIT,
        next: LIMIT,
    };
    let daemon = daemon_with("modelservice", |config| {
        config.backends = Backends::new(all);
        config.guard = guard;
    })
    .await;
    daemon.models().await;
    let question = v1::Generate {
        model: id_of("lab", "talker").to_vec(),
        ..question("Hi", 10)
    };
    let mut stream = ask(&daemon, question).await;
    let (text, error) = lost(&mut stream).await;
    let process = program.process.load(Ordering::SeqCst);
    until("its process is gone", || !alive(process)).await;
    daemon.manager.stop().await;
    (text, error.fault().unwrap().clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_never_says_a_word_is_given_up_after_the_limit_of_the_first() {
    let (text, fault) = stopped_after(0).await;
    assert!(text.is_empty());
    assert_eq!(fault.code, "engine-timeout", "{}", fault.detail);
    assert!(
        fault.detail.contains("begin its answer"),
        "{}",
        fault.detail
    );
    assert!(!fault.what_to_do.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_stops_in_the_middle_is_given_up_and_its_words_are_there() {
    let (text, fault) = stopped_after(3).await;
    assert!(text.starts_with("word0 word1 word2 "), "{text}");
    assert_eq!(fault.code, "engine-timeout", "{}", fault.detail);
    assert!(fault.detail.contains("go on with"), "{}", fault.detail);
}
