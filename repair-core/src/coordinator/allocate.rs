//! Allocation: which placement group takes the next extent, and the making of new groups.

use super::effect::Stopped;
use super::groups::Group;
use super::{Asker, Coordinator, Op, Timer};
use crate::catalog::{Found, OwnerRow, PgRow, PgState, Txn, TxnResult, key};
use crate::id::{PgId, StreamKey, Sum, Token};
use crate::pg::{Owner, Versioned};
use crate::placement::{self, NoPlace};
use crate::wire::codec::{decode_row, encode_row};
use crate::wire::daemon::Grant;
use crate::wire::{DaemonReply, Refusal};
use ec_core::geometry::{EXTENT_BYTES_MAX, Geometry};
use ec_core::{Code, CodeSpec};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Groups made in one transaction.
const BATCH: usize = 32;
/// Groups are made beside ones that cannot be written, up to so many times the number wanted.
const GROUPS_MOST: usize = 4;
/// Room a node keeps beside the fragments it was granted.
const ROOM_BESIDE_BYTES: u64 = 4 << 20;
/// Requests that wait for new groups.
const ALLOCATIONS_MAX: usize = 4096;

/// Leave to write, asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allocation {
    asker: Asker,
    stream: StreamKey,
    ordinal: u64,
    bytes: u64,
}

/// Groups in the making.
#[derive(Debug)]
pub(super) struct Making {
    batches: VecDeque<Vec<PgRow>>,
}

/// What becomes of an allocation now.
enum Choice {
    /// One of these, the first that has an id left.
    From(Vec<PgId>),
    /// New groups have to be made.
    Make(usize),
    No(Refusal),
}

impl Coordinator {
    pub(super) fn allocate(&mut self, asker: Asker, stream: StreamKey, ordinal: u64, bytes: u64) {
        if !self.put_spoke(asker.peer, stream) {
            return self.refuse(asker, Refusal::NotFound);
        }
        if bytes > EXTENT_BYTES_MAX || ordinal >= crate::limits::STREAM_EXTENTS_MAX as u64 {
            let most = crate::limits::STREAM_EXTENTS_MAX;
            let text = format!("extent {ordinal} of {bytes} bytes; a stream has {most} of up to {EXTENT_BYTES_MAX}");
            return self.refuse(asker, Refusal::Invalid(text));
        }
        self.try_allocate(Allocation { asker, stream, ordinal, bytes });
    }

    fn try_allocate(&mut self, wanted: Allocation) {
        if let Err(refusal) = self.may_allocate(wanted.stream, wanted.ordinal) {
            return self.refuse(wanted.asker, refusal);
        }
        if self.making.is_some() {
            return self.park(wanted);
        }
        match self.choose(wanted.bytes) {
            Choice::From(groups) => match groups.into_iter().find_map(|pg| self.grant_from(pg, &wanted)) {
                Some(grant) => self.reply(wanted.asker, DaemonReply::Allocated(grant)),
                None => self.refuse(wanted.asker, Refusal::Unavailable("extent ids are being reserved".into())),
            },
            Choice::Make(count) => match self.make_groups(count) {
                Ok(()) => self.park(wanted),
                Err(reason) => self.refuse(wanted.asker, Refusal::NoPlace(reason)),
            },
            Choice::No(refusal) => self.refuse(wanted.asker, refusal),
        }
    }

    fn park(&mut self, wanted: Allocation) {
        if self.allocations.len() < ALLOCATIONS_MAX {
            self.allocations.push(wanted);
        } else {
            self.refuse(wanted.asker, Refusal::Busy("placement groups are being made".into()));
        }
    }

    pub(super) fn retry_allocations(&mut self) {
        if self.making.is_none() {
            for wanted in std::mem::take(&mut self.allocations) {
                self.try_allocate(wanted);
            }
        }
    }

    fn choose(&mut self, bytes: u64) -> Choice {
        let (mut whole, mut gaps, mut reasons, mut starting) = (Vec::new(), Vec::new(), BTreeSet::new(), false);
        for (pg, group) in &self.groups {
            match group.owner.can_create() {
                Ok(_) if !self.has_room(group, bytes) => {
                    reasons.insert(format!("a member of placement group {pg} is full, or takes nothing new"));
                }
                Ok(false) => whole.push(*pg),
                Ok(true) => gaps.push(*pg),
                Err(reason) => {
                    starting |= self.is_young(group);
                    reasons.insert(format!("placement group {pg}: {reason}"));
                }
            }
        }
        if !whole.is_empty() {
            self.without_limping(&mut whole);
            self.dice.shuffle(&mut whole);
            return Choice::From(whole);
        }
        if starting {
            return Choice::No(Refusal::Unavailable("placement groups are being claimed".into()));
        }
        let making = self.groups_to_make();
        match making {
            Ok(count) if count > 0 => return Choice::Make(count),
            Ok(_) => {}
            Err(reason) => {
                reasons.insert(reason.to_string());
            }
        }
        if !gaps.is_empty() {
            self.without_limping(&mut gaps);
            self.dice.shuffle(&mut gaps);
            return Choice::From(gaps);
        }
        let few: Vec<String> = reasons.into_iter().take(8).collect();
        Choice::No(Refusal::NoPlace(few.join("; ")))
    }

