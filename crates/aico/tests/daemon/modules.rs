//! Modules of other makers: admitted, heard, refused, cut off; and persons who agree or not.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use aico_bus::link::{Connection, LinkError, connect, read_public_key};
use aico_bus::{BusError, Client, Delivery, Meta, Queue, Subscription};
use aico_contracts::v1::Empty;
use serde_json::Value;

use crate::privacy::files;
use crate::support::{World, text, until};

const PATIENCE: Duration = Duration::from_secs(30);

fn read(path: &Path) -> Connection {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Joins with a connection file, over its first endpoint.
async fn join(path: &Path) -> Result<Client, LinkError> {
    let connection = read(path);
    connect(connection.credentials(&connection.endpoints[0])).await
}

async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it did not happen in time")
}

async fn next_topic(subscription: &mut Subscription) -> String {
    match soon(subscription.recv()).await {
        Some(Delivery::Message(envelope)) => envelope.topic.to_string(),
        other => panic!("a message was expected, not {other:?}"),
    }
}

/// What follows the person in the topics of what is there already.
fn heard(subscription: &mut Subscription) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(delivery) = subscription.try_recv() {
        match delivery {
            Delivery::Message(envelope) => all.push(envelope.topic.to_string()),
            Delivery::Gap { .. } | Delivery::Interrupted { .. } => {
                panic!("nothing is dropped here")
            }
        }
    }
    all
}

impl World {
    fn add_module(&self, name: &str, more: &[&str]) -> std::path::PathBuf {
        let file = self.path(&format!("{name}.json"));
        let mut arguments = vec!["module", "add", name, "--out", file.to_str().unwrap()];
        arguments.extend(more);
        self.said(&arguments);
        file
    }

    /// Once the model process is on the bus, so that whoever comes then is somebody else.
    fn peers_without_modules(&self) -> u64 {
        until("the model is ready", || {
            let status: Value = serde_json::from_str(&self.said(&["status", "--json"])).unwrap();
            (status["model"]["status"] == "ready").then_some(())
        });
        self.peers()
    }

