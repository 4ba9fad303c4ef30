//! Rebuilding the first data shards, with a plan made before.

use super::{Beside, Case, Place, lines, shard_name};
use crate::measure::{Contestant, interleave};
use crate::pool::Ring;
use crate::report::Aim;
use crate::rivals::{self, Coder, NINEFOLD, Ours, REED_SOLOMON_SIMD, RUSTY_ERASURE};

const SHARD_BYTES: usize = 64 << 10;

/// A stripe whose shards may all be written: which of them are lost differs from contestant to contestant's library.
type Shards<'p> = Vec<&'p mut [u8]>;

pub(super) fn cases() -> Vec<Case> {
    let named = |least| (Beside::Named(RUSTY_ERASURE), Aim::Ratio(least));
    vec![
        rebuild("rs:10+4", 1, named(1.25)),
        rebuild("rs:10+4", 4, named(1.8)),
        rebuild("rs:17+3", 3, named(1.7)),
        rebuild("rs:80+20", 20, (Beside::BestRival, Aim::Ratio(2.5))),
        rebuild("wide:1000+200", 1, (Beside::Named(REED_SOLOMON_SIMD), Aim::None)),
        rebuild("wide:1000+200", 200, (Beside::Named(REED_SOLOMON_SIMD), Aim::None)),
    ]
}

fn rebuild(spec: &'static str, lost: usize, wanted: (Beside, Aim)) -> Case {
    let name = format!("rebuild {lost} of {spec} {} hot", shard_name(SHARD_BYTES));
    Case::new(name, move |title, bench| {
        let mut ours = Ours::open(spec, lost)?;
        let shape = ours.shape(SHARD_BYTES);
        let takes = |name| matches!(wanted.0, Beside::BestRival) || wanted.0 == Beside::Named(name);
        let libraries = rivals::rivals().into_iter().filter(|library| takes(library.name));
        let mut others: Vec<(&'static str, Box<dyn Coder>)> =
            libraries.filter_map(|library| Some((library.name, (library.open)(shape, lost)?))).collect();
        others.iter_mut().for_each(|(_, coder)| coder.leave_results_inside());

        let mut contestants = vec![rebuilder(NINEFOLD, &mut *ours.coder)];
        contestants.extend(others.iter_mut().map(|(name, coder)| rebuilder(name, &mut **coder)));
        let (stride, stripes_max) = Place::Hot.layout();
        let budget = bench.hot;
        let stripes = bench.pool.stripes(shape.n(), SHARD_BYTES, stride, stripes_max);
        let mut ring = Ring::new(stripes).ok_or("the pool is smaller than one stripe")?;
        let series = interleave(budget, &mut ring, &mut contestants);
        Ok(lines(title, &series, shape.data_bytes(), &[wanted]))
    })
}

fn rebuilder<'a, 's>(name: &'static str, coder: &'a mut dyn Coder) -> Contestant<'a, Shards<'s>> {
    Contestant::new(name, move |shards: &mut Shards<'s>| coder.rebuild(shards))
}
