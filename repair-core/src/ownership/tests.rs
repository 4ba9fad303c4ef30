//! Daemons beside each other on one catalog that is honest, silent or late, each with a clock of its own.

use super::*;
use crate::catalog::TxnResult;
use crate::catalog::memory::MemoryCatalog;

const TTL: u64 = 10_000;

/// What becomes of what is asked of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Told,
    /// Done, and nobody hears so.
    Untold,
    /// Never done; answered with silence.
    Lost,
    /// Silence first, done so much later.
    Late(u64),
    /// Done by the first of two sendings.
    Twice,
    /// Neither done nor answered.
    Void,
}

#[derive(Clone, Debug)]
enum Coming {
    Event(usize, LeaseEvent),
    Apply(Txn),
}

struct Daemon {
    machine: Ownership,
    /// Its clock is so much ahead of the others'.
    ahead: u64,
    wake: Option<u64>,
    outcomes: Vec<LeaseOutcome>,
    paused_until: u64,
}

struct World {
    now: u64,
    catalog: MemoryCatalog,
    daemons: Vec<Daemon>,
    coming: Vec<(u64, u64, Coming)>,
    number: u64,
    latency: u64,
    fate: Box<dyn FnMut(&LeaseEffect) -> Fate>,
}

fn config(name: &str) -> LeaseConfig {
    LeaseConfig { daemon: name.into(), ttl: Millis(TTL), exclusive: false }
}

impl World {
    fn new() -> Self {
        let (catalog, fate) = (MemoryCatalog::default(), Box::new(|_: &LeaseEffect| Fate::Told));
        Self { now: 1, catalog, daemons: Vec::new(), coming: Vec::new(), number: 0, latency: 5, fate }
    }

    fn with(names: &[&str]) -> Self {
        let mut world = Self::new();
        for name in names {
            world.start(config(name), 0);
        }
        world
    }

    fn start(&mut self, config: LeaseConfig, ahead: u64) -> usize {
        let at = self.daemons.len();
        let machine = Ownership::new(config, ClaimId(at as u128 + 100), Dice::new(at as u64 + 7));
        self.daemons.push(Daemon { machine, ahead, wake: None, outcomes: Vec::new(), paused_until: 0 });
        self.tell(at, LeaseEvent::Begin);
        at
    }

    fn later(&mut self, at: u64, coming: Coming) {
        self.number += 1;
        self.coming.push((at, self.number, coming));
        self.coming.sort_by_key(|(at, number, _)| (*at, *number));
    }

    fn tell(&mut self, at: usize, event: LeaseEvent) {
        let daemon = &mut self.daemons[at];
        if daemon.paused_until > self.now {
            let until = daemon.paused_until;
            return self.later(until, Coming::Event(at, event));
        }
        daemon.machine.handle(Time::from_millis(self.now + daemon.ahead), event);
        while let Some(effect) = self.daemons[at].machine.poll_effect() {
            self.perform(at, effect);
        }
    }

    fn perform(&mut self, at: usize, effect: LeaseEffect) {
        let (soon, fate) = (self.now + self.latency, (self.fate)(&effect));
        match effect {
            LeaseEffect::WakeAt(time) => {
                let daemon = &mut self.daemons[at];
                daemon.wake = Some(time.as_millis().saturating_sub(daemon.ahead));
            }
            LeaseEffect::Outcome(outcome) => self.daemons[at].outcomes.push(outcome),
            LeaseEffect::Read { op } => {
                let row = match fate {
                    Fate::Void => return,
                    Fate::Told | Fate::Twice => Ok(self.catalog.get(&key::lease())),
                    _ => Err("no answer".into()),
                };
                self.later(soon, Coming::Event(at, LeaseEvent::Row { op, row }));
            }
            LeaseEffect::Write { op, txn } => {
                let result = match fate {
                    Fate::Void => return,
                    Fate::Told => self.catalog.apply(&txn),
                    Fate::Untold => {
                        self.catalog.apply(&txn);
                        TxnResult::Unknown
                    }
                    Fate::Lost => TxnResult::Unknown,
                    Fate::Late(by) => {
                        self.later(self.now + by, Coming::Apply(txn));
                        TxnResult::Unknown
                    }
                    Fate::Twice => {
                        self.catalog.apply(&txn);
                        TxnResult::Refused
                    }
                };
                self.later(soon, Coming::Event(at, LeaseEvent::Txn { op, result }));
            }
        }
    }

