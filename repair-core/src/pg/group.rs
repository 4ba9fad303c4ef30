//! What an owner knows, and its turn after every event.

use super::abort::Dead;
use super::catalog::Lane;
use super::commit::{Absent, Change};
use super::effect::{CallId, PgConfig, PgEffect, PgEvent, PgOutcome, Versioned};
use super::member::{Member, Order, Reach};
use super::membership::{Retiring, Settle};
use super::prove::Proof;
use super::supersede::{Grant, Superseded};
use super::write::Pending;
use crate::catalog::{CellRow, PgRow, PgState};
use crate::id::{AttemptId, DiskId, ExtentKey, RecordHash, Token};
use crate::node::Body;
use crate::shape::Shape;
use crate::time::{Millis, Time};
use crate::wire::NodeRequest;
use crate::wire::node::Authority;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::OnceLock;

/// Ends of attempts that are remembered, 16 bytes each. A member asks about what it prepared seconds ago.
pub(super) const SETTLED_MAX: usize = 16_384;

/// Effects on their way out, and the one wake-up asked for.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    effects: VecDeque<PgEffect>,
    calls: u64,
    wake_at: Option<Time>,
}

impl Outbox {
    pub(super) fn pop(&mut self) -> Option<PgEffect> {
        self.effects.pop_front()
    }

    pub(super) fn push(&mut self, effect: PgEffect) {
        self.effects.push_back(effect);
    }

    pub(super) fn tell(&mut self, outcome: PgOutcome) {
        self.push(PgEffect::Outcome(outcome));
    }

    pub(super) fn next_call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    pub(super) fn woke(&mut self) {
        self.wake_at = None;
    }

    pub(super) fn wake(&mut self, now: Time, at: Option<Time>) {
        let Some(at) = at else { return };
        let at = at.max(now + Millis(1));
        // One that comes early is harmless: only an earlier wish is worth a word.
        if self.wake_at.is_none_or(|asked| asked <= now || at < asked) {
            self.wake_at = Some(at);
            self.push(PgEffect::WakeAt(at));
        }
    }
}

/// A call to a node under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) disk: DiskId,
    pub(super) what: What,
    /// The row the message carried.
    pub(super) sent: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// What it has heard, before it is given anything.
    Look,
    Fence,
    Hear,
    /// A page of a list; true for the last.
    Adopt(bool),
    List,
    Holdings,
    Digest,
    Retire,
    Prepare(AttemptId),
    Abort(AttemptId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The list is not proven yet.
    Proving,
    Ready,
    /// Deposed, or the catalog went back: nothing more comes from here.
    Ended,
}

/// How an attempt of this claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Committed,
    /// It can never take effect in this catalog.
    Dead,
    /// And m + 1 members testify to that, or none ever prepared it.
    Failed,
}

