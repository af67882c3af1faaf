//! `aico model`.

mod create;
mod find;
mod load;
mod package;
mod ps;
mod pull;
mod shelf;

use std::path::Path;

use serde_json::{Value, json};

use self::find::{Found, find};
use super::{Context, checked_id};
use crate::cli::{Model, PasswordFrom};
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::style;

pub(super) async fn run(context: &Context, what: &Model) -> Result<(), Failure> {
    let from = PasswordFrom::default();
    let daemon = Daemon::find_as(&context.places, context.person.as_deref(), &from).await?;
    match what {
        Model::Add {
            file,
            adapter,
            name,
        } => {
            if file.is_dir() && adapter.is_none() {
                return package::add(&daemon, &absolute(file)?).await;
            }
            let mut body = json!({ "path": base(&daemon, file, adapter.is_some()).await? });
            if let Some(adapter) = adapter {
                body["adapter"] = absolute(adapter)?.into();
            }
            if let Some(name) = name {
                body["name"] = name.as_str().into();
            }
            let added = daemon.post("/api/v1/models", &body).await?;
            style::line(&describe(&added));
            let can = |what: &str| {
                let mut all = added["capabilities"].as_array().into_iter().flatten();
                all.any(|one| one == what)
            };
            let purpose = match can("embeddings") && !can("chat") {
                true => "embedding",
                false => "chat",
            };
            style::note(&pull::what_for(Some(purpose), &pull::shown(&added["name"])));
        }
        Model::List { json } => {
            let mut all = daemon.get("/api/v1/models").await?;
            let packages = package::all(&daemon).await?;
            if *json {
                all["packages"] = packages;
                style::json(&all);
                return Ok(());
            }
            for one in all["items"].as_array().into_iter().flatten() {
                style::line(&describe(one));
            }
            style::line(&state(&all["state"]));
            for one in packages.as_array().into_iter().flatten() {
                style::line(&package::describe(one));
            }
        }
        Model::Use { model, detach } => {
            let found = find(&daemon, model).await?;
            let body = json!({ "id": found.id() });
            let path = "/api/v1/models/active";
            let now = daemon.send(http::Method::PUT, path, Some(&body)).await?;
            if *detach {
                style::line(&state(&now));
            } else {
                load::follow(&daemon, found.id(), found.name()).await?;
            }
        }
        Model::Remove { model, yes } => remove(&daemon, model, *yes).await?,
        Model::Pin { model } => {
            let found = find(&daemon, model).await?;
            let path = format!("/api/v1/models/{}/pin", checked_id(found.id())?);
            daemon.send(http::Method::PUT, &path, None).await?;
            style::note("It stays in memory once it is there.");
        }
        Model::Unpin { model } => {
            let found = find(&daemon, model).await?;
            daemon
                .delete(&format!("/api/v1/models/{}/pin", checked_id(found.id())?))
                .await?;
            style::note("It may be unloaded when nobody asks it, or to make room for another.");
        }
        Model::Ps { json } => ps::run(&daemon, *json).await?,
        Model::Count { text, model } => {
            let model = match model {
                Some(model) => Some(find(&daemon, model).await?),
                None => None,
            };
            let id = model.as_ref().map(Found::id);
            let body = json!({ "model": id, "text": text });
            let counted = daemon.post("/api/v1/models/count", &body).await?;
            style::line(&counted["tokens"].to_string());
        }
        Model::Embed { texts, model } => package::embed(&daemon, model.as_deref(), texts).await?,
        Model::Catalogue { json } => pull::catalogue(&daemon, *json).await?,
        Model::Pull(what) => match shelf::of(&what.name) {
            Some(of) => shelf::pull(&daemon, of, what).await?,
            None => pull::run(&daemon, what).await?,
        },
        Model::Create(what) => create::run(&daemon, what).await?,
        Model::Show { model, json } => show(&daemon, model, *json).await?,
        Model::Pulls { json } => pull::list(&daemon, *json).await?,
    }
    Ok(())
}

