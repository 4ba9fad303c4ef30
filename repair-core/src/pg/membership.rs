//! Joining, catching up, opening: each by a recount of what the disks hold, of the very list that the write compares (`commit.md`
//! line 20). And retiring, after that.

use super::commit::Change;
use super::effect::CallId;
use super::group::{Asked, Group, What};
use super::member::{Condition, Counting, Member, Order, Reach};
use crate::catalog::{PgRow, PgState};
use crate::id::DiskId;
use crate::node::Body;
use crate::time::Time;
use crate::wire::node::Authority;
use crate::wire::{CallError, NodeReply, NodeRequest};
use std::collections::BTreeSet;

/// Tries to retire files on a disk; what is left is found when it joins or is counted again.
const RETIRE_TRIES: u32 = 5;

/// A recount under way that is to change the row.
#[derive(Debug)]
pub(super) struct Settle {
    /// Disks that come to the row by it: behind or joining.
    gain: BTreeSet<DiskId>,
    /// All disks to be counted: those, and all members where the group may open.
    disks: BTreeSet<DiskId>,
    /// Asked to be listed.
    asked: BTreeSet<DiskId>,
    /// Found to lack nothing.
    whole: BTreeSet<DiskId>,
    /// Set when all are found whole: the row rests from then on, until then at the latest.
    until: Option<Time>,
}

/// Files to be put aside on a disk that is not what it was.
#[derive(Debug)]
pub(super) struct Retiring {
    /// The row by which it was replaced; none where files are only more than needed.
    replaced: Option<Order>,
    /// What it had heard of by then must be over first: its files are on no list yet.
    since: Time,
    call: Option<CallId>,
    tries: u32,
    next_try: Time,
}

impl Retiring {
    pub(super) fn replaced(order: Order, since: Time) -> Self {
        Self { replaced: Some(order), since, call: None, tries: 0, next_try: Time::ZERO }
    }

    pub(super) fn surplus(since: Time) -> Self {
        Self { replaced: None, since, call: None, tries: 0, next_try: Time::ZERO }
    }

    pub(super) fn again(&mut self, now: Time) {
        self.tries = 0;
        self.next_try = now;
    }

    pub(super) fn stop(&mut self) {
        self.call = None;
    }
}

impl Group {
    pub(super) fn on_join(&mut self, index: u16, disk: DiskId) {
        if self.row.may_join(index, disk) && !self.joins.values().any(|joining| *joining == disk) {
            self.joins.insert(index, disk);
        }
    }

    /// Replaced in the life of an earlier owner, or never a member: what it holds may be read until the group is whole without it.
    pub(super) fn on_guest(&mut self, disk: DiskId) {
        if self.row.index_held_or_joined(disk).is_none() {
            let now = self.now;
            self.retiring.entry(disk).or_insert_with(|| Retiring::surplus(now)).again(now);
        }
    }

    pub(super) fn on_cancel_join(&mut self, index: u16) {
        self.joins.remove(&index);
        if let Some(disk) = self.row.joining.get(&index).copied() {
            self.cancels.insert(index);
            // A recount in work would end in the very swap that is not wanted any more.
            if self.settle.as_ref().is_some_and(|settle| settle.gain.contains(&disk)) {
                self.settle = None;
            }
        }
    }

    /// Carries a recount on, or begins one where it would change the row.
    pub(super) fn drive_settle(&mut self) {
        if self.settle.is_none() {
            self.settle = self.begin_settle();
        }
        let Some(mut settle) = self.settle.take() else { return };
        settle.disks.retain(|disk| self.is_countable(*disk));
        settle.gain.retain(|disk| settle.disks.contains(disk) && self.is_lagging(*disk));
        settle.whole.retain(|disk| settle.disks.contains(disk));
        let idle = settle.gain.is_empty() && !self.may_open(&settle.disks, &settle.gain);
        if idle || settle.until.is_some_and(|until| until <= self.now) {
            self.settle_after = self.now + self.config.retry_after;
            return;
        }
        self.count_for(&mut settle);
        if settle.disks == settle.whole {
            // What members prepared long ago must not wait for ever on a disk that does not answer.
            settle.until.get_or_insert(self.now + self.config.call_deadline);
        }
        self.settle = Some(settle);
    }

