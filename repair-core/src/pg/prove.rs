//! A list that sums to the row (`commit.md` line 9). Nothing is computed from one that does not.

use super::group::{Group, Phase, What};
use super::member::{Order, Reach};
use crate::catalog::{Entry, EntryKind, PgRow};
use crate::id::{DiskId, ExtentKey, RecordHash, Sum};
use crate::limits::PREPARED_SUBSET_MAX;
use crate::node::Body;
use crate::shape::{Former, Shape};
use crate::time::Time;
use crate::wire::NodeRequest;
use crate::wire::node::{Listed, Prepared, Shaped};
use std::collections::{BTreeMap, BTreeSet};

type List = BTreeMap<ExtentKey, RecordHash>;

/// A list that sums to the row, and what its records are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Proven {
    pub(super) list: List,
    /// Of those that are not of the group's shape.
    pub(super) shapes: BTreeMap<ExtentKey, Shape>,
    /// Records whose place others have taken, not released.
    pub(super) superseded: BTreeMap<ExtentKey, Former>,
}

/// How far the search for a list has come.
#[derive(Debug, Default)]
pub(super) struct Proof {
    fetching: Option<Fetch>,
    /// Changes each member has prepared, by its last word.
    prepared: BTreeMap<DiskId, Vec<Prepared>>,
    /// Members whose list was looked at since their last word and does not sum.
    wrong: BTreeSet<DiskId>,
    /// After a failure the search goes on then.
    not_before: Time,
}

#[derive(Debug)]
struct Fetch {
    disk: DiskId,
    heard: Option<Order>,
    list: List,
    shapes: Vec<Shaped>,
}

impl Proof {
    pub(super) fn heard(&mut self, disk: DiskId, prepared: Vec<Prepared>) {
        self.prepared.insert(disk, prepared);
        self.wrong.remove(&disk);
    }

    pub(super) fn drop_disk(&mut self, disk: DiskId) {
        if self.fetching.as_ref().is_some_and(|fetch| fetch.disk == disk) {
            self.fetching = None;
        }
        self.prepared.remove(&disk);
        self.wrong.remove(&disk);
    }

    pub(super) fn failed(&mut self, disk: DiskId, what: What, again: Time) {
        if what == What::List && self.fetching.as_ref().is_some_and(|fetch| fetch.disk == disk) {
            self.fetching = None;
            self.not_before = again;
        }
    }
}

/// Whether a list is the one the row counts.
pub(super) fn sums(list: &List, row: &PgRow) -> bool {
    list.len() as u64 == row.count && Sum::of(list.values()) == row.sum
}

/// A page of a list.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) listed: Vec<Listed>,
    pub(super) shapes: Vec<Shaped>,
    pub(super) more: bool,
}

/// Brings a list by the row's entries, and then by some of the changes its member has prepared, to the row's sum. `told` is what
/// the member says that its records are of; none is taken for another shape than the group's on nobody's word.
pub(super) fn prove(list: List, told: &[Shaped], heard: Order, prepared: &[Prepared], row: &PgRow) -> Option<Proven> {
    let group = Shape::of_group(row.members.len());
    let mut proving = Proving { told: by_hash(told), group, proven: Proven::default() };
    proving.proven.superseded = told.iter().filter(|line| line.is_former).map(former_of).collect();
    proving.proven.list = list;
    for entry in row.entries.iter().filter(|entry| heard < (row.incarnation, entry.seq)) {
        proving.take(entry.kind, entry.extent, entry.hash)?;
    }
    if !sums(&proving.proven.list, row) {
        let open: Vec<&Prepared> = prepared
            .iter()
            .filter(|change| could_follow(&proving.proven.list, change))
            .take(PREPARED_SUBSET_MAX)
            .collect();
        let chosen = subset(&proving.proven.list, &open, row)?;
        for (_, change) in open.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1) {
            proving.take(change.kind, change.extent, change.hash)?;
        }
    }
    // Two prepared changes of one extent could be chosen together; what they leave is what counts.
    let proven = proving.end();
    sums(&proven.list, row).then_some(proven)
}

