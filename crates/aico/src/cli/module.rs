//! Modules and other programs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PasswordFrom;

#[derive(Subcommand)]
pub(crate) enum Module {
    /// Admits a module and writes its connection file. It gets the owner's data only, unless
    /// `--person` or `--for` names others, who then have to agree.
    Add(ModuleAdd),
    /// Who is admitted, for what and for whom.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Cuts a module off, for good.
    Revoke {
        /// Its name.
        name: String,
    },
    /// Gives a module new keys and writes a new connection file; the old ones are void at once.
    Rotate {
        /// Its name.
        name: String,
        /// Where to write its connection file, instead of `NAME.json` here.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Lets a module that asks for it have your data; with `--person`, that person's.
    Agree {
        /// Its name.
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Lets a module have your data no longer; with `--person`, that person's.
    Withdraw {
        /// Its name.
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
}

#[derive(Args)]
pub(crate) struct ModuleAdd {
    /// Its name: a to z, 0 to 9 and -, a letter first.
    pub(crate) name: String,
    /// Topics that it may publish to: `weather.#`. May be repeated, like the next three.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) publish: Vec<String>,
    /// Topics that it may subscribe to: `conversation.*.#`.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) subscribe: Vec<String>,
    /// Topics that it may ask on: `models.generate`.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) request: Vec<String>,
    /// Topics that it may answer on: `weather.today`.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) serve: Vec<String>,
    /// Asks for this person's data. May be repeated.
    #[arg(long = "for", value_name = "NAME")]
    pub(crate) persons: Vec<String>,
    /// Where to write its connection file, instead of `NAME.json` here.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Token {
    /// Makes a token and prints it, this once. A program that shows it acts for you; with
    /// `--person`, for that person. One of the owner's also reads the figures at `/metrics`.
    Create {
        /// What it is for: "Editor".
        #[arg(long)]
        name: String,
        /// Days until it expires, at most 365.
        #[arg(long, value_name = "DAYS", default_value_t = 90,
            value_parser = clap::value_parser!(u32).range(1..=365))]
        expires: u32,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Which there are, until when they count, and when each was used last.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Ends one, at once and for good.
    Revoke {
        /// Its name.
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
}

#[derive(Subcommand)]
pub(crate) enum Bus {
    /// Shows messages as they are published: the system's and yours.
    Tail {
        /// A pattern of topics: `*` one segment, `#` the rest.
        #[arg(default_value = "#")]
        pattern: String,
        /// As JSON, with the payloads in base64.
        #[arg(long)]
        json: bool,
    },
    /// Traffic, its rates by identity, queues and drops.
    Stats {
        /// Over how many seconds the rates are measured; 0 for none.
        #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=3600))]
        over: u32,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Contracts {
    /// Writes the `.proto` files into a folder.
    Export {
        /// The folder, made when missing.
        folder: PathBuf,
    },
}
