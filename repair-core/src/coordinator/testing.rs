//! A cell in memory for the tests: the coordinator, nodes with stores that do what they are told, a catalog that may be silent.

use super::{Coordinator, CoordinatorConfig, CoordinatorEffect, CoordinatorEvent, JobId, Note};
use crate::catalog::memory::MemoryCatalog;
use crate::catalog::{Txn, TxnResult, Write, key};
use crate::id::{CellKey, ClaimId, DiskId, ExtentKey, PgId, StreamKey};
use crate::lineage::Life;
use crate::node::{
    Body, JournalFile, Node, NodeConfig, NodeEffect, NodeEvent, PeerId, RequestId, StoreCall, StoreError, StoreOk,
};
use crate::pg::CallId;
use crate::repair::{AuditSpec, RepairOutcome, RepairSpec};
use crate::rng::Dice;
use crate::time::{Millis, Time};
use crate::wire::daemon::{EndOfStream, ExtentEntry, Grant, NameEntry};
use crate::wire::node::{FragmentKey, StageKey};
use crate::wire::{CallError, DaemonReply, DaemonRequest, NodeReply, NodeRequest};
use ec_core::fragment::{BirthIdentity, Content, ExtentRecord, FragmentEntry, Hash, Header, TreeHasher};
use ec_core::{Code, CodeSpec, Geometry, ShardIndex};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const LATENCY: Millis = Millis(1);
/// Longest virtual time any wish of a test may take.
const PATIENCE: Millis = Millis(120_000);
pub(super) const CLIENT: PeerId = PeerId(7);
/// Another connection of a client.
pub(super) const OTHER: PeerId = PeerId(8);
/// The coordinator, as nodes see it.
const DAEMON: PeerId = PeerId(1);

/// A fragment on a fake disk.
#[derive(Clone, Debug)]
pub(super) struct File {
    root: [u8; 32],
    pub(super) record: Body,
    pub(super) class: &'static str,
}

#[derive(Debug)]
struct Staged {
    header: Header,
    payload: Vec<u8>,
    root: Option<[u8; 32]>,
    record: Body,
}

#[derive(Debug, Default)]
struct Store {
    cell: Option<CellKey>,
    life: Option<Life>,
    stages: BTreeMap<StageKey, Staged>,
    files: BTreeMap<FragmentKey, File>,
    journals: BTreeMap<PgId, Vec<u8>>,
}

pub(super) struct Host {
    node: Option<Node>,
    store: Store,
    life: u64,
    domain: String,
}

impl Host {
    pub(super) fn files(&mut self) -> &mut BTreeMap<FragmentKey, File> {
        &mut self.store.files
    }

    pub(super) fn journals(&mut self) -> &mut BTreeMap<PgId, Vec<u8>> {
        &mut self.store.journals
    }

    /// The life beside its label.
    pub(super) fn life(&self) -> Option<Life> {
        self.store.life
    }

    /// Puts an earlier state of it back, as far as its lives go.
    pub(super) fn put_back(&mut self, life: Option<Life>) {
        self.store.life = life;
    }

    pub(super) fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    pub(super) fn is_up(&self) -> bool {
        self.node.is_some()
    }
}

enum Happening {
    Daemon(u64, CoordinatorEvent),
    Node(DiskId, u64, NodeEvent),
}

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Heard,
    SilentlyDone,
    SilentlyNot,
    /// Sent twice by the library: done, and refused the second time.
    RefusedThoughDone,
}

pub(super) struct World {
    pub(super) now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    life: u64,
    pub(super) config: CoordinatorConfig,
    pub(super) coordinator: Option<Coordinator>,
    pub(super) catalog: MemoryCatalog,
    pub(super) nodes: BTreeMap<DiskId, Host>,
    calls: BTreeMap<(u64, CallId), DiskId>,
    pub(super) replies: BTreeMap<u64, (DaemonReply, Body)>,
    node_replies: BTreeMap<u64, (NodeReply, Body)>,
    pub(super) notes: Vec<Note>,
    pub(super) repairs: VecDeque<(JobId, RepairSpec)>,
    pub(super) audits: VecDeque<(JobId, AuditSpec)>,
    pub(super) stopped: Option<super::Stopped>,
    /// Nodes that hear no call, though they beat.
    pub(super) deaf: BTreeSet<DiskId>,
    /// How long the catalog takes to list rows; no time without it.
    pub(super) range_takes: Option<Millis>,
    /// Nothing happens to the daemon before.
    paused_until: Time,
    pub(super) fates: Option<Dice>,
    /// Writes of the lease are lost.
    pub(super) loses_leases: bool,
    shards: BTreeMap<ExtentKey, Vec<Vec<u8>>>,
}

