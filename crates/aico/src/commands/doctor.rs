//! `aico doctor`: finds what is wrong and says how to mend it.
//!
//! Works with and without a running daemon; reads only.

mod graphics;
mod swap;

use std::net::SocketAddr;

use aico_access::{ClaimError, DataFolder, HomeError, backup};
use aico_vault::{Vault, VaultError, WrapKind};

use super::{Context, keys};
use crate::client::Daemon;
use crate::exit::{Exit, Failure, chain};
use crate::{daemon, places, style};

/// What one look found.
enum Found {
    Well(String),
    Odd(String, Option<String>),
    Ill(String, Option<String>),
}

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let mut findings = configuration(context);
    findings.extend(folder(context));
    findings.extend(vault(context));
    findings.extend(kept(context).await);
    findings.extend(running(context).await);
    findings.extend(graphics::look(context).await);
    findings.extend(machine());
    let mut ill = false;
    for found in &findings {
        match found {
            Found::Well(text) => style::line(&format!("  ok  {text}")),
            Found::Odd(text, hint) => told("note", text, hint.as_deref()),
            Found::Ill(text, hint) => {
                ill = true;
                told("ILL ", text, hint.as_deref());
            }
        }
    }
    if ill {
        Err(Failure::new(
            Exit::Unwell,
            "Something needs mending; see above.",
        ))
    } else {
        Ok(())
    }
}

fn told(mark: &str, text: &str, hint: Option<&str>) {
    style::line(&format!("{mark}  {text}"));
    if let Some(hint) = hint {
        style::line(&format!("      try: {hint}"));
    }
}

fn configuration(context: &Context) -> Vec<Found> {
    match daemon::load_config(context, Vec::new()) {
        Ok(loaded) => {
            let (bus, page) = (&loaded.config.bus, loaded.config.gateway.bind);
            match open_doors(bus.bind, bus.live_bind, page) {
                open if open.is_empty() => vec![Found::Well("the configuration is right".into())],
                open => open,
            }
        }
        Err(failure) => vec![Found::Ill(
            format!(
                "the configuration is wrong: {}",
                failure.why.unwrap_or(failure.what)
            ),
            failure.what_to_do,
        )],
    }
}

/// What others than this machine reach.
fn open_doors(bus: SocketAddr, live: SocketAddr, page: SocketAddr) -> Vec<Found> {
    let doors = [
        (
            "bus.bind",
            bus,
            "the bus",
            "its encryption is unaudited",
            "WireGuard around it",
        ),
        (
            "bus.live_bind",
            live,
            "the bus's plain door",
            "its encryption is unaudited",
            "WireGuard around it",
        ),
        (
            "gateway.bind",
            page,
            "the web page",
            "it has no TLS of its own",
            "a TLS proxy or WireGuard before it",
        ),
    ];
    let open = doors
        .into_iter()
        .filter(|(_, bind, ..)| !bind.ip().is_loopback());
    open.map(|(key, bind, what, why, around)| {
        Found::Odd(
            format!("{what} is reachable from other machines ({bind}); {why}"),
            Some(format!(
                "put {around}, or set {key} to 127.0.0.1:{}",
                bind.port()
            )),
        )
    })
    .collect()
}

fn folder(context: &Context) -> Vec<Found> {
    let data = context.places.data();
    if !data.exists() {
        return vec![Found::Odd(
            format!("there is no data folder yet ({})", data.display()),
            Some(context.places.serve()),
        )];
    }
    match DataFolder::claim(data) {
        Ok(_) => vec![Found::Well(format!(
            "the data folder {} is private",
            data.display()
        ))],
        Err(ClaimError::InUse { pid }) => {
            let who = pid.map_or_else(|| "a daemon".to_owned(), |pid| format!("process {pid}"));
            vec![Found::Well(format!(
                "the data folder {} is in use by {who}",
                data.display()
            ))]
        }
        Err(ClaimError::Folder(error)) => {
            vec![Found::Ill(chain(&error), error.what_to_do())]
        }
    }
}

