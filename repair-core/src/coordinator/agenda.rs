//! Extents to be rebuilt: those whose turn may come now, and those that wait for something, by its name.

use crate::budget::{Blocked, Budgets, Charges, Resource};
use crate::id::ExtentKey;
use crate::queue::{Queue, Risk};
use crate::time::{Millis, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a repair waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// More of the same extent may be lost in a moment.
    Gathering,
    /// Its last try failed.
    PutOff,
    /// Its tries failed alike: something is to change first.
    Parked,
    /// It can lose much more: it is let wait for further losses, for a time.
    Lazy,
    /// No disk that needs a fragment can be given one.
    NoTarget,
    /// An operator has all repairs but urgent ones wait.
    Paused,
    /// A budget has not enough. Shared by all that wait for it: there may be millions.
    Budget(Arc<Resource>),
}

#[derive(Clone, Debug)]
pub(super) struct Later {
    pub(super) wait: Wait,
    pub(super) until: Time,
    bytes: u64,
}

/// Why a job is not begun now.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) wait: Wait,
    /// When it is looked at again.
    pub(super) until: Time,
    /// What it takes from all budgets, where it waits for one of them.
    charges: Charges,
}

impl Held {
    pub(super) const fn new(wait: Wait, until: Time) -> Self {
        Self { wait, until, charges: Charges::new() }
    }

    pub(super) fn short(blocked: Blocked, charges: Charges) -> Self {
        Self { wait: Wait::Budget(Arc::new(blocked.resource)), until: blocked.until, charges }
    }
}

/// Jobs that wait for one budget.
#[derive(Debug, Default)]
struct Short {
    jobs: Queue,
    /// When the first of them is looked at again; none while one of them is.
    wake: Option<Time>,
    /// The one of them that has a claim on its other budgets.
    claimant: Option<ExtentKey>,
}

/// What the first of those that wait for a budget will take from all of its budgets, and when. It is named in the queue of one alone;
/// without a claim on the others, whoever needs only one of them would take that each time it has filled up.
#[derive(Debug)]
struct Claim {
    charges: Charges,
    until: Time,
    is_urgent: bool,
}

/// Every extent that could be rebuilt and is not being, once.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    ready: Queue,
    later: BTreeMap<ExtentKey, Later>,
    due: BTreeSet<(Time, ExtentKey)>,
    short: BTreeMap<Arc<Resource>, Short>,
    short_due: BTreeSet<(Time, Resource)>,
    /// The first of those that wait for a budget, while they are looked at again.
    woken: BTreeMap<ExtentKey, Resource>,
    /// What an operator has wait: no moment ends that, but the word that repairs go on.
    paused: Queue,
    /// Whether that has been said, and not all have been looked at since.
    resumes: bool,
    claims: BTreeMap<ExtentKey, Claim>,
    /// Who has a claim on a budget.
    claimants: BTreeMap<Resource, Queue>,
    /// Jobs and bytes by what they wait for, budgets aside.
    sums: BTreeMap<Wait, (usize, u64)>,
}

impl Agenda {
    /// Something is needed, or has changed: its turn may be now. What waits for a budget or after a failure goes on to, but for what
    /// has become urgent: it may borrow.
    pub(super) fn renew(&mut self, extent: ExtentKey, risk: &Risk) {
        match self.later.get(&extent).map(|later| later.wait.clone()) {
            Some(Wait::PutOff | Wait::Parked) => {}
            Some(Wait::Budget(resource)) => {
                let before = self.short.get(&resource).and_then(|short| short.jobs.get(extent));
                if before.is_some_and(|before| risk.is_urgent() && (risk.margin < before.margin || before.is_move)) {
                    return self.hasten(extent, risk);
                }
                if let Some(short) = self.short.get_mut(&resource) {
                    short.jobs.put(extent, risk);
                }
                for claimed in self.claims.get(&extent).iter().flat_map(|claim| claim.charges.keys()) {
                    self.claimants.entry(claimed.clone()).or_default().put(extent, risk);
                }
            }
            Some(Wait::Paused) => match self.paused.get(extent) {
                Some(before) if risk.margin >= before.margin && risk.is_move >= before.is_move => {
                    self.paused.put(extent, risk);
                }
                _ => self.hasten(extent, risk),
            },
            Some(Wait::Gathering | Wait::Lazy | Wait::NoTarget) | None => self.hasten(extent, risk),
        }
    }

