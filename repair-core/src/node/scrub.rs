//! The slow walk over everything we owe, and over what lies beside it. One fragment at a time, never faster than the bytes per second
//! allowed; unless somebody asked for it, so slowly that a pass takes about its period.
//!
//! A pass has a number. How far it has come is written into each group's journal, when the group is done and once a minute, so that a node
//! which starts again goes on where it was. Where passes come only on request nothing is written: whoever asked asks again.

use super::journal::Change;
use super::pace::Pace;
use super::serve::Why;
use super::{Asker, Node, NodeEffect, Notice, Pending, StoreCall, StoreError, StoreOk};
use crate::id::{ExtentKey, PgId};
use crate::time::{Millis, Time};
use crate::wire::node::{FragmentKey, NodeReply};
use ec_core::fragment::Class;
use std::collections::VecDeque;
use std::ops::Bound;

/// How long to wait before looking again whether there is anything to scrub.
const NOTHING_MS: u64 = 3_600_000;
/// So much of a pass is done again by a node that starts anew, at most; a note costs a sync.
const NOTE_EVERY: Millis = Millis(60_000);
/// Orphans named in one pass; the others are only counted.
const ORPHANS_NAMED_MAX: u64 = 16;

/// Where the walk stands.
#[derive(Debug)]
pub(super) struct Scrub {
    pass: Option<Pass>,
    /// When the next pass begins.
    next_pass: Option<Time>,
    /// Set where another pass was asked for during one that was asked for.
    again: bool,
    pace: Pace,
    /// When a pass last came to its end.
    ended: Option<Time>,
}

#[derive(Debug)]
struct Pass {
    number: u64,
    left: VecDeque<PgId>,
    /// The last extent checked in the first of them.
    after: Option<ExtentKey>,
    /// How many of the list of the first of them were checked.
    judged: u64,
    /// What else lies in the folder of the first of them, once its list is done.
    strays: Option<VecDeque<FragmentKey>>,
    /// Set where somebody asked for it.
    hurry: bool,
    busy: bool,
    began: Time,
    /// When it should be through.
    deadline: Time,
    /// When the next fragment has its turn.
    due: Time,
    /// When its place was last noted within a group.
    noted: Time,
    checked: u64,
    orphans: u64,
    damaged_orphans: u64,
}

/// What a pass does next.
enum Next {
    Owed(FragmentKey),
    List(PgId),
    Stray(FragmentKey),
    Through,
}

impl Scrub {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { pass: None, next_pass: None, again: false, pace: Pace::new(bytes_per_second), ended: None }
    }

    /// Groups left to the pass under way, and how long ago the last one ended.
    pub(super) fn place(&self, now: Time) -> (Option<u64>, Option<Millis>) {
        (self.pass.as_ref().map(|pass| pass.left.len() as u64), self.ended.map(|ended| now.since(ended)))
    }
}

