//! An encoded envelope and the stamp that the bus appends.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aico_bus::fuzzing::stamp(data));
