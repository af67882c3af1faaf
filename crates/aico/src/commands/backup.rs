//! `aico backup` and `aico restore`.
//!
//! A backup is made by the daemon, which goes on. Everything else is done right here: an archive
//! opens with the password or the phrase, on a machine where there is nothing else.

use std::path::{Path, PathBuf};

use aico_access::backup::{
    self, BackupError, BackupStep, Listed, PutBack, RestoreRequest, RestoreSecret, Restored,
};
use aico_access::{ClaimError, DataFolder, HomeError};
use aico_vault::{Password as Secret, RecoveryPhrase, Vault};
use serde_json::{Value, json};

use super::{Context, person};
use crate::cli::{Backup, CreateBackup, Opens, Restore};
use crate::client::{Daemon, Problem};
use crate::exit::{Exit, Failure, sentence};
use crate::progress::{Progress, size};
use crate::{daemon, prompt, style};

pub(super) async fn run(context: &Context, what: &Backup) -> Result<(), Failure> {
    match what {
        Backup::Create(what) => create(context, what).await,
        Backup::List { folder, json } => list(context, folder.as_deref(), *json),
        Backup::Verify { archive, opens } => verify(archive, opens).await,
        Backup::Restore(what) => restore(context, what).await,
    }
}

// ---- create ---------------------------------------------------------------------------------

async fn create(context: &Context, what: &CreateBackup) -> Result<(), Failure> {
    let daemon = Daemon::find(&context.places).await?;
    let person = match &context.person {
        Some(name) => Some(person::id_of(&daemon, name).await?),
        None => None,
    };
    let to = what.to.as_deref().map(absolute).transpose()?;
    let body = json!({
        "to": to,
        "person": person,
        "keep_daily": what.keep_daily,
        "keep_weekly": what.keep_weekly,
    });
    let mut progress = Progress::new("Backup");
    let mut made = None;
    daemon
        .post_lines("/api/v1/backups", &body, |line| {
            match line["type"].as_str() {
                Some("progress") => progress.show(number(&line["done"]), number(&line["total"])),
                Some("done") => made = Some(line["backup"].clone()),
                _ => return Err(Problem::of(&line)),
            }
            Ok(())
        })
        .await?;
    drop(progress);
    let made = made.ok_or_else(|| {
        Failure::new(
            Exit::NotRunning,
            "The daemon ended before the backup was made.",
        )
        .do_this("The backups that there were are untouched. Start AICO, then try again.")
    })?;
    if what.json {
        style::json(&made);
    } else {
        told(&made, what);
    }
    let left_out = list_of(&made["left_out"]);
    let secrets = made["secrets_left_out"].as_str();
    let said = match (left_out.is_empty(), secrets) {
        (true, None) => return Ok(()),
        (true, Some(_)) => {
            "The backup was made, but the secrets of the configuration are not in it."
        }
        (false, None) => "The backup was made, but not everybody is in it.",
        (false, Some(_)) => {
            "The backup was made, but neither everybody nor the secrets of the configuration are \
             in it."
        }
    };
    let mut lines = String::new();
    for one in &left_out {
        let text = |key: &str| one[key].as_str().unwrap_or_default();
        lines.push_str(&format!("{}: {}. ", text("name"), text("why")));
    }
    if let Some(why) = secrets {
        lines.push_str(&sentence(why));
    }
    let mut failure = Failure::new(Exit::Damaged, said);
    failure.why = Some(lines.trim_end().to_owned());
    let mut what_to_do = "What is not in it may be in an older backup, of which none was removed: \
                          aico backup list"
        .to_owned();
    if secrets.is_some() {
        what_to_do.push_str(". What helps the secrets: aico store check");
    }
    failure.what_to_do = Some(what_to_do);
    Err(failure)
}

