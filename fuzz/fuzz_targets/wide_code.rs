//! Wide codes: shapes, lengths, losses.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::wide_code(bytes));
