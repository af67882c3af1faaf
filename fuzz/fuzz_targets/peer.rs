//! What a peer sends to the daemon.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aico_bus::fuzzing::peer(data));
