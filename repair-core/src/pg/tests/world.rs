//! A small world for one group: members by definition, a catalog by definition, and every message in the tester's hand.

use crate::catalog::memory::MemoryCatalog;
use crate::catalog::{CellRow, EntryKind, OwnerRow, PgRow, PgState, Txn, TxnResult, Write, key};
use crate::id::{AttemptId, CellKey, ClaimId, DiskId, ExtentKey, PgId, RecordHash, Sum, Token};
use crate::node::Body;
use crate::pg::{
    CallId, CreateResult, DeleteResult, Granted, Owner, PgConfig, PgEffect, PgEvent, PgOutcome, Ticket, Versioned,
};
use crate::time::{Millis, Time};
use crate::wire::codec::{decode_row, encode_row};
use crate::wire::node::{Authority, FragmentKey, Head, Holding, Listed, Prepared};
use crate::wire::{CallError, NodeReply, NodeRequest, Refusal};
use ec_core::fragment::{BirthIdentity, Content, ExtentRecord, FragmentEntry, Hash, StreamId};
use ec_core::{CodeSpec, ShardIndex};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const CELL: CellKey = CellKey(0xce11 << 112 | 1);
pub(super) const PG: PgId = PgId(7);

/// A member by the letter of the protocol, its disk never lying. Everything in it is durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Fake {
    pub(super) disk: DiskId,
    pub(super) token: Token,
    pub(super) heard: Option<PgRow>,
    pub(super) list: BTreeMap<ExtentKey, RecordHash>,
    pub(super) prepared: BTreeMap<AttemptId, Prepared>,
    pub(super) aborted: BTreeSet<AttemptId>,
    /// Fragments by extent and index, true where damaged.
    pub(super) files: BTreeMap<(ExtentKey, u16), bool>,
    pub(super) staged: BTreeSet<(AttemptId, ExtentKey)>,
    adopting: BTreeMap<ExtentKey, RecordHash>,
    /// Says that its list is lost until it was given another.
    pub(super) lost: bool,
}

impl Fake {
    fn order(&self) -> (u32, u64) {
        self.heard.as_ref().map_or((0, 0), PgRow::order)
    }

    fn head(&self, level: bool) -> NodeReply {
        NodeReply::Heard(Head {
            heard: self.order(),
            count: self.list.len() as u64,
            sum: Sum::of(self.list.values()),
            level,
            prepared: self.prepared.values().copied().collect(),
        })
    }

    /// Line 7: the token, then the row.
    fn obey(&mut self, authority: &Authority) -> Result<bool, Refusal> {
        self.token.admits(&authority.token).map_err(|fenced| Refusal::Fenced(fenced.to_string()))?;
        let row = &authority.row;
        if row.order() < self.order() {
            return Err(Refusal::OldRow(format!("{:?}, heard {:?}", row.order(), self.order())));
        }
        if self.heard.as_ref().is_some_and(|heard| heard.order() == row.order() && heard != row) {
            return Err(Refusal::Fork("another row of the same number".into()));
        }
        self.token = authority.token;
        Ok(self.come_to(row))
    }

    fn come_to(&mut self, row: &PgRow) -> bool {
        if row.index_held_or_joined(self.disk).is_none() || self.lost {
            return false;
        }
        let mut list = self.list.clone();
        for entry in row.entries.iter().filter(|entry| (row.incarnation, entry.seq) > self.order()) {
            match entry.kind {
                EntryKind::Create => list.insert(entry.extent, entry.hash),
                EntryKind::Delete => list.remove(&entry.extent),
            };
        }
        if list.len() as u64 != row.count || Sum::of(list.values()) != row.sum {
            return false;
        }
        for entry in &row.entries {
            // A deletion of what is deleted can have no other end either.
            let gone = |change: &Prepared| entry.kind == EntryKind::Delete && change.extent == entry.extent;
            self.prepared.retain(|attempt, change| *attempt != entry.attempt && !gone(change));
            if entry.kind == EntryKind::Delete {
                self.files.retain(|(extent, _), _| *extent != entry.extent);
            }
        }
        self.list = list;
        self.heard = Some(row.clone());
        true
    }

