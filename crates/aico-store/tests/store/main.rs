//! The store against real files, real processes and real disks that are full or read-only.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests; a condition outside of this process is looked at again and again"
)]

mod basics;
mod big;
mod checks;
mod children;
mod copies;
mod damage;
#[path = "../support/disk.rs"]
#[expect(dead_code, reason = "each test uses a part of it")]
mod disk;
mod disks;
#[path = "../support/every_version.rs"]
mod every_version;
mod kills;
mod migrations;
mod rekey;
mod support;
mod vaults;
mod vectors;
mod working;
