//! The command line: its commands by family, each with its arguments.

mod data;
mod keys;
mod model;
mod module;
mod person;
mod talk;

use std::net::SocketAddr;
use std::path::PathBuf;

use aico_bus::Trace;
use clap::{Args, Parser, Subcommand};

pub(crate) use data::*;
pub(crate) use keys::*;
pub(crate) use model::*;
pub(crate) use module::*;
pub(crate) use person::*;
pub(crate) use talk::*;

/// AICO, a private AI companion that lives on this computer.
#[derive(Parser)]
#[command(name = "aico", version, about, long_about = None, propagate_version = true)]
pub(crate) struct Cli {
    /// The data folder, instead of the platform's or `AICO_DATA_DIR`.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// The configuration file, instead of `config.yaml` in the data or configuration folder.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Sets a key of the configuration: `--set logging.level=debug`.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Acts for this person, whose password is asked, instead of the owner.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) person: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Sets AICO up: chooses the owner's name and the master password.
    Setup(Setup),
    /// Starts the daemon and stays in the foreground.
    Serve(Serve),
    /// Opens the vault of the running daemon.
    Unlock(PasswordFrom),
    /// Ends all sessions and forgets all keys.
    Lock,
    /// What opens the vault: keychains, master password, recovery phrase.
    #[command(subcommand)]
    Vault(Vault),
    /// Talks with the companion.
    Chat(Chat),
    /// Lists, shows and deletes conversations.
    #[command(subcommand)]
    Conversation(Conversation),
    /// Whom one talks to: characters from cards and Modelfiles, and one's own.
    #[command(subcommand)]
    Character(Character),
    /// Makes backups while AICO runs, lists and checks them.
    #[command(subcommand)]
    Backup(Backup),
    /// Looks whether the stored data is sound.
    #[command(subcommand)]
    Store(Store),
    /// Makes the data folder what it was when a backup was made; with `--person`, that person's
    /// data only. What was there is kept.
    Restore(Restore),
    /// Writes everything about you in open formats to a new folder; with `--person`, about that
    /// person. It is not encrypted.
    Export(Export),
    /// Adds, lists and erases the persons who use AICO.
    #[command(subcommand)]
    Person(Person),
    /// Brings in, lists and chooses models.
    #[command(subcommand)]
    Model(Model),
    /// Other programs that run models: which there are, and whether what you write may go there.
    #[command(subcommand)]
    Engine(Engine),
    /// What of yours left this machine.
    #[command(subcommand)]
    Egress(Egress),
    /// Admits modules of other makers to the bus, lists and removes them.
    #[command(subcommand)]
    Module(Module),
    /// Makes, lists and revokes the named tokens of other programs.
    #[command(subcommand)]
    Token(Token),
    /// Reads along on the bus, and shows its figures.
    #[command(subcommand)]
    Bus(Bus),
    /// Encrypts files for yourself, checks and opens them; with `--person`, for that person.
    #[command(subcommand)]
    File(File),
    /// Changes one's own password.
    Password(Password),
    /// How the daemon is.
    Status(Status),
    /// Finds what is wrong and says how to mend it.
    Doctor,
    /// Shows, checks and explains the configuration.
    #[command(subcommand)]
    Config(Config),
    /// Reads the daemon's log.
    Logs(Logs),
    /// Exports the contracts for modules in other languages.
    #[command(subcommand)]
    Contracts(Contracts),
    /// Prints completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    Man,
    /// The model process; started by the daemon, not by people.
    #[command(hide = true)]
    Modelservice,
}

/// Where a password comes from when nobody is asked. Never an argument or a variable: others on
/// this machine could read those.
#[derive(Args, Default)]
pub(crate) struct PasswordFrom {
    /// Reads the password from this file (one line; mode 0600).
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    pub(crate) password_file: Option<PathBuf>,
    /// Reads the password from standard input.
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The options of the command by which it can be given, for whoever can't be asked; empty where
    /// there are none.
    #[arg(skip = "--password-file FILE or --password-stdin")]
    pub(crate) options: &'static str,
}

#[derive(Args)]
pub(crate) struct Serve {
    /// Listens here instead of `gateway.bind`; port 0 chooses a free one.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) bind: Option<SocketAddr>,
    /// Unlocks at the start with the password in this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Status {
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Only the address of the web page.
    #[arg(long)]
    pub(crate) address: bool,
}

#[derive(Subcommand)]
pub(crate) enum Config {
    /// The values in force and where each comes from.
    Show {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Reads it as the daemon would and says what is wrong.
    Check,
    /// What a key means, accepts and is.
    Explain {
        /// `section.key`.
        key: String,
    },
    /// Secrets that the configuration refers to as `secret:NAME`, kept sealed.
    #[command(subcommand)]
    Secret(ConfigSecret),
}

#[derive(Subcommand)]
pub(crate) enum ConfigSecret {
    /// Keeps one: asked for without being shown, or one line on standard input.
    Set {
        /// Small letters, digits, dots, dashes and underscores.
        name: String,
    },
    /// Their names, and when each was set. Nothing tells a secret again.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Removes one.
    Remove {
        /// Its name.
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct Logs {
    /// Goes on as lines come.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// This level and the more severe ones.
    #[arg(long, value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub(crate) level: Option<String>,
    /// Modules whose name begins so.
    #[arg(long)]
    pub(crate) module: Option<String>,
    /// From this time on (RFC 3339), or this long ago: `30m`, `2h`, `1d`.
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// What belongs to one request, through all parts: its trace id, 32 hexadecimal digits.
    #[arg(long, value_name = "ID")]
    pub(crate) trace: Option<Trace>,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
