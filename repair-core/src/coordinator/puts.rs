//! Puts: what clients have begun and not ended. What has ended is remembered by [`finished`](super::finished).

use super::finished::Whole;
use super::{Asker, Coordinator, Op, TicketUse, Timer};
use crate::catalog::{Found, Txn, key};
use crate::id::{AttemptId, ExtentKey, StreamKey};
use crate::limits::{NAMES_PER_PUT_MAX, RESUMED_EXTENTS_MAX};
use crate::node::{Body, PeerId};
use crate::pg::{CreateResult, PgEvent, Ticket};
use crate::time::{Millis, Time};
use crate::wire::codec::encode_row;
use crate::wire::daemon::{AttemptState, EndOfStream, ExtentEntry, NameEntry};
use crate::wire::{DaemonReply, Refusal};
use ec_core::fragment::ExtentRecord;
use std::collections::{BTreeMap, BTreeSet};

/// Puts open at once.
const PUTS_MAX: usize = 1024;
/// Of them, those of one connection: a client that begins puts and never ends them keeps only itself from putting.
const PUTS_PER_PEER_MAX: usize = 64;
/// Bytes of names kept for one put, and for all.
const PUT_NAMES_BYTES_MAX: usize = 128 << 20;
const NAMES_BYTES_MAX: usize = 512 << 20;

/// How far an extent of a put is.
#[derive(Clone, Debug)]
pub(super) enum GrantState {
    /// The client sends its bytes.
    Granted,
    /// Its commit is under way; these wait for the end.
    Committing { askers: Vec<Asker> },
    /// Nobody knows yet whether it was committed, and with it the end of the stream, which would doom other extents.
    Unknown { end: Option<Vec<ExtentKey>> },
}

/// An extent of a put that a client may write.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) attempt: AttemptId,
    pub(super) extent: ExtentKey,
    pub(super) state: GrantState,
    /// As the client wants it committed.
    entry: Option<ExtentEntry>,
}

/// What a put is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Given up; what was committed of it is being doomed.
    Dying,
}

/// One put.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) phase: Phase,
    pub(super) peer: Option<PeerId>,
    /// Whether its client has begun it in this life of the daemon: its names and grants of an earlier one are gone, and it must
    /// notice.
    is_begun: bool,
    quiet_since: Time,
    begun: Time,
    pub(super) committed: BTreeMap<u64, ExtentEntry>,
    pub(super) grants: BTreeMap<u64, Held>,
    pub(super) names: BTreeMap<u64, NameEntry>,
    names_bytes: usize,
    degraded: bool,
    /// Who wants to know when it is given up.
    pub(super) mourners: Vec<Asker>,
    /// Extents whose open rows were seen while it was given up.
    pub(super) dooming: BTreeSet<ExtentKey>,
}

impl Put {
    fn new(now: Time) -> Self {
        Self {
            phase: Phase::Open,
            peer: None,
            is_begun: false,
            quiet_since: now,
            begun: now,
            committed: BTreeMap::new(),
            grants: BTreeMap::new(),
            names: BTreeMap::new(),
            names_bytes: 0,
            degraded: false,
            mourners: Vec::new(),
            dooming: BTreeSet::new(),
        }
    }

    /// Its client could not have come back for so long.
    pub(super) fn was_not_listened_to(&mut self, now: Time, span: Millis) {
        self.quiet_since = now.min(self.quiet_since + span);
    }
}

impl Coordinator {
    /// An extent that an earlier life committed for a put.
    pub(super) fn put_found(&mut self, stream: StreamKey, ordinal: u64, entry: ExtentEntry) {
        let now = self.now;
        self.puts.entry(stream).or_insert_with(|| Put::new(now)).committed.insert(ordinal, entry);
        self.after(self.config.put_resume, Timer::Put(stream));
    }

    /// A client spoke of this put; false where there is no such put (any more).
    pub(super) fn put_spoke(&mut self, peer: PeerId, stream: StreamKey) -> bool {
        let known = |put: &&mut Put| put.phase != Phase::Dying && put.is_begun;
        let Some(put) = self.puts.get_mut(&stream).filter(known) else { return false };
        put.peer = Some(peer);
        true
    }

