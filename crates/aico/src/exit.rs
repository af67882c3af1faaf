//! Exit codes with meaning, and how a failure is told. docs/exit-codes.md lists them.

use aico_access::{ErrorKind, HomeError};
use aico_vault::KeychainState;

use crate::style;

/// Why the program ended. The numbers are an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// A defect, or something of the system that has no code of its own.
    Unexpected = 1,
    /// The command line (clap ends with it too).
    Usage = 2,
    /// No daemon serves this data folder.
    NotRunning = 3,
    /// The vault is locked.
    Locked = 4,
    /// Wrong name or password.
    WrongPassword = 5,
    /// There is no vault yet.
    NotSetUp = 6,
    /// Another daemon has the data folder.
    InUse = 7,
    /// The address can't be bound.
    PortTaken = 8,
    /// The data folder can't be used as it is.
    Folder = 9,
    /// Data is damaged, missing or not what was left here.
    Damaged = 10,
    /// The data is of a newer program.
    NewerData = 11,
    /// The disk is full.
    StorageFull = 12,
    /// No such thing.
    NotFound = 13,
    /// The model can't answer.
    ModelFailed = 14,
    /// The request was understood and refused.
    Refused = 15,
    /// Program and daemon are of different versions.
    VersionMismatch = 16,
    /// The configuration is wrong.
    Configuration = 17,
    /// It is set up already.
    AlreadySetUp = 18,
    /// `doctor` found something to mend.
    Unwell = 19,
    /// The keychain is locked.
    KeychainLocked = 20,
    /// No keychain answers.
    KeychainAbsent = 21,
    /// The keychain no longer holds the key.
    KeychainChanged = 22,
    /// The keychain holds another key.
    KeychainWrong = 23,
    /// The folder for backups or exports can't be used.
    Target = 24,
    /// The disk can only be read.
    StorageReadOnly = 25,
    /// `store check` found damage.
    DamageFound = 26,
    /// The server of a download can't be reached.
    Offline = 27,
    /// A download failed.
    DownloadFailed = 28,
    /// A download is not what it should be.
    DownloadWrong = 29,
    /// A download leads where it may not go.
    AddressRefused = 30,
    /// The disk failed at reading or writing.
    StorageFailing = 31,
    /// Another program that runs models can't be used.
    Engine = 32,
    /// Such a program is not there.
    EngineAway = 40,
    /// What answers in its place can't be talked to.
    EngineWrong = 41,
    /// It takes too long, or is left alone for a while.
    EngineSlow = 42,
    /// It may not be asked as things are.
    EngineBarred = 43,
}

impl Exit {
    #[cfg(test)]
    const ALL: &'static [(Self, &'static str)] = &[
        (
            Self::Unexpected,
            "something that has no code of its own; the message says what",
        ),
        (Self::Usage, "the command line is wrong"),
        (Self::NotRunning, "no daemon serves this data folder"),
        (Self::Locked, "the vault is locked"),
        (
            Self::WrongPassword,
            "the name, the password or the recovery phrase is wrong",
        ),
        (Self::NotSetUp, "there is no vault yet"),
        (
            Self::InUse,
            "another daemon has the data folder; the message names its process",
        ),
        (Self::PortTaken, "the address can't be bound"),
        (
            Self::Folder,
            "the data folder can't be used as it is; the message says what mends it",
        ),
        (
            Self::Damaged,
            "data is damaged, missing, or not what was left here; nothing was changed",
        ),
        (
            Self::NewerData,
            "the data was written by a newer program; nothing was changed",
        ),
        (
            Self::StorageFull,
            "the disk is full; nothing acknowledged is lost",
        ),
        (
            Self::NotFound,
            "there is no such conversation, person, model or file",
        ),
        (
            Self::ModelFailed,
            "the model can't answer; what it said so far is kept",
        ),
        (
            Self::Refused,
            "the request was understood and refused; the message says why",
        ),
        (
            Self::VersionMismatch,
            "program and running daemon are of different versions",
        ),
        (
            Self::Configuration,
            "the configuration is wrong; the message names key and line",
        ),
        (Self::AlreadySetUp, "there is a vault already"),
        (Self::Unwell, "`aico doctor` found something to mend"),
        (Self::KeychainLocked, "the keychain is there and locked"),
        (Self::KeychainAbsent, "no keychain answers"),
        (
            Self::KeychainChanged,
            "the keychain no longer holds what AICO left in it",
        ),
        (
            Self::KeychainWrong,
            "the key in the keychain does not open this vault",
        ),
        (
            Self::Target,
            "the folder for backups or exports can't be used; the message says what mends it",
        ),
        (
            Self::StorageReadOnly,
            "the disk can only be read; nothing acknowledged is lost",
        ),
        (
            Self::DamageFound,
            "`aico store check` found damage; the message says what can be put back from where",
        ),
        (
            Self::Offline,
            "the server of a download can't be reached; what was downloaded is kept",
        ),
        (
            Self::DownloadFailed,
            "a download failed; what was downloaded is kept",
        ),
        (
            Self::DownloadWrong,
            "what was downloaded is not the file of the catalogue; nothing of it was used",
        ),
        (
            Self::AddressRefused,
            "a download leads where it may not go: this machine, the home network, or without TLS",
        ),
        (
            Self::StorageFailing,
            "the disk failed at reading or writing; what was acknowledged is kept",
        ),
        (
            Self::Engine,
            "another program that runs models can't be used; the message says why",
        ),
        (
            Self::EngineAway,
            "another program that runs models is not there: nobody listens, or the network does not lead to it",
        ),
        (
            Self::EngineWrong,
            "what answers in the place of a program that runs models is another one, too old, or can't be understood",
        ),
        (
            Self::EngineSlow,
            "another program that runs models takes too long, or failed several times and is left alone for a while",
        ),
        (
            Self::EngineBarred,
            "another program that runs models may not be asked: its key, its certificate, the way to it, or no consent",
        ),
    ];
}

