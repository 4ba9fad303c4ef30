//! Slices: the same byte range of every shard of an extent, the unit of parallel work and of memory.

use super::{FilesError, Work};
use ec_core::fragment::{BlockSeed, Hash, TreeHasher};
use ec_core::geometry::BLOCK_BYTES;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// All shards' slices together: what one thread holds. Files are read and written slice by slice, and a device is faster with
/// pieces of about 1 MiB than with smaller ones.
const SLICE_OF_ALL_SHARDS_BYTES: usize = 16 << 20;
/// Below, system calls cost more than the bytes.
const SLICE_BYTES_MIN: usize = 64 << 10;
/// Above, few shards would make few slices and leave threads idle.
const SLICE_BYTES_MAX: usize = 1 << 20;
/// All shards' strips together should stay in a core's second-level cache while they are coded, checked and hashed.
const STRIP_OF_ALL_SHARDS_BYTES: usize = 1 << 20;
/// A BLAKE3 tree is fast from 16 KiB on.
const STRIP_BYTES_MIN: usize = 16 << 10;

/// Slice length for `shards` shards: a power of two, so that a slice is one subtree of its shard's hash.
pub fn slice_bytes(shards: usize) -> usize {
    power_of_two_below(SLICE_OF_ALL_SHARDS_BYTES / shards.max(1)).clamp(SLICE_BYTES_MIN, SLICE_BYTES_MAX)
}

/// The ranges of a slice to compute one after the other, so that each is still in cache when it is used again.
pub fn strips(shards: usize, slice_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let step = power_of_two_below(STRIP_OF_ALL_SHARDS_BYTES / shards.max(1)).max(STRIP_BYTES_MIN);
    (0..slice_bytes).step_by(step).map(move |start| start..(start + step).min(slice_bytes))
}

fn power_of_two_below(bytes: usize) -> usize {
    if bytes.is_power_of_two() { bytes } else { bytes.next_power_of_two() / 2 }
}

/// Runs `job` on every slice of shards of `shard_bytes`, in parallel, until one fails or the user stops.
///
/// # Errors
/// The first error of a job, or [`FilesError::Interrupted`].
pub fn for_each_slice(
    work: &Work,
    shard_bytes: u64,
    slice_bytes: usize,
    job: impl Fn(Range<u64>) -> Result<(), FilesError> + Sync,
) -> Result<(), FilesError> {
    let step = slice_bytes as u64;
    (0..shard_bytes.div_ceil(step)).into_par_iter().try_for_each(|slice| {
        work.check_stop()?;
        job(slice * step..((slice + 1) * step).min(shard_bytes))
    })
}

/// A hash gathered from pieces in any order, on any thread.
pub struct SharedTree {
    total_bytes: u64,
    tree: Mutex<TreeHasher>,
}

impl SharedTree {
    /// The hash of `total_bytes` bytes.
    pub fn new(total_bytes: u64) -> Self {
        Self { total_bytes, tree: Mutex::new(TreeHasher::new(total_bytes)) }
    }

    /// Adds the bytes at `offset`. Hashing happens outside the lock.
    ///
    /// # Errors
    /// [`FilesError::Internal`] where the piece does not lie on the tree's chunks.
    pub fn add(&self, offset: u64, bytes: &[u8]) -> Result<(), FilesError> {
        if !bytes.is_empty() {
            let mut piece = TreeHasher::new(self.total_bytes);
            piece.add(offset, bytes).map_err(FilesError::internal)?;
            self.tree.lock().unwrap_or_else(PoisonError::into_inner).merge(piece);
        }
        Ok(())
    }

    /// Forgets what was added.
    pub fn reset(&self) {
        *self.tree.lock().unwrap_or_else(PoisonError::into_inner) = TreeHasher::new(self.total_bytes);
    }

    /// The hash, once every byte was added.
    ///
    /// # Errors
    /// [`FilesError::Internal`] where a piece is missing or came twice.
    pub fn finish(self) -> Result<Hash, FilesError> {
        self.tree.into_inner().unwrap_or_else(PoisonError::into_inner).finish().map_err(FilesError::internal)
    }
}

/// Block CRCs and payload hash of one shard, gathered from slices in any order.
pub struct ShardSums {
    seed: BlockSeed,
    tree: SharedTree,
    table: Mutex<Vec<u32>>,
}

impl ShardSums {
    /// Sums of a shard of `shard_bytes` (whole blocks) whose blocks are seeded by `seed`.
    pub fn new(seed: BlockSeed, shard_bytes: u64) -> Self {
        let blocks = first_block(shard_bytes) as usize;
        Self { seed, tree: SharedTree::new(shard_bytes), table: Mutex::new(vec![0; blocks]) }
    }

    /// Adds the slice that starts at `offset` of the shard; a slice is whole blocks.
    ///
    /// # Errors
    /// As [`SharedTree::add`].
    pub fn add(&self, offset: u64, slice: &[u8]) -> Result<(), FilesError> {
        let first = first_block(offset) as usize;
        let crcs: Vec<u32> = slice
            .chunks(BLOCK_BYTES)
            .zip(first_block(offset)..)
            .map(|(block, number)| self.seed.crc(number, block))
            .collect();
        self.table.lock().unwrap_or_else(PoisonError::into_inner)[first..first + crcs.len()].copy_from_slice(&crcs);
        self.tree.add(offset, slice)
    }

    /// Hash of the payload and the CRC of every block, once every slice was added.
    ///
    /// # Errors
    /// As [`SharedTree::finish`].
    pub fn finish(self) -> Result<(Hash, Vec<u32>), FilesError> {
        Ok((self.tree.finish()?, self.table.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Number of the block at a byte offset that is a multiple of the block size.
pub fn first_block(offset: u64) -> u32 {
    // Extents are at most 1 GiB: 2^18 blocks.
    u32::try_from(offset / BLOCK_BYTES as u64).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_and_strips_are_powers_of_two_within_memory_and_cache() {
        for shards in 1..=256 {
            let bytes = slice_bytes(shards);
            assert!(
                bytes.is_power_of_two() && (SLICE_BYTES_MIN..=SLICE_BYTES_MAX).contains(&bytes),
                "{shards}: {bytes}"
            );
            assert!(bytes * shards <= SLICE_OF_ALL_SHARDS_BYTES, "{shards}: {bytes}");
            let mut end = 0;
            for strip in strips(shards, bytes) {
                assert_eq!(strip.start, end);
                assert!(
                    strip.len() * shards <= STRIP_OF_ALL_SHARDS_BYTES.max(shards * STRIP_BYTES_MIN),
                    "{shards}: {strip:?}"
                );
                end = strip.end;
            }
            assert_eq!(end, bytes);
        }
        assert_eq!(
            (slice_bytes(14), slice_bytes(16), slice_bytes(3), slice_bytes(256)),
            (1 << 20, 1 << 20, 1 << 20, 64 << 10)
        );
        assert!(strips(14, 12_288).eq(std::iter::once(0..12_288)));
    }
}
