//! The lease: standing by until it is held, beginning nothing while it has lapsed, handing it over.

use super::effect::Stopped;
use super::{Asker, Coordinator, Op, Timer};
use crate::ownership::{LeaseEffect, LeaseEnd, LeaseEvent, LeaseOutcome};
use crate::time::Time;
use crate::wire::{DaemonRequest, Refusal};

impl Coordinator {
    /// Something happens to the lease.
    pub(super) fn lease(&mut self, event: LeaseEvent) {
        self.ownership.handle(self.now, event);
        while let Some(effect) = self.ownership.poll_effect() {
            match effect {
                LeaseEffect::Read { op } => self.get(Op::Lease(op), vec![crate::catalog::key::lease()]),
                LeaseEffect::Write { op, txn } => self.txn(Op::Lease(op), txn),
                LeaseEffect::WakeAt(at) => self.wake_lease(at),
                LeaseEffect::Outcome(outcome) => self.lease_outcome(outcome),
            }
        }
    }

    fn wake_lease(&mut self, at: Time) {
        if let Some(before) = self.lease_wake.replace(at) {
            self.timers.remove(&(before, Timer::Lease));
        }
        self.at(at, Timer::Lease);
    }

    fn lease_outcome(&mut self, outcome: LeaseOutcome) {
        let own = self.config.lease.daemon.clone();
        match outcome {
            LeaseOutcome::Taken { right, before } => {
                let text = match &before {
                    Some(before) if *before != own => format!("daemon {own} takes over from daemon {before}"),
                    _ => format!("daemon {own} is in charge of the cell"),
                };
                let before = before.unwrap_or_default();
                self.note("lease_taken", text, vec![("right", right.as_str().into()), ("before", before)]);
                self.lease_is_held();
            }
            LeaseOutcome::Lapsed => {
                let text = "the lease could not be renewed in time: nothing new is begun until it is";
                self.note("lease_lapsed", text.into(), vec![]);
            }
            LeaseOutcome::Regained => self.note("lease_regained", "the lease is renewed again".into(), vec![]),
            LeaseOutcome::Ended(LeaseEnd::Superseded { by }) => self.stop(Stopped::Superseded { by }),
            LeaseOutcome::Ended(LeaseEnd::HandedOver) => {
                self.note("lease_handed_over", format!("daemon {own} has handed the cell over"), vec![]);
                self.stop(Stopped::HandedOver);
            }
            LeaseOutcome::Ended(LeaseEnd::Broken(error)) => self.stop(Stopped::Lease(error)),
        }
    }

    /// Whether repairs, audits, deletions and allocations may be begun. What was begun goes on: it is fenced by its tokens.
    pub(super) fn may_begin(&self) -> bool {
        self.ownership.may_begin(self.now)
    }

    /// Lets go of the lease once what was begun has ended.
    pub(super) fn hand_over_onwards(&mut self) {
        let rests = self.repairs.running.is_empty() && self.audits.under_way().is_none() && self.making.is_none();
        if self.ownership.is_handing_over() && rests && self.tasks.is_empty() {
            self.lease(LeaseEvent::WorkEnded);
        }
    }

    /// Answers what a daemon does not do that is not in charge, or not surely any more. False where it does it.
    pub(super) fn is_refused_by_lease(&mut self, asker: Asker, request: &DaemonRequest) -> bool {
        let wait = self.ownership.wait().unwrap_or_default();
        if self.ownership.is_standby() {
            // Who asks elsewhere while this one may be in charge the next moment would only be sent back.
            let behind = self.ownership.is_behind_another();
            self.refuse(asker, if behind { Refusal::NotOwner(wait) } else { Refusal::Unavailable(wait) });
            return true;
        }
        let begins = matches!(
            request,
            DaemonRequest::BeginPut { .. }
                | DaemonRequest::Allocate { .. }
                | DaemonRequest::Remove { .. }
                | DaemonRequest::RemoveIf { .. }
        );
        if begins && self.ownership.is_held() && !self.may_begin() {
            self.refuse(asker, Refusal::Unavailable(wait));
            return true;
        }
        false
    }
}
