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

use crate::cli::{self, Cli, Command, Contracts};
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
    if cli.person.is_some() && !takes_person(&cli.command) {
        return Err(
            Failure::new(Exit::Usage, "--person does not go with this command.")
                .do_this("Leave it out: this is done for the whole AICO, by its owner."),
        );
    }
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

/// Whether it does something else for another person. Any other command would act as the owner
/// though somebody else was named.
fn takes_person(command: &Command) -> bool {
    match command {
        Command::Chat(_)
        | Command::Conversation(_)
        | Command::Character(_)
        | Command::Restore(_)
        | Command::Export(_)
        | Command::Model(_)
        | Command::Egress(_)
        | Command::Module(_)
        | Command::Token(_)
        | Command::Bus(_)
        | Command::File(_)
        | Command::Password(_)
        | Command::Logs(_) => true,
        Command::Backup(what) => {
            matches!(what, cli::Backup::Create(_) | cli::Backup::Restore(_))
        }
        Command::Vault(what) => matches!(what, cli::Vault::Rotate(rotate) if !rotate.status),
        Command::Engine(what) => matches!(
            what,
            cli::Engine::List { .. } | cli::Engine::Allow { .. } | cli::Engine::Forbid { .. }
        ),
        Command::Person(what) => !matches!(
            what,
            cli::Person::Rekey { .. } | cli::Person::Recover { .. }
        ),
        Command::Setup(_)
        | Command::Serve(_)
        | Command::Unlock(_)
        | Command::Lock
        | Command::Store(_)
        | Command::Status(_)
        | Command::Doctor
        | Command::Config(_)
        | Command::Contracts(_)
        | Command::Completions { .. }
        | Command::Man
        | Command::Modelservice => false,
    }
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

    #[test]
    fn only_commands_that_act_for_another_person_take_one() {
        use clap::Parser as _;
        let takes = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            takes_person(&cli.command)
        };
        for line in [
            "aico chat",
            "aico backup create",
            "aico restore a",
            "aico vault rotate",
            "aico engine allow lab",
            "aico person seal",
            "aico file cat a",
            "aico password",
        ] {
            assert!(takes(line), "{line}");
        }
        for line in [
            "aico vault password",
            "aico vault phrase",
            "aico vault kit a",
            "aico vault rotate --status",
            "aico unlock",
            "aico lock",
            "aico store check",
            "aico config secret set a",
            "aico engine remove ollama",
            "aico backup verify a",
            "aico person rekey Ben",
            "aico setup",
            "aico status",
        ] {
            assert!(!takes(line), "{line}");
        }
    }
}
