//! Extents that nothing refers to any more: deleted in the background.
//!
//! What is in memory is a hint. Each deletion reads the doomed row and compares it in the very transaction that takes the extent
//! off its list: without that row nothing is deleted.

use super::{Coordinator, Op, TicketUse, Timer};
use crate::catalog::{Found, Txn, TxnResult, key};
use crate::id::{ExtentKey, PgId};
use crate::pg::{DeleteResult, PgEvent, Ticket};
use crate::time::{Millis, Time};
use std::collections::{BTreeMap, BTreeSet};

/// Deletions under way at once.
const AT_ONCE: usize = 64;
const FIRST_DELAY: Millis = Millis(250);
const LAST_DELAY: Millis = Millis(8_000);
const SWEEP_AFTER: Millis = Millis(5_000);
/// A daemon that was deposed and lives on may doom extents at any time.
const SWEEP_EVERY: Millis = Millis(60_000);
const SWEEP_PAGE: usize = 1_000;

/// An extent believed to be doomed.
#[derive(Clone, Copy, Debug)]
struct Doom {
    /// When it is tried next; none while it is.
    due: Option<Time>,
    delay: Millis,
    revision: u64,
}

/// All that are believed to be doomed.
#[derive(Debug, Default)]
pub(super) struct Doomed {
    all: BTreeMap<ExtentKey, Doom>,
    due: BTreeSet<(Time, ExtentKey)>,
}

impl Doomed {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn contains(&self, extent: ExtentKey) -> bool {
        self.all.contains_key(&extent)
    }

    fn under_way(&self) -> usize {
        self.all.len() - self.due.len()
    }

    /// Those being deleted, and those to be tried later.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.under_way(), self.due.len())
    }

    fn set_due(&mut self, extent: ExtentKey, due: Option<Time>) {
        let Some(doom) = self.all.get_mut(&extent) else { return };
        if let Some(old) = std::mem::replace(&mut doom.due, due) {
            self.due.remove(&(old, extent));
        }
        self.due.extend(due.map(|at| (at, extent)));
    }

    fn add(&mut self, extent: ExtentKey, now: Time) {
        if !self.contains(extent) {
            self.all.insert(extent, Doom { due: None, delay: FIRST_DELAY, revision: 0 });
            self.set_due(extent, Some(now));
        }
    }

    fn later(&mut self, extent: ExtentKey, now: Time) {
        let Some(doom) = self.all.get_mut(&extent) else { return };
        let delay = doom.delay;
        doom.delay = Millis((delay.0 * 2).min(LAST_DELAY.0));
        self.set_due(extent, Some(now + delay));
    }

    fn remove(&mut self, extent: ExtentKey) {
        self.set_due(extent, None);
        self.all.remove(&extent);
    }
}

impl Coordinator {
    pub(super) fn doom(&mut self, extent: ExtentKey) {
        self.doomed.add(extent, self.now);
    }

    /// A group has become ready: what waited for it is tried at once.
    pub(super) fn hasten_doomed(&mut self, pg: PgId) {
        let waiting: Vec<ExtentKey> =
            self.doomed.due.iter().filter(|(_, extent)| extent.pg() == pg).map(|(_, extent)| *extent).collect();
        for extent in waiting {
            self.doomed.set_due(extent, Some(self.now));
        }
    }

    /// A transaction that dooms extents may take effect after it was given up: what it left is looked for some time later.
    pub(super) fn sweep_later(&mut self) {
        self.after(SWEEP_AFTER, Timer::Sweep);
    }

    pub(super) fn sweep(&mut self, after: Option<Vec<u8>>) {
        self.get_range(Op::Sweep, key::DOOMED.to_vec(), after, SWEEP_PAGE);
    }

    pub(super) fn swept(&mut self, rows: Result<Vec<Found>, String>) {
        let Ok(rows) = rows else { return self.sweep_later() };
        for extent in rows.iter().filter_map(|row| key::doomed_of(&row.key)) {
            self.doom(extent);
        }
        if let Some(last) = rows.last().filter(|_| rows.len() == SWEEP_PAGE) {
            self.sweep(Some(last.key.clone()));
        } else if !self.timers.iter().any(|(_, timer)| *timer == Timer::Sweep) {
            self.after(SWEEP_EVERY, Timer::Sweep);
        }
    }

