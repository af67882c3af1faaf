//! The JSON shapes of the API, each with its schema.
//!
//! None of them has `Debug`: they carry names, tokens and chat text.

pub(crate) mod access;
pub(crate) mod activity;
pub(crate) mod backup;
pub(crate) mod character;
pub(crate) mod conversation;
pub(crate) mod count;
pub(crate) mod engine;
pub(crate) mod installation;
pub(crate) mod model;
pub(crate) mod module;
pub(crate) mod rotation;
pub(crate) mod secret;
pub(crate) mod shelf;
pub(crate) mod store;
pub(crate) mod token;
pub(crate) mod transformers;
pub(crate) mod vault;

use serde::Serialize;
use utoipa::ToSchema;

/// A list that is always given whole.
#[derive(Serialize, ToSchema)]
pub(crate) struct Items<T> {
    /// The entries.
    pub(crate) items: Vec<T>,
}
