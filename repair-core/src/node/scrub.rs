//! The slow walk over everything we owe. One fragment at a time; unless somebody asked for it, so slowly that a pass takes
//! about its period.

use super::serve::Why;
use super::{Asker, Node};
use crate::id::{ExtentKey, PgId};
use crate::time::{Millis, Time};
use crate::wire::node::{FragmentKey, NodeReply};
use std::collections::VecDeque;
use std::ops::Bound;

/// How long to wait before looking again whether there is anything to scrub.
const NOTHING_MS: u64 = 3_600_000;

/// Where the walk stands.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    pass: Option<Pass>,
    /// When the next pass begins.
    next_pass: Option<Time>,
    /// Set where another pass was asked for during one that was asked for.
    again: bool,
}

#[derive(Debug)]
struct Pass {
    left: VecDeque<PgId>,
    /// The last extent checked in the first of them.
    after: Option<ExtentKey>,
    /// Set where somebody asked for it.
    hurry: bool,
    busy: bool,
    began: Time,
    /// When the next fragment has its turn.
    due: Time,
    checked: u64,
}

impl Node {
    /// Passes of a node that has just started begin where its boot number says: one that restarts often gets everywhere.
    pub(super) fn begin_scrubs(&mut self) {
        if self.config.scrub_period.is_some() {
            self.scrub.next_pass = Some(self.now);
        }
    }

    pub(super) fn scrub_now(&mut self, asker: Asker) {
        if self.scrub.pass.as_ref().is_some_and(|pass| pass.hurry) {
            self.scrub.again = true;
        } else {
            // The check that a slow pass has under way ends as one of this pass; that does no harm.
            let busy = self.scrub.pass.as_ref().is_some_and(|pass| pass.busy);
            self.begin_pass(true, busy);
        }
        self.reply(asker, NodeReply::Scrubbing);
    }

    fn begin_pass(&mut self, hurry: bool, busy: bool) {
        let mut left: VecDeque<PgId> = self.groups.keys().copied().collect();
        let boot = self.host.as_ref().map_or(0, |host| host.boot);
        if !hurry && !left.is_empty() {
            left.rotate_left((boot % left.len() as u64) as usize);
        }
        let now = self.now;
        self.scrub.pass = Some(Pass { left, after: None, hurry, busy, began: now, due: now, checked: 0 });
        self.scrub.next_pass = None;
    }

    /// Goes on where it is time to.
    pub(super) fn scrub_due(&mut self) {
        if self.scrub.pass.is_none() && self.scrub.next_pass.is_some_and(|next| next <= self.now) {
            self.begin_pass(false, false);
        }
        let now = self.now;
        let Some(pass) = self.scrub.pass.as_mut().filter(|pass| !pass.busy && (pass.hurry || pass.due <= now)) else {
            return;
        };
        pass.busy = true;
        match self.next_owed() {
            Some(fragment) => self.check(fragment, Why::Scrub),
            None => self.end_pass(),
        }
    }

    /// The next fragment that we owe.
    fn next_owed(&mut self) -> Option<FragmentKey> {
        let disk = self.disk();
        let pass = self.scrub.pass.as_mut()?;
        while let Some(pg) = pass.left.front() {
            let from = pass.after.map_or(Bound::Unbounded, Bound::Excluded);
            let ledger = self.groups.get(pg).map(|group| &group.ledger);
            let next = ledger.and_then(|ledger| {
                let (extent, _) = ledger.list().range((from, Bound::Unbounded)).next()?;
                ledger.fragment(*extent, disk)
            });
            if let Some(fragment) = next {
                pass.after = Some(fragment.extent);
                return Some(fragment);
            }
            pass.left.pop_front();
            pass.after = None;
        }
        None
    }

    /// A fragment was judged.
    pub(super) fn scrubbed(&mut self) {
        let owed = self.groups.values().map(|group| group.ledger.list().len() as u64).sum::<u64>().max(1);
        let step = self.config.scrub_period.map_or(Millis(0), |period| Millis((period.0 / owed).max(1)));
        let now = self.now;
        if let Some(pass) = &mut self.scrub.pass {
            (pass.busy, pass.due, pass.checked) = (false, now + step, pass.checked + 1);
        }
    }

    fn end_pass(&mut self) {
        let Some(pass) = self.scrub.pass.take() else { return };
        let rest = |period: Millis| {
            let wait = if pass.checked == 0 { period.0.min(NOTHING_MS) } else { period.0 };
            (pass.began + Millis(wait)).max(self.now + Millis(1))
        };
        self.scrub.next_pass = self.config.scrub_period.map(rest);
        if std::mem::take(&mut self.scrub.again) {
            self.begin_pass(true, false);
            self.scrub_due();
        }
    }

    pub(super) fn scrub_wake(&self) -> Option<Time> {
        match &self.scrub.pass {
            Some(pass) => Some(pass.due).filter(|_| !pass.busy),
            None => self.scrub.next_pass,
        }
    }
}
