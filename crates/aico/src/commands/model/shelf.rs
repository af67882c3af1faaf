//! Models on the disk of another program, `ollama/NAME`: `aico model pull`, `create`, `show` and
//! `remove`.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::time::Duration;

use aico_characters::is_wanted;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::pull::{list_of, number, shown};
use crate::cli::{CreateModel, PullModel};
use crate::client::{Daemon, Problem};
use crate::commands::{character, checked_id, query_value};
use crate::exit::{Exit, Failure};
use crate::progress::{Progress, size};
use crate::{prompt, style};

/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(250);
/// Longest Modelfile.
const LARGEST: u64 = 2 << 20;
/// What a file of a model begins with.
const GGUF: &[u8] = b"GGUF";

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

/// Makes one by a Modelfile, of a character or of a file.
pub(super) async fn create(daemon: &Daemon, what: &CreateModel) -> Result<(), Failure> {
    let Some((engine, model)) = of(&what.name) else {
        return Err(
            Failure::new(Exit::Usage, "Say which program is to have it.")
                .do_this("Put its name before it: aico model create ollama/aria FILE"),
        );
    };
    let (text, folder) = match (&what.file, &what.character) {
        (Some(file), None) => read(file)?,
        (None, Some(name)) => {
            let id = character::find(daemon, name).await?;
            let path = format!("/api/v1/characters/{id}/export?format=modelfile");
            let made = daemon.get(&path).await?;
            let bytes = STANDARD.decode(made["file"].as_str().unwrap_or_default());
            let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text
                .ok_or_else(|| Failure::new(Exit::Unexpected, "The daemon sent no Modelfile."))?;
            (text, absolute(Path::new("."))?)
        }
        _ => {
            return Err(Failure::new(
                Exit::Usage,
                "Name a Modelfile, a GGUF file, or a character.",
            ));
        }
    };
    let text = match (&what.from, &what.character) {
        (Some(from), _) => with_from(&text, from, &absolute(Path::new("."))?),
        (None, Some(character)) => {
            let from = below(daemon, (engine, model), character).await?;
            style::note(&format!("It is made of {}.", style::harmless(&from)));
            with_model(&text, &from)
        }
        (None, None) => text,
    };
    let mut body = json!({
        "model": model, "modelfile": text, "folder": folder, "use_then": what.r#use,
    });
    let again = "Say yes beforehand with --yes.";
    if !what.yes && !agreed(daemon, engine, &body, "Make it?", again).await? {
        return Err(Failure::new(Exit::Refused, "Nothing was made."));
    }
    begin(daemon, engine, &mut body, what.detach).await
}

/// The model that a character's own is made of where nobody says: the first of those that it is made
/// for and that the program has. What a character calls a model is no name to download by.
async fn below(
    daemon: &Daemon,
    (engine, model): (&str, &str),
    name: &str,
) -> Result<String, Failure> {
    let id = character::find(daemon, name).await?;
    let path = format!("/api/v1/characters/{}", query_value(&id));
    let mut found = daemon.get(&path).await?;
    let wanted = found["text"]["models"].take();
    // One that can't be reached has not told of its models.
    let path = format!("/api/v1/engines/{}/check", query_value(engine));
    let told = daemon.post(&path, &json!({})).await?;
    if told["engine"]["status"] == "failed" {
        let exit = Exit::of_engine(told["engine"]["code"].as_str().unwrap_or_default());
        return Err(Failure {
            exit: exit.unwrap_or(Exit::Engine),
            what: format!("{engine} can't say which models it has."),
            why: told["engine"]["why"].as_str().map(str::to_owned),
            what_to_do: Some(format!("See how it is: aico engine check {engine}")),
        });
    }
    let all = daemon.get("/api/v1/models").await?;
    let there: Vec<_> = list_of(&all["items"])
        .iter()
        .filter(|one| one["engine"] == engine)
        .collect();
    if let Some(from) = first_of(list_of(&wanted), &there, (engine, model)) {
        return Ok(from.to_owned());
    }
    let name = style::harmless(name);
    let wanted: Vec<_> = list_of(&wanted).iter().map(shown).collect();
    let what = match wanted.is_empty() {
        true => format!("{name} is made for no model in particular."),
        false => format!(
            "{engine} has none of the models that {name} is made for: {}.",
            wanted.join(", ")
        ),
    };
    let there: Vec<_> = there.iter().map(|one| shown(&one["name"])).collect();
    let there = match there.is_empty() {
        true => "it has none yet".to_owned(),
        false => format!("it has {}", there.join(", ")),
    };
    Err(Failure::new(Exit::NotFound, what).do_this(format!(
        "Say which model of {engine} it is made of ({there}; another one is downloaded), or which \
         GGUF file: --from NAME"
    )))
}

