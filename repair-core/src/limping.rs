//! Fail-slow disks: one whose store takes far longer than its peers' is *limping*. It is an opinion, from times that nodes tell: new
//! fragments go elsewhere while they can, and nothing that the disk holds counts for less.

use crate::id::DiskId;
use crate::time::{Millis, Time};
use crate::wire::node::ServiceTime;
use std::collections::BTreeMap;

/// So many times the median of the others is far longer: disks of one kind differ by two or three under uneven load.
const FACTOR: u64 = 5;
/// And half of that is well again: between the two nothing turns.
const WELL_FACTOR: u64 = 2;
/// What is quicker than this limps by no comparison: among disks of a millisecond, five are nothing.
const SLOW_US: u64 = 50_000;
/// So many others must have told theirs, or there is nothing to compare with.
const PEERS_MIN: usize = 4;
/// Fewer operations than that say nothing.
const COUNT_MIN: u64 = 16;
/// How long it must last: a burst of work on one disk is over by then.
const LASTS: Millis = Millis(60_000);
/// What was told before that is nothing any more. A disk that gets no work is tried again then.
const STALE: Millis = Millis(600_000);
/// At most one in so many disks limps, though always one may: where many are slow, it is the load or the network.
const SHARE: usize = 10;
/// Every node tells every ten seconds, and the opinion is of all of them: in a big cell, to form it at each word would be all that the daemon does.
const JUDGED_EVERY: Millis = Millis(1_000);
/// Kinds of operations that are listened to, of a node that tells more.
const KINDS_MAX: usize = 8;

/// By what a disk is found to limp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The kind of operation.
    pub kind: String,
    /// How long it takes there.
    pub mean_us: u64,
    /// The median of the others.
    pub peers_us: u64,
    /// Since when.
    pub since: Time,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    count: u64,
    mean_us: u64,
    /// When its count last rose.
    moved: Time,
}

impl Told {
    fn counts(&self, now: Time) -> bool {
        self.count >= COUNT_MIN && self.moved + STALE > now
    }
}

/// The kind by which a disk is slowest beside its peers, and how many times theirs it is.
fn slowest(now: Time, watched: &Watched, means: &BTreeMap<&str, Vec<u64>>) -> Option<(u64, Evidence)> {
    let slow = watched.told.iter().filter(|(_, told)| told.counts(now) && told.mean_us >= SLOW_US);
    let judged = slow.filter_map(|(kind, told)| {
        let peers_us = median_of_others(means.get(kind.as_str())?, told.mean_us)?;
        let evidence = Evidence { kind: kind.clone(), mean_us: told.mean_us, peers_us, since: now };
        Some((told.mean_us / peers_us.max(1), evidence))
    });
    judged.max_by(|a, b| a.0.cmp(&b.0))
}

/// The median of ordered means without this one, which is among them; none of too few.
fn median_of_others(means: &[u64], own: u64) -> Option<u64> {
    let others = means.len().checked_sub(1).filter(|others| *others >= PEERS_MIN)?;
    let (at, own_at) = (others / 2, means.partition_point(|mean| *mean < own));
    means.get(if at < own_at { at } else { at + 1 }).copied()
}

#[derive(Debug, Default)]
struct Watched {
    told: BTreeMap<String, Told>,
    slow: Option<Evidence>,
    limps: bool,
}

/// The opinion on all disks.
#[derive(Debug, Default)]
pub struct Limping {
    disks: BTreeMap<DiskId, Watched>,
    judged: Option<Time>,
}

impl Limping {
    /// A disk told its times.
    pub fn tell(&mut self, now: Time, disk: DiskId, service: &[ServiceTime]) {
        let watched = self.disks.entry(disk).or_default();
        for time in service.iter().take(KINDS_MAX) {
            let told = Told { count: time.count, mean_us: time.mean_us, moved: now };
            let is_known = watched.told.contains_key(&time.kind);
            let has_moved = watched.told.get(&time.kind).is_none_or(|before| before.count != time.count);
            if has_moved && (is_known || watched.told.len() < KINDS_MAX) {
                watched.told.insert(time.kind.clone(), told);
            }
        }
    }

    /// Whether it was seen at work lately, and does not limp.
    pub fn is_well(&self, now: Time, disk: DiskId) -> bool {
        let works = |watched: &&Watched| watched.told.values().any(|told| told.counts(now));
        self.disks.get(&disk).filter(works).is_some_and(|watched| !watched.limps)
    }

