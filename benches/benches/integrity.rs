//! Checksums of all fragments, encoding with them in one walk, encoding with two random checks:
//! `cargo bench -p benches --bench integrity`.

mod support;

use benches::pool::{EncodeStripe, Ring};
use benches::rivals::{Ninefold, OneWalk};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ec_core::Locality;
use support::{CODES, PLACES, SHARDS};

fn integrity(criterion: &mut Criterion) {
    let mut pool = support::pool();
    for spec in CODES {
        // A wide code has no fragments, so no checksums of them.
        let Ok(ours) = Ninefold::open(spec, 0) else { continue };
        let mut fused = OneWalk::with_checksums(ours.code(), Locality::Auto);
        let mut verified = OneWalk::with_checks(ours.code(), Locality::Auto);
        for (shard_bytes, place) in SHARDS.into_iter().flat_map(|bytes| PLACES.map(|place| (bytes, place))) {
            let shape = ours.shape(shard_bytes);
            let (stride, stripes_max) = place.layout();
            let stripes = pool.stripes(shape.n(), shard_bytes, stride, stripes_max);
            let stripes = stripes.into_iter().map(|shards| EncodeStripe::new(shards, shape.k)).collect();
            let Some(mut ring) = Ring::new(stripes) else { continue };
            let mut group = criterion.benchmark_group(support::name("integrity", spec, shard_bytes, place));
            group.throughput(Throughput::BytesDecimal(shape.data_bytes() as u64));
            let mut sums = Vec::new();
            group.bench_function("checksum", |bencher| {
                bencher.iter(|| {
                    let stripe = ring.next_stripe();
                    ours.checksums(&stripe.data, &stripe.parity, &mut sums);
                });
            });
            for (name, walk) in [("fused", &mut fused), ("verify", &mut verified)] {
                group.bench_function(name, |bencher| {
                    bencher.iter(|| {
                        let stripe = ring.next_stripe();
                        walk.run(&stripe.data, &mut stripe.parity);
                    });
                });
            }
        }
    }
}

criterion_group! { name = group; config = support::config(); targets = integrity }
criterion_main!(group);
