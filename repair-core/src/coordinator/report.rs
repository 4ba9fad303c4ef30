//! What an operator is told: the state of the cell, and why things are as they are.

use super::disks::Disk;
use super::drain::DrainReport;
use super::outlook::{ChargeReport, OutlookReport, TurnReport};
use super::scan::NamesAtRisk;
use super::{Asker, Coordinator};
use crate::catalog::PgState;
use crate::health::{Cause, Health};
use crate::id::{DiskId, ExtentKey, PgId};
use crate::node::Body;
use crate::pg::{SlotView, Standing};
use crate::wire::daemon::Subject;
use crate::wire::node::ServiceTime;
use crate::wire::{DaemonReply, Refusal};
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of the reports.
pub const SCHEMA: u32 = 1;
/// Waits named in one report; more are counted.
const WAITS_MAX: usize = 100;

/// The state of the cell. Counted from what the owners know, unreachable disks as lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusReport {
    /// Version of this form.
    pub schema: u32,
    /// The cell; none before it is known.
    pub cell: Option<String>,
    /// Incarnation of its catalog.
    pub incarnation: u32,
    /// Whether the daemon still starts. What it has not claimed yet is not counted as unavailable meanwhile.
    pub starting: bool,
    /// Disks by health.
    pub nodes: NodeCounts,
    /// Each disk.
    pub disks: Vec<DiskReport>,
    /// Placement groups by state.
    pub pgs: PgCounts,
    /// Extents on file.
    pub extents: u64,
    /// Extents by how many further losses they surely survive; those that cannot be read are not in it.
    pub extents_by_margin: BTreeMap<usize, u64>,
    /// Whether every fragment is where it belongs, by a recount.
    pub full_redundancy: bool,
    /// Extents that may not survive one more loss.
    pub at_risk: u64,
    /// Extents that cannot be read now.
    pub unavailable_extents: u64,
    /// Names whose bytes lie in those.
    pub unavailable_names: NamesAtRisk,
    /// Whether anything is at risk or unavailable, or was found wrong by an audit.
    pub risk: bool,
    /// Repairs.
    pub repairs: RepairsReport,
    /// Audits.
    pub audits: AuditsReport,
    /// Drains.
    pub drains: Vec<DrainReport>,
    /// What is waited for, in words.
    pub waits: Vec<String>,
    /// Nodes that ask to be taken and are not: copies of disks, say.
    pub refused_nodes: Vec<RefusedReport>,
    /// Puts begun and not ended.
    pub puts_open: usize,
    /// Extents still to be deleted.
    pub doomed: usize,
}

/// Disks by health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeCounts {
    /// All.
    pub total: usize,
    /// Those that beat.
    pub healthy: usize,
    /// Those that are silent, or just returning.
    pub suspect: usize,
    /// Of them, those that have been silent for some time.
    pub down: usize,
    /// Those in a maintenance window, silent or not.
    pub maintenance: usize,
    /// Those being drained.
    pub draining: usize,
    /// Those that limp.
    pub limping: usize,
    /// Those set aside without an operator.
    pub quarantined: usize,
    /// Those given up.
    pub lost: usize,
}

/// Placement groups by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PgCounts {
    /// All.
    pub total: usize,
    /// Those that take new extents.
    pub open: usize,
    /// Those that wait to be whole again.
    pub closed: usize,
    /// Those an operator must look at.
    pub frozen: usize,
    /// Those whose list is not proven yet.
    pub unready: usize,
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskReport {
    /// The disk.
    pub disk: String,
    /// Where it stands.
    pub domain: String,
    /// Where its node listens.
    pub address: String,
    /// How it is.
    pub state: Health,
    /// For so long.
    pub since_ms: u64,
    /// Why.
    pub cause: Cause,
    /// What that is known by.
    pub evidence: String,
    /// Bytes free, as last told.
    pub free_bytes: u64,
    /// Faults that its node met since it was started, by kind.
    pub faults: BTreeMap<String, u64>,
    /// By what it is found to be far slower than its peers; none where it is not.
    pub limping: Option<LimpingReport>,
    /// Placement groups it is a member of, or joins.
    pub pgs: usize,
}