fn told(made: &Value, what: &CreateBackup) {
    let path = made["path"].as_str().unwrap_or_default();
    style::line(&style::harmless(path));
    let persons = match number(&made["persons"]) {
        1 => "1 person".to_owned(),
        count => format!("{count} persons"),
    };
    style::note(&format!(
        "{}, {persons}. It opens with the master password of now or the recovery phrase.",
        size(number(&made["length"]))
    ));
    for path in list_of(&made["removed"]) {
        let path = path.as_str().unwrap_or_default();
        style::note(&format!("removed: {}", style::harmless(path)));
    }
    if made["nothing_removed"] == true {
        style::warning(
            "no older backup was removed, because this one lacks somebody or the secrets of the \
             configuration, or has an older copy of somebody's data",
        );
    }
    for path in list_of(&made["not_removed"]) {
        let path = style::harmless(path.as_str().unwrap_or_default());
        style::warning(&format!("an older backup could not be removed: {path}"));
    }
    if what.to.is_none() {
        style::note("It lies on the same disk. A copy elsewhere outlives that disk.");
    }
}

// ---- list and verify ------------------------------------------------------------------------

fn list(context: &Context, folder: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    let data = context.places.data();
    let folder = match folder {
        Some(folder) => absolute(folder)?,
        None => backup::default_folder(data),
    };
    let none = || {
        Failure::new(
            Exit::NotFound,
            format!("There are no backups in {}.", folder.display()),
        )
        .do_this("Make one: aico backup create. Look elsewhere: aico backup list FOLDER")
    };
    if !folder.exists() {
        return Err(none());
    }
    let all = backup::list(&folder)?;
    if all.is_empty() {
        return Err(none());
    }
    let ours = Vault::id_of(&data.join("home")).ok();
    for one in &all {
        if as_json {
            style::json(&as_object(one, ours));
            continue;
        }
        let when = match one.created_at {
            Some(at) => at
                .to_zoned(jiff::tz::TimeZone::system())
                .strftime("%Y-%m-%d %H:%M")
                .to_string(),
            None => "                ".to_owned(),
        };
        let mark = mark(one, ours);
        style::line(&format!(
            "{when}  {:>9}  {}{}",
            size(one.length),
            style::harmless(&one.path.display().to_string()),
            style::faint(&mark.map_or(String::new(), |mark| format!("  ({mark})")))
        ));
    }
    Ok(())
}

fn mark(one: &Listed, ours: Option<[u8; 16]>) -> Option<String> {
    if let Some(wrong) = &one.wrong {
        return Some(format!("can't be used: {wrong}"));
    }
    match (ours, one.one_person) {
        (Some(ours), _) if one.vault != Some(ours) => Some("of another AICO".to_owned()),
        (_, true) => Some("one person".to_owned()),
        _ => None,
    }
}

fn as_object(one: &Listed, ours: Option<[u8; 16]>) -> Value {
    json!({
        "path": one.path.display().to_string(),
        "created_at": one.created_at,
        "length": one.length,
        "one_person": one.one_person,
        "of_this_aico": ours.map(|ours| one.vault == Some(ours)),
        "wrong": one.wrong,
    })
}

async fn verify(archive: &Path, opens: &Opens) -> Result<(), Failure> {
    let archive = absolute(archive)?;
    there(&archive)?;
    let secret = secret(opens)?;
    let verified = blocking(move || {
        let mut progress = Progress::new("Checking");
        backup::verify(&archive, &secret, &mut |step| {
            progress.show(step.done, step.total);
            true
        })
    })
    .await?;
    let when = verified
        .created_at
        .map_or_else(String::new, |at| at.to_string());
    style::line(&format!(
        "Whole: {} of {when}, made by AICO {}.",
        size(verified.bytes),
        style::harmless(&verified.program)
    ));
    for (name, rows) in &verified.persons {
        let rows = rows.map_or("only they can open it".to_owned(), |rows| {
            format!("{rows} rows")
        });
        style::line(&format!(
            "  {}  {}",
            style::harmless(name),
            style::faint(&rows)
        ));
    }
    if verified.one_person {
        style::note(
            "It holds one person's data and is put back with: aico restore ARCHIVE --person NAME",
        );
    }
    if verified.without_owner {
        style::warning(
            "the owner is not in it, so that it can't be restored as a whole; one person is put \
             back with: aico restore ARCHIVE --person NAME",
        );
    }
    if verified.erased > 0 {
        style::note(&format!(
            "{} of them were erased since and are not brought back.",
            verified.erased
        ));
    }
    not_in_it(&verified.left_out);
    Ok(())
}

