//! `aico engine install|remove|status ollama`: Ollama, as it is installed for this user.
//!
//! No daemon is needed: it looks for what is installed when it starts Ollama.

use aico_contracts::v1::Fault;
use aico_models::backend::ollama::install::{self, InstallError, Installed, Release};
use aico_models::backend::ollama::{Found, Ollama, Place, Running, Start, find};
use aico_models::backend::{BackendError, InstallConfig};
use aico_models::pull::single::Fetched;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::daemon::{self, ollama::folder};
use crate::exit::{Exit, Failure, sentence};
use crate::progress::{Progress, size};
use crate::{prompt, style};

/// What its maker calls it.
const TITLE: &str = "Ollama";

pub(super) async fn install(context: &Context, yes: bool) -> Result<(), Failure> {
    let config = daemon::load_config(context, Vec::new())?.config;
    let how = daemon::ollama::installation(&config, context.places.data())
        .map_err(|error| Failure::new(Exit::Configuration, sentence(&error.to_string())))?;
    let release = how.release().map_err(failed)?;
    let there = install::installed(&how.folder);
    if let Some(there) = &there
        && there.sha256 == hex(&release.sha256)
    {
        style::note(&format!("Ollama {} is installed already.", there.version));
        return Ok(());
    }
    if !yes {
        tell(&how, &release, there.as_ref());
        if !prompt::agrees("Install it?").map_err(|failure| {
            failure.do_this("Say yes beforehand: aico engine install ollama --yes")
        })? {
            return Err(Failure::new(Exit::Refused, "Nothing was downloaded."));
        }
    }
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let mut progress = Progress::new("Downloading");
    let show = |now: Fetched| show(&mut progress, &now);
    let installing = install::install(&how.folder, &release, &how.pull, stop, show);
    tokio::pin!(installing);
    let done = tokio::select! {
        done = &mut installing => done,
        // It ends at the next whole part, which is kept.
        _ = tokio::signal::ctrl_c() => {
            cancel.cancel();
            installing.await
        }
    };
    let installed = done.map_err(failed)?;
    style::line(&format!(
        "Ollama {} is installed, and what its hash says.",
        installed.version
    ));
    style::note(match how.starts {
        true => "AICO starts it when it is needed, unless one runs already.",
        false => "AICO does not start it: ollama.start of the configuration is not auto.",
    });
    Ok(())
}

fn show(progress: &mut Progress, now: &Fetched) {
    match now.step {
        "downloading" => {
            let rate = match now.rate {
                0 => String::new(),
                rate => format!(", {}/s", size(rate)),
            };
            progress.show_with(now.done, now.total, &rate);
        }
        "unpacking" => progress.say(&format!("Unpacking, {}", size(now.done))),
        "waiting" => progress.say(&format!(
            "{}; it is tried again",
            now.problem.as_deref().unwrap_or_default()
        )),
        _ => progress.say(&format!(
            "Checking, {} of {}",
            size(now.done),
            size(now.total)
        )),
    }
}

/// What, how large, from where, under which licence: before anything is asked of any server.
fn tell(how: &InstallConfig, release: &Release, there: Option<&Installed>) {
    let line = |name: &str, text: String| style::note(&format!("{name:<9} {text}"));
    let title = format!("{TITLE} {}", release.version);
    style::note(&style::strong(&title));
    style::note("A program of its own makers that runs models on this machine.");
    let kept = install::kept(&how.folder, release);
    let total = size(release.size);
    match kept {
        0 => line(
            "size",
            format!("{total}, about three times that on the disk"),
        ),
        _ => line(
            "size",
            format!("{total}, {} of it still to come", size(release.size - kept)),
        ),
    }
    match &how.pull.mirror {
        Some(mirror) => line("from", format!("the mirror {mirror}")),
        None => line("from", release.source.to_string()),
    }
    line(
        "license",
        format!("{}, {}", release.license, release.license_url),
    );
    if !release.notice.is_empty() {
        line("", release.notice.clone());
    }
    line(
        "checked",
        format!("by its SHA-256, known since {}", release.date),
    );
    line("into", how.folder.display().to_string());
    if let Some(there) = there {
        line("replaces", format!("{TITLE} {}", there.version));
    }
}

