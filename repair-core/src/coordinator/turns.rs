//! Whose turn it is to be rebuilt, and what the others wait for. The order is that of [`crate::queue`], what may be moved that of
//! [`crate::budget`]; here they meet what the groups need.

use super::agenda::{Held, Wait};
use super::groups::Group;
use super::repairs::GATHER;
use super::view::NeedView;
use super::{Coordinator, JobId, Timer};
use crate::budget::{Charges, Resource, SHARE_PARTS, Scope, Side};
use crate::id::{DiskId, ExtentKey, PgId};
use crate::queue::{Risk, URGENT_MARGIN};
use crate::repair::RepairSpec;
use crate::risk::shard_set;
use crate::time::{Millis, Time};
use ec_core::{Geometry, ShardIndex};
use std::collections::BTreeMap;

/// What nobody can be given now is looked at again when its group is; and so soon, should that not be all it depends on.
const NO_TARGET: Millis = Millis(60_000);
/// Jobs that wake in one turn; the others do in the next, a millisecond later.
const WAKES_MAX: usize = 4_096;
/// Jobs looked at in one turn. Where a budget is short all that need it are looked at once before they wait for it.
const LOOKS_MAX: usize = 512;

/// What an extent's repair writes; a guess where the extent's length is not known to this life of the daemon.
fn shard_bytes(group: &Group, sizes: &BTreeMap<ExtentKey, u64>, guess: u64, extent: ExtentKey) -> u64 {
    let k = group.owner.row().and_then(|row| row.code_spec().ok()).map_or(1, |spec| spec.k());
    Geometry::new(sizes.get(&extent).copied().unwrap_or(guess), k).shard_bytes()
}

/// What is at risk as things are; none where nothing is needed, or nothing can be made from what is left.
fn risk_of(
    groups: &BTreeMap<PgId, Group>,
    sizes: &BTreeMap<ExtentKey, u64>,
    guess: u64,
    extent: ExtentKey,
) -> Option<Risk> {
    let group = groups.get(&extent.pg())?;
    let need = group.view.needs.get(&extent)?;
    need.margin?;
    Some(Risk {
        margin: need.margin_in_domains?,
        is_move: need.lost.is_empty(),
        since: need.turn_from,
        blocked_reads: need.blocked_reads,
        bytes: shard_bytes(group, sizes, guess, extent) * need.targets.len() as u64,
    })
}

impl Coordinator {
    pub(super) fn risk_of(&self, extent: ExtentKey) -> Option<Risk> {
        risk_of(&self.groups, &self.sizes, self.config.extent_bytes, extent)
    }

    /// A group was looked over: what it needs has its place, what it needs no more has none.
    pub(super) fn queue_needs(&mut self, pg: PgId) {
        let Some(any) = self.cell().map(|cell| ExtentKey::compose(cell.cell, pg, 0, 0)) else { return };
        let Some(group) = self.groups.get_mut(&pg) else { return };
        let mut sooner = Vec::new();
        for (extent, backoff) in self.repairs.backoff.iter_mut().filter(|(extent, _)| extent.pg() == pg) {
            // A repair that failed has not taken the extent out of danger.
            if let Some(need) = group.view.needs.get_mut(extent) {
                (need.since, need.rests_from) = (need.since.min(backoff.since), need.since.min(backoff.since));
                need.turn_from = need.turn_from.min(backoff.turn_from);
                need.blocked_reads = need.blocked_reads.max(backoff.blocked_reads);
            }
            if let (Some(row), Some(need)) = (group.owner.row(), group.view.needs.get(extent)) {
                sooner.extend(backoff.judge(self.now, row, &group.view, need).then_some(*extent));
            }
        }
        let needs: Vec<ExtentKey> = group.view.needs.keys().copied().collect();
        for extent in self.agenda.of_group(any) {
            if needs.binary_search(&extent).is_err() {
                self.agenda.remove(self.now, extent);
            }
        }
        let running: Vec<ExtentKey> =
            self.repairs.running.values().map(|running| running.extent).filter(|extent| extent.pg() == pg).collect();
        self.end_lazy_waits(pg);
        for extent in needs.into_iter().filter(|extent| !running.contains(extent)) {
            match self.risk_of(extent) {
                Some(risk) if sooner.contains(&extent) => self.agenda.hasten(extent, &risk),
                Some(risk) => self.agenda.renew(extent, &risk),
                None => self.agenda.remove(self.now, extent),
            }
        }
    }

