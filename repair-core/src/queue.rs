//! Whose turn it is: jobs in the order of what is at risk.
//!
//! A job's turn is decided by, one after the other:
//! 1. whether its extent has lost anything: what is only to stand elsewhere comes after all that has;
//! 2. its *class*: the further losses of whole domains that its extent survives, one less for each [`RAISED_EVERY`] it has waited, never
//!    less than 2. So classes 0 and 1 are margins 0 and 1 alone, and what survives more waits for nothing else for ever. What has lost
//!    nothing is not raised;
//! 3. how long it has been at risk, in steps of [`STEP`], so that what is lost at about the same moment is told apart by what follows;
//! 4. reads that had to decode it, or failed: the most first;
//! 5. bytes to be written, in blocks: the fewest first, for so more extents are safe sooner;
//! 6. its id.
//!
//! The jobs of one margin keep their order while time passes, only whole margins move against each other. So there is one ordered
//! set for each margin, of what has lost something and of what has not, and whose turn it is is found among their firsts. What changes by events ([`Queue::put`]) costs one removal
//! and one insertion; what may have changed unnoticed is asked when the job's turn comes ([`Queue::pop`]).

use crate::id::ExtentKey;
use crate::time::{Millis, Time};
use std::collections::{BTreeMap, BTreeSet};

/// How long a job waits until it counts as nearer to loss by one.
pub const RAISED_EVERY: Millis = Millis(6 * 60 * 60 * 1_000);
/// Extents that may lose so many domains more at most are urgent.
pub const URGENT_MARGIN: usize = 1;
/// Times at risk closer than this are equal.
pub const STEP: Millis = Millis(10_000);
/// Where waiting ends to raise a class: an extent so near to loss that it is urgent is passed by none that is not.
const RAISED_TO: usize = URGENT_MARGIN + 1;
/// Bytes are compared in blocks of so many, the unit in which fragments are stored.
const BLOCK_BYTES: u64 = 4096;

/// What is at risk, of one extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Risk {
    /// Further losses of domains that it surely survives.
    pub margin: usize,
    /// Whether it has lost nothing, and is only to stand elsewhere.
    pub is_move: bool,
    /// Since when it lacks something and is not let wait.
    pub since: Time,
    /// Reads that had to decode it, or failed, since then.
    pub blocked_reads: u32,
    /// Bytes to be written.
    pub bytes: u64,
}

impl Risk {
    /// Whether it is near to loss.
    pub const fn is_urgent(&self) -> bool {
        self.margin <= URGENT_MARGIN && !self.is_move
    }

    /// The class at this moment.
    pub fn class(&self, now: Time) -> usize {
        Packed::of(self).class(now)
    }

    /// Its key at this moment: what is less has its turn sooner.
    pub fn key(&self, now: Time, extent: ExtentKey) -> TurnKey {
        let packed = Packed::of(self);
        TurnKey { is_move: is_move(packed.level), class: packed.class(now), place: packed.place(extent) }
    }
}

/// Where a job stands beside others at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TurnKey {
    is_move: bool,
    class: usize,
    place: Place,
}

/// A place among jobs of one level. The id in halves, which need no alignment of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    since_step: u32,
    not_blocked: u16,
    blocks: u32,
    extent: Halves,
}

type Halves = (u64, u64);

const fn halves(extent: ExtentKey) -> Halves {
    ((extent.0 >> 64) as u64, extent.0 as u64)
}

const fn whole((high, low): Halves) -> ExtentKey {
    ExtentKey((high as u128) << 64 | low as u128)
}

/// The bit of a level that is set where nothing is lost; the others are the margin.
const MOVE: u8 = 0x80;

const fn is_move(level: u8) -> bool {
    level & MOVE != 0
}

fn margin(level: u8) -> usize {
    usize::from(level & !MOVE)
}

fn class(level: u8, since_step: u32, now: Time) -> usize {
    let margin = margin(level);
    if is_move(level) {
        return margin;
    }
    let since = Time::from_millis(u64::from(since_step) * STEP.0);
    let raised = usize::try_from(now.since(since).0 / RAISED_EVERY.0).unwrap_or(usize::MAX);
    margin.saturating_sub(raised).max(margin.min(RAISED_TO))
}

