//! `aico bus`: reading along, and figures.

use serde_json::Value;

use super::{Context, query_value};
use crate::cli::{Bus, PasswordFrom};
use crate::client::Daemon;
use crate::exit::Failure;
use crate::style;

pub(super) async fn run(context: &Context, what: &Bus) -> Result<(), Failure> {
    let from = PasswordFrom::default();
    let daemon = Daemon::find_as(&context.places, context.person.as_deref(), &from).await?;
    match what {
        Bus::Tail { pattern, json } => {
            let path = format!("/api/v1/bus/tail?pattern={}", query_value(pattern));
            daemon.lines(&path, |line| show(line, *json)).await
        }
        Bus::Stats { json } => {
            let stats = daemon.get("/api/v1/bus").await?;
            if *json {
                style::line(&stats.to_string());
            } else {
                style::line(&figures(&stats));
            }
            Ok(())
        }
    }
}

fn show(line: &str, json: bool) -> bool {
    if json {
        return style::piece(&format!("{line}\n"));
    }
    let Ok(message) = serde_json::from_str::<Value>(line) else {
        return true;
    };
    if let Some(missed) = message["gap"].as_u64() {
        return style::piece(&format!("… {missed} messages were missed here\n"));
    }
    let field = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
    let time = message["time_unix_ns"]
        .as_u64()
        .and_then(|ns| jiff::Timestamp::from_nanosecond(i128::from(ns)).ok())
        .map_or_else(String::new, |time| format!("{time:.3}"));
    // Four characters of base64 are three bytes.
    let bytes = field("payload").trim_end_matches('=').len() * 3 / 4;
    let text = format!(
        "{time}  #{}  {}  {}  {} ({bytes} bytes)",
        message["sequence"],
        field("sender"),
        field("topic"),
        field("payload_type"),
    );
    style::piece(&format!("{}\n", style::harmless(&text)))
}

fn figures(stats: &Value) -> String {
    let mut out = String::new();
    let total = [
        ("published", "messages published"),
        ("delivered", "put into queues"),
        ("dropped", "dropped from full queues"),
        ("requests", "requests"),
        ("unserved", "that nobody served"),
        ("refused", "refused by the policy"),
        ("malformed", "that could not be read"),
        ("turned_away", "connections turned away"),
        ("peers", "processes connected"),
    ];
    for (key, words) in total {
        out.push_str(&format!("{:>10}  {words}\n", stats[key]));
    }
    let list = |key: &str| stats[key].as_array().cloned().unwrap_or_default();
    for one in list("subscriptions") {
        out.push_str(&format!(
            "{} subscribes to {}: {} waiting ({} bytes), {} dropped\n",
            one["identity"].as_str().unwrap_or_default(),
            one["pattern"].as_str().unwrap_or_default(),
            one["waiting"],
            one["waiting_bytes"],
            one["dropped"],
        ));
    }
    for one in list("services") {
        out.push_str(&format!(
            "{} serves {}: {} waiting, {} in progress\n",
            one["identity"].as_str().unwrap_or_default(),
            one["pattern"].as_str().unwrap_or_default(),
            one["waiting"],
            one["in_progress"],
        ));
    }
    for one in list("followers") {
        out.push_str(&format!(
            "{} follows {} and is at #{}\n",
            one["identity"].as_str().unwrap_or_default(),
            one["pattern"].as_str().unwrap_or_default(),
            one["position"],
        ));
    }
    let journal = &stats["journal"];
    if journal.is_object() {
        out.push_str(&format!(
            "journal: #{} to #{} in {} files ({} bytes), {} waiting; {} kept by {} syncs, \
             {} repeated, {} refused\n",
            journal["first"],
            journal["last"],
            journal["files"],
            journal["bytes"],
            journal["waiting"],
            journal["kept"],
            journal["commits"],
            journal["repeated"],
            journal["refused"],
        ));
    }
    style::harmless(out.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_told_in_words_and_steer_no_terminal() {
        let told = figures(&json!({
            "published": 12, "dropped": 1,
            "subscriptions": [{"identity": "module:w\u{1b}[2J", "pattern": "a.#", "waiting": 3,
                "waiting_bytes": 99, "dropped": 1}],
            "services": [{"identity": "models", "pattern": "models.*", "waiting": 0, "in_progress": 2}],
            "journal": {"first": 1, "last": 9, "files": 1, "bytes": 512, "waiting": 0, "kept": 9,
                "commits": 3, "repeated": 1, "refused": 0},
        }));
        assert!(told.contains("journal: #1 to #9 in 1 files (512 bytes), 0 waiting; 9 kept by 3"));
        assert!(told.contains("12  messages published"), "{told}");
        assert!(told.contains("module:w[2J subscribes to a.#: 3 waiting (99 bytes), 1 dropped"));
        assert!(told.contains("models serves models.*: 0 waiting, 2 in progress"));
    }
}