fn vault(context: &Context) -> Vec<Found> {
    let home = &context.places.data().join("home");
    match Vault::exists(home) {
        Ok(false) => {
            return vec![Found::Odd(
                "nothing is set up yet".into(),
                Some("aico setup".into()),
            )];
        }
        Ok(true) => {}
        Err(error) => return vec![Found::Ill(chain(&error), header_advice(context, error))],
    }
    match Vault::status(home) {
        Ok(status) => {
            let wraps: Vec<_> = status
                .wraps
                .iter()
                .map(|wrap| wrap_name(wrap.kind))
                .collect();
            vec![Found::Well(format!(
                "the vault's header is whole; it opens with: {}",
                wraps.join(", ")
            ))]
        }
        Err(error) => vec![Found::Ill(
            format!("the vault's header can't be used: {}", chain(&error)),
            header_advice(context, error),
        )],
    }
}

/// What to do about a header that can't be used. A damaged one comes back with all the rest: each
/// backup's own goes with that backup's data.
fn header_advice(context: &Context, error: VaultError) -> Option<String> {
    let failure = Failure::from(HomeError::from(error));
    if failure.exit != Exit::Damaged {
        return failure.what_to_do;
    }
    let data = context.places.data();
    // Without a header there is nothing to tell ours from others by.
    let vault = Vault::id_of(&data.join("home")).ok();
    let all = backup::list(&backup::default_folder(data)).unwrap_or_default();
    let newest = all.iter().find(|one| {
        one.wrong.is_none() && !one.one_person && (vault.is_none() || one.vault == vault)
    });
    Some(newest.map_or_else(|| WITHOUT_BACKUP.to_owned(), daemon::put_back))
}

const WITHOUT_BACKUP: &str = "aico restore FILE, with a backup that is kept elsewhere; without one, \
                              copy the data folder before anything else is tried";

/// Whether what should open the vault without a password can; as a daemon says that runs.
async fn kept(context: &Context) -> Vec<Found> {
    let mut found = Vec::new();
    // What is wrong with the header itself is told already.
    let all = keys::all(context).await.unwrap_or_default();
    for wrap in all["wraps"].as_array().into_iter().flatten() {
        let text = |key: &str| wrap[key].as_str().map(style::harmless);
        let Some(name) = text("place") else {
            continue;
        };
        if wrap["kind"] == "key-file" {
            let folder = places::key_files().unwrap_or_default();
            found.push(Found::Odd(
                format!(
                    "the key file in {} and the data folder together open everything, to whoever \
                     can read them",
                    folder.display()
                ),
                Some("aico vault forget, or a keychain instead: aico vault remember".into()),
            ));
        }
        found.push(match (text("why"), text("unchecked")) {
            (Some(why), _) => Found::Odd(
                format!("the {name} does not open the vault now: {why}"),
                Some(text("what_to_do").unwrap_or_else(|| {
                    "aico unlock, and when it stays so: aico vault remember".to_owned()
                })),
            ),
            (None, Some(why)) => Found::Odd(format!("the {name}: {why}"), None),
            (None, None) => Found::Well(format!("the {name} opens the vault without the password")),
        });
    }
    found
}

async fn running(context: &Context) -> Vec<Found> {
    let daemon = match Daemon::find(&context.places).await {
        Ok(daemon) => daemon,
        Err(failure) if failure.exit == Exit::NotRunning => {
            return vec![Found::Odd(
                "no daemon is running".into(),
                Some(context.places.serve()),
            )];
        }
        Err(failure) => return vec![Found::Ill(failure.what, failure.what_to_do)],
    };
    let stage = match daemon.get("/api/v1/state").await {
        Ok(state) => state["stage"].as_str().unwrap_or_default().to_owned(),
        Err(failure) => return vec![Found::Ill(failure.what, failure.what_to_do)],
    };
    let mut found = vec![Found::Well(format!("the daemon runs and is {stage}"))];
    if stage != "ready" {
        return found;
    }
    let status = match daemon.get("/api/v1/status").await {
        Ok(status) => status,
        Err(failure) => return vec![Found::Ill(failure.what, failure.what_to_do)],
    };
    let model = &status["model"];
    let said = |key: &str| model[key].as_str().map(str::to_owned);
    found.push(match said("status").as_deref() {
        Some("failed") => Found::Ill(
            format!("the model failed: {}", said("why").unwrap_or_default()),
            said("what_to_do"),
        ),
        other => Found::Well(format!("the model is {}", other.unwrap_or("unknown"))),
    });
    found.push(stores(&daemon).await);
    let warnings = status["warnings"].as_array().into_iter().flatten();
    found.extend(
        warnings
            .filter_map(|w| w.as_str())
            .map(|w| Found::Odd(w.to_owned(), None)),
    );
    found
}

