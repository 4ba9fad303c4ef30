//! The daemon whole: it owns placement groups, allocates and commits, keeps names, watches health, and orders repair.
//!
//! It owns the machine of each placement group ([`Owner`]) and passes catalog and nodes through to it. Everything it holds in
//! memory is a hint that the catalog or an owner's list confirms before anything is changed: a second daemon on the same catalog
//! costs work, never data.

mod agenda;
mod allocate;
#[cfg(test)]
mod audit_tests;
mod audit_walk;
mod audits;
mod backoff;
mod boot;
mod can_stop;
mod clones;
#[cfg(test)]
mod clones_tests;
mod deaf;
#[cfg(test)]
mod deaf_tests;
mod disks;
mod doomed;
mod drain;
pub mod effect;
mod ended;
mod ending;
mod faults;
#[cfg(test)]
mod faults_tests;
mod finished;
#[cfg(test)]
mod gather_tests;
mod giveup;
mod groups;
mod guests;
mod intents;
#[cfg(test)]
mod intents_tests;
mod joins;
mod lease;
#[cfg(test)]
mod lease_tests;
mod locks;
pub mod names;
mod opinion;
#[cfg(test)]
mod opinion_tests;
pub mod outlook;
mod plan;
#[cfg(test)]
mod put_tests;
mod puts;
mod queries;
mod removing;
mod repairs;
pub mod report;
#[cfg(test)]
mod restart_tests;
mod scan;
#[cfg(test)]
mod succession_tests;
mod suspend;
#[cfg(test)]
mod suspend_tests;
mod tasks;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod turns;
#[cfg(test)]
mod turns_tests;
mod view;
mod waits;
mod without;

pub use effect::{CoordinatorConfig, CoordinatorEffect, CoordinatorEvent, JobId, Note, Stopped};
pub use report::StatusReport;

use crate::catalog::{CellRow, DrainRow, Found, Txn, TxnResult};
use crate::id::{ClaimId, DiskId, ExtentKey, PgId, StreamKey};
use crate::node::{Body, PeerId, RequestId};
use crate::ownership::{LeaseEvent, LeaseOp, Ownership};
use crate::pg::{CallId, Owner, PgEvent, Ticket};
use crate::risk::RiskTable;
use crate::rng::Dice;
use crate::time::{Millis, Time};
use crate::wire::node::{FragmentKey, Place};
use crate::wire::{DaemonReply, DaemonRequest, NodeRequest, Refusal};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Turns of one event.
const ROUNDS_MAX: usize = 1_000;

/// Longest text of a note, and of one of its fields.
const NOTE_CHARS_MAX: usize = 2_000;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asker {
    peer: PeerId,
    id: RequestId,
}

/// What a catalog operation under way belongs to.
#[derive(Clone, Debug)]
enum Op {
    Boot,
    Owner { pg: PgId, op: CallId },
    Disk { disk: DiskId },
    Making,
    Begin { asker: Asker, stream: StreamKey },
    Lookup { asker: Asker },
    Extents { asker: Asker, offset: u64 },
    Names { asker: Asker, limit: usize },
    Absent { asker: Asker, extent: ExtentKey },
    Task { task: u64 },
    GiveUp { stream: StreamKey },
    Doomed { extents: Vec<ExtentKey> },
    Undoomed { extent: ExtentKey },
    Sweep,
    Ended,
    Scan,
    Cell,
    Suspend,
    Audit(audits::Row),
    Intent(intents::About),
    Lease(LeaseOp),
}

/// What a call to a node belongs to.
#[derive(Clone, Copy, Debug)]
enum NodeCall {
    Owner {
        pg: PgId,
        call: CallId,
    },
    Probe,
    Check {
        fragment: FragmentKey,
    },
    Guest {
        pg: PgId,
    },
    Scrub,
    /// Who serves a disk for which another process came?
    Other,
}

/// What becomes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Boot,
    Owner(PgId),
    Refresh(PgId),
    Look(PgId),
    Disk(DiskId),
    DiskRow(DiskId),
    Making,
    Put(StreamKey),
    GiveUp(StreamKey),
    Doomed,
    Sweep,
    Ended,
    Repairs,
    Scan,
    Suspend,
    Pulse,
    Audits,
    Intent(intents::About),
    Window(DiskId),
    Lease,
}