/// A failure as a person reads it: what happened, why, what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) why: Option<String>,
    pub(crate) what_to_do: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            why: None,
            what_to_do: None,
        }
    }

    /// About something of the data folder that the system refused.
    pub(crate) fn of_folder(what: impl Into<String>, error: &std::io::Error) -> Self {
        let (exit, what_to_do) = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => (
                Exit::StorageFull,
                "Free some space on the disk, then try again.",
            ),
            std::io::ErrorKind::ReadOnlyFilesystem => (
                Exit::StorageReadOnly,
                "Make the disk writable, then try again.",
            ),
            _ if aico_vault::fs::disk_failed(error) => (
                Exit::StorageFailing,
                "See the system's log and the disk's own report (smartctl -a).",
            ),
            _ => (
                Exit::Folder,
                "Check that the data folder belongs to you and can be written.",
            ),
        };
        Self::new(exit, what).because(error).do_this(what_to_do)
    }

    pub(crate) fn because(mut self, error: &dyn std::error::Error) -> Self {
        self.why = Some(chain(error));
        self
    }

    pub(crate) fn do_this(mut self, what_to_do: impl Into<String>) -> Self {
        self.what_to_do = Some(what_to_do.into());
        self
    }

    /// To standard error, and the code to end with.
    pub(crate) fn report(&self) -> u8 {
        // Paths and names of others may be in it.
        style::error(&style::harmless(&self.what));
        if let Some(why) = self.why.as_deref().filter(|why| !why.is_empty()) {
            style::detail(&style::harmless(why));
        }
        if let Some(what_to_do) = &self.what_to_do {
            style::hint(&style::harmless(what_to_do));
        }
        self.exit as u8
    }
}

/// The causes of an error, outermost first, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts.join(": ")
}

impl Exit {
    /// Of a program that runs models, by the code that it is told with; `None` for any other.
    pub(crate) fn of_engine(code: &str) -> Option<Self> {
        Some(match code.strip_prefix("engine-")? {
            "absent" | "unreachable" | "not-started" => Self::EngineAway,
            "other-program" | "too-old" | "refused" | "unreadable" => Self::EngineWrong,
            "timeout" | "resting" => Self::EngineSlow,
            "key" | "certificate" | "unencrypted" | "not-allowed" | "elsewhere" => {
                Self::EngineBarred
            }
            _ => Self::Engine,
        })
    }
}

impl From<KeychainState> for Exit {
    fn from(state: KeychainState) -> Self {
        match state {
            KeychainState::Locked => Self::KeychainLocked,
            KeychainState::Absent => Self::KeychainAbsent,
            KeychainState::Changed => Self::KeychainChanged,
            KeychainState::Wrong => Self::KeychainWrong,
        }
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        let exit = match error.kind() {
            ErrorKind::AlreadySetUp => Exit::AlreadySetUp,
            ErrorKind::NotSetUp => Exit::NotSetUp,
            ErrorKind::Locked | ErrorKind::Stopping | ErrorKind::PersonLocked => Exit::Locked,
            ErrorKind::WrongPassword
            | ErrorKind::WrongPhrase
            | ErrorKind::SignInFailed
            | ErrorKind::TokenInvalid => Exit::WrongPassword,
            ErrorKind::Keychain(state) => state.into(),
            ErrorKind::SlowDown { .. }
            | ErrorKind::WeakPassword
            | ErrorKind::PhraseInvalid
            | ErrorKind::SetupCode { .. }
            | ErrorKind::NameTaken
            | ErrorKind::NameInvalid
            | ErrorKind::GrantInvalid
            | ErrorKind::ModuleExists
            | ErrorKind::TokenConflict
            | ErrorKind::OwnerStays
            | ErrorKind::Rotation
            | ErrorKind::Invalid => Exit::Refused,
            ErrorKind::NotFound => Exit::NotFound,
            ErrorKind::StorageFull => Exit::StorageFull,
            ErrorKind::StorageReadOnly => Exit::StorageReadOnly,
            ErrorKind::StorageFailing => Exit::StorageFailing,
            ErrorKind::Damaged | ErrorKind::ArchiveDamaged => Exit::Damaged,
            ErrorKind::BackupConflict => Exit::Refused,
            ErrorKind::TargetUnusable => Exit::Target,
            ErrorKind::NewerData => Exit::NewerData,
            ErrorKind::FolderUnusable => Exit::Folder,
            ErrorKind::Busy | ErrorKind::Other => Exit::Unexpected,
        };
        let mut failure = Self::new(exit, sentence(&error.to_string()));
        failure.why = std::error::Error::source(&error).map(chain);
        failure.what_to_do = error.what_to_do();
        failure
    }
}

