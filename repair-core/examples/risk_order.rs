//! Measures whose turn it is, at the size of a large cell, and fails where it takes more than it may:
//! - a queue of ten million jobs: at most 5 microseconds for each job taken out in order, and 200 bytes kept for each;
//! - a cell of 100,000 placement groups that loses one disk in a hundred at once: what is lost, how near each group is to loss, what is
//!   to be read for it, and whose turn it is, in at most 2 seconds.
//!
//! `cargo run --release --locked -p repair-core --example risk_order [JOBS]`
//!
//! Time is what the process was given of a processor, so that others on the machine do not count, and memory its growth, both as Linux tells
//! them. Elsewhere time is that of the clock and memory is not judged.

use ec_core::{CodeSpec, ShardSet};
use repair_core::id::{CellKey, ExtentKey, PgId};
use repair_core::queue::{Queue, Risk};
use repair_core::risk::{RiskTable, shard_set};
use repair_core::rng::Dice;
use repair_core::time::{Millis, Time};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const JOBS: u64 = 10_000_000;
const POPS: u64 = 1_000_000;
const POP_US_MAX: f64 = 5.0;
const JOB_BYTES_MAX: u64 = 200;
const GROUPS: u32 = 100_000;
const DISKS: u64 = 10_000;
const PLANNED_MS_MAX: u128 = 2_000;
const HOUR_MS: u64 = 60 * 60 * 1_000;

/// Time spent, on a processor where that is told.
struct Spent {
    began: Instant,
    cpu: Option<Duration>,
}

impl Spent {
    fn begin() -> Self {
        Self { began: Instant::now(), cpu: Self::cpu() }
    }

    fn cpu() -> Option<Duration> {
        let stat = std::fs::read_to_string("/proc/self/schedstat").ok()?;
        stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }

    fn so_far(&self) -> Duration {
        Self::cpu().zip(self.cpu).map_or_else(|| self.began.elapsed(), |(now, then)| now.saturating_sub(then))
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// What is at risk of the job with this number.
fn risk_of(number: u64) -> Risk {
    let mut dice = Dice::new(number);
    Risk {
        margin: 1 + dice.below(3) as usize,
        is_move: false,
        since: Time::from_millis(dice.below(24 * HOUR_MS)),
        blocked_reads: dice.below(3) as u32,
        bytes: (1 + dice.below(64)) << 20,
    }
}

fn queue_of(jobs: u64) -> bool {
    let before = resident_bytes();
    let mut queue = Queue::default();
    let began = Spent::begin();
    for number in 0..jobs {
        let pg = PgId(Dice::new(number).below(u64::from(GROUPS)) as u32);
        queue.put(ExtentKey::compose(CellKey(1 << 112), pg, 1, number), &risk_of(number));
    }
    let put_us = began.so_far().as_secs_f64() * 1e6 / jobs as f64;
    let kept = resident_bytes().zip(before).map(|(after, before)| after.saturating_sub(before) / jobs);
    let now = Time::from_millis(25 * HOUR_MS);
    let pops = POPS.min(jobs);
    let began = Spent::begin();
    for _ in 0..pops {
        black_box(queue.pop(now, |extent| Some(risk_of(extent.counter()))));
    }
    let pop_us = began.so_far().as_secs_f64() * 1e6 / pops as f64;
    let bytes = kept.map_or("unknown".to_owned(), |bytes| bytes.to_string());
    println!(
        "queue of {jobs} jobs: {put_us:.2} us to put one in, {pop_us:.2} us to take one out, {bytes} bytes for each"
    );
    pop_us <= POP_US_MAX && kept.is_none_or(|bytes| bytes <= JOB_BYTES_MAX)
}

fn plan_of_mass_loss() -> bool {
    let spec: CodeSpec = "lrc:12,2,2".parse().expect("a code");
    let (descriptor, n) = (spec.to_descriptor(), 16);
    let mut dice = Dice::new(2);
    // As allocation does: each group on disks of its own racks.
    let groups: Vec<Vec<u64>> = (0..GROUPS)
        .map(|_| {
            let mut members = BTreeSet::new();
            while members.len() < n {
                members.insert(dice.below(DISKS));
            }
            let mut members: Vec<u64> = members.into_iter().collect();
            dice.shuffle(&mut members);
            members
        })
        .collect();
    let lost: Vec<bool> = (0..DISKS).map(|disk| disk % 100 == 7).collect();
    let now = Time::ZERO + Millis(HOUR_MS);
    let began = Spent::begin();
    let (mut risks, mut queue, mut reads, mut dead) = (RiskTable::default(), Queue::default(), 0usize, 0u32);
    for (pg, members) in (0u32..).zip(&groups) {
        let gone: ShardSet =
            shard_set((0u16..).zip(members).filter(|(_, disk)| lost[**disk as usize]).map(|(at, _)| at));
        if gone.is_empty() {
            continue;
        }
        let Some(margin) = risks.margin(&descriptor, &gone) else {
            dead += 1;
            continue;
        };
        reads += risks.reads(&descriptor, &gone, &gone).len();
        let risk = Risk { margin, is_move: false, since: now, blocked_reads: 0, bytes: (gone.len() as u64) << 26 };
        queue.put(ExtentKey::compose(CellKey(1 << 112), PgId(pg), 1, 0), &risk);
    }
    let hit = queue.len();
    let by_margin: Vec<(usize, usize)> = queue.by_margin().collect();
    let mut ordered = 0;
    while let Some((extent, _)) = queue.first(now) {
        let risk = queue.get(extent);
        ordered += usize::from(queue.pop(now, |_| risk).is_some());
    }
    let took_ms = began.so_far().as_millis();
    println!(
        "{GROUPS} groups of {spec}, {} of {DISKS} disks lost: {hit} groups to be rebuilt ({by_margin:?} by margin), {dead} beyond repair, \
         {reads} fragments to be read, planned in {took_ms} ms",
        lost.iter().filter(|lost| **lost).count()
    );
    took_ms <= PLANNED_MS_MAX && ordered == hit
}

fn main() -> ExitCode {
    let jobs = std::env::args().nth(1).and_then(|jobs| jobs.parse().ok()).unwrap_or(JOBS);
    let planned = plan_of_mass_loss();
    let queued = queue_of(jobs);
    if planned && queued { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
