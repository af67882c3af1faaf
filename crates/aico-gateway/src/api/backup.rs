//! Backups, exports, and what an erasure reached.

use aico_access::backup as access;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::input::Secret;

/// Makes a backup.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBackup {
    /// A folder on the machine that AICO runs on; the usual one by default. Over the local socket
    /// only.
    #[serde(default)]
    pub(crate) to: Option<String>,
    /// This person's data only.
    #[serde(default)]
    pub(crate) person: Option<Uuid>,
    /// Removes older ones, but the newest of each of the last so many days.
    #[serde(default)]
    pub(crate) keep_daily: Option<u32>,
    /// Removes older ones, but the newest of each of the last so many weeks.
    #[serde(default)]
    pub(crate) keep_weekly: Option<u32>,
}

/// A backup that was made, on the last line.
#[derive(Serialize, ToSchema)]
pub(crate) struct BackupMade {
    pub(crate) path: String,
    /// Bytes of it.
    pub(crate) length: u64,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// How many persons are in it.
    pub(crate) persons: usize,
    /// Who is not, though they belong here.
    pub(crate) left_out: Vec<LeftOut>,
    /// Why the secrets of the configuration are not in it, as a sentence without its end, where
    /// they belong in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secrets_left_out: Option<String>,
    /// Older ones that were removed.
    pub(crate) removed: Vec<String>,
    /// Older ones that were to go and could not be removed.
    pub(crate) not_removed: Vec<String>,
    /// Removing older ones was asked for and not done, because somebody or the secrets were left
    /// out, or somebody is in it with an older copy of their data.
    pub(crate) nothing_removed: bool,
}

/// Somebody who is not in a backup.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeftOut {
    pub(crate) name: String,
    /// As a sentence without its end.
    pub(crate) why: String,
}

impl From<access::BackupMade> for BackupMade {
    fn from(made: access::BackupMade) -> Self {
        Self {
            path: made.path.to_string_lossy().into_owned(),
            length: made.length,
            created_at: made.created_at,
            persons: made.persons,
            left_out: made
                .left_out
                .into_iter()
                .map(|one| LeftOut {
                    name: one.name,
                    why: one.why,
                })
                .collect(),
            secrets_left_out: made.secrets_left_out,
            removed: paths(&made.removed),
            not_removed: paths(&made.not_removed),
            nothing_removed: made.nothing_removed,
        }
    }
}

fn paths(all: &[std::path::PathBuf]) -> Vec<String> {
    let text = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
    all.iter().map(text).collect()
}

/// Proof for what is one's own.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnProof {
    /// One's own password; the owner's is the master password.
    pub(crate) password: Secret,
}

/// A backup that an erased person was, or still is, in.
#[derive(Serialize, ToSchema)]
pub(crate) struct HeldBackup {
    pub(crate) path: String,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_at: Option<Timestamp>,
    /// What kept them from being dropped, as a sentence without its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// What an erasure reached, and what it did not.
#[derive(Serialize, ToSchema)]
pub(crate) struct Erased {
    /// They were dropped from these.
    pub(crate) dropped: Vec<HeldBackup>,
    /// They are still in these, or may be: destroy them, or bring them back into reach.
    pub(crate) out_of_reach: Vec<HeldBackup>,
}

impl From<access::Erased> for Erased {
    fn from(erased: access::Erased) -> Self {
        let dropped = erased.dropped.into_iter().map(|one| HeldBackup {
            path: one.path.to_string_lossy().into_owned(),
            created_at: one.created_at,
            why: None,
        });
        let left = erased.out_of_reach.into_iter().map(|one| HeldBackup {
            path: one.path.to_string_lossy().into_owned(),
            created_at: one.created_at,
            why: Some(one.why),
        });
        Self {
            dropped: dropped.collect(),
            out_of_reach: left.collect(),
        }
    }
}
