//! A small world for a node's tests: a disk that knows what a crash takes, an owner that writes rows, and a network that is only
//! the order of calls.

use super::*;
use crate::catalog::{Entry, EntryKind, PgState};
use crate::id::{ClaimId, Sum};
use crate::wire::node::{Authority, Head, Place};
use crate::wire::{DaemonReply, DaemonRequest};
use ec_core::code::DESCRIPTOR_BYTES;
use ec_core::fragment::{BirthIdentity, Content, ExtentRecord, FragmentEntry, Hash, Header, StreamId};
use ec_core::geometry::BLOCK_BYTES;
use ec_core::{CodeSpec, Geometry, ShardIndex};

pub(super) const CELL: CellKey = CellKey(0xce11 << 112 | 5);
pub(super) const PG: PgId = PgId(7);
pub(super) const DISKS: [DiskId; 3] = [DiskId(10), DiskId(11), DiskId(12)];
/// The disk under test is member 1.
pub(super) const DISK: DiskId = DISKS[1];
pub(super) const PEER: PeerId = PeerId(1);

pub(super) fn code() -> CodeSpec {
    "rs:2+1".parse().unwrap()
}

/// A file with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) payload: Vec<u8>,
    pub(super) record: Body,
    pub(super) class: String,
    pub(super) identity: BirthIdentity,
    /// Whether a crash leaves its name.
    pub(super) durable: bool,
}

#[derive(Clone, Debug)]
struct StagedFile {
    header: Header,
    payload: Vec<u8>,
    record: Option<Body>,
    /// Blocks that its map says are there; none has one that is not kept.
    map: Option<BTreeSet<usize>>,
}

impl StagedFile {
    fn fragment(&self) -> FragmentKey {
        keep::kept_as(&self.header).unwrap()
    }
}

/// A disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<FragmentKey, File>,
    pub(super) quarantine: BTreeSet<FragmentKey>,
    pub(super) journals: BTreeMap<PgId, Vec<u8>>,
    pub(super) unlinked: Vec<FragmentKey>,
    /// Records by the names they are had under. A crash leaves none.
    pub(super) index: BTreeMap<FragmentKey, Body>,
    stages: BTreeMap<StageKey, StagedFile>,
    /// Kept stages that nobody has open.
    kept: BTreeMap<FragmentKey, StagedFile>,
    /// Whether it keeps any.
    pub(super) keeps_none: bool,
    /// Calls of these names fail once each.
    pub(super) failing: Vec<(&'static str, StoreError)>,
    /// All calls performed.
    pub(super) log: Vec<&'static str>,
}

pub(super) fn call_name(call: &StoreCall) -> &'static str {
    match call {
        StoreCall::OpenStage { .. } => "open",
        StoreCall::KeepStage { .. } => "keep",
        StoreCall::LeaveStage { .. } => "leave",
        StoreCall::DropKept { .. } => "drop kept",
        StoreCall::WriteStage { .. } => "write",
        StoreCall::SealStage { .. } => "seal",
        StoreCall::FinishStage { .. } => "finish",
        StoreCall::PublishStage { .. } => "publish",
        StoreCall::SyncFolder { .. } => "sync",
        StoreCall::DropStage { .. } => "drop",
        StoreCall::Read { .. } => "read",
        StoreCall::Combine { .. } => "combine",
        StoreCall::ReadRecord { .. } => "read record",
        StoreCall::Check { .. } => "check",
        StoreCall::Quarantine { .. } => "quarantine",
        StoreCall::UnlinkQuarantined { .. } => "unlink",
        StoreCall::Touch => "touch",
        StoreCall::ListFolder { .. } => "list",
        StoreCall::AppendJournal { .. } => "append",
        StoreCall::ReplaceJournal { .. } => "replace",
        StoreCall::IndexPut { .. } => "index put",
        StoreCall::IndexRemove { .. } => "index remove",
    }
}