pub(super) fn hasty() -> CoordinatorConfig {
    CoordinatorConfig {
        beat_every: Millis(500),
        suspect_after: Millis(2_000),
        grace: Millis(0),
        put_resume: Millis(5_000),
        extent_bytes: 64 << 10,
        slots_per_disk: 2,
        ..CoordinatorConfig::default()
    }
}

impl World {
    /// A cell of so many nodes, each in a rack of its own, all registered.
    pub(super) fn new(nodes: u128, config: CoordinatorConfig) -> Self {
        let mut world = Self {
            now: Time::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            life: 0,
            config,
            coordinator: None,
            catalog: MemoryCatalog::default(),
            nodes: BTreeMap::new(),
            calls: BTreeMap::new(),
            replies: BTreeMap::new(),
            node_replies: BTreeMap::new(),
            notes: Vec::new(),
            repairs: VecDeque::new(),
            audits: VecDeque::new(),
            stopped: None,
            deaf: BTreeSet::new(),
            range_takes: None,
            paused_until: Time::ZERO,
            fates: None,
            loses_leases: false,
            shards: BTreeMap::new(),
        };
        world.start_daemon();
        for number in 1..=nodes {
            world.add_node(DiskId(number), format!("r/z/rack{number}/node{number}"));
        }
        world.until("all nodes are registered", |world| world.healthy() == nodes as usize);
        world
    }

    pub(super) fn healthy(&self) -> usize {
        self.coordinator().status().nodes.healthy
    }

    pub(super) fn coordinator(&self) -> &Coordinator {
        self.coordinator.as_ref().unwrap()
    }

