//! Putting an end to puts that will not come to one of their own: what they committed is doomed.

use super::puts::{GrantState, Phase};
use super::{Asker, Coordinator, Op, Timer};
use crate::catalog::{Found, Txn, TxnResult, key};
use crate::id::StreamKey;
use crate::pg::PgEvent;
use crate::time::Millis;
use crate::wire::codec::{decode_row, encode_row};
use crate::wire::daemon::{AttemptState, ExtentEntry};
use crate::wire::{DaemonReply, Refusal};

/// Open rows doomed in one transaction.
const PAGE: usize = 256;
/// How often a commit of unknown end is looked at again.
const LOOK_AGAIN: Millis = Millis(2_000);

impl Coordinator {
    pub(super) fn abort_put(&mut self, asker: Asker, stream: StreamKey) {
        if self.finished.get(stream).is_some() {
            return self.refuse(asker, Refusal::Invalid("the put is whole: remove its names instead".into()));
        }
        let Some(put) = self.puts.get_mut(&stream) else { return self.refuse(asker, Refusal::NotFound) };
        put.mourners.push(asker);
        self.give_up(stream);
    }

    /// Begins to give a put up. No step of it can take a whole stream apart: open rows are compared, and gone once it is whole.
    pub(super) fn give_up(&mut self, stream: StreamKey) {
        let Some(put) = self.puts.get_mut(&stream).filter(|put| put.phase == Phase::Open) else { return };
        put.phase = Phase::Dying;
        let granted = |held: &super::puts::Held| matches!(held.state, GrantState::Granted);
        let (dead, alive) = std::mem::take(&mut put.grants).into_iter().partition(|(_, held)| granted(held));
        put.grants = alive;
        let dead: std::collections::BTreeMap<u64, super::puts::Held> = dead;
        for held in dead.into_values() {
            self.inbox.push_back((held.extent.pg(), PgEvent::Forsake { attempt: held.attempt }));
        }
        self.give_up_onwards(stream);
    }

    /// A commit of a put ended that was given up meanwhile.
    pub(super) fn bury_if_dying(&mut self, stream: StreamKey) {
        if let Some(put) = self.puts.get_mut(&stream).filter(|put| put.phase == Phase::Dying) {
            put.grants.retain(|_, held| !matches!(held.state, GrantState::Granted));
            self.give_up_onwards(stream);
        }
    }

    /// Reads what the put has on file, once no commit of it is under way.
    pub(super) fn give_up_onwards(&mut self, stream: StreamKey) {
        let Some(put) = self.puts.get(&stream).filter(|put| put.phase == Phase::Dying) else { return };
        let committing = put.grants.values().any(|held| matches!(held.state, GrantState::Committing { .. }));
        let reading =
            self.ops.values().any(|op| matches!(op, Op::GiveUp { stream: under_way } if *under_way == stream));
        if !committing && !reading {
            self.get_range(Op::GiveUp { stream }, key::open_stream(stream), None, PAGE);
        }
    }

    pub(super) fn give_up_rows(&mut self, stream: StreamKey, rows: Result<Vec<Found>, String>) {
        let Ok(rows) = rows else {
            return self.after(self.retry_after(), Timer::GiveUp(stream));
        };
        if rows.is_empty() {
            return self.given_up(stream);
        }
        let mut txn = Txn::new();
        for found in rows {
            let entry: ExtentEntry = match decode_row(&found.value) {
                Ok(entry) => entry,
                Err(error) => return self.stop(format!("an open extent of stream {stream} cannot be read: {error}")),
            };
            match encode_row(&()) {
                Ok(value) => txn = txn.put(key::doomed(entry.extent), value),
                Err(error) => return self.stop(error.to_string()),
            }
            txn = txn.compare(found.key.clone(), found.revision).delete(found.key);
            if let Some(put) = self.puts.get_mut(&stream) {
                put.dooming.insert(entry.extent);
            }
        }
        self.txn(Op::GiveUp { stream }, txn);
    }

    pub(super) fn give_up_written(&mut self, stream: StreamKey, result: TxnResult) {
        match result {
            TxnResult::Done { .. } => self.give_up_onwards(stream),
            TxnResult::Refused | TxnResult::Unknown => self.after(self.retry_after(), Timer::GiveUp(stream)),
        }
    }

    /// Nothing of it is on file (any more). If a commit may yet have taken effect, it is looked at again.
    fn given_up(&mut self, stream: StreamKey) {
        let unsure: Vec<u64> =
            self.puts.get(&stream).map(|put| put.grants.keys().copied().collect()).unwrap_or_default();
        let states: Vec<AttemptState> = unsure.into_iter().map(|ordinal| self.look_again(stream, ordinal)).collect();
        if !self.puts.contains_key(&stream) {
            // Its end turned out to have been committed.
            return;
        }
        if states.contains(&AttemptState::Live) {
            return self.after(LOOK_AGAIN, Timer::GiveUp(stream));
        }
        if states.contains(&AttemptState::Committed) {
            return self.give_up_onwards(stream);
        }
        let Some(put) = self.puts.remove(&stream) else { return };
        // Only now: their rows have gone from open to doomed, whichever of the tries did it.
        for extent in put.dooming {
            self.doom(extent);
        }
        for asker in put.mourners {
            self.reply(asker, DaemonReply::PutAborted);
        }
        let text = format!("the put of stream {stream} was given up");
        self.note("put_given_up", text, vec![("stream", stream.to_string())]);
    }
}
