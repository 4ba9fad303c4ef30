//! Drains: every index of a disk gets another disk, while the drained one still gives what it has. It is drained when, by recounts,
//! no placement group has it any more.
//!
//! A fragment is copied from the disk that leaves where that is free, and otherwise rebuilt from the others: reading one disk to its
//! end would make the drain as slow as that disk.

use super::intents::Drain;
use super::{Coordinator, DiskId, PgId};
use crate::catalog::{DrainRow, IntentRow, PgState};
use crate::id::ExtentKey;
use serde::Serialize;
use std::collections::BTreeSet;

/// Repairs that read one leaving disk at a time; further ones rebuild from the others.
const COPIES_AT_ONCE: usize = 2;
/// Extents named of one group that stands in the way; all are counted.
const NAMED_MAX: usize = 16;

/// What an operator wants of a disk, and how far that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct IntentReport {
    schema: u32,
    disk: String,
    domain: Option<String>,
    /// How long its maintenance window still is.
    window_left_ms: Option<u64>,
    drain: Option<DrainReport>,
}

/// A drain, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrainReport {
    /// The disk.
    pub disk: String,
    /// Where it stands.
    pub domain: Option<String>,
    /// `draining`, `drained` or `left`.
    pub state: &'static str,
    /// Whether it leaves the cell then.
    pub leaves: bool,
    /// It has been wanted for so long, in this life of the daemon.
    pub since_ms: u64,
    /// Placement groups that it has left in this life of the daemon.
    pub groups_moved: u64,
    /// Those it is still in.
    pub groups_left: usize,
    /// Fragments still to be had by the disks that take over, as far as counted.
    pub fragments_left: u64,
    /// What stands in the way.
    pub blocked: Vec<BlockReport>,
}

/// A placement group that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockReport {
    /// Which.
    pub pg: u32,
    /// Why.
    pub reason: String,
    /// Extents that are why, the first of them.
    pub extents: Vec<String>,
}

impl Coordinator {
    /// Disks by their id, else by their domain, else by the last part of that: one disk that died and the one in its place can stand
    /// in the same domain, and nodes of two racks can have the same last part.
    pub(super) fn disks_called(&self, name: &str) -> Vec<DiskId> {
        let known = |id: &DiskId| self.disks.contains_key(id) || self.is_draining(*id);
        if let Some(id) = name.parse().ok().filter(known) {
            return vec![id];
        }
        let by = |is: &dyn Fn(&super::disks::Disk) -> bool| -> Vec<DiskId> {
            self.disks.iter().filter(|(_, disk)| is(disk)).map(|(id, _)| *id).collect()
        };
        let by_domain = by(&|disk| disk.row.domain == name);
        if !by_domain.is_empty() {
            return by_domain;
        }
        by(&|disk| disk.domain.as_ref().is_some_and(|domain| domain.node_name() == name))
    }

    /// Whether a repair should rather not read a fragment from its leaving disk: others read it already, or it is slow, and the rest of
    /// the group has all it needs.
    pub(super) fn is_better_rebuilt(&self, extent: ExtentKey, leaving: DiskId) -> bool {
        if !self.leaves(leaving) {
            return false;
        }
        let copies = |running: &&super::repairs::Running| {
            let row = self.owner(running.extent.pg()).and_then(|owner| owner.row());
            let of = |index: &u16| row.is_some_and(|row| row.members.get(usize::from(*index)) == Some(&leaving));
            running.targets.keys().any(of)
        };
        let busy = self.repairs.running.values().filter(copies).count() >= COPIES_AT_ONCE;
        let rest = || self.without(extent.pg(), &BTreeSet::from([leaving]));
        (busy || self.limping.limps(leaving))
            && rest().is_some_and(|rest| rest.unknown.is_none() && rest.undecodable_count == 0)
    }

    /// A take-over has ended.
    pub(super) fn left_group(&mut self, from: DiskId, pg: PgId) {
        if let Some(drain) = self.intents.drains.get_mut(&from) {
            drain.moved += 1;
            drain.left.insert(pg);
        }
    }

    /// Ends drains whose disks are in no group any more.
    pub(super) fn look_at_drains(&mut self) {
        if self.intents.drains.is_empty() || !self.boot.is_done() {
            return;
        }
        let groups = &self.groups;
        let full = |pg: &PgId| groups.get(pg).is_none_or(|group| !group.dirty && group.view.full);
        for drain in self.intents.drains.values_mut() {
            drain.left.retain(|pg| !full(pg));
        }
        let done: Vec<(DiskId, DrainRow)> = self
            .intents
            .drains
            .iter()
            // An operator's word that is not stored yet comes first: he may be giving it up.
            .filter(|(id, drain)| !drain.row.drained && self.intent_is_stored(**id) && self.is_drained(**id, drain))
            .map(|(id, drain)| (*id, drain.row))
            .collect();
        for (id, row) in done {
            let drain = Some(DrainRow { drained: true, ..row });
            self.want_of_disk(IntentRow { drain, ..self.disk_intent(id) }, None);
        }
    }

