//! Changes that will not be. Members are told, remember it, and testify: with marks on m + 1 of them no loss that the code
//! survives can bring the change back, not even a rebuild of the catalog from what members have prepared (`commit.md` line 13).

use super::effect::{CallId, Ticket};
use super::group::{Asked, Group, Settled, What};
use crate::catalog::EntryKind;
use crate::id::{AttemptId, DiskId};
use crate::node::Body;
use crate::time::Time;
use crate::wire::node::Prepared;
use crate::wire::{CallError, NodeReply, NodeRequest};
use std::collections::{BTreeMap, BTreeSet};

const ABORT_TRIES: u32 = 3;

/// A change that can never take effect, while members are being told.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) tickets: Vec<Ticket>,
    pub(super) kind: EntryKind,
    reason: String,
    marks: BTreeSet<DiskId>,
    targets: BTreeMap<DiskId, Telling>,
}

#[derive(Debug, Default)]
struct Telling {
    call: Option<CallId>,
    tries: u32,
    next_try: Time,
}

impl Group {
    /// Tells members that an attempt is dead, and then the ones who wait for it.
    pub(super) fn bury(
        &mut self,
        attempt: AttemptId,
        kind: EntryKind,
        tickets: Vec<Ticket>,
        reason: String,
        disks: Vec<DiskId>,
    ) {
        let (marks, targets) = (BTreeSet::new(), BTreeMap::new());
        let dead = self.dead.entry(attempt).or_insert(Dead { tickets: vec![], kind, reason, marks, targets });
        dead.tickets.extend(tickets);
        for disk in disks.into_iter().filter(|disk| !dead.marks.contains(disk)) {
            dead.targets.entry(disk).or_default();
        }
    }

    /// Changes that a member prepared for an earlier owner and that the proven list does not have: that owner's row is gone, so
    /// nothing can commit them any more. And those of this claim that are dead.
    pub(super) fn heed_leftovers(&mut self, disk: DiskId, prepared: &[Prepared]) {
        if !self.is_ready() || self.frozen.is_some() {
            return;
        }
        for change in prepared {
            let ours = change.attempt.claim == self.token.claim;
            let settled = self.settled.get(&change.attempt.number);
            let over = matches!(settled, Some(Settled::Dead | Settled::Failed)) || self.is_long_over(change.attempt);
            if ours && !over {
                continue;
            }
            // What another incarnation prepared is evidence for whoever restored the catalog.
            let of_now = change.extent.incarnation() == self.cell.incarnation;
            let listed = self.list.get(&change.extent) == Some(&change.hash);
            let done = match change.kind {
                EntryKind::Delete => !listed,
                EntryKind::Create | EntryKind::CreateOther | EntryKind::Supersede => listed,
                // Nothing is done by it that would have to be undone; its member hears of the end by the next list it is given.
                EntryKind::Release => !self.waits_for_release(change.extent, &change.hash),
            };
            if of_now && !done {
                let reason = "its owner is gone".to_owned();
                self.bury(change.attempt, change.kind, Vec::new(), reason, vec![disk]);
            }
        }
    }

    pub(super) fn drive_dead(&mut self) {
        if !self.may_change() {
            return;
        }
        for attempt in self.dead.keys().copied().collect::<Vec<_>>() {
            for disk in self.tellable(attempt) {
                let request = NodeRequest::Abort { authority: Box::new(self.authority()), attempt };
                let call = self.send(disk, What::Abort(attempt), request, Body::new(), self.config.call_deadline);
                if let Some(telling) = self.dead.get_mut(&attempt).and_then(|dead| dead.targets.get_mut(&disk)) {
                    (telling.call, telling.tries) = (Some(call), telling.tries + 1);
                }
            }
            self.conclude(attempt);
        }
    }

    fn tellable(&self, attempt: AttemptId) -> Vec<DiskId> {
        let Some(dead) = self.dead.get(&attempt) else { return Vec::new() };
        let due = dead.targets.iter().filter(|(disk, telling)| {
            let answers = self.members.get(disk).is_some_and(|member| member.answers());
            answers && telling.call.is_none() && telling.tries < ABORT_TRIES && telling.next_try <= self.now
        });
        due.map(|(disk, _)| *disk).collect()
    }

    /// Whether this disk may still be told.
    fn may_be_told(&self, disk: &DiskId, telling: &Telling) -> bool {
        let answers = self.members.get(disk).is_some_and(|member| member.answers());
        telling.call.is_some() || (answers && telling.tries < ABORT_TRIES)
    }

    /// Ends the wait of those who asked: with certainty once enough members testify, without it once nobody is left to ask.
    fn conclude(&mut self, attempt: AttemptId) {
        let Some(dead) = self.dead.get(&attempt) else { return };
        let marked = self.row.members.iter().filter(|disk| dead.marks.contains(disk)).count();
        let certain = marked >= self.quorum();
        let over = !dead.targets.iter().any(|(disk, telling)| self.may_be_told(disk, telling));
        if certain && attempt.claim == self.token.claim {
            self.remember_end(attempt.number, Settled::Failed);
        }
        if !certain && !over {
            return;
        }
        let Some(dead) = self.dead.get_mut(&attempt) else { return };
        let (tickets, kind, reason) = (std::mem::take(&mut dead.tickets), dead.kind, dead.reason.clone());
        if over {
            self.dead.remove(&attempt);
        }
        for ticket in tickets {
            if certain {
                self.tell_dead(kind, ticket, &reason);
            } else {
                let reason = format!("{reason}; too few members could be told that it is dead");
                self.tell_unknown(kind, ticket, &reason);
            }
        }
    }

    pub(super) fn on_abort_answer(&mut self, asked: Asked, attempt: AttemptId, answer: Result<NodeReply, CallError>) {
        let (now, later) = (self.now, self.now + self.config.retry_after);
        let stale = asked.sent != self.row.order();
        let Some(dead) = self.dead.get_mut(&attempt) else { return };
        match answer {
            Ok(NodeReply::Aborted { attempt: aborted }) if aborted == attempt => {
                dead.targets.remove(&asked.disk);
                dead.marks.insert(asked.disk);
            }
            answer => {
                let Some(telling) = dead.targets.get_mut(&asked.disk) else { return };
                telling.call = None;
                telling.next_try = later;
                if stale && matches!(answer, Ok(NodeReply::Refused(crate::wire::Refusal::OldRow(_)))) {
                    (telling.tries, telling.next_try) = (telling.tries - 1, now);
                }
            }
        }
    }

    pub(super) fn drop_aborts(&mut self, disk: DiskId) {
        for dead in self.dead.values_mut() {
            if let Some(telling) = dead.targets.get_mut(&disk) {
                telling.call = None;
            }
        }
    }

    /// Calls to disks that are no members any more are not waited for.
    pub(super) fn forget_aborts(&mut self) {
        for telling in self.dead.values_mut().flat_map(|dead| dead.targets.values_mut()) {
            telling.call = telling.call.filter(|call| self.calls.contains_key(call));
        }
    }

    pub(super) fn next_of_dead(&self) -> Option<Time> {
        let targets = self.dead.values().flat_map(|dead| &dead.targets);
        let waiting = targets.filter(|(disk, telling)| telling.call.is_none() && self.may_be_told(disk, telling));
        waiting.map(|(_, telling)| telling.next_try).filter(|at| *at > self.now).min()
    }
}
