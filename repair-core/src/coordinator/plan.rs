//! What would be done, without doing it: the repairs that are wanted now, and those that would be if some nodes were lost (a drill).

use super::view::has;
use super::{Asker, Coordinator, JobId};
use crate::id::{DiskId, ExtentKey, PgId};
use crate::placement::{self, Candidate};
use crate::queue::TurnKey;
use crate::risk::shard_set;
use crate::wire::DaemonReply;
use ec_core::{Code, ShardIndex, ShardSet};
use serde::Serialize;
use std::collections::BTreeSet;

/// Repairs and groups told in full, the most urgent first; all are counted.
const TOLD_MAX: usize = 500;

/// A fragment and where it is, or goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PlaceReport {
    index: u16,
    disk: String,
    domain: Option<String>,
}

/// The repairs that are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PlanReport {
    schema: u32,
    /// Extents that need something.
    extents: usize,
    /// Those told below.
    told: usize,
    /// Payload to be read and written for those, where the lengths are known.
    read_bytes: u64,
    write_bytes: u64,
    /// Of those, extents whose length this life of the daemon has not heard.
    of_unknown_length: usize,
    repairs: Vec<PlannedReport>,
    /// Indexes to which no disk can be given, and why.
    homeless: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PlannedReport {
    extent: String,
    /// Further losses it surely survives; none where it cannot be decoded now.
    margin: Option<usize>,
    /// `running`, `next`, `paused`, `put off` or `impossible`.
    state: &'static str,
    reads: Vec<PlaceReport>,
    writes: Vec<PlaceReport>,
    read_bytes: Option<u64>,
    write_bytes: Option<u64>,
    /// Why it cannot be done, or waits.
    reason: Option<String>,
}

/// What the loss of some nodes would come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct DrillReport {
    schema: u32,
    nodes: Vec<String>,
    /// From the last sign of life until repairs begin, unless something excuses the nodes.
    begins_after_ms: u64,
    groups: usize,
    extents: u64,
    /// Extents that could not be read.
    extents_unavailable: usize,
    /// Further losses that every extent of those groups surely survives then.
    least_margin: Option<usize>,
    /// Indexes that would have no disk.
    homeless: usize,
    read_bytes: u64,
    write_bytes: u64,
    /// Extents whose length this life of the daemon has not heard: their bytes are not counted.
    of_unknown_length: usize,
    by_group: Vec<DrilledReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct DrilledReport {
    pg: u32,
    extents: u64,
    lost: Vec<u16>,
    least_margin: Option<usize>,
    undecodable: usize,
    reads: Vec<PlaceReport>,
    writes: Vec<PlaceReport>,
    read_bytes: u64,
    write_bytes: u64,
    reasons: Vec<String>,
}

impl Coordinator {
    fn place_report(&self, index: u16, disk: DiskId) -> PlaceReport {
        let domain = self.disks.get(&disk).map(|known| known.row.domain.clone());
        PlaceReport { index, disk: disk.to_string(), domain }
    }

    pub(super) fn plan_wanted(&mut self, asker: Asker) {
        let report = self.plan();
        self.reply_with(asker, DaemonReply::Report, super::report::json(&report));
    }

    fn plan(&self) -> PlanReport {
        let needs = self.groups.values().flat_map(|group| group.view.needs.keys());
        // What cannot be decoded comes last: nothing can be done for it.
        let mut wanted: Vec<(Option<TurnKey>, ExtentKey)> =
            needs.map(|extent| (self.risk_of(*extent).map(|risk| risk.key(self.now, *extent)), *extent)).collect();
        wanted.sort_by_key(|(key, extent)| (key.is_none(), *key, *extent));
        let repairs: Vec<PlannedReport> =
            wanted.iter().take(TOLD_MAX).filter_map(|(_, extent)| self.planned(*extent)).collect();
        let homeless = self.groups.iter().flat_map(|(pg, group)| {
            let line =
                move |(index, reason): (&u16, &String)| format!("index {index} of placement group {pg}: {reason}");
            group.homeless.iter().map(line)
        });
        PlanReport {
            schema: super::report::SCHEMA,
            extents: wanted.len(),
            told: repairs.len(),
            read_bytes: repairs.iter().filter_map(|repair| repair.read_bytes).sum(),
            write_bytes: repairs.iter().filter_map(|repair| repair.write_bytes).sum(),
            of_unknown_length: repairs.iter().filter(|repair| repair.write_bytes.is_none()).count(),
            repairs,
            homeless: homeless.take(TOLD_MAX).collect(),
        }
    }

