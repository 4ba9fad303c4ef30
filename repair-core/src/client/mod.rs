//! The client's transfers: put one stream, get one range.
//!
//! The daemon allocates and commits; the bytes go between client and nodes directly. [`put::PutExtent`] encodes one extent and
//! streams its fragments to the nodes of a grant; [`put::PutStream`] leads the extents of one `put` call to their commit.
//! [`get::GetExtent`] reads a range of one extent, degraded where it must.

pub mod effect;

pub use effect::{AskId, ExtentEffect, ExtentEvent, GetFailure, PutFailure, StreamEffect, StreamEvent, StreamFailure};
