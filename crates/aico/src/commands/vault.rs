//! `aico unlock`, `aico lock`, `aico password`.

use serde_json::json;

use super::Context;
use crate::cli::{Password, PasswordFrom};
use crate::client::Daemon;
use crate::exit::Failure;
use crate::{prompt, style};

pub(super) async fn unlock(context: &Context, from: &PasswordFrom) -> Result<(), Failure> {
    let daemon = Daemon::find(&context.places).await?;
    match daemon.get("/api/v1/state").await?["stage"].as_str() {
        Some("new") => return Err(aico_access::HomeError::NotSetUp.into()),
        Some("ready") => {
            style::note("AICO is unlocked already.");
            return Ok(());
        }
        _ => {}
    }
    let password = prompt::raw_password(from, "Master password")?;
    let body = json!({ "password": password.as_str() });
    tokio::select! {
        done = daemon.post("/api/v1/unlock", &body) => drop(done?),
        () = tell_updates(&daemon) => {}
    }
    style::note("AICO is unlocked.");
    Ok(())
}

/// How often it is asked.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);
/// Hundredths between two lines.
const STRIDE: u64 = 10;

/// Tells of stores that are updated meanwhile; never ends.
async fn tell_updates(daemon: &Daemon) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(state) = daemon.get("/api/v1/state").await else {
            continue;
        };
        let updating = &state["updating"];
        let Some(percent) = updating["percent"].as_u64() else {
            continue;
        };
        if told.is_some_and(|told| (told..told + STRIDE).contains(&percent)) {
            continue;
        }
        told = Some(percent);
        let left = match updating["seconds_left"].as_u64() {
            Some(seconds) => format!(", about {} s", seconds.max(1)),
            None => String::new(),
        };
        style::note(&format!("Updating the store, {percent} %{left}"));
    }
}

pub(super) async fn lock(context: &Context) -> Result<(), Failure> {
    Daemon::find(&context.places)
        .await?
        .post("/api/v1/lock", &json!({}))
        .await?;
    style::note("AICO is locked. All sessions have ended.");
    Ok(())
}

pub(super) async fn change_password(context: &Context, what: &Password) -> Result<(), Failure> {
    let current = super::keys::file(&what.password_file, "--password-file FILE");
    let new = super::keys::file(&what.new_password_file, "--new-password-file FILE");
    // No password is typed for nobody.
    Daemon::find(&context.places).await?;
    // For a person their present password both signs in and proves the change.
    let current = prompt::raw_password(&current, "Present password")?;
    let daemon = match &context.person {
        Some(name) => Daemon::sign_in(&context.places, name, &current).await?,
        None => Daemon::find(&context.places).await?,
    };
    let me = daemon.get("/api/v1/me").await?;
    let new = prompt::new_raw_password(&new, me["name"].as_str().unwrap_or_default())?;
    let body = json!({ "current": current.as_str(), "new": new.as_str() });
    daemon
        .send(http::Method::PUT, "/api/v1/me/password", Some(&body))
        .await?;
    super::keys::password_changed();
    Ok(())
}
