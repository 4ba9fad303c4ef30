//! Any pairs of position and buffer, decoded.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decode_set(bytes));
