//! Plans: codes, costs, losses, parts, ranges.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::planner(bytes));
