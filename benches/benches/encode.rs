//! Encoding, every code and library: `cargo bench -p benches --bench encode -- 'rs:10.4/64 KiB/hot'`.

mod support;

use benches::pool::{EncodeStripe, Ring};
use benches::rivals::{Coder, NINEFOLD};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{CODES, PLACES, SHARDS};

fn encode(criterion: &mut Criterion) {
    let mut pool = support::pool();
    for spec in CODES {
        for shard_bytes in SHARDS {
            for place in PLACES {
                let Some(ours) = support::open(spec, 0) else { continue };
                let shape = ours.shape(shard_bytes);
                let mut coders: Vec<(&str, Box<dyn Coder>)> = vec![(NINEFOLD, ours.coder)];
                coders.extend(support::rivals(spec, shape, 0));
                let (stride, stripes_max) = place.layout();
                let stripes = pool.stripes(shape.n(), shard_bytes, stride, stripes_max);
                let stripes = stripes.into_iter().map(|shards| EncodeStripe::new(shards, shape.k)).collect();
                let name = support::name("encode", spec, shard_bytes, place);
                let Some(mut ring) = Ring::new(stripes) else {
                    support::pass_over(&name);
                    continue;
                };
                let mut group = criterion.benchmark_group(name);
                group.throughput(Throughput::BytesDecimal(shape.data_bytes() as u64));
                for (name, coder) in &mut coders {
                    group.bench_function(*name, |bencher| {
                        bencher.iter(|| {
                            let stripe = ring.next_stripe();
                            coder.encode(&stripe.data, &mut stripe.parity);
                        });
                    });
                }
            }
        }
    }
}

criterion_group! { name = group; config = support::config(); targets = encode }
criterion_main!(group);
