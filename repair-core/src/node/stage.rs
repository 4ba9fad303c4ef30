//! Fragments on their way in: room reserved, pieces taken in any order, sealed by their root. What happens to one stage happens
//! in the order it was asked for, one store operation at a time.

use super::keep::{Hold, Kept, kept_as};
use super::{Asker, Body, Node, PeerId, Pending, StoreCall, StoreError, StoreOk, write_failed};
use crate::id::{AttemptId, CellKey, Token};
use crate::limits::{NAME_BYTES_MAX, SLICE_BYTES};
use crate::shape::is_generation;
use crate::time::{Millis, Time};
use crate::wire::Refusal;
use crate::wire::node::{FragmentKey, NodeReply, StageKey};
use ec_core::code::DESCRIPTOR_BYTES;
use ec_core::fragment::{BirthIdentity, Header};
use ec_core::geometry::BLOCK_BYTES;
use ec_core::{CodeSpec, Geometry, ShardIndex};
use std::collections::{BTreeMap, VecDeque};

/// How long a store that had no room is not tried again.
const FULL_FOR: Millis = Millis(10_000);
/// Requests of one stage that may wait.
const WAITING_MAX: usize = 64;
/// Of a record: the fixed part and its CRC with room for a long name, and each fragment's line.
const RECORD_FIXED_BYTES: usize = 164 + NAME_BYTES_MAX;
const RECORD_FRAGMENT_BYTES: usize = 88;

/// A request to open a stage.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) token: Token,
    pub(super) cell: CellKey,
    pub(super) key: StageKey,
    pub(super) generation: u64,
    pub(super) code: [u8; DESCRIPTOR_BYTES],
    pub(super) extent_bytes: u64,
    /// Whether it is to outlive connection and process.
    pub(super) keep: bool,
}

/// Something to be done with a stage.
#[derive(Debug)]
pub(super) enum StageWork {
    Open {
        asker: Asker,
        header: Box<Header>,
        keep: bool,
    },
    Data {
        asker: Asker,
        offset: u64,
        body: Body,
    },
    Seal {
        asker: Asker,
    },
    Drop {
        asker: Option<Asker>,
    },
    /// What is kept is let go of, what is not is dropped.
    Leave,
}

impl StageWork {
    pub(super) fn asker(&self) -> Option<Asker> {
        match self {
            Self::Open { asker, .. } | Self::Data { asker, .. } | Self::Seal { asker } => Some(*asker),
            Self::Drop { asker } => *asker,
            Self::Leave => None,
        }
    }

    /// The kept stage that it would open.
    fn keeps(&self) -> Option<FragmentKey> {
        match self {
            Self::Open { header, keep: true, .. } => kept_as(header),
            _ => None,
        }
    }
}

/// A stage that is open.
#[derive(Debug)]
struct Stage {
    opened: Asker,
    header: Header,
    written: Written,
    root: Option<[u8; 32]>,
    /// Set while a mutation makes a fragment of it.
    taken: bool,
    /// What was said when it was opened.
    answer: NodeReply,
    /// Of one that outlives connection and process: what it is to be.
    kept: Option<FragmentKey>,
}

/// The place of a stage, also before it is open and until it is gone.
#[derive(Debug, Default)]
struct Slot {
    stage: Option<Stage>,
    waiting: VecDeque<StageWork>,
    /// What the store is doing.
    busy: Option<StageWork>,
    /// Room it takes that no measurement has seen yet, and the measurement before it was taken.
    reserved: (u64, u64),
}

impl Slot {
    fn is_vacant(&self) -> bool {
        self.stage.is_none() && self.waiting.is_empty() && self.busy.is_none()
    }
}

/// All stages, and the room they take.
#[derive(Debug, Default)]
pub(super) struct Stages {
    slots: BTreeMap<StageKey, Slot>,
    pub(super) kept: Kept,
    /// Bytes free and in all, where they were measured.
    room: Option<(u64, u64)>,
    measurements: u64,
    /// Bytes promised since the last measurement.
    reserved_bytes: u64,
    /// Bytes of kept stages removed since the last measurement.
    freed_bytes: u64,
    /// Nothing is taken before then, whatever was measured.
    full_until: Option<Time>,
}

impl Stages {
    /// Fragments on their way in: stages that are open.
    pub(super) fn open_count(&self) -> usize {
        self.slots.values().filter(|slot| slot.stage.is_some()).count()
    }