pub(super) async fn remove(context: &Context, models: bool) -> Result<(), Failure> {
    let folder = folder(context.places.data());
    let removed = tokio::task::spawn_blocking(move || install::remove(&folder, models)).await;
    let removed = removed
        .map_err(|error| Failure::new(Exit::Unexpected, "Removing failed.").because(&error))?
        .map_err(failed)?;
    match removed.version {
        Some(version) => style::line(&format!("Ollama {version} is removed.")),
        None => style::line("What there was of Ollama is removed."),
    }
    if removed.models {
        style::note("Its models are still here: aico engine remove ollama --models");
    }
    Ok(())
}

pub(super) async fn status(context: &Context, as_json: bool) -> Result<(), Failure> {
    let config = daemon::load_config(context, Vec::new())?.config;
    let folder = folder(context.places.data());
    let found = find(&folder, std::env::var_os("PATH").as_deref());
    let ours = install::installed(&folder);
    // `None`: the configuration says that it is not used, and nobody is asked.
    let running = match daemon::ollama::config(&config, context.places.data()) {
        Some(mut look) => {
            // To look is not to start.
            look.start = Start::Never;
            Some(match Ollama::new(look) {
                Ok(ollama) => ollama.running().await,
                Err(error) => Err(error),
            })
        }
        None => None,
    };
    let how = daemon::ollama::installation(&config, context.places.data());
    let release = how.ok().and_then(|how| how.release().ok());
    let address = config.ollama.address.to_string();
    if as_json {
        let (running, problem) = match &running {
            Some(Ok(running)) => (Some(running), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let problem = problem.map(|error| {
            let fault = error.to_fault(TITLE);
            json!({ "code": fault.code, "title": fault.title, "what_to_do": fault.what_to_do })
        });
        let told = json!({
            "address": address,
            "start": serde_json::to_value(config.ollama.start).unwrap_or_default(),
            "running": running.map(|it| json!({ "version": it.version })),
            "problem": problem,
            "program": found.as_ref().map(|found| found.program.display().to_string()),
            "installed_by_aico": ours.as_ref().map(|it| json!({ "version": it.version })),
            "can_be_installed": release.as_ref().map(|release| json!({
                "version": release.version, "size_bytes": release.size,
            })),
        });
        style::json(&told);
        return Ok(());
    }
    let Some(running) = running else {
        style::note("The configuration says never: ollama.start.");
        return Ok(());
    };
    running_told(&address, &running);
    installed_told(found.as_ref(), ours.as_ref(), release.as_ref());
    Ok(())
}

fn running_told(address: &str, running: &Result<Running, BackendError>) {
    match running {
        Ok(running) => style::line(&format!(
            "Ollama {} runs at {address}.",
            style::harmless(&running.version)
        )),
        Err(BackendError::Absent { .. }) => style::line(&format!("None runs at {address}.")),
        Err(error) => {
            let fault = error.to_fault(TITLE);
            style::line(&sentence(&fault.title));
            for text in [fault.detail, fault.what_to_do] {
                if !text.is_empty() {
                    style::note(&style::harmless(&text));
                }
            }
        }
    }
}

fn installed_told(found: Option<&Found>, ours: Option<&Installed>, release: Option<&Release>) {
    match (found, ours) {
        (_, Some(ours)) => style::line(&format!("Ollama {} is installed by AICO.", ours.version)),
        (Some(found), None) if found.place == Place::Theirs => style::line(&format!(
            "Installed: {}",
            style::harmless(&found.program.display().to_string())
        )),
        _ => {
            style::line("None is installed.");
            if let Some(release) = release {
                style::note(&format!(
                    "Ollama {} can be ({}): aico engine install ollama",
                    release.version,
                    size(release.size)
                ));
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(error: InstallError) -> Failure {
    let Fault {
        code,
        title,
        detail,
        what_to_do,
        ..
    } = error.to_fault();
    let exit = match code.as_str() {
        "offline" => Exit::Offline,
        "download-failed" => Exit::DownloadFailed,
        "download-wrong" => Exit::DownloadWrong,
        "address-refused" => Exit::AddressRefused,
        "catalogue-unusable" => Exit::Configuration,
        "storage-full" => Exit::StorageFull,
        "storage-read-only" => Exit::StorageReadOnly,
        "storage-failing" => Exit::StorageFailing,
        "engine-folder" => Exit::Folder,
        "not-found" => Exit::NotFound,
        "refused" | "conflict" => Exit::Refused,
        _ => Exit::Unexpected,
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    Failure {
        exit,
        what: sentence(&title),
        why: some(detail),
        what_to_do: some(what_to_do),
    }
}
