//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use aico_bus::Trace;
use clap::{Args, Parser, Subcommand, ValueEnum};

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
}

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
    /// Changes this key alone: system-database, person-database, working-memory, signing-key or
    /// bus-key. May be repeated.
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
pub(crate) struct Serve {
    /// Listens here instead of `gateway.bind`; port 0 chooses a free one.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) bind: Option<SocketAddr>,
    /// Unlocks at the start with the password in this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

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
}

#[derive(Args)]
pub(crate) struct CreateBackup {
    /// Writes it to this folder, instead of one beside the data folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: Option<PathBuf>,
    /// Removes older ones, but the newest of each of the last so many days.
    #[arg(long, value_name = "DAYS")]
    pub(crate) keep_daily: Option<u32>,
    /// Removes older ones, but the newest of each of the last so many weeks.
    #[arg(long, value_name = "WEEKS")]
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
pub(crate) enum Model {
    /// Brings in a GGUF file where it lies.
    Add {
        /// The file.
        file: PathBuf,
    },
    /// Models and the state of the one in use.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Answers with this model from now on.
    Use {
        /// Its name or id.
        model: String,
    },
    /// Forgets a model; its file stays.
    Remove {
        /// Its name or id.
        model: String,
    },
    /// Models that can be downloaded, and which suits this machine.
    Catalogue {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Downloads a model of the catalogue, after saying what, how large, from where and under
    /// which licence. It goes on when this command ends.
    Pull(PullModel),
    /// Downloads and how far they are.
    Pulls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct PullModel {
    /// Its name in the catalogue: aico model catalogue.
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
    /// `--person`, for that person.
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

#[derive(Args)]
pub(crate) struct Password {
    /// Reads the present password from this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Reads the new password from this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_password_file: Option<PathBuf>,
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

#[derive(Subcommand)]
pub(crate) enum Contracts {
    /// Writes the `.proto` files into a folder.
    Export {
        /// The folder, made when missing.
        folder: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