/// What a ticket given to an owner stands for.
#[derive(Clone, Copy, Debug)]
enum TicketUse {
    Create { stream: StreamKey, ordinal: u64, task: Option<u64> },
    Delete { extent: ExtentKey },
}

/// The machine.
pub struct Coordinator {
    config: CoordinatorConfig,
    claim: ClaimId,
    dice: Dice,
    now: Time,
    stopped: bool,
    suspending: Option<suspend::Suspending>,
    effects: VecDeque<CoordinatorEffect>,
    last_number: u64,
    ops: BTreeMap<CallId, Op>,
    calls: BTreeMap<CallId, (DiskId, NodeCall)>,
    tickets: BTreeMap<Ticket, TicketUse>,
    timers: BTreeSet<(Time, Timer)>,
    wake: Option<Time>,
    boot: boot::Boot,
    looks_end: Time,
    ownership: Ownership,
    lease_wake: Option<Time>,
    cell: Option<(CellRow, u64)>,
    disks: BTreeMap<DiskId, disks::Disk>,
    peers: BTreeMap<PeerId, DiskId>,
    clones: clones::Clones,
    limping: crate::limping::Limping,
    opinions: opinion::Opinions,
    intents: intents::Intents,
    checking: BTreeSet<(DiskId, FragmentKey)>,
    damaged: BTreeSet<(DiskId, ExtentKey)>,
    groups: BTreeMap<PgId, groups::Group>,
    tally: groups::Tally,
    inbox: VecDeque<(PgId, PgEvent)>,
    touched: BTreeSet<PgId>,
    making: Option<allocate::Making>,
    allocations: Vec<allocate::Allocation>,
    puts: BTreeMap<StreamKey, puts::Put>,
    finished: finished::Finished,
    ended: ended::Ended,
    tasks: BTreeMap<u64, tasks::Task>,
    locks: locks::Locks,
    doomed: doomed::Doomed,
    guests: guests::Guests,
    repairs: repairs::Repairs,
    agenda: agenda::Agenda,
    budgets: crate::budget::Budgets,
    pace: crate::pace::Pace,
    audits: audits::Audits,
    sizes: BTreeMap<ExtentKey, u64>,
    risk: RiskTable,
    scan: Option<scan::Scan>,
    /// When this process was last found to have stood still.
    deaf_at: Option<Time>,
    was_full: Option<bool>,
    was_unavailable: u64,
}

impl Coordinator {
    /// A coordinator that has not booted. `claim` is of this life alone.
    pub fn new(config: CoordinatorConfig, claim: ClaimId, dice: Dice) -> Self {
        let budgets = crate::budget::Budgets::new(config.budget);
        let ownership = Ownership::new(config.lease.clone(), claim, dice.child("lease", 0));
        Self {
            config,
            claim,
            dice,
            now: Time::ZERO,
            stopped: false,
            suspending: None,
            effects: VecDeque::new(),
            last_number: 0,
            ops: BTreeMap::new(),
            calls: BTreeMap::new(),
            tickets: BTreeMap::new(),
            timers: BTreeSet::new(),
            wake: None,
            boot: boot::Boot::New,
            looks_end: Time::ZERO,
            ownership,
            lease_wake: None,
            cell: None,
            disks: BTreeMap::new(),
            peers: BTreeMap::new(),
            clones: clones::Clones::default(),
            limping: crate::limping::Limping::default(),
            opinions: opinion::Opinions::default(),
            intents: intents::Intents::default(),
            checking: BTreeSet::new(),
            damaged: BTreeSet::new(),
            groups: BTreeMap::new(),
            tally: groups::Tally::default(),
            inbox: VecDeque::new(),
            touched: BTreeSet::new(),
            making: None,
            allocations: Vec::new(),
            puts: BTreeMap::new(),
            finished: finished::Finished::default(),
            ended: ended::Ended::default(),
            tasks: BTreeMap::new(),
            locks: locks::Locks::default(),
            doomed: doomed::Doomed::default(),
            guests: guests::Guests::default(),
            repairs: repairs::Repairs::default(),
            agenda: agenda::Agenda::default(),
            budgets,
            pace: crate::pace::Pace::default(),
            audits: audits::Audits::default(),
            sizes: BTreeMap::new(),
            risk: RiskTable::default(),
            scan: None,
            deaf_at: None,
            was_full: None,
            was_unavailable: 0,
        }
    }

