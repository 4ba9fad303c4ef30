//! The put of one stream: begin, allocate, transfer, commit, extent by extent; the last one makes all of it visible.

use super::effect::{AskId, PutFailure, StreamEffect, StreamEvent, StreamFailure};
use crate::id::{AttemptId, ExtentKey, StreamKey};
use crate::limits::{RESUMED_EXTENTS_MAX, STREAM_EXTENTS_MAX};
use crate::node::Body;
use crate::time::{Millis, Time};
use crate::wire::daemon::{EndOfStream, ExtentEntry, Grant, NameEntry};
use crate::wire::{CallError, DaemonReply, DaemonRequest, Refusal};
use ec_core::fragment::Content;
use ec_core::geometry::EXTENT_BYTES_MAX;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Names in one message, by their encoded length: well within what a message header may be.
const NAMES_BATCH_BYTES: usize = 40 << 10;
/// What a name takes in a message beside its bytes.
const NAME_ENTRY_BYTES: usize = 24;
/// First wait before something is asked again; doubles up to [`RETRY_AFTER_MAX`].
const RETRY_AFTER_MIN: Millis = Millis(100);
const RETRY_AFTER_MAX: Millis = Millis(2_000);
/// An encoder that fails so often for one extent is broken.
const ENCODER_FAILURES_MAX: u32 = 3;
/// So often an extent is sent at least, however long each transfer took.
const TRIES_MIN: u32 = 3;

/// What to put.
#[derive(Clone, Debug)]
pub struct PutPlan {
    /// The stream, its id drawn at random.
    pub stream: StreamKey,
    /// Its name, for the records.
    pub name: Vec<u8>,
    /// What its bytes are.
    pub content: Content,
    /// Its length.
    pub bytes: u64,
    /// The files in it that the end makes visible.
    pub names: Vec<NameEntry>,
}

/// Settings of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// Without progress for so long, and with no transfer running, it gives up.
    pub give_up_after: Millis,
    /// Extents in work at the same time.
    pub parallel: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self { give_up_after: Millis(30_000), parallel: 2 }
    }
}

/// A put that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutSummary {
    /// Length of the stream.
    pub bytes: u64,
    /// Its extents.
    pub extents: u64,
    /// Whether some extent was committed before all its fragments were stored.
    pub degraded: bool,
}

/// Where one extent stands.
#[derive(Debug)]
enum Stage {
    /// Not begun, or to be begun again at that time.
    Waiting(Time),
    Allocating,
    Transferring(Grant),
    /// Staged; the commit is asked for, or to be asked for at that time.
    Staged {
        attempt: AttemptId,
        record: Body,
        ask_at: Option<Time>,
    },
    Committed,
}

#[derive(Debug)]
struct Extent {
    entry: ExtentEntry,
    stage: Stage,
    retry_after: Millis,
    /// How often it had to be begun again.
    tries: u32,
    encoder_failures: u32,
    /// Set where its record names an id that died while it was under way.
    stale: bool,
}

/// The conversation with the daemon.
#[derive(Debug, PartialEq, Eq)]
enum Session {
    /// To begin, or to begin again, at that time.
    Lost(Time),
    Beginning,
    Open,
}

#[derive(Debug)]
enum Question {
    Begin,
    Allocate { ordinal: u64 },
    Names { end: usize },
    Commit { ordinal: u64 },
}

/// Puts one stream. Nothing of it is visible before its last extent is committed, and then all of it.
#[derive(Debug)]
pub struct PutStream {
    plan: PutPlan,
    config: StreamConfig,
    session: Session,
    retry_after: Millis,
    extents: Vec<Extent>,
    names_taken: usize,
    /// Most names the daemon ever had: sending them anew after a break is no progress.
    names_taken_max: usize,
    names_asked: bool,
    /// Extents that were committed when the put was begun (again): what is committed since, the answer need not know of.
    committed_before: Vec<u64>,
    questions: BTreeMap<AskId, Question>,
    asked: u64,
    last_progress: Option<Time>,
    /// The first extent begun again since the last commit.
    troubled_since: Option<Time>,
    trouble: String,
    end_asked: bool,
    degraded: bool,
    wake_at: Option<Time>,
    effects: VecDeque<StreamEffect>,
    outcome: Option<Result<PutSummary, StreamFailure>>,
}