/// A [`Risk`] as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed {
    since_step: u32,
    blocks: u32,
    blocked_reads: u16,
    level: u8,
}

impl Packed {
    fn of(risk: &Risk) -> Self {
        Self {
            since_step: u32::try_from(risk.since.as_millis() / STEP.0).unwrap_or(u32::MAX),
            blocks: u32::try_from(risk.bytes.div_ceil(BLOCK_BYTES)).unwrap_or(u32::MAX),
            blocked_reads: u16::try_from(risk.blocked_reads).unwrap_or(u16::MAX),
            level: u8::try_from(risk.margin).unwrap_or(u8::MAX).min(MOVE - 1) | if risk.is_move { MOVE } else { 0 },
        }
    }

    fn class(&self, now: Time) -> usize {
        class(self.level, self.since_step, now)
    }

    const fn place(&self, extent: ExtentKey) -> Place {
        let (since_step, blocks) = (self.since_step, self.blocks);
        Place { since_step, not_blocked: u16::MAX - self.blocked_reads, blocks, extent: halves(extent) }
    }

    fn risk(&self) -> Risk {
        Risk {
            margin: margin(self.level),
            is_move: is_move(self.level),
            since: Time::from_millis(u64::from(self.since_step) * STEP.0),
            blocked_reads: u32::from(self.blocked_reads),
            bytes: u64::from(self.blocks) * BLOCK_BYTES,
        }
    }
}

/// Jobs in their order, one for each extent.
#[derive(Debug, Default)]
pub struct Queue {
    jobs: BTreeMap<Halves, Packed>,
    by_level: BTreeMap<u8, BTreeSet<Place>>,
    blocks: u64,
}

impl Queue {
    /// Puts a job in, or to its new place.
    pub fn put(&mut self, extent: ExtentKey, risk: &Risk) {
        let packed = Packed::of(risk);
        match self.jobs.insert(halves(extent), packed) {
            Some(before) if before == packed => return,
            Some(before) => self.take_out(extent, before),
            None => {}
        }
        self.by_level.entry(packed.level).or_default().insert(packed.place(extent));
        self.blocks += u64::from(packed.blocks);
    }

    /// Takes a job out.
    pub fn remove(&mut self, extent: ExtentKey) -> bool {
        let Some(packed) = self.jobs.remove(&halves(extent)) else { return false };
        self.take_out(extent, packed);
        true
    }

    fn take_out(&mut self, extent: ExtentKey, packed: Packed) {
        self.blocks -= u64::from(packed.blocks);
        if let Some(places) = self.by_level.get_mut(&packed.level) {
            places.remove(&packed.place(extent));
            if places.is_empty() {
                self.by_level.remove(&packed.level);
            }
        }
    }

    /// Whose turn it is.
    pub fn first(&self, now: Time) -> Option<(ExtentKey, TurnKey)> {
        let keys = self.by_level.iter().filter_map(|(level, places)| {
            let place = *places.first()?;
            Some(TurnKey { is_move: is_move(*level), class: class(*level, place.since_step, now), place })
        });
        keys.min().map(|key| (whole(key.place.extent), key))
    }

    /// Takes out the job whose turn it is. `look` says what is at risk as things are now, none where nothing is: a job that has moved is
    /// put to its new place, and the next one is looked at.
    pub fn pop(&mut self, now: Time, mut look: impl FnMut(ExtentKey) -> Option<Risk>) -> Option<(ExtentKey, Risk)> {
        let mut moved = None;
        loop {
            let (extent, _) = self.first(now)?;
            let Some(risk) = look(extent) else {
                self.remove(extent);
                continue;
            };
            let is_current = self.jobs.get(&halves(extent)) == Some(&Packed::of(&risk));
            if is_current || moved == Some(extent) {
                self.remove(extent);
                return Some((extent, risk));
            }
            self.put(extent, &risk);
            moved = Some(extent);
        }
    }

