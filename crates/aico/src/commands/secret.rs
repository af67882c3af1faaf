//! `aico config secret`: secrets that the configuration refers to by name.

use serde_json::json;

use super::Context;
use crate::cli::ConfigSecret;
use crate::client::Daemon;
use crate::exit::Failure;
use crate::{prompt, style};

const PATH: &str = "/api/v1/config/secrets";

pub(super) async fn run(context: &Context, what: &ConfigSecret) -> Result<(), Failure> {
    // Before anything is asked: without a daemon nothing can be kept.
    let daemon = Daemon::find(&context.places).await?;
    match what {
        ConfigSecret::Set { name } => {
            let value = prompt::secret(&format!("The secret to keep as {name} (not shown)"))?;
            let body = json!({ "name": name, "value": value.as_str() });
            daemon.post(PATH, &body).await?;
            style::note(&format!(
                "Kept. The configuration can refer to it as secret:{name}; nothing shows it again."
            ));
        }
        ConfigSecret::List { json } => list(&daemon, *json).await?,
        ConfigSecret::Remove { name } => {
            let body = json!({ "name": name });
            daemon.post(&format!("{PATH}/remove"), &body).await?;
            style::note("Removed.");
        }
    }
    Ok(())
}

async fn list(daemon: &Daemon, json: bool) -> Result<(), Failure> {
    let all = daemon.get(PATH).await?;
    if json {
        style::json(&all["items"]);
        return Ok(());
    }
    let secrets = all["items"].as_array().cloned().unwrap_or_default();
    if secrets.is_empty() {
        style::note("There is none. `aico config secret set NAME` keeps one.");
    }
    for secret in secrets {
        let text = |key: &str| secret[key].as_str().unwrap_or_default();
        let day = text("set_at").get(..10).unwrap_or_default();
        style::line(&format!(
            "{}  {}",
            style::strong(&style::harmless(text("name"))),
            style::faint(&format!("set {day}"))
        ));
    }
    Ok(())
}
