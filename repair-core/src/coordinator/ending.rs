//! The end of a put: its last extent, its row and its names appear in one transaction.

use super::Coordinator;
use super::names::{forget, whole_stream};
use super::puts::Phase;
use super::tasks::{Next, Reading, Work, doom_rows, put_row, read_row};
use crate::catalog::{Found, NameRow, StreamRow, Txn, Write, key};
use crate::id::{AttemptId, ExtentKey, StreamKey};
use crate::node::Body;
use crate::pg::PgEvent;
use crate::wire::Refusal;
use crate::wire::daemon::{EndOfStream, ExtentEntry};
use std::collections::BTreeMap;

/// A put on its last step.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) entry: ExtentEntry,
    pub(super) attempt: AttemptId,
    pub(super) record: Body,
    pub(super) row: StreamRow,
    /// Each name and what is to stand under it.
    names: Vec<(Vec<u8>, NameRow)>,
    /// What stood under them, by stream; none before the names were read.
    replaced: Option<BTreeMap<StreamKey, Vec<NameRow>>>,
    beside: Txn,
    pub(super) doomed: Vec<ExtentKey>,
}

impl Ending {
    /// The rows it reads first: its own stream's, those of its open extents, those of its names.
    fn first_reading(&self) -> Reading {
        let names: Vec<Vec<u8>> = self.names.iter().map(|(name, _)| key::name(name)).collect();
        let keys = [key::stream(self.row.stream)].into_iter().chain(self.open_keys()).chain(names.iter().cloned());
        Reading { keys: keys.collect(), locks: names }
    }

    /// Keys of the open rows of all extents but the last, which is committed with the stream.
    fn open_keys(&self) -> impl Iterator<Item = Vec<u8>> {
        let committed = self.row.extents.len().saturating_sub(1) as u64;
        (0..committed).map(|ordinal| key::open(self.row.stream, ordinal))
    }

    pub(super) fn rows(&mut self, rows: Vec<Option<Found>>) -> Result<Next, Refusal> {
        match self.replaced.take() {
            None => self.first_rows(rows),
            Some(replaced) => self.stream_rows(replaced, rows),
        }
    }

    fn first_rows(&mut self, rows: Vec<Option<Found>>) -> Result<Next, Refusal> {
        let mut rows = rows.into_iter();
        // A row of this stream, or one of its extents gone: another daemon has had this put in its hands.
        if rows.next().flatten().is_some() {
            return Err(Refusal::NotFound);
        }
        let mut txn = Txn::new().compare(key::stream(self.row.stream), 0);
        for (open, extent) in self.open_keys().zip(&self.row.extents) {
            let found = read_row::<ExtentEntry>(rows.next().flatten())?;
            let (_, revision) = found.filter(|(entry, _)| entry.extent == extent.extent).ok_or(Refusal::NotFound)?;
            txn = txn.compare(open, revision);
        }
        let mut replaced: BTreeMap<StreamKey, Vec<NameRow>> = BTreeMap::new();
        for (name, row) in &self.names {
            let found = read_row::<NameRow>(rows.next().flatten())?;
            txn = txn.compare(key::name(name), found.map_or(0, |(_, revision)| revision));
            txn = put_row(txn, key::name(name), row)?;
            if let Some((old, _)) = found {
                replaced.entry(old.stream).or_default().push(old);
            }
        }
        txn = put_row(txn, key::stream(self.row.stream), &self.row)?;
        let prefix = key::open_stream(self.row.stream);
        txn.writes.push(Write::DeletePrefix { prefix });
        if replaced.is_empty() {
            return Ok(Next::Write(txn));
        }
        let streams: Vec<Vec<u8>> = replaced.keys().map(|stream| key::stream(*stream)).collect();
        (self.beside, self.replaced) = (txn, Some(replaced));
        Ok(Next::Read(Reading { locks: streams.clone(), keys: streams }))
    }

    fn stream_rows(
        &mut self,
        replaced: BTreeMap<StreamKey, Vec<NameRow>>,
        rows: Vec<Option<Found>>,
    ) -> Result<Next, Refusal> {
        let mut txn = std::mem::take(&mut self.beside);
        for ((stream, names), found) in replaced.into_iter().zip(rows) {
            let Some((row, revision)) = read_row::<StreamRow>(found)? else { continue };
            let doomed;
            (txn, doomed) = forget_names(txn, stream, row, revision, names)?;
            self.doomed.extend(doomed);
        }
        Ok(Next::Write(txn))
    }
}

/// Takes names off a stream in a transaction, and with the last of them the stream. Returns the extents it dooms, too.
pub(super) fn forget_names(
    txn: Txn,
    stream: StreamKey,
    mut row: StreamRow,
    revision: u64,
    names: impl IntoIterator<Item = NameRow>,
) -> Result<(Txn, Vec<ExtentKey>), Refusal> {
    let doomed = forget(&mut row, names);
    let txn = txn.compare(key::stream(stream), revision);
    let txn = match row.names {
        0 => put_row(txn.delete(key::stream(stream)), key::ended(stream), &())?,
        _ => put_row(txn, key::stream(stream), &row)?,
    };
    Ok((doom_rows(txn, &doomed)?, doomed))
}

impl Coordinator {
    pub(super) fn end_stream(
        &mut self,
        stream: StreamKey,
        entry: ExtentEntry,
        attempt: AttemptId,
        end: &EndOfStream,
        record: Body,
    ) {
        match self.ending(stream, entry, attempt, end, record) {
            Ok(ending) => {
                let reading = ending.first_reading();
                self.begin_task(Work::End(Box::new(ending)), reading);
            }
            Err(reason) => self.commit_refused(stream, entry.ordinal, &Refusal::Invalid(reason)),
        }
    }

    fn ending(
        &self,
        stream: StreamKey,
        entry: ExtentEntry,
        attempt: AttemptId,
        end: &EndOfStream,
        record: Body,
    ) -> Result<Ending, String> {
        let put = self.puts.get(&stream).filter(|put| put.phase == Phase::Open).ok_or("no such put")?;
        let extents: Vec<ExtentEntry> = put.committed.values().copied().chain([entry]).collect();
        if !put.names.keys().copied().eq(0..put.names.len() as u64) {
            return Err(format!("of {} names not all came", end.names));
        }
        let row = whole_stream(stream, &extents, put.names.values(), end)?;
        let row_of = |offset, bytes| NameRow { stream, offset, bytes };
        let names = put.names.values().map(|name| (name.name.clone(), row_of(name.offset, name.bytes))).collect();
        Ok(Ending { entry, attempt, record, row, names, replaced: None, beside: Txn::new(), doomed: Vec::new() })
    }

    /// The end could not be tried. If the session turned out not to be what the catalog has, it is forgotten: the client begins
    /// again and is told what is there.
    pub(super) fn end_fails(&mut self, stream: StreamKey, ordinal: u64, refusal: Refusal) {
        let stale = refusal == Refusal::NotFound;
        self.commit_refused(stream, ordinal, &refusal);
        if stale && let Some(put) = self.puts.remove(&stream) {
            for held in put.grants.into_values() {
                self.inbox.push_back((held.extent.pg(), PgEvent::Forsake { attempt: held.attempt }));
            }
            for asker in put.mourners {
                self.refuse(asker, Refusal::NotFound);
            }
        }
    }
}
