//! The gateway on a real port, over a real home and a real bus. The companion and the model
//! manager are doubles that serve the bus (`support.rs`).
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod authorization;
mod browser;
mod contract;
mod count;
mod engines;
mod hostile;
mod local;
mod metrics;
mod programs;
mod sessions;
mod streams;
mod support;
mod transformers;
mod vault;
mod websocket;