fn by_hash(told: &[Shaped]) -> BTreeMap<(ExtentKey, RecordHash), Shape> {
    told.iter().map(|line| ((line.extent, line.hash), line.shape)).collect()
}

fn former_of(line: &Shaped) -> (ExtentKey, Former) {
    (line.extent, Former { hash: line.hash, shape: line.shape })
}

struct Proving {
    told: BTreeMap<(ExtentKey, RecordHash), Shape>,
    group: Shape,
    proven: Proven,
}

impl Proving {
    /// None where nobody says of which files the record is that this puts on the list.
    fn take(&mut self, kind: EntryKind, extent: ExtentKey, hash: RecordHash) -> Option<()> {
        if kind.has_shape() && !self.told.contains_key(&(extent, hash)) {
            return None;
        }
        match kind {
            EntryKind::Create | EntryKind::CreateOther => _ = self.proven.list.insert(extent, hash),
            EntryKind::Delete => {
                self.proven.list.remove(&extent);
                self.proven.superseded.remove(&extent);
            }
            EntryKind::Supersede => {
                let old = self.proven.list.insert(extent, hash).filter(|old| *old != hash)?;
                let shape = self.told.get(&(extent, old)).copied().unwrap_or(self.group);
                self.proven.superseded.insert(extent, Former { hash: old, shape });
            }
            EntryKind::Release => self.proven.superseded.retain(|of, former| *of != extent || former.hash != hash),
        }
        Some(())
    }

    fn end(self) -> Proven {
        let Proven { list, superseded, .. } = self.proven;
        let of = |(extent, hash): (&ExtentKey, &RecordHash)| Some((*extent, *self.told.get(&(*extent, *hash))?));
        let shapes = list.iter().filter_map(of).collect();
        let held = |(extent, former): &(ExtentKey, Former)| list.get(extent).is_some_and(|hash| *hash != former.hash);
        let superseded = superseded.into_iter().filter(held).collect();
        Proven { list, shapes, superseded }
    }
}

/// What an entry makes of a list.
pub(super) fn apply(list: &mut List, entry: &Entry) {
    match entry.kind {
        EntryKind::Create | EntryKind::CreateOther | EntryKind::Supersede => _ = list.insert(entry.extent, entry.hash),
        EntryKind::Delete => _ = list.remove(&entry.extent),
        EntryKind::Release => {}
    }
}

fn could_follow(list: &List, change: &Prepared) -> bool {
    match change.kind {
        EntryKind::Create | EntryKind::CreateOther => !list.contains_key(&change.extent),
        EntryKind::Delete => list.get(&change.extent) == Some(&change.hash),
        EntryKind::Supersede => list.get(&change.extent).is_some_and(|listed| *listed != change.hash),
        // It leaves the list as it is: nothing about it can be seen in a sum.
        EntryKind::Release => false,
    }
}

/// What a change takes off a list and puts on it.
fn moved(list: &List, change: &Prepared) -> (Option<RecordHash>, Option<RecordHash>) {
    match change.kind {
        EntryKind::Create | EntryKind::CreateOther => (None, Some(change.hash)),
        EntryKind::Delete => (Some(change.hash), None),
        EntryKind::Supersede => (list.get(&change.extent).copied(), Some(change.hash)),
        EntryKind::Release => (None, None),
    }
}

/// The first set of changes, as bits, that makes count and sum the row's. Walks them in Gray code: one change a step.
fn subset(list: &List, open: &[&Prepared], row: &PgRow) -> Option<u32> {
    let (mut count, mut sum) = (list.len() as i64, Sum::of(list.values()));
    let mut chosen = 0u32;
    for step in 1u32..1 << open.len() {
        let at = step.trailing_zeros();
        chosen ^= 1 << at;
        let change = open.get(at as usize)?;
        let taken = chosen >> at & 1 == 1;
        let (off, on) = moved(list, change);
        let (off, on) = if taken { (off, on) } else { (on, off) };
        count += i64::from(on.is_some()) - i64::from(off.is_some());
        sum = off.iter().fold(sum, |sum, hash| sum.minus(hash));
        sum = on.iter().fold(sum, |sum, hash| sum.plus(hash));
        if count == row.count as i64 && sum == row.sum {
            return Some(chosen);
        }
    }
    None
}