    fn prepare(&mut self, authority: &Authority, change: Prepared) -> Result<NodeReply, Refusal> {
        if !self.obey(authority)? {
            return Err(Refusal::Behind("list does not come to the row".into()));
        }
        let Prepared { attempt, kind, extent, hash } = change;
        if self.aborted.contains(&attempt) {
            return Err(Refusal::Aborted);
        }
        let listed = self.list.get(&extent) == Some(&hash);
        if self.prepared.contains_key(&attempt) || listed == (kind == EntryKind::Create) {
            return Ok(NodeReply::Prepared { attempt });
        }
        if kind == EntryKind::Create {
            if !self.staged.remove(&(attempt, extent)) {
                return Err(Refusal::NotStaged("nothing".into()));
            }
            let Some(index) = authority.row.index_of(self.disk) else { return Err(Refusal::Invalid("guest".into())) };
            self.files.insert((extent, index), false);
        }
        self.prepared.insert(attempt, change);
        Ok(NodeReply::Prepared { attempt })
    }

    fn abort(&mut self, authority: &Authority, attempt: AttemptId) -> Result<NodeReply, Refusal> {
        self.obey(authority)?;
        self.aborted.insert(attempt);
        if let Some(change) = self.prepared.remove(&attempt).filter(|change| change.kind == EntryKind::Create) {
            self.files.retain(|(extent, _), _| *extent != change.extent);
        }
        self.staged.retain(|(staged, _)| *staged != attempt);
        Ok(NodeReply::Aborted { attempt })
    }

    pub(super) fn serve(&mut self, request: &NodeRequest) -> NodeReply {
        let reply = match request {
            NodeRequest::Fence { authority } | NodeRequest::Hear { authority } => {
                self.obey(authority).map(|level| self.head(level))
            }
            NodeRequest::Prepare { authority, attempt, kind, extent, hash } => {
                self.prepare(authority, Prepared { attempt: *attempt, kind: *kind, extent: *extent, hash: *hash })
            }
            NodeRequest::Abort { authority, attempt } => self.abort(authority, *attempt),
            NodeRequest::Adopt { authority, page, last, listed, .. } => self.adopt(authority, *page, *last, listed),
            NodeRequest::List { after, .. } => Ok(self.list_page(*after)),
            NodeRequest::Holdings { after, .. } => Ok(self.holdings_page(*after)),
            NodeRequest::Digest { .. } => Ok(self.digest()),
            NodeRequest::Retire { authority } => self.obey(authority).map(|_| self.retire(&authority.row)),
            other => Err(Refusal::Invalid(format!("{other:?}"))),
        };
        reply.unwrap_or_else(NodeReply::Refused)
    }

    fn adopt(&mut self, authority: &Authority, page: u32, last: bool, listed: &[Listed]) -> Result<NodeReply, Refusal> {
        self.obey(authority)?;
        if page == 0 {
            self.adopting.clear();
        }
        self.adopting.extend(listed.iter().map(|line| (line.extent, line.hash)));
        if !last {
            return Ok(NodeReply::AdoptedPage);
        }
        let list = std::mem::take(&mut self.adopting);
        let row = &authority.row;
        if list.len() as u64 != row.count || Sum::of(list.values()) != row.sum {
            return Err(Refusal::Behind("pages do not sum".into()));
        }
        self.lost = false;
        self.prepared.retain(|_, change| list.contains_key(&change.extent) != (change.kind == EntryKind::Create));
        self.list = list;
        self.heard = Some(row.clone());
        Ok(self.head(true))
    }

    /// Two lines a page: paging is worth testing.
    fn list_page(&self, after: Option<ExtentKey>) -> NodeReply {
        let mut rest = self.list.iter().filter(|(extent, _)| Some(**extent) > after);
        let listed: Vec<Listed> =
            rest.by_ref().take(2).map(|(extent, hash)| Listed { extent: *extent, hash: *hash }).collect();
        NodeReply::ListPage { heard: self.order(), listed, more: rest.next().is_some() }
    }

    fn holdings_page(&self, after: Option<FragmentKey>) -> NodeReply {
        let all = self.files.iter().map(|((extent, index), damaged)| Holding {
            fragment: FragmentKey { extent: *extent, generation: 1, index: *index },
            damaged: *damaged,
        });
        let mut rest = all.filter(|holding| Some(holding.fragment) > after);
        let holdings: Vec<Holding> = rest.by_ref().take(2).collect();
        NodeReply::HoldingsPage { holdings, more: rest.next().is_some() }
    }

