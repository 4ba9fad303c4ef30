//! The crate reed-solomon-simd: what encodes where there is no GFNI, and what decodes when so much is lost that its full decode
//! is the cheapest way.

use super::WideSpec;
use super::workspace::BLOCK_BYTES;
use crate::error::DecodeError;
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use std::ops::Range;

/// Bytes of the crate's own copy of all shards, about: longer shards are done in slices.
const COPY_BYTES: usize = 16 << 20;

/// Equal ranges in whole blocks, but for the last one.
pub(super) fn slices(spec: &WideSpec, len: usize) -> impl Iterator<Item = Range<usize>> {
    let slice = (COPY_BYTES / spec.n().next_power_of_two()).next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES);
    (0..len).step_by(slice).map(move |start| start..len.min(start + slice))
}

/// Encodes shards of one even length.
pub(super) fn encode(spec: &WideSpec, len: usize, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), DecodeError> {
    for range in slices(spec, len) {
        let mut encoder = ReedSolomonEncoder::new(spec.k(), spec.m(), range.len())?;
        for shard in data {
            encoder.add_original_shard(&shard[range.clone()])?;
        }
        let result = encoder.encode()?;
        for (target, shard) in parity.iter_mut().zip(result.recovery_iter()) {
            target[range.clone()].copy_from_slice(shard);
        }
    }
    Ok(())
}

/// All data shards that are not among the sources, over one range: pairs of position and bytes.
pub(super) fn restore(
    spec: &WideSpec,
    range: &Range<usize>,
    sources: &[Option<&[u8]>],
) -> Result<Vec<(usize, Vec<u8>)>, DecodeError> {
    let mut decoder = ReedSolomonDecoder::new(spec.k(), spec.m(), range.len())?;
    for (at, source) in sources.iter().enumerate() {
        let Some(shard) = source else { continue };
        match at.checked_sub(spec.k()) {
            None => decoder.add_original_shard(at, &shard[range.clone()])?,
            Some(parity) => decoder.add_recovery_shard(parity, &shard[range.clone()])?,
        }
    }
    let result = decoder.decode()?;
    Ok(result.restored_original_iter().map(|(at, shard)| (at, shard.to_vec())).collect())
}

impl From<reed_solomon_simd::Error> for DecodeError {
    fn from(error: reed_solomon_simd::Error) -> Self {
        Self::Library { reason: error.to_string() }
    }
}
