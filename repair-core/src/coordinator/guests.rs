//! Disks that have files of groups they are no member of: replaced while they were away, perhaps in an earlier life of the daemon.
//!
//! Each disk that comes is asked what it holds of the groups it does not belong to, once those are whole again; the owner then
//! has the files put aside.

use super::{Coordinator, NodeCall};
use crate::id::{DiskId, PgId};
use crate::node::Body;
use crate::pg::PgEvent;
use crate::wire::node::NodeRequest;
use crate::wire::{CallError, NodeReply};
use std::collections::{BTreeMap, BTreeSet};

/// Questions under way at once, one per disk: there is no hurry.
const AT_ONCE: usize = 8;

/// Which disks may be guests, and of which groups.
#[derive(Debug, Default)]
pub(super) struct Guests {
    unasked: BTreeMap<DiskId, BTreeSet<PgId>>,
    asking: BTreeSet<DiskId>,
    /// Something changed since nothing could be asked.
    look: bool,
}

impl Coordinator {
    /// A disk has come: whatever it was away from may have gone on without it.
    pub(super) fn guest_came(&mut self, disk: DiskId) {
        let strange = self
            .groups
            .iter()
            .filter(|(_, group)| group.owner.row().is_some_and(|row| row.index_held_or_joined(disk).is_none()));
        let strange: BTreeSet<PgId> = strange.map(|(pg, _)| *pg).collect();
        self.guests.unasked.insert(disk, strange);
        self.guests.look = true;
    }

    /// A group has just got its list: disks that came before have not been asked about it.
    pub(super) fn group_came(&mut self, pg: PgId) {
        let Some(row) = self.owner(pg).and_then(|owner| owner.row()) else { return };
        let strange = |disk: &DiskId| row.index_held_or_joined(*disk).is_none();
        let strange: Vec<DiskId> = self.disks.keys().copied().filter(strange).collect();
        for disk in strange {
            self.guests.unasked.entry(disk).or_default().insert(pg);
        }
        self.guests.look = true;
    }

    pub(super) fn group_is_whole(&mut self) {
        self.guests.look = true;
    }

    pub(super) fn guests_are_asked(&self) -> bool {
        self.guests.asking.is_empty() && !self.guests.look
    }

    pub(super) fn run_guests(&mut self) {
        if !self.guests.look || !self.boot.is_done() || self.guests.asking.len() >= AT_ONCE {
            return;
        }
        let free: Vec<DiskId> =
            self.guests.unasked.keys().copied().filter(|disk| !self.guests.asking.contains(disk)).collect();
        for disk in free {
            if self.guests.asking.len() >= AT_ONCE {
                return;
            }
            self.ask_guest(disk);
        }
        self.guests.look = false;
    }

    fn ask_guest(&mut self, disk: DiskId) {
        if !self.disks.get(&disk).is_some_and(|known| known.health.is_healthy()) {
            return;
        }
        let Some(unasked) = self.guests.unasked.get(&disk) else { return };
        let whole = |pg: &&PgId| self.groups.get(pg).is_some_and(|group| !group.dirty && group.view.full);
        let Some(pg) = unasked.iter().find(whole).copied() else { return };
        self.guests.asking.insert(disk);
        let request = NodeRequest::Holdings { pg, after: None };
        self.call(disk, NodeCall::Guest { pg }, request, Body::new(), self.config.pg.call_deadline);
    }

    pub(super) fn guest_answered(&mut self, disk: DiskId, pg: PgId, result: &Result<(NodeReply, Body), CallError>) {
        self.guests.asking.remove(&disk);
        self.guests.look = true;
        if let Some(unasked) = self.guests.unasked.get_mut(&disk) {
            // Whatever it said: a disk that does not answer comes again.
            unasked.remove(&pg);
        }
        let stranger =
            self.owner(pg).and_then(|owner| owner.row()).is_some_and(|row| row.index_held_or_joined(disk).is_none());
        if let Ok((NodeReply::HoldingsPage { holdings, .. }, _)) = result
            && !holdings.is_empty()
            && stranger
        {
            self.inbox.push_back((pg, PgEvent::Reachable { disk }));
            self.inbox.push_back((pg, PgEvent::Guest { disk }));
        }
    }
}
