//! The companion: conversations of a person with a character, and the answers to them.
//!
//! It serves `conversation.<person>.request.*` and publishes `conversation.<person>.event.*`
//! (see the contracts' `conversation.proto`), keeps everything in the person's own store, and
//! asks `models.generate` for the words of an answer.
//!
//! What is promised:
//! - A message is durable before it is acknowledged and before it is answered; its event lies in
//!   the outbox of the same transaction.
//! - An answer is stored as it ends. While it streams it is stored every half second, so that a
//!   crash keeps what came before; the next start marks it as interrupted.
//! - A conversation is a tree: another answer or another wording keeps the old branch.
#![forbid(unsafe_code)]

mod answer;
mod base_models;
mod character;
mod characters;
mod conversations;
mod export;
mod fault;
mod greeting;
mod live;
mod messages;
#[cfg(test)]
mod migrations;
mod model;
mod outbox;
mod recent;
mod schema;
mod search;
mod service;
mod thread;

pub use export::EXPORT;
pub use schema::MIGRATIONS;
pub use service::Companion;

/// Longest message of a person, in bytes of UTF-8.
pub const LONGEST_MESSAGE: usize = 128 * 1024;