    /// Leaves the groups of which no member limps, if there are any.
    fn without_limping(&self, groups: &mut Vec<PgId>) {
        let limps = |pg: &PgId| {
            let row = self.owner(*pg).and_then(Owner::row);
            row.is_some_and(|row| row.members.iter().any(|disk| self.limping.limps(*disk) || !self.may_be_given(*disk)))
        };
        if !groups.iter().all(limps) {
            groups.retain(|pg| !limps(pg));
        }
    }

    /// Whether every member that may get its fragment has room for it, as far as was told. What one that is away told last is no hindrance: its
    /// place stays empty for now.
    fn has_room(&self, group: &Group, bytes: u64) -> bool {
        let Some(row) = group.owner.row() else { return false };
        let Ok(spec) = row.code_spec() else { return false };
        let shard = Geometry::new(bytes, spec.k()).shard_bytes();
        let members = row.members.iter().filter_map(|disk| self.disks.get(disk));
        let mut rooms = members.filter(|disk| disk.health.is_healthy()).filter_map(super::disks::Disk::room);
        rooms.all(|room| room >= shard + ROOM_BESIDE_BYTES)
    }

    fn grant_from(&mut self, pg: PgId, wanted: &Allocation) -> Option<Grant> {
        let cell = self.cell.as_ref()?.0.cell;
        let group = self.groups.get_mut(&pg)?;
        let code = group.owner.row()?.code;
        let granted = group.owner.grant();
        self.touched.insert(pg);
        let granted = granted?;
        let places = granted.members.iter().map(|member| member.and_then(|disk| self.place(disk))).collect();
        self.granted(wanted.stream, wanted.ordinal, granted.attempt, granted.extent);
        Some(Grant { cell, extent: granted.extent, attempt: granted.attempt, token: granted.token, code, places })
    }

    /// Code of new groups, with the tolerance that bounds crowding.
    fn code_of_new_groups(&self) -> Result<(CodeSpec, usize), NoPlace> {
        // Also those that are silent for a moment: what is stored meanwhile keeps its code for good.
        let known = self.disks.values().filter(|disk| !disk.health.is_lost());
        let domains: BTreeSet<&str> =
            known.filter_map(|disk| Some(disk.domain.as_ref()?.at(self.config.fault_domain))).collect();
        let spec = match self.config.code {
            Some(spec) => spec,
            None => placement::choose_code(domains.len())?,
        };
        // A code that cannot be built tolerates nothing; making groups of it fails with the reason.
        Ok((spec, Code::new(&spec).map_or(0, |code| code.guaranteed_tolerance())))
    }

    /// How many new groups would help; none where there are too many already.
    fn groups_to_make(&mut self) -> Result<usize, NoPlace> {
        let candidates = self.candidates();
        let (spec, tolerance) = self.code_of_new_groups()?;
        let mut dice = self.dice.clone();
        placement::place(&candidates, spec.n(), tolerance, self.config.code.is_some(), &mut dice)?;
        let wanted = (candidates.len() * self.config.slots_per_disk as usize / spec.n()).max(1);
        if self.groups.is_empty() {
            return Ok(wanted);
        }
        Ok(usize::from(self.groups.len() < wanted * GROUPS_MOST))
    }

    fn make_groups(&mut self, count: usize) -> Result<(), String> {
        let Some((cell, _)) = self.cell.clone() else { return Err("the daemon is starting".into()) };
        let mut dice = self.dice.clone();
        let rows = {
            let (spec, tolerance) = self.code_of_new_groups().map_err(|reason| reason.to_string())?;
            Code::new(&spec).map_err(|error| error.to_string())?;
            let mut candidates = self
                .well_candidates(|well| placement::place(well, spec.n(), tolerance, false, &mut dice.clone()).is_ok());
            let first = self.groups.keys().next_back().map_or(1, |pg| pg.0.saturating_add(1));
            let mut rows = Vec::with_capacity(count);
            for number in (first..=u32::MAX).take(count) {
                let may_crowd = self.config.code.is_some();
                let placed = placement::place(&candidates, spec.n(), tolerance, may_crowd, &mut dice)
                    .map_err(|reason| reason.to_string())?;
                for candidate in &mut candidates {
                    candidate.slots += u32::from(placed.members.contains(&candidate.disk));
                }
                rows.push(new_row(PgId(number), cell.incarnation, &spec, placed, self.config.pg.id_block));
            }
            rows
        };
        self.dice = dice;
        let batches = rows.chunks(BATCH).map(<[PgRow]>::to_vec).collect();
        self.making = Some(Making { batches });
        self.making_onwards();
        Ok(())
    }

