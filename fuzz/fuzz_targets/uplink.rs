//! What the daemon sends to a peer of ours.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aico_bus::fuzzing::uplink(data));
