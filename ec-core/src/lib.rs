//! Erasure coding in memory: bytes in, shards out, and back again from those that survive.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod buffer;
pub mod code;
pub mod error;
#[cfg(feature = "hash")]
#[warn(clippy::cast_possible_truncation)]
pub mod fragment;
pub mod geometry;
pub mod gf;
#[allow(unsafe_code)]
#[warn(clippy::cast_possible_truncation)]
pub mod kernel;
pub mod matrix;
pub mod plan;
pub mod shard;
pub mod verify;

pub use buffer::AlignedBuffer;
pub use code::{Code, CodeSpec};
pub use error::{CodeError, DecodeError, KernelError};
pub use geometry::Geometry;
pub use kernel::{Kernel, Transform};
pub use matrix::Matrix;
pub use plan::RepairPlan;
pub use shard::{ShardIndex, ShardSet};
pub use verify::{StripeCheck, VerifyError};
