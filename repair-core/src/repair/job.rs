//! The repair job: reads sources, computes what is lost, streams it to the disks that need it, publishes what is proven.

mod chain;
mod resume;

use super::prove::{Prover, Verdict};
use super::recipe::{Recipe, by_another_kernel};
use super::{RepairOutcome, RepairSpec, Suspect};
use crate::client::source::{RecordSearch, Sources, proven_payload, read_request};
use crate::client::{ExtentEffect, ExtentEvent, Outbox, slice_bytes};
use crate::id::DiskId;
use crate::node::Body;
use crate::pg::CallId;
use crate::rng::Dice;
use crate::time::{Millis, Time};
use crate::wire::node::{Place, StageKey};
use crate::wire::{CallError, NodeReply, NodeRequest};
use ec_core::fragment::{ExtentRecord, FragmentEntry};
use ec_core::{Code, ShardIndex, ShardSet};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// Settings of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairConfig {
    /// How long a node may take for one message; a source that takes longer is left out.
    pub call_deadline: Millis,
    /// How long a node may take to make a fragment durable.
    pub publish_deadline: Millis,
    /// Slices of all fragments in work at the same time. Bounds memory.
    pub slices_in_flight: usize,
    /// How often it begins, each time without the sources found bad before.
    pub rounds_max: u32,
}

impl Default for RepairConfig {
    fn default() -> Self {
        Self { call_deadline: Millis(5_000), publish_deadline: Millis(60_000), slices_in_flight: 3, rounds_max: 3 }
    }
}

/// Where a target stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Opening,
    Writing,
    Sealing,
    Publishing,
    Published,
    /// What it received has another root than the one on record.
    Mismatch,
    Failed(String),
}

#[derive(Debug)]
struct Target {
    place: Place,
    step: Step,
    /// Whether it has something staged.
    staged: bool,
    /// Whether it is to keep what is staged beyond this repair, and go on with what is kept.
    keeps: bool,
    /// What it had before this repair: beginnings and ends.
    written: Vec<(u64, u64)>,
    /// Whether any piece was sent to it.
    was_sent: bool,
}

/// One slice of all fragments.
#[derive(Debug, Default)]
struct Slice {
    /// Proven payload at hand, and where it is from.
    have: BTreeMap<u16, Body>,
    from: BTreeMap<u16, Place>,
    /// Reads under way.
    asked: BTreeMap<u16, DiskId>,
    /// Set while a chain is asked for it.
    is_chained: bool,
    decoded: bool,
    /// Targets that did not acknowledge their piece.
    waiting_for: BTreeSet<u16>,
}

#[derive(Debug)]
enum Pending {
    Open { index: u16 },
    Read { slice: u64, range: Range<u64>, index: u16, place: Place },
    Sums { slice: u64, chain: chain::Chain },
    Data { slice: u64, index: u16 },
    Seal { index: u16 },
    Publish { index: u16 },
}

#[derive(Debug)]
enum Phase {
    Searching(RecordSearch),
    Rebuilding,
    Proving(Prover),
    Ended,
}

/// The record on file and what follows from it.
#[derive(Debug)]
struct Layout {
    record: ExtentRecord,
    body: Body,
    code: Code,
    shard_bytes: u64,
    slice_bytes: u64,
}

/// Repairs one extent.
#[derive(Debug)]
pub struct RepairJob {
    spec: RepairSpec,
    config: RepairConfig,
    phase: Phase,
    layout: Option<Layout>,
    sources: Sources,
    /// Fragments that could be read when it began: the measure of the least it must read.
    available_at_first: ShardSet,
    targets: BTreeMap<u16, Target>,
    recipe: Option<Recipe>,
    slices: BTreeMap<u64, Slice>,
    next_offset: u64,
    /// Where slices end besides: what a target has begins or ends there, and so it has all of a slice or nothing.
    cuts: BTreeSet<u64>,
    /// Sources whose bytes went into this round.
    used: BTreeMap<(u16, DiskId), Place>,
    round: u32,
    another_kernel: bool,
    /// With the round they belong to: late answers of an earlier one are only counted.
    pending: BTreeMap<CallId, (u32, Pending)>,
    outbox: Outbox,
    tally: RepairOutcome,
}

