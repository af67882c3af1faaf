//! Persons.

use std::path::PathBuf;

use clap::Subcommand;

use super::PasswordFrom;

#[derive(Subcommand)]
pub(crate) enum Person {
    /// Adds a person with a password of their own.
    Add {
        /// What they are called.
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Who uses AICO.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Seals a person: their data opens only while they are signed in, and nobody else recovers
    /// it. Asks for their own password, and gives them a phrase of their own.
    Seal {
        /// What they are called; the one of `--person` by default.
        name: Option<String>,
        /// Does not ask whether it is meant.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        password: PasswordFrom,
        /// Writes their phrase to this new file (mode 0600) instead of showing it.
        #[arg(long, value_name = "FILE")]
        recovery_file: Option<PathBuf>,
    },
    /// Lets AICO open a sealed person's data unattended again. Asks for their own password.
    Unseal {
        /// What they are called; the one of `--person` by default.
        name: Option<String>,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Prints the raw key of a person's database, in the form that other SQLCipher programs take.
    /// Whoever has it reads everything in there. Asks for their own password; the owner's is the
    /// master password.
    ExportKey {
        /// What they are called; the one of `--person`, or the owner, by default.
        name: Option<String>,
        /// Does not ask whether it is meant.
        #[arg(long)]
        yes: bool,
        /// Writes it to this new file (mode 0600) instead of printing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Changes the keys of a sealed person, where a rotation left that to them.
    ///
    /// Asks for their own password, and tells a new recovery phrase of theirs this once.
    Rekey {
        /// What they are called.
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
        /// Write the recovery phrase to this new private file instead of showing it.
        #[arg(long, value_name = "FILE")]
        recovery_file: Option<PathBuf>,
    },
    /// Sets a new password for a sealed person by the phrase of their own.
    Recover {
        /// What they are called.
        name: String,
        /// Reads the phrase from this file.
        #[arg(long, value_name = "FILE")]
        phrase_file: Option<PathBuf>,
        /// Reads the new password from this file.
        #[arg(long, value_name = "FILE")]
        new_password_file: Option<PathBuf>,
    },
    /// Erases a person and all their data, out of the backups within reach as well, for good.
    /// Asks for the master password.
    #[command(visible_alias = "remove")]
    Erase {
        /// What they are called.
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
}
