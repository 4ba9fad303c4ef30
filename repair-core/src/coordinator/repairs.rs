//! Repairs: begun when their turn has come ([`super::turns`]), under way, ended, counted.

use super::agenda::Wait;
use super::backoff::Backoff;
use super::groups::Group;
use super::view::NeedView;
use super::{Coordinator, CoordinatorEffect, JobId, Timer};
use crate::budget::{Charges, Scope};
use crate::forecast::Forecast;
use crate::health::Health;
use crate::id::{AttemptId, DiskId, ExtentKey, PgId};
use crate::pg::{PgEvent, SlotView};
use crate::repair::{RepairOutcome, RepairSpec};
use crate::time::{Millis, Time};
use crate::wire::node::{FragmentKey, Place};
use std::collections::{BTreeMap, BTreeSet};

/// Attempts of repairs are numbered from here, those of an owner's grants from 0.
const ATTEMPTS_FROM: u64 = 1 << 63;
/// Fragments of the service are of this generation until conversion exists.
pub(super) const GENERATION: u64 = 1;

/// A repair under way.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) extent: ExtentKey,
    /// Index and disk.
    pub(super) targets: BTreeMap<u16, DiskId>,
    pub(super) margin: usize,
    pub(super) began: Time,
    pub(super) written_bytes: u64,
    /// What it was admitted with, and what it was thought to write then.
    pub(super) charges: Charges,
    pub(super) thought_bytes: u64,
    pub(super) since: Time,
    pub(super) turn_from: Time,
    pub(super) margin_in_domains: Option<usize>,
    pub(super) blocked_reads: u32,
    pub(super) is_copy: bool,
}

/// What repairs have done so far, in this life of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) rebuilt_bytes: u64,
    pub(super) read_bytes: u64,
    pub(super) minimum_read_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) chained_bytes: u64,
    pub(super) resumed_bytes: u64,
    pub(super) chains_broken: u64,
}

/// Repairs: under way, put off, counted.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    pub(super) running: BTreeMap<JobId, Running>,
    pub(super) backoff: BTreeMap<ExtentKey, Backoff>,
    pub(super) totals: Totals,
    /// Set while, without a pause, something is to be done.
    pub(super) campaign: Option<Campaign>,
    /// Since when nothing is, but what is put off after a failure.
    quiet_since: Option<Time>,
    /// Whether an operator had repairs wait when it was last looked whose turn it is.
    pub(super) were_paused: bool,
    /// Disks that repairs have used since they told their times last.
    pub(super) used: BTreeSet<DiskId>,
}

/// What has been moved since something is to be done.
#[derive(Clone, Debug)]
pub(super) struct Campaign {
    /// What all repairs had moved when it began.
    moved_before: u64,
    pub(super) forecast: Forecast,
}

impl Repairs {
    /// Payload of fragments that were published, and what repairs under way have of theirs. What a try that fails had is not: all of
    /// it is still to be done, though the next may go on with it.
    pub(super) fn moved_bytes(&self) -> u64 {
        self.totals.rebuilt_bytes + self.running.values().map(|running| running.written_bytes).sum::<u64>()
    }

    fn note_moved(&mut self, now: Time) {
        let moved = self.moved_bytes();
        if let Some(campaign) = &mut self.campaign {
            campaign.forecast.moved(now, moved.saturating_sub(campaign.moved_before));
        }
    }
}

/// How long a repair waits, at most, so that more losses of the same extents can be rebuilt in one reading. Also where the next
/// loss would be one too many: disks that fail together are known to be lost one after the other, and seconds are little beside
/// the silence that came before.
pub(super) const GATHER: Millis = Millis(5_000);

/// What one repair builds.
pub(super) struct Build {
    targets: BTreeMap<u16, Place>,
    /// Disks that have the only target as it is on record, where that is parity known to be wrong: no other bytes give its root.
    copies: Option<Vec<Place>>,
}

impl Coordinator {
    /// Begins repairs while there is room for more.
    pub(super) fn run_repairs(&mut self) {
        if self.is_ending() || !self.may_begin() {
            return;
        }
        self.end_campaign();
        self.begin_repairs();
        self.end_campaign();
        if self.repairs.campaign.is_none() && !self.repairs.running.is_empty() {
            let (forecast, moved_before) = (Forecast::begin(self.now), self.repairs.moved_bytes());
            self.repairs.campaign = Some(Campaign { moved_before, forecast });
        }
        if let Some(at) = self.agenda.next() {
            self.at(at.max(self.now + Millis(1)), Timer::Repairs);
        }
    }

