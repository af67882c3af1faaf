//! The description of a package, which the daemon reads, from any bytes; bounded in memory.

#![no_main]

use aico_fuzz::allocations::{Counting, bounded};
use aico_fuzz::package;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a description may take in memory: errors in words, and room to write it again.
const FIXED: usize = 1 << 20;
/// And for each of its bytes.
const EACH: usize = 64;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bounded(data, FIXED, EACH, package::description);
});