    /// Its settings.
    pub fn config(&self) -> &CoordinatorConfig {
        &self.config
    }

    /// The cell, once known.
    pub fn cell(&self) -> Option<&CellRow> {
        self.cell.as_ref().map(|(row, _)| row)
    }

    /// The owner of a placement group.
    pub fn owner(&self, pg: PgId) -> Option<&Owner> {
        self.groups.get(&pg).map(|group| &group.owner)
    }

    /// All owners.
    pub fn owners(&self) -> impl Iterator<Item = (PgId, &Owner)> {
        self.groups.iter().map(|(pg, group)| (*pg, &group.owner))
    }

    /// Whether the cell is this daemon's to work on, as far as it knows.
    pub const fn is_in_charge(&self) -> bool {
        self.ownership.is_held()
    }

    /// Whether all is at rest: everything booted and ready, nothing to repair, delete, give up or make, by recounts newer than
    /// the last change.
    pub fn idle(&self) -> bool {
        self.boot.is_done()
            && self.all_full()
            && self.repairs.running.is_empty()
            && self.puts.is_empty()
            && self.doomed.is_empty()
            && self.guests_are_asked()
            && self.tasks.is_empty()
            && self.making.is_none()
            && self.allocations.is_empty()
    }

    /// Takes an event.
    pub fn handle(&mut self, now: Time, event: CoordinatorEvent) {
        if self.stopped {
            return;
        }
        self.time_passes(now);
        if self.suspending.is_some() {
            return self.suspend_onwards(event);
        }
        match event {
            CoordinatorEvent::Boot => self.begin(),
            CoordinatorEvent::Rows { op, rows } => self.rows(op, rows),
            CoordinatorEvent::Range { op, rows } => self.range(op, rows),
            CoordinatorEvent::Txn { op, result } => self.txn_ended(op, result),
            CoordinatorEvent::Request { peer, id, request, body } => self.request(Asker { peer, id }, request, body),
            CoordinatorEvent::PeerGone { peer } => self.peer_gone(peer),
            CoordinatorEvent::Call { call, result } => self.call_ended(call, result),
            CoordinatorEvent::RepairProgress { job, written_bytes } => self.repair_moved(job, written_bytes),
            CoordinatorEvent::RepairDone { job, outcome } => self.repair_done(job, outcome),
            CoordinatorEvent::AuditDone { job, outcome } => self.audit_done(job, outcome),
            CoordinatorEvent::HandOver => self.lease(LeaseEvent::HandOver),
            CoordinatorEvent::Tick => self.wake = None,
        }
        self.settle();
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<CoordinatorEffect> {
        self.effects.pop_front()
    }

    /// Brings everything that follows from an event to its end.
    fn settle(&mut self) {
        let mut rounds = 0;
        loop {
            while let Some((_, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= self.now) {
                let due = self.timers.pop_first();
                debug_assert!(due.is_some_and(|(_, popped)| popped == timer));
                self.due(timer);
            }
            self.run_owners();
            if self.is_ending() {
                break;
            }
            self.boot_onwards();
            self.refresh_groups();
            self.look_at_drains();
            self.retry_allocations();
            self.run_doomed();
            self.run_guests();
            self.run_repairs();
            self.run_audits();
            self.hand_over_onwards();
            let due = self.timers.first().is_some_and(|(at, _)| *at <= self.now);
            if self.stopped || (self.inbox.is_empty() && self.touched.is_empty() && !due) {
                break;
            }
            rounds += 1;
            if rounds == ROUNDS_MAX {
                // Something keeps asking for itself. Everything else must go on, so it gets a turn at a time.
                self.after(Millis(1), Timer::Repairs);
                break;
            }
        }
        self.note_changes();
        self.wish_to_wake();
    }

    fn wish_to_wake(&mut self) {
        let next = self.timers.first().map(|(at, _)| *at);
        if let Some(at) = next.filter(|_| next != self.wake) {
            self.wake = Some(at);
            self.effects.push_back(CoordinatorEffect::WakeAt(at));
        }
    }

    fn due(&mut self, timer: Timer) {
        match timer {
            Timer::Boot => self.boot_due(),
            Timer::Owner(pg) => {
                if let Some(group) = self.groups.get_mut(&pg) {
                    group.wake = None;
                    self.inbox.push_back((pg, PgEvent::Tick));
                }
            }
            Timer::Refresh(_) | Timer::Doomed | Timer::Repairs | Timer::Audits => {}
            Timer::Look(pg) => self.refresh_at_once(pg),
            Timer::Disk(disk) => self.disk_due(disk),
            Timer::DiskRow(disk) => self.read_disk_row(disk),
            Timer::Making => self.making_again(),
            Timer::Put(stream) => self.put_due(stream),
            Timer::GiveUp(stream) => self.give_up_onwards(stream),
            Timer::Sweep => self.sweep(None),
            Timer::Ended => self.look_at_ended(),
            Timer::Scan => self.scan_onwards(),
            // Comes only behind the end of all else.
            Timer::Suspend => {}
            Timer::Pulse => self.pulse(),
            Timer::Intent(about) => self.intent_due(about),
            Timer::Window(disk) => self.window_due(disk),
            Timer::Lease => {
                self.lease_wake = None;
                self.lease(LeaseEvent::Tick);
            }
        }
    }

    fn at(&mut self, time: Time, timer: Timer) {
        self.timers.insert((time, timer));
    }

    fn after(&mut self, span: Millis, timer: Timer) {
        // Never at once: what failed a moment ago would be tried again without an end.
        self.at(self.now + Millis(span.0.max(1)), timer);
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn retry_after(&self) -> Millis {
        self.config.pg.retry_after
    }

    fn op(&mut self, op: Op) -> CallId {
        let id = CallId(self.number());
        self.ops.insert(id, op);
        id
    }

    fn get(&mut self, op: Op, keys: Vec<Vec<u8>>) {
        let op = self.op(op);
        self.effects.push_back(CoordinatorEffect::Get { op, keys });
    }

    fn get_range(&mut self, op: Op, prefix: Vec<u8>, after: Option<Vec<u8>>, limit: usize) {
        let op = self.op(op);
        self.effects.push_back(CoordinatorEffect::Range { op, prefix, after, limit });
    }

    /// Owners compare the cell's row themselves; everything else does so here.
    fn txn(&mut self, op: Op, mut txn: Txn) {
        let cell = crate::catalog::key::cell();
        if let Some((_, revision)) = &self.cell
            && !matches!(op, Op::Owner { .. })
            && txn.compares.iter().all(|compare| compare.key != cell)
        {
            txn = txn.compare(cell, *revision);
        }
        let op = self.op(op);
        self.effects.push_back(CoordinatorEffect::Txn { op, txn });
    }

    fn call(&mut self, disk: DiskId, what: NodeCall, request: NodeRequest, body: Body, deadline: Millis) {
        let Some(to) = self.place(disk) else {
            if let NodeCall::Owner { pg, call } = what {
                let result = Err(crate::wire::CallError::Unreachable);
                self.inbox.push_back((pg, PgEvent::Call { call, result }));
            }
            return;
        };
        let call = CallId(self.number());
        self.calls.insert(call, (disk, what));
        self.effects.push_back(CoordinatorEffect::Call { call, to, request, body, deadline });
    }

    fn place(&self, disk: DiskId) -> Option<Place> {
        self.disks.get(&disk).map(|known| Place { disk, address: known.row.address.clone() })
    }

    fn reply(&mut self, asker: Asker, reply: DaemonReply) {
        self.reply_with(asker, reply, Body::new());
    }

    fn reply_with(&mut self, asker: Asker, reply: DaemonReply, body: Body) {
        self.effects.push_back(CoordinatorEffect::Reply { peer: asker.peer, id: asker.id, reply, body });
    }

    fn refuse(&mut self, asker: Asker, refusal: Refusal) {
        self.reply(asker, DaemonReply::Refused(refusal));
    }

    fn note(&mut self, kind: &'static str, mut text: String, mut fields: Vec<(&'static str, String)>) {
        // Reasons come from nodes and from the catalog, as long as they like.
        for text in fields.iter_mut().map(|(_, value)| value).chain([&mut text]) {
            if let Some((end, _)) = text.char_indices().nth(NOTE_CHARS_MAX) {
                text.truncate(end);
            }
        }
        self.effects.push_back(CoordinatorEffect::Note(Note { kind, text, fields }));
    }

    /// The end: another daemon is at work, or the catalog cannot be trusted.
    fn stop(&mut self, reason: impl Into<Stopped>) {
        if !self.stopped {
            self.stopped = true;
            self.effects.push_back(CoordinatorEffect::Stop { reason: reason.into() });
        }
    }

    fn rows(&mut self, op: CallId, rows: Result<Vec<Option<Found>>, String>) {
        match self.ops.remove(&op) {
            Some(Op::Boot) => self.cell_read(rows),
            Some(Op::Owner { pg, op }) => self.inbox.push_back((pg, PgEvent::Rows { op, rows })),
            Some(Op::Disk { disk }) => self.disk_row_read(disk, rows),
            Some(Op::Making) => self.making_read(rows),
            Some(Op::Begin { asker, stream }) => self.begin_read(asker, stream, rows),
            Some(Op::Lookup { asker }) => self.lookup_read(asker, rows),
            Some(Op::Extents { asker, offset }) => self.extents_read(asker, offset, rows),
            Some(Op::Absent { asker, extent }) => self.absent_read(asker, extent, rows),
            Some(Op::Task { task }) => self.task_rows(task, rows),
            Some(Op::Doomed { extents }) => self.doomed_read(&extents, rows),
            Some(Op::Audit(row)) => self.audit_row_read(row, rows),
            Some(Op::Intent(about)) => self.intent_read(about, rows),
            Some(Op::Lease(op)) => {
                let row = rows.map(|rows| rows.into_iter().next().flatten());
                self.lease(LeaseEvent::Row { op, row });
            }
            Some(Op::Cell) => rows.into_iter().for_each(|rows| self.take_cell(rows)),
            Some(
                Op::Names { .. }
                | Op::GiveUp { .. }
                | Op::Undoomed { .. }
                | Op::Sweep
                | Op::Ended
                | Op::Scan
                | Op::Suspend,
            )
            | None => {}
        }
    }

    fn range(&mut self, op: CallId, rows: Result<Vec<Found>, String>) {
        match self.ops.remove(&op) {
            Some(Op::Boot) => self.boot_rows(rows),
            Some(Op::Names { asker, limit }) => self.names_read(asker, limit, rows),
            Some(Op::GiveUp { stream }) => self.give_up_rows(stream, rows),
            Some(Op::Scan) => self.scan_rows(rows),
            Some(Op::Sweep) => self.swept(rows),
            Some(Op::Ended) => self.ended_rows(rows),
            _ => {}
        }
    }

    fn txn_ended(&mut self, op: CallId, result: TxnResult) {
        let ended = self.ops.remove(&op);
        if result == TxnResult::Refused && !matches!(ended, Some(Op::Owner { .. }) | None) {
            self.doubt_cell();
        }
        match ended {
            Some(Op::Boot) if matches!(result, TxnResult::Done { .. }) => self.boot_again(),
            Some(Op::Boot) => self.after(self.retry_after(), Timer::Boot),
            Some(Op::Owner { pg, op }) => self.inbox.push_back((pg, PgEvent::Txn { op, result })),
            Some(Op::Disk { disk }) => self.disk_row_written(disk, result),
            Some(Op::Making) => self.making_written(result),
            Some(Op::Task { task }) => self.task_written(task, result),
            Some(Op::GiveUp { stream }) => self.give_up_written(stream, result),
            Some(Op::Undoomed { extent }) => self.undoomed(extent, result),
            Some(Op::Audit(row)) => self.audit_row_written(row, result),
            Some(Op::Intent(about)) => self.intent_written(about, result),
            Some(Op::Lease(op)) => self.lease(LeaseEvent::Txn { op, result }),
            _ => {}
        }
    }

    fn request(&mut self, asker: Asker, request: DaemonRequest, body: Body) {
        let reports = matches!(request, DaemonRequest::Status | DaemonRequest::Events { .. });
        if !reports && self.is_refused_by_lease(asker, &request) {
            return;
        }
        if matches!(request, DaemonRequest::Register { .. } | DaemonRequest::RegisterLife { .. }) {
            return disks::Registration::of(request).into_iter().for_each(|wanted| self.register(asker, wanted));
        }
        match &request {
            DaemonRequest::Status => return self.status_wanted(asker),
            // Kept and answered by the host.
            DaemonRequest::Events { .. } => return,
            _ => {}
        }
        if !self.boot.is_done() && !matches!(request, DaemonRequest::Beat { .. } | DaemonRequest::Explain { .. }) {
            return self.refuse(asker, Refusal::Unavailable("the daemon is starting".into()));
        }
        match request {
            DaemonRequest::Beat { disk, boot, free_bytes, broken, damaged } => {
                self.beat(asker, disk, boot, free_bytes, broken, &damaged);
            }
            DaemonRequest::Faults { disk, boot, faults, service, quarantined } => {
                self.faults_told(asker, disk, boot, faults, service, quarantined);
                self.judge_pace(disk);
            }
            DaemonRequest::Ask { pg, attempt } => self.ask(asker, pg, attempt),
            DaemonRequest::BeginPut { stream } => self.begin_put(asker, stream),
            DaemonRequest::Allocate { stream, ordinal, bytes } => self.allocate(asker, stream, ordinal, bytes),
            DaemonRequest::CommitExtent { stream, entry, attempt, end } => {
                self.commit_extent(asker, stream, entry, attempt, end, body);
            }
            DaemonRequest::PutNames { stream, first, names } => self.put_names(asker, stream, first, names),
            DaemonRequest::AbortPut { stream } => self.abort_put(asker, stream),
            DaemonRequest::Lookup { name } => self.lookup(asker, &name),
            DaemonRequest::Extents { stream, offset } => self.extents(asker, stream, offset),
            DaemonRequest::Locate { extent } => {
                self.count_blocked_read(extent);
                self.locate(asker, extent);
            }
            DaemonRequest::Names { prefix, after } => self.list_names(asker, &prefix, after.as_deref()),
            DaemonRequest::Remove { name } => self.remove(asker, name, None),
            DaemonRequest::RemoveIf { name, stream } => self.remove(asker, name, Some(stream)),
            DaemonRequest::Suspect { disk, fragment, .. } => self.suspect(asker, disk, fragment),
            DaemonRequest::Explain { subject } => self.explain(asker, &subject),
            DaemonRequest::Scrub => self.scrub(asker),
            DaemonRequest::Audit { subject } => self.audit_wanted(asker, subject.as_ref()),
            DaemonRequest::Drain { node, leaves } => {
                self.drain_wanted(asker, &node, Some(DrainRow { leaves, drained: false }));
            }
            DaemonRequest::CancelDrain { node } => self.drain_wanted(asker, &node, None),
            DaemonRequest::Maintain { node, span } => self.window_wanted(asker, &node, span),
            DaemonRequest::CanStop { nodes } => self.can_stop_wanted(asker, &nodes),
            DaemonRequest::PauseRepairs { paused } => self.pause_wanted(asker, paused),
            DaemonRequest::PlanRepairs => self.plan_wanted(asker),
            DaemonRequest::Drill { nodes } => self.drill_wanted(asker, &nodes),
            DaemonRequest::Register { .. }
            | DaemonRequest::RegisterLife { .. }
            | DaemonRequest::Status
            | DaemonRequest::Events { .. } => {}
        }
    }

    fn peer_gone(&mut self, peer: PeerId) {
        self.node_gone(peer);
        self.suitor_gone(peer);
        self.client_gone(peer);
    }
}
