//! Shards of a vector code rebuilt from whatever is at hand.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::vector_set(bytes));
