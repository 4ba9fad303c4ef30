//! The file of an index, hurt in places.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::store_index(bytes));