    pub(super) fn run_doomed(&mut self) {
        if !self.boot.is_done() || !self.may_begin() {
            return;
        }
        let mut extents = Vec::new();
        while extents.len() + self.doomed.under_way() < AT_ONCE {
            let Some((_, extent)) = self.doomed.due.first().copied().filter(|(at, _)| *at <= self.now) else { break };
            if self.owner(extent.pg()).is_some_and(|owner| owner.is_ready()) {
                self.doomed.set_due(extent, None);
                extents.push(extent);
            } else {
                self.doomed.later(extent, self.now);
            }
        }
        if let Some((at, _)) = self.doomed.due.first().copied().filter(|(at, _)| *at > self.now) {
            self.at(at, Timer::Doomed);
        }
        if !extents.is_empty() {
            let keys = extents.iter().map(|extent| key::doomed(*extent)).collect();
            self.get(Op::Doomed { extents }, keys);
        }
    }

    pub(super) fn doomed_read(&mut self, extents: &[ExtentKey], rows: Result<Vec<Option<Found>>, String>) {
        let Ok(rows) = rows else {
            return extents.iter().for_each(|extent| self.doomed.later(*extent, self.now));
        };
        for (extent, found) in extents.iter().zip(rows) {
            match found {
                // Not doomed, or deleted already.
                None => self.doomed.remove(*extent),
                Some(found) => self.delete(*extent, found.revision),
            }
        }
    }

    fn undoom(extent: ExtentKey, revision: u64) -> Txn {
        Txn::new().compare(key::doomed(extent), revision).delete(key::doomed(extent))
    }

    pub(super) fn delete(&mut self, extent: ExtentKey, revision: u64) {
        if let Some(doom) = self.doomed.all.get_mut(&extent) {
            doom.revision = revision;
        }
        let ticket = Ticket(self.number());
        self.tickets.insert(ticket, TicketUse::Delete { extent });
        let beside = Self::undoom(extent, revision);
        self.inbox.push_back((extent.pg(), PgEvent::Delete { ticket, extent, beside }));
    }

    pub(super) fn deleted(&mut self, extent: ExtentKey, result: DeleteResult) {
        match result {
            DeleteResult::Deleted => {
                self.doomed.remove(extent);
                self.sizes.remove(&extent);
                self.damaged.retain(|(_, damaged)| *damaged != extent);
            }
            DeleteResult::NotListed => {
                let revision = self.doomed.all.get(&extent).map_or(0, |doom| doom.revision);
                self.txn(Op::Undoomed { extent }, Self::undoom(extent, revision));
            }
            DeleteResult::NotNow { .. } | DeleteResult::Unknown { .. } => self.doomed.later(extent, self.now),
        }
    }

    pub(super) fn undoomed(&mut self, extent: ExtentKey, result: TxnResult) {
        match result {
            TxnResult::Done { .. } => self.doomed.remove(extent),
            TxnResult::Refused | TxnResult::Unknown => self.doomed.later(extent, self.now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_not_due_and_comes_again_later_and_later() {
        let (one, two) = (ExtentKey(1), ExtentKey(2));
        let mut doomed = Doomed::default();
        doomed.add(one, Time::ZERO);
        doomed.add(one, Time::from_millis(5));
        doomed.add(two, Time::from_millis(5));
        assert_eq!((doomed.len(), doomed.under_way()), (2, 0));
        doomed.set_due(one, None);
        assert_eq!((doomed.under_way(), doomed.due.first()), (1, Some(&(Time::from_millis(5), two))));
        let mut delays = Vec::new();
        for _ in 0..7 {
            doomed.later(one, Time::ZERO);
            delays.push(doomed.due.last().unwrap().0.as_millis());
        }
        assert_eq!(delays, [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000]);
        doomed.remove(one);
        doomed.remove(two);
        assert!(doomed.is_empty() && doomed.due.is_empty());
    }
}
