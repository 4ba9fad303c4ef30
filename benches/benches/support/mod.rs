//! What the criterion targets share: codes, shards, places, rivals.

// Each target is a crate of its own and uses a part of this.
#![allow(dead_code)]

use benches::cases::{self, Place};
use benches::machine;
use benches::pool::{Pool, Stride};
use benches::rivals::{self, Coder, Ours, Shape};
use criterion::Criterion;
use std::time::Duration;

/// The codes that are measured.
pub const CODES: [&str; 10] = [
    "rs:4+2",
    "rs:6+3",
    "rs:10+4",
    "rs:12+4",
    "rs:17+3",
    "rs:20+4",
    "lrc:12,2,2",
    "rs:80+20",
    "rs:100+30",
    "wide:1000+200",
];

/// Bytes of a shard.
pub const SHARDS: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];

/// Where the bytes are.
pub const PLACES: [Place; 3] = [Place::Hot, Place::Cold(Stride::PowerOfTwo), Place::Cold(Stride::Staggered)];

/// Bytes of the pool: what a cold run goes round.
const POOL_BYTES: usize = 1 << 30;

/// A gibibyte, and the thread pinned, so that it is on one core's caches.
pub fn pool() -> Pool {
    if let Some(&core) = machine::cores().first() {
        machine::pin(&[core]);
    }
    Pool::new(POOL_BYTES)
}

/// Short: there are hundreds of them, and what disturbs a run on a shared machine is longer than any patience.
pub fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .configure_from_args()
}

/// The code, or a word that there is none.
pub fn open(spec: &str, lost: usize) -> Option<Ours> {
    Ours::open(spec, lost).map_err(|reason| eprintln!("{spec} is passed over: {reason}")).ok()
}

/// Says that not one stripe of these shards fits into the pool: 1000+200 at 1 MiB alone.
pub fn pass_over(name: &str) {
    eprintln!("{name} is passed over: a stripe is larger than the {} MiB of the pool", POOL_BYTES >> 20);
}

/// One data shard, and as many as there are parities. An LRC survives every loss of one less.
pub fn losses(spec: &str) -> [usize; 2] {
    let most = Ours::open(spec, 0).map_or(1, |ours| ours.m - usize::from(spec.starts_with("lrc")));
    [1, most]
}

/// The rivals that have a code of these numbers.
pub fn rivals(spec: &str, shape: Shape, lost: usize) -> Vec<(&'static str, Box<dyn Coder>)> {
    if spec.starts_with("lrc") {
        return Vec::new();
    }
    let open = |library: rivals::Library| {
        let mut coder = (library.open)(shape, lost)?;
        coder.leave_results_inside();
        Some((library.name, coder))
    };
    rivals::rivals().into_iter().filter_map(open).collect()
}

/// The name of a group of benchmarks.
pub fn name(work: &str, spec: &str, shard_bytes: usize, place: Place) -> String {
    format!("{work}/{spec}/{}/{}", cases::shard_name(shard_bytes), place.name())
}
