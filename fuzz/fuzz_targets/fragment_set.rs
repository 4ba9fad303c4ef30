//! A folder of fragments, damaged step by step, read back.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fragment_set(bytes));
