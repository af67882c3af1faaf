//! `aico vault`: what opens the vault.
//!
//! Through the daemon when one runs, otherwise right here under the same lock.

use aico_access::{ClaimError, DataFolder, Home, Remembered, Source, Stage};
use aico_contracts::ids::PersonId;
use aico_vault::{
    Kept, KeychainError, KeychainState, Password as Secret, RecoveryPhrase, Vault as Header,
    WrapKind,
};
use http::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Context, kit, rotate, setup};
use crate::cli::{Password, PasswordFrom, Vault};
use crate::client::Daemon;
use crate::exit::{Exit, Failure, sentence};
use crate::{places, prompt, style};

pub(super) async fn run(context: &Context, what: &Vault) -> Result<(), Failure> {
    match what {
        Vault::Status { json } => status(context, *json).await,
        Vault::Remember {
            backend,
            key_file,
            password,
        } => {
            let backend = if *key_file {
                Some("key-file")
            } else {
                backend.as_deref()
            };
            remember(context, backend, password).await
        }
        Vault::Forget { password } => forget(context, password).await,
        Vault::Password(password) => change_password(context, password).await,
        Vault::Phrase {
            password,
            recovery_file,
        } => {
            let mut file = setup::phrase_file(recovery_file.as_deref())?;
            let words = match new_phrase(context, password).await {
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
            phrase_changed();
            Ok(())
        }
        Vault::Rotate(what) => rotate::run(context, what).await,
        Vault::Recover {
            phrase_file,
            new_password_file,
        } => {
            let phrase = file(phrase_file, "--phrase-file FILE");
            let new = file(new_password_file, "--new-password-file FILE");
            recover(context, phrase, new).await
        }
        Vault::Kit {
            file,
            new_phrase,
            password,
        } => kit::write(context, file, new_phrase.then_some(password)).await,
    }
}

/// `option` is the one that this file comes from.
pub(super) fn file(path: &Option<std::path::PathBuf>, option: &'static str) -> PasswordFrom {
    PasswordFrom {
        password_file: path.clone(),
        password_stdin: false,
        options: option,
    }
}

/// The daemon, or the home right here with the lock on its folder.
pub(super) enum Way {
    Daemon(Daemon),
    Here(Box<Here>),
}

pub(super) struct Here {
    home: Home,
    _folder: DataFolder,
}

pub(super) async fn way(context: &Context) -> Result<Way, Failure> {
    match DataFolder::claim(context.places.data()) {
        Ok(folder) => {
            let home = Home::open(crate::daemon::home_config(folder.path(), 24))?;
            if home.stage() == Stage::New {
                return Err(aico_access::HomeError::NotSetUp.into());
            }
            Ok(Way::Here(Box::new(Here {
                home,
                _folder: folder,
            })))
        }
        Err(ClaimError::InUse { .. }) => Ok(Way::Daemon(Daemon::find(&context.places).await?)),
        Err(ClaimError::Folder(error)) => Err(error.into()),
    }
}

impl Here {
    /// Opens the home and does something; whatever becomes of it, the stores are closed.
    pub(super) async fn with<T>(
        &self,
        password: &Secret,
        act: impl AsyncFnOnce(&Home, PersonId) -> Result<T, aico_access::HomeError>,
    ) -> Result<T, Failure> {
        let owner = self.home.unlock(password, Source::local()).await?;
        let done = act(&self.home, owner).await;
        let stopped = self.home.stop().await;
        let done = done?;
        stopped?;
        Ok(done)
    }
}

pub(super) fn secret(text: &Zeroizing<String>) -> Result<Secret, Failure> {
    Secret::new(text).map_err(|error| Failure::new(Exit::Refused, sentence(&error.to_string())))
}

pub(super) fn ask(from: &PasswordFrom) -> Result<Zeroizing<String>, Failure> {
    prompt::raw_password(from, "Master password")
}

// ---- keychains ------------------------------------------------------------------------------

/// Where a key was left.
pub(super) struct Place {
    backend: String,
    name: String,
    left: Vec<String>,
}

impl From<Remembered> for Place {
    fn from(done: Remembered) -> Self {
        Self {
            backend: done.backend,
            name: done.place,
            left: done.left,
        }
    }
}

impl Place {
    pub(super) fn of(answer: &Value) -> Self {
        Self {
            backend: answer["backend"].as_str().unwrap_or_default().to_owned(),
            name: answer["place"].as_str().unwrap_or_default().to_owned(),
            left: texts(&answer["left"]),
        }
    }
}

pub(super) fn texts(list: &Value) -> Vec<String> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|one| Some(one.as_str()?.to_owned()))
        .collect()
}

/// Says where the key is and what that means.
pub(super) fn remembered(place: &Place) {
    style::note(&format!(
        "AICO starts without the password from now on: the {} holds a key.",
        style::harmless(&place.name)
    ));
    match place.backend.as_str() {
        "key-file" => style::warning(KEY_FILE),
        "kernel-keyring" => style::note("It holds it until this computer restarts."),
        _ => {}
    }
    still_there(&place.left);
}

const KEY_FILE: &str = "whoever can read the key file and the data folder can read everything";

