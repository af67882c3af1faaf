//! An Ollama that is started, watched and ended by us: the double as a program of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aico_models::backend::ollama::{Ollama, OllamaConfig, Place, Start, Whose, find};
use aico_models::backend::{Backend, BackendError};
use tempfile::TempDir;

use crate::double::{Dialect, Double, Fault};
use crate::{ask, limits, question, until};

/// Not a test but the program that the others start, when they start it.
#[test]
fn serve_as_ollama() {
    let Some(folder) = std::env::var_os("AICO_TEST_DOUBLE").map(PathBuf::from) else {
        return;
    };
    let address = std::env::var("OLLAMA_HOST").unwrap();
    let told: std::collections::BTreeMap<_, _> = std::env::vars().collect();
    let starts = std::fs::read_to_string(folder.join("starts")).unwrap_or_default();
    std::fs::write(
        folder.join("starts"),
        format!("{starts}{} ", std::process::id()),
    )
    .unwrap();
    std::fs::write(folder.join("told"), serde_json::to_vec(&told).unwrap()).unwrap();
    if folder.join("dies").exists() {
        std::process::exit(1);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let double = Double::on(&address, Dialect::New).await;
        if folder.join("old").exists() {
            double.state().version = "0.11.0".into();
        }
        eprintln!("my secret line");
        // What runs the models: a process below it.
        let mut runner = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        std::fs::write(folder.join("runner"), runner.id().to_string()).unwrap();
        let _ended = tokio::task::spawn_blocking(move || runner.wait()).await;
    });
}

struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        world.program(&world.path("ollama"));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program that becomes the double, whatever environment it gets.
    fn program(&self, at: &Path) {
        let script = format!(
            "#!/bin/sh\nexport AICO_TEST_DOUBLE='{}'\n\
             exec '{}' --exact process::serve_as_ollama --nocapture\n",
            self.folder.path().display(),
            std::env::current_exe().unwrap().display(),
        );
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, script).unwrap();
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn ollama(&self, change: impl FnOnce(&mut OllamaConfig)) -> Arc<Ollama> {
        let mut config = OllamaConfig::new(self.path("ours"));
        // Nobody listens there, and no other test will.
        config.address = "127.0.0.1:9".parse().unwrap();
        config.program = Some(self.path("ollama"));
        config.backoff = Duration::from_millis(50);
        config.limits = limits();
        change(&mut config);
        Ollama::new(config).unwrap()
    }

    fn starts(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.path("starts")).unwrap_or_default();
        text.split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect()
    }

    fn runner(&self) -> u32 {
        std::fs::read_to_string(self.path("runner"))
            .unwrap()
            .parse()
            .unwrap()
    }
}

fn alive(process: u32) -> bool {
    // One that ended and was not waited for counts as ended.
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}

fn signal(process: u32, which: &str) {
    let done = std::process::Command::new("kill")
        .args([which, &process.to_string()])
        .status();
    assert!(done.unwrap().success());
}

#[tokio::test]
async fn an_installed_one_is_started_and_ends_with_us() {
    let world = World::new();
    let ollama = world.ollama(|_| {});
    let (_, end) = ask(&ollama, "chat", &question("Hi")).await;
    end.unwrap();
    let running = ollama.running().await.unwrap();
    let Whose::Ours { process } = running.whose else {
        panic!("{running:?}");
    };
    assert_eq!(world.starts(), [process]);
    let told: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.path("told")).unwrap()).unwrap();
    assert_eq!(told["OLLAMA_HOST"], running.address.to_string());
    assert_eq!(told["OLLAMA_NUM_PARALLEL"], "4");
    assert_eq!(told["OLLAMA_MAX_LOADED_MODELS"], "2");
    assert_eq!(told["OLLAMA_KEEP_ALIVE"], "1800s");
    assert_eq!(told["OLLAMA_NOPRUNE"], "1");
    assert_eq!(told["OLLAMA_NO_CLOUD"], "1");
    assert!(told["HOME"].as_str().unwrap().ends_with("ours/home"));
    assert!(
        told.get("CARGO_MANIFEST_DIR").is_none(),
        "nothing else of ours"
    );
    let group = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let group = group
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(2)
        .unwrap();
    assert_eq!(group, process.to_string(), "a group of its own");
    let runner = world.runner();
    assert!(alive(runner));
    ollama.stop().await;
    assert!(!alive(process));
    until("what ran its models has ended", || !alive(runner)).await;
    assert!(ollama.models().await.is_err());
}

#[tokio::test]
async fn dropping_it_is_enough() {
    let world = World::new();
    let ollama = world.ollama(|_| {});
    ollama.models().await.unwrap();
    let (process, runner) = (world.starts()[0], world.runner());
    drop(ollama);
    until("it has ended", || !alive(process) && !alive(runner)).await;
}