    /// The next thing that happens, up to `until`; false where nothing does.
    fn step(&mut self, until: u64) -> bool {
        let ready = |daemon: &Daemon| daemon.wake.map(|wake| wake.max(daemon.paused_until));
        let wake = (0..self.daemons.len()).filter_map(|at| Some((ready(&self.daemons[at])?, at))).min();
        let event = self.coming.first().map(|(at, ..)| *at);
        let next = [wake.map(|(at, _)| at), event].into_iter().flatten().min().filter(|at| *at <= until);
        let Some(next) = next else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        if event.is_some_and(|at| at <= next) {
            match self.coming.remove(0).2 {
                Coming::Event(at, event) => self.tell(at, event),
                Coming::Apply(txn) => drop(self.catalog.apply(&txn)),
            }
        } else if let Some((_, at)) = wake {
            self.daemons[at].wake = None;
            self.tell(at, LeaseEvent::Tick);
        }
        true
    }

    fn run(&mut self, millis: u64) {
        let until = self.now + millis;
        while self.step(until) {}
    }

    fn may_begin(&self, at: usize) -> bool {
        let Daemon { machine, ahead, paused_until, .. } = &self.daemons[at];
        *paused_until <= self.now && machine.may_begin(Time::from_millis(self.now + ahead))
    }

    fn workers(&self) -> Vec<usize> {
        (0..self.daemons.len()).filter(|at| self.may_begin(*at)).collect()
    }

    fn row(&self) -> LeaseRow {
        decode_row(&self.catalog.get(&key::lease()).unwrap().value).unwrap()
    }

    fn put(&mut self, row: &LeaseRow) {
        self.put_bytes(encode_row(row).unwrap());
    }

    fn put_bytes(&mut self, bytes: Vec<u8>) {
        self.catalog.apply(&Txn::new().put(key::lease(), bytes));
    }

    fn last(&self, at: usize) -> Option<&LeaseOutcome> {
        self.daemons[at].outcomes.last()
    }

    /// Nothing happens to a daemon any more.
    fn kill(&mut self, at: usize) {
        self.daemons[at].paused_until = u64::MAX;
    }

    fn fates(&mut self, fate: impl FnMut(&LeaseEffect) -> Fate + 'static) {
        self.fate = Box::new(fate);
    }
}

fn taken(right: Right, before: Option<&str>) -> LeaseOutcome {
    LeaseOutcome::Taken { right, before: before.map(str::to_owned) }
}

fn ended(end: LeaseEnd) -> Option<LeaseOutcome> {
    Some(LeaseOutcome::Ended(end))
}

fn writes_fail(fate: Fate) -> impl FnMut(&LeaseEffect) -> Fate {
    move |effect| if matches!(effect, LeaseEffect::Write { .. }) { fate } else { Fate::Told }
}

#[test]
fn the_first_one_holds_it_and_goes_on_renewing_while_the_others_stand_by() {
    let mut world = World::with(&["a", "b", "c"]);
    world.run(20 * TTL);
    assert_eq!(world.workers(), [0]);
    assert_eq!(world.daemons[0].outcomes, [taken(Right::Free, None)]);
    assert!(world.daemons[1].outcomes.is_empty() && world.daemons[2].outcomes.is_empty());
    let row = world.row();
    assert_eq!((row.daemon.as_str(), row.claim, row.released), ("a", ClaimId(100), false));
    assert!((70..=81).contains(&row.counter), "four renewals a TTL: {}", row.counter);
    let wait = world.daemons[1].machine.wait().unwrap();
    assert!(wait.starts_with("standby: daemon a holds the lease, unchanged for"), "{wait}");
    assert_eq!(world.daemons[0].machine.wait(), None);
}

#[test]
fn when_the_holder_dies_a_standby_takes_over_after_the_ttl_and_within_two() {
    let mut world = World::with(&["a", "b", "c"]);
    world.daemons[1].ahead = 1_000_000_000;
    world.run(3 * TTL);
    world.kill(0);
    let (died, last) = (world.now, world.row().counter);
    world.run(TTL * 3 / 4);
    assert_eq!(world.row().counter, last, "taken before the TTL was over");
    world.run(2 * TTL - TTL * 3 / 4);
    let workers = world.workers();
    assert!(workers == [1] || workers == [2], "{workers:?}, {} ms after the end", world.now - died);
    assert_eq!(world.last(workers[0]), Some(&taken(Right::Silent, Some("a"))));
    world.run(10 * TTL);
    assert_eq!(world.workers(), workers, "and stays the only one");
}

