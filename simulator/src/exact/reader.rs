//! Operations of clients that read: get, ls; and rm, which is one question.

use super::client::{Job, Operation};
use super::content::content;
use super::mutation::Mutation;
use super::oracle::shown;
use super::world::World;
use repair_core::catalog::NameRow;
use repair_core::client::{AskId, GetConfig, GetExtent, GetFailure};
use repair_core::invariant::{Invariant, Violation};
use repair_core::node::Body;
use repair_core::wire::daemon::ExtentEntry;
use repair_core::wire::{CallError, DaemonReply, DaemonRequest, Refusal};
use std::collections::{BTreeSet, VecDeque};

const RETRY_MS: u64 = 1_000;
/// After this an operation that gets no answer ends in vain.
const PATIENCE_MS: u64 = 60_000;
/// The same when nothing is wrong any more and nothing excuses it.
const LAST_PATIENCE_MS: u64 = 180_000;

/// A get under way.
pub struct GetRun {
    /// Of what.
    pub name: Vec<u8>,
    /// Part of it, by two draws.
    part: Option<(u64, u64)>,
    /// Whether nothing excuses it from success.
    is_last: bool,
    row: Option<NameRow>,
    /// Bytes of the stream still wanted.
    wanted: std::ops::Range<u64>,
    extents: VecDeque<ExtentEntry>,
    asks: u64,
}

/// An ls under way.
#[derive(Default)]
pub struct ListRun {
    found: BTreeSet<Vec<u8>>,
    after: Option<Vec<u8>>,
    asks: u64,
}

/// An rm under way.
pub struct RemoveRun {
    /// Of what.
    pub name: Vec<u8>,
    /// Whether it may yet take effect whatever its last answer says.
    pub is_unsure: bool,
}

impl GetRun {
    /// A get of a name, or of a part of it.
    pub fn new(name: Vec<u8>, part: Option<(u64, u64)>, is_last: bool) -> Self {
        Self { name, part, is_last, row: None, wanted: 0..0, extents: VecDeque::new(), asks: 0 }
    }

    /// Whether it wants a part of it.
    pub const fn is_ranged(&self) -> bool {
        self.part.is_some()
    }
}

enum Next {
    Ask(u64, DaemonRequest),
    Read,
    Nothing,
}

impl World {
    /// Asks what is to be asked next.
    pub fn read_on(&mut self, client: usize) {
        let Some((_, operation)) = &mut self.clients[client].operation else { return };
        let next = match &mut operation.job {
            Job::Get(run) => {
                run.asks += 1;
                match run.row {
                    None => Next::Ask(run.asks, DaemonRequest::Lookup { name: run.name.clone() }),
                    Some(_) if run.wanted.is_empty() || !run.extents.is_empty() => Next::Read,
                    Some(row) => {
                        Next::Ask(run.asks, DaemonRequest::Extents { stream: row.stream, offset: run.wanted.start })
                    }
                }
            }
            Job::List(run) => {
                run.asks += 1;
                Next::Ask(run.asks, DaemonRequest::Names { prefix: b"client".to_vec(), after: run.after.clone() })
            }
            Job::Remove(run) => Next::Ask(1, DaemonRequest::Remove { name: run.name.clone() }),
            Job::Put(_) => Next::Nothing,
        };
        match next {
            Next::Ask(ask, request) => self.client_asks(client, AskId(ask), request, Body::new()),
            Next::Read => self.read_next(client),
            Next::Nothing => (),
        }
    }

