//! What is kept: backups, stores, exports, encrypted files.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PasswordFrom;

#[derive(Subcommand)]
pub(crate) enum Backup {
    /// Makes one, encrypted, while AICO goes on; with `--person`, of that person's data only.
    Create(CreateBackup),
    /// Which there are in a folder, the newest first.
    List {
        /// The folder, instead of the usual one.
        folder: Option<PathBuf>,
        /// One JSON object for each.
        #[arg(long)]
        json: bool,
    },
    /// Reads a backup from the first byte to the last, and tells what is in it. Changes nothing.
    Verify {
        /// The file.
        archive: PathBuf,
        #[command(flatten)]
        opens: Opens,
    },
    /// The same as `aico restore`.
    Restore(Restore),
}

#[derive(Subcommand)]
pub(crate) enum Store {
    /// Says of each store what is sound and what is damaged, while AICO goes on, and what can be
    /// put back from where. Changes nothing.
    Check {
        /// Authenticates every page and every record too: everything is read.
        #[arg(long)]
        full: bool,
        /// One JSON object for each, and a last one that counts.
        #[arg(long)]
        json: bool,
    },
    /// Takes the older copy of a person's data, that was put in the place of the present one, as
    /// the one that counts. Until then it can be read and not written.
    Accept {
        /// Whose.
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct CreateBackup {
    /// Writes it to this folder, instead of one beside the data folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: Option<PathBuf>,
    /// Removes older ones, but the newest of each of the last so many days.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_daily: Option<u32>,
    /// Removes older ones, but the newest of each of the last so many weeks.
    #[arg(long, value_name = "WEEKS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_weekly: Option<u32>,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Restore {
    /// The backup.
    pub(crate) archive: PathBuf,
    /// Restores to this new folder, instead of the data folder.
    #[arg(long, value_name = "NEW_FOLDER")]
    pub(crate) to: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) opens: Opens,
}

/// What opens a backup: the master password or the recovery phrase of when it was made.
#[derive(Args)]
pub(crate) struct Opens {
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
    /// Reads the recovery phrase from this file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_file", "password_stdin"])]
    pub(crate) phrase_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Export {
    /// A folder that is not there yet.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: PathBuf,
    /// Packs it into one file that only you can open, with `aico file decrypt` and this AICO; FOLDER
    /// is then the name of that file. Nothing of it is written in clear.
    #[arg(long)]
    pub(crate) encrypt: bool,
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}

#[derive(Subcommand)]
pub(crate) enum File {
    /// Writes an encrypted copy of a file; the file itself stays.
    Encrypt(FileCopy),
    /// Writes what is in an encrypted file to a file that only you can read, after all of it
    /// was checked.
    Decrypt(FileCopy),
    /// Checks encrypted files from the first byte to the last, and writes nothing.
    Verify {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Prints what is in an encrypted file, after all of it was checked.
    Cat {
        /// The file.
        file: PathBuf,
        /// Only the file with this id.
        #[arg(long, value_name = "ID")]
        id: Option<uuid::Uuid>,
        #[command(flatten)]
        password: PasswordFrom,
    },
}

#[derive(Args)]
pub(crate) struct FileCopy {
    /// The file; to encrypt what comes on standard input: -
    pub(crate) file: PathBuf,
    /// Where to write, instead of beside it with `.aico` put to its name or taken off.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Takes the place of a file that is there.
    #[arg(long)]
    pub(crate) force: bool,
    /// The id of the file: to give a new one the id of one that it replaces, or to open only
    /// the file with this id.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<uuid::Uuid>,
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}
