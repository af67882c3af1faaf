//! The model process: `aico modelservice`, started and watched by the daemon.
//!
//! Its first line says which of three kinds it is: one with a chat model, one with a package of
//! transformers ([`crate::transformers::process`]), or one that only looks at what a file says of
//! itself (`describe`). This is the first.
//!
//! It gets all it needs in one line on its standard input ([`launch`]), confines itself
//! ([`confine`]), joins the bus, loads the model and answers (`serve`). It ends when its
//! standard input does, however the daemon ended.
//!
//! In an executable for a graphics device it is the same, but for the device: it is opened between
//! the confinement of files, which all threads of its driver are then under, and that of calls.

pub mod confine;
pub(crate) mod describe;
mod embed;
pub mod launch;
mod loading;
pub(crate) mod prompts;
mod serve;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use aico_bus::link;
use aico_contracts::ids::ModelId;
use sha2::{Digest, Sha256};

use crate::batch::Batcher;
use crate::engine::llama::{Gguf, Layers};
use crate::engine::{EngineConfig, EngineError};
use crate::gguf::lora;
use crate::gpu::device;
use crate::prompt::Language;
use crate::transformers;
use confine::{Confinement, Places};
use embed::Embeds;
use launch::{Control, Failure, LINE_LIMIT, Launch, Report};
use loading::{Half, Loading};
use serve::{Loaded, Speaker};

/// What the process prints instead of a panic's message, which may quote anything.
pub(crate) const PANIC_LINE: &str = "aico-modelservice: panicked";

/// Exit code of a process that told why it can't run the model.
const TOLD: u8 = 1;
/// Exit code of a process whose daemon is gone.
const ORPHANED: u8 = 2;

/// Runs the model process until the daemon ends it. Never returns where the system lets it
/// end at once.
#[must_use]
pub fn run_model_process() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {
        let _nobody_reads = writeln!(std::io::stderr(), "{PANIC_LINE}");
    }));
    let failure = match run() {
        Ok(()) => confine::leave(0),
        Err(failure) => failure,
    };
    report(&Report::Failed(failure));
    confine::leave(TOLD)
}

