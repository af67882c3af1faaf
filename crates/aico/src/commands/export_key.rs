//! `aico person export-key`: the raw key of a person's database, for other SQLCipher programs.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Context, setup};
use crate::cli::PasswordFrom;
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::{prompt, style};

/// What it means, before it is done.
const MEANING: [&str; 4] = [
    "Whoever has this key and the database, or any copy of it, reads everything in it: no password",
    "is asked. Changing a password or sealing does not take it back for copies; for the data folder",
    "new keys do: aico vault rotate --compromised. That it was given out is noted in what",
    "aico export tells about the person.",
];

pub(super) async fn run(
    context: &Context,
    name: Option<&str>,
    yes: bool,
    out: Option<&Path>,
    from: &PasswordFrom,
) -> Result<(), Failure> {
    let name = name.or(context.person.as_deref());
    // No password is typed for nobody.
    Daemon::find(&context.places).await?;
    for line in MEANING {
        style::note(line);
    }
    let whose = name.map_or_else(|| "your database".to_owned(), style::harmless);
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(
                Failure::new(Exit::Usage, "Nobody is here to say that it is meant.")
                    .do_this("Say so: --yes"),
            );
        }
        if !prompt::agrees(&format!("Give out the key of {whose}?"))? {
            return Err(Failure::new(Exit::Refused, "No key was given out."));
        }
    }
    // Before the password: a place that can't be written asks for nothing.
    let file = out.map(setup::new_private_file).transpose()?;
    let found = ask(context, name, from).await;
    match (found, file, out) {
        (Ok(found), Some(mut file), Some(path)) => {
            let written = file
                .write_all(statements(&found).as_bytes())
                .and_then(|()| file.sync_all());
            if let Err(error) = written {
                drop(file);
                let _ = std::fs::remove_file(path);
                let what = format!("{} can't be written.", path.display());
                return Err(Failure::new(Exit::StorageFull, what)
                    .because(&error)
                    .do_this("Nothing of the key was kept. Choose another place: --out FILE"));
            }
            tell(&found);
            Ok(())
        }
        (Ok(found), ..) => {
            style::piece(&statements(&found));
            tell(&found);
            Ok(())
        }
        (Err(failure), _, path) => {
            if let Some(path) = path {
                let _ = std::fs::remove_file(path);
            }
            Err(failure)
        }
    }
}

async fn ask(context: &Context, name: Option<&str>, from: &PasswordFrom) -> Result<Value, Failure> {
    // Once for signing in and for the proof: the same password.
    let (daemon, password) = match name {
        Some(name) => {
            let password = prompt::raw_password(from, &format!("Password of {name}"))?;
            let daemon = Daemon::sign_in(&context.places, name, &password).await?;
            (daemon, password)
        }
        None => {
            let daemon = Daemon::find(&context.places).await?;
            let password = prompt::raw_password(from, "Master password")?;
            (daemon, password)
        }
    };
    let body = json!({ "password": password.as_str() });
    daemon.post("/api/v1/me/store/key", &body).await
}

/// What is said to SQLCipher first. The second is its default in version 4, and stays right where
/// another program has another.
fn statements(found: &Value) -> Zeroizing<String> {
    let key = found["key"].as_str().unwrap_or_default();
    Zeroizing::new(format!(
        "PRAGMA key = \"x'{key}'\";\nPRAGMA cipher_compatibility = 4;\n"
    ))
}

fn tell(found: &Value) {
    let path = found["path"].as_str().unwrap_or_default();
    style::note(&format!("The database: {}", style::harmless(path)));
    style::note(
        "Stop AICO, copy that file, and open the copy with these statements first. Leave the",
    );
    style::note(
        "file itself alone: one that another program wrote to is refused at the next start.",
    );
}
