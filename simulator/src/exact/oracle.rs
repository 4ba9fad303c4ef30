//! What is true: every applied transaction is seen here, and held against what clients were told.

use repair_core::catalog::{EntryKind, NameRow, PgRow, StreamExtentRow, StreamRow, Txn, Write, key};
use repair_core::id::{ExtentKey, PgId, RecordHash, StreamKey};
use repair_core::invariant::{Invariant, List, Violation, row_follows};
use repair_core::wire::codec::decode_row;
use repair_core::wire::daemon::{ExtentEntry, NameEntry};
use std::collections::{BTreeMap, BTreeSet};

/// How a put stands, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutState {
    /// Under way.
    Running,
    /// Acknowledged.
    Acked,
    /// Told to have failed.
    Failed,
    /// Its client does not know, or is dead.
    Unknown,
}

/// A put.
#[derive(Clone, Debug)]
pub struct Put {
    /// Its names.
    pub names: Vec<NameEntry>,
    /// How it stands.
    pub state: PutState,
    /// Whether its client ever asked for its end to be committed.
    pub is_end_sent: bool,
    /// Names of it that were visible once.
    appeared: BTreeSet<Vec<u8>>,
}

/// A placement group as the catalog has it.
#[derive(Clone, Debug)]
pub struct PgTruth {
    /// Its row.
    pub row: PgRow,
    /// Its list, made of all entries there ever were.
    pub list: List,
}

/// A PG row was written.
#[derive(Clone, Debug)]
pub struct RowWritten {
    /// The row before, if there was one.
    pub before: Option<PgRow>,
    /// The group.
    pub pg: PgId,
}

/// What is true.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// The groups.
    pub pgs: BTreeMap<PgId, PgTruth>,
    /// The puts there ever were.
    pub puts: BTreeMap<StreamKey, Put>,
    /// Removals that may take effect, by name.
    removes: BTreeMap<Vec<u8>, u32>,
    /// Each name's streams over time, by event number.
    history: BTreeMap<Vec<u8>, Vec<(u64, Option<NameRow>)>>,
    streams: BTreeMap<StreamKey, StreamRow>,
    /// Who refers to an extent: whole streams by their row, others by an open row's ordinal.
    references: BTreeMap<ExtentKey, BTreeSet<(StreamKey, Option<u64>)>>,
    open: BTreeMap<(StreamKey, u64), ExtentKey>,
    /// The first record seen of each extent.
    contents: BTreeMap<ExtentKey, RecordHash>,
    /// Number of the event in work.
    pub event: u64,
}

type Held = Result<(), Violation>;

fn hold(invariant: Invariant, holds: bool, what: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(Violation::new(invariant, what())) }
}

/// A name for people.
pub fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

impl Oracle {
    /// A put begins.
    pub fn begin_put(&mut self, stream: StreamKey, names: Vec<NameEntry>) {
        let put = Put { names, state: PutState::Running, is_end_sent: false, appeared: BTreeSet::new() };
        self.puts.insert(stream, put);
    }

    /// A put ended, for its client.
    ///
    /// # Errors
    /// Acknowledged and never visible.
    pub fn end_put(&mut self, stream: StreamKey, state: PutState) -> Held {
        let Some(put) = self.puts.get_mut(&stream) else { return Ok(()) };
        put.state = state;
        let missing = put.names.iter().find(|entry| !put.appeared.contains(&entry.name));
        match (state, missing) {
            (PutState::Acked, Some(entry)) => {
                let what = format!("{} of stream {stream} was acknowledged and never visible", shown(&entry.name));
                Err(Violation::new(Invariant::AckedStays, what))
            }
            (PutState::Failed, _) => hold(Invariant::FailedNeverAppears, put.appeared.is_empty(), || {
                format!("stream {stream} was told to have failed and is visible")
            }),
            _ => Ok(()),
        }
    }

    /// A removal begins; until it ended for sure it may take effect.
    pub fn begin_remove(&mut self, name: &[u8]) {
        *self.removes.entry(name.to_vec()).or_default() += 1;
    }

    /// A removal ended: done, or not found. `is_sure` if no earlier try of it may take effect yet.
    ///
    /// # Errors
    /// The name was there all the time since event `from`.
    pub fn end_remove(&mut self, name: &[u8], from: u64, is_sure: bool) -> Held {
        if let Some(count) = self.removes.get_mut(name).filter(|_| is_sure) {
            *count -= 1;
        }
        hold(Invariant::RemovedStaysRemoved, self.held(name, from).iter().any(Option::is_none), || {
            format!("{} was told to be gone and was there all the time", shown(name))
        })
    }

    /// All is quiet: no removal that went without an answer is under way any more.
    pub fn forget_removals(&mut self) {
        self.removes.clear();
    }

