//! What travels between clients, daemon and nodes: frames, messages, and the one codec for both messages and catalog rows.
//!
//! Every conversation is request and reply on a connection the asking side opened; replies carry the request's number and may
//! come in any order. `docs/format/wire.md` is the format.

pub mod codec;
pub mod daemon;
pub mod frame;
pub mod node;
pub mod refusal;

pub use daemon::{DaemonReply, DaemonRequest};
pub use node::{NodeReply, NodeRequest};
pub use refusal::{CallError, Refusal};
