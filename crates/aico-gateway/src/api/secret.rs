//! Secrets of the configuration.

use aico_access as access;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::input::Secret;

/// A secret in a list. Nothing tells the secret itself.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"name": "openai", "set_at": "2026-01-31T12:00:00Z"}))]
pub(crate) struct ConfigSecret {
    /// As it stands in the configuration, after `secret:`.
    pub(crate) name: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) set_at: Timestamp,
}

impl From<access::SecretInfo> for ConfigSecret {
    fn from(info: access::SecretInfo) -> Self {
        Self {
            name: info.name,
            set_at: info.set_at,
        }
    }
}

/// A secret to be set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "openai", "value": "sk-…"}))]
pub(crate) struct NewConfigSecret {
    /// Small letters, digits, dots, dashes and underscores, a letter first; at most 64.
    pub(crate) name: String,
    /// One line of text, at most 4096 bytes.
    #[schema(value_type = String, format = Password)]
    pub(crate) value: Secret,
}

/// Which secret is meant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "openai"}))]
pub(crate) struct ConfigSecretName {
    pub(crate) name: String,
}
