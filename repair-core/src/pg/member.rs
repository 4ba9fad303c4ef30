//! One disk of the group, as it has answered so far.

use super::effect::CallId;
use crate::id::{DiskId, ExtentKey};
use crate::time::Time;
use crate::wire::node::{FragmentKey, Listed, Shaped, Tombstone};
use crate::wire::{CallError, NodeReply, Refusal};
use std::collections::BTreeSet;

/// Orders rows of one group: incarnation, then sequence number.
pub(super) type Order = (u32, u64);

/// What the coordinator said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing yet: worth a try.
    Untold,
    Yes,
    No,
}

/// Whether a member can take part in a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Usable,
    /// It will be known before long: a question to it is open, or a row write about it.
    Soon,
    /// Not now, and why.
    Out(String),
}

/// A list on its way to a disk. A snapshot: what changes meanwhile comes by the row's entries afterwards.
#[derive(Debug)]
pub(super) struct Adopting {
    pub(super) authority: crate::wire::node::Authority,
    pub(super) listed: Vec<Listed>,
    pub(super) tombstones: Vec<Tombstone>,
    pub(super) shapes: Vec<Shaped>,
    /// Whether there were any of those at the beginning: all pages are of one kind.
    pub(super) is_shaped: bool,
    pub(super) page: u32,
}

/// A count of what a disk holds, page by page.
#[derive(Debug, Default)]
pub(super) struct Counting {
    pub(super) after: Option<FragmentKey>,
    /// Extents and generations of the fragments of its index.
    pub(super) have: BTreeSet<(ExtentKey, u64)>,
    /// Whether there are fragments of other indexes.
    pub(super) others: bool,
    /// Reported damaged since the count began: its page may have been read before.
    pub(super) damaged: BTreeSet<ExtentKey>,
    /// Put on the list since the count began, and prepared by the disk.
    pub(super) created: BTreeSet<ExtentKey>,
    /// Published by a repair since the count began, as the repair says.
    pub(super) restored: BTreeSet<ExtentKey>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) disk: DiskId,
    pub(super) reach: Reach,
    /// It accepted our token: what it says counts.
    pub(super) accepted: bool,
    /// What it had heard when it was looked at, before it was given our token.
    pub(super) looked: Option<Order>,
    /// Whether it had heard any row when it answered last: its word that a row is not old is worth something.
    pub(super) remembers: bool,
    /// The row it answered to last, level or not.
    pub(super) told: Option<Order>,
    /// Whether its list came to that row.
    pub(super) level: bool,
    /// The highest row its durable list is known to come to.
    pub(super) stored: Option<Order>,
    /// Calls that failed in a row.
    pub(super) strikes: u32,
    pub(super) trouble: Option<String>,
    /// The call in flight of those that go one at a time: look, fence, hear, adopt, list.
    pub(super) busy: Option<CallId>,
    pub(super) next_try: Time,
    /// Extents on the list of which it holds no sound fragment; none before the first count.
    pub(super) missing: Option<BTreeSet<ExtentKey>>,
    pub(super) recount: bool,
    /// Whether the last listing ended after the last repair that wrote here.
    pub(super) counted: bool,
    /// The page of a listing that is asked for, beside the calls that go one at a time.
    pub(super) listing: Option<CallId>,
    pub(super) next_page: Time,
    /// The digest that is asked for, and when the next one is.
    pub(super) digest: Option<CallId>,
    pub(super) next_digest: Time,
    pub(super) counting: Option<Counting>,
    pub(super) adopting: Option<Adopting>,
}

impl Member {
    pub(super) fn new(disk: DiskId, reach: Reach) -> Self {
        Self {
            disk,
            reach,
            accepted: false,
            looked: None,
            remembers: false,
            told: None,
            level: false,
            stored: None,
            strikes: 0,
            trouble: None,
            busy: None,
            next_try: Time::ZERO,
            missing: None,
            recount: true,
            counted: false,
            listing: None,
            next_page: Time::ZERO,
            digest: None,
            next_digest: Time::ZERO,
            counting: None,
            adopting: None,
        }
    }

    /// One lost message is weather; two in a row, or no connection at all, is not.
    pub(super) fn is_failing(&self) -> bool {
        self.strikes >= 2
    }

    pub(super) fn answers(&self) -> bool {
        self.accepted && self.reach != Reach::No && !self.is_failing()
    }

    pub(super) fn condition(&self) -> Condition {
        if self.reach == Reach::No {
            return Condition::Out("is not reachable".to_owned());
        }
        if self.is_failing() {
            return Condition::Out(self.trouble.clone().unwrap_or_else(|| "does not answer".to_owned()));
        }
        if self.accepted && self.level { Condition::Usable } else { Condition::Soon }
    }

    /// Whether its durable list comes to this row.
    pub(super) fn is_at(&self, order: Order) -> bool {
        self.level && self.stored == Some(order)
    }

    /// Whether the last count found nothing missing and nothing has asked for another.
    pub(super) fn is_whole(&self) -> bool {
        !self.recount && self.missing.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// The connection, or what was behind it, is not what it was: fence it again, count again.
    pub(super) fn begin_anew(&mut self) {
        self.accepted = false;
        self.told = None;
        self.level = false;
        self.busy = None;
        self.listing = None;
        self.digest = None;
        self.counting = None;
        self.adopting = None;
        (self.recount, self.counted) = (true, false);
    }

    pub(super) fn answered(&mut self) {
        self.strikes = 0;
        self.trouble = None;
    }

    /// A call ended without the answer that was wanted.
    pub(super) fn failed(&mut self, answer: Result<NodeReply, CallError>) {
        let (strikes, trouble) = match answer {
            Err(error @ CallError::Unreachable) => (2, error.to_string()),
            Err(error) => (1, error.to_string()),
            Ok(NodeReply::Refused(Refusal::Busy(_) | Refusal::OldRow(_))) => return,
            // A node that is only starting says so, and is asked again soon.
            Ok(NodeReply::Refused(Refusal::Unavailable(reason))) => (1, reason),
            Ok(NodeReply::Refused(refusal)) => (2, refusal.to_string()),
            Ok(_) => (2, CallError::Nonsense.to_string()),
        };
        self.strikes += strikes;
        self.trouble = Some(trouble);
    }

    pub(super) fn lacks(&mut self, extent: ExtentKey) {
        if let Some(missing) = &mut self.missing {
            missing.insert(extent);
        }
    }
}
