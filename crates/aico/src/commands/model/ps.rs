//! `aico model ps`: what models do now.

use jiff::Timestamp;
use serde_json::Value;

use crate::client::Daemon;
use crate::exit::Failure;
use crate::progress::{bar, size};
use crate::style;

const HEAD: [&str; 10] = [
    "NAME",
    "ENGINE",
    "STATE",
    "MEMORY",
    "CPU",
    "UNTIL",
    "RUN",
    "WAIT",
    "TOKENS/S",
    "FIRST TOKEN",
];
const ASKED: [&str; 8] = [
    "YOUR LAST",
    "MODEL",
    "FROM",
    "OUTCOME",
    "WAITED",
    "FIRST TOKEN",
    "TOKENS",
    "TOKENS/S",
];
/// Questions below the table; `--json` has the others.
const MOST_ASKED: usize = 5;
/// Letters of a name, so that a line stays one on a terminal; `--json` has it whole.
const MOST_NAME: usize = 22;

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
        .map(|model| row(model, processors(&all, model), at))
        .collect();
    if rows.is_empty() {
        style::note("No model is in memory. The next question loads one.");
    } else {
        for line in table(&HEAD, &rows) {
            style::line(&line);
        }
    }
    let requests = all["requests"].as_array().into_iter().flatten();
    let own: Vec<_> = requests
        .take(MOST_ASKED)
        .map(|one| asked(one, at))
        .collect();
    if !own.is_empty() {
        style::line("");
        for line in table(&ASKED, &own) {
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
    // Of another program it is told where AICO has it in memory.
    let beside = at_work("memory_bytes");
    loaded
        || beside
        || at_work("running")
        || at_work("waiting")
        || !model["resting_until"].is_null()
}

/// Processors that its process kept busy when a sample was last taken, if there was one.
fn processors(all: &Value, model: &Value) -> Option<f64> {
    model["process_id"].as_u64()?;
    let sample = all["samples"].as_array()?.last()?;
    let mut models = sample["models"].as_array()?.iter();
    models.find(|one| one["model"] == model["model"])?["processors"].as_f64()
}

fn row(model: &Value, processors: Option<f64>, at: Option<Timestamp>) -> [String; 10] {
    let text = |key: &str| model[key].as_str().map(style::harmless);
    let number = |key: &str| model[key].as_u64().unwrap_or(0);
    let until = match (model["pinned"] == true, text("resting_until")) {
        (true, _) => "pinned".to_owned(),
        (_, Some(_)) => format!("rests, {}", left(model["resting_until"].as_str(), at)),
        _ => left(model["idle_until"].as_str(), at),
    };
    [
        short(&text("name").unwrap_or_default()),
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
        processors.map_or_else(|| "-".to_owned(), |count| format!("{count:.1}")),
        until,
        match number("places") {
            // It is not in memory yet.
            0 => number("running").to_string(),
            places => format!("{} of {places}", number("running")),
        },
        number("waiting").to_string(),
        rate(model),
        duration(&model["totals"]["first_token_ms"]),
    ]
}

/// One of the person's own questions; of others' there are the sums alone.
fn asked(one: &Value, at: Option<Timestamp>) -> [String; 8] {
    let text = |key: &str| style::harmless(one[key].as_str().unwrap_or_default());
    let then = one["at"].as_str().and_then(|then| then.parse().ok());
    let ago = match (then, at) {
        (Some(then), Some(at)) => format!("{} ago", seconds(span(then, at))),
        _ => "-".to_owned(),
    };
    [
        ago,
        short(&text("name")),
        text("asker"),
        match one["problem"].as_str() {
            Some(problem) => style::harmless(problem),
            None => text("outcome"),
        },
        duration(&one["waited_ms"]),
        duration(&one["first_token_ms"]),
        tokens(one).to_string(),
        rate(one),
    ]
}

fn short(name: &str) -> String {
    match name.chars().count() > MOST_NAME {
        true => name.chars().take(MOST_NAME - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// Tokens of the answer; of a model that writes nothing those that it read.
fn tokens(one: &Value) -> u64 {
    let count = |key: &str| one[key].as_u64().unwrap_or(0);
    match (count("answer_tokens"), one["first_token_ms"].is_null()) {
        (0, true) => count("prompt_tokens"),
        (written, _) => written,
    }
}

fn rate(of: &Value) -> String {
    format!("{:.1}", of["tokens_per_second"].as_f64().unwrap_or(0.0))
}

/// Milliseconds, or seconds where they are many.
fn duration(ms: &Value) -> String {
    match ms.as_f64() {
        Some(ms) if ms < 999.5 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1e3),
        None => "-".to_owned(),
    }
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
        (Some(then), Some(now)) => seconds(span(now, then)),
        _ => "-".to_owned(),
    }
}

/// From the one to the other; 0 when that is past.
fn span(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs().max(0)
}

fn seconds(count: i64) -> String {
    match count {
        0..=119 => format!("{count} s"),
        _ => format!("{} min", count / 60),
    }
}

fn table<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |cells: [&str; N]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(*head)];
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
    fn what_another_program_has_in_memory_for_us_is_there_while_it_is_idle() {
        let mut model = json!({
            "name": "qwen3:8b", "engine": "ollama", "status": "ready", "memory_bytes": 5_000_000,
            "running": 0, "waiting": 0, "resting_until": null
        });
        assert!(is_there(&model));
        model["memory_bytes"] = Value::Null;
        assert!(!is_there(&model));
    }

    #[test]
    fn a_graphics_device_is_told_and_why_there_is_none() {
        let on = json!({
            "name": "Owl", "engine": null, "device": {"kind": "vulkan", "name": "Radeon\u{1b}[0m X"}
        });
        assert_eq!(row(&on, None, None)[1], "aico, vulkan");
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
        assert_eq!(row(&off, None, None)[1], "aico");
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
            "waiting": 2, "tokens_per_second": 12.34, "resting_until": null,
            "totals": {"first_token_ms": 412.6}
        });
        let loads = json!({
            "name": "Jay", "status": "starting", "loading_percent": 40, "pinned": false,
            "running": 0, "places": 4, "waiting": 0, "tokens_per_second": 0.0
        });
        let pinned = json!({
            "name": "A longer name", "status": "ready", "memory_bytes": null, "pinned": true,
            "running": 0, "places": 4, "waiting": 0, "tokens_per_second": 0.0,
            "totals": {"first_token_ms": 999.6}
        });
        let rests = json!({
            "name": "qwen3:8b", "engine": "ollama", "status": "failed", "pinned": false,
            "running": 0, "places": 4, "waiting": 0, "tokens_per_second": 0.0,
            "resting_until": "2026-01-01T12:00:05Z"
        });
        // Others have to make room for it.
        let awaited = json!({
            "name": "Kea", "engine": null, "status": "stopped", "pinned": false,
            "running": 0, "places": 0, "waiting": 3, "tokens_per_second": 0.0
        });
        let stopped = json!({"name": "x", "engine": null, "status": "stopped"});
        assert!(
            [&loaded, &pinned, &rests, &awaited]
                .iter()
                .all(|one| is_there(one))
        );
        assert!(!is_there(&stopped));
        let rows: Vec<_> = [(loaded, Some(1.54)), (loads, None), (pinned, None)]
            .into_iter()
            .chain([(rests, None), (awaited, None)])
            .map(|(one, processors)| row(&one, processors, Some(now)))
            .collect();
        let lines = table(&HEAD, &rows);
        assert_eq!(
            lines,
            [
                "NAME           ENGINE  STATE               MEMORY  CPU  UNTIL       RUN     WAIT  TOKENS/S  FIRST TOKEN",
                "Owl            aico    ready               2.0 GB  1.5  29 min      1 of 4  2     12.3      413 ms",
                "Jay            aico    [####......]  40 %  -       -    -           0 of 4  0     0.0       -",
                "A longer name  aico    ready               -       -    pinned      0 of 4  0     0.0       1.0 s",
                "qwen3:8b       ollama  failed              -       -    rests, 5 s  0 of 4  0     0.0       -",
                "Kea            aico    stopped             -       -    -           0       3     0.0       -",
            ]
        );
    }

    #[test]
    fn the_load_of_a_processor_is_that_of_the_last_sample_and_only_of_a_process_of_ours() {
        let model = json!({"model": "a", "process_id": 7});
        let sample = |processors: f64| {
            json!({"models": [
                {"model": "b", "processors": 9.0}, {"model": "a", "processors": processors}
            ]})
        };
        let all = json!({"samples": [sample(0.5), sample(1.5)]});
        assert_eq!(processors(&all, &model), Some(1.5));
        assert_eq!(processors(&json!({"samples": []}), &model), None);
        let beside = json!({"model": "a", "process_id": null});
        assert_eq!(processors(&all, &beside), None);
    }

    #[test]
    fn a_long_name_leaves_the_line_one() {
        let name = "ü".repeat(MOST_NAME);
        assert_eq!(short(&name), name);
        let cut = short(&format!("{name}x"));
        assert_eq!(cut, format!("{}…", "ü".repeat(MOST_NAME - 1)));
    }

    #[test]
    fn of_ones_own_questions_it_is_told_what_they_took() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let done = json!({
            "name": "Owl\u{1b}[0m", "at": "2026-01-01T11:59:48Z", "asker": "companion",
            "outcome": "completed", "problem": null, "waited_ms": 3.2, "first_token_ms": 412.6,
            "answer_tokens": 80, "tokens_per_second": 9.83
        });
        let refused = json!({
            "name": "Jay", "at": "2026-01-01T11:40:00Z", "asker": "gateway", "outcome": "refused",
            "problem": "busy", "waited_ms": 30_000.0, "first_token_ms": null, "answer_tokens": 0,
            "tokens_per_second": 0.0
        });
        let read = json!({
            "name": "all-minilm-l6-v2", "at": "2026-01-01T11:59:48Z", "asker": "gateway",
            "outcome": "completed", "problem": null, "waited_ms": 900.0, "first_token_ms": null,
            "prompt_tokens": 512, "answer_tokens": 0, "tokens_per_second": 2048.0
        });
        assert_eq!(asked(&read, Some(now))[5..], ["-", "512", "2048.0"]);
        let rows = [&done, &refused].map(|one| asked(one, Some(now)));
        assert!(!rows[0][1].contains('\u{1b}'));
        assert_eq!(
            [
                &rows[0][0],
                &rows[0][3],
                &rows[0][4],
                &rows[0][5],
                &rows[0][6],
                &rows[0][7]
            ],
            ["12 s ago", "completed", "3 ms", "413 ms", "80", "9.8"]
        );
        assert_eq!(
            table(&ASKED, &rows[1..]),
            [
                "YOUR LAST   MODEL  FROM     OUTCOME  WAITED  FIRST TOKEN  TOKENS  TOKENS/S",
                "20 min ago  Jay    gateway  busy     30.0 s  -            0       0.0",
            ]
        );
    }
}
