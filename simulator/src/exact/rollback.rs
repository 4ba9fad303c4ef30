//! A catalog put back to an earlier copy when all is over, while its daemon is started again and again; then the newest one.

use super::counts::FaultKind;
use super::run::Phase;
use super::world::World;
use repair_core::catalog::memory::MemoryCatalog;
use repair_core::catalog::{CellRow, key};
use repair_core::id::{DiskId, ExtentKey, PgId, RecordHash};
use repair_core::invariant::{Invariant, Violation};
use repair_core::wire::codec::decode_row;
use std::collections::BTreeMap;

/// Virtual time on the copy: a daemon that ends is started again after half a second.
const SPAN_MS: u64 = 60_000;

type Lists = BTreeMap<(DiskId, PgId), BTreeMap<ExtentKey, RecordHash>>;

/// What is kept for a catalog that goes back, and comes forth again.
#[derive(Debug, Default)]
pub struct Rollback {
    copy: Option<MemoryCatalog>,
    newest: Option<MemoryCatalog>,
    before: Lists,
}

impl World {
    /// Makes the copy, once so much of the work is done.
    pub fn copy_catalog_in_time(&mut self) {
        let done: u64 = self.clients.iter().map(|client| client.done).sum();
        if self.profile.rolls_back && self.rollback.copy.is_none() && done >= self.profile.operations / 3 {
            self.rollback.copy = Some(self.catalog.rows.clone());
        }
    }

    /// Puts the copy back, if there is one that was not put back yet.
    pub fn roll_back(&mut self) -> bool {
        let Some(copy) = self.rollback.copy.take() else { return false };
        self.profile.rolls_back = false;
        self.counts.fault(FaultKind::CatalogRolledBack);
        let now = self.queue.now();
        self.trace.line(now, format_args!("the catalog is put back"));
        self.rollback.before = self.lists();
        self.rollback.newest = Some(self.restart_on(copy));
        self.phase = Phase::RolledBack(now.after_ms(SPAN_MS));
        true
    }

    /// On the copy nothing may change, and somebody must notice. The oracle says so of every row of a group that is written: it is none
    /// that follows the true one.
    pub fn look_at_rollback(&mut self) {
        let changed =
            |what: &str| Err(Violation::new(Invariant::RowsFollow, format!("on a catalog that went back {what}")));
        if self.lists() != self.rollback.before {
            return self.judge(changed("a member's list has changed"));
        }
        let Phase::RolledBack(until) = self.phase else { return };
        if self.queue.now() < until {
            return;
        }
        if !self.is_suspended() {
            return self.judge(changed("the cell is not suspended"));
        }
        if let Some(newest) = self.rollback.newest.take() {
            self.restart_on(newest);
        }
        self.phase = Phase::Settling(self.queue.now());
    }

    /// Ends all daemons and starts them on another catalog. Gives the one it was on.
    fn restart_on(&mut self, rows: MemoryCatalog) -> MemoryCatalog {
        (0..self.daemons.len()).for_each(|daemon| self.stop_daemon(daemon));
        let replaced = std::mem::replace(&mut self.catalog.rows, rows);
        self.look_at_lease();
        self.start_daemons();
        replaced
    }

    fn lists(&self) -> Lists {
        let of_node = |host: &super::node::NodeHost| {
            let disk = host.disk.id;
            let list = |pg| ((disk, pg), host.machine.list(pg).cloned().unwrap_or_default());
            host.machine.pgs().map(list).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(of_node).collect()
    }

    fn is_suspended(&self) -> bool {
        let row = self.catalog.rows.get(&key::cell()).and_then(|found| decode_row::<CellRow>(&found.value).ok());
        row.is_some_and(|row| row.suspended.is_some())
    }
}
