//! Parity rows from a file.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::matrix_file(bytes));
