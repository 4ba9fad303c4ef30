//! Hosts of nodes: the machine on its fake disk.

use super::daemon::of_node;
use super::disk::FakeDisk;
use super::lease::is_elsewhere;
use super::message::{Answer, Answered, Call, Question};
use super::mode::Broken;
use super::mutation::Mutation;
use super::net::{Endpoint, Site};
use super::queue::Instant;
use super::run::EFFECTS_MAX;
use super::world::{Caller, Event, World};
use repair_core::catalog::PgRow;
use repair_core::id::{AttemptId, DiskId, ExtentKey, PgId, Token};
use repair_core::invariant::{Invariant, Violation};
use repair_core::node::{
    Body, Node, NodeConfig, NodeEffect, NodeEvent, OpId, PeerId, RequestId, StoreCall, StoreError, StoreOk,
};
use repair_core::rng::Dice;
use repair_core::time::{Millis, Time};
use repair_core::wire::node::{FragmentKey, Head, NodeReply, NodeRequest, Place, StageKey};
use repair_core::wire::{CallError, DaemonReply};
use std::collections::{BTreeMap, BTreeSet};

/// How long a node waits before it tries to reach the daemon again.
const RELINK_MICROS: u64 = 500_000;
/// How long it waits for the daemon's answer.
const DAEMON_DEADLINE_MS: u64 = 3_000;
const DISK_BYTES: u64 = 1 << 40;

/// A change that a member said to have stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Promise {
    /// Of which group.
    pub pg: PgId,
    /// The attempt.
    pub attempt: AttemptId,
}

/// What an owner asks of a node.
#[derive(Debug)]
struct Asked {
    row: PgRow,
    /// The attempt it asks to prepare.
    prepares: Option<AttemptId>,
}

#[derive(Debug)]
enum Work {
    Store(StoreCall),
    SetCell(repair_core::id::CellKey, repair_core::lineage::Life),
}

/// A node: its disk, and its process where one runs.
pub struct NodeHost {
    /// Its disk.
    pub disk: FakeDisk,
    /// The machine; of a node that is down, what a process that starts would make of the disk.
    pub machine: Node,
    running: Option<u64>,
    lives: u64,
    wake: u64,
    work: BTreeMap<OpId, Work>,
    /// The connection to the daemon.
    link: Option<(usize, Endpoint)>,
    /// Where it looks for the daemon in charge.
    pub trusts: usize,
    /// Its connections to other nodes.
    peers: Option<Endpoint>,
    /// Prepared answers that the owner may build on.
    pub promises: BTreeSet<Promise>,
    /// Highest token it answered under, by group.
    pub tokens: BTreeMap<PgId, Token>,
    /// Requests under way that an owner makes.
    asked: BTreeMap<RequestId, Asked>,
    lossy: BTreeSet<StageKey>,
    /// Groups whose owner told this disk, not in their row then, to put all of theirs aside.
    pub expelled: BTreeSet<PgId>,
    /// Fragments hurt by faults and not made again.
    pub injured: BTreeSet<FragmentKey>,
    /// Journals hurt by faults, until the member has come to a row again.
    pub injured_journals: BTreeSet<PgId>,
    /// Store operations that fail, in a thousand, while a fault lasts.
    pub store_errors_per_mille: u64,
    /// Syncs that fail, in a thousand, while a fault lasts.
    pub sync_errors_per_mille: u64,
    /// Whether new stages find no room.
    pub is_full: bool,
    /// How many times longer the disk takes.
    pub slowness: u64,
    dice: Dice,
}

/// Where node number `number` listens.
pub fn address(number: usize) -> String {
    format!("n{number}:1")
}

/// The node that listens there.
pub fn at(address: &str) -> Option<usize> {
    address.strip_prefix('n')?.strip_suffix(":1")?.parse().ok()
}

impl NodeHost {
    /// A node that does not run yet.
    pub fn new(disk: FakeDisk, dice: Dice) -> Self {
        Self {
            disk,
            machine: Node::new(NodeConfig::default()),
            running: None,
            lives: 0,
            wake: 0,
            work: BTreeMap::new(),
            link: None,
            trusts: 0,
            peers: None,
            promises: BTreeSet::new(),
            tokens: BTreeMap::new(),
            asked: BTreeMap::new(),
            lossy: BTreeSet::new(),
            expelled: BTreeSet::new(),
            injured: BTreeSet::new(),
            injured_journals: BTreeSet::new(),
            store_errors_per_mille: 0,
            sync_errors_per_mille: 0,
            is_full: false,
            slowness: 1,
            dice,
        }
    }

