//! What can be wrong with the buffers of a vector code.

use crate::error::DecodeError;
use crate::shard::ShardIndex;

/// Why a stripe of a vector code could not be encoded, planned or rebuilt. Outputs are untouched whenever one of these is
/// returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// As for every other code: counts, positions, lengths of whole shards, what cannot be decoded.
    #[error(transparent)]
    Shards(#[from] DecodeError),
    /// An input has another length than the sub-chunks the plan reads of that shard.
    #[error(
        "the input of fragment {index} has {found} bytes; the plan reads {sub_chunks} sub-chunks of it, which are {expected} bytes"
    )]
    PartLength {
        /// Fragment the input was given for.
        index: ShardIndex,
        /// Sub-chunks the plan reads of it.
        sub_chunks: usize,
        /// Their bytes, by the length of the outputs.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
}
