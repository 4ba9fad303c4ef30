//! The catalog's answers. One question at a time; what a write did is known only from a "done" or from the row itself
//! (`commit.md` line 12).

use super::claim::{Rows, keys};
use super::commit::End;
use super::effect::{CallId, DeleteResult, PgEffect, PgEvent, PgOutcome};
use super::group::{Group, Phase};
use super::write::{Pending, Purpose, Write};
use crate::catalog::{EntryKind, Found, Txn, TxnResult, key};
use crate::time::Time;
use crate::wire::codec::encode_row;

/// What the catalog is doing for us.
#[derive(Debug)]
pub(super) enum Lane {
    Idle,
    Reading(CallId),
    Writing(CallId, Box<Write>),
    /// It did not answer: read the rows then.
    Waiting(Time),
}

impl Group {
    /// Asks the catalog the next thing, if it is free.
    pub(super) fn drive_catalog(&mut self) {
        match self.lane {
            Lane::Idle if self.doubt.is_some() || !self.pending.is_empty() || !self.absent.is_empty() => self.look(),
            Lane::Idle => {
                if let Some(write) = self.next_write() {
                    self.write(write);
                }
            }
            Lane::Waiting(at) if at <= self.now => self.look(),
            Lane::Reading(_) | Lane::Writing(..) | Lane::Waiting(_) => {}
        }
    }

    pub(super) fn next_of_catalog(&self) -> Option<Time> {
        if let Lane::Waiting(at) = self.lane { Some(at) } else { None }
    }

    /// Whether the row is known and nothing is on its way to change it.
    pub(super) fn row_rests(&self) -> bool {
        matches!(self.lane, Lane::Idle) && self.pending.is_empty()
    }

    fn look(&mut self) {
        self.absent.iter_mut().for_each(|absent| absent.looking = true);
        let op = self.out.next_call();
        self.out.push(PgEffect::Get { op, keys: keys(self.row.pg) });
        self.lane = Lane::Reading(op);
    }

    fn write(&mut self, write: Write) {
        let bytes = match encode_row(&write.next) {
            Ok(bytes) => bytes,
            Err(error) => {
                // Cannot be while the limits of entries and members hold; if it is, nothing was sent.
                self.wait_for_catalog(format!("the group's row does not fit the catalog: {error}"));
                return;
            }
        };
        let pg = self.row.pg;
        let mut txn = Txn::new()
            .compare(key::cell(), self.cell_revision)
            .compare(key::pg(pg), self.revision)
            .compare(key::owner(pg), self.owner_revision)
            .put(key::pg(pg), bytes);
        txn.compares.extend(write.beside.compares.iter().cloned());
        txn.writes.extend(write.beside.writes.iter().cloned());
        let op = self.out.next_call();
        self.out.push(PgEffect::Txn { op, txn });
        self.lane = Lane::Writing(op, Box::new(write));
    }

    fn wait_for_catalog(&mut self, trouble: String) {
        self.catalog_trouble = Some(trouble);
        self.lane = Lane::Waiting(self.now + self.config.retry_after);
    }

    pub(super) fn on_txn(&mut self, op: CallId, result: TxnResult) {
        let write = match std::mem::replace(&mut self.lane, Lane::Idle) {
            Lane::Writing(writing, write) if writing == op => *write,
            other => {
                self.lane = other;
                return;
            }
        };
        match result {
            TxnResult::Done { revision } => {
                let killed = std::mem::take(&mut self.pending);
                self.resolved(write.next, revision, &write.purpose, killed);
            }
            TxnResult::Refused | TxnResult::Unknown => {
                let refused = result == TxnResult::Refused;
                self.unknown(Pending { next: write.next, purpose: write.purpose, refused });
            }
        }
    }

    /// Neither "no" nor silence says what a write did. The row will.
    fn unknown(&mut self, pending: Pending) {
        self.catalog_trouble = Some("what became of a row write is not known yet".to_owned());
        let again = self.pending.iter().any(|earlier| earlier.next == pending.next);
        if again {
            // A kill that was tried before: the catalog is in trouble, do not press.
            self.lane = Lane::Waiting(self.now + self.config.retry_after);
        } else {
            self.pending.push(pending);
            self.look();
        }
    }

    /// One write is known to have been applied; all others that compared the same row are dead by it.
    fn resolved(&mut self, next: crate::catalog::PgRow, revision: u64, purpose: &Purpose, killed: Vec<Pending>) {
        self.catalog_trouble = None;
        self.applied(next, revision, purpose);
        for pending in killed {
            if let Purpose::Commit(attempts) = &pending.purpose {
                self.commit_killed(attempts, pending.refused);
            }
        }
    }

