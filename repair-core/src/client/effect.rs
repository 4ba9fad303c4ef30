//! What happens to a client's transfers and what they want done.

use crate::node::Body;
use crate::pg::CallId;
use crate::time::{Millis, Time};
use crate::wire::daemon::{ExtentEntry, Grant};
use crate::wire::node::Place;
use crate::wire::{CallError, DaemonReply, DaemonRequest, NodeReply, NodeRequest};

/// A question to the daemon under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// Happens to the transfer of one extent: put, get or repair.
#[derive(Clone, Debug)]
pub enum ExtentEvent {
    /// A node's answer.
    Call {
        /// Names the effect.
        call: CallId,
        /// The answer.
        result: Result<(NodeReply, Body), CallError>,
    },
    /// The daemon's answer.
    Ask {
        /// Names the effect.
        ask: AskId,
        /// The answer.
        result: Result<(DaemonReply, Body), CallError>,
    },
    /// Bytes of the source of a put, exactly those asked for; an error where they cannot be read or are not there any more.
    Source {
        /// Names the effect.
        read: CallId,
        /// The bytes.
        bytes: Result<Body, String>,
    },
    /// The moment asked for with [`ExtentEffect::WakeAt`] has come.
    Tick,
}

/// Wanted by the transfer of one extent.
#[derive(Clone, Debug)]
pub enum ExtentEffect {
    /// Ask a node.
    Call {
        /// Names it; ends as [`ExtentEvent::Call`].
        call: CallId,
        /// Whom.
        to: Place,
        /// What.
        request: NodeRequest,
        /// Its body.
        body: Body,
        /// After this the answer counts as silence.
        deadline: Millis,
    },
    /// Ask the daemon.
    Ask {
        /// Names it; ends as [`ExtentEvent::Ask`].
        ask: AskId,
        /// What.
        request: DaemonRequest,
        /// Its body.
        body: Body,
    },
    /// Read the source of a put.
    ReadSource {
        /// Names it; ends as [`ExtentEvent::Source`].
        read: CallId,
        /// First byte in the extent.
        offset: u64,
        /// How many.
        bytes: usize,
    },
    /// Bytes of a get, proven, in any order, each once.
    Deliver {
        /// First byte in the extent.
        offset: u64,
        /// The bytes.
        bytes: Body,
    },
    /// An [`ExtentEvent::Tick`] is wanted then. Replaces the one wanted before.
    WakeAt(Time),
}

/// Why an extent was not put.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutFailure {
    /// Its fragments could not all be staged: allocate anew and send again.
    #[error("{0}")]
    Again(String),
    /// The source cannot be read, or is not what it was.
    #[error("source: {0}")]
    Source(String),
    /// The encoder's output did not pass its check; nothing was committed.
    #[error("encoder: {0}")]
    Encoder(String),
}

/// Why bytes were not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetFailure {
    /// Too few sound fragments can be had now; they may come back.
    #[error("not available now: {0}")]
    Unavailable(String),
    /// The extent is not on file.
    #[error("not on file")]
    NotFound,
    /// What came back is wrong in a way that reading again does not mend.
    #[error("{0}")]
    Wrong(String),
}

/// Happens to a put of a stream.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// The daemon's answer.
    Ask {
        /// Names the effect.
        ask: AskId,
        /// The answer.
        result: Result<(DaemonReply, Body), CallError>,
    },
    /// A transfer ended.
    Transferred {
        /// Position of the extent in the stream.
        ordinal: u64,
        /// The record, all fragments staged and sealed; or why not.
        result: Result<Body, PutFailure>,
    },
    /// The moment asked for with [`StreamEffect::WakeAt`] has come.
    Tick,
}

/// Wanted by a put of a stream.
#[derive(Clone, Debug)]
pub enum StreamEffect {
    /// Ask the daemon; ends as [`StreamEvent::Ask`].
    Ask {
        /// Names it.
        ask: AskId,
        /// What.
        request: DaemonRequest,
        /// Its body.
        body: Body,
    },
    /// Run a [`PutExtent`](super) with this grant; ends as [`StreamEvent::Transferred`]. The transfer keeps its connections to
    /// the nodes until [`StreamEffect::Release`]: what they staged lives as long.
    Transfer {
        /// The extent as part of the stream.
        entry: ExtentEntry,
        /// The leave to write it.
        grant: Grant,
        /// Length of the whole stream.
        stream_bytes: u64,
        /// All extents of the stream, where this is the last one and they are known; else none.
        extents: Vec<ExtentEntry>,
    },
    /// The extent is committed, or will be allocated anew: its connections are of no more use.
    Release {
        /// Position of the extent in the stream.
        ordinal: u64,
    },
    /// A [`StreamEvent::Tick`] is wanted then. Replaces the one wanted before.
    WakeAt(Time),
}

/// Why a put failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamFailure {
    /// The source cannot be read, or changed while it was read.
    #[error("source: {0}")]
    Source(String),
    /// The daemon said no.
    #[error("{0}")]
    Refused(crate::wire::Refusal),
    /// It did not get done in the time given; nothing is visible.
    #[error("gave up: {0}")]
    GaveUp(String),
    /// Whether it was committed is not known: look it up.
    #[error("it may or may not be stored: {0}")]
    Unknown(String),
}
