//! How fast repair may use a disk, by what everybody else feels of it.
//!
//! Each disk is compared with itself: how long its operations take while repairs use it, beside how long they took while none did. Where
//! that is far longer the disk's share of its rate is halved, else it grows a little (additive increase, multiplicative decrease): it
//! swings about the most that readers and writers do not feel. The share has a floor, so repair always advances.
//!
//! A disk that repairs use from the moment it is known has never told how it is without them. It is compared with the median of the
//! others then, and has at most half its rate until it has told.

use crate::budget::SHARE_PARTS;
use crate::id::DiskId;
use crate::time::{Millis, Time};
use crate::wire::node::ServiceTime;
use std::collections::BTreeMap;

/// Half as long again is felt.
const FELT: (u64, u64) = (3, 2);
/// And at least so much longer: times are measured in milliseconds, and among quick disks half as long again is nothing.
const FELT_US: u64 = 5_000;
/// The share grows by so much at each word: from the floor to all in about five minutes.
const STEP: u32 = 2;
/// Words that come faster are not judged: a share that was just cut has not been felt yet.
const JUDGED_EVERY: Millis = Millis(5_000);
/// The baseline moves by one part in so many at each word.
const BASELINE_OVER: u64 = 8;
/// Words at the floor, one after the other, by which it is not repair that others feel there.
const FLOOR_WORDS: u32 = 6;
/// What a disk without a baseline has at most while repairs use it.
const UNKNOWN_SHARE: u32 = SHARE_PARTS / 2;
/// So many disks must have a baseline, or there is no median to compare with.
const PEERS_MIN: usize = 4;
/// Medians are taken at most so often: over all disks, in a cell that may have many.
const MEDIANS_EVERY: Millis = Millis(10_000);
/// Kinds of operations that are listened to, of a node that tells more.
const KINDS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    count: u64,
    /// How long it takes while no repair uses the disk.
    baseline_us: Option<u64>,
}

#[derive(Debug)]
struct Watched {
    kinds: BTreeMap<String, Kind>,
    share: u32,
    judged: Option<Time>,
    /// Words at the floor in a row at which others still felt something.
    floor_words: u32,
}

impl Watched {
    fn has_baseline(&self) -> bool {
        self.kinds.values().any(|kind| kind.baseline_us.is_some())
    }
}

/// What is known of all disks.
#[derive(Debug, Default)]
pub struct Pace {
    disks: BTreeMap<DiskId, Watched>,
    /// Of all baselines by kind, where there are enough, and when they were taken.
    medians: (Option<Time>, BTreeMap<String, u64>),
}

/// A disk's share, judged anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Parts of [`SHARE_PARTS`].
    pub share: u32,
    /// Whether others feel repairs there.
    pub is_felt: bool,
}

impl Pace {
    /// A disk told its times; gives its share where that is judged anew. `repairing` is whether repairs use the disk, or did since it told last.
    pub fn tell(&mut self, now: Time, disk: DiskId, service: &[ServiceTime], repairing: bool) -> Option<Judged> {
        if repairing && !self.disks.get(&disk).is_some_and(Watched::has_baseline) {
            self.take_medians(now);
        }
        let (_, medians) = &self.medians;
        let watched = self.disks.entry(disk).or_insert_with(|| Watched {
            kinds: BTreeMap::new(),
            share: SHARE_PARTS,
            judged: None,
            floor_words: 0,
        });
        let (mut is_felt, is_stuck) = (false, watched.floor_words >= FLOOR_WORDS);
        for time in service.iter().take(KINDS_MAX) {
            if watched.kinds.len() >= KINDS_MAX && !watched.kinds.contains_key(&time.kind) {
                continue;
            }
            let kind = watched.kinds.entry(time.kind.clone()).or_default();
            if kind.count == time.count {
                continue;
            }
            kind.count = time.count;
            if repairing {
                let idle_us = kind.baseline_us.or_else(|| medians.get(&time.kind).copied());
                is_felt |= idle_us.is_some_and(|idle_us| is_far_longer(time.mean_us, idle_us));
            }
            if !repairing || (is_stuck && kind.baseline_us.is_some_and(|idle_us| idle_us < time.mean_us)) {
                let before = kind.baseline_us.unwrap_or(time.mean_us);
                kind.baseline_us = Some((before * (BASELINE_OVER - 1)).saturating_add(time.mean_us) / BASELINE_OVER);
            }
        }
        if watched.judged.is_some_and(|judged| judged + JUDGED_EVERY > now) {
            return None;
        }
        watched.judged = Some(now);
        // At the floor repair is next to nothing: what is felt there for long has another cause, which is to be no reason any more.
        watched.floor_words = if is_felt && watched.share == 1 { watched.floor_words.saturating_add(1) } else { 0 };
        let is_unknown = repairing && !watched.kinds.is_empty() && !watched.has_baseline();
        let most = if is_unknown { UNKNOWN_SHARE } else { SHARE_PARTS };
        watched.share = if is_felt { (watched.share / 2).max(1) } else { watched.share + STEP }.min(most);
        Some(Judged { share: watched.share, is_felt })
    }

    fn take_medians(&mut self, now: Time) {
        if self.medians.0.is_some_and(|taken| taken + MEDIANS_EVERY > now) {
            return;
        }
        let mut all: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (name, kind) in self.disks.values().flat_map(|watched| &watched.kinds) {
            if let Some(baseline_us) = kind.baseline_us {
                all.entry(name).or_default().push(baseline_us);
            }
        }
        all.retain(|_, baselines| baselines.len() >= PEERS_MIN);
        let median = |(name, mut baselines): (&str, Vec<u64>)| {
            baselines.sort_unstable();
            (name.to_owned(), baselines[baselines.len() / 2])
        };
        self.medians = (Some(now), all.into_iter().map(median).collect());
    }

