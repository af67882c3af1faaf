//! Servers that run models: a second AICO is the server of the first, with a named token as the
//! key. It is reached by two addresses: one that can be this machine's only, and one that counts
//! as another machine's.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use aico_contracts::v1;
use aico_models::backend::openai::{Keys, Server, ServerConfig};
use aico_models::backend::{Asker, Backend, BackendError, Item};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::backups::{add_ben, backup, restore};
use crate::support::{PASSWORD, World, fails, text};

/// A world whose daemon can be a server, its port, and the key to it.
pub(crate) fn lab() -> (World, String, String) {
    let mut lab = World::new();
    let done = lab.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    let password = lab.path("password");
    // The name by which the other one asks.
    lab.serve_with(&[
        "--password-file",
        password.to_str().unwrap(),
        "--set",
        "gateway.names=0.0.0.0",
    ]);
    let port = lab.api().address.rsplit_once(':').unwrap().1.to_owned();
    let key = lab.said(&["token", "create", "--name", "Home"]);
    (lab, port, key.trim().to_owned())
}

/// Starts a daemon that has the server twice.
pub(crate) fn serve(world: &mut World, port: &str) {
    let password = world.path("password");
    let near = format!("models.servers.near.url=http://127.0.0.1:{port}");
    let far = format!("models.servers.lab.url=http://0.0.0.0:{port}/v1");
    world.serve_with(&[
        "--password-file",
        password.to_str().unwrap(),
        "--set",
        &near,
        "--set",
        "models.servers.near.key=secret:lab",
        "--set",
        &far,
        "--set",
        "models.servers.lab.key=secret:lab",
        "--set",
        "models.servers.lab.unencrypted=allowed",
    ]);
}

pub(crate) fn set_key(world: &World, key: &str) {
    let mut child = world
        .command(&["config", "secret", "set", "lab"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), key.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn engine(world: &World, more: &[&str], name: &str) -> Value {
    let list = world.said(&[more, &["engine", "list", "--json"]].concat());
    let list: Value = serde_json::from_str(&list).unwrap();
    let mut all = list.as_array().unwrap().iter();
    all.find(|one| one["name"] == name).unwrap().clone()
}

fn allowed(world: &World, more: &[&str]) -> (bool, bool) {
    let lab = engine(world, more, "lab");
    assert_eq!(lab["network"], true);
    let flag = |name: &str| lab[name].as_bool().unwrap();
    (flag("allowed"), flag("allowed_elsewhere"))
}

#[test]
fn a_second_aico_is_tried_as_a_server_and_each_fault_says_what_to_do() {
    let (mut lab, port, key) = lab();
    let mut world = World::new();
    let done = world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    serve(&mut world, &port);

    let near = engine(&world, &[], "near");
    assert_eq!(near["address"], format!("127.0.0.1:{port}"));
    assert_eq!(
        (&near["network"], &near["allowed"]),
        (&false.into(), &true.into())
    );
    assert_eq!(near["status"], "unknown");
    fails(
        &world,
        &["engine", "check", "near"],
        43,
        "aico config secret set lab",
    );
    set_key(&world, "sk-zebra-of-nobody");
    for name in ["near", "lab"] {
        fails(&world, &["engine", "check", name], 43, "refuses the key");
    }
    set_key(&world, &key);
    for name in ["near", "lab"] {
        let said = world.said(&["engine", "check", name]);
        assert!(said.contains("\n  aico\n"), "{said}");
    }
    assert_eq!(engine(&world, &[], "near")["status"], "ready");
    fails(
        &world,
        &["engine", "check", "nowhere"],
        13,
        "aico engine list",
    );

    // Another program in its place, then nothing.
    lab.stop();
    fails(&world, &["engine", "check", "near"], 40, "does not run");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"));
    if let Ok(listener) = listener {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = std::io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH_9.6\r\n");
                // As such a server does, it waits for more.
                all.push(stream);
            }
        });
        fails(
            &world,
            &["engine", "check", "near"],
            41,
            "Another program runs in the place of near",
        );
    }
    let json = world.aico(&["engine", "check", "near", "--json"]);
    let told: Value = serde_json::from_slice(&json.stdout).unwrap();
    let code = told["engine"]["code"].as_str().unwrap();
    assert!(code.starts_with("engine-"), "{told}");

    // The key is told by nothing.
    let api = world.api().sign_in("Mia", PASSWORD);
    let shown = api.get("/api/v1/config").1.to_string();
    assert!(shown.contains("secret:lab") && !shown.contains(&key));
    assert!(!world.log().contains(&key) && !world.log().contains("zebra"));
    let logs = world.said(&["logs"]);
    assert!(!logs.contains(&key) && !logs.contains("zebra"));
    world.said(&["lock"]);
    fails(&world, &["engine", "check", "near"], 4, "locked");
}

