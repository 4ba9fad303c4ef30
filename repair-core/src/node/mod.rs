//! A storage node's member: what it stores, whom it obeys, and in which order it makes things durable.
//!
//! Per placement group a node keeps a *journal*, synced before every answer: its list, prepared changes, tombstones, abort
//! marks, the last row heard, the highest token. The journal is the truth; the index beside it is a cache of records. What lies
//! in the folder is summed apart, from a listing of the directory. One mutation of a placement group is in work at a time;
//! reads and stages go beside it.

mod combine;
mod coming;
pub mod effect;
mod faults;
mod finding;
mod group;
mod journal;
mod keep;
mod ledger;
mod link;
mod list;
mod listings;
mod mutation;
mod pace;
mod publish;
mod scrub;
mod serve;
mod stage;

pub use combine::add_share;
pub use effect::{
    Body, Hosted, JournalFile, NodeEffect, NodeEvent, Notice, OpId, Payload, PeerId, RequestId, StoreCall, StoreError,
    StoreOk,
};
pub use journal::{JournalSays, examine_journal};

use crate::catalog::PgRow;
use crate::id::{AttemptId, CellKey, DiskId, ExtentKey, PgId, RecordHash, Token};
use crate::lineage::Life;
use crate::shape::Former;
use crate::time::{Millis, Time};
use crate::wire::Refusal;
use crate::wire::node::{FragmentKey, NodeReply, NodeRequest, Prepared, StageKey};
use group::{Group, Kind, Mutation};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Settings of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Changes prepared for longer than this are asked about.
    pub ask_after: Millis,
    /// Fragments that may be on their way in at once.
    pub stages_max: usize,
    /// A pass over all fragments takes about this long; none: only on request.
    pub scrub_period: Option<Millis>,
    /// So many bytes of payload per second are read by passes at most, those that somebody asked for too; 0: no limit.
    pub scrub_bytes_per_second: u64,
    /// How often to beat, until the daemon says it.
    pub beat_every: Millis,
    /// A process begins a new life of its disk so often: a copy made before is told from the disk.
    pub life_every: Millis,
    /// Room that stages leave free: journals, deletes and quarantine need some.
    pub headroom_bytes: u64,
    /// Mutations of one placement group that may wait.
    pub queue_max: usize,
    /// How long what a disk held is kept in quarantine after it was replaced and the group was whole without it.
    pub quarantine_for: Millis,
    /// What the disk did before is forgiven: somebody has seen to it.
    pub trust_disk: bool,
    /// A journal longer than this, and four times as long as what it says, is written anew.
    pub journal_bytes_max: u64,
    /// How long what a repair staged is kept after it was last used, for the next one to go on with; 0: nothing is kept.
    pub staged_for: Millis,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            ask_after: Millis(10_000),
            stages_max: 256,
            scrub_period: Some(Millis(14 * 24 * 3_600_000)),
            scrub_bytes_per_second: 50_000_000,
            beat_every: Millis(500),
            // Two small writes by the node and two transactions by the daemon: an hour is nothing to either.
            life_every: Millis(3_600_000),
            headroom_bytes: 64 << 20,
            queue_max: 256,
            quarantine_for: Millis(24 * 3_600_000),
            trust_disk: false,
            journal_bytes_max: 64 << 10,
            // Repairs begin again within a minute of what cut them off. An hour is time to start a host again by hand.
            staged_for: Millis(3_600_000),
        }
    }
}

/// Who asked what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asker {
    peer: PeerId,
    id: RequestId,
}

/// What the process said of itself at the start.
#[derive(Clone, Debug)]
struct Host {
    disk: DiskId,
    cell: Option<CellKey>,
    /// The life beside the label.
    life: Option<Life>,
    boot: u64,
    domain: String,
    address: String,
    door: Option<String>,
}

