//! What happens to a node and what it wants done.

use crate::id::{CellKey, DiskId, PgId, RecordHash};
use crate::lineage::Life;
use crate::time::{Millis, Time};
use crate::wire::node::{FragmentKey, NodeReply, NodeRequest, Place, StageKey};
use crate::wire::{CallError, DaemonReply, DaemonRequest};
use ec_core::fragment::Header;
use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Bytes beside a message; cheap to pass on.
pub type Body = bytes::Bytes;

/// What goes beside an answer. The machine looks at neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Bytes at hand.
    Bytes(Body),
    /// Whatever the host keeps them as.
    Hosted(Hosted),
}

impl Payload {
    /// The bytes, where they are at hand.
    pub fn into_bytes(self) -> Option<Body> {
        match self {
            Self::Bytes(body) => Some(body),
            Self::Hosted(_) => None,
        }
    }
}

impl From<Body> for Payload {
    fn from(body: Body) -> Self {
        Self::Bytes(body)
    }
}

/// Bytes that lie with the host, in a way only it knows: fragments go from the disk to a socket without passing through here.
#[derive(Clone)]
pub struct Hosted(Arc<dyn Any + Send + Sync>);

impl Hosted {
    /// Wraps what the host will want back.
    pub fn new(what: impl Any + Send + Sync) -> Self {
        Self(Arc::new(what))
    }

    /// What was wrapped, where it is of this type.
    pub fn downcast<T: Any + Send + Sync>(self) -> Option<Arc<T>> {
        self.0.downcast().ok()
    }
}

impl fmt::Debug for Hosted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hosted")
    }
}

impl PartialEq for Hosted {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Hosted {}

/// A connection from outside, for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// A request on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A store operation under way; given by the machine, never reused in one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// A journal as it was found at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalFile {
    /// Of which placement group.
    pub pg: PgId,
    /// Its bytes; an error where they cannot be read.
    pub bytes: Result<Vec<u8>, String>,
}

/// Happens to a node.
#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// A journal was found. All there are come before [`NodeEvent::Boot`], one after the other: a disk full of fragments has more than
    /// should lie in memory at once.
    Journal(JournalFile),
    /// Something staged was found that an earlier life kept ([`StoreCall::KeepStage`]). All there are come before [`NodeEvent::Boot`].
    Kept(FragmentKey),
    /// The process begins. Nothing but journals and what was kept comes before it.
    Boot {
        /// The disk, from its label.
        disk: DiskId,
        /// The cell, from its label.
        cell: Option<CellKey>,
        /// The life that lies beside the label; none where there is none.
        life: Option<Life>,
        /// Random, of this life.
        boot: u64,
        /// region/zone/rack/node.
        domain: String,
        /// Where it listens.
        address: String,
        /// The folder of the socket at which open files of fragments are had on this host; none where they are not.
        door: Option<String>,
    },
    /// A request came.
    Request {
        /// On this connection.
        peer: PeerId,
        /// With this number.
        id: RequestId,
        /// What is asked.
        request: NodeRequest,
        /// Its body.
        body: Body,
    },
    /// A connection ended; what it staged and nobody prepared is dropped, or let go of where it is kept.
    PeerGone {
        /// Which.
        peer: PeerId,
    },
    /// A store operation ended.
    Stored {
        /// Which.
        op: OpId,
        /// How.
        result: Result<StoreOk, StoreError>,
    },
    /// Another node answered, or did not.
    Forwarded {
        /// The [`NodeEffect::Forward`].
        op: OpId,
        /// What it said.
        result: Result<(NodeReply, Body), CallError>,
    },
    /// The daemon answered, or did not.
    Daemon {
        /// The answer to the last [`NodeEffect::AskDaemon`] of this number.
        number: u64,
        /// What it said.
        result: Result<DaemonReply, CallError>,
    },
    /// The connection to the daemon is new (again): register.
    DaemonReached,
    /// Bytes free and in all, measured now and then.
    Room {
        /// Bytes free.
        free_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// The store takes nothing any more for as long as this process lives: a sync failed, and nobody knows what is on the disk. It
    /// goes on being read.
    Broken {
        /// Why, in few words.
        reason: String,
    },
    /// So many fragments, when they were read back, were not on the disk as they were written.
    Mismatched {
        /// Since this was last told.
        times: u64,
    },
    /// The moment asked for with [`NodeEffect::WakeAt`] has come.
    Tick,
}