#[test]
fn each_person_allows_a_server_for_themselves_at_the_address_they_saw() {
    let mut world = World::new();
    let done = world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    serve(&mut world, "9");
    let password = add_ben(&world);
    let from = ["--password-file", password.as_str()];
    let as_ben = |what: &[&str]| -> Vec<String> {
        let all = [&["--person", "Ben"], what, &from[..]].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let said = |arguments: Vec<String>| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        world.said(&arguments)
    };
    let bens = || -> Value {
        let list = said(as_ben(&["engine", "list", "--json"]));
        let list: Value = serde_json::from_str(&list).unwrap();
        let mut all = list.as_array().unwrap().iter();
        all.find(|one| one["name"] == "lab").unwrap()["allowed"].clone()
    };
    assert_eq!(allowed(&world, &[]), (false, false));
    world.said(&["engine", "allow", "lab"]);
    assert_eq!(
        (allowed(&world, &[]), bens()),
        ((true, false), false.into())
    );
    said(as_ben(&["engine", "allow", "lab"]));
    world.said(&["engine", "forbid", "lab"]);
    assert_eq!(
        (allowed(&world, &[]), bens()),
        ((false, false), true.into())
    );
    fails(&world, &["engine", "forbid", "lab"], 13, "");
    fails(&world, &["engine", "allow", "near"], 15, "on this machine");
    fails(
        &world,
        &["engine", "allow", "nowhere"],
        13,
        "aico engine list",
    );
    world.said(&["engine", "allow", "lab"]);
    assert!(world.said(&["egress", "list"]).is_empty());

    // It stays over a restart; where the address is another one, it does not count.
    let archive = backup(&world, &[]);
    world.stop();
    serve(&mut world, "9");
    assert_eq!(allowed(&world, &[]), (true, false));
    world.stop();
    serve(&mut world, "99");
    assert_eq!(allowed(&world, &[]), (false, true));
    let listed = world.said(&["engine", "list"]);
    assert!(listed.contains("at another address"), "{listed}");
    world.stop();

    // No archive holds it: a restore brings back no consent that was withdrawn since.
    restore(&world, &archive);
    serve(&mut world, "9");
    assert_eq!(allowed(&world, &[]), (false, false));
}

#[test]
fn a_server_that_could_be_listened_to_stops_the_start_with_its_line() {
    let mut world = World::ready();
    world.stop();
    let config = "models:\n  servers:\n    lab:\n      url: http://192.168.1.7:8000\n";
    std::fs::write(world.data().join("config.yaml"), config).unwrap();
    crate::support::serve_fails(&world, 17, "config.yaml:4: models.servers.lab.url");
}

/// Brings in a character that says something of all that a model is told, made for this model.
pub(crate) fn import_mara(world: &World, model: &str) {
    let modelfile = format!(
        "# aico-name: Mara\nFROM {model}\nSYSTEM You are Mara, who keeps a lighthouse.\n\
         PARAMETER temperature 0.5\nPARAMETER top_p 0.75\nPARAMETER top_k 17\n\
         PARAMETER min_p 0.125\nPARAMETER repeat_penalty 1.25\nPARAMETER seed 7\n\
         PARAMETER stop User:\nPARAMETER num_predict 99\n\
         MESSAGE user Hello there.\nMESSAGE assistant Ahoy.\n"
    );
    let file = world.write("Modelfile", &modelfile);
    world.said(&["character", "import", file.to_str().unwrap()]);
}

/// Says something to her, and holds what the model was asked to what she is.
pub(crate) fn ask_mara(
    world: &World,
    asked: impl FnOnce() -> Value,
    options: fn(&Value) -> &Value,
) {
    let words = ["chat", "--character", "Mara", "--once", "Good evening"];
    world.said(&words);
    let asked = asked();
    let turns = asked["messages"].as_array().unwrap().iter();
    let turns: Vec<(&str, &str)> = turns
        .map(|turn| {
            let text = |key: &str| turn[key].as_str().unwrap();
            (text("role"), text("content"))
        })
        .collect();
    let (role, told) = turns[0];
    assert_eq!(role, "system");
    assert!(
        told.starts_with("You are Mara, who keeps a lighthouse."),
        "{told}"
    );
    let said = [
        ("user", "[Example] Hello there."),
        ("assistant", "Ahoy."),
        ("user", "Good evening"),
    ];
    assert_eq!(turns[1..], said);
    let sampling = json!({
        "temperature": 0.5, "top_p": 0.75, "top_k": 17, "min_p": 0.125, "repeat_penalty": 1.25,
        "seed": 7, "stop": ["User:"],
    });
    for (name, value) in sampling.as_object().unwrap() {
        assert_eq!(&options(&asked)[name], value, "{name}");
    }
}

/// A server with one model, `sage`: its port, and the questions that came.
fn sage() -> (u16, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let came = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _the_other_side_went = stream.and_then(|stream| answer(stream, &came));
        }
    });
    (port, asked)
}

