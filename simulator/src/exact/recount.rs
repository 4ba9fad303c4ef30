//! Everything counted anew, whatever was kept up to date event by event: every hundred events where something changed, and whole when
//! all is quiet.

use super::world::World;
use repair_core::catalog::{NameRow, PgRow, key};
use repair_core::id::{DiskId, PgId, Sum};
use repair_core::invariant::{Invariant, Violation};
use repair_core::wire::codec::decode_row;
use repair_core::wire::node::FragmentKey;
use std::collections::{BTreeMap, BTreeSet};

/// Events from one recount to the next.
const EVENTS_BETWEEN: u64 = 100;
/// Events from one reading of the whole catalog to the next.
const EVENTS_BETWEEN_READINGS: u64 = 10_000;

/// What a group's recount rests on: as long as that is the same, so is its outcome.
type Basis = (u64, Vec<(DiskId, u64)>);

/// What was counted last.
#[derive(Debug, Default)]
pub struct Recounts {
    last: u64,
    last_reading: u64,
    bases: BTreeMap<PgId, Basis>,
    /// Groups counted.
    pub counted: u64,
}

impl World {
    /// Counts anew where it is time to.
    pub fn recount_now_and_then(&mut self) {
        let event = self.oracle.event;
        if event < self.recounts.last + EVENTS_BETWEEN {
            return;
        }
        self.recounts.last = event;
        let held = self.recount(false);
        self.judge(held);
        if event >= self.recounts.last_reading + EVENTS_BETWEEN_READINGS {
            self.recounts.last_reading = event;
            let held = self.catalog_is_true();
            self.judge(held);
        }
    }

    /// Counts everything anew.
    pub fn recount_all(&mut self) {
        let held = self.recount(true).and_then(|()| self.catalog_is_true());
        self.judge(held);
    }

    fn recount(&mut self, all: bool) -> Result<(), Violation> {
        let nodes: BTreeMap<DiskId, usize> =
            self.nodes.iter().zip(0..).map(|(host, node)| (host.disk.id, node)).collect();
        let pgs: Vec<PgId> = self.oracle.pgs.keys().copied().collect();
        for pg in pgs {
            let basis = self.basis(&nodes, &self.oracle.pgs[&pg].row);
            if !all && self.recounts.bases.get(&pg) == Some(&basis) {
                continue;
            }
            self.count_group(&nodes, pg)?;
            self.recounts.bases.insert(pg, basis);
            self.recounts.counted += 1;
        }
        Ok(())
    }

    fn basis(&self, nodes: &BTreeMap<DiskId, usize>, row: &PgRow) -> Basis {
        let of_disk = |disk: &DiskId| (*disk, nodes.get(disk).map_or(0, |node| self.nodes[*node].disk.changes()));
        (row.seq, row.members.iter().chain(row.joining.values()).map(of_disk).collect())
    }

    /// A group's list comes to its row, its members hold what they owe, and each extent can be decoded from what is sound.
    fn count_group(&self, nodes: &BTreeMap<DiskId, usize>, pg: PgId) -> Result<(), Violation> {
        let truth = &self.oracle.pgs[&pg];
        let row = &truth.row;
        let sum = truth.list.values().fold(Sum::default(), |sum, hash| sum.plus(hash));
        if (truth.list.len() as u64, sum) != (row.count, row.sum) {
            let what = format!("pg {pg} seq {}: {} extents come to another sum", row.seq, truth.list.len());
            return Err(Violation::new(Invariant::RowsFollow, what));
        }
        for (extent, hash) in &truth.list {
            let mut have = BTreeSet::new();
            for (index, disk) in (0..).zip(&row.members) {
                let Some(node) = nodes.get(disk) else { continue };
                let host = &self.nodes[*node];
                let fragment = FragmentKey { extent: *extent, generation: 1, index };
                if host.disk.holds(fragment, hash) {
                    have.insert(index);
                } else if !row.behind.contains(disk) && !host.injured.contains(&fragment) {
                    let what =
                        format!("pg {pg}: node {node} does not hold fragment {index} of {extent}, which it owes");
                    return Err(Violation::new(Invariant::OwedHeld, what));
                }
            }
            if !self.is_enough(&have) {
                let what = format!("extent {extent} is on a list, and sound are only its fragments {have:?}");
                return Err(Violation::new(Invariant::StaysDecodable, what));
            }
        }
        Ok(())
    }

    /// The catalog, read whole, has the groups and names that are true.
    fn catalog_is_true(&self) -> Result<(), Violation> {
        let differs = |invariant, what: String| Err(Violation::new(invariant, what));
        if self.phase.is_rolled_back() {
            return Ok(());
        }
        let mut groups = 0;
        for found in self.catalog.rows.range(key::PGS, None, usize::MAX) {
            let row = decode_row::<PgRow>(&found.value).ok();
            let known = row.as_ref().and_then(|row| self.oracle.pgs.get(&row.pg));
            if row.is_none() || known.map(|truth| &truth.row) != row.as_ref() {
                return differs(
                    Invariant::RowsFollow,
                    format!("a row of the catalog is not what was written: {row:?}"),
                );
            }
            groups += 1;
        }
        if groups != self.oracle.pgs.len() {
            return differs(Invariant::RowsFollow, format!("{groups} groups of {} are there", self.oracle.pgs.len()));
        }
        let mut names = 0;
        for found in self.catalog.rows.range(key::NAMES, None, usize::MAX) {
            let name = found.key.strip_prefix(key::NAMES).unwrap_or_default();
            let row = decode_row::<NameRow>(&found.value).ok();
            if row.is_none() || self.oracle.now(name) != row {
                let what = format!("{} is not as it was put: {row:?}", super::oracle::shown(name));
                return differs(Invariant::AckedStays, what);
            }
            names += 1;
        }
        let known = self.oracle.names().filter(|name| self.oracle.now(name).is_some()).count();
        if names != known {
            return differs(Invariant::AckedStays, format!("{names} names of {known} are there"));
        }
        Ok(())
    }
}
