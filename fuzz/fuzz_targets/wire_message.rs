//! Frames, messages and catalog rows.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::wire_message(bytes));
