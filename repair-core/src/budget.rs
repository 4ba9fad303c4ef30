//! What repairs may move: bytes in a second of each disk, node and rack uplink, as a source and as a target.
//!
//! Each of them is a bucket that fills at its rate up to a burst. A repair is admitted when all its buckets have what it takes from
//! them, and takes it from all at once, before its first byte moves: its bytes are known from its plan. Three things bend that, each
//! within a bound:
//! - what is larger than a bucket is admitted when the bucket is full, and leaves a debt that is filled up first;
//! - *urgent* repairs may overdraw a bucket by [`BudgetConfig::borrow`], to be filled up first too;
//! - a disk's rate may be cut ([`Budgets::set_share`]), but never below one part in [`SHARE_PARTS`]: repair always advances.
//!
//! So what is admitted of one resource in any span is at most the burst, the rate times the span, what may be borrowed, and what the
//! largest repair is larger than the burst. Only payload is charged. Beats, listings and all else by which a node is known to live is
//! not: nothing here can make it wait.

use crate::id::DiskId;
use crate::time::{Millis, Time};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The parts that a disk's rate is cut in.
pub const SHARE_PARTS: u32 = 64;
/// Levels are in thousandths of a byte, which is what a rate of bytes in a second gives in a millisecond.
const PER_BYTE: i128 = 1_000;

/// Where bytes pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// A disk.
    Disk(DiskId),
    /// A node, by its domain.
    Node(Arc<str>),
    /// The uplink of a rack, by its domain.
    Rack(Arc<str>),
}

/// In which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Read there, sent from there.
    Source,
    /// Received there, written there.
    Target,
}

/// What has a budget of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// Where.
    pub scope: Scope,
    /// In which direction.
    pub side: Side,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Disk(disk) => write!(f, "disk {disk}")?,
            Scope::Node(node) => write!(f, "node {node}")?,
            Scope::Rack(rack) => write!(f, "the uplink of rack {rack}")?,
        }
        f.write_str(match self.side {
            Side::Source => " as a source",
            Side::Target => " as a target",
        })
    }
}

/// Rates, in each direction; 0 for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Of a disk.
    pub disk_bytes_per_second: u64,
    /// Of a node.
    pub node_bytes_per_second: u64,
    /// Of a rack's uplink.
    pub rack_bytes_per_second: u64,
    /// How long a bucket that is not used goes on filling.
    pub burst: Millis,
    /// By how much of its rate urgent repairs may overdraw a bucket.
    pub borrow: Millis,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        // More than a hard disk can, about half of what a fast flash disk, a port of 40 Gb/s and an uplink of 160 Gb/s can.
        Self {
            disk_bytes_per_second: 1_000_000_000,
            node_bytes_per_second: 2_500_000_000,
            rack_bytes_per_second: 10_000_000_000,
            burst: Millis(2_000),
            borrow: Millis(2_000),
        }
    }
}

impl BudgetConfig {
    const fn rate(&self, scope: &Scope) -> u64 {
        match scope {
            Scope::Disk(_) => self.disk_bytes_per_second,
            Scope::Node(_) => self.node_bytes_per_second,
            Scope::Rack(_) => self.rack_bytes_per_second,
        }
    }
}

/// What a repair takes from each resource.
pub type Charges = BTreeMap<Resource, u64>;

/// Why a repair is not admitted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The resource that is short for longest.
    pub resource: Resource,
    /// Until then, if nobody else takes from it and its rate stays.
    pub until: Time,
}

/// A bucket that is not full.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: i128,
    at: Time,
}

/// All budgets. A bucket that is full is not kept.
#[derive(Debug, Default)]
pub struct Budgets {
    config: BudgetConfig,
    buckets: BTreeMap<Resource, Bucket>,
    /// Parts of the rate, of disks that have not all.
    shares: BTreeMap<DiskId, u32>,
}

impl Budgets {
    /// Buckets that are all full.
    pub const fn new(config: BudgetConfig) -> Self {
        Self { config, buckets: BTreeMap::new(), shares: BTreeMap::new() }
    }