/// What a store operation is for.
#[derive(Debug)]
enum Pending {
    /// Nothing depends on it.
    Nothing,
    Cell(CellKey, Life),
    /// The mutation in work of this placement group.
    Mutation(PgId),
    Stage(StageKey),
    /// A kept stage goes that nobody has open.
    DropKept(FragmentKey),
    Read {
        asker: Asker,
        fragment: FragmentKey,
    },
    Record {
        asker: Asker,
        hash: RecordHash,
    },
    Holdings {
        asker: Asker,
        pg: PgId,
        want: serve::Want,
    },
    HoldingsSynced {
        asker: Asker,
        pg: PgId,
        want: serve::Want,
        names: listings::Names,
    },
    Check(serve::Checking),
    /// The folder of this placement group, listed for the pass of this number.
    Strays(PgId, u64),
    Info(Asker),
    /// Sums of the hops behind this node.
    Upstream(Box<combine::Combining>),
    Combine(Box<combine::Combining>),
}

/// A storage node.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    host: Option<Host>,
    now: Time,
    groups: BTreeMap<PgId, Group>,
    stages: stage::Stages,
    pending: BTreeMap<OpId, Pending>,
    next_op: u64,
    effects: VecDeque<NodeEffect>,
    link: link::Link,
    scrub: scrub::Scrub,
    listings: listings::Listings,
    faults: faults::Faults,
    /// The moment a Tick is on its way for.
    wake: Option<Time>,
}

impl Node {
    /// A node before its [`NodeEvent::Boot`].
    pub fn new(config: NodeConfig) -> Self {
        Self {
            config,
            host: None,
            now: Time::ZERO,
            groups: BTreeMap::new(),
            stages: stage::Stages::default(),
            pending: BTreeMap::new(),
            next_op: 0,
            effects: VecDeque::new(),
            link: link::Link::new(config.beat_every),
            scrub: scrub::Scrub::new(config.scrub_bytes_per_second),
            listings: listings::Listings::default(),
            faults: faults::Faults::default(),
            wake: None,
        }
    }

    /// Something happened.
    pub fn handle(&mut self, now: Time, event: NodeEvent) {
        self.now = self.now.max(now);
        match event {
            NodeEvent::Journal(file) => self.replay(&file),
            NodeEvent::Kept(fragment) => self.found_kept(fragment),
            NodeEvent::Boot { disk, cell, life, boot, domain, address, door } => {
                if self.host.is_none() {
                    self.link.life = Life::after(life, boot);
                    self.host = Some(Host { disk, cell, life, boot, domain, address, door });
                    self.boot();
                }
            }
            NodeEvent::Request { peer, id, request, body } => self.request(Asker { peer, id }, request, body),
            NodeEvent::PeerGone { peer } => {
                self.drop_stages_of(peer);
                self.listings.forget_peer(peer);
            }
            NodeEvent::Stored { op, result } => self.stored(op, result),
            NodeEvent::Forwarded { op, result } => self.forwarded(op, result),
            NodeEvent::Daemon { number, result } => self.daemon_answered(number, result),
            NodeEvent::DaemonReached => self.reached(),
            NodeEvent::Room { free_bytes, total_bytes } => self.stages.measured(free_bytes, total_bytes),
            NodeEvent::Broken { reason } => self.link.broke(self.now, reason),
            NodeEvent::Mismatched { times } => self.mismatched(times),
            NodeEvent::Tick => self.wake = None,
        }
        self.listings.expire(self.now);
        self.stages.try_again(self.now);
        if self.host.is_some() {
            self.link_due();
            self.scrub_due();
            self.sweep_condemned();
            self.expire_kept();
            self.ask_to_be_woken();
        }
    }

    /// The next thing wanted; none until something else happens.
    pub fn poll_effect(&mut self) -> Option<NodeEffect> {
        self.effects.pop_front()
    }

    fn replay(&mut self, file: &JournalFile) {
        if self.host.is_none() {
            let mut group = Group::from_journal(file.pg, &file.bytes, self.now);
            group.condemn(self.now + self.config.quarantine_for);
            self.groups.insert(file.pg, group);
        }
    }

