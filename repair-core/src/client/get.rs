//! The get of a range of one extent: data fragments where they can be had, decoded from others where not.

use super::effect::{AskId, ExtentEffect, ExtentEvent, GetFailure};
use super::source::{ReadFault, RecordSearch, Sources, Useless, fragment_key, proven_payload, read_request};
use super::{Outbox, slice_bytes};
use crate::id::{DiskId, ExtentKey, RecordHash};
use crate::node::Body;
use crate::pg::CallId;
use crate::time::{Millis, Time};
use crate::wire::daemon::Places;
use crate::wire::{CallError, DaemonReply, DaemonRequest, NodeReply, Refusal};
use bytes::BytesMut;
use ec_core::fragment::{BirthIdentity, ExtentRecord, TreeHasher};
use ec_core::geometry::{BLOCK_BYTES, Geometry};
use ec_core::{Code, PlanCache, RepairPlan, ShardIndex, ShardSet};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

/// The same sources serve slice after slice; more patterns than this hardly take turns.
const PLANS_KEPT: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// Settings of a get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetConfig {
    /// A source that gave no answer for so long is slow: others are asked beside it.
    pub hedge_after: Millis,
    /// Without a proven byte for so long it gives up.
    pub give_up_after: Millis,
    /// How long a node may take for one message.
    pub call_deadline: Millis,
    /// First wait before places are asked for again; doubles up to a second.
    pub retry_after: Millis,
    /// Reads under way at the same time.
    pub reads_in_flight: usize,
}

impl Default for GetConfig {
    fn default() -> Self {
        Self {
            hedge_after: Millis(1_000),
            give_up_after: Millis(10_000),
            call_deadline: Millis(5_000),
            retry_after: Millis(100),
            reads_in_flight: 8,
        }
    }
}

const RETRY_AFTER_MAX: Millis = Millis(1_000);

/// What it waits for.
#[derive(Debug)]
enum Phase {
    /// The daemon's word where the fragments are; asked for, or to be asked for at that time.
    Locating { asked: Option<AskId>, at: Time },
    /// The record.
    Searching { search: RecordSearch, asked_at: Time },
    /// Payload. Places are asked for again at that time where too few can be had.
    Reading { relocate_at: Option<Time> },
}

/// The record on file and what follows from it.
#[derive(Debug)]
struct Layout {
    record: ExtentRecord,
    code: Code,
    geometry: Geometry,
    slice_bytes: u64,
}

/// One slice of all shards, as far as it is wanted.
#[derive(Debug)]
struct Stripe {
    /// Data shards still to be delivered, and which blocks of each, as offsets in the shard.
    wanted: BTreeMap<u16, Range<u64>>,
    /// Proven payload at hand.
    have: BTreeMap<u16, (u64, Body)>,
}

impl Stripe {
    /// Payload of a shard, if all of `range` is at hand.
    fn piece(&self, index: u16, range: &Range<u64>) -> Option<Body> {
        let (start, body) = self.have.get(&index)?;
        let from = usize::try_from(range.start.checked_sub(*start)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(*start)?).ok()?;
        (to <= body.len()).then(|| body.slice(from..to))
    }
}

/// A read under way.
#[derive(Debug)]
struct Reading {
    stripe: u64,
    index: u16,
    disk: DiskId,
    range: Range<u64>,
    since: Time,
    /// Set once it took too long; others are asked beside it.
    overdue: bool,
}

/// Gets a range of one extent.
#[derive(Debug)]
pub struct GetExtent {
    extent: ExtentKey,
    range: Range<u64>,
    whole: bool,
    config: GetConfig,
    phase: Phase,
    hash: Option<RecordHash>,
    sources: Sources,
    layout: Option<Layout>,
    hasher: Option<TreeHasher>,
    stripes: BTreeMap<u64, Stripe>,
    next_stripe: u64,
    readings: BTreeMap<CallId, Reading>,
    plans: PlanCache,
    /// Disks whose bytes were delivered or decoded from, by index.
    used: BTreeSet<(u16, DiskId)>,
    reported: BTreeSet<(u16, DiskId)>,
    last_progress: Option<Time>,
    retry_after: Millis,
    trouble: String,
    outbox: Outbox,
    read_bytes: u64,
    outcome: Option<Result<(), GetFailure>>,
}