/// Not a test but what holds one for the next test, when that starts it.
#[test]
fn hold_one() {
    let Some(folder) = std::env::var_os("AICO_TEST_HOLD").map(PathBuf::from) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut config = OllamaConfig::new(folder.join("ours"));
        config.address = "127.0.0.1:9".parse().unwrap();
        config.program = Some(folder.join("ollama"));
        let ollama = Ollama::new(config).unwrap();
        ollama.models().await.unwrap();
        std::fs::write(folder.join("held"), "").unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
    });
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn killing_us_is_enough() {
    let world = World::new();
    let mut holder = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::hold_one", "--nocapture"])
        .env("AICO_TEST_HOLD", world.folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("one is held", || world.path("held").exists()).await;
    let process = world.starts()[0];
    assert!(alive(process));
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("it was told and has ended", || !alive(process)).await;
    // A real one ends what runs its models; the double does not.
    signal(world.runner(), "-KILL");
}

#[tokio::test]
async fn one_that_crashes_is_started_again() {
    let world = World::new();
    let ollama = world.ollama(|_| {});
    ollama.models().await.unwrap();
    let (first, runner) = (world.starts()[0], world.runner());
    signal(first, "-KILL");
    until("it was started again", || world.starts().len() == 2).await;
    until("nothing of the first is left", || !alive(runner)).await;
    let (_, end) = ask(&ollama, "chat", &question("Hi")).await;
    end.unwrap();
    assert_ne!(world.starts()[1], first);
    ollama.stop().await;
}

#[tokio::test]
async fn one_that_hangs_is_started_anew() {
    let world = World::new();
    let ollama = world.ollama(|config| {
        config.limits.answer = Duration::from_secs(2);
        config.limits.first_token = Duration::from_secs(2);
    });
    ollama.models().await.unwrap();
    let first = world.starts()[0];
    signal(first, "-STOP");
    let error = ollama.models().await.unwrap_err();
    assert!(matches!(error, BackendError::TimedOut { .. }), "{error:?}");
    ollama.models().await.unwrap();
    assert!(!alive(first));
    assert_eq!(world.starts().len(), 2);
    ollama.stop().await;
}

#[tokio::test]
async fn one_that_does_not_start_is_told_and_not_tried_all_the_time() {
    let world = World::new();
    std::fs::write(world.path("dies"), "").unwrap();
    let ollama = world.ollama(|config| config.backoff = Duration::from_secs(30));
    assert_eq!(ollama.models().await, Err(BackendError::NotStarted));
    assert_eq!(ollama.models().await, Err(BackendError::NotStarted));
    assert_eq!(world.starts().len(), 1);
    ollama.stop().await;

    let ollama = world.ollama(|config| config.program = Some("/nowhere/ollama".into()));
    assert_eq!(ollama.models().await, Err(BackendError::NotStarted));
}

/// What is to be done of `engine-not-started` and `engine-too-old`: install it anew.
#[tokio::test]
async fn what_was_installed_meanwhile_is_started_next() {
    let world = World::new();
    let (bin, ours) = (world.path("bin"), world.path("ours"));
    let broken = bin.join("ollama");
    world.program(&broken);
    let tried = world.path("tried");
    let script = format!("#!/bin/sh\n: > '{}'\nexit 1\n", tried.display());
    std::fs::write(&broken, script).unwrap();
    let ollama = world.ollama(|config| {
        config.program = None;
        config.path = Some(bin.into());
    });
    let install = async {
        until("the broken one was tried", || tried.exists()).await;
        world.program(&ours.join("0.12.10-8f4bf70a/bin/ollama"));
        let pointer = r#"{"format":1,"version":"0.12.10","folder":"0.12.10-8f4bf70a",
            "size":1,"sha256":"8f"}"#;
        std::fs::write(ours.join("current.json"), pointer).unwrap();
    };
    let (listed, ()) = tokio::join!(ollama.models(), install);
    listed.unwrap();
    let told: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.path("told")).unwrap()).unwrap();
    assert!(told["HOME"].as_str().unwrap().ends_with("ours/home"));
    ollama.stop().await;
}

#[tokio::test]
async fn what_was_installed_while_a_broken_one_is_left_alone_is_started_at_once() {
    let world = World::new();
    std::fs::write(world.path("dies"), "").unwrap();
    let ollama = world.ollama(|config| config.backoff = Duration::from_secs(3600));
    assert_eq!(ollama.models().await, Err(BackendError::NotStarted));
    std::fs::remove_file(world.path("dies")).unwrap();
    assert_eq!(ollama.models().await, Err(BackendError::NotStarted));
    assert_eq!(world.starts().len(), 1);
    ollama.was_installed();
    ollama.models().await.unwrap();
    assert_eq!(world.starts().len(), 2);
    ollama.stop().await;
}