    fn boot(&mut self) {
        if self.config.trust_disk {
            self.trust_disk();
        }
        self.say_distrust();
        let pgs: Vec<PgId> = self.groups.keys().copied().collect();
        pgs.iter().for_each(|pg| self.run_group(*pg));
        self.begin_scrubs();
    }

    fn request(&mut self, asker: Asker, request: NodeRequest, body: Body) {
        let Some(host) = &self.host else {
            return self.refuse(asker, Refusal::Unavailable("the node is starting".into()));
        };
        match request {
            NodeRequest::Info => return self.info(asker),
            NodeRequest::Health => return self.health(asker),
            _ => {}
        }
        if let Some(refusal @ Refusal::Duplicate(_)) = &self.link.refusal {
            let reason = format!("the daemon does not take this node: {refusal}");
            return self.refuse(asker, Refusal::Unavailable(reason));
        }
        let Some(cell) = host.cell else {
            let reason = "this disk is new and belongs to no cell yet: its node has not reached the daemon";
            return self.refuse(asker, Refusal::Unavailable(reason.into()));
        };
        match request {
            NodeRequest::Fence { authority } | NodeRequest::Hear { authority } => {
                self.enqueue(Mutation { asker: Some(asker), authority: Some(authority), kind: Kind::Hear });
            }
            NodeRequest::Prepare { authority, attempt, kind, extent, hash } => {
                let kind = Kind::Prepare { attempt, kind, extent, hash, record: body };
                self.enqueue(Mutation { asker: Some(asker), authority: Some(authority), kind });
            }
            NodeRequest::Abort { authority, attempt } => {
                let kind = Kind::Abort { attempt };
                self.enqueue(Mutation { asker: Some(asker), authority: Some(authority), kind });
            }
            NodeRequest::Adopt { authority, page, last, listed, tombstones } => {
                let kind = Kind::Adopt { page, last, listed, tombstones, shapes: Vec::new() };
                self.enqueue(Mutation { asker: Some(asker), authority: Some(authority), kind });
            }
            NodeRequest::AdoptShaped { authority, page, last, listed, tombstones, shapes } => {
                let kind = Kind::Adopt { page, last, listed, tombstones, shapes };
                self.enqueue(Mutation { asker: Some(asker), authority: Some(authority), kind });
            }
            NodeRequest::Publish { authority, key } => {
                let kind = Kind::Publish { key, record: body };
                self.enqueue(Mutation { asker: Some(asker), authority: Some(authority), kind });
            }
            NodeRequest::Retire { authority } => {
                self.enqueue(Mutation { asker: Some(asker), authority: Some(authority), kind: Kind::Retire });
            }
            NodeRequest::List { pg, after } => self.list_page(asker, pg, after),
            NodeRequest::Holdings { pg, after } => self.holdings(asker, pg, after),
            NodeRequest::Digest { pg } => self.digest(asker, pg),
            NodeRequest::Stage { token, cell: theirs, key, generation, code, extent_bytes } => {
                let wish = stage::Wish { token, cell: theirs, key, generation, code, extent_bytes, keep: false };
                self.open_stage(asker, cell, &wish);
            }
            NodeRequest::StageKeep { token, cell: theirs, key, generation, code, extent_bytes } => {
                let wish = stage::Wish { token, cell: theirs, key, generation, code, extent_bytes, keep: true };
                self.open_stage(asker, cell, &wish);
            }
            NodeRequest::StageData { key, offset } => self.stage_data(asker, key, offset, body),
            NodeRequest::StageSeal { key } => self.stage_work(asker, key, stage::StageWork::Seal { asker }),
            NodeRequest::StageDrop { key } => {
                self.stage_work(asker, key, stage::StageWork::Drop { asker: Some(asker) });
            }
            NodeRequest::Read { fragment, offset, bytes } => self.read(asker, fragment, offset, bytes),
            NodeRequest::Record { extent, hash } => self.record(asker, extent, hash),
            NodeRequest::Check { fragment } => self.check(fragment, serve::Why::Asked(asker)),
            NodeRequest::Scrub => self.scrub_now(asker),
            NodeRequest::Door => self.door(asker),
            NodeRequest::Combine { field, offset, bytes, patience, hops } => {
                self.combine(asker, combine::Wish { field, offset, bytes, patience, hops });
            }
            NodeRequest::Info | NodeRequest::Health => {}
        }
    }