impl Group {
    /// Looks for a list until one is proven.
    pub(super) fn drive_proof(&mut self) {
        if self.phase != Phase::Proving {
            return;
        }
        if self.is_new && sums(&List::new(), &self.row) {
            self.proven(Proven::default());
            return;
        }
        if self.proof.fetching.is_some() || self.now < self.proof.not_before {
            return;
        }
        if let Some(disk) = self.next_list() {
            self.proof.fetching = Some(Fetch { disk, heard: None, list: List::new(), shapes: Vec::new() });
            self.ask_list(disk, None);
        } else if self.none_can_sum() {
            self.freeze("no member's list sums to the row, and all have answered".to_owned());
        }
    }

    pub(super) fn next_of_proof(&self) -> Option<Time> {
        let waits = self.phase == Phase::Proving && self.proof.fetching.is_none();
        Some(self.proof.not_before).filter(|at| waits && *at > self.now)
    }

    /// Level members first. The others' lists are worth a look once no level one is left and none can still turn up.
    fn next_list(&self) -> Option<DiskId> {
        let ready = |disk: &DiskId| {
            let member = self.members.get(disk)?;
            let fit = member.answers() && member.busy.is_none() && !self.proof.wrong.contains(disk);
            fit.then_some(member)
        };
        let order = self.row.order();
        let all = || self.row.members.iter().chain(self.row.joining.values()).filter_map(ready);
        if let Some(level) = all().find(|member| member.level && member.told == Some(order)) {
            return Some(level.disk);
        }
        if self.members.values().any(|member| self.may_turn_up(member)) {
            return None;
        }
        all().map(|member| member.disk).next()
    }

    fn may_turn_up(&self, member: &super::member::Member) -> bool {
        let open = !member.accepted || member.told != Some(self.row.order());
        open && member.reach != Reach::No && !member.is_failing()
    }

    /// Every member has answered, and every list was looked at.
    fn none_can_sum(&self) -> bool {
        let judged = |disk: &DiskId| {
            self.proof.wrong.contains(disk) && self.members.get(disk).is_some_and(|member| member.accepted)
        };
        self.row.members.iter().all(judged)
    }

    fn ask_list(&mut self, disk: DiskId, after: Option<ExtentKey>) {
        let request = NodeRequest::List { pg: self.row.pg, after };
        let call = self.send(disk, What::List, request, Body::new(), self.config.call_deadline);
        if let Some(member) = self.members.get_mut(&disk) {
            member.busy = Some(call);
        }
    }

    pub(super) fn on_list_page(&mut self, disk: DiskId, heard: Order, page: Page) {
        let Page { listed, shapes, more } = page;
        let Some(mut fetch) = self.proof.fetching.take_if(|fetch| fetch.disk == disk) else { return };
        let first = *fetch.heard.get_or_insert(heard);
        let mut last = fetch.list.last_key_value().map(|(extent, _)| *extent);
        let mut in_order = true;
        for line in &listed {
            in_order &= last.is_none_or(|last| last < line.extent);
            last = Some(line.extent);
            fetch.list.insert(line.extent, line.hash);
        }
        fetch.shapes.extend(shapes);
        if first != heard || heard > self.row.order() || !in_order || (more && listed.is_empty()) {
            // Pages of two lists, or of none: begin anew a little later.
            self.proof.not_before = self.now + self.config.retry_after;
            return;
        }
        if more {
            self.proof.fetching = Some(fetch);
            self.ask_list(disk, last);
            return;
        }
        let prepared = self.proof.prepared.get(&disk).map_or(&[][..], Vec::as_slice);
        match prove(fetch.list, &fetch.shapes, heard, prepared, &self.row) {
            Some(proven) => self.proven(proven),
            None => {
                self.proof.wrong.insert(disk);
            }
        }
    }

