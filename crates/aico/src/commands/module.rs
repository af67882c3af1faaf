//! `aico module`: modules of other makers on the bus.
//!
//! The pair of keys is made here and only its public half goes to the daemon: the secret one is
//! in the connection file and nowhere else.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use aico_bus::link::Connection;
use http::Method;
use serde_json::{Value, json};

use super::{Context, checked_id, person};
use crate::cli::{Module, ModuleAdd, PasswordFrom};
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::style;

pub(super) async fn run(context: &Context, what: &Module) -> Result<(), Failure> {
    let places = &context.places;
    let person = context.person.as_deref();
    let none = PasswordFrom::default();
    match what {
        // Here `--person` says whose data it is for; the owner is the one who admits.
        Module::Add(add) => add_module(&Daemon::find(places).await?, person, add).await,
        Module::List { json, password } => {
            let daemon = Daemon::find_as(places, person, password).await?;
            list(&daemon, *json).await
        }
        Module::Revoke { name } => {
            let daemon = Daemon::find_as(places, person, &none).await?;
            let id = find(&daemon, name).await?;
            daemon.delete(&path_of(&id, "")?).await?;
            style::note("Cut off. Its connection file is worth nothing now; delete it.");
            Ok(())
        }
        Module::Rotate { name, out } => {
            let daemon = Daemon::find_as(places, person, &none).await?;
            rotate(&daemon, name, out.as_deref()).await
        }
        Module::Agree { name, password } => {
            let daemon = Daemon::find_as(places, person, password).await?;
            let id = find(&daemon, name).await?;
            daemon
                .send(Method::PUT, &path_of(&id, "/consent")?, None)
                .await?;
            style::note("Agreed. Take it back at any time: aico module withdraw");
            Ok(())
        }
        Module::Withdraw { name, password } => {
            let daemon = Daemon::find_as(places, person, password).await?;
            let id = find(&daemon, name).await?;
            daemon.delete(&path_of(&id, "/consent")?).await?;
            style::note("Withdrawn. What it received before it may still have.");
            Ok(())
        }
    }
}

async fn add_module(daemon: &Daemon, person: Option<&str>, add: &ModuleAdd) -> Result<(), Failure> {
    let mut persons = Vec::new();
    for name in person
        .into_iter()
        .chain(add.persons.iter().map(String::as_str))
    {
        persons.push(person::id_of(daemon, name).await?);
    }
    let out = out_path(&add.name, add.out.as_deref());
    // First the file: a module that is admitted and whose keys are lost helps nobody.
    let file = create(&out)?;
    let keys = Connection::generate(&add.name);
    let body = json!({
        "name": add.name,
        "public_key": keys.client_public,
        "publish": add.publish,
        "subscribe": add.subscribe,
        "request": add.request,
        "serve": add.serve,
        "persons": persons,
    });
    let admitted = match daemon.post("/api/v1/modules", &body).await {
        Ok(admitted) => admitted,
        Err(failure) => {
            let _ = std::fs::remove_file(&out);
            return Err(failure);
        }
    };
    write(file, &out, keys, &admitted["door"])?;
    style::line(&out.display().to_string());
    style::note("This file lets its bearer onto the bus: keep it as you keep a password.");
    let asked = admitted["module"]["persons"].as_array();
    if asked
        .into_iter()
        .flatten()
        .any(|one| one["agreed"] == false)
    {
        style::note(&format!(
            "Others have to agree first: aico --person NAME module agree {}",
            style::harmless(&add.name)
        ));
    }
    Ok(())
}

async fn rotate(daemon: &Daemon, name: &str, out: Option<&Path>) -> Result<(), Failure> {
    let id = find(daemon, name).await?;
    let out = out_path(name, out);
    // Beside the old one, which stays as it is until the new keys count.
    let beside = out.with_extension("json.new");
    let file = create(&beside)?;
    let keys = Connection::generate(name);
    let body = json!({ "public_key": keys.client_public });
    let sent = daemon
        .send(Method::PUT, &path_of(&id, "/key")?, Some(&body))
        .await;
    let admitted = match sent {
        Ok(admitted) => admitted,
        Err(failure) => {
            let _ = std::fs::remove_file(&beside);
            return Err(failure);
        }
    };
    write(file, &beside, keys, &admitted["door"])?;
    std::fs::rename(&beside, &out).map_err(|error| cant_write(&out, &error))?;
    style::line(&out.display().to_string());
    style::note("The keys before are void. Start the module again with this file.");
    Ok(())
}