impl Disk {
    pub(super) fn perform(&mut self, call: StoreCall) -> Result<StoreOk, StoreError> {
        let name = call_name(&call);
        self.log.push(name);
        if let Some(at) = self.failing.iter().position(|(failing, _)| *failing == name) {
            return Err(self.failing.remove(at).1);
        }
        let no_stage = || StoreError::Invalid("no stage".into());
        match call {
            StoreCall::OpenStage { key, header } => {
                self.open(key, *header, None);
            }
            StoreCall::KeepStage { key, header } => return Ok(StoreOk::Kept(self.keep(key, *header))),
            StoreCall::LeaveStage { key } => {
                let stage = self.stages.remove(&key).ok_or_else(no_stage)?;
                assert!(stage.map.is_some(), "left, and not kept");
                self.kept.insert(stage.fragment(), stage);
            }
            StoreCall::DropKept { fragment } => {
                let is_open = self.stages.values().any(|stage| stage.map.is_some() && stage.fragment() == fragment);
                assert!(!is_open, "a kept stage removed that is open");
                self.kept.remove(&fragment).ok_or(StoreError::NotFound)?;
            }
            StoreCall::WriteStage { key, offset, body } => {
                let stage = self.stages.get_mut(&key).ok_or_else(no_stage)?;
                stage.payload[offset as usize..offset as usize + body.len()].copy_from_slice(&body);
                for block in (offset as usize..offset as usize + body.len()).step_by(BLOCK_BYTES) {
                    let is_new = stage.map.as_mut().is_none_or(|map| map.insert(block / BLOCK_BYTES));
                    assert!(is_new, "a piece that was there came again");
                }
            }
            StoreCall::SealStage { key } => {
                let stage = self.stages.get(&key).ok_or_else(no_stage)?;
                return Ok(StoreOk::Root(*stage.header.identity.root(&Hash::of(&stage.payload)).as_bytes()));
            }
            StoreCall::FinishStage { key, record } => {
                self.stages.get_mut(&key).ok_or_else(no_stage)?.record = Some(record);
            }
            StoreCall::PublishStage { key } => return self.publish(key),
            StoreCall::SyncFolder { pg } => {
                let here = self.files.iter_mut().filter(|(fragment, _)| fragment.extent.pg() == pg);
                here.for_each(|(_, file)| file.durable = true);
            }
            StoreCall::DropStage { key } => {
                self.stages.remove(&key).ok_or_else(no_stage)?;
            }
            StoreCall::Read { fragment, range } => {
                let file = self.files.get(&fragment).ok_or(StoreError::NotFound)?;
                let (from, to) = (range.start as usize, range.end as usize);
                let body = file.payload.get(from..to).ok_or(StoreError::Invalid("past the end".into()))?;
                return Ok(StoreOk::Data {
                    body: Body::copy_from_slice(body).into(),
                    crcs: vec![1; body.len() / 4096],
                });
            }
            StoreCall::Combine { fragment, range, coefficients, sums } => {
                let file = self.files.get(&fragment).ok_or(StoreError::NotFound)?;
                if file.class != "healthy" {
                    return Err(StoreError::Damaged(file.class.clone()));
                }
                let payload = file.payload.get(range.start as usize..range.end as usize);
                let payload = payload.ok_or(StoreError::Invalid("past the end".into()))?;
                return add_share(&coefficients, payload, sums).map(StoreOk::Sums);
            }
            StoreCall::ReadRecord { fragment, hash } => {
                if let Some(record) = self.index.get(&fragment).filter(|record| RecordHash::of(record) == hash) {
                    return Ok(StoreOk::Record(record.clone()));
                }
                let file = self.files.get(&fragment).ok_or(StoreError::NotFound)?;
                return Ok(StoreOk::Record(file.record.clone()));
            }
            StoreCall::Check { fragment, hash } => {
                let file = self.files.get(&fragment).ok_or(StoreError::NotFound)?;
                let root = Some(*file.identity.root(&Hash::of(&file.payload)).as_bytes());
                let other = hash.is_some_and(|hash| hash != RecordHash::of(&file.record));
                return Ok(StoreOk::Checked {
                    class: if other { "conflict".into() } else { file.class.clone() },
                    root,
                    bytes: file.payload.len() as u64,
                });
            }
            StoreCall::Quarantine { fragment, .. } => {
                self.files.remove(&fragment).ok_or(StoreError::NotFound)?;
                self.quarantine.insert(fragment);
            }
            StoreCall::UnlinkQuarantined { fragment } => {
                self.unlinked.push(fragment);
                return if self.quarantine.remove(&fragment) { Ok(StoreOk::Done) } else { Err(StoreError::NotFound) };
            }
            StoreCall::ListFolder { pg } => {
                let here = self.files.iter().filter(|(fragment, _)| fragment.extent.pg() == pg);
                return Ok(StoreOk::Folder(here.map(|(fragment, _)| *fragment).collect()));
            }
            StoreCall::AppendJournal { pg, bytes } => {
                self.journals.get_mut(&pg).expect("append to no journal").extend_from_slice(&bytes);
            }
            StoreCall::ReplaceJournal { pg, bytes } => {
                self.journals.insert(pg, bytes);
            }
            StoreCall::IndexPut { fragment, record } => _ = self.index.insert(fragment, record),
            StoreCall::IndexRemove { fragment } => _ = self.index.remove(&fragment),
            StoreCall::Touch => {}
        }
        Ok(StoreOk::Done)
    }

