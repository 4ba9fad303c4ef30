//! Take-overs: a lost disk's index gets a new disk.

use super::{Coordinator, Timer};
use crate::catalog::PgState;
use crate::id::{DiskId, PgId};
use crate::pg::{PgEvent, SlotView};
use crate::placement::{self, Candidate};
use crate::time::{Millis, Time};
use std::collections::BTreeSet;

/// How long an owner may take to write a take-over down before it is asked again.
const ASK_AGAIN: Millis = Millis(5_000);
/// How long a disk that had no room for a fragment is not chosen again, unless it has more room by then.
const FULL_FOR: Millis = Millis(60_000);
const ROOM_REGAINED_BYTES: u64 = 64 << 20;
/// A disk whose store refused so many repairs of a group in a row takes none.
const REFUSALS_MAX: u32 = 3;
/// How long it is not chosen for that group then. A member that refuses stays one to be replaced until it takes a fragment or is
/// started anew.
const REFUSED_FOR: Millis = Millis(600_000);

impl Coordinator {
    /// Healthy disks with their fault domains and how many indexes each holds, without those that are full.
    pub(super) fn candidates(&self) -> Vec<Candidate<'_>> {
        self.candidates_that(|id| self.may_be_given(id))
    }

    fn candidates_that(&self, may_be_given: impl Fn(DiskId) -> bool) -> Vec<Candidate<'_>> {
        let full = |disk: &super::disks::Disk| {
            disk.room() == Some(0)
                || disk.full.is_some_and(|(since, free)| {
                    since + FULL_FOR > self.now && disk.free_bytes < free.saturating_add(ROOM_REGAINED_BYTES)
                })
        };
        self.disks
            .iter()
            .filter(|(id, disk)| disk.health.is_healthy() && !full(disk) && may_be_given(**id))
            .filter_map(|(id, disk)| {
                let domain = disk.domain.as_ref()?.at(self.config.fault_domain);
                Some(Candidate { disk: *id, domain, slots: self.slots_of(*id) })
            })
            .collect()
    }

    /// As [`Coordinator::candidates`], without those that limp if the others will do.
    pub(super) fn well_candidates(&self, will_do: impl Fn(&[Candidate<'_>]) -> bool) -> Vec<Candidate<'_>> {
        let all = self.candidates();
        let well: Vec<Candidate<'_>> = all.iter().filter(|one| !self.limping.limps(one.disk)).copied().collect();
        if well.len() < all.len() && will_do(&well) { well } else { all }
    }

    pub(super) fn is_lost(&self, disk: DiskId) -> bool {
        self.disks.get(&disk).is_none_or(|known| known.health.is_lost())
    }

    /// Whether a member's index is to be taken over.
    fn is_to_leave(&self, member: DiskId, pg: PgId) -> bool {
        self.is_lost(member)
            || self.refuses(member, pg)
            || self.leaves(member)
            || self.cannot_be_waited_for(member, pg)
            || self.is_away_too_long(member, pg)
    }

    pub(super) fn is_healthy(&self, disk: DiskId) -> bool {
        self.disks.get(&disk).is_some_and(|known| known.health.is_healthy())
    }

    /// Begins and gives up take-overs as health asks for it.
    pub(super) fn plan_joins(&mut self, pg: PgId) {
        let Some(group) = self.groups.get(&pg) else { return };
        let Some(row) = group.owner.row().filter(|row| group.owner.is_ready() && row.state != PgState::Frozen) else {
            return;
        };
        let row = row.clone();
        let slots = group.owner.slots();
        let whole: BTreeSet<DiskId> =
            slots.iter().filter(|slot| is_counted_whole(slot)).map(|slot| slot.disk).collect();
        self.judge_crowding(pg, &row);
        for (index, joining) in &row.joining {
            let member = row.members.get(usize::from(*index)).copied();
            // Not before it was counted since: what its successor has already may be what it lost while it was away.
            let is_back = member.is_some_and(|member| {
                self.is_healthy(member)
                    && !self.is_to_leave(member, pg)
                    && whole.contains(&member)
                    && self.has_place_for(&row, *index, member)
            });
            if is_back
                || self.is_lost(*joining)
                || self.cannot_be_waited_for(*joining, pg)
                || self.leaves(*joining)
                || self.is_full(*joining)
                || self.is_shunned(*joining, pg)
            {
                self.cancel_join(pg, *index, *joining);
            }
        }
        let now = self.now;
        if let Some(group) = self.groups.get_mut(&pg) {
            group.cancelled.retain(|index, (disk, _)| row.joining.get(index) == Some(disk));
            group.asked.retain(|index, (_, at)| !row.joining.contains_key(index) && *at + ASK_AGAIN > now);
            group.homeless.clear();
        }
        for (index, member) in (0u16..).zip(&row.members) {
            let asked = self.groups.get(&pg).is_some_and(|group| group.asked.contains_key(&index));
            let is_wanted = self.is_to_leave(*member, pg);
            if is_wanted && !row.joining.contains_key(&index) && !asked {
                self.begin_join(pg, &row, index);
            }
        }
    }

    /// A take-over may bring members together in one fault domain, or apart again: the row is to say so.
    fn judge_crowding(&mut self, pg: PgId, row: &crate::catalog::PgRow) {
        let domain = |disk| Some(self.disks.get(disk)?.domain.as_ref()?.at(self.config.fault_domain));
        let Some(domains) = row.members.iter().map(domain).collect::<Option<Vec<&str>>>() else { return };
        let apart = domains.iter().collect::<BTreeSet<_>>().len() == domains.len();
        if row.crowded == apart {
            self.inbox.push_back((pg, PgEvent::Crowded { crowded: !apart }));
        }
    }

    /// Whether a member may keep its index beside all the others where they are going: while it was away, its fault domain may have taken in
    /// what was lost elsewhere, and with it would hold more than may be lost.
    fn has_place_for(&self, row: &crate::catalog::PgRow, index: u16, member: DiskId) -> bool {
        let domain = self.disks.get(&member).and_then(|disk| Some(disk.domain.as_ref()?.at(self.config.fault_domain)));
        let others = self.other_domains(row, index, &[]);
        let beside = others.iter().filter(|other| Some(**other) == domain).count();
        beside < placement::most_per_domain(self.tolerance(row), true)
    }

    /// Asks the owner to give a take-over up: again only where it has not done so for long.
    fn cancel_join(&mut self, pg: PgId, index: u16, joining: DiskId) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&pg) else { return };
        let asked = group.cancelled.get(&index).is_some_and(|(disk, at)| *disk == joining && *at + ASK_AGAIN > now);
        if !asked {
            group.cancelled.insert(index, (joining, now));
            self.inbox.push_back((pg, PgEvent::CancelJoin { index }));
            self.at(now + ASK_AGAIN, Timer::Look(pg));
        }
    }

    fn begin_join(&mut self, pg: PgId, row: &crate::catalog::PgRow, index: u16) {
        let mut dice = self.dice.clone();
        let asked: Vec<DiskId> =
            self.groups.get(&pg).map(|group| group.asked.values().map(|(disk, _)| *disk).collect()).unwrap_or_default();
        let found = {
            let taken = |disk: &DiskId| {
                row.members.contains(disk)
                    || row.joining.values().any(|joining| joining == disk)
                    || asked.contains(disk)
            };
            let may_take = |candidate: &Candidate<'_>| !taken(&candidate.disk) && !self.is_shunned(candidate.disk, pg);
            let others: Vec<&str> = self.other_domains(row, index, &asked);
            let tolerance = self.tolerance(row);
            let may_crowd = row.crowded || self.config.code.is_some();
            let mut candidates = self.well_candidates(|well| {
                let well: Vec<Candidate<'_>> = well.iter().filter(|one| may_take(one)).copied().collect();
                placement::replacement(&well, &others, tolerance, may_crowd, &mut dice.clone()).is_ok()
            });
            candidates.retain(|candidate| may_take(candidate));
            let found = placement::replacement(&candidates, &others, tolerance, may_crowd, &mut dice);
            if found.is_err() && self.is_near_to_loss(pg) {
                // A disk that may soon be away for a while is better than none.
                candidates = self.candidates_that(|id| !self.leaves(id));
                candidates.retain(|candidate| may_take(candidate));
                placement::replacement(&candidates, &others, tolerance, may_crowd, &mut dice)
            } else {
                found
            }
        };
        self.dice = dice;
        let now = self.now;
        let Some(group) = self.groups.get_mut(&pg) else { return };
        match found {
            Ok(disk) => {
                group.asked.insert(index, (disk, now));
                self.count_slots(pg);
                self.inbox.push_back((pg, PgEvent::Reachable { disk }));
                self.inbox.push_back((pg, PgEvent::Join { index, disk }));
            }
            Err(reason) => {
                group.homeless.insert(index, reason.to_string());
            }
        }
        self.at(now + ASK_AGAIN, Timer::Look(pg));
    }

    /// Fault domains of the disks that stay when `index` gets a new one.
    fn other_domains(&self, row: &crate::catalog::PgRow, index: u16, asked: &[DiskId]) -> Vec<&str> {
        let members = (0u16..).zip(&row.members).filter(|(at, _)| *at != index && !row.joining.contains_key(at));
        let joining = row.joining.iter().filter(|(at, _)| **at != index).map(|(_, disk)| disk);
        members
            .map(|(_, disk)| disk)
            .chain(joining)
            .chain(asked)
            .filter_map(|disk| self.disks.get(disk)?.domain.as_ref())
            .map(|domain| domain.at(self.config.fault_domain))
            .collect()
    }

    pub(super) fn tolerance(&self, row: &crate::catalog::PgRow) -> usize {
        row.code_spec()
            .ok()
            .and_then(|spec| ec_core::Code::new(&spec).ok())
            .map_or(0, |code| code.guaranteed_tolerance())
    }

    fn is_full(&self, disk: DiskId) -> bool {
        self.disks.get(&disk).is_some_and(|known| known.full.is_some_and(|(since, _)| since + FULL_FOR > self.now))
    }

    /// Whether a disk's store refused every repair of a group for a while.
    fn refuses(&self, disk: DiskId, pg: PgId) -> bool {
        self.refusals(disk, pg).is_some()
    }

    fn is_shunned(&self, disk: DiskId, pg: PgId) -> bool {
        self.refusals(disk, pg).is_some_and(|last| last + REFUSED_FOR > self.now)
    }

    fn refusals(&self, disk: DiskId, pg: PgId) -> Option<Time> {
        let (count, last) = self.disks.get(&disk)?.refused.get(&pg)?;
        (*count >= REFUSALS_MAX).then_some(*last)
    }

    /// A disk's store took a fragment of this group, or would not.
    pub(super) fn target_answered(&mut self, disk: DiskId, pg: PgId, took: bool) {
        let now = self.now;
        let Some(known) = self.disks.get_mut(&disk) else { return };
        if took {
            known.refused.remove(&pg);
            return;
        }
        let (count, last) = known.refused.entry(pg).or_insert((0, now));
        (*count, *last) = (count.saturating_add(1), now);
        if *count >= REFUSALS_MAX {
            self.refresh_at_once(pg);
        }
    }

    /// Whether placement would go otherwise has changed for reasons that are no disk's health.
    pub(super) fn retry_homes(&mut self) {
        self.seek_homes();
        self.retry_allocations();
    }

    /// Health changed: groups that wait for a disk look again.
    pub(super) fn seek_homes(&mut self) {
        let homeless: Vec<PgId> =
            self.groups.iter().filter(|(_, group)| !group.homeless.is_empty()).map(|(pg, _)| *pg).collect();
        for pg in homeless {
            self.refresh_at_once(pg);
        }
    }
}

/// Whether a disk was counted on this connection, and lacks nothing.
fn is_counted_whole(slot: &SlotView) -> bool {
    slot.reachable && slot.counted && slot.missing.as_ref().is_some_and(BTreeSet::is_empty)
}
