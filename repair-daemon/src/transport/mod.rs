//! Frames over TCP: many questions in flight on one connection, answers in any order.
//!
//! [`Server`] takes connections and hands each request to a [`Handler`]; the answer goes back through [`Replies`], by the ids the
//! machines of `repair_core` use. [`Connection`] asks; [`Pool`] keeps one connection per address. The format is
//! `docs/format/wire.md`.
//!
//! Nothing here is secret or signed yet: whoever listens asks for that openly (`--insecure`).

mod client;
mod frame_io;
mod pool;
mod server;

pub use client::Connection;
pub use frame_io::OutBody;
pub use pool::Pool;
pub use server::{Handler, Limits, Replies, Server};

use repair_core::wire::frame::FrameKind;
use repair_core::wire::{DaemonReply, DaemonRequest, NodeReply, NodeRequest, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// What is spoken on a connection.
pub trait Protocol: Send + Sync + 'static {
    /// What is asked.
    type Request: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;
    /// What is answered.
    type Reply: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;
    /// The kind of frames that ask.
    const REQUEST: FrameKind;
    /// The kind of frames that answer.
    const REPLY: FrameKind;

    /// The answer that is a refusal.
    fn refused(refusal: Refusal) -> Self::Reply;

    /// Whether this answer has what proves its body, so that its frame need not.
    fn proves_body(reply: &Self::Reply) -> bool;
}

/// Spoken to a storage node.
#[derive(Clone, Copy, Debug)]
pub struct ToNode;

/// Spoken to the daemon.
#[derive(Clone, Copy, Debug)]
pub struct ToDaemon;

impl Protocol for ToNode {
    type Request = NodeRequest;
    type Reply = NodeReply;
    const REQUEST: FrameKind = FrameKind::NodeRequest;
    const REPLY: FrameKind = FrameKind::NodeReply;

    fn refused(refusal: Refusal) -> NodeReply {
        NodeReply::Refused(refusal)
    }

    fn proves_body(reply: &NodeReply) -> bool {
        matches!(reply, NodeReply::Data { .. })
    }
}

impl Protocol for ToDaemon {
    type Request = DaemonRequest;
    type Reply = DaemonReply;
    const REQUEST: FrameKind = FrameKind::DaemonRequest;
    const REPLY: FrameKind = FrameKind::DaemonReply;

    fn refused(refusal: Refusal) -> DaemonReply {
        DaemonReply::Refused(refusal)
    }

    fn proves_body(_: &DaemonReply) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