    /// What was let wait and has lost more: losses come together, and one reading is to rebuild them all.
    fn end_lazy_waits(&mut self, pg: PgId) {
        let Some(group) = self.groups.get(&pg) else { return };
        let was_lazy = |extent: &ExtentKey| self.agenda.wait_of(*extent).is_some_and(|later| later.wait == Wait::Lazy);
        let ends =
            |(extent, need): &(&ExtentKey, &NeedView)| was_lazy(extent) && self.lazy_until(group, need).is_none();
        let ended: Vec<ExtentKey> = group.view.needs.iter().filter(ends).map(|(extent, _)| *extent).collect();
        if let Some(group) = self.groups.get_mut(&pg) {
            for extent in ended {
                let now = self.now;
                group.view.needs.entry(extent).and_modify(|need| (need.rests_from, need.turn_from) = (now, now));
            }
        }
    }

    /// Begins repairs while there is room for more.
    pub(super) fn begin_repairs(&mut self) {
        let is_paused = self.intents.paused_above().is_some();
        if std::mem::replace(&mut self.repairs.were_paused, is_paused) && !is_paused {
            self.agenda.resume();
        }
        let mut most = WAKES_MAX;
        let (groups, sizes, guess) = (&self.groups, &self.sizes, self.config.extent_bytes);
        self.agenda.wake(self.now, &mut most, |extent| risk_of(groups, sizes, guess, extent));
        for _ in 0..LOOKS_MAX {
            if self.repairs.running.len() >= self.config.repairs_max {
                return;
            }
            let (groups, sizes) = (&self.groups, &self.sizes);
            let Some((extent, risk)) = self.agenda.pop(self.now, |extent| risk_of(groups, sizes, guess, extent)) else {
                return;
            };
            match self.begin_or_wait(extent, &risk) {
                Ok(()) => self.agenda.resolved(self.now, extent),
                Err(held) => self.agenda.put_later(self.now, extent, &risk, held),
            }
            let (groups, sizes) = (&self.groups, &self.sizes);
            self.agenda.wake(self.now, &mut most, |extent| risk_of(groups, sizes, guess, extent));
        }
        self.after(Millis(1), Timer::Repairs);
    }

    fn begin_or_wait(&mut self, extent: ExtentKey, risk: &Risk) -> Result<(), Held> {
        if let Some((wait, until)) = self.wait_before_budgets(extent) {
            if wait == Wait::Lazy {
                // It was not its turn that it waited for, and it is not to come before those that did.
                self.waits_from(extent, until);
            }
            return Err(Held::new(wait, until));
        }
        let Some((spec, is_copy)) = self.repair_spec(extent, JobId(0)) else {
            // Deleted, or not ours any more, since the last look.
            self.forget_need(extent);
            self.mark_dirty(extent.pg());
            return Ok(());
        };
        let charges = self.charges(&spec);
        match self.agenda.admit(self.now, &mut self.budgets, extent, risk, &charges) {
            Ok(()) => {
                self.begin_repair(spec, is_copy, charges);
                Ok(())
            }
            Err(blocked) => Err(Held::short(blocked, charges)),
        }
    }

    fn waits_from(&mut self, extent: ExtentKey, from: Time) {
        let group = self.groups.get_mut(&extent.pg());
        if let Some(need) = group.and_then(|group| group.view.needs.get_mut(&extent)) {
            need.turn_from = from;
        }
    }