    fn open(&mut self, key: StageKey, header: Header, map: Option<BTreeSet<usize>>) {
        let payload = vec![0; header.identity.payload_bytes as usize];
        let old = self.stages.insert(key, StagedFile { header, payload, record: None, map });
        assert!(old.is_none(), "a stage opened over another");
    }

    fn keep(&mut self, key: StageKey, header: Header) -> Option<Vec<(u64, u64)>> {
        let fragment = keep::kept_as(&header).unwrap();
        let is_open = self.stages.values().any(|stage| stage.map.is_some() && stage.fragment() == fragment);
        assert!(!is_open, "a kept stage opened twice");
        let found = self.kept.remove(&fragment).filter(|found| found.header == header);
        if self.keeps_none {
            self.open(key, header, None);
            return None;
        }
        let Some(found) = found else {
            self.open(key, header, Some(BTreeSet::new()));
            return Some(Vec::new());
        };
        let block = BLOCK_BYTES as u64;
        let blocks = found.map.iter().flatten().map(|at| (*at as u64 * block, (*at as u64 + 1) * block)).collect();
        let old = self.stages.insert(key, found);
        assert!(old.is_none(), "a stage opened over another");
        Some(blocks)
    }

    /// The middle of a write is all that reached a kept stage, and its map knows nothing of it.
    pub(super) fn tear_write(&mut self, key: StageKey, offset: u64, body: &Body) -> bool {
        let Some(stage) = self.stages.get_mut(&key).filter(|stage| stage.map.is_some()) else { return false };
        let (from, to) = (offset as usize + body.len() / 3, offset as usize + body.len() / 2);
        stage.payload[from..to].fill(0xa5);
        true
    }

    fn publish(&mut self, key: StageKey) -> Result<StoreOk, StoreError> {
        let fragment = self.stages.get(&key).map(StagedFile::fragment);
        let fragment = fragment.ok_or(StoreError::Invalid("no stage".into()))?;
        if self.files.contains_key(&fragment) {
            return Ok(StoreOk::Published(false));
        }
        let stage = self.stages.remove(&key).ok_or(StoreError::Invalid("no stage".into()))?;
        let record = stage.record.expect("published before it was finished");
        let identity = stage.header.identity;
        let file = File { payload: stage.payload, record, class: "healthy".into(), identity, durable: false };
        self.files.insert(fragment, file);
        Ok(StoreOk::Published(true))
    }

    /// The power goes: stages and names that were not synced are gone, or, where `keeps`, happened to be written. Kept stages stay.
    pub(super) fn crash(&mut self, keeps: bool) {
        let stages = std::mem::take(&mut self.stages);
        self.kept
            .extend(stages.into_values().filter(|stage| stage.map.is_some()).map(|stage| (stage.fragment(), stage)));
        self.failing.clear();
        self.index.clear();
        self.files.retain(|_, file| file.durable || keeps);
    }

    /// Stages that are open.
    pub(super) fn stages(&self) -> usize {
        self.stages.len()
    }

    /// Kept stages, those that nobody has open.
    pub(super) fn kept(&self) -> Vec<FragmentKey> {
        self.kept.keys().copied().collect()
    }

    /// A byte of a kept stage changes on the medium, where its map says that something is.
    pub(super) fn rot_kept(&mut self, fragment: FragmentKey) {
        let stage = self.kept.get_mut(&fragment).unwrap();
        let block = *stage.map.as_ref().and_then(BTreeSet::first).unwrap();
        stage.payload[block * BLOCK_BYTES] ^= 1;
    }
}

/// An extent as a client makes it.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) extent: ExtentKey,
    pub(super) attempt: AttemptId,
    pub(super) record: Body,
    pub(super) hash: RecordHash,
    pub(super) payload: Vec<u8>,
}

impl Made {
    pub(super) fn key(&self) -> StageKey {
        StageKey { attempt: self.attempt, extent: self.extent, index: 1 }
    }

    pub(super) fn fragment(&self) -> FragmentKey {
        FragmentKey { extent: self.extent, generation: 1, index: 1 }
    }
}

