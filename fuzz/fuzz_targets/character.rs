//! Files that are brought in as characters, from any bytes; bounded in memory.

#![no_main]

use aico_characters::fuzzing;
use aico_fuzz::allocations::{Counting, bounded};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a file may take in memory, however small it is: a card may be unpacked to its limit, is read
/// as JSON and written in each format.
const FIXED: usize = 256 * 1024 * 1024;
/// And for each of its bytes.
const EACH: usize = 200;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bounded(data, FIXED, EACH, fuzzing::any);
});