    fn digest(&self) -> NodeReply {
        let owed = |(extent, index): &(ExtentKey, u16)| {
            self.list.contains_key(extent)
                && self.heard.as_ref().and_then(|row| row.index_held_or_joined(self.disk)) == Some(*index)
        };
        let sound = self.files.iter().filter(|(name, damaged)| owed(name) && !**damaged);
        let hashes: Vec<RecordHash> = sound
            .map(|((extent, index), _)| FragmentKey { extent: *extent, generation: 1, index: *index }.name_hash())
            .collect();
        NodeReply::Digest { heard: self.order(), count: hashes.len() as u64, sum: Sum::of(&hashes) }
    }

    fn retire(&mut self, row: &PgRow) -> NodeReply {
        let index = row.index_held_or_joined(self.disk);
        let before = self.files.len();
        let prepared: BTreeSet<ExtentKey> = self.prepared.values().map(|change| change.extent).collect();
        let list = &self.list;
        self.files
            .retain(|(extent, at), _| Some(*at) == index && (list.contains_key(extent) || prepared.contains(extent)));
        NodeReply::Retired { files: (before - self.files.len()) as u64, more: false }
    }
}

/// Something on its way.
#[derive(Clone, Debug)]
pub(super) enum Flight {
    Request {
        owner: usize,
        call: CallId,
        disk: DiskId,
        request: NodeRequest,
    },
    Reply {
        owner: usize,
        call: CallId,
        result: Result<NodeReply, CallError>,
    },
    Get {
        owner: usize,
        op: CallId,
        keys: Vec<Vec<u8>>,
    },
    Txn {
        owner: usize,
        op: CallId,
        txn: Txn,
    },
    /// A copy that nobody waits for.
    Ghost {
        disk: DiskId,
        request: NodeRequest,
    },
    LateTxn {
        txn: Txn,
    },
}

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Fair,
    AppliedUnknown,
    LostUnknown,
    /// Applied when the tester lets it.
    LateUnknown,
    /// Applied, sent again by the library, and then refused.
    AppliedRefused,
    /// Refused for a reason that is gone by the next look.
    LostRefused,
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) catalog: MemoryCatalog,
    pub(super) fakes: BTreeMap<DiskId, Fake>,
    pub(super) down: BTreeSet<DiskId>,
    pub(super) owners: Vec<Owner>,
    pub(super) wakes: Vec<Option<Time>>,
    pub(super) flights: Vec<Flight>,
    pub(super) outcomes: Vec<(usize, PgOutcome)>,
    /// What is on file: every applied write of the row, replayed.
    pub(super) truth: BTreeMap<ExtentKey, RecordHash>,
    /// What was on it and was deleted.
    pub(super) removed: BTreeSet<ExtentKey>,
    pub(super) config: PgConfig,
    pub(super) tickets: BTreeMap<Ticket, ExtentKey>,
    next_ticket: u64,
    next_claim: u128,
}

pub(super) fn cell_row() -> CellRow {
    CellRow { cell: CELL, incarnation: 1, restore: 99, suspended: None }
}

pub(super) fn disk(number: u128) -> DiskId {
    DiskId(number)
}

pub(super) fn record(extent: ExtentKey, code: &str) -> Body {
    let code: CodeSpec = code.parse().unwrap();
    let (payload_bytes, cell) = (4096, CELL.id());
    let fragment = |index: u16| FragmentEntry {
        identity: BirthIdentity {
            cell,
            extent: extent.id(),
            generation: 1,
            index: ShardIndex::new(index),
            payload_bytes,
        },
        root: Hash::of(&[index as u8, extent.0 as u8]),
    };
    let fragments = (0..code.n() as u16).map(fragment).collect();
    let record = ExtentRecord {
        cell,
        extent: extent.id(),
        revision: 1,
        extent_bytes: 4096 * code.k() as u64,
        code,
        extent_hash: Hash::of(b"bytes"),
        stream: StreamId(5),
        ordinal: 0,
        offset: 0,
        stream_bytes: None,
        content: Content::File,
        name: b"name".to_vec(),
        fragments,
        extents: vec![],
    };
    record.to_bytes().unwrap().into()
}