#[test]
fn one_that_was_seen_to_renew_is_never_overtaken_however_late_its_renewals_are_seen() {
    // Each question of the standby is answered half a TTL late, nearly.
    let mut world = World::with(&["a", "b"]);
    world.run(TTL);
    world.latency = TTL * 2 / 5;
    world.run(50 * TTL);
    assert_eq!(world.daemons[1].outcomes, []);
    assert_eq!(world.row().daemon, "a");
}

#[test]
fn a_holder_that_stood_still_begins_nothing_and_ends_when_it_finds_the_other() {
    let mut world = World::with(&["a", "b"]);
    world.run(TTL);
    world.daemons[0].paused_until = world.now + 5 * TTL;
    world.run(4 * TTL);
    assert_eq!(world.workers(), [1]);
    let until = world.daemons[0].paused_until;
    assert!(!world.daemons[0].machine.may_begin(Time::from_millis(until)), "the first it does is to begin nothing");
    world.run(3 * TTL);
    assert_eq!(world.last(0).cloned(), ended(LeaseEnd::Superseded { by: "b".into() }));
    assert_eq!(world.workers(), [1]);
}

#[test]
fn a_lease_that_cannot_be_renewed_lapses_and_comes_back_where_nobody_took_it() {
    let mut world = World::with(&["a"]);
    world.run(TTL);
    world.fates(writes_fail(Fate::Lost));
    world.run(TTL);
    assert_eq!(world.last(0), Some(&LeaseOutcome::Lapsed));
    assert!(!world.may_begin(0) && world.daemons[0].machine.is_held());
    assert!(world.daemons[0].machine.wait().unwrap().contains("could not be renewed"));
    world.fates(|_| Fate::Told);
    world.run(TTL / 2);
    assert_eq!(world.last(0), Some(&LeaseOutcome::Regained));
    assert_eq!(world.workers(), [0]);
}

#[test]
fn nothing_is_begun_after_three_quarters_of_a_ttl_without_a_renewal() {
    let mut world = World::with(&["a"]);
    world.run(TTL);
    world.fates(|_| Fate::Void);
    let sent = world.row().counter;
    while world.row().counter == sent && world.may_begin(0) {
        assert!(world.step(world.now + TTL));
    }
    // The last renewal was sent at most a quarter of a TTL before.
    assert!(world.now <= 1 + TTL + TTL * 3 / 4, "{}", world.now);
    assert_eq!(world.last(0), Some(&LeaseOutcome::Lapsed));
}

#[test]
fn what_became_of_a_write_is_read_and_never_assumed() {
    for fate in [Fate::Untold, Fate::Twice, Fate::Late(TTL / 40), Fate::Late(TTL / 3)] {
        let mut world = World::with(&["a", "b"]);
        let mut dice = Dice::new(3);
        world.fates(move |effect| match effect {
            LeaseEffect::Write { .. } if dice.chance(3, 4) => fate,
            _ => Fate::Told,
        });
        world.run(40 * TTL);
        assert_eq!(world.workers().len(), 1, "{fate:?}");
        assert!(world.row().counter > 40, "{fate:?}: {}", world.row().counter);
    }
    let mut world = World::with(&["a"]);
    world.fates(writes_fail(Fate::Lost));
    world.run(5 * TTL);
    assert!(world.daemons[0].outcomes.is_empty() && world.catalog.is_empty(), "a silent taking is none");
}

#[test]
fn a_hand_over_waits_for_work_and_the_next_takes_it_at_once() {
    let mut world = World::with(&["a", "b"]);
    world.run(TTL);
    world.tell(0, LeaseEvent::HandOver);
    assert!(!world.may_begin(0) && world.daemons[0].machine.is_handing_over());
    world.run(TTL / 2);
    assert_eq!(world.row().daemon, "a", "work is still under way, and the lease renewed");
    assert!(!world.row().released);
    world.tell(0, LeaseEvent::WorkEnded);
    world.run(TTL / 2);
    assert_eq!(world.last(0).cloned(), ended(LeaseEnd::HandedOver));
    assert_eq!(world.last(1), Some(&taken(Right::Released, Some("a"))));
    assert_eq!(world.workers(), [1]);
}