    /// A pause ends a campaign: the pace of what comes later does not follow from it. Where all that is left has failed and waits for
    /// its next try, a moment may pass; it may be tried for ever.
    fn end_campaign(&mut self) {
        // A group not looked at since something changed may need anything.
        let is_quiet = self.repairs.running.is_empty() && !self.agenda.is_active() && !self.any_dirty();
        let since = *self.repairs.quiet_since.get_or_insert(self.now);
        if !is_quiet {
            self.repairs.quiet_since = None;
        } else if self.agenda.waiting_for(&Wait::PutOff) == 0 || since + GATHER <= self.now {
            self.repairs.campaign = None;
        }
    }

    pub(super) fn repair_moved(&mut self, job: JobId, written_bytes: u64) {
        if let Some(running) = self.repairs.running.get_mut(&job) {
            running.written_bytes = running.written_bytes.max(written_bytes);
        }
        self.repairs.note_moved(self.now);
    }

    /// What the next repair of an extent builds; none where nothing can be built now. Parity known to be wrong is built by
    /// itself, as a copy: computed from the data it would have another root than the one on record. The rest comes first, unless
    /// it has just failed: neither is to wait for the other for ever.
    pub(super) fn build(&self, slots: &[SlotView], extent: ExtentKey, need: &NeedView) -> Option<Build> {
        let mut targets = BTreeMap::new();
        let mut copy = None;
        for (index, disk) in &need.targets {
            let Some(place) = self.place(*disk).filter(|_| self.is_healthy(*disk)) else { continue };
            if !self.audits.is_wrong_parity(extent, usize::from(*index)) {
                // Two disks may need one index, an old member and its successor: one after the other.
                targets.entry(*index).or_insert(place);
                continue;
            }
            let copies = self.copies(slots, extent, usize::from(*index));
            if copy.is_none() && !copies.is_empty() {
                copy = Some(Build { targets: BTreeMap::from([(*index, place)]), copies: Some(copies) });
            }
        }
        let has_failed = self.repairs.backoff.get(&extent).is_some_and(|backoff| !backoff.was_copy);
        match copy {
            Some(copy) if targets.is_empty() || has_failed => Some(copy),
            _ => (!targets.is_empty()).then_some(Build { targets, copies: None }),
        }
    }

    /// Extents that lack parity known to be wrong of which no disk has a copy, with its indexes: it is not built any more.
    pub(super) fn unbuilt_parity(&self) -> BTreeMap<ExtentKey, Vec<u16>> {
        let mut slots_by_pg: BTreeMap<PgId, Vec<SlotView>> = BTreeMap::new();
        let mut unbuilt = BTreeMap::new();
        for extent in self.audits.parked().keys() {
            let Some(group) = self.groups.get(&extent.pg()) else { continue };
            let Some(need) = group.view.needs.get(extent) else { continue };
            let slots = slots_by_pg.entry(extent.pg()).or_insert_with(|| group.owner.slots());
            let indexes = self.unbuilt_of(slots, *extent, need);
            if !indexes.is_empty() {
                unbuilt.insert(*extent, indexes);
            }
        }
        unbuilt
    }

    fn unbuilt_of(&self, slots: &[SlotView], extent: ExtentKey, need: &NeedView) -> Vec<u16> {
        let is_unbuilt = |index: &u16| {
            let at = usize::from(*index);
            self.audits.is_wrong_parity(extent, at) && self.copies(slots, extent, at).is_empty()
        };
        let mut indexes: Vec<u16> = need.targets.iter().map(|(index, _)| *index).filter(is_unbuilt).collect();
        indexes.dedup();
        indexes
    }

    /// Whether more of a group's disks will need the same extents in a moment: take-overs that have begun or are about to, and
    /// disks that are just being counted.
    pub(super) fn is_gathering(&self, group: &Group) -> bool {
        let Some(row) = group.owner.row() else { return false };
        let healthy = |disk: &DiskId| self.disks.get(disk).is_some_and(|known| known.health.is_healthy());
        let soon_lost = |disk: &DiskId| {
            self.disks.get(disk).is_some_and(|known| match known.health.state() {
                Health::Suspect | Health::Down => self.is_lost_before(*disk, self.now + GATHER),
                Health::Lost => true,
                _ => false,
            })
        };
        let to_be_replaced = |(index, disk): (u16, &DiskId)| {
            !row.joining.contains_key(&index) && !group.homeless.contains_key(&index) && soon_lost(disk)
        };
        !group.asked.is_empty()
            || group.view.uncounted.iter().any(healthy)
            || row.joining.values().any(|disk| healthy(disk) && group.view.unreachable.contains(disk))
            || (0u16..).zip(&row.members).any(to_be_replaced)
    }