/// Everything the owner of a claimed group knows.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) cell: CellRow,
    pub(super) cell_revision: u64,
    pub(super) config: PgConfig,
    pub(super) token: Token,
    pub(super) owner_revision: u64,
    /// As last read or written, never one whose writing is in doubt.
    pub(super) row: PgRow,
    pub(super) revision: u64,
    pub(super) now: Time,
    pub(super) phase: Phase,
    /// Made just now, by whom we are: nothing can have been on its list. Of a group that was claimed some member must say so, or
    /// a catalog that went back to before its first extent would be believed.
    pub(super) is_new: bool,
    pub(super) frozen: Option<String>,
    /// Enough members have said that the row as it was claimed is not older than what they remember. Before that nothing is
    /// changed: not the row, and nothing on a member.
    pub(super) agreed: bool,
    /// What the row is to say of its members' fault domains.
    pub(super) crowded: bool,
    /// See [`PgEvent::Proceed`].
    pub(super) proceeds: bool,
    /// Proven to sum to `row`, once ready.
    pub(super) list: BTreeMap<ExtentKey, RecordHash>,
    /// Files of those records that are not of the group's shape.
    pub(super) shapes: BTreeMap<ExtentKey, Shape>,
    /// Records whose place others have taken, not released.
    pub(super) superseded: BTreeMap<ExtentKey, Superseded>,
    /// When members are listed next for what those wait for.
    pub(super) release_at: Time,
    /// Deletions this owner knows of, with their sequence numbers.
    pub(super) tombstones: BTreeMap<ExtentKey, u64>,
    pub(super) proof: Proof,
    pub(super) members: BTreeMap<DiskId, Member>,
    pub(super) reach: BTreeMap<DiskId, Reach>,
    pub(super) calls: BTreeMap<CallId, Asked>,
    /// The next number of an attempt.
    pub(super) next_attempt: u64,
    /// Counters reserved and not handed out.
    pub(super) reserved: Range<u64>,
    pub(super) granted: BTreeMap<u64, Grant>,
    pub(super) changes: BTreeMap<AttemptId, Change>,
    pub(super) dead: BTreeMap<AttemptId, Dead>,
    pub(super) absent: Vec<Absent>,
    pub(super) settled: BTreeMap<u64, Settled>,
    /// Members to be marked behind by the next row write.
    pub(super) to_mark: BTreeSet<DiskId>,
    pub(super) joins: BTreeMap<u16, DiskId>,
    pub(super) cancels: BTreeSet<u16>,
    pub(super) settle: Option<Settle>,
    pub(super) settle_after: Time,
    pub(super) retiring: BTreeMap<DiskId, Retiring>,
    pub(super) trim_at: Option<Time>,
    pub(super) lane: Lane,
    /// Writes whose outcome is not known. All compare the revision of `row`.
    pub(super) pending: Vec<Pending>,
    /// A member said something that cannot be while we own the group: look whether we do.
    pub(super) doubt: Option<String>,
    pub(super) catalog_trouble: Option<String>,
    pub(super) changed: bool,
    pub(super) tolerance: OnceLock<usize>,
    pub(super) out: Outbox,
}

impl Group {
    pub(super) fn new(
        cell: CellRow,
        cell_revision: u64,
        row: Versioned,
        owner_revision: u64,
        token: Token,
        config: PgConfig,
        reserved: Range<u64>,
    ) -> Self {
        let Versioned { row, revision } = row;
        let crowded = row.crowded;
        Self {
            cell,
            cell_revision,
            config,
            token,
            owner_revision,
            row,
            revision,
            now: Time::ZERO,
            phase: Phase::Proving,
            is_new: false,
            frozen: None,
            agreed: false,
            crowded,
            proceeds: false,
            list: BTreeMap::new(),
            shapes: BTreeMap::new(),
            superseded: BTreeMap::new(),
            release_at: Time::ZERO,
            tombstones: BTreeMap::new(),
            proof: Proof::default(),
            members: BTreeMap::new(),
            reach: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_attempt: 1,
            reserved,
            granted: BTreeMap::new(),
            changes: BTreeMap::new(),
            dead: BTreeMap::new(),
            absent: Vec::new(),
            settled: BTreeMap::new(),
            to_mark: BTreeSet::new(),
            joins: BTreeMap::new(),
            cancels: BTreeSet::new(),
            settle: None,
            settle_after: Time::ZERO,
            retiring: BTreeMap::new(),
            trim_at: None,
            lane: Lane::Idle,
            pending: Vec::new(),
            doubt: None,
            catalog_trouble: None,
            changed: true,
            tolerance: OnceLock::new(),
            out: Outbox::default(),
        }
    }

    /// The first turn, before any event.
    pub(super) fn start(&mut self) {
        self.meet_members();
        self.remember_tombstones();
        if self.row.state == PgState::Frozen {
            self.freeze("it was frozen before; an operator must look".to_owned());
        }
        self.turn();
    }