    /// What a name referred to at any time since event `from`.
    pub fn held(&self, name: &[u8], from: u64) -> Vec<Option<NameRow>> {
        let history = self.history.get(name).map_or(&[][..], Vec::as_slice);
        let first = history.iter().rposition(|(event, _)| *event < from);
        let earlier = if first.is_none() { Some(None) } else { None };
        earlier.into_iter().chain(history[first.unwrap_or(0)..].iter().map(|(_, row)| *row)).collect()
    }

    /// What a name refers to.
    pub fn now(&self, name: &[u8]) -> Option<NameRow> {
        self.history.get(name)?.last()?.1
    }

    /// All names there ever were.
    pub fn names(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.history.keys()
    }

    /// A record of an extent was seen on its way into a fragment or a list.
    ///
    /// # Errors
    /// Another one was seen before.
    pub fn saw_record(&mut self, extent: ExtentKey, hash: RecordHash) -> Held {
        let first = *self.contents.entry(extent).or_insert(hash);
        hold(Invariant::OneContent, first == hash, || format!("extent {extent} has records {first} and {hash}"))
    }

    /// Whether the list has this record.
    pub fn listed(&self, extent: ExtentKey) -> Option<RecordHash> {
        self.pgs.get(&extent.pg())?.list.get(&extent).copied()
    }

    /// An extent on a list that no stream and no put refers to.
    pub fn unreferred(&self) -> Option<ExtentKey> {
        let listed = self.pgs.values().flat_map(|truth| truth.list.keys());
        listed.copied().find(|extent| !self.references.contains_key(extent))
    }

    /// Extents on all lists.
    pub fn extents(&self) -> usize {
        self.pgs.values().map(|truth| truth.list.len()).sum()
    }

    /// A transaction was applied. Gives the PG rows it wrote.
    ///
    /// # Errors
    /// What it broke.
    pub fn applied(&mut self, txn: &Txn) -> Result<Vec<RowWritten>, Violation> {
        let mut rows = Vec::new();
        for write in &txn.writes {
            match write {
                Write::Put { key, value } => self.put(key, value, &mut rows)?,
                Write::Delete { key } => self.deleted(key)?,
                Write::DeletePrefix { prefix } if prefix.starts_with(key::OPEN) => {
                    let gone: Vec<_> = self
                        .open
                        .keys()
                        .filter(|open| key::open(open.0, open.1).starts_with(prefix))
                        .copied()
                        .collect();
                    gone.into_iter().for_each(|open| self.close(open));
                }
                Write::DeletePrefix { prefix } => {
                    let what = format!("keys that begin with {} were deleted", shown(prefix));
                    return Err(Violation::new(Invariant::RemovedStaysRemoved, what));
                }
            }
        }
        for written in &rows {
            self.still_listed(written)?;
        }
        self.named_is_listed(txn)?;
        Ok(rows)
    }

    fn put(&mut self, at: &[u8], value: &[u8], rows: &mut Vec<RowWritten>) -> Held {
        let malformed = |error: &dyn std::fmt::Display| {
            Violation::new(Invariant::RowsFollow, format!("row {}: {error}", shown(at)))
        };
        if at.starts_with(key::PGS) {
            let row: PgRow = decode_row(value).map_err(|error| malformed(&error))?;
            self.put_pg(row, rows)?;
        } else if let Some(name) = at.strip_prefix(key::NAMES) {
            let row: NameRow = decode_row(value).map_err(|error| malformed(&error))?;
            self.put_name(name, row)?;
        } else if at.starts_with(key::STREAMS) {
            let row: StreamRow = decode_row(value).map_err(|error| malformed(&error))?;
            self.forget_stream(row.stream);
            for extent in row.extents.iter().filter(is_referred) {
                self.references.entry(extent.extent).or_default().insert((row.stream, None));
            }
            self.streams.insert(row.stream, row);
        } else if let Some(open) = key::open_of(at)
            && let Ok(entry) = decode_row::<ExtentEntry>(value)
        {
            self.open.insert(open, entry.extent);
            self.references.entry(entry.extent).or_default().insert((open.0, Some(open.1)));
        }
        Ok(())
    }

    fn put_pg(&mut self, row: PgRow, rows: &mut Vec<RowWritten>) -> Held {
        let known = self.pgs.get(&row.pg);
        let before = known.map(|truth| truth.row.clone());
        let mut list = known.map(|truth| truth.list.clone()).unwrap_or_default();
        row_follows(before.as_ref(), &row, &mut list)?;
        let seen = before.as_ref().map_or(0, |before| before.seq);
        for entry in row.entries.iter().filter(|entry| entry.seq > seen && entry.kind.has_record()) {
            self.saw_record(entry.extent, entry.hash)?;
        }
        rows.push(RowWritten { before, pg: row.pg });
        self.pgs.insert(row.pg, PgTruth { row, list });
        Ok(())
    }