fn absolute(file: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(file).map_err(|error| {
        Failure::new(Exit::Usage, format!("{} is no path.", file.display())).because(&error)
    })?;
    let path = path.into_os_string().into_string();
    path.map_err(|_| Failure::new(Exit::Refused, "The path has to be UTF-8 text."))
}

/// The file that is brought in. One to put an adapter on may also be named as the list has it.
async fn base(daemon: &Daemon, file: &Path, adapted: bool) -> Result<String, Failure> {
    let name = file.to_str().filter(|_| adapted && !file.exists());
    let Some(name) = name else {
        return absolute(file);
    };
    let found = find(daemon, name).await?;
    match (found.model["engine"].as_str(), found.model["file"].as_str()) {
        (None, Some(path)) if found.model["adapter"].is_null() => Ok(path.to_owned()),
        (Some(_), _) => Err(
            Failure::new(Exit::Refused, "Another program runs this model.").do_this(
                "Put the adapter on there: aico model create ollama/NAME MODELFILE, with FROM and \
                 ADAPTER in it.",
            ),
        ),
        _ => Err(
            Failure::new(Exit::Refused, "This model has an adapter on already.")
                .do_this("Name the one without it: aico model list"),
        ),
    }
}

/// What is known of a model.
async fn show(daemon: &Daemon, wanted: &str, json: bool) -> Result<(), Failure> {
    let found = find(daemon, wanted).await?;
    let one = &found.model;
    match one["engine"].as_str() {
        // What speaks Ollama's language tells more of its models.
        Some("ollama") => shelf::show(daemon, "ollama", found.id(), json).await,
        _ if json => {
            style::json(one);
            Ok(())
        }
        _ => {
            style::line(&describe(one));
            Ok(())
        }
    }
}

/// Forgets a model, or removes one whose files are ours or another program's to delete.
async fn remove(daemon: &Daemon, wanted: &str, yes: bool) -> Result<(), Failure> {
    let all = daemon.get("/api/v1/models").await?;
    let packages = package::all(daemon).await?;
    let (models, packages) = (pull::list_of(&all["items"]), pull::list_of(&packages));
    let found = find::named_whole(&[models, packages].concat(), wanted)?;
    let engine = found.model["engine"].as_str();
    match (engine, found.model["id"].as_str()) {
        (Some(engine), _) => return shelf::remove(daemon, engine, &found.model, yes).await,
        // A model for texts has no id.
        (None, None) => {
            package::remove(daemon, found.name()).await?;
            style::note("It is gone, and its files are.");
        }
        (None, Some(id)) => {
            daemon
                .delete(&format!("/api/v1/models/{}", checked_id(id)?))
                .await?;
            style::note("Forgotten. Its file is where it was.");
        }
    }
    Ok(())
}

fn describe(model: &Value) -> String {
    let field = |key: &str| model[key].as_str().unwrap_or_default();
    let mark = if model["active"] == true { "*" } else { " " };
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let size = model["size_bytes"].as_u64().unwrap_or(0) as f64 / 1e6;
    let missing = if model["present"] == false {
        "  (its file is missing)"
    } else {
        ""
    };
    let adapter = model["adapter"].as_str().map(Path::new);
    let adapter = match adapter.and_then(Path::file_name) {
        Some(file) => format!("  with {}", style::harmless(&file.to_string_lossy())),
        None => String::new(),
    };
    format!(
        "{mark} {}  {}  {size:.1} MB{adapter}{missing}",
        style::strong(&style::harmless(field("name"))),
        style::faint(&format!(
            "{} {}",
            field("architecture"),
            field("quantization")
        )),
    )
}

pub(super) fn state(state: &Value) -> String {
    let field = |key: &str| state[key].as_str();
    let mut line = format!("model: {}", field("status").unwrap_or("unknown"));
    if let Some(percent) = state["loading_percent"].as_u64() {
        line.push_str(&format!(" {percent} %"));
    }
    if let Some(name) = field("name") {
        line.push_str(&format!(" ({})", style::harmless(name)));
    }
    for extra in [field("why"), field("what_to_do")].into_iter().flatten() {
        line.push_str(&format!("\n       {}", style::harmless(extra)));
    }
    line
}
