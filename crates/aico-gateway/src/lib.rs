//! One port: REST, WebSocket and the embedded UI; and the local socket with the same API.
//!
//! A request passes the guard (`guard.rs`: names, origins, bodies), is routed, says who asks
//! and whether they may (`caller.rs`, the only place that reads credentials and asks
//! `authorize`), and is answered from the home (persons, sessions, keys) or by a module behind
//! the bus (`modules.rs`). Errors are problem documents with stable codes (`problem.rs`).
//!
//! The OpenAPI document comes from the routes and the table of operations (`operations.rs`);
//! `docs/websocket.md` is the contract of `/ws`.
#![forbid(unsafe_code)]

mod api;
mod app;
mod caller;
mod config;
mod convert;
mod convert_character;
mod gateway;
mod guard;
mod input;
mod layers;
mod limits;
mod metrics;
mod modules;
mod openapi;
pub mod operations;
mod peer;
pub mod problem;
mod programs;
mod routes;
mod server;
mod ui;
mod watch;
mod ws;

pub use caller::Decision;
pub use config::{
    BrokerSource, Door, GatewayConfig, Limits, LogError, LogLevel, LogQuery, LogSource, Nothing,
    ProcessStatus, Setting, StatusSource,
};
pub use gateway::Gateway;
pub use openapi::openapi;
pub use server::local::LocalListener;
pub use ui::is_built;