    /// Whether a disk takes part in changes, and lacks nothing as far as is known.
    fn is_countable(&self, disk: DiskId) -> bool {
        let fit = |member: &Member| member.condition() == Condition::Usable && member.is_whole();
        !self.to_mark.contains(&disk) && self.members.get(&disk).is_some_and(fit)
    }

    fn is_lagging(&self, disk: DiskId) -> bool {
        let joins = |(index, joining): (&u16, &DiskId)| *joining == disk && !self.cancels.contains(index);
        self.row.behind.contains(&disk) || self.row.joining.iter().any(joins)
    }

    pub(super) fn next_of_settle(&self) -> Option<Time> {
        match &self.settle {
            Some(settle) => settle.until,
            None => Some(self.settle_after).filter(|at| *at > self.now && self.settle_gain().is_some()),
        }
    }

    fn begin_settle(&self) -> Option<Settle> {
        if !self.may_change() || self.now < self.settle_after {
            return None;
        }
        let (gain, disks) = self.settle_gain()?;
        Some(Settle { gain, disks, asked: BTreeSet::new(), whole: BTreeSet::new(), until: None })
    }

    /// Disks that a recount would bring to the row, and all it would have to count.
    fn settle_gain(&self) -> Option<(BTreeSet<DiskId>, BTreeSet<DiskId>)> {
        // A change about to be committed without a disk would only put it behind again.
        let without: BTreeSet<DiskId> = self.changes.values().flat_map(Change::without).collect();
        let whole = |disk: &&DiskId| {
            let Some(member) = self.members.get(disk) else { return false };
            let wanted = !self.to_mark.contains(*disk) && !without.contains(*disk);
            wanted && member.condition() == Condition::Usable && member.is_whole()
        };
        let joining = self.row.joining.iter().filter(|(index, _)| !self.cancels.contains(index)).map(|(_, disk)| disk);
        // A count goes by the list, and what an open change left on a disk is not on it. Later changes do not ask one that is
        // behind, so this ends.
        let party = |disk: &&DiskId| self.changes.values().any(|change| change.is_known_to(**disk));
        let lagging = self.row.behind.iter().chain(joining).filter(|disk| !party(disk));
        let gain: BTreeSet<DiskId> = lagging.filter(whole).copied().collect();
        let members: BTreeSet<DiskId> = self.row.members.iter().filter(whole).copied().collect();
        let all: BTreeSet<DiskId> = gain.union(&members).copied().collect();
        if self.may_open(&all, &gain) {
            return Some((gain, all));
        }
        (!gain.is_empty()).then(|| (gain.clone(), gain))
    }

    /// Whether the group could open once `disks` are found whole and `gain` has come to the row.
    fn may_open(&self, disks: &BTreeSet<DiskId>, gain: &BTreeSet<DiskId>) -> bool {
        let after = self.after(gain);
        self.row.state == PgState::Closed
            && self.joins.is_empty()
            && after.behind.is_empty()
            && after.joining.is_empty()
            && after.members.iter().all(|disk| disks.contains(disk))
    }

    /// The next row if `gain` comes to it: joining disks are members, and those behind are not.
    fn after(&self, gain: &BTreeSet<DiskId>) -> PgRow {
        let mut next = self.next_row();
        for (index, disk) in self.row.joining.iter().filter(|(_, disk)| gain.contains(disk)) {
            if let Some(member) = next.members.get_mut(usize::from(*index)) {
                let replaced = std::mem::replace(member, *disk);
                next.behind.remove(&replaced);
                next.joining.remove(index);
                next.epoch += u64::from(next.epoch == self.row.epoch);
            }
        }
        next.behind.retain(|disk| !gain.contains(disk));
        next
    }

    /// Has each disk listed once, from the beginning.
    fn count_for(&mut self, settle: &mut Settle) {
        for disk in &settle.disks {
            let Some(member) = self.members.get_mut(disk) else { continue };
            if !settle.asked.contains(disk) && member.counting.is_none() {
                settle.asked.insert(*disk);
                member.counting = Some(Counting::new());
            }
        }
    }

