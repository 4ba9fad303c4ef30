//! Whole fragment files.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fragment_file(bytes));
