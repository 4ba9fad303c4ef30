//! What a storage node is asked and answers.

use super::refusal::Refusal;
use crate::catalog::{EntryKind, PgRow};
use crate::id::{AttemptId, CellKey, DiskId, ExtentKey, PgId, RecordHash, Sum, Token};
use crate::shape::Shape;
use crate::time::Millis;
use ec_core::code::DESCRIPTOR_BYTES;
use serde::{Deserialize, Serialize};

/// What gives an owner's message its force: its token, and the row it acts on (`commit.md` line 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The owner's token.
    pub token: Token,
    /// The placement group's row as the owner last read or wrote it.
    pub row: PgRow,
}

/// Names a fragment on its way into a node: whose attempt, which fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StageKey {
    /// The attempt it belongs to.
    pub attempt: AttemptId,
    /// The extent.
    pub extent: ExtentKey,
    /// The fragment's index.
    pub index: u16,
}

/// A fragment as it lies in a store. Its file name is of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FragmentKey {
    /// The extent.
    pub extent: ExtentKey,
    /// Its generation.
    pub generation: u64,
    /// The fragment's index.
    pub index: u16,
}

impl FragmentKey {
    /// Of its name: BLAKE3 of the extent (16 bytes), the generation (8) and the index (2), little-endian. What a [`NodeReply::Digest`] sums.
    pub fn name_hash(&self) -> RecordHash {
        let mut bytes = [0; 26];
        bytes[..16].copy_from_slice(&self.extent.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..].copy_from_slice(&self.index.to_le_bytes());
        RecordHash::of(&bytes)
    }
}

/// A disk and where its node listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The disk.
    pub disk: DiskId,
    /// host:port.
    pub address: String,
}

/// A change that a member stored and does not know the end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Prepared {
    /// Whose.
    pub attempt: AttemptId,
    /// What it would do.
    pub kind: EntryKind,
    /// To which extent.
    pub extent: ExtentKey,
    /// The record put on or taken off the list.
    pub hash: RecordHash,
}

/// One line of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listed {
    /// The extent.
    pub extent: ExtentKey,
    /// Hash of its record on file.
    pub hash: RecordHash,
}

/// What a record of a list, a superseded one or a prepared one is of, where that is not the code of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shaped {
    /// The extent.
    pub extent: ExtentKey,
    /// Hash of the record.
    pub hash: RecordHash,
    /// Its files.
    pub shape: Shape,
    /// Whether another record has taken its place, and it is not released.
    pub is_former: bool,
}

/// A deletion remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tombstone {
    /// The extent that is no more.
    pub extent: ExtentKey,
    /// The sequence number of the deletion.
    pub seq: u64,
}

/// A fragment file in a store's folder, by name. Not read, so not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holding {
    /// Which fragment.
    pub fragment: FragmentKey,
    /// Set where the node knows it to be damaged: it does not count.
    pub damaged: bool,
}

/// Where a member's list stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Incarnation and sequence number of the row last heard; 0, 0 before the first.
    pub heard: (u32, u64),
    /// Records on the list.
    pub count: u64,
    /// Their sum.
    pub sum: Sum,
    /// Whether the list comes to the row that was sent. If not, the member is behind.
    pub level: bool,
    /// Changes stored whose end it does not know, at most 256 of them.
    pub prepared: Vec<Prepared>,
}

/// Found by a node in its own store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageReport {
    /// Which fragment.
    pub fragment: FragmentKey,
    /// Its class, as `docs/format/fragment.md` section 7 names it; `healthy` takes an earlier report back.
    pub class: String,
}

/// The field that coefficients are elements of. A node that does not know it refuses the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Field {
    /// GF(2^8) modulo 0x11D; a coefficient is a byte and multiplies every byte.
    Gf256,
}

/// A station of a chain: a fragment, where it lies, and with what it enters each sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Where.
    pub place: Place,
    /// Which fragment.
    pub fragment: FragmentKey,
    /// One coefficient per sum.
    pub coefficients: Vec<u8>,
}

/// Faults of one kind that a node met since it was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCount {
    /// `write_error`, `sync_error`, `read_error`, `no_space`, `damaged`, `read_back_mismatch` or `slow`; more may come.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// How long ago the last was.
    pub last_ago: Millis,
}

/// How long operations of one kind take on a node's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTime {
    /// `read` or `journal`; more may come.
    pub kind: String,
    /// How many there were since it was started.
    pub count: u64,
    /// The mean of the last some, in microseconds.
    pub mean_us: u64,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// All that it is asked.
    Serving,
    /// The same, and the daemon has not taken it yet.
    Unregistered,
    /// It takes no new fragments.
    Fenced {
        /// Why.
        reason: String,
    },
    /// Nothing can be stored on it until it is started again.
    ReadOnly {
        /// Why.
        reason: String,
    },
    /// The daemon does not take it.
    Refused {
        /// Why.
        reason: String,
    },
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// What it does.
    pub state: NodeState,
    /// What it met.
    pub faults: Vec<FaultCount>,
    /// How fast its store is.
    pub service: Vec<ServiceTime>,
    /// Bytes that fragments can still take.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Fragments on their way in: stages that are open. What is kept and nobody has open is none.
    pub stages: u64,
    /// Files put into quarantine since the start and not removed since.
    pub quarantined: u64,
    /// Placement groups that the scrub has still to walk; none between two passes.
    pub scrub_groups_left: Option<u64>,
    /// How long ago a pass of the scrub ended; none where none has in this life.
    pub scrub_ended_ago: Option<Millis>,
}