    pub(super) fn handle(&mut self, now: Time, event: PgEvent) {
        self.now = now;
        if self.is_ended() {
            self.refuse(event);
            return;
        }
        match event {
            PgEvent::Rows { op, rows } => self.on_rows(op, rows),
            PgEvent::Txn { op, result } => self.on_txn(op, result),
            PgEvent::Call { call, result } => self.on_call(call, result),
            PgEvent::Create { ticket, attempt, extent, record, beside } => {
                self.on_create(ticket, attempt, extent, record, beside);
            }
            PgEvent::Delete { ticket, extent, beside } => self.on_delete(ticket, extent, beside),
            PgEvent::Supersede { ticket, attempt, extent, record } => {
                self.on_supersede(ticket, attempt, extent, record);
            }
            PgEvent::Forsake { attempt } => self.on_forsake(attempt),
            PgEvent::Reachable { disk } => self.on_reachable(disk),
            PgEvent::Unreachable { disk } => self.on_unreachable(disk),
            PgEvent::Join { index, disk } => self.on_join(index, disk),
            PgEvent::CancelJoin { index } => self.on_cancel_join(index),
            PgEvent::Restored { disk, extent } => self.on_restored(disk, extent),
            PgEvent::Damaged { disk, extent } => self.on_damaged(disk, extent),
            PgEvent::Sound { disk, extent } => self.on_sound(disk, extent),
            PgEvent::Guest { disk } => self.on_guest(disk),
            PgEvent::Proceed => self.proceeds = true,
            PgEvent::Crowded { crowded } => self.crowded = crowded,
            PgEvent::Tick => self.out.woke(),
        }
        self.turn();
    }

    /// Everything that may follow from what is known now. Each step only asks; what comes of it is an event.
    pub(super) fn turn(&mut self) {
        if self.is_ended() {
            return;
        }
        self.drive_proof();
        self.drive_release();
        self.drive_changes();
        self.drive_dead();
        self.drive_settle();
        self.drive_members();
        self.drive_counts();
        self.drive_digests();
        self.drive_retiring();
        self.drive_catalog();
        if self.changed {
            self.changed = false;
            self.out.tell(PgOutcome::Changed);
        }
        let at = self.next_time();
        self.out.wake(self.now, at);
    }

