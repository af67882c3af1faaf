//! Models for texts: packages beside the chat models.

use serde_json::{Value, json};

use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::progress::size;
use crate::style;

const PACKAGES: &str = "/api/v1/models/packages";

/// Brings in a folder.
pub(super) async fn add(daemon: &Daemon, path: &str) -> Result<(), Failure> {
    let added = daemon.post(PACKAGES, &json!({ "path": path })).await?;
    style::line(&describe(&added));
    style::note("It was copied: the folder is not needed any more.");
    Ok(())
}

/// All of them.
pub(super) async fn all(daemon: &Daemon) -> Result<Value, Failure> {
    Ok(daemon.get(PACKAGES).await?["items"].take())
}

/// Removes the one of this name, which is of the list: such a name is fit for a path.
pub(super) async fn remove(daemon: &Daemon, name: &str) -> Result<(), Failure> {
    daemon.delete(&format!("{PACKAGES}/{name}")).await?;
    Ok(())
}

/// Vectors of texts, one line of JSON each.
pub(super) async fn embed(
    daemon: &Daemon,
    model: Option<&str>,
    texts: &[String],
) -> Result<(), Failure> {
    if texts.is_empty() {
        return Err(Failure::new(Exit::Usage, "There is no text."));
    }
    let body = json!({ "model": model, "texts": texts });
    let made = daemon.post("/api/v1/models/embed", &body).await?;
    for item in made["items"].as_array().into_iter().flatten() {
        style::json(&item["vector"]);
        if item["truncated"] == true {
            style::note("A text is longer than the model reads: its end was left out.");
        }
    }
    Ok(())
}

pub(super) fn describe(package: &Value) -> String {
    let field = |key: &str| style::harmless(package[key].as_str().unwrap_or_default());
    let mark = if package["chosen"] == true { "*" } else { " " };
    let bytes = package["size_bytes"].as_u64().unwrap_or(0);
    let mut line = format!(
        "{mark} {}  {}  {}",
        style::strong(&field("name")),
        style::faint(&format!(
            "for {} · {}",
            field("task"),
            field("architecture")
        )),
        size(bytes),
    );
    if package["status"] != "stopped" {
        line.push_str(&format!("  {}", field("status")));
    }
    for extra in [field("why"), field("what_to_do")] {
        if !extra.is_empty() {
            line.push_str(&format!("\n       {extra}"));
        }
    }
    line
}
