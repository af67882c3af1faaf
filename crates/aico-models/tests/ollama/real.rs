//! Against a real Ollama, by hand: `AICO_TEST_OLLAMA=127.0.0.1:11434` (one that runs) or
//! `AICO_TEST_OLLAMA=/path/to/ollama` (one to start), then
//! `cargo test --locked --workspace --test ollama -- --ignored --nocapture real::`.
//! It makes models whose names begin with `aico-test-` and removes them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_characters::Recipe;
use aico_contracts::v1::generated_end::Reason;
use aico_models::backend::ollama::{Creation, Ollama, OllamaConfig, Running, Start, Whose};
use aico_models::backend::shelf::{Making, Progress, Shelf};
use aico_models::backend::{Asker, Backend, BackendError, Item};
use aico_models::pull::url::Url;
use tokio::sync::{mpsc, watch};

use crate::file_server::Way;
use crate::registry::Registry;
use crate::{ask, question, text};

struct World {
    ollama: Arc<Ollama>,
    running: Running,
    _folder: tempfile::TempDir,
}

async fn world() -> World {
    world_with(|_| {}).await
}

async fn world_with(change: impl FnOnce(&mut OllamaConfig)) -> World {
    let named = std::env::var("AICO_TEST_OLLAMA").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = OllamaConfig::new(folder.path().join("ollama"));
    match named.parse() {
        Ok(address) => {
            config.address = address;
            config.start = Start::Never;
        }
        Err(_) => {
            config.address = "127.0.0.1:9".parse().unwrap();
            config.program = Some(PathBuf::from(named));
        }
    }
    config.context = 512;
    change(&mut config);
    let ollama = Ollama::new(config).unwrap();
    let running = ollama.running().await.unwrap();
    println!("{running:?}");
    World {
        ollama,
        running,
        _folder: folder,
    }
}

fn starter() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/starter/aico-starter.gguf")
}

async fn made(ollama: &Ollama, name: &str) {
    let (sender, progress) = watch::channel(Progress::default());
    let text = format!("FROM {}\nPARAMETER temperature 0\n", starter().display());
    let creation = Creation::new(name, Recipe::parse(&text).unwrap(), "/nowhere");
    let began = Instant::now();
    ollama.create(&creation, &sender).await.unwrap();
    println!("create: {:?} in {:?}", progress.borrow(), began.elapsed());
}