impl World {
    /// A group of members 1 to n and some spare disks behind them, owned by one owner, nothing delivered yet.
    pub(super) fn new(code: &str, spares: u128) -> Self {
        let spec: CodeSpec = code.parse().unwrap();
        let n = spec.n() as u128;
        let config = PgConfig { id_block: 16, ..PgConfig::default() };
        let members = (1..=n).map(disk).collect();
        let row = PgRow {
            pg: PG,
            incarnation: 1,
            seq: 1,
            epoch: 1,
            code: spec.to_descriptor(),
            members,
            joining: BTreeMap::new(),
            behind: BTreeSet::new(),
            state: PgState::Open,
            crowded: false,
            next_id: config.id_block,
            count: 0,
            sum: Sum::default(),
            trim: 0,
            entries: vec![],
        };
        let token = Token { incarnation: 1, revision: 1, restore: 99, claim: ClaimId(1) };
        let mut catalog = MemoryCatalog::default();
        catalog.apply(&Txn::new().put(key::cell(), encode_row(&cell_row()).unwrap()));
        let made = Txn::new()
            .put(key::pg(PG), encode_row(&row).unwrap())
            .put(key::owner(PG), encode_row(&OwnerRow { token }).unwrap());
        let TxnResult::Done { revision } = catalog.apply(&made) else { unreachable!("no conditions") };
        let owner = Owner::created(cell_row(), 1, Versioned { row, revision }, revision, token, config);
        let fakes = (1..=n + spares).map(|at| (disk(at), Fake { disk: disk(at), ..Fake::default() })).collect();
        let mut world = Self {
            now: Time::ZERO,
            catalog,
            fakes,
            down: BTreeSet::new(),
            owners: vec![owner],
            wakes: vec![None],
            flights: vec![],
            outcomes: vec![],
            truth: BTreeMap::new(),
            removed: BTreeSet::new(),
            config,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            next_claim: 1,
        };
        world.collect(0);
        world
    }

    pub(super) fn row(&self) -> PgRow {
        decode_row(&self.catalog.get(&key::pg(PG)).unwrap().value).unwrap()
    }

    pub(super) fn fake(&mut self, number: u128) -> &mut Fake {
        self.fakes.get_mut(&disk(number)).unwrap()
    }

    /// Another daemon claims the group.
    pub(super) fn claim(&mut self) -> usize {
        self.next_claim += 1;
        let revision = self.catalog.get(&key::cell()).unwrap().revision;
        self.owners.push(Owner::claim(cell_row(), revision, PG, ClaimId(self.next_claim), self.config));
        self.wakes.push(None);
        self.collect(self.owners.len() - 1);
        self.tell(self.owners.len() - 1, PgEvent::Proceed);
        self.owners.len() - 1
    }

    pub(super) fn tell(&mut self, owner: usize, event: PgEvent) {
        self.owners[owner].handle(self.now, event);
        self.collect(owner);
    }

    pub(super) fn collect(&mut self, owner: usize) {
        while let Some(effect) = self.owners[owner].poll_effect() {
            match effect {
                PgEffect::Get { op, keys } => self.flights.push(Flight::Get { owner, op, keys }),
                PgEffect::Txn { op, txn } => self.flights.push(Flight::Txn { owner, op, txn }),
                PgEffect::Call { call, disk, request, .. } => {
                    self.flights.push(Flight::Request { owner, call, disk, request });
                }
                PgEffect::Outcome(outcome) => self.outcomes.push((owner, outcome)),
                PgEffect::WakeAt(at) => {
                    assert!(at > self.now, "a wake-up in the past");
                    self.wakes[owner] = Some(at);
                }
            }
        }
    }

    /// Applies a transaction and keeps the truth.
    pub(super) fn apply(&mut self, txn: &Txn) -> TxnResult {
        let before = self.row();
        let result = self.catalog.apply(txn);
        let after = self.row();
        if result != TxnResult::Refused
            && txn.writes.iter().any(|write| matches!(write, Write::Put { key, .. } if *key == key::pg(PG)))
        {
            assert_eq!(after.seq, before.seq + 1, "every write is one further");
            for entry in after.entries.iter().filter(|entry| entry.seq == after.seq) {
                let before = match entry.kind {
                    EntryKind::Create => {
                        assert!(!self.removed.contains(&entry.extent), "risen again");
                        self.truth.insert(entry.extent, entry.hash)
                    }
                    EntryKind::Delete => self.truth.remove(&entry.extent).filter(|hash| *hash != entry.hash),
                };
                if entry.kind == EntryKind::Delete {
                    self.removed.insert(entry.extent);
                }
                assert_eq!(before, None, "a create of what is there, or a delete of what is not");
            }
            assert_eq!((after.count, after.sum), (self.truth.len() as u64, Sum::of(self.truth.values())));
        }
        result
    }