    fn planned(&self, extent: ExtentKey) -> Option<PlannedReport> {
        let need = self.groups.get(&extent.pg())?.view.needs.get(&extent)?;
        let mut planned = PlannedReport {
            extent: extent.to_string(),
            margin: need.margin,
            state: "next",
            reads: Vec::new(),
            writes: Vec::new(),
            read_bytes: None,
            write_bytes: None,
            reason: self.repairs.backoff.get(&extent).map(|backoff| backoff.reason.clone()),
        };
        let Some((spec, _)) = self.repair_spec(extent, JobId(0)) else {
            planned.state = "impossible";
            planned.reason.get_or_insert_with(|| "no disk that needs it can be given it now".into());
            return Some(planned);
        };
        planned.writes = spec.targets.iter().map(|(index, place)| self.place_report(*index, place.disk)).collect();
        let available = shard_set(spec.sources.keys().copied());
        let targets = shard_set(spec.targets.keys().copied());
        let code = self.owner(extent.pg()).and_then(|owner| Code::new(&owner.row()?.code_spec().ok()?).ok());
        let Some(reads) = code.and_then(|code| crate::repair::reads_of(&code, &targets, &available)) else {
            planned.state = "impossible";
            planned.reason.get_or_insert_with(|| "too few fragments can be had to rebuild it".into());
            return Some(planned);
        };
        let first = |index: ShardIndex| Some((index.get(), spec.sources.get(&index.get())?.first()?.disk));
        planned.reads = reads.iter().filter_map(first).map(|(index, disk)| self.place_report(index, disk)).collect();
        let shard_bytes = self.shard_bytes(extent);
        planned.read_bytes = shard_bytes.map(|bytes| bytes * planned.reads.len() as u64);
        planned.write_bytes = shard_bytes.map(|bytes| bytes * planned.writes.len() as u64);
        let is_running = self.repairs.running.values().any(|running| running.extent == extent);
        planned.state = if is_running {
            "running"
        } else if self.is_paused(need) {
            "paused"
        } else if planned.reason.is_some() {
            "put off"
        } else {
            "next"
        };
        Some(planned)
    }

    pub(super) fn drill_wanted(&mut self, asker: Asker, nodes: &[String]) {
        let lost = match self.all_named(nodes) {
            Ok(disks) => disks,
            Err(refusal) => return self.refuse(asker, refusal),
        };
        let report = self.drill(&lost);
        self.reply_with(asker, DaemonReply::Report, super::report::json(&report));
    }

    fn drill(&self, lost: &BTreeSet<DiskId>) -> DrillReport {
        let can_stop = self.can_stop(lost);
        let mut report = DrillReport {
            schema: super::report::SCHEMA,
            nodes: can_stop.nodes,
            begins_after_ms: self.config.suspect_after.0.saturating_add(self.config.grace.0),
            groups: can_stop.groups,
            extents: 0,
            extents_unavailable: can_stop.extents_against,
            least_margin: can_stop.least_margin,
            homeless: 0,
            read_bytes: 0,
            write_bytes: 0,
            of_unknown_length: 0,
            by_group: Vec::new(),
        };
        let candidates = self.candidates();
        for pg in self.groups.keys() {
            let Some((drilled, unknown)) = self.drilled(*pg, lost, &candidates) else { continue };
            report.extents += drilled.extents;
            report.homeless += drilled.lost.len().saturating_sub(drilled.writes.len());
            report.read_bytes += drilled.read_bytes;
            report.write_bytes += drilled.write_bytes;
            report.of_unknown_length += unknown;
            if report.by_group.len() < TOLD_MAX {
                report.by_group.push(drilled);
            }
        }
        report
    }