impl GetExtent {
    /// A get of `range` of an extent. With `whole`, which must be said of the range of the whole extent alone, the bytes are also
    /// held against the extent's own hash: what was delivered is not to be used before the outcome is known.
    pub fn new(extent: ExtentKey, range: Range<u64>, whole: bool, config: GetConfig) -> Self {
        Self {
            extent,
            range,
            whole,
            phase: Phase::Locating { asked: None, at: Time::ZERO },
            hash: None,
            sources: Sources::default(),
            layout: None,
            hasher: None,
            stripes: BTreeMap::new(),
            next_stripe: 0,
            readings: BTreeMap::new(),
            plans: PlanCache::new(PLANS_KEPT),
            used: BTreeSet::new(),
            reported: BTreeSet::new(),
            last_progress: None,
            retry_after: config.retry_after,
            config,
            trouble: String::new(),
            outbox: Outbox::default(),
            read_bytes: 0,
            outcome: None,
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Time, event: ExtentEvent) {
        if self.outcome.is_some() {
            return;
        }
        self.last_progress.get_or_insert(now);
        match event {
            ExtentEvent::Ask { ask, result } => self.take_places(now, ask, result.map(|(reply, _)| reply)),
            ExtentEvent::Call { call, result } => self.take_answer(now, call, result),
            ExtentEvent::Tick => self.outbox.ticked(now),
            ExtentEvent::Source { .. } => {}
        }
        if self.outcome.is_none() {
            self.advance(now);
        }
    }

    /// What it wants done; none once there is nothing more for now.
    pub fn poll_effect(&mut self) -> Option<ExtentEffect> {
        self.outbox.poll()
    }

    /// How it ended, once it did. Bytes are delivered before.
    pub fn outcome(&self) -> Option<Result<(), GetFailure>> {
        self.outcome.clone()
    }

    /// The record on file, once it was read.
    pub fn record(&self) -> Option<&ExtentRecord> {
        self.layout.as_ref().map(|layout| &layout.record)
    }

    /// Payload received from nodes so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    fn take_places(&mut self, now: Time, ask: AskId, result: Result<DaemonReply, CallError>) {
        if !matches!(self.phase, Phase::Locating { asked: Some(asked), .. } if asked == ask) {
            return;
        }
        match result {
            Ok(DaemonReply::Located(places)) => self.located(now, places),
            Ok(DaemonReply::Refused(Refusal::NotFound)) => self.outcome = Some(Err(GetFailure::NotFound)),
            Ok(DaemonReply::Refused(refusal)) => self.locate_later(now, refusal.to_string()),
            Ok(_) => self.locate_later(now, CallError::Nonsense.to_string()),
            Err(error) => self.locate_later(now, format!("the daemon: {error}")),
        }
    }

    fn located(&mut self, now: Time, places: Places) {
        if self.layout.is_some() && self.hash != Some(places.hash) {
            let reason = "its record changed while it was read; read it again".to_owned();
            return self.fail(GetFailure::Unavailable(reason));
        }
        self.hash = Some(places.hash);
        self.sources = Sources::new((0u16..).zip(places.slots));
        // Nothing is slow any more, so what is still under way is waited for anew.
        for reading in self.readings.values_mut() {
            (reading.since, reading.overdue) = (now, false);
        }
        self.phase = if self.layout.is_some() {
            Phase::Reading { relocate_at: None }
        } else {
            let search = RecordSearch::new(self.extent, places.hash, self.sources.places());
            Phase::Searching { search, asked_at: Time::ZERO }
        };
    }

    fn locate_later(&mut self, now: Time, trouble: String) {
        self.trouble = trouble;
        self.phase = Phase::Locating { asked: None, at: self.later(now) };
    }

    fn later(&mut self, now: Time) -> Time {
        let at = now + self.retry_after;
        self.retry_after = Millis((self.retry_after.0 * 2).min(RETRY_AFTER_MAX.0));
        at
    }