impl PutStream {
    /// A put of the plan's stream.
    pub fn new(plan: PutPlan, config: StreamConfig) -> Self {
        Self {
            plan,
            config,
            session: Session::Lost(Time::ZERO),
            retry_after: RETRY_AFTER_MIN,
            extents: Vec::new(),
            names_taken: 0,
            names_taken_max: 0,
            names_asked: false,
            committed_before: Vec::new(),
            questions: BTreeMap::new(),
            asked: 0,
            last_progress: None,
            troubled_since: None,
            trouble: String::new(),
            end_asked: false,
            degraded: false,
            wake_at: None,
            effects: VecDeque::new(),
            outcome: None,
        }
    }

    /// What is being put.
    pub fn plan(&self) -> &PutPlan {
        &self.plan
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Time, event: StreamEvent) {
        if self.outcome.is_some() {
            return;
        }
        self.last_progress.get_or_insert(now);
        match event {
            StreamEvent::Ask { ask, result } => {
                if let Some(question) = self.questions.remove(&ask) {
                    self.take_answer(now, question, result.map(|(reply, _)| reply));
                }
            }
            StreamEvent::Transferred { ordinal, result } => self.take_transfer(now, ordinal, result),
            StreamEvent::Tick => self.wake_at = self.wake_at.filter(|at| *at > now),
        }
        if self.outcome.is_none() {
            self.advance(now);
        }
    }

    /// What it wants done; none once there is nothing more for now.
    pub fn poll_effect(&mut self) -> Option<StreamEffect> {
        self.effects.pop_front()
    }

    /// How it ended, once it did.
    pub fn outcome(&self) -> Option<Result<PutSummary, StreamFailure>> {
        self.outcome.clone()
    }

    /// Extents committed, and extents in all; 0 and 0 before the daemon said how to cut.
    pub fn progress(&self) -> (usize, usize) {
        let committed = self.extents.iter().filter(|extent| matches!(extent.stage, Stage::Committed));
        (committed.count(), self.extents.len())
    }

    fn ask(&mut self, request: DaemonRequest, body: Body, question: Question) {
        self.asked += 1;
        let ask = AskId(self.asked);
        self.questions.insert(ask, question);
        self.effects.push_back(StreamEffect::Ask { ask, request, body });
    }

    fn take_answer(&mut self, now: Time, question: Question, result: Result<DaemonReply, CallError>) {
        let reply = match result {
            Ok(DaemonReply::Refused(
                refusal @ (Refusal::Invalid(_) | Refusal::WrongCell(_) | Refusal::Duplicate(_)),
            )) => return self.fail(StreamFailure::Refused(refusal)),
            Ok(DaemonReply::Refused(refusal)) => Err((refusal.to_string(), matches!(refusal, Refusal::NotFound))),
            Ok(reply) => Ok(reply),
            Err(error) => Err((format!("the daemon: {error}"), true)),
        };
        match reply {
            Err((reason, session_lost)) => self.retry(now, &question, reason, session_lost),
            Ok(reply) => self.take_reply(now, question, reply),
        }
    }