#[test]
fn a_hand_over_ends_in_bounded_time_whatever_work_and_catalog_do() {
    let mut world = World::with(&["a"]);
    world.run(TTL);
    world.tell(0, LeaseEvent::HandOver);
    world.run(TTL + TTL / 4);
    assert!(world.row().released, "work that does not end is forsaken");
    for fate in [Fate::Lost, Fate::Void, Fate::Untold, Fate::Twice] {
        let mut world = World::with(&["a"]);
        world.run(TTL);
        world.fates(writes_fail(fate));
        world.tell(0, LeaseEvent::HandOver);
        world.tell(0, LeaseEvent::WorkEnded);
        world.run(TTL + 1);
        assert_eq!(world.last(0).cloned(), ended(LeaseEnd::HandedOver), "{fate:?}");
        assert_eq!(world.row().released, !matches!(fate, Fate::Lost | Fate::Void), "{fate:?}");
    }
}

/// What a machine wants, by hand: its last question, and when it wants to be woken.
fn wants(machine: &mut Ownership) -> (Option<LeaseEffect>, Option<Time>) {
    let (mut asked, mut wake) = (None, None);
    while let Some(effect) = machine.poll_effect() {
        match effect {
            LeaseEffect::WakeAt(at) => wake = Some(at),
            effect @ (LeaseEffect::Read { .. } | LeaseEffect::Write { .. }) => asked = Some(effect),
            LeaseEffect::Outcome(_) => {}
        }
    }
    (asked, wake)
}

fn answer(machine: &mut Ownership, at: u64, op: LeaseOp, row: &LeaseRow, revision: u64) {
    let found = Found { key: key::lease(), value: encode_row(row).unwrap(), revision };
    machine.handle(Time::from_millis(at), LeaseEvent::Row { op, row: Ok(Some(found)) });
}

#[test]
fn silence_counts_to_the_moment_of_the_question_not_of_its_answer() {
    let row = LeaseRow { daemon: "b".into(), claim: ClaimId(9), ttl: Millis(TTL), counter: 1, released: false };
    let mut machine = Ownership::new(config("a"), ClaimId(1), Dice::new(1));
    machine.handle(Time::ZERO, LeaseEvent::Begin);
    let mut now = 0;
    loop {
        let (Some(LeaseEffect::Read { op }), _) = wants(&mut machine) else { panic!("it does not look") };
        // The last look before the TTL is over is answered when it is over for long.
        let late = now > TTL * 7 / 10;
        let answered = if late { now + TTL * 9 / 20 } else { now };
        answer(&mut machine, answered, op, &row, 5);
        let (asked, wake) = wants(&mut machine);
        assert_eq!(asked, None, "taken by what was known at {now}");
        if late {
            return;
        }
        now = wake.unwrap().as_millis();
        machine.handle(Time::from_millis(now), LeaseEvent::Tick);
    }
}

#[test]
fn of_two_renewals_without_an_answer_the_first_may_be_the_one_that_counts() {
    let mut machine = Ownership::new(config("a"), ClaimId(1), Dice::new(1));
    let at = Time::from_millis;
    machine.handle(at(0), LeaseEvent::Begin);
    let (Some(LeaseEffect::Read { op }), _) = wants(&mut machine) else { panic!() };
    machine.handle(at(0), LeaseEvent::Row { op, row: Ok(None) });
    let (Some(LeaseEffect::Write { op, .. }), _) = wants(&mut machine) else { panic!() };
    machine.handle(at(0), LeaseEvent::Txn { op, result: TxnResult::Done { revision: 1 } });
    let row = |counter| {
        let (daemon, claim) = ("a".into(), ClaimId(1));
        LeaseRow { daemon, claim, ttl: Millis(TTL), counter, released: false }
    };
    // The first renewal is not there yet when the row is read, so it is sent again; then it is.
    let mut now = wants(&mut machine).1.unwrap();
    machine.handle(now, LeaseEvent::Tick);
    let mut sent = Vec::new();
    for seen in [1, 2] {
        let (Some(LeaseEffect::Write { op, .. }), _) = wants(&mut machine) else { panic!("no renewal") };
        sent.push(now);
        machine.handle(now, LeaseEvent::Txn { op, result: TxnResult::Unknown });
        now = wants(&mut machine).1.unwrap() + Millis(500);
        machine.handle(now, LeaseEvent::Tick);
        let (Some(LeaseEffect::Read { op }), _) = wants(&mut machine) else { panic!("it does not read") };
        answer(&mut machine, now.as_millis(), op, &row(seen), seen);
    }
    let limit = Millis(TTL * 3 / 4);
    assert!(machine.may_begin(sent[0] + Millis(limit.0 - 1)));
    assert!(sent[0] < sent[1] && !machine.may_begin(sent[0] + limit), "good from {} on", sent[1]);
}

