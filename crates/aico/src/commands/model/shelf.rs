//! Models on the disk of another program, `ollama/NAME`: `aico model pull`, `show` and `remove`.

use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::pull::{list_of, number, shown};
use crate::cli::PullModel;
use crate::client::{Daemon, Problem};
use crate::commands::{checked_id, query_value};
use crate::exit::{Exit, Failure};
use crate::progress::{Progress, size};
use crate::{prompt, style};

/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// Program and model of `ollama/qwen3:8b`; `None`: it is of no program.
pub(super) fn of(name: &str) -> Option<(&str, &str)> {
    name.split_once('/')
        .filter(|(engine, model)| !engine.is_empty() && !model.is_empty())
}

fn jobs(engine: &str) -> String {
    format!("/api/v1/engines/{}/jobs", query_value(engine))
}

/// Downloads one, or ends that.
pub(super) async fn pull(
    daemon: &Daemon,
    (engine, model): (&str, &str),
    what: &PullModel,
) -> Result<(), Failure> {
    if what.cancel {
        return cancel(daemon, engine, model).await;
    }
    let mut body = json!({ "model": model, "use_then": what.r#use });
    let again = format!("aico model pull {engine}/{model} --yes");
    if !what.yes && !agreed(daemon, engine, &body, "Download it?", &again).await? {
        return Err(Failure::new(Exit::Refused, "Nothing was downloaded."));
    }
    begin(daemon, engine, &mut body, what.detach).await
}

/// What, how large, from where, under which licence; and whether the person wants it.
pub(super) async fn agreed(
    daemon: &Daemon,
    engine: &str,
    body: &Value,
    question: &str,
    again: &str,
) -> Result<bool, Failure> {
    let path = format!("/api/v1/engines/{}/offers", query_value(engine));
    let offer = daemon.post(&path, body).await?;
    tell(&offer);
    let agreed = prompt::agrees(question);
    agreed.map_err(|failure| failure.do_this(format!("Say yes beforehand: {again}")))
}

fn tell(offer: &Value) {
    let line = |name: &str, text: String| style::note(&format!("{name:<9} {text}"));
    let engine = shown(&offer["engine"]);
    style::note(&style::strong(&format!(
        "{} in {engine}",
        shown(&offer["model"])
    )));
    if offer["present"] == true {
        line(
            "there",
            format!("{engine} has one of this name: it is replaced"),
        );
    }
    if let Some(download) = offer["download"].as_str() {
        let host = shown(&offer["source"]);
        line(
            "from",
            format!(
                "{host} ({}), fetched by {engine}",
                style::harmless(download)
            ),
        );
        match offer["size_bytes"].as_u64() {
            Some(bytes) => line(
                "size",
                format!("{} in all, less what {engine} has of it", size(bytes)),
            ),
            None => line("size", "not known: the server does not tell".to_owned()),
        }
        match offer["license"].as_str() {
            Some(license) => line("license", style::harmless(license)),
            None => line("license", "not known; look at the model's page".to_owned()),
        }
        line(
            "leaves",
            format!("{host} hears which model is asked for, and this network's address"),
        );
        if let Some(problem) = offer["unknown"]["title"].as_str() {
            style::warning(&style::harmless(problem));
        }
    } else {
        line("leaves", "nothing: it is made of what is here".to_owned());
    }
    match number(&offer["copied_bytes"]) {
        0 => {}
        bytes => line("copied", format!("{} of this machine's files", size(bytes))),
    }
}

/// Begins it, and shows how far it is unless nobody wants to wait.
pub(super) async fn begin(
    daemon: &Daemon,
    engine: &str,
    body: &mut Value,
    detach: bool,
) -> Result<(), Failure> {
    let begun = daemon.post(&jobs(engine), body).await?;
    if detach {
        style::note("It is on its way: aico model pulls");
        return Ok(());
    }
    let id = begun["id"].as_str().unwrap_or_default().to_owned();
    follow(daemon, engine, &id).await
}

/// Shows how far it is until it ends. It is the daemon's and goes on without us.
async fn follow(daemon: &Daemon, engine: &str, id: &str) -> Result<(), Failure> {
    let mut progress = Progress::new("Downloading");
    let mut told = String::new();
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {
                drop(progress);
                return left(daemon, engine, id).await;
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        let all = daemon.get(&jobs(engine)).await?;
        let found = list_of(&all["items"]).iter().find(|one| one["id"] == id);
        let Some(one) = found else {
            return Err(Failure::new(Exit::Refused, "It was cancelled."));
        };
        let name = format!("{engine}/{}", shown(&one["model"]));
        let status = one["status"].as_str().unwrap_or_default();
        match status {
            "done" => {
                drop(progress);
                style::line(&format!("{name} is there."));
                match one["use_then"] == true {
                    true => style::note("It answers from now on, where it can converse."),
                    false => style::note(&format!(
                        "Answer with it from now on: aico model use {name}"
                    )),
                }
                return Ok(());
            }
            "failed" => return Err(Problem::of(one)),
            "running" if number(&one["total_bytes"]) > 0 => {
                let (done, total) = (number(&one["done_bytes"]), number(&one["total_bytes"]));
                let rate = match number(&one["bytes_per_second"]) {
                    0 => String::new(),
                    rate => format!(", {}/s", size(rate)),
                };
                progress.show_with(done, total, &format!("  {}{rate}", shown(&one["step"])));
            }
            _ => progress.say(&far(one)),
        }
        if status != told && !std::io::stderr().is_terminal() {
            told = status.to_owned();
            style::note(&format!("{name}: {}", far(one)));
        }
    }
}

fn far(one: &Value) -> String {
    let (done, total) = (number(&one["done_bytes"]), number(&one["total_bytes"]));
    match one["status"].as_str().unwrap_or_default() {
        "queued" => "waits for its turn".to_owned(),
        "waiting" => format!(
            "{}; it is tried again in {} s",
            shown(&one["problem"]["title"]),
            number(&one["retry_in_seconds"])
        ),
        "done" => "there".to_owned(),
        "failed" => shown(&one["problem"]["title"]),
        _ => {
            let step = one["step"].as_str().unwrap_or("begins");
            match total {
                0 => style::harmless(step),
                _ => format!(
                    "{}, {} of {}",
                    style::harmless(step),
                    size(done),
                    size(total)
                ),
            }
        }
    }
}

/// The person does not want to wait: does it go on?
async fn left(daemon: &Daemon, engine: &str, id: &str) -> Result<(), Failure> {
    if std::io::stdin().is_terminal()
        && !prompt::agrees("Go on with it in the background? (No: end it)")?
    {
        end(daemon, engine, id).await?;
        return Err(Failure::new(Exit::Refused, "Cancelled."));
    }
    style::note("It goes on by itself: aico model pulls");
    Ok(())
}

async fn cancel(daemon: &Daemon, engine: &str, model: &str) -> Result<(), Failure> {
    let all = daemon.get(&jobs(engine)).await?;
    let found = list_of(&all["items"])
        .iter()
        .find(|one| is(one["model"].as_str(), model));
    let Some(id) = found.and_then(|one| one["id"].as_str()) else {
        return Err(Failure::new(Exit::NotFound, "There is no such download.")
            .do_this("See which there are: aico model pulls"));
    };
    end(daemon, engine, id).await?;
    style::note(&format!(
        "Cancelled. What an Ollama of AICO's own had of it is removed; another one keeps it until \
         it starts again. ({engine}/{model})"
    ));
    Ok(())
}

async fn end(daemon: &Daemon, engine: &str, id: &str) -> Result<(), Failure> {
    let path = format!("{}/{}", jobs(engine), checked_id(id)?);
    daemon.delete(&path).await.map(drop)
}

/// Those of all programs that are on their way, or ended.
pub(super) async fn all(daemon: &Daemon) -> Result<Vec<Value>, Failure> {
    let engines = daemon.get("/api/v1/engines").await?;
    let mut found = Vec::new();
    for engine in list_of(&engines["items"]) {
        if engine["kind"] == "ollama" {
            let name = engine["name"].as_str().unwrap_or_default();
            let mut all = daemon.get(&jobs(name)).await?;
            if let Some(items) = all["items"].as_array_mut() {
                found.append(items);
            }
        }
    }
    Ok(found)
}

/// One of them, in a line.
pub(super) fn line(one: &Value) -> String {
    let name = format!("{}/{}", shown(&one["engine"]), shown(&one["model"]));
    format!("{}  {}", style::strong(&name), far(one))
}

/// What is known of one that is there.
pub(super) async fn show(
    daemon: &Daemon,
    engine: &str,
    id: &str,
    as_json: bool,
) -> Result<(), Failure> {
    let path = format!(
        "/api/v1/engines/{}/models/{}",
        query_value(engine),
        checked_id(id)?
    );
    let found = daemon.get(&path).await?;
    if as_json {
        style::json(&found);
        return Ok(());
    }
    let name = format!("{engine}/{}", shown(&found["model"]));
    style::line(&style::strong(&name));
    let capabilities: Vec<_> = list_of(&found["capabilities"]).iter().map(shown).collect();
    let license = found["license"].as_str().unwrap_or_default();
    for (what, text) in [
        ("kind", shown(&found["architecture"])),
        ("built", shown(&found["quantization"])),
        (
            "context",
            format!("{} tokens", number(&found["context_length"])),
        ),
        ("good for", capabilities.join(", ")),
        (
            "license",
            style::harmless(license.lines().next().unwrap_or("not told")),
        ),
    ] {
        if !text.is_empty() {
            style::line(&format!("  {what:<9} {text}"));
        }
    }
    for (what, text) in [
        ("parameters", &found["parameters"]),
        ("system", &found["system"]),
        ("template", &found["template"]),
    ] {
        let Some(text) = text.as_str() else { continue };
        style::line(&format!("  {what}:"));
        for line in text.lines() {
            style::line(&format!("    {}", style::harmless(line)));
        }
    }
    Ok(())
}

/// Removes one that is there, with its files.
pub(super) async fn remove(
    daemon: &Daemon,
    engine: &str,
    model: &Value,
    yes: bool,
) -> Result<(), Failure> {
    let name = shown(&model["name"]);
    if !yes {
        style::note(&format!(
            "{name} is removed from {engine}'s disk ({}), for every program that uses it there.",
            size(number(&model["size_bytes"]))
        ));
        let agreed = prompt::agrees("Remove it?").map_err(|failure| {
            failure.do_this(format!(
                "Say yes beforehand: aico model remove {engine}/{name} --yes"
            ))
        })?;
        if !agreed {
            return Err(Failure::new(Exit::Refused, "Nothing was removed."));
        }
    }
    let id = model["id"].as_str().unwrap_or_default();
    let path = format!(
        "/api/v1/engines/{}/models/{}",
        query_value(engine),
        checked_id(id)?
    );
    daemon.delete(&path).await?;
    style::note(&format!("It is gone from {engine}, and its files are."));
    Ok(())
}

/// Whether a model is listed by what somebody calls it.
pub(super) fn is(listed: Option<&str>, wanted: &str) -> bool {
    listed.is_some_and(|listed| {
        listed.eq_ignore_ascii_case(wanted)
            || listed.eq_ignore_ascii_case(&format!("{wanted}:latest"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_program_has_it() {
        assert_eq!(of("ollama/qwen3:8b"), Some(("ollama", "qwen3:8b")));
        assert_eq!(of("ollama/ann/aria"), Some(("ollama", "ann/aria")));
        for none in ["qwen3-4b", "/x", "ollama/"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert!(is(Some("aria:latest"), "Aria") && !is(Some("aria:v2"), "aria"));
    }
}