    fn take_reply(&mut self, now: Time, question: Question, reply: DaemonReply) {
        match (question, reply) {
            (Question::Begin, DaemonReply::PutBegun { extent_bytes, committed, whole }) => {
                self.begun(now, extent_bytes, &committed, whole);
            }
            (Question::Allocate { ordinal }, DaemonReply::Allocated(grant)) => self.granted(ordinal, grant),
            (Question::Names { end }, DaemonReply::NamesTaken) => {
                self.names_asked = false;
                self.names_taken = self.names_taken.max(end);
                if end > self.names_taken_max {
                    self.names_taken_max = end;
                    self.progressed(now);
                }
            }
            (Question::Commit { ordinal }, DaemonReply::Committed { degraded }) => {
                self.degraded |= degraded;
                self.committed(now, ordinal);
            }
            (Question::Commit { ordinal }, DaemonReply::Again { reason }) => {
                // That end can never take effect any more.
                self.end_asked &= !self.is_last(ordinal);
                self.begin_again(now, ordinal, reason);
            }
            (question, _) => self.retry(now, &question, CallError::Nonsense.to_string(), true),
        }
    }

    /// A question was not answered, or not now: it will be asked again.
    fn retry(&mut self, now: Time, question: &Question, reason: String, session_lost: bool) {
        self.trouble = reason;
        match question {
            Question::Begin => {}
            Question::Names { .. } => self.names_asked = false,
            Question::Allocate { ordinal } => {
                if let Some(extent) = self.extent(*ordinal) {
                    let at = now + extent.next_wait();
                    extent.stage = Stage::Waiting(at);
                }
            }
            Question::Commit { ordinal } => {
                if let Some(extent) = self.extent(*ordinal) {
                    let at = now + extent.next_wait();
                    if let Stage::Staged { ask_at, .. } = &mut extent.stage {
                        *ask_at = Some(at);
                    }
                }
            }
        }
        // Names have no wait of their own.
        let of_session = session_lost || matches!(question, Question::Begin | Question::Names { .. });
        let begins_already = self.session == Session::Beginning && !matches!(question, Question::Begin);
        if of_session && !begins_already {
            self.session = Session::Lost(now + self.retry_after);
            self.retry_after = doubled(self.retry_after);
        }
    }

    fn begun(&mut self, now: Time, extent_bytes: u64, committed: &[ExtentEntry], whole: bool) {
        self.session = Session::Open;
        // A daemon that was started again has forgotten the names: they are sent anew. An answer that is still on its way is of another life of the daemon, perhaps.
        self.questions.retain(|_, question| !matches!(question, Question::Names { .. }));
        (self.names_asked, self.names_taken) = (false, 0);
        if self.extents.is_empty() {
            match cut(self.plan.bytes, extent_bytes) {
                Some(extents) => self.extents = extents,
                None => {
                    let reason = format!("{} bytes are more than one stream can hold", self.plan.bytes);
                    return self.fail(StreamFailure::Refused(Refusal::Invalid(reason)));
                }
            }
            self.progressed(now);
        }
        if whole {
            return self.succeed();
        }
        self.uncommit(now, committed);
        for entry in committed {
            let Some(extent) = self.extent(entry.ordinal) else { continue };
            if (extent.entry.offset, extent.entry.bytes) != (entry.offset, entry.bytes) {
                let reason = "the daemon has other extents of this stream".to_owned();
                return self.fail(StreamFailure::Refused(Refusal::Invalid(reason)));
            }
            extent.entry = *entry;
            if !matches!(extent.stage, Stage::Committed) {
                self.committed(now, entry.ordinal);
            }
        }
    }

    /// What was committed and is not on the daemon's list was given up while this client was away: it is sent again. Of what is
    /// behind the end of a full list nothing is known.
    fn uncommit(&mut self, now: Time, listed: &[ExtentEntry]) {
        let all = listed.len() < RESUMED_EXTENTS_MAX;
        let known_to = if all { u64::MAX } else { listed.last().map_or(0, |last| last.ordinal) };
        let on_file: BTreeSet<u64> = listed.iter().map(|entry| entry.ordinal).collect();
        let gone = |ordinal: &u64| *ordinal <= known_to && !on_file.contains(ordinal);
        for ordinal in std::mem::take(&mut self.committed_before).into_iter().filter(gone) {
            if let Some(extent) = self.extent(ordinal) {
                extent.stage = Stage::Waiting(now);
            }
            self.renounce_last(now, ordinal);
        }
    }