    fn proven(&mut self, proven: Proven) {
        self.list = proven.list;
        self.shapes = proven.shapes;
        self.superseded = proven.superseded.into_iter().map(|(extent, former)| (extent, former.into())).collect();
        self.phase = Phase::Ready;
        self.changed = true;
        self.out.tell(crate::pg::PgOutcome::Ready);
        let heads = std::mem::take(&mut self.proof.prepared);
        for (disk, prepared) in heads {
            self.heed_leftovers(disk, &prepared);
        }
        self.plan_trim();
    }

    /// Members whose list was not seen yet, while there is none.
    pub(super) fn unproven(&self) -> Vec<DiskId> {
        let judged = |disk: &&DiskId| !self.proof.wrong.contains(disk);
        self.row.members.iter().filter(judged).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::PgState;
    use crate::id::{AttemptId, PgId};

    fn hash(byte: u8) -> RecordHash {
        RecordHash::of(&[byte])
    }

    fn row(list: &List, entries: Vec<Entry>) -> PgRow {
        PgRow {
            pg: PgId(1),
            incarnation: 1,
            seq: 9,
            epoch: 1,
            code: [0; ec_core::code::DESCRIPTOR_BYTES],
            members: vec![],
            joining: BTreeMap::new(),
            behind: BTreeSet::new(),
            state: PgState::Open,
            crowded: false,
            next_id: 0,
            count: list.len() as u64,
            sum: Sum::of(list.values()),
            trim: 0,
            entries,
        }
    }

    fn list(extents: &[u8]) -> List {
        extents.iter().map(|byte| (ExtentKey(u128::from(*byte)), hash(*byte))).collect()
    }

    fn listed(list: List, heard: Order, prepared: &[Prepared], row: &PgRow) -> Option<List> {
        prove(list, &[], heard, prepared, row).map(|proven| proven.list)
    }

    fn prepared(kind: EntryKind, byte: u8) -> Prepared {
        let attempt = AttemptId { number: u64::from(byte), ..AttemptId::default() };
        Prepared { attempt, kind, extent: ExtentKey(u128::from(byte)), hash: hash(byte) }
    }

    #[test]
    fn entries_not_heard_yet_bring_a_list_to_the_row_and_heard_ones_are_not_counted_twice() {
        let create = |seq, byte| {
            let Prepared { attempt, kind, extent, hash } = prepared(EntryKind::Create, byte);
            Entry { seq, kind, extent, hash, attempt }
        };
        let delete = Entry { kind: EntryKind::Delete, ..create(9, 1) };
        let row = row(&list(&[2, 3]), vec![create(7, 2), create(8, 3), delete]);
        assert_eq!(listed(list(&[1]), (1, 6), &[], &row), Some(list(&[2, 3])));
        assert_eq!(listed(list(&[1, 2]), (1, 7), &[], &row), Some(list(&[2, 3])));
        assert_eq!(listed(list(&[2, 3]), (1, 9), &[], &row), Some(list(&[2, 3])));
        // A list that lacks a change it says to have heard does not sum, whatever the entries say.
        assert_eq!(listed(list(&[1]), (1, 8), &[], &row), None);
    }

    #[test]
    fn a_subset_of_what_is_prepared_may_explain_the_row_and_nothing_else_may() {
        let all: Vec<Prepared> =
            (10..30).map(|byte| prepared(EntryKind::Create, byte)).chain([prepared(EntryKind::Delete, 1)]).collect();
        let row_of = |extents: &[u8]| row(&list(extents), vec![]);
        let few = &all[15..];
        assert_eq!(listed(list(&[1, 2]), (1, 9), few, &row_of(&[2, 25, 29])), Some(list(&[2, 25, 29])));
        assert_eq!(listed(list(&[1, 2]), (1, 9), few, &row_of(&[1, 2, 27])), Some(list(&[1, 2, 27])));
        assert_eq!(listed(list(&[1, 2]), (1, 9), few, &row_of(&[1, 2, 10])), None, "not among them");
        // Of more than sixteen the first sixteen are tried.
        assert_eq!(listed(list(&[]), (1, 9), &all, &row_of(&[10, 25])), Some(list(&[10, 25])));
        assert_eq!(listed(list(&[]), (1, 9), &all, &row_of(&[10, 26])), None);
    }
}
