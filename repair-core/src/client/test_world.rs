//! Nodes with real fragments in memory, and a driver that runs one transfer against them in virtual time.

use super::effect::{AskId, ExtentEffect, ExtentEvent};
use super::{GetExtent, PutExtent, PutSpec};
use crate::catalog::{PgRow, PgState};
use crate::client::source::proven_payload;
use crate::id::{AttemptId, CellKey, ClaimId, DiskId, ExtentKey, PgId, RecordHash, StreamKey, Sum, Token};
use crate::node::{Body, add_share};
use crate::pg::CallId;
use crate::repair::{AuditJob, RepairJob};
use crate::rng::Dice;
use crate::time::{Millis, Time};
use crate::wire::daemon::{ExtentEntry, Grant, Places};
use crate::wire::node::{Authority, Field, FragmentKey, Hop, Place, StageKey};
use crate::wire::{CallError, DaemonReply, DaemonRequest, NodeReply, NodeRequest, Refusal};
use ec_core::fragment::{BirthIdentity, Content, ExtentRecord, Hash};
use ec_core::geometry::{BLOCK_BYTES, Geometry};
use ec_core::{CodeSpec, ShardIndex};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const CELL: CellKey = CellKey(0xc311 << 112 | 5);
pub(crate) const EXTENT_COUNTER: u64 = 77;

pub(crate) fn extent() -> ExtentKey {
    ExtentKey::compose(CELL, PgId(3), 1, EXTENT_COUNTER)
}

pub(crate) fn painted(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[5]).collect()
}

/// How an answer travels.
#[derive(Clone, Debug)]
pub(crate) enum Travel {
    Now,
    After(u64),
    /// The caller waits until its deadline.
    Never,
    Fails(CallError),
}

/// Changes what a node says: gets how many requests of all it had before, the request, and the honest answer.
pub(crate) type Twist = Box<dyn FnMut(usize, &NodeRequest, &mut (NodeReply, Body)) -> Travel>;

/// Something done to the world.
pub(crate) type Act = Box<dyn FnOnce(&mut World)>;

#[derive(Clone, Debug)]
pub(crate) struct Fragment {
    pub(crate) identity: BirthIdentity,
    pub(crate) payload: Vec<u8>,
    pub(crate) crcs: Vec<u32>,
}

impl Fragment {
    fn new(identity: BirthIdentity, payload: Vec<u8>) -> Self {
        let mut fragment = Self { identity, payload, crcs: Vec::new() };
        fragment.recompute_crcs();
        fragment
    }

    /// A liar's table: right for whatever the payload is.
    pub(crate) fn recompute_crcs(&mut self) {
        let seed = self.identity.seed();
        self.crcs = (0u32..).zip(self.payload.chunks(BLOCK_BYTES)).map(|(at, block)| seed.crc(at, block)).collect();
    }

    pub(crate) fn root(&self) -> [u8; 32] {
        *self.identity.root(&Hash::of(&self.payload)).as_bytes()
    }
}

#[derive(Debug)]
struct Stage {
    fragment: Fragment,
    taken: BTreeSet<u64>,
    sealed: Option<[u8; 32]>,
    is_kept: bool,
}

#[derive(Default)]
pub(crate) struct FakeNode {
    pub(crate) fragments: BTreeMap<u16, Fragment>,
    pub(crate) record: Body,
    pub(crate) requests: Vec<NodeRequest>,
    pub(crate) dropped: usize,
    pub(crate) twist: Option<Twist>,
    stages: BTreeMap<StageKey, Stage>,
}

