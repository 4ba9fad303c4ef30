//! What went wrong on this node's disk, by kind, and how long its store takes: counted in the life of the process, for who runs the
//! node and for the daemon, which compares disks. Nothing here is decided.

use super::{Asker, Node, OpId, StoreCall, StoreError, StoreOk};
use crate::time::{Millis, Time};
use crate::wire::node::{FaultCount, NodeHealth, NodeReply, NodeState, ServiceTime};
use std::collections::BTreeMap;

/// An operation that takes longer is silence to whoever waits for it: the time a call may take without other settings.
const SLOW: Millis = Millis(5_000);
/// One in so many: the mean forgets what is older than about as many operations.
const MEAN_OVER: u64 = 16;
/// What a store says of a failed sync begins so.
const SYNC_FAILED: &str = "cannot force";
/// What a store that takes nothing any more says of what comes after begins so.
const WRITING_ENDED: &str = "writing ended";

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    Write,
    Sync,
    Read,
    NoSpace,
    Damaged,
    Mismatch,
    Slow,
}

impl Fault {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write_error",
            Self::Sync => "sync_error",
            Self::Read => "read_error",
            Self::NoSpace => "no_space",
            Self::Damaged => "damaged",
            Self::Mismatch => "read_back_mismatch",
            Self::Slow => "slow",
        }
    }
}

/// What a call is, for its errors and its time.
#[derive(Clone, Copy, Debug)]
enum Call {
    Read,
    /// Its time is that of the device: a record or two, and a sync.
    Append,
    Sync,
    Write,
    /// Reads back what was kept, of any length; writes nothing.
    Seal,
    /// Files go to quarantine, and from there.
    PutAside,
    Remove,
    /// Listings, records and checks, whose length is anything.
    Look,
}

impl Call {
    fn of(call: &StoreCall) -> Self {
        match call {
            StoreCall::Read { .. } => Self::Read,
            StoreCall::AppendJournal { .. } => Self::Append,
            StoreCall::SyncFolder { .. } => Self::Sync,
            StoreCall::SealStage { .. } => Self::Seal,
            StoreCall::Quarantine { .. } => Self::PutAside,
            StoreCall::UnlinkQuarantined { .. } => Self::Remove,
            StoreCall::Combine { .. }
            | StoreCall::ReadRecord { .. }
            | StoreCall::Check { .. }
            | StoreCall::ListFolder { .. }
            | StoreCall::Touch => Self::Look,
            _ => Self::Write,
        }
    }

