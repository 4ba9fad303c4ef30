//! Which changes go into one transaction, and what becomes of them with it.

use super::commit::End;
use super::commit::Verdict;
use super::effect::PgOutcome;
use super::group::{Group, Settled};
use super::write::{Purpose, Write};
use crate::catalog::{Compare, Entry, EntryKind, Txn, Write as RowWrite};
use crate::id::AttemptId;
use crate::limits::ENTRIES_MAX;
use std::collections::BTreeSet;

/// Bytes of keys and values beside the row in a transaction of several changes. One alone may have more.
const BESIDE_BYTES_MAX: usize = 256 << 10;
/// Writes a change may be in that a later one killed; a catalog that fails so often is left alone.
const KILLED_MAX: u32 = 3;

impl Group {
    /// The write that commits what is ready: all of it, as far as the changes do not touch the same rows.
    pub(super) fn commit_write(&mut self) -> Option<Write> {
        if self.changes.values().all(|change| change.writing) {
            return None;
        }
        let mut next = self.next_row();
        let attempts = self.choose(ENTRIES_MAX.saturating_sub(next.entries.len()));
        if attempts.is_empty() {
            return None;
        }
        let mut beside = Txn::new();
        for attempt in &attempts {
            let Some(change) = self.changes.get_mut(attempt) else { continue };
            change.writing = true;
            let (kind, extent, hash) = (change.kind, change.extent, change.hash);
            next.entries.push(Entry { seq: next.seq, kind, extent, hash, attempt: *attempt });
            (next.count, next.sum) = match kind {
                EntryKind::Create | EntryKind::CreateOther => (next.count + 1, next.sum.plus(&hash)),
                EntryKind::Delete => (next.count.saturating_sub(1), next.sum.minus(&hash)),
                // What it takes the place of was on the list when it was judged, just now.
                EntryKind::Supersede => {
                    let old = self.list.get(&extent).copied().unwrap_or_default();
                    (next.count, next.sum.minus(&old).plus(&hash))
                }
                EntryKind::Release => (next.count, next.sum),
            };
            beside.compares.extend(change.beside.compares.iter().cloned());
            beside.writes.extend(change.beside.writes.iter().cloned());
        }
        Some(Write { next, purpose: Purpose::Commit(attempts), beside })
    }

    fn choose(&self, room: usize) -> Vec<AttemptId> {
        let (mut chosen, mut touched) = (Vec::new(), Touched::default());
        for (attempt, change) in &self.changes {
            if chosen.len() >= room {
                break;
            }
            if change.writing || self.judge(change) != Verdict::Ready {
                continue;
            }
            if change.alone {
                if chosen.is_empty() {
                    return vec![*attempt];
                }
                continue;
            }
            if touched.takes(&change.beside) || chosen.is_empty() {
                touched.add(&change.beside);
                chosen.push(*attempt);
            }
        }
        chosen
    }

    /// The write with these was applied: they are on file.
    pub(super) fn finish_committed(&mut self, attempts: &[AttemptId]) {
        for attempt in attempts {
            let Some(change) = self.changes.remove(attempt) else { continue };
            self.remember_end(attempt.number, Settled::Committed);
            let prepared = change.prepared();
            let degraded = !self.row.members.iter().all(|disk| prepared.contains(disk));
            for ticket in change.tickets {
                self.tell_end(change.kind, ticket, End::Committed { degraded });
            }
            if change.kind == EntryKind::Release {
                self.out.tell(PgOutcome::Released { extent: change.extent });
            }
        }
    }

    /// The write with these can never be applied any more: a later one was. They are still prepared, so they may be tried again,
    /// each by itself; one that a condition of its own refuses is at its end.
    pub(super) fn commit_killed(&mut self, attempts: &[AttemptId], refused: bool) {
        for attempt in attempts {
            let Some(change) = self.changes.get_mut(attempt) else { continue };
            change.writing = false;
            change.alone = true;
            change.killed += 1;
            let killed = change.killed;
            if let Some(reason) = self.frozen.clone() {
                self.end_changes_frozen(&reason);
            } else if refused && attempts.len() == 1 {
                self.give_up(*attempt, "a condition of its transaction does not hold".to_owned());
            } else if killed >= KILLED_MAX {
                self.give_up(*attempt, "the catalog did not take it".to_owned());
            }
        }
    }
}