fn not_in_it(left_out: &[(String, String)]) {
    for (name, why) in left_out {
        style::warning(&format!(
            "{} is not in this backup: {}",
            style::harmless(name),
            style::harmless(why)
        ));
    }
}

// ---- restore --------------------------------------------------------------------------------

pub(super) async fn restore(context: &Context, what: &Restore) -> Result<(), Failure> {
    let archive = absolute(&what.archive)?;
    let data = match &what.to {
        Some(to) => absolute(to)?,
        None => context.places.data().to_owned(),
    };
    there(&archive)?;
    let was_there = data.exists();
    let folder = claim(context, &data, what.to.is_none())?;
    let done = match &context.person {
        Some(name) => put_back(&data, archive, &what.opens, name).await,
        None => whole(context, &data, archive, &what.opens, what.to.is_some()).await,
    };
    drop(folder);
    if done.is_err() && !was_there {
        // Nothing is left of a folder that was made for this.
        let _ = std::fs::remove_file(data.join("lock"));
        let _ = std::fs::remove_dir(&data);
    }
    done
}

fn claim(context: &Context, data: &Path, ours: bool) -> Result<DataFolder, Failure> {
    let claimed = if ours {
        daemon::claim(&context.places)
    } else {
        DataFolder::claim(data).map_err(|error| match error {
            ClaimError::InUse { .. } => Failure::new(Exit::InUse, sentence(&error.to_string())),
            ClaimError::Folder(error) => error.into(),
        })
    };
    claimed.map_err(|mut failure| {
        if failure.exit == Exit::InUse {
            failure.what_to_do = Some(
                "Stop it first (Ctrl-C where `aico serve` runs), or restore to another folder: \
                 --to NEW_FOLDER"
                    .to_owned(),
            );
        }
        failure
    })
}

async fn whole(
    context: &Context,
    data: &Path,
    archive: PathBuf,
    opens: &Opens,
    only_where_none_is: bool,
) -> Result<(), Failure> {
    if only_where_none_is && data.join("home").exists() {
        return Err(HomeError::from(BackupError::Occupied {
            path: data.to_owned(),
        })
        .into());
    }
    let secret = secret(opens)?;
    let by_phrase = matches!(secret, RestoreSecret::Phrase(_));
    let request = RestoreRequest {
        archive,
        secret,
        only_where_none_is,
        usual: only_where_none_is.then(|| context.places.data().to_owned()),
    };
    let restored = backup::restore(daemon::home_config(data, 24), request, shown()).await?;
    let serve = match only_where_none_is {
        true => format!("aico serve --data '{}'", data.display()),
        false => context.places.serve(),
    };
    tell_restored(&restored, by_phrase, &serve);
    if restored.drill {
        style::note(
            "The backups that there are stay with the AICO that it came from: who is erased in this \
             one stays in them. A folder that this one makes a backup in is its own.",
        );
    }
    Ok(())
}

fn shown() -> impl FnMut(BackupStep) -> bool + Send + 'static {
    let mut progress = Progress::new("Restoring");
    move |step| {
        progress.show(step.done, step.total);
        true
    }
}

