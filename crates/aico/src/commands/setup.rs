//! `aico setup`: name, master password, recovery phrase.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use aico_access::{ClaimError, DataFolder, Home, SetupProof, Source};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Context, keys};
use crate::cli::Setup;
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::{prompt, style, unfinished};

/// Words of the phrase, as they are shown.
pub(super) type Words = Zeroizing<Vec<String>>;

pub(super) async fn run(context: &Context, setup: &Setup) -> Result<(), Failure> {
    let mut file = phrase_file(setup.recovery_file.as_deref())?;
    let made = make(context, setup).await;
    let (words, remembered) = match made {
        Ok(made) => made,
        Err(failure) => {
            // Nothing was set up, so nothing belongs in the file.
            if let Some(path) = &setup.recovery_file {
                let _ = std::fs::remove_file(path);
            }
            return Err(failure);
        }
    };
    match (&mut file, &setup.recovery_file) {
        (Some(file), Some(path)) => write_phrase(file, path, &words)?,
        _ => show_phrase(&words)?,
    }
    match remembered {
        None => {}
        Some(Ok(place)) => keys::remembered(&place),
        // It is set up all the same, and starts with the password.
        Some(Err(failure)) => {
            style::warning("the keychain holds no key: AICO will start with the password");
            failure.report();
        }
    }
    style::note(&format!(
        "AICO is set up. Start it with: {}",
        context.places.serve()
    ));
    Ok(())
}

/// The new file for a phrase, made before the phrase; without one somebody must be there to see it.
pub(super) fn phrase_file(path: Option<&Path>) -> Result<Option<std::fs::File>, Failure> {
    if path.is_none() && !std::io::stderr().is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            "The recovery phrase has to be shown once, and nobody would see it here.",
        )
        .do_this("Name a new file for it: --recovery-file FILE"));
    }
    path.map(new_private_file).transpose()
}

/// Where a key was left, when that was asked for, or why it was not.
type Remember = Option<Result<keys::Place, Failure>>;

/// Through the daemon when one runs, otherwise right here under the same lock.
async fn make(context: &Context, setup: &Setup) -> Result<(Words, Remember), Failure> {
    let name = match &setup.name {
        Some(name) => name.clone(),
        None => prompt::line("What shall AICO call you?")?,
    };
    match DataFolder::claim(context.places.data()) {
        Ok(folder) => {
            let home = Home::open(crate::daemon::home_config(folder.path(), 24))?;
            if home.stage() != aico_access::Stage::New {
                return Err(aico_access::HomeError::AlreadySetUp.into());
            }
            let password = prompt::new_password(&setup.password, &name)?;
            let done = home
                .set_up(SetupProof::LocalSocket, &name, &password, Source::local())
                .await?;
            let words = done
                .phrase
                .words()
                .iter()
                .map(|w| (*w).to_owned())
                .collect();
            let mut remembered = None;
            if wants_remembering(context, setup) {
                let done = home.remember(&password, None, Source::local()).await;
                remembered = Some(done.map(Into::into).map_err(Into::into));
            }
            // It is set up all the same, and the phrase has to reach the person.
            if let Err(error) = home.stop().await {
                style::warning("not everything could be closed well; nothing is lost");
                Failure::from(error).report();
            }
            Ok((Zeroizing::new(words), remembered))
        }
        Err(ClaimError::InUse { .. }) => {
            let daemon = Daemon::find(&context.places).await?;
            let state = daemon.get("/api/v1/state").await?;
            if state["stage"] != "new" {
                return Err(aico_access::HomeError::AlreadySetUp.into());
            }
            let password = prompt::new_raw_password(&setup.password, &name)?;
            let body = json!({ "code": "", "name": name, "password": password.as_str() });
            let made = daemon.post("/api/v1/setup", &body).await?;
            let words = made["recovery_phrase"].as_array().into_iter().flatten();
            let words = Zeroizing::new(
                words
                    .filter_map(|w| Some(w.as_str()?.to_owned()))
                    .collect::<Vec<_>>(),
            );
            let mut remembered = None;
            if wants_remembering(context, setup) {
                let body = json!({ "password": password.as_str() });
                let done = daemon.post("/api/v1/vault/remember", &body).await;
                remembered = Some(done.map(|done| keys::Place::of(&done)));
            }
            Ok((words, remembered))
        }
        Err(ClaimError::Folder(error)) => Err(error.into()),
    }
}