/// A disk beside its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimpingReport {
    /// The kind of operation.
    pub kind: String,
    /// How long it takes, in microseconds.
    pub mean_us: u64,
    /// The median of the others.
    pub peers_us: u64,
    /// For so long.
    pub since_ms: u64,
}

/// What a disk's node told of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct FaultReport {
    kind: String,
    count: u64,
    last_ms_ago: u64,
}

/// A node that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedReport {
    /// The disk it says to be.
    pub disk: String,
    /// Where it listens.
    pub address: String,
    /// Why it is not taken.
    pub reason: String,
    /// It has been asking for so long.
    pub since_ms: u64,
}

/// Repairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RepairsReport {
    /// Extents that wait for one, those under way not counted.
    pub waiting: usize,
    /// Where repairs are paused: those of extents that survive more than so many further losses.
    pub paused_above_margin: Option<u16>,
    /// Under way.
    pub running: Vec<RunningReport>,
    /// Ended well in this life of the daemon.
    pub done: u64,
    /// Ended otherwise.
    pub failed: u64,
    /// Payload of the fragments published.
    pub rebuilt_bytes: u64,
    /// Payload read for it.
    pub read_bytes: u64,
    /// The least that had to be read.
    pub minimum_read_bytes: u64,
    /// Payload sent to nodes.
    pub written_bytes: u64,
    /// Of it, what came as the sums of a chain of sources.
    pub chained_bytes: u64,
    /// Repairs that gave their chain up and read every source.
    pub chains_broken: u64,
    /// Payload that was staged already by a repair that was cut off, and was neither read for nor sent again.
    pub resumed_bytes: u64,
    /// Until the last one ends that can be done as things are, at the pace so far; none where nothing is known.
    pub eta_seconds: Option<f64>,
    /// What that follows from.
    pub outlook: OutlookReport,
}

/// Audits, in this life of the daemon but for what is parked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditsReport {
    /// One extent in so many is audited per period; 0 for none but those asked for.
    pub one_in: u64,
    /// Ended, however.
    pub audited: u64,
    /// Of them, found sound.
    pub sound: u64,
    /// Of them, those that could not read everything.
    pub incomplete: u64,
    /// Of them, found wrong.
    pub found_wrong: u64,
    /// Payload read.
    pub read_bytes: u64,
    /// The extent under way.
    pub running: Option<String>,
    /// Whether what an operator asked for is not done yet.
    pub asked: bool,
    /// Extents to be tried again.
    pub to_try_again: usize,
    /// Extents passed over because not every fragment could be read while too many others waited to be tried again.
    pub put_off: u64,
    /// Since one ended; none where none did.
    pub last_ms_ago: Option<u64>,
    /// Extents on file that were found wrong, also in earlier lives.
    pub parked: usize,
    /// The first hundred of them.
    pub parked_extents: Vec<ParkedReport>,
}

/// An extent that an audit found wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParkedReport {
    /// The extent.
    pub extent: String,
    /// What is wrong.
    pub finding: String,
}

/// A repair under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningReport {
    /// The extent.
    pub extent: String,
    /// Indexes being built.
    pub lost: Vec<u16>,
    /// Further losses it surely survives.
    pub margin: usize,
    /// Payload staged so far.
    pub done_bytes: u64,
    /// Payload to stage; none where the extent's length is not known to this life of the daemon.
    pub total_bytes: Option<u64>,
}

/// A report as JSON.
pub fn json(report: &impl Serialize) -> Body {
    // Maps with keys of text or numbers, numbers, text: nothing that JSON cannot hold.
    serde_json::to_vec(report).unwrap_or_default().into()
}

