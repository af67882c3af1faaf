//! Prompts kept across restarts: the files, and the way there and back with real processes.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/gguf_writer.rs"]
mod gguf_writer;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aico_bus::Meta;
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Empty};
use aico_models::prompt_cache::{Fingerprint, KeepError, Limits, PromptCache};
use aico_vault::{KdfCost, Password, Vault};
use daemon::{Daemon, SOON, daemon_with, kill, until};
use gguf_writer::Shape;

/// A home with two persons.
struct Home {
    folder: tempfile::TempDir,
    vault: Vault,
    ann: PersonId,
    ben: PersonId,
    password: Password,
}

fn home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let password = Password::new("velvet harbour moss lantern").unwrap();
    let data = folder.path().join("home");
    let (vault, _) = Vault::create_with(&data, &password, KdfCost::minimum()).unwrap();
    let person = || {
        let person = PersonId::new();
        vault.create_person(*person.as_bytes(), &password).unwrap();
        person
    };
    Home {
        ann: person(),
        ben: person(),
        folder,
        vault,
        password,
    }
}

fn limits() -> Limits {
    Limits {
        free: 0,
        least: Duration::ZERO,
        ..Limits::new(1 << 20, 4 << 20)
    }
}

fn print() -> Fingerprint {
    Fingerprint::new(&[7; 32], 512, 4, "a library 1")
}

const TOKENS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 2];

impl Home {
    fn cache(&self, limits: Limits) -> PromptCache {
        PromptCache::new(self.vault.clone(), limits)
    }

