//! BLAKE3 of shards and of the extent they come from, each byte as few times as the tree allows.

use ec_core::fragment::{Hash, Incomplete, TreeError, TreeHasher};
use ec_core::geometry::Geometry;

/// Hashes of all shards' payloads and of the extent.
pub(crate) struct StripeHasher {
    /// One per shard; where all shards are copies, one for all of them.
    shards: Vec<TreeHasher>,
    /// None where the extent is its one data shard, to the byte.
    extent: Option<TreeHasher>,
    copies: usize,
}

impl StripeHasher {
    /// For `n` shards of a code with `k` data shards. With `k` = 1 all shards are the same bytes.
    pub(crate) fn new(geometry: &Geometry, k: usize, n: usize) -> Self {
        let trees = if k == 1 { 1 } else { n };
        let extent_is_shard = k == 1 && geometry.shard_bytes() == geometry.extent_bytes();
        Self {
            shards: vec![TreeHasher::new(geometry.shard_bytes()); trees],
            extent: (!extent_is_shard).then(|| TreeHasher::new(geometry.extent_bytes())),
            copies: n,
        }
    }

    /// For `n` shards that are not believed to be what the code makes of each other, nor to be copies.
    pub(crate) fn of_each(geometry: &Geometry, n: usize) -> Self {
        Self {
            shards: vec![TreeHasher::new(geometry.shard_bytes()); n],
            extent: Some(TreeHasher::new(geometry.extent_bytes())),
            copies: n,
        }
    }

    /// Payload of a shard at `offset`. Copies of a shard already added are passed over.
    pub(crate) fn add_shard(&mut self, shard: usize, offset: u64, bytes: &[u8]) -> Result<(), TreeError> {
        self.shards.get_mut(shard).map_or(Ok(()), |tree| tree.add(offset, bytes))
    }

    /// Bytes of the extent at `offset`.
    pub(crate) fn add_extent(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TreeError> {
        match &mut self.extent {
            Some(tree) if !bytes.is_empty() => tree.add(offset, bytes),
            _ => Ok(()),
        }
    }

    /// The extent's hash, and each shard's payload hash.
    pub(crate) fn finish(self) -> Result<(Hash, Vec<Hash>), Incomplete> {
        let mut shards = self.shards.into_iter().map(TreeHasher::finish).collect::<Result<Vec<Hash>, _>>()?;
        let first = shards.first().copied().unwrap_or_else(|| Hash::of(&[]));
        shards.resize(self.copies, first);
        let extent = self.extent.map_or(Ok(first), TreeHasher::finish)?;
        Ok((extent, shards))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_one_hash_and_the_extent_has_its_own_unless_it_is_the_shard() {
        for extent_bytes in [0usize, 1, 4096, 5000, 8192] {
            let geometry = Geometry::new(extent_bytes as u64, 1);
            let mut payload: Vec<u8> = (0..extent_bytes).map(|at| (at % 251) as u8).collect();
            let extent_hash = Hash::of(&payload);
            let mut hasher = StripeHasher::new(&geometry, 1, 3);
            hasher.add_extent(0, &payload).unwrap();
            payload.resize(geometry.shard_bytes() as usize, 0);
            for shard in 0..3 {
                if !payload.is_empty() {
                    hasher.add_shard(shard, 0, &payload).unwrap();
                }
            }
            assert_eq!(hasher.finish(), Ok((extent_hash, vec![Hash::of(&payload); 3])), "{extent_bytes}");
        }
    }
}
