//! Another record in an extent's place, and after that the release of the files it had before.
//!
//! Both wait for a whole group: open, nobody behind, nobody joining, and every member prepares. So no member ever misses which files a
//! record is of, and old files go only while the new ones have all their redundancy. That they have it is for listings to say, begun
//! after the new record was on file.

use super::Succession;
use super::commit::Change;
use super::effect::{CreateResult, PgOutcome, Ticket};
use super::group::{Group, Settled};
use super::member::{Condition, Counting};
use crate::catalog::{Entry, EntryKind, PgState};
use crate::id::{AttemptId, DiskId, EXTENT_COUNTER_MAX, ExtentKey, RecordHash};
use crate::node::Body;
use crate::shape::{Former, Shape, later_generation};
use crate::time::Time;
use crate::wire::node::Shaped;
use std::collections::BTreeSet;

/// Releases that members are asked to prepare at the same time.
const RELEASING_MAX: usize = 32;

/// What an attempt was granted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    Create { extent: ExtentKey, members: Vec<Option<DiskId>> },
    Supersede(Succession),
}

/// A record whose place another has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superseded {
    pub(super) former: Former,
    /// Disks that a listing, begun after that, showed to have their fragment of the new one.
    pub(super) seen: BTreeSet<DiskId>,
    /// No release is tried before.
    not_before: Time,
}

impl From<Former> for Superseded {
    fn from(former: Former) -> Self {
        Self { former, seen: BTreeSet::new(), not_before: Time::ZERO }
    }
}

impl Superseded {
    /// A listing of a disk has ended. What was put on the list while it was made, or came by a repair, it cannot have seen.
    pub(super) fn listed(
        &mut self,
        extent: ExtentKey,
        shape: &Shape,
        index: u16,
        disk: DiskId,
        counting: &Counting,
        missing: &BTreeSet<ExtentKey>,
    ) {
        let is_there = shape.has(index) && counting.have.contains(&(extent, shape.generation));
        let is_late = counting.created.contains(&extent) || counting.restored.contains(&extent);
        if is_there && !is_late && !missing.contains(&extent) {
            self.seen.insert(disk);
        } else {
            self.seen.remove(&disk);
        }
    }
}

impl Group {
    /// The files of the record on the list of an extent.
    pub(super) fn shape(&self, extent: ExtentKey) -> Shape {
        self.shapes.get(&extent).copied().unwrap_or_else(|| Shape::of_group(self.n()))
    }

    /// What a member that is given the list could not know from hashes alone.
    pub(super) fn shaped(&self) -> Vec<Shaped> {
        let listed = self.shapes.iter().filter_map(|(extent, shape)| {
            let hash = *self.list.get(extent)?;
            Some(Shaped { extent: *extent, hash, shape: *shape, is_former: false })
        });
        let former = self.superseded.iter().map(|(extent, waits)| {
            let Former { hash, shape } = waits.former;
            Shaped { extent: *extent, hash, shape, is_former: true }
        });
        listed.chain(former).collect()
    }

    /// Open, nobody behind, nobody joining.
    pub(super) fn is_whole(&self) -> Result<(), String> {
        if self.row.state != PgState::Open {
            return Err("the group is not open: some member may lack fragments".to_owned());
        }
        if !(self.row.behind.is_empty() && self.row.joining.is_empty() && self.to_mark.is_empty()) {
            return Err("a member is behind, or a disk joins".to_owned());
        }
        Ok(())
    }

    pub(super) fn can_supersede(&self, extent: ExtentKey) -> Result<(), String> {
        if let Some(reason) = &self.frozen {
            return Err(format!("the group is frozen: {reason}"));
        }
        if !self.may_change() {
            return Err("the group takes no changes yet".to_owned());
        }
        self.is_whole()?;
        if !self.list.contains_key(&extent) {
            return Err("it is not on the list".to_owned());
        }
        if self.superseded.contains_key(&extent) {
            return Err("the files of the record it had before are not released yet".to_owned());
        }
        if self.changes.values().any(|change| change.extent == extent) {
            return Err("another change of it is under way".to_owned());
        }
        let usable =
            |disk: &DiskId| self.members.get(disk).is_some_and(|member| member.condition() == Condition::Usable);
        match self.row.members.iter().find(|disk| !usable(disk)) {
            Some(disk) => Err(format!("disk {disk} cannot take part now")),
            None => Ok(()),
        }
    }

