//! Row writes: what goes into the next one, and what follows from one that was applied.

use super::effect::PgOutcome;
use super::group::Group;
use super::membership::Retiring;
use super::prove;
use crate::catalog::{Entry, EntryKind, PgRow, PgState, Txn};
use crate::id::{AttemptId, DiskId};
use crate::limits::ENTRIES_MAX;

/// How long a group rests before entries that all have stored leave its row without another reason to write it.
pub(super) const TRIM_AFTER_MS: u64 = 2_000;

/// What a write of the row is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To have succeeded: whatever compared the same row before is dead then.
    Kill,
    /// Members, marks, ids, trimming.
    Upkeep,
    /// To commit these.
    Commit(Vec<AttemptId>),
}

/// A write of the row.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) next: PgRow,
    pub(super) purpose: Purpose,
    /// Conditions and writes of others in the same transaction.
    pub(super) beside: Txn,
}

/// A write whose outcome is not known.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) next: PgRow,
    pub(super) purpose: Purpose,
    /// The catalog said that a compare did not hold. Which may have been after it was applied.
    pub(super) refused: bool,
}

impl Group {
    /// The row as the next write begins: one further, without what all have stored.
    pub(super) fn next_row(&self) -> PgRow {
        let mut next = self.row.clone();
        next.seq += 1;
        next.incarnation = self.cell.incarnation;
        next.entries.retain(|entry| !self.is_stored(entry));
        next.trim = next.trim.max(self.trim_floor());
        next
    }

    fn stored_seq(&self, disk: DiskId) -> u64 {
        let stored = self.members.get(&disk).and_then(|member| member.stored);
        // A row of another incarnation may be of another history.
        stored.filter(|order| order.0 == self.row.incarnation).map_or(0, |order| order.1)
    }

    /// Line 14: all members not behind have stored it, silent ones too, and enough members altogether.
    fn is_stored(&self, entry: &Entry) -> bool {
        let has = |disk: &DiskId| self.stored_seq(*disk) >= entry.seq;
        let enough = self.row.members.iter().filter(|disk| has(disk)).count() >= self.quorum();
        enough && self.not_behind().all(|disk| has(&disk)) && self.spares(entry)
    }

    /// Disks that are being brought up may still need it. A courtesy: without it they are sent the whole list again.
    fn spares(&self, entry: &Entry) -> bool {
        if self.row.entries.len() > ENTRIES_MAX / 2 {
            return true;
        }
        self.members.values().filter(|member| member.answers()).all(|member| {
            let adopted = member.adopting.as_ref().map(|adopting| adopting.authority.row.seq);
            let at = adopted.or(member.stored.map(|order| order.1));
            at.is_none_or(|at| at >= entry.seq)
        })
    }

    /// Line 17: tombstones go when all members, behind or not, and all who join have stored their deletion.
    fn trim_floor(&self) -> u64 {
        let disks = self.row.members.iter().chain(self.row.joining.values());
        disks.map(|disk| self.stored_seq(*disk)).min().unwrap_or(0)
    }

    /// Whether a write for trimming's sake would free anything.
    pub(super) fn could_trim(&self) -> bool {
        let floor = self.trim_floor();
        self.row.entries.iter().any(|entry| self.is_stored(entry))
            || self.tombstones.values().any(|seq| *seq > self.row.trim && *seq <= floor)
    }

    /// The next write of the row, if one is wanted and may be.
    pub(super) fn next_write(&mut self) -> Option<Write> {
        let upkeep = |next| Write { next, purpose: Purpose::Upkeep, beside: Txn::new() };
        if !self.agreed {
            return None;
        }
        if self.frozen.is_some() {
            let thaw = self.row.state != PgState::Frozen;
            return thaw.then(|| upkeep(PgRow { state: PgState::Frozen, ..self.next_row() }));
        }
        if !self.is_ready() {
            return None;
        }
        if self.is_settled() {
            // The recount has ended: the row rests until all it counted are at it, which is one word to each.
            return self.transition().map(upkeep);
        }
        self.upkeep_row().map(upkeep).or_else(|| self.commit_write())
    }

    fn upkeep_row(&mut self) -> Option<PgRow> {
        if self.row.entries.len() >= ENTRIES_MAX && !self.could_trim() {
            self.mark_laggards();
        }
        let due = self.trim_at.is_some_and(|at| at <= self.now);
        let asked = !(self.to_mark.is_empty() && self.cancels.is_empty() && self.joins.is_empty());
        let crowded = self.crowded != self.row.crowded;
        if !due && !asked && !crowded && !self.ids_are_low() {
            return None;
        }
        let mut next = self.next_row();
        next.crowded = self.crowded;
        let mut wanted = crowded || (due && self.could_trim());
        for disk in &self.to_mark {
            wanted |= next.index_of(*disk).is_some() && next.behind.insert(*disk);
        }
        for index in &self.cancels {
            wanted |= next.joining.remove(index).is_some();
        }
        for (index, disk) in &self.joins {
            wanted |= next.joining.insert(*index, *disk).is_none();
        }
        if self.ids_are_low() {
            next.next_id = next.next_id.saturating_add(self.config.id_block);
            wanted = true;
        }
        if next.state == PgState::Open && !(next.behind.is_empty() && next.joining.is_empty()) {
            next.state = PgState::Closed;
        }
        self.trim_at = self.trim_at.filter(|at| *at > self.now);
        wanted.then_some(next)
    }

