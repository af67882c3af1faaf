//! What the daemon reads of a model file, from any bytes; bounded in memory.

#![no_main]

use aico_fuzz::allocations::{Counting, bounded};
use aico_fuzz::gguf;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a head may take in memory: a few entries and names, and the room that a buffer reads into.
const FIXED: usize = 1 << 20;
/// And for each of its bytes.
const EACH: usize = 64;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bounded(data, FIXED, EACH, gguf::any);
});
