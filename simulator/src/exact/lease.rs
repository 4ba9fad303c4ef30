//! Which daemon is in charge: what the catalog says, who is asked by nodes and clients, and whether the cell is handed over in time.

use super::daemon::DaemonHost;
use super::net::{Endpoint, Site};
use super::queue::Instant;
use super::world::World;
use repair_core::catalog::{LeaseRow, Txn, Write, key};
use repair_core::id::ClaimId;
use repair_core::invariant::{Invariant, Violation};
use repair_core::wire::codec::decode_row;
use repair_core::wire::{CallError, DaemonReply, Refusal};
use std::collections::BTreeMap;

/// A place where daemons run, one life after the other: a name.
#[derive(Debug, Default)]
pub struct Slot {
    /// Its last life, running or not.
    pub last: Option<usize>,
    /// Whether nothing runs there ever again.
    pub is_gone: bool,
    /// Whether the next life takes the cell over without waiting for anybody.
    pub usurps: bool,
}

/// What an observer knows of the lease.
#[derive(Debug, Default)]
pub struct Leases {
    row: Option<LeaseRow>,
    /// When a claim last had the row written.
    written: BTreeMap<ClaimId, Instant>,
    /// Since when there is none in charge, and this daemon could be.
    vacant: Option<(usize, Instant)>,
    /// Readings of the row so far.
    pub reads: u64,
}

impl World {
    /// The daemon whose the lease is, where it runs and knows it.
    pub fn holder(&self) -> Option<usize> {
        let row = self.leases.row.as_ref().filter(|row| !row.released)?;
        let holds = |host: &DaemonHost| {
            host.claim == row.claim && host.coordinator.as_ref().is_some_and(|machine| machine.is_in_charge())
        };
        // Lives are many, and the holder is one of the last.
        self.daemons.iter().rposition(holds)
    }

    /// The row as it is now, whoever wrote it.
    pub fn look_at_lease(&mut self) {
        let found = self.catalog.rows.get(&key::lease());
        self.leases.row = found.and_then(|found| decode_row(&found.value).ok());
    }

    /// A transaction was applied.
    pub fn lease_written(&mut self, txn: &Txn) {
        if !writes_lease(txn) {
            return;
        }
        self.look_at_lease();
        let now = self.queue.now();
        if let Some(row) = &self.leases.row {
            self.leases.written.insert(row.claim, now);
            let claim = row.claim;
            // What a life that is over had sent is a sign of life to all who look.
            if !self.daemons.iter().any(|host| host.claim == claim && host.is_running()) {
                self.leases.vacant = None;
            }
        }
    }

    /// Something new is begun by a daemon.
    ///
    /// # Errors
    /// It has not had its lease renewed for longer than the TTL.
    pub fn may_begin(&self, daemon: usize) -> Result<(), Violation> {
        let host = &self.daemons[daemon];
        let ttl = self.profile.lease_ttl_ms();
        let written = self.leases.written.get(&host.claim);
        if host.usurps || written.is_some_and(|at| self.queue.now() <= at.after_ms(ttl)) {
            return Ok(());
        }
        let what = format!("daemon {daemon} begins work, and its lease was last written at {written:?}");
        Err(Violation::new(Invariant::LapsedBegins, what))
    }

    /// Where a daemon could be in charge and the catalog works, one is within two TTL after the last that was.
    pub fn look_at_handover(&mut self) {
        let now = self.queue.now();
        let serves = |daemon: &usize| {
            let host = &self.daemons[*daemon];
            host.is_running() && !host.leaves && !self.paused.contains_key(daemon)
        };
        let is_calm = self.catalog.is_calm(now) && !self.phase.is_rolled_back();
        if !is_calm || self.holder().is_some_and(|holder| serves(&holder)) {
            self.leases.vacant = None;
            return;
        }
        let waits = self.leases.vacant.filter(|(daemon, _)| serves(daemon));
        let vacant = waits.or_else(|| {
            let last = self.slots.iter().filter_map(|slot| slot.last).find(serves);
            last.map(|daemon| (daemon, now))
        });
        self.leases.vacant = vacant;
        if let Some((daemon, since)) = vacant
            && now > since.after_ms(2 * self.profile.lease_ttl_ms() + 1_000)
        {
            let row = &self.leases.row;
            let what = format!("daemon {daemon} could be in charge since {since:?} and is not: {row:?}");
            self.judge(Err(Violation::new(Invariant::HandedOver, what)));
        }
    }

    /// Where a node or a client asks: the place it found last.
    pub fn daemon_at(&self, slot: usize) -> Site {
        Site::Daemon(self.slots.get(slot).and_then(|slot| slot.last).unwrap_or(usize::MAX))
    }

    /// The next place, where the daemon that was asked is not in charge or does not answer. Of several questions to one daemon, one
    /// is enough.
    pub fn next_slot(&self, slot: usize, asked: Site) -> usize {
        if self.daemon_at(slot) == asked { (slot + 1) % self.slots.len() } else { slot }
    }

    /// Makes room for a life at a place: its number, connections and whether it usurps.
    pub fn new_life(&mut self, slot: usize) -> (usize, Endpoint, bool) {
        let daemon = self.daemons.len();
        let endpoint = Endpoint(self.number());
        let usurps = std::mem::take(&mut self.slots[slot].usurps);
        self.slots[slot].last = Some(daemon);
        (daemon, endpoint, usurps)
    }
}

/// Whether a daemon that answers so is to be asked no more for now.
pub fn is_elsewhere(answer: Result<&DaemonReply, &CallError>) -> bool {
    match answer {
        Ok(reply) => matches!(reply, DaemonReply::Refused(Refusal::NotOwner(_))),
        Err(error) => !matches!(error, CallError::Nonsense),
    }
}

/// Whether a transaction writes the lease.
pub fn writes_lease(txn: &Txn) -> bool {
    let lease = key::lease();
    txn.writes.iter().any(|write| matches!(write, Write::Put { key, .. } if *key == lease))
}
