//! Tasks that change names: the end of a put, and a removal. Each takes locks, reads rows, and compares them in its transaction.

use super::ending::Ending;
use super::removing::Removing;
use super::{Coordinator, Op};
use crate::catalog::{Found, Txn, TxnResult, key};
use crate::id::ExtentKey;
use crate::wire::Refusal;
use crate::wire::codec::{CodecError, decode_row, encode_row};

/// What has to be done.
#[derive(Debug)]
pub(super) enum Work {
    End(Box<Ending>),
    Remove(Removing),
}

/// A task and the rows it wants next.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) work: Work,
    pub(super) reading: Reading,
}

/// Rows to read, once these locks are held.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    pub(super) locks: Vec<Vec<u8>>,
    pub(super) keys: Vec<Vec<u8>>,
}

/// What follows from rows.
#[derive(Debug)]
pub(super) enum Next {
    Read(Reading),
    Write(Txn),
    /// It is over, and well.
    Done,
}

/// A row that was there, with its revision.
pub(super) type Row<T> = Option<(T, u64)>;

/// The row that was found, if any.
pub(super) fn read_row<T: serde::de::DeserializeOwned>(found: Option<Found>) -> Result<Row<T>, Refusal> {
    let unreadable = |error: CodecError| Refusal::Unavailable(format!("a row of the catalog cannot be read: {error}"));
    found.map(|found| Ok((decode_row(&found.value).map_err(unreadable)?, found.revision))).transpose()
}

/// A transaction that sets a row.
pub(super) fn put_row(txn: Txn, key: Vec<u8>, row: &impl serde::Serialize) -> Result<Txn, Refusal> {
    let value = encode_row(row).map_err(|error| Refusal::Invalid(error.to_string()))?;
    Ok(txn.put(key, value))
}

/// A transaction that also dooms extents.
pub(super) fn doom_rows(mut txn: Txn, extents: &[ExtentKey]) -> Result<Txn, Refusal> {
    for extent in extents {
        txn = put_row(txn, key::doomed(*extent), &())?;
    }
    Ok(txn)
}

impl Coordinator {
    pub(super) fn begin_task(&mut self, work: Work, reading: Reading) {
        let id = self.number();
        self.tasks.insert(id, Task { work, reading });
        self.task_onwards(id);
    }

    /// Reads what a task needs, or lets it wait for a lock.
    pub(super) fn task_onwards(&mut self, id: u64) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Reading { locks, keys } = task.reading.clone();
        if self.locks.take(id, &locks) {
            self.get(Op::Task { task: id }, keys);
        }
    }

    /// A task has ended: those that waited for its locks go on. Extents it may have doomed are looked at; only what the catalog
    /// says to be doomed is deleted.
    pub(super) fn end_task(&mut self, id: u64) {
        let doomed = match self.tasks.remove(&id).map(|task| task.work) {
            Some(Work::End(end)) => end.doomed,
            Some(Work::Remove(remove)) => remove.doomed,
            None => Vec::new(),
        };
        for extent in doomed {
            self.doom(extent);
        }
        for waiting in self.locks.release(id) {
            self.task_onwards(waiting);
        }
    }

    /// Extents that the end of a put dooms, if it takes effect.
    pub(super) fn doomed_by(&self, id: u64) -> Vec<ExtentKey> {
        match self.tasks.get(&id).map(|task| &task.work) {
            Some(Work::End(end)) => end.doomed.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn task_rows(&mut self, id: u64, rows: Result<Vec<Option<Found>>, String>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let next = rows.map_err(Refusal::Unavailable).and_then(|rows| match &mut task.work {
            Work::End(end) => end.rows(rows),
            Work::Remove(remove) => remove.rows(rows),
        });
        match next {
            Ok(Next::Read(reading)) => {
                task.reading = reading;
                self.task_onwards(id);
            }
            Ok(Next::Write(txn)) => self.task_writes(id, txn),
            Ok(Next::Done) => self.remove_ends(id, Ok(())),
            Err(refusal) => self.task_fails(id, refusal),
        }
    }

    fn task_writes(&mut self, id: u64, txn: Txn) {
        let Some(task) = self.tasks.get(&id) else { return };
        match &task.work {
            Work::End(end) => {
                let (stream, entry, attempt) = (end.row.stream, end.entry, end.attempt);
                self.create(stream, entry, attempt, end.record.clone(), txn, Some(id));
            }
            Work::Remove(_) => self.txn(Op::Task { task: id }, txn),
        }
    }

    fn task_fails(&mut self, id: u64, refusal: Refusal) {
        match self.tasks.get(&id).map(|task| &task.work) {
            Some(Work::End(end)) => {
                let (stream, ordinal) = (end.row.stream, end.entry.ordinal);
                self.end_fails(stream, ordinal, refusal);
                self.end_task(id);
            }
            Some(Work::Remove(_)) => self.remove_ends(id, Err(refusal)),
            None => {}
        }
    }

    pub(super) fn task_written(&mut self, id: u64, result: TxnResult) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        // The end of a put is written by the owner of its last extent's group.
        let Work::Remove(remove) = &mut task.work else { return };
        match remove.written(result) {
            Ok(Next::Read(reading)) => {
                task.reading = reading;
                self.task_onwards(id);
            }
            Ok(_) => self.remove_ends(id, Ok(())),
            Err(refusal) => self.task_fails(id, refusal),
        }
    }
}
