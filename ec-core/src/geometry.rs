//! How an extent's bytes lie on its shards: data shard `i` holds `[i*L, (i+1)*L)`, zero-padded.

use std::ops::Range;

/// Bytes of a checksum block; payloads are whole blocks.
pub const BLOCK_BYTES: usize = 4096;
/// Largest extent.
pub const EXTENT_BYTES_MAX: u64 = 1 << 30;
/// Usual extent: long enough for large reads, short enough that one repair is soon done.
pub const EXTENT_BYTES_NOMINAL: u64 = 256 << 20;

/// Layout of one extent over the data shards of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    extent_bytes: u64,
    data_shards: usize,
    shard_bytes: u64,
}

impl Geometry {
    /// The layout of `extent_bytes` over `data_shards` shards. Every code has at least 1; 0 is taken for it.
    pub fn new(extent_bytes: u64, data_shards: usize) -> Self {
        let data_shards = data_shards.max(1);
        let blocks = extent_bytes.div_ceil(data_shards as u64).div_ceil(BLOCK_BYTES as u64);
        Self { extent_bytes, data_shards, shard_bytes: blocks * BLOCK_BYTES as u64 }
    }

    /// Bytes of the extent.
    pub fn extent_bytes(&self) -> u64 {
        self.extent_bytes
    }

    /// Data shards of the code.
    pub fn data_shards(&self) -> usize {
        self.data_shards
    }

    /// Bytes of every shard, a multiple of [`BLOCK_BYTES`].
    pub fn shard_bytes(&self) -> u64 {
        self.shard_bytes
    }

    /// The bytes of the extent that lie in `range` of data shard `shard`; what is past the end of the extent is padding.
    pub fn extent_range(&self, shard: usize, range: Range<u64>) -> Range<u64> {
        debug_assert!(shard < self.data_shards);
        let start = shard as u64 * self.shard_bytes;
        (start + range.start).min(self.extent_bytes)..(start + range.end).min(self.extent_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_the_extent_once_and_are_whole_blocks() {
        for data_shards in [1, 2, 3, 10, 12, 200] {
            for extent_bytes in [0, 1, 4095, 4096, 4097, 40_960, 49_152, 1_000_003, EXTENT_BYTES_MAX] {
                let geometry = Geometry::new(extent_bytes, data_shards);
                assert_eq!(geometry.shard_bytes() % BLOCK_BYTES as u64, 0);
                let mut at = 0;
                for shard in 0..data_shards {
                    let range = geometry.extent_range(shard, 0..geometry.shard_bytes());
                    assert_eq!(range.start, at);
                    at = range.end;
                }
                assert_eq!(at, extent_bytes);
            }
        }
        assert_eq!(Geometry::new(12 * 4096, 12).shard_bytes(), 4096);
        assert_eq!(Geometry::new(0, 12).shard_bytes(), 0);
        assert_eq!(Geometry::new(10, 0), Geometry::new(10, 1));
    }
}