    fn making_token(&self) -> Token {
        let (incarnation, restore) = self.cell.as_ref().map_or((0, 0), |(cell, _)| (cell.incarnation, cell.restore));
        Token { incarnation, revision: 1, restore, claim: self.claim }
    }

    fn making_onwards(&mut self) {
        let Some((_, cell_revision)) = self.cell.clone() else { return };
        let token = self.making_token();
        let Some(making) = &self.making else { return };
        let Some(batch) = making.batches.front() else {
            self.making = None;
            return;
        };
        let mut txn = Txn::new().compare(key::cell(), cell_revision);
        for row in batch {
            match (encode_row(row), encode_row(&OwnerRow { token })) {
                (Ok(group), Ok(owner)) => {
                    txn = txn.compare(key::pg(row.pg), 0).compare(key::owner(row.pg), 0);
                    txn = txn.put(key::pg(row.pg), group).put(key::owner(row.pg), owner);
                }
                (Err(error), _) | (_, Err(error)) => {
                    return self.stop(format!("a new row cannot be written: {error}"));
                }
            }
        }
        self.txn(Op::Making, txn);
    }

    pub(super) fn making_written(&mut self, result: TxnResult) {
        if let TxnResult::Done { revision } = result {
            let batch = self.making.as_mut().and_then(|making| making.batches.pop_front()).unwrap_or_default();
            for row in batch {
                self.group_made(row, revision, revision);
            }
            return self.making_onwards();
        }
        self.after(self.retry_after(), Timer::Making);
    }

    /// Looks what the transaction did. It is repeated with the very same rows, so that it does not matter which try took effect.
    pub(super) fn making_again(&mut self) {
        let batch = self.making.as_ref().and_then(|making| making.batches.front());
        let Some(batch) = batch else { return };
        let keys = batch.iter().flat_map(|row| [key::pg(row.pg), key::owner(row.pg)]).collect();
        self.get(Op::Making, keys);
    }

    pub(super) fn making_read(&mut self, rows: Result<Vec<Option<Found>>, String>) {
        let Ok(rows) = rows else {
            return self.after(self.retry_after(), Timer::Making);
        };
        let token = self.making_token();
        if rows.iter().all(Option::is_none) {
            return self.making_onwards();
        }
        let ours = |found: &Option<Found>| {
            let owner = found.as_ref().and_then(|found| decode_row::<OwnerRow>(&found.value).ok());
            owner.is_some_and(|owner| owner.token == token)
        };
        if !rows.chunks(2).all(|pair| pair.get(1).is_some_and(ours)) {
            return self.stop(Stopped::Rival);
        }
        let batch = self.making.as_mut().and_then(|making| making.batches.pop_front()).unwrap_or_default();
        for (row, pair) in batch.into_iter().zip(rows.chunks(2)) {
            if let [Some(group), Some(owner)] = pair {
                self.group_made(row, group.revision, owner.revision);
            }
        }
        self.making_onwards();
    }

    fn group_made(&mut self, row: PgRow, revision: u64, owner_revision: u64) {
        let Some((cell, cell_revision)) = self.cell.clone() else { return };
        let (pg, members) = (row.pg, row.members.len());
        let code = row.code_spec().map(|spec| spec.to_string()).unwrap_or_default();
        let crowded = row.crowded;
        let row = Versioned { row, revision };
        let token = self.making_token();
        let owner = Owner::created(cell, cell_revision, row, owner_revision, token, self.config.pg);
        self.add_group(pg, owner);
        self.tell_reachability(pg);
        let mut fields = vec![("pg", pg.to_string()), ("code", code.clone())];
        let mut text = format!("placement group {pg} of {members} disks, {code}");
        if crowded {
            text.push_str("; some share a fault domain");
            fields.push(("crowded", "true".into()));
        }
        self.note("pg_created", text, fields);
    }
}

fn new_row(pg: PgId, incarnation: u32, spec: &CodeSpec, placed: placement::Placed, id_block: u64) -> PgRow {
    PgRow {
        pg,
        incarnation,
        seq: 1,
        epoch: 1,
        code: spec.to_descriptor(),
        members: placed.members,
        joining: BTreeMap::new(),
        behind: BTreeSet::new(),
        state: PgState::Open,
        crowded: placed.crowded,
        next_id: id_block,
        count: 0,
        sum: Sum::default(),
        trim: 0,
        entries: Vec::new(),
    }
}