/// Never unasked: what a keychain opens, whoever opens the keychain opens too.
fn wants_remembering(context: &Context, setup: &Setup) -> bool {
    if setup.remember || !std::io::stdin().is_terminal() {
        return setup.remember;
    }
    let keychains = crate::places::keychains(context.places.data());
    let Ok(place) = keychains.choose() else {
        return false;
    };
    style::note("\nAICO can start without the password: then whoever unlocks your keychain, by");
    style::note("signing in to this computer for example, can open AICO as well.");
    let question = format!("Shall it keep a key in the {}?", place.name());
    prompt::agrees(&question).unwrap_or(false)
}

/// A new file for a secret that only this user reads. A signal removes it again while nothing is in
/// it: otherwise the same command would find it in its way the next time.
pub(super) fn new_private_file(path: &Path) -> Result<std::fs::File, Failure> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|error| {
        use std::io::ErrorKind as Kind;
        if matches!(error.kind(), Kind::StorageFull | Kind::QuotaExceeded) {
            return Failure::of_folder(format!("{} can't be made.", path.display()), &error);
        }
        Failure::new(Exit::Usage, format!("{} can't be made.", path.display()))
            .because(&error)
            .do_this("Name a file that does not exist yet.")
    })?;
    unfinished::remove_while_empty(path.to_owned());
    Ok(file)
}

pub(super) fn write_phrase(
    file: &mut std::fs::File,
    path: &Path,
    words: &Words,
) -> Result<(), Failure> {
    let text = Zeroizing::new(format!("{}\n", words.join(" ")));
    // It is told this once: neither its bytes nor its name may be lost when the power goes.
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder_of(path))
        .map_err(|error| {
            // It is set up all the same: the phrase must reach the person now or never.
            style::warning("the file can't be written; this is the recovery phrase:");
            style::note(&words.join(" "));
            Failure::new(
                Exit::StorageFull,
                format!("{} can't be written.", path.display()),
            )
            .because(&error)
        })?;
    style::note(&format!(
        "The recovery phrase is in {}. Keep it where only you look.",
        path.display()
    ));
    Ok(())
}

#[cfg(unix)]
pub(super) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
pub(super) fn sync_folder_of(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

pub(super) fn show_phrase(words: &Words) -> Result<(), Failure> {
    style::note("\nThis is your recovery phrase. It opens everything when the password is");
    style::note("forgotten. It is shown once and kept nowhere: write it down now.\n");
    for (index, word) in words.iter().enumerate() {
        style::note(&format!("  {:>2}. {}", index + 1, style::strong(word)));
    }
    style::note("");
    if !std::io::stdin().is_terminal() {
        return Ok(());
    }
    for index in two_of(words.len()) {
        loop {
            let answer = prompt::line(&format!("Which is word number {}?", index + 1))?;
            if answer.eq_ignore_ascii_case(&words[index]) {
                break;
            }
            style::note("That is another word. Please look once more.");
        }
    }
    Ok(())
}

/// Two different places, the same in no two runs.
fn two_of(len: usize) -> [usize; 2] {
    let random = uuid::Uuid::new_v4().as_u128();
    let len = len.max(2);
    let first = usize::try_from(random % len as u128).unwrap_or(0);
    let step = 1 + usize::try_from((random >> 64) % (len as u128 - 1)).unwrap_or(0);
    [first, (first + step) % len]
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_different_words_are_asked() {
        for _ in 0..1000 {
            let [a, b] = super::two_of(12);
            assert!(a != b && a < 12 && b < 12);
        }
    }
}