    pub(super) fn grant_successor(&mut self, extent: ExtentKey) -> Option<Succession> {
        self.can_supersede(extent).ok()?;
        let former = self.list.get(&extent).copied()?;
        let counter = self.reserved.next().filter(|counter| *counter <= EXTENT_COUNTER_MAX)?;
        let succession = Succession {
            extent,
            attempt: self.new_attempt(),
            token: self.token,
            generation: later_generation(self.row.incarnation, counter),
            former,
            members: self.row.members.clone(),
        };
        self.granted.insert(succession.attempt.number, Grant::Supersede(succession.clone()));
        if self.ids_are_low() {
            self.turn();
        }
        Some(succession)
    }

    pub(super) fn on_supersede(&mut self, ticket: Ticket, attempt: AttemptId, extent: ExtentKey, record: Body) {
        let hash = RecordHash::of(&record);
        if self.is_ready() && self.list.get(&extent) == Some(&hash) {
            let result = CreateResult::Committed { degraded: self.lacks(extent) };
            return self.out.tell(PgOutcome::Superseded { ticket, result });
        }
        let kind = EntryKind::Supersede;
        if let Some(change) = self.changes.get_mut(&attempt) {
            if (change.kind, change.extent, change.hash) == (kind, extent, hash) {
                change.tickets.push(ticket);
            } else {
                self.tell_dead(kind, ticket, "another change of this attempt is being committed");
            }
            return;
        }
        let succession = match self.granted.get(&attempt.number) {
            Some(Grant::Supersede(granted)) if granted.attempt == attempt && granted.extent == extent => {
                granted.clone()
            }
            _ => return self.create_again(ticket, kind, attempt, extent),
        };
        self.granted.remove(&attempt.number);
        match self.check_successor(&succession, &record) {
            Ok(shape) => {
                let placed = succession.members.iter().copied().map(Some).collect();
                let mut change = self.change(kind, extent, hash, record);
                change.tickets.push(ticket);
                (change.base, change.shape, change.placed) = (Some(succession.former), shape, placed);
                self.begin(attempt, change);
            }
            // No member was asked, so nobody can ever bring it to life.
            Err(reason) => {
                self.remember_end(attempt.number, Settled::Failed);
                self.tell_dead(kind, ticket, &reason);
            }
        }
    }

    fn check_successor(&self, succession: &Succession, record: &Body) -> Result<Shape, String> {
        if let Some(reason) = &self.frozen {
            return Err(format!("the group is frozen: {reason}"));
        }
        if self.superseded.contains_key(&succession.extent) {
            return Err("the files of the record it had before are not released yet".to_owned());
        }
        let (record, shape) = self.check_record(succession.extent, record)?;
        if record.revision < 2 || shape.generation != succession.generation {
            return Err("the record is of another birth".to_owned());
        }
        Ok(shape)
    }

