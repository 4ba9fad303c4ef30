//! Code specifications as text and as descriptors.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::code_spec(bytes));