#[test]
fn a_lease_that_another_has_taken_when_nobody_knew_yet_was_handed_over() {
    let mut world = World::with(&["a"]);
    world.run(TTL);
    world.fates(writes_fail(Fate::Untold));
    world.tell(0, LeaseEvent::HandOver);
    world.tell(0, LeaseEvent::WorkEnded);
    let row = world.row();
    assert!(row.released);
    world.put(&LeaseRow { daemon: "b".into(), claim: ClaimId(9), released: false, ..row });
    world.run(TTL / 2);
    assert_eq!(world.last(0).cloned(), ended(LeaseEnd::HandedOver));
}

#[test]
fn a_daemon_takes_its_own_lease_back_at_once_but_not_one_that_it_let_go_of() {
    let mut world = World::with(&["a", "b"]);
    world.run(TTL);
    world.kill(0);
    let again = world.start(config("a"), 0);
    world.run(100);
    assert_eq!(world.last(again), Some(&taken(Right::Own, Some("a"))));
    world.run(TTL);
    world.kill(1);
    world.tell(again, LeaseEvent::HandOver);
    world.tell(again, LeaseEvent::WorkEnded);
    world.run(100);
    let third = world.start(config("a"), 0);
    world.run(TTL - 200);
    assert_eq!(world.last(third), None, "others come first");
    world.run(TTL);
    assert_eq!(world.last(third), Some(&taken(Right::Silent, Some("a"))));
}

#[test]
fn on_a_catalog_of_its_own_a_daemon_begins_at_once_and_writes_nothing_more() {
    let mut world = World::with(&["b"]);
    world.run(TTL);
    world.kill(0);
    let alone = world.start(LeaseConfig { exclusive: true, ..config("a") }, 0);
    world.run(100);
    assert_eq!(world.last(alone), Some(&taken(Right::Alone, Some("b"))));
    let counter = world.row().counter;
    world.run(100 * TTL);
    assert_eq!((world.row().counter, world.workers()), (counter, vec![alone]));
    assert_eq!(world.daemons[alone].wake, None);
    world.tell(alone, LeaseEvent::HandOver);
    world.tell(alone, LeaseEvent::WorkEnded);
    world.run(100);
    assert!(world.row().released);
}

#[test]
fn rows_that_make_no_sense_end_the_machine_with_the_reason() {
    let held = |row: LeaseRow| encode_row(&row).unwrap();
    let row = LeaseRow { daemon: "x".into(), claim: ClaimId(9), ttl: Millis(TTL), counter: 1, released: false };
    let mut later = held(row.clone());
    later[0] = 2;
    type Fits = fn(&LeaseError) -> bool;
    let cases: [(Vec<u8>, Fits); 7] = [
        (later, |error| matches!(error, LeaseError::Row(CodecError::Version { found: 2 }))),
        (vec![1, 2, 3], |error| matches!(error, LeaseError::Row(_))),
        (held(LeaseRow { ttl: Millis(0), ..row.clone() }), |error| matches!(error, LeaseError::Ttl { ttl: Millis(0) })),
        (held(LeaseRow { ttl: Millis(u64::MAX), ..row.clone() }), |error| matches!(error, LeaseError::Ttl { .. })),
        (held(LeaseRow { daemon: String::new(), ..row.clone() }), |error| *error == LeaseError::Name { bytes: 0 }),
        (held(LeaseRow { daemon: "x".repeat(256), ..row.clone() }), |error| *error == LeaseError::Name { bytes: 256 }),
        (held(LeaseRow { counter: u64::MAX, released: true, ..row.clone() }), |error| *error == LeaseError::Counter),
    ];
    for (bytes, fits) in cases {
        let mut world = World::new();
        world.put_bytes(bytes.clone());
        world.start(config("a"), 0);
        world.run(TTL / 2);
        let Some(LeaseOutcome::Ended(LeaseEnd::Broken(error))) = world.last(0) else { panic!("{bytes:?}") };
        assert!(fits(error), "{error}");
        assert_eq!(world.catalog.get(&key::lease()).unwrap().value, bytes, "and stay as they are");
        // Where nobody else can be kept out, nobody is.
        let mut world = World::new();
        world.put_bytes(bytes);
        world.start(LeaseConfig { exclusive: true, ..config("a") }, 0);
        world.run(TTL / 2);
        assert_eq!((world.row().daemon.as_str(), world.row().counter, world.row().released), ("a", 1, false));
    }
    for bad in [LeaseConfig { ttl: Millis(99), ..config("a") }, config("")] {
        let mut world = World::new();
        world.start(bad, 0);
        assert!(matches!(world.last(0), Some(LeaseOutcome::Ended(LeaseEnd::Broken(_)))));
    }
}