    /// Whatever it waits for, it is looked at again.
    pub(super) fn hasten(&mut self, extent: ExtentKey, risk: &Risk) {
        self.end_wait(extent);
        self.ready.put(extent, risk);
    }

    /// It is not to be rebuilt any more, or is being rebuilt.
    pub(super) fn remove(&mut self, now: Time, extent: ExtentKey) {
        self.ready.remove(extent);
        self.end_wait(extent);
        self.resolved(now, extent);
    }

    fn end_wait(&mut self, extent: ExtentKey) {
        let Some(later) = self.later.remove(&extent) else { return };
        self.due.remove(&(later.until, extent));
        self.paused.remove(extent);
        let Wait::Budget(resource) = &later.wait else { return self.count(&later, false) };
        self.end_claim(extent);
        let Some(short) = self.short.get_mut(resource) else { return };
        short.claimant = short.claimant.filter(|claimant| *claimant != extent);
        short.jobs.remove(extent);
        if short.jobs.is_empty() {
            self.forget_wake(resource);
            self.short.remove(resource);
        }
    }

    fn end_claim(&mut self, extent: ExtentKey) {
        let Some(claim) = self.claims.remove(&extent) else { return };
        for resource in claim.charges.keys() {
            if let Some(claimants) = self.claimants.get_mut(resource) {
                claimants.remove(extent);
                if claimants.is_empty() {
                    self.claimants.remove(resource);
                }
            }
        }
    }

    /// The first of those that wait for a budget has a claim, and nobody else of them: so there are as many claims as short budgets.
    fn claim(&mut self, extent: ExtentKey, risk: &Risk, resource: &Resource, claim: Claim) {
        let before = self.short.get_mut(resource).and_then(|short| short.claimant.replace(extent));
        before.into_iter().for_each(|before| self.end_claim(before));
        for resource in claim.charges.keys() {
            self.claimants.entry(resource.clone()).or_default().put(extent, risk);
        }
        self.claims.insert(extent, claim);
    }

    fn count(&mut self, later: &Later, comes: bool) {
        let (jobs, bytes) = self.sums.entry(later.wait.clone()).or_default();
        if comes {
            (*jobs, *bytes) = (*jobs + 1, *bytes + later.bytes);
        } else {
            (*jobs, *bytes) = (*jobs - 1, *bytes - later.bytes);
        }
    }

    /// Takes out the job whose turn it is among those that wait for nothing known.
    pub(super) fn pop(
        &mut self,
        now: Time,
        mut look: impl FnMut(ExtentKey) -> Option<Risk>,
    ) -> Option<(ExtentKey, Risk)> {
        let mut over = Vec::new();
        let popped = self.ready.pop(now, |extent| {
            let risk = look(extent);
            over.extend(risk.is_none().then_some(extent));
            risk
        });
        // Whoever waits for the same budget has its turn too when the one before it is over without having begun.
        over.into_iter().for_each(|extent| self.resolved(now, extent));
        popped
    }

    /// A job that was taken out has to wait.
    pub(super) fn put_later(&mut self, now: Time, extent: ExtentKey, risk: &Risk, held: Held) {
        self.resolved(now, extent);
        let Held { mut wait, until, charges } = held;
        match &mut wait {
            Wait::Budget(resource) => {
                if let Some((shared, _)) = self.short.get_key_value(resource) {
                    *resource = shared.clone();
                }
                let resource = &*resource;
                let short = self.short.entry(resource.clone()).or_default();
                short.jobs.put(extent, risk);
                let (is_first, sleeps) =
                    (short.jobs.first(now).is_some_and(|(first, _)| first == extent), short.wake.is_none());
                let is_looked_at = self.woken.values().any(|of| *of == **resource);
                if is_first {
                    self.claim(extent, risk, resource, Claim { charges, until, is_urgent: risk.is_urgent() });
                }
                if !is_looked_at && (is_first || sleeps) {
                    self.wake_short((**resource).clone(), until);
                }
            }
            Wait::Paused => {
                self.resumes = false;
                self.paused.put(extent, risk);
                self.count(&Later { wait: wait.clone(), until, bytes: risk.bytes }, true);
            }
            _ => {
                self.due.insert((until, extent));
                self.count(&Later { wait: wait.clone(), until, bytes: risk.bytes }, true);
            }
        }
        self.later.insert(extent, Later { wait, until, bytes: risk.bytes });
    }