    /// Its life, if it runs.
    pub fn life(&self) -> Option<u64> {
        self.running
    }

    /// What a start would make of the disk, by its journals.
    pub fn reread(&mut self, now: Time, domain: String, address: String) {
        for journal in self.disk.journals() {
            self.machine.handle(now, NodeEvent::Journal(journal));
        }
        for fragment in self.disk.kept() {
            self.machine.handle(now, NodeEvent::Kept(fragment));
        }
        let (disk, cell, life) = (self.disk.id, self.disk.cell, self.disk.life);
        self.machine.handle(now, NodeEvent::Boot { disk, cell, life, boot: 0, domain, address, door: None });
        while self.machine.poll_effect().is_some() {}
    }

    /// Whether a stage was finished on a disk that lost a page of it.
    pub fn was_lossy(&mut self, key: &StageKey) -> bool {
        self.lossy.remove(key)
    }

    /// How long an operation takes, in microseconds.
    fn takes(&mut self, call: &StoreCall) -> u64 {
        let usual = match call {
            StoreCall::FinishStage { .. }
            | StoreCall::LeaveStage { .. }
            | StoreCall::SyncFolder { .. }
            | StoreCall::AppendJournal { .. }
            | StoreCall::ReplaceJournal { .. }
            | StoreCall::Quarantine { .. } => 2_000,
            _ => 300,
        };
        (usual / 2 + self.dice.below(usual)) * self.slowness
    }

    /// Whether two operations of one journal or one stage are under way at once.
    fn clash(&self, call: &StoreCall) -> bool {
        // Of a kept stage, those that open it, let go of it or remove it, whatever its key.
        let kept = |call: &StoreCall| match call {
            StoreCall::KeepStage { key, .. } | StoreCall::LeaveStage { key } => Some((key.extent, key.index)),
            StoreCall::DropKept { fragment } => Some((fragment.extent, fragment.index)),
            _ => None,
        };
        let same_kept = |other: &StoreCall| kept(call).is_some() && kept(call) == kept(other);
        let subject = |call: &StoreCall| match call {
            StoreCall::AppendJournal { pg, .. } | StoreCall::ReplaceJournal { pg, .. } => Some((Some(*pg), None)),
            StoreCall::OpenStage { key, .. }
            | StoreCall::KeepStage { key, .. }
            | StoreCall::LeaveStage { key }
            | StoreCall::WriteStage { key, .. }
            | StoreCall::SealStage { key }
            | StoreCall::FinishStage { key, .. }
            | StoreCall::PublishStage { key }
            | StoreCall::DropStage { key } => Some((None, Some(*key))),
            _ => None,
        };
        let this = subject(call);
        let same = |other: &StoreCall| this.is_some() && subject(other) == this || same_kept(other);
        self.work.values().any(|work| matches!(work, Work::Store(other) if same(other)))
    }

    fn injected(&mut self, call: &StoreCall) -> Option<StoreError> {
        if self.is_full && matches!(call, StoreCall::OpenStage { .. } | StoreCall::KeepStage { .. }) {
            return Some(StoreError::NoSpace("simulated".into()));
        }
        let can_fail = matches!(
            call,
            StoreCall::OpenStage { .. }
                | StoreCall::KeepStage { .. }
                | StoreCall::LeaveStage { .. }
                | StoreCall::DropKept { .. }
                | StoreCall::WriteStage { .. }
                | StoreCall::FinishStage { .. }
                | StoreCall::PublishStage { .. }
                | StoreCall::SyncFolder { .. }
                | StoreCall::AppendJournal { .. }
                | StoreCall::ReplaceJournal { .. }
                | StoreCall::Read { .. }
                | StoreCall::Combine { .. }
                | StoreCall::ReadRecord { .. }
                | StoreCall::ListFolder { .. }
                | StoreCall::Quarantine { .. }
        );
        let syncs = matches!(
            call,
            StoreCall::FinishStage { .. }
                | StoreCall::LeaveStage { .. }
                | StoreCall::SyncFolder { .. }
                | StoreCall::AppendJournal { .. }
                | StoreCall::ReplaceJournal { .. }
        );
        let fails = can_fail && self.dice.below(1000) < self.store_errors_per_mille;
        let fails = fails || (syncs && self.dice.below(1000) < self.sync_errors_per_mille);
        fails.then(|| StoreError::Io("simulated".into()))
    }
}

