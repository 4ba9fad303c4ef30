//! Journals of nodes.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::node_journal(bytes));
