//! The journal's files, damaged.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aico_fuzz::sealed_log::sealed_log(data));