    pub(super) fn deliver_txn(&mut self, owner: usize, op: CallId, txn: Txn, fate: Fate) {
        let result = match fate {
            Fate::Fair => self.apply(&txn),
            Fate::AppliedUnknown => {
                self.apply(&txn);
                TxnResult::Unknown
            }
            Fate::LostUnknown => TxnResult::Unknown,
            Fate::LateUnknown => {
                self.flights.push(Flight::LateTxn { txn });
                TxnResult::Unknown
            }
            Fate::AppliedRefused => {
                self.apply(&txn);
                TxnResult::Refused
            }
            Fate::LostRefused => TxnResult::Refused,
        };
        self.tell(owner, PgEvent::Txn { op, result });
    }

    /// Delivers one thing as it should be. A disk that is down does not answer.
    pub(super) fn deliver(&mut self, flight: Flight) {
        match flight {
            Flight::Request { owner, call, disk, request } => {
                let result = if self.down.contains(&disk) {
                    Err(CallError::Unreachable)
                } else {
                    Ok(self.fakes.get_mut(&disk).unwrap().serve(&request))
                };
                self.deliver(Flight::Reply { owner, call, result });
            }
            Flight::Reply { owner, call, result } => {
                let result = result.map(|reply| (reply, Body::new()));
                self.tell(owner, PgEvent::Call { call, result });
            }
            Flight::Get { owner, op, keys } => {
                let rows = Ok(keys.iter().map(|key| self.catalog.get(key)).collect());
                self.tell(owner, PgEvent::Rows { op, rows });
            }
            Flight::Txn { owner, op, txn } => self.deliver_txn(owner, op, txn, Fate::Fair),
            Flight::Ghost { disk, request } => {
                if !self.down.contains(&disk) {
                    self.fakes.get_mut(&disk).unwrap().serve(&request);
                }
            }
            Flight::LateTxn { txn } => _ = self.apply(&txn),
        }
    }

    /// Delivers everything in order that `held` does not name, until nothing is on its way but that.
    pub(super) fn run_but(&mut self, held: impl Fn(&Flight) -> bool) {
        for _ in 0..100_000 {
            let Some(at) = self.flights.iter().position(|flight| !held(flight)) else { return };
            let flight = self.flights.remove(at);
            self.deliver(flight);
        }
        panic!("no rest: {:?}", self.flights.first());
    }

    pub(super) fn run(&mut self) {
        self.run_but(|_| false);
    }

