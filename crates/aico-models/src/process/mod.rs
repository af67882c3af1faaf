//! The model process: `aico modelservice`, started and watched by the daemon.
//!
//! It gets all it needs in one line on its standard input ([`launch`]), confines itself
//! ([`confine`]), joins the bus, loads the model and answers (`serve`). It ends when its
//! standard input does, however the daemon ended.

pub mod confine;
pub mod launch;
pub(crate) mod prompts;
mod serve;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;

use aico_bus::link;
use aico_contracts::ids::ModelId;
use sha2::{Digest, Sha256};

use crate::batch::Batcher;
use crate::engine::llama::Gguf;
use crate::engine::{EngineConfig, EngineError};
use crate::prompt::Language;
use confine::{Confinement, Places};
use launch::{Control, Failure, LINE_LIMIT, Launch, Report};
use serve::Speaker;

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
    let launch: Launch = read_line(&mut input)
        .and_then(|line| serde_json::from_slice(&line).ok())
        .filter(|launch: &Launch| launch.version == launch::VERSION)
        .ok_or(Failure::Launch)?;
    let places = Places {
        model: &launch.model,
        scratch: &launch.scratch,
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
        model,
        id,
        size,
        sha256,
        threads,
        context,
        sequences,
        most_kept,
        ..
    } = launch;
    let client = link::connect(link).await.map_err(|_| Failure::Link)?;
    let calls = confine::calls().map_err(|_| Failure::Confinement)?;
    report(&Report::Hello(Confinement { files, calls }));

    let config = EngineConfig {
        threads,
        context,
        sequences,
    };
    let loading = tokio::task::spawn_blocking(move || {
        check(&model, size, sha256.as_deref())?;
        load(&model, id, config, most_kept)
    });
    let speaker = tokio::select! {
        loaded = loading => loaded.map_err(|_| Failure::Refused(String::new()))??,
        () = client.closed() => return Err(Failure::Link),
    };

    let batcher = speaker.batcher.clone();
    tokio::task::spawn_blocking(move || {
        while let Ok(control) = controls.recv() {
            match control {
                Control::Forget(person) => batcher.forget(Some(person)),
                Control::Discard(person, key) => batcher.discard(person, key),
                Control::Stop => confine::leave(0),
            }
        }
    });
    serve::serve(&client, speaker)
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

/// Whether the file is still the one that was registered.
fn check(model: &Path, size: u64, sha256: Option<&str>) -> Result<(), Failure> {
    let mut file = std::fs::File::open(model).map_err(|_| Failure::Missing)?;
    if file.metadata().map_err(|_| Failure::Missing)?.len() != size {
        return Err(Failure::Damaged);
    }
    if let Some(wanted) = sha256 {
        let found = hash(&mut file).map_err(|_| Failure::Damaged)?;
        if !hex::encode(found).eq_ignore_ascii_case(wanted) {
            return Err(Failure::Damaged);
        }
    }
    Ok(())
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

fn load(
    model: &Path,
    id: ModelId,
    config: EngineConfig,
    most_kept: u64,
) -> Result<Speaker, Failure> {
    let failed = |error: EngineError| match error {
        EngineError::Load(reason) => Failure::Refused(reason.to_owned()),
        EngineError::Context { .. } => Failure::Memory,
        _ => Failure::Refused(String::new()),
    };
    let gguf = Arc::new(Gguf::load(model).map_err(failed)?);
    let language = Language::new(Arc::clone(&gguf) as _).map_err(|_| Failure::Template)?;
    let batcher = Batcher::start(gguf, config).map_err(failed)?;
    Ok(Speaker {
        model: id,
        language: Arc::new(language),
        batcher,
        most_kept,
    })
}
