//! What the daemon is asked and answers, by nodes and by clients.

use super::node::{DamageReport, FaultCount, Place, ServiceTime};
use super::refusal::Refusal;
use crate::catalog::{NameRow, PgState};
use crate::id::{AttemptId, CellKey, DiskId, ExtentKey, PgId, RecordHash, StreamKey, Token};
use crate::lineage::Claim;
use crate::time::Millis;
use ec_core::code::DESCRIPTOR_BYTES;
use serde::{Deserialize, Serialize};

/// Leave to write one extent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The cell.
    pub cell: CellKey,
    /// The extent's id, never given out before or again.
    pub extent: ExtentKey,
    /// The attempt.
    pub attempt: AttemptId,
    /// The owner's token.
    pub token: Token,
    /// The code.
    pub code: [u8; DESCRIPTOR_BYTES],
    /// The node of each fragment, by index. None where the placement group has a gap and the policy allows it.
    pub places: Vec<Option<Place>>,
}

/// The name of a stored file and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// First byte in the stream.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
}

/// A name that is stored, and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredName {
    /// The name.
    pub name: Vec<u8>,
    /// Its row.
    pub row: NameRow,
}

/// An extent of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentEntry {
    /// Position in the stream.
    pub ordinal: u64,
    /// Which; its first byte and length.
    pub extent: ExtentKey,
    /// First byte in the stream.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
}

/// Where an extent's fragments may be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The cell.
    pub cell: CellKey,
    /// The placement group.
    pub pg: PgId,
    /// Its row: incarnation and sequence number. After a failure a reader asks again, once per newer row.
    pub row: (u32, u64),
    /// What the group takes.
    pub state: PgState,
    /// Hash of the record on file.
    pub hash: RecordHash,
    /// By index: disks that may have the fragment, the likeliest first. Unreachable ones come last.
    pub slots: Vec<Vec<Place>>,
}

/// The end of a stream, said with its last extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndOfStream {
    /// Extents of the stream.
    pub extents: u64,
    /// Length of the stream.
    pub bytes: u64,
    /// Names sent before with [`DaemonRequest::PutNames`].
    pub names: u64,
}

/// What a client may want explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// An extent.
    Extent(ExtentKey),
    /// A placement group.
    Pg(PgId),
    /// A node: by the last part of its domain, or by the whole.
    Node(String),
    /// A disk.
    Disk(DiskId),
}

