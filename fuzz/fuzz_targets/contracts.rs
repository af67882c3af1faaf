//! Every message of the contracts.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aico_fuzz::contracts::contracts(data));