impl FakeNode {
    fn answer(&mut self, request: &NodeRequest, body: &Body) -> (NodeReply, Body) {
        let not_staged = || NodeReply::Refused(Refusal::NotStaged("no stage".into()));
        let reply = match request {
            NodeRequest::Stage { key, cell, code, extent_bytes, generation, .. }
            | NodeRequest::StageKeep { key, cell, code, extent_bytes, generation, .. } => {
                let code = CodeSpec::from_descriptor(code).unwrap();
                let payload_bytes = Geometry::new(*extent_bytes, code.k()).shard_bytes();
                let (extent, index) = (key.extent.id(), ShardIndex::new(key.index));
                let identity = BirthIdentity { cell: cell.id(), extent, generation: *generation, index, payload_bytes };
                // Not zeros: a byte never sent must not look like padding.
                let fragment = Fragment { identity, payload: vec![0xee; payload_bytes as usize], crcs: Vec::new() };
                let is_kept = matches!(request, NodeRequest::StageKeep { .. });
                let stage = Stage { fragment, taken: BTreeSet::new(), sealed: None, is_kept };
                if !is_kept {
                    self.stages.insert(*key, stage);
                    return (NodeReply::StageOpen, Body::new());
                }
                let found = self.stages.keys().find(|old| old.index == key.index && self.stages[old].is_kept).copied();
                let stage = found.and_then(|old| self.stages.remove(&old)).unwrap_or(stage);
                let block = BLOCK_BYTES as u64;
                let written = stage.taken.iter().fold(Vec::<(u64, u64)>::new(), |mut written, at| {
                    match written.last_mut().filter(|last| last.1 == at * block) {
                        Some(last) => last.1 += block,
                        None => written.push((at * block, (at + 1) * block)),
                    }
                    written
                });
                self.stages.insert(*key, stage);
                NodeReply::StageKept { written }
            }
            NodeRequest::StageData { key, offset } => match self.stages.get_mut(key) {
                Some(stage) => stage.take(*offset, body),
                None => not_staged(),
            },
            NodeRequest::StageSeal { key } => match self.stages.get_mut(key) {
                Some(stage) if stage.taken.len() * BLOCK_BYTES == stage.fragment.payload.len() => {
                    let root = stage.fragment.root();
                    stage.sealed = Some(root);
                    NodeReply::StageSealed { root }
                }
                _ => not_staged(),
            },
            NodeRequest::StageDrop { key } => {
                self.dropped += 1;
                self.stages.remove(key);
                NodeReply::StageDropped
            }
            NodeRequest::Publish { key, .. } => self.publish(key, body),
            NodeRequest::Read { fragment, offset, bytes } => return self.read(fragment, *offset, *bytes),
            NodeRequest::Record { hash, .. } if RecordHash::of(&self.record) == *hash => {
                return (NodeReply::Record, self.record.clone());
            }
            NodeRequest::Record { .. } => NodeReply::Refused(Refusal::NotFound),
            other => panic!("no transfer asks for {other:?}"),
        };
        (reply, Body::new())
    }

    /// As a node should: only what was sealed with the root on record.
    fn publish(&mut self, key: &StageKey, record: &Body) -> NodeReply {
        let parsed = ExtentRecord::parse(record).unwrap();
        let root = *parsed.fragments[usize::from(key.index)].root.as_bytes();
        match self.stages.remove(key) {
            Some(mut stage) if stage.sealed == Some(root) && stage.fragment.root() == root => {
                stage.fragment.recompute_crcs();
                self.fragments.insert(key.index, stage.fragment);
                self.record = record.clone();
                NodeReply::Published
            }
            _ => NodeReply::Refused(Refusal::RootMismatch(String::new())),
        }
    }

    fn read(&self, fragment: &FragmentKey, offset: u64, bytes: u32) -> (NodeReply, Body) {
        let (offset, bytes) = (offset as usize, bytes as usize);
        assert!(bytes > 0 && bytes <= crate::limits::SLICE_BYTES && offset.is_multiple_of(BLOCK_BYTES));
        let found = self.fragments.get(&fragment.index).filter(|found| found.identity.extent == fragment.extent.id());
        match found {
            None => (NodeReply::Refused(Refusal::NotFound), Body::new()),
            Some(found) => {
                let crcs = found.crcs[offset / BLOCK_BYTES..][..bytes / BLOCK_BYTES].to_vec();
                (NodeReply::Data { crcs }, Body::copy_from_slice(&found.payload[offset..][..bytes]))
            }
        }
    }

