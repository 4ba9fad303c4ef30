//! A small world for one group: members by definition, a catalog by definition, and every message in the tester's hand.

use crate::catalog::memory::MemoryCatalog;
use crate::catalog::{CellRow, EntryKind, OwnerRow, PgRow, PgState, Txn, TxnResult, Write, key};
use crate::id::{AttemptId, CellKey, ClaimId, DiskId, ExtentKey, PgId, RecordHash, Sum, Token};
use crate::node::Body;
use crate::pg::{
    CallId, CreateResult, DeleteResult, Granted, Owner, PgConfig, PgEffect, PgEvent, PgOutcome, Succession, Ticket,
    Versioned,
};
use crate::shape::{Former, Shape};
use crate::time::{Millis, Time};
use crate::wire::codec::{decode_row, encode_row};
use crate::wire::node::{Authority, FragmentKey, Head, Holding, Listed, Prepared, Shaped};
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
    /// Fragments of later generations, true where damaged.
    pub(super) later: BTreeMap<FragmentKey, bool>,
    pub(super) shapes: BTreeMap<ExtentKey, Shape>,
    pub(super) superseded: BTreeMap<ExtentKey, Former>,
    pub(super) prepared_shapes: BTreeMap<AttemptId, Shape>,
    /// What the records are of that it is sent, by their hashes: bodies do not travel here.
    pub(super) records: BTreeMap<RecordHash, Shape>,
    pub(super) staged: BTreeSet<(AttemptId, ExtentKey)>,
    adopting: BTreeMap<ExtentKey, RecordHash>,
    adopting_shapes: Vec<Shaped>,
    /// Was ever given a list: files that it knew and the list does not are left for a retirement.
    pub(super) adopted: bool,
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

    fn index(&self) -> Option<u16> {
        self.heard.as_ref()?.index_held_or_joined(self.disk)
    }

    fn shape(&self, extent: ExtentKey) -> Shape {
        let n = self.heard.as_ref().map_or(0, |row| row.members.len());
        self.shapes.get(&extent).copied().unwrap_or(Shape::of_group(n))
    }

    /// What any record that counts names of ours.
    fn named(&self) -> BTreeSet<FragmentKey> {
        let Some(index) = self.index() else { return BTreeSet::new() };
        let listed = self.list.keys().map(|extent| (*extent, self.shape(*extent)));
        let former = self.superseded.iter().map(|(extent, former)| (*extent, former.shape));
        let prepared = self.prepared.iter().filter(|(_, change)| change.kind.has_record());
        let n = self.heard.as_ref().map_or(0, |row| row.members.len());
        let prepared = prepared.map(|(attempt, change)| {
            (change.extent, self.prepared_shapes.get(attempt).copied().unwrap_or(Shape::of_group(n)))
        });
        let all = listed.chain(former).chain(prepared);
        all.filter_map(|(extent, shape)| shape.fragment(extent, index)).collect()
    }

    /// All files, by their names.
    pub(super) fn names(&self) -> BTreeMap<FragmentKey, bool> {
        let births = self.files.iter().map(|((extent, index), damaged)| {
            (FragmentKey { extent: *extent, generation: 1, index: *index }, *damaged)
        });
        births.chain(self.later.iter().map(|(name, damaged)| (*name, *damaged))).collect()
    }

    /// The tester damages a file.
    pub(super) fn rot(&mut self, name: FragmentKey) {
        match self.later.get_mut(&name) {
            Some(damaged) => *damaged = true,
            None => _ = self.files.insert((name.extent, name.index), true),
        }
    }

    fn put(&mut self, name: FragmentKey) {
        if name.generation == 1 {
            self.files.insert((name.extent, name.index), false);
        } else {
            self.later.insert(name, false);
        }
    }

    fn drop_but(&mut self, keep: impl Fn(&FragmentKey) -> bool) {
        self.files.retain(|(extent, index), _| keep(&FragmentKey { extent: *extent, generation: 1, index: *index }));
        self.later.retain(|name, _| keep(name));
    }

    fn come_to(&mut self, row: &PgRow) -> bool {
        let Some(index) = row.index_held_or_joined(self.disk).filter(|_| !self.lost) else { return false };
        let told = |attempt| row.entries.iter().any(|entry| entry.attempt == attempt);
        let open = |change: &Prepared| change.kind == EntryKind::Release && !told(change.attempt);
        if row.behind.contains(&self.disk) && self.prepared.values().any(open) && self.heard.as_ref() != Some(row) {
            return false;
        }
        let n = row.members.len();
        let mut next = self.clone();
        let mut gone: Vec<FragmentKey> = Vec::new();
        for entry in row.entries.iter().filter(|entry| (row.incarnation, entry.seq) > self.order()) {
            let extent = entry.extent;
            let old = next.shapes.get(&extent).copied().unwrap_or(Shape::of_group(n));
            let shape = self.prepared_shapes.get(&entry.attempt).copied();
            if entry.kind.has_shape() && shape.is_none() && next.list.get(&extent) != Some(&entry.hash) {
                return false;
            }
            match entry.kind {
                EntryKind::Create | EntryKind::CreateOther => _ = next.list.insert(extent, entry.hash),
                EntryKind::Delete => {
                    next.list.remove(&extent);
                    next.shapes.remove(&extent);
                    let former = next.superseded.remove(&extent);
                    let open = self.prepared.iter().filter(|(_, change)| change.extent == extent);
                    let open = open.filter_map(|(attempt, _)| self.prepared_shapes.get(attempt));
                    gone.extend(open.map(|shape| shape.place(extent, index)));
                    gone.extend(
                        [Some(old), former.map(|former| former.shape)]
                            .into_iter()
                            .flatten()
                            .map(|of| of.place(extent, index)),
                    );
                }
                EntryKind::Supersede => {
                    let hash = next.list.insert(extent, entry.hash);
                    if let Some(hash) = hash.filter(|hash| *hash != entry.hash) {
                        // A release was missed.
                        let missed = next.superseded.insert(extent, Former { hash, shape: old });
                        gone.extend(missed.map(|missed| missed.shape.place(extent, index)));
                    }
                }
                EntryKind::Release => {
                    if next.superseded.get(&extent).is_some_and(|former| former.hash == entry.hash) {
                        let former = next.superseded.remove(&extent).unwrap();
                        gone.push(former.shape.place(extent, index));
                    }
                }
            }
            if let Some(shape) = shape {
                next.shapes.insert(extent, shape);
            }
        }
        if next.list.len() as u64 != row.count || Sum::of(next.list.values()) != row.sum {
            return false;
        }
        for entry in &row.entries {
            // A deletion of what is deleted can have no other end either.
            let over = |change: &Prepared| match entry.kind {
                EntryKind::Delete => change.extent == entry.extent,
                EntryKind::Release => {
                    (change.kind, change.extent, change.hash) == (entry.kind, entry.extent, entry.hash)
                }
                _ => false,
            };
            next.prepared.retain(|attempt, change| *attempt != entry.attempt && !over(change));
        }
        next.heard = Some(row.clone());
        next.forget_shapes();
        *self = next;
        let named = self.named();
        self.drop_but(|name| !gone.contains(name) || named.contains(name));
        true
    }

    fn forget_shapes(&mut self) {
        let prepared = &self.prepared;
        self.prepared_shapes.retain(|attempt, _| prepared.contains_key(attempt));
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
        let released = self.superseded.get(&extent).is_none_or(|former| former.hash != hash);
        let done = match kind {
            EntryKind::Create | EntryKind::CreateOther | EntryKind::Supersede => listed,
            EntryKind::Delete => !listed,
            EntryKind::Release => released,
        };
        if self.prepared.contains_key(&attempt) || done {
            return Ok(NodeReply::Prepared { attempt });
        }
        if kind.has_record() {
            let Some(index) = authority.row.index_of(self.disk) else { return Err(Refusal::Invalid("guest".into())) };
            let group = Shape::of_group(authority.row.members.len());
            let shape = self.records.get(&hash).copied().unwrap_or(group);
            if let Some(name) = shape.fragment(extent, index) {
                if !self.staged.remove(&(attempt, extent)) {
                    return Err(Refusal::NotStaged("nothing".into()));
                }
                self.put(name);
            }
            if kind.has_shape() {
                self.prepared_shapes.insert(attempt, shape);
            }
        }
        self.prepared.insert(attempt, change);
        Ok(NodeReply::Prepared { attempt })
    }

    fn abort(&mut self, authority: &Authority, attempt: AttemptId) -> Result<NodeReply, Refusal> {
        self.obey(authority)?;
        self.aborted.insert(attempt);
        if let Some(change) = self.prepared.remove(&attempt).filter(|change| change.kind.has_record()) {
            let n = authority.row.members.len();
            let shape = self.prepared_shapes.remove(&attempt).unwrap_or(Shape::of_group(n));
            let named = self.named();
            self.drop_but(|name| name.extent != change.extent || !shape.names(name) || named.contains(name));
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
            NodeRequest::Adopt { authority, page, last, listed, .. } => {
                self.adopt(authority, *page, *last, listed, &[])
            }
            NodeRequest::AdoptShaped { authority, page, last, listed, shapes, .. } => {
                self.adopt(authority, *page, *last, listed, shapes)
            }
            NodeRequest::List { after, .. } => Ok(self.list_page(*after)),
            NodeRequest::Holdings { after, .. } => Ok(self.holdings_page(*after)),
            NodeRequest::Digest { .. } => Ok(self.digest()),
            NodeRequest::Retire { authority } => self.obey(authority).map(|_| self.retire(&authority.row)),
            other => Err(Refusal::Invalid(format!("{other:?}"))),
        };
        reply.unwrap_or_else(NodeReply::Refused)
    }

    fn adopt(
        &mut self,
        authority: &Authority,
        page: u32,
        last: bool,
        listed: &[Listed],
        shapes: &[Shaped],
    ) -> Result<NodeReply, Refusal> {
        self.obey(authority)?;
        if page == 0 {
            self.adopting.clear();
            self.adopting_shapes.clear();
        }
        self.adopting.extend(listed.iter().map(|line| (line.extent, line.hash)));
        self.adopting_shapes.extend(shapes);
        if !last {
            return Ok(NodeReply::AdoptedPage);
        }
        let list = std::mem::take(&mut self.adopting);
        let row = &authority.row;
        if list.len() as u64 != row.count || Sum::of(list.values()) != row.sum {
            return Err(Refusal::Behind("pages do not sum".into()));
        }
        (self.lost, self.adopted) = (false, true);
        let shapes = std::mem::take(&mut self.adopting_shapes);
        let of = |is_former: bool| shapes.iter().filter(move |line| line.is_former == is_former);
        self.shapes = of(false).map(|line| (line.extent, line.shape)).collect();
        self.superseded = of(true).map(|line| (line.extent, Former { hash: line.hash, shape: line.shape })).collect();
        let superseded = self.superseded.clone();
        self.prepared.retain(|_, change| {
            let listed = list.get(&change.extent);
            match change.kind {
                EntryKind::Create | EntryKind::CreateOther => listed.is_none(),
                EntryKind::Delete => listed.is_some(),
                EntryKind::Supersede => listed.is_some_and(|listed| *listed != change.hash),
                EntryKind::Release => superseded.get(&change.extent).is_some_and(|old| old.hash == change.hash),
            }
        });
        self.forget_shapes();
        self.list = list;
        self.heard = Some(row.clone());
        Ok(self.head(true))
    }

    /// Two lines a page: paging is worth testing.
    fn list_page(&self, after: Option<ExtentKey>) -> NodeReply {
        let mut rest = self.list.iter().filter(|(extent, _)| Some(**extent) > after);
        let listed: Vec<Listed> =
            rest.by_ref().take(2).map(|(extent, hash)| Listed { extent: *extent, hash: *hash }).collect();
        let (heard, more) = (self.order(), rest.next().is_some());
        let shapes = self.shaped();
        if shapes.is_empty() {
            return NodeReply::ListPage { heard, listed, more };
        }
        let last = listed.last().map(|line| line.extent).filter(|_| more);
        let on_page = |line: &Shaped| Some(line.extent) > after && last.is_none_or(|last| line.extent <= last);
        let shapes = shapes.into_iter().filter(on_page).collect();
        NodeReply::ShapedPage { heard, listed, shapes, more }
    }

    pub(super) fn shaped(&self) -> Vec<Shaped> {
        let line = |extent: &ExtentKey, hash: RecordHash, shape: &Shape, is_former| Shaped {
            extent: *extent,
            hash,
            shape: *shape,
            is_former,
        };
        let listed = self.shapes.iter().map(|(extent, shape)| line(extent, self.list[extent], shape, false));
        let former = self.superseded.iter().map(|(extent, old)| line(extent, old.hash, &old.shape, true));
        let prepared = self.prepared_shapes.iter().map(|(attempt, shape)| {
            let change = self.prepared[attempt];
            line(&change.extent, change.hash, shape, false)
        });
        listed.chain(former).chain(prepared).collect()
    }

    fn holdings_page(&self, after: Option<FragmentKey>) -> NodeReply {
        let all = self.names().into_iter().map(|(fragment, damaged)| Holding { fragment, damaged });
        let mut rest = all.filter(|holding| Some(holding.fragment) > after);
        let holdings: Vec<Holding> = rest.by_ref().take(2).collect();
        NodeReply::HoldingsPage { holdings, more: rest.next().is_some() }
    }

    fn digest(&self) -> NodeReply {
        let index = self.index();
        let owed = |name: &FragmentKey| {
            Some(name.index) == index && self.list.contains_key(&name.extent) && self.shape(name.extent).names(name)
        };
        let names = self.names();
        let sound = names.iter().filter(|(name, damaged)| owed(name) && !**damaged);
        let hashes: Vec<RecordHash> = sound.map(|(name, _)| name.name_hash()).collect();
        NodeReply::Digest { heard: self.order(), count: hashes.len() as u64, sum: Sum::of(&hashes) }
    }

    fn retire(&mut self, row: &PgRow) -> NodeReply {
        let before = self.names().len();
        let named = if row.index_held_or_joined(self.disk).is_some() { self.named() } else { BTreeSet::new() };
        self.drop_but(|name| named.contains(name));
        NodeReply::Retired { files: (before - self.names().len()) as u64, more: false }
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
    /// Records whose place others have taken, not released.
    pub(super) former: BTreeMap<ExtentKey, RecordHash>,
    /// What records of later generations are of.
    pub(super) records: BTreeMap<RecordHash, Shape>,
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
    record_of(extent, code, 1, 1)
}

