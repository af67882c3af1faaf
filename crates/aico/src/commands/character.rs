//! `aico character`: whom one talks to.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Context, checked_id, query_value};
use crate::cli::{Character, CharacterFormat};
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::{prompt, style};

const PATH: &str = "/api/v1/characters";

pub(super) async fn run(context: &Context, what: &Character) -> Result<(), Failure> {
    let from = what.password();
    let file = match what {
        Character::Import { file, .. } | Character::Edit { file, .. } => Some(file),
        Character::Create { file, .. } => file.as_ref(),
        _ => None,
    };
    prompt::one_of_both(file.is_some_and(|file| file.as_os_str() == "-"), from)?;
    // Files are read before anything is asked.
    let input = file.map(|file| read(file)).transpose()?;
    let daemon = Daemon::find_as(&context.places, context.person.as_deref(), from).await?;
    match what {
        Character::List { json, .. } => list(&daemon, *json).await,
        Character::Show { name, json, .. } => show(&daemon, name, *json).await,
        Character::Import { file, name, .. } => {
            import(&daemon, file, name.as_deref(), &input.unwrap_or_default()).await
        }
        Character::Export {
            name,
            format,
            out,
            force,
            ..
        } => export(&daemon, name, *format, out.as_deref(), *force).await,
        Character::Use {
            name, conversation, ..
        } => choose(&daemon, name, conversation.as_deref()).await,
        Character::Create { name, copy, .. } => create(&daemon, name, copy.as_deref(), input).await,
        Character::Edit { name, .. } => edit(&daemon, name, &input.unwrap_or_default()).await,
        Character::Remove { name, .. } => remove(&daemon, name).await,
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    /// What the daemon takes, and a byte: more is not read to be refused.
    const MOST: u64 = aico_characters::LARGEST_FILE as u64 + 1;
    let failed = |error: std::io::Error| {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Refused,
        };
        Failure::new(exit, format!("{} can't be read.", file.display())).because(&error)
    };
    let mut bytes = Vec::new();
    let opened: Box<dyn std::io::Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(file).map_err(failed)?),
    };
    std::io::Read::read_to_end(&mut std::io::Read::take(opened, MOST), &mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 == MOST {
        return Err(Failure::new(Exit::Refused, "The file is too large.")
            .do_this("A character has at most 8 MiB."));
    }
    Ok(bytes)
}

async fn list(daemon: &Daemon, as_json: bool) -> Result<(), Failure> {
    let all = daemon.get(PATH).await?;
    if as_json {
        style::json(&all["items"]);
        return Ok(());
    }
    for one in all["items"].as_array().into_iter().flatten() {
        let mark = if one["chosen"] == true { "*" } else { " " };
        style::line(&format!(
            "{mark} {}  {}",
            style::strong(&style::harmless(text(&one["name"]))),
            style::faint(&style::harmless(text(&one["description"]))),
        ));
    }
    Ok(())
}

/// The id of the character of this name, or with this id.
pub(super) async fn find(daemon: &Daemon, wanted: &str) -> Result<String, Failure> {
    let all = daemon.get(PATH).await?;
    let named = |one: &&Value| {
        one["id"] == wanted || text(&one["name"]).to_lowercase() == wanted.to_lowercase()
    };
    let mut found = all["items"].as_array().into_iter().flatten().filter(named);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(text(&one["id"]).to_owned()),
        (Some(_), Some(_)) => Err(Failure::new(
            Exit::Refused,
            "Several characters have this name.",
        )
        .do_this("Use its id: aico character list --json")),
        (None, _) => Err(Failure::new(Exit::NotFound, "There is no such character.")
            .do_this("See which there are: aico character list")),
    }
}

async fn show(daemon: &Daemon, name: &str, as_json: bool) -> Result<(), Failure> {
    let id = find(daemon, name).await?;
    let found = daemon.get(&format!("{PATH}/{id}")).await?;
    if as_json {
        style::json(&found);
        return Ok(());
    }
    let (about, texts) = (&found["character"], &found["text"]);
    style::line(&style::strong(&style::harmless(text(&about["name"]))));
    let block = |label: &str, words: &str| {
        if !words.trim().is_empty() {
            style::line(&format!(
                "\n{}\n{}",
                style::faint(label),
                style::harmless(words.trim())
            ));
        }
    };
    block("for you", text(&texts["about"]));
    block("system prompt", text(&texts["system_prompt"]));
    block("description", text(&texts["description"]));
    block("personality", text(&texts["personality"]));
    block("scenario", text(&texts["scenario"]));
    for greeting in texts["greetings"].as_array().into_iter().flatten() {
        block("greeting", text(greeting));
    }
    block("examples", text(&texts["examples_text"]));
    block("reminder", text(&texts["reminder"]));
    let sampling: Vec<String> = texts["sampling"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null() && value.as_array().is_none_or(|all| !all.is_empty()))
        .map(|(name, value)| format!("{name} {}", number(value)))
        .collect();
    block("sampling", &sampling.join(", "));
    block("license", text(&texts["license"]));
    let kept: Vec<_> = found["kept"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    block("kept for export", &kept.join("\n"));
    if found["models"]
        .as_array()
        .is_some_and(|all| !all.is_empty())
    {
        style::line(&format!("\n{}", style::faint("models, the best first")));
        models(&found["models"], |line| style::line(&line));
    }
    Ok(())
}

/// As a person would write it: an f32 that went through JSON has digits nobody typed.
fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() => {
            #[expect(clippy::cast_possible_truncation, reason = "it was one before")]
            let short = number as f32;
            short.to_string()
        }
        _ => value.to_string(),
    }
}

