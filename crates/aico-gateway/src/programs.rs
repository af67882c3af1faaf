//! Doors for other programs: the shapes of OpenAI (`/v1`) and of Ollama (`/api/chat` and its
//! like), so that what a person has already can use these models, or talk with the companion.
//!
//! What was asked and how it is told are apart. Each dialect reads its own shape (`request`) into a
//! [`course::Asked`]; from there on it is the same for all: whom it names ([`models`]), the model in
//! memory ([`memory`]), the [`answer::Answer`]. How that is told is a [`course::Shape`] of the dialect
//! (`telling`); what is refused is a [`refusal::Refusal`], told in the shape of the address by
//! [`retell`]. What is asked for and can't be done is refused
//! in words and never left out in silence. `docs/programs.md` says how to connect one, and what
//! is taken.
//!
//! Our own API is `/api/v1/…` and `/api/openapi.json`; no address of Ollama's begins so.

pub(crate) mod answer;
mod companion;
pub(crate) mod course;
pub(crate) mod embeddings;
mod images;
pub(crate) mod memory;
pub(crate) mod models;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod pass;
pub(crate) mod question;
pub(crate) mod refusal;

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use crate::problem::Problem;
use refusal::Refusal;

pub(crate) use pass::Paces;

/// Whose shapes an address has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OpenAI's.
    OpenAi,
    /// Ollama's.
    Ollama,
}

/// Addresses of Ollama's API, those included that are not here: they get its errors.
const OLLAMA: &[&str] = &[
    "blobs",
    "chat",
    "copy",
    "create",
    "delete",
    "embed",
    "embeddings",
    "experimental",
    "generate",
    "me",
    "ps",
    "pull",
    "push",
    "show",
    "signout",
    "status",
    "tags",
    "user",
    "version",
];

/// Whose shapes this address has; `None` for our own.
pub(crate) fn dialect(path: &str) -> Option<Dialect> {
    let mut segments = path.strip_prefix('/')?.split('/');
    match (segments.next(), segments.next()) {
        (Some("v1"), _) => Some(Dialect::OpenAi),
        (Some("api"), Some(name)) if OLLAMA.contains(&name) => Some(Dialect::Ollama),
        _ => None,
    }
}

/// What the address would answer, in its own shape: a problem becomes an error of the dialect.
pub(crate) fn retell(dialect: Dialect, mut response: Response) -> Response {
    let refusal = match response.extensions_mut().remove::<Refusal>() {
        Some(refusal) => refusal,
        None => match response.extensions_mut().remove::<Problem>() {
            Some(problem) => Refusal::from(problem),
            None => return response,
        },
    };
    let (_, mut told) = (response, refusal.response(dialect));
    // Our own addresses tell how a credential is shown; so do these.
    if told.status() == StatusCode::UNAUTHORIZED {
        let bearer = http::HeaderValue::from_static("Bearer");
        told.headers_mut()
            .insert(http::header::WWW_AUTHENTICATE, bearer);
    }
    told
}

/// For addresses that the imitated server has and AICO has not.
pub(crate) fn no_such_address(dialect: Dialect) -> Response {
    let message = match dialect {
        Dialect::OpenAi => {
            "AICO does not have this address of OpenAI's API. See docs/programs.md for those it has."
        }
        Dialect::Ollama => {
            "AICO does not have this address of Ollama's API: models are brought in with \
             `aico model add` or in Settings. See docs/programs.md."
        }
    };
    Refusal::new(StatusCode::NOT_FOUND, "not_found", message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_addresses_are_nobody_elses() {
        for path in [
            "/",
            "/api",
            "/api/",
            "/api/v1/models",
            "/api/v1/tokens",
            "/api/openapi.json",
            "/api/chatter",
            "/ws",
            "/v10/models",
            "/chat",
            "//v1/models",
        ] {
            assert_eq!(dialect(path), None, "{path}");
        }
        for path in ["/v1", "/v1/models", "/v1/chat/completions"] {
            assert_eq!(dialect(path), Some(Dialect::OpenAi), "{path}");
        }
        for path in ["/api/chat", "/api/tags", "/api/blobs/sha256:0"] {
            assert_eq!(dialect(path), Some(Dialect::Ollama), "{path}");
        }
    }
}
