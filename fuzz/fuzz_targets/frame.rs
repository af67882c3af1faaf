//! Frames of the link, from any bytes; bounded in memory by their size.

#![no_main]

use aico_bus::fuzzing;
use aico_fuzz::allocations::{Counting, FRAME_EACH, FRAME_FIXED, bounded};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bounded(data, FRAME_FIXED, FRAME_EACH, fuzzing::read);
    fuzzing::frame(data);
});
