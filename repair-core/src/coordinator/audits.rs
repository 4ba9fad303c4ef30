//! Audits: which extent is read whole and compared with itself next, and what becomes of what is found.
//!
//! One at a time, and none is begun while something could be repaired. What is found is told and remembered in the catalog, under
//! the condition that the placement group is still this daemon's; nothing is deleted or rewritten for it. Only parity that is known
//! to be wrong, beside data that is right, is not given to readers and to repairs of other fragments any more.

use super::audit_walk::{Listed, Pass, Step, Walk, is_drawn};
use super::effect::CoordinatorEffect;
use super::repairs::GENERATION;
use super::waits::{counted, shown};
use super::{Asker, Coordinator, JobId, Op, Timer};
use crate::catalog::{Found, Txn, TxnResult, key};
use crate::id::{ExtentKey, PgId, RecordHash};
use crate::repair::audit::paced;
use crate::repair::{AuditOutcome, AuditSpec, AuditVerdict, Finding};
use crate::time::{Millis, Time};
use crate::wire::codec::{decode_row, encode_row};
use crate::wire::daemon::Subject;
use crate::wire::node::{FragmentKey, Place};
use crate::wire::{DaemonReply, Refusal};
use std::collections::{BTreeMap, BTreeSet};

/// Before an audit that was incomplete is tried again: what keeps it back is repaired meanwhile, or a disk is away.
const FIRST_DELAY: Millis = Millis(2_000);
const LAST_DELAY: Millis = Millis(10 * 60 * 1_000);
/// Extents that wait to be tried again; at so many no others are added: they are put off.
const LATER_MAX: usize = 10_000;
/// Extents asked for by name that wait.
const ASKED_MAX: usize = 10_000;
/// Extents of a turn that cannot be begun now.
const PASSED_OVER_MAX: usize = 100;
/// A finding whose group changes all the time is given up after so many tries, and looked for anew later.
const JUDGE_TRIES: u32 = 20;
/// How often what was found is compared with what is still on file.
const TIDY_EVERY: Millis = Millis(10_000);
/// What of the audits a catalog operation is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row {
    /// The finding that is being judged.
    Park,
    /// Whether a finding that was given up was written all the same.
    Look(ExtentKey),
    /// A finding that is over.
    Unpark(ExtentKey),
}

/// An audit under way.
#[derive(Debug)]
struct Running {
    job: JobId,
    extent: ExtentKey,
    hash: RecordHash,
    sources: BTreeMap<u16, Place>,
    began: Time,
}

/// Something found, before it is said.
#[derive(Debug)]
struct Judging {
    extent: ExtentKey,
    hash: RecordHash,
    sources: BTreeMap<u16, Place>,
    finding: Finding,
    tries: u32,
    /// Whether it may have been written though that was not confirmed.
    is_unsure: bool,
    /// When it is tried next; none while it is.
    due: Option<Time>,
}

/// Extents whose audit is tried again.
#[derive(Debug, Default)]
struct Later {
    delays: BTreeMap<ExtentKey, Millis>,
    due: BTreeSet<(Time, ExtentKey)>,
}

impl Later {
    fn is_full(&self) -> bool {
        self.delays.len() >= LATER_MAX
    }

    /// False where too many wait already.
    fn add(&mut self, extent: ExtentKey, now: Time) -> bool {
        if self.is_full() && !self.delays.contains_key(&extent) {
            return false;
        }
        let delay = self.delays.get(&extent).map_or(FIRST_DELAY, |delay| Millis((delay.0 * 2).min(LAST_DELAY.0)));
        self.delays.insert(extent, delay);
        self.due.retain(|(_, waiting)| *waiting != extent);
        self.due.insert((now + delay, extent))
    }

    fn pop(&mut self, now: Time) -> Option<ExtentKey> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.pop_first().map(|(_, extent)| extent)
    }

    fn over(&mut self, extent: ExtentKey) {
        self.delays.remove(&extent);
        self.due.retain(|(_, waiting)| *waiting != extent);
    }
}

/// What audits have done so far, in this life of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) sound: u64,
    pub(super) incomplete: u64,
    pub(super) found_wrong: u64,
    /// Not to be begun or ended, and not waiting to be tried again: left to another pass.
    pub(super) put_off: u64,
    pub(super) read_bytes: u64,
}