    fn take_answer(&mut self, now: Time, call: CallId, result: Result<(NodeReply, Body), CallError>) {
        if let Some(reading) = self.readings.remove(&call) {
            return self.take_payload(now, &reading, result);
        }
        let Phase::Searching { search, asked_at } = &mut self.phase else { return };
        match search.take(call, result) {
            Some(Ok((_, record))) => {
                self.progressed(now);
                if let Err(failure) = self.lay_out(record) {
                    self.fail(failure);
                }
            }
            // The next one at once, whoever else may still answer.
            Some(Err(Useless)) => *asked_at = Time::ZERO,
            None => {}
        }
    }

    /// The record is known: what to read follows.
    fn lay_out(&mut self, record: ExtentRecord) -> Result<(), GetFailure> {
        let wrong = |reason: String| Err(GetFailure::Wrong(reason));
        let Range { start, end } = self.range;
        if start > end || end > record.extent_bytes {
            return wrong(format!("bytes {start} to {end} of an extent of {}", record.extent_bytes));
        }
        if self.whole {
            if start != 0 || end != record.extent_bytes {
                return wrong("asked to prove the extent whole, but not to read it whole".into());
            }
            self.hasher = Some(TreeHasher::new(record.extent_bytes));
        }
        let code = match Code::new(&record.code) {
            Ok(code) => code,
            Err(error) => return wrong(error.to_string()),
        };
        let geometry = Geometry::new(record.extent_bytes, code.k());
        let slice_bytes = slice_bytes(code.n()) as u64;
        self.layout = Some(Layout { record, code, geometry, slice_bytes });
        self.phase = Phase::Reading { relocate_at: None };
        Ok(())
    }

    fn take_payload(&mut self, now: Time, reading: &Reading, result: Result<(NodeReply, Body), CallError>) {
        let Some(identity) = self.identity(reading.index) else { return };
        if let Ok((NodeReply::Data { .. }, body)) = &result {
            self.read_bytes += body.len() as u64;
        }
        match proven_payload(&identity, &reading.range, result) {
            Ok(body) => {
                self.progressed(now);
                self.used.insert((reading.index, reading.disk));
                let stripe = self.stripes.get_mut(&reading.stripe);
                if let Some(stripe) = stripe.filter(|stripe| stripe.piece(reading.index, &reading.range).is_none()) {
                    stripe.have.insert(reading.index, (reading.range.start, body));
                }
            }
            Err(fault) => {
                self.sources.reject(reading.index, reading.disk, fault.reason());
                if let ReadFault::Bad(reason) = fault {
                    self.report(reading.index, reading.disk, reason);
                }
            }
        }
    }

    /// Tells the daemon of a fragment to be looked at, once.
    fn report(&mut self, index: u16, disk: DiskId, reason: String) {
        let Some(identity) = self.identity(index) else { return };
        if self.reported.insert((index, disk)) {
            let fragment = fragment_key(self.extent, &identity);
            self.outbox.ask(DaemonRequest::Suspect { disk, fragment, reason });
        }
    }

    fn identity(&self, index: u16) -> Option<BirthIdentity> {
        self.record()?.fragments.get(usize::from(index)).map(|entry| entry.identity)
    }

    fn progressed(&mut self, now: Time) {
        self.last_progress = Some(now);
        self.retry_after = self.config.retry_after;
    }

    /// Does all that can be done now.
    fn advance(&mut self, now: Time) {
        if now >= self.give_up_at(now) {
            return self.give_up();
        }
        match &mut self.phase {
            Phase::Locating { asked: asked @ None, at } if now >= *at => {
                *asked = Some(self.outbox.ask(DaemonRequest::Locate { extent: self.extent }));
            }
            Phase::Searching { .. } => self.search(now),
            Phase::Reading { relocate_at: Some(at) } if now >= *at => {
                let asked = Some(self.outbox.ask(DaemonRequest::Locate { extent: self.extent }));
                self.phase = Phase::Locating { asked, at: now };
            }
            _ => {}
        }
        if self.layout.is_some() {
            self.read(now);
        }
        self.wake(now);
    }

