//! What opens AICO: set-up, passwords, keys.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PasswordFrom;

#[derive(Args)]
pub(crate) struct Setup {
    /// How you want to be called.
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
    /// Writes the recovery phrase to this new file (mode 0600) instead of showing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_file: Option<PathBuf>,
    /// Starts without the password from now on: leaves a key in this system's keychain.
    #[arg(long)]
    pub(crate) remember: bool,
}

#[derive(Subcommand)]
pub(crate) enum Vault {
    /// What opens the vault, and whether its keychain can now. Ends with a code of its own when
    /// it can't.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Starts without the password from now on. Asks for the master password.
    Remember {
        /// Keeps the key there: secret-service, systemd-credential, kernel-keyring,
        /// macos-keychain or windows-credential-manager. The best one that answers by default.
        #[arg(long = "in", value_name = "KEYCHAIN", conflicts_with = "key_file")]
        backend: Option<String>,
        /// Keeps the key in a file beside the configuration: whoever can read that file and the
        /// data folder can read everything.
        #[arg(long)]
        key_file: bool,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Starts with the password only from now on. Asks for the master password.
    Forget {
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Changes the master password, whether a daemon runs or not.
    Password(Password),
    /// Makes a new recovery phrase; the old one opens nothing here any more. Asks for the master
    /// password.
    Phrase {
        #[command(flatten)]
        password: PasswordFrom,
        /// Writes the phrase to this new file (mode 0600) instead of showing it.
        #[arg(long, value_name = "FILE")]
        recovery_file: Option<PathBuf>,
    },
    /// Sets a new master password on the strength of the recovery phrase.
    Recover {
        /// Reads the recovery phrase from this file.
        #[arg(long, value_name = "FILE")]
        phrase_file: Option<PathBuf>,
        /// Reads the new password from this file.
        #[arg(long, value_name = "FILE")]
        new_password_file: Option<PathBuf>,
    },
    /// Changes the keys themselves while everything runs, in steps that survive being cut off.
    /// Without `--compromised` a new root key, and a new recovery phrase; copies made before still
    /// open. With `--person`, that person's key alone. Asks for the master password.
    Rotate(Rotate),
    /// Writes a page to print and keep: what one needs when the password or the machine is lost.
    Kit {
        /// A new file (HTML, mode 0600).
        file: PathBuf,
        /// Makes a new recovery phrase and puts it on the page; the old one opens nothing here
        /// any more. Asks for the master password. Without this there is no secret in the file.
        #[arg(long)]
        new_phrase: bool,
        #[command(flatten)]
        password: PasswordFrom,
    },
}

#[derive(Args)]
pub(crate) struct Rotate {
    /// Somebody may have the keys: a new key for each person and each database too, all data
    /// rewritten, everybody signed out. Says which archives to destroy.
    #[arg(long, conflicts_with_all = ["purpose", "status"])]
    pub(crate) compromised: bool,
    /// Changes this key alone: system-database, person-database, working-memory, prompt-cache, log,
    /// bus-journal, bus-body, configuration, signing-key or bus-key. May be repeated. With
    /// `--person`, that person's database, working memory or prompt cache alone.
    #[arg(long, value_name = "PURPOSE", conflicts_with = "status")]
    pub(crate) purpose: Vec<String>,
    /// Says how far a change of keys is, and begins none.
    #[arg(long)]
    pub(crate) status: bool,
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
    /// Writes the new recovery phrase to this new file (mode 0600) instead of showing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Password {
    /// Reads the present password from this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Reads the new password from this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_password_file: Option<PathBuf>,
}