/// All about audits.
#[derive(Debug, Default)]
pub(super) struct Audits {
    /// Extents found wrong that are still on file.
    parked: BTreeMap<ExtentKey, Finding>,
    /// Of them, those found sound since, until their rows are deleted.
    cleared: BTreeSet<ExtentKey>,
    /// Findings that were given up and may have been written, and when to look.
    looks: BTreeSet<(Time, ExtentKey)>,
    pass: Option<Pass>,
    drawn: Walk,
    asked: Walk,
    asked_extents: BTreeSet<ExtentKey>,
    /// What had been done when an operator asked, until all of that is done.
    campaign: Option<Totals>,
    later: Later,
    running: Option<Running>,
    judging: Option<Judging>,
    /// Not before, for the rate's sake.
    next_at: Time,
    tidied: Time,
    pub(super) totals: Totals,
    /// When one ended last.
    pub(super) last: Option<Time>,
}

impl Audits {
    /// What was found wrong with an extent.
    pub(super) fn finding(&self, extent: ExtentKey) -> Option<&Finding> {
        self.parked.get(&extent)
    }

    /// Whether this parity is known not to be what the code makes of its data.
    pub(super) fn is_wrong_parity(&self, extent: ExtentKey, index: usize) -> bool {
        let wrong = self.parked.get(&extent).map_or(&[][..], Finding::wrong_parity);
        wrong.iter().any(|parity| usize::from(*parity) == index)
    }

    /// All that were found wrong.
    pub(super) fn parked(&self) -> &BTreeMap<ExtentKey, Finding> {
        &self.parked
    }

    /// The extent that is being audited.
    pub(super) fn under_way(&self) -> Option<ExtentKey> {
        let judged = self.judging.as_ref().map(|judging| judging.extent);
        self.running.as_ref().map(|running| running.extent).or(judged)
    }

    /// Extents whose audit was incomplete or could not be begun.
    pub(super) fn to_try_again(&self) -> usize {
        self.later.delays.len()
    }

    /// Whether what an operator asked for is not done yet.
    pub(super) fn are_asked_for(&self) -> bool {
        self.campaign.is_some()
    }

    fn is_idle(&self) -> bool {
        self.running.is_none() && self.judging.is_none()
    }

    fn has_asked(&self) -> bool {
        !self.asked.is_empty() || !self.asked_extents.is_empty()
    }

    fn has_work(&self, now: Time) -> bool {
        self.has_asked() || !self.drawn.is_empty() || self.later.due.first().is_some_and(|(at, _)| *at <= now)
    }
}

/// Why an extent is not audited now.
enum NotNow {
    /// It is not on file, or about to go.
    Gone,
    /// Not every fragment can be read now, for all that is known.
    Later,
}

impl Coordinator {
    /// An operator wants audits at once: of everything, of a placement group, of an extent.
    pub(super) fn audit_wanted(&mut self, asker: Asker, subject: Option<&Subject>) {
        match self.add_asked(subject) {
            Ok(()) => {
                let totals = self.audits.totals;
                self.audits.campaign.get_or_insert(totals);
                self.reply(asker, DaemonReply::Noted);
            }
            Err(refusal) => self.refuse(asker, refusal),
        }
    }

    fn add_asked(&mut self, subject: Option<&Subject>) -> Result<(), Refusal> {
        match subject {
            None => self.groups.keys().for_each(|pg| self.audits.asked.add(*pg)),
            Some(Subject::Pg(pg)) if self.groups.contains_key(pg) => self.audits.asked.add(*pg),
            Some(Subject::Pg(_)) => return Err(Refusal::NotFound),
            Some(Subject::Extent(extent)) => {
                let owner = self.owner(extent.pg()).ok_or(Refusal::NotFound)?;
                if !owner.is_ready() {
                    return Err(Refusal::Unavailable(format!("placement group {} is not ready", extent.pg())));
                }
                owner.listed(*extent).ok_or(Refusal::NotFound)?;
                if self.audits.asked_extents.len() >= ASKED_MAX {
                    return Err(Refusal::Busy(format!("{ASKED_MAX} extents wait to be audited")));
                }
                self.audits.asked_extents.insert(*extent);
            }
            Some(Subject::Node(_) | Subject::Disk(_)) => {
                let what = "only the whole cell, a placement group or an extent can be audited";
                return Err(Refusal::Invalid(what.into()));
            }
        }
        Ok(())
    }