    /// Bytes in a second; none where there is no limit.
    pub fn rate(&self, resource: &Resource) -> Option<u64> {
        let full = Some(self.config.rate(&resource.scope)).filter(|rate| *rate > 0)?;
        let Scope::Disk(disk) = &resource.scope else { return Some(full) };
        let share = self.shares.get(disk).copied().unwrap_or(SHARE_PARTS);
        Some((full / u64::from(SHARE_PARTS)).saturating_mul(u64::from(share)).max(1))
            .map(|cut| if share == SHARE_PARTS { full } else { cut })
    }

    fn capacity(&self, resource: &Resource) -> i128 {
        i128::from(self.config.rate(&resource.scope)) * i128::from(self.config.burst.0.max(1))
    }

    fn borrow(&self, resource: &Resource, urgent: bool) -> i128 {
        if urgent { i128::from(self.config.rate(&resource.scope)) * i128::from(self.config.borrow.0) } else { 0 }
    }

    /// The level now.
    fn level(&self, now: Time, resource: &Resource) -> i128 {
        let capacity = self.capacity(resource);
        let Some(bucket) = self.buckets.get(resource) else { return capacity };
        let filled = i128::from(self.rate(resource).unwrap_or(0)) * i128::from(now.since(bucket.at).0);
        (bucket.level + filled).min(capacity)
    }

    /// What a bucket must hold for a charge.
    fn wanted(&self, resource: &Resource, bytes: u64) -> i128 {
        (i128::from(bytes) * PER_BYTE).min(self.capacity(resource))
    }

    /// When a charge could be taken from one resource; `now` if at once.
    pub fn ready_at(&self, now: Time, resource: &Resource, bytes: u64, urgent: bool) -> Time {
        let Some(rate) = self.rate(resource) else { return now };
        let short = self.wanted(resource, bytes) - self.level(now, resource) - self.borrow(resource, urgent);
        let wait = u64::try_from((short.max(0) + i128::from(rate) - 1) / i128::from(rate)).unwrap_or(u64::MAX);
        now + Millis(wait)
    }

    /// Whether a bucket from which `taken` goes now has `wanted` at a later moment, if nobody else takes from it and its rate stays.
    pub fn leaves(&self, now: Time, resource: &Resource, taken: u64, wanted: u64, until: Time, urgent: bool) -> bool {
        let Some(rate) = self.rate(resource) else { return true };
        let filled = i128::from(rate) * i128::from(until.since(now).0);
        let level = self.level(now, resource) - i128::from(taken) * PER_BYTE + filled;
        level.min(self.capacity(resource)) + self.borrow(resource, urgent) >= self.wanted(resource, wanted)
    }

    /// Takes what a repair costs from all it touches, or from none.
    ///
    /// # Errors
    /// What it waits for.
    pub fn admit(&mut self, now: Time, charges: &Charges, urgent: bool) -> Result<(), Blocked> {
        let ready = charges.iter().map(|(resource, bytes)| (self.ready_at(now, resource, *bytes, urgent), resource));
        if let Some((until, resource)) = ready.filter(|(until, _)| *until > now).max_by_key(|(until, _)| *until) {
            return Err(Blocked { resource: resource.clone(), until });
        }
        for (resource, bytes) in charges {
            if self.rate(resource).is_some() {
                let level = self.level(now, resource) - i128::from(*bytes) * PER_BYTE;
                self.buckets.insert(resource.clone(), Bucket { level, at: now });
            }
        }
        Ok(())
    }

    /// Gives back what was taken and not moved.
    pub fn refund(&mut self, now: Time, resource: &Resource, bytes: u64) {
        if self.rate(resource).is_some() {
            let level = (self.level(now, resource) + i128::from(bytes) * PER_BYTE).min(self.capacity(resource));
            self.set(now, resource.clone(), level);
        }
    }

    fn set(&mut self, now: Time, resource: Resource, level: i128) {
        if level >= self.capacity(&resource) {
            self.buckets.remove(&resource);
        } else {
            self.buckets.insert(resource, Bucket { level, at: now });
        }
    }

    /// Cuts a disk's rate to so many parts in [`SHARE_PARTS`], at least one.
    pub fn set_share(&mut self, now: Time, disk: DiskId, parts: u32) {
        for side in [Side::Source, Side::Target] {
            // What it filled up to now it did at the old rate.
            let resource = Resource { scope: Scope::Disk(disk), side };
            if self.buckets.contains_key(&resource) {
                let level = self.level(now, &resource);
                self.set(now, resource, level);
            }
        }
        if parts >= SHARE_PARTS {
            self.shares.remove(&disk);
        } else {
            self.shares.insert(disk, parts.max(1));
        }
    }

