//! Wide codes: up to 65,536 shards over GF(2^16), for the library alone. Fragments and the service have at most 256.
//!
//! [`WideSpec`] is such a code by name; the rest is behind the feature `wide`: [`WideCode`] is one ready to use, [`WidePlan`] rebuilds
//! lost shards.
//!
//! The bytes are those of Leopard-RS as reed-solomon-simd writes them. `points` has the matrix that follows from its definition, so that
//! a few lost shards are rebuilt as sums of others instead of by the full decode; `docs/design/0007-wide-codes.md` says why it is
//! so.

#[cfg(feature = "wide")]
mod code;
#[cfg(feature = "wide")]
mod library;
#[cfg(feature = "wide")]
mod plan;
#[cfg(feature = "wide")]
mod points;
mod spec;
#[cfg(all(test, feature = "wide"))]
mod tests;
#[cfg(feature = "wide")]
mod workspace;

#[cfg(feature = "wide")]
pub use self::{
    code::WideCode,
    plan::{WideMethod, WidePlan},
    workspace::WideWorkspace,
};
pub use spec::{WIDE_SHARDS_MAX, WideSpec};

#[cfg(feature = "wide")]
use crate::{error::DecodeError, shard::ShardIndex};

/// Bytes of an element.
#[cfg(feature = "wide")]
const GRANULARITY_BYTES: usize = 2;

/// The length that all buffers have.
#[cfg(feature = "wide")]
fn common_length(mut lengths: impl Iterator<Item = (ShardIndex, usize)>) -> Result<usize, DecodeError> {
    let Some((_, expected)) = lengths.next() else { return Ok(0) };
    if !expected.is_multiple_of(GRANULARITY_BYTES) {
        return Err(DecodeError::Granularity { found: expected, granularity: GRANULARITY_BYTES });
    }
    match lengths.find(|&(_, found)| found != expected) {
        None if expected == 0 => Err(DecodeError::Empty { granularity: GRANULARITY_BYTES }),
        None => Ok(expected),
        Some((index, found)) => Err(DecodeError::LengthMismatch { index, expected, found }),
    }
}

/// Positions come from a code of at most 65,536 shards.
#[cfg(feature = "wide")]
fn shard(at: usize) -> ShardIndex {
    ShardIndex::new(u16::try_from(at).unwrap_or(u16::MAX))
}
