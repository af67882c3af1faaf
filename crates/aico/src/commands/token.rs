//! `aico token`: named tokens, by which other programs act for a person.

use serde_json::{Value, json};

use super::{Context, checked_id};
use crate::cli::Token;
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::style;

const PATH: &str = "/api/v1/tokens";

pub(super) async fn run(context: &Context, what: &Token) -> Result<(), Failure> {
    let (places, person) = (&context.places, context.person.as_deref());
    match what {
        Token::Create {
            name,
            expires,
            password,
        } => {
            let daemon = Daemon::find_as(places, person, password).await?;
            let body = json!({ "name": name, "expires_days": expires });
            let made = daemon.post(PATH, &body).await?;
            style::line(made["secret"].as_str().unwrap_or_default());
            style::note(&format!(
                "Shown this once. Whoever has it acts for you until {}: keep it as you keep a \
                 password.",
                day(&made["token"]["expires_at"])
            ));
            // The token is told already: that this can't be asked is no failure.
            let me = daemon.get("/api/v1/me").await;
            if me.is_ok_and(|me| me["role"] == "owner") {
                style::note(
                    "As you are the owner, it also reads the figures of the models at /metrics: \
                     how much everybody here asks them, without names.",
                );
            }
        }
        Token::List { json, password } => {
            let daemon = Daemon::find_as(places, person, password).await?;
            list(&daemon, *json).await?;
        }
        Token::Revoke { name, password } => {
            let daemon = Daemon::find_as(places, person, password).await?;
            let id = find(&daemon, name).await?;
            daemon
                .delete(&format!("{PATH}/{}", checked_id(&id)?))
                .await?;
            style::note("Revoked. The program that has it gets nothing any more.");
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
    let tokens = all["items"].as_array().cloned().unwrap_or_default();
    if tokens.is_empty() {
        style::note("There is no named token. `aico token create --name NAME` makes one.");
    }
    for token in tokens {
        let name = token["name"].as_str().unwrap_or_default();
        let used = match token["last_used_at"].as_str() {
            Some(_) => format!("last used {}", day(&token["last_used_at"])),
            None => "never used".to_owned(),
        };
        let until = match expired(&token) {
            true => "expired",
            false => "until",
        };
        let about = format!("{until} {}, {used}", day(&token["expires_at"]));
        style::line(&format!(
            "{}  {}",
            style::strong(&style::harmless(name)),
            style::faint(&about)
        ));
    }
    Ok(())
}

fn expired(token: &Value) -> bool {
    let until = token["expires_at"].as_str().unwrap_or_default();
    until
        .parse::<jiff::Timestamp>()
        .is_ok_and(|until| until <= jiff::Timestamp::now())
}

/// The day of a time, which is as exact as anybody needs it here.
fn day(time: &Value) -> &str {
    let time = time.as_str().unwrap_or_default();
    time.get(..10).unwrap_or(time)
}

async fn find(daemon: &Daemon, name: &str) -> Result<String, Failure> {
    let all = daemon.get(PATH).await?;
    let mut tokens = all["items"].as_array().into_iter().flatten();
    let called = |one: &&Value| {
        one["name"]
            .as_str()
            .is_some_and(|known| known.to_lowercase() == name.to_lowercase())
    };
    tokens
        .find(called)
        .and_then(|one| one["id"].as_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure::new(Exit::NotFound, "You have no token of that name.")
                .do_this("See which there are: aico token list")
        })
}