    /// Whether the store does nothing for a stage, and nothing waits for it.
    pub(super) fn is_at_rest(&self, key: &StageKey) -> bool {
        self.slots.get(key).is_none_or(|slot| slot.busy.is_none() && slot.waiting.is_empty())
    }

    /// What was promised before is in the measurement.
    pub(super) fn measured(&mut self, free_bytes: u64, total_bytes: u64) {
        self.room = Some((free_bytes, total_bytes));
        self.measurements += 1;
        (self.reserved_bytes, self.freed_bytes) = (0, 0);
    }

    /// Room became free that no measurement has seen yet.
    pub(super) fn freed(&mut self, bytes: u64) {
        self.freed_bytes = self.freed_bytes.saturating_add(bytes);
    }

    /// The store had no room for what the measurement would allow: names may have run out, or somebody else fills the disk.
    pub(super) fn ran_full(&mut self, now: Time) {
        self.full_until = Some(now + FULL_FOR);
    }

    /// Time passed.
    pub(super) fn try_again(&mut self, now: Time) {
        self.full_until = self.full_until.filter(|until| *until > now);
    }

    /// Bytes that fragments can still take, and bytes in all; none where nothing was measured. What is kept and nobody has open makes way
    /// for them.
    pub(super) fn usable(&self, headroom_bytes: u64) -> Option<(u64, u64)> {
        let kept = match self.full_until {
            Some(_) => u64::MAX,
            None => self.reserved_bytes.saturating_add(headroom_bytes),
        };
        let gives = [self.freed_bytes, self.kept.idle_bytes(), self.kept.going_bytes()].into_iter();
        let with_kept = |free_bytes| gives.fold(free_bytes, u64::saturating_add);
        self.room.map(|(free_bytes, total_bytes)| (with_kept(free_bytes).saturating_sub(kept), total_bytes))
    }

    /// Whether so many bytes can be taken, once all has made way that would.
    pub(super) fn has_room(&self, bytes: u64, headroom_bytes: u64) -> bool {
        self.usable(headroom_bytes).is_none_or(|(free_bytes, _)| bytes <= free_bytes)
    }

    /// Whether so many bytes can be taken now.
    fn has_room_now(&self, bytes: u64, headroom_bytes: u64) -> bool {
        let in_the_way = self.kept.idle_bytes().saturating_add(self.kept.going_bytes());
        self.has_room(bytes.saturating_add(in_the_way), headroom_bytes)
    }

    fn reserve(&mut self, key: &StageKey, bytes: u64) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.reserved = (bytes, self.measurements);
            self.reserved_bytes = self.reserved_bytes.saturating_add(bytes);
        }
    }

    fn give_back(&mut self, key: &StageKey) {
        if let Some(slot) = self.slots.get_mut(key) {
            let (bytes, measured) = std::mem::take(&mut slot.reserved);
            if measured == self.measurements {
                self.reserved_bytes = self.reserved_bytes.saturating_sub(bytes);
            }
        }
    }

    /// A sealed stage's header and root; none where there is no stage at all.
    pub(super) fn sealed(&self, key: &StageKey) -> Option<Result<(&Header, [u8; 32]), Refusal>> {
        let slot = self.slots.get(key)?;
        let stage = slot.stage.as_ref()?;
        let sealed = stage.root.filter(|_| slot.busy.is_none() && !stage.taken);
        let refused = || Refusal::NotStaged(format!("fragment {} of {} is not sealed", key.index, key.extent));
        Some(sealed.map(|root| (&stage.header, root)).ok_or_else(refused))
    }

    /// Stages that are to be opened next, by what they would keep; none of them waits for the store.
    pub(super) fn next_opens(&self, is_it: impl Fn(Option<FragmentKey>) -> bool) -> Vec<StageKey> {
        let next = |slot: &Slot| match slot.waiting.front() {
            Some(work @ StageWork::Open { .. }) => slot.busy.is_none() && is_it(work.keeps()),
            _ => false,
        };
        self.slots.iter().filter(|(_, slot)| next(slot)).map(|(key, _)| *key).collect()
    }

    /// Takes all that waits for a stage, and lets go of it as the next thing; drops it, where that was asked for.
    pub(super) fn clear_for_another(&mut self, key: &StageKey) -> VecDeque<StageWork> {
        let Some(slot) = self.slots.get_mut(key) else { return VecDeque::new() };
        let waited = std::mem::take(&mut slot.waiting);
        let drops = waited.iter().any(|work| matches!(work, StageWork::Drop { .. }));
        slot.waiting.push_back(if drops { StageWork::Drop { asker: None } } else { StageWork::Leave });
        waited
    }

    /// From now on the stage belongs to the mutation in work.
    pub(super) fn take(&mut self, key: &StageKey) {
        if let Some(stage) = self.slots.get_mut(key).and_then(|slot| slot.stage.as_mut()) {
            stage.taken = true;
        }
    }
}

