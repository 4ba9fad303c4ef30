//! Rows of the catalog. Each is encoded by [`wire::codec`](crate::wire::codec) behind a version byte.

use crate::id::{AttemptId, CellKey, ClaimId, DiskId, ExtentKey, PgId, RecordHash, StreamKey, Sum, Token};
use crate::shape::{BIRTH_GENERATION, is_generation, later_generation};
use crate::time::Millis;
use ec_core::CodeSpec;
use ec_core::code::DESCRIPTOR_BYTES;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The cell's own row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellRow {
    /// Identity of the cell; in every disk's label.
    pub cell: CellKey,
    /// Rises with every restore or rebuild of the catalog, from 1.
    pub incarnation: u32,
    /// Random, made with the incarnation.
    pub restore: u128,
    /// Set when a member proved that the catalog went back in time or forked, with what was seen. Every transaction compares this
    /// row, and no daemon starts on a catalog that says so: only another catalog ends it.
    pub suspended: Option<String>,
}

/// A disk that has registered once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRow {
    /// The disk.
    pub disk: DiskId,
    /// region/zone/rack/node.
    pub domain: String,
    /// Where its node listens, as host:port.
    pub address: String,
}

/// Who owns a placement group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRow {
    /// The owner's token.
    pub token: Token,
}

/// Which daemon is in charge of the cell, so that others stand by. It saves work and keeps nobody out: the tokens of [`OwnerRow`]
/// do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRow {
    /// Name of the daemon, the same over its restarts: where others find it.
    pub daemon: String,
    /// The claim of the life that holds it.
    pub claim: ClaimId,
    /// Unchanged for longer than that, by the clock of who looks, it may be taken.
    pub ttl: Millis,
    /// Rises by one with every write of the row.
    pub counter: u64,
    /// Whether its holder has let go of it: it may be taken at once.
    pub released: bool,
}

/// What a placement group takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PgState {
    /// New extents.
    Open,
    /// No new extents: a member failed, or one joins. Reads, deletes and repair go on.
    Closed,
    /// Reads only: no member's list sums to the row, or the catalog went back.
    Frozen,
}

/// What an entry did to the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// Put a record on it.
    Create,
    /// Took a record off it.
    Delete,
    /// Put a record in the place of the one that was on it. The hash is the new one's.
    Supersede,
    /// The list stays: the files of the record of this hash, which another has taken the place of, are not needed any more.
    Release,
    /// Put a record on it that is not of the group's code.
    CreateOther,
    // Moved: later kinds are appended, never renumbered.
}

impl EntryKind {
    /// Whether it puts an extent on the list that was not there.
    pub fn is_create(self) -> bool {
        matches!(self, Self::Create | Self::CreateOther)
    }

    /// Whether members store files for it, and a record that the list then has.
    pub fn has_record(self) -> bool {
        self.is_create() || self == Self::Supersede
    }

    /// Whether nobody knows which files it names who has not prepared it.
    pub fn has_shape(self) -> bool {
        matches!(self, Self::Supersede | Self::CreateOther)
    }
}

/// A committed change that not every member has stored yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The row's sequence number after it.
    pub seq: u64,
    /// What it did.
    pub kind: EntryKind,
    /// To which extent.
    pub extent: ExtentKey,
    /// Hash of the record put on the list or taken off.
    pub hash: RecordHash,
    /// The attempt that did it.
    pub attempt: AttemptId,
}

/// A placement group: its members and the head of its list. `commit.md` line 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgRow {
    /// Which.
    pub pg: PgId,
    /// Incarnation of the catalog that last wrote it.
    pub incarnation: u32,
    /// Rises by one with every write of the row.
    pub seq: u64,
    /// Rises with every change of members.
    pub epoch: u64,
    /// The code of its extents, as a descriptor of the fragment format.
    pub code: [u8; DESCRIPTOR_BYTES],
    /// The disk of each fragment index.
    pub members: Vec<DiskId>,
    /// Disks that will take an index over.
    pub joining: BTreeMap<u16, DiskId>,
    /// Disks excused from what they did not store.
    pub behind: BTreeSet<DiskId>,
    /// What it takes.
    pub state: PgState,
    /// Set where more members share a fault domain than one each; still survivable, to be corrected.
    pub crowded: bool,
    /// First counter of extents not reserved yet.
    pub next_id: u64,
    /// Records on the list.
    pub count: u64,
    /// Sum of their hashes.
    pub sum: Sum,
    /// Tombstones of this sequence number and below are gone.
    pub trim: u64,
    /// Changes not stored by all yet, by sequence number.
    pub entries: Vec<Entry>,
}

impl PgRow {
    /// The code.
    ///
    /// # Errors
    /// A descriptor this version does not know.
    pub fn code_spec(&self) -> Result<CodeSpec, ec_core::CodeError> {
        CodeSpec::from_descriptor(&self.code)
    }

    /// The index of a member disk.
    pub fn index_of(&self, disk: DiskId) -> Option<u16> {
        self.members.iter().position(|member| *member == disk).and_then(|at| u16::try_from(at).ok())
    }

    /// The index a disk holds or takes over.
    pub fn index_held_or_joined(&self, disk: DiskId) -> Option<u16> {
        let joined = || self.joining.iter().find(|(_, joining)| **joining == disk).map(|(index, _)| *index);
        self.index_of(disk).or_else(joined)
    }

    /// Whether this catalog can have given a generation to a record of this group.
    pub fn handed_out(&self, generation: u64) -> bool {
        generation <= BIRTH_GENERATION
            || is_generation(generation) && generation < later_generation(self.incarnation, self.next_id)
    }

    /// Orders rows of one placement group: later ones are greater.
    pub fn order(&self) -> (u32, u64) {
        (self.incarnation, self.seq)
    }
}

/// An extent of a whole stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamExtentRow {
    /// The extent.
    pub extent: ExtentKey,
    /// Its first byte in the stream.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// Names that still refer to bytes of it. At 0 it is doomed; the row keeps its place.
    pub names: u64,
}

/// A whole stream: the result of one `put`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// Which.
    pub stream: StreamKey,
    /// Its length.
    pub bytes: u64,
    /// Its extents in order, without gaps.
    pub extents: Vec<StreamExtentRow>,
    /// Names that still refer to it; without one it is gone.
    pub names: u64,
}

/// A drain of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRow {
    /// Whether it leaves the cell when it is drained.
    pub leaves: bool,
    /// Whether a recount found nothing on it any more.
    pub drained: bool,
}

/// What an operator wants of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentRow {
    /// The disk.
    pub disk: DiskId,
    /// That everything on it is moved elsewhere.
    pub drain: Option<DrainRow>,
    /// That it may be away for so long from when this was written.
    pub window_left: Option<Millis>,
}

/// Repairs that are not urgent wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRow {
    /// Those of extents that survive more than so many further losses.
    pub above_margin: u16,
}

/// Where a stored file's bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    /// The stream.
    pub stream: StreamKey,
    /// First byte in it.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
}
