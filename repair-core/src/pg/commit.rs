//! Creates and deletes: prepared on members, then committed by a write of the row.

use super::effect::{CreateResult, DeleteResult, PgOutcome, Ticket};
use super::group::{Asked, Group, Settled, What};
use super::member::Condition;
use super::supersede::Grant;
use crate::catalog::{EntryKind, Txn};
use crate::id::{AttemptId, DiskId, ExtentKey, RecordHash};
use crate::node::Body;
use crate::shape::{BIRTH_GENERATION, Shape};
use crate::time::{Millis, Time};
use crate::wire::node::Prepared;
use crate::wire::{CallError, NodeReply, NodeRequest, Refusal};
use ec_core::fragment::ExtentRecord;
use std::collections::{BTreeMap, BTreeSet};

/// Changes that members are asked to prepare at the same time; more wait their turn.
const PREPARING_MAX: usize = 64;
/// A node has a share of the time that a prepare may take; then it is asked again, which does no harm.
const PREPARE_TRIES: u64 = 4;

/// A change under way.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) tickets: Vec<Ticket>,
    pub(super) kind: EntryKind,
    pub(super) extent: ExtentKey,
    pub(super) hash: RecordHash,
    /// The record on the list that it needs to be there; none of a create.
    pub(super) base: Option<RecordHash>,
    /// The files of its record.
    pub(super) shape: Shape,
    record: Body,
    pub(super) beside: Txn,
    /// Where its fragments were sent, by index; of a delete nothing.
    pub(super) placed: Vec<Option<DiskId>>,
    started: Time,
    marks: BTreeMap<DiskId, Mark>,
    /// Set while a write of the row that would commit it is under way or in doubt.
    pub(super) writing: bool,
    /// Not with others in one transaction: one it was in did not go through.
    pub(super) alone: bool,
    /// Writes it was in that were killed.
    pub(super) killed: u32,
}

/// A deletion of what is not on the list: answered once the row was read after it was asked for.
#[derive(Debug)]
pub(super) struct Absent {
    pub(super) ticket: Ticket,
    pub(super) extent: ExtentKey,
    pub(super) looking: bool,
}

/// What a member said to a prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    Asked {
        tries: u64,
    },
    Later {
        at: Time,
        tries: u64,
    },
    Yes,
    /// It may have prepared once, but does not name it any more: what it said before it lost its memory counts for nothing, and
    /// it is asked again. Still a mark, for it may yet have to be told of the attempt's end.
    Forgotten,
    /// It goes without this member, if the policy allows and the row says so first. `silent` where the member itself is in doubt,
    /// and not only its part of this change.
    Not {
        reason: String,
        silent: bool,
    },
    /// Not this change, on no member.
    Never(String),
}

/// What to do with a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    /// Ask these members to prepare.
    Ask(Vec<DiskId>),
    /// Everyone it needs has prepared.
    Ready,
    /// The others have; these must be behind in the row before it goes on.
    Mark(BTreeSet<DiskId>),
    /// It cannot be; these did not answer.
    Abort(String, BTreeSet<DiskId>),
}

impl Change {
    /// Disks that have prepared it.
    pub(super) fn prepared(&self) -> BTreeSet<DiskId> {
        self.marks.iter().filter(|(_, mark)| **mark == Mark::Yes).map(|(disk, _)| *disk).collect()
    }

    /// Disks that may have heard of it.
    pub(super) fn heard_of(&self) -> impl Iterator<Item = DiskId> + '_ {
        self.marks.keys().copied()
    }

    pub(super) fn is_known_to(&self, disk: DiskId) -> bool {
        self.marks.contains_key(&disk)
    }

    /// Whether a disk may have heard of it by then.
    pub(super) fn was_known_to(&self, disk: DiskId, then: Time) -> bool {
        self.is_known_to(disk) && self.started <= then
    }

    pub(super) fn was_sent(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Whether its fragment of this index was granted to this disk.
    fn was_placed(&self, index: Option<u16>, disk: DiskId) -> bool {
        let is_owed = self.kind.has_record() && index.is_none_or(|index| self.shape.has(index));
        !is_owed || index.and_then(|index| self.placed.get(usize::from(index))) == Some(&Some(disk))
    }

    /// Disks it goes without.
    pub(super) fn without(&self) -> impl Iterator<Item = DiskId> + '_ {
        self.marks.iter().filter(|(_, mark)| matches!(mark, Mark::Not { .. })).map(|(disk, _)| *disk)
    }

    /// Whether it waits for a whole group: nothing is urgent about it, and no member may miss it.
    pub(super) fn needs_all(&self) -> bool {
        self.kind.has_shape() || self.kind == EntryKind::Release
    }

    fn is_asking(&self) -> bool {
        self.was_sent() && !self.writing
    }
}