    /// Begins the next audit when its time has come, and brings what was found to its end.
    pub(super) fn run_audits(&mut self) {
        if self.is_ending() || !self.boot.is_done() || !self.may_begin() {
            return;
        }
        self.tidy_parked();
        self.look_for_written();
        self.draw_groups();
        if self.audits.judging.as_ref().and_then(|judging| judging.due).is_some_and(|due| due <= self.now) {
            self.judge();
        }
        self.begin_audit();
        self.campaign_ends();
        let later = self.audits.later.due.first().map(|(at, _)| *at);
        let pace = self.audits.has_work(self.now).then_some(self.audits.next_at);
        let now = self.now;
        for at in later.into_iter().chain(pace).filter(|at| *at > now) {
            self.at(at, Timer::Audits);
        }
    }

    /// Groups whose moment of this pass has come.
    fn draw_groups(&mut self) {
        if self.config.audit_one_in == 0 {
            return;
        }
        let number = match &self.audits.pass {
            None => Some(self.dice.child("first pass of audits", 0).bits()),
            Some(pass) if pass.is_over(self.now) => Some(pass.number.wrapping_add(1)),
            Some(_) => None,
        };
        if let Some(number) = number {
            let groups = self.groups.keys().copied();
            self.audits.pass = Some(Pass::begin(number, self.now, self.config.audit_period, groups));
        }
        let Some(pass) = &mut self.audits.pass else { return };
        while let Some(pg) = pass.pop(self.now) {
            self.audits.drawn.add(pg);
        }
        let next = pass.next();
        if next > self.now {
            self.at(next, Timer::Audits);
        }
    }

    fn begin_audit(&mut self) {
        if !self.audits.is_idle() || self.audits.next_at > self.now || !self.audits.has_work(self.now) {
            return;
        }
        // Whatever ends that is part of a repair leads here again.
        if self.could_repair() {
            return;
        }
        for _ in 0..PASSED_OVER_MAX {
            let extent = match self.next_to_audit() {
                Step::Extent(extent) => extent,
                Step::More => break,
                Step::Nothing => return,
            };
            match self.audit_spec(extent) {
                Ok(spec) => return self.start_audit(spec),
                Err(NotNow::Gone) => self.audits.later.over(extent),
                Err(NotNow::Later) => drop(self.try_later(extent)),
            }
        }
        self.after(Millis(1), Timer::Audits);
    }

    /// What was asked for comes first, then what was incomplete, then what was drawn.
    fn next_to_audit(&mut self) -> Step {
        let mut audits = std::mem::take(&mut self.audits);
        let step = self.next_of(&mut audits);
        self.audits = audits;
        step
    }

    fn next_of(&self, audits: &mut Audits) -> Step {
        let listed = |pg: PgId| match self.owner(pg) {
            Some(owner) if owner.is_ready() => Listed::List(owner.list()),
            Some(_) => Listed::Unready,
            None => Listed::Gone,
        };
        if let Some(extent) = audits.asked_extents.pop_first() {
            return Step::Extent(extent);
        }
        match audits.asked.step(listed, |_| true) {
            Step::Nothing => {}
            found => return found,
        }
        if let Some(extent) = audits.later.pop(self.now) {
            return Step::Extent(extent);
        }
        let Some(pass) = &audits.pass else { return Step::Nothing };
        audits.drawn.step(listed, |extent| is_drawn(extent, pass.number, self.config.audit_one_in))
    }

    /// Has an extent audited again later. False where so many wait for that already that it is put off.
    fn try_later(&mut self, extent: ExtentKey) -> bool {
        let waits = self.audits.later.add(extent, self.now);
        self.audits.totals.put_off += u64::from(!waits);
        waits
    }

    fn audit_spec(&self, extent: ExtentKey) -> Result<AuditSpec, NotNow> {
        let owner = self.owner(extent.pg()).filter(|owner| owner.is_ready()).ok_or(NotNow::Later)?;
        let hash = owner.listed(extent).filter(|_| !self.doomed.contains(extent)).ok_or(NotNow::Gone)?;
        let members = owner.row().map_or(0, |row| row.members.len());
        let slots = owner.slots();
        let holder = |index: u16| self.holder(&slots, extent, usize::from(index)).map(|place| (index, place));
        let sources: BTreeMap<u16, Place> = (0u16..).take(members).filter_map(holder).collect();
        if sources.len() < members {
            return Err(NotNow::Later);
        }
        Ok(AuditSpec { extent, hash, sources, bytes_per_second: self.config.audit_bytes_per_second })
    }