    pub(super) fn on_rows(&mut self, op: CallId, rows: Result<Vec<Option<Found>>, String>) {
        if !matches!(self.lane, Lane::Reading(reading) if reading == op) {
            return;
        }
        self.lane = Lane::Idle;
        let rows = match Rows::decode(rows) {
            Ok(rows) => rows,
            Err(trouble) => {
                self.wait_for_catalog(trouble);
                return;
            }
        };
        let (Some(pg), Some((owner, owner_revision)), Some((cell, cell_revision))) = (rows.pg, rows.owner, rows.cell)
        else {
            self.went_back("rows this owner has written are not there".to_owned());
            return;
        };
        if let Some(reason) = cell.suspended {
            self.went_back(reason);
            return;
        }
        if cell != self.cell || owner.token.claim != self.token.claim {
            self.deposed();
            return;
        }
        if owner.token != self.token || owner_revision != self.owner_revision {
            self.went_back("the owner row is an older one of this claim".to_owned());
            return;
        }
        if let Some(doubt) = self.doubt.take() {
            self.went_back(doubt);
            return;
        }
        // Compares that could not hold because of the cell's row say nothing about what lay beside.
        let same_cell = cell_revision == self.cell_revision;
        self.cell_revision = cell_revision;
        self.catalog_trouble = None;
        if pg.revision != self.revision {
            self.match_row(pg.row, pg.revision);
        }
        if self.pending.is_empty() {
            self.answer_absent();
        } else {
            self.kill(same_cell);
        }
    }

    /// The row is the one all pending writes compared: each may yet be applied, until another was.
    fn kill(&mut self, same_cell: bool) {
        for pending in &mut self.pending {
            pending.refused &= same_cell;
        }
        let mut next = self.row.clone();
        next.seq += 1;
        next.incarnation = self.cell.incarnation;
        self.write(Write { next, purpose: Purpose::Kill, beside: Txn::new() });
    }

    /// The row is another: one of the pending writes made it, for only we write it while we own it.
    fn match_row(&mut self, row: crate::catalog::PgRow, revision: u64) {
        let mut killed = std::mem::take(&mut self.pending);
        match killed.iter().position(|pending| pending.next == row) {
            Some(at) => {
                let applied = killed.swap_remove(at);
                self.resolved(row, revision, &applied.purpose, killed);
            }
            None => {
                self.went_back("the group's row is none this owner wrote".to_owned());
            }
        }
    }

    fn deposed(&mut self) {
        self.end("another claim owns the group now");
        self.out.tell(PgOutcome::Deposed);
    }

    fn went_back(&mut self, reason: String) {
        self.end("the catalog went back in time");
        self.out.tell(PgOutcome::CatalogWentBack { reason });
    }

    /// Nothing more comes from here. What was not decided is unknown: the next claim's list decides (line 13).
    fn end(&mut self, reason: &str) {
        self.phase = Phase::Ended;
        self.calls.clear();
        for (_, change) in std::mem::take(&mut self.changes) {
            for ticket in change.tickets {
                self.tell_unknown(change.kind, ticket, reason);
            }
        }
        for absent in std::mem::take(&mut self.absent) {
            self.tell_unknown(EntryKind::Delete, absent.ticket, reason);
        }
        for (_, dead) in std::mem::take(&mut self.dead) {
            for ticket in dead.tickets {
                self.tell_unknown(dead.kind, ticket, reason);
            }
        }
    }

    pub(super) fn tell_unknown(&mut self, kind: EntryKind, ticket: super::Ticket, reason: &str) {
        let reason = reason.to_owned();
        self.tell_end(kind, ticket, End::Unknown(reason));
    }

    /// Answers what still comes after the end.
    pub(super) fn refuse(&mut self, event: PgEvent) {
        let reason = "this owner does not own the group any more";
        match event {
            PgEvent::Create { ticket, .. } => self.tell_unknown(EntryKind::Create, ticket, reason),
            PgEvent::Supersede { ticket, .. } => self.tell_unknown(EntryKind::Supersede, ticket, reason),
            PgEvent::Delete { ticket, .. } => {
                let result = DeleteResult::NotNow { reason: reason.to_owned() };
                self.out.tell(PgOutcome::Deleted { ticket, result });
            }
            _ => {}
        }
    }
}
