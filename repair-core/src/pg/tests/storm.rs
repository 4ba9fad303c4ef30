//! Random schedules: every message lost, late, twice or in any order, members and owners failing, transactions of every fate.
//! After each step the invariants, and in the end, with the weather good again, everything decided and whole.

use super::world::{Fate, Flight, World, disk, record_of};
use crate::catalog::{PgState, Txn};
use crate::id::{DiskId, ExtentKey, RecordHash};
use crate::pg::{CreateResult, DeleteResult, Granted, PgEvent, PgOutcome, Succession, Ticket};
use crate::rng::Dice;
use crate::time::Millis;
use crate::wire::CallError;
use crate::wire::node::FragmentKey;
use std::collections::{BTreeMap, BTreeSet};

struct Storm {
    world: World,
    dice: Dice,
    spares: u128,
    /// Damaged by the tester and not rebuilt yet.
    excused: BTreeSet<(DiskId, ExtentKey)>,
    grants: BTreeMap<Ticket, Granted>,
    successions: BTreeMap<Ticket, (Succession, String)>,
    superseded: u64,
    released: u64,
    asked_to_delete: BTreeSet<ExtentKey>,
    seen: usize,
    committed: u64,
}

impl Storm {
    fn new(seed: u64, code: &str) -> Self {
        let spares = 2;
        let (world, dice) = (World::new(code, spares), Dice::new(seed));
        Self {
            world,
            dice,
            spares,
            excused: BTreeSet::new(),
            grants: BTreeMap::new(),
            successions: BTreeMap::new(),
            superseded: 0,
            released: 0,
            asked_to_delete: BTreeSet::new(),
            seen: 0,
            committed: 0,
        }
    }

    fn owner(&mut self) -> usize {
        // Mostly the last one, but earlier ones do not know that they were deposed.
        let last = self.world.owners.len() - 1;
        if self.dice.chance(1, 5) { self.dice.below(last as u64 + 1) as usize } else { last }
    }

    fn disks(&self) -> u128 {
        self.world.row().members.len() as u128 + self.spares
    }

