//! What the targets share. `crates/aico-bus/tests/fuzz.rs` includes these files, so that the
//! ordinary tests replay the corpus through the same checks.

pub mod allocations;
pub mod contracts;
pub mod gguf;
pub mod package;
pub mod sealed_log;
