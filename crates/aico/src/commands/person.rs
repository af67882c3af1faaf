//! `aico person`.

use serde_json::{Value, json};

use super::{Context, checked_id, export_key, seal};
use crate::cli::{PasswordFrom, Person};
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::{prompt, style};

pub(super) async fn run(context: &Context, what: &Person) -> Result<(), Failure> {
    // These are the person's own: they sign in with their password.
    match what {
        Person::Seal {
            name,
            yes,
            password,
            recovery_file,
        } => {
            let file = recovery_file.as_deref();
            return seal::seal(context, name.as_deref(), *yes, password, file).await;
        }
        Person::Unseal { name, password } => {
            return seal::unseal(context, name.as_deref(), password).await;
        }
        Person::ExportKey {
            name,
            yes,
            out,
            password,
        } => {
            let out = out.as_deref();
            return export_key::run(context, name.as_deref(), *yes, out, password).await;
        }
        Person::Rekey {
            name,
            password,
            recovery_file,
        } => return seal::rekey(context, name, password, recovery_file.as_deref()).await,
        Person::Recover {
            name,
            phrase_file,
            new_password_file,
        } => return seal::recover(context, name, phrase_file, new_password_file).await,
        _ => {}
    }
    let from = PasswordFrom::default();
    let daemon = Daemon::find_as(&context.places, context.person.as_deref(), &from).await?;
    match what {
        Person::Add { name, password } => {
            let password = prompt::new_raw_password(password, name)?;
            let body = json!({ "name": name, "password": password.as_str() });
            daemon.post("/api/v1/persons", &body).await?;
            style::note("Added. They sign in on the web page with this name and password.");
        }
        Person::List { json } => {
            let all = daemon.get("/api/v1/persons").await?;
            if *json {
                style::json(&all["items"]);
                return Ok(());
            }
            for one in all["items"].as_array().into_iter().flatten() {
                let field = |key: &str| one[key].as_str().unwrap_or_default();
                let seal = match field("seal") {
                    "locked" => ", sealed",
                    "signed-in" => ", sealed, signed in",
                    _ => "",
                };
                style::line(&format!(
                    "{}  {}",
                    style::harmless(field("name")),
                    style::faint(&format!("{}{seal}", field("role")))
                ));
            }
        }
        Person::Seal { .. }
        | Person::Unseal { .. }
        | Person::Rekey { .. }
        | Person::Recover { .. }
        | Person::ExportKey { .. } => {}
        Person::Erase { name, password } => {
            let id = id_of(&daemon, name).await?;
            style::warning(
                "all their data will be erased, here and in the backups within reach, for good.",
            );
            let password = prompt::raw_password(password, "Master password")?;
            let path = format!("/api/v1/persons/{}/erase", checked_id(&id)?);
            let body = json!({ "password": password.as_str() });
            let erased = daemon.post(&path, &body).await?;
            tell_erased(&erased);
        }
    }
    Ok(())
}

/// What was reached, and what the owner has to see to.
fn tell_erased(erased: &Value) {
    let list = |key: &str| erased[key].as_array().cloned().unwrap_or_default();
    style::note("Erased, with everything that was theirs here.");
    for one in list("dropped") {
        style::note(&format!("taken out of the backup {}", held(&one)));
    }
    let left = list("out_of_reach");
    for one in &left {
        let why = one["why"].as_str().unwrap_or_default();
        style::warning(&format!(
            "not taken out of the backup {}: {}",
            held(one),
            style::harmless(why)
        ));
    }
    if !left.is_empty() {
        style::note(
            "Destroy those, or bring them back to where they were: the next backup takes them \
             out. Restored in between, they stay erased where the list beside the backups is.",
        );
    }
    style::note("Copies and exports that AICO does not know of are yours to destroy.");
}

fn held(one: &Value) -> String {
    let path = style::harmless(one["path"].as_str().unwrap_or_default());
    match one["created_at"].as_str() {
        Some(at) => format!("{path} of {}", style::harmless(at)),
        None => path,
    }
}

/// The id of the person who is called that.
pub(super) async fn id_of(daemon: &Daemon, name: &str) -> Result<String, Failure> {
    let all = daemon.get("/api/v1/persons").await?;
    let found = all["items"].as_array().into_iter().flatten().find(|one| {
        one["name"]
            .as_str()
            .is_some_and(|known| known.to_lowercase() == name.to_lowercase())
    });
    found
        .and_then(|one| one["id"].as_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure::new(Exit::NotFound, "Nobody here has that name.")
                .do_this("See who there is: aico person list")
        })
}