    fn peers(&self) -> u64 {
        let stats: Value = serde_json::from_str(&self.said(&["bus", "stats", "--json"])).unwrap();
        stats["peers"].as_u64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_does_what_it_was_granted_and_nothing_else() {
    let mut world = World::ready();
    let models = world.peers_without_modules();
    let file = world.add_module(
        "weather",
        &["--publish", "weather.#", "--subscribe", "weather.now"],
    );
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let connection = read(&file);
    assert_eq!(
        (connection.version, connection.name.as_str()),
        (1, "weather")
    );
    assert!(
        connection
            .endpoints
            .iter()
            .any(|one| one.starts_with("ipc://"))
    );
    assert!(
        connection
            .endpoints
            .iter()
            .any(|one| one.starts_with("tcp://127.0.0.1:"))
    );
    for endpoint in &connection.endpoints {
        let weather = connect(connection.credentials(endpoint)).await.unwrap();
        let mut own = weather.subscribe("weather.now", Queue::default()).unwrap();
        soon(own.ready()).await.unwrap();
        weather
            .publish("weather.now", &Empty {}, Meta::new())
            .unwrap();
        assert_eq!(next_topic(&mut own).await, "weather.now");
        let mut other = weather
            .subscribe("weather.nowhere", Queue::default())
            .unwrap();
        assert!(matches!(
            soon(other.ready()).await,
            Err(BusError::RefusedByPeer { .. })
        ));
        let mut theirs = weather
            .subscribe("conversation.*.event.*", Queue::default())
            .unwrap();
        assert!(soon(theirs.ready()).await.is_err());
        let asked = soon(weather.request::<_, Empty>("models.list", &Empty {}, Meta::new())).await;
        assert!(asked.is_err());
        // The link ends with the last that uses it.
        drop((weather, own, other, theirs));
        until("the peer is gone", || {
            (world.peers() == models).then_some(())
        });
    }

    // A key that is not listed, and one of another server.
    let mut stranger = Connection::generate("weather");
    stranger.server_public = connection.server_public.clone();
    assert!(
        connect(stranger.credentials(&connection.endpoints[0]))
            .await
            .is_err()
    );
    let mut fooled = connection.credentials(&connection.endpoints[0]);
    fooled.server_public = stranger.client_public.clone();
    assert!(connect(fooled).await.is_err());

    world.stop();
    // The secret is in that file and, in neither form, in any file of the data folder.
    let bytes = read_public_key(&connection.client_secret).unwrap();
    let mut all = Vec::new();
    files(&world.data(), &mut all);
    assert!(all.len() > 3);
    for path in all {
        let content = std::fs::read(&path).unwrap();
        for secret in [connection.client_secret.as_bytes(), &bytes] {
            let found = content.windows(secret.len()).any(|part| part == secret);
            assert!(!found, "{}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_and_revoked_and_outlive_a_restart() {
    let mut world = World::ready();
    let models = world.peers_without_modules();
    let file = world.add_module("weather", &["--publish", "weather.#"]);
    let before = join(&file).await.unwrap();
    world.stop();
    soon(before.closed()).await;
    world.serve();
    let again = join(&file).await.unwrap();
    until("it is there", || (world.peers() > models).then_some(()));

    let old = std::fs::read_to_string(&file).unwrap();
    world.said(&[
        "module",
        "rotate",
        "weather",
        "--out",
        file.to_str().unwrap(),
    ]);
    soon(again.closed()).await;
    assert_ne!(old, std::fs::read_to_string(&file).unwrap());
    let kept = world.write("old.json", &old);
    assert!(join(&kept).await.is_err(), "the old key is void");
    let rotated = join(&file).await.unwrap();

    world.said(&["module", "revoke", "weather"]);
    soon(rotated.closed()).await;
    assert!(join(&file).await.is_err());
    let gone = world.aico(&["module", "revoke", "weather"]);
    assert_eq!(gone.status.code(), Some(13), "{}", text(&gone.stderr));
    assert!(world.said(&["module", "list", "--json"]).contains("[]"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_persons_data_needs_their_agreement_and_ends_with_it() {
    let world = World::ready();
    let password = world.write("ben", "copper meadow trumpet glass violin");
    let password = password.to_str().unwrap();
    world.said(&["person", "add", "Ben", "--password-file", password]);
    let as_ben = |what: &[&str]| {
        let mut all = vec!["--person", "Ben"];
        all.extend(what);
        all.extend(["--password-file", password]);
        world.said(&all)
    };
    let file = world.path("diary.json");
    world.said(&[
        "--person",
        "Ben",
        "module",
        "add",
        "diary",
        "--subscribe",
        "conversation.*.#",
        "--out",
        file.to_str().unwrap(),
    ]);
    let diary = join(&file).await.unwrap();
    let mut events = diary
        .subscribe("conversation.*.#", Queue::default())
        .unwrap();
    soon(events.ready()).await.unwrap();
    let talk = || {
        as_ben(&["chat", "--once", "Hello"]);
        world.chat(None, "Hello");
    };
    talk();
    assert!(
        heard(&mut events).is_empty(),
        "Ben has not agreed, and Mia was not asked for"
    );

    as_ben(&["module", "agree", "diary"]);
    talk();
    let first = next_topic(&mut events).await;
    let ben = first.split('.').nth(1).unwrap().to_owned();
    let rest = std::iter::once(first).chain(heard(&mut events));
    assert!(
        rest.into_iter().all(|topic| topic.contains(&ben)),
        "only Ben's"
    );

    as_ben(&["module", "withdraw", "diary"]);
    // What was on the way before that may still come.
    talk();
    let late = heard(&mut events).len();
    talk();
    talk();
    assert_eq!(heard(&mut events).len(), 0, "{late} came late");

    // A member sees modules that ask for them; the owner is refused Ben's agreement.
    assert!(as_ben(&["module", "list"]).contains("has not agreed"));
    let forced = world.aico(&["module", "agree", "diary"]);
    assert_eq!(forced.status.code(), Some(13), "{}", text(&forced.stderr));
    let asked = world.aico(&["module", "add", "x", "--subscribe", "#"]);
    assert_eq!(asked.status.code(), Some(15), "{}", text(&asked.stderr));
    assert!(text(&asked.stderr).contains("name the first segment"));
    assert!(!world.path("x.json").exists());
}

/// A process whose lines are read.
struct Speaking {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Speaking {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn says(&mut self, words: &str) -> String {
        self.lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains(words))
            .unwrap_or_else(|| panic!("it ended without {words:?}"))
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The messages in Python, as docs/modules.md has them made.
fn compile_contracts(world: &World, python: &std::ffi::OsStr) -> String {
    let contracts = world.path("contracts");
    let contracts = contracts.to_str().unwrap().to_owned();
    world.said(&["contracts", "export", &contracts]);
    let compiled = Command::new(python)
        .args(["-m", "grpc_tools.protoc", "-I", &contracts])
        .arg(format!("--python_out={contracts}"))
        .arg(format!("{contracts}/aico/v1/envelope.proto"))
        .status()
        .unwrap();
    assert!(compiled.success());
    contracts
}

/// The ten lines of docs/modules.md with a SUB socket, as they stand there.
#[test]
fn the_ten_lines_of_the_documents_hear_what_was_granted() {
    let Some(python) = std::env::var_os("AICO_TEST_PYTHON") else {
        eprintln!("skipped: AICO_TEST_PYTHON names no Python with pyzmq and grpcio-tools");
        return;
    };
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/modules.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("```python\n").unwrap();
    let (program, _) = rest.split_once("```").unwrap();
    assert_eq!(program.lines().count(), 10);
    let world = World::ready();
    let models = world.peers_without_modules();
    let password = world.write("ben", "copper meadow trumpet glass violin");
    let password = password.to_str().unwrap();
    world.said(&["person", "add", "Ben", "--password-file", password]);
    let program = world.write("ten.py", program);
    let contracts = compile_contracts(&world, &python);
    let start = |file: &Path| {
        Speaking::start(
            Command::new(&python)
                .arg(&program)
                .arg(file)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("PYTHONPATH", &contracts),
        )
    };
    let file = world.add_module("diary", &["--subscribe", "conversation.*.#"]);
    assert!(
        read(&file)
            .live_endpoints
            .iter()
            .any(|one| one.starts_with("tcp://127.0.0.1:"))
    );
    let mut diary = start(&file);
    let stands = |world: &World| {
        until("it listens", || {
            let stats = world.said(&["bus", "stats", "--json"]);
            stats.contains("module:diary").then_some(())
        });
    };
    stands(&world);
    // Ben did not agree: nothing of his comes, and what comes next is the owner's.
    world.said(&[
        "--person",
        "Ben",
        "chat",
        "--once",
        "Hello",
        "--password-file",
        password,
    ]);
    world.chat(None, "Hello");
    let first = diary.says("conversation.");
    let mine = first.split('.').nth(1).unwrap().to_owned();
    assert!(first.starts_with("companion  conversation."), "{first}");
    let mut line = first;
    while !line.ends_with(".answer-done") {
        assert!(line.contains(&mine), "{line}");
        line = diary.says("");
    }
    // With other keys the old ones are void here too, and so is what was granted after the end.
    world.said(&["module", "rotate", "diary", "--out", file.to_str().unwrap()]);
    until("it is cut off", || (world.peers() == models).then_some(()));
    let mut rotated = start(&file);
    stands(&world);
    world.chat(None, "Hello again");
    rotated.says(&mine);
    world.said(&["module", "revoke", "diary"]);
    until("it is cut off", || (world.peers() == models).then_some(()));
}

/// What docs/modules.md tells, done.
#[test]
fn the_module_of_the_documents_runs() {
    let Some(python) = std::env::var_os("AICO_TEST_PYTHON") else {
        eprintln!("skipped: AICO_TEST_PYTHON names no Python with pyzmq and grpcio-tools");
        return;
    };
    let mut world = World::ready();
    let file = world.add_module(
        "weather",
        &[
            "--publish",
            "weather.#",
            "--serve",
            "weather.today",
            "--subscribe",
            "conversation.*.#",
            "--request",
            "models.count",
        ],
    );
    let contracts = world.path("contracts");
    let contracts = contracts.to_str().unwrap();
    world.said(&["contracts", "export", contracts]);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/weather");
    let compiled = Command::new(&python)
        .args(["-m", "grpc_tools.protoc", "-I", contracts, "-I"])
        .arg(&example)
        .arg(format!("--python_out={contracts}"))
        .args(
            [
                "envelope",
                "link",
                "conversation",
                "models",
                "activity",
                "system",
            ]
            .map(|name| format!("{contracts}/aico/v1/{name}.proto")),
        )
        .arg(example.join("weather.proto"))
        .status()
        .unwrap();
    assert!(compiled.success());
    let mut weather = Speaking::start(
        Command::new(&python)
            .arg(example.join("weather.py"))
            .arg(&file)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", format!("{contracts}:{}", example.display())),
    );
    let tail = |world: &World| Speaking::start(&mut world.command(&["bus", "tail", "weather.#"]));
    tail(&world).says("module:weather  weather.now");
    world.chat(None, "Hello");
    weather.says("an answer is done");
    weather.says("tokens");
    // It finds the daemon again that was stopped and started.
    world.stop();
    world.serve();
    tail(&world).says("module:weather  weather.now");
    world.chat(None, "Hello again");
    weather.says("an answer is done");
}
