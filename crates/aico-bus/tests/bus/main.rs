//! The bus as its users see it. One program, so that it is linked once.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;
mod conformance;
mod durable;
mod fixture;
mod inprocess;
mod keep;
mod kills;
mod link;
mod logged;
mod process;
mod pyzmq;
mod restarts;
#[cfg(target_os = "linux")]
mod stopped;