/// Wanted by a node.
#[derive(Clone, Debug)]
pub enum NodeEffect {
    /// Answer a request.
    Reply {
        /// On this connection.
        peer: PeerId,
        /// The request.
        id: RequestId,
        /// The answer.
        reply: NodeReply,
        /// What goes with it.
        body: Payload,
    },
    /// Do something with the disk; ends as [`NodeEvent::Stored`]. Operations of one placement group's journal and of one stage
    /// are wanted one after the other, never two at once.
    Store {
        /// Names it.
        op: OpId,
        /// What.
        call: StoreCall,
    },
    /// Ask another node; ends as [`NodeEvent::Forwarded`], within the deadline.
    Forward {
        /// Names it.
        op: OpId,
        /// Whom.
        to: Place,
        /// What.
        request: NodeRequest,
        /// After this the answer counts as silence.
        deadline: Millis,
    },
    /// Ask the daemon; ends as [`NodeEvent::Daemon`].
    AskDaemon {
        /// Names it.
        number: u64,
        /// What.
        request: DaemonRequest,
    },
    /// Write the cell into the disk's label, and the life beside it, durably, before anything else is stored.
    SetCell {
        /// Names it; ends as [`NodeEvent::Stored`].
        op: OpId,
        /// The cell.
        cell: CellKey,
        /// The life.
        life: Life,
    },
    /// A [`NodeEvent::Tick`] is wanted then. Replaces the one wanted before.
    WakeAt(Time),
    /// Something that who runs the node should hear.
    Say(Notice),
}

/// What who runs a node should hear. Nothing waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// In the folder of its placement group lies a file that nothing says should be there. It stays where it is.
    Orphan {
        /// Which.
        fragment: FragmentKey,
        /// Its class by the fragment format.
        class: String,
    },
    /// A scrub came to its end, and there were such files.
    Orphans {
        /// How many.
        files: u64,
        /// How many of them are damaged.
        damaged: u64,
    },
    /// A fragment that the list names is not whole on the disk, which had said that it was durable there.
    Torn {
        /// Which.
        fragment: FragmentKey,
        /// Such fragments so far.
        total: u64,
    },
    /// The disk takes nothing new from now on, also after a restart, until somebody vouches for it.
    Distrusted {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orphan { fragment: FragmentKey { extent, generation, index }, class } => {
                write!(formatter, "orphan: fragment {index} of extent {extent}, generation {generation}: {class}")
            }
            Self::Orphans { files, damaged } => {
                write!(formatter, "the scrub met {files} orphans, {damaged} of them damaged; they stay where they are")
            }
            Self::Torn { fragment: FragmentKey { extent, index, .. }, total } => {
                write!(
                    formatter,
                    "alarm: the disk acknowledged fragment {index} of extent {extent} and does not have it whole; it is the disk's number {total}"
                )
            }
            Self::Distrusted { reason } => {
                write!(formatter, "alarm: {reason}. Replace it, or start the node with --trust-disk once it is seen to")
            }
        }
    }
}

