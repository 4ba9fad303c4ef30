//! Shapes, lengths and places, computed by two kernels.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::kernel_pair(bytes));