    /// Asks the next place for the record when the last one failed or is slow.
    fn search(&mut self, now: Time) {
        let Phase::Searching { search, asked_at } = &mut self.phase else { return };
        if search.is_waiting() && now < *asked_at + self.config.hedge_after {
            return;
        }
        *asked_at = now;
        if !search.ask_next(&mut self.outbox, self.config.call_deadline) && !search.is_waiting() {
            let faults = search.faults();
            self.locate_later(now, faults);
        }
    }

    fn read(&mut self, now: Time) {
        self.mark_overdue(now);
        let numbers: Vec<u64> = self.stripes.keys().copied().collect();
        let mut stuck = false;
        for number in numbers {
            stuck |= !self.advance_stripe(now, number);
        }
        while self.outcome.is_none() && self.may_begin_stripe() {
            let Some((number, stripe)) = self.next_wanted() else { break };
            self.stripes.insert(number, stripe);
            stuck |= !self.advance_stripe(now, number);
        }
        if self.outcome.is_some() {
            return;
        }
        if self.stripes.is_empty() {
            return self.finish();
        }
        if let Phase::Reading { relocate_at: relocate_at @ None } = &self.phase
            && stuck
        {
            debug_assert!(relocate_at.is_none());
            let at = self.later(now);
            self.phase = Phase::Reading { relocate_at: Some(at) };
        }
    }

    /// Sources that took too long are not waited for any more, and asked again only if there is no other way.
    fn mark_overdue(&mut self, now: Time) {
        for reading in self.readings.values_mut() {
            if !reading.overdue && now >= reading.since + self.config.hedge_after {
                reading.overdue = true;
                self.sources.mark_slow(reading.index, reading.disk);
            }
        }
    }

    /// A stripe more only while reads are few, and memory: the first stripe of all may wait for a slow source.
    fn may_begin_stripe(&self) -> bool {
        let k = self.layout.as_ref().map_or(1, |layout| layout.code.k());
        let counts = |reading: &&Reading| !reading.overdue && self.stripes.contains_key(&reading.stripe);
        let reads = self.readings.values().filter(counts).count();
        reads < self.config.reads_in_flight.max(1)
            && self.stripes.len() < self.config.reads_in_flight.div_ceil(k).max(2)
    }

    /// The next slice of which anything is wanted.
    fn next_wanted(&mut self) -> Option<(u64, Stripe)> {
        let layout = self.layout.as_ref()?;
        let shard_bytes = layout.geometry.shard_bytes();
        while self.next_stripe * layout.slice_bytes < shard_bytes {
            let number = self.next_stripe;
            self.next_stripe += 1;
            let start = number * layout.slice_bytes;
            let slice = start..(start + layout.slice_bytes).min(shard_bytes);
            let wanted: BTreeMap<u16, Range<u64>> = (0u16..)
                .take(layout.code.k())
                .filter_map(|index| Some((index, blocks_wanted(&layout.geometry, index, &slice, &self.range)?)))
                .collect();
            if !wanted.is_empty() {
                return Some((number, Stripe { wanted, have: BTreeMap::new() }));
            }
        }
        None
    }

    /// Delivers what is at hand and asks for what is not. False where the stripe cannot go on with the sources there are.
    fn advance_stripe(&mut self, now: Time, number: u64) -> bool {
        self.deliver_at_hand(number);
        let Some((stripe, layout)) = self.stripes.get(&number).zip(self.layout.as_ref()) else { return true };
        if stripe.wanted.is_empty() {
            self.stripes.remove(&number);
            return true;
        }
        for even_slow in [false, true] {
            let Some(needs) = Needs::of(stripe, &layout.code, &self.sources, even_slow, &self.plans) else {
                continue;
            };
            if needs.reads.iter().all(|(index, range)| stripe.piece(*index, range).is_some()) {
                return match self.decode(number, &needs) {
                    Ok(()) => self.advance_stripe(now, number),
                    Err(reason) => {
                        self.fail(GetFailure::Wrong(reason));
                        true
                    }
                };
            }
            let missing: Vec<(u16, Range<u64>)> =
                needs.reads.into_iter().filter(|(index, range)| stripe.piece(*index, range).is_none()).collect();
            missing.into_iter().for_each(|(index, range)| self.ask_for(now, number, index, range, even_slow));
            return true;
        }
        // Too few places are left, but one that was asked may still answer.
        self.readings.values().any(|reading| reading.stripe == number)
    }

