//! What targets have already: an earlier repair that was cut off left it staged, durably, and this one reads and sends the rest.
//!
//! Nothing is believed of it. The target reads what it kept once more, from the device, and says the root of all of it; where that is not
//! the one on record, what was kept is the first suspect, and the target begins anew without it. So no repair is held up twice by the
//! same bytes.

use super::{RepairConfig, RepairJob, Step, Target};
use crate::limits::KEPT_RANGES_MAX;
use crate::node::Body;
use crate::time::Millis;
use crate::wire::{CallError, NodeReply, NodeRequest, Refusal};
use ec_core::geometry::BLOCK_BYTES;
use std::ops::Range;

/// A disk that reads no more than this in a millisecond, 4 MB a second, is not waited for.
const SEAL_BYTES_PER_MS_MIN: u64 = 4_000;

impl Target {
    /// Whether all of this range is there already.
    fn has(&self, range: &Range<u64>) -> bool {
        self.written.iter().any(|(from, to)| *from <= range.start && range.end <= *to)
    }

    pub(super) fn is_resumed(&self) -> bool {
        !self.written.is_empty()
    }

    pub(super) fn resumed_bytes(&self) -> u64 {
        self.written.iter().map(|(from, to)| to - from).sum()
    }

    /// How long its seal may take: what it had before, it reads from its disk then.
    pub(super) fn seal_deadline(&self, config: &RepairConfig) -> Millis {
        match self.resumed_bytes() {
            0 => config.call_deadline,
            bytes => Millis(config.publish_deadline.0.saturating_add(bytes / SEAL_BYTES_PER_MS_MIN)),
        }
    }

    /// Whether what it has staged is left to the next repair of this fragment.
    pub(super) fn is_left(&self) -> bool {
        self.keeps && (self.is_resumed() || self.was_sent)
    }
}

/// Whether these are ranges of a payload as a node should say them.
fn are_sound(written: &[(u64, u64)], payload_bytes: u64) -> bool {
    let block = BLOCK_BYTES as u64;
    let whole = |(from, to): &(u64, u64)| from < to && from.is_multiple_of(block) && to.is_multiple_of(block);
    written.len() <= KEPT_RANGES_MAX
        && written.iter().all(whole)
        && written.windows(2).all(|pair| pair[0].1 <= pair[1].0)
        && written.last().is_none_or(|(_, to)| *to <= payload_bytes)
}

/// The same ranges, those that touch made one.
fn joined(written: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(written.len());
    for (from, to) in written {
        match joined.last_mut() {
            Some(last) if last.1 == *from => last.1 = *to,
            _ => joined.push((*from, *to)),
        }
    }
    joined
}

impl RepairJob {
    pub(super) fn take_opened(&mut self, index: u16, result: Result<(NodeReply, Body), CallError>) {
        let payload_bytes = self.layout.as_ref().map_or(0, |layout| layout.shard_bytes);
        let Some(target) = self.targets.get_mut(&index) else { return };
        match result {
            Ok((NodeReply::StageOpen, _)) if !target.keeps => {}
            Ok((NodeReply::StageKept { written }, _)) if target.keeps && are_sound(&written, payload_bytes) => {
                target.written = joined(&written);
                self.cuts.extend(target.written.iter().flat_map(|(from, to)| [*from, *to]));
                self.tally.resumed_bytes += target.resumed_bytes();
            }
            // A node of a version that keeps nothing.
            Ok((NodeReply::Refused(Refusal::Invalid(_)), _)) if target.keeps => {
                target.keeps = false;
                return self.open(index);
            }
            other => return self.fail_target(index, &super::refused(other)),
        }
        target.staged = true;
        target.step = Step::Writing;
    }

    /// A target did not seal. Where it had to read what was kept, and it was not the connection that failed, that is left to nobody: the next repair would
    /// come as far as this one and no further.
    pub(super) fn give_resumed_up(&mut self, index: u16, result: &Result<(NodeReply, Body), CallError>) {
        let is_away = matches!(result, Err(CallError::Unreachable | CallError::Lost));
        if let Some(target) = self.targets.get_mut(&index).filter(|target| target.is_resumed() && !is_away) {
            target.keeps = false;
        }
    }

    /// Asks a target to open a stage: in the first round one that goes on with what is there.
    pub(super) fn open(&mut self, index: u16) {
        let (Some(layout), Some(entry)) = (&self.layout, self.entry(index)) else { return };
        let (cell, extent_bytes) = (crate::id::CellKey(layout.record.cell.0), layout.record.extent_bytes);
        let (token, code, key) = (self.spec.authority.token, layout.record.code.to_descriptor(), self.key(index));
        let generation = entry.identity.generation;
        let request = if self.targets.get(&index).is_some_and(|target| target.keeps) {
            NodeRequest::StageKeep { token, cell, key, generation, code, extent_bytes }
        } else {
            NodeRequest::Stage { token, cell, key, generation, code, extent_bytes }
        };
        self.call_target(index, request, Body::new(), self.config.call_deadline, super::Pending::Open { index });
    }

    /// Targets that are written to and do not have all of this range.
    pub(super) fn lacking(&self, range: &Range<u64>) -> Vec<u16> {
        let lacks = |(_, target): &(&u16, &Target)| target.step == Step::Writing && !target.has(range);
        self.targets.iter().filter(lacks).map(|(index, _)| *index).collect()
    }

    /// Targets that lack anything at all.
    pub(super) fn unfinished(&self) -> Vec<u16> {
        self.layout.as_ref().map_or_else(Vec::new, |layout| self.lacking(&(0..layout.shard_bytes)))
    }

    /// The next slice that somebody lacks.
    pub(super) fn next_slice(&mut self) -> Option<u64> {
        let shard_bytes = self.layout.as_ref()?.shard_bytes;
        while self.next_offset < shard_bytes {
            let range = self.range_at(self.next_offset);
            self.next_offset = range.end;
            if !self.lacking(&range).is_empty() {
                return Some(range.start);
            }
        }
        None
    }

    /// Targets whose root is not the one on record, and that had something from before, begin without it. False where there are others: then it is
    /// not that, or not that alone.
    pub(super) fn begin_without_resumed(&mut self) -> bool {
        let wrong = self.at_step(&Step::Mismatch);
        let resumed = wrong.iter().all(|index| self.targets.get(index).is_some_and(Target::is_resumed));
        for target in self.targets.values_mut().filter(|target| target.step == Step::Mismatch) {
            target.keeps = false;
            if resumed {
                target.step = Step::Opening;
            }
        }
        if resumed {
            self.begin_round();
        }
        resumed
    }
}