    pub(super) fn ids_are_low(&self) -> bool {
        let left = self.reserved.end.saturating_sub(self.reserved.start);
        left < self.config.id_block.div_ceil(2) && self.reserved.end <= crate::id::EXTENT_COUNTER_MAX
    }

    /// Line 14: the row is full of entries that some members have not stored. Those are behind, if the rest can do without them.
    fn mark_laggards(&mut self) {
        let Some(oldest) = self.row.entries.first().map(|entry| entry.seq) else { return };
        let (have, lag): (Vec<_>, Vec<_>) = self.not_behind().partition(|disk| self.stored_seq(*disk) >= oldest);
        let enough = self.row.members.iter().filter(|disk| self.stored_seq(**disk) >= oldest).count() >= self.quorum();
        if enough && !have.is_empty() {
            self.to_mark.extend(lag);
        }
    }

    /// A write was applied: by the catalog's word, or because the row is the one it would have made.
    pub(super) fn applied(&mut self, next: PgRow, revision: u64, purpose: &Purpose) {
        let old = std::mem::replace(&mut self.row, next);
        self.revision = revision;
        self.changed = true;
        if self.row.next_id > old.next_id {
            // Ids are reserved one block after another: what is left joins the new block without a gap.
            let start = if self.reserved.is_empty() { old.next_id } else { self.reserved.start };
            self.reserved = start..self.row.next_id;
        }
        let new: Vec<Entry> = self.row.entries.iter().filter(|entry| entry.seq == self.row.seq).copied().collect();
        for entry in &new {
            self.follow_record(entry);
            prove::apply(&mut self.list, entry);
            self.follow_entry(entry);
        }
        if let Purpose::Commit(attempts) = purpose {
            self.finish_committed(attempts);
        }
        self.follow_members(&old);
        let trim = self.row.trim;
        self.tombstones.retain(|_, seq| *seq > trim);
        let (row, marked) = (&self.row, std::mem::take(&mut self.to_mark));
        self.to_mark =
            marked.into_iter().filter(|disk| row.index_of(*disk).is_some() && !row.behind.contains(disk)).collect();
        self.plan_trim();
    }

    /// What a committed change means for what each disk holds.
    fn follow_entry(&mut self, entry: &Entry) {
        let extent = entry.extent;
        let prepared = self.changes.get(&entry.attempt).map(|change| change.prepared()).unwrap_or_default();
        if entry.kind == EntryKind::Delete {
            self.tombstones.insert(extent, entry.seq);
        }
        for (disk, member) in &mut self.members {
            let missing = member.missing.as_mut();
            match (entry.kind, &mut member.counting) {
                (EntryKind::Release, _) => {}
                (EntryKind::Delete, _) => _ = missing.map(|missing| missing.remove(&extent)),
                (EntryKind::Create, _) if !prepared.contains(disk) => member.lacks(extent),
                // All that it names have prepared it: what was missing is of another record.
                (EntryKind::Create | EntryKind::CreateOther | EntryKind::Supersede, counting) => {
                    missing.map(|missing| missing.remove(&extent));
                    counting.as_mut().map(|counting| counting.created.insert(extent));
                }
            }
        }
    }

    /// Tells what became of members, by comparing the row with the one before.
    fn follow_members(&mut self, old: &PgRow) {
        let order = self.row.order();
        let swaps: Vec<(u16, DiskId, DiskId)> = (0u16..)
            .zip(old.members.iter().zip(&self.row.members))
            .filter(|(_, (from, to))| from != to)
            .map(|(index, (from, to))| (index, *from, *to))
            .collect();
        for (index, from, to) in swaps {
            self.retiring.insert(from, Retiring::replaced(order, self.now));
            // It may have been here before, under another index.
            self.retiring.insert(to, Retiring::surplus(self.now));
            self.out.tell(PgOutcome::Joined { index, from, to });
        }
        for disk in old.joining.values().filter(|disk| self.row.index_held_or_joined(**disk).is_none()) {
            self.retiring.insert(*disk, Retiring::surplus(self.now));
        }
        let caught_up = |disk: &&DiskId| self.row.index_of(**disk).is_some() && !self.row.behind.contains(disk);
        for disk in old.behind.iter().filter(caught_up) {
            self.retiring.insert(*disk, Retiring::surplus(self.now));
            self.out.tell(PgOutcome::CaughtUp { disk: *disk });
        }
        for disk in self.row.joining.values() {
            self.retiring.remove(disk);
        }
        let row = &self.row;
        self.joins.retain(|index, disk| row.may_join(*index, *disk));
        self.cancels.retain(|index| row.joining.contains_key(index));
        self.meet_members();
    }

    /// Deletions the row still tells of.
    pub(super) fn remember_tombstones(&mut self) {
        let deleted = self.row.entries.iter().filter(|entry| entry.kind == EntryKind::Delete);
        self.tombstones.extend(deleted.map(|entry| (entry.extent, entry.seq)));
    }
}

impl PgRow {
    /// Whether a disk can begin to take an index over.
    pub(super) fn may_join(&self, index: u16, disk: DiskId) -> bool {
        let exists = usize::from(index) < self.members.len();
        exists && !self.joining.contains_key(&index) && self.index_held_or_joined(disk).is_none()
    }
}