    /// What one group would do, and of how many of its extents the length is not known.
    fn drilled(
        &self,
        pg: PgId,
        lost: &BTreeSet<DiskId>,
        candidates: &[Candidate<'_>],
    ) -> Option<(DrilledReport, usize)> {
        let without = self.without(pg, lost)?;
        let owner = self.owner(pg)?;
        let row = owner.row()?;
        let mut drilled = DrilledReport {
            pg: pg.0,
            extents: owner.list().len() as u64,
            lost: without.indexes.clone(),
            least_margin: without.least,
            undecodable: without.undecodable_count,
            reads: Vec::new(),
            writes: Vec::new(),
            read_bytes: 0,
            write_bytes: 0,
            reasons: without.unknown.into_iter().collect(),
        };
        let mut chosen = Vec::new();
        for index in &without.indexes {
            match self.drilled_home(row, *index, lost, &chosen, candidates) {
                Ok(disk) => {
                    chosen.push(disk);
                    drilled.writes.push(self.place_report(*index, disk));
                }
                Err(reason) => drilled.reasons.push(format!("index {index}: {reason}")),
            }
        }
        let slots = owner.slots();
        let holders: Vec<_> = slots.iter().filter(|slot| has(slot, None) && !lost.contains(&slot.disk)).collect();
        let available = shard_set(holders.iter().map(|slot| slot.index));
        let code = Code::new(&row.code_spec().ok()?).ok()?;
        let targets: ShardSet = shard_set(without.indexes.iter().copied());
        match crate::repair::reads_of(&code, &targets, &available) {
            Some(reads) => {
                let holder = |index: ShardIndex| holders.iter().find(|slot| slot.index == index.get());
                let holder = |index| holder(index).map(|slot| self.place_report(slot.index, slot.disk));
                drilled.reads = reads.iter().filter_map(holder).collect();
            }
            None => drilled.reasons.push("too few fragments would be left to rebuild from".into()),
        }
        let shards: Vec<Option<u64>> = owner.list().keys().map(|extent| self.shard_bytes(*extent)).collect();
        let bytes: u64 = shards.iter().flatten().sum();
        drilled.read_bytes = bytes * drilled.reads.len() as u64;
        drilled.write_bytes = bytes * drilled.writes.len() as u64;
        Some((drilled, shards.iter().filter(|shard| shard.is_none()).count()))
    }

    fn drilled_home(
        &self,
        row: &crate::catalog::PgRow,
        index: u16,
        lost: &BTreeSet<DiskId>,
        chosen: &[DiskId],
        candidates: &[Candidate<'_>],
    ) -> Result<DiskId, String> {
        let stays = |at: u16, disk: &DiskId| at != index && !lost.contains(disk);
        let members = (0u16..).zip(&row.members).filter(|(at, disk)| stays(*at, disk)).map(|(_, disk)| disk);
        let others: Vec<&str> = members
            .chain(chosen)
            .filter_map(|disk| self.disks.get(disk)?.domain.as_ref())
            .map(|domain| domain.at(self.config.fault_domain))
            .collect();
        let taken =
            |disk: &DiskId| row.index_held_or_joined(*disk).is_some() || lost.contains(disk) || chosen.contains(disk);
        let candidates: Vec<Candidate<'_>> =
            candidates.iter().filter(|candidate| !taken(&candidate.disk)).copied().collect();
        let may_crowd = row.crowded || self.config.code.is_some();
        let tolerance = self.tolerance(row);
        placement::replacement(&candidates, &others, tolerance, may_crowd, &mut self.dice.clone())
            .map_err(|reason| reason.to_string())
    }
}
