//! Rebuilding the first data shard, and as many as there are parities: `cargo bench -p benches --bench rebuild`.

mod support;

use benches::pool::Ring;
use benches::rivals::{Coder, NINEFOLD};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{CODES, PLACES, SHARDS};

fn rebuild(criterion: &mut Criterion) {
    let mut pool = support::pool();
    for spec in CODES {
        let losses = support::losses(spec).into_iter();
        let shapes = losses.flat_map(|lost| SHARDS.map(|bytes| PLACES.map(|place| (lost, bytes, place))));
        for (lost, shard_bytes, place) in shapes.flatten() {
            let Some(ours) = support::open(spec, lost) else { continue };
            let shape = ours.shape(shard_bytes);
            let mut coders: Vec<(&str, Box<dyn Coder>)> = vec![(NINEFOLD, ours.coder)];
            coders.extend(support::rivals(spec, shape, lost));
            let (stride, stripes_max) = place.layout();
            let name = support::name(&format!("rebuild {lost}"), spec, shard_bytes, place);
            let Some(mut ring) = Ring::new(pool.stripes(shape.n(), shard_bytes, stride, stripes_max)) else {
                support::pass_over(&name);
                continue;
            };
            let mut group = criterion.benchmark_group(name);
            group.throughput(Throughput::BytesDecimal(shape.data_bytes() as u64));
            for (name, coder) in &mut coders {
                group.bench_function(*name, |bencher| bencher.iter(|| coder.rebuild(ring.next_stripe())));
            }
        }
    }
}

criterion_group! { name = group; config = support::config(); targets = rebuild }
criterion_main!(group);