impl Group {
    pub(super) fn on_create(
        &mut self,
        ticket: Ticket,
        attempt: AttemptId,
        extent: ExtentKey,
        record: Body,
        beside: Txn,
    ) {
        let hash = RecordHash::of(&record);
        if self.is_ready()
            && let Some(listed) = self.list.get(&extent)
        {
            let result = if *listed == hash {
                CreateResult::Committed { degraded: self.lacks(extent) }
            } else {
                CreateResult::Failed { reason: "another record is on file under this id".to_owned() }
            };
            return self.out.tell(PgOutcome::Created { ticket, result });
        }
        if let Some(change) = self.changes.get_mut(&attempt) {
            if (change.extent, change.hash) == (extent, hash) {
                change.tickets.push(ticket);
            } else {
                self.tell_failed(ticket, "another record of this attempt is being committed");
            }
            return;
        }
        let placed = match self.granted.get(&attempt.number) {
            Some(Grant::Create { extent: granted, members })
                if attempt.claim == self.token.claim && *granted == extent =>
            {
                members.clone()
            }
            _ => return self.create_again(ticket, EntryKind::Create, attempt, extent),
        };
        self.granted.remove(&attempt.number);
        // No member was asked yet, so nobody can ever bring it to life: that is as good as everybody's word.
        let refused = match &self.frozen {
            Some(reason) => Err(format!("the group is frozen: {reason}")),
            None if !self.is_ready() => Err("no list is proven yet".to_owned()),
            None => self.check_created(extent, &record),
        };
        let (kind, shape) = match refused {
            Ok(sound) => sound,
            Err(reason) => {
                self.remember_end(attempt.number, Settled::Failed);
                self.tell_failed(ticket, &reason);
                return;
            }
        };
        let change = Change { placed, shape, beside, ..self.change(kind, extent, hash, record) };
        self.begin(attempt, Change { tickets: vec![ticket], ..change });
    }

    /// A change as it begins: no conditions beside it, no member asked.
    pub(super) fn change(&self, kind: EntryKind, extent: ExtentKey, hash: RecordHash, record: Body) -> Change {
        Change {
            tickets: Vec::new(),
            kind,
            extent,
            hash,
            base: None,
            shape: Shape::of_group(self.n()),
            record,
            beside: Txn::new(),
            placed: Vec::new(),
            started: self.now,
            marks: BTreeMap::new(),
            writing: false,
            alone: false,
            killed: 0,
        }
    }

    /// A change with a record whose attempt is not open here: of an earlier claim, forsaken, or over. It is not on the list, so it is dead;
    /// whether it failed for ever is for the members to say.
    pub(super) fn create_again(&mut self, ticket: Ticket, kind: EntryKind, attempt: AttemptId, extent: ExtentKey) {
        let ours = attempt.claim == self.token.claim;
        if ours && self.settled.get(&attempt.number) == Some(&Settled::Failed) {
            self.tell_dead(kind, ticket, "the attempt has failed");
        } else if self.tombstones.contains_key(&extent) {
            self.tell_dead(kind, ticket, "the extent was deleted since");
        } else if !self.may_change() {
            self.tell_unknown(kind, ticket, "the group cannot say yet what is on file");
        } else {
            if ours {
                self.remember_end(attempt.number, Settled::Dead);
            }
            let disks = self.row.members.clone();
            let reason = "the attempt is not open any more";
            self.bury(attempt, kind, vec![ticket], reason.to_owned(), disks);
        }
    }

    pub(super) fn tell_failed(&mut self, ticket: Ticket, reason: &str) {
        let result = CreateResult::Failed { reason: reason.to_owned() };
        self.out.tell(PgOutcome::Created { ticket, result });
    }

    pub(super) fn tell_deleted(&mut self, ticket: Ticket, result: DeleteResult) {
        self.out.tell(PgOutcome::Deleted { ticket, result });
    }