impl RepairJob {
    /// A repair. `seed` spreads the question for the record over the sources.
    pub fn new(spec: RepairSpec, seed: u64) -> Self {
        Self::with_config(spec, seed, RepairConfig::default())
    }

    /// A repair with other settings.
    pub fn with_config(spec: RepairSpec, seed: u64, config: RepairConfig) -> Self {
        let elsewhere = |index: &u16, places: &[Place]| {
            let target = spec.targets.get(index).map(|place| place.disk);
            places.iter().filter(|place| Some(place.disk) != target).cloned().collect()
        };
        let sources = Sources::new(spec.sources.iter().map(|(index, places)| (*index, elsewhere(index, places))));
        let mut candidates = sources.places();
        let likeliest = sources.available(true).len();
        Dice::new(seed).child("record", 0).shuffle(&mut candidates[..likeliest]);
        let target = |(index, place): (&u16, &Place)| {
            let (step, written) = (Step::Opening, Vec::new());
            (*index, Target { place: place.clone(), step, staged: false, keeps: true, written, was_sent: false })
        };
        Self {
            phase: Phase::Searching(RecordSearch::new(spec.extent, spec.hash, candidates)),
            targets: spec.targets.iter().map(target).collect(),
            available_at_first: sources.available(true),
            sources,
            spec,
            config,
            layout: None,
            recipe: None,
            slices: BTreeMap::new(),
            next_offset: 0,
            cuts: BTreeSet::new(),
            used: BTreeMap::new(),
            round: 0,
            another_kernel: false,
            pending: BTreeMap::new(),
            outbox: Outbox::default(),
            tally: RepairOutcome::default(),
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, _now: Time, event: ExtentEvent) {
        if let ExtentEvent::Call { call, result } = event {
            self.take_answer(call, result);
        }
        self.advance();
    }

    /// What it wants done; none once there is nothing more for now.
    pub fn poll_effect(&mut self) -> Option<ExtentEffect> {
        self.outbox.poll()
    }

    /// What became of it, once it ended.
    pub fn outcome(&self) -> Option<&RepairOutcome> {
        matches!(self.phase, Phase::Ended).then_some(&self.tally)
    }

    /// What it is to do.
    pub fn spec(&self) -> &RepairSpec {
        &self.spec
    }

    /// Payload computed and sent so far, or there before, and in all; 0 and 0 before the record was read.
    pub fn progress(&self) -> (u64, u64) {
        let Some(layout) = &self.layout else { return (0, 0) };
        let total = layout.shard_bytes * self.targets.len() as u64;
        ((self.tally.written_bytes + self.tally.resumed_bytes).min(total), total)
    }

    /// Payload sent to targets so far.
    pub fn written_bytes(&self) -> u64 {
        self.tally.written_bytes
    }

    /// Payload read from sources so far.
    pub fn read_bytes(&self) -> u64 {
        self.tally.read_bytes
    }

    fn take_answer(&mut self, call: CallId, result: Result<(NodeReply, Body), CallError>) {
        if let Some((round, pending)) = self.pending.remove(&call) {
            return self.take_reply(round, pending, result);
        }
        match &mut self.phase {
            Phase::Searching(search) => {
                if let Some(Ok((body, record))) = search.take(call, result) {
                    self.lay_out(body, record);
                }
            }
            Phase::Proving(prover) => self.tally.read_bytes += prover.take(call, result).unwrap_or(0),
            Phase::Rebuilding | Phase::Ended => {}
        }
    }

    fn take_reply(&mut self, round: u32, pending: Pending, result: Result<(NodeReply, Body), CallError>) {
        if let (Pending::Read { .. }, Ok((NodeReply::Data { .. }, body))) = (&pending, &result) {
            self.tally.read_bytes += body.len() as u64;
        }
        if let (Pending::Sums { chain, .. }, Ok((NodeReply::Combined, sums))) = (&pending, &result) {
            self.tally.read_bytes += chain.read_bytes(sums.len());
        }
        if round != self.round || !matches!(self.phase, Phase::Rebuilding) {
            return;
        }
        match pending {
            Pending::Read { slice, range, index, place } => self.take_payload(slice, &range, index, place, result),
            Pending::Sums { slice, chain } => self.take_sums(slice, chain, result),
            Pending::Open { index } => self.take_opened(index, result),
            Pending::Data { slice, index } => self.acknowledged(slice, index, result),
            Pending::Seal { index } => self.take_root(index, result),
            Pending::Publish { index } => match result {
                Ok((NodeReply::Published, _)) => {
                    if let Some(target) = self.targets.get_mut(&index) {
                        (target.staged, target.step) = (false, Step::Published);
                    }
                }
                other => self.fail_target(index, &refused(other)),
            },
        }
    }

    fn acknowledged(&mut self, slice: u64, index: u16, result: Result<(NodeReply, Body), CallError>) {
        match result {
            Ok((NodeReply::StageTaken, _)) => {
                if let Some(slice) = self.slices.get_mut(&slice) {
                    slice.waiting_for.remove(&index);
                }
            }
            other => self.fail_target(index, &refused(other)),
        }
    }

    fn take_root(&mut self, index: u16, result: Result<(NodeReply, Body), CallError>) {
        let on_record = self.entry(index).map(|entry| *entry.root.as_bytes());
        match result {
            Ok((NodeReply::StageSealed { root }, _)) if Some(root) == on_record => self.publish(index),
            Ok((NodeReply::StageSealed { .. }, _)) => self.step(index, Step::Mismatch),
            other => {
                self.give_resumed_up(index, &other);
                self.fail_target(index, &refused(other));
            }
        }
    }

    fn take_payload(
        &mut self,
        slice: u64,
        range: &Range<u64>,
        index: u16,
        place: Place,
        result: Result<(NodeReply, Body), CallError>,
    ) {
        let Some(entry) = self.entry(index) else { return };
        // Another disk may have been asked meanwhile: that one is still waited for.
        if let Some(slice) = self.slices.get_mut(&slice)
            && slice.asked.get(&index) == Some(&place.disk)
        {
            slice.asked.remove(&index);
        }
        match proven_payload(&entry.identity, range, result) {
            Ok(body) => {
                if let Some(slice) = self.slices.get_mut(&slice) {
                    slice.have.insert(index, body);
                    slice.from.insert(index, place);
                }
            }
            Err(fault) => self.reject(index, place.disk, fault.reason()),
        }
    }

    /// Leaves a source out, and what it gave to slices that are not decoded yet.
    fn reject(&mut self, index: u16, disk: DiskId, reason: &str) {
        if let Some(place) = self.sources.reject(index, disk, reason) {
            self.tally.suspects.push(Suspect { index, place, reason: reason.to_owned() });
            self.recipe = None;
        }
    }

    fn entry(&self, index: u16) -> Option<FragmentEntry> {
        self.layout.as_ref()?.record.fragments.get(usize::from(index)).copied()
    }

    fn step(&mut self, index: u16, step: Step) {
        if let Some(target) = self.targets.get_mut(&index) {
            target.step = step;
        }
    }

    fn fail_target(&mut self, index: u16, reason: &str) {
        self.step(index, Step::Failed(reason.to_owned()));
        for slice in self.slices.values_mut() {
            slice.waiting_for.remove(&index);
        }
        self.recipe = None;
    }

    /// Targets at a step, by index.
    fn at_step(&self, step: &Step) -> Vec<u16> {
        self.targets.iter().filter(|(_, target)| target.step == *step).map(|(index, _)| *index).collect()
    }

    fn call(&mut self, to: &Place, request: NodeRequest, body: Body, deadline: Millis, pending: Pending) {
        let call = self.outbox.call(to, request, body, deadline);
        self.pending.insert(call, (self.round, pending));
    }

    fn call_target(&mut self, index: u16, request: NodeRequest, body: Body, deadline: Millis, pending: Pending) {
        if let Some(place) = self.targets.get(&index).map(|target| target.place.clone()) {
            self.call(&place, request, body, deadline, pending);
        }
    }

    fn key(&self, index: u16) -> StageKey {
        StageKey { attempt: self.spec.attempt, extent: self.spec.extent, index }
    }

    /// The record is known: what to rebuild follows.
    fn lay_out(&mut self, body: Body, record: ExtentRecord) {
        let code = match Code::new(&record.code) {
            Ok(code) => code,
            Err(error) => return self.fail_all(&error.to_string()),
        };
        let all = ShardSet::first(code.n());
        self.available_at_first = self.available_at_first.iter().filter(|index| all.contains(*index)).collect();
        let shard_bytes = record.fragments.first().map_or(0, |entry| entry.identity.payload_bytes);
        let slice_bytes = slice_bytes(code.n()) as u64;
        for index in self.targets.keys().copied().filter(|index| usize::from(*index) >= code.n()).collect::<Vec<_>>() {
            self.fail_target(index, "no such fragment");
        }
        self.layout = Some(Layout { record, body, code, shard_bytes, slice_bytes });
        self.phase = Phase::Rebuilding;
        self.begin_round();
    }

    /// Opens a stage on every target that is to be written. One of this repair that is there already is begun anew.
    fn begin_round(&mut self) {
        self.round += 1;
        (self.recipe, self.next_offset) = (None, 0);
        self.slices.clear();
        self.cuts.clear();
        self.used.clear();
        for index in self.at_step(&Step::Opening) {
            if let Some(target) = self.targets.get_mut(&index) {
                target.written.clear();
            }
            self.open(index);
        }
    }

    /// Does all that can be done now.
    fn advance(&mut self) {
        match &mut self.phase {
            Phase::Searching(search) if !search.is_waiting() && self.targets.is_empty() => self.end(),
            Phase::Searching(search) if !search.is_waiting() => {
                if !search.ask_next(&mut self.outbox, self.config.call_deadline) {
                    let faults = search.faults();
                    self.fail_all(&faults);
                }
            }
            Phase::Proving(prover) => {
                if prover.advance(&mut self.outbox) {
                    self.proven();
                }
            }
            Phase::Searching(_) | Phase::Rebuilding | Phase::Ended => {}
        }
        if matches!(self.phase, Phase::Rebuilding) {
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        // Until all have answered, it is not known what is to be rebuilt; reading for one that then fails would be in vain.
        if !self.at_step(&Step::Opening).is_empty() {
            return;
        }
        if !self.at_step(&Step::Writing).is_empty() {
            self.write();
        }
        let settled = |step: &Step| matches!(step, Step::Published | Step::Mismatch | Step::Failed(_));
        if !self.targets.values().all(|target| settled(&target.step)) {
            return;
        }
        if self.at_step(&Step::Mismatch).is_empty() { self.end() } else { self.prove() }
    }

    /// Reads, computes and sends, slice by slice, and asks for the roots in the end.
    fn write(&mut self) {
        if let Err(reason) = self.choose_recipe().and_then(|()| self.advance_slices()) {
            for index in self.at_step(&Step::Writing) {
                self.fail_target(index, &reason);
            }
            return;
        }
        let all_read = self.layout.as_ref().is_some_and(|layout| self.next_offset >= layout.shard_bytes);
        if !all_read || self.slices.values().any(|slice| !slice.decoded) {
            return;
        }
        for index in self.at_step(&Step::Writing) {
            if self.slices.values().all(|slice| !slice.waiting_for.contains(&index)) {
                self.seal(index);
            }
        }
    }

    fn seal(&mut self, index: u16) {
        self.step(index, Step::Sealing);
        let deadline =
            self.targets.get(&index).map_or(self.config.call_deadline, |target| target.seal_deadline(&self.config));
        let request = NodeRequest::StageSeal { key: self.key(index) };
        self.call_target(index, request, Body::new(), deadline, Pending::Seal { index });
    }

    fn choose_recipe(&mut self) -> Result<(), String> {
        let (None, Some(layout)) = (&self.recipe, &self.layout) else { return Ok(()) };
        let code = if self.another_kernel { by_another_kernel(&layout.code) } else { None };
        let code = code.as_ref().unwrap_or(&layout.code);
        let all = ShardSet::first(code.n());
        let available: ShardSet = self.sources.available(true).iter().filter(|index| all.contains(*index)).collect();
        let targets: ShardSet = self.unfinished().into_iter().map(ShardIndex::new).collect();
        if targets.is_empty() {
            return Ok(());
        }
        let error = match Recipe::new(code, &targets, &available) {
            Ok(recipe) => {
                self.recipe = Some(recipe);
                return Ok(());
            }
            Err(error) => format!("{error}; {}", self.sources.faults()),
        };
        // Not all, but perhaps some: a local group that is whole but for one.
        let alone = |index: &ShardIndex| Recipe::new(code, &ShardSet::from_iter([*index]), &available).is_ok();
        let possible: ShardSet = targets.iter().filter(alone).collect();
        self.recipe = Recipe::new(code, &possible, &available).ok().filter(|_| !possible.is_empty());
        let recipe = self.recipe.take().ok_or_else(|| error.clone())?;
        for index in targets.iter().filter(|index| !possible.contains(*index)) {
            self.fail_target(index.get(), &error);
        }
        self.recipe = Some(recipe);
        Ok(())
    }

    fn advance_slices(&mut self) -> Result<(), String> {
        loop {
            self.slices.retain(|_, slice| !slice.decoded || !slice.waiting_for.is_empty());
            while self.slices.len() < self.config.slices_in_flight.max(1)
                && let Some(offset) = self.next_slice()
            {
                self.slices.insert(offset, Slice::default());
            }
            let undecoded = self.slices.iter().filter(|(_, slice)| !slice.decoded).map(|(offset, _)| *offset);
            let mut decoded = false;
            for offset in undecoded.collect::<Vec<_>>() {
                decoded |= self.advance_slice(offset)?;
            }
            if !decoded {
                return Ok(());
            }
        }
    }

    fn range_at(&self, offset: u64) -> Range<u64> {
        let end = self.layout.as_ref().map_or(offset, |layout| {
            let next = offset - offset % layout.slice_bytes.max(1) + layout.slice_bytes;
            let cut = self.cuts.range(offset + 1..).next().copied();
            cut.unwrap_or(next).min(next).min(layout.shard_bytes)
        });
        offset..end
    }

    /// Reads what the recipe wants of a slice; once all of it is there, computes and sends. True where it did.
    fn advance_slice(&mut self, offset: u64) -> Result<bool, String> {
        if self.lacking(&self.range_at(offset)).is_empty() {
            // Who lacked it failed.
            self.send_pieces(offset, BTreeMap::new());
            return Ok(true);
        }
        if self.ask_chain(offset) {
            return Ok(false);
        }
        let (Some(recipe), Some(slice)) = (&self.recipe, self.slices.get(&offset)) else { return Ok(false) };
        let missing: Vec<u16> =
            recipe.reads.iter().map(ShardIndex::get).filter(|index| !slice.have.contains_key(index)).collect();
        if missing.is_empty() {
            return self.decode_slice(offset).map(|()| true);
        }
        for index in missing {
            self.read(offset, index);
        }
        Ok(false)
    }

    fn read(&mut self, offset: u64, index: u16) {
        let range = self.range_at(offset);
        let (Some(place), Some(entry)) = (self.sources.pick(index, true).cloned(), self.entry(index)) else { return };
        let Some(slice) = self.slices.get_mut(&offset) else { return };
        // A read of a place given up meanwhile may still be under way; its answer is not waited for.
        if slice.asked.insert(index, place.disk) == Some(place.disk) {
            return;
        }
        let request = read_request(self.spec.extent, &entry.identity, &range);
        let pending = Pending::Read { slice: offset, range, index, place: place.clone() };
        self.call(&place, request, Body::new(), self.config.call_deadline, pending);
    }

    fn decode_slice(&mut self, offset: u64) -> Result<(), String> {
        let range = self.range_at(offset);
        let bytes = usize::try_from(range.end - range.start).map_err(|error| error.to_string())?;
        let (Some(recipe), Some(slice)) = (&self.recipe, self.slices.get_mut(&offset)) else { return Ok(()) };
        let made = recipe.run(&slice.have, bytes).map_err(|error| error.to_string())?;
        for index in recipe.reads.iter().map(ShardIndex::get) {
            if let Some(place) = slice.from.remove(&index) {
                self.used.insert((index, place.disk), place);
            }
        }
        slice.have.clear();
        self.send_pieces(offset, made);
        Ok(())
    }

    /// Sends targets their pieces of a slice, which is done with.
    fn send_pieces(&mut self, offset: u64, mut made: BTreeMap<u16, Body>) {
        let lacking = self.lacking(&self.range_at(offset));
        made.retain(|index, _| lacking.contains(index));
        let Some(slice) = self.slices.get_mut(&offset) else { return };
        slice.decoded = true;
        slice.waiting_for = made.keys().copied().collect();
        for (index, body) in made {
            if let Some(target) = self.targets.get_mut(&index) {
                target.was_sent = true;
            }
            self.tally.written_bytes += body.len() as u64;
            let request = NodeRequest::StageData { key: self.key(index), offset };
            let pending = Pending::Data { slice: offset, index };
            self.call_target(index, request, body, self.config.call_deadline, pending);
        }
    }

    fn publish(&mut self, index: u16) {
        let Some(body) = self.layout.as_ref().map(|layout| layout.body.clone()) else { return };
        self.step(index, Step::Publishing);
        let request = NodeRequest::Publish { authority: Box::new(self.spec.authority.clone()), key: self.key(index) };
        self.call_target(index, request, body, self.config.publish_deadline, Pending::Publish { index });
    }

    /// Something that went into the wrong fragments is not what its CRCs say, or it was computed wrongly: read the sources whole.
    fn prove(&mut self) {
        if self.round >= self.config.rounds_max {
            return self.give_mismatches_up("still another root than the one on record");
        }
        if self.begin_without_resumed() {
            return;
        }
        let Some(layout) = &self.layout else { return };
        let used = std::mem::take(&mut self.used);
        let entry = |index: u16| layout.record.fragments.get(usize::from(index)).copied();
        let sources = used.into_iter().filter_map(|((index, _), place)| Some((place, entry(index)?)));
        let mut prover = Prover::new(self.spec.extent, layout.slice_bytes, self.config.call_deadline, sources);
        let over = prover.advance(&mut self.outbox);
        self.phase = Phase::Proving(prover);
        if over {
            self.proven();
        }
    }

    /// All sources are judged: again without the bad ones, or, where none is bad, computed another way.
    fn proven(&mut self) {
        let Phase::Proving(prover) = std::mem::replace(&mut self.phase, Phase::Rebuilding) else { return };
        let mut any_bad = false;
        for Verdict { index, place, fault } in prover.into_verdicts() {
            if let Some(reason) = fault {
                any_bad = true;
                self.reject(index, place.disk, &reason);
            }
        }
        if !any_bad && self.another_kernel {
            return self.give_mismatches_up("another root than the one on record, though every source has its own");
        }
        self.another_kernel |= !any_bad;
        for index in self.at_step(&Step::Mismatch) {
            self.step(index, Step::Opening);
        }
        self.begin_round();
    }

    fn give_mismatches_up(&mut self, reason: &str) {
        for index in self.at_step(&Step::Mismatch) {
            if let Some(target) = self.targets.get_mut(&index) {
                // Wrong bytes are left to nobody.
                target.keeps = false;
            }
            self.fail_target(index, reason);
        }
        self.end();
    }

    fn fail_all(&mut self, reason: &str) {
        for index in self.targets.keys().copied().collect::<Vec<_>>() {
            self.fail_target(index, reason);
        }
        self.end();
    }

    /// Everything is published or failed: counts, and drops what is staged in vain. What was cut off stays, for the next repair.
    fn end(&mut self) {
        self.phase = Phase::Ended;
        self.slices.clear();
        self.tally.published = self.at_step(&Step::Published);
        for (index, target) in &self.targets {
            if let Step::Failed(reason) = &target.step {
                self.tally.failed.insert(*index, reason.clone());
            }
            if target.staged && !target.is_left() {
                let request = NodeRequest::StageDrop { key: self.key(*index) };
                self.outbox.call(&target.place, request, Body::new(), self.config.call_deadline);
            }
        }
        let Some(layout) = self.layout.as_ref().filter(|_| !self.tally.published.is_empty()) else { return };
        let published: ShardSet = self.tally.published.iter().copied().map(ShardIndex::new).collect();
        let least = Recipe::new(&layout.code, &published, &self.available_at_first);
        let reads = least.map_or(0, |recipe| recipe.reads.len() as u64);
        self.tally.minimum_read_bytes = reads * layout.shard_bytes;
        self.tally.rebuilt_bytes = self.tally.published.len() as u64 * layout.shard_bytes;
    }
}

/// Why a target did not say yes.
fn refused(result: Result<(NodeReply, Body), CallError>) -> String {
    let reason: &dyn fmt::Display = match &result {
        Ok((NodeReply::Refused(refusal), _)) => refusal,
        Ok(_) => &CallError::Nonsense,
        Err(error) => error,
    };
    reason.to_string()
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod chain_tests;
#[cfg(test)]
#[path = "resume_tests.rs"]
mod resume_tests;
#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