    /// The parts of its rate that a disk has.
    pub fn share(&self, disk: DiskId) -> u32 {
        self.shares.get(&disk).copied().unwrap_or(SHARE_PARTS)
    }

    /// Forgets buckets that have filled up meanwhile.
    pub fn tidy(&mut self, now: Time) {
        let is_full = |resource: &&Resource| self.level(now, resource) >= self.capacity(resource);
        let full: Vec<Resource> = self.buckets.keys().filter(is_full).cloned().collect();
        for resource in full {
            self.buckets.remove(&resource);
        }
    }

    /// Buckets that are not full, as of the last [`Budgets::tidy`].
    pub fn kept(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Dice;

    const CONFIG: BudgetConfig = BudgetConfig {
        disk_bytes_per_second: 1_000,
        node_bytes_per_second: 3_000,
        rack_bytes_per_second: 5_000,
        burst: Millis(2_000),
        borrow: Millis(1_500),
    };

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn disk(number: u128, side: Side) -> Resource {
        Resource { scope: Scope::Disk(DiskId(number)), side }
    }

    fn charge(resource: Resource, bytes: u64) -> Charges {
        Charges::from([(resource, bytes)])
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut budgets = Budgets::new(CONFIG);
        let one = charge(disk(1, Side::Source), 1_500);
        assert_eq!(budgets.admit(at(0), &one, false), Ok(()));
        let blocked = budgets.admit(at(0), &one, false).unwrap_err();
        assert_eq!(blocked, Blocked { resource: disk(1, Side::Source), until: at(1_000) });
        assert_eq!(budgets.admit(at(999), &one, false).unwrap_err().until, at(1_000));
        // The other direction, and another disk, have their own.
        assert_eq!(budgets.admit(at(0), &charge(disk(1, Side::Target), 2_000), false), Ok(()));
        assert_eq!(budgets.admit(at(1_000), &one, false), Ok(()));
        budgets.tidy(at(60_000));
        assert_eq!(budgets.kept(), 0);
    }

    #[test]
    fn the_urgent_borrow_and_no_more_than_they_may() {
        let mut budgets = Budgets::new(CONFIG);
        let one = charge(disk(1, Side::Source), 1_000);
        let admitted = (0..10).take_while(|_| budgets.admit(at(0), &one, true).is_ok()).count();
        assert_eq!(admitted, 3, "2,000 at hand and 1,500 to borrow");
        assert_eq!(budgets.admit(at(499), &one, true).unwrap_err().until, at(500));
        assert_eq!(budgets.admit(at(499), &one, false).unwrap_err().until, at(2_000), "the debt is filled up first");
    }

    #[test]
    fn what_is_larger_than_a_bucket_is_admitted_when_that_is_full_and_pays_later() {
        let mut budgets = Budgets::new(CONFIG);
        let large = charge(disk(1, Side::Target), 10_000);
        assert_eq!(budgets.admit(at(0), &large, false), Ok(()));
        assert_eq!(budgets.admit(at(0), &charge(disk(1, Side::Target), 1), false).unwrap_err().until, at(8_001));
        assert_eq!(budgets.admit(at(9_999), &large, false).unwrap_err().until, at(10_000));
        assert_eq!(budgets.admit(at(10_000), &large, false), Ok(()));
    }

    #[test]
    fn all_or_none_is_taken_and_the_longest_wait_is_named() {
        let mut budgets = Budgets::new(CONFIG);
        let rack = Resource { scope: Scope::Rack("r/z/1".into()), side: Side::Source };
        let both = Charges::from([(disk(1, Side::Source), 1_000), (rack.clone(), 10_000)]);
        assert_eq!(budgets.admit(at(0), &both, false), Ok(()));
        let blocked = budgets.admit(at(1_000), &both, false).unwrap_err();
        assert_eq!(blocked, Blocked { resource: rack, until: at(2_000) });
        assert_eq!(blocked.resource.to_string(), "the uplink of rack r/z/1 as a source");
        assert_eq!(budgets.admit(at(1_000), &charge(disk(1, Side::Source), 2_000), false), Ok(()));
    }

    #[test]
    fn a_rate_is_cut_but_never_to_nothing_and_what_was_filled_before_stays() {
        let mut budgets = Budgets::new(CONFIG);
        let all = charge(disk(1, Side::Source), 2_000);
        budgets.admit(at(0), &all, false).unwrap();
        budgets.set_share(at(1_000), DiskId(1), 0);
        assert_eq!((budgets.share(DiskId(1)), budgets.rate(&disk(1, Side::Source))), (1, Some(15)));
        // 1,000 filled before, the rest at 15 in a second.
        assert_eq!(budgets.admit(at(1_000), &all, false).unwrap_err().until, at(1_000 + 66_667));
        budgets.set_share(at(1_000), DiskId(1), SHARE_PARTS);
        assert_eq!(budgets.admit(at(2_000), &all, false), Ok(()));
    }

    #[test]
    fn what_is_taken_now_is_filled_up_by_then_or_is_not() {
        let mut budgets = Budgets::new(CONFIG);
        let one = disk(1, Side::Source);
        // 2,000 are there.
        assert!(budgets.leaves(at(0), &one, 1_000, 1_000, at(0), false));
        assert!(!budgets.leaves(at(0), &one, 1_001, 1_000, at(0), false));
        assert!(budgets.leaves(at(0), &one, 1_500, 1_000, at(500), false));
        assert!(!budgets.leaves(at(0), &one, 1_501, 1_000, at(500), false));
        assert!(budgets.leaves(at(0), &one, 2_500, 1_000, at(0), true), "1,500 may be borrowed");
        // What is larger than the bucket needs it full.
        assert!(budgets.leaves(at(0), &one, 300, 9_000, at(300), false));
        assert!(!budgets.leaves(at(0), &one, 301, 9_000, at(300), false));
        budgets.admit(at(0), &charge(one.clone(), 2_000), false).unwrap();
        assert!(!budgets.leaves(at(0), &one, 1, 1_000, at(1_000), false));
        assert!(Budgets::new(BudgetConfig { disk_bytes_per_second: 0, ..CONFIG }).leaves(
            at(0),
            &one,
            9,
            9,
            at(0),
            false
        ));
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let free = BudgetConfig { disk_bytes_per_second: 0, ..CONFIG };
        let mut budgets = Budgets::new(free);
        for _ in 0..100 {
            assert_eq!(budgets.admit(at(0), &charge(disk(1, Side::Source), u64::MAX), false), Ok(()));
        }
        assert_eq!(budgets.kept(), 0);
    }

    #[test]
    fn no_span_ever_sees_more_than_its_bound() {
        let mut dice = Dice::new(5);
        for round in 0..200 {
            let mut budgets = Budgets::new(CONFIG);
            let (mut now, mut largest) = (at(0), 0);
            // (when, bytes) of the one resource that is watched; refunds are negative.
            let mut admitted: Vec<(u64, i128)> = Vec::new();
            let mut borrows = false;
            for _ in 0..150 {
                now = now + Millis(dice.below(900));
                let bytes = 1 + dice.below(if round % 2 == 0 { 1_900 } else { 4_000 });
                let urgent = round % 4 < 2 && dice.chance(1, 3);
                let mut charges = charge(disk(1, Side::Source), bytes);
                charges.insert(Resource { scope: Scope::Node("n".into()), side: Side::Source }, bytes);
                if budgets.admit(now, &charges, urgent).is_ok() {
                    admitted.push((now.as_millis(), i128::from(bytes)));
                    (largest, borrows) = (largest.max(bytes), borrows || urgent);
                    if dice.chance(1, 8) {
                        let back = dice.below(bytes);
                        budgets.refund(now, &disk(1, Side::Source), back);
                        admitted.push((now.as_millis(), -i128::from(back)));
                    }
                }
                if dice.chance(1, 10) {
                    budgets.set_share(now, DiskId(1), dice.below(80) as u32);
                }
                budgets.tidy(now);
            }
            assert!(admitted.len() > 10);
            let borrowed = if borrows { 1_500 } else { 0 };
            let excess = i128::from(largest.saturating_sub(2_000));
            for (from, (began, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for (ended, bytes) in &admitted[from..] {
                    sum += bytes;
                    let bound = 2_000 + i128::from(ended - began) + borrowed + excess;
                    assert!(sum <= bound, "{sum} from {began} to {ended}, at most {bound}");
                }
            }
        }
    }
}
