//! `aico model catalogue`, `pull` and `pulls`.

use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::shelf;
use crate::cli::PullModel;
use crate::client::{Daemon, Problem};
use crate::exit::{Exit, Failure};
use crate::progress::{Progress, size};
use crate::{prompt, style};

const PULLS: &str = "/api/v1/models/pulls";
/// How often it is asked how far a download is.
const LOOK: Duration = Duration::from_millis(250);

/// The catalogue, for people or as JSON.
pub(super) async fn catalogue(daemon: &Daemon, as_json: bool) -> Result<(), Failure> {
    let all = daemon.get("/api/v1/models/catalogue").await?;
    if as_json {
        style::json(&all);
        return Ok(());
    }
    let items = list_of(&all["items"]);
    for one in items {
        style::line(&entry(one));
        style::line(&format!("    {}", shown(&one["summary"])));
    }
    style::note(&machine(&all));
    match items.iter().find(|one| one["recommended"] == true) {
        Some(best) if best["model"].is_null() => style::note(&format!(
            "Suits this machine best: aico model pull {}",
            shown(&best["name"])
        )),
        _ => {}
    }
    Ok(())
}

fn machine(all: &Value) -> String {
    let mut line = format!("The catalogue is of {}.", shown(&all["date"]));
    if let Some(file) = all["file"].as_str() {
        line = format!(
            "The catalogue is {} of {}.",
            style::harmless(file),
            shown(&all["date"])
        );
    }
    if let Some(memory) = all["memory_bytes"].as_u64() {
        line.push_str(&format!(
            " This machine has {} of memory, {} of them free, and {} cores.",
            size(memory),
            size(number(&all["available_bytes"])),
            number(&all["cores"])
        ));
    }
    if let Some(mirror) = all["mirror"].as_str() {
        line.push_str(&format!(
            " Files come from the mirror {}.",
            style::harmless(mirror)
        ));
    }
    line
}

fn entry(one: &Value) -> String {
    let mark = if one["recommended"] == true { "*" } else { " " };
    let mut notes = vec![
        shown(&one["quantization"]),
        size(number(&one["size_bytes"])),
        format!("needs {} of memory", size(number(&one["memory_bytes"]))),
        shown(&one["license"]),
    ];
    if one["purpose"] != "chat" {
        notes.push(format!("for {}", shown(&one["purpose"])));
    }
    notes.extend(here(one));
    format!(
        "{mark} {}  {}",
        style::strong(&shown(&one["name"])),
        style::faint(&notes.join(" · "))
    )
}

/// What of it is here, and whether it can run.
fn here(one: &Value) -> Option<String> {
    let partial = number(&one["partial_bytes"]);
    if one["present"] == true {
        return Some("here already".to_owned());
    }
    if partial > 0 {
        let percent = (partial * 100)
            .checked_div(number(&one["size_bytes"]))
            .unwrap_or(0);
        return Some(format!("{percent} % downloaded"));
    }
    match one["fit"].as_str() {
        Some("tight") => Some("fits when other programs are closed".to_owned()),
        Some("too-large") => Some("too large for this machine".to_owned()),
        _ => None,
    }
}

/// Downloads: how far they are.
pub(super) async fn list(daemon: &Daemon, as_json: bool) -> Result<(), Failure> {
    let mut all = daemon.get(PULLS).await?;
    let others = shelf::all(daemon).await?;
    if as_json {
        all["engines"] = Value::Array(others);
        style::json(&all);
        return Ok(());
    }
    let own = list_of(&all["items"]).iter().map(|one| {
        let line = format!("{}  {}", style::strong(&shown(&one["name"])), far(one));
        (line, one)
    });
    let items: Vec<_> = own
        .chain(others.iter().map(|one| (shelf::line(one), one)))
        .collect();
    for (line, one) in &items {
        style::line(line);
        if let Some(problem) = one["problem"].as_object() {
            for key in ["detail", "what_to_do"] {
                if let Some(text) = problem.get(key).and_then(Value::as_str) {
                    style::line(&format!("    {}", style::harmless(text)));
                }
            }
        }
    }
    if items.is_empty() {
        style::note("Nothing is being downloaded.");
    }
    Ok(())
}

fn far(one: &Value) -> String {
    let (done, total) = (number(&one["done_bytes"]), number(&one["total_bytes"]));
    let of = format!("{} of {}", size(done), size(total));
    let percent = (done * 100).checked_div(total).unwrap_or(0);
    match one["status"].as_str().unwrap_or_default() {
        "queued" => "waits for its turn".to_owned(),
        "checking" => format!("looks at what is here, {percent} %"),
        "verifying" => format!("everything is here; checking it, {percent} %"),
        "waiting" => format!(
            "{of}; {}, tried again in {} s",
            lower(&shown(&one["problem"]["title"])),
            number(&one["retry_in_seconds"])
        ),
        "done" => format!("done, {}", size(total)),
        "failed" => format!("failed: {}", shown(&one["problem"]["title"])),
        _ => format!("{percent} %, {of}{}", pace(one)),
    }
}

