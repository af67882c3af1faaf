//! The store against real files, real processes and real disks that are full or read-only.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests"
)]

mod basics;
mod children;
mod damage;
mod disks;
mod kills;
mod migrations;
mod support;