/// With a capital letter and a full stop. What does not begin with a word, such as a path or a key
/// of the configuration, begins as it is spelt.
pub(crate) fn sentence(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let word = word.trim_end_matches([',', ':', ';', '.', '!', '?']);
    let mut out = String::with_capacity(text.len() + 1);
    let mut letters = text.chars();
    if word.chars().all(|c| c.is_alphabetic() || "'’-".contains(c)) {
        out.extend(letters.next().into_iter().flat_map(char::to_uppercase));
    }
    out.push_str(letters.as_str());
    if !out.ends_with(['.', '!', '?']) {
        out.push('.');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_this_one() {
        let documented = include_str!("../../../docs/exit-codes.md");
        for (exit, meaning) in Exit::ALL {
            let line = format!("| {} | {meaning} |", *exit as u8);
            assert!(
                documented.contains(&line),
                "docs/exit-codes.md lacks: {line}"
            );
        }
        let rows = documented
            .lines()
            .filter(|l| l.starts_with("| ") && !l.starts_with("| code"))
            .count();
        assert_eq!(
            rows,
            Exit::ALL.len() + 1,
            "a row that no code has (0 is the one more)"
        );
    }

    #[test]
    fn a_sentence_has_a_capital_letter_and_a_path_none() {
        assert_eq!(sentence("it can't be, now"), "It can't be, now.");
        assert_eq!(sentence("stopped: why?"), "Stopped: why?");
        assert_eq!(sentence("über allem"), "Über allem.");
        assert_eq!(
            sentence("letter.txt is no encrypted file"),
            "letter.txt is no encrypted file."
        );
        assert_eq!(sentence("a/b is damaged."), "a/b is damaged.");
        assert_eq!(sentence(""), ".");
    }

    #[test]
    fn what_is_wrong_with_a_program_that_runs_models_ends_with_a_code_of_its_own() {
        for (code, number) in [
            ("engine-absent", 40),
            ("engine-unreachable", 40),
            ("engine-other-program", 41),
            ("engine-unreadable", 41),
            ("engine-timeout", 42),
            ("engine-resting", 42),
            ("engine-key", 43),
            ("engine-not-allowed", 43),
            ("engine-failed", 32),
            ("engine-of-tomorrow", 32),
        ] {
            let exit = Exit::of_engine(code).map(|exit| exit as u8);
            assert_eq!(exit, Some(number), "{code}");
        }
        assert_eq!(Exit::of_engine("model-failed"), None);
    }

    #[test]
    fn every_fault_of_such_a_program_is_known_to_the_api() {
        use aico_models::backend::{BackendError as E, Wait};
        let address = || "127.0.0.1:9".to_owned();
        let limit = std::time::Duration::from_secs(3);
        let waited_for = Wait::FirstToken;
        let all = [
            E::Absent { address: address() },
            E::Unreachable { address: address() },
            E::Certificate { address: address() },
            E::OtherProgram { address: address() },
            E::TooOld {
                found: "0.1".into(),
                needed: "0.12",
            },
            E::Key,
            E::Unencrypted { address: address() },
            E::ModelMissing,
            E::TooLong,
            E::Refused { status: 400 },
            E::Busy,
            E::Memory,
            E::Failed { status: 500 },
            E::CutOff,
            E::Unreadable,
            E::TimedOut { waited_for, limit },
            E::Resting { left: limit },
            E::NotAllowed,
            E::Elsewhere,
            E::NotStarted,
        ];
        for error in all {
            let fault = error.to_fault("lab");
            let known = aico_gateway::problem::Code::ALL;
            let known = known.iter().any(|code| code.as_str() == fault.code);
            assert!(known, "{error}: {}", fault.code);
            assert!(
                fault.code == "busy" || !fault.what_to_do.is_empty(),
                "{error}"
            );
        }
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("inner"));
        assert_eq!(chain(&error), "outer: inner");
    }
}