    /// Begins a repair whose charges are taken.
    pub(super) fn begin_repair(&mut self, mut spec: RepairSpec, is_copy: bool, charges: Charges) {
        let (extent, job) = (spec.extent, JobId(self.number()));
        spec.attempt.number = ATTEMPTS_FROM | job.0;
        let Some(need) = self.groups.get(&extent.pg()).and_then(|group| group.view.needs.get(&extent)).cloned() else {
            return;
        };
        let margin = need.margin.unwrap_or(0);
        let targets: BTreeMap<u16, DiskId> = spec.targets.iter().map(|(index, place)| (*index, place.disk)).collect();
        let lost: Vec<String> = targets.keys().map(u16::to_string).collect();
        let text = format!(
            "rebuilding {} of extent {extent}; {margin} further losses can be survived",
            if lost.len() == 1 { format!("fragment {}", lost[0]) } else { format!("fragments {}", lost.join(", ")) }
        );
        let fields = vec![("extent", extent.to_string()), ("lost", lost.join(",")), ("margin", margin.to_string())];
        let thought_bytes = self.risk_of(extent).map_or(0, |risk| risk.bytes);
        let (began, since, blocked_reads) = (self.now, need.since, need.blocked_reads);
        self.repairs.used.extend(charges.keys().filter_map(|resource| match resource.scope {
            Scope::Disk(disk) => Some(disk),
            Scope::Node(_) | Scope::Rack(_) => None,
        }));
        let running = Running {
            extent,
            targets,
            margin,
            began,
            written_bytes: 0,
            charges,
            thought_bytes,
            since,
            turn_from: need.turn_from,
            margin_in_domains: need.margin_in_domains,
            blocked_reads,
            is_copy,
        };
        self.repairs.running.insert(job, running);
        self.note("repair_started", text, fields);
        self.effects.push_back(CoordinatorEffect::Repair { job, spec: Box::new(spec) });
    }

    /// A repair, and whether it is only to copy.
    pub(super) fn repair_spec(&self, extent: ExtentKey, job: JobId) -> Option<(RepairSpec, bool)> {
        let group = self.groups.get(&extent.pg())?;
        let need = group.view.needs.get(&extent)?;
        let hash = group.owner.listed(extent)?;
        let authority = group.owner.authority()?;
        let mut slots = group.owner.slots();
        let Build { targets, copies } = self.build(&slots, extent, need)?;
        slots.retain(|slot| slot.reachable);
        let is_copy = copies.is_some();
        let mut sources: BTreeMap<u16, Vec<Place>> = BTreeMap::new();
        for index in (0u16..).take(authority.row.members.len()) {
            let target = targets.get(&index);
            let mut places = match &copies {
                None => self.sources(&slots, extent, usize::from(index)),
                // Nothing is read in vain where no disk gives the copy.
                Some(copies) => target.map(|_| copies.clone()).unwrap_or_default(),
            };
            let is_source = |place: &Place, to: &Place| {
                to.disk != place.disk && (is_copy || !self.is_better_rebuilt(extent, place.disk))
            };
            places.retain(|place| target.is_none_or(|target| is_source(place, target)));
            if !places.is_empty() {
                sources.insert(index, places);
            }
        }
        let attempt = AttemptId { claim: self.claim, number: ATTEMPTS_FROM | job.0 };
        let chain = self.config.repair_chain;
        Some((RepairSpec { extent, hash, attempt, authority, sources, targets, chain }, is_copy))
    }

    pub(super) fn forget_need(&mut self, extent: ExtentKey) {
        if let Some(group) = self.groups.get_mut(&extent.pg()) {
            group.view.needs.remove(&extent);
        }
        self.agenda.remove(self.now, extent);
    }

