//! What disks hold, by listings of their folders. A listing is read beside everything else and holds nothing up: what a row
//! write puts on the list meanwhile the disk has prepared, and answered for, or lacks; what it takes off is owed no more. So
//! a count that ends is one of the list as it is then, however the row has moved.

use super::group::{Group, What};
use super::member::{Counting, Member};
use super::membership::Retiring;
use crate::catalog::PgState;
use crate::id::{DiskId, ExtentKey};
use crate::node::Body;
use crate::shape::Shape;
use crate::time::Time;
use crate::wire::node::Holding;
use crate::wire::{CallError, NodeReply, NodeRequest};
use std::collections::BTreeSet;

impl Group {
    /// Asks every disk that is to be counted for the next page of its listing.
    pub(super) fn drive_counts(&mut self) {
        let wanted = |member: &&Member| member.next_page <= self.now && self.wants_page(member);
        let disks: Vec<DiskId> = self.members.values().filter(wanted).map(|member| member.disk).collect();
        for disk in disks {
            let pg = self.row.pg;
            let Some(member) = self.members.get_mut(&disk) else { continue };
            let after = member.counting.get_or_insert_with(Counting::new).after;
            member.recount = false;
            // A page may be a folder of many thousand files, read for the first time.
            let deadline = self.config.prepare_deadline;
            let call = self.send(disk, What::Holdings, NodeRequest::Holdings { pg, after }, Body::new(), deadline);
            if let Some(member) = self.members.get_mut(&disk) {
                member.listing = Some(call);
            }
        }
    }

    pub(super) fn next_of_counts(&self) -> Option<Time> {
        let waiting = self.members.values().filter(|member| self.wants_page(member));
        waiting.map(|member| member.next_page).filter(|at| *at > self.now).min()
    }

    fn wants_page(&self, member: &Member) -> bool {
        // In a frozen group nobody is given the list any more: what is there counts for whoever reads.
        let fit = member.answers() && (member.level || self.frozen.is_some());
        let free = member.listing.is_none() && member.adopting.is_none();
        self.is_ready() && fit && free && (member.recount || member.counting.is_some() || self.is_to_confirm(member))
    }

    /// Whether all that is known to lack was brought back, and no listing has shown it yet. One for all of it: as long as
    /// something is lacking, and where the group is about to be counted to open, it would be for nothing.
    fn is_to_confirm(&self, member: &Member) -> bool {
        let lacks_none = member.missing.as_ref().is_some_and(BTreeSet::is_empty);
        !member.counted && lacks_none && self.row.state == PgState::Open && self.settle.is_none()
    }

    pub(super) fn on_holdings(&mut self, disk: DiskId, answer: Result<NodeReply, CallError>) {
        match answer {
            Ok(NodeReply::HoldingsPage { holdings, more }) => self.take_page(disk, &holdings, more),
            answer => self.listing_failed(disk, answer),
        }
    }