fn tell_restored(restored: &Restored, by_phrase: bool, serve: &str) {
    let when = restored
        .created_at
        .map_or_else(String::new, |at| format!(" of {at}"));
    style::line(&format!(
        "Restored the backup{when}: {} person(s), {} rows, each counted.",
        restored.persons, restored.rows
    ));
    if let Some(kept) = &restored.kept {
        style::note(&format!(
            "What was there before is kept in {0}. When all is well, remove it: rm -r '{0}'",
            kept.display()
        ));
    }
    if let Some(path) = &restored.configuration {
        style::note(&format!("The configuration is in {}.", path.display()));
    }
    if restored.erased > 0 {
        style::note(&format!(
            "{} person(s) in it were erased since, and stayed so.",
            restored.erased
        ));
    }
    if restored.unread_erasures {
        style::warning(
            "who was erased in the present data can't be read; look whether somebody came back: \
             aico person list",
        );
    }
    not_in_it(&restored.left_out);
    if !restored.modules.is_empty() {
        style::note(&format!(
            "Modules are not admitted by a backup. Admit them again: {}",
            style::harmless(&restored.modules.join(", "))
        ));
    }
    style::note(
        "All sessions and named tokens have ended, servers have to be allowed again, and no \
         keychain opens it: it starts with the master password of then.",
    );
    if by_phrase {
        style::note("To set another master password by the phrase: aico vault recover");
    }
    style::hint(serve);
}

async fn put_back(data: &Path, archive: PathBuf, opens: &Opens, name: &str) -> Result<(), Failure> {
    if !data.join("home").exists() {
        return Err(HomeError::NotSetUp.into());
    }
    let secret = secret(opens)?;
    let config = daemon::home_config(data, 24);
    let done: PutBack = backup::restore_person(config, archive, secret, name, shown()).await?;
    let when = done
        .created_at
        .map_or_else(String::new, |at| format!(" of {at}"));
    let name = style::harmless(name);
    style::line(&match done.rows {
        0 => format!(
            "Put back the data of {name} from the backup{when}. It opens when they sign in."
        ),
        rows => {
            format!("Put back the data of {name} from the backup{when}: {rows} rows, each counted.")
        }
    });
    if done.password_of_then {
        style::warning(&format!(
            "the keyring of {name} was damaged or gone and is the one of the backup: their \
             password is the one of then"
        ));
    }
    if !done.kept.is_empty() {
        let kept = done.kept.iter();
        let kept: Vec<_> = kept.map(|path| format!("'{}'", path.display())).collect();
        style::note(&format!(
            "What was there before is kept. When all is well, remove it: rm {}",
            kept.join(" ")
        ));
    }
    Ok(())
}

// ---- what these share -----------------------------------------------------------------------

/// The master password or the recovery phrase: twelve words that belong together are the phrase.
fn secret(opens: &Opens) -> Result<RestoreSecret, Failure> {
    let refused =
        |error: &dyn std::error::Error| Failure::new(Exit::Refused, sentence(&error.to_string()));
    if let Some(file) = &opens.phrase_file {
        let from = super::keys::file(&Some(file.clone()), "--phrase-file FILE");
        let text = prompt::raw_password(&from, "")?;
        let phrase = RecoveryPhrase::parse(&text).map_err(HomeError::from)?;
        return Ok(RestoreSecret::Phrase(phrase));
    }
    let text = prompt::raw_password(&opens.password, "Master password or recovery phrase")?;
    match RecoveryPhrase::parse(&text) {
        Ok(phrase) => Ok(RestoreSecret::Phrase(phrase)),
        Err(_) => Secret::new(&text)
            .map(RestoreSecret::Password)
            .map_err(|error| refused(&error)),
    }
}

/// What can be told without a password is told before one is typed.
fn there(archive: &Path) -> Result<(), Failure> {
    if std::fs::symlink_metadata(archive).is_ok() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::NotFound,
        format!("{} is not there.", archive.display()),
    )
    .do_this("See which there are: aico backup list"))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::new(Exit::Usage, format!("{} is no path.", path.display())).because(&error)
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HomeError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| HomeError::Task)??)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn list_of(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}