impl Node {
    pub(super) fn open_stage(&mut self, asker: Asker, cell: CellKey, wish: &Wish) {
        let header = match self.admit_stage(cell, wish) {
            Ok(header) => header,
            Err(refusal) => return self.refuse(asker, refusal),
        };
        let fragment = FragmentKey { extent: wish.key.extent, generation: wish.generation, index: wish.key.index };
        if let Some(reason) = self.distrusted().filter(|_| !self.is_place_of(&fragment)) {
            return self.refuse(asker, Refusal::NoSpace(reason));
        }
        let new = !self.stages.slots.contains_key(&wish.key);
        // One that is kept and gone on with is counted already.
        let found = wish.keep && kept_as(&header).is_some_and(|fragment| self.stages.kept.is_idle(&fragment));
        let others = self.stages.slots.len() + self.stages.kept.idle() - usize::from(found);
        if new && others >= self.config.stages_max {
            self.give_way();
            let reason = format!("{} fragments are on their way in", self.config.stages_max);
            return self.refuse(asker, Refusal::Busy(reason));
        }
        self.stages.slots.entry(wish.key).or_default();
        self.stage_work(asker, wish.key, StageWork::Open { asker, header: Box::new(header), keep: wish.keep });
    }

    /// The header of the fragment, where everything about it makes sense.
    fn admit_stage(&self, cell: CellKey, wish: &Wish) -> Result<Header, Refusal> {
        if wish.cell != cell {
            return Err(Refusal::WrongCell(format!("this disk is of cell {cell}, the fragment of {}", wish.cell)));
        }
        let pg = wish.key.extent.pg();
        self.check_extent(pg, wish.key.extent)?;
        if let Some(group) = self.groups.get(&pg) {
            group.ledger.admit_token(&wish.token)?;
            if group.ledger.aborted.contains(&wish.key.attempt) {
                return Err(Refusal::Aborted);
            }
        }
        if !is_generation(wish.generation) {
            return Err(Refusal::Invalid(format!("generation {}", wish.generation)));
        }
        let code = CodeSpec::from_descriptor(&wish.code).map_err(|error| Refusal::Invalid(error.to_string()))?;
        let identity = BirthIdentity {
            cell: cell.id(),
            extent: wish.key.extent.id(),
            generation: wish.generation,
            index: ShardIndex::new(wish.key.index),
            payload_bytes: Geometry::new(wish.extent_bytes, code.k().max(1)).shard_bytes(),
        };
        // The record comes later. This is about what it takes; its true length enters when the stage is finished.
        let record_bytes = (RECORD_FIXED_BYTES + RECORD_FRAGMENT_BYTES * code.n()) as u32;
        let header = Header { identity, code, extent_bytes: wish.extent_bytes, record_bytes };
        Header::parse(&header.to_bytes()).map_err(|error| Refusal::Invalid(error.to_string()))
    }

    pub(super) fn stage_data(&mut self, asker: Asker, key: StageKey, offset: u64, body: Body) {
        let block = BLOCK_BYTES as u64;
        let whole = offset.is_multiple_of(block) && (body.len() as u64).is_multiple_of(block);
        if !whole || body.is_empty() || body.len() > SLICE_BYTES {
            return self.refuse(asker, Refusal::Invalid("a piece is whole blocks, at most a slice".into()));
        }
        self.stage_work(asker, key, StageWork::Data { asker, offset, body });
    }

    /// Queues work; only a stage that was asked for has a queue.
    pub(super) fn stage_work(&mut self, asker: Asker, key: StageKey, work: StageWork) {
        let Some(slot) = self.stages.slots.get_mut(&key) else {
            let gone = matches!(work, StageWork::Drop { .. });
            let refused = NodeReply::Refused(Refusal::NotStaged("no such stage".into()));
            return self.reply(asker, if gone { NodeReply::StageDropped } else { refused });
        };
        if slot.waiting.len() >= WAITING_MAX {
            return self.refuse(asker, Refusal::Busy(format!("{WAITING_MAX} requests of this stage wait")));
        }
        slot.waiting.push_back(work);
        if let Some(fragment) = slot.stage.as_ref().and_then(|stage| stage.kept) {
            self.use_kept(fragment);
        }
        self.run_stage(key);
    }

