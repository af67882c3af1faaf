//! Downloads from real servers on real sockets, good ones and bad ones, through the manager.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/file_server.rs"]
mod file_server;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aico_contracts::topics;
use aico_contracts::v1::pull::State;
use aico_contracts::v1::{self, Empty, Fault};
use aico_models::pull::url::Url;
use aico_models::pull::{Limits, PullConfig, Resolve};
use aico_models::supervisor::{ModelRegistryStore, Program};
use async_trait::async_trait;
use daemon::{Daemon, SOON, daemon_with, until};
use file_server::{Asked, FileServer, Reply, Way};
use sha2::{Digest, Sha256};

const PATH: &str = "/o/r/resolve/1/model.gguf";
const PART: usize = 64 << 10;

/// The starter: a model of one megabyte.
fn content() -> &'static [u8] {
    include_bytes!("../../../models/starter/aico-starter.gguf")
}

fn short_limits() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        head: Duration::from_secs(5),
        silence: Duration::from_secs(5),
        window: Duration::from_secs(5),
        least: 1,
        wait: Duration::from_millis(20),
        longest_wait: Duration::from_millis(100),
        tries: 3,
    }
}

/// Answers for names of the tests, and counts.
#[derive(Default)]
struct Names {
    answers: Mutex<Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        match answers.len() {
            0 => Err(io::Error::other("no such name")),
            1 => Ok(answers[0].clone()),
            _ => Ok(answers.remove(0)),
        }
    }
}

/// A catalogue of one model with this content.
fn catalogue(content: &[u8], parts: bool, sources: &[&str]) -> String {
    let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let mut model = serde_json::json!({
        "name": "tiny", "title": "Tiny", "summary": "For tests.", "for": "chat",
        "architecture": "llama", "parameters": 1, "quantization": "Q8_0",
        "context_length": 512, "context_bytes_per_token": 1, "license": "MIT",
        "license_url": "https://example.org", "size": content.len(), "sha256": hash(content),
        "sources": sources,
    });
    if parts {
        let parts: Vec<String> = content.chunks(PART).map(hash).collect();
        model["parts"] = serde_json::json!({"size": PART, "sha256": parts});
    }
    serde_json::json!({"version": 1, "date": "2026-11-26", "models": [model]}).to_string()
}

/// A daemon, its catalogue, and the server that is its mirror.
struct World {
    daemon: Daemon,
    server: FileServer,
}

struct Setting {
    content: Vec<u8>,
    parts: bool,
    sources: Vec<String>,
    limits: Limits,
    mirror: bool,
    names: Option<Arc<Names>>,
    mirror_name: Option<String>,
    /// What reads what a file says of itself.
    reader: Option<Program>,
    /// How long it may take.
    read_limit: Option<Duration>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            content: content().to_vec(),
            parts: true,
            sources: vec![format!("https://hub.test{PATH}")],
            limits: short_limits(),
            mirror: true,
            names: None,
            mirror_name: None,
            reader: None,
            read_limit: None,
        }
    }
}

impl World {
    async fn new(setting: Setting, server: FileServer) -> Self {
        let daemon = daemon_with("modelservice", |config| {
            let file = config.models.parent().unwrap().join("catalogue.json");
            let sources: Vec<&str> = setting.sources.iter().map(String::as_str).collect();
            std::fs::write(&file, catalogue(&setting.content, setting.parts, &sources)).unwrap();
            let mut pull = PullConfig::new("", config.models.clone());
            pull.catalogue = Some(file);
            pull.limits = setting.limits;
            if setting.mirror {
                let named = setting.mirror_name.unwrap_or_else(|| server.url());
                pull.mirror = Some(Url::parse(&named).unwrap());
            }
            if let Some(names) = setting.names {
                pull.resolver = names;
            }
            config.pull = Some(pull);
            if let Some(reader) = setting.reader {
                config.reader = reader;
            }
            if let Some(limit) = setting.read_limit {
                config.read_limit = limit;
            }
        })
        .await;
        Self { daemon, server }
    }