    /// What an extent waits for besides its turn and budgets, and until when.
    fn wait_before_budgets(&self, extent: ExtentKey) -> Option<(Wait, Time)> {
        let no_target = Some((Wait::NoTarget, self.now + NO_TARGET));
        let Some(group) = self.groups.get(&extent.pg()) else { return no_target };
        let Some(need) = group.view.needs.get(&extent) else { return no_target };
        if let Some(backoff) = self.repairs.backoff.get(&extent).filter(|backoff| backoff.until > self.now) {
            return Some((if backoff.is_parked() { Wait::Parked } else { Wait::PutOff }, backoff.until));
        }
        if self.is_paused(need) {
            return Some((Wait::Paused, self.now));
        }
        if self.rests(need) && self.is_gathering(group) {
            return Some((Wait::Gathering, need.rests_from + GATHER));
        }
        if let Some(until) = self.lazy_until(group, need) {
            return Some((Wait::Lazy, until));
        }
        if !group.owner.is_ready() || !self.can_be_built(group, extent, need) {
            return no_target;
        }
        None
    }

    /// Whether an operator has it wait: all that has lost nothing, and what survives enough.
    pub(super) fn is_paused(&self, need: &NeedView) -> bool {
        let is_held = |margin| self.intents.pauses(margin) || need.lost.is_empty();
        self.intents.paused_above().is_some() && need.margin_in_domains.is_some_and(is_held)
    }

    fn can_be_built(&self, group: &Group, extent: ExtentKey, need: &NeedView) -> bool {
        match self.audits.finding(extent) {
            None => need.targets.iter().any(|(_, disk)| self.is_healthy(*disk)),
            Some(_) => self.build(&group.owner.slots(), extent, need).is_some(),
        }
    }

    /// Until when it is let wait for further losses of the same extent. Never what could lose only one domain more, nor what is read.
    fn lazy_until(&self, group: &Group, need: &NeedView) -> Option<Time> {
        let code = group.owner.row()?.code_spec().ok()?;
        let (_, eager) = self.config.lazy_margins.iter().find(|(spec, _)| *spec == code)?;
        let margin = need.margin_in_domains?;
        let may_wait = margin > (*eager).max(URGENT_MARGIN) && need.blocked_reads == 0 && !need.lost.is_empty();
        Some(need.since + self.config.lazy_wait).filter(|until| may_wait && *until > self.now)
    }

    /// What a repair takes from each disk, node and rack: known from its sources and targets before its first byte moves.
    fn charges(&mut self, spec: &RepairSpec) -> Charges {
        let mut charges = Charges::new();
        let Some(group) = self.groups.get(&spec.extent.pg()) else { return charges };
        let Some(row) = group.owner.row() else { return charges };
        let bytes = shard_bytes(group, &self.sizes, self.config.extent_bytes, spec.extent);
        let (targets, available) = (shard_set(spec.targets.keys().copied()), shard_set(spec.sources.keys().copied()));
        let reads = self.risk.reads(&row.code, &targets, &available.complement(row.members.len()));
        let likeliest = |index: ShardIndex| spec.sources.get(&index.get())?.first();
        let sources = reads.iter().filter_map(likeliest).map(|place| (place.disk, Side::Source));
        let all: Vec<(DiskId, Side)> =
            sources.chain(spec.targets.values().map(|place| (place.disk, Side::Target))).collect();
        for (disk, side) in all {
            let domain = self.disks.get(&disk).and_then(|known| known.domain.as_ref());
            let node = domain.map(|domain| Scope::Node(domain.to_string().into()));
            let rack = domain.map(|domain| Scope::Rack(domain.at(crate::topology::Level::Rack).into()));
            for scope in [Some(Scope::Disk(disk)), node, rack].into_iter().flatten() {
                *charges.entry(Resource { scope, side }).or_default() += bytes;
            }
        }
        charges
    }