    fn start_audit(&mut self, spec: AuditSpec) {
        let job = JobId(self.number());
        let sources = spec.sources.clone();
        let running = Running { job, extent: spec.extent, hash: spec.hash, sources, began: self.now };
        self.audits.running = Some(running);
        self.effects.push_back(CoordinatorEffect::Audit { job, spec: Box::new(spec) });
    }

    pub(super) fn audit_done(&mut self, job: JobId, outcome: AuditOutcome) {
        let Some(running) = self.audits.running.take_if(|running| running.job == job) else { return };
        let Running { extent, hash, sources, began, .. } = running;
        self.audits.next_at = paced(began, outcome.read_bytes, self.config.audit_bytes_per_second);
        self.audits.totals.read_bytes += outcome.read_bytes;
        if let AuditVerdict::Wrong(finding) = outcome.verdict {
            self.audits.judging =
                Some(Judging { extent, hash, sources, finding, tries: 0, is_unsure: false, due: None });
            return self.judge();
        }
        if self.is_gone(extent, hash) {
            return self.audits.later.over(extent);
        }
        match outcome.verdict {
            AuditVerdict::Sound => self.audit_was_sound(extent),
            AuditVerdict::Incomplete { reason } => {
                for suspect in &outcome.suspects {
                    let fragment = FragmentKey { extent, generation: GENERATION, index: suspect.index };
                    self.check(suspect.place.disk, fragment);
                }
                self.audit_was_incomplete(extent, &reason);
            }
            AuditVerdict::Wrong(_) => {}
        }
    }

    /// Whether an extent is surely not on file any more as it was when its audit began.
    fn is_gone(&self, extent: ExtentKey, hash: RecordHash) -> bool {
        let Some(owner) = self.owner(extent.pg()) else { return true };
        owner.is_ready() && (owner.listed(extent) != Some(hash) || self.doomed.contains(extent))
    }

    fn audit_was_sound(&mut self, extent: ExtentKey) {
        self.audits.totals.sound += 1;
        self.audits.last = Some(self.now);
        self.audits.later.over(extent);
        if self.audits.parked.contains_key(&extent) {
            self.audits.cleared.insert(extent);
            self.unpark(extent);
        }
    }

    fn audit_was_incomplete(&mut self, extent: ExtentKey, reason: &str) {
        self.audits.totals.incomplete += 1;
        self.audits.last = Some(self.now);
        let then = if self.try_later(extent) { "will be tried again" } else { "is put off" };
        let text = format!("the audit of extent {extent} is incomplete and {then}: {reason}");
        self.note("audit_incomplete", text, vec![("extent", extent.to_string()), ("reason", reason.to_owned())]);
    }

    /// Holds a finding against what is true now, and writes it down if the group is still this daemon's. Every commit moves the
    /// group's row, so that is not compared: the list cannot change but by this daemon, and what it deletes meanwhile is tidied.
    fn judge(&mut self) {
        let Some(judging) = &self.audits.judging else { return };
        let (extent, hash) = (judging.extent, judging.hash);
        if self.is_gone(extent, hash) {
            self.give_finding_up();
            return self.audits.later.over(extent);
        }
        let owner = self.owner(extent.pg()).filter(|owner| owner.is_ready());
        let Some((owner, txn)) = owner.zip(self.txn_as_owner(extent)) else {
            return self.judge_later();
        };
        let slots = owner.slots();
        let is_there = |(index, place): (&u16, &Place)| {
            self.holder(&slots, extent, usize::from(*index)).is_some_and(|holder| holder.disk == place.disk)
        };
        if !judging.sources.iter().all(is_there) {
            self.give_finding_up();
            return self.audit_was_incomplete(extent, "not every fragment is where it was read any more");
        }
        let Ok(value) = encode_row(&(hash, &judging.finding)) else { return self.judge_later() };
        let txn = txn.put(key::audit(extent), value);
        if let Some(judging) = &mut self.audits.judging {
            judging.due = None;
        }
        self.txn(Op::Audit(Row::Park), txn);
    }

    fn judge_later(&mut self) {
        let due = self.now + self.retry_after();
        let Some(judging) = &mut self.audits.judging else { return };
        judging.tries += 1;
        if judging.tries == JUDGE_TRIES {
            let extent = judging.extent;
            self.give_finding_up();
            return self.audit_was_incomplete(extent, "what was found could not be written down");
        }
        judging.due = Some(due);
        self.at(due, Timer::Audits);
    }

