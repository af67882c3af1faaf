//! What the command line does: each command is a client of the running daemon, or offline work.

mod backup;
mod bus;
mod character;
mod chat;
mod config;
mod conversation;
mod doctor;
mod engine;
mod export;
mod export_key;
mod file;
mod keys;
mod kit;
mod logs;
mod model;
mod module;
mod ollama;
mod person;
mod rotate;
mod seal;
mod secret;
mod setup;
mod status;
mod store;
mod token;
mod vault;

use clap::CommandFactory as _;

use crate::cli::{Cli, Command, Contracts};
use crate::exit::{Exit, Failure};
use crate::places::Places;
use crate::{daemon, style};

/// What every command may need of the command line.
pub(crate) struct Context {
    pub(crate) places: Places,
    pub(crate) person: Option<String>,
    pub(crate) config_file: Option<std::path::PathBuf>,
    pub(crate) set: Vec<String>,
}

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        // These need no data folder.
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "aico", &mut script);
            style::piece(&String::from_utf8_lossy(&script));
            return Ok(());
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|e| Failure::new(Exit::Unexpected, "Can't write.").because(&e))?;
            style::piece(&String::from_utf8_lossy(&page));
            return Ok(());
        }
        Command::Contracts(Contracts::Export { folder }) => return export_contracts(&folder),
        _ => {}
    }
    let context = Context {
        places: Places::find(cli.data.as_deref())?,
        person: cli.person,
        config_file: cli.config,
        set: cli.set,
    };
    // The daemon chooses its own runtime; a client needs one thread.
    if let Command::Serve(serve) = cli.command {
        return daemon::serve(&context, &serve);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Unexpected, "The program can't start.").because(&e))?;
    runtime.block_on(async {
        let done = match cli.command {
            Command::Setup(setup) => setup::run(&context, &setup).await,
            Command::Unlock(from) => vault::unlock(&context, &from).await,
            Command::Lock => vault::lock(&context).await,
            Command::File(what) => file::run(&context, &what).await,
            Command::Vault(what) => keys::run(&context, &what).await,
            Command::Password(password) => vault::change_password(&context, &password).await,
            Command::Chat(chat) => chat::run(&context, &chat).await,
            Command::Conversation(what) => conversation::run(&context, &what).await,
            Command::Character(what) => character::run(&context, &what).await,
            Command::Backup(what) => backup::run(&context, &what).await,
            Command::Store(what) => store::run(&context, &what).await,
            Command::Restore(what) => backup::restore(&context, &what).await,
            Command::Export(what) => export::run(&context, &what).await,
            Command::Person(what) => person::run(&context, &what).await,
            Command::Model(what) => model::run(&context, &what).await,
            Command::Engine(what) => engine::run(&context, &what).await,
            Command::Egress(what) => engine::egress(&context, &what).await,
            Command::Module(what) => module::run(&context, &what).await,
            Command::Token(what) => token::run(&context, &what).await,
            Command::Bus(what) => bus::run(&context, &what).await,
            Command::Status(status) => status::run(&context, &status).await,
            Command::Doctor => doctor::run(&context).await,
            Command::Config(what) => config::run(&context, &what).await,
            Command::Logs(logs) => logs::run(&context, &logs).await,
            Command::Serve(_)
            | Command::Completions { .. }
            | Command::Man
            | Command::Contracts(_)
            | Command::Modelservice => Ok(()),
        };
        crate::client::sign_out().await;
        done
    })
}

fn export_contracts(folder: &std::path::Path) -> Result<(), Failure> {
    for (name, text) in aico_contracts::FILES {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| {
                Failure::new(Exit::Unexpected, format!("Can't write {}.", path.display()))
                    .because(&error)
            })?;
        style::line(&path.display().to_string());
    }
    Ok(())
}

/// Percent-encodes a value for a query.
pub(crate) fn query_value(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Only ids go into paths; anything else would name another route.
pub(crate) fn checked_id(id: &str) -> Result<&str, Failure> {
    let ours = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if ours {
        Ok(id)
    } else {
        Err(Failure::new(Exit::NotFound, format!("\"{id}\" is no id."))
            .do_this("An id looks like 0197b1a2-0000-7000-8000-000000000000; lists show them."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_ids_can_not_change_the_route() {
        assert_eq!(query_value("a b&c=ä/?"), "a%20b%26c%3D%C3%A4%2F%3F");
        assert!(checked_id("0197b1a2-0000-7000-8000-000000000000").is_ok());
        assert!(checked_id("../models").is_err());
    }
}