    fn later(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), happening);
    }

    fn soon(&mut self, happening: Happening) {
        self.later(self.now + LATENCY, happening);
    }

    pub(super) fn tell(&mut self, event: CoordinatorEvent) {
        self.soon(Happening::Daemon(self.life, event));
    }

    // The daemon's process.

    pub(super) fn stop_daemon(&mut self) {
        self.coordinator = None;
        self.life += 1;
        self.calls.clear();
        self.repairs.clear();
        self.audits.clear();
    }

    pub(super) fn start_daemon(&mut self) {
        self.start_daemon_unseen_by(None);
    }

    /// A new daemon that one of the nodes does not find by itself.
    pub(super) fn start_daemon_unseen_by(&mut self, unaware: Option<DiskId>) {
        self.stop_daemon();
        let claim = ClaimId(u128::from(self.life) << 64 | 5);
        self.coordinator = Some(Coordinator::new(self.config.clone(), claim, Dice::new(self.life)));
        self.tell(CoordinatorEvent::Boot);
        let alive: Vec<DiskId> =
            self.nodes.iter().filter(|(_, host)| host.node.is_some()).map(|(disk, _)| *disk).collect();
        for disk in alive.into_iter().filter(|disk| Some(*disk) != unaware) {
            let life = self.nodes[&disk].life;
            self.soon(Happening::Node(disk, life, NodeEvent::DaemonReached));
        }
    }

    /// Has a daemon whose place another one took live on with nobody but the catalog and the client to talk to. Returns the
    /// transaction it wants in the end, which nobody has performed.
    pub(super) fn live_on(&mut self, deposed: &mut Coordinator, event: CoordinatorEvent) -> Option<(CallId, Txn)> {
        let (mut events, mut wanted) = (VecDeque::from([event]), None);
        while let Some(event) = events.pop_front() {
            deposed.handle(self.now, event);
            while let Some(effect) = deposed.poll_effect() {
                match effect {
                    CoordinatorEffect::Get { op, keys } => {
                        let rows = Ok(keys.iter().map(|key| self.catalog.get(key)).collect());
                        events.push_back(CoordinatorEvent::Rows { op, rows });
                    }
                    CoordinatorEffect::Range { op, prefix, after, limit } => {
                        let rows = Ok(self.catalog.range(&prefix, after.as_deref(), limit));
                        events.push_back(CoordinatorEvent::Range { op, rows });
                    }
                    CoordinatorEffect::Txn { op, txn } => assert!(wanted.replace((op, txn)).is_none(), "two at once"),
                    CoordinatorEffect::Reply { peer: CLIENT, id, reply, body } => {
                        self.replies.insert(id.0, (reply, body));
                    }
                    _ => {}
                }
            }
        }
        wanted
    }

    /// The daemon's process is stopped for so long. When it goes on, the clock is the first thing it looks at.
    pub(super) fn pause_daemon(&mut self, span: Millis) {
        self.paused_until = self.now + span;
        self.later(self.paused_until, Happening::Daemon(self.life, CoordinatorEvent::Tick));
    }

    pub(super) fn node_peer(&self, disk: DiskId) -> PeerId {
        PeerId(1_000_000 * self.life + 1_000 * self.nodes[&disk].life + disk.0 as u64)
    }

    // Nodes' processes.

    pub(super) fn add_node(&mut self, disk: DiskId, domain: String) {
        self.nodes.insert(disk, Host { node: None, store: Store::default(), life: 0, domain });
        self.start_node(disk);
    }

    pub(super) fn start_node(&mut self, disk: DiskId) {
        let host = self.nodes.get_mut(&disk).unwrap();
        host.life += 1;
        let config = NodeConfig { scrub_period: None, headroom_bytes: 0, ..NodeConfig::default() };
        host.node = Some(Node::new(config));
        let journals = host.store.journals.iter();
        let journals = journals.map(|(pg, bytes)| JournalFile { pg: *pg, bytes: Ok(bytes.clone()) });
        let journals: Vec<NodeEvent> = journals.map(NodeEvent::Journal).collect();
        let boot = NodeEvent::Boot {
            disk,
            cell: host.store.cell,
            life: host.store.life,
            boot: host.life,
            domain: host.domain.clone(),
            address: format!("node{disk}"),
            door: None,
        };
        let life = host.life;
        journals.into_iter().for_each(|journal| self.soon(Happening::Node(disk, life, journal)));
        self.soon(Happening::Node(disk, life, boot));
        self.soon(Happening::Node(disk, life, NodeEvent::DaemonReached));
    }

    pub(super) fn kill_node(&mut self, disk: DiskId) {
        let peer = self.node_peer(disk);
        let host = self.nodes.get_mut(&disk).unwrap();
        host.node = None;
        host.store.stages.clear();
        self.tell(CoordinatorEvent::PeerGone { peer });
        let cut: Vec<(u64, CallId)> =
            self.calls.iter().filter(|(_, callee)| **callee == disk).map(|(call, _)| *call).collect();
        for key in cut {
            self.calls.remove(&key);
            self.soon(Happening::Daemon(key.0, CoordinatorEvent::Call { call: key.1, result: Err(CallError::Lost) }));
        }
    }

    /// The node's store takes nothing any more; its process goes on.
    pub(super) fn break_node(&mut self, disk: DiskId) {
        let reason = "cannot force a journal to the disk: Input/output error".into();
        self.soon(Happening::Node(disk, self.nodes[&disk].life, NodeEvent::Broken { reason }));
    }

    /// The node measures that nothing is free, and says so.
    pub(super) fn fill_disk(&mut self, disk: DiskId) {
        let life = self.nodes[&disk].life;
        self.soon(Happening::Node(disk, life, NodeEvent::Room { free_bytes: 0, total_bytes: 1 << 40 }));
        self.reconnect(disk);
    }

    /// A node gives its connection to the daemon up and makes a new one.
    pub(super) fn reconnect(&mut self, disk: DiskId) {
        let peer = self.node_peer(disk);
        self.tell(CoordinatorEvent::PeerGone { peer });
        let life = self.nodes[&disk].life;
        self.soon(Happening::Node(disk, life, NodeEvent::DaemonReached));
    }

    /// Ends a node so that nobody is told: its connections stay, and are silent.
    pub(super) fn cut_power(&mut self, disk: DiskId) {
        self.nodes.get_mut(&disk).unwrap().node = None;
    }

    // Time.

    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let limit = self.now + PATIENCE;
        while !done(self) {
            assert!(self.step(limit), "{what}: not within {} ms\n{:#?}", PATIENCE.0, self.why());
        }
    }

    pub(super) fn pass(&mut self, span: Millis) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    fn why(&self) -> String {
        let status = self.coordinator.as_ref().map(|coordinator| serde_json::to_string_pretty(&coordinator.status()));
        let notes: Vec<&str> = self.notes.iter().rev().take(12).map(|note| note.text.as_str()).collect();
        format!("{}\nlast notes {notes:#?}", status.unwrap().unwrap())
    }

    fn step(&mut self, limit: Time) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= limit) else { return false };
        let ((at, _), happening) = entry.remove_entry();
        self.now = at;
        match happening {
            Happening::Daemon(..) if at < self.paused_until => self.later(self.paused_until, happening),
            Happening::Daemon(life, event) if life == self.life => {
                let Some(coordinator) = &mut self.coordinator else { return true };
                coordinator.handle(at, event);
                while let Some(effect) = self.coordinator.as_mut().and_then(Coordinator::poll_effect) {
                    self.perform(effect);
                }
            }
            Happening::Node(disk, life, event) => {
                let host = self.nodes.get_mut(&disk).unwrap();
                let Some(node) = host.node.as_mut().filter(|_| host.life == life) else { return true };
                node.handle(at, event);
                while let Some(effect) = self.nodes.get_mut(&disk).unwrap().node.as_mut().unwrap().poll_effect() {
                    self.perform_for_node(disk, effect);
                }
            }
            Happening::Daemon(..) => {}
        }
        true
    }

    // What the coordinator wants.

    fn perform(&mut self, effect: CoordinatorEffect) {
        match effect {
            CoordinatorEffect::Get { op, keys } => {
                let rows = Ok(keys.iter().map(|key| self.catalog.get(key)).collect());
                self.tell(CoordinatorEvent::Rows { op, rows });
            }
            CoordinatorEffect::Range { op, prefix, after, limit } => {
                let rows = Ok(self.catalog.range(&prefix, after.as_deref(), limit));
                let listed = CoordinatorEvent::Range { op, rows };
                match self.range_takes {
                    Some(takes) => self.later(self.now + takes, Happening::Daemon(self.life, listed)),
                    None => self.tell(listed),
                }
            }
            CoordinatorEffect::Txn { op, txn } => {
                let result = self.transact(&txn);
                self.tell(CoordinatorEvent::Txn { op, result });
            }
            CoordinatorEffect::Reply { peer: CLIENT | OTHER, id, reply, body } => {
                self.replies.insert(id.0, (reply, body));
            }
            CoordinatorEffect::Reply { peer, id, reply, .. } => {
                let disk = DiskId(u128::from(peer.0 % 1_000));
                if self.nodes.contains_key(&disk) && self.node_peer(disk) == peer {
                    let life = self.nodes[&disk].life;
                    self.soon(Happening::Node(disk, life, NodeEvent::Daemon { number: id.0, result: Ok(reply) }));
                }
            }
            CoordinatorEffect::Call { call, to, deadline, .. } if self.deaf.contains(&to.disk) => {
                let ended = CoordinatorEvent::Call { call, result: Err(CallError::Timeout) };
                self.later(self.now + deadline, Happening::Daemon(self.life, ended));
            }
            CoordinatorEffect::Call { call, to, request, body, .. } => self.call(call, to.disk, request, body),
            CoordinatorEffect::Repair { job, spec } => self.repairs.push_back((job, *spec)),
            CoordinatorEffect::Audit { job, spec } => self.audits.push_back((job, *spec)),
            CoordinatorEffect::Note(note) => self.notes.push(note),
            CoordinatorEffect::WakeAt(at) => {
                self.later(at.max(self.now + LATENCY), Happening::Daemon(self.life, CoordinatorEvent::Tick));
            }
            CoordinatorEffect::Stop { reason } => self.stopped = Some(reason),
        }
    }

    fn transact(&mut self, txn: &Txn) -> TxnResult {
        let fates = [Fate::Heard, Fate::SilentlyDone, Fate::SilentlyNot, Fate::RefusedThoughDone];
        let fate = self.fates.as_mut().and_then(|dice| dice.pick(&fates).copied()).unwrap_or(Fate::Heard);
        let is_lease = |write: &Write| matches!(write, Write::Put { key, .. } if *key == key::lease());
        if fate == Fate::SilentlyNot || (self.loses_leases && txn.writes.iter().any(is_lease)) {
            return TxnResult::Unknown;
        }
        match (self.catalog.apply(txn), fate) {
            (TxnResult::Done { .. }, Fate::SilentlyDone) => TxnResult::Unknown,
            (TxnResult::Done { .. }, Fate::RefusedThoughDone) => TxnResult::Refused,
            (result, _) => result,
        }
    }

    fn call(&mut self, call: CallId, disk: DiskId, request: NodeRequest, body: Body) {
        let alive = self.nodes.get(&disk).is_some_and(|host| host.node.is_some());
        if !alive {
            return self.tell(CoordinatorEvent::Call { call, result: Err(CallError::Unreachable) });
        }
        self.calls.insert((self.life, call), disk);
        let (life, id) = (self.nodes[&disk].life, RequestId(call.0));
        self.soon(Happening::Node(disk, life, NodeEvent::Request { peer: DAEMON, id, request, body }));
    }

    // What nodes want.

    fn perform_for_node(&mut self, disk: DiskId, effect: NodeEffect) {
        let life = self.nodes[&disk].life;
        match effect {
            NodeEffect::Reply { peer, id, reply, body } if peer == DAEMON => {
                let call = CallId(id.0);
                if self.calls.remove(&(self.life, call)).is_some() {
                    let body = body.into_bytes().unwrap();
                    self.tell(CoordinatorEvent::Call { call, result: Ok((reply, body)) });
                }
            }
            NodeEffect::Reply { id, reply, body, .. } => {
                self.node_replies.insert(id.0, (reply, body.into_bytes().unwrap()));
            }
            NodeEffect::Store { op, call } => {
                let result = self.nodes.get_mut(&disk).unwrap().store.perform(call);
                self.soon(Happening::Node(disk, life, NodeEvent::Stored { op, result }));
            }
            NodeEffect::Forward { op, .. } => {
                let result = Err(CallError::Unreachable);
                self.soon(Happening::Node(disk, life, NodeEvent::Forwarded { op, result }));
            }
            NodeEffect::AskDaemon { number, request } => {
                let (peer, id) = (self.node_peer(disk), RequestId(number));
                self.tell(CoordinatorEvent::Request { peer, id, request, body: Body::new() });
            }
            NodeEffect::SetCell { op, cell, life: of_disk } => {
                let store = &mut self.nodes.get_mut(&disk).unwrap().store;
                (store.cell, store.life) = (Some(cell), Some(of_disk));
                self.soon(Happening::Node(disk, life, NodeEvent::Stored { op, result: Ok(StoreOk::Done) }));
            }
            NodeEffect::WakeAt(at) => {
                self.later(at.max(self.now + LATENCY), Happening::Node(disk, life, NodeEvent::Tick))
            }
            NodeEffect::Say(_) => {}
        }
    }

    // A client by hand.

    pub(super) fn send(&mut self, request: DaemonRequest, body: Body) -> u64 {
        self.send_over(CLIENT, request, body)
    }

    pub(super) fn send_over(&mut self, peer: PeerId, request: DaemonRequest, body: Body) -> u64 {
        self.sequence += 1;
        let id = self.sequence;
        self.tell(CoordinatorEvent::Request { peer, id: RequestId(id), request, body });
        id
    }

    pub(super) fn ask_over(&mut self, peer: PeerId, request: DaemonRequest) -> DaemonReply {
        let id = self.send_over(peer, request, Body::new());
        self.answer(id).0
    }

    pub(super) fn answer(&mut self, id: u64) -> (DaemonReply, Body) {
        self.until("an answer of the daemon", |world| world.replies.contains_key(&id));
        self.replies.remove(&id).unwrap()
    }

    pub(super) fn ask(&mut self, request: DaemonRequest) -> DaemonReply {
        let id = self.send(request, Body::new());
        self.answer(id).0
    }

    pub(super) fn report(&mut self, request: DaemonRequest) -> serde_json::Value {
        let id = self.send(request, Body::new());
        let (reply, body) = self.answer(id);
        assert_eq!(reply, DaemonReply::Report);
        serde_json::from_slice(&body).unwrap()
    }

    pub(super) fn ask_node(&mut self, disk: DiskId, request: NodeRequest, body: Body) -> NodeReply {
        self.sequence += 1;
        let (number, id) = (self.sequence, RequestId(self.sequence));
        let life = self.nodes[&disk].life;
        self.soon(Happening::Node(disk, life, NodeEvent::Request { peer: CLIENT, id, request, body }));
        self.until("an answer of a node", |world| world.node_replies.contains_key(&number));
        self.node_replies.remove(&number).unwrap().0
    }

    pub(super) fn begin(&mut self, stream: StreamKey) -> Vec<ExtentEntry> {
        match self.ask(DaemonRequest::BeginPut { stream }) {
            DaemonReply::PutBegun { committed, whole: false, .. } => committed,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn allocate(&mut self, stream: StreamKey, ordinal: u64, bytes: u64) -> Grant {
        let limit = self.now + PATIENCE;
        loop {
            match self.ask(DaemonRequest::Allocate { stream, ordinal, bytes }) {
                DaemonReply::Allocated(grant) => return grant,
                DaemonReply::Refused(refusal) if self.now < limit => {
                    let _ = refusal;
                    self.pass(Millis(100));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Encodes, stages and seals; the record.
    pub(super) fn stage(&mut self, grant: &Grant, stream: StreamKey, entry: ExtentEntry, data: &[u8]) -> Body {
        let spec = CodeSpec::from_descriptor(&grant.code).unwrap();
        let code = Code::new(&spec).unwrap();
        let length = Geometry::new(data.len() as u64, code.k()).shard_bytes() as usize;
        let mut padded = data.to_vec();
        padded.resize(length * code.k(), 0);
        let shards: Vec<Vec<u8>> = (0..code.k()).map(|at| padded[at * length..(at + 1) * length].to_vec()).collect();
        let mut parity = vec![vec![0; length]; code.m()];
        let inputs: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
        code.encode(&inputs, &mut parity.iter_mut().map(|shard| &mut shard[..]).collect::<Vec<_>>()).unwrap();
        let all: Vec<Vec<u8>> = shards.into_iter().chain(parity).collect();
        let mut fragments = Vec::new();
        for (index, shard) in (0u16..).zip(&all) {
            let identity = BirthIdentity {
                cell: grant.cell.id(),
                extent: grant.extent.id(),
                generation: 1,
                index: ShardIndex::new(index),
                payload_bytes: length as u64,
            };
            fragments.push(FragmentEntry { identity, root: Hash::new(root_of(&identity, shard)) });
            if let Some(place) = &grant.places[usize::from(index)] {
                let key = StageKey { attempt: grant.attempt, extent: grant.extent, index };
                let open = NodeRequest::Stage {
                    token: grant.token,
                    cell: grant.cell,
                    key,
                    generation: 1,
                    code: grant.code,
                    extent_bytes: data.len() as u64,
                };
                assert_eq!(
                    self.stage_fragment(place.disk, open, key, shard),
                    fragments[usize::from(index)].root.as_bytes()
                );
            }
        }
        self.shards.insert(grant.extent, all);
        let record = ExtentRecord {
            cell: grant.cell.id(),
            extent: grant.extent.id(),
            revision: 1,
            code: spec,
            extent_bytes: data.len() as u64,
            extent_hash: Hash::of(data),
            stream: stream.id(),
            ordinal: entry.ordinal,
            offset: entry.offset,
            stream_bytes: None,
            content: Content::File,
            name: b"test".to_vec(),
            fragments,
            extents: Vec::new(),
        };
        record.to_bytes().unwrap().into()
    }

    pub(super) fn stage_fragment(
        &mut self,
        disk: DiskId,
        open: NodeRequest,
        key: StageKey,
        shard: &[u8],
    ) -> &'static [u8; 32] {
        assert_eq!(self.ask_node(disk, open, Body::new()), NodeReply::StageOpen);
        if !shard.is_empty() {
            let data = NodeRequest::StageData { key, offset: 0 };
            assert_eq!(self.ask_node(disk, data, Body::copy_from_slice(shard)), NodeReply::StageTaken);
        }
        match self.ask_node(disk, NodeRequest::StageSeal { key }, Body::new()) {
            NodeReply::StageSealed { root } => Box::leak(Box::new(root)),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn commit(
        &mut self,
        grant: &Grant,
        stream: StreamKey,
        entry: ExtentEntry,
        end: Option<EndOfStream>,
        record: Body,
    ) -> DaemonReply {
        let request = DaemonRequest::CommitExtent { stream, entry, attempt: grant.attempt, end };
        let id = self.send(request, record);
        self.answer(id).0
    }

    /// One extent from leave to commit.
    pub(super) fn put_extent(
        &mut self,
        stream: StreamKey,
        ordinal: u64,
        offset: u64,
        data: &[u8],
        end: Option<EndOfStream>,
    ) -> (ExtentEntry, DaemonReply) {
        let grant = self.allocate(stream, ordinal, data.len() as u64);
        let entry = ExtentEntry { ordinal, extent: grant.extent, offset, bytes: data.len() as u64 };
        let record = self.stage(&grant, stream, entry, data);
        let reply = self.commit(&grant, stream, entry, end, record);
        (entry, reply)
    }

    /// A whole put of one extent under one name.
    pub(super) fn put(&mut self, stream: StreamKey, name: &str, data: &[u8]) -> ExtentEntry {
        let bytes = data.len() as u64;
        self.begin(stream);
        let names = vec![NameEntry { name: name.into(), offset: 0, bytes }];
        assert_eq!(self.ask(DaemonRequest::PutNames { stream, first: 0, names }), DaemonReply::NamesTaken);
        let end = EndOfStream { extents: 1, bytes, names: 1 };
        let (entry, reply) = self.put_extent(stream, 0, 0, data, Some(end));
        assert_eq!(reply, DaemonReply::Committed { degraded: false });
        entry
    }

    /// Does the oldest repair asked for, as a repair job would.
    pub(super) fn repair_one(&mut self) -> RepairSpec {
        self.until("a repair is wanted", |world| !world.repairs.is_empty());
        let (job, spec) = self.repairs.pop_front().unwrap();
        let shards = self.shards[&spec.extent].clone();
        let record = self.nodes.values().find_map(|host| {
            let found = host.store.files.iter().find(|(fragment, _)| fragment.extent == spec.extent);
            found.map(|(_, file)| file.record.clone())
        });
        let record = record.unwrap();
        let parsed = ExtentRecord::parse(&record).unwrap();
        let mut outcome = RepairOutcome::default();
        for (index, place) in &spec.targets {
            let key = StageKey { attempt: spec.attempt, extent: spec.extent, index: *index };
            let open = NodeRequest::Stage {
                token: spec.authority.token,
                cell: CellKey(parsed.cell.0),
                key,
                generation: 1,
                code: parsed.code.to_descriptor(),
                extent_bytes: parsed.extent_bytes,
            };
            self.stage_fragment(place.disk, open, key, &shards[usize::from(*index)]);
            let publish = NodeRequest::Publish { authority: Box::new(spec.authority.clone()), key };
            match self.ask_node(place.disk, publish, record.clone()) {
                NodeReply::Published => outcome.published.push(*index),
                other => {
                    outcome.failed.insert(*index, format!("{other:?}"));
                }
            }
        }
        outcome.rebuilt_bytes = outcome.published.len() as u64 * shards[0].len() as u64;
        outcome.written_bytes = outcome.rebuilt_bytes;
        let set = |indexes: &mut dyn Iterator<Item = u16>| crate::risk::shard_set(indexes);
        let (targets, sources) = (set(&mut spec.targets.keys().copied()), set(&mut spec.sources.keys().copied()));
        let code = Code::new(&parsed.code).unwrap();
        let reads = crate::repair::reads_of(&code, &targets, &sources).map_or(0, |reads| reads.len());
        outcome.read_bytes = reads as u64 * shards[0].len() as u64;
        self.tell(CoordinatorEvent::RepairDone { job, outcome });
        spec
    }

    /// Does whatever repairs are wanted until every fragment is where it belongs.
    pub(super) fn settle(&mut self) {
        let limit = self.now + PATIENCE;
        while !self.coordinator().idle() {
            assert!(self.now < limit, "not at rest\n{}", self.why());
            if self.repairs.is_empty() {
                self.pass(Millis(20));
            } else {
                self.repair_one();
            }
        }
    }

    pub(super) fn kinds(&self) -> Vec<&'static str> {
        self.notes.iter().map(|note| note.kind).collect()
    }

    /// Rows of the catalog whose keys begin so.
    pub(super) fn rows(&self, prefix: &[u8]) -> usize {
        self.catalog.range(prefix, None, usize::MAX).len()
    }
}

pub(super) fn root_of(identity: &BirthIdentity, payload: &[u8]) -> [u8; 32] {
    let mut hasher = TreeHasher::new(payload.len() as u64);
    hasher.add(0, payload).unwrap();
    *identity.root(&hasher.finish().unwrap()).as_bytes()
}

impl Store {
    fn perform(&mut self, call: StoreCall) -> Result<StoreOk, StoreError> {
        let none = || StoreError::Invalid("no such stage".into());
        match call {
            StoreCall::OpenStage { key, header } => {
                let bytes = header.identity.payload_bytes as usize;
                let payload = vec![0; bytes];
                self.stages.insert(key, Staged { header: *header, payload, root: None, record: Body::new() });
            }
            StoreCall::WriteStage { key, offset, body } => {
                let stage = self.stages.get_mut(&key).ok_or_else(none)?;
                stage.payload[offset as usize..offset as usize + body.len()].copy_from_slice(&body);
            }
            StoreCall::SealStage { key } => {
                let stage = self.stages.get_mut(&key).ok_or_else(none)?;
                let root = root_of(&stage.header.identity, &stage.payload);
                stage.root = Some(root);
                return Ok(StoreOk::Root(root));
            }
            StoreCall::FinishStage { key, record } => self.stages.get_mut(&key).ok_or_else(none)?.record = record,
            StoreCall::PublishStage { key } => {
                let generation = self.stages.get(&key).ok_or_else(none)?.header.identity.generation;
                let fragment = FragmentKey { extent: key.extent, generation, index: key.index };
                if self.files.contains_key(&fragment) {
                    return Ok(StoreOk::Published(false));
                }
                let Staged { root, record, .. } = self.stages.remove(&key).ok_or_else(none)?;
                self.files.insert(fragment, File { root: root.ok_or_else(none)?, record, class: "healthy" });
                return Ok(StoreOk::Published(true));
            }
            StoreCall::DropStage { key } => drop(self.stages.remove(&key)),
            StoreCall::ReadRecord { fragment, .. } => {
                return self
                    .files
                    .get(&fragment)
                    .map(|file| StoreOk::Record(file.record.clone()))
                    .ok_or(StoreError::NotFound);
            }
            StoreCall::Check { fragment, .. } => {
                let file = self.files.get(&fragment).ok_or(StoreError::NotFound)?;
                return Ok(StoreOk::Checked { class: file.class.into(), root: Some(file.root), bytes: 0 });
            }
            StoreCall::Quarantine { fragment, .. } => drop(self.files.remove(&fragment)),
            StoreCall::ListFolder { pg } => {
                let of_pg = self.files.keys().filter(|fragment| fragment.extent.pg() == pg);
                return Ok(StoreOk::Folder(of_pg.copied().collect()));
            }
            StoreCall::AppendJournal { pg, bytes } => self.journals.entry(pg).or_default().extend(bytes),
            StoreCall::ReplaceJournal { pg, bytes } => drop(self.journals.insert(pg, bytes)),
            StoreCall::Read { .. } | StoreCall::Combine { .. } => {
                return Err(StoreError::Io("not read in these tests".into()));
            }
            StoreCall::KeepStage { .. } | StoreCall::LeaveStage { .. } | StoreCall::DropKept { .. } => {
                return Err(StoreError::Io("repairs here open plain stages".into()));
            }
            StoreCall::Touch
            | StoreCall::SyncFolder { .. }
            | StoreCall::UnlinkQuarantined { .. }
            | StoreCall::IndexPut { .. }
            | StoreCall::IndexRemove { .. } => {}
        }
        Ok(StoreOk::Done)
    }
}
