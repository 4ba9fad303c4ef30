//! Two threads beside one.

use super::{Case, Place};
use crate::machine;
use crate::measure::Series;
use crate::pool::{EncodeStripe, Stride};
use crate::report::{Aim, Line, Unit};
use crate::rivals::Ninefold;
use ec_core::Locality;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::time::Instant;

const SHARD_BYTES: usize = 1 << 20;
const SPEC: &str = "rs:10+4";

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new(format!("encode {SPEC} 1 MiB cold, rayon 2 threads"), |title, bench| {
        if bench.cores.len() < 2 {
            return Err("this process may use one core only".into());
        }
        let code = Ninefold::open(SPEC, 0)?;
        let shape = code.shape(SHARD_BYTES);
        let pools = [1, 2].map(|threads| pool(threads, &bench.cores));
        let [Ok(one), Ok(two)] = pools else { return Err("threads could not be started".into()) };

        let (stride, stripes_max) = Place::Cold(Stride::PowerOfTwo).layout();
        let stripes = bench.pool.stripes(shape.n(), SHARD_BYTES, stride, stripes_max);
        let mut stripes: Vec<EncodeStripe<'_>> =
            stripes.into_iter().map(|shards| EncodeStripe::new(shards, shape.k)).collect();
        let bytes = stripes.len() * shape.data_bytes();
        let named = |name| Series { name, seconds: Vec::new() };
        let (mut wall, mut cpu) = ([named("1 thread"), named("2 threads")], [named("1 thread"), named("2 threads")]);
        // The first round is the warm-up.
        for round in 0..=bench.cold.rounds {
            for (at, pool) in [&one, &two].into_iter().enumerate() {
                let (begin, begin_cpu) = (Instant::now(), machine::process_time());
                pool.install(|| stripes.iter_mut().for_each(|stripe| encode(&code, stripe, at > 0)));
                if round > 0 {
                    wall[at].seconds.push(begin.elapsed().as_secs_f64());
                    cpu[at].seconds.push((machine::process_time() - begin_cpu).as_secs_f64());
                }
            }
        }
        let line = |title: String, [one, two]: &[Series; 2], aim| {
            let other = (one.name.to_owned(), one.rate(bytes), two.ratio(one));
            Line::new(title, Unit::Gigabytes, two.rate(bytes), Some(other), aim)
        };
        // Where another process has a core, wall time says more about that process.
        Ok(vec![
            line(title.to_owned(), &wall, Aim::Ratio(1.8)),
            line(format!("{title} (or: per CPU-second)"), &cpu, Aim::Ratio(0.9)),
        ])
    })]
}

/// One stripe after the other, each by all threads of the pool or by the one that calls.
fn encode(code: &Ninefold, stripe: &mut EncodeStripe<'_>, in_parallel: bool) {
    let (code, data, parity) = (code.code(), &stripe.data, &mut stripe.parity);
    let encoded = if in_parallel {
        code.encode_parallel(data, parity, Locality::Auto)
    } else {
        code.encode_with(data, parity, Locality::Auto)
    };
    encoded.expect("buffers of one stripe");
}

/// Threads that may use every core, though the one that starts them is pinned.
fn pool(threads: usize, cores: &[usize]) -> Result<ThreadPool, rayon::ThreadPoolBuildError> {
    let cores = cores.to_vec();
    let free = move |_| {
        machine::pin(&cores);
    };
    ThreadPoolBuilder::new().num_threads(threads).start_handler(free).build()
}