    /// The earliest moment at which a turn would do something without an event.
    fn next_time(&self) -> Option<Time> {
        [
            self.next_of_proof(),
            self.next_of_release(),
            self.next_of_changes(),
            self.next_of_dead(),
            self.next_of_settle(),
            self.next_of_members(),
            self.next_of_counts(),
            self.next_of_digests(),
            self.next_of_retiring(),
            self.next_of_catalog(),
            self.trim_at.filter(|at| *at > self.now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    pub(super) fn authority(&self) -> Authority {
        Authority { token: self.token, row: self.row.clone() }
    }

    /// Whether changes may be made: a list is proven, and enough members know of no later row.
    pub(super) fn may_change(&self) -> bool {
        self.is_ready() && self.agreed && self.frozen.is_none()
    }

    /// Members that accepted our token and remember a row. One that has forgotten all cannot say that there was no later one.
    pub(super) fn agreeing(&self) -> usize {
        let remembers = |disk: &&DiskId| self.members.get(disk).is_some_and(|m| m.accepted && m.remembers);
        self.row.members.iter().filter(remembers).count()
    }

    /// Whether as many members as must agree have said, unbound by any token, that they heard no later row.
    pub(super) fn has_looked(&self) -> bool {
        let order = self.row.order();
        let fine =
            |disk: &&DiskId| self.members.get(disk).is_some_and(|m| m.looked.is_some_and(|heard| heard <= order));
        self.agreed || self.row.members.iter().filter(fine).count() >= self.k()
    }

    pub(super) fn n(&self) -> usize {
        self.row.members.len()
    }

    pub(super) fn k(&self) -> usize {
        // The row was checked when it was claimed; a code this version does not know counts as one without parity.
        self.row.code_spec().map_or(self.n(), |spec| spec.k())
    }

    /// How many members must say a thing before no loss the code survives can unsay it.
    pub(super) fn quorum(&self) -> usize {
        self.n() - self.k() + 1
    }

    pub(super) fn not_behind(&self) -> impl Iterator<Item = DiskId> + '_ {
        self.row.members.iter().copied().filter(|disk| !self.row.behind.contains(disk))
    }

    pub(super) fn new_attempt(&mut self) -> AttemptId {
        let number = self.next_attempt;
        self.next_attempt += 1;
        AttemptId { claim: self.token.claim, number }
    }

    /// Makes members of all disks the row names, and forgets those it does not.
    pub(super) fn meet_members(&mut self) {
        let named: BTreeSet<DiskId> = self.row.members.iter().chain(self.row.joining.values()).copied().collect();
        for disk in &named {
            let reach = self.reach.get(disk).copied().unwrap_or(Reach::Untold);
            self.members.entry(*disk).or_insert_with(|| Member::new(*disk, reach));
        }
        self.members.retain(|disk, _| named.contains(disk));
        let retiring = &self.retiring;
        self.calls.retain(|_, asked| {
            named.contains(&asked.disk) || (asked.what == What::Retire && retiring.contains_key(&asked.disk))
        });
        self.forget_aborts();
    }

    pub(super) fn send(
        &mut self,
        disk: DiskId,
        what: What,
        request: NodeRequest,
        body: Body,
        deadline: Millis,
    ) -> CallId {
        let call = self.out.next_call();
        self.calls.insert(call, Asked { disk, what, sent: self.row.order() });
        self.out.push(PgEffect::Call { call, disk, request, body, deadline });
        call
    }

    fn on_reachable(&mut self, disk: DiskId) {
        let before = self.reach.insert(disk, Reach::Yes);
        let now = self.now;
        if let Some(retiring) = self.retiring.get_mut(&disk) {
            retiring.again(now);
        }
        let Some(member) = self.members.get_mut(&disk) else { return };
        member.reach = Reach::Yes;
        if before == Some(Reach::No) {
            member.begin_anew();
            member.answered();
            self.changed = true;
        }
        if member.busy.is_none() && !member.answers() {
            member.next_try = now;
        }
    }

    fn on_unreachable(&mut self, disk: DiskId) {
        self.reach.insert(disk, Reach::No);
        if let Some(retiring) = self.retiring.get_mut(&disk) {
            retiring.stop();
        }
        // An answer that still comes would be one from before: not worth a thought.
        self.calls.retain(|_, asked| asked.disk != disk);
        self.drop_prepares(disk);
        self.drop_aborts(disk);
        self.proof.drop_disk(disk);
        if let Some(member) = self.members.get_mut(&disk).filter(|member| member.reach != Reach::No) {
            member.reach = Reach::No;
            member.begin_anew();
            self.changed = true;
        }
    }

    /// How an attempt ended, for members that ask. Only the last ones are kept: an owner may live for years.
    pub(super) fn remember_end(&mut self, number: u64, end: Settled) {
        self.settled.insert(number, end);
        while self.settled.len() > SETTLED_MAX {
            self.settled.pop_first();
        }
    }

    /// Whether an attempt of this claim ended so long ago that only the list tells how.
    pub(super) fn is_long_over(&self, attempt: AttemptId) -> bool {
        let number = attempt.number;
        let before_all = self.settled.first_key_value().is_some_and(|(first, _)| number < *first);
        before_all && !self.changes.contains_key(&attempt) && !self.granted.contains_key(&number)
    }

    /// Reads only from now on.
    pub(super) fn freeze(&mut self, reason: String) {
        if self.frozen.is_none() {
            self.frozen = Some(reason.clone());
            self.settle = None;
            self.changed = true;
            self.end_changes_frozen(&reason);
            self.out.tell(PgOutcome::Frozen { reason });
        }
    }
}
