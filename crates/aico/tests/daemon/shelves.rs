//! Models on Ollama's disk, by the command line and the API: what is told first, what comes of it,
//! what happens when it goes wrong, and that it goes on after the daemon was killed.

use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::engines::{ask_mara, import_mara};
use crate::ollama_double::{Dialect, Double, Fault, Model};
use crate::registry::Registry;
use crate::support::{World, fails, text, until};

struct Beside {
    world: World,
    double: Double,
    registry: Registry,
    /// The double lives in it.
    _runtime: Runtime,
}

fn beside(dialect: Dialect) -> Beside {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let double = runtime.block_on(Double::start(dialect));
    let registry = Registry::start();
    registry.put("ns/tiny:v1", &[7; 5000], "MIT License\n\nWords of it.");
    let world = World::new();
    assert!(world.setup().status.success());
    let mut beside = Beside {
        world,
        double,
        registry,
        _runtime: runtime,
    };
    beside.serve();
    beside
}

impl Beside {
    fn serve(&mut self) {
        let password = self.world.path("password");
        let address = format!("ollama.address={}", self.double.address);
        let registry = format!("ollama.registry=http://{}", self.registry.host());
        self.world.serve_with(&[
            "--password-file",
            password.to_str().unwrap(),
            "--set",
            &address,
            "--set",
            "ollama.start=adopt",
            "--set",
            &registry,
        ]);
    }

    /// The name of the registry's model, as the command line has it.
    fn tiny(&self) -> String {
        format!("ollama/{}/ns/tiny:v1", self.registry.host())
    }

    fn models(&self) -> Vec<Value> {
        let all = self.world.said(&["model", "list", "--json"]);
        let all: Value = serde_json::from_str(&all).unwrap();
        let items = all["items"].as_array().unwrap().iter();
        items
            .filter(|one| one["engine"] == "ollama")
            .cloned()
            .collect()
    }

    fn has(&self, name: &str) -> bool {
        self.models().iter().any(|one| one["name"] == name)
    }

    fn jobs(&self) -> Vec<Value> {
        let all = self.world.said(&["model", "pulls", "--json"]);
        let all: Value = serde_json::from_str(&all).unwrap();
        all["engines"].as_array().unwrap().clone()
    }

    fn pulls(&self) -> usize {
        self.double.asked("/api/pull").len()
    }
}