impl Coordinator {
    /// The state of the cell, as of the last look at each group. Names at risk are only counted for those who ask over the wire.
    pub fn status(&self) -> StatusReport {
        let views = || self.groups.values().map(|group| &group.view);
        let mut by_margin: BTreeMap<usize, u64> = BTreeMap::new();
        for (margin, count) in views().flat_map(|view| &view.by_margin) {
            if let Some(margin) = margin {
                *by_margin.entry(*margin).or_default() += count;
            }
        }
        let unavailable = views().map(super::view::GroupView::unavailable_count).sum();
        let at_risk = by_margin.get(&0).copied().unwrap_or(0);
        StatusReport {
            schema: SCHEMA,
            cell: self.cell().map(|cell| cell.cell.to_string()),
            incarnation: self.cell().map_or(0, |cell| cell.incarnation),
            starting: !self.boot.is_done() || self.groups.values().any(|group| self.is_young(group)),
            nodes: self.node_counts(),
            disks: self.disks.iter().map(|(id, disk)| self.disk_report(*id, disk)).collect(),
            pgs: self.pg_counts(),
            extents: views().map(|view| view.extents).sum(),
            full_redundancy: self.boot.is_done() && self.all_full(),
            extents_by_margin: by_margin,
            at_risk,
            unavailable_extents: unavailable,
            unavailable_names: NamesAtRisk { complete: unavailable == 0, ..NamesAtRisk::default() },
            risk: at_risk > 0
                || unavailable > 0
                || !self.audits.parked().is_empty()
                || self.groups.values().any(|group| group.owner.is_unreadable()),
            repairs: self.repairs_report(),
            audits: self.audits_report(),
            drains: self.drain_reports(),
            waits: self.waits(),
            refused_nodes: self.refused_nodes(None),
            puts_open: self.puts.len(),
            doomed: self.doomed.len(),
        }
    }

    fn node_counts(&self) -> NodeCounts {
        let mut counts = NodeCounts { total: self.disks.len(), ..NodeCounts::default() };
        for disk in self.disks.values() {
            counts.down += usize::from(disk.health.state() == Health::Down);
            *match disk.health.state() {
                Health::Healthy => &mut counts.healthy,
                Health::Lost => &mut counts.lost,
                _ => &mut counts.suspect,
            } += 1;
        }
        for id in self.disks.keys() {
            match self.opinion(*id).map(|opinion| opinion.state) {
                Some(Health::Maintenance) => counts.maintenance += 1,
                Some(Health::Draining) => counts.draining += 1,
                Some(Health::Limping) => counts.limping += 1,
                Some(Health::Quarantined) => counts.quarantined += 1,
                _ => {}
            }
        }
        counts
    }

    fn pg_counts(&self) -> PgCounts {
        let mut counts = PgCounts { total: self.groups.len(), ..PgCounts::default() };
        for group in self.groups.values() {
            if !group.owner.is_ready() && group.frozen.is_none() {
                counts.unready += 1;
                continue;
            }
            match group.owner.row().map(|row| row.state) {
                Some(PgState::Frozen) => counts.frozen += 1,
                _ if group.frozen.is_some() => counts.frozen += 1,
                Some(PgState::Open) => counts.open += 1,
                Some(PgState::Closed) | None => counts.closed += 1,
            }
        }
        counts
    }

    fn disk_report(&self, id: DiskId, disk: &Disk) -> DiskReport {
        let holds =
            |pg: &&super::groups::Group| pg.owner.row().is_some_and(|row| row.index_held_or_joined(id).is_some());
        let opinion = self.opinion_of(id, disk);
        DiskReport {
            disk: id.to_string(),
            domain: disk.row.domain.clone(),
            address: disk.row.address.clone(),
            state: opinion.state,
            since_ms: self.now.since(opinion.since).0,
            cause: opinion.cause,
            evidence: opinion.evidence,
            free_bytes: disk.free_bytes,
            faults: disk.told.faults.iter().map(|(kind, (count, _))| (kind.clone(), *count)).collect(),
            limping: self.limping.evidence(id).map(|evidence| LimpingReport {
                kind: evidence.kind.clone(),
                mean_us: evidence.mean_us,
                peers_us: evidence.peers_us,
                since_ms: self.now.since(evidence.since).0,
            }),
            pgs: self.groups.values().filter(holds).count(),
        }
    }

    fn fault_reports(&self, disk: &Disk) -> Vec<FaultReport> {
        let report = |(kind, (count, last)): (&String, &(u64, crate::time::Time))| FaultReport {
            kind: kind.clone(),
            count: *count,
            last_ms_ago: self.now.since(*last).0,
        };
        disk.told.faults.iter().map(report).collect()
    }

