//! `aico person seal`, `unseal`, `recover`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use aico_vault::RecoveryPhrase;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Context, keys, setup};
use crate::cli::PasswordFrom;
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::{prompt, style};

/// What it means, before it is done.
const MEANING: [&str; 5] = [
    "A sealed person's conversations open only while they are signed in: nothing works for them",
    "after a restart until they sign in, and no module reaches their data meanwhile.",
    "Nobody else recovers them, the owner neither: who loses both the password and the phrase that",
    "follows loses everything. Backups made before still open as they did: destroy them where",
    "that matters.",
];

/// The person who is meant: the owner can't be, and says so.
fn named<'a>(context: &'a Context, name: Option<&'a str>) -> Result<&'a str, Failure> {
    name.or(context.person.as_deref()).ok_or_else(|| {
        Failure::new(
            Exit::Refused,
            "The owner can't be sealed: their own password is the master password.",
        )
        .do_this("To seal somebody else: aico person seal NAME. To start with the password only: aico vault forget")
    })
}

pub(super) async fn seal(
    context: &Context,
    name: Option<&str>,
    yes: bool,
    from: &PasswordFrom,
    recovery_file: Option<&Path>,
) -> Result<(), Failure> {
    let name = named(context, name)?;
    // No password is typed for nobody.
    Daemon::find(&context.places).await?;
    for line in MEANING {
        style::note(line);
    }
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(
                Failure::new(Exit::Usage, "Nobody is here to say that it is meant.")
                    .do_this("Say so: --yes"),
            );
        }
        if !prompt::agrees(&format!("Seal {}?", style::harmless(name)))? {
            return Err(Failure::new(Exit::Refused, "Nothing was sealed."));
        }
    }
    let mut file = setup::phrase_file(recovery_file)?;
    let sealed = async {
        let password = prompt::raw_password(from, &format!("Password of {name}"))?;
        let daemon = Daemon::sign_in(&context.places, name, &password).await?;
        let body = json!({ "password": password.as_str() });
        let done = daemon.post("/api/v1/me/seal", &body).await;
        let words = keys::texts(&done?["recovery_phrase"]);
        Ok::<_, Failure>(Zeroizing::new(words))
    };
    let words = match sealed.await {
        Ok(words) => words,
        Err(failure) => {
            if let Some(path) = recovery_file {
                let _ = std::fs::remove_file(path);
            }
            return Err(failure);
        }
    };
    match (&mut file, recovery_file) {
        (Some(file), Some(path)) => setup::write_phrase(file, path, &words)?,
        _ => setup::show_phrase(&words)?,
    }
    style::note("Sealed. This phrase is theirs alone: aico person recover uses it.");
    Ok(())
}

pub(super) async fn unseal(
    context: &Context,
    name: Option<&str>,
    from: &PasswordFrom,
) -> Result<(), Failure> {
    let name = named(context, name)?;
    Daemon::find(&context.places).await?;
    let password = prompt::raw_password(from, &format!("Password of {name}"))?;
    let daemon = Daemon::sign_in(&context.places, name, &password).await?;
    let body = json!({ "password": password.as_str() });
    daemon
        .send(http::Method::DELETE, "/api/v1/me/seal", Some(&body))
        .await?;
    style::note("No longer sealed: whoever has the master password and the disk can read it.");
    style::note("The phrase of their own opens nothing any more.");
    Ok(())
}

/// What a change of keys left to a sealed person.
pub(super) async fn rekey(
    context: &Context,
    name: &str,
    from: &PasswordFrom,
    recovery_file: Option<&Path>,
) -> Result<(), Failure> {
    Daemon::find(&context.places).await?;
    let mut file = setup::phrase_file(recovery_file)?;
    let done = async {
        let password = prompt::raw_password(from, &format!("Password of {name}"))?;
        Daemon::sign_in_with(&context.places, name, &password, true).await
    };
    let done = done.await;
    let words = match &done {
        Ok((_, session)) => Zeroizing::new(keys::texts(&session["recovery_phrase"])),
        Err(_) => Zeroizing::default(),
    };
    if words.is_empty()
        && let Some(path) = recovery_file
    {
        let _ = std::fs::remove_file(path);
    }
    let (_, session) = done?;
    if words.is_empty() && session["keys_wait"] == true {
        return Err(Failure::new(
            Exit::Unexpected,
            "The keys could not be changed now; everything opens as before.",
        )
        .do_this("See why, mend it and try again: aico logs --level warn"));
    }
    if words.is_empty() {
        style::note("No change of keys waits for them.");
        return Ok(());
    }
    match (&mut file, recovery_file) {
        (Some(file), Some(path)) => setup::write_phrase(file, path, &words)?,
        _ => setup::show_phrase(&words)?,
    }
    style::note("Their keys are new; the data follows while they are signed in. Their phrase from");
    style::note("before opens nothing here any more.");
    Ok(())
}

pub(super) async fn recover(
    context: &Context,
    name: &str,
    phrase_file: &Option<PathBuf>,
    new_password_file: &Option<PathBuf>,
) -> Result<(), Failure> {
    let mut daemon = Daemon::find(&context.places).await?;
    let phrase = keys::file(phrase_file, "--phrase-file FILE");
    let phrase = prompt::raw_password(&phrase, "Their own phrase, 12 words")?;
    RecoveryPhrase::parse(&phrase).map_err(aico_access::HomeError::from)?;
    let new = keys::file(new_password_file, "--new-password-file FILE");
    let new = prompt::new_raw_password(&new, name)?;
    let body = json!({ "name": name, "phrase": phrase.as_str(), "new": new.as_str() });
    let session = daemon.post("/api/v1/persons/recover", &body).await?;
    daemon.takes(&session);
    style::note("The new password counts. Their other sessions have ended.");
    style::note("Backups and copies of the data folder made before still open with the old one.");
    style::note("The phrase stays as it is.");
    Ok(())
}
