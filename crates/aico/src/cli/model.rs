//! Models, and the programs and servers that run them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PasswordFrom;

#[derive(Subcommand)]
pub(crate) enum Model {
    /// Brings in a GGUF file where it lies, or copies the folder of a model for texts.
    Add {
        /// The file or folder; with an adapter also a model of the list, by its name.
        file: PathBuf,
        /// A GGUF file of an adapter (LoRA) for it: the two become a model of their own.
        #[arg(long, value_name = "FILE")]
        adapter: Option<PathBuf>,
        /// What it is to be called.
        #[arg(long)]
        name: Option<String>,
    },
    /// Models and the state of the one in use.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Answers with this model from now on, and shows how far it is loaded. Choosing another one
    /// meanwhile ends the load.
    Use {
        /// Its name or id, or a beginning that only it has.
        model: String,
        /// Returns as soon as it is chosen.
        #[arg(long)]
        detach: bool,
    },
    /// Tells how many tokens a text is for a model of AICO's own engine, with what the model's
    /// chat template adds.
    Count {
        /// The text.
        text: String,
        /// A model's name or id, or a beginning that only it has, instead of the one that is chosen
        /// for everybody.
        #[arg(long)]
        model: Option<String>,
    },
    /// Turns texts into vectors, each a line of JSON.
    Embed {
        /// The texts.
        texts: Vec<String>,
        /// A model's name instead of the one that was added first.
        #[arg(long)]
        model: Option<String>,
    },
    /// Forgets a model; its file stays. One for texts, and one of Ollama's (`ollama/NAME`), is
    /// removed with its files.
    Remove {
        /// Its whole name or id.
        model: String,
        /// Without asking.
        #[arg(long, short)]
        yes: bool,
    },
    /// Keeps a model in memory once it is there: it is neither unloaded when nobody asks it nor
    /// to make room for another.
    Pin {
        /// Its name or id, or a beginning that only it has.
        model: String,
    },
    /// Lets a model go when it is not needed, as any other.
    Unpin {
        /// Its name or id, or a beginning that only it has.
        model: String,
    },
    /// Models in memory: for how long, who asks them, how fast they are.
    Ps {
        /// As JSON, with the last hour and your own questions.
        #[arg(long)]
        json: bool,
    },
    /// Models that can be downloaded, and which suits this machine.
    Catalogue {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Downloads a model of the catalogue, or lets Ollama download one (`ollama/NAME`), after
    /// saying what, how large, from where and under which licence. It goes on when this command
    /// ends.
    Pull(PullModel),
    /// Makes a model in Ollama by a Modelfile, of a GGUF file or of a character.
    Create(CreateModel),
    /// What is known of a model.
    Show {
        /// Its name or id, or a beginning that only it has; `ollama/NAME` for one of Ollama's.
        model: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Downloads and how far they are.
    Pulls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct PullModel {
    /// Its name in the catalogue (aico model catalogue), or `ollama/` and its name there.
    pub(crate) name: String,
    /// Without asking.
    #[arg(long, short, conflicts_with = "cancel")]
    pub(crate) yes: bool,
    /// Answers with it as soon as it is here.
    #[arg(long, conflicts_with = "cancel")]
    pub(crate) r#use: bool,
    /// Returns as soon as it is on its way.
    #[arg(long, conflicts_with = "cancel")]
    pub(crate) detach: bool,
    /// Ends a download, and removes what was downloaded of it.
    #[arg(long)]
    pub(crate) cancel: bool,
}

#[derive(Args)]
pub(crate) struct CreateModel {
    /// The program and the model's name there: ollama/aria.
    pub(crate) name: String,
    /// A Modelfile, or a file in GGUF format.
    #[arg(required_unless_present = "character")]
    pub(crate) file: Option<PathBuf>,
    /// A character of yours in place of a file.
    #[arg(long, conflicts_with = "file")]
    pub(crate) character: Option<String>,
    /// The model or GGUF file that it is made of, in place of what FROM says.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Without asking.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Answers with it as soon as it is there.
    #[arg(long)]
    pub(crate) r#use: bool,
    /// Returns as soon as it is on its way.
    #[arg(long)]
    pub(crate) detach: bool,
}

#[derive(Subcommand)]
pub(crate) enum Engine {
    /// Which there are, where they are, how they were last, and whether you allowed them.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Asks one what models it has, and tells what is wrong when it does not answer.
    Check {
        /// Its name in the configuration.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lets what you ask its models go to that machine; with `--person`, what that person asks.
    Allow {
        /// Its name in the configuration.
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Lets nothing more go there, from the next question on.
    Forbid {
        /// Its name in the configuration.
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Installs Ollama for this user, after saying what, how large, from where and under which
    /// licence. Needs no root, and goes on where it was cut off.
    Install {
        /// Which.
        #[arg(value_parser = ["ollama"])]
        name: String,
        /// Without asking.
        #[arg(long, short)]
        yes: bool,
    },
    /// Removes an Ollama that AICO installed; its models stay.
    Remove {
        /// Which.
        #[arg(value_parser = ["ollama"])]
        name: String,
        /// Its models too.
        #[arg(long)]
        models: bool,
    },
    /// What of it runs, and what is installed.
    Status {
        /// Which.
        #[arg(value_parser = ["ollama"])]
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Egress {
    /// When what went where and how much it was, the newest first; no word of it.
    List {
        /// At most so many.
        #[arg(long, value_name = "NUMBER", default_value_t = 50,
            value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        password: PasswordFrom,
    },
}
