//! `aico model ps`: what models do now.

use jiff::Timestamp;
use serde_json::Value;

use crate::client::Daemon;
use crate::exit::Failure;
use crate::progress::{bar, size};
use crate::style;

const HEAD: [&str; 7] = [
    "NAME",
    "ENGINE",
    "STATE",
    "MEMORY",
    "UNTIL",
    "QUESTIONS",
    "TOKENS/S",
];

/// The models that are in memory or at work, as a table or as JSON.
pub(super) async fn run(daemon: &Daemon, as_json: bool) -> Result<(), Failure> {
    let all = daemon.get("/api/v1/models/activity").await?;
    if as_json {
        style::json(&all);
        return Ok(());
    }
    let at = all["at"].as_str().and_then(|at| at.parse().ok());
    let models = all["models"].as_array().into_iter().flatten();
    let rows: Vec<_> = models
        .filter(|model| is_there(model))
        .map(|model| row(model, at))
        .collect();
    if rows.is_empty() {
        style::note("No model is in memory. The next question loads one.");
    } else {
        for line in table(&rows) {
            style::line(&line);
        }
    }
    let models = all["models"].as_array().into_iter().flatten();
    for place in models.filter_map(place) {
        style::note(&place);
    }
    if let (Some(free), Some(memory)) = (
        all["available_bytes"].as_u64(),
        all["memory_bytes"].as_u64(),
    ) {
        style::note(&format!(
            "{} of {} of memory are free; {} models may be in it at once.",
            size(free),
            size(memory),
            all["most_loaded"].as_u64().unwrap_or(0)
        ));
    }
    Ok(())
}

fn is_there(model: &Value) -> bool {
    let at_work = |key: &str| model[key].as_u64().unwrap_or(0) > 0;
    let loaded = model["engine"].is_null() && model["status"] != "stopped";
    loaded || at_work("running") || at_work("waiting") || !model["resting_until"].is_null()
}

fn row(model: &Value, at: Option<Timestamp>) -> [String; 7] {
    let text = |key: &str| model[key].as_str().map(style::harmless);
    let number = |key: &str| model[key].as_u64().unwrap_or(0);
    let until = match (model["pinned"] == true, text("resting_until")) {
        (true, _) => "pinned".to_owned(),
        (_, Some(_)) => format!("rests, {}", left(model["resting_until"].as_str(), at)),
        _ => left(model["idle_until"].as_str(), at),
    };
    let waiting = match number("waiting") {
        0 => String::new(),
        waiting => format!(", {waiting} wait"),
    };
    [
        text("name").unwrap_or_default(),
        match &model["device"]["kind"] {
            Value::String(kind) => format!("aico, {}", style::harmless(kind)),
            _ => text("engine").unwrap_or_else(|| "aico".to_owned()),
        },
        match model["loading_percent"].as_u64() {
            Some(percent) => bar(percent),
            None => text("status").unwrap_or_default(),
        },
        model["memory_bytes"]
            .as_u64()
            .map_or_else(|| "-".to_owned(), size),
        until,
        format!("{} of {}{waiting}", number("running"), number("places")),
        format!("{:.1}", model["tokens_per_second"].as_f64().unwrap_or(0.0)),
    ]
}

/// Where a model is computed, when that is to be told: on a graphics device, or not on one though
/// it was wanted.
fn place(model: &Value) -> Option<String> {
    let said = |of: &str, key: &str| model[of][key].as_str().map(style::harmless);
    let name = style::harmless(model["name"].as_str().unwrap_or_default());
    if let Some(device) = said("device", "name") {
        return Some(format!("{name} is computed on {device}."));
    }
    let why = said("fallback", "why")?;
    let parts = [said("fallback", "detail"), said("fallback", "what_to_do")];
    let more: String = parts
        .into_iter()
        .flatten()
        .map(|part| format!(" {part}"))
        .collect();
    Some(format!("{name} is computed on the processor: {why}.{more}"))
}

/// How long until then: minutes, or seconds when it is soon.
fn left(then: Option<&str>, now: Option<Timestamp>) -> String {
    let then = then.and_then(|then| then.parse::<Timestamp>().ok());
    match (then, now) {
        (Some(then), Some(now)) => match then.duration_since(now).as_secs().max(0) {
            seconds @ 0..=119 => format!("{seconds} s"),
            seconds => format!("{} min", seconds / 60),
        },
        _ => "-".to_owned(),
    }
}

fn table(rows: &[[String; 7]]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..HEAD.len()).map(width).collect();
    let line = |cells: [&str; 7]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(HEAD)];
    lines.extend(
        rows.iter()
            .map(|row| line(row.each_ref().map(String::as_str))),
    );
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_graphics_device_is_told_and_why_there_is_none() {
        let on = json!({
            "name": "Owl", "engine": null, "device": {"kind": "vulkan", "name": "Radeon\u{1b}[0m X"}
        });
        assert_eq!(row(&on, None)[1], "aico, vulkan");
        let told = place(&on).unwrap();
        assert!(
            told.starts_with("Owl is computed on Radeon") && !told.contains('\u{1b}'),
            "{told}"
        );
        let off = json!({
            "name": "Owl", "device": null,
            "fallback": {
                "why": "It does not fit", "detail": "It needs 3.", "what_to_do": "Choose another."
            }
        });
        assert_eq!(row(&off, None)[1], "aico");
        assert_eq!(
            place(&off).unwrap(),
            "Owl is computed on the processor: It does not fit. It needs 3. Choose another."
        );
        assert_eq!(
            place(&json!({"name": "Owl", "device": null, "fallback": null})),
            None
        );
    }

    #[test]
    fn a_table_says_who_is_there_for_how_long_and_what_they_do() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let loaded = json!({
            "name": "Owl", "engine": null, "status": "ready", "memory_bytes": 2_000_000_000_u64,
            "idle_until": "2026-01-01T12:29:30Z", "pinned": false, "running": 1, "places": 4,
            "waiting": 2, "tokens_per_second": 12.34, "resting_until": null
        });
        let loads = json!({
            "name": "Jay", "status": "starting", "loading_percent": 40, "pinned": false,
            "running": 0, "places": 4, "waiting": 0, "tokens_per_second": 0.0
        });
        let pinned = json!({
            "name": "A longer name", "status": "ready", "memory_bytes": null, "pinned": true,
            "running": 0, "places": 4, "waiting": 0, "tokens_per_second": 0.0
        });
        let rests = json!({
            "name": "qwen3:8b", "engine": "ollama", "status": "failed", "pinned": false,
            "running": 0, "places": 4, "waiting": 0, "tokens_per_second": 0.0,
            "resting_until": "2026-01-01T12:00:05Z"
        });
        let stopped = json!({"name": "x", "engine": null, "status": "stopped"});
        assert!([&loaded, &pinned, &rests].iter().all(|one| is_there(one)));
        assert!(!is_there(&stopped));
        let rows: Vec<_> = [loaded, loads, pinned, rests]
            .iter()
            .map(|one| row(one, Some(now)))
            .collect();
        let lines = table(&rows);
        assert_eq!(
            lines,
            [
                "NAME           ENGINE  STATE               MEMORY  UNTIL       QUESTIONS       TOKENS/S",
                "Owl            aico    ready               2.0 GB  29 min      1 of 4, 2 wait  12.3",
                "Jay            aico    [####......]  40 %  -       -           0 of 4          0.0",
                "A longer name  aico    ready               -       pinned      0 of 4          0.0",
                "qwen3:8b       ollama  failed              -       rests, 5 s  0 of 4          0.0",
            ]
        );
    }
}