    pub(super) fn client_gone(&mut self, peer: PeerId) {
        // A session made for a connection that has ended would never hear of its end.
        self.ops.retain(|_, op| !matches!(op, Op::Begin { asker, .. } if asker.peer == peer));
        let left: Vec<StreamKey> =
            self.puts.iter().filter(|(_, put)| put.peer == Some(peer)).map(|(stream, _)| *stream).collect();
        for stream in left {
            if let Some(put) = self.puts.get_mut(&stream) {
                (put.peer, put.quiet_since) = (None, self.now);
            }
            self.after(self.config.put_resume, Timer::Put(stream));
        }
    }

    /// A put that nobody came back to is given up.
    pub(super) fn put_due(&mut self, stream: StreamKey) {
        let Some(put) = self.puts.get(&stream).filter(|put| put.peer.is_none()) else { return };
        let due = put.quiet_since + self.config.put_resume;
        if due > self.now {
            return self.at(due, Timer::Put(stream));
        }
        self.give_up(stream);
    }

    pub(super) fn begin_put(&mut self, asker: Asker, stream: StreamKey) {
        if self.finished.get(stream).is_some() {
            return self.put_is_whole(asker);
        }
        match self.puts.get(&stream).map(|put| put.phase) {
            Some(Phase::Dying) => {
                self.refuse(asker, Refusal::Busy("this put is being given up".into()));
            }
            Some(Phase::Open) => self.put_begun(asker, stream),
            None => self.get(Op::Begin { asker, stream }, vec![key::stream(stream), key::ended(stream)]),
        }
    }

    fn put_is_whole(&mut self, asker: Asker) {
        let extent_bytes = self.config.extent_bytes;
        self.reply(asker, DaemonReply::PutBegun { extent_bytes, committed: vec![], whole: true });
    }

    /// Whether one more put may be open, begun over this connection.
    fn room_for_put(&self, peer: PeerId) -> Result<(), Refusal> {
        let of_peer = self.puts.values().filter(|put| put.peer == Some(peer)).count();
        if self.puts.len() >= PUTS_MAX {
            Err(Refusal::Busy(format!("{PUTS_MAX} puts are open")))
        } else if of_peer >= PUTS_PER_PEER_MAX {
            Err(Refusal::Busy(format!("{PUTS_PER_PEER_MAX} puts of this connection are open")))
        } else {
            Ok(())
        }
    }

    pub(super) fn begin_read(&mut self, asker: Asker, stream: StreamKey, rows: Result<Vec<Option<Found>>, String>) {
        let whole = match rows {
            Ok(rows) => rows.iter().any(Option::is_some),
            Err(reason) => return self.refuse(asker, Refusal::Unavailable(reason)),
        };
        if !self.puts.contains_key(&stream) {
            if whole || self.finished.get(stream).is_some() {
                return self.put_is_whole(asker);
            }
            if let Err(refusal) = self.room_for_put(asker.peer) {
                return self.refuse(asker, refusal);
            }
            self.puts.insert(stream, Put::new(self.now));
        }
        self.put_begun(asker, stream);
    }

    fn put_begun(&mut self, asker: Asker, stream: StreamKey) {
        if let Some(put) = self.puts.get_mut(&stream) {
            put.is_begun = true;
        }
        if !self.put_spoke(asker.peer, stream) {
            return self.refuse(asker, Refusal::Busy("this put is being given up".into()));
        }
        let Some(put) = self.puts.get(&stream) else { return };
        let reply = DaemonReply::PutBegun {
            extent_bytes: self.config.extent_bytes,
            committed: put.committed.values().take(RESUMED_EXTENTS_MAX).copied().collect(),
            whole: false,
        };
        self.reply(asker, reply);
    }

