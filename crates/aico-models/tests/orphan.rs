//! The model process does not outlive its daemon.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_bus::link::{Listener, endpoint_in};
use aico_bus::{AllowAll, Bus, Identity};
use aico_models::process::launch::{Launch, VERSION};

#[path = "support/gguf_writer.rs"]
mod gguf_writer;

fn start() -> Child {
    Command::new(env!("CARGO_BIN_EXE_aico-models-child"))
        .arg("modelservice")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ends(child: &mut Child) -> bool {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    false
}

#[test]
fn it_ends_when_nothing_was_said() {
    let mut child = start();
    drop(child.stdin.take());
    assert!(ends(&mut child));
}

#[test]
fn it_ends_on_a_launch_line_that_is_none_or_endless() {
    for line in ["{}\n".to_owned(), "x".repeat(1 << 20)] {
        let mut child = start();
        let mut input = child.stdin.take().unwrap();
        let _it_stopped_reading = input.write_all(line.as_bytes());
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        assert_eq!(said.trim(), r#"{"failed":"launch"}"#);
        assert!(ends(&mut child));
    }
}

#[test]
fn it_ends_with_the_pipe_while_it_reads_what_a_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // Nobody ever writes to it.
    // SAFETY: the path is a string that ends.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let launch = serde_json::json!({"describe": 1, "model": path, "adapter": null});
    let mut child = start();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{launch}").unwrap();
    assert!(child.try_wait().unwrap().is_none());
    drop(input);
    assert!(ends(&mut child));
    let mut said = Vec::new();
    std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut said).unwrap();
    assert!(said.is_empty(), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_the_pipe_while_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.gguf");
    gguf_writer::write(&model, &gguf_writer::Shape::tiny());
    let bus = Bus::new(Arc::new(AllowAll));
    let endpoint = endpoint_in(&folder.path().join("run")).unwrap();
    let listener = Listener::bind(&bus, &endpoint).await.unwrap();
    let launch = Launch {
        version: VERSION,
        link: listener.issue(Identity::new("model-process-0")),
        slot: 0,
        id: aico_contracts::ids::ModelId::new(),
        size: model.metadata().unwrap().len(),
        model,
        sha256: None,
        adapter: None,
        scratch: folder.path().to_owned(),
        threads: 1,
        context: 256,
        sequences: 1,
        most_kept: 0,
        still_ms: 60_000,
        gpu: None,
    };
    let mut child = start();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}", serde_json::to_string(&launch).unwrap()).unwrap();
    let output = child.stdout.take().unwrap();
    let (hello, ready) = tokio::task::spawn_blocking(move || {
        // How far the load is stands between the two.
        let lines = BufReader::new(output).lines().map(Result::unwrap);
        let mut lines = lines.filter(|line| !line.contains("loading"));
        (lines.next().unwrap(), lines.next().unwrap())
    })
    .await
    .unwrap();
    assert!(hello.contains("hello"), "{hello}");
    assert_eq!(ready, r#"{"ready":{"context":256}}"#);
    if cfg!(target_os = "linux") {
        assert!(hello.contains(r#""calls":true"#), "{hello}");
        // Nobody of the same user may look into it.
        let owner = std::fs::metadata(format!("/proc/{}/mem", child.id())).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"));
        let environment = std::fs::read(format!("/proc/{}/environ", child.id()));
        assert!(environment.is_err() || environment.unwrap().is_empty());
    }
    drop(input);
    let gone = tokio::task::spawn_blocking(move || ends(&mut child))
        .await
        .unwrap();
    assert!(gone);
}
