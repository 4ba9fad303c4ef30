//! The audit of one extent: all its fragments are read and parity is compared with what the code makes of the data.
//!
//! A fragment that was encoded wrongly has the CRCs and the root of its wrong bytes: every check of it alone calls it sound, and
//! only when data must be rebuilt from it does it show. So the audit reads all fragments, slice by slice, encodes parity anew and
//! compares bytes, roots and the extent's own hash with the record on file. It writes nothing.
//!
//! What it finds is an accusation that a person will act on. It is made only if a second reading, computed by another kernel,
//! finds the very same. A fragment that cannot be read ends it at once, as *incomplete*: that is damage, which repair is for.

use super::compare::Comparison;
use super::recipe::by_another_kernel;
use super::{AuditOutcome, AuditSpec, AuditVerdict, Finding, Suspect};
use crate::client::source::{ReadFault, RecordSearch, proven_payload, read_request};
use crate::client::{ExtentEffect, ExtentEvent, Outbox, slice_bytes};
use crate::node::Body;
use crate::pg::CallId;
use crate::time::{Millis, Time};
use crate::wire::{CallError, NodeReply};
use ec_core::Code;
use ec_core::fragment::{ExtentRecord, FragmentEntry};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Slices of all fragments in work at the same time: one is read while the other is compared. Bounds memory, at 16 MiB each.
const SLICES_IN_FLIGHT: usize = 2;
/// How long a node may take for one message.
const CALL_DEADLINE: Millis = Millis(5_000);

/// When so many bytes may have been read, at this rate from `began` on; 0 is no limit.
pub(crate) fn paced(began: Time, bytes: u64, bytes_per_second: u64) -> Time {
    match bytes_per_second {
        0 => began,
        rate => began + Millis(bytes.saturating_mul(1000) / rate),
    }
}

/// The record on file and what follows from it.
struct Layout {
    record: ExtentRecord,
    code: Code,
    shard_bytes: u64,
    slice_bytes: u64,
}

/// A reading of all fragments.
struct Reading {
    comparison: Comparison,
    /// What has come of each slice that was asked for, by its first byte and the fragment's index.
    slices: BTreeMap<u64, BTreeMap<u16, Body>>,
    next_offset: u64,
}

enum Phase {
    Searching(RecordSearch),
    Reading(Box<Reading>),
    Ended,
}

/// Audits one extent.
pub struct AuditJob {
    spec: AuditSpec,
    phase: Phase,
    layout: Option<Layout>,
    /// What the first reading found, while the second is under way.
    suspicion: Option<Finding>,
    began: Option<Time>,
    asked_bytes: u64,
    pending: BTreeMap<CallId, (Range<u64>, FragmentEntry)>,
    outbox: Outbox,
    outcome: AuditOutcome,
}

impl fmt::Debug for AuditJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditJob").field("spec", &self.spec).field("outcome", &self.outcome()).finish_non_exhaustive()
    }
}