    fn ask_for(&mut self, now: Time, stripe: u64, index: u16, range: Range<u64>, even_slow: bool) {
        let Some((place, identity)) = self.sources.pick(index, even_slow).cloned().zip(self.identity(index)) else {
            return;
        };
        let asked = |reading: &Reading| {
            (reading.stripe, reading.index, reading.disk) == (stripe, index, place.disk)
                && reading.range.start <= range.start
                && reading.range.end >= range.end
        };
        if self.readings.values().any(asked) {
            return;
        }
        let request = read_request(self.extent, &identity, &range);
        let call = self.outbox.call(&place, request, Body::new(), self.config.call_deadline);
        let reading = Reading { stripe, index, disk: place.disk, range, since: now, overdue: false };
        self.readings.insert(call, reading);
    }

    fn deliver_at_hand(&mut self, number: u64) {
        let Some(stripe) = self.stripes.get(&number) else { return };
        let ready: Vec<(u16, u64, Body)> = stripe
            .wanted
            .iter()
            .filter_map(|(index, range)| Some((*index, range.start, stripe.piece(*index, range)?)))
            .collect();
        for (index, start, body) in ready {
            self.deliver(number, index, start, body);
        }
    }

    /// Hands out what the caller wants of `body`, which begins at `start` of data shard `index`.
    fn deliver(&mut self, number: u64, index: u16, start: u64, body: Body) {
        let (Some(stripe), Some(layout)) = (self.stripes.get_mut(&number), &self.layout) else { return };
        stripe.wanted.remove(&index);
        let lies = layout.geometry.extent_range(usize::from(index), start..start + body.len() as u64);
        let wanted = lies.start.max(self.range.start)..lies.end.min(self.range.end);
        let cut = |at: u64| usize::try_from(at.saturating_sub(lies.start)).unwrap_or(usize::MAX).min(body.len());
        let bytes = body.slice(cut(wanted.start)..cut(wanted.end).max(cut(wanted.start)));
        if let Some(hasher) = &mut self.hasher
            && let Err(error) = hasher.add(wanted.start, &bytes)
        {
            return self.fail(GetFailure::Wrong(format!("internal error: {error}")));
        }
        self.outbox.deliver(wanted.start, bytes);
    }

    fn decode(&mut self, number: u64, needs: &Needs) -> Result<(), String> {
        let Some(stripe) = self.stripes.get(&number) else { return Ok(()) };
        let Some((plan, range)) = &needs.decode else { return Ok(()) };
        let piece = |index: &ShardIndex| Some((*index, stripe.piece(index.get(), range)?));
        let inputs: Vec<(ShardIndex, Body)> = plan.reads().iter().filter_map(piece).collect();
        let inputs: Vec<(ShardIndex, &[u8])> = inputs.iter().map(|(index, body)| (*index, &body[..])).collect();
        let bytes = usize::try_from(range.end - range.start).map_err(|error| error.to_string())?;
        let mut outputs: Vec<(ShardIndex, BytesMut)> =
            plan.rebuilds().iter().map(|index| (*index, BytesMut::zeroed(bytes))).collect();
        let mut targets: Vec<(ShardIndex, &mut [u8])> =
            outputs.iter_mut().map(|(index, buffer)| (*index, &mut buffer[..])).collect();
        plan.run(&inputs, &mut targets).map_err(|error| error.to_string())?;
        for (index, buffer) in outputs {
            let Some(stripe) = self.stripes.get_mut(&number) else { break };
            stripe.have.insert(index.get(), (range.start, buffer.freeze()));
        }
        Ok(())
    }

    fn finish(&mut self) {
        let proven = match (self.hasher.take(), self.record()) {
            (Some(hasher), Some(record)) => hasher.finish().is_ok_and(|hash| hash == record.extent_hash),
            _ => true,
        };
        if proven {
            self.readings.clear();
            self.outcome = Some(Ok(()));
            return;
        }
        // One of them lies with right CRCs. Each node holds its fragment against the root on record and finds out.
        for (index, disk) in std::mem::take(&mut self.used) {
            self.report(index, disk, "read with others, it gave bytes without the extent's hash".into());
        }
        let reason = "every block has its CRC, but the bytes do not have the extent's hash; its fragments are checked";
        self.fail(GetFailure::Wrong(reason.into()));
    }

