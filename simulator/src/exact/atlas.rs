//! The fault atlas: which disks are hurt, so that within the tolerance no group ever has more of them than the code surely survives.

use super::world::World;
use repair_core::id::DiskId;
use std::collections::BTreeSet;

impl World {
    /// Whether this disk may be hurt, or hurt more. In no group may the disks that are hurt, and those that are excused from
    /// what they lack, be more than the code surely survives.
    pub fn may_hurt(&mut self, node: usize) -> bool {
        // A disk that is to lie about a write hurts what is yet to be written.
        if self.nodes.iter().all(|host| host.disk.lie.is_none()) && self.is_whole() {
            self.faults.wounded.clear();
        }
        let disk = self.nodes[node].disk.id;
        let wounded = &self.faults.wounded;
        let bears = self.oracle.pgs.values().all(|truth| {
            let row = &truth.row;
            let lacks = |member: &DiskId| wounded.contains(member) || row.behind.contains(member) || *member == disk;
            let lacking: BTreeSet<DiskId> = row.members.iter().copied().filter(lacks).collect();
            lacking.len() <= self.profile.tolerance
        });
        let few = wounded.contains(&disk) || wounded.len() < self.profile.tolerance;
        // New disks under way count too: what lies on them is not proven yet.
        let calm = self.oracle.pgs.values().all(|truth| !truth.row.joining.values().any(|joining| *joining == disk));
        if bears && few && calm {
            self.faults.wounded.insert(disk);
        }
        bears && few && calm
    }
}