impl AuditJob {
    /// An audit.
    pub fn new(spec: AuditSpec) -> Self {
        let candidates = spec.sources.iter().map(|(index, place)| (*index, place.clone())).collect();
        Self {
            phase: Phase::Searching(RecordSearch::new(spec.extent, spec.hash, candidates)),
            spec,
            layout: None,
            suspicion: None,
            began: None,
            asked_bytes: 0,
            pending: BTreeMap::new(),
            outbox: Outbox::default(),
            outcome: AuditOutcome { verdict: AuditVerdict::Sound, suspects: Vec::new(), read_bytes: 0 },
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Time, event: ExtentEvent) {
        if let ExtentEvent::Tick = event {
            self.outbox.ticked(now);
        }
        let taken = match event {
            ExtentEvent::Call { call, result } => self.take_answer(call, result),
            ExtentEvent::Ask { .. } | ExtentEvent::Source { .. } | ExtentEvent::Tick => Ok(()),
        };
        if let Err(reason) = taken.and_then(|()| self.advance(now)) {
            self.end(AuditVerdict::Incomplete { reason });
        }
    }

    /// What it wants done; none once there is nothing more for now.
    pub fn poll_effect(&mut self) -> Option<ExtentEffect> {
        self.outbox.poll()
    }

    /// What became of it, once it ended.
    pub fn outcome(&self) -> Option<&AuditOutcome> {
        matches!(self.phase, Phase::Ended).then_some(&self.outcome)
    }

    fn take_answer(&mut self, call: CallId, result: Result<(NodeReply, Body), CallError>) -> Result<(), String> {
        if let Some((range, entry)) = self.pending.remove(&call) {
            return self.take_payload(&range, &entry, result);
        }
        match &mut self.phase {
            Phase::Searching(search) => match search.take(call, result) {
                Some(Ok((_, record))) => self.lay_out(record),
                Some(Err(_)) | None => Ok(()),
            },
            Phase::Reading(_) | Phase::Ended => Ok(()),
        }
    }

    fn take_payload(
        &mut self,
        range: &Range<u64>,
        entry: &FragmentEntry,
        result: Result<(NodeReply, Body), CallError>,
    ) -> Result<(), String> {
        if let Ok((NodeReply::Data { .. }, body)) = &result {
            self.outcome.read_bytes += body.len() as u64;
        }
        let Phase::Reading(reading) = &mut self.phase else { return Ok(()) };
        let index = entry.identity.index.get();
        match proven_payload(&entry.identity, range, result) {
            Ok(body) => {
                if let Some(slice) = reading.slices.get_mut(&range.start) {
                    slice.insert(index, body);
                }
                Ok(())
            }
            Err(fault) => {
                let reason = format!("fragment {index}: {}", fault.reason());
                if let (ReadFault::Bad(reason), Some(place)) = (fault, self.spec.sources.get(&index)) {
                    self.outcome.suspects.push(Suspect { index, place: place.clone(), reason });
                }
                Err(reason)
            }
        }
    }

    /// The record is known: what to read follows.
    fn lay_out(&mut self, record: ExtentRecord) -> Result<(), String> {
        let code = Code::new(&record.code).map_err(|error| error.to_string())?;
        if let Some(absent) = (0u16..).take(code.n()).find(|index| !self.spec.sources.contains_key(index)) {
            return Err(format!("fragment {absent}: no disk has it now"));
        }
        let shard_bytes = record.fragments.first().map_or(0, |entry| entry.identity.payload_bytes);
        let slice_bytes = slice_bytes(code.n()) as u64;
        let reading = Reading::new(code.clone(), &record);
        self.layout = Some(Layout { record, code, shard_bytes, slice_bytes });
        self.phase = Phase::Reading(Box::new(reading));
        Ok(())
    }

    /// Does all that can be done now.
    fn advance(&mut self, now: Time) -> Result<(), String> {
        let began = *self.began.get_or_insert(now);
        match &mut self.phase {
            Phase::Searching(search) if search.is_waiting() => Ok(()),
            Phase::Searching(search) => {
                if search.ask_next(&mut self.outbox, CALL_DEADLINE) {
                    Ok(())
                } else {
                    Err(search.faults())
                }
            }
            Phase::Reading(_) => {
                while self.compare_next()? {}
                self.ask_more(began, now);
                self.conclude(began, now)
            }
            Phase::Ended => Ok(()),
        }
    }

    /// Compares a slice of which everything has come. False where there is none.
    fn compare_next(&mut self) -> Result<bool, String> {
        let (Phase::Reading(reading), Some(layout)) = (&mut self.phase, &self.layout) else { return Ok(false) };
        let whole = reading.slices.iter().find(|(_, slice)| slice.len() == layout.code.n());
        let Some(offset) = whole.map(|(offset, _)| *offset) else { return Ok(false) };
        let fragments: Vec<Body> = reading.slices.remove(&offset).unwrap_or_default().into_values().collect();
        reading.comparison.add(&layout.range_at(offset), &fragments)?;
        Ok(true)
    }

    /// Asks for slices, as far as memory and the rate allow.
    fn ask_more(&mut self, began: Time, now: Time) {
        let (Phase::Reading(reading), Some(layout)) = (&mut self.phase, &self.layout) else { return };
        while reading.next_offset < layout.shard_bytes && reading.slices.len() < SLICES_IN_FLIGHT {
            let at = paced(began, self.asked_bytes, self.spec.bytes_per_second);
            if at > now {
                return self.outbox.wake_at(at);
            }
            let range = layout.range_at(reading.next_offset);
            reading.next_offset = range.end;
            reading.slices.insert(range.start, BTreeMap::new());
            for (entry, place) in layout.record.fragments.iter().zip(self.spec.sources.values()) {
                let request = read_request(self.spec.extent, &entry.identity, &range);
                let call = self.outbox.call(place, request, Body::new(), CALL_DEADLINE);
                self.pending.insert(call, (range.clone(), *entry));
                self.asked_bytes += range.end - range.start;
            }
        }
    }

    /// Once all was read: a verdict, or the second reading.
    fn conclude(&mut self, began: Time, now: Time) -> Result<(), String> {
        let (Phase::Reading(reading), Some(layout)) = (&mut self.phase, &self.layout) else { return Ok(()) };
        if reading.next_offset < layout.shard_bytes || !reading.slices.is_empty() {
            return Ok(());
        }
        let code = by_another_kernel(&layout.code).unwrap_or_else(|| layout.code.clone());
        let again = Reading::new(code, &layout.record);
        let found = std::mem::replace(&mut **reading, again).comparison.finish(&layout.record)?;
        match (self.suspicion.take(), found) {
            (None, None) => self.end(AuditVerdict::Sound),
            (None, Some(found)) => {
                self.suspicion = Some(found);
                self.ask_more(began, now);
                // Where there is nothing to read, nothing will come.
                return self.conclude(began, now);
            }
            (Some(first), Some(second)) if first == second => self.end(AuditVerdict::Wrong(first)),
            (Some(first), second) => {
                let second = second.map_or("nothing".into(), |found| found.to_string());
                return Err(format!("two readings differ: the first found {first}, the second {second}"));
            }
        }
        Ok(())
    }

    fn end(&mut self, verdict: AuditVerdict) {
        self.phase = Phase::Ended;
        self.pending.clear();
        self.outcome.verdict = verdict;
    }
}

impl Layout {
    fn range_at(&self, offset: u64) -> Range<u64> {
        offset..(offset + self.slice_bytes).min(self.shard_bytes)
    }
}

impl Reading {
    fn new(code: Code, record: &ExtentRecord) -> Self {
        let comparison = Comparison::new(code, record.extent_bytes);
        Self { comparison, slices: BTreeMap::new(), next_offset: 0 }
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