/// One line to the daemon.
fn report(report: &Report) {
    if let Ok(mut line) = serde_json::to_string(report) {
        line.push('\n');
        let mut out = std::io::stdout().lock();
        // A daemon that is gone does not read; the end of the input tells.
        let _gone = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}

fn run() -> Result<(), Failure> {
    confine::first().map_err(|_| Failure::Confinement)?;
    let mut input = BufReader::new(std::io::stdin());
    let line = read_line(&mut input).ok_or(Failure::Launch)?;
    if let Some(launch) = transformers::process::launch(&line) {
        // Why not was told in its own words.
        let done = transformers::process::run(&launch, &mut input);
        confine::leave(if done.is_ok() { 0 } else { TOLD });
    }
    if let Some(launch) = describe::launch(&line) {
        let done = describe::run(&launch, input);
        confine::leave(if done { 0 } else { TOLD });
    }
    let launch = serde_json::from_slice(&line)
        .ok()
        .filter(|launch: &Launch| launch.version == launch::VERSION)
        .ok_or(Failure::Launch)?;
    let places = Places {
        model: &launch.model,
        adapter: launch.adapter.as_ref().map(|adapter| &*adapter.path),
        scratch: &launch.scratch,
        gpu: launch.gpu.map(|gpu| gpu.kind),
    };
    let files = confine::files(places).map_err(|_| Failure::Confinement)?;

    let (controls, inbox) = mpsc::channel();
    std::thread::Builder::new()
        .name("aico-daemon".into())
        .spawn(move || watch(input, &controls))
        .map_err(|_| Failure::Launch)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(|_| Failure::Launch)?
        .block_on(work(launch, files, inbox))
}

async fn work(
    launch: Launch,
    files: bool,
    controls: mpsc::Receiver<Control>,
) -> Result<(), Failure> {
    let Launch {
        link,
        slot,
        model,
        id,
        size,
        sha256,
        adapter,
        threads,
        context,
        sequences,
        most_kept,
        still_ms,
        gpu,
        ..
    } = launch;
    let client = link::connect(link).await.map_err(|_| Failure::Link)?;
    let opened = match gpu {
        None => None,
        Some(gpu) => {
            let opened = tokio::task::spawn_blocking(move || device::open(&gpu)).await;
            let opened = opened.map_err(|_| device::Lack::Opened).flatten();
            Some(opened.map_err(Failure::Device)?)
        }
    };
    let calls = confine::calls(gpu.map(|gpu| gpu.kind)).map_err(|_| Failure::Confinement)?;
    if let Some(opened) = &opened {
        report(&Report::Device(opened.device.clone()));
    }
    report(&Report::Hello(Confinement { files, calls }));

    let config = EngineConfig {
        threads,
        context,
        sequences,
    };
    let layers = gpu.zip(opened.as_ref()).map(|(gpu, opened)| Layers {
        device: opened.index(),
        count: gpu.layers(),
    });
    // Without the daemon it ends early: this process ends no sooner than the load does.
    let (mut far, _wanted) = Loading::new(report);
    let loading = tokio::task::spawn_blocking(move || {
        loading::check(&model, size, sha256.as_deref(), &mut far)?;
        if let Some(adapter) = &adapter {
            let hash = Some(adapter.sha256.as_str());
            loading::check(&adapter.path, adapter.size, hash, &mut far).map_err(of_adapter)?;
            // Before the library sees it.
            lora::check(&adapter.path, &model)
                .map_err(|_| of_adapter(Failure::Refused(String::new())))?;
        }
        let files = (&*model, adapter.as_ref().map(|adapter| &*adapter.path));
        let limits = (most_kept, Duration::from_millis(still_ms));
        load(files, id, (config, layers), limits, far)
    });
    let loaded = tokio::select! {
        loaded = loading => loaded.map_err(|_| Failure::Refused(String::new()))??,
        () = client.closed() => return Err(Failure::Link),
    };

    let batcher = loaded
        .speaker
        .as_ref()
        .map(|speaker| speaker.batcher.clone());
    tokio::task::spawn_blocking(move || {
        while let Ok(control) = controls.recv() {
            match (control, &batcher) {
                (Control::Forget(person), Some(batcher)) => batcher.forget(Some(person)),
                (Control::Discard(person, key), Some(batcher)) => batcher.discard(person, key),
                // One that only reads keeps nothing.
                (Control::Forget(_) | Control::Discard(..), None) => {}
                (Control::Stop, _) => confine::leave(0),
            }
        }
    });
    serve::serve(&client, slot, loaded)
        .await
        .map_err(|_| Failure::Link)
}

/// Reads what the daemon says, and ends the process when it says no more.
fn watch(mut input: impl BufRead, controls: &mpsc::Sender<Control>) -> ! {
    while let Some(line) = read_line(&mut input) {
        match serde_json::from_slice(&line) {
            Ok(Control::Stop) => confine::leave(0),
            Ok(control) => {
                let _loading_failed = controls.send(control);
            }
            Err(_) => confine::leave(ORPHANED),
        }
    }
    confine::leave(ORPHANED)
}

fn read_line(input: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    input
        .take(LINE_LIMIT as u64)
        .read_until(b'\n', &mut line)
        .ok()?;
    (line.pop() == Some(b'\n')).then_some(line)
}

/// SHA-256 of what is left to read.
pub(crate) fn hash(input: &mut impl Read) -> std::io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn of_adapter(failure: Failure) -> Failure {
    Failure::Adapter(Box::new(failure))
}

fn load(
    (model, adapter): (&Path, Option<&Path>),
    id: ModelId,
    (config, layers): (EngineConfig, Option<Layers>),
    (most_kept, still): (u64, Duration),
    mut far: Loading,
) -> Result<Loaded, Failure> {
    let failed = |error: EngineError| match error {
        EngineError::Load(reason) => Failure::Refused(reason.to_owned()),
        EngineError::Context { .. } => Failure::Memory,
        _ => Failure::Refused(String::new()),
    };
    let loaded = Gguf::load_while(model, layers, move |done| {
        far.at(Half::Taken, f64::from(done))
    });
    let mut gguf = loaded.map_err(failed)?;
    if let Some(adapter) = adapter {
        gguf.adapt(adapter)
            .map_err(|error| of_adapter(failed(error)))?;
    }
    let gguf = Arc::new(gguf);
    let embeds = Embeds::of(&gguf, id, config.threads, still);
    if !gguf.speaks() {
        let embeds = embeds.ok_or_else(|| Failure::Refused(String::new()))?;
        embeds.open().map_err(failed)?;
        return Ok(Loaded {
            context: gguf.context_for(&config),
            speaker: None,
            embeds: Some(embeds),
        });
    }
    let language = Language::new(Arc::clone(&gguf) as _).map_err(|_| Failure::Template)?;
    let batcher = Batcher::start(gguf, config).map_err(failed)?;
    Ok(Loaded {
        context: u32::try_from(batcher.context_length()).unwrap_or(u32::MAX),
        speaker: Some(Speaker {
            model: id,
            language: Arc::new(language),
            batcher,
            most_kept,
        }),
        embeds,
    })
}
