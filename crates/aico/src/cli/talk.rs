//! Talking, and with whom.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::PasswordFrom;

#[derive(Args)]
pub(crate) struct Chat {
    /// Says this one thing, prints the answer and ends; `-`: what comes on standard input.
    #[arg(long, value_name = "TEXT")]
    pub(crate) once: Option<String>,
    /// Goes on with this conversation.
    #[arg(long, value_name = "ID")]
    pub(crate) conversation: Option<String>,
    /// Talks with this character, in a new conversation.
    #[arg(long, value_name = "NAME", conflicts_with = "conversation")]
    pub(crate) character: Option<String>,
    /// Prints one JSON object for each event.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}

#[derive(Subcommand)]
pub(crate) enum Conversation {
    /// The latest first.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// All that was said.
    Show {
        /// Its id.
        id: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Deletes it for good.
    Delete {
        /// Its id.
        id: String,
    },
    /// Searches titles and messages.
    Search {
        /// Words that must all occur.
        #[arg(required = true)]
        words: Vec<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum Character {
    /// Those that AICO brings along, and your own. The one for new conversations has a star.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// All about one: its texts, its models and whether they are here.
    Show {
        /// Its name or id.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Brings one in: a character card (PNG or JSON, versions 1 to 3) or a Modelfile.
    Import {
        /// The file; `-`: standard input.
        file: PathBuf,
        /// What it shall be called, instead of what the file says.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Writes one to a file that other programs read.
    Export {
        /// Its name or id.
        name: String,
        /// As what.
        #[arg(long, value_enum, default_value_t = CharacterFormat::Png)]
        format: CharacterFormat,
        /// Where to; `-`: standard output. Without it a file of its name, here.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Overwrites a file that is there.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Talks with this one in new conversations, or from now on in one that there is.
    Use {
        /// Its name or id.
        name: String,
        /// In this conversation only.
        #[arg(long, value_name = "ID")]
        conversation: Option<String>,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Makes one of your own.
    Create {
        /// What it is called.
        name: String,
        /// Begins with a copy of this one.
        #[arg(long, value_name = "NAME")]
        copy: Option<String>,
        /// Its texts, as JSON: {"system_prompt": "…"}; `-`: standard input.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Changes one of your own: the fields of a JSON file take the place of those that are there.
    Edit {
        /// Its name or id.
        name: String,
        /// What changes, as JSON: {"system_prompt": "…"}; `-`: standard input.
        file: PathBuf,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Removes one of your own. Its conversations stay, and go on with Aico.
    Remove {
        /// Its name or id.
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
}

impl Character {
    /// Where the person's password comes from, for `--person`.
    pub(crate) fn password(&self) -> &PasswordFrom {
        match self {
            Self::List { password, .. }
            | Self::Show { password, .. }
            | Self::Import { password, .. }
            | Self::Export { password, .. }
            | Self::Use { password, .. }
            | Self::Create { password, .. }
            | Self::Edit { password, .. }
            | Self::Remove { password, .. } => password,
        }
    }
}

/// As what a character is written.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum CharacterFormat {
    /// As Ollama has it.
    Modelfile,
    /// A card of version 2, as JSON.
    CardV2,
    /// A card of version 3, as JSON.
    CardV3,
    /// A picture with cards of both versions in it.
    Png,
}

impl CharacterFormat {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Modelfile => "modelfile",
            Self::CardV2 => "card-v2",
            Self::CardV3 => "card-v3",
            Self::Png => "png",
        }
    }
}