    pub(super) fn repair_done(&mut self, job: JobId, outcome: RepairOutcome) {
        let Some(running) = self.repairs.running.remove(&job) else { return };
        let (extent, pg) = (running.extent, running.extent.pg());
        let totals = &mut self.repairs.totals;
        totals.read_bytes += outcome.read_bytes;
        totals.minimum_read_bytes += outcome.minimum_read_bytes;
        totals.written_bytes += outcome.written_bytes;
        totals.chained_bytes += outcome.chained_bytes;
        totals.resumed_bytes += outcome.resumed_bytes;
        totals.chains_broken += u64::from(outcome.chain_fault.is_some());
        totals.rebuilt_bytes += outcome.rebuilt_bytes;
        self.repairs.note_moved(self.now);
        self.settle_charges(&running.charges, outcome.read_bytes, outcome.written_bytes);
        for suspect in &outcome.suspects {
            let fragment = FragmentKey { extent, generation: GENERATION, index: suspect.index };
            self.check(suspect.place.disk, fragment);
        }
        let published: Vec<(u16, DiskId)> =
            outcome.published.iter().filter_map(|index| Some((*index, *running.targets.get(index)?))).collect();
        for (index, disk) in &published {
            self.inbox.push_back((pg, PgEvent::Restored { disk: *disk, extent }));
            self.fragment_healed(*disk, extent, *index);
            self.target_answered(*disk, pg, true);
        }
        for (index, reason) in &outcome.failed {
            let Some(disk) = running.targets.get(index).copied() else { continue };
            let full = reason.contains("no space");
            if full {
                self.disk_is_full(disk, pg);
            }
            if full || reason.contains("store failed") {
                self.target_answered(disk, pg, false);
            }
        }
        if published.len() == running.targets.len() {
            self.repair_succeeded(&running, &outcome);
        } else {
            self.repair_failed(&running, &outcome);
        }
        // Not begun again on what was true before it: the owner answers first.
        self.forget_need(extent);
        self.mark_dirty(pg);
    }

    fn repair_succeeded(&mut self, running: &Running, outcome: &RepairOutcome) {
        let extent = running.extent;
        self.repairs.totals.done += 1;
        self.repairs.backoff.remove(&extent);
        let took = self.now.since(running.began).0;
        let resumed = match outcome.resumed_bytes {
            0 => String::new(),
            bytes => format!(" and {bytes} staged before"),
        };
        let text = format!(
            "extent {extent} has {} fragments again: {} bytes rebuilt from {} read (the least is {}){resumed} in {took} ms",
            outcome.published.len(),
            outcome.rebuilt_bytes,
            outcome.read_bytes,
            outcome.minimum_read_bytes
        );
        let mut fields = vec![
            ("extent", extent.to_string()),
            ("rebuilt_bytes", outcome.rebuilt_bytes.to_string()),
            ("read_bytes", outcome.read_bytes.to_string()),
            ("minimum_read_bytes", outcome.minimum_read_bytes.to_string()),
            ("written_bytes", outcome.written_bytes.to_string()),
            ("took_ms", took.to_string()),
            ("chained_bytes", outcome.chained_bytes.to_string()),
            ("resumed_bytes", outcome.resumed_bytes.to_string()),
        ];
        fields.extend(outcome.chain_fault.clone().map(|fault| ("chain_fault", fault)));
        self.note("repair_done", text, fields);
    }

    fn repair_failed(&mut self, running: &Running, outcome: &RepairOutcome) {
        let extent = running.extent;
        self.repairs.totals.failed += 1;
        let reasons: Vec<String> = outcome
            .failed
            .iter()
            .take(4)
            .map(|(index, reason)| format!("fragment {index}: {}", reason.chars().take(200).collect::<String>()))
            .collect();
        let reason = if reasons.is_empty() { "it ended without a reason".to_owned() } else { reasons.join("; ") };
        let before = self.repairs.backoff.remove(&extent);
        let backoff = Backoff::after(before, self.now, running, reason.clone());
        let fields = vec![("extent", extent.to_string()), ("reason", reason.clone())];
        let next = format!("next try in {} ms", backoff.until.since(self.now).0);
        self.note("repair_failed", format!("extent {extent} was not rebuilt whole, {next}: {reason}"), fields.clone());
        if backoff.is_parked() {
            let text = format!("extent {extent} is parked until something of its placement group changes: {reason}");
            self.note("repair_parked", text, fields);
        }
        self.repairs.backoff.insert(extent, backoff);
    }

    /// A disk had no room for a fragment: others are chosen until it has.
    fn disk_is_full(&mut self, disk: DiskId, pg: PgId) {
        let now = self.now;
        if let Some(known) = self.disks.get_mut(&disk) {
            known.full = Some((now, known.free_bytes));
        }
        self.refresh_at_once(pg);
    }
}
