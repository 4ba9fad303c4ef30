//! A storage node's member: what it stores, whom it obeys, and in which order it makes things durable.
//!
//! Per placement group a node keeps a *journal*, synced before every answer: its list, prepared changes, tombstones, abort
//! marks, the last row heard, the highest token. The journal is the truth; the index beside it is a cache of records. What lies
//! in the folder is summed apart, from a listing of the directory. One mutation of a placement group is in work at a time;
//! reads and stages go beside it.

pub mod effect;
// The machine: see `docs/design/0004-service.md`.

pub use effect::{
    Body, Found, JournalFile, NodeEffect, NodeEvent, OpId, PeerId, RequestId, StoreCall, StoreError, StoreOk,
};