/// An operation of the store. Everything that says *durable* has been synced, directories too, when it ends well.
#[derive(Clone, Debug)]
pub enum StoreCall {
    /// Make a nameless file of the fragment's full size, its room reserved.
    OpenStage {
        /// Names the stage.
        key: StageKey,
        /// The fragment's header.
        header: Box<Header>,
    },
    /// As [`StoreCall::OpenStage`], with a file that stays when the process ends, or the one that is there already of this very fragment:
    /// same cell, code and lengths. Of any other it is dropped first. Ends as [`StoreOk::Kept`].
    KeepStage {
        /// Names the stage, until it is let go of.
        key: StageKey,
        /// The fragment's header.
        header: Box<Header>,
    },
    /// Make durable what has come to a kept stage and let go of it: it stays, and has no key any more.
    LeaveStage {
        /// Which stage.
        key: StageKey,
    },
    /// Remove a kept stage that nobody has open.
    DropKept {
        /// Which fragment it was to be.
        fragment: FragmentKey,
    },
    /// Write payload and take it into the hash.
    WriteStage {
        /// Which stage.
        key: StageKey,
        /// Where in the payload.
        offset: u64,
        /// The bytes.
        body: Body,
    },
    /// The root of the payload: of the bytes as received, and of those that an earlier opening left as they come from the device.
    SealStage {
        /// Which stage.
        key: StageKey,
    },
    /// Write header and tail with this record, and make the file durable. Still without a name. Any error discards it.
    FinishStage {
        /// Which stage.
        key: StageKey,
        /// The extent's record.
        record: Body,
    },
    /// Give it its name, if nothing has that name. Not durable before [`StoreCall::SyncFolder`].
    PublishStage {
        /// Which stage.
        key: StageKey,
    },
    /// Make the names in a placement group's folder durable.
    SyncFolder {
        /// Which.
        pg: PgId,
    },
    /// Forget a stage.
    DropStage {
        /// Which.
        key: StageKey,
    },
    /// Read payload and the CRCs of its blocks.
    Read {
        /// Which fragment.
        fragment: FragmentKey,
        /// Which bytes of the payload, whole blocks.
        range: Range<u64>,
    },
    /// Read payload, prove it by the CRCs of its table, and add its share to sums. Any block that does not have its CRC is
    /// [`StoreError::Damaged`].
    Combine {
        /// Which fragment.
        fragment: FragmentKey,
        /// Which bytes of the payload, whole blocks.
        range: Range<u64>,
        /// One per sum.
        coefficients: Vec<u8>,
        /// The sums so far, one after the other, each as long as the range; empty where there are none.
        sums: Body,
    },
    /// The record of this hash: from the index, or from the fragment's tail.
    ReadRecord {
        /// The fragment of ours that carries it.
        fragment: FragmentKey,
        /// Its hash.
        hash: RecordHash,
    },
    /// Read a fragment whole and judge it. Bypasses the page cache where it can.
    Check {
        /// Which.
        fragment: FragmentKey,
        /// Hash of the record on the list, which it must carry; none where nothing is known.
        hash: Option<RecordHash>,
    },
    /// Move a fragment into quarantine, durably.
    Quarantine {
        /// Which.
        fragment: FragmentKey,
        /// Why, in few words.
        reason: String,
    },
    /// Remove a fragment from quarantine for good.
    UnlinkQuarantined {
        /// Which.
        fragment: FragmentKey,
    },
    /// Look whether the disk is there, by its label. Nothing else is read.
    Touch,
    /// The fragment files of a placement group, from a listing of its folder.
    ListFolder {
        /// Which.
        pg: PgId,
    },
    /// Append to a journal, durably.
    AppendJournal {
        /// Of which placement group.
        pg: PgId,
        /// What; whole records.
        bytes: Vec<u8>,
    },
    /// Replace a journal as one, durably.
    ReplaceJournal {
        /// Of which placement group.
        pg: PgId,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Remember a record in the index. A cache: may be lost.
    IndexPut {
        /// The fragment that carries it.
        fragment: FragmentKey,
        /// The record.
        record: Body,
    },
    /// Forget it. May be lost.
    IndexRemove {
        /// The fragment.
        fragment: FragmentKey,
    },
}

/// A store operation that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOk {
    /// Done.
    Done,
    /// The root of a sealed stage.
    Root([u8; 32]),
    /// A stage that is kept, and what of its payload is there and durable: beginnings and ends, whole blocks, in order and apart. `None`
    /// where the store does not keep this one: it is a stage like any other.
    Kept(Option<Vec<(u64, u64)>>),
    /// Published; false where something has the name already.
    Published(bool),
    /// Payload and CRCs.
    Data {
        /// The payload.
        body: Payload,
        /// CRC of each block, by the fragment's table.
        crcs: Vec<u32>,
    },
    /// Sums, one after the other.
    Sums(Body),
    /// A record.
    Record(Body),
    /// What a fragment was found to be: class, and the root it carries where that could be read.
    Checked {
        /// Its class by the fragment format: `healthy` counts.
        class: String,
        /// The root computed from its payload.
        root: Option<[u8; 32]>,
        /// Bytes of payload read for it.
        bytes: u64,
    },
    /// Files of a folder, by the fragments that their names say.
    Folder(Vec<FragmentKey>),
}

/// A store operation that failed. What was being written is discarded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It is not there, and the disk's label is.
    #[error("not there")]
    NotFound,
    /// It is there and damaged.
    #[error("damaged: {0}")]
    Damaged(String),
    /// No room left.
    #[error("no space: {0}")]
    NoSpace(String),
    /// The device or the file system failed; nothing follows about what is there.
    #[error("{0}")]
    Io(String),
    /// The machine asked for something that makes no sense: a stage that is not open, a piece twice.
    #[error("invalid: {0}")]
    Invalid(String),
}
