//! Other programs: the official clients of OpenAI and of Ollama, with named tokens.
//!
//! `AICO_TEST_PYTHON` names a Python that has both; `./test` prepares one. Without it these tests
//! say that they were skipped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::gguf_writer::{self, Shape};
use crate::support::{PASSWORD, World, fails, text, until};

/// Runs a part of programs.py; what it printed.
pub(crate) struct Python {
    program: std::ffi::OsString,
    address: String,
}

impl Python {
    pub(crate) fn new(world: &World) -> Option<Self> {
        let Some(program) = std::env::var_os("AICO_TEST_PYTHON") else {
            eprintln!("skipped: AICO_TEST_PYTHON names no Python with openai and ollama");
            return None;
        };
        Some(Self {
            program,
            address: world.api().address,
        })
    }

    fn command(&self, token: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("AICO_ADDRESS", &self.address)
            .env("AICO_TOKEN", token)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // Nothing between the clients and this machine.
            .env("NO_PROXY", "*")
            .env("no_proxy", "*")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn part(&self, name: &str, token: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/programs.py");
        let mut command = self.command(token);
        command.arg(script).arg(name);
        command
    }

    pub(crate) fn run(&self, name: &str, token: &str) -> String {
        succeed(name, &mut self.part(name, token))
    }
}

fn succeed(name: &str, command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{name}: {}", text(&done.stderr));
    text(&done.stdout)
}

impl World {
    pub(crate) fn token(&self, more: &[&str]) -> String {
        let said = self.said(&[more, &["token", "create", "--name", "Editor"]].concat());
        said.trim().to_owned()
    }

    fn conversations(&self, more: &[&str]) -> Vec<Value> {
        let list = self.said(&[more, &["conversation", "list", "--json"]].concat());
        let list: Value = serde_json::from_str(&list).unwrap();
        list.as_array().unwrap().clone()
    }
}

#[test]
fn the_official_clients_talk_stream_and_are_refused_as_they_expect() {
    let world = World::ready();
    let Some(python) = Python::new(&world) else {
        return;
    };
    let token = world.token(&[]);
    python.run("chat", &token);
    python.run("refused", &token);
    let session = world.api().sign_in("Mia", PASSWORD).token;
    let mut strangers = python.part("strangers", &token);
    succeed("strangers", strangers.env("AICO_SESSION", session));

    let list: Value = serde_json::from_str(&world.said(&["token", "list", "--json"])).unwrap();
    assert!(list[0]["last_used_at"].is_string(), "{list}");
    assert!(!list.to_string().contains(&token[5..]));
    let counted = || -> u64 { python.run("metrics", &token).trim().parse().unwrap() };
    let questions = counted();
    world.said(&["lock"]);
    python.run("locked", &token);
    let password = world.path("password");
    world.said(&["unlock", "--password-file", password.to_str().unwrap()]);
    assert!(counted() > questions, "they were forgotten");
    python.run("chat", &token);
    world.said(&["token", "revoke", "editor"]);
    python.run("gone", &token);
    fails(
        &world,
        &["token", "revoke", "editor"],
        13,
        "aico token list",
    );
}

/// The fixtures' smallest package, brought in with the command line.
#[test]
fn the_official_clients_get_vectors_of_a_package() {
    let world = World::ready();
    let Some(python) = Python::new(&world) else {
        return;
    };
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../aico-models/tests/fixtures/transformers");
    for name in ["tiny-bert", "tiny-emotion"] {
        let said = world.said(&["model", "add", fixtures.join(name).to_str().unwrap()]);
        assert!(said.contains(name), "{said}");
    }
    let line = world.said(&["model", "embed", "The cat sat on the mat."]);
    let vector: Vec<f64> = serde_json::from_str(&line).unwrap();
    assert_eq!(vector.len(), 24);
    python.run("embeddings", &world.token(&[]));
    let listed = world.said(&["model", "list"]);
    assert!(
        listed.contains("for emotion") && listed.contains("ready"),
        "{listed}"
    );
    world.said(&["model", "remove", "tiny-bert"]);
    fails(&world, &["model", "embed", "x"], 15, "aico model catalogue");
}

#[test]
fn tokens_outlive_the_daemon_and_are_in_no_file_in_clear() {
    let mut world = World::ready();
    let Some(python) = Python::new(&world) else {
        return;
    };
    let token = world.token(&[]);
    world.stop();
    let mut all = Vec::new();
    crate::privacy::files(&world.data(), &mut all);
    assert!(all.len() > 3);
    for path in all {
        let bytes = std::fs::read(&path).unwrap();
        let secret = &token.as_bytes()[5..];
        let found = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!found, "{}", path.display());
    }
    world.serve();
    let python = Python {
        address: world.api().address,
        ..python
    };
    python.run("chat", &token);
    assert!(!world.log().contains(&token[5..]));
}

