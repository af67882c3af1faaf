//! `aico vault rotate`: other keys, through the daemon when one runs, otherwise right here.

use std::sync::Arc;
use std::time::Duration;

use aico_access::{ErrorKind, HomeError, RotationState, SealedParts, Source};
use aico_contracts::ids::PersonId;
use aico_vault::Purpose;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::keys::{self, Way};
use super::{Context, person, setup};
use crate::cli::Rotate;
use crate::client::Daemon;
use crate::daemon::rekey::AtRest;
use crate::exit::{Exit, Failure};
use crate::style;

/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// What has begun.
#[derive(Default)]
struct Begun {
    phrase: Option<setup::Words>,
    dropped: Vec<String>,
    left: Vec<String>,
    archives: Vec<String>,
}

pub(super) async fn run(context: &Context, what: &Rotate) -> Result<(), Failure> {
    if what.status {
        return status(context).await;
    }
    let root = what.purpose.is_empty() && context.person.is_none();
    if what.compromised && !root {
        return Err(Failure::new(
            Exit::Usage,
            "--compromised changes everything: neither --purpose nor --person goes with it.",
        ));
    }
    // A phrase that nobody would see may not be made.
    let mut file = match root {
        true => setup::phrase_file(what.recovery_file.as_deref())?,
        false => None,
    };
    let done = rotate(context, what, &mut file).await;
    // Refused, or gone on with a change that had its phrase before.
    if let (Some(file), Some(path)) = (&file, &what.recovery_file)
        && file.metadata().is_ok_and(|about| about.len() == 0)
    {
        let _ = std::fs::remove_file(path);
    }
    done
}

async fn rotate(
    context: &Context,
    what: &Rotate,
    file: &mut Option<std::fs::File>,
) -> Result<(), Failure> {
    let root = what.purpose.is_empty() && context.person.is_none();
    match keys::way(context).await? {
        Way::Daemon(daemon) => {
            let person = match &context.person {
                Some(name) => Some(person::id_of(&daemon, name).await?),
                None => None,
            };
            let password = keys::ask(&what.password)?;
            let body = json!({
                "password": password.as_str(), "compromised": what.compromised,
                "purposes": what.purpose, "person": person,
            });
            let begun = daemon.post("/api/v1/vault/rotation", &body).await?;
            let phrase = keys::texts(&begun["recovery_phrase"]);
            told(
                what,
                root,
                file,
                Begun {
                    phrase: (!phrase.is_empty()).then(|| Zeroizing::new(phrase)),
                    dropped: keys::texts(&begun["dropped"]),
                    left: keys::texts(&begun["left"]),
                    archives: keys::texts(&begun["archives"]),
                },
            )?;
            watch(&daemon).await?;
        }
        Way::Here(here) => {
            let password = keys::secret(&keys::ask(&what.password)?)?;
            let data = context.places.data().to_owned();
            let mut shown = Ok(());
            let (state, pending) = here
                .with(&password, async |home, _| {
                    let parts: Arc<dyn SealedParts> = Arc::new(AtRest {
                        home: home.clone(),
                        data,
                    });
                    home.set_sealed_parts(parts);
                    let wanted = wanted(home, what, context.person.as_deref()).await?;
                    let rotate = || home.rotate(wanted.clone(), Some(&password), Source::local());
                    let begun = match rotate().await {
                        // There is nobody else to finish it.
                        Err(HomeError::EarlierChange) => {
                            style::note(
                                "An earlier change of keys that was cut off is finished first.",
                            );
                            let state = until_done(home).await;
                            if state.failed.is_some() {
                                return Ok((state, home.pending_key_changes().await?));
                            }
                            rotate().await?
                        }
                        begun => begun?,
                    };
                    shown = told(what, root, file, begun.into());
                    let state = until_done(home).await;
                    Ok((state, home.pending_key_changes().await?))
                })
                .await?;
            shown?;
            let failed = state.failed.map(|failed| {
                let exit = match failed.kind {
                    ErrorKind::StorageFull => Exit::StorageFull,
                    ErrorKind::StorageReadOnly => Exit::StorageReadOnly,
                    ErrorKind::StorageFailing => Exit::StorageFailing,
                    _ => Exit::Unexpected,
                };
                (exit, failed.why)
            });
            outcome(failed, pending.len())?;
        }
    }
    finished(what);
    Ok(())
}

async fn wanted(
    home: &aico_access::Home,
    what: &Rotate,
    person: Option<&str>,
) -> Result<aico_access::Rotate, HomeError> {
    let find = |name: &String| {
        let found = Purpose::ALL.iter().find(|known| known.as_str() == name);
        found
            .copied()
            .ok_or(HomeError::Rotation("there is no key for that purpose"))
    };
    let purposes: Vec<_> = what.purpose.iter().map(find).collect::<Result<_, _>>()?;
    let person: Option<PersonId> = match person {
        None => None,
        Some(name) => {
            let all = home.persons().await?;
            let named =
                |it: &&aico_access::Person| it.name.as_str().to_lowercase() == name.to_lowercase();
            let found = all.iter().find(named).ok_or(HomeError::NotFound)?;
            Some(found.id)
        }
    };
    Ok(aico_access::Rotate {
        root: purposes.is_empty() && person.is_none(),
        compromised: what.compromised,
        purposes,
        person,
    })
}