    /// Whether a record is one of this extent, with fragments for this group's members that were born together. A parsed record's
    /// fragments are of its cell and extent, one for each index.
    pub(super) fn check_record(&self, extent: ExtentKey, bytes: &Body) -> Result<(ExtentRecord, Shape), String> {
        let record = ExtentRecord::parse(bytes).map_err(|error| format!("the record cannot be read: {error}"))?;
        if record.cell != self.cell.cell.id() || record.extent != extent.id() {
            return Err("the record is of another extent".to_owned());
        }
        let shape = Shape::of_record(&record).filter(|shape| usize::from(shape.fragments) <= self.n());
        let shape = shape.ok_or("the record names fragments of several births, or more than there are members")?;
        Ok((record, shape))
    }

    /// The kind and the files of an extent's first record.
    fn check_created(&self, extent: ExtentKey, bytes: &Body) -> Result<(EntryKind, Shape), String> {
        let (record, shape) = self.check_record(extent, bytes)?;
        if record.revision != 1 || shape.generation != BIRTH_GENERATION {
            return Err("the record is of another birth".to_owned());
        }
        match record.code.to_descriptor() {
            code if code == self.row.code => Ok((EntryKind::Create, shape)),
            code if Some(code) == self.config.birth_code => Ok((EntryKind::CreateOther, shape)),
            _ => Err("the record is of another code".to_owned()),
        }
    }

    pub(super) fn on_delete(&mut self, ticket: Ticket, extent: ExtentKey, beside: Txn) {
        let not_now = |reason: &str| DeleteResult::NotNow { reason: reason.to_owned() };
        if !self.may_change() {
            return self.tell_deleted(ticket, not_now("the group takes no changes now"));
        }
        if let Some(change) = self.changes.values_mut().find(|change| change.extent == extent) {
            match change.kind {
                EntryKind::Delete => change.tickets.push(ticket),
                EntryKind::Create | EntryKind::CreateOther => {
                    self.tell_deleted(ticket, not_now("it is being created"));
                }
                EntryKind::Supersede => self.tell_deleted(ticket, not_now("its record is being replaced")),
                EntryKind::Release => self.tell_deleted(ticket, not_now("what it was before is being released")),
            }
            return;
        }
        let Some(hash) = self.list.get(&extent).copied() else {
            // An owner that does not know yet that it was deposed has an old list: look first whose the row is (line 19).
            self.absent.push(Absent { ticket, extent, looking: false });
            return;
        };
        let attempt = self.new_attempt();
        let change = self.change(EntryKind::Delete, extent, hash, Body::new());
        self.begin(attempt, Change { tickets: vec![ticket], base: Some(hash), beside, ..change });
    }

    /// The row was read, and the list sums to it.
    pub(super) fn answer_absent(&mut self) {
        let (looked, rest) = std::mem::take(&mut self.absent).into_iter().partition(|absent| absent.looking);
        self.absent = rest;
        let looked: Vec<Absent> = looked;
        for Absent { ticket, extent, .. } in looked {
            let result = if self.list.contains_key(&extent) {
                DeleteResult::NotNow { reason: "it was just created".to_owned() }
            } else {
                DeleteResult::NotListed
            };
            self.tell_deleted(ticket, result);
        }
    }

    pub(super) fn begin(&mut self, attempt: AttemptId, change: Change) {
        self.changes.insert(attempt, change);
    }

    pub(super) fn on_forsake(&mut self, attempt: AttemptId) {
        if attempt.claim == self.token.claim && self.granted.remove(&attempt.number).is_some() {
            self.remember_end(attempt.number, Settled::Failed);
        }
    }

    /// Does with every change what is to be done.
    pub(super) fn drive_changes(&mut self) {
        if !self.may_change() {
            return;
        }
        let mut asking = self.changes.values().filter(|change| change.is_asking()).count();
        let attempts: Vec<AttemptId> = self.changes.keys().copied().collect();
        for attempt in attempts {
            let Some(change) = self.changes.get(&attempt) else { continue };
            if change.writing || (!change.was_sent() && asking >= PREPARING_MAX) {
                continue;
            }
            let fresh = !change.was_sent();
            match self.judge(change) {
                Verdict::Wait | Verdict::Ready => {}
                Verdict::Ask(disks) => {
                    asking += usize::from(fresh);
                    disks.into_iter().for_each(|disk| self.ask_prepare(attempt, disk));
                }
                Verdict::Mark(disks) => self.go_without(attempt, disks),
                Verdict::Abort(reason, silent) => {
                    self.to_mark.extend(silent);
                    self.give_up(attempt, reason);
                }
            }
        }
    }

