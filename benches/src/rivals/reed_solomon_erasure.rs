//! [reed-solomon-erasure](https://crates.io/crates/reed-solomon-erasure) 6 with `simd-accel`: C for AVX2 with nibble tables.
//!
//! Its C functions have no prefix (`reedsolomon_gal_mul`). A second crate that exports the same names, as its forks do, could be
//! linked in its place without a word, and then runs at a fiftieth of the speed. There must be one such crate in this binary.

use super::{Coder, Shape};
use reed_solomon_erasure::galois_8::ReedSolomon;

struct ReedSolomonErasure {
    coder: ReedSolomon,
    lost: usize,
}

/// Its inverted matrices are kept in a cache of its own, so each pattern is inverted once.
pub(super) fn open(shape: Shape, lost: usize) -> Option<Box<dyn Coder>> {
    Some(Box::new(ReedSolomonErasure { coder: ReedSolomon::new(shape.k, shape.m).ok()?, lost }))
}

impl Coder for ReedSolomonErasure {
    fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        self.coder.encode_sep(data, parity).expect("buffers of one stripe");
    }

    fn rebuild(&mut self, shards: &mut [&mut [u8]]) {
        let mut given: Vec<(&mut [u8], bool)> =
            shards.iter_mut().enumerate().map(|(at, shard)| (&mut **shard, at >= self.lost)).collect();
        self.coder.reconstruct_data(&mut given).expect("buffers of one stripe");
    }
}