    /// These blocks of a fragment are staged and kept.
    pub(crate) fn stage(&mut self, attempt: AttemptId, original: &Fragment, blocks: &[usize]) {
        let mut fragment = Fragment { payload: vec![0xee; original.payload.len()], ..original.clone() };
        for at in blocks.iter().map(|block| block * BLOCK_BYTES) {
            fragment.payload[at..at + BLOCK_BYTES].copy_from_slice(&original.payload[at..at + BLOCK_BYTES]);
        }
        let key = StageKey { attempt, extent: extent(), index: original.identity.index.get() };
        let taken = blocks.iter().map(|block| *block as u64).collect();
        self.stages.insert(key, Stage { fragment, taken, sealed: None, is_kept: true });
    }

    /// Blocks that a stage has of this fragment.
    pub(crate) fn staged_blocks(&self, index: u16) -> usize {
        self.stages.iter().filter(|(key, _)| key.index == index).map(|(_, stage)| stage.taken.len()).sum()
    }

    /// A byte of what is staged changes on its disk.
    pub(crate) fn rot_staged(&mut self, index: u16, at: usize) {
        let stages = self.stages.iter_mut().filter(|(key, _)| key.index == index);
        stages.for_each(|(_, stage)| stage.fragment.payload[at] ^= 1);
    }

    /// The payload of a sealed stage.
    pub(crate) fn sealed(&self, key: &StageKey) -> Option<&[u8]> {
        self.stages.get(key).filter(|stage| stage.sealed.is_some()).map(|stage| &stage.fragment.payload[..])
    }
}

impl Stage {
    fn take(&mut self, offset: u64, body: &Body) -> NodeReply {
        assert!(
            offset.is_multiple_of(BLOCK_BYTES as u64) && body.len().is_multiple_of(BLOCK_BYTES) && !body.is_empty()
        );
        for block in offset / BLOCK_BYTES as u64..(offset + body.len() as u64) / BLOCK_BYTES as u64 {
            assert!(self.taken.insert(block), "block {block} came twice");
        }
        self.fragment.payload[offset as usize..][..body.len()].copy_from_slice(body);
        NodeReply::StageTaken
    }
}

/// A transfer.
pub(crate) trait Machine {
    fn take(&mut self, now: Time, event: ExtentEvent);
    fn effect(&mut self) -> Option<ExtentEffect>;
    fn is_over(&self) -> bool;
}

macro_rules! machine {
    ($name:ty) => {
        impl Machine for $name {
            fn take(&mut self, now: Time, event: ExtentEvent) {
                self.handle(now, event);
            }
            fn effect(&mut self) -> Option<ExtentEffect> {
                self.poll_effect()
            }
            fn is_over(&self) -> bool {
                self.outcome().is_some()
            }
        }
    };
}
machine!(PutExtent);
machine!(GetExtent);
machine!(RepairJob);
machine!(AuditJob);

/// Nodes, a daemon that knows where things are, the source of a put, the sink of a get.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) nodes: BTreeMap<DiskId, FakeNode>,
    pub(crate) code: CodeSpec,
    pub(crate) source: Vec<u8>,
    pub(crate) source_fault: Option<String>,
    /// What Locate is answered.
    pub(crate) located: Result<Places, Refusal>,
    pub(crate) locates: usize,
    pub(crate) suspects: Vec<(DiskId, u16, String)>,
    pub(crate) delivered: Vec<u8>,
    pub(crate) deliveries: Vec<u8>,
    /// Most payload on its way to nodes at once.
    pub(crate) sent_unanswered_max: usize,
    /// Every event comes twice.
    pub(crate) duplicates: bool,
    /// Done at a moment.
    pub(crate) script: Vec<(Time, Act)>,
    dice: Dice,
    queue: BTreeMap<(Time, u64), ExtentEvent>,
    numbered: u64,
    wake: Option<Time>,
    unanswered: BTreeMap<CallId, usize>,
}

pub(crate) fn place(index: u16) -> Place {
    Place { disk: DiskId(1000 + u128::from(index)), address: format!("node-{index}:1") }
}

