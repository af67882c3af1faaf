//! `aico logs`: the daemon's log, read through the daemon.

use serde_json::Value;

use super::{Context, query_value};
use crate::cli::{Logs, PasswordFrom};
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::style;

pub(super) async fn run(context: &Context, logs: &Logs) -> Result<(), Failure> {
    let from = PasswordFrom::default();
    let daemon = Daemon::find_as(&context.places, context.person.as_deref(), &from).await?;
    let mut query = format!("/api/v1/logs?follow={}", logs.follow);
    for (name, value) in [("level", &logs.level), ("module", &logs.module)] {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", query_value(value)));
        }
    }
    if let Some(trace) = &logs.trace {
        query.push_str(&format!("&trace={trace}"));
    }
    if let Some(since) = &logs.since {
        query.push_str(&format!("&since={}", query_value(&moment(since)?)));
    }
    daemon
        .lines(&query, logs.follow, |line| show(line, logs.json))
        .await
}

fn show(text: &str, json: bool) -> bool {
    let Ok(record) = serde_json::from_str::<Value>(text) else {
        return true;
    };
    if json {
        return style::json_line(text);
    }
    let field = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    // To the millisecond, so that lines stand below each other.
    let time = field("time")
        .parse::<jiff::Timestamp>()
        .map_or_else(|_| field("time"), |time| format!("{time:.3}"));
    let mut out = format!(
        "{time} {:5} {}: {}",
        field("level"),
        field("module"),
        field("message")
    );
    for (key, value) in record["fields"].as_object().into_iter().flatten() {
        out.push_str(&format!(" {key}={value}"));
    }
    if let Some(trace) = record["trace"].as_str() {
        out.push_str(&format!(" trace={trace}"));
    }
    style::piece(&format!("{}\n", style::harmless(&out)))
}

/// RFC 3339, or how long ago.
fn moment(text: &str) -> Result<String, Failure> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.to_string());
    }
    let wrong = || {
        Failure::new(
            Exit::Usage,
            format!("\"{}\" is no time.", style::harmless(text)),
        )
        .do_this("Write 30m, 2h, 1d, or a time such as 2026-01-31T18:00:00Z.")
    };
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(wrong)?;
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let ago = jiff::SignedDuration::from_secs(number.saturating_mul(seconds));
    let time = jiff::Timestamp::now()
        .checked_sub(ago)
        .map_err(|_| wrong())?;
    Ok(time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_moments_or_spans() {
        assert_eq!(
            moment("2026-01-31T18:00:00Z").unwrap(),
            "2026-01-31T18:00:00Z"
        );
        let before: jiff::Timestamp = moment("2h").unwrap().parse().unwrap();
        let ago = jiff::Timestamp::now().duration_since(before).as_secs();
        assert!((7200..7210).contains(&ago));
        for wrong in ["", "h", "2", "2w", "x"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
