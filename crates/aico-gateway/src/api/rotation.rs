//! Changing keys, and sealing oneself.

use aico_access as access;
use aico_contracts::ids::PersonId;
use aico_vault::{Kept, KeychainError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::input::Secret;
use crate::problem::Code;

/// Which keys are to be changed: without purposes and person the root key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RotateVault)]
pub(crate) struct Rotate {
    /// The master password.
    pub(crate) password: Secret,
    /// With the root key: each person's key, each database's, and the keys that sign.
    #[serde(default)]
    pub(crate) compromised: bool,
    /// These keys alone: `system-database`, `person-database`, `working-memory`, `prompt-cache`,
    /// `log`, `bus-journal`, `bus-body`, `configuration`, `signing-key`, `bus-key`. All others
    /// change with the key above them.
    #[serde(default)]
    pub(crate) purposes: Vec<String>,
    /// This person's key and what is under it; with purposes, theirs of these.
    #[schema(value_type = Option<uuid::Uuid>)]
    #[serde(default)]
    pub(crate) person: Option<PersonId>,
}

/// A change of keys has begun.
#[derive(Serialize, ToSchema)]
#[schema(as = RotationBegun)]
pub(crate) struct Begun {
    /// With a new root key: shown this once. The one before opens nothing here any more.
    #[schema(min_items = 12, max_items = 12)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovery_phrase: Option<Vec<&'static str>>,
    /// Keychains that could not be given a new key, and why: AICO starts with the password.
    pub(crate) dropped: Vec<String>,
    /// Items in keychains that could not be removed.
    pub(crate) left: Vec<String>,
    /// Archives within reach that open with what was changed.
    pub(crate) archives: Vec<String>,
}

impl From<access::Begun> for Begun {
    fn from(begun: access::Begun) -> Self {
        let told = |(kept, why): &(Kept, KeychainError)| {
            format!("{}, item {}: {why}", kept.backend(), kept.item())
        };
        Self {
            recovery_phrase: begun.phrase.map(|phrase| phrase.words()),
            dropped: begun.dropped.iter().map(told).collect(),
            left: begun.left.iter().map(told).collect(),
            archives: begun
                .archives
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
        }
    }
}

/// How far a change of keys is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Rotation {
    pub(crate) running: bool,
    /// The step that runs, or that failed.
    pub(crate) step: &'static str,
    pub(crate) done_bytes: u64,
    pub(crate) all_bytes: u64,
    /// Why it stopped. It goes on at the next start, or when it is asked for again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<String>,
    /// Stable code of that, as in a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed_code: Option<&'static str>,
    /// Whose keys are yet to be changed: of sealed persons when they sign in next, of damaged data
    /// when it is put back.
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub(crate) pending: Vec<PersonId>,
    /// When the last one was done, since the daemon runs.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finished_at: Option<Timestamp>,
}

impl Rotation {
    pub(crate) fn new(state: access::RotationState, pending: Vec<PersonId>) -> Self {
        let code = state.failed.as_ref().map(|failed| Code::of(failed.kind));
        Self {
            running: state.running,
            step: state.step,
            done_bytes: state.done_bytes,
            all_bytes: state.all_bytes,
            failed: state.failed.map(|failed| failed.why),
            failed_code: code.map(Code::as_str),
            pending,
            finished_at: state.finished_at,
        }
    }
}

/// Proof that it is oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnProof {
    /// One's own password.
    pub(crate) password: Secret,
}

/// Sealed.
#[derive(Serialize, ToSchema)]
pub(crate) struct Sealed {
    /// Of one's own. Shown this once.
    #[schema(min_items = 12, max_items = 12)]
    pub(crate) recovery_phrase: Vec<&'static str>,
}

/// A new password of a sealed person.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecoverPerson {
    pub(crate) name: String,
    /// The twelve words of their own, with spaces between them.
    pub(crate) phrase: Secret,
    /// At least 12 characters.
    pub(crate) new: Secret,
}