/// Asked of a node. The word in brackets is the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeRequest {
    /// Accept this owner and no lower one; come to its row. First message of every owner to every member.
    Fence {
        /// The owner and its row.
        authority: Box<Authority>,
    },
    /// Come to this row: the notice of a commit, of new members, of anything the row says.
    Hear {
        /// The owner and its row.
        authority: Box<Authority>,
    },
    /// Store a change so that it survives, without knowing whether it will be committed. `[record, for a create]`
    Prepare {
        /// The owner and its row.
        authority: Box<Authority>,
        /// The attempt.
        attempt: AttemptId,
        /// What it would do.
        kind: EntryKind,
        /// To which extent.
        extent: ExtentKey,
        /// The record.
        hash: RecordHash,
    },
    /// The attempt is dead: forget it and remember that it is.
    Abort {
        /// The owner and its row.
        authority: Box<Authority>,
        /// The attempt.
        attempt: AttemptId,
    },
    /// Take over this list, in pages. The last page must come to the row.
    Adopt {
        /// The owner and its row.
        authority: Box<Authority>,
        /// Number of the page, from 0; 0 begins anew.
        page: u32,
        /// Whether this is the last.
        last: bool,
        /// Records on the list, by extent.
        listed: Vec<Listed>,
        /// Deletions not yet trimmed.
        tombstones: Vec<Tombstone>,
    },
    /// Your list after this extent.
    List {
        /// Of which placement group.
        pg: PgId,
        /// The last one seen.
        after: Option<ExtentKey>,
    },
    /// The fragments in your folder after this one: from a listing of the directory, never from an index.
    Holdings {
        /// Of which placement group.
        pg: PgId,
        /// The last one seen.
        after: Option<FragmentKey>,
    },
    /// Begin a fragment: reserve its room.
    Stage {
        /// The owner's token the grant came with.
        token: Token,
        /// Cell of the fragment.
        cell: CellKey,
        /// Attempt, extent, index.
        key: StageKey,
        /// The fragment's generation.
        generation: u64,
        /// The code, as a descriptor.
        code: [u8; DESCRIPTOR_BYTES],
        /// Length of the extent.
        extent_bytes: u64,
    },
    /// A piece of payload, whole blocks; pieces may come in any order, none twice. `[payload]`
    StageData {
        /// Which stage.
        key: StageKey,
        /// Where in the payload.
        offset: u64,
    },
    /// All of the payload was sent: what is its root?
    StageSeal {
        /// Which stage.
        key: StageKey,
    },
    /// Not needed any more.
    StageDrop {
        /// Which stage.
        key: StageKey,
    },
    /// Give a rebuilt fragment its name. Only what your list names. `[record]`
    Publish {
        /// The owner and its row.
        authority: Box<Authority>,
        /// Which stage.
        key: StageKey,
    },
    /// Put aside, into quarantine, what neither the row nor your list names.
    Retire {
        /// The owner and its row.
        authority: Box<Authority>,
    },
    /// Payload of a fragment, whole blocks.
    Read {
        /// Which.
        fragment: FragmentKey,
        /// First byte of the payload wanted, a multiple of the block.
        offset: u64,
        /// How many, a multiple of the block, at most a slice.
        bytes: u32,
    },
    /// The record of this hash.
    Record {
        /// Of which extent.
        extent: ExtentKey,
        /// Hash of the record, as the owner's list has it.
        hash: RecordHash,
    },
    /// Read this fragment whole and judge it by the record of your list.
    Check {
        /// Which.
        fragment: FragmentKey,
    },
    /// Check everything now.
    Scrub,
    /// Say who you are.
    Info,
    /// Where on your host are open files of fragments given out? Asked by who has found that it is the same host.
    Door,
    /// The sums over a chain of fragments, of one range of each. You are the first hop: ask the second for the sums over the rest, and
    /// add your fragment's share.
    Combine {
        /// What the coefficients are of.
        field: Field,
        /// First byte of the payloads, a multiple of the block.
        offset: u64,
        /// How many of each, a multiple of the block; all sums together are at most a slice.
        bytes: u32,
        /// How long whoever asks will wait. A hop gives the next one less.
        patience: Millis,
        /// You, and those behind you: of one extent, no fragment twice.
        hops: Vec<Hop>,
    },
    /// What do the fragments come to that you owe and have, by a fresh listing of the folder? As [`NodeRequest::Holdings`], in one short answer.
    Digest {
        /// Of which placement group.
        pg: PgId,
    },
    /// How are you? Answered from memory.
    Health,
    /// Begin a fragment, or go on with what is staged of it, under whatever attempt it came: as [`NodeRequest::Stage`], but what has come
    /// outlives connection and process for some time, where the store can do that. Who had it open has it no more.
    StageKeep {
        /// The owner's token the grant came with.
        token: Token,
        /// Cell of the fragment.
        cell: CellKey,
        /// Attempt, extent, index.
        key: StageKey,
        /// The fragment's generation.
        generation: u64,
        /// The code, as a descriptor.
        code: [u8; DESCRIPTOR_BYTES],
        /// Length of the extent.
        extent_bytes: u64,
    },
    /// As [`NodeRequest::Adopt`], of a list with records that are not of the group's code, or with superseded ones.
    AdoptShaped {
        /// The owner and its row.
        authority: Box<Authority>,
        /// Number of the page, from 0; 0 begins anew.
        page: u32,
        /// Whether this is the last.
        last: bool,
        /// Records on the list, by extent.
        listed: Vec<Listed>,
        /// Deletions not yet trimmed.
        tombstones: Vec<Tombstone>,
        /// What those records and the superseded ones are of.
        shapes: Vec<Shaped>,
    },
}