pub(super) fn still_there(left: &[String]) {
    for item in left {
        style::warning(&format!(
            "this is still there; remove it by hand: {}",
            style::harmless(item)
        ));
    }
}

async fn remember(
    context: &Context,
    backend: Option<&str>,
    from: &PasswordFrom,
) -> Result<(), Failure> {
    let way = way(context).await?;
    let password = ask(from)?;
    let place = match way {
        Way::Daemon(daemon) => {
            let body = json!({ "password": password.as_str(), "backend": backend });
            Place::of(&daemon.post("/api/v1/vault/remember", &body).await?)
        }
        Way::Here(here) => {
            let password = secret(&password)?;
            let done = here.with(&password, async |home, _| {
                home.remember(&password, backend, Source::local()).await
            });
            done.await?.into()
        }
    };
    remembered(&place);
    Ok(())
}

async fn forget(context: &Context, from: &PasswordFrom) -> Result<(), Failure> {
    let way = way(context).await?;
    let password = ask(from)?;
    let (taken, left) = match way {
        Way::Daemon(daemon) => {
            let body = json!({ "password": password.as_str() });
            let done = daemon.post("/api/v1/vault/forget", &body).await?;
            (done["taken"].as_u64().unwrap_or(0), texts(&done["left"]))
        }
        Way::Here(here) => {
            let password = secret(&password)?;
            let done = here.with(&password, async |home, _| {
                home.forget(&password, Source::local()).await
            });
            let done = done.await?;
            (done.taken as u64, done.left)
        }
    };
    if taken == 0 {
        style::note("No keychain held a key: AICO starts with the password.");
        return Ok(());
    }
    style::note("AICO starts with the password only from now on.");
    still_there(&left);
    Ok(())
}

// ---- password and phrase --------------------------------------------------------------------

/// What a change of the password does, and what it does not.
pub(super) fn password_changed() {
    style::note("The password is changed. Other sessions have ended.");
    style::note("Backups and copies of the data folder made before still open with the old one.");
}

fn phrase_changed() {
    style::note(
        "The phrase before this one opens nothing here any more. Backups and copies of the",
    );
    style::note("data folder made before still open with it.");
}

async fn change_password(context: &Context, what: &Password) -> Result<(), Failure> {
    let way = way(context).await?;
    let current = file(&what.password_file, "--password-file FILE");
    let current = prompt::raw_password(&current, "Present master password")?;
    let from = file(&what.new_password_file, "--new-password-file FILE");
    match way {
        Way::Daemon(daemon) => {
            let me = daemon.get("/api/v1/me").await?;
            let new = prompt::new_raw_password(&from, me["name"].as_str().unwrap_or_default())?;
            let body = json!({ "current": current.as_str(), "new": new.as_str() });
            daemon
                .send(Method::PUT, "/api/v1/me/password", Some(&body))
                .await?;
        }
        Way::Here(here) => {
            let current = secret(&current)?;
            let new = secret(&prompt::new_raw_password(&from, "")?)?;
            here.with(&current, async |home, owner| {
                home.change_password(owner, &current, &new, Source::local(), None)
                    .await
            })
            .await?;
        }
    }
    password_changed();
    Ok(())
}

/// A new phrase, once the master password is proven.
pub(super) async fn new_phrase(
    context: &Context,
    from: &PasswordFrom,
) -> Result<setup::Words, Failure> {
    let way = way(context).await?;
    let password = ask(from)?;
    let words = match way {
        Way::Daemon(daemon) => {
            let body = json!({ "password": password.as_str() });
            let done = daemon.post("/api/v1/vault/phrase", &body).await?;
            texts(&done["recovery_phrase"])
        }
        Way::Here(here) => {
            let password = secret(&password)?;
            let done = here.with(&password, async |home, _| {
                home.new_phrase(&password, Source::local()).await
            });
            done.await?
                .words()
                .iter()
                .map(|w| (*w).to_owned())
                .collect()
        }
    };
    Ok(Zeroizing::new(words))
}

async fn recover(
    context: &Context,
    phrase: PasswordFrom,
    new: PasswordFrom,
) -> Result<(), Failure> {
    let way = way(context).await?;
    let phrase = prompt::raw_password(&phrase, "Recovery phrase, 12 words")?;
    // What can be told without opening anything is told before a new password is thought up.
    let words = RecoveryPhrase::parse(&phrase).map_err(aico_access::HomeError::from)?;
    let new = prompt::new_raw_password(&new, "")?;
    match way {
        Way::Daemon(daemon) => {
            let body = json!({ "phrase": phrase.as_str(), "new": new.as_str() });
            daemon.post("/api/v1/recover", &body).await?;
            style::note("AICO is unlocked.");
        }
        Way::Here(here) => {
            let new = secret(&new)?;
            let done = here.home.recover(&words, &new, Source::local()).await;
            let stopped = here.home.stop().await;
            done?;
            stopped?;
        }
    }
    password_changed();
    style::note("The recovery phrase stays the same; a new one: aico vault phrase");
    Ok(())
}

// ---- status ---------------------------------------------------------------------------------

