//! What opens the vault.

use aico_access as access;
use aico_vault::{KeychainError, KeychainState, WrapKind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Session;
use crate::input::Secret;

/// In which state a keychain is that does not open the vault.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = KeychainState)]
pub(crate) enum State {
    /// There and locked.
    Locked,
    /// Nobody answers.
    Absent,
    /// No longer holds AICO's key.
    Changed,
    /// Holds another key.
    Wrong,
}

impl From<KeychainState> for State {
    fn from(state: KeychainState) -> Self {
        match state {
            KeychainState::Locked => Self::Locked,
            KeychainState::Absent => Self::Absent,
            KeychainState::Changed => Self::Changed,
            KeychainState::Wrong => Self::Wrong,
        }
    }
}

/// Why it waits for the password.
#[derive(Serialize, ToSchema)]
pub(crate) struct Keychain {
    /// How people call the keychain.
    pub(crate) name: String,
    pub(crate) state: State,
    /// What was met, as a sentence without its end.
    pub(crate) why: String,
    pub(crate) what_to_do: &'static str,
}

impl From<access::Waits> for Keychain {
    fn from(waits: access::Waits) -> Self {
        Self {
            state: waits.error.state().into(),
            why: waits.error.to_string(),
            what_to_do: waits.what_to_do(),
            name: waits.name,
        }
    }
}

/// What kind of thing opens the vault.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = WrapKind)]
pub(crate) enum Kind {
    /// The owner knows it.
    MasterPassword,
    /// The owner keeps it.
    RecoveryPhrase,
    /// A keychain holds a key.
    Keychain,
    /// A file holds a key.
    KeyFile,
    /// Something that this program does not know.
    Unknown,
}

impl From<WrapKind> for Kind {
    fn from(kind: WrapKind) -> Self {
        match kind {
            WrapKind::MasterPassword => Self::MasterPassword,
            WrapKind::RecoveryPhrase => Self::RecoveryPhrase,
            WrapKind::Keychain => Self::Keychain,
            WrapKind::KeyFile => Self::KeyFile,
            _ => Self::Unknown,
        }
    }
}

/// One of the things that open the vault. Nothing in it is secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct Wrap {
    pub(crate) kind: Kind,
    /// The stable name of the kind of keychain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backend: Option<String>,
    /// How people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<String>,
    /// What holds the key in there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) item: Option<String>,
    /// Where it is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) made_at: Option<Timestamp>,
    /// What keeps it from opening the vault right now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<State>,
    /// The same as a sentence without its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

impl From<access::WrapState> for Wrap {
    fn from(wrap: access::WrapState) -> Self {
        Self {
            kind: wrap.kind.into(),
            backend: wrap.kept.as_ref().map(|kept| kept.backend().to_owned()),
            item: wrap.kept.as_ref().map(aico_vault::Kept::item),
            place: wrap.place,
            made_at: wrap.made_at,
            state: wrap.broken.as_ref().map(|error| error.state().into()),
            why: wrap.broken.as_ref().map(KeychainError::to_string),
        }
    }
}

/// What opens the vault.
#[derive(Serialize, ToSchema)]
pub(crate) struct Vault {
    /// Rises by one with each rotation of the root key.
    pub(crate) key_epoch: u32,
    pub(crate) wraps: Vec<Wrap>,
}

/// Lets a keychain open the vault at a start.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remember {
    /// The master password.
    pub(crate) password: Secret,
    /// The stable name of a kind of keychain; the best one by default. A key file is made only
    /// when it is named.
    #[serde(default)]
    pub(crate) backend: Option<String>,
}

/// It does from now on.
#[derive(Serialize, ToSchema)]
pub(crate) struct Remembered {
    pub(crate) backend: String,
    /// How people call it.
    pub(crate) place: String,
    /// Older items that could not be removed.
    pub(crate) left: Vec<String>,
}

/// Proof for what the keys hang on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MasterProof {
    /// The master password.
    pub(crate) password: Secret,
}

/// No keychain opens the vault any more.
#[derive(Serialize, ToSchema)]
pub(crate) struct Forgotten {
    /// How many did.
    pub(crate) taken: usize,
    /// Items that could not be removed. They open nothing here any more; with a copy of the
    /// vault's header made before they do.
    pub(crate) left: Vec<String>,
}

/// A new recovery phrase. The old one opens nothing here any more; a backup made before still
/// opens with it.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewPhrase {
    /// Shown this once.
    #[schema(min_items = 12, max_items = 12)]
    pub(crate) recovery_phrase: Vec<&'static str>,
}

/// A new master password on the strength of the recovery phrase.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recover {
    /// The twelve words, with spaces between them.
    pub(crate) phrase: Secret,
    /// The new master password, at least 12 characters.
    pub(crate) new: Secret,
}

/// The new password counts, and the owner is signed in.
#[derive(Serialize, ToSchema)]
pub(crate) struct Recovered {
    pub(crate) session: Session,
}