    fn stored(&mut self, op: OpId, result: Result<StoreOk, StoreError>) {
        self.faults.ended(self.now, op, &result);
        if matches!(result, Err(StoreError::NoSpace(_))) {
            self.stages.ran_full(self.now);
            self.link.beat_soon(self.now);
        }
        match self.pending.remove(&op) {
            None | Some(Pending::Nothing) => {}
            Some(Pending::Cell(cell, life)) => self.cell_stored(cell, life, result),
            Some(Pending::Mutation(pg)) => self.mutation_stored(pg, result),
            Some(Pending::Stage(key)) => self.stage_stored(key, result),
            Some(Pending::DropKept(fragment)) => self.dropped_kept(fragment, result.is_ok()),
            Some(Pending::Read { asker, fragment }) => self.read_done(asker, fragment, result),
            Some(Pending::Record { asker, hash }) => self.record_done(asker, hash, result),
            Some(Pending::Holdings { asker, pg, want }) => self.holdings_done(asker, pg, want, result),
            Some(Pending::HoldingsSynced { asker, pg, want, names }) => {
                self.holdings_synced(asker, pg, want, names, result);
            }
            Some(Pending::Check(checking)) => self.check_done(checking, result),
            Some(Pending::Strays(pg, pass)) => self.strays_listed(pg, pass, result),
            Some(Pending::Info(asker)) => self.info_done(asker, result),
            Some(Pending::Combine(combining)) => self.combined(&combining, result),
            // Answered by a node and not by the store.
            Some(upstream @ Pending::Upstream(_)) => drop(self.pending.insert(op, upstream)),
        }
    }

    fn store(&mut self, pending: Pending, call: StoreCall) -> OpId {
        if let StoreCall::Quarantine { fragment, .. } = &call {
            self.unlisted(*fragment);
        }
        let op = self.expect(pending);
        self.faults.begun(self.now, op, &call);
        self.effects.push_back(NodeEffect::Store { op, call });
        op
    }

    fn expect(&mut self, pending: Pending) -> OpId {
        let op = OpId(self.next_op);
        self.next_op += 1;
        self.pending.insert(op, pending);
        op
    }

    fn reply(&mut self, asker: Asker, reply: NodeReply) {
        self.reply_with(asker, reply, Body::new());
    }

    fn reply_with(&mut self, asker: Asker, reply: NodeReply, body: impl Into<Payload>) {
        let body = body.into();
        self.effects.push_back(NodeEffect::Reply { peer: asker.peer, id: asker.id, reply, body });
    }

    fn refuse(&mut self, asker: Asker, refusal: Refusal) {
        self.reply(asker, NodeReply::Refused(refusal));
    }

    /// Our disk. Asked only of a node that has booted.
    fn disk(&self) -> DiskId {
        self.host.as_ref().map_or(DiskId(0), |host| host.disk)
    }

    fn cell(&self) -> Option<CellKey> {
        self.host.as_ref().and_then(|host| host.cell)
    }

    /// Bytes that can still be taken, and bytes in all, as others are told: a grant of more than that would be refused here.
    fn room(&self) -> (u64, u64) {
        let (free_bytes, total_bytes) = self.stages.usable(self.config.headroom_bytes).unwrap_or_default();
        (if self.distrusted().is_some() { 0 } else { free_bytes }, total_bytes)
    }

    fn ask_to_be_woken(&mut self) {
        let condemned = self.groups.values().filter_map(|group| group.condemned_until).min();
        let next =
            [self.link_wake(), self.scrub_wake(), condemned, self.stages.kept_until()].into_iter().flatten().min();
        let Some(next) = next.filter(|next| self.wake.is_none_or(|wake| *next < wake)) else { return };
        self.wake = Some(next);
        self.effects.push_back(NodeEffect::WakeAt(next));
    }
}