    /// A job that had waited for a budget has been looked at: the next one is.
    pub(super) fn resolved(&mut self, now: Time, extent: ExtentKey) {
        if let Some(resource) = self.woken.remove(&extent)
            && self.short.contains_key(&resource)
        {
            self.wake_short(resource, now);
        }
    }

    fn wake_short(&mut self, resource: Resource, at: Time) {
        self.forget_wake(&resource);
        if let Some(short) = self.short.get_mut(&resource) {
            short.wake = Some(at);
            self.short_due.insert((at, resource));
        }
    }

    fn forget_wake(&mut self, resource: &Resource) {
        let wake = self.short.get_mut(resource).and_then(|short| short.wake.take());
        if let Some(at) = wake {
            self.short_due.remove(&(at, resource.clone()));
        }
    }

    /// A budget has more than was thought: who waits for it is looked at.
    pub(super) fn budget_changed(&mut self, now: Time, resource: &Resource) {
        if self.short.get(resource).is_some_and(|short| short.wake.is_some()) {
            self.wake_short(resource.clone(), now);
        }
    }

    /// An operator has repairs go on.
    pub(super) fn resume(&mut self) {
        self.resumes = true;
    }

    /// What has waited long enough is looked at again, at most so many. Of those that wait for a budget the first.
    pub(super) fn wake(&mut self, now: Time, most: &mut usize, mut look: impl FnMut(ExtentKey) -> Option<Risk>) {
        while *most > 0
            && let Some((_, extent)) = self.due.first().copied().filter(|(until, _)| *until <= now)
        {
            *most -= 1;
            self.end_wait(extent);
            look(extent).iter().for_each(|risk| self.ready.put(extent, risk));
        }
        while *most > 0 && self.resumes {
            let Some((extent, _)) = self.paused.first(now) else {
                self.resumes = false;
                break;
            };
            *most -= 1;
            self.end_wait(extent);
            look(extent).iter().for_each(|risk| self.ready.put(extent, risk));
        }
        while *most > 0
            && let Some((_, resource)) = self.short_due.first().cloned().filter(|(until, _)| *until <= now)
        {
            *most -= 1;
            self.forget_wake(&resource);
            let Some((extent, _)) = self.short.get(&resource).and_then(|short| short.jobs.first(now)) else { continue };
            self.end_wait(extent);
            match look(extent) {
                Some(risk) => {
                    self.woken.insert(extent, resource);
                    self.ready.put(extent, &risk);
                }
                // It is over: the next one.
                None if self.short.contains_key(&resource) => self.wake_short(resource, now),
                None => {}
            }
        }
    }

    /// Takes what a job costs from its budgets. Not from one that somebody more urgent waits for, nor what somebody more urgent will
    /// need of one by the time that all its others have filled up.
    ///
    /// # Errors
    /// The budget that it waits for.
    pub(super) fn admit(
        &self,
        now: Time,
        budgets: &mut Budgets,
        extent: ExtentKey,
        risk: &Risk,
        charges: &Charges,
    ) -> Result<(), Blocked> {
        let key = risk.key(now, extent);
        for (resource, bytes) in charges {
            let first = |queue: Option<&Queue>| queue.and_then(|queue| queue.first(now)).filter(|(_, of)| *of < key);
            if first(self.short.get(resource).map(|short| &short.jobs)).is_some() {
                let until = budgets.ready_at(now, resource, *bytes, false).max(now + Millis(1));
                return Err(Blocked { resource: resource.clone(), until });
            }
            let Some((claimant, _)) = first(self.claimants.get(resource)) else { continue };
            let Some(claim) = self.claims.get(&claimant) else { continue };
            let wanted = claim.charges.get(resource).copied().unwrap_or(0);
            if !budgets.leaves(now, resource, *bytes, wanted, claim.until, claim.is_urgent) {
                return Err(Blocked { resource: resource.clone(), until: claim.until.max(now + Millis(1)) });
            }
        }
        budgets.admit(now, charges, risk.is_urgent())
    }

    /// When something has waited long enough.
    pub(super) fn next(&self) -> Option<Time> {
        let short = self.short_due.first().map(|(at, _)| *at);
        let resumes = self.resumes.then_some(Time::ZERO);
        self.due.first().map(|(at, _)| *at).into_iter().chain(short).chain(resumes).min()
    }

