//! `aico engine`: other programs that run models; `aico egress`: what of one's words went there.

use http::Method;
use serde_json::{Value, json};

use super::{Context, ollama, query_value};
use crate::cli::{Egress, Engine};
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::style;

const PATH: &str = "/api/v1/engines";
/// Most of a page of what left.
const PAGE: u32 = 200;

pub(super) async fn run(context: &Context, what: &Engine) -> Result<(), Failure> {
    let (places, person) = (&context.places, context.person.as_deref());
    match what {
        // Ollama is the only one that AICO installs, and clap lets no other name through.
        Engine::Install { yes, .. } => ollama::install(context, *yes).await,
        Engine::Remove { models, .. } => ollama::remove(context, *models).await,
        Engine::Status { json, .. } => ollama::status(context, *json).await,
        Engine::List { json, password } => {
            let daemon = Daemon::find_as(places, person, password).await?;
            list(&daemon, *json).await
        }
        Engine::Check { name, json } => {
            let daemon = Daemon::find(places).await?;
            check(&daemon, name, *json).await
        }
        Engine::Allow { name, password } => {
            let daemon = Daemon::find_as(places, person, password).await?;
            let engine = find(&daemon, name).await?;
            let body = json!({ "address": engine["address"] });
            let path = format!("{PATH}/{}/consent", query_value(name));
            daemon.send(Method::PUT, &path, Some(&body)).await?;
            style::note(&format!(
                "What you ask a model of {} goes to {} from now on. Take it back at any time: \
                 aico engine forbid {}",
                style::harmless(name),
                word(&engine, "address"),
                style::harmless(name)
            ));
            Ok(())
        }
        Engine::Forbid { name, password } => {
            let daemon = Daemon::find_as(places, person, password).await?;
            daemon
                .delete(&format!("{PATH}/{}/consent", query_value(name)))
                .await?;
            style::note(
                "Nothing more of yours goes there, from the next question on. What it received \
                 before it may still have: aico egress list",
            );
            Ok(())
        }
    }
}

pub(super) async fn egress(context: &Context, what: &Egress) -> Result<(), Failure> {
    let Egress::List {
        limit,
        json,
        password,
    } = what;
    let daemon = Daemon::find_as(&context.places, context.person.as_deref(), password).await?;
    let mut left = *limit;
    let mut before = String::new();
    let mut all = Vec::new();
    while left > 0 {
        let page = left.min(PAGE);
        let path = format!("/api/v1/egress?limit={page}{before}");
        let mut found = daemon.get(&path).await?;
        let Some(items) = found["items"].as_array_mut() else {
            break;
        };
        let items = std::mem::take(items);
        let came = u32::try_from(items.len()).unwrap_or(page);
        if let Some(last) = items.last() {
            before = format!("&before={}", last["id"]);
        }
        all.extend(items);
        left -= came.min(left);
        if came < page {
            break;
        }
    }
    if *json {
        style::json(&Value::Array(all));
        return Ok(());
    }
    if all.is_empty() {
        style::note("Nothing of yours left this machine.");
    }
    for one in all {
        let tokens = match one["tokens"].as_u64() {
            Some(tokens) => format!(", {tokens} tokens"),
            None => String::new(),
        };
        let at = one["at"].as_str().unwrap_or_default();
        let at = at.get(..19).unwrap_or(at).replace('T', " ");
        let about = format!("{}, {} bytes{tokens}", word(&one, "what"), one["bytes"]);
        style::line(&format!(
            "{at}  {}  {}  {}",
            style::strong(&word(&one, "engine")),
            word(&one, "model"),
            style::faint(&format!("{}  {about}", word(&one, "address"))),
        ));
    }
    Ok(())
}

async fn list(daemon: &Daemon, json: bool) -> Result<(), Failure> {
    let all = daemon.get(PATH).await?;
    if json {
        style::json(&all["items"]);
        return Ok(());
    }
    let engines = all["items"].as_array().cloned().unwrap_or_default();
    if engines.is_empty() {
        style::note(
            "No other program runs models here. The owner can name servers in the configuration: \
             docs/engines.md.",
        );
    }
    for engine in &engines {
        show(engine);
    }
    Ok(())
}

async fn check(daemon: &Daemon, name: &str, json: bool) -> Result<(), Failure> {
    let path = format!("{PATH}/{}/check", query_value(name));
    let told = daemon.post(&path, &json!({})).await?;
    let engine = &told["engine"];
    if json {
        style::json(&told);
    } else {
        show(engine);
    }
    if engine["status"] == "failed" {
        let exit = Exit::of_engine(engine["code"].as_str().unwrap_or_default());
        let exit = exit.unwrap_or(Exit::Engine);
        let mut failure = Failure::new(exit, word(engine, "why") + ".");
        failure.why = engine["detail"].as_str().map(str::to_owned);
        return Err(failure.do_this(word(engine, "what_to_do")));
    }
    if !json {
        for model in told["models"].as_array().into_iter().flatten() {
            style::line(&format!(
                "  {}",
                style::harmless(model.as_str().unwrap_or_default())
            ));
        }
    }
    Ok(())
}

fn show(engine: &Value) {
    let status = match engine["status"].as_str() {
        Some("ready") => "answered",
        Some("failed") => "failed",
        _ => "not asked yet",
    };
    let version = match engine["version"].as_str() {
        Some(version) => format!(" ({})", style::harmless(version)),
        None => String::new(),
    };
    let consent = match (
        &engine["network"],
        &engine["allowed"],
        &engine["allowed_elsewhere"],
    ) {
        (Value::Bool(false), ..) => "on this machine",
        (_, Value::Bool(true), _) => "you allowed it",
        (.., Value::Bool(true)) => "you allowed it at another address, which does not count",
        _ => "you have not allowed it",
    };
    style::line(&format!(
        "{}  {}  {}",
        style::strong(&word(engine, "name")),
        word(engine, "address"),
        style::faint(&format!(
            "{}{version}, {status}, {consent}",
            word(engine, "kind")
        ))
    ));
}

async fn find(daemon: &Daemon, name: &str) -> Result<Value, Failure> {
    let all = daemon.get(PATH).await?;
    let mut engines = all["items"].as_array().into_iter().flatten();
    engines
        .find(|one| one["name"] == name)
        .cloned()
        .ok_or_else(|| {
            Failure::new(Exit::NotFound, "There is no engine of that name.")
                .do_this("See which there are: aico engine list")
        })
}

fn word(of: &Value, field: &str) -> String {
    style::harmless(of[field].as_str().unwrap_or_default())
}