impl World {
    fn domain(&self, node: usize) -> String {
        format!("r/z/rack{}/node{node}", node % self.profile.racks)
    }

    /// A node's process starts.
    pub fn start_node(&mut self, node: usize) {
        let (now, domain) = (self.queue.now(), self.domain(node));
        let config = self.profile.node;
        let host = &mut self.nodes[node];
        if host.running.is_some() || self.broken.get(&node) == Some(&Broken::Off) {
            return;
        }
        host.lives += 1;
        host.running = Some(host.lives);
        let life = host.lives;
        host.machine = Node::new(config);
        let boot = NodeEvent::Boot {
            disk: host.disk.id,
            cell: host.disk.cell,
            life: host.disk.life,
            boot: host.dice.bits(),
            domain,
            address: address(node),
            door: None,
        };
        let (journals, kept) = (host.disk.journals(), host.disk.kept());
        self.trace.line(now, format_args!("node {node} starts, life {life}, disk {}", host.disk.id));
        journals.into_iter().for_each(|journal| self.node_event(node, NodeEvent::Journal(journal)));
        kept.into_iter().for_each(|fragment| self.node_event(node, NodeEvent::Kept(fragment)));
        self.node_event(node, boot);
        self.node_event(node, NodeEvent::Room { free_bytes: DISK_BYTES / 2, total_bytes: DISK_BYTES });
        self.queue.after(1_000, Event::NodeLink { node, life });
    }

    /// A node's process ends at once; with `power`, its machine too.
    pub fn stop_node(&mut self, node: usize, power: bool) {
        let now = self.queue.now();
        let domain = self.domain(node);
        let config = self.profile.node;
        let host = &mut self.nodes[node];
        if host.running.take().is_none() {
            return;
        }
        self.trace.line(now, format_args!("node {node} stops, power {power}"));
        for (_, work) in std::mem::take(&mut host.work) {
            if let Work::Store(call) = work {
                host.disk.crash_in(&call);
            }
        }
        host.disk.crash(power);
        let (link, peers) = (host.link.take(), host.peers.take());
        host.asked.clear();
        // What a start would make of the disk, for the checks.
        host.machine = Node::new(config);
        host.reread(now.time(), domain, address(node));
        for endpoint in link.map(|(_, endpoint)| endpoint).into_iter().chain(peers) {
            self.close(endpoint, Site::Node(node));
        }
        self.silence(Site::Node(node), !power);
        self.check_restart(node);
    }

    /// A new, empty disk under the same name.
    pub fn replace_disk(&mut self, node: usize, disk: FakeDisk) {
        let host = &mut self.nodes[node];
        host.disk = disk;
        host.machine = Node::new(NodeConfig::default());
        host.promises.clear();
        host.tokens.clear();
        host.injured.clear();
        host.injured_journals.clear();
    }

    /// A node tries to reach the daemon.
    pub fn link_node(&mut self, node: usize, life: u64) {
        let host = &self.nodes[node];
        if host.running != Some(life) || host.link.is_some() {
            return;
        }
        let (here, there) = (Site::Node(node), self.daemon_at(host.trusts));
        let reachable = match there {
            Site::Daemon(daemon) => Some(daemon).filter(|daemon| {
                let runs = self.daemons.get(*daemon).is_some_and(super::daemon::DaemonHost::is_running);
                runs && !self.net.is_cut(here, there) && !self.net.is_cut(there, here)
            }),
            _ => None,
        };
        let Some(daemon) = reachable else {
            self.nodes[node].trusts = self.next_slot(self.nodes[node].trusts, there);
            self.queue.after(RELINK_MICROS, Event::NodeLink { node, life });
            return;
        };
        let endpoint = Endpoint(self.number());
        self.nodes[node].link = Some((daemon, endpoint));
        self.node_event(node, NodeEvent::DaemonReached);
    }

    fn unlink_node(&mut self, node: usize) {
        let Some(life) = self.nodes[node].running else { return };
        if let Some((_, endpoint)) = self.nodes[node].link.take() {
            self.close(endpoint, Site::Node(node));
        }
        self.queue.after(RELINK_MICROS, Event::NodeLink { node, life });
    }

    /// Something happens to a node.
    pub fn node_event(&mut self, node: usize, event: NodeEvent) {
        let now = self.queue.now();
        self.nodes[node].machine.handle(now.time(), event);
        for _ in 0..EFFECTS_MAX {
            let Some(effect) = self.nodes[node].machine.poll_effect() else { return };
            self.perform(node, effect);
        }
        self.judge(Err(Violation::new(Invariant::Recovers, format!("node {node} wants things without end"))));
    }

