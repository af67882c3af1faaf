//! Named tokens.

use aico_access::{self as access};
use aico_contracts::ids::TokenId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A named token in a list: the token itself is told once, when it is made.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0193a1b2-0000-7000-8000-000000000007", "name": "Editor",
    "created_at": "2026-01-31T12:00:00Z", "expires_at": "2026-05-01T12:00:00Z",
    "last_used_at": "2026-02-01T09:00:00Z"
}))]
pub(crate) struct Token {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) id: TokenId,
    pub(crate) name: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// It counts until then; for a month it stays in the list.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: Timestamp,
    /// The hour of its last use; null when it was never used.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub(crate) last_used_at: Option<Timestamp>,
}

impl From<access::NamedToken> for Token {
    fn from(token: access::NamedToken) -> Self {
        Self {
            id: token.id,
            name: token.name,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.used_at,
        }
    }
}

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Editor"}))]
pub(crate) struct NewToken {
    /// What it is for: 1 to 64 characters, another than those of one's other tokens.
    pub(crate) name: String,
    /// Days until it expires.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 365, default = 90)]
    pub(crate) expires_days: Option<u32>,
}

/// A token, once.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeToken {
    /// For `Authorization: Bearer …` or as the API key of a program. It is told here and nowhere
    /// again.
    pub(crate) secret: String,
    pub(crate) token: Token,
}

impl From<access::NewToken> for MadeToken {
    fn from(new: access::NewToken) -> Self {
        Self {
            secret: new.token.as_str().to_owned(),
            token: new.about.into(),
        }
    }
}