    /// What is kept of a job, rounded as its order needs it.
    pub fn get(&self, extent: ExtentKey) -> Option<Risk> {
        self.jobs.get(&halves(extent)).map(Packed::risk)
    }

    /// Whether it is in.
    pub fn contains(&self, extent: ExtentKey) -> bool {
        self.jobs.contains_key(&halves(extent))
    }

    /// Jobs.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Bytes to be written by all, in whole blocks.
    pub const fn bytes(&self) -> u64 {
        self.blocks * BLOCK_BYTES
    }

    /// Jobs by margin; those of extents that have lost nothing by themselves, and last.
    pub fn by_margin(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.by_level.iter().map(|(level, places)| (margin(*level), places.len()))
    }

    /// Jobs of one placement group, whatever cell and incarnation made them.
    pub fn of_group(&self, any: ExtentKey) -> impl Iterator<Item = ExtentKey> + '_ {
        // All ids of a group in a cell are between these.
        let (first, last) = (any.0 >> 80 << 80, any.0 | ((1 << 80) - 1));
        self.jobs.range(halves(ExtentKey(first))..=halves(ExtentKey(last))).map(|(extent, _)| whole(*extent))
    }

    /// All jobs, by id.
    pub fn extents(&self) -> impl Iterator<Item = ExtentKey> + '_ {
        self.jobs.keys().map(|extent| whole(*extent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CellKey, PgId};
    use crate::rng::Dice;

    const HOUR_MS: u64 = 60 * 60 * 1_000;

    fn extent(number: u64) -> ExtentKey {
        ExtentKey::compose(CellKey(3 << 112), PgId(number as u32 % 5), 1, number)
    }

    fn risk(margin: usize, since_ms: u64, blocked_reads: u32, bytes: u64) -> Risk {
        Risk { margin, is_move: false, since: Time::from_millis(since_ms), blocked_reads, bytes }
    }

    /// The order as it is written down, too plain to be wrong.
    fn naive_key(now: Time, extent: ExtentKey, risk: &Risk) -> (bool, usize, u64, i64, u64, u128) {
        let step = risk.since.as_millis() / 10_000;
        let waited_ms = now.as_millis() - step * 10_000;
        let mut class = risk.margin;
        for _ in 0..waited_ms / (6 * HOUR_MS) {
            if class > 2 && !risk.is_move {
                class -= 1;
            }
        }
        (risk.is_move, class, step, -i64::from(risk.blocked_reads), risk.bytes.div_ceil(4096), extent.0)
    }

    #[test]
    fn any_jobs_leave_in_the_order_that_is_written_down() {
        let mut dice = Dice::new(11);
        for _ in 0..300 {
            let mut queue = Queue::default();
            let mut model: BTreeMap<ExtentKey, Risk> = BTreeMap::new();
            let mut now = Time::from_millis(48 * HOUR_MS);
            for _ in 0..200 {
                let job = extent(dice.below(40));
                let since = now.as_millis() - dice.below(40 * HOUR_MS).min(dice.below(40 * HOUR_MS));
                let new = risk(dice.below(5) as usize, since, dice.below(3) as u32, dice.below(4) * 4096);
                let new = Risk { is_move: dice.chance(1, 4), ..new };
                match dice.below(6) {
                    0..3 => {
                        queue.put(job, &new);
                        model.insert(job, new);
                    }
                    3 => {
                        queue.remove(job);
                        model.remove(&job);
                    }
                    // Changed behind the queue's back, or over.
                    4 if dice.chance(1, 2) => drop(model.remove(&job)),
                    4 => model.extend(model.contains_key(&job).then_some((job, new))),
                    _ => {
                        let popped = queue.pop(now, |job| model.get(&job).copied());
                        // What the queue thinks of those that it did not look at is older; so only what it returns is compared: it is
                        // as its risk is now, and before all that have not changed since they were put.
                        if let Some((job, found)) = popped {
                            assert_eq!(model.remove(&job), Some(found));
                            let key = naive_key(now, job, &found);
                            let same = |(job, risk): &(&ExtentKey, &Risk)| {
                                queue.jobs.get(&halves(**job)) == Some(&Packed::of(risk))
                            };
                            let least = model.iter().filter(same).map(|(job, risk)| naive_key(now, *job, risk)).min();
                            assert!(least.is_none_or(|least| key < least), "{key:?} before {least:?}");
                        }
                    }
                }
                now = now + Millis(dice.below(HOUR_MS));
                assert_eq!(queue.by_margin().map(|(_, jobs)| jobs).sum::<usize>(), queue.len());
            }
            // Told everything, it is the order to the end.
            for job in queue.extents().collect::<Vec<_>>() {
                assert!(queue.remove(job));
            }
            assert!(queue.is_empty() && queue.bytes() == 0 && queue.by_level.is_empty());
            model.iter().for_each(|(job, risk)| queue.put(*job, risk));
            let mut expected: Vec<ExtentKey> = model.keys().copied().collect();
            expected.sort_by_key(|job| naive_key(now, *job, &model[job]));
            let popped: Vec<ExtentKey> =
                std::iter::from_fn(|| queue.pop(now, |job| model.get(&job).copied())).map(|(job, _)| job).collect();
            assert_eq!(popped, expected);
        }
    }

    #[test]
    fn waiting_raises_what_survives_more_over_each_other_and_over_nothing_urgent() {
        let mut queue = Queue::default();
        let (old, fresh, dying, moved) = (extent(1), extent(2), extent(3), extent(4));
        let truth = |job, now: Time| if job == old { risk(4, 0, 9, 1) } else { risk(2, now.as_millis(), 0, 1) };
        queue.put(old, &risk(4, 0, 9, 1));
        let mut now = Time::ZERO;
        let mut waited = 0;
        // There is always something newer of margin 2.
        let popped = loop {
            now = now + Millis(HOUR_MS);
            queue.put(fresh, &risk(2, now.as_millis(), 0, 1));
            let (job, _) = queue.pop(now, |job| Some(truth(job, now))).unwrap();
            if job == old {
                break now;
            }
            waited += 1;
        };
        assert_eq!((popped.as_millis() / HOUR_MS, waited), (12, 11));
        // What is urgent is passed by none of them, and what has lost nothing passes none of them, however long they wait.
        let now = Time::from_millis(1_000 * HOUR_MS);
        let fresh_ms = now.as_millis() - 60_000;
        queue.put(old, &risk(4, 0, 9, 1));
        queue.put(moved, &Risk { is_move: true, ..risk(1, 0, 9, 1) });
        queue.put(fresh, &risk(1, fresh_ms, 0, 1 << 40));
        queue.put(dying, &risk(0, fresh_ms, 0, 1 << 40));
        let mut order = Vec::new();
        while let Some((job, _)) = queue.first(now) {
            order.push(job);
            assert!(queue.remove(job));
        }
        assert_eq!(order, [dying, fresh, old, moved]);
    }

    #[test]
    fn a_job_that_moved_is_found_at_its_new_place() {
        let mut queue = Queue::default();
        let now = Time::from_millis(50_000);
        let mut truth = BTreeMap::from([
            (extent(1), risk(0, 0, 0, 1)),
            (extent(2), risk(1, 0, 0, 1)),
            (extent(3), risk(2, 0, 0, 1)),
        ]);
        truth.iter().for_each(|(job, risk)| queue.put(*job, risk));
        // One was healed in part, one is over.
        truth.insert(extent(1), risk(3, 0, 0, 1));
        truth.remove(&extent(2));
        let order: Vec<ExtentKey> =
            std::iter::from_fn(|| queue.pop(now, |job| truth.get(&job).copied())).map(|(job, _)| job).collect();
        assert_eq!(order, [extent(3), extent(1)]);
    }

    #[test]
    fn the_jobs_of_a_group_are_found() {
        let mut queue = Queue::default();
        (0..50).for_each(|number| queue.put(extent(number), &risk(1, 0, 0, 1)));
        let of_three: Vec<u64> = queue.of_group(extent(3)).map(ExtentKey::counter).collect();
        assert_eq!(of_three, (0..10).map(|at| at * 5 + 3).collect::<Vec<_>>());
    }
}
