//! The end of a daemon, and the mark that keeps the next one from beginning.
//!
//! A member that heard a later row than the catalog's, or another of the same number, proves that this catalog is not the one
//! its groups were changed under. Nothing written on it could be right. What members remember stops a daemon each time it
//! meets one of them; the mark in the cell's row stops all daemons, whoever is there to be met.

use super::effect::Stopped;
use super::{Coordinator, CoordinatorEvent, Op, Timer};
use crate::catalog::{CellRow, Found, Txn, TxnResult, key};
use crate::wire::codec::{decode_row, encode_row};

/// Times that the mark is tried. A catalog that does not take it is not one that is worked on either.
const TRIES: u32 = 20;
const REASON_CHARS_MAX: usize = 500;

/// The mark, on its way into the catalog.
#[derive(Debug)]
pub(super) struct Suspending {
    reason: String,
    tries: u32,
}

impl Coordinator {
    /// Whether nothing is to be done any more but to end.
    pub(super) fn is_ending(&self) -> bool {
        self.stopped || self.suspending.is_some()
    }

    /// The catalog went back in time or forked: nothing is changed any more, and that is written down before the end.
    pub(super) fn suspend(&mut self, reason: &str) {
        if self.is_ending() {
            return;
        }
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        let text = format!("the catalog went back in time or forked, nothing is changed any more: {reason}");
        self.note("cell_suspended", text, vec![("reason", reason.clone())]);
        self.suspending = Some(Suspending { reason, tries: 0 });
        self.write_mark();
    }

    /// Of all that still happens, only what has to do with the mark counts.
    pub(super) fn suspend_onwards(&mut self, event: CoordinatorEvent) {
        match event {
            CoordinatorEvent::Rows { op, rows } => {
                if let Some(Op::Suspend) = self.ops.remove(&op) {
                    self.mark_looked(rows);
                }
            }
            CoordinatorEvent::Txn { op, result } => {
                if let Some(Op::Suspend) = self.ops.remove(&op) {
                    self.mark_written(result);
                }
            }
            CoordinatorEvent::Tick => {
                self.wake = None;
                let due: Vec<Timer> =
                    self.timers.iter().take_while(|(at, _)| *at <= self.now).map(|(_, timer)| *timer).collect();
                self.timers.retain(|(at, timer)| *timer == Timer::Suspend && *at > self.now);
                if due.contains(&Timer::Suspend) {
                    self.get(Op::Suspend, vec![key::cell()]);
                }
            }
            _ => {}
        }
        self.wish_to_wake();
    }

    fn write_mark(&mut self) {
        let Some(suspending) = &mut self.suspending else { return };
        suspending.tries += 1;
        let reason = suspending.reason.clone();
        let Some((cell, revision)) = self.cell.clone().filter(|_| suspending.tries <= TRIES) else {
            return self.stop(Stopped::Suspended { reason });
        };
        let marked = CellRow { suspended: Some(reason.clone()), ..cell };
        match encode_row(&marked) {
            Ok(value) => self.txn(Op::Suspend, Txn::new().compare(key::cell(), revision).put(key::cell(), value)),
            Err(_) => self.stop(Stopped::Suspended { reason }),
        }
    }

    fn mark_written(&mut self, result: TxnResult) {
        match (&self.suspending, result) {
            (Some(suspending), TxnResult::Done { .. }) => {
                let reason = suspending.reason.clone();
                self.stop(Stopped::Suspended { reason });
            }
            _ => self.after(self.retry_after(), Timer::Suspend),
        }
    }

    fn mark_looked(&mut self, rows: Result<Vec<Option<Found>>, String>) {
        match rows {
            Ok(rows) => self.take_cell(rows),
            Err(_) => return self.after(self.retry_after(), Timer::Suspend),
        }
        if !self.stopped {
            self.write_mark();
        }
    }

    /// A transaction was refused. That may be the cell's row: look at it, once for all that were.
    pub(super) fn doubt_cell(&mut self) {
        if self.cell.is_some() && !self.ops.values().any(|op| matches!(op, Op::Cell)) {
            self.get(Op::Cell, vec![key::cell()]);
        }
    }

    /// The cell's row, read again: of the same content it has a new revision; of another it is not this daemon's any more.
    pub(super) fn take_cell(&mut self, rows: Vec<Option<Found>>) {
        let found = rows.into_iter().next().flatten();
        let read = found.and_then(|found| Some((decode_row::<CellRow>(&found.value).ok()?, found.revision)));
        match (read, &mut self.cell) {
            (Some((row, _)), _) if row.suspended.is_some() => {
                let reason = row.suspended.unwrap_or_default();
                self.stop(Stopped::Suspended { reason });
            }
            (Some((row, revision)), Some((known, known_revision))) if row == *known => *known_revision = revision,
            _ => self.stop(Stopped::OtherCell),
        }
    }
}
