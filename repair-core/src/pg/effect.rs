//! What happens to the owner of a placement group and what it wants done.

use crate::catalog::{Found, PgRow, Txn, TxnResult};
use crate::id::{AttemptId, DiskId, ExtentKey};
use crate::node::Body;
use crate::time::{Millis, Time};
use crate::wire::{CallError, NodeReply, NodeRequest};
use ec_core::code::DESCRIPTOR_BYTES;
use std::collections::BTreeSet;

/// A call under way; given by the one who calls, never reused in one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names a change asked for by the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Happens to an owner.
#[derive(Clone, Debug)]
pub enum PgEvent {
    /// Rows asked for with [`PgEffect::Get`], in the order of the keys.
    Rows {
        /// Names the effect.
        op: CallId,
        /// None where a key is absent; an error where the catalog did not answer.
        rows: Result<Vec<Option<Found>>, String>,
    },
    /// A transaction ended.
    Txn {
        /// Names the effect.
        op: CallId,
        /// How.
        result: TxnResult,
    },
    /// A call ended.
    Call {
        /// Names the effect.
        call: CallId,
        /// How.
        result: Result<(NodeReply, Body), CallError>,
    },
    /// Commit an extent whose fragments are staged.
    Create {
        /// Names the change.
        ticket: Ticket,
        /// The attempt and the extent, as [`Owner::grant`](super) gave them.
        attempt: AttemptId,
        /// The extent.
        extent: ExtentKey,
        /// Its record.
        record: Body,
        /// Conditions and writes that belong into the same transaction.
        beside: Txn,
    },
    /// Delete an extent.
    Delete {
        /// Names the change.
        ticket: Ticket,
        /// The extent.
        extent: ExtentKey,
        /// Conditions and writes that belong into the same transaction.
        beside: Txn,
    },
    /// Put a record in the place of the one on file; its fragments are staged.
    Supersede {
        /// Names the change.
        ticket: Ticket,
        /// The attempt, as [`Owner::grant_successor`](super::Owner::grant_successor) gave it.
        attempt: AttemptId,
        /// The extent.
        extent: ExtentKey,
        /// Its record to be.
        record: Body,
    },
    /// Nobody will commit this grant any more.
    Forsake {
        /// The attempt of the grant.
        attempt: AttemptId,
    },
    /// A disk is reachable: for the first time, or again.
    Reachable {
        /// Which.
        disk: DiskId,
    },
    /// A disk is not reachable. Nothing follows about its data.
    Unreachable {
        /// Which.
        disk: DiskId,
    },
    /// Let `disk` take an index over.
    Join {
        /// The index.
        index: u16,
        /// The disk; not in the row yet.
        disk: DiskId,
    },
    /// Give a take-over up.
    CancelJoin {
        /// The index.
        index: u16,
    },
    /// A repair job published fragments on a disk.
    Restored {
        /// The disk.
        disk: DiskId,
        /// The extent.
        extent: ExtentKey,
    },
    /// A node says that a fragment of its own is damaged.
    Damaged {
        /// The disk.
        disk: DiskId,
        /// The extent.
        extent: ExtentKey,
    },
    /// A node says that a fragment it had called damaged is sound.
    Sound {
        /// The disk.
        disk: DiskId,
        /// The extent.
        extent: ExtentKey,
    },
    /// A disk that is no member has files of this group: they may be put aside once that is safe.
    Guest {
        /// The disk.
        disk: DiskId,
    },
    /// Whether some members share a fault domain now: to be written into the row where it says otherwise.
    Crowded {
        /// Whether they do.
        crowded: bool,
    },
    /// Members may be given the token now. Until then a claimed group only looks: its neighbours may find that the catalog went
    /// back, and then nothing of this claim may be left on any member, or the right catalog would be refused for it.
    Proceed,
    /// The moment asked for with [`PgEffect::WakeAt`] has come.
    Tick,
}

/// Wanted by an owner.
#[derive(Clone, Debug)]
pub enum PgEffect {
    /// Read rows as they are now (linearizable).
    Get {
        /// Names it; ends as [`PgEvent::Rows`].
        op: CallId,
        /// The keys.
        keys: Vec<Vec<u8>>,
    },
    /// A transaction.
    Txn {
        /// Names it; ends as [`PgEvent::Txn`].
        op: CallId,
        /// Which.
        txn: Txn,
    },
    /// Ask a node; ends as [`PgEvent::Call`].
    Call {
        /// Names it.
        call: CallId,
        /// The disk.
        disk: DiskId,
        /// What.
        request: NodeRequest,
        /// Its body.
        body: Body,
        /// After this the answer counts as silence.
        deadline: Millis,
    },
    /// Tell the coordinator.
    Outcome(PgOutcome),
    /// A [`PgEvent::Tick`] is wanted then. Replaces the one wanted before.
    WakeAt(Time),
}