    fn put_name(&mut self, name: &[u8], row: NameRow) -> Held {
        if self.now(name) == Some(row) {
            return Ok(());
        }
        let appears = |holds: bool, what: &str| {
            hold(Invariant::FailedNeverAppears, holds, || format!("{} of stream {}: {what}", shown(name), row.stream))
        };
        let Some(put) = self.puts.get_mut(&row.stream) else { return appears(false, "nobody put it") };
        let declared =
            put.names.iter().any(|entry| (&entry.name[..], entry.offset, entry.bytes) == (name, row.offset, row.bytes));
        appears(declared, "not as it was put")?;
        appears(put.is_end_sent, "its client never asked for its end")?;
        appears(put.state != PutState::Failed, "it was told to have failed")?;
        hold(Invariant::RemovedStaysRemoved, put.appeared.insert(name.to_vec()), || {
            format!("{} of stream {} came back", shown(name), row.stream)
        })?;
        self.history.entry(name.to_vec()).or_default().push((self.event, Some(row)));
        Ok(())
    }

    fn deleted(&mut self, at: &[u8]) -> Held {
        if let Some(name) = at.strip_prefix(key::NAMES) {
            if self.now(name).is_none() {
                return Ok(());
            }
            let asked = self.removes.get(name).is_some_and(|count| *count > 0);
            hold(Invariant::RemovedStaysRemoved, asked, || format!("{} was removed unasked", shown(name)))?;
            self.history.entry(name.to_vec()).or_default().push((self.event, None));
        } else if let Some(open) = key::open_of(at) {
            self.close(open);
        } else if let Some(stream) =
            at.strip_prefix(key::STREAMS).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
        {
            self.forget_stream(stream);
        } else {
            hold(Invariant::RowsFollow, !at.starts_with(key::PGS), || format!("{} was deleted", shown(at)))?;
        }
        Ok(())
    }

    fn close(&mut self, open: (StreamKey, u64)) {
        if let Some(extent) = self.open.remove(&open) {
            self.unrefer(extent, (open.0, Some(open.1)));
        }
    }

    fn forget_stream(&mut self, stream: StreamKey) {
        let Some(row) = self.streams.remove(&stream) else { return };
        row.extents.iter().for_each(|extent| self.unrefer(extent.extent, (stream, None)));
    }

    fn unrefer(&mut self, extent: ExtentKey, by: (StreamKey, Option<u64>)) {
        if let Some(references) = self.references.get_mut(&extent) {
            references.remove(&by);
            if references.is_empty() {
                self.references.remove(&extent);
            }
        }
    }

    /// What a write of a PG row took off the list is referred to by nobody.
    fn still_listed(&self, written: &RowWritten) -> Held {
        let Some(truth) = self.pgs.get(&written.pg) else { return Ok(()) };
        let seen = written.before.as_ref().map_or(0, |before| before.seq);
        for entry in truth.row.entries.iter().filter(|entry| entry.seq > seen && entry.kind == EntryKind::Delete) {
            hold(Invariant::NamedIsListed, !self.references.contains_key(&entry.extent), || {
                format!(
                    "extent {} was deleted; streams refer to it: {:?}",
                    entry.extent, self.references[&entry.extent]
                )
            })?;
        }
        Ok(())
    }

    /// What a transaction made a stream refer to is on a list.
    fn named_is_listed(&self, txn: &Txn) -> Held {
        for write in &txn.writes {
            let Write::Put { key: at, .. } = write else { continue };
            let referred: Vec<ExtentKey> = if let Some(open) = key::open_of(at) {
                self.open.get(&open).copied().into_iter().collect()
            } else if let Some(stream) = at.strip_prefix(key::STREAMS) {
                let stream = std::str::from_utf8(stream).ok().and_then(|text| text.parse().ok());
                let row = stream.and_then(|stream: StreamKey| self.streams.get(&stream));
                row.map_or(&[][..], |row| &row.extents[..])
                    .iter()
                    .filter(is_referred)
                    .map(|extent| extent.extent)
                    .collect()
            } else if let Some(name) = at.strip_prefix(key::NAMES) {
                let row = self.now(name);
                let known = row.is_none_or(|row| self.streams.contains_key(&row.stream));
                hold(Invariant::NamedIsListed, known, || format!("{} names a stream that is not there", shown(name)))?;
                Vec::new()
            } else {
                Vec::new()
            };
            for extent in referred {
                hold(Invariant::NamedIsListed, self.listed(extent).is_some(), || {
                    format!("{} refers to extent {extent}, which is on no list", shown(at))
                })?;
            }
        }
        Ok(())
    }
}

/// Whether a whole stream needs an extent: names refer to bytes of it, or it has none and goes with its stream.
fn is_referred(extent: &&StreamExtentRow) -> bool {
    extent.names > 0 || extent.bytes == 0
}