    /// Does what waits, until the store has to be waited for.
    pub(super) fn run_stage(&mut self, key: StageKey) {
        while let Some(work) = self.next_work(&key) {
            match self.begin_work(key, &work) {
                Begun::Asked(call) => {
                    if let Some(slot) = self.stages.slots.get_mut(&key) {
                        slot.busy = Some(work);
                    }
                    self.store(Pending::Stage(key), call);
                    return;
                }
                Begun::Answered(reply) => {
                    if let Some(asker) = work.asker() {
                        self.reply(asker, reply);
                    }
                }
                Begun::After(first) => {
                    if let Some(slot) = self.stages.slots.get_mut(&key) {
                        slot.waiting.push_front(work);
                        slot.waiting.push_front(first);
                    }
                }
                Begun::Behind(holder) => {
                    if let Some(slot) = self.stages.slots.get_mut(&key) {
                        slot.waiting.push_front(work);
                    }
                    return self.take_over(holder);
                }
            }
        }
        if self.stages.slots.get(&key).is_some_and(Slot::is_vacant) {
            self.stages.slots.remove(&key);
        }
    }

    fn next_work(&mut self, key: &StageKey) -> Option<StageWork> {
        let slot = self.stages.slots.get_mut(key)?;
        let taken = slot.stage.as_ref().is_some_and(|stage| stage.taken);
        if slot.busy.is_some() || taken { None } else { slot.waiting.pop_front() }
    }

    fn begin_work(&mut self, key: StageKey, work: &StageWork) -> Begun {
        let stage = self.stages.slots.get(&key).and_then(|slot| slot.stage.as_ref());
        let refused = |refusal| Begun::Answered(NodeReply::Refused(refusal));
        match (work, stage) {
            // The very request comes again: a network may do that.
            (StageWork::Open { asker, .. }, Some(stage)) if stage.opened == *asker => {
                Begun::Answered(stage.answer.clone())
            }
            (StageWork::Open { keep: true, .. }, Some(stage)) if stage.kept.is_some() => Begun::After(StageWork::Leave),
            (StageWork::Open { .. }, Some(_)) => Begun::After(StageWork::Drop { asker: None }),
            (StageWork::Open { header, keep, .. }, None) => self.begin_open(key, header, *keep),
            (StageWork::Drop { .. } | StageWork::Leave, None) => Begun::Answered(NodeReply::StageDropped),
            (StageWork::Leave, Some(stage)) if stage.kept.is_some() => Begun::Asked(StoreCall::LeaveStage { key }),
            (StageWork::Drop { .. } | StageWork::Leave, Some(_)) => Begun::Asked(StoreCall::DropStage { key }),
            (_, None) => refused(Refusal::NotStaged("no such stage".into())),
            (StageWork::Data { offset, body, .. }, Some(stage)) => {
                let end = offset.saturating_add(body.len() as u64);
                if stage.written.has_all(*offset, end) {
                    // Sent again. Were it other bytes, the root would not be the one on record.
                    return Begun::Answered(NodeReply::StageTaken);
                }
                if end > stage.header.identity.payload_bytes || stage.written.has_any(*offset, end) {
                    return refused(Refusal::Invalid(format!("a piece at {offset} to {end}")));
                }
                Begun::Asked(StoreCall::WriteStage { key, offset: *offset, body: body.clone() })
            }
            (StageWork::Seal { .. }, Some(stage)) => match stage.root {
                Some(root) => Begun::Answered(NodeReply::StageSealed { root }),
                None if stage.written.has_all(0, stage.header.identity.payload_bytes) => {
                    Begun::Asked(StoreCall::SealStage { key })
                }
                None => refused(Refusal::NotStaged("not all of the payload has come".into())),
            },
        }
    }