/// As the daemon has it when it is open; otherwise from the header, tried from here.
async fn wraps(context: &Context) -> Result<Value, Failure> {
    let mut met = Value::Null;
    if let Ok(daemon) = Daemon::find(&context.places).await {
        let mut state = daemon.get("/api/v1/state").await?;
        if state["stage"] == "ready" {
            return daemon.get("/api/v1/vault").await;
        }
        met = state["keychain"].take();
    }
    let home = context.places.data().join("home");
    let keychains = places::keychains(context.places.data());
    let told = |error| aico_access::HomeError::from(error);
    let status = Header::status(&home).map_err(|error| match error {
        aico_vault::VaultError::Absent { .. } => aico_access::HomeError::NotSetUp,
        other => other.into(),
    })?;
    let states = Header::check_kept(&home, &keychains).map_err(told)?;
    let wraps: Vec<Value> = status
        .wraps
        .iter()
        .map(|wrap| {
            let mut line = json!({ "kind": kind(wrap.kind) });
            if let Some(kept) = &wrap.kept {
                line["backend"] = kept.backend().into();
                line["item"] = kept.item().into();
                line["place"] = keychains.name_of(kept.backend()).into();
                if let Some(at) = made_at(kept) {
                    line["made_at"] = at.to_string().into();
                }
                let state = states.iter().find(|(other, _)| other == kept);
                if let Some((_, Err(error))) = state {
                    broken(&mut line, error, &met);
                }
            }
            line
        })
        .collect();
    Ok(json!({ "key_epoch": status.key_epoch, "wraps": wraps }))
}

/// What keeps one from opening the vault, tried from here. `met` is what a locked daemon met when
/// it started.
fn broken(line: &mut Value, error: &KeychainError, met: &Value) {
    // Systemd gives a credential to the service alone: that it is not here tells nothing.
    let elsewhere = line["backend"] == "systemd-credential"
        && matches!(
            error.state(),
            KeychainState::Absent | KeychainState::Changed
        );
    if !elsewhere {
        line["state"] = error.state().as_str().into();
        line["why"] = error.to_string().into();
    } else if met["name"].is_string() && met["name"] == line["place"] {
        for key in ["state", "why", "what_to_do"] {
            line[key] = met[key].clone();
        }
    } else {
        line["unchecked"] =
            "only the service that has it can tell whether it opens the vault".into();
    }
}

fn made_at(kept: &Kept) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(kept.made_ms()?).ok()?).ok()
}

fn kind(kind: WrapKind) -> &'static str {
    match kind {
        WrapKind::MasterPassword => "master-password",
        WrapKind::RecoveryPhrase => "recovery-phrase",
        WrapKind::Keychain => "keychain",
        WrapKind::KeyFile => "key-file",
        _ => "unknown",
    }
}

/// One line for each thing that opens the vault, as people read it.
pub(super) fn lines(all: &Value) -> Vec<String> {
    let wraps = all["wraps"].as_array().into_iter().flatten();
    let line = |wrap: &Value| {
        let text = |key: &str| wrap[key].as_str().map(style::harmless);
        let what = match text("kind").as_deref() {
            Some("master-password") => "master password".to_owned(),
            Some("recovery-phrase") => "recovery phrase".to_owned(),
            Some("keychain" | "key-file") => text("place").unwrap_or_default(),
            _ => "something that this program does not know".to_owned(),
        };
        let since = text("made_at").map_or(String::new(), |at| format!(", since {at}"));
        let broken = text("why").map_or(String::new(), |why| format!("; not now: {why}"));
        let unchecked = text("unchecked").map_or(String::new(), |why| format!("; {why}"));
        format!("{what}{since}{broken}{unchecked}")
    };
    wraps.map(line).collect()
}

const WITHOUT_KEYCHAIN: &str =
    "The master password opens it: aico unlock. A new key: aico vault remember";

/// What opens the vault, for other commands.
pub(super) async fn all(context: &Context) -> Result<Value, Failure> {
    wraps(context).await
}

async fn status(context: &Context, as_json: bool) -> Result<(), Failure> {
    let all = wraps(context).await?;
    if as_json {
        style::json(&all);
    } else {
        style::line("The vault opens with:");
        for line in lines(&all) {
            style::line(&format!("  {line}"));
        }
    }
    let wraps = all["wraps"].as_array().into_iter().flatten();
    for wrap in wraps {
        if wrap["kind"] == "key-file" {
            style::warning(KEY_FILE);
        }
        let exit = match wrap["state"].as_str() {
            Some("locked") => Exit::KeychainLocked,
            Some("absent") => Exit::KeychainAbsent,
            Some("changed") => Exit::KeychainChanged,
            Some("wrong") => Exit::KeychainWrong,
            _ => continue,
        };
        let place = wrap["place"].as_str().unwrap_or_default();
        let why = wrap["why"].as_str().unwrap_or_default();
        let what_to_do = wrap["what_to_do"].as_str().unwrap_or(WITHOUT_KEYCHAIN);
        return Err(
            Failure::new(exit, format!("The {place} can't open the vault: {why}."))
                .do_this(what_to_do),
        );
    }
    Ok(())
}