impl World {
    /// `n` nodes for the code, and a source of so many bytes.
    pub(crate) fn new(code: &str, bytes: usize) -> Self {
        let code: CodeSpec = code.parse().unwrap();
        let nodes = (0..code.n() as u16).map(|index| (place(index).disk, FakeNode::default())).collect();
        Self {
            now: Time::from_millis(1_000_000),
            nodes,
            code,
            source: painted(bytes),
            source_fault: None,
            located: Err(Refusal::NotFound),
            locates: 0,
            suspects: Vec::new(),
            delivered: vec![0; bytes],
            deliveries: vec![0; bytes],
            sent_unanswered_max: 0,
            duplicates: false,
            script: Vec::new(),
            dice: Dice::new(bytes as u64),
            queue: BTreeMap::new(),
            numbered: 0,
            wake: None,
            unanswered: BTreeMap::new(),
        }
    }

    /// With every fragment on its node.
    pub(crate) fn stored(code: &str, bytes: usize) -> Self {
        let mut world = Self::new(code, bytes);
        let mut put = PutExtent::new(world.put_spec(), 1).unwrap();
        world.run(&mut put);
        let record = put.outcome().unwrap().unwrap();
        let parsed = ExtentRecord::parse(&record).unwrap();
        for index in 0..world.code.n() as u16 {
            let key = world.stage_key(index);
            let node = world.node(index);
            let payload = node.sealed(&key).unwrap().to_vec();
            node.fragments.insert(index, Fragment::new(parsed.fragments[usize::from(index)].identity, payload));
            node.record = record.clone();
            node.stages.clear();
            node.requests.clear();
        }
        world.located = Ok(world.places(&record));
        world.sent_unanswered_max = 0;
        world
    }

    /// Spoils fragments and commits them so: their CRCs and the roots in the record are those of the wrong bytes.
    pub(crate) fn bless(&mut self, wrong: &[u16], spoil: fn(&mut [u8])) {
        let mut record = ExtentRecord::parse(&self.node(0).record).unwrap();
        for index in wrong {
            let fragment = self.node(*index).fragments.get_mut(index).unwrap();
            spoil(&mut fragment.payload);
            fragment.recompute_crcs();
            record.fragments[usize::from(*index)].root = Hash::new(fragment.root());
        }
        self.commit(&record);
    }

    /// Puts another record on file.
    pub(crate) fn commit(&mut self, record: &ExtentRecord) {
        let record: Body = record.to_bytes().unwrap().into();
        self.nodes.values_mut().for_each(|node| node.record = record.clone());
        self.located = Ok(self.places(&record));
    }

    pub(crate) fn places(&self, record: &Body) -> Places {
        Places {
            cell: CELL,
            pg: PgId(3),
            row: (1, 9),
            state: PgState::Open,
            hash: RecordHash::of(record),
            slots: (0..self.code.n() as u16).map(|index| vec![place(index)]).collect(),
        }
    }

    pub(crate) fn node(&mut self, index: u16) -> &mut FakeNode {
        self.nodes.get_mut(&place(index).disk).unwrap()
    }

    pub(crate) fn twist(
        &mut self,
        index: u16,
        twist: impl FnMut(usize, &NodeRequest, &mut (NodeReply, Body)) -> Travel + 'static,
    ) {
        self.node(index).twist = Some(Box::new(twist));
    }

    pub(crate) fn shard_bytes(&self) -> u64 {
        Geometry::new(self.source.len() as u64, self.code.k()).shard_bytes()
    }

    pub(crate) fn attempt(&self) -> AttemptId {
        AttemptId { claim: ClaimId(4), number: 2 }
    }

    pub(crate) fn stage_key(&self, index: u16) -> StageKey {
        StageKey { attempt: self.attempt(), extent: extent(), index }
    }

    pub(crate) fn put_spec(&self) -> PutSpec {
        let entry = ExtentEntry { ordinal: 0, extent: extent(), offset: 0, bytes: self.source.len() as u64 };
        PutSpec {
            grant: Grant {
                cell: CELL,
                extent: extent(),
                attempt: self.attempt(),
                token: self.authority().token,
                code: self.code.to_descriptor(),
                places: (0..self.code.n() as u16).map(|index| Some(place(index))).collect(),
            },
            stream: StreamKey(8),
            name: b"a name".to_vec(),
            content: Content::File,
            entry,
            stream_bytes: self.source.len() as u64,
            extents: vec![entry],
        }
    }