    /// The daemon answered, or did not.
    pub fn read_answer(&mut self, client: usize, result: Result<(DaemonReply, Body), CallError>) {
        let Some((_, operation)) = &mut self.clients[client].operation else { return };
        match (&mut operation.job, result.map(|(reply, _)| reply)) {
            (Job::Get(run), Ok(DaemonReply::Found(row))) => {
                run.row = Some(row);
                run.wanted = wanted(&row, run.part);
                self.read_on(client);
            }
            (Job::Get(run), Ok(DaemonReply::ExtentsPage { extents, .. })) => {
                let wanted = run.wanted.clone();
                let overlaps =
                    |entry: &ExtentEntry| entry.offset < wanted.end && entry.offset + entry.bytes > wanted.start;
                run.extents = extents.into_iter().filter(overlaps).collect();
                let begins = run.extents.front().is_some_and(|entry| entry.offset <= wanted.start);
                if begins { self.read_next(client) } else { self.not_found(client) }
            }
            (Job::Get(_), Ok(DaemonReply::Refused(Refusal::NotFound))) => self.not_found(client),
            (Job::List(run), Ok(DaemonReply::NamesPage { names, more })) => {
                run.after = names.last().map(|entry| entry.name.clone()).or(run.after.take());
                run.found.extend(names.into_iter().map(|entry| entry.name));
                if more { self.read_on(client) } else { self.listed(client) }
            }
            (Job::Remove(run), Ok(DaemonReply::Removed | DaemonReply::Refused(Refusal::NotFound))) => {
                let (name, is_unsure) = (run.name.clone(), run.is_unsure);
                let held = self.oracle.end_remove(
                    &name,
                    self.clients[client].operation.as_ref().map_or(0, |op| op.1.from),
                    !is_unsure,
                );
                self.judge(held);
                self.end_operation(client);
            }
            (Job::Remove(_), Err(CallError::Timeout | CallError::Lost)) => self.in_vain(client, "no answer to rm"),
            (Job::Remove(run), Ok(DaemonReply::Refused(_))) => {
                run.is_unsure = true;
                self.again(client);
            }
            _ => self.again(client),
        }
    }

    fn again(&mut self, client: usize) {
        let now = self.queue.now();
        let Some((_, operation)) = &self.clients[client].operation else { return };
        let patience = if operation.is_last() { LAST_PATIENCE_MS } else { PATIENCE_MS };
        if now > operation.began.after_ms(patience) {
            self.in_vain(client, "no useful answer");
        } else {
            self.wake_client(client, now.after_ms(RETRY_MS));
        }
    }

    fn in_vain(&mut self, client: usize, why: &str) {
        let now = self.queue.now();
        self.trace.line(now, format_args!("client {client} in vain: {why}"));
        if self.clients[client].operation.as_ref().is_some_and(|(_, operation)| operation.is_last()) {
            self.judge(Err(Violation::new(Invariant::Recovers, format!("the last read of client {client}: {why}"))));
        }
        self.clients[client].in_vain += 1;
        self.end_operation(client);
    }

    fn get_run(&mut self, client: usize) -> Option<(&mut GetRun, u64)> {
        match &mut self.clients[client].operation {
            Some((_, Operation { job: Job::Get(run), from, .. })) => Some((run, *from)),
            _ => None,
        }
    }

    /// The name is not there, or its bytes are not: that must have been so at some time.
    fn not_found(&mut self, client: usize) {
        let Some((run, from)) = self.get_run(client) else { return };
        let (name, row) = (run.name.clone(), run.row);
        let excused = match row {
            None => self.oracle.held(&name, from).iter().any(Option::is_none),
            Some(row) => self.oracle.now(&name) != Some(row),
        };
        if !excused {
            let what = format!("{} was told not to be there, and was all the time", shown(&name));
            self.judge(Err(Violation::new(Invariant::AckedStays, what)));
        }
        let now = self.queue.now();
        self.trace.line(now, format_args!("client {client} finds nothing under {}", shown(&name)));
        self.end_operation(client);
    }

    fn read_next(&mut self, client: usize) {
        let Some((run, from)) = self.get_run(client) else { return };
        let (Some(row), name) = (run.row, run.name.clone()) else { return };
        if run.wanted.is_empty() {
            if !self.oracle.held(&name, from).contains(&Some(row)) {
                let what = format!("{} was read as {row:?}, which it never was meanwhile", shown(&name));
                self.judge(Err(Violation::new(Invariant::ReadsAreRight, what)));
            }
            let now = self.queue.now();
            self.trace.line(now, format_args!("client {client} read {}", shown(&name)));
            return self.end_operation(client);
        }
        let Some(entry) = run.extents.front().copied() else { return self.read_on(client) };
        let start = run.wanted.start - entry.offset;
        let end = (run.wanted.end - entry.offset).min(entry.bytes);
        let whole = start == 0 && end == entry.bytes;
        let machine = GetExtent::new(entry.extent, start..end, whole, GetConfig::default());
        self.start_get_transfer(client, row.stream, entry, machine);
    }