    /// What was told is of an earlier process.
    pub fn forget(&mut self, disk: DiskId) {
        self.disks.remove(&disk);
    }

    /// [`Limping::judge`], where the last time is some time ago.
    pub fn judge_now_and_then(&mut self, now: Time) -> Vec<(DiskId, bool)> {
        if self.judged.is_some_and(|judged| judged + JUDGED_EVERY > now) {
            return Vec::new();
        }
        self.judge(now)
    }

    /// Forms the opinion anew; gives the disks that turned, and whether they limp now.
    pub fn judge(&mut self, now: Time) -> Vec<(DiskId, bool)> {
        self.judged = Some(now);
        let means = self.means(now);
        let found: BTreeMap<DiskId, Option<(u64, Evidence)>> =
            self.disks.iter().map(|(disk, watched)| (*disk, slowest(now, watched, &means))).collect();
        for (disk, found) in &found {
            let Some(watched) = self.disks.get_mut(disk) else { continue };
            let factor = if watched.limps { WELL_FACTOR } else { FACTOR };
            let slow = found.as_ref().filter(|(ratio, _)| *ratio >= factor).map(|(_, evidence)| evidence.clone());
            let since = watched.slow.as_ref().map_or(now, |slow| slow.since);
            watched.slow = slow.map(|evidence| Evidence { since, ..evidence });
        }
        let mut turned = Vec::new();
        for (disk, watched) in &mut self.disks {
            if watched.limps && watched.slow.is_none() {
                watched.limps = false;
                turned.push((*disk, false));
            }
        }
        let most = (self.disks.len() / SHARE).max(1);
        let limping = self.disks.values().filter(|watched| watched.limps).count();
        // The slowest first; equals by their ids.
        let mut new: Vec<(u64, DiskId)> = Vec::new();
        for (disk, watched) in &self.disks {
            let lasts = watched.slow.as_ref().is_some_and(|slow| slow.since + LASTS <= now);
            if let Some(Some((ratio, _))) = found.get(disk).filter(|_| lasts && !watched.limps) {
                new.push((*ratio, *disk));
            }
        }
        new.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, disk) in new.into_iter().take(most.saturating_sub(limping)) {
            if let Some(watched) = self.disks.get_mut(&disk) {
                watched.limps = true;
                turned.push((disk, true));
            }
        }
        turned
    }

    /// By kind, what all disks told that counts, in order.
    fn means(&self, now: Time) -> BTreeMap<&str, Vec<u64>> {
        let mut means: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let told = self.disks.values().flat_map(|watched| &watched.told);
        for (kind, told) in told.filter(|(_, told)| told.counts(now)) {
            means.entry(kind).or_default().push(told.mean_us);
        }
        means.values_mut().for_each(|means| means.sort_unstable());
        means
    }

    /// By what a disk limps, if it does.
    pub fn evidence(&self, disk: DiskId) -> Option<&Evidence> {
        let watched = self.disks.get(&disk).filter(|watched| watched.limps)?;
        watched.slow.as_ref()
    }

    /// Whether it does.
    pub fn limps(&self, disk: DiskId) -> bool {
        self.evidence(disk).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    /// Disks 1 to `of`, each of which tells a time by its number, at this moment.
    fn tell(limping: &mut Limping, now: u64, of: u128, mean_us: impl Fn(u128) -> u64) -> Vec<(DiskId, bool)> {
        for number in 1..=of {
            let time = ServiceTime { kind: "journal".into(), count: 20 + now, mean_us: mean_us(number) };
            limping.tell(at(now), DiskId(number), &[time]);
        }
        limping.judge(at(now))
    }

    #[test]
    fn one_that_is_slow_for_long_limps_until_it_is_well() {
        let mut limping = Limping::default();
        let one = |slow: u64| move |number: u128| if number == 3 { slow } else { 10_000 + number as u64 };
        assert!(tell(&mut limping, 0, 6, one(200_000)).is_empty());
        assert!(tell(&mut limping, 59_999, 6, one(200_000)).is_empty());
        assert_eq!(tell(&mut limping, 60_000, 6, one(200_000)), [(DiskId(3), true)]);
        let evidence = limping.evidence(DiskId(3)).unwrap();
        assert_eq!((evidence.mean_us, evidence.peers_us, evidence.since), (200_000, 10_004, at(0)));
        // Better, at five times the others no more, and not well.
        let between = |number: u128| if number == 3 { 51_000 } else { 20_000 };
        assert!(tell(&mut limping, 61_000, 6, between).is_empty() && limping.limps(DiskId(3)));
        assert_eq!(tell(&mut limping, 62_000, 6, one(10_000)), [(DiskId(3), false)]);
        assert!(!limping.limps(DiskId(3)));
    }

    #[test]
    fn the_median_is_of_the_others() {
        for means in [vec![1, 2, 3, 4, 5], vec![7, 7, 7, 7, 7, 9], vec![1, 2, 3, 4, 5, 6, 7, 8]] {
            for own in 0..means.len() {
                let mut others = means.clone();
                let own = others.remove(own);
                assert_eq!(median_of_others(&means, own), Some(others[others.len() / 2]), "{means:?} without {own}");
            }
        }
        assert_eq!(median_of_others(&[1, 2, 3, 4], 2), None);
        assert_eq!(median_of_others(&[], 2), None);
    }

    #[test]
    fn an_opinion_of_ten_thousand_disks_is_formed_in_a_moment_and_once_a_second() {
        let mut limping = Limping::default();
        let begun = std::time::Instant::now();
        for round in 0..3 {
            tell(&mut limping, round * 60_000, 10_000, |number| if number == 3 { 900_000 } else { 60_000 });
        }
        // Each disk compared with all would be a hundred million comparisons each time.
        assert!(limping.limps(DiskId(3)) && begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
        limping.tell(at(120_500), DiskId(3), &[ServiceTime { kind: "journal".into(), count: 9_000_000, mean_us: 1 }]);
        assert!(limping.judge_now_and_then(at(120_500)).is_empty());
        assert_eq!(limping.judge_now_and_then(at(121_000)), [(DiskId(3), false)]);
    }

    #[test]
    fn a_burst_a_quick_disk_and_a_cell_that_is_slow_together_do_not_limp() {
        let mut limping = Limping::default();
        for minute in 0..10 {
            let burst = |number: u128| if number == 3 && minute % 2 == 0 { 200_000 } else { 10_000 };
            assert!(tell(&mut limping, minute * 59_000, 6, burst).is_empty());
        }
        let mut limping = Limping::default();
        for minute in 0..10 {
            assert!(
                tell(&mut limping, minute * 60_000, 6, |number| if number == 3 { 49_000 } else { 1_000 }).is_empty()
            );
        }
        let mut limping = Limping::default();
        for minute in 0..10 {
            assert!(tell(&mut limping, minute * 60_000, 6, |_| 900_000).is_empty());
        }
        // Nobody to compare with.
        let mut limping = Limping::default();
        for minute in 0..10 {
            assert!(
                tell(&mut limping, minute * 60_000, 4, |number| if number == 3 { 900_000 } else { 1_000 }).is_empty()
            );
        }
    }

    #[test]
    fn no_more_than_a_tenth_limps_and_the_slowest_do() {
        let slow = |number: u128| if number <= 4 { 100_000 * number as u64 } else { 10_000 };
        for (of, limp) in [(9, vec![4]), (20, vec![3, 4]), (40, vec![1, 2, 3, 4])] {
            let mut limping = Limping::default();
            tell(&mut limping, 0, of, slow);
            tell(&mut limping, 60_000, of, slow);
            tell(&mut limping, 120_000, of, slow);
            let found: Vec<u128> = (1..=of).filter(|number| limping.limps(DiskId(*number))).collect();
            assert_eq!(found, limp, "of {of}");
        }
    }

    #[test]
    fn what_is_old_is_forgotten_and_the_disk_is_tried_again() {
        let mut limping = Limping::default();
        let slow = |number: u128| if number == 3 { 200_000 } else { 10_000 };
        tell(&mut limping, 0, 6, slow);
        tell(&mut limping, 60_000, 6, slow);
        assert!(limping.limps(DiskId(3)));
        // It gets no work: its count does not rise.
        for number in [1, 2, 4, 5, 6u128] {
            let time = ServiceTime { kind: "journal".into(), count: 1_000_000, mean_us: 10_000 };
            limping.tell(at(659_999), DiskId(number), &[time]);
        }
        let still = ServiceTime { kind: "journal".into(), count: 60_020, mean_us: 200_000 };
        limping.tell(at(659_999), DiskId(3), &[still]);
        assert!(limping.judge(at(659_999)).is_empty());
        assert_eq!(limping.judge(at(660_000)), [(DiskId(3), false)]);
        limping.forget(DiskId(3));
        assert!(limping.judge(at(660_000)).is_empty());
    }
}