/// Whether the stored data is sound, as far as a quick look tells.
async fn stores(daemon: &Daemon) -> Found {
    let mut damaged = Vec::new();
    let mut advice = Vec::new();
    let looked = super::store::check(daemon, false, |store| {
        if store["state"] == "damaged" {
            let text = |key: &str| style::harmless(store[key].as_str().unwrap_or_default());
            damaged.push(match store["name"].is_string() {
                true => format!("the {} of {}", text("part"), text("name")),
                false => format!("the {}", text("part")),
            });
            let one = text("what_to_do");
            if !one.is_empty() && !advice.contains(&one) {
                advice.push(one);
            }
        }
    });
    match looked.await {
        Ok(_) if !damaged.is_empty() => Found::Ill(
            format!("damaged: {}; the rest is sound", damaged.join(", ")),
            Some(match advice.is_empty() {
                true => "aico store check".to_owned(),
                false => advice.join("\n      "),
            }),
        ),
        Ok(_) => Found::Well("the stored data is sound in its structure".into()),
        Err(failure) => Found::Odd(
            format!("the stored data was not looked at: {}", failure.what),
            failure.what_to_do,
        ),
    }
}

fn wrap_name(wrap: WrapKind) -> &'static str {
    match wrap {
        WrapKind::MasterPassword => "master password",
        WrapKind::RecoveryPhrase => "recovery phrase",
        WrapKind::Keychain => "keychain",
        WrapKind::KeyFile => "key file",
        _ => "something that this program does not know",
    }
}

/// What the machine itself does to what is promised.
fn machine() -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(swap) = swap::unencrypted() {
        found.push(Found::Odd(
            format!("memory may be written to unencrypted swap ({swap}), also by hibernation"),
            Some("encrypt the swap, or use zram".into()),
        ));
    }
    if !cfg!(target_os = "linux") {
        found.push(Found::Odd(
            "whether memory is written to a disk that does not encrypt (page file, hibernation) is \
             not looked at on this system"
                .into(),
            Some("encrypt the whole disk: FileVault, BitLocker".into()),
        ));
        found.push(Found::Odd(
            "the model process is isolated against crashes only; its sandbox exists on Linux"
                .into(),
            None,
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_that_others_reach_is_named() {
        let doors = |bus: &str, live: &str, page: &str| {
            let [bus, live, page] = [bus, live, page].map(|bind| bind.parse().unwrap());
            let all = open_doors(bus, live, page).into_iter();
            let told = all.map(|found| match found {
                Found::Odd(text, Some(hint)) => (text, hint),
                Found::Well(text) | Found::Odd(text, None) | Found::Ill(text, _) => {
                    (text, String::new())
                }
            });
            told.collect::<Vec<_>>()
        };
        assert!(doors("127.0.0.1:8772", "[::1]:8773", "127.0.0.1:8771").is_empty());
        let open = doors("0.0.0.0:9001", "192.168.1.2:9002", "[::]:9003");
        assert_eq!(open.len(), 3);
        for ((text, hint), (bind, advice)) in open.iter().zip([
            ("0.0.0.0:9001", "bus.bind to 127.0.0.1:9001"),
            ("192.168.1.2:9002", "bus.live_bind to 127.0.0.1:9002"),
            ("[::]:9003", "gateway.bind to 127.0.0.1:9003"),
        ]) {
            assert!(text.contains(bind), "{text}");
            assert!(hint.contains(advice), "{hint}");
        }
        assert_eq!(doors("127.0.0.1:1", "127.0.0.1:2", "0.0.0.0:3").len(), 1);
    }
}