    fn refused_nodes(&self, disk: Option<DiskId>) -> Vec<RefusedReport> {
        let report = |(disk, one): (DiskId, &super::clones::TurnedAway)| RefusedReport {
            disk: disk.to_string(),
            address: one.address.clone(),
            reason: one.reason.clone(),
            since_ms: self.now.since(one.since).0,
        };
        self.turned_away(disk).map(report).collect()
    }

    fn repairs_report(&self) -> RepairsReport {
        let repairs = &self.repairs;
        let running: Vec<RunningReport> = repairs
            .running
            .values()
            .map(|running| RunningReport {
                extent: running.extent.to_string(),
                lost: running.targets.keys().copied().collect(),
                margin: running.margin,
                done_bytes: running.written_bytes,
                total_bytes: self.shard_bytes(running.extent).map(|bytes| bytes * running.targets.len() as u64),
            })
            .collect();
        let needed: usize = self.groups.values().map(|group| group.view.needs.len()).sum();
        let in_work = repairs.running.values().filter(|running| {
            self.groups.get(&running.extent.pg()).is_some_and(|group| group.view.needs.contains_key(&running.extent))
        });
        let waiting = needed - in_work.count();
        let (outlook, eta_seconds) = self.outlook();
        RepairsReport {
            waiting,
            paused_above_margin: self.intents.paused_above(),
            running,
            done: repairs.totals.done,
            failed: repairs.totals.failed,
            rebuilt_bytes: repairs.totals.rebuilt_bytes,
            read_bytes: repairs.totals.read_bytes,
            minimum_read_bytes: repairs.totals.minimum_read_bytes,
            written_bytes: repairs.totals.written_bytes,
            chained_bytes: repairs.totals.chained_bytes,
            chains_broken: repairs.totals.chains_broken,
            resumed_bytes: repairs.totals.resumed_bytes,
            eta_seconds,
            outlook,
        }
    }

    fn audits_report(&self) -> AuditsReport {
        let (audits, totals) = (&self.audits, self.audits.totals);
        let parked = |(extent, finding): (&ExtentKey, &crate::repair::Finding)| ParkedReport {
            extent: extent.to_string(),
            finding: finding.to_string(),
        };
        AuditsReport {
            one_in: self.config.audit_one_in,
            audited: totals.sound + totals.incomplete + totals.found_wrong,
            sound: totals.sound,
            incomplete: totals.incomplete,
            found_wrong: totals.found_wrong,
            read_bytes: totals.read_bytes,
            running: audits.under_way().map(|extent| extent.to_string()),
            asked: audits.are_asked_for(),
            to_try_again: audits.to_try_again(),
            put_off: totals.put_off,
            last_ms_ago: audits.last.map(|at| self.now.since(at).0),
            parked: audits.parked().len(),
            parked_extents: audits.parked().iter().take(WAITS_MAX).map(parked).collect(),
        }
    }

    pub(super) fn shard_bytes(&self, extent: ExtentKey) -> Option<u64> {
        let bytes = *self.sizes.get(&extent)?;
        let spec = self.owner(extent.pg())?.row()?.code_spec().ok()?;
        Some(ec_core::Geometry::new(bytes, spec.k()).shard_bytes())
    }

    /// What is waited for, by name.
    fn waits(&self) -> Vec<String> {
        let mut waits = Vec::new();
        if !self.boot.is_done() {
            waits.push(format!("the daemon is starting: {:?}", self.boot).to_lowercase());
        }
        waits.extend(self.ownership.wait());
        for (pg, group) in &self.groups {
            waits.extend(group.frozen.iter().map(|reason| format!("placement group {pg} is frozen: {reason}")));
            waits.extend(group.owner.waits().into_iter().map(|wait| format!("placement group {pg}: {wait}")));
            waits.extend(
                group.homeless.iter().map(|(index, reason)| format!("index {index} of placement group {pg}: {reason}")),
            );
            let stuck = group.view.needs.iter().filter(|(_, need)| need.margin.is_none());
            waits.extend(
                stuck.map(|(extent, _)| format!("extent {extent}: too few fragments can be had to rebuild it")),
            );
        }
        for (extent, backoff) in &self.repairs.backoff {
            waits.push(format!("extent {extent} was not rebuilt, will be tried again: {}", backoff.reason));
        }
        waits.extend(self.waits_of_work());
        let all = waits.len();
        waits.truncate(WAITS_MAX);
        if all > WAITS_MAX {
            waits.push(format!("and {} more", all - WAITS_MAX));
        }
        waits
    }

