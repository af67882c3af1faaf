//! `aico model create`: a model in another program, by a Modelfile, of a GGUF file or of a character.

use std::io::Read as _;
use std::path::Path;

use aico_characters::is_wanted;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::pull::{list_of, shown};
use super::shelf;
use crate::cli::CreateModel;
use crate::client::Daemon;
use crate::commands::{character, query_value};
use crate::exit::{Exit, Failure};
use crate::style;

/// Longest Modelfile.
const LARGEST: u64 = 2 << 20;
/// What a file of a model begins with.
const GGUF: &[u8] = b"GGUF";

/// Makes one by a Modelfile, of a character or of a file.
pub(super) async fn run(daemon: &Daemon, what: &CreateModel) -> Result<(), Failure> {
    let Some((engine, model)) = shelf::of(&what.name) else {
        return Err(
            Failure::new(Exit::Usage, "Say which program is to have it.")
                .do_this("Put its name before it: aico model create ollama/aria FILE"),
        );
    };
    let (text, folder) = match (&what.file, &what.character) {
        (Some(file), None) => {
            let (text, folder) = read(file)?;
            let text = match &what.from {
                Some(from) => with_from(&text, from, &absolute(Path::new("."))?),
                None => text,
            };
            (text, folder)
        }
        (None, Some(name)) => {
            let here = absolute(Path::new("."))?;
            let id = character::find(daemon, name).await?;
            let text = modelfile_of(daemon, &id).await?;
            let text = match &what.from {
                Some(from) => with_from(&text, from, &here),
                None => {
                    let from = below(daemon, (engine, model), (&id, name)).await?;
                    style::note(&format!("It is made of {}.", style::harmless(&from)));
                    with_model(&text, &from)
                }
            };
            (text, here)
        }
        _ => {
            return Err(Failure::new(
                Exit::Usage,
                "Name a Modelfile, a GGUF file, or a character.",
            ));
        }
    };
    let mut body = json!({
        "model": model, "modelfile": text, "folder": folder, "use_then": what.r#use,
    });
    let again = "Say yes beforehand with --yes.";
    if !what.yes && !shelf::agreed(daemon, engine, &body, "Make it?", again).await? {
        return Err(Failure::new(Exit::Refused, "Nothing was made."));
    }
    shelf::begin(daemon, engine, &mut body, what.detach).await
}

/// The Modelfile that a character becomes.
async fn modelfile_of(daemon: &Daemon, id: &str) -> Result<String, Failure> {
    let path = format!("/api/v1/characters/{id}/export?format=modelfile");
    let made = daemon.get(&path).await?;
    let bytes = STANDARD.decode(made["file"].as_str().unwrap_or_default());
    let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Failure::new(Exit::Unexpected, "The daemon sent no Modelfile."))
}

/// The model that a character's own is made of where nobody says: the first of those that it is made
/// for and that the program has. What a character calls a model is no name to download by.
async fn below(
    daemon: &Daemon,
    (engine, model): (&str, &str),
    (id, name): (&str, &str),
) -> Result<String, Failure> {
    let path = format!("/api/v1/characters/{}", query_value(id));
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
        (can.is_empty() || can.iter().any(|can| can == "chat"))
            && !shelf::is(one["name"].as_str(), made)
    };
    let there: Vec<&Value> = there.iter().filter(may).copied().collect();
    let named = |wanted: &str| {
        let own = wanted
            .strip_prefix(engine)
            .and_then(|own| own.strip_prefix('/'));
        let own = own.unwrap_or(wanted);
        let exact = there
            .iter()
            .find(|one| one["id"] == wanted || shelf::is(one["name"].as_str(), own));
        let exact = exact.or_else(|| {
            there
                .iter()
                .find(|one| is_wanted(own, one["name"].as_str().unwrap_or_default(), ""))
        });
        exact.and_then(|one| one["name"].as_str())
    };
    wanted.iter().filter_map(Value::as_str).find_map(named)
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
