//! Whether models can be computed on a graphics device.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aico_models::gpu::device::Device;
use aico_models::gpu::{Executable, GpuConfig, Wanted};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use super::super::Context;
use super::Found;
use crate::client::Daemon;
use crate::daemon;
use crate::progress::size;
use crate::style;

/// What an engine gets to find its devices: drivers take their time.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most that is read of what it tells.
const TOLD: u64 = 64 * 1024;

/// What the engines beside the program find, and where the loaded models are computed.
pub(super) async fn look(context: &Context) -> Vec<Found> {
    // What is wrong with the configuration is told already.
    let Ok(loaded) = daemon::load_config(context, Vec::new()) else {
        return Vec::new();
    };
    let Ok(program) = std::env::current_exe() else {
        return Vec::new();
    };
    let Ok(config) = daemon::modules::gpu_config(&loaded.config.models, &program) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for kind in config.kinds() {
        match config.executable(kind) {
            Some(executable) => found.push(devices(&config, &executable, &program).await),
            None if config.wanted == Wanted::Only(kind) => found.push(Found::Odd(
                format!("models.gpu is {kind}, and there is no engine for it beside the program"),
                Some(format!("./run --gpu {kind}")),
            )),
            None => {}
        }
    }
    if found.is_empty() && config.wanted == Wanted::Auto && has_device() {
        found.push(Found::Odd(
            "this machine has a graphics device, and models are computed on the processor".into(),
            Some("./run --gpu, which builds the engine for it".into()),
        ));
    }
    found.extend(fallbacks(context).await);
    found
}

async fn devices(config: &GpuConfig, executable: &Executable, program: &Path) -> Found {
    let kind = executable.kind;
    let name = kind.title();
    let Some(path) = &executable.path else {
        return Found::Well(format!(
            "{name} is part of this program ({})",
            program.display()
        ));
    };
    let again = || Some(format!("./run --gpu {kind}, or models.gpu: off"));
    let Some(devices) = ask(config, executable, path).await else {
        return Found::Odd(
            format!("the engine for {name} beside the program does not run"),
            again(),
        );
    };
    if devices.is_empty() {
        return Found::Odd(
            format!("the engine for {name} finds no device; models are computed on the processor"),
            Some("install the graphics device's driver, or set models.gpu to off".into()),
        );
    }
    let listed: Vec<_> = devices
        .iter()
        .map(|device| {
            let name = style::harmless(&device.name);
            format!(
                "{name} ({} free of {})",
                size(device.free),
                size(device.total)
            )
        })
        .collect();
    Found::Well(format!("{name} reaches: {}", listed.join(", ")))
}

/// The devices that an engine finds; `None`: it does not run.
async fn ask(config: &GpuConfig, executable: &Executable, path: &Path) -> Option<Vec<Device>> {
    let mut child = tokio::process::Command::new(path)
        .arg("devices")
        .env_clear()
        .envs(config.environment(executable.kind))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut output = child.stdout.take()?.take(TOLD);
    let told = async {
        let mut text = String::new();
        output.read_to_string(&mut text).await.ok()?;
        child.wait().await.ok()?.success().then_some(text)
    };
    let text = tokio::time::timeout(PATIENCE, told).await.ok()??;
    let devices = text.lines().map(serde_json::from_str::<Device>);
    devices.collect::<Result<_, _>>().ok()
}

/// Models that a running daemon computes on the processor though a device was wanted.
async fn fallbacks(context: &Context) -> Vec<Found> {
    let Ok(daemon) = Daemon::find(&context.places).await else {
        return Vec::new();
    };
    // Locked, or none of the owner's: nothing is loaded, or nothing to be told.
    let Ok(all) = daemon.get("/api/v1/models/activity").await else {
        return Vec::new();
    };
    let models = all["models"].as_array().into_iter().flatten();
    models.filter_map(fallback).collect()
}

fn fallback(model: &Value) -> Option<Found> {
    let said = |key: &str| model["fallback"][key].as_str().map(style::harmless);
    let why = said("why")?;
    let name = style::harmless(model["name"].as_str().unwrap_or_default());
    Some(Found::Odd(
        format!("{name} is computed on the processor: {why}"),
        said("what_to_do"),
    ))
}

/// Whether there is one that an engine might use.
fn has_device() -> bool {
    let rendering = || {
        let devices = std::fs::read_dir("/dev/dri")
            .into_iter()
            .flatten()
            .flatten();
        let mut names = devices.filter_map(|device| device.file_name().into_string().ok());
        names.any(|name| name.starts_with("renderD"))
    };
    Path::new("/dev/nvidia0").exists() || rendering()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_that_is_not_where_it_should_be_is_told_with_the_reason() {
        let model = json!({
            "name": "Owl", "device": null,
            "fallback": {"code": "gpu-no-device", "why": "There is none", "what_to_do": "Do it."}
        });
        let Some(Found::Odd(text, hint)) = fallback(&model) else {
            panic!("nothing was found");
        };
        assert_eq!(text, "Owl is computed on the processor: There is none");
        assert_eq!(hint.as_deref(), Some("Do it."));
        assert!(fallback(&json!({"name": "Owl", "fallback": null})).is_none());
    }
}
