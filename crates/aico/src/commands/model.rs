//! `aico model`.

mod load;
mod package;
mod ps;
mod pull;
mod shelf;

use serde_json::{Value, json};

use super::{Context, checked_id};
use crate::cli::{Model, PasswordFrom};
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::style;

pub(super) async fn run(context: &Context, what: &Model) -> Result<(), Failure> {
    let from = PasswordFrom::default();
    let daemon = Daemon::find_as(&context.places, context.person.as_deref(), &from).await?;
    match what {
        Model::Add { file } => {
            let path = std::path::absolute(file).map_err(|error| {
                Failure::new(Exit::Usage, format!("{} is no path.", file.display())).because(&error)
            })?;
            let path = path
                .to_str()
                .ok_or_else(|| Failure::new(Exit::Refused, "The path has to be UTF-8 text."))?;
            if file.is_dir() {
                return package::add(&daemon, path).await;
            }
            let added = daemon
                .post("/api/v1/models", &json!({ "path": path }))
                .await?;
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
            let id = find(&daemon, model).await?;
            let body = json!({ "id": id });
            let path = "/api/v1/models/active";
            let now = daemon.send(http::Method::PUT, path, Some(&body)).await?;
            if *detach {
                style::line(&state(&now));
            } else {
                let name = now["name"].as_str().filter(|_| now["model"] == id);
                load::follow(&daemon, &id, name.unwrap_or(model)).await?;
            }
        }
        Model::Remove { model, yes } => {
            if let Some((engine, wanted)) = shelf::of(model) {
                let found = beside(&daemon, engine, wanted).await?;
                return shelf::remove(&daemon, engine, &found, *yes).await;
            }
            if package::remove(&daemon, model).await? {
                style::note("It is gone, and its files are.");
                return Ok(());
            }
            let id = find(&daemon, model).await?;
            daemon
                .delete(&format!("/api/v1/models/{}", checked_id(&id)?))
                .await?;
            style::note("Forgotten. Its file is where it was.");
        }
        Model::Pin { model } => {
            let id = find(&daemon, model).await?;
            let path = format!("/api/v1/models/{}/pin", checked_id(&id)?);
            daemon.send(http::Method::PUT, &path, None).await?;
            style::note("It stays in memory once it is there.");
        }
        Model::Unpin { model } => {
            let id = find(&daemon, model).await?;
            daemon
                .delete(&format!("/api/v1/models/{}/pin", checked_id(&id)?))
                .await?;
            style::note("It may be unloaded when nobody asks it, or to make room for another.");
        }
        Model::Ps { json } => ps::run(&daemon, *json).await?,
        Model::Count { text, model } => {
            let model = match model {
                Some(model) => Some(find(&daemon, model).await?),
                None => None,
            };
            let body = json!({ "model": model, "text": text });
            let counted = daemon.post("/api/v1/models/count", &body).await?;
            style::line(&counted["tokens"].to_string());
        }
        Model::Embed { texts, model } => package::embed(&daemon, model.as_deref(), texts).await?,
        Model::Catalogue { json } => pull::catalogue(&daemon, *json).await?,
        Model::Pull(what) => match shelf::of(&what.name) {
            Some(of) => shelf::pull(&daemon, of, what).await?,
            None => pull::run(&daemon, what).await?,
        },
        Model::Create(what) => shelf::create(&daemon, what).await?,
        Model::Show { model, json } => show(&daemon, model, *json).await?,
        Model::Pulls { json } => pull::list(&daemon, *json).await?,
    }
    Ok(())
}

/// What is known of a model.
async fn show(daemon: &Daemon, wanted: &str, json: bool) -> Result<(), Failure> {
    let id = find(daemon, wanted).await?;
    let all = daemon.get("/api/v1/models").await?;
    let mut items = all["items"].as_array().into_iter().flatten();
    let Some(one) = items.find(|one| one["id"] == id.as_str()) else {
        return Err(Failure::new(Exit::NotFound, "There is no such model."));
    };
    match one["engine"].as_str() {
        // What speaks Ollama's language tells more of its models.
        Some("ollama") => shelf::show(daemon, "ollama", &id, json).await,
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

/// A model of another program.
async fn beside(daemon: &Daemon, engine: &str, wanted: &str) -> Result<Value, Failure> {
    let all = daemon.get("/api/v1/models").await?;
    let mut items = all["items"].as_array().into_iter().flatten();
    items
        .find(|one| one["engine"] == engine && shelf::is(one["name"].as_str(), wanted))
        .cloned()
        .ok_or_else(|| {
            Failure::new(Exit::NotFound, "There is no such model.")
                .do_this("See which there are: aico model list")
        })
}

async fn find(daemon: &Daemon, wanted: &str) -> Result<String, Failure> {
    if let Some((engine, name)) = shelf::of(wanted) {
        let found = beside(daemon, engine, name).await?;
        return Ok(found["id"].as_str().unwrap_or_default().to_owned());
    }
    let all = daemon.get("/api/v1/models").await?;
    let mut found = all["items"].as_array().into_iter().flatten().filter(|one| {
        one["id"] == wanted
            || one["name"]
                .as_str()
                .is_some_and(|n| n.eq_ignore_ascii_case(wanted))
    });
    match (
        found.next().and_then(|one| one["id"].as_str()),
        found.next(),
    ) {
        (Some(id), None) => Ok(id.to_owned()),
        (Some(_), Some(_)) => Err(
            Failure::new(Exit::Refused, "Several models have this name.")
                .do_this("Use its id: aico model list --json"),
        ),
        (None, _) => Err(Failure::new(Exit::NotFound, "There is no such model.")
            .do_this("See which there are: aico model list")),
    }
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
    format!(
        "{mark} {}  {}  {size:.1} MB{missing}",
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