    /// The row will say that these are behind; then the change can do without them.
    fn go_without(&mut self, attempt: AttemptId, disks: BTreeSet<DiskId>) {
        if let Some(change) = self.changes.get_mut(&attempt) {
            for disk in &disks {
                let reason = "is to be behind".to_owned();
                change.marks.entry(*disk).or_insert(Mark::Not { reason, silent: false });
            }
        }
        self.to_mark.extend(disks);
    }

    /// What stands between a change and its commit, by the row as it is now. Whoever is a member now must have prepared it,
    /// whoever was one when it began.
    pub(super) fn judge(&self, change: &Change) -> Verdict {
        if self.list.get(&change.extent) != change.base.as_ref() {
            return Verdict::Abort("the list has changed under it".to_owned(), BTreeSet::new());
        }
        if let Err(reason) = self.may_go_on(change) {
            return Verdict::Abort(reason, BTreeSet::new());
        }
        let (mut yes, mut ask, mut open) = (0, Vec::new(), false);
        let (mut out, mut silent, mut why) = (BTreeSet::new(), BTreeSet::new(), String::new());
        for disk in self.not_behind() {
            match self.stand(change, disk) {
                Stand::Yes => yes += 1,
                Stand::Ask => ask.push(disk),
                Stand::Wait => open = true,
                Stand::Out { reason, silent: is_silent } => {
                    why = format!("disk {disk} {reason}");
                    out.insert(disk);
                    silent.extend(is_silent.then_some(disk));
                }
                Stand::Never(reason) => {
                    return Verdict::Abort(format!("disk {disk} refused it: {reason}"), BTreeSet::new());
                }
            }
        }
        let possible = self.not_behind().count() - out.len();
        if change.kind == EntryKind::Create && !self.may_be_created(possible) {
            let why = if why.is_empty() { "the group takes no new extents now".to_owned() } else { why };
            // Nobody left who answers: then it may be us who are cut off.
            let answers = |disk: DiskId| self.members.get(&disk).is_some_and(|m| m.condition() == Condition::Usable);
            let others = self.not_behind().any(|disk| !silent.contains(&disk) && answers(disk));
            let marked = if others { silent } else { BTreeSet::new() };
            return Verdict::Abort(why, marked);
        }
        if !out.is_empty() && change.needs_all() {
            // Nothing is lost by it, and what the members lack is for others to find out.
            return Verdict::Abort(why, BTreeSet::new());
        }
        if !ask.is_empty() {
            return Verdict::Ask(ask);
        }
        if open {
            return Verdict::Wait;
        }
        match (yes, out.is_empty()) {
            (0, _) => Verdict::Abort(format!("no member could prepare it: {why}"), BTreeSet::new()),
            (_, true) => Verdict::Ready,
            (_, false) => Verdict::Mark(out),
        }
    }

    fn stand(&self, change: &Change, disk: DiskId) -> Stand {
        let late = self.now >= change.started + self.config.prepare_deadline;
        match change.marks.get(&disk) {
            Some(Mark::Yes) => return Stand::Yes,
            Some(Mark::Not { reason, silent }) => return Stand::Out { reason: reason.clone(), silent: *silent },
            Some(Mark::Never(reason)) => return Stand::Never(reason.clone()),
            Some(Mark::Asked { .. }) => return Stand::Wait,
            Some(Mark::Later { at, .. }) if !late && *at > self.now => return Stand::Wait,
            Some(Mark::Later { .. }) if late => {
                return Stand::Out { reason: "did not prepare it in time".to_owned(), silent: true };
            }
            Some(Mark::Later { .. } | Mark::Forgotten) | None => {}
        }
        if !change.was_placed(self.row.index_of(disk), disk) {
            return Stand::Out { reason: "was not written to".to_owned(), silent: false };
        }
        match self.members.get(&disk).map(super::member::Member::condition) {
            Some(Condition::Usable) => Stand::Ask,
            Some(Condition::Soon) if !late => Stand::Wait,
            // Deleting can wait for a node that is only being started again.
            Some(Condition::Out(_)) if change.kind == EntryKind::Delete && self.now < self.patience(change) => {
                Stand::Wait
            }
            Some(Condition::Out(reason)) => Stand::Out { reason, silent: true },
            Some(Condition::Soon) | None => Stand::Out { reason: "does not come to the row".to_owned(), silent: true },
        }
    }

