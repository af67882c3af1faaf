//! The WebSocket: everything that happens to one person while it happens.
//!
//! `docs/websocket.md` is the contract. A person's events are numbered once, by their
//! [hub](hub::Hub), and kept in a ring; each connection reads the ring at its own pace. So two
//! tabs see the same numbers, a lost connection resumes where it was, and a slow client costs
//! nothing but its own place: no queue is kept for it.

pub(crate) mod close;
pub(crate) mod commands;
pub(crate) mod connection;
pub(crate) mod hub;
pub(crate) mod hubs;
mod presence;
pub(crate) mod protocol;
pub(crate) mod quota;
pub(crate) mod rate;
pub(crate) mod reader;
pub(crate) mod ring;
pub(crate) mod upgrade;
pub(crate) mod writer;
