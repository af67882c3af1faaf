//! `aico config`.

use serde_json::json;

use super::{Context, secret};
use crate::cli::Config;
use crate::exit::Failure;
use crate::{daemon, style};

pub(super) async fn run(context: &Context, what: &Config) -> Result<(), Failure> {
    if let Config::Secret(what) = what {
        return secret::run(context, what).await;
    }
    let loaded = daemon::load_config(context, Vec::new())?;
    for warning in &loaded.warnings {
        style::warning(warning);
    }
    match what {
        Config::Show { json } => {
            let entries = loaded.explain();
            if *json {
                let all: Vec<_> = entries
                    .iter()
                    .map(|e| {
                        json!({
                            "key": e.key, "value": e.value, "source": e.source.to_string(),
                            "default": e.default, "description": e.description,
                        })
                    })
                    .collect();
                style::json(&serde_json::Value::Array(all));
                return Ok(());
            }
            let wide = entries
                .iter()
                .map(|e| e.key.len() + e.value.len())
                .max()
                .unwrap_or(0);
            for entry in &entries {
                let pad = " ".repeat(wide - entry.key.len() - entry.value.len());
                style::line(&format!(
                    "{}: {}{pad}  {}",
                    style::strong(&entry.key),
                    entry.value,
                    style::faint(&entry.source.to_string())
                ));
            }
        }
        Config::Check => style::line("The configuration is right."),
        Config::Explain { key } => {
            let entry = loaded
                .explain_key(key)
                .map_err(|e| daemon::config_failure(&e))?;
            style::line(&style::strong(&entry.key));
            style::line(entry.description);
            style::line(&format!(
                "value:   {}  {}",
                entry.value,
                style::faint(&entry.source.to_string())
            ));
            style::line(&format!("default: {}", entry.default));
            style::line(&format!("accepts: {}", entry.expects));
        }
        Config::Secret(_) => {}
    }
    Ok(())
}