    /// Whether a change that waits for a whole group may still be, and a release for what it was begun on.
    pub(super) fn may_go_on(&self, change: &Change) -> Result<(), String> {
        if !change.needs_all() {
            return Ok(());
        }
        self.is_whole()?;
        if change.kind == EntryKind::Release {
            if !self.waits_for_release(change.extent, &change.hash) {
                return Err("there is nothing to release".to_owned());
            }
            if !self.is_recounted(change.extent) {
                return Err("a fragment that was counted is not there any more".to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn waits_for_release(&self, extent: ExtentKey, hash: &RecordHash) -> bool {
        self.superseded.get(&extent).is_some_and(|waits| waits.former.hash == *hash)
    }

    /// Whether listings newer than the record on file showed every fragment of it, and nothing was heard since.
    fn is_recounted(&self, extent: ExtentKey) -> bool {
        let (shape, Some(waits)) = (self.shape(extent), self.superseded.get(&extent)) else { return false };
        let has = |disk: &DiskId| {
            // One that is to be listed again, or is being, may not have what it had.
            let member = self.members.get(disk).filter(|member| !member.recount && member.counting.is_none());
            let missing = member.and_then(|member| member.missing.as_ref());
            waits.seen.contains(disk) && missing.is_some_and(|missing| !missing.contains(&extent))
        };
        self.row.members.iter().take(usize::from(shape.fragments)).all(has)
    }

    /// What a committed entry means for the records of its extent, before the list has it.
    pub(super) fn follow_record(&mut self, entry: &Entry) {
        let extent = entry.extent;
        let shape = self.changes.get(&entry.attempt).map(|change| change.shape);
        match entry.kind {
            EntryKind::Create => {}
            EntryKind::CreateOther => _ = shape.and_then(|shape| self.shapes.insert(extent, shape)),
            EntryKind::Delete => {
                self.shapes.remove(&extent);
                self.superseded.remove(&extent);
            }
            EntryKind::Supersede => {
                if let (Some(shape), Some(hash)) = (shape, self.list.get(&extent).copied()) {
                    let former = Former { hash, shape: self.shape(extent) };
                    if self.superseded.is_empty() {
                        self.release_at = self.now + self.config.release_after;
                    }
                    self.superseded.insert(extent, former.into());
                    self.shapes.insert(extent, shape);
                }
            }
            EntryKind::Release => self.superseded.retain(|of, waits| *of != extent || waits.former.hash != entry.hash),
        }
    }

    /// Has members listed for what waits, and releases what was counted.
    pub(super) fn drive_release(&mut self) {
        if self.superseded.is_empty() || !self.may_change() || self.is_whole().is_err() {
            return;
        }
        if self.release_at <= self.now {
            self.release_at = self.now + self.config.release_after;
            self.list_for_release();
        }
        let under_way = |change: &&Change| change.kind == EntryKind::Release;
        let room = RELEASING_MAX.saturating_sub(self.changes.values().filter(under_way).count());
        let busy: BTreeSet<ExtentKey> = self.changes.values().map(|change| change.extent).collect();
        let due = self.superseded.iter().filter(|(extent, waits)| {
            waits.not_before <= self.now && !busy.contains(extent) && self.is_recounted(**extent)
        });
        let due: Vec<(ExtentKey, RecordHash)> =
            due.take(room).map(|(extent, waits)| (*extent, waits.former.hash)).collect();
        for (extent, hash) in due {
            if let Some(waits) = self.superseded.get_mut(&extent) {
                waits.not_before = self.now + self.config.call_deadline;
            }
            let attempt = self.new_attempt();
            let mut change = self.change(EntryKind::Release, extent, hash, Body::new());
            change.base = self.list.get(&extent).copied();
            self.begin(attempt, change);
        }
    }

    fn list_for_release(&mut self) {
        let row = &self.row;
        let (superseded, shapes, birth) = (&self.superseded, &self.shapes, Shape::of_group(row.members.len()));
        for (index, disk) in (0u16..).zip(&row.members) {
            let unseen = |(extent, waits): (&ExtentKey, &Superseded)| {
                shapes.get(extent).unwrap_or(&birth).has(index) && !waits.seen.contains(disk)
            };
            let Some(member) = self.members.get_mut(disk) else { continue };
            if superseded.iter().any(unseen) && member.counting.is_none() {
                member.recount = true;
            }
        }
    }

    pub(super) fn next_of_release(&self) -> Option<Time> {
        if self.superseded.is_empty() || !self.may_change() || self.is_whole().is_err() {
            return None;
        }
        let tries = self.superseded.values().map(|waits| waits.not_before);
        tries.chain([self.release_at]).filter(|at| *at > self.now).min()
    }

    pub(super) fn wait_of_release(&self) -> String {
        let why = self.is_whole().err().unwrap_or_else(|| "listings have to show all of the new ones".to_owned());
        format!("{} superseded records keep their files: {why}", self.superseded.len())
    }
}
