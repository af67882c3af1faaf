//! Records of the journal and names of its files.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aico_bus::fuzzing::record(data));