/// Rate and time that is left, where they are known.
fn pace(one: &Value) -> String {
    let rate = number(&one["bytes_per_second"]);
    if rate == 0 {
        return String::new();
    }
    let left = one["seconds_left"].as_u64().map(time).unwrap_or_default();
    format!(", {}/s{left}", size(rate))
}

fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!(", {seconds} s left"),
        60..5400 => format!(", {} min left", seconds.div_ceil(60)),
        _ => format!(", {} h {} min left", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Downloads a model, or ends that.
pub(super) async fn run(daemon: &Daemon, what: &PullModel) -> Result<(), Failure> {
    if what.cancel {
        daemon
            .delete(&format!("{PULLS}/{}", segment(&what.name)?))
            .await?;
        style::note("Cancelled. What was downloaded of it is removed.");
        return Ok(());
    }
    if let Got::Damaged(_) = fetch(daemon, what).await? {
        // Now the daemon knows that this takes a download, which is told and asked about.
        style::warning("the file that is here is not the one of the catalogue");
        if let Got::Damaged(failure) = fetch(daemon, what).await? {
            return Err(failure);
        }
    }
    Ok(())
}

/// What came of asking for a model.
enum Got {
    /// All that was asked for.
    Done,
    /// Its file looked whole and is not; nothing was downloaded.
    Damaged(Failure),
}

async fn fetch(daemon: &Daemon, what: &PullModel) -> Result<Got, Failure> {
    let all = daemon.get("/api/v1/models/catalogue").await?;
    let items = list_of(&all["items"]);
    let Some(one) = items.iter().find(|one| one["name"] == what.name.as_str()) else {
        return Err(
            Failure::new(Exit::NotFound, "The catalogue has no such model.")
                .do_this("See what it has: aico model catalogue"),
        );
    };
    if what.r#use && one["purpose"] != "chat" {
        return Err(
            Failure::new(Exit::Refused, "This model holds no conversation.").do_this(format!(
                "Get it without --use: aico model pull {}",
                what.name
            )),
        );
    }
    let here = one["present"] == true;
    if here {
        style::note("Its file is here already: nothing is downloaded.");
    } else if !what.yes {
        tell(one, &all);
        if !prompt::agrees("Download it?").map_err(|failure| {
            failure.do_this(format!(
                "Say yes beforehand: aico model pull {} --yes",
                what.name
            ))
        })? {
            return Err(Failure::new(Exit::Refused, "Nothing was downloaded."));
        }
    }
    let body = json!({ "name": what.name, "use_then": what.r#use });
    daemon.post(PULLS, &body).await?;
    if what.detach {
        style::note("It is on its way: aico model pulls");
        return Ok(Got::Done);
    }
    match follow(daemon, &what.name).await {
        Ok(Some(pull)) => finished(one, &pull),
        Ok(None) => {}
        Err(failure) if here && failure.exit == Exit::ModelFailed => {
            return Ok(Got::Damaged(failure));
        }
        Err(failure) if failure.exit == Exit::Offline => {
            tell_what_is_here(daemon).await;
            return Err(failure);
        }
        Err(failure) => return Err(failure),
    }
    Ok(Got::Done)
}

/// What, how large, from where, under which licence: before anything is asked of any server.
fn tell(one: &Value, all: &Value) {
    let line = |name: &str, text: String| style::note(&format!("{name:<9} {text}"));
    style::note(&style::strong(&shown(&one["title"])));
    style::note(&shown(&one["summary"]));
    let left = number(&one["size_bytes"]).saturating_sub(number(&one["partial_bytes"]));
    let total = size(number(&one["size_bytes"]));
    if left < number(&one["size_bytes"]) {
        line(
            "size",
            format!("{total}, {} of it still to come", size(left)),
        );
    } else {
        line("size", total);
    }
    match all["mirror"].as_str() {
        Some(mirror) => line("from", format!("the mirror {}", style::harmless(mirror))),
        None => {
            for source in list_of(&one["sources"]) {
                line("from", shown(source));
            }
        }
    }
    line(
        "license",
        format!("{}, {}", shown(&one["license"]), shown(&one["license_url"])),
    );
    let mut memory = format!("needs {}", size(number(&one["memory_bytes"])));
    if let Some(available) = all["available_bytes"].as_u64() {
        memory.push_str(&format!(", {} are free now", size(available)));
    }
    line("memory", memory);
    match one["fit"].as_str() {
        Some("tight") => style::warning("it runs only when other programs are closed"),
        Some("too-large") => style::warning("this machine has too little memory to run it"),
        _ => {}
    }
}

/// Shows how far a download is until it ends, and hands it out then. It is the daemon's and goes
/// on without us.
async fn follow(daemon: &Daemon, name: &str) -> Result<Option<Value>, Failure> {
    let mut progress = Progress::new("Downloading");
    let mut told = String::new();
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {
                drop(progress);
                left(daemon, name).await?;
                return Ok(None);
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        let all = daemon.get(PULLS).await?;
        let Some(one) = list_of(&all["items"])
            .iter()
            .find(|one| one["name"] == name)
        else {
            return Err(Failure::new(Exit::Refused, "The download was cancelled."));
        };
        let status = one["status"].as_str().unwrap_or_default();
        match status {
            "done" => return Ok(Some(one.clone())),
            "failed" => return Err(Problem::of(one)),
            "running" => {
                let (done, total) = (number(&one["done_bytes"]), number(&one["total_bytes"]));
                progress.show_with(done, total, &pace(one));
            }
            _ => progress.say(&far(one)),
        }
        // Where nobody looks at a bar, each new state is a line.
        if status != told && !std::io::stderr().is_terminal() {
            told = status.to_owned();
            style::note(&format!("{name}: {}", far(one)));
        }
    }
}

/// `entry` is of the catalogue.
fn finished(entry: &Value, pull: &Value) {
    let name = shown(&entry["name"]);
    style::line(&format!(
        "{name} is here ({}), and what its hash says.",
        size(number(&pull["total_bytes"]))
    ));
    style::note(&match entry["purpose"].as_str() {
        Some("chat") if pull["use_then"] == true => "It answers from now on.".to_owned(),
        purpose => what_for(purpose, &name),
    });
}

/// What a model that is here now can be asked for.
pub(super) fn what_for(purpose: Option<&str>, name: &str) -> String {
    let name = match segment(name) {
        Ok(plain) => plain.to_owned(),
        Err(_) => format!("\"{name}\""),
    };
    match purpose {
        Some("chat") => format!("Answer with it from now on: aico model use {name}"),
        Some("embedding") => format!(
            "It does not converse, it turns texts into vectors: aico model embed --model {name} TEXT"
        ),
        _ => "It does not converse; it waits for what uses it.".to_owned(),
    }
}

/// The person does not want to wait: does the download go on?
async fn left(daemon: &Daemon, name: &str) -> Result<(), Failure> {
    if std::io::stdin().is_terminal()
        && !prompt::agrees("Go on with it in the background? (No: keep nothing of it)")?
    {
        daemon
            .delete(&format!("{PULLS}/{}", segment(name)?))
            .await?;
        return Err(Failure::new(
            Exit::Refused,
            "Cancelled. Nothing of it is kept.",
        ));
    }
    style::note(&format!(
        "It goes on by itself: aico model pulls. To end it: aico model pull --cancel {name}"
    ));
    Ok(())
}

/// For somebody without a connection: what can be used all the same.
async fn tell_what_is_here(daemon: &Daemon) {
    let Ok(all) = daemon.get("/api/v1/models").await else {
        return;
    };
    style::note("These models are here and need no connection:");
    for one in list_of(&all["items"]) {
        if one["present"] == true {
            style::note(&super::describe(one));
        }
    }
}

fn segment(name: &str) -> Result<&str, Failure> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if !name.is_empty() && name.bytes().all(fine) {
        return Ok(name);
    }
    Err(Failure::new(Exit::NotFound, "There is no such download.")
        .do_this("See which there are: aico model pulls"))
}

pub(super) fn list_of(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

pub(super) fn shown(value: &Value) -> String {
    style::harmless(value.as_str().unwrap_or_default())
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_fits_in_a_line() {
        let running = json!({
            "status": "running", "done_bytes": 500_000_000_u64, "total_bytes": 2_000_000_000_u64,
            "bytes_per_second": 10_000_000, "seconds_left": 150
        });
        assert_eq!(
            far(&running),
            "25 %, 500.0 MB of 2.0 GB, 10.0 MB/s, 3 min left"
        );
        let waiting = json!({
            "status": "waiting", "done_bytes": 1000, "total_bytes": 2000, "retry_in_seconds": 4,
            "problem": {"title": "The server can't be reached"}
        });
        assert_eq!(
            far(&waiting),
            "1.0 kB of 2.0 kB; the server can't be reached, tried again in 4 s"
        );
        assert_eq!(time(7300), ", 2 h 1 min left");
    }

    #[test]
    fn what_does_not_converse_is_not_advised_to_be_used_for_that() {
        let told = |purpose| what_for(Some(purpose), "tiny");
        assert!(told("chat").ends_with("aico model use tiny"));
        assert!(told("embedding").ends_with("aico model embed --model tiny TEXT"));
        assert!(!told("entities").contains("aico model"));
        assert!(what_for(Some("chat"), "My own").ends_with("\"My own\""));
    }

    #[test]
    fn names_are_one_segment_of_a_path() {
        assert!(segment("qwen3-0.6b").is_ok());
        for bad in ["", "a/b", "a?b", "ä", "a b"] {
            assert!(segment(bad).is_err(), "{bad}");
        }
    }
}