    fn granted(&mut self, ordinal: u64, grant: Grant) {
        let stream_bytes = self.plan.bytes;
        let last = self.is_last(ordinal);
        let Some(extent) = self.extent(ordinal).filter(|extent| matches!(extent.stage, Stage::Allocating)) else {
            return;
        };
        extent.entry.extent = grant.extent;
        extent.stage = Stage::Transferring(grant.clone());
        let entry = extent.entry;
        // The last one comes after the others have their ids: its record can name them all.
        let extents = if last { self.extents.iter().map(|extent| extent.entry).collect() } else { Vec::new() };
        self.effects.push_back(StreamEffect::Transfer { entry, grant, stream_bytes, extents });
    }

    fn take_transfer(&mut self, now: Time, ordinal: u64, result: Result<Body, PutFailure>) {
        let Some(extent) = self.extent(ordinal) else { return };
        let Stage::Transferring(grant) = &extent.stage else { return };
        let attempt = grant.attempt;
        // While it ran the clock stood still: it has deadlines of its own.
        self.last_progress = Some(now);
        let Some(extent) = self.extent(ordinal) else { return };
        if std::mem::take(&mut extent.stale) {
            return self.begin_again(now, ordinal, "an extent before it was allocated anew".into());
        }
        match result {
            Ok(record) => {
                extent.stage = Stage::Staged { attempt, record, ask_at: Some(now) };
                extent.retry_after = RETRY_AFTER_MIN;
            }
            Err(PutFailure::Source(reason)) => self.fail(StreamFailure::Source(reason)),
            Err(PutFailure::Again(reason)) => self.begin_again(now, ordinal, reason),
            Err(PutFailure::Encoder(reason)) => {
                extent.encoder_failures += 1;
                if extent.encoder_failures >= ENCODER_FAILURES_MAX {
                    return self.fail(StreamFailure::GaveUp(format!("encoder: {reason}")));
                }
                self.begin_again(now, ordinal, reason);
            }
        }
    }

    /// The extent's id is dead: under another one, later.
    fn begin_again(&mut self, now: Time, ordinal: u64, reason: String) {
        self.trouble = reason;
        let since = *self.troubled_since.get_or_insert(now);
        let Some(extent) = self.extent(ordinal) else { return };
        let at = now + extent.next_wait();
        extent.stage = Stage::Waiting(at);
        extent.tries += 1;
        let enough = extent.tries >= TRIES_MIN;
        self.effects.push_back(StreamEffect::Release { ordinal });
        self.renounce_last(now, ordinal);
        if enough && now.since(since) >= self.config.give_up_after {
            self.give_up();
        }
    }

    /// The last extent's record names an id that is dead: it has to be made anew. Its commit was not asked for, since that waits
    /// for all others.
    fn renounce_last(&mut self, now: Time, ordinal: u64) {
        let last = self.extents.len() as u64 - 1;
        if ordinal == last {
            return;
        }
        let Some(extent) = self.extent(last) else { return };
        match extent.stage {
            Stage::Allocating | Stage::Transferring(_) => extent.stale = true,
            Stage::Staged { .. } => {
                extent.stage = Stage::Waiting(now);
                self.effects.push_back(StreamEffect::Release { ordinal: last });
            }
            Stage::Waiting(_) | Stage::Committed => {}
        }
    }

    fn committed(&mut self, now: Time, ordinal: u64) {
        let Some(extent) = self.extent(ordinal) else { return };
        if !matches!(extent.stage, Stage::Waiting(_) | Stage::Allocating | Stage::Committed) {
            self.effects.push_back(StreamEffect::Release { ordinal });
        }
        if let Some(extent) = self.extent(ordinal) {
            extent.stage = Stage::Committed;
        }
        self.troubled_since = None;
        self.progressed(now);
        if self.is_last(ordinal) {
            self.succeed();
        }
    }

