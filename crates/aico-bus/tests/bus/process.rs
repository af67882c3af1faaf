//! The link with a real child process: what happens when either of them dies.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use crate::common::{bus, delta, id, soon, until};
use aico_bus::link::{Credentials, Listener, connect, endpoint_in};
use aico_bus::{Bus, Meta, Queue, RequestError};
use aico_contracts::topics;
use aico_contracts::v1::{AnswerDelta, Empty};

/// Set in the child: which part it plays.
const PART: &str = "AICO_BUS_TEST_CHILD";

/// Not a test by itself: the child that the tests below start from this same program.
#[test]
fn child() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let credentials: Credentials = serde_json::from_str(&line).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = connect(credentials).await.unwrap();
        let mut requests = client.serve(topics::MODELS_GENERATE, 2).unwrap();
        let serving = tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                let mut responder = request.stream();
                let mut index = 0;
                // Half of what it could say, when it plays the one that hangs.
                while index < 10 {
                    responder.send(delta(index)).await.unwrap();
                    index += 1;
                }
                if part == "hangs" {
                    responder.cancelled().await;
                }
                responder.end(delta(index));
            }
        });
        client.closed().await;
        serving.abort();
    });
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(part: &str, credentials: &Credentials) -> Running {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "process::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env_clear()
        .env(PART, part)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    writeln!(pipe, "{}", serde_json::to_string(credentials).unwrap()).unwrap();
    Running(child)
}

async fn listening() -> (Bus, Listener, tempfile::TempDir) {
    let bus = bus();
    let folder = tempfile::tempdir().unwrap();
    let endpoint = endpoint_in(&folder.path().join("run")).unwrap();
    let listener = Listener::bind(&bus, &endpoint).await.unwrap();
    (bus, listener, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_process_answers_and_ends_with_its_daemon() {
    let (bus, listener, _folder) = listening().await;
    let mut child = start("answers", &listener.issue(id("model-process")));
    until(|| !bus.stats().servers.is_empty()).await;
    let daemon = bus.join(id("companion"));
    let mut answers =
        soon(daemon.open_stream::<_, AnswerDelta>(topics::MODELS_GENERATE, &Empty {}, Meta::new()))
            .await
            .unwrap();
    for index in 0..=10 {
        assert_eq!(soon(answers.next()).await.unwrap().unwrap().index, index);
    }
    assert!(soon(answers.next()).await.is_none());
    drop(listener);
    until(|| child.0.try_wait().unwrap().is_some()).await;
    assert!(child.0.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_child_is_noticed_and_a_new_one_takes_its_place() {
    let (bus, listener, _folder) = listening().await;
    let daemon = bus.join(id("companion"));
    for _ in 0..3 {
        let mut child = start("hangs", &listener.issue(id("model-process")));
        until(|| !bus.stats().servers.is_empty()).await;
        let mut answers = soon(daemon.open_stream::<_, AnswerDelta>(
            topics::MODELS_GENERATE,
            &Empty {},
            Meta::new(),
        ))
        .await
        .unwrap();
        for index in 0..10 {
            assert_eq!(soon(answers.next()).await.unwrap().unwrap().index, index);
        }
        // SIGKILL in the middle of an answer.
        child.0.kill().unwrap();
        assert_eq!(
            soon(answers.next()).await.unwrap().unwrap_err(),
            RequestError::ServerGone
        );
        assert!(soon(answers.next()).await.is_none());
        until(|| bus.stats().servers.is_empty() && bus.stats().peers == 0).await;
        let nobody = soon(daemon.open_stream::<_, AnswerDelta>(
            topics::MODELS_GENERATE,
            &Empty {},
            Meta::new(),
        ))
        .await;
        assert!(matches!(
            nobody.map(|_| ()),
            Err(RequestError::NobodyServes { .. })
        ));
    }
    let mut subscription = daemon.subscribe("ui.#", Queue::default()).unwrap();
    assert!(subscription.try_recv().is_none());
}
