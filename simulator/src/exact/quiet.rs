//! What must be so when all is quiet: what a daemon counts, where fragments stand, and that nothing is left over.

use super::run::Phase;
use super::world::World;
use repair_core::id::{DiskId, PgId};
use repair_core::invariant::Violation;
use repair_core::invariant::cell::{Counters, counters_agree, placed_apart};
use repair_core::wire::node::FragmentKey;

/// Virtual time in which what is left over must go, beside the time it is kept for; in the shortest of cells.
const CLEARING_MS: u64 = 60_000;

impl World {
    fn rack(&self, disk: DiskId) -> Option<usize> {
        self.node_of(disk).map(|node| node % self.profile.racks)
    }

    /// Whether a group's indexes stand as far apart as they must.
    fn stands_apart(&self, pg: PgId) -> Result<(), Violation> {
        let Some(truth) = self.oracle.pgs.get(&pg) else { return Ok(()) };
        placed_apart(&truth.row, self.code.guaranteed_tolerance(), |disk| self.rack(disk))
    }

    /// Whether a cell at rest stands where it should, and its daemon counts what there is.
    pub fn rests_truly(&self) -> Result<(), Violation> {
        if self.broken.is_empty() {
            self.oracle.pgs.keys().try_for_each(|pg| self.stands_apart(*pg))?;
        }
        let coordinator = self.holder().and_then(|daemon| self.daemons.get(daemon)?.coordinator.as_ref());
        let Some(coordinator) = coordinator else { return Ok(()) };
        let status = coordinator.status();
        let counters = Counters {
            extents: status.extents,
            by_margin: status.extents_by_margin,
            unavailable: status.unavailable_extents,
            repairs: (status.repairs.waiting + status.repairs.running.len()) as u64,
        };
        // Beside nodes that are broken for ever something may be lacking for ever.
        let lacking = if self.broken.is_empty() { 0 } else { counters.repairs };
        counters_agree(&counters, self.oracle.extents() as u64, lacking)
    }

    pub(super) fn clearing_ms_max(&self) -> u64 {
        let node = &self.profile.node;
        node.staged_for.0 + node.quarantine_for.0 + self.profile.span_ms(CLEARING_MS)
    }

    /// Something that lies on a disk and belongs to nothing on file; none where all that was begun in vain is gone.
    pub fn left_over(&self) -> Option<String> {
        debug_assert!(matches!(self.phase, Phase::Clearing(_)));
        self.nodes.iter().enumerate().filter(|(node, _)| !self.broken.contains_key(node)).find_map(|(node, host)| {
            host.life()?;
            if host.disk.stages() > 0 {
                return Some(format!("node {node} has {} stages open", host.disk.stages()));
            }
            if let Some(kept) = host.disk.kept().first() {
                return Some(format!("node {node} keeps {kept:?} staged"));
            }
            let stray = host.disk.names().keys().find(|fragment| !self.may_stay(host.disk.id, fragment))?;
            Some(format!("node {node} has {stray:?} under its name, and nobody owes it"))
        })
    }

    /// Whether a disk owes a fragment, or the group is not whole for ever: then what is more than needed may be all there is.
    fn may_stay(&self, disk: DiskId, fragment: &FragmentKey) -> bool {
        let Some(truth) = self.oracle.pgs.get(&fragment.extent.pg()) else { return false };
        let index = truth.row.index_held_or_joined(disk);
        let is_owed = truth.list.contains_key(&fragment.extent) && index == Some(fragment.index);
        let is_broken = |member: &DiskId| self.node_of(*member).is_none_or(|node| self.broken.contains_key(&node));
        is_owed || !self.broken.is_empty() && truth.row.members.iter().any(is_broken)
    }
}
