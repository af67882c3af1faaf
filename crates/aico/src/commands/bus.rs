//! `aico bus`: reading along, and figures.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

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
            daemon.lines(&path, true, |line| show(line, *json)).await
        }
        Bus::Stats { over, json } => {
            let mut stats = daemon.get("/api/v1/bus").await?;
            if *over > 0 {
                let (before, began) = (stats, Instant::now());
                tokio::time::sleep(Duration::from_secs(u64::from(*over))).await;
                stats = daemon.get("/api/v1/bus").await?;
                add_rates(&before, &mut stats, began.elapsed());
            }
            if *json {
                style::json(&stats);
            } else {
                style::line(&figures(&stats));
            }
            Ok(())
        }
    }
}

fn show(line: &str, json: bool) -> bool {
    if json {
        return style::json_line(line);
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

/// Puts next to each identity's counters what they grew by in a second.
fn add_rates(before: &Value, stats: &mut Value, over: Duration) {
    let before = before["identities"].as_array().cloned().unwrap_or_default();
    let Some(identities) = stats["identities"].as_array_mut() else {
        return;
    };
    for one in identities {
        let earlier = before
            .iter()
            .find(|earlier| earlier["identity"] == one["identity"]);
        let rate = |key: &str| {
            let was = earlier.and_then(|earlier| earlier[key].as_u64());
            let grown = one[key]
                .as_u64()
                .unwrap_or(0)
                .saturating_sub(was.unwrap_or(0));
            (grown as f64 / over.as_secs_f64() * 10.0).round() / 10.0
        };
        let rates = json!({
            "published": rate("published"),
            "published_bytes": rate("published_bytes"),
            "received": rate("received"),
            "received_bytes": rate("received_bytes"),
            "dropped": rate("dropped"),
            "requests": rate("requests"),
        });
        one["per_second"] = rates;
    }
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
    for one in list("identities") {
        let rates = &one["per_second"];
        let each = |key: &str, words: &str| match rates[key].as_f64() {
            Some(rate) => format!("{} {words} ({rate}/s)", one[key]),
            None => format!("{} {words}", one[key]),
        };
        out.push_str(&format!(
            "{}: {}, {}, {}, {}, {} refused\n",
            one["identity"].as_str().unwrap_or_default(),
            each("published", "published"),
            each("received", "received"),
            each("dropped", "dropped"),
            each("requests", "requests"),
            one["refused"],
        ));
    }
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
    fn rates_are_what_each_counter_grew_by_in_a_second() {
        let at = |published: u64| {
            json!({"identities": [{"identity": "module:weather", "published": published,
                "received": 5, "dropped": 0, "requests": 0, "refused": 1}]})
        };
        let mut now = at(70);
        add_rates(&at(20), &mut now, Duration::from_secs(4));
        let rates = &now["identities"][0]["per_second"];
        assert_eq!(
            (&rates["published"], &rates["received"]),
            (&json!(12.5), &json!(0.0))
        );
        let told = figures(&now);
        let line = "module:weather: 70 published (12.5/s), 5 received (0/s), 0 dropped (0/s), \
                    0 requests (0/s), 1 refused";
        assert!(told.contains(line), "{told}");
        // One that joined between is measured from nothing.
        let mut now = at(8);
        add_rates(&json!({}), &mut now, Duration::from_secs(2));
        assert_eq!(now["identities"][0]["per_second"]["published"], json!(4.0));
    }

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