/// The other thing to be done: start one by hand.
#[tokio::test]
async fn one_that_was_started_by_hand_is_taken_when_ours_does_not_start() {
    let world = World::new();
    std::fs::write(world.path("dies"), "").unwrap();
    let free = || {
        let one = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        one.local_addr().unwrap()
    };
    // While ours rests for long.
    let address = free();
    let ollama = world.ollama(|config| {
        config.address = address;
        config.backoff = Duration::from_secs(30);
    });
    assert_eq!(ollama.models().await, Err(BackendError::NotStarted));
    let theirs = Double::on(&address.to_string(), Dialect::New).await;
    ollama.models().await.unwrap();
    assert_eq!(ollama.running().await.unwrap().whose, Whose::Theirs);
    assert_eq!(world.starts().len(), 1);
    ollama.stop().await;
    drop(theirs);

    // While somebody waits that ours is tried again: it is not, from then on.
    let address = free();
    let ollama = world.ollama(|config| config.address = address);
    let by_hand = async {
        until("ours was tried", || world.starts().len() >= 2).await;
        Double::on(&address.to_string(), Dialect::New).await
    };
    let (listed, _theirs) = tokio::join!(ollama.models(), by_hand);
    listed.unwrap();
    assert_eq!(ollama.running().await.unwrap().whose, Whose::Theirs);
    ollama.stop().await;
}

#[tokio::test]
async fn one_that_runs_already_is_taken_and_left_running() {
    let world = World::new();
    let theirs = Double::start(Dialect::Old).await;
    let ollama = world.ollama(|config| config.address = theirs.address);
    ask(&ollama, "chat", &question("Hi")).await.1.unwrap();
    let running = ollama.running().await.unwrap();
    assert_eq!(
        (running.whose, running.address),
        (Whose::Theirs, theirs.address)
    );
    assert!(world.starts().is_empty());
    ollama.stop().await;
    let again = world.ollama(|config| config.address = theirs.address);
    again.models().await.unwrap();

    // It ends: then one of our own is started, and answers.
    drop(theirs);
    let _cut = again.models().await;
    again.models().await.unwrap();
    let running = again.running().await.unwrap();
    assert!(matches!(running.whose, Whose::Ours { .. }));
    again.stop().await;
}

#[tokio::test]
async fn what_can_not_be_used_is_left_alone_and_one_of_our_own_started() {
    let world = World::new();
    for broken in ["old", "other"] {
        let theirs = Double::start(Dialect::Old).await;
        match broken {
            "old" => theirs.state().version = "0.9.0".into(),
            _ => theirs.fail("/api/version", Fault::OtherProgram),
        }
        let ollama = world.ollama(|config| config.address = theirs.address);
        ollama.models().await.unwrap();
        let running = ollama.running().await.unwrap();
        assert!(matches!(running.whose, Whose::Ours { .. }), "{broken}");
        ollama.stop().await;
        // Unless none may be started.
        if broken == "other" {
            theirs.fail("/api/version", Fault::OtherProgram);
        }
        let ollama = world.ollama(|config| {
            config.address = theirs.address;
            config.start = Start::Never;
        });
        let error = ollama.models().await.unwrap_err();
        let expected = matches!(
            (broken, &error),
            ("old", BackendError::TooOld { .. }) | ("other", BackendError::OtherProgram { .. })
        );
        assert!(expected, "{broken} {error:?}");
    }
    // An installed one that is too old is no help.
    std::fs::write(world.path("old"), "").unwrap();
    let ollama = world.ollama(|config| config.backoff = Duration::from_secs(30));
    let error = ollama.models().await.unwrap_err();
    assert!(matches!(error, BackendError::TooOld { .. }), "{error:?}");
    ollama.stop().await;
}

#[test]
fn it_is_found_where_it_may_be() {
    let world = World::new();
    let ours = world.path("ours");
    assert_eq!(
        find(&ours, None).filter(|found| found.place == Place::Ours),
        None
    );
    let (empty, bin) = (world.path("empty"), world.path("bin"));
    std::fs::create_dir(&empty).unwrap();
    world.program(&bin.join("ollama"));
    // A file that is no program, and a folder that means another one tomorrow, do not count.
    std::fs::write(empty.join("ollama"), "").unwrap();
    let path = std::env::join_paths([&empty, Path::new("bin"), &bin]).unwrap();
    let found = find(&ours, Some(&path)).unwrap();
    assert_eq!(
        (found.program, found.place),
        (bin.join("ollama"), Place::Theirs)
    );
}
