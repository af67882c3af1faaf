//! `aico model`.

mod pull;

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
            let added = daemon
                .post("/api/v1/models", &json!({ "path": path }))
                .await?;
            style::line(&describe(&added));
            style::note(&format!(
                "Answer with it from now on: aico model use \"{}\"",
                style::harmless(added["name"].as_str().unwrap_or_default())
            ));
        }
        Model::List { json } => {
            let all = daemon.get("/api/v1/models").await?;
            if *json {
                style::line(&all.to_string());
                return Ok(());
            }
            for one in all["items"].as_array().into_iter().flatten() {
                style::line(&describe(one));
            }
            style::line(&state(&all["state"]));
        }
        Model::Use { model } => {
            let id = find(&daemon, model).await?;
            let body = json!({ "id": id });
            let path = "/api/v1/models/active";
            let now = daemon.send(http::Method::PUT, path, Some(&body)).await?;
            style::line(&state(&now));
        }
        Model::Remove { model } => {
            let id = find(&daemon, model).await?;
            daemon
                .delete(&format!("/api/v1/models/{}", checked_id(&id)?))
                .await?;
            style::note("Forgotten. Its file is where it was.");
        }
        Model::Catalogue { json } => pull::catalogue(&daemon, *json).await?,
        Model::Pull(what) => pull::run(&daemon, what).await?,
        Model::Pulls { json } => pull::list(&daemon, *json).await?,
    }
    Ok(())
}

async fn find(daemon: &Daemon, wanted: &str) -> Result<String, Failure> {
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
    if let Some(name) = field("name") {
        line.push_str(&format!(" ({})", style::harmless(name)));
    }
    for extra in [field("why"), field("what_to_do")].into_iter().flatten() {
        line.push_str(&format!("\n       {}", style::harmless(extra)));
    }
    line
}