    fn progressed(&mut self, now: Time) {
        self.last_progress = Some(now);
        self.retry_after = RETRY_AFTER_MIN;
    }

    fn advance(&mut self, now: Time) {
        if self.give_up_at().is_some_and(|at| now >= at) {
            return self.give_up();
        }
        if matches!(self.session, Session::Lost(at) if now >= at) {
            self.session = Session::Beginning;
            let committed = self.extents.iter().filter(|extent| matches!(extent.stage, Stage::Committed));
            self.committed_before = committed.map(|extent| extent.entry.ordinal).collect();
            self.ask(DaemonRequest::BeginPut { stream: self.plan.stream }, Body::new(), Question::Begin);
        }
        if self.session == Session::Open {
            self.send_names();
            self.start_extents(now);
            self.commit_staged(now);
        }
        self.wake(now);
    }

    fn send_names(&mut self) {
        if self.names_asked || self.names_taken >= self.plan.names.len() {
            return;
        }
        let first = self.names_taken;
        let mut bytes = 0;
        let fit = self.plan.names[first..].iter().take_while(|entry| {
            bytes += entry.name.len() + NAME_ENTRY_BYTES;
            bytes <= NAMES_BATCH_BYTES
        });
        let end = first + fit.count().max(1);
        let names = self.plan.names[first..end].to_vec();
        self.names_asked = true;
        let request = DaemonRequest::PutNames { stream: self.plan.stream, first: first as u64, names };
        self.ask(request, Body::new(), Question::Names { end });
    }

    fn start_extents(&mut self, now: Time) {
        let busy = |extent: &&Extent| !matches!(extent.stage, Stage::Waiting(_) | Stage::Committed);
        let mut free = self.config.parallel.max(1).saturating_sub(self.extents.iter().filter(busy).count());
        for at in 0..self.extents.len() {
            if free == 0 || (at + 1 == self.extents.len() && !self.others_have_ids()) {
                return;
            }
            let Extent { entry, stage, stale, .. } = &mut self.extents[at];
            if matches!(stage, Stage::Waiting(at) if now >= *at) {
                free -= 1;
                *stale = false;
                *stage = Stage::Allocating;
                let (ordinal, bytes) = (entry.ordinal, entry.bytes);
                let request = DaemonRequest::Allocate { stream: self.plan.stream, ordinal, bytes };
                self.ask(request, Body::new(), Question::Allocate { ordinal });
            }
        }
    }

    fn commit_staged(&mut self, now: Time) {
        let end_may_come = self.names_taken >= self.plan.names.len() && self.others_committed();
        for at in 0..self.extents.len() {
            let last = at + 1 == self.extents.len();
            let Extent { entry, stage, .. } = &mut self.extents[at];
            let entry = *entry;
            let Stage::Staged { attempt, record, ask_at } = stage else { continue };
            if ask_at.is_none_or(|at| now < at) || (last && !end_may_come) {
                continue;
            }
            *ask_at = None;
            let (attempt, record) = (*attempt, record.clone());
            let end = EndOfStream {
                extents: self.extents.len() as u64,
                bytes: self.plan.bytes,
                names: self.plan.names.len() as u64,
            };
            self.end_asked |= last;
            let request =
                DaemonRequest::CommitExtent { stream: self.plan.stream, entry, attempt, end: last.then_some(end) };
            self.ask(request, record, Question::Commit { ordinal: entry.ordinal });
        }
    }

    /// None while a transfer runs: it has deadlines of its own.
    fn give_up_at(&self) -> Option<Time> {
        let running = self.extents.iter().any(|extent| matches!(extent.stage, Stage::Transferring(_)));
        if running { None } else { self.last_progress.map(|at| at + self.config.give_up_after) }
    }

