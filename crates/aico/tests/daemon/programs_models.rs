//! Other programs and the models that they name: two at once, those of an Ollama, those of a
//! server that the person has to allow first.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::OnceLock;

use serde_json::Value;

use crate::engines::{lab, serve, set_key};
use crate::gguf_writer::{self, Shape};
use crate::ollama_double::{Dialect, Double, Fault};
use crate::programs::Python;
use crate::support::{World, fails, text};

fn models(world: &World) -> Vec<Value> {
    let list: Value = serde_json::from_str(&world.said(&["model", "list", "--json"])).unwrap();
    list["items"].as_array().unwrap().clone()
}

fn chosen(world: &World) -> String {
    let all = models(world);
    let active = all.iter().find(|model| model["active"] == true).unwrap();
    active["id"].as_str().unwrap().to_owned()
}

fn egress(world: &World) -> String {
    world.said(&["egress", "list", "--json"])
}

/// Runs what the doubles run on, for as long as the tests do.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap())
}

#[test]
fn two_programs_ask_two_models_at_once_and_the_chosen_one_stays() {
    let world = World::ready();
    let Some(python) = Python::new(&world) else {
        return;
    };
    // Two files that are called alike.
    for (file, shape) in [
        ("endless.gguf", Shape::endless()),
        ("tiny.gguf", Shape::tiny()),
    ] {
        let path = world.path(file);
        gguf_writer::write(&path, &shape);
        world.said(&["model", "add", path.to_str().unwrap()]);
    }
    let before = chosen(&world);
    let all = models(&world);
    let id = |file: &str| {
        let is_it = |model: &&Value| model["file"].as_str().unwrap().ends_with(file);
        let found = all.iter().find(is_it).unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    let token = world.token(&[]);
    let editor = world.said(&["token", "create", "--name", "Other"]);
    let mut one = python
        .part("streams_on", &token)
        .arg(id("endless.gguf"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = one.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    assert_eq!(line, "streaming\n");
    // Meanwhile the other program asks another model, to its end.
    let mut two = python.part("beside_it", editor.trim());
    let done = two.arg(id("endless.gguf")).arg(id("tiny.gguf")).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(one.try_wait().unwrap().is_none(), "the first one goes on");
    one.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(one.wait().unwrap().success());
    python.run("lets_go", &token);
    assert_eq!(chosen(&world), before);

    // One whose file goes is listed no longer, and asked for it is said what is wrong.
    std::fs::remove_file(world.path("tiny.gguf")).unwrap();
    let mut gone = python.part("file_gone", &token);
    let done = gone.arg(id("tiny.gguf")).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
}

#[test]
fn a_server_s_models_are_asked_once_the_person_allows_it_and_never_before() {
    let (mut lab, port, key) = lab();
    let mut world = World::new();
    let done = world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    serve(&mut world, &port);
    set_key(&world, &key);
    for name in ["near", "lab"] {
        world.said(&["engine", "check", name]);
    }
    let Some(python) = Python::new(&world) else {
        return;
    };
    let before = chosen(&world);
    let token = world.token(&[]);
    let asked = || lab.said(&["conversation", "list", "--json"]);
    let nothing = asked();
    python.run("server_not_allowed", &token);
    // Not a word of it left, and nothing was noted as if it had.
    assert_eq!(asked(), nothing);
    assert_eq!(egress(&world).trim(), "[]");
    world.said(&["engine", "allow", "lab"]);
    python.run("server_allowed", &token);
    let noted: Value = serde_json::from_str(&egress(&world)).unwrap();
    let noted = noted.as_array().unwrap();
    assert!(!noted.is_empty());
    let of_lab = |one: &Value| one["engine"] == "lab" && one["bytes"].as_u64().unwrap() > 0;
    assert!(noted.iter().all(of_lab), "{noted:?}");
    world.said(&["engine", "forbid", "lab"]);
    python.run("server_not_allowed", &token);
    assert_eq!(chosen(&world), before);

    // It goes away: told as that, in both shapes, and no other answers.
    lab.stop();
    python.run("server_away", &token);
    fails(&world, &["engine", "check", "near"], 40, "does not run");
}

#[test]
fn the_models_of_an_ollama_are_asked_by_its_names_and_its_faults_are_told_apart() {
    let double = runtime().block_on(Double::start(Dialect::New));
    let mut world = World::new();
    let done = world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    let password = world.path("password");
    let address = format!("ollama.address={}", double.address);
    world.serve_with(&[
        "--password-file",
        password.to_str().unwrap(),
        "--set",
        "ollama.start=adopt",
        "--set",
        &address,
    ]);
    let Some(python) = Python::new(&world) else {
        return;
    };
    let token = world.token(&[]);
    python.run("ollama_beside", &token);
    let said = double.last("/api/chat");
    assert_eq!(said["messages"][0]["content"], "Hello");
    assert!(egress(&world).trim() == "[]", "it is on this machine");
    python.run("ollama_sees", &token);
    let asked = double.asked("/api/chat");
    let images = asked
        .iter()
        .filter_map(|one| one.pointer("/messages/0/images"));
    let sent = serde_json::json!(["iVBORw0KGgo="]);
    assert_eq!(images.collect::<Vec<_>>(), [&sent; 3]);

    // What goes wrong with it, and what programs are told: whole answers by their status, streams
    // by their last piece; what came before it is kept.
    for (fault, code) in [
        (Fault::Garbage, "engine-unreadable"),
        (Fault::HalfLine, "engine-unreadable"),
        (Fault::Cut, "engine-cut-off"),
        (Fault::NoDone, "engine-cut-off"),
        (
            Fault::Status(500, "llama runner process has terminated"),
            "engine-failed",
        ),
    ] {
        for part in ["ollama_fails", "ollama_breaks"] {
            // Each shape asks once.
            for _ in 0..2 {
                double.fail("/api/chat", fault.clone());
            }
            let mut told = python.part(part, &token);
            let told = told.arg(code).output().unwrap();
            assert!(told.status.success(), "{fault:?}: {}", text(&told.stderr));
        }
    }
    // Left alone after failures one after another, and that is told.
    for _ in 0..3 {
        double.fail(
            "/api/chat",
            Fault::Status(500, "llama runner process has terminated"),
        );
    }
    python.run("ollama_rests", &token);
}
