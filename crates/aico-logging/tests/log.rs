//! The log from an event to a reader, through a real vault and real files.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aico_config::Level;
use aico_logging::{Console, LogError, Logging, Query, Record};
use aico_vault::{KdfCost, Password, Vault};
use tokio_stream::StreamExt;
use tracing::Dispatch;
use tracing::dispatcher::with_default;

const PASSWORD: &str = "velvet harbour moss lantern";

struct Data {
    _folder: tempfile::TempDir,
    path: PathBuf,
    vault: Vault,
}

impl Data {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let password = Password::new(PASSWORD).unwrap();
        let (vault, _) = Vault::create_with(&path, &password, KdfCost::minimum()).unwrap();
        Self {
            _folder: folder,
            path,
            vault,
        }
    }

    fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    fn attach(&self, logging: &Logging) {
        logging
            .attach(&self.logs(), self.vault.clone(), &settings())
            .unwrap();
    }
}

fn settings() -> aico_config::Logging {
    aico_config::Config::default().logging
}

fn prepare() -> (Logging, Dispatch) {
    Logging::prepare(&settings(), Console::Off)
}

fn messages(records: &[Record]) -> Vec<&str> {
    records
        .iter()
        .map(|record| record.message.as_str())
        .collect()
}

fn all(logging: &Logging) -> Vec<Record> {
    logging
        .reader()
        .unwrap()
        .collect(&Query::default())
        .unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn event_comes_back_as_it_was() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    data.attach(&logging);
    with_default(&dispatch, || {
        let span = tracing::info_span!(target: "aico_gateway", "request", trace = "t-1");
        let _in = span.enter();
        tracing::warn!(target: "aico_gateway::ws", port = 8771, open = true, "A door stands open");
        tracing::debug!(target: "aico_gateway::ws", "Not at this level");
    });
    let records = all(&logging);
    assert_eq!(
        messages(&records),
        ["A log file begins", "A door stands open"]
    );
    let record = &records[1];
    assert_eq!(
        (record.level, record.module.as_str()),
        (Level::Warn, "aico_gateway::ws")
    );
    let fields = BTreeMap::from([("port".into(), 8771.into()), ("open".into(), true.into())]);
    assert_eq!(record.fields, fields);
    assert_eq!(record.trace.as_deref(), Some("t-1"));
}

#[test]
fn nothing_of_it_is_readable_on_disk() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    data.attach(&logging);
    with_default(
        &dispatch,
        || tracing::info!(target: "aico", mark = "marzipan", "quince"),
    );
    logging.detach();
    let files = files(&data.logs());
    assert_eq!(files.len(), 1);
    let bytes = std::fs::read(&files[0]).unwrap();
    for word in ["marzipan", "quince", "aico", "begins", "info"] {
        assert!(
            !bytes.windows(word.len()).any(|w| w == word.as_bytes()),
            "{word}"
        );
    }
}

#[test]
fn only_what_happens_while_unlocked_is_kept() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    let say = |text: &str| with_default(&dispatch, || tracing::info!(target: "aico", "{text}"));
    say("before");
    assert!(matches!(logging.reader(), Err(LogError::Locked)));
    data.attach(&logging);
    say("between");
    let reader = logging.reader().unwrap();
    logging.detach();
    say("after");
    assert!(matches!(
        reader.collect(&Query::default()),
        Err(LogError::Locked)
    ));
    data.attach(&logging);
    let expected = ["A log file begins", "between", "A log file begins"];
    assert_eq!(messages(&all(&logging)), expected);
}

#[test]
fn queries_choose_by_level_module_time_and_number() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    data.attach(&logging);
    with_default(&dispatch, || {
        tracing::info!(target: "aico_bus", "one");
        tracing::error!(target: "aico_bus::local", "two");
        tracing::warn!(target: "aico_store", "three");
    });
    let get = |query: Query| {
        let records = logging.reader().unwrap().collect(&query).unwrap();
        messages(&records).join(" ")
    };
    let bus = Some("aico_bus".to_owned());
    assert_eq!(
        get(Query {
            level: Some(Level::Warn),
            ..Query::default()
        }),
        "two three"
    );
    assert_eq!(
        get(Query {
            module: bus.clone(),
            ..Query::default()
        }),
        "one two"
    );
    assert_eq!(
        get(Query {
            module: bus,
            last: Some(1),
            ..Query::default()
        }),
        "two"
    );
    let two = all(&logging)[2].time;
    assert_eq!(
        get(Query {
            since: Some(two),
            ..Query::default()
        }),
        "two three"
    );
    assert_eq!(
        get(Query {
            last: Some(0),
            ..Query::default()
        }),
        ""
    );
}