/// An owner and the row it writes.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) row: PgRow,
    pub(super) token: Token,
    attempts: u64,
    extents: u64,
}

impl Owner {
    pub(super) fn new() -> Self {
        let row = PgRow {
            pg: PG,
            incarnation: 1,
            seq: 1,
            epoch: 1,
            code: code().to_descriptor(),
            members: DISKS.to_vec(),
            joining: BTreeMap::new(),
            behind: BTreeSet::new(),
            state: PgState::Open,
            crowded: false,
            next_id: 1 << 20,
            count: 0,
            sum: Sum::default(),
            trim: 0,
            entries: Vec::new(),
        };
        Self {
            row,
            token: Token { incarnation: 1, revision: 1, restore: 9, claim: ClaimId(1) },
            attempts: 0,
            extents: 0,
        }
    }

    /// Another claim.
    pub(super) fn reclaim(&mut self) {
        self.token.revision += 1;
        self.token.claim = ClaimId(self.token.claim.0 + 1);
        self.row.seq += 1;
    }

    pub(super) fn authority(&self) -> Box<Authority> {
        Box::new(Authority { token: self.token, row: self.row.clone() })
    }

    pub(super) fn attempt(&mut self) -> AttemptId {
        self.attempts += 1;
        AttemptId { claim: self.token.claim, number: self.attempts }
    }

    pub(super) fn make(&mut self, bytes: u64) -> Made {
        let extent = ExtentKey::compose(CELL, PG, 1, self.extents);
        self.extents += 1;
        let attempt = self.attempt();
        let payload_bytes = Geometry::new(bytes, 2).shard_bytes();
        let identity = |index: u16| BirthIdentity {
            cell: CELL.id(),
            extent: extent.id(),
            generation: 1,
            index: ShardIndex::new(index),
            payload_bytes,
        };
        let payload: Vec<u8> =
            (0..payload_bytes).map(|at| (at as u8).wrapping_mul(31) ^ extent.counter() as u8).collect();
        let entry =
            |index| FragmentEntry { identity: identity(index), root: identity(index).root(&Hash::of(&payload)) };
        let record = ExtentRecord {
            cell: CELL.id(),
            extent: extent.id(),
            revision: 1,
            code: code(),
            extent_bytes: bytes,
            extent_hash: Hash::of(&payload),
            stream: StreamId(1),
            ordinal: 0,
            offset: 0,
            stream_bytes: Some(bytes),
            content: Content::File,
            name: b"name".to_vec(),
            fragments: (0..3).map(entry).collect(),
            extents: Vec::new(),
        };
        let record = Body::from(record.to_bytes().unwrap());
        Made { extent, attempt, hash: RecordHash::of(&record), record, payload }
    }

    /// Commits a create: the next row.
    pub(super) fn commit(&mut self, made: &Made) {
        self.row.seq += 1;
        self.row.count += 1;
        self.row.sum = self.row.sum.plus(&made.hash);
        self.push(EntryKind::Create, made, made.attempt);
    }

    /// Commits a delete.
    pub(super) fn commit_delete(&mut self, made: &Made, attempt: AttemptId) {
        self.row.seq += 1;
        self.row.count -= 1;
        self.row.sum = self.row.sum.minus(&made.hash);
        self.push(EntryKind::Delete, made, attempt);
    }

    pub(super) fn push(&mut self, kind: EntryKind, made: &Made, attempt: AttemptId) {
        self.row.entries.push(Entry { seq: self.row.seq, kind, extent: made.extent, hash: made.hash, attempt });
    }

    /// Everybody has stored everything: another row, without entries.
    pub(super) fn trim(&mut self) {
        self.row.trim = self.row.seq;
        self.row.seq += 1;
        self.row.entries.clear();
    }

    pub(super) fn fence(&self) -> NodeRequest {
        NodeRequest::Fence { authority: self.authority() }
    }

    pub(super) fn hear(&self) -> NodeRequest {
        NodeRequest::Hear { authority: self.authority() }
    }

    pub(super) fn prepare(&self, made: &Made) -> NodeRequest {
        let (attempt, extent, hash) = (made.attempt, made.extent, made.hash);
        NodeRequest::Prepare { authority: self.authority(), attempt, kind: EntryKind::Create, extent, hash }
    }

    pub(super) fn prepare_delete(&self, made: &Made, attempt: AttemptId) -> NodeRequest {
        let (extent, hash) = (made.extent, made.hash);
        NodeRequest::Prepare { authority: self.authority(), attempt, kind: EntryKind::Delete, extent, hash }
    }