    /// Holds only while the extent's group is this daemon's; none while that is not known.
    fn txn_as_owner(&self, extent: ExtentKey) -> Option<Txn> {
        let pg = extent.pg();
        Some(Txn::new().compare(key::owner(pg), self.owner(pg)?.owner_revision()?))
    }

    /// A finding is not said. A transaction whose end is not known may have written it, or do so in a moment.
    fn give_finding_up(&mut self) {
        if let Some(judging) = self.audits.judging.take().filter(|judging| judging.is_unsure) {
            self.look_later(judging.extent, TIDY_EVERY);
        }
    }

    fn look_later(&mut self, extent: ExtentKey, delay: Millis) {
        self.audits.looks.insert((self.now + delay, extent));
        self.after(delay, Timer::Audits);
    }

    fn look_for_written(&mut self) {
        while let Some((_, extent)) = self.audits.looks.first().copied().filter(|(at, _)| *at <= self.now) {
            self.audits.looks.pop_first();
            self.get(Op::Audit(Row::Look(extent)), vec![key::audit(extent)]);
        }
    }

    /// What was written was judged and counts, though it was not heard of then.
    pub(super) fn audit_row_read(&mut self, row: Row, rows: Result<Vec<Option<Found>>, String>) {
        let Row::Look(extent) = row else { return };
        match rows {
            Err(_) => self.look_later(extent, self.retry_after()),
            Ok(rows) => {
                let found = rows.into_iter().next().flatten();
                let read = found.and_then(|found| decode_row::<(RecordHash, Finding)>(&found.value).ok());
                if let Some((_, finding)) = read.filter(|_| !self.audits.parked.contains_key(&extent)) {
                    self.found_wrong(extent, finding);
                }
            }
        }
    }

    pub(super) fn audit_row_written(&mut self, row: Row, result: TxnResult) {
        match (row, result) {
            (Row::Park, TxnResult::Done { .. }) => {
                if let Some(Judging { extent, finding, .. }) = self.audits.judging.take() {
                    self.found_wrong(extent, finding);
                }
            }
            (Row::Park, TxnResult::Refused | TxnResult::Unknown) => {
                if let Some(judging) = &mut self.audits.judging {
                    judging.is_unsure = true;
                }
                self.judge_later();
            }
            (Row::Unpark(extent), TxnResult::Done { .. }) => self.unparked(extent),
            // Tried again with the next tidying.
            (Row::Unpark(_) | Row::Look(_), _) => {}
        }
    }

    fn found_wrong(&mut self, extent: ExtentKey, finding: Finding) {
        self.audits.cleared.remove(&extent);
        self.audits.totals.found_wrong += 1;
        self.audits.last = Some(self.now);
        self.audits.later.over(extent);
        let text = format!("extent {extent} was found wrong by an audit: {finding}. Nothing was changed");
        let mut fields = vec![("extent", extent.to_string()), ("finding", finding.to_string())];
        let named = match &finding {
            Finding::Roots { fragments } | Finding::Parity { fragments } => fragments,
            Finding::ExtentHash { parity } => parity,
        };
        fields.push(("fragments", named.iter().map(u16::to_string).collect::<Vec<_>>().join(",")));
        self.note("audit_found_wrong", text, fields);
        self.audits.parked.insert(extent, finding);
    }

    /// A finding is over: the extent is gone, or sound.
    fn unpark(&mut self, extent: ExtentKey) {
        let txn = if self.owner(extent.pg()).is_some() { self.txn_as_owner(extent) } else { Some(Txn::new()) };
        if let Some(txn) = txn {
            self.txn(Op::Audit(Row::Unpark(extent)), txn.delete(key::audit(extent)));
        }
    }

    fn unparked(&mut self, extent: ExtentKey) {
        self.audits.parked.remove(&extent);
        if self.audits.cleared.remove(&extent) {
            let text = format!("extent {extent}, found wrong by an audit before, is sound by another");
            self.note("audit_cleared", text, vec![("extent", extent.to_string())]);
        }
    }