/// What a test or an operator may want to see. No decision is made from it outside.
impl Node {
    /// Placement groups that something is known of.
    pub fn pgs(&self) -> impl Iterator<Item = PgId> + '_ {
        self.groups.keys().copied()
    }

    /// The list of a placement group.
    pub fn list(&self, pg: PgId) -> Option<&BTreeMap<ExtentKey, RecordHash>> {
        self.groups.get(&pg).map(|group| group.ledger.list())
    }

    /// The highest token accepted.
    pub fn token(&self, pg: PgId) -> Option<Token> {
        self.groups.get(&pg).and_then(|group| group.ledger.token)
    }

    /// The row that the list came to.
    pub fn heard(&self, pg: PgId) -> Option<&PgRow> {
        self.groups.get(&pg).and_then(|group| group.ledger.heard.as_ref())
    }

    /// Prepared changes.
    pub fn prepared(&self, pg: PgId) -> Option<&BTreeMap<AttemptId, Prepared>> {
        self.groups.get(&pg).map(|group| &group.ledger.prepared)
    }

    /// Marks of attempts that are never to be prepared again.
    pub fn abort_marks(&self, pg: PgId) -> Option<&BTreeSet<AttemptId>> {
        self.groups.get(&pg).map(|group| &group.ledger.aborted)
    }

    /// Deletions not trimmed yet, with their sequence numbers.
    pub fn tombstones(&self, pg: PgId) -> Option<&BTreeMap<ExtentKey, u64>> {
        self.groups.get(&pg).map(|group| &group.ledger.tombstones)
    }

    /// The fragment that the record on the list has for this disk; none where it has none, or nothing is known.
    pub fn owed_fragment(&self, extent: ExtentKey) -> Option<FragmentKey> {
        let ledger = &self.groups.get(&extent.pg())?.ledger;
        ledger.list().contains_key(&extent).then(|| ledger.fragment(extent, self.disk()))?
    }

    /// The superseded record of an extent whose files are not released.
    pub fn former(&self, extent: ExtentKey) -> Option<Former> {
        self.groups.get(&extent.pg()).and_then(|group| group.ledger.superseded.get(&extent).copied())
    }

    /// Whether the journal of a placement group was lost and no list was adopted since.
    pub fn is_journal_lost(&self, pg: PgId) -> bool {
        self.groups.get(&pg).is_some_and(|group| group.ledger.lost)
    }

    /// Whether a fragment is known not to be sound.
    pub fn is_damaged(&self, fragment: FragmentKey) -> bool {
        self.groups.get(&fragment.extent.pg()).is_some_and(|group| group.ledger.damaged.contains_key(&fragment))
    }

    /// What is staged and kept, by the fragments it is to be; whether somebody has it open.
    pub fn kept(&self) -> impl Iterator<Item = (FragmentKey, bool)> + '_ {
        self.stages.kept_now()
    }

    /// Why the daemon does not take this node, where it said so last.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.link.refusal.as_ref()
    }

    /// Whether the daemon took this node, since the last connection to it.
    pub fn is_registered(&self) -> bool {
        self.link.registered
    }

    /// Whether nothing is in work and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.effects.is_empty() && self.groups.values().all(Group::is_idle)
    }
}

fn unavailable(error: &StoreError) -> Refusal {
    Refusal::Unavailable(error.to_string())
}

/// What a failed write is answered with.
fn write_failed(error: StoreError) -> Refusal {
    match error {
        StoreError::NoSpace(reason) => Refusal::NoSpace(reason),
        error => Refusal::Store(error.to_string()),
    }
}

#[cfg(test)]
mod combine_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod faults_tests;
#[cfg(test)]
mod finding_tests;
#[cfg(test)]
mod idempotence_tests;
#[cfg(test)]
mod keep_tests;
#[cfg(test)]
mod life_tests;
#[cfg(test)]
mod mutation_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod scrub_tests;
#[cfg(test)]
mod sequence_tests;
#[cfg(test)]
mod serve_tests;
#[cfg(test)]
mod sweep_tests;
#[cfg(test)]
mod testing;