    pub(super) fn abort(&self, attempt: AttemptId) -> NodeRequest {
        NodeRequest::Abort { authority: self.authority(), attempt }
    }

    pub(super) fn publish(&self, key: StageKey) -> NodeRequest {
        NodeRequest::Publish { authority: self.authority(), key }
    }

    pub(super) fn retire(&self) -> NodeRequest {
        NodeRequest::Retire { authority: self.authority() }
    }

    pub(super) fn stage(&self, made: &Made) -> NodeRequest {
        self.stage_as(made, made.key())
    }

    pub(super) fn stage_as(&self, made: &Made, key: StageKey) -> NodeRequest {
        let code: [u8; DESCRIPTOR_BYTES] = code().to_descriptor();
        let extent_bytes = ExtentRecord::parse(&made.record).unwrap().extent_bytes;
        NodeRequest::Stage { token: self.token, cell: CELL, key, generation: 1, code, extent_bytes }
    }

    pub(super) fn keep_as(&self, made: &Made, key: StageKey) -> NodeRequest {
        match self.stage_as(made, key) {
            NodeRequest::Stage { token, cell, key, generation, code, extent_bytes } => {
                NodeRequest::StageKeep { token, cell, key, generation, code, extent_bytes }
            }
            other => other,
        }
    }
}

/// A node on its disk.
#[derive(Debug)]
pub(super) struct World {
    pub(super) node: Node,
    pub(super) disk: Disk,
    pub(super) now: Time,
    /// Store operations wanted and not performed, while `held`.
    pub(super) waiting: VecDeque<(OpId, StoreCall)>,
    pub(super) held: bool,
    /// Operations that will still be performed; then nothing is, as after a crash.
    pub(super) ops_left: Option<usize>,
    pub(super) replies: Vec<(Asker, NodeReply, Body)>,
    pub(super) asked: Vec<(u64, DaemonRequest)>,
    pub(super) cells: Vec<(OpId, CellKey, Life)>,
    pub(super) forwards: Vec<(OpId, Place, NodeRequest, Millis)>,
    pub(super) wake: Option<Time>,
    pub(super) said: Vec<Notice>,
    next_request: u64,
}

pub(super) fn config() -> NodeConfig {
    NodeConfig { scrub_period: None, headroom_bytes: 0, ..NodeConfig::default() }
}

impl World {
    pub(super) fn new() -> Self {
        Self::boot(config(), Disk::default(), Some(CELL))
    }

    pub(super) fn boot(config: NodeConfig, disk: Disk, cell: Option<CellKey>) -> Self {
        let journals = disk.journals.iter().map(|(pg, bytes)| JournalFile { pg: *pg, bytes: Ok(bytes.clone()) });
        let journals = journals.collect();
        Self::boot_with(config, disk, cell, journals)
    }

    pub(super) fn boot_with(config: NodeConfig, disk: Disk, cell: Option<CellKey>, journals: Vec<JournalFile>) -> Self {
        let mut world = Self {
            node: Node::new(config),
            disk,
            now: Time::from_millis(1000),
            waiting: VecDeque::new(),
            held: false,
            ops_left: None,
            replies: Vec::new(),
            asked: Vec::new(),
            cells: Vec::new(),
            forwards: Vec::new(),
            wake: None,
            said: Vec::new(),
            next_request: 0,
        };
        let (domain, address) = ("a/b/c/d".into(), "localhost:1".into());
        journals.into_iter().for_each(|journal| world.event(NodeEvent::Journal(journal)));
        world.disk.kept().into_iter().for_each(|fragment| world.event(NodeEvent::Kept(fragment)));
        world.event(NodeEvent::Boot {
            disk: DISK,
            cell,
            life: None,
            boot: 77,
            domain,
            address,
            door: Some("/disks/1".into()),
        });
        world
    }

    /// The process ends here and starts again on what the disk kept.
    pub(super) fn restart(self, keeps: bool) -> Self {
        let (mut disk, config) = (self.disk, self.node.config);
        disk.crash(keeps);
        Self::boot(config, disk, Some(CELL))
    }

    pub(super) fn event(&mut self, event: NodeEvent) {
        self.node.handle(self.now, event);
        self.pump();
    }

    pub(super) fn tick_at(&mut self, millis: u64) {
        self.now = Time::from_millis(millis);
        self.event(NodeEvent::Tick);
    }

