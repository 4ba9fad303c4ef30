//! [reed-solomon-simd](https://crates.io/crates/reed-solomon-simd): an additive FFT over GF(2^16), AVX2 at best.
//!
//! It codes in memory of its own: copying the shards in is part of its work and timed; its results are read where they are.

use super::{Coder, Shape};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

struct ReedSolomonSimd {
    k: usize,
    lost: usize,
    encoder: ReedSolomonEncoder,
    decoder: Option<ReedSolomonDecoder>,
    copies_out: bool,
}

pub(super) fn open(shape: Shape, lost: usize) -> Option<Box<dyn Coder>> {
    let Shape { k, m, shard_bytes } = shape;
    let encoder = ReedSolomonEncoder::new(k, m, shard_bytes).ok()?;
    let decoder = if lost == 0 { None } else { Some(ReedSolomonDecoder::new(k, m, shard_bytes).ok()?) };
    Some(Box::new(ReedSolomonSimd { k, lost, encoder, decoder, copies_out: true }))
}

impl Coder for ReedSolomonSimd {
    fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        for shard in data {
            self.encoder.add_original_shard(shard).expect("shards of the length it was made for");
        }
        let result = self.encoder.encode().expect("all data shards");
        if self.copies_out {
            parity.iter_mut().zip(result.recovery_iter()).for_each(|(own, theirs)| own.copy_from_slice(theirs));
        }
    }

    fn rebuild(&mut self, shards: &mut [&mut [u8]]) {
        let Some(decoder) = &mut self.decoder else { return };
        let (data, parity) = shards.split_at_mut(self.k);
        let (missing, present) = data.split_at_mut(self.lost);
        for (at, shard) in present.iter().enumerate() {
            decoder.add_original_shard(self.lost + at, shard).expect("shards of the length it was made for");
        }
        // It wants no more than are lost, and reads every one it is given.
        for (at, shard) in parity.iter().take(self.lost).enumerate() {
            decoder.add_recovery_shard(at, shard).expect("shards of the length it was made for");
        }
        let result = decoder.decode().expect("as many shards as it needs");
        if self.copies_out {
            for (at, theirs) in result.restored_original_iter() {
                missing[at].copy_from_slice(theirs);
            }
        }
    }

    fn leave_results_inside(&mut self) {
        self.copies_out = false;
    }
}