    fn perform(&mut self, node: usize, effect: NodeEffect) {
        let now = self.queue.now();
        let Some(life) = self.nodes[node].running else { return };
        match effect {
            NodeEffect::Reply { id, reply, body, .. } => {
                let asked = self.nodes[node].asked.remove(&id);
                let reply = match &asked {
                    Some(asked) => self.mutated(asked, reply),
                    None => reply,
                };
                self.check_reply(node, asked.map(|asked| asked.row.pg), &reply);
                // Our disks give bytes.
                self.reply(id, Answer::Node(reply), body.into_bytes().unwrap_or_default());
            }
            NodeEffect::Store { op, call } => {
                let clash = self.nodes[node].clash(&call);
                self.trace.line(now, format_args!("node {node} wants {}: {}", op.0, Call(&call)));
                if clash {
                    let what = format!("node {node}: {} beside another of the same", Call(&call));
                    self.judge(Err(Violation::new(Invariant::StoreOrder, what)));
                }
                let takes = self.nodes[node].takes(&call);
                self.nodes[node].work.insert(op, Work::Store(call));
                self.queue.after(takes, Event::Stored { node, life, op });
            }
            NodeEffect::SetCell { op, cell, life: of_disk } => {
                self.nodes[node].work.insert(op, Work::SetCell(cell, of_disk));
                self.queue.after(2_000, Event::Stored { node, life, op });
            }
            NodeEffect::Forward { op, to, request, deadline } => self.forward(node, life, op, &to, request, deadline),
            NodeEffect::AskDaemon { number, request } => {
                let caller = Caller::Node { node, life, number };
                match self.nodes[node].link {
                    Some((daemon, endpoint)) => {
                        let from = (Site::Node(node), endpoint);
                        let question = Question::Daemon(request);
                        self.ask(caller, from, Site::Daemon(daemon), question, Body::new(), DAEMON_DEADLINE_MS);
                    }
                    None => {
                        let endpoint = Endpoint(self.number());
                        let nowhere = Site::Daemon(usize::MAX);
                        let question = Question::Daemon(request);
                        self.ask(caller, (Site::Node(node), endpoint), nowhere, question, Body::new(), 1);
                    }
                }
            }
            NodeEffect::WakeAt(time) => {
                let host = &mut self.nodes[node];
                host.wake += 1;
                let wake = host.wake;
                self.queue.at(Instant::of(time), Event::NodeTick { node, life, wake });
            }
            NodeEffect::Say(_) => {}
        }
    }

    fn forward(&mut self, node: usize, life: u64, op: OpId, to: &Place, request: NodeRequest, deadline: Millis) {
        let endpoint = self.nodes[node].peers.unwrap_or_else(|| Endpoint(self.number()));
        self.nodes[node].peers = Some(endpoint);
        let from = (Site::Node(node), endpoint);
        self.call_node(Caller::Hop { node, life, op }, from, to, request, Body::new(), deadline);
    }

    /// A node answered another, or did not.
    pub fn hop_answer(&mut self, node: usize, life: u64, op: OpId, answered: Answered) {
        if self.nodes[node].running == Some(life) {
            self.node_event(node, NodeEvent::Forwarded { op, result: of_node(answered) });
        }
    }

    /// What a node says that is broken on purpose.
    fn mutated(&self, asked: &Asked, reply: NodeReply) -> NodeReply {
        match (self.mutation, reply, asked.prepares) {
            (Some(Mutation::BehindSaysLevel), NodeReply::Heard(head), _) => {
                let PgRow { count, sum, .. } = asked.row;
                NodeReply::Heard(Head { heard: asked.row.order(), count, sum, level: true, ..head })
            }
            (Some(Mutation::PrepareNotStored), NodeReply::Refused(_), Some(attempt)) => NodeReply::Prepared { attempt },
            (_, reply, _) => reply,
        }
    }

    /// A request came in.
    pub fn node_request(&mut self, node: usize, peer: PeerId, id: RequestId, request: NodeRequest, body: Body) {
        if let NodeRequest::Retire { authority } = &request
            && authority.row.index_held_or_joined(self.nodes[node].disk.id).is_none()
        {
            self.nodes[node].expelled.insert(authority.row.pg);
        }
        if let Some(asked) = Asked::of(&request) {
            self.nodes[node].asked.insert(id, asked);
        }
        self.node_event(node, NodeEvent::Request { peer, id, request, body });
    }

