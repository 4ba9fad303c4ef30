//! Erasure coding in memory: bytes in, shards out, and back again from those that survive.
//! This crate has never heard of a disk, a node or a clock.
//!
//! ```
//! use ec_core::{Code, ShardIndex, ShardSet};
//!
//! let code = Code::new(&"lrc:12,2,2".parse()?)?;
//! let data: Vec<Vec<u8>> = (0..12).map(|shard| vec![shard; 1000]).collect();
//! let mut parity = vec![vec![0; 1000]; code.m()];
//! code.encode(&slices(&data), &mut parity.iter_mut().map(|shard| &mut shard[..]).collect::<Vec<_>>())?;
//!
//! // Shard 3 is lost: its local group of six rebuilds it.
//! let lost = ShardSet::from_iter([ShardIndex::new(3)]);
//! let plan = code.plan(&lost, &lost.complement(code.n()))?;
//! assert_eq!(plan.reads().iter().map(|index| index.get()).collect::<Vec<_>>(), [0, 1, 2, 4, 5, 12]);
//!
//! let all = [data.clone(), parity].concat();
//! let inputs: Vec<_> = plan.reads().iter().map(|index| (*index, &all[index.at()][..])).collect();
//! let mut rebuilt = vec![0; 1000];
//! plan.run(&inputs, &mut [(ShardIndex::new(3), &mut rebuilt)])?;
//! assert_eq!(rebuilt, data[3]);
//!
//! fn slices(shards: &[Vec<u8>]) -> Vec<&[u8]> {
//!     shards.iter().map(Vec::as_slice).collect()
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`CodeSpec`] is a code by name, [`Code`] one ready to use: encode, decode any decodable pattern, count patterns.
//! - [`RepairPlan`] says which shards to read for which losses, and rebuilds them range by range.
//! - [`Conversion`] makes stripes of one code into stripes of another, from their parities where that can be.
//! - [`Costs`] say what each shard costs to read; [`CheapestPlan`], [`HedgedPlan`] and [`RangePlan`] heed them, [`Arrivals`] tells when
//!   enough has come, and a [`PartialSum`] is what some of the reads contribute.
//! - [`ParityDelta`] and [`UpdatePlan`] bring parities up to date after small writes; [`Locator`] says which shards of a stripe are wrong.
//! - [`StripeCheck`] checks parity by a second path before anybody relies on it.
//! - [`StripeEncoder`] encodes, checks and shows every byte for checksums in one walk over memory.
//! - [`StripeBuffers`] are the buffers of a stripe, placed so that they do not push each other out of the caches.
//! - [`WideSpec`] is a code of more than 256 shards; with the feature `wide`, `WideCode` computes it.
//! - [`VectorSpec`] is a code whose shards have sub-chunks (Hitchhiker, LRC over GF(2^16), Clay); [`VectorCode`] computes it.
//! - [`fragment`] is the file format: shards with identity, checksums, roots, and the record that names all brothers.
//! - [`kernel`] has the ways to compute; the fastest that this CPU runs and that passes its self-test is chosen at first use.
//!
//! With the feature `parallel`, `Code::encode_parallel`, `StripeEncoder::encode_parallel` and `RepairPlan::run_parallel` spread
//! one stripe over the threads of a rayon pool.
//!
//! What it will never do: read a file, start a thread of its own (rayon's are the caller's choice), draw a random number of its own, or panic on honest buffers.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod buffer;
pub mod code;
pub mod convert;
pub mod encode;
pub mod error;
#[cfg(feature = "hash")]
#[warn(clippy::cast_possible_truncation)]
pub mod fragment;
pub mod geometry;
pub mod gf;
#[cfg(feature = "wide")]
pub mod gf16;
#[allow(unsafe_code)]
#[warn(clippy::cast_possible_truncation)]
pub mod kernel;
pub mod locate;
pub mod matrix;
#[cfg(feature = "parallel")]
pub mod parallel;
pub mod plan;
pub mod shard;
pub mod update;
pub mod vector;
pub mod verify;
pub mod wide;

pub use buffer::{AlignedBuffer, StripeBuffers};
pub use code::{Code, CodeSpec};
pub use convert::{Conversion, ConvertError};
pub use encode::StripeEncoder;
pub use error::{CodeError, DecodeError, KernelError, TransformError};
pub use geometry::Geometry;
pub use kernel::{Kernel, Locality, Transform};
pub use locate::{LocateError, Locator};
pub use matrix::Matrix;
pub use plan::{Arrivals, CheapestPlan, Costs, HedgedPlan, PartialSum, PlanCache, RangePlan, RepairPlan};
pub use shard::{ShardIndex, ShardSet};
pub use update::{ParityDelta, UpdateError, UpdatePlan, UpdateWay};
pub use vector::{VectorCode, VectorError, VectorPlan, VectorSpec};
pub use verify::{StripeCheck, VerifyError};
pub use wide::WideSpec;
#[cfg(feature = "wide")]
pub use wide::{WideCode, WidePlan, WideWorkspace};
