//! What can go wrong with another program that runs models, and what a person is told of it.

use std::time::Duration;

use aico_contracts::v1::Fault;

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The connection.
    Connect,
    /// The first piece of an answer; a model may have to be loaded for it.
    FirstToken,
    /// The next piece.
    NextToken,
}

/// Why another program did not answer. Holds no text of a conversation, and nothing that the other
/// side wrote except where it says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// Nobody listens at its address.
    #[error("nobody listens at {address}")]
    Absent {
        /// Host and port.
        address: String,
    },
    /// Nobody listens at its address on this machine, and there is none that could be started.
    #[error("nobody listens at {address}, and none is installed")]
    NotInstalled {
        /// Host and port.
        address: String,
    },
    /// The name of its host is not known, or the network does not lead there.
    #[error("{address} can't be reached")]
    Unreachable {
        /// Host and port.
        address: String,
    },
    /// Its certificate is not one that this machine trusts.
    #[error("the certificate of {address} is not trusted")]
    Certificate {
        /// Host and port.
        address: String,
    },
    /// Something answers there that is another program.
    #[error("another program answers at {address}")]
    OtherProgram {
        /// Host and port.
        address: String,
    },
    /// It is older than what we can talk to.
    #[error("version {found} is older than {needed}")]
    TooOld {
        /// As it told.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// It wants a key, or another one.
    #[error("the key is refused")]
    Key,
    /// The secret that is its key is not set.
    #[error("there is no secret named {name}")]
    KeyMissing {
        /// Of the secret; nothing of itself.
        name: String,
    },
    /// What is sent could be read on its way.
    #[error("the way to {address} is not encrypted")]
    Unencrypted {
        /// Host and port.
        address: String,
    },
    /// It does not have this model.
    #[error("the model is not there")]
    ModelMissing,
    /// The model can't do what was asked: images, tools, thinking, embeddings.
    #[error("the model can't do this")]
    NotCapable {
        /// What: `tools`, `images`, ….
        what: &'static str,
    },
    /// The question does not fit into the model's context.
    #[error("the question is too long for the model")]
    TooLong,
    /// It does not understand the question; a defect of one of both.
    #[error("the question was refused (HTTP {status})")]
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// The model answers somebody, and stays in memory.
    #[error("the model answers somebody")]
    InUse,
    /// Another program has loaded the model; it is not ours to unload.
    #[error("another program has loaded the model")]
    LoadedByOthers,
    /// It has too much to do.
    #[error("too many questions wait there")]
    Busy,
    /// It has too much to do, and says when to come again.
    #[error("it asks to be left alone for {wait:?}")]
    Throttled {
        /// Until then.
        wait: Duration,
    },
    /// There is not enough memory for the model.
    #[error("the memory does not suffice for the model")]
    Memory,
    /// It failed at its work.
    #[error("it failed (HTTP {status})")]
    Failed {
        /// HTTP status.
        status: u16,
    },
    /// Its answer ended before its end.
    #[error("the answer was cut off")]
    CutOff,
    /// What came is not what it should be: half a JSON line, a line without end.
    #[error("the answer can't be read")]
    Unreadable,
    /// It took too long.
    #[error("it did not answer within {limit:?}")]
    TimedOut {
        /// For what.
        waited_for: Wait,
        /// The limit.
        limit: Duration,
    },
    /// It failed so often that it is left alone for a while.
    #[error("it is not asked for a while")]
    Resting {
        /// Until it is asked again.
        left: Duration,
    },
    /// The person whose words they are did not agree that they go there.
    #[error("it may not be asked")]
    NotAllowed,
    /// The model runs on another machine, behind a program that runs on this one.
    #[error("the model runs elsewhere")]
    Elsewhere,
    /// What leaves this machine is noted first, and that could not be done.
    #[error("what would be sent can't be noted")]
    NotNoted,
    /// It is installed here and does not start.
    #[error("it does not start")]
    NotStarted,
    /// Its disk is full.
    #[error("its disk is full")]
    DiskFull,
    /// Its disk can only be read.
    #[error("its disk can only be read")]
    DiskReadOnly,
    /// Its disk failed at reading or writing.
    #[error("its disk failed")]
    DiskFailing,
    /// A file that it should get can't be read.
    #[error("the file can't be read")]
    FileUnreadable,
    /// A file that it should get is no model.
    #[error("the file is no model")]
    NotAModel,
    /// The server that it has its models from can't be reached.
    #[error("the server that it has its models from can't be reached")]
    RegistryUnreachable,
    /// What it downloaded is not what it should be.
    #[error("what it downloaded is not what it should be")]
    WrongBytes,
    /// The model is made for a newer version of it.
    #[error("the model needs a newer version of it")]
    TooOldForModel,
}