/// Keys that the changes of one transaction compare and write. Two that meet in a key could each be right and both be wrong.
#[derive(Default)]
struct Touched {
    compared: BTreeSet<Vec<u8>>,
    written: BTreeSet<Vec<u8>>,
    prefixes: Vec<Vec<u8>>,
    bytes: usize,
}

impl Touched {
    /// Whether another's conditions and writes may stand beside those here.
    fn takes(&self, beside: &Txn) -> bool {
        let compares = beside.compares.iter().all(|Compare { key, .. }| !self.is_written(key));
        let writes = beside.writes.iter().all(|write| match write {
            RowWrite::Put { key, .. } | RowWrite::Delete { key } => {
                !self.is_written(key) && !self.compared.contains(key)
            }
            RowWrite::DeletePrefix { prefix } => !self.has_under(prefix),
        });
        compares && writes && self.bytes + bytes_of(beside) <= BESIDE_BYTES_MAX
    }

    fn is_written(&self, key: &[u8]) -> bool {
        self.written.contains(key) || self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    fn has_under(&self, prefix: &[u8]) -> bool {
        let under =
            |keys: &BTreeSet<Vec<u8>>| keys.range(prefix.to_vec()..).next().is_some_and(|key| key.starts_with(prefix));
        let meets = |other: &Vec<u8>| other.starts_with(prefix) || prefix.starts_with(other);
        under(&self.compared) || under(&self.written) || self.prefixes.iter().any(meets)
    }

    fn add(&mut self, beside: &Txn) {
        self.bytes += bytes_of(beside);
        self.compared.extend(beside.compares.iter().map(|compare| compare.key.clone()));
        for write in &beside.writes {
            match write {
                RowWrite::Put { key, .. } | RowWrite::Delete { key } => _ = self.written.insert(key.clone()),
                RowWrite::DeletePrefix { prefix } => self.prefixes.push(prefix.clone()),
            }
        }
    }
}

fn bytes_of(beside: &Txn) -> usize {
    let compares: usize = beside.compares.iter().map(|compare| compare.key.len()).sum();
    let writes = beside.writes.iter().map(|write| match write {
        RowWrite::Put { key, value } => key.len() + value.len(),
        RowWrite::Delete { key } | RowWrite::DeletePrefix { prefix: key } => key.len(),
    });
    compares + writes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn besides_that_meet_in_a_key_one_of_them_writes_do_not_share_a_transaction() {
        let key = |text: &str| text.as_bytes().to_vec();
        let prefix = |text: &str| Txn { compares: vec![], writes: vec![RowWrite::DeletePrefix { prefix: key(text) }] };
        let touched = |beside: &Txn| {
            let mut touched = Touched::default();
            touched.add(beside);
            touched
        };
        let rename = Txn::new().compare(key("n/a"), 3).put(key("n/a"), vec![1]);
        assert!(!touched(&rename).takes(&rename));
        assert!(!touched(&rename).takes(&Txn::new().compare(key("n/a"), 3)), "compares what the other writes");
        assert!(!touched(&Txn::new().compare(key("n/a"), 3)).takes(&rename), "writes what the other compares");
        assert!(touched(&Txn::new().compare(key("c"), 3)).takes(&Txn::new().compare(key("c"), 3)));
        assert!(touched(&rename).takes(&Txn::new().put(key("n/b"), vec![])));
        assert!(!touched(&rename).takes(&prefix("n/")));
        assert!(!touched(&prefix("n/")).takes(&Txn::new().delete(key("n/q"))));
        assert!(!touched(&prefix("n/")).takes(&prefix("n/q")));
        assert!(touched(&prefix("n/")).takes(&prefix("o/")));
        let large = Txn::new().put(key("large"), vec![0; BESIDE_BYTES_MAX]);
        assert!(!touched(&rename).takes(&large));
    }
}