    /// Whether this extent of a put may be (re-)allocated.
    pub(super) fn may_allocate(&mut self, stream: StreamKey, ordinal: u64) -> Result<(), Refusal> {
        let put = self.puts.get(&stream).filter(|put| put.phase != Phase::Dying).ok_or(Refusal::NotFound)?;
        if put.committed.contains_key(&ordinal) {
            // The client knows less than is so: its session is not this one.
            return Err(Refusal::NotFound);
        }
        match put.grants.get(&ordinal).map(|held| &held.state) {
            Some(GrantState::Committing { .. }) => Err(Refusal::Busy("this extent is being committed".into())),
            Some(GrantState::Unknown { .. }) => match self.look_again(stream, ordinal) {
                AttemptState::Live => Err(Refusal::Unavailable("how the last try ended is not known yet".into())),
                AttemptState::Committed => Err(Refusal::NotFound),
                AttemptState::Aborted => Ok(()),
            },
            Some(GrantState::Granted) | None => Ok(()),
        }
    }

    /// Remembers a grant; the one before it is forsaken.
    pub(super) fn granted(&mut self, stream: StreamKey, ordinal: u64, attempt: AttemptId, extent: ExtentKey) {
        let Some(put) = self.puts.get_mut(&stream) else { return };
        let held = Held { attempt, extent, state: GrantState::Granted, entry: None };
        if let Some(old) = put.grants.insert(ordinal, held) {
            self.inbox.push_back((old.extent.pg(), PgEvent::Forsake { attempt: old.attempt }));
        }
    }

    pub(super) fn put_names(&mut self, asker: Asker, stream: StreamKey, first: u64, names: Vec<NameEntry>) {
        if !self.put_spoke(asker.peer, stream) {
            return self.refuse(asker, Refusal::NotFound);
        }
        if let Some(error) = names.iter().find_map(|name| super::names::check_name(&name.name).err()) {
            return self.refuse(asker, Refusal::Invalid(error.to_string()));
        }
        let all: usize = self.puts.values().map(|put| put.names_bytes).sum();
        let bytes: usize = names.iter().map(|name| name.name.len() + size_of::<NameEntry>()).sum();
        let Some(put) = self.puts.get_mut(&stream) else { return };
        let last = first.checked_add(names.len() as u64).filter(|last| *last <= NAMES_PER_PUT_MAX as u64);
        if last.is_none() || put.names_bytes + bytes > PUT_NAMES_BYTES_MAX {
            let text = format!("a put takes {NAMES_PER_PUT_MAX} names of {PUT_NAMES_BYTES_MAX} bytes together");
            return self.refuse(asker, Refusal::Invalid(text));
        }
        if all + bytes > NAMES_BYTES_MAX {
            return self.refuse(asker, Refusal::Busy("too many names of other puts are in memory".into()));
        }
        for (position, name) in (first..).zip(names) {
            let size = name.name.len() + size_of::<NameEntry>();
            let old = put.names.insert(position, name);
            put.names_bytes += size;
            put.names_bytes -= old.map_or(0, |old| old.name.len() + size_of::<NameEntry>());
        }
        self.reply(asker, DaemonReply::NamesTaken);
    }