impl BackendError {
    /// Whether it says something of the program's health, and not of one question.
    #[must_use]
    pub fn is_of_the_program(&self) -> bool {
        !matches!(
            self,
            Self::ModelMissing
                | Self::NotCapable { .. }
                | Self::TooLong
                | Self::Refused { .. }
                | Self::InUse
                | Self::LoadedByOthers
                | Self::Busy
                | Self::Throttled { .. }
                | Self::Resting { .. }
                | Self::NotAllowed
                | Self::NotNoted
                | Self::Elsewhere
                | Self::DiskFull
                | Self::DiskReadOnly
                | Self::DiskFailing
                | Self::FileUnreadable
                | Self::NotAModel
                | Self::RegistryUnreachable
                | Self::WrongBytes
                | Self::TooOldForModel
        )
    }

    /// For the person who asked `backend`.
    #[must_use]
    pub fn to_fault(&self, backend: &str) -> Fault {
        let again = "Ask again. If it stays so, look at its own log, or choose another model.";
        match self {
            Self::Absent { address } => {
                Fault::new("engine-absent", format!("{backend} does not run"))
                    .with_detail(format!("Nobody listens at {address}."))
                    .with_what_to_do(format!("Start {backend}, or choose another model."))
            }
            Self::NotInstalled { address } => {
                Fault::new("engine-absent", format!("{backend} does not run"))
                    .with_detail(format!("Nobody listens at {address}, and none was found."))
                    .with_what_to_do(
                        "Install it under Settings, Servers or with `aico engine install ollama`, \
                         start one that you have, or choose another model.",
                    )
            }
            Self::Unreachable { address } => {
                Fault::new("engine-unreachable", format!("{backend} can't be reached"))
                    .with_detail(format!("The network does not lead to {address}."))
                    .with_what_to_do("Look at the network and at the address in the configuration.")
            }
            Self::Certificate { address } => Fault::new(
                "engine-certificate",
                format!("{backend} can't prove who it is"),
            )
            .with_detail(format!(
                "This machine does not trust the certificate of {address}."
            ))
            .with_what_to_do("Let this machine trust its certificate, or correct the address."),
            Self::OtherProgram { address } => Fault::new(
                "engine-other-program",
                format!("Another program runs in the place of {backend}"),
            )
            .with_detail(format!("What answers at {address} is not {backend}."))
            .with_what_to_do("Correct the address in the configuration, or end that program."),
            Self::TooOld { found, needed } => {
                Fault::new("engine-too-old", format!("{backend} is too old"))
                    .with_detail(format!("It is {found}; AICO needs {needed} or newer."))
                    .with_what_to_do(format!("Bring {backend} up to date."))
            }
            Self::Key => Fault::new("engine-key", format!("{backend} refuses the key"))
                .with_what_to_do("Set its key anew: `aico config secret set NAME`."),
            Self::KeyMissing { name } => {
                Fault::new("engine-key", format!("The key for {backend} is not set"))
                    .with_detail(format!("The configuration names secret:{name}."))
                    .with_what_to_do(format!("Set it: `aico config secret set {name}`."))
            }
            Self::Unencrypted { address } => Fault::new(
                "engine-unencrypted",
                format!("The way to {backend} is not encrypted"),
            )
            .with_detail(format!(
                "What is said to {address} could be read on its way."
            ))
            .with_what_to_do(
                "Use an https address. Within the home network the configuration can allow it: \
                 docs/engines.md.",
            ),
            Self::ModelMissing => Fault::new(
                "model-missing",
                format!("{backend} does not have the model"),
            )
            .with_what_to_do("Choose another one: `aico model list`, `aico model use`."),
            Self::NotCapable { what } => Fault::new(
                "model-not-capable",
                format!("This model has nothing for {what}"),
            )
            .with_what_to_do("Choose another model for this."),
            Self::TooLong => Fault::too_long("The question does not fit into the model's context")
                .with_what_to_do("Ask something shorter, or choose a model with more context."),
            Self::Refused { status } => Fault::new(
                "engine-refused",
                format!("{backend} does not understand the question"),
            )
            .with_detail(format!("HTTP {status}."))
            .with_what_to_do("Bring it or AICO up to date."),
            Self::InUse => Fault::conflict("Somebody is being answered by this model")
                .with_what_to_do("It is unloaded by itself when nobody asks it."),
            Self::LoadedByOthers => Fault::conflict("Another program has loaded this model")
                .with_detail(format!(
                    "AICO has not asked it since it started, and leaves it to {backend}."
                ))
                .with_what_to_do("Let that program unload it, or use `ollama stop`."),
            Self::Busy => Fault::busy(format!("Too many questions wait for {backend}")),
            Self::Throttled { wait } => {
                Fault::busy(format!("Too many questions wait for {backend}"))
                    .with_what_to_do(format!("Ask again in {} s.", wait.as_secs().max(1)))
            }
            Self::Memory => Fault::new("model-too-large", "The model does not fit into memory")
                .with_what_to_do("Choose a smaller model."),
            Self::Failed { status } => Fault::new("engine-failed", format!("{backend} failed"))
                .with_detail(format!("HTTP {status}."))
                .with_what_to_do(again),
            Self::CutOff => Fault::new("engine-cut-off", format!("{backend} ended in the middle"))
                .with_what_to_do(again),
            Self::Unreadable => Fault::new(
                "engine-unreadable",
                format!("What {backend} answered can't be read"),
            )
            .with_what_to_do(again),
            Self::TimedOut { waited_for, limit } => {
                let what = match waited_for {
                    Wait::Connect => "take the connection",
                    Wait::FirstToken => "begin its answer",
                    Wait::NextToken => "go on with its answer",
                };
                Fault::new("engine-timeout", format!("{backend} takes too long"))
                    .with_detail(format!("It did not {what} within {} s.", limit.as_secs()))
                    .with_what_to_do(again)
            }
            Self::Resting { left } => {
                Fault::new("engine-resting", format!("{backend} failed several times"))
                    .with_detail(format!("It is asked again in {} s.", left.as_secs().max(1)))
                    .with_what_to_do("Wait, or choose another model.")
            }
            Self::NotAllowed => Fault::new(
                "engine-not-allowed",
                format!("You have not allowed that what you write goes to {backend}"),
            )
            .with_detail("It is another machine. Nothing was sent.")
            .with_what_to_do(format!(
                "Allow it under Settings, Servers, or with `aico engine allow {backend}`; or \
                 choose another model."
            )),
            Self::Elsewhere => Fault::new(
                "engine-elsewhere",
                format!("This model of {backend} runs on a server of its makers"),
            )
            .with_detail("What you ask it would leave this machine. Nothing was sent.")
            .with_what_to_do("Choose a model that runs here."),
            Self::NotNoted => Fault::new("unavailable", format!("Nothing was sent to {backend}"))
                .with_detail("What leaves this machine is noted first, and that can't be done now.")
                .with_what_to_do("See whether the disk is full: `aico doctor`."),
            Self::NotStarted => {
                Fault::new("engine-not-started", format!("{backend} does not start"))
                    .with_detail("It is installed on this machine, and ended or stayed silent.")
                    .with_what_to_do(
                        "Start it by hand to see what it says, or install it anew: it is tried \
                         again within a minute.",
                    )
            }
            Self::DiskFull => Fault::storage_full().with_what_to_do(format!(
                "Free some space where {backend} has its models, then ask again: what was \
                 downloaded is kept."
            )),
            Self::DiskReadOnly => Fault::storage_read_only().with_what_to_do(format!(
                "Make the disk writable where {backend} has its models, then ask again."
            )),
            Self::DiskFailing => Fault::storage_failing()
                .with_detail(format!("It is the one where {backend} has its models.")),
            Self::FileUnreadable => Fault::new("model-missing", "The model's file can't be read")
                .with_what_to_do("Check its path, and that this user may read it."),
            Self::NotAModel => Fault::new("not-a-model", "This file is no model")
                .with_what_to_do("Choose a file in GGUF format."),
            Self::RegistryUnreachable => Fault::new(
                "offline",
                format!("{backend} can't reach the server that it has its models from"),
            )
            .with_what_to_do(
                "Check this computer's connection. What was downloaded is kept: ask for it again.",
            ),
            Self::WrongBytes => Fault::new(
                "download-wrong",
                format!("What {backend} downloaded is not what it should be"),
            )
            .with_what_to_do("Nothing of it was used. Ask for it again later."),
            Self::TooOldForModel => Fault::new(
                "engine-too-old",
                format!("{backend} is too old for this model"),
            )
            .with_what_to_do(format!(
                "Bring {backend} up to date, or choose another model."
            )),
        }
    }
}
