//! Whether the stored data is sound.

use aico_access as access;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Checks the stored data.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckStores {
    /// Authenticates every page and record too. It reads everything, which takes its time.
    #[serde(default)]
    pub(crate) full: bool,
}

/// What became of a decision for an older copy.
#[derive(Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// `false`: the data in place is the present one, and nothing was changed.
    pub(crate) accepted: bool,
}

/// What was found of one thing.
#[derive(Serialize, ToSchema)]
pub(crate) struct CheckedStore {
    /// `header`, `registry`, `system`, `secrets`, `keyring`, `database`, `journal` or `log`.
    #[schema(value_type = String)]
    pub(crate) part: &'static str,
    /// `sound`, `damaged`, `locked` (only its person can open it; the rest is sound) or `unchecked`
    /// (it could not be looked at now).
    #[schema(value_type = String)]
    pub(crate) state: &'static str,
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) person: Option<Uuid>,
    /// What they are called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Its file on the machine that AICO runs on.
    pub(crate) path: String,
    /// Pages or records that were looked at, where they are counted.
    pub(crate) looked_at: u64,
    /// What is wrong, as sentences without their ends.
    pub(crate) problems: Vec<String>,
    /// What can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) what_to_do: Option<String>,
    /// The newest backup that holds a damaged person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backup: Option<RescueFrom>,
}

/// A backup that holds a damaged person.
#[derive(Serialize, ToSchema)]
pub(crate) struct RescueFrom {
    pub(crate) path: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_at: Option<Timestamp>,
    /// Whether it is there now.
    pub(crate) within_reach: bool,
}

impl From<access::Checked> for CheckedStore {
    fn from(checked: access::Checked) -> Self {
        let backup = checked.rescue.and_then(|rescue| {
            Some(RescueFrom {
                path: rescue.archive?.to_string_lossy().into_owned(),
                created_at: rescue.created_at,
                within_reach: rescue.within_reach,
            })
        });
        Self {
            part: checked.part.as_str(),
            state: checked.state.as_str(),
            person: checked.person.map(|person| person.uuid()),
            name: checked.name,
            path: checked.path.to_string_lossy().into_owned(),
            looked_at: checked.looked_at,
            problems: checked.problems,
            what_to_do: checked.what_to_do,
            backup,
        }
    }
}