impl Node {
    /// Passes of a node that has just started begin where its boot number says, unless one was under way: that goes on.
    pub(super) fn begin_scrubs(&mut self) {
        if self.config.scrub_period.is_some() {
            self.scrub.next_pass = Some(self.now);
            self.resume_pass();
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
        let under_way = self.scrub.pass.as_ref().map_or(0, |pass| pass.number);
        let number = self.last_pass().max(under_way) + 1;
        let pass = self.pass(number, left, self.config.scrub_period.unwrap_or_default());
        self.scrub.pass = Some(Pass { hurry, busy, ..pass });
        self.scrub.next_pass = None;
    }

    fn pass(&self, number: u64, left: VecDeque<PgId>, period: Millis) -> Pass {
        let now = self.now;
        Pass {
            number,
            left,
            after: None,
            judged: 0,
            strays: None,
            hurry: false,
            busy: false,
            began: now,
            deadline: now + period,
            due: self.scrub.pace.ready().max(now),
            noted: now,
            checked: 0,
            orphans: 0,
            damaged_orphans: 0,
        }
    }

    /// The number of the last pass that any journal knows.
    fn last_pass(&self) -> u64 {
        self.groups.values().filter_map(|group| group.ledger.scrubbed).map(|(pass, _)| pass).max().unwrap_or(0)
    }

    /// Goes on with the pass that the journals say was under way, at the speed of a whole one: nobody knows for how long we were away.
    fn resume_pass(&mut self) {
        let number = self.last_pass();
        let is_left = |scrubbed: Option<(u64, Option<ExtentKey>)>| scrubbed != Some((number, None));
        let left =
            self.groups.iter().filter(|(_, group)| group.ledger.heard.is_some() && is_left(group.ledger.scrubbed));
        let mut left: VecDeque<PgId> = left.map(|(pg, _)| *pg).collect();
        if number == 0 || left.is_empty() {
            return;
        }
        let place = |pg: &PgId| match self.groups.get(pg)?.ledger.scrubbed {
            Some((pass, after)) if pass == number => after,
            _ => None,
        };
        let within = left.iter().position(|pg| place(pg).is_some());
        left.rotate_left(within.unwrap_or(0));
        let after = left.front().and_then(place);
        let listed = left.front().and_then(|pg| self.groups.get(pg)).map(|group| group.ledger.list());
        let judged = listed.zip(after).map_or(0, |(list, after)| list.range(..=after).count() as u64);
        let mut pass = Pass { after, judged, ..self.pass(number, left, Millis(0)) };
        let (all, period) = (u128::from(self.owed().max(1)), self.config.scrub_period.unwrap_or_default());
        let share = u128::from(period.0) * u128::from(self.remaining(&pass)) / all;
        pass.deadline = self.now + Millis(u64::try_from(share).unwrap_or(period.0).min(period.0));
        self.scrub.pass = Some(pass);
        self.scrub.next_pass = None;
    }

    fn owed(&self) -> u64 {
        self.groups.values().map(|group| group.ledger.list().len() as u64).sum()
    }

    /// Fragments that a pass has yet to judge.
    fn remaining(&self, pass: &Pass) -> u64 {
        let listed = |pg: &PgId| self.groups.get(pg).map_or(0, |group| group.ledger.list().len() as u64);
        let listed: u64 = pass.left.iter().map(listed).sum();
        listed.saturating_sub(pass.judged) + pass.strays.as_ref().map_or(0, |strays| strays.len() as u64)
    }

    /// Goes on where it is time to.
    pub(super) fn scrub_due(&mut self) {
        if self.scrub.pass.is_none() && self.scrub.next_pass.is_some_and(|next| next <= self.now) {
            self.begin_pass(false, false);
        }
        let now = self.now;
        let Some(pass) = self.scrub.pass.as_mut().filter(|pass| !pass.busy && pass.due <= now) else {
            return;
        };
        pass.busy = true;
        let number = pass.number;
        match self.next_in_pass() {
            Next::Owed(fragment) => self.check(fragment, Why::Scrub),
            Next::List(pg) => _ = self.store(Pending::Strays(pg, number), StoreCall::ListFolder { pg }),
            Next::Stray(fragment) => self.check(fragment, Why::Stray),
            Next::Through => self.end_pass(),
        }
    }

    fn next_in_pass(&mut self) -> Next {
        let disk = self.disk();
        loop {
            let Some(pass) = self.scrub.pass.as_mut() else { return Next::Through };
            let Some(pg) = pass.left.front().copied() else { return Next::Through };
            // Without a row there is no list, and nothing follows about what lies in the folder.
            let ledger = self.groups.get(&pg).map(|group| &group.ledger).filter(|ledger| ledger.heard.is_some());
            if let (Some(ledger), None) = (ledger, &pass.strays) {
                let from = pass.after.map_or(Bound::Unbounded, Bound::Excluded);
                // Some records have no fragment for this member.
                let mut rest = ledger.list().range((from, Bound::Unbounded));
                match rest.find_map(|(extent, _)| ledger.fragment(*extent, disk)) {
                    Some(fragment) => {
                        (pass.after, pass.judged) = (Some(fragment.extent), pass.judged + 1);
                        return Next::Owed(fragment);
                    }
                    None => return Next::List(pg),
                }
            }
            while let (Some(ledger), Some(stray)) = (ledger, pass.strays.as_mut().and_then(VecDeque::pop_front)) {
                if !ledger.expects(&stray, disk) {
                    return Next::Stray(stray);
                }
            }
            self.end_group(pg);
        }
    }

    /// The first of the groups left is done.
    fn end_group(&mut self, pg: PgId) {
        let Some(pass) = self.scrub.pass.as_mut() else { return };
        pass.left.pop_front();
        (pass.after, pass.judged, pass.strays) = (None, 0, None);
        let number = pass.number;
        self.note_place(pg, number, None);
    }

    /// Has the journal know how far a pass has come.
    fn note_place(&mut self, pg: PgId, pass: u64, after: Option<ExtentKey>) {
        let is_wanted = self.config.scrub_period.is_some();
        let group = self.groups.get_mut(&pg).filter(|group| is_wanted && group.ledger.heard.is_some());
        if let Some(group) = group {
            group.apply_lazily(Change::Scrubbed(pass, after));
            group.note_due = true;
            self.run_group(pg);
        }
    }

    pub(super) fn strays_listed(&mut self, pg: PgId, number: u64, result: Result<StoreOk, StoreError>) {
        let disk = self.disk();
        let Some(pass) = self.scrub.pass.as_mut() else { return };
        pass.busy = false;
        // Another pass began meanwhile, which looks for itself.
        if pass.number != number || pass.left.front() != Some(&pg) {
            return;
        }
        let ledger = self.groups.get(&pg).map(|group| &group.ledger);
        let strays = match (result, ledger) {
            (Ok(StoreOk::Folder(names)), Some(ledger)) => {
                names.into_iter().filter(|name| !ledger.expects(name, disk)).collect()
            }
            // No folder yet, or no disk: nothing follows about what lies there.
            _ => VecDeque::new(),
        };
        pass.strays = Some(strays);
    }

    /// A file was judged that nothing said should be there. Whether something does by now is looked at once more.
    pub(super) fn found_stray(&mut self, fragment: FragmentKey, class: &str) {
        let disk = self.disk();
        let group = self.groups.get(&fragment.extent.pg());
        let expected = group.is_none_or(|group| {
            group.ledger.heard.is_none() || group.ledger.expects(&fragment, disk) || group.is_preparing(fragment.extent)
        });
        let Some(pass) = self.scrub.pass.as_mut().filter(|_| !expected && class != Class::Missing.as_str()) else {
            return;
        };
        pass.orphans += 1;
        let is_whole = [Class::Healthy, Class::Stale, Class::OrphanNewer].iter().any(|whole| class == whole.as_str());
        pass.damaged_orphans += u64::from(!is_whole);
        if pass.orphans <= ORPHANS_NAMED_MAX {
            self.effects.push_back(NodeEffect::Say(Notice::Orphan { fragment, class: class.into() }));
        }
    }

    /// A fragment was judged, and so many bytes of it were read.
    pub(super) fn scrubbed(&mut self, bytes: u64) {
        let now = self.now;
        self.scrub.pace.took(now, bytes);
        let Some(pass) = &self.scrub.pass else { return };
        // What is left has what is left of the time: who is late hurries, who is early waits.
        let left_ms = pass.deadline.since(now).0 / (self.remaining(pass) + 1);
        let step = if pass.hurry || self.config.scrub_period.is_none() { 0 } else { left_ms };
        let ready = self.scrub.pace.ready();
        let Some(pass) = self.scrub.pass.as_mut() else { return };
        (pass.busy, pass.due, pass.checked) = (false, ready.max(now + Millis(step)), pass.checked + 1);
        if let (Some(pg), Some(after)) = (pass.left.front().copied(), pass.after)
            && now >= pass.noted + NOTE_EVERY
        {
            pass.noted = now;
            let number = pass.number;
            self.note_place(pg, number, Some(after));
        }
    }

    fn end_pass(&mut self) {
        let Some(pass) = self.scrub.pass.take() else { return };
        self.scrub.ended = Some(self.now);
        if pass.orphans > 0 {
            let notice = Notice::Orphans { files: pass.orphans, damaged: pass.damaged_orphans };
            self.effects.push_back(NodeEffect::Say(notice));
        }
        let next = if pass.checked == 0 { pass.deadline.min(pass.began + Millis(NOTHING_MS)) } else { pass.deadline };
        let after_now = self.now + Millis(1);
        self.scrub.next_pass = self.config.scrub_period.map(|_| next.max(after_now));
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