#[test]
fn levels_change_while_running() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    data.attach(&logging);
    let say = |text: &str| {
        with_default(&dispatch, || tracing::debug!(target: "aico_bus", "{text}"));
    };
    say("one");
    let modules = BTreeMap::from([("aico_bus".to_owned(), Level::Debug)]);
    logging.set_levels(&aico_config::Logging {
        modules,
        ..settings()
    });
    say("two");
    logging.set_levels(&settings());
    say("three");
    assert_eq!(messages(&all(&logging)), ["A log file begins", "two"]);
}

#[test]
fn secrets_by_name_and_fields_of_other_crates_are_withheld() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    data.attach(&logging);
    with_default(&dispatch, || {
        tracing::info!(target: "aico", password = "hunter2", chat_text = "hunter2", "Signed in");
        tracing::warn!(target: "tungstenite", frame = "hunter2", "Frame is odd");
        tracing::info!(target: "tungstenite", "hunter2");
    });
    let records = all(&logging);
    assert_eq!(
        messages(&records),
        ["A log file begins", "Signed in", "Frame is odd"]
    );
    let text = serde_json::to_string(&records).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(records[1].fields["password"], "[withheld]");
    assert!(records[2].fields.is_empty());
}

#[test]
fn long_values_are_cut() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    data.attach(&logging);
    let long = "x".repeat(1 << 20);
    with_default(
        &dispatch,
        || tracing::info!(target: "aico", value = long, "{long}"),
    );
    let records = all(&logging);
    assert!(records[1].message.len() < 3000);
    assert!(records[1].fields["value"].as_str().unwrap().len() < 3000);
}

#[test]
fn error_is_logged_with_its_causes() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    data.attach(&logging);
    let cause = std::io::Error::other("no space");
    let error = LogError::Folder {
        path: "logs".into(),
        source: cause,
    };
    let error: &(dyn std::error::Error + 'static) = &error;
    with_default(
        &dispatch,
        || tracing::error!(target: "aico", error, "It failed"),
    );
    assert_eq!(
        all(&logging)[1].fields["error"],
        "the log folder logs can't be used: no space"
    );
}

#[test]
fn panic_is_told_by_its_place_and_not_by_its_text() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    data.attach(&logging);
    let earlier = std::panic::take_hook();
    aico_logging::install_panic_hook();
    with_default(&dispatch, || {
        let secret = std::hint::black_box("hunter2");
        assert!(std::panic::catch_unwind(|| panic!("{secret}")).is_err());
        assert!(std::panic::catch_unwind(|| panic!("a literal")).is_err());
    });
    std::panic::set_hook(earlier);
    let records = all(&logging);
    let reasons: Vec<_> = records[1..]
        .iter()
        .map(|r| r.fields["reason"].as_str())
        .collect();
    assert_eq!(reasons, [Some("[withheld]"), Some("a literal")]);
    assert!(
        records[1].fields["at"]
            .as_str()
            .unwrap()
            .contains("log.rs:")
    );
    assert_eq!(records[1].level, Level::Error);
}

#[test]
fn cut_file_is_read_as_far_as_it_goes_and_told_of() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    data.attach(&logging);
    with_default(&dispatch, || {
        for number in 0..50 {
            tracing::info!(target: "aico", number, "counted");
        }
    });
    logging.detach();
    let [path] = &files(&data.logs())[..] else {
        unreachable!("one file")
    };
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    data.attach(&logging);
    let records = all(&logging);
    let counted = records
        .iter()
        .filter(|record| record.message == "counted")
        .count();
    assert!((10..50).contains(&counted), "{counted}");
    let told = records
        .iter()
        .find(|r| r.message == "A log file could not be read to its end");
    assert_eq!(told.unwrap().level, Level::Warn);
}

