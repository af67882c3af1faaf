//! Archives: what opens them, what is noticed, and what a crash leaves.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod crash;
mod damage;
mod format;
mod opening;
mod support;
