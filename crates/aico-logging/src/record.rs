//! One thing that happened.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use aico_config::Level;

/// One thing that happened. In a file it is one line of JSON with these names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When, in UTC.
    pub time: Timestamp,
    /// How grave; never [`Level::Off`].
    pub level: Level,
    /// The crate or module that logged it, `aico_gateway::ws`.
    pub module: String,
    /// A sentence.
    pub message: String,
    /// What belongs to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Value>,
    /// The trace id of the request that it belongs to, from the event or the spans around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl Record {
    /// A record of the log's own.
    pub(crate) fn own(level: Level, message: &str, fields: &[(&str, Value)]) -> Self {
        Self {
            time: Timestamp::now(),
            level,
            module: env!("CARGO_CRATE_NAME").to_owned(),
            message: message.to_owned(),
            fields: fields
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.clone()))
                .collect(),
            trace: None,
        }
    }

    /// As one line of JSON, without its end.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        // Strings, numbers and a time: none of them can fail to become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn from_line(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}