/// How the models of a character are here, and how to get those that are not.
fn models(all: &Value, mut tell: impl FnMut(String)) {
    for one in all.as_array().into_iter().flatten() {
        let name = style::harmless(text(&one["name"]));
        tell(match text(&one["state"]) {
            "here" => format!(
                "  {name}: here, as {}",
                style::harmless(text(&one["here_as"]))
            ),
            "file-gone" => format!("  {name}: its file is gone"),
            _ => format!("  {name}: not here"),
        });
        if let Some(advice) = one["what_to_do"].as_str() {
            tell(format!("    {}", style::harmless(advice)));
        }
    }
}

async fn import(
    daemon: &Daemon,
    file: &Path,
    name: Option<&str>,
    bytes: &[u8],
) -> Result<(), Failure> {
    let file_name = file.file_name().map(|name| name.to_string_lossy());
    let body = json!({
        "file": STANDARD.encode(bytes),
        "file_name": file_name.unwrap_or_default(),
        "name": name.unwrap_or_default(),
    });
    let made = daemon.post(&format!("{PATH}/import"), &body).await?;
    let name = style::harmless(text(&made["character"]["name"]));
    style::line(&format!(
        "{}  {}",
        style::strong(&name),
        text(&made["character"]["id"])
    ));
    for note in made["notes"].as_array().into_iter().flatten() {
        style::note(&style::harmless(text(note)));
    }
    let wanted = made["models"].as_array().cloned().unwrap_or_default();
    let here = wanted.iter().position(|one| one["state"] == "here");
    if !wanted.is_empty() && here != Some(0) {
        style::note("It is made for models that are not all here:");
        models(&made["models"], |line| style::note(&line));
        style::note(match here {
            Some(_) => "Until then the next of them answers.",
            None => "Until then the model answers that is chosen for everybody.",
        });
    }
    style::note(&format!(
        "Talk with it from now on: aico character use \"{name}\""
    ));
    Ok(())
}

async fn export(
    daemon: &Daemon,
    name: &str,
    format: CharacterFormat,
    out: Option<&Path>,
    force: bool,
) -> Result<(), Failure> {
    let id = find(daemon, name).await?;
    let format = query_value(format.as_str());
    let made = daemon
        .get(&format!("{PATH}/{id}/export?format={format}"))
        .await?;
    let bytes = STANDARD.decode(text(&made["file"])).map_err(|error| {
        Failure::new(Exit::Unexpected, "The daemon sent no file.").because(&error)
    })?;
    if out.is_some_and(|out| out.as_os_str() == "-") {
        style::bytes(&bytes);
    } else {
        // What the daemon calls it is a name, and no path.
        let named = PathBuf::from(text(&made["file_name"]));
        let named = PathBuf::from(named.file_name().unwrap_or("character".as_ref()));
        let path = out.map_or(named, Path::to_owned);
        write(&path, &bytes, force)?;
        style::line(&path.display().to_string());
    }
    for note in made["notes"].as_array().into_iter().flatten() {
        style::note(&style::harmless(text(note)));
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8], force: bool) -> Result<(), Failure> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::new(
            Exit::Refused,
            format!("{} is there already.", path.display()),
        )
        .do_this("Name another file with --out, or overwrite it with --force."),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Failure::new(
            Exit::StorageFull,
            format!("{} can't be written.", path.display()),
        )
        .because(&error),
        _ => Failure::new(
            match aico_vault::fs::disk_failed(&error) {
                true => Exit::StorageFailing,
                false => Exit::Refused,
            },
            format!("{} can't be written.", path.display()),
        )
        .because(&error),
    })
}