    pub(super) fn commit_extent(
        &mut self,
        asker: Asker,
        stream: StreamKey,
        entry: ExtentEntry,
        attempt: AttemptId,
        end: Option<EndOfStream>,
        record: Body,
    ) {
        self.look_again(stream, entry.ordinal);
        if let Some(whole) = self.finished.get(stream).filter(|whole| whole.last == entry.extent) {
            return self.reply(asker, DaemonReply::Committed { degraded: whole.degraded });
        }
        if !self.put_spoke(asker.peer, stream) {
            return self.refuse(asker, Refusal::NotFound);
        }
        let Some(put) = self.puts.get_mut(&stream) else { return };
        if let Some(done) = put.committed.get(&entry.ordinal) {
            let reply = match done.extent == entry.extent && end.is_none() {
                true => DaemonReply::Committed { degraded: put.degraded },
                false if done.extent == entry.extent => {
                    let text = "the stream's last extent was committed without its end".to_owned();
                    DaemonReply::Refused(Refusal::Invalid(text))
                }
                false => DaemonReply::Refused(Refusal::NotFound),
            };
            return self.reply(asker, reply);
        }
        let held = put.grants.get_mut(&entry.ordinal);
        let Some(held) = held.filter(|held| held.attempt == attempt && held.extent == entry.extent) else {
            let reason = "this leave to write is not of this daemon's life, or was given anew".to_owned();
            return self.reply(asker, DaemonReply::Again { reason });
        };
        match &mut held.state {
            GrantState::Committing { askers } => {
                askers.push(asker);
                return;
            }
            GrantState::Unknown { .. } => {
                let text = "whether it was committed is not known yet".to_owned();
                return self.refuse(asker, Refusal::Unavailable(text));
            }
            GrantState::Granted => {}
        }
        if let Err(reason) = self.check_record(stream, &entry, &record) {
            return self.refuse(asker, Refusal::Invalid(reason));
        }
        if let Some(held) = self.held(stream, entry.ordinal) {
            held.state = GrantState::Committing { askers: vec![asker] };
            held.entry = Some(entry);
        }
        match end {
            Some(end) => self.end_stream(stream, entry, attempt, &end, record),
            None => self.commit_open(stream, entry, attempt, record),
        }
    }

    fn check_record(&self, stream: StreamKey, entry: &ExtentEntry, record: &[u8]) -> Result<(), String> {
        let record = ExtentRecord::parse(record).map_err(|error| error.to_string())?;
        let cell = self.cell().ok_or("the daemon is starting")?;
        let row = self.owner(entry.extent.pg()).and_then(|owner| owner.row()).ok_or("no such placement group")?;
        let fits = record.cell == cell.cell.id()
            && record.extent == entry.extent.id()
            && record.stream == stream.id()
            && record.ordinal == entry.ordinal
            && record.offset == entry.offset
            && record.extent_bytes == entry.bytes
            && record.code.to_descriptor() == row.code
            && record.fragments.len() == row.members.len();
        if fits { Ok(()) } else { Err("the record is not of this extent, or of another code".into()) }
    }

    /// Commits an extent of a stream that goes on: found by its row until the stream is whole.
    fn commit_open(&mut self, stream: StreamKey, entry: ExtentEntry, attempt: AttemptId, record: Body) {
        let open = key::open(stream, entry.ordinal);
        match encode_row(&entry) {
            Ok(value) => {
                let beside = Txn::new().compare(open.clone(), 0).put(open, value);
                self.create(stream, entry, attempt, record, beside, None);
            }
            Err(error) => self.commit_refused(stream, entry.ordinal, &Refusal::Invalid(error.to_string())),
        }
    }

    pub(super) fn create(
        &mut self,
        stream: StreamKey,
        entry: ExtentEntry,
        attempt: AttemptId,
        record: Body,
        beside: Txn,
        task: Option<u64>,
    ) {
        let ticket = Ticket(self.number());
        self.tickets.insert(ticket, TicketUse::Create { stream, ordinal: entry.ordinal, task });
        let event = PgEvent::Create { ticket, attempt, extent: entry.extent, record, beside };
        self.inbox.push_back((entry.extent.pg(), event));
    }

    fn held(&mut self, stream: StreamKey, ordinal: u64) -> Option<&mut Held> {
        self.puts.get_mut(&stream)?.grants.get_mut(&ordinal)
    }

    /// The commit did not begin: the grant stays good.
    pub(super) fn commit_refused(&mut self, stream: StreamKey, ordinal: u64, refusal: &Refusal) {
        for asker in self.commit_ends(stream, ordinal, GrantState::Granted) {
            self.refuse(asker, refusal.clone());
        }
        self.bury_if_dying(stream);
    }

    fn commit_ends(&mut self, stream: StreamKey, ordinal: u64, state: GrantState) -> Vec<Asker> {
        match self.held(stream, ordinal).map(|held| std::mem::replace(&mut held.state, state)) {
            Some(GrantState::Committing { askers }) => askers,
            _ => Vec::new(),
        }
    }