/// A node's answer. The word in brackets is the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeReply {
    /// No.
    Refused(Refusal),
    /// To Fence, Hear, and the last page of Adopt.
    Heard(Head),
    /// To the other pages of Adopt: taken.
    AdoptedPage,
    /// Stored, synced, named.
    Prepared {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Forgotten, and marked as never to be.
    Aborted {
        /// The attempt.
        attempt: AttemptId,
    },
    /// A page of the list.
    ListPage {
        /// Incarnation and sequence number of the row the list came to; pages of different ones are not one list.
        heard: (u32, u64),
        /// By extent.
        listed: Vec<Listed>,
        /// Whether more follow.
        more: bool,
    },
    /// A page of the folder.
    HoldingsPage {
        /// By fragment.
        holdings: Vec<Holding>,
        /// Whether more follow.
        more: bool,
    },
    /// Room is reserved.
    StageOpen,
    /// The piece is taken (not yet durable).
    StageTaken,
    /// Root of the payload as it was received.
    StageSealed {
        /// The root.
        root: [u8; 32],
    },
    /// Forgotten.
    StageDropped,
    /// Published and durable.
    Published,
    /// So many files went to quarantine.
    Retired {
        /// Files.
        files: u64,
        /// Whether there may be more: ask again.
        more: bool,
    },
    /// Payload. `[payload]`
    Data {
        /// The CRC of each block, as the fragment's table has it: to be checked by the reader, with the identity on record.
        crcs: Vec<u32>,
    },
    /// The record. `[record]`
    Record,
    /// What the fragment was found to be.
    Checked {
        /// Its class.
        class: String,
        /// Whether it counts.
        healthy: bool,
    },
    /// A scrub has begun, or runs already.
    Scrubbing,
    /// Who it is.
    Info {
        /// Its cell; none before the first registration.
        cell: Option<CellKey>,
        /// Its disk.
        disk: DiskId,
        /// Random, of this life of the process.
        boot: u64,
        /// Extents on its lists. What lies in its folders nobody has looked at for this.
        extents: u64,
        /// Bytes that fragments can still take.
        free_bytes: u64,
    },
    /// Where the door is, for whoever may open it. Nothing that is read there is believed more than what comes from here.
    Door {
        /// The folder that its socket lies in, absolute; the name of the socket is fixed.
        folder: String,
    },
    /// The sums. `[one after the other]` Every hop proved its own payload by the CRCs of its table; the sums have none.
    Combined,
    /// No sums: a hop cannot give its share.
    HopFailed {
        /// Whose.
        disk: DiskId,
        /// Of which fragment.
        fragment: FragmentKey,
        /// Why.
        refusal: Refusal,
    },
    /// The fragments that the list names, that are in the folder and not known to be damaged.
    Digest {
        /// Incarnation and sequence number of the row the list came to, before and after the folder was listed.
        heard: (u32, u64),
        /// How many.
        count: u64,
        /// Sum of the hashes of their names ([`FragmentKey::name_hash`]).
        sum: Sum,
    },
    /// How it is.
    Health(Box<NodeHealth>),
    /// To StageKeep: room is reserved, and this much of the payload is there and durable, to be sent no more.
    StageKept {
        /// Beginnings and ends, whole blocks, in order and apart, at most [`KEPT_RANGES_MAX`](crate::limits::KEPT_RANGES_MAX).
        written: Vec<(u64, u64)>,
    },
    /// As [`NodeReply::ListPage`], of a list with records that are not of the group's code, or with superseded ones.
    ShapedPage {
        /// Incarnation and sequence number of the row the list came to; pages of different ones are not one list.
        heard: (u32, u64),
        /// By extent.
        listed: Vec<Listed>,
        /// What these records are of, and superseded and prepared ones of the same stretch of extents.
        shapes: Vec<Shaped>,
        /// Whether more follow.
        more: bool,
    },
}
