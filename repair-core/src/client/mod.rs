//! The client's transfers: put one stream, get one range.
//!
//! The daemon allocates and commits; the bytes go between client and nodes directly. [`put::PutExtent`] encodes one extent and
//! streams its fragments to the nodes of a grant; [`stream::PutStream`] leads the extents of one `put` call to their commit.
//! [`get::GetExtent`] reads a range of one extent, degraded where it must.
//!
//! Every machine begins with a [`Tick`](ExtentEvent::Tick): create it, tick it, perform its effects. Once `outcome()` says
//! something, what it may still want (dropping stages, giving a put up) is polled as always; nobody needs to wait for the answers.

pub mod effect;
mod encode;
pub mod get;
mod hash;
mod outbox;
pub mod put;
pub(crate) mod source;
pub mod stream;
#[cfg(test)]
pub(crate) mod test_world;

#[cfg(test)]
mod chaos_tests;

pub use effect::{AskId, ExtentEffect, ExtentEvent, GetFailure, PutFailure, StreamEffect, StreamEvent, StreamFailure};
pub use get::{GetConfig, GetExtent};
pub use put::{PutExtent, PutSpec};
pub use stream::{PutPlan, PutStream, PutSummary, StreamConfig};

pub(crate) use encode::strips;
pub(crate) use hash::StripeHasher;
pub(crate) use outbox::Outbox;

use crate::limits::SLICE_BYTES;

/// All shards' slices together: what one step of a transfer holds.
const SLICE_OF_ALL_SHARDS_BYTES: usize = 16 << 20;
/// Below, messages cost more than their bytes.
const SLICE_BYTES_MIN: usize = 64 << 10;

/// What one shard gives to one step of a transfer with `shards` shards: a power of two, so that it is one subtree of the shard's
/// hash, and no more than a message takes.
pub(crate) fn slice_bytes(shards: usize) -> usize {
    power_of_two_below(SLICE_OF_ALL_SHARDS_BYTES / shards.max(1)).clamp(SLICE_BYTES_MIN, SLICE_BYTES)
}

fn power_of_two_below(bytes: usize) -> usize {
    if bytes.is_power_of_two() { bytes } else { bytes.next_power_of_two() / 2 }
}