pub(super) fn record_of(extent: ExtentKey, code: &str, revision: u64, generation: u64) -> Body {
    let code: CodeSpec = code.parse().unwrap();
    let (payload_bytes, cell) = (4096, CELL.id());
    let fragment = |index: u16| FragmentEntry {
        identity: BirthIdentity { cell, extent: extent.id(), generation, index: ShardIndex::new(index), payload_bytes },
        root: Hash::of(&[index as u8, extent.0 as u8]),
    };
    let fragments = (0..code.n() as u16).map(fragment).collect();
    let record = ExtentRecord {
        cell,
        extent: extent.id(),
        revision,
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
        Self::with(code, spares, PgConfig { id_block: 16, ..PgConfig::default() })
    }

    pub(super) fn with(code: &str, spares: u128, config: PgConfig) -> Self {
        let spec: CodeSpec = code.parse().unwrap();
        let n = spec.n() as u128;
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
            former: BTreeMap::new(),
            records: BTreeMap::new(),
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
                    EntryKind::Supersede => {
                        let old = self.truth.insert(entry.extent, entry.hash).expect("it is on file");
                        assert_ne!(old, entry.hash, "its own place");
                        assert_eq!(self.former.insert(entry.extent, old), None, "two unreleased");
                        None
                    }
                    EntryKind::Release => {
                        assert_eq!(self.former.remove(&entry.extent), Some(entry.hash), "released what was not");
                        self.check_released(&after, entry.extent);
                        None
                    }
                    EntryKind::Create | EntryKind::CreateOther => {
                        assert!(!self.removed.contains(&entry.extent), "risen again");
                        self.truth.insert(entry.extent, entry.hash)
                    }
                    EntryKind::Delete => self.truth.remove(&entry.extent).filter(|hash| *hash != entry.hash),
                };
                if entry.kind == EntryKind::Delete {
                    self.former.remove(&entry.extent);
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

    /// The fragments of a succession to this code arrive at their disks, and its commit is asked for. Nothing of that is delivered.
    pub(super) fn supersede(&mut self, owner: usize, extent: ExtentKey, code: &str) -> (Ticket, Succession) {
        let succession = self.owners[owner].grant_successor(extent).expect("a succession");
        self.collect(owner);
        (self.ask_supersede(owner, &succession, code), succession)
    }

    pub(super) fn ask_supersede(&mut self, owner: usize, succession: &Succession, code: &str) -> Ticket {
        let Succession { extent, attempt, generation, .. } = *succession;
        let record = record_of(extent, code, 2, generation);
        let fragments = code.parse::<CodeSpec>().unwrap().n() as u16;
        let shape = Shape { generation, fragments };
        self.records.insert(RecordHash::of(&record), shape);
        for (index, disk) in succession.members.iter().enumerate() {
            let fake = self.fakes.get_mut(disk).unwrap();
            fake.records.insert(RecordHash::of(&record), shape);
            if shape.has(index as u16) {
                fake.staged.insert((attempt, extent));
            }
        }
        let ticket = self.ticket(extent);
        self.tell(owner, PgEvent::Supersede { ticket, attempt, extent, record });
        ticket
    }

    pub(super) fn superseded(&self, ticket: Ticket) -> Option<CreateResult> {
        self.outcomes.iter().find_map(|(_, outcome)| match outcome {
            PgOutcome::Superseded { ticket: told, result } if *told == ticket => Some(result.clone()),
            _ => None,
        })
    }

    /// The files of the record on file.
    pub(super) fn shape(&self, extent: ExtentKey) -> Shape {
        let group = Shape::of_group(self.row().members.len());
        self.truth.get(&extent).and_then(|hash| self.records.get(hash)).copied().unwrap_or(group)
    }

    /// Nothing is released while a fragment of what took its place is not there.
    fn check_released(&self, row: &PgRow, extent: ExtentKey) {
        let shape = self.shape(extent);
        for (index, disk) in (0u16..).zip(&row.members) {
            let Some(name) = shape.fragment(extent, index) else { continue };
            assert_eq!(self.fakes[disk].names().get(&name), Some(&false), "{extent} released, {disk} lacks {index}");
        }
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
            let shape = self.shape(need.extent);
            let is_source =
                |(name, damaged): &(FragmentKey, bool)| name.extent == need.extent && shape.names(name) && !damaged;
            let up = self.fakes.iter().filter(|(disk, _)| !self.down.contains(disk));
            let sources: BTreeSet<u16> =
                up.flat_map(|(_, fake)| fake.names()).filter(is_source).map(|(name, _)| name.index).collect();
            // A record of another code in these tests is of copies.
            let k = if shape.fragments == Shape::of_group(self.row().members.len()).fragments { k } else { 1 };
            let fake = self.fakes.get_mut(&need.disk).unwrap();
            // As a node does: only what its own list names gets a name.
            let named = fake.list.get(&need.extent) == self.truth.get(&need.extent);
            if sources.len() < k || !named || self.down.contains(&need.disk) {
                continue;
            }
            fake.put(shape.place(need.extent, need.index));
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
                let Some(name) = self.shape(*extent).fragment(*extent, index as u16) else { continue };
                let sound = fake.names().get(&name) == Some(&false);
                assert!(
                    sound || excused.contains(&(*disk, *extent)),
                    "{disk} is not behind and lacks {extent} of {row:?}"
                );
            }
        }
        let sums = |fake: &Fake| {
            let prepared: Vec<Prepared> = fake.prepared.values().copied().collect();
            let told = fake.shaped();
            !fake.lost && super::super::prove::prove(fake.list.clone(), &told, fake.order(), &prepared, &row).is_some()
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