    fn begin_open(&mut self, key: StageKey, header: &Header, keep: bool) -> Begun {
        let keeps = keep && self.config.staged_for > Millis(0);
        let fragment = kept_as(header).filter(|_| keeps);
        let found = match fragment.and_then(|fragment| self.stages.kept.hold(&fragment)) {
            Some(Hold::By(holder)) => return Begun::Behind(Some(holder)),
            Some(Hold::Going) => return Begun::Behind(None),
            Some(Hold::Idle) => true,
            None => false,
        };
        let bytes = header.layout().file_bytes;
        // What was found has its room.
        if !found {
            if !self.stages.has_room_now(bytes, self.config.headroom_bytes) {
                if self.makes_way_for(bytes) {
                    return Begun::Behind(None);
                }
                // The room of some is not known, and of a store that had none not why: whoever asks again finds more.
                if self.stages.full_until.is_some() || self.stages.kept.idle_bytes() == 0 {
                    self.give_way();
                }
                let reason = format!("{bytes} bytes, with {} to be left free", self.config.headroom_bytes);
                return Begun::Answered(NodeReply::Refused(Refusal::NoSpace(reason)));
            }
            self.stages.reserve(&key, bytes);
        }
        let header = Box::new(*header);
        let Some(fragment) = fragment else { return Begun::Asked(StoreCall::OpenStage { key, header }) };
        self.take_kept(fragment, key, bytes);
        Begun::Asked(StoreCall::KeepStage { key, header })
    }

    pub(super) fn stage_stored(&mut self, key: StageKey, result: Result<StoreOk, StoreError>) {
        let Some(slot) = self.stages.slots.get_mut(&key) else { return };
        let Some(work) = slot.busy.take() else { return };
        let asker = work.asker();
        // Who waits for a kept stage goes on once it is free.
        let mut freed = work.keeps().filter(|_| matches!(result, Ok(StoreOk::Kept(None))));
        let unopened = work.keeps().filter(|_| result.is_err());
        let no_space = matches!(result, Err(StoreError::NoSpace(_)));
        let reply = match (work, result) {
            (StageWork::Open { asker, header, keep }, Ok(done)) => {
                let stage = Stage::opened(asker, *header, keep, done);
                let answer = stage.answer.clone();
                slot.stage = Some(stage);
                answer
            }
            (StageWork::Data { offset, body, .. }, Ok(_)) => {
                if let Some(stage) = &mut slot.stage {
                    stage.written.add(offset, offset + body.len() as u64);
                }
                NodeReply::StageTaken
            }
            (StageWork::Seal { .. }, Ok(StoreOk::Root(root))) => {
                if let Some(stage) = &mut slot.stage {
                    stage.root = Some(root);
                }
                NodeReply::StageSealed { root }
            }
            (StageWork::Leave, Ok(_)) if slot.stage.as_ref().is_some_and(|stage| stage.kept.is_some()) => {
                // Its room is still taken, and soon measured.
                let left = slot.stage.take().and_then(|stage| stage.kept);
                left.into_iter().for_each(|fragment| self.left_kept(fragment));
                NodeReply::StageDropped
            }
            (StageWork::Leave, Err(_)) if slot.stage.as_ref().is_some_and(|stage| stage.kept.is_some()) => {
                slot.waiting.push_front(StageWork::Drop { asker: None });
                NodeReply::StageDropped
            }
            (StageWork::Drop { .. } | StageWork::Leave, _) => {
                freed = slot.stage.take().and_then(|stage| stage.kept);
                self.stages.give_back(&key);
                NodeReply::StageDropped
            }
            (work, result) => {
                // After a failed write nobody knows what is in the file: it is given up.
                if matches!(work, StageWork::Open { .. }) {
                    self.stages.give_back(&key);
                } else {
                    slot.waiting.push_front(StageWork::Drop { asker: None });
                }
                NodeReply::Refused(stage_failed(result))
            }
        };
        if let Some(asker) = asker {
            self.reply(asker, reply);
        }
        freed.into_iter().for_each(|fragment| self.forget_kept(fragment));
        unopened.into_iter().for_each(|fragment| self.kept_unopened(fragment, no_space));
        self.run_stage(key);
    }

    /// The mutation is done with the stage: it has its name now, or it is to be dropped.
    pub(super) fn release_stage(&mut self, key: &StageKey, drop: bool) {
        let Some(slot) = self.stages.slots.get_mut(key) else { return };
        if drop {
            if let Some(stage) = &mut slot.stage {
                stage.taken = false;
            }
            slot.waiting.push_front(StageWork::Drop { asker: None });
        } else {
            let named = slot.stage.take().and_then(|stage| stage.kept);
            self.stages.give_back(key);
            named.into_iter().for_each(|fragment| self.forget_kept(fragment));
        }
        self.run_stage(*key);
    }