    /// Forgets what was found of extents that are not on file any more, or sound.
    fn tidy_parked(&mut self) {
        if self.audits.parked.is_empty() {
            return;
        }
        let next = self.audits.tidied + TIDY_EVERY;
        if next > self.now {
            return self.at(next, Timer::Audits);
        }
        self.audits.tidied = self.now;
        let gone = |extent: &ExtentKey| {
            let owner = self.owner(extent.pg());
            self.audits.cleared.contains(extent)
                || owner.is_none_or(|owner| owner.is_ready() && owner.listed(*extent).is_none())
        };
        let gone: Vec<ExtentKey> = self.audits.parked.keys().copied().filter(gone).collect();
        gone.into_iter().for_each(|extent| self.unpark(extent));
    }

    /// What an earlier life of the daemon found.
    pub(super) fn finding_known(&mut self, row: &Found) {
        let found = key::audit_of(&row.key).zip(decode_row::<(RecordHash, Finding)>(&row.value).ok());
        if let Some((extent, (_, finding))) = found {
            self.audits.parked.insert(extent, finding);
        } else {
            let key = String::from_utf8_lossy(&row.key).into_owned();
            self.note("audit_row_unreadable", format!("the catalog's row {key:?} cannot be read"), vec![]);
        }
    }

    /// Groups to be audited whose lists are not proven.
    fn unready_to_audit(&self) -> BTreeSet<PgId> {
        let unready = |pg: &PgId| self.owner(*pg).is_some_and(|owner| !owner.is_ready());
        self.audits.asked.groups().chain(self.audits.drawn.groups()).filter(unready).collect()
    }

    /// Whether nothing that was asked for is left but groups that may never become ready.
    fn is_asked_done(&self) -> bool {
        let is_left =
            |pg: PgId| self.groups.get(&pg).is_some_and(|group| group.owner.is_ready() || self.is_young(group));
        self.audits.is_idle() && self.audits.asked_extents.is_empty() && !self.audits.asked.groups().any(is_left)
    }

    /// Says so when all that an operator asked for was audited, or cannot be now.
    fn campaign_ends(&mut self) {
        if !self.is_asked_done() {
            return;
        }
        let Some(before) = self.audits.campaign.take() else { return };
        let now = self.audits.totals;
        let (sound, incomplete) = (now.sound - before.sound, now.incomplete - before.incomplete);
        let (wrong, put_off) = (now.found_wrong - before.found_wrong, now.put_off - before.put_off);
        let (again, unready) = (self.audits.to_try_again(), self.audits.asked.groups().count());
        let mut text = format!(
            "the audit that was asked for is over: {sound} extents sound, {incomplete} incomplete, {wrong} found wrong; \
             {again} will be tried again"
        );
        for (count, what) in [
            (put_off, "extents are put off, for not every fragment could be read and too many wait for that"),
            (unready as u64, "placement groups are not ready and are audited once they are"),
        ] {
            if count > 0 {
                text.push_str(&format!("; {count} {what}"));
            }
        }
        let fields = vec![
            ("sound", sound.to_string()),
            ("incomplete", incomplete.to_string()),
            ("found_wrong", wrong.to_string()),
            ("to_try_again", again.to_string()),
            ("put_off", put_off.to_string()),
            ("unready_groups", unready.to_string()),
        ];
        self.note("audit_done", text, fields);
    }

    /// What audits wait for, by name.
    pub(super) fn waits_of_audits(&self, waits: &mut Vec<String>) {
        let audits = &self.audits;
        if audits.has_work(self.now) && audits.is_idle() && self.could_repair() {
            waits.push("audits wait until nothing is left that could be repaired now".into());
        }
        if audits.to_try_again() > 0 {
            let text = "extents of which not every fragment could be read are audited again later";
            waits.push(format!("{} {text}", audits.to_try_again()));
        }
        if audits.later.is_full() {
            waits.push("audits put off whatever else cannot be read whole: too many extents wait for that".into());
        }
        let unready: Vec<PgId> = self.unready_to_audit().into_iter().collect();
        if !unready.is_empty() {
            let groups = counted(unready.len(), "placement group");
            waits.push(format!("{groups} to be audited once ready: {}", shown(&unready)));
        }
    }

    /// As if too many extents of a group that does not exist waited to be tried again.
    #[cfg(test)]
    pub(super) fn crowd_audits(&mut self) {
        let never = self.now + Millis(1_000_000_000);
        let extents = (0..LATER_MAX as u128).map(|number| ExtentKey(u128::MAX - number));
        self.audits.later.delays = extents.clone().map(|extent| (extent, LAST_DELAY)).collect();
        self.audits.later.due = extents.map(|extent| (never, extent)).collect();
    }
}