impl From<aico_access::Begun> for Begun {
    fn from(begun: aico_access::Begun) -> Self {
        let words = |phrase: aico_vault::RecoveryPhrase| {
            let words = phrase.words();
            Zeroizing::new(
                words
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        let item = |(kept, why): &(aico_vault::Kept, aico_vault::KeychainError)| {
            format!("{}, item {}: {why}", kept.backend(), kept.item())
        };
        Self {
            phrase: begun.phrase.map(words),
            dropped: begun.dropped.iter().map(item).collect(),
            left: begun.left.iter().map(item).collect(),
            archives: begun
                .archives
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
        }
    }
}

/// What is to be known as soon as it has begun: the phrase counts from now on.
fn told(
    what: &Rotate,
    root: bool,
    file: &mut Option<std::fs::File>,
    begun: Begun,
) -> Result<(), Failure> {
    if let Some(words) = &begun.phrase {
        match (file, &what.recovery_file) {
            (Some(file), Some(path)) => setup::write_phrase(file, path, words)?,
            _ => setup::show_phrase(words)?,
        }
        style::note("The recovery phrase before this one opens nothing here any more.");
    }
    if root && begun.phrase.is_none() {
        style::note("A change of keys that was cut off is gone on with. If it made a new recovery");
        style::note(
            "phrase, that one counts, and it is not shown again. If nobody saw it, make another:",
        );
        style::hint("aico vault phrase");
    }
    for place in &begun.dropped {
        style::warning(&format!(
            "AICO starts with the password from now on; this keychain took no new key: {}",
            style::harmless(place)
        ));
        style::hint("Once it can: aico vault remember");
    }
    keys::still_there(&begun.left);
    if what.compromised {
        for path in &begun.archives {
            style::warning(&format!("destroy this archive: {}", style::harmless(path)));
        }
        style::warning(
            "destroy every backup and copy of the data folder made before now: they open as before",
        );
    }
    Ok(())
}

fn finished(what: &Rotate) {
    if what.compromised {
        style::note("All keys are new and all data is under them. Everybody signs in again, and");
        style::note("modules need a new connection file: aico module rotate NAME");
        style::note("Files encrypted with aico file before still open with the old key of their");
        style::note("owner: encrypt those anew that matter.");
    } else {
        style::note("The keys are changed. Backups and copies made before still open as they did;");
        style::note("if somebody may have the keys: aico vault rotate --compromised");
    }
}

/// Shows how far it is until it is done. When this ends early the daemon goes on.
async fn watch(daemon: &Daemon) -> Result<(), Failure> {
    let mut shown = None;
    loop {
        let state = daemon.get("/api/v1/vault/rotation").await?;
        let number = |key: &str| state[key].as_u64().unwrap_or(0);
        show(&mut shown, number("done_bytes"), number("all_bytes"));
        if state["running"] != true {
            let pending = state["pending"].as_array().map_or(0, Vec::len);
            let failed = state["failed"].as_str().map(|why| {
                let exit = match state["failed_code"].as_str() {
                    Some("storage-full") => Exit::StorageFull,
                    Some("storage-read-only") => Exit::StorageReadOnly,
                    Some("storage-failing") => Exit::StorageFailing,
                    _ => Exit::Unexpected,
                };
                (exit, why.to_owned())
            });
            return outcome(failed, pending);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn until_done(home: &aico_access::Home) -> RotationState {
    let mut shown = None;
    loop {
        let state = home.rotation();
        show(&mut shown, state.done_bytes, state.all_bytes);
        if !state.running {
            return state;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn show(shown: &mut Option<u64>, done: u64, all: u64) {
    let percent = done.saturating_mul(100).checked_div(all).unwrap_or(100);
    if *shown != Some(percent) && style::on_terminal() {
        style::note(&format!("{percent} % of {} MiB", all.div_ceil(1 << 20)));
    }
    *shown = Some(percent);
}

/// What sealed persons have yet to do themselves.
fn left_to(pending: usize) -> String {
    format!(
        "{pending} to come: the keys of who is sealed change when they sign in next on the page or with \
         aico person rekey NAME, those of damaged data when it is put back (aico store check)"
    )
}

fn outcome(failed: Option<(Exit, String)>, pending: usize) -> Result<(), Failure> {
    if pending > 0 {
        style::warning(&left_to(pending));
    }
    match failed {
        None => Ok(()),
        Some((exit, why)) => {
            let what_to_do = match exit {
                Exit::StorageFull => {
                    "Free some space on the disk; then go on with it: the same command once more"
                }
                _ => "Mend what it names; then go on with it: the same command once more",
            };
            let mut failure = Failure::new(
                exit,
                "The change of keys stopped; everything opens as before, and nothing is lost.",
            )
            .do_this(what_to_do);
            failure.why = Some(why);
            Err(failure)
        }
    }
}

async fn status(context: &Context) -> Result<(), Failure> {
    let daemon = Daemon::find(&context.places).await?;
    let state = daemon.get("/api/v1/vault/rotation").await?;
    let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
    let line = match (&state["running"], &state["failed"]) {
        (Value::Bool(true), _) => {
            let number = |key: &str| state[key].as_u64().unwrap_or(0);
            let (done, all) = (number("done_bytes"), number("all_bytes"));
            let percent = done.saturating_mul(100).checked_div(all).unwrap_or(100);
            format!("Keys are being changed: {percent} %, step {}", text("step"))
        }
        (_, Value::String(why)) => format!("It stopped at {}: {why}", text("step")),
        _ if !text("finished_at").is_empty() => {
            format!("Keys were changed at {}", text("finished_at"))
        }
        _ => "No change of keys is in progress.".to_owned(),
    };
    style::line(&style::harmless(&line));
    match state["pending"].as_array().map_or(0, Vec::len) {
        0 => {}
        pending => style::line(&left_to(pending)),
    }
    Ok(())
}