    /// What a peer staged and nobody took goes with it, or stays where it is kept.
    pub(super) fn drop_stages_of(&mut self, peer: PeerId) {
        let of_peer = |asker: Option<Asker>| asker.is_some_and(|asker| asker.peer == peer);
        let keys: Vec<StageKey> = self.stages.slots.keys().copied().collect();
        for key in keys {
            let Some(slot) = self.stages.slots.get_mut(&key) else { continue };
            // What it asked to be dropped is dropped, unless it was to be opened by somebody else before that.
            let others = |work: &&StageWork| matches!(work, StageWork::Open { asker, .. } if asker.peer != peer);
            let next = slot.waiting.iter().take_while(|work| !others(work));
            let drops = next.into_iter().any(|work| matches!(work, StageWork::Drop { .. }));
            slot.waiting.retain(|work| !of_peer(work.asker()));
            let opened = slot.stage.as_ref().is_some_and(|stage| stage.opened.peer == peer);
            let opening = matches!(&slot.busy, Some(StageWork::Open { asker, .. }) if asker.peer == peer);
            if opened || opening {
                // Where a mutation has taken it, this waits for the end of that and finds nothing to drop.
                slot.waiting.push_front(if drops { StageWork::Drop { asker: None } } else { StageWork::Leave });
            }
            self.run_stage(key);
        }
    }

    /// What was staged for an attempt that is dead goes.
    pub(super) fn drop_stages_of_attempt(&mut self, attempt: AttemptId) {
        let keys: Vec<StageKey> = self.stages.slots.keys().filter(|key| key.attempt == attempt).copied().collect();
        keys.into_iter().for_each(|key| self.drop_stage(key));
    }

    /// A stage goes, behind what was asked of it.
    pub(super) fn drop_stage(&mut self, key: StageKey) {
        if let Some(slot) = self.stages.slots.get_mut(&key) {
            slot.waiting.push_back(StageWork::Drop { asker: None });
        }
        self.run_stage(key);
    }
}

/// What became of a piece of work.
#[derive(Debug)]
enum Begun {
    Asked(StoreCall),
    Answered(NodeReply),
    /// This has to be done first.
    After(StageWork),
    /// It waits for a kept stage that another one has, or that is going, or for the room of such.
    Behind(Option<StageKey>),
}

impl Stage {
    fn opened(asker: Asker, header: Header, keep: bool, done: StoreOk) -> Self {
        let (kept, ranges) = match done {
            StoreOk::Kept(Some(ranges)) => (kept_as(&header).filter(|_| keep), ranges),
            _ => (None, Vec::new()),
        };
        let mut written = Written::default();
        ranges.iter().for_each(|(from, to)| written.add(*from, *to));
        let answer = if keep { NodeReply::StageKept { written: ranges } } else { NodeReply::StageOpen };
        Self { opened: asker, header, written, root: None, taken: false, answer, kept }
    }
}

fn stage_failed(result: Result<StoreOk, StoreError>) -> Refusal {
    match result {
        Ok(_) => Refusal::Store("an answer that makes no sense".into()),
        Err(StoreError::Invalid(reason)) => Refusal::NotStaged(reason),
        Err(error) => write_failed(error),
    }
}

/// Parts of a payload that were written, as ends by beginnings, neighbours joined.
#[derive(Debug, Default)]
struct Written(BTreeMap<u64, u64>);

impl Written {
    fn add(&mut self, mut from: u64, mut to: u64) {
        if let Some((begin, end)) = self.0.range(..=from).next_back().map(|(begin, end)| (*begin, *end))
            && end >= from
        {
            (from, to) = (begin, to.max(end));
        }
        while let Some((begin, end)) = self.0.range(from..=to).next().map(|(begin, end)| (*begin, *end)) {
            to = to.max(end);
            self.0.remove(&begin);
        }
        self.0.insert(from, to);
    }

    fn has_all(&self, from: u64, to: u64) -> bool {
        from == to || self.0.range(..=from).next_back().is_some_and(|(_, end)| *end >= to)
    }

    fn has_any(&self, from: u64, to: u64) -> bool {
        self.0.range(..to).next_back().is_some_and(|(_, end)| *end > from)
    }
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