    fn patience(&self, change: &Change) -> Time {
        change.started + self.config.call_deadline
    }

    /// Line 10: all members, or the policy: enough to lose one more, with what is missing in the place of losses.
    pub(super) fn may_be_created(&self, fragments: usize) -> bool {
        let n = self.n();
        let least = (self.k() + 1).max(self.quorum());
        let whole = fragments == n && self.row.state == crate::catalog::PgState::Open;
        whole || (self.config.degraded_creates && fragments >= least && n - fragments < self.tolerance().max(1))
    }

    /// Losses of which every pattern can be decoded.
    fn tolerance(&self) -> usize {
        *self.tolerance.get_or_init(|| {
            let code = self.row.code_spec().and_then(|spec| ec_core::Code::new(&spec));
            code.map_or(0, |code| code.guaranteed_tolerance())
        })
    }

    fn ask_prepare(&mut self, attempt: AttemptId, disk: DiskId) {
        let authority = Box::new(self.authority());
        let now = self.now;
        let Some(change) = self.changes.get_mut(&attempt) else { return };
        if !change.was_sent() {
            change.started = now;
        }
        let tries = match change.marks.get(&disk) {
            Some(Mark::Later { tries, .. }) => *tries,
            _ => 0,
        };
        change.marks.insert(disk, Mark::Asked { tries: tries + 1 });
        let (kind, extent, hash, body) = (change.kind, change.extent, change.hash, change.record.clone());
        let request = NodeRequest::Prepare { authority, attempt, kind, extent, hash };
        let deadline = Millis((self.config.prepare_deadline.0 / PREPARE_TRIES).max(1));
        self.send(disk, What::Prepare(attempt), request, body, deadline);
    }

    pub(super) fn on_prepare_answer(&mut self, asked: Asked, attempt: AttemptId, answer: Result<NodeReply, CallError>) {
        let (now, later) = (self.now, self.now + self.config.retry_after);
        let stale = asked.sent != self.row.order();
        let Some(change) = self.changes.get_mut(&attempt) else { return };
        let Some(Mark::Asked { tries }) = change.marks.get(&asked.disk).cloned() else { return };
        let not = |reason: String, silent| Mark::Not { reason, silent };
        let again = |at| {
            if tries < PREPARE_TRIES { Mark::Later { at, tries } } else { not("is too busy".to_owned(), false) }
        };
        let mut behind = false;
        let mark = match answer {
            Ok(NodeReply::Prepared { attempt: prepared }) if prepared == attempt => Mark::Yes,
            Err(CallError::Unreachable) => not("is not reachable".to_owned(), true),
            // It may have prepared; asking again does no harm.
            Err(_) if tries < PREPARE_TRIES => again(later),
            Err(error) => not(format!("did not answer: {error}"), true),
            Ok(NodeReply::Refused(refusal)) => match refusal {
                // Our own later row was there first: try with that.
                Refusal::OldRow(_) if stale => Mark::Later { at: now, tries: tries - 1 },
                Refusal::Behind(_) => {
                    behind = true;
                    again(later)
                }
                Refusal::Busy(_) => again(later),
                Refusal::RootMismatch(_) | Refusal::Invalid(_) | Refusal::Aborted | Refusal::WrongCell(_) => {
                    Mark::Never(refusal.to_string())
                }
                // Its part of this change is lost; what it stored before is not.
                Refusal::NotStaged(_) | Refusal::NoSpace(_) => not(format!("refused: {refusal}"), false),
                _ => not(format!("refused: {refusal}"), true),
            },
            Ok(_) => not(CallError::Nonsense.to_string(), true),
        };
        change.marks.insert(asked.disk, mark);
        if behind && let Some(member) = self.members.get_mut(&asked.disk) {
            // Its word on the row as it is now decides whether the row must say so too.
            member.told = None;
            member.level = false;
        }
    }