async fn list(daemon: &Daemon, json: bool) -> Result<(), Failure> {
    let all = daemon.get("/api/v1/modules").await?;
    if json {
        style::json(&all["items"]);
        return Ok(());
    }
    let modules = all["items"].as_array().cloned().unwrap_or_default();
    if modules.is_empty() {
        style::note("No module is admitted. See docs/modules.md for how to write one.");
    }
    // A member is told of themselves only, and may not list the others.
    let names = daemon.get("/api/v1/persons").await.unwrap_or(Value::Null);
    for module in modules {
        let text = |key: &str| module[key].as_str().unwrap_or_default().to_owned();
        style::line(&style::strong(&style::harmless(&text("name"))));
        for direction in ["publish", "subscribe", "request", "serve"] {
            for pattern in module[direction].as_array().into_iter().flatten() {
                style::line(&format!(
                    "  {direction:9} {}",
                    pattern.as_str().unwrap_or_default()
                ));
            }
        }
        for consent in module["persons"].as_array().into_iter().flatten() {
            let name = name_of(&names, &consent["person"]).unwrap_or_else(|| "you".to_owned());
            let agreed = match consent["agreed"] == true {
                true => "agreed",
                false => "has not agreed",
            };
            style::line(&format!(
                "  {:9} {} ({agreed})",
                "for",
                style::harmless(&name)
            ));
        }
    }
    Ok(())
}

fn name_of(persons: &Value, id: &Value) -> Option<String> {
    let all = persons["items"].as_array()?;
    let found = all.iter().find(|one| one["id"] == *id)?;
    found["name"].as_str().map(str::to_owned)
}

async fn find(daemon: &Daemon, name: &str) -> Result<String, Failure> {
    let all = daemon.get("/api/v1/modules").await?;
    let mut modules = all["items"].as_array().into_iter().flatten();
    modules
        .find(|one| one["name"] == name)
        .and_then(|one| one["id"].as_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure::new(Exit::NotFound, "There is no such module.")
                .do_this("See which there are: aico module list")
        })
}

fn path_of(id: &str, rest: &str) -> Result<String, Failure> {
    Ok(format!("/api/v1/modules/{}{rest}", checked_id(id)?))
}

fn out_path(name: &str, out: Option<&Path>) -> PathBuf {
    out.map_or_else(|| PathBuf::from(format!("{name}.json")), Path::to_owned)
}

/// A new file that only this user reads.
fn create(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| {
        let failure = cant_write(path, &error);
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => failure.do_this("Name another file: --out FILE"),
            _ => failure,
        }
    })
}

fn write(mut file: File, path: &Path, mut keys: Connection, door: &Value) -> Result<(), Failure> {
    let addresses = |field: &str| {
        let all = door[field].as_array().into_iter().flatten();
        all.filter_map(|one| one.as_str().map(str::to_owned))
            .collect()
    };
    keys.endpoints = addresses("endpoints");
    keys.live_endpoints = addresses("live_endpoints");
    keys.server_public = door["server_public"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let text =
        zeroize::Zeroizing::new(serde_json::to_string_pretty(&keys).map_err(|e| {
            Failure::new(Exit::Unexpected, "The keys can't be written.").because(&e)
        })?);
    file.write_all(text.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .map_err(|error| {
            cant_write(path, &error).do_this("Make room, then give it new keys: aico module rotate")
        })
}

fn cant_write(path: &Path, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::StorageFull => Exit::StorageFull,
        std::io::ErrorKind::ReadOnlyFilesystem => Exit::StorageReadOnly,
        _ if aico_vault::fs::disk_failed(error) => Exit::StorageFailing,
        _ => Exit::Refused,
    };
    Failure::new(exit, format!("{} can't be written.", path.display())).because(error)
}