    pub(super) fn explain(&mut self, asker: Asker, subject: &Subject) {
        let explained = match subject {
            Subject::Extent(extent) => self.explain_extent(*extent).map(|report| json(&report)),
            Subject::Pg(pg) => self.explain_pg(*pg).map(|report| json(&report)),
            Subject::Disk(disk) => self.explain_disk(*disk).map(|report| json(&report)),
            Subject::Node(name) => match self.disk_meant(name) {
                Ok(id) => self.explain_disk(id).map(|report| json(&report)),
                Err(refusal) => return self.refuse(asker, refusal),
            },
        };
        match explained {
            Some(body) => self.reply_with(asker, DaemonReply::Report, body),
            None => self.refuse(asker, Refusal::NotFound),
        }
    }

    fn slot_report(&self, slot: &SlotView, extent: Option<ExtentKey>) -> SlotReport {
        let disk = self.disks.get(&slot.disk);
        SlotReport {
            index: slot.index,
            disk: slot.disk.to_string(),
            domain: disk.map(|disk| disk.row.domain.clone()),
            health: self.opinion(slot.disk).map(|opinion| opinion.state),
            standing: match slot.standing {
                Standing::Level => "level",
                Standing::Behind => "behind",
                Standing::Joining => "joining",
            },
            reachable: slot.reachable,
            missing: slot.missing.as_ref().map(|missing| missing.len()),
            has: extent.and_then(|extent| slot.missing.as_ref().map(|missing| !missing.contains(&extent))),
        }
    }

    fn explain_extent(&self, extent: ExtentKey) -> Option<ExtentReport> {
        let owner = self.owner(extent.pg())?;
        let row = owner.row()?;
        let group = self.groups.get(&extent.pg())?;
        let hash = owner.listed(extent);
        let doomed = self.doomed.contains(extent);
        if hash.is_none() && owner.is_ready() && !doomed {
            return None;
        }
        let slots = owner.slots();
        let lost = super::view::lost_of(&slots, row.members.len(), Some(extent));
        let code = row.code_spec().ok().and_then(|spec| ec_core::Code::new(&spec).ok());
        let margin = code.as_ref().and_then(|code| crate::risk::margin(code, &lost));
        let mut waits = Vec::new();
        if !owner.is_ready() {
            waits.extend(owner.waits());
        }
        waits.extend(self.wait_of_extent(extent));
        waits.extend(self.ownership.wait());
        if self.audits.finding(extent).is_some()
            && let Some(indexes) = self.unbuilt_parity().get(&extent)
        {
            let indexes = indexes.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
            waits.push(format!("the extent's names are to be put again, {}: {indexes}", super::waits::NOT_BUILT));
        }
        Some(ExtentReport {
            schema: SCHEMA,
            extent: extent.to_string(),
            pg: extent.pg().0,
            code: row.code_spec().ok().map(|spec| spec.to_string()),
            hash: hash.map(|hash| hash.to_string()),
            bytes: self.sizes.get(&extent).copied(),
            slots: slots.iter().map(|slot| self.slot_report(slot, Some(extent))).collect(),
            lost: lost.iter().map(ec_core::ShardIndex::get).collect(),
            decodable: margin.is_some(),
            margin,
            needed: group
                .view
                .needs
                .get(&extent)
                .map(|need| need.targets.iter().map(|(index, _)| *index).collect())
                .unwrap_or_default(),
            turn: self.turn_report(extent),
            charges: self.charge_reports(extent),
            repair: self.repairs.running.iter().find(|(_, running)| running.extent == extent).map(|(job, _)| job.0),
            found_wrong: self.audits.finding(extent).map(ToString::to_string),
            doomed,
            waits,
        })
    }