    pub(super) fn pump(&mut self) {
        loop {
            while let Some(effect) = self.node.poll_effect() {
                match effect {
                    NodeEffect::Reply { peer, id, reply, body } => {
                        self.replies.push((Asker { peer, id }, reply, body.into_bytes().unwrap()));
                    }
                    NodeEffect::Store { op, call } => self.waiting.push_back((op, call)),
                    NodeEffect::AskDaemon { number, request } => self.asked.push((number, request)),
                    NodeEffect::SetCell { op, cell, life } => self.cells.push((op, cell, life)),
                    NodeEffect::Forward { op, to, request, deadline } => {
                        self.forwards.push((op, to, request, deadline));
                    }
                    NodeEffect::WakeAt(at) => self.wake = Some(at),
                    NodeEffect::Say(notice) => self.said.push(notice),
                }
            }
            if self.held || self.ops_left == Some(0) {
                return;
            }
            let Some((op, call)) = self.waiting.pop_front() else { return };
            self.ops_left = self.ops_left.map(|left| left - 1);
            let result = self.disk.perform(call);
            self.node.handle(self.now, NodeEvent::Stored { op, result });
        }
    }

    /// Performs the held operation at this place.
    pub(super) fn perform(&mut self, at: usize) {
        let (op, call) = self.waiting.remove(at).unwrap();
        let result = self.disk.perform(call);
        self.event(NodeEvent::Stored { op, result });
    }

    pub(super) fn release(&mut self) {
        self.held = false;
        self.pump();
    }

    pub(super) fn send(&mut self, request: NodeRequest, body: Body) -> RequestId {
        self.send_from(PEER, request, body)
    }

    pub(super) fn send_from(&mut self, peer: PeerId, request: NodeRequest, body: Body) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.event(NodeEvent::Request { peer, id, request, body });
        id
    }

    pub(super) fn answer(&self, id: RequestId) -> Option<&NodeReply> {
        self.replies.iter().find(|(asker, ..)| asker.id == id).map(|(_, reply, _)| reply)
    }

    /// Asks and expects an answer at once.
    pub(super) fn ask(&mut self, request: NodeRequest) -> NodeReply {
        self.ask_with(request, Body::new())
    }

    pub(super) fn ask_with(&mut self, request: NodeRequest, body: Body) -> NodeReply {
        let id = self.send(request, body);
        self.answer(id).cloned().expect("no answer")
    }

    pub(super) fn head(&mut self, request: NodeRequest) -> Head {
        match self.ask(request) {
            NodeReply::Heard(head) => head,
            other => panic!("{other:?}"),
        }
    }

    /// Stages an extent's fragment whole.
    pub(super) fn stage(&mut self, owner: &Owner, made: &Made) {
        self.stage_as(owner, made, made.key());
    }

    pub(super) fn stage_as(&mut self, owner: &Owner, made: &Made, key: StageKey) {
        assert_eq!(self.ask(owner.stage_as(made, key)), NodeReply::StageOpen);
        if !made.payload.is_empty() {
            let data = NodeRequest::StageData { key, offset: 0 };
            assert_eq!(self.ask_with(data, Body::from(made.payload.clone())), NodeReply::StageTaken);
        }
        let sealed = self.ask(NodeRequest::StageSeal { key });
        assert!(matches!(sealed, NodeReply::StageSealed { .. }), "{sealed:?}");
    }

    /// Stages, prepares and commits an extent.
    pub(super) fn create(&mut self, owner: &mut Owner) -> Made {
        let made = owner.make(5000);
        self.stage(owner, &made);
        let prepared = self.ask_with(owner.prepare(&made), made.record.clone());
        assert_eq!(prepared, NodeReply::Prepared { attempt: made.attempt });
        owner.commit(&made);
        assert!(self.head(owner.hear()).level);
        made
    }

    /// Registers with a daemon that beats every so often.
    pub(super) fn reach_daemon(&mut self, beat_every: Millis) {
        self.event(NodeEvent::DaemonReached);
        let (number, _) = self.asked.pop().unwrap();
        self.daemon_says(number, DaemonReply::Welcome { cell: CELL, beat_every });
    }

    pub(super) fn daemon_says(&mut self, number: u64, reply: DaemonReply) {
        self.event(NodeEvent::Daemon { number, result: Ok(reply) });
    }
}

pub(super) fn refused(reply: &NodeReply) -> &Refusal {
    match reply {
        NodeReply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}
