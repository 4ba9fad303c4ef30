//! Headers, records, footers and tails, with and without right checksums.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fragment_header(bytes));
