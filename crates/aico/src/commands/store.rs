//! `aico store check` and `aico store accept`.

use serde_json::{Value, json};

use super::{Context, checked_id, person};
use crate::cli::Store;
use crate::client::{Daemon, Problem};
use crate::exit::{Exit, Failure, sentence};
use crate::style;

pub(super) async fn run(context: &Context, what: &Store) -> Result<(), Failure> {
    let daemon = Daemon::find(&context.places).await?;
    match what {
        Store::Check { full, json } => check_all(&daemon, *full, *json).await,
        Store::Accept { name } => accept(&daemon, name).await,
    }
}

async fn accept(daemon: &Daemon, name: &str) -> Result<(), Failure> {
    let id = person::id_of(daemon, name).await?;
    let path = format!("/api/v1/persons/{}/accept-older-copy", checked_id(&id)?);
    let done = daemon.post(&path, &json!({})).await?;
    style::note(match done["accepted"] == true {
        true => "The older copy counts from now on. The one that it replaced is refused.",
        false => "There is nothing to decide: this person's data is the present one.",
    });
    Ok(())
}

async fn check_all(daemon: &Daemon, full: bool, json: bool) -> Result<(), Failure> {
    let mut damaged = Vec::new();
    let mut rows = 0;
    let done = check(daemon, full, |store| {
        if json {
            style::json(store);
        } else {
            if rows == 0 {
                style::note(&row("what", "whose", "how it is", "looked at"));
            }
            show(store);
        }
        rows += 1;
        if store["state"] == "damaged" {
            damaged.push(store.clone());
        }
    })
    .await?;
    if json {
        style::json(&done);
    }
    let count = |key: &str| done[key].as_u64().unwrap_or(0);
    if count("damaged") > 0 {
        return Err(damage(&damaged));
    }
    if count("unchecked") > 0 {
        return Err(Failure::new(
            Exit::Unexpected,
            "Not everything could be looked at; see above.",
        )
        .do_this("Mend what kept it from being read, then check again."));
    }
    if !json {
        let how = if full {
            "Everything is sound: each page and record is authentic."
        } else {
            "Everything is sound, as far as its structure tells. Every byte: aico store check --full"
        };
        style::note(how);
    }
    Ok(())
}

/// Asks the daemon, and hears of each thing; the last object counts them.
pub(super) async fn check(
    daemon: &Daemon,
    full: bool,
    mut told: impl FnMut(&Value),
) -> Result<Value, Failure> {
    let mut done = None;
    daemon
        .post_lines("/api/v1/stores/check", &json!({ "full": full }), |line| {
            match line["type"].as_str() {
                Some("checked") => told(&line["store"]),
                Some("done") => done = Some(line),
                _ => return Err(Problem::of(&line)),
            }
            Ok(())
        })
        .await?;
    done.ok_or_else(|| {
        Failure::new(
            Exit::NotRunning,
            "The daemon ended before everything was looked at.",
        )
        .do_this("Start AICO, then check again.")
    })
}

/// What is damaged and how to come by it again, in one failure.
fn damage(damaged: &[Value]) -> Failure {
    let mut advice: Vec<&str> = Vec::new();
    for store in damaged {
        let one = store["what_to_do"].as_str().unwrap_or_default();
        if !one.is_empty() && !advice.contains(&one) {
            advice.push(one);
        }
    }
    let mut failure = Failure::new(
        Exit::DamageFound,
        match damaged.len() {
            1 => "One thing is damaged.".to_owned(),
            count => format!("{count} things are damaged."),
        },
    );
    failure.what_to_do = Some(match advice.is_empty() {
        true => "Copy the data folder as it is, then restore a backup: aico backup list".to_owned(),
        false => advice.join("\n     "),
    });
    failure
}

/// One line of the table, and under it what is wrong.
fn show(store: &Value) {
    let text = |key: &str| store[key].as_str().unwrap_or_default();
    let looked_at = match (store["looked_at"].as_u64().unwrap_or(0), text("part")) {
        (0, _) => String::new(),
        (count, "journal" | "log") => format!("{count} records"),
        (count, _) => format!("{count} pages"),
    };
    let whose = style::harmless(text("name"));
    let line = row(kind(text("part")), &whose, text("state"), &looked_at);
    style::line(line.trim_end());
    for problem in store["problems"].as_array().into_iter().flatten() {
        let problem = sentence(problem.as_str().unwrap_or_default());
        style::line(&format!("    {}", style::harmless(&problem)));
    }
    if text("state") == "locked" && !text("what_to_do").is_empty() {
        style::line(&format!("    {}", style::harmless(text("what_to_do"))));
    }
    if text("state") != "sound" {
        style::line(&format!("    {}", style::harmless(text("path"))));
    }
}

fn row(what: &str, whose: &str, state: &str, looked_at: &str) -> String {
    format!("{what:<16} {whose:<20} {state:<10} {looked_at}")
}

fn kind(part: &str) -> &str {
    match part {
        "header" => "vault header",
        "system" => "system database",
        "log" => "log file",
        other => other,
    }
}
