//! Vector codes: a shard is `alpha` equal pieces in a row, its sub-chunks, and the code is linear over GF(2^8) in sub-chunks.
//!
//! What that buys is a rebuild that reads pieces of shards (Hitchhiker, Clay), or a field that GF(2^8) alone does not have
//! (an element of GF(2^16) is two bytes, one in each half of a shard). [`VectorSpec`] is such a code by name, [`VectorCode`] one
//! ready to use, [`VectorPlan`] says which sub-chunks to read for which losses and rebuilds from them.
//!
//! A code is `n * alpha` rows of `k * alpha` coefficients, row `i * alpha + s` for sub-chunk `s` of shard `i`; encode, plans and
//! rank work on these rows with the same [`Matrix`](crate::Matrix) and [`Transform`](crate::Transform) as all other codes. Clay codes
//! have too many rows for that and go layer by layer through small transforms. Constructions: `docs/design/0012-vector-codes.md`.

#[cfg(feature = "clay")]
mod clay;
mod code;
mod error;
mod hitchhiker;
mod lrc16;
mod plan;
mod spec;
mod tower;

pub use code::VectorCode;
pub use error::VectorError;
pub use plan::{VectorPlan, VectorRead};
pub use spec::{SUB_CHUNKS_MAX, VectorShape, VectorSpec};