    /// Bytes came: they must be those that were put.
    pub fn delivered(&mut self, client: usize, transfer: u64, offset: u64, bytes: &Body) {
        let mut got = bytes.to_vec();
        if self.mutation == Some(Mutation::ReaderMixes) && !got.is_empty() {
            got[0] ^= 1;
        }
        let Some(run) = self.transfer(client, transfer) else { return };
        run.delivered += bytes.len() as u64;
        let (stream, entry) = (run.stream, run.entry);
        if got != content(stream, entry.offset + offset, bytes.len()) {
            let what = format!(
                "stream {stream}: {} bytes at {} of extent {} are others than were put",
                got.len(),
                offset,
                entry.extent
            );
            self.judge(Err(Violation::new(Invariant::ReadsAreRight, what)));
        }
    }

    /// The read of an extent ended.
    pub fn extent_read(&mut self, client: usize, delivered: u64, outcome: Result<(), GetFailure>) {
        let Some((run, _)) = self.get_run(client) else { return };
        let Some(entry) = run.extents.pop_front() else { return };
        match outcome {
            Ok(()) => {
                let end = run.wanted.end.min(entry.offset + entry.bytes);
                let expected = end - run.wanted.start;
                run.wanted.start = end;
                if delivered != expected {
                    let what = format!("extent {}: {delivered} bytes delivered of {expected}", entry.extent);
                    self.judge(Err(Violation::new(Invariant::ReadsAreRight, what)));
                }
                self.read_next(client);
            }
            Err(GetFailure::NotFound) => self.not_found(client),
            Err(GetFailure::Unavailable(why)) => {
                let (row, name) = (run.row, run.name.clone());
                if row != self.oracle.now(&name) { self.not_found(client) } else { self.in_vain(client, &why) }
            }
            Err(GetFailure::Wrong(why)) => {
                self.judge(Err(Violation::new(Invariant::ReadsAreRight, format!("extent {}: {why}", entry.extent))));
            }
        }
    }

    fn listed(&mut self, client: usize) {
        let Some((_, Operation { job: Job::List(run), from, .. })) = &self.clients[client].operation else { return };
        let (found, from) = (run.found.clone(), *from);
        let now = self.queue.now();
        self.trace.line(now, format_args!("client {client} lists {} names", found.len()));
        let never = found.iter().find(|name| self.oracle.held(name, from).iter().all(Option::is_none));
        if let Some(name) = never {
            let what = format!("{} was listed and was not there", shown(name));
            self.judge(Err(Violation::new(Invariant::RemovedStaysRemoved, what)));
        }
        let always = |name: &&Vec<u8>| self.oracle.held(name, from).iter().all(Option::is_some);
        let missing = self.oracle.names().filter(always).find(|name| !found.contains(*name));
        if let Some(name) = missing {
            let what = format!("{} was not listed and was there all the time", shown(name));
            self.judge(Err(Violation::new(Invariant::AckedStays, what)));
        }
        self.end_operation(client);
    }
}

impl Operation {
    fn is_last(&self) -> bool {
        matches!(&self.job, Job::Get(run) if run.is_last)
    }
}

fn wanted(row: &NameRow, part: Option<(u64, u64)>) -> std::ops::Range<u64> {
    let (start, end) = match part {
        Some((a, b)) if row.bytes > 0 => {
            let (a, b) = (a % (row.bytes + 1), b % (row.bytes + 1));
            (a.min(b), a.max(b))
        }
        _ => (0, row.bytes),
    };
    row.offset + start..row.offset + end
}