    fn any_disk(&mut self) -> DiskId {
        disk(1 + u128::from(self.dice.below(self.disks() as u64)))
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..70 => self.deliver_one(),
            70..80 => self.time_goes_by(),
            80..88 => self.client(),
            88..96 => self.coordinator(),
            _ => self.fault(),
        }
        self.look();
    }

    fn deliver_one(&mut self) {
        let Some(at) = Some(self.world.flights.len()).filter(|len| *len > 0) else { return self.time_goes_by() };
        let at = self.dice.below(at as u64) as usize;
        let flight = self.world.flights.remove(at);
        match flight {
            Flight::Txn { owner, op, txn } => {
                let fates = [
                    Fate::AppliedUnknown,
                    Fate::LostUnknown,
                    Fate::LateUnknown,
                    Fate::AppliedRefused,
                    Fate::LostRefused,
                ];
                let rough = self.dice.chance(1, 6);
                let fate = if rough { *self.dice.pick(&fates).unwrap() } else { Fate::Fair };
                self.world.deliver_txn(owner, op, txn, fate);
            }
            Flight::Request { owner, call, disk, request } => {
                if self.dice.chance(1, 20) {
                    self.world.flights.push(Flight::Ghost { disk, request: request.clone() });
                }
                let silent = |error| Flight::Reply { owner, call, result: Err(error) };
                if self.world.down.contains(&disk) {
                    let error = if self.dice.chance(1, 2) { CallError::Unreachable } else { CallError::Timeout };
                    self.world.deliver(silent(error));
                } else if self.dice.chance(1, 30) {
                    self.world.deliver(silent(CallError::Timeout));
                } else {
                    let reply = self.world.fakes.get_mut(&disk).unwrap().serve(&request);
                    let lost = self.dice.chance(1, 30);
                    let result = if lost { Err(CallError::Lost) } else { Ok(reply) };
                    // The answer takes its own way.
                    self.world.flights.push(Flight::Reply { owner, call, result });
                }
            }
            Flight::Get { owner, op, .. } if self.dice.chance(1, 10) => {
                let rows = Err("no answer".to_owned());
                self.world.tell(owner, PgEvent::Rows { op, rows });
            }
            other => self.world.deliver(other),
        }
    }

    fn time_goes_by(&mut self) {
        self.world.now = self.world.now + Millis(1 + self.dice.below(400));
        for owner in 0..self.world.owners.len() {
            if self.world.wakes[owner].is_some_and(|at| at <= self.world.now) {
                self.world.wakes[owner] = None;
                self.world.tell(owner, PgEvent::Tick);
            }
        }
    }

    fn client(&mut self) {
        let owner = self.owner();
        if self.dice.chance(1, 4) {
            self.succeed(owner);
        } else if self.dice.chance(2, 3) {
            let Some(grant) = self.world.owners[owner].grant() else { return };
            self.world.collect(owner);
            if self.dice.chance(1, 12) {
                self.world.tell(owner, PgEvent::Forsake { attempt: grant.attempt });
                return;
            }
            self.world.stage(&grant);
            let bad = self.dice.chance(1, 12);
            let beside = if bad { Txn::new().compare(b"name/none".to_vec(), 5) } else { Txn::new() };
            let ticket = self.world.ask_create(owner, &grant, beside);
            self.grants.insert(ticket, grant);
        } else {
            let extents: Vec<ExtentKey> = self.world.truth.keys().copied().collect();
            let Some(extent) = self.dice.pick(&extents).copied() else { return };
            self.asked_to_delete.insert(extent);
            self.world.delete(owner, extent);
        }
    }

    /// An extent gets another code: fewer fragments, or as many as the group has members.
    fn succeed(&mut self, owner: usize) {
        let extents: Vec<ExtentKey> = self.world.owners[owner].list().keys().copied().collect();
        let Some(extent) = self.dice.pick(&extents).copied() else { return };
        let code = if self.dice.chance(1, 2) { "replicate:3".to_owned() } else { self.world.code() };
        let Some(succession) = self.world.owners[owner].grant_successor(extent) else { return };
        self.world.collect(owner);
        let ticket = self.world.ask_supersede(owner, &succession, &code);
        self.successions.insert(ticket, (succession, code));
    }

    fn coordinator(&mut self) {
        let owner = self.owner();
        match self.dice.below(8) {
            0..4 => {
                self.world.repair(owner);
            }
            4 => {
                let row = self.world.row();
                let to = self.any_disk();
                let index = self.dice.below(row.members.len() as u64) as u16;
                let bad = self.world.down.contains(&row.members[usize::from(index)]);
                if (bad || self.dice.chance(1, 6)) && !self.world.down.contains(&to) {
                    self.world.tell(owner, PgEvent::Join { index, disk: to });
                }
            }
            5 if self.dice.chance(1, 3) => {
                let index = self.dice.below(self.world.row().members.len() as u64) as u16;
                self.world.tell(owner, PgEvent::CancelJoin { index });
            }
            _ => {
                // What it believes of a disk may be wrong.
                let disk = self.any_disk();
                let down = self.world.down.contains(&disk) != self.dice.chance(1, 10);
                let event = if down { PgEvent::Unreachable { disk } } else { PgEvent::Reachable { disk } };
                self.world.tell(owner, event);
            }
        }
    }

    fn fault(&mut self) {
        let at = self.any_disk();
        match self.dice.below(10) {
            0..3 => {
                // As many as the code can lose at once.
                if self.world.down.len() < 2 {
                    self.world.down.insert(at);
                }
            }
            3..7 => {
                let down: Vec<DiskId> = self.world.down.iter().copied().collect();
                if let Some(back) = self.dice.pick(&down) {
                    self.world.down.remove(back);
                }
            }
            7 => self.damage(at),
            8 => self.lose_journal(at),
            _ => {
                if self.world.owners.len() < 5 && self.dice.chance(1, 2) {
                    self.world.claim();
                }
            }
        }
    }

    /// A fragment that its extent can do without.
    fn damage(&mut self, at: DiskId) {
        // Of one that waits for its release nothing is taken that was counted: what the release says would be so no more.
        let names = self.world.fakes[&at].names();
        let listed = |name: &&FragmentKey| {
            let extent = name.extent;
            self.world.shape(extent).names(name) && !self.world.former.contains_key(&extent)
        };
        let Some(name) = names.keys().find(listed).copied() else { return };
        let (extent, row, shape) = (name.extent, self.world.row(), self.world.shape(name.extent));
        let sound = |(index, disk): &(u16, &DiskId)| {
            self.world.fakes[disk].names().get(&shape.place(extent, *index)) == Some(&false)
        };
        let left = (0u16..).zip(&row.members).filter(sound).count();
        let k = if usize::from(shape.fragments) == row.members.len() { row.code_spec().unwrap().k() } else { 1 };
        if left <= k {
            return;
        }
        self.world.fakes.get_mut(&at).unwrap().rot(name);
        self.excused.insert((at, extent));
        for owner in 0..self.world.owners.len() {
            self.world.tell(owner, PgEvent::Damaged { disk: at, extent });
        }
    }

    /// One at a time, and only while all others that are not behind stand at a row: what cannot be lost at once is not.
    fn lose_journal(&mut self, at: DiskId) {
        let row = self.world.row();
        let sound = |disk: &DiskId| {
            let fake = &self.world.fakes[disk];
            !fake.lost && fake.heard.as_ref().is_some_and(|heard| heard.order() == row.order())
        };
        let others = row.members.iter().filter(|disk| **disk != at).all(sound);
        if others && row.behind.is_empty() && row.index_of(at).is_some() {
            let fake = self.world.fakes.get_mut(&at).unwrap();
            (fake.lost, fake.heard, fake.list) = (true, None, BTreeMap::new());
            fake.prepared.clear();
            (fake.shapes, fake.superseded, fake.prepared_shapes) = Default::default();
        }
    }

    /// Whatever was told must be so, now and for ever.
    fn look(&mut self) {
        self.world.check(&self.excused);
        for at in self.seen..self.world.outcomes.len() {
            let (owner, outcome) = &self.world.outcomes[at];
            match outcome {
                PgOutcome::Created { ticket, result: CreateResult::Committed { .. } } => {
                    let extent = self.world.tickets[ticket];
                    let known = self.world.truth.contains_key(&extent) || self.world.removed.contains(&extent);
                    assert!(known, "acknowledged and not on file: {extent}");
                    self.committed += 1;
                }
                PgOutcome::Deleted { ticket, result: DeleteResult::Deleted | DeleteResult::NotListed } => {
                    let extent = self.world.tickets[ticket];
                    assert!(!self.world.truth.contains_key(&extent), "deleted and on file: {extent}");
                }
                PgOutcome::Superseded { result: CreateResult::Committed { .. }, .. } => self.superseded += 1,
                PgOutcome::Superseded { ticket, result: CreateResult::Failed { .. } } => {
                    let (extent, (succession, code)) = (self.world.tickets[ticket], &self.successions[ticket]);
                    let record = record_of(extent, code, 2, succession.generation);
                    let listed = self.world.truth.get(&extent);
                    assert_ne!(listed, Some(&RecordHash::of(&record)), "told failed, and {extent} has it");
                }
                PgOutcome::Released { .. } => self.released += 1,
                PgOutcome::CatalogWentBack { reason } => panic!("it did not: {reason}"),
                PgOutcome::Frozen { reason } => panic!("owner {owner}: nothing was lost for good: {reason}"),
                _ => {}
            }
        }
        self.seen = self.world.outcomes.len();
        assert!(self.world.removed.is_subset(&self.asked_to_delete), "deleted without being asked to");
        for extent in self.world.removed.iter() {
            assert!(!self.world.truth.contains_key(extent), "deleted, and back: {extent}");
        }
    }

    /// The weather is good: all disks up, no message lost, one owner.
    fn calm(&mut self) {
        self.world.down.clear();
        // Claims under way end first: the last one to claim owns the group.
        self.world.run_for(5_000);
        let owner = self.world.claim();
        for number in 1..=self.disks() {
            self.world.tell(owner, PgEvent::Reachable { disk: disk(number) });
        }
        for _ in 0..40 {
            self.world.run_for(3_000);
            self.look();
            let mut rounds = 0;
            while self.world.repair(owner) > 0 {
                rounds += 1;
                assert!(rounds < 200, "repair without end");
                self.world.run_for(100);
            }
        }
        self.succeed_in_good_weather(owner);
        let row = self.world.row();
        let waits = self.world.owners[owner].waits();
        assert_eq!((row.state, row.behind.len(), row.joining.len()), (PgState::Open, 0, 0), "{row:?} {waits:?}");
        assert!(row.entries.is_empty(), "{row:?}");
        assert_eq!(self.world.owners[owner].list(), &self.world.truth);
        self.excused.clear();
        self.look();
        for (index, disk) in row.members.iter().enumerate() {
            let fake = &self.world.fakes[disk];
            assert_eq!(fake.list, self.world.truth);
            assert!(fake.prepared.is_empty(), "{:?}", fake.prepared);
            for extent in self.world.truth.keys() {
                let name = self.world.shape(*extent).fragment(*extent, index as u16);
                let sound = name.is_none_or(|name| fake.names().get(&name) == Some(&false));
                assert!(sound, "{disk} {extent} {name:?}");
            }
            // Everything that was superseded is released, and nobody who remembers all has a file that no record names.
            let stale = |name: &FragmentKey| !self.world.shape(name.extent).names(name);
            let strays: Vec<_> = fake.names().into_keys().filter(stale).collect();
            assert!(strays.is_empty() || fake.adopted, "{disk} {strays:?}");
            assert!(fake.superseded.is_empty(), "{disk}");
        }
        self.settle_unknowns(owner);
    }

    /// One extent more gets another code, and all of that comes to its end.
    fn succeed_in_good_weather(&mut self, owner: usize) {
        let Some(extent) = self.world.truth.keys().next().copied() else { return };
        let Some(succession) = self.world.owners[owner].grant_successor(extent) else { return };
        self.world.collect(owner);
        let code = "replicate:3".to_owned();
        let ticket = self.world.ask_supersede(owner, &succession, &code);
        self.successions.insert(ticket, (succession, code));
        self.world.run_for(60_000);
        self.look();
        let committed = CreateResult::Committed { degraded: false };
        assert_eq!(self.world.superseded(ticket), Some(committed));
        assert!(self.world.former.is_empty(), "{:?}", self.world.owners[owner].waits());
    }

    /// Whoever was left without an answer gets one now.
    fn settle_unknowns(&mut self, owner: usize) {
        let open: Vec<(Ticket, Granted)> = self.grants.iter().map(|(ticket, grant)| (*ticket, grant.clone())).collect();
        for (ticket, grant) in open {
            let first = self.world.created(ticket).expect("every ticket is answered");
            if !matches!(first, CreateResult::Unknown { .. }) || self.world.removed.contains(&grant.extent) {
                continue;
            }
            let again = self.world.ask_create(owner, &grant, Txn::new());
            self.world.run_for(10_000);
            let listed = self.world.truth.contains_key(&grant.extent);
            match self.world.created(again) {
                Some(CreateResult::Committed { .. }) => assert!(listed),
                Some(CreateResult::Failed { .. }) => assert!(!listed),
                other => panic!("{other:?} in good weather, listed: {listed}"),
            }
        }
        self.look();
    }
}

fn run(seed: u64, code: &str, steps: usize) -> (u64, u64, u64, u64) {
    let mut storm = Storm::new(seed, code);
    for _ in 0..steps {
        storm.step();
    }
    storm.calm();
    (storm.committed, storm.world.row().seq, storm.superseded, storm.released)
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_failed_takes_effect() {
    let (mut committed, mut superseded, mut released) = (0, 0, 0);
    for seed in 0..120 {
        let code = ["rs:3+2", "rs:2+2", "rs:4+2"][seed as usize % 3];
        let result = std::panic::catch_unwind(|| run(seed, code, 2_500));
        let ended = result.unwrap_or_else(|_| panic!("seed {seed}, {code}"));
        (committed, superseded, released) = (committed + ended.0, superseded + ended.2, released + ended.3);
    }
    assert!(superseded > 50 && released > 50, "{superseded} superseded, {released} released");
    assert!(committed > 1_000, "only {committed} extents came through: the storm tests nothing");
}

#[test]
fn the_same_seed_is_the_same_storm() {
    assert_eq!(run(7, "rs:3+2", 1_500), run(7, "rs:3+2", 1_500));
}
