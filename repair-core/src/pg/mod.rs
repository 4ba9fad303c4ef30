//! The owner of one placement group: the commit protocol of the service.
//!
//! It claims the group, fences its members, proves a list, and from then on changes the list one transaction at a time: prepare
//! on the members, compare and write the row, tell the members. What a silent transaction did is *unknown* until the row says so
//! or a later write has killed it. See `docs/design/0004-service.md`.
//!
//! | file | subject |
//! |---|---|
//! | `claim` | becoming the owner |
//! | `group` | what an owner knows, and its turn after every event |
//! | `member` | one disk, as it has answered so far |
//! | `stored` | bringing members to the row |
//! | `counting` | what members hold, by listings |
//! | `digest` | whether they still do, by sums of names |
//! | `prove` | a list that sums to the row |
//! | `commit`, `batch` | creates and deletes: prepare, and which go into one transaction |
//! | `supersede` | another record in an extent's place, and the release of what it had before |
//! | `abort` | changes that will not be, and who testifies to it |
//! | `write` | row writes: what goes into the next one, what follows from one that was applied |
//! | `catalog` | the catalog's answers: applied, killed, unknown, deposed |
//! | `membership` | joining, catching up, opening: all by recount; retiring |
//! | `view` | what others may know |

mod abort;
mod batch;
mod catalog;
mod claim;
mod commit;
mod counting;
mod digest;
pub mod effect;
mod group;
mod member;
mod membership;
mod prove;
mod stored;
mod supersede;
mod view;
mod write;

#[cfg(test)]
mod tests;

use crate::catalog::{CellRow, PgRow};
use crate::id::{AttemptId, ClaimId, DiskId, ExtentKey, PgId, RecordHash, Token};
use crate::shape::{Former, Shape};
use crate::time::Time;
use crate::wire::daemon::AttemptState;
use crate::wire::node::Authority;
use claim::Claiming;
use group::Group;
use std::collections::BTreeMap;

pub use effect::{
    CallId, CreateResult, DeleteResult, Need, PgConfig, PgEffect, PgEvent, PgOutcome, SlotView, Standing, Ticket,
    Versioned,
};

/// Leave to write one extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The extent's id, never given out before or again.
    pub extent: ExtentKey,
    /// The attempt its create must name.
    pub attempt: AttemptId,
    /// The owner's token, for the nodes.
    pub token: Token,
    /// The disk of each index; none where the group has a gap.
    pub members: Vec<Option<DiskId>>,
}

/// Leave to write one extent's fragments anew, under a record that takes the place of the one on file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// The extent.
    pub extent: ExtentKey,
    /// The attempt its [`PgEvent::Supersede`] must name.
    pub attempt: AttemptId,
    /// The owner's token, for the nodes.
    pub token: Token,
    /// The generation of the fragments, never given out before or again.
    pub generation: u64,
    /// The record on file.
    pub former: RecordHash,
    /// The disk of each index.
    pub members: Vec<DiskId>,
}

/// The owner of one placement group.
#[derive(Debug)]
pub struct Owner {
    inner: Inner,
    nothing: BTreeMap<ExtentKey, RecordHash>,
}

#[derive(Debug)]
enum Inner {
    Claiming(Box<Claiming>),
    Owned(Box<Group>),
}

impl Owner {
    /// Claims a group that is in the catalog.
    pub fn claim(cell: CellRow, cell_revision: u64, pg: PgId, claim: ClaimId, config: PgConfig) -> Self {
        Self::of(Inner::Claiming(Box::new(Claiming::new(cell, cell_revision, pg, claim, config))))
    }

    /// Owns a group that its caller has just made, row and owner row in one transaction, with nothing on its list. Counters
    /// below the row's `next_id` count as reserved for this owner: `next_id = config.id_block` spares a write.
    pub fn created(
        cell: CellRow,
        cell_revision: u64,
        row: Versioned,
        owner_revision: u64,
        token: Token,
        config: PgConfig,
    ) -> Self {
        // A group that has a history was not made just now: its counters may be in others' hands.
        let fresh = row.row.seq <= 1 && row.row.count == 0 && row.row.entries.is_empty();
        let reserved = if fresh { 0..row.row.next_id } else { row.row.next_id..row.row.next_id };
        let mut group = Group::new(cell, cell_revision, row, owner_revision, token, config, reserved);
        (group.is_new, group.proceeds) = (fresh, true);
        group.start();
        Self::of(Inner::Owned(Box::new(group)))
    }

    fn of(inner: Inner) -> Self {
        Self { inner, nothing: BTreeMap::new() }
    }

    fn group(&self) -> Option<&Group> {
        match &self.inner {
            Inner::Claiming(_) => None,
            Inner::Owned(group) => Some(group),
        }
    }

    /// Something happened.
    pub fn handle(&mut self, now: Time, event: PgEvent) {
        match &mut self.inner {
            Inner::Claiming(claiming) => {
                if let Some(group) = claiming.handle(now, event) {
                    self.inner = Inner::Owned(group);
                }
            }
            Inner::Owned(group) => group.handle(now, event),
        }
    }