    fn wake(&mut self, now: Time) {
        let session = match self.session {
            Session::Lost(at) => Some(at),
            Session::Beginning | Session::Open => None,
        };
        let of_extent = |extent: &Extent| match extent.stage {
            Stage::Waiting(at) | Stage::Staged { ask_at: Some(at), .. } => Some(at),
            _ => None,
        };
        let extents = self.extents.iter().filter_map(of_extent).filter(|at| *at > now);
        let next = extents.chain(session).chain(self.give_up_at()).min();
        if let Some(at) = next.filter(|at| self.wake_at != Some(*at)) {
            self.wake_at = Some(at);
            self.effects.push_back(StreamEffect::WakeAt(at));
        }
    }

    fn extent(&mut self, ordinal: u64) -> Option<&mut Extent> {
        self.extents.get_mut(usize::try_from(ordinal).ok()?)
    }

    fn is_last(&self, ordinal: u64) -> bool {
        ordinal + 1 == self.extents.len() as u64
    }

    fn others_committed(&self) -> bool {
        self.extents.iter().rev().skip(1).all(|extent| matches!(extent.stage, Stage::Committed))
    }

    fn others_have_ids(&self) -> bool {
        let has_id = |extent: &Extent| !matches!(extent.stage, Stage::Waiting(_) | Stage::Allocating);
        self.extents.iter().rev().skip(1).all(has_id)
    }

    fn succeed(&mut self) {
        let summary =
            PutSummary { bytes: self.plan.bytes, extents: self.extents.len() as u64, degraded: self.degraded };
        self.outcome = Some(Ok(summary));
    }

    fn give_up(&mut self) {
        let reason = if self.trouble.is_empty() {
            "no answer from the daemon".into()
        } else {
            std::mem::take(&mut self.trouble)
        };
        self.fail(if self.end_asked { StreamFailure::Unknown(reason) } else { StreamFailure::GaveUp(reason) });
    }

    fn fail(&mut self, failure: StreamFailure) {
        for extent in &self.extents {
            if matches!(extent.stage, Stage::Transferring(_) | Stage::Staged { .. }) {
                self.effects.push_back(StreamEffect::Release { ordinal: extent.entry.ordinal });
            }
        }
        // Not where the end may have been committed: what is whole must not be given up.
        if !self.end_asked {
            self.asked += 1;
            let request = DaemonRequest::AbortPut { stream: self.plan.stream };
            self.effects.push_back(StreamEffect::Ask { ask: AskId(self.asked), request, body: Body::new() });
        }
        self.outcome = Some(Err(failure));
    }
}

impl Extent {
    fn next_wait(&mut self) -> Millis {
        let wait = self.retry_after;
        self.retry_after = doubled(wait);
        wait
    }
}

fn doubled(wait: Millis) -> Millis {
    Millis((wait.0 * 2).min(RETRY_AFTER_MAX.0))
}

/// The extents of a stream: as the daemon says, larger where they would be too many. None where even the largest are.
fn cut(bytes: u64, extent_bytes: u64) -> Option<Vec<Extent>> {
    let mut extent_bytes = extent_bytes.clamp(1, EXTENT_BYTES_MAX);
    while bytes.div_ceil(extent_bytes) > STREAM_EXTENTS_MAX as u64 && extent_bytes < EXTENT_BYTES_MAX {
        extent_bytes = (extent_bytes * 2).min(EXTENT_BYTES_MAX);
    }
    let count = bytes.div_ceil(extent_bytes).max(1);
    let extent = |ordinal| {
        let offset = ordinal * extent_bytes;
        let entry = ExtentEntry { ordinal, offset, bytes: extent_bytes.min(bytes - offset), extent: ExtentKey(0) };
        Extent {
            entry,
            stage: Stage::Waiting(Time::ZERO),
            retry_after: RETRY_AFTER_MIN,
            tries: 0,
            encoder_failures: 0,
            stale: false,
        }
    };
    (count <= STREAM_EXTENTS_MAX as u64).then(|| (0..count).map(extent).collect())
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