    /// With a server that is a good mirror until `answer` says otherwise.
    async fn with(
        setting: Setting,
        answer: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let file = setting.content.clone();
        let server = FileServer::start(move |asked| {
            answer(asked).unwrap_or_else(|| Reply::file(&file, asked))
        });
        Self::new(setting, server).await
    }

    async fn begin(&self, use_then: bool) -> v1::Pull {
        let question = v1::PullModel {
            name: "tiny".into(),
            use_then,
        };
        let begun = self.daemon.ask(topics::MODELS_PULL, &question);
        begun.await.unwrap()
    }

    async fn pull(&self) -> v1::Pull {
        self.begin(false).await;
        self.settled(|pull| matches!(pull.state(), State::Done | State::Failed))
            .await
    }

    async fn settled(&self, is: impl Fn(&v1::Pull) -> bool) -> v1::Pull {
        for _ in 0..6000 {
            let list: v1::PullList = self
                .daemon
                .ask(topics::MODELS_PULLS, &Empty {})
                .await
                .unwrap();
            if let Some(pull) = list.items.into_iter().find(|pull| is(pull)) {
                return pull;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not come to that");
    }

    async fn done(&self) -> v1::Pull {
        let pull = self.pull().await;
        assert_eq!(pull.state(), State::Done, "{:?}", pull.fault);
        assert_eq!(std::fs::read(self.target()).unwrap(), content());
        assert_eq!(self.left(), [] as [String; 0]);
        pull
    }

    async fn fails(&self, code: &str) -> Fault {
        let pull = self.pull().await;
        assert_eq!(pull.state(), State::Failed);
        let fault = pull.fault.unwrap();
        assert_eq!(fault.code, code, "{fault:?}");
        assert!(!self.target().exists());
        assert!(!fault.what_to_do.is_empty(), "{fault:?}");
        fault
    }

    async fn told(&self) -> v1::CatalogueEntry {
        let all: Result<v1::Catalogue, _> =
            self.daemon.ask(topics::MODELS_CATALOGUE, &Empty {}).await;
        all.unwrap().items.remove(0)
    }

    fn models(&self) -> PathBuf {
        self.daemon.folder.path().join("models")
    }

    fn target(&self) -> PathBuf {
        self.models().join("tiny.gguf")
    }

    /// What is left in the folder of downloads.
    fn left(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.models().join("downloads")) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// First bytes that were asked for.
    fn starts(&self) -> Vec<u64> {
        let asked = self.server.asked();
        let mut starts: Vec<u64> = asked.iter().map(|one| one.range.unwrap().0).collect();
        starts.sort_unstable();
        starts
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_comes_in_parts_and_is_in_the_registry_under_its_name() {
    let world = World::with(Setting::default(), |_| None).await;
    let before: v1::Catalogue = world
        .daemon
        .ask(topics::MODELS_CATALOGUE, &Empty {})
        .await
        .unwrap();
    assert_eq!(world.server.connections(), 0, "nobody asked yet");
    assert!(!before.items[0].present && before.items[0].model.is_empty());
    assert!(before.items[0].memory_bytes > content().len() as u64);

    let pull = world.done().await;
    assert_eq!(pull.total_bytes, content().len() as u64);
    assert_eq!((pull.kept_bytes, pull.source.as_str()), (0, "127.0.0.1"));
    let known = world.daemon.registry.list().await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].name, "tiny");
    assert_eq!(known[0].sha256.unwrap()[..], Sha256::digest(content())[..]);
    assert_eq!(pull.model, known[0].id.to_vec());
    // Each part once, over no more connections than are allowed.
    let count = content().len().div_ceil(PART);
    let expected: Vec<u64> = (0..count).map(|part| (part * PART) as u64).collect();
    assert_eq!(world.starts(), expected);
    assert!((2..=4).contains(&world.server.connections()));
    for asked in world.server.asked() {
        assert_eq!(asked.path, PATH);
        for secret in ["cookie", "authorization", "referer"] {
            assert!(
                !asked.head.to_lowercase().contains(secret),
                "{}",
                asked.head
            );
        }
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(world.target())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    // Asked for again nothing is fetched again.
    world.server.forget_asked();
    assert_eq!(world.pull().await.state(), State::Done);
    assert!(world.server.asked().is_empty());
    let after: v1::Catalogue = world
        .daemon
        .ask(topics::MODELS_CATALOGUE, &Empty {})
        .await
        .unwrap();
    assert!(after.items[0].present);
    assert_eq!(after.items[0].model, known[0].id.to_vec());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_cut_is_not_here_and_is_fetched_again() {
    let world = World::with(Setting::default(), |_| None).await;
    let first = world.done().await;
    let file = std::fs::File::options().write(true).open(world.target());
    file.unwrap().set_len(content().len() as u64 - 1).unwrap();
    let told = world.told().await;
    assert!(!told.present && told.model.is_empty(), "{told:?}");
    assert_eq!(world.done().await.model, first.model);
    assert!(world.told().await.present);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_only_looks_whole_is_not_fetched_before_that_is_known() {
    let world = World::with(Setting::default(), |_| None).await;
    let mut other = content().to_vec();
    other[500_000] ^= 1;
    std::fs::create_dir_all(world.models()).unwrap();
    std::fs::write(world.target(), &other).unwrap();
    assert!(world.told().await.present, "it looks whole");
    let pull = world.pull().await;
    assert_eq!(pull.state(), State::Failed);
    let fault = pull.fault.unwrap();
    assert_eq!(fault.code, "model-damaged");
    assert!(fault.what_to_do.contains("aico model pull tiny"));
    assert_eq!(world.server.connections(), 0);
    assert_eq!(std::fs::read(world.target()).unwrap(), other);
    assert_eq!(world.left(), [] as [String; 0], "nothing goes on by itself");

    // Now it is told that a download is needed, and who asks has agreed to it.
    assert!(!world.told().await.present);
    world.done().await;
    let told = world.told().await;
    assert!(told.present && !told.model.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_added_from_elsewhere_is_not_fetched() {
    let world = World::with(Setting::default(), |_| None).await;
    let file = world.daemon.folder.path().join("mine.gguf");
    std::fs::write(&file, content()).unwrap();
    let added = world.daemon.add(&file).await.unwrap();
    let registry = &world.daemon.registry;
    let id = registry.snapshot()[0].id;
    let hash = Sha256::digest(content()).into();
    registry.set_hash(id, hash).await.unwrap();
    let told = world.told().await;
    assert!(told.present && told.model == added.id);
    let pull = world.pull().await;
    assert_eq!(pull.state(), State::Done, "{:?}", pull.fault);
    assert_eq!(pull.model, added.id);
    assert_eq!(world.server.connections(), 0);
    assert!(!world.target().exists());
    assert_eq!(registry.snapshot().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_converse_is_not_told_to_answer_then() {
    let world = World::with(Setting::default(), |_| None).await;
    let file = world.daemon.folder.path().join("catalogue.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace(r#""for":"chat""#, r#""for":"embedding""#),
    )
    .unwrap();
    assert_eq!(world.told().await.purpose, "embedding");
    assert!(!world.begin(true).await.use_then);
    let done = world.settled(|pull| pull.state() == State::Done).await;
    assert!(!done.use_then && !done.model.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_without_parts_give_it_in_one_stream() {
    for parts in [true, false] {
        let setting = Setting {
            parts,
            ..Setting::default()
        };
        let world = World::with(setting, |_| Some(Reply::all(content()))).await;
        world.done().await;
        assert_eq!(world.server.asked().len(), 1);
    }
    // Without a length, and cut twice.
    let world = World::with(Setting::default(), |asked| {
        let all = Reply::all(content()).length(None);
        Some(match asked.number {
            0 => all.way(Way::Cut(300_000)),
            1 => all.way(Way::Cut(700_000)),
            _ => all,
        })
    })
    .await;
    world.done().await;
    assert_eq!(world.server.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_go_on_where_they_broke() {
    let setting = Setting {
        parts: false,
        ..Setting::default()
    };
    let world = World::with(setting, |asked| {
        (asked.number < 6).then(|| Reply::file(content(), asked).way(Way::Cut(100_000)))
    })
    .await;
    world.done().await;
    let part = 256 << 10;
    let in_the_middle = world.starts().iter().filter(|at| **at % part != 0).count();
    assert!(in_the_middle >= 4, "{:?}", world.starts());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_content_is_noticed_and_nothing_of_it_is_kept() {
    let setting = Setting {
        parts: false,
        ..Setting::default()
    };
    let mut other = content().to_vec();
    other[500_000] ^= 1;
    let world = World::with(setting, move |asked| Some(Reply::file(&other, asked))).await;
    let fault = world.fails("download-wrong").await;
    assert!(fault.detail.contains("127.0.0.1"), "{}", fault.detail);
    assert_eq!(world.left(), [] as [String; 0]);
    assert!(world.daemon.registry.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wrong_part_is_fetched_again_and_the_good_ones_are_kept() {
    let wrong = Arc::new(AtomicBool::new(true));
    let bad = Arc::clone(&wrong);
    let world = World::with(Setting::default(), move |asked| {
        let (first, last) = asked.range.unwrap();
        let hit = (first..=last).contains(&500_000) && bad.load(Ordering::SeqCst);
        hit.then(|| {
            let mut reply = Reply::file(content(), asked);
            reply.body[(500_000 - first) as usize] ^= 1;
            reply
        })
    })
    .await;
    world.fails("download-wrong").await;
    assert_eq!(world.left(), ["tiny.partial", "tiny.parts"]);
    let part = (500_000 / PART * PART) as u64;
    let tries = world.starts().into_iter().filter(|at| *at == part).count();
    assert_eq!(tries, 3);
    let good = content().len() as u64 - PART as u64;
    let told: v1::Catalogue = world
        .daemon
        .ask(topics::MODELS_CATALOGUE, &Empty {})
        .await
        .unwrap();
    let partial = told.items[0].partial_bytes;
    assert!(partial > 0 && partial <= good, "{partial}");

    wrong.store(false, Ordering::SeqCst);
    world.server.settle();
    world.server.forget_asked();
    let pull = world.done().await;
    // What another connection was at when this was told to fail may have come since.
    assert!(pull.kept_bytes >= partial && pull.kept_bytes <= good);
    let fetched = world.server.asked().len() as u64 * PART as u64;
    assert!(fetched <= content().len() as u64 - partial + PART as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_changes_on_the_way_is_put_right() {
    // Two parts of an older version come, then the right one.
    let mut old = content().to_vec();
    old.iter_mut().for_each(|byte| *byte ^= 0x55);
    let setting = Setting {
        parts: false,
        ..Setting::default()
    };
    let world = World::with(setting, move |asked| {
        Some(if asked.number < 2 {
            Reply::file(&old, asked).with("ETag: \"old\"")
        } else {
            Reply::file(content(), asked).with("ETag: \"new\"")
        })
    })
    .await;
    world.done().await;
    let count = content().len().div_ceil(256 << 10);
    // The two old ones again; where one of them came last of all, the others first.
    let asked = world.server.asked().len();
    assert!((count + 2..=2 * count).contains(&asked), "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_drip_or_hang_are_left() {
    let limits = Limits {
        silence: Duration::from_millis(400),
        window: Duration::from_millis(300),
        least: 10_000,
        head: Duration::from_millis(500),
        tries: 1,
        ..short_limits()
    };
    for (size, wait) in [(1, 50), (1, 2000)] {
        let setting = Setting {
            limits: limits.clone(),
            ..Setting::default()
        };
        let way = Way::Slow(size, Duration::from_millis(wait));
        let world = World::with(setting, move |asked| {
            Some(Reply::file(content(), asked).way(way))
        })
        .await;
        let fault = world.fails("download-failed").await;
        assert!(fault.detail.contains("slowly"), "{}", fault.detail);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_make_no_sense_are_refused() {
    type Make = fn(&Asked) -> Reply;
    let cases: &[(&str, Make)] = &[
        ("download-failed", |asked| {
            Reply::file(content(), asked).length(None).way(Way::Endless)
        }),
        ("download-wrong", |_| {
            Reply::all(content()).length(None).way(Way::Endless)
        }),
        ("download-wrong", |_| Reply::all(&content()[1..])),
        ("download-wrong", |asked| {
            Reply::file(&[content(), &[1]].concat(), asked)
        }),
        ("download-wrong", |_| {
            Reply::status(416).with("Content-Range: bytes */7")
        }),
        ("download-failed", |asked| {
            let mut reply = Reply::file(content(), asked);
            reply.head[0] = format!("Content-Range: bytes 1-2/{}", content().len());
            reply
        }),
        ("download-failed", |asked| {
            let mut reply = Reply::file(content(), asked);
            reply.head.clear();
            reply
        }),
        ("download-failed", |asked| {
            Reply::file(content(), asked).with("Content-Encoding: gzip")
        }),
        ("download-failed", |_| Reply::status(204)),
        ("download-failed", |_| Reply::status(401)),
        ("download-failed", |_| Reply::status(403)),
        ("download-failed", |_| Reply::status(404)),
        ("download-failed", |_| Reply::status(500)),
    ];
    for (number, (code, make)) in cases.iter().enumerate() {
        let make = *make;
        let world = World::with(Setting::default(), move |asked| Some(make(asked))).await;
        let fault = world.fails(code).await;
        assert!(!fault.detail.is_empty(), "case {number}");
        // Of a stream that has no end the right beginning may stay: the catalogue vouches.
        if number > 1 {
            assert_eq!(world.left(), [] as [String; 0], "case {number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_to_wait_is_asked_again() {
    let world = World::with(Setting::default(), |asked| match asked.number {
        2 | 3 => Some(Reply::status(503).with("Retry-After: 0")),
        4 => Some(Reply::status(429)),
        _ => None,
    })
    .await;
    world.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_lead_nowhere_but_to_the_open_internet() {
    let inside = FileServer::start(|asked| Reply::file(content(), asked));
    let port = inside.address.port();
    for to in [
        format!("https://127.0.0.1:{port}/x"),
        format!("https://[::1]:{port}/x"),
        format!("https://[::ffff:127.0.0.1]:{port}/x"),
        format!("http://127.0.0.1:{port}/x"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/x".to_owned(),
        "https://[fe80::1]/x".to_owned(),
        "http://example.org/x".to_owned(),
        "file:///etc/passwd".to_owned(),
        "https://ann:secret@example.org/x".to_owned(),
        "elsewhere".to_owned(),
    ] {
        let target = to.clone();
        let world = World::with(Setting::default(), move |_| Some(Reply::redirect(&target))).await;
        let fault = world.fails("address-refused").await;
        assert!(fault.what_to_do.contains("models.mirror"), "{to}");
    }
    assert_eq!(inside.connections(), 0, "nothing inside was reached");

    // In a circle.
    let world = World::with(Setting::default(), |_| Some(Reply::redirect("/again"))).await;
    world.fails("address-refused").await;
    assert_eq!(world.server.asked().len(), 6);
    // Within the mirror they are followed, once for all parts.
    let world = World::with(Setting::default(), |asked| {
        (asked.path == PATH).then(|| Reply::redirect("/signed?until=1"))
    })
    .await;
    world.done().await;
    let redirected = world.server.asked();
    assert!(redirected.iter().filter(|one| one.path == PATH).count() <= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_address_that_ends_is_asked_for_again() {
    let world = World::with(Setting::default(), |asked| match asked.path.as_str() {
        PATH => Some(Reply::redirect(&format!("/signed/{}", asked.number / 4))),
        _ if asked.number > 6 && asked.path == "/signed/0" => Some(Reply::status(403)),
        _ => None,
    })
    .await;
    world.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_that_lead_home_are_not_connected_to() {
    let inside = FileServer::start(|asked| Reply::file(content(), asked));
    let port = inside.address.port();
    let names = Arc::new(Names::default());
    *names.answers.lock().unwrap() = vec![vec![[127, 0, 0, 1].into()]];
    for source in [
        format!("https://127.0.0.1:{port}/x"),
        format!("https://[::1]:{port}/x"),
        format!("https://rebound.test:{port}/x"),
    ] {
        let server = FileServer::start(|_| Reply::status(500));
        let setting = Setting {
            mirror: false,
            sources: vec![source],
            names: Some(Arc::clone(&names)),
            ..Setting::default()
        };
        World::new(setting, server)
            .await
            .fails("address-refused")
            .await;
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_resolved_once_and_pinned() {
    let server = FileServer::start(|asked| Reply::file(content(), asked));
    let port = server.address.port();
    // Whoever is asked again says another address, where another server listens.
    let elsewhere = FileServer::on(&format!("127.0.0.2:{port}"), |_| Reply::status(500));
    let names = Arc::new(Names::default());
    *names.answers.lock().unwrap() = vec![vec![[127, 0, 0, 1].into()], vec![[127, 0, 0, 2].into()]];
    let setting = Setting {
        names: Some(Arc::clone(&names)),
        mirror_name: Some(format!("http://mirror.test:{port}")),
        ..Setting::default()
    };
    let world = World::new(setting, server).await;
    world.done().await;
    assert!(world.server.connections() > 1);
    assert_eq!(elsewhere.connections(), 0);
    assert_eq!(names.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_source_serves_when_the_first_has_no_such_file() {
    let setting = Setting {
        sources: vec![
            "https://hub.test/gone".into(),
            format!("https://other.test{PATH}"),
        ],
        ..Setting::default()
    };
    let world = World::with(setting, |asked| {
        (asked.path == "/gone").then(|| Reply::status(404))
    })
    .await;
    world.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_files_end_in_an_error_and_are_removed() {
    let bomb = {
        // Announces a billion tensors.
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(1_000_000_000_u64.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.resize(100_000, 0xff);
        bytes
    };
    let cut = content()[..content().len() / 2].to_vec();
    for (file, code) in [
        (b"no model at all".to_vec(), "not-a-model"),
        (bomb, "not-a-model"),
        (cut, "model-damaged"),
    ] {
        let setting = Setting {
            content: file,
            parts: false,
            ..Setting::default()
        };
        let world = World::with(setting, |_| None).await;
        world.fails(code).await;
        assert_eq!(world.left(), [] as [String; 0]);
        assert!(world.daemon.registry.list().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_can_not_be_read_as_a_model_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    // Ends without a word at the first time.
    let script = format!(
        "/bin/mkdir '{}/once' 2>/dev/null && exit 1; exec '{}' modelservice",
        folder.path().display(),
        env!("CARGO_BIN_EXE_aico-models-child"),
    );
    let setting = Setting {
        reader: Some(Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
        }),
        ..Setting::default()
    };
    let world = World::with(setting, |_| None).await;
    let fault = world.fails("not-a-model").await;
    assert!(fault.what_to_do.contains("is kept"), "{fault}");
    assert!(world.left().contains(&"tiny.partial".to_owned()));
    let connections = world.server.connections();
    world.done().await;
    assert_eq!(world.server.connections(), connections);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_the_look_at_a_model_and_its_note_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (once, twice) = (folder.path().join("once"), folder.path().join("twice"));
    // Reads the file where it is downloaded, and stands still over it where it is put.
    let script = format!(
        "child='{}'; /bin/mkdir '{}' 2>/dev/null && exec \"$child\" modelservice; \
         /bin/mkdir '{}'; exec \"$child\" hang",
        env!("CARGO_BIN_EXE_aico-models-child"),
        once.display(),
        twice.display(),
    );
    let setting = Setting {
        reader: Some(Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
        }),
        read_limit: Some(SOON * 10),
        ..Setting::default()
    };
    let world = World::with(setting, |_| None).await;
    world.begin(false).await;
    until("it is looked at", || twice.exists()).await;
    let note = world.models().join("downloads/tiny.wanted");
    assert!(note.exists() && world.target().exists());
    let stopped = tokio::time::timeout(SOON, world.daemon.manager.stop());
    stopped.await.unwrap();
    assert!(note.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_here_and_is_no_model_stays_and_is_told_so() {
    for file in [&b"no model at all"[..], &content()[..content().len() / 2]] {
        let setting = Setting {
            content: file.to_vec(),
            parts: false,
            ..Setting::default()
        };
        let world = World::with(setting, |_| None).await;
        std::fs::create_dir_all(world.models()).unwrap();
        std::fs::write(world.target(), file).unwrap();
        let fault = world.pull().await.fault.unwrap();
        assert_eq!(fault.code, "not-a-model");
        let advice = fault.what_to_do;
        assert!(
            advice.contains("stays as it is") && !advice.contains("removed"),
            "{advice}"
        );
        assert_eq!(std::fs::read(world.target()).unwrap(), file);
        assert_eq!(world.server.connections(), 0, "it would bring the same");
        assert!(world.daemon.registry.list().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_connection_it_is_told_at_once() {
    let gone = FileServer::start(|_| Reply::status(500));
    let address = gone.url();
    drop(gone);
    // Its listener ends with the connection that wakes it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let server = FileServer::start(|_| Reply::status(500));
    let setting = Setting {
        mirror_name: Some(address),
        ..Setting::default()
    };
    let world = World::new(setting, server).await;
    let fault = world.fails("offline").await;
    assert!(fault.detail.contains("127.0.0.1"), "{}", fault.detail);

    let server = FileServer::start(|_| Reply::status(500));
    let setting = Setting {
        mirror: false,
        names: Some(Arc::default()),
        ..Setting::default()
    };
    let fault = World::new(setting, server).await.fails("offline").await;
    assert!(fault.detail.contains("hub.test"), "{}", fault.detail);
    assert!(fault.detail.contains("no such name"), "{}", fault.detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_download_leaves_nothing() {
    let world = World::with(Setting::default(), |asked| {
        let way = Way::Slow(4096, Duration::from_millis(20));
        Some(Reply::file(content(), asked).way(way))
    })
    .await;
    let question = v1::PullModel {
        name: "tiny".into(),
        use_then: true,
    };
    let begun: v1::Pull = world
        .daemon
        .ask(topics::MODELS_PULL, &question)
        .await
        .unwrap();
    assert!(begun.use_then);
    world
        .settled(|pull| pull.state() == State::Running && pull.done_bytes > 0)
        .await;
    assert!(world.left().contains(&"tiny.wanted".to_owned()));
    let cancel = v1::CancelPull {
        name: "tiny".into(),
    };
    let _: Empty = world
        .daemon
        .ask(topics::MODELS_CANCEL_PULL, &cancel)
        .await
        .unwrap();
    assert_eq!(world.left(), [] as [String; 0]);
    let list: v1::PullList = world
        .daemon
        .ask(topics::MODELS_PULLS, &Empty {})
        .await
        .unwrap();
    assert!(list.items.is_empty());
    for name in ["tiny", "../x", ""] {
        let cancel = v1::CancelPull { name: name.into() };
        let again: Result<Empty, _> = world.daemon.ask(topics::MODELS_CANCEL_PULL, &cancel).await;
        assert_eq!(again.unwrap_err().fault().unwrap().code, "not-found");
    }
    let unknown = v1::PullModel {
        name: "unknown".into(),
        use_then: false,
    };
    let unknown: Result<v1::Pull, _> = world.daemon.ask(topics::MODELS_PULL, &unknown).await;
    assert_eq!(unknown.unwrap_err().fault().unwrap().code, "not-found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_that_is_none_is_told_and_does_not_end_anything() {
    let world = World::with(Setting::default(), |_| None).await;
    let file = world.daemon.folder.path().join("catalogue.json");
    let good = std::fs::read(&file).unwrap();
    for bad in [&b"{"[..], b"{}", b"[1]", &[0xff; 10]] {
        std::fs::write(&file, bad).unwrap();
        let asked: Result<v1::Catalogue, _> =
            world.daemon.ask(topics::MODELS_CATALOGUE, &Empty {}).await;
        let fault = asked.unwrap_err().fault().unwrap().clone();
        assert_eq!(fault.code, "catalogue-unusable");
        assert!(fault.detail.contains("catalogue.json"), "{}", fault.detail);
    }
    std::fs::write(&file, good).unwrap();
    world.done().await;
}
