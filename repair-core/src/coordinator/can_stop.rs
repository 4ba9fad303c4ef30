//! May these nodes be stopped now? Yes where every extent can still be read without them, by what their groups really have, the
//! silent disks counted as lost; no where it cannot, or where nobody knows.

use super::{Asker, Coordinator};
use crate::id::DiskId;
use crate::topology::Level;
use crate::wire::{DaemonReply, Refusal};
use serde::Serialize;
use std::collections::BTreeSet;

/// Groups named; all are counted.
const NAMED_MAX: usize = 100;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CanStopReport {
    /// Version of this form.
    pub schema: u32,
    /// Whether they may.
    pub can_stop: bool,
    /// Where they stand.
    pub nodes: Vec<String>,
    /// Placement groups that have one of them.
    pub groups: usize,
    /// Further losses that every extent of those surely survives then; none where some could not be read.
    pub least_margin: Option<usize>,
    /// Extents that could not be read.
    pub extents_against: usize,
    /// Placement groups that stand against it, the first hundred.
    pub against: Vec<AgainstReport>,
}

/// A placement group that stands against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgainstReport {
    /// Which.
    pub pg: u32,
    /// Why.
    pub reason: String,
    /// Indexes that those nodes hold.
    pub indexes: Vec<u16>,
    /// Extents that could not be read, the first of them.
    pub extents: Vec<String>,
}

impl Coordinator {
    /// Disks of a node, by id or name, or of a whole domain.
    pub(super) fn disks_named(&self, name: &str) -> BTreeSet<DiskId> {
        let called = self.disks_called(name);
        if !called.is_empty() {
            return called.into_iter().collect();
        }
        let levels = [Level::Region, Level::Zone, Level::Rack];
        let inside = |disk: &super::disks::Disk| {
            disk.domain.as_ref().is_some_and(|domain| levels.into_iter().any(|level| domain.at(level) == name))
        };
        self.disks.iter().filter(|(_, disk)| inside(disk)).map(|(id, _)| *id).collect()
    }

    /// The disks of nodes and domains; refused where the cell does not have one of them.
    pub(super) fn all_named(&self, nodes: &[String]) -> Result<BTreeSet<DiskId>, Refusal> {
        let mut disks = BTreeSet::new();
        for node in nodes {
            let named = self.disks_named(node);
            if named.is_empty() {
                return Err(Refusal::Invalid(format!("the cell has no node or domain {node:?}")));
            }
            disks.extend(named);
        }
        Ok(disks)
    }

    pub(super) fn can_stop_wanted(&mut self, asker: Asker, nodes: &[String]) {
        let disks = match self.all_named(nodes) {
            Ok(disks) => disks,
            Err(refusal) => return self.refuse(asker, refusal),
        };
        let report = self.can_stop(&disks);
        self.reply_with(asker, DaemonReply::Report, super::report::json(&report));
    }

    pub(super) fn can_stop(&self, disks: &BTreeSet<DiskId>) -> CanStopReport {
        let mut report = CanStopReport {
            schema: super::report::SCHEMA,
            can_stop: true,
            nodes: disks.iter().filter_map(|disk| Some(self.disks.get(disk)?.row.domain.clone())).collect(),
            groups: 0,
            least_margin: None,
            extents_against: 0,
            against: Vec::new(),
        };
        let mut least = Vec::new();
        for (pg, group) in &self.groups {
            let Some(without) = self.without(*pg, disks) else { continue };
            report.groups += 1;
            let uncounted = group.view.uncounted.iter().filter(|disk| !disks.contains(disk)).count();
            let reason = match &without.unknown {
                Some(unknown) => Some(unknown.clone()),
                None if without.undecodable_count > 0 => {
                    let why = if uncounted > 0 {
                        format!(" ({uncounted} of its disks have not been counted yet)")
                    } else {
                        String::new()
                    };
                    Some(format!("{} extents could not be read without them{why}", without.undecodable_count))
                }
                None => None,
            };
            report.extents_against += without.undecodable_count;
            let has_extents = group.owner.row().is_some_and(|row| row.count > 0);
            least.extend(has_extents.then_some(without.least));
            let Some(reason) = reason else { continue };
            report.can_stop = false;
            if report.against.len() < NAMED_MAX {
                let extents = without.undecodable.iter().map(ToString::to_string).collect();
                report.against.push(AgainstReport { pg: pg.0, reason, indexes: without.indexes, extents });
            }
        }
        report.least_margin = least.into_iter().min().flatten();
        report
    }
}