#[tokio::test]
#[ignore = "needs a real Ollama"]
async fn it_does_what_the_double_does() {
    let world = world().await;
    let ollama = &world.ollama;
    made(ollama, "aico-test-a").await;
    let models = ollama.models().await.unwrap();
    let model = models
        .iter()
        .find(|one| one.name.starts_with("aico-test-a"));
    println!("models: {:#?}", model.unwrap());
    let (items, end) = ask(ollama, "aico-test-a", &question("Hello, who are you?")).await;
    let end = end.unwrap();
    println!("chat: {} pieces, {:?}, {end:?}", items.len(), text(&items));
    assert!(!text(&items).is_empty() && items.len() > 1);
    assert!(end.prompt_tokens > 0 && end.answer_tokens > 0);
    let loaded = ollama.loaded().await.unwrap();
    println!("ps: {loaded:?}");
    assert!(
        loaded
            .iter()
            .any(|(name, bytes)| name.starts_with("aico-test-a") && *bytes > 0)
    );

    let mut json = question("Say something.");
    json.format = "json".into();
    json.max_tokens = 64;
    let (items, end) = ask(ollama, "aico-test-a", &json).await;
    println!("json: {:?} {:?}", text(&items), end.unwrap());

    let missing = ask(ollama, "aico-test-none", &question("Hi")).await.1;
    assert_eq!(missing, Err(BackendError::ModelMissing));
    let mut thinks = question("Hi");
    thinks.think = Some(true);
    let lacks = ask(ollama, "aico-test-a", &thinks).await.1;
    assert_eq!(lacks, Err(BackendError::NotCapable { what: "thinking" }));
    let long = ask(ollama, "aico-test-a", &question(&"word ".repeat(4000)))
        .await
        .1;
    assert_eq!(long, Err(BackendError::TooLong));
    let vectors = ollama
        .embed(&Asker::default(), "aico-test-a", &["Hi".to_owned()])
        .await;
    println!("embed: {:?}", vectors.map(|all| all.vectors[0].len()));

    // A character on top of it, from another model by name.
    let (sender, _) = watch::channel(Progress::default());
    let aria = "FROM aico-test-a\nSYSTEM You are Aria.\nPARAMETER stop END\nMESSAGE user Hi\n\
        MESSAGE assistant Hello.\nLICENSE MIT\nTEMPLATE \"\"\"{{ .System }} {{ .Prompt }}\"\"\"\n";
    let aria = Creation::new("aico-test-b", Recipe::parse(aria).unwrap(), "/nowhere");
    ollama.create(&aria, &sender).await.unwrap();
    ask(ollama, "aico-test-b", &question("Hi")).await.1.unwrap();
    let details = ollama.details("aico-test-b").await.unwrap();
    println!("show: {details:?}");
    assert_eq!(details.system, "You are Aria.");
    assert_eq!(details.license, "MIT");
    assert!(details.parameters.contains("END"));
    assert!(details.template.contains(".Prompt"));
    println!("ps: {:?}", ollama.loaded().await.unwrap());
    // A third one: of ours the oldest makes room.
    made(ollama, "aico-test-c").await;
    ask(ollama, "aico-test-c", &question("Hi")).await.1.unwrap();
    println!("ps: {:?}", ollama.loaded().await.unwrap());

    for name in ["aico-test-a", "aico-test-b", "aico-test-c"] {
        ollama.unload(name).await.unwrap();
    }
    let began = Instant::now();
    let ours = |all: &[(String, u64)]| all.iter().any(|(name, _)| name.starts_with("aico-test"));
    while ours(&ollama.loaded().await.unwrap()) {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("unloaded after {:?}", began.elapsed());
    for name in ["aico-test-a", "aico-test-b", "aico-test-c"] {
        ollama.delete(name).await.unwrap();
    }
    let (sender, _) = watch::channel(Progress::default());
    let offline = ollama.pull("aico-test-none", false, &sender).await;
    println!("pull: {offline:?}");
    assert!(offline.is_err());
    ollama.stop().await;
}

#[tokio::test]
#[ignore = "needs a real Ollama"]
async fn cancelling_frees_its_place() {
    let world = world().await;
    let ollama = &world.ollama;
    made(ollama, "aico-test-d").await;
    ask(ollama, "aico-test-d", &question("Hi")).await.1.unwrap();
    let mut long = question("Tell me everything.");
    long.max_tokens = 400;
    let began = Instant::now();
    let (_, end) = ask(ollama, "aico-test-d", &long).await;
    let whole = began.elapsed();
    println!("the whole answer: {whole:?} {:?}", end.unwrap());
    for _ in 0..8 {
        let (sender, mut items) = mpsc::channel(4);
        let asking = {
            let (ollama, long) = (Arc::clone(ollama), long.clone());
            tokio::spawn(async move {
                ollama
                    .generate(&Asker::default(), "aico-test-d", &long, sender)
                    .await
            })
        };
        assert!(matches!(items.recv().await, Some(Item::Text(_))));
        drop(items);
        let end = asking.await.unwrap().unwrap();
        assert_eq!(end.reason(), Reason::Cancelled);
    }
    let began = Instant::now();
    ask(ollama, "aico-test-d", &question("Hi")).await.1.unwrap();
    println!("after eight that were cancelled: {:?}", began.elapsed());
    // Four at once.
    let began = Instant::now();
    let four = (0..4).map(|_| {
        let (ollama, long) = (Arc::clone(ollama), long.clone());
        tokio::spawn(async move { ask(&ollama, "aico-test-d", &long).await.1.unwrap() })
    });
    for one in four.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    println!("four at once: {:?}", began.elapsed());
    ollama.delete("aico-test-d").await.unwrap();
    ollama.stop().await;
}

#[tokio::test]
#[ignore = "needs a real Ollama"]
async fn it_comes_back_after_a_crash() {
    let world = world().await;
    let ollama = &world.ollama;
    let Whose::Ours { process } = world.running.whose else {
        println!("not ours: it is not ended");
        return;
    };
    made(ollama, "aico-test-e").await;
    let mut long = question("Tell me everything.");
    long.max_tokens = 400;
    let (sender, mut items) = mpsc::channel(4);
    let asking = {
        let ollama = Arc::clone(ollama);
        tokio::spawn(async move {
            ollama
                .generate(&Asker::default(), "aico-test-e", &long, sender)
                .await
        })
    };
    assert!(items.recv().await.is_some());
    let killed = std::process::Command::new("kill")
        .args(["-KILL", &process.to_string()])
        .status();
    assert!(killed.unwrap().success());
    while items.recv().await.is_some() {}
    let error = asking.await.unwrap().unwrap_err();
    println!("in the middle: {error:?}");
    assert_eq!(error, BackendError::CutOff);
    let began = Instant::now();
    let (items, end) = ask(ollama, "aico-test-e", &question("Hello?")).await;
    println!(
        "again after {:?}: {:?} {:?}",
        began.elapsed(),
        text(&items),
        end.unwrap()
    );
    let running = ollama.running().await.unwrap();
    assert_ne!(running.whose, world.running.whose);
    // Its runner alone: the next question loads the model again.
    let Whose::Ours { process } = running.whose else {
        unreachable!()
    };
    let children = std::process::Command::new("pgrep")
        .args(["-P", &process.to_string()])
        .output();
    let children = String::from_utf8(children.unwrap().stdout).unwrap();
    for child in children.split_whitespace() {
        let _ended = std::process::Command::new("kill")
            .args(["-KILL", child])
            .status();
    }
    let (_, end) = ask(ollama, "aico-test-e", &question("Hello?")).await;
    println!("after its runner was killed: {end:?}");
    let (_, end) = ask(ollama, "aico-test-e", &question("Hello?")).await;
    println!("and once more: {:?}", end.unwrap());
    ollama.delete("aico-test-e").await.unwrap();
    ollama.stop().await;
}

#[tokio::test]
#[ignore = "needs a real Ollama"]
async fn a_model_comes_from_a_registry() {
    let gguf = std::fs::read(starter()).unwrap();
    let cut = std::sync::atomic::AtomicUsize::new(0);
    // The first answers with bytes break off in their middle.
    let registry = Registry::with(move |asked, reply| {
        let large = reply.body.len() > 100_000 && asked.range.is_some();
        let half = reply.body.len() / 2;
        match large && cut.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 {
            true => reply.way(Way::Cut(half)),
            false => reply,
        }
    });
    registry.put("ns/aico-test-tiny:v1", &gguf, "MIT License\n\nWords.");
    let host = registry.host();
    let world = world_with(|config| {
        config.way.own = Some(Url::parse(&format!("http://{host}")).unwrap());
    })
    .await;
    let ollama = &world.ollama;
    let making = |name: &str, recipe: Option<&str>| Making {
        name: ollama.whole(name).unwrap(),
        recipe: recipe.map(|text| Recipe::parse(text).unwrap()),
        folder: "/nowhere".into(),
    };
    let name = format!("{host}/ns/aico-test-tiny:v1");
    let wanted = making(&name, None);
    let offer = ollama.offer(&wanted).await.unwrap();
    println!("offer: {offer:?}");
    assert!(offer.size > gguf.len() as u64 && offer.license == "MIT License");
    let (sender, progress) = watch::channel(Progress::default());
    let began = Instant::now();
    ollama.make(&wanted, &sender).await.unwrap();
    println!("pull: {:?} in {:?}", progress.borrow(), began.elapsed());
    assert!(progress.borrow().total >= gguf.len() as u64);
    let models = ollama.models().await.unwrap();
    assert!(models.iter().any(|one| one.name == name), "{models:?}");
    ask(ollama, &name, &question("Hi")).await.1.unwrap();
    let details = ollama.details(&name).await.unwrap();
    assert!(details.license.starts_with("MIT License"));
    assert!(ollama.offer(&wanted).await.unwrap().present);
    let none = making(&format!("{host}/ns/none:v1"), None);
    let trouble = ollama.make(&none, &sender).await.unwrap_err();
    println!("none: {trouble:?}");
    assert_eq!(trouble.fault.code, "not-found");
    // What it is made of comes first.
    ollama.delete(&name).await.unwrap();
    let text = format!("FROM {name}\nSYSTEM You are Aria.\n");
    let aria = making("aico-test-f", Some(&text));
    ollama.make(&aria, &sender).await.unwrap();
    ask(ollama, "aico-test-f", &question("Hi")).await.1.unwrap();
    for name in [name.as_str(), "aico-test-f"] {
        ollama.delete(name).await.unwrap();
    }
    ollama.stop().await;
}

#[tokio::test]
#[ignore = "needs a real Ollama"]
async fn what_came_is_gone_on_with_and_removed_when_it_is_not_wanted() {
    let gguf = std::fs::read(starter()).unwrap();
    let registry = Registry::with(|_, reply| {
        let piece = reply.body.len() / 50 + 1;
        reply.way(Way::Slow(piece, Duration::from_millis(100)))
    });
    registry.put("ns/aico-test-slow:v1", &gguf, "");
    let host = registry.host();
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    std::fs::create_dir_all(&models).unwrap();
    // SAFETY: nothing else reads the environment yet: these tests run one at a time.
    unsafe { std::env::set_var("OLLAMA_MODELS", &models) };
    let world = world_with(|config| {
        config.way.own = Some(Url::parse(&format!("http://{host}")).unwrap());
        config.folder = folder.path().to_owned();
    })
    .await;
    // SAFETY: as above.
    unsafe { std::env::remove_var("OLLAMA_MODELS") };
    let ollama = &world.ollama;
    let name = ollama
        .whole(&format!("{host}/ns/aico-test-slow:v1"))
        .unwrap();
    let making = Making {
        name: name.clone(),
        recipe: None,
        folder: "/nowhere".into(),
    };
    let parts = || {
        let all = std::fs::read_dir(models.join("blobs"))
            .into_iter()
            .flatten();
        let all = all
            .flatten()
            .map(|one| one.file_name().into_string().unwrap());
        all.filter(|name| name.contains("-partial")).count()
    };
    let (sender, progress) = watch::channel(Progress::default());
    let some = |progress: &watch::Receiver<Progress>| progress.borrow().done > 0;
    tokio::select! {
        ended = ollama.make(&making, &sender) => panic!("{ended:?}"),
        () = async {
            while !some(&progress) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        } => {}
    }
    println!("stopped at {:?}, {} parts", progress.borrow(), parts());
    assert!(parts() > 0);
    let before = progress.borrow().done;
    let (sender, again) = watch::channel(Progress::default());
    tokio::select! {
        ended = ollama.make(&making, &sender) => println!("{ended:?}"),
        () = async {
            while !some(&again) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    println!("again from {:?} after {before}", again.borrow());
    ollama.give_up(&name).await;
    assert_eq!(parts(), 0, "nothing is left of it");
    ollama.stop().await;
}