    /// What an extent waits for; none where it is its turn that it waits for, or it is not here.
    pub(super) fn wait_of(&self, extent: ExtentKey) -> Option<&Later> {
        self.later.get(&extent)
    }

    /// Whether it waits for its turn alone.
    pub(super) fn is_ready(&self, extent: ExtentKey) -> bool {
        self.ready.contains(extent)
    }

    /// Jobs that wait for their turn.
    pub(super) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Jobs that wait for this, which is no budget.
    pub(super) fn waiting_for(&self, wait: &Wait) -> usize {
        self.sums.get(wait).map_or(0, |(jobs, _)| *jobs)
    }

    /// Budgets that jobs wait for, and how many do; those with the most first.
    pub(super) fn shortages(&self) -> Vec<(&Resource, usize)> {
        let mut all: Vec<(&Resource, usize)> =
            self.short.iter().map(|(resource, short)| (&**resource, short.jobs.len())).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all
    }

    /// Whether any job waits for a budget.
    pub(super) fn has_shortage(&self) -> bool {
        !self.short.is_empty()
    }

    /// Whether anything will be rebuilt as things are, now or soon: not what is let wait, what nobody can be given, nor what has failed.
    pub(super) fn is_active(&self) -> bool {
        self.ready_count() > 0 || self.has_shortage() || self.waiting_for(&Wait::Gathering) > 0
    }

    /// Bytes of all that will be rebuilt as things are: without what is let wait, and what nobody can be given.
    pub(super) fn bytes(&self) -> u64 {
        let of = |wait: &Wait| self.sums.get(wait).map_or(0, |(_, bytes)| *bytes);
        let short: u64 = self.short.values().map(|short| short.jobs.bytes()).sum();
        self.ready.bytes() + short + of(&Wait::Gathering) + of(&Wait::PutOff)
    }

    /// Extents of one group.
    pub(super) fn of_group(&self, any: ExtentKey) -> Vec<ExtentKey> {
        let (first, last) = (any.0 >> 80 << 80, any.0 | ((1 << 80) - 1));
        let later = self.later.range(ExtentKey(first)..=ExtentKey(last)).map(|(extent, _)| *extent);
        self.ready.of_group(any).chain(later).collect()
    }

    /// Every extent that is here.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.later.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{BudgetConfig, Scope, Side};
    use crate::id::{CellKey, DiskId, PgId};

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn extent(number: u64) -> ExtentKey {
        ExtentKey::compose(CellKey(1 << 112), PgId(1), 1, number)
    }

    fn risk(margin: usize) -> Risk {
        Risk { margin, is_move: false, since: at(0), blocked_reads: 0, bytes: 4096 }
    }

    fn disk(number: u128) -> Resource {
        Resource { scope: Scope::Disk(DiskId(number)), side: Side::Source }
    }

    fn short(until: Time) -> Held {
        Held::short(Blocked { resource: disk(7), until }, Charges::from([(disk(7), 1)]))
    }

    /// Ten that wait for one budget, the first to be looked at after ten milliseconds.
    fn ten_wait() -> Agenda {
        let mut agenda = Agenda::default();
        for number in 0..10 {
            agenda.put_later(at(0), extent(number), &risk(2), short(at(10)));
        }
        agenda
    }

    #[test]
    fn of_those_that_wait_for_a_budget_one_at_a_time_is_looked_at_and_none_is_forgotten() {
        let mut agenda = ten_wait();
        let mut begun = Vec::new();
        for round in 0..10 {
            let now = at(10 + round * 10);
            agenda.wake(now, &mut { usize::MAX }, |_| Some(risk(2)));
            let (first, _) = agenda.pop(now, |_| Some(risk(2))).unwrap();
            assert_eq!(agenda.pop(now, |_| Some(risk(2))), None, "the others wait for it");
            begun.push(first);
            // The budget gives for this one, and not yet for the next.
            agenda.resolved(now, first);
            agenda.wake(now, &mut { usize::MAX }, |_| Some(risk(2)));
            if let Some((next, risk)) = agenda.pop(now, |_| Some(risk(2))) {
                agenda.put_later(now, next, &risk, short(at(20 + round * 10)));
            }
        }
        assert_eq!(begun, (0..10).map(extent).collect::<Vec<_>>());
        assert_eq!((agenda.len(), agenda.bytes(), agenda.next()), (0, 0, None));
    }