#[tokio::test]
async fn follower_gets_each_record_once_and_ends_with_the_lock() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    data.attach(&logging);
    let say = |number: u64| {
        with_default(
            &dispatch,
            || tracing::info!(target: "aico_bus", number, "counted"),
        );
    };
    (0..100).for_each(say);
    let query = Query {
        module: Some("aico_bus".to_owned()),
        ..Query::default()
    };
    let mut stream = logging.reader().unwrap().stream(query, true).unwrap();
    (100..300).for_each(say);
    with_default(
        &dispatch,
        || tracing::info!(target: "aico_store", "not asked for"),
    );
    let limit = Duration::from_secs(30);
    for number in 0..300_u64 {
        let record = tokio::time::timeout(limit, stream.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(record.fields["number"], number);
    }
    logging.detach();
    assert!(
        tokio::time::timeout(limit, stream.next())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn stream_without_following_ends() {
    let data = Data::new();
    let (logging, dispatch) = prepare();
    data.attach(&logging);
    with_default(&dispatch, || tracing::info!(target: "aico", "one"));
    let stream = logging
        .reader()
        .unwrap()
        .stream(Query::default(), false)
        .unwrap();
    let records: Vec<Record> = stream.collect().await;
    assert_eq!(messages(&records), ["A log file begins", "one"]);
}

const CHILD: &str = "AICO_LOGGING_CHILD_DATA";

/// Threads of it that log at once.
const WRITERS: usize = 3;

/// Not a test of its own: the process that the next one kills. Each thread tells what it has logged
/// once logging it has returned. Among it are warnings, which have the disk waited for.
#[test]
fn child_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let vault = Vault::unlock_with(
        Path::new(&path),
        &Password::new(PASSWORD).unwrap(),
        KdfCost::minimum(),
    );
    let (logging, dispatch) = prepare();
    logging
        .attach(&Path::new(&path).join("logs"), vault.unwrap(), &settings())
        .unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let dispatch = dispatch.clone();
            scope.spawn(move || {
                with_default(&dispatch, || {
                    for number in 0_u64.. {
                        match number % 20 {
                            0 => tracing::warn!(target: "aico", writer, number, "counted"),
                            _ => tracing::info!(target: "aico", writer, number, "counted"),
                        }
                        println!("{writer} {number}");
                    }
                });
            });
        }
    });
}

#[test]
fn killed_program_loses_nothing_that_it_had_logged() {
    let kills = std::env::var("AICO_TEST_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(25);
    let data = Data::new();
    let mut logged: Vec<[u64; WRITERS]> = Vec::new();
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, &data.path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.filter_map(|line| {
            let line = line.ok()?;
            let (writer, number) = line.split_once(' ')?;
            Some((writer.parse::<usize>().ok()?, number.parse::<u64>().ok()?))
        });
        let mut counts = [0; WRITERS];
        for (count, (writer, number)) in told.enumerate() {
            counts[writer] = number + 1;
            // Each round lets the child get a little further, so that it dies at another place; what
            // it still got out before it died counts too.
            if count == round * 3 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        logged.push(counts);
    }
    let vault = Vault::unlock_with(
        &data.path,
        &Password::new(PASSWORD).unwrap(),
        KdfCost::minimum(),
    );
    let (logging, _) = prepare();
    logging
        .attach(&data.logs(), vault.unwrap(), &settings())
        .unwrap();
    let mut runs: Vec<[u64; WRITERS]> = Vec::new();
    for record in all(&logging) {
        if record.message == "A log file begins" {
            runs.push([0; WRITERS]);
            continue;
        }
        let field = |name: &str| record.fields.get(name).and_then(serde_json::Value::as_u64);
        let (Some(writer), Some(number)) = (field("writer"), field("number")) else {
            panic!("{} {:?}", record.message, record.fields)
        };
        let next = &mut runs.last_mut().unwrap()[writer as usize];
        assert_eq!(number, *next);
        *next += 1;
    }
    assert_eq!(runs.len(), kills + 1);
    for (run, logged) in runs.iter().zip(&logged) {
        for (found, logged) in run.iter().zip(logged) {
            assert!(found >= logged, "{found} records of {logged}");
        }
    }
}