#[test]
fn a_holder_that_finds_nonsense_or_nothing_in_place_of_its_row_ends() {
    let mut world = World::with(&["a"]);
    world.run(TTL);
    world.catalog.apply(&Txn::new().delete(key::lease()));
    world.run(TTL);
    assert_eq!(world.last(0).cloned(), ended(LeaseEnd::Broken(LeaseError::Vanished)));
    let mut world = World::with(&["a"]);
    world.run(TTL);
    let row = world.row();
    world.put(&LeaseRow { ttl: Millis(1), ..row });
    world.run(TTL);
    assert_eq!(world.last(0).cloned(), ended(LeaseEnd::Broken(LeaseError::Ttl { ttl: Millis(1) })));
}

/// Three daemons whose clocks differ, on a catalog that is at its worst, with pauses, deaths and hand-overs: never two that may begin
/// work at one time, and when the catalog is well again one within two TTL.
#[test]
fn however_the_catalog_behaves_no_two_work_at_one_time_and_one_does_in_the_end() {
    let mut rights = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let mut world = World::new();
        for name in ["a", "b", "c"] {
            world.start(config(name), dice.below(1 << 40));
        }
        let (mut own, bad) = (dice.child("fate", 0), dice.below(60));
        world.fates(move |_| match own.below(100) {
            roll if roll >= bad => Fate::Told,
            roll => {
                [Fate::Untold, Fate::Lost, Fate::Late(own.below(2 * TTL)), Fate::Twice, Fate::Void][roll as usize % 5]
            }
        });
        for _ in 0..40 {
            let until = world.now + dice.below(TTL);
            while world.step(until) {
                let workers = world.workers();
                assert!(workers.len() <= 1, "seed {seed}, at {}: {workers:?}", world.now);
            }
            world.latency = 1 + dice.below(TTL / 10);
            let at = dice.below(world.daemons.len() as u64) as usize;
            match dice.below(6) {
                0 if world.daemons[at].paused_until < u64::MAX => {
                    world.daemons[at].paused_until = world.now + dice.below(3 * TTL);
                }
                1 => world.tell(at, LeaseEvent::HandOver),
                2 => world.tell(at, LeaseEvent::WorkEnded),
                3 if world.daemons.len() < 12 => {
                    let again = world.daemons[at].machine.config.clone();
                    let lives = |daemon: &Daemon| daemon.machine.config.daemon == again.daemon;
                    (0..world.daemons.len())
                        .filter(|at| lives(&world.daemons[*at]))
                        .collect::<Vec<_>>()
                        .into_iter()
                        .for_each(|at| world.kill(at));
                    world.start(again, dice.below(1 << 40));
                }
                _ => {}
            }
        }
        // Whatever ended is started again, what is still under way in the catalog comes to its end.
        world.fates(|_| Fate::Told);
        world.latency = 5;
        for at in 0..world.daemons.len() {
            world.kill(at);
        }
        world.run(2 * TTL);
        world.start(config("d"), 0);
        world.run(2 * TTL);
        assert_eq!(world.workers(), [world.daemons.len() - 1], "seed {seed}");
        let taken = world.daemons.iter().flat_map(|daemon| &daemon.outcomes).filter_map(|outcome| match outcome {
            LeaseOutcome::Taken { right, .. } => Some(right.as_str()),
            _ => None,
        });
        rights.extend(taken);
    }
    assert_eq!(rights.into_iter().collect::<Vec<_>>(), ["free", "own", "released", "silent"]);
}