    pub(crate) fn authority(&self) -> Authority {
        let token = Token { incarnation: 1, revision: 2, restore: 3, claim: ClaimId(4) };
        let row = PgRow {
            pg: PgId(3),
            incarnation: 1,
            seq: 9,
            epoch: 1,
            code: self.code.to_descriptor(),
            members: (0..self.code.n() as u16).map(|index| place(index).disk).collect(),
            joining: BTreeMap::new(),
            behind: BTreeSet::new(),
            state: PgState::Open,
            crowded: false,
            next_id: 100,
            count: 1,
            sum: Sum::default(),
            trim: 0,
            entries: Vec::new(),
        };
        Authority { token, row }
    }

    fn schedule(&mut self, after: u64, event: ExtentEvent) {
        for _ in 0..if self.duplicates { 2 } else { 1 } {
            self.numbered += 1;
            // Answers overtake each other.
            let at = self.now + Millis(after + self.dice.below(5));
            self.queue.insert((at, self.numbered), event.clone());
        }
    }

    fn perform(&mut self, effect: ExtentEffect) {
        match effect {
            ExtentEffect::Call { call, to, request, body, deadline } => self.call(call, &to, &request, &body, deadline),
            ExtentEffect::Ask { ask, request, .. } => self.ask(ask, request),
            ExtentEffect::ReadSource { read, offset, bytes } => {
                let bytes = match &self.source_fault {
                    Some(fault) => Err(fault.clone()),
                    None => Ok(Body::copy_from_slice(&self.source[offset as usize..][..bytes])),
                };
                self.schedule(1, ExtentEvent::Source { read, bytes });
            }
            ExtentEffect::Deliver { offset, bytes } => {
                let range = offset as usize..offset as usize + bytes.len();
                self.delivered[range.clone()].copy_from_slice(&bytes);
                self.deliveries[range].iter_mut().for_each(|count| *count += 1);
            }
            ExtentEffect::WakeAt(at) => self.wake = Some(at),
        }
    }

    fn call(&mut self, call: CallId, to: &Place, request: &NodeRequest, body: &Body, deadline: Millis) {
        self.unanswered.insert(call, body.len());
        self.sent_unanswered_max = self.sent_unanswered_max.max(self.unanswered.values().sum());
        let silence = || ExtentEvent::Call { call, result: Err(CallError::Timeout) };
        if !self.nodes.contains_key(&to.disk) {
            let result = Err(CallError::Unreachable);
            return self.schedule(1, ExtentEvent::Call { call, result });
        }
        let chained = match request {
            NodeRequest::Combine { offset, bytes, hops, .. } => Some(self.combine(*offset, *bytes, hops)),
            _ => None,
        };
        let Some(node) = self.nodes.get_mut(&to.disk) else { return };
        let before = node.requests.len();
        node.requests.push(request.clone());
        let mut answer = chained.unwrap_or_else(|| node.answer(request, body));
        let travel = node.twist.as_mut().map_or(Travel::Now, |twist| twist(before, request, &mut answer));
        match travel {
            Travel::Now => self.schedule(1, ExtentEvent::Call { call, result: Ok(answer) }),
            Travel::After(millis) if millis < deadline.0 => {
                self.schedule(millis, ExtentEvent::Call { call, result: Ok(answer) });
            }
            Travel::After(_) | Travel::Never => self.schedule(deadline.0, silence()),
            Travel::Fails(error) => self.schedule(1, ExtentEvent::Call { call, result: Err(error) }),
        }
    }