    /// A connection to a node ended.
    pub fn node_peer_gone(&mut self, node: usize, peer: PeerId) {
        if self.nodes[node].running.is_some() {
            self.node_event(node, NodeEvent::PeerGone { peer });
        }
    }

    /// A node's wish to wake.
    pub fn node_tick(&mut self, node: usize, life: u64, wake: u64) {
        let host = &self.nodes[node];
        if host.running == Some(life) && host.wake == wake {
            self.node_event(node, NodeEvent::Tick);
        }
    }

    /// The daemon answered a node, or did not.
    pub fn node_answer(&mut self, node: usize, life: u64, number: u64, answered: Answered) {
        if self.nodes[node].running != Some(life) {
            return;
        }
        let is_lost = match &answered {
            Ok((Answer::Daemon(reply), _)) => is_elsewhere(Ok(reply)),
            Ok((Answer::Node(_), _)) => false,
            Err(error) => is_elsewhere(Err(error)),
        };
        let result = answered.and_then(|(answer, _)| match answer {
            Answer::Daemon(reply) => Ok(reply),
            Answer::Node(_) => Err(CallError::Nonsense),
        });
        if let Ok(DaemonReply::Refused(refusal)) = &result {
            let now = self.queue.now();
            self.trace.line(now, format_args!("node {node} is refused: {refusal}"));
        }
        self.node_event(node, NodeEvent::Daemon { number, result });
        if is_lost && self.nodes[node].link.is_some() {
            self.unlink_node(node);
        }
    }

    /// A store operation ends: now it happens.
    pub fn stored(&mut self, node: usize, life: u64, op: OpId) {
        let host = &mut self.nodes[node];
        if host.running != Some(life) {
            return;
        }
        let Some(work) = host.work.remove(&op) else { return };
        let result = match work {
            Work::SetCell(cell, life) => {
                (host.disk.cell, host.disk.life) = (Some(cell), Some(life));
                Ok(StoreOk::Done)
            }
            Work::Store(call) => self.store(node, &call),
        };
        if let Err(error) = &result {
            let now = self.queue.now();
            self.trace.line(now, format_args!("node {node} op {} failed: {error}", op.0));
        }
        self.node_event(node, NodeEvent::Stored { op, result });
        self.check_node(node);
    }

    fn store(&mut self, node: usize, call: &StoreCall) -> Result<StoreOk, StoreError> {
        self.check_before_store(node, call);
        let host = &mut self.nodes[node];
        if let Some(error) = host.injected(call) {
            host.disk.fail(call);
            return Err(error);
        }
        let result = host.disk.perform(call);
        // What a kept stage forces to the disk on its way may be lost too.
        if let Some((lie, overwritten)) = host.disk.lies() {
            if let StoreCall::FinishStage { key, .. } | StoreCall::WriteStage { key, .. } = call {
                host.lossy.insert(*key);
            }
            host.injured.extend(overwritten);
            self.counts.lied(lie);
        }
        if result.is_ok() {
            self.counts.stored(call);
        }
        self.check_after_store(node, call, &result);
        result
    }

    /// The node that has a disk now.
    pub fn node_of(&self, disk: DiskId) -> Option<usize> {
        self.nodes.iter().position(|host| host.disk.id == disk)
    }

    /// Whether a disk holds a fragment as far as is known without reading it: named, durably, and not hurt by a fault.
    pub fn has_unhurt(&self, disk: DiskId, extent: ExtentKey, index: u16) -> bool {
        let fragment = FragmentKey { extent, generation: 1, index };
        self.node_of(disk).is_some_and(|node| {
            let host = &self.nodes[node];
            let named = host.disk.names().get(&fragment);
            named.is_some_and(|named| named.is_named_durably) && !host.injured.contains(&fragment)
        })
    }
}

impl Asked {
    fn of(request: &NodeRequest) -> Option<Self> {
        let prepares = match request {
            NodeRequest::Prepare { attempt, .. } => Some(*attempt),
            _ => None,
        };
        match request {
            NodeRequest::Fence { authority }
            | NodeRequest::Hear { authority }
            | NodeRequest::Prepare { authority, .. }
            | NodeRequest::Abort { authority, .. }
            | NodeRequest::Adopt { authority, .. }
            | NodeRequest::AdoptShaped { authority, .. } => Some(Self { row: authority.row.clone(), prepares }),
            _ => None,
        }
    }
}