    /// An owner says how a create ended.
    pub(super) fn created(&mut self, stream: StreamKey, ordinal: u64, task: Option<u64>, result: CreateResult) {
        let end = task.map(|task| self.doomed_by(task));
        let askers = self.commit_ends(stream, ordinal, GrantState::Unknown { end });
        let reply = match result {
            CreateResult::Committed { degraded } => {
                self.extent_committed(stream, ordinal, task.is_some(), degraded);
                DaemonReply::Committed { degraded }
            }
            CreateResult::Failed { reason } => {
                if let Some(put) = self.puts.get_mut(&stream) {
                    put.grants.remove(&ordinal);
                }
                DaemonReply::Again { reason }
            }
            CreateResult::Unknown { reason } => {
                let text = format!("whether it was committed is not known yet: {reason}");
                DaemonReply::Refused(Refusal::Unavailable(text))
            }
        };
        for asker in askers {
            self.reply(asker, reply.clone());
        }
        if let Some(task) = task {
            self.end_task(task);
        }
        self.bury_if_dying(stream);
    }

    /// An extent of a put is on file, and with it the whole stream where it was the last.
    fn extent_committed(&mut self, stream: StreamKey, ordinal: u64, end: bool, degraded: bool) {
        let Some(put) = self.puts.get_mut(&stream) else { return };
        let Some(entry) = put.grants.remove(&ordinal).and_then(|held| held.entry) else { return };
        put.committed.insert(ordinal, entry);
        put.degraded |= degraded;
        self.sizes.insert(entry.extent, entry.bytes);
        if end {
            self.put_ended(stream, entry.extent);
        }
    }

    /// A put is whole. Whoever waited to see it given up waits in vain.
    fn put_ended(&mut self, stream: StreamKey, last: ExtentKey) {
        let Some(put) = self.puts.remove(&stream) else { return };
        let whole = Whole { last, degraded: put.degraded };
        self.finished.add(stream, whole, self.now, self.config.put_resume);
        let (names, extents) = (put.names.len(), put.committed.len());
        let bytes: u64 = put.committed.values().map(|entry| entry.bytes).sum();
        let took = self.now.since(put.begun).0;
        let text = format!("stream {stream} is whole: {names} names, {bytes} bytes in {extents} extents");
        let fields = vec![
            ("stream", stream.to_string()),
            ("names", names.to_string()),
            ("extents", extents.to_string()),
            ("bytes", bytes.to_string()),
            ("degraded", put.degraded.to_string()),
            ("took_ms", took.to_string()),
        ];
        for held in put.grants.into_values() {
            self.inbox.push_back((held.extent.pg(), PgEvent::Forsake { attempt: held.attempt }));
        }
        for asker in put.mourners {
            let text = "the put became whole before it could be given up";
            self.refuse(asker, Refusal::Invalid(text.into()));
        }
        self.note("put_done", text, fields);
    }

    /// Asks the owner again how a commit of unknown end ended.
    pub(super) fn look_again(&mut self, stream: StreamKey, ordinal: u64) -> AttemptState {
        let Some(held) = self.puts.get(&stream).and_then(|put| put.grants.get(&ordinal)) else {
            return AttemptState::Aborted;
        };
        let GrantState::Unknown { end } = &held.state else { return AttemptState::Live };
        let (end, attempt, pg) = (end.clone(), held.attempt, held.extent.pg());
        let state = self.owner(pg).map_or(AttemptState::Live, |owner| owner.attempt_state(attempt));
        match state {
            AttemptState::Committed => {
                self.extent_committed(stream, ordinal, end.is_some(), false);
                for extent in end.into_iter().flatten() {
                    self.doom(extent);
                }
            }
            AttemptState::Aborted => {
                if let Some(put) = self.puts.get_mut(&stream) {
                    put.grants.remove(&ordinal);
                }
            }
            AttemptState::Live => {}
        }
        state
    }
}