/// The first of the wanted ones that is there and converses, by its name there. Not the one that is
/// being made: it may be called after what it was made of, and there from before.
fn first_of<'a>(
    wanted: &[Value],
    there: &[&'a Value],
    (engine, made): (&str, &str),
) -> Option<&'a str> {
    let may = |one: &&&Value| {
        let can = list_of(&one["capabilities"]);
        (can.is_empty() || can.iter().any(|can| can == "chat")) && !is(one["name"].as_str(), made)
    };
    let there: Vec<&Value> = there.iter().filter(may).copied().collect();
    let named = |wanted: &str| {
        let own = wanted
            .strip_prefix(engine)
            .and_then(|own| own.strip_prefix('/'));
        let own = own.unwrap_or(wanted);
        let exact = there
            .iter()
            .find(|one| one["id"] == wanted || is(one["name"].as_str(), own));
        let exact = exact.or_else(|| {
            there
                .iter()
                .find(|one| is_wanted(own, one["name"].as_str().unwrap_or_default(), ""))
        });
        exact.and_then(|one| one["name"].as_str())
    };
    wanted.iter().filter_map(Value::as_str).find_map(named)
}

/// What, how large, from where, under which licence; and whether the person wants it.
async fn agreed(
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

async fn begin(
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

fn absolute(path: &Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::new(Exit::Usage, format!("{} is no path.", path.display())).because(&error)
    })
}

/// The Modelfile and the folder that it lies in. A file of a model is one by itself.
fn read(file: &Path) -> Result<(String, std::path::PathBuf), Failure> {
    let path = absolute(file)?;
    let folder = path.parent().unwrap_or(&path).to_owned();
    let failed = |error: std::io::Error| {
        Failure::new(Exit::NotFound, format!("{} can't be read.", file.display())).because(&error)
    };
    let about = std::fs::metadata(&path).map_err(failed)?;
    if !about.is_file() {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} is no file.", file.display()),
        ));
    }
    let mut open = std::fs::File::open(&path).map_err(failed)?;
    let mut begin = Vec::new();
    open.by_ref()
        .take(4)
        .read_to_end(&mut begin)
        .map_err(failed)?;
    if begin == GGUF {
        return Ok((format!("FROM {}\n", path.display()), folder));
    }
    if about.len() > LARGEST {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} is neither a Modelfile nor a GGUF file.", file.display()),
        ));
    }
    open.read_to_end(&mut begin).map_err(failed)?;
    let text = String::from_utf8(begin).map_err(|_| {
        Failure::new(
            Exit::Refused,
            format!("{} is neither a Modelfile nor a GGUF file.", file.display()),
        )
    })?;
    Ok((text, folder))
}

/// The same, made of something else.
fn with_from(text: &str, from: &str, here: &Path) -> String {
    let file = here.join(from);
    let from = match file.is_file() {
        true => file.display().to_string(),
        false => from.to_owned(),
    };
    with_model(text, &from)
}

/// The same with this behind FROM.
fn with_model(text: &str, from: &str) -> String {
    let is_from = |line: &str| {
        let word = line.split_whitespace().next();
        word.is_some_and(|word| word.eq_ignore_ascii_case("from"))
    };
    let mut done = false;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if !done && is_from(line) {
            done = true;
            lines.push(format!("FROM {from}"));
        } else {
            lines.push(line.to_owned());
        }
    }
    if !done {
        lines.insert(0, format!("FROM {from}"));
    }
    lines.push(String::new());
    lines.join("\n")
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

    #[test]
    fn a_character_is_made_of_the_first_of_its_models_that_is_there() {
        let model =
            |name: &str, can: &[&str]| json!({"id": "7", "name": name, "capabilities": can});
        let there = [
            model("qwen3-embedding:8b", &["embeddings"]),
            model("qwen3:4b", &["chat", "tools"]),
            model("qwen3:8b-q8_0", &[]),
            model("qwen3:8b", &["chat"]),
            model("qwen3-8b-eve:latest", &["chat"]),
        ];
        let first = |wanted: &[&str], there: &[Value]| {
            let wanted: Vec<Value> = wanted.iter().map(|name| json!(name)).collect();
            let there: Vec<_> = there.iter().collect();
            first_of(&wanted, &there, ("ollama", "qwen3-8b-eve")).map(str::to_owned)
        };
        for (wanted, found) in [
            (&["Qwen3-8B", "Qwen3-4B"][..], Some("qwen3:8b-q8_0")),
            (&["qwen3:8b"][..], Some("qwen3:8b")),
            (&["ollama/qwen3:8b"][..], Some("qwen3:8b")),
            (&["Qwen3-14B", "Qwen3-4B"][..], Some("qwen3:4b")),
            (&["Qwen3"][..], Some("qwen3:4b")),
            (&["qwen3-8b-eve", "./qwen3-14b.gguf"][..], None),
            (&[][..], None),
        ] {
            assert_eq!(first(wanted, &there).as_deref(), found, "{wanted:?}");
        }
        assert_eq!(first(&["Qwen3-8B"], &there[4..]), None);
    }

    #[test]
    fn another_model_may_be_below() {
        let here = Path::new("/nowhere");
        let text = "# x\nFROM qwen3:8b\nSYSTEM \"\"\"\nFROM here\n\"\"\"\n";
        let changed = with_from(text, "tiny", here);
        assert_eq!(
            changed,
            "# x\nFROM tiny\nSYSTEM \"\"\"\nFROM here\n\"\"\"\n"
        );
        assert_eq!(
            with_from("SYSTEM x\n", "tiny", here),
            "FROM tiny\nSYSTEM x\n"
        );
    }
}