fn answer(stream: TcpStream, asked: &Mutex<Vec<Value>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut wanted = String::new();
    stream.read_line(&mut wanted)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let (kind, told) = if wanted.starts_with("POST /v1/chat/completions ") {
        asked
            .lock()
            .unwrap()
            .push(serde_json::from_slice(&body).unwrap());
        let said = r#"{"choices":[{"delta":{"content":"Ahoy."},"finish_reason":"stop"}]}"#;
        let told = format!("data: {said}\n\ndata: [DONE]\n\n");
        ("text/event-stream", told)
    } else {
        ("application/json", r#"{"data":[{"id":"sage"}]}"#.to_owned())
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        told.len()
    );
    stream.get_mut().write_all((head + &told).as_bytes())
}

#[test]
fn a_character_arrives_whole_at_a_server_and_is_told_nothing_false_of_where_it_runs() {
    let (port, asked) = sage();
    let mut world = World::new();
    let done = world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    let password = world.path("password");
    let far = format!("models.servers.lab.url=http://0.0.0.0:{port}/v1");
    world.serve_with(&[
        "--password-file",
        password.to_str().unwrap(),
        "--set",
        &far,
        "--set",
        "models.servers.lab.unencrypted=allowed",
    ]);
    world.said(&["engine", "check", "lab"]);
    world.said(&["engine", "allow", "lab"]);
    let last = || asked.lock().unwrap().last().unwrap().clone();
    import_mara(&world, "sage");
    ask_mara(&world, last, |question| question);
    assert_eq!(last()["max_tokens"], 99);

    world.said(&["model", "use", "lab/sage"]);
    for character in ["Aico", "Eve"] {
        world.said(&["chat", "--character", character, "--once", "Hello"]);
        let told = last()["messages"][0]["content"].clone();
        let told = told.as_str().unwrap();
        assert!(told.starts_with(&format!("You are {character}")), "{told}");
        assert!(told.contains("this person has allowed that"), "{told}");
        for words in ["stays on this computer", "runs on this computer"] {
            assert!(!told.contains(words), "{words}: {told}");
        }
    }
}

struct Key(String);

#[async_trait::async_trait]
impl Keys for Key {
    async fn key(&self, _: &str) -> Option<Zeroizing<String>> {
        Some(Zeroizing::new(self.0.clone()))
    }
}

async fn ask(
    server: &Server,
    model: &str,
    words: &str,
) -> (String, Result<v1::GeneratedEnd, BackendError>) {
    let (items, mut came) = mpsc::channel(10_000);
    let question = v1::Generate {
        turns: vec![v1::Turn {
            role: v1::turn::Role::User.into(),
            text: words.to_owned(),
            ..Default::default()
        }],
        sampling: Some(v1::Sampling {
            temperature: 0.7,
            top_p: 0.9,
            top_k: 40,
            min_p: 0.05,
            repeat_penalty: 1.1,
            seed: 7,
            stop: Vec::new(),
        }),
        max_tokens: 24,
        ..Default::default()
    };
    let end = server
        .generate(&Asker::default(), model, &question, items)
        .await;
    let mut all = String::new();
    while let Some(item) = came.recv().await {
        if let Item::Text(piece) = item {
            all.push_str(&piece);
        }
    }
    (all, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_door_streams_refuses_and_counts_as_the_client_expects() {
    let (world, port, key) = tokio::task::spawn_blocking(lab).await.unwrap();
    let config = ServerConfig {
        key: Some("lab".into()),
        ..ServerConfig::new("lab", format!("http://127.0.0.1:{port}"))
    };
    let server = Server::new(config.clone(), Arc::new(Key(key))).unwrap();
    let models = server.models().await.unwrap();
    let starter = models.iter().find(|model| model.name != "aico").unwrap();
    for model in ["aico", &starter.name] {
        let (said, end) = ask(&server, model, "Good morning!").await;
        let end = end.unwrap_or_else(|error| panic!("{model}: {error:?}"));
        assert!(!said.is_empty(), "{model}");
        assert!(
            end.answer_tokens > 0 && end.first_token_us > 0,
            "{model}: {end:?}"
        );
    }
    let (said, end) = ask(&server, "nobody", "Good morning!").await;
    assert_eq!((said.as_str(), end), ("", Err(BackendError::ModelMissing)));
    // It refuses these by name, and not as a broken question.
    let texts = ["Good morning!".to_owned()];
    let embedded = server.embed(&Asker::default(), "aico", &texts).await;
    assert!(
        matches!(
            embedded,
            Err(BackendError::Refused { .. } | BackendError::NotCapable { .. })
        ),
        "{embedded:?}"
    );
    let strange = Server::new(config, Arc::new(Key("aico_wrong".into()))).unwrap();
    assert_eq!(strange.models().await, Err(BackendError::Key));
    drop(tokio::task::spawn_blocking(move || drop(world)));
}