#[test]
fn the_owner_is_told_that_a_token_of_theirs_reads_everybody_s_figures() {
    let world = World::ready();
    let made = world.aico(&["token", "create", "--name", "Editor"]);
    let told = text(&made.stderr);
    assert!(made.status.success() && told.contains("/metrics"), "{told}");
    assert!(text(&made.stdout).trim().starts_with("aico_"));
    let file = world.write("ben", "copper meadow trumpet glass ladder");
    let file = file.to_str().unwrap();
    world.said(&["person", "add", "Ben", "--password-file", file]);
    let create = ["token", "create", "--name", "Editor"];
    let ben = ["--person", "Ben"];
    let made = world.aico(&[&ben[..], &create, &["--password-file", file]].concat());
    let told = text(&made.stderr);
    assert!(made.status.success(), "{told}");
    assert!(
        told.contains("acts for you") && !told.contains("/metrics"),
        "{told}"
    );
}

#[test]
fn the_model_aico_is_the_companion_of_the_token_s_person() {
    let world = World::ready();
    let Some(python) = Python::new(&world) else {
        return;
    };
    let file = world.write("ben", "copper meadow trumpet glass ladder");
    let file = file.to_str().unwrap();
    world.said(&["person", "add", "Ben", "--password-file", file]);
    let mine = world.token(&[]);
    let made = world.said(&[
        "--person",
        "Ben",
        "token",
        "create",
        "--name",
        "Editor",
        "--password-file",
        file,
    ]);
    let bens = made.trim();

    python.run("memory", &mine);
    // All of it is one conversation, as everywhere.
    let all = world.conversations(&[]);
    assert_eq!(all.len(), 1, "{all:?}");
    let id = all[0]["id"].as_str().unwrap();
    let shown = world.said(&["conversation", "show", id, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let messages = shown["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 6, "{shown}");
    assert!(
        messages
            .iter()
            .all(|message| message["status"] == "complete")
    );
    assert!(all[0]["title"].as_str().unwrap().contains("Zorblax"));
    // A model is told what it is told, and nothing is kept.
    python.run("chat", &mine);
    let all = world.conversations(&[]);

    // The other person's program sees none of it, and the other way round.
    python.run("memory", bens);
    assert_eq!(world.conversations(&[]).len(), all.len());
    let api = world
        .api()
        .sign_in("Ben", "copper meadow trumpet glass ladder");
    let (status, bens) = api.get("/api/v1/conversations");
    assert_eq!((status, bens["items"].as_array().unwrap().len()), (200, 1));
    assert_ne!(bens["items"][0]["id"], id);
}

#[test]
fn a_conversation_that_a_program_changed_goes_on_where_it_was_the_same() {
    let world = World::ready();
    let Some(python) = Python::new(&world) else {
        return;
    };
    python.run("edited", &world.token(&[]));
    let said = |title: &str| {
        let all = world.conversations(&[]);
        assert_eq!(all.len(), 2, "{all:?}");
        let found = all.iter().find(|one| one["title"] == title).unwrap();
        let id = found["id"].as_str().unwrap();
        let shown = world.said(&["conversation", "show", id, "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["messages"].as_array().unwrap().clone()
    };
    // The branch that was told last, and beside it the answer that it changed.
    let walnuts = said("I like walnuts.");
    assert_eq!(walnuts.len(), 6);
    assert_eq!(walnuts[2]["parts"][0]["text"], "And tea.");
    assert_eq!(walnuts[2]["siblings"].as_array().unwrap().len(), 2);
    assert_eq!(walnuts[3]["parts"][0]["text"], "Tea it is.");
    let plums = said("I like plums.");
    assert_eq!(plums.len(), 4);
    assert_eq!(plums[1]["parts"][0]["text"], "Tea it is.");
    assert_eq!(plums[3]["status"], "complete");
}

#[test]
fn a_program_that_is_closed_leaves_the_model_to_others() {
    let world = World::ready();
    let Some(python) = Python::new(&world) else {
        return;
    };
    let model = world.path("endless.gguf");
    gguf_writer::write(&model, &Shape::endless());
    world.said(&["model", "add", model.to_str().unwrap()]);
    let list: Value = serde_json::from_str(&world.said(&["model", "list", "--json"])).unwrap();
    let models = list["items"].as_array().unwrap();
    let added = models
        .iter()
        .find(|model| model["starter"] == false)
        .unwrap();
    world.said(&["model", "use", added["id"].as_str().unwrap()]);
    let token = world.token(&[]);
    let mut running = python
        .part("endless", &token)
        .arg(added["id"].as_str().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = running.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    assert_eq!(line, "streaming\n");
    let generating = || {
        let stats: Value = serde_json::from_str(&world.said(&["bus", "stats", "--json"])).unwrap();
        let services = stats["services"].as_array().unwrap();
        let mut generate = services
            .iter()
            .filter(|one| one["pattern"] == "models.generate");
        let count = |one: &Value| one["in_progress"].as_u64().unwrap();
        generate.next().map_or(0, count)
    };
    assert_eq!(generating(), 4);
    running.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(running.wait().unwrap().success());
    until("the model is free", || (generating() == 0).then_some(()));
    let all = world.conversations(&[]);
    assert_eq!(all.len(), 2);
    for conversation in all {
        let id = conversation["id"].as_str().unwrap();
        let shown = world.said(&["conversation", "show", id, "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["messages"][1]["status"], "cancelled");
    }
}

/// A model of this shape answers, in a world of its own.
fn world_of(shape: &Shape) -> World {
    let world = World::ready();
    let model = world.path("model.gguf");
    gguf_writer::write(&model, shape);
    world.said(&["model", "add", model.to_str().unwrap()]);
    let list: Value = serde_json::from_str(&world.said(&["model", "list", "--json"])).unwrap();
    let models = list["items"].as_array().unwrap();
    let added = models.iter().find(|model| model["starter"] == false);
    world.said(&["model", "use", added.unwrap()["id"].as_str().unwrap()]);
    world
}

#[test]
fn any_model_answers_the_official_clients_in_the_form_they_ask_for() {
    let world = world_of(&Shape::tiny());
    if let Some(python) = Python::new(&world) {
        python.run("structured", &world.token(&[]));
    }
}

#[test]
fn calls_of_tools_reach_the_official_clients_and_their_answers_the_model() {
    let world = world_of(&Shape::caller());
    if let Some(python) = Python::new(&world) {
        python.run("tools", &world.token(&[]));
    }
}

/// What docs/programs.md tells, done: its blocks of Python as they stand, but for the port.
#[test]
fn the_programs_of_the_documents_run() {
    let world = World::ready();
    let Some(python) = Python::new(&world) else {
        return;
    };
    let page = include_str!("../../../../docs/programs.md");
    let token = world.token(&[]);
    let blocks: Vec<_> = page.split("```python\n").skip(1).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let code = block.split("```").next().unwrap();
        let code = code.replace("127.0.0.1:8771", &python.address);
        let said = succeed(&code, python.command(&token).args(["-c", &code]));
        assert!(said.len() > 10, "{said}");
    }
}
