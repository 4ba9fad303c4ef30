//! What must be so when all is quiet: what a daemon counts, and where fragments stand.

use super::world::World;
use repair_core::id::{DiskId, PgId};
use repair_core::invariant::Violation;
use repair_core::invariant::cell::{Counters, counters_agree, placed_apart};

impl World {
    fn rack(&self, disk: DiskId) -> Option<usize> {
        self.node_of(disk).map(|node| node % self.profile.racks)
    }

    /// Whether a group's indexes stand as far apart as they must.
    pub fn stands_apart(&self, pg: PgId, is_settled: bool) -> Result<(), Violation> {
        let Some(truth) = self.oracle.pgs.get(&pg) else { return Ok(()) };
        placed_apart(&truth.row, self.code.guaranteed_tolerance(), is_settled, |disk| self.rack(disk))
    }

    /// Whether a cell at rest stands where it should, and its daemon counts what there is.
    pub fn rests_truly(&self) -> Result<(), Violation> {
        for pg in self.oracle.pgs.keys() {
            self.stands_apart(*pg, self.broken.is_empty())?;
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
}
