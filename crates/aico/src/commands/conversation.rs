//! `aico conversation`.

use serde_json::Value;

use super::{Context, checked_id, query_value};
use crate::cli::{Conversation, PasswordFrom};
use crate::client::Daemon;
use crate::exit::Failure;
use crate::style;

pub(super) async fn run(context: &Context, what: &Conversation) -> Result<(), Failure> {
    let from = PasswordFrom::default();
    let daemon = Daemon::find_as(&context.places, context.person.as_deref(), &from).await?;
    match what {
        Conversation::List { json } => {
            let mut before = String::new();
            let mut all = Vec::new();
            loop {
                let page = daemon
                    .get(&format!("/api/v1/conversations?limit=200{before}"))
                    .await?;
                all.extend(page["items"].as_array().cloned().unwrap_or_default());
                match page["next"].as_str() {
                    Some(next) => before = format!("&before={}", query_value(next)),
                    None => break,
                }
            }
            if *json {
                style::json(&Value::Array(all));
                return Ok(());
            }
            for one in &all {
                let title = one["title"]
                    .as_str()
                    .filter(|t| !t.is_empty())
                    .unwrap_or("(new)");
                style::line(&format!("{}  {}", text(&one["id"]), style::harmless(title)));
            }
        }
        Conversation::Show { id, json } => {
            let found = daemon
                .get(&format!("/api/v1/conversations/{}", checked_id(id)?))
                .await?;
            if *json {
                style::json(&found);
                return Ok(());
            }
            show(&found);
        }
        Conversation::Delete { id } => {
            daemon
                .delete(&format!("/api/v1/conversations/{}", checked_id(id)?))
                .await?;
            style::note("The conversation is deleted.");
        }
        Conversation::Search { words } => {
            let query = query_value(&words.join(" "));
            let found = daemon.get(&format!("/api/v1/search?q={query}")).await?;
            for hit in found["items"].as_array().into_iter().flatten() {
                let pieces = hit["snippet"].as_array().into_iter().flatten();
                let snippet: String = pieces
                    .map(|piece| {
                        let words = style::harmless(piece["text"].as_str().unwrap_or_default());
                        if piece["hit"] == true {
                            style::strong(&words)
                        } else {
                            words
                        }
                    })
                    .collect();
                let snippet = snippet.replace('\n', " ");
                style::line(&format!("{}  {snippet}", text(&hit["conversation"])));
            }
        }
    }
    Ok(())
}

fn show(found: &Value) {
    let title = found["conversation"]["title"].as_str().unwrap_or_default();
    style::line(&style::strong(&style::harmless(title)));
    for message in found["messages"].as_array().into_iter().flatten() {
        let who = if message["role"] == "user" {
            "you"
        } else {
            "aico"
        };
        let parts = message["parts"].as_array().into_iter().flatten();
        let said: String = parts
            .filter(|part| part["type"] == "text")
            .filter_map(|part| part["text"].as_str())
            .collect();
        let mark = match message["status"].as_str() {
            Some("complete") | None => String::new(),
            Some(status) => style::faint(&format!(" ({status})")),
        };
        style::line(&format!(
            "\n{}{mark} {}",
            style::strong(&format!("{who}:")),
            style::harmless(&said)
        ));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