    fn files(&self, person: PersonId) -> Vec<PathBuf> {
        let folder = self.vault.prompt_cache_folder(*person.as_bytes());
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn keep(cache: &PromptCache, person: PersonId, key: &[u8], state: &[u8]) -> Result<(), KeepError> {
    let bytes = state.len() as u64;
    let mut writer = cache.begin(person, key, &print(), TOKENS.to_vec(), bytes)?;
    for piece in state.chunks(1000) {
        writer.write(piece)?;
    }
    writer.finish()
}

fn read(cache: &PromptCache, person: PersonId, key: &[u8]) -> Option<Vec<u8>> {
    let mut kept = cache.open(person, key, &print())?;
    assert_eq!(kept.tokens(), TOKENS);
    let mut state = Vec::new();
    loop {
        let piece = kept.piece(700).unwrap();
        if piece.is_empty() {
            return Some(state);
        }
        state.extend(piece);
    }
}

#[test]
fn what_was_kept_is_read_by_its_person_and_conversation_only() {
    let home = home();
    let cache = home.cache(limits());
    let state: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    assert!(read(&cache, home.ann, b"c").is_none());
    keep(&cache, home.ann, b"c", &state).unwrap();
    assert_eq!(read(&cache, home.ann, b"c").unwrap(), state);
    assert!(read(&cache, home.ann, b"d").is_none());
    assert!(read(&cache, home.ben, b"c").is_none());
    // The same conversation has one file, and its name says nothing.
    keep(&cache, home.ann, b"c", b"other").unwrap();
    keep(&cache, home.ben, b"c", b"theirs").unwrap();
    assert_eq!(read(&cache, home.ann, b"c").unwrap(), b"other");
    let (anns, bens) = (home.files(home.ann), home.files(home.ben));
    assert_eq!((anns.len(), bens.len()), (1, 1));
    assert_ne!(anns[0].file_name(), bens[0].file_name());
    cache.discard(home.ann, b"c");
    assert!(home.files(home.ann).is_empty());
    assert_eq!(read(&cache, home.ben, b"c").unwrap(), b"theirs");
}

#[test]
fn under_other_names_nothing_from_before_is_there_or_used() {
    let home = home();
    let cache = home.cache(limits());
    keep(&cache, home.ann, b"c", b"first").unwrap();
    keep(&cache, home.ben, b"c", b"theirs").unwrap();
    let before = home.files(home.ann).remove(0);
    let bytes = std::fs::read(&before).unwrap();
    home.vault.renew_prompt_cache(*home.ann.as_bytes()).unwrap();
    assert!(home.files(home.ann).is_empty());
    assert_eq!(read(&cache, home.ben, b"c").unwrap(), b"theirs");
    keep(&cache, home.ann, b"c", b"second").unwrap();
    let after = home.files(home.ann).remove(0);
    assert_ne!(before, after);
    // Put back, it is of no use; nor under the name of now, since that is the id of another.
    std::fs::write(&before, &bytes).unwrap();
    assert_eq!(read(&cache, home.ann, b"c").unwrap(), b"second");
    std::fs::write(&after, &bytes).unwrap();
    assert!(read(&cache, home.ann, b"c").is_none());
    // Cut off in between it is done once more; who was erased leaves nothing of it.
    home.vault.renew_prompt_cache(*home.ann.as_bytes()).unwrap();
    let mark = |home: &Home| {
        let marks = home.vault.registry().marks().into_keys();
        marks
            .filter(|name| name.starts_with("prompt-cache/"))
            .count()
    };
    assert_eq!(mark(&home), 1);
    home.vault
        .forget_prompt_cache(*home.ann.as_bytes())
        .unwrap();
    assert_eq!(mark(&home), 0);
}

#[test]
fn what_cannot_be_used_is_thrown_away_and_nothing_of_it_handed_out() {
    let home = home();
    let cache = home.cache(limits());
    // Four chunks: the last one is opened first.
    let state = vec![9; 200_000];
    keep(&cache, home.ann, b"c", &state).unwrap();
    let path = home.files(home.ann).remove(0);
    let fresh = || {
        keep(&cache, home.ann, b"c", &state).unwrap();
        path.clone()
    };
    let gone = |what: &str| {
        assert!(read(&cache, home.ann, b"c").is_none(), "{what}");
        assert!(home.files(home.ann).is_empty(), "{what}");
    };
    fresh();
    let other = Fingerprint::new(&[8; 32], 512, 4, "a library 1");
    assert!(cache.open(home.ann, b"c", &other).is_none());
    assert!(home.files(home.ann).is_empty(), "of another model");

    let whole = std::fs::read(fresh()).unwrap();
    for cut in [0, 10, 146, 147, 200, 65_699, whole.len() - 1] {
        std::fs::write(fresh(), &whole[..cut]).unwrap();
        gone(&format!("cut at {cut}"));
    }
    for at in [0, 12, 50, 70, 100, 130, 150] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(fresh(), bytes).unwrap();
        gone(&format!("byte {at} flipped"));
    }
    // Another conversation's, and another person's, in its place.
    for (person, key) in [(home.ann, &b"d"[..]), (home.ben, b"c")] {
        keep(&cache, person, key, b"not this").unwrap();
        let path = fresh();
        let theirs = home.files(person);
        let theirs = theirs.iter().find(|file| **file != path).unwrap();
        std::fs::rename(theirs, &path).unwrap();
        assert!(read(&cache, home.ann, b"c").is_none());
    }
    // Damaged further on: the pieces before it authenticated, this one is not handed out.
    fresh();
    let mut bytes = whole.clone();
    bytes[70_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut kept = cache.open(home.ann, b"c", &print()).unwrap();
    assert_eq!(kept.piece(60_000).unwrap(), vec![9; 60_000]);
    assert!(kept.piece(60_000).is_err());
}

#[test]
fn the_least_recently_used_goes_first_and_the_bounds_hold() {
    let home = home();
    let cache = home.cache(Limits {
        free: 0,
        ..Limits::new(100_000, 150_000)
    });
    let state = vec![1; 30_000];
    let used = |person, key: &[u8], hours: u64| {
        let before = home.files(person);
        keep(&cache, person, key, &state).unwrap();
        let mut new = home.files(person);
        new.retain(|file| !before.contains(file));
        let file = std::fs::File::options().write(true).open(&new[0]).unwrap();
        let then = SystemTime::now() - Duration::from_secs(hours * 3600);
        file.set_modified(then).unwrap();
    };
    used(home.ann, b"1", 5);
    used(home.ann, b"2", 4);
    used(home.ann, b"3", 3);
    assert!(
        cache.open(home.ann, b"1", &print()).is_some(),
        "now used last"
    );
    used(home.ann, b"4", 2);
    assert!(
        read(&cache, home.ann, b"2").is_none(),
        "it was used longest ago"
    );
    assert_eq!(home.files(home.ann).len(), 3);
    // Of all: 150,000 hold four of them.
    used(home.ben, b"5", 1);
    used(home.ben, b"6", 0);
    assert_eq!(home.files(home.ann).len() + home.files(home.ben).len(), 4);
    assert_eq!(home.files(home.ben).len(), 2);

    let large = vec![0; 100_000];
    let error = keep(&cache, home.ann, b"7", &large).unwrap_err();
    assert!(matches!(error, KeepError::NoRoom), "{error}");
    let full = home.cache(Limits {
        free: u64::MAX / 2,
        ..limits()
    });
    let error = keep(&full, home.ann, b"7", b"x").unwrap_err();
    assert!(
        matches!(error, KeepError::NoRoom),
        "the disk is nearly full"
    );
    let aging = home.cache(Limits {
        age: Duration::ZERO,
        ..limits()
    });
    std::thread::sleep(Duration::from_millis(20));
    aging.tidy();
    assert!(home.files(home.ann).is_empty() && home.files(home.ben).is_empty());
}

#[test]
fn a_writer_that_is_given_up_leaves_nothing_and_what_was_there() {
    let home = home();
    let cache = home.cache(limits());
    keep(&cache, home.ann, b"c", b"before").unwrap();
    let begin = |bytes| cache.begin(home.ann, b"c", &print(), TOKENS.to_vec(), bytes);
    let mut writer = begin(10).unwrap();
    writer.write(b"half").unwrap();
    assert!(matches!(writer.finish(), Err(KeepError::Malformed)));
    let mut writer = begin(3).unwrap();
    assert!(matches!(writer.write(b"more"), Err(KeepError::Malformed)));
    drop(writer);
    assert_eq!(home.files(home.ann).len(), 1);
    assert_eq!(read(&cache, home.ann, b"c").unwrap(), b"before");
}

#[test]
fn nothing_stays_under_a_key_that_is_no_longer_theirs_nor_of_who_is_gone() {
    let home = home();
    let cache = home.cache(limits());
    keep(&cache, home.ann, b"c", b"one").unwrap();
    let id = *home.ann.as_bytes();
    home.vault.rotate_person(id, Some(&home.password)).unwrap();
    assert!(home.files(home.ann).is_empty());
    keep(&cache, home.ann, b"c", b"two").unwrap();
    home.vault.seal_person(id, &home.password).unwrap();
    assert!(home.files(home.ann).is_empty());
    // Sealed and not signed in: nothing is read or written for them.
    keep(&cache, home.ann, b"c", b"three").unwrap();
    home.vault.lock_person(id);
    assert!(read(&cache, home.ann, b"c").is_none());
    assert_eq!(
        home.files(home.ann).len(),
        1,
        "it is theirs when they are back"
    );
    assert!(matches!(
        keep(&cache, home.ann, b"d", b"four"),
        Err(KeepError::Key)
    ));
    let ben = home.vault.person_folder(*home.ben.as_bytes());
    home.vault.erase_person(*home.ben.as_bytes()).unwrap();
    assert!(keep(&cache, home.ben, b"c", b"five").is_err());
    assert!(!ben.exists());
}

/// A daemon in miniature whose model answers, and which keeps prompts.
async fn keeping(home: &Home, limits: Limits) -> (Daemon, v1::Model) {
    keeping_after(home, limits, Duration::from_millis(200)).await
}

/// One that takes a conversation for quiet after so long.
async fn keeping_after(home: &Home, limits: Limits, quiet: Duration) -> (Daemon, v1::Model) {
    let cache = home.cache(limits);
    let daemon = daemon_with("modelservice", |config| {
        config.prompts = Some(cache);
        config.quiet = quiet;
    })
    .await;
    let path = home.folder.path().join("a.gguf");
    if !path.exists() {
        gguf_writer::write(&path, &Shape::tiny());
    }
    let model = daemon.add(&path).await.unwrap();
    let id = model.id.clone();
    let hashed = || {
        let models = daemon.registry.snapshot();
        models
            .iter()
            .any(|m| m.id.to_vec() == id && m.sha256.is_some())
    };
    until("its hash", hashed).await;
    daemon.choose(&model).await.unwrap();
    daemon.state(Status::Ready).await;
    (daemon, model)
}

async fn prepare(daemon: &Daemon, person: PersonId) {
    recall(daemon, person, b"c").await;
}

async fn recall(daemon: &Daemon, person: PersonId, key: &[u8]) {
    let question = v1::RecallPrompt {
        cache_key: key.to_vec(),
        ..v1::RecallPrompt::default()
    };
    let meta = Meta::for_person(person).deadline_in(SOON);
    let asked = daemon.asker.request(topics::MODELS_RECALL, &question, meta);
    let _: Empty = asked.await.unwrap();
}

const TEXT: &str = "It was a dark and stormy night, and the rain fell in torrents.";
/// As long, with nothing in common: what two conversations begin with alike is read once.
const OTHER: &str = "On a bright and silent morning the sun stood above the fields.";

async fn cached(daemon: &Daemon, person: PersonId) -> u32 {
    let answer = daemon.generate_for(person, TEXT, 8).await;
    answer.end.unwrap().cached_tokens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_conversation_goes_on_after_its_process_was_killed() {
    let home = home();
    let (daemon, _) = keeping(&home, limits()).await;
    assert_eq!(cached(&daemon, home.ann).await, 0);
    until("it is kept", || home.files(home.ann).len() == 1).await;
    let before = daemon.state(Status::Ready).await;
    kill(before.process_id);
    daemon
        .state_that(|state| {
            state.status() == Status::Ready && state.process_id != before.process_id
        })
        .await;
    for person in [home.ann, home.ben] {
        prepare(&daemon, person).await;
    }
    assert_eq!(cached(&daemon, home.ben).await, 0, "it is Ann's");
    assert!(cached(&daemon, home.ann).await > 0);
    // What the process wrote is gone with it.
    let scratch = daemon.folder.path().join("scratch").join("0");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_keeps_what_there_is_and_the_next_daemon_goes_on() {
    let home = home();
    let (daemon, _) = keeping(&home, limits()).await;
    let first = daemon.generate_for(home.ann, TEXT, 8).await;
    daemon.manager.stop().await;
    assert_eq!(home.files(home.ann).len(), 1);

    let (daemon, _) = keeping(&home, limits()).await;
    prepare(&daemon, home.ann).await;
    let again = daemon.generate_for(home.ann, TEXT, 8).await;
    assert_eq!(again.text, first.text);
    assert!(again.end.unwrap().cached_tokens > 0);

    // A conversation that is gone leaves nothing, here or there.
    let question = v1::DiscardPrompt {
        cache_key: b"c".to_vec(),
    };
    let meta = Meta::for_person(home.ann).deadline_in(SOON);
    let asked = daemon
        .asker
        .request(topics::MODELS_DISCARD, &question, meta);
    let _: Empty = asked.await.unwrap();
    assert!(home.files(home.ann).is_empty());
    daemon.manager.stop().await;
    assert!(
        home.files(home.ann).is_empty(),
        "the process had forgotten it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_long_conversation_the_beginning_is_kept_that_there_is_room_for() {
    let home = home();
    let small = Limits {
        person: 48 << 10,
        ..limits()
    };
    let (daemon, _) = keeping(&home, small).await;
    let long = TEXT.repeat(4);
    let first = daemon.generate_for(home.ann, &long, 8).await.end.unwrap();
    assert!(first.prompt_tokens > 150, "{first:?}");
    daemon.manager.stop().await;
    let kept = home.files(home.ann);
    assert_eq!(kept.len(), 1);
    let size = kept[0].metadata().unwrap().len();
    assert!((32 << 10..=small.person).contains(&size), "{size}");

    let (daemon, _) = keeping_after(&home, small, Duration::from_secs(3600)).await;
    prepare(&daemon, home.ann).await;
    let again = daemon.generate_for(home.ann, &long, 8).await.end.unwrap();
    let cached = again.cached_tokens;
    assert!(cached > 40 && cached < again.prompt_tokens / 2, "{again:?}");
    daemon.manager.stop().await;
}

/// Limits with room for a conversation of this text and half of another.
async fn for_one_and_a_half() -> Limits {
    let home = home();
    let (daemon, model) = keeping(&home, limits()).await;
    asked_in(&daemon, &model, home.ann, b"c").await;
    daemon.manager.stop().await;
    let size = home.files(home.ann)[0].metadata().unwrap().len();
    Limits {
        person: size * 3 / 2,
        ..limits()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_latest_conversation_is_not_pushed_out_by_an_older_one() {
    let (home, small) = (home(), for_one_and_a_half().await);
    let (daemon, model) = keeping_after(&home, small, Duration::from_secs(3600)).await;
    let both = [(b"older", OTHER), (b"later", TEXT)];
    for (key, text) in both {
        assert_eq!(said_in(&daemon, &model, home.ann, key, text).await, 0);
    }
    daemon.manager.stop().await;
    let (daemon, model) = keeping_after(&home, small, Duration::from_secs(3600)).await;
    let mut cached = Vec::new();
    for (key, text) in both {
        recall(&daemon, home.ann, key).await;
        cached.push(said_in(&daemon, &model, home.ann, key, text).await);
    }
    assert!(cached[1] > cached[0] && cached[1] > 40, "{cached:?}");
    daemon.manager.stop().await;
}

/// The later one is on the disk already when the process ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_beginning_of_an_older_conversation_takes_what_later_ones_leave() {
    let (home, small) = (home(), for_one_and_a_half().await);
    let (daemon, model) = keeping(&home, small).await;
    let long = OTHER.repeat(6);
    said_in(&daemon, &model, home.ann, b"older", &long).await;
    asked_in(&daemon, &model, home.ann, b"later").await;
    until("the later one is kept", || home.files(home.ann).len() == 1).await;
    daemon.manager.stop().await;
    assert_eq!(home.files(home.ann).len(), 2);
    let (daemon, model) = keeping_after(&home, small, Duration::from_secs(3600)).await;
    recall(&daemon, home.ann, b"later").await;
    assert!(asked_in(&daemon, &model, home.ann, b"later").await > 40);
    recall(&daemon, home.ann, b"older").await;
    let cached = said_in(&daemon, &model, home.ann, b"older", &long).await;
    assert!((10..150).contains(&cached), "{cached}");
    daemon.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_fast_is_not_kept() {
    let home = home();
    let slow = Limits {
        least: Duration::from_secs(3600),
        ..limits()
    };
    let (daemon, _) = keeping(&home, slow).await;
    assert_eq!(cached(&daemon, home.ann).await, 0);
    daemon.manager.stop().await;
    assert!(home.files(home.ann).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_context_or_a_damaged_file_is_read_anew_without_a_word() {
    let home = home();
    let (daemon, _) = keeping(&home, limits()).await;
    let first = daemon.generate_for(home.ann, TEXT, 8).await;
    daemon.manager.stop().await;
    let path = home.files(home.ann).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    // Past the head: the process has pieces of it already when this is noticed.
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (daemon, _) = keeping(&home, limits()).await;
    prepare(&daemon, home.ann).await;
    let again = daemon.generate_for(home.ann, TEXT, 8).await;
    assert_eq!(again.text, first.text);
    assert_eq!(again.end.unwrap().cached_tokens, 0);
    daemon.manager.stop().await;

    let cache = home.cache(limits());
    let daemon = daemon_with("modelservice", |config| {
        config.prompts = Some(cache);
        config.context = 256;
    })
    .await;
    let path = home.folder.path().join("a.gguf");
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    daemon.state(Status::Ready).await;
    until("its hash", || {
        daemon
            .registry
            .snapshot()
            .iter()
            .all(|m| m.sha256.is_some())
    })
    .await;
    prepare(&daemon, home.ann).await;
    assert_eq!(cached(&daemon, home.ann).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_model_in_memory_has_its_own_prompts() {
    let home = home();
    let (daemon, ant) = keeping(&home, limits()).await;
    let path = home.folder.path().join("bee.gguf");
    let shape = Shape {
        seed: 2,
        ..Shape::tiny()
    };
    gguf_writer::write(&path, &shape);
    let bee = daemon.add(&path).await.unwrap();
    let hashed = || {
        daemon
            .registry
            .snapshot()
            .iter()
            .all(|m| m.sha256.is_some())
    };
    until("its hash", hashed).await;
    let of_ant = daemon.state(Status::Ready).await.process_id;
    let of_bee = ready(&daemon, &bee, 0).await;
    assert_ne!(of_ant, of_bee);

    assert_eq!(asked(&daemon, &bee, home.ann).await, 0);
    until("it is kept", || home.files(home.ann).len() == 1).await;
    kill(of_bee);
    ready(&daemon, &bee, of_bee).await;
    let question = v1::RecallPrompt {
        cache_key: b"c".to_vec(),
        model: bee.id.clone(),
    };
    let meta = Meta::for_person(home.ann).deadline_in(SOON);
    let recalled = daemon.asker.request(topics::MODELS_RECALL, &question, meta);
    let _: Empty = recalled.await.unwrap();
    assert!(asked(&daemon, &bee, home.ann).await > 0);
    assert_eq!(asked(&daemon, &ant, home.ann).await, 0, "it is the other's");
    daemon.manager.stop().await;
}

/// The process of a model, once it is ready and another than this.
async fn ready(daemon: &Daemon, model: &v1::Model, other_than: u32) -> u32 {
    let wanted = v1::PrepareModel {
        wanted: vec![uuid::Uuid::from_slice(&model.id).unwrap().to_string()],
        only: false,
    };
    loop {
        let prepared: v1::PreparedModel =
            daemon.ask(topics::MODELS_PREPARE, &wanted).await.unwrap();
        let state = prepared.state.unwrap();
        if state.status() == Status::Ready && state.process_id != other_than {
            return state.process_id;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tokens that this model had still in its cache.
async fn asked(daemon: &Daemon, model: &v1::Model, person: PersonId) -> u32 {
    asked_in(daemon, model, person, b"c").await
}

/// In the conversation of this key.
async fn asked_in(daemon: &Daemon, model: &v1::Model, person: PersonId, key: &[u8]) -> u32 {
    said_in(daemon, model, person, key, TEXT).await
}

async fn said_in(
    daemon: &Daemon,
    model: &v1::Model,
    person: PersonId,
    key: &[u8],
    text: &str,
) -> u32 {
    let question = v1::Generate {
        model: model.id.clone(),
        cache_key: key.to_vec(),
        ..daemon::question(text, 8)
    };
    let meta = Meta::for_person(person);
    let mut stream: aico_bus::ReplyStream<v1::Generated> = daemon
        .asker
        .open_stream(topics::MODELS_GENERATE, &question, meta)
        .await
        .unwrap();
    let mut cached = None;
    while let Some(item) = stream.next().await {
        if let Some(v1::generated::Item::End(end)) = item.unwrap().item {
            cached = Some(end.cached_tokens);
        }
    }
    cached.unwrap()
}