    /// What was told is of an earlier process.
    pub fn forget(&mut self, disk: DiskId) {
        self.disks.remove(&disk);
    }
}

const fn is_far_longer(mean_us: u64, idle_us: u64) -> bool {
    mean_us.saturating_mul(FELT.1) > idle_us.saturating_mul(FELT.0) && mean_us > idle_us.saturating_add(FELT_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Disk {
        pace: Pace,
        now: Time,
        count: u64,
    }

    impl Disk {
        fn tell(&mut self, mean_us: u64, repairing: bool) -> Option<u32> {
            (self.now, self.count) = (self.now + Millis(10_000), self.count + 20);
            let time = ServiceTime { kind: "read".into(), count: self.count, mean_us };
            self.pace.tell(self.now, DiskId(1), &[time], repairing).map(|judged| judged.share)
        }
    }

    fn disk() -> Disk {
        Disk { pace: Pace::default(), now: Time::ZERO, count: 0 }
    }

    #[test]
    fn a_disk_that_is_slower_under_repair_gets_less_and_slowly_more_again() {
        let mut disk = disk();
        assert_eq!(disk.tell(10_000, false), Some(SHARE_PARTS));
        assert_eq!(disk.tell(14_000, true), Some(SHARE_PARTS), "not half as long again");
        assert_eq!(disk.tell(40_000, true), Some(32));
        assert_eq!(disk.tell(40_000, true), Some(16));
        assert_eq!(disk.tell(12_000, true), Some(18));
        for _ in 0..10 {
            disk.tell(90_000, true);
        }
        assert_eq!(disk.tell(90_000, true), Some(1), "never nothing");
        let words = (1..).find(|_| disk.tell(12_000, true) == Some(SHARE_PARTS)).unwrap();
        assert_eq!(words, 32);
    }

    #[test]
    fn a_disk_that_is_slow_by_itself_is_not_slowed_down_by_repair() {
        let mut disk = disk();
        for _ in 0..40 {
            disk.tell(80_000, false);
        }
        assert_eq!(disk.tell(90_000, true), Some(SHARE_PARTS));
        // What it does under repair is no baseline.
        disk.tell(200_000, true);
        assert_eq!(disk.tell(200_000, true), Some(16));
    }

    #[test]
    fn quick_disks_bursts_and_words_without_news_change_nothing() {
        let mut disk = disk();
        disk.tell(500, false);
        assert_eq!(disk.tell(4_000, true), Some(SHARE_PARTS), "eight times, and not five milliseconds more");
        let same = ServiceTime { kind: "read".into(), count: disk.count, mean_us: 900_000 };
        let judged = disk.pace.tell(disk.now + Millis(20_000), DiskId(1), &[same], true);
        assert_eq!(judged, Some(Judged { share: SHARE_PARTS, is_felt: false }));
        let soon = ServiceTime { kind: "read".into(), count: 9_999, mean_us: 900_000 };
        assert_eq!(disk.pace.tell(disk.now + Millis(20_001), DiskId(1), &[soon], true), None);
    }

    #[test]
    fn a_disk_that_repairs_have_always_used_has_half_and_is_compared_with_the_others() {
        let mut disk = disk();
        assert_eq!(disk.tell(10_000, true), Some(SHARE_PARTS / 2));
        assert_eq!(disk.tell(90_000, true), Some(SHARE_PARTS / 2), "nothing says that this is long");
        let idle = |pace: &mut Pace, now, number: u128, mean_us| {
            let time = ServiceTime { kind: "read".into(), count: 100, mean_us };
            pace.tell(now, DiskId(number), &[time], false)
        };
        for number in 2..6 {
            idle(&mut disk.pace, disk.now, number, 10_000);
        }
        disk.now = disk.now + MEDIANS_EVERY;
        assert_eq!(disk.tell(90_000, true), Some(SHARE_PARTS / 4));
        assert_eq!(disk.tell(12_000, true), Some(SHARE_PARTS / 4 + STEP));
        // Its own word counts more than theirs.
        for _ in 0..40 {
            disk.tell(80_000, false);
        }
        assert_eq!(disk.tell(90_000, true), Some(SHARE_PARTS));
        disk.pace.forget(DiskId(1));
        assert_eq!(disk.tell(12_000, true), Some(SHARE_PARTS / 2));
    }

    #[test]
    fn a_disk_that_others_use_more_than_before_does_not_stay_at_the_floor() {
        let mut disk = disk();
        disk.tell(10_000, false);
        let until_floor = (1..).find(|_| disk.tell(60_000, true) == Some(1)).unwrap();
        assert_eq!(until_floor, 6);
        // Repair is next to nothing, and it takes as long as ever.
        let words = (1..100).find(|_| disk.tell(60_000, true) > Some(1)).unwrap();
        assert!((7..30).contains(&words), "{words}");
        // Where it is repair that is felt, the floor helps: the baseline stays.
        let mut disk = self::disk();
        disk.tell(10_000, false);
        for _ in 0..200 {
            let before = disk.pace.disks[&DiskId(1)].share;
            disk.tell(if before > 1 { 60_000 } else { 12_000 }, true);
        }
        assert_eq!(disk.pace.disks[&DiskId(1)].kinds["read"].baseline_us, Some(10_000));
    }
}