    /// The name of its time, where disks are compared by it: only what is about as long on every disk.
    const fn timed(self) -> Option<&'static str> {
        match self {
            Self::Read => Some("read"),
            Self::Append => Some("journal"),
            _ => None,
        }
    }

    /// Whether somebody waits for it who takes more than five seconds for silence.
    const fn may_be_slow(self) -> bool {
        !matches!(self, Self::Look | Self::Seal)
    }

    fn fault(self, result: &Result<StoreOk, StoreError>) -> Option<Fault> {
        match (result, self) {
            // Damage is counted when a check finds it anew.
            (Ok(_) | Err(StoreError::NotFound | StoreError::Invalid(_) | StoreError::Damaged(_)), _) => None,
            (Err(StoreError::NoSpace(_)), _) => Some(Fault::NoSpace),
            (Err(StoreError::Io(_)), Self::Read | Self::Look | Self::Seal) => Some(Fault::Read),
            (Err(StoreError::Io(_)), Self::Sync) => Some(Fault::Sync),
            (Err(StoreError::Io(reason)), _) if reason.starts_with(SYNC_FAILED) => Some(Fault::Sync),
            (Err(StoreError::Io(_)), _) => Some(Fault::Write),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Service {
    count: u64,
    mean_us: u64,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Faults {
    counts: BTreeMap<Fault, (u64, Time)>,
    begun: BTreeMap<OpId, (Call, Time)>,
    service: BTreeMap<&'static str, Service>,
    put_aside: u64,
    removed: u64,
    /// Rises with every fault.
    pub(super) version: u64,
    /// Operations timed.
    pub(super) timed: u64,
}

impl Faults {
    pub(super) fn begun(&mut self, now: Time, op: OpId, call: &StoreCall) {
        self.begun.insert(op, (Call::of(call), now));
    }

    /// An operation ended. What is refused because nothing is stored any more is no fault of its own. What ended it is, and may be told after
    /// the end, as what is refused may be told before it: so the answer itself says which it is.
    pub(super) fn ended(&mut self, now: Time, op: OpId, result: &Result<StoreOk, StoreError>) {
        let Some((call, began)) = self.begun.remove(&op) else { return };
        let took = now.since(began);
        let is_refused = matches!(result, Err(StoreError::Io(reason)) if reason.starts_with(WRITING_ENDED));
        match call.fault(result) {
            Some(_) if is_refused => {}
            Some(fault) => self.count(now, fault, 1),
            None => {}
        }
        if took > SLOW && call.may_be_slow() {
            self.count(now, Fault::Slow, 1);
        }
        let is_done = result.is_ok();
        match call {
            Call::PutAside if is_done => self.put_aside += 1,
            Call::Remove if is_done => self.removed += 1,
            _ => {}
        }
        if let Some(kind) = call.timed().filter(|_| is_done) {
            let service = self.service.entry(kind).or_default();
            service.count += 1;
            self.timed += 1;
            let over = service.count.min(MEAN_OVER);
            service.mean_us = (service.mean_us * (over - 1) + took.0.saturating_mul(1_000)) / over;
        }
    }

    pub(super) fn count(&mut self, now: Time, fault: Fault, times: u64) {
        let (count, last) = self.counts.entry(fault).or_default();
        (*count, *last) = (count.saturating_add(times), now);
        self.version += 1;
    }

    pub(super) fn counts(&self, now: Time) -> Vec<FaultCount> {
        let count = |(fault, (count, last)): (&Fault, &(u64, Time))| FaultCount {
            kind: fault.as_str().to_owned(),
            count: *count,
            last_ago: now.since(*last),
        };
        self.counts.iter().map(count).collect()
    }

    pub(super) fn service(&self) -> Vec<ServiceTime> {
        let time = |(kind, service): (&&str, &Service)| ServiceTime {
            kind: (*kind).to_owned(),
            count: service.count,
            mean_us: service.mean_us,
        };
        self.service.iter().map(time).collect()
    }

    /// Files put aside in this life and not removed since.
    pub(super) fn quarantined(&self) -> u64 {
        self.put_aside.saturating_sub(self.removed)
    }
}

impl Node {
    /// Answered by those too that the daemon does not take: that is when it is asked.
    pub(super) fn health(&mut self, asker: Asker) {
        let state = match (self.link.broken(), &self.link.refusal, self.distrusted()) {
            (Some(reason), ..) => NodeState::ReadOnly { reason: reason.to_owned() },
            (None, Some(refusal), _) => NodeState::Refused { reason: refusal.to_string() },
            (None, None, Some(reason)) => NodeState::Fenced { reason },
            (None, None, None) if !self.link.registered => NodeState::Unregistered,
            (None, None, None) => NodeState::Serving,
        };
        let (free_bytes, total_bytes) = self.room();
        let (scrub_groups_left, scrub_ended_ago) = self.scrub.place(self.now);
        let health = NodeHealth {
            state,
            faults: self.faults.counts(self.now),
            service: self.faults.service(),
            free_bytes,
            total_bytes,
            stages: self.stages.open_count() as u64,
            quarantined: self.faults.quarantined(),
            scrub_groups_left,
            scrub_ended_ago,
        };
        self.reply(asker, NodeReply::Health(Box::new(health)));
    }

    /// A check found a fragment damaged that was not known to be.
    pub(super) fn damaged(&mut self) {
        self.faults.count(self.now, Fault::Damaged, 1);
    }

    pub(super) fn mismatched(&mut self, times: u64) {
        self.faults.count(self.now, Fault::Mismatch, times);
    }
}