    /// What the first hop of a chain answers, each hop behind it twisted as it likes.
    fn combine(&mut self, offset: u64, bytes: u32, hops: &[Hop]) -> (NodeReply, Body) {
        let failed = |hop: &Hop, refusal| {
            let (disk, fragment) = (hop.place.disk, hop.fragment);
            (NodeReply::HopFailed { disk, fragment, refusal }, Body::new())
        };
        let Some((own, rest)) = hops.split_first() else { panic!("a chain without hops") };
        let sums = match rest.first() {
            None => Body::new(),
            Some(next) => match self.ask_hop(offset, bytes, rest) {
                Ok((NodeReply::Combined, sums)) if sums.len() == bytes as usize * own.coefficients.len() => sums,
                Ok((named @ NodeReply::HopFailed { .. }, _)) => return (named, Body::new()),
                Ok((NodeReply::Refused(refusal), _)) => return failed(next, refusal),
                other => return failed(next, Refusal::Unavailable(format!("{other:?}"))),
            },
        };
        let node = self.nodes.get(&own.place.disk).unwrap();
        let Some(identity) = node.fragments.get(&own.fragment.index).map(|fragment| fragment.identity) else {
            return failed(own, Refusal::NotFound);
        };
        let range = offset..offset + u64::from(bytes);
        match proven_payload(&identity, &range, Ok(node.read(&own.fragment, offset, bytes))) {
            Ok(payload) => (NodeReply::Combined, add_share(&own.coefficients, &payload, sums).unwrap()),
            Err(fault) => failed(own, Refusal::Damaged(fault.reason().to_owned())),
        }
    }

    fn ask_hop(&mut self, offset: u64, bytes: u32, hops: &[Hop]) -> Result<(NodeReply, Body), CallError> {
        let (field, patience) = (Field::Gf256, Millis(1));
        let request = NodeRequest::Combine { field, offset, bytes, patience, hops: hops.to_vec() };
        let mut answer = self.combine(offset, bytes, hops);
        let node = self.nodes.get_mut(&hops[0].place.disk).unwrap();
        let before = node.requests.len();
        node.requests.push(request.clone());
        match node.twist.as_mut().map_or(Travel::Now, |twist| twist(before, &request, &mut answer)) {
            Travel::Now | Travel::After(_) => Ok(answer),
            Travel::Never => Err(CallError::Timeout),
            Travel::Fails(error) => Err(error),
        }
    }

    fn ask(&mut self, ask: AskId, request: DaemonRequest) {
        let reply = match request {
            DaemonRequest::Locate { extent: asked } => {
                assert_eq!(asked, extent());
                self.locates += 1;
                match &self.located {
                    Ok(places) => DaemonReply::Located(places.clone()),
                    Err(refusal) => DaemonReply::Refused(refusal.clone()),
                }
            }
            DaemonRequest::Suspect { disk, fragment, reason } => {
                self.suspects.push((disk, fragment.index, reason));
                DaemonReply::Noted
            }
            other => panic!("no transfer asks {other:?}"),
        };
        self.schedule(1, ExtentEvent::Ask { ask, result: Ok((reply, Body::new())) });
    }

    /// Runs a transfer to its end, and a little beyond: late answers must do no harm.
    pub(crate) fn run(&mut self, machine: &mut impl Machine) {
        self.queue.clear();
        self.wake = None;
        machine.take(self.now, ExtentEvent::Tick);
        for _ in 0..200_000 {
            while let Some(effect) = machine.effect() {
                self.perform(effect);
            }
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wake = self.wake.filter(|_| !machine.is_over());
            let Some(at) = [next, wake].into_iter().flatten().min() else {
                assert!(machine.is_over(), "nothing is under way, and it is not over");
                return;
            };
            self.now = self.now.max(at);
            for (_, act) in self.script.extract_if(.., |(at, _)| *at <= self.now).collect::<Vec<_>>() {
                act(self);
            }
            if wake == Some(at) && next.is_none_or(|next| at <= next) {
                self.wake = None;
                machine.take(self.now, ExtentEvent::Tick);
            } else if let Some((_, event)) = self.queue.pop_first() {
                if let ExtentEvent::Call { call, .. } = &event {
                    self.unanswered.remove(call);
                }
                machine.take(self.now, event);
            }
        }
        panic!("it goes on for ever");
    }
}

/// All sets of at most `most` of `0..n`.
pub(crate) fn subsets(n: u16, most: usize) -> Vec<Vec<u16>> {
    (0u32..1 << n)
        .filter(|set| set.count_ones() as usize <= most)
        .map(|set| (0..n).filter(|index| set >> index & 1 == 1).collect())
        .collect()
}