    #[test]
    fn one_that_is_over_while_it_is_looked_at_holds_up_nobody() {
        let mut agenda = ten_wait();
        agenda.wake(at(10), &mut { usize::MAX }, |_| Some(risk(2)));
        assert_eq!(agenda.pop(at(10), |_| None), None);
        agenda.wake(at(10), &mut { usize::MAX }, |_| Some(risk(2)));
        assert_eq!(agenda.pop(at(10), |_| Some(risk(2))).map(|(first, _)| first), Some(extent(1)));
        // Over before it is looked at, too.
        agenda.remove(at(10), extent(1));
        agenda.wake(at(10), &mut { usize::MAX }, |wanted| (wanted != extent(2)).then(|| risk(2)));
        agenda.wake(at(10), &mut { usize::MAX }, |_| Some(risk(2)));
        assert_eq!(agenda.pop(at(10), |_| Some(risk(2))).map(|(first, _)| first), Some(extent(3)));
    }

    #[test]
    fn one_that_has_become_urgent_is_looked_at_at_once_and_the_others_in_their_order() {
        let mut agenda = ten_wait();
        agenda.renew(extent(8), &risk(1));
        assert!(agenda.is_ready(extent(8)));
        assert_eq!(agenda.pop(at(1), |_| Some(risk(1))).map(|(first, _)| first), Some(extent(8)));
        // Not near to loss, though nearer than the others: it goes on waiting, as the first of them.
        let mut agenda = Agenda::default();
        (0..10).for_each(|number| agenda.put_later(at(0), extent(number), &risk(3), short(at(10))));
        agenda.renew(extent(8), &risk(2));
        assert!(!agenda.is_ready(extent(8)));
        agenda.wake(at(10), &mut { usize::MAX }, |wanted| Some(risk(if wanted == extent(8) { 2 } else { 3 })));
        assert_eq!(agenda.pop(at(10), |_| Some(risk(2))).map(|(first, _)| first), Some(extent(8)));
    }

    /// Jobs with what they cost, and the order in which they are begun.
    #[derive(Default)]
    struct Cell {
        agenda: Agenda,
        budgets: Budgets,
        wanted: BTreeMap<ExtentKey, (Risk, Charges)>,
        begun: Vec<(Time, ExtentKey)>,
    }

    impl Cell {
        fn new() -> Self {
            let budgets = Budgets::new(BudgetConfig {
                disk_bytes_per_second: 1_000,
                node_bytes_per_second: 0,
                rack_bytes_per_second: 0,
                burst: Millis(1_000),
                borrow: Millis(0),
            });
            Self { budgets, ..Self::default() }
        }

        fn want(&mut self, number: u64, margin: usize, disks: &[u128], bytes: u64) {
            let charges = disks.iter().map(|number| (disk(*number), bytes)).collect();
            self.wanted.insert(extent(number), (risk(margin), charges));
            self.agenda.renew(extent(number), &risk(margin));
        }

        fn turn(&mut self, now: Time) {
            let wanted = &self.wanted;
            let look = |extent: ExtentKey| wanted.get(&extent).map(|(risk, _)| *risk);
            self.agenda.wake(now, &mut { usize::MAX }, look);
            while let Some((extent, risk)) = self.agenda.pop(now, look) {
                let charges = wanted[&extent].1.clone();
                match self.agenda.admit(now, &mut self.budgets, extent, &risk, &charges) {
                    Ok(()) => {
                        self.begun.push((now, extent));
                        self.agenda.resolved(now, extent);
                    }
                    Err(blocked) => self.agenda.put_later(now, extent, &risk, Held::short(blocked, charges)),
                }
                self.agenda.wake(now, &mut { usize::MAX }, look);
            }
        }

        fn begun_at(&self, number: u64) -> Option<Time> {
            self.begun.iter().find(|(_, begun)| *begun == extent(number)).map(|(at, _)| *at)
        }
    }

