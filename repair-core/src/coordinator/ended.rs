//! Streams that were whole and are gone: their last name was removed, or given to another stream.
//!
//! The client of such a put may not have heard that it became whole, and ask a daemon that does not know of it any more. Begun anew,
//! the put would bring back what was removed, or put what is old in the place of what is new. So a row stays behind, written in
//! the transaction that takes the stream away, for longer than any client goes on asking: a row found by one look is deleted by the
//! next, so that none goes early however old it is when a daemon begins.

use super::{Coordinator, Op, Timer};
use crate::catalog::{Found, Txn, key};
use crate::time::Millis;

/// From one look to the next.
const LOOK_EVERY: Millis = Millis(3_600_000);
/// Rows read at once, and deleted in one transaction.
const PAGE: usize = 500;

/// How far the rows have been looked at, by their revision in the catalog.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Those up to here were there at the look before: they may go.
    old: u64,
    /// The newest of this look.
    newest: u64,
}

impl Coordinator {
    pub(super) fn look_at_ended(&mut self) {
        self.ended.old = std::mem::take(&mut self.ended.newest);
        self.get_range(Op::Ended, key::ENDED.to_vec(), None, PAGE);
    }

    /// What is not read or not deleted this time is found again.
    pub(super) fn ended_rows(&mut self, rows: Result<Vec<Found>, String>) {
        let rows = rows.unwrap_or_default();
        let mut txn = Txn::new();
        for row in &rows {
            self.ended.newest = self.ended.newest.max(row.revision);
            if row.revision <= self.ended.old {
                txn = txn.delete(row.key.clone());
            }
        }
        if !txn.writes.is_empty() {
            self.txn(Op::Ended, txn);
        }
        match rows.last().filter(|_| rows.len() == PAGE) {
            Some(last) => self.get_range(Op::Ended, key::ENDED.to_vec(), Some(last.key.clone()), PAGE),
            None => self.after(LOOK_EVERY, Timer::Ended),
        }
    }
}
