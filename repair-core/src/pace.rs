//! How fast repair may use a disk, by what everybody else feels of it.
//!
//! Each disk is compared with itself: how long its operations take while repairs use it, beside how long they took while none did. Where
//! that is far longer the disk's share of its rate is halved, else it grows a little (additive increase, multiplicative decrease): it
//! swings about the most that readers and writers do not feel. The share has a floor, so repair always advances.

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
}

/// What is known of all disks.
#[derive(Debug, Default)]
pub struct Pace {
    disks: BTreeMap<DiskId, Watched>,
}

impl Pace {
    /// A disk told its times; gives its share where that is judged anew. `repairing` is whether repairs use the disk, or did since it told last.
    pub fn tell(&mut self, now: Time, disk: DiskId, service: &[ServiceTime], repairing: bool) -> Option<u32> {
        let watched = self.disks.entry(disk).or_insert_with(|| Watched {
            kinds: BTreeMap::new(),
            share: SHARE_PARTS,
            judged: None,
        });
        let mut is_felt = false;
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
                is_felt |= kind.baseline_us.is_some_and(|idle_us| is_far_longer(time.mean_us, idle_us));
            } else {
                let before = kind.baseline_us.unwrap_or(time.mean_us);
                kind.baseline_us = Some((before * (BASELINE_OVER - 1)).saturating_add(time.mean_us) / BASELINE_OVER);
            }
        }
        if watched.judged.is_some_and(|judged| judged + JUDGED_EVERY > now) {
            return None;
        }
        watched.judged = Some(now);
        watched.share = if is_felt { (watched.share / 2).max(1) } else { (watched.share + STEP).min(SHARE_PARTS) };
        Some(watched.share)
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
            self.pace.tell(self.now, DiskId(1), &[time], repairing)
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
        assert_eq!(disk.pace.tell(disk.now + Millis(20_000), DiskId(1), &[same], true), Some(SHARE_PARTS));
        let soon = ServiceTime { kind: "read".into(), count: 9_999, mean_us: 900_000 };
        assert_eq!(disk.pace.tell(disk.now + Millis(20_001), DiskId(1), &[soon], true), None);
    }
}