    /// The next thing wanted. To be called until none after every [`Owner::handle`] and [`Owner::grant`], and once at the start.
    #[must_use]
    pub fn poll_effect(&mut self) -> Option<PgEffect> {
        match &mut self.inner {
            Inner::Claiming(claiming) => claiming.out.pop(),
            Inner::Owned(group) => group.out.pop(),
        }
    }

    /// The group's row as last read or written; none before it was claimed.
    pub fn row(&self) -> Option<&PgRow> {
        self.group().map(|group| &group.row)
    }

    /// Revision of that row.
    pub fn revision(&self) -> Option<u64> {
        self.group().map(|group| group.revision)
    }

    /// Revision of the owner's row, which moves when another claims the group; none while the group is not claimed.
    pub fn owner_revision(&self) -> Option<u64> {
        self.group().filter(|group| !group.is_ended()).map(|group| group.owner_revision)
    }

    /// What gives messages to members their force; none before the group was claimed or after it was lost.
    pub fn authority(&self) -> Option<Authority> {
        self.group().filter(|group| !group.is_ended()).map(Group::authority)
    }

    /// Whether the catalog has a row of the group that cannot be read. It is claimed as soon as it can.
    pub fn is_unreadable(&self) -> bool {
        matches!(&self.inner, Inner::Claiming(claiming) if claiming.unreadable)
    }

    /// Whether the group is ours and enough members have said that they heard no later row than the catalog's.
    pub fn has_looked(&self) -> bool {
        self.group().is_some_and(Group::has_looked)
    }

    /// Whether a list was proven: from then on it can say what is on file and what is not.
    pub fn is_ready(&self) -> bool {
        self.group().is_some_and(Group::is_ready)
    }

    /// The list: every record on file. Empty before [`Owner::is_ready`], and then it says nothing.
    pub fn list(&self) -> &BTreeMap<ExtentKey, RecordHash> {
        self.group().map_or(&self.nothing, |group| &group.list)
    }

    /// The record on file of an extent.
    pub fn listed(&self, extent: ExtentKey) -> Option<RecordHash> {
        self.list().get(&extent).copied()
    }

    /// Whether an extent can be created now; true inside where it would lack fragments.
    ///
    /// # Errors
    /// What it waits for.
    pub fn can_create(&self) -> Result<bool, String> {
        self.group().ok_or_else(|| "the group is being claimed".to_owned())?.can_create()
    }

    /// Leave to write one extent under an id never given out before; none unless [`Owner::can_create`], or while ids are being
    /// reserved. Effects may be wanted after it.
    pub fn grant(&mut self) -> Option<Granted> {
        match &mut self.inner {
            Inner::Claiming(_) => None,
            Inner::Owned(group) => group.grant(),
        }
    }

    /// Whether another record could take the place of an extent's now.
    ///
    /// # Errors
    /// What it waits for.
    pub fn can_supersede(&self, extent: ExtentKey) -> Result<(), String> {
        self.group().ok_or_else(|| "the group is being claimed".to_owned())?.can_supersede(extent)
    }

    /// Leave to write an extent's fragments anew; none unless [`Owner::can_supersede`], or while ids are being reserved. Effects may
    /// be wanted after it.
    pub fn grant_successor(&mut self, extent: ExtentKey) -> Option<Succession> {
        match &mut self.inner {
            Inner::Claiming(_) => None,
            Inner::Owned(group) => group.grant_successor(extent),
        }
    }

    /// The files of the record on file of an extent.
    pub fn shape(&self, extent: ExtentKey) -> Option<Shape> {
        self.group().filter(|group| group.list.contains_key(&extent)).map(|group| group.shape(extent))
    }

    /// Records whose place others have taken, and whose files wait for their release.
    pub fn superseded(&self) -> impl Iterator<Item = (ExtentKey, Former)> + '_ {
        self.group().into_iter().flat_map(|group| &group.superseded).map(|(extent, waits)| (*extent, waits.former))
    }

    /// The disks of the group, members first, by index.
    pub fn slots(&self) -> Vec<SlotView> {
        self.group().map(Group::slots).unwrap_or_default()
    }

    /// What reachable disks lack.
    pub fn needs(&self) -> Vec<Need> {
        self.group().map(Group::needs).unwrap_or_default()
    }

    /// How an attempt ended, as far as this owner can say for certain; `Live` where it cannot.
    pub fn attempt_state(&self, attempt: AttemptId) -> AttemptState {
        self.group().map_or(AttemptState::Live, |group| group.attempt_state(attempt))
    }

    /// What it waits for, in words.
    pub fn waits(&self) -> Vec<String> {
        match &self.inner {
            Inner::Claiming(claiming) => claiming.waits(),
            Inner::Owned(group) => group.waits(),
        }
    }
}