async fn choose(daemon: &Daemon, name: &str, conversation: Option<&str>) -> Result<(), Failure> {
    let id = find(daemon, name).await?;
    match conversation {
        Some(conversation) => {
            let path = format!("/api/v1/conversations/{}", checked_id(conversation)?);
            let body = json!({ "character": id });
            daemon.send(http::Method::PATCH, &path, Some(&body)).await?;
            style::note("It answers in this conversation from now on.");
        }
        None => {
            let body = json!({ "id": id });
            let path = format!("{PATH}/chosen");
            daemon.send(http::Method::PUT, &path, Some(&body)).await?;
            style::note(
                "New conversations are with this character. Earlier ones stay with theirs.",
            );
        }
    }
    let found = daemon.get(&format!("{PATH}/{id}")).await?;
    let wanted = found["models"].as_array().cloned().unwrap_or_default();
    if wanted.first().is_some_and(|first| first["state"] != "here") {
        models(&found["models"], |line| style::note(&line));
    }
    Ok(())
}

async fn create(
    daemon: &Daemon,
    name: &str,
    copy: Option<&str>,
    text_file: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let mut texts = json!({});
    let mut copy_of = Value::Null;
    if let Some(copy) = copy {
        let id = find(daemon, copy).await?;
        texts = daemon.get(&format!("{PATH}/{id}")).await?["text"].take();
        copy_of = id.into();
    }
    if let Some(bytes) = text_file {
        merge(&mut texts, &bytes)?;
    }
    texts["name"] = name.into();
    let body = json!({ "text": texts, "copy_of": copy_of });
    let made = daemon.post(PATH, &body).await?;
    style::line(&format!(
        "{}  {}",
        style::harmless(text(&made["name"])),
        text(&made["id"])
    ));
    Ok(())
}

async fn edit(daemon: &Daemon, name: &str, file: &[u8]) -> Result<(), Failure> {
    let id = find(daemon, name).await?;
    let path = format!("{PATH}/{id}");
    let mut texts = daemon.get(&path).await?["text"].take();
    merge(&mut texts, file)?;
    let body = json!({ "text": texts });
    daemon.send(http::Method::PUT, &path, Some(&body)).await?;
    style::note("Changed. It counts for what is said from now on.");
    Ok(())
}

/// Puts the fields of a JSON file over those that are there; of `sampling`, each value by itself.
fn merge(texts: &mut Value, bytes: &[u8]) -> Result<(), Failure> {
    let read: Value = serde_json::from_slice(bytes).map_err(|error| {
        Failure::new(Exit::Refused, "The text of the character is no JSON.")
            .because(&error)
            .do_this("It looks like {\"system_prompt\": \"…\"}; see docs/characters.md.")
    })?;
    let Value::Object(fields) = read else {
        return Err(Failure::new(
            Exit::Refused,
            "The text of the character is no JSON object.",
        ));
    };
    // Examples as turns and as text are one thing: where one is given, the other is not the old one.
    if fields.contains_key("examples_text") && !fields.contains_key("examples") {
        texts["examples"] = json!([]);
    } else if fields.contains_key("examples") {
        texts["examples_text"] = json!("");
    }
    for (field, value) in fields {
        match (&mut texts[&field], value) {
            (Value::Object(there), Value::Object(given)) => there.extend(given),
            (there, value) => *there = value,
        }
    }
    Ok(())
}

async fn remove(daemon: &Daemon, name: &str) -> Result<(), Failure> {
    let id = find(daemon, name).await?;
    let gone = daemon.delete(&format!("{PATH}/{id}")).await?;
    style::note(
        match gone["conversations"].as_u64() {
            None | Some(0) => "Removed.".to_owned(),
            Some(1) => "Removed. One conversation goes on with Aico.".to_owned(),
            Some(count) => format!("Removed. {count} conversations go on with Aico."),
        }
        .as_str(),
    );
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_does_not_name_stays() {
        let mut texts = json!({
            "about": "Calm.", "system_prompt": "Be brief.",
            "sampling": {"temperature": 0.6, "seed": 7, "top_k": 20, "stop": ["END "]},
        });
        let changes = br#"{"about": "Quick.", "sampling": {"temperature": 0.8, "seed": null}}"#;
        assert!(merge(&mut texts, changes).is_ok());
        let expected = json!({
            "about": "Quick.", "system_prompt": "Be brief.",
            "sampling": {"temperature": 0.8, "seed": null, "top_k": 20, "stop": ["END "]},
        });
        assert_eq!(texts, expected);
        // A new one has nothing to keep.
        let mut texts = json!({});
        assert!(merge(&mut texts, br#"{"sampling": {"top_p": 0.9}}"#).is_ok());
        assert_eq!(texts, json!({"sampling": {"top_p": 0.9}}));
    }
}