    /// Gives budgets back what a repair was thought to move and did not: sources what was not read, targets what was not written.
    pub(super) fn settle_charges(&mut self, charges: &Charges, read_bytes: u64, written_bytes: u64) {
        let thought = |side| -> u64 {
            let of_side = charges.iter().filter(|(of, _)| of.side == side && matches!(of.scope, Scope::Disk(_)));
            of_side.map(|(_, bytes)| bytes).sum()
        };
        for (side, moved) in [(Side::Source, read_bytes), (Side::Target, written_bytes)] {
            let thought = thought(side);
            for (resource, bytes) in charges.iter().filter(|(of, _)| of.side == side && moved < thought) {
                let moved = u128::from(*bytes) * u128::from(moved) / u128::from(thought.max(1));
                let back = bytes.saturating_sub(u64::try_from(moved).unwrap_or(u64::MAX));
                self.budgets.refund(self.now, resource, back);
                self.agenda.budget_changed(self.now, resource);
            }
        }
        self.budgets.tidy(self.now);
    }

    /// A disk told how long its operations take: repair goes on there as fast as others do not feel it.
    pub(super) fn judge_pace(&mut self, disk: DiskId) {
        let Some(known) = self.disks.get(&disk) else { return };
        let of_disk = [Side::Source, Side::Target].map(|side| Resource { scope: Scope::Disk(disk), side });
        let is_used = |charges: &Charges| of_disk.iter().any(|resource| charges.contains_key(resource));
        let runs = self.repairs.running.values().any(|running| is_used(&running.charges));
        let ran = !runs && self.repairs.used.remove(&disk);
        let before = self.budgets.share(disk);
        let Some(judged) = self.pace.tell(self.now, disk, &known.told.service, runs || ran) else { return };
        if judged.share == before {
            return;
        }
        self.budgets.set_share(self.now, disk, judged.share);
        of_disk.iter().for_each(|resource| self.agenda.budget_changed(self.now, resource));
        if judged.is_felt && before == SHARE_PARTS {
            let text =
                format!("repair goes on slower with {}: what others do there takes longer by it", self.who(disk));
            self.note("repair_yields", text, vec![("disk", disk.to_string())]);
        }
    }

    /// Another process serves a disk: what was told of how long its operations take is not of this one.
    pub(super) fn forget_pace(&mut self, disk: DiskId) {
        self.pace.forget(disk);
        self.budgets.set_share(self.now, disk, SHARE_PARTS);
        for side in [Side::Source, Side::Target] {
            self.agenda.budget_changed(self.now, &Resource { scope: Scope::Disk(disk), side });
        }
    }

    /// Somebody reads an extent that has to be decoded, or cannot be read: it is rebuilt before its like, and not put off.
    pub(super) fn count_blocked_read(&mut self, extent: ExtentKey) {
        let Some(group) = self.groups.get_mut(&extent.pg()) else { return };
        let k = group.owner.row().and_then(|row| row.code_spec().ok()).map_or(0, |spec| spec.k());
        let Some(need) = group.view.needs.get_mut(&extent) else { return };
        if need.lost.iter().all(|index| index.at() >= k) {
            return;
        }
        need.blocked_reads = need.blocked_reads.saturating_add(1);
        let is_lazy = self.agenda.wait_of(extent).is_some_and(|later| later.wait == Wait::Lazy);
        if is_lazy {
            self.waits_from(extent, self.now);
        }
        if is_lazy || self.agenda.is_ready(extent) {
            let risk = self.risk_of(extent);
            risk.iter().for_each(|risk| self.agenda.hasten(extent, risk));
        } else if self.agenda.wait_of(extent).is_some() {
            let risk = self.risk_of(extent);
            risk.iter().for_each(|risk| self.agenda.renew(extent, risk));
        }
    }

    /// Extents that could be rebuilt and rest, because more of the same may be lost in a moment.
    pub(super) fn resting(&self) -> usize {
        self.agenda.waiting_for(&Wait::Gathering)
    }

    /// Whether a need of a group that gathers waits.
    fn rests(&self, need: &NeedView) -> bool {
        need.rests_from + GATHER > self.now
    }

    /// Whether anything is being rebuilt, or could be, now or after a short rest.
    pub(super) fn could_repair(&self) -> bool {
        let waits = self.agenda.ready_count() > 0 || self.agenda.has_shortage() || self.resting() > 0;
        !self.repairs.running.is_empty() || waits
    }
}