    /// Runs, and lets so much time go by, waking owners as they wished.
    pub(super) fn run_for(&mut self, span: u64) {
        let end = self.now + Millis(span);
        for _ in 0..100_000 {
            self.run();
            let next = (0..self.owners.len()).filter_map(|owner| Some((self.wakes[owner]?, owner))).min();
            match next {
                Some((at, owner)) if at <= end => {
                    self.now = self.now.max(at);
                    self.wakes[owner] = None;
                    self.tell(owner, PgEvent::Tick);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("no rest in {span} ms");
    }

    /// Takes the flights away that `wanted` names.
    pub(super) fn take(&mut self, wanted: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        let (taken, rest) = std::mem::take(&mut self.flights).into_iter().partition(|flight| wanted(flight));
        self.flights = rest;
        taken
    }

    pub(super) fn take_txn(&mut self) -> (usize, CallId, Txn) {
        let mut txns = self.take(|flight| matches!(flight, Flight::Txn { .. }));
        assert_eq!(txns.len(), 1, "one transaction on its way");
        let Some(Flight::Txn { owner, op, txn }) = txns.pop() else { unreachable!("asked for those") };
        (owner, op, txn)
    }

    /// The fragments of a grant arrive at their disks.
    pub(super) fn stage(&mut self, grant: &Granted) {
        for disk in grant.members.iter().flatten() {
            self.fakes.get_mut(disk).unwrap().staged.insert((grant.attempt, grant.extent));
        }
    }

    pub(super) fn ticket(&mut self, extent: ExtentKey) -> Ticket {
        self.next_ticket += 1;
        self.tickets.insert(Ticket(self.next_ticket), extent);
        Ticket(self.next_ticket)
    }

    pub(super) fn code(&self) -> String {
        self.row().code_spec().unwrap().to_string()
    }

    /// Grants, stages, and asks for the commit; nothing of that is delivered.
    pub(super) fn create(&mut self, owner: usize) -> (Ticket, Granted) {
        let grant = self.owners[owner].grant().expect("a grant");
        self.collect(owner);
        self.stage(&grant);
        (self.ask_create(owner, &grant, Txn::new()), grant)
    }

    pub(super) fn ask_create(&mut self, owner: usize, grant: &Granted, beside: Txn) -> Ticket {
        let (ticket, code) = (self.ticket(grant.extent), self.code());
        let (attempt, extent) = (grant.attempt, grant.extent);
        self.tell(owner, PgEvent::Create { ticket, attempt, extent, record: record(extent, &code), beside });
        ticket
    }

    pub(super) fn delete(&mut self, owner: usize, extent: ExtentKey) -> Ticket {
        let ticket = self.ticket(extent);
        self.tell(owner, PgEvent::Delete { ticket, extent, beside: Txn::new() });
        ticket
    }

    pub(super) fn created(&self, ticket: Ticket) -> Option<CreateResult> {
        self.outcomes.iter().find_map(|(_, outcome)| match outcome {
            PgOutcome::Created { ticket: told, result } if *told == ticket => Some(result.clone()),
            _ => None,
        })
    }

    pub(super) fn deleted(&self, ticket: Ticket) -> Option<DeleteResult> {
        self.outcomes.iter().find_map(|(_, outcome)| match outcome {
            PgOutcome::Deleted { ticket: told, result } if *told == ticket => Some(result.clone()),
            _ => None,
        })
    }

    pub(super) fn told(&self, wanted: impl Fn(&PgOutcome) -> bool) -> bool {
        self.outcomes.iter().any(|(_, outcome)| wanted(outcome))
    }

    pub(super) fn fall(&mut self, number: u128) {
        self.down.insert(disk(number));
        for owner in 0..self.owners.len() {
            self.tell(owner, PgEvent::Unreachable { disk: disk(number) });
        }
    }

    pub(super) fn rise(&mut self, number: u128) {
        self.down.remove(&disk(number));
        for owner in 0..self.owners.len() {
            self.tell(owner, PgEvent::Reachable { disk: disk(number) });
        }
    }

    /// What a repair job would do, from the members that hold the extent now. Returns how many fragments it built.
    pub(super) fn repair(&mut self, owner: usize) -> usize {
        let mut built = 0;
        let k = self.row().code_spec().unwrap().k();
        for need in self.owners[owner].needs() {
            let sources: BTreeSet<u16> = self
                .fakes
                .iter()
                .filter(|(disk, _)| !self.down.contains(disk))
                .flat_map(|(_, fake)| {
                    fake.files.iter().filter(|((extent, _), damaged)| *extent == need.extent && !**damaged)
                })
                .map(|((_, index), _)| *index)
                .collect();
            let fake = self.fakes.get_mut(&need.disk).unwrap();
            let named = fake.list.contains_key(&need.extent);
            if sources.len() < k || !named || self.down.contains(&need.disk) {
                continue;
            }
            fake.files.insert((need.extent, need.index), false);
            built += 1;
            self.tell(owner, PgEvent::Restored { disk: need.disk, extent: need.extent });
        }
        built
    }

    /// The invariants of `commit.md`, on what is durable. `excused`: fragments damaged or taken by the tester.
    pub(super) fn check(&self, excused: &BTreeSet<(DiskId, ExtentKey)>) {
        let row = self.row();
        for (index, disk) in row.members.iter().enumerate().filter(|(_, disk)| !row.behind.contains(disk)) {
            let fake = &self.fakes[disk];
            for extent in self.truth.keys() {
                let sound = fake.files.get(&(*extent, index as u16)) == Some(&false);
                assert!(
                    sound || excused.contains(&(*disk, *extent)),
                    "{disk} is not behind and lacks {extent} of {row:?}"
                );
            }
        }
        let sums = |fake: &Fake| {
            let prepared: Vec<Prepared> = fake.prepared.values().copied().collect();
            !fake.lost && super::super::prove::prove(fake.list.clone(), fake.order(), &prepared, &row).is_some()
        };
        assert!(row.members.iter().any(|disk| sums(&self.fakes[disk])), "no member's list sums to {row:?}");
        for (_, outcome) in &self.outcomes {
            if let PgOutcome::Created { ticket, result: CreateResult::Failed { reason } } = outcome {
                let extent = self.tickets[ticket];
                assert!(!self.truth.contains_key(&extent), "told failed ({reason}), and {extent} is on file");
            }
        }
    }
}