/// Asked of the daemon. The word in brackets is the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DaemonRequest {
    /// A node says what it is. First on every connection, and again when asked to.
    Register {
        /// Its disk.
        disk: DiskId,
        /// The cell in the disk's label; none on a new disk.
        cell: Option<CellKey>,
        /// region/zone/rack/node.
        domain: String,
        /// Where it listens.
        address: String,
        /// Random, of this life of the process.
        boot: u64,
        /// Bytes that fragments can still take.
        free_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// A node is alive.
    Beat {
        /// Its disk.
        disk: DiskId,
        /// Of this life of the process.
        boot: u64,
        /// Bytes that fragments can still take.
        free_bytes: u64,
        /// Why nothing can be stored on it any more in this life, where that is so. What it has can be read.
        broken: Option<String>,
        /// Damage found since the last beat that was answered, at most 64.
        damaged: Vec<DamageReport>,
    },
    /// How did this attempt end? Asked by a member that holds a prepared change.
    Ask {
        /// Of which placement group.
        pg: PgId,
        /// Which.
        attempt: AttemptId,
    },
    /// Begin, or go on with after a break, the put of a stream. The client makes the id, at random.
    BeginPut {
        /// The stream.
        stream: StreamKey,
    },
    /// Leave to write an extent.
    Allocate {
        /// Of which stream.
        stream: StreamKey,
        /// Which extent of it.
        ordinal: u64,
        /// Its length.
        bytes: u64,
    },
    /// Commit an extent whose fragments are all staged. `[record]` Asked again it is answered again.
    CommitExtent {
        /// Of which stream.
        stream: StreamKey,
        /// The extent as part of it.
        entry: ExtentEntry,
        /// The attempt of its grant.
        attempt: AttemptId,
        /// With the last extent, after all others are committed: makes the stream and its names visible, as one.
        end: Option<EndOfStream>,
    },
    /// Names that the end of the stream will make visible. Kept in memory until then.
    PutNames {
        /// Of which stream.
        stream: StreamKey,
        /// Position of the first in the order of all names: sent twice they count once.
        first: u64,
        /// The names.
        names: Vec<NameEntry>,
    },
    /// Give a put up: what was committed of it is deleted.
    AbortPut {
        /// Of which stream.
        stream: StreamKey,
    },
    /// Where are the bytes of this name?
    Lookup {
        /// The name.
        name: Vec<u8>,
    },
    /// Extents of a stream from this byte on.
    Extents {
        /// The stream.
        stream: StreamKey,
        /// First byte wanted.
        offset: u64,
    },
    /// Where are the fragments of this extent?
    Locate {
        /// Which.
        extent: ExtentKey,
    },
    /// Names that begin so, after this one.
    Names {
        /// The beginning.
        prefix: Vec<u8>,
        /// The last one seen.
        after: Option<Vec<u8>>,
    },
    /// Forget a name. Bytes that no name refers to any more are deleted.
    Remove {
        /// The name.
        name: Vec<u8>,
    },
    /// A reader found a fragment damaged or missing. Taken as a hint: its node is asked to check.
    Suspect {
        /// The disk it was read from.
        disk: DiskId,
        /// Which fragment.
        fragment: super::node::FragmentKey,
        /// What was found.
        reason: String,
    },
    /// How is the cell?
    Status,
    /// Why is this as it is?
    Explain {
        /// What.
        subject: Subject,
    },
    /// What happened after event number `after`?
    Events {
        /// The last one seen; 0 from the oldest kept.
        after: u64,
    },
    /// Check all fragments on all nodes now.
    Scrub,
    /// Forget a name if its bytes are in this stream; else there is no such name. Sent again it removes nothing that was put since.
    RemoveIf {
        /// The name.
        name: Vec<u8>,
        /// The stream.
        stream: StreamKey,
    },
    /// As [`DaemonRequest::Register`], and proves that the disk is no copy. Sent again with the life as the one had, once that is stored.
    RegisterLife {
        /// Its disk.
        disk: DiskId,
        /// The cell in the disk's label; none on a new disk.
        cell: Option<CellKey>,
        /// region/zone/rack/node.
        domain: String,
        /// Where it listens.
        address: String,
        /// Bytes that fragments can still take.
        free_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
        /// The disk's lives. The process is the one of the last.
        claim: Claim,
    },
    /// What a node met on its disk and how fast that is, since it was started. Told beside the beat.
    Faults {
        /// Its disk.
        disk: DiskId,
        /// Of this life of the process.
        boot: u64,
        /// What it met.
        faults: Vec<FaultCount>,
        /// How fast its store is.
        service: Vec<ServiceTime>,
        /// Files put into quarantine since the start and not removed since.
        quarantined: u64,
    },
    /// Audit extents now: compare parity with what the code makes of the data.
    Audit {
        /// One extent or the extents of a placement group; none for all.
        subject: Option<Subject>,
    },
    /// Move everything on a node's disk elsewhere.
    Drain {
        /// By the disk's id, its domain, or the last part of that.
        node: String,
        /// Whether it leaves the cell then.
        leaves: bool,
    },
    /// Drain it no more; take it in again where it has left.
    CancelDrain {
        /// As in [`DaemonRequest::Drain`].
        node: String,
    },
    /// A node may be away for a while without being taken for lost.
    Maintain {
        /// As in [`DaemonRequest::Drain`].
        node: String,
        /// From now on; none to end it.
        span: Option<Millis>,
    },
    /// Could all be read if these were stopped now?
    CanStop {
        /// As in [`DaemonRequest::Drain`], or whole domains.
        nodes: Vec<String>,
    },
    /// Let repairs that are not urgent wait, or go on.
    PauseRepairs {
        /// Whether they wait.
        paused: bool,
    },
    /// What would be rebuilt, from where and to where?
    PlanRepairs,
    /// What would be done if these were lost now?
    Drill {
        /// As in [`DaemonRequest::CanStop`].
        nodes: Vec<String>,
    },
}

/// The daemon's answer. The word in brackets is the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DaemonReply {
    /// No.
    Refused(Refusal),
    /// The node belongs here.
    Welcome {
        /// The cell, for its label.
        cell: CellKey,
        /// How often to beat.
        beat_every: Millis,
    },
    /// The beat was taken.
    BeatTaken,
    /// The daemon does not know this disk in this life: register.
    RegisterFirst,
    /// How an attempt ended.
    AttemptState(AttemptState),
    /// The put may go on.
    PutBegun {
        /// Length to cut extents to.
        extent_bytes: u64,
        /// Extents of it that are committed already.
        committed: Vec<ExtentEntry>,
        /// Whether it is whole and visible already.
        whole: bool,
    },
    /// Leave to write.
    Allocated(Grant),
    /// It is on file.
    Committed {
        /// Set where not every fragment was stored yet.
        degraded: bool,
    },
    /// It will never be on file under this id: allocate anew. The bytes have to be sent again.
    Again {
        /// Why.
        reason: String,
    },
    /// The names are kept.
    NamesTaken,
    /// The put is given up.
    PutAborted,
    /// Where the bytes of a name are.
    Found(NameRow),
    /// Extents of a stream.
    ExtentsPage {
        /// In order.
        extents: Vec<ExtentEntry>,
        /// Whether more follow.
        more: bool,
    },
    /// Where the fragments are.
    Located(Places),
    /// Names.
    NamesPage {
        /// In order.
        names: Vec<StoredName>,
        /// Whether more follow.
        more: bool,
    },
    /// The name is gone.
    Removed,
    /// Noted.
    Noted,
    /// A report. `[JSON]`
    Report,
    /// As [`DaemonReply::Welcome`], and the life that the node begins has this number: the one it said is below what is on file.
    WelcomeAs {
        /// The cell, for its label.
        cell: CellKey,
        /// How often to beat.
        beat_every: Millis,
        /// Of its life.
        life_number: u64,
    },
}

/// How an attempt ended, as its owner knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptState {
    /// It took effect.
    Committed,
    /// It never will.
    Aborted,
    /// It may yet.
    Live,
}
