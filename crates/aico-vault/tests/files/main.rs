//! Encrypted files: tampering, crashes, kills, seeking, and a second reader of the format.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod asynchronous;
mod crash;
mod damage;
mod fixtures;
#[cfg(unix)]
mod kill;
mod model;
mod nonces;
mod opening;
mod support;