    fn is_drained(&self, id: DiskId, drain: &Drain) -> bool {
        // Of a group whose row is not known nobody knows whose it is.
        let free = |group: &super::groups::Group| {
            let row = group.owner.row();
            row.is_some_and(|row| row.index_held_or_joined(id).is_none())
                && group.asked.values().all(|(asked, _)| *asked != id)
        };
        drain.left.is_empty() && self.making.is_none() && self.groups.values().all(free)
    }

    /// The disk is none of the cell any more.
    pub(super) fn forget_disk(&mut self, id: DiskId) {
        if self.disks.remove(&id).is_some() {
            self.peers.retain(|_, disk| *disk != id);
            self.limping.forget(id);
            self.forget_pace(id);
            self.damaged.retain(|(disk, _)| *disk != id);
            self.tell_groups(id, false);
        }
    }

    pub(super) fn intent_report(&self, id: DiskId) -> IntentReport {
        IntentReport {
            schema: super::report::SCHEMA,
            disk: id.to_string(),
            domain: self.disks.get(&id).map(|disk| disk.row.domain.clone()),
            window_left_ms: self.window_ends(id).map(|until| until.since(self.now).0),
            drain: self.drain_report(id),
        }
    }

    pub(super) fn drain_report(&self, id: DiskId) -> Option<DrainReport> {
        let drain = self.intents.drains.get(&id)?;
        let groups = self.groups_of(id);
        let mut blocked = Vec::new();
        let mut fragments_left = 0;
        for pg in &groups {
            fragments_left += self.fragments_left(*pg, id);
            blocked.extend(self.block(*pg, id));
        }
        blocked.extend(drain.left.iter().map(|pg| BlockReport {
            pg: pg.0,
            reason: "it has left this one, which is not found full by a recount yet".into(),
            extents: vec![],
        }));
        let state = match (drain.row.drained && groups.is_empty(), drain.row.leaves) {
            (true, true) => "left",
            (true, false) => "drained",
            _ => "draining",
        };
        Some(DrainReport {
            disk: id.to_string(),
            domain: self.disks.get(&id).map(|disk| disk.row.domain.clone()),
            state,
            leaves: drain.row.leaves,
            since_ms: self.now.since(drain.since).0,
            groups_moved: drain.moved,
            groups_left: groups.len(),
            fragments_left,
            blocked,
        })
    }

    /// Every drain that is not over, or is over and not given up.
    pub(super) fn drain_reports(&self) -> Vec<DrainReport> {
        self.intents.drains.keys().filter_map(|id| self.drain_report(*id)).collect()
    }

    fn fragments_left(&self, pg: PgId, id: DiskId) -> u64 {
        let Some(owner) = self.owner(pg) else { return 0 };
        let Some(row) = owner.row() else { return 0 };
        let successor = row.index_held_or_joined(id).and_then(|index| row.joining.get(&index));
        let slots = owner.slots();
        let missing = slots.iter().find(|slot| Some(&slot.disk) == successor).and_then(|slot| slot.missing.as_ref());
        missing.map_or(owner.list().len(), BTreeSet::len) as u64
    }

    /// Why a group does not let a disk go.
    fn block(&self, pg: PgId, id: DiskId) -> Option<BlockReport> {
        let group = self.groups.get(&pg)?;
        let row = group.owner.row()?;
        let index = row.index_held_or_joined(id)?;
        let because = |reason: String| Some(BlockReport { pg: pg.0, reason, extents: vec![] });
        if let Some(reason) = &group.frozen {
            return because(format!("it is frozen: {reason}"));
        }
        if row.state == PgState::Frozen {
            return because("it is frozen".into());
        }
        if !group.owner.is_ready() {
            return because(format!("it is not ready: {}", group.owner.waits().join("; ")));
        }
        if let Some(reason) = group.homeless.get(&index) {
            return because(format!("no disk can take index {index} over: {reason}"));
        }
        let successor = row.joining.get(&index)?;
        let of_successor = |targets: &[(u16, DiskId)]| targets.iter().any(|(_, disk)| disk == successor);
        let wanting = || group.view.needs.iter().filter(|(_, need)| of_successor(&need.targets));
        let named = |extents: Vec<ExtentKey>| extents.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        let undecodable: Vec<ExtentKey> =
            wanting().filter(|(_, need)| need.margin.is_none()).map(|(extent, _)| *extent).collect();
        if !undecodable.is_empty() {
            let reason = format!("of {} extents too few fragments can be had to rebuild them", undecodable.len());
            return Some(BlockReport { pg: pg.0, reason, extents: named(undecodable) });
        }
        let failing: Vec<ExtentKey> =
            wanting().map(|(extent, _)| *extent).filter(|extent| self.repairs.backoff.contains_key(extent)).collect();
        let first = failing.first()?;
        let why = self.repairs.backoff.get(first).map(|backoff| backoff.reason.clone()).unwrap_or_default();
        let reason = format!("{} extents were not moved and will be tried again: {why}", failing.len());
        Some(BlockReport { pg: pg.0, reason, extents: named(failing) })
    }
}
