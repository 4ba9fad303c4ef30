//! Source bytes to shards, slice by slice: encoded, checked by a second path, hashed.

use super::effect::PutFailure;
use super::hash::StripeHasher;
use super::power_of_two_below;
use crate::node::Body;
use bytes::{Bytes, BytesMut};
use ec_core::code::Shape;
use ec_core::fragment::Hash;
use ec_core::geometry::Geometry;
use ec_core::{Code, StripeCheck};
use std::fmt;
use std::ops::Range;

/// All shards' strips together should stay in a core's second-level cache while they are coded, checked and hashed.
const STRIP_OF_ALL_SHARDS_BYTES: usize = 1 << 20;
/// A BLAKE3 tree is fast from 16 KiB on.
const STRIP_BYTES_MIN: usize = 16 << 10;

/// Encodes one extent.
pub(crate) struct Encoder {
    code: Code,
    check: StripeCheck,
    geometry: Geometry,
    hasher: StripeHasher,
    /// Padding for shards past the end of the extent.
    zeros: Bytes,
    /// Parity buffers that nobody reads any more.
    spare: Vec<BytesMut>,
    #[cfg(test)]
    pub(crate) sabotage: Option<fn(&mut [u8])>,
}

impl Encoder {
    pub(crate) fn new(code: Code, extent_bytes: u64, seed: u64) -> Self {
        let geometry = Geometry::new(extent_bytes, code.k());
        Self {
            check: StripeCheck::new(&code, seed),
            hasher: StripeHasher::new(&geometry, code.k(), code.n()),
            geometry,
            code,
            zeros: Bytes::new(),
            spare: Vec::new(),
            #[cfg(test)]
            sabotage: None,
        }
    }

    pub(crate) fn code(&self) -> &Code {
        &self.code
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// All shards' slices of `range`, from the source bytes of each data shard there (short or none past the end of the extent).
    /// Parity has passed its check.
    pub(crate) fn encode(&mut self, range: Range<u64>, sources: Vec<Bytes>) -> Result<Vec<Body>, PutFailure> {
        let bytes = usize::try_from(range.end - range.start).map_err(internal)?;
        for (shard, source) in sources.iter().enumerate() {
            // Here and not by strips: shards begin anywhere in the extent's hash tree, and long pieces hold the large subtrees.
            let at = self.geometry.extent_range(shard, range.clone()).start;
            self.hasher.add_extent(at, source).map_err(internal)?;
        }
        let mut shards: Vec<Body> = sources.into_iter().map(|source| self.padded(source, bytes)).collect();
        if let Shape::Replicate { .. } = self.code.spec().shape() {
            // A copy is the same buffer: nothing was computed that could be wrong.
            let only = shards.first().cloned().unwrap_or_default();
            self.hasher.add_shard(0, range.start, &only).map_err(internal)?;
            return Ok(vec![only; self.code.n()]);
        }
        let mut parity: Vec<BytesMut> = (0..self.code.m()).map(|_| self.buffer(bytes)).collect();
        for strip in strips(self.code.n(), bytes) {
            self.encode_strip(range.start, strip, &shards, &mut parity)?;
        }
        shards.extend(parity.into_iter().map(BytesMut::freeze));
        Ok(shards)
    }

    fn encode_strip(
        &mut self,
        slice_start: u64,
        strip: Range<usize>,
        data: &[Body],
        parity: &mut [BytesMut],
    ) -> Result<(), PutFailure> {
        let data: Vec<&[u8]> = data.iter().map(|slice| &slice[strip.clone()]).collect();
        let mut targets: Vec<&mut [u8]> = parity.iter_mut().map(|slice| &mut slice[strip.clone()]).collect();
        self.code.encode(&data, &mut targets).map_err(internal)?;
        #[cfg(test)]
        if let (Some(sabotage), Some(first)) = (self.sabotage, targets.first_mut()) {
            sabotage(first);
        }
        let parity: Vec<&[u8]> = targets.iter().map(|strip| &**strip).collect();
        self.check.run(&data, &parity).map_err(|error| PutFailure::Encoder(error.to_string()))?;
        let at = slice_start + strip.start as u64;
        for (shard, bytes) in data.iter().chain(&parity).enumerate() {
            self.hasher.add_shard(shard, at, bytes).map_err(internal)?;
        }
        Ok(())
    }

    /// The source bytes of a data shard, filled up with zeros.
    fn padded(&mut self, source: Bytes, bytes: usize) -> Body {
        if source.len() == bytes {
            return source;
        }
        if source.is_empty() {
            if self.zeros.len() < bytes {
                self.zeros = Bytes::from(vec![0; bytes]);
            }
            return self.zeros.slice(..bytes);
        }
        let mut padded = vec![0; bytes];
        padded[..source.len()].copy_from_slice(&source);
        padded.into()
    }

    fn buffer(&mut self, bytes: usize) -> BytesMut {
        match self.spare.pop().filter(|spare| spare.len() >= bytes) {
            Some(mut spare) => {
                spare.truncate(bytes);
                spare
            }
            None => BytesMut::zeroed(bytes),
        }
    }

    /// Takes the slices of a step that is over: its parity buffers are used again where nobody else holds them.
    pub(crate) fn recycle(&mut self, shards: Vec<Body>) {
        if self.code.k() > 1 {
            let parity = shards.into_iter().skip(self.code.k());
            self.spare.extend(parity.filter_map(|slice| slice.try_into_mut().ok()));
        }
    }

    /// The extent's hash, and each shard's payload hash, once every slice was encoded.
    pub(crate) fn finish(self) -> Result<(Hash, Vec<Hash>), PutFailure> {
        self.hasher.finish().map_err(internal)
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("code", self.code.spec()).finish_non_exhaustive()
    }
}

/// What cannot happen with the lengths this machine makes; reported, not believed.
fn internal(error: impl fmt::Display) -> PutFailure {
    PutFailure::Encoder(format!("internal error: {error}"))
}

/// The ranges of a slice to compute one after the other, so that each is still in cache when it is used again.
pub(crate) fn strips(shards: usize, slice_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let step = power_of_two_below(STRIP_OF_ALL_SHARDS_BYTES / shards.max(1)).max(STRIP_BYTES_MIN);
    (0..slice_bytes).step_by(step).map(move |start| start..(start + step).min(slice_bytes))
}
