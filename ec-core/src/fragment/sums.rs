//! What of a fragment is computed from its payload: the CRC of every block, and the BLAKE3 hash under its root.

use super::identity::{BirthIdentity, BlockSeed, Hash};
use super::tree::{Incomplete, TreeError, TreeHasher};
use crate::geometry::{BLOCK_BYTES, EXTENT_BYTES_MAX};
use crate::verify::VerifyError;

/// Why a stripe could not be encoded and summed in one walk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SumError {
    /// The payload is longer than an extent may be.
    #[error("a payload of {payload_bytes} bytes is longer than an extent may be: at most {limit}")]
    TooLong {
        /// Bytes of the payload, by its identity.
        payload_bytes: u64,
        /// The most there may be.
        limit: u64,
    },
    /// The piece is no part of the payload.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The stripe was refused.
    #[error(transparent)]
    Stripe(#[from] VerifyError),
}

/// The sums of one fragment's payload, from pieces in any order.
///
/// ```
/// use ec_core::encode::HASH_PIECE_BYTES;
/// use ec_core::fragment::{BirthIdentity, CellId, ExtentId, FragmentSums, Hash, SumError};
/// use ec_core::{Code, Locality, ShardIndex, StripeEncoder};
///
/// let code = Code::new(&"rs:2+1".parse()?)?;
/// let identity = |at| BirthIdentity {
///     cell: CellId(0), extent: ExtentId(9), generation: 1, index: ShardIndex::new(at), payload_bytes: 8192,
/// };
/// let mut sums = (0..3).map(|at| FragmentSums::new(&identity(at))).collect::<Result<Vec<_>, _>>()?;
/// let (data, mut parity) = ([[1; 8192], [2; 8192]], [0; 8192]);
/// let encoder = StripeEncoder::new(&code, HASH_PIECE_BYTES);
/// encoder.encode(&[&data[0], &data[1]], &mut [&mut parity], Locality::Auto, |shard, offset, piece| {
///     Ok::<(), SumError>(sums[shard].add(offset as u64, piece)?)
/// })?;
/// let (payload_hash, table) = sums.remove(2).finish()?;
/// assert_eq!((payload_hash, table.len()), (Hash::of(&parity), 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FragmentSums {
    seed: BlockSeed,
    table: Vec<u32>,
    tree: TreeHasher,
}

impl FragmentSums {
    /// For the payload of this identity. Allocates the table, 4 bytes a block and so 1 MiB at most, and later no more than a
    /// [`TreeHasher`] does.
    ///
    /// # Errors
    /// [`SumError::TooLong`] beyond [`EXTENT_BYTES_MAX`]: an identity may come from anywhere.
    pub fn new(identity: &BirthIdentity) -> Result<Self, SumError> {
        let (payload_bytes, limit) = (identity.payload_bytes, EXTENT_BYTES_MAX);
        let too_long = SumError::TooLong { payload_bytes, limit };
        if payload_bytes > limit {
            return Err(too_long);
        }
        let blocks = usize::try_from(payload_bytes.div_ceil(BLOCK_BYTES as u64)).map_err(|_| too_long)?;
        Ok(Self { seed: identity.seed(), table: vec![0; blocks], tree: TreeHasher::new(payload_bytes) })
    }

    /// Takes the bytes at `offset`: whole blocks of 4 KiB, or what is left to the end of the payload.
    ///
    /// # Errors
    /// [`TreeError`] for a piece that does not lie on blocks or reaches past the end, with nothing taken.
    pub fn add(&mut self, offset: u64, piece: &[u8]) -> Result<(), TreeError> {
        let first = offset / BLOCK_BYTES as u64;
        let whole = piece.len().is_multiple_of(BLOCK_BYTES)
            || offset.checked_add(piece.len() as u64) == Some(self.tree.total_bytes());
        if !offset.is_multiple_of(BLOCK_BYTES as u64) || !whole {
            return Err(TreeError::Unaligned { offset, bytes: piece.len() as u64 });
        }
        self.tree.add(offset, piece)?;
        // The tree has refused what is past the end, so these are entries of the table.
        let entries = self.table.iter_mut().zip(0u32..).skip(usize::try_from(first).unwrap_or(usize::MAX));
        for ((entry, number), block) in entries.zip(piece.chunks(BLOCK_BYTES)) {
            *entry = self.seed.crc(number, block);
        }
        Ok(())
    }

    /// The payload's hash, of which with the identity the root is made, and the CRC of every block.
    ///
    /// # Errors
    /// [`Incomplete`] unless every byte was given exactly once.
    pub fn finish(self) -> Result<(Hash, Vec<u32>), Incomplete> {
        Ok((self.tree.finish()?, self.table))
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::{CellId, ExtentId};
    use super::*;
    use crate::shard::ShardIndex;

    fn identity(payload_bytes: u64) -> BirthIdentity {
        let (cell, extent) = (CellId(0), ExtentId(77));
        BirthIdentity { cell, extent, generation: 2, index: ShardIndex::new(3), payload_bytes }
    }

    #[test]
    fn sums_do_not_depend_on_the_pieces() {
        let payload: Vec<u8> = (0..40 * 4096u32).map(|at| (at % 251).to_le_bytes()[0]).collect();
        let identity = identity(payload.len() as u64);
        let expected: Vec<u32> =
            (0..).zip(payload.chunks(4096)).map(|(number, block)| identity.seed().crc(number, block)).collect();
        for piece_bytes in [4096, 3 * 4096, 16 << 10, 40 * 4096] {
            let mut sums = FragmentSums::new(&identity).unwrap();
            let mut pieces: Vec<(usize, &[u8])> = payload.chunks(piece_bytes).enumerate().collect();
            pieces.reverse();
            for (at, piece) in pieces {
                sums.add((at * piece_bytes) as u64, piece).unwrap();
            }
            assert_eq!(sums.finish(), Ok((Hash::of(&payload), expected.clone())), "{piece_bytes}");
        }
    }

    #[test]
    fn a_payload_longer_than_an_extent_is_refused_before_anything_is_allocated() {
        for payload_bytes in [EXTENT_BYTES_MAX + 1, 1 << 40, u64::MAX - 4095, u64::MAX] {
            let refused = SumError::TooLong { payload_bytes, limit: EXTENT_BYTES_MAX };
            assert_eq!(FragmentSums::new(&identity(payload_bytes)).unwrap_err(), refused);
        }
        let longest = FragmentSums::new(&identity(EXTENT_BYTES_MAX)).unwrap();
        assert_eq!(longest.table.len() as u64, EXTENT_BYTES_MAX / 4096);
    }

    #[test]
    fn pieces_that_are_not_blocks_of_the_payload_are_refused() {
        let mut sums = FragmentSums::new(&identity(8192)).unwrap();
        for (offset, bytes) in [(1, 4096), (1024, 1024), (0, 1024), (4096, 5000), (0, 4095)] {
            let error = TreeError::Unaligned { offset, bytes };
            assert_eq!(sums.add(offset, &vec![0; usize::try_from(bytes).unwrap()]), Err(error));
        }
        for (offset, bytes) in [(8192, 4096), (4096, 8192), (u64::MAX - 4095, 4096)] {
            let piece = vec![0; usize::try_from(bytes).unwrap()];
            let found = sums.add(offset, &piece);
            assert!(matches!(found, Err(TreeError::OutOfRange { .. })), "{offset} {bytes}: {found:?}");
        }
        sums.add(0, &[0; 4096]).unwrap();
        assert_eq!(sums.finish(), Err(Incomplete::Gap { from: 4096, to: 8192 }));
    }
}