    /// A disk may have lost what it had prepared: only what it names now is prepared there. Answers still on their way are as old
    /// as the ones that came.
    pub(super) fn take_back_prepared(&mut self, disk: DiskId, prepared: &[Prepared]) {
        let named: BTreeSet<AttemptId> = prepared.iter().map(|change| change.attempt).collect();
        for (_, change) in self.changes.iter_mut().filter(|(attempt, _)| !named.contains(attempt)) {
            if let Some(mark @ (Mark::Asked { .. } | Mark::Yes)) = change.marks.get_mut(&disk) {
                *mark = Mark::Forgotten;
            }
        }
        self.calls.retain(|_, asked| match asked.what {
            What::Prepare(attempt) => asked.disk != disk || named.contains(&attempt),
            _ => true,
        });
    }

    /// A disk is not reachable any more: it will not answer.
    pub(super) fn drop_prepares(&mut self, disk: DiskId) {
        for change in self.changes.values_mut() {
            if let Some(mark @ (Mark::Asked { .. } | Mark::Later { .. })) = change.marks.get_mut(&disk) {
                *mark = Mark::Not { reason: "is not reachable".to_owned(), silent: true };
            }
        }
    }

    pub(super) fn next_of_changes(&self) -> Option<Time> {
        if !self.may_change() {
            return None;
        }
        let open = self.changes.values().filter(|change| !change.writing);
        let times = open.flat_map(|change| {
            let later = change.marks.values().filter_map(|mark| match mark {
                Mark::Later { at, .. } => Some(*at),
                _ => None,
            });
            later.chain([self.patience(change), change.started + self.config.prepare_deadline])
        });
        times.filter(|at| *at > self.now).min()
    }

    /// A change cannot be: nobody may bring it to life later.
    pub(super) fn give_up(&mut self, attempt: AttemptId, reason: String) {
        let Some(change) = self.changes.remove(&attempt) else { return };
        self.calls.retain(|_, asked| asked.what != What::Prepare(attempt));
        if !change.was_sent() {
            self.remember_end(attempt.number, Settled::Failed);
            for ticket in change.tickets {
                self.tell_dead(change.kind, ticket, &reason);
            }
            return;
        }
        self.remember_end(attempt.number, Settled::Dead);
        let disks = self.row.members.iter().copied().chain(change.heard_of()).collect();
        self.bury(attempt, change.kind, change.tickets, reason, disks);
    }

    /// The certain end of a change that did not happen.
    pub(super) fn tell_dead(&mut self, kind: EntryKind, ticket: Ticket, reason: &str) {
        self.tell_end(kind, ticket, End::Dead(reason.to_owned()));
    }

    /// How a change ended, to who asked for it.
    pub(super) fn tell_end(&mut self, kind: EntryKind, ticket: Ticket, end: End) {
        let (created, deleted) = match end {
            End::Committed { degraded } => (CreateResult::Committed { degraded }, DeleteResult::Deleted),
            End::Dead(reason) => (CreateResult::Failed { reason: reason.clone() }, DeleteResult::NotNow { reason }),
            End::Unknown(reason) => {
                (CreateResult::Unknown { reason: reason.clone() }, DeleteResult::Unknown { reason })
            }
        };
        match kind {
            EntryKind::Create | EntryKind::CreateOther => {
                self.out.tell(PgOutcome::Created { ticket, result: created });
            }
            EntryKind::Supersede => self.out.tell(PgOutcome::Superseded { ticket, result: created }),
            EntryKind::Delete => self.out.tell(PgOutcome::Deleted { ticket, result: deleted }),
            // Nobody asked for it but the owner itself.
            EntryKind::Release => {}
        }
    }

    /// Reads only from now on. What members prepared stays as it is: it may be evidence.
    pub(super) fn end_changes_frozen(&mut self, reason: &str) {
        let ended: Vec<AttemptId> =
            self.changes.iter().filter(|(_, change)| !change.writing).map(|(attempt, _)| *attempt).collect();
        for attempt in ended {
            let Some(change) = self.changes.remove(&attempt) else { continue };
            self.calls.retain(|_, asked| asked.what != What::Prepare(attempt));
            self.remember_end(attempt.number, Settled::Dead);
            for ticket in change.tickets {
                self.tell_unknown(change.kind, ticket, &format!("the group was frozen: {reason}"));
            }
        }
    }
}

/// How a change ended.
#[derive(Debug)]
pub(super) enum End {
    Committed {
        degraded: bool,
    },
    /// It never takes effect.
    Dead(String),
    Unknown(String),
}

/// How a member stands to a change.
#[derive(Debug)]
enum Stand {
    Yes,
    Ask,
    Wait,
    Out { reason: String, silent: bool },
    Never(String),
}
