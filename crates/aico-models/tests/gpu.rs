//! Models on graphics devices: which executable is chosen, and who computes when it can't.
//!
//! The processes are real. Where a device is needed the tests are ignored, unless they were built for
//! Vulkan: then the processor may play the device, by Mesa's driver (docs/gpu.md, "Tests").
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/gguf_writer.rs"]
mod gguf_writer;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use aico_bus::Meta;
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::generated::Item;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, GraphicsDevice};
use aico_models::gpu::{GpuConfig, Kind, Wanted};
use aico_models::supervisor::ManagerConfig;
use daemon::{Daemon, daemon_with, kill, question, until};
use gguf_writer::Shape;

const CHILD: &str = env!("CARGO_BIN_EXE_aico-models-child");

/// Puts a script in the place of the engine for Vulkan.
fn engine(folder: &Path, script: &str) {
    let path = Kind::Vulkan.executable(folder);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

fn gpu(folder: &Path, wanted: Wanted) -> GpuConfig {
    GpuConfig {
        wanted,
        // The first that the driver names, also when the processor plays it.
        device: 1,
        folder: folder.to_owned(),
        ..GpuConfig::default()
    }
}

/// A daemon with an engine for Vulkan, whose model was chosen.
async fn chosen(
    script: Option<&str>,
    wanted: Wanted,
    change: impl FnOnce(&mut ManagerConfig),
) -> (tempfile::TempDir, Daemon, v1::Model) {
    let engines = tempfile::tempdir().unwrap();
    if let Some(script) = script {
        engine(engines.path(), script);
    }
    let daemon = daemon_with("modelservice", |config| {
        config.gpu = gpu(engines.path(), wanted);
        change(config);
    })
    .await;
    let path = daemon.folder.path().join("a.gguf");
    gguf_writer::write(&path, &Shape::tiny());
    let model = daemon.add(&path).await.unwrap();
    daemon.choose(&model).await.unwrap();
    (engines, daemon, model)
}

/// The same, once it answers.
async fn ready(script: Option<&str>, wanted: Wanted) -> (tempfile::TempDir, Daemon) {
    let (engines, daemon, _) = chosen(script, wanted, |_| {}).await;
    daemon.state(Status::Ready).await;
    (engines, daemon)
}

async fn told(daemon: &Daemon) -> v1::ModelActivity {
    let meta = Meta::for_person(PersonId::new());
    let activity: v1::ModelsActivity = daemon
        .asker
        .request(topics::MODELS_ACTIVITY, &v1::ReadActivity::default(), meta)
        .await
        .unwrap();
    let loaded = activity.models.into_iter();
    loaded.max_by_key(|model| model.process_id).unwrap()
}

async fn answers(daemon: &Daemon) {
    let answer = daemon.generate("Hello", 8).await;
    assert!(answer.error.is_none(), "{:?}", answer.error);
    assert!(answer.end.unwrap().answer_tokens > 0);
}

/// The processor answers, and this is told as the reason.
async fn processor_answers(daemon: &Daemon, code: &str) -> v1::Fault {
    answers(daemon).await;
    let model = told(daemon).await;
    assert_eq!(model.device, None);
    let fault = model.fallback.unwrap_or_default();
    assert_eq!(fault.code, code, "{fault:?}");
    assert!(!fault.title.is_empty() && !fault.what_to_do.is_empty());
    fault
}

fn as_model_process() -> String {
    format!("exec '{CHILD}' modelservice")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_engine_the_processor_answers_and_only_who_asked_for_one_is_told() {
    for wanted in [Wanted::Auto, Wanted::Off] {
        let (_engines, daemon) = ready(None, wanted).await;
        answers(&daemon).await;
        assert_eq!(told(&daemon).await.fallback, None);
    }
    let (_engines, daemon) = ready(None, Wanted::Only(Kind::Vulkan)).await;
    let fault = processor_answers(&daemon, "gpu-not-built").await;
    assert!(fault.what_to_do.contains("./run --gpu vulkan"));
    // One that is there and not wanted is not started.
    let (_engines, daemon) = ready(Some("exit 1"), Wanted::Off).await;
    answers(&daemon).await;
    assert_eq!(told(&daemon).await.fallback, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_finds_no_device_leaves_it_to_the_processor() {
    // A real one: it speaks our protocol, and its drivers are nowhere.
    let nowhere = format!(
        "echo x >> \"${{0%/*}}/starts\"
        unset GGML_VK_VISIBLE_DEVICES
        export VK_DRIVER_FILES=/nowhere VK_ICD_FILENAMES=/nowhere
        {}",
        as_model_process()
    );
    let (engines, daemon, model) = chosen(Some(&nowhere), Wanted::Auto, |_| {}).await;
    daemon.state(Status::Ready).await;
    processor_answers(&daemon, "gpu-no-device").await;
    let starts = || std::fs::read_to_string(engines.path().join("starts")).unwrap();
    assert_eq!(starts(), "x\n");

    // Loaded anew, it is not tried in vain, and told all the same.
    let process = told(&daemon).await.process_id;
    kill(process);
    until_loaded(&daemon, process).await;
    processor_answers(&daemon, "gpu-no-device").await;
    assert_eq!(starts(), "x\n");
    // A person's choice is a reason to try again.
    let path = daemon.folder.path().join("a.gguf");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    daemon.choose(&model).await.unwrap();
    until("it was not tried again", || starts() == "x\nx\n").await;
    daemon.state(Status::Ready).await;
    answers(&daemon).await;
}

/// Waits for a process that is another one, and ready.
async fn until_loaded(daemon: &Daemon, process: u32) {
    let end = tokio::time::Instant::now() + daemon::SOON;
    loop {
        let model = told(daemon).await;
        if model.process_id != process && model.status() == Status::Ready {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "it was not loaded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_with_an_engine_the_processor_answers_and_says_why() {
    let version = r#"read line; echo '{"failed":"launch"}'; exit 1"#;
    let small = r#"read line
        echo '{"failed":{"device":{"memory":{"need":3221225472,"free":1073741824}}}}'; exit 1"#;
    let refused = r#"read line; echo '{"failed":{"refused":"odd"}}'; exit 1"#;
    let crash = format!("exec '{CHILD}' crash");
    for (script, code) in [
        ("exit 3", "gpu-crashed"),
        (crash.as_str(), "gpu-crashed"),
        (version, "gpu-version"),
        (small, "gpu-too-small"),
        (refused, "gpu-refused"),
        ("echo nonsense; exit 0", "gpu-crashed"),
    ] {
        let (_engines, daemon) = ready(Some(script), Wanted::Auto).await;
        let fault = processor_answers(&daemon, code).await;
        if code == "gpu-too-small" {
            assert_eq!(
                fault.detail,
                "It needs about 3.0 GiB, 1.0 GiB are free there."
            );
        }
        assert_eq!(told(&daemon).await.restarts, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_program_is_told() {
    let engines = tempfile::tempdir().unwrap();
    std::fs::write(Kind::Vulkan.executable(engines.path()), b"no program").unwrap();
    let (_none, daemon, _) = chosen(None, Wanted::Auto, |config| {
        config.gpu.folder = engines.path().to_owned();
    })
    .await;
    daemon.state(Status::Ready).await;
    processor_answers(&daemon, "gpu-not-started").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_loads_for_ever_is_given_up() {
    let hang = format!("exec '{CHILD}' hang");
    let limit = |config: &mut ManagerConfig| config.load_limit = Duration::from_secs(10);
    let (_engines, daemon, _) = chosen(Some(&hang), Wanted::Auto, limit).await;
    daemon.state(Status::Ready).await;
    processor_answers(&daemon, "gpu-slow").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_model_file_is_the_files_fault() {
    let damaged = r#"read line; echo '{"failed":"damaged"}'; exit 1"#;
    let (_engines, daemon, _) = chosen(Some(damaged), Wanted::Auto, |_| {}).await;
    let failed = daemon.state(Status::Failed).await;
    assert_eq!(failed.fault.unwrap().code, "model-damaged");
}

/// Runs the tests' child as the engine, on whatever device there is.
async fn on_device() -> (tempfile::TempDir, Daemon, GraphicsDevice) {
    let (engines, daemon) = ready(Some(&as_model_process()), Wanted::Only(Kind::Vulkan)).await;
    let model = told(&daemon).await;
    let Some(device) = model.device else {
        panic!("no device: {:?}", model.fallback);
    };
    (engines, daemon, device)
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(feature = "vulkan"),
    ignore = "needs the build for Vulkan and a driver: docs/gpu.md, \"Tests\""
)]
async fn a_device_computes_confined_and_a_crash_is_replaced_on_it_once() {
    let (_engines, daemon, device) = on_device().await;
    assert_eq!(device.kind, "vulkan");
    assert!(!device.name.is_empty() && device.memory_bytes > 0);
    answers(&daemon).await;
    let process = told(&daemon).await.process_id;
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let is = |key: &str, value: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        assert_eq!(line.map(str::trim), Some(value), "{key}");
    };
    is("NoNewPrivs:", "1");
    is("Seccomp:", "2");

    kill(process);
    until_loaded(&daemon, process).await;
    let again = told(&daemon).await;
    assert_eq!((again.restarts, again.device), (1, Some(device)));
    answers(&daemon).await;

    // Twice in a row is once too often.
    kill(again.process_id);
    until_loaded(&daemon, again.process_id).await;
    processor_answers(&daemon, "gpu-crashed").await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(feature = "vulkan"),
    ignore = "needs the build for Vulkan and a driver: docs/gpu.md, \"Tests\""
)]
async fn an_answer_on_a_device_is_cancelled_and_the_next_one_comes() {
    let (_engines, daemon, _) = on_device().await;
    let meta = Meta::default().person(PersonId::new());
    let mut stream = daemon
        .asker
        .open_stream::<_, v1::Generated>(topics::MODELS_GENERATE, &question("Hi", 400), meta)
        .await
        .unwrap();
    let begun = |item: &v1::Generated| matches!(item.item, Some(Item::Text(_)));
    while !begun(&stream.next().await.unwrap().unwrap()) {}
    drop(stream);
    answers(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(feature = "vulkan"),
    ignore = "needs the build for Vulkan and a driver: docs/gpu.md, \"Tests\""
)]
async fn a_model_that_the_device_has_no_room_for_goes_to_the_processor() {
    let more = "s/\"need\":[0-9]*/\"need\":9000000000000000/";
    let huge = format!("sed -u '{more}' | '{CHILD}' modelservice");
    let (_engines, daemon) = ready(Some(&huge), Wanted::Only(Kind::Vulkan)).await;
    processor_answers(&daemon, "gpu-too-small").await;
}