    fn give_up_at(&self, now: Time) -> Time {
        self.last_progress.unwrap_or(now) + self.config.give_up_after
    }

    fn give_up(&mut self) {
        let faults = self.sources.faults();
        let reason = if self.trouble.is_empty() { faults } else { format!("{}; {faults}", self.trouble) };
        self.fail(GetFailure::Unavailable(reason));
    }

    fn fail(&mut self, failure: GetFailure) {
        self.readings.clear();
        self.stripes.clear();
        self.outcome.get_or_insert(Err(failure));
    }

    fn wake(&mut self, now: Time) {
        if self.outcome.is_some() {
            return;
        }
        let phase = match &self.phase {
            Phase::Locating { asked: None, at } | Phase::Reading { relocate_at: Some(at) } => Some(*at),
            Phase::Searching { asked_at, .. } => Some(*asked_at + self.config.hedge_after),
            _ => None,
        };
        let quick = self.readings.values().filter(|reading| !reading.overdue);
        let hedges = quick.map(|reading| reading.since + self.config.hedge_after);
        let next = hedges.chain(phase).filter(|at| *at > now).fold(self.give_up_at(now), Time::min);
        self.outbox.wake_at(next);
    }
}

/// What a stripe needs with the sources there are.
struct Needs {
    /// Shards to read, and which bytes of each.
    reads: BTreeMap<u16, Range<u64>>,
    /// How to decode the others, and the range of all of them.
    decode: Option<(Arc<RepairPlan>, Range<u64>)>,
}

impl Needs {
    /// None where too few can be had.
    fn of(stripe: &Stripe, code: &Code, sources: &Sources, even_slow: bool, plans: &PlanCache) -> Option<Self> {
        // What is at hand is as good as a source.
        let all = ShardSet::first(code.n());
        let mut available: ShardSet =
            sources.available(even_slow).iter().filter(|index| all.contains(*index)).collect();
        let (mut reads, mut lost, mut hull) = (BTreeMap::new(), ShardSet::EMPTY, None);
        for (index, range) in &stripe.wanted {
            if available.contains(ShardIndex::new(*index)) {
                reads.insert(*index, range.clone());
            } else {
                lost.insert(ShardIndex::new(*index));
                hull = Some(hull_of(hull, range));
            }
        }
        let Some(hull) = hull else { return Some(Self { reads, decode: None }) };
        for index in stripe.have.keys().filter(|index| stripe.piece(**index, &hull).is_some()) {
            available.insert(ShardIndex::new(*index));
        }
        let plan = plans.plan(code, &lost, &available).ok()?;
        for index in plan.reads() {
            let range = hull_of(reads.remove(&index.get()), &hull);
            reads.insert(index.get(), range);
        }
        Some(Self { reads, decode: Some((plan, hull)) })
    }
}

fn hull_of(hull: Option<Range<u64>>, range: &Range<u64>) -> Range<u64> {
    hull.map_or(range.clone(), |hull| hull.start.min(range.start)..hull.end.max(range.end))
}

/// The blocks of data shard `index` within `slice` that hold any of `range`, which is of the extent.
fn blocks_wanted(geometry: &Geometry, index: u16, slice: &Range<u64>, range: &Range<u64>) -> Option<Range<u64>> {
    let lies = geometry.extent_range(usize::from(index), slice.clone());
    let wanted = lies.start.max(range.start)..lies.end.min(range.end);
    if wanted.is_empty() {
        return None;
    }
    let shard_start = u64::from(index) * geometry.shard_bytes();
    let block = BLOCK_BYTES as u64;
    let start = (wanted.start - shard_start) / block * block;
    let end = (wanted.end - shard_start).next_multiple_of(block);
    Some(start..end)
}

#[cfg(test)]
#[path = "get_tests.rs"]
mod tests;