/// How a create ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateResult {
    /// It is on file; its writes beside were applied in the same transaction.
    Committed {
        /// Whether not all fragments are stored.
        degraded: bool,
    },
    /// It never takes effect, and enough members will testify to that.
    Failed {
        /// Why.
        reason: String,
    },
    /// It may or may not take effect: the next claim's list decides.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// How a delete ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteResult {
    /// It is off the list.
    Deleted,
    /// It was not on the list.
    NotListed,
    /// It did not happen; ask again later.
    NotNow {
        /// Why.
        reason: String,
    },
    /// It may or may not take effect.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// Told to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PgOutcome {
    /// A list was proven; the group can be read, and changed where its state says so.
    Ready,
    /// A create ended.
    Created {
        /// Which.
        ticket: Ticket,
        /// How.
        result: CreateResult,
    },
    /// A delete ended.
    Deleted {
        /// Which.
        ticket: Ticket,
        /// How.
        result: DeleteResult,
    },
    /// A change of an extent's record ended.
    Superseded {
        /// Which.
        ticket: Ticket,
        /// How.
        result: CreateResult,
    },
    /// The files of the record that an extent had before are not needed any more.
    Released {
        /// The extent.
        extent: ExtentKey,
    },
    /// Row, slots or needs are not what they were: look again.
    Changed,
    /// A take-over was finished: the index has a new member.
    Joined {
        /// The index.
        index: u16,
        /// The member that was.
        from: DiskId,
        /// The member that is.
        to: DiskId,
    },
    /// A member that was behind is level again, and holds all it owes.
    CaughtUp {
        /// Which.
        disk: DiskId,
    },
    /// No list sums to the row, or histories differ: reads only, an operator must look.
    Frozen {
        /// Why.
        reason: String,
    },
    /// Another claim owns the group now. This owner is of no more use.
    Deposed,
    /// A member refused the token as too low while the owner row is still ours: the catalog went back in time. Stop.
    CatalogWentBack {
        /// What was seen.
        reason: String,
    },
}

/// How a slot's disk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A member, level, holding what it owes but for `missing`.
    Level,
    /// A member that may lack things.
    Behind,
    /// Not a member yet.
    Joining,
}

/// One disk of one index, as the owner knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// The index.
    pub index: u16,
    /// The disk.
    pub disk: DiskId,
    /// How it stands.
    pub standing: Standing,
    /// Whether it answered lately.
    pub reachable: bool,
    /// Extents on the list of which it has no sound fragment. None where that is not known (then it counts as having none, and
    /// readers may still try).
    pub missing: Option<BTreeSet<ExtentKey>>,
    /// Whether a listing has been read since a repair last wrote on it.
    pub counted: bool,
}

/// A fragment that a reachable disk should have and has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The extent.
    pub extent: ExtentKey,
    /// The index.
    pub index: u16,
    /// The disk to build it on.
    pub disk: DiskId,
}

/// Settings of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgConfig {
    /// How long a node may take to answer.
    pub call_deadline: Millis,
    /// How long a node may take to make a fragment durable.
    pub prepare_deadline: Millis,
    /// How long to wait before the catalog or a member is asked again.
    pub retry_after: Millis,
    /// How often members say what their folders come to, beside the counts that something calls for.
    pub digest_every: Millis,
    /// How long after a record has taken another's place the group is listed, so that one listing serves many.
    pub release_after: Millis,
    /// The code that extents may be born with beside the group's own, as a descriptor; none: no other.
    pub birth_code: Option<[u8; DESCRIPTOR_BYTES]>,
    /// Counters reserved at once.
    pub id_block: u64,
    /// Whether extents may be created with gaps, where at least max(k + 1, m + 1) members store them.
    pub degraded_creates: bool,
}

impl Default for PgConfig {
    fn default() -> Self {
        Self {
            call_deadline: Millis(5_000),
            prepare_deadline: Millis(60_000),
            retry_after: Millis(500),
            digest_every: Millis(600_000),
            release_after: Millis(30_000),
            birth_code: None,
            id_block: 64,
            degraded_creates: true,
        }
    }
}

/// A row with the catalog's revision of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The row.
    pub row: PgRow,
    /// Revision it was written at.
    pub revision: u64,
}
