//! `aico status`.

use serde_json::{Value, json};

use super::Context;
use crate::cli::Status;
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::style;

pub(super) async fn run(context: &Context, status: &Status) -> Result<(), Failure> {
    let daemon = Daemon::find(&context.places).await?;
    let address = std::fs::read_to_string(context.places.address()).unwrap_or_default();
    let address = address.trim();
    if status.address {
        if address.is_empty() {
            return Err(Failure::new(
                Exit::NotRunning,
                "The daemon has noted no address.",
            ));
        }
        style::line(address);
        return Ok(());
    }
    let state = daemon.get("/api/v1/state").await?;
    let mut all =
        json!({ "address": address, "stage": state["stage"], "version": state["version"] });
    if state["stage"] == "ready"
        && let Value::Object(more) = daemon.get("/api/v1/status").await?
        && let Value::Object(all) = &mut all
    {
        all.extend(more);
    }
    if status.json {
        style::json(&all);
        return Ok(());
    }
    style::line(&format!(
        "AICO {} is {}",
        text(&all["version"]),
        style::strong(text(&all["stage"]))
    ));
    style::line(&format!("page:  {address}"));
    if all["model"].is_object() {
        style::line(&super::model::state(&all["model"]));
    }
    if let Some(bytes) = all["resident_bytes"].as_u64() {
        style::line(&format!("memory: {} MB", bytes / 1_000_000));
    }
    for warning in all["warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        style::warning(warning);
    }
    match text(&all["stage"]) {
        "new" => {
            style::hint("Open the page's address that `aico serve` printed, or run: aico setup")
        }
        "locked" => style::hint("Unlock it: aico unlock"),
        _ => {}
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
