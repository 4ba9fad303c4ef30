//! Extents whose repair failed: when they are tried again, and what is to change before they are.

use super::repairs::Running;
use super::view::{GroupView, NeedView};
use crate::catalog::PgRow;
use crate::id::DiskId;
use crate::time::{Millis, Time};
use ec_core::ShardSet;
use std::collections::{BTreeMap, BTreeSet};

const FIRST_DELAY: Millis = Millis(1_000);
const LAST_DELAY: Millis = Millis(60_000);
/// Tries that may fail alike, over about three minutes: what goes away by itself is gone by then.
pub(super) const FAILED_ALIKE_MAX: u32 = 8;
/// An extent that is parked is tried again after so long though nothing has changed: not all that a repair depends on is known here.
pub(super) const PARKED_FOR: Millis = Millis(10 * 60 * 1_000);

/// An extent whose last repair did not bring all it needs.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    pub(super) until: Time,
    delay: Millis,
    pub(super) reason: String,
    /// Tries in a row that failed for this reason.
    alike: u32,
    /// What its group was like after the last of them.
    seen: Option<Seen>,
    /// Since when it has lacked something, whatever was tried, and what was read of it since.
    pub(super) since: Time,
    /// And for its turn.
    pub(super) turn_from: Time,
    pub(super) blocked_reads: u32,
    /// How near to loss it was.
    margin: Option<usize>,
    /// Whether it was to copy parity that is known to be wrong.
    pub(super) was_copy: bool,
}

/// What a repair depends on, as far as the extent's group tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    members: Vec<DiskId>,
    joining: BTreeMap<u16, DiskId>,
    unreachable: BTreeSet<DiskId>,
    uncounted: BTreeSet<DiskId>,
    targets: Vec<(u16, DiskId)>,
    lost: ShardSet,
}

impl Seen {
    fn of(row: &PgRow, view: &GroupView, need: &NeedView) -> Self {
        Self {
            members: row.members.clone(),
            joining: row.joining.clone(),
            unreachable: view.unreachable.clone(),
            uncounted: view.uncounted.clone(),
            targets: need.targets.clone(),
            lost: need.lost,
        }
    }
}

impl Backoff {
    /// After a repair that failed, and perhaps others before it.
    pub(super) fn after(before: Option<Self>, now: Time, failed: &Running, reason: String) -> Self {
        let alike = before.as_ref().filter(|before| before.reason == reason).map_or(1, |before| before.alike + 1);
        let doubled = before.map_or(FIRST_DELAY, |before| Millis((before.delay.0 * 2).min(LAST_DELAY.0)));
        Self {
            until: now + if alike < FAILED_ALIKE_MAX { doubled } else { PARKED_FOR },
            delay: doubled,
            reason,
            alike,
            seen: None,
            since: failed.since,
            turn_from: failed.turn_from,
            blocked_reads: failed.blocked_reads,
            margin: failed.margin_in_domains,
            was_copy: failed.is_copy,
        }
    }

    /// Whether something is to change before it is tried again.
    pub(super) fn is_parked(&self) -> bool {
        self.alike >= FAILED_ALIKE_MAX
    }

    /// Its group was looked over. What has come nearer to loss than it was is not to wait long for its next try, and what was parked
    /// not longer than until something is different. Returns whether it is tried earlier than was said.
    pub(super) fn judge(&mut self, now: Time, row: &PgRow, view: &GroupView, need: &NeedView) -> bool {
        let seen = self.is_parked().then(|| Seen::of(row, view, need));
        let differs = self.seen.is_some() && self.seen != seen;
        self.seen = seen;
        // None, which cannot be read, comes before all numbers; nothing can be done for it.
        let fell = need.margin_in_domains.is_some() && need.margin_in_domains < self.margin;
        self.margin = need.margin_in_domains;
        let soon = now + FIRST_DELAY;
        if !(fell || differs) || self.until <= soon {
            return false;
        }
        (self.until, self.delay, self.alike) = (soon, FIRST_DELAY, 0);
        true
    }
}