#[test]
fn a_model_is_pulled_after_it_was_told_what_it_is_and_goes_again() {
    for dialect in [Dialect::Old, Dialect::New] {
        let beside = beside(dialect);
        let (world, name) = (&beside.world, beside.tiny());
        // Nobody is there who could agree: everything is told, and nothing is downloaded.
        let asked = world.aico(&["model", "pull", &name]);
        let told = text(&asked.stderr);
        assert_eq!(asked.status.code(), Some(2), "{told}");
        for word in [
            "5.",
            "kB",
            &beside.registry.host(),
            "MIT License",
            "leaves",
            "--yes",
        ] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert_eq!(beside.pulls(), 0);

        let done = world.aico(&["model", "pull", &name, "--yes", "--use"]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        let whole = name.strip_prefix("ollama/").unwrap();
        let pulled = beside.double.last("/api/pull");
        assert_eq!(pulled["model"], whole);
        assert_eq!(pulled["insecure"], true, "the owner's registry has no TLS");
        let models = beside.models();
        let model = models.iter().find(|one| one["name"] == whole).unwrap();
        assert_eq!(model["active"], true, "it answers from now on");
        assert_eq!(beside.jobs()[0]["status"], "done");
        let shown = world.said(&["model", "show", &name]);
        assert!(shown.contains("Apache License"), "{shown}");
        // Another way to the same.
        world.said(&["model", "use", "ollama/chat"]);

        fails(world, &["model", "remove", &name], 2, "nobody can be asked");
        assert!(beside.has(whole));
        world.said(&["model", "remove", &name, "--yes"]);
        assert!(!beside.has(whole));
        fails(
            world,
            &["model", "remove", &name, "--yes"],
            13,
            "no such model",
        );
    }
}

#[test]
fn what_can_not_be_pulled_is_told_with_its_reason() {
    let beside = beside(Dialect::New);
    let (world, name) = (&beside.world, beside.tiny());
    let none = format!("ollama/{}/ns/nothing", beside.registry.host());
    for (name, code, words) in [
        ("ollama/../x", 15, "no name"),
        ("ollama/a b", 15, "no name"),
        ("ollama/10.0.0.1/a/b", 30, "not fetched from this server"),
        ("ollama/qwen3:480b-cloud", 43, "Ollama's makers"),
        ("lab/x", 13, "no engine"),
        (none.as_str(), 13, "no model of this name"),
    ] {
        fails(world, &["model", "pull", name], code, words);
        if code != 13 {
            assert_eq!(beside.pulls(), 0);
        }
    }
    fails(
        world,
        &["model", "pull", &none, "--yes"],
        13,
        "no model of this name",
    );
    for (fault, code, words) in [
        (
            Fault::Error("write /x: no space left on device"),
            12,
            "has its models",
        ),
        (
            Fault::Error("write /x: input/output error"),
            31,
            "disk failed",
        ),
        (
            Fault::Error("open /x: read-only file system"),
            25,
            "writable",
        ),
        (
            Fault::Error("digest mismatch, file must be downloaded again"),
            29,
            "not what",
        ),
        (
            Fault::Error("dial tcp: lookup x: no such host"),
            27,
            "can't reach",
        ),
        (Fault::HalfLine, 41, "can't be read"),
        (Fault::Cut, 32, "in the middle"),
    ] {
        beside.double.fail("/api/pull", fault);
        fails(world, &["model", "pull", &name, "--yes"], code, words);
    }
    // Nothing ever came of those. Something did: it is tried again by itself.
    let before = beside.pulls();
    beside.double.fail("/api/pull", Fault::CutAt(4));
    let done = world.aico(&["model", "pull", &name, "--yes"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(
        text(&done.stderr).contains("tried again"),
        "{}",
        text(&done.stderr)
    );
    assert_eq!(beside.pulls() - before, 2);
    // No word of a person is asked for here, and none is in the log.
    assert!(!world.log().contains("/ns/tiny"));
}

#[test]
fn a_killed_daemon_goes_on_and_a_cancelled_one_does_not() {
    let mut beside = beside(Dialect::New);
    let name = beside.tiny();
    let whole = name.strip_prefix("ollama/").unwrap().to_owned();
    beside.double.fail("/api/pull", Fault::HangAfter(4));
    beside
        .world
        .said(&["model", "pull", &name, "--yes", "--detach"]);
    until("something of it came", || {
        let jobs = beside.jobs();
        (jobs[0]["done_bytes"] == 1000).then_some(())
    });
    beside.world.kill();
    beside.serve();
    until("it came by itself", || beside.has(&whole).then_some(()));
    assert_eq!(beside.pulls(), 2);

    beside.double.fail("/api/pull", Fault::HangAfter(4));
    beside
        .world
        .said(&["model", "pull", &name, "--yes", "--detach"]);
    until("it runs", || {
        (beside.jobs()[0]["status"] == "running").then_some(())
    });
    let said = beside.world.aico(&["model", "pull", &name, "--cancel"]);
    assert!(said.status.success(), "{}", text(&said.stderr));
    assert!(beside.jobs().is_empty());
    fails(
        &beside.world,
        &["model", "pull", &name, "--cancel"],
        13,
        "no such download",
    );
    let before = beside.pulls();
    beside.world.stop();
    beside.serve();
    assert!(beside.jobs().is_empty());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(beside.pulls(), before, "nobody wishes for it any more");
}

#[test]
fn models_are_made_of_files_modelfiles_and_characters() {
    let beside = beside(Dialect::Old);
    let world = &beside.world;
    let starter = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/starter/aico-starter.gguf"
    );
    // Of a file: nothing leaves, and how much is copied is told.
    let asked = world.aico(&["model", "create", "ollama/tiny", starter]);
    let told = text(&asked.stderr);
    for word in ["leaves", "nothing", "copied", "--yes"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    world.said(&["model", "create", "ollama/tiny", starter, "--yes"]);
    assert!(beside.has("tiny:latest"));
    assert_eq!(beside.double.state().blobs.len(), 1);

    std::fs::copy(starter, world.path("style.gguf")).unwrap();
    let modelfile = world.write(
        "Modelfile",
        "FROM tiny\nADAPTER ./style.gguf\nSYSTEM \"\"\"You are Aria.\nBe kind.\"\"\"\n\
         PARAMETER temperature 0.7\nTEMPLATE \"\"\"{{ .Prompt }}\"\"\"\nMESSAGE user Hi\n\
         MESSAGE assistant Hello.\nLICENSE MIT\n",
    );
    let modelfile = modelfile.to_str().unwrap();
    world.said(&[
        "model",
        "create",
        "ollama/aria",
        modelfile,
        "--yes",
        "--use",
    ]);
    let made = beside.double.state().models["aria:latest"].made_of.clone();
    assert_eq!(made["from"], "tiny");
    assert_eq!(made["system"], "You are Aria.\nBe kind.");
    assert_eq!(made["template"], "{{ .Prompt }}");
    assert!(made["adapters"]["style.gguf"].is_string(), "{made}");
    let active = beside.models();
    let active = active.iter().find(|one| one["active"] == true).unwrap();
    assert_eq!(active["name"], "aria:latest");

    // A character, on top of another model than the one that it is made for.
    let character = ["model", "create", "ollama/me", "--character", "AICO"];
    let character = [&character[..], &["--from", "tiny", "--yes"]].concat();
    world.said(&character);
    let made = beside.double.state().models["me:latest"].made_of.clone();
    assert_eq!(made["from"], "tiny");
    assert!(made["system"].as_str().is_some_and(|text| text.len() > 20));

    // On top of the first of those that it is made for, however Ollama calls that one.
    let eve = [
        "model",
        "create",
        "ollama/eve",
        "--character",
        "Eve",
        "--yes",
    ];
    fails(world, &eve, 13, "Qwen3-8B, Qwen3-4B");
    fails(world, &eve, 13, "tiny:latest");
    let known = Model::new(&["completion"]);
    for name in ["qwen3:4b", "qwen3:8b"] {
        beside
            .double
            .state()
            .models
            .insert(name.to_owned(), known.clone());
    }
    until("they are listed", || beside.has("qwen3:8b").then_some(()));
    world.said(&eve);
    let made = beside.double.state().models["eve:latest"].made_of.clone();
    assert_eq!(made["from"], "qwen3:8b");
    assert_eq!(beside.pulls(), 0);

    for (content, code, words) in [
        ("FROM tiny\nFORM x\n", 15, "Line 2"),
        ("FROM ./none.gguf\n", 13, "none.gguf"),
        ("FROM ./Modelfile.gguf\n", 15, "no model"),
        ("SYSTEM x\n", 15, "no FROM"),
    ] {
        world.write("Modelfile.gguf", "no model");
        let path = world.write("Wrong", content);
        let command = ["model", "create", "ollama/x", path.to_str().unwrap()];
        fails(world, &command, code, words);
    }
    assert!(!beside.has("x:latest"));
    fails(
        world,
        &["model", "create", "x", modelfile],
        2,
        "which program",
    );
}

#[test]
fn a_character_arrives_whole_and_may_have_its_model_asked_not_to_think() {
    let beside = beside(Dialect::Old);
    let world = &beside.world;
    world.said(&["engine", "check", "ollama"]);
    world.said(&["model", "use", "ollama/clever:8b"]);
    for (character, think) in [("Aico", true), ("Eve", false)] {
        world.said(&["chat", "--character", character, "--once", "Hello"]);
        let asked = beside.double.last("/api/chat");
        assert_eq!(asked["think"], think, "{character}");
    }
    let last = || beside.double.last("/api/chat");
    import_mara(world, "clever:8b");
    ask_mara(world, last, |question| &question["options"]);
    assert_eq!(last()["options"]["num_predict"], 99);
}