    /// A disk was counted.
    pub(super) fn settle_counted(&mut self, disk: DiskId) {
        let whole = self.members.get(&disk).is_some_and(|member| member.is_whole() && member.counted);
        let Some(settle) = self.settle.as_mut().filter(|settle| settle.asked.contains(&disk)) else { return };
        if whole {
            settle.whole.insert(disk);
        } else {
            settle.disks.remove(&disk);
        }
    }

    /// Whether a recount has ended and its row is about to be written.
    pub(super) fn is_settled(&self) -> bool {
        self.settle.as_ref().is_some_and(|settle| settle.until.is_some() && settle.disks == settle.whole)
    }

    /// The row that a finished recount allows, once all that were counted are at the row it is compared with.
    pub(super) fn transition(&self) -> Option<PgRow> {
        let settle = self.settle.as_ref()?;
        let order = self.row.order();
        let at = |disk: &DiskId| self.members.get(disk).is_some_and(|member| member.is_at(order));
        if !settle.disks.iter().all(at) {
            return None;
        }
        let mut next = self.after(&settle.gain);
        if self.may_open(&settle.whole, &settle.gain) {
            next.state = PgState::Open;
        }
        Some(next)
    }

    /// Line 20: files go aside on a replaced disk once the row that replaced it cannot be forgotten; on others once the group is
    /// whole again.
    pub(super) fn drive_retiring(&mut self) {
        if !self.may_change() || !self.row_rests() {
            return;
        }
        let authority = self.authority();
        for disk in self.retirable() {
            let request = NodeRequest::Retire { authority: Box::new(Authority { ..authority.clone() }) };
            let call = self.send(disk, What::Retire, request, Body::new(), self.config.call_deadline);
            if let Some(retiring) = self.retiring.get_mut(&disk) {
                (retiring.call, retiring.tries) = (Some(call), retiring.tries + 1);
            }
        }
    }

    fn retirable(&self) -> Vec<DiskId> {
        let due = self.retiring.iter().filter(|(disk, retiring)| {
            self.may_retire(**disk, retiring) && retiring.call.is_none() && retiring.next_try <= self.now
        });
        due.map(|(disk, _)| *disk).collect()
    }

    fn may_retire(&self, disk: DiskId, retiring: &Retiring) -> bool {
        if retiring.tries >= RETIRE_TRIES || self.reach.get(&disk) == Some(&Reach::No) {
            return false;
        }
        if self.changes.values().any(|change| change.was_known_to(disk, retiring.since)) {
            return false;
        }
        let stored = |disk: &DiskId, order| self.members.get(disk).is_some_and(|member| member.stored >= Some(order));
        match retiring.replaced {
            Some(order) => {
                let enough = self.row.members.iter().filter(|disk| stored(disk, order)).count() >= self.quorum();
                enough && self.not_behind().all(|disk| stored(&disk, order))
            }
            None => {
                let order = self.row.order();
                // What is more than needed may be all there is, as long as something of the group is missing.
                let whole =
                    |disk: &DiskId| self.members.get(disk).is_some_and(|member| member.counted && member.is_whole());
                let there = |disk: &DiskId| stored(disk, order) && whole(disk);
                self.row.state == PgState::Open && self.row.members.iter().all(there)
            }
        }
    }

    pub(super) fn next_of_retiring(&self) -> Option<Time> {
        let waiting = self.retiring.iter().filter(|(disk, retiring)| self.may_retire(**disk, retiring));
        waiting.map(|(_, retiring)| retiring.next_try).filter(|at| *at > self.now).min()
    }

    pub(super) fn on_retire_answer(&mut self, asked: Asked, answer: Result<NodeReply, CallError>) {
        let is_open = self.row.state == PgState::Open;
        let Some(retiring) = self.retiring.get_mut(&asked.disk) else { return };
        retiring.call = None;
        match answer {
            // Put aside; that it may go for good is said when all others are counted.
            Ok(NodeReply::Retired { more: false, .. }) if retiring.replaced.is_some() && !is_open => {
                retiring.replaced = None;
                retiring.again(self.now);
            }
            Ok(NodeReply::Retired { more: false, .. }) => drop(self.retiring.remove(&asked.disk)),
            Ok(NodeReply::Retired { more: true, files }) if files > 0 => retiring.again(self.now),
            _ => retiring.next_try = self.now + self.config.retry_after,
        }
    }
}