    #[test]
    fn what_waits_for_two_budgets_is_not_passed_at_either() {
        let mut cell = Cell::new();
        cell.want(1, 3, &[1], 1_000);
        cell.turn(at(0));
        cell.want(2, 3, &[2], 1_000);
        cell.turn(at(500));
        cell.want(0, 0, &[1, 2], 1_000);
        // There is always somebody who needs one of the two alone.
        for (step, number) in (10..).zip((100..400).step_by(2)) {
            cell.want(number, 3, &[1], 1_000);
            cell.want(number + 1, 3, &[2], 1_000);
            cell.turn(at(step * 50));
        }
        assert_eq!(cell.begun_at(0), Some(at(1_500)));
        // And then the others have their turns, at the full rate.
        let others = cell.begun.iter().filter(|(begun, _)| *begun > at(1_500)).count();
        assert_eq!((others, cell.agenda.claims.len()), (12, 2));
    }

    #[test]
    fn what_somebody_more_urgent_does_not_miss_may_be_taken() {
        let mut cell = Cell::new();
        cell.want(1, 3, &[2], 1_000);
        cell.turn(at(0));
        // Waits for disk 2 until 1,000, and will need 400 of disk 1.
        cell.wanted.insert(extent(0), (risk(0), Charges::from([(disk(1), 400), (disk(2), 1_000)])));
        cell.agenda.renew(extent(0), &risk(0));
        cell.turn(at(1));
        for number in 2..5 {
            cell.want(number, 3, &[1], 700);
        }
        cell.turn(at(2));
        // 1,000 are there and 1,000 more will be; the third of 700 is one too many.
        assert_eq!((cell.begun_at(2), cell.begun_at(3)), (Some(at(2)), None));
        cell.turn(at(999));
        assert_eq!((cell.begun_at(0), cell.begun_at(3)), (None, None));
        cell.turn(at(1_000));
        assert_eq!(cell.begun_at(0), Some(at(1_000)));
        // Whoever was claimed for is over: nothing is claimed any more.
        cell.turn(at(3_000));
        assert!(cell.begun_at(3).is_some() && cell.agenda.claims.len() <= 1);
        for number in 0..5 {
            cell.agenda.remove(at(3_000), extent(number));
        }
        assert!(cell.agenda.claims.is_empty() && cell.agenda.claimants.is_empty() && cell.agenda.short.is_empty());
    }

    #[test]
    fn what_is_paused_costs_nothing_until_repairs_go_on_and_then_comes_in_order_and_in_parts() {
        let mut agenda = Agenda::default();
        let now = at(0);
        for number in 0..1_000 {
            agenda.put_later(now, extent(number), &risk(2 + number as usize % 2), Held::new(Wait::Paused, now));
        }
        // Nothing changes by time, nor where a group is looked over and nothing is nearer to loss.
        (0..1_000).for_each(|number| agenda.renew(extent(number), &risk(2 + number as usize % 2)));
        agenda.wake(at(1 << 40), &mut { usize::MAX }, |_| Some(risk(2)));
        assert_eq!((agenda.next(), agenda.ready_count(), agenda.waiting_for(&Wait::Paused)), (None, 0, 1_000));
        // What is nearer is looked at, and where it still is to wait, waits.
        agenda.renew(extent(7), &risk(1));
        assert!(agenda.is_ready(extent(7)));
        agenda.remove(now, extent(7));
        agenda.resume();
        agenda.wake(now, &mut 100, |wanted| Some(risk(2 + wanted.counter() as usize % 2)));
        assert_eq!((agenda.ready_count(), agenda.next()), (100, Some(Time::ZERO)));
        assert!((0..100).all(|number| agenda.is_ready(extent(number * 2))), "the nearest to loss first");
        agenda.wake(now, &mut { usize::MAX }, |_| Some(risk(2)));
        assert_eq!((agenda.ready_count(), agenda.waiting_for(&Wait::Paused), agenda.next()), (999, 0, None));
    }

    #[test]
    fn a_turn_wakes_no_more_than_it_may() {
        let mut agenda = Agenda::default();
        (0..50).for_each(|number| agenda.put_later(at(0), extent(number), &risk(2), Held::new(Wait::NoTarget, at(5))));
        agenda.wake(at(5), &mut 20, |_| Some(risk(2)));
        assert_eq!((agenda.ready_count(), agenda.next()), (20, Some(at(5))));
    }

    #[test]
    fn a_job_that_waits_is_small() {
        // Beside this it has a place in a queue, of about 110 bytes; a tree is half to two thirds full.
        assert_eq!(size_of::<(ExtentKey, Later)>(), 48);
    }
}