    fn take_page(&mut self, disk: DiskId, holdings: &[Holding], more: bool) {
        let Some(index) = self.row.index_held_or_joined(disk) else { return };
        let again = self.now + self.config.retry_after;
        let Some(member) = self.members.get_mut(&disk) else { return };
        member.answered();
        let Some(counting) = &mut member.counting else { return };
        let before = counting.after;
        counting.take(holdings, index);
        if more && counting.after > before {
            return;
        }
        if more {
            // Pages that do not move on are no listing.
            (member.counting, member.recount, member.next_page) = (None, true, again);
            return;
        }
        let Some(counting) = member.counting.take() else { return };
        member.next_digest = self.now + self.config.digest_every;
        let birth = Shape::of_group(self.row.members.len());
        let shapes = &self.shapes;
        let lacks = |extent: &&ExtentKey| {
            let shape = shapes.get(extent).unwrap_or(&birth);
            shape.has(index) && !counting.have.contains(&(**extent, shape.generation))
        };
        let mut missing: BTreeSet<ExtentKey> = self.list.keys().filter(lacks).copied().collect();
        missing.retain(|extent| !counting.created.contains(extent) && !counting.restored.contains(extent));
        missing.extend(counting.damaged.iter().filter(|extent| self.list.contains_key(extent)));
        let is_named = |(extent, generation): &(ExtentKey, u64)| {
            let now = || shapes.get(extent).unwrap_or(&birth).generation == *generation;
            let under_way = || self.changes.values().any(|change| change.extent == *extent);
            let listed = self.list.contains_key(extent) && now();
            listed || self.superseded.contains_key(extent) || self.tombstones.contains_key(extent) || under_way()
        };
        let strays = counting.others || !counting.have.iter().all(is_named);
        for (extent, waits) in &mut self.superseded {
            let shape = shapes.get(extent).unwrap_or(&birth);
            waits.listed(*extent, shape, index, disk, &counting, &missing);
        }
        // What was brought back beside the listing was not seen by it.
        let counted = counting.restored.is_empty();
        if member.missing.as_ref() != Some(&missing) || member.counted != counted {
            (member.missing, member.counted) = (Some(missing), counted);
            self.changed = true;
        }
        if strays {
            self.retire_strays(disk);
        }
        self.settle_counted(disk);
    }

    /// A member has files that nothing on the list names. What they were left by, the owner before this one may have known, or nobody:
    /// the member is asked to put aside what it keeps for no reason, which it judges by its own journal.
    fn retire_strays(&mut self, disk: DiskId) {
        if self.row.index_of(disk).is_some() {
            let now = self.now;
            self.retiring.entry(disk).or_insert_with(|| Retiring::surplus(now)).again(now);
        }
    }

    fn listing_failed(&mut self, disk: DiskId, answer: Result<NodeReply, CallError>) {
        let again = self.now + self.config.retry_after;
        let Some(member) = self.members.get_mut(&disk) else { return };
        (member.counting, member.recount, member.next_page) = (None, true, again);
        member.failed(answer);
        self.changed |= member.is_failing();
    }

    pub(super) fn on_restored(&mut self, disk: DiskId, extent: ExtentKey) {
        let Some(member) = self.members.get_mut(&disk) else { return };
        if let Some(counting) = &mut member.counting {
            counting.damaged.remove(&extent);
            counting.restored.insert(extent);
        }
        let missed = member.missing.as_mut().is_some_and(|missing| missing.remove(&extent));
        self.changed |= missed || member.counted;
        member.counted = false;
    }

    pub(super) fn on_damaged(&mut self, disk: DiskId, extent: ExtentKey) {
        if !self.list.contains_key(&extent) {
            return;
        }
        let Some(member) = self.members.get_mut(&disk) else { return };
        // A recount that has counted it as sound is worth nothing any more.
        self.settle = None;
        if let Some(counting) = &mut member.counting {
            counting.created.remove(&extent);
            counting.restored.remove(&extent);
            counting.damaged.insert(extent);
        }
        if member.missing.as_mut().is_some_and(|missing| missing.insert(extent)) {
            self.changed = true;
        }
        if let Some(waits) = self.superseded.get_mut(&extent) {
            waits.seen.remove(&disk);
        }
    }

    /// Its word is no count: the disk is listed again, and where a listing is under way, whose pages may have been read before, from its beginning.
    pub(super) fn on_sound(&mut self, disk: DiskId, extent: ExtentKey) {
        let Some(member) = self.members.get_mut(&disk) else { return };
        let lacks = member.missing.as_ref().is_some_and(|missing| missing.contains(&extent));
        if lacks || member.counting.is_some() {
            (member.counting, member.recount) = (None, true);
        }
    }
}

impl Counting {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Takes a page of the folder: sound names of the index's own fragments count.
    fn take(&mut self, holdings: &[Holding], index: u16) {
        for holding in holdings {
            let fragment = holding.fragment;
            self.after = self.after.max(Some(fragment));
            self.others |= fragment.index != index;
            if fragment.index == index && !holding.damaged {
                self.have.insert((fragment.extent, fragment.generation));
            }
        }
    }
}