    fn explain_pg(&self, pg: PgId) -> Option<PgReport> {
        let group = self.groups.get(&pg)?;
        let row = group.owner.row();
        Some(PgReport {
            schema: SCHEMA,
            pg: pg.0,
            ready: group.owner.is_ready(),
            state: row.map(|row| format!("{:?}", row.state).to_lowercase()),
            code: row.and_then(|row| row.code_spec().ok()).map(|spec| spec.to_string()),
            crowded: row.is_some_and(|row| row.crowded),
            incarnation: row.map_or(0, |row| row.incarnation),
            seq: row.map_or(0, |row| row.seq),
            epoch: row.map_or(0, |row| row.epoch),
            extents: group.view.extents,
            sum: row.map(|row| row.sum.to_string()),
            entries: row.map_or(0, |row| row.entries.len()),
            slots: group.owner.slots().iter().map(|slot| self.slot_report(slot, None)).collect(),
            full_redundancy: !group.dirty && group.view.full,
            needs: group.view.needs.len(),
            unavailable: group.view.unavailable_count(),
            writable: match group.owner.can_create() {
                Ok(false) => "yes".into(),
                Ok(true) => "with gaps".into(),
                Err(reason) => reason,
            },
            homeless: group.homeless.clone(),
            frozen: group.frozen.clone(),
            waits: group.owner.waits(),
        })
    }

    fn explain_disk(&self, id: DiskId) -> Option<DiskExplained> {
        let disk = self.disks.get(&id)?;
        let in_row = |group: &super::groups::Group| group.owner.row()?.index_held_or_joined(id);
        let groups = self.groups.iter().filter_map(|(pg, group)| Some((pg.0, in_row(group)?))).collect();
        Some(DiskExplained {
            schema: SCHEMA,
            disk: self.disk_report(id, disk),
            intent: self.intent_report(id),
            heard_ms_ago: self.now.since(disk.health.last_heard()).0,
            full: disk.full.is_some(),
            faults: self.fault_reports(disk),
            service: disk.told.service.clone(),
            quarantined: disk.told.quarantined,
            life: disk.lineage.map(|known| known.life.number),
            refused_nodes: self.refused_nodes(Some(id)),
            damaged_extents: self
                .damaged
                .iter()
                .filter(|(of, _)| *of == id)
                .map(|(_, extent)| extent.to_string())
                .collect(),
            index_by_pg: groups,
        })
    }
}

/// One disk of one index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct SlotReport {
    index: u16,
    disk: String,
    domain: Option<String>,
    health: Option<Health>,
    standing: &'static str,
    reachable: bool,
    /// Extents it lacks; none where that is not known.
    missing: Option<usize>,
    /// Whether it has the extent asked about; none where that is not known.
    has: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
struct ExtentReport {
    schema: u32,
    extent: String,
    pg: u32,
    code: Option<String>,
    hash: Option<String>,
    bytes: Option<u64>,
    slots: Vec<SlotReport>,
    lost: Vec<u16>,
    decodable: bool,
    margin: Option<usize>,
    needed: Vec<u16>,
    /// What decides when it is rebuilt.
    turn: Option<TurnReport>,
    /// What its repair under way was admitted with.
    charges: Vec<ChargeReport>,
    repair: Option<u64>,
    /// What an audit found.
    found_wrong: Option<String>,
    doomed: bool,
    waits: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct PgReport {
    schema: u32,
    pg: u32,
    ready: bool,
    state: Option<String>,
    code: Option<String>,
    crowded: bool,
    incarnation: u32,
    seq: u64,
    epoch: u64,
    extents: u64,
    sum: Option<String>,
    entries: usize,
    slots: Vec<SlotReport>,
    full_redundancy: bool,
    needs: usize,
    unavailable: u64,
    writable: String,
    homeless: BTreeMap<u16, String>,
    frozen: Option<String>,
    waits: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct DiskExplained {
    schema: u32,
    disk: DiskReport,
    /// What an operator wants of it, and how far that is.
    intent: super::drain::IntentReport,
    heard_ms_ago: u64,
    full: bool,
    faults: Vec<FaultReport>,
    /// How fast its store is, as last told.
    service: Vec<ServiceTime>,
    /// Files put into quarantine since its node was started and not removed since.
    quarantined: u64,
    /// The number of the disk's life; none where its node is of an earlier program.
    life: Option<u64>,
    refused_nodes: Vec<RefusedReport>,
    damaged_extents: Vec<String>,
    index_by_pg: BTreeMap<u32, u16>,
}
